//! `loadgen run`: one run and its report.
//!
//! The command starts the run, waits for its end or a signal, prints the progress, and writes the
//! reports.

use super::asking::{Asking, server};
use super::{exit_code, invalid};
use crate::process::{Usage, usage};
use crate::report::{self, Outcome};
use crate::units;
use clap::{Args, ValueEnum};
use domain::base::iana::Rcode;
use onward::sys::signals::{Signal, Signals};
use onward::traffic::client::{self, Load, Options, Run};
use onward::traffic::report::grouped;
use onward::traffic::schedule::{Arrivals, Plan, Shape};
use onward::traffic::tally::{Counts, Tally};
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

/// Default duration of a run.
const LENGTH: Duration = Duration::from_secs(10);
/// Minimum length of an interval, because percentiles of fewer answers are meaningless.
const STRETCH_MIN: Duration = Duration::from_millis(10);
/// Interval of checks for the end of the run.
const LOOK: Duration = Duration::from_millis(20);
/// Interval of progress lines on a terminal.
const TELL_TERMINAL: Duration = Duration::from_millis(200);
/// Interval of progress lines in a file.
const TELL_FILE: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  loadgen run --server 192.0.2.1 --rate 5000 --seconds 60 --html report.html
      Open loop: 5,000 queries per second at even distances, independent of the answers.
  loadgen run --server 192.0.2.1 --rate 1k..50k --arrivals poisson
      Ramp with random arrivals, like those of many independent clients.
  loadgen run --server 192.0.2.1 --rate 1000x5s,5000x5s,1000x5s
      Steps of rate and duration.
  loadgen run --server 192.0.2.1 --closed 256
      Closed loop with 256 outstanding queries: measures capacity, not the latency of clients.
  loadgen run --server 127.0.0.1:5300 --closed 256 --pid 4711
      Closed loop, with the CPU time per answer of a server on this host.
  loadgen run --server 192.0.2.1 --queries names.txt --passes 1 --rate 10k
      Each query of a dnsperf file once.
  loadgen run --server 192.0.2.1 --hit-ratio 80% --names zipf:100000:0.9 --types A:6,AAAA:3,HTTPS:1
      80 % of the queries repeat an earlier name.
  loadgen run --server 192.0.2.1 --tcp --per-connection 1 --sockets 500 --rate 2000
      One TCP connection per query.
  loadgen run --server 192.0.2.1 --pcap clients.pcapng --speed 2
      Replay of a capture at double speed, with one socket per client.

The exit code is 0 only if all queries were sent on time and got a good answer.";

/// Options of `loadgen run`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Server addresses; sockets use them in turn
    #[arg(long, value_name = "ADDR", num_args = 1.., required = true, value_parser = server)]
    server: Vec<SocketAddr>,
    /// Queries per second: 5000, a ramp 1k..50k, or steps 1000x5s,5000x10s
    #[arg(long, value_name = "RATE", default_value = "1000", value_parser = shape,
          conflicts_with_all = ["closed", "pcap"])]
    rate: Shape,
    /// Distribution of send times
    #[arg(long, value_enum, default_value_t = Spacing::Even,
          conflicts_with_all = ["closed", "pcap"])]
    arrivals: Spacing,
    /// Closed loop: number of outstanding queries, instead of a rate
    #[arg(long, alias = "outstanding", value_name = "N", conflicts_with = "pcap")]
    closed: Option<usize>,
    /// Speed-up factor of a capture
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, requires = "pcap")]
    speed: f64,
    /// Duration in seconds [default: 10, or until the input ends]
    #[arg(long, value_name = "N")]
    seconds: Option<f64>,
    #[command(flatten)]
    asking: Asking,
    /// Maximum share of queries without a good answer
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = units::share,
          help_heading = "Checks")]
    loss_max: f64,
    /// Response codes that count as good answers
    #[arg(long, value_name = "LIST", default_value = "NOERROR,NXDOMAIN", value_delimiter = ',',
          value_parser = rcode, help_heading = "Checks")]
    rcodes: Vec<u8>,
    /// Process IDs of the server, to report CPU time and memory, child processes included
    #[arg(long, value_name = "PID", num_args = 1.., help_heading = "Reports")]
    pid: Vec<u32>,
    /// Write the result as JSON; - writes it to standard output instead of the tables
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    json: Option<PathBuf>,
    /// Write an HTML report with plots
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    html: Option<PathBuf>,
    /// Write latencies as an HDR percentile file
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    hdr: Option<PathBuf>,
    /// Length of an interval of the report [default: 1/200 of the run]
    #[arg(long, value_name = "TIME", value_parser = units::duration, help_heading = "Reports")]
    stretch: Option<Duration>,
    /// Do not print progress
    #[arg(long, help_heading = "Reports")]
    quiet: bool,
}

