//! Refresh of answers: when an entry is fetched again.
//!
//! Before it expires, if it is in demand (`prefetch`); afterwards, if expired answers are served
//! (`serve_stale`), while the client waits or has been served. An answer is not fetched twice at a
//! time: a refresh has a lease of the maximum time of a query, so a lost one blocks no longer than
//! that. After a failed one the lease is extended to the lifetime of a failure (RFC 9520) or
//! `RECHECK`, whichever is longer.

use crate::config::{Prefetch, QUERY_TIMEOUT, ServeStale, StaleMode};
use crate::moment::Moment;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Number of words of a state.
pub(super) const REFRESH_WORDS: usize = 3;
/// Part of the time between two hits in a row by which the noted time of the last one may be too
/// early, once enough hits are counted.
const COARSE: u32 = 64;

/// Refresh state of one entry. Its words are shared: workers that count hits at the same time may
/// lose some; of those that begin a refresh at the same time, one does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refresh {
    /// Hits in a row, without a longer gap than the configuration allows.
    hits: u32,
    last_hit: Moment,
    /// Time before which no refresh begins.
    not_before: Moment,
}

/// Action for an expired answer that is usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    /// The client gets it.
    Reply,
    /// The client gets it, and it is fetched again.
    ReplyAndRefresh,
    /// The upstream is asked, and the client gets it only if no better answer comes in time.
    Verify(Option<Duration>),
}

impl Refresh {
    /// Counts a hit on a fresh answer, `age` seconds after it was stored for `lifetime` seconds.
    /// Returns true if a refresh begins.
    pub(crate) fn hit(
        &mut self,
        now: Moment,
        prefetch: &Prefetch,
        lifetime: u64,
        age: u64,
    ) -> bool {
        let since = now.since(self.last_hit);
        // A popular entry is not written at each hit.
        let coarse = if self.hits < prefetch.amount.max(1) {
            Duration::ZERO
        } else {
            prefetch.duration / COARSE
        };
        let together = since <= prefetch.duration.saturating_add(coarse);
        self.hits =
            if together { self.hits.saturating_add(1).min(prefetch.amount.max(1)) } else { 1 };
        if since >= coarse {
            self.last_hit = now;
        }
        let late = (lifetime * u64::from(prefetch.percentage)).div_ceil(100);
        self.hits >= prefetch.amount && lifetime.saturating_sub(age) <= late && self.begin(now)
    }

    /// Decides about a hit on a usable expired answer.
    pub(crate) fn stale(&mut self, now: Moment, settings: &ServeStale) -> Course {
        match settings.mode {
            StaleMode::Immediate if self.begin(now) => Course::ReplyAndRefresh,
            StaleMode::Verify(within) if now >= self.not_before => Course::Verify(within),
            _ => Course::Reply,
        }
    }

    /// Records a failed refresh: no other begins for `wait`.
    pub(crate) fn failed(&mut self, now: Moment, wait: Duration) {
        self.not_before = now.plus(wait);
    }

    /// Returns the state for the answer that replaces this one.
    pub(crate) fn of_successor(self) -> Self {
        Self { not_before: Moment::ZERO, ..self }
    }

    /// Reads a state, which other workers may change meanwhile.
    #[inline]
    pub(super) fn read(words: &[AtomicU64; REFRESH_WORDS]) -> Self {
        let time = |place: usize| Moment::from_nanos(words[place].load(Relaxed));
        Self { hits: words[0].load(Relaxed) as u32, last_hit: time(1), not_before: time(2) }
    }

    /// Writes the state of a new answer.
    pub(super) fn write_to(&self, words: &[AtomicU64; REFRESH_WORDS]) {
        words[0].store(self.hits.into(), Relaxed);
        words[1].store(self.last_hit.as_nanos(), Relaxed);
        words[2].store(self.not_before.as_nanos(), Relaxed);
    }

    /// Writes what has changed since `before` was read. Returns false if another worker has taken
    /// the lease meanwhile.
    #[inline]
    pub(super) fn update(&self, before: &Self, words: &[AtomicU64; REFRESH_WORDS]) -> bool {
        if self.hits != before.hits {
            words[0].store(self.hits.into(), Relaxed);
        }
        if self.last_hit != before.last_hit {
            words[1].store(self.last_hit.as_nanos(), Relaxed);
        }
        if self.not_before == before.not_before {
            return true;
        }
        let own = self.not_before.as_nanos();
        words[2].compare_exchange(before.not_before.as_nanos(), own, Relaxed, Relaxed).is_ok()
    }

    /// Returns true if a refresh has begun since `before`.
    #[inline]
    pub(super) fn leases(&self, before: &Self) -> bool {
        self.not_before != before.not_before
    }

