//! `cancel`: the maximum time of a query in its server block.
//!
//! The client gets an error exactly at the deadline. An answer in time is delivered.

use super::ask;
use crate::common::at;
use crate::common::wire::answer;
use crate::world::World;
use onward::config::{Config, Host};

#[test]
fn a_query_ends_when_its_blocks_time_is_up_and_not_a_nanosecond_later() {
    let text = "a. {
        bind 127.0.0.1
        cancel 700ms
        forward . 192.0.2.1
    }
    . {
        bind 127.0.0.1
        cancel 9s
        forward . 192.0.2.1
    }";
    let (config, _) = Config::load(text.as_bytes(), "Corefile", &Host::plain()).unwrap();
    let mut world = World::new(&config);
    world.ask(1, &ask("b", 1));
    world.pass(0.1);
    world.ask(2, &ask("x.a", 1));
    world.pass(0.1);
    world.ask(3, &ask("y.a", 1));
    world.pass(20.0);
    let got: Vec<_> = world.take_got().iter().map(|got| (got.at, got.rcode())).collect();
    // The slow query ends with its second attempt, by the reference's cap on attempts.
    assert_eq!(got, [(at(0.8), 2), (at(0.9), 2), (at(4.0), 2)]);
    world.ask(1, &ask("x.a", 1));
    let first = world.take_sent().pop().unwrap();
    world.pass(0.699);
    assert!(world.respond(first.connection, &answer(&first.bytes)), "in time");
    assert_eq!(world.only_got().rcode(), 0);
    world.finish();
}
