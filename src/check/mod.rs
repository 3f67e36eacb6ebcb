//! `onward check`: the meaning and the requirements of a configuration, and its errors.
//!
//! Reads, validates and resolves with the same functions as serving, and refuses the same
//! configurations, as far as that can be known without listening: addresses are tried with a socket
//! on any port. If another process listens already, this is reported but not refused, because it is
//! mostly the server that will read this configuration next. Network cards far from the workers are
//! reported in the words of [`topology`](crate::topology). [`Report`] collects the numbers; `text`,
//! `json` and `systemd` write it.

mod json;
mod report;
mod systemd;
mod text;

pub(crate) use report::{HostsTable, Report, ZoneTable};

use crate::blocking::{Jobs, STEP_MAX, Steps};
use crate::clock::Clock;
use crate::config::{Cause, Config, ConfigError, Endpoint, FileSource, HttpListener};
use crate::loader::{self, Failure, Loaded, LoadedZone, Walk};
use crate::options::{Check, CheckFormat, CliError, Exit, Serve};
use crate::server::{Prepared, StartError};
use crate::sys::{cpu, limits, socket};
use crate::topology::Topology;
use crate::{host, worker};
use std::collections::HashSet;
use std::fmt;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;

/// Maximum number of addresses in use that are named; more would not help.
const TAKEN_MAX: usize = 4;

/// Reason why the configuration cannot be served.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The command line or the file it names.
    CommandLine(CliError),
    /// Error in the Corefile.
    Config(ConfigError),
    /// Error of this host.
    Start(StartError),
    /// Facts about the host cannot be read from the kernel.
    Host(io::Error),
    /// A file or a name lookup did not answer in time.
    Blocked(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine(error) => error.fmt(f),
            Self::Config(error) => error.fmt(f),
            Self::Start(error) => error.fmt(f),
            Self::Blocked(why) => f.write_str(why),
            Self::Host(error) => write!(f, "cannot read the properties of this host: {error}"),
        }
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// Returns the party that has to change.
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::CommandLine(error) => error.cause(),
            Self::Config(error) => error.cause(),
            Self::Start(error) => error.cause(),
            Self::Host(_) | Self::Blocked(_) => Cause::Host,
        }
    }

    /// Returns the party that has to change, as a sentence for operators.
    fn advice(&self) -> &'static str {
        match self.cause() {
            Cause::Text => {
                "onward would exit with status 2: correct the Corefile, a retry fails again"
            }
            Cause::Host => {
                "onward would exit with status 1: this host lacks what the Corefile needs; the \
                 systemd unit retries every five seconds"
            }
        }
    }
}

/// Checks and writes the report to standard output.
///
/// # Errors
/// [`Refusal`]: it would not be served. The JSON report goes to standard output then too; for
/// people the error says whether the Corefile or the host has to change.
pub(crate) fn run(options: &Check) -> Result<(), (Exit, String)> {
    let on_host = |report: Report| report.on(&Topology::read(Path::new("/")));
    let outcome = examine(&options.serve).map(on_host);
    let text = match (&outcome, options.format) {
        (Ok(report), CheckFormat::Text) => report.to_string(),
        (Ok(report), CheckFormat::Json) => json::accepted(report),
        (Ok(report), CheckFormat::Systemd) => systemd::limits(report),
        (Err(_), CheckFormat::Text | CheckFormat::Systemd) => String::new(),
        (Err(refusal), CheckFormat::Json) => json::refused(refusal),
    };
    // An error means that the reader has closed the pipe; the exit code still reports the result.
    let _ = io::stdout().write_all(text.as_bytes());
    outcome.map(drop).map_err(|refusal| {
        let advice = refusal.advice();
        (refusal.cause().into(), format!("{refusal}\n{advice}"))
    })
}

/// Returns the report on serving, unless the host does not answer in time. The caller adds the
/// topology, because `onward doctor` reads it itself.
///
/// # Errors
/// [`Refusal`]: it would not be served.
pub(crate) fn examine(serve: &Serve) -> Result<Report, Refusal> {
    let serve = serve.clone();
    let jobs = Jobs::new(Clock::start(), STEP_MAX);
    let job = jobs.start(|| {}, move |steps| examine_here(&serve, steps));
    job.map_err(Refusal::Host)?.wait().unwrap_or_else(|why| Err(Refusal::Blocked(why)))
}

