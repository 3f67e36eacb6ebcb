//! Client connections: admission, time limits, and limits on concurrent queries.
//!
//! TCP is as open to strangers as UDP, but each connection holds memory, so everything has a bound:
//! connections in total and per address, outstanding queries per connection, and the time without a
//! whole query received or a byte of an answer sent. That time also ends slow writers and clients
//! that do not read, if no shorter time is set for those; waiting for an answer counts as activity.
//! Connections with one limit are queued in the order of their last activity; at the maximum, the
//! one inactive for longest is closed, unless it waits for an answer (RFC 7766 §6.2.3, §10). The
//! listener sets the limits. Sockets and bytes belong to the shell.

use super::key::{ConnectionKey, Key};
use super::list::{Link, List};
use super::message::reply::TCP_IDLE_UNITS;
use crate::config::{Config, Listener};
use crate::moment::Moment;
use addresses::Addresses;
use std::net::IpAddr;
use std::time::Duration;

/// Maximum number of outstanding queries on one connection; more are left unread.
pub(crate) const OUTSTANDING_MAX: u32 = 128;
/// Maximum time that a connection may be idle (RFC 7766 §6.2.3: a few seconds).
pub(crate) const IDLE_MAX: Duration = Duration::from_millis(100 * TCP_IDLE_UNITS as u64);

/// Limits of a listener for its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionLimits {
    /// Maximum time without activity.
    pub(crate) idle: Duration,
    /// Maximum time for the first query, and for any other that has begun. `None`: `idle`.
    pub(crate) read: Option<Duration>,
    /// Maximum time without a byte of an answer read by the client. `None`: `idle`.
    pub(crate) write: Option<Duration>,
    /// Maximum number of queries on a connection before it is closed.
    pub(crate) queries: u32,
    /// Connections use TLS.
    pub(crate) secure: bool,
    /// Maximum number of connections of the listener at this worker.
    pub(crate) connections: u32,
    /// Maximum number of connections from one address at this worker. `None`: half of the table, so
    /// that many clients may share an address, and one cannot take all.
    pub(crate) per_address: Option<u32>,
}

impl ConnectionLimits {
    /// Limits of a listener without settings.
    pub(crate) const DEFAULT: Self = Self {
        idle: IDLE_MAX,
        read: None,
        write: None,
        queries: u32::MAX,
        secure: false,
        connections: u32::MAX,
        per_address: None,
    };

    /// Returns the connection limits of each of the shell's listeners. Of several blocks with a
    /// setting, the last one applies.
    pub(crate) fn of_listeners(config: &Config, listeners: &[Option<usize>]) -> Vec<Self> {
        let limits = |listener: &Option<usize>| {
            let mut limits = Self::DEFAULT;
            let listener = listener.map(|number| &config.listeners[number]);
            if let Some(Listener { tls, limits: own, .. }) = listener {
                limits.secure = tls.is_some();
                limits.connections = own.connections.unwrap_or(u32::MAX);
                limits.per_address = own.per_client;
            }
            let zones = listener.map_or(&[][..], |listener| &listener.zones);
            let mut blocks: Vec<usize> = zones.iter().map(|(_, block)| *block).collect();
            blocks.sort_unstable();
            for block in blocks {
                let written = config.blocks[block].stages.timeouts;
                limits.idle = written.idle.unwrap_or(limits.idle);
                limits.read = written.read.or(limits.read);
                limits.write = written.write.or(limits.write);
                limits.queries = written.queries_max.unwrap_or(limits.queries);
            }
            limits
        };
        listeners.iter().map(limits).collect()
    }

    /// Returns the time for which a connection in this state may stay.
    fn of(&self, awaits: Awaits) -> Duration {
        let own = match awaits {
            Awaits::Anything => None,
            Awaits::Query => self.read,
            Awaits::Reader => self.write,
        };
        own.unwrap_or(self.idle)
    }
}

