//! Reports of a run, for people and machines.
//!
//! An [`Outcome`] has all reported facts of a run; [`text`] prints it for a terminal, [`json`] for
//! programs, [`percentiles`] as an HDR percentile file, [`html`] as a page with plots. [`faults`]
//! is the one place that decides whether a run succeeded. All pure: the same outcome makes the same
//! report.

pub mod html;
pub mod json;
pub mod percentiles;
pub(crate) mod plot;
pub mod text;
pub mod upstream;

use crate::process::Usage;
use domain::base::iana::Rcode;
use onward::traffic::report::grouped;
use onward::traffic::tally::{LATE, Tally};

/// Maximum share of late queries: with more, a run has not followed its schedule and fails. The
/// report also has smaller shares, which a busy host causes.
const BEHIND_SHARE_MAX: f64 = 0.05;

/// A finished run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Settings of the run: a name and a value each.
    pub settings: Vec<(&'static str, String)>,
    /// Queries were sent on a schedule (open loop), independent of answers.
    pub open: bool,
    /// Number of scheduled queries, if the loop was open and had an end.
    pub planned: Option<u64>,
    /// The run was interrupted.
    pub interrupted: bool,
    /// Allowed share of queries without a good answer.
    pub loss_allowed: f64,
    /// Response codes of good answers.
    pub rcodes_good: Vec<u8>,
    /// Counters.
    pub tally: Tally,
    /// Resources of the server, if its processes are known: CPU time during the run, and peak
    /// memory since their start.
    pub server: Option<Usage>,
}

impl Outcome {
    /// Returns the number of answers with a bad response code.
    pub fn refused(&self) -> u64 {
        let codes = self.tally.counts.rcodes.iter().zip(0u8..);
        codes.filter(|(_, code)| !self.rcodes_good.contains(code)).map(|(count, _)| count).sum()
    }

    /// Returns the processor time of the server for each answer, in seconds, if it is known.
    pub fn cost(&self) -> Option<f64> {
        let answered = self.tally.counts.answered;
        let server = self.server.filter(|_| answered > 0)?;
        Some(server.processor.as_secs_f64() / answered as f64)
    }

    /// Returns the share of due queries that were sent more than [`LATE`] late or never.
    pub fn behind(&self) -> f64 {
        let counts = &self.tally.counts;
        let due = counts.sent + counts.unsent;
        if due == 0 { 0.0 } else { (counts.behind + counts.unsent) as f64 / due as f64 }
    }
}

/// Returns the reasons why the run failed, a sentence each; none if it succeeded.
pub fn faults(outcome: &Outcome) -> Vec<String> {
    let counts = &outcome.tally.counts;
    let mut faults = Vec::new();
    if outcome.interrupted {
        faults.push("The run was interrupted.".to_owned());
    }
    if counts.sent == 0 {
        faults.push("No query was sent.".to_owned());
        return faults;
    }
    if counts.answered == 0 && counts.refused > 0 {
        faults.push("No query was answered: no server listens at this address.".to_owned());
        return faults;
    }
    let bad = counts.failed() + outcome.refused();
    if bad as f64 > outcome.loss_allowed * counts.sent as f64 || counts.answered == 0 {
        let numbers = [counts.sent, counts.timed_out, counts.lost, counts.wrong, outcome.refused()];
        let [sent, timed_out, lost, wrong, refused] = numbers.map(grouped);
        faults.push(format!(
            "Of {sent} queries, {timed_out} timed out, {lost} were lost with their connection, \
             {wrong} got a wrong answer and {refused} a bad response code."
        ));
    }
    let strange = counts.mismatched + counts.stray;
    if strange > 0 {
        let (mismatched, stray) = (grouped(counts.mismatched), grouped(counts.stray));
        faults.push(format!(
            "{mismatched} messages had the ID of a query but another question, and {stray} \
             matched no query."
        ));
    }
    if outcome.open && (counts.unsent > 0 || outcome.behind() > BEHIND_SHARE_MAX) {
        faults.push(behind(outcome));
    }
    faults
}

/// Returns a sentence about the lag of the run behind its schedule.
pub fn behind(outcome: &Outcome) -> String {
    let counts = &outcome.tally.counts;
    let [due, behind, unsent] =
        [counts.sent + counts.unsent, counts.behind, counts.unsent].map(grouped);
    let worst = onward::traffic::report::short(outcome.tally.lag.max());
    let late = LATE.as_millis();
    format!(
        "The client fell behind its schedule: of {due} queries, {behind} were sent more than \
         {late} ms late (worst {worst}) and {unsent} were not sent."
    )
}

