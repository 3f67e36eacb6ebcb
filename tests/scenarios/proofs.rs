//! Tests of the runner: it must fail when a scenario does not hold.
//!
//! Each test takes a valid scenario and omits or falsifies one thing; the runner must name the line
//! and the reason.

use super::{chosen, run};
use std::panic::catch_unwind;
use std::path::Path;

/// A valid scenario.
const STORY: &str = "\
# A query is answered.
corefile
    . {
        forward . 192.0.2.1 192.0.2.2 {
            policy sequential
        }
    }
client 1 asks www.example. A
upstream 192.0.2.1 gets www.example. A as q1
after 2s
upstream 192.0.2.2 gets www.example. A as q2
upstream answers q2 NOERROR A 10.0.0.1
client 1 gets NOERROR A 10.0.0.1
nothing happens for 1s
";

/// Checks that the scenario fails for this reason, at or after `line`, which is replaced by
/// `becomes`.
#[track_caller]
fn fails(line: &str, becomes: &str, at: usize, reason: &str) {
    assert!(STORY.contains(line), "the story has no {line}");
    let failure = run(&STORY.replace(line, becomes)).expect_err("it should not hold");
    assert!(failure.problem.contains(reason), "another reason: {failure:?}");
    assert_eq!(failure.line, at, "{failure:?}");
}

#[test]
fn the_scenario_holds() {
    assert_eq!(run(STORY), Ok(()));
}

#[test]
fn an_unmentioned_query_fails() {
    let why = "not spoken of: upstream 192.0.2.1:53 gets www.example. A";
    fails("upstream 192.0.2.1 gets www.example. A as q1\n", "", 9, why);
    let why = "after 2s already upstream 192.0.2.2:53 gets";
    fails("after 2s", "after 3s", 10, why);
}

#[test]
fn an_unmentioned_reply_fails() {
    let why = "not spoken of: client 1 gets NOERROR, answer A 10.0.0.1";
    fails("client 1 gets NOERROR A 10.0.0.1\n", "", 13, why);
    let last = "client 1 gets NOERROR A 10.0.0.1\nnothing happens for 1s\n";
    fails(last, "", 12, why);
}

#[test]
fn an_expected_event_that_does_not_happen_fails() {
    fails("after 2s", "after 1.9s", 11, "no upstream has got anything");
    fails("after 2s", "within 1.9s", 10, "nothing has happened");
    let early = "client 1 gets NOERROR A 10.0.0.1\nupstream answers q2 NOERROR A 10.0.0.1\n";
    let late = "upstream answers q2 NOERROR A 10.0.0.1\nclient 1 gets NOERROR A 10.0.0.1\n";
    fails(late, early, 12, "client 1 has got nothing");
    fails("nothing happens for 1s", "client 2 gets NOERROR", 14, "client 2 has not asked");
}

#[test]
fn a_different_reply_fails_and_prints_both() {
    let told = "client 1 gets NOERROR A 10.0.0.1";
    for (wrong, shown) in [
        ("client 1 gets SERVFAIL A 10.0.0.1", "expected SERVFAIL"),
        ("client 1 gets NOERROR A 10.0.0.2", "answer A 10.0.0.1"),
        ("client 1 gets NOERROR", "answer A 10.0.0.1"),
        ("client 1 gets NOERROR A 10.0.0.1, aa", ", aa"),
        ("client 1 gets NOERROR A 10.0.0.1, no ra", "no ra"),
        ("client 1 gets NOERROR A 10.0.0.1, ede 22", "ede 22"),
        ("client 1 gets NOERROR A 10.0.0.1, no question", "no question"),
        ("client 1 gets NOERROR A 10.0.0.1, ttl 5", "ttl 5"),
        ("client 1 gets NOERROR A 10.0.0.1, in at most 40 bytes", "more than 40"),
    ] {
        fails(told, wrong, 13, shown);
    }
}

