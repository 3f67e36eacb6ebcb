//! A client's connection, in the version that the client speaks.
//!
//! Over TLS, ALPN has agreed on a version. On a plain connection the first bytes decide: HTTP/2
//! with prior knowledge begins with a preface that no request of HTTP/1.1 has (RFC 9113 §3.4).

use super::http1::Http1;
use super::http2::Http2;
use super::limits::{Full, Limits, Version};
use super::request::Request;
use super::response::Response;

/// First bytes of a client of HTTP/2.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A client's connection.
///
/// The owner passes received bytes to [`Server::receive`], takes requests with
/// [`Server::next_request`] and cancellations with [`Server::next_cancelled`], answers each request
/// with [`Server::respond`], and moves bytes to send to its socket with [`Server::transmit`].
/// Errors of the client become bytes to send, and then the end ([`Server::is_over`]).
pub struct Server {
    connection: Connection,
    limits: Limits,
}

enum Connection {
    /// The client has sent this many bytes of the preface.
    Undecided(usize),
    Http1(Box<Http1>),
    Http2(Box<Http2>),
}

impl Server {
    /// Creates a connection. Without a `version` the client's first bytes decide.
    pub fn new(version: Option<Version>, limits: Limits) -> Self {
        let connection = match version {
            None => Connection::Undecided(0),
            Some(Version::Http1) => Connection::Http1(Box::new(Http1::new(limits))),
            Some(Version::Http2) => Connection::Http2(Box::new(Http2::new(limits))),
        };
        Self { connection, limits }
    }

    /// Maximum memory of a connection.
    pub fn bytes_max(limits: &Limits) -> usize {
        size_of::<Self>() + Http1::bytes_max(limits).max(Http2::bytes_max(limits))
    }

    /// Returns the version, if it is known.
    pub fn version(&self) -> Option<Version> {
        match &self.connection {
            Connection::Undecided(_) => None,
            Connection::Http1(_) => Some(Version::Http1),
            Connection::Http2(_) => Some(Version::Http2),
        }
    }

