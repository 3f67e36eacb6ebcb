//! Signing of replies when they are sent (`dnssec`). PURE.
//!
//! [`OnlineSigner`] holds the zones and the keys of a server block, and signs a finished reply:
//! every RRset below the zones gets an RRSIG record, and a denial or a referral an NSEC record that
//! proves it. Denials are those of RFC 9824: the NSEC record has the denied name itself as its
//! owner, so that one signature is enough, no other name of the zone is disclosed, and the response
//! code is NOERROR, or NXDOMAIN for clients with CO. [`kept::Signatures`] keeps the signatures of a
//! worker.
//!
//! Signatures are valid for 7 to 8 days, and are made anew 2 days before they end. A worker spends
//! at most a quarter of its time on them ([`Budget`]); a reply that would need more is SERVFAIL.

pub(crate) mod kept;
mod signing;

use kept::Signatures;
pub(crate) use signing::{Job, OwnNames, Signed, Workroom};

use super::key::Transport;
use super::message::Rcode;
use super::message::compose::{Composer, NewRecord, Section};
use super::message::query::Query;
use super::message::reply::Finish;
use super::message::{QNAME, class, flags, rtype};
use super::zones::{LowercaseName, Zones};
use crate::config::{Name, ServerBlock};
use crate::dnssec::{KeyPair, PublicKey};
use crate::moment::Moment;
use ahash::RandomState;
use std::time::Duration;

/// Type DNSKEY (RFC 4034 §2).
const DNSKEY: u16 = 48;
/// Share of a worker's time that signatures may take: one part of this many.
const SHARE: u64 = 4;
/// Maximum time in nanoseconds for signatures that a worker can have saved up: the longest stall
/// that a burst of them causes, plus that of the last reply.
const BURST: u64 = 8_000_000;

/// A key of a server block.
struct Key {
    public: PublicKey,
    /// Its key tag.
    tag: u16,
    pair: KeyPair,
    ttl: u32,
    /// Its algorithm has keys of both kinds, which divide the work: each algorithm signs each RRset
    /// (RFC 4035 §2.2).
    is_split: bool,
}

/// Keys of a server block, and the zones that are signed with them.
pub(crate) struct OnlineSigner {
    names: Box<[Name]>,
    /// Numbers of `names`.
    zones: Zones<u32>,
    keys: Box<[Key]>,
}

impl OnlineSigner {
    /// Creates the signer of `block`; `None` if it signs nothing. `hasher` is keyed.
    pub(crate) fn new(block: &ServerBlock, hasher: &RandomState) -> Option<Self> {
        let settings = block.stages.dnssec.as_ref()?;
        let keys = settings.keys.iter().filter_map(|key| {
            let (public, tag) = (key.public.clone(), key.public.tag());
            let is_split = settings.is_split(key.public.algorithm);
            Some(Key { public, tag, pair: key.pair().ok()?, ttl: key.ttl, is_split })
        });
        let keys: Box<[Key]> = keys.collect();
        if keys.is_empty() {
            return None;
        }
        let served: Vec<_> = block.zones().cloned().collect();
        let names: Box<[Name]> = settings.zones.as_deref().unwrap_or(&served).into();
        let zones = Zones::new(hasher.clone(), names.iter().zip(0..));
        Some(Self { names, zones, keys })
    }

    /// Returns true if the reply to this query is signed, or given here.
    pub(crate) fn covers(&self, name: &LowercaseName, query: &Query<'_>) -> bool {
        let question = &query.question;
        let is_transfer = matches!(question.rtype, rtype::AXFR | rtype::IXFR);
        if question.class != class::IN || is_transfer {
            return false;
        }
        let dnssec_ok = query.asked.edns.is_some_and(|edns| edns.dnssec_ok);
        dnssec_ok && self.zones.longest(name).is_some() || self.has_keys_at(name, question.rtype)
    }

