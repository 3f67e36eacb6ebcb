//! Tests of requests and responses, with streams as clients send them.
//!
//! Field sections are made by the encoder, which has its own tests.

use super::frames::{kind, put_number};
use super::{RequestStream, Violation, code, goaway, opening, put_frame, qpack, write_response};
use crate::http::limits::Limits;
use crate::http::request::{Excess, Fault, Incoming, Method};
use crate::http::response::Response;
use proptest::prelude::{any, prop_assert_eq, proptest};

type Field<'a> = (&'a str, &'a str);

const GET: [Field<'_>; 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", "dns.test"), (":path", "/q?dns=AA")];
const POST: [Field<'_>; 5] = [
    (":method", "POST"),
    (":scheme", "https"),
    (":authority", "dns.test"),
    (":path", "/q"),
    ("content-type", "application/dns-message"),
];

fn section(fields: &[Field<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    qpack::begin(&mut out);
    fields.iter().for_each(|(name, value)| qpack::put(&mut out, name.as_bytes(), value.as_bytes()));
    out
}

fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_frame(&mut out, kind, payload);
    out
}

fn headers(fields: &[Field<'_>]) -> Vec<u8> {
    frame(kind::HEADERS, &section(fields))
}

fn data(body: &[u8]) -> Vec<u8> {
    frame(kind::DATA, body)
}

/// The request in `bytes`, which arrive in pieces of this size, and the points that it costs.
fn read(bytes: &[u8], piece: usize) -> Result<(Incoming, u32), Violation> {
    let (mut stream, mut points) = (RequestStream::default(), 0);
    for piece in bytes.chunks(piece) {
        points += stream.receive(piece, &Limits::DNS)?;
    }
    Ok((stream.end()?, points))
}

/// The fault of the request in `bytes`, and the points that it costs.
fn judged(bytes: &[u8]) -> Result<(Option<Fault>, u32), Violation> {
    let whole = read(bytes, usize::MAX).map(|(incoming, points)| (incoming.fault, points));
    for piece in [1, 2, 7] {
        let cut = read(bytes, piece).map(|(incoming, points)| (incoming.fault, points));
        assert_eq!(cut, whole, "in pieces of {piece}");
    }
    whole
}

#[test]
fn a_request_is_read_at_each_split_point() {
    let forwarded = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1")];
    let get = headers(&[&GET[..], &forwarded].concat());
    let post = [headers(&POST), data(b"mess"), data(b"age"), headers(&[("x", "y")])].concat();
    for piece in 1..get.len().max(post.len()) {
        let (incoming, points) = read(&get, piece).unwrap();
        let request = incoming.view(3);
        assert_eq!((request.id, request.method, points), (3, Method::Get, 0));
        assert_eq!((request.target, request.body), (&b"/q?dns=AA"[..], &b""[..]));
        assert_eq!(request.host, Some(&b"dns.test"[..]));
        assert_eq!(request.forwarded, b"for=192.0.2.1");
        assert_eq!(request.forwarded_for, b"192.0.2.1");
        let (incoming, points) = read(&post, piece).unwrap();
        let request = incoming.view(4);
        assert_eq!((request.method, points, request.fault), (Method::Post, 0, None));
        assert_eq!((request.target, request.body), (&b"/q"[..], &b"message"[..]));
        assert_eq!(request.content_type, Some(&b"application/dns-message"[..]));
    }
}

#[test]
fn frames_that_must_not_come_end_the_connection() {
    let get = headers(&GET);
    let post = [headers(&POST), data(b"body")].concat();
    let trailed = [&post[..], &headers(&[("x", "y")])].concat();
    let unexpected = Err(Violation::Connection(code::FRAME_UNEXPECTED));
    for kind in [2, 3, 4, 5, 6, 7, 8, 9, 13] {
        for before in [&[][..], &get, &post, &trailed] {
            assert_eq!(judged(&[before, &frame(kind, &[0])].concat()), unexpected, "{kind}");
        }
    }
    assert_eq!(judged(&data(b"body")), unexpected, "DATA before HEADERS");
    assert_eq!(judged(&[&trailed[..], &data(b"more")].concat()), unexpected, "behind the end");
    assert_eq!(judged(&[&trailed[..], &get].concat()), unexpected, "HEADERS behind the end");
    let cut = Err(Violation::Connection(code::FRAME_ERROR));
    for bytes in [&get[..get.len() - 1], &get[..1], &post[..post.len() - 1], &[0x40]] {
        assert_eq!(judged(bytes), cut, "{bytes:?}");
    }
    let undecodable = Err(Violation::Connection(code::QPACK_DECOMPRESSION_FAILED));
    for section in [&[][..], &[1, 0], &[0, 0, 0x80], &[0, 0, 0xff, 0x24]] {
        assert_eq!(judged(&frame(kind::HEADERS, section)), undecodable, "{section:?}");
    }
}

#[test]
fn frames_that_are_not_known_are_skipped_and_cost_points() {
    let grease = frame(0x21, b"anything");
    let bytes = [&grease[..], &headers(&POST), &grease, &data(b""), &data(b"body"), &grease];
    assert_eq!(judged(&bytes.concat()), Ok((None, 4)));
    assert_eq!(read(&bytes.concat(), 5).unwrap().0.view(1).body, b"body");
    let much = frame(0x21, &[0; (64 << 10) + 1]);
    assert_eq!(judged(&much), Err(Violation::Stream(code::EXCESSIVE_LOAD)));
    assert_eq!(judged(&[]), Err(Violation::Stream(code::REQUEST_INCOMPLETE)));
    assert_eq!(judged(&grease), Err(Violation::Stream(code::REQUEST_INCOMPLETE)));
}

fn with<'a>(fields: &[Field<'a>]) -> Vec<Field<'a>> {
    [&GET[..], fields].concat()
}

