//! Requests: the few facts that matter of a head, and the body.
//!
//! [`Incoming`] collects a request field by field in one buffer, within the connection's
//! [`Limits`], for all versions of the protocol; [`Request`] is its view. A request beyond a limit
//! becomes a request with a [`Fault`], so that it is refused and counted like any other.

use super::limits::{DISCARDED_BYTES_MAX, Limits};
use std::ops::Range;

/// Method of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    /// HEAD: the response has no body.
    Head,
    Post,
    /// Any other.
    #[default]
    Other,
}

impl Method {
    /// Returns the method with this name, which is case-sensitive.
    pub(crate) fn of(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            _ => Self::Other,
        }
    }
}

/// Part of a request that is longer than its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    Target,
    /// The fields.
    Head,
    Body,
}

/// Reason why a request must be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The request is not HTTP, or has two readings.
    Malformed,
    /// The version is neither 1.0 nor 1.1.
    Version,
    /// A transfer coding other than `chunked`.
    Coding,
    /// A part is too long.
    Excess(Excess),
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Number of the request on its connection: the stream in HTTP/2 and HTTP/3.
    pub id: u32,
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: &'a [u8],
    /// Name and port of the server as the client knows it (`Host` or `:authority`).
    pub(crate) host: Option<&'a [u8]>,
    pub(crate) content_type: Option<&'a [u8]>,
    /// `Forwarded` (RFC 7239), all lines joined by `, `.
    pub(crate) forwarded: &'a [u8],
    /// `X-Forwarded-For`, all lines joined by `, `.
    pub(crate) forwarded_for: &'a [u8],
    pub(crate) body: &'a [u8],
    /// The request must be refused.
    pub(crate) fault: Option<Fault>,
}

/// A request that is being received.
#[derive(Debug, Default)]
pub struct Incoming {
    /// Target, host, content type and body, one behind the other. The first three in any order.
    pub(super) bytes: Vec<u8>,
    pub(super) method: Method,
    target: Range<usize>,
    host: Option<Range<usize>>,
    content_type: Option<Range<usize>>,
    body: usize,
    forwarded: Vec<u8>,
    forwarded_for: Vec<u8>,
    /// Size of all fields.
    listed: usize,
    /// Bytes of the body that were not kept.
    discarded: usize,
    pub(super) fault: Option<Fault>,
}

impl Incoming {
    /// Creates an empty request that reuses the memory of `bytes`.
    pub(super) fn new(mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        Self { bytes, ..Self::default() }
    }

