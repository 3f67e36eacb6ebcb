//! The sockets of the engine's client connections.
//!
//! Accepts connections, reads queries and writes answers, one batch of each per connection and
//! turn. The engine decides about admission, idle time-outs and the number of outstanding queries
//! ([`crate::engine::clients`]). A connection at its limit of outstanding queries is not read, so
//! that TCP flow control slows the client down; a connection whose client does not read its answers
//! is closed when they exceed their bound. TLS handshakes are limited to a share of the CPU time
//! ([`HandshakeBudget`]): connections beyond it wait in a queue of their own and are not read.

mod endpoints;
mod framing;
mod http;
mod opening;
mod packets;
mod quic;
mod scratch;

use super::handshake_budget::HandshakeBudget;
use super::listeners::Listeners;
use super::proxy_alarm::ProxyAlarm;
use super::tcp::{Progress, TcpConnection};
use super::token::Token;
use crate::clock::Clock;
use crate::config::{Listener, ProxyPolicy};
use crate::control::{Assignment, PartEnd, TransferPart};
use crate::engine::errors::{Fault, TlsFault};
use crate::engine::key::ConnectionKey;
use crate::engine::proxy::Outcome;
use crate::engine::{Forwarder, Via};
use crate::moment::Moment;
use crate::tls::Session;
use crossbeam_channel::Sender;
pub(super) use framing::Delivery;
use framing::Framing;
use mio::net::TcpListener;
use mio::{Interest, Registry};
use opening::{HeaderTaken, Opening, take_header};
use quic::QuicClients;
use scratch::Scratch;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Maximum number of connections accepted from a listener in a turn.
const ACCEPT_MAX: usize = 64;
/// Maximum length of a query; a valid one is much shorter. The beginning of a longer one is
/// answered with FORMERR, and the rest is skipped.
const QUERY_LEN_MAX: usize = 4096;

struct Slot {
    /// Framing of the messages.
    framing: Framing,
    key: ConnectionKey,
    listener: u16,
    peer: SocketAddr,
    /// Local address of the connection.
    local: Option<IpAddr>,
    connection: TcpConnection,
    /// The connection is in the queue of those to be read.
    queued: bool,
    /// The client has reached its limit of outstanding queries; reading continues after an answer.
    paused: bool,
    /// The sending side has ended; what the client still sends is read and discarded.
    finished: bool,
    /// The zone transfer for the client.
    transfer: Option<TransferState>,
    /// Set until its header of the PROXY protocol and its TLS handshake are complete.
    opening: Option<Opening>,
}

/// A zone transfer that the client has not read to the end.
struct TransferState {
    number: u64,
    /// Notifies the thread that writes it: there is room for more. `None`: all is written.
    more: Option<Sender<()>>,
}

/// The client connections of a worker.
pub(super) struct ClientConnections {
    slots: Vec<Option<Slot>>,
    ready: VecDeque<ConnectionKey>,
    /// Connections whose handshakes wait for the budget.
    deferred: VecDeque<ConnectionKey>,
    handshake_budget: HandshakeBudget,
    clock: Clock,
    /// Reports of invalid headers of the PROXY protocol.
    pub(super) alarm: ProxyAlarm,
    /// Connections with answers to be written at the end of the turn.
    written: Vec<ConnectionKey>,
    /// Buffers for a message.
    scratch: Scratch,
    /// Connections that are no sockets of their own.
    quic: QuicClients,
}

impl ClientConnections {
    /// Creates an empty set.
    pub(super) fn new(clock: Clock, alarm: ProxyAlarm) -> Self {
        Self {
            slots: Vec::new(),
            ready: VecDeque::new(),
            deferred: VecDeque::new(),
            handshake_budget: HandshakeBudget::new(),
            clock,
            alarm,
            written: Vec::new(),
            scratch: Scratch::new(),
            quic: QuicClients::new(clock),
        }
    }

    /// Returns the bytes that are reserved without any connection.
    pub(super) fn reserved(&self) -> usize {
        self.scratch.reserved() + self.quic.reserved()
    }

