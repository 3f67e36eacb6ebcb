//! Packets from an upstream's address that are not the response to a query.
//!
//! None ends an exchange, each is counted by its defect, and the right response is still accepted.

use crate::common::wire::{Ask, answer, word_at};
use crate::common::{Dice, config, stanza};
use crate::world::{Sent, World, corefile};
use onward::engine::Notice;
use onward::engine::health::{Quirk, Remark};
use onward::engine::stats::DropReason;

fn world() -> World {
    World::new(&config(vec![(".", vec![stanza(1)])]))
}

/// A change that makes a right response wrong.
type Forge = fn(&mut Vec<u8>);

/// Checks that the right response is accepted and nothing is left.
fn still_answers(mut world: World, sent: &Sent) {
    assert!(world.got.is_empty(), "somebody was told a lie");
    assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    assert_eq!(world.only_got().rcode(), 0);
    world.finish();
}

#[test]
fn a_wrong_packet_is_dropped_and_counted_and_the_exchange_goes_on() {
    let forgeries: [(_, _, Forge); 19] = [
        ("wrong id", DropReason::ResponseUnmatched, |packet| packet[0] ^= 1),
        ("wrong id", DropReason::ResponseUnmatched, |packet| packet[1] ^= 0x80),
        ("wrong name", DropReason::ResponseWrongQuestion, |packet| packet[14] ^= 1),
        ("wrong length", DropReason::ResponseWrongQuestion, |packet| packet[12] ^= 1),
        ("wrong type", DropReason::ResponseWrongQuestion, |packet| packet[24] ^= 1),
        ("wrong class", DropReason::ResponseWrongQuestion, |packet| packet[26] ^= 1),
        ("QR=0", DropReason::ResponseMalformed, |packet| packet[2] &= 0x7f),
        ("an opcode", DropReason::ResponseMalformed, |packet| packet[2] |= 0x10),
        ("no question", DropReason::ResponseMalformed, |packet| packet[5] = 0),
        ("two questions", DropReason::ResponseMalformed, |packet| packet[5] = 2),
        ("half a header", DropReason::ResponseMalformed, |packet| packet.truncate(6)),
        ("nothing", DropReason::ResponseMalformed, Vec::clear),
        ("a header alone", DropReason::ResponseWrongQuestion, |packet| packet.truncate(12)),
        ("cut in a record", DropReason::ResponseMalformed, |packet| packet.truncate(40)),
        ("too many records", DropReason::ResponseMalformed, |packet| packet[7] = 9),
        ("an owner that loops", DropReason::ResponseMalformed, |packet| packet[30] = 29),
        ("an owner further on", DropReason::ResponseMalformed, |packet| packet[30] = 33),
        ("an address of five bytes", DropReason::ResponseMalformed, |packet| {
            packet[40] = 5;
            packet.push(0);
        }),
        ("an alias that loops", DropReason::ResponseMalformed, |packet| {
            (packet[32], packet[40]) = (5, 2);
            packet.truncate(41);
            packet.extend([0xc0, 41]);
        }),
    ];
    for (what, reason, forge) in forgeries {
        let mut world = world();
        world.ask(1, &Ask::new(1, "abc.example"));
        let sent = world.only_sent();
        let mut packet = answer(&sent.bytes);
        forge(&mut packet);
        assert!(!world.respond(sent.connection, &packet), "{what}");
        assert_eq!(world.dropped(reason), 1, "{what}");
        assert_eq!(world.engine.stats().drops.iter().sum::<u64>(), 1, "{what}");
        assert_eq!(world.engine.outstanding(), 1, "{what}");
        still_answers(world, &sent);
    }
}

#[test]
fn an_answer_on_another_connection_is_dropped() {
    let mut world = world();
    world.ask(1, &Ask::new(1, "a.example"));
    let a = world.only_sent();
    world.ask(2, &Ask::new(1, "b.example"));
    let b = world.only_sent();
    assert_ne!(a.connection, b.connection);
    assert!(!world.respond(b.connection, &answer(&a.bytes)));
    assert_eq!(world.dropped(DropReason::ResponseUnmatched), 1);
    assert!(world.respond(b.connection, &answer(&b.bytes)));
    world.take_got();
    still_answers(world, &a);
}

#[test]
fn garbage_ends_nothing() {
    let mut world = world();
    let mut dice = Dice::new(1);
    world.ask(1, &Ask::new(1, "a.example"));
    let mut sent = world.only_sent();
    for _ in 0..10_000 {
        let length = dice.below(600);
        let mut packet = dice.bytes(length);
        if length > 12 && dice.one_in(2) {
            packet[..12].copy_from_slice(&answer(&sent.bytes)[..12]);
        }
        assert!(!world.respond(sent.connection, &packet));
        // A burst moves the query to TCP.
        if let Some(moved) = world.take_sent().pop() {
            sent = moved;
        }
    }
    still_answers(world, &sent);
}

