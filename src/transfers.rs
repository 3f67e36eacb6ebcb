//! Zone transfers to clients: one thread takes the orders, and each transfer has its own.
//!
//! A worker has found out who may have which zone and keeps the client's connection. Here the
//! messages are written, signed where the query was, and sent back to the worker a few at a time;
//! the next ones follow when the client has read those. At most [`TRANSFERS_MAX`] transfers run
//! at a time, and [`PER_CLIENT_MAX`] for one client: an IPv4 address, or an IPv6 network of 64
//! bits. Others are refused. A transfer whose client reads nothing for [`STALL_MAX`], or that takes
//! longer than [`TOTAL_MAX`], is cut.

use crate::clock::Clock;
use crate::config::{PRESENTATION, TEXT_LEN_MAX, spell};
use crate::control::{Loads, PartEnd, ToWorker, TransferOrder, TransferPart};
use crate::log::{Event, Level, Log};
use crate::moment::Moment;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Duration;

/// Transfers at a time: each takes a thread and a few messages.
const TRANSFERS_MAX: usize = 8;
/// Transfers for one client at a time, so that one client leaves places to others.
const PER_CLIENT_MAX: usize = TRANSFERS_MAX / 2;
/// Minimum time between two log lines about refused transfers.
const REFUSED_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Messages that a worker gets at once: they fit into what it may have for one client.
const PART_MESSAGES: usize = 3;
/// Maximum time for a client to read the messages of a part.
const STALL_MAX: Duration = Duration::from_secs(10);
/// Maximum time of a transfer.
const TOTAL_MAX: Duration = Duration::from_secs(600);
/// Bytes of the longest message.
const MESSAGE_LEN_MAX: usize = u16::MAX as usize;
/// Source of log lines.
const PLUGIN: &str = "plugin/transfer";

/// Time limits of a transfer.
#[derive(Clone, Copy)]
struct Limits {
    /// For a client to read the messages of a part.
    stall: Duration,
    /// For all of it.
    total: Duration,
}

/// Limits of every transfer.
const LIMITS: Limits = Limits { stall: STALL_MAX, total: TOTAL_MAX };

