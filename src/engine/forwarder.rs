//! The forwarder: the engine of a worker, where all decisions about a query are made.
//!
//! Inputs are a client's packet, an upstream's packet, a connection's failure, the time, and the
//! keeper's message that a pool or cache has something to clean up. Each input is handled at once
//! and leaves its effects in bounded queues of small keys: queries to send, replies to failed
//! queries, connections to open ahead and to close, and [`Notice`]s for other threads.
//! [`settle`](super::shell::settle) drains them at the end of a turn. Nothing is allocated after
//! the start. The decisions about a query, in order: is it valid, which stage answers it, is the
//! same query outstanding, which upstream, which connection; about a response: connection, ID,
//! question, records. Queries, attempts, responses and replies have files of their own.

mod arrivals;
mod attempts;
mod caching;
mod course;
mod delays;
mod edns;
mod journalling;
mod logging;
mod loops;
mod memory;
mod moves;
mod notices;
mod parked;
mod parts;
mod queries;
mod recipient;
mod reload;
mod replies;
mod responses;
mod rewriting;
mod signing;
mod transfers;
mod watch;

pub use arrivals::{AHEAD_MAX, Arrival, Arrivals};
use caching::{CacheOutcome, Caches};
use delays::Delays;
use loops::Loops;
pub use notices::Notice;
use notices::Skipped;
pub use parts::Parts;
use parts::hasher_of;
pub use recipient::{TCP_MESSAGE_MAX, TCP_REPLY_SPARE};
use responses::HeldBack;
use rewriting::Rewriting;
pub use transfers::Transfer;
pub use watch::Watch;

use super::chain::Chain;
use super::clients::{Clients, ConnectionLimits, IDLE_MAX, Refused};
use super::data::Data;
use super::errors::{Errors, Reason};
use super::exchange::{Client, Exchanges, Opening};
use super::health::{HealthStates, Remark};
use super::journal::Journal;
use super::key::{ConnectionId, ConnectionKey, ExchangeKey, PoolId, Sweep, Transport};
use super::message::opt::OPT_LEN;
use super::message::query::{Query, UPSTREAM_LEN_MAX};
use super::message::response::Response;
use super::message::{HEADER_LEN, put_u16, u16_at};
use super::pool::{PoolSettings, PoolState, Pools, TrustSettings};
use super::routes::Routes;
use super::stats::{Stats, UpstreamStats};
use super::tally::Tallies;
use super::zones::LowercaseName;
use crate::config::{ClientTls, Config, Forward, Upstream};
use crate::moment::Moment;
use ahash::RandomState;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A query to send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Connection for the query; the shell dials it if it has no socket for it.
    pub connection: ConnectionId,
    /// Sort key within the connection. TCP and TLS: position in the queue, which keeps the order.
    /// UDP with GSO: decreases with the query's length, so that equal lengths are sent together.
    rank: u16,
    /// Exchange of the query; [`Forwarder::query`] returns its bytes.
    pub exchange: ExchangeKey,
}

impl Outgoing {
    /// Returns the sort key: connection, then rank. A single number, because comparisons are the
    /// cost of sorting.
    pub fn order(&self) -> u64 {
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
    pub gso: bool,
    /// TLS settings; `None`: no TLS.
    pub tls: Option<Arc<ClientTls>>,
}

/// A validated response, whose replies have not been written yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    at: Moment,
    exchange: ExchangeKey,
    response: Response,
    remembered: Option<CacheOutcome>,
}

/// A query without a response, whose replies have not been written yet.
#[derive(Clone, Copy, Debug)]
struct Failed {
    at: Moment,
    exchange: ExchangeKey,
    reason: Reason,
    remembered: Option<CacheOutcome>,
    /// The clients have been answered, but the exchange continues.
    goes_on: bool,
}

