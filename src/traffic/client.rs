//! A closed-loop client in a thread: asks, checks every answer, asks again.
//!
//! It keeps a fixed number of queries outstanding over a few sockets, UDP or TCP; a slot asks anew
//! as soon as its query is answered or given up, so the rate is what the other end sustains at
//! that concurrency, and nothing is paced with timers. Each answer is checked against what
//! [`super::answer`] owes to the question as it was sent. Latency is measured around the calls
//! (before the one that sends, after the one that receives), so it includes what a batch costs.
//! At the end it waits for what is outstanding: sent = answered + mismatched + lost.

use super::flight::{Flight, Landing, SLOTS_MAX};
use super::query::QueryMaker;
use super::stream::MessageStream;
use crate::clock::Clock;
use crate::moment::{Moment, nanos};
use crate::sys::mmsg::{QueryBatch, RecvBatch};
use crate::sys::{cpu, socket};
use crossbeam_channel::{Receiver, Sender};
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Datagrams a call.
const BATCH: usize = 64;
/// Answers are far shorter; a longer message is no answer of ours, whatever its rest says.
const RESPONSE_LEN_MAX: usize = 1232;
/// Events a call of `epoll_wait`; more wait for the next.
const EVENTS: usize = 256;
/// Interval of checks for lost queries, progress and a stop.
const TICK: Duration = Duration::from_millis(100);
/// Progress that nobody has taken yet; more is not told.
const PROGRESS_MAX: usize = 16;
/// Latencies above this are recorded as this.
const LATENCY_MAX: Duration = Duration::from_secs(60);
/// Significant digits of recorded latencies.
const DIGITS: u8 = 3;

/// Options of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// Server addresses. Sockets use them in turn.
    pub targets: Vec<SocketAddr>,
    /// Number of sockets (source ports); no more than `outstanding` are opened.
    pub sockets: usize,
    /// Queries outstanding at once, on all sockets together.
    pub outstanding: usize,
    /// For how long it asks.
    pub duration: Duration,
    /// Queries after which it stops earlier.
    pub queries: Option<u64>,
    /// A query not answered for so long is lost.
    pub patience: Duration,
    /// Determines names, ids and letter case.
    pub seed: u64,
    /// The core to run on.
    pub core: Option<usize>,
    /// Over streams. One that the other end closes is opened anew; what was on it is lost.
    pub tcp: bool,
}

impl ClientOptions {
    /// Asks `targets` for five seconds over 16 sockets with 64 queries outstanding, and waits
    /// three seconds for each answer.
    pub fn new(targets: Vec<SocketAddr>, seed: u64) -> Self {
        Self {
            targets,
            sockets: 16,
            outstanding: 64,
            duration: Duration::from_secs(5),
            queries: None,
            patience: Duration::from_secs(3),
            seed,
            core: None,
            tcp: false,
        }
    }
}

/// Counters so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Queries handed to the kernel.
    pub sent: u64,
    /// Queries that got their right answer.
    pub answered: u64,
    /// Queries that got a response that is not their right answer.
    pub mismatched: u64,
    /// Queries given up.
    pub lost: u64,
    /// Messages that no outstanding query waited for: late, duplicates, strangers'.
    pub late: u64,
    /// Queries made that the kernel did not take; they are not among those sent.
    pub unsent: u64,
    /// ICMP errors, or streams that failed or were closed: nobody listens at a target, or no
    /// longer. The queries concerned are lost after a while.
    pub refused: u64,
}

impl Counts {
    /// Right answers per second, had they taken `elapsed`.
    pub fn rate(&self, elapsed: Duration) -> f64 {
        let seconds = elapsed.as_secs_f64();
        if seconds > 0.0 { self.answered as f64 / seconds } else { 0.0 }
    }
}

/// A look at a client that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Since the first query.
    pub elapsed: Duration,
    /// Since then.
    pub counts: Counts,
}

/// The outcome of a run.
#[derive(Clone, Debug)]
pub struct Summary {
    /// From the first query to the last right answer; zero if there was none.
    pub elapsed: Duration,
    /// Counters.
    pub counts: Counts,
    /// Latencies of the right answers, in nanoseconds.
    pub latency: Histogram<u64>,
}

impl Summary {
    /// Right answers per second.
    pub fn rate(&self) -> f64 {
        self.counts.rate(self.elapsed)
    }
}

/// A running client. Dropping it lets it run to its end unobserved.
pub struct Client {
    progress: Receiver<Progress>,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Summary>>,
}

