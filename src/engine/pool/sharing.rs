//! Choice of a busy connection for a query, and queries that are stuck on one.
//!
//! A TCP connection carries many queries at a time, and answers come in any order (RFC 7766
//! §6.2.1.1), so a pool holds few TCP connections and fills them, unless its spread is larger. How
//! many queries one carries is learnt ([`super::pace`]): it is *full* at the window or the limit,
//! and *blocked* while a query, behind which the upstream is not known to work on another, has
//! waited longer than the head wait. Full and blocked connections take a query only if there is no
//! other TCP connection and none may be dialled. They stand at the end of the busy list, so that a
//! connection with room is found at once.

use super::{PoolSettings, Pools};
use crate::engine::key::ConnectionId;
use crate::engine::stats::Reason;
use crate::moment::Moment;
use std::time::Duration;

/// Maximum number of busy connections searched for the least loaded one: bounds the cost of a
/// batch, not fairness, since those searched go to the end.
const SHARE_CANDIDATES_MAX: usize = 64;
/// While this many TCP connections of a pool are being dialled, the busy ones are filled instead.
const DIALS_MAX: usize = 4;
/// An upstream that closes its connections does so within this time of the last answer.
const CLOSING: Duration = Duration::from_secs(1);

/// Reason why a query got no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeError {
    /// The pool was stopped.
    Stopped,
    /// The pool holds `max_conns` connections, and none of them takes another query.
    Exhausted,
    /// A handshake rejected the upstream's identity a moment ago, so dials are paused.
    Paused,
    /// The connections of the pool are owned: [`Pools::take_owned`] has to be called.
    Owned,
}

/// A TCP connection on which queries may be stuck behind others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stall {
    pub(crate) connection: ConnectionId,
    /// Number of the oldest queries that are not stuck, because the upstream is working on them.
    pub(crate) at_work: usize,
    /// Time of the connect: no query on the connection was sent earlier.
    pub(crate) since: Moment,
    /// Time after which a query behind those counts as stuck.
    pub(crate) head_wait: Duration,
}

impl Pools {
    /// Finds a TCP connection of `pool` for one query.
    pub(super) fn take_tcp(
        &mut self,
        pool: usize,
        now: Moment,
        random: u32,
        waits: impl Fn(ConnectionId, Duration) -> bool,
    ) -> Result<ConnectionId, TakeError> {
        self.retire_overdue(pool, now, random);
        self.pools[pool].pace.forget_old(now);
        let slot = match self.find_tcp(pool, now, &waits) {
            Some(slot) => slot,
            None => match self.fuller_instead(pool, now, None, &waits) {
                Some(slot) => slot,
                None => self.dial_for_query(pool, now, random)?,
            },
        };
        let taken = self.put_on(slot, now, random);
        let state = &mut self.pools[pool];
        if state.settings.spread > 1 {
            // The queries of one turn stay together, so that one write sends them.
            if state.batch.replace((slot, 1)).is_none() {
                self.batches.push(pool as u32);
            }
            self.dial_ahead(pool, now, random);
        }
        Ok(taken)
    }

    /// Finds another TCP connection of the pool of `stuck` for a query on it, if possible an idle
    /// one.
    ///
    /// # Errors
    /// [`TakeError`]; the query stays where it is.
    pub(crate) fn take_apart(
        &mut self,
        stuck: ConnectionId,
        now: Moment,
        random: u32,
        waits: impl Fn(ConnectionId, Duration) -> bool,
    ) -> Result<ConnectionId, TakeError> {
        let Some(apart) = self.slot(stuck).filter(|_| !self.stopped) else {
            return Err(TakeError::Stopped);
        };
        let pool = self.connections[apart as usize].pool as usize;
        if !self.pools[pool].pace.pays() || self.pools[pool].settings.owned {
            return Err(TakeError::Exhausted);
        }
        let found = self.idle_with_room(pool, now);
        let found = found.or_else(|| self.fuller_instead(pool, now, Some(apart), &waits));
        let slot = match found {
            Some(slot) => slot,
            None => self.dial_for_query(pool, now, random)?,
        };
        self.pools[pool].stats.moved += 1;
        Ok(self.put_on(slot, now, random))
    }

