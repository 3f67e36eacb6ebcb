//! Per-upstream pools of connections: first-in first-out, capacity, spread, age.
//!
//! A pool holds connection ids, never sockets: it decides which connection a query takes, when to
//! dial and which to close, and the shell acts on it. The connection longest unused is taken first,
//! for source-port diversity (RFC 5452 §9.2). A batch of queries takes a connection exclusively,
//! and it comes back when the last of them has ended, so a dead connection affects one batch. Since
//! rotation keeps every connection busy, idleness (`expire`) alone would never close one: `max_age`
//! limits the life of each, jittered so that those dialled together do not retire together. Idle
//! connections are in the order of their return and all connections in the order of their
//! retirement, so a sweep costs what it closes. Called by [`super::forwarder`] alone.

mod connection;
mod doubts;
mod mismatches;
mod owners;
mod pace;
mod reload;
mod sharing;
mod stalls;
mod state;
mod sweeps;
mod tcp;
mod trust;

use super::heap::Heap;
use super::key::{ConnectionId, Key};
use super::list::List;
use super::stats::{PoolStats, Reason};
use crate::moment::Moment;
use connection::{Connection, jittered};
use owners::Owners;
use pace::Pace;
pub(crate) use reload::NewPools;
pub(crate) use sharing::Stall;
pub use sharing::TakeError;
use stalls::Stalls;
pub(crate) use state::PoolState;
use std::time::Duration;
use tcp::{Dials, GRACE_DIVISOR};
use trust::Trust;
pub use trust::TrustSettings;

/// Settings of a pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolSettings {
    /// Idle longer than this: closed.
    pub expire: Duration,
    /// Older than this: takes no new query, closed when the last outstanding one ends.
    pub max_age: Option<Duration>,
    /// Maximum random reduction of `max_age`, in percent.
    pub jitter: u8,
    /// Maximum number of idle connections; a connection that comes back beyond it is closed.
    pub max_idle: Option<usize>,
    /// Number of connections to dial before the pool rotates. TCP connections are dialled beside
    /// the traffic, as far as it keeps them alive; with 1, one is filled before another.
    pub spread: usize,
    /// Maximum number of connections.
    pub max_conns: usize,
    /// Maximum number of queries that one batch puts on a connection; on a TCP connection, maximum
    /// of outstanding queries.
    pub max_inflight: usize,
    /// Connections are TCP connections: shared query by query, dialled with a deadline, and
    /// replaced before they retire.
    pub tcp: bool,
    /// Each connection is for queries of one client address ([`Pools::take_owned`]).
    pub owned: bool,
    /// Settings for the replacement of connections that could still be used.
    pub trust: TrustSettings,
}

impl PoolSettings {
    /// Returns the lifetime of a connection that is dialled now: jittered and, for a TCP
    /// connection, reduced by the grace period for its successor, so that `max_age` bounds both.
    fn life(&self, max_age: Duration, random: u32) -> Duration {
        let grace = if self.tcp { max_age / GRACE_DIVISOR } else { Duration::ZERO };
        jittered(max_age - grace, self.jitter, random)
    }
}

/// One upstream's connections, as slots.
#[derive(Debug)]
struct Pool {
    settings: PoolSettings,
    /// Reason why no connection can be taken.
    refuses: Option<TakeError>,
    /// `settings.expire` before an upstream announced a shorter limit.
    expire_configured: Duration,
    idle: List,
    busy: List,
    /// Number of connections that are on neither list.
    retiring: usize,
    /// Number of connections beyond `max_conns` when it was last lowered.
    excess: usize,
    ages: Heap,
    /// Slot of the connection that this turn's batch took, and the number of queries it still
    /// takes.
    batch: Option<(u32, usize)>,
    /// Maximum number of busy connections since `peak_since`.
    peak: usize,
    peak_since: Moment,
    /// Time for which a wake-up is armed; `rearm`: the request for it is to be made again.
    armed: Option<Moment>,
    rearm: bool,
    dials: Dials,
    pace: Pace,
    trust: Trust<ConnectionId>,
    stats: PoolStats,
}

