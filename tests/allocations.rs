//! Allocation test: no allocation per query, and start-up memory as large as the documented
//! estimate.
//!
//! Ten thousand queries go through the engine: new and coalesced queries, responses, refusals,
//! upstreams that fail or do not respond, connections that are dialled, shared, expired and retired
//! by age. As many go to a cache that is too small for their answers. A counting allocator in a
//! binary of its own counts the allocations of the test's thread only.

#![allow(unsafe_code, reason = "an allocator cannot be written without")]

#[path = "allocations/blocks.rs"]
mod blocks;
mod common;
#[path = "allocations/local.rs"]
mod local;

use ahash::RandomState;
use common::wire::{Ask, Writer};
use common::{config, stanza, upstream_address};
use onward::config::{self, Forward, Prefetch, ServeStale, Sizing, StaleMode};
use onward::engine::cache::admission::Received;
use onward::engine::cache::{Cache, Found, Key};
use onward::engine::errors::{Fault, Operation};
use onward::engine::health::HealthStates;
use onward::engine::journal::Page;
use onward::engine::message::query::Query;
use onward::engine::message::reply::ExtendedError;
use onward::engine::message::reply::{Finish, ReplyTo};
use onward::engine::message::response::Response;
use onward::engine::shell::{self, Buffers, Shell};
use onward::engine::zones::LowercaseName;
use onward::engine::{Client, ConnectionId, Forwarder, Notice, Outgoing, Sweep, Via};
use onward::moment::Moment;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static FREED: Cell<u64> = const { Cell::new(0) };
    /// Bytes allocated now, and the peak since the pair was last set.
    static LIVE: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

struct Counting;

fn count() {
    // A thread that is ending may have dropped its counter; the counting thread is not ending.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

fn weigh(bytes: isize) {
    let _ = LIVE.try_with(|live| {
        let (now, most) = live.get();
        live.set((now + bytes, most.max(now + bytes)));
    });
}

// SAFETY: every call is passed to the system allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        weigh(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`, which is that of `System.alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let _ = FREED.try_with(|count| count.set(count.get() + 1));
        weigh(-(layout.size() as isize));
        // SAFETY: `block` came from the methods here, so from `System`, with this layout.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        weigh(size as isize - layout.size() as isize);
        // SAFETY: `block` came from the methods here, so from `System`, with this layout.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Queries of one turn.
const TURN: usize = 100;

/// Behaviour of an upstream towards a query.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Answered,
    Forged,
    Lost,
    Refused,
}

/// A worker without sockets, whose memory is all reserved at the start.
struct Worker {
    engine: Forwarder,
    now: Moment,
    buffers: Buffers,
    /// Queries on their way to an upstream, each with the connection and its response.
    flights: Vec<(ConnectionId, [u8; 512], usize)>,
    /// Deadline at which each pool and cache asks to be swept.
    wakes: Vec<(Sweep, Option<Moment>)>,
    replies: u64,
    closed: u64,
    /// Records of errors.
    errors: u64,
    /// Query log page: the spare one, and the records of the full ones.
    page: Page,
    records: usize,
    number: u64,
}

impl Worker {
    fn new(cache: Option<config::Cache>) -> Self {
        let sizing =
            Sizing { spread: 4, stream_spread: 1, max_conns: 6, max_inflight: 8, tcp_inflight: 8 };
        let max_age = Some(Duration::from_secs(2));
        let forward = Forward {
            sizing,
            max_age,
            expire: Duration::from_secs(1),
            max_idle_conns: Some(8),
            ..stanza(3)
        };
        let mut dead = Forward { max_connect_attempts: Some(1), ..stanza(1) };
        dead.upstreams[0].address = upstream_address(9);
        let mut config = config(vec![(".", vec![forward]), ("dead", vec![dead])]);
        config.blocks.iter_mut().for_each(|block| block.stages.cache = cache.clone());
        config.blocks[1].stages.errors = Some(config::Errors::default());
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let measured = config::Prometheus { address, runtime_metrics: false };
        for block in &mut config.blocks {
            (block.stages.prometheus, block.stages.status) =
                (Some(measured.clone()), Some(address));
        }
        let rule = config::LogRule {
            names: vec![config::Name::parse("example").unwrap()],
            format: "{common}".into(),
            classes: vec!["success", "denial"],
        };
        let all = config::LogRule { names: vec![config::Name::root()], ..rule.clone() };
        config.blocks[0].stages.log = vec![rule, all];
        config.blocks[1].stages.log = config.blocks[0].stages.log.clone();
        Self {
            engine: Forwarder::new(&config, [3; 32], Arc::new(HealthStates::new(&config))),
            now: Moment::ZERO,
            buffers: Buffers::new(),
            flights: Vec::with_capacity(10 * TURN),
            wakes: Vec::with_capacity(10),
            replies: 0,
            closed: 0,
            errors: 0,
            page: Page::new(),
            records: 0,
            number: 0,
        }
    }

