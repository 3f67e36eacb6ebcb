//! The part of the DNS wire format (RFC 1035 §4) that the two ends of the traffic need.
//!
//! Views over untrusted bytes: nothing panics, nothing is copied, and anything malformed is `None`.
//! [`Question`] is the one question of a message, [`Record`] a resource record, [`Edns`] the
//! contents of the OPT record; [`Writer`] appends to a caller's buffer. It shares nothing with the
//! engine's own views: these two ends judge the engine, and a mistake in one parser must not hide
//! in the other.

/// The length of a message's header.
pub const HEADER_LEN: usize = 12;
/// The UDP payload size that both ends advertise, which fits any path unfragmented (RFC 9715 §3.1).
pub(crate) const PAYLOAD_LEN: u16 = 1232;

/// In the third octet of a message: it is a response.
pub const QR: u8 = 0x80;
/// In the third octet of a message: the operation code, of which zero is a query.
pub(crate) const OPCODE: u8 = 0x78;
/// In the third octet of a message: it is truncated.
pub(crate) const TC: u8 = 0x02;
/// In the third octet of a message: recursion is desired.
pub(crate) const RD: u8 = 0x01;
/// In the fourth octet of a message: recursion is available.
pub(crate) const RA: u8 = 0x80;
/// In the fourth octet of a message: checking is disabled.
pub(crate) const CD: u8 = 0x10;
/// In the fourth octet of a message: the response code.
pub(crate) const RCODE: u8 = 0x0f;

pub(crate) const TYPE_A: u16 = 1;
pub(crate) const TYPE_SOA: u16 = 6;
pub(crate) const TYPE_AAAA: u16 = 28;
/// Type OPT, the pseudo-record of EDNS (RFC 6891).
pub(crate) const TYPE_OPT: u16 = 41;
pub(crate) const CLASS_IN: u16 = 1;

/// A compression pointer to the question's name, which always starts after the header.
pub(crate) const POINTER_TO_QUESTION: [u8; 2] = [0xc0, HEADER_LEN as u8];

/// Maximum length of a name (RFC 1035 §2.3.4).
const NAME_LEN_MAX: usize = 255;
/// The DO bit in the flags of an OPT record (RFC 3225).
const DNSSEC_OK: u8 = 0x80;

/// The question of a message that has exactly one, its name uncompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Question<'a> {
    /// The whole question section, letter case as sent.
    pub(crate) bytes: &'a [u8],
}

impl<'a> Question<'a> {
    /// Parses the question of `message`; `None` if it has none or several, or is malformed.
    pub(crate) fn parse(message: &'a [u8]) -> Option<Self> {
        if u16_at(message, 4)? != 1 {
            return None;
        }
        let section = message.get(HEADER_LEN..)?;
        let mut at = 0;
        loop {
            match *section.get(at)? {
                0 => break,
                label @ 1..=63 => at += 1 + usize::from(label),
                _ => return None,
            }
        }
        if at >= NAME_LEN_MAX {
            return None;
        }
        Some(Self { bytes: section.get(..at + 1 + 4)? })
    }

    /// Returns the name in wire form, its root label included.
    pub(crate) fn name(&self) -> &'a [u8] {
        &self.bytes[..self.bytes.len() - 4]
    }

    /// Returns the QTYPE.
    pub(crate) fn rtype(&self) -> u16 {
        u16_at(self.bytes, self.bytes.len() - 4).unwrap_or(0)
    }

    /// Returns the QCLASS.
    pub(crate) fn class(&self) -> u16 {
        u16_at(self.bytes, self.bytes.len() - 2).unwrap_or(0)
    }

    /// Returns the end of the question in its message.
    pub(crate) fn end(&self) -> usize {
        HEADER_LEN + self.bytes.len()
    }
}

/// A resource record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// The owner's name, as written: labels, a pointer, or labels and then a pointer.
    pub owner: &'a [u8],
    /// Type.
    pub rtype: u16,
    /// Class; in an OPT record the sender's payload size.
    pub(crate) class: u16,
    /// TTL in seconds, in network order; in an OPT record the flags.
    pub ttl: [u8; 4],
    /// Data.
    pub data: &'a [u8],
}

impl<'a> Record<'a> {
    /// Parses the record at `start` of `message`; returns it and the start of the next one.
    pub(crate) fn parse(message: &'a [u8], start: usize) -> Option<(Self, usize)> {
        let mut at = start;
        loop {
            match *message.get(at)? {
                0 => break at += 1,
                label @ 1..=63 => at += 1 + usize::from(label),
                192..=255 => break at += 2,
                _ => return None,
            }
        }
        let length = usize::from(u16_at(message, at + 8)?);
        let data = message.get(at + 10..at + 10 + length)?;
        let fixed = message.get(at..at + 8)?;
        let record = Self {
            owner: &message[start..at],
            rtype: u16_at(fixed, 0)?,
            class: u16_at(fixed, 2)?,
            ttl: *fixed.last_chunk()?,
            data,
        };
        Some((record, at + 10 + length))
    }
}

/// EDNS of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edns {
    /// No OPT record.
    Absent,
    /// An OPT record.
    Present {
        /// The DO bit is set.
        dnssec_ok: bool,
    },
}

