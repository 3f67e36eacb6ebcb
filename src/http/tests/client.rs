//! Connections to upstreams: with a server of ours, and with servers that misbehave.
//!
//! Replies of HTTP/1.1 and frames of HTTP/2 are written by hand where a server of ours would not
//! send them.

use super::{
    DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, PING, REFUSED_STREAM, ROOM,
    RST_STREAM, SETTINGS, block, frame, frames, reset, sent,
};
use crate::http::client::{Call, Client, Failure};
use crate::http::request::Method;
use crate::http::response::Response;
use crate::http::{Limits, Server, Version, doh, grpc};

const QUERY: &[u8] = b"a DNS message";
const ANSWER: &[u8] = b"another DNS message";

fn client(version: Version) -> Client {
    Client::new(version, 100)
}

fn post(client: &mut Client) -> Option<u32> {
    doh::ask(client, b"dns.test", b"/dns-query", false, QUERY)
}

fn sent_by(client: &mut Client) -> Vec<u8> {
    let mut out = Vec::new();
    client.transmit(&mut out, ROOM);
    out
}

/// Replies of a client, each as a DNS message, and the calls that failed.
type Results = (Vec<(u32, Option<Vec<u8>>)>, Vec<(u32, Failure)>);

fn results(client: &mut Client) -> Results {
    let (mut replies, mut failed) = (Vec::new(), Vec::new());
    while let Some(reply) = client.next_reply() {
        replies.push((reply.id, doh::answer(&reply).ok().map(|(message, _)| message.to_vec())));
    }
    while let Some(failure) = client.next_failed() {
        failed.push(failure);
    }
    (replies, failed)
}

/// Moves bytes between both, while the server answers each request.
fn converse(client: &mut Client, server: &mut Server, answer: impl Fn(&mut Server, u32, &[u8])) {
    loop {
        let up = sent_by(client);
        let mut rest = &up[..];
        while !rest.is_empty() {
            let taken = server.receive(rest);
            rest = &rest[taken..];
            let mut asked = Vec::new();
            while let Some(request) = server.next_request() {
                let mut message = [0; 4_096];
                let len = doh::query(&request, &["/dns-query"], &mut message)
                    .or_else(|_| grpc::query(&request, &mut message))
                    .expect("a query");
                asked.push((request.id, message[..len].to_vec()));
            }
            asked.iter().for_each(|(id, message)| answer(server, *id, message));
        }
        let down = sent(server);
        client.receive(&down);
        if up.is_empty() && down.is_empty() {
            return;
        }
    }
}

#[test]
fn a_server_of_ours_answers() {
    for version in [Version::Http1, Version::Http2] {
        let mut client = client(version);
        let mut server = Server::new(Some(version), Limits::DNS);
        for is_get in [false, true] {
            for _ in 0..50 {
                let id = doh::ask(&mut client, b"m", b"/dns-query", is_get, QUERY).unwrap();
                converse(&mut client, &mut server, |server, id, message| {
                    assert_eq!(message, QUERY);
                    doh::respond(server, id, ANSWER, 7, None).unwrap();
                });
                let expected = (vec![(id, Some(ANSWER.to_vec()))], Vec::new());
                assert_eq!(results(&mut client), expected);
                assert_eq!(client.outstanding(), 0);
            }
        }
    }
}

#[test]
fn many_calls_are_outstanding_in_http2_and_one_in_http11() {
    let mut one = client(Version::Http1);
    assert!(one.capacity() == 1 && post(&mut one).is_some());
    assert!(one.capacity() == 0 && post(&mut one).is_none());
    let limits = Limits { outstanding_max: 10, ..Limits::DNS };
    let mut many = client(Version::Http2);
    let mut server = Server::new(Some(Version::Http2), limits);
    converse(&mut many, &mut server, |_, _, _| {});
    assert_eq!(many.capacity(), 10, "as the server allows");
    let ids: Vec<u32> = (0..20).map_while(|_| post(&mut many)).collect();
    assert_eq!((ids.len(), many.capacity(), many.outstanding()), (10, 0, 10));
    converse(&mut many, &mut server, |server, id, _| {
        doh::respond(server, id, &[id as u8; 20], 0, None).unwrap();
    });
    let (replies, failed) = results(&mut many);
    assert!(replies.len() == 10 && failed.is_empty() && many.capacity() == 10);
    for (id, message) in replies {
        assert_eq!(message, Some(vec![id as u8; 20]));
    }
}