/// All pools of a worker.
#[derive(Debug)]
pub struct Pools {
    connections: Vec<Connection>,
    /// Maximum number of slots.
    capacity: usize,
    free: Vec<u32>,
    /// Boxed, because a reload renumbers thousands of pools.
    #[expect(clippy::vec_box, reason = "a reload moves thousands of them, at 2 kB each")]
    pools: Vec<Box<Pool>>,
    batches: Vec<u32>,
    closed: Vec<ConnectionId>,
    rearm: Vec<u32>,
    /// TCP connections to dial although no query waits for them.
    to_dial: Vec<ConnectionId>,
    /// Pools with TCP connections that are not connected yet.
    dialling: Vec<u32>,
    stalls: Stalls,
    /// Last connection of each client address in pools with owned connections; it may be closed.
    owners: Owners,
    stopped: bool,
    /// Latest time passed to a method.
    now: Moment,
}

impl Pools {
    /// Empty pools, one for each of `settings`.
    pub fn new(settings: impl IntoIterator<Item = PoolSettings>) -> Self {
        Self::of(NewPools::new(settings))
    }

    /// Pools that are built already.
    pub(crate) fn of(pools: NewPools) -> Self {
        let pools = pools.into_inner();
        let total = pools.iter().map(|pool| pool.settings.max_conns).sum();
        Self {
            connections: Vec::with_capacity(total),
            capacity: total,
            free: Vec::with_capacity(total),
            batches: Vec::with_capacity(pools.len()),
            rearm: Vec::with_capacity(pools.len()),
            closed: Vec::with_capacity(total),
            to_dial: Vec::with_capacity(total),
            dialling: Vec::with_capacity(pools.len()),
            stalls: Stalls::with_capacity(total),
            pools,
            owners: Owners::default(),
            stopped: false,
            now: Moment::ZERO,
        }
    }

    /// Maximum number of connections in all pools: the size of tables indexed by connection.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Returns the number of pools.
    pub(crate) fn count(&self) -> usize {
        self.pools.len()
    }

    /// Number of connections of `pool`, idle and busy.
    pub(crate) fn len(&self, pool: usize) -> usize {
        self.pools[pool].len()
    }

    /// Returns the counters of the connections of `pool`.
    pub(crate) fn stats(&self, pool: usize) -> PoolStats {
        self.pools[pool].stats
    }

    /// Finds a connection of `pool` for one query; an id that is new to the caller has to be
    /// dialled. `random` gives a uniform number, for the jitter. `waits` returns true if a query on
    /// the TCP connection has waited longer than the given time, or for so large a part of its
    /// time-out that no other should join it.
    ///
    /// # Errors
    /// [`TakeError`]; nothing has changed then.
    pub fn take(
        &mut self,
        pool: usize,
        now: Moment,
        random: impl FnOnce() -> u32,
        waits: impl Fn(ConnectionId, Duration) -> bool,
    ) -> Result<ConnectionId, TakeError> {
        self.now = self.now.max(now);
        self.pools[pool].refuses.map_or(Ok(()), Err)?;
        if self.pools[pool].settings.tcp {
            return self.take_tcp(pool, now, random(), waits);
        }
        if let Some((slot, left @ 1..)) = self.pools[pool].batch {
            self.pools[pool].batch = Some((slot, left - 1));
            self.connections[slot as usize].outstanding += 1;
            return Ok(self.id(slot));
        }
        let slot = self.take_whole(pool, now, random())?;
        let left = self.pools[pool].settings.max_inflight - 1;
        if self.pools[pool].batch.replace((slot, left)).is_none() {
            self.batches.push(pool as u32);
        }
        let state = &mut self.pools[pool];
        state.peak = state.peak.max(state.busy.len());
        self.connections[slot as usize].outstanding += 1;
        self.check(pool);
        Ok(self.id(slot))
    }

