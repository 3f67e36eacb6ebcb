//! The parts of an engine that follow from its configuration, built on any thread.
//!
//! Parts for thousands of server blocks take tens of milliseconds to build and as long to free,
//! which would stall a worker. Everything whose size follows from the configuration is therefore
//! built here by another thread, and the worker swaps its own parts with these between two turns
//! ([`Forwarder::adopt`](super::Forwarder::adopt)). The other thread then frees the old parts.
//! Nothing here depends on the current state of the worker.

use super::caching::NewCaches;
use super::limiting::Limiters;
use super::upstreams::{NewUpstreams, pool_settings};
use crate::config::{Config, Late};
use crate::engine::cache::SharedCaches;
use crate::engine::chain::Chain;
use crate::engine::clients::{ConnectionLimits, IDLE_MAX};
use crate::engine::cookies;
use crate::engine::data::Data;
use crate::engine::dnssec::kept::Signatures;
use crate::engine::errors::Errors;
use crate::engine::forwarder::Watch;
use crate::engine::health::HealthStates;
use crate::engine::journal::Journal;
use crate::engine::pool::NewPools;
use crate::engine::rewrite::Matcher;
use crate::engine::routes::Routes;
use crate::engine::tally::{LabelPlaces, LabelSets, Tallies};
use ahash::RandomState;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The parts of an engine that follow from its configuration.
pub struct Parts {
    pub(super) upstreams: NewUpstreams,
    pub(super) pools: NewPools,
    pub(super) routes: Routes,
    pub(super) chains: Vec<Chain>,
    pub(super) data: Data,
    pub(super) connections: Vec<ConnectionLimits>,
    pub(super) caches: NewCaches,
    pub(super) limiters: Limiters,
    pub(super) cookies: cookies::Settings,
    pub(super) late: Late,
    pub(super) signatures: Signatures,
    pub(super) errors: Errors,
    pub(super) journal: Journal,
    pub(super) tallies: Tallies,
    pub(super) label_places: LabelPlaces,
    pub(super) watch: Watch,
    /// Search buffers for the patterns of `rewrite`.
    pub(super) matchers: [Matcher; 3],
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("upstreams", &self.upstreams.count()).finish_non_exhaustive()
    }
}

impl Parts {
    /// Builds the parts for `config`. `listeners`: for each listener of the shell, its number in
    /// `config`, or `None` if it is gone. `health_states`: states of the upstreams of `config`.
    /// `caches`: those of `config`, whose hasher all parts use.
    pub fn new(
        config: &Config,
        listeners: &[Option<usize>],
        health_states: Arc<HealthStates>,
        caches: &SharedCaches,
    ) -> Self {
        let hasher = caches.hasher();
        let label_sets = LabelSets::of(config);
        let chains = chains_of(config, hasher);
        let signature_lens = chains.iter().map(Chain::signature_len);
        Self {
            upstreams: NewUpstreams::new(config, health_states, hasher),
            signatures: Signatures::new(config, signature_lens),
            pools: NewPools::new(pool_settings(config)),
            routes: Routes::new(config, listeners, &label_sets, hasher),
            chains,
            data: Data::new(config, hasher),
            connections: ConnectionLimits::of_listeners(config, listeners),
            caches: NewCaches::new(config, caches),
            limiters: Limiters::new(config, hasher),
            cookies: cookies::Settings::new(config),
            late: config.late,
            errors: Errors::new(config),
            journal: Journal::new(config, listeners, hasher),
            tallies: Tallies::new(config, &label_sets),
            label_places: LabelPlaces::new(&label_sets, hasher),
            watch: Watch::new(config, hasher),
            matchers: Default::default(),
        }
    }
}

/// Returns a hasher whose keys are drawn from `random`.
pub(super) fn hasher_of(random: &mut ChaCha12Rng) -> RandomState {
    let mut key = || random.next_u64();
    RandomState::with_seeds(key(), key(), key(), key())
}

/// Returns the chain of each server block.
fn chains_of(config: &Config, hasher: &RandomState) -> Vec<Chain> {
    let numbers: Vec<_> = (0..config.listeners.len()).map(Some).collect();
    let limits = ConnectionLimits::of_listeners(config, &numbers);
    // A block on several listeners advertises the shortest idle timeout.
    let mut idle = vec![None; config.blocks.len()];
    for (listener, limits) in config.listeners.iter().zip(&limits) {
        for (_, block) in &listener.zones {
            let least = idle[*block].map_or(limits.idle, |other: Duration| other.min(limits.idle));
            idle[*block] = Some(least);
        }
    }
    let blocks = config.blocks.iter().zip(idle);
    blocks.map(|(block, idle)| Chain::new(block, idle.unwrap_or(IDLE_MAX), hasher)).collect()
}
