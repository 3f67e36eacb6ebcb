//! Queries of the server itself, on behalf of parked client queries.
//!
//! A case is a question, the queries sent upstream for it, and the reply. The aliases are those of
//! `template`; numbered rows are the observed behaviour of the reference, and a remark says where
//! ours is better.

use crate::common::wire::{Ask, question_of, word_at};
use crate::stages::rewrite_zone::{name_of, respond};
use crate::stages::template::ask_of;
use crate::world::{Got, World, client, shown, world};
use onward::config::{Config, Host};
use onward::engine::{Client, Via};

const F: &str = "\n forward . 192.0.2.250";

/// Answers upstream queries until there are no more; returns their questions, and the one reply.
pub(crate) fn answered(world: &mut World) -> (String, Got) {
    let mut asked = Vec::new();
    loop {
        let sent = world.take_sent();
        if sent.is_empty() {
            break;
        }
        for sent in sent {
            let question = question_of(&sent.bytes);
            asked.push(format!("{} {}", name_of(question), word_at(question, question.len() - 4)));
            world.respond(sent.connection, &respond(&sent.bytes));
        }
        assert!(asked.len() < 1_000, "it does not end: {:?}", &asked[..20]);
    }
    (asked.join(", "), world.only_got())
}

/// Checks the upstream queries and the reply of each case.
pub(crate) fn check_in(mut world: World, cases: &[(&str, &str, &str, &str)]) {
    for (number, ask, up, reply) in cases {
        world.ask(1, &ask_of(ask));
        let (asked, got) = answered(&mut world);
        assert_eq!((asked.as_str(), shown(&got).as_str()), (*up, *reply), "{number}: {ask}");
    }
    world.finish();
}

fn check(directives: &str, cases: &[(&str, &str, &str, &str)]) {
    check_in(world(&format!("{directives}{F}")), cases);
}

/// A template for `CLASS TYPE`, names with this first label and one answer.
fn alias(of: &str, label: &str, target: &str) -> String {
    format!(
        "template {of} {{
            match ^{label}[.]
            answer \"{{{{ .Name }}}} 60 IN CNAME {target}\"
            fallthrough
        }}\n"
    )
}

#[test]
fn the_target_of_an_alias_is_looked_up_and_appended() {
    let templates = [
        alias("IN A", "c", "a.up.test."),
        alias("IN ANY", "d", "d.nx.up.test."),
        alias("IN A", "l", "{{ .Name }}"),
        alias("IN A", "s", "sf1.up.test."),
        alias("IN A", "r", "rf1.up.test."),
        alias("IN A", "n", "nx1.up.test."),
        alias("IN ANY", "b", "both.up.test."),
        alias("IN A", "v", "v6only.up.test."),
        alias("IN A", "x", "c2.up.test."),
        alias("IN A", "o", "q.t."),
        alias("IN A", "q", "o.t."),
    ];
    let target = "NOERROR aa rd\nAN c.t 60 CNAME a.up.test.\nAN a.up.test 300 A 192.0.2.10";
    check(
        &templates.concat(),
        &[
            ("T37", "c.t A", "a.up.test 1", target),
            (
                "T38",
                "c.t AAAA",
                "c.t 28",
                "NOERROR rd ra\nAU c.t 100 SOA ns.c.t. h.c.t. 1 2 3 4 50",
            ),
            ("T39", "d.t TXT", "", "NOERROR aa rd\nAN d.t 60 CNAME d.nx.up.test."),
            ("K64", "b.t MX", "", "NOERROR aa rd\nAN b.t 60 CNAME both.up.test."),
            (
                "T88",
                "b.t AAAA",
                "both.up.test 28",
                "NOERROR aa rd\nAN b.t 60 CNAME both.up.test.\n\
                 AN both.up.test 300 AAAA 2001:db8::11",
            ),
            // Improved: the response code and the denial are the target's (RFC 6604).
            (
                "T41",
                "n.t A",
                "nx1.up.test 1",
                "NXDOMAIN aa rd\nAN n.t 60 CNAME nx1.up.test.\n\
                 AU up.test 100 SOA ns.up.test. h.up.test. 1 2 3 4 50",
            ),
            // Improved: a failed lookup of the target fails the query.
            ("T42", "s.t A", "sf1.up.test 1", "SERVFAIL aa rd\nAN s.t 60 CNAME sf1.up.test."),
            ("refused", "r.t A", "rf1.up.test 1", "NOERROR aa rd\nAN r.t 60 CNAME rf1.up.test."),
            // Improved: the chain is bounded.
            (
                "T40",
                "d.t A",
                "",
                "NOERROR aa rd\nAN d.t 60 CNAME d.nx.up.test.\n\
                 AN d.nx.up.test 60 CNAME d.nx.up.test.",
            ),
            ("T43", "l.t A", "", "NOERROR aa rd\nAN l.t 60 CNAME l.t."),
            ("circle", "o.t A", "", "SERVFAIL aa rd\nAN o.t 60 CNAME q.t.\nAN q.t 60 CNAME o.t."),
            (
                "chain",
                "x.t A",
                "c2.up.test 1",
                "NOERROR aa rd\nAN x.t 60 CNAME c2.up.test.\nAN c2.up.test 300 CNAME c.up.test.\n\
                 AN c.up.test 250 CNAME a.up.test.\nAN a.up.test 200 A 192.0.2.10",
            ),
        ],
    );
}

