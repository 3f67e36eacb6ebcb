//! Costs of a query that arrives and leaves on TCP connections, without any I/O.
//!
//! The path is that of `engine_query_batch_*` plus the framing of both sides: a client's bytes
//! become queries, queries become an upstream connection's bytes, its bytes become responses, and
//! those become the client's bytes. Instead of socket I/O there is one copy per direction. All
//! queries of a turn come from one client. `connections_frame` is the framing of one message alone.

use crate::messages::{number_of, query, response};
use harness::{Bench, Operations, repeat, whole};
use onward::config::{Config, Host};
use onward::engine::errors::{Fault, Operation};
use onward::engine::forwarder::TCP_MESSAGE_MAX;
use onward::engine::frame::{Inbox, Outbox};
use onward::engine::health::HealthStates;
use onward::engine::key::ConnectionKey;
use onward::engine::shell::{Buffers, Shell, TCP_REPLY_SPARE, send_queries, settle};
use onward::engine::{Client, ConnectionId, Forwarder, Notice, Outgoing, Via};
use onward::moment::Moment;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Different questions, asked in turn: more than the processor's first caches hold.
const NAMES: usize = 4_096;
/// Time between two batches.
const STEP: Duration = Duration::from_micros(50);
/// Maximum queued bytes for a reader: never reached here.
const WAITING_MAX: usize = 1 << 20;

pub(crate) const BENCHES: [Bench; 3] = [
    Bench { name: "connections_query_batch_64", set_up: || forward(64) },
    Bench { name: "connections_query_batch_1", set_up: || forward(1) },
    Bench { name: "connections_frame", set_up: frame },
];

/// Queries in batches of `batch`, all answered before the next batch. The figure is per query.
fn forward(batch: usize) -> Operations {
    let mut worker = Worker::new();
    let mut owed = 0;
    whole(move |count| {
        owed += count as usize;
        while owed >= batch {
            owed -= batch;
            worker.turn(batch);
        }
    })
}

/// One message passes through an outbox, a buffer and an inbox.
fn frame() -> Operations {
    let responses: Vec<_> = (0..NAMES).map(|number| response(&query(number))).collect();
    let (mut end, mut wire, mut next) = (End::default(), Vec::new(), 0);
    repeat(move || {
        let message = &responses[next];
        next = (next + 1) % NAMES;
        let copy = |room: &mut [u8]| {
            room.copy_from_slice(message);
            message.len()
        };
        end.outbox.push(message.len(), WAITING_MAX, copy).expect("it is read");
        end.write(&mut wire);
        end.read(&wire);
        black_box(end.inbox.next(TCP_MESSAGE_MAX)).expect("it is not long").expect("it is whole");
    })
}

/// One end of a connection.
#[derive(Default)]
struct End {
    inbox: Inbox,
    outbox: Outbox,
}

impl End {
    /// Reads the given bytes.
    fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.inbox.room();
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            self.inbox.filled(count);
            bytes = &bytes[count..];
        }
    }

    /// Copies the waiting output, as a write would.
    fn write(&mut self, wire: &mut Vec<u8>) {
        wire.clear();
        wire.extend_from_slice(self.outbox.waiting());
        self.outbox.written(wire.len());
    }
}

struct Worker {
    engine: Forwarder,
    now: Moment,
    client: Client,
    connection: ConnectionKey,
    /// The client's connection, at our end.
    client_end: End,
    /// The upstreams' connections at our end, by the engine's numbers; `None` until dialled.
    upstream_ends: Vec<Option<End>>,
    /// For each name, with length prefix: the query, and its response without the ID.
    queries: Vec<Vec<u8>>,
    responses: Vec<Vec<u8>>,
    buffers: Buffers,
    wire: Vec<u8>,
    next: usize,
}