/// State of a connection: the event that it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaits {
    /// The next query, if any.
    Anything,
    /// The first query, or the rest of one that has begun.
    Query,
    /// The client, which does not read.
    Reader,
}

/// Reason why a connection was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The maximum of the worker or listener is reached, and all its connections wait for answers.
    Full,
    /// The client's address has the maximum of connections.
    AddressFull,
}

#[derive(Clone, Copy, Debug)]
struct ClientConnection {
    generation: u32,
    open: bool,
    listener: u16,
    /// `None`: its header of the PROXY protocol is to come.
    address: Option<IpAddr>,
    outstanding: u32,
    /// A zone transfer has begun, and the client has not read all of it.
    transfers: bool,
    /// Number of queries that may still be asked.
    queries_left: u32,
    limits: ConnectionLimits,
    awaits: Awaits,
    /// Index of its queue in `by_activity`.
    class: u32,
    active_at: Moment,
    link: Link,
}

/// All client connections of a worker.
pub struct Clients {
    slots: Vec<ClientConnection>,
    /// Maximum number of connections.
    count_max: usize,
    free: Vec<u32>,
    /// Number of connections with a zone transfer.
    transfers: usize,
    /// Connections by idle time, for each idle time in use.
    by_activity: Vec<(Duration, List)>,
    per_address: Addresses,
    /// Number of connections of each of the shell's listeners.
    per_listener: Vec<u32>,
    /// Limits of each of the shell's listeners, for new connections.
    limits: Vec<ConnectionLimits>,
}

impl Clients {
    /// A table for up to `count_max` connections of listeners with these limits. `hasher` is keyed
    /// because strangers choose their addresses.
    pub(crate) fn new(
        count_max: usize,
        limits: Vec<ConnectionLimits>,
        hasher: ahash::RandomState,
    ) -> Self {
        Self {
            slots: Vec::new(),
            count_max,
            free: Vec::new(),
            transfers: 0,
            by_activity: Vec::new(),
            per_address: Addresses::new(hasher),
            per_listener: Vec::new(),
            limits,
        }
    }

    /// Changes the limits for new connections, and leaves the old ones in `limits`.
    pub(super) fn reload(&mut self, limits: &mut Vec<ConnectionLimits>) {
        std::mem::swap(&mut self.limits, limits);
    }

    /// Returns true if listener number `listener` uses TLS.
    #[inline]
    pub(super) fn is_secure(&self, listener: u16) -> bool {
        self.limits[usize::from(listener)].secure
    }

    /// Admits a connection of `address` on listener number `listener`. `None`: [`Clients::name`]
    /// will follow. The second key is of the connection that was evicted for it: the quietest of
    /// the listener, if that has its maximum, otherwise the quietest of all.
    ///
    /// # Errors
    /// [`Refused`]: the shell closes the new connection.
    pub(crate) fn admit(
        &mut self,
        now: Moment,
        listener: u16,
        address: impl Into<Option<IpAddr>>,
    ) -> Result<(ConnectionKey, Option<ConnectionKey>), Refused> {
        let limits = self.limits[usize::from(listener)];
        let address = address.into().map(|address| address.to_canonical());
        address.map_or(Ok(()), |address| self.check_address(address, &limits))?;
        let evicted = if self.of_listener(listener) >= limits.connections {
            Some(self.quietest(|connection| connection.listener == listener)?)
        } else if self.count() >= self.count_max {
            Some(self.quietest(|_| true)?)
        } else {
            None
        };
        evicted.inspect(|evicted| self.close(*evicted));
        Ok((self.insert(now, listener, address, limits), evicted))
    }

    /// Counts a connection that was admitted without an address for `address`.
    ///
    /// # Errors
    /// [`Refused::AddressFull`]: the shell closes the connection.
    pub(crate) fn name(&mut self, key: ConnectionKey, address: IpAddr) -> Result<(), Refused> {
        let Some(slot) = self.slot(key) else { return Ok(()) };
        let ClientConnection { address: before, limits, .. } = self.slots[slot as usize];
        let address = address.to_canonical();
        if before.is_none() {
            self.check_address(address, &limits)?;
            self.per_address.add(address);
            self.slots[slot as usize].address = Some(address);
        }
        Ok(())
    }

