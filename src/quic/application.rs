//! The protocol on the streams of a listener's connections: its queries and its error codes.
//!
//! A listener has one, which ALPN confirms in the handshake. All that QUIC does is the same for
//! both.

use super::doq;
use crate::http::{Incoming, http3};
use bytes::Bytes;

/// Streams in one direction that a client of HTTP/3 may have at a time: three that it needs
/// (RFC 9114 §6.2), and some that are refused.
const UNIDIRECTIONAL_MAX: u32 = 8;

/// Protocol on the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Application {
    /// DNS over QUIC (RFC 9250).
    Doq,
    /// HTTP/3 (RFC 9114).
    Http3,
}

/// A query, as the application has it.
#[derive(Debug)]
pub(crate) enum Query {
    /// A DNS message.
    Message(Bytes),
    /// A request of HTTP.
    Request(Incoming),
}

/// Reason for which this side ends a stream or a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// There is no error.
    Done,
    /// The client violates the protocol.
    Violation,
    /// The client does not want the reply.
    Cancelled,
    /// The server has too much to do, or the client wants too much.
    Load,
    /// The query was not read, and may be asked elsewhere.
    Unread,
    /// The rest of the query has not come in time.
    Stalled,
    /// There is no other reason.
    Other,
}

impl Application {
    /// Returns the error code for `reason`.
    pub(crate) fn code(self, reason: Reason) -> u32 {
        match (self, reason) {
            (Self::Doq, Reason::Done) => doq::code::NONE,
            (Self::Doq, Reason::Violation) => doq::code::PROTOCOL,
            (Self::Doq, Reason::Cancelled) => doq::code::CANCELLED,
            (Self::Doq, Reason::Load | Reason::Unread) => doq::code::EXCESSIVE_LOAD,
            (Self::Doq, Reason::Stalled | Reason::Other) => doq::code::UNSPECIFIED,
            (Self::Http3, Reason::Done) => http3::code::NO_ERROR,
            (Self::Http3, Reason::Violation) => http3::code::GENERAL_PROTOCOL_ERROR,
            (Self::Http3, Reason::Cancelled | Reason::Other) => http3::code::REQUEST_CANCELLED,
            (Self::Http3, Reason::Load) => http3::code::EXCESSIVE_LOAD,
            // Nothing of it was processed (RFC 9114 §4.1.1).
            (Self::Http3, Reason::Unread | Reason::Stalled) => http3::code::REQUEST_REJECTED,
        }
    }

    /// Returns the number of streams in one direction that a client may have at a time.
    pub(super) fn unidirectional_max(self) -> u32 {
        match self {
            Self::Doq => 0,
            Self::Http3 => UNIDIRECTIONAL_MAX,
        }
    }
}
