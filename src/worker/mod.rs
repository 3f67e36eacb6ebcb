//! A worker: one thread, on one core, with its own sockets, engine and counters.
//!
//! [`WorkerSlot`] holds the state that survives a panic: the listeners (so that queries in their
//! queues are not lost), the poll, the mailbox, and the links to other threads.
//! [`WorkerSlot::work`] is the body of the thread: it pins the thread, builds a `turn::EventLoop`
//! over the slot and runs it until the worker must stop. A panic is counted and reported, and the
//! event loop is built again; other workers are not affected. A worker moves bytes between sockets
//! and the engine, which makes all decisions about a query. Each part has a file: `listeners`,
//! `client_side` (over `clients`), `upstream_side` (over `sockets`), and a link to each other
//! thread; `turn`, `reload`, `report` and `shell` connect them.

mod client_side;
mod clients;
mod handshake_budget;
mod keeper_link;
mod listeners;
mod memory;
mod proxy_alarm;
mod reload;
mod report;
mod requests;
mod shell;
mod sockets;
mod tcp;
mod token;
mod transfer_link;
mod turn;
mod upstream_http;
mod upstream_quic;
mod upstream_side;
mod writer_link;

pub(crate) use memory::Memory;
pub use memory::measure;

use crate::clock::Clock;
use crate::control::snapshot::LoopStats;
use crate::control::{
    Assignment, KeeperMailbox, Mailbox, Sockets, ToWorker, TransferMailbox, WriterMailbox,
};
use crate::engine::Forwarder;
use crate::engine::errors::Fault;
use crate::sys::{cpu, random};
use crossbeam_channel::{Receiver, Sender};
use keeper_link::KeeperLink;
use listeners::Listeners;
use mio::Poll;
use report::PastCounters;
use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use token::Token;
use transfer_link::TransferLink;
use turn::EventLoop;
use writer_link::WriterLink;

/// Capacity of a worker's mailbox, in addition to one message per upstream.
const MAIL_SPARE: usize = 64;

/// I/O options of a worker, independent of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoOptions {
    /// Time for which the worker polls without sleeping after its last event.
    pub busy_poll: Duration,
    /// Datagrams of equal length to one destination may be sent with one call (UDP GSO).
    pub gso: bool,
}

impl Default for IoOptions {
    /// Default options: no busy-poll, GSO if the kernel supports it.
    fn default() -> Self {
        Self { busy_poll: Duration::ZERO, gso: true }
    }
}

/// The state of a worker that exists before its event loop and survives a panic.
pub(crate) struct WorkerSlot {
    number: usize,
    assignment: Assignment,
    clock: Clock,
    /// A listener that has no number in the assignment only sends remaining replies.
    listeners: Listeners,
    poll: Poll,
    mail: Receiver<ToWorker>,
    keeper: KeeperLink,
    writer: WriterLink,
    transfers: TransferLink,
    draining: bool,
    core: Option<usize>,
    io_options: IoOptions,
    loops: LoopStats,
    past: PastCounters,
}

impl WorkerSlot {
    /// Creates a slot for worker `number`, and its mailbox.
    ///
    /// # Errors
    /// The kernel refused an epoll descriptor or a registration, because the limit of open files is
    /// reached.
    pub(crate) fn new(
        number: usize,
        assignment: Assignment,
        sockets: Vec<Sockets>,
        clock: Clock,
        keeper: KeeperMailbox,
        (writer, transfers): (WriterMailbox, TransferMailbox),
    ) -> io::Result<(Self, Mailbox)> {
        let poll = Poll::new()?;
        let count = assignment.listeners.len();
        let listeners = Listeners::new(count, sockets, poll.registry())?;
        let waker = mio::Waker::new(poll.registry(), Token::Mailbox.pack())?;
        let upstreams = assignment.config.upstreams().count();
        let (mailbox, mail) = Mailbox::new(upstreams + MAIL_SPARE, waker);
        let slot = Self {
            number,
            clock,
            listeners,
            poll,
            mail,
            keeper: KeeperLink::new(number, keeper),
            writer: WriterLink::new(writer, assignment.generation, &assignment.config),
            transfers: TransferLink::new(transfers, mailbox.clone()),
            draining: false,
            core: None,
            io_options: IoOptions::default(),
            loops: LoopStats::default(),
            past: PastCounters::default(),
            assignment,
        };
        Ok((slot, mailbox))
    }

