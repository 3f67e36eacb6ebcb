//! Signing of one reply.
//!
//! The reply is a finished message, so that it does not matter which stage, cache or upstream gave
//! it. Its RRsets are collected first; then the message is written again with their signatures
//! behind each section, and with the proof of a denial or a referral. Upstreams decide how many
//! RRsets there are, so their number is limited.

use super::kept::Table;
use super::{Budget, DNSKEY, Key, OnlineSigner};
use crate::dnssec::{Draft, Owner, Types};
use crate::engine::message::join::{Joiner, aliases, records};
use crate::engine::message::layout::{Part, parts};
use crate::engine::message::name::WireName;
use crate::engine::message::response::Response;
use crate::engine::message::{
    NAME_LEN_MAX, Rcode, Record, class, expand_name, flags, rtype, u16_at, u32_at,
};
use crate::engine::zones::LowercaseName;
use crate::moment::Moment;
use ahash::RandomState;
use std::time::Duration;

/// Maximum number of RRsets of a reply: an upstream must not cause more signatures.
const SETS_MAX: usize = 64;
/// Mark of a record that belongs to no RRset that is signed.
const NO_SET: u8 = u8::MAX;
const _: () = assert!(SETS_MAX < NO_SET as usize);
/// Original TTL in seconds of RRsets that are not of own zones: their TTL counts down in caches,
/// and is limited to this.
const FOREIGN_TTL: u32 = 3_600;
/// Seconds before now at which signatures begin, for clients whose clock is late.
const BACKDATED: u32 = 3 * 3_600;
/// Maximum seconds for which signatures are valid.
const VALIDITY: u32 = 8 * 86_400;
/// Seconds by which they are valid for less, at most, so that they do not end all at once.
const JITTER: u64 = 86_400;
const RRSIG: u16 = rtype::RRSIG;
/// Length of a signature of RSA with 2,048 bits, for which the algorithm's cost is given.
const RSA_2048_LEN: usize = 256;
/// Maximum length of a label.
const LABEL_LEN_MAX: usize = 63;
/// Type NXNAME (RFC 9824 §3.3): the name does not exist.
const NXNAME: u16 = 128;
/// Types that a name may have whose types are not known; of these, the type that was asked for is
/// left out.
const LIKELY: [u16; 12] = [1, 13, 16, 28, 29, 33, 37, 44, 52, 55, 61, 99];
/// Further ones at an apex.
const LIKELY_APEX: [u16; 4] = [rtype::NS, rtype::SOA, rtype::MX, DNSKEY];

/// A reply to be signed.
pub(crate) struct Job<'a> {
    pub(crate) reply: &'a [u8],
    /// The client accepts NXDOMAIN for a name that does not exist (RFC 9824 §5.1).
    pub(crate) compact_ok: bool,
    /// Its question in wire format: name, type and class.
    pub(crate) question: &'a [u8],
    /// The wall-clock time in seconds since 1970.
    pub(crate) unix: u32,
    /// The time of the turn.
    pub(crate) now: Moment,
}

/// Result of [`OnlineSigner::sign`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signed {
    /// There is nothing to sign in the reply, which is final.
    Unchanged,
    /// The signed message has this length.
    Written(usize),
    /// The reply cannot be signed now.
    Failed,
}

/// The worker's buffers for signing, and its time for it.
#[derive(Default)]
pub(crate) struct Workroom {
    draft: Draft,
    sets: Vec<SetOf>,
    /// Number of the set of each record; [`NO_SET`]: it is not signed.
    members: Vec<u8>,
    types: Types,
    data: Vec<u8>,
    budget: Budget,
}

/// An RRset of a reply.
struct SetOf {
    section: usize,
    first: Record,
    /// Hash of the owner, so that a message with many long names costs no more than its length.
    owner: u64,
    /// The reply has a signature of the set.
    is_signed: bool,
    /// The set has the name servers of a zone cut.
    is_cut: bool,
}

/// Own zones, which know the types of their names and the TTLs of their RRsets.
pub(crate) trait OwnNames {
    /// Passes the types at a name of an own zone to `add`; of a name that does not exist, those of
    /// the wildcard. Returns false if no own zone has the name: the zones below may come from an
    /// upstream. `asked`: the type of the query; DS records at an apex belong to the zone above.
    fn types_at(&self, name: &LowercaseName, asked: u16, add: &mut dyn FnMut(u16)) -> bool;

    /// Returns true if an own zone has records at `name`, or a wildcard for it.
    fn has(&self, name: &LowercaseName, asked: u16) -> bool {
        let mut count = 0;
        self.types_at(name, asked, &mut |_| count += 1) && count > 0
    }
}

