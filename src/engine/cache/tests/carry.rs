//! Entries that go to another cache as records.
//!
//! The other cache is that of another process: its keys are hashed otherwise, and its clock began
//! at another time. Both know the calendar's time.

use super::messages::{A, Made, PLAIN, a, asked, cname, soa};
use super::{
    Bed, Finish, Key, LowercaseName, NXDOMAIN, Question, ReplyTo, SERVFAIL, ServeStale, StaleMode,
    question, small, stale,
};
use crate::config;
use crate::engine::cache::carry::{Copier, Head, Restored, append};
use crate::engine::cache::{Cache, Found};
use crate::engine::message::flags;
use ahash::RandomState;
use proptest::prelude::{any, prop_assert, proptest};
use std::sync::Arc;
use std::time::Duration;

/// From a moment of the first process's clock to the calendar's time.
const ORIGIN: Duration = Duration::from_secs(1_800_000_000);
/// The same of the other process, which starts later.
const OTHER_ORIGIN: Duration = Duration::from_secs(1_800_000_003);

type Records = Vec<(u32, Vec<u8>)>;

/// A cache in another process, at the same time as `bed`.
fn other(bed: &Bed, settings: &config::Cache) -> Bed {
    let hasher = RandomState::with_seeds(5, 6, 7, 8);
    let now = bed.now.minus(OTHER_ORIGIN - ORIGIN);
    Bed { cache: Cache::new(settings, &hasher), hasher, now }
}

fn copier(bed: &Bed) -> Copier {
    Copier::new(Arc::clone(bed.cache.store()))
}

/// The records of a round, in pieces of `len` bytes.
fn round_of(copier: &mut Copier, len: usize) -> Records {
    let mut bytes = Vec::new();
    let mut more = true;
    while more {
        let mut piece = Vec::new();
        more = copier.copy(ORIGIN, &mut piece, len);
        bytes.append(&mut piece);
    }
    let mut records = Vec::new();
    let mut rest = &bytes[..];
    while let Some((head, behind)) = rest.split_first_chunk::<{ Head::LEN }>() {
        let head = Head::parse(head).unwrap();
        let (body, behind) = behind.split_at(head.len);
        assert!(head.matches(body));
        records.push((head.number, body.to_vec()));
        rest = behind;
    }
    assert!(rest.is_empty());
    records
}

fn round(copier: &mut Copier) -> Records {
    round_of(copier, 1)
}

fn restore(bed: &mut Bed, body: &[u8]) -> Restored {
    let Bed { cache, hasher, now } = bed;
    let restored = cache.restore(*now, OTHER_ORIGIN, hasher, body);
    cache.check_invariants();
    restored
}

fn restore_all(bed: &mut Bed, records: &Records) -> Vec<Restored> {
    records.iter().map(|(_, body)| restore(bed, body)).collect()
}

#[test]
fn another_process_gives_the_same_replies() {
    let settings = config::Cache::default();
    let mut bed = Bed::new(&settings);
    bed.put("w.test", PLAIN | flags::AD, &[cname("w.test", "x.test", 300), a("x.test", 20)])
        .unwrap();
    bed.put("y.test", NXDOMAIN, &[soa("test", 60, 50)]).unwrap();
    let secure = asked(flags::RD | flags::CD, Some(true));
    let long: Vec<_> = (0..40).map(|_| a("z.test", 90)).collect();
    bed.put_made("z.test", &secure, &Made::new("z.test", A, PLAIN, &long)).unwrap();
    bed.wait(2.5);
    let mut next = other(&bed, &settings);
    let records = round(&mut copier(&bed));
    assert_eq!(restore_all(&mut next, &records), [Restored::Stored; 3]);
    for both in [&mut bed, &mut next] {
        both.wait(3.0);
    }
    for name in ["w.test", "y.test"] {
        assert_eq!(next.reply(name), bed.reply(name));
    }
    assert_eq!(next.reply("w.test").ttls, [295, 15]);
    assert_eq!(next.reply_as("z.test", &secure), bed.reply_as("z.test", &secure));
    assert_eq!(next.get("z.test"), Found::Miss, "DO and CD are in the key");
    next.wait(15.0);
    assert_eq!(next.get("w.test"), Found::Miss, "it expires as in the first process");
}

