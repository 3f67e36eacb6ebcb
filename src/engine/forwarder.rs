//! The forwarder: the one place that branches.
//!
//! Inputs are a client's packet, an upstream's packet, a connection's failure, the time, and the
//! keeper's word that a pool has something to close. Each is taken whole and leaves its effects in
//! bounded queues of small keys: queries to send ([`Forwarder::swap_sends`]), replies to failed
//! queries ([`Forwarder::next_failure`]), sockets to close ([`Forwarder::next_closed`]) and wake-ups
//! to ask for ([`Forwarder::next_request`]). Nothing is allocated after the start. What a packet
//! can do is decided in this order: is it understood, who handles it, is it under way already,
//! which upstream, which connection; and for a response: connection, id, question, records.

use super::exchange::{Client, Exchanges, Opening, Overdue, Spelling, Waiter};
use super::key::{ConnectionId, ExchangeKey};
use super::message::query::{Query, Rejection, UPSTREAM_LEN_MAX};
use super::message::reply::{ExtendedError, write_answer, write_error};
use super::message::response::{Response, answers, is_response};
use super::message::{HEADER_LEN, NAME_LEN_MAX, Question, Rcode, flags, id, kind, reply};
use super::policy::Rotation;
use super::pool::{PoolSettings, Pools};
use super::stats::{DropReason, Stats, UpstreamStats};
use super::zones::{Folded, Zones};
use crate::config::{Config, Forward, Policy};
use crate::moment::Moment;
use ahash::RandomState;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

/// How often one query is sent to one upstream where the configuration sets no cap (RFC 9520 §3.1):
/// upstreams that refuse at once would otherwise be asked as fast as they refuse, until its deadline.
const ATTEMPTS_MAX: u32 = 3;

/// A query to send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outgoing {
    /// On this connection, which is to be dialled if the shell has no socket for it.
    pub connection: ConnectionId,
    /// The query: [`Forwarder::query`] has its bytes.
    pub exchange: ExchangeKey,
}

/// A reply that was written into the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Whom it is for.
    pub client: Client,
    /// Its length.
    pub len: usize,
}

/// A response that was believed; its replies are still to be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    exchange: ExchangeKey,
    response: Response,
}

/// One `forward` stanza, ready for use.
struct Stanza {
    from: Box<[u8]>,
    except: Zones<()>,
    policy: Policy,
    rotation: Rotation,
    /// Its upstreams, as numbered over all stanzas; a pool has its upstream's number.
    upstreams: Range<usize>,
    failures_max: u32,
    timeout_class: u8,
}

/// A worker's engine.
pub struct Forwarder {
    /// For each listener: zone to server block.
    routes: Vec<Zones<usize>>,
    /// For each server block: its stanzas.
    blocks: Vec<Range<usize>>,
    stanzas: Vec<Stanza>,
    addresses: Vec<SocketAddr>,
    pools: Pools,
    exchanges: Exchanges,
    random: ChaCha12Rng,
    hasher: RandomState,
    sends: Vec<Outgoing>,
    failures: Vec<(ExchangeKey, ExtendedError)>,
    stats: Stats,
    draft: [u8; UPSTREAM_LEN_MAX],
}