    /// Ends the turn's batches: the next query of each pool takes another connection.
    pub fn end_batches(&mut self) {
        for pool in self.batches.drain(..) {
            self.pools[pool as usize].batch = None;
        }
    }

    /// Counts one query on `connection` as ended; `silent`: by its time-out. A connection that
    /// timed out is not used again, so that a late response matches no query.
    #[inline]
    pub fn release(&mut self, connection: ConnectionId, now: Moment, silent: bool) {
        let Some(slot) = self.slot(connection) else { return };
        self.now = self.now.max(now);
        if silent {
            self.penalise(slot);
            self.retire(slot, Reason::Silent);
        }
        let member = &mut self.connections[slot as usize];
        member.mismatches.note_end(silent);
        member.outstanding -= 1;
        if member.outstanding == 0 {
            self.give_back(slot, now);
        } else if member.set_back {
            self.line_up(slot);
        }
    }

    /// Retires `connection` after a failure. It is closed as soon as no query is on it; the caller
    /// ends or moves the queries.
    pub(crate) fn break_off(&mut self, connection: ConnectionId) {
        let Some(slot) = self.slot(connection) else { return };
        let Connection { outstanding, answers, .. } = self.connections[slot as usize];
        // A server may close a TCP connection that has served queries and carries none.
        if outstanding > 0 || answers == 0 {
            self.penalise(slot);
        }
        self.put_out(slot, Reason::Failed);
    }

    /// Returns the next connection whose socket has to be closed.
    pub fn next_closed(&mut self) -> Option<ConnectionId> {
        self.closed.pop()
    }

    /// Returns true if [`Pools::next_closed`] and [`Pools::next_dial`] are empty.
    pub(crate) fn is_settled(&self) -> bool {
        self.closed.is_empty() && self.to_dial.is_empty()
    }

    /// Returns true if `connection` is open and of the same generation.
    pub(crate) fn is_open(&self, connection: ConnectionId) -> bool {
        self.slot(connection).is_some()
    }

    /// Returns true if `connection` takes no more queries.
    pub(crate) fn is_retiring(&self, connection: ConnectionId) -> bool {
        let slot = self.slot(connection);
        slot.is_none_or(|slot| self.connections[slot as usize].retiring.is_some())
    }

    /// Returns the number of queries on `connection`.
    pub(crate) fn outstanding(&self, connection: ConnectionId) -> usize {
        self.slot(connection).map_or(0, |slot| self.connections[slot as usize].outstanding as usize)
    }

    /// Returns true if `connection` is, or will be, a TCP connection.
    pub(crate) fn is_tcp(&self, connection: ConnectionId) -> bool {
        self.pool_of(connection).is_some_and(|pool| self.pools[pool].settings.tcp)
    }

    /// The pool that `connection` belongs to.
    pub(crate) fn pool_of(&self, connection: ConnectionId) -> Option<usize> {
        self.slot(connection).map(|slot| self.connections[slot as usize].pool as usize)
    }

