//! Costs of a cache per question, and hit ratios of its eviction policy.
//!
//! Questions are already parsed and lower-cased, as in the engine; the key's hash is part of each
//! figure. An answer is two addresses behind an alias, about 100 bytes. `cargo bench -p
//! benches --bench operations -- --hit-ratios` compares the eviction policy with others, and a
//! cache that 1, 8 and 32 workers share with the reference's.

use crate::messages::query;
use ahash::RandomState;
use harness::{Bench, Operations, repeat};
use onward::config;
use onward::engine::cache::admission::Received;
use onward::engine::cache::{Cache, Found, Key};
use onward::engine::message::Question;
use onward::engine::message::query::{Asked, Query};
use onward::engine::message::reply::{Finish, ReplyTo};
use onward::engine::message::response::Response;
use onward::engine::zones::LowercaseName;
use onward::moment::Moment;
use std::hint::black_box;
use std::time::Duration;

/// Different questions, asked in turn: more than the processor's first caches hold.
const NAMES: usize = 4_096;
/// Time between two questions.
const STEP: Duration = Duration::from_micros(1);

pub(crate) const BENCHES: [Bench; 10] = [
    Bench { name: "cache_hit", set_up: hit },
    Bench { name: "cache_question", set_up: || hit_of(10_000, Demand::Even, Work::Question) },
    Bench { name: "cache_packet_zipf_10000", set_up: || hit_of(10_000, Demand::Zipf, Work::All) },
    Bench {
        name: "cache_packet_zipf_1000000",
        set_up: || hit_of(1_000_000, Demand::Zipf, Work::All),
    },
    Bench { name: "cache_packet_even_10000", set_up: || hit_of(10_000, Demand::Even, Work::All) },
    Bench {
        name: "cache_packet_even_1000000",
        set_up: || hit_of(1_000_000, Demand::Even, Work::All),
    },
    Bench { name: "cache_miss", set_up: miss },
    Bench { name: "cache_put_again", set_up: || put(2 * NAMES) },
    Bench { name: "cache_put_evict", set_up: || put(NAMES / 2) },
    Bench { name: "cache_judge", set_up: judge },
];

/// A lookup that succeeds, and the reply.
fn hit() -> Operations {
    let mut bed = Bed::new(2 * NAMES);
    (0..NAMES).for_each(|number| bed.put(number));
    let mut out = [0; 1_232];
    let mut next = 0;
    repeat(move || {
        let Asking { packet, question, asked, name, .. } = &bed.questions[next];
        next = (next + 1) % NAMES;
        bed.now = bed.now.plus(STEP);
        let key = Key::new(&bed.hasher, name, question, asked);
        let Found::Reply { entry, .. } = bed.cache.get(bed.now, &key) else {
            panic!("it is there");
        };
        let question = &packet[12..question.end()];
        let to = ReplyTo { asked, question, limit: asked.udp_limit(), finish: Finish::PLAIN };
        black_box(bed.cache.write(bed.now, entry, &to, &mut out));
    })
}

/// The same with `entries` entries, looked up by Zipf's law or uniformly, in unpredictable order.
/// Parsing and lower-casing are included (`Work::Question` is only these), because as many parsed
/// questions would take more memory than the cache.
fn hit_of(entries: usize, demand: Demand, work: Work) -> Operations {
    let mut bed = Bed::sized(2 * entries);
    for number in 0..entries {
        bed.questions[0] = Asking::new(number);
        bed.put(0);
    }
    let order = match demand {
        Demand::Even => even(entries),
        Demand::Zipf => zipf(entries),
    };
    let packets: Vec<_> = order.into_iter().map(|number| padded(&query(number))).collect();
    let mut out = [0; 1_232];
    let mut next = 0;
    repeat(move || {
        let packet = &packets[next];
        next = (next + 1) % packets.len();
        bed.now = bed.now.plus(STEP / 1_000);
        let len = usize::from(packet[PACKET_LEN - 1]);
        let query = Query::parse(&packet[..len], false).expect("a query");
        let name = LowercaseName::new(query.name());
        if work == Work::Question {
            black_box(&name);
            return;
        }
        let key = Key::new(&bed.hasher, &name, &query.question, &query.asked);
        let Found::Reply { entry, .. } = bed.cache.get(bed.now, &key) else {
            panic!("it is there");
        };
        let (asked, question) = (&query.asked, query.question_bytes());
        let to = ReplyTo { asked, question, limit: asked.udp_limit(), finish: Finish::PLAIN };
        black_box(bed.cache.write(bed.now, entry, &to, &mut out));
    })
}

/// Frequency of the entries' lookups.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Demand {
    Even,
    Zipf,
}

/// Each number once, in steps whose length has no common divisor with `entries`.
fn even(entries: usize) -> Vec<usize> {
    let stride = entries * 618 / 1_000;
    let stride = (stride..).find(|stride| gcd(*stride, entries) == 1).expect("there are primes");
    (0..entries).map(|number| number * stride % entries).collect()
}

