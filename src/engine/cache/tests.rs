//! One test per promise of the cache; in `expiry`, those about failures and expired answers; in
//! `carry`, those about copies for another process; in `model`, the cache against a naive twin; in
//! `workers`, a cache that several workers share; and in `interleavings`, a reader and a writer at
//! each of their steps.
//!
//! Each test sets the time. Admission is tested beside [`super::admission`], refresh beside
//! [`super::refresh`]. The invariants are checked after each step.

mod carry;
mod expiry;
mod interleavings;
pub(crate) mod messages;
mod model;
mod workers;

use super::{Cache, EntryKey, Found, Key};
use crate::config::{self, Name, ServeStale, StaleMode};
use crate::engine::cache::admission::{AnswerClass, Refusal};
use crate::engine::cache::blocks::BLOCK_LEN;
use crate::engine::message::compose::extended_error;
use crate::engine::message::lifetime::ttl_at;
use crate::engine::message::query::Asked;
use crate::engine::message::reply::{ExtendedError, Finish, ReplyTo};
use crate::engine::message::{Question, Record, flags, rtype, u16_at};
use crate::engine::zones::LowercaseName;
use crate::moment::Moment;
use ahash::RandomState;
use messages::{A, Made, PLAIN, Written, a, asked, cname, name, ns, question, soa};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const NXDOMAIN: u16 = PLAIN | 3;
const SERVFAIL: u16 = PLAIN | 2;

/// A cache, the time, and a client.
struct Bed {
    cache: Cache,
    hasher: RandomState,
    now: Moment,
}

/// A parsed reply.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    id: u16,
    flags: u16,
    question: Vec<u8>,
    ttls: Vec<u32>,
    errors: Vec<u8>,
}

impl Bed {
    fn new(settings: &config::Cache) -> Self {
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        Self { cache: Cache::new(settings, &hasher), hasher, now: Moment::ZERO.plus(SECOND) }
    }

    fn plain() -> Self {
        Self::new(&config::Cache::default())
    }

    fn wait(&mut self, secs: f64) {
        self.now = self.now.plus(Duration::from_secs_f64(secs));
    }

    /// Calls `act` with the key of a question.
    fn with<T>(
        &mut self,
        text: &str,
        rtype: u16,
        asked: &Asked,
        act: impl FnOnce(&mut Cache, Moment, &LowercaseName, &Key<'_>) -> T,
    ) -> T {
        let packet = [&[0; 12][..], &question(text, rtype)].concat();
        let question = Question::parse(&packet).unwrap();
        let folded = LowercaseName::new(question.name(&packet));
        let key = Key::new(&self.hasher, &folded, &question, asked);
        let outcome = act(&mut self.cache, self.now, &folded, &key);
        self.cache.check_invariants();
        outcome
    }

    fn put_made(&mut self, text: &str, asked: &Asked, made: &Made) -> Result<AnswerClass, Refusal> {
        let rtype = Question::parse(&made.packet).unwrap().rtype;
        let put = |cache: &mut Cache, now, name: &LowercaseName, key: &Key<'_>| {
            cache.put(now, name, key, &made.received())
        };
        self.with(text, rtype, asked, put).map(|admission| admission.answer_class)
    }

    /// Puts a response to a plain question for an address.
    fn put(
        &mut self,
        text: &str,
        header: u16,
        records: &[Written],
    ) -> Result<AnswerClass, Refusal> {
        self.put_made(text, &asked(flags::RD, None), &Made::new(text, A, header, records))
    }

    fn get_as(&mut self, text: &str, rtype: u16, asked: &Asked) -> Found {
        self.with(text, rtype, asked, |cache, now, _, key| cache.get(now, key))
    }

    fn get(&mut self, text: &str) -> Found {
        self.get_as(text, A, &asked(flags::RD, None))
    }

    fn write(&mut self, entry: EntryKey, text: &str, asked: &Asked, limit: usize) -> Option<Seen> {
        let mut out = vec![0xee; limit];
        let question = question(text, A);
        let to = ReplyTo { asked, question: &question, limit, finish: Finish::PLAIN };
        let len = self.cache.write(self.now, entry, &to, &mut out)?;
        out.truncate(len);
        Some(seen(out))
    }

    /// The reply to a question, which is a hit.
    fn reply_as(&mut self, text: &str, asked: &Asked) -> Seen {
        match self.get_as(text, A, asked) {
            Found::Reply { entry, .. } => self.write(entry, text, asked, 1_232).unwrap(),
            other => panic!("{text}: {other:?}"),
        }
    }

