//! Bursts of responses on a UDP connection that match no query on it (RFC 5452 §9.3).
//!
//! Each is probably a forgery by an attacker who has found the connection's port and now guesses
//! IDs. After a few of them in a row the connection takes no more queries, and its queries are
//! asked over TCP, whose responses cannot be forged blindly. An upstream may send some itself: late
//! responses to queries that timed out, at most as many as the connection has counted, and copies
//! that the network makes. Copies come behind the response, which begins a new burst, so only the
//! total catches them.

use super::Pools;
use crate::engine::key::ConnectionId;
use crate::engine::stats::Reason;
use crate::moment::Moment;
use std::time::Duration;

/// Number of mismatches in a row that is a burst: an attacker who knows the port and the question
/// then has 8 guesses at 65,536 IDs before the port changes.
const IN_A_ROW_MAX: u16 = 8;
/// Maximum number of mismatches within [`PERIOD`]: it bounds the guesses while responses arrive
/// that match. A network that delivers each response twice costs one connection for this many.
const IN_ALL_MAX: u16 = 256;
/// Time after which the mismatches in all are counted anew.
const PERIOD: Duration = Duration::from_secs(60);

/// Counts of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mismatches {
    /// Since the last response that matched.
    in_a_row: u16,
    /// Since `since`.
    in_all: u16,
    since: Moment,
    /// Queries that timed out: their responses may still arrive.
    timed_out: u16,
}

impl Mismatches {
    /// The counts of a new connection.
    pub(super) const NONE: Self =
        Self { in_a_row: 0, in_all: 0, since: Moment::ZERO, timed_out: 0 };

    /// Notes the end of a query: `silent`, by its time-out, after which a late response may come;
    /// otherwise a response has matched, and begins a new row.
    #[inline(always)]
    pub(super) fn note_end(&mut self, silent: bool) {
        if silent {
            self.timed_out = self.timed_out.saturating_add(1);
        } else {
            self.in_a_row = 0;
        }
    }

    /// Counts one; returns true if it completes a burst.
    fn count(&mut self, now: Moment) -> bool {
        if self.since.plus(PERIOD) <= now {
            self.since = now;
            self.in_all = 0;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.in_all = self.in_all.saturating_add(1);
        let late = self.timed_out;
        self.in_a_row >= IN_A_ROW_MAX.saturating_add(late)
            || self.in_all >= IN_ALL_MAX.saturating_add(late)
    }
}

impl Pools {
    /// Counts a response on `connection` that matches no query on it. Returns true if the
    /// connection was retired for it: the caller then asks its queries elsewhere.
    pub(crate) fn count_mismatch(&mut self, connection: ConnectionId, now: Moment) -> bool {
        let Some(slot) = self.slot(connection) else { return false };
        let member = &mut self.connections[slot as usize];
        let is_tcp = self.pools[member.pool as usize].settings.tcp;
        if is_tcp || !member.mismatches.count(now) {
            return false;
        }
        self.put_out(slot, Reason::Mismatched);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{IN_A_ROW_MAX, IN_ALL_MAX, Mismatches, PERIOD};
    use crate::moment::Moment;
    use std::time::Duration;

    /// Number of mismatches until a burst, at intervals of `pause`; a response that matches comes
    /// behind every `period`th. At most 10,000.
    fn until_burst(mut counts: Mismatches, period: u16, pause: Duration) -> u16 {
        let mut now = Moment::ZERO.plus(PERIOD);
        let mut number = 1;
        while number < 10_000 && !counts.count(now) {
            if number % period == 0 {
                counts.in_a_row = 0;
            }
            number += 1;
            now = now.plus(pause);
        }
        number
    }

    const AT_ONCE: Duration = Duration::ZERO;

    #[test]
    fn a_burst_is_a_few_in_a_row_or_many_in_all() {
        let of = |period| until_burst(Mismatches::NONE, period, AT_ONCE);
        assert_eq!(of(u16::MAX), IN_A_ROW_MAX);
        assert_eq!(of(IN_A_ROW_MAX), IN_A_ROW_MAX);
        assert_eq!(of(IN_A_ROW_MAX - 1), IN_ALL_MAX);
        assert_eq!(of(1), IN_ALL_MAX);
    }

    #[test]
    fn mismatches_among_responses_that_match_are_forgotten_in_time() {
        let of = |pause| until_burst(Mismatches::NONE, 1, pause);
        assert_eq!(of(PERIOD / 1_000), IN_ALL_MAX);
        assert_eq!(of(PERIOD / 100), 10_000, "never");
    }

    #[test]
    fn a_late_response_is_allowed_for_each_query_that_timed_out() {
        let late = Mismatches { timed_out: 64, ..Mismatches::NONE };
        assert_eq!(until_burst(late, u16::MAX, AT_ONCE), IN_A_ROW_MAX + 64);
        let many = Mismatches { timed_out: u16::MAX, ..Mismatches::NONE };
        assert_eq!(until_burst(many, u16::MAX, AT_ONCE), 10_000, "never");
    }
}
