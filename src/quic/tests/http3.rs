//! HTTP/3 on the streams of an endpoint: requests, violations with their codes, abuse and the end.
//!
//! The bytes of a client are made by hand. What they mean is tested in the room `http`; here it is
//! what becomes of streams and connections.

#[path = "../../../tests/common/http3.rs"]
mod bytes;

use super::Settings;
use super::world::{READ, WAY, World, code, settings};
use crate::quic::{Application, Failure};
use bytes::{
    AUTHORITY, CONTROL, DATA, GET, GOAWAY, HEAD, HEADERS, HTTPS, PATH, POST, field, frame, frames,
    named, post, request, response, section,
};
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use quinn_proto::{ConnectionHandle, Dir, Side, StreamId, WriteError};

const NO_ERROR: u64 = 0x100;
const GENERAL_PROTOCOL_ERROR: u64 = 0x101;
const STREAM_CREATION_ERROR: u64 = 0x103;
const CLOSED_CRITICAL_STREAM: u64 = 0x104;
const FRAME_UNEXPECTED: u64 = 0x105;
const FRAME_ERROR: u64 = 0x106;
const EXCESSIVE_LOAD: u64 = 0x107;
const ID_ERROR: u64 = 0x108;
const SETTINGS_ERROR: u64 = 0x109;
const MISSING_SETTINGS: u64 = 0x10a;
const REQUEST_REJECTED: u64 = 0x10b;
const REQUEST_INCOMPLETE: u64 = 0x10d;
const MESSAGE_ERROR: u64 = 0x10e;
const QPACK_DECOMPRESSION_FAILED: u64 = 0x200;
const QPACK_ENCODER_STREAM_ERROR: u64 = 0x201;
const QPACK_DECODER_STREAM_ERROR: u64 = 0x202;

/// The first stream that a server opens in one direction.
fn server_control() -> StreamId {
    StreamId::new(Side::Server, Dir::Uni, 0)
}

fn http3() -> Settings {
    Settings { application: Application::Http3, ..settings() }
}

/// A client whose control stream is open.
fn connected(world: &mut World) -> ConnectionHandle {
    let handle = world.connected();
    world.open_uni(handle, &CONTROL, false).expect("a control stream is granted");
    world.run(WAY * 2);
    handle
}

fn get(path: &str) -> Vec<u8> {
    request(GET, path, &[])
}

#[test]
fn each_request_gets_its_response_on_its_own_stream() {
    let mut world = World::with(1, http3());
    let handle = connected(&mut world);
    for round in 0..40 {
        // More than the number of streams at a time.
        let path = format!("/{round}");
        let id = world.open(handle, &get(&path), true).expect("credit is returned");
        world.run(WAY * 3);
        let received = world.received(handle, id);
        assert!(received.is_finished, "round {round}");
        assert_eq!(response(&received.bytes), (200, path.into_bytes()));
    }
    let id = world.open(handle, &post("/q", b"message"), true).unwrap();
    world.run(WAY * 3);
    assert_eq!(response(&world.received(handle, id).bytes).1, b"/qmessage");
    let id = world.open(handle, &request(HEAD, "/head", &[]), true).unwrap();
    world.run(WAY * 3);
    let frames = frames(&world.received(handle, id).bytes);
    assert_eq!(frames.iter().map(|frame| frame.0).collect::<Vec<_>>(), [HEADERS]);
    world.check_streams(handle);
    // One setting: the maximum size of a request's fields.
    let control = world.received(handle, server_control());
    assert_eq!(control.bytes, [0, 4, 3, 6, 0x60, 0]);
    assert!(!control.is_finished && world.lost.is_empty());
}

#[test]
fn a_request_in_pieces_is_whole_at_its_end() {
    let mut world = World::with(2, http3());
    let handle = connected(&mut world);
    let asked = [frame(0x21, b"grease"), post("/q", b"message")].concat();
    let id = world.open(handle, &asked[..1], false).unwrap();
    for byte in &asked[1..] {
        world.run(WAY * 2);
        assert!(world.queries.is_empty());
        assert_eq!(world.client(handle).send_stream(id).write(&[*byte]), Ok(1));
    }
    world.run(WAY * 4);
    assert!(world.queries.is_empty());
    world.client(handle).send_stream(id).finish().unwrap();
    world.run(WAY * 4);
    assert_eq!(world.queries[0].2, b"/qmessage");
    world.check_streams(handle);
}

