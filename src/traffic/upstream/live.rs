//! Counters of an upstream while it serves.
//!
//! Each thread publishes its counters once a turn in atomics of its own, so that reading them costs
//! the thread nothing. A reader adds up all threads. [`super::Seen`] has the rest, at the end.

use super::Seen;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one address, as one thread publishes them.
#[derive(Debug, Default)]
pub(super) struct Live {
    queries: AtomicU64,
    responses: AtomicU64,
    connections: AtomicU64,
    ports: AtomicU64,
    flows: AtomicU64,
}

impl Live {
    /// Publishes the current counters. Only one thread calls it.
    pub(super) fn show(&self, seen: &Seen, flows: u64) {
        let Seen { counts, sources, .. } = seen;
        self.queries.store(counts.queries, Ordering::Relaxed);
        self.responses.store(counts.responses, Ordering::Relaxed);
        self.connections.store(counts.connections, Ordering::Relaxed);
        self.ports.store(sources.port_count(), Ordering::Relaxed);
        self.flows.store(flows + counts.connections, Ordering::Relaxed);
    }
}

/// Counters of one address so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoFar {
    /// Queries, including those on connections.
    pub queries: u64,
    /// Responses handed to the kernel.
    pub responses: u64,
    /// Connections accepted.
    pub(crate) connections: u64,
    /// Source ports of datagrams; a port seen by several threads counts for each.
    pub(crate) ports: u64,
    /// New flows: source ports that are new or were silent for long, and connections.
    pub flows: u64,
}

/// Adds up the counters of the threads, for each address.
pub(super) fn sum(threads: &[Arc<[Live]>]) -> Vec<SoFar> {
    let addresses = threads.first().map_or(0, |thread| thread.len());
    let mut sums = vec![SoFar::default(); addresses];
    for thread in threads {
        for (sum, live) in sums.iter_mut().zip(thread.iter()) {
            sum.queries += live.queries.load(Ordering::Relaxed);
            sum.responses += live.responses.load(Ordering::Relaxed);
            sum.connections += live.connections.load(Ordering::Relaxed);
            sum.ports += live.ports.load(Ordering::Relaxed);
            sum.flows += live.flows.load(Ordering::Relaxed);
        }
    }
    sums
}
