//! What the client gets.
//!
//! Either an upstream's response with the parts of the hop exchanged ([`write_answer`]) or a few
//! words of our own ([`write_error`]). In both the id, the question's spelling, RD and CD are the
//! client's; AD is passed only to who asked for it (RFC 6840 §5.8); an OPT of ours is there if and
//! only if the client sent one (RFC 6891 §7); and what exceeds the client's limit is cut between
//! two RRsets, with TC set and the OPT kept (RFC 2181 §9).

use super::query::{Asked, OPT_LEN, opt_record};
use super::response::Response;
use super::{HEADER_LEN, Rcode, Record, flags, option, put_u16, u16_at};

/// An extended error: its option's code, length and info code (RFC 8914 §2).
pub const EDE_LEN: usize = 6;
/// A longer extended error of an upstream, which carries a text, is not passed on.
pub const EDE_LEN_MAX: usize = 128;
/// How long a client's idle stream stays open, in units of 100 ms.
pub const STREAM_IDLE_UNITS: u16 = 100;
/// A keepalive option with a time-out (RFC 7828 §3.1).
const KEEPALIVE_LEN: usize = 6;
/// The longest reply of our own: header, question, OPT, extended error and keepalive.
pub const ERROR_LEN_MAX: usize =
    HEADER_LEN + super::NAME_LEN_MAX + 4 + OPT_LEN + EDE_LEN + KEEPALIVE_LEN;

/// Extended errors of our own (RFC 8914 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ExtendedError {
    /// The answer has expired; no newer one could be had yet.
    StaleAnswer = 3,
    /// A failure that is remembered.
    CachedError = 13,
    /// The denial of the name has expired; no newer answer could be had yet.
    StaleNxDomain = 19,
    /// Every upstream that was asked kept silent.
    NoReachableAuthority = 22,
    /// The network or this host would not carry the query.
    NetworkError = 23,
}

/// Writes the client's copy of `response`, found in `packet`, into `out` and returns its length.
/// `question`: name, type and class as the client spelt them. `limit`: bytes at most.
///
/// `out` must hold `limit` bytes, and `limit` be at least 512.
pub fn write_answer(
    out: &mut [u8],
    packet: &[u8],
    response: &Response,
    asked: &Asked,
    question: &[u8],
    limit: usize,
) -> usize {
    let passed = response.opt.and_then(|opt| opt.extended_error);
    let passed = passed.map(|(start, end)| &packet[start..end]);
    let error = passed.filter(|error| error.len() <= EDE_LEN_MAX).unwrap_or_default();
    let records = &packet[response.start..response.end];
    let fill = |out: &mut [u8]| out.copy_from_slice(records);
    write_whole(out, response, error, asked, question, limit, fill)
        .unwrap_or_else(|| write_cut(out, packet, response, error, asked, question, limit))
}

