//! What is different about pools of streams (TCP).
//!
//! A stream carries many queries at once and answers come in any order (RFC 7766 §6.2.1.1), so a
//! pool holds few and fills them, the longest-serving first; only one whose oldest query has
//! waited suspiciously long takes no more. Connecting takes a round trip, or for ever: each dial
//! has a deadline that follows what dials to this upstream took of late. And because a query
//! should never pay for the handshake, a stream that grows too old is replaced first and retires
//! when its successor is connected.

use super::connection::Reason;
use super::{PoolSettings, Pools, SHARE_CANDIDATES_MAX, TakeError};
use crate::engine::key::ConnectionId;
use crate::engine::list::List;
use crate::moment::Moment;
use std::time::Duration;

/// The average that a pool begins with, before any dial has succeeded.
const DIAL_FIRST: Duration = Duration::from_secs(15);
/// No dial is given up earlier than this or later than that.
const DIAL_MIN: Duration = Duration::from_secs(1);
const DIAL_MAX: Duration = Duration::from_secs(30);
/// A stream whose successor is being dialled is kept for this part of `max_age` at most.
pub(super) const GRACE_DIVISOR: u32 = 20;

/// The dials of one pool.
#[derive(Debug)]
pub(super) struct Dials {
    pending: List,
    /// A moving average of how long dials took that succeeded. Failures do not count: an upstream
    /// that was away for a while is not slow when it is back.
    average: Duration,
    listed: bool,
}

impl Default for Dials {
    fn default() -> Self {
        Self { pending: List::default(), average: DIAL_FIRST, listed: false }
    }
}

impl Dials {
    fn timeout(&self) -> Duration {
        match self.average {
            average if average < DIAL_MIN => DIAL_MIN,
            average => (2 * average).min(DIAL_MAX),
        }
    }

    fn took(&mut self, elapsed: Duration) {
        self.average = self.average * 3 / 4 + elapsed / 4;
    }
}

impl Pools {
    /// Finds a stream of `pool` for one query.
    pub(super) fn take_stream(
        &mut self,
        pool: usize,
        now: Moment,
        random: u32,
        suspect: impl Fn(ConnectionId) -> bool,
    ) -> Result<ConnectionId, TakeError> {
        self.retire_overdue(pool, now, random);
        let state = &self.pools[pool];
        let room = |slot: &u32| {
            let outstanding = self.connections[*slot as usize].outstanding as usize;
            outstanding < state.settings.max_inflight && !suspect(self.id(*slot))
        };
        let busy = state.busy.iter(&self.connections, |member| &member.link);
        let shared = busy.take(SHARE_CANDIDATES_MAX).find(room);
        let (idle, full) = (state.idle.front(), state.len() >= state.settings.max_conns);
        let slot = match (shared, idle) {
            (Some(slot), _) => slot,
            (None, Some(slot)) => {
                self.take_idle(slot);
                slot
            }
            (None, None) if full => return Err(TakeError::Exhausted),
            (None, None) => self.dial(pool, now, random),
        };
        let state = &mut self.pools[pool];
        state.peak = state.peak.max(state.busy.len());
        state.stats.shared += u64::from(shared.is_some());
        self.connections[slot as usize].outstanding += 1;
        Ok(self.id(slot))
    }

    /// The stream is connected.
    pub fn connected(&mut self, connection: ConnectionId, now: Moment) {
        let Some(slot) = self.slot(connection) else { return };
        let member = &self.connections[slot as usize];
        let (pool, elapsed) = (member.pool as usize, now.since(member.dialled_at));
        let replaces = member.replaces;
        if member.dial_until.is_some() {
            self.pools[pool].dials.took(elapsed);
            self.end_dial(slot);
        }
        if let Some(old) = replaces.and_then(|old| self.slot(old)) {
            self.put_out(old, Reason::Aged);
        }
    }

    /// The stream has carried an answer.
    pub fn prove(&mut self, connection: ConnectionId) {
        if let Some(slot) = self.slot(connection) {
            self.connections[slot as usize].proven = true;
        }
    }

    /// The peer has closed or reset the stream, which is about to be broken off. True if that was
    /// between queries, as far as anybody can know: the stream had worked, so what is on it now may
    /// try again elsewhere at no cost. Streams that have been idle for longer are as dead, and are
    /// closed with it.
    pub fn was_closed_between_queries(&mut self, connection: ConnectionId) -> bool {
        let Some(slot) = self.slot(connection) else { return false };
        let member = &self.connections[slot as usize];
        let (pool, proven, dialled_at) = (member.pool as usize, member.proven, member.dialled_at);
        if proven {
            while let Some(idle) = self.pools[pool].idle.front()
                && self.connections[idle as usize].dialled_at <= dialled_at
            {
                self.close(idle, Reason::Broken);
            }
        }
        proven
    }

