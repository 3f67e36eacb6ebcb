//! Schedule of the probes of one upstream, and its changes between up and down.
//!
//! * Idle until an exchange fails; then the first probe is sent at once.
//! * An answered probe ends the probing and resets everything.
//! * A failed probe is followed by the next after the interval. When `max_fails` probes in a row
//!   have failed the upstream is down. (The reference marks it down one probe later than its
//!   `max_fails` says, by comparing with `>`; that defect is not copied.)
//! * While it stays down the interval doubles with each probe, up to [`delay_max`], so that a dead
//!   upstream costs almost nothing, yet its recovery is always noticed within that time. A jitter
//!   of a tenth separates upstreams that failed at the same time.
//!
//! There is at most one probe at a time. `max_fails 0`: never probed, never down.

use crate::config::{HealthCheck, PROBE_INTERVAL_MIN};
use crate::moment::{Moment, nanos};
use std::time::Duration;

/// Maximum delay between probes of a down upstream, unless its interval is longer.
const DELAY_MAX: Duration = Duration::from_secs(10);
/// Maximum of a delay, in intervals.
const DELAY_INTERVALS_MAX: u32 = 16;

/// Maximum delay between two probes of an upstream with this interval, before its jitter.
pub fn delay_max(interval: Duration) -> Duration {
    interval.saturating_mul(DELAY_INTERVALS_MAX).min(DELAY_MAX).max(interval)
}

/// Change of an upstream's health state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The upstream is down.
    Down {
        /// Number of probes in a row that failed.
        fails: u32,
    },
    /// The upstream answers again.
    Up {
        /// Duration of the outage.
        after: Duration,
    },
}

/// Result of a failed probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Time to call [`Schedule::on_due`].
    pub next: Moment,
    /// Set if the upstream went down.
    pub(crate) change: Option<Change>,
}

/// The state of one upstream.
#[derive(Clone, Debug)]
pub struct Schedule {
    max_fails: u32,
    interval: Duration,
    phase: Phase,
    /// Number of probes in a row that failed.
    fails: u32,
    down_since: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No failure is known.
    Idle,
    /// A probe is outstanding.
    Probing,
    /// A probe has failed and the next is not due.
    Waiting,
}

impl Schedule {
    /// Schedule of an upstream that is up, with the settings of `check`.
    pub fn new(check: &HealthCheck) -> Self {
        Self {
            max_fails: check.max_fails,
            interval: check.interval.max(PROBE_INTERVAL_MIN),
            phase: Phase::Idle,
            fails: 0,
            down_since: None,
        }
    }

    /// Handles a failed exchange. Returns true if a probe has to be sent now.
    #[must_use]
    pub fn on_failed_exchange(&mut self) -> bool {
        let begins = self.phase == Phase::Idle && self.max_fails > 0;
        if begins {
            self.phase = Phase::Probing;
        }
        begins
    }

    /// Handles the time of [`Failed::next`]. Returns true if a probe has to be sent now.
    #[must_use]
    pub fn on_due(&mut self) -> bool {
        let begins = self.phase == Phase::Waiting;
        if begins {
            self.phase = Phase::Probing;
        }
        begins
    }

    /// Handles an answered probe: the schedule is idle until an exchange fails.
    pub fn on_answered(&mut self, now: Moment) -> Option<Change> {
        debug_assert_eq!(self.phase, Phase::Probing, "no probe is under way");
        self.phase = Phase::Idle;
        self.fails = 0;
        self.down_since.take().map(|since| Change::Up { after: now.since(since) })
    }

    /// Handles a failed probe. `random` is a uniform number.
    pub fn on_unanswered(&mut self, now: Moment, random: u32) -> Failed {
        debug_assert_eq!(self.phase, Phase::Probing, "no probe is under way");
        self.phase = Phase::Waiting;
        self.fails = self.fails.saturating_add(1);
        let went_down = self.fails >= self.max_fails && self.down_since.is_none();
        if went_down {
            self.down_since = Some(now);
        }
        let change = went_down.then_some(Change::Down { fails: self.fails });
        Failed { next: now.plus(self.delay(random)), change }
    }

    /// Returns true if the upstream is down.
    pub fn is_down(&self) -> bool {
        self.down_since.is_some()
    }

    /// Returns true if the upstream is being probed: from a failed exchange until an answered
    /// probe.
    pub fn is_probing(&self) -> bool {
        self.phase != Phase::Idle
    }

    /// Returns the delay from the probe that has just failed to the next.
    fn delay(&self, random: u32) -> Duration {
        if !self.is_down() {
            return self.interval;
        }
        let doublings = (self.fails - self.max_fails).min(DELAY_INTERVALS_MAX.ilog2());
        let delay = self.interval.saturating_mul(1 << doublings).min(delay_max(self.interval));
        jittered(delay, random)
    }
}

/// Returns `delay`, at most a tenth longer or shorter.
fn jittered(delay: Duration, random: u32) -> Duration {
    let delay = nanos(delay);
    let part = (u128::from(delay / 5) * u128::from(random)) >> u32::BITS;
    Duration::from_nanos((delay - delay / 10).saturating_add(part as u64))
}

#[cfg(test)]
mod tests;
