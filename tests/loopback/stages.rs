//! Directives over real sockets.
//!
//! Replies made by the server, a connection at its query limit, and a forwarding loop that two
//! workers find together.

use crate::{TIMEOUT, any_port, config, start, sum};
use onward::log::Log;
use onward::server::Server;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::{Mutex, OnceLock, mpsc};

/// Receiver of log lines.
static LINES: OnceLock<Mutex<mpsc::Sender<String>>> = OnceLock::new();

/// A query for `name`, in wire format without the root label.
fn query(name: &[u8], rtype: u8, class: u8) -> Vec<u8> {
    let head = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    [&head[..], name, &[0, 0, rtype, 0, class]].concat()
}

/// The flags, the number of answers, and the bytes behind the question.
fn reply_to(client: &UdpSocket, query: &[u8]) -> (u16, u16, Vec<u8>) {
    client.send(query).unwrap();
    let mut reply = [0; 1_232];
    let len = client.recv(&mut reply).unwrap();
    assert_eq!((&reply[..2], &reply[12..query.len()]), (&query[..2], &query[12..]));
    let word = |at: usize| u16::from_be_bytes([reply[at], reply[at + 1]]);
    (word(2), word(6), reply[query.len()..len].to_vec())
}

fn client_of(server: &Server) -> UdpSocket {
    let client = UdpSocket::bind(any_port()).unwrap();
    client.connect(server.addresses()[0]).unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    client
}

#[test]
fn queries_that_are_not_for_upstreams_are_answered_refused_or_dropped() {
    let body = "any\n chaos v1\n acl {\n drop type TXT\n block net 127.0.0.0/8\n}";
    let server = start("127.0.0.1:0", body, 2);
    let client = client_of(&server);
    let (flags, answers, records) = reply_to(&client, &query(b"\x01a", 255, 1));
    assert_eq!((flags, answers), (0x8100, 1));
    assert!(records.ends_with(b"\x0dANY obsoleted\x0cSee RFC 8482"));
    let (flags, answers, records) = reply_to(&client, &query(b"\x07VERSION\x04bind", 16, 3));
    assert_eq!((flags, answers), (0x8100, 1));
    assert!(records.ends_with(b"\x02v1"));
    client.send(&query(b"\x01a", 16, 1)).unwrap();
    // The next reply belongs to the next query.
    let (flags, answers, records) = reply_to(&client, &query(b"\x01a", 1, 1));
    assert_eq!((flags, answers, records.len()), (0x8185, 0, 0));
    let total = sum(&server.stats());
    let stages = total.stages;
    assert_eq!((stages.any.answered, stages.chaos.answered), (1, 1));
    assert_eq!((stages.acl.refused, stages.acl.dropped), (1, 1));
    assert_eq!((total.queries, total.replied()), (4, 3));
    server.stop();
}

#[test]
fn a_connection_at_its_query_limit_is_answered_and_closed() {
    let server = start("127.0.0.1:0", "whoami\n timeouts {\n maxtcpqueries 2\n}", 1);
    let mut stream = TcpStream::connect(server.addresses()[0]).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let query = query(b"\x01a", 1, 1);
    let framed = [&(query.len() as u16).to_be_bytes(), &query[..]].concat();
    stream.write_all(&framed.repeat(3)).unwrap();
    let mut replies = Vec::new();
    // Unread data makes the server's close a reset, which is an error behind all replies.
    let _ = stream.read_to_end(&mut replies);
    let first = 2 + usize::from(u16::from_be_bytes([replies[0], replies[1]]));
    assert_eq!(replies.len(), 2 * first, "two replies of the same length");
    assert_eq!(sum(&server.stats()).queries, 2);
    server.stop();
}

/// Sends the queries received at `upstream` back to `target`, as a forwarder behind ours would, and
/// reports the length of each.
fn relay(upstream: UdpSocket, target: SocketAddr) -> mpsc::Receiver<usize> {
    let (told, relayed) = mpsc::channel();
    std::thread::spawn(move || {
        let back = UdpSocket::bind(any_port()).unwrap();
        let mut packet = [0; 512];
        while let Ok((len, _)) = upstream.recv_from(&mut packet) {
            packet[0] ^= 0x55;
            back.send_to(&packet[..len], target).unwrap();
            if told.send(len).is_err() {
                return;
            }
        }
    });
    relayed
}

#[test]
fn a_forwarding_loop_is_found_by_whichever_worker_sees_it() {
    let upstream = UdpSocket::bind(any_port()).unwrap();
    upstream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let body = format!("loop\n forward . {}", upstream.local_addr().unwrap());
    let (lines, logged) = mpsc::channel();
    LINES.set(Mutex::new(lines)).expect("one test logs");
    // The log function cannot capture variables.
    let log = |line: &str| {
        let _ = LINES.get().map(|lines| lines.lock().unwrap().send(line.to_owned()));
    };
    let server =
        Server::start(config("127.0.0.1:0", &body), &[None, None], Log::text(log)).unwrap();
    let relayed = relay(upstream, server.addresses()[0]);
    assert!(relayed.recv_timeout(TIMEOUT).unwrap() > 40, "the probe");
    let line = logged.recv_timeout(TIMEOUT).unwrap();
    assert!(
        line.starts_with("[ERROR] plugin/loop: forwarding loop in the server block of .:"),
        "{line}"
    );
    let client = client_of(&server);
    let (flags, ..) = reply_to(&client, &query(b"\x01a", 1, 1));
    assert_eq!(flags, 0x8182, "it fails at once instead of going round");
    assert!(sum(&server.stats()).stages.loops.refused >= 2);
    server.stop();
}
