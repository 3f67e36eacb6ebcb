//! The cache against a naive twin: a list of all entries that is searched linearly.
//!
//! Random questions, responses and waits. The twin knows the rules for admission and replacement
//! and keeps whole messages; it does not know which entry a full cache evicts, so it drops those
//! that the cache reports missing, which may be no more than the counters say and never happens
//! while there is room. The cache's replies are parsed by the `domain` crate and must be the stored
//! message, each TTL aged, with the client's id and spelling.

use super::messages::{A, Made, PLAIN, Written, a, asked, cname, question, soa};
use super::{Bed, Found, SECOND, small};
use crate::config::{self, ServeStale, StaleMode};
use crate::engine::message::flags;
use crate::engine::message::query::Asked;
use crate::engine::message::reply::{Finish, ReplyTo};
use crate::moment::Moment;
use domain::base::{Message, ParsedName, Record as DomainRecord};
use domain::rdata::AllRecordData;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::time::Duration;

/// Question of a client: the name's number, DO and CD.
type Question = (u32, bool, bool);

/// Entry of the twin.
#[derive(Clone)]
struct Stored {
    packet: Vec<u8>,
    rcode: u16,
    positive: bool,
    lifetime: Duration,
    at: Moment,
}

struct Twin {
    bed: Bed,
    settings: config::Cache,
    stored: BTreeMap<Question, Stored>,
    dice: ChaCha8Rng,
    hits: u32,
    misses: u32,
    lost: u64,
}

impl Twin {
    fn new(seed: u64, settings: config::Cache) -> Self {
        let dice = ChaCha8Rng::seed_from_u64(seed);
        let bed = Bed::new(&settings);
        Self { bed, settings, stored: BTreeMap::new(), dice, hits: 0, misses: 0, lost: 0 }
    }

    fn roll(&mut self, sides: u32) -> u32 {
        self.dice.next_u32() % sides
    }

    fn question(&mut self, names: u32) -> (Question, Asked) {
        // Half of all questions are for few names.
        let names = if self.roll(2) == 0 { 5 } else { names };
        let question = (self.roll(names), self.roll(4) == 0, self.roll(8) == 0);
        let header = flags::RD | if question.2 { flags::CD } else { 0 };
        (question, asked(header, (question.1 || self.roll(2) == 0).then_some(question.1)))
    }

    /// Returns `None` if `stored` is no longer usable, otherwise true if it is stale.
    fn usable(&self, stored: &Stored) -> Option<bool> {
        let age = self.bed.now.since(stored.at);
        let window = self.settings.serve_stale.map_or(Duration::ZERO, |stale| stale.window);
        let failure = stored.rcode == 2;
        match age {
            _ if age < stored.lifetime => Some(false),
            _ if !failure && age < stored.lifetime + window => Some(true),
            _ => None,
        }
    }

    fn put(&mut self, names: u32) {
        let (question, asked) = self.question(names);
        let text = text_of(question.0);
        let ttl = self.roll(40);
        let more = (2, vec![0xc0, 12], 16, ttl, [&[99][..], &[b'x'; 99]].concat());
        let mut long = vec![more; self.roll(4) as usize + 1];
        long.insert(0, a(&text, ttl));
        let (header, records, lifetime): (u16, Vec<Written>, u32) = match self.roll(8) {
            0 => (PLAIN | 3, vec![soa("test", ttl, 20)], ttl.min(20)),
            1 => (PLAIN, vec![soa("test", ttl, 20)], ttl.min(20)),
            2 => (PLAIN | 2, vec![], 5),
            3 => (PLAIN | 5, vec![], 0),
            4 => {
                let chain = vec![cname(&text, "x.test", ttl), a("x.test", 25), a("x.test", 25)];
                (PLAIN, chain, ttl.min(25))
            }
            5 => (PLAIN, long, ttl),
            _ => (PLAIN, vec![a(&text, ttl)], ttl),
        };
        let made = Made::new(&text, A, header, &records);
        let positive = header == PLAIN && records[0].0 == 0;
        let lifetime = Duration::from_secs(lifetime.clamp(2, 30).into());
        let lifetime = if header == PLAIN | 2 { 5 * SECOND } else { lifetime };
        let rcode = header & 15;
        let prefers = self.settings.serve_stale.is_some_and(|stale| stale.prefer_positive);
        let before = self.stored.get(&question);
        let before = before.filter(|stored| self.usable(stored).is_some());
        let outranked = before.is_some_and(|before| match rcode {
            2 => before.rcode != 2,
            _ => prefers && before.positive && !positive,
        });
        let put = self.bed.put_made(&text, &asked, &made);
        // An outranked response is only stored if the better one was evicted meanwhile.
        self.lost += u64::from(outranked && put.is_ok());
        assert!(put.is_ok() == (rcode != 5) || outranked, "{put:?}");
        if put.is_ok() {
            let packet = made.packet;
            let stored = Stored { packet, rcode, positive, lifetime, at: self.bed.now };
            self.stored.insert(question, stored);
        }
    }

