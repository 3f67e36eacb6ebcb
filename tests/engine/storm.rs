//! Random load: clients, links that lose, delay, repeat and forge packets, upstreams that fail.
//!
//! Seeded; after each step the counters balance, and in the end nothing is left.

use crate::common::wire::{Ask, answer, random_case};
use crate::common::{Dice, config, for_seeds, stanza, upstream_address};
use crate::world::{Sent, World};
use onward::config::{
    Cache, Config, Forward, Policy, Prefetch, Prometheus, ServeStale, Sizing, StaleMode,
};
use onward::engine::stats::CacheStats;
use onward::moment::Moment;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

/// Current behaviour of an upstream.
#[derive(Clone, Copy, Debug)]
enum Mood {
    Answers,
    Silent,
    Refuses,
    /// Loses, repeats or forges one packet in four.
    Rough,
}

struct Storm<'a> {
    dice: &'a mut Dice,
    world: World,
    moods: BTreeMap<SocketAddr, Mood>,
    /// Packets on their way to the engine.
    flights: BTreeMap<(Moment, u64), (Sent, Vec<u8>)>,
    count: u64,
}

fn random_config(dice: &mut Dice) -> Config {
    let mut random_stanza = |upstreams: usize| Forward {
        policy: dice.pick(&[Policy::Random, Policy::RoundRobin, Policy::Sequential]),
        expire: Duration::from_millis(dice.pick(&[0, 500, 10_000])),
        max_age: dice.pick(&[None, Some(Duration::from_secs(11))]),
        max_idle_conns: dice.pick(&[None, Some(1), Some(5)]),
        read_timeout: Duration::from_millis(dice.pick(&[100, 2_000])),
        max_connect_attempts: dice.pick(&[None, Some(1), Some(2 * upstreams as u32)]),
        sizing: Sizing {
            spread: dice.pick(&[1, 3, 16]),
            stream_spread: dice.pick(&[1, 1, 8]),
            max_conns: dice.pick(&[1, 4, 100]),
            max_inflight: dice.pick(&[1, 4, 64]),
            tcp_inflight: dice.pick(&[1, 4, 64]),
        },
        ..stanza(upstreams)
    };
    let blocks = vec![(".", vec![random_stanza(3)]), ("example", vec![random_stanza(1)])];
    let mut config = config(blocks);
    for block in &mut config.blocks {
        block.stages.cache = random_cache(dice);
        let address = "127.0.0.1:0".parse().unwrap();
        let measured = Prometheus { address, runtime_metrics: false };
        block.stages.prometheus = (dice.below(2) == 0).then_some(measured);
    }
    config
}

/// No cache, or one whose entries soon expire or are evicted.
fn random_cache(dice: &mut Dice) -> Option<Cache> {
    let patience = Duration::from_millis(dice.pick(&[0, 10, 500]));
    let modes = [StaleMode::Immediate, StaleMode::Verify(None), StaleMode::Verify(Some(patience))];
    let stale = ServeStale {
        window: Duration::from_secs(dice.pick(&[1, 3_600])),
        mode: dice.pick(&modes),
        ttl: dice.pick(&[0, 30]),
        recheck: Duration::from_secs(dice.pick(&[0, 2])),
        prefer_positive: dice.one_in(2),
    };
    let prefetch =
        Prefetch { amount: 2, duration: Duration::from_secs(60), percentage: dice.pick(&[10, 90]) };
    let mut cache = Cache {
        serve_stale: dice.pick(&[None, Some(stale)]),
        prefetch: dice.pick(&[None, Some(prefetch)]),
        servfail: Duration::from_secs(dice.pick(&[0, 2])),
        keep_ttl: dice.one_in(4),
        simple: dice.one_in(4),
        ..Cache::default()
    };
    for class in [&mut cache.success, &mut cache.denial] {
        class.capacity = dice.pick(&[1, 20, 10_000]);
        class.capacity_bytes = dice.pick(&[1_024, 100_000]);
        class.ttl_max = dice.pick(&[1, 3, 20]);
    }
    (!dice.one_in(3)).then_some(cache)
}