/// Distribution of send times around the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Spacing {
    /// Equal distances
    Even,
    /// Random and independent (Poisson process)
    Poisson,
}

impl From<Spacing> for Arrivals {
    fn from(spacing: Spacing) -> Self {
        match spacing {
            Spacing::Even => Self::Even,
            Spacing::Poisson => Self::Poisson,
        }
    }
}

/// Executes the command.
pub(super) fn main(arguments: &Arguments) -> io::Result<ExitCode> {
    // Blocked before any thread starts, so that all threads inherit the mask.
    let signals = Signals::block()?;
    let load = arguments.load()?;
    let mut options = arguments.asking.options(&arguments.server, load)?;
    options.stretch = arguments.stretch.map(|stretch| stretch.max(STRETCH_MIN));
    let before = used(&arguments.pid)?;
    let run = client::run(&options)?;
    let interrupted = watch(&run, &signals, arguments.quiet)?;
    let tally = run.join()?;
    let after = used(&arguments.pid)?;
    let server = after.zip(before).map(|(after, before)| Usage {
        processor: after.processor.saturating_sub(before.processor),
        ..after
    });
    let outcome = Outcome {
        settings: arguments.settings(&options),
        open: !matches!(options.load, Load::Closed { .. }),
        planned: planned(&options),
        interrupted,
        loss_allowed: arguments.loss_max,
        rcodes_good: arguments.rcodes.clone(),
        tally,
        server,
    };
    arguments.write(&outcome)?;
    Ok(exit_code(&report::faults(&outcome)))
}

/// Returns the sums of CPU time and peak memory of `pids` up to now; `None` without any.
fn used(pids: &[u32]) -> io::Result<Option<Usage>> {
    let mut sum: Option<Usage> = None;
    for &pid in pids {
        let one = usage(pid)?;
        let sum = sum.get_or_insert_default();
        sum.processor += one.processor;
        sum.memory_peak += one.memory_peak;
    }
    Ok(sum)
}

/// Returns the planned number of queries, if it is known.
fn planned(options: &Options) -> Option<u64> {
    match &options.load {
        Load::Open(plan) => [plan.total(), options.limit].into_iter().flatten().min(),
        _ => options.limit,
    }
}

/// Returns the duration of `--seconds`.
pub(super) fn length_of(seconds: f64) -> io::Result<Duration> {
    let length = Duration::try_from_secs_f64(seconds);
    length.map_err(|_| invalid("--seconds must be greater than 0"))
}

/// Executes the next of several runs, with another seed so that no cache has its names yet. `None`:
/// the run was interrupted.
pub(super) fn next_run(options: &mut Options, signals: &Signals) -> io::Result<Option<Tally>> {
    options.seed = options.seed.wrapping_add(1);
    let run = client::run(options)?;
    let interrupted = watch(&run, signals, true)?;
    let tally = run.join()?;
    Ok((!interrupted).then_some(tally))
}

/// Waits for the end of `run` and prints the progress; returns whether it was interrupted.
fn watch(run: &Run, signals: &Signals, quiet: bool) -> io::Result<bool> {
    let mut interrupted = false;
    let terminal = io::stderr().is_terminal();
    let every = if terminal { TELL_TERMINAL } else { TELL_FILE };
    let mut last = (Duration::ZERO, Counts::default());
    while !run.is_over() {
        // A second signal also ends the wait for outstanding queries.
        if signals.wait(Some(LOOK))? == Some(Signal::Stop) {
            run.stop();
            interrupted = true;
        }
        let elapsed = run.elapsed();
        if !quiet && elapsed >= last.0 + every {
            let counts = run.counts();
            let line = report::text::progress(elapsed, &counts, last);
            if terminal {
                eprint!("\r{line}\x1b[K");
                io::stderr().flush()?;
            } else {
                eprintln!("{line}");
            }
            last = (elapsed, counts);
        }
    }
    if terminal && !quiet {
        eprint!("\r\x1b[K");
    }
    Ok(interrupted)
}