/// As [`examine`], on a thread that may block.
fn examine_here(serve: &Serve, steps: &Steps) -> Result<Report, Refusal> {
    let cores = serve.placement.workers(&cpu::cores()).map_err(Refusal::CommandLine)?;
    let (name, text) = serve.source.load(steps).map_err(Refusal::CommandLine)?;
    let host = host::describe(cores.len(), serve.dns_port, steps).map_err(Refusal::Host)?;
    let (config, warnings) = Config::load(&text, &name, &host).map_err(Refusal::Config)?;
    let prepared = Prepared::new(config, None, steps).map_err(Refusal::Start)?;
    let Prepared { config, tls, .. } = prepared;
    refuse_what_the_host_lacks(&config).map_err(Refusal::Start)?;
    let own = worker::measure(&config.of_worker(0, cores.len())).map_err(Refusal::Host)?;
    let mut report = Report::new(config, warnings, &host, cores, own).within(limits::memory());
    (report.gso, report.gso_wanted) = (socket::can_segment(), serve.io_options.gso);
    report.notes.extend(taken(&report.config));
    load_hosts(&mut report, steps).map_err(Refusal::Host)?;
    load_zones(&mut report, steps)?;
    load_unsigned(&mut report, steps).map_err(Refusal::Host)?;
    let now = Clock::calendar();
    report.notes.extend(tls.certificates().iter().filter_map(|entry| entry.trouble(now)));
    Ok(report)
}

/// Loads all hosts files, and adds warnings about them. A missing file is covered by the
/// configuration's warnings.
///
/// # Errors
/// The kernel has no randomness.
fn load_hosts(report: &mut Report, steps: &Steps) -> io::Result<()> {
    let hasher = loader::hasher()?;
    for source in report.config.hosts_sources() {
        let label = source.label.clone();
        steps.begin(format!("reading the hosts file {label}"));
        match loader::read(source, &hasher) {
            Ok(Loaded { table, skipped, .. }) => {
                if skipped.count > 0 {
                    report.notes.push(loader::skipped_text(&label, &skipped));
                }
                let (entries, bytes) = (table.entries(), table.reserved());
                report.hosts.push(HostsTable { label, entries, bytes });
            }
            Err(Failure::Missing | Failure::Directory | Failure::NoFile) => {}
            Err(failure) => report.notes.push(format!("hosts file {label}: {failure}")),
        }
    }
    Ok(())
}

/// Loads all zones, and adds warnings about them.
///
/// # Errors
/// A zone that refuses the start.
fn load_zones(report: &mut Report, steps: &Steps) -> Result<(), Refusal> {
    let hasher = loader::hasher().map_err(Refusal::Host)?;
    let sources = report.config.zone_sources();
    let mut files = Vec::new();
    let mut notes = Vec::new();
    let signed = report.config.signed_zones();
    let signed: HashSet<_> = signed.iter().map(|source| &*source.output).collect();
    for source in sources {
        files.extend(source.files.iter().map(|file| (file.clone(), false)));
        let Some(directory) = &source.directory else { continue };
        let label = &directory.directory.label;
        steps.begin(format!("searching the directory {label} for zones"));
        let taken = source.files.iter().map(|file| file.zone.clone()).collect();
        match loader::walk(directory, &taken) {
            Ok(Walk { found, warnings, .. }) => {
                if found.is_empty() {
                    notes.push(format!("plugin/auto: {label}: no zone file found"));
                }
                notes.extend(warnings.into_iter().map(|text| format!("plugin/auto: {text}")));
                files.extend(found.into_iter().map(|file| (file, true)));
            }
            Err(error) => match loader::directory_refusal(directory, &error) {
                Some(refusal) => return Err(Refusal::Start(StartError::Zone(refusal))),
                None => notes.push(format!("plugin/auto: directory does not exist: {label}")),
            },
        }
    }
    report.notes.extend(notes);
    for (file, is_found) in files {
        let (zone, label) = (file.zone.to_string(), file.label.clone());
        steps.begin(format!("reading the zone {zone} from {label}"));
        match loader::read_zone(&file, &hasher) {
            Ok(LoadedZone { zone: loaded, warnings }) => {
                let text = |warning| format!("{label}: zone {zone}: {warning}");
                report.notes.extend(warnings.into_iter().map(text));
                let (records, serial) = (loaded.records(), loaded.serial());
                let bytes = loaded.reserved();
                report.zones.push(ZoneTable { zone, label, records, serial, bytes });
            }
            Err(trouble) if is_found => report.notes.push(format!(
                "plugin/auto: {trouble}: the zone is not served until its file is correct"
            )),
            Err(trouble) => match trouble.refusal(&file) {
                Some(refusal) => return Err(Refusal::Start(StartError::Zone(refusal))),
                None if signed.contains(&*file.place) => {}
                None => report.notes.push(format!(
                    "plugin/file: {trouble}: names of zone {zone} are answered with SERVFAIL until \
                     the file appears"
                )),
            },
        }
    }
    Ok(())
}

