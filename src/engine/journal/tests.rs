//! Pages and their bounds, and the choice of rules.
//!
//! Without an engine; the tests of the engine show which events become records.

use super::kinds::{ALL, DENIAL, ERROR};
use super::{
    BYTES_MAX, Event, Journal, LoggedQuery, PAGE_AGE_MAX, Page, RECORDS_MAX, Record, Span,
};
use crate::config::{Config, Host, Protocol};
use crate::engine::key::Transport;
use crate::engine::message::query::Asked;
use crate::moment::Moment;
use std::net::Ipv4Addr;

fn record(event: Event, at: Moment) -> Record {
    let asking = LoggedQuery {
        peer: None,
        local: Ipv4Addr::LOCALHOST.into(),
        transport: Transport::Udp,
        protocol: Protocol::Dns,
        since: at,
        size: 17,
        asked: Asked { id: 7, flags: 0, edns: None },
        rtype: 1,
        class: 1,
    };
    let (name, message) = (Span::default(), Span::default());
    Record { event, block: 0, at, asking, upstream: None, reply: None, labels: None, name, message }
}

fn journal(directives: &str) -> Journal {
    let text = format!(".:0 {{\n bind 127.0.0.1\n {directives}\n}}\n");
    let (config, _) = Config::load(text.as_bytes(), "Corefile", &Host::plain()).unwrap();
    Journal::new(&config, &[Some(0)], &ahash::RandomState::with_seeds(1, 2, 3, 4))
}

#[test]
fn a_page_has_a_maximum_of_records_and_counts_lost_ones() {
    let mut page = Page::new();
    let line = record(Event::Ended(0), Moment::ZERO);
    for number in 0..RECORDS_MAX {
        let name = [1, number as u8, 0];
        assert!(page.push(line, &name, &[number as u8; 3]));
    }
    assert!(!page.push(line, b"\0", b""));
    assert!(!page.push(record(Event::ClientQuery, Moment::ZERO), b"\0", b""));
    assert_eq!((page.log_lost, page.tap_lost), (1, 1));
    assert_eq!((page.records.capacity(), page.bytes.capacity()), (RECORDS_MAX, BYTES_MAX));
    for (number, record) in page.records.iter().enumerate() {
        assert_eq!(page.bytes(record.name), [1, number as u8, 0]);
        assert_eq!(page.bytes(record.message), [number as u8; 3]);
    }
    page.clear();
    assert_eq!(page, Page::default());
}

#[test]
fn the_room_for_messages_is_limited_and_small_ones_still_fit() {
    let mut page = Page::new();
    let tap = record(Event::ClientResponse, Moment::ZERO);
    let long = vec![7; 60_000];
    let fit = BYTES_MAX / (long.len() + 1);
    assert!((0..fit).all(|_| page.push(tap, b"\0", &long)));
    assert!(!page.push(tap, b"\0", &long));
    assert!(page.push(tap, b"\0", b"short"));
    assert_eq!((page.tap_lost, page.bytes.capacity()), (1, BYTES_MAX));
}

#[test]
fn a_page_is_due_when_it_is_half_full_or_its_first_record_has_waited() {
    let mut journal = journal("log");
    assert_eq!(journal.due(), None);
    let at = Moment::from_nanos(5_000);
    assert!(journal.push(record(Event::Ended(0), at), b"\0", b""));
    assert_eq!(journal.due(), Some(at.plus(PAGE_AGE_MAX)));
    (2..RECORDS_MAX / 2).for_each(|_| {
        journal.push(record(Event::Ended(0), at.plus(PAGE_AGE_MAX)), b"\0", b"");
    });
    assert_eq!(journal.due(), Some(at.plus(PAGE_AGE_MAX)));
    journal.push(record(Event::Ended(0), at), b"\0", b"");
    assert_eq!(journal.due(), Some(Moment::ZERO));
    let mut page = Page::new();
    journal.swap(&mut page);
    assert_eq!((journal.due(), page.records.len()), (None, RECORDS_MAX / 2));
}

#[test]
fn without_log_and_dnstap_nothing_is_wanted_and_nothing_reserved() {
    let journal = journal("errors");
    assert!(!journal.wants(0) && !journal.wants(1));
    assert_eq!((journal.page.records.capacity(), journal.page.bytes.capacity()), (0, 0));
}

#[test]
fn only_the_first_rule_for_a_name_counts() {
    let journal = journal(
        "log a.example {\n class error\n }\n log Example m {\n class denial error\n }\n log x",
    );
    assert!(journal.wants(0));
    assert_eq!(journal.taps(0), None);
    for (name, expected) in [
        (&b"\x01A\x07example\0"[..], Some((0, ERROR))),
        (b"\x01b\x01a\x07exAMPLE\0", Some((0, ERROR))),
        (b"\x01b\x07example\0", Some((1, DENIAL | ERROR))),
        (b"\x01m\0", Some((1, DENIAL | ERROR))),
        (b"\x01x\0", Some((2, ALL))),
        (b"\x02ax\0", None),
        (b"\0", None),
    ] {
        assert_eq!(journal.rule(0, name), expected, "{name:?}");
    }
}

#[test]
fn messages_are_kept_for_blocks_with_full_dnstap() {
    assert_eq!(journal("dnstap /run/a").taps(0), Some(false));
    assert_eq!(journal("dnstap /run/a\n dnstap /run/b full").taps(0), Some(true));
}
