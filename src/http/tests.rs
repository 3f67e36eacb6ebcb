//! Tests of client connections, with bytes as clients send them.
//!
//! Frames of HTTP/2 are made and read here by hand, so that the library is not its own oracle.

mod client;
mod floods;
mod http1;
mod http2;

use super::response::Response;
use super::{Limits, Server, Version};

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;

pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const FLOW_CONTROL_ERROR: u32 = 3;
pub(super) const STREAM_CLOSED: u32 = 5;
pub(super) const REFUSED_STREAM: u32 = 7;
pub(super) const CANCEL: u32 = 8;
pub(super) const COMPRESSION_ERROR: u32 = 9;
pub(super) const ENHANCE_YOUR_CALM: u32 = 11;

/// Room of an outbox.
pub(super) const ROOM: usize = 64 << 10;

/// A frame of HTTP/2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// The number at the end of a GOAWAY (without data) or an RST_STREAM.
    pub(super) fn code(&self) -> u32 {
        u32::from_be_bytes(*self.payload.last_chunk().unwrap())
    }
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = &(payload.len() as u32).to_be_bytes()[1..];
    [len, &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The frames in `bytes`, all of which must be complete.
pub(super) fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut all = Vec::new();
    while let [a, b, c, kind, flags, s0, s1, s2, s3, rest @ ..] = bytes {
        let (payload, rest) = rest.split_at(u32::from_be_bytes([0, *a, *b, *c]) as usize);
        let stream = u32::from_be_bytes([*s0, *s1, *s2, *s3]);
        all.push(Frame { kind: *kind, flags: *flags, stream, payload: payload.to_vec() });
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a frame: {bytes:?}");
    all
}

/// A header block: each field literal, and in no table.
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // The length, in seven bits and then in groups of seven (RFC 7541 §5.1).
            match text.len().checked_sub(127) {
                None => block.push(text.len() as u8),
                Some(mut rest) => {
                    block.push(127);
                    while rest >= 128 {
                        block.push((rest & 127) as u8 | 128);
                        rest >>= 7;
                    }
                    block.push(rest as u8);
                }
            }
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

pub(super) fn fields<'a>(method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![(":method", method), (":scheme", "https"), (":authority", "dns.test"), (":path", path)]
}

pub(super) fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(&fields("GET", path)))
}

/// The head of a POST, without its body.
pub(super) fn post(stream: u32) -> Vec<u8> {
    let mut fields = fields("POST", "/dns-query");
    fields.push(("content-type", "application/dns-message"));
    frame(HEADERS, END_HEADERS, stream, &block(&fields))
}

pub(super) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// First bytes of a client.
pub(super) fn hello() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(SETTINGS, 1, 0, &[])].concat()
}

/// A connection of a client of HTTP/2 after its first bytes.
pub(super) fn greeted(limits: Limits) -> Server {
    let mut server = Server::new(Some(Version::Http2), limits);
    sent(&mut server);
    assert!(receive(&mut server, &hello()).is_empty());
    sent(&mut server);
    server
}

/// A request, as far as tests look at it.
pub(super) type Seen = (u32, Vec<u8>, Vec<u8>);

/// Passes bytes to the server, and takes requests as the worker does.
pub(super) fn receive(server: &mut Server, mut bytes: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    while !bytes.is_empty() {
        let taken = server.receive(bytes);
        bytes = &bytes[taken..];
        seen.extend(requests(server));
        assert!(taken > 0, "no room");
    }
    seen
}

pub(super) fn requests(server: &mut Server) -> Vec<Seen> {
    let mut seen = Vec::new();
    while let Some(request) = server.next_request() {
        seen.push((request.id, request.target.to_vec(), request.body.to_vec()));
    }
    seen
}

pub(super) fn answer(server: &mut Server, id: u32, body: &[u8]) {
    let headers = [("content-type", &b"application/dns-message"[..])];
    server.respond(id, &Response::new(200, &headers, body)).unwrap();
}

/// All bytes that the server sends to a reader that is fast.
pub(super) fn sent(server: &mut Server) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let mut out = Vec::new();
        server.transmit(&mut out, ROOM);
        if out.is_empty() {
            return all;
        }
        all.extend(out);
    }
}

pub(super) fn sent_frames(server: &mut Server) -> Vec<Frame> {
    frames(&sent(server))
}
