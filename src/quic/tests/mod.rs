//! Endpoints against a client of the library in memory: queries, limits, violations and the end.
//!
//! Each test is a short story with a time that jumps; `random` has what must hold whatever happens.

mod bounds;
mod client;
mod granting;
mod http3;
mod random;
mod scripts;
mod world;

use super::{Application, Failure, Reason, Settings};
use quinn_proto::{ConnectionError, Dir, TransportErrorCode};
use world::{LEN_MAX, READ, SILENCE, WAY, World, code, query, settings};

const PROTOCOL: u64 = 2;
const CANCELLED: u64 = 3;
const EXCESSIVE_LOAD: u64 = 4;
const UNSPECIFIED: u64 = 5;

impl World {
    /// Asserts that the endpoint holds nothing for streams that are over.
    fn check_streams(&mut self, handle: quinn_proto::ConnectionHandle) {
        self.run(WAY * 4);
        let (table, alive) = self.endpoint.streams();
        assert_eq!((table, alive), (0, 0), "streams in the table, and alive in the library");
        // The control stream of HTTP/3 stays.
        let own = usize::from(self.application == Application::Http3);
        assert_eq!(self.client(handle).streams().send_streams(), own);
    }

    /// Asserts that the endpoint holds nothing at all.
    fn check_empty(&mut self) {
        self.run(WAY * 4);
        assert_eq!(self.endpoint.counts(), (0, 0, 0), "connections, deadlines, handshakes");
    }
}

/// Returns true if the server has refused to begin a connection.
fn is_refusal(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::ConnectionClosed(close)
        if close.error_code == TransportErrorCode::CONNECTION_REFUSED)
}

#[test]
fn each_query_gets_its_reply_on_its_own_stream() {
    let mut world = World::new(1);
    let handle = world.connected();
    for round in 0..40 {
        // More than the number of streams at a time.
        let asked = query(20 + round, round as u8);
        let id = world.open(handle, &asked, true).expect("credit is returned");
        world.run(WAY * 3);
        let received = world.received(handle, id);
        assert_eq!((&received.bytes, received.is_finished), (&asked, true), "round {round}");
    }
    assert_eq!(world.queries.len(), 40);
    world.check_streams(handle);
}

#[test]
fn a_query_in_pieces_is_whole_at_its_end() {
    let mut world = World::new(2);
    let handle = world.connected();
    let asked = query(30, 7);
    let id = world.open(handle, &asked[..1], false).unwrap();
    for byte in &asked[1..] {
        world.run(WAY * 2);
        assert!(world.queries.is_empty());
        assert_eq!(world.client(handle).send_stream(id).write(&[*byte]), Ok(1));
    }
    // Nothing is passed on before the client has ended its side.
    world.run(WAY * 4);
    assert!(world.queries.is_empty());
    world.client(handle).send_stream(id).finish().unwrap();
    world.run(WAY * 4);
    assert_eq!(world.queries[0].2, asked[2..]);
    assert_eq!(world.received(handle, id).bytes, asked);
    world.check_streams(handle);
}

#[test]
fn each_violation_closes_the_connection_with_its_code() {
    let mut behind = query(20, 1);
    behind.push(0);
    let mut numbered = query(20, 1);
    numbered[3] = 1;
    for (what, bytes, is_last) in [
        ("bytes behind the message", &behind[..], true),
        ("bytes behind a message that goes on", &behind[..], false),
        ("a message ID", &numbered[..], true),
        ("a message ID in a beginning", &numbered[..4], false),
        ("half a message", &query(20, 1)[..9], true),
        ("half a length", &[0][..], true),
        ("nothing", &[][..], true),
    ] {
        let mut world = World::new(3);
        let handle = world.connected();
        world.open(handle, bytes, is_last).unwrap();
        world.run(WAY * 4);
        assert_eq!(world.close_code(), Some(PROTOCOL), "{what}: {:?}", world.lost);
        assert_eq!(world.closed, [Some(PROTOCOL as u32)], "{what}");
        assert!(world.queries.is_empty(), "{what}");
        world.check_empty();
    }
}