    /// Gives a lease back that was taken by mistake.
    #[cold]
    pub(super) fn give_back(&self, before: &Self, words: &[AtomicU64; REFRESH_WORDS]) {
        let own = self.not_before.as_nanos();
        let _ = words[2].compare_exchange(own, before.not_before.as_nanos(), Relaxed, Relaxed);
    }

    /// Takes the lease, if it is free.
    fn begin(&mut self, now: Moment) -> bool {
        let free = now >= self.not_before;
        if free {
            self.not_before = now.plus(QUERY_TIMEOUT);
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::{Course, Refresh};
    use crate::config::{Prefetch, QUERY_TIMEOUT, ServeStale, StaleMode};
    use crate::moment::Moment;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);
    const PREFETCH: Prefetch = Prefetch { amount: 3, duration: SECOND, percentage: 30 };

    fn at(secs: u32) -> Moment {
        Moment::ZERO.plus(1_000 * SECOND + secs * SECOND)
    }

    fn stale(mode: StaleMode) -> ServeStale {
        let recheck = 10 * SECOND;
        ServeStale { window: 100 * SECOND, mode, ttl: 30, recheck, prefer_positive: false }
    }

    #[test]
    fn an_answer_in_demand_is_fetched_when_three_tenths_of_its_life_remain() {
        let mut refresh = Refresh::default();
        let asked = |age| refresh.hit(at(age), &PREFETCH, 10, age.into());
        assert_eq!([5, 6, 7].map(asked), [false, false, true]);
    }

    #[test]
    fn the_share_that_remains_is_rounded_up() {
        for (percentage, lifetime, first) in [(10, 5, 4), (10, 300, 270), (90, 10, 1), (34, 3, 1)] {
            let prefetch = Prefetch { amount: 1, percentage, ..PREFETCH };
            let due = |age: u64| Refresh::default().hit(at(0), &prefetch, lifetime, age);
            assert!(due(first) && !due(first - 1), "{percentage} % of {lifetime}");
        }
    }

    #[test]
    fn hits_are_counted_anew_after_a_longer_gap() {
        let mut refresh = Refresh::default();
        let asked = |secs| refresh.hit(at(secs), &PREFETCH, 10, 9);
        assert_eq!([0, 1, 3, 4, 5].map(asked), [false, false, false, false, true]);
    }

    #[test]
    fn a_lost_refresh_blocks_others_no_longer_than_a_query_takes() {
        let prefetch = Prefetch { amount: 1, ..PREFETCH };
        let mut refresh = Refresh::default();
        assert!(refresh.hit(at(0), &prefetch, 10, 9));
        assert!(!refresh.hit(at(1), &prefetch, 10, 9));
        assert_eq!(refresh.stale(at(1), &stale(StaleMode::Immediate)), Course::Reply);
        let lost = QUERY_TIMEOUT.as_secs() as u32;
        assert!(refresh.hit(at(lost), &prefetch, 10, 9));
    }

    #[test]
    fn stale_at_once_or_after_asking() {
        let mut refresh = Refresh::default();
        let immediate = stale(StaleMode::Immediate);
        assert_eq!(refresh.stale(at(0), &immediate), Course::ReplyAndRefresh);
        assert_eq!(refresh.stale(at(1), &immediate), Course::Reply);
        let mut refresh = Refresh::default();
        for within in [None, Some(SECOND)] {
            let verify = stale(StaleMode::Verify(within));
            assert_eq!(refresh.stale(at(0), &verify), Course::Verify(within));
            assert_eq!(refresh.stale(at(0), &verify), Course::Verify(within));
        }
    }

    #[test]
    fn after_a_failure_no_refresh_begins_for_a_while() {
        let mut refresh = Refresh::default();
        let verify = stale(StaleMode::Verify(None));
        refresh.failed(at(0), 10 * SECOND);
        assert_eq!(refresh.stale(at(9), &verify), Course::Reply);
        assert_eq!(refresh.stale(at(9), &stale(StaleMode::Immediate)), Course::Reply);
        assert_eq!(refresh.stale(at(10), &verify), Course::Verify(None));
    }

    #[test]
    fn hits_carry_over_to_the_new_answer_and_the_lease_does_not() {
        let prefetch = Prefetch { amount: 2, ..PREFETCH };
        let mut refresh = Refresh::default();
        refresh.hit(at(0), &prefetch, 10, 9);
        assert!(refresh.hit(at(1), &prefetch, 10, 9));
        assert!(refresh.of_successor().hit(at(1), &prefetch, 10, 9));
    }
}
