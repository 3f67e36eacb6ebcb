//! Queries of clients, and the queries that are sent upstream for them.
//!
//! A query is parsed in place. The upstream query is written anew: a header with an id of our own,
//! the question as the client spelt it, and an OPT of our own, because EDNS is hop by hop (RFC 6891
//! §6): only the DO bit, a client-subnet option, and options added by `rewrite edns0` pass. So two
//! clients with the same question get the same upstream query, except for letter case.

use super::cookie::{Cookie, CookieState};
use super::name::WireQuestion;
use super::opt::{OPT_LEN, OPTION_HEAD, opt_record, pad};
use super::{
    HEADER_LEN, NAME_LEN_MAX, Question, Rcode, Record, UDP_PAYLOAD_MAX, UDP_PAYLOAD_PLAIN, flags,
    option, put_u16, rtype, u16_at, u32_at,
};
use crate::engine::key::Way;

/// The longest client-subnet option: code, length, family, two prefixes and an IPv6 address.
pub(crate) const SUBNET_LEN_MAX: usize = 4 + 4 + 16;
/// Option that requests the idle time of a connection: code and an empty value.
const ASK_KEEPALIVE: [u8; 4] = [0, option::KEEPALIVE as u8, 0, 0];
/// Block length of queries over TLS (RFC 8467 §4.1).
const PADDED_QUERY: usize = 128;
/// Maximum length of an upstream query: header, question, OPT and its options. A multiple of
/// [`PADDED_QUERY`], and no power of two, so that the heads of many do not compete for one place in
/// the processor's caches.
pub const UPSTREAM_LEN_MAX: usize = 5 * PADDED_QUERY;
/// Maximum length of the options that pass to an upstream, codes and lengths included: the room
/// left by the longest question, keepalive and an empty padding.
pub(crate) const OPTIONS_LEN_MAX: usize = UPSTREAM_LEN_MAX
    - (HEADER_LEN + NAME_LEN_MAX + 4 + OPT_LEN + ASK_KEEPALIVE.len() + OPTION_HEAD);
const _: () = assert!(OPTIONS_LEN_MAX >= SUBNET_LEN_MAX, "a client's subnet always fits");

/// A client's EDNS parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// UDP payload size, as advertised.
    pub udp_size: u16,
    /// The DO bit is set.
    pub dnssec_ok: bool,
    /// The CO bit is set: denials that are signed when they are sent may have NXDOMAIN (RFC 9824
    /// §5.1).
    pub compact_ok: bool,
    /// The client wants the idle time of its connection (RFC 7828).
    pub keepalive: bool,
    /// The client wants the server's identifier (RFC 5001).
    pub nsid: bool,
    /// The client uses padding, so answers are padded (RFC 7830).
    pub padding: bool,
    /// The client's cookie, with the server cookie of the reply (RFC 7873).
    pub cookie: Option<Cookie>,
}

impl Edns {
    /// Returns true if the reply may have options that the client asked for.
    #[inline]
    pub(crate) fn wants_options(&self) -> bool {
        self.keepalive | self.nsid | self.padding | self.cookie.is_some()
    }
}

/// Facts about a query that its reply needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The client's id.
    pub id: u16,
    /// The header's second word.
    pub flags: u16,
    /// EDNS parameters, if the client used EDNS.
    pub edns: Option<Edns>,
}

impl Asked {
    /// Returns the parameters of a query over UDP or HTTP, where keepalive has no meaning (RFC 7828
    /// §3.2.1, RFC 8484 §5.1).
    pub(crate) fn without_keepalive(mut self) -> Self {
        if let Some(edns) = &mut self.edns {
            edns.keepalive = false;
        }
        self
    }

    /// Returns the parameters of a query without encryption, where replies are not padded (RFC 7830
    /// §6).
    pub(crate) fn in_the_clear(mut self) -> Self {
        if let Some(edns) = &mut self.edns {
            edns.padding = false;
        }
        self
    }

    /// Returns the parameters of a query whose reply is padded although the client has not padded
    /// the query (RFC 9250 §5.4).
    pub(crate) fn padded(mut self) -> Self {
        if let Some(edns) = &mut self.edns {
            edns.padding = true;
        }
        self
    }