    /// Returns the next TCP connection on which queries may be stuck.
    pub(crate) fn overdue_stall(&mut self, now: Moment) -> Option<Stall> {
        loop {
            let slot = self.stalls.overdue(now)?;
            let member = &self.connections[slot as usize];
            let head_wait = self.pools[member.pool as usize].pace.head_wait();
            if member.outstanding <= member.depth + 1 {
                continue;
            }
            if member.dial_until.is_some() {
                self.stalls.set(slot, now.plus(head_wait));
                continue;
            }
            let (at_work, since) = (member.depth as usize + 1, member.connected_at);
            return Some(Stall { connection: self.id(slot), at_work, since, head_wait });
        }
    }

    /// Returns the time at which [`Pools::overdue_stall`] returns the next one.
    pub(crate) fn next_stall(&self) -> Option<Moment> {
        self.stalls.next()
    }

    /// Records the result of a check of `stall`; `stuck`: a query was stuck. `again`: time of the
    /// next check, unless an answer comes before.
    pub(crate) fn note_stall(
        &mut self,
        now: Moment,
        stall: &Stall,
        stuck: bool,
        again: Option<Moment>,
    ) {
        let Some(slot) = self.slot(stall.connection) else { return };
        let member = &self.connections[slot as usize];
        if stuck {
            self.pools[member.pool as usize].pace.stuck(now, member.depth);
        }
        if let Some(again) = again.filter(|_| !self.stalls.is_set(slot)) {
            self.stalls.set(slot, again.max(now.plus(Duration::from_millis(1))));
        }
    }

    /// Respects the server's limit of requests at once on connections like this one.
    pub(crate) fn limit_in_flight(&mut self, connection: ConnectionId, most: usize) {
        if let Some(pool) = self.pool_of(connection) {
            self.pools[pool].pace.respect(most);
        }
    }

    /// Counts a query that is stuck and cannot be moved.
    pub(crate) fn count_unmoved(&mut self, connection: ConnectionId) {
        if let Some(pool) = self.pool_of(connection) {
            self.pools[pool].stats.unmoved += 1;
        }
    }

    /// Counts a query that is asked again at no cost because of the end of `connection`.
    pub(crate) fn count_asked_again(&mut self, connection: ConnectionId) {
        if let Some(pool) = self.pool_of(connection) {
            self.pools[pool].stats.asked_again += 1;
        }
    }

    /// Counts one more (`more`) or one less answer to a moved query that may still arrive on the
    /// TCP connection.
    pub(crate) fn count_left(&mut self, connection: ConnectionId, more: bool) {
        if let Some(slot) = self.slot(connection) {
            let member = &mut self.connections[slot as usize];
            debug_assert!(more || member.left > 0, "nothing has left {member:?}");
            member.left = if more { member.left + 1 } else { member.left.saturating_sub(1) };
        }
    }

    /// Records an answer on the TCP connection to a query that was sent at `began`. `ahead` counts
    /// the older queries on it, up to the given number.
    pub(crate) fn answered(
        &mut self,
        connection: ConnectionId,
        now: Moment,
        began: Moment,
        ahead: impl FnOnce(usize) -> usize,
    ) {
        let Some(slot) = self.slot(connection) else { return };
        let member = &mut self.connections[slot as usize];
        let alone = member.outstanding <= 1;
        let ahead = if alone { 0 } else { ahead(member.depth as usize + 1) as u32 };
        // An upstream that answers in order begins with a query after it has answered the one
        // before.
        let from = if ahead == 0 { member.progress } else { member.connected_at };
        (member.answers, member.served) = (member.answers.saturating_add(1), true);
        (member.progress, member.depth) = (now, member.depth.max(ahead));
        let (load, depth) = (member.outstanding + member.left, member.depth);
        let pace = &mut self.pools[member.pool as usize].pace;
        let took = now.as_nanos().saturating_sub(began.max(from).as_nanos());
        pace.answered(took, load, depth);
    }

    /// Finds a TCP connection of `pool` that is neither full nor blocked. One that is still being
    /// dialled is the last choice.
    fn find_tcp(
        &mut self,
        pool: usize,
        now: Moment,
        waits: &impl Fn(ConnectionId, Duration) -> bool,
    ) -> Option<u32> {
        let taken = self.pools[pool].batch.filter(|(_, left)| *left > 0);
        if let Some((slot, _)) = taken
            && self.has_room(slot)
            && self.is_free(slot, now, waits)
        {
            return Some(slot);
        }
        let state = &self.pools[pool];
        let found = match state.busy.len() < state.settings.spread {
            true => {
                self.idle_with_room(pool, now).or_else(|| self.busy_with_room(pool, now, waits))
            }
            false => {
                self.busy_with_room(pool, now, waits).or_else(|| self.idle_with_room(pool, now))
            }
        };
        found.or_else(|| {
            let state = &self.pools[pool];
            let idle = state.idle.iter(&self.connections, |member| &member.link);
            // Queries that were moved away before it was connected are sent on it as well.
            let room = |slot: &u32| {
                let member = &self.connections[*slot as usize];
                member.dial_until.is_some() && (member.left as usize) < state.settings.max_inflight
            };
            idle.take(SHARE_CANDIDATES_MAX).find(room)
        })
    }

