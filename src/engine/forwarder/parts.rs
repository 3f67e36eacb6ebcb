//! The parts of an engine that follow from its configuration, built on any thread.
//!
//! Parts for thousands of server blocks take tens of milliseconds to build and as long to free,
//! which would stall a worker. Everything whose size follows from the configuration is therefore
//! built here by another thread, and the worker swaps its own parts with these between two turns
//! ([`Forwarder::adopt`](super::Forwarder::adopt)). The other thread then frees the old parts.
//! Nothing here depends on the current state of the worker.

use super::caching::NewCaches;
use super::{Dial, chains_of, connection_limits, dials_of, pool_settings};
use crate::config::Config;
use crate::engine::chain::Chain;
use crate::engine::clients::ConnectionLimits;
use crate::engine::data::Data;
use crate::engine::errors::Errors;
use crate::engine::forwarder::Watch;
use crate::engine::health::HealthStates;
use crate::engine::journal::Journal;
use crate::engine::pool::NewPools;
use crate::engine::rewrite::Matcher;
use crate::engine::routes::Routes;
use crate::engine::stats::UpstreamStats;
use crate::engine::tally::{LabelPlaces, LabelSets, Tallies};
use ahash::RandomState;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// The parts of an engine that follow from its configuration.
pub struct Parts {
    pub(super) dials: Vec<Dial>,
    /// Numbers of the upstreams with each [`Dial`], in descending order.
    pub(super) by_dial: HashMap<Dial, Vec<usize>, RandomState>,
    pub(super) pools: NewPools,
    /// Counters of each upstream, boxed because upstreams that stay swap them with the old ones.
    #[expect(clippy::vec_box, reason = "a reload moves thousands of them, at 3 kB each")]
    pub(super) upstream_stats: Vec<Box<UpstreamStats>>,
    pub(super) routes: Routes,
    pub(super) chains: Vec<Chain>,
    pub(super) data: Data,
    pub(super) connections: Vec<ConnectionLimits>,
    pub(super) caches: NewCaches,
    pub(super) errors: Errors,
    pub(super) journal: Journal,
    pub(super) tallies: Tallies,
    pub(super) label_places: LabelPlaces,
    pub(super) watch: Watch,
    pub(super) health_states: Arc<HealthStates>,
    /// Search buffers for the patterns of `rewrite`.
    pub(super) matchers: [Matcher; 3],
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("dials", &self.dials.len()).finish_non_exhaustive()
    }
}

impl Parts {
    /// Builds the parts for `config`. `listeners`: for each listener of the shell, its number in
    /// `config`, or `None` if it is gone. `health_states`: states of the upstreams of `config`.
    /// `seed`: unpredictable bytes, from which all hash keys are derived.
    pub fn new(
        config: &Config,
        listeners: &[Option<usize>],
        health_states: Arc<HealthStates>,
        seed: [u8; 32],
    ) -> Self {
        Self::keyed(config, listeners, health_states, &hasher_of(&mut ChaCha12Rng::from_seed(seed)))
    }

    /// Builds the parts with an existing hasher.
    pub(super) fn keyed(
        config: &Config,
        listeners: &[Option<usize>],
        health_states: Arc<HealthStates>,
        hasher: &RandomState,
    ) -> Self {
        let dials = dials_of(config);
        let mut by_dial = HashMap::<_, Vec<_>, _>::with_hasher(hasher.clone());
        for (number, dial) in dials.iter().enumerate().rev() {
            by_dial.entry(dial.clone()).or_default().push(number);
        }
        let label_sets = LabelSets::of(config);
        Self {
            by_dial,
            pools: NewPools::new(pool_settings(config)),
            upstream_stats: dials.iter().map(|_| Box::default()).collect(),
            dials,
            routes: Routes::new(config, listeners, &label_sets, hasher),
            chains: chains_of(config, hasher),
            data: Data::new(config, hasher),
            connections: connection_limits(config, listeners),
            caches: NewCaches::new(config, hasher),
            errors: Errors::new(config),
            journal: Journal::new(config, listeners, hasher),
            tallies: Tallies::new(config, &label_sets),
            label_places: LabelPlaces::new(&label_sets, hasher),
            watch: Watch::new(config, hasher),
            health_states,
            matchers: Default::default(),
        }
    }
}

/// Returns a hasher whose keys are drawn from `random`.
pub(super) fn hasher_of(random: &mut ChaCha12Rng) -> RandomState {
    let mut key = || random.next_u64();
    RandomState::with_seeds(key(), key(), key(), key())
}
