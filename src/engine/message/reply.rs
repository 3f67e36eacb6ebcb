//! Replies to clients.
//!
//! An upstream's response adapted to the client's hop ([`write_answer`]), or a reply of our own
//! ([`super::compose`]). In both the id, the question's spelling, RD and CD are the client's; AD is
//! passed only to clients that asked for it (RFC 6840 §5.8); our OPT is present if and only if the
//! client sent one (RFC 6891 §7); a reply beyond the client's limit loses its optional part, or TC
//! is set (`super::cut`), and keeps its OPT. [`Finish`] has the server block's settings.

use super::cookie::COOKIE_LEN;
use super::cut::{Kept, cut};
use super::opt::{EDE_LEN, OPT_LEN, OPTION_HEAD, opt_record, pad};
use super::query::{Asked, Edns};
use super::response::Response;
use super::{
    HEADER_LEN, Question, Rcode, UDP_PAYLOAD_MAX, flags, option, put_u16, rtype, u16_at, write_head,
};

/// Maximum length of an upstream's extended error that is passed on.
pub(crate) const EDE_LEN_MAX: usize = 128;
/// Time for which an idle connection of a client stays open, in units of 100 ms.
pub(crate) const TCP_IDLE_UNITS: u16 = 100;
/// Block length of padded replies (RFC 8467 §4.1).
const PADDED_REPLY: usize = 468;
/// A keepalive option with a time-out (RFC 7828 §3.1).
const KEEPALIVE_LEN: usize = 6;
/// Maximum length of a server's identifier (RFC 5001); with the longest question and all other
/// options of ours it fits into 512 bytes.
pub(crate) const NSID_LEN_MAX: usize = 64;
/// Maximum length of an error: header, question, OPT, extended error, keepalive, NSID and cookie.
pub const ERROR_LEN_MAX: usize = HEADER_LEN
    + super::NAME_LEN_MAX
    + 4
    + OPT_LEN
    + EDE_LEN
    + KEEPALIVE_LEN
    + (OPTION_HEAD + NSID_LEN_MAX)
    + (OPTION_HEAD + COOKIE_LEN);

// What stands around the records of a truncated answer fits into the shortest limit of a client:
// header, question, OPT, our and the upstream's extended error, NSID and cookie. Keepalive is for
// connections, which have no such limit.
const _: () = assert!(
    ERROR_LEN_MAX - KEEPALIVE_LEN + EDE_LEN_MAX <= super::UDP_PAYLOAD_PLAIN,
    "write_cut subtracts them"
);

/// Extended errors of our own (RFC 8914 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ExtendedError {
    /// The answer has expired, and no newer one could be obtained yet.
    StaleAnswer = 3,
    /// A cached failure.
    CachedError = 13,
    /// The zone has not been loaded yet.
    NotReady = 14,
    /// Blocked by the operator of this server.
    Blocked = 15,
    /// Filtered by the operator of this server at the client's request.
    Filtered = 17,
    /// The denial of the name has expired, and no newer answer could be obtained yet.
    StaleNxDomain = 19,
    /// All upstreams that were asked timed out.
    NoReachableAuthority = 22,
    /// The network or this host could not send the query.
    NetworkError = 23,
}

/// Settings of a server block for its replies.
#[derive(Clone, Copy, Debug)]
pub struct Finish<'a> {
    /// The UDP payload that our OPT advertises.
    pub(crate) udp_size: u16,
    /// Time for which an idle connection stays open, in units of 100 ms.
    pub(crate) keepalive: u16,
    /// The server's identifier, for clients that ask for it. At most [`NSID_LEN_MAX`] bytes.
    pub(crate) nsid: Option<&'a [u8]>,
    /// Changes of the header's second word. Not applied to errors of our own.
    pub(crate) header: Masks,
    /// Positive answers are reduced to their answer section.
    pub(crate) minimal: bool,
}

impl Finish<'_> {
    /// Default settings.
    pub const PLAIN: Self = Self {
        udp_size: UDP_PAYLOAD_MAX as u16,
        keepalive: TCP_IDLE_UNITS,
        nsid: None,
        header: Masks { set: 0, clear: 0 },
        minimal: false,
    };
}

/// Bits that are set, and bits that are cleared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Masks {
    /// Bits that are set.
    pub(crate) set: u16,
    /// Bits that are cleared.
    pub(crate) clear: u16,
}

impl Masks {
    /// `word` with the bits set and cleared.
    pub(crate) fn apply(self, word: u16) -> u16 {
        word & !self.clear | self.set
    }
}

