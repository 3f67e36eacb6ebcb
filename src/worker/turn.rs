//! The event loop of a worker, which receives, handles and sends packets in batches.
//!
//! A turn polls once, reads one batch from each ready socket, passes each packet to the engine, and
//! sends the resulting packets with one call per socket. Events are edge-triggered, so the event
//! loop tracks readiness itself: a socket stays in the queue until a batch is short, and the poll
//! does not wait while a socket is queued. A busy socket therefore cannot starve another. Nothing
//! here formats or logs, and every loop is bounded by a batch or by the attempts that the engine
//! allows a query.

mod memory;

pub use memory::{Memory, measure};

use super::WorkerSlot;
use super::fault_of;
use super::replies::Replies;
use super::tcp::{Progress, TcpConnection, receive_messages};
use super::token::Token;
use super::upstream::{Socket, Sockets, receive_datagrams};
use crate::control::{Assignment, ToWorker};
use crate::engine::errors::{Fault, Operation};
use crate::engine::forwarder::{AHEAD_MAX, Arrivals};
use crate::engine::shell::{Buffers, DATAGRAM_LEN_MAX, NOTICE_RETRY, send_queries};
use crate::engine::stats::{CacheStats, Stats};
use crate::engine::tally::Tallies;
use crate::engine::{Client, ConnectionId, Forwarder, Reply, Sweep};
use crate::moment::Moment;
use crate::sys::mmsg::{Datagram, QueryBatch, RecvBatch};
use mio::Events;
use mio::event::Event;
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// Datagrams read from a socket before the next socket is read: enough to amortise the call, few
/// enough for the second-level cache.
const BATCH_MAX: usize = 64;
/// Events taken from the kernel with one poll; the others follow with the next.
const EVENTS_MAX: usize = 256;
/// Maximum time for which a draining worker waits for outstanding queries.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Maximum number of wake-ups requested from the keeper in one turn; the others follow in the next
/// turns.
pub(super) const WAKES_MAX: usize = 256;

/// The event loop of a worker.
pub(super) struct EventLoop<'a> {
    pub(super) slot: &'a mut WorkerSlot,
    pub(super) engine: Forwarder,
    pub(super) sockets: Sockets,
    queries: RecvBatch,
    responses: RecvBatch,
    pub(super) replies: Replies,
    pub(super) outgoing: QueryBatch,
    pub(super) buffers: Buffers,
    events: Events,
    /// Listeners that may have datagrams to read.
    pub(super) ready_listeners: VecDeque<usize>,
    pub(super) queued_listeners: Vec<bool>,
    /// Listeners that may have connections to accept.
    pub(super) ready_acceptors: Vec<bool>,
    /// Upstream sockets that may have something to read.
    pub(super) ready_connections: VecDeque<ConnectionId>,
    /// True if a notice could not be delivered yet.
    pub(super) notices_left: bool,
    /// Number of wake-ups that may still be requested in this turn.
    pub(super) wakes_left: usize,
    /// End of the busy-poll: until then the poll does not wait.
    busy_until: Moment,
    /// Start of the current turn's work.
    woken: Option<Moment>,
    /// True if the number of lost records could not be sent to the writer yet.
    pub(super) writer_busy: bool,
    /// Number of lost records reported to the writer.
    pub(super) errors_told: u64,
    /// Number of retired connections of each pool reported to the keeper.
    pub(super) retired_told: Vec<u64>,
    /// Time of the next attempt to send the journal's page, if the last one failed.
    pub(super) page_retry: Option<Moment>,
    pub(super) drain_until: Option<Moment>,
    /// Time at which the sockets of removed listeners are closed.
    pub(super) gone_until: Option<Moment>,
}

