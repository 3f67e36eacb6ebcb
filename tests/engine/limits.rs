//! Limits of the engine: queries beyond them fail at once, and normal service resumes afterwards.
//!
//! Exchange slots, waiting clients and connections per pool each have a bound.

use crate::common::wire::{Ask, Writer, answer, wire_name, word_at};
use crate::common::{config, stanza};
use crate::stages::template::ask_of;
use crate::world::{World, client, world};
use onward::config::{Forward, Sizing};
use onward::engine::exchange::{EXCHANGES_MAX, WAITERS_MAX};
use onward::engine::{Client, Notice, Via};

fn flood(world: &mut World, count: usize) {
    for number in 0..count {
        world.ask_within_turn(number, &Ask::new(1, &format!("n{number}.example")));
        if number % 64 == 63 {
            world.settle();
        }
    }
    world.settle();
}

#[test]
fn more_exchanges_than_there_are_slots_are_refused_and_time_outs_free_them_all() {
    let mut world = World::new(&config(vec![(".", vec![stanza(2)])]));
    for round in 1..=2 {
        flood(&mut world, EXCHANGES_MAX + 100);
        assert_eq!(world.engine.outstanding(), EXCHANGES_MAX);
        assert_eq!(world.engine.stats().overloaded, round * 100);
        let told = world.take_got();
        assert!(told.len() == 100 && told.iter().all(|got| got.rcode() == 2));
        world.check_books();
        world.pass(5.0);
        assert_eq!(world.engine.outstanding(), 0);
        assert_eq!(world.take_got().len(), EXCHANGES_MAX);
        assert_eq!(world.engine.next_deadline(), None);
        assert!(world.sockets.is_empty(), "all kept silent, so all are closed");
        world.take_sent();
    }
    // The same number is answered normally.
    flood(&mut world, EXCHANGES_MAX);
    let sent = world.take_sent();
    assert_eq!(sent.len(), EXCHANGES_MAX);
    for sent in &sent {
        assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    }
    assert_eq!(world.take_got().len(), EXCHANGES_MAX);
    world.finish();
}

#[test]
fn a_flood_of_names_of_a_silent_zone_leaves_room_for_others() {
    let mut world = World::new(&config(vec![(".", vec![stanza(2)])]));
    let mut names = 0;
    let mut flood = |world: &mut World, count: usize| {
        for _ in 0..count {
            names += 1;
            let name = format!("r{names}.Victim.co.uk");
            world.ask_within_turn(names, &Ask::new(1, &name));
        }
        world.settle();
    };
    for _ in 0..EXCHANGES_MAX / 64 {
        flood(&mut world, 64);
    }
    let full = world.engine.outstanding();
    assert!(full < EXCHANGES_MAX, "there is a reserve");
    world.take_sent();
    let refused = world.take_got();
    assert!(refused.len() == EXCHANGES_MAX - full && refused.iter().all(|got| got.rcode() == 2));
    // Ten new names of the zone between two queries of honest clients, within their time-out.
    for number in 0..5_000 {
        flood(&mut world, 10);
        assert!(world.take_got().iter().all(|got| got.rcode() == 2), "{number}");
        world.ask(1, &Ask::new(7, &format!("n{number}.site{}.co.uk", number % 50)));
        let sent = world.only_sent();
        assert!(world.respond(sent.connection, &answer(&sent.bytes)));
        assert_eq!(world.only_got().rcode(), 0);
    }
    assert_eq!(world.engine.outstanding(), full);
    let stats = world.engine.stats();
    let expected = (EXCHANGES_MAX - full + 50_000) as u64;
    assert_eq!((stats.overloaded, stats.flood_refusals), (expected, expected));
    let told = world.take_notices(|notice| match notice {
        Notice::Flood(zone) => Some(zone.to_string()),
        _ => None,
    });
    assert_eq!(told, ["victim.co.uk."], "once");
    // The zone is served again when its queries have timed out.
    world.pass(5.0);
    world.take_got();
    world.take_sent();
    flood(&mut world, 1);
    assert_eq!(world.take_sent().len(), 1);
    world.pass(5.0);
    world.take_got();
    world.finish();
}

#[test]
fn more_clients_than_can_wait_are_refused() {
    let mut world = World::new(&config(vec![(".", vec![stanza(1)])]));
    for round in 1..=2 {
        for number in 0..WAITERS_MAX + 10 {
            world.ask_within_turn(number, &Ask::new((number >> 15) as u16, "a.example"));
        }
        world.settle();
        let sent = world.only_sent();
        assert_eq!(world.engine.stats().overloaded, 10 * round);
        assert_eq!(world.take_got().len(), 10);
        assert!(world.respond(sent.connection, &answer(&sent.bytes)));
        assert_eq!(world.take_got().len(), WAITERS_MAX);
    }
    world.finish();
}

