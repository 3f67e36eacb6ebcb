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

/// Number of mismatches in a row that is a burst: an attacker who knows the port and the question
/// then has 8 guesses at 65,536 IDs before the port changes.
const IN_A_ROW_MAX: u16 = 8;
/// Maximum number of mismatches of a connection in all. A network that delivers each response twice
/// costs one connection for this many.
const IN_ALL_MAX: u16 = 256;

/// Counts of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mismatches {
    /// Since the last response that matched.
    pub(super) in_a_row: u16,
    pub(super) in_all: u16,
    /// Queries that timed out: their responses may still arrive.
    pub(super) timed_out: u16,
}

impl Mismatches {
    /// Counts a query that timed out.
    pub(super) fn expect_late(&mut self) {
        self.timed_out = self.timed_out.saturating_add(1);
    }

    /// Counts one; returns true if it completes a burst.
    fn count(&mut self) -> bool {
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
    pub(crate) fn count_mismatch(&mut self, connection: ConnectionId) -> bool {
        let Some(slot) = self.slot(connection) else { return false };
        let member = &mut self.connections[slot as usize];
        let is_tcp = self.pools[member.pool as usize].settings.tcp;
        if is_tcp || !member.mismatches.count() {
            return false;
        }
        if member.outstanding == 0 {
            self.close(slot, Reason::Mismatched);
        } else {
            self.retire(slot, Reason::Mismatched);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{IN_A_ROW_MAX, IN_ALL_MAX, Mismatches};

    /// Number of mismatches until a burst; a response that matches comes before every `period`th.
    fn until_burst(mut counts: Mismatches, period: u16) -> u16 {
        let mut number = 1;
        while !counts.count() {
            if number % period == 0 {
                counts.in_a_row = 0;
            }
            number += 1;
        }
        number
    }

    #[test]
    fn a_burst_is_a_few_in_a_row_or_many_in_all() {
        let new = Mismatches::default;
        assert_eq!(until_burst(new(), u16::MAX), IN_A_ROW_MAX);
        assert_eq!(until_burst(new(), IN_A_ROW_MAX), IN_A_ROW_MAX);
        assert_eq!(until_burst(new(), IN_A_ROW_MAX - 1), IN_ALL_MAX);
        assert_eq!(until_burst(new(), 1), IN_ALL_MAX);
    }

    #[test]
    fn a_late_response_is_allowed_for_each_query_that_timed_out() {
        let late = Mismatches { timed_out: 64, ..Mismatches::default() };
        assert_eq!(until_burst(late, u16::MAX), IN_A_ROW_MAX + 64);
        let many = Mismatches { timed_out: u16::MAX, ..Mismatches::default() };
        assert_eq!(until_burst(many, u16::MAX), u16::MAX);
    }
}
