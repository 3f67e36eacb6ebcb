//! `ratelimit` and `rrl`: queries and replies over UDP beyond the limits of a client prefix.
//!
//! Time is virtual, so that what passes and what does not is exact. One in `slip` limited queries
//! gets an empty truncated reply, and the others none.

use super::{ask, ask_from, response};
use crate::common::wire::{Ask, answer, question_of};
use crate::world::{World, client, corefile, shown, world};
use onward::engine::Notice;
use onward::engine::stats::DropReason;

const ANSWER: &str = "whoami";

/// Sends `count` queries from an address, each with a name of its own, and returns the number of
/// answers, truncated replies and queries without a reply.
fn flood(world: &mut World, address: &str, count: usize) -> [usize; 3] {
    for number in 0..count {
        ask_from(world, address, &ask(&format!("n{number}.test"), 1));
    }
    outcomes(world, count)
}

/// The number of replies with a record or an error, of truncated ones, and of the missing ones.
fn outcomes(world: &mut World, count: usize) -> [usize; 3] {
    let got = world.take_got();
    let is_truncated = |text: &str| text.contains(" tc ");
    let shown: Vec<_> = got.iter().map(shown).collect();
    let truncated = shown.iter().filter(|text| is_truncated(text)).count();
    for text in shown.iter().filter(|text| is_truncated(text)) {
        assert_eq!(text, "NOERROR tc rd ra", "an empty reply");
    }
    [got.len() - truncated, truncated, count - got.len()]
}

#[test]
fn delayed_replies_are_limited_when_they_are_written() {
    let limits = "ratelimit {\n responses 1\n slip 2\n }\n erratic {\n drop 0\n delay 1 1s\n }";
    let mut world = world(limits);
    for _ in 0..4 {
        world.packet(client(1), &Ask::new(7, "a.t").bytes());
    }
    world.settle();
    assert!(world.take_got().is_empty(), "all are late");
    world.pass(1.0);
    let mut got: Vec<_> = world.take_got().iter().map(shown).collect();
    got.sort();
    assert_eq!(got, ["NOERROR aa rd\nAN a.t 0 A 192.0.2.53", "NOERROR tc rd ra"]);
    assert_eq!(world.dropped(DropReason::RateLimited), 2);
    world.finish();
}

#[test]
fn queries_of_a_prefix_beyond_its_burst_are_dropped_or_truncated_until_tokens_return() {
    let limits = "ratelimit {\n qps 10\n burst 5\n }";
    let mut world = world(&format!("{limits}\n {ANSWER}"));
    assert_eq!(flood(&mut world, "192.0.2.1", 25), [5, 10, 10]);
    assert_eq!(flood(&mut world, "192.0.2.200", 2), [0, 1, 1], "the same /24");
    assert_eq!(flood(&mut world, "192.0.3.1", 5), [5, 0, 0], "another /24");
    assert_eq!(flood(&mut world, "2001:db8::1", 5), [5, 0, 0]);
    assert_eq!(flood(&mut world, "2001:db8:0:ff::1", 4), [0, 2, 2], "the same /56");
    world.pass(0.299_999);
    assert_eq!(flood(&mut world, "192.0.2.1", 3)[0], 2);
    world.pass(0.000_001);
    assert_eq!(flood(&mut world, "192.0.2.1", 2)[0], 1);
    assert_eq!(flood(&mut world, "::ffff:192.0.2.9", 1)[0], 0, "a mapped address of the /24");
    world.pass(10.0);
    assert_eq!(flood(&mut world, "192.0.2.1", 9)[0], 5);
    let stats = world.finish();
    let stage = stats.stages.ratelimit;
    assert_eq!(stage.dropped, stats.dropped(DropReason::RateLimited));
    assert_eq!(stats.limits[0].limited[0][..2], [stage.dropped, stage.answered]);
}

#[test]
fn a_client_on_a_connection_is_not_limited() {
    let mut world = world(&format!("ratelimit {{\n qps 1\n responses 1\n slip 0\n }}\n {ANSWER}"));
    for number in 0..20 {
        let connection = world.ask_over_tcp(1, &ask("a.test", 1));
        assert!(shown(&world.only_got()).starts_with("NOERROR"), "query {number}");
        world.engine.clients.close(connection);
    }
    // The same address over UDP.
    let address = client(1).peer.ip().to_string();
    assert_eq!(flood(&mut world, &address, 5), [1, 0, 4]);
    world.finish();
}

