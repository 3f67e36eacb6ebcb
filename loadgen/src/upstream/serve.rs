//! The loop of one upstream thread.
//!
//! Each service (one address, both transports) is served one batch a turn, so that a busy one
//! cannot starve the others. The [`Desk`] decides by the script what becomes of a query; a script
//! that leaves nothing to chance costs nothing more than the answer. Nothing is allocated per
//! query.

use super::delayed::{Delayed, Recipient};
use super::forge;
use super::live::Live;
use super::peers::Peers;
use super::script::{Act, Script};
use super::sources::Sources;
use super::{Counts, Seen};
use mio::net::TcpListener;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use onward::clock::Clock;
use onward::moment::Moment;
use onward::sys::mmsg::{RecvBatch, ReplyBatch};
use onward::sys::timer::Timer;
use onward::tls;
use onward::traffic::answer::{Behaviour, respond};
use onward::traffic::wire::{Question, u16_at};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

/// Datagrams a call: what a burst of one turn of a forwarder brings at most.
const BATCH: usize = 64;
/// A query longer than this is cut; none that means anything is.
const QUERY_LEN_MAX: usize = 4096;
/// Room for a response.
pub(super) const RESPONSE_ROOM: usize = 4096;
/// Events a call of `epoll_wait`; more wait for the next.
const EVENTS: usize = 256;
/// Batches taken from a socket before it stops: a full buffer holds fewer, and a client that goes
/// on sending shall not hold it up.
const DRAIN_TURNS_MAX: usize = 1024;
/// So long before it is due a delayed response is waited for with open eyes: waking up takes time.
const SPIN: Duration = Duration::from_micros(50);

/// The sockets of one address.
pub(super) struct Binding {
    pub(super) address: SocketAddr,
    pub(super) datagrams: UdpSocket,
    pub(super) streams: TcpListener,
}

/// One address in service.
pub(super) struct Service {
    socket: UdpSocket,
    acceptor: TcpListener,
    ready: bool,
    pub(super) seen: Seen,
    /// Flows of datagrams that have begun.
    flows: u64,
}

/// Outcome of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// No response.
    Nothing,
    /// A response of this length in the buffer, now.
    Send(usize),
    /// A response at this time.
    Later(usize, Moment),
}

/// Decides about queries.
pub(super) struct Desk {
    script: Arc<Script>,
    is_plain: bool,
    random: ChaCha8Rng,
    /// Time when the first query came.
    first: Option<Moment>,
}

impl Desk {
    fn new(script: Arc<Script>, seed: u64) -> Self {
        let is_plain = script.is_plain();
        Self { script, is_plain, random: ChaCha8Rng::seed_from_u64(seed), first: None }
    }

    /// Writes what `query` gets into `response`.
    pub(super) fn answer(
        &mut self,
        query: &[u8],
        response: &mut [u8],
        now: Moment,
        counts: &mut Counts,
    ) -> Fate {
        if self.is_plain {
            let length = respond(query, Behaviour::Answer, response);
            counts.unanswerable += u64::from(length.is_none());
            return length.map_or(Fate::Nothing, Fate::Send);
        }
        let first = *self.first.get_or_insert(now);
        let Some(question) = Question::parse(query) else {
            counts.unanswerable += 1;
            return Fate::Nothing;
        };
        let conduct = self.script.conduct(question.name());
        let act = conduct.decide(&mut self.random);
        let behaviour = match act {
            Act::Silence => {
                counts.silenced += 1;
                return Fate::Nothing;
            }
            Act::Refuse(rcode) => Behaviour::Refuse(rcode),
            Act::Lie => Behaviour::Lie,
            _ => Behaviour::Answer,
        };
        let zones = self.script.zones.as_ref().filter(|_| behaviour == Behaviour::Answer);
        let told = zones.and_then(|zones| zones.respond(query, response));
        let Some(mut length) = told.or_else(|| respond(query, behaviour, response)) else {
            counts.unanswerable += 1;
            return Fate::Nothing;
        };
        counts.spoiled += u64::from(act != Act::Answer);
        match act {
            Act::Truncate => length = forge::truncate(&mut response[..length]),
            Act::WrongId => forge::change_id(response, &mut self.random),
            Act::WrongQuestion => forge::change_question(response),
            Act::Garbage => length = forge::garble(response, &mut self.random),
            _ => {}
        }
        let ready = now.plus(conduct.delay.draw(&mut self.random));
        let due = self.script.release(ready, first);
        if due > now { Fate::Later(length, due) } else { Fate::Send(length) }
    }