    fn turn(&mut self, queries: &[Vec<u8>]) {
        let mut out = [0; 1_232];
        for query in queries {
            self.number += 1;
            let peer = SocketAddr::from(([198, 51, 100, 1], 1 + (self.number % 60_000) as u16));
            let client = Client { listener: 0, peer, local: None, via: Via::Datagram };
            let replied = self.engine.on_query(self.now, client, query, false, &mut out);
            self.replies += u64::from(replied.is_some());
        }
        shell::settle(self, self.now);
        while let Some((connection, packet, len)) = self.flights.pop() {
            let packet = &packet[..len];
            if let Some(answered) = self.engine.on_response(self.now, connection, packet, false) {
                while self.engine.next_reply(&answered, packet, &mut out).is_some() {
                    self.replies += 1;
                }
            }
        }
        self.now = self.now.plus(Duration::from_millis(150));
        self.engine.on_time(self.now);
        for (sweep, wake) in &mut self.wakes {
            if wake.take_if(|due| *due <= self.now).is_some() {
                self.engine.on_sweep(self.now, *sweep);
            }
        }
        shell::settle(self, self.now);
    }

    fn upstream(&self, send: &Outgoing) -> Option<SocketAddr> {
        self.engine.address(send.connection).map(|dial| dial.upstream)
    }
}

impl Shell for Worker {
    fn engine(&mut self) -> &mut Forwarder {
        &mut self.engine
    }

    fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    fn open(&mut self, _: Moment, id: ConnectionId) -> Result<(), Fault> {
        panic!("{id:?} is a connection, and no query asks for one");
    }

    fn send(
        &mut self,
        _: Moment,
        connection: ConnectionId,
        queries: &[Outgoing],
    ) -> Result<(), (Operation, Fault)> {
        let mut refused = false;
        for send in queries {
            let Some(query) = self.engine.query(send) else { continue };
            self.number += 1;
            let fate = match self.number % 40 {
                0 => Fate::Lost,
                1 => Fate::Refused,
                _ if self.upstream(send) == Some(upstream_address(9)) => Fate::Lost,
                2 => Fate::Forged,
                _ => Fate::Answered,
            };
            if fate == Fate::Refused {
                refused = true;
            } else if fate != Fate::Lost {
                let mut packet = [0; 512];
                // The query without its OPT, turned into a response without records.
                let len = query.len() - 11;
                packet[..len].copy_from_slice(&query[..len]);
                packet[2] |= 0x80;
                packet[11] = 0;
                packet[13] ^= u8::from(fate == Fate::Forged);
                self.flights.push((connection, packet, len));
            }
        }
        if refused { Err((Operation::Write, Fault::Unknown)) } else { Ok(()) }
    }

    fn close(&mut self, _: Moment, _: ConnectionId) {
        self.closed += 1;
    }

    fn deliver(&mut self, _: Moment, _: &Client, _: &[u8]) {
        self.replies += 1;
    }

    fn notice(&mut self, _: Moment, notice: &Notice) -> bool {
        match *notice {
            Notice::Wake { sweep, at } => {
                let known = self.wakes.iter_mut().find(|(known, _)| *known == sweep);
                match known {
                    Some((_, wake)) => *wake = Some(at),
                    None => self.wakes.push((sweep, Some(at))),
                }
            }
            Notice::Error(_) => self.errors += 1,
            Notice::Page => {
                self.engine.swap_page(&mut self.page);
                self.records += self.page.records.len();
                self.page.clear();
            }
            Notice::Failing(_)
            | Notice::Odd(_)
            | Notice::Looping { .. }
            | Notice::Flood(_)
            | Notice::Limited { .. }
            | Notice::Transfer
            | Notice::Notified => {}
        }
        true
    }
}