impl Forwarder {
    /// An engine for `config`. `seed`: bytes that nobody can predict; all ids, orders and hash
    /// keys follow from it.
    pub fn new(config: &Config, seed: [u8; 32]) -> Self {
        let mut random = ChaCha12Rng::from_seed(seed);
        let mut key = || random.next_u64();
        let hasher = RandomState::with_seeds(key(), key(), key(), key());
        let mut timeouts: Vec<Duration> = Vec::new();
        let (mut blocks, mut stanzas) = (Vec::new(), Vec::new());
        let (mut addresses, mut settings) = (Vec::new(), Vec::new());
        for block in &config.blocks {
            let first = stanzas.len();
            for forward in &block.forwards {
                let timeout_class = class_of(&mut timeouts, forward.read_timeout);
                let upstreams = addresses.len()..addresses.len() + forward.upstreams.len();
                addresses.extend(forward.upstreams.iter().map(|upstream| upstream.address));
                settings.extend(upstreams.clone().map(|_| pool_settings(forward)));
                stanzas.push(Stanza::new(forward, upstreams, timeout_class, &hasher));
            }
            blocks.push(first..stanzas.len());
        }
        let routes = config.listeners.iter().map(|listener| {
            let zones = listener.zones.iter().map(|(name, block)| (name, *block));
            Zones::new(hasher.clone(), zones)
        });
        let pools = Pools::new(settings);
        let exchanges = Exchanges::new(&timeouts, pools.capacity());
        let upstreams = vec![UpstreamStats::default(); addresses.len()];
        Self {
            routes: routes.collect(),
            blocks,
            stanzas,
            addresses,
            pools,
            exchanges,
            random,
            hasher,
            sends: Vec::with_capacity(super::exchange::EXCHANGES_MAX),
            failures: Vec::with_capacity(super::exchange::EXCHANGES_MAX),
            stats: Stats { upstreams, ..Stats::default() },
            draft: [0; UPSTREAM_LEN_MAX],
        }
    }

    /// A client's packet. `truncated`: its buffer did not hold all of it. Returns the length of a
    /// reply written into `out` (at least [`reply::ERROR_LEN_MAX`] bytes); `None` when there is
    /// none, or none yet.
    pub fn on_query(
        &mut self,
        now: Moment,
        client: Client,
        packet: &[u8],
        truncated: bool,
        out: &mut [u8],
    ) -> Option<usize> {
        self.stats.queries += 1;
        if client.peer.port() == 0 {
            self.stats.drop(DropReason::QueryFromPortZero);
            return None;
        }
        let refusal = match Query::parse(packet, truncated) {
            Ok(query) => match self.forward(now, client, &query) {
                Ok(()) => return None,
                Err((rcode, why)) => (rcode, why, query.asked, Some(query.question)),
            },
            Err(Rejection::TooShort) => {
                self.stats.drop(DropReason::QueryTooShort);
                return None;
            }
            Err(Rejection::IsResponse) => {
                self.stats.drop(DropReason::QueryIsResponse);
                return None;
            }
            Err(Rejection::Refusal { rcode, asked, question }) => (rcode, None, asked, question),
        };
        let (rcode, why, asked, question) = refusal;
        let question = question.map_or(&[][..], |question| &packet[HEADER_LEN..question.end()]);
        let len = write_error(out, &asked, question, rcode, why);
        self.count_reply(&out[..len]);
        Some(len)
    }

    /// An upstream's packet on `connection`. `truncated`: its buffer did not hold all of it.
    /// `None`: it ends no exchange, and its drop is counted; whoever waits goes on waiting.
    pub fn on_response(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        packet: &[u8],
        truncated: bool,
    ) -> Option<Answered> {
        match self.believe(connection, packet, truncated) {
            Ok((slot, response)) => {
                let upstream = self.upstream_of(slot);
                self.stats.upstreams[upstream].answered += 1;
                self.exchanges.end_attempt(slot);
                self.pools.release(connection, now, false);
                self.exchanges.settle(slot);
                Some(Answered { exchange: self.exchanges.key(slot), response })
            }
            Err(reason) => {
                self.stats.drop(reason);
                None
            }
        }
    }

    /// The next client's copy of a believed response, whose packet is lent once more. To be drawn
    /// until `None`. `out` holds at least [`super::message::UDP_PAYLOAD_MAX`] bytes.
    pub fn next_reply(
        &mut self,
        answered: &Answered,
        packet: &[u8],
        out: &mut [u8],
    ) -> Option<Reply> {
        let slot = self.exchanges.slot(answered.exchange)?;
        let waiter = self.exchanges.next_waiter(slot)?;
        let mut scratch = [0; NAME_LEN_MAX + 4];
        let question = self.question_for(slot, &waiter, &mut scratch);
        let (response, asked) = (&answered.response, &waiter.asked);
        let len = write_answer(out, packet, response, asked, question, asked.udp_limit());
        self.count_reply(&out[..len]);
        Some(Reply { client: waiter.client, len })
    }

