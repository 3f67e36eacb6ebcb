//! Messages between the keeper, the workers, the writer and the admin.
//!
//! Plain messages over bounded channels that no worker ever waits on while it serves. A thread that
//! sleeps in its poll is woken by a [`mio::Waker`], so a message and its wake-up travel together:
//! in a [`Mailbox`] to a worker, in a [`KeeperMailbox`] to the keeper, in an [`AdminMailbox`] to
//! the admin. Nothing here knows the meaning of the messages. [`Reloads`] holds the counters that
//! the first thread shares with the others.

mod loads;
mod reloads;
pub(crate) mod snapshot;
mod transfers;

pub(crate) use loads::{
    DirectoryState, Load, LoadState, Loads, ZoneCounters, ZoneLoads, ZoneState,
};
pub(crate) use reloads::Reloads;
pub(crate) use transfers::{PartEnd, Results, TransferMailbox, TransferOrder, TransferPart};

use crate::config::{Config, Endpoint, Name, Protocol};
use crate::engine::cache::SharedCaches;
use crate::engine::data::{Contents, Data};
use crate::engine::errors::QueryError;
use crate::engine::forwarder::{Notified, Parts};
use crate::engine::health::{HealthStates, Remark};
use crate::engine::journal::Page as JournalPage;
use crate::engine::key::Sweep;
use crate::engine::proxy::Flaw;
use crate::moment::Moment;
use crate::quic::Keys;
use crate::tls::Setup;
use crossbeam_channel::{Receiver, SendError, Sender, TryRecvError, TrySendError};
use snapshot::Snapshot;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// To a worker.
#[derive(Debug)]
pub(crate) enum ToWorker {
    /// The deadline set with [`ToKeeper::Wake`] has passed.
    Sweep(Sweep),
    /// Send a copy of the counters.
    Report {
        /// Destination of the report.
        to: Sender<Box<Snapshot>>,
        /// Reset the sketches of the most frequent keys afterwards.
        forget: bool,
    },
    /// Use a newly loaded snapshot of a source.
    Data {
        /// The source's number.
        source: u64,
        /// The snapshot.
        contents: Contents,
    },
    /// Messages of a zone transfer for a client.
    Transfer(TransferPart),
    /// Switch to a new configuration.
    Reload(Box<Reload>),
    /// Read no more queries, finish outstanding ones, and leave.
    Drain,
}

/// Configuration and data of a worker.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    /// The configuration, as far as this worker is concerned.
    pub(crate) config: Arc<Config>,
    /// Generation number of the configuration.
    pub(crate) generation: u32,
    /// Health state of the upstreams.
    pub(crate) health_states: Arc<HealthStates>,
    /// The caches, which all workers share.
    pub(crate) caches: SharedCaches,
    /// Certificates and keys.
    pub(crate) tls: Arc<Setup>,
    /// For each of the worker's listeners its number in the configuration; `None`: in none.
    pub(crate) listeners: Vec<Option<usize>>,
    /// Loaded data, by slot.
    pub(crate) data: Vec<Supply>,
    /// Keys for clients over QUIC.
    pub(crate) quic: Arc<Keys>,
}

impl Assignment {
    /// Switches to `new` and leaves the old assignment in it. Snapshots that arrived meanwhile are
    /// newer than those that came with `new`, and are kept.
    pub(crate) fn exchange(&mut self, new: &mut Self) {
        let places: HashMap<_, _> = self.data.iter().map(|own| own.source).zip(0..).collect();
        for supply in &mut new.data {
            let place: Option<usize> = places.get(&supply.source).copied();
            let newer = place.and_then(|place| self.data[place].contents.take());
            supply.contents = newer.or(supply.contents.take());
        }
        std::mem::swap(self, new);
    }

