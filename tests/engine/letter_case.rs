//! `case_randomize`: names of queries over UDP in random letter case.
//!
//! Covers the spelling of each attempt, responses in another case, upstreams that do not keep the
//! case, and that each client gets its own spelling.

use crate::common::wire::{Ask, answer, question_of};
use crate::world::{Sent, World, corefile};
use onward::engine::Notice;
use onward::engine::health::{PLAIN_FOR, Quirk, Remark};
use onward::engine::stats::DropReason;

/// 24 letters.
const NAME: &str = "abcdefghijkl.mnopqrstuvwx";

fn world(mode: &str) -> World {
    let directives = format!("forward . 192.0.2.1 {{\n case_randomize {mode}\n}}");
    World::new(&corefile(&directives))
}

/// Asks for `NAME` and returns the upstream query.
fn sent_for(world: &mut World, id: u16) -> Sent {
    world.ask(1, &Ask::new(id, NAME));
    world.only_sent()
}

/// Returns true if letters of the query have been given capitals.
fn is_random(sent: &Sent) -> bool {
    question_of(&sent.bytes) != Ask::new(1, NAME).question()
}

/// An answer to `query` from an upstream that does not keep the case of letters.
fn folded(query: &[u8]) -> Vec<u8> {
    let mut packet = answer(query);
    packet[12..12 + NAME.len() + 2].make_ascii_lowercase();
    packet
}

fn remarks(world: &mut World) -> Vec<Remark> {
    world.take_notices(|notice| match notice {
        Notice::Odd(remark) => Some(*remark),
        _ => None,
    })
}

#[test]
fn each_query_has_its_own_case_and_the_client_gets_the_one_it_sent() {
    let mut world = world("on");
    let mut spellings = Vec::new();
    for id in 0..20 {
        let sent = sent_for(&mut world, id);
        assert!(question_of(&sent.bytes).eq_ignore_ascii_case(&Ask::new(id, NAME).question()));
        assert!(world.respond(sent.connection, &answer(&sent.bytes)));
        let got = world.only_got();
        assert_eq!(question_of(&got.bytes), Ask::new(id, NAME).question());
        spellings.push(question_of(&sent.bytes).to_vec());
    }
    spellings.sort();
    spellings.dedup();
    // Two of 2^24 are equal once in 90,000 runs; the seed is fixed.
    assert_eq!(spellings.len(), 20);
    world.finish();
}

#[test]
fn without_the_option_the_case_is_the_clients() {
    let mut world = World::new(&corefile("forward . 192.0.2.1"));
    let sent = sent_for(&mut world, 1);
    assert!(!is_random(&sent));
    assert!(world.respond(sent.connection, &folded(&sent.bytes)));
    world.take_got();
    world.finish();
}

#[test]
fn clients_of_one_exchange_get_their_own_case() {
    let mut world = world("on");
    let names = [NAME.to_owned(), NAME.to_uppercase()];
    for (number, name) in names.iter().enumerate() {
        world.ask(number, &Ask::new(1, name));
    }
    let sent = world.only_sent();
    assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    let got = world.take_got();
    let questions: Vec<_> = got.iter().map(|got| question_of(&got.bytes).to_vec()).collect();
    assert_eq!(questions, names.map(|name| Ask::new(1, &name).question()));
    world.finish();
}

#[test]
fn a_response_in_another_case_is_not_accepted_and_the_query_goes_over_tcp() {
    for mode in ["on", "auto"] {
        let mut world = world(mode);
        let sent = sent_for(&mut world, 1);
        let mut forged = answer(&sent.bytes);
        forged[13] ^= 0x20;
        assert!(!world.respond(sent.connection, &forged));
        assert_eq!(world.dropped(DropReason::ResponseWrongCase), 1);
        assert!(world.got.is_empty());
        let over_tcp = world.only_sent();
        assert_ne!(over_tcp.connection, sent.connection);
        assert!(world.respond(over_tcp.connection, &answer(&over_tcp.bytes)));
        assert_eq!(world.only_got().rcode(), 0);
        // It was a forgery: the upstream keeps the case over TCP.
        assert_eq!(remarks(&mut world), []);
        let next = sent_for(&mut world, 2);
        assert!(is_random(&next), "{mode}");
        assert!(world.respond(next.connection, &answer(&next.bytes)));
        world.take_got();
        world.finish();
    }
}