/// The same for a response whose records are not at hand in one piece: `fill` writes them, all
/// `response.end - response.start` bytes, behind the question. `error`: extended errors, codes and
/// lengths included. `None`, and nothing is written, if that is more than `limit`.
pub fn write_whole(
    out: &mut [u8],
    response: &Response,
    error: &[u8],
    asked: &Asked,
    question: &[u8],
    limit: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Option<usize> {
    let start = HEADER_LEN + question.len();
    let end = start + response.end - response.start;
    if end + opt_len(asked, error) > limit {
        return None;
    }
    let (word, rcode_high) = answer_flags(response, asked);
    write_counted_head(out, asked, word, response.counts, question);
    fill(&mut out[start..end]);
    Some(end + write_opt(&mut out[end..], asked, rcode_high, error))
}

/// The same for a response that is too long for its client: as many whole RRsets as fit, and TC.
pub fn write_cut(
    out: &mut [u8],
    packet: &[u8],
    response: &Response,
    error: &[u8],
    asked: &Asked,
    question: &[u8],
    limit: usize,
) -> usize {
    let start = HEADER_LEN + question.len();
    let room = limit - start - opt_len(asked, error);
    let (kept, counts) = cut(packet, response, response.start + room);
    let (word, rcode_high) = answer_flags(response, asked);
    write_counted_head(out, asked, word | flags::TC, counts, question);
    let end = start + kept - response.start;
    out[start..end].copy_from_slice(&packet[response.start..kept]);
    end + write_opt(&mut out[end..], asked, rcode_high, error)
}

/// The header's second word for the client, and the response code's upper bits.
fn answer_flags(response: &Response, asked: &Asked) -> (u16, u8) {
    let wants_ad = asked.flags & flags::AD != 0 || asked.edns.is_some_and(|edns| edns.dnssec_ok);
    let from_upstream = flags::AA | flags::TC | flags::RA | if wants_ad { flags::AD } else { 0 };
    let from_client = flags::RD | flags::CD;
    let rcode_high = response.opt.map_or(0, |opt| opt.rcode_high);
    // Without an OPT the upper bits have no place: the code would read as another one.
    let rcode = match (rcode_high, asked.edns) {
        (1.., None) => Rcode::ServFail as u16,
        _ => response.flags & flags::RCODE,
    };
    let passed = (response.flags & from_upstream) | (asked.flags & from_client);
    (flags::QR | passed | rcode, if asked.edns.is_some() { rcode_high } else { 0 })
}

/// The last end of an RRset at or before `limit` (an offset in `packet`), and the records up to
/// there by section.
fn cut(packet: &[u8], response: &Response, limit: usize) -> (usize, [u16; 3]) {
    let mut kept = (response.start, [0; 3]);
    let mut counts = [0; 3];
    let mut place = response.start;
    let mut before: Option<Record> = None;
    for section in 0..3 {
        for index in 0..response.counts[section] {
            let Some(record) = Record::parse(packet, place) else { return kept };
            let same_set =
                index > 0 && before.is_some_and(|before| before.is_of_set(&record, packet));
            if !same_set && place <= limit {
                kept = (place, counts);
            }
            if place > limit {
                return kept;
            }
            counts[section] += 1;
            place = record.end;
            before = Some(record);
        }
    }
    kept
}

/// Writes a reply of our own into `out`, which holds at least [`ERROR_LEN_MAX`] bytes, and returns
/// its length. `question` is empty when the client's could not be read.
pub fn write_error(
    out: &mut [u8],
    asked: &Asked,
    question: &[u8],
    rcode: Rcode,
    why: Option<ExtendedError>,
) -> usize {
    let code = rcode as u16;
    let carried = asked.flags & (flags::OPCODE | flags::RD | flags::CD);
    let word = flags::QR | flags::RA | carried | (code & flags::RCODE);
    let counted = u16::from(!question.is_empty());
    let header = [asked.id, word, counted, 0, 0, u16::from(asked.edns.is_some())];
    write_head(out, header, question);
    let end = HEADER_LEN + question.len();
    let error = why.map(extended_error);
    let error = error.as_ref().map_or(&[][..], |error| &error[..]);
    end + write_opt(&mut out[end..], asked, (code >> 4) as u8, error)
}

/// The option that tells of an extended error, code and length included.
pub fn extended_error(why: ExtendedError) -> [u8; EDE_LEN] {
    let mut error = [0; EDE_LEN];
    let words = [option::EDE, 2, why as u16];
    words.iter().enumerate().for_each(|(i, word)| put_u16(&mut error, 2 * i, *word));
    error
}

/// The head of a reply with so many records by section, and our OPT if the client sent one.
fn write_counted_head(out: &mut [u8], asked: &Asked, word: u16, counts: [u16; 3], question: &[u8]) {
    let additionals = counts[2] + u16::from(asked.edns.is_some());
    write_head(out, [asked.id, word, 1, counts[0], counts[1], additionals], question);
}

fn write_head(out: &mut [u8], header: [u16; 6], question: &[u8]) {
    for (index, word) in header.into_iter().enumerate() {
        put_u16(out, 2 * index, word);
    }
    out[HEADER_LEN..HEADER_LEN + question.len()].copy_from_slice(question);
}

/// The length of what [`write_opt`] writes.
fn opt_len(asked: &Asked, error: &[u8]) -> usize {
    asked
        .edns
        .map_or(0, |edns| OPT_LEN + error.len() + if edns.keepalive { KEEPALIVE_LEN } else { 0 })
}

/// Our OPT, if the client sent one, with the extended error `error` (code and length included);
/// returns its length.
fn write_opt(out: &mut [u8], asked: &Asked, rcode_high: u8, error: &[u8]) -> usize {
    let Some(edns) = asked.edns else { return 0 };
    let len = opt_len(asked, error);
    out[..OPT_LEN].copy_from_slice(&opt_record(edns.dnssec_ok, rcode_high, len - OPT_LEN));
    let keepalive = OPT_LEN + error.len();
    out[OPT_LEN..keepalive].copy_from_slice(error);
    if edns.keepalive {
        let words = [option::KEEPALIVE, 2, STREAM_IDLE_UNITS];
        words.iter().enumerate().for_each(|(i, word)| put_u16(out, keepalive + 2 * i, *word));
    }
    len
}

/// The response code in a reply that we wrote, for counting.
pub fn rcode(reply: &[u8]) -> u16 {
    u16_at(reply, 2).unwrap_or(0) & flags::RCODE
}