impl Worker {
    fn new() -> Self {
        let config = config();
        let mut engine = Forwarder::new(&config, [1; 32], Arc::new(HealthStates::new(&config)));
        let peer = SocketAddr::from(([198, 51, 100, 1], 1_024));
        let (connection, _) = engine.admit(Moment::ZERO, 0, peer.ip()).expect("there is room");
        let queries: Vec<_> = (0..NAMES).map(query).collect();
        Self {
            upstream_ends: (0..engine.connections_max()).map(|_| None).collect(),
            engine,
            now: Moment::ZERO,
            client: Client { listener: 0, peer, local: None, via: Via::Connection(connection) },
            connection,
            client_end: End::default(),
            responses: queries.iter().map(|query| framed(&response(query))).collect(),
            queries: queries.iter().map(|query| framed(query)).collect(),
            buffers: Buffers::new(),
            wire: Vec::new(),
            next: 0,
        }
    }

    fn turn(&mut self, batch: usize) {
        self.now = self.now.plus(STEP);
        for _ in 0..batch {
            self.client_end.read(&self.queries[self.next]);
            self.next = (self.next + 1) % NAMES;
        }
        let mut out = [0; 1_232];
        while let Ok(Some(query)) = self.client_end.inbox.next(4_096) {
            assert!(self.engine.clients.may_ask(self.connection));
            black_box(self.engine.on_query(self.now, self.client, query, false, &mut out));
        }
        send_queries(self, self.now);
        self.client_end.write(&mut self.wire);
        black_box(&self.wire);
        self.engine.clients.active(self.now, self.connection);
        settle(self, self.now);
    }

    /// Sends a query and delivers its response at once.
    fn exchange(&mut self, send: &Outgoing) {
        let query = self.engine.query(send).expect("it is outstanding");
        let (high, low, number) = (query[0], query[1], number_of(query));
        let end = &mut self.upstream_ends[send.connection.index()];
        let dialled = end.is_none();
        let end = end.get_or_insert_default();
        let copy = |room: &mut [u8]| {
            room.copy_from_slice(query);
            query.len()
        };
        end.outbox.push(query.len(), WAITING_MAX, copy).expect("it is read");
        end.write(&mut self.wire);
        black_box(&self.wire);
        if dialled {
            self.engine.on_connected(self.now, send.connection);
        }
        let response = &mut self.responses[number];
        (response[2], response[3]) = (high, low);
        end.read(response);
        while let Ok(Some(response)) = end.inbox.next(TCP_MESSAGE_MAX) {
            let answered = self.engine.on_response(self.now, send.connection, response, false);
            let answered = answered.expect("it is the right answer");
            while self.engine.next_client(&answered).is_some() {
                let reply = |room: &mut [u8]| {
                    let reply = self.engine.next_reply(&answered, response, room);
                    reply.expect("somebody waits").len
                };
                let outbox = &mut self.client_end.outbox;
                let len = response.len() + TCP_REPLY_SPARE;
                outbox.push(len, WAITING_MAX, reply).expect("it is read");
            }
            assert!(self.engine.next_reply(&answered, response, &mut []).is_none());
        }
    }
}

impl Shell for Worker {
    fn engine(&mut self) -> &mut Forwarder {
        &mut self.engine
    }

    fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    fn open(&mut self, _: Moment, _: ConnectionId) -> Result<(), Fault> {
        panic!("nothing is dialled ahead");
    }

    fn send(
        &mut self,
        _: Moment,
        _: ConnectionId,
        queries: &[Outgoing],
    ) -> Result<(), (Operation, Fault)> {
        queries.iter().for_each(|query| self.exchange(query));
        Ok(())
    }

    fn close(&mut self, _: Moment, _: ConnectionId) {
        panic!("no connection closes");
    }

    fn deliver(&mut self, _: Moment, _: &Client, _: &[u8]) {
        panic!("every query is answered");
    }

    fn notice(&mut self, _: Moment, notice: &Notice) -> bool {
        black_box(notice);
        true
    }
}

/// `message` with its length prefix.
fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

/// Three upstreams, chosen at random, over connections without a lifetime limit.
fn config() -> Config {
    let text = ". {\n bind 127.0.0.1\n forward . 192.0.2.1 192.0.2.2 192.0.2.3 {\n \
                expire 1000h\n max_conns 256\n max_inflight 64\n }\n}\n";
    Config::load(text.as_bytes(), "bench", &Host::plain()).expect("it is valid").0
}