#[test]
fn own_queries_pass_the_cache_and_the_access_list() {
    let a = "template IN A t {\n answer \"{{ .Name }} 60 IN A 192.0.2.1\"\n }\n";
    let answer = "answer \"{{ .Name }} 60 IN CNAME both.up.test.\"";
    let aaaa = format!("template IN AAAA t {{\n {answer}\n }}\n");
    let reply =
        "NOERROR aa rd\nAN x.t 60 CNAME both.up.test.\nAN both.up.test 300 AAAA 2001:db8::11";
    check(
        &format!("{a}{aaaa}cache"),
        &[
            ("T88", "x.t AAAA", "both.up.test 28", reply),
            ("T89", "x.t AAAA", "", reply),
            (
                "T90",
                "both.up.test AAAA",
                "",
                "NOERROR rd ra\nAN both.up.test 300 AAAA 2001:db8::11",
            ),
        ],
    );
    let any = "template IN ANY t {\n answer \"{{ .Name }} 60 IN CNAME a.up.test.\"\n }\n";
    for action in ["block", "drop", "filter"] {
        let only = "NOERROR aa rd\nAN x.t 60 CNAME a.up.test.";
        check(
            &format!("{any}acl a.up.test {{\n {action}\n }}"),
            &[("K46", "x.t A", "", only), ("K48", "x.t TXT", "", only)],
        );
    }
}

