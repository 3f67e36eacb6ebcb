//! The event loop of one upstream thread.
//!
//! Each endpoint (one address, both transports) is served one batch a turn, and so are its
//! connections ([`Peers`]). Delayed responses are sent when they are due. Nothing is allocated per
//! query.

use super::delayed::{Delayed, Recipient};
use super::desk::{Desk, RESPONSE_ROOM};
use super::endpoint::{Binding, Endpoint, flush};
use super::live::Live;
use super::peers::Peers;
use super::quic::QuicPeers;
use super::{Options, Seen};
use crate::clock::Clock;
use crate::sys::mmsg::{RecvBatch, ReplyBatch};
use crate::sys::timer::Timer;
use crossbeam_channel::{Receiver, Sender};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

/// Datagrams per call: the maximum burst of one turn of a forwarder.
const BATCH: usize = 64;
/// Maximum length of a query; longer ones are cut, and none of those is meaningful.
const QUERY_LEN_MAX: usize = 4096;
/// Events per call of `epoll_wait`; more wait for the next.
const EVENTS: usize = 256;
/// Maximum number of batches taken from a socket at the stop: a full buffer holds fewer, and a
/// client that goes on sending must not delay the stop.
const DRAIN_TURNS_MAX: usize = 1024;
/// Time before a delayed response is due in which its thread busy-waits, because waking up takes
/// time.
const SPIN: Duration = Duration::from_micros(50);

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
    /// Creates the thread's state and watches the sockets.
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
        let (over_quic, over_tcp) = match &options.tls {
            Some(tls) if tls.is_quic() => (Some(tls), None),
            tls => (None, tls.clone()),
        };
        let endpoints = bindings.into_iter().enumerate();
        let endpoints = endpoints.map(|(i, binding)| {
            let quic = over_quic.map(|tls| QuicPeers::new(tls, clock)).transpose()?;
            Endpoint::new(binding, i, &poll, quic)
        });
        let endpoints = endpoints.collect::<io::Result<Vec<_>>>()?;
        let token = Token(2 * endpoints.len() + 1);
        let fd = timer.as_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        let peers = Peers::new(2 * endpoints.len() + 2, over_tcp, options.doh);
        let scripts: Vec<_> = options.services.iter().map(|it| Arc::clone(&it.script)).collect();
        let desk = Desk::new(&scripts, seed);
        let live = endpoints.iter().map(|_| Live::default()).collect();
        let delayed = Delayed::default();
        Ok(Self { poll, timer, endpoints, peers, desk, delayed, clock, live, requests })
    }

    /// Returns the waker of the thread; call it only once.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), Token(2 * self.endpoints.len()))
    }

    /// Returns the published counters of each endpoint, in order.
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
            self.meet_deadlines(&mut replies);
            while let Ok(request) = self.requests.try_recv() {
                self.drain(&mut batch, &mut replies);
                self.publish();
                // The requester may have been dropped meanwhile.
                let _ = request.send(());
            }
            self.publish();
            if stopping() {
                break;
            }
        }
        self.drain(&mut batch, &mut replies);
        let now = self.clock.now();
        self.endpoints.iter_mut().filter_map(|it| it.quic.as_mut()).for_each(|it| it.finish(now));
        self.meet_deadlines(&mut replies);
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

    /// Sleeps until the next event or deadline.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        // Readiness is reported once: a socket that is still ready must not wait for another
        // datagram.
        let mut awake =
            self.peers.is_busy() || self.endpoints.iter().any(|endpoint| endpoint.ready);
        let quic = self.endpoints.iter().filter_map(|endpoint| endpoint.quic.as_ref());
        let deadlines = quic.filter_map(QuicPeers::next_deadline);
        let due = deadlines.chain(self.delayed.next()).min();
        if let Some(due) = due.filter(|_| !awake) {
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
                    seen.counts.connections += self.peers.accept(token / 2, acceptor, registry);
                }
                None => self.peers.note(event.token()),
            }
        }
    }

    /// Handles the deadlines of QUIC that have passed, and sends what is due there.
    fn meet_deadlines(&mut self, replies: &mut ReplyBatch) {
        let now = self.clock.now();
        let Self { endpoints, desk, delayed, .. } = self;
        for (number, endpoint) in endpoints.iter_mut().enumerate() {
            let is_due = |quic: &QuicPeers| {
                quic.is_busy() || quic.next_deadline().is_some_and(|due| due <= now)
            };
            if endpoint.quic.as_ref().is_some_and(is_due) {
                endpoint.on_time(now, number as u16, desk, delayed, replies);
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
                    // Responses of one endpoint mostly follow each other.
                    let same = matches!(delayed.peek(now), Some(next) if next == endpoint);
                    if !same || replies.is_full() {
                        flush(replies, socket, &mut seen.counts);
                    }
                }
                Recipient::Stream { endpoint, key, stream } => {
                    let Endpoint { quic, seen, .. } = &mut endpoints[usize::from(endpoint)];
                    if let Some(quic) = quic
                        && quic.answer(now, (key, stream), response)
                    {
                        seen.counts.responses += 1;
                    }
                }
                Recipient::Connection { slot, serial, request } => {
                    if let Some(endpoint) = peers.send((slot, serial), request, response) {
                        endpoints[endpoint].seen.counts.responses += 1;
                    }
                }
            }
        }
    }
}
