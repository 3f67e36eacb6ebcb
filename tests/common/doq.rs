//! A client of DNS over QUIC (RFC 9250).
//!
//! One query at a time, or many by the connection itself. Replies are not checked here, save that
//! their length is right.

use super::quic::Quic;
use std::net::SocketAddr;

/// A connection for DNS over QUIC.
pub(crate) struct Doq(pub(crate) Quic);

impl Doq {
    /// Connects to `server`.
    pub(crate) fn dial(server: SocketAddr, tls: rustls::ClientConfig) -> Self {
        Self(Quic::dial(server, tls, b"doq"))
    }

    /// Sends a query and returns its reply; `None`: the stream or the connection has ended
    /// without one.
    pub(crate) fn try_ask(&mut self, query: &[u8]) -> Option<Vec<u8>> {
        let id = self.0.send(&framed(query), true);
        let received = self.0.finished(id);
        let (prefix, reply) = received.bytes.split_first_chunk::<2>()?;
        assert_eq!(usize::from(u16::from_be_bytes(*prefix)), reply.len());
        received.is_finished.then(|| reply.to_vec())
    }

    /// Sends a query and returns its reply.
    pub(crate) fn ask(&mut self, query: &[u8]) -> Vec<u8> {
        let reply = self.try_ask(query);
        reply.unwrap_or_else(|| panic!("no reply: {:?}", self.0.end))
    }
}

/// Returns a message behind its length.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}
