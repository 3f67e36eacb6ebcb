//! The records of an incoming transfer, from its first SOA record to the last. PURE.
//!
//! A whole zone is between two equal SOA records (RFC 5936 §2.2). Differences (RFC 1995 §4) are
//! sequences of removed and of added records, each behind a SOA record, from the serial of the zone
//! at hand to the new one. They are applied only if they fit: each removed record is in the zone,
//! no added one is, and the serials make a chain. Otherwise the transfer is refused, and the caller
//! asks for the whole zone.

use crate::config::rcode_mnemonic;
use crate::engine::authority::{Builder, Built, Zone};
use crate::engine::message::data::expanded_record;
use crate::engine::message::name::WireName;
use crate::engine::message::{HEADER_LEN, Question, class, flags, rtype, u16_at, u32_at};
use ahash::RandomState;
use std::collections::{HashMap, HashSet};

/// Types that are no data of a zone.
const QUERY_TYPES: std::ops::RangeInclusive<u16> = 249..=255;
/// Type NSEC3PARAM (RFC 5155 §4).
const NSEC3PARAM: u16 = 51;

/// Memory of a record in addition to its owner and data, approximately.
const RECORD_COST: usize = 64;
/// Maximum memory of the records of a whole zone: compressed names make a message small.
const WHOLE_MAX: usize = 2 << 30;
/// Maximum memory of differences; a whole zone takes less for as many records.
const DIFFERENCES_MAX: usize = 256 << 20;

/// State after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Further messages follow.
    More,
    /// The transfer is complete.
    Done,
    /// The zone at hand is current.
    Current,
}

/// An owner, a type and data.
type Key = (Box<[u8]>, u16, Box<[u8]>);

/// A SOA record: its data, with its TTL.
#[derive(Clone, PartialEq, Eq)]
struct Soa {
    ttl: u32,
    data: Vec<u8>,
}

impl Soa {
    fn serial(&self) -> Option<u32> {
        u32_at(&self.data, self.data.len().checked_sub(20)?)
    }
}

/// Position in the transfer.
enum Stage {
    /// Before the first SOA record.
    Start,
    /// Behind it: the next record decides between a whole zone and differences.
    First,
    /// In a whole zone.
    Whole,
    /// Among records that are removed from the version with this serial.
    Removing(u32),
    /// Among records that are added to the version with this serial.
    Adding(u32),
    /// Behind the last SOA record.
    Done,
}

/// A transfer in progress.
pub(super) struct Incoming<'z> {
    apex: &'z [u8],
    id: u16,
    /// The zone at hand, if differences were asked for.
    base: Option<&'z Zone>,
    hasher: RandomState,
    stage: Stage,
    first: Option<Soa>,
    builder: Option<Builder>,
    removed: HashSet<Key>,
    /// Added records, with their number and TTL.
    added: HashMap<Key, (usize, u32)>,
    numbered: usize,
    /// Memory in bytes of the records so far, approximately.
    held: usize,
}

impl<'z> Incoming<'z> {
    /// The answer to query `id` for the zone with this `apex`, which is in lower case; for the
    /// differences from `base`, if given. `hasher` is keyed.
    pub(super) fn new(
        apex: &'z [u8],
        id: u16,
        base: Option<&'z Zone>,
        hasher: RandomState,
    ) -> Self {
        let (removed, added, numbered, held) = (HashSet::new(), HashMap::new(), 0, 0);
        let (stage, first, builder) = (Stage::Start, None, None);
        Self { apex, id, base, hasher, stage, first, builder, removed, added, numbered, held }
    }

