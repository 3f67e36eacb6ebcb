//! A worker's shell over simulated sockets: its turn, as in the program.
//!
//! The same calls in the same order as in the program's turn: mail, responses, queries, connections
//! of clients, timers, and then all that the engine has decided. The [`Laws`] observe the inputs
//! and actions, and check everything at the end of each turn. Upstream sockets are here; the
//! connections of clients are in [`super::accepted`].

use super::accepted::Accepted;
use super::common::upstream_address;
use super::laws::{BROKEN, FORGED, Laws, require};
use super::link::{LinkId, Progress, Side, SimConnection};
use super::net::{Event, Net, Port};
use super::plan::{Plan, Sabotage, Shortage, ms};
use onward::config::Config;
use onward::engine::errors::{Fault, Operation};
use onward::engine::forwarder::TCP_MESSAGE_MAX;
use onward::engine::health::HealthStates;
use onward::engine::key::Transport;
use onward::engine::shell::{self, Buffers, DATAGRAM_LEN_MAX, NOTICE_RETRY, Shell};
use onward::engine::stats::DropReason;
use onward::engine::{Client, ConnectionId, Forwarder, Notice, Outgoing, Sweep, Via};
use onward::moment::Moment;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The socket of a connection to an upstream.
enum Socket {
    Datagrams,
    Tcp { connection: Box<SimConnection>, connected: bool },
}

/// A socket that could not be opened, or is unusable.
struct Broken;

/// A worker and the network around it, as the shell of its engine.
struct Turn<'a> {
    worker: &'a mut Worker,
    net: &'a mut Net,
}

impl Shell for Turn<'_> {
    fn engine(&mut self) -> &mut Forwarder {
        &mut self.worker.engine
    }

    fn buffers(&mut self) -> &mut Buffers {
        &mut self.worker.buffers
    }

    fn open(&mut self, _: Moment, id: ConnectionId) -> Result<(), Fault> {
        let opened = self.worker.open(self.net, id).map(drop);
        opened.map_err(|Broken| {
            self.net.note(|| format!("{id:?} is without a socket"));
            Fault::Unknown
        })
    }

    fn send(
        &mut self,
        _: Moment,
        id: ConnectionId,
        queries: &[Outgoing],
    ) -> Result<(), (Operation, Fault)> {
        if self.worker.send_group(self.net, id, queries).is_ok() {
            return Ok(());
        }
        if let Some(Socket::Tcp { .. }) = self.worker.sockets.get(&id) {
            // Data that arrived on it is read first.
            self.worker.inputs.push(Input::Stirs(id));
            return Ok(());
        }
        self.net.note(|| format!("{id:?} is broken"));
        Err((Operation::Write, Fault::Unknown))
    }

    fn close(&mut self, _: Moment, id: ConnectionId) {
        if self.worker.sabotage != Sabotage::SocketKept {
            self.worker.close(self.net, id);
        }
    }

    fn deliver(&mut self, _: Moment, client: &Client, reply: &[u8]) {
        self.worker.deliver(self.net, *client, &mut reply.to_vec());
    }

    fn flush(&mut self, _: Moment) {
        self.worker.flush_clients(self.net);
    }

    fn notice(&mut self, _: Moment, notice: &Notice) -> bool {
        let (worker, net) = (self.worker.number, &mut *self.net);
        let event = match *notice {
            Notice::Failing(upstream) => Event::Failed { upstream },
            Notice::Wake { sweep, at } => Event::Wake { worker, sweep, at },
            // Ignored in the simulation.
            Notice::Odd(_)
            | Notice::Looping { .. }
            | Notice::Flood(_)
            | Notice::Limited { .. }
            | Notice::Error(_)
            | Notice::Transfer
            | Notice::Notified
            | Notice::Page => {
                return true;
            }
        };
        let fits = !net.dice.per_mille(self.worker.shortage.keeper);
        if fits {
            net.mail(event);
        }
        fits
    }
}