#[test]
fn grpc_is_called() {
    let mut client = client(Version::Http2);
    let mut server = Server::new(Some(Version::Http2), Limits::DNS);
    for status in [None, Some(grpc::Status::Unavailable)] {
        grpc::ask(&mut client, true, b"m", QUERY).unwrap();
        converse(&mut client, &mut server, |server, id, message| {
            assert_eq!(message, QUERY);
            match status {
                None => grpc::respond(server, id, ANSWER).unwrap(),
                Some(status) => grpc::refuse(server, id, status).unwrap(),
            }
        });
        let reply = client.next_reply().unwrap();
        let expected = match status {
            None => Ok(ANSWER),
            Some(_) => Err(doh::NoAnswer::GrpcStatus(14)),
        };
        assert_eq!(grpc::answer(&reply), expected);
        assert_eq!(doh::answer(&reply), Err(doh::NoAnswer::NoMessage));
    }
}

#[test]
fn a_server_that_drains_processes_what_it_took() {
    let mut client = client(Version::Http2);
    let mut server = Server::new(Some(Version::Http2), Limits::DNS);
    converse(&mut client, &mut server, |_, _, _| {});
    let before = post(&mut client).unwrap();
    converse(&mut client, &mut server, |_, _, _| {});
    server.shut_down();
    let crossing = post(&mut client).unwrap();
    converse(&mut client, &mut server, |_, _, _| {});
    assert!(client.is_ending() && post(&mut client).is_none());
    for id in [before, crossing] {
        doh::respond(&mut server, id, ANSWER, 0, None).unwrap();
    }
    converse(&mut client, &mut server, |_, _, _| {});
    let answer = Some(ANSWER.to_vec());
    assert_eq!(results(&mut client), (vec![(before, answer.clone()), (crossing, answer)], vec![]));
    assert!(server.is_over());
}

/// A client of HTTP/2 that has asked three times, as a server sees it.
fn asked() -> (Client, [u32; 3]) {
    let mut client = client(Version::Http2);
    let ids = [(); 3].map(|()| post(&mut client).unwrap());
    let got = sent_by(&mut client);
    let (preface, got) = got.split_at(super::PREFACE.len());
    assert_eq!(preface, super::PREFACE);
    let heads: Vec<u32> = frames(got)
        .iter()
        .filter(|frame| frame.kind == HEADERS)
        .map(|frame| frame.stream)
        .collect();
    assert_eq!(heads, ids);
    client.receive(&frame(SETTINGS, 0, 0, &[]));
    (client, ids)
}

/// A whole reply of HTTP/2.
fn reply(stream: u32, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let head = frame(HEADERS, END_HEADERS, stream, &block(fields));
    [head, frame(DATA, END_STREAM, stream, body)].concat()
}

const GOOD: [(&str, &str); 2] = [(":status", "200"), ("content-type", "application/dns-message")];

#[test]
fn what_a_goaway_leaves_out_may_be_repeated() {
    let (mut client, [one, two, three]) = asked();
    let end = [&one.to_be_bytes()[..], &[0; 4]].concat();
    client.receive(&frame(GOAWAY, 0, 0, &end));
    let failed = vec![(two, Failure::Unprocessed), (three, Failure::Unprocessed)];
    let (replies, mut found) = results(&mut client);
    found.sort_by_key(|(id, _)| *id);
    assert_eq!((replies, found), (vec![], failed));
    assert!(client.is_ending() && client.capacity() == 0);
    client.receive(&reply(one, &GOOD, ANSWER));
    assert_eq!(results(&mut client).0, [(one, Some(ANSWER.to_vec()))]);
}

