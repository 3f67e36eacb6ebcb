//! The event loop of a worker, which receives, handles and sends packets in batches.
//!
//! A turn polls once, reads one batch from each ready socket, passes each packet to the engine, and
//! sends the resulting packets with one call per socket. Events are edge-triggered, so the parts
//! track readiness themselves: a socket stays in a queue until a batch is short, and the poll does
//! not wait while a socket is queued. A busy socket therefore cannot starve another. The event loop
//! connects its parts ([`ClientSide`], [`UpstreamSide`], the listeners and the links to other
//! threads in the slot) with the engine, and owns the order of a turn; each part owns its sockets,
//! batches and queues. Nothing here formats or logs, and every loop is bounded by a batch or by the
//! attempts that the engine allows a query.

use super::WorkerSlot;
use super::client_side::ClientSide;
use super::proxy_alarm::ProxyAlarm;
use super::token::Token;
use super::upstream_side::UpstreamSide;
use crate::control::{Assignment, ToWorker};
use crate::engine::shell::{Buffers, NOTICE_RETRY, send_queries};
use crate::engine::{Forwarder, Sweep};
use crate::moment::Moment;
use mio::Events;
use std::io;
use std::time::Duration;

/// Datagrams read from a socket before the next socket is read: enough to amortise the call, few
/// enough for the second-level cache.
const BATCH_MAX: usize = 64;
/// Events taken from the kernel with one poll; the others follow with the next.
const EVENTS_MAX: usize = 256;
/// Maximum time for which a draining worker waits for outstanding queries.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// The event loop of a worker.
pub(super) struct EventLoop<'a> {
    pub(super) slot: &'a mut WorkerSlot,
    pub(super) engine: Forwarder,
    pub(super) upstreams: UpstreamSide,
    pub(super) clients: ClientSide,
    pub(super) buffers: Buffers,
    events: Events,
    /// True if a notice could not be delivered yet.
    pub(super) notices_left: bool,
    /// End of the busy-poll: until then the poll does not wait.
    busy_until: Moment,
    /// Start of the current turn's work.
    woken: Option<Moment>,
    pub(super) drain_until: Option<Moment>,
}

impl<'a> EventLoop<'a> {
    /// Creates the event loop of `slot`.
    pub(super) fn new(slot: &'a mut WorkerSlot, mut engine: Forwarder) -> Self {
        let (capacity, gso) = (engine.connections_max(), slot.io_options.gso);
        // An earlier event loop of this slot may have consumed events.
        slot.listeners.queue_all();
        slot.listeners.set_proxies(&slot.assignment, engine.hasher());
        let mailbox = slot.keeper.mailbox();
        slot.keeper.begin();
        slot.writer.begin();
        let mut clients = ClientSide::new(BATCH_MAX, gso, slot.clock, ProxyAlarm::new(mailbox));
        clients.connections.adopt(slot.number, &slot.assignment, &mut engine);
        Self {
            engine,
            upstreams: UpstreamSide::new(
                BATCH_MAX,
                capacity,
                gso,
                &slot.assignment.tls,
                slot.clock,
            ),
            clients,
            buffers: Buffers::new(),
            events: Events::with_capacity(EVENTS_MAX),
            notices_left: false,
            busy_until: Moment::ZERO,
            woken: None,
            drain_until: slot.draining.then(|| slot.clock.now().plus(DRAIN_MAX)),
            slot,
        }
    }

    /// Runs turns until the drain is complete.
    pub(super) fn run(&mut self) {
        while !self.turn() {}
        self.engine.stop();
        let now = self.slot.clock.now();
        self.settle(now);
        self.slot.writer.end_page(&mut self.engine);
    }

    /// Leaves in the slot what the next event loop needs: the counters, and whether a drain has
    /// begun.
    pub(super) fn leave(self) {
        self.slot.past.end_of(&self.engine);
        self.slot.draining = self.drain_until.is_some();
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
        if self.upstreams.next_deadline().is_some_and(|due| due <= now) {
            self.upstreams.on_time(now);
        }
        for _ in 0..self.upstreams.ready() {
            self.receive_responses(now);
        }
        if self.drain_until.is_none() {
            for _ in 0..self.slot.listeners.ready() {
                self.receive_queries(now);
            }
            self.receive_from_connections(now);
        }
        self.engine.on_time(now);
        self.clients.connections.expire(now, &mut self.engine);
        self.settle(now);
        let WorkerSlot { listeners, assignment, .. } = &mut *self.slot;
        listeners.close_removed(now, &assignment.listeners);
        self.drain_until.is_some_and(|until| until <= now || self.engine.is_quiet())
    }

