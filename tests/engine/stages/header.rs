//! `header`: flags that are set or cleared.
//!
//! Rules for queries change what upstreams receive; rules for responses change what clients do.

use super::ask;
use crate::common::wire::{answer, word_at};
use crate::world::{shown, world};

#[test]
fn flags_are_changed_on_their_way() {
    let mut world = world(
        "header {
            query clear rd
            response set aa
        }
        header {
            response clear ra
        }
        forward . 192.0.2.1",
    );
    world.ask(1, &ask("a.test", 1));
    let sent = world.only_sent();
    assert_eq!(word_at(&sent.bytes, 2), 0);
    assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    assert_eq!(shown(&world.only_got()), "NOERROR aa\nAN a.test 300 A 203.0.113.7");
    world.ask(1, &ask("b.test", 1));
    world.pass(6.0);
    assert_eq!(shown(&world.only_got()), "SERVFAIL ra", "a failure of ours, but RD is gone");
    world.finish();
}
