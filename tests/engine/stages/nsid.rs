//! `nsid`: the server's identifier (RFC 5001).
//!
//! The OPT of each reply to a query that requests it has the identifier, also in our own replies.

use super::{ask, options};
use crate::common::wire::{Ask, answer, word_at};
use crate::world::world;

#[test]
fn nsid_is_in_every_reply_to_a_query_that_requests_it() {
    let mut world = world("nsid me too\n any\n acl {\n block type MX\n}\n forward . 192.0.2.1");
    let asks = Ask { edns: Some((1_232, 0, false, vec![0, 3, 0, 0])), ..ask("a.test", 1) };
    let name = (3, b"me too".to_vec());
    world.ask(1, &Ask { rtype: 255, ..asks.clone() });
    assert_eq!(options(&world.only_got()), Some(vec![name.clone()]));
    world.ask(1, &Ask { rtype: 15, ..asks.clone() });
    assert_eq!(options(&world.only_got()), Some(vec![name.clone(), (15, vec![0, 15])]));
    world.ask(1, &asks);
    let sent = world.only_sent();
    assert_eq!(word_at(&sent.bytes, sent.bytes.len() - 2), 0, "no upstream is asked for it");
    // Two coalesced clients, only one of which sent the option.
    world.ask(2, &ask("a.test", 1).with_edns(1_232));
    assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    let got = world.take_got();
    let got: Vec<_> = got.iter().map(|got| options(got).unwrap()).collect();
    assert_eq!(got, [vec![name.clone()], vec![]]);
    world.ask(1, &Ask { name: "lost.test".into(), ..asks.clone() });
    world.pass(6.0);
    assert_eq!(options(&world.only_got()).unwrap()[0], name, "a failure of ours");
    world.ask(1, &Ask { flags: 0x0100, ..ask("b.test", 255) });
    assert_eq!(options(&world.only_got()), None);
    world.finish();
}