/// Queries for names of which every third occurs twice; one in ten packets is not a query, and one
/// query in ten goes to a dead upstream.
fn queries(turns: usize) -> Vec<Vec<u8>> {
    let query = |number: usize| {
        let name = if number.is_multiple_of(3) { number + 1 } else { number };
        let zone = if number % 10 == 5 { "dead" } else { "example" };
        let ask = Ask::new(number as u16, &format!("n{name}.{zone}"));
        let ask = if number.is_multiple_of(2) { ask.with_edns(1_232) } else { ask };
        match number % 10 {
            0 => Ask { flags: 0x2800, ..ask }.bytes(),
            _ => ask.bytes(),
        }
    };
    (0..turns * TURN).map(query).collect()
}

#[test]
fn ten_thousand_queries_allocate_nothing() {
    let mut worker = Worker::new(None);
    let queries = queries(120);
    let (warm_up, measured) = queries.split_at(20 * TURN);
    warm_up.chunks(TURN).for_each(|turn| worker.turn(turn));
    let before = ALLOCATIONS.get();
    assert!(before > 0, "the allocator does not count");
    measured.chunks(TURN).for_each(|turn| worker.turn(turn));
    assert_eq!(ALLOCATIONS.get() - before, 0);

    let stats = worker.engine.stats();
    let sum = |count: fn(&onward::engine::stats::UpstreamStats) -> u64| {
        stats.upstreams.iter().map(count).sum::<u64>()
    };
    let tallies = [
        stats.coalesced,
        stats.replies[0],
        stats.replies[2],
        stats.replies[4],
        sum(|upstream| upstream.timed_out),
        sum(|upstream| upstream.failed),
        sum(|upstream| upstream.pool.opened),
        sum(|upstream| upstream.pool.shared),
        sum(|upstream| upstream.pool.aged + upstream.pool.expired),
    ];
    assert!(tallies.iter().all(|tally| *tally > 10), "a lame run: {tallies:?}");
    assert!(worker.replies > 11_000 && worker.closed > 100, "a lame run");
    assert!(worker.errors > 50, "{} errors were recorded: a lame run", worker.errors);
    assert!(worker.records > 5_000, "{} queries were told: a lame run", worker.records);
}

#[test]
fn ten_thousand_queries_to_a_worker_with_a_cache_allocate_nothing() {
    let mut worker = Worker::new(Some(config::Cache { prefetch: None, ..small_cache() }));
    // Some names are queried often; the rest are new.
    let query = |number: usize| {
        let name = if number.is_multiple_of(4) { number } else { number * number % 150 };
        Ask::new(number as u16, &format!("n{name}.example")).with_edns(1_232).bytes()
    };
    let queries: Vec<_> = (0..120 * TURN).map(query).collect();
    let (warm_up, measured) = queries.split_at(20 * TURN);
    warm_up.chunks(TURN).for_each(|turn| worker.turn(turn));
    let before = ALLOCATIONS.get();
    measured.chunks(TURN).for_each(|turn| worker.turn(turn));
    assert_eq!(ALLOCATIONS.get() - before, 0);
    let stats = worker.engine.stats().caches[0];
    let tallies = [stats.hits[0], stats.stale, stats.refreshes, stats.evicted[0]];
    assert!(tallies.iter().all(|tally| *tally > 50), "a lame run: {stats:?}");
}

/// Returns the memory estimate for a worker with the Corefile `text`, and the peak allocation while
/// the worker and its copy of the configuration are built.
fn said_and_counted(text: &str) -> (usize, usize) {
    let host = onward::config::Host::plain();
    let (config, _) = onward::config::Config::load(text.as_bytes(), "f", &host).unwrap();
    let before = LIVE.get().0;
    LIVE.set((before, before));
    let memory = onward::worker::measure(&config).unwrap();
    (memory.reserved(), (LIVE.get().1 - before).unsigned_abs())
}