    fn get(&mut self, names: u32) {
        let (asking, asked) = self.question(names);
        let text = text_of(asking.0);
        let stored = self.stored.get(&asking).cloned();
        let usable = stored.as_ref().and_then(|stored| self.usable(stored));
        let found = self.bed.get_as(&text, A, &asked);
        let entry = match found {
            Found::Miss => {
                self.misses += 1;
                // The entry was usable, so it must have been evicted.
                self.lost += u64::from(usable.is_some());
                self.stored.remove(&asking);
                return;
            }
            Found::Reply { entry, .. } | Found::Verify { entry, .. } => entry,
        };
        self.hits += 1;
        let stale = usable.expect("what is served was stored and is usable");
        let stored = stored.expect("it was stored");
        let spelt = question(&spell(&text, self.roll(u32::MAX)), A);
        let to = ReplyTo { asked: &asked, question: &spelt, limit: 4_096, finish: Finish::PLAIN };
        let mut out = [0; 4_096];
        let len = self.bed.cache.write(self.bed.now, entry, &to, &mut out).expect("it is there");
        let age = self.bed.now.since(stored.at).as_secs() as u32;
        self.compare(&out[..len], &stored, &asked, &spelt, (!stale).then_some(age));
    }

    /// `age`: in seconds; `None`: stale.
    fn compare(
        &self,
        reply: &[u8],
        stored: &Stored,
        asked: &Asked,
        spelt: &[u8],
        age: Option<u32>,
    ) {
        assert_eq!(&reply[12..12 + spelt.len()], spelt);
        let (one, other) = (read(reply), read(&stored.packet));
        assert_eq!(one.header().id(), asked.id);
        assert_eq!(u16::from(one.header().rcode().to_int()), stored.rcode);
        assert_eq!(one.opt().is_some(), asked.edns.is_some());
        let records = |message: &Message<Vec<u8>>| {
            let records = message.iter().map(|record| record.expect("well-formed").0);
            let records = records.filter(|record| record.rtype() != domain::base::Rtype::OPT);
            records.map(|record| (record.ttl().as_secs(), data_of(&record))).collect::<Vec<_>>()
        };
        let served = records(&one);
        let expected = records(&other).into_iter().map(|(ttl, data)| {
            // Denials are valid no longer than the SOA's minimum, which is 20 in all of them.
            let denial = !stored.positive && stored.rcode != 2;
            let ttl = ttl.min(if denial { 20 } else { 30 }).clamp(2, 30);
            (age.map_or(30, |age| ttl - age), data)
        });
        assert_eq!(served, expected.collect::<Vec<_>>());
    }

    fn wait(&mut self) {
        let millis = self.roll(3_000);
        self.bed.now = self.bed.now.plus(Duration::from_millis(millis.into()));
        if self.roll(10) == 0 {
            self.bed.cache.sweep(self.bed.now);
            self.bed.cache.check_invariants();
        }
    }

    fn run(&mut self, steps: u32, names: u32) {
        for _ in 0..steps {
            match self.roll(6) {
                0..3 => self.get(names),
                3..5 => self.put(names),
                _ => self.wait(),
            }
            let evicted: u64 = self.bed.cache.stats.evicted.iter().sum();
            assert!(self.lost <= evicted, "{} lost, {evicted} evicted", self.lost);
        }
    }
}

fn text_of(number: u32) -> String {
    // Some names are longer than a block.
    let padding = "abcdefghijklmnopqrstuvwxyz.".repeat((number % 7) as usize);
    format!("n{number}.{padding}test")
}

/// The text with capital letters where `choice` has bits.
fn spell(text: &str, choice: u32) -> String {
    let spell = |(place, letter): (usize, char)| match choice >> (place % 32) & 1 {
        0 => letter,
        _ => letter.to_ascii_uppercase(),
    };
    text.chars().enumerate().map(spell).collect()
}

fn read(packet: &[u8]) -> Message<Vec<u8>> {
    Message::from_octets(packet.to_vec()).expect("it has a header")
}

type Parsed<'a> = domain::base::ParsedRecord<'a, Vec<u8>>;

/// Owner in lower case, type and data.
fn data_of(record: &Parsed<'_>) -> String {
    let owner = record.owner().to_string().to_lowercase();
    let full: DomainRecord<ParsedName<_>, AllRecordData<_, ParsedName<_>>> =
        record.to_record().expect("well-formed").expect("of any type");
    format!("{owner} {} {}", full.rtype(), full.data()).to_lowercase()
}

fn settings(capacity: usize, bytes: usize, stale: Option<bool>) -> config::Cache {
    let mut settings = small(capacity, bytes);
    for class in [&mut settings.success, &mut settings.denial] {
        (class.ttl_max, class.ttl_min) = (30, 2);
    }
    let serve = |prefer_positive| ServeStale {
        window: 10 * SECOND,
        mode: StaleMode::Immediate,
        ttl: 30,
        recheck: Duration::ZERO,
        prefer_positive,
    };
    settings.serve_stale = stale.map(serve);
    settings
}

#[test]
fn behaves_as_its_twin_does() {
    let (mut hits, mut misses, mut tight_hits, mut evicted) = (0, 0, 0, 0);
    for seed in 0..20 {
        for stale in [None, Some(false), Some(true)] {
            let mut roomy = Twin::new(seed, settings(1_000, 1_000_000, stale));
            roomy.run(600, 40);
            assert_eq!(roomy.lost, 0, "seed {seed}: nothing has to go while there is room");
            (hits, misses) = (hits + roomy.hits, misses + roomy.misses);
            for (capacity, bytes) in [(10, 100_000), (1_000, 3_000)] {
                let mut tight = Twin::new(seed, settings(capacity, bytes, stale));
                tight.run(600, 200);
                tight_hits += tight.hits;
                evicted += tight.bed.cache.stats.evicted.iter().sum::<u64>();
            }
        }
    }
    let least = [hits / 30, misses / 30, tight_hits / 10].map(u64::from).into_iter().min();
    assert!(least > Some(60) && evicted > 1_200, "lame runs: {least:?}, {evicted}");
}