/// Recipient of a reply.
#[derive(Clone, Copy, Debug)]
pub struct ReplyTo<'a> {
    /// Facts about the query.
    pub asked: &'a Asked,
    /// Name, type and class as the client spelt them.
    pub question: &'a [u8],
    /// Maximum length in bytes, at least 512.
    pub limit: usize,
    /// Settings of the server block.
    pub finish: Finish<'a>,
}

/// Writes the client's copy of `response`, found in `packet`, into `out`, which holds `to.limit`
/// bytes, and returns its length.
#[inline(always)]
pub fn write_answer(out: &mut [u8], packet: &[u8], response: &Response, to: &ReplyTo<'_>) -> usize {
    let slim = if to.finish.minimal { minimal(response) } else { None };
    let response = slim.as_ref().unwrap_or(response);
    let passed = response.opt.and_then(|opt| opt.extended_error);
    let passed = passed.map(|(start, end)| &packet[start..end]);
    let error = passed.filter(|error| error.len() <= EDE_LEN_MAX).unwrap_or_default();
    let records = &packet[response.start..response.end];
    let fill = |out: &mut [u8]| out.copy_from_slice(records);
    write_whole(out, response, error, to, fill)
        .unwrap_or_else(|| write_cut(out, packet, response, error, to))
}

/// The same for a response whose records are not contiguous: `fill` writes all of them, from
/// `response.start` to `response.end`, behind the question. `error`: extended errors, codes and
/// lengths included. Returns `None` and writes nothing if the reply exceeds the client's limit.
#[inline(always)]
pub(crate) fn write_whole(
    out: &mut [u8],
    response: &Response,
    error: &[u8],
    to: &ReplyTo<'_>,
    fill: impl FnOnce(&mut [u8]),
) -> Option<usize> {
    let start = HEADER_LEN + to.question.len();
    let end = start + response.end - response.start;
    if end + opt_len(to.asked, error.len(), &to.finish) > to.limit {
        return None;
    }
    let (word, rcode_high) = answer_flags(response, to.asked);
    write_answer_head(out, to, word, response.counts);
    fill(&mut out[start..end]);
    Some(end + write_opt(out, end, to.asked, rcode_high, error, &to.finish))
}

/// The same for a response that exceeds the client's limit: as many whole RRsets as fit, and TC if
/// a required one is missing.
pub(crate) fn write_cut(
    out: &mut [u8],
    packet: &[u8],
    response: &Response,
    error: &[u8],
    to: &ReplyTo<'_>,
) -> usize {
    let start = HEADER_LEN + to.question.len();
    let room = to.limit - start - opt_len(to.asked, error.len(), &to.finish);
    let kept = cut(packet, response, response.start + room);
    let Kept { end: kept_end, counts, truncated } = kept;
    let (word, rcode_high) = answer_flags(response, to.asked);
    write_answer_head(out, to, word | if truncated { flags::TC } else { 0 }, counts);
    let end = start + kept_end - response.start;
    out[start..end].copy_from_slice(&packet[response.start..kept_end]);
    end + write_opt(out, end, to.asked, rcode_high, error, &to.finish)
}

/// Returns a positive answer without its authority and additional sections. `None` for any other
/// response, which needs those sections.
pub(crate) fn minimal(response: &Response) -> Option<Response> {
    let positive = response.rcode() == Rcode::NoError as u16
        && (response.counts[0] > 0 || response.counts[1] == 0);
    let counts = [response.counts[0], 0, 0];
    positive.then_some(Response { counts, end: response.answers_end, ..*response })
}

/// Returns the header's second word for the client, and the response code's upper bits.
fn answer_flags(response: &Response, asked: &Asked) -> (u16, u8) {
    let wants_ad = asked.flags & flags::AD != 0 || asked.edns.is_some_and(|edns| edns.dnssec_ok);
    let from_upstream = flags::AA | flags::TC | flags::RA | if wants_ad { flags::AD } else { 0 };
    let from_client = flags::RD | flags::CD;
    let rcode = rcode_for(response, asked);
    let passed = (response.flags & from_upstream) | (asked.flags & from_client);
    (flags::QR | passed | rcode & flags::RCODE, (rcode >> 4) as u8)
}

/// Writes the header of an upstream's answer with these counts by section, and the question; our
/// OPT is counted if the client sent one.
fn write_answer_head(out: &mut [u8], to: &ReplyTo<'_>, word: u16, counts: [u16; 3]) {
    let additionals = counts[2] + u16::from(to.asked.edns.is_some());
    let word = to.finish.header.apply(word);
    write_head(out, [to.asked.id, word, 1, counts[0], counts[1], additionals]);
    out[HEADER_LEN..HEADER_LEN + to.question.len()].copy_from_slice(to.question);
}

