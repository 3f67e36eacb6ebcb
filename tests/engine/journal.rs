//! Query log records.
//!
//! A block with `log` makes one record for each query that ends, however it ends; a block with
//! `dnstap` one for each message of the exchange; other blocks none.

use crate::common::upstream_address;
use crate::common::wire::{Ask, answer, word_at};
use crate::world::{World, client, world};
use onward::engine::journal::{Event, PAGE_AGE_MAX, Page, RECORDS_MAX, Record};
use onward::engine::key::{Transport, Way};
use onward::moment::Moment;
use std::time::Duration;

const FORWARD: &str = "forward . 192.0.2.1 {\n max_connect_attempts 1\n }";

/// The current page, as the writer would take it.
fn page(world: &mut World) -> Page {
    let mut page = Page::new();
    world.engine.swap_page(&mut page);
    page
}

fn records(world: &mut World) -> Vec<Record> {
    page(world).records
}

#[test]
fn an_answered_query_is_recorded_with_question_and_answer() {
    let mut world = world(&format!("log\n {FORWARD}"));
    let ask = Ask::new(7, "a.Example");
    world.ask(3, &ask);
    assert_eq!((records(&mut world), world.engine.page_due()), (vec![], None));
    let came = world.now;
    world.pass(0.5);
    let sent = world.only_sent();
    assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    let got = world.only_got();
    assert_eq!(world.engine.page_due(), Some(world.now.plus(PAGE_AGE_MAX)));
    let page = page(&mut world);
    let [record] = page.records[..] else { panic!("{page:?}") };
    assert_eq!((record.event, record.block, record.at), (Event::Ended(0), 0, world.now));
    assert_eq!(record.at.since(record.asking.since), Duration::from_millis(500));
    let asking = record.asking;
    assert_eq!((asking.peer, asking.since), (Some(client(3).peer), came));
    assert_eq!((asking.transport, asking.local), (Transport::Udp, [127, 0, 0, 1].into()));
    assert_eq!((asking.asked.id, asking.rtype, asking.class), (7, 1, 1));
    assert_eq!(usize::from(asking.size), ask.bytes().len());
    assert!(page.bytes(record.name).eq_ignore_ascii_case(b"\x01a\x07example\0"));
    let reply = record.reply.unwrap();
    assert_eq!((reply.flags, reply.rcode), (word_at(&got.bytes, 2), 0));
    assert_eq!(usize::from(reply.size), got.bytes.len());
    world.finish();
}

#[test]
fn each_way_a_query_can_end_leaves_one_record() {
    let acl = "acl {\n drop type TXT\n block type MX\n }";
    let forward = "forward . 192.0.2.1 {\n except no.example\n max_connect_attempts 1\n }";
    let mut world = world(&format!("log\n any\n {acl}\n cache\n {forward}"));
    let ends = |world: &mut World, ask: &Ask| {
        world.ask(1, ask);
        world.pass(3.0);
        world.take_sent();
        let records = records(world);
        assert_eq!(records.len(), 1, "{ask:?}");
        let reply = records[0].reply.map(|reply| reply.rcode);
        (reply, records[0].at.since(records[0].asking.since).as_secs())
    };
    let ask = |rtype, name| Ask { rtype, ..Ask::new(1, name) };
    assert_eq!(ends(&mut world, &ask(255, "a.example")), (Some(0), 0), "answered by a stage");
    assert_eq!(ends(&mut world, &ask(15, "a.example")), (Some(5), 0), "refused");
    assert_eq!(ends(&mut world, &ask(1, "no.example")), (Some(2), 0), "nobody forwards it");
    assert_eq!(ends(&mut world, &ask(1, "a.example")), (Some(2), 2), "no answer in time");
    world.take_got();
    // Dropped packets, because nothing waits for a reply.
    world.packet(client(1), &ask(16, "a.example").bytes());
    let dropped = records(&mut world);
    assert_eq!((dropped.len(), dropped[0].reply), (1, None));
    // Answered from the cache.
    world.ask(1, &ask(1, "b.example"));
    let sent = world.only_sent();
    world.respond(sent.connection, &answer(&sent.bytes));
    records(&mut world);
    assert_eq!(ends(&mut world, &ask(1, "b.example")), (Some(0), 0));
    world.finish();
}