    /// Stops all pools: idle connections are closed now, busy ones when they come back, and none
    /// can be taken.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        self.end_batches();
        for pool in 0..self.pools.len() {
            self.pools[pool].refuses = Some(TakeError::Stopped);
            while let Some(slot) = self.pools[pool].idle.front() {
                self.close(slot, Reason::Stopped);
            }
        }
    }

    /// Takes a connection for a new batch, without counting a query on it.
    fn take_whole(&mut self, pool: usize, now: Moment, random: u32) -> Result<u32, TakeError> {
        self.retire_overdue(pool, now, random);
        let state = &mut self.pools[pool];
        let PoolSettings { spread, max_conns, .. } = state.settings;
        let full = state.len() >= max_conns;
        let rotates = full || state.usable() >= spread;
        if let Some(slot) = state.idle.front().filter(|_| rotates) {
            if let Some(replacement) = self.replacement(slot, now) {
                return Ok(self.replace_idle(slot, replacement, now, random));
            }
            self.take_idle(slot);
            return Ok(slot);
        }
        if !full {
            return Ok(self.dial(pool, now, random));
        }
        let slot = self.least_loaded(pool).ok_or(TakeError::Exhausted)?;
        let state = &mut self.pools[pool];
        state.busy.remove(&mut self.connections, slot, |member| &mut member.link);
        state.busy.push_back(&mut self.connections, slot, |member| &mut member.link);
        state.stats.shared += 1;
        Ok(slot)
    }

    fn take_idle(&mut self, slot: u32) {
        let state = &mut self.pools[self.connections[slot as usize].pool as usize];
        state.idle.remove(&mut self.connections, slot, |member| &mut member.link);
        state.busy.push_back(&mut self.connections, slot, |member| &mut member.link);
        state.stats.reused += 1;
        let member = &mut self.connections[slot as usize];
        (member.idle, member.served) = (false, false);
    }

    fn dial(&mut self, pool: usize, now: Moment, random: u32) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.connections.push(Connection::vacant());
            self.stalls.add_slot();
            self.connections.len() as u32 - 1
        });
        let state = &mut self.pools[pool];
        let member = &mut self.connections[slot as usize];
        member.pool = pool as u32;
        member.open = true;
        member.retire_at = Moment::FOREVER;
        member.dialled_at = now;
        if let Some(max_age) = state.settings.max_age {
            member.retire_at = now.plus(state.settings.life(max_age, random));
            state.ages.push(&mut self.connections, slot);
        }
        state.busy.push_back(&mut self.connections, slot, |member| &mut member.link);
        state.stats.opened += 1;
        if state.settings.tcp {
            self.begin_tcp(slot, now);
        }
        self.arm(pool);
        slot
    }

    /// Handles the end of the last query on a connection.
    fn give_back(&mut self, slot: u32, now: Moment) {
        let member = &mut self.connections[slot as usize];
        let (pool, retiring, retire_at) = (member.pool as usize, member.retiring, member.retire_at);
        self.pools[pool].end_batch_on(slot);
        if !matches!(retiring, Some(Reason::Silent | Reason::Failed | Reason::Mismatched)) {
            let newcomer = !std::mem::replace(&mut member.tried, true);
            self.pools[pool].trust.answered(now, newcomer);
        }
        let settings = &self.pools[pool].settings;
        let full = settings.max_idle.is_some_and(|max| self.pools[pool].idle.len() >= max);
        let reason = match retiring {
            Some(reason) => Some(reason),
            None if self.stopped => Some(Reason::Stopped),
            None if retire_at <= now => Some(Reason::Aged),
            None if settings.expire.is_zero() => Some(Reason::Expired),
            None if full => Some(Reason::Spare),
            None => None,
        };
        if let Some(reason) = reason {
            return self.close(slot, reason);
        }
        let member = &mut self.connections[slot as usize];
        member.idle_since = now;
        member.idle = true;
        let state = &mut self.pools[pool];
        state.busy.remove(&mut self.connections, slot, |member| &mut member.link);
        state.idle.push_back(&mut self.connections, slot, |member| &mut member.link);
        // Only the front decides when the next one expires; rotation never makes that earlier.
        if state.idle.len() == 1 || state.armed.is_none() {
            self.arm(pool);
        }
        self.check(pool);
    }

    /// Lets a busy connection take no new query. It leaves the list of connections that can be
    /// shared, so that a search does not pass over it.
    fn retire(&mut self, slot: u32, reason: Reason) {
        let member = &mut self.connections[slot as usize];
        debug_assert!(member.outstanding > 0, "nothing to wait for: {member:?}");
        if member.retiring.is_some() {
            return;
        }
        member.retiring = Some(reason);
        let pool = &mut self.pools[member.pool as usize];
        pool.retiring += 1;
        pool.busy.remove(&mut self.connections, slot, |member| &mut member.link);
        pool.ages.remove(&mut self.connections, slot);
        pool.end_batch_on(slot);
    }

    fn close(&mut self, slot: u32, reason: Reason) {
        let member = &mut self.connections[slot as usize];
        debug_assert!(member.open && member.outstanding == 0, "closing {member:?}");
        let id = ConnectionId(Key { index: slot, generation: member.generation });
        member.open = false;
        member.generation = member.generation.wrapping_add(1);
        let state = &mut self.pools[member.pool as usize];
        state.ages.remove(&mut self.connections, slot);
        self.end_dial(slot);
        self.stalls.clear(slot);
        self.end_succession(slot);
        let state = &mut self.pools[self.connections[slot as usize].pool as usize];
        let member = &mut self.connections[slot as usize];
        member.forget_trials();
        state.stats.ages[reason as usize].add(self.now.since(member.dialled_at));
        match (std::mem::take(&mut member.idle), member.retiring.take()) {
            (_, Some(_)) => state.retiring -= 1,
            (true, None) => state.idle.remove(&mut self.connections, slot, |at| &mut at.link),
            (false, None) => state.busy.remove(&mut self.connections, slot, |at| &mut at.link),
        }
        match reason {
            Reason::Expired => state.stats.expired += 1,
            Reason::Aged => state.stats.aged += 1,
            Reason::Spare | Reason::Surplus => state.stats.surplus += 1,
            Reason::Silent | Reason::Failed | Reason::Mismatched => state.stats.broken += 1,
            Reason::Distrusted | Reason::Rebalanced => state.stats.renewed += 1,
            Reason::Stopped => {}
        }
        self.free.push(slot);
        self.closed.push(id);
    }

    fn id(&self, slot: u32) -> ConnectionId {
        ConnectionId(Key { index: slot, generation: self.connections[slot as usize].generation })
    }

    /// The slot of `connection`, unless it was closed.
    fn slot(&self, connection: ConnectionId) -> Option<u32> {
        let Key { index, generation } = connection.0;
        let member = self.connections.get(index as usize)?;
        (member.open && member.generation == generation).then_some(index)
    }

    fn check(&self, pool: usize) {
        let state = &self.pools[pool];
        let allowed = state.settings.max_conns + state.excess;
        debug_assert!(state.len() <= allowed, "more connections than allowed");
        // Connections dialled beside the traffic exceed the limit for a moment.
        let idle_max = state.settings.max_idle.map(|max| max + state.dials.count());
        debug_assert!(idle_max.is_none_or(|max| state.idle.len() <= max), "too many idle");
    }
}