/// A stream of a client: its direction, its bytes, and whether it ends behind them.
type Opened<'a> = (Dir, &'a [u8], bool);

#[test]
fn each_violation_closes_the_connection_with_its_code() {
    let uni = |bytes: &'static [u8]| (Dir::Uni, bytes, false);
    let path = named(PATH, "/");
    let dynamic = frame(HEADERS, &section(&[&[GET, HTTPS, 0x80], &named(AUTHORITY, "m"), &path]));
    let counted = frame(HEADERS, &[1, 0, GET]);
    let data = frame(DATA, b"body");
    let trailed = [post("/", b"body"), frame(HEADERS, &section(&[&field("a", "b")]))].concat();
    let behind = [&trailed[..], &data].concat();
    let settings = frame(4, &[]);
    let after_settings = |frame: &[u8]| [&CONTROL, frame].concat();
    let frames: Vec<(u64, Vec<u8>)> =
        [0, 1, 2, 5, 6, 8, 9].map(|kind| (kind, after_settings(&frame(kind, &[])))).into();
    let reserved = [0, 2, 3, 4, 5].map(|setting| [0, 4, 2, setting, 0]);
    let cut = get("/")[..7].to_vec();
    let mut table: Vec<(String, Vec<Opened<'_>>, u64)> = [
        ("two control streams", vec![uni(&CONTROL), uni(&CONTROL)], STREAM_CREATION_ERROR),
        ("two encoder streams", vec![uni(&[2]), uni(&[2])], STREAM_CREATION_ERROR),
        ("two decoder streams", vec![uni(&[3]), uni(&[3])], STREAM_CREATION_ERROR),
        ("a push stream", vec![uni(&[1, 0])], STREAM_CREATION_ERROR),
        ("the end of the control stream", vec![(Dir::Uni, &CONTROL, true)], CLOSED_CRITICAL_STREAM),
        ("the end of the encoder stream", vec![(Dir::Uni, &[2], true)], CLOSED_CRITICAL_STREAM),
        ("the end of the decoder stream", vec![(Dir::Uni, &[3], true)], CLOSED_CRITICAL_STREAM),
        ("no settings first", vec![uni(&[0, 7, 1, 0])], MISSING_SETTINGS),
        ("settings twice", vec![uni(&[0, 4, 0, 4, 0])], FRAME_UNEXPECTED),
        ("a setting twice", vec![uni(&[0, 4, 4, 6, 1, 6, 1])], SETTINGS_ERROR),
        ("half a setting", vec![uni(&[0, 4, 1, 6])], FRAME_ERROR),
        ("a cancelled push", vec![uni(&[0, 4, 0, 3, 1, 0])], ID_ERROR),
        ("a capacity of the table", vec![uni(&[2, 0x21])], QPACK_ENCODER_STREAM_ERROR),
        ("an insertion", vec![uni(&[2, 0xc0, 0])], QPACK_ENCODER_STREAM_ERROR),
        ("an acknowledgement", vec![uni(&[3, 0x80])], QPACK_DECODER_STREAM_ERROR),
        ("DATA first", vec![(Dir::Bi, &data, false)], FRAME_UNEXPECTED),
        ("DATA behind the end", vec![(Dir::Bi, &behind, false)], FRAME_UNEXPECTED),
        ("SETTINGS in a request", vec![(Dir::Bi, &settings, false)], FRAME_UNEXPECTED),
        ("a dynamic entry", vec![(Dir::Bi, &dynamic, true)], QPACK_DECOMPRESSION_FAILED),
        ("a required insertion", vec![(Dir::Bi, &counted, true)], QPACK_DECOMPRESSION_FAILED),
        ("half a frame", vec![(Dir::Bi, &cut, true)], FRAME_ERROR),
    ]
    .map(|(what, streams, code)| (what.to_owned(), streams, code))
    .into();
    for (kind, bytes) in &frames {
        let streams = vec![(Dir::Uni, &bytes[..], false)];
        table.push((format!("frame {kind} for control"), streams, FRAME_UNEXPECTED));
    }
    for bytes in &reserved {
        let streams = vec![(Dir::Uni, &bytes[..], false)];
        table.push((format!("setting {}", bytes[3]), streams, SETTINGS_ERROR));
    }
    for (what, streams, code) in table {
        let mut world = World::with(3, http3());
        let handle = world.connected();
        for (dir, bytes, is_last) in streams {
            match dir {
                Dir::Uni => world.open_uni(handle, bytes, is_last).unwrap(),
                Dir::Bi => world.open(handle, bytes, is_last).unwrap(),
            };
        }
        world.run(WAY * 4);
        assert_eq!(world.close_code(), Some(code), "{what}: {:?}", world.lost);
        assert_eq!(world.closed, [Some(code as u32)], "{what}");
        assert!(world.queries.is_empty(), "{what}");
        world.check_empty();
    }
}

