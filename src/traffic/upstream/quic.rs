//! The connections over QUIC from an upstream's clients, at one address.
//!
//! Connects datagrams with the forwarder's room of QUIC, and queries on streams with the script. A
//! message that cannot be answered is refused; a response that the script leaves out is never sent,
//! so that its client has to give the stream up. A delayed response finds its connection by key and
//! stream, or is dropped.

use super::Counts;
use super::delayed::{Delayed, Recipient};
use super::desk::{Desk, Fate, RESPONSE_ROOM};
use crate::clock::Clock;
use crate::engine::key::{ConnectionKey, Key};
use crate::moment::Moment;
use crate::quic::{
    Application, Endpoint, Event, Id, Keys, Outgoing, Packet, Query, Reason, Settings,
};
use crate::sys::mmsg::Datagram;
use crate::sys::random;
use crate::tls::Server;
use std::collections::HashMap;
use std::io;
use std::time::Duration;

/// Maximum number of streams of a client at a time.
const STREAMS_MAX: u32 = 128;
/// Maximum time of a handshake, and of a query that has begun.
const READ: Duration = Duration::from_secs(10);
/// Time without a packet after which both sides forget a connection.
const SILENCE: Duration = Duration::from_secs(30);
/// Maximum length of a query.
const QUERY_LEN_MAX: usize = 4096;

/// QUIC at one address.
pub(super) struct QuicPeers {
    endpoint: Endpoint,
    connections: HashMap<ConnectionKey, Id>,
    /// Number of connections so far.
    count: u32,
}

impl QuicPeers {
    /// Creates an empty set. Times are those of `clock`.
    ///
    /// # Errors
    /// There is no randomness, or the certificate is not for TLS 1.3.
    pub(super) fn new(tls: &Server, clock: Clock) -> io::Result<Self> {
        let settings = Settings {
            application: Application::Doq,
            requests_max: STREAMS_MAX,
            read: READ,
            silence: SILENCE,
            query_len_max: QUERY_LEN_MAX,
        };
        // The kernel chooses the thread by the client's address: no other must know the keys.
        let keys = Keys::new(&random::seed()?, 1);
        let origin = clock.instant(Moment::ZERO).ok_or(io::ErrorKind::InvalidInput)?;
        let endpoint = Endpoint::new(&keys, 0, (tls.config(), settings), random::seed()?, origin);
        let endpoint = endpoint.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { endpoint, connections: HashMap::new(), count: 0 })
    }

    /// Handles a datagram; `send` takes a datagram for its sender.
    pub(super) fn receive(
        &mut self,
        now: Moment,
        datagram: &Datagram<'_>,
        send: impl FnOnce(&Outgoing<'_>),
    ) {
        let Some(peer) = datagram.peer else { return };
        let local = datagram.local.map(|local| local.ip);
        let packet = Packet { peer, client: None, local, bytes: datagram.bytes };
        if let Some(outgoing) = self.endpoint.receive(now, packet, true) {
            send(&outgoing);
        }
    }

    /// Answers the queries that have arrived at endpoint number `number`.
    pub(super) fn serve(
        &mut self,
        now: Moment,
        number: u16,
        desk: &mut Desk,
        delayed: &mut Delayed,
        counts: &mut Counts,
    ) {
        let mut response = [0; RESPONSE_ROOM];
        while let Some(event) = self.endpoint.next_event(now, |_| true) {
            match event {
                Event::Connected { id, .. } => {
                    let key = ConnectionKey(Key { index: self.count, generation: 0 });
                    self.count = self.count.wrapping_add(1);
                    self.connections.insert(key, id);
                    self.endpoint.admit(id, key);
                    counts.connections += 1;
                }
                Event::Query { key, stream, query: Query::Message(message), .. } => {
                    counts.queries += 1;
                    match desk.answer(number.into(), &message, &mut response, now, counts) {
                        Fate::Nothing => {}
                        Fate::Unanswerable => self.refuse(key, stream),
                        Fate::Send(length) => {
                            let is_sent = self.answer(now, (key, stream), &response[..length]);
                            counts.responses += u64::from(is_sent);
                        }
                        Fate::Later(length, due) => {
                            let recipient = Recipient::Stream { endpoint: number, key, stream };
                            let kept = delayed.push(due, &response[..length], recipient);
                            counts.dropped += u64::from(!kept);
                        }
                    }
                }
                Event::Closed { key, .. } => _ = self.connections.remove(&key),
                // There are no requests of HTTP without HTTP/3.
                Event::Failed(_) | Event::Taken { .. } | Event::Query { .. } => {}
            }
        }
    }

    /// Sends the response to the query on a stream; returns false if its connection is gone.
    pub(super) fn answer(
        &mut self,
        now: Moment,
        (key, stream): (ConnectionKey, u32),
        response: &[u8],
    ) -> bool {
        let Some(id) = self.connections.get(&key).copied() else { return false };
        if self.endpoint.answer(id, stream, response).is_err() {
            // The client does not read.
            self.connections.remove(&key);
            self.endpoint.close(now, id, Reason::Load);
        }
        true
    }

    fn refuse(&mut self, key: ConnectionKey, stream: u32) {
        if let Some(id) = self.connections.get(&key) {
            self.endpoint.refuse(*id, stream, Reason::Other);
        }
    }

    /// Returns the time of the next call of [`QuicPeers::on_time`].
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.endpoint.next_deadline()
    }

    /// Handles the deadlines that have passed.
    pub(super) fn on_time(&mut self, now: Moment) {
        self.endpoint.on_time(now);
    }

    /// Closes all connections after their last responses.
    pub(super) fn finish(&mut self, now: Moment) {
        self.endpoint.finish_all(now);
    }

    /// Returns true if datagrams may wait to be sent.
    pub(super) fn is_busy(&self) -> bool {
        self.endpoint.is_busy()
    }

    /// Passes each datagram that is due to `send`.
    pub(super) fn transmit(&mut self, now: Moment, send: impl FnMut(Outgoing<'_>)) {
        let Self { endpoint, connections, .. } = self;
        endpoint.transmit(now, send, |key| _ = connections.remove(&key));
    }
}
