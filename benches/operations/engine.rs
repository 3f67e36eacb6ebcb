//! Costs of the engine per query, without any I/O.
//!
//! The first benches forward each query: parsed, routed, assigned a connection and an ID,
//! queued; the response is matched, checked record by record, and written for the client. Batches
//! of 64 model a busy worker, batches of one an idle worker. The query part and the response part
//! are also counted separately, in batches of 64. The others answer from the cache
//! or from local data, ask the upstream a second query (`engine_parked`), or only parse.

use crate::messages::{empty_response, number_of, query, query_of, response, rtype_of};
use harness::{Bench, Meter, Operations, repeat, whole};
use onward::config::{Config, Host};
use onward::engine::errors::{Fault, Operation};
use onward::engine::forwarder::Arrivals;
use onward::engine::health::HealthStates;
use onward::engine::message::query::Query;
use onward::engine::message::response::Response;
use onward::engine::shell::{Buffers, Shell, send_queries, settle};
use onward::engine::{Client, ConnectionId, Forwarder, Notice, Outgoing, Via};
use onward::moment::Moment;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Different questions, asked in turn: more than fit into the first-level caches of the CPU.
const NAMES: usize = 4_096;
/// Maximum bytes of a reply.
const OUT: usize = 1_232;
/// Batch size of a busy worker.
const BATCH: usize = 64;
/// Type of IPv6 addresses.
const AAAA: u8 = 28;
/// Time between two batches.
const STEP: Duration = Duration::from_micros(50);

/// A `dns64` stage that leaves queries for IPv4 addresses unchanged.
const DNS64: &str = "dns64 {\n allow_ipv4\n }\n cache 3600\n";
/// A record that is built for each name.
const TEMPLATE: &str = "template IN A example.org {\n \
    match ^host(?P<last>[0-9]+)[.]\n answer \"{{ .Name }} 60 IN A 192.0.2.1\"\n }\n";
/// The upstream is queried for names in another zone.
const REWRITE_NAME: &str =
    "rewrite name suffix .example.org .example.net answer auto\n cache 3600\n";
/// A rule that adds the client subnet, which becomes part of the cache key.
const REWRITE_EDNS0: &str = "rewrite edns0 subnet set 24 56\n cache 3600\n";

pub(crate) const BENCHES: [Bench; 14] = [
    Bench { name: "engine_query_batch_64", set_up: || forward(BATCH) },
    Bench { name: "engine_query_batch_1", set_up: || forward(1) },
    Bench { name: "engine_on_query", set_up: || part(count_queries) },
    Bench { name: "engine_on_response", set_up: || part(count_responses) },
    Bench { name: "engine_hit", set_up: || hit(&config("cache 3600\n")) },
    Bench { name: "engine_hosts", set_up: || hit(&config(&hosts())) },
    Bench { name: "engine_template", set_up: || hit(&config(TEMPLATE)) },
    Bench { name: "engine_rewrite_name", set_up: rewritten },
    Bench { name: "engine_parked", set_up: parked },
    Bench { name: "engine_view_15", set_up: || hit(&views()) },
    Bench { name: "engine_dns64_passed", set_up: || hit(&config(DNS64)) },
    Bench { name: "engine_rewrite_edns0", set_up: || hit(&config(REWRITE_EDNS0)) },
    Bench { name: "engine_parse_query", set_up: parse_query },
    Bench { name: "engine_parse_response", set_up: parse_response },
];

/// Queries in batches of `batch`, all answered before the next batch. The figure is per query.
fn forward(batch: usize) -> Operations {
    let mut worker = Worker::of(&config(""));
    let mut owed = 0;
    whole(move |count| {
        owed += count as usize;
        while owed >= batch {
            owed -= batch;
            worker.turn(batch);
        }
    })
}

/// Queries in batches of 64, of which `turn` counts one part only.
fn part(turn: fn(&mut Worker, &mut Meter)) -> Operations {
    let mut worker = Worker::of(&config(""));
    let mut owed = 0;
    Box::new(move |count, meter| {
        owed += count as usize;
        while owed >= BATCH {
            owed -= BATCH;
            turn(&mut worker, meter);
        }
    })
}

