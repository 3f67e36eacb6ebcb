//! DNS over HTTPS (RFC 8484) on a client's connection: messages become calls, replies messages.
//!
//! HTTP/2, or HTTP/1.1 if the server prefers that in the handshake. Calls beyond the number that
//! the server allows at once wait here. A reply that carries no DNS message, such as a status of
//! failure, is dropped, so that its query times out. HTTP is that of the forwarder's room; the DNS
//! in it is not looked at.

use crate::http::{Client, Version, doh};
use std::collections::VecDeque;
use std::sync::Arc;

/// Path of queries, which all servers have by default.
const PATH: &[u8] = b"/dns-query";
/// Maximum number of messages that wait for calls.
const WAITING_MAX: usize = 64;

/// HTTP on one connection.
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
    pub(super) fn begin(&mut self, protocol: Option<&[u8]>, is_secure: bool) {
        if self.client.is_none() {
            let otherwise = if is_secure { Version::Http1 } else { Version::Http2 };
            let version = protocol.and_then(Version::of_alpn).unwrap_or(otherwise);
            self.client = Some(Client::new(version, self.calls_max));
        }
    }

    /// Queues a message.
    pub(super) fn push(&mut self, message: &[u8]) {
        self.waiting.push_back(message.into());
    }

    /// Returns true if messages should not be queued now.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() > WAITING_MAX
    }

    /// Makes calls of waiting messages, and appends bytes to send until `out` has `len_max`.
    pub(super) fn transmit(&mut self, out: &mut Vec<u8>, len_max: usize) {
        let Some(client) = &mut self.client else { return };
        while let Some(message) = self.waiting.front()
            && doh::ask(client, self.authority.as_bytes(), PATH, false, message).is_some()
        {
            self.waiting.pop_front();
        }
        client.transmit(out, len_max);
    }

    /// Takes received bytes. Returns false if no further call can be made.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> bool {
        let Some(client) = &mut self.client else { return true };
        client.receive(bytes);
        while client.next_failed().is_some() {}
        !client.is_ending()
    }

    /// Returns the next message.
    pub(super) fn message(&mut self) -> Option<&[u8]> {
        let client = self.client.as_mut()?;
        while let Some(reply) = client.next_reply() {
            if let Ok((message, _)) = doh::answer(&reply) {
                self.received.clear();
                self.received.extend_from_slice(message);
                return Some(&self.received);
            }
        }
        None
    }
}