    /// Returns the validity of the server cookie in the query. `None`: the client has no cookie, or
    /// gets none.
    pub(crate) fn cookie_state(&self) -> Option<CookieState> {
        let cookie = self.edns.as_ref().and_then(|edns| edns.cookie.as_ref());
        cookie.map(|cookie| cookie.state)
    }

    /// Maximum length of a UDP reply to this client.
    pub fn udp_limit(&self) -> usize {
        self.edns.map_or(UDP_PAYLOAD_PLAIN, |edns| {
            usize::from(edns.udp_size).clamp(UDP_PAYLOAD_PLAIN, UDP_PAYLOAD_MAX)
        })
    }
}

/// Returns true if `packet` is a query with the option for the idle time of its connection, which
/// queries over QUIC must not have (RFC 9250 §5.5.2).
pub(crate) fn has_keepalive(packet: &[u8]) -> bool {
    let asked = match Query::parse(packet, false) {
        Ok(query) => query.asked,
        Err(Rejection::Refusal { asked, .. }) => asked,
        Err(Rejection::TooShort | Rejection::IsResponse) => return false,
    };
    asked.edns.is_some_and(|edns| edns.keepalive)
}

/// A header and a question.
pub(crate) type QueryHead = [u8; HEADER_LEN + NAME_LEN_MAX + 4];

/// A query that can be forwarded.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Header and question, and the client's other records.
    packet: &'a [u8],
    /// Length of the client's packet.
    size: u16,
    /// Facts that the reply needs.
    pub asked: Asked,
    /// The question.
    pub question: Question,
    /// Options that pass to the upstream, codes and lengths included: the client-subnet option of
    /// the client's OPT, or the options that `rewrite` rules have made of it.
    options: &'a [u8],
    /// The options are part of the cache key: an answer is cached for queries with the same ones.
    /// False for a client-subnet option of the client's.
    is_keyed: bool,
    /// Signer of the query, whose signature was verified and removed.
    pub(crate) signed_by: SignedBy,
}

/// Signer of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignedBy {
    /// There was no signature.
    Nobody,
    /// The holder of the key with this number among those of the server block.
    Key(u32),
}

/// Reason why a packet cannot be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Shorter than a header: no reply, because there is no id.
    TooShort,
    /// A response: no reply, it could feed a loop between two servers.
    IsResponse,
    /// The client gets an error. The question is echoed only if it could be read.
    Refusal {
        /// Response code of the reply.
        rcode: Rcode,
        /// Parameters of the query, as far as they could be read.
        asked: Asked,
        /// The question, unless it is malformed.
        question: Option<Question>,
    },
}

impl<'a> Query<'a> {
    /// Reads a client's packet. `truncated`: the buffer did not hold all of it.
    ///
    /// # Errors
    /// Too short or QR=1: no reply. Another opcode: NOTIMP. Not exactly one question (RFC 9619), a
    /// malformed name, record or cookie, two OPTs (RFC 6891 §6.1.1): FORMERR. No question but a
    /// cookie: NOERROR (RFC 7873 §5.4). A newer EDNS version: BADVERS. Signed with TSIG: REFUSED,
    /// since the signature does not survive a new id (RFC 8945 §5.5 requires it to be forwarded
    /// unchanged or not at all). A zone transfer: NOTIMP, since its answer has many messages, and
    /// the first alone would be taken for all of them.
    pub fn parse(packet: &'a [u8], truncated: bool) -> Result<Self, Rejection> {
        Self::parse_as::<false>(packet, truncated)
    }

    /// The same for a server block that answers zone transfers itself.
    ///
    /// # Errors
    /// As [`Query::parse`], except for AXFR and IXFR.
    pub(crate) fn parse_transfer(packet: &'a [u8], truncated: bool) -> Result<Self, Rejection> {
        Self::parse_as::<true>(packet, truncated)
    }

