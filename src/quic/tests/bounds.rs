//! Bounds on the resources of clients: handshakes of an address, bytes of incomplete queries.
//!
//! Each test uses up one bound and asserts that no more is granted.

use super::world::{READ, WAY, World, query, settings};
use super::{EXCESSIVE_LOAD, Settings, is_refusal};

#[test]
fn incomplete_queries_hold_a_bounded_number_of_bytes() {
    let mut world = World::with(25, Settings { requests_max: 20, ..settings() });
    let handle = world.connected();
    let begun = &query(4_000, 1)[..4_001];
    let mut streams = Vec::new();
    for _ in 0..17 {
        streams.push(world.open(handle, begun, false).unwrap());
        world.run(WAY * 4);
    }
    let resets: Vec<_> = streams.iter().map(|id| world.received(handle, *id).reset).collect();
    assert_eq!(resets, [vec![None; 16], vec![Some(EXCESSIVE_LOAD)]].concat());
}

#[test]
fn one_address_gets_a_share_of_the_handshakes() {
    let mut world = World::new(23);
    world.may_shake = false;
    for _ in 0..130 {
        world.connect();
    }
    world.run(WAY * 4);
    assert_eq!((world.endpoint.waiting(), world.lost.len()), (128, 2));
    assert!(world.lost.iter().all(is_refusal), "{:?}", world.lost);
    world.connections.clear();
    world.peer = "198.51.100.7:999".parse().unwrap();
    let handle = world.connect();
    world.run(WAY * 4);
    assert_eq!(world.endpoint.waiting(), 129);
    world.may_shake = true;
    world.run(WAY * 4);
    let id = world.open(handle, &query(20, 1), true).unwrap();
    world.run(WAY * 4);
    assert!(world.received(handle, id).is_finished);
    world.run(READ);
    // The handshakes that are over make room.
    world.peer = "192.0.2.9:4000".parse().unwrap();
    world.connected();
    assert_eq!((world.owners.len(), world.endpoint.counts().2), (2, 0));
}
