//! Signatures of a zone: which are due, and the text of the zone with them. Takes the time as an
//! argument.
//!
//! The signed zone of before is the only memory. An RRset that stands in it as it is now keeps its
//! signatures until less than a quarter of their validity is left, so a change of few records makes
//! few signatures. [`examine`] compares the two; [`write`] makes what is due and writes all.

use super::content::{Content, RrSet};
use super::keys::{CDNSKEY, CDS, DNSKEY, ZoneKey};
use crate::config::RecordType;
use crate::config::record::{write_data, write_name};
use crate::dnssec::{Draft, Owner, RRSIG_HEAD, label_count};
use crate::engine::authority::{Node, Set, Zone};
use crate::engine::message::{class, rtype, u16_at, u32_at};
use std::fmt::Write as _;
use std::io;

/// Share of a signature's validity that is left when it is renewed: one part of this many.
const RENEWED_AT: u32 = 4;
/// Signatures that are made between two checks whether the work is still wanted.
const PART: usize = 64;

/// Begin and end of signatures, in the 32 bits of RFC 4034 §3.1.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    /// Inception.
    pub(super) from: u32,
    /// Expiration.
    pub(super) until: u32,
}

impl Validity {
    /// Seconds before now at which signatures begin at least, for clients whose clock is late.
    pub(super) const BACKDATED: u32 = 3 * 3_600;
    /// Seconds by which they begin still earlier, at most.
    const EARLIER_MAX: u32 = 18 * 3_600;
    /// Seconds for which signatures are valid at least.
    const LEAST: u32 = 32 * 86_400;
    /// Seconds for which they are valid longer, at most.
    const LONGER_MAX: u32 = 5 * 86_400;

    /// The validity of signatures that are made at `now`. `random` spreads the ends of different
    /// zones.
    pub(super) fn new(now: u32, random: u64) -> Self {
        let share = |max: u32, random: u64| (random % u64::from(max)) as u32;
        let earlier = Self::BACKDATED + share(Self::EARLIER_MAX, random >> 32);
        let longer = Self::LEAST + share(Self::LONGER_MAX, random & u64::from(u32::MAX));
        Self { from: now.wrapping_sub(earlier), until: now.wrapping_add(longer) }
    }

    /// The validity in the data of an RRSIG record.
    fn of(data: &[u8]) -> Option<Self> {
        Some(Self { until: u32_at(data, 8)?, from: u32_at(data, 12)? })
    }

    /// Seconds from `now` to the time of renewal; zero if it is over, or if the signature is not
    /// valid at `now`.
    fn left(self, now: u32) -> u32 {
        let whole = self.until.wrapping_sub(self.from);
        let renewal = self.until.wrapping_sub(whole / RENEWED_AT);
        let is_in_order = whole as i32 > 0 && now.wrapping_sub(self.from) as i32 >= 0;
        let left = renewal.wrapping_sub(now) as i32;
        if is_in_order { left.max(0) as u32 } else { 0 }
    }
}

/// Returns the newer of two serial numbers (RFC 1982).
pub(super) fn newer(one: u32, other: u32) -> u32 {
    if other.wrapping_sub(one) as i32 > 0 { other } else { one }
}

/// The signed zone of before.
pub(super) struct Before<'z> {
    zone: &'z Zone,
    /// Numbers of the keys whose DNSKEY records stand in it.
    known: Vec<bool>,
}

/// Comparison of a zone with the signed zone of before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// The records of keys differ.
    pub(super) has_other_keys: bool,
    /// Other records differ.
    pub(super) has_other_records: bool,
    /// Signatures of unchanged RRsets that have to be renewed.
    pub(super) due: usize,
    /// Seconds until the first signature has to be renewed, if none has to be now.
    pub(super) left: u32,
}

/// Result of signing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Made {
    /// New signatures.
    pub(super) made: usize,
    /// Signatures that were kept.
    pub(super) kept: usize,
    /// Seconds until the first of all has to be renewed.
    pub(super) left: u32,
}

/// Reason why a zone was not signed.
#[derive(Debug)]
pub(super) enum Stop {
    /// The result is not wanted any more.
    Unwanted,
    /// The signed file cannot be written.
    Io(io::Error),
    /// The kernel has no random numbers.
    Random,
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl<'z> Before<'z> {
    /// The signed zone of before, which these keys are now for.
    pub(super) fn new(zone: &'z Zone, keys: &[ZoneKey]) -> Self {
        let has = |key: &ZoneKey| zone.has_record(zone.apex(), DNSKEY, &key.data);
        Self { zone, known: keys.iter().map(has).collect() }
    }

    fn node(&self, owner: &[u8]) -> Option<Node<'z>> {
        let name = owner.len().checked_sub(self.zone.apex().len())?;
        self.zone.node_of(&owner[..name])
    }
}

/// Compares `content` with the signed zone of before, at `now`.
pub(super) fn examine(
    content: &Content<'_>,
    keys: &[ZoneKey],
    before: &Before<'_>,
    now: u32,
) -> Findings {
    let mut findings = Findings { left: u32::MAX, ..Findings::default() };
    let mut count = 0;
    let apex = content.apex();
    let done: Result<(), ()> = content.each_set(|set| {
        count += set.data.len();
        let node = before.node(set.owner);
        if !node.is_some_and(|node| is_same(&node, set)) {
            let is_of_keys = set.owner == apex && matches!(set.rtype, DNSKEY | CDS | CDNSKEY);
            findings.has_other_keys |= is_of_keys;
            findings.has_other_records |= !is_of_keys;
            return Ok(());
        }
        for number in signers(keys, set) {
            let kept = node.and_then(|node| kept(&node, set, before, (keys, number), apex));
            let left = kept.and_then(Validity::of).map_or(0, |validity| validity.left(now));
            findings.due += usize::from(left == 0);
            findings.left = findings.left.min(left);
        }
        Ok(())
    });
    debug_assert!(done.is_ok());
    // Each RRset is there as it was: the zone of before may still have had others.
    let others = before.zone.nodes().flat_map(|node| node.sets().collect::<Vec<_>>());
    let others = others.filter(|set| set.rtype != rtype::RRSIG).map(|set| set.data().count());
    findings.has_other_records |= !findings.has_other_keys && others.sum::<usize>() != count;
    findings
}