    /// Returns the number of connections in the queue.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Accepts connections from listener number `number` with these `settings`. Returns true if
    /// there may be more. `session` makes the TLS session of a connection, if it is encrypted.
    pub(super) fn accept(
        &mut self,
        now: Moment,
        (number, settings): (usize, &Listener),
        listener: &TcpListener,
        engine: &mut Forwarder,
        registry: &Registry,
        session: impl Fn() -> Option<Result<Session, TlsFault>>,
    ) -> bool {
        for _ in 0..ACCEPT_MAX {
            let (mut socket, peer) = match listener.accept() {
                Ok(accepted) => accepted,
                // This client has closed; others may wait behind it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                // No client waits; or no descriptor is left, and waiting clients are accepted with
                // the next new connection after another has closed.
                Err(_) => return false,
            };
            let policy = settings.proxies.as_ref().map(|proxies| proxies.policy(peer.ip()));
            // A proxy's connection counts for the client that its header names.
            let address = (policy != Some(ProxyPolicy::Use)).then_some(peer.ip());
            // Dropping the socket closes a connection that is not admitted.
            let Ok((key, evicted)) = engine.admit(now, number as u16, address) else {
                engine.stats_mut().connections_refused += 1;
                continue;
            };
            if let Some(evicted) = evicted {
                self.remove(evicted, engine);
            }
            let session = match session().transpose() {
                Ok(session) => session,
                Err(fault) => {
                    engine.stats_mut().handshakes.fail(fault);
                    engine.clients.close(key);
                    continue;
                }
            };
            let both = Interest::READABLE | Interest::WRITABLE;
            let token = Token::Client(key).pack();
            let _ = socket.set_nodelay(true);
            if registry.register(&mut socket, token, both).is_err() {
                engine.clients.close(key);
                continue;
            }
            engine.stats_mut().connections += 1;
            let local = socket.local_addr().ok().map(|address| address.ip());
            let opening = Opening::of(now, policy, session.is_some());
            let connection = TcpConnection::new(socket, false, session);
            let (listener, queued, paused) = (number as u16, false, false);
            if self.slots.len() <= key.index() {
                self.slots.resize_with(key.index() + 1, || None);
            }
            let framing = Framing::of(settings);
            self.slots[key.index()] = Some(Slot {
                framing,
                transfer: None,
                finished: false,
                key,
                listener,
                peer,
                local,
                connection,
                queued,
                paused,
                opening,
            });
        }
        true
    }

    /// Ends the connections of a removed listener: queries received by now are read, and each
    /// connection closes after its last answer. They cannot stay, because the number of their
    /// listener will be reused.
    pub(super) fn leave(&mut self, now: Moment, number: usize, engine: &mut Forwarder) {
        let connections = self.slots.iter().flatten();
        let own = connections.filter(|slot| usize::from(slot.listener) == number);
        for key in own.map(|slot| slot.key).collect::<Vec<_>>() {
            let is_headed = |slots: &mut _| {
                let opening = slot(slots, key).and_then(|slot| slot.opening);
                opening.is_some_and(|opening| opening.header.is_some())
            };
            // A header of the PROXY protocol is read alone, and the query behind it next.
            let reads = 1 + usize::from(is_headed(&mut self.slots));
            for _ in 0..reads {
                self.ready.retain(|other| *other != key);
                self.ready.push_front(key);
                self.read(now, engine);
            }
            if let Some(slot) = slot(&mut self.slots, key) {
                slot.framing.stop();
                slot.connection.half_closed = true;
                self.written.push(key);
            }
        }
        self.quic.leave(now, number);
    }

    /// Gives the connections the settings of their listeners in a new configuration: a proxy that
    /// was trusted before the reload may not be any more.
    pub(super) fn reload(&mut self, assignment: &Assignment) {
        for slot in self.slots.iter_mut().flatten() {
            if let Some(Some(number)) = assignment.listeners.get(usize::from(slot.listener)) {
                slot.framing.reload(&assignment.config.listeners[*number]);
            }
        }
    }

    /// Tells the clients that nothing more is read from them, as far as their protocol has words
    /// for it.
    pub(super) fn begin_drain(&mut self) {
        for slot in self.slots.iter_mut().flatten() {
            slot.framing.stop();
            self.written.push(slot.key);
        }
        self.quic.begin_drain();
    }