#[test]
fn exempt_clients_and_names_outside_the_zones_are_not_limited() {
    let limits =
        "ratelimit limited.test {\n qps 1\n slip 0\n exempt 192.0.2.64/26 2001:db8::/64\n }";
    let mut world = world(&format!("{limits}\n {ANSWER}"));
    let rows = [
        ("192.0.2.1", "a.limited.test", 1),
        ("192.0.2.65", "a.limited.test", 9),
        ("::ffff:192.0.2.65", "a.limited.test", 9),
        ("2001:db8::1", "a.limited.test", 9),
        ("192.0.2.1", "a.test", 9),
    ];
    for (address, name, expected) in rows {
        (0..9).for_each(|_| ask_from(&mut world, address, &ask(name, 1)));
        assert_eq!(outcomes(&mut world, 9), [expected, 0, 9 - expected], "{address} {name}");
    }
    world.finish();
}

#[test]
fn cached_answers_are_limited_by_name_and_type() {
    let limits = "ratelimit {\n responses 2\n slip 3\n }";
    let mut world = world(&format!("{limits}\n cache 60\n forward . 192.0.2.1"));
    let asked = |rtype: u16| ask("a.test", rtype);
    ask_from(&mut world, "198.51.100.1", &asked(1));
    let sent = world.only_sent();
    world.respond(sent.connection, &answer(&sent.bytes));
    assert_eq!(outcomes(&mut world, 1), [1, 0, 0]);
    (0..10).for_each(|_| ask_from(&mut world, "198.51.100.1", &asked(1)));
    assert_eq!(outcomes(&mut world, 10), [1, 3, 6], "hits");
    // Another prefix, and another type.
    (0..2).for_each(|_| ask_from(&mut world, "198.51.101.1", &asked(1)));
    assert_eq!(outcomes(&mut world, 2), [2, 0, 0]);
    ask_from(&mut world, "198.51.100.1", &asked(28));
    let sent = world.only_sent();
    world.respond(sent.connection, &answer(&sent.bytes));
    assert_eq!(outcomes(&mut world, 1), [1, 0, 0]);
    let stats = world.finish();
    assert_eq!(stats.limits[0].limited[1], [6, 3, 0]);
    assert_eq!(stats.dropped(DropReason::RateLimited), 6);
}

#[test]
fn clients_that_wait_for_one_response_are_limited_one_by_one() {
    let limits = "ratelimit {\n responses 2\n slip 2\n exempt 203.0.113.0/24\n }";
    let mut world = world(&format!("{limits}\n forward . 192.0.2.1"));
    let asked = Ask { name: "wAIt.test".into(), ..ask("", 1).with_edns(1_232) };
    (0..6).for_each(|_| ask_from(&mut world, "198.51.100.1", &asked));
    ask_from(&mut world, "203.0.113.1", &ask("wait.test", 1));
    let sent = world.only_sent();
    world.respond(sent.connection, &answer(&sent.bytes));
    let got = world.got.clone();
    assert_eq!(outcomes(&mut world, 7), [3, 2, 2]);
    let [.., truncated, exempt] = &got[..] else { panic!("{got:?}") };
    assert_eq!(question_of(&truncated.bytes), asked.question(), "with the spelling of the client");
    assert_eq!(exempt.client.peer.ip().to_string(), "203.0.113.1");
    world.finish();
}

