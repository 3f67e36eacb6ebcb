//! Independent model of one worker's pools: open connections, their queries and ages.
//!
//! Derived from the engine's instructions to the shell. The model asks the engine only whether an
//! attempt is still outstanding (its query can be fetched or not).

use super::laws::{TICK, question, require};
use super::net::MAIL_MAX;
use super::plan::{Plan, Sabotage, ms};
use onward::config::Forward;
use onward::engine::key::Transport;
use onward::engine::message::{self, response};
use onward::engine::stats::{PoolStats, Stats};
use onward::engine::{ConnectionId, Forwarder, Outgoing};
use onward::moment::Moment;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Maximum time from a wake-up request to the end of the sweeping turn, including a few deliveries
/// to a full mailbox.
const SWEEP_MAX: Duration = ms(200);
/// Upper bound of a dial's duration.
const DIAL_MAX: Duration = Duration::from_secs(30);

/// A query on a connection.
#[derive(Debug)]
pub(crate) struct Attempt {
    outgoing: Outgoing,
    pub(crate) id: u16,
    pub(crate) query: Vec<u8>,
}

/// An open connection.
pub(crate) struct Connection {
    pub(crate) upstream: usize,
    pub(crate) transport: Transport,
    pub(crate) attempts: Vec<Attempt>,
    dialled_at: Moment,
    connected: bool,
    idle_since: Option<Moment>,
}

/// All open connections.
pub(crate) struct Connections {
    /// The stanza of each upstream.
    stanzas: Vec<Forward>,
    sabotage: Sabotage,
    pub(crate) open: BTreeMap<ConnectionId, Connection>,
    /// The last closed generation of each slot.
    closed: BTreeMap<usize, u32>,
}