    fn reply(&mut self, text: &str) -> Seen {
        self.reply_as(text, &asked(flags::RD, Some(false)))
    }
}

fn seen(packet: Vec<u8>) -> Seen {
    let question = Question::parse(&packet).unwrap();
    let made = Made::read(packet);
    let (packet, response) = (&made.packet, &made.response);
    let mut place = response.start;
    let next = |_| {
        let record = Record::parse(packet, place).unwrap();
        place = record.end;
        ttl_at(packet, record.fixed)
    };
    Seen {
        id: u16_at(packet, 0).unwrap(),
        flags: response.flags,
        question: packet[12..question.end()].to_vec(),
        ttls: (0..response.counts.iter().sum()).map(next).collect(),
        // No bytes follow an OPT.
        errors: response.opt.map_or(Vec::new(), |_| packet[response.end + 11..].to_vec()),
    }
}

impl Cache {
    /// Panics if the tables disagree.
    fn check_invariants(&self) {
        self.store.check_invariants();
    }
}

fn stale(mode: StaleMode) -> config::Cache {
    let recheck = Duration::ZERO;
    let serve_stale =
        ServeStale { window: 100 * SECOND, mode, ttl: 30, recheck, prefer_positive: false };
    config::Cache { serve_stale: Some(serve_stale), ..config::Cache::default() }
}

fn small(capacity: usize, capacity_bytes: usize) -> config::Cache {
    let mut settings = config::Cache::default();
    for class in [&mut settings.success, &mut settings.denial] {
        (class.capacity, class.capacity_bytes) = (capacity, capacity_bytes);
    }
    settings
}

#[test]
fn name_type_class_do_and_cd_are_the_key_and_nothing_else_is() {
    let mut bed = Bed::plain();
    let plain = asked(flags::RD, None);
    bed.put("w.test", PLAIN, &[a("w.test", 60)]).unwrap();
    assert_eq!(bed.get("v.test"), Found::Miss);
    assert_eq!(bed.get("test"), Found::Miss);
    assert_eq!(bed.get_as("w.test", 28, &plain), Found::Miss);
    assert_eq!(bed.get_as("w.test", A, &asked(flags::RD, Some(true))), Found::Miss);
    assert_eq!(bed.get_as("w.test", A, &asked(flags::CD, None)), Found::Miss);
    for same in [0, flags::RD, flags::RD | flags::AD] {
        assert_ne!(bed.get_as("W.tEsT", A, &asked(same, None)), Found::Miss);
        assert_ne!(bed.get_as("w.test", A, &asked(same, Some(false))), Found::Miss);
    }
}

#[test]
fn another_class_is_another_key() {
    let mut bed = Bed::plain();
    bed.put("w.test", PLAIN, &[a("w.test", 60)]).unwrap();
    let folded = LowercaseName::new(&name("w.test"));
    let chaos = Question { name_len: 8, rtype: A, class: 3 };
    let key = Key::new(&bed.hasher, &folded, &chaos, &asked(flags::RD, None));
    assert_eq!(bed.cache.get(bed.now, &key), Found::Miss);
}

#[test]
fn a_reply_has_the_clients_id_spelling_rd_and_cd() {
    let mut bed = Bed::plain();
    let client = asked(flags::RD | flags::CD, Some(false));
    let made = Made::new("w.test", A, PLAIN, &[a("w.test", 60)]);
    bed.put_made("w.test", &client, &made).unwrap();
    let reply = bed.reply_as("W.tEsT", &client);
    assert_eq!(reply.question, question("W.tEsT", A));
    assert_eq!(reply.id, 0x1234);
    assert_eq!(reply.flags, flags::QR | flags::RD | flags::RA | flags::CD);
    let reply = bed.reply_as("w.test", &asked(flags::CD, None));
    assert_eq!(reply.flags, flags::QR | flags::RA | flags::CD);
}

#[test]
fn a_reply_is_not_authoritative_nor_truncated_and_has_no_reserved_bit() {
    let mut bed = Bed::plain();
    bed.put("w.test", PLAIN | flags::AA | 0x40, &[a("w.test", 60)]).unwrap();
    assert_eq!(bed.reply("w.test").flags, PLAIN);
    bed.put("x.test", NXDOMAIN | flags::AA, &[soa("test", 60, 60)]).unwrap();
    assert_eq!(bed.reply("x.test").flags, NXDOMAIN);
}

