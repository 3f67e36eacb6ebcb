//! DNS over HTTPS (RFC 8484) on a connection of either end.
//!
//! At the client messages become calls, and replies messages: over HTTP/2, or HTTP/1.1 if the
//! server prefers that in the handshake. Calls beyond the number that the server allows at once
//! wait here. A reply that carries no DNS message, such as a status of failure, is dropped, so that
//! its query times out. At the server requests become messages, and messages replies, over the
//! version that the client speaks; a request without a query is refused with a status. HTTP is that
//! of the forwarder's room; the DNS in it is not looked at.

use crate::http::doh::{QUERY_LEN_MAX, Refusal};
use crate::http::{Client, Limits, Server, Version, doh};
use std::collections::VecDeque;
use std::sync::Arc;

/// Path of queries, which all servers have by default.
const PATH: &[u8] = b"/dns-query";
/// Maximum number of messages that wait for calls.
const WAITING_MAX: usize = 64;
/// Bytes of replies that wait for a client, beyond which no further request is taken.
const KEPT_MAX: usize = 64 * 1024;

/// HTTP on one connection.
pub(super) enum Http {
    /// This end is the client.
    Calls(Calls),
    /// This end is the server.
    Requests(Requests),
}

impl Http {
    /// Begins, once the connection is open, with the protocol that the handshake has agreed on, if
    /// any.
    pub(super) fn begin(&mut self, protocol: Option<&[u8]>, is_secure: bool) {
        match self {
            Self::Calls(calls) => calls.begin(protocol, is_secure),
            Self::Requests(requests) => requests.begin(protocol),
        }
    }

    /// Takes received bytes; returns how many. A server without room leaves some until it has
    /// replied.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> usize {
        match self {
            Self::Calls(calls) => calls.receive(bytes),
            Self::Requests(requests) => requests.receive(bytes),
        }
    }

    /// Takes the next message; returns the number of the request that a reply to it must name.
    pub(super) fn next(&mut self) -> Option<u32> {
        match self {
            Self::Calls(calls) => calls.next(),
            Self::Requests(requests) => requests.next(),
        }
    }

    /// Returns the message that was taken last.
    pub(super) fn message(&self) -> &[u8] {
        match self {
            Self::Calls(calls) => &calls.received,
            Self::Requests(requests) => &requests.query[..requests.len],
        }
    }

    /// Queues a message, or the reply to the request with this number.
    pub(super) fn push(&mut self, request: u32, message: &[u8]) {
        match self {
            Self::Calls(calls) => calls.push(message),
            Self::Requests(requests) => requests.push(request, message),
        }
    }

    /// Refuses the request with this number, whose body is no query.
    pub(super) fn refuse(&mut self, request: u32) {
        if let Self::Requests(requests) = self {
            requests.refuse(request);
        }
    }

    /// Appends bytes to send until `out` has `len_max`.
    pub(super) fn transmit(&mut self, out: &mut Vec<u8>, len_max: usize) {
        match self {
            Self::Calls(calls) => calls.transmit(out, len_max),
            Self::Requests(requests) => requests.transmit(out, len_max),
        }
    }

    /// Returns true if messages should not be queued now.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Calls(calls) => calls.waiting.len() > WAITING_MAX,
            Self::Requests(_) => false,
        }
    }

    /// Returns true if messages were left, because replies waited, and may be taken now.
    pub(super) fn may_go_on(&self) -> bool {
        match self {
            Self::Calls(_) => false,
            Self::Requests(requests) => requests.is_held && requests.kept() <= KEPT_MAX,
        }
    }

    /// Returns true if nothing more comes of the connection, once all bytes are sent.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Calls(calls) => calls.client.as_ref().is_some_and(Client::is_ending),
            Self::Requests(requests) => requests.is_over(),
        }
    }
}

/// The client's side of a connection.
pub(super) struct Calls {
    /// `None`: the handshake, which chooses the version, is not complete.
    client: Option<Client>,
    /// Name or address of the server.
    authority: Arc<str>,
    /// Maximum number of calls at once.
    calls_max: u32,
    waiting: VecDeque<Box<[u8]>>,
    /// The last message that was received.
    received: Vec<u8>,
}

impl Calls {
    /// Creates a connection to the server `authority` with at most `calls_max` calls at once.
    pub(super) fn new(authority: Arc<str>, calls_max: usize) -> Self {
        let calls_max = u32::try_from(calls_max).unwrap_or(u32::MAX);
        let (waiting, received) = (VecDeque::new(), Vec::new());
        Self { client: None, authority, calls_max, waiting, received }
    }