    /// Returns how many forgeries go ahead of the answer to `query`.
    fn spoofs(&self, query: &[u8]) -> u16 {
        if self.is_plain {
            return 0;
        }
        Question::parse(query).map_or(0, |question| self.script.conduct(question.name()).spoofs)
    }

    /// Writes what somebody would send who guesses the id of `query`.
    fn spoof(&mut self, query: &[u8], response: &mut [u8]) -> Option<usize> {
        let length = respond(query, Behaviour::Lie, response)?;
        response[..2].copy_from_slice(&(self.random.next_u32() as u16).to_be_bytes());
        Some(length)
    }
}

impl Service {
    fn new(binding: Binding, number: usize, poll: &Poll) -> io::Result<Self> {
        let Binding { address, datagrams: socket, streams: mut acceptor } = binding;
        let (datagrams, streams) = (Token(2 * number), Token(2 * number + 1));
        let fd = socket.as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), datagrams, Interest::READABLE)?;
        poll.registry().register(&mut acceptor, streams, Interest::READABLE)?;
        let seen = Seen { address, counts: Counts::default(), sources: Sources::default() };
        Ok(Self { socket, acceptor, ready: false, seen, flows: 0 })
    }

    /// Receives one batch and answers it; this is service number `number`.
    fn turn(
        &mut self,
        number: u16,
        batch: &mut RecvBatch,
        replies: &mut ReplyBatch,
        desk: &mut Desk,
        delayed: &mut Delayed,
        now: impl Fn() -> Moment,
    ) {
        // An error here is an earlier response that was refused: the next call goes on behind it.
        let received = match batch.recv(self.socket.as_fd()) {
            Ok(received) => received,
            Err(error) => {
                self.ready = error.kind() != io::ErrorKind::WouldBlock;
                return;
            }
        };
        self.ready = received == batch.capacity();
        let now = now();
        let Seen { counts, sources, .. } = &mut self.seen;
        counts.queries += received as u64;
        for i in 0..received {
            let datagram = batch.datagram(i);
            let Some(peer) = datagram.peer else { continue };
            let query = datagram.bytes;
            let begins = sources.note(peer.port(), u16_at(query, 0).unwrap_or(0), now);
            self.flows += u64::from(begins);
            for _ in 0..desk.spoofs(query) {
                make_room(replies, &self.socket, counts);
                if let Some(length) = desk.spoof(query, replies.buffer()) {
                    replies.commit(length, 0, &peer, datagram.local);
                    counts.spoofed += 1;
                }
            }
            make_room(replies, &self.socket, counts);
            match desk.answer(query, replies.buffer(), now, counts) {
                Fate::Nothing => {}
                Fate::Send(length) => {
                    let length = forge::fit(query, replies.buffer(), length);
                    replies.commit(length, 0, &peer, datagram.local);
                }
                Fate::Later(length, due) => {
                    let length = forge::fit(query, replies.buffer(), length);
                    let local = datagram.local;
                    let recipient = Recipient::Peer { service: number, peer, local };
                    let kept = delayed.push(due, &replies.buffer()[..length], recipient);
                    counts.dropped += u64::from(!kept);
                }
            }
        }
        flush(replies, &self.socket, counts);
    }
}

/// Sends what waits if there is no room for another.
fn make_room(replies: &mut ReplyBatch, socket: &UdpSocket, counts: &mut Counts) {
    if replies.is_full() {
        flush(replies, socket, counts);
    }
}

fn flush(replies: &mut ReplyBatch, socket: &UdpSocket, counts: &mut Counts) {
    if !replies.is_empty() {
        let outcome = replies.flush(|_| socket.as_fd());
        counts.responses += outcome.sent as u64;
        counts.dropped += outcome.dropped as u64;
    }
}

/// One thread's state.
pub(super) struct Server {
    poll: Poll,
    timer: Timer,
    services: Vec<Service>,
    peers: Peers,
    desk: Desk,
    delayed: Delayed,
    clock: Clock,
    /// Counters of each service, for readers in other threads.
    live: Arc<[Live]>,
}

