//! `minimal`: positive answers without their authority and additional sections.
//!
//! Negative answers keep the SOA record that negative caching needs (RFC 2308).

use super::{ask, response};
use crate::common::wire::word_at;
use crate::world::world;

#[test]
fn positive_answers_are_stripped_and_others_are_not() {
    let mut world = world("minimal\n forward . 192.0.2.1");
    let (a, ns) = ((1, &[192, 0, 2, 9][..]), (2, &[0xc0, 12][..]));
    for (rcode, records, left) in [
        (0, [&[a][..], &[ns], &[a]], [1, 0, 0]),
        (0, [&[], &[], &[a]], [0, 0, 0]),
        (0, [&[], &[ns], &[a]], [0, 1, 1]),
        (3, [&[a], &[ns], &[]], [1, 1, 0]),
    ] {
        world.ask(1, &ask("a.test", 1));
        let sent = world.only_sent();
        assert!(world.respond(sent.connection, &response(&sent.bytes, rcode, records)));
        let got = world.only_got();
        let counts = [6, 8, 10].map(|at| word_at(&got.bytes, at));
        assert_eq!(counts, left, "{rcode} {records:?}");
    }
    world.finish();
}
