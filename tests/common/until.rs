//! Polling for a condition.
//!
//! The condition is checked repeatedly until a deadline that even a slow host meets. Tests that can
//! block on an event do so instead.

use onward::clock::Clock;
use onward::moment::Moment;
use std::time::Duration;

/// Deadline for any event that must happen.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// Calls `look` repeatedly until it returns a value.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let (clock, (_nobody, nothing)) = (Clock::start(), crossbeam_channel::bounded::<()>(0));
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(clock.now().since(Moment::ZERO) < TIMEOUT, "waited in vain: {what}");
        let _ = nothing.recv_timeout(Duration::from_millis(2));
    }
}
