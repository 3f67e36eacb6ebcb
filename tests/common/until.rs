//! Waiting for something to become true.
//!
//! Looked at again and again, with a deadline that no host is too slow for. What can be waited
//! for by blocking on it is not waited for here.

use onward::clock::Clock;
use onward::moment::Moment;
use std::time::Duration;

/// How long anything that must happen may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// Looks again and again until there is something to be found.
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