/// Inputs for a worker since its last turn, in the order in which a turn handles them.
#[derive(Debug)]
pub(crate) enum Input {
    /// The keeper's wake-up for a pool or cache.
    Sweep(Sweep),
    /// Another configuration.
    Reload(Arc<Config>, Arc<HealthStates>),
    /// An event of a connection to an upstream.
    Stirs(ConnectionId),
    /// A datagram on a connection; `None` for ICMP port unreachable.
    Response(ConnectionId, Option<Vec<u8>>),
    /// A client's datagram.
    Query(SocketAddr, Vec<u8>),
    /// An event of a client's connection, perhaps a new one.
    Client(LinkId, SocketAddr),
}

pub(crate) struct Worker {
    pub(super) number: usize,
    pub(crate) engine: Forwarder,
    pub(crate) laws: Laws,
    pub(crate) shortage: Shortage,
    pub(super) sabotage: Sabotage,
    sockets: BTreeMap<ConnectionId, Socket>,
    pub(super) accepted: Accepted,
    pub(super) inputs: Vec<Input>,
    buffers: Buffers,
    notices_left: bool,
    turn_at: Option<Moment>,
    /// Number of connections that the engine has room for.
    capacity: usize,
    out: Vec<u8>,
}

impl Input {
    fn rank(&self) -> u8 {
        match self {
            Self::Sweep(_) | Self::Reload(..) => 0,
            Self::Stirs(_) | Self::Response(..) => 1,
            Self::Query(..) => 2,
            Self::Client(..) => 3,
        }
    }
}

impl Worker {
    pub(crate) fn new(number: usize, plan: &Plan, health_states: Arc<HealthStates>) -> Self {
        let mut seed = [number as u8; 32];
        seed[..8].copy_from_slice(&plan.seed.to_le_bytes());
        let engine = Forwarder::new(&plan.config, seed, health_states);
        Self {
            number,
            capacity: engine.connections_max(),
            engine,
            laws: Laws::new(plan),
            shortage: plan.shortage,
            sabotage: plan.sabotage,
            sockets: BTreeMap::new(),
            accepted: Accepted::default(),
            inputs: Vec::new(),
            buffers: Buffers::new(),
            notices_left: false,
            turn_at: None,
            out: vec![0; TCP_MESSAGE_MAX],
        }
    }

    /// Adapts to a larger limit of connections.
    pub(super) fn make_room(&mut self) {
        self.capacity = self.engine.connections_max();
    }

    /// Adds an input.
    pub(crate) fn gets(&mut self, net: &mut Net, input: Input) {
        self.inputs.push(input);
        self.rouse(net);
    }

    /// Lets the poll return soon.
    pub(crate) fn rouse(&mut self, net: &mut Net) {
        let delay = net.dice.time(Duration::ZERO, self.shortage.turn);
        self.turn_by(net, net.now.plus(delay));
    }

    fn turn_by(&mut self, net: &mut Net, at: Moment) {
        if self.turn_at.is_none_or(|planned| at < planned) {
            self.turn_at = Some(at);
            net.at(at, Event::Turn(self.number));
        }
    }

    /// The poll returns: one turn, unless an earlier one has handled the events.
    pub(crate) fn turn(&mut self, net: &mut Net) {
        if self.turn_at.take_if(|at| *at == net.now).is_none() {
            return;
        }
        let now = net.now;
        let mut inputs = std::mem::take(&mut self.inputs);
        // Inputs of one kind keep their order of arrival.
        inputs.sort_by_key(Input::rank);
        let connections = inputs.partition_point(|input| !matches!(input, Input::Client(..)));
        for (place, input) in inputs.into_iter().enumerate() {
            if place == connections {
                shell::send_queries(&mut Turn { worker: self, net }, now);
            }
            self.take(net, input);
        }
        if self.sabotage != Sabotage::TimeUntold {
            self.engine.on_time(now);
            let next = self.engine.next_deadline();
            let ahead = next.is_none_or(|next| next > now);
            require(ahead, "the next deadline lies ahead", || format!("{next:?} at {now:?}"));
        }
        self.expire_clients(net);
        self.settle(net);
        self.laws.check(now, &self.engine);
        self.plan_turn(net);
    }