#[test]
fn a_different_query_fails_and_is_printed() {
    let gets = "upstream 192.0.2.1 gets www.example. A as q1";
    for wrong in [
        "upstream 192.0.2.2 gets www.example. A as q1",
        "upstream 192.0.2.1 gets wWw.example. A as q1",
        "upstream 192.0.2.1 gets www.example. AAAA as q1",
        "upstream 192.0.2.1 gets www.example. A CH as q1",
        "upstream 192.0.2.1 gets www.example. A as q1, over tcp",
        "upstream 192.0.2.1 gets www.example. A as q1, no rd",
        "upstream 192.0.2.1 gets www.example. A as q1, do",
        "upstream 192.0.2.1 gets www.example. A as q1, cookie",
    ] {
        fails(gets, wrong, 9, "192.0.2.1:53 got www.example. A");
    }
}

#[test]
fn a_client_that_still_waits_fails() {
    let rest = STORY.split_once("after 2s").map_or("", |(_, rest)| rest);
    fails(&format!("after 2s{rest}"), "", 9, "client 1 is still without a reply");
    let ask = "client 1 asks www.example. A\nclient 1 asks www.example. A";
    fails("client 1 asks www.example. A", ask, 9, "waits for a reply already");
}

#[test]
fn a_second_reply_fails() {
    let twice = "client 1 gets NOERROR A 10.0.0.1\nclient 1 gets NOERROR A 10.0.0.1";
    fails("client 1 gets NOERROR A 10.0.0.1", twice, 14, "client 1 has got nothing");
}

#[test]
fn an_unmentioned_dropped_packet_fails() {
    let told = "client 1 gets NOERROR A 10.0.0.1";
    let again = "client 1 gets NOERROR A 10.0.0.1\nupstream answers q2 NOERROR A 10.0.0.1";
    fails(told, again, 15, "not spoken of: 1 responses unmatched");
    let wrong = format!("{again}\ncounted: 2 responses unmatched");
    fails(told, &wrong, 15, "expected 2, but 1");
    let right = STORY.replace(told, &format!("{again}\ncounted: 1 response unmatched"));
    assert_eq!(run(&right), Ok(()));
}

#[test]
fn the_wrong_port_fails() {
    let gets = "upstream 192.0.2.2 gets www.example. A as q2";
    let ported = |port| format!("{gets}, from port {port}");
    let first = "upstream 192.0.2.1 gets www.example. A as q1";
    let story = STORY.replace(first, &format!("{first}, from port a"));
    assert_eq!(run(&story.replace(gets, &ported("b"))), Ok(()));
    let failure = run(&story.replace(gets, &ported("a"))).expect_err("two sockets, one port");
    assert!(failure.problem.contains("a new one"), "{failure:?}");
    let closed = "upstream answers q1 NOERROR A 10.0.0.1";
    fails("upstream answers q2 NOERROR A 10.0.0.1", closed, 12, "the port of `q1` is closed");
    let open = "upstream answers q2 NOERROR, to a closed port";
    fails("upstream answers q2 NOERROR A 10.0.0.1", open, 12, "still open");
}

#[test]
fn the_wrong_number_of_connections_fails() {
    let last = "nothing happens for 1s";
    for (pool, shown) in [
        ("the pool of 192.0.2.2 over udp has 2 connections", "expected 2, but 1"),
        ("the pool of 192.0.2.2 over udp has 1 connection, 2 opened", "Opened: expected 2"),
        ("the pool of 192.0.2.3 over udp has 1 connection", "no upstream 192.0.2.3"),
    ] {
        fails(last, pool, 14, shown);
    }
    let right = "the pool of 192.0.2.1 over udp has 0 connections, 1 opened, 1 broken";
    assert_eq!(run(&STORY.replace(last, right)), Ok(()));
}

