//! Health state of upstreams, and its determination. PURE.
//!
//! A worker reports a failed exchange with an upstream; the keeper then probes that upstream, once
//! for all workers, until it answers. [`HealthStates`] is all that they share: for each upstream a
//! byte and a time until which it is asked without EDNS, written rarely and read by every query,
//! and a byte for each server block with a forwarding loop. [`schedule`] decides when one upstream
//! is probed and when it is down, [`query`] is the probe's query. Sockets and time belong to the
//! keeper.
//!
//! No upstream is probed before an exchange fails, and only probes change the health state.

pub mod query;
pub mod schedule;

use crate::config::{Config, Forward};
use crate::moment::Moment;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// Time for which an upstream that refused EDNS gets queries without it, and no further warning:
/// long enough to make the repeated test cheap, short enough to use EDNS soon after a repair.
pub const PLAIN_FOR: Duration = Duration::from_secs(900);
/// Minimum time between two reports about limits of the clients of a server block.
const LIMITS_TOLD_FOR: Duration = Duration::from_secs(30);

/// Probes fail, so queries go to other upstreams.
const DOWN: u8 = 1;
/// The keeper probes until the upstream answers.
const PROBING: u8 = 2;
/// A worker has reported a failure to the keeper, or is about to.
const REPORTED: u8 = 4;
/// `max_fails 0`: never probed and never down.
const UNCHECKED: u8 = 8;

/// Unusual behaviour of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quirk {
    /// The upstream refuses EDNS.
    NoEdns,
    /// Errors from the upstream have no question section.
    BareError,
    /// A burst of responses from the upstream's address matches no query.
    Mismatches,
    /// The upstream does not repeat the letter case of names.
    FoldsCase,
}

/// Unusual behaviour of one upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Number of the upstream, in the order of the configuration.
    pub upstream: usize,
    /// The behaviour.
    pub quirk: Quirk,
    /// The observed response code; zero if the quirk has none.
    pub rcode: u16,
}

/// Health state of each upstream, written by the keeper and read by all workers.
///
/// Each byte is independent and publishes no other data, so no ordering between threads is needed.
#[derive(Debug)]
pub struct HealthStates {
    upstreams: Box<[AtomicU8]>,
    /// Number of failed probes for each upstream.
    failures: Box<[AtomicU64]>,
    /// Time for each upstream, in nanoseconds, until which it is asked without EDNS.
    plain_until: Box<[AtomicU64]>,
    /// Time for each upstream until which its errors without a question are not reported again.
    told_until: Box<[AtomicU64]>,
    /// The same for its bursts of mismatching responses.
    bursts_told_until: Box<[AtomicU64]>,
    /// Time for each upstream until which names are not sent to it in random letter case.
    folds_until: Box<[AtomicU64]>,
    /// Time until which floods of queries are not reported again.
    floods_told_until: AtomicU64,
    /// Time for each server block until which limits of its clients are not reported again.
    limits_told_until: Box<[AtomicU64]>,
    /// True for each server block with a forwarding loop.
    loops: Box<[AtomicBool]>,
    /// Random part of the names of loop probes; zero: not yet chosen.
    nonce: AtomicU64,
    /// Secret of the process, from which those of server cookies follow, once it is chosen.
    secret: OnceLock<[u8; 32]>,
}

impl HealthStates {
    /// State of all upstreams of `config`, numbered in its order, none of them down. Equal
    /// addresses in two stanzas are two upstreams.
    pub fn new(config: &Config) -> Self {
        let state = |forward: &Forward| if forward.health.max_fails == 0 { UNCHECKED } else { 0 };
        let states = config.upstreams().map(|(forward, _)| state(forward));
        let loops = config.blocks.iter().map(|_| AtomicBool::new(false));
        let upstreams: Box<[_]> = states.map(AtomicU8::new).collect();
        let zeros = || upstreams.iter().map(|_| AtomicU64::new(0)).collect();
        Self {
            failures: zeros(),
            plain_until: zeros(),
            told_until: zeros(),
            bursts_told_until: zeros(),
            folds_until: zeros(),
            floods_told_until: AtomicU64::new(0),
            limits_told_until: config.blocks.iter().map(|_| AtomicU64::new(0)).collect(),
            loops: loops.collect(),
            nonce: AtomicU64::new(0),
            secret: OnceLock::new(),
            upstreams,
        }
    }

