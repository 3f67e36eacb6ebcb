//! The stages of a server block: what they answer, refuse, drop and change, in virtual time.
//!
//! Configurations are Corefiles here, so that each test reads as an operator would write it.
//! Replies are read record by record with the `domain` crate, not with the code that wrote them.

use crate::common::wire::{Ask, answer};
use crate::world::{Got, World};
use domain::base::Message;
use onward::config::{Config, Host};

/// One listener and a server block with these directives.
fn world(directives: &str) -> World {
    let text = format!(". {{\n bind 127.0.0.1\n {directives}\n}}\n");
    let loaded = Config::load(text.as_bytes(), "Corefile", &Host::plain());
    World::new(&loaded.unwrap_or_else(|error| panic!("{error}")).0)
}

/// A query without EDNS.
fn ask(name: &str, kind: u16) -> Ask {
    Ask { kind, ..Ask::new(7, name) }
}

/// The flags, the response code, and each record but the OPT as `SECTION OWNER TTL TYPE DATA`.
fn shown(got: &Got) -> String {
    let message = Message::from_octets(&got.bytes[..]).expect("a message");
    let header = message.header();
    let mut text = header.rcode().to_string();
    for (set, flag) in [(header.aa(), "aa"), (header.tc(), "tc"), (header.rd(), "rd")] {
        text += &if set { format!(" {flag}") } else { String::new() };
    }
    text += if header.ra() { " ra" } else { "" };
    let (_, answer, authority, additional) = message.sections().expect("four sections");
    for (name, section) in [("AN", answer), ("AU", authority), ("AD", additional)] {
        for record in section {
            let record = record.expect("a record");
            let kind = record.rtype();
            if kind != domain::base::iana::Rtype::OPT {
                let record = record
                    .to_any_record::<domain::rdata::AllRecordData<_, _>>()
                    .expect("data that can be read");
                let (owner, ttl, data) = (record.owner(), record.ttl(), record.data());
                text += &format!("\n{name} {owner} {} {kind} {data}", ttl.as_secs());
            }
        }
    }
    text
}

#[test]
fn a_query_for_any_type_is_answered_here_and_others_are_forwarded() {
    let mut world = world("any\n forward . 192.0.2.1");
    world.ask(1, &ask("A.test", 255));
    let got = world.only_got();
    let expected = "NOERROR aa rd\nAN A.test 8482 HINFO \"ANY obsoleted\" \"See RFC 8482\"";
    assert_eq!(shown(&got), expected);
    world.ask(1, &ask("a.test", 1));
    let sent = world.only_sent();
    assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    assert_eq!(world.only_got().rcode(), 0);
    assert_eq!(world.finish().stages.any, 1);
}

#[test]
fn a_chain_that_nobody_ends_fails_and_a_block_without_one_refuses() {
    let mut only_any = world("any");
    only_any.ask(1, &ask("a.test", 1));
    assert_eq!(shown(&only_any.only_got()), "SERVFAIL rd ra");
    only_any.finish();
    let mut nothing = world("");
    nothing.ask(1, &ask("a.test", 255));
    assert_eq!(shown(&nothing.only_got()), "REFUSED rd ra");
    nothing.finish();
}
