//! Transaction signatures (RFC 8945), which authenticate the sender of a message. PURE.
//!
//! [`Signature`] is the TSIG record of a message; [`Keys`] are those of a server block with their
//! names, and verify requests; [`Signer`] signs the messages of one side of a transaction, the
//! first and those that follow, and verifies those of the other side. Calendar time is an argument.
//! `mac` uses the crates `hmac`, `sha1` and `sha2` of RustCrypto, which have all five algorithms
//! and a comparison in constant time, and nothing else; `ring` has no SHA-224, and `domain` builds
//! its signatures on `ring`.

mod keys;
mod mac;

use super::message::name::WireName;
use super::message::{HEADER_LEN, Question, Record, class, put_u16, rtype, u16_at};
use super::zones::LowercaseName;
use crate::config::{TsigAlgorithm, TsigKey};
pub(crate) use keys::{Failure, Keys};
use mac::{Mac, MacBytes};
use std::sync::Arc;

/// Fudge of our messages: allowed difference of the clocks in seconds.
pub(crate) const FUDGE: u16 = 300;
/// Offset of the number of additional records in a header.
const ADDITIONALS: usize = 10;
/// Length of a TSIG record without its names, its MAC and its other data.
const FIXED_LEN: usize = 10 + 6 + 2 + 2 + 2 + 2 + 2;
/// Maximum number of unsigned messages between two signed ones (RFC 8945 §5.3.1).
const UNSIGNED_MAX: u32 = 99;

/// Errors of a transaction (RFC 8945 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[expect(clippy::enum_variant_names, reason = "the names of RFC 8945 §3")]
pub(crate) enum TsigError {
    /// The MAC is wrong.
    BadSig = 16,
    /// The key is unknown, or not for this algorithm.
    BadKey = 17,
    /// The message is too old or too new.
    BadTime = 18,
    /// The MAC is right, but truncated too much.
    BadTrunc = 22,
}

/// The TSIG of a message.
#[derive(Clone, Copy)]
pub(crate) struct Signature<'a> {
    /// Offset of the record.
    pub(crate) start: usize,
    /// Name of the key, in lower case.
    pub(crate) key: WireName,
    /// Name of the algorithm, in lower case.
    pub(crate) algorithm: WireName,
    /// Calendar time of the signature, in seconds since 1970.
    pub(crate) time: u64,
    /// Allowed difference of the clocks in seconds.
    pub(crate) fudge: u16,
    pub(crate) mac: &'a [u8],
    /// The ID that was signed.
    pub(crate) original_id: u16,
    /// Error of the transaction.
    pub(crate) error: u16,
    /// Other data: with BADTIME the time of the server.
    pub(crate) other: &'a [u8],
}

