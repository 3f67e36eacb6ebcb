//! Packets of QUIC to be sent, in batches.
//!
//! Packets leave on the socket of their listener, from the address that the client has asked, with
//! one call for many.

use crate::engine::shell::DATAGRAM_LEN_MAX;
use crate::quic::Outgoing;
use crate::sys::mmsg::ReplyBatch;
use crate::sys::pktinfo::Local;
use crate::worker::listeners::Listeners;
use std::net::SocketAddr;

/// Number of packets that are sent with one call.
const BATCH_MAX: usize = 64;

/// Packets that wait to be sent in this turn.
pub(super) struct Packets(ReplyBatch);

impl Packets {
    /// Creates an empty batch.
    pub(super) fn new() -> Self {
        Self(ReplyBatch::new(BATCH_MAX, DATAGRAM_LEN_MAX, false))
    }

    /// Returns the reserved bytes.
    pub(super) fn reserved(&self) -> usize {
        self.0.reserved()
    }

    /// Adds a packet of listener number `number`.
    pub(super) fn push(&mut self, listeners: &Listeners, number: usize, packet: &Outgoing<'_>) {
        let Outgoing { peer, local, bytes } = packet;
        // Link-local addresses belong to an interface, which is that of the client's address.
        let interface = match peer {
            SocketAddr::V6(peer) => peer.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        let room = self.0.buffer();
        let len = bytes.len().min(room.len());
        room[..len].copy_from_slice(&bytes[..len]);
        let local = local.map(|ip| Local { ip, interface });
        self.0.commit(len, number as u16, peer, local);
        if self.0.is_full() {
            self.flush(listeners);
        }
    }

    /// Sends all packets. Those that the kernel does not accept are lost, as on any way.
    pub(super) fn flush(&mut self, listeners: &Listeners) {
        if !self.0.is_empty() {
            self.0.flush(|number| {
                listeners.packets(usize::from(number)).expect("its listener has a socket")
            });
        }
    }
}
