//! A test world around one engine: clients, a network, a keeper, and virtual time.
//!
//! The world drives the engine exactly as a worker does, and checks the invariants: each client
//! gets at most one reply per query, with its own ID and spelling; queries are sent on open
//! connections to the right address; a connection is closed once. Tests play the upstreams: they
//! read queries from [`World::sent`] and call [`World::respond`].

use crate::common::wire::{Ask, question_of, word_at};
use domain::base::Message;
use onward::config::{Config, Host};
use onward::engine::errors::{Fault, Operation};
use onward::engine::forwarder::{AHEAD_MAX, Arrivals, TCP_MESSAGE_MAX};
use onward::engine::health::HealthStates;
use onward::engine::key::ConnectionKey;
use onward::engine::shell::{self, Buffers, Shell};
use onward::engine::stats::{DropReason, Stats};
use onward::engine::{Client, ConnectionId, Forwarder, Notice, Outgoing, Sweep, Via};
use onward::moment::Moment;
use onward::wheel::{TimerKey, Wheel};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A query that reached an upstream.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) at: Moment,
    pub(crate) connection: ConnectionId,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

/// A reply that reached a client.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) at: Moment,
    pub(crate) client: Client,
    pub(crate) bytes: Vec<u8>,
}

impl Got {
    pub(crate) fn id(&self) -> u16 {
        word_at(&self.bytes, 0)
    }

    pub(crate) fn rcode(&self) -> u16 {
        word_at(&self.bytes, 2) & 15
    }

    /// The info code of the extended error, the last option of the OPT at the message's end.
    pub(crate) fn extended_error(&self) -> Option<u16> {
        let tail = self.bytes.len().checked_sub(6).filter(|tail| *tail > 12)?;
        (word_at(&self.bytes, tail) == 15 && word_at(&self.bytes, tail + 2) == 2)
            .then(|| word_at(&self.bytes, tail + 4))
    }
}

pub(crate) struct World {
    pub(crate) engine: Forwarder,
    pub(crate) now: Moment,
    /// Queries not yet taken by an upstream, in the order of sending.
    pub(crate) sent: Vec<Sent>,
    /// All replies, in the order of sending.
    pub(crate) got: Vec<Got>,
    /// Open sockets and their remote addresses.
    pub(crate) sockets: BTreeMap<ConnectionId, SocketAddr>,
    /// Closed sockets with their closing times.
    pub(crate) closed: Vec<(Moment, ConnectionId)>,
    /// Questions without a reply yet, by client and ID.
    waiting: HashMap<(SocketAddr, u16), Vec<Vec<u8>>>,
    waiting_count: u64,
    wheel: Wheel<Sweep>,
    timers: HashMap<Sweep, TimerKey>,
    /// Notices for other threads, except the keeper's timers.
    notices: Vec<Notice>,
    /// True while the keeper's mailbox is full.
    pub(crate) keeper_busy: bool,
    buffers: Buffers,
}

impl Shell for World {
    fn engine(&mut self) -> &mut Forwarder {
        &mut self.engine
    }

    fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    fn open(&mut self, _: Moment, connection: ConnectionId) -> Result<(), Fault> {
        let dial = self.engine.address(connection);
        let to = dial.expect("an open connection leads somewhere").upstream;
        let socket = *self.sockets.entry(connection).or_insert(to);
        assert_eq!(socket, to, "a connection does not change its end");
        Ok(())
    }

    fn send(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        queries: &[Outgoing],
    ) -> Result<(), (Operation, Fault)> {
        for query in queries {
            let Some(bytes) = self.engine.query(query).map(<[u8]>::to_vec) else { continue };
            self.open(now, connection).map_err(|fault| (Operation::Dial, fault))?;
            self.sent.push(Sent { at: now, connection, to: self.sockets[&connection], bytes });
        }
        assert!(self.sent.len() < 1_000_000, "the turn does not end");
        Ok(())
    }

    fn close(&mut self, now: Moment, connection: ConnectionId) {
        assert!(self.engine.address(connection).is_none());
        if self.sockets.remove(&connection).is_some() {
            self.closed.push((now, connection));
        }
    }

    fn deliver(&mut self, _: Moment, client: &Client, reply: &[u8]) {
        self.take_reply(*client, reply);
    }