impl<'a> EventLoop<'a> {
    /// Creates the event loop of `slot`.
    pub(super) fn new(slot: &'a mut WorkerSlot, engine: Forwarder) -> Self {
        let capacity = engine.connections_max();
        let listeners = slot.listeners.len();
        let drain_until = slot.draining.then(|| slot.clock.now().plus(DRAIN_MAX));
        Self {
            engine,
            sockets: Sockets::new(capacity, slot.io_options.gso, &slot.assignment.tls),
            queries: RecvBatch::new(BATCH_MAX, DATAGRAM_LEN_MAX, true),
            responses: RecvBatch::new(BATCH_MAX, DATAGRAM_LEN_MAX, false),
            replies: Replies::new(BATCH_MAX, DATAGRAM_LEN_MAX, slot.io_options.gso, slot.clock),
            outgoing: QueryBatch::new(BATCH_MAX),
            buffers: Buffers::new(),
            events: Events::with_capacity(EVENTS_MAX),
            // All are queued, because an earlier event loop of this slot may have consumed their
            // events.
            ready_listeners: (0..listeners).collect(),
            queued_listeners: vec![true; listeners],
            ready_acceptors: vec![true; listeners],
            ready_connections: VecDeque::with_capacity(capacity),
            notices_left: false,
            wakes_left: WAKES_MAX,
            busy_until: Moment::ZERO,
            woken: None,
            writer_busy: false,
            errors_told: 0,
            page_retry: None,
            retired_told: Vec::new(),
            drain_until,
            gone_until: None,
            slot,
        }
    }

    /// Runs turns until the drain is complete.
    pub(super) fn run(&mut self) {
        while !self.turn() {}
        self.engine.stop();
        let now = self.slot.clock.now();
        self.settle(now);
        self.end_page();
    }

    /// Returns the state that the slot keeps: the counters, and true if a drain has begun.
    pub(super) fn leave(self) -> (Stats, Tallies, bool) {
        let mut past = self.counters();
        past.caches.iter_mut().for_each(CacheStats::empty);
        (past, self.tallies(), self.drain_until.is_some())
    }

