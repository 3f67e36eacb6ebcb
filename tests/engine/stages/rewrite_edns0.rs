//! `rewrite edns0`, case by case: the options that the reference was observed to send, in its
//! order.
//!
//! A case is a configuration and its questions in order: each with the options of the upstream
//! query as `CODE=HEX`, or `-` if none is sent. The client has the address 198.51.100.1 and the
//! port 2, the server 127.0.0.1 and 53. EDNS is hop by hop: options echoed by an upstream, and an
//! OPT for a client without EDNS, never reach the client.

use crate::common::wire::Ask;
use crate::stages::rewrite_zone::respond;
use crate::world::{World, client, corefile, shown, world};
use onward::engine::Via;

const F: &str = "\n forward . 192.0.2.250";
const A: &str = "NOERROR rd ra\nAN a.up.test 300 A 192.0.2.10";

fn bytes_of(digits: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// `NAME TYPE [+e] [+CODE:HEX]... [+v6]`.
fn ask_of(text: &str) -> (Ask, bool) {
    let mut words = text.split(' ');
    let mut ask = Ask::new(7, words.next().unwrap());
    let mut is_ipv6 = false;
    for word in words {
        match word {
            "A" => {}
            "AAAA" => ask.rtype = 28,
            "+v6" => is_ipv6 = true,
            "+e" => ask.edns = Some((1_232, 0, false, Vec::new())),
            option => {
                let (code, value) = option[1..].split_once(':').unwrap();
                let (code, value): (u16, _) = (code.parse().unwrap(), bytes_of(value));
                let mut options = ask.edns.map_or(Vec::new(), |edns| edns.3);
                options.extend(code.to_be_bytes());
                options.extend((value.len() as u16).to_be_bytes());
                options.extend(value);
                ask.edns = Some((1_232, 0, false, options));
            }
        }
    }
    (ask, is_ipv6)
}

/// The options of an upstream query, whose OPT is its only record besides the question.
fn options_of(query: &[u8]) -> String {
    let name_end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let mut rest = &query[name_end + 11..];
    let mut shown = Vec::new();
    while let [a, b, c, d, behind @ ..] = rest {
        let (code, len) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
        let (value, behind) = behind.split_at(len.into());
        let value: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        shown.push(format!("{code}={value}"));
        rest = behind;
    }
    shown.join(" ")
}

/// Asks, lets the upstream answer if it is queried, and returns the options of the upstream query
/// and the reply.
fn outcome(world: &mut World, ask: &str) -> (String, String) {
    let (ask, is_ipv6) = ask_of(ask);
    let mut client = client(1);
    if is_ipv6 {
        client.peer.set_ip("2001:db8:1:2:3::4".parse().unwrap());
    }
    world.ask_as(client, &ask);
    world.settle();
    let sent = world.take_sent();
    let up = sent.first().map_or("-".to_owned(), |sent| {
        assert!(world.respond(sent.connection, &respond(&sent.bytes)));
        options_of(&sent.bytes)
    });
    let got = world.only_got();
    // The reply has an OPT without options if the query had an OPT, and none otherwise.
    let tail = &got.bytes[got.bytes.len() - 11..];
    let has_opt = tail[..3] == [0, 0, 41] && tail[9..] == [0, 0];
    let message = domain::base::Message::from_octets(&got.bytes[..]).unwrap();
    assert_eq!((message.opt().is_some(), has_opt), (ask.edns.is_some(), ask.edns.is_some()));
    (up, shown(&got))
}

fn check(directives: &str, cases: &[(&str, &str, &str, &str)]) {
    check_in(world(&format!("{directives}{F}")), directives, cases);
}

fn check_in(mut world: World, directives: &str, cases: &[(&str, &str, &str, &str)]) {
    for (number, ask, up, reply) in cases {
        let (sent, got) = outcome(&mut world, ask);
        assert_eq!((sent.as_str(), got.as_str()), (*up, *reply), "{number}: {ask}\n{directives}");
    }
    world.finish();
}

#[test]
fn a_local_option_is_set_appended_replaced_and_removed() {
    check(
        "rewrite edns0 local set 0xffee 0x01abcd",
        &[
            ("R90", "a.up.test A", "65518=01abcd", A),
            ("R91", "a.up.test A +e", "65518=01abcd", A),
            ("R92", "a.up.test A +65518:00", "65518=01abcd", A),
            ("R136", "sf1.up.test A", "65518=01abcd", "SERVFAIL rd ra"),
        ],
    );
    check(
        "rewrite edns0 local set 0xffee hello revert",
        &[
            ("R93", "a.up.test A", "65518=68656c6c6f", A),
            ("R94", "a.up.test A +65518:00ff", "65518=68656c6c6f", A),
        ],
    );
    check(
        "rewrite edns0 local append 0xffee {qname}\nrewrite edns0 local append 0xffee zz",
        &[
            // A variable is not appended to an existing option, a text is.
            ("R95", "a.up.test A +65518:00", "65518=00 65518=7a7a", A),
            (
                "R96",
                "A.up.test A",
                "65518=412e75702e746573742e",
                "NOERROR rd ra\nAN A.up.test 300 A 192.0.2.10",
            ),
        ],
    );
    check(
        "rewrite edns0 local replace 0xffee {client_ip}",
        &[("R97", "a.up.test A", "", A), ("R98", "a.up.test A +65518:00", "65518=c6336401", A)],
    );
    check(
        "rewrite edns0 local unset 0xffee",
        &[
            // Improved: options without a rule are not forwarded, because EDNS is hop by hop.
            ("R99", "a.up.test A +65518:00 +65519:01", "", A),
            ("R100", "a.up.test A", "", A),
        ],
    );
}

#[test]
fn variables_have_the_values_of_the_query() {
    let rules: String = [
        ("0xff00", "{qname}"),
        ("0xff01", "{qtype}"),
        ("0xff02", "{client_ip}"),
        ("0xff03", "{protocol}"),
        ("0xff04", "{server_ip}"),
        ("0xff05", "{server_port}"),
        ("0xff06", "{client_port}"),
        ("0xff07", "{metadata/x}"),
    ]
    .map(|(code, value)| format!("rewrite continue edns0 local set {code} {value}\n"))
    .concat();
    let name = "65280=612e75702e746573742e";
    let server = "65283=756470 65284=7f000001 65285=0035 65286=0002";
    let plain = format!("{name} 65281=0001 65282=c6336401 {server}");
    let six = format!("{name} 65281=0001 65282=20010db8000100020003000000000004 {server}");
    let cases = [("R101", "a.up.test A", &*plain, A), ("", "a.up.test A +v6", &*six, A)];
    check(&rules, &cases);
    check(
        "rewrite continue name suffix .cl .up.test answer auto\n
         rewrite edns0 local set 65280 {qname}",
        &[("", "a.cl A", name, "NOERROR rd ra\nAN a.cl 300 A 192.0.2.10")],
    );
}

#[test]
fn a_label_without_a_value_is_no_rule() {
    check(
        "metadata
         rewrite edns0 local set 0xff01 {forward/upstream}
         rewrite edns0 local set 0xff02 {view/name}",
        &[("R103", "a.up.test A", "", A)],
    );
    let view = |zones: &str| {
        format!(
            "view alpha {{\n expr true\n }}\nmetadata{zones}
             rewrite edns0 local set 0xff01 {{view/name}}\nrewrite edns0 local set 0xff02 no"
        )
    };
    check(&view(""), &[("V41", "a.up.test A", "65281=616c706861", A)]);
    check(&view(" other.test"), &[("", "a.up.test A", "65282=6e6f", A)]);
}

#[test]
fn the_identifier_of_the_upstream_is_asked_for() {
    check(
        "rewrite edns0 nsid set",
        &[("R104", "a.up.test A", "3=", A), ("R105", "a.up.test A +3:", "3=", A)],
    );
    check(
        "rewrite edns0 nsid replace revert",
        &[("", "a.up.test A", "", A), ("", "a.up.test A +3:", "3=", A)],
    );
    check("rewrite edns0 nsid unset", &[("", "a.up.test A +3:", "", A)]);
    check("rewrite edns0 nsid append", &[("", "a.up.test A +3:", "3=", A)]);
}

#[test]
fn the_subnet_is_that_of_the_client() {
    let own = "8=00011800c63364";
    check(
        "rewrite edns0 subnet set 24 56",
        &[
            ("R106", "a.up.test A", own, A),
            ("R107", "a.up.test A +8:000118000a0102", own, A),
            ("R108", "a.up.test A +v6", "8=0002380020010db8000100", A),
        ],
    );
    check(
        "rewrite edns0 subnet append 24 56",
        &[
            ("R109", "a.up.test A +8:000118000a0102", "8=000118000a0102", A),
            ("R110", "a.up.test A", own, A),
        ],
    );
    check(
        "rewrite edns0 subnet replace 20 56",
        &[("", "a.up.test A", "", A), ("", "a.up.test A +8:000118000a0102", "8=00011400c63360", A)],
    );
    check("rewrite edns0 subnet unset", &[("R111", "a.up.test A +8:000118000a0102", "", A)]);
    check(
        "rewrite edns0 subnet set 0 0 revert",
        &[("R112", "a.up.test A", "8=00010000", A), ("", "a.up.test A +v6", "8=00020000", A)],
    );
}

#[test]
fn rules_keep_their_order_and_their_stops() {
    check(
        "rewrite edns0 local set 0xff01 a\nrewrite ttl a.up.test 5",
        &[("", "a.up.test A", "65281=61", A)],
    );
    // A rule that stops must stop on the way back, too: the TTL is changed only where it matched.
    check(
        "rewrite continue name a.cl a.up.test
         rewrite stop edns0 local replace 0xff01 a
         rewrite ttl a.up.test 5",
        &[
            ("", "a.cl A", "", "NOERROR rd ra\nAN a.cl 5 A 192.0.2.10"),
            ("", "a.cl A +65281:00", "65281=61", "NOERROR rd ra\nAN a.cl 300 A 192.0.2.10"),
        ],
    );
}

#[test]
fn replies_of_the_server_itself_show_no_option() {
    let hosts = "hosts {\n 192.0.2.1 q.t\n }";
    for directives in [
        format!("rewrite edns0 local set 0xffee 0x01abcd\n{hosts}"),
        format!("rewrite edns0 local set 0xffee 0x01abcd revert\n{hosts}"),
        format!("rewrite edns0 nsid set\nnsid me\n{hosts}"),
    ] {
        let cases = [
            ("R137 R139 R141", "q.t A", "-", "NOERROR aa rd\nAN q.t 3600 A 192.0.2.1"),
            ("R138 R140", "x.t A", "-", "SERVFAIL rd ra"),
            ("", "q.t A +e", "-", "NOERROR aa rd\nAN q.t 3600 A 192.0.2.1"),
        ];
        check_in(world(&directives), &directives, &cases);
    }
}

#[test]
fn the_cache_keeps_answers_apart_whose_queries_had_other_options() {
    check(
        "rewrite edns0 local set 0xffee 0x01\ncache",
        &[("R124", "a.up.test A", "65518=01", A), ("R125", "a.up.test A", "-", A)],
    );
    // The client's network is part of the cache key, so a hit is for that network alone.
    check(
        "rewrite edns0 subnet set 24 56\ncache",
        &[
            ("", "a.up.test A", "8=00011800c63364", A),
            ("", "a.up.test A", "-", A),
            ("", "a.up.test A +v6", "8=0002380020010db8000100", A),
            ("", "a.up.test A +v6", "-", A),
        ],
    );
    // An answer for a subnet given by the client itself is not cached, unless a rule removes the
    // option.
    check(
        "rewrite edns0 local set 0xffee 0x01\ncache",
        &[
            ("", "a.up.test A +8:000118000a0102", "8=000118000a0102 65518=01", A),
            ("", "a.up.test A +8:000118000a0102", "8=000118000a0102 65518=01", A),
        ],
    );
    check(
        "rewrite edns0 subnet unset\ncache",
        &[("", "a.up.test A +8:000118000a0102", "", A), ("", "a.up.test A", "-", A)],
    );
}

#[test]
fn an_expired_answer_is_refreshed_with_its_options() {
    let mut world = world(&format!(
        "rewrite edns0 subnet set 24 56\ncache {{\n serve_stale 1h immediate\n }}{F}"
    ));
    assert_eq!(outcome(&mut world, "a.up.test A").0, "8=00011800c63364");
    world.pass(400.0);
    world.ask_as(client(1), &ask_of("a.up.test A").0);
    world.settle();
    let sent = world.only_sent();
    assert_eq!(options_of(&sent.bytes), "8=00011800c63364");
    world.respond(sent.connection, &respond(&sent.bytes));
    assert_eq!(world.take_got().len(), 1);
    assert_eq!(outcome(&mut world, "a.up.test A").0, "-");
    world.finish();
}

#[test]
fn only_clients_with_the_same_options_wait_together() {
    let mut world = world(&format!("rewrite edns0 subnet set 24 56{F}"));
    for (id, ip) in [(1, "192.0.2.1"), (2, "192.0.2.200"), (3, "198.51.100.1"), (4, "192.0.3.1")] {
        let mut client = client(1);
        client.peer.set_ip(ip.parse().unwrap());
        world.ask_as(client, &Ask::new(id, "a.up.test"));
    }
    world.settle();
    let sent = world.take_sent();
    let mut asked: Vec<_> = sent.iter().map(|sent| options_of(&sent.bytes)).collect();
    asked.sort();
    assert_eq!(asked, ["8=00011800c00002", "8=00011800c00003", "8=00011800c63364"]);
    for sent in sent {
        assert!(world.respond(sent.connection, &respond(&sent.bytes)));
    }
    assert_eq!(world.take_got().len(), 4);
    world.finish();
}

#[test]
fn options_that_have_no_room_fail_the_query() {
    let long = "a".repeat(200);
    let rules = format!(
        "rewrite continue edns0 local set 0xff01 {long}
         rewrite edns0 local append 0xff02 {{qname}}"
    );
    let name = format!("{0}.{0}.{0}.up.test", "x".repeat(60));
    let asked = format!("{name} A");
    let short = format!("65281={} 65282=612e75702e746573742e", "61".repeat(200));
    check(&rules, &[("", &asked, "-", "SERVFAIL rd ra"), ("", "a.up.test A", &short, A)]);
}

#[test]
fn a_subnet_that_is_none_passes_and_is_not_kept_for_the_next_query() {
    let rules = format!(
        "rewrite continue edns0 local set 8 {}
         rewrite cname exact x.up.test. y.up.test.",
        "a".repeat(40)
    );
    let mut world = world(&format!("{rules}{F}"));
    world.ask(1, &Ask::new(7, "a.up.test"));
    let sent = world.only_sent();
    assert_eq!(options_of(&sent.bytes), format!("8={}", "61".repeat(40)));
    world.respond(sent.connection, &respond(&sent.bytes));
    assert_eq!(shown(&world.only_got()), A);
    world.finish();
}

#[test]
fn the_protocol_variable_is_tcp_over_tcp() {
    let mut world = World::new(&corefile(&format!("rewrite edns0 local set 1 {{protocol}}{F}")));
    let listener = client(1).listener;
    let ip = client(1).peer.ip();
    let (connection, _) = world.engine.admit(world.now, listener, ip).unwrap();
    let mut client = client(1);
    client.via = Via::Connection(connection);
    world.ask_as(client, &Ask::new(7, "a.up.test"));
    world.settle();
    let sent = world.only_sent();
    assert!(options_of(&sent.bytes).starts_with("1=746370"), "R102");
    assert!(world.respond(sent.connection, &respond(&sent.bytes)));
    assert_eq!(shown(&world.only_got()), A);
    world.engine.clients.close(connection);
    world.finish();
}
