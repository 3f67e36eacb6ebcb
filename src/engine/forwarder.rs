//! The forwarder: the engine of a worker, where all decisions about a query are made.
//!
//! Inputs are a client's packet, an upstream's packet, a connection's failure, the time, and the
//! keeper's message that a pool or cache has something to clean up. Each input is handled at once
//! and leaves its effects in bounded queues of small keys: queries to send, replies to failed
//! queries, connections to open ahead and to close, and [`Notice`]s for other threads.
//! [`settle`](super::shell::settle) drains them at the end of a turn. Nothing is allocated after
//! the start. The decisions about a query, in order: is it valid, which stage answers it, is the
//! same query outstanding, which upstream, which connection; about a response: connection, ID,
//! question, records.
//!
//! The state is in parts with methods of their own: `upstreams` (addresses, health, reports),
//! `counters`, `drafts` (the upstream query being written), `failures`, `delays`, `loops`,
//! `rewriting`, `parked`, and the rooms of the engine. A step of a query needs most of them, so
//! the steps are methods of the whole, in one file for each: `queries`, `attempts`, `responses`,
//! `replies`, and what these call.

mod arrivals;
mod attempts;
mod caching;
mod calls;
mod counters;
mod course;
mod delays;
mod drafts;
mod edns;
mod failures;
mod floods;
mod journalling;
mod late;
mod letters;
mod limiting;
mod logging;
mod loops;
mod moves;
mod notices;
mod notified;
mod parked;
mod parts;
mod proxying;
mod queries;
mod recipient;
mod reload;
mod replies;
mod requests;
mod responses;
mod rewriting;
mod signing;
mod transfers;
mod upstreams;
mod watch;

pub use arrivals::{AHEAD_MAX, Arrivals};
use caching::{CacheOutcome, Caches};
use counters::Counters;
use delays::{Delays, Held};
use drafts::Drafts;
use failures::Failures;
use floods::Floods;
use late::LateReplies;
use limiting::Limiters;
use loops::Loops;
pub use notices::Notice;
use notices::{Report, Skipped};
pub use notified::Notified;
pub use parts::Parts;
use parts::hasher_of;
use proxying::Proxying;
pub use recipient::{TCP_MESSAGE_MAX, TCP_REPLY_SPARE};
pub(crate) use requests::Requested;
use rewriting::Rewriting;
pub use transfers::Transfer;
use upstreams::Upstreams;
pub(crate) use watch::Watch;

use super::cache::SharedCaches;
use super::chain::Chain;
use super::clients::{Clients, Refused};
use super::cookies::Cookies;
use super::data::Data;
use super::dnssec::Online;
use super::errors::Errors;
use super::exchange::{Client, Exchanges};
use super::health::HealthStates;
use super::journal::Journal;
use super::key::{ConnectionId, ConnectionKey, ExchangeKey, PoolId, Sweep, Way};
use super::memory::{EngineMemory, reserved};
use super::message::UDP_PAYLOAD_MAX;
use super::message::response::Response;
use super::pool::{PoolState, Pools};
use super::routes::Routes;
use super::stats::{Stats, UpstreamStats};
use super::tally::Tallies;
use crate::config::{ClientTls, Config, HttpTarget};
use crate::moment::Moment;
use ahash::RandomState;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A query to send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Connection for the query; the shell dials it if it has no socket for it.
    pub connection: ConnectionId,
    /// Sort key within the connection. TCP and TLS: position in the queue, which keeps the order.
    /// UDP with GSO: decreases with the query's length, so that equal lengths are sent together.
    rank: u16,
    /// Exchange of the query; [`Forwarder::query`] returns its bytes.
    pub(crate) exchange: ExchangeKey,
}

impl Outgoing {
    /// Returns the sort key: connection, then rank. A single number, because comparisons are the
    /// cost of sorting.
    pub(crate) fn order(&self) -> u64 {
        u64::from(self.connection.0.index) << 16 | u64::from(self.rank)
    }
}

/// A reply that was written into the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Destination of the reply.
    pub client: Client,
    /// Length of the reply.
    pub len: usize,
}

