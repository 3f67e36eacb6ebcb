//! The simulated world around the engine: time, sockets and the keeper.
//!
//! It serves the engine as a worker does, in the same order, with a [`Keeper`] beside it. Time
//! moves only from one deadline to the next. Packets that reach an upstream or a client wait here
//! until the scenario has mentioned them; time does not pass before.

use super::keeper::{Keeper, Manner};
use super::script::{Count, Mode};
use super::words::Problem;
use onward::config::Config;
use onward::engine::errors::{Fault, Operation};
use onward::engine::key::ConnectionKey;
use onward::engine::shell::{self, Buffers, DATAGRAM_LEN_MAX, Shell};
use onward::engine::stats::DropReason;
use onward::engine::{Client, ConnectionId, Dial, Forwarder, Notice, Outgoing};
use onward::moment::Moment;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Maximum number of time steps without progress or during one wait: more mean that the engine
/// spins.
const STEPS_MAX: usize = 100_000;

/// A query that reached an upstream.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) upstream: SocketAddr,
    /// Our source address, if configured.
    pub(crate) source: Option<IpAddr>,
    pub(crate) connection: ConnectionId,
    pub(crate) tcp: bool,
    /// Our simulated source port, different for each socket.
    pub(crate) port: usize,
    pub(crate) packet: Vec<u8>,
}

/// A reply that reached a client.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) client: Client,
    pub(crate) packet: Vec<u8>,
}

/// A socket to an upstream.
struct Socket {
    upstream: SocketAddr,
    source: Option<IpAddr>,
    tcp: bool,
    connected: bool,
    port: usize,
    outbox: Vec<Vec<u8>>,
}

pub(crate) struct World {
    pub(crate) engine: Forwarder,
    pub(crate) now: Moment,
    pub(crate) keeper: Keeper,
    pub(crate) arrivals: VecDeque<Arrival>,
    pub(crate) deliveries: VecDeque<Delivery>,
    pub(crate) modes: HashMap<SocketAddr, Mode>,
    /// Replies that reached clients.
    delivered: u64,
    sockets: HashMap<ConnectionId, Socket>,
    buffers: Buffers,
    ports: usize,
}

impl Shell for World {
    fn engine(&mut self) -> &mut Forwarder {
        &mut self.engine
    }

    fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    fn open(&mut self, _: Moment, id: ConnectionId) -> Result<(), Fault> {
        if self.opened(id) { Ok(()) } else { Err(Fault::Unknown) }
    }

    fn send(
        &mut self,
        now: Moment,
        id: ConnectionId,
        queries: &[Outgoing],
    ) -> Result<(), (Operation, Fault)> {
        for query in queries {
            let Some(packet) = self.engine.query(query).map(<[u8]>::to_vec) else { continue };
            self.open(now, id).map_err(|fault| (Operation::Dial, fault))?;
            self.transmit(id, packet);
        }
        Ok(())
    }

    fn close(&mut self, _: Moment, id: ConnectionId) {
        self.sockets.remove(&id);
    }

    fn deliver(&mut self, _: Moment, client: &Client, reply: &[u8]) {
        if self.is_there(client) {
            self.reply(*client, reply);
        } else {
            self.engine.stats_mut().drop(DropReason::ReplyNotSent);
        }
    }

    fn notice(&mut self, now: Moment, notice: &Notice) -> bool {
        match *notice {
            Notice::Failing(upstream) => self.keeper.on_failed_exchange(now, upstream),
            Notice::Wake { sweep, at } => self.keeper.wake(sweep, at),
            // Scenarios do not cover logs.
            Notice::Odd(_)
            | Notice::Looping { .. }
            | Notice::Flood(_)
            | Notice::Limited { .. }
            | Notice::Error(_)
            | Notice::Transfer
            | Notice::Notified
            | Notice::Page => {}
        }
        true
    }
}

impl World {
    pub(crate) fn new(config: &Config, seed: u8) -> Self {
        let keeper = Keeper::new(config, seed.into());
        Self {
            engine: Forwarder::new(config, [seed; 32], Arc::clone(&keeper.health_states)),
            now: Moment::ZERO.plus(Duration::from_secs(1000)),
            keeper,
            arrivals: VecDeque::new(),
            deliveries: VecDeque::new(),
            modes: HashMap::new(),
            delivered: 0,
            sockets: HashMap::new(),
            buffers: Buffers::new(),
            ports: 0,
        }
    }