#[test]
fn auto_stops_for_an_upstream_that_does_not_keep_the_case() {
    let mut world = world("auto");
    for round in 0..2 {
        let sent = sent_for(&mut world, 1);
        assert!(is_random(&sent), "{round}");
        assert!(!world.respond(sent.connection, &folded(&sent.bytes)));
        let over_tcp = world.only_sent();
        assert!(world.respond(over_tcp.connection, &folded(&over_tcp.bytes)));
        let got = world.only_got();
        assert_eq!(question_of(&got.bytes), Ask::new(1, NAME).question());
        let remark = Remark { upstream: 0, quirk: Quirk::FoldsCase, rcode: 0 };
        assert_eq!(remarks(&mut world), [remark]);
        let plain = sent_for(&mut world, 2);
        assert!(!is_random(&plain));
        assert!(world.respond(plain.connection, &folded(&plain.bytes)));
        world.take_got();
        world.pass(PLAIN_FOR.as_secs_f64());
    }
    world.finish();
}

#[test]
fn an_error_without_a_question_shows_no_case() {
    let mut world = world("auto");
    let sent = sent_for(&mut world, 1);
    let bare = |query: &[u8]| [&query[..2], &[0x81, 0x85, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    assert!(!world.respond(sent.connection, &bare(&sent.bytes)));
    let over_tcp = world.only_sent();
    assert!(world.respond(over_tcp.connection, &bare(&over_tcp.bytes)));
    assert_eq!(world.only_got().rcode(), 5);
    let folds = |remark: &Remark| remark.quirk == Quirk::FoldsCase;
    assert!(!remarks(&mut world).iter().any(folds));
    let next = sent_for(&mut world, 2);
    assert!(is_random(&next));
    assert!(world.respond(next.connection, &answer(&next.bytes)));
    world.take_got();
    world.finish();
}

#[test]
fn auto_stops_for_an_upstream_that_has_no_tcp_and_does_not_keep_the_case() {
    let mut world = world("auto");
    let sent = sent_for(&mut world, 1);
    assert!(!world.respond(sent.connection, &folded(&sent.bytes)));
    let over_tcp = world.only_sent();
    world.refuse(over_tcp.connection);
    let again = world.only_sent();
    assert_ne!(again.connection, sent.connection);
    assert!(world.respond(again.connection, &folded(&again.bytes)));
    assert_eq!(question_of(&world.only_got().bytes), Ask::new(1, NAME).question());
    let plain = sent_for(&mut world, 2);
    assert!(!is_random(&plain));
    assert!(world.respond(plain.connection, &folded(&plain.bytes)));
    world.take_got();
    world.finish();
}

#[test]
fn with_on_each_query_to_such_an_upstream_goes_over_tcp() {
    let mut world = world("on");
    for id in 0..3 {
        let sent = sent_for(&mut world, id);
        assert!(is_random(&sent));
        assert!(!world.respond(sent.connection, &folded(&sent.bytes)));
        let over_tcp = world.only_sent();
        assert!(world.respond(over_tcp.connection, &folded(&over_tcp.bytes)));
        assert_eq!(world.only_got().rcode(), 0);
    }
    let remark = Remark { upstream: 0, quirk: Quirk::FoldsCase, rcode: 0 };
    assert_eq!(remarks(&mut world), [remark], "once");
    world.finish();
}

#[test]
fn an_answer_of_the_cache_has_the_clients_case() {
    let directives = "cache\n forward . 192.0.2.1 {\n case_randomize on\n}";
    let mut world = World::new(&corefile(directives));
    let sent = sent_for(&mut world, 1);
    assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    world.take_got();
    let upper = NAME.to_uppercase();
    world.ask(1, &Ask::new(2, &upper));
    assert!(world.take_sent().is_empty());
    assert_eq!(question_of(&world.only_got().bytes), Ask::new(2, &upper).question());
    world.finish();
}