/// Counts the query part: from the clients' packets to the upstream queries.
fn count_queries(worker: &mut Worker, meter: &mut Meter) {
    let mut out = [0; OUT];
    meter.count(|| worker.ask(BATCH, &mut out));
    worker.answer(&mut out);
}

/// Counts the response part: from the upstreams' packets to the replies.
fn count_responses(worker: &mut Worker, meter: &mut Meter) {
    let mut out = [0; OUT];
    worker.ask(BATCH, &mut out);
    meter.count(|| worker.answer(&mut out));
}

struct Worker {
    engine: Forwarder,
    now: Moment,
    queries: Vec<Vec<u8>>,
    /// Response of each query, without its ID.
    responses: Vec<Vec<u8>>,
    buffers: Buffers,
    /// Connection and question of each outstanding query.
    flights: Vec<(ConnectionId, usize)>,
    /// Responses may be for queries that are parked: they lead to no reply.
    parks: bool,
    /// Replies delivered to clients.
    replies: usize,
    next: usize,
}

impl Worker {
    fn of(config: &Config) -> Self {
        let queries: Vec<_> = (0..NAMES).map(query).collect();
        let responses = queries.iter().map(|query| response(query)).collect();
        Self::new(config, queries, responses)
    }

    /// A worker with these client queries and upstream responses: first the responses to queries
    /// for A, then those to queries for AAAA.
    fn new(config: &Config, queries: Vec<Vec<u8>>, responses: Vec<Vec<u8>>) -> Self {
        Self {
            engine: Forwarder::new(config, [1; 32], Arc::new(HealthStates::new(config))),
            now: Moment::ZERO,
            responses,
            queries,
            buffers: Buffers::new(),
            flights: Vec::with_capacity(BATCH),
            parks: false,
            replies: 0,
            next: 0,
        }
    }

    fn turn(&mut self, batch: usize) {
        let mut out = [0; OUT];
        self.ask(batch, &mut out);
        self.answer(&mut out);
    }

    /// Sends the next questions from clients and records the upstream queries with their responses.
    fn ask(&mut self, batch: usize, out: &mut [u8]) {
        self.now = self.now.plus(STEP);
        let mut arrivals = Arrivals::default();
        for left in (0..batch).rev() {
            let (client, query) = (client(self.next), &self.queries[self.next]);
            self.engine.read(client, query, false, &mut arrivals);
            self.next = (self.next + 1) % NAMES;
            if !arrivals.is_full() && left > 0 {
                continue;
            }
            self.engine.prefetch_answers(&arrivals);
            for arrival in arrivals.drain() {
                let replied = black_box(self.engine.on_arrival(self.now, arrival, out));
                self.replies += usize::from(replied.is_some());
            }
        }
        send_queries(self, self.now);
    }

    /// Delivers the responses and replies, and ends the turn. Queries that it sends are answered
    /// by the next call.
    fn answer(&mut self, out: &mut [u8]) {
        for (connection, number) in self.flights.drain(..) {
            let response = &self.responses[number];
            let answered = self.engine.on_response(self.now, connection, response, false);
            let Some(answered) = answered else {
                assert!(self.parks, "it is the right answer");
                continue;
            };
            while self.engine.next_reply(&answered, response, out).is_some() {
                black_box(&*out);
                self.replies += 1;
            }
        }
        settle(self, self.now);
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
        panic!("no connection is asked for");
    }

    fn send(
        &mut self,
        _: Moment,
        connection: ConnectionId,
        queries: &[Outgoing],
    ) -> Result<(), (Operation, Fault)> {
        for query in queries {
            let query = self.engine.query(query).expect("it is outstanding");
            let number = number_of(query) + if rtype_of(query) == AAAA { NAMES } else { 0 };
            self.responses[number][..2].copy_from_slice(&query[..2]);
            self.flights.push((connection, number));
        }
        Ok(())
    }

    fn close(&mut self, _: Moment, _: ConnectionId) {
        panic!("no connection grows so old");
    }

    fn deliver(&mut self, _: Moment, _: &Client, reply: &[u8]) {
        black_box(reply);
        self.replies += 1;
    }

    fn notice(&mut self, _: Moment, notice: &Notice) -> bool {
        black_box(notice);
        true
    }
}

