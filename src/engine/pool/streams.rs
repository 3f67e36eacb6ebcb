//! What is different about pools of streams (TCP).
//!
//! A stream carries many queries at once and answers come in any order (RFC 7766 §6.2.1.1), so a
//! pool holds few and fills them; only one whose oldest query has waited suspiciously long takes
//! no more. Among the busy ones those that are full stand behind all others, so that one with room
//! is found at once however many there are. Connecting takes a round trip, or for ever: each dial
//! has a deadline that follows what dials to this upstream took of late. And because a query
//! should never pay for the handshake, a stream that grows too old is replaced first and retires
//! when its successor is connected.

use super::{PoolSettings, Pools, SHARE_CANDIDATES_MAX, TakeError};
use crate::engine::key::ConnectionId;
use crate::engine::list::List;
use crate::engine::stats::Reason;
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
    /// No pending dial has a later deadline.
    latest: Moment,
    listed: bool,
}

impl Default for Dials {
    fn default() -> Self {
        Self { pending: List::default(), average: DIAL_FIRST, latest: Moment::ZERO, listed: false }
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
        if shared.is_none() || self.is_full(slot) {
            self.line_up(slot);
        }
        Ok(self.id(slot))
    }

    /// Whether the stream in `slot` carries as many queries as it may.
    pub(super) fn is_full(&self, slot: u32) -> bool {
        let member = &self.connections[slot as usize];
        let settings = &self.pools[member.pool as usize].settings;
        settings.streams && member.outstanding as usize >= settings.max_inflight
    }

    /// Has the busy stream in `slot` stand behind all others if it is full, and else before them.
    pub(super) fn line_up(&mut self, slot: u32) {
        let (full, member) = (self.is_full(slot), &self.connections[slot as usize]);
        if member.retiring.is_some() {
            return;
        }
        let busy = &mut self.pools[member.pool as usize].busy;
        busy.remove(&mut self.connections, slot, |member| &mut member.link);
        if full {
            busy.push_back(&mut self.connections, slot, |member| &mut member.link);
        } else {
            busy.push_front(&mut self.connections, slot, |member| &mut member.link);
        }
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

    /// Whether it is a stream that is not connected yet.
    pub fn is_dialling(&self, connection: ConnectionId) -> bool {
        let slot = self.slot(connection);
        slot.is_some_and(|slot| self.connections[slot as usize].dial_until.is_some())
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
                self.close(idle, Reason::Failed);
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
        let pool = self.connections[slot as usize].pool as usize;
        let state = &mut self.pools[pool];
        state.settings.expire = state.expire_configured.min(limit);
        self.arm(pool);
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
        let until = now.plus(dials.timeout());
        member.dial_until = Some(until);
        // What began earlier is given up no later: so deadlines lie in the order of the list.
        if until < dials.latest {
            let mut next = dials.pending.front();
            while let Some(slot) = next {
                let earlier = &mut self.connections[slot as usize];
                earlier.dial_until = earlier.dial_until.min(Some(until));
                next = dials.pending.after(&self.connections, slot, |member| &member.dial_link);
            }
        }
        dials.latest = until;
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
        // A successor that nobody has used needs none: else an idle pool would dial for ever.
        let wanted = streams && member.proven && !member.replaced && !full;
        let Some(max_age) = max_age.filter(|_| wanted) else {
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

#[cfg(test)]
mod tests {
    use super::super::TrustSettings;
    use super::{DIAL_FIRST, DIAL_MIN, PoolSettings, Pools, TakeError};
    use crate::engine::key::ConnectionId;
    use crate::moment::Moment;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn settings(max_age: Option<Duration>) -> PoolSettings {
        PoolSettings {
            expire: 10 * SECOND,
            max_age,
            jitter: 10,
            max_idle: None,
            spread: 1,
            max_conns: 100,
            max_inflight: 1,
            streams: true,
            trust: TrustSettings::default(),
        }
    }

    fn pools(max_age: Option<Duration>) -> Pools {
        Pools::new([settings(max_age)])
    }

    fn at(seconds: f64) -> Moment {
        Moment::ZERO.plus(Duration::from_secs_f64(seconds))
    }

    fn take(pools: &mut Pools, now: Moment) -> ConnectionId {
        pools.take(0, now, 0, |_| false).unwrap()
    }

    #[test]
    fn a_stream_that_was_used_is_replaced_and_its_unused_successor_is_not() {
        let mut pools = pools(Some(10 * SECOND));
        let old = take(&mut pools, at(0.0));
        pools.connected(old, at(0.1));
        pools.prove(old);
        pools.release(old, at(0.2), false);
        pools.sweep(0, at(9.5), 0);
        let new = pools.next_dial().expect("make before break");
        pools.connected(new, at(9.6));
        assert_eq!((pools.next_closed(), pools.len(0)), (Some(old), 1));
        pools.sweep(0, at(19.0), 0);
        assert_eq!((pools.next_dial(), pools.next_closed()), (None, Some(new)));
        pools.next_request();
        assert_eq!((pools.len(0), pools.next_request()), (0, None), "it goes on for ever");
    }

    #[test]
    fn streams_with_room_are_filled_however_many_others_are_full() {
        let mut pools = Pools::new([PoolSettings { max_inflight: 2, ..settings(None) }]);
        let full: Vec<_> = (0..200).map(|_| take(&mut pools, at(0.0))).collect();
        assert_eq!(pools.len(0), 100, "two on each");
        let none = pools.take(0, at(0.0), 0, |_| false);
        assert_eq!(none, Err(TakeError::Exhausted));
        // Of the one dialled last and of one in the middle a query ends.
        for stream in [full[199], full[101]] {
            pools.release(stream, at(1.0), false);
            assert_eq!(take(&mut pools, at(1.0)), stream);
        }
        assert_eq!((pools.len(0), pools.stats(0).shared), (100, 102));
    }

    #[test]
    fn an_announced_limit_holds_for_streams_that_are_idle_already() {
        let mut pools = pools(None);
        let [idle, busy] = [(); 2].map(|()| take(&mut pools, at(0.0)));
        pools.release(idle, at(1.0), false);
        assert_eq!(pools.next_request(), Some((0, at(10.0))), "it is one more than needed");
        pools.announce(busy, 2 * SECOND);
        pools.release(busy, at(1.5), false);
        assert_eq!(pools.next_request(), Some((0, at(2.0))));
    }

    #[test]
    fn a_dial_is_not_given_longer_for_lying_behind_an_earlier_one() {
        let mut pools = pools(None);
        let first = take(&mut pools, at(0.0));
        assert_eq!(pools.next_dial_deadline(), Some(at(0.0).plus(2 * DIAL_FIRST)));
        // Many succeed at once, so none is waited for that long any more.
        for _ in 0..40 {
            let quick = take(&mut pools, at(1.0));
            pools.connected(quick, at(1.0));
        }
        let second = take(&mut pools, at(1.5));
        for (dial, begun) in [(first, 1.0), (second, 1.5)] {
            let until = at(begun).plus(DIAL_MIN);
            assert_eq!(pools.next_dial_deadline(), Some(until));
            assert_eq!(pools.overdue_dial(until), Some(dial));
            pools.break_off(dial);
            pools.release(dial, until, false);
        }
        assert_eq!(pools.next_dial_deadline(), None);
    }
}