#[test]
fn malformed_requests_end_their_stream_alone() {
    let without =
        |name: &str| GET.into_iter().filter(|(known, _)| *known != name).collect::<Vec<_>>();
    let changed = |name: &str, value: &'static str| {
        let change = |(known, old)| (known, if known == name { value } else { old });
        GET.into_iter().map(change).collect::<Vec<_>>()
    };
    for (what, fields) in [
        ("no method", without(":method")),
        ("no scheme", without(":scheme")),
        ("no path", without(":path")),
        ("no authority", without(":authority")),
        ("a method that is no token", changed(":method", "G T")),
        ("an empty scheme", changed(":scheme", "")),
        ("an empty authority", changed(":authority", "")),
        ("a relative path", changed(":path", "q")),
        ("a method twice", with(&[(":method", "GET")])),
        ("a path twice", with(&[(":path", "/q")])),
        ("a status", with(&[(":status", "200")])),
        ("a protocol", with(&[(":protocol", "websocket")])),
        ("a method behind a field", [&[("a", "b")][..], &GET].concat()),
        ("upper case", with(&[("Accept", "b")])),
        ("a space in a name", with(&[("a b", "c")])),
        ("no name", with(&[("", "c")])),
        ("two lines", with(&[("a", "b\r\nc: d")])),
        ("a zero byte", with(&[("a", "b\0")])),
        ("a space before a value", with(&[("a", " b")])),
        ("a connection", with(&[("connection", "close")])),
        ("an upgrade", with(&[("upgrade", "h4")])),
        ("a transfer coding", with(&[("transfer-encoding", "chunked")])),
        ("a proxy's connection", with(&[("proxy-connection", "close")])),
        ("other codings than trailers", with(&[("te", "gzip")])),
        ("another host", with(&[("host", "other.test")])),
        ("a host twice", with(&[("host", "dns.test"), ("host", "dns.test")])),
        ("a body that does not come", with(&[("content-length", "1")])),
        ("a length that is no number", with(&[("content-length", "+0")])),
        ("two lengths", with(&[("content-length", "0"), ("content-length", "1")])),
        ("a tunnel with a path", changed(":method", "CONNECT")),
    ] {
        let malformed = Err(Violation::Stream(code::MESSAGE_ERROR));
        assert_eq!(judged(&headers(&fields)), malformed, "{what}");
    }
    for (what, fields) in [
        ("trailers", with(&[("te", "trailers")])),
        ("the host again", with(&[("host", "dns.test")])),
        ("a host alone", [&without(":authority")[..], &[("host", "dns.test")]].concat()),
        ("no body", with(&[("content-length", "0"), ("content-length", "0")])),
        ("a tunnel", vec![(":method", "CONNECT"), (":authority", "dns.test:1")]),
        ("everything", changed(":path", "*")),
    ] {
        assert_eq!(judged(&headers(&fields)), Ok((None, 0)), "{what}");
    }
}

#[test]
fn a_body_has_the_length_that_was_declared() {
    let declared =
        |length: &'static str| headers(&[&POST[..], &[("content-length", length)]].concat());
    let malformed = Err(Violation::Stream(code::MESSAGE_ERROR));
    for (length, body, expected) in [
        ("4", "body", Ok((None, 0))),
        ("5", "body", malformed),
        ("3", "body", malformed),
        ("18446744073709551615", "body", malformed),
        ("18446744073709551616", "body", malformed),
    ] {
        assert_eq!(judged(&[declared(length), data(body.as_bytes())].concat()), expected);
    }
    assert_eq!(judged(&declared("4")), malformed);
    let get = [headers(&GET), data(b"body")].concat();
    assert_eq!(judged(&get), malformed, "GET has no body");
    let bad_trailer = |fields| [headers(&POST), data(b"body"), headers(fields)].concat();
    assert_eq!(judged(&bad_trailer(&[(":path", "/")])), malformed);
    assert_eq!(judged(&bad_trailer(&[("A", "b")])), malformed);
    assert_eq!(judged(&bad_trailer(&[("content-length", "9")])), Ok((None, 0)));
}

