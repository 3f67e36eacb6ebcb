//! Equal questions of several clients at once: one upstream query, and a reply for each client.
//!
//! Otherwise an attacker could provoke many equal queries and guess IDs against all of them (RFC
//! 5452 §5).

use crate::common::wire::{Ask, answer, random_case};
use crate::common::{Dice, at, config, stanza};
use crate::world::{World, client};
use onward::config::Forward;

fn world(forward: Forward) -> World {
    World::new(&config(vec![(".", vec![forward])]))
}

/// A thousand clients send the same question, each in its own letter case and with its own ID, some
/// with EDNS (which is not part of the question) and some milliseconds apart.
fn thousand_ask(world: &mut World) {
    let mut dice = Dice::new(3);
    for number in 0..1_000 {
        let name = random_case(&mut dice, b"some.popular-Name.example");
        let ask = Ask::new(dice.word(), std::str::from_utf8(&name).unwrap());
        let sizes = [512, 1_232, 4_096];
        let ask = if number % 3 == 0 { ask.with_edns(dice.pick(&sizes)) } else { ask };
        world.ask(number, &ask);
        if number % 100 == 0 {
            world.pass(0.001);
        }
    }
    assert_eq!(world.engine.stats().coalesced, 999);
    assert_eq!(world.engine.outstanding(), 1);
}

/// Checks that all thousand got a reply with this response code; the world checks IDs and spelling.
fn thousand_got(world: &mut World, rcode: u16) {
    let got = world.take_got();
    assert!(got.iter().all(|got| got.rcode() == rcode));
    let mut peers: Vec<_> = got.iter().map(|got| got.client.peer).collect();
    peers.sort_unstable();
    peers.dedup();
    assert_eq!((got.len(), peers.len()), (1_000, 1_000));
}

#[test]
fn a_thousand_equal_queries_are_answered_with_one_upstream_query() {
    let mut world = world(stanza(2));
    thousand_ask(&mut world);
    let sent = world.only_sent();
    assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    thousand_got(&mut world, 0);
    assert_eq!(world.finish().upstreams[0].sent, 1);
}

#[test]
fn coalesced_queries_fail_over_together() {
    let mut world = world(stanza(2));
    thousand_ask(&mut world);
    world.take_sent();
    world.advance(at(2.0));
    let sent = world.only_sent();
    world.ask(1_000, &Ask::new(5, "SOME.popular-name.example"));
    world.refuse(sent.connection);
    let sent = world.only_sent();
    assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    assert_eq!(world.got.pop().unwrap().client, client(1_000), "who came last is told last");
    thousand_got(&mut world, 0);
    world.finish();
}

#[test]
fn coalesced_queries_all_fail_when_no_upstream_answers() {
    let mut world = world(stanza(2));
    thousand_ask(&mut world);
    world.pass(10.0);
    assert_eq!(world.take_sent().len(), 3);
    thousand_got(&mut world, 2);
    world.finish();
}

#[test]
fn a_question_asked_after_the_answer_is_a_new_query() {
    let mut world = world(stanza(1));
    let ask = Ask::new(1, "a.example");
    for _ in 0..2 {
        world.ask(1, &ask);
        let sent = world.only_sent();
        assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    }
    assert_eq!(world.finish().coalesced, 0);
}

#[test]
fn questions_that_differ_in_more_than_letter_case_are_not_coalesced() {
    let same = Ask::new(1, "a.example");
    let edns = |dnssec_ok, options: &[u8]| Some((1_232, 0, dnssec_ok, options.to_vec()));
    let subnet = |last: u8| [0, 8, 0, 7, 0, 1, 24, 0, 192, 0, last];
    let different = [
        same.clone(),
        Ask { rtype: 28, ..same.clone() },
        Ask { class: 3, ..same.clone() },
        Ask { name: "b.example".to_owned(), ..same.clone() },
        Ask { name: "a.example.a".to_owned(), ..same.clone() },
        Ask { flags: 0, ..same.clone() },
        Ask { flags: 0x0110, ..same.clone() },
        Ask { flags: 0x0120, ..same.clone() },
        Ask { edns: edns(true, &[]), ..same.clone() },
        Ask { edns: edns(false, &subnet(2)), ..same.clone() },
        Ask { edns: edns(false, &subnet(3)), ..same.clone() },
    ];
    let mut world = world(stanza(1));
    for (number, ask) in different.iter().enumerate() {
        world.ask(number, ask);
    }
    let sent = world.take_sent();
    assert_eq!((sent.len(), world.engine.stats().coalesced), (different.len(), 0));
    // Not part of the question: presence of EDNS, its size, a cookie, the other flags.
    let cookie = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    for ask in
        [Ask { edns: edns(false, &cookie), ..same.clone() }, Ask { flags: 0x0140, ..same.clone() }]
    {
        world.ask(99, &ask);
    }
    assert!(world.take_sent().is_empty());
    for sent in &sent {
        assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    }
    assert_eq!(world.take_got().len(), different.len() + 2);
    world.finish();
}

#[test]
fn the_same_question_to_different_stanzas_is_not_coalesced() {
    let mut config = config(vec![(".", vec![stanza(1)]), ("other.test", vec![stanza(1)])]);
    let mut second = config.listeners[0].clone();
    second.zones = vec![(onward::config::Name::root(), 1)];
    config.listeners.push(second);
    let mut world = World::new(&config);
    let ask = Ask::new(1, "a.example").bytes();
    for listener in [0, 1, 0, 1] {
        let client = onward::engine::Client { listener, ..client(usize::from(listener)) };
        world.packet(client, &ask);
    }
    world.settle();
    let sent = world.take_sent();
    assert_eq!((sent.len(), world.engine.stats().coalesced), (2, 2));
    for sent in &sent {
        assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    }
    assert_eq!(world.take_got().len(), 4);
}