    /// Pins the calling thread to `core`, if given, and runs until the worker must stop. Sends the
    /// result of the start to `ready`.
    pub(crate) fn work(
        mut self,
        core: Option<usize>,
        io_options: IoOptions,
        ready: &Sender<io::Result<()>>,
    ) {
        (self.core, self.io_options) = (core, io_options);
        let pinned = core.map_or(Ok(()), cpu::pin);
        let begun = pinned.and_then(|()| random::seed());
        let mut seed = match begun {
            Ok(seed) => seed,
            Err(error) => return drop(ready.send(Err(error))),
        };
        // If the starter has stopped waiting, the result is not needed.
        let _ = ready.send(Ok(()));
        loop {
            let Assignment { config, health_states, listeners, caches, .. } = &self.assignment;
            let health_states = Arc::clone(health_states);
            let mut engine = Forwarder::sharing(config, listeners, seed, health_states, caches);
            self.assignment.fill(&mut engine.data);
            match self.supervise(engine) {
                Ok(()) => break,
                Err(message) => self.keeper.panicked(message),
            }
            // A new seed, because the old one would repeat ids. If getrandom failed, it would have
            // failed at the start.
            seed = random::seed().expect("the kernel has given randomness before");
        }
        self.keeper.left();
    }

    /// Returns the log text for a forwarding loop in a server block, detected by a query from
    /// `peer`.
    fn loop_text(&self, number: usize, peer: SocketAddr) -> String {
        let Some(block) = self.assignment.config.blocks.get(number) else { return String::new() };
        let zones = self.zones_of(number);
        let upstreams = block.forwards.iter().flat_map(|forward| &forward.upstreams);
        let upstreams = upstreams.map(|upstream| upstream.address.to_string());
        let upstreams = upstreams.collect::<Vec<_>>().join(" ");
        format!(
            "forwarding loop in the server block of {zones}: a query sent \
             to its upstreams ({upstreams}) came back from {peer}. Queries that this block would \
             forward get SERVFAIL until a reload changes its upstreams."
        )
    }

    /// Returns the zones of a server block, for the operator.
    fn zones_of(&self, block: usize) -> String {
        let block = self.assignment.config.blocks.get(block);
        let zones = block.into_iter().flat_map(|block| block.zones());
        zones.map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    /// Runs the event loop until the worker must stop.
    ///
    /// # Errors
    /// The text of the panic that ended the event loop; its counters are saved.
    fn supervise(&mut self, engine: Forwarder) -> Result<(), String> {
        let mut event_loop = EventLoop::new(self, engine);
        let outcome = catch_unwind(AssertUnwindSafe(|| event_loop.run()));
        event_loop.leave();
        outcome.map_err(|panic| {
            self.past.count_panic();
            panic_text(panic.as_ref())
        })
    }
}

/// Returns the message of a panic.
fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}

/// Returns the engine's fault for an error of the kernel.
pub(super) fn fault_of(error: &io::Error) -> Fault {
    error.raw_os_error().map_or(Fault::Unknown, Fault::System)
}

#[cfg(test)]
mod tests {
    use super::{IoOptions, WorkerSlot};
    use crate::clock::Clock;
    use crate::config::{Config, Host, Protocol};
    use crate::control::{
        Assignment, KeeperMail, KeeperMailbox, Reload, ToKeeper, ToWorker, TransferMailbox,
        WriterMailbox,
    };
    use crate::engine::cache::SharedCaches;
    use crate::engine::forwarder::Parts;
    use crate::engine::health::HealthStates;
    use crate::quic::Keys;
    use crate::sys::socket;
    use std::net::UdpSocket;
    use std::sync::Arc;
    use std::time::Duration;

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// A query for a zone without any directive is refused by the worker alone.
    fn is_served(client: &UdpSocket) -> bool {
        let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01";
        client.send(query).unwrap();
        let mut reply = [0; 64];
        let len = client.recv(&mut reply).unwrap();
        reply[..len].starts_with(b"\x12\x34\x81\x85")
    }