/// Parameters of a connection to open.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dial {
    /// The upstream's address.
    pub upstream: SocketAddr,
    /// Our own address; `None`: the kernel chooses.
    pub source: Option<IpAddr>,
    /// Datagrams of equal length may leave together.
    pub(crate) gso: bool,
    /// TLS settings; `None`: no TLS.
    pub(crate) tls: Option<Arc<ClientTls>>,
    /// Requests that carry the queries; `None`: the upstream does not speak HTTP.
    pub(crate) http: Option<Arc<HttpTarget>>,
    /// Path of all queries to the upstream; `None`: it follows from the query's transport.
    pub(crate) way: Option<Way>,
    /// Datagrams and connections begin with a header of the PROXY protocol.
    pub(crate) proxied: bool,
}

/// A validated response, whose replies have not been written yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    at: Moment,
    exchange: ExchangeKey,
    response: Response,
    remembered: Option<CacheOutcome>,
}

/// A worker's engine.
pub struct Forwarder {
    routes: Routes,
    /// Chain of each server block.
    chains: Vec<Chain>,
    /// Data from the loaders, set by the shell.
    pub data: Data,
    upstreams: Upstreams,
    pools: Pools,
    exchanges: Exchanges,
    /// The connections of clients, for the shell to admit and close.
    pub clients: Clients,
    random: ChaCha12Rng,
    hasher: RandomState,
    sends: Vec<Outgoing>,
    failures: Failures,
    delays: Delays<Held>,
    late: LateReplies,
    errors: Errors,
    journal: Journal,
    caches: Caches,
    limiters: Limiters,
    loops: Loops,
    floods: Floods,
    rewriting: Rewriting,
    parked: parked::Table,
    proxying: Proxying,
    /// Signatures of replies.
    online: Online,
    /// Transfers that the shell is to hand on.
    transfers: Vec<Transfer>,
    /// Notifications of primaries that the shell is to pass on.
    notified: Vec<Notified>,
    /// Events in server blocks, for the operator. At most two for each block.
    reports: Vec<Report>,
    /// Kinds of notices that are skipped until the end of this round.
    skipped: Skipped,
    counters: Counters,
    drafts: Drafts,
    cookies: Cookies,
    /// Wall-clock time in seconds, for the validity periods of signatures and cookies.
    unix: u32,
}

impl Forwarder {
    /// Creates an engine for `config`. `seed`: unpredictable bytes, from which all IDs, random
    /// orders and hash keys are derived. `health_states`: which upstreams are down.
    ///
    /// # Panics
    /// If the memory of the caches cannot be reserved.
    pub fn new(config: &Config, seed: [u8; 32], health_states: Arc<HealthStates>) -> Self {
        let listeners: Vec<_> = (0..config.listeners.len()).map(Some).collect();
        Self::with_listeners(config, &listeners, seed, health_states)
    }

    /// Creates an engine for a shell that has only some listeners of `config`. `listeners`: for
    /// each listener of the shell, its number in `config`.
    pub(crate) fn with_listeners(
        config: &Config,
        listeners: &[Option<usize>],
        seed: [u8; 32],
        health_states: Arc<HealthStates>,
    ) -> Self {
        let caches = SharedCaches::new(config, hasher_of(&mut ChaCha12Rng::from_seed(seed)));
        let caches = caches.expect("the address space has room for caches");
        Self::sharing(config, listeners, seed, health_states, &caches)
    }

    /// Creates an engine that shares the caches of `config` with others. IDs and random orders are
    /// its own.
    pub fn sharing(
        config: &Config,
        listeners: &[Option<usize>],
        seed: [u8; 32],
        health_states: Arc<HealthStates>,
        caches: &SharedCaches,
    ) -> Self {
        let mut random = ChaCha12Rng::from_seed(seed);
        // The first numbers may be the keys of the hasher.
        let _ = hasher_of(&mut random);
        let hasher = caches.hasher().clone();
        let secret = health_states.agree_on_secret(seed);
        let parts = Parts::new(config, listeners, health_states, caches);
        let pools = Pools::of(parts.pools);
        let exchanges = Exchanges::new(parts.routes.timeouts(), pools.capacity());
        let mut engine = Self {
            routes: parts.routes,
            chains: parts.chains,
            data: parts.data,
            upstreams: Upstreams::new(parts.upstreams),
            pools,
            exchanges,
            clients: Clients::new(config.client_connections_max, parts.connections, hasher.clone()),
            random,
            sends: Vec::with_capacity(super::exchange::EXCHANGES_MAX),
            failures: Failures::default(),
            delays: Delays::new(delays::DELAYED_MAX),
            late: LateReplies::new(config.late, &hasher),
            errors: parts.errors,
            journal: parts.journal,
            caches: Caches::new(parts.caches),
            limiters: parts.limiters,
            loops: Loops::default(),
            floods: Floods::default(),
            rewriting: Rewriting::default(),
            parked: parked::Table::default(),
            proxying: Proxying::default(),
            online: Online::new(parts.signatures),
            transfers: Vec::new(),
            notified: Vec::new(),
            reports: Vec::new(),
            skipped: Skipped::default(),
            counters: Counters::new(parts.tallies, parts.watch),
            drafts: Drafts::new(hasher.clone()),
            hasher,
            cookies: Cookies::new(secret, parts.cookies),
            unix: 0,
        };
        engine.forget_loops();
        engine
    }

