//! A client of DNS over HTTP/2, written frame by frame, independent of the tested code.
//!
//! Fields of requests are literal and in no table; those of responses are not decoded.

#![allow(dead_code, reason = "each test binary uses its part of this")]

use std::io::Read;

pub(crate) const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A message as base64url without padding.
pub(crate) fn base64(message: &[u8]) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in message.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        let word = word << (8 * (3 - chunk.len()));
        let digit = |place: usize| digits[(word >> (18 - 6 * place)) as usize & 63] as char;
        text.extend((0..=chunk.len()).map(digit));
    }
    text
}

/// A frame of HTTP/2.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = &(payload.len() as u32).to_be_bytes()[1..];
    [len, &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The beginning of a client of HTTP/2.
pub(crate) fn preface() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, 0, b"")[..]].concat()
}

/// Fields that are literal and in no table.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        assert!(value.len() < 127, "its length has one byte");
        block.extend([0, name.len() as u8]);
        block.extend(name.as_bytes());
        block.push(value.len() as u8);
        block.extend(value.as_bytes());
    }
    block
}

/// A GET on `stream`, whose fields are literal and in no table.
pub(crate) fn get2(stream: u32, message: &[u8]) -> Vec<u8> {
    let path = format!("/dns-query?dns={}", base64(message));
    let fields =
        [(":method", "GET"), (":scheme", "http"), (":authority", "dns.test"), (":path", &path)];
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(&fields))
}

/// A call of gRPC on `stream` with a query of less than 128 bytes.
pub(crate) fn grpc2(stream: u32, message: &[u8]) -> Vec<u8> {
    assert!(message.len() < 128, "its length has one byte");
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "dns.test"),
        (":path", "/coredns.dns.DnsService/Query"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let head = frame(HEADERS, END_HEADERS, stream, &block(&fields));
    let len = message.len() as u8;
    let body = [&[0, 0, 0, 0, len + 2, 10, len], message].concat();
    [head, frame(DATA, END_STREAM, stream, &body)].concat()
}

/// A frame: type, flags, stream and payload.
pub(crate) type Frame = (u8, u8, u32, Vec<u8>);

pub(crate) fn read_frame(stream: &mut impl Read) -> Option<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some((head[3], head[4], u32::from_be_bytes(*head.last_chunk().unwrap()), payload))
}

/// Reads frames until a body is complete: its stream and bytes.
pub(crate) fn body2(stream: &mut impl Read) -> (u32, Vec<u8>) {
    let mut body = Vec::new();
    loop {
        let (kind, flags, number, payload) = read_frame(stream).expect("a frame");
        if kind == DATA {
            body.extend(payload);
        }
        // Trailers end a reply of gRPC.
        if number > 0 && flags & END_STREAM != 0 {
            return (number, body);
        }
    }
}