    /// Takes a message.
    ///
    /// # Errors
    /// The message does not belong to a good transfer.
    pub(super) fn take(&mut self, packet: &[u8]) -> Result<Progress, String> {
        let records = answers(packet, self.id, self.apex)?;
        let Some((count, mut place)) = records.filter(|(count, _)| *count > 0) else {
            return Err("a message without records".into());
        };
        let mut data = Vec::new();
        for _ in 0..count {
            let malformed = || String::from("a malformed record");
            let record = expanded_record(packet, place, &mut data).ok_or_else(malformed)?;
            let (owner, _) = WireName::read(packet, record.start).ok_or_else(malformed)?;
            let ttl = u32_at(packet, record.fixed + 4).unwrap_or(0);
            // A TTL with the highest bit counts as zero (RFC 2181 §8).
            let ttl = if ttl >> 31 == 0 { ttl } else { 0 };
            place = record.end;
            if record.class != class::IN {
                return Err("a record of another class".into());
            }
            if record.rtype == rtype::OPT || QUERY_TYPES.contains(&record.rtype) {
                return Err("a record of a type that no zone has".into());
            }
            if matches!(record.rtype, rtype::NSEC3 | NSEC3PARAM) {
                return Err("NSEC3 zone is not supported: sign the zone with NSEC".into());
            }
            let mut owner = owner.as_bytes().to_vec();
            owner.make_ascii_lowercase();
            self.record(&owner, record.rtype, ttl, &data)?;
        }
        let is_alone = matches!(self.stage, Stage::First) && self.base.is_some();
        let serial = self.first.as_ref().and_then(Soa::serial);
        Ok(match &self.stage {
            Stage::Done => Progress::Done,
            _ if is_alone && serial == self.base.map(Zone::serial) => Progress::Current,
            _ => Progress::More,
        })
    }

    /// Returns the zone of a complete transfer, and true if it was made by differences.
    ///
    /// # Errors
    /// The records do not form a zone.
    pub(super) fn finish(self) -> Result<(Built, bool), String> {
        let (Some(first), Stage::Done) = (self.first, self.stage) else {
            return Err("the transfer is incomplete".into());
        };
        let is_incremental = self.builder.is_none();
        let builder = match (self.builder, self.base) {
            (Some(builder), _) => builder,
            (None, None) => return Err("the transfer is incomplete".into()),
            (None, Some(base)) => {
                let mut builder = Builder::new(self.apex, 0, self.hasher.clone());
                builder.reserve(base.records() + self.added.len());
                builder.add(self.apex, rtype::SOA, first.ttl, &first.data, (0, 0))?;
                let mut failed = None;
                base.each_record(|owner, rtype, ttl, data| {
                    let is_soa = rtype == rtype::SOA;
                    let is_gone = !self.removed.is_empty()
                        && self.removed.contains(&(owner.into(), rtype, data.into()));
                    if !is_soa && !is_gone {
                        failed = builder.add(owner, rtype, ttl, data, (0, 0)).err();
                    }
                    failed.is_none()
                });
                if let Some(error) = failed {
                    return Err(error);
                }
                let mut added: Vec<_> = self.added.into_iter().collect();
                added.sort_unstable_by_key(|(_, (number, _))| *number);
                for ((owner, rtype, data), (_, ttl)) in added {
                    builder.add(&owner, rtype, ttl, &data, (0, 0))?;
                }
                builder
            }
        };
        let built = builder.finish().map_err(|refused| refused.what)?;
        // Such a zone is a mistake of the primary, and would deny all names.
        if built.zone.records() <= 1 {
            return Err("the zone has nothing but its SOA record".into());
        }
        if Some(built.zone.serial()) != first.serial() {
            return Err("the zone has another serial than its first record".into());
        }
        Ok((built, is_incremental))
    }

    fn record(&mut self, owner: &[u8], rtype: u16, ttl: u32, data: &[u8]) -> Result<(), String> {
        self.held += owner.len() + data.len() + RECORD_COST;
        let is_whole = self.builder.is_some();
        let limit = if is_whole { WHOLE_MAX } else { DIFFERENCES_MAX };
        if self.held > limit {
            return Err(format!("more than {} MiB of records", limit >> 20));
        }
        let soa = (rtype == rtype::SOA).then(|| Soa { ttl, data: data.to_vec() });
        if soa.is_some() && owner != self.apex {
            return Err("a SOA record of another name".into());
        }
        match (&self.stage, soa) {
            (Stage::Start, Some(soa)) => {
                soa.serial().ok_or("a malformed SOA record")?;
                (self.first, self.stage) = (Some(soa), Stage::First);
            }
            (Stage::Start, None) => return Err("the first record is not SOA".into()),
            (Stage::First, Some(soa)) if self.begins_differences(&soa) => {
                self.stage = Stage::Removing(soa.serial().ok_or("a malformed SOA record")?);
            }
            (Stage::First, soa) => {
                let first = self.first.as_ref().ok_or("no SOA record")?;
                let mut builder = Builder::new(self.apex, 0, self.hasher.clone());
                builder.add(self.apex, rtype::SOA, first.ttl, &first.data, (0, 0))?;
                (self.builder, self.stage) = (Some(builder), Stage::Whole);
                match soa {
                    Some(soa) => self.end_whole(&soa)?,
                    None => self.add_whole(owner, rtype, ttl, data)?,
                }
            }
            (Stage::Whole, Some(soa)) => self.end_whole(&soa)?,
            (Stage::Whole, None) => self.add_whole(owner, rtype, ttl, data)?,
            (Stage::Removing(from), Some(soa)) => {
                let to = soa.serial().ok_or("a malformed SOA record")?;
                let last = self.first.as_ref().and_then(Soa::serial).unwrap_or(to);
                if !is_newer(to, *from) || is_newer(to, last) {
                    return Err("differences whose serials do not rise to that of the zone".into());
                }
                self.stage = Stage::Adding(to);
            }
            (Stage::Removing(_), None) => self.remove((owner.into(), rtype, data.into()))?,
            (Stage::Adding(serial), Some(soa)) => {
                let serial = *serial;
                if soa.serial() != Some(serial) {
                    return Err("differences whose serials do not follow each other".into());
                }
                let is_last = Some(serial) == self.first.as_ref().and_then(Soa::serial);
                self.stage = if is_last { Stage::Done } else { Stage::Removing(serial) };
            }
            (Stage::Adding(_), None) => self.add((owner.into(), rtype, data.into()), ttl)?,
            (Stage::Done, _) => return Err("records behind the last SOA record".into()),
        }
        Ok(())
    }

