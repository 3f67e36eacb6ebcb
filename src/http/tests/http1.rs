//! HTTP/1.1: keep-alive, pipelining, bodies, refusals.
//!
//! A refusal for which a server could lose its place in the bytes must close the connection.

use super::{ROOM, answer, receive, requests, sent};
use crate::http::request::{Excess, Fault, Method};
use crate::http::response::Response;
use crate::http::{Full, KEPT_BYTES_MAX, Limits, Server, Version};

const GET: &str = "GET /dns-query?dns=AAAA HTTP/1.1\r\nHost: m\r\n\r\n";
const TARGET: &[u8] = b"/dns-query?dns=AAAA";

fn server() -> Server {
    Server::new(Some(Version::Http1), Limits::DNS)
}

fn text(server: &mut Server) -> String {
    String::from_utf8(sent(server)).unwrap()
}

/// The fault of the first request in `bytes`. The connection must close if the request is answered.
fn fault(bytes: &[u8]) -> Option<Fault> {
    let mut server = server();
    let mut found = None;
    let mut rest = bytes;
    while found.is_none() && !rest.is_empty() {
        let taken = server.receive(rest);
        rest = &rest[taken..];
        found = server.next_request().map(|request| (request.id, request.fault));
        assert!(taken > 0, "no room");
    }
    let (id, fault) = found?;
    if fault.is_some() {
        assert!(receive(&mut server, GET.as_bytes()).is_empty(), "behind the refusal");
        server.respond(id, &Response::new(400, &[], b"no\n")).unwrap();
        assert!(text(&mut server).contains("\r\nconnection: close\r\n"));
        assert!(server.is_over());
    }
    fault
}

#[test]
fn requests_are_taken_wherever_the_bytes_are_cut() {
    let post = "POST /dns-query HTTP/1.1\r\nhost: m\r\ncontent-length: 4\r\n\r\nbody";
    let chunks = "POST /q HTTP/1.1\r\nhost: m\r\ntransfer-encoding: Chunked\r\n\r\n\
                  2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n";
    let stream = [GET, "\r\n", post, chunks, GET].concat();
    for piece in 1..stream.len() {
        // The first bytes decide that this is not HTTP/2.
        for version in [None, Some(Version::Http1)] {
            let mut server = Server::new(version, Limits::DNS);
            let mut seen = Vec::new();
            for piece in stream.as_bytes().chunks(piece) {
                seen.extend(receive(&mut server, piece));
            }
            let expected: [(u32, &[u8], &[u8]); 4] = [
                (1, TARGET, b""),
                (2, b"/dns-query", b"body"),
                (3, b"/q", b"body"),
                (4, TARGET, b""),
            ];
            let expected = expected.map(|(id, target, body)| (id, target.to_vec(), body.to_vec()));
            assert_eq!(seen, expected, "{piece}");
            assert_eq!((server.outstanding(), server.is_within_request()), (4, false));
            assert_eq!(server.version(), Some(Version::Http1));
        }
    }
}

#[test]
fn responses_leave_in_the_order_of_the_requests() {
    let mut server = server();
    receive(&mut server, GET.repeat(3).as_bytes());
    answer(&mut server, 3, b"three");
    answer(&mut server, 2, b"two");
    assert_eq!((text(&mut server), server.is_answering()), (String::new(), true));
    answer(&mut server, 1, b"one");
    answer(&mut server, 1, b"again");
    let all = text(&mut server);
    let bodies: Vec<&str> = all.split("HTTP/1.1 200 OK\r\n").skip(1).collect();
    assert!(bodies.len() == 3 && !server.is_answering() && server.outstanding() == 0);
    for (body, expected) in bodies.iter().zip(["one", "two", "three"]) {
        assert!(body.ends_with(&format!("\r\n\r\n{expected}")), "{body}");
        assert!(body.contains(&format!("content-length: {}\r\n", expected.len())));
        assert!(!body.contains("connection"));
    }
}

#[test]
fn a_connection_at_its_limit_pauses_until_a_response() {
    let limits = Limits { outstanding_max: 2, ..Limits::DNS };
    let mut server = Server::new(Some(Version::Http1), limits);
    let stream = GET.repeat(1_000);
    let (mut rest, mut seen) = (stream.as_bytes(), 0);
    while !rest.is_empty() {
        let taken = server.receive(rest);
        rest = &rest[taken..];
        let ids: Vec<u32> = requests(&mut server).iter().map(|request| request.0).collect();
        seen += ids.len();
        assert!(server.outstanding() <= 2);
        if ids.is_empty() {
            answer(&mut server, seen as u32 - 1, b"x");
            answer(&mut server, seen as u32, b"x");
            sent(&mut server);
        }
    }
    assert!(seen > 700, "{seen}");
}

