//! Upstreams that answer each connection strictly in order, as many servers do, or close it early.
//!
//! Queries for fast names must not wait behind one for a slow name, on any transport. Where an
//! upstream closes connections after a few answers, with queries outstanding on them, no client
//! gets SERVFAIL.

use crate::certs::{Authority, load};
use crate::kit::{A, answer_to, client, query, query_for, receive};
use crate::tcp::{framed, listen, read_message, upstream};
use crate::{TIMEOUT, start, start_with, sum};
use onward::clock::Clock;
use onward::moment::Moment;
use onward::server::Server;
use onward::traffic::answer::is_right;
use rustls::{ServerConnection, StreamOwned};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Queries for fast names behind the slow one.
const QUICK: u16 = 20;
/// Deadline for the fast answers: before the attempt at the slow name times out.
const SOON: Duration = Duration::from_millis(1_500);
/// First label of the slow name.
const SLOW: &[u8] = b"\x04slow";

/// A gate that delays the answer to the slow name.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_timeout_while(open, TIMEOUT, |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

/// Answers the queries of a connection in order; at the slow name it waits at the gate.
fn serve_in_order(mut stream: impl Read + Write, gate: &Gate) -> std::io::Result<()> {
    loop {
        let query = read_message(&mut stream)?;
        if query[12..].starts_with(SLOW) {
            gate.pass();
        }
        stream.write_all(&framed(&answer_to(&query)))?;
        stream.flush()?;
    }
}

/// Sends `queries` at once, the slow one first, and returns the replies to all others.
type Ask = fn(SocketAddr, &[Vec<u8>]) -> BTreeSet<Vec<u8>>;

fn by_datagrams(target: SocketAddr, queries: &[Vec<u8>]) -> BTreeSet<Vec<u8>> {
    let socket = client(target);
    queries.iter().for_each(|query| _ = socket.send(query).unwrap());
    queries[1..].iter().map(|_| receive(&socket)).collect()
}

fn by_connection(target: SocketAddr, queries: &[Vec<u8>]) -> BTreeSet<Vec<u8>> {
    let mut stream = TcpStream::connect(target).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let all: Vec<u8> = queries.iter().flat_map(|query| framed(query)).collect();
    stream.write_all(&all).unwrap();
    queries[1..].iter().map(|_| read_message(&mut stream).unwrap()).collect()
}

/// Checks that the fast names are answered while the slow one is not.
fn the_quick_do_not_wait(server: Server, gate: &Gate, ask: Ask) {
    let slow = query_for(9_999, "slow.teSt", A);
    let queries: Vec<_> = [slow].into_iter().chain((0..QUICK).map(|n| query(n, A))).collect();
    let clock = Clock::start();
    let replies = ask(server.addresses()[0], &queries);
    let took = clock.now().since(Moment::ZERO);
    gate.open();
    let right = |query: &Vec<u8>| replies.iter().any(|reply| is_right(query, reply));
    assert!(queries[1..].iter().all(right), "not all of them are right: {replies:x?}");
    assert!(took < SOON, "{took:?}");
    let upstream = sum(&server.stats()).upstreams[0];
    assert_eq!((upstream.failed, upstream.timed_out), (0, 0), "{upstream:?}");
    server.stop();
}

#[test]
fn quick_names_do_not_wait_for_a_slow_one_on_a_connection_in_order() {
    for (ask, option) in [(by_datagrams as Ask, "force_tcp"), (by_connection, "")] {
        let gate = Arc::new(Gate::default());
        let served = Arc::clone(&gate);
        let (address, _) = upstream(listen(), move |stream| serve_in_order(stream, &served));
        let body = format!("forward . {address} {{\n max_connect_attempts 1\n {option}\n}}");
        the_quick_do_not_wait(start("127.0.0.1:0", &body, 1), &gate, ask);
    }
}

#[test]
fn quick_names_do_not_wait_for_a_slow_one_over_tls() {
    let authority = Authority::new("good");
    let config = Arc::new(authority.issue(&["127.0.0.1"]).server());
    let gate = Arc::new(Gate::default());
    let served = Arc::clone(&gate);
    let (address, _) = upstream(listen(), move |stream| {
        let session = ServerConnection::new(Arc::clone(&config)).unwrap();
        serve_in_order(StreamOwned::new(session, stream), &served)
    });
    let text = format!(
        ".:0 {{\n bind 127.0.0.1\n forward . tls://{address} {{\n tls ca.pem\n \
         max_connect_attempts 1\n }}\n}}\n"
    );
    let server = start_with(load(&text, &[("ca.pem", &authority.pem())]), 1);
    the_quick_do_not_wait(server, &gate, by_datagrams);
}

#[test]
fn connections_that_are_closed_after_a_few_answers_cost_no_query_its_answer() {
    for answers in [1, 2, 10] {
        for at_once in [2, 8, 16, 64] {
            let (address, _) = upstream(listen(), move |mut stream| {
                for _ in 0..answers {
                    let query = read_message(&mut stream)?;
                    stream.write_all(&framed(&answer_to(&query)))?;
                }
                // Unread data makes the kernel reset the connection.
                Ok(())
            });
            let options = "force_tcp\n max_connect_attempts 1";
            let body = format!("forward . {address} {{\n {options}\n}}");
            let server = start("127.0.0.1:0", &body, 1);
            let socket = client(server.addresses()[0]);
            for round in 0..10 {
                let numbers = at_once * round..at_once * (round + 1);
                let queries: Vec<_> = numbers.map(|number| query(number, A)).collect();
                queries.iter().for_each(|query| _ = socket.send(query).unwrap());
                for _ in &queries {
                    let reply = receive(&socket);
                    let right = queries.iter().any(|query| is_right(query, &reply));
                    let stats = sum(&server.stats()).upstreams[0];
                    assert!(right, "{answers}, {at_once}: {reply:x?}, {stats:?}");
                }
            }
            server.stop();
        }
    }
}