#[test]
fn a_client_gets_as_many_streams_as_queries_and_none_in_one_direction() {
    let mut world = World::new(4);
    world.echoes = false;
    let handle = world.connected();
    let max = settings().requests_max;
    for _ in 0..max {
        assert!(world.open(handle, &query(20, 1), true).is_some());
    }
    assert_eq!(world.open(handle, &query(20, 1), true), None);
    assert_eq!(world.client(handle).streams().open(Dir::Uni), None);
    world.run(WAY * 4);
    assert_eq!(world.queries.len(), max as usize);
    // Replies make room for as many queries; the library tells the client of more than one.
    for (id, stream, message) in world.queries.split_off(5) {
        assert_eq!(world.endpoint.answer(id, stream, &message), Ok(false));
    }
    // Its acknowledgement may be delayed.
    world.run(WAY * 8);
    let opened = (0..9).map_while(|_| world.open(handle, &query(20, 1), true));
    assert_eq!(opened.count(), max as usize - 5);
}

#[test]
fn a_query_that_is_too_long_is_refused_alone() {
    let mut world = World::new(5);
    let handle = world.connected();
    for (bytes, is_last) in [(query(LEN_MAX + 1, 1), true), (query(65_535, 1)[..9].to_vec(), false)]
    {
        let id = world.open(handle, &bytes, is_last).unwrap();
        world.run(WAY * 4);
        assert_eq!(world.received(handle, id).reset, Some(EXCESSIVE_LOAD));
    }
    let longest = query(LEN_MAX, 1);
    let id = world.open(handle, &longest, true).unwrap();
    world.run(WAY * 6);
    assert_eq!(world.received(handle, id).bytes, longest);
    world.check_streams(handle);
}

#[test]
fn cancelled_queries_are_forgotten_at_once() {
    let mut world = World::new(6);
    world.echoes = false;
    let handle = world.connected();
    let asked = world.open(handle, &query(20, 1), true).unwrap();
    let begun = world.open(handle, &query(20, 1)[..9], false).unwrap();
    let stopped = world.open(handle, &query(20, 1)[..9], false).unwrap();
    world.run(WAY * 3);
    assert_eq!(world.endpoint.streams().0, 3);
    world.client(handle).recv_stream(asked).stop(code(3)).unwrap();
    world.client(handle).send_stream(begun).reset(code(3)).unwrap();
    world.client(handle).recv_stream(stopped).stop(code(3)).unwrap();
    world.run(WAY * 3);
    assert_eq!(world.endpoint.streams().0, 0);
    assert_eq!(world.received(handle, begun).reset, Some(CANCELLED));
    assert_eq!(world.received(handle, stopped).stopped, Some(CANCELLED));
    // The reply comes and is dropped.
    let (id, stream, message) = world.queries[0].clone();
    assert!(!world.endpoint.awaits(id, stream));
    assert_eq!(world.endpoint.answer(id, stream, &message), Ok(false));
    world.check_streams(handle);
    assert!(world.lost.is_empty());
}

#[test]
fn a_client_that_only_cancels_is_closed() {
    for is_reset in [true, false] {
        let mut world = World::new(7);
        world.echoes = false;
        let handle = world.connected();
        let mut cancelled = 0;
        while world.lost.is_empty() && cancelled < 1_000 {
            let id = world.open(handle, &query(20, 1)[..9], false).unwrap();
            world.run(WAY * 2);
            match is_reset {
                true => world.client(handle).send_stream(id).reset(code(3)).unwrap(),
                false => world.client(handle).recv_stream(id).stop(code(3)).unwrap(),
            }
            world.run(WAY * 3);
            cancelled += 1;
        }
        assert_eq!((cancelled, world.close_code()), (257, Some(EXCESSIVE_LOAD)));
        world.check_empty();
    }
}

