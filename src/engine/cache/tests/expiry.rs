//! Cached failures, and answers that have expired or soon will.
//!
//! The times are tested beside [`crate::engine::cache::refresh`]; here the client's reply, and the
//! effect of the upstream's next response.

use super::messages::{A, Made, PLAIN, a, asked, soa};
use super::{Bed, NXDOMAIN, SECOND, SERVFAIL, stale};
use crate::config::{self, Prefetch, StaleMode};
use crate::engine::cache::admission::{AnswerClass, Received, Refusal};
use crate::engine::cache::{Cache, Found, Key};
use crate::engine::message::compose::extended_error;
use crate::engine::message::flags;
use crate::engine::message::reply::ExtendedError;
use crate::engine::zones::LowercaseName;
use std::time::Duration;

#[test]
fn a_failure_takes_no_usable_answers_place() {
    let mut bed = Bed::new(&stale(StaleMode::Immediate));
    bed.put("w.test", PLAIN, &[a("w.test", 20)]).unwrap();
    assert_eq!(bed.put("w.test", SERVFAIL, &[]), Err(Refusal::Outranked));
    assert_eq!(bed.reply("w.test").ttls, [20]);
    bed.wait(110.0);
    assert_eq!(bed.put("w.test", SERVFAIL, &[]), Err(Refusal::Outranked));
    bed.wait(10.0);
    assert_eq!(bed.put("w.test", SERVFAIL, &[]), Ok(AnswerClass::Failure));
    assert_eq!(bed.reply("w.test").flags, SERVFAIL);
}

#[test]
fn failures_are_cached_for_a_while_and_marked_with_an_extended_error() {
    let mut bed = Bed::new(&stale(StaleMode::Immediate));
    bed.put("w.test", SERVFAIL, &[]).unwrap();
    let reply = bed.reply("w.test");
    assert_eq!(reply.flags, SERVFAIL);
    assert_eq!(reply.errors, extended_error(ExtendedError::CachedError));
    bed.wait(5.0);
    // Never stale: RFC 9520 limits the caching of failures, RFC 8767 is about data.
    assert_eq!(bed.get("w.test"), Found::Miss);
}

#[test]
fn our_own_failures_are_cached() {
    let mut bed = Bed::plain();
    let plain = asked(flags::RD, None);
    let fail = |cache: &mut Cache, now, name: &LowercaseName, key: &Key<'_>| {
        cache.put_failure(now, name, key, ExtendedError::NoReachableAuthority);
    };
    bed.with("w.test", A, &plain, fail);
    let reply = bed.reply("w.test");
    assert_eq!((reply.flags, reply.ttls), (SERVFAIL, vec![]));
    let why = [ExtendedError::CachedError, ExtendedError::NoReachableAuthority];
    assert_eq!(reply.errors, why.map(extended_error).concat());
    bed.wait(5.0);
    assert_eq!(bed.get("w.test"), Found::Miss);
    let mut bed = Bed::new(&config::Cache { servfail: Duration::ZERO, ..Default::default() });
    bed.with("w.test", A, &plain, fail);
    assert_eq!(bed.get("w.test"), Found::Miss);
}

#[test]
fn a_failure_lives_for_parts_of_a_second_if_so_configured() {
    let servfail = Duration::from_millis(1_500);
    let mut bed = Bed::new(&config::Cache { servfail, ..Default::default() });
    bed.put("w.test", SERVFAIL, &[]).unwrap();
    bed.wait(1.4);
    assert_eq!(bed.reply("w.test").flags, SERVFAIL);
    bed.wait(0.1);
    assert_eq!(bed.get("w.test"), Found::Miss);
}

