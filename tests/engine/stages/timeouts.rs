//! `timeouts`: the idle time-out of clients' connections.
//!
//! Clients that ask for it learn the time-out (RFC 7828).

use super::{ask, options};
use crate::common::at;
use crate::common::wire::Ask;
use crate::world::{client, world};
use onward::engine::{Client, Via};
use std::net::IpAddr;

#[test]
fn keepalive_has_the_blocks_idle_timeout() {
    let mut world = world("timeouts {\n idle 3s\n}\n any");
    let address = IpAddr::from([192, 0, 2, 1]);
    let (connection, _) = world.engine.admit(world.now, 0, address).unwrap();
    let client = Client { via: Via::Connection(connection), ..client(1) };
    let asks = Ask { edns: Some((1_232, 0, false, vec![0, 11, 0, 0])), ..ask("a.test", 255) };
    world.packet(client, &asks.bytes());
    assert_eq!(options(&world.only_got()), Some(vec![(11, vec![0, 30])]));
    assert_eq!(world.engine.clients.next_deadline(), Some(at(3.0)));
    world.engine.clients.close(connection);
    world.finish();
}