/// Types and data of the records in the authority section.
type Authority<'a> = &'a [(u16, &'a [u8])];

#[test]
fn replies_are_limited_by_their_kind() {
    let soa = b"\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05";
    let denial: Authority<'_> = &[(6, soa)];
    let servers: Authority<'_> = &[(2, b"\0")];
    // A kind, its response, and whether another name has an account of its own. The SOA record of
    // these denials has the name of the query, which is then the zone.
    type Row<'a> = (&'a str, u16, Authority<'a>, usize);
    let rows: [Row<'_>; 4] = [
        ("nodata", 0, denial, 2),
        ("nxdomain", 3, denial, 2),
        ("referrals", 0, servers, 2),
        ("errors", 5, &[], 1),
    ];
    for (kind, rcode, authority, other) in rows {
        let limits = format!("ratelimit {{\n {kind} 2\n slip 0\n }}");
        let mut world = world(&format!("{limits}\n forward . 192.0.2.1"));
        let mut count = |name: &str, times: usize| {
            for _ in 0..times {
                ask_from(&mut world, "198.51.100.1", &ask(name, 1));
                let sent = world.only_sent();
                let response = response(&sent.bytes, rcode, [&[], authority, &[]]);
                world.respond(sent.connection, &response);
            }
            outcomes(&mut world, times)[0]
        };
        assert_eq!(count("a.test", 5), 2, "{kind}");
        assert_eq!(count("b.test", 2), if kind == "errors" { 0 } else { other }, "{kind}");
        let stats = world.finish();
        let limited: Vec<u64> = stats.limits[0].limited.iter().map(|limit| limit[0]).collect();
        let place = ["", "", "nodata", "nxdomain", "referrals", "errors"];
        for (found, name) in limited.iter().zip(place) {
            assert_eq!(*found > 0, name == kind, "{kind}: {limited:?}");
        }
    }
}

#[test]
fn denials_of_random_names_in_a_zone_share_an_account() {
    let mut world = world("ratelimit {\n nxdomain 3\n slip 0\n }\n forward . 192.0.2.1");
    let mut count = |address: &str, zone: &[u8], names: usize| {
        for number in 0..names {
            ask_from(&mut world, address, &ask(&format!("r{number}.zone.test"), 1));
            let sent = world.only_sent();
            let soa = b"\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05";
            let mut response = response(&sent.bytes, 3, [&[], &[], &[]]);
            response[9] = 1;
            response.extend([zone, b"\0\x06\0\x01\0\0\0\x3c\0\x16", soa].concat());
            world.respond(sent.connection, &response);
        }
        outcomes(&mut world, names)[0]
    };
    assert_eq!(count("198.51.100.1", b"\x04ZONE\x04test\0", 20), 3);
    assert_eq!(count("198.51.100.1", b"\x04zone\x04test\0", 1), 0, "the case does not matter");
    assert_eq!(count("198.51.100.1", b"\x04test\0", 20), 3, "another zone");
    assert_eq!(count("198.51.101.1", b"\x04zone\x04test\0", 20), 3, "another prefix");
    world.finish();
}

#[test]
fn errors_of_this_server_are_limited_for_each_prefix() {
    let limits = "ratelimit {\n errors 2\n slip 2\n }";
    let mut world = world(&format!("{limits}\n acl {{\n block\n }}\n {ANSWER}"));
    assert_eq!(flood(&mut world, "192.0.2.1", 10), [2, 4, 4], "REFUSED");
    world.finish();
    let mut world = self::world(&format!("{limits}\n forward . 192.0.2.1"));
    (0..6).for_each(|number| ask_from(&mut world, "192.0.2.1", &ask(&format!("n{number}"), 1)));
    world.pass(6.0);
    assert_eq!(outcomes(&mut world, 6), [2, 2, 2], "SERVFAIL after a time-out");
    world.finish();
}

#[test]
fn a_truncated_reply_to_a_limited_query_is_not_limited_once_more() {
    let limits = "ratelimit {\n qps 1\n nodata 1\n errors 1\n slip 1\n }";
    let mut world = world(&format!("{limits}\n {ANSWER}"));
    assert_eq!(flood(&mut world, "192.0.2.1", 9), [1, 8, 0]);
    world.finish();
}

#[test]
fn rewritten_queries_are_charged_once_and_truncated_with_their_own_question() {
    let rules = "rewrite name exact shown.test sent.test";
    let limits = "ratelimit {\n qps 100\n responses 1\n slip 1\n }";
    let mut world = world(&format!("{limits}\n {rules}\n forward . 192.0.2.1"));
    (0..3).for_each(|_| ask_from(&mut world, "198.51.100.1", &ask("shown.test", 1)));
    let sent = world.only_sent();
    world.respond(sent.connection, &answer(&sent.bytes));
    let got = world.got.clone();
    assert_eq!(outcomes(&mut world, 3), [1, 2, 0]);
    let asked = ask("shown.test", 1).question();
    assert!(got.iter().all(|got| question_of(&got.bytes) == asked));
    world.finish();
}

#[test]
fn queries_of_this_server_are_not_charged() {
    let limits = "ratelimit {\n qps 2\n responses 2\n slip 0\n }";
    let mut world = world(&format!("{limits}\n dns64\n forward . 192.0.2.1"));
    for number in 0..5 {
        ask_from(&mut world, "198.51.100.1", &ask(&format!("n{number}.test"), 28));
        for sent in world.take_sent() {
            world.respond(sent.connection, &response(&sent.bytes, 0, [&[], &[], &[]]));
        }
        for sent in world.take_sent() {
            world.respond(sent.connection, &answer(&sent.bytes));
        }
    }
    // Each query needs two answers, of which the client gets one.
    assert_eq!(outcomes(&mut world, 5), [2, 0, 3]);
    world.finish();
}

#[test]
fn replies_to_parked_queries_are_limited() {
    let limits = "ratelimit {\n responses 1\n slip 2\n }";
    let mut world = world(&format!("{limits}\n dns64\n forward . 192.0.2.1"));
    for _ in 0..5 {
        ask_from(&mut world, "198.51.100.1", &ask("a.test", 28));
        for _ in 0..2 {
            for sent in world.take_sent() {
                let is_a = question_of(&sent.bytes).ends_with(&[0, 1, 0, 1]);
                let empty = response(&sent.bytes, 0, [&[], &[], &[]]);
                let packet = if is_a { answer(&sent.bytes) } else { empty };
                world.respond(sent.connection, &packet);
            }
        }
    }
    assert_eq!(outcomes(&mut world, 5), [1, 2, 2]);
    world.finish();
}

#[test]
fn a_dry_run_answers_all_and_counts() {
    let mut world = world(&format!("ratelimit {{\n qps 1\n responses 1\n dry_run\n }}\n {ANSWER}"));
    assert_eq!(flood(&mut world, "192.0.2.1", 9), [9, 0, 0]);
    let stats = world.finish();
    assert_eq!(stats.limits[0].limited[0], [0, 0, 8]);
    assert_eq!(stats.dropped(DropReason::RateLimited), 0);
}

#[test]
fn the_words_of_the_external_plugin_set_the_same_limits() {
    let limits =
        "rrl . {\n requests-per-second 4\n slip-ratio 0\n ipv4-prefix-length 16\n window 1\n }";
    let mut world = world(&format!("{limits}\n {ANSWER}"));
    assert_eq!(flood(&mut world, "192.0.2.1", 8), [4, 0, 4]);
    assert_eq!(flood(&mut world, "192.0.77.1", 1), [0, 0, 1], "the same /16");
    world.pass(1.0);
    // The queries of the window have to be paid first.
    assert_eq!(flood(&mut world, "192.0.2.1", 1), [0, 0, 1]);
    world.pass(1.5);
    assert_eq!(flood(&mut world, "192.0.2.1", 1), [1, 0, 0]);
    world.finish();
}

#[test]
fn a_reload_keeps_the_accounts_of_unchanged_limits() {
    let text =
        |limits: &str, more: &str| format!("ratelimit {{\n {limits}\n }}\n {ANSWER}\n {more}");
    let mut world = world(&text("qps 3\n slip 0", ""));
    assert_eq!(flood(&mut world, "192.0.2.1", 5), [3, 0, 2]);
    world.reload(&corefile(&text("qps 3\n slip 0", "chaos")));
    assert_eq!(flood(&mut world, "192.0.2.1", 5), [0, 0, 5]);
    world.reload(&corefile(&text("qps 4\n slip 0", "chaos")));
    assert_eq!(flood(&mut world, "192.0.2.1", 5), [4, 0, 1]);
    world.reload(&corefile(ANSWER));
    assert_eq!(flood(&mut world, "192.0.2.1", 50), [50, 0, 0]);
    world.finish();
}

#[test]
fn a_reload_that_changes_only_a_limit_keeps_the_cache() {
    let text = |rate: u32| format!("ratelimit {{\n qps {rate}\n }}\n cache\n forward . 192.0.2.1");
    let mut world = world(&text(100));
    world.ask(1, &Ask::new(1, "a.test"));
    let sent = world.only_sent();
    assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    world.take_got();
    world.reload(&corefile(&text(200)));
    world.ask(1, &Ask::new(2, "a.test"));
    assert!(world.take_sent().is_empty(), "the cache has the answer");
    assert_eq!(world.only_got().rcode(), 0);
    world.finish();
}

#[test]
fn the_operator_learns_the_prefix_once_in_thirty_seconds() {
    let mut world = world(&format!("ratelimit {{\n qps 1\n }}\n {ANSWER}"));
    let notices = |world: &mut World| {
        world.take_notices(|notice| match notice {
            Notice::Limited { block, prefix, limit } => Some((*block, *prefix, *limit)),
            _ => None,
        })
    };
    flood(&mut world, "192.0.2.77", 1);
    assert_eq!(notices(&mut world), []);
    flood(&mut world, "192.0.2.77", 9);
    flood(&mut world, "2001:db8::1", 9);
    assert_eq!(notices(&mut world), [(0, ("192.0.2.0".parse().unwrap(), 24), "query")]);
    world.pass(30.0);
    flood(&mut world, "2001:db8::1", 9);
    assert_eq!(notices(&mut world), [(0, ("2001:db8::".parse().unwrap(), 56), "query")]);
    world.finish();
}