impl Client {
    /// Opens the sockets and starts to ask.
    ///
    /// # Errors
    /// `InvalidInput`: no target, socket or query outstanding, more than 4,096 outstanding a
    /// socket, or a core that is not there. Otherwise no route to a target, or no descriptor, port
    /// or thread is left.
    pub fn start(mut options: ClientOptions) -> io::Result<Self> {
        let invalid = |text: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        options.sockets = options.sockets.min(options.outstanding);
        if options.targets.is_empty() || options.sockets == 0 {
            return invalid("a client needs a target, a socket and an outstanding query");
        }
        if options.outstanding.div_ceil(options.sockets) > SLOTS_MAX {
            return invalid("at most 4,096 outstanding queries a socket: use more sockets");
        }
        options.core.map_or(Ok(()), super::check_core)?;
        let poll = Poll::new()?;
        let connections = connect(&options, poll.registry())?;
        let (sender, progress) = crossbeam_channel::bounded(PROGRESS_MAX);
        let stopping = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stopping);
        let thread = thread::Builder::new().name("client".into()).spawn(move || {
            options.core.map_or(Ok(()), cpu::pin)?;
            Driver::new(options, connections).run(poll, &until, &sender)
        })?;
        Ok(Self { progress, stopping, thread })
    }

    /// A look about every 100 ms, until the run ends. Looks that nobody takes are not kept.
    pub fn progress(&self) -> &Receiver<Progress> {
        &self.progress
    }

    /// Asks no more from now on; what is outstanding is still waited for.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// The thread could not be pinned to its core, or polling failed.
    pub fn join(self) -> io::Result<Summary> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the client panicked")))
    }
}

/// A socket.
enum Link {
    Datagrams(UdpSocket),
    Stream(MessageStream),
    /// A stream that has failed and is to be opened anew.
    Broken,
}

/// One socket and what is outstanding on it.
struct Connection {
    target: SocketAddr,
    link: Link,
    flight: Flight,
    ready: bool,
}

/// Opens all sockets and shares the outstanding queries out among them.
fn connect(options: &ClientOptions, registry: &mio::Registry) -> io::Result<Vec<Connection>> {
    let (each, more) =
        (options.outstanding / options.sockets, options.outstanding % options.sockets);
    let targets = options.targets.iter().cycle();
    targets
        .take(options.sockets)
        .enumerate()
        .map(|(i, &target)| {
            let link = open(target, options.tcp, registry, Token(i))?;
            let slots = each + usize::from(i < more);
            Ok(Connection { target, link, flight: Flight::new(slots), ready: false })
        })
        .collect()
}

fn open(target: SocketAddr, tcp: bool, registry: &mio::Registry, token: Token) -> io::Result<Link> {
    if tcp {
        let socket = TcpStream::from_std(socket::tcp_connecting(target, None)?);
        return MessageStream::new(socket, registry, token).map(Link::Stream);
    }
    let socket = socket::udp_connected(target, None)?;
    registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
    Ok(Link::Datagrams(socket))
}

/// The thread's state.
struct Driver {
    options: ClientOptions,
    connections: Vec<Connection>,
    maker: QueryMaker,
    clock: Clock,
    tally: Tally,
    /// Queries that may still be made.
    budget: u64,
    inbox: RecvBatch,
    outbox: QueryBatch,
    /// The slots filled for the batch in the making.
    launched: Vec<u16>,
}

impl Driver {
    fn new(options: ClientOptions, connections: Vec<Connection>) -> Self {
        let latency = Histogram::new_with_bounds(1, nanos(LATENCY_MAX), DIGITS)
            .expect("the bounds are constants in range");
        Self {
            maker: QueryMaker::new(options.seed),
            budget: options.queries.unwrap_or(u64::MAX),
            options,
            connections,
            clock: Clock::start(),
            tally: Tally { counts: Counts::default(), latency, last_answer: Moment::ZERO },
            inbox: RecvBatch::new(BATCH, RESPONSE_LEN_MAX, false),
            outbox: QueryBatch::new(BATCH),
            launched: Vec::with_capacity(SLOTS_MAX),
        }
    }

    fn run(
        mut self,
        mut poll: Poll,
        stopping: &AtomicBool,
        progress: &Sender<Progress>,
    ) -> io::Result<Summary> {
        let mut events = Events::with_capacity(EVENTS);
        let end = Moment::ZERO.plus(self.options.duration);
        let mut tick = Moment::ZERO.plus(TICK);
        loop {
            let now = self.clock.now();
            if now >= tick {
                tick = now.plus(TICK);
                self.tick(now, progress, poll.registry());
            }
            if now >= end || stopping.load(Ordering::Acquire) {
                self.budget = 0;
            }
            for i in 0..self.connections.len() {
                self.turn(i);
            }
            if self.budget == 0 && self.connections.iter().all(|c| c.flight.is_empty()) {
                break;
            }
            // Readiness is told once: what is still ready must not wait for more to arrive.
            let busy = self.connections.iter().any(|connection| connection.ready);
            let patience = if busy { Duration::ZERO } else { TICK };
            if let Err(error) = poll.poll(&mut events, Some(patience))
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            for event in &events {
                self.connections[event.token().0].ready = true;
            }
        }
        Ok(Summary {
            elapsed: self.tally.last_answer.since(Moment::ZERO),
            counts: self.tally.counts,
            latency: self.tally.latency,
        })
    }

