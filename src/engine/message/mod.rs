//! Views over wire bytes: checked, without copies, without a panic on any input.
//!
//! [`query`] parses clients' queries and writes those sent upstream; [`response`] parses upstreams'
//! responses, and `data` checks their records; [`reply`] writes the client's reply, which `cut`
//! truncates, and [`compose`] writes replies of our own. This file holds the shared parts: the
//! header's layout (RFC 1035 §4.1.1, RFC 6895 §2), names and the walk over records. Off the hot
//! path, and as the oracle in the tests, the `domain` crate does all this.

pub mod compose;
pub(crate) mod cookie;
mod cut;
pub(crate) mod data;
pub(crate) mod join;
pub(crate) mod layout;
pub(crate) mod lifetime;
pub(crate) mod name;
pub(crate) mod opt;
pub(crate) mod private;
pub mod query;
pub(crate) mod rcode;
pub(crate) mod rename;
pub mod reply;
pub mod response;

pub use rcode::Rcode;

/// The header's length in bytes.
pub const HEADER_LEN: usize = 12;
/// A pointer to the question's name, which begins right behind the header.
pub(crate) const QNAME: [u8; 2] = [0xc0, HEADER_LEN as u8];
/// Maximum length of a name in bytes, the root's zero included (RFC 1035 §3.1).
pub(crate) const NAME_LEN_MAX: usize = 255;
/// Maximum UDP payload that we advertise and send, to avoid fragments (RFC 9715 §3.1).
pub(crate) const UDP_PAYLOAD_MAX: usize = 1232;
/// Maximum UDP payload of a client without EDNS (RFC 1035 §4.2.1).
pub(crate) const UDP_PAYLOAD_PLAIN: usize = 512;

/// Bits of the header's second word.
pub(crate) mod flags {
    /// Response.
    pub(crate) const QR: u16 = 0x8000;
    /// Opcode; zero is QUERY.
    pub(crate) const OPCODE: u16 = 0x7800;
    /// The opcode NOTIFY (RFC 1996).
    pub(crate) const NOTIFY: u16 = 0x2000;
    /// Authoritative answer.
    pub(crate) const AA: u16 = 0x0400;
    /// Truncated.
    pub(crate) const TC: u16 = 0x0200;
    /// Recursion desired.
    pub(crate) const RD: u16 = 0x0100;
    /// Recursion available.
    pub(crate) const RA: u16 = 0x0080;
    /// Authentic data (RFC 6840 §5.7).
    pub(crate) const AD: u16 = 0x0020;
    /// Checking disabled.
    pub(crate) const CD: u16 = 0x0010;
    /// Lower four bits of the response code.
    pub(crate) const RCODE: u16 = 0x000f;
}

/// Record types used by the engine.
pub(crate) mod rtype {
    /// An IPv4 address.
    pub(crate) const A: u16 = 1;
    /// A name server.
    pub(crate) const NS: u16 = 2;
    /// A mail destination (obsolete).
    pub(crate) const MD: u16 = 3;
    /// A mail forwarder (obsolete).
    pub(crate) const MF: u16 = 4;
    /// Alias of a name.
    pub(crate) const CNAME: u16 = 5;
    /// The start of a zone; in a denial, its lifetime (RFC 2308).
    pub(crate) const SOA: u16 = 6;
    /// A mailbox's host (experimental).
    pub(crate) const MB: u16 = 7;
    /// A member of a mail group (experimental).
    pub(crate) const MG: u16 = 8;
    /// A mailbox's new name (experimental).
    pub(crate) const MR: u16 = 9;
    /// The name of an address.
    pub(crate) const PTR: u16 = 12;
    /// A host's processor and system; now the answer to ANY (RFC 8482).
    pub(crate) const HINFO: u16 = 13;
    /// Mailbox information (experimental).
    pub(crate) const MINFO: u16 = 14;
    /// A mail exchange.
    pub(crate) const MX: u16 = 15;
    /// Text.
    pub(crate) const TXT: u16 = 16;
    /// The responsible person (RFC 1183).
    pub(crate) const RP: u16 = 17;
    /// A host of an AFS cell (RFC 1183).
    pub(crate) const AFSDB: u16 = 18;
    /// A host that relays (RFC 1183).
    pub(crate) const RT: u16 = 21;
    /// A mapping to X.400 mail (RFC 2163).
    pub(crate) const PX: u16 = 26;
    /// An IPv6 address.
    pub(crate) const AAAA: u16 = 28;
    /// Location of a service.
    pub(crate) const SRV: u16 = 33;
    /// A rule that rewrites a string (RFC 3403).
    pub(crate) const NAPTR: u16 = 35;
    /// A key exchanger (RFC 2230).
    pub(crate) const KX: u16 = 36;
    /// Another name for all that is below (RFC 6672).
    pub(crate) const DNAME: u16 = 39;
    /// EDNS (RFC 6891).
    pub(crate) const OPT: u16 = 41;
    /// Delegation signer: belongs to the parent's side of a zone cut (RFC 4035 §3.1.4.1).
    pub(crate) const DS: u16 = 43;
    /// Signature over records (RFC 4034 §3).
    pub(crate) const RRSIG: u16 = 46;
    /// The next name of a zone and the types of a name: proof of non-existence (RFC 4034 §4).
    pub(crate) const NSEC: u16 = 47;
    /// The same with hashed names (RFC 5155).
    pub(crate) const NSEC3: u16 = 50;
    /// Service binding (RFC 9460).
    pub(crate) const SVCB: u16 = 64;
    /// Service binding of HTTPS (RFC 9460).
    pub(crate) const HTTPS: u16 = 65;
    /// Transaction signature (RFC 8945).
    pub(crate) const TSIG: u16 = 250;
    /// Incremental zone transfer (RFC 1995).
    pub(crate) const IXFR: u16 = 251;
    /// A whole zone (RFC 5936).
    pub(crate) const AXFR: u16 = 252;
    /// In a question: every type.
    pub(crate) const ANY: u16 = 255;
}

