//! The loop: receive, handle, send, per batch.
//!
//! A turn polls once, takes one batch from each socket that is ready, has the engine handle each
//! packet, and sends what came of it with one call per socket. mio is edge-triggered, so
//! readiness is our own: a socket stays in the queue until a batch came back short, and while any
//! is queued the poll does not wait. So no socket, however busy, keeps another from its turn.
//! Nothing here allocates, formats or logs, and every loop is bounded by a batch or by the
//! attempts that the engine allows a query.

use super::Seat;
use super::token::Token;
use super::upstream::Sockets;
use crate::control::{ToKeeper, ToWorker};
use crate::engine::stats::{DropReason, Stats};
use crate::engine::{Client, ConnectionId, Forwarder, Outgoing, Reply};
use crate::moment::Moment;
use crate::sys::mmsg::{Datagram, QueryBatch, RecvBatch, ReplyBatch};
use crate::sys::pktinfo::Local;
use mio::Events;
use mio::unix::SourceFd;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// Datagrams taken from a socket before the next socket has its turn: enough to amortise the
/// call, few enough to stay in the second-level cache.
const BATCH_MAX: usize = 64;
/// Bytes of a datagram that are read. Larger queries are FORMERR, larger responses TC; both are
/// beyond anything that we or sane clients advertise.
const DATAGRAM_LEN_MAX: usize = 2048;
/// Events taken from the kernel at once; the rest comes with the next poll.
const EVENTS_MAX: usize = 256;
/// How long a draining worker waits for what is outstanding.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// When the keeper's channel was full: how soon it is asked again.
const KEEPER_RETRY: Duration = Duration::from_millis(10);

/// A worker at work.
pub(super) struct Turner<'a> {
    seat: &'a mut Seat,
    engine: Forwarder,
    sockets: Sockets,
    queries: RecvBatch,
    responses: RecvBatch,
    replies: ReplyBatch,
    outgoing: QueryBatch,
    sends: Vec<Outgoing>,
    events: Events,
    /// Listeners that may have something to read.
    ready_listeners: VecDeque<usize>,
    queued_listeners: Vec<bool>,
    /// Upstream sockets that may have something to read.
    ready_connections: VecDeque<ConnectionId>,
    keeper_busy: bool,
    drain_until: Option<Moment>,
}

impl<'a> Turner<'a> {
    /// A worker on `seat`, about to begin.
    pub(super) fn new(seat: &'a mut Seat, engine: Forwarder) -> Self {
        let capacity = engine.connections_max();
        let listeners = seat.listeners.len();
        let drain_until = seat.draining.then(|| seat.clock.now().plus(DRAIN_MAX));
        Self {
            engine,
            sockets: Sockets::new(capacity),
            queries: RecvBatch::new(BATCH_MAX, DATAGRAM_LEN_MAX, true),
            responses: RecvBatch::new(BATCH_MAX, DATAGRAM_LEN_MAX, false),
            replies: ReplyBatch::new(BATCH_MAX, DATAGRAM_LEN_MAX),
            outgoing: QueryBatch::new(BATCH_MAX),
            sends: Vec::with_capacity(crate::engine::exchange::EXCHANGES_MAX),
            events: Events::with_capacity(EVENTS_MAX),
            // Whoever sat here before may have left an edge unread.
            ready_listeners: (0..listeners).collect(),
            queued_listeners: vec![true; listeners],
            ready_connections: VecDeque::with_capacity(capacity),
            keeper_busy: false,
            drain_until,
            seat,
        }
    }

    /// Turns until the drain is over.
    pub(super) fn run(&mut self) {
        while !self.turn() {}
        self.engine.stop();
        self.settle(self.seat.clock.now());
    }

    /// What the seat keeps: the counters, and whether a drain has begun.
    pub(super) fn leave(self) -> (Stats, bool) {
        (self.counters(), self.drain_until.is_some())
    }

