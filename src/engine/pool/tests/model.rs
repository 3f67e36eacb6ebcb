//! The pool against a naive twin that keeps everything in vectors and searches all of it.
//!
//! The twin is written from the words of the pool's contract. Three pools with random settings
//! live through random operations while a keeper, late now and then, wakes them as they asked;
//! after each operation both must agree on what was taken, closed, counted and asked for.

use super::super::trust::{Replacement, Trust};
use super::{PoolSettings, Pools, TakeError};
use crate::engine::key::ConnectionId;
use crate::engine::stats::PoolStats;
use crate::moment::Moment;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use settings::{held, random_settings};
use std::collections::BTreeSet;
use std::time::Duration;

mod settings;

#[derive(Clone, Debug)]
struct Member {
    id: ConnectionId,
    outstanding: u32,
    retiring: bool,
    retire_at: Moment,
    idle_since: Option<Moment>,
    dialled_at: Moment,
    /// The connection has come back with answers.
    tried: bool,
}

/// One pool, implemented from its contract.
struct Twin {
    settings: PoolSettings,
    /// `Trust` has a model of its own; here the twin calls it, at the same times as the pool.
    trust: Trust<ConnectionId>,
    /// Idle ones in the order of their return, busy ones in that of their last batch.
    members: Vec<Member>,
    batch: Option<(ConnectionId, usize)>,
    peak: usize,
    peak_since: Moment,
    stopped: bool,
    armed: Option<Moment>,
    stats: PoolStats,
    closed: BTreeSet<ConnectionId>,
}

impl Twin {
    fn new(settings: PoolSettings) -> Self {
        Self {
            trust: Trust::new(settings.trust, held(&settings), settings.tcp),
            settings,
            members: Vec::new(),
            batch: None,
            peak: 0,
            peak_since: Moment::ZERO,
            stopped: false,
            armed: None,
            stats: PoolStats::default(),
            closed: BTreeSet::new(),
        }
    }

