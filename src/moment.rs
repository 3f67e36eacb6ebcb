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

#[cfg(test)]
mod tests {
    use super::{Moment, nanos};
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
}
