//! HTTP/3 (RFC 9114): the streams of a client's connection as bytes.
//!
//! QUIC carries the streams and belongs to another room. [`RequestStream`] reads a request from its
//! stream, [`PeerStreams`] the client's streams in one direction; [`write_response`] and
//! [`opening`] make the bytes of this side. There are no pushes, no dynamic table of fields and no
//! extensions; what a client sends of extensions is skipped and costs points.

pub(crate) mod code;
mod frames;
mod huffman;
mod peer;
mod qpack;
mod request;
mod static_table;
#[cfg(test)]
mod tests;

use super::limits::Limits;
use super::response::Response;
use frames::{kind, put_number};
pub use peer::{Heard, PeerStreams};
pub use request::RequestStream;

/// Type of the control stream (RFC 9114 §6.2.1).
const CONTROL_STREAM: u64 = 0;
/// Maximum size of a request's fields, as a setting (RFC 9114 §7.2.4.1).
const MAX_FIELD_SECTION_SIZE: u64 = 6;

/// A broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The stream ends with this code.
    Stream(u32),
    /// The connection ends with this code.
    Connection(u32),
}

/// Returns the first bytes of this side's control stream.
pub(crate) fn opening(limits: &Limits) -> Vec<u8> {
    let mut settings = Vec::new();
    put_number(&mut settings, MAX_FIELD_SECTION_SIZE);
    put_number(&mut settings, limits.header_bytes_max as u64);
    let mut out = Vec::new();
    put_number(&mut out, CONTROL_STREAM);
    put_frame(&mut out, kind::SETTINGS, &settings);
    out
}

/// Returns the frame that says that streams from `stream` on are not read.
pub(crate) fn goaway(stream: u64) -> Vec<u8> {
    let mut number = Vec::new();
    put_number(&mut number, stream);
    let mut out = Vec::new();
    put_frame(&mut out, kind::GOAWAY, &number);
    out
}

/// Appends all bytes of a response. `is_head`: its body is not sent.
pub(crate) fn write_response(out: &mut Vec<u8>, response: &Response<'_>, is_head: bool) {
    let len = response.len();
    let mut section = Vec::with_capacity(64);
    let mut digits = itoa::Buffer::new();
    qpack::begin(&mut section);
    qpack::put(&mut section, b":status", digits.format(response.status).as_bytes());
    for (name, value) in response.headers {
        qpack::put(&mut section, name.as_bytes(), value);
    }
    if len > 0 {
        qpack::put(&mut section, b"content-length", digits.format(len).as_bytes());
    }
    out.reserve(2 * 9 + section.len() + len);
    put_frame(out, kind::HEADERS, &section);
    if len > 0 && !is_head {
        put_number(out, kind::DATA);
        put_number(out, len as u64);
        response.body.iter().for_each(|part| out.extend_from_slice(part));
    }
}

/// Appends a frame.
fn put_frame(out: &mut Vec<u8>, kind: u64, payload: &[u8]) {
    put_number(out, kind);
    put_number(out, payload.len() as u64);
    out.extend_from_slice(payload);
}