#[test]
fn aliases_lead_into_other_server_blocks_and_through_rewritten_names() {
    let text = "t {\n bind 127.0.0.1
         template IN ANY {\n answer \"{{ .Name }} 60 IN CNAME x.u.\"\n }\n }
        u {\n bind 127.0.0.1\n hosts {\n 192.0.2.5 x.u\n }\n }\n";
    let config = Config::load(text.as_bytes(), "Corefile", &Host::plain()).unwrap().0;
    check_in(
        World::new(&config),
        &[
            ("K62", "a.t A", "", "NOERROR aa rd\nAN a.t 60 CNAME x.u.\nAN x.u 3600 A 192.0.2.5"),
            ("K63", "a.t AAAA", "", "NOERROR aa rd\nAN a.t 60 CNAME x.u."),
            ("K64", "a.t MX", "", "NOERROR aa rd\nAN a.t 60 CNAME x.u."),
        ],
    );
    let rewritten = format!("rewrite name suffix .cl .t\n{}", alias("IN A", "c", "both.up.test."));
    check(
        &rewritten,
        &[(
            "put back",
            "C.cl A",
            "both.up.test 1",
            "NOERROR aa rd\nAN C.cl 60 CNAME both.up.test.\nAN both.up.test 300 A 192.0.2.11",
        )],
    );
}

#[test]
fn queries_that_lead_to_one_another_are_bounded_in_depth() {
    let link = |number: usize| alias("IN A", &format!("n{number}"), &format!("n{}.t.", number + 1));
    let chain = |links: usize| -> String { (0..links).map(link).collect() };
    let mut short = world(&format!("{}{F}", chain(8)));
    short.ask(1, &ask_of("n0.t A +e"));
    let (asked, got) = answered(&mut short);
    assert_eq!((asked.as_str(), shown(&got).lines().count()), ("n8.t 1", 10));
    let stats = short.finish();
    assert_eq!((stats.parked.queries, stats.parked.asked, stats.parked.too_deep), (8, 8, 0));
    let mut long = world(&format!("{}{F}", chain(9)));
    long.ask(1, &ask_of("n0.t A"));
    let (asked, got) = answered(&mut long);
    let reply = shown(&got);
    assert!(reply.starts_with("SERVFAIL aa rd\nAN n0.t 60 CNAME n1.t.\n"), "{reply}");
    assert_eq!((asked.as_str(), reply.lines().count()), ("", 10));
    let stats = long.finish();
    assert_eq!((stats.parked.queries, stats.parked.asked, stats.parked.too_deep), (9, 8, 1));
}

#[test]
fn parked_queries_and_clients_share_one_upstream_query() {
    let mut world = world(&format!("{}{F}", alias("IN A", "c.", "a.up.test.")));
    world.ask(1, &ask_of("c1.t A"));
    world.ask(2, &ask_of("A.up.test A"));
    world.ask(3, &ask_of("c2.t A"));
    let sent = world.only_sent();
    world.respond(sent.connection, &respond(&sent.bytes));
    let mut got = world.take_got();
    got.sort_by_key(|got| got.client.peer.port());
    let clients: Vec<_> = got.iter().map(|got| got.client).collect();
    assert_eq!(clients, [client(1), client(2), client(3)]);
    let texts: Vec<_> = got.iter().map(shown).collect();
    for (text, name) in [(&texts[0], "c1.t"), (&texts[2], "c2.t")] {
        let reply =
            format!("NOERROR aa rd\nAN {name} 60 CNAME a.up.test.\nAN a.up.test 300 A 192.0.2.10");
        assert_eq!(*text, reply);
    }
    assert_eq!(texts[1], "NOERROR rd ra\nAN a.up.test 300 A 192.0.2.10");
    let stats = world.finish();
    assert_eq!((stats.queries, stats.coalesced, stats.parked.asked), (3, 2, 2));
}

#[test]
fn a_reply_is_cut_for_its_client_and_a_truncated_target_is_no_answer() {
    let mut world = world(&format!("{}{F}", alias("IN A", "c", "a.up.test.")));
    world.ask(1, &ask_of("c.t A"));
    let sent = world.only_sent();
    let mut response = respond(&sent.bytes);
    response[2] |= 2;
    world.respond(sent.connection, &response);
    let reply = shown(&world.only_got());
    assert!(reply.starts_with("NOERROR aa tc rd\nAN c.t"), "{reply}");
    world.finish();
}

#[test]
fn silence_ends_with_the_deadline_of_the_query() {
    let mut world = world(&format!("errors\n cancel 1s\n{}{F}", alias("IN A", "c", "a.up.test.")));
    world.ask(1, &ask_of("c.t A +e"));
    world.pass(0.999);
    assert!(world.take_got().is_empty());
    world.pass(0.001);
    let got = world.only_got();
    let reply = "SERVFAIL aa rd\nAN c.t 60 CNAME a.up.test.";
    assert_eq!((shown(&got).as_str(), got.extended_error()), (reply, Some(22)));
    world.take_sent();
    world.finish();
}

#[test]
fn an_answer_after_the_deadline_is_dropped() {
    let mut world = world(&format!("cancel 1s\n dns64 {{\n allow_ipv4\n }}{F}"));
    let address = client(1).peer.ip();
    let (key, _) = world.engine.admit(world.now, 0, address).unwrap();
    let asker = Client { via: Via::Connection(key), ..client(1) };
    world.packet(asker, &ask_of("a.up.test AAAA").bytes());
    world.settle();
    let sent = world.only_sent();
    world.pass(0.5);
    world.respond(sent.connection, &respond(&sent.bytes));
    let late = world.only_sent();
    world.pass(0.5);
    assert!(shown(&world.only_got()).starts_with("SERVFAIL"));
    world.pass(0.2);
    world.respond(late.connection, &respond(&late.bytes));
    assert!(world.take_got().is_empty(), "the client has its reply");
    assert!(world.engine.clients.is_quiet(key), "it waits for nothing");
}

#[test]
fn a_chain_whose_client_has_its_reply_leaves_no_place_behind() {
    let links = alias("IN AAAA", "c", "d.t.") + &alias("IN AAAA", "d", "a.up.test.");
    let mut world = world(&format!("cancel 1s\n{links}dns64 {{\n allow_ipv4\n }}{F}"));
    let ask = |world: &mut World| {
        world.ask(1, &ask_of("c.t AAAA"));
        let sent = world.only_sent();
        world.pass(0.5);
        world.respond(sent.connection, &respond(&sent.bytes));
        // The query for A stays unanswered, for longer than the client waits.
        world.pass(10.0);
        world.take_sent();
        assert!(shown(&world.only_got()).starts_with("SERVFAIL"));
    };
    // The first few allocate their buffers.
    (0..50).for_each(|_| ask(&mut world));
    let before = world.engine.memory().queues;
    (0..50).for_each(|_| ask(&mut world));
    assert_eq!(world.engine.memory().queues, before, "places are used again");
}

#[test]
fn an_answer_that_comes_in_time_is_waited_for() {
    let links = alias("IN A", "c", "c2.up.test.");
    let mut world = world(&format!("{links}{F}"));
    world.ask(1, &ask_of("c.t A"));
    world.pass(1.9);
    let sent = world.take_sent();
    let last = sent.last().expect("it was asked");
    world.respond(last.connection, &respond(&last.bytes));
    assert!(shown(&world.only_got()).ends_with("AN a.up.test 200 A 192.0.2.10"));
    world.finish();
}

#[test]
fn a_client_that_closes_its_connection_takes_its_parked_query_along() {
    let mut world =
        world(&format!("{}{F}", alias("IN A", "c", "d.t.") + &alias("IN A", "d", "a.up.test.")));
    let address = client(1).peer.ip();
    let (key, _) = world.engine.admit(world.now, 0, address).unwrap();
    let asker = Client { via: Via::Connection(key), ..client(1) };
    world.packet(asker, &Ask::new(7, "c.t").bytes());
    world.settle();
    let sent = world.only_sent();
    assert!(!world.engine.clients.is_quiet(key), "it waits for an answer");
    world.engine.clients.close(key);
    world.respond(sent.connection, &respond(&sent.bytes));
    assert!(world.take_got().is_empty());
    let stats = world.engine.stats();
    assert_eq!(stats.drops[onward::engine::stats::DropReason::ReplyNotSent as usize], 1);
    world.pass(100.0);
    assert_eq!(world.engine.next_deadline(), None, "nothing is left parked");
}

#[test]
fn a_reload_does_not_lose_parked_queries() {
    let mut world = world(&format!("{}{F}", alias("IN A", "c", "a.up.test.")));
    world.ask(1, &ask_of("c.t A"));
    let sent = world.only_sent();
    world.reload(&crate::world::corefile("prometheus\n forward . 192.0.2.250"));
    world.respond(sent.connection, &respond(&sent.bytes));
    let reply = "NOERROR aa rd\nAN c.t 60 CNAME a.up.test.\nAN a.up.test 300 A 192.0.2.10";
    assert_eq!(shown(&world.only_got()), reply);
    world.ask(1, &ask_of("c.t A"));
    let sent = world.only_sent();
    world.respond(sent.connection, &respond(&sent.bytes));
    world.reload(&crate::world::corefile("whoami"));
    world.finish();
}

#[test]
fn an_own_query_is_counted_in_the_block_that_serves_it() {
    let mut world = world(&format!("prometheus\n{}{F}", alias("IN A", "c", "a.up.test.")));
    world.ask(1, &ask_of("c.t A"));
    answered(&mut world);
    let tallies = world.engine.tallies();
    let asked = |place: usize| {
        tallies.counts.iter().map(|label_set| label_set.requests[0][0][place]).sum::<u64>()
    };
    assert_eq!(asked(0), 2);
    world.finish();
}

#[test]
fn a_target_outside_all_zones_is_left_out() {
    let templates = alias("IN A", "(?P<x>[a-z]+)-b", "b.{{ .Group.x }}.zz.");
    check_in(
        world(&templates),
        &[("T93", "a-b.t A", "", "NOERROR aa rd\nAN a-b.t 60 CNAME b.a.zz.")],
    );
}

#[test]
fn a_query_whose_time_ends_in_the_turn_of_its_answer_does_not_wait_for_another() {
    let mut world = world(&format!("dns64 {{\n allow_ipv4\n }}{F}"));
    world.ask(1, &ask_of("a.up.test AAAA"));
    world.pass(1.5);
    let sent = world.only_sent();
    let response = respond(&sent.bytes);
    // The response is read in time, and the turn ends after the deadline.
    let answered = world.engine.on_response(world.now, sent.connection, &response, false);
    assert!(answered.is_none(), "a parked query is no client");
    world.now = world.now.plus(std::time::Duration::from_secs(4));
    world.engine.on_time(world.now);
    world.settle();
    assert!(world.take_sent().is_empty(), "no other query begins after the time is over");
    // The reply is the upstream's response about IPv6 addresses.
    let got = shown(&world.only_got());
    assert!(got.starts_with("NOERROR") && !got.contains("AN "), "{got}");
    world.finish();
}