#[test]
fn cancelling_is_free_beside_answered_queries() {
    let mut world = World::new(8);
    let handle = world.connected();
    for _ in 0..400 {
        let id = world.open(handle, &query(20, 1)[..9], false).unwrap();
        world.open(handle, &query(20, 1), true).unwrap();
        world.run(WAY * 2);
        world.client(handle).send_stream(id).reset(code(3)).unwrap();
        world.run(WAY * 3);
    }
    assert!(world.lost.is_empty());
    world.check_streams(handle);
}

#[test]
fn a_query_that_stalls_is_refused_in_time() {
    let mut world = World::new(9);
    let handle = world.connected();
    let stalled = world.open(handle, &query(20, 1)[..9], false).unwrap();
    world.run(READ - WAY);
    let later = world.open(handle, &query(20, 1), true).unwrap();
    world.run(WAY * 4);
    assert_eq!(world.received(handle, stalled).reset, Some(UNSPECIFIED));
    assert_eq!(world.received(handle, stalled).stopped, Some(UNSPECIFIED));
    assert!(world.received(handle, later).is_finished);
    world.check_streams(handle);
}

#[test]
fn streams_wait_while_their_client_may_not_ask() {
    let mut world = World::new(10);
    let handle = world.connected();
    world.echoes = false;
    world.open(handle, &query(20, 1), true).unwrap();
    world.run(WAY * 3);
    let begun = world.open(handle, &query(20, 3)[..9], false).unwrap();
    world.run(WAY * 3);
    world.may_ask = false;
    let held = world.open(handle, &query(20, 2), true).unwrap();
    assert_eq!(world.client(handle).send_stream(begun).write(&query(20, 3)[9..]), Ok(13));
    world.client(handle).send_stream(begun).finish().unwrap();
    world.run(READ * 2);
    assert_eq!(world.queries.len(), 1);
    world.may_ask = true;
    let (id, stream, message) = world.queries[0].clone();
    assert!(world.endpoint.awaits(id, stream) && world.endpoint.may_resume());
    assert_eq!(world.endpoint.answer(id, stream, &message), Ok(false));
    world.echoes = true;
    world.run(WAY * 3);
    assert!(world.received(handle, held).is_finished);
    assert!(world.received(handle, begun).is_finished);
    world.check_streams(handle);
}

#[test]
fn a_client_that_goes_on_with_its_handshake_too_slowly_is_forgotten() {
    let mut world = World::new(11);
    // The first packet is delivered, and nothing after it.
    world.connect();
    world.run(WAY);
    world.connections.clear();
    assert_eq!(world.endpoint.counts().2, 1);
    world.run(READ);
    assert_eq!(world.failures, [Failure::Unfinished]);
    world.check_empty();
}

#[test]
fn clients_prove_their_addresses_while_there_is_no_time_for_handshakes() {
    let mut world = World::new(12);
    world.may_shake = false;
    let handle = world.connect();
    world.run(WAY * 4);
    // The second packet had the token, and waits.
    assert_eq!((world.endpoint.waiting(), world.endpoint.counts().0), (1, 0));
    assert_eq!((world.to_client, world.shaken), (1, 0));
    world.may_shake = true;
    world.run(WAY * 4);
    assert!(world.shaken > 0);
    let id = world.open(handle, &query(20, 1), true).unwrap();
    world.run(WAY * 4);
    assert!(world.received(handle, id).is_finished);
    assert_eq!(world.endpoint.waiting(), 0);
}

#[test]
fn many_unfinished_handshakes_hold_little() {
    let mut world = World::new(13);
    for _ in 0..300 {
        world.connect();
    }
    world.run(WAY);
    world.connections.clear();
    // The others have to prove their addresses, which they never do.
    assert_eq!(world.endpoint.counts().2, 64);
    assert_eq!(world.endpoint.waiting(), 0);
    let handle = world.connect();
    world.run(WAY * 8);
    let id = world.open(handle, &query(20, 1), true).unwrap();
    world.run(WAY * 4);
    assert!(world.received(handle, id).is_finished);
    world.run(READ);
    assert_eq!(world.failures, [Failure::Unfinished; 64]);
}

