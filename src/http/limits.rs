//! Limits of a connection, and the versions of the protocol.
//!
//! Limits that operators set are fields of [`Limits`]; the others are constants.

/// Version of HTTP, as ALPN agrees on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1, and 1.0.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Version {
    /// Returns the version for a protocol name of ALPN (RFC 7301).
    pub(crate) fn of_alpn(name: &[u8]) -> Option<Self> {
        match name {
            b"h2" => Some(Self::Http2),
            b"http/1.1" => Some(Self::Http1),
            _ => None,
        }
    }
}

/// Limits of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum size of a request's fields, each with 32 bytes beside its name and value in HTTP/2
    /// (RFC 9113 §6.5.2), and of a request's head in HTTP/1.1.
    pub(crate) header_bytes_max: usize,
    /// Maximum length of a request's body.
    pub(crate) body_bytes_max: usize,
    /// Maximum number of requests that wait for their responses.
    pub(crate) outstanding_max: u32,
    /// Number of frames without use that a client of HTTP/2 may send before its connection ends.
    /// Each answered query gives some back.
    pub(crate) points_max: u32,
}

impl Limits {
    /// Limits of a connection that carries DNS.
    pub const DNS: Self = Self {
        header_bytes_max: 8 << 10,
        body_bytes_max: 4_096,
        outstanding_max: 128,
        points_max: 256,
    };
}

/// Points that an answered query gives back.
pub(super) const POINTS_BACK: u32 = 4;
/// Bytes of answers that wait for a slow reader: four of maximum length, or one of usual length for
/// each request of a connection. A connection with more is closed.
pub(crate) const KEPT_BYTES_MAX: usize = 4 * 65_537;
/// Bytes of a body beyond its maximum that are read, so that the client reads the refusal.
pub(super) const DISCARDED_BYTES_MAX: usize = 64 << 10;

/// The peer reads too slowly: more than [`KEPT_BYTES_MAX`] bytes wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;
