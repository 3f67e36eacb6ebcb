//! Lifetimes of upstream connections, each closed at its exact deadline.
//!
//! Idle connections close by `expire`; busy ones, and those that rotation keeps from idling, by
//! `max_age`; those that only a burst needed, when the burst is over.

use crate::common::wire::{Ask, answer};
use crate::common::{at, config, stanza};
use crate::world::World;
use onward::config::{Forward, Sizing};
use onward::engine::key::Transport;
use onward::engine::{ConnectionId, PoolId, Sweep};
use onward::moment::Moment;
use std::time::Duration;

fn world(forward: Forward) -> World {
    World::new(&config(vec![(".", vec![forward])]))
}

/// Sends one query, answers it at once and returns its connection.
fn exchange(world: &mut World, number: usize) -> ConnectionId {
    world.ask(number, &Ask::new(1, &format!("n{number}.example")));
    let sent = world.only_sent();
    assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    world.take_got();
    sent.connection
}

#[test]
fn an_idle_connection_is_closed_after_expire() {
    let mut world = world(stanza(1));
    world.pass(3.0);
    let connection = exchange(&mut world, 1);
    world.pass(4.0);
    assert_eq!(exchange(&mut world, 2), connection);
    world.pass(60.0);
    assert_eq!(world.closed, [(at(17.0), connection)]);
    assert_eq!(world.finish().upstreams[0].pool.expired, 1);
}

#[test]
fn a_connection_that_rotation_keeps_busy_is_closed_by_max_age() {
    let max_age = Duration::from_secs(30);
    let sizing =
        Sizing { spread: 3, stream_spread: 1, max_conns: 8, max_inflight: 64, tcp_inflight: 32 };
    let mut world = world(Forward { max_age: Some(max_age), sizing, ..stanza(1) });
    let mut born = Vec::new();
    for number in 0..3 {
        born.push((world.now, exchange(&mut world, number)));
    }
    let mut number = 3;
    while world.now < at(29.9) {
        world.pass(0.1);
        exchange(&mut world, number);
        number += 1;
    }
    let aged = world.engine.stats().upstreams[0].pool.aged;
    while world.engine.stats().upstreams[0].pool.aged < 3 {
        assert!(world.now < at(30.1), "rotation outlasts max_age; {aged} closed at 29.9 s");
        world.pass(0.01);
        exchange(&mut world, number);
        number += 1;
    }
    for (born, connection) in born {
        let (closed, _) = world.closed.iter().find(|(_, closed)| *closed == connection).unwrap();
        let age = closed.since(born);
        assert!(age > max_age * 9 / 10 && age <= max_age, "closed at the age of {age:?}");
    }
    assert_eq!(world.engine.stats().upstreams[0].pool.expired, 0);
    world.finish();
}

#[test]
fn a_busy_connection_takes_no_new_query_after_max_age_and_closes_with_its_last() {
    let max_age = Some(Duration::from_secs(20));
    let sizing =
        Sizing { spread: 1, stream_spread: 1, max_conns: 1, max_inflight: 64, tcp_inflight: 32 };
    let mut world = world(Forward { max_age, sizing, ..stanza(1) });
    let connection = exchange(&mut world, 0);
    let mut outstanding = Vec::new();
    // Never idle: the next query is outstanding before one is answered.
    for number in 1.. {
        world.ask(number, &Ask::new(1, &format!("n{number}.example")));
        let Some(sent) = world.sent.pop() else {
            assert_eq!(world.only_got().rcode(), 2, "the one connection there may be is too old");
            break;
        };
        assert_eq!(sent.connection, connection);
        outstanding.push(sent);
        if outstanding.len() > 1 {
            let sent = outstanding.remove(0);
            assert!(world.respond(sent.connection, &answer(&sent.bytes)));
            world.take_got();
        }
        world.pass(0.5);
    }
    assert!(world.now > at(18.0) && world.now <= at(20.5), "at {:?}", world.now);
    assert_eq!(world.closed, [], "one query is on it");
    let last = outstanding.pop().unwrap();
    let now = world.now;
    assert!(world.respond(last.connection, &answer(&last.bytes)));
    assert_eq!(world.closed, [(now, connection)]);
    assert_ne!(exchange(&mut world, 1_000), connection);
    world.finish();
}

#[test]
fn a_burst_leaves_no_pool_behind() {
    let sizing =
        Sizing { spread: 4, stream_spread: 1, max_conns: 512, max_inflight: 1, tcp_inflight: 1 };
    let mut world = world(Forward { sizing, ..stanza(1) });
    for number in 0..200 {
        world.ask(number, &Ask::new(1, &format!("n{number}.example")));
    }
    for sent in world.take_sent() {
        assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    }
    assert_eq!(world.sockets.len(), 200);
    // 100 queries a second, one after the other: rotation passes each connection every two seconds.
    let mut number = 1_000;
    while world.now < at(25.0) {
        world.pass(0.01);
        exchange(&mut world, number);
        number += 1;
    }
    assert_eq!(world.sockets.len(), 4);
    world.finish();
}

#[test]
fn with_an_expiry_of_zero_each_batch_has_a_connection_of_its_own() {
    let mut world = world(Forward { expire: Duration::ZERO, ..stanza(1) });
    let connections: std::collections::BTreeSet<_> =
        (0..50).map(|number| exchange(&mut world, number)).collect();
    assert_eq!((connections.len(), world.closed.len()), (50, 50));
    for number in 0..10 {
        world.ask(number, &Ask::new(1, &format!("n{number}.example")));
    }
    world.pass(1.0);
    assert_eq!(world.sockets.len(), 10);
    world.finish();
}

#[test]
fn nothing_happens_without_queries() {
    let mut world = world(Forward { max_age: Some(Duration::from_secs(60)), ..stanza(3) });
    assert_eq!((world.engine.next_deadline(), world.engine.next_notice(world.now)), (None, None));
    world.advance(Moment::from_nanos(u64::MAX / 2));
    world.engine.on_sweep(world.now, Sweep::Pool(PoolId::new(0, Transport::Tcp)));
    world.settle();
    assert_eq!(world.engine.next_notice(world.now), None);
}