/// Loads all zones that will be signed, and adds warnings about them.
///
/// # Errors
/// The kernel has no randomness.
fn load_unsigned(report: &mut Report, steps: &Steps) -> io::Result<()> {
    let hasher = loader::hasher()?;
    for source in report.config.signed_zones() {
        let FileSource { zone, label, .. } = &source.file;
        steps.begin(format!("reading the zone {zone} from {label}"));
        match loader::read_unsigned(&source.file, &hasher) {
            Ok(LoadedZone { warnings, .. }) => {
                let text = |warning| format!("{label}: zone {zone}: {warning}");
                report.notes.extend(warnings.into_iter().map(text));
            }
            Err(trouble) => report.notes.push(format!(
                "plugin/sign: {trouble}: zone {zone} is not signed until the file is correct"
            )),
        }
    }
    Ok(())
}

/// Returns a warning about addresses that are in use.
fn taken(config: &Config) -> Option<String> {
    let addresses = config.listeners.iter().map(|listener| listener.address);
    let addresses = addresses.chain(indispensable(config));
    let taken: Vec<String> = addresses
        .filter(|address| address.port() > 0 && socket::is_taken(*address))
        .take(TAKEN_MAX)
        .map(|address| address.to_string())
        .collect();
    (!taken.is_empty()).then(|| {
        format!(
            "{} is in use: onward cannot start, unless the program that listens there is onward",
            taken.join(", ")
        )
    })
}

/// Returns the addresses of HTTP endpoints without which onward does not start.
fn indispensable(config: &Config) -> impl Iterator<Item = SocketAddr> {
    let has_health = |listener: &HttpListener| listener.pages.contains(&Endpoint::Health);
    config.http().into_iter().filter(has_health).map(|listener| listener.address)
}

