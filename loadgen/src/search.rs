//! The search for the highest rate that a server sustains.
//!
//! A [`Search`] proposes the next rate and gets the result. It doubles the rate until one fails,
//! halves the interval (on a logarithmic scale) down to the requested precision, and then repeats
//! the best rate: a rate counts only if every repeat holds, and one that fails lowers the rate by a
//! step. Pure: the caller runs the trials, so tests use made-up servers.

use onward::traffic::tally::Tally;
use std::time::Duration;

/// Minimum rate of the search.
const RATE_MIN: f64 = 1.0;
/// Factor by which a failed repeat lowers the rate.
const STEP_DOWN: f64 = 0.95;
/// Maximum share of late queries: with more, a trial measures the client and not the server.
const BEHIND_SHARE_MAX: f64 = 0.05;

/// Limits of a rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Maximum share of queries without a good answer.
    pub loss_max: f64,
    /// Maximum of the 99th percentile of latency.
    pub p99_max: Option<Duration>,
}

/// Result of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Within the limits.
    Held,
    /// Too many queries without a good answer.
    Lost,
    /// Too many late answers.
    Slow,
    /// The client could not keep its schedule: the result says nothing about the server.
    Behind,
}

impl Limits {
    /// Judges a trial by the limits; `refused` are answers with a bad response code.
    pub fn judge(&self, tally: &Tally, refused: u64) -> Verdict {
        let counts = &tally.counts;
        let due = (counts.sent + counts.unsent).max(1) as f64;
        let behind = (counts.behind + counts.unsent) as f64;
        let lost = (counts.failed() + refused) as f64;
        let p99 = Duration::from_nanos(tally.latency.value_at_quantile(0.99));
        if lost > self.loss_max * due || counts.answered == 0 {
            Verdict::Lost
        } else if counts.unsent > 0 || behind > BEHIND_SHARE_MAX * due {
            Verdict::Behind
        } else if self.p99_max.is_some_and(|most| p99 > most) {
            Verdict::Slow
        } else {
            Verdict::Held
        }
    }
}

/// Result of the search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// The highest rate that held in every repeat.
    pub rate: f64,
    /// The lowest rate that failed, with the reason, if any did.
    pub failed: Option<(f64, Verdict)>,
    /// Number of trials in a row that passed.
    pub repeats: u32,
}

impl Found {
    /// Returns the probability, at 95 % confidence, with which the rate holds at least: with a
    /// lower one, a series of successes this long would happen less than once in twenty times.
    pub fn probability_min(&self) -> f64 {
        0.05f64.powf(1.0 / f64::from(self.repeats))
    }
}

/// A search in progress.
#[derive(Clone, Debug)]
pub struct Search {
    /// The rate being tried.
    rate: f64,
    rate_max: f64,
    /// Target ratio of the interval's ends.
    precision: f64,
    repeats: u32,
    held: Option<f64>,
    failed: Option<(f64, Verdict)>,
    /// Number of trials in a row that passed, once the interval is narrow enough.
    confirmed: Option<u32>,
    over: bool,
}

impl Search {
    /// Creates a search from `start` up to `rate_max`, to a `precision` of 0.02 for 2 %, with this
    /// number of `repeats`.
    pub fn new(start: f64, rate_max: f64, precision: f64, repeats: u32) -> Self {
        Self {
            rate: start.min(rate_max),
            rate_max,
            precision: 1.0 + precision,
            repeats: repeats.max(1),
            held: None,
            failed: None,
            confirmed: None,
            over: false,
        }
    }

    /// Returns the rate to try next; `None` when the search is over.
    pub fn next(&self) -> Option<f64> {
        (!self.over).then_some(self.rate)
    }

    /// Records the result of the trial at that rate.
    pub fn note(&mut self, verdict: Verdict) {
        let held = verdict == Verdict::Held;
        if let Some(count) = self.confirmed {
            self.note_repeat(held, count, verdict);
        } else if held {
            self.held = Some(self.rate);
            self.narrow();
        } else {
            self.failed = Some((self.rate, verdict));
            self.narrow();
        }
    }

    fn note_repeat(&mut self, held: bool, count: u32, verdict: Verdict) {
        if held {
            self.confirmed = Some(count + 1);
            self.over = count + 1 >= self.repeats;
            return;
        }
        self.failed = Some((self.rate, verdict));
        self.rate *= STEP_DOWN;
        self.held = None;
        self.confirmed = Some(0);
        self.over = self.rate < RATE_MIN;
    }

