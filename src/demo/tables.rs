//! Counters of client and upstreams, as text.
//!
//! Pure: the tables of the report, the failure in a sentence, and the progress line of a run.

use crate::traffic::report::{aligned, grouped, header, line, short};
use crate::traffic::tally::{Counts, Tally};
use crate::traffic::upstream::live::SoFar;
use std::net::SocketAddr;
use std::time::Duration;

/// Returns a client's outcome: one table of counts and one of latencies.
pub(super) fn summary(tally: &Tally) -> String {
    let counts = &tally.counts;
    let rate = format!("{}/s", grouped(tally.rate_answered().round() as u64));
    let late = counts.late + counts.duplicate + counts.stray + counts.mismatched;
    let numbers = [counts.sent, counts.answered, unanswered(counts), counts.wrong, late];
    let counted = [
        header(["", "queries", "answers", "lost", "wrong", "late", "rate"]),
        line("client", numbers.map(grouped).into_iter().chain([rate])),
    ];
    let latency = &tally.latency;
    let quantiles = [0.5, 0.9, 0.99, 0.999].map(|quantile| latency.value_at_quantile(quantile));
    let waited_for = |nanos| if latency.is_empty() { "-".into() } else { short(nanos) };
    let waited = [
        header(["", "p50", "p90", "p99", "p99.9", "max"]),
        line("latency", quantiles.into_iter().chain([latency.max()]).map(waited_for)),
    ];
    format!("{}\n{}", aligned(&counted), aligned(&waited))
}

/// Returns the number of queries without a response.
fn unanswered(counts: &Counts) -> u64 {
    counts.failed() - counts.wrong
}

/// Returns the failure in a sentence; `None` if every query got its right answer.
pub(super) fn fault(counts: &Counts) -> Option<String> {
    if counts.answered == 0 && counts.refused > 0 {
        return Some("No query got the right answer: no server listens at the address.".into());
    }
    if counts.answered == 0 {
        return Some("No query got the right answer.".into());
    }
    (counts.failed() > 0).then(|| {
        let [sent, lost, wrong] = [counts.sent, unanswered(counts), counts.wrong].map(grouped);
        format!("Of {sent} queries, {lost} got no answer and {wrong} a wrong one.")
    })
}

/// Returns the table of the upstreams' counters.
pub(super) fn services(addresses: &[SocketAddr], counts: &[SoFar]) -> String {
    let mut rows =
        vec![header(["upstream", "queries", "responses", "source ports", "connections"])];
    rows.extend(addresses.iter().zip(counts).map(|(address, counts)| {
        let SoFar { queries, responses, ports, connections, .. } = *counts;
        line(address, [queries, responses, ports, connections].map(grouped))
    }));
    aligned(&rows)
}

/// Returns the progress line; as long as the one before unless a number outgrows its column.
pub(super) fn progress(elapsed: Duration, counts: &Counts) -> String {
    let seconds = elapsed.as_secs_f64();
    let rate = if seconds > 0.0 { counts.answered as f64 / seconds } else { 0.0 };
    format!(
        "  {seconds:5.1} s   {:>11} answers   {:>9}/s   {} lost   {} wrong",
        grouped(counts.answered),
        grouped(rate.round() as u64),
        grouped(unanswered(counts)),
        grouped(counts.wrong)
    )
}

#[cfg(test)]
mod tests {
    use super::{fault, progress, services, summary};
    use crate::moment::Moment;
    use crate::traffic::tally::{Counts, Tally};
    use crate::traffic::upstream::live::SoFar;
    use std::time::Duration;

    fn tally(counts: Counts) -> Tally {
        let mut tally = Tally::new(Duration::from_secs(1), Duration::from_secs(5));
        tally.counts = counts;
        tally.sending = Some((Moment::ZERO, Moment::ZERO));
        tally.last_response = Moment::ZERO.plus(Duration::from_secs(5));
        tally
    }

    #[test]
    fn a_summary_says_what_was_counted() {
        let counts = Counts { sent: 1_234_567, answered: 1_234_567, late: 1, ..Counts::default() };
        let mut tally = tally(counts);
        for nanos in [250_000, 300_000, 1_500_000] {
            tally.latency.record(nanos).unwrap();
        }
        let expected = "             \
       queries     answers   lost   wrong   late        rate
  client   1,234,567   1,234,567      0       0      1   246,913/s

               p50       p90       p99     p99.9       max
  latency   300 µs   1.50 ms   1.50 ms   1.50 ms   1.50 ms
";
        assert_eq!(summary(&tally), expected);
    }

    #[test]
    fn a_loss_or_a_wrong_answer_is_a_fault_and_so_is_silence() {
        let mut counts = Counts { sent: 1_000, answered: 1_000, late: 1, ..Counts::default() };
        assert_eq!(fault(&counts), None);
        (counts.answered, counts.timed_out, counts.lost) = (998, 1, 1);
        let sentence = "Of 1,000 queries, 2 got no answer and 0 a wrong one.";
        assert_eq!(fault(&counts).unwrap(), sentence);
        counts.answered = 0;
        assert_eq!(fault(&counts).unwrap(), "No query got the right answer.");
        counts.refused = 1;
        assert!(fault(&counts).unwrap().ends_with("no server listens at the address."));
        assert!(summary(&tally(counts)).ends_with("  latency     -     -     -       -     -\n"));
    }

    #[test]
    fn upstreams_have_a_row_each() {
        let address = "127.0.0.1:5301".parse().unwrap();
        let seen = SoFar { queries: 9, responses: 8, ports: 4, connections: 2, flows: 6 };
        let expected = "  \
  upstream         queries   responses   source ports   connections
  127.0.0.1:5301         9           8              4             2
"
        .trim_start();
        assert_eq!(services(&[address], &[seen]).trim_start(), expected);
    }

    #[test]
    fn progress_is_one_line() {
        let counts = Counts { answered: 2_100, lost: 1, ..Counts::default() };
        let line = "    2.1 s         2,100 answers       1,000/s   1 lost   0 wrong";
        assert_eq!(progress(Duration::from_millis(2_100), &counts), line);
    }
}
