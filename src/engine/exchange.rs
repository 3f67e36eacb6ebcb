//! Outstanding queries: a slab of exchanges, each with the clients that wait for it.
//!
//! An exchange is one upstream query in all its attempts. It is found by connection and id when a
//! response arrives, and by its text when another client asks the same question and joins the
//! first, so that an attacker cannot cause many identical queries at once and guess ids against all
//! of them (RFC 5452 §5). It is on three queues: by the deadline of its attempt, by the deadline of
//! the whole, and among those on its connection; on a fourth where its client response timer ends
//! earlier. All attempts with one time-out share a queue, so its order is that of its deadlines.
//! Sizes are fixed at the start; memory that was never needed is never touched.

mod attempts;
mod earlier;
#[cfg(debug_assertions)]
mod invariants;
mod letters;
mod reload;
mod slot;
mod waiters;

use super::index::Index;
use super::key::{ConnectionId, ExchangeKey, Key, Transport, Via, Way};
use super::list::List;
use super::memory::{prefetch, reserved};
use super::message::opt::OPT_LEN;
use super::message::query::{Asked, UPSTREAM_LEN_MAX, add_options};
use super::message::{HEADER_LEN, put_u16, u16_at};
use crate::config::QUERY_TIMEOUT;
use crate::moment::Moment;
use earlier::Earlier;
pub(crate) use slot::{Exchange, WrongResponse};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
pub(crate) use waiters::{AskedKey, Dismissed, Shown, Spelling, Waiter};

/// Maximum of outstanding queries of one worker: 160,000 queries a second at 100 ms each.
pub const EXCHANGES_MAX: usize = 16_384;
/// Part of them for queries that have nothing in common with most of the outstanding ones.
const RESERVE: usize = EXCHANGES_MAX / 16;
/// First slot of the reserve.
const RESERVE_FIRST: usize = EXCHANGES_MAX - RESERVE;
/// Maximum number of waiting clients at one worker.
pub const WAITERS_MAX: usize = 2 * EXCHANGES_MAX;

/// Offset of the number of additional records in a header: one if an attempt has an OPT.
const ADDITIONALS: usize = 10;
/// Usual maximum of a query's length in bytes.
const QUERY_USUAL: usize = 128;

/// Source of a query and destination of its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Number of the listener that received the query.
    pub listener: u16,
    /// Address of the client.
    pub peer: SocketAddr,
    /// Destination address of the query and its interface, where the listener is a wildcard.
    pub local: Option<(IpAddr, u32)>,
    /// Path of the query and its reply.
    pub via: Via,
}

impl Client {
    /// No client; replies are dropped.
    pub(crate) const NOBODY: Self = Self {
        listener: 0,
        peer: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        local: None,
        via: Via::Datagram,
    };

    /// Returns the query's parameters as far as they apply to its transport.
    pub(crate) fn asked(&self, asked: Asked) -> Asked {
        match self.via {
            Via::Connection(_) => asked,
            Via::Datagram | Via::Relayed(_) | Via::Request(..) => asked.without_keepalive(),
        }
    }

    /// Returns the transport of its query and its reply.
    pub(crate) fn transport(&self) -> Transport {
        match self.via {
            Via::Datagram | Via::Relayed(_) => Transport::Udp,
            Via::Connection(_) | Via::Request(..) => Transport::Tcp,
        }
    }
}

/// Deadline that an exchange has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// Deadline of the attempt: another upstream may answer.
    Attempt,
    /// Deadline of the whole query.
    Query,
    /// End of the client response timer: clients can have an expired answer.
    Patience,
}

/// Parameters of a new exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening<'a> {
    /// The query, with any id.
    pub(crate) query: &'a [u8],
    /// Length of the name in its question.
    pub(crate) name_len: usize,
    /// Keyed hash of its text.
    pub(crate) hash: u32,
    /// First stanza.
    pub(crate) stanza: u32,
    /// Transport of the first attempt.
    pub(crate) transport: Transport,
    /// Index of the attempts' time-out in those given to [`Exchanges::new`].
    pub(crate) timeout_class: u32,
    /// Maximum time of the exchange.
    pub(crate) budget: Duration,
    /// True if the result may be stored in the server block's cache.
    pub(crate) cacheable: bool,
    /// The case of letters is randomised in queries over UDP.
    pub(crate) randomizes: bool,
}