/// The message has a TSIG that is malformed or misplaced (RFC 8945 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl<'a> Signature<'a> {
    /// Returns the TSIG of a message with one question.
    ///
    /// # Errors
    /// The records are malformed, or a TSIG is not the last one of them, is not the only one or is
    /// malformed.
    pub(crate) fn find(packet: &'a [u8]) -> Result<Option<Self>, Malformed> {
        let place = Question::parse(packet).ok_or(Malformed)?.end();
        let count = |word: usize| u16_at(packet, 2 * word).unwrap_or(0);
        Self::find_behind(packet, place, [count(3), count(4), count(5)])
    }

    /// The same for a message that may have no question.
    ///
    /// # Errors
    /// As for [`Signature::find`].
    pub(crate) fn find_in_reply(packet: &'a [u8]) -> Result<Option<Self>, Malformed> {
        let count = |word: usize| u16_at(packet, 2 * word).unwrap_or(0);
        if count(2) == 0 {
            return Self::find_behind(packet, HEADER_LEN, [count(3), count(4), count(5)]);
        }
        Self::find(packet)
    }

    fn find_behind(
        packet: &'a [u8],
        mut place: usize,
        counts: [u16; 3],
    ) -> Result<Option<Self>, Malformed> {
        let total: u32 = counts.iter().map(|count| u32::from(*count)).sum();
        let mut found = None;
        for number in 1..=total {
            let record = Record::parse(packet, place).ok_or(Malformed)?;
            place = record.end;
            if record.rtype == rtype::TSIG {
                if number != total || counts[2] == 0 {
                    return Err(Malformed);
                }
                found = Some(record);
            }
        }
        found.map(|record| Self::read(packet, &record).ok_or(Malformed)).transpose()
    }

    fn read(packet: &'a [u8], record: &Record) -> Option<Self> {
        let ttl = packet.get(record.fixed + 4..record.fixed + 8)?;
        if record.class != class::ANY || ttl != [0; 4] || record.end != packet.len() {
            return None;
        }
        let (key, _) = WireName::read(packet, record.start)?;
        let (algorithm, place) = WireName::read(packet, record.data)?;
        // It is not compressed (RFC 8945 §4.2), so that a reply is not much longer than its query.
        if place - record.data != algorithm.as_bytes().len() {
            return None;
        }
        let mut rest = packet.get(place..record.end)?;
        let mut take = |len: usize| {
            let (taken, behind) = rest.split_at_checked(len)?;
            rest = behind;
            Some(taken)
        };
        let time = take(6)?.iter().fold(0, |time, byte| time << 8 | u64::from(*byte));
        let fudge = u16_at(take(2)?, 0)?;
        let mac_len = u16_at(take(2)?, 0)?;
        let mac = take(mac_len.into())?;
        let original_id = u16_at(take(2)?, 0)?;
        let error = u16_at(take(2)?, 0)?;
        let other_len = u16_at(take(2)?, 0)?;
        let other = take(other_len.into())?;
        let [key, algorithm] = [key, algorithm].map(|name| lower(name.as_bytes()));
        let start = record.start;
        let read = Self { start, key, algorithm, time, fudge, mac, original_id, error, other };
        rest.is_empty().then_some(read)
    }

    /// Writes the unsigned message into `out`, which is as long as `packet`, with the ID `id`;
    /// returns its length.
    pub(crate) fn strip(&self, packet: &[u8], id: u16, out: &mut [u8]) -> usize {
        out[..self.start].copy_from_slice(&packet[..self.start]);
        let additionals = u16_at(packet, ADDITIONALS).unwrap_or(1);
        put_u16(out, 0, id);
        put_u16(out, ADDITIONALS, additionals.saturating_sub(1));
        self.start
    }

    /// Returns the algorithm, if it is supported.
    fn algorithm(&self) -> Option<TsigAlgorithm> {
        let known = TsigAlgorithm::ALL.into_iter();
        known.into_iter().find(|known| name_of(*known).as_bytes() == self.algorithm.as_bytes())
    }

    /// Adds the signed parts to `mac`: the original message, and the record's fields.
    fn digest(&self, packet: &[u8], mac: &mut Mac, timers_only: bool) {
        let mut head = [0; HEADER_LEN];
        head.copy_from_slice(&packet[..HEADER_LEN]);
        put_u16(&mut head, 0, self.original_id);
        let additionals = u16_at(packet, ADDITIONALS).unwrap_or(1);
        put_u16(&mut head, ADDITIONALS, additionals.saturating_sub(1));
        mac.update(&head);
        mac.update(&packet[HEADER_LEN..self.start]);
        let fields = Fields {
            key: self.key.as_bytes(),
            algorithm: self.algorithm.as_bytes(),
            time: self.time,
            fudge: self.fudge,
            error: self.error,
            other: self.other,
        };
        fields.digest(mac, timers_only);
    }
}

/// Fields of a TSIG that are signed.
struct Fields<'a> {
    key: &'a [u8],
    algorithm: &'a [u8],
    time: u64,
    fudge: u16,
    error: u16,
    other: &'a [u8],
}

