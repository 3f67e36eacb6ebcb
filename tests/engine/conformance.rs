//! Conformance with the reference: its defects that onward avoids, and its checks that must hold.
//!
//! Two lists of the reference's behaviour, each number with the tests that cover it here: names
//! with hyphens are scenarios, names with underscores are test functions anywhere in the tree; the
//! last test below checks that they exist. Rows without a test elsewhere are tested in this file.
//! «Ours» marks deliberate differences.
//!
//! Defects and rough edges, with those of encrypted transports (21, 22) left out:
//!
//! | n | behaviour here | shown by |
//! |---|---|---|
//! | 1 | a dial obeys the query's 5 s | `connection-unanswered-everywhere`, |
//! |   |   | `connection-unanswered` |
//! | 2 | only dials that succeed count | `udp_response_times_do_not_shorten_the_connect_timeout`, |
//! |   |   | `a_failed_dial_does_not_lengthen_the_next_connect_timeout` |
//! | 3 | a reset of pooled connections is free | `connection-reset-between-queries` |
//! | 4 | connections are shared | `connection-answers-in-any-order`, `connection-full` |
//! | 5 | a burst's pool shrinks | `pool-shrinks-after-a-burst`, `a_burst_leaves_no_pool_behind` |
//! | 6 | closed when due | `idle-connection-expires` |
//! | 7 | no simultaneous expiry | `max-age-is-jittered`, |
//! |   |   | `connections_dialled_together_do_not_retire_together` |
//! | 8 | no locks | `rooms_that_forward_use_no_locks` |
//! | 9 | a sweep's cost is that of the closes | `benches/operations/pool.rs`: 100 and |
//! |   |   | 100,000 connections |
//! | 10 | ours: a forgery ends nothing | `wrong-question`, `wrong-question-on-a-connection`, |
//! |    |   | `a_million_spoofed_responses_do_not_end_an_exchange` |
//! | 11 | EDNS ends at the hop | `opt-only-for-who-sent-one`, `options-end-at-the-hop` |
//! | 12 | ours: a signed query is REFUSED | `signed-query` |
//! | 13 | no busy loop | `max-connect-attempts-0-still-ends`, |
//! |    |   | `a_probe_interval_of_zero_is_raised_to_the_minimum` |
//! | 14 | max_fails means what it says | `max_fails_failures_in_a_row_are_down_and_not_one_more` |
//! | 15 | as the reference: probes decide | `answered-probes-keep-an-upstream-up` |
//! | 16 | each stage of a probe ends | `over_tcp_an_upstream_that_closes_or_is_silent_is_down` |
//! | 17 | ours: delivered if nothing better comes | `failover-within-the-five-seconds`, |
//! |    |   | `failover-response-is-kept-for-the-end`, |
//! |    |   | `a_response_kept_by_failover_is_delivered_when_attempts_run_out` |
//! | 18 | all down: any, with retries | `all-down-means-any`, |
//! |    |   | `when_all_are_down_a_query_keeps_its_retries` |
//! | 19 | names are looked up | `queries_go_to_the_addresses_that_the_resolver_knows` |
//! | 20 | a scope is kept | `a_link_local_address_keeps_its_interface` |
//! | 23 | as the reference | `targets_are_limited`, |
//! |    |   | `addresses_get_the_default_port_and_duplicates_are_dropped` |
//! | 24 | one upstream query for equal questions | `same-question-is-asked-once` |
//! | 25 | ports rotate, every attempt has an id | `pool-spreads-over-ports`, `retry-has-a-new-id` |
//! | 26 | pools survive or close | `idle_connections_stay_and_are_used`, |
//! |    |   | `a_query_to_an_upstream_that_is_gone_starts_again` |
//! | 27 | dead connections are not reused | `dead-connection-takes-older-ones-along` |
//! | 28 | every option is parsed | `every_option_is_read` |
//! | 29 | as the reference, unless UDP is | `prefer-udp-for-clients-on-tcp`, |
//! |    | preferred: an answer for a connection | `same-question-over-udp-and-tcp` |
//! |    | may be longer than UDP carries |   |
//! | 30 | ours: NOTIMP, because one of many messages would be wrong | `zone-transfers` |
//! | 31 | header counts are checked | `answer-with-fewer-records-than-counted` |
//!
//! Checks, with those of encrypted transports (16, 17) and of live reloads (22) left out:
//!
//! | n | expected behaviour | shown by |
//! |---|---|---|
//! | 1 | passed on unchanged, with each client's ID | `response-is-passed-on-as-it-is`, |
//! |   | and case | `same-question-in-other-letters` |
//! | 2 | ours: two ports, two ids | `one_query_at_a_time_rotates_through_all_ports_of_the_spread` |
//! | 3 | fewer connections than queries | `connection-answers-in-any-order`, |
//! |   |   | `one_connection_carries_32_queries_at_once_with_answers_in_any_order` |
//! |   |   | `a_hundred_queries_on_one_client_connection_are_answered_in_any_order` |
//! |   |   | `quick_names_do_not_wait_for_a_slow_one_on_a_connection_in_order` |
//! |   |   | `connections_that_are_closed_after_a_few_answers_cost_no_query_its_answer` |
//! | 4 | a refused port fails at once | `refused-everywhere-fails-at-once`, |
//! |   |   | `refusing-upstream-goes-down`, `all-down-means-any` |
//! | 5 | failfast sends no query | `failfast-when-all-are-down` |
//! | 6 | silence: 4 s | `one-silent-upstream-is-asked-twice`, `silent-upstream-goes-down` |
//! | 7 | ours: two silent end at 5 s | `five-seconds-for-the-whole-query` |
//! | 8 | strays are ignored | `wrong-id`, `short-datagram-first` |
//! | 9 | ours: the query keeps waiting | `wrong-question`, `query-instead-of-a-response`, |
//! |   |   | `a_wrong_packet_is_dropped_and_counted_and_the_exchange_goes_on` |
//! | 10 | 59 addresses | `fifty_nine_addresses_are_cut_for_datagrams_and_whole_over_tcp` |
//! | 11 | TC is passed on | `tc-from-upstream-goes-to-the-client` |
//! | 12 | closed after every answer | `answer-and-close`, `connection-closed-between-queries`, |
//! |    | ours: a reset costs no probe | `connection-reset-between-queries` |
//! | 13 | failover | `failover-delivers-the-last-response` |
//! | 14 | next | `next-asks-the-following-stanza`, `next-on-nodata-is-not-for-nxdomain` |
//! | 15 | max_concurrent | `max-concurrent-refuses`, |
//! |    |   | `max_concurrent_refuses_excess_queries_at_once_and_answers_the_rest` |
//! | 18 | sixteen targets | `targets_are_limited` |
//! | 19 | ours: of all options only client | `options-end-at-the-hop`, `client-subnet-passes` |
//! |    | subnet passes |   |
//! | 20 | max_age under load | `max-age-under-continuous-load` |
//! | 21 | the source | `upstreams_are_asked_from_the_source_address_over_both_transports` |