    /// Returns true for a query for the DNSKEY records of a zone, which are answered from here.
    pub(crate) fn has_keys_at(&self, name: &LowercaseName, asked: u16) -> bool {
        asked == DNSKEY && self.zone_of(name).is_some_and(|zone| zone == name.as_bytes())
    }

    /// Writes the unsigned reply to a query for the DNSKEY records of a zone.
    pub(crate) fn write_keys(
        &self,
        query: &Query<'_>,
        transport: Transport,
        finish: Finish<'_>,
        out: &mut [u8],
    ) -> usize {
        let limit = match transport {
            Transport::Udp => query.asked.udp_limit(),
            Transport::Tcp => out.len(),
        };
        let question = query.question_bytes();
        let mut reply = Composer::new(out, limit, &query.asked, question, finish, None);
        let ttl = self.keys.iter().map(|key| key.ttl).min().unwrap_or(0);
        for key in &self.keys {
            let (rtype, class, data) = (DNSKEY, class::IN, key.public.data());
            let record = NewRecord { owner: &QNAME, rtype, class, ttl, data: &[&data] };
            reply.record(Section::Answer, &record);
        }
        reply.end(flags::AA, Rcode::NoError)
    }

    /// Returns the longest zone at or above `name`, in lower case.
    fn zone_of(&self, name: &LowercaseName) -> Option<&[u8]> {
        self.zones.longest(name).map(|number| self.names[number as usize].as_wire())
    }

    /// Returns the zone whose keys sign the RRset of this name and type: DS records at the apex of
    /// a zone belong to the zone above.
    fn signer_of(&self, name: &LowercaseName, rtype: u16) -> Option<&[u8]> {
        let mut matches = self.zones.matches(name).map(|(_, number)| number as usize);
        let longest = self.names[matches.next()?].as_wire();
        let is_above = rtype == super::message::rtype::DS && longest == name.as_bytes();
        if is_above {
            matches.next().map(|number| self.names[number].as_wire())
        } else {
            Some(longest)
        }
    }

    /// Returns the keys that sign RRsets of a type, with their numbers.
    fn keys_for(&self, rtype: u16) -> impl Iterator<Item = (usize, &Key)> {
        let signs =
            move |key: &Key| !key.is_split || key.public.is_entry_point() == (rtype == DNSKEY);
        self.keys.iter().enumerate().filter(move |(_, key)| signs(key))
    }

    /// Maximum length of its signatures.
    pub(crate) fn signature_len(&self) -> usize {
        self.keys.iter().map(|key| key.pair.signature_len()).max().unwrap_or(0)
    }
}

/// A worker's signatures, and its buffers for new ones.
pub(crate) struct Online {
    /// Kept signatures.
    pub(crate) signatures: Signatures,
    /// Buffers.
    pub(crate) workroom: Workroom,
}

impl Online {
    /// Begins with these tables.
    pub(crate) fn new(signatures: Signatures) -> Self {
        Self { signatures, workroom: Workroom::default() }
    }
}

/// Time of a worker that may still be spent on signatures.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Nanoseconds; below zero after a reply that needed more than there was.
    left: i64,
    since: Moment,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: BURST as i64, since: Moment::ZERO }
    }
}

impl Budget {
    /// Returns true if another signature may be made at `now`. `is_spare`: half of the burst is
    /// left to others, because any client can ask for any number of names that do not exist.
    fn allows(&mut self, now: Moment, is_spare: bool) -> bool {
        let saved = now.since(self.since).as_nanos().min(u128::from(SHARE * 2 * BURST)) as u64;
        self.since = now;
        self.left = (self.left + (saved / SHARE) as i64).min(BURST as i64);
        self.left > if is_spare { BURST as i64 / 2 } else { 0 }
    }

    /// Counts a signature.
    fn spend(&mut self, cost: Duration) {
        self.left -= cost.as_nanos() as i64;
    }
}

#[cfg(test)]
mod tests;