fn refuse_what_the_host_lacks(config: &Config) -> Result<(), StartError> {
    if config.listeners.is_empty() {
        return Err(StartError::NoListener);
    }
    let listeners = config.listeners.iter().filter(|listener| !listener.implied);
    let addresses = listeners.map(|listener| listener.address);
    // A wildcard exists on any host.
    let pages = indispensable(config).filter(|address| !address.ip().is_unspecified());
    for address in addresses.chain(pages) {
        socket::check_source(address, address.ip())
            .map_err(|error| StartError::bind(address, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::report::ZoneTable;
    use super::{Report, json, systemd};
    use crate::config::{Config, Host};
    use crate::topology::{Card, Topology};
    use crate::worker;

    fn report(cores: &[Option<usize>]) -> Report {
        let host = Host::plain();
        let text = b". {\n bind 127.0.0.1\n forward . 192.0.2.1\n}\n";
        let (config, warnings) = Config::load(text, "Corefile", &host).unwrap();
        let memory = worker::measure(&config).unwrap();
        Report::new(config, warnings, &host, cores.to_vec(), memory)
    }

    #[test]
    fn too_little_memory_is_a_warning_that_names_the_largest_part() {
        let notes = |options: &str, memory| {
            let host = Host::plain();
            let text = format!(". {{\n bind 127.0.0.1\n{options}\n}}\n");
            let (config, warnings) = Config::load(text.as_bytes(), "f", &host).unwrap();
            let own = worker::measure(&config).unwrap();
            let report = Report::new(config, warnings, &host, vec![None; 3], own);
            assert!(report.memory.most() >= report.memory.reserved());
            let most = 3 * report.memory.most() + report.memory.engine.shared_caches_max;
            (most, report.within(memory).notes)
        };
        let cache = "cache {\n success 500000\n}\nforward . ::1";
        let pools = "forward . ::1 {\n max_conns 9000\n}\nforward m ::1 {\n max_conns 9000\n}";
        for (options, advice) in
            [(cache, "lower CAPACITY or capacity_bytes of cache"), (pools, "lower max_conns")]
        {
            let (most, enough) = notes(options, None);
            assert_eq!(notes(options, Some(most)).1, enough);
            let (_, notes) = notes(options, Some(most - 1));
            let [note] = &notes[enough.len()..] else { panic!("{notes:?}") };
            let told = format!("up to {} MiB of memory are needed", most >> 20);
            assert!(note.starts_with(&told), "{note}");
            assert!(note.ends_with(&format!(": {advice}, or start fewer workers")), "{note}");
        }
    }

    #[test]
    fn limits_of_systemd_have_room_for_zones_and_for_the_threads_that_load_them() {
        let limits = |lines: &str, mebibytes: usize| {
            let host = Host::plain();
            let text = format!("z {{\n bind 127.0.0.1\n{lines}\n}}\n");
            let (config, warnings) = Config::load(text.as_bytes(), "f", &host).unwrap();
            let own = worker::measure(&config).unwrap();
            let mut report = Report::new(config, warnings, &host, vec![None; 2], own);
            let (zone, label, bytes) = ("z.".into(), "db".into(), mebibytes << 20);
            report.zones.push(ZoneTable { zone, label, records: 1, serial: 1, bytes });
            systemd::limits(&report)
        };
        let value = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_end_matches('M').parse::<usize>().unwrap()
        };
        let [small, large] = [1, 101].map(|mebibytes| limits("file db", mebibytes));
        let [few, many] = [&small, &large].map(|text| value(text, "MemoryMax="));
        assert_eq!(many - few, 600, "two processes, three copies each");
        assert!(large.contains("# and 303 MiB for hosts files and zones"), "{large}");
        assert!(!large.contains("secondary"), "{large}");
        let [without, with] = ["whoami", "file db"].map(|lines| limits(lines, 1));
        let tasks = [&without, &with].map(|text| value(text, "TasksMax="));
        assert_eq!(tasks[1] - tasks[0], 2, "a loader in each process");
        let transferred = limits("secondary {\n transfer from ::1\n directory d\n}", 1);
        assert!(transferred.contains("add six times their onward_zone_octets"), "{transferred}");
    }

    /// A host with two nodes, the card on the second.
    fn host() -> Topology {
        let interrupts = vec![(24, vec![2])];
        let card = Card { name: "eth0".into(), node: Some(1), interrupts, ..Card::default() };
        Topology { nodes: [(0, vec![0, 1]), (1, vec![2, 3])].into(), cards: vec![card] }
    }

    #[test]
    fn a_card_far_from_the_workers_is_noted_for_people_and_for_machines() {
        let report = report(&[Some(0), Some(1)]).on(&host());
        let note = "eth0 is on node 1, workers on cores 0, 1 are not, its receive interrupts go \
                    to core 2, whose node has no worker: ";
        let text = report.to_string();
        let line = text.lines().find(|line| line.contains("eth0")).unwrap();
        assert!(line.starts_with(&format!("# [WARNING] {note}")), "{line}");
        let json: serde_json::Value = serde_json::from_str(&json::accepted(&report)).unwrap();
        let notes = json["notes"].as_array().unwrap();
        let has_note = |value: &serde_json::Value| value.as_str().unwrap().starts_with(note);
        assert_eq!(notes.iter().filter(|note| has_note(note)).count(), 1, "{notes:?}");
    }

    #[test]
    fn no_card_is_noted_where_nothing_is_wrong() {
        let one = Topology { nodes: [(0, vec![0, 1, 2, 3])].into(), ..host() };
        for (cores, host) in [
            ([Some(2), Some(3)], host()),
            ([None, None], host()),
            ([Some(0), Some(1)], one),
            ([Some(0), Some(1)], Topology::default()),
        ] {
            let before = report(&cores);
            assert_eq!(before.clone().on(&host), before, "{cores:?} {host:?}");
        }
    }
}
