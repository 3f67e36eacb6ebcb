//! A point in monotonic time, as plain data.
//!
//! Every pure module takes the time as an argument of this type; only [`crate::clock`] reads it
//! from the kernel. One idea: nanoseconds in a `u64`, because arithmetic and comparison of
//! deadlines happen several times a query and `std::time::Instant` costs two words and a carry.
//! The origin is the clock's start, so tests simply count from [`Moment::ZERO`].

use std::time::Duration;

/// Nanoseconds since the clock's origin. 584 years fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The origin.
    pub const ZERO: Self = Self(0);
    /// Later than anything that will ever happen.
    pub const FOREVER: Self = Self(u64::MAX);

    /// The moment `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The moment `later` after this one; saturates at [`Moment::FOREVER`].
    pub const fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(nanos(later)))
    }

    /// The moment `earlier` before this one; saturates at [`Moment::ZERO`].
    pub(crate) const fn minus(self, earlier: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(earlier)))
    }

    /// Returns the time since `earlier`; zero if this is before it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A duration in nanoseconds, saturating (584 years).
pub const fn nanos(duration: Duration) -> u64 {
    let wide = duration.as_nanos();
    if wide > u64::MAX as u128 { u64::MAX } else { wide as u64 }
}

/// Year, month and day, from the days after 1 January 1970.
pub fn date(days: u64) -> (u64, u64, u64) {
    // Years are counted from 1 March, so that leap days are the last of their years; each 400 years
    // are alike.
    const DAYS_TO_1970: u64 = 719_468;
    const ERA: u64 = 146_097;
    let days = days + DAYS_TO_1970;
    let (era, rest) = (days / ERA, days % ERA);
    let year = (rest - rest / 1_460 + rest / 36_524 - rest / (ERA - 1)) / 365;
    let day = rest - (365 * year + year / 4 - year / 100);
    // Any five consecutive months from March on have 153 days.
    let month = (5 * day + 2) / 153;
    let of_month = day - (153 * month + 2) / 5 + 1;
    let is_next_year = month >= 10;
    let month = if is_next_year { month - 9 } else { month + 3 };
    (400 * era + year + u64::from(is_next_year), month, of_month)
}

#[cfg(test)]
mod tests {
    use super::{Moment, date, nanos};
    use std::time::Duration;

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        let second = Moment::ZERO.plus(Duration::from_secs(1));
        assert_eq!(second.as_nanos(), 1_000_000_000);
        assert_eq!(Moment::ZERO.since(second), Duration::ZERO);
        assert_eq!(second.since(Moment::ZERO), Duration::from_secs(1));
        assert_eq!(second.plus(Duration::MAX), Moment::FOREVER);
        assert_eq!(nanos(Duration::MAX), u64::MAX);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (days, expected) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_454, (2026, 1, 1)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(date(days), expected, "{days}");
        }
        // Each day follows the one before.
        let mut before = date(0);
        for days in 1..200_000 {
            let (year, month, day) = date(days);
            let next = (year, month, day - 1) == before
                || (day == 1 && (year, month - 1) == (before.0, before.1) && before.2 >= 28)
                || ((month, day) == (1, 1) && before == (year - 1, 12, 31));
            assert!(next, "{before:?} before {:?}", (year, month, day));
            before = (year, month, day);
        }
    }
}