/// Means to sign the sets of one reply.
struct Work<'a> {
    signer: &'a OnlineSigner,
    job: &'a Job<'a>,
    table: &'a mut Table,
    hasher: &'a RandomState,
    members: &'a [u8],
    draft: &'a mut Draft,
    budget: &'a mut Budget,
}

/// A signature was not made.
struct NotNow;

impl OnlineSigner {
    /// Writes the signed message into `out`. `hasher` is keyed; `table` keeps the signatures.
    pub(crate) fn sign(
        &self,
        job: &Job<'_>,
        own: &impl OwnNames,
        (table, hasher): (&mut Table, &RandomState),
        room: &mut Workroom,
        out: &mut [u8],
    ) -> Signed {
        let Some(response) = Response::parse(job.reply) else { return Signed::Unchanged };
        let known = [Rcode::NoError as u16, Rcode::NxDomain as u16];
        if response.flags & flags::TC != 0 || !known.contains(&response.rcode()) {
            return Signed::Unchanged;
        }
        let Workroom { draft, sets, members, types, data, budget } = room;
        if !collect(job.reply, &response, hasher, (sets, members)) {
            return Signed::Failed;
        }
        for set in sets.iter_mut().filter(|set| set.section == 1 && set.first.rtype == rtype::NS) {
            let name = lowercase(job.reply, &set.first);
            set.is_cut = self.zone_of(&name).is_some_and(|zone| zone != name.as_bytes());
        }
        let mut work = Work { signer: self, job, table, hasher, members, draft, budget };
        match work.write(&response, own, sets, (types, data), out) {
            Ok(Some(len)) => Signed::Written(len),
            Ok(None) => Signed::Unchanged,
            Err(NotNow) => Signed::Failed,
        }
    }
}

/// Collects the RRsets of class IN and the set of each record; false if there are too many.
/// `hasher` is keyed.
fn collect(
    reply: &[u8],
    response: &Response,
    hasher: &RandomState,
    (sets, members): (&mut Vec<SetOf>, &mut Vec<u8>),
) -> bool {
    sets.clear();
    members.clear();
    let owner_of = |record: &Record| hasher.hash_one(lowercase(reply, record).as_bytes());
    for (section, record) in records(reply, response) {
        if record.class != class::IN || matches!(record.rtype, rtype::RRSIG | rtype::OPT) {
            members.push(NO_SET);
            continue;
        }
        let owner = owner_of(&record);
        let is_same = |set: &SetOf| {
            (set.section, set.first.rtype, set.owner) == (section, record.rtype, owner)
        };
        let number = sets.iter().position(is_same).unwrap_or(sets.len());
        if number >= SETS_MAX {
            return false;
        }
        if number == sets.len() {
            sets.push(SetOf { section, first: record, owner, is_signed: false, is_cut: false });
        }
        members.push(number as u8);
    }
    for (section, record) in records(reply, response) {
        if record.rtype != rtype::RRSIG {
            continue;
        }
        let (owner, covered) = (owner_of(&record), u16_at(reply, record.data));
        for set in sets.iter_mut().filter(|set| (set.section, set.owner) == (section, owner)) {
            set.is_signed |= Some(set.first.rtype) == covered;
        }
    }
    true
}

/// The denial or the referral that has to be proved.
enum Proof {
    /// The name does not exist.
    UnknownName(WireName),
    /// The name does not have the type that is asked for.
    OtherTypes(WireName),
    /// The zone cut has no DS records.
    InsecureCut(WireName),
}