/// Half a million numbers, drawn with weight 1/rank; ranks are scattered over the entries.
fn zipf(entries: usize) -> Vec<usize> {
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=entries)
        .map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        })
        .collect();
    let strewn = even(entries);
    let hasher = RandomState::with_seeds(5, 6, 7, 8);
    let draw = |number: u64| {
        let place = (hasher.hash_one(number) >> 11) as f64 / (1_u64 << 53) as f64 * sum;
        strewn[sums.partition_point(|sum| *sum < place).min(entries - 1)]
    };
    (0..500_000).map(draw).collect()
}

/// Measured part of a hit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Question,
    All,
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Room for a packet, with its length in the last byte.
const PACKET_LEN: usize = 64;

fn padded(packet: &[u8]) -> [u8; PACKET_LEN] {
    let mut padded = [0; PACKET_LEN];
    padded[..packet.len()].copy_from_slice(packet);
    padded[PACKET_LEN - 1] = packet.len() as u8;
    padded
}

/// A lookup in a full cache that fails.
fn miss() -> Operations {
    let mut bed = Bed::new(NAMES / 2);
    (0..NAMES / 2).for_each(|number| bed.put(number));
    let mut next = 0;
    repeat(move || {
        let asking = &bed.questions[NAMES / 2 + next];
        next = (next + 1) % (NAMES / 2);
        let key = Key::new(&bed.hasher, &asking.name, &asking.question, &asking.asked);
        assert_eq!(bed.cache.get(bed.now, &key), Found::Miss);
    })
}

/// Checks and stores a response: replaces the entry of its name or, with fewer slots than names,
/// another one.
fn put(capacity: usize) -> Operations {
    let mut bed = Bed::new(capacity);
    (0..NAMES).for_each(|number| bed.put(number));
    let mut next = 0;
    repeat(move || {
        bed.now = bed.now.plus(STEP);
        bed.put(next);
        next = (next + 1) % NAMES;
    })
}

/// Determines whether, as what and for how long a response may be stored.
fn judge() -> Operations {
    let bed = Bed::new(1);
    let mut next = 0;
    repeat(move || {
        let received = bed.questions[next].received();
        next = (next + 1) % NAMES;
        let verdict = onward::engine::cache::admission::judge(&received, &bed.cache.limits());
        black_box(verdict).expect("an answer");
    })
}

struct Bed {
    cache: Cache,
    hasher: RandomState,
    now: Moment,
    questions: Vec<Asking>,
}

/// A question and its answer.
pub(crate) struct Asking {
    packet: Vec<u8>,
    pub(crate) question: Question,
    pub(crate) asked: Asked,
    pub(crate) name: LowercaseName,
    answer: Vec<u8>,
    response: Response,
}

impl Bed {
    fn new(capacity: usize) -> Self {
        let questions = (0..NAMES).map(Asking::new).collect();
        Self { questions, ..Self::sized(capacity) }
    }

    /// A cache with one question.
    fn sized(capacity: usize) -> Self {
        let mut settings = config::Cache::default();
        (settings.success.capacity, settings.success.capacity_bytes) = (capacity, 512 * capacity);
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        let cache = Cache::new(&settings, &hasher);
        Self { cache, hasher, now: Moment::ZERO, questions: vec![Asking::new(0)] }
    }

    fn put(&mut self, number: usize) {
        let asking = &self.questions[number];
        let key = Key::new(&self.hasher, &asking.name, &asking.question, &asking.asked);
        let put = self.cache.put(self.now, &asking.name, &key, &asking.received());
        black_box(put).expect("an answer");
    }
}

impl Asking {
    pub(crate) fn new(number: usize) -> Self {
        let packet = query(number);
        let query = Query::parse(&packet, false).expect("a query");
        let (question, asked) = (query.question, query.asked);
        let name = LowercaseName::new(query.name());
        let answer = answer(&packet[..question.end()]);
        let response = Response::parse(&answer).expect("a response");
        Self { packet, question, asked, name, answer, response }
    }

    pub(crate) fn received(&self) -> Received<'_> {
        let unix = 1_800_000_000;
        Received { packet: &self.answer, response: &self.response, recursion: true, unix }
    }
}

/// An alias and two addresses for it.
fn answer(question: &[u8]) -> Vec<u8> {
    let mut answer = question.to_vec();
    (answer[2], answer[3], answer[7], answer[11]) = (0x81, 0x80, 3, 0);
    let alias = b"\x04edge\x03cdn\x07example\x00";
    let target = answer.len() as u8 + 12;
    answer.extend_from_slice(&[0xc0, 12, 0, 5, 0, 1, 0, 0, 1, 44, 0, alias.len() as u8]);
    answer.extend_from_slice(alias);
    for last in [1, 2] {
        let head = [0xc0, target, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 192, 0, 2, last];
        answer.extend_from_slice(&head);
    }
    answer
}
