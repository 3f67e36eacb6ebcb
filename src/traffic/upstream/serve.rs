//! The loop of one upstream thread.
//!
//! Each endpoint (one address, both transports) is served one batch a turn, so that a busy one
//! cannot starve the others. The [`Desk`] decides by the script what becomes of a query; a script
//! that leaves nothing to chance costs nothing more than the answer. Nothing is allocated per
//! query.

use super::delayed::{Delayed, Recipient};
use super::forge;
use super::live::Live;
use super::peers::Peers;
use super::script::{Act, Script};
use super::sources::Sources;
use super::{Counts, Options, Seen};
use crate::clock::Clock;
use crate::moment::Moment;
use crate::sys::mmsg::{RecvBatch, ReplyBatch};
use crate::sys::timer::Timer;
use crate::traffic::answer::{Behaviour, respond};
use crate::traffic::wire::{Question, u16_at};
use crossbeam_channel::{Receiver, Sender};
use mio::net::TcpListener;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
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
/// Time before a delayed response is due in which its thread busy-waits: waking up takes time.
const SPIN: Duration = Duration::from_micros(50);

/// The sockets of one address.
pub(super) struct Binding {
    pub(super) address: SocketAddr,
    pub(super) datagrams: UdpSocket,
    pub(super) streams: TcpListener,
}

/// Sockets and counters of one address.
pub(super) struct Endpoint {
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
    /// The script of each endpoint, and whether it is plain.
    scripts: Vec<(Arc<Script>, bool)>,
    random: ChaCha8Rng,
    /// Time when the first query came.
    first: Option<Moment>,
}

impl Desk {
    fn new(scripts: &[Arc<Script>], seed: u64) -> Self {
        let scripts = scripts.iter().map(|script| (Arc::clone(script), script.is_plain()));
        let random = ChaCha8Rng::seed_from_u64(seed);
        Self { scripts: scripts.collect(), random, first: None }
    }

    /// Writes the response of endpoint number `endpoint` to `query` into `response`.
    pub(super) fn answer(
        &mut self,
        endpoint: usize,
        query: &[u8],
        response: &mut [u8],
        now: Moment,
        counts: &mut Counts,
    ) -> Fate {
        let (script, is_plain) = &self.scripts[endpoint];
        if *is_plain {
            let length = respond(query, Behaviour::Answer, response);
            counts.unanswerable += u64::from(length.is_none());
            return length.map_or(Fate::Nothing, Fate::Send);
        }
        let first = *self.first.get_or_insert(now);
        let Some(question) = Question::parse(query) else {
            counts.unanswerable += 1;
            return Fate::Nothing;
        };
        let conduct = script.conduct(question.name());
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
        let zones = script.zones.as_ref().filter(|_| behaviour == Behaviour::Answer);
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
        let due = script.release(ready, first);
        if due > now { Fate::Later(length, due) } else { Fate::Send(length) }
    }

    /// Returns the number of forgeries sent ahead of the answer to `query`.
    fn spoofs(&self, endpoint: usize, query: &[u8]) -> u16 {
        let (script, is_plain) = &self.scripts[endpoint];
        if *is_plain {
            return 0;
        }
        Question::parse(query).map_or(0, |question| script.conduct(question.name()).spoofs)
    }

    /// Writes what somebody would send who guesses the id of `query`.
    fn spoof(&mut self, query: &[u8], response: &mut [u8]) -> Option<usize> {
        let length = respond(query, Behaviour::Lie, response)?;
        response[..2].copy_from_slice(&(self.random.next_u32() as u16).to_be_bytes());
        Some(length)
    }
}

