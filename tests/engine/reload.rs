//! Reloads while queries are outstanding.
//!
//! In each case every client gets one reply, unchanged upstreams keep their connections, and those
//! of removed upstreams are closed.

use crate::common::wire::{Ask, answer};
use crate::common::{Dice, at, config, for_seeds, stanza, upstream_address};
use crate::world::{Sent, World};
use onward::config::{Config, Forward, Upstream};
use std::time::Duration;

/// A stanza with the upstreams of these numbers.
fn to(upstreams: &[usize]) -> Forward {
    let upstream =
        |number: &usize| Upstream { address: upstream_address(*number), tls: None, http: None };
    Forward { upstreams: upstreams.iter().map(upstream).collect(), ..stanza(1) }
}

fn all_to(upstreams: &[usize]) -> Config {
    config(vec![(".", vec![to(upstreams)])])
}

impl World {
    fn ask_one(&mut self, number: usize, name: &str) -> Sent {
        self.ask(number, &Ask::new(7, name));
        self.only_sent()
    }
}

#[test]
fn a_query_to_an_upstream_that_stays_is_answered_as_if_nothing_had_happened() {
    let mut world = World::new(&all_to(&[0, 1]));
    let sent = world.ask_one(1, "a.example");
    world.pass(0.5);
    world.reload(&all_to(&[2, 0]));
    assert!(world.sent.is_empty() && world.got.is_empty() && world.closed.is_empty());
    assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    assert_eq!(world.only_got().rcode(), 0);
    let stats = world.finish();
    assert_eq!([stats.upstreams[0].answered, stats.upstreams[1].answered], [0, 1]);
    assert_eq!([stats.upstreams[0].sent, stats.upstreams[1].sent], [0, 1], "the books move along");
}

#[test]
fn an_attempt_keeps_its_timeout_and_its_retry_uses_the_new_configuration() {
    let mut world = World::new(&all_to(&[0]));
    world.ask_one(1, "a.example");
    world.pass(1.0);
    let read_timeout = Duration::from_millis(300);
    let new = Forward { read_timeout, ..to(&[0, 2]) };
    world.reload(&config(vec![(".", vec![new])]));
    world.pass(0.9);
    assert!(world.take_sent().is_empty());
    world.pass(0.2);
    let retry = world.only_sent();
    assert_eq!((retry.to, retry.at), (upstream_address(2), at(2.0)));
    assert!(world.respond(retry.connection, &answer(&retry.bytes)));
    assert_eq!(world.only_got().rcode(), 0);
    world.finish();
}

#[test]
fn a_query_to_an_upstream_that_is_gone_starts_again() {
    let mut world = World::new(&all_to(&[0]));
    let late = world.ask_one(1, "a.example");
    world.reload(&all_to(&[1]));
    let sent = world.only_sent();
    assert_eq!(sent.to, upstream_address(1));
    assert_eq!(world.closed.len(), 1, "nobody needs the old connection");
    assert!(!world.respond(late.connection, &answer(&late.bytes)), "nor what comes on it");
    assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    assert_eq!(world.only_got().rcode(), 0);
    world.finish();
}

#[test]
fn a_query_without_a_block_fails_at_once_unless_its_upstream_stays() {
    let mut world = World::new(&all_to(&[0, 1]));
    let kept = world.ask_one(1, "a.example");
    world.reload(&config(vec![("other", vec![to(&[0])])]));
    assert!(world.got.is_empty(), "its upstream may answer yet");
    assert!(world.respond(kept.connection, &answer(&kept.bytes)));
    assert_eq!(world.only_got().rcode(), 0);
    world.ask_one(2, "b.other");
    world.reload(&all_to(&[]));
    assert_eq!(world.only_got().rcode(), 2);
    world.finish();
}

#[test]
fn idle_connections_stay_and_are_used() {
    let mut world = World::new(&all_to(&[0, 1]));
    let first = world.ask_one(1, "a.example");
    assert!(world.respond(first.connection, &answer(&first.bytes)));
    world.reload(&all_to(&[1, 0]));
    world.reload(&all_to(&[0]));
    let second = world.ask_one(1, "b.example");
    assert_eq!(second.connection, first.connection);
    assert!(world.respond(second.connection, &answer(&second.bytes)));
    let stats = world.finish();
    assert_eq!((stats.upstreams[0].pool.opened, stats.upstreams[0].pool.reused), (1, 1));
}

#[test]
fn an_equal_query_after_a_reload_is_coalesced() {
    let mut world = World::new(&all_to(&[0]));
    let sent = world.ask_one(1, "a.example");
    world.reload(&config(vec![("zone", vec![to(&[3])]), (".", vec![to(&[0])])]));
    world.ask(2, &Ask::new(8, "A.example"));
    assert!(world.sent.is_empty());
    assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    assert_eq!(world.take_got().len(), 2);
    assert_eq!(world.finish().coalesced, 1);
}

