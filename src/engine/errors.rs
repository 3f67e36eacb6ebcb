//! Records of queries that were answered with an error of our own, for the log.
//!
//! In a server block with `errors`, the engine writes a record of fixed size for each such query,
//! and the shell takes it at the end of the turn. Nothing is formatted here, and the queue is
//! bounded: a record that finds no room is lost, and the caller counts it. An upstream's response,
//! even SERVFAIL, is an answer and leaves no record, nor does a cached failure.

use super::key::Transport;
use super::message::Rcode;
use super::message::reply::ExtendedError;
use crate::config::Config;
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;

/// Maximum number of queued records: several batches of queries, and the time-outs of a turn.
pub(crate) const QUEUE_MAX: usize = 1_024;
/// Maximum length of a name in wire format.
const NAME_LEN_MAX: usize = 255;

/// Operation on a connection that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opening a connection.
    Dial,
    /// Waiting for a response.
    Read,
    /// Sending a query.
    Write,
}

/// Cause of a connection's failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No response in time.
    TimedOut,
    /// The peer closed the connection.
    Closed,
    /// System error with this number.
    System(i32),
    /// The TLS handshake failed.
    Tls(TlsFault),
    /// A request of HTTP has no answer.
    Http(HttpFault),
    /// A query over QUIC has no answer.
    Quic(QuicFault),
    /// The cause is unknown.
    Unknown,
}

impl From<HttpFault> for Fault {
    fn from(fault: HttpFault) -> Self {
        Self::Http(fault)
    }
}

impl From<QuicFault> for Fault {
    fn from(fault: QuicFault) -> Self {
        Self::Quic(fault)
    }
}

/// Reason why an HTTP request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpFault {
    /// The server has not processed the request.
    Unprocessed,
    /// The connection ended before the request was sent.
    Unsent,
    /// The server has reset the request.
    Reset,
    /// The reply is malformed or too long.
    Malformed,
    /// The status code, which is not of success.
    Status(u16),
    /// The body is not a DNS message.
    NoMessage,
    /// The status of gRPC, which is not one of success.
    GrpcStatus(u32),
    /// The DNS message does not answer the query.
    Mismatch,
}

impl fmt::Display for HttpFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsent => f.write_str("http: the connection ended before the request was sent"),
            Self::Unprocessed => f.write_str("http: the server has not processed the request"),
            Self::Reset => f.write_str("http: the server has reset the request"),
            Self::Malformed => f.write_str("http: malformed or too long reply"),
            Self::Status(status) => write!(f, "http: status {status}"),
            Self::NoMessage => f.write_str("http: the reply is not a DNS message"),
            Self::GrpcStatus(status) => write!(f, "grpc: status {status}"),
            Self::Mismatch => f.write_str("http: the DNS message does not answer the query"),
        }
    }
}

/// Reason why a query over QUIC has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuicFault {
    /// The server has too much to do, and has not processed the query.
    Refused,
    /// The connection ended before the query was sent.
    Unsent,
    /// The server has reset the stream.
    Reset,
    /// Too many bytes of incomplete replies are there.
    TooLong,
    /// The DNS message does not answer the query.
    Mismatch,
    /// The server has violated the protocol, or says that we have.
    Violation,
}

impl fmt::Display for QuicFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "quic: the server has too much to do (DOQ_EXCESSIVE_LOAD)",
            Self::Unsent => "quic: the connection ended before the query was sent",
            Self::Reset => "quic: the server has reset the stream",
            Self::TooLong => "quic: too many bytes of incomplete replies",
            Self::Mismatch => "quic: the DNS message does not answer the query",
            Self::Violation => "quic: protocol error",
        })
    }
}

/// Cause of a TLS failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
#[repr(usize)]
pub enum TlsFault {
    /// The peer's certificate is for another name.
    WrongName,
    /// The issuer of the certificate is not trusted.
    UnknownIssuer,
    /// The certificate has expired.
    Expired,
    /// The certificate is not yet valid.
    NotYetValid,
    /// The key does not match any pin.
    WrongKey,
    /// There is no certificate, or it cannot be verified for another reason.
    Certificate,
    /// The peer does not speak TLS.
    NotTls,
    /// No version, cipher or ALPN in common.
    Incompatible,
    /// The peer refused the handshake, perhaps because it requires a client certificate.
    Refused,
    /// The peer violated the TLS protocol.
    Broken,
    /// The connection could not be opened, or closed, failed or timed out during the handshake.
    Unfinished,
}

impl TlsFault {
    /// Returns true if the fault is in the peer's identity, so that the next handshake will fail as
    /// well, at the cost of all its signatures.
    pub(crate) fn is_of_identity(self) -> bool {
        self <= Self::Certificate
    }
}

pub(crate) const TLS_FAULTS: usize = TlsFault::Unfinished as usize + 1;
/// Names of the TLS faults in metrics.
pub(crate) const TLS_FAULT_NAMES: [&str; TLS_FAULTS] = [
    "wrong_name",
    "unknown_issuer",
    "expired",
    "not_yet_valid",
    "wrong_key",
    "bad_certificate",
    "not_tls",
    "incompatible",
    "refused",
    "protocol_error",
    "unfinished",
];

impl TlsFault {
    /// Returns the fault in words for an operator.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::WrongName => {
                "tls: failed to verify certificate: the certificate is valid for another name \
                 (expected: tls_servername, else the upstream's host name or address)"
            }
            Self::UnknownIssuer => "tls: failed to verify certificate: signed by unknown authority",
            Self::Expired => "tls: failed to verify certificate: the certificate has expired",
            Self::NotYetValid => {
                "tls: failed to verify certificate: the certificate is not valid yet"
            }
            Self::WrongKey => "tls: failed to verify certificate: no tls_pin matches the key",
            Self::Certificate => "tls: failed to verify certificate",
            Self::NotTls => "tls: the peer does not speak TLS",
            Self::Incompatible => "tls: no protocol version, cipher or ALPN in common",
            Self::Refused => "tls: the peer refused the handshake",
            Self::Broken => "tls: the peer violated the protocol",
            Self::Unfinished => "tls: the handshake was not finished",
        }
    }
}