/// Length of the OPT by [`write_opt`], without padding.
pub(super) fn opt_len(asked: &Asked, error_len: usize, finish: &Finish<'_>) -> usize {
    asked.edns.as_ref().map_or(0, |edns| {
        let options = if edns.wants_options() { options_len(edns, finish) } else { 0 };
        OPT_LEN + error_len + options
    })
}

/// Length of the options that the client asked for, without padding.
fn options_len(edns: &Edns, finish: &Finish<'_>) -> usize {
    let keepalive = if edns.keepalive { KEEPALIVE_LEN } else { 0 };
    let nsid = finish.nsid.filter(|_| edns.nsid).map_or(0, |nsid| OPTION_HEAD + nsid.len());
    let cookie = if edns.cookie.is_some() { OPTION_HEAD + COOKIE_LEN } else { 0 };
    keepalive + nsid + cookie
}

/// Writes our OPT at `end`, if the client sent one, with the extended error `error` (code and
/// length included); returns its length. Padding is reduced to the room that is left: padded
/// replies go over connections, whose limit is high.
pub(super) fn write_opt(
    reply: &mut [u8],
    end: usize,
    asked: &Asked,
    rcode_high: u8,
    error: &[u8],
    finish: &Finish<'_>,
) -> usize {
    let Some(edns) = &asked.edns else { return 0 };
    if edns.wants_options() {
        return write_options(reply, end, edns, rcode_high, error, finish);
    }
    let opt = opt_record(finish.udp_size, edns.dnssec_ok, rcode_high, error.len());
    let len = OPT_LEN + error.len();
    let out = &mut reply[end..end + len];
    out[..OPT_LEN].copy_from_slice(&opt);
    out[OPT_LEN..].copy_from_slice(error);
    len
}

/// The same with the options that the client asked for.
#[inline(never)]
fn write_options(
    reply: &mut [u8],
    end: usize,
    edns: &Edns,
    rcode_high: u8,
    error: &[u8],
    finish: &Finish<'_>,
) -> usize {
    let len = OPT_LEN + error.len() + options_len(edns, finish);
    let padding = if edns.padding { pad(reply, end + len, PADDED_REPLY) } else { 0 };
    let options_len = len + padding - OPT_LEN;
    let opt = opt_record(finish.udp_size, edns.dnssec_ok, rcode_high, options_len);
    let out = &mut reply[end..];
    out[..OPT_LEN].copy_from_slice(&opt);
    let mut place = OPT_LEN;
    let mut put = |code: u16, data: &[u8]| {
        put_u16(out, place, code);
        put_u16(out, place + 2, data.len() as u16);
        place += OPTION_HEAD + data.len();
        out[place - data.len()..place].copy_from_slice(data);
    };
    if let Some(nsid) = finish.nsid.filter(|_| edns.nsid) {
        put(option::NSID, nsid);
    }
    if let Some(cookie) = &edns.cookie {
        put(option::COOKIE, cookie.as_bytes());
    }
    out[place..place + error.len()].copy_from_slice(error);
    place += error.len();
    if edns.keepalive {
        let words = [option::KEEPALIVE, 2, finish.keepalive];
        words.iter().enumerate().for_each(|(i, word)| put_u16(out, place + 2 * i, *word));
    }
    len + padding
}

/// Returns the response code in the header of a reply of ours.
pub fn rcode(reply: &[u8]) -> u16 {
    u16_at(reply, 2).unwrap_or(0) & flags::RCODE
}

/// Returns the response code of 12 bits of a reply of ours. The upper bits are only read in errors,
/// which have no record but an OPT behind the question.
#[inline(never)]
pub(crate) fn extended_rcode(reply: &[u8]) -> u16 {
    let counts = [6, 8, 10].map(|place| u16_at(reply, place));
    if counts != [Some(0), Some(0), Some(1)] {
        return rcode(reply);
    }
    let question = Question::parse(reply).filter(|_| u16_at(reply, 4) == Some(1));
    let opt = question.map_or(HEADER_LEN, |question| question.end());
    let is_opt = u16_at(reply, opt + 1) == Some(rtype::OPT);
    let high = reply.get(opt + 5).filter(|_| is_opt).map_or(0, |high| u16::from(*high));
    high << 4 | rcode(reply)
}

/// Returns the response code of 12 bits for the client: without EDNS an extended one becomes
/// SERVFAIL, because its lower bits alone would mean another code.
pub(crate) fn rcode_for(response: &Response, asked: &Asked) -> u16 {
    match response.rcode() {
        16.. if asked.edns.is_none() => Rcode::ServFail as u16,
        rcode => rcode,
    }
}
