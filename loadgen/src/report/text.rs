//! A run as text: the progress line, and the tables at the end.
//!
//! Pure. Tables are those of [`onward::traffic::report`], so that the demonstration and this
//! program look alike.

use super::{Outcome, behind, rcode_name};
use hdrhistogram::Histogram;
use onward::traffic::report::{aligned, grouped, header, line, short};
use onward::traffic::tally::Counts;
use std::time::Duration;

/// Returns the progress line: values since the start, and since the `last` one.
pub fn progress(elapsed: Duration, counts: &Counts, last: (Duration, Counts)) -> String {
    let seconds = elapsed.saturating_sub(last.0).as_secs_f64().max(1e-9);
    let rate = |now: u64, then: u64| grouped(((now - then) as f64 / seconds).round() as u64);
    format!(
        "{:6.1} s   {:>9}/s sent   {:>9}/s answered   {} timed out   {} lost   {} wrong",
        elapsed.as_secs_f64(),
        rate(counts.sent, last.1.sent),
        rate(counts.answered, last.1.answered),
        grouped(counts.timed_out),
        grouped(counts.lost),
        grouped(counts.wrong)
    )
}

/// Returns all tables of a run.
pub fn outcome(outcome: &Outcome) -> String {
    let tally = &outcome.tally;
    let counts = &tally.counts;
    let answers = format!("{}/s", grouped(tally.rate_answered().round() as u64));
    let left = format!("{}/s", grouped(tally.rate_sent().round() as u64));
    let numbers = [counts.sent, counts.answered, counts.timed_out, counts.lost, counts.wrong];
    let counted = [
        header(["", "queries", "answers", "timed out", "lost", "wrong", "sent at", "answered at"]),
        line("client", numbers.map(grouped).into_iter().chain([left, answers])),
    ];
    let mut waited = vec![
        header(["", "p50", "p90", "p99", "p99.9", "max"]),
        line("latency", quantiles(&tally.latency)),
    ];
    if outcome.open {
        waited.push(line("lag", quantiles(&tally.lag)));
    }
    let numbers = [counts.mismatched, counts.duplicate, counts.late, counts.stray];
    let odd = [
        header(["", "mismatched", "duplicate", "late", "stray", "truncated", "ICMP, resets"]),
        line(
            "messages",
            numbers.into_iter().chain([counts.truncated, counts.refused]).map(grouped),
        ),
    ];
    let mut text = format!("{}\n{}\n{}\n", aligned(&counted), aligned(&waited), aligned(&odd));
    text.push_str(&rcodes(counts));
    if counts.connects > 0 {
        let (connects, again) = (grouped(counts.connects), grouped(counts.reconnects));
        text.push_str(&format!("  connections: {connects}, of which {again} reconnected\n"));
    }
    if counts.unfinished > 0 {
        let unfinished = grouped(counts.unfinished);
        text.push_str(&format!("  unanswered at the end: {unfinished}\n"));
    }
    if let (Some(server), Some(cost)) = (outcome.server, outcome.cost()) {
        let memory = server.memory_peak as f64 / f64::from(1 << 20);
        text.push_str(&format!(
            "  server: {:.2} µs of CPU time per answer, {memory:.1} MiB peak memory\n",
            cost * 1e6
        ));
    }
    if outcome.open && counts.behind + counts.unsent > 0 {
        text.push_str(&format!("  {}\n", behind(outcome)));
    }
    text
}

fn rcodes(counts: &Counts) -> String {
    let share = |count: u64| 100.0 * count as f64 / counts.answered.max(1) as f64;
    let codes = counts.rcodes.iter().zip(0u8..).filter(|(count, _)| **count > 0);
    let codes: Vec<String> = codes
        .map(|(&count, code)| {
            format!("{} {} ({:.2} %)", rcode_name(code), grouped(count), share(count))
        })
        .collect();
    if codes.is_empty() { String::new() } else { format!("  {}\n", codes.join(", ")) }
}

/// Returns the quantiles in tables.
fn quantiles(histogram: &Histogram<u64>) -> impl Iterator<Item = String> {
    let at = |quantile| histogram.value_at_quantile(quantile);
    let values = [at(0.5), at(0.9), at(0.99), at(0.999), histogram.max()];
    let none = histogram.is_empty();
    values.into_iter().map(move |nanos| if none { "-".into() } else { short(nanos) })
}

#[cfg(test)]
mod tests {
    use super::{outcome, progress};
    use crate::process::Usage;
    use crate::report::tests::{agrees, sample};
    use onward::traffic::tally::Counts;
    use std::time::Duration;

    #[test]
    fn the_tables_are_as_agreed() {
        agrees("outcome.txt", &outcome(&sample()));
    }

    #[test]
    fn faults_are_printed_below_the_tables() {
        let mut told = sample();
        let counts = &mut told.tally.counts;
        (counts.connects, counts.reconnects, counts.unfinished) = (3, 1, 2);
        (counts.behind, counts.unsent) = (4, 5);
        let processor = Duration::from_micros(19_920);
        told.server = Some(Usage { processor, memory_peak: 3 << 19 });
        let text = outcome(&told);
        assert!(text.contains("  connections: 3, of which 1 reconnected\n"), "{text}");
        assert!(text.contains("  unanswered at the end: 2\n"), "{text}");
        assert!(text.contains("of 2,005 queries, 4 were sent more than 1 ms late"), "{text}");
        let server = "  server: 10.00 µs of CPU time per answer, 1.5 MiB peak memory\n";
        assert!(text.contains(server), "{text}");
        told.open = false;
        assert!(!outcome(&told).contains("lag"), "a closed loop has no schedule");
    }

    #[test]
    fn progress_is_that_of_the_last_stretch() {
        let then = Counts { sent: 1_000, answered: 900, ..Counts::default() };
        let now = Counts { sent: 3_000, answered: 2_800, timed_out: 7, ..Counts::default() };
        let seconds = Duration::from_secs;
        let line = progress(seconds(3), &now, (seconds(2), then));
        let expected =
            "   3.0 s       2,000/s sent       1,900/s answered   7 timed out   0 lost   0 wrong";
        assert_eq!(line, expected);
    }
}
