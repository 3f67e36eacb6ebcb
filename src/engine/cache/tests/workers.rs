//! A cache that several workers share.
//!
//! What one stores the others find, and what they do at the same time adds up to what one of them
//! would have done. A writer that panics is tried at each of its steps.

use super::messages::{A, Made, PLAIN, a, asked, soa};
use super::{Bed, NXDOMAIN, SECOND, SERVFAIL, stale};
use crate::config::{self, Prefetch, StaleMode};
use crate::engine::cache::admission::{AnswerClass, Refusal};
use crate::engine::cache::blocks::BLOCK_LEN;
use crate::engine::cache::sequence::steps;
use crate::engine::cache::{Cache, Found, Key, Store};
use crate::engine::message::query::Asked;
use crate::engine::message::reply::{ExtendedError, Finish, ReplyTo};
use crate::engine::message::{Question, flags, rtype};
use crate::engine::zones::LowercaseName;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Workers with one cache.
fn beds<const N: usize>(settings: &config::Cache) -> [Bed; N] {
    let store = Arc::new(Store::new(settings).unwrap());
    std::array::from_fn(|_| {
        let mut bed = Bed::plain();
        bed.cache = Cache::sharing(settings, &bed.hasher, Arc::clone(&store));
        bed
    })
}

fn plain() -> Asked {
    asked(flags::RD, None)
}

fn fail(bed: &mut Bed, text: &str) {
    bed.with(text, A, &plain(), |cache, now, name, key| {
        cache.put_failure(now, name, key, ExtendedError::NetworkError);
    });
}

#[test]
fn what_one_worker_stores_the_others_find_and_replace() {
    let [mut one, mut other] = beds(&config::Cache::default());
    one.put("w.test", PLAIN, &[a("w.test", 60)]).unwrap();
    assert_eq!(other.reply("w.test").ttls, [60]);
    let Found::Reply { entry, .. } = one.get("w.test") else { panic!("it is there") };
    other.put("w.test", NXDOMAIN, &[soa("test", 50, 50)]).unwrap();
    assert_eq!(one.reply("w.test").flags, NXDOMAIN);
    assert_eq!(one.write(entry, "w.test", &plain(), 512), None, "it was replaced");
    assert_eq!((one.cache.len(), other.cache.len()), ([0, 1], [0, 1]));
    let counted = [&one, &other].map(|bed| (bed.cache.stats.requests, bed.cache.stats.stored));
    assert_eq!(counted, [(2, [1, 0]), (1, [0, 1])]);
}

#[test]
fn clocks_of_workers_may_differ() {
    let [mut one, mut other] = beds(&stale(StaleMode::Immediate));
    one.wait(10.0);
    one.put("w.test", PLAIN, &[a("w.test", 20)]).unwrap();
    assert_eq!(other.reply("w.test").ttls, [20], "for this worker it was stored in the future");
    other.cache.sweep(other.now);
    one.wait(20.0);
    assert_eq!(one.reply("w.test").ttls, [30], "stale");
    assert_eq!(other.reply("w.test").ttls, [20]);
    other.put("w.test", PLAIN, &[a("w.test", 9)]).unwrap();
    assert!(matches!(one.get("w.test"), Found::Reply { refresh: true, .. }));
    one.wait(91.0);
    one.cache.sweep(one.now);
    assert_eq!(one.cache.len(), [0, 0]);
}

#[test]
fn an_answer_is_refreshed_once_for_all_workers() {
    let prefetch = Prefetch { amount: 2, duration: 60 * SECOND, percentage: 50 };
    let settings = config::Cache { prefetch: Some(prefetch), ..stale(StaleMode::Immediate) };
    let mut all: [Bed; 4] = beds(&settings);
    all[0].put("w.test", PLAIN, &[a("w.test", 10)]).unwrap();
    all.iter_mut().for_each(|bed| bed.wait(6.0));
    let begun = |all: &mut [Bed]| {
        let begins =
            |bed: &mut Bed| matches!(bed.get("w.test"), Found::Reply { refresh: true, .. });
        all.iter_mut().map(begins).filter(|begun| *begun).count()
    };
    assert_eq!((begun(&mut all), begun(&mut all)), (1, 0), "before it expires");
    all[3].put("w.test", PLAIN, &[a("w.test", 10)]).unwrap();
    all.iter_mut().for_each(|bed| bed.wait(10.0));
    assert_eq!((begun(&mut all), begun(&mut all)), (1, 0), "afterwards");
}

