//! HTTP/2: requests, answers, flow control, cancellations, the end.
//!
//! Behaviour within the protocol, and its errors; floods are in another file.

use super::{
    CANCEL, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, PROTOCOL_ERROR,
    REFUSED_STREAM, ROOM, RST_STREAM, SETTINGS, STREAM_CLOSED, WINDOW_UPDATE, answer, block,
    fields, frame, frames, get, greeted, hello, post, receive, requests, reset, sent, sent_frames,
};
use crate::http::request::{Excess, Fault, Method};
use crate::http::response::Response;
use crate::http::{Full, KEPT_BYTES_MAX, Limits, Server, Version, grpc};

use std::collections::BTreeMap;

/// The frames with this kind.
fn only(kind: u8, frames: Vec<super::Frame>) -> Vec<super::Frame> {
    frames.into_iter().filter(|frame| frame.kind == kind).collect()
}

#[test]
fn requests_are_taken_wherever_the_bytes_are_cut() {
    let body = [frame(DATA, 0, 3, b"bo"), frame(DATA, END_STREAM, 3, b"dy")];
    let stream = [hello(), get(1, "/a?b"), post(3), body.concat(), get(5, "/c")].concat();
    for piece in 1..stream.len() {
        for version in [None, Some(Version::Http2)] {
            let mut server = Server::new(version, Limits::DNS);
            let mut seen = Vec::new();
            for piece in stream.chunks(piece) {
                seen.extend(receive(&mut server, piece));
            }
            let expected: [(u32, &[u8], &[u8]); 3] =
                [(1, b"/a?b", b""), (3, b"/dns-query", b"body"), (5, b"/c", b"")];
            let expected = expected.map(|(id, target, body)| (id, target.to_vec(), body.to_vec()));
            assert_eq!(seen, expected, "{piece}");
            assert_eq!((server.outstanding(), server.is_within_request()), (3, false));
        }
    }
}

#[test]
fn the_fields_of_a_request_are_shown() {
    let mut server = greeted(Limits::DNS);
    let mut list = fields("POST", "/dns-query");
    list.extend([
        ("content-type", "application/dns-message"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-for", "192.0.2.2"),
        ("forwarded", "for=192.0.2.1"),
        ("content-length", "4"),
    ]);
    server.receive(&frame(HEADERS, END_HEADERS, 1, &block(&list)));
    assert!(server.is_within_request());
    // Fields behind the body are read and ignored.
    server.receive(&frame(DATA, 0, 1, b"body"));
    let trailer = block(&[("x-forwarded-for", "192.0.2.3")]);
    server.receive(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailer));
    let request = server.next_request().unwrap();
    assert_eq!((request.method, request.body), (Method::Post, &b"body"[..]));
    assert_eq!(request.forwarded_for, b"192.0.2.1, 192.0.2.2");
    assert_eq!(request.forwarded, b"for=192.0.2.1");
    assert_eq!(request.content_type, Some(&b"application/dns-message"[..]));
    assert_eq!((request.host, request.fault), (Some(&b"dns.test"[..]), None));
}

#[test]
fn answers_leave_in_any_order() {
    let mut server = greeted(Limits::DNS);
    let asked = receive(&mut server, &[get(1, "/a"), get(3, "/b"), get(5, "/c")].concat());
    assert_eq!(asked.len(), 3);
    answer(&mut server, 5, b"five");
    answer(&mut server, 1, b"one");
    answer(&mut server, 1, b"again");
    answer(&mut server, 7, b"never asked");
    let data = only(DATA, sent_frames(&mut server));
    let seen: BTreeMap<_, _> =
        data.iter().map(|frame| (frame.stream, &frame.payload[..])).collect();
    assert_eq!(seen, [(5, &b"five"[..]), (1, b"one")].into());
    assert!(data.iter().all(|frame| frame.flags == END_STREAM));
    assert_eq!((server.outstanding(), server.is_answering()), (1, false));
}

#[test]
fn the_response_to_head_has_no_body() {
    let mut server = greeted(Limits::DNS);
    let head = frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields("HEAD", "/")));
    receive(&mut server, &head);
    answer(&mut server, 1, b"four");
    let [head] = &sent_frames(&mut server)[..] else { panic!("one frame is expected") };
    assert_eq!((head.kind, head.flags), (HEADERS, END_HEADERS | END_STREAM));
}

