//! Report of a worker: copies of its counters, with all that is needed to read them.
//!
//! Upstreams, caches and listeners are numbered by the worker's configuration, so that comes along.
//! Counters are since the worker's start, unless a new configuration has changed their meaning.

use crate::config::Config;
use crate::engine::health::HealthStates;
use crate::engine::pool::PoolState;
use crate::engine::sketch::Counted;
use crate::engine::stats::Stats;
use crate::engine::tally::Tallies;
use crate::tls::Setup;
use std::sync::Arc;
use std::time::Duration;

/// Upper bounds of the buckets of [`Batches`], in datagrams.
pub(crate) const BATCHES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Numbers of datagrams per system call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Batches {
    /// Successful calls, by [`BATCHES`].
    pub(crate) counts: [u64; BATCHES.len()],
    /// Datagrams of all calls.
    pub(crate) datagrams: u64,
}

impl Batches {
    /// Counts a call.
    pub(crate) fn add(&mut self, datagrams: usize) {
        if datagrams > 0 {
            let place = BATCHES.partition_point(|edge| *edge < datagrams).min(BATCHES.len() - 1);
            self.counts[place] += 1;
            self.datagrams += datagrams as u64;
        }
    }

    /// Returns the number of successful calls.
    pub(crate) fn calls(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// Counters of a worker's event loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LoopStats {
    /// Turns of the event loop.
    pub(crate) turns: u64,
    /// Time of all turns, without the wait for events.
    pub(crate) busy: Duration,
    /// Pools and caches swept.
    pub(crate) sweeps: u64,
    /// Queries sent as part of a GSO batch.
    pub(crate) queries_joined: u64,
    /// Replies sent as part of a GSO batch.
    pub(crate) replies_joined: u64,
    /// GSO batches that the kernel refused.
    pub(crate) segments_refused: u64,
    /// Queries per receive call.
    pub(crate) queries: Batches,
    /// Responses per receive call.
    pub(crate) responses: Batches,
}

/// Source ports: one bit for each.
#[derive(Clone, Debug)]
pub(crate) struct Ports(Box<[u64; 1_024]>);

impl Default for Ports {
    fn default() -> Self {
        Self(Box::new([0; 1_024]))
    }
}

impl Ports {
    /// Adds a port that is in use.
    pub(crate) fn insert(&mut self, port: u16) {
        self.0[usize::from(port) / 64] |= 1 << (port % 64);
    }

    /// Adds the ports of `other`.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(other.0.iter()) {
            *own |= other;
        }
    }

    /// Returns the number of ports in use.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

/// Most frequent keys since the last reset.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    /// Names in wire format.
    pub(crate) names: Vec<Counted>,
    /// Addresses: four bytes or sixteen.
    pub(crate) clients: Vec<Counted>,
    /// Names in wire format.
    pub(crate) failing: Vec<Counted>,
}

/// Report of a worker.
#[derive(Clone)]
pub struct Snapshot {
    pub(crate) worker: usize,
    /// Configuration of the worker.
    pub(crate) config: Arc<Config>,
    /// TLS setup of the configuration.
    pub(crate) tls: Arc<Setup>,
    /// Generation number of the configuration.
    pub(crate) generation: u32,
    /// Health state of the upstreams.
    pub health_states: Arc<HealthStates>,
    /// The core that the worker is pinned to.
    pub(crate) core: Option<usize>,
    /// Thread ID in the kernel.
    pub(crate) thread: u32,
    /// Processor time of the thread.
    pub(crate) cpu: Duration,
    /// The engine's counters.
    pub stats: Stats,
    /// The same counters by server block and by upstream.
    pub(crate) tallies: Tallies,
    /// Pools of each upstream: UDP, then connections.
    pub pools: Vec<PoolState>,
    /// Counters of the event loop.
    pub(crate) loops: LoopStats,
    /// Queries that are outstanding.
    pub outstanding: usize,
    /// Connections that clients have open.
    pub connections: usize,
    /// Source ports towards upstreams that are in use.
    pub(crate) ports: Ports,
    /// Datagrams that the kernel dropped for lack of buffer space, for each listener.
    pub(crate) kernel_drops: Vec<u64>,
    /// Most frequent keys, if the status page shows them.
    pub(crate) seen: Option<Seen>,
}

impl Snapshot {
    /// Returns the report with the latest configuration.
    pub(crate) fn latest<'s>(all: &[&'s Self]) -> Option<&'s Self> {
        all.iter().copied().max_by_key(|snapshot| snapshot.generation)
    }
}

#[cfg(test)]
impl Snapshot {
    /// Creates the report of a worker that has just started with the Corefile `text`.
    pub(crate) fn of(worker: usize, text: &str) -> Self {
        let (config, _) =
            Config::load(text.as_bytes(), "Corefile", &crate::config::Host::plain()).unwrap();
        let health_states = Arc::new(HealthStates::new(&config));
        let label_sets = crate::engine::tally::LabelSets::of(&config);
        let upstreams = config.upstreams().count();
        let pools = (0..upstreams).flat_map(crate::engine::PoolId::of_upstream).count();
        Self {
            worker,
            generation: 0,
            health_states,
            core: None,
            thread: 0,
            cpu: Duration::ZERO,
            stats: Stats { upstreams: vec![Default::default(); upstreams], ..Stats::default() },
            tallies: Tallies::new(&config, &label_sets),
            pools: vec![PoolState::default(); pools],
            loops: LoopStats::default(),
            outstanding: 0,
            connections: 0,
            ports: Ports::default(),
            kernel_drops: vec![0; config.listeners.len()],
            seen: None,
            tls: Arc::default(),
            config: Arc::new(config),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Batches, Ports};

    #[test]
    fn batches_are_counted_by_their_size() {
        let mut batches = Batches::default();
        [0, 1, 2, 3, 64].iter().for_each(|count| batches.add(*count));
        assert_eq!((batches.counts, batches.datagrams), ([1, 1, 1, 0, 0, 0, 1], 70));
        assert_eq!(batches.calls(), 4);
    }

    #[test]
    fn a_port_of_several_workers_counts_once() {
        let (mut ports, mut others) = (Ports::default(), Ports::default());
        [0, 63, 64, 65_535, 63].iter().for_each(|port| ports.insert(*port));
        assert_eq!(ports.count(), 4);
        [63, 1].iter().for_each(|port| others.insert(*port));
        ports.merge(&others);
        assert_eq!(ports.count(), 5);
    }
}