/// Result of a transfer, as metrics call it.
type Outcome = (&'static str, u64);

/// Takes orders until all workers have gone.
pub(crate) fn run(orders: &Receiver<TransferOrder>, clock: Clock, log: Log, loads: &Arc<Loads>) {
    let running = Arc::<Mutex<Vec<IpAddr>>>::default();
    let mut logged_at: Option<Moment> = None;
    for order in orders {
        let peer = order.transfer.client.peer.ip().to_canonical();
        let limit = limit_of(&lock(&running), network_of(peer));
        if let Some(limit) = limit {
            let now = clock.now();
            if logged_at.is_none_or(|at| now.since(at) >= REFUSED_LOG_INTERVAL) {
                logged_at = Some(now);
                let name = zone_of(&order);
                let text = format_args!("Refused transfer of zone \"{name}\" to {peer}: {limit}");
                log.event(&Event::new(Level::Warning, PLUGIN, &text));
            }
            refuse(&order, loads);
            continue;
        }
        let order = Arc::new(order);
        let mut own = Running::new(&running, &order);
        let loads_of_it = Arc::clone(loads);
        let transferring = move || transfer(&mut own, clock, log, &loads_of_it);
        if Builder::new().name("transfer".into()).spawn(transferring).is_err() {
            refuse(&order, loads);
        }
    }
}

/// Returns the network that counts as one client.
fn network_of(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

/// Returns the limit that a further transfer to a client would exceed.
fn limit_of(running: &[IpAddr], client: IpAddr) -> Option<String> {
    if running.len() >= TRANSFERS_MAX {
        return Some(format!("{TRANSFERS_MAX} transfers are running"));
    }
    let own = running.iter().filter(|other| **other == client).count();
    (own >= PER_CLIENT_MAX).then(|| format!("{PER_CLIENT_MAX} transfers to it are running"))
}

fn lock(running: &Mutex<Vec<IpAddr>>) -> MutexGuard<'_, Vec<IpAddr>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A transfer in progress. However it ends, its place is free again, and the client's connection
/// does not wait for messages that nobody writes.
struct Running {
    /// The clients of all transfers that run.
    clients: Arc<Mutex<Vec<IpAddr>>>,
    order: Arc<TransferOrder>,
    has_place: bool,
}

impl Running {
    fn new(clients: &Arc<Mutex<Vec<IpAddr>>>, order: &Arc<TransferOrder>) -> Self {
        let own = Self { clients: Arc::clone(clients), order: Arc::clone(order), has_place: true };
        lock(clients).push(own.client());
        own
    }

    fn client(&self) -> IpAddr {
        network_of(self.order.transfer.client.peer.ip().to_canonical())
    }

    /// Frees the place. It is free before the client has the last message, because a client with
    /// as many transfers as it may have asks for the next zone at once.
    fn leave(&mut self) {
        if std::mem::take(&mut self.has_place) {
            let client = self.client();
            let mut clients = lock(&self.clients);
            if let Some(place) = clients.iter().position(|address| *address == client) {
                clients.swap_remove(place);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.leave();
        if std::thread::panicking() {
            deliver(&self.order, Vec::new(), PartEnd::Cut);
        }
    }
}

fn zone_of(order: &TransferOrder) -> String {
    spell(order.transfer.zone.apex(), &PRESENTATION, &mut [0; TEXT_LEN_MAX]).to_owned()
}

/// Has the client get REFUSED, and counts that.
fn refuse(order: &TransferOrder, loads: &Loads) {
    loads.transfers().count(zone_of(order), "refused");
    let message = order.transfer.refusal(Clock::calendar().as_secs());
    deliver(order, vec![message], PartEnd::Last);
}

fn deliver(order: &TransferOrder, messages: Vec<Vec<u8>>, end: PartEnd) {
    let (connection, number) = (order.transfer.connection, order.number);
    let part = TransferPart { connection, number, messages, end };
    order.worker.deliver(ToWorker::Transfer(part));
}

/// One transfer, from its first message to its end.
fn transfer(own: &mut Running, clock: Clock, log: Log, loads: &Loads) {
    let order = Arc::clone(&own.order);
    let name = zone_of(&order);
    let (peer, serial) = (order.transfer.client.peer.ip(), order.transfer.zone.serial());
    let is_incremental = order.transfer.chain.is_some();
    let (mut result, records) = send(own, clock, LIMITS);
    if result == "done" {
        let kind = if is_incremental { "incremental transfer" } else { "transfer" };
        let text = format_args!(
            "Outgoing {kind} of {records} records of zone \"{name}\" to {peer} for {serial} SOA \
             serial"
        );
        result = if is_incremental { "ixfr" } else { result };
        log.event(&Event::new(Level::Info, PLUGIN, &text));
    } else {
        let text = format_args!(
            "Outgoing transfer of zone \"{name}\" to {peer} ended after {records} records: {result}"
        );
        log.event(&Event::new(Level::Warning, PLUGIN, &text));
    }
    loads.transfers().count(name, result);
}

/// Writes the messages and has the worker send them. Returns the result and the records sent.
fn send(own: &mut Running, clock: Clock, limits: Limits) -> Outcome {
    let order = &*Arc::clone(&own.order);
    let mut train = order.transfer.train();
    let mut signer = order.transfer.signer.clone();
    let spare = signer.as_ref().map_or(0, |signer| signer.room());
    let until = clock.now().plus(limits.total);
    let mut room = vec![0; MESSAGE_LEN_MAX];
    loop {
        let mut messages = Vec::with_capacity(PART_MESSAGES);
        while messages.len() < PART_MESSAGES
            && let Some(len) = train.next(&mut room, spare)
        {
            let now = Clock::calendar().as_secs();
            let signed = signer.as_mut().map(|signer| signer.sign(&mut room, len, now));
            match signed {
                None => messages.push(room[..len].to_vec()),
                Some(Some(len)) => messages.push(room[..len].to_vec()),
                Some(None) => {
                    deliver(order, messages, PartEnd::Cut);
                    return ("failed", train.records());
                }
            }
        }
        // A record that does not fit into a message with its signature ends the transfer.
        if messages.len() < PART_MESSAGES && !train.is_done() {
            deliver(order, messages, PartEnd::Cut);
            return ("failed", train.records());
        }
        let end = if train.is_done() { PartEnd::Last } else { PartEnd::Open };
        if end == PartEnd::Last {
            own.leave();
        }
        deliver(order, messages, end);
        if end == PartEnd::Last {
            return ("done", train.records());
        }
        let left = until.since(clock.now());
        match order.more.recv_timeout(limits.stall.min(left)) {
            Ok(()) if !left.is_zero() => {}
            Err(RecvTimeoutError::Disconnected) => return ("closed", train.records()),
            Ok(()) | Err(RecvTimeoutError::Timeout) => {
                deliver(order, Vec::new(), PartEnd::Cut);
                return ("timeout", train.records());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        LIMITS, Limits, PER_CLIENT_MAX, Running, TRANSFERS_MAX, lock, network_of, run, send,
    };
    use crate::clock::Clock;
    use crate::control::{Loads, Mailbox, PartEnd, ToWorker, TransferMailbox, TransferOrder};
    use crate::engine::Client;
    use crate::engine::authority::{Builder, Zone};
    use crate::engine::forwarder::Transfer;
    use crate::engine::key::{ConnectionKey, Key};
    use crate::engine::message::query::Asked;
    use crate::log::Log;
    use ahash::RandomState;
    use crossbeam_channel::{Receiver, Sender};
    use std::sync::Arc;
    use std::time::Duration;

    const TIMEOUT: Duration = Duration::from_secs(20);

    /// A zone of many messages.
    fn zone() -> Arc<Zone> {
        let mut builder = Builder::new(b"\x01z\0", 0, RandomState::with_seeds(1, 2, 3, 4));
        let soa = [&[0, 0][..], &[0; 20]].concat();
        let place = (0, 1);
        builder.add(b"\x01z\0", 6, 1, &soa, place).unwrap();
        for number in 0..=255 {
            let owner = [&[1, number, 1][..], b"z\0"].concat();
            let text = [&[255][..], &[number; 255]].concat();
            builder.add(&owner, 16, 1, &text.repeat(3), place).unwrap();
        }
        builder.finish().unwrap_or_else(|refused| panic!("{}", refused.what)).zone.into()
    }

    /// An order, the end of the worker's mailbox, and what says that the client has read.
    fn order(zone: &Arc<Zone>) -> (TransferOrder, Receiver<ToWorker>, Sender<()>) {
        order_of(zone, 1)
    }

    /// An order of the client with this number.
    fn order_of(zone: &Arc<Zone>, client: u8) -> (TransferOrder, Receiver<ToWorker>, Sender<()>) {
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        let (worker, mail) = Mailbox::new(64, waker);
        let (more, reading) = crossbeam_channel::bounded(1);
        let transfer = Transfer {
            client: Client { peer: ([192, 0, 2, client], 1).into(), ..Client::NOBODY },
            connection: ConnectionKey(Key { index: 1, generation: 2 }),
            zone: Arc::clone(zone),
            chain: None,
            asked: Asked { id: 7, flags: 0, edns: None },
            question: b"\x01z\0\0\xfc\0\x01"[..].into(),
            signer: None,
        };
        (TransferOrder { transfer, number: 1, worker, more: reading }, mail, more)
    }

    fn part(mail: &Receiver<ToWorker>) -> (Vec<Vec<u8>>, PartEnd) {
        match mail.recv_timeout(TIMEOUT).unwrap() {
            ToWorker::Transfer(part) => (part.messages, part.end),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn parts_wait_for_the_client_and_end_with_it() {
        let (order, mail, more) = order(&zone());
        let mut own = Running::new(&Arc::default(), &Arc::new(order));
        let sending = std::thread::spawn(move || send(&mut own, Clock::start(), LIMITS));
        let (messages, end) = part(&mail);
        assert_eq!((messages.len(), end), (3, PartEnd::Open));
        more.send(()).unwrap();
        assert_eq!(part(&mail).1, PartEnd::Open);
        assert!(mail.try_recv().is_err(), "the client has not read the second part");
        drop(more);
        let (result, records) = sending.join().unwrap();
        assert!(result == "closed" && records > 0, "{result} {records}");
    }

    #[test]
    fn a_place_is_free_when_the_client_gets_the_last_message() {
        let (order, mail, more) = order(&zone());
        let clients = Arc::default();
        let mut own = Running::new(&clients, &Arc::new(order));
        let sending = std::thread::spawn(move || send(&mut own, Clock::start(), LIMITS));
        loop {
            let (_, end) = part(&mail);
            if end == PartEnd::Last {
                break;
            }
            assert_eq!(lock(&clients).len(), 1);
            more.send(()).unwrap();
        }
        assert!(lock(&clients).is_empty());
        assert_eq!(sending.join().unwrap().0, "done");
    }

    #[test]
    fn a_client_that_reads_nothing_or_too_slowly_is_cut_and_leaves_its_place() {
        let long = Duration::from_secs(60);
        let short = Duration::from_millis(200);
        for (limits, reads) in [
            (Limits { stall: short, total: long }, false),
            (Limits { stall: long, total: short }, false),
            (Limits { stall: long, total: short }, true),
        ] {
            let (order, mail, more) = order(&zone());
            let (clients, clock) = (Arc::default(), Clock::start());
            let begin = clock.now();
            let mut own = Running::new(&clients, &Arc::new(order));
            let sending = std::thread::spawn(move || send(&mut own, clock, limits));
            assert_eq!(part(&mail).1, PartEnd::Open);
            if reads {
                more.send(()).unwrap();
                assert_eq!(part(&mail).1, PartEnd::Open);
            }
            let (messages, end) = part(&mail);
            assert_eq!((messages.len(), end), (0, PartEnd::Cut));
            assert!(clock.now().since(begin) >= short);
            let (result, records) = sending.join().unwrap();
            assert!(result == "timeout" && records > 0 && lock(&clients).is_empty(), "{result}");
            assert!(mail.try_recv().is_err(), "nothing was written in vain");
        }
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let network = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:1:ffff::2"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }

    #[test]
    fn transfers_beyond_the_limits_are_refused() {
        let (zone, loads) = (zone(), Arc::<Loads>::default());
        let (mailbox, orders) = TransferMailbox::new();
        let told = Arc::clone(&loads);
        let log = Log::text(|_| ());
        let running = std::thread::spawn(move || run(&orders, Clock::start(), log, &told));
        let ask = |client: u8| {
            let (order, mail, more) = order_of(&zone, client);
            assert!(mailbox.send(order).is_ok());
            let (messages, end) = part(&mail);
            (messages, end, (mail, more))
        };
        let is_refused = |client: u8| {
            let (messages, end, _) = ask(client);
            assert_eq!(messages.len(), if end == PartEnd::Last { 1 } else { 3 });
            end == PartEnd::Last && messages[0][3] & 15 == 5
        };
        let mut begun = Vec::new();
        for _ in 0..PER_CLIENT_MAX {
            let (_, end, own) = ask(1);
            assert_eq!(end, PartEnd::Open);
            begun.push(own);
        }
        assert!(is_refused(1), "one client has its share");
        for client in 2..2 + (TRANSFERS_MAX - PER_CLIENT_MAX) as u8 {
            let (_, end, own) = ask(client);
            assert_eq!(end, PartEnd::Open);
            begun.push(own);
        }
        assert!(is_refused(99), "all places are taken");
        drop((begun, mailbox));
        running.join().unwrap();
        let refused = ((String::from("z."), "refused"), 2);
        assert!(loads.transfers().all().contains(&refused), "{:?}", loads.transfers().all());
    }

    #[test]
    fn a_transfer_that_panics_frees_its_place_and_its_connection() {
        let (order, mail, _more) = order(&zone());
        let (clients, order) = (Arc::default(), Arc::new(order));
        let own = Running::new(&clients, &order);
        assert_eq!(lock(&clients).len(), 1);
        let panicking = std::thread::spawn(move || {
            let _own = own;
            panic!("as intended");
        });
        assert!(panicking.join().is_err());
        assert!(lock(&clients).is_empty());
        let (messages, end) = part(&mail);
        assert_eq!((messages.len(), end), (0, PartEnd::Cut));
    }
}
