//! The demonstration: a forwarder between upstreams and a client, all on loopback.
//!
//! Everything is real: sockets, the Corefile, the forwarder's own threads. Three addresses of an
//! upstream ([`crate::traffic::upstream`]) answer, a client ([`crate::traffic::client`]) sends
//! queries for names in no cache and checks every answer, and the age limits of connections are
//! short enough to show within seconds. The report prints the counters of all three parts.
//! `forwarder` starts the server, `report` prints, with the tables of
//! `tables`.

mod forwarder;
mod report;
mod tables;

use crate::sys::cpu;
use crate::sys::signals::{Signal, Signals};
use crate::traffic;
use crate::traffic::answer::Behaviour;
use crate::traffic::client::{self, Options, Run};
use crate::traffic::tally::Tally;
use crate::traffic::upstream::{Service, Upstream};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use forwarder::Forwarder;
use report::{Report, Screen};
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

/// More than one, so that the policy shows; few enough to be compared at a glance.
const UPSTREAMS: usize = 3;
/// Workers by default, if the host has as many cores.
const WORKERS_MAX: usize = 2;
/// Queries outstanding at once: enough to keep two workers busy.
const OUTSTANDING: usize = 64;
/// Time after which a query counts as lost.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Interval at which the progress is printed.
const REFRESH: Duration = Duration::from_millis(100);

/// Options of the demonstration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DemoOptions {
    /// Time for which the client sends queries.
    pub(crate) seconds: Duration,
    /// Keep serving afterwards, until SIGINT or SIGTERM.
    pub(crate) keep: bool,
    /// The forwarder's workers; `None`: two, or one on a single core.
    pub(crate) workers: Option<usize>,
}

/// Reason why the demonstration failed.
#[derive(Debug)]
pub(crate) enum DemoError {
    /// The named step failed with this error.
    Io(&'static str, io::Error),
    /// The forwarder did not start, for this reason.
    Forwarder(String),
    /// The demonstration ran, but not every query got its right answer.
    Faulty(String),
}

impl fmt::Display for DemoError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(what, error) => write!(out, "{what}: {error}"),
            Self::Forwarder(reason) => write!(out, "the forwarder did not start: {reason}"),
            Self::Faulty(sentence) => out.write_str(sentence),
        }
    }
}

impl std::error::Error for DemoError {}

/// Runs the demonstration, with output on standard output. SIGINT and SIGTERM end it early, with a
/// report.
///
/// Call it before any other thread is started: the signals are blocked from here on.
///
/// # Errors
/// See [`DemoError`].
pub(crate) fn run(options: &DemoOptions) -> Result<(), DemoError> {
    let interrupts = interrupts().map_err(|error| DemoError::Io("no signals", error))?;
    let out = io::stdout();
    let live = out.is_terminal();
    show(options, &interrupts, &mut Screen::new(out, live))
}

fn show(
    options: &DemoOptions,
    interrupts: &Receiver<()>,
    screen: &mut Screen<impl Write>,
) -> Result<(), DemoError> {
    let workers = options.workers.unwrap_or_else(|| cpu::cores().len().clamp(1, WORKERS_MAX));
    let upstreams = start_upstreams().map_err(|error| DemoError::Io("no upstreams", error))?;
    let corefile = corefile(upstreams.addresses());
    let forwarder = Forwarder::start(&corefile, workers).map_err(DemoError::Forwarder)?;
    let address = forwarder.address();
    let seed = traffic::fresh_seed().map_err(|error| DemoError::Io("no randomness", error))?;
    let client = client_options(address, options.seconds, seed);
    let printed = |error| DemoError::Io("cannot print", error);
    screen.opening(address, workers, &corefile).map_err(printed)?;
    let (tally, interrupted) = client::run(&client)
        .and_then(|run| watch(run, interrupts, screen))
        .map_err(|error| DemoError::Io("the client failed", error))?;
    let counts = upstreams.counts().map_err(|error| DemoError::Io("an upstream failed", error))?;
    let report = Report {
        client: tally,
        addresses: upstreams.addresses().to_vec(),
        upstreams: counts,
        workers: forwarder.stats(),
    };
    screen.closing(&report).map_err(printed)?;
    if options.keep && !interrupted {
        screen.keeping(address).map_err(printed)?;
        // A closed channel ends it like a signal.
        let _ = interrupts.recv();
    }
    forwarder.stop();
    report.fault().map_or(Ok(()), |sentence| Err(DemoError::Faulty(sentence)))
}

