//! Responses that are wrong on purpose.
//!
//! Each function takes a right response in its buffer and spoils it in one way that a resolver must
//! tolerate. Pure; randomness is an argument.

use crate::traffic::wire::{HEADER_LEN, Question, Record, TC, TYPE_OPT};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// Maximum size of a datagram without EDNS (RFC 1035 §4.2.1).
const DATAGRAM_LEN: usize = 512;
/// Maximum length of random garbage.
const GARBAGE_LEN_MAX: usize = 64;

/// Cuts everything after the question, and sets TC; returns the new length.
pub(super) fn truncate(response: &mut [u8]) -> usize {
    let end = Question::parse(response).map_or(HEADER_LEN, |question| question.end());
    response[2] |= TC;
    // No answer, no authority, no additional records: not even OPT.
    response[6..HEADER_LEN].fill(0);
    end
}

/// Truncates a response of `length` bytes that is longer than the UDP size of `query` (512 bytes,
/// or the size in its OPT record); returns the new length.
pub(super) fn fit(query: &[u8], response: &mut [u8], length: usize) -> usize {
    if length <= DATAGRAM_LEN || length <= offered(query).unwrap_or(DATAGRAM_LEN) {
        return length;
    }
    truncate(&mut response[..length])
}

/// Returns the UDP size in the OPT record of `query`, which is its only record.
fn offered(query: &[u8]) -> Option<usize> {
    let (record, _) = Record::parse(query, Question::parse(query)?.end())?;
    (record.rtype == TYPE_OPT).then_some(usize::from(record.class).max(DATAGRAM_LEN))
}

/// Replaces the ID by another one.
pub(super) fn change_id(response: &mut [u8], random: &mut ChaCha8Rng) {
    let id = u16::from_be_bytes([response[0], response[1]]);
    let other = id.wrapping_add(random.next_u32() as u16 | 1);
    response[..2].copy_from_slice(&other.to_be_bytes());
}

/// Changes the question: the first letter of the name, or else the type.
pub(super) fn change_question(response: &mut [u8]) {
    match response[HEADER_LEN] {
        0 => response[HEADER_LEN + 2] ^= 1,
        _ => {
            let letter = &mut response[HEADER_LEN + 1];
            *letter = if letter.eq_ignore_ascii_case(&b'x') { b'y' } else { b'x' };
        }
    }
}

/// Replaces the response by random bytes; returns their number.
pub(super) fn garble(buffer: &mut [u8], random: &mut ChaCha8Rng) -> usize {
    let length = 1 + random.next_u32() as usize % GARBAGE_LEN_MAX.min(buffer.len());
    random.fill_bytes(&mut buffer[..length]);
    length
}

#[cfg(test)]
mod tests {
    use super::{change_id, change_question, fit, garble, truncate};
    use crate::traffic::answer::{Behaviour, is_right, respond};
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    const QUERY: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01\x01x\x04test\0\0\x01\0\x01\
        \0\0\x29\x04\xd0\0\0\0\0\0\0";

    fn response(query: &[u8]) -> Vec<u8> {
        let mut buffer = [0; 512];
        let length = respond(query, Behaviour::Answer, &mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    #[test]
    fn a_response_that_is_too_long_for_its_datagram_is_cut() {
        let mut long = response(QUERY);
        long.resize(1_300, 0);
        assert_eq!((fit(QUERY, &mut long, 1_232), long[2] & 2), (1_232, 0));
        assert_eq!((fit(QUERY, &mut long, 1_233), long[2] & 2), (24, 2));
        let plain = &QUERY[..24];
        let mut long = response(QUERY);
        long.resize(1_300, 0);
        assert_eq!((fit(plain, &mut long, 512), fit(plain, &mut long, 513)), (512, 24));
    }

    #[test]
    fn each_forgery_has_its_own_fault() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut cut = response(QUERY);
        let length = truncate(&mut cut);
        assert_eq!((length, cut[2] & 2, &cut[4..12]), (24, 2, &[0, 1, 0, 0, 0, 0, 0, 0][..]));
        for _ in 0..1_000 {
            let mut other = response(QUERY);
            change_id(&mut other, &mut random);
            assert_ne!(other[..2], QUERY[..2]);
            assert_eq!(other[2..], response(QUERY)[2..]);
        }
        let mut asked = response(QUERY);
        change_question(&mut asked);
        assert!(!is_right(QUERY, &asked) && asked[13] == b'y');
        let root = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\0\0\x02\0\x01";
        let mut asked = response(root);
        change_question(&mut asked);
        assert_eq!(asked[12..15], [0, 0, 3]);
        let mut buffer = [0; 100];
        let lengths: Vec<_> = (0..1_000).map(|_| garble(&mut buffer, &mut random)).collect();
        assert_eq!((lengths.iter().min(), lengths.iter().max()), (Some(&1), Some(&64)));
    }
}
