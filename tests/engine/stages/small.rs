//! The small stages of a server block: their answers, refusals, drops and changes, in virtual time.
//!
//! Configurations are Corefiles here, so that each test reads as an operator would write it.
//! Replies are parsed with the `domain` crate, independent of the code that wrote them.

use crate::common::at;
use crate::common::wire::{Ask, Writer, answer, question_of, word_at};
use crate::world::{Got, World, client, shown, world};
use domain::base::Message;
use onward::config::{Config, Host};
use onward::engine::Notice;
use onward::engine::stats::DropReason;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// The server blocks found in a forwarding loop since the last call, with the query's source.
fn loops(world: &mut World) -> Vec<(usize, SocketAddr)> {
    world.take_notices(|notice| match *notice {
        Notice::Looping { block, peer } => Some((block, peer)),
        _ => None,
    })
}

/// A query without EDNS.
fn ask(name: &str, rtype: u16) -> Ask {
    Ask { rtype, ..Ask::new(7, name) }
}

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

#[test]
fn a_refused_client_gets_its_own_flags_back() {
    let rules = "acl {\n block\n }\n header {\n query clear rd\n }\n forward . 192.0.2.1";
    let mut world = world(rules);
    world.ask(1, &ask("a.test", 1));
    assert_eq!(shown(&world.only_got()), "REFUSED rd ra");
    world.finish();
}

/// Code and data of the options in the reply's OPT, or `None` without an OPT.
fn options(got: &Got) -> Option<Vec<(u16, Vec<u8>)>> {
    let message = Message::from_octets(&got.bytes[..]).expect("a message");
    let opt = message.opt()?;
    let option = |option: Result<domain::base::opt::UnknownOptData<_>, _>| {
        let option = option.expect("an option");
        (option.code().to_int(), Vec::from(option.as_slice()))
    };
    Some(opt.opt().iter().map(option).collect())
}

/// Sends a query from this address and ends the turn.
fn ask_from(world: &mut World, address: &str, ask: &Ask) {
    let peer = SocketAddr::new(address.parse().unwrap(), 4_242);
    world.packet(onward::engine::Client { peer, ..client(1) }, &ask.bytes());
    world.settle();
}

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
fn whoami_returns_the_clients_address_and_port() {
    let mut world = world("whoami\n forward private.test 192.0.2.1");
    let ask = ask("a.test", 16);
    ask_from(&mut world, "192.0.2.77", &ask);
    let expected = "NOERROR aa rd\nAD a.test 0 A 192.0.2.77\nAD _udp.a.test 0 SRV 0 0 4242 ";
    assert_eq!(shown(&world.only_got()), expected);
    ask_from(&mut world, "2001:db8::7", &ask);
    assert!(shown(&world.only_got()).contains("AD a.test 0 AAAA 2001:db8::7\n"));
    // A name too long for another label in front.
    let longest = format!("{0}.{0}.{0}.{1}", "x".repeat(63), "y".repeat(61));
    ask_from(&mut world, "192.0.2.77", &Ask { name: longest, ..ask.clone() });
    assert_eq!(shown(&world.only_got()).lines().count(), 2);
    ask_from(&mut world, "192.0.2.77", &Ask { class: 3, ..ask });
    assert_eq!(world.only_got().rcode(), 0, "a block that forwards takes every class");
    world.finish();
}