impl Connections {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            stanzas: plan.upstreams().cloned().collect(),
            sabotage: plan.sabotage,
            open: BTreeMap::new(),
            closed: BTreeMap::new(),
        }
    }

    /// Returns true if `upstream` is queried from `source` under the current configuration.
    pub(crate) fn is_asked_from(&self, upstream: usize, source: Option<IpAddr>) -> bool {
        self.stanzas[upstream].source_address == source
    }

    /// Sets the stanza of each upstream.
    pub(crate) fn reload<'a>(&mut self, stanzas: impl Iterator<Item = &'a Forward>) {
        self.stanzas = stanzas.cloned().collect();
    }

    /// The shell has opened a socket.
    pub(crate) fn dialled(
        &mut self,
        now: Moment,
        id: ConnectionId,
        upstream: usize,
        transport: Transport,
    ) {
        let stale = self.closed.get(&id.index()).is_some_and(|closed| id.0.generation <= *closed);
        require(!stale, "nothing is dialled that was closed", || format!("{id:?}"));
        let connection = Connection {
            upstream,
            transport,
            attempts: Vec::new(),
            dialled_at: now,
            connected: transport == Transport::Udp,
            idle_since: None,
        };
        self.open.insert(id, connection);
    }

    /// A connection is established.
    pub(crate) fn connected(&mut self, id: ConnectionId) {
        if let Some(connection) = self.open.get_mut(&id) {
            connection.connected = true;
        }
    }

    /// The shell closes a connection, whether or not it had a socket.
    pub(crate) fn closed(&mut self, engine: &Forwarder, id: ConnectionId) {
        self.closed.insert(id.index(), id.0.generation);
        let Some(connection) = self.open.remove(&id) else { return };
        let left = connection.attempts.iter().filter(|attempt| is_on(engine, attempt)).count();
        require(left == 0, "nothing is closed with a query on it", || format!("{id:?}: {left}"));
    }

    /// The shell sends a query.
    pub(crate) fn sent(&mut self, now: Moment, engine: &Forwarder, out: Outgoing, query: &[u8]) {
        let mut id = message::id(query).expect("a query has a header");
        if self.sabotage == Sabotage::SameIds {
            id = 0;
        }
        let connection = self.open.get_mut(&out.connection).expect("opened before");
        let Forward { max_age, sizing, .. } = &self.stanzas[connection.upstream];
        connection.attempts.retain(|attempt| is_on(engine, attempt));
        connection.idle_since = None;
        let taken = connection.attempts.iter().any(|attempt| attempt.id == id);
        require(!taken, "ids on a connection are unique", || format!("{id:#x}, {out:?}"));
        let younger = self.sabotage == Sabotage::YoungerThanConfigured;
        let max_age = max_age.map(|age| if younger { age / 2 } else { age });
        let age = now.since(connection.dialled_at);
        let young = max_age.is_none_or(|max_age| age < max_age);
        require(young, "beyond max_age no query is sent", || format!("{age:?}: {out:?}"));
        connection.attempts.push(Attempt { outgoing: out, id, query: query.to_vec() });
        let count = connection.attempts.len();
        let within = connection.transport == Transport::Udp || count <= sizing.tcp_inflight;
        require(within, "a connection carries at most max_inflight queries", || format!("{count}"));
    }

    /// Returns true if a packet on a connection has ID and question of an outstanding query there.
    pub(crate) fn expects(&self, engine: &Forwarder, id: ConnectionId, packet: &[u8]) -> bool {
        let Some(connection) = self.open.get(&id).filter(|_| response::is_response(packet)) else {
            return false;
        };
        connection.attempts.iter().any(|attempt| {
            message::id(packet) == message::id(&attempt.query)
                && awaits(engine, attempt) == Some(true)
                && question(packet).eq_ignore_ascii_case(question(&attempt.query))
        })
    }

    /// Checks the laws at the end of a turn.
    pub(crate) fn check(&mut self, now: Moment, engine: &Forwarder, stats: &Stats) {
        let mut sizes = vec![[0; 2]; self.stanzas.len()];
        for (id, connection) in &mut self.open {
            let open = engine.address(*id).is_some();
            require(open, "what the engine closes is closed", || format!("{id:?}"));
            sizes[connection.upstream][connection.transport as usize] += 1;
            connection.attempts.retain(|attempt| is_on(engine, attempt));
            if !connection.connected {
                let waited = now.since(connection.dialled_at);
                let soon = waited <= DIAL_MAX + TICK;
                require(soon, "no dial is waited for too long", || format!("{id:?}: {waited:?}"));
            }
            if !connection.attempts.is_empty() {
                connection.idle_since = None;
                continue;
            }
            let idle = now.since(*connection.idle_since.get_or_insert(now));
            let expire = self.stanzas[connection.upstream].expire;
            let soon = idle <= expire + SWEEP_MAX + MAIL_MAX + TICK;
            require(soon, "idle connections do not outlive expire", || format!("{id:?}: {idle:?}"));
        }
        let fewer = usize::from(self.sabotage == Sabotage::FewerThanConfigured);
        for (upstream, (sizes, stats)) in sizes.iter().zip(&stats.upstreams).enumerate() {
            let max_conns = self.stanzas[upstream].sizing.max_conns - fewer;
            for (size, pool) in sizes.iter().zip([&stats.pool, &stats.tcp]) {
                let words = || format!("upstream {upstream}: {size} sockets, {pool:?}");
                let within = *size as u64 <= alive(pool) && alive(pool) <= max_conns as u64;
                require(within, "a pool has at most max_conns, each with a socket", words);
            }
        }
    }
}

/// Returns true if an attempt's ID is still in use on its connection.
fn is_on(engine: &Forwarder, attempt: &Attempt) -> bool {
    awaits(engine, attempt).is_some()
}

fn awaits(engine: &Forwarder, attempt: &Attempt) -> Option<bool> {
    engine.awaits(&attempt.outgoing, message::id(&attempt.query)?)
}

fn alive(stats: &PoolStats) -> u64 {
    stats.opened - stats.expired - stats.aged - stats.surplus - stats.broken - stats.renewed
}