#[test]
fn a_million_spoofed_responses_do_not_end_an_exchange() {
    let mut world = world();
    world.ask(1, &Ask::new(1, "a.example"));
    let sent = world.only_sent();
    let right = answer(&sent.bytes);
    let mut dice = Dice::new(2);
    let mut spoofed = right.clone();
    let mut wrong_ids = 0;
    while wrong_ids < 1_000_000 {
        let id = dice.word();
        if id != word_at(&right, 0) {
            spoofed[..2].copy_from_slice(&id.to_be_bytes());
            assert!(
                world.engine.on_response(world.now, sent.connection, &spoofed, false).is_none()
            );
            wrong_ids += 1;
        }
    }
    // Every ID, with a question for another name.
    spoofed[13] ^= 1;
    for id in 0..=u16::MAX {
        spoofed[..2].copy_from_slice(&id.to_be_bytes());
        assert!(world.engine.on_response(world.now, sent.connection, &spoofed, false).is_none());
    }
    assert_eq!(world.dropped(DropReason::ResponseUnmatched), 1_000_000 + 65_536);
    world.settle();
    assert!(!world.sockets.contains_key(&sent.connection), "the port is closed");
    let over_tcp = world.only_sent();
    assert_eq!(world.engine.stats().upstreams[0].mismatch_bursts, 1);
    let remark = Remark { upstream: 0, quirk: Quirk::Mismatches, rcode: 0 };
    let told = world.take_notices(|notice| match notice {
        Notice::Odd(remark) => Some(*remark),
        _ => None,
    });
    assert_eq!(told, [remark]);
    still_answers(world, &over_tcp);
}

#[test]
fn blind_forgeries_against_each_new_port_find_no_query() {
    let mut world = world();
    let mut dice = Dice::new(3);
    let mut forged = 0_u64;
    for round in 0..5_000 {
        world.ask(1, &Ask::new(round, "a.example"));
        let sent = world.only_sent();
        // The attacker knows the port at once, and guesses IDs until the port is closed.
        while world.sockets.contains_key(&sent.connection) {
            let mut spoofed = answer(&sent.bytes);
            spoofed[..2].copy_from_slice(&dice.word().to_be_bytes());
            if spoofed[..2] != sent.bytes[..2] {
                assert!(!world.respond(sent.connection, &spoofed));
                forged += 1;
            }
        }
        let over_tcp = world.only_sent();
        assert!(world.respond(over_tcp.connection, &answer(&over_tcp.bytes)));
        assert_eq!(world.only_got().rcode(), 0);
    }
    assert_eq!(forged, 8 * 5_000, "guesses at each port");
    world.finish();
}

#[test]
fn a_network_that_doubles_each_response_costs_one_connection_in_256() {
    let mut world = World::new(&corefile("forward . 192.0.2.1 {\n max_conns 1\n}"));
    for round in 1..=600 {
        world.ask(1, &Ask::new(round, "a.example"));
        let sent = world.only_sent();
        assert!(world.respond(sent.connection, &answer(&sent.bytes)));
        assert!(!world.respond(sent.connection, &answer(&sent.bytes)));
        assert_eq!(world.only_got().rcode(), 0);
    }
    let stats = world.finish();
    assert_eq!((stats.upstreams[0].mismatch_bursts, stats.upstreams[0].pool.opened), (2, 3));
    assert_eq!(stats.upstreams[0].tcp.opened, 0, "no query was on them");
}

#[test]
fn an_answer_in_another_letter_case_is_accepted_and_the_client_gets_its_own() {
    let mut world = world();
    let ask = Ask::new(1, "wWw.eXample");
    world.ask(1, &ask);
    let sent = world.only_sent();
    let mut packet = answer(&sent.bytes);
    packet[13..16].make_ascii_uppercase();
    assert!(world.respond(sent.connection, &packet));
    assert_eq!(world.take_got().len(), 1, "its spelling was checked on the way");
    world.finish();
}

#[test]
fn a_response_that_the_buffer_did_not_hold_becomes_tc() {
    let mut world = world();
    world.ask(1, &Ask::new(1, "a.example"));
    let sent = world.only_sent();
    let mut packet = answer(&sent.bytes);
    packet.truncate(50);
    let answered = world.engine.on_response(world.now, sent.connection, &packet, true).unwrap();
    let mut out = [0; 1_232];
    let reply = world.engine.next_reply(&answered, &packet, &mut out).unwrap();
    assert!(world.engine.next_reply(&answered, &packet, &mut out).is_none());
    assert_eq!(word_at(&out, 2) & 0x0200, 0x0200);
    assert_eq!((word_at(&out, 6), word_at(&out, 8), word_at(&out, 10)), (0, 0, 0));
    assert_eq!(reply.len, 12 + sent.bytes.len() - 12 - 11);
    assert_eq!(world.engine.outstanding(), 0);
}