    /// Handles an event of a connection.
    pub(super) fn note(
        &mut self,
        key: ConnectionKey,
        readable: bool,
        writable: bool,
        closed: bool,
    ) {
        let Some(slot) = slot(&mut self.slots, key) else { return };
        slot.connection.read_closed |= closed;
        if writable {
            slot.connection.unblock();
            self.written.push(key);
        }
        if readable && !slot.paused && !std::mem::replace(&mut slot.queued, true) {
            self.ready.push_back(key);
        }
    }

    /// Continues waiting handshakes until the budget is spent.
    pub(super) fn shake(&mut self, now: Moment, listeners: &Listeners, engine: &mut Forwarder) {
        self.handshake_budget.refill(now);
        while self.handshake_budget.is_left()
            && let Some(key) = self.deferred.pop_front()
        {
            self.read_from(now, key, engine);
        }
        self.serve_packets(now, listeners, engine);
    }

    /// Reads once from the connection at the head of the queue, and passes its queries to the
    /// engine. A handshake may have to wait for the budget.
    pub(super) fn read(&mut self, now: Moment, engine: &mut Forwarder) {
        let Some(key) = self.ready.pop_front() else { return };
        let opening = slot(&mut self.slots, key).and_then(|slot| slot.opening.as_ref());
        let shaking = opening.is_some_and(Opening::is_shaking);
        if shaking && (!self.handshake_budget.is_left() || !self.deferred.is_empty()) {
            engine.stats_mut().handshakes.deferred += 1;
            self.deferred.push_back(key);
        } else {
            self.read_from(now, key, engine);
        }
    }

    fn read_from(&mut self, now: Moment, key: ConnectionKey, engine: &mut Forwarder) {
        let Some(slot) = slot(&mut self.slots, key) else { return };
        slot.queued = false;
        let progress = match slot.opening {
            Some(Opening { header: Some(_), .. }) => return self.read_header(now, key, engine),
            Some(Opening { since, .. }) => {
                let began = self.clock.now();
                let progress = slot.connection.read();
                let done = self.clock.now();
                self.handshake_budget.spend(done.since(began));
                if slot.connection.is_open() {
                    slot.opening = None;
                    let (resumed, took) = (slot.connection.is_resumed(), done.since(since));
                    engine.stats_mut().handshakes.count(resumed, took);
                }
                progress
            }
            None if slot.paused => Progress::More,
            None => slot.connection.read(),
        };
        slot.paused = false;
        let served = framing::serve(now, slot, &mut self.scratch, engine);
        if !slot.framing.is_drained(&slot.connection) || slot.framing.is_over() {
            self.written.push(key);
        }
        match progress {
            Progress::More if !slot.paused => {
                slot.queued = true;
                self.ready.push_back(key);
            }
            Progress::Over => slot.connection.half_closed = true,
            _ => {}
        }
        if served.is_err() {
            return self.close(key, engine);
        }
        if slot.framing.is_within_query(&slot.connection) && !slot.paused {
            engine.clients.begins_query(now, key);
        }
        if slot.connection.half_closed {
            self.written.push(key);
        }
    }

    /// Reads the header of the PROXY protocol of a connection. Once it is complete, the connection
    /// is queued again, because the bytes behind it are announced by no further event.
    fn read_header(&mut self, now: Moment, key: ConnectionKey, engine: &mut Forwarder) {
        let Some(slot) = slot(&mut self.slots, key) else { return };
        let Some(opening) = slot.opening else { return };
        let Some(policy) = opening.header else { return };
        let taken = take_header(&mut slot.connection, policy);
        let headers = &mut engine.stats_mut().proxy_headers;
        match taken {
            HeaderTaken::Not => return,
            HeaderTaken::Absent => {}
            HeaderTaken::Taken(None) => headers.count(Outcome::Ignored),
            HeaderTaken::Taken(Some(source)) => {
                headers.count(Outcome::Used);
                slot.peer = source;
            }
            HeaderTaken::Refused(flaw) => {
                headers.count(flaw.outcome());
                self.alarm.report(now, slot.peer, flaw, false);
                return self.close(key, engine);
            }
            HeaderTaken::Over => return self.close(key, engine),
        }
        if engine.clients.name(key, slot.peer.ip()).is_err() {
            engine.stats_mut().connections_refused += 1;
            return self.close(key, engine);
        }
        slot.opening = Opening::of(now, None, opening.is_secure);
        slot.queued = true;
        self.ready.push_back(key);
    }

