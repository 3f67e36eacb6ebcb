//! Who may have which zone: rows 73 to 75 of the conformance rows, keys, and the messages.
//!
//! What is granted is drawn here as the thread beside the workers does it, and read with `domain`.

use super::file::{hasher, world_with, zone};
use crate::common::wire::{Ask, Writer, wire_name, word_at};
use crate::world::{World, client, shown};
use domain::base::Message;
use domain::base::iana::Rtype;
use onward::config::Name;
use onward::engine::authority::difference::{Difference, Differences};
use onward::engine::authority::table::{ZoneEntry, ZoneTable};
use onward::engine::data::Contents;
use onward::engine::forwarder::Transfer;
use onward::engine::{Client, Via};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

const ZONE: &str = "$TTL 60\n@ SOA ns h 10 2 3 4 5\n@ NS ns\nns A 192.0.2.1\na A 192.0.2.2\n\
                    b.c TXT x\nd NS e.d\ne.d A 192.0.2.3\nmany TXT ";
const AXFR: u16 = 252;
const IXFR: u16 = 251;

/// A world in which 198.51.100.1 may have z, with a zone of several messages.
fn world(transfer: &str) -> World {
    let long: Vec<_> =
        (0..300).map(|number| format!("n{number} TXT \"{number:0>200}\"\n")).collect();
    let text = format!("{ZONE}y\n{}", long.concat());
    let corefile = format!(
        ".:53 {{\n bind 127.0.0.1\n tsig {{\n secret k c2VjcmV0\n }}\n file z z\n file gone y\n \
         {transfer}\n rewrite name a.z b.z\n}}\n"
    );
    world_with(&corefile, &HashMap::from([("z", &*text)]))
}

/// The client with this number on a connection.
fn connected(world: &mut World, number: usize) -> Client {
    let client = client(number);
    let (key, _) = world.engine.admit(world.now, 0, client.peer.ip()).unwrap();
    Client { via: Via::Connection(key), ..client }
}

/// An IXFR of a client that has this serial.
fn incremental(name: &str, serial: u32) -> Vec<u8> {
    let mut writer = Writer::new([7, 0, 1, 0, 1, 0]);
    writer.question(&wire_name(name), IXFR, 1);
    let soa = [&[0, 0][..], &serial.to_be_bytes(), &[0; 16]].concat();
    writer.record(&wire_name(name), 6, 1, 0, &soa);
    writer.bytes
}

/// The reply to a packet, or "zone" if its client gets the zone.
fn reply(world: &mut World, client: Client, packet: &[u8]) -> String {
    world.packet(client, packet);
    world.settle();
    let granted = world.engine.next_transfer();
    match (world.take_got().as_slice(), granted) {
        ([got], None) => shown(got).replace('\n', " | "),
        ([], Some(granted)) => {
            assert_eq!(granted.client, client);
            world.engine.complete_transfer(granted.connection);
            world.engine.end_transfer(granted.connection);
            "zone".to_owned()
        }
        (got, _) => panic!("{got:?}"),
    }
}

const SOA: &str = "NOERROR aa | AN z 60 SOA ns.z. h.z. 10 2 3 4 5";

#[test]
fn a_transfer_is_for_an_apex_a_client_and_a_connection() {
    let mut world = world("transfer {\n to 198.51.100.1\n }");
    let (on_connection, datagrams) = (connected(&mut world, 1), client(1));
    let other = SocketAddr::from(([203, 0, 113, 1], 99));
    let stranger = Client { peer: other, ..on_connection };
    for (asker, name, rtype, expected) in [
        (on_connection, "Z", AXFR, "zone"),
        (on_connection, "a.z", AXFR, "NOTAUTH"),
        (on_connection, "y", AXFR, "SERVFAIL"),
        (stranger, "z", AXFR, "REFUSED"),
        (datagrams, "z", AXFR, "REFUSED"),
        (on_connection, "z", IXFR, "FORMERR"),
        (on_connection, "other", AXFR, "NOTIMP"),
    ] {
        let packet = Ask { flags: 0, rtype, ..Ask::new(7, name) }.bytes();
        let found = reply(&mut world, asker, &packet);
        assert!(found.starts_with(expected), "{name} {rtype}: {found}");
    }
    for (asker, serial, expected) in [
        (on_connection, 10, SOA),
        (on_connection, 9, "zone"),
        (on_connection, 11, SOA),
        (on_connection, 10_u32.wrapping_sub(1 << 31), "zone"),
        (datagrams, 9, SOA),
        (stranger, 9, "REFUSED ra"),
    ] {
        let found = reply(&mut world, asker, &incremental("z", serial));
        assert_eq!(found, expected, "serial {serial}");
    }
    let packet = Ask { rtype: AXFR, ..Ask::new(7, "z") }.bytes();
    world.packet(on_connection, &packet);
    let notices = world.take_notices(|notice| Some(notice.clone()));
    assert!(notices.is_empty(), "a notice that is not taken comes again: {notices:?}");
}

