//! Signed queries, and queries that are refused.
//!
//! A query with a TSIG cannot be forwarded as it is, so the parser rejects it and it is handled
//! here, at no cost for other queries. If `tsig` of its server block covers its name, the signature
//! is verified and removed; then the query is served like any other, and its reply is signed. While
//! the query waits, its signer is stored with the question, as for rewritten queries.

use super::Forwarder;
use super::arrivals::Arrival;
use super::course::Original;
use super::recipient::limit;
use crate::engine::exchange::Client;
use crate::engine::message::compose::write_error;
use crate::engine::message::cookie::CookieState;
use crate::engine::message::name::{WireName, WireQuestion};
use crate::engine::message::query::{Asked, Rejection, SignedBy};
use crate::engine::message::reply::Finish;
use crate::engine::message::{HEADER_LEN, Question, Rcode, flags, put_u16, u16_at};
use crate::engine::tsig::{self, Failure, Keys, Malformed, Signature, Signer, TsigError};
use crate::engine::zones::LowercaseName;
use crate::moment::Moment;
use std::sync::Arc;

/// Index of verified queries in the counters of results.
const VERIFIED: usize = 0;
/// Index of malformed TSIGs in the counters of results.
const MALFORMED: usize = 5;

/// Response code of a refused query, and the parts of the query that could be parsed.
type Refusal = (Rcode, Asked, Option<Question>);

impl Forwarder {
    /// Handles a packet that cannot be forwarded as it is. Returns the length of the reply in
    /// `out`.
    #[cold]
    pub(super) fn on_refused(
        &mut self,
        now: Moment,
        client: &Client,
        packet: &[u8],
        refusal: Refusal,
        out: &mut [u8],
    ) -> Option<usize> {
        let (rcode, asked, question) = refusal;
        let bytes = question.map_or(&[][..], |question| &packet[HEADER_LEN..question.end()]);
        if let Some((found, block, keys)) = self.keys_of(client, packet, &asked) {
            let whole = &packet[HEADER_LEN..found.end()];
            match Signature::find(packet) {
                Ok(Some(signature)) => {
                    let signed = (&asked, &signature, block, &*keys);
                    return self.on_signed(now, client, packet, signed, out);
                }
                Ok(None) if keys.require((asked.flags & flags::OPCODE) >> 11) => {
                    return Some(self.refuse(client, &asked, whole, Rcode::Refused, out));
                }
                Err(Malformed) if rcode == Rcode::Refused => {
                    self.counters.stats.tsig[MALFORMED] += 1;
                    return Some(self.refuse(client, &asked, whole, Rcode::FormErr, out));
                }
                Ok(None) | Err(Malformed) => {}
            }
        }
        let rcode = match rcode {
            // A query for a cookie alone (RFC 7873 §5.4).
            Rcode::NoError => rcode,
            _ => self.note_notified(client, packet, (rcode, &asked, question), None),
        };
        Some(self.refuse(client, &asked, bytes, rcode, out))
    }

    /// Writes an error as the reply and counts it.
    fn refuse(
        &mut self,
        client: &Client,
        asked: &Asked,
        question: &[u8],
        rcode: Rcode,
        out: &mut [u8],
    ) -> usize {
        let mut asked = *asked;
        self.adapt(client, &mut asked);
        let is_for_cookie = rcode == Rcode::NoError && question.is_empty();
        let rcode = match asked.cookie_state() {
            Some(CookieState::Bad) if is_for_cookie => Rcode::BadCookie,
            // There is nothing that such a query could get.
            None if is_for_cookie => Rcode::FormErr,
            _ => rcode,
        };
        self.counters.rcode(rcode as u16);
        let len = write_error(out, &asked, question, rcode, None, Finish::PLAIN);
        if rcode == Rcode::NoError && !is_for_cookie {
            // The reply to a NOTIFY comes from an authority (RFC 1996 §4.7).
            let word = u16_at(out, 2).unwrap_or(0) | flags::AA;
            put_u16(out, 2, word);
        }
        len
    }

    /// Returns the question of a packet, the server block that it is for, and the block's keys.
    fn keys_of(
        &self,
        client: &Client,
        packet: &[u8],
        asked: &Asked,
    ) -> Option<(Question, usize, Arc<Keys>)> {
        // Without a question the first record would be read as one.
        let has_question = u16_at(packet, 4) == Some(1);
        let question = has_question.then(|| Question::parse(packet)).flatten()?;
        let name = &LowercaseName::new(question.name(packet));
        let block = self.place_of(client, packet, asked, &question, name).block()?;
        let keys = self.chains[block].settings.tsig.as_ref()?;
        keys.covers(name).then(|| (question, block, Arc::clone(keys)))
    }