#[test]
fn calls_fail_one_by_one() {
    let (mut client, [one, two, three]) = asked();
    client.receive(&[reset(one, REFUSED_STREAM), reset(two, 2)].concat());
    let failed = vec![(one, Failure::Unprocessed), (two, Failure::Reset)];
    assert_eq!(results(&mut client), (vec![], failed));
    client.cancel(three);
    client.cancel(three);
    let told = frames(&sent_by(&mut client));
    assert_eq!(told.iter().filter(|frame| frame.kind == RST_STREAM).count(), 1);
    client.receive(&reply(three, &GOOD, ANSWER));
    assert_eq!(results(&mut client), (vec![], vec![]), "it was given up");
    assert_eq!((client.outstanding(), client.is_ending()), (0, false));
}

#[test]
fn a_complete_reply_stands_though_the_stream_is_reset_behind_it() {
    let (mut client, [one, ..]) = asked();
    client.receive(&[reply(one, &GOOD, ANSWER), reset(one, 0)].concat());
    assert_eq!(results(&mut client), (vec![(one, Some(ANSWER.to_vec()))], vec![]));
}

#[test]
fn a_lost_connection_fails_all_calls() {
    let (mut client, ids) = asked();
    client.receive(&reply(ids[1], &GOOD, ANSWER));
    client.end();
    let failed = vec![(ids[0], Failure::Lost), (ids[2], Failure::Lost)];
    assert_eq!(results(&mut client), (vec![(ids[1], Some(ANSWER.to_vec()))], failed));
    assert!(client.is_ending() && client.outstanding() == 0);
}

#[test]
fn only_dns_with_success_is_an_answer() {
    let age = |more: &[(&'static str, &'static str)]| {
        let (mut client, [one, ..]) = asked();
        let fields = [&GOOD[..], more].concat();
        client.receive(&reply(one, &fields, ANSWER));
        let reply = client.next_reply().expect("a reply");
        doh::answer(&reply).ok().map(|(_, age)| age)
    };
    assert_eq!(age(&[]), Some(0));
    assert_eq!(age(&[("age", "17")]), Some(17));
    assert_eq!(age(&[("age", "99999999999")]), Some(u32::MAX));
    assert_eq!(age(&[("age", "-1")]), Some(0));
    assert_eq!(age(&[("content-type", "text/html")]), None);
    for (status, media, is_answer) in [
        ("204", "application/dns-message", true),
        ("200", "Application/DNS-Message; charset=x", true),
        ("301", "application/dns-message", false),
        ("500", "application/dns-message", false),
        ("200", "application/dns-json", false),
    ] {
        let (mut client, [one, ..]) = asked();
        let fields = [(":status", status), ("content-type", media)];
        // A status without a body is a malformed reply; it is tried without its body.
        let body: &[u8] = if status == "204" { b"" } else { ANSWER };
        client.receive(&reply(one, &fields, body));
        let (replies, failed) = results(&mut client);
        let answered = replies.iter().any(|(_, message)| message.is_some());
        assert_eq!(answered, is_answer && !body.is_empty(), "{status} {media} {failed:?}");
    }
}

#[test]
fn interim_replies_and_trailers_are_passed_over() {
    let (mut client, [one, ..]) = asked();
    let interim = frame(HEADERS, END_HEADERS, one, &block(&[(":status", "103"), ("age", "3")]));
    let head = frame(HEADERS, END_HEADERS, one, &block(&GOOD));
    let body = frame(DATA, 0, one, ANSWER);
    let trailer = block(&[("age", "9"), ("content-type", "text/html")]);
    let trailer = frame(HEADERS, END_HEADERS | END_STREAM, one, &trailer);
    client.receive(&[interim, head, body, trailer].concat());
    assert_eq!(doh::answer(&client.next_reply().unwrap()), Ok((ANSWER, 0)));
}