#[test]
fn a_connection_that_is_not_admitted_is_told_why() {
    let mut world = World::new(14);
    world.admits = false;
    world.connect();
    world.run(WAY * 6);
    assert_eq!(world.close_code(), Some(EXCESSIVE_LOAD));
    assert!(world.closed.is_empty());
    world.check_empty();
}

#[test]
fn a_successor_with_the_same_secret_resets_connections_at_once() {
    for (secret, is_reset) in [(7, true), (8, false)] {
        let mut world = World::new(15);
        let handle = world.connected();
        world.restart(secret);
        world.open(handle, &query(100, 1), true).unwrap();
        world.run(WAY * 2);
        assert_eq!(world.lost == [ConnectionError::Reset], is_reset, "{:?}", world.lost);
        world.check_empty();
    }
}

#[test]
fn the_last_replies_leave_before_the_end() {
    let mut world = World::new(16);
    world.echoes = false;
    let handle = world.connected();
    let asked = world.open(handle, &query(20, 1), true).unwrap();
    world.run(WAY * 3);
    world.may_ask = false;
    let held = world.open(handle, &query(20, 2), true).unwrap();
    world.run(WAY * 3);
    world.endpoint.finish_all(world.now);
    world.run(WAY * 3);
    assert!(world.lost.is_empty());
    // What comes now is not read.
    let later = world.open(handle, &query(20, 2), true).unwrap();
    world.run(WAY * 3);
    for unread in [held, later] {
        assert_eq!(world.received(handle, unread).reset, Some(EXCESSIVE_LOAD));
    }
    let (id, stream, _) = world.queries[0].clone();
    assert_eq!(world.endpoint.answer(id, stream, &[5; 3_000]), Ok(false));
    world.run(WAY * 3);
    let received = world.received(handle, asked);
    assert_eq!((received.bytes.len(), received.is_finished), (3_002, true));
    assert_eq!((world.close_code(), world.queries.len()), (Some(0), 1));
    assert_eq!(world.closed, [None]);
    // New clients are refused.
    world.connect();
    world.run(WAY * 3);
    assert!(world.lost.last().is_some_and(is_refusal), "{:?}", world.lost);
    world.check_empty();
}

#[test]
fn an_idle_connection_ends_at_once_when_all_end() {
    let mut world = World::new(17);
    world.connected();
    world.endpoint.finish_all(world.now);
    world.run(WAY * 2);
    assert_eq!((world.close_code(), &world.closed[..]), (Some(0), &[None][..]));
    world.check_empty();
}

#[test]
fn bytes_wait_for_a_slow_reader_up_to_their_bound() {
    let mut world = World::new(18);
    world.echoes = false;
    let handle = world.connect_with(|transport| {
        transport.receive_window(code(1_000)).stream_receive_window(code(1_000));
    });
    world.run(WAY * 6);
    for _ in 0..6 {
        world.open(handle, &query(20, 1), true).unwrap();
    }
    world.run(WAY * 3);
    let queries = world.queries.clone();
    let (id, stream, _) = queries[0];
    assert_eq!(world.endpoint.answer(id, stream, &[5; 3_000]), Ok(true));
    world.run(WAY * 10);
    // The client takes them in three parts.
    assert_eq!((world.taken.len() >= 2, world.taken.last()), (true, Some(&true)));
    let mut outcome = Ok(true);
    for (id, stream, _) in &queries[1..] {
        assert_eq!(outcome, Ok(true));
        outcome = world.endpoint.answer(*id, *stream, &[5; 65_535]);
    }
    assert!(outcome.is_err(), "five replies of maximum length wait");
    world.endpoint.close(world.now, id, Reason::Load);
    world.run(WAY * 3);
    assert_eq!(world.close_code(), Some(EXCESSIVE_LOAD));
    world.check_empty();
}