/// Returns a channel that gets one message for each SIGINT or SIGTERM.
fn interrupts() -> io::Result<Receiver<()>> {
    let signals = Signals::block()?;
    let (sender, receiver) = crossbeam_channel::bounded(1);
    // Ends with the process, or when the receiver is dropped.
    thread::Builder::new().name("signals".into()).spawn(move || {
        while let Ok(signal) = signals.wait(None) {
            if signal == Some(Signal::Stop) && sender.send(()).is_err() {
                break;
            }
        }
    })?;
    Ok(receiver)
}

fn start_upstreams() -> io::Result<Upstream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Upstream::of(vec![Service::new(address, Behaviour::Answer); UPSTREAMS])
}

/// Returns the Corefile of the forwarder; connections reach their maximum age during the
/// demonstration.
fn corefile(upstreams: &[SocketAddr]) -> String {
    let upstreams: Vec<String> = upstreams.iter().map(SocketAddr::to_string).collect();
    format!(
        "\
.:0 {{
    bind 127.0.0.1
    forward . {} {{
        policy round_robin
        expire 1s
        max_age 2s
    }}
}}
",
        upstreams.join(" ")
    )
}

fn client_options(target: SocketAddr, duration: Duration, seed: u64) -> Options {
    Options { timeout: TIMEOUT, ..Options::closed(vec![target], OUTSTANDING, duration, seed) }
}

/// Shows the client's progress until it has finished; true if an interrupt ended it early.
fn watch(
    run: Run,
    interrupts: &Receiver<()>,
    screen: &mut Screen<impl Write>,
) -> io::Result<(Tally, bool)> {
    let mut interrupts = interrupts.clone();
    let mut interrupted = false;
    while !run.is_over() {
        match interrupts.recv_timeout(REFRESH) {
            Err(RecvTimeoutError::Timeout) => screen.progress(run.elapsed(), &run.counts())?,
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                run.stop();
                interrupted = true;
                interrupts = crossbeam_channel::never();
            }
        }
    }
    Ok((run.join()?, interrupted))
}

#[cfg(test)]
mod tests {
    use super::{DemoOptions, Screen, client_options, corefile, show, start_upstreams, watch};
    use crate::traffic::client;
    use std::time::Duration;

    #[test]
    fn the_corefile_names_the_upstreams_that_run() {
        let text = corefile(&["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()]);
        assert!(text.starts_with(".:0 {\n    bind 127.0.0.1\n"));
        assert!(text.contains("    forward . 127.0.0.1:1 127.0.0.1:2 {\n"));
    }

    #[test]
    fn an_interrupt_ends_the_client_and_keeps_its_counts() {
        let upstreams = start_upstreams().unwrap();
        let mut options = client_options(upstreams.addresses()[0], Duration::from_secs(60), 1);
        options.timeout = Duration::from_secs(60);
        let (sender, interrupts) = crossbeam_channel::bounded(1);
        sender.send(()).unwrap();
        let mut screen = Screen::new(Vec::new(), false);
        let run = client::run(&options).unwrap();
        let (tally, interrupted) = watch(run, &interrupts, &mut screen).unwrap();
        assert!(interrupted);
        assert_eq!(tally.counts.sent, tally.counts.answered);
    }

    #[test]
    fn the_whole_demonstration_ends_well() {
        let options =
            DemoOptions { seconds: Duration::from_millis(200), keep: false, workers: Some(2) };
        let (_open, interrupts) = crossbeam_channel::bounded(1);
        let mut screen = Screen::new(Vec::new(), false);
        show(&options, &interrupts, &mut screen).unwrap();
    }
}