#[test]
fn without_chaos_and_forward_other_classes_are_refused() {
    let mut world = world("whoami");
    world.ask(1, &Ask { class: 3, ..ask("a.test", 16) });
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

#[test]
fn the_buffer_is_no_larger_than_allowed_on_either_side() {
    let mut world = world("bufsize 600\n forward . 192.0.2.1");
    for (size, limit) in [(4_096, 600), (550, 550)] {
        world.ask(1, &ask("a.test", 16).with_edns(size));
        let sent = world.only_sent();
        let opt = sent.bytes.len() - 11;
        assert_eq!(word_at(&sent.bytes, opt + 3), 600, "what the upstream may send");
        let mut writer = Writer::new([word_at(&sent.bytes, 0), 0x8180, 1, 4, 0, 0]);
        writer.bytes.extend_from_slice(question_of(&sent.bytes));
        for number in 0..4 {
            let data = [&[150][..], &[b'a' + number; 150]].concat();
            writer.record(&[1, b'a' + number, 0], 16, 1, 9, &data);
        }
        assert!(world.respond(sent.connection, &writer.bytes));
        let got = world.only_got();
        assert!(got.bytes.len() <= limit && word_at(&got.bytes, 2) & 0x0200 != 0);
        assert_eq!(word_at(&got.bytes, got.bytes.len() - 8), 600, "what the client may send");
    }
    world.finish();
}

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

/// A response with these answer, authority and additional records.
fn response(query: &[u8], rcode: u16, records: [&[(u16, &[u8])]; 3]) -> Vec<u8> {
    let counts = records.map(|records| records.len() as u16);
    let header = [word_at(query, 0), 0x8180 | rcode, 1, counts[0], counts[1], counts[2]];
    let mut writer = Writer::new(header);
    writer.bytes.extend_from_slice(question_of(query));
    for (rtype, data) in records.concat() {
        writer.record(&[0xc0, 12], rtype, 1, 60, data);
    }
    writer.bytes
}

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

#[test]
fn each_client_gets_the_addresses_in_an_order_of_its_own() {
    let mut world = world("loadbalance {\n prefer 10.0.0.0/8\n}\n forward . 192.0.2.1");
    let answers: Vec<[u8; 4]> = (1..=4).map(|last| [192, 0, 2, last]).collect();
    let mut answers: Vec<(u16, &[u8])> = answers.iter().map(|data| (1, &data[..])).collect();
    answers.push((1, &[10, 0, 0, 1]));
    for number in 0..100 {
        world.ask_within_turn(number, &ask("a.test", 1));
    }
    world.settle();
    let sent = world.only_sent();
    assert!(world.respond(sent.connection, &response(&sent.bytes, 0, [&answers, &[], &[]])));
    let orders: Vec<String> = world.take_got().iter().map(shown).collect();
    let first = "NOERROR rd ra\nAN a.test 60 A 10.0.0.1\n";
    assert!(orders.iter().all(|order| order.starts_with(first)), "{}", orders[0]);
    let distinct: BTreeSet<&String> = orders.iter().collect();
    assert!((18..=24).contains(&distinct.len()), "{} of 24 orders", distinct.len());
    world.finish();
}

#[test]
fn a_query_ends_when_its_blocks_time_is_up_and_not_a_nanosecond_later() {
    let text = "a. {
        bind 127.0.0.1
        cancel 700ms
        forward . 192.0.2.1
    }
    . {
        bind 127.0.0.1
        cancel 9s
        forward . 192.0.2.1
    }";
    let (config, _) = Config::load(text.as_bytes(), "Corefile", &Host::plain()).unwrap();
    let mut world = World::new(&config);
    world.ask(1, &ask("b", 1));
    world.pass(0.1);
    world.ask(2, &ask("x.a", 1));
    world.pass(0.1);
    world.ask(3, &ask("y.a", 1));
    world.pass(20.0);
    let got: Vec<_> = world.take_got().iter().map(|got| (got.at, got.rcode())).collect();
    // The slow query ends with its second attempt, by the reference's cap on attempts.
    assert_eq!(got, [(at(0.8), 2), (at(0.9), 2), (at(4.0), 2)]);
    world.ask(1, &ask("x.a", 1));
    let first = world.take_sent().pop().unwrap();
    world.pass(0.699);
    assert!(world.respond(first.connection, &answer(&first.bytes)), "in time");
    assert_eq!(world.only_got().rcode(), 0);
    world.finish();
}