impl Fields<'_> {
    fn digest(&self, mac: &mut Mac, timers_only: bool) {
        if !timers_only {
            mac.update(self.key);
            mac.update(&class::ANY.to_be_bytes());
            mac.update(&[0; 4]);
            mac.update(self.algorithm);
        }
        mac.update(&self.time.to_be_bytes()[2..]);
        mac.update(&self.fudge.to_be_bytes());
        if !timers_only {
            mac.update(&self.error.to_be_bytes());
            mac.update(&(self.other.len() as u16).to_be_bytes());
            mac.update(self.other);
        }
    }

    /// Appends the record to a message of `len` bytes; returns `None` if there is no room.
    fn append(&self, message: &mut [u8], len: usize, mac: &[u8], id: u16) -> Option<usize> {
        let data_len = self.algorithm.len() + FIXED_LEN - 10 + mac.len() + self.other.len();
        let additionals = u16_at(message, ADDITIONALS)?.checked_add(1)?;
        let out = message.get_mut(len..len + self.key.len() + 10 + data_len)?;
        let mut place = 0;
        let mut put = |bytes: &[u8]| {
            out[place..place + bytes.len()].copy_from_slice(bytes);
            place += bytes.len();
        };
        put(self.key);
        put(&rtype::TSIG.to_be_bytes());
        put(&class::ANY.to_be_bytes());
        put(&[0; 4]);
        put(&(data_len as u16).to_be_bytes());
        put(self.algorithm);
        put(&self.time.to_be_bytes()[2..]);
        put(&self.fudge.to_be_bytes());
        put(&(mac.len() as u16).to_be_bytes());
        put(mac);
        put(&id.to_be_bytes());
        put(&self.error.to_be_bytes());
        put(&(self.other.len() as u16).to_be_bytes());
        put(self.other);
        let end = len + place;
        put_u16(message, ADDITIONALS, additionals);
        Some(end)
    }
}

/// One side of a transaction, after the last signed message.
#[derive(Clone)]
pub(crate) struct Signer {
    key: Arc<TsigKey>,
    algorithm: TsigAlgorithm,
    /// MAC of the previous message; empty before a request.
    prior: MacBytes,
    /// The previous message was no request, so only the time of further ones is signed.
    follows: bool,
    /// Fudge of messages.
    fudge: u16,
    /// Number of messages of the other side since the last signature.
    unsigned: u32,
    /// Incomplete MAC that covers unsigned messages of the other side.
    pending: Option<Box<Mac>>,
}

impl Signer {
    /// Signer for a request of ours.
    pub(crate) fn of_request(key: Arc<TsigKey>) -> Self {
        let algorithm = key.algorithm;
        Self::after(key, algorithm, MacBytes::default())
    }

    fn after(key: Arc<TsigKey>, algorithm: TsigAlgorithm, prior: MacBytes) -> Self {
        let (follows, fudge, unsigned, pending) = (false, FUDGE, 0, None);
        Self { key, algorithm, prior, follows, fudge, unsigned, pending }
    }

    pub(crate) fn key(&self) -> &Arc<TsigKey> {
        &self.key
    }

    /// Returns the length of a signature.
    pub(crate) fn room(&self) -> usize {
        let names = self.key.name.as_wire().len() + name_of(self.algorithm).as_bytes().len();
        names + FIXED_LEN + Mac::len_of(self.algorithm)
    }

    /// Signs the message of `len` bytes at `now`, in seconds since 1970, and returns its length
    /// with the signature; `None` if there is no room for it.
    pub(crate) fn sign(&mut self, message: &mut [u8], len: usize, now: u64) -> Option<usize> {
        self.sign_with(message, len, (now, self.fudge), 0, &[])
    }

    fn sign_with(
        &mut self,
        message: &mut [u8],
        len: usize,
        (time, fudge): (u64, u16),
        error: u16,
        other: &[u8],
    ) -> Option<usize> {
        let (key, algorithm) = (lower(self.key.name.as_wire()), name_of(self.algorithm));
        let (key, algorithm) = (key.as_bytes(), algorithm.as_bytes());
        let mut mac = self.begin();
        mac.update(message.get(..len)?);
        let fields = Fields { key, algorithm, time, fudge, error, other };
        fields.digest(&mut mac, self.follows);
        let mac = mac.finish();
        let id = u16_at(message, 0)?;
        let signed = fields.append(message, len, mac.as_bytes(), id)?;
        let is_reply = u16_at(message, 2)? & super::message::flags::QR != 0;
        (self.prior, self.follows) = (mac, is_reply);
        Some(signed)
    }

    /// Begins a MAC that covers the previous one.
    fn begin(&self) -> Mac {
        let mut mac = Mac::new(self.algorithm, &self.key.secret);
        let prior = self.prior.as_bytes();
        if !prior.is_empty() {
            mac.update(&(prior.len() as u16).to_be_bytes());
            mac.update(prior);
        }
        mac
    }