#[test]
fn an_expired_answer_is_served_at_once_and_fetched_once() {
    let mut bed = Bed::new(&stale(StaleMode::Immediate));
    bed.put("w.test", PLAIN, &[a("w.test", 20)]).unwrap();
    bed.put("x.test", NXDOMAIN, &[soa("test", 20, 20)]).unwrap();
    bed.wait(20.0);
    let Found::Reply { entry, refresh: true } = bed.get("w.test") else { panic!("it is usable") };
    let client = asked(flags::RD, Some(false));
    let reply = bed.write(entry, "w.test", &client, 1_232).unwrap();
    assert_eq!(reply.ttls, [30]);
    assert_eq!(reply.errors, extended_error(ExtendedError::StaleAnswer));
    assert!(matches!(bed.get("w.test"), Found::Reply { refresh: false, .. }));
    let denied = bed.reply("x.test");
    assert_eq!(denied.errors, extended_error(ExtendedError::StaleNxDomain));
    assert_eq!((bed.cache.stats.stale, bed.cache.stats.refreshes), (2, 2));
    bed.put("w.test", PLAIN, &[a("w.test", 20)]).unwrap();
    assert_eq!(bed.reply("w.test").ttls, [20]);
    assert_eq!(bed.write(entry, "w.test", &client, 1_232), None);
}

#[test]
fn an_expired_answer_outside_its_window_is_a_miss() {
    let mut bed = Bed::new(&stale(StaleMode::Immediate));
    bed.put("w.test", PLAIN, &[a("w.test", 20)]).unwrap();
    bed.wait(119.9);
    let Found::Reply { entry, .. } = bed.get("w.test") else { panic!("it is usable") };
    bed.wait(0.1);
    assert_eq!(bed.get("w.test"), Found::Miss);
    assert_eq!(bed.write(entry, "w.test", &asked(0, None), 512), None);
}

#[test]
fn a_usable_answer_is_the_fallback_for_a_failed_upstream() {
    let mut bed = Bed::new(&stale(StaleMode::Verify(None)));
    let plain = asked(flags::RD, None);
    bed.put("w.test", PLAIN, &[a("w.test", 20)]).unwrap();
    bed.put("x.test", SERVFAIL, &[]).unwrap();
    let fallback =
        |cache: &mut Cache, now, _: &LowercaseName, key: &Key<'_>| cache.fallback(now, key);
    assert_eq!(bed.with("x.test", A, &plain, fallback), None);
    assert_eq!(bed.with("y.test", A, &plain, fallback), None);
    bed.wait(119.0);
    let entry = bed.with("w.test", A, &plain, fallback).expect("it is usable");
    assert_eq!(bed.write(entry, "w.test", &plain, 512).unwrap().ttls, [30]);
    bed.wait(1.0);
    assert_eq!(bed.with("w.test", A, &plain, fallback), None);
    assert_eq!(bed.cache.stats.requests, 0);
}

#[test]
fn an_expired_answer_can_be_verified_first() {
    for within in [None, Some(SECOND)] {
        let mut bed = Bed::new(&stale(StaleMode::Verify(within)));
        bed.put("w.test", NXDOMAIN, &[soa("test", 20, 20)]).unwrap();
        bed.wait(20.0);
        let Found::Verify { entry, within: wait } = bed.get("w.test") else { panic!("usable") };
        assert_eq!(wait, within);
        bed.wait(1.0);
        let reply = bed.write(entry, "w.test", &asked(0, None), 512).unwrap();
        assert_eq!(reply.ttls, [30]);
        // A denial that replaced it is no longer preferred.
        bed.put("w.test", PLAIN, &[a("w.test", 60)]).unwrap();
        assert_eq!(bed.reply("w.test").ttls, [60]);
    }
}

#[test]
fn after_a_failed_refresh_the_expired_answer_is_served_for_recheck() {
    for (recheck, quiet) in [(0.0, 5.0), (3.0, 5.0), (30.0, 30.0)] {
        let mut settings = stale(StaleMode::Verify(None));
        let serve_stale = settings.serve_stale.as_mut().unwrap();
        serve_stale.recheck = Duration::from_secs_f64(recheck);
        let mut bed = Bed::new(&settings);
        bed.put("w.test", PLAIN, &[a("w.test", 20)]).unwrap();
        bed.wait(20.0);
        for (header, refusal) in [
            (SERVFAIL, Refusal::Outranked),
            (PLAIN | 5, Refusal::Rcode),
            (PLAIN | flags::TC, Refusal::Truncated),
            (NXDOMAIN, Refusal::NoSoa),
        ] {
            assert_eq!(bed.put("w.test", header, &[]), Err(refusal));
        }
        bed.wait(quiet - 0.1);
        assert!(matches!(bed.get("w.test"), Found::Reply { refresh: false, .. }));
        bed.wait(0.1);
        assert!(matches!(bed.get("w.test"), Found::Verify { .. }));
    }
}