#[test]
fn waiting_queries_count_against_the_new_limit() {
    let mut world = World::new(&all_to(&[0]));
    let sent: Vec<_> = (1..=3).map(|n| world.ask_one(n, &format!("n{n}.example"))).collect();
    let limited = Forward { max_concurrent: Some(3), ..to(&[0]) };
    world.reload(&config(vec![(".", vec![limited])]));
    world.ask(4, &Ask::new(7, "n4.example"));
    assert_eq!(world.only_got().rcode(), 5);
    assert!(world.respond(sent[0].connection, &answer(&sent[0].bytes)));
    world.ask(5, &Ask::new(7, "n5.example"));
    assert_eq!(world.take_got().len(), 1, "there is room again");
    world.finish();
}

#[test]
fn a_new_age_limit_holds_for_connections_that_were_dialled_before() {
    let mut world = World::new(&all_to(&[0]));
    let sent = world.ask_one(1, "a.example");
    assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    world.pass(5.0);
    let expire = Duration::from_secs(8);
    let aging = Forward { expire, max_age: Some(expire), ..to(&[0]) };
    world.reload(&config(vec![(".", vec![aging.clone()])]));
    assert!(world.closed.is_empty());
    world.pass(3.0);
    assert_eq!(world.closed.len(), 1);
    let stats = world.engine.stats();
    assert_eq!(stats.upstreams[0].pool.aged + stats.upstreams[0].pool.expired, 1);

    let sent = world.ask_one(1, "b.example");
    assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    world.pass(7.0);
    world.reload(&config(vec![(".", vec![Forward { max_age: None, ..aging }])]));
    let again = world.ask_one(1, "c.example");
    assert_eq!(again.connection, sent.connection);
    world.finish();
}

#[test]
fn a_pool_above_its_new_limit_closes_idle_connections_and_drains_the_rest() {
    let wide = |max_conns| {
        let mut forward = to(&[0]);
        forward.sizing.spread = max_conns;
        forward.sizing.max_conns = max_conns;
        config(vec![(".", vec![forward])])
    };
    let mut world = World::new(&wide(10));
    let sent: Vec<_> = (0..10).map(|n| world.ask_one(n, &format!("n{n}.example"))).collect();
    for sent in &sent[..6] {
        assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    }
    world.reload(&wide(2));
    assert_eq!((world.closed.len(), world.sockets.len()), (6, 4));
    for sent in &sent[6..] {
        assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    }
    assert_eq!(world.take_got().len(), 10);
    // Many more upstreams than slots, in another block: every table has grown to its maximum.
    world.reload(&config(vec![(".", vec![to(&[0]), to(&[1])])]));
    world.finish();
}

#[test]
fn a_storm_of_configurations_loses_nothing() {
    for_seeds(0..50, |dice| {
        let mut world = World::new(&all_to(&[0, 1, 2]));
        for step in 0..400 {
            match dice.below(8) {
                0..4 => world.ask(step, &Ask::new(step as u16, &format!("n{step}.example"))),
                4 => {
                    let renewed = any_config(dice);
                    world.reload(&renewed);
                }
                5 => world.pass(0.1 * dice.below(15) as f64),
                _ => {}
            }
            while !world.sent.is_empty() && !dice.one_in(3) {
                let sent = world.sent.swap_remove(dice.below(world.sent.len()));
                // A response on a closed connection matches nothing.
                world.respond(sent.connection, &answer(&sent.bytes));
            }
            world.check_books();
        }
        world.finish();
    });
}

fn any_config(dice: &mut Dice) -> Config {
    let stanza = |dice: &mut Dice| {
        let mut upstreams: Vec<usize> = (0..6).filter(|_| dice.one_in(2)).collect();
        upstreams.push(7);
        let mut forward = to(&upstreams);
        forward.expire = Duration::from_millis(200 + 100 * dice.below(10) as u64);
        forward.max_age = dice.one_in(2).then(|| forward.expire * 2);
        forward.max_idle_conns = dice.one_in(3).then(|| 1 + dice.below(3));
        forward.max_concurrent = dice.one_in(5).then_some(3);
        forward.read_timeout = Duration::from_millis(dice.pick(&[300, 500, 2_000]));
        forward.sizing.spread = 1 + dice.below(8);
        forward.sizing.max_conns = 1 + dice.below(20);
        forward.sizing.max_inflight = 1 + dice.below(8);
        forward.sizing.tcp_inflight = 1 + dice.below(8);
        forward
    };
    let zone = dice.pick(&[".", "example", "other"]);
    let mut blocks = vec![(zone, vec![stanza(dice)])];
    if zone != "." {
        blocks.push((".", vec![stanza(dice), stanza(dice)]));
    }
    config(blocks)
}

#[test]
fn an_equal_query_joins_one_on_a_connection_after_a_reload() {
    let config = config(vec![(".", vec![Forward { force_tcp: true, ..to(&[0]) }])]);
    let mut world = World::new(&config);
    let sent = world.ask_one(1, "a.example");
    world.reload(&config);
    world.ask(2, &Ask::new(8, "A.example"));
    assert!(world.take_sent().is_empty());
    assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    assert_eq!(world.take_got().len(), 2);
    assert_eq!(world.finish().coalesced, 1);
}
