//! Counts of connections closed for `max_age`, by upstream, for the log. Pure.
//!
//! Workers report connections as they close them. An upstream gets a line at most each
//! [`LINE_EVERY`], with all connections since the last line; the first line is logged at once.

use crate::moment::Moment;
use std::collections::HashMap;
use std::time::Duration;

/// Minimum interval between two lines about an upstream.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// Counts that are not yet logged, and the earliest time of the next line, by upstream.
#[derive(Debug, Default)]
pub(super) struct Retired(HashMap<usize, (u64, Moment)>);

impl Retired {
    /// Adds to the number; returns the time at which it is due to be logged.
    pub(super) fn add(&mut self, now: Moment, upstream: usize, count: u64) -> Moment {
        let (untold, next) = self.0.entry(upstream).or_insert((0, now));
        *untold += count;
        (*next).max(now)
    }

    /// Takes the number to be logged now.
    pub(super) fn take(&mut self, now: Moment, upstream: usize) -> u64 {
        let next = (0, now.plus(LINE_EVERY));
        self.0.insert(upstream, next).map_or(0, |(untold, _)| untold)
    }

    /// Forgets all counts, because the upstreams get new numbers.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::{LINE_EVERY, Retired};
    use crate::moment::Moment;
    use std::time::Duration;

    #[test]
    fn the_first_are_logged_at_once_and_others_together_a_minute_later() {
        let mut retired = Retired::default();
        let start = Moment::ZERO.plus(Duration::from_secs(5));
        assert_eq!(retired.add(start, 3, 2), start);
        assert_eq!(retired.take(start, 3), 2);
        let later = start.plus(Duration::from_secs(1));
        assert_eq!(retired.add(later, 3, 1), start.plus(LINE_EVERY));
        assert_eq!(retired.add(later, 3, 4), start.plus(LINE_EVERY));
        assert_eq!(retired.add(later, 4, 1), later, "each upstream for itself");
        assert_eq!(retired.take(start.plus(LINE_EVERY), 3), 5);
        let much_later = start.plus(10 * LINE_EVERY);
        assert_eq!(retired.add(much_later, 3, 1), much_later);
    }
}
