//! The sockets behind the engine's connection ids.
//!
//! The engine says which connection a query goes on; whether that is an open socket or one to be
//! dialled is found out here, by looking. A table beside the engine's slab, so a socket is found
//! by index, and an id that has been closed meanwhile misses.

use super::token::Token;
use crate::engine::ConnectionId;
use crate::sys::socket;
use mio::unix::SourceFd;
use mio::{Interest, Registry};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

struct Slot {
    id: ConnectionId,
    socket: UdpSocket,
    /// It stands in the queue of sockets to be read.
    queued: bool,
}

/// The upstream sockets of a worker.
pub(super) struct Sockets {
    slots: Vec<Option<Slot>>,
}

impl Sockets {
    /// A table for connections numbered below `capacity`.
    pub(super) fn new(capacity: usize) -> Self {
        Self { slots: std::iter::repeat_with(|| None).take(capacity).collect() }
    }

    /// The socket of `id`, dialled to `address` and registered if there is none yet.
    ///
    /// # Errors
    /// No descriptor or port is left, or there is no route.
    pub(super) fn open(
        &mut self,
        id: ConnectionId,
        address: SocketAddr,
        registry: &Registry,
    ) -> io::Result<&UdpSocket> {
        let slot = &mut self.slots[id.index()];
        let current = slot.take().filter(|slot| slot.id == id);
        let slot = match current {
            Some(current) => slot.insert(current),
            None => {
                let socket = socket::udp_connected(address)?;
                let token = Token::Connection(id).pack();
                let fd = socket.as_raw_fd();
                registry.register(&mut SourceFd(&fd), token, Interest::READABLE)?;
                slot.insert(Slot { id, socket, queued: false })
            }
        };
        Ok(&slot.socket)
    }

    /// The socket of `id`, unless it was closed.
    pub(super) fn get(&self, id: ConnectionId) -> Option<&UdpSocket> {
        let slot = self.slots[id.index()].as_ref()?;
        (slot.id == id).then_some(&slot.socket)
    }

    /// Marks the socket of `id` as standing in the queue, or not; returns whether that is news.
    pub(super) fn set_queued(&mut self, id: ConnectionId, queued: bool) -> bool {
        let slot = self.slots.get_mut(id.index()).and_then(Option::as_mut);
        let Some(slot) = slot.filter(|slot| slot.id == id) else { return false };
        std::mem::replace(&mut slot.queued, queued) != queued
    }

    /// Closes the socket of `id`, if it has one.
    pub(super) fn close(&mut self, id: ConnectionId) {
        let slot = &mut self.slots[id.index()];
        if slot.as_ref().is_some_and(|slot| slot.id == id) {
            *slot = None;
        }
    }
}
