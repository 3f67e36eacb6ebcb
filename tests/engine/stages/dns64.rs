//! `dns64`, case by case: the observed behaviour of the reference, in its order.
//!
//! A case is a question, the queries sent upstream for it, and the reply. Where the reference
//! violates RFC 6147 and nothing can depend on it, our behaviour is expected, and a remark says so.

use crate::common::wire::Ask;
use crate::parked::answered;
use crate::stages::rewrite_zone::respond;
use crate::stages::template::ask_of;
use crate::world::{World, client, corefile, shown, world};
use onward::config::{Config, Host};
use onward::engine::{Client, Via};

const F: &str = "\n forward . 192.0.2.250";
const SOA: &str = "\nAU up.test 100 SOA ns.up.test. h.up.test. 1 2 3 4 50";
const ADDRESS: &str = "NOERROR rd\nAN a.up.test 100 AAAA 64:ff9b::c000:20a";
/// The reverse name of 64:ff9b::c000:20a.
const REVERSE: &str = "a.0.2.0.0.0.0.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.b.9.f.f.4.6.0.0.ip6.arpa";

/// Number, question, upstream queries, reply.
type Case<'a> = (&'a str, &'a str, &'a str, &'a str);

/// Parses `NAME TYPE` and the words of [`ask_of`], `+v6`, `+cd` and `+tcp`.
fn asking(world: &mut World, text: &str) -> (Client, Ask) {
    let mut asker = client(1);
    let mut words: Vec<&str> = text.split(' ').collect();
    let mut take = |word: &str| {
        let before = words.len();
        words.retain(|other| *other != word);
        words.len() < before
    };
    let (v6, cd, tcp) = (take("+v6"), take("+cd"), take("+tcp"));
    if v6 {
        asker.peer = "[2001:db8::7]:4711".parse().unwrap();
    }
    if tcp {
        let admitted = world.engine.admit(world.now, 0, asker.peer.ip()).unwrap();
        asker.via = Via::Connection(admitted.0);
    }
    let mut ask = ask_of(&words.join(" "));
    ask.flags |= if cd { 0x10 } else { 0 };
    (asker, ask)
}

