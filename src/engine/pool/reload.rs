//! Reload: existing pools under a new configuration.
//!
//! A pool whose upstream stays keeps its connections, whatever else changes: its new limits hold
//! from now on, and busy connections finish their queries. A pool whose upstream is gone is left
//! out after its connections have been broken off. Connections keep their slots and ids, so that no
//! other table changes; only the numbers of the pools do.

use super::{Pool, PoolSettings, Pools, TakeError};
use crate::engine::key::ConnectionId;
use crate::engine::stats::Reason;
use crate::moment::Moment;
use std::time::Duration;

/// Pools without connections, for [`Pools::reload`].
#[derive(Debug)]
#[expect(clippy::vec_box, reason = "pools change places with those of before, at 2 kB each")]
pub(crate) struct NewPools(Vec<Box<Pool>>);

impl NewPools {
    /// One pool for each of `settings`.
    pub(crate) fn new(settings: impl IntoIterator<Item = PoolSettings>) -> Self {
        Self(settings.into_iter().map(|settings| Box::new(Pool::new(settings))).collect())
    }

    #[expect(clippy::vec_box, reason = "as they are kept")]
    pub(super) fn into_inner(self) -> Vec<Box<Pool>> {
        self.0
    }
}

impl Pools {
    /// Every connection, busy or idle, with its pool.
    pub(crate) fn members(&self) -> impl Iterator<Item = (ConnectionId, usize)> {
        self.open_slots().map(|slot| (self.id(slot), self.connections[slot as usize].pool as usize))
    }

    /// Replaces the pools by those of `new`; the old ones are left in `new` to be freed. `stays`
    /// returns for each new pool the old one whose connections it takes over. `random` gives a
    /// uniform number per call, for the jitter.
    ///
    /// # Panics
    /// If two pools take over the same one, or none takes over one that has connections.
    pub(crate) fn reload(
        &mut self,
        now: Moment,
        new: &mut NewPools,
        stays: impl Fn(usize) -> Option<usize>,
        mut random: impl FnMut() -> u32,
    ) {
        self.end_batches();
        let mut numbers = vec![None; self.pools.len()];
        let mut limits = vec![None; new.0.len()];
        for (number, pool) in new.0.iter_mut().enumerate() {
            if let Some(before) = stays(number) {
                let taken = numbers[before].replace(number as u32);
                assert!(taken.is_none(), "no other pool takes it over");
                limits[number] = self.pools[before].settings.max_age;
                std::mem::swap(pool, &mut self.pools[before]);
                pool.go_by(&mut self.pools[before]);
            }
        }
        std::mem::swap(&mut self.pools, &mut new.0);
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
            if self.stopped {
                self.pools[pool].refuses = Some(TakeError::Stopped);
            }
            self.apply_size_limits(pool);
            self.arm(pool);
        }
    }

    /// Adds an open connection to the ages of its pool, with a new age limit if `max_age` has
    /// changed from `was`.
    fn restore_age(
        &mut self,
        slot: u32,
        was: Option<Duration>,
        now: Moment,
        random: &mut impl FnMut() -> u32,
    ) {
        let member = &mut self.connections[slot as usize];
        let state = &mut self.pools[member.pool as usize];
        // The heap that held this place is gone.
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

    /// Grows the tables to the new maximum, so that nothing grows later. Pools that exceed their
    /// new limit need additional room.
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

    /// Closes idle connections in excess of the limits.
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
    /// Adopts the settings of `new`, a pool without connections, and leaves it the parts that
    /// belong to the old settings.
    fn go_by(&mut self, new: &mut Self) {
        self.settings = new.settings;
        self.expire_configured = new.expire_configured;
        std::mem::swap(&mut self.ages, &mut new.ages);
        (self.batch, self.armed, self.rearm) = (None, None, false);
        self.pace.go_by(&new.pace);
        self.trust.go_by(&new.trust);
    }
}