    /// The upstream will close idle streams after `limit` (RFC 7828 §3.4): we close them before.
    /// Zero: it wants this one closed.
    pub fn announce(&mut self, connection: ConnectionId, limit: Duration) {
        let Some(slot) = self.slot(connection) else { return };
        if limit.is_zero() {
            return self.put_out(slot, Reason::Expired);
        }
        let state = &mut self.pools[self.connections[slot as usize].pool as usize];
        state.settings.expire = state.expire_configured.min(limit);
    }

    /// The next stream to dial though no query waits for it.
    pub fn next_dial(&mut self) -> Option<ConnectionId> {
        self.to_dial.pop()
    }

    /// A stream whose dial has taken too long.
    pub fn overdue_dial(&self, now: Moment) -> Option<ConnectionId> {
        let late = |(slot, until): (u32, Moment)| (until <= now).then(|| self.id(slot));
        self.first_dials().find_map(late)
    }

    /// When [`Pools::overdue_dial`] next has one.
    pub fn next_dial_deadline(&self) -> Option<Moment> {
        self.first_dials().map(|(_, until)| until).min()
    }

    /// Of each pool that dials, the dial that began first, and its deadline.
    fn first_dials(&self) -> impl Iterator<Item = (u32, Moment)> {
        self.dialling.iter().filter_map(|pool| {
            let slot = self.pools[*pool as usize].dials.pending.front()?;
            Some((slot, self.connections[slot as usize].dial_until?))
        })
    }

    /// Streams that are dialled to replace others.
    pub(super) fn successors(&self, pool: usize) -> usize {
        let dials = &self.pools[pool].dials.pending;
        let dials = dials.iter(&self.connections, |member| &member.dial_link);
        dials.filter(|slot| self.connections[*slot as usize].replaces.is_some()).count()
    }

    pub(super) fn begin_dial(&mut self, slot: u32, now: Moment) {
        let member = &mut self.connections[slot as usize];
        let pool = member.pool;
        let dials = &mut self.pools[pool as usize].dials;
        member.dial_until = Some(now.plus(dials.timeout()));
        dials.pending.push_back(&mut self.connections, slot, |member| &mut member.dial_link);
        if !std::mem::replace(&mut dials.listed, true) {
            self.dialling.push(pool);
        }
    }

    /// The dial has ended, one way or the other; does nothing if there is none.
    pub(super) fn end_dial(&mut self, slot: u32) {
        let member = &mut self.connections[slot as usize];
        if member.dial_until.take().is_none() {
            return;
        }
        let pool = member.pool;
        let dials = &mut self.pools[pool as usize].dials;
        dials.pending.remove(&mut self.connections, slot, |member| &mut member.dial_link);
        if dials.pending.is_empty() {
            dials.listed = false;
            self.dialling.retain(|other| *other != pool);
        }
    }

    /// The stream in `slot` has reached its age limit. True if it may stay a little longer, while
    /// its successor is dialled.
    pub(super) fn replace(&mut self, slot: u32, now: Moment, random: u32) -> bool {
        let member = &self.connections[slot as usize];
        let pool = member.pool as usize;
        let PoolSettings { streams, max_age, max_conns, .. } = self.pools[pool].settings;
        let full = self.pools[pool].len() >= max_conns;
        let Some(max_age) = max_age.filter(|_| streams && !member.replaced && !full) else {
            return false;
        };
        let old = self.id(slot);
        self.pools[pool].ages.remove(&mut self.connections, slot);
        let member = &mut self.connections[slot as usize];
        // To be replaced is not to be used: a stream that nobody needs ends with its successor.
        let idle_since = if member.idle { member.idle_since } else { now };
        member.replaced = true;
        member.retire_at = member.retire_at.plus(max_age / GRACE_DIVISOR);
        self.pools[pool].ages.push(&mut self.connections, slot);
        let new = self.dial(pool, now, random);
        let state = &mut self.pools[pool];
        state.busy.remove(&mut self.connections, new, |member| &mut member.link);
        let member = &mut self.connections[new as usize];
        (member.replaces, member.idle, member.idle_since) = (Some(old), true, idle_since);
        state.idle.push_back(&mut self.connections, new, |member| &mut member.link);
        self.to_dial.push(self.id(new));
        true
    }

    /// The connection in `slot` takes no new query, and is closed at once if none is on it.
    fn put_out(&mut self, slot: u32, reason: Reason) {
        if self.connections[slot as usize].outstanding == 0 {
            self.close(slot, reason);
        } else {
            self.retire(slot, reason);
        }
    }
}
