//! Clients over QUIC: packets between the sockets and the endpoints, queries to the engine.
//!
//! Each listener for QUIC has an [`Endpoint`], whose connections have keys in the table of all
//! client connections. Packets are received in batches with the other datagrams of a worker and
//! sent in batches of their own. Events are handled after each batch and each passed deadline;
//! replies, which come at any time, leave at the end of the turn. Handshakes take CPU time from the
//! budget of all handshakes.

mod front;

use super::QUERY_LEN_MAX;
use super::framing::Delivery;
use super::http::Doh;
use super::packets::Packets;
use super::scratch::Scratch;
use crate::clock::Clock;
use crate::config::{Protocol, QUERY_TIMEOUT};
use crate::control::Assignment;
use crate::engine::clients::{ConnectionLimits, OUTSTANDING_MAX};
use crate::engine::errors::TlsFault;
use crate::engine::key::ConnectionKey;
use crate::engine::{Client, Forwarder, Via};
use crate::moment::Moment;
use crate::quic::{Application, Endpoint, Event, Failure, Id, Packet, Reason, Settings};
use crate::sys::random;
use crate::worker::handshake_budget::HandshakeBudget;
use crate::worker::listeners::Listeners;
use front::Front;
use std::time::Instant;

/// Bit of the first byte of packets that may belong to a handshake.
const LONG_HEADER: u8 = 0x80;

/// A connection in the table of all client connections.
struct Slot {
    key: ConnectionKey,
    listener: u16,
    id: Id,
}

/// The clients over QUIC of a worker.
pub(super) struct QuicClients {
    /// QUIC by the number of its listener.
    fronts: Vec<Option<Front>>,
    /// Connections by the index of their keys.
    slots: Vec<Option<Slot>>,
    /// Connections that were evicted for others and may belong to another front.
    pub(super) evicted: Vec<ConnectionKey>,
    /// Connections with replies of this turn, and whether the client has to take some bytes first.
    written: Vec<(ConnectionKey, bool)>,
    /// Packets to send; `None`: there is no front.
    batch: Option<Packets>,
    clock: Clock,
    /// The library's time of [`Moment::ZERO`].
    origin: Option<Instant>,
}