    #[inline(always)]
    fn parse_as<const TRANSFERS: bool>(
        packet: &'a [u8],
        truncated: bool,
    ) -> Result<Self, Rejection> {
        if packet.len() < HEADER_LEN {
            return Err(Rejection::TooShort);
        }
        let word = |index: usize| u16_at(packet, 2 * index).unwrap_or(0);
        let mut asked = Asked { id: word(0), flags: word(1), edns: None };
        if asked.flags & flags::QR != 0 {
            return Err(Rejection::IsResponse);
        }
        let refuse = |rcode, asked, question| Rejection::Refusal { rcode, asked, question };
        let [questions, answers, authorities, additionals] = [word(2), word(3), word(4), word(5)];
        let question = match Question::parse(packet) {
            Some(question) if questions == 1 => question,
            _ if asked.flags & flags::OPCODE != 0 => {
                return Err(refuse(Rcode::NotImp, asked, None));
            }
            _ if questions == 0 => return Err(without_question(packet, asked)),
            _ => return Err(refuse(Rcode::FormErr, asked, None)),
        };
        // Every reply to a client that uses EDNS has an OPT, errors included.
        let mut extras = Extras::default();
        let counts = [answers.saturating_add(authorities), additionals];
        let whole = extras.read(packet, question.end(), counts);
        asked.edns = extras.edns;
        if asked.flags & flags::OPCODE != 0 {
            return Err(refuse(Rcode::NotImp, asked, None));
        }
        // At most an IXFR's SOA, an OPT and a TSIG are legitimate.
        if truncated || whole.is_none() || answers > 1 || authorities > 1 || additionals > 2 {
            return Err(refuse(Rcode::FormErr, asked, Some(question)));
        }
        if extras.version > 0 {
            return Err(refuse(Rcode::BadVers, asked, Some(question)));
        }
        if extras.signed {
            return Err(refuse(Rcode::Refused, asked, Some(question)));
        }
        if matches!(question.rtype, rtype::IXFR | rtype::AXFR) && !TRANSFERS {
            return Err(refuse(Rcode::NotImp, asked, Some(question)));
        }
        let size = packet.len() as u16;
        Ok(Self {
            packet,
            size,
            asked,
            question,
            options: extras.subnet,
            is_keyed: false,
            signed_by: SignedBy::Nobody,
        })
    }

