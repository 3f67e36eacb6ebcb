//! Latencies as an HDR percentile file.
//!
//! The format of HdrHistogram's own tools: value in milliseconds, percentile, cumulative count, and
//! 1/(1-percentile). Pure.

use hdrhistogram::Histogram;
use std::fmt::Write;

/// Rows for each halving of the distance to 100 %.
const TICKS: u32 = 5;

/// Returns the file's text for latencies in nanoseconds.
pub fn outcome(latency: &Histogram<u64>) -> String {
    let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let mut total = 0;
    for step in latency.iter_quantiles(TICKS) {
        total += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to(), step.quantile_iterated_to());
        let left =
            if quantile < 1.0 { format!("{:14.2}", 1.0 / (1.0 - quantile)) } else { String::new() };
        let row = format!("{:12.6} {quantile:14.12} {total:10} {left}", value as f64 / 1e6);
        writeln!(text, "{}", row.trim_end()).expect("a string takes all");
    }
    let (mean, deviation) = (latency.mean() / 1e6, latency.stdev() / 1e6);
    let (max, count) = (latency.max() as f64 / 1e6, latency.len());
    let sub = 2usize.pow(u32::from(latency.sigfig()) * 10 / 3 + 1);
    let buckets = latency.buckets();
    let _ = write!(
        text,
        "#[Mean    = {mean:12.6}, StdDeviation   = {deviation:12.6}]\n\
         #[Max     = {max:12.6}, Total count    = {count:12}]\n\
         #[Buckets = {buckets:12}, SubBuckets     = {sub:12}]\n"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::outcome;
    use crate::report::tests::{agrees, sample};

    #[test]
    fn the_file_equals_the_stored_one() {
        let text = outcome(&sample().tally.latency);
        agrees("outcome.hdr", &text);
    }

    #[test]
    fn an_empty_histogram_has_a_file() {
        let text = outcome(&hdrhistogram::Histogram::new(3).unwrap());
        assert!(text.contains("Total count    =            0"), "{text}");
    }
}
