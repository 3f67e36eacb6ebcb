//! Queries that are HTTP requests or streams of QUIC: each may fail alone, and a server limits and
//! ends them.
//!
//! The test is the shell: it tells the engine what its HTTP or QUIC connection would. Retries that
//! the server's refusal makes free must end, and no upstream may be blamed for them.

use crate::common::wire::{Ask, answer, word_at};
use crate::world::{Sent, World, world};
use onward::engine::errors::{Fault, HttpFault, Operation, QuicFault};
use std::net::SocketAddr;

fn two() -> World {
    world("forward . https://192.0.2.1 https://192.0.2.2 {\n policy sequential\n }")
}

fn upstream(number: u8) -> SocketAddr {
    ([192, 0, 2, number], 443).into()
}

fn fail(world: &mut World, sent: &Sent, fault: impl Into<Fault>) {
    let id = word_at(&sent.bytes, 0);
    world.engine.on_call_failed(world.now, sent.connection, id, fault);
    world.settle();
}

fn respond(world: &mut World, sent: &Sent) {
    assert!(world.respond(sent.connection, &answer(&sent.bytes)));
}

/// Asks, and returns the query that reaches the upstream.
fn ask(world: &mut World, number: usize) -> Sent {
    world.ask(number, &Ask::new(1, &format!("n{number}.example")));
    world.only_sent()
}

#[test]
fn queries_over_https_are_padded_and_ask_for_no_keepalive() {
    let mut world = two();
    let sent = ask(&mut world, 1);
    assert_eq!(sent.bytes.len(), 128);
    // The first option behind the OPT's fixed part is the padding.
    let name_len = "n1.example".len() + 2;
    assert_eq!(word_at(&sent.bytes, 12 + name_len + 4 + 11), 12);
    respond(&mut world, &sent);
    world.finish();
}

#[test]
fn a_request_that_fails_is_a_failed_attempt_and_the_others_go_on() {
    for fault in [HttpFault::Status(500), HttpFault::NoMessage, HttpFault::Reset] {
        let mut world = two();
        let (first, second) = (ask(&mut world, 1), ask(&mut world, 2));
        assert_eq!(first.connection, second.connection);
        fail(&mut world, &first, fault);
        let again = world.only_sent();
        assert_eq!((again.to, again.at), (upstream(2), first.at));
        respond(&mut world, &second);
        respond(&mut world, &again);
        // Its call has ended.
        assert!(!world.respond(first.connection, &answer(&first.bytes)));
        assert_eq!(world.take_got().len(), 2);
        let stats = world.finish();
        let counts = [0, 1].map(|number: usize| &stats.upstreams[number]);
        let counts = counts.map(|upstream| (upstream.answered, upstream.failed));
        assert_eq!(counts, [(1, 1), (1, 0)], "{fault:?}");
    }
}

/// Behind one address there may be several servers, one of which fails.
#[test]
fn the_retry_at_the_same_upstream_has_another_connection() {
    for fault in [HttpFault::Status(502), HttpFault::NoMessage, HttpFault::Reset] {
        let mut world = world("forward . https://192.0.2.1");
        let first = ask(&mut world, 1);
        fail(&mut world, &first, fault);
        let again = world.only_sent();
        assert_ne!(again.connection, first.connection, "{fault:?}");
        respond(&mut world, &again);
        world.finish();
    }
    // The status of a client's error says nothing about the server.
    let mut world = world("forward . https://192.0.2.1");
    let first = ask(&mut world, 1);
    fail(&mut world, &first, HttpFault::Status(404));
    let again = world.only_sent();
    assert_eq!(again.connection, first.connection);
    respond(&mut world, &again);
    world.finish();
}