    /// Passes the notification of a primary to the loader of the zone. Returns false if the loader
    /// has no room for it now.
    pub(crate) fn pass_notified(&self, notified: &Notified) -> bool {
        let slot = self.config.hosts_sources().len() + notified.slot;
        self.data.get(slot).is_none_or(|supply| supply.notify(notified))
    }

    /// Puts the loaded snapshots into their slots.
    pub(crate) fn fill(&self, data: &mut Data) {
        for (slot, supply) in self.data.iter().enumerate() {
            supply.contents.iter().for_each(|contents| data.set(slot, contents.clone()));
        }
    }
}

/// Data of a slot.
#[derive(Clone, Debug)]
pub(crate) struct Supply {
    /// Number of the source, unique for the life of the process.
    pub(crate) source: u64,
    /// The snapshot. `None`: the worker has it already, or nothing is loaded yet.
    pub(crate) contents: Option<Contents>,
    /// The loader, for notifications of primaries.
    pub(crate) notified: Sender<Notified>,
}

impl Supply {
    /// Passes a notification to the loader. Returns false if it has no room.
    fn notify(&self, notified: &Notified) -> bool {
        let sent = self.notified.try_send(notified.clone());
        // A loader that has ended has no zone any more.
        !matches!(sent, Err(TrySendError::Full(_)))
    }
}

/// A worker's sockets for the listener with this number and protocol: those of its layers.
pub(crate) type Sockets = (usize, Protocol, Option<UdpSocket>, Option<TcpListener>);

/// A new assignment for a running worker.
#[derive(Debug)]
pub(crate) struct Reload {
    pub(crate) assignment: Assignment,
    /// The parts of the engine that depend on the configuration.
    pub(crate) parts: Box<Parts>,
    /// Sockets that replace those of the same listeners.
    pub(crate) sockets: Vec<Sockets>,
    /// Receives the replaced data when the assignment has taken effect.
    pub(crate) done: Sender<Remains>,
}

/// Data that a [`Reload`] replaced, to be freed by a thread that serves no queries: the assignment
/// that was replaced or refused, and the engine's parts.
pub(crate) type Remains = (Assignment, Box<Parts>);

/// To the keeper.
#[derive(Debug)]
pub(crate) enum ToKeeper {
    /// Take over the upstreams of a new configuration. Sent before any worker gets it.
    Reload {
        /// The configuration.
        config: Arc<Config>,
        /// Health state of its upstreams, all unknown yet.
        health_states: Arc<HealthStates>,
        /// Certificates and keys.
        tls: Arc<Setup>,
        /// Notified when the state has been carried over.
        done: Sender<()>,
    },
    /// Send `Sweep(sweep)` to this worker at that moment, instead of the one set before.
    Wake {
        worker: usize,
        /// Pool or cache to sweep.
        sweep: Sweep,
        /// Time of the sweep.
        at: Moment,
    },
    /// An exchange with this upstream failed: probe it.
    Failed {
        /// Number of the upstream, in the order of the configuration.
        upstream: usize,
    },
    /// Connections to this upstream were closed for `max_age`.
    Retired {
        /// Number of the upstream, in the order of the configuration.
        upstream: usize,
        /// Number of connections since the last message of this worker.
        count: u64,
    },
    /// A worker panicked and was restarted.
    Panicked {
        worker: usize,
        /// Message of the panic.
        message: String,
    },
    /// An upstream sends odd responses.
    Odd(Remark),
    /// A header of the PROXY protocol was refused.
    BadHeader {
        /// Sender of the header.
        peer: SocketAddr,
        /// Reason of the refusal.
        flaw: Flaw,
        /// True: the datagram was dropped. False: the connection was closed.
        is_datagram: bool,
        /// Number of others since the last message of this worker.
        others: u64,
    },
    /// Queries for names below this one fill the table of outstanding queries of a worker.
    Flood {
        /// The name above all of them.
        zone: Name,
    },
    /// Queries of a server block are in a forwarding loop.
    Looping {
        /// Text for the operator.
        message: String,
    },
    /// Clients exceed a limit of a server block.
    Limited {
        /// Zones of the server block.
        zones: String,
        /// Prefix of the client: its first address, and its length.
        prefix: (IpAddr, u8),
        /// Name of the limit.
        limit: &'static str,
    },
    /// A worker has ended.
    Left,
    /// Drain all workers, and end when the last has left.
    Stop,
}

