//! `loadgen find-max`: the highest rate that a server sustains within limits.
//!
//! The command runs the trials proposed by [`crate::search`] and prints each; it decides nothing.

use super::asking::{Asking, server};
use super::run::{length_of, next_run};
use super::{exit_code, invalid};
use crate::report::json;
use crate::search::{Found, Limits, Search, Verdict};
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
The rate is doubled until a limit is exceeded, then narrowed down. The best rate is confirmed by
repeated trials, all of which must pass. If the client cannot keep its schedule, the report says so:
the server may sustain more.

Examples:
  loadgen find-max --server 192.0.2.1 --p99-max 5ms
  loadgen find-max --server 192.0.2.1 --loss-max 0.1% --seconds 10 --repeats 10 --cores 2,3";

/// Options of `loadgen find-max`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Server addresses; sockets use them in turn
    #[arg(long, value_name = "ADDR", num_args = 1.., required = true, value_parser = server)]
    server: Vec<SocketAddr>,
    /// Maximum share of queries without a good answer
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = units::share)]
    loss_max: f64,
    /// Maximum of the 99th percentile of latency
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    p99_max: Option<Duration>,
    /// First rate to try
    #[arg(long, value_name = "RATE", default_value = "1000", value_parser = units::rate)]
    from: f64,
    /// Highest rate to try
    #[arg(long, value_name = "RATE", default_value = "1M", value_parser = units::rate)]
    to: f64,
    /// Precision of the result
    #[arg(long, value_name = "SHARE", default_value = "2%", value_parser = units::share)]
    precision: f64,
    /// Number of trials that must confirm the result
    #[arg(long, value_name = "N", default_value_t = 5)]
    repeats: u32,
    /// Duration of a trial
    #[arg(long, value_name = "N", default_value_t = 3.0)]
    seconds: f64,
    #[command(flatten)]
    asking: Asking,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Searches, prints each trial, and reports.
pub(super) fn main(arguments: &Arguments) -> io::Result<ExitCode> {
    let signals = Signals::block()?;
    let length = length_of(arguments.seconds)?;
    if length.is_zero() || arguments.precision <= 0.0 {
        return Err(invalid("--seconds and --precision must be greater than 0"));
    }
    let limits = Limits { loss_max: arguments.loss_max, p99_max: arguments.p99_max };
    let mut search =
        Search::new(arguments.from, arguments.to, arguments.precision, arguments.repeats);
    let mut trials = Vec::new();
    let plan = |rate| Load::Open(Plan::constant(rate, length));
    let mut options = arguments.asking.options(&arguments.server, plan(arguments.from))?;
    while let Some(rate) = search.next() {
        options.load = plan(rate);
        let Some(tally) = next_run(&mut options, &signals)? else {
            return Ok(exit_code(&["The run was interrupted.".into()]));
        };
        let refused =
            tally.counts.rcodes.iter().enumerate().filter(|(code, _)| ![0, 3].contains(code));
        let verdict = limits.judge(&tally, refused.map(|(_, count)| count).sum());
        eprintln!("{}", trial(rate, &tally, verdict));
        trials.push(json!({
            "rate": rate,
            "verdict": reason(verdict),
            "counts": json::counts(&tally.counts),
            "latency": json::quantiles(&tally.latency),
        }));
        search.note(verdict);
    }
    let found = search.found();
    if arguments.json {
        print!("{}", object(found, &trials));
    } else {
        print!("{}", text(found));
    }
    let faults = found.is_none().then(|| "No rate passed.".to_owned());
    Ok(exit_code(&Vec::from_iter(faults)))
}

/// Formats the line about a trial.
fn trial(rate: f64, tally: &onward::traffic::tally::Tally, verdict: Verdict) -> String {
    let counts = &tally.counts;
    format!(
        "  {:>9}/s   {:>9} answers   {:>6} lost   p99 {:>9}   {}",
        grouped(rate.round() as u64),
        grouped(counts.answered),
        grouped(counts.failed() + counts.unsent),
        short(tally.latency.value_at_quantile(0.99)),
        reason(verdict)
    )
}

fn reason(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Held => "passed",
        Verdict::Lost => "too many lost",
        Verdict::Slow => "latency too high",
        Verdict::Behind => "client too slow",
    }
}

fn text(found: Option<Found>) -> String {
    let Some(found) = found else { return String::new() };
    let rate = |rate: f64| format!("{}/s", grouped(rate as u64));
    let failed = found.failed.map_or("none tried".into(), |(failed, _)| rate(failed));
    let mut text = aligned(&[
        header(["", "passed", "trials", "failed"]),
        line("highest rate", [rate(found.rate), found.repeats.to_string(), failed]),
    ]);
    let probability = found.probability_min() * 100.0;
    text.push_str(&format!(
        "  With 95 % confidence, at least {probability:.0} % of such runs pass.\n"
    ));
    if let Some((_, Verdict::Behind)) = found.failed {
        text.push_str("  The client was too slow for higher rates: the server may sustain more.\n");
    }
    text
}

fn object(found: Option<Found>, trials: &[Value]) -> String {
    let found = found.map(|found| {
        json!({
            "rate": found.rate,
            "repeats": found.repeats,
            "probability_min": found.probability_min(),
            "failed_rate": found.failed.map(|(rate, _)| rate),
            "failed_because": found.failed.map(|(_, verdict)| reason(verdict)),
        })
    });
    format!("{:#}\n", json!({ "found": found, "trials": trials }))
}

#[cfg(test)]
mod tests {
    use super::{object, text};
    use crate::search::{Found, Verdict};

    #[test]
    fn the_result_has_its_confidence() {
        let found = Found { rate: 12_345.6, failed: Some((12_500.0, Verdict::Behind)), repeats: 5 };
        let expected = "                   passed   trials     failed\n  \
                        highest rate   12,345/s        5   12,500/s\n  \
                        With 95 % confidence, at least 55 % of such runs pass.\n  \
                        The client was too slow for higher rates: the server may sustain more.\n";
        assert_eq!(text(Some(found)), expected);
        assert!(object(Some(found), &[]).contains("\"failed_because\": \"client too slow"));
        assert_eq!(text(None), "");
    }
}
