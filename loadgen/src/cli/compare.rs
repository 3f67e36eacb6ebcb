//! `loadgen compare`: two servers, measured in turn.
//!
//! The command runs the rounds and prints the comparison of [`crate::compare`].

use super::asking::{Asking, server};
use super::run::{length_of, next_run};
use super::{exit_code, invalid};
use crate::compare::{Comparison, Figures, compare};
use crate::process::processor_time;
use crate::stats::Interval;
use crate::units;
use clap::Args;
use onward::sys::signals::Signals;
use onward::traffic::client::Load;
use onward::traffic::report::{aligned, grouped, header, line, short};
use onward::traffic::schedule::Plan;
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

const EXAMPLES: &str = "\
Rounds alternate (A B A B). Each pair of rounds gives a ratio; the report shows the mean ratio and
its 95 % confidence interval. If the interval contains 1, no difference was measured: use more
rounds.

Examples:
  loadgen compare --a 127.0.0.1:5300 --b 127.0.0.1:5301 --rate 5000 --rounds 20
  loadgen compare --a 127.0.0.1:5300 --b 127.0.0.1:5301 --closed 256 --a-pid 4711 --b-pid 4712
      With the CPU time per answer of each server.";

/// Options of `loadgen compare`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Address of the first server
    #[arg(long, value_name = "ADDR", value_parser = server)]
    a: SocketAddr,
    /// Address of the second server
    #[arg(long, value_name = "ADDR", value_parser = server)]
    b: SocketAddr,
    /// Queries per second
    #[arg(long, value_name = "RATE", default_value = "1000", value_parser = units::rate,
          conflicts_with = "closed")]
    rate: f64,
    /// Closed loop: number of outstanding queries, instead of a rate
    #[arg(long, value_name = "N")]
    closed: Option<usize>,
    /// Number of rounds per server
    #[arg(long, value_name = "N", default_value_t = 10)]
    rounds: usize,
    /// Duration of a round
    #[arg(long, value_name = "N", default_value_t = 2.0)]
    seconds: f64,
    /// Process IDs of the first server, to read their CPU time
    #[arg(long, value_name = "PID", num_args = 1..)]
    a_pid: Vec<u32>,
    /// Process IDs of the second server
    #[arg(long, value_name = "PID", num_args = 1..)]
    b_pid: Vec<u32>,
    #[command(flatten)]
    asking: Asking,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Measures both in turn and reports.
pub(super) fn main(arguments: &Arguments) -> io::Result<ExitCode> {
    let signals = Signals::block()?;
    let length = length_of(arguments.seconds)?;
    if arguments.rounds < 2 {
        return Err(invalid("--rounds must be at least 2: one round has no variance"));
    }
    let load = match arguments.closed {
        Some(outstanding) => Load::Closed { outstanding, duration: Some(length) },
        None => Load::Open(Plan::constant(arguments.rate, length)),
    };
    let mut options = arguments.asking.options(&[arguments.a], load)?;
    let mut rounds = Vec::with_capacity(arguments.rounds);
    let mut answered = true;
    for number in 1..=arguments.rounds {
        let mut pair = Vec::with_capacity(2);
        for (target, pids) in [(arguments.a, &arguments.a_pid), (arguments.b, &arguments.b_pid)] {
            options.targets = vec![target];
            let before = used(pids)?;
            let Some(tally) = next_run(&mut options, &signals)? else {
                return Ok(exit_code(&["The run was interrupted.".into()]));
            };
            answered &= tally.counts.answered > 0;
            let cpu = used(pids)?.zip(before).map(|(after, before)| after.saturating_sub(before));
            pair.push(Figures::of(&tally, cpu));
        }
        eprintln!("  round {number} of {}", arguments.rounds);
        rounds.push((pair[0], pair[1]));
    }
    let comparisons = compare(&rounds);
    if arguments.json {
        print!("{}", object(&comparisons, &rounds));
    } else {
        print!("{}", text(&comparisons));
    }
    let faults = (!answered).then(|| "A server did not answer any query in a round.".to_owned());
    Ok(exit_code(&Vec::from_iter(faults)))
}

/// Returns the processor time of some processes, if there are any.
fn used(pids: &[u32]) -> io::Result<Option<Duration>> {
    if pids.is_empty() {
        return Ok(None);
    }
    pids.iter().map(|&pid| processor_time(pid)).sum::<io::Result<Duration>>().map(Some)
}

fn text(comparisons: &[Comparison]) -> String {
    let mut rows = vec![header(["", "A", "B", "B / A", "95 % interval", ""])];
    for Comparison { name, a, b, ratio } in comparisons {
        let show = |value: f64| match *name {
            "answers per second" => grouped(value.round() as u64),
            "loss" => format!("{:.3} %", value * 100.0),
            _ => nanos((value * 1e9).round() as u64),
        };
        let (mean, interval, verdict) = match ratio {
            None => ("-".into(), "-".into(), ""),
            Some(Interval { low, mean, high }) => {
                let verdict = match () {
                    () if *low > 1.0 => "B is higher",
                    () if *high < 1.0 => "B is lower",
                    () => "no measurable difference",
                };
                (format!("{mean:.3}"), format!("{low:.3} … {high:.3}"), verdict)
            }
        };
        rows.push(line(name, [show(*a), show(*b), mean, interval, verdict.into()]));
    }
    aligned(&rows)
}

/// Formats nanoseconds with enough digits for a few microseconds.
fn nanos(nanos: u64) -> String {
    if nanos < 100_000 { format!("{:.2} µs", nanos as f64 / 1e3) } else { short(nanos) }
}

fn object(comparisons: &[Comparison], rounds: &[(Figures, Figures)]) -> String {
    let figures = |figures: &Figures| {
        json!({
            "rate": figures.rate,
            "p50": figures.p50,
            "p99": figures.p99,
            "loss": figures.loss,
            "cpu": figures.cpu,
        })
    };
    let compared = comparisons.iter().map(|Comparison { name, a, b, ratio }| {
        let ratio = ratio
            .map(|Interval { low, mean, high }| json!({ "mean": mean, "low": low, "high": high }));
        json!({ "name": name, "a": a, "b": b, "ratio": ratio })
    });
    let rounds = rounds.iter().map(|(a, b)| json!({ "a": figures(a), "b": figures(b) }));
    let value = json!({
        "figures": compared.collect::<Vec<Value>>(),
        "rounds": rounds.collect::<Vec<Value>>(),
    });
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::{object, text};
    use crate::compare::{Figures, compare};

    #[test]
    fn the_table_names_the_larger_value() {
        let figures = |rate, cpu| Figures { rate, p50: 1e-3, p99: 2e-3, loss: 0.0, cpu: Some(cpu) };
        let rounds = [
            (figures(100.0, 1e-5), figures(200.0, 1e-5)),
            (figures(100.0, 1e-5), figures(201.0, 1e-5)),
        ];
        let table = text(&compare(&rounds));
        let row = |name: &str| table.lines().find(|line| line.contains(name)).unwrap();
        assert!(
            row("answers").ends_with("B is higher") && row("answers").contains("2.005"),
            "{table}"
        );
        assert!(row("CPU").contains("10.00 µs"), "{table}");
        assert!(row("median").ends_with("no measurable difference"), "{table}");
        assert!(object(&compare(&rounds), &rounds).contains("\"name\": \"loss\""));
    }
}