    fn notice(&mut self, _: Moment, notice: &Notice) -> bool {
        match *notice {
            Notice::Wake { .. } if self.keeper_busy => return false,
            Notice::Wake { sweep, at } => {
                let timer = self.wheel.insert(at, sweep);
                if let Some(old) = self.timers.insert(sweep, timer) {
                    self.wheel.cancel(old);
                }
            }
            // Tests take pages directly.
            Notice::Page | Notice::Transfer | Notice::Notified => return false,
            Notice::Failing(_) | Notice::Odd(_) | Notice::Looping { .. } if self.keeper_busy => {
                return false;
            }
            _ => self.notices.push(notice.clone()),
        }
        true
    }
}

/// The configuration of one listener and a server block with these directives.
pub(crate) fn corefile(directives: &str) -> Config {
    let text = format!(". {{\n bind 127.0.0.1\n {directives}\n}}\n");
    let loaded = Config::load(text.as_bytes(), "Corefile", &Host::plain());
    loaded.unwrap_or_else(|error| panic!("{error}")).0
}

/// A world with such a block.
pub(crate) fn world(directives: &str) -> World {
    World::new(&corefile(directives))
}

/// The flags, the response code, and each record but the OPT as `SECTION OWNER TTL TYPE DATA`.
pub(crate) fn shown(got: &Got) -> String {
    let message = Message::from_octets(&got.bytes[..]).expect("a message");
    let header = message.header();
    let mut text = header.rcode().to_string();
    for (set, flag) in [(header.aa(), "aa"), (header.tc(), "tc"), (header.rd(), "rd")] {
        text += &if set { format!(" {flag}") } else { String::new() };
    }
    text += if header.ra() { " ra" } else { "" };
    let (_, answer, authority, additional) = message.sections().expect("four sections");
    for (name, section) in [("AN", answer), ("AU", authority), ("AD", additional)] {
        for record in section {
            let record = record.expect("a record");
            let rtype = record.rtype();
            if rtype != domain::base::iana::Rtype::OPT {
                let record = record
                    .to_any_record::<domain::rdata::AllRecordData<_, _>>()
                    .expect("data that can be read");
                let (owner, ttl, data) = (record.owner(), record.ttl(), record.data());
                text += &format!("\n{name} {owner} {} {rtype} {data}", ttl.as_secs());
            }
        }
    }
    text
}

pub(crate) fn client(number: usize) -> Client {
    let address = [198, 51, 100 + (number >> 16) as u8, 1];
    let peer = SocketAddr::from((address, 1 + (number & 0x7fff) as u16));
    Client { listener: 0, peer, local: None, via: Via::Datagram }
}