/// A server that closes after each answer has not refused what was never sent.
#[test]
fn what_was_not_sent_costs_nothing_as_long_as_connections_answer() {
    let mut world = world("forward . https://192.0.2.1 {\n max_fails 0\n }");
    for number in 0..40 {
        world.ask(number, &Ask::new(1, &format!("n{number}.example")));
    }
    let mut rounds = 0;
    while let Some(first) = world.sent.first().cloned() {
        rounds += 1;
        let own = |sent: &Sent| sent.connection == first.connection;
        let (mut own, rest): (Vec<_>, Vec<_>) = world.take_sent().into_iter().partition(own);
        world.sent = rest;
        respond(&mut world, &own.remove(0));
        world.engine.on_closing(world.now, first.connection);
        for sent in own {
            let id = word_at(&sent.bytes, 0);
            let fault = HttpFault::Unsent;
            world.engine.on_call_failed(world.now, sent.connection, id, fault);
        }
        world.settle();
    }
    assert_eq!((rounds, world.take_got().len()), (40, 40));
    assert_eq!(world.finish().upstreams[0].failed, 0);
}

#[test]
fn a_refused_request_goes_elsewhere_and_nobody_is_to_blame() {
    let mut world = two();
    let first = ask(&mut world, 1);
    fail(&mut world, &first, HttpFault::Unprocessed);
    let again = world.only_sent();
    assert_eq!(again.to, upstream(2));
    respond(&mut world, &again);
    let stats = world.finish();
    assert!(stats.upstreams.iter().all(|upstream| upstream.failed == 0));
}

#[test]
fn what_a_leaving_server_has_not_begun_is_asked_there_on_another_connection() {
    let mut world = two();
    let (first, second) = (ask(&mut world, 1), ask(&mut world, 2));
    world.engine.on_closing(world.now, first.connection);
    fail(&mut world, &second, HttpFault::Unprocessed);
    let again = world.only_sent();
    assert_eq!(again.to, upstream(1));
    assert_ne!(again.connection, first.connection);
    // What it has begun is answered, and the connection closes then.
    assert!(world.closed.is_empty());
    respond(&mut world, &first);
    assert_eq!(world.closed, [(world.now, first.connection)]);
    respond(&mut world, &again);
    let third = ask(&mut world, 3);
    assert_eq!(third.connection, again.connection);
    respond(&mut world, &third);
    assert_eq!(world.finish().upstreams[0].failed, 0);
}

#[test]
fn free_retries_are_limited() {
    let mut world =
        world("forward . https://192.0.2.1 {\n max_fails 0\n max_connect_attempts 1\n }");
    world.ask(1, &Ask::new(1, "a.example"));
    let mut count = 0;
    while let Some(sent) = world.take_sent().pop() {
        count += 1;
        world.engine.on_closing(world.now, sent.connection);
        fail(&mut world, &sent, HttpFault::Unprocessed);
    }
    assert_eq!(count, 5, "four retries are free");
    assert_eq!(world.only_got().rcode(), 2);
    assert_eq!(world.finish().upstreams[0].failed, 1);
}

#[test]
fn a_connection_takes_no_more_queries_than_the_server_allows() {
    for (calls_max, connections) in [(1, 4), (2, 2), (100, 1)] {
        let mut world = two();
        let warm = ask(&mut world, 0);
        world.engine.on_calls_max(warm.connection, calls_max);
        respond(&mut world, &warm);
        let sent: Vec<_> = (1..=4).map(|number| ask(&mut world, number)).collect();
        let mut used: Vec<_> = sent.iter().map(|sent| sent.connection).collect();
        used.sort();
        used.dedup();
        assert_eq!(used.len(), connections, "{calls_max} at once");
        sent.iter().for_each(|sent| respond(&mut world, sent));
        world.finish();
    }
}