impl Work<'_> {
    /// Writes the signed message; `None` if the reply stays as it is.
    fn write(
        &mut self,
        response: &Response,
        own: &impl OwnNames,
        sets: &[SetOf],
        (types, data): (&mut Types, &mut Vec<u8>),
        out: &mut [u8],
    ) -> Result<Option<usize>, NotNow> {
        let (reply, question) = (self.job.reply, self.job.question);
        let Some(split) = question.len().checked_sub(4) else { return Ok(None) };
        let (asked_name, asked) = (&question[..split], u16_at(question, split).unwrap_or(0));
        let end = match aliases(reply, response).last() {
            Some(alias) => alias.target,
            None => WireName::new(asked_name),
        };
        let proof = self.proof_of(response, sets, &end, asked);
        let is_referral = response.counts[0] == 0
            && response.flags & flags::AA == 0
            && sets.iter().any(|set| set.is_cut);
        let cuts = sets.iter().filter(|set| set.is_cut);
        let is_below_cut = |set: &SetOf| {
            let name = lowercase(reply, &set.first);
            cuts.clone().any(|cut| name.is_within(lowercase(reply, &cut.first).as_bytes()))
        };
        let Some(mut joiner) = Joiner::new(out, question) else { return Ok(None) };
        let is_denial = matches!(&proof, Some((Proof::UnknownName(_) | Proof::OtherTypes(_), _)));
        let is_moved = asked == rtype::NSEC && is_denial;
        let mut count = 0;
        for section in 0..3 {
            let is_dropped = is_moved && section == 1;
            for (of, record) in records(reply, response) {
                if of != section || is_dropped {
                    continue;
                }
                let name = lowercase(reply, &record);
                let is_exact = own.has(&name, record.rtype)
                    || self.signer.has_keys_at(&name, record.rtype)
                    || self.signer.zones.longest(&name).is_none();
                let ttl_max = if is_exact { u32::MAX } else { FOREIGN_TTL };
                if joiner.copy_capped(section, reply, &record, ttl_max).is_none() {
                    return Ok(None);
                }
            }
            for (number, set) in sets.iter().enumerate() {
                let is_elsewhere = set.section != section || is_dropped;
                let is_glue = || section == 2 && (is_referral || is_below_cut(set));
                if is_elsewhere || set.is_signed || set.is_cut || is_glue() {
                    continue;
                }
                count += self.sign_set(number as u8, set, own, &mut joiner)?;
            }
            let place = if is_moved { 0 } else { 1 };
            if section == place
                && let Some((proof, ttl)) = &proof
            {
                count +=
                    self.prove(proof, (asked, *ttl), (own, types, data), &mut joiner, section)?;
            }
        }
        if count == 0 {
            return Ok(None);
        }
        let rcode = match proof {
            Some((Proof::UnknownName(_), _)) if !self.job.compact_ok => Rcode::NoError as u16,
            _ => response.rcode(),
        };
        let error = response.opt.and_then(|opt| opt.extended_error);
        let error = error.map(|(start, end)| &reply[start..end]).unwrap_or_default();
        Ok(Some(joiner.end(response.flags, rcode, error)))
    }

    /// Returns what has to be proved, and the TTL of the proof.
    fn proof_of(
        &self,
        response: &Response,
        sets: &[SetOf],
        end: &WireName,
        asked: u16,
    ) -> Option<(Proof, u32)> {
        let reply = self.job.reply;
        let authority = || sets.iter().filter(|set| set.section == 1);
        let ttl = |set: &SetOf| u32_at(reply, set.first.fixed + 4).unwrap_or(0);
        let mut of_zone = authority().filter(|set| set.first.rtype == rtype::SOA);
        if let (Some(soa), 1) = (of_zone.next(), response.counts[1]) {
            let name = LowercaseName::new(end.as_bytes());
            let owner = lowercase(reply, &soa.first);
            let is_signed = self.signer.signer_of(&name, asked).is_some();
            let has_soa = self.signer.zone_of(&owner).is_some() && name.is_within(owner.as_bytes());
            if !is_signed || !has_soa || soa.is_signed {
                return None;
            }
            let ttl = ttl(soa);
            let is_missing = response.rcode() == Rcode::NxDomain as u16;
            let proof = if is_missing { Proof::UnknownName(*end) } else { Proof::OtherTypes(*end) };
            return Some((proof, ttl));
        }
        let answers =
            |set: &SetOf| set.section == 0 && (asked == rtype::ANY || set.first.rtype == asked);
        if sets.iter().any(answers) || response.rcode() != Rcode::NoError as u16 {
            return None;
        }
        let cut = authority().find(|set| set.is_cut)?;
        if authority().any(|set| matches!(set.first.rtype, rtype::DS | rtype::NSEC | rtype::NSEC3))
        {
            return None;
        }
        let (owner, _) = WireName::read(reply, cut.first.start)?;
        self.signer.signer_of(&LowercaseName::new(owner.as_bytes()), rtype::DS)?;
        Some((Proof::InsecureCut(owner), ttl(cut)))
    }

    /// Appends the signatures of a set; returns their number.
    fn sign_set(
        &mut self,
        number: u8,
        set: &SetOf,
        own: &impl OwnNames,
        joiner: &mut Joiner<'_>,
    ) -> Result<usize, NotNow> {
        let (reply, first) = (self.job.reply, &set.first);
        let name = lowercase(reply, first);
        if self.signer.signer_of(&name, first.rtype).is_none() {
            return Ok(0);
        }
        let written = u32_at(reply, first.fixed + 4).unwrap_or(0);
        let is_own = own.has(&name, first.rtype) || self.signer.has_keys_at(&name, first.rtype);
        let (ttl, original) =
            if is_own { (written, written) } else { (written.min(FOREIGN_TTL), FOREIGN_TTL) };
        self.draft.clear();
        let Some(response) = Response::parse(reply) else { return Ok(0) };
        for ((_, record), member) in records(reply, &response).zip(self.members) {
            if *member == number {
                let expand = |all: &mut Vec<u8>| expand_data(reply, &record, all);
                if self.draft.add_parts(first.rtype, expand).is_none() {
                    return Err(NotNow);
                }
            }
        }
        let Some((owner, _)) = WireName::read(reply, first.start) else { return Ok(0) };
        let at = (set.section, false);
        self.add_signatures(joiner, at, (&owner, &name), first.rtype, (ttl, original))
    }

    /// Appends the signatures of the set in the draft to a section; returns their number.
    /// `is_spare`: signatures of other sets are more important.
    fn add_signatures(
        &mut self,
        joiner: &mut Joiner<'_>,
        (section, is_spare): (usize, bool),
        (owner, name): (&WireName, &LowercaseName),
        rtype: u16,
        (ttl, original): (u32, u32),
    ) -> Result<usize, NotNow> {
        let signer = self.signer;
        let Some(zone) = signer.signer_of(name, rtype) else { return Ok(0) };
        let mut count = 0;
        for (number, key) in signer.keys_for(rtype) {
            let set = Owner { name: name.as_bytes(), rtype, class: class::IN };
            let algorithm = key.public.algorithm as u8;
            self.draft.compose(&set, original, (algorithm, key.tag), zone);
            let len = key.pair.signature_len();
            // Free places have the hash 0.
            let hash = self.hasher.hash_one((number, self.draft.bytes())).max(1);
            match self.table.find(hash, self.job.unix) {
                Some(times) => self.draft.set_times(times.0, times.1),
                None => self.make(key, hash, is_spare)?,
            }
            let signature = self.table.signature(hash, len).ok_or(NotNow)?;
            let data = [self.draft.head(), signature];
            joiner.append(section, owner, RRSIG, ttl, &data);
            count += 1;
        }
        Ok(count)
    }

    /// Makes the signature of the composed draft and keeps it.
    fn make(&mut self, key: &Key, hash: u64, is_spare: bool) -> Result<(), NotNow> {
        if !self.budget.allows(self.job.now, is_spare) {
            self.table.stats.refused += 1;
            return Err(NotNow);
        }
        let len = key.pair.signature_len();
        let cost = u64::from(key.public.algorithm.cost_us());
        // The time for RSA grows with the third power of the length; others are shorter than this.
        let len_of_rsa = len.max(RSA_2048_LEN) as u64;
        let size = len_of_rsa.pow(3) * 1_000 / (RSA_2048_LEN as u64).pow(3);
        self.budget.spend(Duration::from_nanos(cost * size));
        let inception = self.job.unix.wrapping_sub(BACKDATED);
        let validity = VALIDITY - (hash % JITTER) as u32;
        let times = (inception, self.job.unix.wrapping_add(validity));
        self.draft.set_times(times.0, times.1);
        let room = self.table.make_room(hash, len, times).ok_or(NotNow)?;
        if !self.draft.sign(&key.pair, room) {
            self.table.forget(hash);
            return Err(NotNow);
        }
        Ok(())
    }

    /// Appends the NSEC record that proves a denial, and its signatures.
    fn prove(
        &mut self,
        proof: &Proof,
        (asked, ttl): (u16, u32),
        (own, types, data): (&impl OwnNames, &mut Types, &mut Vec<u8>),
        joiner: &mut Joiner<'_>,
        section: usize,
    ) -> Result<usize, NotNow> {
        let (Proof::UnknownName(owner) | Proof::OtherTypes(owner) | Proof::InsecureCut(owner)) =
            proof;
        let name = LowercaseName::new(owner.as_bytes());
        types.clear();
        match proof {
            Proof::UnknownName(_) => types.add(NXNAME),
            Proof::InsecureCut(_) => types.add(rtype::NS),
            Proof::OtherTypes(_) => {
                let is_apex =
                    self.signer.zone_of(&name).is_some_and(|zone| zone == name.as_bytes());
                if own.types_at(&name, asked, &mut |rtype| types.add(rtype)) {
                    if is_apex && asked != rtype::DS {
                        types.add(DNSKEY);
                    }
                } else {
                    types.extend(&LIKELY);
                    if is_apex {
                        types.extend(&LIKELY_APEX);
                    }
                    if asked == rtype::DS {
                        types.add(rtype::NS);
                    }
                }
                types.remove(asked);
            }
        }
        types.extend(&[rtype::RRSIG, rtype::NSEC]);
        let original = if own.has(&name, asked) { ttl } else { FOREIGN_TTL };
        let ttl = ttl.min(original);
        data.clear();
        if !next_name(name.as_bytes(), data) {
            return Err(NotNow);
        }
        types.write(data);
        self.draft.clear();
        self.draft.add(rtype::NSEC, data);
        joiner.append(section, owner, rtype::NSEC, ttl, &[data]);
        let at = (section, matches!(proof, Proof::UnknownName(_)));
        self.add_signatures(joiner, at, (owner, &name), rtype::NSEC, (ttl, original))
    }
}

