//! Queries that are answered or dropped without an upstream query.
//!
//! Each refusal carries the client's ID, opcode, RD and CD, the question if it could be parsed, and
//! an OPT if the query had one.

use crate::common::wire::{Ask, Writer, answer, wire_name, word_at};
use crate::common::{config, name, stanza};
use crate::world::{World, client};
use onward::config::Forward;
use onward::engine::Client;
use onward::engine::stats::DropReason;

fn world() -> World {
    World::new(&config(vec![(".", vec![stanza(1)])]))
}

#[test]
fn queries_that_cannot_be_forwarded_are_refused_with_the_clients_id() {
    let plain = Ask::new(0xbeef, "a.example");
    let with = |edns| Ask { edns: Some(edns), ..plain.clone() }.bytes();
    let changed = |change: fn(&mut Vec<u8>)| {
        let mut bytes = plain.bytes();
        change(&mut bytes);
        bytes
    };
    let mut two_opts = with((1_232, 0, false, vec![]));
    two_opts.extend_from_within(two_opts.len() - 11..);
    two_opts[11] = 2;
    let mut notify = with((1_232, 0, false, vec![]));
    notify[2] = 0x21;
    // The option's length exceeds the OPT.
    let cut_option = with((1_232, 0, false, vec![0, 10, 0, 9]));
    let mut signed = Writer::new([0xbeef, 0x0100, 1, 0, 0, 1]);
    signed.question(&wire_name("a.example"), 1, 1);
    signed.record(&wire_name("key"), 250, 255, 0, &[0; 30]);
    // Response code, presence of the question, and the OPT's part of the code.
    let cases = [
        ("STATUS", changed(|bytes| bytes[2] = 0x11), 4, 0, None),
        ("NOTIFY", changed(|bytes| bytes[2] = 0x21), 4, 0, None),
        ("UPDATE", changed(|bytes| bytes[2] = 0x29), 4, 0, None),
        ("no question", changed(|bytes| bytes[5] = 0), 1, 0, None),
        ("two questions", changed(|bytes| bytes[5] = 2), 1, 0, None),
        ("a pointer as a name", changed(|bytes| bytes[12] = 0xc0), 1, 0, None),
        ("cut off", changed(|bytes| bytes.truncate(20)), 1, 0, None),
        ("a record that is not there", changed(|bytes| bytes[11] = 1), 1, 1, None),
        ("three extra records", changed(|bytes| bytes[11] = 3), 1, 1, None),
        ("NOTIFY with EDNS", notify, 4, 0, Some(0)),
        ("two OPTs", two_opts, 1, 1, Some(0)),
        ("an option that is cut off", cut_option, 1, 1, Some(0)),
        ("EDNS version 1", with((1_232, 1, false, vec![])), 0, 1, Some(1)),
        ("TSIG", signed.bytes, 5, 1, None),
    ];
    for (what, bytes, rcode, questions, opt) in cases {
        let mut world = world();
        world.packet(client(1), &bytes);
        world.settle();
        let got = world.only_got();
        assert_eq!((got.id(), got.rcode()), (0xbeef, rcode), "{what}");
        assert_eq!(word_at(&got.bytes, 2) & 0x7f00, word_at(&bytes, 2) & 0x7900, "{what}");
        assert_eq!(word_at(&got.bytes, 4), questions, "{what}");
        assert_eq!(word_at(&got.bytes, 10), u16::from(opt.is_some()), "{what}");
        if let Some(high) = opt {
            let opt = got.bytes.len() - 11;
            assert_eq!((word_at(&got.bytes, opt + 1), got.bytes[opt + 5]), (41, high), "{what}");
        }
        assert!(world.sent.is_empty());
        assert_eq!(world.engine.outstanding(), 0);
        assert_eq!(world.finish().replied(), 1);
    }
}

#[test]
fn packets_that_could_feed_a_loop_get_no_reply() {
    let query = Ask::new(1, "a.example").bytes();
    let zero = Client { peer: "198.51.100.1:0".parse().unwrap(), ..client(1) };
    for (reason, from, bytes) in [
        (DropReason::QueryTooShort, client(1), &query[..11]),
        (DropReason::QueryTooShort, client(1), &[]),
        (DropReason::QueryIsResponse, client(1), &answer(&query)),
        (DropReason::QueryFromPortZero, zero, &query),
    ] {
        let mut world = world();
        world.packet(from, bytes);
        world.settle();
        assert!(world.got.is_empty() && world.sent.is_empty(), "{reason:?}");
        assert_eq!(world.dropped(reason), 1);
        world.finish();
    }
}

#[test]
fn names_that_no_block_or_stanza_handles_are_refused() {
    let excepting = Forward { except: vec![name("private.example")], ..stanza(1) };
    let elsewhere = Forward { from: name("sub.test"), ..stanza(1) };
    let blocks = vec![("example", vec![excepting]), ("test", vec![elsewhere]), ("none", vec![])];
    let mut world = World::new(&config(blocks));
    for (asked, rcode) in [
        ("www.example", None),
        ("example", None),
        ("a.private.example", Some(2)),
        ("private.example", Some(2)),
        ("PRIVATE.Example", Some(2)),
        ("xprivate.example", None),
        ("a.sub.test", None),
        ("a.test", Some(2)),
        ("a.none", Some(5)),
        ("org", Some(5)),
        ("", Some(5)),
    ] {
        world.ask(1, &Ask::new(1, asked));
        assert_eq!(world.sent.len(), usize::from(rcode.is_none()), "{asked}");
        match rcode {
            Some(rcode) => assert_eq!(world.only_got().rcode(), rcode, "{asked}"),
            None => {
                let sent = world.only_sent();
                assert!(world.respond(sent.connection, &answer(&sent.bytes)));
                assert_eq!(world.only_got().rcode(), 0);
            }
        }
    }
    world.finish();
}

#[test]
fn the_longest_zone_and_the_first_stanza_that_handles_a_name_get_it() {
    let mut stanzas: Vec<_> = (0..4).map(|_| stanza(4)).collect();
    for (number, stanza) in stanzas.iter_mut().enumerate() {
        stanza.upstreams.swap(0, number);
        stanza.upstreams.truncate(1);
    }
    let to = |number| crate::common::upstream_address(number);
    let [a, mut b, c, d] = <[Forward; 4]>::try_from(stanzas).unwrap();
    b.except = vec![name("not.example.org")];
    let blocks = vec![(".", vec![a]), ("example.org", vec![b, c]), ("sub.example.org", vec![d])];
    let mut world = World::new(&config(blocks));
    for (asked, rtype, number) in [
        ("com", 1, 0),
        ("www.EXAMPLE.org", 1, 1),
        ("a.not.example.org", 1, 2),
        ("sub.example.org", 1, 3),
        // A DS record belongs to the parent's side.
        ("sub.example.org", 43, 1),
        ("example.org", 43, 1),
    ] {
        world.ask(1, &Ask { rtype, ..Ask::new(1, asked) });
        let sent = world.only_sent();
        assert_eq!(sent.to, to(number), "{asked} {rtype}");
        assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    }
    world.finish();
}