#[test]
fn a_response_that_may_not_be_cached_removes_the_expired_answer() {
    let mut settings = stale(StaleMode::Immediate);
    settings.success.ttl_min = 0;
    let mut bed = Bed::new(&settings);
    bed.put("w.test", PLAIN, &[a("w.test", 20)]).unwrap();
    bed.wait(20.0);
    assert_eq!(bed.put("w.test", PLAIN, &[a("w.test", 0)]), Err(Refusal::NoLifetime));
    assert_eq!(bed.get("w.test"), Found::Miss);
}

#[test]
fn a_query_without_recursion_does_not_fail_a_refresh() {
    let mut bed = Bed::new(&stale(StaleMode::Verify(None)));
    bed.put("w.test", PLAIN, &[a("w.test", 20)]).unwrap();
    bed.wait(20.0);
    let made = Made::new("w.test", A, PLAIN, &[]);
    let put = |cache: &mut Cache, now, name: &LowercaseName, key: &Key<'_>| {
        let received = Received { recursion: false, ..made.received() };
        cache.put(now, name, key, &received)
    };
    assert_eq!(bed.with("w.test", A, &asked(0, None), put), Err(Refusal::NoRecursion));
    assert!(matches!(bed.get("w.test"), Found::Verify { .. }));
}

#[test]
fn prefer_positive_keeps_an_answer_within_the_window_from_denials() {
    let mut settings = stale(StaleMode::Immediate);
    settings.serve_stale.as_mut().unwrap().prefer_positive = true;
    let mut bed = Bed::new(&settings);
    bed.put("w.test", PLAIN, &[a("w.test", 20)]).unwrap();
    bed.wait(20.0);
    let denials = [(NXDOMAIN, vec![soa("test", 60, 60)]), (PLAIN, vec![])];
    for (header, records) in &denials {
        assert_eq!(bed.put("w.test", *header, records), Err(Refusal::Outranked));
        assert_eq!(bed.reply("w.test").ttls, [30]);
    }
    bed.put("w.test", PLAIN, &[a("w.test", 40)]).unwrap();
    assert_eq!(bed.reply("w.test").ttls, [40]);
    bed.wait(140.0);
    assert_eq!(bed.put("w.test", NXDOMAIN, &denials[0].1), Ok(AnswerClass::NxDomain));
}

#[test]
fn an_answer_in_demand_is_fetched_before_it_expires_while_the_client_gets_the_old_one() {
    let prefetch = Prefetch { amount: 2, duration: 60 * SECOND, percentage: 30 };
    let mut bed = Bed::new(&config::Cache { prefetch: Some(prefetch), ..Default::default() });
    bed.put("w.test", PLAIN, &[a("w.test", 10)]).unwrap();
    assert!(matches!(bed.get("w.test"), Found::Reply { refresh: false, .. }));
    bed.wait(6.9);
    assert!(matches!(bed.get("w.test"), Found::Reply { refresh: false, .. }));
    bed.wait(0.1);
    let Found::Reply { entry, refresh: true } = bed.get("w.test") else { panic!("in demand") };
    assert_eq!(bed.write(entry, "w.test", &asked(0, None), 512).unwrap().ttls, [3]);
    assert!(matches!(bed.get("w.test"), Found::Reply { refresh: false, .. }));
    assert_eq!(bed.put("w.test", SERVFAIL, &[]), Err(Refusal::Outranked));
    bed.wait(3.0);
    assert_eq!(bed.get("w.test"), Found::Miss);
    // An entry that was in demand still is.
    bed.put("w.test", PLAIN, &[a("w.test", 10)]).unwrap();
    bed.wait(7.0);
    assert!(matches!(bed.get("w.test"), Found::Reply { refresh: true, .. }));
}