/// Appends the name behind `name`, which is in lower case, in canonical order; no possible name is
/// between the two (RFC 4470 §3.1.2). Returns false if there is none below the same parent.
fn next_name(name: &[u8], out: &mut Vec<u8>) -> bool {
    if name.len() + 2 <= NAME_LEN_MAX {
        out.extend([1, 0]);
        out.extend(name);
        return true;
    }
    let (label, parent) = name[1..].split_at(usize::from(name[0]));
    if label.len() < LABEL_LEN_MAX && name.len() < NAME_LEN_MAX {
        out.push(name[0] + 1);
        out.extend(label);
        out.push(0);
        out.extend(parent);
        return true;
    }
    // Nothing can be added: the last octet that can be raised is, and those behind it are left out.
    let Some(place) = label.iter().rposition(|octet| *octet < 0xff) else { return false };
    out.push(place as u8 + 1);
    out.extend(&label[..place]);
    // Letters are in lower case.
    out.push(if label[place] == b'@' { b'[' } else { label[place] + 1 });
    out.extend(parent);
    true
}

fn lowercase(packet: &[u8], record: &Record) -> LowercaseName {
    let mut name = [0; NAME_LEN_MAX];
    let len = expand_name(packet, record.start, &mut name).unwrap_or(1);
    LowercaseName::new(&name[..len.max(1)])
}

