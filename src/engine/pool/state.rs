//! Snapshot of a pool's state, and the memory of the tables of connections.
//!
//! Connections are counted on demand, so the data path maintains no counters. All memory is
//! reserved at the start and none later; see [`crate::engine::memory`].

use super::{Pool, Pools};
use crate::engine::histogram::add_each;
use crate::engine::memory::{reserved, reserved_boxes};
use crate::moment::Moment;
use std::time::Duration;

/// Steps of [`PoolState::ages`].
pub(super) const AGE_STEPS: usize = 12;
/// Steps that make up `max_age`; later ones should be empty.
const STEPS_OF_MAX_AGE: u32 = 10;
/// Step for pools without an age limit.
const STEP_UNLIMITED: Duration = Duration::from_secs(300);

/// Connections of one pool, by state and age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolState {
    /// Connections without a query.
    pub idle: u64,
    /// Connections with a query.
    pub in_use: u64,
    /// Connections with a query that take no other.
    pub retiring: u64,
    /// Maximum number of connections.
    pub limit: u64,
    /// Maximum number of queries on a connection: for TCP as learnt from the upstream, for UDP the
    /// size of a batch.
    pub(crate) in_flight: u64,
    /// `max_age`.
    pub(crate) max_age: Option<Duration>,
    /// Age of the oldest connection.
    pub oldest: Duration,
    /// Number of connections in each step of age; the last step has all older ones, too.
    pub ages: [u64; AGE_STEPS],
    /// Length of one step.
    pub step: Duration,
}

impl PoolState {
    /// Adds the connections of another worker to the same upstream.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.idle += other.idle;
        self.in_use += other.in_use;
        self.retiring += other.retiring;
        self.limit += other.limit;
        self.in_flight = self.in_flight.max(other.in_flight);
        (self.max_age, self.step) = (other.max_age, other.step);
        self.oldest = self.oldest.max(other.oldest);
        add_each(&mut self.ages, &other.ages);
    }
}

impl Pool {
    fn in_flight_max(&self) -> u64 {
        match self.settings.tcp {
            true => self.pace.in_flight_max().into(),
            false => self.settings.max_inflight as u64,
        }
    }
}

impl Pools {
    /// Returns the reserved memory in bytes.
    pub(crate) fn reserved(&self) -> usize {
        let ages: usize = self.pools.iter().map(|pool| pool.ages.reserved()).sum();
        reserved(&self.connections)
            + reserved(&self.free)
            + reserved_boxes(&self.pools)
            + ages
            + reserved(&self.batches)
            + reserved(&self.closed)
            + reserved(&self.rearm)
            + reserved(&self.to_dial)
            + reserved(&self.dialling)
            + self.stalls.reserved()
    }

    /// Returns the state of each pool.
    pub(crate) fn states(&self, now: Moment) -> Vec<PoolState> {
        let states = self.pools.iter().map(|pool| {
            let max_age = pool.settings.max_age;
            PoolState {
                idle: pool.idle.len() as u64,
                in_use: pool.busy.len() as u64,
                retiring: pool.retiring as u64,
                limit: pool.settings.max_conns as u64,
                in_flight: pool.in_flight_max(),
                max_age,
                step: max_age.map_or(STEP_UNLIMITED, |max_age| max_age / STEPS_OF_MAX_AGE),
                ..PoolState::default()
            }
        });
        let mut states: Vec<_> = states.collect();
        for member in self.connections.iter().filter(|member| member.open) {
            let state = &mut states[member.pool as usize];
            let age = now.since(member.dialled_at);
            let step = age.as_nanos() / state.step.as_nanos().max(1);
            state.oldest = state.oldest.max(age);
            state.ages[usize::try_from(step).unwrap_or(usize::MAX).min(AGE_STEPS - 1)] += 1;
        }
        states
    }
}