fn check_in(world: &mut World, cases: &[Case<'_>]) {
    for (number, ask, up, reply) in cases {
        let (asker, bytes) = asking(world, ask);
        world.ask_as(asker, &bytes);
        world.settle();
        let (asked, got) = answered(world);
        assert_eq!((asked.as_str(), shown(&got).as_str()), (*up, *reply), "{number}: {ask}");
        if let Some(connection) = asker.via.connection() {
            assert!(world.engine.clients.is_quiet(connection), "{number}: it waits for nothing");
            world.engine.clients.close(connection);
        }
    }
}

fn check(directives: &str, cases: &[Case<'_>]) {
    let mut world = world(&format!("{directives}{F}"));
    check_in(&mut world, cases);
    world.finish();
}

/// The upstream's denial of a name without addresses of the requested type.
fn none(rcode: &str) -> String {
    format!("{rcode} rd ra{SOA}")
}

#[test]
fn names_without_ipv6_addresses_get_some() {
    let (nodata, nxdomain) = (none("NOERROR"), none("NXDOMAIN"));
    let both = "NOERROR rd ra\nAN both.up.test 300 AAAA 2001:db8::11";
    let cv6 = "NOERROR rd ra\nAN cv6.up.test 300 CNAME both.up.test.\n\
               AN both.up.test 300 AAAA 2001:db8::11";
    let c = "NOERROR rd\nAN c.up.test 300 CNAME a.up.test.\n\
             AN a.up.test 100 AAAA 64:ff9b::c000:20a";
    let multi = "NOERROR rd\nAN multi.up.test 100 AAAA 64:ff9b::c000:215\n\
                 AN multi.up.test 100 AAAA 64:ff9b::c000:216\n\
                 AN multi.up.test 100 AAAA 64:ff9b::c000:217";
    let cdn = format!("NXDOMAIN rd ra\nAN cdn.up.test 300 CNAME nx.up.test.{SOA}");
    let mid = ADDRESS.replace("a.up", "mid.up").replace("20a", "220");
    let nosoa = "NOERROR rd\nAN nosoa.up.test 300 AAAA 64:ff9b::c000:24d";
    let upper = ADDRESS.replace("a.up", "A.Up");
    let lacking = format!("NOERROR rd{SOA}");
    let a = "NOERROR rd ra\nAN a.up.test 300 A 192.0.2.10";
    let at = |name: &str| format!("{name}.up.test 28, {name}.up.test 1");
    check(
        "dns64",
        &[
            ("D1", "a.up.test AAAA", "a.up.test 28", &nodata),
            ("D2", "a.up.test AAAA +v6", &at("a"), ADDRESS),
            ("D3", "both.up.test AAAA +v6", "both.up.test 28", both),
            ("D4", "nx1.up.test AAAA +v6", "nx1.up.test 28", &nxdomain),
            // Improved: the failure of the AAAA query is the reply (§5.1.2).
            ("D5", "sf1.up.test AAAA +v6", &at("sf1"), "SERVFAIL rd ra"),
            ("D6", "rf1.up.test AAAA +v6", &at("rf1"), "REFUSED rd ra"),
            ("D7", "nosoa.up.test AAAA +v6", &at("nosoa"), nosoa),
            ("D8", "mid.up.test AAAA +v6", &at("mid"), &mid),
            ("D9", "c.up.test AAAA +v6", &at("c"), c),
            ("D10", "cv6.up.test AAAA +v6", "cv6.up.test 28", cv6),
            // Improved: a name that does not exist has no address.
            ("D11", "cdn.up.test AAAA +v6", "cdn.up.test 28", &cdn),
            ("D12", "a.up.test A +v6", "a.up.test 1", a),
            ("D13", "a.up.test AAAA CH +v6", "a.up.test 28", &nodata),
            // Improved: addresses that no NAT64 can reach (RFC 6052 §3.1).
            ("D14", "spec.up.test AAAA +v6", &at("spec"), &nodata),
            ("D15", "priv.up.test AAAA +v6", &at("priv"), &nodata),
            ("D16", "multi.up.test AAAA +v6", &at("multi"), multi),
            ("D17", "a.up.test AAAA +v6 +do", &at("a"), ADDRESS),
            // Improved: a validating client gets the upstream's own response (§5.5).
            ("D18", "a.up.test AAAA +v6 +do +cd", "a.up.test 28", &nodata),
            ("cd", "a.up.test AAAA +v6 +cd", &at("a"), ADDRESS),
            ("D19", "a.up.test ANY +v6", "a.up.test 255", &nodata),
            ("D22", "mx.up.test AAAA +v6", &at("mx"), &lacking),
            // Improved: the owner is spelt as the client spelt it.
            ("D23", "A.Up.test AAAA +v6", "A.Up.test 28, A.Up.test 1", &upper),
            (
                "elsewhere",
                "x.t AAAA +v6",
                "x.t 28, x.t 1",
                "NOERROR rd\nAN x.t 100 AAAA 64:ff9b::c000:263",
            ),
            (
                "v6 only",
                "v6.up.test AAAA +v6",
                "v6.up.test 28",
                "NOERROR rd ra\nAN v6.up.test 300 AAAA 2001:db8::12",
            ),
        ],
    );
}

#[test]
fn the_results_over_tcp_are_the_same() {
    check(
        "dns64",
        &[
            ("D1", "a.up.test AAAA +tcp", "a.up.test 28", &none("NOERROR")),
            ("D2", "a.up.test AAAA +v6 +tcp", "a.up.test 28, a.up.test 1", ADDRESS),
            (
                "D3",
                "both.up.test AAAA +v6 +tcp",
                "both.up.test 28",
                "NOERROR rd ra\nAN both.up.test 300 AAAA 2001:db8::11",
            ),
            ("D5", "sf1.up.test AAAA +v6 +tcp", "sf1.up.test 28, sf1.up.test 1", "SERVFAIL rd ra"),
            ("D17", "a.up.test AAAA +v6 +do +tcp", "a.up.test 28, a.up.test 1", ADDRESS),
            ("D18", "a.up.test AAAA +v6 +do +cd +tcp", "a.up.test 28", &none("NOERROR")),
        ],
    );
}

#[test]
fn ipv4_addresses_in_ipv6_form_are_none() {
    let (mapped, mixed) = ("mapped.up.test 28, mapped.up.test 1", "mixed.up.test 28");
    check(
        "dns64",
        &[
            // Improved: they count as no address (§5.1.4).
            (
                "mapped",
                "mapped.up.test AAAA +v6",
                mapped,
                "NOERROR rd\nAN mapped.up.test 300 AAAA 64:ff9b::c000:263",
            ),
            (
                "mixed",
                "mixed.up.test AAAA +v6",
                mixed,
                "NOERROR rd ra\nAN mixed.up.test 300 AAAA 2001:db8::12",
            ),
            (
                "IPv4",
                "mapped.up.test AAAA",
                "mapped.up.test 28",
                "NOERROR rd ra\nAN mapped.up.test 300 AAAA ::ffff:192.0.2.1",
            ),
        ],
    );
}

#[test]
fn prefixes_have_the_lengths_that_there_are() {
    for (number, directive, made) in [
        ("D24", "2001:db8::/32 {\n allow_ipv4\n }", "2001:db8:c000:20a::"),
        ("D25", "{\n prefix 2001:db8:1:2:3:4::/40\n allow_ipv4\n }", "2001:db8:c0:2:a::"),
        ("D26", "{\n prefix 2001:db8:1:2:3:4::/48\n allow_ipv4\n }", "2001:db8:1:c000:2:a00::"),
        ("D27", "{\n prefix 2001:db8:1:2:3:4::/56\n allow_ipv4\n }", "2001:db8:1:c0:0:20a::"),
        ("D28", "{\n prefix 2001:db8:1:2:3:4::/64\n allow_ipv4\n }", "2001:db8:1:2:c0:2:a00:0"),
        ("D29", "{\n prefix 2001:db8:1:2:3:4::/96\n allow_ipv4\n }", "2001:db8:1:2:3:4:c000:20a"),
        // Improved: the options behind a prefix are read.
        ("D40", "64:ff9b::/96 {\n allow_ipv4\n }", "64:ff9b::c000:20a"),
    ] {
        let reply = format!("NOERROR rd\nAN a.up.test 100 AAAA {made}");
        let directive = format!("dns64 {directive}");
        let up = "a.up.test 28, a.up.test 1";
        check(&directive, &[(number, "a.up.test AAAA", up, &reply)]);
    }
    check(
        "dns64 64:ff9b::/96",
        &[("D41", "a.up.test AAAA +v6", "a.up.test 28, a.up.test 1", ADDRESS)],
    );
    // Improved: each prefix makes an address.
    check(
        "dns64 {\n prefix 64:ff9b::/96\n prefix 2001:db8::/96\n }",
        &[
            (
                "two prefixes",
                "a.up.test AAAA +v6",
                "a.up.test 28, a.up.test 1",
                "NOERROR rd\nAN a.up.test 100 AAAA 64:ff9b::c000:20a\n\
             AN a.up.test 100 AAAA 2001:db8::c000:20a",
            ),
            (
                "private",
                "priv.up.test AAAA +v6",
                "priv.up.test 28, priv.up.test 1",
                "NOERROR rd\nAN priv.up.test 100 AAAA 2001:db8::a01:203",
            ),
        ],
    );
}

#[test]
fn translate_all_translates_all_names() {
    let both = "NOERROR rd\nAN both.up.test 300 AAAA 64:ff9b::c000:20b";
    let at = |name: &str| format!("{name}.up.test 28, {name}.up.test 1");
    check(
        "dns64 {\n translate_all\n allow_ipv4\n }",
        &[
            ("D30", "both.up.test AAAA", &at("both"), both),
            ("D31", "v6.up.test AAAA", &at("v6"), &format!("NOERROR rd{SOA}")),
            ("nx", "nx1.up.test AAAA", "nx1.up.test 28", &none("NXDOMAIN")),
            ("a", "a.up.test AAAA", &at("a"), ADDRESS),
        ],
    );
}

#[test]
fn reverse_names_lead_to_those_of_the_ipv4_addresses() {
    // Improved throughout (§5.3.1).
    let target = "10.2.0.192.in-addr.arpa";
    let alias =
        format!("NOERROR rd\nAN {REVERSE} 600 CNAME {target}.\nAN {target} 300 PTR a.up.test.");
    let upper = REVERSE.to_uppercase();
    let spelt = alias.replace(REVERSE, &upper).replace("in-addr.arpa", "in-addr.ARPA");
    let nobodys = REVERSE.replacen("b.9.f.f", "b.9.f.e", 1);
    let denied =
        format!("NOERROR rd ra\nAU {nobodys} 100 SOA ns.{nobodys}. h.{nobodys}. 1 2 3 4 50");
    let loopback = REVERSE.replacen("a.0.2.0.0.0.0.c", "1.0.0.0.0.0.f.7", 1);
    let no_address =
        format!("NOERROR rd ra\nAU {loopback} 100 SOA ns.{loopback}. h.{loopback}. 1 2 3 4 50");
    let from_ipv4 =
        format!("NOERROR rd ra\nAU {REVERSE} 100 SOA ns.{REVERSE}. h.{REVERSE}. 1 2 3 4 50");
    let plain = format!("NOERROR rd ra\nAN {target} 300 PTR a.up.test.");
    let up = format!("{target} 12");
    check(
        "dns64",
        &[
            ("D20", &format!("{target} PTR +v6"), &up, &plain),
            ("D21", &format!("{REVERSE} PTR +v6"), &up, &alias),
            ("spelling", &format!("{upper} PTR +v6"), &up, &spelt),
            ("IPv4", &format!("{REVERSE} PTR"), &format!("{REVERSE} 12"), &from_ipv4),
            ("elsewhere", &format!("{nobodys} PTR +v6"), &format!("{nobodys} 12"), &denied),
            ("loopback", &format!("{loopback} PTR +v6"), &format!("{loopback} 12"), &no_address),
        ],
    );
    let long = "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.a.0.2.0.0.0.0.c.8.b.d.0.1.0.0.2.ip6.arpa";
    let alias =
        format!("NOERROR rd\nAN {long} 600 CNAME {target}.\nAN {target} 300 PTR a.up.test.");
    check("dns64 2001:db8::/32", &[("/32", &format!("{long} PTR +v6"), &up, &alias)]);
}

#[test]
fn clients_find_out_the_prefix() {
    let made = "NOERROR rd\nAN ipv4only.arpa 600 AAAA 64:ff9b::c000:aa\n\
                AN ipv4only.arpa 600 AAAA 64:ff9b::c000:ab";
    let a = "NOERROR rd\nAN ipv4only.arpa 600 A 192.0.0.170\nAN ipv4only.arpa 600 A 192.0.0.171";
    check(
        "dns64",
        &[
            ("AAAA", "ipv4only.arpa AAAA +v6", "", made),
            (
                "spelling",
                "IPv4only.ARPA AAAA +v6",
                "",
                &made.replace("ipv4only.arpa", "IPv4only.ARPA"),
            ),
            ("tcp", "ipv4only.arpa AAAA +v6 +tcp", "", made),
            ("A", "ipv4only.arpa A +v6", "", a),
            (
                "IPv4",
                "ipv4only.arpa A",
                "ipv4only.arpa 1",
                "NOERROR rd ra\nAN ipv4only.arpa 300 A 192.0.2.99",
            ),
        ],
    );
}

#[test]
fn it_works_with_cache_and_counts() {
    let mut world = world(&format!("prometheus\n dns64 {{\n allow_ipv4\n }}\n cache{F}"));
    let up = "a.up.test 28, a.up.test 1";
    // A cache keeps a denial for as long as the last number of its SOA says (RFC 2308 §5).
    let address = ADDRESS.replace("100", "50");
    check_in(
        &mut world,
        &[
            ("D32", "a.up.test AAAA", up, &address),
            ("D33", "a.up.test AAAA", "", &address),
            // The cache holds the upstream's response.
            ("A", "a.up.test A", "", "NOERROR rd ra\nAN a.up.test 300 A 192.0.2.10"),
            ("cd", "a.up.test AAAA +do +cd", "a.up.test 28", &none("NOERROR").replace("100", "50")),
        ],
    );
    let tallies = world.engine.tallies();
    let of = |rtype: usize| {
        tallies.counts.iter().map(|label_set| label_set.requests[0][0][rtype]).sum::<u64>()
    };
    let translated: u64 = tallies.counts.iter().map(|label_set| label_set.translated).sum();
    assert_eq!((of(0), of(1), translated), (3, 3, 2), "D34");
    world.finish();
}

#[test]
fn it_works_with_rewrite_cache_and_names_of_our_own() {
    let a = "a.up.test 28, a.up.test 1";
    let reply = "NOERROR rd\nAN a.cl 100 AAAA 64:ff9b::c000:20a";
    check(
        "dns64 {\n allow_ipv4\n }\n rewrite name suffix .cl .up.test answer auto",
        // Improved: the question and the names are the client's.
        &[("D35", "a.cl AAAA", a, reply)],
    );
    let reply = &reply.replace("100", "50");
    let c = "NOERROR rd\nAN c.cl 300 CNAME a.cl.\nAN a.cl 50 AAAA 64:ff9b::c000:20a";
    let soa = "\nAU cl 50 SOA ns.cl. h.cl. 1 2 3 4 50";
    check(
        "dns64 {\n allow_ipv4\n }\n rewrite name suffix .cl .up.test answer auto\n cache",
        &[
            ("miss", "a.cl AAAA", a, reply),
            ("hit", "a.cl AAAA", "", reply),
            ("case", "A.cL AAAA", "", &reply.replace("a.cl", "A.cL")),
            ("shared", "a.up.test AAAA", "", &ADDRESS.replace("100", "50")),
            ("chain", "c.cl AAAA", "c.up.test 28, c.up.test 1", c),
            ("chain again", "c.cl AAAA", "", c),
            ("nodata", "mx.cl AAAA", "mx.up.test 28, mx.up.test 1", &format!("NOERROR rd{soa}")),
            ("A", "a.cl A", "", "NOERROR rd ra\nAN a.cl 300 A 192.0.2.10"),
            (
                "both",
                "both.cl AAAA",
                "both.up.test 28",
                "NOERROR rd ra\nAN both.cl 300 AAAA 2001:db8::11",
            ),
            ("tcp", "a.cl AAAA +tcp", "", reply),
        ],
    );
    check(
        "dns64 {\n allow_ipv4\n }\n hosts {\n 192.0.2.1 h.t\n fallthrough\n }
         template IN A te.t {\n answer \"{{ .Name }} 60 IN A 192.0.2.7\"\n }",
        &[
            ("D36", "h.t AAAA", "", "NOERROR rd\nAN h.t 600 AAAA 64:ff9b::c000:201"),
            ("D37", "te.t AAAA", "te.t 28", "NOERROR rd\nAN te.t 60 AAAA 64:ff9b::c000:207"),
        ],
    );
    check(
        "template ANY AAAA . {\n rcode NOERROR\n }\n dns64 {\n allow_ipv4\n }",
        &[(
            "K45",
            "both.up.test AAAA",
            "both.up.test 1",
            "NOERROR rd\nAN both.up.test 300 AAAA 64:ff9b::c000:20b",
        )],
    );
    check(
        "dns64 {\n allow_ipv4\n }\n rewrite cname exact a.up.test both.up.test",
        &[(
            "its target has addresses",
            "c.up.test AAAA",
            "c.up.test 28, both.up.test 28",
            &format!(
                "NOERROR rd ra\nAN c.up.test 300 CNAME both.up.test.\n\
                     AN both.up.test 300 AAAA 2001:db8::11{SOA}"
            ),
        )],
    );
    check(
        "dns64 {\n allow_ipv4\n }\n template IN ANY t {
         answer \"{{ .Name }} 60 IN CNAME a.up.test.\"\n }",
        &[(
            "an alias of ours",
            "x.t AAAA",
            "a.up.test 28, a.up.test 1",
            "NOERROR aa rd\nAN x.t 60 CNAME a.up.test.\nAN a.up.test 100 AAAA 64:ff9b::c000:20a",
        )],
    );
}

#[test]
fn without_an_upstream_other_stages_have_the_addresses() {
    let mut world = world(
        "dns64 {\n allow_ipv4\n }\n template IN A t {
        answer \"{{ .Name }} 60 IN A 192.0.2.7\"\n }",
    );
    check_in(
        &mut world,
        &[
            ("A only", "x.t AAAA", "", "NOERROR rd\nAN x.t 60 AAAA 64:ff9b::c000:207"),
            ("nobody", "x.u AAAA", "", "SERVFAIL rd ra"),
        ],
    );
    world.finish();
}

#[test]
fn an_access_list_applies_to_both_queries() {
    check(
        "dns64 {\n allow_ipv4\n }\n acl {\n block type A\n }",
        &[("A", "a.up.test AAAA", "a.up.test 28", &none("NOERROR"))],
    );
    let mut denied =
        world(&format!("dns64 {{\n allow_ipv4\n }}\n acl {{\n drop type AAAA\n }}{F}"));
    denied.ask_as(client(1), &ask_of("a.up.test AAAA"));
    denied.settle();
    assert!(denied.take_got().is_empty() && denied.take_sent().is_empty());
    assert_eq!(denied.engine.next_deadline(), None);
}

#[test]
fn silence_fails_the_query_at_its_deadline() {
    let mut world = world(&format!("errors\n dns64 {{\n allow_ipv4\n }}{F}"));
    // D38: the upstream does not respond to AAAA.
    world.ask(1, &ask_of("drop.up.test AAAA +e"));
    world.pass(6.0);
    let got = world.only_got();
    assert_eq!((got.rcode(), got.extended_error()), (2, Some(22)));
    world.take_sent();
    // The upstream does not respond to A, so its response to AAAA is the reply.
    world.ask(1, &ask_of("a.up.test AAAA"));
    let sent = world.only_sent();
    world.respond(sent.connection, &respond(&sent.bytes));
    assert_eq!(world.take_sent().len(), 1, "A is asked for");
    world.pass(4.9);
    let got = world.only_got();
    assert_eq!(shown(&got), none("NOERROR"));
    world.take_sent();
    world.finish();
}

#[test]
fn a_truncated_response_is_passed_on_for_a_retry_over_tcp() {
    let mut world = world(&format!("dns64 {{\n allow_ipv4\n }}{F}"));
    for (rtype, expected) in [("AAAA", "NOERROR tc rd ra"), ("A", "NOERROR tc rd")] {
        world.ask(1, &ask_of("a.up.test AAAA"));
        loop {
            let sent = world.only_sent();
            let mut response = respond(&sent.bytes);
            let is_a = sent.bytes[12 + 11 + 1] == 1;
            if is_a == (rtype == "A") {
                response[2] |= 2;
            }
            world.respond(sent.connection, &response);
            if !world.got.is_empty() {
                break;
            }
        }
        let reply = shown(&world.only_got());
        assert!(reply.starts_with(expected), "{rtype}: {reply}");
    }
    world.finish();
}

#[test]
fn a_reload_in_the_middle_does_not_affect_waiting_clients() {
    let mut world = world(&format!("dns64 {{\n allow_ipv4\n }}{F}"));
    world.ask(1, &ask_of("a.up.test AAAA"));
    world.reload(&corefile("forward . 192.0.2.250\n errors"));
    let (asked, got) = answered(&mut world);
    assert_eq!((asked.as_str(), shown(&got).as_str()), ("a.up.test 28, a.up.test 1", ADDRESS));
    world.finish();
}

#[test]
fn clients_of_both_families_share_upstream_answers() {
    let mut world = world(&format!("dns64{F}"));
    let (six, ask) = asking(&mut world, "a.up.test AAAA +v6");
    world.ask_as(six, &ask);
    world.ask_as(client(2), &ask);
    world.settle();
    let sent = world.only_sent();
    world.respond(sent.connection, &respond(&sent.bytes));
    assert_eq!(shown(&world.only_got()), none("NOERROR"), "over IPv4");
    let (asked, got) = answered(&mut world);
    assert_eq!((asked.as_str(), shown(&got).as_str()), ("a.up.test 1", ADDRESS));
    let stats = world.finish();
    assert_eq!((stats.queries, stats.coalesced, stats.parked.asked), (2, 1, 1));
}

#[test]
fn the_query_for_ipv4_addresses_passes_the_views_anew() {
    let text = ". {
        bind 127.0.0.1
        view six {\n expr type() == 'AAAA'\n }
        dns64 {\n allow_ipv4\n }
        forward . 192.0.2.250
    }
    . {
        bind 127.0.0.1
        hosts {\n 192.0.2.9 q.t\n }
    }\n";
    let (config, _) = Config::load(text.as_bytes(), "Corefile", &Host::plain()).unwrap();
    let mut world = World::new(&config);
    let reply = "NOERROR rd\nAN q.t 100 AAAA 64:ff9b::c000:209";
    check_in(&mut world, &[("K61", "q.t AAAA", "q.t 28", reply)]);
    world.finish();
}
