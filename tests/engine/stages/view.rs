//! Selection among server blocks of one zone, over UDP and TCP, and across reloads.
//!
//! Expressions are tested beside the code that evaluates them; here queries pass through whole
//! blocks, each with its own chain, cache, counters and log.

use crate::common::wire::{Ask, answer, word_at};
use crate::world::{Got, World, client, shown};
use onward::config::{Config, Host};
use onward::engine::journal::kinds::ResponseType;
use onward::engine::journal::{Labels, Page};
use onward::engine::{Client, Via};
use std::net::SocketAddr;

fn config(text: &str) -> Config {
    let loaded = Config::load(text.as_bytes(), "Corefile", &Host::plain());
    loaded.unwrap_or_else(|error| panic!("{error}\n{text}")).0
}

/// A block for the zone `.` that answers with 192.0.2.`last`.
fn block(view: &str, last: u8) -> String {
    let answer = format!("answer \"{{{{ .Name }}}} 60 IN A 192.0.2.{last}\"");
    format!(". {{\n bind 127.0.0.1\n {view}\n template IN A {{\n {answer}\n}}\n}}\n")
}

fn view(name: &str, expression: &str) -> String {
    format!("view {name} {{\n expr {expression}\n}}")
}

fn ask(name: &str, rtype: u16) -> Ask {
    Ask { rtype, ..Ask::new(7, name) }
}

fn from(address: &str) -> Client {
    let peer = SocketAddr::new(address.parse().unwrap(), 4_242);
    Client { peer, ..client(1) }
}

/// Returns the immediate reply to a query.
fn got(world: &mut World, client: Client, ask: &Ask) -> Got {
    world.packet(client, &ask.bytes());
    world.settle();
    world.only_got()
}

/// The last byte of the only address in a reply.
fn last(got: &Got) -> u8 {
    assert_eq!(word_at(&got.bytes, 6), 1, "{}", shown(got));
    let opt = if word_at(&got.bytes, 10) == 1 { 11 } else { 0 };
    got.bytes[got.bytes.len() - 1 - opt]
}

#[test]
fn a_query_over_tcp_is_for_another_block_than_one_over_udp() {
    let text = block(&view("v", "proto() == 'tcp' && bufsize() == 65535"), 1) + &block("", 9);
    let mut world = World::new(&config(&text));
    assert_eq!(last(&got(&mut world, client(1), &ask("q.t", 1))), 9);
    let (connection, _) = world.engine.admit(world.now, 0, client(7).peer.ip()).unwrap();
    let on_stream = Client { via: Via::Connection(connection), ..client(7) };
    assert_eq!(last(&got(&mut world, on_stream, &ask("q.t", 1))), 1);
    world.finish();
}

#[test]
fn each_query_of_a_batch_has_its_own_block() {
    let by_client = view("v", "incidr(client_ip(), '10.0.0.0/9')");
    let text = block(&by_client, 1) + &block(&view("w", "id() == 9"), 2) + &block("", 9);
    let mut world = World::new(&config(&text));
    let queries = [("10.1.1.1", 7), ("10.200.1.1", 7), ("192.0.2.1", 9), ("10.2.1.1", 9)];
    let packets: Vec<_> = queries
        .repeat(3)
        .into_iter()
        .map(|(address, id)| (from(address), Ask::new(id, "q.t").bytes()))
        .collect();
    world.batch(&packets);
    let answers: Vec<u8> = world.take_got().iter().map(last).collect();
    assert_eq!(answers, [1, 9, 2, 1].repeat(3));
    world.finish();
}

#[test]
fn without_a_view_that_holds_a_shorter_zone_takes_over_or_the_query_is_refused() {
    let only = block(&view("a", "client_ip() == '127.0.0.9'"), 1);
    let mut world = World::new(&config(&only));
    assert_eq!(shown(&got(&mut world, client(1), &ask("q.t", 1))), "REFUSED rd ra");
    assert_eq!(last(&got(&mut world, from("127.0.0.9"), &ask("q.t", 1))), 1);
    world.finish();
    let text = block(&view("a", "false"), 1).replacen(". {", "t {", 1) + &block("", 8);
    let mut world = World::new(&config(&text));
    assert_eq!(last(&got(&mut world, client(1), &ask("q.t", 1))), 8);
    world.finish();
}

#[test]
fn a_view_without_a_directive_that_answers_fails_and_another_class_is_refused() {
    let mut world = World::new(&config(". {\n bind 127.0.0.1\n view v\n}\n"));
    assert_eq!(shown(&got(&mut world, client(1), &ask("q.t", 1))), "SERVFAIL rd ra");
    let chaos = Ask { class: 3, ..ask("version.bind", 16) };
    assert_eq!(shown(&got(&mut world, client(1), &chaos)), "REFUSED rd ra");
    world.finish();
}

/// Each view forwards to its own upstream and has its own cache.
const CACHED: &str = ". {\n bind 127.0.0.1\n prometheus\n view a {\n expr incidr(client_ip(), \
                      '10.0.0.0/8')\n }\n cache\n forward . 192.0.2.1\n}\n. {\n bind 127.0.0.1\n \
                      prometheus\n cache\n forward . 192.0.2.2\n}\n";