#[test]
fn a_worker_is_as_large_as_estimated() {
    let long: String = (0..10_000).map(|number| format!(" zone{number}.example")).collect();
    for (what, options) in [
        ("a small one", String::new()),
        ("large pools", "spread 100\n max_conns 20000\n max_age 1h".to_owned()),
        ("many exceptions", format!("except{long}")),
        ("a query log", "}\n log\n forward x ::1 {".to_owned()),
        ("metrics", "}\n prometheus\n status\n forward x ::1 {".to_owned()),
    ] {
        let text = format!(". {{\n bind 127.0.0.1\n forward . ::1 ::2 {{\n {options}\n }}\n}}\n");
        let (said, counted) = said_and_counted(&text);
        // The configuration itself, channels and the poll have no line in the estimate.
        let besides = 64 * 1024 + 4 * text.len();
        assert!(said <= counted && counted <= said + besides, "{what}: {said} of {counted}");
        // A forgotten table would exceed this allowance.
        assert!(besides < said / 10, "{what}: {besides} of {said}");
    }
    let small = said_and_counted(". {\n bind 127.0.0.1\n}\n").0;
    // Half of it is the table of outstanding queries, each with room for `rewrite` options.
    assert!((10 << 20..24 << 20).contains(&small), "{small} bytes without any pool");
}

/// A cache that evicts answers and denials, for want of slots and of bytes.
fn small_cache() -> config::Cache {
    let prefetch = Prefetch { amount: 2, duration: Duration::from_secs(60), percentage: 50 };
    let serve_stale = ServeStale {
        window: Duration::from_secs(10),
        mode: StaleMode::Immediate,
        ttl: 30,
        recheck: Duration::ZERO,
        prefer_positive: false,
    };
    let mut settings = config::Cache {
        prefetch: Some(prefetch),
        serve_stale: Some(serve_stale),
        ..config::Cache::default()
    };
    (settings.success.capacity, settings.success.capacity_bytes) = (500, 60_000);
    (settings.denial.capacity, settings.denial.capacity_bytes) = (100, 60_000);
    settings
}

/// A response whose kind depends on `number`: short or long answer, denial, failure.
fn response(query: &[u8], number: usize) -> Vec<u8> {
    let ask = Query::parse(query, false).expect("a query");
    let (code, answers, denials) = match number % 8 {
        0 => (3, 0, 1),
        1 => (2, 0, 0),
        long => (0, 1 + 5 * long as u16, 0),
    };
    let mut writer = Writer::new([ask.asked.id, 0x8180 | code, 1, answers, denials, 0]);
    writer.bytes.extend_from_slice(&query[12..ask.question.end()]);
    (0..answers).for_each(|last| writer.record(&[0xc0, 12], 1, 1, 8, &[192, 0, 2, last as u8]));
    (0..denials).for_each(|_| writer.record(&[0], 6, 1, 8, &[0; 22]));
    writer.bytes
}

