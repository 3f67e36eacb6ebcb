//! The engine through its public interface, in virtual time, with upstreams played by the tests.
//!
//! Whole outages pass in microseconds: nothing sleeps, and instants are checked to the nanosecond.
//! Every test ends with [`world::World::finish`], which advances past all deadlines and checks that
//! nothing is left.

#[path = "engine/arrivals.rs"]
mod arrivals;
#[path = "engine/calls.rs"]
mod calls;
#[path = "engine/coalescing.rs"]
mod coalescing;
#[path = "engine/combined.rs"]
mod combined;
mod common;
#[path = "engine/conformance.rs"]
mod conformance;
#[path = "engine/cookies.rs"]
mod cookies;
#[path = "engine/edns.rs"]
mod edns;
#[path = "engine/forgery.rs"]
mod forgery;
#[path = "engine/journal.rs"]
mod journal;
#[path = "engine/late.rs"]
mod late;
#[path = "engine/letter_case.rs"]
mod letter_case;
#[path = "engine/lifetimes.rs"]
mod lifetimes;
#[path = "engine/limits.rs"]
mod limits;
#[path = "engine/model.rs"]
mod model;
#[path = "engine/notices.rs"]
mod notices;
#[path = "engine/outages.rs"]
mod outages;
#[path = "engine/parked.rs"]
mod parked;
#[path = "engine/refusals.rs"]
mod refusals;
#[path = "engine/reload.rs"]
mod reload;
#[path = "engine/stages/mod.rs"]
mod stages;
#[path = "engine/storm.rs"]
mod storm;
#[path = "engine/tallies.rs"]
mod tallies;
#[path = "engine/world.rs"]
mod world;

use common::wire::{Ask, answer, question_of, word_at};
use common::{at, config, stanza, upstream_address};
use world::World;

#[test]
fn a_query_goes_to_an_upstream_and_its_answer_to_the_client() {
    let mut world = World::new(&config(vec![(".", vec![stanza(1)])]));
    let ask = Ask::new(0x1234, "wWw.Example.ORG").with_edns(1_232);
    world.ask(1, &ask);
    let sent = world.only_sent();
    assert_eq!(sent.to, upstream_address(0));
    assert_eq!(question_of(&sent.bytes), ask.question());
    assert_eq!(world.engine.outstanding(), 1);
    world.pass(0.020);
    assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    let got = world.only_got();
    assert_eq!((got.at, got.id(), got.rcode()), (at(0.020), 0x1234, 0));
    assert_eq!(got.client, world::client(1));
    assert_eq!(word_at(&got.bytes, 6), 1, "one answer");
    assert_eq!(world.engine.next_deadline(), None);
    let stats = world.finish();
    assert_eq!((stats.queries, stats.replies[0], stats.replied()), (1, 1, 1));
    assert_eq!((stats.upstreams[0].sent, stats.upstreams[0].answered), (1, 1));
}

#[test]
fn ids_towards_upstreams_are_all_over_the_place() {
    let mut world = World::new(&config(vec![(".", vec![stanza(1)])]));
    let mut seen = vec![false; 1 << 16];
    for number in 0..4_000 {
        world.ask(number, &Ask::new(7, &format!("n{number}.example")));
        let sent = world.only_sent();
        seen[usize::from(word_at(&sent.bytes, 0))] = true;
        assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    }
    let distinct = seen.iter().filter(|seen| **seen).count();
    // 4,000 draws of 65,536 leave 3,881 ± 11 distinct ones.
    assert!((3_820..3_940).contains(&distinct), "{distinct} distinct ids");
    let quarters = seen.chunks(1 << 14).map(|part| part.iter().filter(|seen| **seen).count());
    assert!(quarters.into_iter().all(|count| (850..1_100).contains(&count)));
    world.finish();
}

#[test]
fn queries_of_one_turn_share_a_connection_and_have_ids_of_their_own() {
    let mut world = World::new(&config(vec![(".", vec![stanza(1)])]));
    for number in 0..64 {
        world.ask_within_turn(number, &Ask::new(7, &format!("n{number}.example")));
    }
    world.settle();
    let sent = world.take_sent();
    let mut ids: Vec<_> = sent.iter().map(|sent| word_at(&sent.bytes, 0)).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), world.sockets.len()), (64, 1));
    for sent in sent.iter().rev() {
        assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    }
    assert_eq!(world.take_got().len(), 64);
    let stats = world.finish();
    assert_eq!(stats.upstreams[0].pool.opened, 1);
}