#[test]
fn a_pool_at_its_limit_shares_its_connections() {
    let sizing =
        Sizing { spread: 1, stream_spread: 1, max_conns: 4, max_inflight: 8, tcp_inflight: 8 };
    let mut world = World::new(&config(vec![(".", vec![Forward { sizing, ..stanza(1) }])]));
    // The limit for each transport.
    assert_eq!(world.engine.connections_max(), 8);
    flood(&mut world, 1_000);
    assert_eq!((world.sockets.len(), world.engine.outstanding()), (4, 1_000));
    let sent = world.take_sent();
    for socket in world.sockets.keys() {
        let load = sent.iter().filter(|sent| sent.connection == *socket).count();
        assert!((240..=260).contains(&load), "one carries {load} of 1,000");
    }
    for sent in &sent {
        assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    }
    world.finish();
}

#[test]
fn a_pool_whose_connections_are_all_about_to_close_fails_over() {
    let sizing =
        Sizing { spread: 1, stream_spread: 1, max_conns: 1, max_inflight: 8, tcp_inflight: 8 };
    let mut world = World::new(&config(vec![(".", vec![Forward { sizing, ..stanza(2) }])]));
    world.ask(1, &Ask::new(1, "a.example"));
    world.pass(1.0);
    world.ask(2, &Ask::new(1, "b.example"));
    let first = world.take_sent();
    assert_eq!(first[0].connection, first[1].connection);
    world.pass(1.0);
    // The first query timed out, so its connection drains; the second is still outstanding on it.
    let retried = world.only_sent();
    assert_ne!(retried.to, first[0].to);
    world.ask(3, &Ask::new(1, "c.example"));
    let third = world.only_sent();
    assert_eq!(third.to, retried.to, "there is no connection to the first upstream to be had");
    for sent in [&first[1], &retried, &third] {
        assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    }
    let stats = world.finish();
    assert_eq!((stats.upstreams[0].failed, stats.replied()), (1, 3));
}

/// An upstream that closes its connections on one certain name and answers all others: each
/// connection has worked before, so the query must still be given up at some point.
#[test]
fn a_query_that_ends_every_connection_it_is_sent_on_is_given_up() {
    let stanza = Forward { force_tcp: true, ..stanza(1) };
    let mut world = World::new(&config(vec![(".", vec![stanza])]));
    world.ask(0, &Ask::new(1, "poison.example"));
    let mut poison = world.only_sent();
    let (mut times, mut shared) = (1, 0);
    for number in 1..100 {
        world.ask(number, &Ask::new(1, &format!("n{number}.example")));
        let other = world.only_sent();
        // Until the pattern resembles an upstream that closes after each answer.
        shared += usize::from(other.connection == poison.connection);
        world.engine.on_connected(world.now, poison.connection);
        world.engine.on_connected(world.now, other.connection);
        assert!(world.respond(other.connection, &answer(&other.bytes)));
        assert_eq!(world.only_got().rcode(), 0, "{number}");
        world.refuse(poison.connection);
        match world.take_sent().pop() {
            Some(again) => poison = again,
            None => break,
        }
        times += 1;
    }
    assert_eq!(world.only_got().rcode(), 2);
    assert!(times <= 12, "sent {times} times");
    assert!(shared >= 2, "{shared} connections had worked before");
    world.check_books();
    assert_eq!(world.engine.outstanding(), 0);
}

#[test]
fn a_connection_carries_as_many_queries_as_configured() {
    let sizing = Sizing { tcp_inflight: 100, ..stanza(1).sizing };
    let stanza = Forward { force_tcp: true, sizing, ..stanza(1) };
    let mut world = World::new(&config(vec![(".", vec![stanza])]));
    flood(&mut world, 450);
    let sent = world.take_sent();
    let loads = world
        .sockets
        .keys()
        .map(|socket| sent.iter().filter(|sent| sent.connection == *socket).count());
    // Four connections being dialled are filled to their limit and not beyond.
    assert_eq!(loads.collect::<Vec<_>>(), [100, 100, 100, 100, 50]);
}

#[test]
fn a_reply_on_a_connection_has_room_for_names_that_become_longer() {
    let long = [&*"a".repeat(60), &"b".repeat(60), &"c".repeat(60)].join(".");
    let rule = format!("rewrite name suffix .{long}.cl .u answer auto");
    let mut world = world(&format!("{rule}\n forward . 192.0.2.250"));
    let (key, _) = world.engine.admit(world.now, 0, client(1).peer.ip()).unwrap();
    let asker = Client { via: Via::Connection(key), ..client(1) };
    world.packet(asker, &ask_of(&format!("x.{long}.cl SRV")).bytes());
    world.settle();
    let sent = world.only_sent();
    let mut writer = Writer::new([word_at(&sent.bytes, 0), 0x8180, 1, 35, 0, 0]);
    writer.question(&wire_name("x.u"), 33, 1);
    for number in 0..35 {
        let data = [&[0; 6][..], &wire_name(&format!("t{number}.u"))].concat();
        writer.record(&[0xc0, 12], 33, 1, 60, &data);
    }
    let packet = writer.bytes;
    let engine = &mut world.engine;
    let answered = engine.on_response(world.now, sent.connection, &packet, false).unwrap();
    let mut out = vec![0; engine.room_over_tcp(&answered, &packet)];
    let reply = engine.next_reply(&answered, &packet, &mut out).unwrap();
    assert!(reply.len > packet.len() + 35 * 170, "{} bytes", reply.len);
    assert_eq!(word_at(&out, 6), 35);
}