#[test]
fn ad_is_set_for_clients_that_asked_for_it_and_ra_is_unchanged() {
    let mut bed = Bed::plain();
    bed.put("w.test", PLAIN | flags::AD, &[a("w.test", 60)]).unwrap();
    bed.put("x.test", PLAIN & !flags::RA, &[a("x.test", 60)]).unwrap();
    assert_eq!(bed.reply("w.test").flags, PLAIN);
    let wants = asked(flags::RD | flags::AD, None);
    assert_eq!(bed.reply_as("w.test", &wants).flags, PLAIN | flags::AD);
    assert_eq!(bed.reply_as("x.test", &wants).flags, PLAIN & !flags::RA);
    let dnssec = asked(flags::RD, Some(true));
    let made = Made::new("w.test", A, PLAIN | flags::AD, &[a("w.test", 60)]);
    bed.put_made("w.test", &dnssec, &made).unwrap();
    assert_eq!(bed.reply_as("w.test", &dnssec).flags, PLAIN | flags::AD);
}

#[test]
fn ttls_age_by_whole_seconds_each_from_its_own() {
    let mut bed = Bed::plain();
    bed.put("w.test", PLAIN, &[cname("w.test", "x.test", 300), a("x.test", 20)]).unwrap();
    assert_eq!(bed.reply("w.test").ttls, [300, 20]);
    bed.wait(2.1);
    assert_eq!(bed.reply("w.test").ttls, [298, 18]);
    bed.wait(17.8);
    assert_eq!(bed.reply("w.test").ttls, [281, 1]);
    bed.wait(0.1);
    assert_eq!(bed.get("w.test"), Found::Miss);
}

#[test]
fn keepttl_shows_what_was_stored_until_it_expires() {
    let mut bed = Bed::new(&config::Cache { keep_ttl: true, ..config::Cache::default() });
    bed.put("w.test", PLAIN, &[a("w.test", 20)]).unwrap();
    bed.wait(19.9);
    assert_eq!(bed.reply("w.test").ttls, [20]);
    bed.wait(0.1);
    assert_eq!(bed.get("w.test"), Found::Miss);
}

#[test]
fn ttls_are_stored_within_the_bounds_and_equal_over_a_set() {
    let mut bed = Bed::plain();
    let records = [a("w.test", 86_400), a("w.test", 900), a("w.test", 950), ns("test", 2)];
    bed.put("w.test", PLAIN, &records).unwrap();
    assert_eq!(bed.reply("w.test").ttls, [900, 900, 900, 5]);
    bed.put("x.test", NXDOMAIN, &[soa("test", 600, 60)]).unwrap();
    assert_eq!(bed.reply("x.test").ttls, [60]);
}

#[test]
fn an_opt_is_in_the_reply_if_it_was_in_the_query_and_holds_nothing_of_the_hop_but_the_error() {
    let mut bed = Bed::plain();
    let cookie = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    let error = extended_error(ExtendedError::NetworkError);
    let made = Made::new("w.test", A, PLAIN, &[a("w.test", 60)]);
    let made = made.with_opt(0, &[&cookie[..], &error].concat());
    bed.put_made("w.test", &asked(flags::RD, None), &made).unwrap();
    assert_eq!(bed.reply("w.test").errors, error);
    let plain = asked(flags::RD, None);
    let Found::Reply { entry, .. } = bed.get("w.test") else { panic!("it is there") };
    assert_eq!(bed.write(entry, "w.test", &plain, 512).unwrap().errors, [0_u8; 0]);
}

#[test]
fn a_reply_too_long_for_its_client_ends_between_two_sets_with_tc() {
    let mut bed = Bed::plain();
    let owners = ["w.test", "x.test", "y.test"];
    // 14 addresses, in 308 bytes each.
    let set = |owner: &str| vec![a(owner, 60); 14];
    let mut records = owners.map(set).concat();
    records.insert(0, cname("w.test", "x.test", 60));
    bed.put("w.test", PLAIN, &records).unwrap();
    let Found::Reply { entry, .. } = bed.get("w.test") else { panic!("it is there") };
    let plain = asked(flags::RD, None);
    let reply = bed.write(entry, "W.test", &plain, 512).unwrap();
    assert_eq!((reply.flags, reply.ttls), (PLAIN | flags::TC, vec![60; 15]));
    assert_eq!(reply.question, question("W.test", A));
    let whole = bed.write(entry, "w.test", &plain, 1_500).unwrap();
    assert_eq!((whole.flags, whole.ttls.len()), (PLAIN, 43));
}

