//! Questions that nobody asked before.
//!
//! A [`QueryMaker`] writes queries for `q<counter>.<label>.demo.example.`, the counter in base32
//! and the label drawn from the seed, so that no cache in between has ever seen the name. Ids and
//! letter case are random (a resolver must echo both), three queries in four ask for A and the
//! fourth for AAAA, all with RD and an OPT record. The same seed makes the same queries. Pure.

use super::wire::{CLASS_IN, Edns, HEADER_LEN, RD, TYPE_A, TYPE_AAAA, Writer};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Room for any query: header, the longest name (`q` and 13 digits, the label, the suffix), type
/// and class, and OPT take 65 bytes.
pub const QUERY_LEN_MAX: usize = 72;

/// RFC 4648 §6 in small letters: five bits a digit, and no digit needs escaping in a name.
const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Enough for any `u64`.
const DIGITS_MAX: usize = 13;
/// Two runs have different labels but once in 2⁴⁰.
const LABEL_LEN: usize = 8;
/// Suffix of all names, as labels with their lengths.
const SUFFIX: &[u8] = b"\x04demo\x07example\0";

/// Makes queries, each for a new name.
pub struct QueryMaker {
    random: ChaCha8Rng,
    label: [u8; LABEL_LEN],
    made: u64,
}

impl QueryMaker {
    /// A maker whose queries are those of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut label = [0; LABEL_LEN];
        base32(random.next_u64(), &mut label);
        Self { random, label, made: 0 }
    }

    /// Writes the next query into `buffer` and returns its length. Its id is random, save the
    /// bits set in `mask`, which it takes from `marked`.
    pub fn write(&mut self, marked: u16, mask: u16, buffer: &mut [u8; QUERY_LEN_MAX]) -> usize {
        let draw = self.random.next_u64();
        let id = (draw >> 48) as u16 & !mask | marked & mask;
        let kind = if self.made % 4 == 3 { TYPE_AAAA } else { TYPE_A };
        let mut digits = [0; DIGITS_MAX];
        let used = base32(self.made, &mut digits);
        self.made += 1;
        let mut writer = Writer::new(buffer);
        put_query(&mut writer, id, [&digits[DIGITS_MAX - used..], &self.label], kind)
            .expect("QUERY_LEN_MAX is room for any query");
        let length = writer.len();
        mix_case(&mut buffer[HEADER_LEN..HEADER_LEN + 1 + 1 + used + 1 + LABEL_LEN], draw);
        length
    }
}

/// Appends the query for `q<parts[0]>.<parts[1]>` and the suffix.
fn put_query(writer: &mut Writer<'_>, id: u16, parts: [&[u8]; 2], kind: u16) -> Option<()> {
    for field in [id, u16::from(RD) << 8, 1, 0, 0, 1] {
        writer.put_u16(field)?;
    }
    writer.put(&[1 + parts[0].len() as u8, b'q'])?;
    writer.put(parts[0])?;
    writer.put(&[parts[1].len() as u8])?;
    writer.put(parts[1])?;
    writer.put(SUFFIX)?;
    writer.put_u16(kind)?;
    writer.put_u16(CLASS_IN)?;
    Edns::Present { dnssec_ok: false }.write(writer)
}

/// Fills `digits` with the lowest digits of `value`; returns how many of them matter, at least one.
fn base32(value: u64, digits: &mut [u8]) -> usize {
    let mut rest = value;
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(rest & 31) as usize];
        rest >>= 5;
    }
    let bits = u64::BITS - value.leading_zeros();
    (bits.div_ceil(5) as usize).clamp(1, digits.len())
}

/// Turns the letters whose bit is set into capitals. A length octet is no letter.
fn mix_case(name: &mut [u8], bits: u64) {
    for (i, octet) in name.iter_mut().enumerate() {
        if bits >> i & 1 == 1 {
            octet.make_ascii_uppercase();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{QUERY_LEN_MAX, QueryMaker, base32, mix_case};
    use domain::base::Message;
    use std::collections::HashSet;

    fn queries(seed: u64, count: usize) -> Vec<Vec<u8>> {
        let mut maker = QueryMaker::new(seed);
        let mut buffer = [0; QUERY_LEN_MAX];
        (0..count)
            .map(|_| {
                let length = maker.write(0, 0, &mut buffer);
                buffer[..length].to_vec()
            })
            .collect()
    }

    #[test]
    fn queries_are_whole_and_their_names_are_new() {
        let mut names = HashSet::new();
        for query in queries(1, 3_000) {
            let message = Message::from_octets(&query[..]).unwrap();
            assert!(message.header().rd() && !message.header().qr());
            let question = message.sole_question().unwrap();
            let name = question.qname().to_string().to_ascii_lowercase();
            assert!(name.starts_with('q') && name.ends_with(".demo.example"), "{name}");
            assert_eq!(message.opt().unwrap().udp_payload_size(), 1232);
            assert!(names.insert(name));
        }
    }

    #[test]
    fn a_seed_fixes_the_queries_and_another_changes_the_names() {
        assert_eq!(queries(7, 50), queries(7, 50));
        assert_ne!(queries(7, 1)[0][12..], queries(8, 1)[0][12..]);
    }

    #[test]
    fn the_longest_query_fits() {
        let mut maker = QueryMaker::new(1);
        maker.made = u64::MAX - 1;
        assert_eq!(maker.write(0, 0, &mut [0; QUERY_LEN_MAX]), 65);
    }

    #[test]
    fn marked_bits_are_kept_and_the_others_vary() {
        let mut maker = QueryMaker::new(1);
        let mut buffer = [0; QUERY_LEN_MAX];
        let mut ids = HashSet::new();
        for _ in 0..100 {
            maker.write(0x0005, 0x000f, &mut buffer);
            assert_eq!(buffer[1] & 0x0f, 5);
            ids.insert([buffer[0], buffer[1]]);
        }
        assert!(ids.len() > 50);
    }

    #[test]
    fn numbers_have_no_leading_zeros() {
        let mut digits = [0; 13];
        for (value, used, last) in
            [(0, 1, b'a'), (31, 1, b'7'), (32, 2, b'a'), (u64::MAX, 13, b'7')]
        {
            assert_eq!((base32(value, &mut digits), digits[12]), (used, last));
        }
        assert_eq!(base32(u64::MAX, &mut [0; 8]), 8);
    }

    #[test]
    fn only_letters_change_case() {
        let mut name = *b"\x02a2\x01b";
        mix_case(&mut name, !0);
        assert_eq!(&name, b"\x02A2\x01B");
    }
}