use crate::common::wire::{Ask, Writer, answer, question_of, word_at};
use crate::common::{at, config, stanza, upstream_address};
use crate::world::{World, client};
use onward::config::{Forward, HealthCheck, PROBE_INTERVAL_MIN, Rcodes};
use onward::engine::health::HealthStates;
use onward::engine::health::schedule::Schedule;
use onward::engine::{Client, Forwarder, Via};
use onward::moment::Moment;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn world(forward: Forward) -> World {
    World::new(&config(vec![(".", vec![forward])]))
}

/// A correct response over UDP, but truncated.
fn truncated(query: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new([word_at(query, 0), 0x8380, 1, 0, 0, 0]);
    writer.bytes.extend_from_slice(question_of(query));
    writer.bytes
}

/// After fast UDP responses the reference would give up this dial after one second.
#[test]
fn udp_response_times_do_not_shorten_the_connect_timeout() {
    let read_timeout = Duration::from_secs(5);
    let mut world = world(Forward { prefer_udp: true, read_timeout, ..stanza(1) });
    for number in 0..50 {
        world.ask(number, &Ask::new(1, &format!("n{number}.example")));
        let sent = world.only_sent();
        assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    }
    world.take_got();
    world.ask(1, &Ask::new(1, "long.example"));
    let sent = world.only_sent();
    // The response is accepted; the query is retried over TCP and the client gets no reply yet.
    assert!(!world.respond(sent.connection, &truncated(&sent.bytes)));
    let connection = world.only_sent();
    assert!(world.engine.is_tcp(connection.connection));
    world.pass(4.5);
    world.engine.on_connected(world.now, connection.connection);
    assert!(world.respond(connection.connection, &answer(&connection.bytes)));
    assert_eq!(world.only_got().rcode(), 0);
    world.finish();
}

