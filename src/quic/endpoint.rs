//! The connections of a listener at one worker: packets, steps, deadlines.
//!
//! A new client is accepted at once while few handshakes are under way and there is CPU time for
//! them. Otherwise it has to prove its address first (Retry, RFC 9000 §8.1.2); a client that has
//! done so waits for the CPU time. Handshakes hold memory before any admission, so their number has
//! a bound, beyond which clients are refused.

use super::application::Reason;
use super::connection::{Connection, Failure, Phase, Step};
use super::event::{Event, Id, Outgoing, Packet, event_of};
use super::outbox::{Full, WAITING_MAX};
use super::settings::{self, Keys, Settings};
use super::shares::{Newcomer, Shares};
use super::timers::Timers;
use crate::engine::key::ConnectionKey;
use crate::http::Response;
use crate::moment::Moment;
use bytes::BytesMut;
use quinn_proto::{ConnectionHandle, DatagramEvent, EndpointEvent, ServerConfig, Transmit};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Handshakes under way from which on clients have to prove their addresses.
const RETRY_FROM: usize = 64;
/// Maximum number of handshakes under way or waiting.
const HANDSHAKES_MAX: usize = 1_024;
/// Capacity for one datagram.
const DATAGRAM_LEN: usize = 2_048;

/// QUIC on one listener of one worker.
pub(crate) struct Endpoint {
    inner: quinn_proto::Endpoint,
    settings: Settings,
    /// Parameters of new connections. `None`: no new connection is accepted.
    server: Option<Arc<ServerConfig>>,
    /// The library's time of [`Moment::ZERO`].
    origin: Instant,
    connections: Vec<Option<Box<Connection>>>,
    generation: u32,
    handshaking: usize,
    /// Handshakes under way or waiting, by address.
    shares: Shares,
    timers: Timers,
    /// Connections that may have steps.
    touched: VecDeque<u32>,
    /// Connections that may have datagrams.
    unsent: Vec<u32>,
    /// Connections with streams that may be read again.
    resumed: Vec<u32>,
    /// Clients that wait for the CPU time of their handshakes.
    waiting: VecDeque<Newcomer>,
    /// Handshakes that failed with their first packet.
    failures: Vec<Failure>,
    /// Number of streams that were refused and whose owner does not know of it.
    refused: u64,
    /// The last datagram has cost time for a handshake.
    has_shaken: bool,
    /// Datagram that is written.
    buffer: Vec<u8>,
}

impl Endpoint {
    /// Creates the endpoint of worker number `worker`. `tls` has the certificates, `seed` is
    /// unpredictable. `None`: `tls` does not speak TLS 1.3.
    pub(crate) fn new(
        keys: &Keys,
        worker: usize,
        (tls, settings): (Arc<rustls::ServerConfig>, Settings),
        seed: [u8; 32],
        origin: Instant,
    ) -> Option<Self> {
        let server = keys.server(tls, &settings)?;
        let config = keys.endpoint(worker, seed);
        let inner = quinn_proto::Endpoint::new(config, Some(Arc::clone(&server)), true, Some(seed));
        Some(Self {
            inner,
            settings,
            server: Some(server),
            origin,
            connections: Vec::new(),
            generation: 0,
            handshaking: 0,
            shares: Shares::default(),
            timers: Timers::default(),
            touched: VecDeque::new(),
            unsent: Vec::new(),
            resumed: Vec::new(),
            waiting: VecDeque::new(),
            failures: Vec::new(),
            refused: 0,
            has_shaken: false,
            buffer: Vec::with_capacity(DATAGRAM_LEN),
        })
    }

    /// Changes certificates and settings for new connections.
    pub(crate) fn reload(
        &mut self,
        keys: &Keys,
        (tls, settings): (Arc<rustls::ServerConfig>, Settings),
    ) {
        if let Some(server) = keys.server(tls, &settings) {
            self.inner.set_server_config(Some(Arc::clone(&server)));
            (self.server, self.settings) = (Some(server), settings);
        }
    }

    /// Returns the maximum number of bytes of a connection with at most `requests` at a time.
    pub(crate) fn bytes_max(requests: usize) -> usize {
        Connection::bytes_max(requests) + settings::windows() + WAITING_MAX
    }