#[test]
fn keepalive_has_the_blocks_idle_timeout() {
    let mut world = world("timeouts {\n idle 3s\n}\n any");
    let (connection, _) = world.engine.admit(world.now, 0, [192, 0, 2, 1].into()).unwrap();
    let client = onward::engine::Client { connection: Some(connection), ..client(1) };
    let asks = Ask { edns: Some((1_232, 0, false, vec![0, 11, 0, 0])), ..ask("a.test", 255) };
    world.packet(client, &asks.bytes());
    assert_eq!(options(&world.only_got()), Some(vec![(11, vec![0, 30])]));
    assert_eq!(world.engine.clients.next_deadline(), Some(at(3.0)));
    world.engine.clients.close(connection);
    world.finish();
}

#[test]
fn a_query_of_our_own_that_comes_back_ends_forwarding_for_its_block() {
    let text = "looping.test plain.test {
        bind 127.0.0.1
        loop
        local
        forward . 192.0.2.1
    }
    . {
        bind 127.0.0.1
        forward . 192.0.2.2
    }";
    let (config, _) = Config::load(text.as_bytes(), "Corefile", &Host::plain()).unwrap();
    let mut world = World::new(&config);
    world.pass(0.0);
    let probe = world.only_sent();
    let name = &probe.bytes[13..13 + usize::from(probe.bytes[12])];
    let name = format!("{}.looping.test", str::from_utf8(name).unwrap());
    assert_eq!(question_of(&probe.bytes), ask(&name, 13).question());
    // A query that matches the probe in name or type only proves nothing.
    world.ask(1, &ask(&name, 1));
    world.ask(1, &ask("x.looping.test", 13));
    assert_eq!(world.take_sent().len(), 2);
    assert_eq!(loops(&mut world), []);

    world.ask(2, &ask(&name.to_uppercase(), 13));
    assert_eq!((shown(&world.only_got()).as_str(), world.sent.len()), ("SERVFAIL rd ra", 0));
    assert_eq!(loops(&mut world), [(0, client(2).peer)]);
    world.ask(2, &ask(&name, 13));
    assert_eq!(loops(&mut world), [], "it is news once");
    world.ask(3, &ask("a.plain.test", 1));
    world.ask(4, &ask("localhost.plain.test", 1));
    let got: Vec<_> = world.take_got().iter().map(Got::rcode).collect();
    assert_eq!(got, [2, 2, 0], "what the block answers itself it goes on answering");
    world.ask(5, &ask("other.test", 1));
    let sent = world.only_sent();
    assert!(world.respond(sent.connection, &answer(&sent.bytes)), "another block is served");

    let health_states = std::sync::Arc::new(onward::engine::health::HealthStates::new(&config));
    world.engine.reload(world.now, &config, &[Some(0)], health_states);
    world.settle();
    world.pass(0.0);
    let probe = world.only_sent();
    let before = world.engine.outstanding();
    world.respond(probe.connection, &answer(&probe.bytes));
    assert_eq!(world.engine.outstanding(), before - 1);
    world.pass(6.0);
    world.take_got();
    world.take_sent();
    world.ask(6, &ask("a.plain.test", 1));
    assert_eq!(world.sent.len(), 1, "with a new configuration it forwards again");
    let stats = world.finish();
    assert_eq!(stats.stages.loops.refused, 3);
}

#[test]
fn a_probe_that_comes_back_late_or_is_answered_means_nothing() {
    let mut world = world("loop\n forward . 192.0.2.1");
    world.pass(0.0);
    let probe = world.only_sent();
    let question = question_of(&probe.bytes).to_vec();
    world.respond(probe.connection, &answer(&probe.bytes));
    assert_eq!(world.engine.outstanding(), 0);
    world.pass(10.0);
    let mut late = Writer::new([9, 0x0100, 1, 0, 0, 0]);
    late.bytes.extend_from_slice(&question);
    world.packet(client(1), &late.bytes);
    world.settle();
    assert_eq!((loops(&mut world), world.sent.len()), (vec![], 1), "it is forwarded");
    let sent = world.only_sent();
    world.respond(sent.connection, &answer(&sent.bytes));
    assert_eq!(world.finish().stages.loops.refused, 0);
}
