//! Ends of connections to upstreams over HTTPS: HTTP/1.1 servers, refused replies, broken sessions.
//!
//! A server may end a connection after each reply. Queries that it has not seen cost nothing then,
//! and none is lost.

use crate::certs::Authority;
use crate::doh_server::{DNS, Http2, doh, secure};
use crate::doh_upstream::{SERVFAIL, ask_right, forwarding, one};
use crate::http2::{DATA, frame, read_frame};
use crate::kit::{A, answer_to, client, outcome, query, receive};
use crate::until::until;
use onward::traffic::answer::is_right;
use std::io::{Error, Read, Result, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const RST_STREAM: u8 = 3;
const CANCEL: u8 = 8;

/// Reads a request of HTTP/1.1, and returns its head and body.
fn request1(stream: &mut impl Read) -> Result<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let len =
        head.split("content-length: ").nth(1).map_or("0", |rest| rest.lines().next().unwrap());
    let mut body = vec![0; len.parse().unwrap()];
    stream.read_exact(&mut body)?;
    Ok((head, body))
}

#[test]
fn http11_carries_one_query_at_a_time_and_ends_as_the_server_says() {
    let authority = Authority::new("good");
    let address = secure(b"http/1.1", &authority, |number, mut stream| {
        loop {
            let (head, query) = request1(&mut stream)?;
            assert!(head.starts_with("POST /dns-query HTTP/1.1\r\nhost: dns.test:"), "{head}");
            assert!(head.contains("content-type: application/dns-message\r\n"), "{head}");
            // One in two connections ends with its first reply.
            let is_last = number % 2 == 1;
            reply1(&mut stream, &query, if is_last { "connection: close\r\n" } else { "" })?;
            if is_last {
                return Ok(());
            }
        }
    });
    let server = forwarding(&authority, &[address], "");
    ask_right(&server, 99);
    let clients: Vec<_> = (0..6).map(|_| client(server.addresses()[0])).collect();
    for _ in 0..5 {
        for (number, client) in clients.iter().enumerate() {
            client.send(&query(number as u16, A)).unwrap();
        }
        for (number, client) in clients.iter().enumerate() {
            assert!(is_right(&query(number as u16, A), &receive(client)), "{number}");
        }
    }
    let stats = one(&server);
    assert_eq!((stats.answered, stats.failed, stats.timed_out), (31, 0, 0), "{stats:?}");
    assert!(stats.tcp.opened > 2, "one query at a time: {stats:?}");
    server.stop();
}

/// Writes the reply to `query` over HTTP/1.1, with more fields.
fn reply1(stream: &mut impl Write, query: &[u8], more: &str) -> Result<()> {
    let body = answer_to(query);
    let len = body.len();
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: {DNS}\r\n{more}content-length: {len}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), &body].concat())?;
    stream.flush()
}

#[test]
fn a_burst_at_a_server_that_closes_after_each_reply_is_answered() {
    let authority = Authority::new("good");
    let address = secure(b"http/1.1", &authority, |_, mut stream| {
        let (_, query) = request1(&mut stream)?;
        reply1(&mut stream, &query, "connection: close\r\n")
    });
    let server = forwarding(&authority, &[address], "");
    let clients: Vec<_> = (0..64).map(|_| client(server.addresses()[0])).collect();
    for (number, client) in clients.iter().enumerate() {
        client.send(&query(number as u16, A)).unwrap();
    }
    for (number, client) in clients.iter().enumerate() {
        assert!(is_right(&query(number as u16, A), &receive(client)), "{number}");
    }
    let stats = one(&server);
    assert_eq!((stats.answered, stats.failed), (64, 0), "{stats:?}");
    server.stop();
}

/// The second query is stuck behind the first, and is asked on another connection.
#[test]
fn a_query_that_is_answered_elsewhere_is_cancelled_while_others_go_on() {
    let authority = Authority::new("good");
    let cancelled = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&cancelled);
    let upstream = doh(&authority, move |number, connection| {
        loop {
            if number == 0 {
                let next = read_frame(&mut connection.stream);
                let (kind, _, stream, payload) = next.ok_or_else(|| Error::other("the end"))?;
                if kind == RST_STREAM {
                    seen.lock().unwrap().push((stream, payload));
                }
                continue;
            }
            let (stream, query) = connection.request()?;
            connection.answer(stream, &query)?;
        }
    });
    let server = forwarding(&authority, &[upstream], "read_timeout 3s\n max_fails 0");
    let clients: Vec<_> = (0..2).map(|_| client(server.addresses()[0])).collect();
    for (number, client) in clients.iter().enumerate() {
        client.send(&query(number as u16, A)).unwrap();
    }
    assert!(is_right(&query(1, A), &receive(&clients[1])));
    until("its stream is cancelled", || {
        (*cancelled.lock().unwrap() == [(3, vec![0, 0, 0, CANCEL])]).then_some(())
    });
    assert!(is_right(&query(0, A), &receive(&clients[0])));
    let stats = one(&server);
    assert_eq!((stats.timed_out, stats.tcp.moved, stats.tcp.opened), (1, 1, 2), "{stats:?}");
    server.stop();
}

/// The stream of a reply that is refused is free again when the RST_STREAM has been sent.
#[test]
fn queries_behind_a_refused_reply_go_on() {
    let authority = Authority::new("good");
    let requests = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&requests);
    // SETTINGS_MAX_CONCURRENT_STREAMS is 1.
    let address = secure(b"h2", &authority, move |_, stream| {
        let mut connection = Http2::begin(stream, &[0, 3, 0, 0, 0, 1])?;
        loop {
            let (stream, query) = connection.request()?;
            if seen.fetch_add(1, Ordering::SeqCst) == 1 {
                connection.respond(stream, 200, &[("content-type", DNS)], &vec![0; 70_000])?;
            } else {
                connection.answer(stream, &query)?;
            }
        }
    });
    let server = forwarding(&authority, &[address], "max_conns 1\n spread 1\n max_fails 0");
    ask_right(&server, 99);
    let clients: Vec<_> = (0..5).map(|_| client(server.addresses()[0])).collect();
    for (number, client) in clients.iter().enumerate() {
        client.send(&query(number as u16, A)).unwrap();
    }
    // The reply to the first query is too long, and for its retry no connection may be dialled.
    assert_eq!(outcome(&receive(&clients[0])).0, SERVFAIL);
    for (number, client) in clients.iter().enumerate().skip(1) {
        assert!(is_right(&query(number as u16, A), &receive(client)), "{number}");
    }
    let stats = one(&server);
    assert_eq!((stats.answered, stats.failed, stats.timed_out), (5, 2, 0), "{stats:?}");
    server.stop();
}

/// As for a TCP connection that fails after answers: the queries on it are asked again.
#[test]
fn the_end_of_a_session_after_answers_costs_its_queries_nothing() {
    let authority = Authority::new("good");
    let address = doh(&authority, |number, connection| {
        for count in 0.. {
            let (stream, query) = connection.request()?;
            if number == 0 && count == 1 {
                // DATA on a stream that never was.
                connection.stream.write_all(&frame(DATA, 0, 99, b"x"))?;
                connection.stream.flush()?;
                return connection.request().map(drop);
            }
            connection.answer(stream, &query)?;
        }
        Ok(())
    });
    let server = forwarding(&authority, &[address], "max_connect_attempts 1");
    (0..3).for_each(|number| ask_right(&server, number));
    let stats = one(&server);
    assert_eq!((stats.answered, stats.failed, stats.tcp.opened), (3, 0, 2), "{stats:?}");
    server.stop();
}
