//! Response codes, of four bits in the header and of twelve with EDNS, and their counters.
//!
//! The extended codes that servers send have one counter each; all other extended codes share one.

/// Response codes (RFC 6895 §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Rcode {
    /// No error.
    NoError = 0,
    /// The query could not be understood.
    FormErr = 1,
    /// No answer could be obtained.
    ServFail = 2,
    /// The name does not exist.
    NxDomain = 3,
    /// Unsupported opcode.
    NotImp = 4,
    /// Refused by policy.
    Refused = 5,
    /// A name that should not exist does: one that became too long (RFC 6672 §2.2).
    YxDomain = 6,
    /// The server has no authority for the zone, or the signature is wrong (RFC 8945 §5.2).
    NotAuth = 9,
    /// The EDNS version is not supported (RFC 6891 §9).
    BadVers = 16,
    /// The server cookie is wrong (RFC 7873 §8).
    BadCookie = 23,
}

/// Number of counters: the sixteen codes of a header, the extended ones and all others, in this
/// order.
pub(crate) const RCODES: usize = 16 + EXTENDED.len() + 1;
/// Codes of more than four bits (RFC 6891 §6.1.3) with a counter each.
const EXTENDED: [u16; 2] = [Rcode::BadVers as u16, Rcode::BadCookie as u16];

/// Index of the counter of a code of 12 bits.
#[inline]
pub(crate) fn place_of_rcode(rcode: u16) -> usize {
    if rcode < 16 {
        return rcode.into();
    }
    let extended = EXTENDED.iter().position(|known| *known == rcode);
    16 + extended.unwrap_or(EXTENDED.len())
}

/// Response code of this counter; `None`: the counter of all others.
pub(crate) fn rcode_at(place: usize) -> Option<u16> {
    if place < 16 { Some(place as u16) } else { EXTENDED.get(place - 16).copied() }
}

#[cfg(test)]
mod tests {
    use super::{RCODES, place_of_rcode, rcode_at};

    #[test]
    fn each_code_has_a_counter() {
        for rcode in 0..0x1000 {
            let place = place_of_rcode(rcode);
            assert!(place < RCODES && rcode_at(place).is_none_or(|known| known == rcode));
        }
        assert_eq!([16, 23, 17, 4_095].map(place_of_rcode), [16, 17, 18, 18]);
    }
}