    /// Admits a client's connection from `address` on listener number `listener`; `None`: a header
    /// of the PROXY protocol will name the address. The second key belongs to the connection that
    /// is closed to make room.
    ///
    /// # Errors
    /// [`Refused`]: the shell closes the new connection.
    pub fn admit(
        &mut self,
        now: Moment,
        listener: u16,
        address: impl Into<Option<IpAddr>>,
    ) -> Result<(ConnectionKey, Option<ConnectionKey>), Refused> {
        self.clients.admit(now, listener, address)
    }

    /// Returns the hasher of its tables, which is keyed.
    pub(crate) fn hasher(&self) -> &RandomState {
        &self.hasher
    }

    /// Returns the time at which [`Forwarder::on_time`] must be called next.
    pub fn next_deadline(&self) -> Option<Moment> {
        let dial = self.pools.next_dial_deadline();
        let stall = self.pools.next_stall();
        let probes = self.loops.due.then_some(Moment::ZERO);
        let late = self.late.held.next_deadline();
        let own = [self.parked.next_deadline(), self.delays.next_deadline(), late];
        let all = [self.exchanges.next_deadline(), dial, stall, probes];
        all.into_iter().chain(own).flatten().min()
    }

    /// Cleans up a pool or cache, when the keeper reports that the time of a [`Notice::Wake`] has
    /// come. A wake-up of an earlier configuration may refer to a pool or cache that is gone.
    pub fn on_sweep(&mut self, now: Moment, sweep: Sweep) {
        match sweep {
            Sweep::Pool(pool) if pool.index() < self.pools.count() => {
                self.pools.sweep(pool.index(), now, self.random.next_u32());
            }
            Sweep::Pool(_) => {}
            Sweep::Cache(block) => self.caches.sweep(now, block),
        }
    }

    /// Sets the wall-clock time, in seconds since 1970 and modulo 2^32, as in the validity period
    /// of signatures (RFC 4034 §3.1.5).
    pub fn on_calendar(&mut self, unix: u32) {
        self.unix = unix;
        self.cookies.on_calendar(unix);
    }

    /// Returns the next connection to dial ahead of any query: it will replace an older one.
    pub(super) fn next_dial(&mut self) -> Option<ConnectionId> {
        self.pools.next_dial()
    }

    /// Returns the number of connections of `pool` closed for `max_age`; `None` if there is no such
    /// pool.
    pub(crate) fn retired(&self, pool: PoolId) -> Option<u64> {
        (pool.index() < self.pools.count()).then(|| self.pools.stats(pool.index()).aged)
    }

    /// Returns true if `connection` uses TCP or TLS, false if it uses UDP.
    pub fn is_tcp(&self, connection: ConnectionId) -> bool {
        self.pools.is_tcp(connection)
    }

    /// Returns the next connection whose socket the shell must close.
    pub(super) fn next_closed(&mut self) -> Option<ConnectionId> {
        let closed = self.pools.next_closed();
        closed.inspect(|connection| self.exchanges.end_all_earlier(*connection))
    }

    /// Swaps the queue of queries to send with `sent`, which is empty and of the same capacity;
    /// this ends the turn's batches. A query may have ended since; its key then finds nothing.
    pub(super) fn swap_sends(&mut self, sent: &mut Vec<Outgoing>) {
        debug_assert!(sent.is_empty(), "sends would be lost");
        std::mem::swap(&mut self.sends, sent);
        self.pools.end_batches();
    }

    /// Returns true if nothing is left to be sent, opened, closed or answered.
    pub(super) fn is_settled(&self) -> bool {
        self.sends.is_empty() && !self.has_failures() && self.pools.is_settled()
    }