    /// The next reply to a query that found no answer. To be drawn until `None` after every other
    /// call. `out` holds at least [`reply::ERROR_LEN_MAX`] bytes.
    pub fn next_failure(&mut self, out: &mut [u8]) -> Option<Reply> {
        loop {
            let (key, why) = *self.failures.last()?;
            let waiter = self.exchanges.slot(key).and_then(|slot| self.exchanges.next_waiter(slot));
            let Some(waiter) = waiter else {
                self.failures.pop();
                continue;
            };
            let mut scratch = [0; NAME_LEN_MAX + 4];
            let question = self.question_for(key.0.index, &waiter, &mut scratch);
            let len = write_error(out, &waiter.asked, question, Rcode::ServFail, Some(why));
            self.count_reply(&out[..len]);
            return Some(Reply { client: waiter.client, len });
        }
    }

    /// The connection's socket failed or could not be opened: its queries move on at once.
    pub fn on_connection_failed(&mut self, now: Moment, connection: ConnectionId) {
        if !self.pools.is_open(connection) {
            return;
        }
        self.pools.break_off(connection);
        while let Some(slot) = self.exchanges.first_on(connection) {
            let upstream = self.upstream_of(slot);
            self.stats.upstreams[upstream].failed += 1;
            self.exchanges.end_attempt(slot);
            self.pools.release(connection, now, false);
            self.retry(now, slot, ExtendedError::NetworkError);
        }
    }

    /// Time has passed: attempts that are overdue move on, queries that are overdue fail.
    pub fn on_time(&mut self, now: Moment) {
        while let Some((slot, overdue)) = self.exchanges.overdue(now) {
            let upstream = self.upstream_of(slot);
            if let Some(connection) = self.exchanges.end_attempt(slot) {
                self.stats.upstreams[upstream].timed_out += 1;
                self.pools.release(connection, now, true);
            }
            match overdue {
                Overdue::Attempt => self.retry(now, slot, ExtendedError::NoReachableAuthority),
                Overdue::Query => self.fail(slot, ExtendedError::NoReachableAuthority),
            }
        }
    }