impl QuicClients {
    /// Creates an empty set.
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            fronts: Vec::new(),
            slots: Vec::new(),
            evicted: Vec::new(),
            written: Vec::new(),
            batch: None,
            clock,
            origin: clock.instant(Moment::ZERO),
        }
    }

    /// Returns the reserved bytes.
    pub(super) fn reserved(&self) -> usize {
        self.batch.as_ref().map_or(0, Packets::reserved)
    }

    /// Returns the maximum number of bytes of a connection.
    pub(super) fn bytes_max() -> usize {
        size_of::<Option<Slot>>() + Endpoint::bytes_max(OUTSTANDING_MAX as usize)
    }

    /// Changes to the listeners, certificates and limits of `assignment`, for worker number
    /// `worker`.
    pub(super) fn adopt(&mut self, worker: usize, assignment: &Assignment, engine: &mut Forwarder) {
        let Assignment { config, listeners, tls, quic: keys, .. } = assignment;
        let limits = ConnectionLimits::of_listeners(config, listeners);
        for (number, own) in listeners.iter().enumerate() {
            let Some(own) = own.filter(|own| config.listeners[*own].protocol.is_quic()) else {
                continue;
            };
            self.batch.get_or_insert_with(Packets::new);
            let (Some(tls), Some(origin)) = (tls.server(own), self.origin) else { continue };
            let ConnectionLimits { idle, read, .. } = limits[number];
            let requests_max = config.listeners[own].http.requests_max.unwrap_or(u32::MAX);
            let is_http = config.listeners[own].protocol == Protocol::Https3;
            let doh = is_http.then(|| Doh::new(&config.listeners[own].http));
            let settings = Settings {
                application: if is_http { Application::Http3 } else { Application::Doq },
                requests_max: requests_max.min(OUTSTANDING_MAX),
                read: read.unwrap_or(idle),
                // The table of connections ends them earlier, unless a query waits.
                silence: idle.max(QUERY_TIMEOUT),
                query_len_max: QUERY_LEN_MAX,
            };
            if self.fronts.len() <= number {
                self.fronts.resize_with(number + 1, || None);
            }
            if let Some(front) = self.fronts[number].as_mut().filter(|front| !front.is_left) {
                front.endpoint.reload(keys, (tls, settings));
                front.doh = doh;
                continue;
            }
            self.forget(number, engine);
            let seed = random::seed().expect("the kernel has given randomness before");
            let endpoint = Endpoint::new(keys, worker, (tls, settings), seed, origin);
            self.fronts[number] = endpoint.map(|endpoint| Front { endpoint, doh, is_left: false });
        }
    }

    /// Removes the front of listener number `number` with all its connections.
    fn forget(&mut self, number: usize, engine: &mut Forwarder) {
        if self.fronts.get_mut(number).and_then(Option::take).is_none() {
            return;
        }
        for slot in &mut self.slots {
            if let Some(own) = slot.take_if(|own| usize::from(own.listener) == number) {
                engine.clients.close(own.key);
            }
        }
    }

    /// Handles packets that listener number `number` has received.
    pub(super) fn receive<'a>(
        &mut self,
        now: Moment,
        number: usize,
        packets: impl Iterator<Item = Packet<'a>>,
        budget: &mut HandshakeBudget,
        listeners: &Listeners,
        (engine, scratch): (&mut Forwarder, &mut Scratch),
    ) {
        let Some(Some(front)) = self.fronts.get_mut(number) else { return };
        let Some(batch) = &mut self.batch else { return };
        budget.refill(now);
        for packet in packets {
            let is_long = packet.bytes.first().is_some_and(|first| first & LONG_HEADER != 0);
            let began = is_long.then(|| self.clock.now());
            let waiting = front.endpoint.waiting();
            if let Some(outgoing) = front.endpoint.receive(now, packet, budget.is_left()) {
                batch.push(listeners, number, &outgoing);
            }
            if front.endpoint.waiting() > waiting {
                engine.stats_mut().handshakes.deferred += 1;
            }
            if let Some(began) = began.filter(|_| front.endpoint.has_shaken()) {
                budget.spend(self.clock.now().since(began));
            }
        }
        batch.flush(listeners);
        self.serve(now, number, true, engine, scratch);
    }

    /// Begins handshakes that wait for CPU time, and reads streams that waited for replies.
    pub(super) fn shake(
        &mut self,
        now: Moment,
        budget: &mut HandshakeBudget,
        listeners: &Listeners,
        (engine, scratch): (&mut Forwarder, &mut Scratch),
    ) {
        for number in 0..self.fronts.len() {
            let (Some(front), Some(batch)) = (&mut self.fronts[number], &mut self.batch) else {
                continue;
            };
            while budget.is_left() && front.endpoint.waiting() > 0 {
                let began = self.clock.now();
                if let Some(outgoing) = front.endpoint.shake(now) {
                    batch.push(listeners, number, &outgoing);
                }
                budget.spend(self.clock.now().since(began));
            }
            batch.flush(listeners);
            front.endpoint.resume();
            self.serve(now, number, true, engine, scratch);
        }
    }

    /// Returns true if there is a front.
    pub(super) fn has_fronts(&self) -> bool {
        self.batch.is_some()
    }

    /// Returns true if streams wait to be read that may be read now.
    pub(super) fn is_ready(&self) -> bool {
        self.fronts.iter().flatten().any(|front| front.endpoint.may_resume())
    }

    /// Returns the time of the next call of [`QuicClients::on_time`], and true if handshakes wait.
    pub(super) fn due(&self) -> (Option<Moment>, bool) {
        let endpoints = self.fronts.iter().flatten().map(|front| &front.endpoint);
        let due = endpoints.clone().filter_map(Endpoint::next_deadline).min();
        (due, endpoints.clone().any(|endpoint| endpoint.waiting() > 0))
    }

    /// Handles the deadlines that have passed.
    pub(super) fn on_time(&mut self, now: Moment, engine: &mut Forwarder, scratch: &mut Scratch) {
        for number in 0..self.fronts.len() {
            let Some(front) = &mut self.fronts[number] else { continue };
            if front.endpoint.next_deadline().is_some_and(|due| due <= now) {
                front.endpoint.on_time(now);
                self.serve(now, number, true, engine, scratch);
            }
        }
    }

    /// Handles the events of a front. `reads`: its queries are passed to the engine, as far as
    /// their clients may ask.
    fn serve(
        &mut self,
        now: Moment,
        number: usize,
        reads: bool,
        engine: &mut Forwarder,
        scratch: &mut Scratch,
    ) {
        let Some(Some(front)) = self.fronts.get_mut(number) else { return };
        let listener = number as u16;
        let mut replaced = Vec::new();
        loop {
            let may_ask = |key| reads && engine.clients.may_ask(key);
            let Some(event) = front.endpoint.next_event(now, may_ask) else { break };
            match event {
                Event::Connected { id, peer, took } => {
                    engine.stats_mut().handshakes.count(false, took);
                    let Some((key, evicted)) = front.admit(now, (listener, id, peer), engine)
                    else {
                        continue;
                    };
                    self.evicted.extend(evicted);
                    let (index, slot) = (key.index(), Slot { key, listener, id });
                    if self.slots.len() <= index {
                        self.slots.resize_with(index + 1, || None);
                    }
                    // The key of a connection that was evicted just now may have had the index.
                    replaced.extend(self.slots[index].replace(slot));
                }
                Event::Failed(failure) => engine.stats_mut().handshakes.fail(fault_of(failure)),
                Event::Query { key, stream, peer, local, query } => {
                    let Some(id) = slot(&self.slots, key).map(|slot| slot.id) else { continue };
                    let via = Via::Request(key, stream);
                    let client = Client { listener, peer, local: local.map(|ip| (ip, 0)), via };
                    match front.ask(now, (id, stream), client, &query, (engine, scratch)) {
                        Ok(waits) => self.written.push((key, waits)),
                        Err(reason) => {
                            engine.clients.close(key);
                            self.slots[key.index()] = None;
                            engine.stats_mut().connections_aborted += 1;
                            front.count(listener, reason, engine);
                            front.endpoint.close(now, id, reason);
                            continue;
                        }
                    }
                    if engine.clients.is_spent(key) {
                        front.endpoint.finish(id);
                    }
                }
                Event::Taken { key, is_drained } => self.written.push((key, !is_drained)),
                Event::Closed { key, code } => {
                    let done = front.application().code(Reason::Done);
                    if let Some(code) = code.filter(|code| *code != done) {
                        engine.stats_mut().connections_aborted += 1;
                        if front.doh.is_none() {
                            engine.count_response(listener, code as u16);
                        }
                    }
                    engine.clients.close(key);
                    if slot(&self.slots, key).is_some() {
                        self.slots[key.index()] = None;
                    }
                }
            }
        }
        engine.stats_mut().streams_refused += front.endpoint.take_refused();
        for Slot { listener, id, .. } in replaced {
            if let Some(Some(front)) = self.fronts.get_mut(usize::from(listener)) {
                front.endpoint.close(now, id, Reason::Done);
            }
        }
    }

    /// Writes the reply to the query of `via`, of at most `len_max` bytes.
    pub(super) fn answer(
        &mut self,
        via: Via,
        (engine, scratch): (&mut Forwarder, &mut Scratch),
        len_max: usize,
        write: impl FnOnce(&mut Forwarder, &mut [u8]) -> usize,
    ) -> Delivery {
        let Via::Request(key, stream) = via else { return Delivery::Unwritten };
        let Some(Slot { listener, id, .. }) = slot(&self.slots, key) else {
            return Delivery::Unwritten;
        };
        let (listener, id) = (*listener, *id);
        let Some(Some(front)) = self.fronts.get_mut(usize::from(listener)) else {
            return Delivery::Unwritten;
        };
        if !front.endpoint.awaits(id, stream) {
            return Delivery::Unwritten;
        }
        let len_max = len_max.min(scratch.reply.len());
        let len = write(engine, &mut scratch.reply[..len_max]);
        match front.reply((listener, id, stream), &scratch.reply[..len], engine) {
            Ok(waits) => {
                self.written.push((key, waits));
                Delivery::Queued
            }
            Err(reason) => {
                engine.stats_mut().connections_aborted += 1;
                front.count(listener, reason, engine);
                self.close(key, reason);
                engine.clients.close(key);
                Delivery::Lost
            }
        }
    }

    /// Sends all packets of this turn.
    pub(super) fn flush(
        &mut self,
        now: Moment,
        listeners: &Listeners,
        engine: &mut Forwarder,
        scratch: &mut Scratch,
    ) {
        for (key, waits) in self.written.drain(..) {
            engine.clients.active(now, key);
            match waits {
                true => engine.clients.begins_answer(now, key),
                false => engine.clients.is_read(now, key),
            }
        }
        for number in 0..self.fronts.len() {
            if !self.fronts[number].as_ref().is_some_and(|front| front.endpoint.is_busy()) {
                continue;
            }
            if listeners.packets(number).is_none() {
                // The time for the last replies of a removed listener is over.
                self.forget(number, engine);
                continue;
            }
            self.serve(now, number, false, engine, scratch);
            let (Some(front), Some(batch)) = (&mut self.fronts[number], &mut self.batch) else {
                continue;
            };
            let slots = &mut self.slots;
            front.endpoint.transmit(
                now,
                |outgoing| batch.push(listeners, number, &outgoing),
                |key| {
                    engine.clients.close(key);
                    if slot(slots, key).is_some() {
                        slots[key.index()] = None;
                    }
                },
            );
            batch.flush(listeners);
        }
    }

    /// Reads no more queries on listener number `number`; its connections close after their last
    /// replies.
    pub(super) fn leave(&mut self, now: Moment, number: usize) {
        if let Some(Some(front)) = self.fronts.get_mut(number) {
            front.is_left = true;
            front.endpoint.finish_all(now);
        }
    }

    /// Reads no more queries; all connections close after their last replies.
    pub(super) fn begin_drain(&mut self) {
        let now = self.clock.now();
        for front in self.fronts.iter_mut().flatten() {
            front.endpoint.finish_all(now);
        }
    }

    /// Closes a connection that is not in the engine's table any more, without error.
    pub(super) fn end(&mut self, key: ConnectionKey) {
        self.close(key, Reason::Done);
    }

    fn close(&mut self, key: ConnectionKey, reason: Reason) {
        let Some(Slot { listener, id, .. }) = slot(&self.slots, key) else { return };
        let (number, id, now) = (usize::from(*listener), *id, self.clock.now());
        self.slots[key.index()] = None;
        if let Some(Some(front)) = self.fronts.get_mut(number) {
            front.endpoint.close(now, id, reason);
        }
    }
}

fn slot(slots: &[Option<Slot>], key: ConnectionKey) -> Option<&Slot> {
    slots.get(key.index())?.as_ref().filter(|slot| slot.key == key)
}

/// Returns the fault of a handshake for metrics.
fn fault_of(failure: Failure) -> TlsFault {
    match failure {
        Failure::Refused => TlsFault::Refused,
        Failure::Incompatible => TlsFault::Incompatible,
        Failure::Broken => TlsFault::Broken,
        Failure::Unfinished => TlsFault::Unfinished,
    }
}