#[test]
fn without_transfer_nobody_has_a_zone_and_with_any_everybody() {
    let packet = Ask { flags: 0, rtype: AXFR, ..Ask::new(7, "z") }.bytes();
    for (transfer, expected) in [
        ("", "REFUSED"),
        ("transfer {\n to *\n }", "zone"),
        ("transfer {\n to 198.51.100.0/24\n }", "zone"),
        ("transfer {\n to 198.51.0.0/24\n }", "REFUSED"),
        ("transfer {\n to *\n }\n transfer z {\n to 192.0.2.1\n }", "REFUSED"),
        ("transfer z {\n to 192.0.2.1\n }\n transfer z. {\n to *\n }", "zone"),
        // A stanza without zones has those of the block: of equal ones the last counts.
        ("transfer . {\n to 192.0.2.1\n }\n transfer {\n to *\n }", "zone"),
        ("transfer {\n to 192.0.2.1\n }\n transfer . {\n to *\n }", "zone"),
        ("transfer {\n to * key k\n }", "REFUSED"),
    ] {
        let mut world = world(transfer);
        let asker = connected(&mut world, 1);
        let found = reply(&mut world, asker, &packet);
        assert!(found.starts_with(expected), "{transfer}: {found}");
    }
}

/// Records of the messages of a transfer: owner and type of each.
fn records(granted: &Transfer) -> (Vec<(String, Rtype)>, usize) {
    let mut train = granted.train();
    let mut room = vec![0; 65_535];
    let (mut records, mut messages) = (Vec::new(), 0);
    while let Some(len) = train.next(&mut room, 100) {
        assert!(len <= 16_384 - 100, "{len}");
        let message = Message::from_octets(&room[..len]).unwrap();
        assert!(message.header().aa() && message.header().qr(), "message {messages}");
        assert_eq!(message.header_counts().qdcount(), 1);
        let has_opt = messages == 0 && granted.asked.edns.is_some();
        assert_eq!(word_at(&room, 10), u16::from(has_opt), "the first has the OPT");
        for record in message.answer().unwrap() {
            let record = record.unwrap();
            records.push((record.owner().to_string(), record.rtype()));
        }
        messages += 1;
    }
    assert!(train.is_done());
    assert_eq!(train.records(), records.len() as u64);
    (records, messages)
}

#[test]
fn a_zone_goes_out_whole_and_once_between_two_soa() {
    let mut world = world("transfer {\n to *\n }");
    let asker = connected(&mut world, 1);
    let ask = Ask { flags: 0, rtype: AXFR, ..Ask::new(7, "z") }.with_edns(1_232);
    world.packet(asker, &ask.bytes());
    let granted = world.engine.next_transfer().unwrap();
    let (records, messages) = records(&granted);
    let soa = ("z".to_owned(), Rtype::SOA);
    assert_eq!((records.first(), records.last()), (Some(&soa), Some(&soa)));
    let inside = &records[1..records.len() - 1];
    assert_eq!(inside.len(), 7 + 300, "NS, 3 A, 2 TXT, NS and those of many");
    assert!(messages > 3 && !inside.contains(&soa), "{messages}");
    for owner in ["ns.z", "a.z", "b.c.z", "d.z", "e.d.z", "many.z", "n0.z", "n299.z"] {
        assert_eq!(inside.iter().filter(|(own, _)| own == owner).count(), 1, "{owner}");
    }
    world.engine.complete_transfer(granted.connection);
    world.engine.end_transfer(granted.connection);
    assert_eq!(world.engine.stats().stages.transfer.answered, 1);
}

