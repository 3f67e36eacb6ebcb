//! `loadbalance`: shuffles the addresses of a name, so that clients that use the first one spread
//! over all of them.
//!
//! In place and without memory: only the data of address records of one RRset are exchanged, each
//! set at random and each section separately, so owners, TTLs and compression stay unchanged. The
//! order of RRsets is kept, because upstreams write CNAMEs first and moving records of different
//! lengths would break compression pointers; so is that of MX records, because senders choose at
//! random among equal preferences (RFC 5321 §5.1). In a set of more than [`SET_MAX`] addresses the
//! rest keep their places.

use super::{Settings, Stage};
use crate::config::{Net, ServerBlock};
use crate::engine::message::{HEADER_LEN, Question, Rcode, Record, class, flags};
use crate::engine::message::{names_equal, rtype, u16_at};
use ahash::RandomState;
use std::net::IpAddr;

/// Maximum number of addresses of one set that are shuffled.
pub(crate) const SET_MAX: usize = 256;

/// Preferred networks, whose addresses come first in this order.
pub(crate) struct LoadBalance(Vec<Net>);

impl Stage for LoadBalance {
    fn new(block: &ServerBlock, _: &RandomState, _: &mut Settings) -> Option<Self> {
        block.stages.loadbalance.as_ref().map(|told| Self(told.prefer.clone()))
    }

    fn rearrange(&self, reply: &mut [u8], random: &mut impl FnMut() -> u32) {
        // A multiplication instead of a division, equally uniform.
        let below = |bound: usize| ((u64::from(random()) * bound as u64) >> 32) as usize;
        shuffle(reply, &self.0, below);
    }
}

/// Shuffles the addresses in the reply `message`; those in the first of `prefer` come first, and so
/// on. `random`: a uniform number below its argument.
fn shuffle(message: &mut [u8], prefer: &[Net], mut random: impl FnMut(usize) -> usize) {
    let word = u16_at(message, 2).unwrap_or(Rcode::ServFail as u16);
    let Some(question) = Question::parse(message) else { return };
    if word & flags::RCODE != Rcode::NoError as u16 {
        return;
    }
    let mut place = question.end();
    for section in 0..3 {
        let count = u16_at(message, HEADER_LEN - 6 + 2 * section).unwrap_or(0);
        let mut set = Set { first: None, data: [0; SET_MAX], len: 0 };
        for _ in 0..count {
            let Some(record) = Record::parse(message, place) else { return };
            place = record.end;
            if !set.takes(message, &record) {
                set.shuffle(message, prefer, &mut random);
                set.begin(&record);
            }
        }
        set.shuffle(message, prefer, &mut random);
    }
}

/// Adjacent address records of one owner and type.
struct Set {
    first: Option<Record>,
    /// Offsets of the records' data.
    data: [u16; SET_MAX],
    len: usize,
}

impl Set {
    /// Adds `record` if it belongs to the set; otherwise returns false.
    fn takes(&mut self, message: &[u8], record: &Record) -> bool {
        let alike = self.first.is_some_and(|first| {
            (first.rtype, first.class) == (record.rtype, record.class)
                && first.end - first.data == record.end - record.data
                && names_equal(message, first.start, record.start)
        });
        if alike && self.len < SET_MAX {
            self.data[self.len] = record.data as u16;
            self.len += 1;
        }
        alike
    }

    /// Begins a set with `record`, if that is an address record.
    fn begin(&mut self, record: &Record) {
        let len = record.end - record.data;
        let address = matches!((record.rtype, len), (rtype::A, 4) | (rtype::AAAA, 16));
        self.first = Some(*record).filter(|_| address && record.class == class::IN);
        self.data[0] = record.data as u16;
        self.len = 1;
    }

    fn shuffle(&self, message: &mut [u8], prefer: &[Net], random: &mut impl FnMut(usize) -> usize) {
        let Some(first) = self.first else { return };
        let (width, data) = (first.end - first.data, &self.data[..self.len]);
        for last in (1..data.len()).rev() {
            exchange(message, data[last], data[random(last + 1)], width);
        }
        if prefer.is_empty() {
            return;
        }
        // A stable sort for short lists.
        let rank = |message: &[u8], place: u16| {
            let address = address(message, place.into(), width);
            prefer.iter().position(|net| net.contains(address)).unwrap_or(prefer.len())
        };
        for end in 1..data.len() {
            let own = rank(message, data[end]);
            for place in (0..end).rev() {
                if rank(message, data[place]) <= own {
                    break;
                }
                exchange(message, data[place], data[place + 1], width);
            }
        }
    }
}

/// Exchanges `width` bytes at `a` with those at `b`.
fn exchange(message: &mut [u8], a: u16, b: u16, width: usize) {
    for offset in 0..width {
        message.swap(usize::from(a) + offset, usize::from(b) + offset);
    }
}