/// To the writer.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a box would be an allocation for each record")]
pub(crate) enum ToWriter {
    /// A query was answered with a locally made error.
    Failed {
        /// Generation of the configuration that the record refers to.
        generation: u32,
        /// The record.
        error: QueryError,
    },
    /// A page of a worker's journal.
    Page {
        /// Generation of the configuration that the records refer to.
        generation: u32,
        page: JournalPage,
        /// Destination of the empty page.
        home: Sender<JournalPage>,
    },
    /// Number of errors dropped because the writer's queue was full.
    Lost(u64),
}

/// Mailbox of the writer. The writer ends when the last of these is dropped.
#[derive(Clone, Debug)]
pub struct WriterMailbox {
    sender: Sender<ToWriter>,
}

impl WriterMailbox {
    /// Creates a mailbox for `capacity` messages, and its receiver.
    pub(crate) fn new(capacity: usize) -> (Self, Receiver<ToWriter>) {
        let (sender, receiver) = crossbeam_channel::bounded(capacity);
        (Self { sender }, receiver)
    }

    /// Puts `message` in; returns false if there is no room. Never waits. A message to a writer
    /// that has ended is discarded and counts as sent, because retrying is useless.
    pub(crate) fn try_send(&self, message: ToWriter) -> bool {
        !matches!(self.sender.try_send(message), Err(TrySendError::Full(_)))
    }

    /// Puts a page in, and returns it if there is no room.
    ///
    /// # Errors
    /// The page.
    pub fn try_send_page(
        &self,
        generation: u32,
        page: JournalPage,
        home: &Sender<JournalPage>,
    ) -> Result<(), JournalPage> {
        let home = home.clone();
        match self.sender.try_send(ToWriter::Page { generation, page, home }) {
            Err(TrySendError::Full(ToWriter::Page { page, .. })) => Err(page),
            _ => Ok(()),
        }
    }
}

/// To the admin.
#[derive(Debug)]
pub(crate) enum ToAdmin {
    /// Report on this configuration from now on.
    Reload {
        /// The configuration.
        config: Arc<Config>,
        /// Health state of the upstreams.
        health_states: Arc<HealthStates>,
        /// All listeners; others are closed.
        admin_listeners: Vec<AdminListener>,
    },
    /// The process is about to stop, though it still serves.
    Stopping,
    /// Answer pending requests, and end.
    Stop,
}

/// An HTTP listener and its endpoints.
#[derive(Debug)]
pub(crate) struct AdminListener {
    /// Number of the socket, unchanged as long as it is open.
    pub(crate) number: usize,
    /// Endpoints of the listener.
    pub(crate) pages: Vec<Endpoint>,
    /// The socket, if it is new.
    pub(crate) socket: Option<TcpListener>,
}

#[derive(Debug)]
pub(crate) struct AdminMailbox {
    sender: Sender<ToAdmin>,
    waker: Arc<mio::Waker>,
}

/// The admin's end of its mailbox.
#[derive(Debug)]
pub(crate) struct AdminMail {
    messages: Receiver<ToAdmin>,
    /// Keeps the waker alive: if it were dropped before the admin polls, the wake-up would be lost.
    _waker: Arc<mio::Waker>,
}

impl AdminMailbox {
    /// Creates a mailbox for `capacity` messages that wakes `waker`, and its receiver.
    pub(crate) fn new(capacity: usize, waker: mio::Waker) -> (Self, AdminMail) {
        let (sender, messages) = crossbeam_channel::bounded(capacity);
        let waker = Arc::new(waker);
        let mail = AdminMail { messages, _waker: Arc::clone(&waker) };
        (Self { sender, waker }, mail)
    }

