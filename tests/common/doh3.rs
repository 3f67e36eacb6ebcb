//! A client of DNS over HTTP/3 (RFC 8484, RFC 9114).
//!
//! One query at a time, or many by the connection itself. Replies are not checked here.

use super::http2::base64;
use super::http3::{CONTROL, GET, request, response};
use super::quic::Quic;
use quinn_proto::Dir;
use std::net::SocketAddr;

/// A connection for DNS over HTTP/3.
pub(crate) struct Doh3 {
    pub(crate) quic: Quic,
}

impl Doh3 {
    /// Connects to `server`.
    pub(crate) fn dial(server: SocketAddr, tls: rustls::ClientConfig) -> Self {
        Self::over(Quic::dial(server, tls, b"h3"))
    }

    /// Begins HTTP/3 on a connection.
    pub(crate) fn over(mut quic: Quic) -> Self {
        // A connection that is refused ends instead.
        quic.wait("a control stream is granted", |quic| {
            let control = quic.connection.streams().open(Dir::Uni);
            control
                .map(|id| _ = quic.connection.send_stream(id).write(&CONTROL))
                .or(quic.end.as_ref().map(|_| ()))
        });
        Self { quic }
    }

    /// Sends a request of these bytes and returns status and body of the response; `None`: the
    /// stream or the connection has ended without one.
    pub(crate) fn try_request(&mut self, bytes: &[u8]) -> Option<(u16, Vec<u8>)> {
        let id = self.quic.send(bytes, true);
        let received = self.quic.finished(id);
        received.is_finished.then(|| response(&received.bytes))
    }

    /// Sends a request of these bytes and returns status and body of the response.
    pub(crate) fn request(&mut self, bytes: &[u8]) -> (u16, Vec<u8>) {
        let response = self.try_request(bytes);
        response.unwrap_or_else(|| panic!("no response: {:?}", self.quic.end))
    }

    /// Sends a query by GET and returns its reply.
    pub(crate) fn ask(&mut self, query: &[u8]) -> Vec<u8> {
        let (status, reply) = self.request(&get(query));
        assert_eq!(status, 200);
        reply
    }
}

/// The request of a query by GET.
pub(crate) fn get(query: &[u8]) -> Vec<u8> {
    request(GET, &format!("/dns-query?dns={}", base64(query)), &[])
}
