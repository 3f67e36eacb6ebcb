//! Upstreams without EDNS support, and error responses without the question.
//!
//! Covers the retry without EDNS, how long an upstream is remembered as lacking EDNS, and the
//! remarks for the operator.

use crate::common::wire::{Ask, Writer, question_of, word_at};
use crate::common::{config, stanza, upstream_address};
use crate::world::{Sent, World, corefile};
use onward::config::{Forward, Rcodes};
use onward::engine::Notice;
use onward::engine::health::{PLAIN_FOR, Quirk, Remark};
use onward::engine::stats::DropReason;
use std::time::Duration;

const FORMERR: u16 = 1;
const NOTIMP: u16 = 4;

/// A world whose queries have one upstream and one attempt.
fn world() -> World {
    World::new(&config(vec![(".", vec![Forward { max_connect_attempts: Some(1), ..stanza(1) }])]))
}

/// An error as old servers send it: without an OPT, and with `bare` without the question.
fn error(query: &[u8], rcode: u16, bare: bool) -> Vec<u8> {
    let mut writer = Writer::new([word_at(query, 0), 0x8100 | rcode, u16::from(!bare), 0, 0, 0]);
    if !bare {
        writer.bytes.extend_from_slice(question_of(query));
    }
    writer.bytes
}

/// An answer without an OPT.
fn plain_answer(query: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new([word_at(query, 0), 0x8180, 1, 1, 0, 0]);
    writer.bytes.extend_from_slice(question_of(query));
    writer.record(&[0xc0, 12], 1, 1, 300, &[192, 0, 2, 1]);
    writer.bytes
}

/// Returns true if the query's only additional record is an OPT.
fn has_opt(sent: &Sent) -> bool {
    let end = 12 + question_of(&sent.bytes).len();
    let count = word_at(&sent.bytes, 10);
    assert_eq!((count > 0, count), (sent.bytes.len() > end, count.min(1)), "{:x?}", sent.bytes);
    count > 0
}

/// Returns the remarks for the keeper since the last call.
fn remarks(world: &mut World) -> Vec<Remark> {
    world.take_notices(|notice| match notice {
        Notice::Odd(remark) => Some(*remark),
        _ => None,
    })
}

/// Sends a client's query for `name` and returns the upstream query.
fn sent_for(world: &mut World, name: &str) -> Sent {
    world.ask(1, &Ask::new(1, name).with_edns(1_232));
    world.only_sent()
}

#[test]
fn an_upstream_that_refuses_edns_is_queried_without_it_at_once_and_for_a_while() {
    for (rcode, bare) in [(FORMERR, false), (FORMERR, true), (NOTIMP, false), (NOTIMP, true)] {
        let mut world = world();
        let first = sent_for(&mut world, "a.example");
        assert!(has_opt(&first));
        assert!(!world.respond(first.connection, &error(&first.bytes, rcode, bare)));
        let second = world.only_sent();
        assert!(!has_opt(&second), "{rcode} {bare}");
        assert_eq!((second.connection, second.at), (first.connection, first.at));
        assert_eq!(question_of(&second.bytes), question_of(&first.bytes));
        assert!(world.got.is_empty(), "nobody is told");
        assert!(world.respond(second.connection, &plain_answer(&second.bytes)));
        let got = world.only_got();
        assert_eq!((got.rcode(), word_at(&got.bytes, 10)), (0, 1), "our OPT is the client's");
        let remark = Remark { upstream: 0, quirk: Quirk::NoEdns, rcode };
        let others = bare.then_some(Remark { quirk: Quirk::BareError, ..remark });
        assert_eq!(
            remarks(&mut world),
            [others, Some(remark)].into_iter().flatten().collect::<Vec<_>>()
        );

        world.pass(1.0);
        let remembered = sent_for(&mut world, "b.example");
        assert!(!has_opt(&remembered));
        assert!(world.respond(remembered.connection, &plain_answer(&remembered.bytes)));
        assert_eq!((world.only_got().rcode(), remarks(&mut world)), (0, vec![]));
        world.pass(PLAIN_FOR.as_secs_f64());
        let anew = sent_for(&mut world, "c.example");
        assert!(has_opt(&anew));
        assert!(world.respond(anew.connection, &plain_answer(&anew.bytes)));
        let upstream = world.finish().upstreams[0];
        assert_eq!((upstream.edns_refused, upstream.failed, upstream.timed_out), (1, 0, 0));
        assert_eq!((upstream.sent, upstream.answered), (4, 4));
    }
}