#[test]
fn both_control_streams_must_stay_open() {
    let mut world = World::with(4, http3());
    let handle = world.connected();
    let control = world.open_uni(handle, &CONTROL, false).unwrap();
    world.run(WAY * 2);
    world.client(handle).send_stream(control).reset(code(0)).unwrap();
    world.run(WAY * 2);
    assert_eq!(world.close_code(), Some(CLOSED_CRITICAL_STREAM));

    let mut world = World::with(4, http3());
    let handle = connected(&mut world);
    world.client(handle).recv_stream(server_control()).stop(code(0)).unwrap();
    world.run(WAY * 2);
    assert_eq!(world.close_code(), Some(CLOSED_CRITICAL_STREAM));

    let mut world = World::with(4, http3());
    world.connect_with(|transport| _ = transport.max_concurrent_uni_streams(code(0)));
    world.run(WAY * 6);
    assert_eq!(world.close_code(), Some(GENERAL_PROTOCOL_ERROR), "{:?}", world.lost);
    assert_eq!(world.failures, [Failure::Broken]);
    world.check_empty();
}

#[test]
fn violations_of_a_request_end_its_stream_alone() {
    let mut world = World::with(5, http3());
    let handle = connected(&mut world);
    let no_path = frame(HEADERS, &section(&[&[GET, HTTPS], &named(AUTHORITY, "dns.test")]));
    let unequal = request(POST, "/", &[&field("content-length", "9")]);
    let with_body = [get("/"), frame(DATA, b"body")].concat();
    let upper = request(GET, "/", &[&field("Accept", "x")]);
    let large = frame(0x21, &[0; 66_000]);
    for (what, bytes, expected) in [
        ("nothing", &[][..], REQUEST_INCOMPLETE),
        ("grease alone", &frame(0x21, b"x"), REQUEST_INCOMPLETE),
        ("no path", &no_path, MESSAGE_ERROR),
        ("another length", &unequal, MESSAGE_ERROR),
        ("GET with a body", &with_body, MESSAGE_ERROR),
        ("upper case", &upper, MESSAGE_ERROR),
        ("too much grease", &large, EXCESSIVE_LOAD),
    ] {
        let (first, mut rest) = bytes.split_at(bytes.len().min(1_000));
        let id = world.open(handle, first, rest.is_empty()).unwrap();
        while !rest.is_empty() {
            world.run(WAY * 2);
            match world.client(handle).send_stream(id).write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(WriteError::Blocked) => {}
                Err(_) => break,
            }
        }
        world.run(WAY * 4);
        assert_eq!(world.received(handle, id).reset, Some(expected), "{what}");
        assert!(world.queries.is_empty(), "{what}");
    }
    let id = world.open(handle, &get("/last"), true).unwrap();
    world.run(WAY * 4);
    assert_eq!(response(&world.received(handle, id).bytes).1, b"/last");
    world.check_streams(handle);
}

#[test]
fn streams_of_unknown_types_are_refused_and_leave_room_for_others() {
    let mut world = World::with(6, http3());
    let handle = world.connected();
    // Three that are needed (RFC 9114 §6.2), and 1,024 bytes on each.
    let long = [&[0x21][..], &[0; 1_023]].concat();
    for _ in 0..3 {
        world.open_uni(handle, &long, false).expect("it is granted");
    }
    for round in 0..40_u8 {
        world.run(WAY * 8);
        let id = world.open_uni(handle, &[0x40, 0x40 + round, 1], round % 2 == 0);
        let id = id.unwrap_or_else(|| panic!("no credit in round {round}"));
        world.run(WAY * 4);
        let stopped = world.received(handle, id).stopped;
        assert!(round % 2 == 0 || stopped == Some(STREAM_CREATION_ERROR), "{stopped:?}");
    }
    world.open_uni(handle, &CONTROL, false).unwrap();
    let id = world.open(handle, &get("/"), true).unwrap();
    world.run(WAY * 4);
    assert!(world.received(handle, id).is_finished && world.lost.is_empty());
}