#[test]
fn failures_are_not_taken_over_and_give_way_to_answers() {
    let settings = config::Cache::default();
    let mut bed = Bed::new(&settings);
    bed.put("w.test", PLAIN, &[a("w.test", 300)]).unwrap();
    bed.put("x.test", SERVFAIL, &[]).unwrap();
    bed.wait(1.0);
    let mut next = other(&bed, &settings);
    next.put("w.test", SERVFAIL, &[]).unwrap();
    next.put("x.test", PLAIN, &[a("x.test", 300)]).unwrap();
    let records = round(&mut copier(&bed));
    assert_eq!(restore_all(&mut next, &records), [Restored::Stored, Restored::Expired]);
    assert_eq!([next.reply("w.test").flags, next.reply("x.test").flags], [PLAIN; 2]);
}

#[test]
fn a_round_has_what_has_changed_since_the_one_before() {
    let mut bed = Bed::plain();
    let mut copier = copier(&bed);
    assert_eq!(round(&mut copier), []);
    let name = |number: usize| format!("n{number}.test");
    for number in 0..100 {
        bed.put(&name(number), PLAIN, &[a(&name(number), 60)]).unwrap();
    }
    assert_eq!(round_of(&mut copier, 1_000).len(), 100);
    assert_eq!(round(&mut copier), []);
    bed.put(&name(7), PLAIN, &[a(&name(7), 30)]).unwrap();
    bed.get(&name(8));
    assert_eq!(round(&mut copier).len(), 1, "a hit is no change");
    let of_denial = |records: &Records| records.iter().map(|(number, _)| number & 1).sum::<u32>();
    bed.put(&name(9), NXDOMAIN, &[soa("test", 60, 50)]).unwrap();
    let records = round(&mut copier);
    assert_eq!((records.len(), of_denial(&records)), (2, 1));
    assert!(records[0].1.is_empty(), "the answer is gone, the denial is there");
    bed.wait(1_000.0);
    (0..10).for_each(|_| bed.cache.sweep(bed.now));
    let records = round(&mut copier);
    assert!(records.len() == 100 && records.iter().all(|(_, body)| body.is_empty()));
    assert_eq!(round(&mut Copier::new(Arc::clone(bed.cache.store()))), []);
}

#[test]
fn useless_entries_and_those_of_another_time_stay_behind() {
    let settings = stale(StaleMode::Immediate);
    let mut bed = Bed::new(&settings);
    bed.wait(10.0);
    bed.put("w.test", PLAIN, &[a("w.test", 20)]).unwrap();
    let records = round(&mut copier(&bed));
    let at = |secs: i64| {
        let mut next = other(&bed, &settings);
        let shift = Duration::from_secs(secs.unsigned_abs());
        next.now = if secs < 0 { next.now.minus(shift) } else { next.now.plus(shift) };
        let restored = restore(&mut next, &records[0].1);
        (restored, matches!(next.get("w.test"), Found::Reply { .. }))
    };
    assert_eq!(at(-2), (Restored::Early, false));
    assert_eq!(at(0), (Restored::Stored, true));
    assert_eq!(at(119), (Restored::Stored, true));
    assert_eq!(at(120), (Restored::Expired, false));
    let ServeStale { ttl, .. } = settings.serve_stale.unwrap();
    let mut next = other(&bed, &settings);
    next.wait(50.0);
    restore(&mut next, &records[0].1);
    assert_eq!(next.reply("w.test").ttls, [ttl], "it expired 30 seconds ago");
}

#[test]
fn the_later_answer_holds() {
    let mut bed = Bed::plain();
    let mut copier = copier(&bed);
    bed.put("w.test", PLAIN, &[a("w.test", 20)]).unwrap();
    let old = round(&mut copier);
    bed.wait(1.0);
    bed.put("w.test", NXDOMAIN, &[soa("test", 60, 50)]).unwrap();
    let mut next = other(&bed, &config::Cache::default());
    assert_eq!(restore_all(&mut next, &old), [Restored::Stored]);
    let new = round(&mut copier);
    assert_eq!(restore(&mut next, &new[1].1), Restored::Stored);
    assert_eq!((next.reply("w.test").flags, next.cache.len()), (NXDOMAIN, [0, 1]));
    assert_eq!(restore_all(&mut next, &old), [Restored::Known]);
    assert_eq!(restore(&mut next, &new[1].1), Restored::Known);
}