    /// Header and question, and the client's other records if the packet was not changed.
    pub(crate) fn packet(&self) -> &'a [u8] {
        self.packet
    }

    /// Length of the client's packet.
    pub(crate) fn size(&self) -> u16 {
        self.size
    }

    /// The same query for another question, which is written into `head`.
    pub(crate) fn with_question<'b>(
        &self,
        asking: &WireQuestion,
        head: &'b mut QueryHead,
    ) -> Query<'b>
    where
        'a: 'b,
    {
        head[..HEADER_LEN].copy_from_slice(&self.packet[..HEADER_LEN]);
        let question = put_question(head, asking);
        Query { packet: &head[..question.end()], question, ..*self }
    }

    /// A query of our own in a client's form, with this client-subnet option in its OPT unless it
    /// is empty. The question is written into `head`.
    pub(crate) fn of(
        asking: &WireQuestion,
        asked: Asked,
        subnet: &'a [u8],
        head: &'a mut QueryHead,
    ) -> Self {
        let words = [asked.id, asked.flags, 1, 0, 0, 0];
        words.iter().enumerate().for_each(|(index, word)| put_u16(head, 2 * index, *word));
        let question = put_question(head, asking);
        let packet = &head[..question.end()];
        let size = packet.len() as u16;
        Query {
            packet,
            size,
            asked,
            question,
            options: subnet,
            is_keyed: false,
            signed_by: SignedBy::Nobody,
        }
    }

    /// The same query with other options for the upstream, at most [`OPTIONS_LEN_MAX`] bytes.
    /// `is_keyed`: none of them is the client's own subnet.
    pub(crate) fn with_options<'b>(&self, options: &'b [u8], is_keyed: bool) -> Query<'b>
    where
        'a: 'b,
    {
        debug_assert!(options.len() <= OPTIONS_LEN_MAX, "they have no room upstream");
        Query { options, is_keyed, ..*self }
    }

    /// The options that pass to the upstream, codes and lengths included.
    pub(crate) fn options(&self) -> &'a [u8] {
        self.options
    }

    /// Returns the client-subnet option that passes to the upstream; empty if there is none, or if
    /// a rule has added one that is too long for a subnet.
    pub(crate) fn subnet(&self) -> &'a [u8] {
        let mut found = options(self.options).filter(|(code, _)| *code == option::ECS);
        let found = found.next().map_or(&[][..], |(_, whole)| whole);
        if found.len() <= SUBNET_LEN_MAX { found } else { &[] }
    }

    /// The options in the client's OPT, if the packet was not changed: the code of each, and the
    /// whole option.
    pub(crate) fn client_options(&self) -> impl Iterator<Item = (u16, &'a [u8])> {
        options(self.client_opt().unwrap_or_default())
    }

    /// Returns the data of the client's OPT.
    fn client_opt(&self) -> Option<&'a [u8]> {
        let mut place = self.question.end();
        let records: u16 = (3..6).filter_map(|word| u16_at(self.packet, 2 * word)).sum();
        for _ in 0..records {
            let record = Record::parse(self.packet, place)?;
            if record.rtype == rtype::OPT {
                return Some(&self.packet[record.data..record.end]);
            }
            place = record.end;
        }
        None
    }

    /// Serial of the zone that the client of an incremental transfer has: that of the SOA record in
    /// the authority section (RFC 1995 §3).
    pub(crate) fn held_serial(&self) -> Option<u32> {
        let record = Record::parse(self.packet, self.question.end())?;
        let serial = record.end.checked_sub(20).filter(|place| *place > record.data)?;
        (record.rtype == rtype::SOA).then(|| u32_at(self.packet, serial)).flatten()
    }

    /// The name's bytes as the client spelt them.
    pub fn name(&self) -> &'a [u8] {
        self.question.name(self.packet)
    }

    /// Returns true if options pass to the upstream, on which its answer may depend.
    #[inline]
    pub(crate) fn has_options(&self) -> bool {
        !self.options.is_empty()
    }

    /// Returns true if an answer may be cached for queries with the same options. Not with a
    /// client's own subnet (RFC 7871).
    pub(crate) fn is_keyed(&self) -> bool {
        self.is_keyed
    }

    /// Name, type and class as the client wrote them.
    pub fn question_bytes(&self) -> &'a [u8] {
        &self.packet[HEADER_LEN..self.question.end()]
    }

    /// Writes the upstream query with id zero, and returns its length. [`add_options`] adds options
    /// for each attempt. `udp_size`: the UDP payload size that our OPT advertises.
    pub fn write_upstream(&self, out: &mut [u8; UPSTREAM_LEN_MAX], udp_size: u16) -> usize {
        let carried = flags::RD | flags::AD | flags::CD;
        let header = [0, self.asked.flags & carried, 1, 0, 0, 1];
        for (index, word) in header.into_iter().enumerate() {
            put_u16(out, 2 * index, word);
        }
        let end = self.question.end();
        out[HEADER_LEN..end].copy_from_slice(&self.packet[HEADER_LEN..end]);
        let dnssec_ok = self.asked.edns.is_some_and(|edns| edns.dnssec_ok);
        let opt = opt_record(udp_size, dnssec_ok, 0, self.options.len());
        let mut len = end;
        for part in [&opt[..], self.options] {
            out[len..len + part.len()].copy_from_slice(part);
            len += part.len();
        }
        len
    }
}

/// The options in an OPT's data: the code of each, and the whole option. Ends at a malformed one.
pub(crate) fn options(data: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let code = u16_at(rest, 0)?;
        let len = OPTION_HEAD + usize::from(u16_at(rest, 2)?);
        let (whole, behind) = rest.split_at_checked(len)?;
        rest = behind;
        Some((code, whole))
    })
}

/// Writes a question behind the header in `head`.
fn put_question(head: &mut QueryHead, asking: &WireQuestion) -> Question {
    let name = asking.name.as_bytes();
    let end = HEADER_LEN + name.len();
    head[HEADER_LEN..end].copy_from_slice(name);
    put_u16(head, end, asking.rtype);
    put_u16(head, end + 2, asking.class);
    Question { name_len: name.len(), rtype: asking.rtype, class: asking.class }
}