    /// Returns true if queries should go elsewhere.
    pub fn is_down(&self, upstream: usize) -> bool {
        self.load(upstream) & DOWN != 0
    }

    /// Returns true if the keeper is probing it.
    pub fn is_probing(&self, upstream: usize) -> bool {
        self.load(upstream) & PROBING != 0
    }

    /// Reports a failed exchange with `upstream`. Returns true if this caller has to notify the
    /// keeper, false if that was done or is unnecessary, so a dead upstream costs one message, not
    /// one per query.
    #[must_use]
    pub(crate) fn report(&self, upstream: usize) -> bool {
        let known = DOWN | PROBING | REPORTED | UNCHECKED;
        self.load(upstream) & known == 0
            && self.upstreams[upstream].fetch_or(REPORTED, Ordering::Relaxed) & known == 0
    }

    /// Withdraws a report that could not be delivered, so that the next failed exchange repeats it.
    pub(crate) fn take_back(&self, upstream: usize) {
        self.upstreams[upstream].fetch_and(!REPORTED, Ordering::Relaxed);
    }

    /// Withdraws all reports, because a worker that has panicked may have lost some. Called by the
    /// keeper.
    pub(crate) fn forget_reports(&self) {
        (0..self.upstreams.len()).for_each(|upstream| self.take_back(upstream));
    }

    /// Sets the result of the keeper's probes, or that probing has begun. Clears reported failures.
    pub fn set(&self, upstream: usize, down: bool, probing: bool) {
        let state = if down { DOWN } else { 0 } | if probing { PROBING } else { 0 };
        self.upstreams[upstream].store(state, Ordering::Relaxed);
    }

    /// Sets the number of failed probes of `upstream`. Called by the keeper, which counts them.
    pub(crate) fn set_failures(&self, upstream: usize, failures: u64) {
        self.failures[upstream].store(failures, Ordering::Relaxed);
    }

    /// Returns the number of failed probes of `upstream`.
    pub(crate) fn failures(&self, upstream: usize) -> u64 {
        self.failures[upstream].load(Ordering::Relaxed)
    }

    /// Returns true if `upstream` is asked without EDNS, because it refused that recently.
    #[inline]
    pub(crate) fn is_asked_plainly(&self, upstream: usize, now: Moment) -> bool {
        self.plain_until[upstream].load(Ordering::Relaxed) > now.as_nanos()
    }

    /// Records that `upstream` answered without EDNS a query that it had refused with it: for
    /// [`PLAIN_FOR`] it is asked without. Returns true if that is new.
    #[must_use]
    pub(crate) fn note_no_edns(&self, upstream: usize, now: Moment) -> bool {
        extend(&self.plain_until[upstream], now)
    }