    /// Returns the next message of the worker to the keeper.
    fn next_report(poll: &mut mio::Poll, mail: &KeeperMail) -> ToKeeper {
        let mut events = mio::Events::with_capacity(1);
        loop {
            poll.poll(&mut events, Some(TIMEOUT)).unwrap();
            assert!(!events.is_empty(), "the worker reports");
            mail.unring();
            // A mailbox of the worker that is dropped wakes the keeper without a message.
            if let Ok(message) = mail.try_next() {
                return message;
            }
        }
    }

    #[test]
    fn a_worker_that_panics_is_counted_reported_and_started_afresh() {
        let listener = socket::udp_listener("127.0.0.1:0".parse().unwrap(), true).unwrap();
        let address = listener.local_addr().unwrap();
        let text = format!(".:{} {{\n bind 127.0.0.1\n}}\n", address.port());
        let (config, _) = Config::load(text.as_bytes(), "Corefile", &Host::plain()).unwrap();
        let mut poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        let (keeper, mail) = KeeperMailbox::new(8, waker);
        let acceptor = socket::tcp_listener(address, true).unwrap();
        let health_states = Arc::new(HealthStates::new(&config));
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let caches = SharedCaches::new(&config, hasher).unwrap();
        let assignment = Assignment {
            config: Arc::new(config),
            generation: 0,
            health_states,
            caches,
            tls: Arc::default(),
            listeners: vec![Some(0)],
            data: Vec::new(),
            quic: Arc::new(Keys::new(&[7; 32], 1)),
        };
        let sockets = vec![(0, Protocol::Dns, Some(listener), Some(acceptor))];
        let (writer, _records) = WriterMailbox::new(1);
        let writing = (writer, TransferMailbox::new().0);
        let (slot, mailbox) =
            WorkerSlot::new(3, assignment.clone(), sockets, Clock::start(), keeper, writing)
                .unwrap();
        let (ready, begun) = crossbeam_channel::bounded(1);
        let thread = std::thread::spawn(move || slot.work(None, IoOptions::default(), &ready));
        begun.recv_timeout(TIMEOUT).unwrap().unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(address).unwrap();
        client.set_read_timeout(Some(TIMEOUT)).unwrap();
        assert!(is_served(&client));

        // The listener number is invalid, as after a bug, so the reload panics.
        let acceptor = socket::tcp_listener("127.0.0.1:0".parse().unwrap(), true).unwrap();
        let sockets = vec![(7, Protocol::Dns, None, Some(acceptor))];
        let Assignment { config, health_states, caches, .. } = &assignment;
        let parts = Parts::new(config, &[Some(0)], Arc::clone(health_states), caches);
        let parts = Box::new(parts);
        let (done, _) = crossbeam_channel::bounded(1);
        let reload = Reload { assignment, parts, sockets, done };
        mailbox.send(ToWorker::Reload(Box::new(reload))).unwrap();
        let report = next_report(&mut poll, &mail);
        assert!(matches!(report, ToKeeper::Panicked { worker: 3, .. }), "{report:?}");
        assert!(is_served(&client));
        let (answer, answers) = crossbeam_channel::bounded(1);
        mailbox.send(ToWorker::Report { to: answer, forget: false }).unwrap();
        let stats = answers.recv_timeout(TIMEOUT).unwrap().stats;
        assert_eq!((stats.panics, stats.queries, stats.replied()), (1, 2, 2));

        mailbox.send(ToWorker::Drain).unwrap();
        let report = next_report(&mut poll, &mail);
        assert!(matches!(report, ToKeeper::Left), "{report:?}");
        thread.join().unwrap();
    }
}
