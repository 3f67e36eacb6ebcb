//! The connections from an upstream's clients.
//!
//! Each is served one read a turn, so that a busy one cannot starve the others. A client that does
//! not read its responses is not read from either. A delayed response finds its connection by slot
//! and serial number, or is dropped.

use super::Counts;
use super::delayed::{Delayed, Recipient};
use super::desk::{Desk, Fate, RESPONSE_ROOM};
use super::endpoint::Endpoint;
use crate::moment::Moment;
use crate::tls::Server;
use crate::traffic::doh::{Http, Requests};
use crate::traffic::tcp::MessageConnection;
use mio::net::{TcpListener, TcpStream};
use mio::{Registry, Token};
use std::io;

/// Maximum number of connections; more are closed at once.
const PEERS_MAX: usize = 16_384;

struct Peer {
    endpoint: usize,
    connection: MessageConnection,
    serial: u64,
    ready: bool,
}

/// All connections of a thread.
pub(super) struct Peers {
    slots: Vec<Option<Peer>>,
    free: Vec<usize>,
    /// Connections that may have input.
    ready: Vec<usize>,
    accepted: u64,
    /// The token of the connection in the first slot; the others follow.
    first_token: usize,
    tls: Option<Server>,
    /// Connections carry DNS over HTTPS.
    doh: bool,
}

impl Peers {
    /// Creates an empty set; its tokens begin with `first_token`, and connections use `tls` if
    /// given, and HTTP if `doh`.
    pub(super) fn new(first_token: usize, tls: Option<Server>, doh: bool) -> Self {
        let (slots, free, ready) = (Vec::new(), Vec::new(), Vec::new());
        Self { slots, free, ready, accepted: 0, first_token, tls, doh }
    }

    /// Accepts all waiting clients at the listener of endpoint number `endpoint`; returns their
    /// number.
    pub(super) fn accept(
        &mut self,
        endpoint: usize,
        listener: &TcpListener,
        registry: &Registry,
    ) -> u64 {
        let before = self.accepted;
        // An error concerns one connection only, or means that there is no other.
        while let Ok((socket, _)) = listener.accept() {
            // A connection that has failed already ends like any other.
            let _ = socket.set_nodelay(true);
            // A connection that is not admitted is closed here.
            let _ = self.admit(endpoint, socket, registry);
        }
        self.accepted - before
    }

    fn admit(&mut self, endpoint: usize, socket: TcpStream, registry: &Registry) -> io::Result<()> {
        let slot = self.free.last().copied().unwrap_or(self.slots.len());
        if slot >= PEERS_MAX {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let session = self.tls.as_ref().map(Server::session).transpose();
        let session = session.map_err(|fault| io::Error::other(fault.text()))?;
        let token = Token(self.first_token + slot);
        let connection = MessageConnection::through(session, socket, registry, token)?;
        let connection = match self.doh {
            true => connection.over_http(Http::Requests(Requests::new())),
            false => connection,
        };
        self.accepted += 1;
        let peer = Some(Peer { endpoint, connection, serial: self.accepted, ready: true });
        match self.free.pop() {
            Some(slot) => self.slots[slot] = peer,
            None => self.slots.push(peer),
        }
        self.ready.push(slot);
        Ok(())
    }

    /// Handles an event.
    pub(super) fn note(&mut self, token: Token) {
        let Some(slot) = token.0.checked_sub(self.first_token) else { return };
        if let Some(Some(peer)) = self.slots.get_mut(slot)
            && !std::mem::replace(&mut peer.ready, true)
        {
            self.ready.push(slot);
        }
    }

    /// Returns true if a connection may have input.
    pub(super) fn is_busy(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Reads once from each connection with input, and sends the responses.
    pub(super) fn turn(
        &mut self,
        endpoints: &mut [Endpoint],
        desk: &mut Desk,
        delayed: &mut Delayed,
        now: Moment,
    ) {
        let Self { slots, free, ready, .. } = self;
        ready.retain(|&slot| {
            let Some(peer) = &mut slots[slot] else { return false };
            if peer.turn(slot, endpoints, desk, delayed, now).is_err() {
                slots[slot] = None;
                free.push(slot);
                return false;
            }
            peer.ready
        });
    }

    /// Sends a delayed response to a request; returns its connection's endpoint, if the connection
    /// still exists.
    pub(super) fn send(
        &mut self,
        (slot, serial): (usize, u64),
        request: u32,
        response: &[u8],
    ) -> Option<usize> {
        let peer = self.slots[slot].as_mut().filter(|peer| peer.serial == serial)?;
        peer.connection.push(request, response);
        let endpoint = peer.endpoint;
        let is_flushed = peer.connection.flush().is_ok();
        let Peer { connection, .. } = peer;
        let has_more = connection.may_go_on() || connection.has_bytes();
        if !is_flushed || has_more || connection.is_over() {
            // The next read from it notices an error or the end, and closes it.
            self.note(Token(self.first_token + slot));
        }
        Some(endpoint)
    }
}

impl Peer {
    /// # Errors
    /// The connection has ended.
    fn turn(
        &mut self,
        slot: usize,
        endpoints: &mut [Endpoint],
        desk: &mut Desk,
        delayed: &mut Delayed,
        now: Moment,
    ) -> io::Result<()> {
        let counts = &mut endpoints[self.endpoint].seen.counts;
        self.connection.flush()?;
        // If so, an event comes when the kernel takes more.
        self.ready = !self.connection.is_backed_up() && self.connection.receive()?;
        loop {
            self.answer(slot, desk, delayed, now, counts);
            self.connection.flush()?;
            if !self.connection.may_go_on() {
                break;
            }
        }
        match self.connection.is_over() {
            true => Err(io::ErrorKind::UnexpectedEof.into()),
            false => Ok(()),
        }
    }

    /// Answers the messages that have arrived, as far as the connection takes the responses.
    fn answer(
        &mut self,
        slot: usize,
        desk: &mut Desk,
        delayed: &mut Delayed,
        now: Moment,
        counts: &mut Counts,
    ) {
        let mut response = [0; RESPONSE_ROOM];
        while let Some((request, query)) = self.connection.message() {
            counts.queries += 1;
            match desk.answer(self.endpoint, query, &mut response, now, counts) {
                Fate::Nothing => {}
                Fate::Unanswerable => self.connection.refuse(request),
                Fate::Send(length) => {
                    self.connection.push(request, &response[..length]);
                    counts.responses += 1;
                }
                Fate::Later(length, due) => {
                    let recipient = Recipient::Connection { slot, serial: self.serial, request };
                    let kept = delayed.push(due, &response[..length], recipient);
                    counts.dropped += u64::from(!kept);
                }
            }
        }
    }
}