/// Dials were fast until the upstream disappeared: each dial times out after a second, the tenth as
/// well as the first.
#[test]
fn a_failed_dial_does_not_lengthen_the_next_connect_timeout() {
    let read_timeout = Duration::from_secs(5);
    let forward = Forward { force_tcp: true, read_timeout, expire: Duration::ZERO, ..stanza(1) };
    let mut world = world(Forward { max_connect_attempts: Some(1), ..forward });
    for number in 0..20 {
        world.ask(number, &Ask::new(1, &format!("n{number}.example")));
        let sent = world.only_sent();
        world.engine.on_connected(world.now, sent.connection);
        assert!(world.respond(sent.connection, &answer(&sent.bytes)));
    }
    world.take_got();
    for number in 0..10 {
        let begun = world.now;
        world.ask(number, &Ask::new(1, &format!("n{number}.example")));
        world.pass(5.0);
        let got = world.only_got();
        assert_eq!((got.at.since(begun), got.rcode()), (Duration::from_secs(1), 2));
    }
    world.take_sent();
    world.finish();
}

#[test]
fn a_probe_interval_of_zero_is_raised_to_the_minimum() {
    let check = HealthCheck { interval: Duration::ZERO, ..HealthCheck::default() };
    let mut schedule = Schedule::new(&check);
    assert!(schedule.on_failed_exchange());
    for _ in 0..100 {
        let failed = schedule.on_unanswered(Moment::ZERO, 0);
        let pause = failed.next.since(Moment::ZERO);
        assert!(pause >= PROBE_INTERVAL_MIN * 9 / 10, "{pause:?}, less a jitter of a tenth");
        assert!(schedule.on_due());
    }
}

#[test]
fn a_response_kept_by_failover_is_delivered_when_attempts_run_out() {
    let failover = Rcodes::from_iter([2]);
    let mut world = world(Forward { failover, max_connect_attempts: Some(1), ..stanza(3) });
    world.ask(1, &Ask::new(1, "a.example"));
    let first = world.only_sent();
    let mut failure = truncated(&first.bytes);
    (failure[2], failure[3]) = (0x81, 0x82);
    assert!(!world.respond(first.connection, &failure));
    let second = world.only_sent();
    world.refuse(second.connection);
    let got = world.only_got();
    assert_eq!((got.at, got.rcode(), got.extended_error()), (at(0.0), 2, None), "the upstream's");
    assert!(world.sent.is_empty());
    world.finish();
}

/// The reference gives such a query one attempt at one upstream.
#[test]
fn when_all_are_down_a_query_keeps_its_retries() {
    let config = config(vec![(".", vec![stanza(2)])]);
    let mut world = World::new(&config);
    let health_states = Arc::new(HealthStates::new(&config));
    (0..2).for_each(|upstream| health_states.set(upstream, true, true));
    world.engine = Forwarder::new(&config, [7; 32], health_states);
    world.ask(1, &Ask::new(1, "a.example"));
    let first = world.only_sent();
    world.refuse(first.connection);
    let second = world.only_sent();
    assert_ne!(first.to, second.to, "the other one");
    assert!(world.respond(second.connection, &answer(&second.bytes)));
    assert_eq!(world.only_got().rcode(), 0);
    assert_eq!(world.engine.stats().all_down, 2, "found so at each attempt");
    world.finish();
}