#[test]
fn what_is_of_no_use_costs_points_that_answers_give_back() {
    let mut world = World::with(7, http3());
    let handle = connected(&mut world);
    let grease = frame(0x21, &[]);
    for _ in 0..100 {
        let id = world.open(handle, &[&grease.repeat(3)[..], &get("/")].concat(), true).unwrap();
        world.run(WAY * 4);
        assert!(world.received(handle, id).is_finished, "{:?}", world.lost);
    }
    world.open(handle, &grease.repeat(257), false).unwrap();
    world.run(WAY * 4);
    assert_eq!(world.close_code(), Some(EXCESSIVE_LOAD));
    world.check_empty();

    let mut world = World::with(7, http3());
    let handle = world.connected();
    world.open_uni(handle, &[&CONTROL[..], &grease.repeat(257)].concat(), false).unwrap();
    world.run(WAY * 4);
    assert_eq!(world.close_code(), Some(EXCESSIVE_LOAD));

    let mut world = World::with(7, http3());
    let handle = connected(&mut world);
    for _ in 0..257 {
        let Some(id) = world
            .connections
            .contains_key(&handle)
            .then(|| world.open(handle, &get("/")[..5], false).expect("credit is returned"))
        else {
            break;
        };
        world.run(WAY * 2);
        world.client(handle).send_stream(id).reset(code(0)).unwrap();
        world.run(WAY * 8);
    }
    assert_eq!(world.close_code(), Some(EXCESSIVE_LOAD));
}

#[test]
fn refusals_give_no_points_back() {
    let mut world = World::with(7, http3());
    world.status = 413;
    let handle = connected(&mut world);
    let bytes = [&frame(0x21, &[]).repeat(3)[..], &get("/")].concat();
    for _ in 0..86 {
        assert!(world.lost.is_empty(), "{:?}", world.lost);
        world.open(handle, &bytes, true).unwrap();
        world.run(WAY * 4);
    }
    assert_eq!(world.close_code(), Some(EXCESSIVE_LOAD));
}

/// The stream's settings are longer than what the client allows.
#[test]
fn a_client_that_leaves_the_control_stream_unread_owes_nothing() {
    let mut world = World::with(7, http3());
    world.unread.push(server_control());
    let handle = world.connect_with(|transport| _ = transport.stream_receive_window(code(6)));
    world.run(WAY * 6);
    let id = world.owners[&0];
    assert!(!world.endpoint.is_behind(id));
    world.endpoint.finish(id);
    world.run(WAY * 6);
    assert_eq!(world.close_code(), Some(NO_ERROR));
    assert!(world.taken.is_empty() && !world.connections.contains_key(&handle));
}

#[test]
fn cancelled_requests_leave_nothing_behind() {
    let mut world = World::with(8, http3());
    world.echoes = false;
    let handle = connected(&mut world);
    for is_reset in [true, false] {
        let id = world.open(handle, &get("/"), !is_reset).unwrap();
        world.run(WAY * 2);
        if is_reset {
            world.client(handle).send_stream(id).reset(code(0x10c)).unwrap();
        } else {
            world.client(handle).recv_stream(id).stop(code(0x10c)).unwrap();
        }
        world.run(WAY * 2);
        assert_eq!(world.received(handle, id).reset.is_some(), is_reset);
        for (owner, stream, _) in world.queries.split_off(0) {
            assert!(!world.endpoint.awaits(owner, stream));
            world.echo(owner, stream, b"late");
        }
        world.run(WAY * 2);
        assert!(world.received(handle, id).bytes.is_empty());
    }
    assert!(world.lost.is_empty());
}

#[test]
fn a_request_that_stalls_is_refused_in_time() {
    let mut world = World::with(9, http3());
    let handle = connected(&mut world);
    let id = world.open(handle, &get("/")[..5], false).unwrap();
    world.run(READ - WAY * 2);
    assert_eq!(world.received(handle, id).reset, None);
    world.run(WAY * 8);
    assert_eq!(world.received(handle, id).reset, Some(REQUEST_REJECTED));
    world.check_streams(handle);
    assert_eq!(world.endpoint.take_refused(), 1);
}