/// Classes used by the engine.
pub(crate) mod class {
    /// The Internet.
    pub(crate) const IN: u16 = 1;
    /// Chaosnet: used for data about the name server itself.
    pub(crate) const CH: u16 = 3;
    /// Any class: used in records without data.
    pub(crate) const ANY: u16 = 255;
}

/// EDNS option codes used by the engine.
pub(crate) mod option {
    /// Name server identifier (RFC 5001).
    pub(crate) const NSID: u16 = 3;
    /// Client subnet (RFC 7871).
    pub(crate) const ECS: u16 = 8;
    /// Cookies of a client and a server (RFC 7873).
    pub(crate) const COOKIE: u16 = 10;
    /// Time for which an idle connection stays open (RFC 7828).
    pub(crate) const KEEPALIVE: u16 = 11;
    /// Padding (RFC 7830).
    pub(crate) const PADDING: u16 = 12;
    /// Extended DNS error (RFC 8914).
    pub(crate) const EDE: u16 = 15;
}

/// The big-endian 16 bits at `offset`.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let pair = bytes.get(offset..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*pair))
}

/// Overwrites the 16 bits at `offset`, which must lie within `bytes`.
pub(crate) fn put_u16(bytes: &mut [u8], offset: usize, value: u16) {
    bytes[offset..offset + 2].copy_from_slice(&value.to_be_bytes());
}

/// Writes the six words of a message's header.
pub(crate) fn write_head(out: &mut [u8], header: [u16; 6]) {
    let (places, _) = out[..HEADER_LEN].as_chunks_mut();
    for (place, word) in places.iter_mut().zip(header) {
        *place = word.to_be_bytes();
    }
}

/// The big-endian 32 bits at `offset`.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let four = bytes.get(offset..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*four))
}

/// Overwrites the 32 bits at `offset`, which must lie within `bytes`.
pub(crate) fn put_u32(bytes: &mut [u8], offset: usize, value: u32) {
    bytes[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
}

/// Returns the message's id, or `None` if it is shorter than a header.
pub fn id(packet: &[u8]) -> Option<u16> {
    packet.get(..HEADER_LEN).and_then(|header| u16_at(header, 0))
}

/// The one question of a message, directly after its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Length of the name in wire format, which lies uncompressed at [`HEADER_LEN`].
    pub(crate) name_len: usize,
    /// The type asked for.
    pub rtype: u16,
    /// The class.
    pub class: u16,
}

impl Question {
    /// Reads the question; returns `None` if its name is longer than 255 octets, is truncated or
    /// has a compression pointer (there is no earlier name to point to).
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let mut end = HEADER_LEN;
        loop {
            let length = usize::from(*packet.get(end)?);
            if length > 63 {
                return None;
            }
            end += 1 + length;
            if end - HEADER_LEN > NAME_LEN_MAX {
                return None;
            }
            if length == 0 {
                break;
            }
        }
        let name_len = end - HEADER_LEN;
        Some(Self { name_len, rtype: u16_at(packet, end)?, class: u16_at(packet, end + 2)? })
    }

    /// Returns the start of the first record.
    pub fn end(&self) -> usize {
        HEADER_LEN + self.name_len + 4
    }

    /// Returns the name's bytes in the message that it was read from.
    pub fn name<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        &packet[HEADER_LEN..HEADER_LEN + self.name_len]
    }
}