/// Server block and stanza of a query that is forwarded.
struct Route {
    block: usize,
    /// Number under which the query is counted.
    label_set: u32,
    stanza: usize,
    /// Transport of the client.
    transport: Transport,
    /// True if the outcome is stored in the block's cache.
    cacheable: bool,
}

/// A worker's engine.
pub struct Forwarder {
    routes: Routes,
    /// Chain of each server block.
    chains: Vec<Chain>,
    /// Data from the loaders, set by the shell.
    pub data: Data,
    /// Destination of each upstream; [`PoolId`] has the numbers of its pools.
    addresses: Vec<Dial>,
    /// Connection limits of each of the shell's listeners.
    connections: Vec<ConnectionLimits>,
    pools: Pools,
    exchanges: Exchanges,
    /// The connections of clients, for the shell to admit and close.
    pub clients: Clients,
    random: ChaCha12Rng,
    hasher: RandomState,
    sends: Vec<Outgoing>,
    failures: Vec<Failed>,
    held: HeldBack,
    delays: Delays,
    errors: Errors,
    journal: Journal,
    caches: Caches,
    loops: Loops,
    rewriting: Rewriting,
    parked: parked::Table,
    /// Transfers that the shell is to hand on.
    transfers: Vec<Transfer>,
    /// Upstreams at which attempts fail, for the keeper to probe.
    failing: Vec<usize>,
    /// Kinds of notices that are skipped until the end of this round.
    skipped: Skipped,
    remarks: Vec<Remark>,
    stats: Stats,
    /// Counters of each upstream; [`Forwarder::stats`] adds those of its pools.
    #[expect(clippy::vec_box, reason = "a reload moves thousands of them, at 3 kB each")]
    upstream_stats: Vec<Box<UpstreamStats>>,
    tallies: Tallies,
    watch: Watch,
    health_states: Arc<HealthStates>,
    draft: [u8; UPSTREAM_LEN_MAX],
}

impl Forwarder {
    /// Creates an engine for `config`. `seed`: unpredictable bytes, from which all IDs, random
    /// orders and hash keys are derived. `health_states`: which upstreams are down.
    pub fn new(config: &Config, seed: [u8; 32], health_states: Arc<HealthStates>) -> Self {
        let listeners: Vec<_> = (0..config.listeners.len()).map(Some).collect();
        Self::with_listeners(config, &listeners, seed, health_states)
    }

    /// Creates an engine for a shell that has only some listeners of `config`. `listeners`: for
    /// each listener of the shell, its number in `config`.
    pub fn with_listeners(
        config: &Config,
        listeners: &[Option<usize>],
        seed: [u8; 32],
        health_states: Arc<HealthStates>,
    ) -> Self {
        let mut random = ChaCha12Rng::from_seed(seed);
        let hasher = hasher_of(&mut random);
        let parts = Parts::keyed(config, listeners, health_states, &hasher);
        let pools = Pools::of(parts.pools);
        let exchanges = Exchanges::new(parts.routes.timeouts(), pools.capacity());
        let failing = Vec::with_capacity(parts.upstream_stats.len());
        let mut engine = Self {
            routes: parts.routes,
            chains: parts.chains,
            data: parts.data,
            addresses: parts.dials,
            connections: parts.connections,
            pools,
            exchanges,
            clients: Clients::new(config.client_connections_max, hasher.clone()),
            random,
            watch: parts.watch,
            hasher,
            sends: Vec::with_capacity(super::exchange::EXCHANGES_MAX),
            failures: Vec::with_capacity(super::exchange::EXCHANGES_MAX),
            held: HeldBack::default(),
            delays: Delays::default(),
            errors: parts.errors,
            journal: parts.journal,
            caches: Caches::new(parts.caches),
            loops: Loops::default(),
            rewriting: Rewriting::default(),
            parked: parked::Table::default(),
            transfers: Vec::new(),
            failing,
            skipped: Skipped::default(),
            remarks: Vec::with_capacity(edns::REMARKS_MAX),
            stats: Stats::default(),
            upstream_stats: parts.upstream_stats,
            tallies: parts.tallies,
            health_states: parts.health_states,
            draft: [0; UPSTREAM_LEN_MAX],
        };
        engine.forget_loops();
        engine
    }