    /// Returns the bytes of a query to send, unless its exchange has ended or has a newer attempt.
    pub fn query(&self, send: &Outgoing) -> Option<&[u8]> {
        let slot = self.exchanges.slot(send.exchange)?;
        let current = self.exchanges.connection(slot) == Some(send.connection);
        current.then(|| self.exchanges.query(slot))
    }

    /// Returns the destination of `connection`, unless it was closed.
    pub fn address(&self, connection: ConnectionId) -> Option<&Dial> {
        self.upstream_at(connection).map(|upstream| self.upstreams.dial(upstream))
    }

    /// Returns the number of the upstream of `connection`, unless it was closed.
    pub(crate) fn upstream_at(&self, connection: ConnectionId) -> Option<usize> {
        self.pools.pool_of(connection).map(|pool| PoolId::from_index(pool).upstream())
    }

    /// Returns the number of queries that wait for a response or have a reply that is held back.
    pub fn outstanding(&self) -> usize {
        self.exchanges.outstanding() + self.delays.len() + self.late.held.len()
    }

    /// Returns true if all replies are written: no query waits for a response, no reply is held
    /// back, and each zone transfer is written to its connection.
    pub fn is_quiet(&self) -> bool {
        self.outstanding() + self.clients.transfers() == 0
    }

    /// Returns the maximum number of connections: the size of the shell's table of sockets.
    pub fn connections_max(&self) -> usize {
        self.pools.capacity()
    }

    /// Closes all idle connections, and the others once they are idle; nothing is sent any more.
    pub fn stop(&mut self) {
        self.pools.stop();
    }

    /// Returns the counters, which the shell reads and increments.
    pub fn stats_mut(&mut self) -> &mut Stats {
        &mut self.counters.stats
    }

    /// Returns a copy of the counters, including those of the pools.
    pub fn stats(&self) -> Stats {
        let mut stats = self.counters.stats.clone();
        stats.caches = self.caches.stats().collect();
        stats.limits = self.limiters.stats().collect();
        stats.cookies = self.cookies.counts();
        stats.dnssec = self.online.signatures.stats().collect();
        stats.templates = self.chains.iter().flat_map(Chain::template_stats).collect();
        let upstreams = self.upstreams.all_stats().enumerate().map(|(number, upstream)| {
            let pools = PoolId::of_upstream(number);
            let [pool, tcp] = pools.map(|pool| self.pools.stats(pool.index()));
            UpstreamStats { pool, tcp, ..*upstream }
        });
        stats.upstreams = upstreams.collect();
        stats
    }

    /// Returns the counters of queries by label set, and of answers by upstream.
    pub fn tallies(&self) -> &Tallies {
        self.counters.tallies()
    }

    /// Returns the top lists, if they are shown.
    pub fn watch(&mut self) -> &mut Watch {
        self.counters.watch()
    }

    /// Returns the state of each pool; the UDP pool of an upstream precedes its TCP pool.
    pub fn pools(&self, now: Moment) -> Vec<PoolState> {
        self.pools.states(now)
    }

    /// Returns the memory that the tables have reserved. Data from loaders is shared by all workers
    /// and counted at its source; the entries of caches are shared, too, and counted apart.
    pub fn memory(&self) -> EngineMemory {
        EngineMemory {
            exchanges: self.exchanges.reserved(),
            pools: self.pools.reserved() + self.upstreams.reserved_dials(),
            caches: self.caches.reserved(),
            caches_max: self.caches.reserved_max(),
            shared_caches: self.caches.shared().reserved(),
            shared_caches_max: self.caches.shared().reserved_max(),
            limits: self.limiters.reserved(),
            routes: self.routes.reserved(),
            queues: reserved(&self.sends)
                + self.failures.reserved()
                + self.delays.reserved()
                + self.late.reserved()
                + self.errors.reserved()
                + self.journal.reserved()
                + self.upstreams.reserved_queues()
                + self.counters.reserved()
                + self.rewriting.reserved()
                + self.parked.reserved()
                + self.online.signatures.reserved(),
            parked_max: self.parked_max(),
            held_max: late::HELD_MAX * UDP_PAYLOAD_MAX,
        }
    }

    /// Returns the maximum additional bytes that parked queries can reserve.
    fn parked_max(&self) -> usize {
        if self.chains.iter().any(Chain::parks) {
            parked::Table::reserved_max().saturating_sub(self.parked.reserved())
        } else {
            0
        }
    }

    fn upstream_of(&mut self, slot: u32) -> usize {
        self.exchanges.get(slot).upstream as usize
    }
}
