//! Masses of forged datagrams beside real queries.
//!
//! For each query come fifty forgeries before its answer: from the upstream's own socket, from its
//! address with another port, from its port at another address, and non-queries to the listener.
//! None may reach a client, end an exchange or cost a query its answer, which comes over TCP after
//! a burst of forgeries.

use crate::kit::{A, answer_to, ask, query, response_to};
use crate::until::until;
use crate::{TIMEOUT, any_port, assert_all_answered, drive, start, sum};
use onward::engine::stats::{DropReason, Stats};
use onward::traffic::answer::Behaviour;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};

const QUERIES: u64 = 1_000;
/// Forgeries per query from the upstream's own socket.
const OWN: u64 = 30;
/// Forgeries per query from each of two other addresses.
const STRANGE: u64 = 10;
/// Forgeries per query to the listener.
const TO_LISTENER: u64 = 5;

/// A message from the upstream's own socket that is not the answer to `query`.
fn forgery(query: &[u8], number: u64, random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut packet = response_to(query, Behaviour::Lie).unwrap();
    match number % 6 {
        // Another ID; if that ID is outstanding, the question differs.
        0 => packet[0] ^= 1 + (random.next_u32() % 255) as u8,
        1 => packet[1] ^= 1 + (random.next_u32() % 255) as u8,
        // Another first letter of the name.
        2 => packet[13] ^= 1,
        // QR is clear.
        3 => packet[2] &= 0x7f,
        // No question.
        4 => packet[5] = 0,
        _ => {
            packet = vec![0; (random.next_u32() % 600) as usize];
            random.fill_bytes(&mut packet);
        }
    }
    packet
}

/// Answers every query on connections to `listener`, until `QUERIES` have come.
fn answer_over_tcp(listener: &TcpListener) {
    let mut answered = 0;
    while answered < QUERIES {
        let (mut connection, _) = listener.accept().unwrap();
        connection.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut prefix = [0; 2];
        while answered < QUERIES && connection.read_exact(&mut prefix).is_ok() {
            let mut query = vec![0; u16::from_be_bytes(prefix).into()];
            connection.read_exact(&mut query).unwrap();
            let answer = answer_to(&query);
            let len = (answer.len() as u16).to_be_bytes();
            connection.write_all(&[&len[..], &answer].concat()).unwrap();
            answered += 1;
        }
    }
}

/// Sends all forgeries for every query, and then its answer.
fn forge(upstream: &UdpSocket, listener: SocketAddr) {
    let own = upstream.local_addr().unwrap();
    let other_port = UdpSocket::bind(any_port()).unwrap();
    // The upstream's port at another address, unless a wildcard socket holds it.
    let bind = |port| UdpSocket::bind(("127.0.0.66", port));
    let other_address = bind(own.port()).or_else(|_| bind(0)).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(crate::SEED);
    let mut packet = [0; 512];
    for _ in 0..QUERIES {
        let (len, from) = upstream.recv_from(&mut packet).unwrap();
        let query = &packet[..len];
        let lie = response_to(query, Behaviour::Lie).unwrap();
        for _ in 0..STRANGE {
            // Correct except for the source.
            other_port.send_to(&lie, from).unwrap();
            other_address.send_to(&lie, from).unwrap();
        }
        for number in 0..OWN {
            upstream.send_to(&forgery(query, number, &mut random), from).unwrap();
        }
        for number in 0..TO_LISTENER {
            let packet = if number % 2 == 0 { &lie[..] } else { b"garbage" };
            other_port.send_to(packet, listener).unwrap();
        }
        upstream.send_to(&answer_to(query), from).unwrap();
    }
}

/// Drop reasons of packets from an upstream's own socket that are not answers.
const STRAYS: [DropReason; 3] = [
    DropReason::ResponseMalformed,
    DropReason::ResponseUnmatched,
    DropReason::ResponseWrongQuestion,
];

fn dropped(stats: &Stats, reasons: &[DropReason]) -> u64 {
    reasons.iter().map(|reason| stats.dropped(*reason)).sum()
}