#[test]
fn a_response_of_grpc_ends_with_its_status() {
    let mut server = greeted(Limits::DNS);
    receive(&mut server, &[get(1, "/"), get(3, "/")].concat());
    grpc::respond(&mut server, 1, b"message").unwrap();
    let kinds: Vec<(u8, u8)> =
        sent_frames(&mut server).iter().map(|frame| (frame.kind, frame.flags)).collect();
    let last = END_HEADERS | END_STREAM;
    assert_eq!(kinds, [(HEADERS, END_HEADERS), (DATA, 0), (HEADERS, last)]);
    grpc::refuse(&mut server, 3, grpc::Status::Unavailable).unwrap();
    let [only] = &sent_frames(&mut server)[..] else { panic!("one frame is expected") };
    assert_eq!((only.kind, only.flags), (HEADERS, last));
}

#[test]
fn a_cancelled_request_is_reported_once_and_only_if_it_was_taken() {
    let mut server = greeted(Limits::DNS);
    let asked = receive(&mut server, &[get(1, "/a"), get(3, "/b"), post(5)].concat());
    assert_eq!(asked.len(), 2);
    server.receive(&[reset(3, CANCEL), reset(5, CANCEL), get(7, "/"), reset(7, CANCEL)].concat());
    assert_eq!(requests(&mut server), []);
    assert_eq!((server.next_cancelled(), server.next_cancelled()), (Some(3), None));
    assert_eq!((server.outstanding(), server.is_within_request()), (1, false));
    answer(&mut server, 3, b"late");
    answer(&mut server, 1, b"one");
    assert_eq!(only(DATA, sent_frames(&mut server)).len(), 1);
}

#[test]
fn an_answer_waits_for_the_window() {
    let mut server = greeted(Limits::DNS);
    receive(&mut server, &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 10]));
    sent(&mut server);
    receive(&mut server, &get(1, "/"));
    answer(&mut server, 1, &[7; 25]);
    let lens = |server: &mut Server| {
        let data = only(DATA, sent_frames(server));
        data.iter().map(|frame| (frame.payload.len(), frame.flags)).collect::<Vec<_>>()
    };
    assert_eq!(lens(&mut server), [(10, 0)]);
    assert!(server.is_answering());
    receive(&mut server, &frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 100]));
    assert_eq!(lens(&mut server), [(15, END_STREAM)]);
    assert!(!server.is_answering());
}

#[test]
fn what_is_sent_at_once_is_bounded() {
    let mut server = greeted(Limits::DNS);
    receive(&mut server, &[get(1, "/"), get(3, "/")].concat());
    answer(&mut server, 1, &[7; 30_000]);
    answer(&mut server, 3, &[7; 30_000]);
    let (mut out, mut calls) = (Vec::new(), 0);
    while server.is_answering() {
        let before = out.len();
        server.transmit(&mut out, before + 1_000);
        assert!(out.len() - before <= 1_000 + 16_384 + 9);
        calls += 1;
    }
    let data: usize = only(DATA, frames(&out)).iter().map(|frame| frame.payload.len()).sum();
    assert!(data == 60_000 && calls >= 4, "{data} {calls}");
}

#[test]
fn a_slow_reader_costs_its_bound() {
    let mut server = greeted(Limits::DNS);
    let asked: Vec<u8> = (0..100).flat_map(|number| get(2 * number + 1, "/")).collect();
    assert_eq!(receive(&mut server, &asked).len(), 100);
    let body = [7; 10_000];
    let mut respond = |number: u32| server.respond(2 * number + 1, &Response::new(200, &[], &body));
    let refused = (0..100).map(&mut respond).filter(|outcome| *outcome == Err(Full)).count();
    let kept = KEPT_BYTES_MAX / body.len() + 1;
    assert_eq!(refused, 100 - kept);
}