#[test]
fn names_in_demand_stay_so_and_nothing_is_evicted() {
    let settings = small(100, 100_000);
    let mut bed = Bed::new(&settings);
    let name = |number: usize| format!("n{number}.test");
    let put = |bed: &mut Bed, number: usize| {
        bed.put(&name(number), PLAIN, &[a(&name(number), 900)]).unwrap();
    };
    (0..100).for_each(|number| put(&mut bed, number));
    for number in 0..50 {
        assert_ne!(bed.get(&name(number)), Found::Miss);
    }
    // The first fifty move to the main queue, and have no hits there.
    (100..150).for_each(|number| put(&mut bed, number));
    let mut next = other(&bed, &settings);
    let records = round(&mut copier(&bed));
    assert_eq!(restore_all(&mut next, &records), vec![Restored::Stored; 100]);
    (150..200).for_each(|number| put(&mut next, number));
    let kept = (0..50).filter(|number| next.get(&name(*number)) != Found::Miss).count();
    assert_eq!(kept, 50);
    assert_eq!(restore(&mut next, &records[60].1), Restored::Full);
}

proptest! {
    /// A record that was made of other bytes is no entry, or one whose replies are whole messages.
    #[test]
    fn bytes_are_not_trusted(
        changes in proptest::collection::vec(any::<(u16, u8)>(), 1..8),
        cut in any::<Option<u8>>(),
    ) {
        let mut bed = Bed::plain();
        bed.put("w.test", PLAIN, &[cname("w.test", "x.test", 300), a("x.test", 20)]).unwrap();
        let (_, mut body) = round(&mut copier(&bed)).remove(0);
        for (place, value) in changes {
            let place = usize::from(place) % body.len();
            body[place] ^= value;
        }
        body.truncate(body.len() - cut.map_or(0, usize::from).min(body.len()));
        let mut bytes = Vec::new();
        append(&mut bytes, 0, &[&body]);
        let (head, body) = bytes.split_first_chunk().unwrap();
        prop_assert!(Head::parse(head).unwrap().matches(body));
        let mut next = other(&bed, &config::Cache::default());
        restore(&mut next, body);
        if let Found::Reply { entry, .. } = next.get("w.test") {
            let mut out = [0; 1_232];
            for limit in [64, 512, 1_232] {
                let client = asked(flags::RD, Some(false));
                let question = question("w.test", A);
                let to = ReplyTo {
                    asked: &client,
                    question: &question,
                    limit,
                    finish: Finish::PLAIN,
                };
                let len = next.cache.write(next.now, entry, &to, &mut out[..limit]);
                prop_assert!(len.is_none_or(|len| len <= limit));
            }
        }
        next.wait(30.0);
        next.cache.sweep(next.now);
    }
}

#[test]
fn all_that_a_large_cache_has_is_carried_over() {
    let settings = small(20_000, 20_000 * 512);
    let mut bed = Bed::new(&settings);
    let hasher = bed.hasher.clone();
    for number in 0..20_000 {
        // Without the checks of each step.
        let text = format!("n{number}.test");
        let made = Made::new(&text, A, PLAIN, &[a(&text, 900)]);
        let packet = [&[0; 12][..], &question(&text, A)].concat();
        let question = Question::parse(&packet).unwrap();
        let name = LowercaseName::new(question.name(&packet));
        let key = Key::new(&hasher, &name, &question, &asked(flags::RD, None));
        bed.cache.put(bed.now, &name, &key, &made.received()).unwrap();
    }
    let mut next = other(&bed, &settings);
    let stored = round_of(&mut copier(&bed), 1 << 16);
    let len = stored.len();
    for (_, body) in stored {
        let Bed { cache, hasher, now } = &mut next;
        assert_eq!(cache.restore(*now, OTHER_ORIGIN, hasher, &body), Restored::Stored);
    }
    next.cache.check_invariants();
    assert_eq!((len, next.cache.len()), (20_000, [20_000, 0]));
}