    fn idle(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.idle_since.is_some())
    }

    fn busy(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.idle_since.is_none() && !member.retiring)
    }

    fn usable(&self) -> usize {
        self.idle().count() + self.busy().count()
    }

    fn close(&mut self, id: ConnectionId) {
        self.members.retain(|member| member.id != id);
        assert!(self.closed.insert(id), "closed twice");
    }

    /// Closes or retires connections that are due at `now`.
    fn retire_overdue(&mut self, now: Moment) {
        for member in self.members.clone() {
            let expired = member.idle_since.is_some_and(|since| since.plus(self.expire()) <= now);
            if expired {
                self.stats.expired += 1;
                self.close(member.id);
            } else if member.retire_at <= now && member.idle_since.is_some() {
                self.stats.aged += 1;
                self.close(member.id);
            } else if member.retire_at <= now && !member.retiring {
                self.retire(member.id);
            }
        }
    }

    fn expire(&self) -> Duration {
        self.settings.expire
    }

    fn member(&mut self, id: ConnectionId) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.id == id)
    }

    fn retire(&mut self, id: ConnectionId) {
        self.member(id).unwrap().retiring = true;
        self.batch = self.batch.filter(|(taken, _)| *taken != id);
    }

    /// `given`: the connection that the pool returned; only used where a new one is dialled.
    fn take(
        &mut self,
        now: Moment,
        random: u32,
        given: Result<ConnectionId, TakeError>,
    ) -> Result<ConnectionId, TakeError> {
        if self.stopped {
            return Err(TakeError::Stopped);
        }
        if let Some((id, left @ 1..)) = self.batch {
            self.batch = Some((id, left - 1));
            self.member(id).unwrap().outstanding += 1;
            return Ok(id);
        }
        self.retire_overdue(now);
        let PoolSettings { spread, max_conns, max_idle, .. } = self.settings;
        let rotates = self.usable() >= spread.min(max_conns).min(max_idle.unwrap_or(usize::MAX))
            || self.members.len() >= max_conns;
        let oldest = self.idle().next().filter(|_| rotates).cloned();
        let replacement = oldest.as_ref().and_then(|oldest| {
            let tried = |id| self.members.iter().any(|member| member.id == id && member.tried);
            self.trust.replaces(now, oldest.dialled_at, self.members.len(), tried)
        });
        if let Some(oldest) = oldest.as_ref().filter(|_| replacement.is_some()) {
            self.stats.renewed += 1;
            self.close(oldest.id);
        }
        let oldest = oldest.filter(|_| replacement.is_none());
        let mut chosen = if let Some(oldest) = oldest {
            self.stats.reused += 1;
            oldest
        } else if self.members.len() < max_conns {
            let id = given.expect("there is room for another");
            assert!(!self.closed.contains(&id) && self.member(id).is_none(), "an id came twice");
            self.stats.opened += 1;
            let max_age = self.settings.max_age.map_or(u64::MAX, |age| age.as_nanos() as u64);
            let early = (max_age / 100 * u64::from(self.settings.jitter)) as f64;
            let early = early * f64::from(random) / 2f64.powi(32);
            let age = if max_age == u64::MAX { max_age } else { max_age - early as u64 };
            let retire_at = now.plus(Duration::from_nanos(age));
            if replacement == Some(Replacement::Scout) {
                self.trust.sent_scout(id);
            }
            let (dialled_at, tried) = (now, false);
            Member {
                id,
                outstanding: 0,
                retiring: false,
                retire_at,
                idle_since: None,
                dialled_at,
                tried,
            }
        } else {
            let least = self.busy().take(64).min_by_key(|member| member.outstanding).cloned();
            let Some(least) = least else { return Err(TakeError::Exhausted) };
            self.stats.shared += 1;
            least
        };
        chosen.outstanding += 1;
        chosen.idle_since = None;
        let id = chosen.id;
        self.members.retain(|member| member.id != id);
        self.members.push(chosen);
        self.peak = self.peak.max(self.busy().count());
        self.batch = Some((id, self.settings.max_inflight - 1));
        Ok(id)
    }

    fn release(&mut self, id: ConnectionId, now: Moment, silent: bool) {
        if silent {
            self.penalise(id, now);
            let member = self.member(id).unwrap();
            // A connection that was too old already stays one that retires for its age.
            if !member.retiring {
                member.retire_at = Moment::FOREVER;
            }
            self.retire(id);
        }
        let member = self.member(id).unwrap();
        member.outstanding -= 1;
        if member.outstanding > 0 {
            return;
        }
        if !(member.retiring && member.retire_at == Moment::FOREVER) {
            let newcomer = !std::mem::replace(&mut member.tried, true);
            self.trust.answered(now, newcomer);
        }
        let member = self.member(id).unwrap().clone();
        self.batch = self.batch.filter(|(taken, _)| *taken != id);
        let idle = self.idle().count();
        let stats = &mut self.stats;
        if member.retiring {
            *(if member.retire_at == Moment::FOREVER {
                &mut stats.broken
            } else {
                &mut stats.aged
            }) += 1;
        } else if self.stopped {
        } else if member.retire_at <= now {
            stats.aged += 1;
        } else if self.settings.expire.is_zero() {
            stats.expired += 1;
        } else if self.settings.max_idle.is_some_and(|max| idle >= max) {
            stats.surplus += 1;
        } else {
            self.members.retain(|member| member.id != id);
            self.members.push(Member { idle_since: Some(now), ..member });
            return;
        }
        self.close(id);
    }

    fn penalise(&mut self, id: ConnectionId, now: Moment) {
        let size = self.members.len();
        let member = self.member(id).unwrap();
        if !member.retiring {
            let newcomer = !member.tried;
            self.trust.failed(now, newcomer, size);
        }
    }

    fn break_off(&mut self, id: ConnectionId, now: Moment) {
        self.penalise(id, now);
        let member = self.member(id).unwrap();
        if !member.retiring {
            member.retire_at = Moment::FOREVER;
        }
        let empty = member.outstanding == 0;
        self.retire(id);
        if empty {
            self.stats.broken += 1;
            self.close(id);
        }
    }

    fn sweep(&mut self, now: Moment) {
        self.armed = None;
        self.retire_overdue(now);
        if self.peak_since.plus(self.expire()) <= now {
            let PoolSettings { spread, max_conns, max_idle, .. } = self.settings;
            let held = spread.min(max_conns).min(max_idle.unwrap_or(usize::MAX));
            let surplus = self.usable().saturating_sub(self.peak.max(held));
            let unneeded: Vec<_> = self.idle().take(surplus).map(|member| member.id).collect();
            for id in unneeded {
                self.stats.surplus += 1;
                self.close(id);
            }
            self.peak = self.busy().count();
            self.peak_since = now;
        }
    }

    fn next_due(&self) -> Option<Moment> {
        let PoolSettings { spread, max_conns, max_idle, expire, .. } = self.settings;
        let held = spread.min(max_conns).min(max_idle.unwrap_or(usize::MAX));
        let expiry = self.idle().filter_map(|member| member.idle_since).map(|at| at.plus(expire));
        let usable = self.idle().chain(self.busy());
        let ages = usable.map(|member| member.retire_at).filter(|at| *at < Moment::FOREVER);
        let shrinks = self.usable() > held && !expire.is_zero();
        let surplus = shrinks.then(|| self.peak_since.plus(expire));
        expiry.chain(ages).chain(surplus).min()
    }
}

