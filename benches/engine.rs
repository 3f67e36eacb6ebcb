//! What the engine costs per query, without any I/O.
//!
//! Each query is a cache miss: parsed, routed, written anew, given a connection and an id, queued;
//! its response is matched, checked record by record, and written for the client. Batches of 64
//! are a busy worker's, batches of one an idle worker's.

mod harness;
mod messages;

use harness::{Bench, Operations, repeat, run, whole};
use messages::{query, response};
use onward::config::{Config, Host};
use onward::engine::forwarder::Arrivals;
use onward::engine::health::Verdicts;
use onward::engine::message::query::Query;
use onward::engine::message::response::Response;
use onward::engine::{Client, Forwarder, Outgoing};
use onward::moment::Moment;
use std::hint::black_box;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Different questions, asked in turn: more than fit into a processor's nearest caches.
const NAMES: usize = 4_096;
/// Between two batches.
const STEP: Duration = Duration::from_micros(50);

fn main() -> ExitCode {
    run(&[
        Bench { name: "engine_query_batch_64", set_up: || forward(64) },
        Bench { name: "engine_query_batch_1", set_up: || forward(1) },
        Bench { name: "engine_hit", set_up: hit },
        Bench { name: "engine_parse_query", set_up: parse_query },
        Bench { name: "engine_parse_response", set_up: parse_response },
    ])
}

/// Queries in batches of so many, all answered before the next batch. The cost is of one query.
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

struct Worker {
    engine: Forwarder,
    now: Moment,
    queries: Vec<Vec<u8>>,
    /// Of each query, whose id is still to be put in.
    responses: Vec<Vec<u8>>,
    sends: Vec<Outgoing>,
    next: usize,
}

impl Worker {
    fn of(config: &Config) -> Self {
        let queries: Vec<_> = (0..NAMES).map(query).collect();
        Self {
            engine: Forwarder::new(config, [1; 32], Arc::new(Verdicts::new(config))),
            now: Moment::ZERO,
            responses: queries.iter().map(|query| response(query)).collect(),
            queries,
            sends: Vec::with_capacity(onward::engine::exchange::EXCHANGES_MAX),
            next: 0,
        }
    }

    fn turn(&mut self, batch: usize) {
        let mut out = [0; 1_232];
        self.now = self.now.plus(STEP);
        let first = self.next;
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
                black_box(self.engine.on_arrival(self.now, arrival, &mut out));
            }
        }
        self.engine.swap_sends(&mut self.sends);
        for (place, send) in self.sends.drain(..).enumerate() {
            let query = self.engine.query(&send).expect("it is outstanding");
            let response = &mut self.responses[(first + place) % NAMES];
            response[..2].copy_from_slice(&query[..2]);
            let answered = self.engine.on_response(self.now, send.connection, response, false);
            let answered = answered.expect("it is the right answer");
            while self.engine.next_reply(&answered, response, &mut out).is_some() {
                black_box(&out);
            }
        }
        while let Some(request) = self.engine.next_request() {
            black_box(request);
        }
        assert!(
            self.engine.next_closed().is_none() && self.engine.next_failure(&mut out).is_none()
        );
    }
}

/// Who asks this query.
fn client(number: usize) -> Client {
    let peer = SocketAddr::from(([198, 51, 100, 1], 1_024 + number as u16));
    Client { listener: 0, peer, local: None, stream: None }
}

/// A query that the cache answers: from the packet to the reply.
fn hit() -> Operations {
    let mut worker = Worker::of(&config("cache 3600\n"));
    (0..NAMES / 64).for_each(|_| worker.turn(64));
    let mut out = [0; 1_232];
    repeat(move || {
        worker.now = worker.now.plus(STEP / 64);
        let client = client(worker.next);
        let query = &worker.queries[worker.next];
        worker.next = (worker.next + 1) % NAMES;
        let handled = worker.engine.on_query(worker.now, client, query, false, &mut out);
        assert!(black_box(handled).is_some(), "it is in the cache");
    })
}

/// What a client's packet means.
fn parse_query() -> Operations {
    let queries: Vec<_> = (0..NAMES).map(query).collect();
    let mut next = 0;
    repeat(move || {
        black_box(Query::parse(black_box(&queries[next]), false)).expect("a query");
        next = (next + 1) % NAMES;
    })
}

/// How a response is laid out.
fn parse_response() -> Operations {
    let responses: Vec<_> = (0..NAMES).map(|number| response(&query(number))).collect();
    let mut next = 0;
    repeat(move || {
        black_box(Response::parse(black_box(&responses[next]))).expect("a response");
        next = (next + 1) % NAMES;
    })
}

/// Three upstreams, chosen at random, behind other `stages`.
fn config(stages: &str) -> Config {
    let forward = " forward . 192.0.2.1 192.0.2.2 192.0.2.3 {\n \
                max_age 1000h\n spread 16\n max_conns 256\n max_inflight 64\n }\n";
    let text = format!(". {{\n bind 127.0.0.1\n {stages}{forward}}}\n");
    Config::load(text.as_bytes(), "bench", &Host::plain()).expect("it is valid").0
}
