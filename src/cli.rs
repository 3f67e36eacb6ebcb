//! Command line and exit codes.
//!
//! [`parse`] turns arguments into a [`Cli`] without looking at the host, after it has rewritten
//! the single-dash spellings that operators' unit files contain. What depends on the host comes
//! after: [`Source::load`] reads the configuration's text, and [`Placement::workers`] checks cores
//! against those that exist. `--listen` and `--forward` are written as a Corefile and take the
//! road of every other from there. What the text means is not known here.

mod arguments;
mod values;

pub(crate) use values::Endpoint;

use crate::blocking::Steps;
use crate::corefile::{Cause, read_file, read_text};
#[cfg(feature = "demo")]
use crate::demo::DemoOptions;
use crate::doctor::DoctorOptions;
use crate::server::Steer;
#[cfg(feature = "top")]
use crate::top::TopOptions;
use crate::worker::IoOptions;
use arguments::{Arguments, CommandArguments, WhatArguments};
use clap::{CommandFactory, Parser};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use values::CoreList;
#[cfg(feature = "top")]
use values::Interval;

/// Read when nothing on the command line says otherwise.
const COREFILE: &str = "Corefile";
/// The file name that means standard input.
const STDIN: &str = "stdin";
/// The path that means it.
const DEV_STDIN: &str = "/dev/stdin";

/// A command line that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cli {
    /// Forward queries.
    Serve(Serve),
    /// Check the configuration without serving.
    Check(Check),
    /// Run a demonstration.
    #[cfg(feature = "demo")]
    Demo(DemoOptions),
    /// Show the live state of a server.
    #[cfg(feature = "top")]
    Top(TopOptions),
    /// Look at the host.
    Doctor(DoctorOptions),
}

/// Options of `check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// Options of the server that is checked.
    pub serve: Serve,
    /// Output format.
    pub format: CheckFormat,
}

/// Output format of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CheckFormat {
    /// Text for people
    Text,
    /// One JSON object
    Json,
    /// A drop-in for the systemd unit, with its limits
    Systemd,
}

/// Use of UDP GSO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Gso {
    /// On, if the kernel and the route allow it.
    Auto,
    /// Never, whatever the Corefile says.
    Off,
}

/// Output format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Text for people
    Text,
    /// JSON
    Json,
}

/// Options of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Serve {
    /// Source of the configuration.
    pub source: Source,
    /// Number and cores of workers.
    pub placement: Placement,
    /// Distribution of datagrams to workers.
    pub steer: Steer,
    /// I/O options of workers.
    pub io_options: IoOptions,
    /// The port of zones that name none.
    pub dns_port: u16,
    /// Say nothing at the start.
    pub quiet: bool,
    /// Path of the PID file.
    pub pidfile: Option<PathBuf>,
    /// Format of the log.
    pub log_format: Format,
    /// The account to become once the sockets are bound.
    pub user: Option<String>,
    /// Threads that move packets open no files and start no programs.
    pub sandbox: bool,
}

/// Source of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// From this file, which must be there.
    File(PathBuf),
    /// From standard input.
    Stdin,
    /// From `Corefile` in the working directory.
    WorkingDirectory,
    /// From `--listen` and `--forward`, written as this Corefile.
    Flags(String),
}

/// Number and cores of workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// One on each core that this process may run on.
    EveryCore,
    /// One on each of these.
    Cores(Vec<usize>),
    /// This number, wherever the kernel puts them.
    Unpinned(usize),
}

/// Reason why nothing is run.
#[derive(Debug)]
pub(crate) enum CliError {
    /// Help or the version was asked for: this is it, for standard output.
    Asked(String),
    /// The arguments make no sense, for this reason.
    Usage(String),
    /// `--cores` names cores on which this process may not run.
    MissingCores {
        /// Requested cores that are missing.
        missing: Vec<usize>,
        /// Available cores.
        available: Vec<usize>,
    },
    /// No argument, and no Corefile in the working directory.
    NothingToDo,
    /// The Corefile of this name cannot be read.
    Unreadable(String, io::Error),
}