#[test]
fn each_of_the_requests_that_stall_is_refused_in_its_own_time() {
    let mut world = World::with(9, http3());
    let handle = connected(&mut world);
    let (whole, part) = (get("/"), READ / 4);
    let streams = [(); 3].map(|()| {
        let id = world.open(handle, &whole[..5], false).unwrap();
        world.run(part);
        id
    });
    // The first one is completed.
    world.client(handle).send_stream(streams[0]).write(&whole[5..]).unwrap();
    world.client(handle).send_stream(streams[0]).finish().unwrap();
    let resets = |world: &World| streams.map(|id| world.received(handle, id).reset);
    world.run(part * 2 - WAY * 2);
    assert_eq!(resets(&world), [None; 3]);
    world.run(WAY * 6);
    assert_eq!(resets(&world), [None, Some(REQUEST_REJECTED), None]);
    world.run(part);
    assert_eq!(resets(&world), [None, Some(REQUEST_REJECTED), Some(REQUEST_REJECTED)]);
    assert!(world.received(handle, streams[0]).is_finished);
    world.check_streams(handle);
}

#[test]
fn incomplete_requests_hold_a_bounded_number_of_bytes() {
    let mut world = World::with(10, Settings { requests_max: 40, ..http3() });
    let handle = connected(&mut world);
    let begun = &post("/", &[0; 4_096])[..3_500];
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(world.open(handle, begun, false).unwrap());
        world.run(WAY * 4);
    }
    let resets: Vec<_> = streams.iter().map(|id| world.received(handle, *id).reset).collect();
    assert_eq!(resets, [vec![None; 18], vec![Some(EXCESSIVE_LOAD); 2]].concat());
}

#[test]
fn the_end_names_the_requests_that_were_not_read() {
    let mut world = World::with(11, http3());
    world.echoes = false;
    let handle = connected(&mut world);
    let read = world.open(handle, &get("/read"), true).unwrap();
    let begun = world.open(handle, &get("/")[..5], false).unwrap();
    world.run(WAY * 4);
    let (owner, stream, asked) = world.queries.remove(0);
    world.endpoint.finish(owner);
    let late = world.open(handle, &get("/late"), true).unwrap();
    world.run(WAY * 4);
    let control = world.received(handle, server_control()).bytes.clone();
    // Streams 0 and 4 had begun; the late one crossed with the end, and is refused by itself.
    assert_eq!(frames(&control[1..]).last(), Some(&(GOAWAY, vec![8])));
    for id in [begun, late] {
        assert_eq!(world.received(handle, id).reset, Some(REQUEST_REJECTED));
    }
    assert!(world.lost.is_empty() && world.queries.is_empty());
    world.echo(owner, stream, &asked);
    world.run(WAY * 4);
    assert_eq!(response(&world.received(handle, read).bytes).1, b"/read");
    assert_eq!(world.close_code(), Some(NO_ERROR));
    world.check_empty();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_streams_leave_nothing_behind(
        seed in any::<u64>(),
        streams in proptest::collection::vec(
            (any::<bool>(), any::<bool>(), 0..6_u8,
             proptest::collection::vec(any::<u8>(), 0..200)),
            1..30,
        ),
    ) {
        let mut world = World::with(seed, http3());
        let handle = connected(&mut world);
        for (is_uni, is_last, kind, bytes) in streams {
            if !world.connections.contains_key(&handle) || !world.lost.is_empty() {
                break;
            }
            let bytes = match kind {
                0 => get("/"),
                1 => [frame(HEADERS, &[&[0, 0][..], &bytes].concat()), bytes].concat(),
                2 => [post("/", &bytes), frame(0x21, &bytes)].concat(),
                3 => [&[0x21][..], &bytes].concat(),
                4 => get("/")[..9].to_vec(),
                _ => bytes,
            };
            match is_uni {
                true => world.open_uni(handle, &bytes, is_last),
                false => world.open(handle, &bytes, is_last),
            };
            world.run(WAY * 4);
        }
        world.run(READ * 2);
        let (table, alive) = world.endpoint.streams();
        prop_assert_eq!(table, 0);
        prop_assert!(alive == 0 || !world.lost.is_empty(), "{alive} streams");
    }
}