#[test]
fn ten_thousand_questions_to_a_cache_that_has_grown_allocate_nothing() {
    let hasher = RandomState::with_seeds(1, 2, 3, 4);
    let settings = small_cache();
    let mut cache = Cache::new(&settings, &hasher);
    // Some names are queried often, most of them rarely.
    let name = |number: usize| number * number % if number.is_multiple_of(2) { 97 } else { 3_001 };
    let query = |number| Ask::new(7, &format!("n{}.example", name(number))).with_edns(512).bytes();
    let queries: Vec<_> = (0..10_000).map(query).collect();
    let responses: Vec<_> =
        (queries.iter().enumerate()).map(|(number, query)| response(query, name(number))).collect();
    let mut out = [0; 1_232];
    let mut now = Moment::ZERO;
    let (mut refreshes, mut truncated) = (0, 0);
    let mut allocations = [ALLOCATIONS.get(); 3];
    let rounds = [&queries, &queries].into_iter().flatten().zip(responses.iter().cycle());
    for (step, (query, packet)) in rounds.enumerate() {
        let number = step % queries.len();
        allocations[1 + step / queries.len()] = ALLOCATIONS.get();
        // Once in 2,500 queries every cached answer expires.
        let passed = if number % 2_500 == 0 { 9_000 } else { 2 };
        now = now.plus(Duration::from_millis(passed));
        let query = Query::parse(query, false).expect("a query");
        let name = LowercaseName::new(query.name());
        let key = Key::new(&hasher, &name, &query.question, &query.asked);
        let question = query.question;
        match cache.get(now, &key) {
            Found::Reply { entry, refresh } => {
                let question = &queries[number][12..question.end()];
                let to =
                    ReplyTo { asked: &query.asked, question, limit: 512, finish: Finish::PLAIN };
                cache.write(now, entry, &to, &mut out).expect("it was found");
                truncated += u32::from(out[2] & 2 != 0);
                refreshes += u32::from(refresh);
                if !refresh {
                    continue;
                }
            }
            Found::Miss => {}
            Found::Verify { .. } => panic!("it is not so configured"),
        }
        let response = Response::parse(packet).expect("a response");
        let received = Received { packet, response: &response, recursion: true, unix: 0 };
        let put = cache.put(now, &name, &key, &received);
        assert!(put.is_ok(), "{put:?}");
        if number % 100 == 0 {
            cache.put_failure(now, &name, &key, ExtendedError::NetworkError);
            cache.sweep(now);
        }
    }
    // Tables grow by doubling: the few that hold hundreds of entries grow a few times each.
    let grown = allocations[1] - allocations[0];
    assert!((1..80).contains(&grown), "{grown} allocations");
    assert_eq!(ALLOCATIONS.get() - allocations[1], 0);
    let stats = cache.stats;
    let tallies = [stats.hits, stats.stored, stats.evicted].as_flattened().to_vec();
    assert!(tallies.iter().all(|tally| *tally > 50), "a lame run: {stats:?}");
    assert!(refreshes > 50 && truncated > 50 && stats.stale > 50, "a lame run: {stats:?}");
}

/// A response to `query` with one address.
fn address(query: &[u8]) -> Vec<u8> {
    let end = Query::parse(query, false).expect("a query").question.end();
    let mut writer = Writer::new([7, 0x8180, 1, 1, 0, 0]);
    writer.bytes.extend_from_slice(&query[12..end]);
    writer.record(&[0xc0, 12], 1, 1, 300, &[192, 0, 2, 1]);
    writer.bytes
}

#[test]
fn a_million_answers_fit_into_the_reserved_memory() {
    const ENTRIES: usize = 1_000_000;
    let hasher = RandomState::with_seeds(1, 2, 3, 4);
    let mut settings = config::Cache::default();
    (settings.success.capacity, settings.success.capacity_bytes) = (ENTRIES, 128 * ENTRIES);
    (settings.denial.capacity, settings.denial.capacity_bytes) = (1, 1_024);
    let before = LIVE.get().0;
    let mut cache = Cache::new(&settings, &hasher);
    for number in 0..ENTRIES + ENTRIES / 10 {
        let query = Ask::new(7, &format!("host{number}.example.org")).bytes();
        let packet = address(&query);
        let query = Query::parse(&query, false).expect("a query");
        let name = LowercaseName::new(query.name());
        let key = Key::new(&hasher, &name, &query.question, &query.asked);
        let response = Response::parse(&packet).expect("a response");
        let received = Received { packet: &packet, response: &response, recursion: true, unix: 0 };
        cache.put(Moment::ZERO, &name, &key, &received).expect("an answer");
    }
    let (reserved, most) = (cache.reserved(), cache.reserved_max());
    // The entries are not the allocator's.
    let counted = (LIVE.get().0 - before).unsigned_abs() + cache.mapped();
    assert!(reserved <= counted && counted < reserved + 4_096, "{reserved} of {counted}");
    // A shard may have more slots and blocks than its share.
    assert!(reserved <= most && most < reserved + reserved / 10, "{reserved} of {most}");
    assert_eq!(cache.len(), [ENTRIES, 0]);
    assert!(cache.bytes() <= 128 * ENTRIES);
    let each = reserved / ENTRIES;
    println!("{each} bytes for each of a million answers with one address");
    assert!(each < 320, "{each} bytes each");
}