    /// Admits a client's connection from `address` on listener number `listener`. The second key
    /// belongs to the connection that is closed to make room.
    ///
    /// # Errors
    /// [`Refused`]: the shell closes the new connection.
    pub fn admit(
        &mut self,
        now: Moment,
        listener: u16,
        address: IpAddr,
    ) -> Result<(ConnectionKey, Option<ConnectionKey>), Refused> {
        self.clients.admit(now, address, self.connections[usize::from(listener)])
    }

    /// Returns the time at which [`Forwarder::on_time`] must be called next.
    pub fn next_deadline(&self) -> Option<Moment> {
        let dial = self.pools.next_dial_deadline();
        let stall = self.pools.next_stall();
        let probes = self.loops.due.then_some(Moment::ZERO);
        let own = [self.parked.next_deadline(), self.delays.next_due()];
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

    /// Returns the next connection to dial ahead of any query: it will replace an older one.
    pub(super) fn next_dial(&mut self) -> Option<ConnectionId> {
        self.pools.next_dial()
    }

    /// Returns the number of connections of `pool` closed for `max_age`; `None` if there is no such
    /// pool.
    pub fn retired(&self, pool: PoolId) -> Option<u64> {
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
        self.upstream_at(connection).map(|upstream| &self.addresses[upstream])
    }

    /// Returns the number of the upstream of `connection`, unless it was closed.
    pub fn upstream_at(&self, connection: ConnectionId) -> Option<usize> {
        self.pools.pool_of(connection).map(|pool| PoolId::from_index(pool).upstream())
    }

    /// Returns the number of queries that wait for a response, have a reply that is held back, or
    /// a zone transfer that the client has not read to the end.
    pub fn outstanding(&self) -> usize {
        self.exchanges.outstanding() + self.delays.len() + self.clients.transfers()
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
        &mut self.stats
    }

    /// Returns a copy of the counters, including those of the pools.
    pub fn stats(&self) -> Stats {
        let mut stats = self.stats.clone();
        stats.caches = self.caches.stats().collect();
        stats.templates = self.chains.iter().flat_map(Chain::template_stats).collect();
        let upstreams = self.upstream_stats.iter().enumerate().map(|(number, upstream)| {
            let pools = PoolId::of_upstream(number);
            let [pool, tcp] = pools.map(|pool| self.pools.stats(pool.index()));
            UpstreamStats { pool, tcp, ..**upstream }
        });
        stats.upstreams = upstreams.collect();
        stats
    }

    /// Returns the counters of queries by label set, and of answers by upstream.
    pub fn tallies(&self) -> &Tallies {
        &self.tallies
    }

    /// Returns the top lists, if they are shown.
    pub fn watch(&mut self) -> &mut Watch {
        &mut self.watch
    }

    /// Returns the state of each pool; the UDP pool of an upstream precedes its TCP pool.
    pub fn pools(&self, now: Moment) -> Vec<PoolState> {
        self.pools.states(now)
    }

    /// Writes the upstream query for a query in `block` and returns its length. `set`: header flags
    /// that are set in addition to the client's.
    fn write_draft(&mut self, query: &Query<'_>, block: usize, set: u16) -> usize {
        let chain = &self.chains[block];
        let len = query.write_upstream(&mut self.draft, chain.finish_own().udp_size);
        let word = u16_at(&self.draft, 2).unwrap_or(0) | set;
        put_u16(&mut self.draft, 2, chain.query_flags().apply(word));
        len
    }

    fn upstream_of(&mut self, slot: u32) -> usize {
        self.exchanges.get(slot).upstream as usize
    }
}

impl Route {
    /// Returns the parameters of a new exchange for `draft`, whose hash is `hash`.
    fn opening<'a>(
        &self,
        draft: &'a [u8],
        query: &Query<'_>,
        hash: u32,
        routes: &mut Routes,
        chains: &[Chain],
    ) -> Opening<'a> {
        let stanza = routes.stanza(self.stanza);
        Opening {
            query: draft,
            name_len: query.question.name_len,
            hash,
            stanza: self.stanza as u32,
            transport: stanza.transport(self.transport),
            timeout_class: stanza.timeout_class,
            budget: chains[self.block].settings.budget,
            cacheable: self.cacheable,
        }
    }
}