/// Returns the name of a response code.
pub fn rcode_name(code: u8) -> String {
    Rcode::checked_from_int(code).map_or_else(|| format!("RCODE{code}"), |rcode| rcode.to_string())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Outcome, faults};
    use onward::moment::Moment;
    use onward::traffic::ledger::{Answer, Verdict};
    use onward::traffic::tally::Tally;
    use std::path::Path;
    use std::time::Duration;

    /// Compares a report with its golden file in `loadgen/tests/golden`. With `GOLDEN=write` in the
    /// environment it replaces the file: review the difference.
    pub(crate) fn agrees(file: &str, report: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
        if std::env::var_os("GOLDEN").is_some_and(|value| value == "write") {
            std::fs::write(&path, report).unwrap();
        }
        let agreed = std::fs::read_to_string(&path).unwrap();
        assert!(agreed == report, "{file} would now be:\n{report}");
    }

    /// A simple run: a query per millisecond for two seconds, answered after 200 µs and more,
    /// except that the server stalls after the first second for 300 ms and then answers all at
    /// once, and that every 250th query is lost.
    pub(crate) fn sample() -> Outcome {
        let mut tally = Tally::new(Duration::from_millis(50), Duration::from_secs(2));
        for number in 0..2_000u64 {
            let intended = Moment::from_nanos(number * 1_000_000);
            let sent = intended.plus(Duration::from_nanos(7_000 + number % 13 * 500));
            tally.note_sent(intended, sent, 1, 65);
            if number % 250 == 249 {
                tally.note_timed_out(intended);
                continue;
            }
            let done = match number {
                1_000..1_300 => Moment::from_nanos(1_300_000_000),
                _ => sent.plus(Duration::from_micros(200 + number * number % 401)),
            };
            let rcode = if number % 10 == 0 { 3 } else { 0 };
            let answer = Answer { intended, sent, rcode, truncated: false };
            tally.note_message(Verdict::Answered(answer), done, 81);
        }
        tally.note_message(Verdict::Duplicate, Moment::from_nanos(5), 81);
        tally.note_message(Verdict::Late, Moment::from_nanos(5), 81);
        Outcome {
            settings: vec![
                ("server", "127.0.0.1:5300".into()),
                ("schedule", "1,000/s, even, for 2 s".into()),
            ],
            open: true,
            planned: Some(2_000),
            interrupted: false,
            loss_allowed: 0.0,
            rcodes_good: vec![0, 3],
            tally,
            server: None,
        }
    }

    #[test]
    fn a_run_succeeds_or_has_reasons() {
        let told = |change: fn(&mut Outcome)| {
            let mut outcome = sample();
            outcome.tally.counts.timed_out = 0;
            change(&mut outcome);
            faults(&outcome).join(" ")
        };
        assert_eq!(told(|_| {}), "");
        type Change = fn(&mut Outcome);
        let cases: [(Change, &str); 9] = [
            (|o| o.interrupted = true, "The run was interrupted."),
            (|o| o.tally.counts.sent = 0, "No query was sent."),
            (|o| o.tally.counts.timed_out = 3, "Of 2,000 queries, 3 timed out"),
            (|o| o.tally.counts.lost = 3, "Of 2,000 queries, 0 timed out, 3 were lost"),
            (|o| o.rcodes_good = vec![0], "200 a bad response code."),
            (
                |o| o.tally.counts.mismatched = 1,
                "1 messages had the ID of a query but another question",
            ),
            (|o| o.tally.counts.unsent = 1, "of 2,001 queries, 0 were sent more than 1 ms late"),
            (|o| o.tally.counts.behind = 101, "101 were sent more than 1 ms late (worst 13 µs)"),
            (
                |o| (o.tally.counts.answered, o.tally.counts.refused) = (0, 1),
                "No query was answered: no server listens at this address.",
            ),
        ];
        for (change, sentence) in cases {
            let found = told(change);
            assert!(found.contains(sentence), "{sentence:?} is not in {found:?}");
        }
        assert_eq!(told(|o| (o.tally.counts.behind, o.open) = (2_000, false)), "");
        assert_eq!(told(|o| (o.tally.counts.lost, o.loss_allowed) = (20, 0.01)), "");
    }
}
