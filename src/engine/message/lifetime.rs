//! The time for which records may be kept, and a whole reply is fresh.
//!
//! A cache of HTTP sees a reply from outside and keeps it for as long as its headers say (RFC 8484
//! §5.1), so the TTLs inside the message must be found for it.

use super::{HEADER_LEN, Question, Record, put_u16, rtype, u16_at, u32_at};

/// Minimum length of an SOA's data: two names and five numbers, of which MINIMUM is the last.
const SOA_LEN_MIN: usize = 2 + 5 * 4;

/// Returns the number of seconds for which `reply` is fresh (RFC 8484 §5.1): the shortest TTL of
/// the answer section or, without answers, what an SOA in the authority section says about denials
/// (RFC 2308 §5), otherwise 0. Malformed records end the walk with 0.
pub(crate) fn fresh_for(reply: &[u8]) -> u32 {
    let count = |section: usize| u16_at(reply, 4 + 2 * section).unwrap_or(0);
    let start = match count(0) {
        0 => Some(HEADER_LEN),
        _ => Question::parse(reply).map(|question| question.end()),
    };
    let Some(mut place) = start else { return 0 };
    let mut shortest = None;
    for _ in 0..count(1) {
        let Some(record) = Record::parse(reply, place) else { return 0 };
        place = record.end;
        let ttl = ttl_at(reply, record.fixed);
        shortest = Some(shortest.map_or(ttl, |shortest: u32| shortest.min(ttl)));
    }
    if let Some(shortest) = shortest {
        return shortest;
    }
    for _ in 0..count(2) {
        let Some(record) = Record::parse(reply, place) else { return 0 };
        place = record.end;
        // An SOA that is too short for a MINIMUM says nothing.
        if record.rtype == rtype::SOA && record.end >= record.data + SOA_LEN_MIN {
            return negative_ttl(reply, &record);
        }
    }
    0
}

/// Reduces the TTLs of `response` by the `seconds` that it has spent in caches of HTTP (RFC 8484
/// §5.1). Malformed records end the walk.
pub(crate) fn grow_older(response: &mut [u8], seconds: u32) {
    let count = |section: usize| u16_at(response, 4 + 2 * section).unwrap_or(0);
    let records = (1..4).map(|section| u32::from(count(section))).sum::<u32>();
    let start = match count(0) {
        0 => Some(HEADER_LEN),
        _ => Question::parse(response).map(|question| question.end()),
    };
    let Some(mut place) = start else { return };
    for _ in 0..records {
        let Some(record) = Record::parse(response, place) else { return };
        place = record.end;
        // The TTL of an OPT has flags, that of a signature is 0.
        if !matches!(record.rtype, rtype::OPT | rtype::TSIG) {
            let ttl = ttl_at(response, record.fixed).saturating_sub(seconds);
            put_u16(response, record.fixed + 4, (ttl >> 16) as u16);
            put_u16(response, record.fixed + 6, ttl as u16);
        }
    }
}

/// Returns the TTL of the record at `fixed` in `packet`. With the highest bit set it counts as zero
/// (RFC 2181 §8).
pub(crate) fn ttl_at(packet: &[u8], fixed: usize) -> u32 {
    u32_at(packet, fixed + 4).filter(|ttl| *ttl <= i32::MAX as u32).unwrap_or(0)
}

/// Returns the TTL of a record in a denial: an SOA has two limits (RFC 2308 §5).
pub(crate) fn negative_ttl(packet: &[u8], record: &Record) -> u32 {
    let ttl = ttl_at(packet, record.fixed);
    let minimum = (record.rtype == rtype::SOA && record.end >= record.data + SOA_LEN_MIN)
        .then(|| u32_at(packet, record.end - 4).unwrap_or(0));
    minimum.map_or(ttl, |minimum| ttl.min(minimum))
}

#[cfg(test)]
mod tests {
    use super::{fresh_for, grow_older};

    const QUESTION: &[u8] = b"\x01a\x00\x00\x01\x00\x01";

    /// Returns a reply with these records in the answer and the authority section.
    fn reply(answers: &[Vec<u8>], authorities: &[Vec<u8>]) -> Vec<u8> {
        let counts = [1, answers.len() as u16, authorities.len() as u16, 0];
        let mut packet = vec![0, 0, 0x81, 0x80];
        packet.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
        packet.extend(QUESTION);
        packet.extend(answers.iter().chain(authorities).flatten());
        packet
    }

    fn record(rtype: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
        let mut record = b"\xc0\x0c".to_vec();
        record.extend(rtype.to_be_bytes());
        record.extend([0, 1]);
        record.extend(ttl.to_be_bytes());
        record.extend((data.len() as u16).to_be_bytes());
        record.extend(data);
        record
    }

    fn soa(ttl: u32, minimum: u32) -> Vec<u8> {
        let mut data = vec![0; 18];
        data.extend(minimum.to_be_bytes());
        record(6, ttl, &data)
    }

    #[test]
    fn the_shortest_ttl_of_the_answer_counts() {
        let a = |ttl| record(1, ttl, &[192, 0, 2, 1]);
        assert_eq!(fresh_for(&reply(&[a(300), a(60)], &[soa(5, 5)])), 60);
        assert_eq!(fresh_for(&reply(&[a(300), a(1 << 31)], &[])), 0);
    }

    #[test]
    fn a_denial_is_fresh_for_as_long_as_its_soa_says() {
        assert_eq!(fresh_for(&reply(&[], &[soa(3_600, 300)])), 300);
        assert_eq!(fresh_for(&reply(&[], &[soa(100, 300)])), 100);
        assert_eq!(fresh_for(&reply(&[], &[record(2, 50, b"\0")])), 0);
        assert_eq!(fresh_for(&reply(&[], &[])), 0);
    }

    #[test]
    fn all_ttls_grow_older_but_those_that_are_none() {
        let opt = record(41, 0x8000, b"");
        let mut packet = reply(&[record(1, 300, b"abcd"), record(1, 50, b"abcd")], &[soa(60, 300)]);
        packet[11] = 1;
        let start = packet.len();
        packet.extend(&opt);
        grow_older(&mut packet, 59);
        let expected = [record(1, 241, b"abcd"), record(1, 0, b"abcd"), soa(1, 300), opt].concat();
        assert_eq!(&packet[packet.len() - expected.len()..], expected);
        for len in 0..start {
            // Nothing is read or written beyond the end.
            grow_older(&mut packet[..len], 1);
        }
    }

    #[test]
    fn a_cut_reply_is_not_fresh() {
        let whole = reply(&[record(1, 300, &[192, 0, 2, 1])], &[]);
        for len in 0..whole.len() {
            assert_eq!(fresh_for(&whole[..len]), 0, "{len} bytes");
        }
    }
}