impl World {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            engine: Forwarder::new(config, [7; 32], Arc::new(HealthStates::new(config))),
            now: Moment::ZERO,
            sent: Vec::new(),
            got: Vec::new(),
            sockets: BTreeMap::new(),
            closed: Vec::new(),
            waiting: HashMap::new(),
            waiting_count: 0,
            wheel: Wheel::default(),
            timers: HashMap::new(),
            notices: Vec::new(),
            keeper_busy: false,
            buffers: Buffers::new(),
        }
    }

    /// Sends a query from this client and ends the turn.
    pub(crate) fn ask(&mut self, number: usize, ask: &Ask) {
        self.ask_within_turn(number, ask);
        self.settle();
    }

    /// Sends a query from this client without ending the turn.
    pub(crate) fn ask_within_turn(&mut self, number: usize, ask: &Ask) {
        self.ask_as(client(number), ask);
    }

    /// Sends a query on a new TCP connection of this client and ends the turn. The caller closes
    /// the connection.
    pub(crate) fn ask_over_tcp(&mut self, number: usize, ask: &Ask) -> ConnectionKey {
        let client = client(number);
        let admitted = self.engine.admit(self.now, 0, client.peer.ip());
        let (connection, _) = admitted.expect("there is room for a connection");
        self.ask_as(Client { via: Via::Connection(connection), ..client }, ask);
        self.settle();
        connection
    }

    /// Sends a query from `client` without ending the turn.
    pub(crate) fn ask_as(&mut self, client: Client, ask: &Ask) {
        self.waiting.entry((client.peer, ask.id)).or_default().push(ask.question());
        self.waiting_count += 1;
        self.packet(client, &ask.bytes());
    }

    /// Delivers a packet of a client, valid or not; no reply is expected.
    pub(crate) fn packet(&mut self, client: Client, bytes: &[u8]) {
        let mut out =
            vec![0; if client.via.connection().is_some() { TCP_MESSAGE_MAX } else { 1_232 }];
        if let Some(len) = self.engine.on_query(self.now, client, bytes, false, &mut out) {
            self.take_reply(client, &out[..len]);
        }
    }

    /// Delivers client packets as a worker handles a batch.
    pub(crate) fn batch(&mut self, packets: &[(Client, Vec<u8>)]) {
        let mut out = [0; 1_232];
        let mut arrivals = Arrivals::default();
        for packets in packets.chunks(AHEAD_MAX) {
            for (client, bytes) in packets {
                self.engine.read(*client, bytes, false, &mut arrivals);
            }
            assert_eq!(arrivals.is_full(), packets.len() == AHEAD_MAX);
            self.engine.prefetch_answers(&arrivals);
            for arrival in arrivals.drain() {
                if let Some(len) = self.engine.on_arrival(self.now, arrival, &mut out) {
                    self.take_reply(arrival.client, &out[..len]);
                }
            }
        }
    }

    /// Delivers an upstream's packet; returns true if it completed an exchange.
    pub(crate) fn respond(&mut self, connection: ConnectionId, packet: &[u8]) -> bool {
        let mut out = [0; 1_232];
        let answered = self.engine.on_response(self.now, connection, packet, false);
        if let Some(answered) = &answered {
            while self.engine.next_client(answered).is_some() {
                if let Some(reply) = self.engine.next_reply(answered, packet, &mut out) {
                    self.take_reply(reply.client, &out[..reply.len]);
                }
            }
            assert!(self.engine.next_reply(answered, packet, &mut out).is_none());
        }
        self.settle();
        answered.is_some()
    }

    /// Applies a new configuration.
    pub(crate) fn reload(&mut self, config: &Config) {
        self.engine.reload(self.now, config, &[Some(0)], Arc::new(HealthStates::new(config)));
        self.settle();
    }

    /// Reports a failure of the connection's socket.
    pub(crate) fn refuse(&mut self, connection: ConnectionId) {
        self.engine.on_connection_failed(self.now, connection);
        self.settle();
    }

    /// Ends the turn as a worker does; false if a notice could not be delivered.
    pub(crate) fn settle(&mut self) -> bool {
        shell::settle(self, self.now)
    }

    /// Removes and returns the notices for which `wanted` returns a value.
    pub(crate) fn take_notices<T>(&mut self, wanted: impl Fn(&Notice) -> Option<T>) -> Vec<T> {
        let found = self.notices.iter().filter_map(&wanted).collect();
        self.notices.retain(|notice| wanted(notice).is_none());
        found
    }

    /// Checks that the client waits for exactly this reply.
    fn take_reply(&mut self, client: Client, bytes: &[u8]) {
        assert!(word_at(bytes, 2) & 0x8000 != 0, "a reply is a response");
        if let Some(asked) = self.waiting.get_mut(&(client.peer, word_at(bytes, 0))) {
            let question = if word_at(bytes, 4) == 1 { question_of(bytes) } else { &[] };
            let place = asked.iter().position(|asked| asked == question);
            asked.swap_remove(place.expect("the reply has another question than the query"));
            if asked.is_empty() {
                self.waiting.remove(&(client.peer, word_at(bytes, 0)));
            }
            self.waiting_count -= 1;
        }
        self.got.push(Got { at: self.now, client, bytes: bytes.to_vec() });
    }

    /// Advances time, stopping at each deadline.
    pub(crate) fn advance(&mut self, to: Moment) {
        for jump in 0.. {
            assert!(jump < 1_000_000, "time stands still at {:?}", self.now);
            let deadlines = [self.engine.next_deadline(), self.wheel.next_deadline()];
            let Some(next) = deadlines.into_iter().flatten().min().filter(|next| *next <= to)
            else {
                break;
            };
            self.now = self.now.max(next);
            while let Some(sweep) = self.wheel.pop_expired(self.now) {
                self.timers.remove(&sweep);
                self.engine.on_sweep(self.now, sweep);
            }
            self.engine.on_time(self.now);
            self.settle();
        }
        self.now = to;
    }

    /// Advances time by `seconds`.
    pub(crate) fn pass(&mut self, seconds: f64) {
        self.advance(self.now.plus(Duration::from_secs_f64(seconds)));
    }

    /// Returns the queries sent upstream since the last call.
    pub(crate) fn take_sent(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.sent)
    }

    /// The only upstream query since the last call.
    pub(crate) fn only_sent(&mut self) -> Sent {
        let sent = self.take_sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent[0].clone()
    }

    /// Returns the replies to clients since the last call.
    pub(crate) fn take_got(&mut self) -> Vec<Got> {
        std::mem::take(&mut self.got)
    }

    /// The only reply since the last call.
    pub(crate) fn only_got(&mut self) -> Got {
        let got = self.take_got();
        assert_eq!(got.len(), 1, "{got:?}");
        got[0].clone()
    }

    pub(crate) fn dropped(&self, reason: DropReason) -> u64 {
        self.engine.stats().dropped(reason)
    }

    /// Conservation: every query is answered, dropped or outstanding.
    pub(crate) fn check_books(&self) {
        let stats = self.engine.stats();
        let silent = [
            DropReason::QueryTooShort,
            DropReason::QueryIsResponse,
            DropReason::QueryFromPortZero,
            DropReason::QueryDenied,
            DropReason::RateLimited,
            DropReason::ReplyTooLate,
        ];
        let dropped: u64 = silent.iter().map(|reason| stats.dropped(*reason)).sum();
        assert_eq!(stats.queries, stats.replied() + dropped + self.waiting_count, "{stats:?}");
        let silent = [DropReason::QueryDenied, DropReason::RateLimited, DropReason::ReplyTooLate];
        let silent: u64 = silent.iter().map(|reason| stats.dropped(*reason)).sum();
        let ended = stats.replied() + silent;
        assert!(stats.latency.count() <= ended, "{stats:?}");
        for tally in &self.engine.tallies().counts {
            let asked: u64 = tally.requests.as_flattened().as_flattened().iter().sum();
            let ended: u64 = tally.answered.iter().chain(&tally.failed).sum();
            let sized = tally.response_sizes.iter().map(|sizes| sizes.count()).sum();
            assert_eq!([tally.durations.count(), sized], [ended; 2], "{tally:?}");
            assert_eq!(tally.request_sizes.iter().map(|sizes| sizes.count()).sum::<u64>(), asked);
        }
        for upstream in &stats.upstreams {
            let pool = upstream.pool;
            let closed = pool.expired + pool.aged + pool.surplus + pool.broken + pool.renewed;
            assert!(closed <= pool.opened, "{upstream:?}");
            assert!(upstream.sent >= upstream.answered + upstream.timed_out, "{upstream:?}");
        }
    }

    /// Checks that after a final jump no query, client, connection, deadline or timer is left.
    pub(crate) fn finish(mut self) -> Stats {
        self.check_books();
        self.pass(10_000.0);
        self.check_books();
        assert_eq!((self.engine.outstanding(), self.waiting_count), (0, 0));
        assert!(self.waiting.is_empty());
        assert_eq!(self.engine.next_deadline(), None);
        assert!(self.sockets.is_empty(), "still open: {:?}", self.sockets);
        assert!(self.wheel.is_empty() && self.engine.next_notice(Moment::ZERO).is_none());
        let stats = self.engine.stats();
        for cache in &stats.caches {
            assert_eq!((cache.entries, cache.bytes), ([0; 2], 0), "what expired is still there");
        }
        for upstream in &stats.upstreams {
            let pool = upstream.pool;
            assert_eq!(upstream.latency.count(), upstream.answered);
            let closed = pool.expired + pool.aged + pool.surplus + pool.broken + pool.renewed;
            assert_eq!(closed, pool.opened, "{upstream:?}");
            let again = pool.asked_again + upstream.tcp.asked_again;
            let free = again + upstream.tcp.moved;
            let ended = upstream.answered + upstream.timed_out + upstream.failed + free;
            assert!(upstream.sent <= ended, "{upstream:?}");
        }
        stats
    }
}