/// Adds the options that depend on the transport. On connections the server is asked for the idle
/// time (RFC 7828 §3.2.1); over TLS the query is padded, so that its length does not reveal its
/// name. `query` is one of [`Query::write_upstream`], which returned `len`, and its OPT begins at
/// `opt`. Returns the new length.
pub fn add_options(query: &mut [u8; UPSTREAM_LEN_MAX], opt: usize, len: usize, way: Way) -> usize {
    let mut end = len;
    if matches!(way, Way::Tcp | Way::Secure) {
        end += ASK_KEEPALIVE.len();
        query[len..end].copy_from_slice(&ASK_KEEPALIVE);
    }
    if matches!(way, Way::Secure | Way::Https | Way::SecureGrpc | Way::Quic) {
        end += pad(query, end, PADDED_QUERY);
    }
    put_u16(query, opt + OPT_LEN - 2, (end - opt - OPT_LEN) as u16);
    end
}

/// Returns the refusal of a query without a question: a client with a cookie gets an empty reply,
/// from which it learns a server cookie (RFC 7873 §5.4).
#[cold]
fn without_question(packet: &[u8], mut asked: Asked) -> Rejection {
    let count = |index: usize| u16_at(packet, 2 * index).unwrap_or(0);
    let mut extras = Extras::default();
    let counts = [count(3).saturating_add(count(4)), count(5)];
    let whole = extras.read(packet, HEADER_LEN, counts);
    asked.edns = extras.edns;
    let has_cookie = asked.edns.is_some_and(|edns| edns.cookie.is_some());
    let rcode = match whole {
        Some(()) if extras.version > 0 => Rcode::BadVers,
        Some(()) if has_cookie && counts == [0, 1] => Rcode::NoError,
        _ => Rcode::FormErr,
    };
    Rejection::Refusal { rcode, asked, question: None }
}

/// Contents of the records after a query's question.
#[derive(Default)]
struct Extras<'a> {
    edns: Option<Edns>,
    version: u8,
    signed: bool,
    subnet: &'a [u8],
}

impl<'a> Extras<'a> {
    /// `counts`: number of records before the additional section, and in it. Returns `None` if they
    /// are malformed; an OPT before that is recorded nevertheless.
    #[inline(always)]
    fn read(&mut self, packet: &'a [u8], start: usize, counts: [u16; 2]) -> Option<()> {
        let mut place = start;
        for additional in [false, true] {
            for _ in 0..counts[usize::from(additional)] {
                let record = Record::parse(packet, place)?;
                place = record.end;
                match record.rtype {
                    rtype::OPT if additional => self.read_opt(packet, &record)?,
                    rtype::OPT => return None,
                    rtype::TSIG => self.signed = true,
                    _ => {}
                }
            }
        }
        Some(())
    }

    #[inline(always)]
    fn read_opt(&mut self, packet: &'a [u8], record: &Record) -> Option<()> {
        let named = packet[record.start] != 0;
        if named || self.edns.is_some() {
            return None;
        }
        let flags = packet[record.fixed + 6];
        let (dnssec_ok, compact_ok) = (flags & 0x80 != 0, flags & 0x40 != 0);
        self.version = packet[record.fixed + 5];
        let (mut keepalive, mut nsid, mut padding, mut cookie) = (false, false, false, None);
        let udp_size = record.class;
        self.edns =
            Some(Edns { udp_size, dnssec_ok, compact_ok, keepalive, nsid, padding, cookie });
        let mut place = record.data;
        while place < record.end {
            let code = u16_at(packet, place)?;
            let end = place + 4 + usize::from(u16_at(packet, place + 2)?);
            if end > record.end || (code == option::ECS && end - place > SUBNET_LEN_MAX) {
                return None;
            }
            if code == option::ECS {
                self.subnet = &packet[place..end];
            }
            keepalive |= code == option::KEEPALIVE;
            nsid |= code == option::NSID;
            padding |= code == option::PADDING;
            // Only the first counts (RFC 7873 §5.2).
            if code == option::COOKIE && cookie.is_none() {
                cookie = Some(Cookie::read(&packet[place + 4..end])?);
            }
            place = end;
        }
        self.edns =
            Some(Edns { udp_size, dnssec_ok, compact_ok, keepalive, nsid, padding, cookie });
        Some(())
    }
}