    /// Queues an answer of at most `len_max` bytes, written by `write`, on the connection of `via`,
    /// which is closed now if the client reads too slowly.
    pub(super) fn answer(
        &mut self,
        via: Via,
        engine: &mut Forwarder,
        len_max: usize,
        write: impl FnOnce(&mut Forwarder, &mut [u8]) -> usize,
    ) -> Delivery {
        let Some(key) = via.connection() else { return Delivery::Unwritten };
        let Some(slot) = slot(&mut self.slots, key) else {
            return self.quic.answer(via, (engine, &mut self.scratch), len_max, write);
        };
        let Slot { framing, connection, listener, .. } = slot;
        let client = (*listener, via);
        let scratch = &mut self.scratch;
        let delivery = framing.reply(connection, client, scratch, engine, len_max, write);
        if delivery != Delivery::Queued {
            self.close(key, engine);
            return delivery;
        }
        if slot.paused && !std::mem::replace(&mut slot.queued, true) {
            self.ready.push_back(key);
        }
        self.written.push(key);
        Delivery::Queued
    }

    /// Begins a zone transfer on the connection. `more` receives a message each time when the
    /// client has read the messages sent. Returns false if the connection is closed.
    pub(super) fn begin_transfer(
        &mut self,
        key: ConnectionKey,
        number: u64,
        more: Sender<()>,
    ) -> bool {
        let Some(slot) = slot(&mut self.slots, key) else { return false };
        slot.transfer = Some(TransferState { number, more: Some(more) });
        true
    }

    /// Takes messages of a zone transfer. Those of another transfer than the connection's, and what
    /// follows the last part, are discarded.
    pub(super) fn take_part(&mut self, part: TransferPart, engine: &mut Forwarder) {
        let TransferPart { connection: key, number, messages, end } = part;
        let awaits = |slot: &mut Slot| {
            let own = slot.transfer.as_ref();
            own.is_some_and(|own| own.number == number && own.more.is_some())
        };
        if !slot(&mut self.slots, key).is_some_and(awaits) {
            return;
        }
        for message in messages {
            let len = message.len();
            let write = |_: &mut Forwarder, room: &mut [u8]| {
                room[..len].copy_from_slice(&message);
                len
            };
            if self.answer(Via::Connection(key), engine, len, write) != Delivery::Queued {
                return;
            }
        }
        match end {
            PartEnd::Open => {}
            PartEnd::Last => {
                if let Some(transfer) =
                    slot(&mut self.slots, key).and_then(|slot| slot.transfer.as_mut())
                {
                    transfer.more = None;
                    engine.complete_transfer(key);
                    self.written.push(key);
                }
            }
            PartEnd::Cut => self.close(key, engine),
        }
    }

    /// Writes the queued answers of connections that changed in this turn, and closes connections
    /// that are done.
    pub(super) fn flush(&mut self, now: Moment, engine: &mut Forwarder) {
        while let Some(key) = self.written.pop() {
            let Some(slot) = slot(&mut self.slots, key) else { continue };
            let outcome = slot.framing.flush(&mut slot.connection);
            if outcome.as_ref().is_ok_and(|count| *count > 0) {
                engine.clients.active(now, key);
            }
            if slot.framing.may_go_on() && !std::mem::replace(&mut slot.queued, true) {
                self.ready.push_back(key);
            }
            let drained = slot.framing.is_drained(&slot.connection);
            if drained {
                match &slot.transfer {
                    // One that was told before has not looked yet.
                    Some(TransferState { more: Some(more), .. }) => drop(more.try_send(())),
                    Some(TransferState { more: None, .. }) => {
                        slot.transfer = None;
                        engine.end_transfer(key);
                    }
                    None => {}
                }
                engine.clients.is_read(now, key);
            } else {
                engine.clients.begins_answer(now, key);
            }
            if drained && slot.framing.is_over() && !slot.finished {
                slot.finished = true;
                slot.connection.finish();
            }
            let done = slot.connection.half_closed
                && drained
                && !slot.paused
                && !slot.queued
                && engine.clients.is_quiet(key);
            if outcome.is_err() || done {
                self.close(key, engine);
            }
        }
    }

