//! A thousand clients with the same question at once, over real sockets.
//!
//! Each has its own ID and letter case. Each worker has at most one upstream query at a time, and
//! every client gets a reply, even when the first upstream does not respond.

use crate::kit::{A, answer_to, client, query_for, receive, refusing};
use crate::until::until;
use crate::{TIMEOUT, any_port, start, sum};
use onward::engine::stats::UpstreamStats;
use onward::server::Server;
use onward::traffic::answer::is_right;
use std::net::{SocketAddr, UdpSocket};

const CLIENTS: u16 = 1_000;
const SOCKETS: u16 = 8;
const WORKERS: u64 = 2;
/// Queries sent before waiting until they are read: fewer than a socket's buffer holds.
const CHUNK: u16 = 100;

/// The question in the letter case of client `number`.
fn spelt(number: u16) -> Vec<u8> {
    let mut name = b"some-popular.name.test".to_vec();
    for (place, letter) in name.iter_mut().enumerate() {
        if number >> (place % 10) & 1 == 1 {
            letter.make_ascii_uppercase();
        }
    }
    query_for(number, std::str::from_utf8(&name).unwrap(), A)
}

fn start_between(upstreams: &[SocketAddr]) -> Server {
    let upstreams: Vec<_> = upstreams.iter().map(SocketAddr::to_string).collect();
    let body = format!("forward . {} {{\n policy sequential\n}}\n", upstreams.join(" "));
    start("127.0.0.1:0", &body, WORKERS as usize)
}

/// Sends the query of every client; returns when the forwarder has received all.
fn ask_all(server: &Server) -> Vec<UdpSocket> {
    let sockets: Vec<_> = (0..SOCKETS).map(|_| client(server.addresses()[0])).collect();
    for number in 0..CLIENTS {
        sockets[usize::from(number % SOCKETS)].send(&spelt(number)).unwrap();
        if number % CHUNK == CHUNK - 1 {
            let read = || sum(&server.stats()).queries == u64::from(number) + 1;
            until("the queries are read", || read().then_some(()));
        }
    }
    sockets
}

/// Checks that each client gets the reply to its query, with its ID and letter case.
fn all_are_answered(sockets: &[UdpSocket]) {
    for (first, socket) in sockets.iter().enumerate() {
        let mut missing: Vec<_> = (first as u16..CLIENTS).step_by(SOCKETS.into()).collect();
        while !missing.is_empty() {
            let reply = receive(socket);
            let number = u16::from_be_bytes([reply[0], reply[1]]);
            let place = missing.iter().position(|asked| *asked == number);
            missing.swap_remove(place.expect("somebody else's answer, or one too many"));
            assert!(is_right(&spelt(number), &reply), "{number}: {reply:x?}");
        }
    }
}

/// Answers `count` queries at the upstream.
fn answer(upstream: &UdpSocket, count: u64) {
    let mut packet = [0; 512];
    for _ in 0..count {
        let (len, from) = upstream.recv_from(&mut packet).unwrap();
        upstream.send_to(&answer_to(&packet[..len]), from).unwrap();
    }
    upstream.set_nonblocking(true).unwrap();
    assert!(upstream.recv_from(&mut packet).is_err(), "and no more than those");
}

fn upstream() -> (SocketAddr, UdpSocket) {
    let socket = UdpSocket::bind(any_port()).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    (socket.local_addr().unwrap(), socket)
}

#[test]
fn a_thousand_equal_queries_are_one_upstream_query_per_worker() {
    let (address, upstream) = upstream();
    let server = start_between(&[address]);
    let sockets = ask_all(&server);
    let total = sum(&server.stats());
    let sent = total.upstreams[0].sent;
    assert!((1..=WORKERS).contains(&sent), "{total:?}");
    assert_eq!(total.coalesced, u64::from(CLIENTS) - sent);
    answer(&upstream, sent);
    all_are_answered(&sockets);
    assert_eq!(sum(&server.stats()).replies[0], u64::from(CLIENTS));
    server.stop();
}

/// The first of two upstreams fails each query, as `failed` counts, and the second answers.
fn all_move_on(first: SocketAddr, failed: fn(&UpstreamStats) -> u64) {
    let (address, second) = upstream();
    let server = start_between(&[first, address]);
    let sockets = ask_all(&server);
    let sent = until("all queries have moved on", || {
        let total = sum(&server.stats());
        let [first, second] = total.upstreams[..] else { panic!("two upstreams") };
        (second.sent > 0 && second.sent == first.sent && failed(&first) == first.sent)
            .then_some(second.sent)
    });
    assert!((1..=WORKERS).contains(&sent), "{sent}");
    answer(&second, sent);
    all_are_answered(&sockets);
    let total = sum(&server.stats());
    assert_eq!((total.coalesced, total.replies[0]), (1_000 - sent, 1_000), "{total:?}");
    server.stop();
}

#[test]
fn a_thousand_same_questions_are_all_answered_when_the_first_upstream_refuses() {
    let (address, _held) = refusing();
    all_move_on(address, |first| first.failed);
}

#[test]
fn a_thousand_same_questions_are_all_answered_when_the_first_upstream_is_silent() {
    let (address, _silent) = upstream();
    all_move_on(address, |first| first.timed_out);
}