#[test]
fn a_client_that_stops_the_last_waiting_reply_is_not_behind() {
    let mut world = World::new(24);
    world.echoes = false;
    let handle = world.connect_with(|transport| {
        transport.stream_receive_window(code(1_000));
    });
    world.run(WAY * 6);
    let first = world.open_unread(handle, &query(20, 1));
    let second = world.open_unread(handle, &query(20, 1));
    world.run(WAY * 3);
    for (id, stream, _) in world.queries.clone() {
        assert_eq!(world.endpoint.answer(id, stream, &[5; 3_000]), Ok(true));
    }
    let (id, ..) = world.queries[0];
    world.run(WAY * 4);
    assert!(world.endpoint.is_behind(id) && world.taken.is_empty());
    world.client(handle).recv_stream(first).stop(code(3)).unwrap();
    world.run(WAY * 4);
    assert!(world.endpoint.is_behind(id) && world.taken.is_empty());
    world.client(handle).recv_stream(second).stop(code(3)).unwrap();
    world.run(WAY * 4);
    assert!(!world.endpoint.is_behind(id));
    assert_eq!(world.taken, [true]);
    world.check_streams(handle);
}

#[test]
fn a_client_with_a_new_address_stays_connected() {
    let mut world = World::new(19);
    let handle = world.connected();
    world.peer = "198.51.100.7:999".parse().unwrap();
    for _ in 0..3 {
        let id = world.open(handle, &query(20, 1), true).unwrap();
        world.run(WAY * 5);
        assert!(world.received(handle, id).is_finished);
    }
    assert_eq!(world.owners.len(), 1);
    // Its queries remain those of the address that it had when it was admitted.
    assert_eq!(world.peers, ["192.0.2.9:999".parse().unwrap(); 3]);
}

#[test]
fn silence_ends_a_connection_and_pings_do_not_ask() {
    let mut world = World::new(20);
    let handle = world.connected();
    for _ in 0..5 {
        world.run(SILENCE / 2);
        world.client(handle).ping();
    }
    assert!(world.lost.is_empty() && world.queries.is_empty() && world.taken.is_empty());
    world.connections.clear();
    world.run(SILENCE * 2);
    assert_eq!(world.closed, [None]);
    world.check_empty();
}

#[test]
fn versions_are_negotiated_with_whole_packets_only() {
    let mut world = World::new(21);
    let mut packet = vec![0xC3, 0x1A, 0x2A, 0x3A, 0x4A, 8];
    packet.resize(1_199, 1);
    let peer = world.peer;
    let mut answer = |bytes: &[u8]| {
        let packet = super::Packet { peer, client: None, local: None, bytes };
        world.endpoint.receive(world.now, packet, true).map(|out| out.bytes.to_vec())
    };
    // The lengths of both connection IDs must be possible.
    (packet[14], packet[15]) = (0, 0);
    assert_eq!(answer(&packet), None);
    packet.push(1);
    let answered = answer(&packet).expect("a negotiation");
    assert_eq!(answered[1..5], [0; 4]);
    assert!(answered.ends_with(&[0, 0, 0, 1]) && answered.len() < 40);
}

#[test]
fn limits_of_new_connections_change_with_a_reload() {
    let mut world = World::with(22, Settings { requests_max: 1, ..settings() });
    world.echoes = false;
    let handle = world.connected();
    assert!(world.open(handle, &query(20, 1), true).is_some());
    assert!(world.open(handle, &query(20, 1), true).is_none());
    world.reload(Settings { requests_max: 2, ..settings() });
    let later = world.connected();
    for (handle, expected) in [(handle, 0), (later, 2)] {
        let opened = (0..9).map_while(|_| world.open(handle, &query(20, 1), true)).count();
        assert_eq!(opened, expected);
    }
}
