//! Error log records.
//!
//! Each client that gets an error made by this server causes a record, with the result of the last
//! attempt; responses of an upstream or a cache cause none.

use crate::common::upstream_address;
use crate::common::wire::{Ask, answer, wire_name};
use crate::world::{World, world};
use onward::engine::Notice;
use onward::engine::errors::{Fault, Operation, QueryError, Reason};
use onward::engine::key::Transport;
use onward::engine::message::Rcode;

const FORWARD: &str = "forward . 192.0.2.1 {\n max_connect_attempts 1\n }";

/// The error records since the last call.
fn records(world: &mut World) -> Vec<QueryError> {
    world.take_notices(|notice| match notice {
        Notice::Error(error) => Some(*error),
        _ => None,
    })
}

#[test]
fn every_client_whose_query_found_no_answer_leaves_a_record() {
    let mut world = world(&format!("errors\n {FORWARD}"));
    world.ask(1, &Ask::new(1, "a.Example"));
    world.ask(2, &Ask::new(2, "A.example"));
    assert_eq!(world.take_sent().len(), 1, "the second waits with the first");
    assert_eq!(records(&mut world), []);
    world.pass(3.0);
    assert_eq!(world.take_got().len(), 2);
    let late = Reason::Attempt(Operation::Read, Fault::TimedOut);
    let upstream = Some((upstream_address(0), Transport::Udp));
    let name = wire_name("a.example");
    let found = records(&mut world);
    assert_eq!(found.len(), 2);
    for error in found {
        assert!(error.name().eq_ignore_ascii_case(&name), "{:?}", error.name());
        assert_eq!((error.block, error.rtype, error.rcode), (0, 1, Rcode::ServFail));
        assert_eq!((error.reason, error.upstream), (late, upstream));
    }
    let stats = world.finish();
    assert_eq!(stats.errors_lost, 0);
}

#[test]
fn the_record_says_how_the_last_attempt_failed() {
    let mut world = world(&format!("errors\n {FORWARD}"));
    world.ask(1, &Ask::new(1, "a.example"));
    let connection = world.only_sent().connection;
    let (now, fault) = (world.now, Fault::System(111));
    world.engine.on_connection_error(now, connection, Operation::Read, fault);
    world.settle();
    let found = records(&mut world);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].reason, Reason::Attempt(Operation::Read, fault));
    assert_eq!(world.only_got().rcode(), 2);
    world.finish();
}

#[test]
fn upstream_errors_and_local_replies_leave_no_record() {
    let mut world = world(&format!("errors\n any\n {FORWARD}"));
    world.ask(1, &Ask::new(1, "a.example"));
    let sent = world.only_sent();
    let mut packet = answer(&sent.bytes);
    packet[3] |= Rcode::ServFail as u8;
    assert!(world.respond(sent.connection, &packet));
    assert_eq!(world.only_got().rcode(), 2);
    world.ask(1, &Ask { rtype: 255, ..Ask::new(2, "a.example") });
    assert_eq!(world.only_got().rcode(), 0);
    assert_eq!(records(&mut world), []);
    world.finish();
}

#[test]
fn errors_are_recorded_only_with_the_directive() {
    let mut world = world(FORWARD);
    world.ask(1, &Ask::new(1, "a.example"));
    world.pass(3.0);
    assert_eq!((world.only_got().rcode(), records(&mut world)), (2, vec![]));
    world.take_sent();
    world.reload(&crate::world::corefile(&format!("errors\n {FORWARD}")));
    world.ask(1, &Ask::new(2, "a.example"));
    world.pass(3.0);
    assert_eq!((world.only_got().rcode(), records(&mut world).len()), (2, 1));
    world.finish();
}

#[test]
fn an_unsent_query_leaves_a_record_with_its_reason() {
    let forward = "forward . 192.0.2.1 {\n except no.example\n max_concurrent 1\n }";
    let mut world = world(&format!("errors\n {forward}"));
    world.ask(1, &Ask::new(1, "no.example"));
    world.ask(2, &Ask::new(2, "a.example"));
    world.ask(3, &Ask::new(3, "b.example"));
    let codes: Vec<_> = world.take_got().iter().map(|got| got.rcode()).collect();
    assert_eq!(codes, [2, 5]);
    let found = records(&mut world);
    let found: Vec<_> =
        found.iter().map(|error| (error.rcode, error.reason, error.upstream)).collect();
    let full = (Rcode::Refused, Reason::TooManyConcurrent(0), None);
    assert_eq!(found, [(Rcode::ServFail, Reason::NobodyForwards, None), full]);
    world.pass(10.0);
    world.finish();
}

#[test]
fn a_remembered_failure_leaves_none_and_an_expired_answer_in_its_place_neither() {
    let cache = "cache {\n serve_stale 1h verify\n servfail 5s\n }";
    let mut world = world(&format!("errors\n {cache}\n {FORWARD}"));
    world.ask(1, &Ask::new(1, "a.example"));
    world.pass(2.5);
    assert_eq!((world.only_got().rcode(), records(&mut world).len()), (2, 1));
    world.ask(1, &Ask::new(2, "a.example"));
    assert_eq!((world.only_got().rcode(), records(&mut world).len()), (2, 0));
    world.take_sent();
    world.ask(1, &Ask::new(3, "b.example"));
    let sent = world.only_sent();
    world.respond(sent.connection, &answer(&sent.bytes));
    world.take_got();
    world.pass(400.0);
    world.ask(1, &Ask::new(4, "b.example"));
    world.pass(6.0);
    assert_eq!((world.only_got().rcode(), records(&mut world).len()), (0, 0));
    world.finish();
}