/// The pool and its twin, side by side, over random operations.
struct Pair {
    random: ChaCha8Rng,
    now: Moment,
    pools: Pools,
    twins: Vec<Twin>,
    /// One entry for each query that has not ended.
    outstanding: Vec<(usize, ConnectionId)>,
    dead: Vec<ConnectionId>,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let settings: Vec<_> = (0..3).map(|_| random_settings(&mut random)).collect();
        Self {
            random,
            now: Moment::ZERO,
            pools: Pools::new(settings.iter().copied()),
            twins: settings.into_iter().map(Twin::new).collect(),
            outstanding: Vec::new(),
            dead: Vec::new(),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.next_u32() as usize % bound
    }

    fn step(&mut self) {
        let pool = self.below(self.twins.len());
        match self.below(100) {
            0..40 => self.take(pool),
            40..72 => self.release(),
            72..75 => self.break_off(),
            75..88 => self.pass_time(),
            88..98 => self.pools.end_batches_of(&mut self.twins),
            98 => self.sweep(pool),
            _ => self.use_dead(),
        }
        self.answer_keeper();
        self.compare();
    }

    fn take(&mut self, pool: usize) {
        let random = self.random.next_u32();
        let taken = self.pools.take(pool, self.now, || random, |_, _| false);
        assert_eq!(taken, self.twins[pool].take(self.now, random, taken));
        self.outstanding.extend(taken.map(|id| (pool, id)));
    }

    fn release(&mut self) {
        if self.outstanding.is_empty() {
            return;
        }
        let place = self.below(self.outstanding.len());
        let (pool, id) = self.outstanding.swap_remove(place);
        let silent = self.below(12) == 0;
        self.pools.release(id, self.now, silent);
        self.twins[pool].release(id, self.now, silent);
    }

    fn break_off(&mut self) {
        let pool = self.below(self.twins.len());
        let count = self.twins[pool].members.len();
        if count > 0 {
            let place = self.below(count);
            let id = self.twins[pool].members[place].id;
            self.pools.break_off(id);
            self.twins[pool].break_off(id, self.pools.now);
        }
    }

    /// A stale id does nothing.
    fn use_dead(&mut self) {
        if !self.dead.is_empty() {
            let place = self.below(self.dead.len());
            let id = self.dead[place];
            self.pools.release(id, self.now, true);
            self.pools.break_off(id);
            assert!(!self.pools.is_open(id) && self.pools.pool_of(id).is_none());
        }
    }

    /// Time passes, and requested wake-ups happen in time.
    fn pass_time(&mut self) {
        let later = self.random.next_u64() >> (28 + self.below(12));
        let until = self.now.plus(Duration::from_nanos(later));
        loop {
            let armed = |pool: &usize| self.twins[*pool].armed.filter(|due| *due <= until);
            let Some(first) =
                (0..self.twins.len()).filter(|pool| armed(pool).is_some()).min_by_key(armed)
            else {
                break;
            };
            // The keeper is sometimes a little late.
            let late = if self.below(4) == 0 { self.below(1_000_000_000) as u64 } else { 0 };
            let due = self.twins[first].armed.unwrap().plus(Duration::from_nanos(late));
            self.now = self.now.max(due.min(until));
            self.sweep(first);
            self.answer_keeper();
        }
        self.now = self.now.max(until);
    }

    fn sweep(&mut self, pool: usize) {
        self.pools.sweep(pool, self.now, 0);
        self.twins[pool].sweep(self.now);
    }