/// A whole response with 59 addresses: 12 + 17 + 59 × 16 bytes.
fn fifty_nine(query: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new([word_at(query, 0), 0x8180, 1, 59, 0, 0]);
    writer.bytes.extend_from_slice(question_of(query));
    (0..59).for_each(|last| writer.record(&[0xc0, 12], 1, 1, 300, &[192, 0, 2, last]));
    writer.bytes
}

/// An RRset is included whole or not at all, and TC is set if it is missing (the reference includes
/// a part of it).
#[test]
fn fifty_nine_addresses_are_cut_for_datagrams_and_whole_over_tcp() {
    let mut world = world(stanza(1));
    for (udp_size, addresses, tc) in
        [(None, 0, 0x0200), (Some(512), 0, 0x0200), (Some(1_232), 59, 0)]
    {
        let ask = Ask::new(1, "a.example");
        let ask = udp_size.map_or(ask.clone(), |size| ask.with_edns(size));
        world.ask(1, &ask);
        let sent = world.only_sent();
        assert_eq!(sent.to, upstream_address(0));
        assert!(world.respond(sent.connection, &fifty_nine(&sent.bytes)));
        let got = world.only_got();
        let seen = (word_at(&got.bytes, 6), word_at(&got.bytes, 2) & 0x0200);
        assert_eq!((seen, got.rcode()), ((addresses, tc), 0), "{udp_size:?}");
    }
    let peer = client(7).peer;
    let (connection, _) = world.engine.admit(world.now, 0, peer.ip()).unwrap();
    let on_stream = Client { via: Via::Connection(connection), ..client(7) };
    world.packet(on_stream, &Ask::new(1, "a.example").bytes());
    world.settle();
    let sent = world.only_sent();
    assert!(world.engine.is_tcp(sent.connection), "as the client, so the upstream");
    world.engine.on_connected(world.now, sent.connection);
    assert!(world.respond(sent.connection, &fifty_nine(&sent.bytes)));
    let got = world.only_got();
    assert_eq!((word_at(&got.bytes, 6), word_at(&got.bytes, 2) & 0x0200), (59, 0));
    assert_eq!(world.engine.outstanding(), 0);
}

/// The text of all source files below `directory`.
fn sources(directory: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else if !has_locks(&path) && path.extension().is_some_and(|extension| extension == "rs") {
            text += &std::fs::read_to_string(&path).unwrap();
        }
    }
    text
}

#[test]
fn rooms_that_forward_use_no_locks() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for room in ["src/engine", "src/worker", "src/sys"] {
        let text = sources(&root.join(room));
        for lock in ["Mutex", "RwLock", "Condvar"] {
            assert!(!text.contains(lock), "{room} has a {lock}");
        }
    }
}

/// The files of the shared cache whose locks writers take: for the keys and the words of the index,
/// the shards, and the sweep.
const CACHE_LOCKS: [&str; 3] = ["places.rs", "rooms.rs", "sweep.rs"];

/// Returns true if the file has locks that only writers of the shared cache take.
fn has_locks(path: &Path) -> bool {
    let is_cache = path.parent().is_some_and(|parent| parent.ends_with("src/engine/cache"));
    is_cache && CACHE_LOCKS.iter().any(|own| path.ends_with(own))
}

#[test]
fn all_tests_that_this_file_names_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = sources(&root.join("tests")) + &sources(&root.join("src"));
    let mut names = 0;
    for line in include_str!("conformance.rs").lines().filter(|line| line.starts_with("//! |")) {
        for name in line.split('`').skip(1).step_by(2) {
            let is_there = if name.contains('/') {
                root.join(name).exists()
            } else if name.contains('-') {
                root.join(format!("tests/scenarios/cases/{name}.scenario")).exists()
            } else {
                text.contains(&format!("#[test]\nfn {name}()"))
                    || text.contains(&format!("#[test]\n    fn {name}()"))
            };
            assert!(is_there, "there is no {name}");
            names += 1;
        }
    }
    assert!(names > 60, "{names} names");
}