/// Maximum number of vacant slots that are passed over in search of one in use.
const NEAR_MAX: usize = 64;

type QueryBuffer = [u8; UPSTREAM_LEN_MAX];

/// All outstanding queries of a worker.
pub(crate) struct Exchanges {
    slots: Vec<Exchange>,
    free: Vec<u32>,
    /// Vacant slots of the reserve.
    free_reserved: Vec<u32>,
    queries: Vec<QueryBuffer>,
    waiters: Vec<(Waiter, u32)>,
    waiters_free: Vec<u32>,
    by_id: Index,
    by_text: Index,
    /// Exchanges by budget, for each budget in use.
    by_age: Vec<(Duration, List)>,
    timeouts: Vec<(Duration, List)>,
    /// Exchanges by the length of their client response timer, for each length in use.
    response_timer: Vec<(Duration, List)>,
    on_connection: Vec<List>,
    earlier: Earlier,
}

impl Exchanges {
    /// An empty table. `timeouts`: the distinct time-outs of attempts. `connections`: their maximum
    /// number.
    pub(crate) fn new(timeouts: &[Duration], connections: usize) -> Self {
        Self {
            slots: Vec::with_capacity(EXCHANGES_MAX),
            free: Vec::with_capacity(RESERVE_FIRST + 1),
            free_reserved: Vec::with_capacity(RESERVE),
            queries: Vec::with_capacity(EXCHANGES_MAX),
            waiters: Vec::with_capacity(WAITERS_MAX),
            waiters_free: Vec::with_capacity(WAITERS_MAX),
            by_id: Index::new(EXCHANGES_MAX),
            by_text: Index::new(EXCHANGES_MAX),
            by_age: vec![(QUERY_TIMEOUT, List::default())],
            timeouts: timeouts.iter().map(|timeout| (*timeout, List::default())).collect(),
            response_timer: Vec::new(),
            on_connection: vec![List::default(); connections],
            earlier: Earlier::new(),
        }
    }

    /// Returns the number of outstanding exchanges.
    pub(crate) fn outstanding(&self) -> usize {
        self.slots.len() - self.free.len() - self.free_reserved.len()
    }

    /// Returns the reserved memory in bytes.
    pub(crate) fn reserved(&self) -> usize {
        reserved(&self.slots)
            + reserved(&self.free)
            + reserved(&self.free_reserved)
            + reserved(&self.queries)
            + reserved(&self.waiters)
            + reserved(&self.waiters_free)
            + self.by_id.reserved()
            + self.by_text.reserved()
            + reserved(&self.timeouts)
            + reserved(&self.on_connection)
            + self.earlier.reserved()
    }

    /// Returns the exchange with the same query, except id and letter case, if it can be joined.
    pub(crate) fn find_same(&self, opening: &Opening<'_>) -> Option<u32> {
        let name_end = HEADER_LEN + opening.name_len;
        // The length of the OPT's options depends on those added on the way upstream.
        let opt_len = name_end + 4 + OPT_LEN - 2;
        let options = opt_len + 2..opening.query.len();
        self.by_text.find(opening.hash, |slot| {
            let exchange = &self.slots[slot as usize];
            let other = &self.queries[slot as usize];
            exchange.began == (opening.stanza, opening.transport)
                && usize::from(exchange.name_len) == opening.name_len
                && usize::from(exchange.query_len) == opening.query.len()
                && other[2..ADDITIONALS] == opening.query[2..ADDITIONALS]
                && other[name_end..opt_len] == opening.query[name_end..opt_len]
                && other[options.clone()] == opening.query[options.clone()]
                && other[HEADER_LEN..name_end]
                    .eq_ignore_ascii_case(&opening.query[HEADER_LEN..name_end])
        })
    }