impl Arguments {
    fn load(&self) -> io::Result<Load> {
        let asked = self.seconds.map(length_of).transpose()?;
        let ends = self.asking.count.is_some() || self.asking.passes.is_some();
        let duration = asked.or_else(|| (!ends).then_some(LENGTH));
        if self.asking.pcap.is_some() {
            if !(self.speed.is_finite() && self.speed > 0.0) {
                return Err(invalid("--speed must be greater than 0"));
            }
            return Ok(Load::Replay(self.speed));
        }
        if let Some(outstanding) = self.closed {
            return Ok(Load::Closed { outstanding, duration });
        }
        let duration = match &self.rate {
            Shape::Steps(_) => asked,
            Shape::Ramp { .. } => Some(duration.unwrap_or(LENGTH)),
            Shape::Constant(_) => duration,
        };
        Ok(Load::Open(Plan { shape: self.rate.clone(), arrivals: self.arrivals.into(), duration }))
    }

    fn settings(&self, options: &Options) -> Vec<(&'static str, String)> {
        let servers: Vec<String> = self.server.iter().map(SocketAddr::to_string).collect();
        let mut settings = vec![("server", servers.join(", "))];
        settings.push(("schedule", describe(&options.load)));
        settings.extend(self.asking.settings());
        settings.push(("seed", options.seed.to_string()));
        settings
    }

    fn write(&self, outcome: &Outcome) -> io::Result<()> {
        let write = |path: &Option<PathBuf>, text: &dyn Fn() -> String| match path {
            Some(path) if path == Path::new("-") => io::stdout().write_all(text().as_bytes()),
            Some(path) => std::fs::write(path, text()).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            }),
            None => Ok(()),
        };
        let json_to_stdout = self.json.as_deref() == Some(Path::new("-"));
        if !json_to_stdout {
            print!("{}", report::text::outcome(outcome));
        }
        write(&self.json, &|| report::json::outcome(outcome))?;
        write(&self.html, &|| report::html::outcome(outcome))?;
        write(&self.hdr, &|| report::percentiles::outcome(&outcome.tally.latency))
    }
}

fn describe(load: &Load) -> String {
    let number = |rate: f64| grouped(rate.round() as u64);
    match load {
        Load::Replay(speed) => format!("the times of the capture, {speed} times as fast"),
        Load::Closed { outstanding, .. } => format!("a closed loop, {outstanding} outstanding"),
        Load::Open(plan) => {
            let shape = match &plan.shape {
                Shape::Constant(rate) => format!("{}/s", number(*rate)),
                Shape::Ramp { from, to } => format!("{}/s to {}/s", number(*from), number(*to)),
                Shape::Steps(steps) => {
                    let step = |(rate, length): &(f64, Duration)| {
                        format!("{}/s for {length:?}", number(*rate))
                    };
                    steps.iter().map(step).collect::<Vec<_>>().join(", ")
                }
            };
            let arrivals = match plan.arrivals {
                Arrivals::Even => "even",
                Arrivals::Poisson => "Poisson",
            };
            match plan.end() {
                Some(end) => format!("{shape}, {arrivals}, for {end:?}"),
                None => format!("{shape}, {arrivals}"),
            }
        }
    }
}

/// Parses a constant rate, a ramp, or steps.
fn shape(text: &str) -> Result<Shape, String> {
    if let Some((from, to)) = text.split_once("..") {
        return Ok(Shape::Ramp { from: units::rate(from)?, to: units::rate(to)? });
    }
    if !text.contains('x') {
        return units::rate(text).map(Shape::Constant);
    }
    let step = |word: &str| {
        let (rate, length) = word.split_once('x').ok_or_else(|| {
            format!(
                "invalid step `{word}`: expected RATExTIME \
                                                        such as 1000x5s"
            )
        })?;
        Ok((units::rate(rate)?, units::duration(length)?))
    };
    text.split(',').map(step).collect::<Result<_, String>>().map(Shape::Steps)
}

fn rcode(text: &str) -> Result<u8, String> {
    let code = Rcode::from_str(&text.to_ascii_uppercase());
    code.map(|code| code.to_int()).map_err(|_| format!("unknown response code `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::{rcode, shape};
    use onward::traffic::schedule::Shape;
    use std::time::Duration;

    #[test]
    fn rates_are_read_or_refused() {
        assert_eq!(shape("5k"), Ok(Shape::Constant(5_000.0)));
        assert_eq!(shape("1..2k"), Ok(Shape::Ramp { from: 1.0, to: 2_000.0 }));
        let second = Duration::from_secs(1);
        assert_eq!(
            shape("10x1s,20x2s"),
            Ok(Shape::Steps(vec![(10.0, second), (20.0, 2 * second)]))
        );
        for text in ["", "x", "1x", "1..", "10x1s,20", "0"] {
            assert!(shape(text).is_err(), "{text}");
        }
        assert_eq!((rcode("servfail"), rcode("x").is_err()), (Ok(2), true));
    }
}
