//! `any`: a short answer to queries for all types (RFC 8482).
//!
//! A block with nothing but `any` has no server for other queries, which fail.

use super::ask;
use crate::common::wire::answer;
use crate::world::{shown, world};

#[test]
fn a_query_for_any_type_is_answered_here_and_others_are_forwarded() {
    let mut world = world("any\n forward . 192.0.2.1");
    world.ask(1, &ask("A.test", 255));
    let got = world.only_got();
    let expected = "NOERROR rd\nAN A.test 8482 HINFO \"ANY obsoleted\" \"See RFC 8482\"";
    assert_eq!(shown(&got), expected);
    world.ask(1, &ask("a.test", 1));
    let sent = world.only_sent();
    assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    assert_eq!(world.only_got().rcode(), 0);
    assert_eq!(world.finish().stages.any.answered, 1);
}

#[test]
fn a_chain_without_an_answer_fails_and_a_block_without_one_refuses() {
    let mut only_any = world("any");
    only_any.ask(1, &ask("a.test", 1));
    assert_eq!(shown(&only_any.only_got()), "SERVFAIL rd ra");
    only_any.finish();
    let mut nothing = world("");
    nothing.ask(1, &ask("a.test", 255));
    assert_eq!(shown(&nothing.only_got()), "REFUSED rd ra");
    nothing.finish();
}