#[test]
fn a_denial_takes_the_place_of_an_answer_and_an_answer_that_of_a_denial() {
    let mut bed = Bed::plain();
    bed.put("w.test", PLAIN, &[a("w.test", 60)]).unwrap();
    bed.put("w.test", NXDOMAIN, &[soa("test", 60, 60)]).unwrap();
    assert_eq!(bed.cache.len(), [0, 1]);
    assert_eq!(bed.reply("w.test").flags, NXDOMAIN);
    bed.put("w.test", PLAIN, &[a("w.test", 50)]).unwrap();
    assert_eq!(bed.cache.len(), [1, 0]);
    assert_eq!(bed.reply("w.test").ttls, [50]);
}

#[test]
fn a_disabled_class_is_not_stored_below_its_zones() {
    let mut settings = config::Cache::default();
    settings.denial.disabled = vec![Name::parse("test").unwrap()];
    let mut bed = Bed::new(&settings);
    let denial = [soa("test", 60, 60)];
    assert_eq!(bed.put("w.test", NXDOMAIN, &denial), Err(Refusal::Disabled));
    assert_eq!(bed.put("w.test", SERVFAIL, &[]), Err(Refusal::Disabled));
    assert_eq!(bed.put("w.other", NXDOMAIN, &denial), Ok(AnswerClass::NxDomain));
    assert_eq!(bed.put("w.test", PLAIN, &[a("w.test", 60)]), Ok(AnswerClass::Positive));
}

#[test]
fn names_outside_the_zones_are_not_cached() {
    let zones = vec![Name::parse("test").unwrap()];
    let cache = Bed::new(&config::Cache { zones, ..Default::default() }).cache;
    let serves = |text| serves(&cache, text, A, &asked(flags::RD, None));
    assert!(serves("test") && serves("W.Test") && !serves("xtest") && !serves(""));
    assert!(self::serves(&Bed::plain().cache, "anything", 99, &asked(flags::CD, Some(true))));
}

fn serves(cache: &Cache, text: &str, rtype: u16, asked: &Asked) -> bool {
    let packet = [&[0; 12][..], &question(text, rtype)].concat();
    let question = Question::parse(&packet).unwrap();
    cache.serves(&LowercaseName::new(question.name(&packet)), &question, asked)
}

#[test]
fn a_full_class_evicts_one_of_its_own_entries() {
    let mut bed = Bed::new(&small(20, 20 * BLOCK_LEN));
    for number in 0..100 {
        let text = format!("n{number}.test");
        bed.put(&text, PLAIN, &[a(&text, 60)]).unwrap();
        bed.put(&format!("d{number}.test"), NXDOMAIN, &[soa("test", 60, 60)]).unwrap();
        assert_ne!(bed.get("n0.test"), Found::Miss, "{number}");
    }
    assert_eq!(bed.cache.len(), [20, 20]);
    assert_eq!(bed.cache.stats.evicted, [80, 80]);
}

#[test]
fn bytes_are_bounded_as_well() {
    let mut bed = Bed::new(&small(1_000, 16 * BLOCK_LEN));
    let long = |text: &str| vec![a(text, 60), (2, name(""), rtype::TXT, 60, vec![0; 283])];
    for number in 0..50 {
        let text = format!("n{number}.test");
        bed.put(&text, PLAIN, &long(&text)).unwrap();
        assert!(bed.cache.bytes() <= 16 * BLOCK_LEN);
    }
    assert_eq!(bed.cache.len(), [5, 0]);
    // A longer answer in the same slot displaces others.
    let text = "n49.test";
    bed.put(text, PLAIN, &[long(text), long(text), long(text)].concat()).unwrap();
    assert_eq!(bed.reply(text).ttls, [60; 6]);
}

#[test]
fn an_answer_too_long_for_an_entry_is_not_stored() {
    let mut bed = Bed::plain();
    let most = config::Cache::default().success.capacity_bytes / 64;
    let long = |len: usize| vec![(0, vec![0xc0, 12], 16, 60, vec![7; 1_000]); len / 1_012];
    let mut put = |records: &[Written]| {
        let made = Made::new("w.test", 16, PLAIN, records);
        bed.put_made("w.test", &asked(flags::RD, None), &made)
    };
    assert_eq!(put(&long(40_000)), Ok(AnswerClass::Positive));
    assert!(most > 64_000, "an entry of any length fits into a cache of the default size");
    let mut bed = Bed::new(&small(100, 100 * BLOCK_LEN));
    let made = Made::new("w.test", 16, PLAIN, &long(2_100));
    let put = bed.put_made("w.test", &asked(flags::RD, None), &made);
    assert_eq!(put, Err(Refusal::TooLarge));
}