#[test]
fn the_wrong_verdict_fails() {
    let last = "nothing happens for 1s";
    for (wrong, shown) in [
        ("upstream 192.0.2.1 is down", "it is not: down is false"),
        ("upstream 192.0.2.1 has had 0 probes", "it has had 1"),
        ("upstream 192.0.2.1 has got 2 queries", "it has got 1"),
        ("upstream 192.0.2.1 has got 2 to 4 queries", "it has got 1"),
        ("upstream 192.0.2.3 is up", "no upstream 192.0.2.3"),
    ] {
        fails(last, wrong, 14, shown);
    }
    for right in [
        "upstream 192.0.2.1 is up",
        "upstream 192.0.2.1 has had 1 probe",
        "upstream 192.0.2.1 has got 0 to 1 queries",
        "the pool of 192.0.2.2 over udp has 1 to 2 connections",
    ] {
        assert_eq!(run(&STORY.replace(last, right)), Ok(()), "{right}");
    }
}

#[test]
fn another_upstream_is_not_the_same() {
    let gets = "upstream 192.0.2.2 gets www.example. A as q2";
    let another = "another upstream gets www.example. A as q2";
    assert_eq!(run(&STORY.replace(gets, another)), Ok(()));
    let alone = STORY.replace(" 192.0.2.2 {", " {").replace(gets, another);
    let failure = run(&alone).expect_err("there is one upstream");
    assert!(failure.line == 11 && failure.problem.contains("192.0.2.1:53 got"), "{failure:?}");
}

#[test]
fn repeated_steps_fail_with_their_line() {
    let last = "nothing happens for 1s";
    let many = "for n from 2 to 3\n    client {n} asks n{n}.example. A";
    fails(last, many, 15, "not spoken of: upstream 192.0.2.1:53 gets n2.example. A");
    let wrong = "for n from 1 to 2\n    client {n} gets REFUSED";
    fails("client 1 gets NOERROR A 10.0.0.1", wrong, 14, "expected REFUSED");
    fails(last, "for n from 1 to x\n    stop", 14, "`x` is no number");
}

#[test]
fn a_file_that_would_never_run_fails() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/cases");
    let name = "time-out-then-next-upstream.scenario";
    assert_eq!(chosen(&cases, "time-out-then-n"), [name]);
    assert!(chosen(&cases, "").len() > 100);
    assert!(chosen(&cases, "no such name").is_empty());
    let other = catch_unwind(|| chosen(Path::new(env!("CARGO_MANIFEST_DIR")), ""));
    assert!(other.is_err(), "Cargo.toml is no scenario");
}

#[test]
fn unknown_words_fail_with_their_line() {
    let last = "nothing happens for 1s";
    for (wrong, shown) in [
        ("something happens for 1s", "`something happens for 1s` is not understood"),
        ("after 1 fortnight", "is not understood"),
        ("after 1x", "`1x` is no duration"),
        ("client 1 wonders", "a client cannot `wonders"),
        ("client 2 asks www.example A", "does not end in a dot"),
        ("client 2 asks www.example. X", "`X` is no type"),
        ("client 2 asks www.example. A, loudly", "`loudly` is not understood"),
        ("client 1 gets JOY", "`JOY` is no response code"),
        ("client 1 gets NOERROR A 10.0.0.256", "`10.0.0.256` is no address"),
        ("upstream answers q9 NOERROR", "no query is called `q9`"),
        ("upstream answers q2 NOERROR, sadly", "`sadly` is not understood"),
        ("upstream 192.0.2.1 dances", "is not understood"),
        ("upstream 192.0.2 connects", "`192.0.2` is no address"),
        ("counted: 1 sheep", "nobody counts `sheep`"),
        ("counted: 1 to x queries coalesced", "`x` is no number"),
        ("upstream 192.0.2.1 likes probes", "is not understood"),
        ("client one asks www.example. A", "`one` is no number"),
        ("in one turn", "nothing is indented"),
    ] {
        fails(last, wrong, 14, shown);
    }
}

#[test]
fn a_scenario_has_a_description_and_a_corefile() {
    fails("# A query is answered.\n", "", 1, "begin with what it shows");
    fails("corefile\n", "stop\n", 1, "not `corefile`");
    fails("policy sequential", "policy sequentially", 1, "unknown policy");
}
