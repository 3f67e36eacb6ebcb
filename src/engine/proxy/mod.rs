//! Headers of the PROXY protocol, which name a proxy's client: versions 1 and 2.
//!
//! Bytes of a connection or a datagram in, the length of the header and the client's address out.
//! Version 1 is a line of text, version 2 is binary; both are defined by HAProxy. [`read`] parses
//! either and never looks behind the header; [`write()`] makes one of version 2. [`datagrams`]
//! applies a listener's policy to the datagrams of its peers. A connection's header is read by the
//! shell, which leaves the bytes behind it to TLS or DNS.

pub mod datagrams;
pub(crate) mod senders;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Maximum length of a header in bytes, with its TLVs: those of TLS and cloud networks take a few
/// hundred.
pub const HEADER_LEN_MAX: usize = 2_048;
/// Maximum length of a header that [`write()`] makes.
pub const WRITTEN_LEN_MAX: usize = FIXED_LEN + 36;

/// First bytes of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// First bytes of version 1.
const LINE: &[u8] = b"PROXY ";
/// Maximum length of a line of version 1, with its end.
const LINE_LEN_MAX: usize = 107;
/// Length of the fixed part of version 2.
const FIXED_LEN: usize = 16;

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version, 1 or 2.
    pub(crate) version: u8,
    /// Length in bytes; the payload follows.
    pub len: usize,
    /// The client's address. `None`: the proxy speaks for itself, or knows no IP address.
    pub source: Option<SocketAddr>,
}

/// Result of [`read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The bytes do not begin with a header.
    Absent,
    /// The bytes are the beginning of a header.
    Partial,
    /// A whole header.
    Header(Header),
    /// A header that cannot be read, so that the end of it is unknown.
    Invalid(Flaw),
}

/// Treatment of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The header's source is the client.
    Used,
    /// The header was removed; the peer is the client.
    Ignored,
    /// The header is invalid.
    Invalid,
    /// The policy for the peer is to refuse it.
    Rejected,
}

const OUTCOMES: usize = Outcome::Rejected as usize + 1;
/// Names of the outcomes in metrics.
pub(crate) const OUTCOME_NAMES: [&str; OUTCOMES] = ["used", "ignored", "invalid", "rejected"];

/// Numbers of headers, by [`Outcome`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderStats(pub(crate) [u64; OUTCOMES]);

impl HeaderStats {
    /// Counts a header.
    pub(crate) fn count(&mut self, outcome: Outcome) {
        self.0[outcome as usize] += 1;
    }

    /// Returns the number of headers with this outcome.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize]
    }

    /// Adds the counters of another.
    pub(crate) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(own, other)| *own += other);
    }
}

/// Reason why a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The line of version 1 is malformed.
    Line,
    /// Version 2 has another version or command in its fixed part.
    Version,
    /// Unknown address family or transport.
    Family,
    /// The length is too short for the addresses.
    Length,
    /// The header is longer than [`HEADER_LEN_MAX`].
    TooLong,
    /// The datagram ends within the header.
    Cut,
    /// A header of version 1 in a datagram.
    LineInDatagram,
    /// The policy for the peer is to refuse headers.
    Rejected,
}

impl Flaw {
    /// Returns how a header with this flaw is counted.
    pub(crate) fn outcome(self) -> Outcome {
        if self == Self::Rejected { Outcome::Rejected } else { Outcome::Invalid }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Line => "malformed header of version 1",
            Self::Version => "unknown version or command",
            Self::Family => "unknown address family or transport",
            Self::Length => "too short for its addresses",
            Self::TooLong => "header longer than 2048 bytes",
            Self::Cut => "the data end within the header",
            Self::LineInDatagram => "version 1 over UDP: only version 2 is defined for it",
            Self::Rejected => "headers of this peer are rejected by 'proxyproto'",
        })
    }
}

/// Reads the header at the beginning of `bytes`.
pub fn read(bytes: &[u8]) -> Parsed {
    if begins(bytes, SIGNATURE) {
        return if bytes.len() < FIXED_LEN { Parsed::Partial } else { read_binary(bytes) };
    }
    if begins(bytes, LINE) {
        return read_line(bytes);
    }
    Parsed::Absent
}

/// Returns true if `bytes` begin with `start`, as far as they go.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(byte, expected)| byte == expected)
}