#[test]
fn replies_that_are_too_long_fail_and_the_others_go_on() {
    let (mut client, [one, two, three]) = asked();
    let head = |id: u32| frame(HEADERS, END_HEADERS, id, &block(&GOOD));
    client.receive(&head(one));
    for _ in 0..5 {
        client.receive(&frame(DATA, 0, one, &[7; 15_000]));
        sent_by(&mut client);
    }
    let wide = "a".repeat(8_200);
    client.receive(&reply(two, &[&GOOD[..], &[("x", &wide)]].concat(), ANSWER));
    sent_by(&mut client);
    client.receive(&reply(three, &GOOD, &[7; 15_000]));
    let (replies, mut failed) = results(&mut client);
    failed.sort_by_key(|(id, _)| *id);
    assert_eq!(failed, [(one, Failure::Unusable), (two, Failure::Unusable)]);
    assert_eq!(replies, [(three, Some(vec![7; 15_000]))]);
    assert!(!client.is_ending());
}

#[test]
fn the_longest_message_is_received() {
    for version in [Version::Http1, Version::Http2] {
        let mut client = client(version);
        let mut server = Server::new(Some(version), Limits::DNS);
        post(&mut client).unwrap();
        converse(&mut client, &mut server, |server, id, _| {
            doh::respond(server, id, &[7; 65_535], 0, None).unwrap();
        });
        assert_eq!(results(&mut client).0[0].1, Some(vec![7; 65_535]));
        post(&mut client).unwrap();
        converse(&mut client, &mut server, |server, id, _| {
            server.respond(id, &Response::new(200, &[], &[7; 65_560])).unwrap();
        });
        assert_eq!(results(&mut client).1[0].1, Failure::Unusable);
    }
}

#[test]
fn a_server_that_floods_is_left() {
    let flood = |bytes: Vec<u8>| {
        let (mut client, _) = asked();
        let mut told = Vec::new();
        for _ in 0..1_000 {
            client.receive(&bytes);
            told.extend(sent_by(&mut client));
        }
        assert!(client.is_ending());
        assert_eq!(results(&mut client).1.len(), 3);
        let told = frames(&told);
        let end = told.iter().find(|frame| frame.kind == GOAWAY).expect("a GOAWAY");
        assert_eq!(end.payload[4..8], ENHANCE_YOUR_CALM.to_be_bytes());
    };
    flood(frame(PING, 0, 0, &[0; 8]));
    flood(frame(SETTINGS, 0, 0, &[]));
    flood(frame(0xfa, 0, 0, b"x"));
}

#[test]
fn nonsense_ends_the_connection() {
    for version in [Version::Http1, Version::Http2] {
        let mut client = client(version);
        let id = post(&mut client).unwrap();
        sent_by(&mut client);
        client.receive(b"220 mail.test ESMTP\r\n\r\n");
        sent_by(&mut client);
        let (replies, failed) = results(&mut client);
        assert!(replies.is_empty() && failed.len() == 1 && failed[0].0 == id, "{failed:?}");
        assert!(client.is_ending());
    }
}

/// The reply to a call of HTTP/1.1, and true if another call may follow. With `ends`, the server
/// closes.
fn plain(bytes: &[u8], piece: usize, ends: bool) -> (Results, bool) {
    let mut client = client(Version::Http1);
    post(&mut client).unwrap();
    let asked = String::from_utf8(sent_by(&mut client)).unwrap();
    assert!(asked.starts_with("POST /dns-query HTTP/1.1\r\nhost: dns.test\r\n"), "{asked}");
    assert!(asked.contains("\r\ncontent-length: 13\r\n") && asked.ends_with("a DNS message"));
    bytes.chunks(piece).for_each(|piece| client.receive(piece));
    if ends {
        client.end();
    }
    (results(&mut client), client.capacity() == 1)
}