impl CliError {
    /// Returns the exit status of the error.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Asked(_) => Exit::Clean,
            error => error.cause().into(),
        }
    }

    /// Returns the party that has to change: the command line, unless a file cannot be read.
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::Unreadable(..) => Cause::Host,
            Self::Asked(_) | Self::Usage(_) | Self::MissingCores { .. } | Self::NothingToDo => {
                Cause::Text
            }
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked(text) | Self::Usage(text) => out.write_str(text.trim_end()),
            Self::MissingCores { missing, available } => {
                let (missing, available) = (enumerate(missing), enumerate(available));
                write!(
                    out,
                    "--cores: this process is not allowed to run on {missing}; allowed: {available}"
                )
            }
            Self::NothingToDo => {
                let demo = if cfg!(feature = "demo") { TRY_DEMO } else { "" };
                write!(out, "{NOTHING_TO_DO}{demo}{TRY}")
            }
            Self::Unreadable(name, error) => {
                write!(out, "cannot read {name}: {error}")?;
                match error.kind() {
                    io::ErrorKind::NotFound => {
                        out.write_str("; correct the path, or give another with --conf")
                    }
                    io::ErrorKind::PermissionDenied => write!(
                        out,
                        "; give the user that onward runs as read permission \
                         (see ls -l {name})"
                    ),
                    io::ErrorKind::IsADirectory => {
                        out.write_str("; give the path of the file in it, such as {name}/Corefile")
                    }
                    io::ErrorKind::InvalidInput => out.write_str(
                        "; give the path of a regular file, or pass the text on standard input \
                         (--conf -)",
                    ),
                    _ => Ok(()),
                }
            }
        }
    }
}

impl std::error::Error for CliError {}

/// Exit status of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// As it was asked to.
    Clean,
    /// Something failed at run time, or the host lacks what the configuration needs.
    Failure,
    /// Error in the command line or in the Corefile.
    Usage,
}

impl Exit {
    /// The exit code: 0, 1 or 2.
    pub fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Failure => 1,
            Self::Usage => 2,
        }
    }
}

impl From<Cause> for Exit {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Text => Self::Usage,
            Cause::Host => Self::Failure,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

const NOTHING_TO_DO: &str = "\
no Corefile in this directory, and no --conf or --forward on the command line. Try one of these:";
const TRY_DEMO: &str = "
  onward demo                                          run a demonstration on loopback";
const TRY: &str = "
  onward --listen 127.0.0.1:5300 --forward 192.0.2.53  forward without a Corefile
  onward --conf /etc/onward/Corefile                   serve a Corefile";

/// The command line as `clap` knows it, for manual pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Understands a command line, the program's name first.
///
/// # Errors
/// [`CliError::Asked`] for help and version, [`CliError::Usage`] for what makes no sense.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, CliError> {
    let typed = Arguments::try_parse_from(normalise(arguments)).map_err(|error| {
        let text = error.render().to_string();
        if error.use_stderr() { CliError::Usage(text) } else { CliError::Asked(text) }
    })?;
    Ok(match typed.command {
        #[cfg(feature = "demo")]
        Some(CommandArguments::Demo { seconds, keep, workers }) => {
            let seconds = Duration::from_secs(seconds.into());
            Cli::Demo(DemoOptions { seconds, keep, workers: workers.map(usize::from) })
        }
        #[cfg(feature = "top")]
        Some(CommandArguments::Top { address, interval: Interval(interval), once }) => {
            Cli::Top(TopOptions { address, interval, once })
        }
        Some(CommandArguments::Check { what, format }) => {
            Cli::Check(Check { serve: what.serve(), format })
        }
        Some(CommandArguments::Doctor { what, format, seconds, root }) => {
            let (serve, seconds) = (what.serve(), Duration::from_secs(seconds.into()));
            Cli::Doctor(DoctorOptions { serve, format, seconds, root })
        }
        None => {
            let (quiet, pidfile, log_format) = (typed.quiet, typed.pidfile, typed.log_format);
            let (user, sandbox) = (typed.user, !typed.no_sandbox);
            let serve = typed.what.serve();
            Cli::Serve(Serve { quiet, pidfile, log_format, user, sandbox, ..serve })
        }
    })
}