#[test]
fn an_older_serial_gets_the_differences_if_they_are_kept() {
    let mut world = world("transfer {\n to *\n }");
    let texts = ["a A 192.0.2.2\nb A 192.0.2.3", "a A 192.0.2.4", "a A 192.0.2.4\nc TXT x"];
    let rest: String = (0..30).map(|number| format!("n{number} A 192.0.2.9\n")).collect();
    let versions: Vec<_> = (8..)
        .zip(texts)
        .map(|(serial, text)| {
            let text = format!("$TTL 60\n@ SOA ns h {serial} 2 3 4 5\n@ NS ns\n{text}\n{rest}");
            Arc::new(zone(b"\x01z\0", &text).unwrap())
        })
        .collect();
    let pairs = versions.windows(2);
    let differences: Differences = pairs
        .map(|pair| Arc::new(Difference::between(&pair[0], &pair[1], usize::MAX).unwrap()))
        .collect();
    let name = Name::parse("z").unwrap();
    let entry = ZoneEntry::of_file(name, 0, Some(Arc::clone(&versions[2])));
    let table = ZoneTable::new(vec![ZoneEntry { differences, ..entry }], hasher());
    world.engine.data.set(0, Contents::Zones(Arc::new(table)));
    let asker = connected(&mut world, 1);
    let mut ask = |packet: &[u8]| {
        world.packet(asker, packet);
        let granted = world.engine.next_transfer().unwrap();
        world.engine.complete_transfer(granted.connection);
        world.engine.end_transfer(granted.connection);
        let (records, messages) = records(&granted);
        assert_eq!(messages, 1);
        let records = records.iter().map(|(owner, rtype)| format!("{owner} {rtype}"));
        records.collect::<Vec<_>>().join(", ")
    };
    let last = "z SOA, z SOA, z SOA, c.z TXT, z SOA";
    assert_eq!(ask(&incremental("z", 9)), last);
    let both = "z SOA, z SOA, a.z A, b.z A, z SOA, a.z A, z SOA, z SOA, c.z TXT, z SOA";
    assert_eq!(ask(&incremental("z", 8)), both);
    for packet in [incremental("z", 7), Ask { rtype: AXFR, ..Ask::new(7, "z") }.bytes()] {
        let whole = ask(&packet);
        assert!(whole.starts_with("z SOA, z NS, a.z A, c.z TXT, n0.z A"), "{whole}");
    }
}

#[test]
fn a_connection_has_one_transfer_at_a_time_which_a_drain_waits_for() {
    let mut world = world("transfer {\n to *\n }");
    let asker = connected(&mut world, 1);
    let other = connected(&mut world, 2);
    let packet = Ask { flags: 0, rtype: AXFR, ..Ask::new(7, "z") }.bytes();
    assert!(world.engine.is_quiet());
    world.packet(asker, &packet);
    world.packet(other, &packet);
    let key = asker.via.connection().unwrap();
    // The reply comes at once, not with a later turn.
    world.packet(asker, &packet);
    let got = world.take_got();
    assert!(got.len() == 1 && shown(&got[0]).starts_with("REFUSED"), "{got:?}");
    assert!(!world.engine.is_quiet());
    assert_eq!(world.engine.outstanding(), 0, "a transfer is no query upstream");
    assert_eq!(world.engine.next_transfer().unwrap().client, asker, "the first comes first");
    assert_eq!(world.engine.next_transfer().unwrap().client, other);
    world.engine.clients.close(other.via.connection().unwrap());
    world.engine.complete_transfer(key);
    assert!(!world.engine.is_quiet(), "the client has not read the last message");
    world.engine.end_transfer(key);
    assert!(world.engine.is_quiet());
    assert_eq!(reply(&mut world, asker, &packet), "zone");
}