    /// Schedules the poll's timeout: whole milliseconds, rounded up.
    fn plan_turn(&mut self, net: &mut Net) {
        if !self.inputs.is_empty() {
            return self.turn_by(net, net.now.plus(Duration::from_micros(5)));
        }
        let notices = self.notices_left.then(|| net.now.plus(NOTICE_RETRY));
        let idle = self.engine.clients.next_deadline();
        let engine = self.engine.next_deadline().filter(|_| self.sabotage != Sabotage::TimeUntold);
        let Some(until) = [engine, idle, notices].into_iter().flatten().min() else { return };
        let wait = until.since(net.now).as_nanos().div_ceil(1_000_000) as u64;
        let delay = net.dice.time(Duration::ZERO, self.shortage.turn);
        self.turn_by(net, net.now.plus(ms(wait) + delay));
    }

    fn take(&mut self, net: &mut Net, input: Input) {
        match input {
            Input::Sweep(sweep) => self.engine.on_sweep(net.now, sweep),
            Input::Reload(config, health_states) => self.reload(net, &config, health_states),
            Input::Stirs(id) => self.read_connection(net, id),
            Input::Response(id, None) => self.fail_connection(net, id, "refused by ICMP"),
            Input::Response(id, Some(mut packet)) => {
                let truncated = packet.len() > DATAGRAM_LEN_MAX;
                packet.truncate(DATAGRAM_LEN_MAX);
                if matches!(self.sockets.get(&id), Some(Socket::Datagrams)) {
                    self.respond(net, id, &packet, truncated);
                }
            }
            Input::Query(peer, packet) => {
                let client = Client { listener: 0, peer, local: None, via: Via::Datagram };
                self.ask(net, client, &packet);
            }
            Input::Client(link, peer) => self.read_client(net, link, peer),
        }
    }

    /// Passes a query to the engine. False if the client's connection has no room for the reply.
    pub(super) fn ask(&mut self, net: &mut Net, client: Client, packet: &[u8]) -> bool {
        self.laws.asked(net.now, client, packet);
        let mut out = std::mem::take(&mut self.out);
        let len = self.engine.on_query(net.now, client, packet, false, &mut out);
        let sent = len.is_none_or(|len| self.deliver(net, client, &mut out[..len]));
        self.out = out;
        sent
    }

    /// Handles an event of an upstream connection: established, reset, writable, or data. One read,
    /// and all messages completed by it.
    fn read_connection(&mut self, net: &mut Net, id: ConnectionId) {
        let Some(Socket::Tcp { connection, connected }) = self.sockets.get_mut(&id) else { return };
        // Data that arrived before a reset is read first.
        let broken = net.is_reset(connection.link, Side::Dialler) || connection.flush(net).is_err();
        let is_connected = net.is_connected(connection.link, Side::Dialler) && !broken;
        if is_connected && !std::mem::replace(connected, true) {
            net.note(|| format!("{id:?} is connected"));
            self.laws.connections.connected(id);
            self.engine.on_connected(net.now, id);
        }
        let progress = connection.read(net);
        while let Some(Socket::Tcp { connection, .. }) = self.sockets.get_mut(&id)
            && let Some(message) = connection.message()
        {
            self.respond(net, id, &message, false);
        }
        match progress {
            Progress::More => self.inputs.push(Input::Stirs(id)),
            Progress::Blocked if broken => self.inputs.push(Input::Stirs(id)),
            Progress::Blocked => {}
            Progress::Over => self.fail_connection(net, id, "closed or reset by the upstream"),
        }
    }