impl WhatArguments {
    /// As if nothing else had been typed.
    fn serve(self) -> Serve {
        let source = match self.conf {
            _ if !self.forward.is_empty() => {
                Source::Flags(corefile_text(&self.listen, &self.forward, self.dns_port))
            }
            Some(file) if [STDIN, "-", DEV_STDIN].iter().any(|name| file == *name) => Source::Stdin,
            Some(file) if !file.is_empty() => Source::File(file.into()),
            _ => Source::WorkingDirectory,
        };
        let placement = match (self.cores, self.workers) {
            (Some(CoreList(cores)), _) => Placement::Cores(cores),
            (None, Some(workers)) => Placement::Unpinned(workers.into()),
            (None, None) => Placement::EveryCore,
        };
        let (quiet, pidfile, log_format) = (false, None, Format::Text);
        let (steer, dns_port) = (self.steer, self.dns_port);
        let busy_poll = Duration::from_micros(self.busy_poll.into());
        let io_options = IoOptions { busy_poll, gso: self.gso == Gso::Auto };
        let (user, sandbox) = (None, true);
        Serve {
            source,
            placement,
            steer,
            io_options,
            dns_port,
            quiet,
            pidfile,
            log_format,
            user,
            sandbox,
        }
    }
}

/// Rewrites Go-style flags (`-conf X`, `-conf=X`, `-dns.port 53`, `-quiet=true`) as long options;
/// leaves alone what it does not know, and all that follows `--`.
fn normalise(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    const VALUES: [&str; 13] = [
        "conf",
        "cores",
        "workers",
        "steer",
        "busy-poll",
        "gso",
        "listen",
        "forward",
        "dns.port",
        "pidfile",
        "format",
        "log-format",
        "user",
    ];
    const SWITCHES: [&str; 4] = ["quiet", "no-sandbox", "version", "help"];
    let mut literal = false;
    let mut normal = Vec::new();
    for argument in arguments {
        literal |= argument == "--";
        let text = argument.to_str().filter(|_| !literal).unwrap_or_default();
        let flag = text.strip_prefix('-').unwrap_or_default();
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        let (name, value) =
            flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
        let (takes_value, switches) = (VALUES.contains(&name), SWITCHES.contains(&name));
        let long = format!("--{}", name.replace('.', "-"));
        match value {
            Some(value) if takes_value => normal.push(format!("{long}={value}").into()),
            None if takes_value || switches => normal.push(long.into()),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") if switches => {
                normal.push(long.into());
            }
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") if switches => {}
            _ => normal.push(argument),
        }
    }
    normal
}

/// The Corefile that listens on `listen` (everywhere if empty) and forwards everything to
/// `forward`. Addresses without a port listen on `dns_port`; those of one port share a block.
fn corefile_text(listen: &[Endpoint], forward: &[Endpoint], dns_port: u16) -> String {
    let port_of = |endpoint: &Endpoint| endpoint.port.unwrap_or(dns_port);
    let mut ports: Vec<u16> = listen.iter().map(port_of).collect();
    if ports.is_empty() {
        ports.push(dns_port);
    }
    ports.sort_unstable();
    ports.dedup();
    let upstreams: String = forward.iter().map(|upstream| format!(" {upstream}")).collect();
    let block = |port: u16| {
        let here = listen.iter().filter(|endpoint| port_of(endpoint) == port);
        let addresses: String = here.map(|endpoint| format!(" {}", endpoint.ip)).collect();
        let bind = if addresses.is_empty() { addresses } else { format!("    bind{addresses}\n") };
        format!(".:{port} {{\n{bind}    forward .{upstreams}\n}}\n")
    };
    ports.into_iter().map(block).collect()
}

impl Source {
    /// The configuration's name for messages, and its text. Waits for the end of standard input
    /// if it comes from there. Says to `steps` what it does.
    ///
    /// # Errors
    /// [`CliError::NothingToDo`] if nothing was named and there is no `Corefile`,
    /// [`CliError::Unreadable`] if it cannot be read.
    pub(crate) fn load(&self, steps: &Steps) -> Result<(String, Vec<u8>), CliError> {
        let name = match self {
            Self::Flags(_) => "the command line".to_owned(),
            Self::File(path) => path.display().to_string(),
            Self::WorkingDirectory => COREFILE.to_owned(),
            Self::Stdin => DEV_STDIN.to_owned(),
        };
        let reading = format!("reading {name}");
        let text = match self {
            Self::Flags(text) => Ok(text.clone().into_bytes()),
            Self::File(path) => {
                steps.begin(reading);
                read_file(path)
            }
            Self::WorkingDirectory => {
                steps.begin(reading);
                read_file(Path::new(COREFILE))
            }
            Self::Stdin => {
                // Somebody may be typing it.
                steps.begin_endless(reading);
                read_text(io::stdin())
            }
        };
        text.map_err(|error| match (self, error.kind()) {
            (Self::WorkingDirectory, io::ErrorKind::NotFound) => CliError::NothingToDo,
            _ => CliError::Unreadable(String::clone(&name), error),
        })
        .map(|text| (name, text))
    }
}