    /// Takes received bytes. Returns how many were taken: fewer than all only if HTTP/1.1 has no
    /// room. Then requests must be taken until there are none, and the rest be passed again; if
    /// nothing is taken even so, reading pauses until a request has been answered.
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        match &mut self.connection {
            Connection::Http1(connection) => connection.receive(bytes),
            Connection::Http2(connection) => {
                connection.receive(bytes);
                bytes.len()
            }
            Connection::Undecided(seen) => {
                let (seen, expected) = (*seen, PREFACE.get(*seen..).unwrap_or_default());
                let same = expected.iter().zip(bytes).take_while(|(a, b)| a == b).count();
                if same < expected.len() && same == bytes.len() {
                    self.connection = Connection::Undecided(seen + same);
                    return same;
                }
                let is_http2 = same == expected.len();
                let version = if is_http2 { Version::Http2 } else { Version::Http1 };
                *self = Self::new(Some(version), self.limits);
                // What was seen is the beginning of the preface.
                self.receive(PREFACE.get(..seen).unwrap_or_default());
                self.receive(bytes)
            }
        }
    }

    /// Returns the next request that is complete. `None`: there is none, or as many as allowed wait
    /// for their responses.
    pub fn next_request(&mut self) -> Option<Request<'_>> {
        match &mut self.connection {
            Connection::Undecided(_) => None,
            Connection::Http1(connection) => connection.next_request(),
            Connection::Http2(connection) => connection.next_request(),
        }
    }

    /// Returns the number of a request that was taken and that the client has cancelled.
    pub fn next_cancelled(&mut self) -> Option<u32> {
        match &mut self.connection {
            Connection::Http2(connection) => connection.next_cancelled(),
            Connection::Undecided(_) | Connection::Http1(_) => None,
        }
    }

    /// Takes the response to a request. The response to a request that was cancelled is ignored.
    ///
    /// # Errors
    /// The client reads too slowly; the connection should be closed.
    pub(crate) fn respond(&mut self, id: u32, response: &Response<'_>) -> Result<(), Full> {
        match &mut self.connection {
            Connection::Undecided(_) => Ok(()),
            Connection::Http1(connection) => connection.respond(id, response),
            Connection::Http2(connection) => connection.respond(id, response),
        }
    }

    /// Appends bytes to send, until `out` has `len_max`; a frame of HTTP/2, of at most 16 KB, is
    /// not cut there.
    pub fn transmit(&mut self, out: &mut Vec<u8>, len_max: usize) {
        match &mut self.connection {
            Connection::Undecided(_) => {}
            Connection::Http1(connection) => connection.transmit(out, len_max),
            Connection::Http2(connection) => connection.transmit(out, len_max),
        }
    }

    /// Begins the end: requests that have begun are completed, later ones refused. The client of
    /// HTTP/2 is warned first.
    pub fn shut_down(&mut self) {
        match &mut self.connection {
            Connection::Undecided(_) => {
                *self = Self::new(Some(Version::Http1), self.limits);
                self.shut_down();
            }
            Connection::Http1(connection) => connection.shut_down(),
            Connection::Http2(connection) => connection.shut_down(),
        }
    }

    /// Refuses requests that were not read, because the connection is not read from now on: the
    /// client learns which they are. Those that were read are completed.
    pub(crate) fn stop(&mut self) {
        match &mut self.connection {
            Connection::Http2(connection) => connection.stop(),
            _ => self.shut_down(),
        }
    }

    /// Returns true if nothing is left to do, in either direction. The connection is closed when
    /// all bytes are sent.
    pub fn is_over(&self) -> bool {
        match &self.connection {
            Connection::Undecided(_) => false,
            Connection::Http1(connection) => connection.is_over(),
            Connection::Http2(connection) => connection.is_over(),
        }
    }

    /// Returns true if as many requests as allowed wait for their responses, or those for the ones
    /// before them.
    pub(crate) fn is_full(&self) -> bool {
        match &self.connection {
            Connection::Http1(connection) => connection.is_full(),
            Connection::Undecided(_) | Connection::Http2(_) => false,
        }
    }

    /// Number of requests that were taken and neither answered nor cancelled.
    pub fn outstanding(&self) -> usize {
        match &self.connection {
            Connection::Undecided(_) => 0,
            Connection::Http1(connection) => connection.outstanding(),
            Connection::Http2(connection) => connection.outstanding(),
        }
    }

    /// Bytes of responses that are not sent.
    pub(crate) fn kept(&self) -> usize {
        match &self.connection {
            Connection::Undecided(_) => 0,
            Connection::Http1(connection) => connection.kept(),
            Connection::Http2(connection) => connection.kept(),
        }
    }

    /// Capacity of the buffer of responses of HTTP/1.1.
    #[cfg(test)]
    pub(super) fn bytes_held(&self) -> usize {
        match &self.connection {
            Connection::Http1(connection) => connection.bytes_held(),
            Connection::Undecided(_) | Connection::Http2(_) => 0,
        }
    }

    /// Returns true if a request has begun and is not complete.
    pub fn is_within_request(&self) -> bool {
        match &self.connection {
            Connection::Undecided(seen) => *seen > 0,
            Connection::Http1(connection) => connection.is_within_request(),
            Connection::Http2(connection) => connection.is_within_request(),
        }
    }

    /// Returns true if bytes wait to be sent, or for the client's flow control, or for the
    /// responses before them.
    pub(crate) fn is_answering(&self) -> bool {
        match &self.connection {
            Connection::Undecided(_) => false,
            Connection::Http1(connection) => connection.is_answering(),
            Connection::Http2(connection) => connection.is_answering(),
        }
    }

    /// Bytes that the library of HTTP/2 holds, and the maximum so far.
    pub fn memory(&self) -> (usize, usize) {
        match &self.connection {
            Connection::Http2(connection) => connection.memory(),
            Connection::Undecided(_) | Connection::Http1(_) => (0, 0),
        }
    }
}