impl Edns {
    /// Returns the EDNS of `message`, whose question ends at `at`; `None` if a record is malformed.
    pub(crate) fn find(message: &[u8], mut at: usize) -> Option<Self> {
        let records: u32 = [6, 8, 10]
            .iter()
            .map(|&field| u16_at(message, field).map(u32::from))
            .sum::<Option<_>>()?;
        let mut edns = Self::Absent;
        // Ends at the end of the message at the latest: a record takes eleven bytes or is
        // malformed.
        for _ in 0..records {
            let (record, next) = Record::parse(message, at)?;
            if record.rtype == TYPE_OPT {
                edns = Self::Present { dnssec_ok: record.ttl[2] & DNSSEC_OK != 0 };
            }
            at = next;
        }
        Some(edns)
    }

    /// Appends the OPT record of a response to a query with this EDNS, if any.
    pub(crate) fn write(self, writer: &mut Writer<'_>) -> Option<()> {
        let Self::Present { dnssec_ok } = self else { return Some(()) };
        writer.put(&[0])?;
        writer.put_u16(TYPE_OPT)?;
        writer.put_u16(PAYLOAD_LEN)?;
        writer.put(&[0, 0, if dnssec_ok { DNSSEC_OK } else { 0 }, 0, 0, 0])
    }

    /// Returns the number of records that [`Edns::write`] appends.
    pub(crate) fn count(self) -> u16 {
        u16::from(self != Self::Absent)
    }
}

/// Appends to a caller's buffer; `None` when it is full.
pub(crate) struct Writer<'a> {
    buffer: &'a mut [u8],
    length: usize,
}

impl<'a> Writer<'a> {
    /// Starts at the beginning of `buffer`.
    pub(crate) fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, length: 0 }
    }

    /// Appends `bytes`.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.length + bytes.len();
        self.buffer.get_mut(self.length..end)?.copy_from_slice(bytes);
        self.length = end;
        Some(())
    }

    /// Appends `value` in network order.
    pub(crate) fn put_u16(&mut self, value: u16) -> Option<()> {
        self.put(&value.to_be_bytes())
    }

    /// Returns the number of bytes written.
    pub(crate) fn len(&self) -> usize {
        self.length
    }
}

/// Returns the 16-bit number at `at`; `None` beyond the end.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::{Edns, Question, Record, TYPE_A, TYPE_OPT, Writer};

    const QUERY: &[u8] = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\x01\x01A\x07eXample\0\0\x01\0\x01\
        \0\0\x29\x04\xd0\0\0\x80\0\0\0";

    #[test]
    fn a_question_is_found_as_it_was_sent() {
        let question = Question::parse(QUERY).unwrap();
        assert_eq!(question.name(), b"\x01A\x07eXample\0");
        assert_eq!((question.rtype(), question.class(), question.end()), (TYPE_A, 1, 27));
    }

    #[test]
    fn a_question_that_is_absent_double_compressed_or_too_long_is_none() {
        for count in [0, 2] {
            let mut several = QUERY.to_vec();
            several[5] = count;
            assert_eq!(Question::parse(&several), None);
        }
        let mut compressed = QUERY.to_vec();
        compressed[12] = 0xc0;
        assert_eq!(Question::parse(&compressed), None);
        for (labels, fits) in [(126, true), (127, true), (128, false)] {
            let mut long = QUERY[..12].to_vec();
            long.extend(b"\x01a".repeat(labels));
            long.extend([0, 0, 1, 0, 1]);
            assert_eq!(Question::parse(&long).is_some(), fits, "{labels} labels");
        }
    }

    #[test]
    fn every_prefix_of_a_message_is_refused_or_read() {
        for length in 0..QUERY.len() {
            let cut = &QUERY[..length];
            assert_eq!(Question::parse(cut).is_some(), length >= 27);
            assert_eq!(Edns::find(cut, 27), None);
        }
        assert_eq!(Edns::find(QUERY, 27), Some(Edns::Present { dnssec_ok: true }));
    }

    #[test]
    fn a_record_is_read_whatever_form_its_owner_has() {
        for owner in [&b"\0"[..], b"\xc0\x0c", b"\x01a\0", b"\x01a\xc0\x0c"] {
            let mut bytes = owner.to_vec();
            bytes.extend(b"\0\x29\x04\xd0\x01\x02\x03\x04\0\x02xy+");
            let (record, next) = Record::parse(&bytes, 0).unwrap();
            assert_eq!((record.owner, record.rtype, record.class), (owner, TYPE_OPT, 1232));
            assert_eq!((record.ttl, record.data), ([1, 2, 3, 4], &b"xy"[..]));
            assert_eq!(next, bytes.len() - 1);
        }
    }

    #[test]
    fn a_writer_stops_at_the_end_of_its_buffer() {
        let mut buffer = [0; 3];
        let mut writer = Writer::new(&mut buffer);
        assert_eq!(writer.len(), 0);
        assert_eq!(
            (writer.put_u16(7), writer.put_u16(8), writer.put(b"x")),
            (Some(()), None, Some(()))
        );
        assert_eq!(writer.len(), 3);
        assert_eq!(buffer, [0, 7, b'x']);
    }
}
