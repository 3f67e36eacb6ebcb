//! One connection to an upstream with as many outstanding queries as a connection may carry.
//!
//! The upstream waits for more queries before it answers, in random order (RFC 7766 §6.2.1.1). A
//! connection starts with few queries at a time, so clients continue until it has carried the
//! maximum.

use crate::kit::{A, answer_to, client, query, receive};
use crate::tcp::{framed, listen, read_message, upstream};
use crate::until::until;
use crate::{SEED, TIMEOUT, start, sum};
use onward::traffic::answer::is_right;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Outstanding queries on one connection.
const AT_ONCE: u16 = 32;

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

/// Sends [`AT_ONCE`] queries at once and returns their replies.
type Ask = fn(SocketAddr, &[Vec<u8>]) -> Vec<Vec<u8>>;

fn by_connection(target: SocketAddr, queries: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut stream = TcpStream::connect(target).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let all: Vec<u8> = queries.iter().flat_map(|query| framed(query)).collect();
    stream.write_all(&all).unwrap();
    queries.iter().map(|_| read_message(&mut stream).unwrap()).collect()
}

fn by_datagrams(target: SocketAddr, queries: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let socket = client(target);
    queries.iter().for_each(|query| _ = socket.send(query).unwrap());
    queries.iter().map(|_| receive(&socket)).collect()
}

/// Reads queries from `stream` until the maximum is outstanding or no more come.
fn read_all(stream: &mut TcpStream) -> std::io::Result<Vec<Vec<u8>>> {
    stream.set_read_timeout(None)?;
    let mut queries = vec![read_message(stream)?];
    stream.set_read_timeout(Some(Duration::from_millis(5)))?;
    while queries.len() < AT_ONCE.into() && stream.peek(&mut [0]).is_ok_and(|count| count > 0) {
        queries.push(read_message(stream)?);
    }
    Ok(queries)
}

#[test]
fn one_connection_carries_32_queries_at_once_with_answers_in_any_order() {
    let cases: [(Reorder, Ask); 4] = [
        (reverse, by_connection),
        (shuffle, by_connection),
        (reverse, by_datagrams),
        (shuffle, by_datagrams),
    ];
    for (reorder, ask) in cases {
        let most = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&most);
        let (address, _) = upstream(listen(), move |mut stream| {
            loop {
                let mut queries = read_all(&mut stream)?;
                seen.fetch_max(queries.len(), Ordering::SeqCst);
                reorder(&mut queries);
                let answers = queries.iter().flat_map(|query| framed(&answer_to(query)));
                stream.write_all(&answers.collect::<Vec<_>>())?;
            }
        });
        let body = format!("forward . {address} {{\n force_tcp\n}}");
        let server = start("127.0.0.1:0", &body, 1);
        let mut round = 0;
        until("a stream carries as many as it may", || {
            let numbers = 2 * AT_ONCE * round..2 * AT_ONCE * (round + 1);
            let queries: Vec<_> = numbers.map(|number| query(number, A)).collect();
            round = (round + 1) % 500;
            let replies = ask(server.addresses()[0], &queries);
            let right = |reply: &&Vec<u8>| queries.iter().any(|query| is_right(query, reply));
            let answered: BTreeSet<_> = replies.iter().filter(right).collect();
            assert_eq!(answered.len(), queries.len(), "each its own answer");
            let most = most.load(Ordering::SeqCst);
            assert!(most <= usize::from(AT_ONCE), "{most} at once");
            (most == usize::from(AT_ONCE)).then_some(())
        });
        let upstream = sum(&server.stats()).upstreams[0];
        assert_eq!((upstream.failed, upstream.timed_out), (0, 0), "{upstream:?}");
        server.stop();
    }
}
