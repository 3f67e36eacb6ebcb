//! A run as JSON.
//!
//! One object: settings, counts, rates in queries per second, latencies and lags in seconds, and
//! the run by time. Names are those of [`onward::traffic::tally`]; new ones may be added, none
//! changes its meaning. Pure.

use super::{Outcome, faults, rcode_name};
use hdrhistogram::Histogram;
use onward::traffic::tally::Counts;
use serde_json::{Map, Value, json};

/// Returns the run as an object, with a line break at its end.
pub fn outcome(outcome: &Outcome) -> String {
    let tally = &outcome.tally;
    let settings: Map<String, Value> =
        outcome.settings.iter().map(|(name, value)| ((*name).into(), json!(value))).collect();
    let width = tally.series.width.as_secs_f64();
    let stretches = tally.series.stretches.iter().enumerate().map(|(number, stretch)| {
        let at = |quantile| stretch.latency.value_at_quantile(quantile) as f64 / 1e6;
        let told = !stretch.latency.is_empty();
        json!({
            "start": rounded(number as f64 * width),
            "sent": stretch.sent,
            "answered": stretch.answered,
            "failed": stretch.failed,
            "latency_p50": told.then(|| at(0.5)),
            "latency_p99": told.then(|| at(0.99)),
            "over_100ms": stretch.latency.count_between(100_001, u64::MAX),
            "latency_max": told.then(|| stretch.latency.max() as f64 / 1e6),
        })
    });
    let value = json!({
        "settings": settings,
        "open_loop": outcome.open,
        "planned": outcome.planned,
        "interrupted": outcome.interrupted,
        "faults": faults(outcome),
        "counts": counts(&tally.counts),
        "elapsed": rounded(tally.elapsed().as_secs_f64()),
        "rate_sent": rounded(tally.rate_sent()),
        "rate_answered": rounded(tally.rate_answered()),
        "latency": quantiles(&tally.latency),
        "server": outcome.server.map(|server| json!({
            "processor": rounded(server.processor.as_secs_f64()),
            "processor_per_answer": outcome.cost().map(rounded_to_picos),
            "memory_peak": server.memory_peak,
        })),
        "lag": outcome.open.then(|| quantiles(&tally.lag)),
        "stretch": width,
        "series": stretches.collect::<Vec<_>>(),
    });
    format!("{value:#}\n")
}

/// Returns the counts as an object.
pub fn counts(counts: &Counts) -> Value {
    let codes = counts.rcodes.iter().zip(0u8..).filter(|(count, _)| **count > 0);
    let rcodes: Map<String, Value> =
        codes.map(|(count, code)| (rcode_name(code), json!(count))).collect();
    json!({
        "sent": counts.sent,
        "answered": counts.answered,
        "wrong": counts.wrong,
        "timed_out": counts.timed_out,
        "lost": counts.lost,
        "unfinished": counts.unfinished,
        "unsent": counts.unsent,
        "mismatched": counts.mismatched,
        "duplicate": counts.duplicate,
        "late": counts.late,
        "stray": counts.stray,
        "truncated": counts.truncated,
        "behind": counts.behind,
        "refused": counts.refused,
        "connects": counts.connects,
        "reconnects": counts.reconnects,
        "bytes_sent": counts.bytes_sent,
        "bytes_received": counts.bytes_received,
        "rcodes": rcodes,
    })
}

/// Returns quantiles in seconds; null if nothing was recorded.
pub fn quantiles(histogram: &Histogram<u64>) -> Value {
    if histogram.is_empty() {
        return Value::Null;
    }
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e9;
    json!({
        "min": histogram.min() as f64 / 1e9,
        "mean": rounded(histogram.mean() / 1e9),
        "p50": at(0.5),
        "p90": at(0.9),
        "p99": at(0.99),
        "p99.9": at(0.999),
        "p99.99": at(0.9999),
        "max": histogram.max() as f64 / 1e9,
    })
}

/// Rounds to picoseconds, for values of few nanoseconds.
fn rounded_to_picos(value: f64) -> f64 {
    (value * 1e12).round() / 1e12
}

/// Rounds to nanoseconds: further digits are noise of the arithmetic.
fn rounded(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

#[cfg(test)]
mod tests {
    use super::outcome;
    use crate::report::tests::{agrees, sample};

    #[test]
    fn the_object_is_as_agreed() {
        agrees("outcome.json", &outcome(&sample()));
    }
}