/// Reads a header of version 2 whose fixed part is complete.
fn read_binary(bytes: &[u8]) -> Parsed {
    let (fixed, rest) = bytes.split_at(FIXED_LEN);
    let is_local = match fixed[12] {
        0x20 => true,
        0x21 => false,
        _ => return Parsed::Invalid(Flaw::Version),
    };
    let (family, transport) = (fixed[13] >> 4, fixed[13] & 15);
    // A proxy that speaks for itself may write anything there.
    if !is_local && (family > 3 || transport > 2) {
        return Parsed::Invalid(Flaw::Family);
    }
    let addresses_len = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let needed = match family {
        _ if is_local => 0,
        1 => 12,
        2 => 36,
        3 => 216,
        _ => 0,
    };
    if addresses_len < needed {
        return Parsed::Invalid(Flaw::Length);
    }
    let len = FIXED_LEN + addresses_len;
    if len > HEADER_LEN_MAX {
        return Parsed::Invalid(Flaw::TooLong);
    }
    if bytes.len() < len {
        return Parsed::Partial;
    }
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    let source = match family {
        _ if is_local => None,
        1 => rest.first_chunk::<4>().map(|ip| (Ipv4Addr::from(*ip), port(8)).into()),
        2 => rest.first_chunk::<16>().map(|ip| of_v6(Ipv6Addr::from(*ip), port(32))),
        _ => None,
    };
    Parsed::Header(Header { version: 2, len, source })
}

/// Returns an address of a dual-stack proxy; that of a client over IPv4 is one of IPv4.
fn of_v6(ip: Ipv6Addr, port: u16) -> SocketAddr {
    (ip.to_canonical(), port).into()
}

/// Reads a header of version 1.
fn read_line(bytes: &[u8]) -> Parsed {
    let within = &bytes[..bytes.len().min(LINE_LEN_MAX)];
    let Some(end) = within.iter().position(|byte| *byte == b'\n') else {
        let is_cut = bytes.len() < LINE_LEN_MAX;
        return if is_cut { Parsed::Partial } else { Parsed::Invalid(Flaw::Line) };
    };
    match line_source(&within[..end]) {
        Some(source) => Parsed::Header(Header { version: 1, len: end + 1, source }),
        None => Parsed::Invalid(Flaw::Line),
    }
}

/// Returns the address in a line of version 1 without its line feed. Outer `None`: malformed.
#[expect(clippy::option_option, reason = "a line without an address is not a malformed one")]
fn line_source(line: &[u8]) -> Option<Option<SocketAddr>> {
    let text = std::str::from_utf8(line).ok()?.strip_prefix("PROXY ")?.strip_suffix('\r')?;
    let mut words = text.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let [source, destination] = [words.next()?, words.next()?];
    let [port, other_port] = [words.next()?, words.next()?];
    if words.next().is_some() {
        return None;
    }
    let number = |text: &str| {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| is_plain)
    };
    let (port, _) = (number(port)?, number(other_port)?);
    let source = match family {
        "TCP4" => {
            destination.parse::<Ipv4Addr>().ok()?;
            (source.parse::<Ipv4Addr>().ok()?, port).into()
        }
        "TCP6" => {
            destination.parse::<Ipv6Addr>().ok()?;
            of_v6(source.parse().ok()?, port)
        }
        _ => return None,
    };
    Some(Some(source))
}

/// The path of a client's query, for a header to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The client.
    pub source: SocketAddr,
    /// Address that the client asked.
    pub destination: SocketAddr,
    /// The client asked over a connection.
    pub is_stream: bool,
}

/// Writes a header of version 2 for the client of `path`; `None`: the query is our own. Returns its
/// length, at most [`WRITTEN_LEN_MAX`].
///
/// # Panics
/// When `out` is shorter than that.
pub fn write(path: Option<&Path>, out: &mut [u8]) -> usize {
    out[..12].copy_from_slice(SIGNATURE);
    let Some(Path { source, destination, is_stream }) = path else {
        out[12..FIXED_LEN].copy_from_slice(&[0x20, 0, 0, 0]);
        return FIXED_LEN;
    };
    let transport = if *is_stream { 1 } else { 2 };
    let len = match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            out[12..FIXED_LEN].copy_from_slice(&[0x21, 0x10 | transport, 0, 12]);
            out[16..20].copy_from_slice(&source.octets());
            out[20..24].copy_from_slice(&destination.octets());
            FIXED_LEN + 12
        }
        (source, destination) => {
            let octets = |ip| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            out[12..FIXED_LEN].copy_from_slice(&[0x21, 0x20 | transport, 0, 36]);
            out[16..32].copy_from_slice(&octets(source));
            out[32..48].copy_from_slice(&octets(destination));
            FIXED_LEN + 36
        }
    };
    out[len - 4..len - 2].copy_from_slice(&source.port().to_be_bytes());
    out[len - 2..len].copy_from_slice(&destination.port().to_be_bytes());
    len
}

#[cfg(test)]
mod tests;