#[test]
fn old_and_closing_clients_are_answered_and_closed() {
    for head in [
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: m\r\nConnection: te, Close\r\n\r\n",
    ] {
        let mut server = server();
        let seen = receive(&mut server, [head, GET].concat().as_bytes());
        assert_eq!(seen.len(), 1, "{head}");
        answer(&mut server, 1, b"x");
        assert!(!server.is_over());
        assert!(text(&mut server).contains("\r\nconnection: close\r\n"));
        assert!(server.is_over());
    }
}

#[test]
fn a_client_that_waits_for_100_is_told_to_go_on() {
    let head = "POST /q HTTP/1.1\r\nhost: m\r\nexpect: 100-Continue\r\ncontent-length: 4\r\n\r\n";
    let mut server = server();
    assert!(receive(&mut server, head.as_bytes()).is_empty());
    assert_eq!(text(&mut server), "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(server.is_within_request());
    assert_eq!(receive(&mut server, b"body").len(), 1);
    // The second client request gets its 100 behind the response to the first.
    assert!(receive(&mut server, head.as_bytes()).is_empty());
    assert_eq!(text(&mut server), "");
    assert_eq!(receive(&mut server, b"body").len(), 1);
    answer(&mut server, 2, b"two");
    answer(&mut server, 1, b"one");
    let all = text(&mut server);
    let (one, two) = all.split_once("HTTP/1.1 100 Continue\r\n\r\n").unwrap();
    assert!(one.ends_with("one") && two.ends_with("two"), "{all}");
    // A body that will be refused is not asked for.
    let long = head.replace("content-length: 4", "content-length: 4097");
    assert_eq!(receive(&mut server, long.as_bytes()).len(), 1);
    assert_eq!(text(&mut server), "");
}

#[test]
fn a_body_that_is_too_long_is_read_and_refused() {
    let post = |len: usize| {
        let head = format!("POST /q HTTP/1.1\r\nhost: m\r\ncontent-length: {len}\r\n\r\n");
        [head.into_bytes(), vec![b'x'; len]].concat()
    };
    let mut server = server();
    assert_eq!(receive(&mut server, &post(4_096))[0].2.len(), 4_096);
    let mut taken = 0;
    let stream = post(4_097);
    while taken < stream.len() {
        taken += server.receive(&stream[taken..]);
        let refused = server.next_request().map(|request| request.fault);
        assert_eq!(refused.is_some(), taken == stream.len());
        assert_eq!(refused.unwrap_or_default(), refused.and(Some(Fault::Excess(Excess::Body))));
    }
    assert_eq!(receive(&mut server, GET.as_bytes()).len(), 1, "the connection goes on");
    assert_eq!(fault(&post(70_000)), Some(Fault::Excess(Excess::Body)));
    let chunks = "POST /q HTTP/1.1\r\nhost: m\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunks = [chunks.as_bytes(), b"ffffff\r\n", &[b'x'; 80_000]].concat();
    assert_eq!(fault(&chunks), Some(Fault::Excess(Excess::Body)));
}

#[test]
fn ambiguous_requests_are_refused_and_close() {
    for head in [
        "POST / HTTP/1.1\r\nhost: m\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: m\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc",
        "POST / HTTP/1.1\r\nhost: m\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nhost: m\r\ncontent-length: 3, 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nhost: m\r\ncontent-length: +3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nhost: m\r\ncontent-length: 0x3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nhost: m\r\ncontent-length:\r\n\r\nabc",
        "POST / HTTP/1.1\r\nhost: m\r\ncontent-length: 99999999999999999999\r\n\r\nabc",
        "POST / HTTP/1.1\r\nhost: m\r\ncontent-length : 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nhost: m\r\ntransfer-encoding: chunked\r\ntransfer-encoding: x\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: m\r\ntransfer-encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: m\r\nx: y\r\n z\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: m\r\nx\0: y\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: m\r\nhost: m\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: m\r\ncontent-length: 3\r\n\r\nabc",
        "\x16\x03\x01\n\r\n",
        "PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n",
    ] {
        assert_eq!(fault(head.as_bytes()), Some(Fault::Malformed), "{head}");
    }
    for head in ["GET / HTTP/3.0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\n", "GET / HTTP/1.2\r\n\r\n"] {
        assert_eq!(fault(head.as_bytes()), Some(Fault::Version), "{head}");
    }
    let gzip = "POST / HTTP/1.1\r\nhost: m\r\ntransfer-encoding: gzip, chunked\r\n\r\n";
    assert_eq!(fault(gzip.as_bytes()), Some(Fault::Coding));
}

#[test]
fn heads_beyond_the_limit_are_refused() {
    let long = format!("GET /{} HTTP/1.1\r\nhost: m\r\n\r\n", "a".repeat(9_000));
    assert_eq!(fault(long.as_bytes()), Some(Fault::Excess(Excess::Target)));
    let wide = format!("GET / HTTP/1.1\r\nhost: m\r\nx: {}\r\n\r\n", "a".repeat(9_000));
    assert_eq!(fault(wide.as_bytes()), Some(Fault::Excess(Excess::Head)));
    let many = format!("GET / HTTP/1.1\r\nhost: m\r\n{}\r\n", "a: b\r\n".repeat(64));
    assert_eq!(fault(many.as_bytes()), Some(Fault::Excess(Excess::Head)));
    let full = format!("GET /{} HTTP/1.1\r\nhost: m\r\n\r\n", "a".repeat(8_100));
    assert_eq!(fault(full.as_bytes()), None);
}

#[test]
fn the_absolute_form_names_the_host() {
    for (target, expected) in [
        ("http://a.test/q?x", "/q?x"),
        ("HTTPS://a.test", "/"),
        ("https://a.test?x", "?x"),
        ("/http://a", "/http://a"),
    ] {
        let mut server = server();
        server.receive(format!("HEAD {target} HTTP/1.1\r\nhost: b.test\r\n\r\n").as_bytes());
        let request = server.next_request().unwrap();
        assert_eq!(request.target, expected.as_bytes());
        let host: &[u8] = if target.starts_with('/') { b"b.test" } else { b"a.test" };
        assert_eq!((request.host, request.method), (Some(host), Method::Head));
        answer(&mut server, 1, b"four");
        let text = text(&mut server);
        assert!(text.contains("content-length: 4\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    }
}

#[test]
fn a_slow_reader_costs_its_bound() {
    let mut server = server();
    let mut refused = 0;
    for id in 1..=100 {
        receive(&mut server, GET.as_bytes());
        let outcome = server.respond(id, &Response::new(200, &[], &[7; 10_000]));
        refused += u32::from(outcome == Err(Full));
    }
    let mut out = Vec::new();
    server.transmit(&mut out, 1_000);
    assert_eq!(out.len(), 1_000);
    server.transmit(&mut out, ROOM);
    assert_eq!(out.len(), ROOM);
    let kept = KEPT_BYTES_MAX / 10_000 + 1;
    assert!(refused >= 100 - kept as u32 && refused > 50, "{refused}");
    assert!(sent(&mut server).len() < KEPT_BYTES_MAX, "{refused}");
}

#[test]
fn what_was_sent_is_not_kept_while_a_client_always_leaves_a_little() {
    let mut server = server();
    let body = [7; 10_000];
    for id in 1..=1_000 {
        receive(&mut server, GET.as_bytes());
        server.respond(id, &Response::new(200, &[], &body)).unwrap();
        // All but a thousand bytes leave.
        let mut out = Vec::new();
        let len = server.kept() - 1_000;
        server.transmit(&mut out, len);
    }
    assert!(server.bytes_held() < 100_000, "{} bytes", server.bytes_held());
}

#[test]
fn a_request_beyond_the_maximum_waits_for_a_response_and_is_then_taken() {
    let mut server =
        Server::new(Some(Version::Http1), Limits { outstanding_max: 3, ..Limits::DNS });
    let asked = receive(&mut server, GET.repeat(4).as_bytes());
    assert_eq!((asked.len(), server.is_full()), (3, true));
    // Responses that wait for the first one make no room.
    server.respond(2, &Response::new(200, &[], b"2")).unwrap();
    assert!(server.next_request().is_none() && server.is_full());
    server.respond(1, &Response::new(200, &[], b"1")).unwrap();
    assert!(!server.is_full() && server.next_request().is_some());
}

#[test]
fn the_end_comes_after_the_requests_that_have_begun() {
    let mut idle = server();
    idle.shut_down();
    assert!(idle.is_over());
    let mut undecided = Server::new(None, Limits::DNS);
    undecided.shut_down();
    assert!(undecided.is_over());
    let mut asking = server();
    receive(&mut asking, [GET, GET, &GET[..10]].concat().as_bytes());
    asking.shut_down();
    assert_eq!(receive(&mut asking, &GET.as_bytes()[10..]).len(), 1);
    assert!(receive(&mut asking, GET.as_bytes()).is_empty());
    for id in 1..=3 {
        assert!(!asking.is_over());
        answer(&mut asking, id, b"x");
        let text = text(&mut asking);
        assert_eq!(text.contains("connection: close"), id == 3, "{text}");
    }
    assert!(asking.is_over());
    let mut waiting = server();
    receive(&mut waiting, GET.as_bytes());
    waiting.shut_down();
    answer(&mut waiting, 1, b"x");
    assert!(text(&mut waiting).contains("connection: close") && waiting.is_over());
}