#[test]
fn failures_that_workers_see_at_the_same_time_are_one() {
    let settings = config::Cache { servfail: 60 * SECOND, ..config::Cache::default() };
    let mut all: [Bed; 8] = beds(&settings);
    for outage in 0..4 {
        for bed in &mut all {
            fail(bed, "w.test");
            bed.wait(0.1);
        }
        // One second, two, four, eight.
        let lifetime = f64::from(1 << outage);
        let mut first = |secs: f64| {
            all[0].wait(secs);
            all[0].get("w.test")
        };
        assert!(matches!(first(lifetime - 0.2), Found::Reply { .. }), "outage {outage}");
        assert_eq!(first(0.1), Found::Miss, "outage {outage}");
        all.iter_mut().skip(1).for_each(|bed| bed.wait(lifetime - 0.1));
    }
}

#[test]
fn a_failure_does_not_replace_the_answer_that_another_worker_has_stored() {
    let [mut one, mut other] = beds(&stale(StaleMode::Verify(None)));
    one.put("w.test", PLAIN, &[a("w.test", 20)]).unwrap();
    other.wait(50.0);
    assert_eq!(other.put("w.test", SERVFAIL, &[]), Err(Refusal::Outranked));
    fail(&mut other, "w.test");
    assert_eq!(one.reply("w.test").ttls, [20]);
    let fallback = other.with("w.test", A, &plain(), |cache, now, _, key| cache.fallback(now, key));
    let entry = fallback.expect("it is usable");
    assert_eq!(other.write(entry, "w.test", &plain(), 512).unwrap().ttls, [30]);
}

#[test]
fn the_lru_mode_evicts_what_no_worker_has_used() {
    let mut settings = config::Cache { simple: true, ..config::Cache::default() };
    settings.success.capacity = 3;
    let [mut one, mut other] = beds(&settings);
    for text in ["a.test", "b.test", "c.test"] {
        one.wait(0.1);
        one.put(text, PLAIN, &[a(text, 60)]).unwrap();
    }
    other.wait(0.4);
    one.wait(0.2);
    assert_ne!(other.get("b.test"), Found::Miss);
    assert_ne!(one.get("a.test"), Found::Miss);
    let mut gone = |text: &str, lost: &str| {
        one.wait(0.1);
        one.put(text, PLAIN, &[a(text, 60)]).unwrap();
        one.wait(0.1);
        assert_eq!(one.get(lost), Found::Miss, "{lost}");
    };
    gone("d.test", "c.test");
    gone("e.test", "b.test");
    gone("f.test", "a.test");
}

#[test]
fn an_expired_address_is_removed_once() {
    let mut settings = config::Cache { simple: true, ..config::Cache::default() };
    settings.success.ttl_max = 5;
    let [mut one, mut other] = beds(&settings);
    one.put("w.test", PLAIN, &[a("w.test", 60)]).unwrap();
    one.wait(5.0);
    other.wait(5.0);
    assert_eq!(one.get("w.test"), Found::Miss);
    one.put("w.test", PLAIN, &[a("w.test", 60)]).unwrap();
    assert_ne!(other.get("w.test"), Found::Miss, "the new one stays");
    assert_eq!((one.cache.len(), one.cache.stats.expired), ([1, 0], 1));
}

