//! Replacement of connections that are usable but doubted.
//!
//! [`Trust`](super::trust) records the outcome of connections and decides which one makes room for
//! a new one. The pool closes it when it would be taken next, and dials another in its place, so
//! unused connections are never renewed, a query pays for one dial at most, and a busy connection
//! is considered when it has come back. A TCP connection serves until its successor is connected.

use super::trust::Replacement;
use super::{Pool, Pools};
use crate::engine::key::{ConnectionId, Key};
use crate::engine::stats::Reason;
use crate::moment::Moment;

impl Pools {
    /// Returns the replacement of the idle connection in `slot`, if it makes room for a new one.
    #[inline]
    pub(super) fn replacement(&mut self, slot: u32, now: Moment) -> Option<Replacement> {
        let member = &self.connections[slot as usize];
        let state = &mut self.pools[member.pool as usize];
        let size = state.idle.len() + state.busy.len() + state.retiring;
        if size > state.settings.max_conns {
            return None;
        }
        let answered = |scout: ConnectionId| {
            let Key { index, generation } = scout.0;
            let member = &self.connections[index as usize];
            member.generation == generation && member.tried
        };
        state.trust.replaces(now, member.dialled_at, size, answered)
    }

    #[cold]
    pub(super) fn replace_idle(
        &mut self,
        slot: u32,
        replacement: Replacement,
        now: Moment,
        random: u32,
    ) -> u32 {
        let pool = self.connections[slot as usize].pool as usize;
        self.close(slot, reason_of(replacement));
        let new = self.dial(pool, now, random);
        if replacement == Replacement::Scout {
            let scout = self.id(new);
            self.pools[pool].trust.sent_scout(scout);
        }
        new
    }

    /// Dials a successor of the TCP connection in `slot` if trust demands it; the query that is
    /// about to take the connection stays on it.
    pub(super) fn renew_tcp(&mut self, slot: u32, now: Moment, random: u32) {
        let member = &self.connections[slot as usize];
        let (pool, replaced) = (member.pool as usize, member.replaced);
        let Pool { settings, dials, .. } = &*self.pools[pool];
        if replaced || self.len(pool) >= settings.max_conns || dials.are_paused(now) {
            return;
        }
        let Some(replacement) = self.replacement(slot, now) else { return };
        let new = self.dial_successor(slot, reason_of(replacement), now, random);
        if replacement == Replacement::Scout {
            let scout = self.id(new);
            self.pools[pool].trust.sent_scout(scout);
        }
    }

    /// Reports a failure of the connection in `slot` to the pool's trust.
    pub(super) fn penalise(&mut self, slot: u32) {
        let member = &self.connections[slot as usize];
        let state = &mut self.pools[member.pool as usize];
        if member.retiring.is_none() {
            let size = state.len();
            state.trust.failed(self.now, !member.tried, size);
        }
    }
}

/// Maps the kind of replacement to the reason for closing.
fn reason_of(replacement: Replacement) -> Reason {
    match replacement {
        Replacement::Distrusted | Replacement::Scout => Reason::Distrusted,
        Replacement::Rebalanced => Reason::Rebalanced,
    }
}
