//! `loop`: detection of forwarding loops.
//!
//! A probe that comes back ends forwarding for its server block; other probes change nothing.

use super::ask;
use crate::common::wire::{Writer, answer, question_of};
use crate::world::{Got, World, client, shown, world};
use onward::config::{Config, Host};
use onward::engine::Notice;
use std::net::SocketAddr;

/// The server blocks found in a forwarding loop since the last call, with the query's source.
fn loops(world: &mut World) -> Vec<(usize, SocketAddr)> {
    world.take_notices(|notice| match *notice {
        Notice::Looping { block, peer } => Some((block, peer)),
        _ => None,
    })
}

#[test]
fn a_query_of_our_own_that_comes_back_ends_forwarding_for_its_block() {
    let text = "looping.test plain.test {
        bind 127.0.0.1
        loop
        local
        forward . 192.0.2.1
    }
    . {
        bind 127.0.0.1
        forward . 192.0.2.2
    }";
    let (config, _) = Config::load(text.as_bytes(), "Corefile", &Host::plain()).unwrap();
    let mut world = World::new(&config);
    world.pass(0.0);
    let probe = world.only_sent();
    let name = &probe.bytes[13..13 + usize::from(probe.bytes[12])];
    let name = format!("{}.looping.test", str::from_utf8(name).unwrap());
    assert_eq!(question_of(&probe.bytes), ask(&name, 13).question());
    // A query that matches the probe in name or type only proves nothing.
    world.ask(1, &ask(&name, 1));
    world.ask(1, &ask("x.looping.test", 13));
    assert_eq!(world.take_sent().len(), 2);
    assert_eq!(loops(&mut world), []);

    world.ask(2, &ask(&name.to_uppercase(), 13));
    assert_eq!((shown(&world.only_got()).as_str(), world.sent.len()), ("SERVFAIL rd ra", 0));
    assert_eq!(loops(&mut world), [(0, client(2).peer)]);
    world.ask(2, &ask(&name, 13));
    assert_eq!(loops(&mut world), [], "it is news once");
    world.ask(3, &ask("a.plain.test", 1));
    world.ask(4, &ask("localhost.plain.test", 1));
    let got: Vec<_> = world.take_got().iter().map(Got::rcode).collect();
    assert_eq!(got, [2, 2, 0], "what the block answers itself it goes on answering");
    world.ask(5, &ask("other.test", 1));
    let sent = world.only_sent();
    assert!(world.respond(sent.connection, &answer(&sent.bytes)), "another block is served");

    let health_states = std::sync::Arc::new(onward::engine::health::HealthStates::new(&config));
    world.engine.reload(world.now, &config, &[Some(0)], health_states);
    world.settle();
    world.pass(0.0);
    let probe = world.only_sent();
    let before = world.engine.outstanding();
    world.respond(probe.connection, &answer(&probe.bytes));
    assert_eq!(world.engine.outstanding(), before - 1);
    world.pass(6.0);
    world.take_got();
    world.take_sent();
    world.ask(6, &ask("a.plain.test", 1));
    assert_eq!(world.sent.len(), 1, "with a new configuration it forwards again");
    let stats = world.finish();
    assert_eq!(stats.stages.loops.refused, 3);
}

#[test]
fn a_probe_that_comes_back_late_or_is_answered_means_nothing() {
    let mut world = world("loop\n forward . 192.0.2.1");
    world.pass(0.0);
    let probe = world.only_sent();
    let question = question_of(&probe.bytes).to_vec();
    world.respond(probe.connection, &answer(&probe.bytes));
    assert_eq!(world.engine.outstanding(), 0);
    world.pass(10.0);
    let mut late = Writer::new([9, 0x0100, 1, 0, 0, 0]);
    late.bytes.extend_from_slice(&question);
    world.packet(client(1), &late.bytes);
    world.settle();
    assert_eq!((loops(&mut world), world.sent.len()), (vec![], 1), "it is forwarded");
    let sent = world.only_sent();
    world.respond(sent.connection, &answer(&sent.bytes));
    assert_eq!(world.finish().stages.loops.refused, 0);
}