/// Reason why a query got an error of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The last attempt failed.
    Attempt(Operation, Fault),
    /// The upstream had no connection left for the query.
    NoConnection,
    /// All upstreams are down, and `failfast` is set.
    NoHealthyUpstream,
    /// No stanza forwards the name.
    NobodyForwards,
    /// `max_concurrent` of this stanza, as numbered over all server blocks, is reached.
    TooManyConcurrent(u32),
    /// The maximum of outstanding queries is reached.
    Overloaded,
    /// The server block has a forwarding loop.
    Looping,
    /// A rule of `rewrite` made an invalid name.
    NotRewritten,
    /// The options made by rules of `rewrite edns0` do not fit in a query.
    OptionsTooLong,
}

impl Reason {
    /// Returns the extended error for the client.
    pub(crate) fn extended(self) -> Option<ExtendedError> {
        match self {
            Self::Attempt(Operation::Read, Fault::TimedOut)
            | Self::NoHealthyUpstream
            | Self::NobodyForwards => Some(ExtendedError::NoReachableAuthority),
            Self::Attempt(..) | Self::NoConnection | Self::Overloaded | Self::Looping => {
                Some(ExtendedError::NetworkError)
            }
            Self::TooManyConcurrent(_) | Self::NotRewritten | Self::OptionsTooLong => None,
        }
    }
}

/// A query that got an error of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryError {
    /// Number of the server block in the configuration.
    pub block: u32,
    /// Response code that the client got.
    pub rcode: Rcode,
    /// Reason of the error.
    pub reason: Reason,
    /// Last upstream and its transport, if they explain the error.
    pub upstream: Option<(SocketAddr, Transport)>,
    /// QTYPE.
    pub rtype: u16,
    name_len: u8,
    name: [u8; NAME_LEN_MAX],
}

impl QueryError {
    /// The error of a query for `name`, in wire format.
    pub(crate) fn new(
        block: usize,
        name: &[u8],
        rtype: u16,
        (rcode, reason): (Rcode, Reason),
        upstream: Option<(SocketAddr, Transport)>,
    ) -> Self {
        let mut bytes = [0; NAME_LEN_MAX];
        bytes[..name.len()].copy_from_slice(name);
        let (block, name_len) = (block as u32, name.len() as u8);
        Self { block, rcode, reason, upstream, rtype, name_len, name: bytes }
    }

    /// QNAME in wire format, as its client spelt it.
    pub fn name(&self) -> &[u8] {
        &self.name[..usize::from(self.name_len)]
    }
}

/// Queued records of one worker.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    /// True for each server block whose errors are logged.
    wanted: Vec<bool>,
    queue: VecDeque<QueryError>,
}

impl Errors {
    /// The queue for `config`. Room for records is reserved if a block logs errors.
    pub(crate) fn new(config: &Config) -> Self {
        let wanted: Vec<_> =
            config.blocks.iter().map(|block| block.stages.errors.is_some()).collect();
        let room = if wanted.contains(&true) { QUEUE_MAX } else { 0 };
        Self { wanted, queue: VecDeque::with_capacity(room) }
    }

    /// Adopts the settings of `new`, which has no records and is left with the old ones.
    pub(crate) fn reload(&mut self, new: &mut Self) {
        std::mem::swap(&mut self.wanted, &mut new.wanted);
        if self.queue.capacity() < new.queue.capacity() {
            new.queue.extend(self.queue.drain(..));
            std::mem::swap(&mut self.queue, &mut new.queue);
        }
    }

    /// Returns true if errors of this server block are logged.
    pub(crate) fn wants(&self, block: usize) -> bool {
        self.wanted.get(block).is_some_and(|wanted| *wanted)
    }

    /// Queues a record. Returns false if there is no room, so that it is lost.
    pub(crate) fn push(&mut self, error: QueryError) -> bool {
        let has_room = self.queue.len() < QUEUE_MAX;
        if has_room {
            self.queue.push_back(error);
        }
        has_room
    }

    /// Returns the next record.
    pub(crate) fn pop(&mut self) -> Option<QueryError> {
        self.queue.pop_front()
    }

    /// Returns the reserved memory in bytes.
    pub(crate) fn reserved(&self) -> usize {
        self.wanted.capacity() + self.queue.capacity() * size_of::<QueryError>()
    }
}

#[cfg(test)]
mod tests {
    use super::{Errors, QUEUE_MAX, QueryError, Reason};
    use crate::engine::message::Rcode;

    #[test]
    fn records_keep_their_order_and_are_lost_without_room() {
        let mut errors = Errors::default();
        let outcome = (Rcode::ServFail, Reason::Overloaded);
        let error = |rtype: usize| QueryError::new(0, b"\x01a\0", rtype as u16, outcome, None);
        assert!((0..QUEUE_MAX).all(|rtype| errors.push(error(rtype))));
        assert!(!errors.push(error(QUEUE_MAX)));
        assert_eq!(errors.pop(), Some(error(0)));
        assert!(errors.push(error(QUEUE_MAX + 1)));
        let rest: Vec<_> = std::iter::from_fn(|| errors.pop()).map(|error| error.rtype).collect();
        let expected = (1..QUEUE_MAX).chain([QUEUE_MAX + 1]).map(|rtype| rtype as u16);
        assert_eq!(rest, expected.collect::<Vec<_>>());
    }
}
