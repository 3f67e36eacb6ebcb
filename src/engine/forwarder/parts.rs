//! A configuration in the form in which the engine works by it, built on any thread.
//!
//! A configuration of thousands of server blocks takes tens of milliseconds to be built and as long
//! to be freed, which no worker has while it serves. Everything whose size follows from the
//! configuration is therefore built here, and the worker exchanges its own parts for these between
//! two turns ([`Forwarder::adopt`](super::Forwarder::adopt)). What it hands back holds the old
//! parts, to be freed where the new ones were built. Nothing here depends on what the worker does
//! at present.

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
    /// The numbers of the upstreams that are reached in each way, the last first.
    pub(super) by_dial: HashMap<Dial, Vec<usize>, RandomState>,
    pub(super) pools: NewPools,
    /// Of each upstream, in boxes: those of upstreams that stay change places with the old ones.
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
    /// Memory for the patterns of `rewrite`.
    pub(super) matchers: [Matcher; 3],
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("dials", &self.dials.len()).finish_non_exhaustive()
    }
}

impl Parts {
    /// The parts for `config`, asked on the shell's listeners: `listeners` has for each the number
    /// of the configuration's that it is now, or `None` if it is gone. `health_states`: of its
    /// upstreams. `seed`: bytes that cannot be predicted; all hash keys follow from it.
    pub fn new(
        config: &Config,
        listeners: &[Option<usize>],
        health_states: Arc<HealthStates>,
        seed: [u8; 32],
    ) -> Self {
        Self::keyed(config, listeners, health_states, &hasher_of(&mut ChaCha12Rng::from_seed(seed)))
    }

    /// The same, with a hasher that is there already.
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

/// A hasher whose keys are drawn from `random`.
pub(super) fn hasher_of(random: &mut ChaCha12Rng) -> RandomState {
    let mut key = || random.next_u64();
    RandomState::with_seeds(key(), key(), key(), key())
}