impl Storm<'_> {
    fn step(&mut self) {
        match self.dice.below(100) {
            0..60 => self.ask(),
            60..62 => self.change_mood(),
            62..63 => self.fail_a_socket(),
            63..64 => self.world.pass(6.0),
            _ => self.pass(),
        }
        self.play_upstreams();
        self.world.check_books();
    }

    fn ask(&mut self) {
        for _ in 0..=self.dice.below(20) {
            let name = self.dice.pick(&["a.example", "b.example", "www.org", "x.y.z.net", "n"]);
            let name = match self.dice.below(3) {
                0 => format!("{}.{name}", self.dice.below(1_000)),
                _ => String::from_utf8(random_case(self.dice, name.as_bytes())).unwrap(),
            };
            let ask = Ask { rtype: self.dice.pick(&[1, 28]), ..Ask::new(self.dice.word(), &name) };
            let ask = if self.dice.one_in(2) { ask.with_edns(1_232) } else { ask };
            self.world.ask_within_turn(self.dice.below(30), &ask);
        }
        self.world.settle();
    }

    fn change_mood(&mut self) {
        let upstream = upstream_address(self.dice.below(3));
        let moods = [Mood::Answers, Mood::Answers, Mood::Rough, Mood::Silent, Mood::Refuses];
        self.moods.insert(upstream, self.dice.pick(&moods));
    }

    fn fail_a_socket(&mut self) {
        let sockets: Vec<_> = self.world.sockets.keys().copied().collect();
        if !sockets.is_empty() {
            let socket = self.dice.pick(&sockets);
            self.world.refuse(socket);
        }
    }

    /// Advances time by up to 20 ms and delivers the packets due by then.
    fn pass(&mut self) {
        let until = self.world.now.plus(Duration::from_micros(self.dice.below(20_000) as u64));
        while let Some(entry) = self.flights.first_entry().filter(|entry| entry.key().0 <= until) {
            let ((at, _), (sent, packet)) = entry.remove_entry();
            self.world.advance(at.max(self.world.now));
            self.world.respond(sent.connection, &packet);
            self.play_upstreams();
        }
        self.world.advance(until);
    }

    fn play_upstreams(&mut self) {
        while !self.world.sent.is_empty() {
            for sent in self.world.take_sent() {
                let mood = self.moods.get(&sent.to).copied().unwrap_or(Mood::Answers);
                let right = answer(&sent.bytes);
                match mood {
                    Mood::Silent => {}
                    Mood::Refuses => self.world.refuse(sent.connection),
                    Mood::Answers => self.fly(&sent, right),
                    Mood::Rough => self.fly_roughly(&sent, right),
                }
            }
        }
    }

    fn fly_roughly(&mut self, sent: &Sent, right: Vec<u8>) {
        match self.dice.below(8) {
            0 => {}
            1 => {
                self.fly(sent, right.clone());
                self.fly(sent, right);
            }
            2 => {
                let mut forged = right.clone();
                let place = self.dice.below(forged.len().min(24));
                forged[place] ^= 1 << self.dice.below(8);
                self.fly(sent, forged);
                self.fly(sent, right);
            }
            _ => self.fly(sent, right),
        }
    }

    /// Most packets take up to 30 ms, one in thirty up to 3 s.
    fn fly(&mut self, sent: &Sent, packet: Vec<u8>) {
        let micros = if self.dice.one_in(30) { 3_000_000 } else { 30_000 };
        let delay = Duration::from_micros(self.dice.below(micros) as u64);
        self.count += 1;
        self.flights.insert((self.world.now.plus(delay), self.count), (sent.clone(), packet));
    }
}

#[test]
fn each_query_is_answered_once_and_nothing_is_left() {
    let total = Mutex::new(CacheStats::default());
    for_seeds(0..180, |dice| {
        let world = World::new(&random_config(dice));
        let moods = BTreeMap::new();
        let mut storm = Storm { dice, world, moods, flights: BTreeMap::new(), count: 0 };
        for _ in 0..300 {
            storm.step();
        }
        storm.world.finish().caches.iter().for_each(|cache| total.lock().unwrap().add(cache));
    });
    let total = total.into_inner().unwrap();
    let used = [total.hits[0], total.hits[1], total.stale, total.refreshes, total.evicted[0]];
    assert!(used.iter().all(|count| *count > 500), "lame storms: {total:?}");
}
