//! NOTIFY (RFC 1996) to the secondaries of zones, after a load and after each change.
//!
//! The loader of the zones sends, so that no other thread is needed: it notes which serials it has
//! told of, and for each secondary one notification, the newest, which is sent [`TRIES`] times
//! until an answer comes. All are sent side by side; answers are looked for every
//! [`LOOK_INTERVAL`].
//! Where the secondary has a key, the notification is signed and its answer verified.

use crate::clock::Clock;
use crate::config::{Name, Secondary, ZonesSource, rcode_mnemonic};
use crate::control::Results;
use crate::engine::authority::Zone;
use crate::engine::authority::table::ZoneTable;
use crate::engine::message::{flags, rtype, u16_at};
use crate::engine::tsig::Signer;
use crate::log::{Event, Level, Log};
use crate::moment::Moment;
use crate::sys::random;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

/// Waits behind each of the tries.
const TRIES: [Duration; 4] = [
    Duration::from_secs(15),
    Duration::from_secs(15),
    Duration::from_secs(30),
    Duration::from_secs(60),
];
/// Interval of looks for answers, while any are expected.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Notifications sent at once; further ones follow after [`BATCH_INTERVAL`].
const BATCH_MAX: usize = 64;
/// Time between two batches.
const BATCH_INTERVAL: Duration = Duration::from_millis(20);
/// Datagrams that are read from a socket at a time, so that a flood of them stops nothing else.
const ANSWERS_MAX: usize = 256;
/// Bytes of an answer that are read.
const ANSWER_LEN_MAX: usize = 1_232;
/// Source of log lines.
const PLUGIN: &str = "plugin/transfer";

/// Serials that secondaries were told, and notifications without an answer.
pub(super) struct Notifier {
    source: Arc<ZonesSource>,
    results: Results,
    log: Log,
    /// By zone, the serial that its secondaries are told of.
    told: HashMap<Name, u32>,
    pending: Vec<Pending>,
    /// By source address, or the unspecified one of a family.
    sockets: HashMap<IpAddr, UdpSocket>,
}

/// A notification without an answer.
struct Pending {
    zone: Arc<Zone>,
    name: Name,
    secondary: Secondary,
    source: IpAddr,
    id: u16,
    /// Number of tries that were made.
    tries: usize,
    due: Moment,
    signer: Option<Signer>,
}

impl Notifier {
    /// For the secondaries of `source`. `None`: there are none.
    pub(super) fn new(source: &Arc<ZonesSource>, results: Results, log: Log) -> Option<Self> {
        let (source, told) = (Arc::clone(source), HashMap::new());
        let (pending, sockets) = (Vec::new(), HashMap::new());
        let has_any = !source.notify.is_empty();
        has_any.then_some(Self { source, results, log, told, pending, sockets })
    }

    /// Notes the zones of `table` whose serials have changed.
    pub(super) fn note(&mut self, table: &ZoneTable, now: Moment) {
        for entry in table.entries() {
            let Some(zone) = &entry.zone else { continue };
            let serial = Some(zone.serial());
            if self.told.insert(entry.name.clone(), zone.serial()) == serial {
                continue;
            }
            self.pending.retain(|pending| pending.name != entry.name);
            let secondaries = self.source.secondaries(&entry.name);
            for (secondary, source) in secondaries {
                let family: IpAddr = match secondary.address {
                    SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                    SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                };
                let source = source.filter(|own| own.is_ipv4() == family.is_ipv4());
                self.pending.push(Pending {
                    zone: Arc::clone(zone),
                    name: entry.name.clone(),
                    secondary: secondary.clone(),
                    source: source.unwrap_or(family),
                    id: 0,
                    tries: 0,
                    due: now,
                    signer: None,
                });
            }
        }
    }

    /// Returns when to call [`Notifier::turn`] next, after a turn at `now`. `None`: nothing is
    /// pending.
    pub(super) fn next_turn(&self, now: Moment) -> Option<Moment> {
        let due = self.pending.iter().map(|pending| pending.due).min()?;
        let look = now.plus(LOOK_INTERVAL);
        Some(if due <= now { now.plus(BATCH_INTERVAL) } else { due.min(look) })
    }

