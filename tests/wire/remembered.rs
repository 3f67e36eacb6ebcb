//! Cached answers compared with the stored responses, both parsed by the `domain` crate.
//!
//! Random responses: an accepted one comes back with the same records in the same order and
//! sections, each TTL bounded, equal within its RRset and reduced by age, and with the ID and
//! spelling of the new query.

use crate::common::{Dice, for_seeds};
use crate::oracle::{OPT, Seen, read};
use crate::random::{random_asked, random_case_of_question, random_response};
use ahash::RandomState;
use onward::config;
use onward::engine::cache::admission::Received;
use onward::engine::cache::{Cache, Found, Key};
use onward::engine::message::query::Asked;
use onward::engine::message::reply::{Finish, ReplyTo};
use onward::engine::message::response::Response;
use onward::engine::message::{HEADER_LEN, Question};
use onward::engine::zones::LowercaseName;
use onward::moment::Moment;
use std::time::Duration;

const SOA: u16 = 6;
const RRSIG: u16 = 46;
const ANY: u16 = 255;
const TTL_MIN: u32 = 30;
const TTL_MAX: u32 = 100_000;

/// A response with a good chance of being cached: complete, with a usual code, and with many
/// records that answer its question.
fn candidate(dice: &mut Dice) -> Vec<u8> {
    let mut packet = random_response(dice);
    let rcode = dice.pick(&[0, 0, 0, 2, 3]);
    (packet[2], packet[3]) = (0x80 | packet[2] & 0x05, packet[3] & 0xf0 | rcode);
    let end = Question::parse(&packet).expect("a question").end();
    if dice.one_in(2) {
        packet[end - 4..end - 2].copy_from_slice(&ANY.to_be_bytes());
    }
    packet
}

/// Returns the TTL that the client should see in place of each TTL.
fn ttls(records: &[Seen], denies: bool, age: u32) -> Vec<u32> {
    let bounded = |record: &Seen| {
        let minimum = (denies && record.rtype == SOA && record.data.len() >= 22)
            .then(|| u32::from_be_bytes(*record.data.last_chunk().expect("four bytes")));
        record.ttl.min(minimum.unwrap_or(u32::MAX)).clamp(TTL_MIN, TTL_MAX)
    };
    let alike = |a: &Seen, b: &Seen| a.same_set(b) && a.rtype != RRSIG;
    let sets = records.chunk_by(alike);
    sets.flat_map(|set| {
        let lowest = set.iter().map(bounded).min().expect("a set has records");
        vec![lowest - age; set.len()]
    })
    .collect()
}

#[test]
fn a_cached_response_equals_the_stored_one() {
    for_seeds(0..40, |dice| {
        let mut settings = config::Cache::default();
        for class in [&mut settings.success, &mut settings.denial] {
            (class.ttl_max, class.ttl_min) = (TTL_MAX, TTL_MIN);
        }
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        let (mut served, mut denied) = (0, 0);
        for _ in 0..400 {
            let mut cache = Cache::new(&settings, &hasher);
            let packet = candidate(dice);
            let response = Response::parse(&packet).expect("it can be read");
            let question = Question::parse(&packet).expect("a question");
            let name = LowercaseName::new(question.name(&packet));
            let asked = random_asked(dice);
            let key = Key::new(&hasher, &name, &question, &asked);
            let received =
                Received { packet: &packet, response: &response, recursion: true, unix: 0 };
            let Ok(verdict) = cache.put(Moment::ZERO, &name, &key, &received) else { continue };
            let age = dice.below(TTL_MIN as usize - 1) as u32;
            let lives = verdict.lifetime > Duration::from_secs(age.into());
            let now = Moment::ZERO.plus(Duration::from_millis(u64::from(age) * 1_000 + 999));
            let Found::Reply { entry, .. } = cache.get(now, &key) else {
                assert!(!lives || verdict.lifetime < Duration::from_secs(30), "{verdict:?}");
                continue;
            };
            let question = random_case_of_question(dice, &packet[HEADER_LEN..response.start]);
            let (finish, limit) = (Finish::PLAIN, 65_535);
            let to = ReplyTo { asked: &asked, question: &question, limit, finish };
            let mut out = vec![0xaa; limit];
            let len = cache.write(now, entry, &to, &mut out).expect("it was found");
            check(&packet, &out[..len], &asked, &question, verdict.answer_class.is_denial(), age);
            served += 1;
            denied += usize::from(verdict.answer_class.is_denial());
        }
        assert!(served > 20 && denied > 1, "a lame run: {served} served, {denied} of them denials");
    });
}

fn check(given: &[u8], got: &[u8], asked: &Asked, question: &[u8], denies: bool, age: u32) {
    let (_, mut source) = read(given).expect("it was accepted");
    if let Some(opt) = source.iter().position(|record| record.rtype == OPT) {
        source.truncate(opt);
    }
    let (questions, mut records) = read(got).expect("what we write can be read");
    assert_eq!(questions.len(), 1);
    assert_eq!(&got[HEADER_LEN..HEADER_LEN + question.len()], question);
    assert_eq!(got[..2], asked.id.to_be_bytes());
    let opt = records.iter().position(|record| record.rtype == OPT);
    assert_eq!(opt.is_some(), asked.edns.is_some());
    records.truncate(opt.unwrap_or(records.len()));
    assert_eq!(records.len(), source.len());
    let expected = ttls(&source, denies, age);
    for ((record, source), ttl) in records.iter().zip(&source).zip(expected) {
        assert!(record.same_set(source), "{record:?} is not of {source:?}");
        assert_eq!((record.ttl, &record.data), (ttl, &source.data), "{source:?}");
    }
    assert_eq!(got[2] & 0x06, 0, "what comes from a cache is neither authoritative nor cut");
}