    /// Verifies a message of the other side, which answers a request of ours, at `now`.
    ///
    /// # Errors
    /// [`Unproven`]: the message is not authentic.
    pub(crate) fn verify(&mut self, packet: &[u8], now: u64) -> Result<(), Unproven> {
        let mut mac = match self.pending.take() {
            Some(mac) => *mac,
            None => self.begin(),
        };
        let found = Signature::find_in_reply(packet).map_err(|Malformed| Unproven::Malformed)?;
        let Some(signature) = found else {
            self.unsigned += 1;
            if !self.follows || self.unsigned > UNSIGNED_MAX {
                return Err(Unproven::Unsigned);
            }
            mac.update(packet);
            self.pending = Some(Box::new(mac));
            return Ok(());
        };
        let is_ours = signature.key.as_bytes() == lower(self.key.name.as_wire()).as_bytes()
            && signature.algorithm() == Some(self.algorithm);
        if !is_ours {
            return Err(Unproven::OtherKey);
        }
        if signature.mac.is_empty() && signature.error != 0 {
            return Err(Unproven::Refused(signature.error));
        }
        signature.digest(packet, &mut mac, self.follows);
        let mac = mac.finish();
        if !mac.is(signature.mac) {
            return Err(Unproven::WrongMac);
        }
        if signature.error != 0 {
            return Err(Unproven::Refused(signature.error));
        }
        if now.abs_diff(signature.time) > signature.fudge.into() {
            return Err(Unproven::WrongTime);
        }
        (self.prior, self.follows, self.unsigned) = (mac, true, 0);
        Ok(())
    }

    /// Returns true if the message verified last was signed.
    pub(crate) fn is_complete(&self) -> bool {
        self.pending.is_none() && self.follows
    }
}

/// Reason why a message is not authentic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unproven {
    /// No signature.
    Unsigned,
    /// Malformed signature.
    Malformed,
    /// Signed with another key.
    OtherKey,
    WrongMac,
    /// Signed too early or too late.
    WrongTime,
    /// The other side refused our signature with this error.
    Refused(u16),
}

impl std::fmt::Display for Unproven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unsigned => f.write_str("not signed"),
            Self::Malformed => f.write_str("malformed TSIG"),
            Self::OtherKey => f.write_str("signed with another key"),
            Self::WrongMac => f.write_str("wrong MAC"),
            Self::WrongTime => f.write_str("signed at another time, check the clocks"),
            Self::Refused(16) => f.write_str("TSIG refused with BADSIG, check the secret"),
            Self::Refused(17) => f.write_str("TSIG refused with BADKEY, check the key's name"),
            Self::Refused(18) => f.write_str("TSIG refused with BADTIME, check the clocks"),
            Self::Refused(error) => write!(f, "TSIG refused with error {error}"),
        }
    }
}

/// Reduces the reply of `len` bytes to its question and its OPT, with TC set, so that a signature
/// has room (RFC 8945 §5.3); returns its length.
pub(crate) fn truncate(reply: &mut [u8], len: usize) -> usize {
    let Some(question) = Question::parse(&reply[..len]) else { return len };
    let count = |word: usize| u16_at(reply, 2 * word).unwrap_or(0);
    let total: u32 = (3..6).map(|word| u32::from(count(word))).sum();
    let mut place = question.end();
    let mut opt = None;
    for _ in 0..total {
        let Some(record) = Record::parse(&reply[..len], place) else { break };
        if record.rtype == rtype::OPT {
            opt = Some(record.start..record.end);
        }
        place = record.end;
    }
    let word = count(1) & !super::message::flags::AD | super::message::flags::TC;
    let mut end = question.end();
    let extras = u16::from(opt.is_some());
    if let Some(opt) = opt {
        let opt_len = opt.len();
        reply.copy_within(opt, end);
        end += opt_len;
    }
    for (place, word) in [(2, word), (6, 0), (8, 0), (ADDITIONALS, extras)] {
        put_u16(reply, place, word);
    }
    end
}

/// Returns a name in lower case, the form in which names are signed.
fn lower(name: &[u8]) -> WireName {
    let folded = LowercaseName::new(name);
    WireName::new(folded.as_bytes())
}

/// Returns the name of an algorithm in wire format.
fn name_of(algorithm: TsigAlgorithm) -> WireName {
    let text = algorithm.name().as_bytes();
    let mut wire = [0; 16];
    wire[0] = text.len() as u8;
    wire[1..=text.len()].copy_from_slice(text);
    WireName::new(&wire[..text.len() + 2])
}

#[cfg(test)]
mod tests;