    fn busy_with_room(
        &mut self,
        pool: usize,
        now: Moment,
        waits: &impl Fn(ConnectionId, Duration) -> bool,
    ) -> Option<u32> {
        for _ in 0..SHARE_CANDIDATES_MAX {
            let front = self.pools[pool].busy.front();
            let Some(front) = front.filter(|slot| !self.connections[*slot as usize].set_back)
            else {
                break;
            };
            if self.is_free(front, now, waits) {
                if self.pools[pool].settings.spread == 1 && self.has_room(front) {
                    return Some(front);
                }
                break;
            }
            self.set_back(front);
        }
        let state = &self.pools[pool];
        let busy = state.busy.iter(&self.connections, |member| &member.link);
        let room = |slot: &u32| self.has_room(*slot) && !self.is_blocked(*slot, now, waits);
        let mut busy = busy.take(SHARE_CANDIDATES_MAX).filter(room);
        match state.settings.spread {
            1 => busy.next(),
            _ => busy.min_by_key(|slot| self.connections[*slot as usize].outstanding),
        }
    }

    /// Returns the least loaded of the busy connections that were taken longest ago.
    pub(super) fn least_loaded(&self, pool: usize) -> Option<u32> {
        let busy = &self.pools[pool].busy;
        busy.iter(&self.connections, |member| &member.link)
            .take(SHARE_CANDIDATES_MAX)
            .min_by_key(|slot| self.connections[*slot as usize].outstanding)
    }

    /// Returns the longest unused idle TCP connection that is connected and awaits no answer.
    fn idle_with_room(&mut self, pool: usize, now: Moment) -> Option<u32> {
        let front = self.pools[pool].idle.front()?;
        let member = &self.connections[front as usize];
        if member.answers > 0 && self.is_spent(front) && member.idle_since.plus(CLOSING) <= now {
            self.pools[pool].pace.forget_limit();
        }
        let idle = self.pools[pool].idle.iter(&self.connections, |member| &member.link);
        let ready = |slot: &u32| {
            let member = &self.connections[*slot as usize];
            member.dial_until.is_none() && member.left == 0 && !self.is_spent(*slot)
        };
        idle.take(SHARE_CANDIDATES_MAX).find(ready)
    }

    /// Finds a TCP connection that takes one more query although it is full or blocked, because no
    /// other may be dialled. `apart`: the connection on which the query is stuck; blocked ones are
    /// excluded then.
    fn fuller_instead(
        &mut self,
        pool: usize,
        now: Moment,
        apart: Option<u32>,
        waits: &impl Fn(ConnectionId, Duration) -> bool,
    ) -> Option<u32> {
        let state = &mut self.pools[pool];
        let PoolSettings { max_conns, max_inflight, .. } = state.settings;
        let may_dial = state.len() < max_conns && !state.dials.are_paused(now);
        if may_dial && state.pace.is_limited() || state.busy.is_empty() {
            return None;
        }
        // A query that moves apart has paid already.
        if may_dial && state.dials.count() < DIALS_MAX && (apart.is_some() || state.pace.pays()) {
            return None;
        }
        let busy = self.pools[pool].busy.iter(&self.connections, |member| &member.link);
        let room = |slot: &u32| {
            let member = &self.connections[*slot as usize];
            Some(*slot) != apart && ((member.outstanding + member.left) as usize) < max_inflight
        };
        let load = |slot: u32| {
            let blocked = self.is_blocked(slot, now, waits);
            let refused = blocked && apart.is_some() || waits(self.id(slot), Duration::MAX);
            (!refused).then(|| ((blocked, self.connections[slot as usize].outstanding), slot))
        };
        let candidates = busy.take(SHARE_CANDIDATES_MAX).filter(room).filter_map(load);
        candidates.min_by_key(|(load, _)| *load).map(|(_, slot)| slot)
    }

