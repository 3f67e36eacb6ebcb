//! Counters of an upstream while it serves.
//!
//! Each thread shows its counts once a turn, in words of its own, so that looking costs it nothing
//! and nobody waits for anybody. A look adds up all threads. What is told besides, at the end, is
//! in [`super::Seen`].

use super::Counts;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one address, as one thread publishes them.
#[derive(Debug, Default)]
pub(super) struct Live {
    queries: AtomicU64,
    flows: AtomicU64,
}

impl Live {
    /// Shows what there is now. Only one thread does.
    pub(super) fn show(&self, counts: &Counts, flows: u64) {
        self.queries.store(counts.queries, Ordering::Relaxed);
        self.flows.store(flows + counts.streams, Ordering::Relaxed);
    }
}

/// Counters of one address so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoFar {
    /// Queries, on streams too.
    pub queries: u64,
    /// Flows that have begun: source ports that are new or were silent for long, and streams.
    pub flows: u64,
}

/// Adds up what the threads show, for each address.
pub(super) fn sum(threads: &[Arc<[Live]>]) -> Vec<SoFar> {
    let addresses = threads.first().map_or(0, |thread| thread.len());
    let mut sums = vec![SoFar::default(); addresses];
    for thread in threads {
        for (sum, live) in sums.iter_mut().zip(thread.iter()) {
            sum.queries += live.queries.load(Ordering::Relaxed);
            sum.flows += live.flows.load(Ordering::Relaxed);
        }
    }
    sums
}
