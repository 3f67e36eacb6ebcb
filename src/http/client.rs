//! A connection to an upstream that speaks HTTP: calls in, replies out.
//!
//! HTTP/2 carries as many calls at once as the server allows, HTTP/1.1 one after the other. A call
//! that fails says whether the server can have processed it: one that it has not may be repeated at
//! once elsewhere. Replies are bounded, and so is what a server may send without use.

mod http1;
mod http2;

use super::limits::Version;
use super::media::Media;
use super::request::Method;
use http1::Http1;
use http2::Http2;
use std::fmt;

/// Maximum length of a reply's body that is a DNS message, with a frame of gRPC around it.
pub(super) const BODY_BYTES_MAX: usize = 65_535 + 16;
/// Maximum size of a reply's fields.
const HEADER_BYTES_MAX: usize = 8 << 10;

/// A request to an upstream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// The scheme: `https`, or `http` on a connection without TLS.
    pub(crate) scheme: &'static [u8],
    /// Name and port of the server.
    pub(crate) authority: &'a [u8],
    /// Path and query.
    pub(crate) target: &'a [u8],
    /// Fields, with names in lower case. The length of the body is added to them.
    pub(crate) headers: &'a [(&'static str, &'a [u8])],
    /// The body, in two parts.
    pub(crate) body: [&'a [u8]; 2],
}

impl Call<'_> {
    fn len(&self) -> usize {
        self.body.iter().map(|part| part.len()).sum()
    }
}

/// A reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Number of the call.
    pub id: u32,
    /// The status code.
    pub(crate) status: u16,
    pub(crate) media: Media,
    /// Seconds that the reply has spent in caches.
    pub(crate) age: u32,
    /// Status of gRPC.
    pub(crate) grpc_status: Option<u32>,
    pub(crate) body: &'a [u8],
}

/// Reason why a call has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server has not processed the call: it may be repeated at once.
    Unprocessed,
    /// The server has reset the call.
    Reset,
    /// The reply is malformed or too long.
    Unusable,
    /// The connection has ended.
    Lost,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unprocessed => "http: the server has not processed the request",
            Self::Reset => "http: the server has reset the request",
            Self::Unusable => "http: malformed or too long reply",
            Self::Lost => "http: the connection has ended",
        })
    }
}

/// A reply that is being received.
#[derive(Debug, Default)]
struct Arriving {
    status: u16,
    media: Media,
    age: u32,
    grpc_status: Option<u32>,
    /// Size of all fields.
    listed: usize,
    body: Vec<u8>,
}

impl Arriving {
    /// Begins a reply, or the final one behind an interim one.
    fn begin(&mut self, status: u16) {
        (self.status, self.media, self.age, self.grpc_status) = (status, Media::Other, 0, None);
    }

    /// Counts the bytes of a field. Returns false if there are too many.
    fn lists(&mut self, len: usize) -> bool {
        self.listed = self.listed.saturating_add(len);
        self.listed <= HEADER_BYTES_MAX
    }

    /// Takes a field, if it matters. `name` may be in any case.
    fn field(&mut self, name: &[u8], value: &[u8]) {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            3 if is(b"age") => self.age = number(value).unwrap_or(0),
            11 if is(b"grpc-status") => self.grpc_status = number(value),
            12 if is(b"content-type") => self.media = Media::of(value),
            _ => {}
        }
    }

    /// Takes bytes of the body. Returns false if it is too long.
    fn data(&mut self, data: &[u8]) -> bool {
        let fits = data.len() <= BODY_BYTES_MAX.saturating_sub(self.body.len());
        if fits {
            self.body.extend_from_slice(data);
        }
        fits
    }

    /// Empties the reply, and keeps its memory if that is little.
    fn clear(&mut self) {
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        body.shrink_to(2 << 10);
        *self = Self { body, ..Self::default() };
    }

    fn view(&self, id: u32) -> Reply<'_> {
        let Self { status, media, age, grpc_status, body, .. } = self;
        Reply { id, status: *status, media: *media, age: *age, grpc_status: *grpc_status, body }
    }
}

