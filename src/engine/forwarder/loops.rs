//! Forwarding loops, found and kept from melting the host.
//!
//! All workers agree on the names of the probes, because the kernel decides which of them a query
//! comes in at; the one that names them first sends them. Whoever sees one come back says so to
//! all, and from then on the block's queries are not forwarded but fail, until there is a new
//! configuration. What coalescing makes of a loop before that: each worker takes part once.

use super::{Forwarder, Route, hash_of};
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

/// Probes that are sent in one turn: each may dial.
const PROBES_MAX: usize = 32;

/// State of the detection of forwarding loops.
#[derive(Default)]
pub(super) struct Loops {
    /// Probes are still to be named or sent.
    pub(super) due: bool,
    /// Of each server block, once they are named.
    probes: Vec<Option<Probe>>,
    /// This worker sends the probes.
    sends: bool,
    /// Server blocks whose probes were sent.
    sent: usize,
    /// Blocks that somebody is to be told about, and where their probes came back from.
    found: Vec<(usize, SocketAddr)>,
}

impl Loops {
    /// The next server block whose queries come back, and where the one came from that told.
    pub(super) fn next_found(&mut self) -> Option<(usize, SocketAddr)> {
        self.found.pop()
    }

    /// Makes this one the next again.
    pub(super) fn put_back(&mut self, block: usize, peer: SocketAddr) {
        self.found.push((block, peer));
    }
}

impl Forwarder {
    /// There is a new configuration: what was known about loops is void.
    pub(super) fn forget_loops(&mut self) {
        let due = self.chains.iter().any(|chain| chain.settings.find_loops.is_some());
        self.loops = Loops { due, ..Loops::default() };
    }

    /// Names the probes, and sends the next few of them unless another worker does.
    pub(super) fn probe_for_loops(&mut self, now: Moment) {
        if self.loops.probes.is_empty() {
            let (nonce, first) = self.health_states.agree_on(self.random.next_u64());
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

    /// Returns true if queries of `block` go in a circle, which this one from `peer` may show.
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
            && self.health_states.note_loop(block)
        {
            self.loops.found.push((block, peer));
        }
        self.health_states.is_looping(block)
    }

    /// Sends a query without a client.
    fn send_probe(&mut self, now: Moment, block: usize, packet: &[u8]) {
        let Ok(query) = Query::parse(packet, false) else { return };
        let name = LowercaseName::new(query.name());
        let Some(stanza) = self.routes.stanza_in(block, &name) else { return };
        let (label_set, transport) = (NOWHERE, Transport::Udp);
        let route = Route { block, label_set, stanza, transport, cacheable: false };
        let len = self.write_draft(&query, block, 0);
        let hash = hash_of(&self.hasher, &name, &self.draft[..len], stanza);
        let opening =
            route.opening(&self.draft[..len], &query, hash, &mut self.routes, &self.chains);
        if let Some(slot) = self.exchanges.open(&opening, now) {
            self.attempt(now, slot, Reason::NoConnection);
        }
    }
}
