//! `acl`: queries of certain clients are refused, dropped, filtered or allowed.
//!
//! The rules see the client's address and the QTYPE; replies carry an extended error (RFC 8914).

use super::{ask, ask_from, options};
use crate::common::wire::Ask;
use crate::world::{shown, world};
use onward::engine::stats::DropReason;

#[test]
fn a_refused_client_gets_its_own_flags_back() {
    let rules = "acl {\n block\n }\n header {\n query clear rd\n }\n forward . 192.0.2.1";
    let mut world = world(rules);
    world.ask(1, &ask("a.test", 1));
    assert_eq!(shown(&world.only_got()), "REFUSED rd ra");
    world.finish();
}

#[test]
fn access_lists_block_filter_drop_and_allow() {
    let mut world = world(
        "forward . 192.0.2.1
         acl {
            allow net 10.1.0.0/16
            block net 10.0.0.0/8
            filter type AAAA
            drop net 2001:db8::/32
        }",
    );
    let (plain, edns) = (ask("a.test", 1), ask("a.test", 1).with_edns(4_096));
    ask_from(&mut world, "10.2.0.1", &plain);
    let got = world.only_got();
    assert_eq!((shown(&got).as_str(), options(&got)), ("REFUSED rd ra", None));
    ask_from(&mut world, "::ffff:10.2.0.1", &edns);
    let got = world.only_got();
    let blocked = Some(vec![(15, vec![0, 15])]);
    assert_eq!((shown(&got).as_str(), options(&got)), ("REFUSED rd ra", blocked));
    assert_eq!(&got.bytes[got.bytes.len() - 12..][..2], &[0, 0], "DO is not set for it");
    ask_from(&mut world, "192.0.2.9", &Ask { rtype: 28, ..edns.clone() });
    let got = world.only_got();
    let filtered = Some(vec![(15, vec![0, 17])]);
    assert_eq!((shown(&got).as_str(), options(&got)), ("NOERROR rd ra", filtered));
    ask_from(&mut world, "2001:db8::1", &edns);
    assert!(world.take_got().is_empty() && world.sent.is_empty());
    assert_eq!(world.dropped(DropReason::QueryDenied), 1);
    ask_from(&mut world, "10.1.2.3", &edns);
    ask_from(&mut world, "192.0.2.9", &plain);
    assert_eq!(world.take_sent().len(), 1, "the other waits for the same");
    world.pass(6.0);
    world.take_got();
    let stages = world.finish().stages;
    let acl = stages.acl;
    let counted = [acl.passed, acl.refused, acl.answered, acl.dropped];
    assert_eq!(counted, [2, 2, 1, 1]);
}
