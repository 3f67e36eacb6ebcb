//! Responses of upstreams, parsed before they are validated.
//!
//! The forwarder validates in steps: the header first ([`id`](super::id) and [`is_response`], or
//! [`is_bare_error`]), then [`answers`], and only then the walk over all records
//! ([`Response::parse`]), so that a flood of forgeries costs the reading of a dozen bytes each.
//! Every record must lie within the message and be well-formed (`super::data`), and the counts must
//! be true: a message cut between two records is malformed.

use super::data::sound_record;
use super::{HEADER_LEN, Question, Rcode, Record, flags, option, rtype, u16_at};

/// Returns true if the header is a response's, to a QUERY, with one question.
pub fn is_response(packet: &[u8]) -> bool {
    let word = |index: usize| u16_at(packet, 2 * index);
    let right = |flags: u16| flags & (flags::QR | flags::OPCODE) == flags::QR;
    packet.len() >= HEADER_LEN && word(1).is_some_and(right) && word(2) == Some(1)
}

/// Returns true if the header is that of a response to a QUERY with an error code (FORMERR,
/// SERVFAIL, NOTIMP or REFUSED) and without question, answer and authority records, as some servers
/// send.
pub(crate) fn is_bare_error(packet: &[u8]) -> bool {
    let word = |index: usize| u16_at(packet, 2 * index);
    let right = |flags: u16| {
        flags & (flags::QR | flags::OPCODE) == flags::QR
            && matches!(flags & flags::RCODE, 1 | 2 | 4 | 5)
    };
    packet.len() >= HEADER_LEN
        && word(1).is_some_and(right)
        && [2, 3, 4].iter().all(|count| word(*count) == Some(0))
}

/// Returns true if the response's question is that of `query`, which we sent and whose name has
/// `name_len` bytes: name regardless of letter case, type and class exactly (RFC 5452 §9.1).
pub fn answers(packet: &[u8], query: &[u8], name_len: usize) -> bool {
    let name = HEADER_LEN..HEADER_LEN + name_len;
    let rest = name.end..name.end + 4;
    match (packet.get(name.clone()), packet.get(rest.clone())) {
        // Comparing whole names is comparing labels: their length octets are below any letter.
        (Some(got), Some(rest_got)) => {
            // Most servers keep the letter case.
            (*got == query[name.clone()] || got.eq_ignore_ascii_case(&query[name]))
                && *rest_got == query[rest]
        }
        _ => false,
    }
}

/// The upstream's OPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamOpt {
    /// The response code's upper eight bits.
    pub rcode_high: u8,
    /// Time for which the server keeps an idle connection, in units of 100 ms (RFC 7828 §3.1).
    pub(crate) keepalive: Option<u16>,
    /// Begin and end of the first extended error, code and length included (RFC 8914).
    pub(crate) extended_error: Option<(usize, usize)>,
}

impl UpstreamOpt {
    /// Reads the record. A malformed option is ignored with all that follow, because options are no
    /// reason to reject an answer.
    fn parse(packet: &[u8], record: &Record) -> Self {
        let rcode_high = packet[record.fixed + 4];
        let mut opt = Self { rcode_high, keepalive: None, extended_error: None };
        let options = &packet[..record.end];
        let mut place = record.data;
        while let (Some(code), Some(len)) = (u16_at(options, place), u16_at(options, place + 2)) {
            let end = place + 4 + usize::from(len);
            match code {
                _ if end > record.end => break,
                option::KEEPALIVE if len == 2 => opt.keepalive = u16_at(packet, place + 4),
                option::EDE if len >= 2 && opt.extended_error.is_none() => {
                    opt.extended_error = Some((place, end));
                }
                _ => {}
            }
            place = end;
        }
        opt
    }
}

/// Positions of the parts of a validated response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// The header's second word.
    pub(crate) flags: u16,
    /// Records in the answer, authority and additional sections, the OPT not counted.
    pub counts: [u16; 3],
    /// Offset of the first record, after the question.
    pub start: usize,
    /// End of the answer section.
    pub(crate) answers_end: usize,
    /// End of the records; the OPT and anything after it follow.
    pub end: usize,
    /// The upstream's OPT, if it sent one.
    pub opt: Option<UpstreamOpt>,
}

impl Response {
    /// Returns the response code, of 12 bits with EDNS.
    pub fn rcode(&self) -> u16 {
        let high = self.opt.map_or(0, |opt| u16::from(opt.rcode_high));
        high << 4 | self.flags & flags::RCODE
    }

    /// Returns the response without its records and with another code, as a reply of this server.
    pub(crate) fn without_records(&self, rcode: Rcode) -> Self {
        let flags = self.flags & !(flags::RCODE | flags::AA | flags::AD) | rcode as u16;
        let end = self.start;
        Self { flags, counts: [0; 3], start: end, answers_end: end, end, opt: None }
    }

    /// Walks all records. Returns `None` if one does not lie within the message or is malformed,
    /// the counts are too high, or there are two OPTs. Records behind an OPT, where servers put
    /// only signatures of the hop, are ignored.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        Self::behind(packet, Question::parse(packet)?.end())
    }

    /// The same for a response whose question is known to end at `start`.
    pub(crate) fn behind(packet: &[u8], start: usize) -> Option<Self> {
        let header: &[u8; HEADER_LEN] = packet.first_chunk()?;
        let word = |index: usize| u16::from_be_bytes([header[2 * index], header[2 * index + 1]]);
        let (flags, mut counts) = (word(1), [word(3), word(4), word(5)]);
        let (mut place, mut answers_end, mut end, mut opt) = (start, start, start, None);
        for (section, count) in counts.iter_mut().enumerate() {
            let mut kept = 0;
            for _ in 0..*count {
                let record = sound_record(packet, place)?;
                place = record.end;
                if record.rtype == rtype::OPT {
                    if section != 2 || opt.is_some() {
                        return None;
                    }
                    opt = Some(UpstreamOpt::parse(packet, &record));
                } else if opt.is_none() {
                    kept += 1;
                    end = place;
                }
            }
            *count = kept;
            if section == 0 {
                answers_end = end;
            }
        }
        Some(Self { flags, counts, start, answers_end, end, opt })
    }

    /// Returns the header and question of a response that the buffer could not hold, with TC set,
    /// so that the client asks again over TCP.
    pub fn of_truncated(packet: &[u8]) -> Option<Self> {
        let start = Question::parse(packet)?.end();
        let flags = u16_at(packet, 2)? | flags::TC;
        Some(Self { flags, counts: [0; 3], start, answers_end: start, end: start, opt: None })
    }
}