    /// Runs one turn. Returns true if the drain is complete.
    fn turn(&mut self) -> bool {
        let now = self.slot.clock.now();
        if let Some(woken) = self.woken.take() {
            self.slot.loops.turns += 1;
            self.slot.loops.busy += now.since(woken);
        }
        let timeout = self.timeout(now);
        match self.slot.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return false,
            Err(error) => panic!("polling failed: {error}"),
        }
        let now = self.slot.clock.now();
        if !self.events.is_empty() {
            self.busy_until = now.plus(self.slot.io_options.busy_poll);
        }
        // Turns of the busy-poll without events do not count as work.
        let idle = self.events.is_empty() && now < self.busy_until;
        self.woken = Some(now).filter(|_| !idle);
        self.engine.on_calendar(self.slot.clock.unix());
        self.note_events(now);
        for _ in 0..self.ready_connections.len() {
            self.receive_responses(now);
        }
        if self.drain_until.is_none() {
            for _ in 0..self.ready_listeners.len() {
                self.receive_queries(now);
            }
            self.receive_from_clients(now);
        }
        self.engine.on_time(now);
        self.replies.connections.expire(now, &mut self.engine);
        self.settle(now);
        self.close_gone(now);
        self.drain_until.is_some_and(|until| until <= now || self.engine.outstanding() == 0)
    }

    /// Returns the time-out of the poll; `None`: wait without limit.
    fn timeout(&self, now: Moment) -> Option<Duration> {
        let asking = !self.ready_listeners.is_empty()
            || self.replies.connections.ready() > 0
            || self.ready_acceptors.contains(&true);
        let asking = asking && self.drain_until.is_none();
        if asking || !self.ready_connections.is_empty() || now < self.busy_until {
            return Some(Duration::ZERO);
        }
        let mail = (self.notices_left || self.writer_busy).then(|| now.plus(NOTICE_RETRY));
        let idle = self.engine.clients.next_deadline();
        let page = self.page_retry.or_else(|| self.engine.page_due());
        let handshakes = self.replies.connections.handshakes_due();
        let handshakes = handshakes.filter(|_| self.drain_until.is_none());
        let own = [idle, mail, page, handshakes, self.drain_until, self.gone_until];
        let deadlines = [self.engine.next_deadline()].into_iter().chain(own);
        deadlines.flatten().min().map(|deadline| deadline.since(now))
    }

    /// Queues sockets that became readable, continues writing to those that became writable, and
    /// reads the mailbox.
    fn note_events(&mut self, now: Moment) {
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            match Token::unpack(event.token()) {
                Token::Mailbox => self.read_mail(now),
                Token::Datagrams(listener) => {
                    if !std::mem::replace(&mut self.queued_listeners[listener], true) {
                        self.ready_listeners.push_back(listener);
                    }
                }
                Token::Acceptor(listener) => self.ready_acceptors[listener] = true,
                Token::Connection(id) => self.note_connection(now, id, event),
                Token::Client(key) => {
                    let closed = event.is_read_closed() || event.is_error();
                    let readable = event.is_readable() || closed;
                    self.replies.connections.note(key, readable, event.is_writable(), closed);
                }
            }
        }
        self.events = events;
    }

    fn note_connection(&mut self, now: Moment, id: ConnectionId, event: &Event) {
        if let Some(Socket::Tcp(connection)) = self.sockets.get(id) {
            connection.read_closed |= event.is_read_closed();
            if event.is_error() {
                let error = connection.socket.take_error().ok().flatten();
                connection.break_down(error.as_ref().map_or(Fault::Unknown, fault_of));
                return self.queue_connection(id);
            }
            if event.is_writable() && connection.unblock() {
                if let Err(error) = connection.flush() {
                    connection.break_down(fault_of(&error));
                    return self.queue_connection(id);
                }
                if connection.is_open() {
                    self.engine.on_connected(now, id);
                }
            }
            if !event.is_readable() && !event.is_read_closed() {
                return;
            }
        }
        self.queue_connection(id);
    }

    /// Queues a connection for reading.
    pub(super) fn queue_connection(&mut self, id: ConnectionId) {
        if self.sockets.set_queued(id, true) {
            self.ready_connections.push_back(id);
        }
    }

    fn read_mail(&mut self, now: Moment) {
        for _ in 0..self.slot.mail.len() {
            let Ok(message) = self.slot.mail.try_recv() else { break };
            match message {
                ToWorker::Sweep(sweep) => {
                    self.slot.loops.sweeps += 1;
                    self.engine.on_sweep(now, sweep);
                    if let Sweep::Pool(pool) = sweep {
                        self.report_retired(pool);
                    }
                }
                ToWorker::Report { to, forget } => drop(to.try_send(self.report(now, forget))),
                ToWorker::Data { source, contents } => self.take_data(source, contents),
                ToWorker::Transfer(part) => {
                    self.replies.connections.take_part(part, &mut self.engine);
                }
                ToWorker::Reload(reload) => self.reload(now, *reload),
                ToWorker::Drain => self.begin_drain(now),
            }
        }
    }

    /// Stops reading queries; outstanding ones have [`DRAIN_MAX`] left.
    fn begin_drain(&mut self, now: Moment) {
        self.drain_until.get_or_insert(now.plus(DRAIN_MAX));
        let registry = self.slot.poll.registry();
        let listeners = self.slot.listeners.iter_mut().flatten();
        listeners.for_each(|listening| listening.deregister(registry));
    }

    /// Reads one batch of queries from the listener at the head of the queue.
    pub(super) fn receive_queries(&mut self, now: Moment) {
        let Some(number) = self.ready_listeners.pop_front() else { return };
        self.queued_listeners[number] = false;
        let listening = self.slot.listeners[number].as_ref();
        let Some(datagrams) = listening.and_then(|listening| listening.datagrams.as_ref()) else {
            return;
        };
        // Errors other than WouldBlock are ICMP errors for earlier replies and concern no query.
        let received = self.queries.recv(datagrams.as_fd());
        let again = match &received {
            Ok(count) => *count == self.queries.capacity(),
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        };
        let received = received.unwrap_or(0);
        self.slot.loops.queries.add(received);
        let mut arrivals = Arrivals::default();
        for index in 0..received {
            let datagram = self.queries.datagram(index);
            if let Some(client) = client_of(number, &datagram) {
                self.engine.read(client, datagram.bytes, datagram.truncated, &mut arrivals);
            }
            if !arrivals.is_full() && index + 1 < received {
                continue;
            }
            self.engine.prefetch_answers(&arrivals);
            for arrival in arrivals.drain() {
                let out = self.replies.buffer();
                if let Some(len) = self.engine.on_arrival(now, arrival, out) {
                    let reply = Reply { client: arrival.client, len };
                    self.replies.commit(&reply, &self.slot.listeners, &mut self.engine);
                }
            }
        }
        if again {
            self.queued_listeners[number] = true;
            self.ready_listeners.push_back(number);
        }
        send_queries(self, now);
    }

    /// Accepts client connections, and reads queries from those that are ready.
    pub(super) fn receive_from_clients(&mut self, now: Moment) {
        let registry = self.slot.poll.registry();
        let Assignment { tls, listeners, .. } = &self.slot.assignment;
        for (number, ready) in self.ready_acceptors.iter_mut().enumerate() {
            if let Some(listening) = self.slot.listeners[number].as_ref().filter(|_| *ready) {
                let (connections, engine) = (&mut self.replies.connections, &mut self.engine);
                let acceptor = &listening.acceptor;
                let session = || tls.accept((*listeners.get(number)?)?);
                *ready = connections.accept(now, number, acceptor, engine, registry, session);
            } else {
                *ready = false;
            }
        }
        self.replies.connections.shake(now, &mut self.engine);
        for _ in 0..self.replies.connections.ready() {
            self.replies.connections.read(now, &mut self.engine);
        }
    }

    /// Reads one batch of responses from the upstream socket at the head of the queue.
    fn receive_responses(&mut self, now: Moment) {
        let Some(id) = self.ready_connections.pop_front() else { return };
        if !self.sockets.set_queued(id, false) {
            return;
        }
        let (engine, replies) = (&mut self.engine, &mut self.replies);
        let listeners = &self.slot.listeners;
        let mut handle = |engine: &mut Forwarder, bytes: &[u8], truncated: bool| {
            if let Some(answered) = engine.on_response(now, id, bytes, truncated) {
                replies.answer(&answered, bytes, listeners, engine);
            }
        };
        let received = match self.sockets.get(id) {
            None => return,
            Some(Socket::Datagrams { socket, .. }) => {
                let expected = engine.outstanding_on(id);
                let received = receive_datagrams(&mut self.responses, socket.as_fd(), expected);
                self.slot.loops.responses.add(self.responses.received());
                let count = self.responses.received();
                for first in (0..count).step_by(AHEAD_MAX) {
                    let datagrams = first..count.min(first + AHEAD_MAX);
                    let datagrams = datagrams.map(|index| self.responses.datagram(index));
                    engine.prefetch_exchanges(id, datagrams.clone().map(|datagram| datagram.bytes));
                    for datagram in datagrams {
                        handle(engine, datagram.bytes, datagram.truncated);
                    }
                }
                // No query is outstanding, so further datagrams answer none: they are read with the
                // next responses.
                let answered = expected > 0 && engine.outstanding_on(id) == 0;
                if answered { received.map(|_| Progress::Blocked) } else { received }
            }
            Some(Socket::Tcp(connection)) => {
                let was_open = connection.is_open();
                let received = match receive_messages(connection, &mut |bytes, truncated| {
                    handle(engine, bytes, truncated)
                }) {
                    Progress::Over => Err(connection.fault()),
                    progress => Ok(progress),
                };
                if received.is_ok() && (!was_open || connection.wants_write()) {
                    self.go_on_in_tls(now, id, was_open);
                }
                received
            }
        };
        if let Err(fault) = received {
            self.engine.on_connection_error(now, id, Operation::Read, fault);
        }
        if received == Ok(Progress::More) {
            self.queue_connection(id);
        }
    }
}

#[inline]
fn client_of(listener: usize, datagram: &Datagram<'_>) -> Option<Client> {
    let local = datagram.local.map(|local| (local.ip, local.interface));
    Some(Client { listener: listener as u16, peer: datagram.peer?, local, connection: None })
}
