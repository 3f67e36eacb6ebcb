//! Queries that are stuck behind others on a connection (head-of-line blocking).
//!
//! If an upstream answers in order, every query on a connection waits for the slowest. A query that
//! has waited behind others for longer than usual is sent again on another connection, which does
//! not count as a failure. The earlier attempt still occupies its connection: the first of the two
//! responses is delivered, the other is dropped. The number of moves is limited for each query
//! here, and in total by a budget that grows with the pool's answers.

use super::{Forwarder, Outgoing};
use crate::engine::key::ConnectionId;
use crate::engine::message::id;
use crate::engine::pool::Stall;
use crate::engine::stats::DropReason;
use crate::moment::Moment;
use rand_chacha::rand_core::Rng;
use std::time::Duration;

/// Maximum number of moves of a query.
const MOVES_MAX: u32 = 3;

impl Forwarder {
    /// Moves the queries that are stuck on a connection to others.
    pub(super) fn relieve(&mut self, now: Moment, stall: &Stall) {
        let connection = stall.connection;
        let (mut stuck, mut again) = (false, None);
        let mut next = self.exchanges.behind(connection, stall.at_work);
        while let Some(slot) = next {
            next = self.exchanges.next_on(connection, slot);
            let head_wait = stall.head_wait.min(self.exchanges.attempt_timeout(slot) / 2);
            let due = self.exchanges.attempt_began(slot).max(stall.since).plus(head_wait);
            if now < due {
                again = again.or(Some(due));
                break;
            }
            stuck = true;
            if self.exchanges.get(slot).moves >= MOVES_MAX {
                self.pools.count_unmoved(connection);
            } else if !self.move_apart(now, slot, connection) {
                self.pools.count_unmoved(connection);
                again = Some(now.plus(head_wait));
                break;
            }
        }
        self.pools.note_stall(now, stall, stuck, again);
    }

    /// Returns true if the query that was sent with the ID `sent` waits for its response on this
    /// connection, even if it was moved since; false if that response will be dropped. `None`: the
    /// ID is free.
    pub fn awaits(&self, send: &Outgoing, sent: u16) -> Option<bool> {
        if self.query(send).and_then(id) == Some(sent) {
            return Some(true);
        }
        match self.find_earlier(send.connection, sent) {
            Ok(_) => Some(true),
            Err(DropReason::ResponseRepeated) => Some(false),
            Err(_) => None,
        }
    }

    /// Sends the query in `slot` again on a connection other than `connection`; returns false if
    /// there is none.
    fn move_apart(&mut self, now: Moment, slot: u32, connection: ConnectionId) -> bool {
        let (random, exchanges) = (self.random.next_u32(), &self.exchanges);
        let waits = |connection, head_wait: Duration| exchanges.waits(connection, now, head_wait);
        let Ok(other) = self.pools.take_apart(connection, now, random, waits) else { return false };
        debug_assert_ne!(other, connection, "it would be stuck again");
        self.leave(slot);
        self.pools.release(connection, now, false);
        self.exchanges.get(slot).moves += 1;
        let upstream = self.upstream_of(slot);
        let (_, transport) = self.exchanges.last_asked(slot);
        let way = self.upstreams.way_to(upstream, transport);
        let edns = self.speaks_edns(now, slot, upstream);
        self.send_on(now, slot, upstream, (other, way), edns);
        true
    }

    /// Turns the current attempt of the query in `slot` into an earlier one, whose response may
    /// still arrive.
    fn leave(&mut self, slot: u32) -> Option<ConnectionId> {
        let left = self.exchanges.leave_attempt(slot)?;
        self.pools.count_left(left.connection, true);
        if let Some(forgotten) = left.forgotten {
            self.pools.count_left(forgotten, false);
        }
        Some(left.connection)
    }

    /// Returns the exchange whose earlier attempt on `connection` has this ID.
    #[cold]
    pub(super) fn find_earlier(
        &self,
        connection: ConnectionId,
        id: u16,
    ) -> Result<u32, DropReason> {
        let found = self.exchanges.find_earlier(connection, id);
        let slot = found.ok_or(DropReason::ResponseUnmatched)?;
        // A response counts only if the current attempt is at the same upstream.
        let pool = |connection| self.pools.pool_of(connection);
        let same = |slot: &u32| self.exchanges.connection(*slot).and_then(pool) == pool(connection);
        slot.ok().filter(same).ok_or(DropReason::ResponseRepeated)
    }

    /// Ends the earlier attempt on `connection` that `packet` responds to.
    #[cold]
    pub(super) fn end_earlier(&mut self, now: Moment, connection: ConnectionId, packet: &[u8]) {
        let Some(id) = id(packet) else { return };
        self.exchanges.end_earlier(connection, id);
        self.pools.count_left(connection, false);
        self.pools.answered(connection, now, now, |_| 0);
    }

    /// Ends both attempts of the exchange in `slot`: `packet` on `connection` answers the earlier
    /// one.
    #[cold]
    pub(super) fn end_elsewhere(
        &mut self,
        now: Moment,
        slot: u32,
        connection: ConnectionId,
        packet: &[u8],
    ) {
        self.end_earlier(now, connection, packet);
        if let Some(other) = self.leave(slot) {
            self.pools.release(other, now, false);
        }
    }
}
