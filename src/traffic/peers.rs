//! The streams that a responder's peers have opened.
//!
//! Each is served one read a turn, so that a busy one cannot starve the others; queries on it are
//! answered as they come. A peer that does not read its answers is not read either.

use super::answer::{Behaviour, RESPONSE_LEN_MAX, respond};
use super::responder::{Listener, ServiceCounts};
use super::stream::MessageStream;
use mio::net::{TcpListener, TcpStream};
use mio::{Registry, Token};
use std::io;

/// Streams at once; more are closed as they come.
const PEERS_MAX: usize = 4096;

struct Peer {
    /// The number of the service that it came to.
    service: usize,
    stream: MessageStream,
    ready: bool,
}

/// All streams of a responder.
pub(super) struct Peers {
    slots: Vec<Option<Peer>>,
    /// The token of the stream in the first slot; the others follow.
    first_token: usize,
}

impl Peers {
    /// None yet; their tokens begin with `first_token`.
    pub(super) fn new(first_token: usize) -> Self {
        Self { slots: Vec::new(), first_token }
    }

    /// Accepts all who wait at the `listener` of `service`.
    pub(super) fn accept(
        &mut self,
        service: usize,
        listener: &TcpListener,
        registry: &Registry,
        counts: &mut ServiceCounts,
    ) {
        // An error is of the stream that came, or there is no other.
        while let Ok((socket, _)) = listener.accept() {
            // A stream that has failed already ends like any other.
            let _ = socket.set_nodelay(true);
            counts.streams += u64::from(self.admit(service, socket, registry).is_ok());
        }
    }

    fn admit(&mut self, service: usize, socket: TcpStream, registry: &Registry) -> io::Result<()> {
        let free = self.slots.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.slots.len());
        if slot >= PEERS_MAX {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let stream = MessageStream::new(socket, registry, Token(self.first_token + slot))?;
        let peer = Some(Peer { service, stream, ready: true });
        match free {
            Some(slot) => self.slots[slot] = peer,
            None => self.slots.push(peer),
        }
        Ok(())
    }

    /// An event has come.
    pub(super) fn note(&mut self, token: Token) {
        let slot = token.0.checked_sub(self.first_token);
        if let Some(Some(peer)) = slot.and_then(|slot| self.slots.get_mut(slot)) {
            peer.ready = true;
        }
    }

    /// Returns whether there may be something to read at once.
    pub(super) fn is_busy(&self) -> bool {
        self.slots.iter().flatten().any(|peer| peer.ready)
    }

    /// One read from each that is ready, and the answers to it.
    pub(super) fn turn(&mut self, services: &mut [Listener]) {
        for slot in &mut self.slots {
            if let Some(peer) = slot.as_mut().filter(|peer| peer.ready) {
                let Listener { behaviour, counts, .. } = &mut services[peer.service];
                if peer.turn(*behaviour, counts).is_err() {
                    *slot = None;
                }
            }
        }
    }
}

impl Peer {
    /// # Errors
    /// The stream is over.
    fn turn(&mut self, behaviour: Behaviour, counts: &mut ServiceCounts) -> io::Result<()> {
        self.stream.flush()?;
        // If so, an event comes when the kernel takes more.
        self.ready = !self.stream.is_backed_up() && self.stream.receive()?;
        let mut response = [0; RESPONSE_LEN_MAX];
        while let Some(query) = self.stream.message() {
            counts.queries += 1;
            if let Some(length) = respond(query, behaviour, &mut response) {
                self.stream.push(&response[..length]);
                counts.responses += 1;
            }
        }
        self.stream.flush()
    }
}
