//! A worker's report for metrics and the status page.
//!
//! It consists of copies made between two batches. Work of more than a few microseconds is left to
//! the thread that asked for the report.

use super::turn::EventLoop;
use crate::control::snapshot::{Ports, Seen, Snapshot};
use crate::engine::stats::Stats;
use crate::engine::tally::Tallies;
use crate::moment::Moment;
use crate::sys::{socket, thread};
use std::sync::Arc;

impl EventLoop<'_> {
    /// Returns copies of all counters. `forget`: clears the top lists.
    pub(super) fn report(&mut self, now: Moment, forget: bool) -> Box<Snapshot> {
        let mut ports = Ports::default();
        self.sockets.add_ports(&mut ports);
        let seen = self.engine.watch().sketches().map(|sketches| {
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
        let assignment = &self.slot.assignment;
        Box::new(Snapshot {
            worker: self.slot.number,
            at: now,
            config: Arc::clone(&assignment.config),
            tls: Arc::clone(&assignment.tls),
            generation: assignment.generation,
            health_states: Arc::clone(&assignment.health_states),
            core: self.slot.core,
            thread: thread::number(),
            cpu: thread::processor_time(),
            stats: self.counters(),
            tallies: self.tallies(),
            pools: self.engine.pools(now),
            loops: self.slot.loops,
            outstanding: self.engine.outstanding(),
            connections: self.engine.clients.count(),
            ports,
            kernel_drops: self.kernel_drops(),
            seen,
        })
    }

    /// Returns the counters of the engine and of earlier event loops of this slot.
    pub(super) fn counters(&self) -> Stats {
        let mut counters = self.slot.past.clone();
        counters.add(&self.engine.stats());
        counters
    }

    /// Returns the counters by label set and by upstream.
    pub(super) fn tallies(&self) -> Tallies {
        let mut tallies = self.slot.past_tallies.clone();
        tallies.merge(self.engine.tallies());
        tallies
    }

    /// Returns the packets that the kernel dropped, by the configuration's listeners.
    fn kernel_drops(&self) -> Vec<u64> {
        let assignment = &self.slot.assignment;
        let mut drops = vec![0; assignment.config.listeners.len()];
        for (listening, number) in self.slot.listeners.iter().zip(&assignment.listeners) {
            if let (Some(listening), Some(number)) = (listening, number) {
                let lost = listening.datagrams.as_ref().and_then(socket::drops);
                drops[*number] += lost.unwrap_or(0);
            }
        }
        drops
    }
}
