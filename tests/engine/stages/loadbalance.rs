//! `loadbalance`: the order of the addresses in an answer.
//!
//! Each client gets an order of its own, with preferred networks first.

use super::{ask, response};
use crate::world::{shown, world};
use std::collections::BTreeSet;

#[test]
fn each_client_gets_the_addresses_in_an_order_of_its_own() {
    let mut world = world("loadbalance {\n prefer 10.0.0.0/8\n}\n forward . 192.0.2.1");
    let answers: Vec<[u8; 4]> = (1..=4).map(|last| [192, 0, 2, last]).collect();
    let mut answers: Vec<(u16, &[u8])> = answers.iter().map(|data| (1, &data[..])).collect();
    answers.push((1, &[10, 0, 0, 1]));
    for number in 0..100 {
        world.ask_within_turn(number, &ask("a.test", 1));
    }
    world.settle();
    let sent = world.only_sent();
    assert!(world.respond(sent.connection, &response(&sent.bytes, 0, [&answers, &[], &[]])));
    let orders: Vec<String> = world.take_got().iter().map(shown).collect();
    let first = "NOERROR rd ra\nAN a.test 60 A 10.0.0.1\n";
    assert!(orders.iter().all(|order| order.starts_with(first)), "{}", orders[0]);
    let distinct: BTreeSet<&String> = orders.iter().collect();
    assert!((18..=24).contains(&distinct.len()), "{} of 24 orders", distinct.len());
    world.finish();
}