    /// Closes the connections whose time-out is over.
    pub(super) fn expire(&mut self, now: Moment, engine: &mut Forwarder) {
        self.expire_packets(now, engine);
        while let Some(key) = engine.clients.overdue(now) {
            if let Some(slot) = slot(&mut self.slots, key) {
                slot.framing.stop();
                // It is closed whether the client learns why or not.
                let _ = slot.framing.flush(&mut slot.connection);
            }
            self.close(key, engine);
        }
    }

    /// Closes the connection; later answers for it are dropped.
    fn close(&mut self, key: ConnectionKey, engine: &mut Forwarder) {
        engine.clients.close(key);
        self.remove(key, engine);
    }

    /// Closes the socket, and counts an unfinished handshake.
    fn remove(&mut self, key: ConnectionKey, engine: &mut Forwarder) {
        let Some(slot) = slot(&mut self.slots, key) else { return self.quic.end(key) };
        match slot.opening {
            Some(Opening { is_secure: true, header: None, .. }) => {
                engine.stats_mut().handshakes.fail(match slot.connection.fault() {
                    Fault::Tls(fault) => fault,
                    _ => TlsFault::Unfinished,
                });
            }
            Some(_) => {}
            None => slot.connection.end(),
        }
        self.slots[key.index()] = None;
    }
}

fn slot(slots: &mut [Option<Slot>], key: ConnectionKey) -> Option<&mut Slot> {
    let slot = slots.get_mut(key.index()).and_then(Option::as_mut);
    slot.filter(|slot| slot.key == key)
}

#[cfg(test)]
mod tests {
    use super::{ClientConnections, ProxyAlarm};
    use crate::clock::Clock;
    use crate::config::{Config, Host};
    use crate::control::{KeeperMailbox, PartEnd, TransferPart};
    use crate::engine::Forwarder;
    use crate::engine::health::HealthStates;
    use crate::moment::Moment;
    use std::io::Read;
    use std::net::TcpStream;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn parts_of_another_transfer_than_the_connections_own_are_discarded() {
        let text = b".:5300 {\n bind 127.0.0.1\n}\n";
        let (config, _) = Config::load(text, "Corefile", &Host::plain()).unwrap();
        let config = Arc::new(config);
        let states = Arc::new(HealthStates::new(&config));
        let mut engine = Forwarder::with_listeners(&config, &[Some(0)], [7; 32], states);
        let settings = (0, &config.listeners[0]);
        let poll = mio::Poll::new().unwrap();
        let acceptor = mio::net::TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut client = TcpStream::connect(acceptor.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        let alarm = ProxyAlarm::new(KeeperMailbox::new(1, waker).0);
        let mut connections = ClientConnections::new(Clock::start(), alarm);
        let registry = poll.registry();
        connections.accept(Moment::ZERO, settings, &acceptor, &mut engine, registry, || None);
        let key = connections.slots[0].as_ref().unwrap().key;
        let part = |number: u64, text: &[u8], end: PartEnd| {
            let messages = vec![text.to_vec()];
            TransferPart { connection: key, number, messages, end }
        };
        connections.take_part(part(1, b"none", PartEnd::Open), &mut engine);
        let (more, _reading) = crossbeam_channel::bounded(1);
        assert!(connections.begin_transfer(key, 2, more));
        engine.clients.waits(key);
        connections.take_part(part(1, b"stale", PartEnd::Cut), &mut engine);
        connections.take_part(part(2, b"own", PartEnd::Last), &mut engine);
        connections.take_part(part(2, b"more", PartEnd::Cut), &mut engine);
        connections.flush(Moment::ZERO, &mut engine);
        connections.take_part(part(2, b"late", PartEnd::Last), &mut engine);
        connections.flush(Moment::ZERO, &mut engine);
        connections.close(key, &mut engine);
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"\0\x03own");
    }
}