#[test]
fn a_reply_of_http11_ends_where_it_says() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\n";
    let good = |more: &str| format!("{head}{more}");
    let answer = (vec![(1, Some(ANSWER.to_vec()))], vec![]);
    let length = "Content-Length: 19\r\n\r\nanother DNS message";
    let chunks = "Transfer-Encoding: chunked\r\n\r\n8\r\nanother \r\nb\r\nDNS message\r\n0\r\n\r\n";
    let rest = "\r\nanother DNS message";
    let interim = format!("HTTP/1.1 100 Continue\r\n\r\n{}", good(length));
    for (bytes, ends, goes_on) in [
        (good(length), false, true),
        (good(chunks), false, true),
        (interim, false, true),
        (good(length), true, false),
        (good(rest), true, false),
        (good(&format!("Connection: close\r\n{length}")), false, false),
        (good(length).replace("1.1", "1.0"), false, false),
        (format!("{}HTTP/1.1 200 OK\r\n", good(length)), false, false),
    ] {
        for piece in [1, 5, 10_000] {
            let found = plain(bytes.as_bytes(), piece, ends);
            assert_eq!(found, (answer.clone(), goes_on), "{bytes} in pieces of {piece}");
        }
    }
}

#[test]
fn a_reply_of_http11_that_is_ambiguous_or_cut_fails() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\n";
    for (more, ends, failure) in [
        ("Content-Length: 19\r\nContent-Length: 19\r\n\r\n", false, Failure::Unusable),
        ("Content-Length: 19\r\nTransfer-Encoding: chunked\r\n\r\n", false, Failure::Unusable),
        ("Content-Length: x\r\n\r\n", false, Failure::Unusable),
        ("Content-Length: 70000\r\n\r\n", false, Failure::Unusable),
        ("Transfer-Encoding: gzip\r\n\r\n", false, Failure::Unusable),
        ("Transfer-Encoding: chunked\r\n\r\nx\r\n", false, Failure::Unusable),
        ("Content-Length: 19\r\n\r\nanother", true, Failure::Lost),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", true, Failure::Lost),
        ("Content-", true, Failure::Lost),
    ] {
        let found = plain(format!("{head}{more}").as_bytes(), 3, ends);
        assert_eq!(found, ((vec![], vec![(1, failure)]), false), "{more}");
    }
    let long = format!("{head}x: {}\r\n\r\n", "a".repeat(9_000));
    assert_eq!(plain(long.as_bytes(), 100, false).0.1, [(1, Failure::Unusable)]);
    let endless = format!("{head}\r\n{}", "a".repeat(70_000));
    assert_eq!(plain(endless.as_bytes(), 1_000, false).0.1, [(1, Failure::Unusable)]);
    let switch = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
    assert_eq!(plain(switch.as_bytes(), 1_000, false).0.1, [(1, Failure::Unusable)]);
}

#[test]
fn a_call_of_http11_that_is_given_up_ends_the_connection() {
    let mut client = client(Version::Http1);
    let id = post(&mut client).unwrap();
    client.cancel(id);
    assert!(client.is_ending() && client.outstanding() == 0);
    client.receive(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(results(&mut client), (vec![], vec![]));
}

#[test]
fn a_client_that_leaves_says_so() {
    let mut client = client(Version::Http2);
    let mut server = Server::new(Some(Version::Http2), Limits::DNS);
    let call = Call {
        method: Method::Get,
        scheme: b"https",
        authority: b"m",
        target: b"/",
        headers: &[],
        body: [&[]; 2],
    };
    assert!(client.call(&call).is_some());
    client.cancel(1);
    converse(&mut client, &mut server, |_, _, _| {});
    client.shut_down();
    assert!(client.is_ending() && client.call(&call).is_none());
    assert!(frames(&sent_by(&mut client)).iter().any(|frame| frame.kind == GOAWAY));
}