    /// Gives up what has waited too long, opens broken streams anew, and tells how it goes.
    fn tick(&mut self, now: Moment, progress: &Sender<Progress>, registry: &mio::Registry) {
        for (i, connection) in self.connections.iter_mut().enumerate() {
            self.tally.counts.lost += connection.flight.give_up(now, self.options.patience);
            if let Link::Broken = connection.link {
                // Without a descriptor or a route it is tried again at the next tick.
                let opened = open(connection.target, true, registry, Token(i));
                connection.link = opened.unwrap_or(Link::Broken);
            }
            // A refusal can end a batch before its time, and hide what has arrived behind it.
            connection.ready = true;
        }
        let elapsed = now.since(Moment::ZERO);
        // A full channel means that nobody looks, a closed one that nobody will.
        let _ = progress.try_send(Progress { elapsed, counts: self.tally.counts });
    }

    /// Takes in one batch if there is one, and fills the free slots.
    fn turn(&mut self, index: usize) {
        if self.connections[index].ready {
            self.receive(index);
        }
        let Connection { link, flight, .. } = &self.connections[index];
        if self.budget > 0 && flight.vacancies() > 0 && !matches!(link, Link::Broken) {
            self.send(index);
        }
    }

    fn receive(&mut self, index: usize) {
        let Connection { link, flight, ready, .. } = &mut self.connections[index];
        match link {
            Link::Datagrams(socket) => {
                let received = match self.inbox.recv(socket.as_fd()) {
                    Ok(received) => received,
                    Err(error) => {
                        // Anything but an empty queue is an ICMP error, which is consumed by now.
                        *ready = error.kind() != io::ErrorKind::WouldBlock;
                        self.tally.counts.refused += u64::from(*ready);
                        return;
                    }
                };
                *ready = received == self.inbox.capacity();
                let now = self.clock.now();
                for i in 0..received {
                    self.tally.note(flight.land(self.inbox.datagram(i).bytes, now), now);
                }
            }
            Link::Stream(stream) => {
                let received = stream.flush().and_then(|()| stream.receive());
                *ready = matches!(received, Ok(true));
                let now = self.clock.now();
                while let Some(message) = stream.message() {
                    self.tally.note(flight.land(message, now), now);
                }
                if received.is_err() {
                    self.tally.counts.refused += 1;
                    *link = Link::Broken;
                }
            }
            Link::Broken => *ready = false,
        }
    }

    fn send(&mut self, index: usize) {
        let Connection { link, flight, .. } = &mut self.connections[index];
        let now = self.clock.now();
        self.launched.clear();
        while self.budget > 0 {
            let Some(slot) = flight.launch(&mut self.maker, now) else { break };
            self.launched.push(slot);
            self.budget -= 1;
        }
        let packets = self.launched.iter().map(|&slot| flight.packet(slot));
        let outcome = match link {
            Link::Datagrams(socket) => {
                self.outbox.send(socket.as_fd(), packets, false).map(|outcome| outcome.dropped)
            }
            Link::Stream(stream) => {
                packets.for_each(|packet| stream.push(packet));
                stream.flush().map(|()| 0)
            }
            Link::Broken => unreachable!("a broken link is not sent on"),
        };
        let counts = &mut self.tally.counts;
        let unsent = outcome.unwrap_or_else(|_| {
            // How many left before the error is unknown; those that did not will be lost.
            counts.refused += 1;
            if let Link::Stream(_) = link {
                *link = Link::Broken;
            }
            0
        });
        let (sent, kept) = self.launched.split_at(self.launched.len() - unsent);
        counts.sent += sent.len() as u64;
        counts.unsent += kept.len() as u64;
        self.budget = self.budget.saturating_add(kept.len() as u64);
        for &slot in kept {
            flight.recall(slot);
        }
    }
}

/// Counters in progress.
struct Tally {
    counts: Counts,
    latency: Histogram<u64>,
    last_answer: Moment,
}

impl Tally {
    /// A message has come in.
    fn note(&mut self, landing: Landing, now: Moment) {
        match landing {
            Landing::Answered(latency) => {
                self.counts.answered += 1;
                self.latency.saturating_record(nanos(latency));
                self.last_answer = now;
            }
            Landing::Mismatched => self.counts.mismatched += 1,
            Landing::Unknown => self.counts.late += 1,
        }
    }
}