    /// Chooses the next rate within the interval.
    fn narrow(&mut self) {
        match (self.held, self.failed) {
            (Some(held), None) if held >= self.rate_max => self.confirm(held),
            (Some(held), None) => self.rate = (2.0 * held).min(self.rate_max),
            (None, Some((failed, _))) => {
                self.rate = failed / 2.0;
                self.over = self.rate < RATE_MIN;
            }
            (Some(held), Some((failed, _))) if failed / held <= self.precision => {
                self.confirm(held);
            }
            (Some(held), Some((failed, _))) => self.rate = (held * failed).sqrt(),
            (None, None) => {}
        }
    }

    /// Begins the repeats at the found rate; its first trial counts as one.
    fn confirm(&mut self, rate: f64) {
        self.rate = rate;
        self.confirmed = Some(1);
        self.over = self.repeats <= 1;
    }

    /// Returns the result once the search is over; `None` if no rate held.
    pub fn found(&self) -> Option<Found> {
        let repeats = self.confirmed.filter(|&count| count >= self.repeats)?;
        Some(Found { rate: self.rate, failed: self.failed, repeats })
    }
}

#[cfg(test)]
mod tests {
    use super::{Found, Limits, Search, Verdict};
    use crate::report::tests::sample;
    use std::time::Duration;

    /// Searches against a server that answers as `holds` says; returns the result and the trials.
    fn search(rate_max: f64, mut holds: impl FnMut(f64) -> bool) -> (Option<Found>, u32) {
        let mut search = Search::new(1_000.0, rate_max, 0.02, 5);
        let mut trials = 0;
        while let Some(rate) = search.next() {
            search.note(if holds(rate) { Verdict::Held } else { Verdict::Lost });
            trials += 1;
            assert!(trials < 1_000, "it never ends");
        }
        (search.found(), trials)
    }

    #[test]
    fn the_limit_of_a_steady_server_is_found_to_the_precision_asked_for() {
        for limit in [3.0, 999.0, 1_000.0, 47_111.0, 900_000.0] {
            let (found, trials) = search(1e6, |rate| rate <= limit);
            let found = found.unwrap();
            assert!(found.rate <= limit && found.rate > limit / 1.021, "{limit}: {found:?}");
            assert!(found.failed.unwrap().0 > limit && trials < 35, "{limit}: {trials}");
            assert_eq!(found.repeats, 5);
        }
    }

    #[test]
    fn a_server_that_is_never_exhausted_or_never_answers_ends_the_search() {
        let (found, trials) = search(50_000.0, |_| true);
        assert_eq!((found.unwrap().rate, found.unwrap().failed), (50_000.0, None));
        assert!(trials < 15, "{trials}");
        assert_eq!(search(1e6, |_| false).0, None);
    }

    #[test]
    fn a_rate_that_holds_now_and_then_is_not_good_enough() {
        let mut draw = 1u32;
        let (found, _) = search(1e6, |rate| {
            draw = draw.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Always holds below 10,000, and in half of the trials up to 12,000.
            rate <= 10_000.0 || (rate <= 12_000.0 && draw >> 31 == 0)
        });
        let rate = found.unwrap().rate;
        assert!((9_000.0..12_000.0).contains(&rate), "{rate}");
        let certain = Found { rate, failed: None, repeats: 5 }.probability_min();
        assert!((certain - 0.549).abs() < 0.001, "{certain}");
    }

    #[test]
    fn a_trial_is_judged_by_the_limits_and_the_client_is_suspected_before_the_server() {
        let mut tally = sample().tally;
        let loose = Limits { loss_max: 0.01, p99_max: None };
        assert_eq!(loose.judge(&tally, 0), Verdict::Held);
        assert_eq!(loose.judge(&tally, 200), Verdict::Lost);
        assert_eq!(Limits { loss_max: 0.0, ..loose }.judge(&tally, 0), Verdict::Lost);
        let strict = Limits { p99_max: Some(Duration::from_millis(100)), ..loose };
        assert_eq!(strict.judge(&tally, 0), Verdict::Slow);
        tally.counts.unsent = 1;
        assert_eq!(strict.judge(&tally, 0), Verdict::Behind);
    }
}