    fn fail_connection(&mut self, net: &mut Net, id: ConnectionId, why: &str) {
        net.note(|| format!("{id:?} is {why}"));
        self.engine.on_connection_failed(net.now, id);
    }

    /// Passes a packet on `id` to the engine, and delivers the replies.
    fn respond(&mut self, net: &mut Net, id: ConnectionId, packet: &[u8], truncated: bool) {
        let expected = self.laws.connections.expects(&self.engine, id, packet);
        let mark = packet.get(2..4).map_or(0, |word| u16::from_be_bytes([word[0], word[1]]));
        let lucky = expected && mark & BROKEN == FORGED && self.sabotage != Sabotage::IdsKnown;
        let lost = expected && self.sabotage == Sabotage::AnswerLost;
        if lucky || lost {
            // A guess that is correct in every respect cannot be distinguished from an answer.
            return net.note(|| format!("{id:?} gets a lucky guess, which is taken away"));
        }
        let before = self.engine.stats_mut().drops;
        let answered = self.engine.on_response(net.now, id, packet, truncated);
        let believed = self.engine.stats_mut().drops == before;
        self.laws.books.believed += u64::from(believed);
        self.laws.books.disbelieved += u64::from(!believed);
        let words = || format!("{id:?}: {} bytes, believed: {believed}", packet.len());
        net.note(words);
        let right = believed == (expected && mark & BROKEN != BROKEN);
        require(right, "what is believed is an answer to a query there, and only that", words);
        let Some(answered) = answered else { return };
        let mut out = std::mem::take(&mut self.out);
        while let Some(client) = self.engine.next_client(&answered).copied() {
            if client.via.connection().is_some_and(|key| !self.has_room(net, key)) {
                self.engine.forget_reply(&answered);
                self.laws.forgot(client);
                continue;
            }
            let reply = self.engine.next_reply(&answered, packet, &mut out);
            let len = reply.expect("somebody waits").len;
            self.deliver(net, client, &mut out[..len]);
        }
        self.out = out;
    }

    /// Sends a reply to `client`. False if its connection is closed.
    fn deliver(&mut self, net: &mut Net, mut client: Client, reply: &mut [u8]) -> bool {
        if client.via.connection().is_some_and(|key| !self.has_room(net, key)) {
            self.laws.replied_to_nobody(client);
            self.engine.stats_mut().drop(DropReason::ReplyNotSent);
            return false;
        }
        match self.sabotage {
            Sabotage::ReplyTwice => self.laws.replied(client, reply),
            Sabotage::ReplyLost => return true,
            Sabotage::WrongId => reply[0] ^= 1,
            Sabotage::LetterChanged if reply.len() > 13 => reply[13] ^= 0x20,
            Sabotage::WrongPeer => client.peer.set_port(client.peer.port() ^ 1),
            _ => {}
        }
        net.note(|| format!("reply to {} {:?}", client.peer, &reply[..4]));
        self.laws.replied(client, reply);
        if let Some(key) = client.via.connection() {
            return self.write_client(key, reply);
        }
        if net.dice.per_mille(self.shortage.buffer) {
            self.laws.books.unsent += 1;
            self.engine.stats_mut().drop(DropReason::ReplyNotSent);
        } else {
            let to = super::client::port(client.peer);
            net.datagram(Port::Listener(self.number), to, reply.to_vec());
        }
        true
    }