#[test]
fn an_error_that_has_nothing_to_do_with_edns_is_delivered_and_not_remembered() {
    for (first_rcode, second_rcode) in [(FORMERR, FORMERR), (NOTIMP, NOTIMP), (FORMERR, 5)] {
        let mut world = world();
        for name in ["a.example", "b.example"] {
            let first = sent_for(&mut world, name);
            assert!(has_opt(&first));
            assert!(!world.respond(first.connection, &error(&first.bytes, first_rcode, false)));
            let second = world.only_sent();
            let same = error(&second.bytes, second_rcode, false);
            assert!(world.respond(second.connection, &same));
            assert_eq!(world.only_got().rcode(), second_rcode);
            assert!(remarks(&mut world).is_empty());
        }
        world.finish();
    }
}

#[test]
fn a_formerr_with_an_opt_is_not_about_edns() {
    let mut world = world();
    let sent = sent_for(&mut world, "a.example");
    let mut refusal = Writer { bytes: error(&sent.bytes, FORMERR, false) };
    refusal.opt(1_232, 0, 0, false, &[]);
    refusal.bytes[11] = 1;
    assert!(world.respond(sent.connection, &refusal.bytes));
    assert_eq!((world.only_got().rcode(), world.sent.len()), (1, 0));
    world.finish();
}

#[test]
fn queries_with_do_are_retried_without_edns_but_nothing_is_remembered() {
    let mut world = World::new(&corefile("cache\n forward . 192.0.2.1"));
    let with_do =
        |name: &str| Ask { edns: Some((1_232, 0, true, Vec::new())), ..Ask::new(1, name) };
    for name in ["a.example", "b.example"] {
        world.ask(1, &with_do(name));
        let first = world.only_sent();
        assert!(has_opt(&first));
        assert!(!world.respond(first.connection, &error(&first.bytes, FORMERR, false)));
        let second = world.only_sent();
        assert!(!has_opt(&second));
        assert!(world.respond(second.connection, &plain_answer(&second.bytes)));
        assert_eq!((world.only_got().rcode(), remarks(&mut world)), (0, vec![]));
    }
    // The cached answer is for queries with DO only.
    world.ask(1, &with_do("a.example"));
    assert_eq!((world.only_got().rcode(), world.sent.len()), (0, 0));
    world.ask(1, &Ask::new(1, "a.example"));
    let sent = world.only_sent();
    assert!(has_opt(&sent));
    assert!(world.respond(sent.connection, &plain_answer(&sent.bytes)));
    world.finish();
}

#[test]
fn an_option_that_may_have_been_refused_does_not_count_against_edns() {
    let mut world = World::new(&corefile("forward . 192.0.2.1"));
    let subnet = vec![0, 8, 0, 7, 0, 1, 24, 0, 198, 51, 100];
    world.ask(1, &Ask { edns: Some((1_232, 0, false, subnet)), ..Ask::new(1, "a.example") });
    let first = world.only_sent();
    assert!(!world.respond(first.connection, &error(&first.bytes, FORMERR, false)));
    let second = world.only_sent();
    assert!(!has_opt(&second) && world.respond(second.connection, &plain_answer(&second.bytes)));
    assert_eq!((world.only_got().rcode(), remarks(&mut world)), (0, vec![]));
    assert!(has_opt(&sent_for(&mut world, "b.example")), "others go with EDNS as before");
    world.pass(10.0);
    world.finish();
}

#[test]
fn equal_queries_wait_for_the_query_without_edns() {
    let mut world = world();
    let first = sent_for(&mut world, "a.example");
    assert!(!world.respond(first.connection, &error(&first.bytes, FORMERR, false)));
    let second = world.only_sent();
    world.ask(2, &Ask::new(2, "A.example").with_edns(1_232));
    assert!(world.sent.is_empty(), "it is on its way");
    // The response to the first query matches nothing any more.
    assert!(!world.respond(first.connection, &plain_answer(&first.bytes)));
    assert_eq!(world.dropped(DropReason::ResponseUnmatched), 1);
    assert!(world.respond(second.connection, &plain_answer(&second.bytes)));
    assert_eq!(world.take_got().len(), 2);
    world.finish();
}