impl Endpoint {
    fn new(binding: Binding, number: usize, poll: &Poll) -> io::Result<Self> {
        let Binding { address, datagrams: socket, streams: mut acceptor } = binding;
        let (datagrams, streams) = (Token(2 * number), Token(2 * number + 1));
        let fd = socket.as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), datagrams, Interest::READABLE)?;
        poll.registry().register(&mut acceptor, streams, Interest::READABLE)?;
        let seen = Seen { address, counts: Counts::default(), sources: Sources::default() };
        Ok(Self { socket, acceptor, ready: false, seen, flows: 0 })
    }

    /// Receives one batch and answers it; this is endpoint number `number`.
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
            for _ in 0..desk.spoofs(number.into(), query) {
                make_room(replies, &self.socket, counts);
                if let Some(length) = desk.spoof(query, replies.buffer()) {
                    replies.commit(length, 0, &peer, datagram.local);
                    counts.spoofed += 1;
                }
            }
            make_room(replies, &self.socket, counts);
            match desk.answer(number.into(), query, replies.buffer(), now, counts) {
                Fate::Nothing => {}
                Fate::Send(length) => {
                    let length = forge::fit(query, replies.buffer(), length);
                    replies.commit(length, 0, &peer, datagram.local);
                }
                Fate::Later(length, due) => {
                    let length = forge::fit(query, replies.buffer(), length);
                    let local = datagram.local;
                    let recipient = Recipient::Peer { endpoint: number, peer, local };
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
    endpoints: Vec<Endpoint>,
    peers: Peers,
    desk: Desk,
    delayed: Delayed,
    clock: Clock,
    /// Counters of each endpoint, for readers in other threads.
    live: Arc<[Live]>,
    /// Requests for counters that include every query that has arrived.
    requests: Receiver<Sender<()>>,
}

impl Server {
    /// Watches the sockets.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn new(
        bindings: Vec<Binding>,
        options: &Options,
        seed: u64,
        clock: Clock,
        requests: Receiver<Sender<()>>,
    ) -> io::Result<Self> {
        let (poll, timer) = (Poll::new()?, Timer::new()?);
        let endpoints = bindings.into_iter().enumerate();
        let endpoints = endpoints.map(|(i, binding)| Endpoint::new(binding, i, &poll));
        let endpoints = endpoints.collect::<io::Result<Vec<_>>>()?;
        let token = Token(2 * endpoints.len() + 1);
        let fd = timer.as_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        let peers = Peers::new(2 * endpoints.len() + 2, options.tls.clone());
        let scripts: Vec<_> = options.services.iter().map(|it| Arc::clone(&it.script)).collect();
        let desk = Desk::new(&scripts, seed);
        let live = endpoints.iter().map(|_| Live::default()).collect();
        let delayed = Delayed::default();
        Ok(Self { poll, timer, endpoints, peers, desk, delayed, clock, live, requests })
    }

    /// Returns the waker of the thread; there is one.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), Token(2 * self.endpoints.len()))
    }

    /// Returns the published counters of each endpoint, in their order.
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
            let Self { endpoints, peers, desk, delayed, clock, .. } = &mut self;
            for (number, endpoint) in endpoints.iter_mut().enumerate().filter(|(_, s)| s.ready) {
                let number = number as u16;
                endpoint.turn(number, &mut batch, &mut replies, desk, delayed, || clock.now());
            }
            if peers.is_busy() {
                peers.turn(endpoints, desk, delayed, clock.now());
            }
            self.release(&mut replies);
            while let Ok(request) = self.requests.try_recv() {
                self.drain(&mut batch, &mut replies);
                self.publish();
                // An upstream that is dropped meanwhile reads no counters.
                let _ = request.send(());
            }
            self.publish();
            if stopping() {
                break;
            }
        }
        self.drain(&mut batch, &mut replies);
        Ok(self.endpoints.into_iter().map(|endpoint| endpoint.seen).collect())
    }

    /// Publishes the counters.
    fn publish(&self) {
        for (endpoint, live) in self.endpoints.iter().zip(self.live.iter()) {
            live.show(&endpoint.seen, endpoint.flows);
        }
    }

    /// Answers the datagrams that have arrived.
    fn drain(&mut self, batch: &mut RecvBatch, replies: &mut ReplyBatch) {
        let Self { endpoints, desk, delayed, clock, .. } = self;
        for (number, endpoint) in endpoints.iter_mut().enumerate() {
            endpoint.ready = true;
            for _ in 0..DRAIN_TURNS_MAX {
                if endpoint.ready {
                    let number = number as u16;
                    endpoint.turn(number, batch, replies, desk, delayed, || clock.now());
                }
            }
        }
    }

    /// Sleeps until something comes or is due.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        // Readiness is reported once: a socket that is still ready must not wait for more to
        // arrive.
        let mut awake =
            self.peers.is_busy() || self.endpoints.iter().any(|endpoint| endpoint.ready);
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
            match self.endpoints.get_mut(token / 2) {
                Some(endpoint) if token % 2 == 0 => endpoint.ready = true,
                Some(Endpoint { acceptor, seen, .. }) => {
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
        let Self { endpoints, delayed, peers, .. } = self;
        while let Some((response, recipient)) = delayed.pop(now) {
            match recipient {
                Recipient::Peer { endpoint, peer, local } => {
                    replies.buffer()[..response.len()].copy_from_slice(response);
                    replies.commit(response.len(), 0, &peer, local);
                    let Endpoint { socket, seen, .. } = &mut endpoints[usize::from(endpoint)];
                    // Those of one endpoint mostly follow each other.
                    let same = matches!(delayed.peek(now), Some(next) if next == endpoint);
                    if !same || replies.is_full() {
                        flush(replies, socket, &mut seen.counts);
                    }
                }
                Recipient::Stream { slot, serial } => {
                    if let Some(endpoint) = peers.send(slot, serial, response) {
                        endpoints[endpoint].seen.counts.responses += 1;
                    }
                }
            }
        }
    }
}