    /// Handles a packet with a TSIG.
    fn on_signed(
        &mut self,
        now: Moment,
        client: &Client,
        packet: &[u8],
        (asked, signature, block, keys): (&Asked, &Signature<'_>, usize, &Keys),
        out: &mut [u8],
    ) -> Option<usize> {
        let signer = match keys.verify(packet, signature, self.unix.into()) {
            Ok(signer) => signer,
            Err(Some(failure)) => {
                let room = limit(client, asked).min(out.len());
                return Some(self.fail_signed(client, packet, asked, failure, &mut out[..room]));
            }
            Err(None) => {
                self.counters.stats.tsig[MALFORMED] += 1;
                let question = Question::parse(packet)?;
                let question = &packet[HEADER_LEN..question.end()];
                return Some(self.refuse(client, asked, question, Rcode::FormErr, out));
            }
        };
        self.counters.stats.tsig[VERIFIED] += 1;
        let mut stripped = self.rewriting.borrow_buffer();
        let len = signature.strip(packet, asked.id, &mut stripped);
        let number = keys.key(signature.key.as_bytes()).map_or(0, |(number, _)| number);
        let (packets, signed) = ((packet, &stripped[..len]), (signer, block, number));
        let done = self.serve_signed(now, client, packets, signed, out);
        self.rewriting.give_back(stripped);
        done
    }

    /// Serves a query whose signature was verified with key number `number` of `block`. `packet`:
    /// as received, and without the signature.
    fn serve_signed(
        &mut self,
        now: Moment,
        client: &Client,
        (packet, stripped): (&[u8], &[u8]),
        (signer, block, number): (Signer, usize, u32),
        out: &mut [u8],
    ) -> Option<usize> {
        let mut arrival = Arrival::NONE;
        self.read_into(*client, stripped, false, &mut arrival);
        let Arrival { query, name, zone_match, .. } = &mut arrival;
        let (asked, len) = match query {
            Ok(query) => {
                // A view that asks for the size of the packet may have chosen another block, whose
                // keys are others.
                if zone_match.block() == Some(block) {
                    query.signed_by = SignedBy::Key(number);
                }
                let Question { rtype, class, .. } = query.question;
                let asking = WireQuestion { name: WireName::new(query.name()), rtype, class };
                let original = Original {
                    block: zone_match.block().unwrap_or(0),
                    asking,
                    rules: None,
                    met: 0,
                    asker: None,
                    signer: Some(Box::new(signer.clone())),
                };
                let (place, asked) = ((&*name, *zone_match, Some(&original)), query.asked);
                let done = self.on_understood(now, client, query, packet, place, out);
                (asked, done?)
            }
            Err(Rejection::Refusal { rcode, asked, question }) => {
                let bytes = question.map_or(&[][..], |found| &stripped[HEADER_LEN..found.end()]);
                let (refusal, key) = ((*rcode, &*asked, *question), Some(&signer.key().name));
                let rcode = self.note_notified(client, stripped, refusal, key);
                (*asked, self.refuse(client, asked, bytes, rcode, out))
            }
            Err(Rejection::TooShort | Rejection::IsResponse) => return None,
        };
        Some(self.sign(Some(&signer), client, &asked, out, len))
    }

    /// Writes the reply to a query whose signature is wrong; its TSIG is omitted where `out` has no
    /// room for it.
    fn fail_signed(
        &mut self,
        client: &Client,
        packet: &[u8],
        asked: &Asked,
        mut failure: Box<Failure>,
        out: &mut [u8],
    ) -> usize {
        self.counters.stats.tsig[match failure.error {
            TsigError::BadSig => 1,
            TsigError::BadKey => 2,
            TsigError::BadTime => 3,
            TsigError::BadTrunc => 4,
        }] += 1;
        let question = Question::parse(packet);
        let question = question.map_or(&[][..], |found| &packet[HEADER_LEN..found.end()]);
        let len = self.refuse(client, asked, question, Rcode::NotAuth, out);
        failure.append(out, len, self.unix.into()).unwrap_or(len)
    }

    /// Signs the reply of `len` bytes in `out`, if its query was signed, and returns its length. A
    /// reply that would be longer than its client accepts is truncated, and stays without a
    /// signature where even that is too long with one.
    pub(super) fn sign(
        &self,
        signer: Option<&Signer>,
        client: &Client,
        asked: &Asked,
        out: &mut [u8],
        len: usize,
    ) -> usize {
        let Some(mut signer) = signer.cloned() else { return len };
        let room = limit(client, asked).min(out.len());
        let is_long = len + signer.room() > room;
        let len = if is_long { tsig::truncate(out, len) } else { len };
        signer.sign(&mut out[..room], len, self.unix.into()).unwrap_or(len)
    }
}
