//! A virtual address whose backends are chosen by connection tracking, per source port.
//!
//! A steady load, one engine, backends that are silent or refuse for a while, and links with
//! uniform loss. Laws: three seconds after a backend's recovery no query is sent on a connection
//! older than the recovery, so that the backend gets its fair share whatever `max_age` is; without
//! `distrust` and `rebalance` it starves; and a pool with mere loss does not replace more than one
//! connection per hundred queries.

use super::common::wire::{Ask, answer};
use super::common::{Dice, config, stanza};
use onward::config::{Forward, Sizing};
use onward::engine::errors::{Fault, Operation};
use onward::engine::health::HealthStates;
use onward::engine::shell::{self, Buffers, Shell};
use onward::engine::stats::UpstreamStats;
use onward::engine::{Client, ConnectionId, Forwarder, Notice, Outgoing, Sweep, Via};
use onward::moment::Moment;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const BACKENDS: usize = 3;
/// Step of the virtual time.
const TICK: Duration = Duration::from_millis(1);
/// Time from a query to its answer.
const ROUND_TRIP: Duration = Duration::from_millis(2);

/// Behaviour of a backend during an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Silent,
    /// The port is closed: ICMP port unreachable.
    Refusing,
}

/// An outage of the first backend.
#[derive(Clone, Copy, Debug)]
struct Outage {
    from: f64,
    to: f64,
    manner: Manner,
}

/// Parameters of a run.
#[derive(Clone, Copy, Debug)]
struct Course {
    seed: u64,
    per_second: usize,
    spread: usize,
    distrust: bool,
    rebalance: bool,
    /// Lost packets per thousand, in each direction.
    loss: usize,
    outage: Option<Outage>,
    seconds: f64,
}

impl Course {
    fn steady(seed: u64) -> Self {
        Self {
            seed,
            per_second: 1_000,
            spread: 128,
            distrust: true,
            rebalance: false,
            loss: 0,
            outage: None,
            seconds: 60.0,
        }
    }

    fn stanza(&self) -> Forward {
        let mut forward = stanza(1);
        (forward.distrust, forward.rebalance) = (self.distrust, self.rebalance);
        // One outstanding query per connection, as under light load.
        forward.sizing = Sizing { spread: self.spread, max_inflight: 1, ..forward.sizing };
        forward
    }
}

/// A query that was sent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Moment,
    dialled_at: Moment,
    backend: usize,
}

/// An arrival on a connection: an answer, or `None` for an error.
type Coming = (Moment, ConnectionId, Option<Vec<u8>>);

struct Address {
    course: Course,
    engine: Forwarder,
    dice: Dice,
    now: Moment,
    /// Backend of each source port, and the time of its assignment.
    pinned: HashMap<ConnectionId, (usize, Moment)>,
    coming: VecDeque<Coming>,
    wakes: BTreeMap<Sweep, Moment>,
    buffers: Buffers,
    sent: Vec<Sent>,
    asked: usize,
}

impl Shell for Address {
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
        id: ConnectionId,
        queries: &[Outgoing],
    ) -> Result<(), (Operation, Fault)> {
        for query in queries {
            if let Some(query) = self.engine.query(query).map(<[u8]>::to_vec) {
                self.carry(id, &query);
            }
        }
        Ok(())
    }

    fn close(&mut self, _: Moment, id: ConnectionId) {
        self.pinned.remove(&id);
    }

    fn deliver(&mut self, _: Moment, _: &Client, _: &[u8]) {}

    fn notice(&mut self, _: Moment, notice: &Notice) -> bool {
        if let Notice::Wake { sweep, at } = *notice {
            self.wakes.insert(sweep, at);
        }
        true
    }
}

fn at(seconds: f64) -> Moment {
    Moment::ZERO.plus(Duration::from_secs_f64(seconds))
}

impl Address {
    fn run(course: Course) -> (Vec<Sent>, UpstreamStats) {
        let config = config(vec![(".", vec![course.stanza()])]);
        let engine =
            Forwarder::new(&config, [course.seed as u8; 32], Arc::new(HealthStates::new(&config)));
        let mut address = Self {
            course,
            engine,
            dice: Dice::new(course.seed),
            now: Moment::ZERO,
            pinned: HashMap::new(),
            coming: VecDeque::new(),
            wakes: BTreeMap::new(),
            buffers: Buffers::new(),
            sent: Vec::new(),
            asked: 0,
        };
        while address.now < at(course.seconds) {
            address.tick();
        }
        let stats = address.engine.stats().upstreams[0];
        (address.sent, stats)
    }

    fn tick(&mut self) {
        self.now = self.now.plus(TICK);
        while self.coming.front().is_some_and(|(due, ..)| *due <= self.now) {
            let Some((_, id, packet)) = self.coming.pop_front() else { break };
            match packet {
                Some(packet) => self.answers(id, &packet),
                None => self.engine.on_connection_failed(self.now, id),
            }
        }
        let due = self.wakes.iter().filter(|(_, due)| **due <= self.now).map(|(sweep, _)| *sweep);
        for sweep in due.collect::<Vec<_>>() {
            self.wakes.remove(&sweep);
            self.engine.on_sweep(self.now, sweep);
        }
        self.engine.on_time(self.now);
        self.settle();
        let elapsed = self.now.since(Moment::ZERO).as_millis() as usize;
        while self.asked * 1_000 < elapsed * self.course.per_second {
            self.asked += 1;
            self.ask();
            self.settle();
        }
    }

