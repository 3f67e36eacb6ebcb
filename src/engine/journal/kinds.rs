//! Kind of a reply for the filter of `log`: success, denial or error.
//!
//! Parsed from the reply's bytes, which we wrote, as far as needed. The kinds are the reference's:
//! a referral is a success, and so is an empty reply without SOA; NXDOMAIN with an answer is an
//! error, and so is a reply with an invalid signature for a client that wants signatures.

use crate::engine::message::query::Asked;
use crate::engine::message::{HEADER_LEN, NAME_LEN_MAX, Rcode, Record, rtype, u16_at, u32_at};

pub(crate) const SUCCESS: u8 = 1;
pub(crate) const DENIAL: u8 = 2;
/// An error, or no reply at all.
pub(crate) const ERROR: u8 = 4;
/// All kinds.
pub(crate) const ALL: u8 = SUCCESS | DENIAL | ERROR;

/// Returns the numbers of answer, authority and additional records.
fn counts(reply: &[u8]) -> [u16; 3] {
    [6, 8, 10].map(|place| u16_at(reply, place).unwrap_or(0))
}

/// The records of a reply whose question has `question_len` bytes, each with its section.
fn records(reply: &[u8], question_len: usize) -> impl Iterator<Item = (usize, Record)> {
    debug_assert!(question_len <= NAME_LEN_MAX + 4);
    let sections = (0..3).zip(counts(reply));
    let sections = sections.flat_map(|(section, count)| (0..count).map(move |_| section));
    let mut place = HEADER_LEN + question_len;
    sections.map_while(move |section| {
        let record = Record::parse(reply, place)?;
        place = record.end;
        Some((section, record))
    })
}

/// Outcome of a query, as in labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseType {
    /// An answer, or an empty reply.
    Answer,
    /// A referral to other servers.
    Referral,
    /// There is no such record.
    NoData,
    /// There is no such name.
    NoName,
    /// The server failed.
    ServerError,
    /// Anything else, or no reply.
    OtherError,
}

impl ResponseType {
    /// Returns the kind of the reply.
    pub(crate) fn rtype(self) -> u8 {
        match self {
            Self::Answer | Self::Referral => SUCCESS,
            Self::NoData | Self::NoName => DENIAL,
            Self::ServerError | Self::OtherError => ERROR,
        }
    }

    /// Returns the name of its kind.
    pub(crate) fn class_name(self) -> &'static str {
        match self.rtype() {
            SUCCESS => "success",
            DENIAL => "denial",
            _ => "error",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Answer => "NOERROR",
            Self::Referral => "DELEGATION",
            Self::NoData => "NODATA",
            Self::NoName => "NXDOMAIN",
            Self::ServerError => "SERVERERROR",
            Self::OtherError => "OTHERERROR",
        }
    }
}

/// Returns the kind of a reply with this code.
#[cfg(test)]
fn rtype_of(reply: &[u8], question_len: usize, asked: &Asked, rcode: u16, unix: u32) -> u8 {
    outcome_of(reply, question_len, asked, rcode, unix).rtype()
}

/// Returns the outcome of a reply with this code. `unix`: calendar time, for signatures.
pub(crate) fn outcome_of(
    reply: &[u8],
    question_len: usize,
    asked: &Asked,
    rcode: u16,
    unix: u32,
) -> ResponseType {
    let wants_signatures = asked.edns.is_some_and(|edns| edns.dnssec_ok);
    if wants_signatures && has_expired(reply, question_len, unix) {
        return ResponseType::OtherError;
    }
    const NO_ERROR: u16 = Rcode::NoError as u16;
    const NX_DOMAIN: u16 = Rcode::NxDomain as u16;
    const SERV_FAIL: u16 = Rcode::ServFail as u16;
    const NOT_IMP: u16 = Rcode::NotImp as u16;
    let has_answer = counts(reply)[0] > 0;
    match rcode {
        NO_ERROR if has_answer => ResponseType::Answer,
        NO_ERROR => {
            let has = |rtype: u16| {
                let is_one =
                    |(section, record): (usize, Record)| section == 1 && record.rtype == rtype;
                records(reply, question_len).any(is_one)
            };
            match () {
                () if has(rtype::SOA) => ResponseType::NoData,
                () if has(rtype::NS) => ResponseType::Referral,
                () => ResponseType::Answer,
            }
        }
        NX_DOMAIN if !has_answer => ResponseType::NoName,
        SERV_FAIL | NOT_IMP => ResponseType::ServerError,
        _ => ResponseType::OtherError,
    }
}

