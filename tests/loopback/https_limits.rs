//! Limits and time-outs of connections that carry HTTP: `https`, `tcp`, `timeouts`.
//!
//! Each limit closes the connection that exceeds it, and no other. Requests are written by hand, as
//! in the tests of DNS over HTTPS.

use crate::http2::{DATA, GOAWAY, PING, body2, frame, get2, preface, read_frame};
use crate::https::{A, TXT, authority_with, connect, get, response, start, try_response};
use crate::kit::query_for;
use crate::sum;
use crate::until::until;
use std::io::{Read, Write};
use std::net::TcpStream;

#[test]
fn limits_close_the_idlest_or_the_new_connection_and_no_other() {
    let server = start("https {\n max_connections 2\n }\n whoami");
    let status = |stream: &mut TcpStream| {
        let _ = stream.write_all(&get(&query_for(0, "a.test", A)));
        try_response(stream, true).map(|response| response.status)
    };
    let [mut first, mut second] = [connect(&server), connect(&server)];
    assert_eq!((status(&mut first), status(&mut second)), (Some(200), Some(200)));
    assert_eq!(status(&mut first), Some(200), "the second is the idlest now");
    let mut third = connect(&server);
    assert_eq!(status(&mut third), Some(200));
    assert_eq!((status(&mut second), status(&mut first)), (None, Some(200)));
    server.stop();

    let server = start("https {\n max_per_client 1\n }\n whoami");
    let mut first = connect(&server);
    assert_eq!(status(&mut first), Some(200));
    assert_eq!(status(&mut connect(&server)), None);
    assert_eq!(status(&mut first), Some(200));
    assert_eq!(sum(&server.stats()).connections_refused, 1);
    server.stop();
}

#[test]
fn the_thousand_and_first_connection_of_an_address_is_served_by_default() {
    let server = start("timeouts {\n idle 1h\n }\n whoami");
    let idle: Vec<_> = (0..1_000).map(|_| connect(&server)).collect();
    let mut last = connect(&server);
    last.write_all(&get(&query_for(0, "a.test", A))).unwrap();
    assert_eq!(response(&mut last).status, 200);
    assert_eq!(sum(&server.stats()).connections_refused, 0);
    drop(idle);
    server.stop();
}

#[test]
fn a_refused_request_counts_once_towards_maxtcpqueries() {
    let server = start("timeouts {\n maxtcpqueries 3\n }\n whoami");
    let query = query_for(0, "a.test", A);
    let elsewhere = b"GET / HTTP/1.1\r\nHost: dns.test\r\n\r\n".to_vec();
    // One that the engine reads, and one that it never sees.
    let refused = [(get(&query[..20]), 400), (elsewhere, 404)];
    let mut stream = connect(&server);
    for (request, status) in refused {
        stream.write_all(&request).unwrap();
        assert_eq!(response(&mut stream).status, status);
    }
    stream.write_all(&get(&query)).unwrap();
    assert_eq!(response(&mut stream).status, 200);
    stream.write_all(&get(&query)).unwrap();
    assert!(try_response(&mut stream, true).is_none(), "a fourth");
    server.stop();
}

#[test]
fn a_connection_ends_after_its_number_of_queries() {
    let server = start("timeouts {\n maxtcpqueries 2\n }\n whoami");
    let query = query_for(0, "a.test", A);
    let mut stream = connect(&server);
    stream.write_all(&[get(&query), get(&query), get(&query)].concat()).unwrap();
    assert_eq!((response(&mut stream).status, response(&mut stream).status), (200, 200));
    assert!(try_response(&mut stream, true).is_none());
    let mut stream = connect(&server);
    let requests = [preface(), get2(1, &query), get2(3, &query), get2(5, &query)];
    stream.write_all(&requests.concat()).unwrap();
    let frames: Vec<_> = std::iter::from_fn(|| read_frame(&mut stream)).collect();
    let answered =
        frames.iter().filter(|(kind, ..)| *kind == DATA).map(|(_, _, stream, _)| *stream);
    assert_eq!(answered.collect::<Vec<_>>(), [1, 3]);
    // The client learns that the third was not processed.
    let (.., payload) = frames.iter().rfind(|(kind, ..)| *kind == GOAWAY).expect("a GOAWAY");
    assert_eq!(payload[..8], [0, 0, 0, 3, 0, 0, 0, 0]);
    server.stop();
}

#[test]
fn a_begun_request_is_due_within_its_time() {
    let server = start("timeouts {\n read 1s\n idle 1h\n }\n whoami");
    let query = query_for(0, "a.test", A);
    let mut idle = connect(&server);
    idle.write_all(&get(&query)).unwrap();
    assert_eq!(response(&mut idle).status, 200);
    let mut half = connect(&server);
    half.write_all(&get(&query)[..30]).unwrap();
    assert_eq!(half.read(&mut [0]).unwrap_or(0), 0);
    idle.write_all(&get(&query)).unwrap();
    assert_eq!(response(&mut idle).status, 200);
    server.stop();
}

/// PINGs are no activity: a client of HTTP/2 that only sends them is idle.
#[test]
fn an_idle_connection_is_closed_whatever_its_version() {
    let server = start("timeouts {\n read 1h\n idle 1s\n }\n whoami");
    let query = query_for(0, "a.test", A);
    let mut old = connect(&server);
    old.write_all(&get(&query)).unwrap();
    assert_eq!(response(&mut old).status, 200);
    assert!(try_response(&mut old, true).is_none());
    let mut new = connect(&server);
    new.write_all(&[preface(), get2(1, &query)].concat()).unwrap();
    body2(&mut new);
    let mut pings = 0;
    while new.write_all(&frame(PING, 0, 0, &[7; 8])).is_ok() && read_frame(&mut new).is_some() {
        pings += 1;
    }
    assert!(pings > 0);
    server.stop();
}

#[test]
fn a_client_that_takes_no_answer_is_closed_within_its_time() {
    let (server, _zone) = authority_with("https-write", "timeouts {\n write 1s\n idle 1h\n }");
    let query = query_for(0, "big.z", TXT);
    // It reads nothing, and the kernel's buffers are full.
    let mut old = connect(&server);
    let _ = old.write_all(&get(&query).repeat(400));
    until("the connection is closed", || old.write(b" ").is_err().then_some(()));
    // It never opens its window, and its socket takes all that it may be sent.
    let mut new = connect(&server);
    let streams: Vec<_> = (0..20).map(|number| get2(2 * number + 1, &query)).collect();
    new.write_all(&[preface(), streams.concat()].concat()).unwrap();
    let mut sent = 0;
    while let Some((kind, _, _, payload)) = read_frame(&mut new) {
        sent += if kind == DATA { payload.len() } else { 0 };
    }
    assert_eq!(sent, 65_535, "the window at the start (RFC 9113 §6.9.2)");
    let mut stream = connect(&server);
    stream.write_all(&get(&query)).unwrap();
    assert_eq!(response(&mut stream).status, 200);
    server.stop();
}