    /// Begins with the protocol that the handshake has agreed on; without one, with HTTP/2 by prior
    /// knowledge on a plain connection and HTTP/1.1 over TLS.
    fn begin(&mut self, protocol: Option<&[u8]>, is_secure: bool) {
        if self.client.is_none() {
            let otherwise = if is_secure { Version::Http1 } else { Version::Http2 };
            let version = protocol.and_then(Version::of_alpn).unwrap_or(otherwise);
            self.client = Some(Client::new(version, self.calls_max));
        }
    }

    fn push(&mut self, message: &[u8]) {
        self.waiting.push_back(message.into());
    }

    /// Makes calls of waiting messages, and appends bytes to send until `out` has `len_max`.
    fn transmit(&mut self, out: &mut Vec<u8>, len_max: usize) {
        let Some(client) = &mut self.client else { return };
        while let Some(message) = self.waiting.front()
            && doh::ask(client, self.authority.as_bytes(), PATH, false, message).is_some()
        {
            self.waiting.pop_front();
        }
        client.transmit(out, len_max);
    }

    fn receive(&mut self, bytes: &[u8]) -> usize {
        if let Some(client) = &mut self.client {
            client.receive(bytes);
            while client.next_failed().is_some() {}
        }
        bytes.len()
    }

    fn next(&mut self) -> Option<u32> {
        let client = self.client.as_mut()?;
        while let Some(reply) = client.next_reply() {
            if let Ok((message, _)) = doh::answer(&reply) {
                self.received.clear();
                self.received.extend_from_slice(message);
                return Some(0);
            }
        }
        None
    }
}

/// The server's side of a connection.
pub(super) struct Requests {
    /// `None`: the handshake, which chooses the version, is not complete.
    server: Option<Server>,
    /// The client does not read its replies.
    is_stuck: bool,
    /// Requests are not taken, because too many replies wait.
    is_held: bool,
    /// The query that was taken last, and its length.
    query: Box<[u8; QUERY_LEN_MAX]>,
    len: usize,
}

impl Requests {
    /// Creates a connection with a client.
    pub(super) fn new() -> Self {
        let query = Box::new([0; QUERY_LEN_MAX]);
        Self { server: None, is_stuck: false, is_held: false, query, len: 0 }
    }

    /// Begins with the protocol that the handshake has agreed on; without one, the client's first
    /// bytes decide.
    fn begin(&mut self, protocol: Option<&[u8]>) {
        let version = protocol.and_then(Version::of_alpn);
        self.server.get_or_insert_with(|| Server::new(version, Limits::DNS));
    }

    fn receive(&mut self, bytes: &[u8]) -> usize {
        self.server.as_mut().map_or(0, |server| server.receive(bytes))
    }

    fn next(&mut self) -> Option<u32> {
        let server = self.server.as_mut()?;
        // The reply to a cancelled request is dropped when it comes.
        while server.next_cancelled().is_some() {}
        loop {
            self.is_held = server.kept() > KEPT_MAX;
            if self.is_held {
                return None;
            }
            let request = server.next_request()?;
            let id = request.id;
            match doh::query(&request, &[PATH], &mut self.query[..]) {
                Ok(len) => {
                    self.len = len;
                    return Some(id);
                }
                Err(refusal) => self.is_stuck |= refusal.respond(server, id).is_err(),
            }
        }
    }

    /// No cache of HTTP may keep the reply: an upstream's replies are never alike for long.
    fn push(&mut self, request: u32, message: &[u8]) {
        if let Some(server) = &mut self.server {
            self.is_stuck |= doh::respond(server, request, message, 0, None).is_err();
        }
    }

    fn refuse(&mut self, request: u32) {
        let text = "the request carries no DNS query that could be read\n";
        if let Some(server) = &mut self.server {
            self.is_stuck |= Refusal { status: 400, text }.respond(server, request).is_err();
        }
    }

    fn transmit(&mut self, out: &mut Vec<u8>, len_max: usize) {
        if let Some(server) = &mut self.server {
            server.transmit(out, len_max);
        }
    }

    fn kept(&self) -> usize {
        self.server.as_ref().map_or(0, Server::kept)
    }

    fn is_over(&self) -> bool {
        self.is_stuck || self.server.as_ref().is_some_and(Server::is_over)
    }
}
