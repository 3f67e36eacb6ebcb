//! What a new configuration makes of the pools that are there.
//!
//! A pool whose upstream stays keeps its connections, whatever else changes: its limits hold from
//! now on, and connections that are busy finish what they carry. A pool whose upstream is gone is
//! left out, when its connections have been broken off. Connections keep their slots and ids, so
//! that nobody else needs to know; only the numbers of the pools change.

use super::{Pool, PoolSettings, Pools};
use crate::engine::key::ConnectionId;
use crate::engine::stats::Reason;
use crate::moment::Moment;
use std::time::Duration;

impl Pools {
    /// Every connection, busy or idle, and its pool.
    pub fn members(&self) -> impl Iterator<Item = (ConnectionId, usize)> {
        self.open_slots().map(|slot| (self.id(slot), self.connections[slot as usize].pool as usize))
    }

    /// Puts a pool for each of `pools` in the place of those there were: with its settings, and
    /// the connections of the old pool with the number beside them. `random` gives a uniform
    /// number each call, for the jitter.
    ///
    /// # Panics
    /// When two take over the same pool, or nobody one that has connections.
    pub fn renew(
        &mut self,
        now: Moment,
        pools: &[(PoolSettings, Option<usize>)],
        mut random: impl FnMut() -> u32,
    ) {
        self.end_batches();
        let mut old: Vec<_> = std::mem::take(&mut self.pools).into_iter().map(Some).collect();
        let mut numbers = vec![None; old.len()];
        let mut limits = vec![None; pools.len()];
        for (number, (settings, taken_over)) in pools.iter().enumerate() {
            let mut pool = Pool::new(*settings);
            if let Some(before) = *taken_over {
                let before_it = old[before].take().expect("nobody else takes it over");
                limits[number] = before_it.settings.max_age;
                numbers[before] = Some(number as u32);
                pool.take_over(before_it);
            }
            self.pools.push(pool);
        }
        let renumber = |pool: u32| numbers[pool as usize].expect("one with connections stays");
        for slot in self.open_slots().collect::<Vec<_>>() {
            let member = &mut self.connections[slot as usize];
            member.pool = renumber(member.pool);
            let was = limits[member.pool as usize];
            self.restore_age(slot, was, now, &mut random);
        }
        self.dialling.iter_mut().for_each(|pool| *pool = renumber(*pool));
        self.make_room();
        for pool in 0..self.pools.len() {
            self.apply_size_limits(pool);
            self.arm(pool);
        }
    }

    /// Puts an open connection among the ages of its pool, with a new age limit if the one it was
    /// dialled under, `was`, holds no longer.
    fn restore_age(
        &mut self,
        slot: u32,
        was: Option<Duration>,
        now: Moment,
        random: &mut impl FnMut() -> u32,
    ) {
        let member = &mut self.connections[slot as usize];
        let state = &mut self.pools[member.pool as usize];
        // The heap that it had a place in is gone.
        member.age_place = None;
        if member.retiring.is_some() {
            return;
        }
        let settings = &state.settings;
        if was != settings.max_age {
            let until = |max_age| member.dialled_at.plus(settings.life(max_age, random()));
            member.retire_at = settings.max_age.map_or(Moment::FOREVER, until).max(now);
        }
        if settings.max_age.is_some() {
            state.ages.push(&mut self.connections, slot);
        }
    }

    /// Makes the tables as large as the pools may become, so that nothing grows later. Pools that
    /// are larger than they may be now need the room that they have besides.
    fn make_room(&mut self) {
        let allowed: usize = self.pools.iter().map(|pool| pool.settings.max_conns).sum();
        self.capacity = self.capacity.max(allowed + self.open_slots().count());
        self.connections.reserve_exact(self.capacity - self.connections.len());
        self.free.reserve_exact(self.capacity - self.free.len());
        self.closed.reserve_exact(self.capacity.saturating_sub(self.closed.len()));
        let pools = self.pools.len();
        for table in [&mut self.batches, &mut self.rearm, &mut self.dialling] {
            table.reserve(pools);
        }
        self.to_dial.reserve_exact(self.capacity.saturating_sub(self.to_dial.len()));
        self.stalls.make_room(self.capacity);
        self.rearm.clear();
    }

    fn open_slots(&self) -> impl Iterator<Item = u32> {
        let slots = 0..self.connections.len() as u32;
        slots.filter(|slot| self.connections[*slot as usize].open)
    }

    /// Closes what is idle and more than there may be now.
    fn apply_size_limits(&mut self, pool: usize) {
        loop {
            let state = &self.pools[pool];
            let idle_max = state.settings.max_idle.unwrap_or(usize::MAX);
            let fits = state.len() <= state.settings.max_conns && state.idle.len() <= idle_max;
            let Some(slot) = state.idle.front().filter(|_| !fits) else { break };
            self.close(slot, Reason::Surplus);
        }
        let state = &mut self.pools[pool];
        state.excess = state.len().saturating_sub(state.settings.max_conns);
    }
}

impl Pool {
    /// Takes over what `before` has, though not its settings.
    fn take_over(&mut self, before: Self) {
        (self.idle, self.busy, self.retiring) = (before.idle, before.busy, before.retiring);
        (self.peak, self.peak_since) = (before.peak, before.peak_since);
        (self.dials, self.stats) = (before.dials, before.stats);
        self.pace.take_over(before.pace);
        self.trust.take_over(before.trust);
    }
}