    fn answer_keeper(&mut self) {
        while let Some((pool, due)) = self.pools.next_request() {
            let twin = &mut self.twins[pool];
            assert_eq!(Some(due), twin.next_due(), "not the earliest instant");
            assert_ne!(Some(due), twin.armed, "it has been asked for already");
            twin.armed = Some(due);
            if self.below(10) == 0 {
                self.pools.disarm(pool);
                self.twins[pool].armed = None;
            }
        }
        for twin in &self.twins {
            let in_time = twin.next_due().is_none_or(|due| twin.armed.is_some_and(|at| at <= due));
            assert!(in_time, "due {:?}, but woken at {:?}", twin.next_due(), twin.armed);
        }
    }

    fn compare(&mut self) {
        self.pools.check_invariants();
        let mut closed = BTreeSet::new();
        while let Some(id) = self.pools.next_closed() {
            assert!(closed.insert(id), "closed twice");
        }
        for (pool, twin) in self.twins.iter_mut().enumerate() {
            assert_eq!(self.pools.len(pool), twin.members.len());
            let PoolStats { ages, .. } = self.pools.stats(pool);
            let stats = PoolStats { ages: Default::default(), ..self.pools.stats(pool) };
            assert_eq!(stats, twin.stats);
            let PoolStats { expired, aged, surplus, broken, renewed, .. } = stats;
            let [expired_, aged_, spare, surplus_, silent, failed, stopped, others @ ..] =
                ages.map(|ages| ages.counts.iter().sum::<u64>());
            let [doubted, balanced, mismatched] = others;
            let broken_ = silent + failed + mismatched;
            let renewed_ = doubted + balanced;
            let told = [expired_, aged_, spare + surplus_, broken_, renewed_, stopped];
            let left = stats.opened - self.pools.len(pool) as u64;
            let stopped = left - expired - aged - surplus - broken - renewed;
            assert_eq!(
                told,
                [expired, aged, surplus, broken, renewed, stopped],
                "each with its age"
            );
            for member in &twin.members {
                assert_eq!(self.pools.pool_of(member.id), Some(pool));
            }
            for id in std::mem::take(&mut twin.closed) {
                assert!(closed.remove(&id), "{id:?} should have been closed");
                self.dead.push(id);
            }
        }
        assert_eq!(closed, BTreeSet::new(), "these should not have been closed");
        let capacity: usize = self.twins.iter().map(|twin| twin.settings.max_conns).sum();
        assert_eq!(self.pools.capacity(), capacity);
    }

    /// Stops, ends all queries, and checks that nothing is left.
    fn finish(&mut self) {
        self.pools.stop();
        for twin in &mut self.twins {
            twin.stopped = true;
            twin.batch = None;
            let idle: Vec<_> = twin.idle().map(|member| member.id).collect();
            idle.into_iter().for_each(|id| twin.close(id));
        }
        self.compare();
        self.take(0);
        while !self.outstanding.is_empty() {
            self.release();
            self.compare();
        }
        assert!((0..self.twins.len()).all(|pool| self.pools.len(pool) == 0));
        assert!(self.pools.next_request().is_none());
    }
}

impl Pools {
    fn end_batches_of(&mut self, twins: &mut [Twin]) {
        self.end_batches();
        twins.iter_mut().for_each(|twin| twin.batch = None);
    }
}

#[test]
fn the_pool_agrees_with_its_twin_over_two_hundred_thousand_operations() {
    let mut tallies = [0; 8];
    for seed in 0..200 {
        let counted = std::panic::catch_unwind(|| operate(seed));
        let counted = counted.unwrap_or_else(|_| panic!("with seed {seed}"));
        tallies.iter_mut().zip(counted).for_each(|(sum, count)| *sum += count);
    }
    assert!(tallies.iter().all(|tally| *tally > 100), "a lame run: {tallies:?}");
}

/// A thousand operations; returns how often each thing happened.
fn operate(seed: u64) -> [u64; 8] {
    let mut pair = Pair::new(seed);
    (0..1_000).for_each(|_| pair.step());
    let mut tallies = [0; 8];
    for PoolStats { opened, reused, shared, expired, aged, surplus, broken, renewed, .. } in
        pair.twins.iter().map(|twin| twin.stats)
    {
        let counted = [opened, reused, shared, expired, aged, surplus, broken, renewed];
        tallies.iter_mut().zip(counted).for_each(|(sum, count)| *sum += count);
    }
    pair.finish();
    tallies
}