    /// Returns true if the second record, which is a SOA, shows that differences follow.
    fn begins_differences(&self, soa: &Soa) -> bool {
        let base = self.base.map(Zone::serial);
        base.is_some() && soa.serial() == base && Some(soa) != self.first.as_ref()
    }

    fn add_whole(&mut self, owner: &[u8], rtype: u16, ttl: u32, data: &[u8]) -> Result<(), String> {
        let builder = self.builder.as_mut().ok_or("no SOA record")?;
        builder.add(owner, rtype, ttl, data, (0, 0))
    }

    fn end_whole(&mut self, soa: &Soa) -> Result<(), String> {
        if Some(soa) != self.first.as_ref() {
            return Err("the last SOA record differs from the first".into());
        }
        self.stage = Stage::Done;
        Ok(())
    }

    fn remove(&mut self, key: Key) -> Result<(), String> {
        if self.added.remove(&key).is_some() {
            return Ok(());
        }
        let is_there = self.base.is_some_and(|base| base.has_record(&key.0, key.1, &key.2));
        if !is_there || !self.removed.insert(key) {
            return Err("differences remove a record that the zone does not have".into());
        }
        Ok(())
    }

    fn add(&mut self, key: Key, ttl: u32) -> Result<(), String> {
        let is_there = self.base.is_some_and(|base| base.has_record(&key.0, key.1, &key.2));
        let is_there = is_there && !self.removed.contains(&key);
        self.numbered += 1;
        if is_there || self.added.insert(key, (self.numbered, ttl)).is_some() {
            return Err("differences add a record that the zone has".into());
        }
        Ok(())
    }
}

/// Returns true if a serial is newer than another (RFC 1982 §3.2).
pub(in crate::loader) fn is_newer(serial: u32, other: u32) -> bool {
    serial.wrapping_sub(other).cast_signed() > 0
}

/// Checks that a message answers query `id` about the zone, and returns the number of its answer
/// records and the place of the first one.
///
/// # Errors
/// The message answers another query, or is an error response.
pub(super) fn answers(packet: &[u8], id: u16, apex: &[u8]) -> Result<Option<(u16, usize)>, String> {
    let word = u16_at(packet, 2).ok_or("a message that is too short")?;
    if u16_at(packet, 0) != Some(id) || word & (flags::QR | flags::OPCODE) != flags::QR {
        return Err("a message that answers another query".into());
    }
    let code = word & flags::RCODE;
    if code != 0 {
        return Err(rcode_mnemonic(code).map_or_else(|| code.to_string(), str::to_owned));
    }
    if word & flags::TC != 0 {
        return Err("a truncated message".into());
    }
    let place = match u16_at(packet, 4) {
        Some(0) => HEADER_LEN,
        Some(1) => {
            let question = Question::parse(packet).ok_or("a malformed question")?;
            if !question.name(packet).eq_ignore_ascii_case(apex) {
                return Err("a message that answers another query".into());
            }
            question.end()
        }
        _ => return Err("a message with several questions".into()),
    };
    Ok(u16_at(packet, 6).map(|count| (count, place)))
}

#[cfg(test)]
mod tests;