#[test]
fn a_sweep_goes_on_with_another_worker_and_is_asked_for_once() {
    let [mut one, mut other] = beds(&config::Cache::default());
    one.put("w.test", PLAIN, &[a("w.test", 20)]).unwrap();
    let due = one.now.plus(20 * SECOND);
    assert_eq!(other.cache.next_sweep(), Some(due));
    assert_eq!(one.cache.next_sweep(), None, "the other worker has asked");
    // The worker that would have been woken is gone.
    drop(other);
    one.wait(24.0);
    one.put("x.test", PLAIN, &[a("x.test", 20)]).unwrap();
    assert_eq!(one.cache.next_sweep(), None, "it may only be late");
    one.wait(2.0);
    one.put("y.test", PLAIN, &[a("y.test", 20)]).unwrap();
    assert_eq!(one.cache.next_sweep(), Some(due));
    one.cache.sweep(one.now);
    assert_eq!(one.cache.len(), [2, 0]);
}

#[test]
fn a_class_holds_as_many_answers_as_configured_in_any_number_of_shards() {
    for capacity in [1, 1_024, 8_191, 8_192, 10_000, 20_000] {
        let mut settings = config::Cache::default();
        settings.success.capacity = capacity;
        settings.success.capacity_bytes = capacity * BLOCK_LEN;
        settings.denial.capacity = 1;
        let [mut one, mut other] = beds(&settings);
        for number in 0..capacity {
            let text = format!("n{number}.test");
            put_unchecked(&mut one, &text).unwrap();
        }
        one.cache.check_invariants();
        assert_eq!((one.cache.len(), one.cache.stats.evicted), ([capacity, 0], [0, 0]));
        for number in (0..capacity).step_by(97) {
            assert_ne!(other.get(&format!("n{number}.test")), Found::Miss, "{number}");
        }
        put_unchecked(&mut one, "more.test").unwrap();
        assert_eq!((one.cache.len()[0], one.cache.stats.evicted), (capacity, [1, 0]));
    }
}

/// A put without a check of all tables.
fn put_unchecked(bed: &mut Bed, text: &str) -> Result<AnswerClass, Refusal> {
    let made = Made::new(text, A, PLAIN, &[a(text, 60)]);
    let question = Question::parse(&made.packet).unwrap();
    let name = LowercaseName::new(question.name(&made.packet));
    let key = Key::new(&bed.hasher, &name, &question, &plain());
    let put = bed.cache.put(bed.now, &name, &key, &made.received());
    put.map(|admission| admission.answer_class)
}

#[test]
fn the_longest_answer_does_not_depend_on_the_number_of_shards() {
    let mut settings = config::Cache::default();
    let mut stored = |capacity: usize| {
        settings.success.capacity = capacity;
        settings.success.capacity_bytes = 4 << 20;
        let [mut bed] = beds(&settings);
        let long = |count| vec![(0, vec![0xc0, 12], rtype::TXT, 60, vec![7; 1_000]); count];
        let put = |count: &usize| {
            let made = Made::new("w.test", rtype::TXT, PLAIN, &long(*count));
            bed.put_made("w.test", &plain(), &made).is_ok()
        };
        (1..64).take_while(put).count()
    };
    let one_shard = stored(1_000);
    assert_eq!((one_shard, stored(200_000)), (63, 63));
}

#[test]
fn a_writer_that_panics_leaves_an_empty_shard_and_no_lock() {
    let settings = super::small(100, 100 * BLOCK_LEN);
    for step in 0..120 {
        let [mut one, mut other] = beds(&settings);
        for number in 0..20 {
            let text = format!("n{number}.test");
            one.put(&text, PLAIN, &[a(&text, 60)]).unwrap();
            one.put(&format!("d{number}.test"), NXDOMAIN, &[soa("test", 60, 60)]).unwrap();
        }
        let panicked = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let mut left = step;
                let stop = move || {
                    left -= 1;
                    assert!(left >= 0, "in mid-write");
                };
                steps::with(stop, || put_unchecked(&mut one, "n7.test"))
            });
            thread.join().is_err()
        });
        // Whatever is left can be used.
        for number in 0..150 {
            let text = format!("n{number}.test");
            if let Found::Reply { entry, .. } = other.get(&text) {
                assert_eq!(other.write(entry, &text, &plain(), 512).unwrap().ttls, [60]);
            }
            other.put(&text, PLAIN, &[a(&text, 60)]).unwrap();
        }
        assert_eq!(other.cache.len()[0], 100, "step {step}");
        assert_eq!(other.cache.len()[1], 20, "the other class is as it was");
        if !panicked {
            assert!(step > 30, "a lame run: {step} steps");
            return;
        }
    }
    panic!("a put takes fewer steps");
}

