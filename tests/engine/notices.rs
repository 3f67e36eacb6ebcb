//! Notices that cannot be delivered at once.
//!
//! While the keeper's mailbox is full, its notices are repeated later, and notices for the writer
//! are not delayed.

use crate::common::wire::{Ask, answer};
use crate::world::{World, world};
use onward::engine::Notice;
use onward::engine::errors::QueryError;

const FORWARD: &str = "forward . 192.0.2.1 {\n max_connect_attempts 1\n }";

fn errors(world: &mut World) -> Vec<QueryError> {
    world.take_notices(|notice| match notice {
        Notice::Error(error) => Some(*error),
        _ => None,
    })
}

fn failing(world: &mut World) -> Vec<usize> {
    world.take_notices(|notice| match notice {
        Notice::Failing(upstream) => Some(*upstream),
        _ => None,
    })
}

#[test]
fn an_undelivered_wake_up_request_is_repeated() {
    let mut world = world(FORWARD);
    world.keeper_busy = true;
    world.ask(1, &Ask::new(1, "a.example"));
    let sent = world.only_sent();
    world.respond(sent.connection, &answer(&sent.bytes));
    assert!(!world.settle() && !world.settle(), "it is put back each time");
    world.pass(60.0);
    assert_eq!(world.closed, [], "no sweep was asked for");
    world.keeper_busy = false;
    assert!(world.settle());
    world.pass(0.0);
    assert_eq!(world.closed.len(), 1, "its time had come long ago");
    world.finish();
}

#[test]
fn a_failing_upstream_is_reported_with_its_next_failure() {
    let mut world = world(FORWARD);
    world.keeper_busy = true;
    world.ask(1, &Ask::new(1, "a.example"));
    world.pass(3.0);
    world.keeper_busy = false;
    world.settle();
    assert!(failing(&mut world).is_empty(), "its report was lost");
    for number in [2, 3] {
        world.ask(number, &Ask::new(1, "a.example"));
        world.pass(3.0);
    }
    assert_eq!(failing(&mut world), [0], "once, until the keeper has looked");
    world.take_sent();
    world.finish();
}

#[test]
fn notices_for_the_writer_do_not_wait_for_the_keeper() {
    let mut world = world("errors\n forward . 192.0.2.1 {\n max_age 1h\n max_concurrent 1\n }");
    world.keeper_busy = true;
    for number in 0..3 {
        world.ask(number, &Ask::new(1, &format!("n{number}.example")));
    }
    assert!(!world.settle(), "the keeper is to wake the pool");
    assert_eq!(errors(&mut world).len(), 2, "one at a time");
    world.keeper_busy = false;
    world.take_sent();
    world.finish();
}
