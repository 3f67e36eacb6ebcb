//! Packets and streams: views of any bytes stand or are refused, the engine lives through every
//! packet of either side, and a stream gives the same messages however it was cut.
//!
//! The corpus is hexadecimal, one packet a file, so that a reader and a diff can follow it.

use super::mutate::Mutator;
use super::{corpus, fuzz};
use onward::config::{Config, Host};
use onward::engine::frame::Inbox;
use onward::engine::health::Verdicts;
use onward::engine::message::query::Query;
use onward::engine::message::response::Response;
use onward::engine::{Client, Forwarder};
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

/// The bytes that a corpus file's hexadecimal digits stand for; a mutated one is bytes already.
fn packet(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

fn client() -> Client {
    let peer = "198.51.100.1:4711".parse().unwrap();
    Client { listener: 0, peer, local: None, stream: None }
}

fn engine() -> Forwarder {
    let text = b". {\n bind 127.0.0.1\n forward . 192.0.2.1 192.0.2.2 {\n max_conns 4\n }\n}\n";
    let (config, _) = Config::load(text, "f", &Host::plain()).unwrap();
    Forwarder::new(&config, [7; 32], Arc::new(Verdicts::new(&config)))
}

/// Asks `engine` with `packet`, and answers whatever it asks upstream with `packet` too, behind
/// the right id. Whether there was an answer that it believed.
fn exchange(engine: &mut Forwarder, packet: &[u8]) -> bool {
    let mut out = vec![0; 65_535];
    let now = Moment::ZERO;
    if let Some(len) = engine.on_query(now, client(), packet, false, &mut out) {
        assert!(len <= 1_232 && out[2] & 0x80 != 0, "an error of {len} bytes is no response");
    }
    let mut sends = Vec::with_capacity(onward::engine::exchange::EXCHANGES_MAX);
    engine.swap_sends(&mut sends);
    let mut believed = false;
    for send in sends {
        let Some(query) = engine.query(&send) else { continue };
        let mut response = packet.to_vec();
        response[..2].copy_from_slice(&query[..2]);
        response[2] |= 0x80;
        if let Some(answered) = engine.on_response(now, send.connection, &response, false) {
            believed = true;
            while engine.next_reply(&answered, &response, &mut out).is_some() {}
        }
        engine.on_connection_failed(now, send.connection);
    }
    let mut sends = Vec::with_capacity(onward::engine::exchange::EXCHANGES_MAX);
    engine.swap_sends(&mut sends);
    for send in sends {
        engine.on_connection_failed(now, send.connection);
    }
    while engine.next_failure(&mut out).is_some() {}
    while engine.next_closed().is_some() {}
    believed
}

/// The messages of a stream that came in pieces of so many bytes; `None` behind the last: one was
/// too long.
fn messages(stream: &[u8], piece: usize) -> Vec<Option<Vec<u8>>> {
    let mut inbox = Inbox::default();
    let mut all = Vec::new();
    for piece in stream.chunks(piece) {
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
    let engine = RefCell::new(engine());
    let believed = fuzz("message", &MUTATOR, |text| {
        let bytes = packet(text).unwrap_or_else(|| text.to_vec());
        let _ = (Query::parse(&bytes, true), Query::parse(&bytes, false));
        let _ = Response::parse(&bytes);
        let whole = messages(&bytes, usize::MAX);
        assert_eq!(messages(&bytes, 1), whole);
        assert_eq!(messages(&bytes, 7), whole);
        exchange(&mut engine.borrow_mut(), &bytes)
    });
    let outstanding = engine.borrow().outstanding();
    assert_eq!(outstanding, 0, "queries that nobody ends");
    assert!(believed > 100 || std::env::var_os("FUZZ_ONLY").is_some(), "{believed} are believed");
}