    /// Opens a socket for `id` unless there is one; `None` if the engine has closed it meanwhile.
    fn open(&mut self, net: &mut Net, id: ConnectionId) -> Result<Option<&mut Socket>, Broken> {
        let Some(dial) = self.engine.address(id) else { return Ok(None) };
        if !self.sockets.contains_key(&id) {
            let upstream = (0..).find(|number| upstream_address(*number) == dial.upstream);
            let upstream = upstream.expect("one of the configuration's");
            let connection = self.engine.is_tcp(id);
            let transport = if connection { Transport::Tcp } else { Transport::Udp };
            net.note(|| format!("{id:?} is dialled: upstream {upstream} over {transport:?}"));
            if net.dice.per_mille(self.shortage.socket) {
                return Err(Broken);
            }
            let fits = id.index() < self.capacity;
            require(fits, "a connection has a place in the shell's table", || format!("{id:?}"));
            self.laws.connections.dialled(net.now, id, upstream, transport);
            let port = Port::Connection(self.number, id);
            let socket = if connection {
                let link = net.dial(port, Port::Upstream(upstream));
                let connection = Box::new(SimConnection::new(link, Side::Dialler));
                Socket::Tcp { connection, connected: false }
            } else {
                net.begin_path(port);
                Socket::Datagrams
            };
            self.sockets.insert(id, socket);
        }
        Ok(self.sockets.get_mut(&id))
    }

    /// Sends the queries of one connection.
    fn send_group(
        &mut self,
        net: &mut Net,
        id: ConnectionId,
        group: &[Outgoing],
    ) -> Result<(), Broken> {
        let mut dropped = 0;
        for outgoing in group {
            if self.open(net, id)?.is_none() {
                return Ok(());
            }
            let Some(query) = self.engine.query(outgoing) else { continue };
            let query = query.to_vec();
            self.laws.connections.sent(net.now, &self.engine, *outgoing, &query);
            net.note(|| format!("{id:?} asks {:?}", &query[..20]));
            let upstream = Port::Upstream(self.laws.connections.open[&id].upstream);
            match self.sockets.get_mut(&id) {
                Some(Socket::Tcp { connection, .. }) => {
                    dropped += u64::from(connection.push(&query).is_err());
                }
                _ if net.dice.per_mille(self.shortage.buffer) => dropped += 1,
                _ => net.datagram(Port::Connection(self.number, id), upstream, query),
            }
        }
        self.laws.books.unsendable += dropped;
        self.engine.stats_mut().drops[DropReason::QueryNotSent as usize] += dropped;
        match self.sockets.get_mut(&id) {
            Some(Socket::Tcp { connection, .. }) => {
                connection.flush(net).map(drop).map_err(|_| Broken)
            }
            _ => Ok(()),
        }
    }

    /// Carries out all that the engine has decided.
    pub(super) fn settle(&mut self, net: &mut Net) {
        let now = net.now;
        self.notices_left = !shell::settle(&mut Turn { worker: self, net }, now);
    }

    fn close(&mut self, net: &mut Net, id: ConnectionId) {
        net.note(|| format!("{id:?} is closed"));
        if let Some(Socket::Tcp { connection, .. }) = self.sockets.remove(&id) {
            connection.close(net);
        }
        self.laws.connections.closed(&self.engine, id);
    }

    /// Checks that nothing is left after a long time without queries.
    pub(crate) fn check_empty(&self) {
        let capacity = self.engine.connections_max();
        let same = capacity == self.capacity;
        require(same, "capacity is what it was", || format!("{capacity}, not {}", self.capacity));
        let left = |what: &str, count: usize| {
            require(count == 0, "in the end nothing is left", || format!("{count} {what}"));
        };
        left("exchanges", self.engine.outstanding());
        left("queries without a reply", self.laws.waiting());
        left("connections", self.laws.connections.open.len());
        left("sockets", self.sockets.len());
        left("connections of clients", self.engine.clients.count() + self.accepted.len());
        left("deadlines", self.engine.next_deadline().iter().count());
        for upstream in &self.engine.stats().upstreams {
            for pool in [upstream.pool, upstream.tcp] {
                let gone = pool.expired + pool.aged + pool.surplus + pool.broken + pool.renewed;
                left("connections in the pools", (pool.opened - gone) as usize);
            }
        }
    }
}