/// Returns the connection limits of each of the shell's listeners. Of several blocks with a
/// setting, the last one applies.
fn connection_limits(config: &Config, listeners: &[Option<usize>]) -> Vec<ConnectionLimits> {
    let limits = |listener: &Option<usize>| {
        let mut limits = ConnectionLimits::DEFAULT;
        let listener = listener.map(|number| &config.listeners[number]);
        limits.secure = listener.is_some_and(|listener| listener.tls.is_some());
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

fn chains_of(config: &Config, hasher: &RandomState) -> Vec<Chain> {
    let numbers: Vec<_> = (0..config.listeners.len()).map(Some).collect();
    let limits = connection_limits(config, &numbers);
    // A block on several listeners advertises the shortest idle timeout.
    let mut idle = vec![None; config.blocks.len()];
    for (listener, limits) in config.listeners.iter().zip(&limits) {
        for (_, block) in &listener.zones {
            let least = idle[*block].map_or(limits.idle, |other: Duration| other.min(limits.idle));
            idle[*block] = Some(least);
        }
    }
    let blocks = config.blocks.iter().zip(idle);
    blocks.map(|(block, idle)| Chain::new(block, idle.unwrap_or(IDLE_MAX), hasher)).collect()
}

/// Returns the hash of an upstream query, without letter case, and of its stanza. The length of its
/// options is left out because each attempt rewrites it.
fn hash_of(hasher: &RandomState, name: &LowercaseName, query: &[u8], stanza: usize) -> u32 {
    let name_end = HEADER_LEN + name.as_bytes().len();
    let opt_len = name_end + 4 + OPT_LEN - 2;
    let (flags, fixed, options) = (&query[2..4], &query[name_end..opt_len], &query[opt_len + 2..]);
    hasher.hash_one((name.as_bytes(), flags, fixed, options, stanza)) as u32
}

/// Returns the address of each upstream, and the source address of its queries.
fn dials_of(config: &Config) -> Vec<Dial> {
    let dial = |(forward, upstream): (&Forward, &Upstream)| Dial {
        upstream: upstream.address,
        source: forward.source_address,
        gso: forward.gso,
        tls: upstream.tls.clone(),
    };
    config.upstreams().map(dial).collect()
}

/// Returns the settings of the pools of all upstreams, in the order of [`PoolId`].
fn pool_settings(config: &Config) -> impl Iterator<Item = PoolSettings> {
    config.upstreams().flat_map(|(forward, _)| upstream_settings(forward))
}

/// Returns the settings of an upstream's two pools, in the order of [`PoolId::of_upstream`].
fn upstream_settings(forward: &Forward) -> [PoolSettings; 2] {
    let udp = PoolSettings {
        expire: forward.expire,
        max_age: forward.max_age,
        jitter: forward.max_age_jitter,
        max_idle: forward.max_idle_conns,
        spread: forward.sizing.spread,
        max_conns: forward.sizing.max_conns,
        max_inflight: forward.sizing.max_inflight,
        tcp: false,
        trust: TrustSettings {
            distrust: forward.distrust.then_some(forward.read_timeout),
            rebalance: forward.rebalance,
        },
    };
    let (spread, max_inflight) = (forward.sizing.stream_spread, forward.sizing.tcp_inflight);
    [udp, PoolSettings { spread, max_inflight, tcp: true, ..udp }]
}
