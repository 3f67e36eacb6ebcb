//! The only reader of time.
//!
//! Event loops read a [`Clock`] once a turn and pass the [`Moment`] down; the pure modules never
//! read a clock. Copies of a clock share its origin, so moments can be passed between threads.

use crate::moment::Moment;
use std::time::{Duration, Instant, SystemTime};

/// A monotonic clock; copies share their origin.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose origin is now.
    #[expect(clippy::disallowed_methods, reason = "this file is the only reader of time")]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// The time since the origin.
    #[expect(clippy::disallowed_methods, reason = "this file is the only reader of time")]
    pub fn now(&self) -> Moment {
        Moment::ZERO.plus(Instant::now().saturating_duration_since(self.origin))
    }

    /// The time by the calendar, since 1970.
    #[expect(clippy::disallowed_methods, reason = "this file is the only reader of time")]
    pub fn calendar() -> Duration {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    /// Returns the offset from a moment's time since the origin to the calendar's time since 1970.
    /// Computed again for each batch of moments, because the system clock may be set meanwhile.
    pub(crate) fn origin_by_calendar(&self) -> Duration {
        Self::calendar().saturating_sub(self.now().since(Moment::ZERO))
    }

    /// The time by the calendar: seconds since 1970, modulo 2^32.
    pub(crate) fn unix(&self) -> u32 {
        Self::calendar().as_secs() as u32
    }

    /// Converts a moment to the standard library's type, for calls that wait until a deadline.
    /// `None` if it is too far away to be represented: then there is nothing to wait for.
    pub(crate) fn instant(&self, moment: Moment) -> Option<Instant> {
        self.origin.checked_add(Duration::from_nanos(moment.as_nanos()))
    }
}