/// Returns the client of this query.
fn client(number: usize) -> Client {
    let peer = SocketAddr::from(([198, 51, 100, 1], 1_024 + number as u16));
    Client { listener: 0, peer, local: None, via: Via::Datagram }
}

/// A query answered from the cache or from local data: from the packet to the reply.
fn hit(config: &Config) -> Operations {
    hit_of(Worker::of(config))
}

/// The same with a name that is rewritten for the upstream.
fn rewritten() -> Operations {
    let responses = (0..NAMES).map(|number| response(&query_of(number, "net", 1)));
    hit_of(Worker::new(&config(REWRITE_NAME), (0..NAMES).map(query).collect(), responses.collect()))
}

/// An AAAA query without an answer, for which `dns64` queries for A, in batches of 64.
fn parked() -> Operations {
    let queries: Vec<_> = (0..NAMES).map(|number| query_of(number, "org", AAAA)).collect();
    let addresses = (0..NAMES).map(|number| response(&query(number)));
    let empty = queries.iter().map(|query| empty_response(query));
    let responses = addresses.chain(empty).collect();
    let mut worker = Worker::new(&config("dns64 {\n allow_ipv4\n }\n"), queries, responses);
    worker.parks = true;
    let mut owed = 0;
    whole(move |count| {
        owed += count as usize;
        let mut out = [0; OUT];
        while owed >= BATCH {
            owed -= BATCH;
            let before = worker.replies;
            worker.turn(BATCH);
            assert_eq!(worker.replies, before, "the first response is no answer");
            worker.answer(&mut out);
            assert_eq!(worker.replies, before + BATCH, "the second one is");
        }
    })
}

fn hit_of(mut worker: Worker) -> Operations {
    (0..NAMES / BATCH).for_each(|_| worker.turn(BATCH));
    let mut out = [0; OUT];
    repeat(move || {
        worker.now = worker.now.plus(STEP / BATCH as u32);
        let client = client(worker.next);
        let query = &worker.queries[worker.next];
        worker.next = (worker.next + 1) % NAMES;
        let handled = worker.engine.on_query(worker.now, client, query, false, &mut out);
        assert!(black_box(handled).is_some(), "it is in the cache, or local");
    })
}

/// Parses the query in a client's packet.
fn parse_query() -> Operations {
    let queries: Vec<_> = (0..NAMES).map(query).collect();
    let mut next = 0;
    repeat(move || {
        black_box(Query::parse(black_box(&queries[next]), false)).expect("a query");
        next = (next + 1) % NAMES;
    })
}

/// Parses the layout of a response.
fn parse_response() -> Operations {
    let responses: Vec<_> = (0..NAMES).map(|number| response(&query(number))).collect();
    let mut next = 0;
    repeat(move || {
        black_box(Response::parse(black_box(&responses[next]))).expect("a response");
        next = (next + 1) % NAMES;
    })
}

/// A hosts table with all names.
fn hosts() -> String {
    let lines = (0..NAMES).map(|number| format!("192.0.2.1 host{number:04}.example.org\n"));
    format!("hosts {{\n {} }}\n", lines.collect::<String>())
}

/// Fifteen server blocks of one zone, each with a cache and a view of a different network; the
/// bench's clients match the last.
fn views() -> Config {
    let block = |number: usize| {
        let net =
            if number == 14 { "198.51.100.0/24".into() } else { format!("10.{number}.0.0/16") };
        block(&format!("view v{number} {{\n expr incidr(client_ip(), '{net}')\n}}\ncache 3600\n"))
    };
    load(&(0..15).map(block).collect::<String>())
}

/// Three upstreams, chosen at random, behind additional `stages`.
fn config(stages: &str) -> Config {
    load(&block(stages))
}

fn load(text: &str) -> Config {
    Config::load(text.as_bytes(), "bench", &Host::plain()).expect("it is valid").0
}

fn block(stages: &str) -> String {
    let forward = " forward . 192.0.2.1 192.0.2.2 192.0.2.3 {\n \
                max_age 1000h\n spread 16\n max_conns 256\n max_inflight 64\n }\n";
    format!(". {{\n bind 127.0.0.1\n {stages}{forward}}}\n")
}
