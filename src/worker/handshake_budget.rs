//! A worker's CPU time for TLS handshakes of clients.
//!
//! A handshake costs as much as hundreds of queries, and any client can begin one. Handshakes
//! therefore get a limited share of the time, independent of the cost of the key type: the time
//! spent is measured, and while no time is left, sockets in a handshake are not read. Queries over
//! UDP and TCP on the same worker wait for at most [`SAVED_MAX`] and one handshake. Pure: the time
//! is an argument.

use crate::moment::{Moment, nanos};
use std::time::Duration;

/// Handshakes get the time divided by this number: half of it is enough for thousands per second,
/// and leaves the other half for queries.
const SHARE: u64 = 2;
/// Maximum of unused time that is saved, so that a few simultaneous handshakes need not wait; the
/// delay of queries is negligible.
const SAVED_MAX: Duration = Duration::from_millis(2);
/// Maximum of time that is owed: that of the slowest handshakes. Packets of QUIC are read even if
/// no time is left, and those of one client must not delay the others for longer.
const OWED_MAX: Duration = Duration::from_millis(20);

/// The time left for handshakes.
#[derive(Debug)]
pub(super) struct HandshakeBudget {
    /// In nanoseconds; negative if the last handshake took more than was left.
    left: i64,
    at: Moment,
}

impl HandshakeBudget {
    /// Creates a full budget.
    pub(super) fn new() -> Self {
        Self { left: nanos(SAVED_MAX) as i64, at: Moment::ZERO }
    }

    /// Adds the share of the time since the last call.
    pub(super) fn refill(&mut self, now: Moment) {
        let earned = (nanos(now.since(self.at)) / SHARE).min(i64::MAX as u64 / 2) as i64;
        self.left = (self.left + earned).min(nanos(SAVED_MAX) as i64);
        self.at = now;
    }

    /// Returns true if a handshake may continue now.
    pub(super) fn is_left(&self) -> bool {
        self.left > 0
    }

    /// Subtracts the time that a handshake took.
    pub(super) fn spend(&mut self, took: Duration) {
        let left = self.left - nanos(took).min(i64::MAX as u64 / 4) as i64;
        self.left = left.max(-(nanos(OWED_MAX) as i64));
    }

    /// Returns the time at which handshakes may continue.
    pub(super) fn next(&self) -> Moment {
        let owed = u64::try_from(1 - self.left).unwrap_or(0);
        self.at.plus(Duration::from_nanos(owed.saturating_mul(SHARE)))
    }
}

#[cfg(test)]
mod tests {
    use super::{HandshakeBudget, OWED_MAX, SAVED_MAX};
    use crate::moment::Moment;
    use std::time::Duration;

    const STEP: Duration = Duration::from_micros(300);

    #[test]
    fn handshakes_get_their_share_and_no_more() {
        let (mut handshake_budget, mut now, mut count) =
            (HandshakeBudget::new(), Moment::ZERO, 0_u32);
        let end = now.plus(Duration::from_secs(1));
        while now < end {
            handshake_budget.refill(now);
            while handshake_budget.is_left() {
                handshake_budget.spend(STEP);
                now = now.plus(STEP);
                count += 1;
            }
            let next = handshake_budget.next();
            assert!(next > now || STEP * count < SAVED_MAX * 2, "it would never end");
            now = now.plus(Duration::from_micros(10)).max(next);
        }
        let share = (STEP * count).as_secs_f64();
        assert!((0.45..=0.55).contains(&share), "{share}");
    }

    #[test]
    fn saved_time_bounds_the_wait_of_queries() {
        let mut handshake_budget = HandshakeBudget::new();
        handshake_budget.refill(Moment::ZERO.plus(Duration::from_secs(3600)));
        let steps =
            std::iter::from_fn(|| handshake_budget.is_left().then(|| handshake_budget.spend(STEP)));
        assert!(STEP * steps.count() as u32 <= SAVED_MAX + STEP);
    }

    #[test]
    fn the_time_that_is_owed_has_a_bound() {
        let mut handshake_budget = HandshakeBudget::new();
        (0..1_000).for_each(|_| handshake_budget.spend(OWED_MAX));
        let later = Moment::ZERO.plus(OWED_MAX * 2 + STEP);
        assert!(!handshake_budget.is_left() && handshake_budget.next() <= later);
        handshake_budget.refill(later);
        assert!(handshake_budget.is_left());
    }
}