    /// Delivers a client's packet.
    pub(crate) fn query(&mut self, client: Client, packet: &[u8], beyond_buffer: bool) {
        let mut out = [0; DATAGRAM_LEN_MAX];
        let replied = self.engine.on_query(self.now, client, packet, beyond_buffer, &mut out);
        if let Some(len) = replied {
            self.reply(client, &out[..len]);
        }
    }

    /// Delivers an upstream's packet.
    pub(crate) fn response(&mut self, id: ConnectionId, packet: &[u8], beyond_buffer: bool) {
        let Some(answered) = self.engine.on_response(self.now, id, packet, beyond_buffer) else {
            return;
        };
        while let Some(client) = self.engine.next_client(&answered).copied() {
            if !self.is_there(&client) {
                self.engine.forget_reply(&answered);
                continue;
            }
            let room = match client.via.connection() {
                Some(_) => self.engine.room_over_tcp(&answered, packet),
                None => DATAGRAM_LEN_MAX,
            };
            let mut out = vec![0; room];
            if let Some(reply) = self.engine.next_reply(&answered, packet, &mut out) {
                self.reply(reply.client, &out[..reply.len]);
            }
        }
    }

    /// Reports that the socket has failed or its connection was closed.
    pub(crate) fn socket_ends(&mut self, id: ConnectionId) {
        self.engine.on_connection_failed(self.now, id);
    }

    /// Stops the engine: no more queries and no more probes.
    pub(crate) fn stop(&mut self) {
        self.engine.stop();
        self.keeper.stop_probing();
    }

    /// Ends all outages, so that upstreams that are down recover.
    pub(crate) fn heal(&mut self) {
        self.keeper.set_manner(None, Manner::Answered);
    }

    /// Accepts a client's connection, if the limits allow it.
    pub(crate) fn admit(&mut self, peer: SocketAddr) -> Option<ConnectionKey> {
        self.engine.admit(self.now, 0, peer.ip()).ok().map(|(connection, _)| connection)
    }

    pub(crate) fn is_open(&self, id: ConnectionId) -> bool {
        self.sockets.contains_key(&id)
    }

    pub(crate) fn sockets_to(&self, upstream: SocketAddr, tcp: bool) -> usize {
        let is = |socket: &&Socket| (socket.upstream, socket.tcp) == (upstream, tcp);
        self.sockets.values().filter(is).count()
    }

    /// Ends a worker's turn: carries out all that the engine has decided.
    pub(crate) fn settle(&mut self) -> Result<(), Problem> {
        for _ in 0..STEPS_MAX {
            shell::settle(self, self.now);
            if !self.connect() {
                return Ok(());
            }
        }
        Err("the engine dials and fails without end".into())
    }

    /// Advances time to `until` at most; stops when a packet has moved.
    pub(crate) fn pass(&mut self, until: Moment) -> Result<(), Problem> {
        for _ in 0..STEPS_MAX {
            let Some(next) = self.next_deadline().filter(|next| *next <= until) else {
                self.now = until;
                return Ok(());
            };
            self.now = self.now.max(next);
            while let Some(sweep) = self.keeper.next_sweep(self.now) {
                self.engine.on_sweep(self.now, sweep);
            }
            self.engine.on_time(self.now);
            while let Some(connection) = self.engine.clients.overdue(self.now) {
                self.engine.clients.close(connection);
            }
            self.settle()?;
            if !self.arrivals.is_empty() || !self.deliveries.is_empty() {
                return Ok(());
            }
        }
        Err("the engine has deadlines without end".into())
    }

    /// Returns the next deadline.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        let clients = self.engine.clients.next_deadline();
        let deadlines = [self.engine.next_deadline(), clients, self.keeper.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Returns everything that is left after all deadlines.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let counts = [
            (self.engine.outstanding(), "queries outstanding"),
            (self.sockets.len(), "sockets open"),
            (self.keeper.pending(), "timers pending"),
            (self.engine.clients.count(), "client connections open"),
        ];
        let left = counts.iter().filter(|(count, _)| *count > 0);
        left.map(|(count, what)| format!("{count} {what}")).collect()
    }

