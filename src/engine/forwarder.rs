//! The forwarder: the one place that branches.
//!
//! Inputs are a client's packet, an upstream's packet, a connection's failure, the time, and the
//! keeper's word that a pool has something to close. Each is taken whole and leaves its effects in
//! bounded queues of small keys: queries to send, replies to failed queries, connections to open
//! ahead and to close, and [`Notice`]s for other threads. [`settle`](super::shell::settle) drains
//! them at the end of a turn. Nothing is allocated after the start. What a packet can do is decided
//! in this order: is it understood, who handles it, is it under way already, which upstream, which
//! connection; and for a response: connection, id, question, records. Queries, attempts, responses
//! and replies have files of their own.

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
    /// On this connection, which is to be dialled if the shell has no socket for it.
    pub connection: ConnectionId,
    /// On a connection its place among those to send, so that they leave in the order in which they
    /// stand there; in a datagram what it lacks to the longest, where equal ones leave together.
    rank: u16,
    /// The query: [`Forwarder::query`] has its bytes.
    pub exchange: ExchangeKey,
}

impl Outgoing {
    /// By which they are to be sorted: by connection, and on each by rank. One number, for
    /// comparing is what sorting costs.
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
    /// Over TLS, by which it is known.
    pub tls: Option<Arc<ClientTls>>,
}

/// A response that was believed; its replies are still to be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    at: Moment,
    exchange: ExchangeKey,
    response: Response,
    remembered: Option<CacheOutcome>,
}

/// A query without a response; its replies are still to be drawn.
#[derive(Clone, Copy, Debug)]
struct Failed {
    at: Moment,
    exchange: ExchangeKey,
    reason: Reason,
    remembered: Option<CacheOutcome>,
    /// The clients have been answered, but the exchange continues.
    goes_on: bool,
}

/// A query's way through the forwarder.
struct Route {
    block: usize,
    /// Number under which the query is counted.
    label_set: u32,
    stanza: usize,
    /// Transport of the client.
    transport: Transport,
    /// True if what comes of it is for the block's cache.
    cacheable: bool,
}

/// A worker's engine.
pub struct Forwarder {
    routes: Routes,
    /// Of each server block.
    chains: Vec<Chain>,
    /// Data that loaders have loaded, set by the shell.
    pub data: Data,
    /// Of each upstream; [`PoolId`] tells its pools.
    addresses: Vec<Dial>,
    /// Of each of the shell's listeners.
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
    /// Upstreams at which attempts fail, for the keeper to probe.
    failing: Vec<usize>,
    /// Kinds of notices that are not drawn again in this round.
    skipped: Skipped,
    remarks: Vec<Remark>,
    stats: Stats,
    /// Of each upstream: what [`Forwarder::stats`] hands out with the counters of its pools.
    #[expect(clippy::vec_box, reason = "a reload moves thousands of them, at 3 kB each")]
    upstream_stats: Vec<Box<UpstreamStats>>,
    tallies: Tallies,
    watch: Watch,
    health_states: Arc<HealthStates>,
    draft: [u8; UPSTREAM_LEN_MAX],
}

impl Forwarder {
    /// An engine for `config`. `seed`: bytes that nobody can predict; all ids, orders and hash
    /// keys follow from it. `health_states`: which upstreams are down.
    pub fn new(config: &Config, seed: [u8; 32], health_states: Arc<HealthStates>) -> Self {
        let listeners: Vec<_> = (0..config.listeners.len()).map(Some).collect();
        Self::with_listeners(config, &listeners, seed, health_states)
    }

    /// The same, for a shell whose listeners are these of the configuration's; nobody is served
    /// on the others.
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

    /// Admits a client's connection on listener number `listener` from `address`. The second key is
    /// of the connection that was closed for it.
    ///
    /// # Errors
    /// [`Refused`]: the shell closes the newcomer.
    pub fn admit(
        &mut self,
        now: Moment,
        listener: u16,
        address: IpAddr,
    ) -> Result<(ConnectionKey, Option<ConnectionKey>), Refused> {
        self.clients.admit(now, address, self.connections[usize::from(listener)])
    }

    /// Returns the instant at which [`Forwarder::on_time`] next has something to do.
    pub fn next_deadline(&self) -> Option<Moment> {
        let dial = self.pools.next_dial_deadline();
        let stall = self.pools.next_stall();
        let probes = self.loops.due.then_some(Moment::ZERO);
        let own = [self.parked.next_deadline(), self.delays.next_due()];
        let all = [self.exchanges.next_deadline(), dial, stall, probes];
        all.into_iter().chain(own).flatten().min()
    }

