//! A worker's report for metrics and the status page.
//!
//! It consists of copies made between two batches. Work of more than a few microseconds is left to
//! the thread that asked for the report. [`PastCounters`] holds the counters of event loops that
//! ended by a panic. The report itself is a method of the event loop, because it copies from every
//! part of it.

use super::turn::EventLoop;
use crate::control::snapshot::{Ports, Seen, Snapshot};
use crate::engine::Forwarder;
use crate::engine::stats::{CacheStats, Stats};
use crate::engine::tally::Tallies;
use crate::moment::Moment;
use crate::sys::thread;
use std::sync::Arc;

/// Counters of earlier event loops of a slot, which ended by a panic.
#[derive(Default)]
pub(super) struct PastCounters {
    stats: Stats,
    tallies: Tallies,
}

impl PastCounters {
    /// Adds the counters of an event loop that has ended. Its caches are gone.
    pub(super) fn end_of(&mut self, engine: &Forwarder) {
        (self.stats, self.tallies) = (self.stats(engine), self.tallies(engine));
        self.stats.caches.iter_mut().for_each(CacheStats::empty);
    }

    pub(super) fn count_panic(&mut self) {
        self.stats.panics += 1;
    }

    /// Forgets the counters that are numbered by the old configuration.
    pub(super) fn reload(&mut self) {
        self.stats.upstreams.clear();
        self.stats.caches.clear();
    }

    /// Returns the counters together with those of `engine`.
    fn stats(&self, engine: &Forwarder) -> Stats {
        let mut stats = self.stats.clone();
        stats.add(&engine.stats());
        stats
    }

    /// Returns the counters by label set and by upstream, together with those of `engine`.
    fn tallies(&self, engine: &Forwarder) -> Tallies {
        let mut tallies = self.tallies.clone();
        tallies.merge(engine.tallies());
        tallies
    }
}

impl EventLoop<'_> {
    /// Returns copies of all counters. `forget`: clears the top lists.
    pub(super) fn report(&mut self, now: Moment, forget: bool) -> Box<Snapshot> {
        let mut ports = Ports::default();
        self.upstreams.add_ports(&mut ports);
        let (slot, engine) = (&*self.slot, &mut self.engine);
        let seen = engine.watch().sketches().map(|sketches| {
            let seen = Seen {
                names: sketches.names.keys().to_vec(),
                clients: sketches.clients.keys().to_vec(),
                failing: sketches.failing.keys().to_vec(),
            };
            if forget {
                sketches.clear();
            }
            seen
        });
        let assignment = &slot.assignment;
        let listeners = assignment.config.listeners.len();
        Box::new(Snapshot {
            worker: slot.number,
            config: Arc::clone(&assignment.config),
            tls: Arc::clone(&assignment.tls),
            generation: assignment.generation,
            health_states: Arc::clone(&assignment.health_states),
            core: slot.core,
            thread: thread::number(),
            cpu: thread::processor_time(),
            stats: slot.past.stats(engine),
            tallies: slot.past.tallies(engine),
            pools: engine.pools(now),
            loops: slot.loops,
            outstanding: engine.outstanding(),
            connections: engine.clients.count(),
            ports,
            kernel_drops: slot.listeners.kernel_drops(listeners, &assignment.listeners),
            seen,
        })
    }
}