#[test]
fn each_coalesced_query_has_a_record() {
    let mut world = world(&format!("log\n {FORWARD}"));
    world.ask(1, &Ask::new(1, "a.example"));
    world.pass(0.1);
    world.ask(2, &Ask::new(2, "A.example"));
    let sent = world.only_sent();
    world.respond(sent.connection, &answer(&sent.bytes));
    let records = records(&mut world);
    let ids: Vec<_> = records.iter().map(|record| record.asking.asked.id).collect();
    assert_eq!(ids, [1, 2]);
    let took = records.iter().map(|record| record.at.since(record.asking.since).as_millis());
    assert_eq!(took.collect::<Vec<_>>(), [100, 0]);
    world.finish();
}

#[test]
fn queries_outside_the_rule_or_the_block_have_no_record() {
    let log = "log b.example {\n class error\n }\n log example {\n class denial\n }";
    let mut world = world(&format!("{log}\n {FORWARD}"));
    for (name, expected) in [("a.b.example", 1), ("a.example", 0), ("b.test", 0)] {
        world.ask(1, &Ask::new(1, name));
        world.pass(3.0);
        world.take_sent();
        assert_eq!(records(&mut world).len(), expected, "{name}");
    }
    world.reload(&crate::world::corefile(FORWARD));
    world.ask(1, &Ask::new(1, "b.example"));
    world.pass(3.0);
    world.take_sent();
    assert_eq!(records(&mut world), []);
    world.reload(&crate::world::corefile(&format!("log\n {FORWARD}")));
    world.ask(1, &Ask::new(1, "b.example"));
    world.pass(3.0);
    assert_eq!(records(&mut world).len(), 1);
    world.finish();
}

#[test]
fn dnstap_records_have_whole_messages_in_order() {
    let mut world = world(&format!("dnstap /run/a full\n {FORWARD}"));
    let ask = Ask::new(7, "a.example");
    world.ask(3, &ask);
    world.pass(0.5);
    let sent = world.only_sent();
    let response = answer(&sent.bytes);
    world.respond(sent.connection, &response);
    let got = world.only_got();
    let page = page(&mut world);
    let asked = Moment::ZERO;
    let upstream = Some((upstream_address(0), Way::Datagram, asked));
    let expected = [
        (Event::ClientQuery, asked, None, ask.bytes()),
        (Event::ForwarderQuery, asked, upstream, sent.bytes.clone()),
        (Event::ForwarderResponse, world.now, upstream, response),
        (Event::ClientResponse, world.now, None, got.bytes),
    ];
    assert_eq!(page.records.len(), 4);
    for (record, (event, at, upstream, message)) in page.records.iter().zip(expected) {
        assert_eq!((record.event, record.at, record.upstream), (event, at, upstream));
        assert_eq!(page.bytes(record.message), message, "{event:?}");
        assert_eq!(record.asking.peer, Some(client(3).peer));
    }
    world.finish();
}

#[test]
fn records_without_room_are_dropped_and_counted() {
    let mut world = world("log\n dnstap /run/a\n any");
    for _ in 0..RECORDS_MAX {
        world.ask(1, &Ask { rtype: 255, ..Ask::new(1, "a.example") });
    }
    assert_eq!(world.take_got().len(), RECORDS_MAX);
    let page = page(&mut world);
    assert_eq!(page.records.len(), RECORDS_MAX);
    let stats = world.finish();
    assert_eq!((stats.log_lost, stats.tap_lost), (page.log_lost, page.tap_lost));
    assert_eq!(stats.log_lost + stats.tap_lost, 2 * RECORDS_MAX as u64);
    assert!(stats.log_lost > 0 && stats.tap_lost > 0);
}