    /// The keeper's word that the moment of a [`Notice::Wake`] has come. One of an earlier
    /// configuration may name what is there no more.
    pub fn on_sweep(&mut self, now: Moment, sweep: Sweep) {
        match sweep {
            Sweep::Pool(pool) if pool.index() < self.pools.count() => {
                self.pools.sweep(pool.index(), now, self.random.next_u32());
            }
            Sweep::Pool(_) => {}
            Sweep::Cache(block) => self.caches.sweep(now, block),
        }
    }

    /// The next connection to dial though no query waits for it yet: it will replace an older one.
    pub(super) fn next_dial(&mut self) -> Option<ConnectionId> {
        self.pools.next_dial()
    }

    /// Returns the number of connections of `pool` closed for `max_age`; `None` if there is no such
    /// pool.
    pub fn retired(&self, pool: PoolId) -> Option<u64> {
        (pool.index() < self.pools.count()).then(|| self.pools.stats(pool.index()).aged)
    }

    /// Returns true if `connection` is a connection.
    pub fn is_tcp(&self, connection: ConnectionId) -> bool {
        self.pools.is_tcp(connection)
    }

    /// The next connection whose socket is to be closed.
    pub(super) fn next_closed(&mut self) -> Option<ConnectionId> {
        let closed = self.pools.next_closed();
        closed.inspect(|connection| self.exchanges.end_all_earlier(*connection))
    }

    /// Takes the queries to send in exchange for `sent`, which is empty and as large; the turn's
    /// batches end with that. A query whose key finds nothing has ended meanwhile.
    pub(super) fn swap_sends(&mut self, sent: &mut Vec<Outgoing>) {
        debug_assert!(sent.is_empty(), "sends would be lost");
        std::mem::swap(&mut self.sends, sent);
        self.pools.end_batches();
    }

    /// Returns true if nothing is left to be sent, opened, closed or told to clients.
    pub(super) fn is_settled(&self) -> bool {
        self.sends.is_empty() && !self.has_failures() && self.pools.is_settled()
    }

    /// The bytes of a query to send, unless its exchange has ended or moved on.
    pub fn query(&self, send: &Outgoing) -> Option<&[u8]> {
        let slot = self.exchanges.slot(send.exchange)?;
        let current = self.exchanges.connection(slot) == Some(send.connection);
        current.then(|| self.exchanges.query(slot))
    }

    /// Returns the destination of `connection`, unless it was closed.
    pub fn address(&self, connection: ConnectionId) -> Option<&Dial> {
        self.upstream_at(connection).map(|upstream| &self.addresses[upstream])
    }

    /// The number of the upstream that `connection` leads to, unless it was closed.
    pub fn upstream_at(&self, connection: ConnectionId) -> Option<usize> {
        self.pools.pool_of(connection).map(|pool| PoolId::from_index(pool).upstream())
    }

    /// Returns the number of queries that wait for a response, or have a reply that is held back.
    pub fn outstanding(&self) -> usize {
        self.exchanges.outstanding() + self.delays.len()
    }

    /// Connections there may be at most: the size of the shell's table of sockets.
    pub fn connections_max(&self) -> usize {
        self.pools.capacity()
    }

    /// Closes all idle connections, and the others as they come back; nothing is sent any more.
    pub fn stop(&mut self) {
        self.pools.stop();
    }

    /// The counters, to be read or to be bumped by the shell.
    pub fn stats_mut(&mut self) -> &mut Stats {
        &mut self.stats
    }

    /// A copy of the counters, the pools' included.
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

    /// Returns the counters of queries by place, and of answers by upstream.
    pub fn tallies(&self) -> &Tallies {
        &self.tallies
    }

    /// Returns the top lists, if they are shown.
    pub fn watch(&mut self) -> &mut Watch {
        &mut self.watch
    }

    /// The state of each pool, an upstream's datagrams before its connections.
    pub fn pools(&self, now: Moment) -> Vec<PoolState> {
        self.pools.states(now)
    }

    /// Writes what goes upstream for a query through `block`, where `set` of the header's flags are
    /// set whoever asks; returns its length.
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
    /// The exchange that `draft`, with this hash, begins.
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

/// Returns the time-outs of connections on each of the shell's listeners: by the last of its blocks
/// that says anything.
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
    // A block on several listeners says what holds on all of them.
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

/// Of a query's text, letter case apart, and the stanza. Without the length of its options, which
/// each attempt writes anew.
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

/// Of all upstreams' pools, in the order of [`PoolId`].
fn pool_settings(config: &Config) -> impl Iterator<Item = PoolSettings> {
    config.upstreams().flat_map(|(forward, _)| upstream_settings(forward))
}

/// Of an upstream's two pools, in the order of [`PoolId::of_upstream`].
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