    /// Opens an exchange without waiters; returns `None` if every slot outside of the reserve is
    /// taken.
    pub(crate) fn open(&mut self, opening: &Opening<'_>, now: Moment) -> Option<u32> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < RESERVE_FIRST => self.add_slot(),
            None => return None,
        };
        self.queries[slot as usize][..opening.query.len()].copy_from_slice(opening.query);
        let age_class = class_of(&mut self.by_age, opening.budget);
        let exchange = &mut self.slots[slot as usize];
        let generation = exchange.generation;
        // A constant is copied and then changed in place, because an exchange built elsewhere and
        // moved here would be read before it is written through.
        *exchange = Exchange::VACANT;
        (exchange.generation, exchange.open) = (generation, true);
        exchange.hash = opening.hash;
        exchange.query_len = opening.query.len() as u16;
        exchange.sent_len = opening.query.len() as u16;
        exchange.name_len = opening.name_len as u16;
        exchange.stanza = opening.stanza;
        exchange.transport = opening.transport;
        exchange.asked_over = opening.transport;
        exchange.began = (opening.stanza, opening.transport);
        exchange.until = now.plus(opening.budget);
        exchange.timeout_class = opening.timeout_class;
        exchange.age_class = age_class;
        exchange.joinable = true;
        exchange.cacheable = opening.cacheable;
        exchange.randomizes = opening.randomizes;
        self.by_text.insert(opening.hash, slot);
        let queue = &mut self.by_age[age_class as usize].1;
        queue.push_back(&mut self.slots, slot, |exchange| &mut exchange.by_age);
        self.check(slot);
        Some(slot)
    }

    /// Opens an exchange in the reserve; returns `None` if every slot is taken.
    pub(crate) fn open_reserved(&mut self, opening: &Opening<'_>, now: Moment) -> Option<u32> {
        debug_assert!(self.free.is_empty(), "there are others");
        let slot = match self.free_reserved.pop() {
            Some(slot) => slot,
            None if self.slots.len() < EXCHANGES_MAX => self.add_slot(),
            None => return None,
        };
        self.free.push(slot);
        self.open(opening, now)
    }

    fn add_slot(&mut self) -> u32 {
        self.slots.push(Exchange::VACANT);
        self.queries.push([0; UPSTREAM_LEN_MAX]);
        self.slots.len() as u32 - 1
    }

    /// Returns the name in the question of an outstanding query near the place that `random` gives.
    /// `None`: there is none.
    pub(crate) fn name_near(&self, random: u32) -> Option<&[u8]> {
        let count = self.slots.len() as u32;
        let first = random.checked_rem(count)?;
        let mut near = (first..count).take(NEAR_MAX);
        near.find(|slot| self.slots[*slot as usize].open).map(|slot| self.name(slot))
    }

    /// The exchange in an open slot.
    pub(crate) fn get(&mut self, slot: u32) -> &mut Exchange {
        debug_assert!(self.slots[slot as usize].open, "slot {slot} is vacant");
        &mut self.slots[slot as usize]
    }

    /// Returns the key of an open slot.
    pub(crate) fn key(&self, slot: u32) -> ExchangeKey {
        ExchangeKey(Key { index: slot, generation: self.slots[slot as usize].generation })
    }

    /// Returns the slot of `key`, unless that exchange has ended.
    pub(crate) fn slot(&self, key: ExchangeKey) -> Option<u32> {
        let exchange = self.slots.get(key.0.index as usize)?;
        (exchange.open && exchange.generation == key.0.generation).then_some(key.0.index)
    }

    /// Returns the query as it is sent upstream.
    pub(crate) fn query(&self, slot: u32) -> &[u8] {
        let length = usize::from(self.slots[slot as usize].sent_len);
        &self.queries[slot as usize][..length]
    }

    /// Returns the first stanza of the exchange.
    pub(crate) fn first_stanza(&self, slot: u32) -> usize {
        self.slots[slot as usize].began.0 as usize
    }

    /// Returns the name in its question, as it was sent.
    pub(crate) fn name(&self, slot: u32) -> &[u8] {
        &self.queries[slot as usize][HEADER_LEN..HEADER_LEN + self.name_len(slot)]
    }

    /// Returns the type and class in its question.
    pub(crate) fn rtype_and_class(&self, slot: u32) -> (u16, u16) {
        let end = HEADER_LEN + self.name_len(slot);
        let word = |place| u16_at(&self.queries[slot as usize], place).unwrap_or(0);
        (word(end), word(end + 2))
    }

    /// Returns the length of the name in its question.
    pub(crate) fn name_len(&self, slot: u32) -> usize {
        self.slots[slot as usize].name_len.into()
    }

    /// Returns the connection of the current attempt.
    pub(crate) fn connection(&self, slot: u32) -> Option<ConnectionId> {
        self.slots[slot as usize].attempt.map(|(connection, _)| connection)
    }

    /// Prefetches the memory that [`Exchanges::find`] and its caller will read.
    pub(crate) fn prefetch(&self, connection: ConnectionId, id: u16) {
        if let Some(slot) = self.by_id.find(id_hash(connection, id), |_| true) {
            prefetch(&self.slots[slot as usize]);
            prefetch(&self.queries[slot as usize][..QUERY_USUAL]);
        }
    }

    /// Prefetches the memory that the end of the exchange in `slot` will need.
    pub(crate) fn prefetch_end(&self, slot: u32) {
        let exchange = &self.slots[slot as usize];
        self.by_text.prefetch(exchange.hash);
        if let Some(waiter) = self.waiters.get(exchange.first_waiter as usize) {
            prefetch(waiter);
        }
    }

    /// Returns the exchange that waits on `connection` for a response with `id`.
    pub(crate) fn find(&self, connection: ConnectionId, id: u16) -> Option<u32> {
        let attempt = Some((connection, id));
        self.by_id
            .find(id_hash(connection, id), |slot| self.slots[slot as usize].attempt == attempt)
    }

    /// Begins an attempt on `connection`, whose transport is `way`, with an id from `random` that
    /// no other outstanding query there has. `edns`: it has an OPT.
    pub(crate) fn begin_attempt(
        &mut self,
        slot: u32,
        (connection, way): (ConnectionId, Way),
        edns: bool,
        now: Moment,
        mut random: impl FnMut() -> u16,
    ) {
        // At most one in four ids of a connection is taken, so this ends at once.
        let id = loop {
            let id = random();
            if way != Way::Datagram && self.earlier.has(connection, id) {
                continue;
            }
            let has_it = |other| self.slots[other as usize].attempt == Some((connection, id));
            if self.by_id.insert_new(id_hash(connection, id), slot, has_it) {
                break id;
            }
        };
        let exchange = &mut self.slots[slot as usize];
        let query = &mut self.queries[slot as usize];
        put_u16(query, 0, id);
        let opt = HEADER_LEN + usize::from(exchange.name_len) + 4;
        put_u16(query, ADDITIONALS, edns.into());
        let len = if edns { add_options(query, opt, exchange.query_len.into(), way) } else { opt };
        exchange.sent_len = len as u16;
        exchange.refusal = 0;
        exchange.asked_over = way.transport();
        let (timeout, queue) = &mut self.timeouts[exchange.timeout_class as usize];
        exchange.attempt = Some((connection, id));
        exchange.attempt_until = now.plus(*timeout);
        queue.push_back(&mut self.slots, slot, |exchange| &mut exchange.by_attempt);
        self.on_connection[connection.index()]
            .push_back(&mut self.slots, slot, |exchange| &mut exchange.on_connection);
        self.check(slot);
    }

    /// Ends the current attempt, if there is one; its response is no longer recognised.
    #[inline]
    pub(crate) fn end_attempt(&mut self, slot: u32) -> Option<ConnectionId> {
        let exchange = &mut self.slots[slot as usize];
        let (connection, id) = exchange.attempt.take()?;
        let queue = &mut self.timeouts[exchange.timeout_class as usize].1;
        queue.remove(&mut self.slots, slot, |exchange| &mut exchange.by_attempt);
        self.by_id.remove(id_hash(connection, id), slot);
        self.on_connection[connection.index()]
            .remove(&mut self.slots, slot, |exchange| &mut exchange.on_connection);
        self.check(slot);
        Some(connection)
    }

    /// Returns an exchange whose attempt is on `connection`, not on a later one in the same slot.
    pub(crate) fn first_on(&self, connection: ConnectionId) -> Option<u32> {
        let slot = self.on_connection[connection.index()].front()?;
        (self.connection(slot) == Some(connection)).then_some(slot)
    }

    /// Returns an exchange that has passed a deadline.
    pub(crate) fn overdue(&self, now: Moment) -> Option<(u32, Overdue)> {
        let late = |slot: &u32| self.slots[*slot as usize].until <= now;
        let mut oldest = self.by_age.iter().filter_map(|(_, queue)| queue.front());
        if let Some(slot) = oldest.find(late) {
            return Some((slot, Overdue::Query));
        }
        let late = |slot: &u32| self.slots[*slot as usize].response_timer_until <= now;
        let mut fronts = self.response_timer.iter().filter_map(|(_, queue)| queue.front());
        if let Some(slot) = fronts.find(late) {
            return Some((slot, Overdue::Patience));
        }
        let late = |slot: &u32| self.slots[*slot as usize].attempt_until <= now;
        let mut fronts = self.timeouts.iter().filter_map(|(_, queue)| queue.front());
        fronts.find(late).map(|slot| (slot, Overdue::Attempt))
    }

    /// Returns the earliest deadline of all.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        let oldest = self.by_age.iter().filter_map(|(_, queue)| queue.front());
        let oldest = oldest.map(|slot| self.slots[slot as usize].until);
        let waiting = self.response_timer.iter().filter_map(|(_, queue)| queue.front());
        let waiting = waiting.map(|slot| self.slots[slot as usize].response_timer_until);
        let fronts = self.timeouts.iter().filter_map(|(_, queue)| queue.front());
        let fronts = fronts.map(|slot| self.slots[slot as usize].attempt_until);
        fronts.chain(oldest).chain(waiting).min()
    }

    /// Settles an exchange whose outcome is known: its deadlines end and no other client can join.
    /// The waiters are answered afterwards.
    pub(crate) fn settle(&mut self, slot: u32) {
        debug_assert!(self.slots[slot as usize].attempt.is_none(), "an attempt is still on");
        let exchange = &mut self.slots[slot as usize];
        if std::mem::take(&mut exchange.joinable) {
            let (hash, age_class) = (exchange.hash, exchange.age_class as usize);
            self.by_text.remove(hash, slot);
            let queue = &mut self.by_age[age_class].1;
            queue.remove(&mut self.slots, slot, |exchange| &mut exchange.by_age);
        }
        self.end_timeout(slot);
    }

    /// Returns true if the result may be stored in the server block's cache.
    pub(crate) fn is_cacheable(&self, slot: u32) -> bool {
        self.slots[slot as usize].cacheable
    }

    /// Checks in debug builds the exchange that is or was just in `slot`.
    #[cfg_attr(not(debug_assertions), expect(unused_variables, reason = "nothing is checked"))]
    #[inline(always)]
    fn check(&self, slot: u32) {
        #[cfg(debug_assertions)]
        self.check_touched(slot);
    }
}

/// Returns the queue of exchanges with this time. There are as many as there are times in use; an
/// empty queue is given to another time.
fn class_of(queues: &mut Vec<(Duration, List)>, time: Duration) -> u32 {
    let known = queues.iter().position(|(known, _)| *known == time);
    let empty = || queues.iter().position(|(_, queue)| queue.front().is_none());
    let class = known.or_else(empty).unwrap_or(queues.len());
    if class == queues.len() {
        queues.push((time, List::default()));
    }
    queues[class].0 = time;
    class as u32
}

/// Hashes a connection and an id: ids are uniformly random already, only connections need mixing.
fn id_hash(connection: ConnectionId, id: u16) -> u32 {
    u32::from(id) ^ connection.0.index.wrapping_mul(0x9e37_79b1)
}