    /// Returns the memory of the request, empty.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.clear();
        self.bytes
    }

    /// Empties the request, and keeps its memory.
    pub(super) fn clear(&mut self) {
        *self = Self::new(std::mem::take(&mut self.bytes));
    }

    pub(super) fn set_target(&mut self, target: &[u8]) {
        self.target = self.keep(target);
    }

    pub(super) fn set_host(&mut self, host: &[u8]) {
        self.host = Some(self.keep(host));
    }

    fn keep(&mut self, text: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text);
        self.body = self.bytes.len();
        start..self.body
    }

    /// Counts `len` bytes of fields. Returns false if there are too many, which is a fault.
    pub(super) fn lists(&mut self, len: usize, limits: &Limits) -> bool {
        self.listed = self.listed.saturating_add(len);
        let fits = self.listed <= limits.header_bytes_max;
        if !fits {
            self.fault.get_or_insert(Fault::Excess(Excess::Head));
        }
        fits
    }

    /// Size of all fields so far, kept or not.
    pub(super) fn listed(&self) -> usize {
        self.listed
    }

    /// Takes a field, if it matters. `name` may be in any case.
    pub(super) fn field(&mut self, name: &[u8], value: &[u8]) {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            9 if is(b"forwarded") => join(&mut self.forwarded, value),
            12 if is(b"content-type") => self.content_type = Some(self.keep(value)),
            15 if is(b"x-forwarded-for") => join(&mut self.forwarded_for, value),
            _ => {}
        }
    }

    /// Takes bytes of the body. Beyond the maximum they are discarded, which is a fault. Returns
    /// false if even that is too much.
    pub(super) fn data(&mut self, data: &[u8], limits: &Limits) -> bool {
        if self.fault.is_none()
            && self.bytes.len() - self.body + data.len() <= limits.body_bytes_max
        {
            self.bytes.extend_from_slice(data);
            return true;
        }
        if !data.is_empty() {
            self.fault.get_or_insert(Fault::Excess(Excess::Body));
        }
        self.discarded = self.discarded.saturating_add(data.len());
        self.discarded <= DISCARDED_BYTES_MAX
    }

    /// Returns true if a body has begun.
    pub(super) fn has_body(&self) -> bool {
        self.body < self.bytes.len() || self.discarded > 0
    }

    /// Bytes that are kept.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() + self.forwarded.len() + self.forwarded_for.len()
    }

    /// Returns true if the response is sent without its body.
    pub(crate) fn is_head(&self) -> bool {
        self.method == Method::Head
    }

    /// Returns the request as that with number `id`.
    pub fn view(&self, id: u32) -> Request<'_> {
        let text = |range: &Range<usize>| self.bytes.get(range.clone()).unwrap_or_default();
        Request {
            id,
            method: self.method,
            target: text(&self.target),
            host: self.host.as_ref().map(text),
            content_type: self.content_type.as_ref().map(text),
            forwarded: &self.forwarded,
            forwarded_for: &self.forwarded_for,
            body: text(&(self.body..self.bytes.len())),
            fault: self.fault,
        }
    }
}

/// Appends a line to those of the same field.
fn join(lines: &mut Vec<u8>, value: &[u8]) {
    if !lines.is_empty() {
        lines.extend_from_slice(b", ");
    }
    lines.extend_from_slice(value);
}

/// Returns true if one of the comma-separated tokens of `value` is `token`.
pub(super) fn has_token(value: &[u8], token: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::{Excess, Fault, Incoming, Method};
    use crate::http::limits::Limits;

    #[test]
    fn a_request_is_shown_as_it_was_collected() {
        let mut incoming = Incoming::default();
        for _ in 0..2 {
            incoming.clear();
            incoming.method = Method::of(b"POST");
            incoming.field(b"Content-Type", b"a/b");
            incoming.set_target(b"/x?y");
            incoming.field(b"x-forwarded-for", b"192.0.2.1");
            incoming.field(b"cookie", b"z");
            incoming.set_host(b"m:1");
            incoming.field(b"X-Forwarded-For", b"192.0.2.2, 192.0.2.3");
            incoming.field(b"forwarded", b"for=\"[::1]\"");
            assert!(incoming.data(b"bo", &Limits::DNS) && incoming.data(b"dy", &Limits::DNS));
            let request = incoming.view(7);
            assert_eq!((request.id, request.method), (7, Method::Post));
            assert_eq!((request.target, request.body), (&b"/x?y"[..], &b"body"[..]));
            assert_eq!(request.content_type, Some(&b"a/b"[..]));
            assert_eq!(request.host, Some(&b"m:1"[..]));
            assert_eq!(request.forwarded_for, b"192.0.2.1, 192.0.2.2, 192.0.2.3");
            assert_eq!(request.forwarded, b"for=\"[::1]\"");
            assert_eq!(request.fault, None);
        }
    }

    #[test]
    fn a_body_beyond_the_maximum_is_discarded_within_bounds() {
        let mut incoming = Incoming::default();
        assert!(incoming.data(&[1; 4_096], &Limits::DNS));
        assert_eq!(incoming.view(1).fault, None);
        assert!(incoming.data(&[1], &Limits::DNS));
        assert_eq!(incoming.view(1).fault, Some(Fault::Excess(Excess::Body)));
        assert!(!incoming.data(&[1; 64 << 10], &Limits::DNS));
        assert_eq!(incoming.len(), 4_096);
    }
}
