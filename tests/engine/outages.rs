//! Upstreams that are silent, refuse connections, or respond too late.
//!
//! Two seconds for an attempt, five for a query, checked to the nanosecond.

use crate::common::wire::{Ask, answer, word_at};
use crate::common::{at, config, stanza, upstream_address};
use crate::world::World;
use onward::config::{Forward, Policy};
use onward::engine::stats::DropReason;
use std::time::Duration;

fn world(forward: Forward) -> World {
    World::new(&config(vec![(".", vec![forward])]))
}

#[test]
fn a_silent_upstream_times_out_and_the_next_is_queried() {
    let mut world = world(stanza(2));
    world.ask(1, &Ask::new(1, "a.example"));
    let first = world.only_sent();
    assert_eq!(world.engine.next_deadline(), Some(at(2.0)));
    world.pass(1.999_999_999);
    assert!(world.sent.is_empty());
    world.advance(at(2.0));
    let second = world.only_sent();
    assert_eq!((first.to, second.to), (upstream_address(0), upstream_address(1)));
    assert_eq!(second.at, at(2.0));
    assert_eq!(first.bytes[2..], second.bytes[2..], "the same query with another id");
    world.pass(0.5);
    assert!(world.respond(second.connection, &answer(&second.bytes)));
    assert_eq!(world.only_got().rcode(), 0);
    let stats = world.finish();
    assert_eq!((stats.upstreams[0].timed_out, stats.upstreams[1].answered), (1, 1));
    assert_eq!(stats.upstreams[0].pool.broken, 1, "a silent connection is not kept");
}

#[test]
fn after_five_seconds_in_all_the_client_gets_servfail() {
    let mut world = world(stanza(2));
    world.ask(1, &Ask::new(0xabcd, "A.example").with_edns(4_096));
    world.pass(60.0);
    let sent = world.take_sent();
    let seen: Vec<_> = sent.iter().map(|sent| (sent.at, sent.to)).collect();
    let (a, b) = (upstream_address(0), upstream_address(1));
    assert_eq!(seen, [(at(0.0), a), (at(2.0), b), (at(4.0), a)]);
    let got = world.only_got();
    assert_eq!((got.at, got.id(), got.rcode()), (at(5.0), 0xabcd, 2));
    assert_eq!(got.extended_error(), Some(22), "no reachable authority");
    // QR, RD and RA; neither AA nor TC nor AD.
    assert_eq!(word_at(&got.bytes, 2) & !15, 0x8180);
    let stats = world.finish();
    assert_eq!(stats.replies[2], 1);
    assert_eq!((stats.upstreams[0].timed_out, stats.upstreams[1].timed_out), (2, 1));
}

#[test]
fn a_client_without_edns_gets_no_extended_error() {
    let mut world = world(stanza(1));
    world.ask(1, &Ask::new(1, "a.example"));
    world.pass(5.0);
    let got = world.only_got();
    assert_eq!((got.rcode(), word_at(&got.bytes, 10)), (2, 0));
    world.finish();
}

#[test]
fn the_cap_on_attempts_counts_all_upstreams_together() {
    for (upstreams, cap, attempts, end) in [(1, 1, 1, 2.0), (1, 2, 2, 4.0), (2, 1, 1, 2.0)] {
        let mut world = world(Forward { max_connect_attempts: Some(cap), ..stanza(upstreams) });
        world.ask(1, &Ask::new(1, "a.example"));
        world.pass(60.0);
        assert_eq!(world.take_sent().len(), attempts);
        let got = world.only_got();
        assert_eq!((got.at, got.rcode()), (at(end), 2));
        world.finish();
    }
}

#[test]
fn each_stanza_has_its_own_read_timeout() {
    let quick = Forward { read_timeout: Duration::from_millis(300), ..stanza(2) };
    let blocks = vec![(".", vec![stanza(2)]), ("quick.example", vec![quick])];
    let mut world = World::new(&config(blocks));
    world.ask(1, &Ask::new(1, "slow.example"));
    world.ask(2, &Ask::new(1, "a.quick.example"));
    world.take_sent();
    assert_eq!(world.engine.next_deadline(), Some(at(0.3)));
    world.pass(2.1);
    let at: Vec<_> = world.take_sent().iter().map(|sent| sent.at.as_nanos() / 1_000_000).collect();
    assert_eq!(at, [300, 600, 900, 1_200, 1_500, 2_000]);
    world.finish();
}

#[test]
fn a_refused_query_moves_on_at_once() {
    let mut world = world(Forward { max_connect_attempts: Some(4), ..stanza(2) });
    world.ask(1, &Ask::new(1, "a.example"));
    world.pass(0.001);
    let first = world.only_sent();
    world.refuse(first.connection);
    let second = world.only_sent();
    assert_eq!((second.at, second.to), (at(0.001), upstream_address(1)));
    assert!(!world.respond(first.connection, &answer(&first.bytes)), "it moved on");
    assert!(world.respond(second.connection, &answer(&second.bytes)));
    assert_eq!(world.only_got().rcode(), 0);
    let stats = world.finish();
    assert_eq!((stats.upstreams[0].failed, stats.upstreams[0].pool.broken), (1, 1));
}