/// Appends the data of a record without compression.
fn expand_data(packet: &[u8], record: &Record, out: &mut Vec<u8>) -> Option<()> {
    let whole = packet.get(..record.end)?;
    let mut place = record.data;
    for part in parts(record.rtype).unwrap_or_default() {
        let end = match part {
            Part::Bytes(len) => place + len,
            Part::Text => place + 1 + usize::from(*whole.get(place)?),
            Part::Name | Part::PlainName => {
                let (name, end) = WireName::read(whole, place)?;
                out.extend(name.as_bytes());
                place = end;
                continue;
            }
        };
        out.extend(whole.get(place..end)?);
        place = end;
    }
    out.extend(whole.get(place..)?);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::next_name;
    use crate::engine::message::NAME_LEN_MAX;

    fn next(labels: &[&[u8]]) -> Option<Vec<u8>> {
        let mut name = Vec::new();
        labels.iter().for_each(|label| {
            name.push(label.len() as u8);
            name.extend(*label);
        });
        name.push(0);
        let mut out = Vec::new();
        next_name(&name, &mut out).then(|| {
            assert!(out.len() <= NAME_LEN_MAX);
            // The last label is the root.
            let len = usize::from(out[0]);
            out[1..=len].to_vec()
        })
    }

    #[test]
    fn the_next_name_leaves_room_for_no_other() {
        let long = [b'x'; 63];
        assert_eq!(next(&[b"a"]), Some(vec![0]));
        // 254 octets: one more fits into the label.
        let label = [b'a'; 60];
        assert_eq!(next(&[&label, &long, &long, &long]), Some([&label[..], &[0]].concat()));
        // 255 octets, and 254 with a full label: the last octet is raised.
        let label = [b'a'; 61];
        let raised = [&[b'a'; 60][..], b"b"].concat();
        assert_eq!(next(&[&label, &long, &long, &long]), Some(raised));
        let short = [b'x'; 60];
        let raised = [&[b'x'; 62][..], b"y"].concat();
        assert_eq!(next(&[&long, &long, &long, &short]), Some(raised));
        let mut label = [0xff; 61];
        assert_eq!(next(&[&label, &long, &long, &long]), None);
        label[3] = b'@';
        assert_eq!(next(&[&label, &long, &long, &long]), Some(b"\xff\xff\xff[".to_vec()));
    }
}