    /// When [`Forwarder::on_time`] next has something to do.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.exchanges.next_deadline()
    }

    /// The keeper's word that `pool` has connections to close.
    pub fn on_sweep(&mut self, now: Moment, pool: usize) {
        self.pools.sweep(pool, now);
    }

    /// The next wake-up to ask the keeper for: which pool, and when.
    pub fn next_request(&mut self) -> Option<(usize, Moment)> {
        self.pools.next_request()
    }

    /// The keeper could not be asked: the request will be made again.
    pub fn request_failed(&mut self, pool: usize) {
        self.pools.disarm(pool);
    }

    /// The next connection whose socket is to be closed.
    pub fn next_closed(&mut self) -> Option<ConnectionId> {
        self.pools.next_closed()
    }

    /// Takes the queries to send in exchange for `sent`, which is empty and as large; the turn's
    /// batches end with that. A query whose key finds nothing has ended meanwhile.
    pub fn swap_sends(&mut self, sent: &mut Vec<Outgoing>) {
        debug_assert!(sent.is_empty(), "sends would be lost");
        std::mem::swap(&mut self.sends, sent);
        self.pools.end_batches();
    }

    /// The bytes of a query to send, unless its exchange has ended or moved on.
    pub fn query(&self, send: &Outgoing) -> Option<&[u8]> {
        let slot = self.exchanges.slot(send.exchange)?;
        let current = self.exchanges.connection(slot) == Some(send.connection);
        current.then(|| self.exchanges.query(slot))
    }

    /// Where `connection` leads, unless it was closed.
    pub fn address(&self, connection: ConnectionId) -> Option<SocketAddr> {
        self.pools.pool_of(connection).map(|pool| self.addresses[pool])
    }

    /// How many queries wait for a response.
    pub fn outstanding(&self) -> usize {
        self.exchanges.outstanding()
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
        for (pool, upstream) in stats.upstreams.iter_mut().enumerate() {
            upstream.pool = self.pools.stats(pool);
        }
        stats
    }

    /// Finds who handles a query and sets it on its way, or has the client wait for the same
    /// query that is on its way already.
    fn forward(
        &mut self,
        now: Moment,
        client: Client,
        query: &Query<'_>,
    ) -> Result<(), (Rcode, Option<ExtendedError>)> {
        let name = Folded::new(query.name());
        let stanza = self.route(client.listener, &name, &query.question)?;
        let query_len = query.write_upstream(&mut self.draft);
        let opening = Opening {
            query: &self.draft[..query_len],
            name_len: query.question.name_len,
            hash: self.hash(&name, query_len, stanza),
            stanza: stanza as u32,
            timeout_class: self.stanzas[stanza].timeout_class,
        };
        let full = Err((Rcode::ServFail, Some(ExtendedError::NetworkError)));
        if self.exchanges.waiters_are_full() {
            self.stats.overloaded += 1;
            return full;
        }
        let mut waiter = Waiter { client, asked: query.asked, spelling: None };
        if let Some(slot) = self.exchanges.find_same(&opening) {
            waiter.spelling = Some(Spelling::of(query.name()));
            self.exchanges.join(slot, waiter);
            self.stats.coalesced += 1;
            return Ok(());
        }
        let Some(slot) = self.exchanges.open(&opening, now) else {
            self.stats.overloaded += 1;
            return full;
        };
        self.exchanges.join(slot, waiter);
        self.attempt(now, slot, ExtendedError::NetworkError);
        Ok(())
    }

    /// The stanza that handles the question.
    fn route(
        &self,
        listener: u16,
        name: &Folded,
        question: &Question,
    ) -> Result<usize, (Rcode, Option<ExtendedError>)> {
        let zones = &self.routes[usize::from(listener)];
        let block = match question.kind {
            kind::DS => zones.topmost(name),
            _ => zones.longest(name),
        };
        let mut stanzas = self.blocks[block.ok_or((Rcode::Refused, None))?].clone();
        if stanzas.is_empty() {
            return Err((Rcode::Refused, None));
        }
        stanzas.find(|stanza| self.stanzas[*stanza].handles(name)).ok_or((Rcode::ServFail, None))
    }

    /// Of the draft's text, letter case apart, and the stanza.
    fn hash(&self, name: &Folded, query_len: usize, stanza: usize) -> u32 {
        let name_end = HEADER_LEN + name.as_bytes().len();
        let flags = &self.draft[2..4];
        let rest = &self.draft[name_end..query_len];
        self.hasher.hash_one((name.as_bytes(), flags, rest, stanza)) as u32
    }

    /// Sends the query in `slot` to its next upstream that has a connection for it, or fails it.
    fn attempt(&mut self, now: Moment, slot: u32, why: ExtendedError) {
        let exchange = self.exchanges.get(slot);
        let stanza = &mut self.stanzas[exchange.stanza as usize];
        let count = stanza.upstreams.len();
        for _ in 0..count {
            let exchange = self.exchanges.get(slot);
            if exchange.failures >= stanza.failures_max {
                break;
            }
            let (policy, rotation) = (stanza.policy, &mut stanza.rotation);
            let next = exchange.tour.next(policy, count, rotation, || self.random.next_u32());
            let upstream = stanza.upstreams.start + next;
            exchange.upstream = upstream as u32;
            match self.pools.take(upstream, now, self.random.next_u32()) {
                Ok(connection) => {
                    let random = || self.random.next_u32() as u16;
                    self.exchanges.begin_attempt(slot, connection, now, random);
                    self.stats.upstreams[upstream].sent += 1;
                    let exchange = self.exchanges.key(slot);
                    self.sends.push(Outgoing { connection, exchange });
                    return;
                }
                Err(_) => {
                    exchange.failures += 1;
                    self.stats.upstreams[upstream].failed += 1;
                }
            }
        }
        self.fail(slot, why);
    }

    /// The query's last attempt ended in an error.
    fn retry(&mut self, now: Moment, slot: u32, why: ExtendedError) {
        self.exchanges.get(slot).failures += 1;
        self.attempt(now, slot, why);
    }

    /// No upstream answered: everybody who waits is told.
    fn fail(&mut self, slot: u32, why: ExtendedError) {
        self.exchanges.settle(slot);
        self.failures.push((self.exchanges.key(slot), why));
    }

    /// Whether a packet answers the exchange it claims to, and how it is laid out.
    fn believe(
        &self,
        connection: ConnectionId,
        packet: &[u8],
        truncated: bool,
    ) -> Result<(u32, Response), DropReason> {
        let id = id(packet).filter(|_| is_response(packet)).ok_or(DropReason::ResponseMalformed)?;
        let slot = self.exchanges.find(connection, id).ok_or(DropReason::ResponseUnmatched)?;
        let name_len = self.exchanges.name_len(slot);
        if !answers(packet, self.exchanges.query(slot), name_len) {
            return Err(DropReason::ResponseWrongQuestion);
        }
        let response =
            if truncated { Response::of_truncated(packet) } else { Response::parse(packet) };
        Ok((slot, response.ok_or(DropReason::ResponseMalformed)?))
    }

    /// The question of the exchange that is or was just in `slot`, as the waiter spelt it.
    fn question_for<'a>(
        &'a self,
        slot: u32,
        waiter: &Waiter,
        scratch: &'a mut [u8; NAME_LEN_MAX + 4],
    ) -> &'a [u8] {
        let name_len = self.exchanges.name_len(slot);
        let question = &self.exchanges.query(slot)[HEADER_LEN..HEADER_LEN + name_len + 4];
        let Some(spelling) = &waiter.spelling else { return question };
        let spelt = &mut scratch[..question.len()];
        spelt.copy_from_slice(question);
        spelling.apply(&mut spelt[..name_len]);
        spelt
    }

    fn upstream_of(&mut self, slot: u32) -> usize {
        self.exchanges.get(slot).upstream as usize
    }

    fn count_reply(&mut self, reply: &[u8]) {
        self.stats.replies[usize::from(reply::rcode(reply) & flags::RCODE)] += 1;
    }
}