    /// Checks that every client packet is answered, or counted as dropped.
    pub(crate) fn books(&self) -> Result<(), Problem> {
        let drops = [Count::TooShort, Count::NoQuery, Count::PortZero, Count::ReplyNotSent];
        let dropped: u64 = drops.iter().map(|count| self.count(*count)).sum();
        let (queries, delivered) = (self.engine.stats().queries, self.delivered);
        match delivered + dropped == queries {
            true => Ok(()),
            false => Err(format!("{queries} queries, {delivered} replies and {dropped} drops")),
        }
    }

    pub(crate) fn count(&self, what: Count) -> u64 {
        let stats = self.engine.stats();
        match what {
            Count::TooShort => stats.dropped(DropReason::QueryTooShort),
            Count::NoQuery => stats.dropped(DropReason::QueryIsResponse),
            Count::PortZero => stats.dropped(DropReason::QueryFromPortZero),
            Count::ReplyNotSent => stats.dropped(DropReason::ReplyNotSent),
            Count::Malformed => stats.dropped(DropReason::ResponseMalformed),
            Count::Unmatched => stats.dropped(DropReason::ResponseUnmatched),
            Count::Repeated => stats.dropped(DropReason::ResponseRepeated),
            Count::WrongQuestion => stats.dropped(DropReason::ResponseWrongQuestion),
            Count::Coalesced => stats.coalesced,
            Count::Overloaded => stats.overloaded,
            Count::Rejected => stats.concurrent_rejects,
            Count::AllDown => stats.all_down,
        }
    }

    fn is_there(&self, client: &Client) -> bool {
        client.via.connection().is_none_or(|connection| self.engine.clients.is_open(connection))
    }

    fn reply(&mut self, client: Client, packet: &[u8]) {
        if let Some(connection) = client.via.connection() {
            self.engine.clients.active(self.now, connection);
        }
        self.delivered += 1;
        self.deliveries.push_back(Delivery { client, packet: packet.to_vec() });
    }

    /// Opens a socket for the connection unless there is one; false if it cannot be opened.
    fn opened(&mut self, id: ConnectionId) -> bool {
        let Some(dial) = self.engine.address(id).filter(|_| !self.is_open(id)) else {
            return true;
        };
        let Dial { upstream, source, .. } = *dial;
        if self.mode(upstream) == Mode::CannotBeReached {
            return false;
        }
        let tcp = self.engine.is_tcp(id);
        self.ports += 1;
        let (port, connected, outbox) = (self.ports, !tcp, Vec::new());
        self.sockets.insert(id, Socket { upstream, source, tcp, connected, port, outbox });
        true
    }

    fn transmit(&mut self, id: ConnectionId, packet: Vec<u8>) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if socket.connected {
            let Socket { upstream, source, tcp, port, .. } = *socket;
            let arrival = Arrival { upstream, source, connection: id, tcp, port, packet };
            self.arrivals.push_back(arrival);
        } else {
            socket.outbox.push(packet);
        }
    }

    /// Completes pending connections. Returns true if there was one.
    fn connect(&mut self) -> bool {
        let waits = |(_, socket): &(&ConnectionId, &Socket)| !socket.connected;
        let waiting = self.sockets.iter().filter(waits);
        let mut waiting: Vec<_> = waiting.map(|(id, socket)| (*id, socket.upstream)).collect();
        waiting.sort_unstable();
        waiting.retain(|(_, upstream)| self.mode(*upstream) != Mode::DoesNotConnect);
        for (id, upstream) in &waiting {
            if self.mode(*upstream) != Mode::Connects {
                self.engine.on_connection_failed(self.now, *id);
                continue;
            }
            if let Some(socket) = self.sockets.get_mut(id) {
                socket.connected = true;
                for packet in std::mem::take(&mut socket.outbox) {
                    self.transmit(*id, packet);
                }
                self.engine.on_connected(self.now, *id);
            }
        }
        !waiting.is_empty()
    }

    fn mode(&self, upstream: SocketAddr) -> Mode {
        self.modes.get(&upstream).copied().unwrap_or(Mode::Connects)
    }
}