/// Returns the number that `text` consists of. One that is too large is the largest.
fn number(text: &[u8]) -> Option<u32> {
    let digits = text.trim_ascii();
    let is_plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    is_plain.then(|| {
        let digit = |sum: u32, byte: &u8| {
            sum.saturating_mul(10).saturating_add(u32::from(byte.wrapping_sub(b'0')))
        };
        digits.iter().fold(0, digit)
    })
}

/// A connection to an upstream.
pub struct Client {
    connection: Connection,
}

enum Connection {
    Http1(Box<Http1>),
    Http2(Box<Http2>),
}

impl Client {
    /// Creates a connection that carries at most `outstanding_max` calls at once.
    pub fn new(version: Version, outstanding_max: u32) -> Self {
        let connection = match version {
            Version::Http1 => Connection::Http1(Box::default()),
            Version::Http2 => Connection::Http2(Box::new(Http2::new(outstanding_max))),
        };
        Self { connection }
    }

    /// Returns the maximum number of bytes of a connection that carries at most `outstanding_max`
    /// calls at once.
    pub(crate) fn bytes_max(outstanding_max: u32) -> usize {
        size_of::<Self>() + Http2::bytes_max(outstanding_max)
    }

    /// Number of calls that can be outstanding at once.
    pub(crate) fn calls_max(&self) -> usize {
        match &self.connection {
            Connection::Http1(_) => 1,
            Connection::Http2(connection) => connection.calls_max(),
        }
    }

    /// Number of calls that can be made now.
    pub fn capacity(&self) -> usize {
        match &self.connection {
            Connection::Http1(connection) => connection.capacity(),
            Connection::Http2(connection) => connection.capacity(),
        }
    }

    /// Makes a call. Returns its number; `None`: there is no capacity.
    pub(crate) fn call(&mut self, call: &Call<'_>) -> Option<u32> {
        match &mut self.connection {
            Connection::Http1(connection) => connection.call(call),
            Connection::Http2(connection) => connection.call(call),
        }
    }

    /// Gives up a call. HTTP/1.1 ends with it.
    pub fn cancel(&mut self, id: u32) {
        match &mut self.connection {
            Connection::Http1(connection) => connection.cancel(id),
            Connection::Http2(connection) => connection.cancel(id),
        }
    }

    /// Takes received bytes; none of them is left over.
    pub fn receive(&mut self, bytes: &[u8]) {
        match &mut self.connection {
            Connection::Http1(connection) => connection.receive(bytes),
            Connection::Http2(connection) => connection.receive(bytes),
        }
    }

    /// The server has closed its side.
    pub fn end(&mut self) {
        match &mut self.connection {
            Connection::Http1(connection) => connection.end(),
            Connection::Http2(connection) => connection.end(),
        }
    }

    /// Returns the next complete reply.
    pub fn next_reply(&mut self) -> Option<Reply<'_>> {
        match &mut self.connection {
            Connection::Http1(connection) => connection.next_reply(),
            Connection::Http2(connection) => connection.next_reply(),
        }
    }

    /// Returns the next call that has failed.
    pub fn next_failed(&mut self) -> Option<(u32, Failure)> {
        match &mut self.connection {
            Connection::Http1(connection) => connection.next_failed(),
            Connection::Http2(connection) => connection.next_failed(),
        }
    }

    /// Appends bytes to send, until `out` has `len_max`; a frame of HTTP/2, of at most 16 KB, is
    /// not cut there.
    pub fn transmit(&mut self, out: &mut Vec<u8>, len_max: usize) {
        match &mut self.connection {
            Connection::Http1(connection) => connection.transmit(out, len_max),
            Connection::Http2(connection) => connection.transmit(out, len_max),
        }
    }

    /// Takes leave of the server: no further call is made.
    pub fn shut_down(&mut self) {
        match &mut self.connection {
            Connection::Http1(connection) => connection.shut_down(),
            Connection::Http2(connection) => connection.shut_down(),
        }
    }

    /// Returns true if no further call can be made, now or later.
    pub fn is_ending(&self) -> bool {
        match &self.connection {
            Connection::Http1(connection) => connection.is_ending(),
            Connection::Http2(connection) => connection.is_ending(),
        }
    }

    /// Number of calls that have neither a reply nor failed.
    pub fn outstanding(&self) -> usize {
        match &self.connection {
            Connection::Http1(connection) => connection.outstanding(),
            Connection::Http2(connection) => connection.outstanding(),
        }
    }
}