impl Source {
    /// The same, once more.
    ///
    /// # Errors
    /// As [`Source::load`]; and that there is nothing to be read a second time.
    pub(crate) fn load_again(&self, steps: &Steps) -> Result<(String, Vec<u8>), CliError> {
        if *self == Self::Stdin {
            let why = "standard input can be read only once; restart, or use --conf FILE";
            return Err(CliError::Usage(why.into()));
        }
        self.load(steps)
    }
}

impl Placement {
    /// One entry a worker: the core to pin it to, if any. `available` are the cores that this
    /// process may run on ([`crate::sys::cpu::cores`]).
    ///
    /// # Errors
    /// [`CliError::MissingCores`].
    pub(crate) fn workers(&self, available: &[usize]) -> Result<Vec<Option<usize>>, CliError> {
        match self {
            Self::Unpinned(count) => Ok(vec![None; *count]),
            Self::EveryCore if available.is_empty() => Ok(vec![None]),
            Self::EveryCore => Ok(available.iter().copied().map(Some).collect()),
            Self::Cores(cores) => {
                let absent = |core: &usize| !available.contains(core);
                let missing: Vec<usize> = cores.iter().copied().filter(absent).collect();
                if missing.is_empty() {
                    return Ok(cores.iter().copied().map(Some).collect());
                }
                Err(CliError::MissingCores { missing, available: available.to_vec() })
            }
        }
    }
}

