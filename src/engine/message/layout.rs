//! Positions of names in RDATA, by record type.
//!
//! Names in RDATA may be compressed in the types of RFC 1035 and are accepted compressed in a few
//! later ones (RFC 3597 §4), so RDATA that is copied to another message must be parsed here. Types
//! that are not listed hold no name, or one that is never compressed (RRSIG, NSEC).

use super::rtype;

/// A part of RDATA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Bytes that are not a name.
    Bytes(usize),
    /// A character string: a length byte and that many bytes (RFC 1035 §3.3).
    Text,
    /// A name that may be compressed when it is written.
    Name,
    /// A name that is written without compression (RFC 3597 §4).
    PlainName,
}

/// The parts of `rtype`'s RDATA up to its last name; the rest has no names. `None`: RDATA is copied
/// unchanged.
pub(crate) fn parts(rtype: u16) -> Option<&'static [Part]> {
    use Part::{Bytes, Name, PlainName, Text};
    Some(match rtype {
        rtype::NS | rtype::CNAME | rtype::PTR | rtype::MD | rtype::MF => &[Name],
        rtype::MB | rtype::MG | rtype::MR => &[Name],
        rtype::SOA | rtype::MINFO => &[Name, Name],
        rtype::MX => &[Bytes(2), Name],
        rtype::DNAME => &[PlainName],
        rtype::RP => &[PlainName, PlainName],
        rtype::AFSDB | rtype::RT | rtype::KX => &[Bytes(2), PlainName],
        rtype::PX => &[Bytes(2), PlainName, PlainName],
        rtype::SRV => &[Bytes(6), PlainName],
        rtype::NAPTR => &[Bytes(4), Text, Text, Text, PlainName],
        rtype::SVCB | rtype::HTTPS => &[Bytes(2), PlainName],
        _ => return None,
    })
}