    /// Takes answers, and sends the datagrams that are due.
    pub(super) fn turn(&mut self, now: Moment) {
        self.receive();
        let (log, results) = (self.log, self.results.clone());
        let sockets = &mut self.sockets;
        let mut sent = 0;
        self.pending.retain_mut(|pending| {
            if pending.due > now || sent == BATCH_MAX {
                return true;
            }
            if pending.tries == TRIES.len() {
                let Pending { name, secondary, .. } = pending;
                let text = format_args!(
                    "notify for zone \"{name}\" was not answered by \"{}\" in {} tries",
                    secondary.address,
                    TRIES.len()
                );
                log.event(&Event::new(Level::Warning, PLUGIN, &text));
                results.count(name.to_string(), "timeout");
                return false;
            }
            sent += 1;
            pending.due = now.plus(TRIES[pending.tries]);
            pending.tries += 1;
            pending.send(sockets);
            true
        });
        if self.pending.is_empty() {
            self.sockets.clear();
        }
    }

    fn receive(&mut self) {
        let mut answer = [0; ANSWER_LEN_MAX];
        for socket in self.sockets.values() {
            for _ in 0..ANSWERS_MAX {
                let Ok((len, from)) = socket.recv_from(&mut answer) else { break };
                let (log, results) = (self.log, &self.results);
                self.pending
                    .retain(|pending| !pending.is_ended(&answer[..len], from, log, results));
            }
        }
    }
}

impl Pending {
    /// Sends it once more. What fails is tried again like what is not answered.
    fn send(&mut self, sockets: &mut HashMap<IpAddr, UdpSocket>) {
        let Ok([one, other, ..]) = random::seed() else { return };
        self.id = u16::from_be_bytes([one, other]);
        let mut message = self.message();
        if let Some(key) = &self.secondary.key {
            let mut signer = Signer::of_request(Arc::new(key.clone()));
            let len = message.len();
            message.resize(len + signer.room(), 0);
            let now = Clock::calendar().as_secs();
            let signed = signer.sign(&mut message, len, now);
            self.signer = signed.map(|_| signer);
        }
        if !sockets.contains_key(&self.source)
            && let Ok(socket) = UdpSocket::bind((self.source, 0))
            && socket.set_nonblocking(true).is_ok()
        {
            sockets.insert(self.source, socket);
        }
        if let Some(socket) = sockets.get(&self.source) {
            let _ = socket.send_to(&message, self.secondary.address);
        }
    }

    /// The message, without a signature.
    fn message(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(512);
        let soa = self.zone.soa();
        let words = [self.id, flags::NOTIFY | flags::AA, 1, u16::from(soa.is_some()), 0, 0];
        words.iter().for_each(|word| message.extend(word.to_be_bytes()));
        message.extend_from_slice(self.zone.apex());
        message.extend([0, rtype::SOA as u8, 0, 1]);
        if let Some((ttl, data)) = soa {
            message.extend([0xc0, 12, 0, rtype::SOA as u8, 0, 1]);
            message.extend(ttl.to_be_bytes());
            message.extend((data.len() as u16).to_be_bytes());
            message.extend_from_slice(data);
        }
        message
    }

    /// Returns true if `answer` ends it, and tells of that.
    fn is_ended(&self, answer: &[u8], from: SocketAddr, log: Log, results: &Results) -> bool {
        let address = self.secondary.address;
        let is_same = from.ip().to_canonical() == address.ip().to_canonical()
            && from.port() == address.port()
            && u16_at(answer, 0) == Some(self.id);
        let Some(word) = u16_at(answer, 2).filter(|_| is_same && self.tries > 0) else {
            return false;
        };
        if word & (flags::QR | flags::OPCODE) != flags::QR | flags::NOTIFY {
            return false;
        }
        let name = &self.name;
        if let Some(signer) = &self.signer
            && let Err(error) = signer.clone().verify(answer, Clock::calendar().as_secs())
        {
            let text = format_args!(
                "notify for zone \"{name}\": the answer of \"{address}\" is not believed: {error}"
            );
            log.event(&Event::new(Level::Warning, PLUGIN, &text));
            results.count(name.to_string(), "unsigned");
            // It may be a forgery: the tries go on.
            return false;
        }
        let code = word & flags::RCODE;
        if code == 0 {
            results.count(name.to_string(), "done");
            return true;
        }
        let rcode = rcode_mnemonic(code).map_or_else(|| code.to_string(), str::to_owned);
        let text = format_args!(
            "notify for zone \"{name}\" was not accepted by \"{address}\": rcode was \"{rcode}\""
        );
        log.event(&Event::new(Level::Warning, PLUGIN, &text));
        results.count(name.to_string(), "refused");
        true
    }
}
