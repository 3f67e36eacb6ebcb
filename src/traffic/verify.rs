//! Verification of responses.
//!
//! For names whose answer is known beforehand, because `loadgen upstream` is at the other end: it
//! derives the address from the name ([`crate::traffic::answer`]), and has no records of other
//! types. ID, question and QR have been checked before. Pure.

use crate::traffic::answer::{RCODE_NOERROR, address, is_right};
use crate::traffic::wire::{Question, RCODE, TC, u16_at};
use crate::traffic::zone::Zones;
use std::sync::Arc;

/// Reference of the verification.
#[derive(Clone, Debug, Default)]
pub enum Verify {
    /// No verification.
    #[default]
    No,
    /// Records that `loadgen upstream` derives from the name.
    Derived,
    /// Records of its zones, and derived records for other names.
    Zones(Arc<Zones>),
}

impl Verify {
    /// Returns true if `response` may be the answer to `query`.
    pub(crate) fn accepts(&self, query: &[u8], response: &[u8]) -> bool {
        match self {
            Self::No => true,
            Self::Derived => is_derived(query, response),
            Self::Zones(zones) => {
                zones.agrees(query, response).unwrap_or_else(|| is_derived(query, response))
            }
        }
    }
}

/// Returns true if `response` is the one derived from the question of `query`: the one address for
/// an address type, no record for any other type.
fn is_derived(query: &[u8], response: &[u8]) -> bool {
    let Some(question) = Question::parse(query) else { return false };
    if address(question.name(), question.rtype()).is_some() {
        return is_right(query, response);
    }
    let whole = response[2] & TC == 0 && response[3] & RCODE == RCODE_NOERROR;
    whole && u16_at(response, 6) == Some(0)
}

#[cfg(test)]
mod tests {
    use super::Verify;
    use crate::traffic::answer::{Behaviour, respond};

    /// A query for a.test. with this type.
    fn query(rtype: u8) -> Vec<u8> {
        let mut query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\0\0\x01".to_vec();
        query[21] = rtype;
        query
    }

    fn response(query: &[u8], behaviour: Behaviour) -> Vec<u8> {
        let mut buffer = [0; 512];
        let length = respond(query, behaviour, &mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    #[test]
    fn addresses_and_their_absence_are_verified() {
        for rtype in [1, 28, 16] {
            let query = query(rtype);
            let right = response(&query, Behaviour::Answer);
            assert!(Verify::Derived.accepts(&query, &right), "type {rtype}");
            let refused = response(&query, Behaviour::Refuse(2));
            assert!(!Verify::Derived.accepts(&query, &refused));
            assert!(Verify::No.accepts(&query, &refused));
        }
        let lie = response(&query(1), Behaviour::Lie);
        assert!(!Verify::Derived.accepts(&query(1), &lie));
        let mut data = response(&query(16), Behaviour::Answer);
        data[7] = 1;
        assert!(!Verify::Derived.accepts(&query(16), &data), "a record of a type that has none");
    }
}
