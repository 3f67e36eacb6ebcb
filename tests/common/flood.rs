//! Queries at a fixed rate without waiting for replies, and a count of those that came back.
//!
//! An open loop: [`RATE`] queries a second are sent, regardless of the replies. Each has its own
//! name and ID, and every reply is checked against its query. For tests of the after-effects of
//! dead upstreams.

use onward::clock::Clock;
use onward::moment::{Moment, nanos};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};

/// Queries a second.
pub(crate) const RATE: u64 = 50_000;
/// Queries sent before replies are read.
const CHUNK: u64 = 50;
const SOCKETS: usize = 8;
const SERVFAIL: u8 = 2;

/// A flood that has been offered.
pub(crate) struct Flood {
    sockets: Vec<UdpSocket>,
    answered: Vec<bool>,
    /// Queries that the kernel accepted.
    pub(crate) sent: u64,
    /// Replies received: each a SERVFAIL, and the only one to its query.
    pub(crate) replies: u64,
}

impl Flood {
    /// Offers `queries` queries to `target`.
    pub(crate) fn offer(target: SocketAddr, queries: u16) -> Self {
        let socket = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(target).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let sockets = std::iter::repeat_with(socket).take(SOCKETS).collect();
        let answered = vec![false; queries.into()];
        let mut flood = Self { sockets, answered, sent: 0, replies: 0 };
        let clock = Clock::start();
        let mut number = 0;
        while number < u64::from(queries) {
            let due = nanos(clock.now().since(Moment::ZERO)) * RATE / 1_000_000_000;
            let until = due.min(queries.into()).min(number + CHUNK);
            (number..until).for_each(|number| flood.send(number as u16));
            number = number.max(until);
            flood.read();
        }
        flood
    }

    fn send(&mut self, number: u16) {
        let socket = &self.sockets[usize::from(number) % SOCKETS];
        match socket.send(&query(number)) {
            Ok(_) => self.sent += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }

    /// Reads the replies that have come.
    pub(crate) fn read(&mut self) {
        let mut packet = [0; 512];
        for socket in &self.sockets {
            while let Ok(len) = socket.recv(&mut packet) {
                let reply = &packet[..len];
                let number = u16::from_be_bytes([reply[0], reply[1]]);
                let query = query(number);
                assert_eq!(reply[3] & 15, SERVFAIL, "{reply:x?}");
                assert_eq!(reply[12..query.len()], query[12..], "another question");
                let answered = std::mem::replace(&mut self.answered[usize::from(number)], true);
                assert!(!answered, "query {number} was answered twice");
                self.replies += 1;
            }
        }
    }
}

fn query(number: u16) -> Vec<u8> {
    let mut query = number.to_be_bytes().to_vec();
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    query.extend(format!("\x06n{number:05}\x05flood\x04test\0\0\x01\0\x01").as_bytes());
    query
}