    /// Refuses an address that has its maximum of connections.
    fn check_address(&self, address: IpAddr, limits: &ConnectionLimits) -> Result<(), Refused> {
        let count_max = limits.per_address.unwrap_or((self.count_max / 2).max(1) as u32);
        let has_room = self.per_address.count(address) < count_max;
        has_room.then_some(()).ok_or(Refused::AddressFull)
    }

    /// Returns the number of connections of listener number `listener`.
    fn of_listener(&self, listener: u16) -> u32 {
        self.per_listener.get(usize::from(listener)).copied().unwrap_or(0)
    }

    /// Returns the number of connections.
    pub fn count(&self) -> usize {
        self.by_activity.iter().map(|(_, queue)| queue.len()).sum()
    }

    /// Adds a connection.
    fn insert(
        &mut self,
        now: Moment,
        listener: u16,
        address: Option<IpAddr>,
        limits: ConnectionLimits,
    ) -> ConnectionKey {
        address.inspect(|address| self.per_address.add(*address));
        if self.per_listener.len() <= usize::from(listener) {
            self.per_listener.resize(usize::from(listener) + 1, 0);
        }
        self.per_listener[usize::from(listener)] += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(ClientConnection::vacant());
            self.slots.len() as u32 - 1
        });
        let class = self.class(limits.of(Awaits::Query));
        let connection = &mut self.slots[slot as usize];
        *connection = ClientConnection {
            open: true,
            listener,
            address,
            queries_left: limits.queries,
            limits,
            awaits: Awaits::Query,
            class,
            active_at: now,
            generation: connection.generation,
            ..ClientConnection::vacant()
        };
        let queue = &mut self.by_activity[class as usize].1;
        queue.push_back(&mut self.slots, slot, |connection| &mut connection.link);
        self.check(slot);
        self.key(slot)
    }

    /// Returns true if the connection may have another outstanding query now.
    pub fn may_ask(&self, key: ConnectionKey) -> bool {
        self.slot(key).is_some_and(|slot| self.slots[slot as usize].outstanding < OUTSTANDING_MAX)
    }

    /// Counts a query received on the connection.
    pub(crate) fn asked(&mut self, now: Moment, key: ConnectionKey) {
        let Some(slot) = self.slot(key) else { return };
        let left = &mut self.slots[slot as usize].queries_left;
        *left = left.saturating_sub(1);
        self.await_now(now, slot, Awaits::Anything);
    }

    /// Begins the time limit for the rest of a partly received query.
    pub fn begins_query(&mut self, now: Moment, key: ConnectionKey) {
        self.begins(now, key, Awaits::Query, |limits| limits.read);
    }

    /// Begins the time limit for an answer that the client has not read.
    pub fn begins_answer(&mut self, now: Moment, key: ConnectionKey) {
        self.begins(now, key, Awaits::Reader, |limits| limits.write);
    }

    /// Ends that limit, because all answers have been sent.
    pub fn is_read(&mut self, now: Moment, key: ConnectionKey) {
        if let Some(slot) = self.slot(key)
            && self.slots[slot as usize].awaits == Awaits::Reader
        {
            self.await_now(now, slot, Awaits::Anything);
        }
    }

    /// Begins a period, unless one has begun already or this one has no time limit of its own.
    fn begins(
        &mut self,
        now: Moment,
        key: ConnectionKey,
        awaits: Awaits,
        limit: impl Fn(&ConnectionLimits) -> Option<Duration>,
    ) {
        let Some(slot) = self.slot(key) else { return };
        let ClientConnection { awaits: before, limits, .. } = &self.slots[slot as usize];
        if *before == Awaits::Anything && limit(limits).is_some() {
            self.await_now(now, slot, awaits);
        }
    }

    /// Sets the event that the connection waits for.
    fn await_now(&mut self, now: Moment, slot: u32, awaits: Awaits) {
        let ClientConnection { class, limits, .. } = self.slots[slot as usize];
        let queue = &mut self.by_activity[class as usize].1;
        queue.remove(&mut self.slots, slot, |connection| &mut connection.link);
        let class = self.class(limits.of(awaits));
        let connection = &mut self.slots[slot as usize];
        (connection.class, connection.awaits, connection.active_at) = (class, awaits, now);
        let queue = &mut self.by_activity[class as usize].1;
        queue.push_back(&mut self.slots, slot, |connection| &mut connection.link);
        self.check(slot);
    }

    /// Returns true if the connection has asked its maximum of queries, so that no more is read.
    pub(crate) fn is_spent(&self, key: ConnectionKey) -> bool {
        self.slot(key).is_some_and(|slot| self.slots[slot as usize].queries_left == 0)
    }

    /// Counts an outstanding query on the connection.
    pub(crate) fn waits(&mut self, key: ConnectionKey) {
        if let Some(slot) = self.slot(key) {
            self.slots[slot as usize].outstanding += 1;
        }
    }

    /// Counts an answered query on the connection.
    pub(crate) fn answered(&mut self, key: ConnectionKey) {
        let Some(slot) = self.slot(key) else { return };
        let outstanding = &mut self.slots[slot as usize].outstanding;
        debug_assert!(*outstanding > 0, "an answer to no query");
        *outstanding -= 1;
    }

    /// Begins a zone transfer on the connection. Returns false if it has one already, or is gone.
    pub(crate) fn begin_transfer(&mut self, key: ConnectionKey) -> bool {
        let Some(slot) = self.slot(key) else { return false };
        let is_free = !std::mem::replace(&mut self.slots[slot as usize].transfers, true);
        self.transfers += usize::from(is_free);
        self.check(slot);
        is_free
    }

    /// Ends the zone transfer of the connection.
    pub(crate) fn end_transfer(&mut self, key: ConnectionKey) {
        let Some(slot) = self.slot(key) else { return };
        let had_one = std::mem::take(&mut self.slots[slot as usize].transfers);
        self.transfers -= usize::from(had_one);
        self.check(slot);
    }

    /// Returns the number of zone transfers that clients have not read to the end.
    pub(crate) fn transfers(&self) -> usize {
        self.transfers
    }

    /// Records that bytes of an answer were sent. That does not extend the time for the rest of a
    /// query.
    pub fn active(&mut self, now: Moment, key: ConnectionKey) {
        let Some(slot) = self.slot(key) else { return };
        let ClientConnection { awaits, limits, .. } = self.slots[slot as usize];
        if awaits != Awaits::Query || limits.read.is_none() {
            self.await_now(now, slot, awaits);
        }
    }

    /// Returns a connection that has been without activity for too long.
    pub fn overdue(&mut self, now: Moment) -> Option<ConnectionKey> {
        for class in 0..self.by_activity.len() {
            let (idle, queue) = &self.by_activity[class];
            let (idle, mut front) = (*idle, queue.front());
            while let Some(slot) = front {
                let ClientConnection { active_at, outstanding, awaits, .. } =
                    self.slots[slot as usize];
                if active_at.plus(idle) > now {
                    break;
                }
                if outstanding == 0 {
                    return Some(self.key(slot));
                }
                self.await_now(now, slot, awaits);
                front = self.by_activity[class].1.front();
            }
        }
        None
    }

    /// Returns the time at which [`Clients::overdue`] returns the next connection.
    pub fn next_deadline(&self) -> Option<Moment> {
        let queues = self.by_activity.iter();
        let fronts = queues.filter_map(|(idle, queue)| Some((idle, queue.front()?)));
        fronts.map(|(idle, slot)| self.slots[slot as usize].active_at.plus(*idle)).min()
    }

    /// Returns the number of outstanding queries of the connection.
    pub(crate) fn outstanding(&self, key: ConnectionKey) -> u32 {
        self.slot(key).map_or(0, |slot| self.slots[slot as usize].outstanding)
    }

    /// Returns true if the connection has no outstanding query.
    pub fn is_quiet(&self, key: ConnectionKey) -> bool {
        self.slot(key).is_none_or(|slot| self.slots[slot as usize].outstanding == 0)
    }

    /// Returns true if the connection is open.
    pub fn is_open(&self, key: ConnectionKey) -> bool {
        self.slot(key).is_some()
    }

    /// Removes the connection; the answers to its queries are dropped.
    pub fn close(&mut self, key: ConnectionKey) {
        self.end_transfer(key);
        let Some(slot) = self.slot(key) else { return };
        let queue = &mut self.by_activity[self.slots[slot as usize].class as usize].1;
        queue.remove(&mut self.slots, slot, |connection| &mut connection.link);
        let connection = &mut self.slots[slot as usize];
        connection.open = false;
        connection.generation = connection.generation.wrapping_add(1);
        self.per_listener[usize::from(connection.listener)] -= 1;
        self.per_address.remove(connection.address);
        self.free.push(slot);
        self.check(slot);
    }

    /// Returns the connection without outstanding queries that has been inactive for longest, of
    /// those for which `may_go` returns true.
    fn quietest(
        &self,
        may_go: impl Fn(&ClientConnection) -> bool,
    ) -> Result<ConnectionKey, Refused> {
        let quiet = |slot: &u32| {
            let connection = &self.slots[*slot as usize];
            connection.outstanding == 0 && may_go(connection)
        };
        let quietest = self.by_activity.iter().filter_map(|(_, queue)| {
            let mut slots = queue.iter(&self.slots, |connection| &connection.link);
            slots.find(quiet)
        });
        let quietest = quietest.min_by_key(|slot| self.slots[*slot as usize].active_at);
        quietest.map(|slot| self.key(slot)).ok_or(Refused::Full)
    }

    /// Returns the queue of connections with this idle time. There are as many as there are idle
    /// times in use; an empty queue is given to another idle time.
    fn class(&mut self, idle: Duration) -> u32 {
        let queues = &mut self.by_activity;
        let known = queues.iter().position(|(known, _)| *known == idle);
        let empty = || queues.iter().position(|(_, queue)| queue.front().is_none());
        let class = known.or_else(empty).unwrap_or(queues.len());
        if class == queues.len() {
            queues.push((idle, List::default()));
        }
        queues[class].0 = idle;
        class as u32
    }

    fn key(&self, slot: u32) -> ConnectionKey {
        ConnectionKey(Key { index: slot, generation: self.slots[slot as usize].generation })
    }

    /// Checks in debug builds the connection that is or was just in `slot`.
    #[cfg_attr(not(debug_assertions), expect(unused_variables, reason = "nothing is checked"))]
    #[inline(always)]
    fn check(&self, slot: u32) {
        #[cfg(debug_assertions)]
        self.check_touched(slot);
    }

    fn slot(&self, key: ConnectionKey) -> Option<u32> {
        let connection = self.slots.get(key.index())?;
        (connection.open && connection.generation == key.0.generation).then_some(key.0.index)
    }
}

impl ClientConnection {
    const fn vacant() -> Self {
        Self {
            generation: 0,
            open: false,
            listener: 0,
            address: None,
            outstanding: 0,
            transfers: false,
            queries_left: 0,
            limits: ConnectionLimits::DEFAULT,
            awaits: Awaits::Query,
            class: 0,
            active_at: Moment::ZERO,
            link: Link::OFF,
        }
    }
}

mod addresses;
#[cfg(debug_assertions)]
mod invariants;
#[cfg(test)]
mod tests;
