//! `local`: answers for names of this host.
//!
//! `localhost`, the reverse names of loopback addresses, and names that are not for public servers.

use super::ask;
use crate::world::{shown, world};

#[test]
fn names_of_this_host_are_answered_here() {
    let mut world = world("local\n forward . 192.0.2.1");
    let soa = "localhost. root.localhost. 1 0 0 0 604800";
    for (name, rtype, expected) in [
        ("Localhost", 1, "NOERROR rd\nAN Localhost 604800 A 127.0.0.1".to_owned()),
        ("a.localhost", 28, "NOERROR rd\nAN a.localhost 604800 AAAA ::1".to_owned()),
        ("localhost", 16, format!("NOERROR rd\nAU localhost 604800 SOA {soa}")),
        ("localhost.test", 1, "NOERROR rd\nAN localhost.test 604800 A 127.0.0.1".to_owned()),
        (
            "1.0.0.127.in-addr.arpa",
            12,
            "NOERROR rd\nAN 1.0.0.127.in-addr.arpa 604800 PTR localhost.".to_owned(),
        ),
        ("1.0.0.127.in-addr.arpa", 1, format!("NOERROR rd\nAU 127.in-addr.arpa 604800 SOA {soa}")),
        ("9.127.IN-addr.arpa", 12, format!("NXDOMAIN rd\nAU 127.IN-addr.arpa 604800 SOA {soa}")),
        ("0.in-addr.arpa", 2, "NOERROR rd\nAN 0.in-addr.arpa 604800 NS localhost.".to_owned()),
        ("255.in-addr.arpa", 6, format!("NOERROR rd\nAN 255.in-addr.arpa 604800 SOA {soa}")),
    ] {
        world.ask(1, &ask(name, rtype));
        assert_eq!(shown(&world.only_got()), expected, "{name} {rtype}");
    }
    world.ask(1, &ask("10.in-addr.arpa", 12));
    assert_eq!(world.sent.len(), 1);
    assert_eq!(world.finish().stages.local.answered, 9);
}
