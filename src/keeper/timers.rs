//! The keeper's timers: the shared wheel, with at most one timer for each purpose.
//!
//! A second request for the same purpose moves its timer. So the wheel holds no more timers than
//! there are pools and upstreams, however often their deadlines change.

use crate::engine::key::Sweep;
use crate::moment::Moment;
use crate::wheel::{TimerKey, Wheel};
use std::collections::HashMap;

/// Purpose of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Due {
    /// Sweep a pool or cache.
    Sweep {
        worker: usize,
        /// Pool or cache to sweep.
        sweep: Sweep,
    },
    /// Log the connections to this upstream that were closed for `max_age` since the last line.
    Retired(usize),
    /// Send a probe of this upstream, or end the one in progress.
    Probe(usize),
}

/// The wheel, and the key of each timer by purpose.
pub(super) struct Timers {
    wheel: Wheel<Due>,
    keys: HashMap<Due, TimerKey>,
}

impl Timers {
    /// Creates an empty set with memory for `capacity` timers.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { wheel: Wheel::with_capacity(capacity), keys: HashMap::with_capacity(capacity) }
    }

    /// Sets the timer for `due` in place of the old one; `None`: removes it.
    pub(super) fn set(&mut self, due: Due, at: Option<Moment>) {
        let old = match at {
            Some(at) => self.keys.insert(due, self.wheel.insert(at, due)),
            None => self.keys.remove(&due),
        };
        if let Some(old) = old {
            self.wheel.cancel(old);
        }
    }

    /// Removes all timers.
    pub(super) fn clear(&mut self) {
        for (_, key) in self.keys.drain() {
            self.wheel.cancel(key);
        }
    }

    /// Returns the time of the next timer.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.wheel.next_deadline()
    }

    /// Removes and returns a timer that is due. Call it until it returns `None`.
    pub(super) fn pop(&mut self, now: Moment) -> Option<Due> {
        let due = self.wheel.pop_expired(now)?;
        self.keys.remove(&due);
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::{Due, Timers};
    use crate::engine::key::Sweep;
    use crate::moment::Moment;

    #[test]
    fn each_purpose_has_one_timer_at_most() {
        let mut timers = Timers::with_capacity(2);
        let (sweep, probe) = (Due::Sweep { worker: 0, sweep: Sweep::Cache(1) }, Due::Probe(1));
        let at = Moment::from_nanos;
        timers.set(sweep, Some(at(5)));
        timers.set(probe, Some(at(3)));
        timers.set(sweep, Some(at(1)));
        timers.set(sweep, Some(at(9)));
        assert_eq!((timers.next_deadline(), timers.pop(at(2))), (Some(at(3)), None));
        assert_eq!((timers.pop(at(9)), timers.pop(at(9))), (Some(probe), Some(sweep)));
        timers.set(probe, Some(at(3)));
        timers.set(probe, None);
        timers.set(probe, None);
        assert_eq!((timers.next_deadline(), timers.pop(Moment::FOREVER)), (None, None));
        timers.set(probe, Some(at(3)));
        timers.clear();
        assert_eq!((timers.next_deadline(), timers.pop(Moment::FOREVER)), (None, None));
    }
}