#[test]
fn streams_beyond_the_limit_are_refused() {
    let limits = Limits { outstanding_max: 2, ..Limits::DNS };
    let mut server = Server::new(Some(Version::Http2), limits);
    // The client has not seen the limit yet.
    let hello = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let asked = [hello, get(1, "/"), get(3, "/"), get(5, "/")].concat();
    assert_eq!(receive(&mut server, &asked).len(), 2);
    let [refused] = &only(RST_STREAM, sent_frames(&mut server))[..] else { panic!("no reset") };
    assert_eq!((refused.stream, refused.code()), (5, REFUSED_STREAM));
    // Now it has.
    receive(&mut server, &[frame(SETTINGS, 1, 0, &[]), get(7, "/")].concat());
    let [end] = &only(GOAWAY, sent_frames(&mut server))[..] else { panic!("no GOAWAY") };
    assert_eq!(end.payload[4..8], PROTOCOL_ERROR.to_be_bytes());
    assert!(server.is_over());
}

/// The fault of a request in these pieces, which is answered, while the connection goes on.
fn fault(pieces: &[Vec<u8>]) -> Option<Fault> {
    let mut server = greeted(Limits::DNS);
    for piece in pieces {
        server.receive(piece);
        // The window is opened again.
        sent(&mut server);
    }
    let request = server.next_request().expect("a request");
    let (id, fault) = (request.id, request.fault);
    server.respond(id, &Response::new(400, &[], b"no\n")).unwrap();
    assert_eq!(only(DATA, sent_frames(&mut server)).len(), 1);
    assert_eq!(receive(&mut server, &get(99, "/")).len(), 1);
    fault
}

#[test]
fn requests_beyond_a_limit_are_refused_and_the_connection_goes_on() {
    let pieces = |len: usize| {
        let mut pieces = vec![post(1)];
        pieces.resize(1 + len / 4_096, frame(DATA, 0, 1, &[7; 4_096]));
        pieces.push(frame(DATA, END_STREAM, 1, &vec![7; len % 4_096]));
        pieces
    };
    assert_eq!(fault(&pieces(4_096)), None);
    assert_eq!(fault(&pieces(4_097)), Some(Fault::Excess(Excess::Body)));
    assert_eq!(fault(&pieces(60_000)), Some(Fault::Excess(Excess::Body)));
    let wide = "a".repeat(8_100);
    let mut list = fields("GET", "/");
    let asked = |list: &[_]| frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(list));
    assert_eq!(fault(&[asked(&list)]), None);
    list.push(("cookie", &wide));
    assert_eq!(fault(&[asked(&list)]), Some(Fault::Excess(Excess::Head)));
}

#[test]
fn malformed_requests_end_the_stream_or_the_connection() {
    let head = |more: &[(&str, &str)], flags: u8| {
        let list = [&fields("POST", "/dns-query"), more].concat();
        frame(HEADERS, END_HEADERS | flags, 1, &block(&list))
    };
    let length = |text: &str| head(&[("content-length", text)], 0);
    let data = |flags: u8, body: &[u8]| frame(DATA, flags, 1, body);
    let get = frame(HEADERS, END_HEADERS, 1, &block(&fields("GET", "/")));
    for (name, stream, kind) in [
        ("short", [length("5"), data(END_STREAM, b"body")].concat(), GOAWAY),
        ("long", [length("3"), data(END_STREAM, b"body")].concat(), GOAWAY),
        ("none", head(&[("content-length", "3")], END_STREAM), GOAWAY),
        ("twice", head(&[("content-length", "3"), ("content-length", "3")], 0), GOAWAY),
        ("no number", length("+4"), GOAWAY),
        ("GET with DATA", [get, data(END_STREAM, b"body")].concat(), RST_STREAM),
        ("te", head(&[("te", "gzip")], 0), GOAWAY),
        ("connection", head(&[("connection", "close")], 0), GOAWAY),
        ("pseudo", head(&[(":status", "200")], 0), GOAWAY),
    ] {
        let mut server = greeted(Limits::DNS);
        assert_eq!(receive(&mut server, &stream), [], "{name}");
        let sent = sent_frames(&mut server);
        let ends = |frame: &&super::Frame| matches!(frame.kind, RST_STREAM | GOAWAY);
        let ends: Vec<_> = sent.iter().filter(ends).collect();
        let [end] = &ends[..] else { panic!("{name}: {sent:?}") };
        assert_eq!((end.kind, end.code()), (kind, PROTOCOL_ERROR), "{name}");
        // The rest of a stream that was reset is free.
        assert_eq!(receive(&mut server, &data(0, &[7; 4_096])), []);
        let further = receive(&mut server, &super::get(3, "/")).len();
        assert_eq!((further == 0, server.is_over()), (kind == GOAWAY, kind == GOAWAY), "{name}");
    }
}