#[test]
fn each_view_has_its_own_upstreams_cache_and_counters() {
    let mut world = World::new(&config(CACHED));
    for (number, client) in [("2", client(1)), ("1", from("10.0.0.1"))] {
        world.packet(client, &ask("q.t", 1).bytes());
        world.settle();
        let sent = world.only_sent();
        assert_eq!(sent.to.to_string(), format!("192.0.2.{number}:53"));
        assert!(world.respond(sent.connection, &answer(&sent.bytes)));
        world.take_got();
        world.packet(client, &ask("q.t", 1).bytes());
        world.settle();
        assert!(world.sent.is_empty(), "it is in the cache of this view");
        assert_eq!(world.take_got().len(), 1);
    }
    world.packet(from("10.0.0.2"), &ask("q.t", 1).bytes());
    let asked = |world: &World, block| {
        let tallies = world.engine.tallies();
        let place =
            tallies.label_sets.iter().position(|label_set| label_set.block == Some(block)).unwrap();
        tallies.counts[place].requests.as_flattened().as_flattened().iter().sum::<u64>()
    };
    assert_eq!([asked(&world, 0), asked(&world, 1)], [3, 2]);
    world.reload(&config(CACHED));
    assert_eq!([asked(&world, 0), asked(&world, 1)], [3, 2], "a reload keeps each view's");
    let caches = &world.engine.stats().caches;
    assert_eq!(caches.iter().map(|cache| cache.entries).collect::<Vec<_>>(), [[1, 0]; 2]);
    world.take_got();
    world.take_sent();
}

#[test]
fn a_reload_changes_the_selection_and_keeps_outstanding_queries() {
    let mut world = World::new(&config(CACHED));
    let inside = from("10.0.0.1");
    world.packet(inside, &ask("q.t", 1).bytes());
    world.settle();
    let sent = world.only_sent();
    // The network now belongs to another block; the outstanding query keeps its upstream.
    let swapped = CACHED.replace("10.0.0.0/8", "11.0.0.0/8");
    world.reload(&config(&swapped));
    world.packet(inside, &ask("r.t", 1).bytes());
    world.settle();
    let next = world.only_sent();
    assert_eq!([sent.to, next.to].map(|to| to.ip().to_string()), ["192.0.2.1", "192.0.2.2"]);
    assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    assert!(world.respond(next.connection, &answer(&next.bytes)));
    assert_eq!(world.take_got().len(), 2);
    // Failed queries restart under the new views.
    world.packet(inside, &ask("s.t", 1).bytes());
    world.settle();
    let lost = world.only_sent();
    world.reload(&config(CACHED));
    world.refuse(lost.connection);
    let again = world.only_sent();
    assert_eq!(again.to.ip().to_string(), "192.0.2.1");
    assert!(world.respond(again.connection, &answer(&again.bytes)));
    assert_eq!(world.only_got().rcode(), 0);
    // Without views no label remains.
    world.reload(&config(". {\n bind 127.0.0.1\n any\n}\n"));
    assert_eq!(got(&mut world, inside, &ask("q.t", 1)).rcode(), 2);
    world.take_sent();
}

#[test]
fn a_query_of_our_own_passes_the_views_anew() {
    let alias = "template IN ANY {\n answer \"{{ .Name }} 60 IN CNAME x.t.\"\n}";
    let aliases = view("a", "name() == 'a.t.'");
    let text = format!(". {{\n bind 127.0.0.1\n {aliases}\n {alias}\n}}\n") + &block("", 5);
    let mut world = World::new(&config(&text));
    let expected = "NOERROR aa rd\nAN a.t 60 CNAME x.t.\nAN x.t 60 A 192.0.2.5";
    assert_eq!(shown(&got(&mut world, client(1), &ask("a.t", 1))), expected);
    world.finish();
}

/// Returns the labels of the queries that have ended.
fn labels(world: &mut World) -> Vec<Option<Labels>> {
    let mut page = Page::new();
    world.engine.swap_page(&mut page);
    page.records.iter().map(|record| record.labels).collect()
}

#[test]
fn labels_name_the_upstream_and_the_reply_class_where_they_are_used() {
    let text = "t {\n bind 127.0.0.1\n metadata\n log . \"{/forward/upstream} {/log/type}\"\n \
                any\n forward . 192.0.2.1\n}\nu {\n bind 127.0.0.1\n metadata\n log\n forward . \
                192.0.2.1\n}\nv {\n bind 127.0.0.1\n log . \"{/forward/upstream}\"\n forward . \
                192.0.2.1\n}\n";
    let mut world = World::new(&config(text));
    for name in ["a.t", "a.u", "a.v"] {
        world.packet(client(1), &ask(name, 1).bytes());
        world.settle();
        let sent = world.only_sent();
        assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    }
    world.packet(client(1), &ask("a.t", 255).bytes());
    world.packet(client(1), &ask("b.t", 1).bytes());
    world.settle();
    world.pass(6.0);
    let upstream = "192.0.2.1:53".parse().ok();
    let answered = |upstream| Some(Labels { upstream, outcome: ResponseType::Answer });
    let failed = Some(Labels { upstream, outcome: ResponseType::ServerError });
    assert_eq!(labels(&mut world), [answered(upstream), None, None, answered(None), failed]);
}