#[test]
fn fifty_thousand_forgeries_reach_no_client_and_end_no_exchange() {
    let upstream = UdpSocket::bind(any_port()).unwrap();
    upstream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let over_tcp = TcpListener::bind(upstream.local_addr().unwrap()).unwrap();
    // One TCP connection at a time, because one thread answers.
    let options = "stream_spread 1\n max_inflight 64 64";
    let address = upstream.local_addr().unwrap();
    let server = start("127.0.0.1:0", &format!("forward . {address} {{\n {options}\n}}\n"), 1);
    let listener = server.addresses()[0];
    let answerer = std::thread::spawn(move || answer_over_tcp(&over_tcp));
    let forger = std::thread::spawn(move || forge(&upstream, listener));
    // Few outstanding queries, because the forgeries for all of them must fit into a socket's
    // buffer.
    let summary = drive(listener, 4, QUERIES);
    assert_all_answered(&summary, QUERIES);
    let counts = summary.counts;
    assert_eq!(
        counts.late + counts.duplicate + counts.stray + counts.mismatched,
        0,
        "a client got what it had not asked for"
    );
    forger.join().unwrap();
    answerer.join().unwrap();
    assert_eq!(QUERIES * (OWN + 2 * STRANGE), 50_000);
    use DropReason::{QueryIsResponse, QueryTooShort};
    let total = until("all that came to the listener is counted", || {
        let total = sum(&server.stats());
        let to_listener = dropped(&total, &[QueryIsResponse, QueryTooShort]);
        (to_listener == QUERIES * TO_LISTENER).then_some(total)
    });
    // The kernel drops those from other sources, because the sockets are connected.
    let upstream = total.upstreams[0];
    // Eight are enough; a batch that is read at once may have more, and the late answer.
    let bursts = upstream.mismatch_bursts;
    let expected = 8 * bursts..=QUERIES * (OWN + 1);
    assert!(expected.contains(&dropped(&total, &STRAYS)), "{total:?}");
    assert!(bursts > 0 && STRAYS.iter().all(|reason| total.dropped(*reason) > 0), "{total:?}");
    assert_eq!((upstream.sent, upstream.answered), (2 * QUERIES, QUERIES), "once over TCP");
    assert_eq!((upstream.timed_out, upstream.failed), (0, 0));
    assert_eq!(total.replies[0], QUERIES);
    server.stop();
}

#[test]
fn datagrams_behind_an_answer_are_discarded_before_the_next() {
    const ASKED: u16 = 30;
    /// Forgeries behind each answer: less than a burst.
    const BEHIND: u64 = 7;
    let upstream = UdpSocket::bind(any_port()).unwrap();
    upstream.set_read_timeout(Some(TIMEOUT)).unwrap();
    // One port for all queries, so that leftovers precede the next answer.
    let address = upstream.local_addr().unwrap();
    let options = "spread 1\n max_conns 1";
    let server = start("127.0.0.1:0", &format!("forward . {address} {{\n {options}\n}}\n"), 1);
    let forger = std::thread::spawn(move || {
        let mut random = ChaCha8Rng::seed_from_u64(crate::SEED);
        let mut packet = [0; 512];
        for number in 0..ASKED {
            let (len, from) = upstream.recv_from(&mut packet).unwrap();
            upstream.send_to(&answer_to(&packet[..len]), from).unwrap();
            // No forgeries behind the last answer, because nothing would read them.
            for rtype in (0..BEHIND).filter(|_| number + 1 < ASKED) {
                upstream.send_to(&forgery(&packet[..len], rtype, &mut random), from).unwrap();
            }
        }
    });
    for number in 0..ASKED {
        let query = query(number, A);
        assert_eq!(ask(server.addresses()[0], &query), answer_to(&query));
    }
    forger.join().unwrap();
    let total = sum(&server.stats());
    assert_eq!(dropped(&total, &STRAYS), u64::from(ASKED - 1) * BEHIND, "{total:?}");
    assert_eq!((total.upstreams[0].sent, total.upstreams[0].timed_out), (u64::from(ASKED), 0));
    server.stop();
}