impl Stanza {
    fn new(
        forward: &Forward,
        upstreams: Range<usize>,
        timeout_class: u8,
        hasher: &RandomState,
    ) -> Self {
        let attempts_max = ATTEMPTS_MAX * upstreams.len() as u32;
        Self {
            from: forward.from.as_wire().into(),
            except: Zones::new(hasher.clone(), forward.except.iter().map(|name| (name, ()))),
            policy: forward.policy,
            rotation: Rotation::default(),
            upstreams,
            failures_max: forward.max_connect_attempts.unwrap_or(attempts_max),
            timeout_class,
        }
    }

    /// A name at or below FROM that no `except` excludes; FROM itself is never excluded.
    fn handles(&self, name: &Folded) -> bool {
        name.is_within(&self.from)
            && (name.as_bytes() == &*self.from || self.except.longest(name).is_none())
    }
}

/// The number of `timeout` among the distinct ones, of which there are few.
fn class_of(timeouts: &mut Vec<Duration>, timeout: Duration) -> u8 {
    let known = timeouts.iter().position(|other| *other == timeout);
    let class = known.unwrap_or_else(|| {
        timeouts.push(timeout);
        timeouts.len() - 1
    });
    u8::try_from(class).expect("the configuration allows at most 256 distinct time-outs")
}

fn pool_settings(forward: &Forward) -> PoolSettings {
    PoolSettings {
        expire: forward.expire,
        max_age: forward.max_age,
        max_idle: forward.max_idle_conns,
        spread: forward.sizing.spread,
        max_conns: forward.sizing.max_conns,
        max_inflight: forward.sizing.max_inflight,
    }
}
