//! `chaos`: replies about the server in the class CH.
//!
//! Without `chaos` and `forward`, queries in classes other than IN are refused.

use super::ask;
use crate::common::wire::Ask;
use crate::world::{shown, world};

#[test]
fn queries_about_the_server_are_answered_or_refused_here() {
    let mut world = world("chaos v1 Ann\n forward . 192.0.2.1");
    for (name, rtype, expected) in [
        ("Version.Bind", 16, "NOERROR rd\nAN Version.Bind 0 TXT \"v1\""),
        ("version.server", 16, "NOERROR rd\nAN version.server 0 TXT \"v1\""),
        ("authors.bind", 16, "NOERROR rd\nAN authors.bind 0 TXT \"Ann\""),
        ("hostname.bind", 16, "NOERROR rd\nAN hostname.bind 0 TXT \"host.example\""),
        ("id.server", 16, "NOERROR rd\nAN id.server 0 TXT \"host.example\""),
        ("id.server", 1, "REFUSED rd ra"),
        ("trustanchor.unbound", 16, "REFUSED rd ra"),
    ] {
        world.ask(1, &Ask { class: 3, ..ask(name, rtype) });
        assert_eq!(shown(&world.only_got()), expected, "{name} {rtype}");
    }
    world.ask(1, &ask("version.bind", 16));
    assert_eq!(world.sent.len(), 1, "another class is another matter");
    let stats = world.finish();
    assert_eq!((stats.stages.chaos.answered, stats.stages.chaos.refused), (5, 2));
}

#[test]
fn without_chaos_and_forward_other_classes_are_refused() {
    let mut world = world("whoami");
    world.ask(1, &Ask { class: 3, ..ask("a.test", 16) });
    assert_eq!(shown(&world.only_got()), "REFUSED rd ra");
    world.finish();
}