#[test]
fn after_silence_the_next_attempt_has_edns_again() {
    let read_timeout = Duration::from_secs(1);
    let forward = Forward { read_timeout, max_connect_attempts: Some(2), ..stanza(2) };
    let mut world = World::new(&config(vec![(".", vec![forward])]));
    let first = sent_for(&mut world, "a.example");
    assert!(!world.respond(first.connection, &error(&first.bytes, FORMERR, false)));
    assert!(!has_opt(&world.only_sent()));
    world.pass(1.0);
    let next = world.only_sent();
    assert!(has_opt(&next) && next.to != first.to);
    assert!(world.respond(next.connection, &plain_answer(&next.bytes)));
    assert_eq!((world.only_got().rcode(), remarks(&mut world)), (0, vec![]));
    world.finish();
}

#[test]
fn an_error_without_a_question_is_delivered_with_it_and_not_cached() {
    for rcode in [2, 5] {
        let mut world = World::new(&corefile("cache\n forward . 192.0.2.1"));
        for round in 0..2 {
            let sent = sent_for(&mut world, "wWw.example");
            assert!(world.respond(sent.connection, &error(&sent.bytes, rcode, true)));
            let got = world.only_got();
            assert_eq!((got.rcode(), word_at(&got.bytes, 4)), (rcode, 1));
            assert_eq!(question_of(&got.bytes), Ask::new(1, "wWw.example").question());
            let remark = Remark { upstream: 0, quirk: Quirk::BareError, rcode };
            let told = remarks(&mut world);
            assert_eq!(told.as_slice(), &[remark][usize::from(round > 0)..], "told once");
        }
        assert_eq!(world.finish().upstreams[0].bare_errors, 2);
    }
}

#[test]
fn an_error_without_a_question_fails_over_where_configured() {
    let failover = Rcodes::from_iter([5]);
    let mut world = World::new(&config(vec![(".", vec![Forward { failover, ..stanza(2) }])]));
    let first = sent_for(&mut world, "a.example");
    assert!(!world.respond(first.connection, &error(&first.bytes, 5, true)));
    let second = world.only_sent();
    assert_ne!(second.to, first.to);
    assert!([0, 1].map(upstream_address).contains(&second.to));
    assert!(world.respond(second.connection, &error(&second.bytes, 5, true)));
    assert_eq!(world.only_got().rcode(), 5);
    world.finish();
}

#[test]
fn without_a_question_only_such_errors_are_accepted() {
    type Forge = fn(&mut Vec<u8>);
    let forgeries: [(_, _, Forge); 7] = [
        ("NOERROR", DropReason::ResponseMalformed, |packet| packet[3] = 0),
        ("NXDOMAIN", DropReason::ResponseMalformed, |packet| packet[3] = 3),
        ("an opcode", DropReason::ResponseMalformed, |packet| packet[2] |= 0x10),
        ("QR=0", DropReason::ResponseMalformed, |packet| packet[2] &= 0x7f),
        ("an answer", DropReason::ResponseMalformed, |packet| packet[7] = 1),
        ("a record that is not there", DropReason::ResponseMalformed, |packet| packet[11] = 1),
        ("another's id", DropReason::ResponseUnmatched, |packet| packet[1] ^= 1),
    ];
    for (what, reason, forge) in forgeries {
        let mut world = world();
        let sent = sent_for(&mut world, "a.example");
        let mut packet = error(&sent.bytes, 5, true);
        forge(&mut packet);
        assert!(!world.respond(sent.connection, &packet), "{what}");
        assert_eq!((world.dropped(reason), world.engine.outstanding()), (1, 1), "{what}");
        assert!(world.respond(sent.connection, &error(&sent.bytes, 5, true)), "{what}");
        assert_eq!(world.only_got().rcode(), 5);
        world.finish();
    }
}