#[test]
fn a_query_that_was_moved_away_before_its_call_frees_its_place() {
    let mut world = two();
    let warm = ask(&mut world, 0);
    world.engine.on_connected(world.now, warm.connection);
    world.engine.on_calls_max(warm.connection, 2);
    respond(&mut world, &warm);
    let (first, second) = (ask(&mut world, 1), ask(&mut world, 2));
    assert_eq!(first.connection, second.connection);
    world.pass(1.0);
    let moved = world.only_sent();
    assert_ne!(moved.connection, first.connection);
    assert_eq!(moved.bytes[12..20], second.bytes[12..20], "the second waits behind the first");
    let id = word_at(&second.bytes, 0);
    world.engine.forget_moved(second.connection, id);
    respond(&mut world, &moved);
    respond(&mut world, &first);
    let sent: Vec<_> = (3..=5).map(|number| ask(&mut world, number)).collect();
    // Otherwise the first connection would be passed over, because an answer is awaited there.
    let used = [first.connection, first.connection, moved.connection];
    assert!(sent.iter().map(|sent| sent.connection).eq(used), "{sent:?}");
    sent.iter().for_each(|sent| respond(&mut world, sent));
    world.finish();
}

fn two_over_quic() -> World {
    world("forward . quic://192.0.2.1 quic://192.0.2.2 {\n policy sequential\n }")
}

fn over_quic(number: u8) -> SocketAddr {
    ([192, 0, 2, number], 853).into()
}

#[test]
fn queries_over_quic_are_padded_and_ask_for_no_keepalive() {
    let mut world = two_over_quic();
    let sent = ask(&mut world, 1);
    assert_eq!((sent.to, sent.bytes.len()), (over_quic(1), 128));
    let name_len = "n1.example".len() + 2;
    assert_eq!(word_at(&sent.bytes, 12 + name_len + 4 + 11), 12);
    respond(&mut world, &sent);
    world.finish();
}

#[test]
fn a_refused_stream_goes_elsewhere_and_a_reset_one_is_a_failed_attempt() {
    for (fault, failed) in [
        (QuicFault::Refused, 0),
        (QuicFault::Reset, 1),
        (QuicFault::TooLong, 1),
        (QuicFault::Mismatch, 1),
    ] {
        let mut world = two_over_quic();
        let (first, second) = (ask(&mut world, 1), ask(&mut world, 2));
        assert_eq!(first.connection, second.connection);
        fail(&mut world, &first, fault);
        let again = world.only_sent();
        assert_eq!((again.to, again.at), (over_quic(2), first.at));
        respond(&mut world, &second);
        respond(&mut world, &again);
        assert_eq!(world.finish().upstreams[0].failed, failed, "{fault:?}");
    }
}

/// An upstream that is overloaded is not asked again at once, unlike one that has been restarted.
#[test]
fn a_connection_that_is_refused_after_answers_moves_its_queries_elsewhere() {
    for (fault, number) in [(Fault::Quic(QuicFault::Refused), 2), (Fault::Closed, 1)] {
        let mut world = two_over_quic();
        let warm = ask(&mut world, 0);
        respond(&mut world, &warm);
        let first = ask(&mut world, 1);
        assert_eq!(first.connection, warm.connection);
        let (now, read) = (world.now, Operation::Read);
        world.engine.on_connection_error(now, first.connection, read, fault);
        world.settle();
        let again = world.only_sent();
        assert_eq!(again.to, over_quic(number), "{fault:?}");
        assert_ne!(again.connection, first.connection);
        respond(&mut world, &again);
        assert_eq!(world.finish().upstreams[0].failed, 0, "{fault:?}");
    }
}

#[test]
fn what_was_not_sent_over_quic_costs_nothing_as_long_as_connections_answer() {
    let mut world = two_over_quic();
    let warm = ask(&mut world, 0);
    respond(&mut world, &warm);
    let first = ask(&mut world, 1);
    world.engine.on_closing(world.now, first.connection);
    fail(&mut world, &first, QuicFault::Unsent);
    let again = world.only_sent();
    assert_eq!(again.to, over_quic(1));
    assert_ne!(again.connection, first.connection);
    respond(&mut world, &again);
    assert_eq!(world.finish().upstreams[0].failed, 0);
}