#[test]
fn frames_on_a_stream_that_the_client_has_ended_are_an_error() {
    for (frame, code) in [
        (frame(DATA, END_STREAM, 1, b"more"), STREAM_CLOSED),
        (frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("a", "b")])), STREAM_CLOSED),
    ] {
        let mut server = greeted(Limits::DNS);
        assert_eq!(receive(&mut server, &get(1, "/")).len(), 1);
        assert_eq!(receive(&mut server, &frame), []);
        let sent = sent_frames(&mut server);
        let ended = sent.iter().find(|frame| matches!(frame.kind, RST_STREAM | GOAWAY));
        let ended = ended.expect("an error");
        let at = if ended.kind == GOAWAY { 4..8 } else { 0..4 };
        assert_eq!(ended.payload[at], code.to_be_bytes());
        assert!(server.is_over() || server.next_cancelled() == Some(1));
    }
}

#[test]
fn the_end_is_announced_before_streams_are_refused() {
    let mut server = greeted(Limits::DNS);
    receive(&mut server, &get(1, "/"));
    server.shut_down();
    server.shut_down();
    let told = sent_frames(&mut server);
    let [notice] = &only(GOAWAY, told.clone())[..] else { panic!("no GOAWAY: {told:?}") };
    assert_eq!(notice.payload, [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    let [ping] = &only(PING, told)[..] else { panic!("no PING") };
    // A request that crossed the announcement is answered.
    assert_eq!(receive(&mut server, &get(3, "/")).len(), 1);
    receive(&mut server, &frame(PING, 1, 0, &ping.payload));
    let [end] = &only(GOAWAY, sent_frames(&mut server))[..] else { panic!("no GOAWAY") };
    assert_eq!(end.payload, [0, 0, 0, 3, 0, 0, 0, 0]);
    assert_eq!(receive(&mut server, &get(5, "/")), []);
    answer(&mut server, 3, b"three");
    assert_eq!(only(DATA, sent_frames(&mut server)).len(), 1);
    assert!(!server.is_over());
    answer(&mut server, 1, b"one");
    assert_eq!(only(DATA, sent_frames(&mut server)).len(), 1);
    assert!(server.is_over());
}

#[test]
fn a_peer_that_does_not_speak_http2_is_told_so() {
    let mut server = Server::new(Some(Version::Http2), Limits::DNS);
    receive(&mut server, b"GET / HTTP/1.1\r\nhost: m\r\n\r\n");
    let told = sent_frames(&mut server);
    assert_eq!((told[0].kind, told.last().unwrap().kind), (SETTINGS, GOAWAY));
    assert_eq!(told.last().unwrap().code(), PROTOCOL_ERROR);
    assert!(server.is_over());
    assert_eq!(receive(&mut server, &hello()), []);
    assert_eq!(sent(&mut server), b"");
}

#[test]
fn a_busy_connection_needs_no_more_memory_than_a_new_one() {
    let mut server = greeted(Limits::DNS);
    let ask = |server: &mut Server, number: u32| {
        let stream = 2 * number + 1;
        let body = frame(DATA, END_STREAM, stream, &[7; 40]);
        assert_eq!(receive(server, &[post(stream), body].concat()).len(), 1);
        answer(server, stream, &[7; 200]);
        let mut out = Vec::new();
        server.transmit(&mut out, ROOM);
        assert!(!out.is_empty() && !server.is_answering());
        receive(server, &frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 200]));
        server.memory().0
    };
    let before = (0..10).map(|number| ask(&mut server, number)).max().unwrap();
    let after = (10..1_000).map(|number| ask(&mut server, number)).max().unwrap();
    assert!(after <= before, "{before} {after}");
    assert!(after < 24 << 10, "{after}");
}