    /// Copies from `old`, where this upstream has the number `before`, the state of its EDNS and
    /// the times until which its quirks are not reported again.
    pub(crate) fn take_over(&self, upstream: usize, old: &Self, before: usize) {
        let pairs = [
            (&self.plain_until[upstream], &old.plain_until[before]),
            (&self.told_until[upstream], &old.told_until[before]),
            (&self.bursts_told_until[upstream], &old.bursts_told_until[before]),
            (&self.folds_until[upstream], &old.folds_until[before]),
        ];
        let floods = (&self.floods_told_until, &old.floods_told_until);
        for (new, old) in pairs.into_iter().chain([floods]) {
            new.fetch_max(old.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Records that `upstream` sent an error without a question. Returns true if that is new.
    #[must_use]
    pub(crate) fn note_bare_error(&self, upstream: usize, now: Moment) -> bool {
        is_news(&self.told_until[upstream], now)
    }

    /// Records that a burst of responses from `upstream` matched no query. Returns true if that is
    /// new.
    #[must_use]
    pub(crate) fn note_mismatches(&self, upstream: usize, now: Moment) -> bool {
        is_news(&self.bursts_told_until[upstream], now)
    }

    /// Records that `upstream` does not repeat the letter case of names: for [`PLAIN_FOR`] it gets
    /// them as clients spell them. Returns true if that is new.
    #[must_use]
    pub(crate) fn note_folded_case(&self, upstream: usize, now: Moment) -> bool {
        extend(&self.folds_until[upstream], now)
    }

    /// Returns true if `upstream` did not repeat the letter case of names recently.
    pub(crate) fn folds_case(&self, upstream: usize, now: Moment) -> bool {
        self.folds_until[upstream].load(Ordering::Relaxed) > now.as_nanos()
    }

    /// Records that queries below one name fill the table of outstanding queries. Returns true if
    /// that is new.
    #[must_use]
    pub(crate) fn note_flood(&self, now: Moment) -> bool {
        is_news(&self.floods_told_until, now)
    }

    /// Records that clients exceed a limit of `block`. Returns true if that is new for
    /// [`LIMITS_TOLD_FOR`].
    #[must_use]
    pub(crate) fn note_limit(&self, block: usize, now: Moment) -> bool {
        let until = &self.limits_told_until[block];
        until.load(Ordering::Relaxed) <= now.as_nanos() && extend_by(until, now, LIMITS_TOLD_FOR)
    }

    /// Returns the secret of the process, from which those of server cookies follow: the first that
    /// is proposed, by the server or else by a worker. All workers have the same, because a client
    /// with several ports meets several of them.
    pub(crate) fn agree_on_secret(&self, proposed: [u8; 32]) -> [u8; 32] {
        *self.secret.get_or_init(|| proposed)
    }

    /// Returns the number in the names of loop probes, which is the first that any worker proposes,
    /// and true if it is `proposed`, so that this worker sends the probes.
    pub(crate) fn agree_on(&self, proposed: u64) -> (u64, bool) {
        let proposed = proposed.max(1);
        let any = Ordering::Relaxed;
        match self.nonce.compare_exchange(0, proposed, any, any) {
            Ok(_) => (proposed, true),
            Err(agreed) => (agreed, false),
        }
    }

    /// Records a forwarding loop of `block`. Returns true if that is new.
    #[must_use]
    pub(crate) fn note_loop(&self, block: usize) -> bool {
        !self.loops[block].swap(true, Ordering::Relaxed)
    }

    /// Returns true if `block` has a forwarding loop.
    pub(crate) fn is_looping(&self, block: usize) -> bool {
        self.loops[block].load(Ordering::Relaxed)
    }

    fn load(&self, upstream: usize) -> u8 {
        self.upstreams[upstream].load(Ordering::Relaxed)
    }
}

/// Returns true if `until` has passed, and sets it to [`PLAIN_FOR`] from now then.
fn is_news(until: &AtomicU64, now: Moment) -> bool {
    until.load(Ordering::Relaxed) <= now.as_nanos() && extend(until, now)
}

/// Sets `until` to [`PLAIN_FOR`] from now; returns true if it had passed.
fn extend(until: &AtomicU64, now: Moment) -> bool {
    extend_by(until, now, PLAIN_FOR)
}

/// Sets `until` to `period` from now; returns true if it had passed.
fn extend_by(until: &AtomicU64, now: Moment, period: Duration) -> bool {
    until.swap(now.plus(period).as_nanos(), Ordering::Relaxed) <= now.as_nanos()
}

#[cfg(test)]
mod tests {
    use super::{HealthStates, PLAIN_FOR};
    use crate::config::{Config, Host};
    use crate::moment::Moment;
    use std::time::Duration;

    /// Upstreams 0 and 1 are probed, 2 and 3 are not, 4 is; 1 and 4 have one address.
    fn health_states() -> HealthStates {
        let text = "a {\n forward . ::1 ::2\n forward a ::3 ::4 {\n max_fails 0\n}\n}\n\
                    b {\n forward . ::2\n}\n";
        HealthStates::new(&Config::load(text.as_bytes(), "f", &Host::plain()).unwrap().0)
    }

    #[test]
    fn all_are_up_at_first_and_each_has_its_own_state() {
        let health_states = health_states();
        health_states.set(1, true, true);
        let down: Vec<_> = (0..5).map(|upstream| health_states.is_down(upstream)).collect();
        assert_eq!(down, [false, true, false, false, false]);
        assert!(health_states.is_probing(1) && !health_states.is_probing(4));
        health_states.set(1, false, false);
        assert!(!health_states.is_down(1) && !health_states.is_probing(1));
    }

    #[test]
    fn workers_agree_on_a_number_and_on_loops() {
        let health_states = health_states();
        assert_eq!(
            [0, 7, 8].map(|number| health_states.agree_on(number)),
            [(1, true), (1, false), (1, false)]
        );
        assert!(!health_states.is_looping(1));
        assert_eq!([health_states.note_loop(1), health_states.note_loop(1)], [true, false]);
        assert!(health_states.is_looping(1) && !health_states.is_looping(0));
    }

    #[test]
    fn an_upstream_without_edns_is_reported_once_and_asked_with_it_again_later() {
        let health_states = health_states();
        let begin = Moment::ZERO.plus(PLAIN_FOR);
        assert!(!health_states.is_asked_plainly(0, Moment::ZERO));
        assert!(health_states.note_no_edns(0, begin) && !health_states.note_no_edns(0, begin));
        let end = begin.plus(PLAIN_FOR);
        assert!(health_states.is_asked_plainly(0, end.minus(Duration::from_nanos(1))));
        assert!(
            !health_states.is_asked_plainly(0, end) && !health_states.is_asked_plainly(1, begin)
        );
        assert!(health_states.note_no_edns(0, end), "it is news again");
        let errors = [begin, begin, end].map(|now| health_states.note_bare_error(4, now));
        assert_eq!(errors, [true, false, true]);
    }

    #[test]
    fn an_outage_is_reported_once() {
        let health_states = health_states();
        assert!(health_states.report(0) && !health_states.report(0));
        assert!(!health_states.is_probing(0), "the keeper decides that");
        health_states.set(0, false, true);
        assert!(!health_states.report(0));
        health_states.set(0, true, true);
        assert!(!health_states.report(0));
        health_states.set(0, false, false);
        assert!(health_states.report(0), "the next outage is news again");
    }

    #[test]
    fn a_report_that_was_not_delivered_is_repeated() {
        let health_states = health_states();
        assert!(health_states.report(0));
        health_states.take_back(0);
        assert!(health_states.report(0));
        health_states.forget_reports();
        assert!(health_states.report(0));
    }

    #[test]
    fn without_max_fails_nothing_is_reported() {
        let health_states = health_states();
        health_states.forget_reports();
        assert!(!health_states.report(2) && !health_states.report(3));
        assert!(health_states.report(4));
    }

    #[test]
    fn limits_of_a_block_are_reported_once_in_thirty_seconds() {
        let states = health_states();
        let seconds = |count| Moment::ZERO.plus(Duration::from_secs(count));
        let due = [5, 6, 34, 35, 64, 65].map(|time| states.note_limit(0, seconds(time)));
        assert_eq!(due, [true, false, false, true, false, true]);
        assert!(states.note_limit(1, seconds(6)), "another block");
    }
}
