//! Calls of the event loop for connections over QUIC.
//!
//! Connections over QUIC share the budget of handshakes, the buffers for messages and the table of
//! connections with connections over TCP. A worker without a listener for QUIC returns from each
//! at once.

use super::framing::Framing;
use super::quic::QuicClients;
use super::{ClientConnections, QUERY_LEN_MAX, Slot};
use crate::config::Protocol;
use crate::control::Assignment;
use crate::engine::Forwarder;
use crate::moment::Moment;
use crate::quic::Packet;
use crate::worker::listeners::Listeners;
use crate::worker::tcp::TcpConnection;

impl ClientConnections {
    /// Returns the maximum number of bytes of one connection of a listener for `protocol`.
    pub(in crate::worker) fn bytes_max(protocol: Protocol, secure: bool) -> usize {
        if protocol.is_quic() {
            return QuicClients::bytes_max();
        }
        let connection = TcpConnection::bytes_max(QUERY_LEN_MAX, secure);
        size_of::<Option<Slot>>() + connection + Framing::bytes_max(protocol)
    }

    /// Changes to the listeners, certificates and limits of `assignment`, for worker number
    /// `worker`.
    pub(in crate::worker) fn adopt(
        &mut self,
        worker: usize,
        assignment: &Assignment,
        engine: &mut Forwarder,
    ) {
        self.quic.adopt(worker, assignment, engine);
    }

    /// Returns true if a connection may be read.
    pub(in crate::worker) fn has_ready(&self) -> bool {
        !self.ready.is_empty() || self.quic.has_fronts() && self.quic.is_ready()
    }

    /// Returns the time at which waiting handshakes may continue, if there are any, or at which
    /// [`ClientConnections::expire`] must be called for other reasons than the engine's.
    pub(in crate::worker) fn due(&self) -> Option<Moment> {
        let mut waits = !self.deferred.is_empty();
        let mut due = None;
        if self.quic.has_fronts() {
            let (own, has_waiting) = self.quic.due();
            due = own;
            waits |= has_waiting;
        }
        let handshakes = waits.then(|| self.handshake_budget.next());
        due.into_iter().chain(handshakes).min()
    }

    /// Handles packets that listener number `number` has received.
    pub(in crate::worker) fn receive<'a>(
        &mut self,
        now: Moment,
        number: usize,
        packets: impl Iterator<Item = Packet<'a>>,
        listeners: &Listeners,
        engine: &mut Forwarder,
    ) {
        let Self { quic, handshake_budget, scratch, .. } = self;
        quic.receive(now, number, packets, handshake_budget, listeners, (&mut *engine, scratch));
        self.remove_evicted(engine);
    }

    /// Begins handshakes that wait for CPU time, and reads streams that waited for replies.
    pub(super) fn serve_packets(
        &mut self,
        now: Moment,
        listeners: &Listeners,
        engine: &mut Forwarder,
    ) {
        if self.quic.has_fronts() {
            let Self { quic, handshake_budget, scratch, .. } = self;
            quic.shake(now, handshake_budget, listeners, (&mut *engine, scratch));
            self.remove_evicted(engine);
        }
    }

    /// Handles the deadlines of endpoints that have passed.
    pub(super) fn expire_packets(&mut self, now: Moment, engine: &mut Forwarder) {
        if self.quic.has_fronts() {
            self.quic.on_time(now, engine, &mut self.scratch);
            self.remove_evicted(engine);
        }
    }

    /// Sends all packets of this turn.
    pub(in crate::worker) fn send_packets(
        &mut self,
        now: Moment,
        listeners: &Listeners,
        engine: &mut Forwarder,
    ) {
        if self.quic.has_fronts() {
            self.quic.flush(now, listeners, engine, &mut self.scratch);
            self.remove_evicted(engine);
        }
    }

    /// Closes connections that the engine has closed for others.
    pub(super) fn remove_evicted(&mut self, engine: &mut Forwarder) {
        while let Some(evicted) = self.quic.evicted.pop() {
            self.remove(evicted, engine);
        }
    }
}
