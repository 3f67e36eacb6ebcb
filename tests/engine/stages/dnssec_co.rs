//! `dnssec` and clients that accept compact denials with NXDOMAIN (RFC 9824 §5.1).
//!
//! The CO bit changes the response code and nothing else.

use super::dnssec::{keys, signed_zone, told};
use crate::common::wire::Ask;
use crate::world::client;

#[test]
fn a_client_with_the_co_bit_gets_nxdomain_for_a_name_that_does_not_exist() {
    let mut world = signed_zone();
    let keys = keys();
    for (question, rcode) in [
        ("nope.example.org", "NXDOMAIN"),
        ("a.b.nope.example.org", "NXDOMAIN"),
        ("web.example.org", "NOERROR"),
        ("ent.example.org", "NOERROR"),
    ] {
        let mut ask = Ask { rtype: 99, ..Ask::new(7, question) };
        ask.edns = Some((1_232, 0, true, Vec::new()));
        world.ask(1, &ask);
        let without = told(&world.got.pop().expect("a reply"), &keys);
        assert!(without.starts_with("NOERROR aa\nAU @ 300 SOA"), "{without}");
        // The flags of an OPT without options are the two bytes before its length.
        let mut bytes = ask.bytes();
        let place = bytes.len() - 4;
        bytes[place] |= 0x40;
        world.packet(client(1), &bytes);
        let with = told(&world.got.pop().expect("a reply"), &keys);
        assert_eq!(with, without.replacen("NOERROR", rcode, 1), "{question}");
        // Without DO nothing is signed, and the bit means nothing.
        bytes[place] = 0x40;
        world.packet(client(1), &bytes);
        let plain = told(&world.got.pop().expect("a reply"), &keys);
        assert!(plain.starts_with(rcode) && !plain.contains("SIG"), "{plain}");
    }
}