impl Server {
    /// Watches the sockets. Streams speak `tls`, if there is such.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn new(
        bindings: Vec<Binding>,
        script: Arc<Script>,
        seed: u64,
        clock: Clock,
        tls: Option<tls::Server>,
    ) -> io::Result<Self> {
        let (poll, timer) = (Poll::new()?, Timer::new()?);
        let services = bindings.into_iter().enumerate();
        let services = services.map(|(i, binding)| Service::new(binding, i, &poll));
        let services = services.collect::<io::Result<Vec<_>>>()?;
        let token = Token(2 * services.len() + 1);
        let fd = timer.as_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        let peers = Peers::new(2 * services.len() + 2, tls);
        let desk = Desk::new(script, seed);
        let live = services.iter().map(|_| Live::default()).collect();
        let delayed = Delayed::default();
        Ok(Self { poll, timer, services, peers, desk, delayed, clock, live })
    }

    /// Returns what wakes the thread; there is one.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), Token(2 * self.services.len()))
    }

    /// Returns what each service has seen so far, in their order.
    pub(super) fn live(&self) -> Arc<[Live]> {
        Arc::clone(&self.live)
    }

    /// Serves until `stopping`.
    pub(super) fn run(mut self, stopping: impl Fn() -> bool) -> io::Result<Vec<Seen>> {
        let mut batch = RecvBatch::new(BATCH, QUERY_LEN_MAX, true);
        let mut replies = ReplyBatch::new(BATCH, RESPONSE_ROOM, false);
        let mut events = Events::with_capacity(EVENTS);
        loop {
            self.wait(&mut events)?;
            self.note_events(&events);
            let Self { services, peers, desk, delayed, clock, .. } = &mut self;
            for (number, service) in services.iter_mut().enumerate().filter(|(_, s)| s.ready) {
                let number = number as u16;
                service.turn(number, &mut batch, &mut replies, desk, delayed, || clock.now());
            }
            if peers.is_busy() {
                peers.turn(services, desk, delayed, clock.now());
            }
            self.release(&mut replies);
            for (service, live) in self.services.iter().zip(self.live.iter()) {
                live.show(&service.seen.counts, service.flows);
            }
            if stopping() {
                break;
            }
        }
        let Self { services, desk, delayed, clock, .. } = &mut self;
        for (number, service) in services.iter_mut().enumerate() {
            service.ready = true;
            for _ in 0..DRAIN_TURNS_MAX {
                if service.ready {
                    let number = number as u16;
                    service.turn(number, &mut batch, &mut replies, desk, delayed, || clock.now());
                }
            }
        }
        Ok(self.services.into_iter().map(|service| service.seen).collect())
    }

    /// Sleeps until something comes or is due.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        // Readiness is told once: what is still ready must not wait for more to arrive.
        let mut awake = self.peers.is_busy() || self.services.iter().any(|service| service.ready);
        if let Some(due) = self.delayed.next().filter(|_| !awake) {
            let rest = due.since(self.clock.now());
            awake = rest <= SPIN;
            if !awake {
                self.timer.arm(rest - SPIN)?;
            }
        }
        match self.poll.poll(events, awake.then_some(Duration::ZERO)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    fn note_events(&mut self, events: &Events) {
        for event in events {
            let Token(token) = event.token();
            match self.services.get_mut(token / 2) {
                Some(service) if token % 2 == 0 => service.ready = true,
                Some(Service { acceptor, seen, .. }) => {
                    let registry = self.poll.registry();
                    seen.counts.streams += self.peers.accept(token / 2, acceptor, registry);
                }
                None => self.peers.note(event.token()),
            }
        }
    }

    /// Sends the delayed responses that are due.
    fn release(&mut self, replies: &mut ReplyBatch) {
        if self.delayed.next().is_none() {
            return;
        }
        let now = self.clock.now();
        let Self { services, delayed, peers, .. } = self;
        while let Some((response, recipient)) = delayed.pop(now) {
            match recipient {
                Recipient::Peer { service, peer, local } => {
                    replies.buffer()[..response.len()].copy_from_slice(response);
                    replies.commit(response.len(), 0, &peer, local);
                    let Service { socket, seen, .. } = &mut services[usize::from(service)];
                    // Those of one service mostly follow each other.
                    let same = matches!(delayed.peek(now), Some(next) if next == service);
                    if !same || replies.is_full() {
                        flush(replies, socket, &mut seen.counts);
                    }
                }
                Recipient::Stream { slot, serial } => {
                    if let Some(service) = peers.send(slot, serial, response) {
                        services[service].seen.counts.responses += 1;
                    }
                }
            }
        }
    }
}