#[test]
fn requests_beyond_the_limits_are_read_to_their_end() {
    let long = "x".repeat(9_000);
    let many: Vec<Field<'_>> = std::iter::repeat_n(("a", "b"), 250).collect();
    let head = Ok((Some(Fault::Excess(Excess::Head)), 0));
    for fields in [&[&GET[..], &[("cookie", &long)]].concat(), &[&GET[..], &many].concat()] {
        assert_eq!(judged(&headers(fields)), head);
    }
    // Two bytes for each field, which have 100 times as many.
    let small = [section(&GET), [0xfa; 4_000].to_vec()].concat();
    assert_eq!(judged(&frame(kind::HEADERS, &small)), head);
    let body = |len| [headers(&POST), data(&vec![0; len])].concat();
    assert_eq!(judged(&body(4_096)), Ok((None, 0)));
    assert_eq!(judged(&body(4_097)), Ok((Some(Fault::Excess(Excess::Body)), 0)));
    let trailer = headers(&[("cookie", &long)]);
    assert_eq!(judged(&[body(4_096), trailer.clone()].concat()), head);
    let both = Ok((Some(Fault::Excess(Excess::Body)), 0));
    assert_eq!(judged(&[body(4_097), trailer].concat()), both);
    let load = Err(Violation::Stream(code::EXCESSIVE_LOAD));
    assert_eq!(judged(&body(100_000)), load);
    assert_eq!(judged(&frame(kind::HEADERS, &[0; 100_000])), load);
}

#[test]
fn what_is_kept_of_a_request_is_counted() {
    let mut stream = RequestStream::default();
    assert!(stream.is_empty());
    let bytes = [headers(&POST), data(b"body")].concat();
    stream.receive(&bytes[..9], &Limits::DNS).unwrap();
    assert_eq!(stream.len(), 7);
    stream.receive(&bytes[9..], &Limits::DNS).unwrap();
    let kept = "/q".len() + "dns.test".len() + "application/dns-message".len() + "body".len();
    assert_eq!(stream.len(), kept);
}

#[test]
fn a_response_is_two_frames_or_one() {
    let headers: [(&str, &[u8]); 2] =
        [("content-type", b"application/dns-message"), ("cache-control", b"max-age=300")];
    let response = Response { body: [b"bo", b"dy"], ..Response::new(200, &headers, b"") };
    let mut whole = Vec::new();
    write_response(&mut whole, &response, false);
    let head = section(&[
        (":status", "200"),
        ("content-type", "application/dns-message"),
        ("cache-control", "max-age=300"),
        ("content-length", "4"),
    ]);
    assert_eq!(whole, [frame(kind::HEADERS, &head), data(b"body")].concat());
    let mut alone = Vec::new();
    write_response(&mut alone, &response, true);
    assert_eq!(alone, frame(kind::HEADERS, &head));
    let mut empty = Vec::new();
    write_response(&mut empty, &Response::new(404, &[], b""), false);
    assert_eq!(empty, [1, 3, 0, 0, 0xdb]);
}

#[test]
fn the_control_stream_of_the_server_has_settings_and_the_end() {
    let mut number = Vec::new();
    put_number(&mut number, 8_192);
    assert_eq!(opening(&Limits::DNS), [&[0, 4, 3, 6][..], &number].concat());
    assert_eq!(goaway(8), [7, 1, 8]);
}

proptest! {
    #[test]
    fn random_bytes_do_no_harm(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        kinds in proptest::collection::vec(0..4_u8, 0..6),
        piece in 1..40_usize,
    ) {
        // Frames of known types are rare in random bytes.
        let mut stream = Vec::new();
        for (kind, payload) in kinds.iter().zip(bytes.chunks(50)) {
            let known = [&[0, 0][..], payload].concat();
            stream.extend(match kind {
                0 => data(payload),
                1 => frame(kind::HEADERS, &known),
                2 => headers(&POST),
                _ => payload.to_vec(),
            });
        }
        prop_assert_eq!(
            read(&stream, piece).map(|(request, points)| (format!("{request:?}"), points)),
            read(&stream, usize::MAX).map(|(request, points)| (format!("{request:?}"), points))
        );
    }
}
