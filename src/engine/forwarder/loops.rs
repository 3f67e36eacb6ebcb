//! Detection of forwarding loops.
//!
//! All workers use the same probe names, because any worker may receive a probe that comes back;
//! the first worker that needs the names chooses them and sends the probes. A worker that receives
//! a probe marks the server block as looping for all workers; its queries then fail instead of
//! being forwarded, until a reload. Before the detection, coalescing limits a looping query to one
//! exchange per worker.

use super::Forwarder;
use super::drafts::Route;
use super::notices::Report;
use crate::engine::chain::Chain;
use crate::engine::errors::Reason;
use crate::engine::key::Transport;
use crate::engine::message::query::Query;
use crate::engine::stages::loops::{PROBE_LEN_MAX, Probe};
use crate::engine::tally::NOWHERE;
use crate::engine::zones::LowercaseName;
use crate::moment::Moment;
use rand_chacha::rand_core::Rng;
use std::net::SocketAddr;

/// Maximum number of probes sent in one turn, because each may open a connection.
const PROBES_MAX: usize = 32;

/// State of the detection of forwarding loops.
#[derive(Default)]
pub(super) struct Loops {
    /// Probes have not all been named and sent yet.
    pub(super) due: bool,
    /// Probe of each server block; empty until the names are chosen.
    probes: Vec<Option<Probe>>,
    /// This worker sends the probes.
    sends: bool,
    /// Number of server blocks whose probes were sent.
    sent: usize,
}

impl Forwarder {
    /// Restarts the detection for a new configuration.
    pub(super) fn forget_loops(&mut self) {
        let due = self.chains.iter().any(|chain| chain.settings.find_loops.is_some());
        self.loops = Loops { due, ..Loops::default() };
        // Reports name blocks of the configuration before.
        self.reports.clear();
    }

    /// Names the probes, and sends the next of them unless another worker does.
    pub(super) fn probe_for_loops(&mut self, now: Moment) {
        if self.loops.probes.is_empty() {
            let (nonce, first) = self.upstreams.health().agree_on(self.random.next_u64());
            let probe = |(block, chain): (usize, &Chain)| {
                let zone = chain.settings.find_loops.as_ref()?;
                Probe::new(zone, nonce, block, now)
            };
            self.loops.probes = self.chains.iter().enumerate().map(probe).collect();
            self.loops.sends = first;
        }
        let mut left = if self.loops.sends { PROBES_MAX } else { 0 };
        while left > 0 && self.loops.sent < self.loops.probes.len() {
            let block = self.loops.sent;
            self.loops.sent += 1;
            let mut packet = [0; PROBE_LEN_MAX];
            if let Some(probe) = &self.loops.probes[block] {
                let len = probe.write(&mut packet);
                self.send_probe(now, block, &packet[..len]);
                left -= 1;
            }
        }
        self.loops.due = self.loops.sends && self.loops.sent < self.loops.probes.len();
    }

    /// Returns true if queries of `block` loop; `query` from `peer` may be the probe that shows it.
    pub(super) fn is_looping(
        &mut self,
        now: Moment,
        block: usize,
        query: &Query<'_>,
        name: &LowercaseName,
        peer: SocketAddr,
    ) -> bool {
        let Some(Some(probe)) = self.loops.probes.get(block) else { return false };
        if probe.is_back(now, name.as_bytes(), &query.question)
            && self.upstreams.health().note_loop(block)
        {
            self.reports.push(Report::Looping { block, peer });
        }
        self.upstreams.health().is_looping(block)
    }

    /// Sends a probe, an exchange without a client.
    fn send_probe(&mut self, now: Moment, block: usize, packet: &[u8]) {
        let Ok(query) = Query::parse(packet, false) else { return };
        let name = LowercaseName::new(query.name());
        let Some(stanza) = self.routes.stanza_in(block, &name) else { return };
        let (label_set, transport) = (NOWHERE, Transport::Udp);
        let route = Route { block, label_set, stanza, transport, cacheable: false };
        let (routes, chains) = (&mut self.routes, &self.chains);
        let opening = self.drafts.write(&query, &name, &route, 0, routes, chains);
        if let Some(slot) = self.exchanges.open(&opening, now) {
            self.attempt(now, slot, Reason::NoConnection);
        }
    }
}