fn address(message: &[u8], place: usize, width: usize) -> IpAddr {
    let bytes = &message[place..place + width];
    match <[u8; 4]>::try_from(bytes) {
        Ok(octets) => octets.into(),
        Err(_) => <[u8; 16]>::try_from(bytes).expect("an address of IPv6").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::shuffle;
    use crate::config::{Config, Host, Net};
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};
    use std::collections::BTreeSet;

    /// A reply with these records in its answer section: owner, type and data.
    fn message(records: &[(&[u8], u16, &[u8])]) -> Vec<u8> {
        let mut message = vec![0, 1, 0x81, 0x80, 0, 1, 0, records.len() as u8, 0, 0, 0, 0];
        message.extend_from_slice(b"\x01a\0\0\x01\0\x01");
        for (owner, rtype, data) in records {
            message.extend_from_slice(owner);
            message.extend_from_slice(&rtype.to_be_bytes());
            message.extend_from_slice(&[0, 1, 0, 0, 0, 9, 0, data.len() as u8]);
            message.extend_from_slice(data);
        }
        message
    }

    fn prefixes(text: &str) -> Vec<Net> {
        let text = format!(". {{\n loadbalance {{\n prefer {text}\n}}\n}}");
        let (mut config, _) = Config::load(text.as_bytes(), "f", &Host::plain()).unwrap();
        config.blocks[0].stages.loadbalance.take().unwrap().prefer
    }

    const OWN: &[u8] = b"\xc0\x0c";

    #[test]
    fn each_order_of_a_set_is_as_likely_and_nothing_else_changes() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let other: (&[u8], u16, &[u8]) = (b"\x01b\0", 1, &[9; 4]);
        let before = message(&[
            (OWN, 5, b"\xc0\x0c"),
            (OWN, 1, &[0x11; 4]),
            (b"\x01A\0", 1, &[0x22; 4]),
            (OWN, 1, &[0x33; 4]),
            other,
            (OWN, 28, &[4; 16]),
        ]);
        let mut orders = std::collections::BTreeMap::<Vec<u8>, u32>::new();
        let holds = |place: &usize| {
            let data = &before[*place..*place + 4];
            (0x11..=0x33).contains(&data[0]) && data.iter().all(|byte| *byte == data[0])
        };
        let places: Vec<usize> = (0..before.len() - 4).filter(holds).collect();
        assert_eq!(places.len(), 3);
        for _ in 0..6_000 {
            let mut after = before.clone();
            shuffle(&mut after, &[], |bound| random.next_u32() as usize % bound);
            let order: Vec<u8> = places.iter().map(|place| after[*place]).collect();
            *orders.entry(order).or_default() += 1;
            for (at, place) in places.iter().enumerate() {
                after[*place..*place + 4].fill(0x11 * (at as u8 + 1));
            }
            assert_eq!(after, before);
        }
        assert_eq!(orders.len(), 6);
        assert!(orders.values().all(|count| (850..1_150).contains(count)), "{orders:?}");
    }

    #[test]
    fn preferred_addresses_come_first_in_the_order_of_their_prefixes() {
        let prefer = prefixes("10.0.0.0/8 192.0.2.0/24");
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let data: [[u8; 4]; 6] = [
            [198, 51, 100, 1],
            [192, 0, 2, 1],
            [10, 0, 0, 1],
            [198, 51, 100, 2],
            [10, 0, 0, 2],
            [192, 0, 2, 2],
        ];
        let records: Vec<_> = data.iter().map(|data| (OWN, 1, &data[..])).collect();
        let before = message(&records);
        let mut orders = BTreeSet::new();
        for _ in 0..500 {
            let mut after = before.clone();
            shuffle(&mut after, &prefer, |bound| random.next_u32() as usize % bound);
            let order: Vec<u8> = after[19..].chunks(16).map(|record| record[12]).collect();
            assert_eq!(order, [10, 10, 192, 192, 198, 198]);
            orders.insert(after);
        }
        assert_eq!(orders.len(), 8, "each pair in both orders");
    }

    #[test]
    fn failures_and_malformed_replies_stay_unchanged() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let whole = message(&[(OWN, 1, &[1; 4]), (OWN, 1, &[2; 4]), (OWN, 1, &[3; 16])]);
        let mut failure = whole.clone();
        failure[3] |= 2;
        let before = failure.clone();
        shuffle(&mut failure, &[], |bound| bound - 1);
        assert_eq!(failure, before);
        for cut in 0..whole.len() {
            let mut bytes = whole[..cut].to_vec();
            shuffle(&mut bytes, &[], |bound| random.next_u32() as usize % bound);
        }
    }

    #[test]
    fn a_large_set_is_shuffled_up_to_the_maximum() {
        let data: Vec<[u8; 4]> = (0..200_u8).map(|number| [7, 7, 7, number]).collect();
        let records: Vec<_> = data.iter().map(|data| (OWN, 1, &data[..])).collect();
        let mut bytes = message(&records);
        bytes[6..8].copy_from_slice(&600_u16.to_be_bytes());
        let set = bytes[19..].to_vec();
        bytes.extend_from_slice(&set);
        bytes.extend_from_slice(&set);
        let before = bytes.clone();
        let mut random = ChaCha8Rng::seed_from_u64(4);
        shuffle(&mut bytes, &[], |bound| random.next_u32() as usize % bound);
        let end = 19 + 16 * super::SET_MAX;
        assert_ne!(bytes[..end], before[..end]);
        assert_eq!(bytes[end..], before[end..]);
    }
}