/// Positions of a record's parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// Offset of the owner name.
    pub(crate) start: usize,
    /// End of the owner name: type, class, TTL and length follow.
    pub(crate) fixed: usize,
    /// The type.
    pub rtype: u16,
    /// The class; an OPT's UDP payload size.
    pub(crate) class: u16,
    /// Offset of the data.
    pub data: usize,
    /// End of the data.
    pub(crate) end: usize,
}

impl Record {
    /// Reads the record at `start`; returns `None` if it does not lie within the message or its
    /// owner's pointer does not point backwards.
    pub(crate) fn parse(packet: &[u8], start: usize) -> Option<Self> {
        Self::with_owner(packet, start, skip_name(packet, start)?)
    }

    /// The same for a record whose owner name ends at `fixed`.
    #[inline]
    fn with_owner(packet: &[u8], start: usize, fixed: usize) -> Option<Self> {
        let words: &[u8; 10] = packet.get(fixed..)?.first_chunk()?;
        let word = |index: usize| u16::from_be_bytes([words[2 * index], words[2 * index + 1]]);
        let (rtype, class) = (word(0), word(1));
        let data = fixed + 10;
        let end = data + usize::from(word(4));
        (end <= packet.len()).then_some(Self { start, fixed, rtype, class, data, end })
    }

    /// Returns true if both belong to one RRset: owner, type and class are equal.
    pub(crate) fn is_of_set(&self, other: &Self, packet: &[u8]) -> bool {
        (self.rtype, self.class) == (other.rtype, other.class)
            && names_equal(packet, self.start, other.start)
    }
}

/// Returns the end of the name at `start`, or of the pointer that completes it.
fn skip_name(packet: &[u8], start: usize) -> Option<usize> {
    let mut place = start;
    while place - start < NAME_LEN_MAX {
        let length = *packet.get(place)?;
        match length {
            0 => return Some(place + 1),
            1..=63 => place += 1 + usize::from(length),
            0xc0.. => {
                let target = usize::from(u16_at(packet, place)? & 0x3fff);
                return (HEADER_LEN..place).contains(&target).then_some(place + 2);
            }
            _ => return None,
        }
    }
    None
}

/// Returns true if the names at `a` and `b`, which [`Record::parse`] accepted, are equal regardless
/// of letter case. Each pointer must point further back, so the walk ends.
pub fn names_equal(packet: &[u8], a: usize, b: usize) -> bool {
    let (mut a, mut b) = (Labels::new(packet, a), Labels::new(packet, b));
    for _ in 0..=NAME_LEN_MAX / 2 {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(one), Some(other)) if one.eq_ignore_ascii_case(other) => {}
            _ => return false,
        }
    }
    false
}

/// Writes the name at `start` into `out`, uncompressed and in lower case, and returns its length.
/// Returns `None` if it is too long or has no end.
pub(crate) fn expand_name(
    packet: &[u8],
    start: usize,
    out: &mut [u8; NAME_LEN_MAX],
) -> Option<usize> {
    let (mut place, mut len) = (start, 0);
    // A name has at most 127 labels, and needs no more pointers than labels.
    for _ in 0..NAME_LEN_MAX {
        let length = *packet.get(place)?;
        match length {
            0 => {
                *out.get_mut(len)? = 0;
                return Some(len + 1);
            }
            1..=63 => {
                let behind = place + 1 + usize::from(length);
                let label = packet.get(place..behind)?;
                let written = out.get_mut(len..len + label.len())?;
                written.copy_from_slice(label);
                written.make_ascii_lowercase();
                (place, len) = (behind, len + label.len());
            }
            _ => {
                let target = usize::from(u16_at(packet, place)? & 0x3fff);
                if length < 0xc0 || target >= place {
                    return None;
                }
                place = target;
            }
        }
    }
    None
}

/// The labels of a possibly compressed name; ends at the root or at the first malformed label.
struct Labels<'a> {
    packet: &'a [u8],
    place: usize,
}