#[test]
fn many_workers_at_the_same_time_never_see_a_wrong_answer() {
    const WORKERS: usize = 4;
    const NAMES: u32 = 300;
    // Fewer slots and blocks than names: entries are evicted all the time.
    let mut settings = super::small(200, 400 * BLOCK_LEN);
    settings.serve_stale = stale(StaleMode::Immediate).serve_stale;
    let mut all: [Bed; WORKERS] = beds(&settings);
    let wrong = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (number, bed) in all.iter_mut().enumerate() {
            let wrong = &wrong;
            scope.spawn(move || {
                let mut dice = number as u32 * 7_919 + 1;
                let mut hits = 0;
                for _ in 0..8_000 {
                    dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let name = (dice >> 8) % NAMES;
                    // The TTLs of an answer are alike, and so are the name and the data.
                    let text = format!("n{name}.test");
                    bed.now = bed.now.plus(Duration::from_millis(u64::from(dice >> 28)));
                    if act(bed, &text, name, dice >> 16).is_none_or(|right| right) {
                        hits += 1;
                    } else {
                        wrong.store(true, Relaxed);
                    }
                }
                assert!(hits > 100, "a lame run");
            });
        }
    });
    assert!(!wrong.load(Relaxed), "an answer to another question, or half of one");
    all[0].cache.check_invariants();
}

/// Puts or gets an answer whose data repeat the number of the name. Returns whether what was found
/// is right.
fn act(bed: &mut Bed, text: &str, name: u32, choice: u32) -> Option<bool> {
    let count = 1 + choice % 14;
    let ttl = 60 + choice % 1_000;
    let record = || (0, vec![0xc0, 12], A, ttl, name.to_be_bytes().to_vec());
    let records: Vec<_> = (0..count).map(|_| record()).collect();
    let made = match choice % 5 {
        0 => Made::new(text, A, NXDOMAIN, &[soa("test", ttl, ttl)]),
        _ => Made::new(text, A, PLAIN, &records),
    };
    let question = Question::parse(&made.packet).unwrap();
    let folded = LowercaseName::new(question.name(&made.packet));
    let asked = plain();
    let key = Key::new(&bed.hasher, &folded, &question, &asked);
    match choice % 16 {
        0..4 => {
            bed.cache.put(bed.now, &folded, &key, &made.received()).ok()?;
            None
        }
        4 => {
            bed.cache.put_failure(bed.now, &folded, &key, ExtendedError::NetworkError);
            None
        }
        5 => {
            bed.cache.sweep(bed.now);
            None
        }
        _ => {
            let Found::Reply { entry, .. } = bed.cache.get(bed.now, &key) else { return None };
            let mut out = [0; 1_232];
            let bytes = &made.packet[12..question.end()];
            let to =
                ReplyTo { asked: &asked, question: bytes, limit: 1_232, finish: Finish::PLAIN };
            let len = bed.cache.write(bed.now, entry, &to, &mut out)?;
            let answer = &out[question.end()..len];
            let whole = out[7] == 0
                || (answer.len() == 16 * usize::from(out[7])
                    && answer.chunks(16).all(|record| {
                        record[12..] == name.to_be_bytes() && record[6..10] == answer[6..10]
                    }));
            Some(whole)
        }
    }
}