/// Returns true if one of its signatures is expired or not valid yet (RFC 4034 §3.1.5).
fn has_expired(reply: &[u8], question_len: usize, unix: u32) -> bool {
    let is_before = |one: u32, other: u32| (other.wrapping_sub(one) as i32) > 0;
    records(reply, question_len).filter(|(_, record)| record.rtype == rtype::RRSIG).any(
        |(_, record)| {
            let time = |offset| u32_at(&reply[..record.end], record.data + offset);
            let (Some(expires), Some(begins)) = (time(8), time(12)) else { return false };
            is_before(expires, unix) || is_before(unix, begins)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::{DENIAL, ERROR, SUCCESS, outcome_of, rtype_of};
    use crate::engine::message::query::{Asked, Edns};
    use crate::engine::message::u16_at;

    const QUESTION: &[u8] = b"\x01a\0\0\x01\0\x01";

    fn record(rtype: u16, data: &[u8]) -> Vec<u8> {
        let mut record = vec![0];
        record.extend(rtype.to_be_bytes());
        record.extend([0, 1, 0, 0, 0, 60]);
        record.extend((data.len() as u16).to_be_bytes());
        record.extend(data);
        record
    }

    /// A reply with these records by section.
    fn reply(rcode: u8, sections: [&[Vec<u8>]; 3]) -> Vec<u8> {
        let mut reply = vec![0, 7, 0x81, 0x80 | rcode, 0, 1];
        sections.iter().for_each(|section| reply.extend((section.len() as u16).to_be_bytes()));
        reply.extend(QUESTION);
        sections.iter().for_each(|section| reply.extend(section.concat()));
        reply
    }

    fn asked(edns: Option<bool>) -> Asked {
        let edns = edns.map(|dnssec_ok| Edns {
            udp_size: 1232,
            dnssec_ok,
            compact_ok: false,
            keepalive: false,
            nsid: false,
            padding: false,
            cookie: None,
        });
        Asked { id: 7, flags: 0x0100, edns }
    }

    fn rtype(reply: &[u8], asked: &Asked) -> u8 {
        let code = u16_at(reply, 2).unwrap_or(0) & 15;
        rtype_of(reply, QUESTION.len(), asked, code, 1_000)
    }

    #[test]
    fn kinds_are_those_of_the_reference() {
        let (a, ns, soa) = ([record(1, &[1; 4])], [record(2, &[0])], [record(6, &[0; 22])]);
        let both = [ns[0].clone(), soa[0].clone()];
        for (rcode, sections, expected) in [
            (0, [&a[..], &[], &[]], SUCCESS),
            (0, [&a, &soa, &[]], SUCCESS),
            (0, [&[], &ns, &a], SUCCESS),
            (0, [&[], &[], &[]], SUCCESS),
            (0, [&[], &[], &soa], SUCCESS),
            (0, [&[], &both, &[]], DENIAL),
            (3, [&[], &soa, &[]], DENIAL),
            (3, [&[], &[], &[]], DENIAL),
            (3, [&a, &soa, &[]], ERROR),
            (1, [&[], &[], &[]], ERROR),
            (2, [&[], &[], &[]], ERROR),
            (4, [&[], &[], &[]], ERROR),
            (5, [&[], &soa, &[]], ERROR),
        ] {
            assert_eq!(rtype(&reply(rcode, sections), &asked(None)), expected, "{rcode}");
        }
    }

    #[test]
    fn outcomes_of_replies_have_names() {
        let (a, ns, soa) = ([record(1, &[1; 4])], [record(2, &[0])], [record(6, &[0; 22])]);
        for (rcode, sections, expected) in [
            (0, [&a[..], &ns, &[]], "success NOERROR"),
            (0, [&[], &[], &[]], "success NOERROR"),
            (0, [&[], &ns, &a], "success DELEGATION"),
            (0, [&[], &soa, &[]], "denial NODATA"),
            (3, [&[], &soa, &[]], "denial NXDOMAIN"),
            (3, [&a, &soa, &[]], "error OTHERERROR"),
            (2, [&[], &[], &[]], "error SERVERERROR"),
            (4, [&[], &[], &[]], "error SERVERERROR"),
            (5, [&[], &[], &[]], "error OTHERERROR"),
        ] {
            let reply = reply(rcode as u8, sections);
            let outcome = outcome_of(&reply, QUESTION.len(), &asked(None), rcode, 1_000);
            assert_eq!(format!("{} {}", outcome.class_name(), outcome.name()), expected);
        }
    }

    #[test]
    fn an_invalid_signature_is_an_error_for_clients_that_want_signatures() {
        let signed = |expires: u32, begins: u32| {
            let mut data = vec![0, 1, 8, 1, 0, 0, 0, 60];
            data.extend(expires.to_be_bytes());
            data.extend(begins.to_be_bytes());
            data.extend([0, 7, 0]);
            reply(0, [&[record(1, &[1; 4]), record(46, &data)], &[], &[]])
        };
        for (expires, begins, expected) in
            [(2_000, 0, SUCCESS), (999, 0, ERROR), (2_000, 1_001, ERROR), (1_000, 1_000, SUCCESS)]
        {
            assert_eq!(rtype(&signed(expires, begins), &asked(Some(true))), expected);
            assert_eq!(rtype(&signed(expires, begins), &asked(Some(false))), SUCCESS);
            assert_eq!(rtype(&signed(expires, begins), &asked(None)), SUCCESS);
        }
    }

    #[test]
    fn a_truncated_reply_is_read_to_its_end() {
        let whole = reply(0, [&[], &[record(2, &[0]), record(6, &[0; 22])], &[]]);
        for len in 12..whole.len() {
            assert_eq!(rtype(&whole[..len], &asked(Some(true))), SUCCESS, "{len}");
        }
    }
}