impl<'a> Labels<'a> {
    fn new(packet: &'a [u8], place: usize) -> Self {
        Self { packet, place }
    }
}

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let length = *self.packet.get(self.place)?;
            match length {
                0 => return None,
                1..=63 => {
                    let start = self.place + 1;
                    self.place = start + usize::from(length);
                    return self.packet.get(start..self.place);
                }
                _ => {
                    let target = usize::from(u16_at(self.packet, self.place)? & 0x3fff);
                    if length < 0xc0 || target >= self.place {
                        return None;
                    }
                    self.place = target;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{HEADER_LEN, NAME_LEN_MAX, Question, Record, expand_name, names_equal};

    fn packet(body: &[u8]) -> Vec<u8> {
        [&[0; HEADER_LEN][..], body].concat()
    }

    #[test]
    fn a_question_is_plain_labels_a_type_and_a_class() {
        let right = packet(b"\x03wWw\x04test\x00\x00\x1c\x00\x01");
        let question = Question::parse(&right).unwrap();
        assert_eq!(question, Question { name_len: 10, rtype: 28, class: 1 });
        assert_eq!(question.name(&right), b"\x03wWw\x04test\x00");
        assert_eq!(question.end(), right.len());
        for cut in 0..right.len() {
            assert_eq!(Question::parse(&right[..cut]), None, "cut at {cut}");
        }
        assert_eq!(Question::parse(&packet(b"\xc0\x0c\x00\x01\x00\x01")), None);
        assert_eq!(Question::parse(&packet(b"\x40abc\x00\x00\x01\x00\x01")), None);
    }

    #[test]
    fn a_name_of_255_octets_is_the_longest() {
        let longest = [[&[63][..], &[b'x'; 63]].concat().repeat(3), vec![61], vec![b'x'; 61]];
        let name = [longest.concat(), b"\x00\x00\x01\x00\x01".to_vec()].concat();
        assert_eq!(Question::parse(&packet(&name)).unwrap().name_len, 255);
        let longer = [&[1, b'y'][..], &name].concat();
        assert_eq!(Question::parse(&packet(&longer)), None);
    }

    #[test]
    fn a_record_lies_within_its_message_and_points_backwards() {
        let right = packet(b"\x01a\x00\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x02xy");
        let record = Record::parse(&right, 15).unwrap();
        assert_eq!((record.rtype, record.data, record.end), (1, 27, 29));
        for cut in 0..right.len() {
            assert!(Record::parse(&right[..cut], 15).is_none(), "cut at {cut}");
        }
        for pointer in [b"\xc0\x0f", b"\xc0\x10", b"\xff\xff", b"\xc0\x00", b"\x80\x0c"] {
            let mut wrong = right.clone();
            wrong[15..17].copy_from_slice(pointer);
            assert!(Record::parse(&wrong, 15).is_none(), "{pointer:x?}");
        }
    }

    #[test]
    fn names_are_compared_through_pointers_and_regardless_of_case() {
        let names = packet(b"\x01a\x04TEST\x00\x01A\xc0\x0e\x04test\x00\x01b\xc0\x0e");
        assert!(names_equal(&names, 12, 20));
        assert!(names_equal(&names, 14, 24));
        assert!(!names_equal(&names, 12, 30));
        assert!(!names_equal(&names, 12, 14));
    }

    #[test]
    fn pointer_loops_end() {
        let circle = packet(b"\xc0\x0e\xc0\x0c");
        assert!(names_equal(&circle, 12, 12) && names_equal(&circle, 14, 14));
    }

    #[test]
    fn a_name_is_expanded_in_lower_case() {
        let names = packet(b"\x01a\x04TEST\x00\x01B\xc0\x0e\x00");
        let mut out = [0; NAME_LEN_MAX];
        assert_eq!(expand_name(&names, 20, &mut out), Some(8));
        assert_eq!(&out[..8], b"\x01b\x04test\x00");
        assert_eq!(expand_name(&names, 24, &mut out), Some(1));
        assert_eq!(expand_name(&names, names.len(), &mut out), None);
    }

    #[test]
    fn a_name_that_is_too_long_or_loops_is_not_expanded() {
        let mut out = [0; NAME_LEN_MAX];
        let long = packet(&[&[&[63][..], &[b'x'; 63]].concat().repeat(4)[..], &[0]].concat());
        assert_eq!(expand_name(&long, HEADER_LEN, &mut out), None);
        let longest = packet(&[&[&[1][..], b"x"].concat().repeat(127)[..], &[0]].concat());
        assert_eq!(expand_name(&longest, HEADER_LEN, &mut out), Some(NAME_LEN_MAX));
        assert_eq!(expand_name(&packet(b"\xc0\x0c"), HEADER_LEN, &mut out), None);
        assert_eq!(expand_name(&packet(b"\x01a\x80\x00"), HEADER_LEN, &mut out), None);
        let mut chain = packet(b"\x00");
        (0..300_u16).for_each(|step| {
            let before = if step == 0 { 12 } else { 11 + 2 * step };
            chain.extend((0xc000 | before).to_be_bytes());
        });
        assert_eq!(expand_name(&chain, 13 + 2 * 100, &mut out), Some(1));
        assert_eq!(expand_name(&chain, 13 + 2 * 299, &mut out), None);
    }
}
