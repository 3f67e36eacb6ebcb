//! Fuzz target: packets and TCP streams. Views accept or reject any bytes, the engine handles any
//! packet of either side, and a stream yields the same messages for every segmentation.
//!
//! The corpus is hexadecimal, one packet per file, so that diffs are readable.

use super::mutate::Mutator;
use super::{corpus, fuzz};
use onward::config::{Config, Host};
use onward::engine::errors::{Fault, Operation};
use onward::engine::forwarder::TCP_MESSAGE_MAX;
use onward::engine::frame::Inbox;
use onward::engine::health::HealthStates;
use onward::engine::message::query::Query;
use onward::engine::message::response::Response;
use onward::engine::shell::{self, Buffers, Shell};
use onward::engine::{Client, ConnectionId, Forwarder, Notice, Outgoing, Via};
use onward::moment::Moment;
use std::cell::RefCell;
use std::sync::Arc;

const MUTATOR: Mutator = Mutator {
    separators: &[0, 1, 3, 7, 11, 0xC0, 0x81, 0x41],
    words: &[
        &[0],
        &[0xC0, 12],
        &[0xC0, 0xFF],
        &[0xFF, 0xFF],
        &[63],
        &[64],
        &[0, 1, 0, 1],
        &[0xC0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 1],
        &[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0],
        &[0, 0, 41, 2, 0, 0, 0, 0, 0, 0, 8, 0, 8, 0, 4, 0, 1, 24, 0],
        b"\x07example\x03org",
    ],
};

/// The bytes of a corpus file's hexadecimal digits; a mutated input is taken as raw bytes.
fn packet(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

fn client() -> Client {
    let peer = "198.51.100.1:4711".parse().unwrap();
    Client { listener: 0, peer, local: None, via: Via::Datagram }
}

/// An engine whose upstreams answer each query with the client's packet, and whose sockets fail
/// afterwards.
struct Echo {
    engine: Forwarder,
    buffers: Buffers,
    packet: Vec<u8>,
    out: Vec<u8>,
    /// Queries sent for the current packet.
    sent: usize,
    believed: bool,
}

impl Echo {
    fn new() -> Self {
        let text = b". {\n bind 127.0.0.1\n forward . 192.0.2.1 192.0.2.2 {\n max_conns 4\n }\n}\n";
        let (config, _) = Config::load(text, "f", &Host::plain()).unwrap();
        Self {
            engine: Forwarder::new(&config, [7; 32], Arc::new(HealthStates::new(&config))),
            buffers: Buffers::new(),
            packet: Vec::new(),
            out: vec![0; TCP_MESSAGE_MAX],
            sent: 0,
            believed: false,
        }
    }

    /// Sends `packet` as a client and answers the first upstream query with the same packet under
    /// the right ID. Returns true if the engine accepted the answer.
    fn exchange(&mut self, packet: &[u8]) -> bool {
        (self.packet, self.sent, self.believed) = (packet.to_vec(), 0, false);
        let now = Moment::ZERO;
        if let Some(len) = self.engine.on_query(now, client(), packet, false, &mut self.out) {
            let is_response = self.out[2] & 0x80 != 0;
            assert!(len <= 1_232 && is_response, "an error of {len} bytes is no response");
        }
        shell::settle(self, now);
        self.believed
    }
}

impl Shell for Echo {
    fn engine(&mut self) -> &mut Forwarder {
        &mut self.engine
    }

    fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    fn open(&mut self, _: Moment, _: ConnectionId) -> Result<(), Fault> {
        Ok(())
    }

    fn send(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        queries: &[Outgoing],
    ) -> Result<(), (Operation, Fault)> {
        for send in queries {
            let Some(query) = self.engine.query(send) else { continue };
            self.sent += 1;
            if self.sent > 1 {
                continue;
            }
            let mut response = self.packet.clone();
            response[..2].copy_from_slice(&query[..2]);
            response[2] |= 0x80;
            if let Some(answered) = self.engine.on_response(now, connection, &response, false) {
                self.believed = true;
                while self.engine.next_reply(&answered, &response, &mut self.out).is_some() {}
            }
        }
        Err((Operation::Read, Fault::Unknown))
    }

    fn close(&mut self, _: Moment, _: ConnectionId) {}

    fn deliver(&mut self, _: Moment, _: &Client, reply: &[u8]) {
        assert!(reply[2] & 0x80 != 0, "an error is a response");
    }

    fn notice(&mut self, _: Moment, _: &Notice) -> bool {
        true
    }
}

/// The messages of a stream that arrives in pieces of this size; a final `None` marks a message
/// that was too long.
fn messages(connection: &[u8], piece: usize) -> Vec<Option<Vec<u8>>> {
    let mut inbox = Inbox::default();
    let mut all = Vec::new();
    for piece in connection.chunks(piece) {
        let mut rest = piece;
        while !rest.is_empty() {
            let room = inbox.room();
            let len = rest.len().min(room.len());
            room[..len].copy_from_slice(&rest[..len]);
            inbox.filled(len);
            rest = &rest[len..];
            loop {
                match inbox.next(512) {
                    Ok(Some(message)) => all.push(Some(message.to_vec())),
                    Ok(None) => break,
                    Err(_) => {
                        all.push(None);
                        return all;
                    }
                }
            }
        }
    }
    all
}

#[test]
fn message() {
    for (path, text) in corpus("message") {
        assert!(packet(&text).is_some(), "{}: not hexadecimal", path.display());
    }
    let echo = RefCell::new(Echo::new());
    let believed = fuzz("message", &MUTATOR, |text| {
        let bytes = packet(text).unwrap_or_else(|| text.to_vec());
        let _ = (Query::parse(&bytes, true), Query::parse(&bytes, false));
        let _ = Response::parse(&bytes);
        let whole = messages(&bytes, usize::MAX);
        assert_eq!(messages(&bytes, 1), whole);
        assert_eq!(messages(&bytes, 7), whole);
        echo.borrow_mut().exchange(&bytes)
    });
    let outstanding = echo.borrow().engine.outstanding();
    assert_eq!(outstanding, 0, "queries that nobody ends");
    assert!(believed > 100 || std::env::var_os("FUZZ_ONLY").is_some(), "{believed} are believed");
}