    /// Dials a TCP connection for a query; at `max_conns` it replaces one that the upstream is
    /// about to close.
    fn dial_for_query(&mut self, pool: usize, now: Moment, random: u32) -> Result<u32, TakeError> {
        let state = &self.pools[pool];
        let full = state.len() >= state.settings.max_conns;
        let spent = state.idle.front().filter(|slot| self.is_spent(*slot));
        match spent {
            None if full => return Err(TakeError::Exhausted),
            _ if state.dials.are_paused(now) => return Err(TakeError::Paused),
            Some(spent) if full => self.close(spent, Reason::Spare),
            _ => {}
        }
        Ok(self.dial(pool, now, random))
    }

    /// Counts one more query on the TCP connection in `slot`.
    pub(super) fn put_on(&mut self, slot: u32, now: Moment, random: u32) -> ConnectionId {
        let member = &self.connections[slot as usize];
        let (pool, was_idle, shared) = (member.pool as usize, member.idle, member.outstanding > 0);
        if was_idle {
            self.renew_tcp(slot, now, random);
            self.take_idle(slot);
        }
        let state = &mut self.pools[pool];
        state.peak = state.peak.max(state.busy.len());
        state.stats.shared += u64::from(shared);
        let member = &mut self.connections[slot as usize];
        member.outstanding += 1;
        member.carried = member.carried.saturating_add(1);
        if member.outstanding > member.depth + 1 && !self.stalls.is_set(slot) {
            self.stalls.set(slot, now.plus(state.pace.head_wait()));
        }
        if !shared || !self.has_room(slot) {
            self.line_up(slot);
        }
        self.id(slot)
    }

    /// Returns true if the TCP connection in `slot` takes one more query before another is taken.
    #[inline]
    pub(super) fn has_room(&self, slot: u32) -> bool {
        let member = &self.connections[slot as usize];
        let pace = &self.pools[member.pool as usize].pace;
        member.outstanding + member.left < pace.window()
            && !pace.is_at_limit(member.outstanding, member.carried)
    }

    /// Returns true if the upstream is about to close the TCP connection in `slot`.
    fn is_spent(&self, slot: u32) -> bool {
        let member = &self.connections[slot as usize];
        self.pools[member.pool as usize].pace.is_at_limit(0, member.carried)
    }

    /// Returns true if the TCP connection in `slot` is not blocked. The result is kept until time
    /// passes.
    fn is_free(
        &mut self,
        slot: u32,
        now: Moment,
        waits: &impl Fn(ConnectionId, Duration) -> bool,
    ) -> bool {
        if self.connections[slot as usize].free_at == now {
            return true;
        }
        let free = !self.is_blocked(slot, now, waits);
        if free {
            self.connections[slot as usize].free_at = now;
        }
        free
    }

    /// Returns true if one more query on the TCP connection in `slot` might wait too long.
    pub(super) fn is_blocked(
        &self,
        slot: u32,
        now: Moment,
        waits: &impl Fn(ConnectionId, Duration) -> bool,
    ) -> bool {
        let member = &self.connections[slot as usize];
        let head_wait = self.pools[member.pool as usize].pace.head_wait();
        let stale = member.outstanding > member.depth
            && member.dial_until.is_none()
            && member.progress.plus(head_wait) <= now;
        waits(self.id(slot), if stale { head_wait } else { Duration::MAX })
    }

    /// Moves the busy TCP connection in `slot` to the front of the list if it has room, otherwise
    /// to the end.
    pub(super) fn line_up(&mut self, slot: u32) {
        if self.connections[slot as usize].retiring.is_some() {
            return;
        }
        if !self.has_room(slot) {
            return self.set_back(slot);
        }
        self.connections[slot as usize].set_back = false;
        let busy = &mut self.pools[self.connections[slot as usize].pool as usize].busy;
        busy.remove(&mut self.connections, slot, |member| &mut member.link);
        busy.push_front(&mut self.connections, slot, |member| &mut member.link);
    }

    /// Moves the busy TCP connection in `slot` to the end of the list.
    fn set_back(&mut self, slot: u32) {
        self.connections[slot as usize].set_back = true;
        let busy = &mut self.pools[self.connections[slot as usize].pool as usize].busy;
        busy.remove(&mut self.connections, slot, |member| &mut member.link);
        busy.push_back(&mut self.connections, slot, |member| &mut member.link);
    }
}