    /// Returns the time-out of the poll; `None`: wait without limit.
    fn timeout(&self, now: Moment) -> Option<Duration> {
        let WorkerSlot { listeners, writer, .. } = &*self.slot;
        let connections = &self.clients.connections;
        let reads = self.drain_until.is_none();
        let asking = reads && (listeners.has_ready() || connections.has_ready());
        if asking || self.upstreams.ready() > 0 || now < self.busy_until {
            return Some(Duration::ZERO);
        }
        let deadlines = [
            self.engine.next_deadline(),
            self.upstreams.next_deadline(),
            self.engine.clients.next_deadline(),
            (self.notices_left || writer.is_busy()).then(|| now.plus(NOTICE_RETRY)),
            writer.page_due(&self.engine),
            connections.due().filter(|_| reads),
            self.drain_until,
            listeners.removed_until(),
        ];
        deadlines.into_iter().flatten().min().map(|deadline| deadline.since(now))
    }

    /// Passes each event to the part that owns its socket, and reads the mailbox.
    fn note_events(&mut self, now: Moment) {
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            match Token::unpack(event.token()) {
                Token::Mailbox => self.read_mail(now),
                Token::Datagrams(number) => self.slot.listeners.queue(number),
                Token::Acceptor(number) => self.slot.listeners.note_connection(number),
                Token::Connection(id) => self.upstreams.note(now, id, event, &mut self.engine),
                Token::Client(key) => {
                    let closed = event.is_read_closed() || event.is_error();
                    let readable = event.is_readable() || closed;
                    self.clients.connections.note(key, readable, event.is_writable(), closed);
                }
            }
        }
        self.events = events;
    }

    fn read_mail(&mut self, now: Moment) {
        for _ in 0..self.slot.mail.len() {
            let Ok(message) = self.slot.mail.try_recv() else { break };
            match message {
                ToWorker::Sweep(sweep) => {
                    self.slot.loops.sweeps += 1;
                    self.engine.on_sweep(now, sweep);
                    if let Sweep::Pool(pool) = sweep {
                        self.slot.keeper.report_retired(pool, &self.engine);
                    }
                }
                ToWorker::Report { to, forget } => drop(to.try_send(self.report(now, forget))),
                ToWorker::Data { source, contents } => self.take_data(source, contents),
                ToWorker::Transfer(part) => {
                    self.clients.connections.take_part(part, &mut self.engine);
                }
                ToWorker::Reload(reload) => self.reload(now, *reload),
                ToWorker::Drain => self.begin_drain(now),
            }
        }
    }

    /// Stops reading queries; outstanding ones have [`DRAIN_MAX`] left.
    fn begin_drain(&mut self, now: Moment) {
        self.drain_until.get_or_insert(now.plus(DRAIN_MAX));
        let WorkerSlot { listeners, poll, .. } = &mut *self.slot;
        listeners.deregister_all(poll.registry());
        self.clients.connections.begin_drain();
    }

    /// Reads one batch of queries from the listener at the head of the queue.
    pub(super) fn receive_queries(&mut self, now: Moment) {
        let WorkerSlot { listeners, loops, .. } = &mut *self.slot;
        if let Some(number) = listeners.next_ready() {
            self.clients.receive(now, number, listeners, &mut self.engine, loops);
            send_queries(self, now);
        }
    }

    /// Accepts client connections, and reads queries from those that are ready.
    pub(super) fn receive_from_connections(&mut self, now: Moment) {
        let (connections, engine) = (&mut self.clients.connections, &mut self.engine);
        let WorkerSlot { listeners, assignment, poll, .. } = &mut *self.slot;
        let Assignment { tls, listeners: numbers, config, .. } = &*assignment;
        listeners.accept_each(|number, acceptor| {
            let Some(own) = numbers.get(number).copied().flatten() else { return false };
            let listener = (number, &config.listeners[own]);
            let session = || tls.accept(own);
            connections.accept(now, listener, acceptor, engine, poll.registry(), session)
        });
        connections.shake(now, listeners, engine);
        for _ in 0..connections.ready() {
            connections.read(now, engine);
        }
    }

    /// Reads one batch of responses from the upstream connection at the head of the queue.
    fn receive_responses(&mut self, now: Moment) {
        let (engine, clients) = (&mut self.engine, &mut self.clients);
        let WorkerSlot { listeners, loops, .. } = &mut *self.slot;
        self.upstreams.receive(now, engine, loops, |engine, id, bytes, truncated| {
            if let Some(answered) = engine.on_response(now, id, bytes, truncated) {
                clients.answer(&answered, bytes, listeners, engine);
            }
        });
    }
}
