//! Positions of names in RDATA, by record type.
//!
//! Names in RDATA may be compressed in the types of RFC 1035 and are accepted compressed in a few
//! younger ones (RFC 3597 §4), so RDATA that is copied to another message must be taken apart
//! here. Types that are not listed hold no name, or one that is never compressed and is nobody's
//! business but the type's (RRSIG, NSEC).

use super::kind;

/// A part of RDATA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Bytes that are not a name.
    Bytes(usize),
    /// A character string: a length byte and as many bytes (RFC 1035 §3.3).
    Text,
    /// A name that may be compressed when it is written.
    Name,
    /// A name that is written without compression (RFC 3597 §4).
    PlainName,
}

/// The parts of `rtype`'s RDATA up to its last name; whatever follows is no name. `None`: RDATA
/// is copied as it is.
pub fn parts(rtype: u16) -> Option<&'static [Part]> {
    use Part::{Bytes, Name, PlainName, Text};
    Some(match rtype {
        kind::NS | kind::CNAME | kind::PTR | kind::MD | kind::MF => &[Name],
        kind::MB | kind::MG | kind::MR => &[Name],
        kind::SOA | kind::MINFO => &[Name, Name],
        kind::MX => &[Bytes(2), Name],
        kind::DNAME => &[PlainName],
        kind::RP => &[PlainName, PlainName],
        kind::AFSDB | kind::RT | kind::KX => &[Bytes(2), PlainName],
        kind::PX => &[Bytes(2), PlainName, PlainName],
        kind::SRV => &[Bytes(6), PlainName],
        kind::NAPTR => &[Bytes(4), Text, Text, Text, PlainName],
        kind::SVCB | kind::HTTPS => &[Bytes(2), PlainName],
        _ => return None,
    })
}