/// Numbers of the keys that sign an RRset.
fn signers<'a>(keys: &'a [ZoneKey], set: &RrSet<'_>) -> impl Iterator<Item = usize> + use<'a> {
    let (is_signed, rtype) = (set.is_signed, set.rtype);
    let signs = move |(_, key): &(usize, &ZoneKey)| is_signed && key.signs(rtype);
    keys.iter().enumerate().filter(signs).map(|(number, _)| number)
}

/// Returns true if the node has this RRset.
fn is_same(node: &Node<'_>, set: &RrSet<'_>) -> bool {
    let Some(own) = node.set(set.rtype).filter(|own| own.ttl == set.ttl) else { return false };
    own.data().eq(set.data.iter().copied()) || is_same_in_other_order(own, set)
}

fn is_same_in_other_order(own: Set<'_>, set: &RrSet<'_>) -> bool {
    if own.data().count() != set.data.len() {
        return false;
    }
    let mut both = [own.data().collect::<Vec<_>>(), set.data.to_vec()];
    both.iter_mut().for_each(|data| data.sort_unstable());
    both[0] == both[1]
}

/// Returns the signature that a node has of an RRset that is unchanged.
fn kept<'z>(
    node: &Node<'z>,
    set: &RrSet<'_>,
    before: &Before<'_>,
    (keys, number): (&[ZoneKey], usize),
    apex: &[u8],
) -> Option<&'z [u8]> {
    let key = keys.get(number).filter(|_| before.known[number])?;
    node.signatures(set.rtype).find(|data| {
        let len = RRSIG_HEAD + apex.len() + key.pair.signature_len();
        data.len() == len
            && data[2..4] == [key.algorithm as u8, label_count(set.owner)]
            && u32_at(data, 4) == Some(set.ttl)
            && u16_at(data, 16) == Some(key.tag)
            && data[RRSIG_HEAD..].starts_with(apex)
    })
}

/// Writes the zone with signatures: those of `before` that are not due at `now`, and new ones with
/// this validity. `is_wanted` is asked now and then.
///
/// # Errors
/// [`Stop`].
pub(super) fn write(
    content: &Content<'_>,
    keys: &[ZoneKey],
    before: Option<&Before<'_>>,
    (now, validity): (u32, Validity),
    out: &mut impl io::Write,
    is_wanted: &mut dyn FnMut() -> bool,
) -> Result<Made, Stop> {
    let apex = content.apex();
    let mut result = Made { left: validity.left(now), ..Made::default() };
    let (mut draft, mut lines, mut owner) = (Draft::default(), String::new(), String::new());
    let mut data = Vec::new();
    content.each_set(|set| {
        lines.clear();
        owner.clear();
        write_name(set.owner, &mut owner);
        for data in set.data {
            line(&mut lines, &owner, (set.rtype, set.ttl), data);
        }
        let node = before.and_then(|before| before.node(set.owner));
        let node = node.filter(|node| is_same(node, set));
        for number in signers(keys, set) {
            let old = node.zip(before);
            let old = old.and_then(|(node, before)| kept(&node, set, before, (keys, number), apex));
            let left = old.and_then(Validity::of).map_or(0, |validity| validity.left(now));
            if let Some(old) = old.filter(|_| left > 0) {
                result.kept += 1;
                result.left = result.left.min(left);
                line(&mut lines, &owner, (rtype::RRSIG, set.ttl), old);
                continue;
            }
            if result.made.is_multiple_of(PART) && !is_wanted() {
                return Err(Stop::Unwanted);
            }
            result.made += 1;
            sign(set, &keys[number], apex, validity, &mut draft, &mut data)?;
            line(&mut lines, &owner, (rtype::RRSIG, set.ttl), &data);
        }
        Ok(out.write_all(lines.as_bytes())?)
    })?;
    Ok(result)
}

/// Makes a signature: `data` becomes that of its RRSIG record.
fn sign(
    set: &RrSet<'_>,
    key: &ZoneKey,
    apex: &[u8],
    validity: Validity,
    draft: &mut Draft,
    data: &mut Vec<u8>,
) -> Result<(), Stop> {
    draft.clear();
    set.data.iter().for_each(|data| draft.add(set.rtype, data));
    let owner = Owner { name: set.owner, rtype: set.rtype, class: class::IN };
    draft.compose(&owner, set.ttl, (key.algorithm as u8, key.tag), apex);
    draft.set_times(validity.from, validity.until);
    data.clear();
    data.extend(draft.head());
    let begin = data.len();
    data.resize(begin + key.pair.signature_len(), 0);
    if draft.sign(&key.pair, &mut data[begin..]) { Ok(()) } else { Err(Stop::Random) }
}

/// Appends the line of a record.
fn line(lines: &mut String, owner: &str, (rtype, ttl): (u16, u32), data: &[u8]) {
    // Writing to a string never fails.
    let _ = write!(lines, "{owner}\t{ttl}\tIN\t{}\t", RecordType(rtype));
    write_data(rtype, data, lines);
    lines.push('\n');
}