#[test]
fn all_queries_of_a_connection_that_fails_move_on() {
    let mut world = world(stanza(2));
    for number in 0..50 {
        world.ask_within_turn(number, &Ask::new(1, &format!("n{number}.example")));
    }
    world.settle();
    let first = world.take_sent();
    world.refuse(first[0].connection);
    let second = world.take_sent();
    assert_eq!((first.len(), second.len()), (50, 50));
    assert!(second.iter().all(|sent| sent.to == upstream_address(1)));
    second.iter().for_each(|sent| assert!(world.respond(sent.connection, &answer(&sent.bytes))));
    assert_eq!(world.take_got().len(), 50);
    world.finish();
}

#[test]
fn a_single_upstream_that_refuses_is_tried_up_to_the_cap() {
    let mut world = world(Forward { max_connect_attempts: Some(2), ..stanza(1) });
    world.ask(1, &Ask::new(1, "a.example").with_edns(1_232));
    for _ in 0..2 {
        let sent = world.only_sent();
        world.refuse(sent.connection);
    }
    let got = world.only_got();
    assert_eq!((got.at, got.rcode(), got.extended_error()), (at(0.0), 2, Some(23)));
    assert!(world.sent.is_empty());
    world.finish();
}

#[test]
fn without_a_cap_an_upstream_that_refuses_is_tried_three_times_and_no_more() {
    for upstreams in [1, 3] {
        for policy in [Policy::Sequential, Policy::RoundRobin, Policy::Random] {
            let mut world = world(Forward { policy, ..stanza(upstreams) });
            world.ask(1, &Ask::new(1, "a.example"));
            let mut tallies = vec![0; upstreams];
            while let Some(sent) = world.sent.pop() {
                let upstream = (0..upstreams).find(|number| upstream_address(*number) == sent.to);
                tallies[upstream.unwrap()] += 1;
                assert!(tallies.iter().sum::<usize>() < 1_000, "it spins");
                world.refuse(sent.connection);
            }
            assert_eq!(tallies, vec![3; upstreams], "RFC 9520: three queries an upstream");
            let got = world.only_got();
            assert_eq!((got.at, got.rcode()), (at(0.0), 2));
            world.finish();
        }
    }
}

#[test]
fn a_late_answer_is_dropped() {
    // Two queries on a connection, so that it stays open when the first times out.
    let mut world = world(stanza(2));
    world.ask_within_turn(1, &Ask::new(1, "a.example"));
    world.settle();
    let a = world.only_sent();
    world.pass(2.0);
    let retried = world.only_sent();
    assert!(!world.respond(a.connection, &answer(&a.bytes)), "late, on a closed connection");
    assert_eq!(world.dropped(DropReason::ResponseUnmatched), 1);
    assert!(!world.respond(retried.connection, &answer(&a.bytes)), "late, from elsewhere");
    assert!(world.got.is_empty());
    assert!(world.respond(retried.connection, &answer(&retried.bytes)));
    assert!(!world.respond(retried.connection, &answer(&retried.bytes)), "said twice");
    assert_eq!(world.take_got().len(), 1);
    assert!(world.dropped(DropReason::ResponseUnmatched) >= 2);
    world.finish();
}

#[test]
fn after_stop_outstanding_queries_are_answered_and_none_is_sent() {
    let mut world = world(stanza(2));
    world.ask(1, &Ask::new(1, "a.example"));
    let sent = world.only_sent();
    world.engine.stop();
    world.ask(2, &Ask::new(2, "b.example").with_edns(1_232));
    let got = world.only_got();
    assert_eq!((got.id(), got.rcode(), got.extended_error()), (2, 2, Some(23)));
    assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    assert_eq!(world.only_got().rcode(), 0);
    assert!(world.sockets.is_empty(), "it was closed when it came back");
    assert!(world.take_sent().is_empty());
    world.check_books();
}

#[test]
fn a_socket_that_fails_while_idle_affects_no_query() {
    let mut world = world(stanza(1));
    world.ask(1, &Ask::new(1, "a.example"));
    let sent = world.only_sent();
    assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    world.refuse(sent.connection);
    world.refuse(sent.connection);
    assert_eq!(world.closed.len(), 1);
    world.ask(1, &Ask::new(2, "b.example"));
    let again = world.only_sent();
    assert_ne!(again.connection, sent.connection);
    assert!(world.respond(again.connection, &answer(&again.bytes)));
    world.finish();
}
