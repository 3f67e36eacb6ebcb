//! Random case of the letters in the name of an exchange's query (draft-vixie-dnsext-dns0x20).
//!
//! Each attempt over UDP may be spelt anew, and its response must repeat the spelling. Names are
//! equal regardless of case, so neither coalescing nor the cache sees it; clients get their own
//! spelling, which their waiters keep.

use super::Exchanges;
use crate::engine::message::HEADER_LEN;

impl Exchanges {
    /// Returns true if the response to the current attempt of the exchange in `slot` must repeat
    /// the case of letters.
    #[inline(always)]
    pub(crate) fn is_spelt(&self, slot: u32) -> bool {
        self.slots[slot as usize].is_spelt
    }

    /// Gives each letter in the name of the query in `slot` the case of a bit of `bits`; 1 is lower
    /// case.
    pub(crate) fn spell_at_random(&mut self, slot: u32, bits: [u64; 4]) {
        let name = HEADER_LEN..HEADER_LEN + self.name_len(slot);
        for (place, byte) in self.queries[slot as usize][name].iter_mut().enumerate() {
            // The lengths of labels are below any letter.
            if byte.is_ascii_alphabetic() {
                let is_lower = bits[place / 64] >> (place % 64) & 1;
                *byte = byte.to_ascii_uppercase() | (is_lower as u8) << 5;
            }
        }
    }

    /// Returns true if `packet`, which answers the query in `slot`, has a question with the name as
    /// it was sent.
    pub(crate) fn is_spelt_as_sent(&self, slot: u32, packet: &[u8]) -> bool {
        let name = HEADER_LEN..HEADER_LEN + self.name_len(slot);
        packet.get(name).is_some_and(|spelt| spelt == self.name(slot))
    }
}