/// Names cores as in «core 3» or «cores 0, 1, 2».
fn enumerate(cores: &[usize]) -> String {
    let numbers: Vec<String> = cores.iter().map(usize::to_string).collect();
    let noun = if cores.len() == 1 { "core" } else { "cores" };
    format!("{noun} {}", numbers.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{
        Check, CheckFormat, Cli, CliError, Exit, Format, Placement, Serve, Source, corefile_text,
        normalise, parse,
    };
    use crate::blocking::{STEP_MAX, Steps};
    use crate::clock::Clock;
    use crate::server::Steer;
    #[cfg(feature = "top")]
    use crate::top::TopOptions;
    use crate::worker::IoOptions;
    use std::ffi::OsString;
    use std::io;
    use std::path::PathBuf;
    use std::time::Duration;

    fn words(line: &str) -> impl Iterator<Item = OsString> {
        std::iter::once("onward").chain(line.split_whitespace()).map(OsString::from)
    }

    fn serve(line: &str) -> Serve {
        match parse(words(line)) {
            Ok(Cli::Serve(serve)) => serve,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn usage(line: &str) -> String {
        match parse(words(line)) {
            Err(CliError::Usage(text)) => text,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn nothing_typed_means_the_corefile_here_on_every_core() {
        let expected = Serve {
            source: Source::WorkingDirectory,
            placement: Placement::EveryCore,
            steer: Steer::Flow,
            io_options: IoOptions::default(),
            dns_port: 53,
            quiet: false,
            log_format: Format::Text,
            user: None,
            sandbox: true,
            pidfile: None,
        };
        assert_eq!(serve(""), expected);
        assert_eq!(serve("-conf="), expected);
    }

    #[test]
    fn top_watches_this_host_unless_told_otherwise() {
        let top = |line: &str| match parse(words(line)) {
            Ok(Cli::Top(options)) => options,
            other => panic!("{line}: {other:?}"),
        };
        let second = Duration::from_secs(1);
        let here = TopOptions { address: "127.0.0.1:8053".into(), interval: second, once: false };
        assert_eq!(top("top"), here);
        let there = top("top [2001:db8::1]:80 --interval 250ms --once");
        let interval = Duration::from_millis(250);
        let expected = TopOptions { address: "[2001:db8::1]:80".into(), interval, once: true };
        assert_eq!(there, expected);
        for line in ["top --interval 1", "top --interval 10ms", "top --interval 2h", "top a b"] {
            usage(line);
        }
    }

    #[test]
    fn single_dashes_are_long_options() {
        for (typed, normal) in [
            ("-conf X", "--conf X"),
            ("-conf=X", "--conf=X"),
            ("--conf X", "--conf X"),
            ("-dns.port=1053", "--dns-port=1053"),
            ("-dns.port 1053", "--dns-port 1053"),
            ("--dns.port 1053", "--dns-port 1053"),
            ("--dns-port 1053", "--dns-port 1053"),
            ("-p 1053", "-p 1053"),
            ("-quiet -quiet=true -quiet=0", "--quiet --quiet"),
            ("-version", "--version"),
            ("-unknown -- -conf", "-unknown -- -conf"),
            ("demo --seconds 3", "demo --seconds 3"),
        ] {
            assert!(words(normal).eq(normalise(words(typed))), "{typed}");
        }
    }

    #[test]
    fn go_style_command_lines_are_understood() {
        let typed = serve("-conf /etc/Corefile -dns.port=1053 -p 1054 -quiet -quiet=true");
        assert_eq!(typed.source, Source::File(PathBuf::from("/etc/Corefile")));
        assert_eq!((typed.dns_port, typed.quiet), (1054, true), "the last one wins");
        assert_eq!(serve("-conf stdin").source, Source::Stdin);
    }

    #[test]
    fn cores_are_listed_or_workers_counted() {
        assert_eq!(serve("--busy-poll 50").io_options.busy_poll, Duration::from_micros(50));
        assert_eq!(serve("--cores 0-3,6").placement, Placement::Cores(vec![0, 1, 2, 3, 6]));
        assert_eq!(serve("--workers 4").placement, Placement::Unpinned(4));
        assert!(usage("--cores 0 --workers 2").contains("cannot be used with"));
        assert!(usage("--cores 3-1").contains("greater than the last"));
        usage("--workers 0");
    }

    #[test]
    fn datagrams_leave_together_unless_told_otherwise() {
        assert!(serve("").io_options.gso && serve("-gso=off --gso auto").io_options.gso);
        assert!(!serve("--gso off").io_options.gso);
        assert!(usage("--gso on").contains("auto, off"));
    }

    #[test]
    fn datagrams_are_steered_in_one_of_three_ways() {
        assert_eq!(serve("").steer, Steer::Flow);
        assert_eq!(serve("--steer name").steer, Steer::Name);
        assert_eq!(serve("-steer flow -steer=cpu").steer, Steer::Cpu, "the last one wins");
        let text = usage("--steer names");
        assert!(["'names'", "name, cpu, flow"].iter().all(|part| text.contains(part)), "{text}");
    }

    #[test]
    fn a_core_that_the_host_lacks_is_an_error_that_lists_those_it_has() {
        let cores = Placement::Cores(vec![1, 7]);
        assert_eq!(cores.workers(&[0, 1, 7]).unwrap(), [Some(1), Some(7)]);
        let error = cores.workers(&[0, 1]).unwrap_err();
        let text = "--cores: this process is not allowed to run on core 7; allowed: cores 0, 1";
        assert_eq!((error.to_string().as_str(), error.exit()), (text, Exit::Usage));
        assert_eq!(Placement::EveryCore.workers(&[2, 4]).unwrap(), [Some(2), Some(4)]);
        assert_eq!(Placement::EveryCore.workers(&[]).unwrap(), [None]);
        assert_eq!(Placement::Unpinned(2).workers(&[0]).unwrap(), [None, None]);
    }

    #[test]
    fn flags_are_written_as_a_corefile() {
        let typed = serve(
            "--listen 127.0.0.1 [::1]:5300 192.0.2.1:5300 --forward 192.0.2.53 [2001:db8::53]:99",
        );
        let text = "\
.:53 {
    bind 127.0.0.1
    forward . 192.0.2.53 [2001:db8::53]:99
}
.:5300 {
    bind ::1 192.0.2.1
    forward . 192.0.2.53 [2001:db8::53]:99
}
";
        assert_eq!(typed.source, Source::Flags(text.into()));
        assert_eq!(typed.source.load(&steps()).unwrap().1, text.as_bytes());
    }

    #[test]
    fn forward_alone_listens_everywhere_on_the_default_port() {
        let upstream = ["2001:db8::53".parse().unwrap()];
        let text = ".:1053 {\n    forward . 2001:db8::53\n}\n";
        assert_eq!(corefile_text(&[], &upstream, 1053), text);
    }

    #[test]
    fn flags_that_make_no_sense_are_refused() {
        usage("--listen 127.0.0.1");
        usage("--forward 192.0.2.1 --conf Corefile");
        assert!(usage("--forward name").contains("expected an address as"));
        usage("--what");
        usage("positional");
        usage("--quiet demo");
    }

    #[test]
    fn a_check_takes_what_serving_takes_and_a_format() {
        let check = |line: &str| match parse(words(line)) {
            Ok(Cli::Check(check)) => check,
            other => panic!("{line}: {other:?}"),
        };
        let typed = check("check -conf - --cores 1,3 -dns.port 1053");
        assert_eq!(
            typed,
            Check { serve: serve("-conf - --cores 1,3 -p 1053"), format: CheckFormat::Text }
        );
        assert_eq!(typed.serve.source, Source::Stdin);
        assert_eq!(check("check --format json --workers 2").format, CheckFormat::Json);
        assert_eq!(check("check").serve, serve(""));
        assert!(usage("check --format xml").contains("json"));
        usage("check --listen 127.0.0.1");
        usage("check --quiet");
    }

    #[cfg(feature = "demo")]
    #[test]
    fn the_demonstration_has_its_own_options() {
        let Ok(Cli::Demo(demo)) = parse(words("demo --seconds 3 --keep --workers 4")) else {
            panic!("demo");
        };
        assert_eq!((demo.seconds, demo.keep), (Duration::from_secs(3), true));
        assert_eq!(demo.workers, Some(4));
        usage("demo --seconds 0");
    }

    #[test]
    fn help_teaches_and_is_no_failure() {
        for line in ["--help", "-h", "-help", "-version", "demo --help"] {
            let error = parse(words(line)).unwrap_err();
            assert!(matches!(error, CliError::Asked(_)), "{line}");
            assert_eq!(error.exit(), Exit::Clean);
        }
        let help = parse(words("--help")).unwrap_err().to_string();
        for topic in ["onward demo", "onward check", "--cores", "Exit codes:"] {
            assert!(help.contains(topic), "{topic}");
        }
    }

    #[test]
    fn ends_have_their_codes() {
        let codes = [Exit::Clean, Exit::Failure, Exit::Usage].map(Exit::code);
        assert_eq!(codes, [0, 1, 2]);
        assert_eq!(CliError::NothingToDo.exit(), Exit::Usage);
        assert_eq!(CliError::Usage(String::new()).exit(), Exit::Usage);
    }

    fn steps() -> Steps {
        Steps::new(Clock::start(), STEP_MAX)
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Source::File(PathBuf::from("/no/such/Corefile")).load(&steps()).unwrap_err();
        assert!(error.to_string().starts_with("cannot read /no/such/Corefile: "), "{error}");
        assert_eq!(error.exit(), Exit::Failure, "it may be there later");
    }

    #[test]
    fn whoever_cannot_read_a_file_is_told_what_to_do() {
        for (kind, hint) in [
            (io::ErrorKind::NotFound, "--conf"),
            (io::ErrorKind::PermissionDenied, "ls -l Corefile"),
            (io::ErrorKind::IsADirectory, "file in it"),
        ] {
            let text = CliError::Unreadable("Corefile".into(), kind.into()).to_string();
            assert!(text.contains(hint) && text.lines().count() == 1, "{text}");
        }
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let error = Source::File(PathBuf::from("/dev/zero")).load(&steps()).unwrap_err();
        let told = error.to_string();
        let why = "cannot read /dev/zero: not a regular file but a character device; ";
        assert!(told.starts_with(why) && told.contains("--conf -"), "{told}");
    }

    #[test]
    fn with_nothing_to_do_it_says_what_to_try() {
        let text = CliError::NothingToDo.to_string();
        for hint in ["onward demo", "--listen", "--conf"] {
            assert!(text.contains(hint), "{hint}");
        }
    }
}