    fn ask(&mut self) {
        let peer = SocketAddr::from(([198, 51, 100, 1], 1 + (self.asked % 60_000) as u16));
        let client = Client { listener: 0, peer, local: None, via: Via::Datagram };
        let query = Ask::new(self.asked as u16, &format!("n{}.example", self.asked)).bytes();
        let mut out = [0; 1_232];
        let none = self.engine.on_query(self.now, client, &query, false, &mut out);
        assert_eq!(none, None, "there is nothing that it could say yet");
    }

    fn answers(&mut self, id: ConnectionId, packet: &[u8]) {
        let mut out = [0; 1_232];
        if let Some(answered) = self.engine.on_response(self.now, id, packet, false) {
            while self.engine.next_reply(&answered, packet, &mut out).is_some() {}
        }
    }

    fn settle(&mut self) {
        shell::settle(self, self.now);
    }

    fn carry(&mut self, id: ConnectionId, query: &[u8]) {
        let backend = self.dice.below(BACKENDS);
        let (backend, dialled_at) = *self.pinned.entry(id).or_insert((backend, self.now));
        self.sent.push(Sent { at: self.now, dialled_at, backend });
        if (0..2).any(|_| self.dice.per_mille(self.course.loss)) {
            return;
        }
        let outage = self.course.outage.filter(|outage| {
            backend == 0 && at(outage.from) <= self.now && self.now < at(outage.to)
        });
        let packet = match outage.map(|outage| outage.manner) {
            None => Some(answer(query)),
            Some(Manner::Refusing) => None,
            Some(Manner::Silent) => return,
        };
        self.coming.push_back((self.now.plus(ROUND_TRIP), id, packet));
    }
}

/// The first backend's share, per thousand, of the queries from `from` on.
fn share(sent: &[Sent], from: f64) -> usize {
    let later = || sent.iter().filter(|sent| sent.at >= at(from));
    1_000 * later().filter(|sent| sent.backend == 0).count() / later().count()
}

/// Returns the time from `back` to the last query on an older connection.
fn renewed_after(sent: &[Sent], back: f64) -> Duration {
    let old = sent.iter().rfind(|sent| sent.dialled_at < at(back) && sent.at >= at(back));
    old.map_or(Duration::ZERO, |sent| sent.at.since(at(back)))
}

#[test]
fn three_seconds_after_its_recovery_a_backend_gets_only_new_connections() {
    for seed in 0..2 {
        for lasts in [0.3, 1.0, 3.0, 10.0, 30.0] {
            for manner in [Manner::Silent, Manner::Refusing] {
                let (from, to) = (15.0, 15.0 + lasts);
                let outage = Some(Outage { from, to, manner });
                let course = Course { outage, seconds: to + 8.0, ..Course::steady(seed) };
                let (sent, stats) = Address::run(course);
                let took = renewed_after(&sent, to);
                let pool = stats.pool;
                assert!(took <= Duration::from_secs(3), "{course:?}: {took:?}, {pool:?}");
            }
        }
    }
}

#[test]
fn a_recovered_backends_share_is_fair_within_a_tenth() {
    // A single pool of 128 ports is uneven by chance.
    const RUNS: u64 = 8;
    let outage = Some(Outage { from: 15.0, to: 20.0, manner: Manner::Silent });
    let run = |seed| Address::run(Course { outage, seconds: 28.0, ..Course::steady(seed) }).0;
    let sum: usize = (0..RUNS).map(|seed| share(&run(seed), 23.0)).sum();
    let (mean, fair) = (sum / RUNS as usize, 1_000 / BACKENDS);
    assert!(mean.abs_diff(fair) <= fair / 10, "{mean} of {fair} thousandths");
}

#[test]
fn without_distrust_a_recovered_backend_starves() {
    let outage = Some(Outage { from: 15.0, to: 20.0, manner: Manner::Silent });
    let course = Course { outage, distrust: false, ..Course::steady(1) };
    let (sent, _) = Address::run(course);
    let (share, fair) = (share(&sent, 23.0), 1_000 / BACKENDS);
    assert!(share < fair / 5, "{share} of {fair} thousandths: what is there to be cured?");
}

#[test]
fn rebalance_alone_restores_a_starved_backend_at_a_rate_bounded_by_traffic() {
    let outage = Some(Outage { from: 15.0, to: 20.0, manner: Manner::Silent });
    let alone = Course { distrust: false, rebalance: true, seconds: 70.0, ..Course::steady(1) };
    let (sent, stats) = Address::run(Course { outage, ..alone });
    // All 128, one per 128 queries at a thousand a second, and those replaced recently.
    let (took, most) = (renewed_after(&sent, 20.0), Duration::from_secs(36));
    assert!(took <= most, "{took:?}, {stats:?}");
}

#[test]
fn even_loss_renews_less_than_one_connection_in_a_hundred_queries() {
    for (seed, loss) in [0, 1, 5, 10, 25].into_iter().enumerate() {
        for spread in [4, 32, 128] {
            for (per_second, rebalance) in [(50, false), (1_000, true)] {
                let (seed, seconds) = (seed as u64, 60_000.0 / per_second as f64);
                let steady = Course::steady(seed);
                let course = Course { per_second, spread, rebalance, loss, seconds, ..steady };
                let (sent, UpstreamStats { pool, .. }) = Address::run(course);
                let queries = sent.len() as u64;
                assert!(pool.renewed * 100 <= queries, "{course:?}: {queries}, {pool:?}");
                assert!(rebalance == (pool.renewed > 0) || loss > 0, "{course:?}: {pool:?}");
            }
        }
    }
}