#[test]
fn the_sweep_removes_useless_entries() {
    let mut bed = Bed::new(&stale(StaleMode::Immediate));
    bed.put("w.test", PLAIN, &[a("w.test", 20)]).unwrap();
    bed.put("x.test", PLAIN, &[a("x.test", 200)]).unwrap();
    bed.put("y.test", NXDOMAIN, &[soa("test", 20, 20)]).unwrap();
    bed.wait(100.0);
    bed.cache.sweep(bed.now);
    assert_eq!(bed.cache.len(), [2, 1]);
    bed.wait(20.0);
    assert_eq!(bed.cache.next_sweep(), Some(bed.now));
    bed.cache.sweep(bed.now);
    bed.cache.check_invariants();
    assert_eq!(bed.cache.len(), [1, 0]);
    assert_eq!(bed.cache.stats.expired, 2);
}

#[test]
fn the_worker_is_woken_once_for_the_first_entry_to_expire() {
    let mut bed = Bed::plain();
    assert_eq!(bed.cache.next_sweep(), None);
    let due = |bed: &Bed, secs| Some(bed.now.plus(secs * SECOND));
    bed.put("w.test", PLAIN, &[a("w.test", 60)]).unwrap();
    assert_eq!(bed.cache.next_sweep(), due(&bed, 60));
    assert_eq!(bed.cache.next_sweep(), None, "it has been told");
    bed.put("x.test", PLAIN, &[a("x.test", 90)]).unwrap();
    assert_eq!(bed.cache.next_sweep(), None, "that is later");
    bed.put("y.test", PLAIN, &[a("y.test", 20)]).unwrap();
    assert_eq!(bed.cache.next_sweep(), due(&bed, 20));
    bed.cache.sweep_not_asked();
    assert_eq!(bed.cache.next_sweep(), due(&bed, 20));
    bed.wait(20.0);
    bed.cache.sweep(bed.now);
    assert_eq!((bed.cache.len(), bed.cache.next_sweep()), ([2, 0], due(&bed, 40)));
    // There is a pause between rounds.
    bed.put("y.test", PLAIN, &[a("y.test", 5)]).unwrap();
    assert_eq!(bed.cache.next_sweep(), due(&bed, 10));
    bed.wait(80.0);
    bed.cache.sweep(bed.now);
    assert_eq!(
        (bed.cache.len(), bed.cache.next_sweep()),
        ([0, 0], None),
        "and then there is peace"
    );
}

#[test]
fn a_round_proceeds_in_slices_and_misses_no_entry() {
    let mut settings = config::Cache::default();
    settings.denial.capacity = 1;
    let mut bed = Bed::new(&settings);
    for number in 0..5_000 {
        let name = format!("n{number}.test");
        bed.put(&name, PLAIN, &[a(&name, if number % 2 == 0 { 20 } else { 900 })]).unwrap();
    }
    bed.wait(20.0);
    let mut slices = 0;
    while bed.cache.next_sweep() <= Some(bed.now) && bed.cache.len()[0] > 2_500 {
        bed.cache.sweep(bed.now);
        slices += 1;
    }
    assert_eq!((bed.cache.len()[0], slices), (2_500, 3));
    bed.cache.check_invariants();
}

#[test]
fn counters_show_lookups_and_replies() {
    let mut bed = Bed::plain();
    bed.put("w.test", PLAIN, &[a("w.test", 20)]).unwrap();
    bed.put("x.test", PLAIN, &[soa("test", 20, 20)]).unwrap();
    bed.reply("w.test");
    bed.reply("x.test");
    bed.reply("x.test");
    assert_eq!(bed.get("y.test"), Found::Miss);
    let stats = bed.cache.stats;
    assert_eq!((stats.requests, stats.hits, stats.stored), (4, [1, 2], [1, 1]));
}

#[test]
fn nothing_else_in_a_response_becomes_an_answer() {
    let mut bed = Bed::plain();
    let glue = (2, name("ns.test"), A, 60, vec![192, 0, 2, 9]);
    let chain = [cname("w.test", "x.test", 60), a("x.test", 60), ns("test", 60), glue];
    bed.put("w.test", PLAIN, &chain).unwrap();
    for other in ["x.test", "test", "ns.test"] {
        assert_eq!(bed.get(other), Found::Miss);
        let plain = asked(flags::RD, None);
        assert_eq!(bed.get_as(other, rtype::NS, &plain), Found::Miss);
    }
}