    /// Puts `message` in and wakes the admin. Waits for room, which the admin makes within a turn;
    /// a message to an admin that has ended is discarded.
    pub(crate) fn deliver(&self, message: ToAdmin) {
        if self.sender.send(message).is_ok() {
            let _ = self.waker.wake();
        }
    }
}

impl AdminMail {
    /// Returns the next message.
    ///
    /// # Errors
    /// The mailbox is empty, or all senders are dropped.
    pub(crate) fn try_next(&self) -> Result<ToAdmin, TryRecvError> {
        self.messages.try_recv()
    }
}

/// Mailbox of one worker.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    sender: Sender<ToWorker>,
    waker: Arc<mio::Waker>,
}

impl Mailbox {
    /// Creates a mailbox for `capacity` messages that wakes `waker`, and its receiver.
    pub(crate) fn new(capacity: usize, waker: mio::Waker) -> (Self, Receiver<ToWorker>) {
        let (sender, receiver) = crossbeam_channel::bounded(capacity);
        (Self { sender, waker: Arc::new(waker) }, receiver)
    }

    /// Puts `message` in and wakes the worker; gives it back when there is no room. A message to a
    /// worker that has left is discarded.
    ///
    /// # Errors
    /// The mailbox is full.
    pub(crate) fn send(&self, message: ToWorker) -> Result<(), ToWorker> {
        match self.sender.try_send(message) {
            Ok(()) => {
                // Fails only when the kernel is out of memory; the worker then finds the message in
                // its next turn.
                let _ = self.waker.wake();
                Ok(())
            }
            Err(TrySendError::Full(message)) => Err(message),
            Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }

    /// As [`Mailbox::send`], but waits for room: for messages that must not be lost, from a thread
    /// that serves no client.
    pub(crate) fn deliver(&self, message: ToWorker) {
        if self.sender.send(message).is_ok() {
            let _ = self.waker.wake();
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct KeeperMailbox {
    sender: Sender<ToKeeper>,
    /// Declared after the sender, so that it rings after the last sender is dropped.
    keeper_waker: KeeperWaker,
}

/// The keeper's end of its mailbox.
#[derive(Debug)]
pub(crate) struct KeeperMail {
    messages: Receiver<ToKeeper>,
    /// Keeps the waker alive: if it were dropped before the keeper polls, the wake-up would be
    /// lost.
    keeper_waker: KeeperWaker,
}

impl KeeperMailbox {
    /// Creates a mailbox for `capacity` messages that wakes `waker`, and its receiver.
    pub(crate) fn new(capacity: usize, waker: mio::Waker) -> (Self, KeeperMail) {
        let (sender, messages) = crossbeam_channel::bounded(capacity);
        let keeper_waker = KeeperWaker { rung: Arc::default(), waker: Arc::new(waker) };
        (Self { sender, keeper_waker: keeper_waker.clone() }, KeeperMail { messages, keeper_waker })
    }

    /// Puts `message` in and wakes the keeper, unless it is awake already. Never waits.
    ///
    /// # Errors
    /// The mailbox is full, or the keeper has ended.
    pub(crate) fn try_send(&self, message: ToKeeper) -> Result<(), TrySendError<ToKeeper>> {
        self.sender.try_send(message)?;
        self.keeper_waker.ring();
        Ok(())
    }

    /// As [`KeeperMailbox::try_send`], but waits for room: for messages that must not be lost. The
    /// wait ends, because the keeper waits for no thread.
    ///
    /// # Errors
    /// The keeper has ended.
    pub(crate) fn send(&self, message: ToKeeper) -> Result<(), SendError<ToKeeper>> {
        self.sender.send(message)?;
        self.keeper_waker.ring();
        Ok(())
    }
}

impl KeeperMail {
    /// Marks the keeper as awake before it reads all messages: later senders wake it again.
    pub(crate) fn unring(&self) {
        self.keeper_waker.rung.swap(false, Ordering::AcqRel);
    }

    /// Returns the next message.
    ///
    /// # Errors
    /// The mailbox is empty, or all senders are dropped.
    pub(crate) fn try_next(&self) -> Result<ToKeeper, TryRecvError> {
        self.messages.try_recv()
    }
}

/// Wakes the keeper once for any number of messages: a wake-up is a system call.
#[derive(Clone, Debug)]
struct KeeperWaker {
    /// Set from the wake-up until the keeper begins to read. A sender that finds it set has put its
    /// message in before the keeper reads.
    rung: Arc<AtomicBool>,
    waker: Arc<mio::Waker>,
}

impl KeeperWaker {
    fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) && self.waker.wake().is_err() {
            // The kernel is out of memory: the next sender tries again.
            self.rung.store(false, Ordering::Release);
        }
    }
}

impl Drop for KeeperWaker {
    fn drop(&mut self) {
        self.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::{KeeperMailbox, Supply, ToKeeper};
    use crate::config::Name;
    use crate::engine::forwarder::Notified;
    use crossbeam_channel::{TryRecvError, TrySendError};
    use mio::{Events, Poll, Token, Waker};
    use std::time::Duration;

    fn is_woken(poll: &mut Poll) -> bool {
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        !events.is_empty()
    }

    #[test]
    fn a_notification_without_room_is_not_passed_and_one_without_a_loader_is_gone() {
        let (notified, loader) = crossbeam_channel::bounded(1);
        let supply = Supply { source: 1, contents: None, notified };
        let (zone, primary) = (Name::parse("z").unwrap(), [192, 0, 2, 1].into());
        let notified = Notified { slot: 0, zone, serial: None, primary };
        assert_eq!([(); 2].map(|()| supply.notify(&notified)), [true, false]);
        assert_eq!(loader.recv().unwrap(), notified);
        assert!(supply.notify(&notified));
        drop(loader);
        assert!(supply.notify(&notified));
    }

    #[test]
    fn many_messages_wake_the_keeper_once_until_it_reads() {
        let mut poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), Token(0)).unwrap();
        let (mailbox, mail) = KeeperMailbox::new(3, waker);
        assert!(!is_woken(&mut poll));
        mailbox.try_send(ToKeeper::Failed { upstream: 0 }).unwrap();
        assert!(is_woken(&mut poll));
        mailbox.try_send(ToKeeper::Failed { upstream: 1 }).unwrap();
        mailbox.send(ToKeeper::Stop).unwrap();
        assert!(!is_woken(&mut poll), "it knows already");
        let full = mailbox.try_send(ToKeeper::Stop);
        assert!(matches!(full, Err(TrySendError::Full(ToKeeper::Stop))), "{full:?}");
        mail.unring();
        assert!(matches!(mail.try_next(), Ok(ToKeeper::Failed { upstream: 0 })));
        mailbox.try_send(ToKeeper::Failed { upstream: 2 }).unwrap();
        assert!(is_woken(&mut poll), "it has begun to read");
        assert_eq!(std::iter::from_fn(|| mail.try_next().ok()).count(), 3);
        assert_eq!(mail.try_next().unwrap_err(), TryRecvError::Empty);
    }

    #[test]
    fn the_last_mailbox_to_go_wakes_the_keeper_to_see_it() {
        let mut poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), Token(0)).unwrap();
        let (mailbox, mail) = KeeperMailbox::new(1, waker);
        drop(mailbox.clone());
        mail.unring();
        assert_eq!(mail.try_next().unwrap_err(), TryRecvError::Empty);
        assert!(is_woken(&mut poll));
        drop(mailbox);
        assert!(is_woken(&mut poll));
        assert_eq!(mail.try_next().unwrap_err(), TryRecvError::Disconnected);
    }
}
