//! `erratic`: which queries get which reply, and when, in virtual time.
//!
//! Rows E1 to E17 of the reference's behaviour, except that every Nth reply is truncated, as every
//! Nth is dropped or delayed. Delayed replies are sent by timers alone.

use crate::common::at;
use crate::common::wire::Ask;
use crate::world::{World, client, corefile, shown, world};
use onward::engine::stats::DropReason;
use onward::engine::{Client, Via};

fn ask(name: &str, rtype: u16) -> Ask {
    Ask { rtype, ..Ask::new(7, name) }
}

/// Returns the reply to one query as text, empty without a reply.
fn answer(world: &mut World, name: &str, rtype: u16) -> String {
    world.packet(client(1), &ask(name, rtype).bytes());
    world.settle();
    let got = world.take_got();
    assert!(got.len() <= 1, "{got:?}");
    got.first().map(shown).unwrap_or_default()
}

const A: &str = "NOERROR aa rd\nAN a.t 0 A 192.0.2.53";
const CUT: &str = "NOERROR aa tc rd\nAN a.t 0 A 192.0.2.53";
const AAAA: &str = "NOERROR aa rd\nAN a.t 0 AAAA 2001:db8::53";

#[test]
fn every_nth_query_from_the_first_on_is_dropped() {
    let mut world = world("erratic");
    // E1 to E6.
    for (rtype, expected) in
        [(1, ""), (1, A), (28, ""), (28, AAAA), (15, ""), (15, "SERVFAIL rd ra"), (1, "")]
    {
        assert_eq!(answer(&mut world, "a.t", rtype), expected, "type {rtype}");
    }
    assert_eq!(world.dropped(DropReason::QueryDenied), 4);
    let stats = world.finish().stages.erratic;
    assert_eq!((stats.answered, stats.dropped), (3, 4));
}

#[test]
fn every_nth_reply_has_tc() {
    let mut all = world("erratic {\n drop 0\n truncate 1\n }");
    assert_eq!(answer(&mut all, "A.t", 1), CUT.replace("a.t", "A.t"));
    assert_eq!(answer(&mut all, "a.t", 1), CUT);
    all.finish();
    let mut third = world("erratic {\n truncate 3\n }");
    for expected in [CUT, A, A, CUT, A, A, CUT] {
        assert_eq!(answer(&mut third, "a.t", 1), expected);
    }
    third.finish();
}

#[test]
fn large_answers_have_thirty_records_and_are_cut_only_where_they_do_not_fit() {
    let mut world = world("erratic {\n drop 0\n large\n }");
    let all = answer(&mut world, "a.t", 1);
    assert_eq!(all.lines().filter(|line| *line == "AN a.t 0 A 192.0.2.53").count(), 30);
    let cut = answer(&mut world, "a.name-that-leaves-room-for-fewer.t", 1);
    assert!(cut.starts_with("NOERROR aa tc rd\n"), "{cut}");
    world.finish();
}

#[test]
fn every_nth_reply_is_delayed_and_sent_by_timer() {
    let mut world = world("log\n erratic {\n delay 2 400ms\n }");
    // E15, all at once: the first and the third wait.
    for number in 0..3 {
        world.ask_within_turn(number, &ask("a.t", 1));
    }
    world.settle();
    assert_eq!(world.only_got().client, client(1));
    assert_eq!(world.engine.outstanding(), 2);
    assert_eq!(world.engine.next_deadline(), Some(at(0.4)));
    world.pass(0.399);
    assert!(world.got.is_empty());
    world.pass(0.001);
    let got = world.take_got();
    assert_eq!(got.iter().map(|got| got.at).collect::<Vec<_>>(), [at(0.4); 2]);
    assert!(got.iter().all(|got| shown(got) == A), "{got:?}");
    let mut page = onward::engine::journal::Page::new();
    world.engine.swap_page(&mut page);
    let took = page.records.iter().map(|record| record.at.since(record.asking.since).as_millis());
    assert_eq!(took.collect::<Vec<_>>(), [0, 400, 400]);
    world.finish();
}

#[test]
fn a_failure_is_late_too_and_so_is_a_reply_over_tcp() {
    let mut world = world("erratic {\n delay 1 1s\n }");
    world.ask(1, &ask("a.t", 15));
    let peer = client(7).peer;
    let (connection, _) = world.engine.admit(world.now, 0, peer.ip()).unwrap();
    let on_stream = Client { via: Via::Connection(connection), ..client(7) };
    world.packet(on_stream, &ask("a.t", 1).bytes());
    world.settle();
    world.pass(1.0);
    let got = world.take_got();
    assert_eq!(got.iter().map(shown).collect::<Vec<_>>(), ["SERVFAIL rd ra", A]);
    assert_eq!(got[1].client, on_stream);
}

#[test]
fn the_number_of_delayed_replies_is_bounded() {
    let mut world = world("erratic {\n delay 1 1s\n }");
    for number in 0..1_030 {
        world.packet(client(number), &ask("a.t", 1).bytes());
    }
    assert_eq!(world.engine.outstanding(), 1_024);
    assert_eq!(world.dropped(DropReason::QueryDenied), 6);
    world.pass(1.0);
    assert_eq!(world.take_got().len(), 1_024);
    world.finish();
}

#[test]
fn delayed_replies_survive_a_reload() {
    let mut world = world("prometheus\n erratic {\n delay 1 1s\n }");
    world.ask(1, &ask("a.t", 1));
    world.reload(&corefile("any"));
    world.pass(1.0);
    assert_eq!(shown(&world.only_got()), A);
    world.finish();
}

#[test]
fn a_transfer_gets_a_zone_of_two_servers() {
    let mut whole = world("erratic {\n drop 0\n truncate 2\n }");
    let soa = "AN a.t 0 SOA a.a.t. a.a.t. 1 7200 3600 1209600 3600";
    let zone = [
        "NOERROR aa rd",
        soa,
        "AN a.t 0 NS a.a.t.",
        "AN a.t 0 NS b.a.t.",
        "AN a.a.t 0 AAAA 2001:db8::53",
        "AN b.a.t 0 AAAA 2001:db8::53",
    ];
    assert_eq!(answer(&mut whole, "a.t", 252), zone.join("\n"), "cut: without its end");
    assert_eq!(answer(&mut whole, "a.t", 252), [&zone[..], &[soa]].concat().join("\n"));
    assert_eq!(answer(&mut whole, "a.t", 251), "NOTIMP rd ra");
    let longest = format!("{}a", "a.".repeat(126));
    assert!(answer(&mut whole, &longest, 252).starts_with("NOERROR aa rd\nAN"));
    whole.finish();
    // Transfers are refused without `erratic`, and with `forward` or `rewrite` beside it.
    for directives in ["any", "erratic\n forward . 192.0.2.1", "erratic\n rewrite name a b"] {
        let mut world = world(directives);
        assert_eq!(answer(&mut world, "a.t", 252), "NOTIMP rd ra", "{directives}");
        world.finish();
    }
}