    /// Handles a datagram. `may_shake`: there is CPU time for handshakes. Returns a datagram to be
    /// sent at once.
    pub(crate) fn receive(
        &mut self,
        now: Moment,
        packet: Packet<'_>,
        may_shake: bool,
    ) -> Option<Outgoing<'_>> {
        self.buffer.clear();
        self.has_shaken = false;
        let (instant, bytes) = (self.instant(now), BytesMut::from(packet.bytes));
        let Packet { peer, client, local, .. } = packet;
        let event = self.inner.handle(instant, peer, local, None, bytes, &mut self.buffer)?;
        match event {
            DatagramEvent::Response(transmit) => Some(self.outgoing(&transmit)),
            DatagramEvent::ConnectionEvent(ConnectionHandle(index), event) => {
                if let Some(connection) = self.at(index as u32) {
                    connection.quic.handle_event(event);
                    self.has_shaken = connection.phase == Phase::Handshaking;
                    self.touch(index as u32);
                }
                None
            }
            DatagramEvent::NewConnection(incoming) => {
                let transmit = self.consider(now, Newcomer { incoming, client }, may_shake)?;
                Some(self.outgoing(&transmit))
            }
        }
    }

    /// Returns the number of streams that were refused since the last call.
    pub(crate) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// Returns true if the datagram that was received last has begun or continued a handshake.
    /// Others cost no more than a query: what they get needs no key of a certificate.
    pub(crate) fn has_shaken(&self) -> bool {
        self.has_shaken
    }

    /// Accepts, delays or refuses a new client.
    fn consider(&mut self, now: Moment, new: Newcomer, may_shake: bool) -> Option<Transmit> {
        let is_pressed = !may_shake || self.handshaking >= RETRY_FROM || !self.waiting.is_empty();
        let shaking = self.handshaking + self.waiting.len();
        if self.server.is_none() || shaking >= HANDSHAKES_MAX {
            return Some(self.inner.refuse(new.incoming, &mut self.buffer));
        }
        if is_pressed && new.incoming.may_retry() {
            return self.inner.retry(new.incoming, &mut self.buffer).ok();
        }
        if !self.shares.take(new.address()) {
            return Some(self.inner.refuse(new.incoming, &mut self.buffer));
        }
        if may_shake && self.waiting.is_empty() {
            return self.accept(now, new);
        }
        self.waiting.push_back(new);
        None
    }

    /// Begins a handshake.
    fn accept(&mut self, now: Moment, new: Newcomer) -> Option<Transmit> {
        let instant = self.instant(now);
        let address = new.address();
        self.has_shaken = true;
        match self.inner.accept(new.incoming, instant, &mut self.buffer, None) {
            Ok((ConnectionHandle(index), quic)) => {
                self.generation = self.generation.wrapping_add(1);
                let application = self.settings.application;
                let own = (quic, new.client);
                let connection = Connection::new(own, application, self.generation, now);
                if self.connections.len() <= index {
                    self.connections.resize_with(index + 1, || None);
                }
                self.connections[index] = Some(Box::new(connection));
                self.handshaking += 1;
                self.touch(index as u32);
                None
            }
            Err(error) => {
                self.failures.push(Failure::of(&error.cause));
                self.shares.give_back(address);
                error.response
            }
        }
    }

    /// Returns the number of clients that wait for the CPU time of their handshakes.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Begins the handshake of the first client that waits for it. Returns a datagram to be sent at
    /// once.
    pub(crate) fn shake(&mut self, now: Moment) -> Option<Outgoing<'_>> {
        let new = self.waiting.pop_front()?;
        self.buffer.clear();
        let transmit = self.accept(now, new)?;
        Some(self.outgoing(&transmit))
    }

    /// Handles the deadlines that have passed.
    pub(crate) fn on_time(&mut self, now: Moment) {
        let (instant, max) = (self.instant(now), self.settings.read);
        while let Some(index) = self.timers.next(now) {
            let Some(connection) = self.at(index) else { continue };
            connection.due = None;
            connection.quic.handle_timeout(instant);
            connection.end_stalled(now, max);
            self.touch(index);
        }
    }

    /// Returns the time of the next call of [`Endpoint::on_time`].
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        self.timers.first()
    }

    /// Returns the next event. `may_ask` returns true if a connection may ask more now.
    pub(crate) fn next_event(
        &mut self,
        now: Moment,
        may_ask: impl Fn(ConnectionKey) -> bool,
    ) -> Option<Event> {
        if let Some(failure) = self.failures.pop() {
            return Some(Event::Failed(failure));
        }
        let instant = self.instant(now);
        while let Some(index) = self.touched.front().copied() {
            let Self { inner, connections, settings, shares, refused, .. } = self;
            let place = connections.get_mut(index as usize).and_then(Option::as_mut);
            let Some(connection) = place else {
                self.touched.pop_front();
                continue;
            };
            let handle = ConnectionHandle(index as usize);
            while let Some(event) = connection.quic.poll_endpoint_events() {
                // Its own end is reported when it is removed.
                let event = (!event.is_drained()).then_some(event);
                if let Some(event) = event.and_then(|event| inner.handle_event(handle, event)) {
                    connection.quic.handle_event(event);
                }
            }
            let is_late = connection.phase == Phase::Handshaking
                && connection.overdue_at(settings.read).is_some_and(|until| until <= now);
            let may_ask = connection.owner.is_some_and(&may_ask);
            let step = match is_late {
                true => {
                    connection.end(instant, Reason::Done);
                    Some(Step::Failed(Failure::Unfinished))
                }
                false => connection.next(now, instant, may_ask, settings.query_len_max),
            };
            *refused += connection.take_refused();
            let Some(step) = step else {
                connection.is_touched = false;
                self.touched.pop_front();
                self.note_unsent(index);
                continue;
            };
            let event = event_of(connection, index, now, step);
            let is_shaken = matches!(event, Some(Event::Connected { .. } | Event::Failed(_)));
            if is_shaken {
                shares.give_back(connection.peer().ip());
                self.handshaking -= 1;
            }
            if event.is_some() {
                return event;
            }
        }
        None
    }

    /// Sets the key of an admitted connection.
    pub(crate) fn admit(&mut self, id: Id, key: ConnectionKey) {
        if let Some(connection) = self.get(id) {
            connection.owner = Some(key);
        }
    }

    /// Returns true if the query on a stream of the connection waits for its reply. Its client may
    /// ask more in any case.
    pub(crate) fn awaits(&mut self, id: Id, stream: u32) -> bool {
        let Some(connection) = self.get(id) else { return false };
        let awaits = connection.awaits(stream);
        if connection.has_readable() && !std::mem::replace(&mut connection.is_resumed, true) {
            self.resumed.push(id.0.index);
        }
        awaits
    }

    /// Returns true if [`Endpoint::resume`] has something to do.
    pub(crate) fn may_resume(&self) -> bool {
        !self.resumed.is_empty()
    }

    /// Lets streams be read that waited until their clients may ask more.
    pub(crate) fn resume(&mut self) {
        while let Some(index) = self.resumed.pop() {
            if let Some(connection) = self.at(index) {
                connection.is_resumed = false;
                self.touch(index);
            }
        }
    }

    /// Hands over the reply to a query. Returns true if the client has to take bytes before all is
    /// on its way.
    ///
    /// # Errors
    /// [`Full`]: the client reads too slowly.
    pub(crate) fn answer(&mut self, id: Id, stream: u32, message: &[u8]) -> Result<bool, Full> {
        let Some(connection) = self.get(id) else { return Ok(false) };
        connection.answer(stream, message)?;
        let waits = !connection.is_drained();
        self.touch(id.0.index);
        Ok(waits)
    }

    /// Hands over the response to a request, as [`Endpoint::answer`].
    ///
    /// # Errors
    /// [`Full`]: the client reads too slowly.
    pub(crate) fn respond(
        &mut self,
        id: Id,
        stream: u32,
        response: &Response<'_>,
    ) -> Result<bool, Full> {
        let Some(connection) = self.get(id) else { return Ok(false) };
        connection.respond(stream, response)?;
        let waits = !connection.is_drained();
        self.touch(id.0.index);
        Ok(waits)
    }

    /// Returns true if the client has to take bytes before all is on its way.
    pub(crate) fn is_behind(&mut self, id: Id) -> bool {
        self.get(id).is_some_and(|connection| !connection.is_drained())
    }

    /// Refuses a query.
    pub(crate) fn refuse(&mut self, id: Id, stream: u32, reason: Reason) {
        if let Some(connection) = self.get(id) {
            connection.refuse_query(stream, reason);
            self.touch(id.0.index);
        }
    }

    /// Reads no more queries on a connection, and closes it after the last reply.
    pub(crate) fn finish(&mut self, id: Id) {
        if let Some(connection) = self.get(id)
            && connection.phase == Phase::Open
        {
            connection.finish();
            self.touch(id.0.index);
        }
    }

    /// Reads no more queries, and accepts no more connections.
    pub(crate) fn finish_all(&mut self, now: Moment) {
        let instant = self.instant(now);
        self.server = None;
        for (index, connection) in self.connections.iter_mut().enumerate() {
            let Some(connection) = connection else { continue };
            match connection.phase {
                Phase::Handshaking => {
                    connection.end(instant, Reason::Done);
                    self.shares.give_back(connection.peer().ip());
                    self.handshaking -= 1;
                }
                Phase::Open => connection.finish(),
                Phase::Ending | Phase::Over => continue,
            }
            if !std::mem::replace(&mut connection.is_touched, true) {
                self.touched.push_back(index as u32);
            }
        }
        while let Some(new) = self.waiting.pop_front() {
            self.shares.give_back(new.address());
            self.inner.ignore(new.incoming);
        }
    }

    /// Closes a connection; it is over for its owner.
    pub(crate) fn close(&mut self, now: Moment, id: Id, reason: Reason) {
        let instant = self.instant(now);
        if let Some(connection) = self.get(id) {
            connection.owner = None;
            if connection.phase != Phase::Over {
                connection.end(instant, reason);
            }
            self.touch(id.0.index);
        }
    }

    /// Returns true if [`Endpoint::next_event`] or [`Endpoint::transmit`] has something to do.
    pub(crate) fn is_busy(&self) -> bool {
        !self.touched.is_empty() || !self.unsent.is_empty()
    }

    /// Writes the datagrams of all connections that may have some, and removes those that are over.
    /// `send` takes a datagram, `ended` the key of a connection that has ended by
    /// [`Endpoint::finish`].
    pub(crate) fn transmit(
        &mut self,
        now: Moment,
        mut send: impl FnMut(Outgoing<'_>),
        mut ended: impl FnMut(ConnectionKey),
    ) {
        let (instant, origin) = (self.instant(now), self.origin);
        while let Some(index) = self.unsent.pop() {
            let Self { connections, buffer, timers, settings, .. } = self;
            let place = connections.get_mut(index as usize).and_then(Option::as_mut);
            let Some(connection) = place else { continue };
            connection.is_unsent = false;
            loop {
                buffer.clear();
                while let Some(transmit) = connection.quic.poll_transmit(instant, 1, buffer) {
                    send(Outgoing {
                        peer: transmit.destination,
                        local: transmit.src_ip,
                        bytes: buffer.get(..transmit.size).unwrap_or_default(),
                    });
                    buffer.clear();
                }
                if connection.phase != Phase::Ending || !connection.is_quiet() {
                    break;
                }
                connection.end(instant, Reason::Done);
                connection.owner.take().into_iter().for_each(&mut ended);
            }
            if connection.phase == Phase::Over && connection.owner.is_none() {
                self.remove(index);
                continue;
            }
            let own = connection.quic.poll_timeout().map(|due| moment(origin, due));
            let overdue = connection.overdue_at(settings.read);
            let due = own.into_iter().chain(overdue).min();
            timers.set(index, &mut connection.due, due);
        }
    }

    /// Forgets a connection: packets that still arrive for it get a stateless reset.
    fn remove(&mut self, index: u32) {
        let place = self.connections.get_mut(index as usize).and_then(Option::take);
        let Some(mut connection) = place else { return };
        self.timers.remove(index, &mut connection.due);
        let handle = ConnectionHandle(index as usize);
        while let Some(event) = connection.quic.poll_endpoint_events() {
            if !event.is_drained() {
                self.inner.handle_event(handle, event);
            }
        }
        self.inner.handle_event(handle, EndpointEvent::drained());
    }

    /// Queues a connection whose next steps have not been taken.
    fn touch(&mut self, index: u32) {
        if let Some(connection) = self.at(index)
            && !std::mem::replace(&mut connection.is_touched, true)
        {
            self.touched.push_back(index);
        }
    }

    fn note_unsent(&mut self, index: u32) {
        if let Some(connection) = self.at(index)
            && !std::mem::replace(&mut connection.is_unsent, true)
        {
            self.unsent.push(index);
        }
    }

    fn at(&mut self, index: u32) -> Option<&mut Connection> {
        self.connections.get_mut(index as usize)?.as_deref_mut()
    }

    fn get(&mut self, id: Id) -> Option<&mut Connection> {
        self.at(id.0.index).filter(|connection| connection.generation == id.0.generation)
    }

    /// Returns the streams in all tables, and those that are alive in the library.
    #[cfg(test)]
    pub(super) fn streams(&mut self) -> (usize, usize) {
        let connections = self.connections.iter_mut().flatten();
        connections.fold((0, 0), |(table, alive), connection| {
            let own = connection.quic.streams().remote_open_streams(quinn_proto::Dir::Bi);
            (table + connection.streams(), alive + own as usize)
        })
    }

    /// Returns the numbers of connections, deadlines, and handshakes under way.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        let connections = self.connections.iter().flatten().count();
        assert_eq!(connections, self.inner.open_connections());
        assert_eq!(self.shares.total(), self.handshaking + self.waiting.len());
        (connections, self.timers.len(), self.handshaking)
    }

    fn outgoing(&self, transmit: &Transmit) -> Outgoing<'_> {
        let bytes = self.buffer.get(..transmit.size).unwrap_or_default();
        Outgoing { peer: transmit.destination, local: transmit.src_ip, bytes }
    }

    fn instant(&self, now: Moment) -> Instant {
        self.origin + Duration::from_nanos(now.as_nanos())
    }
}

/// Returns a time of the library, for tests of the room.
#[cfg(test)]
pub(super) fn some_instant() -> Instant {
    crate::clock::Clock::start().instant(Moment::ZERO).expect("it is now")
}

/// Returns the moment of the library's `instant`.
fn moment(origin: Instant, instant: Instant) -> Moment {
    Moment::ZERO.plus(instant.saturating_duration_since(origin))
}