    /// One turn; true when there is nothing left to do.
    fn turn(&mut self) -> bool {
        let now = self.seat.clock.now();
        let timeout = self.timeout(now);
        match self.seat.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return false,
            Err(error) => panic!("polling failed: {error}"),
        }
        let now = self.seat.clock.now();
        let mailed = self.note_events();
        if mailed {
            self.read_mail(now);
        }
        for _ in 0..self.ready_connections.len() {
            self.receive_responses(now);
        }
        if self.drain_until.is_none() {
            for _ in 0..self.ready_listeners.len() {
                self.receive_queries(now);
            }
        }
        self.engine.on_time(now);
        self.settle(now);
        self.drain_until.is_some_and(|until| until <= now || self.engine.outstanding() == 0)
    }

    /// How long the poll may wait; `None`: until something happens.
    fn timeout(&self, now: Moment) -> Option<Duration> {
        let reading = !self.ready_connections.is_empty()
            || (self.drain_until.is_none() && !self.ready_listeners.is_empty());
        if reading {
            return Some(Duration::ZERO);
        }
        let keeper = self.keeper_busy.then(|| now.plus(KEEPER_RETRY));
        let deadlines = [self.engine.next_deadline(), keeper, self.drain_until];
        deadlines.into_iter().flatten().min().map(|deadline| deadline.since(now))
    }

    /// Queues what became readable; true when there is mail.
    fn note_events(&mut self) -> bool {
        let mut mailed = false;
        for event in &self.events {
            match Token::unpack(event.token()) {
                Token::Mailbox => mailed = true,
                Token::Listener(listener) => {
                    if !std::mem::replace(&mut self.queued_listeners[listener], true) {
                        self.ready_listeners.push_back(listener);
                    }
                }
                Token::Connection(id) => {
                    if self.sockets.set_queued(id, true) {
                        self.ready_connections.push_back(id);
                    }
                }
            }
        }
        mailed
    }

    fn read_mail(&mut self, now: Moment) {
        for _ in 0..self.seat.mail.len() {
            let Ok(message) = self.seat.mail.try_recv() else { break };
            match message {
                ToWorker::Sweep(pool) => self.engine.on_sweep(now, pool),
                ToWorker::Report(to) => drop(to.try_send(self.counters())),
                ToWorker::Drain => self.begin_drain(now),
            }
        }
    }

    /// Stops reading queries; what is outstanding has a while left.
    fn begin_drain(&mut self, now: Moment) {
        self.drain_until.get_or_insert(now.plus(DRAIN_MAX));
        for listener in self.seat.listeners.iter().flatten() {
            // An event that still comes is not acted upon.
            let _ = self.seat.poll.registry().deregister(&mut SourceFd(&listener.as_raw_fd()));
        }
    }

    /// One batch of queries from the listener at the head of the queue.
    fn receive_queries(&mut self, now: Moment) {
        let Some(number) = self.ready_listeners.pop_front() else { return };
        self.queued_listeners[number] = false;
        let Some(listener) = &self.seat.listeners[number] else { return };
        // Errors other than WouldBlock are ICMP's about earlier replies: they concern no query.
        let received = self.queries.recv(listener.as_fd());
        let again = match &received {
            Ok(count) => *count == self.queries.capacity(),
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        };
        for index in 0..received.unwrap_or(0) {
            let datagram = self.queries.datagram(index);
            let Some(client) = client_of(number, &datagram) else { continue };
            let out = self.replies.buffer();
            let truncated = datagram.truncated;
            if let Some(len) = self.engine.on_query(now, client, datagram.bytes, truncated, out) {
                commit(&mut self.replies, &Reply { client, len });
                self.make_room();
            }
        }
        if again {
            self.queued_listeners[number] = true;
            self.ready_listeners.push_back(number);
        }
        self.send_queries(now);
    }

    /// One batch of responses from the upstream socket at the head of the queue.
    fn receive_responses(&mut self, now: Moment) {
        let Some(id) = self.ready_connections.pop_front() else { return };
        if !self.sockets.set_queued(id, false) {
            return;
        }
        let Some(socket) = self.sockets.get(id) else { return };
        let mut failed = false;
        let mut received = self.responses.recv(socket.as_fd());
        if received.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
            // The ICMP error came before what is queued behind it, which still counts.
            failed = true;
            received = self.responses.recv(socket.as_fd());
        }
        let count = received.unwrap_or(0);
        for index in 0..count {
            let datagram = self.responses.datagram(index);
            let (bytes, truncated) = (datagram.bytes, datagram.truncated);
            let Some(answered) = self.engine.on_response(now, id, bytes, truncated) else {
                continue;
            };
            let replies = &mut self.replies;
            while let Some(reply) = self.engine.next_reply(&answered, bytes, replies.buffer()) {
                commit(replies, &reply);
                if replies.is_full() {
                    flush(replies, self.seat, &mut self.engine);
                }
            }
        }
        if failed {
            self.engine.on_connection_failed(now, id);
        } else if count == self.responses.capacity() && self.sockets.set_queued(id, true) {
            self.ready_connections.push_back(id);
        }
    }

    /// Carries out all that the engine has decided: queries out, failures told, replies out,
    /// sockets closed, the keeper asked.
    fn settle(&mut self, now: Moment) {
        self.send_queries(now);
        while let Some(reply) = self.engine.next_failure(self.replies.buffer()) {
            commit(&mut self.replies, &reply);
            self.make_room();
        }
        if !self.replies.is_empty() {
            flush(&mut self.replies, self.seat, &mut self.engine);
        }
        while let Some(id) = self.engine.next_closed() {
            self.sockets.close(id);
        }
        self.keeper_busy = false;
        while let Some((pool, at)) = self.engine.next_request() {
            let request = ToKeeper::Wake { worker: self.seat.number, pool, at };
            if self.seat.keeper.try_send(request).is_err() {
                self.engine.request_failed(pool);
                self.keeper_busy = true;
                break;
            }
        }
    }

    /// Sends the engine's queries, one call per connection, dialling where there is no socket. A
    /// connection that fails has its queries moved on, so there may be more to send; the
    /// engine's bound on attempts ends that.
    fn send_queries(&mut self, now: Moment) {
        loop {
            self.engine.swap_sends(&mut self.sends);
            if self.sends.is_empty() {
                return;
            }
            self.sends.sort_unstable();
            for group in self.sends.chunk_by(|a, b| a.connection == b.connection) {
                let id = group[0].connection;
                let Some(address) = self.engine.address(id) else { continue };
                let registry = self.seat.poll.registry();
                let sent = self.sockets.open(id, address, registry).and_then(|socket| {
                    let packets = group.iter().filter_map(|send| self.engine.query(send));
                    self.outgoing.send(socket.as_fd(), packets)
                });
                match sent {
                    Ok(sent) => {
                        let drops = &mut self.engine.stats_mut().drops;
                        drops[DropReason::QueryNotSent as usize] += sent.dropped as u64;
                    }
                    Err(_) => self.engine.on_connection_failed(now, id),
                }
            }
            self.sends.clear();
        }
    }

    fn make_room(&mut self) {
        if self.replies.is_full() {
            flush(&mut self.replies, self.seat, &mut self.engine);
        }
    }

    fn counters(&self) -> Stats {
        let mut counters = self.seat.past.clone();
        counters.add(&self.engine.stats());
        counters
    }
}

fn client_of(listener: usize, datagram: &Datagram<'_>) -> Option<Client> {
    let local = datagram.local.map(|local| (local.ip, local.interface));
    Some(Client { listener: listener as u16, peer: datagram.peer?, local })
}

fn commit(replies: &mut ReplyBatch, reply: &Reply) {
    let Client { listener, peer, local } = &reply.client;
    let local = local.map(|(ip, interface)| Local { ip, interface });
    replies.commit(reply.len, *listener, peer, local);
}

fn flush(replies: &mut ReplyBatch, seat: &Seat, engine: &mut Forwarder) {
    let sent = replies.flush(|listener| {
        let listener = &seat.listeners[usize::from(listener)];
        listener.as_ref().expect("a query came in on it").as_fd()
    });
    engine.stats_mut().drops[DropReason::ReplyNotSent as usize] += sent.dropped as u64;
}