impl Pool {
    fn new(mut settings: PoolSettings) -> Self {
        // With a spread that cannot be held every query would dial, and the pool would never
        // rotate.
        let held_max = settings.max_idle.unwrap_or(usize::MAX).min(settings.max_conns);
        settings.spread = settings.spread.min(held_max);
        if settings.tcp && settings.expire.is_zero() {
            // A connection dialled ahead would be closed before it is used.
            settings.spread = 1;
        }
        let aging = if settings.max_age.is_some() { settings.max_conns } else { 0 };
        Self {
            expire_configured: settings.expire,
            refuses: settings.owned.then_some(TakeError::Owned),
            settings,
            idle: List::default(),
            busy: List::default(),
            retiring: 0,
            excess: 0,
            ages: Heap::with_capacity(aging),
            batch: None,
            peak: 0,
            peak_since: Moment::ZERO,
            armed: None,
            rearm: false,
            dials: Dials::default(),
            pace: Pace::new(settings.max_inflight),
            trust: Trust::new(settings.trust, settings.spread, settings.tcp),
            stats: PoolStats::default(),
        }
    }

    fn len(&self) -> usize {
        self.usable() + self.retiring
    }

    /// Number of connections that can take another query, now or when they come back.
    fn usable(&self) -> usize {
        self.idle.len() + self.busy.len()
    }

    /// Ends the batch if it took the connection in `slot`.
    fn end_batch_on(&mut self, slot: u32) {
        if let Some((_, left)) = self.batch.as_mut().filter(|(taken, _)| *taken == slot) {
            *left = 0;
        }
    }
}

#[cfg(test)]
mod tests;
