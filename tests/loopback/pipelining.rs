//! One stream to an upstream and as many queries on it as a stream may carry.
//!
//! The upstream waits until all of them are there, which is the proof that they were on the
//! stream at once, and answers them in an order of its choice (RFC 7766 §6.2.1.1).

use crate::kit::{A, answer_to, client, query, receive};
use crate::streams::{framed, listen, read_message, upstream};
use crate::{PATIENCE, SEED, start, sum};
use onward::traffic::answer::is_right;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;

/// Queries on one stream at once.
const AT_ONCE: u16 = 32;
const ROUNDS: u16 = 5;

type Reorder = fn(&mut [Vec<u8>]);

fn reverse(queries: &mut [Vec<u8>]) {
    queries.reverse();
}

fn shuffle(queries: &mut [Vec<u8>]) {
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    for place in (1..queries.len()).rev() {
        queries.swap(place, random.next_u32() as usize % (place + 1));
    }
}

/// Clients who ask [`AT_ONCE`] queries at once and return the replies to them.
type Ask = fn(SocketAddr, &[Vec<u8>]) -> Vec<Vec<u8>>;

fn by_stream(target: SocketAddr, queries: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut stream = TcpStream::connect(target).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let all: Vec<u8> = queries.iter().flat_map(|query| framed(query)).collect();
    stream.write_all(&all).unwrap();
    queries.iter().map(|_| read_message(&mut stream).unwrap()).collect()
}

fn by_datagrams(target: SocketAddr, queries: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let socket = client(target);
    queries.iter().for_each(|query| _ = socket.send(query).unwrap());
    queries.iter().map(|_| receive(&socket)).collect()
}

#[test]
fn one_stream_carries_32_queries_at_once_and_answers_in_reverse_and_random_order_all_arrive() {
    let cases: [(Reorder, Ask, bool); 4] = [
        (reverse, by_stream, false),
        (shuffle, by_stream, false),
        (reverse, by_datagrams, true),
        (shuffle, by_datagrams, true),
    ];
    for (reorder, ask, by_datagrams) in cases {
        let (address, accepted) = upstream(listen(), move |mut stream| {
            loop {
                let queries: std::io::Result<Vec<_>> =
                    (0..AT_ONCE).map(|_| read_message(&mut stream)).collect();
                let mut queries = queries?;
                reorder(&mut queries);
                for query in queries {
                    stream.write_all(&framed(&answer_to(&query)))?;
                }
            }
        });
        // No query is suspiciously old before the last one is there.
        let body = format!("forward . {address} {{\n force_tcp\n read_timeout 5s\n}}");
        let server = start("127.0.0.1:0", &body, 1);
        for round in 0..ROUNDS {
            let queries: Vec<_> =
                (0..AT_ONCE).map(|number| query(round * AT_ONCE + number, A)).collect();
            let replies = ask(server.addresses()[0], &queries);
            let right = |reply: &&Vec<u8>| queries.iter().any(|query| is_right(query, reply));
            let answered: BTreeSet<_> = replies.iter().filter(right).collect();
            assert_eq!(answered.len(), usize::from(AT_ONCE), "each its own answer");
            assert!(by_datagrams || !replies.is_sorted(), "in order");
        }
        assert_eq!(accepted.load(Ordering::SeqCst), 1, "one stream for all");
        let streams = sum(&server.stats()).upstreams[0].streams;
        assert_eq!(streams.opened, 1, "{streams:?}");
        server.stop();
    }
}
