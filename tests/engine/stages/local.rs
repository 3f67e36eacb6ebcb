//! `local`: answers for names of this host.
//!
//! `localhost`, the reverse names of loopback addresses, and names that are not for public servers.

use super::ask;
use crate::world::{World, shown, world};
use onward::config::{Config, Host};

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

const SPECIAL: &str = "local {\n special_names on\n }";

#[test]
fn special_names_are_answered_as_empty_zones() {
    let mut world = world(&format!("{SPECIAL}\n forward . 192.0.2.1"));
    for (name, zone) in [
        ("a.test", "test"),
        ("A.Invalid", "Invalid"),
        ("printer.local", "local"),
        ("x.onion", "onion"),
        ("a.b.home.arpa", "home.arpa"),
        ("b.alt", "alt"),
        ("1.2.3.10.in-addr.arpa", "10.in-addr.arpa"),
        ("1.16.172.in-addr.arpa", "16.172.in-addr.arpa"),
        ("1.31.172.in-addr.arpa", "31.172.in-addr.arpa"),
        ("1.64.100.in-addr.arpa", "64.100.in-addr.arpa"),
        ("1.127.100.in-addr.arpa", "127.100.in-addr.arpa"),
        ("a.8.b.d.0.1.0.0.2.ip6.arpa", "8.b.d.0.1.0.0.2.ip6.arpa"),
        ("1.b.e.f.ip6.arpa", "b.e.f.ip6.arpa"),
    ] {
        let soa = format!("{zone} 10800 SOA {zone}. nobody.invalid. 1 3600 1200 604800 10800");
        world.ask(1, &ask(name, 1));
        let expected = format!("NXDOMAIN rd ra\nAU {soa}");
        assert!(shown(&world.only_got()).eq_ignore_ascii_case(&expected), "{name}");
        world.ask(1, &ask(zone, 1));
        let expected = format!("NOERROR rd ra\nAU {soa}");
        assert!(shown(&world.only_got()).eq_ignore_ascii_case(&expected), "{zone}");
        world.ask(1, &ask(zone, 6));
        let expected = format!("NOERROR rd ra\nAN {soa}");
        assert!(shown(&world.only_got()).eq_ignore_ascii_case(&expected), "SOA of {zone}");
        world.ask(1, &ask(zone, 2));
        let expected = format!("NOERROR rd ra\nAN {zone} 10800 NS {zone}.");
        assert!(shown(&world.only_got()).eq_ignore_ascii_case(&expected), "NS of {zone}");
    }
    world.ask(1, &ask("_dns.resolver.arpa", 64));
    assert!(shown(&world.only_got()).starts_with("NOERROR rd ra\nAU resolver.arpa 10800 SOA"));
    let longest = format!("{0}.{0}.{0}.{1}.alt", "x".repeat(63), "x".repeat(56));
    world.ask(1, &ask(&longest, 1));
    assert!(shown(&world.only_got()).starts_with("NXDOMAIN rd ra\nAU alt 10800 SOA alt."));
    assert!(world.sent.is_empty());
    world.finish();
}

#[test]
fn special_names_that_are_routed_on_purpose_and_others_are_forwarded() {
    let stanzas = "forward home.arpa 192.0.2.2\n forward . 192.0.2.1 {\n except alt\n }\n\
                   forward alt 192.0.2.3";
    let template = "template IN A a.test {\n answer \"a.test 60 IN A 10.0.0.1\"\n }";
    let mut world = world(&format!("{SPECIAL}\n {template}\n {stanzas}"));
    let forwarded = [
        ("a.home.arpa", 1),
        ("b.alt", 1),
        ("tests", 1),
        ("atest", 1),
        ("32.172.in-addr.arpa", 12),
        ("63.100.in-addr.arpa", 12),
        ("home.test.example", 1),
        ("test", 43),
    ];
    for (name, rtype) in forwarded {
        world.ask(1, &ask(name, rtype));
        assert_eq!(world.take_sent().len(), 1, "{name} {rtype}");
    }
    world.ask(1, &ask("a.test", 1));
    assert!(shown(&world.only_got()).contains("AN a.test 60 A 10.0.0.1"), "of template");
    world.ask(1, &ask("b.test", 1));
    assert!(shown(&world.only_got()).starts_with("NXDOMAIN"), "of nobody");
    world.ask(1, &ask("a.test", 43));
    let _ = world.take_got();
    assert!(world.sent.is_empty(), "DS below a special name");
}

#[test]
fn a_server_block_for_a_special_name_forwards_it() {
    let text = format!(
        "10.in-addr.arpa home.arpa {{\n bind 127.0.0.1\n {SPECIAL}\n forward . 192.0.2.1\n}}\n"
    );
    let (config, _) = Config::load(text.as_bytes(), "Corefile", &Host::plain()).unwrap();
    let mut world = World::new(&config);
    for name in ["1.10.in-addr.arpa", "a.home.arpa"] {
        world.ask(1, &ask(name, 1));
        assert_eq!(world.take_sent().len(), 1, "{name}");
    }
}
