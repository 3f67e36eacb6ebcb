//! A scripted server of DNS over HTTPS: a test says what becomes of each request.
//!
//! Blocking sockets with rustls in threads. Frames of HTTP/2 are written by hand, fields of
//! requests are not decoded, and those of responses are literal and in no table.

use crate::certs::Authority;
use crate::http2::{DATA, GOAWAY, frame, read_frame};
use crate::kit::answer_to;
use crate::tcp::{listen, upstream};
use rustls::{ServerConnection, StreamOwned};
use std::collections::HashMap;
use std::io::{Error, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const INTERNAL_ERROR: u32 = 2;
pub(crate) const DNS: &str = "application/dns-message";

/// A connection of a client that speaks HTTP/2 to an upstream.
pub(crate) struct Http2 {
    pub(crate) stream: StreamOwned<ServerConnection, TcpStream>,
    bodies: HashMap<u32, Vec<u8>>,
}

impl Http2 {
    /// Begins with this payload of SETTINGS.
    pub(crate) fn begin(
        mut stream: StreamOwned<ServerConnection, TcpStream>,
        settings: &[u8],
    ) -> Result<Self> {
        let mut preface = [0; 24];
        stream.read_exact(&mut preface)?;
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut connection = Self { stream, bodies: HashMap::new() };
        connection.write(&frame(SETTINGS, 0, 0, settings))?;
        Ok(connection)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Returns the stream and the body of the next request.
    pub(crate) fn request(&mut self) -> Result<(u32, Vec<u8>)> {
        loop {
            let next = read_frame(&mut self.stream);
            let (kind, flags, stream, payload) = next.ok_or_else(|| Error::other("the end"))?;
            match kind {
                SETTINGS if flags & ACK == 0 => self.write(&frame(SETTINGS, ACK, 0, b""))?,
                DATA => {
                    self.bodies.entry(stream).or_default().extend(payload);
                    if flags & END_STREAM != 0 {
                        return Ok((stream, self.bodies.remove(&stream).unwrap()));
                    }
                }
                _ => {}
            }
        }
    }

    /// Writes a response with this status, these fields and this body.
    pub(crate) fn respond(
        &mut self,
        stream: u32,
        status: u16,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Result<()> {
        self.write(&response(stream, status, fields, body))
    }

    pub(crate) fn answer(&mut self, stream: u32, query: &[u8]) -> Result<()> {
        self.respond(stream, 200, &[("content-type", DNS)], &answer_to(query))
    }

    pub(crate) fn reset(&mut self, stream: u32, code: u32) -> Result<()> {
        self.write(&frame(RST_STREAM, 0, stream, &code.to_be_bytes()))
    }

    /// Takes leave: requests on streams up to `last` are answered.
    pub(crate) fn leave(&mut self, last: u32) -> Result<()> {
        let payload = [last.to_be_bytes(), [0; 4]].concat();
        self.write(&frame(GOAWAY, 0, 0, &payload))
    }
}

/// A response whose fields are literal and in no table, and whose body is cut into frames.
pub(crate) fn response(stream: u32, status: u16, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let status = status.to_string();
    let mut block = Vec::new();
    for (name, value) in [(":status", &*status)].iter().chain(fields) {
        block.extend([0, name.len() as u8]);
        block.extend(name.as_bytes());
        block.push(value.len() as u8);
        block.extend(value.as_bytes());
    }
    let mut bytes = frame(HEADERS, END_HEADERS, stream, &block);
    body.chunks(16_000).for_each(|part| bytes.extend(frame(DATA, 0, stream, part)));
    bytes.extend(frame(DATA, END_STREAM, stream, b""));
    bytes
}

/// An upstream at which `serve` gets each connection, with its number.
pub(crate) fn secure(
    alpn: &'static [u8],
    authority: &Authority,
    serve: impl Fn(usize, StreamOwned<ServerConnection, TcpStream>) -> Result<()>
    + Send
    + Sync
    + 'static,
) -> SocketAddr {
    let mut config = authority.issue(&["dns.test"]).server();
    config.alpn_protocols = vec![alpn.to_vec()];
    let (config, count) = (Arc::new(config), AtomicUsize::new(0));
    let (address, _) = upstream(listen(), move |stream| {
        let session = ServerConnection::new(Arc::clone(&config)).unwrap();
        serve(count.fetch_add(1, Ordering::SeqCst), StreamOwned::new(session, stream))
    });
    address
}

/// An upstream that speaks HTTP/2.
pub(crate) fn doh(
    authority: &Authority,
    serve: impl Fn(usize, &mut Http2) -> Result<()> + Send + Sync + 'static,
) -> SocketAddr {
    secure(b"h2", authority, move |number, stream| serve(number, &mut Http2::begin(stream, b"")?))
}
