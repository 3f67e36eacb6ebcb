//! Exact balances, shares of a full table, and any sequence of charges beside a naive twin.
//!
//! The hash keys are fixed, so that each run has the same places in the table. Times are counted in
//! microseconds, the resolution of accounts.

use super::{Limit, LimitStats, Limiter, Verdict, WAYS};
use crate::config::{Config, Host, RateLimit};
use crate::moment::Moment;
use ahash::RandomState;
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::IpAddr;

/// Settings with these options.
fn settings(options: &str) -> RateLimit {
    let text = format!(". {{\nratelimit {{\n{options}\n}}\n}}");
    let (config, _) = Config::load(text.as_bytes(), "f", &Host::plain()).unwrap();
    config.blocks[0].stages.ratelimit.clone().unwrap()
}

fn limiter(options: &str) -> Limiter {
    Limiter::new(&settings(options), &RandomState::with_seeds(1, 2, 3, 4))
}

fn micros(count: u64) -> Moment {
    Moment::from_nanos(count * 1_000)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Charges queries at the same time, and returns how many of them pass.
fn passing(limiter: &mut Limiter, now: Moment, client: &str, count: usize) -> usize {
    let charges = (0..count).map(|_| limiter.charge(now, Limit::Query, ip(client), (&[], 0)));
    charges.filter(|verdict| *verdict == Verdict::Passed).count()
}

#[test]
fn a_burst_passes_and_then_one_query_for_each_interval_to_the_microsecond() {
    let mut limiter = limiter("qps 4\nburst 3");
    assert_eq!(passing(&mut limiter, micros(7), "192.0.2.1", 9), 3);
    assert_eq!(passing(&mut limiter, micros(250_006), "192.0.2.1", 9), 0);
    assert_eq!(passing(&mut limiter, micros(250_007), "192.0.2.1", 9), 1);
    // Ten intervals later the burst is full, and no more than full.
    assert_eq!(passing(&mut limiter, micros(2_750_007), "192.0.2.1", 9), 3);
}

#[test]
fn queries_above_the_rate_do_not_keep_others_from_passing_without_a_window() {
    let mut limiter = limiter("qps 10");
    let passed: usize =
        (0..100_000).map(|time| passing(&mut limiter, micros(100 * time), "192.0.2.1", 1)).sum();
    // 10 seconds, and the burst of one.
    assert_eq!(passed, 10 * 10 + 10 - 1);
}

#[test]
fn a_flood_pays_for_the_window_before_a_query_passes() {
    let mut limiter = limiter("qps 10\nwindow 3s");
    assert_eq!(passing(&mut limiter, micros(0), "192.0.2.1", 1_000), 10);
    assert_eq!(passing(&mut limiter, micros(3_099_999), "192.0.2.1", 1), 0);
    // The query before has paid as well: 0.1 s.
    assert_eq!(passing(&mut limiter, micros(3_199_999), "192.0.2.1", 1), 0);
    assert_eq!(passing(&mut limiter, micros(3_300_000), "192.0.2.1", 9), 1);
}

#[test]
fn rates_below_one_a_second_have_a_burst_of_one() {
    let mut limiter = limiter("qps 0.5");
    assert_eq!(passing(&mut limiter, micros(0), "192.0.2.1", 5), 1);
    assert_eq!(passing(&mut limiter, micros(1_999_999), "192.0.2.1", 5), 0);
    assert_eq!(passing(&mut limiter, micros(2_000_000), "192.0.2.1", 5), 1);
}

#[test]
fn one_limited_query_in_slip_gets_a_truncated_reply() {
    for (slip, expected) in [(0, 0), (1, 60), (2, 30), (3, 20), (7, 8)] {
        let mut limiter = limiter(&format!("qps 1\nslip {slip}"));
        let client = ip("192.0.2.1");
        let mut charge = || limiter.charge(micros(0), Limit::Query, client, (&[], 0));
        assert_eq!(charge(), Verdict::Passed);
        let verdicts: Vec<_> = (0..60).map(|_| charge()).collect();
        let truncated = verdicts.iter().filter(|verdict| **verdict == Verdict::Truncated).count();
        assert_eq!(truncated, expected, "slip {slip}");
        assert_eq!(limiter.stats.limited[0], [60 - expected as u64, expected as u64, 0]);
    }
}

#[test]
fn a_dry_run_counts_and_passes() {
    let mut limiter = limiter("qps 1\ndry_run\nslip 1");
    passing(&mut limiter, micros(0), "192.0.2.1", 1);
    let verdict = limiter.charge(micros(0), Limit::Query, ip("192.0.2.1"), (&[], 0));
    assert_eq!(verdict, Verdict::Reported);
    assert_eq!(limiter.stats.limited[0], [0, 0, 1]);
}

#[test]
fn clients_of_a_prefix_share_an_account_and_others_do_not() {
    let rows = [
        ("ipv4 24", "192.0.2.1", "192.0.2.254", true),
        ("ipv4 24", "192.0.2.1", "192.0.3.1", false),
        ("ipv4 32", "192.0.2.1", "192.0.2.2", false),
        ("ipv4 1", "192.0.2.1", "255.255.255.255", true),
        ("ipv6 56", "2001:db8:0:1::1", "2001:db8:0:ff::1", true),
        ("ipv6 56", "2001:db8:0:100::1", "2001:db8:0:200::1", false),
        ("ipv6 128", "2001:db8::1", "2001:db8::2", false),
        // The same client.
        ("ipv4 24", "192.0.2.1", "::ffff:192.0.2.9", true),
        ("ipv4 24", "192.0.2.1", "::192.0.2.1", false),
    ];
    for (options, one, other, is_shared) in rows {
        let mut limiter = limiter(&format!("qps 1\n{options}"));
        assert_eq!(passing(&mut limiter, micros(0), one, 1), 1);
        let passed = passing(&mut limiter, micros(0), other, 1);
        assert_eq!(passed == 0, is_shared, "{options}: {one} and {other}");
    }
}

#[test]
fn each_limit_has_accounts_of_its_own_and_replies_also_by_name_and_type() {
    let mut limiter = limiter("qps 1\nresponses 1\nerrors 1");
    let client = ip("192.0.2.1");
    let owners: [(&[u8], u16); 4] = [(b"", 0), (b"\x01a\0", 1), (b"\x01a\0", 28), (b"\x01b\0", 1)];
    for limit in [Limit::Query, Limit::Answer, Limit::NoData, Limit::NxDomain, Limit::Error] {
        for owner in owners {
            assert_eq!(limiter.charge(micros(0), limit, client, owner), Verdict::Passed);
            assert_ne!(limiter.charge(micros(0), limit, client, owner), Verdict::Passed);
        }
    }
}

#[test]
fn exempt_clients_are_not_covered_nor_limits_of_rate_zero() {
    let limiter = limiter("qps 1\nexempt 192.0.2.0/25 2001:db8::/64");
    for (limit, client, expected) in [
        (Limit::Query, "192.0.2.200", true),
        (Limit::Query, "192.0.2.100", false),
        (Limit::Query, "::ffff:192.0.2.100", false),
        (Limit::Query, "2001:db8::7", false),
        (Limit::Query, "2001:db8:0:1::7", true),
        (Limit::Error, "192.0.2.200", false),
    ] {
        assert_eq!(limiter.covers(limit, ip(client)), expected, "{limit:?} {client}");
    }
}

#[test]
fn in_a_full_table_the_account_that_was_idle_for_longest_gives_way() {
    // One set of places.
    let mut limiter = limiter("qps 1\nipv4 32\nslip 0\ntable 1");
    let client = |number: usize| format!("192.0.2.{number}");
    for number in 0..WAYS {
        assert_eq!(passing(&mut limiter, micros(number as u64), &client(number), 2), 1);
    }
    // The first client is active again, so the second is the one that is idle.
    assert_eq!(passing(&mut limiter, micros(100), &client(0), 1), 0);
    assert_eq!(passing(&mut limiter, micros(101), &client(99), 1), 1);
    assert_eq!(limiter.stats.displaced, 1);
    for number in (0..WAYS).filter(|number| *number != 1) {
        assert_eq!(passing(&mut limiter, micros(102), &client(number), 1), 0, "{number} is known");
    }
    assert_eq!(passing(&mut limiter, micros(103), &client(1), 1), 1, "a new account");
    // An account that is full again gives way without a trace.
    let before = limiter.stats.displaced;
    assert_eq!(passing(&mut limiter, micros(9_000_000), &client(200), 1), 1);
    assert_eq!(limiter.stats.displaced, before);
}

#[test]
fn forged_prefixes_do_not_take_the_account_of_an_active_client() {
    let mut limiter = limiter("qps 100\ntable 32768");
    let mut limited = 0;
    for round in 0..200_000_u32 {
        let now = micros(u64::from(round) * 10);
        let forged = IpAddr::from((0x0b00_0000 + (round << 8)).to_be_bytes());
        limiter.charge(now, Limit::Query, forged, (&[], 0));
        limited += usize::from(passing(&mut limiter, now, "198.51.100.7", 1) == 0);
    }
    // 200,000 queries of one client in 2 seconds: 300 pass.
    assert!((199_690..=199_701).contains(&limited), "{limited}");
}

#[test]
fn a_table_is_as_large_as_it_says() {
    let limiter = limiter("qps 1\ntable 1000");
    assert_eq!(limiter.accounts.len(), 1_000);
    assert_eq!(limiter.reserved(), 1_000 * 32);
}

#[test]
fn a_worker_has_its_share_and_at_least_one_a_second() {
    let mut share = settings("qps 10\nburst 100\nnxdomain 3\nerrors 0.25");
    share.share(4);
    assert_eq!(share.rates, [2_500, 0, 0, 1_000, 0, 250]);
    assert_eq!(share.burst, Some(25));
    // A client asks several questions at a time.
    assert_eq!(share.bursts_min, [8, 0, 0, 3, 0, 0]);
}

/// An account as a list of numbers of any size, without a table.
struct Twin {
    balance: f64,
    at: f64,
    limited: u64,
}

proptest! {
    #[test]
    fn charges_are_those_of_a_naive_twin(
        rate in 1_u32..50, burst in 1_u32..20, window in 0_u32..4, slip in 0_u32..5,
        steps in prop::collection::vec((0_u32..6, 0_u64..400), 1..200),
    ) {
        let options = format!("qps {rate}\nburst {burst}\nwindow {window}s\nslip {slip}\nipv4 32");
        let mut limiter = limiter(&options);
        let mut twins: HashMap<u32, Twin> = HashMap::new();
        let mut counted = LimitStats::default();
        let (rate, burst) = (f64::from(rate), f64::from(burst));
        let mut now = 0;
        for (client, pause) in steps {
            now += pause * 1_000;
            let time = now as f64 / 1e6;
            let twin =
                twins.entry(client).or_insert(Twin { balance: burst, at: time, limited: 0 });
            let balance = (twin.balance + rate * (time - twin.at)).min(burst);
            twin.at = time;
            let expected = if balance > 1.0 - 1e-9 {
                twin.balance = balance - 1.0;
                Verdict::Passed
            } else {
                let least = -(rate * f64::from(window));
                twin.balance = match window {
                    0 => balance,
                    _ => (balance - 1.0).max(least),
                };
                twin.limited += 1;
                let slips = slip > 0 && twin.limited.is_multiple_of(slip.into());
                let verdict = if slips { Verdict::Truncated } else { Verdict::Dropped };
                counted.limited[0][verdict as usize] += 1;
                verdict
            };
            let address = IpAddr::from((0xc000_0200 + client).to_be_bytes());
            let verdict = limiter.charge(micros(now), Limit::Query, address, (&[], 0));
            prop_assert_eq!(verdict, expected, "client {} at {}", client, time);
        }
        prop_assert_eq!(limiter.stats, counted);
    }
}
