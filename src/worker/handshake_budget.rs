//! CPU time of a worker for handshakes of clients.
//!
//! A handshake costs as much as hundreds of queries, and anybody may ask for one. So handshakes get
//! a share of the time and no more, whatever the kind of key makes one cost: what has been spent is
//! measured, and while there is no time left, sockets on which a handshake would go on are left
//! unread. Queries in the clear, on the same worker, wait for [`SAVED_MAX`] and one handshake at
//! most. Pure: the time is an argument.

use crate::moment::{Moment, nanos};
use std::time::Duration;

/// One part in this number of the time is for handshakes: half of it is enough for thousands a
/// second, and leaves queries the other half.
const SHARE: u64 = 2;
/// Time that was not used is saved up to this: a few handshakes come at once and are not to wait,
/// and their delay is not noticed.
const SAVED_MAX: Duration = Duration::from_millis(2);

/// The time that is left for handshakes.
#[derive(Debug)]
pub(super) struct HandshakeBudget {
    /// In nanoseconds; below zero when the last one took more than there was.
    left: i64,
    at: Moment,
}

impl HandshakeBudget {
    /// Nothing was spent yet.
    pub(super) fn new() -> Self {
        Self { left: nanos(SAVED_MAX) as i64, at: Moment::ZERO }
    }

    /// Time has passed.
    pub(super) fn refill(&mut self, now: Moment) {
        let earned = (nanos(now.since(self.at)) / SHARE).min(i64::MAX as u64 / 2) as i64;
        self.left = (self.left + earned).min(nanos(SAVED_MAX) as i64);
        self.at = now;
    }

    /// Returns true if a handshake may go on now.
    pub(super) fn is_left(&self) -> bool {
        self.left > 0
    }

    /// One has gone on for so long.
    pub(super) fn spend(&mut self, took: Duration) {
        self.left -= nanos(took).min(i64::MAX as u64 / 4) as i64;
    }

    /// Returns the time at which handshakes may continue.
    pub(super) fn next(&self) -> Moment {
        let owed = u64::try_from(1 - self.left).unwrap_or(0);
        self.at.plus(Duration::from_nanos(owed.saturating_mul(SHARE)))
    }
}

#[cfg(test)]
mod tests {
    use super::{HandshakeBudget, SAVED_MAX};
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
    fn what_is_saved_is_a_bound_on_what_queries_wait() {
        let mut handshake_budget = HandshakeBudget::new();
        handshake_budget.refill(Moment::ZERO.plus(Duration::from_secs(3600)));
        let steps =
            std::iter::from_fn(|| handshake_budget.is_left().then(|| handshake_budget.spend(STEP)));
        assert!(STEP * steps.count() as u32 <= SAVED_MAX + STEP);
    }
}
