//! Entries as records, for another process.
//!
//! A record has what an answer is worth anywhere: neither the keys of a hash nor a place in memory
//! nor a time of this process's clock. [`Copier`] makes records of the entries that have changed
//! since its last round, and [`Cache::restore`] stores the entry of a record in another cache of
//! the same settings. The caller moves the bytes. Records of an entry and of those before it in its
//! slot have the slot's number; the last one holds.
//!
//! ```text
//! number │ length │ checksum │ time when it was stored │ use │ four words │ packed answer
//! ```
//!
//! Bytes are not trusted: [`Head::matches`] notices bits that have changed, and what an entry says
//! of its answer is compared with the answer, because a record that was made of other bytes by
//! mistake must not lead a reader astray.

use super::Cache;
use super::admission::AnswerClass;
use super::blocks::{Blocks, Counters};
use super::entry::{Entry, Key, Scratch, USED};
use super::rooms::Room;
use super::sequence::read;
use super::store::{Past, Seen, Store, slot_of};
use super::sweep::useless_at;
use crate::engine::message::NAME_LEN_MAX;
use crate::engine::message::reply::EDE_LEN_MAX;
use crate::moment::{Moment, nanos};
use ahash::RandomState;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Number of the format of records, of packed answers and of words of an entry. It grows whenever
/// one of them changes.
const LAYOUT: u32 = 1;
/// First bytes of records for another process.
pub(crate) const PREFACE: [u8; 16] = {
    let mut bytes = *b"onward-cache\0\0\0\0";
    bytes.split_at_mut(12).1.copy_from_slice(&LAYOUT.to_le_bytes());
    bytes
};
/// Number of a record whose body is a [`Fingerprint`]: that of the cache of the following records.
pub(crate) const CACHE: u32 = u32::MAX;
/// Number of a record without a body: the records so far are those of all entries.
pub(crate) const COMPLETE: u32 = u32::MAX - 1;

/// Length of the words at the beginning of a body.
const WORDS_LEN: usize = 6 * size_of::<u64>();
/// Number of slots for which a shard is locked at a time.
const STRETCH: u32 = 32;
/// Maximum of the difference by which a stored entry may be younger than the present: two readings
/// of the calendar's clock.
const AHEAD_MAX: Duration = Duration::from_secs(1);

/// Fingerprint of the settings on which the answers of a cache depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint(pub(crate) [u8; Fingerprint::LEN]);

impl Fingerprint {
    /// Length in bytes.
    pub(crate) const LEN: usize = 16;

    /// Fingerprint of a text.
    pub(super) fn of(text: &str) -> Self {
        let halves = [0, 1].map(|seed| digest(seed, text.as_bytes()).to_le_bytes());
        let mut bytes = [0; Self::LEN];
        bytes.copy_from_slice(halves.as_flattened());
        Self(bytes)
    }
}

/// The beginning of a record, which has its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Number of the slot, [`CACHE`] or [`COMPLETE`].
    pub(crate) number: u32,
    /// Length of the body; of a slot's record, zero means that it is vacant.
    pub(crate) len: usize,
    sum: u64,
}

impl Head {
    /// Length in bytes.
    pub(crate) const LEN: usize = 16;
    /// Maximum length of a body in bytes.
    pub(crate) const BODY_MAX: usize = WORDS_LEN + Scratch::PACKED_MAX;

    /// Reads a head; `None`: no body is that long.
    pub(crate) fn parse(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let word = u64::from_le_bytes(*bytes.first_chunk()?);
        let sum = u64::from_le_bytes(*bytes.last_chunk()?);
        let len = (word >> 32) as usize;
        (len <= Self::BODY_MAX).then_some(Self { number: word as u32, len, sum })
    }

    /// Returns true if head and body are as they were written.
    pub(crate) fn matches(&self, body: &[u8]) -> bool {
        self.len == body.len() && self.sum == sum_of(self.number, body)
    }
}

/// Appends a record.
pub(crate) fn append(out: &mut Vec<u8>, number: u32, parts: &[&[u8]]) {
    let start = out.len();
    out.extend([0; Head::LEN]);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    let (head, body) = out[start..].split_at_mut(Head::LEN);
    head[..8].copy_from_slice(&word_of(number, body).to_le_bytes());
    head[8..].copy_from_slice(&sum_of(number, body).to_le_bytes());
}

fn word_of(number: u32, body: &[u8]) -> u64 {
    (body.len() as u64) << 32 | u64::from(number)
}

fn sum_of(number: u32, body: &[u8]) -> u64 {
    digest(word_of(number, body), body)
}

/// A checksum that differs if one word of `bytes` differs, because each step is reversible.
fn digest(seed: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let begin = mixed(!(bytes.len() as u64), seed);
    let state = words.iter().fold(begin, |state, word| mixed(state, u64::from_le_bytes(*word)));
    mixed(state, u64::from_le_bytes(last))
}

fn mixed(state: u64, word: u64) -> u64 {
    let state = (state ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state ^ state >> 29
}

/// Copies of a cache's entries, made in rounds over its slots.
pub(crate) struct Copier {
    store: Arc<Store>,
    scratch: Scratch,
    /// Half of the sequence number that each slot had when it was copied, by class.
    known: [Vec<u32>; 2],
    /// Vacant slots need no record, because no other process has an entry of theirs.
    is_first: bool,
    class: usize,
    shard: usize,
    slot: u32,
}

impl Copier {
    /// Nothing is copied yet.
    pub(crate) fn new(store: Arc<Store>) -> Self {
        let known = store.rooms.each_ref().map(|room| vec![0; room.slots()]);
        let scratch = Scratch::default();
        Self { store, scratch, known, is_first: true, class: 0, shard: 0, slot: 0 }
    }

    /// Appends records of changed entries to `out`, until it has `len` bytes or the round ends:
    /// then it returns false. `origin`: from a moment to the calendar's time since 1970.
    pub(crate) fn copy(&mut self, origin: Duration, out: &mut Vec<u8>, len: usize) -> bool {
        let Self { store, scratch, known, is_first, class, shard, slot } = self;
        while *class < known.len() {
            if out.len() >= len {
                return true;
            }
            let slots = *slot..*slot + STRETCH;
            let known = &mut known[*class];
            let more = store.changes(*class, *shard, slots, known, scratch, |number, contents| {
                match contents {
                    Some((entry, past, packed)) => {
                        append(out, number, &[&words_of(entry, past, origin), packed]);
                    }
                    None if *is_first => {}
                    None => append(out, number, &[]),
                }
            });
            match more {
                true => *slot += STRETCH,
                false if *shard + 1 < store.room(*class).shard_count() => {
                    (*shard, *slot) = (*shard + 1, 0);
                }
                false => (*class, *shard, *slot) = (*class + 1, 0, 0),
            }
        }
        (*class, *is_first) = (0, false);
        false
    }
}

/// Returns the words of a body.
fn words_of(entry: &Entry, past: Past, origin: Duration) -> [u8; WORDS_LEN] {
    let stored = entry.stored().saturating_add_unsigned(nanos(origin)).max(0) as u64;
    let uses = past.hits << 1 | u64::from(past.in_main);
    // All but the time of storage and the first block.
    let [asked, _, lifetime, _, lens, counts] = entry.0;
    let words = [stored, uses, asked, lifetime, lens, counts].map(u64::to_le_bytes);
    let mut bytes = [0; WORDS_LEN];
    bytes.copy_from_slice(words.as_flattened());
    bytes
}

/// Outcome of [`Cache::restore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restored {
    /// The cache has the entry.
    Stored,
    /// The cache has an answer that is not older, or is preferred.
    Known,
    /// The entry has expired, or is a failure.
    Expired,
    /// The entry was stored in the future: the calendar's clock was set back.
    Early,
    /// The cache is full.
    Full,
    /// The record holds no entry.
    Invalid,
}

impl Cache {
    /// Stores the entry of a record with this body. `origin`: from a moment to the calendar's time
    /// since 1970. All keys of the cache are hashed by `hasher`.
    pub(crate) fn restore(
        &mut self,
        now: Moment,
        origin: Duration,
        hasher: &RandomState,
        body: &[u8],
    ) -> Restored {
        let Some((words, packed)) = body.split_first_chunk::<WORDS_LEN>() else {
            return Restored::Invalid;
        };
        let words: [u64; 6] = std::array::from_fn(|place| {
            words.as_chunks().0.get(place).copied().map_or(0, u64::from_le_bytes)
        });
        let [stored, uses, asked, lifetime, lens, counts] = words;
        let present = nanos(origin).saturating_add(now.as_nanos());
        if stored > present.saturating_add(nanos(AHEAD_MAX)) {
            return Restored::Early;
        }
        let stored = stored.min(present).wrapping_sub(nanos(origin));
        let entry = Entry([asked, stored, lifetime, 0, lens, counts]);
        if !is_sound(&entry, packed) {
            return Restored::Invalid;
        }
        // A failure of the other process says little about what this one would get.
        let is_failure = entry.answer_class() == AnswerClass::Failure;
        if is_failure || useless_at(&self.settings, &entry) <= now {
            return Restored::Expired;
        }
        let name = &packed[..entry.packed().name_len.into()];
        let key = Key::hashed(hasher, name, entry.asked());
        let blocks = Blocks::needed(packed.len());
        let class = usize::from(entry.answer_class().is_denial());
        let store = Arc::clone(&self.store);
        if !store.room(class).takes(blocks) {
            return Restored::Invalid;
        }
        let _lock = store.lock_keys(key.hash);
        let before = self.find(&key);
        if self.outranks(now, before.as_ref(), entry.answer_class()) {
            return Restored::Known;
        }
        match &before {
            Some(Seen { entry: known, .. })
                if known.answer_class() != AnswerClass::Failure
                    && known.stored() >= entry.stored() =>
            {
                return Restored::Known;
            }
            None if !store.has_room(class, blocks) => return Restored::Full,
            _ => {}
        }
        self.scratch.packed[..packed.len()].copy_from_slice(packed);
        let past = Past { hits: uses >> 1, in_main: uses & 1 != 0 };
        match self.replace(now, &key, before.as_ref(), entry, past) {
            true => Restored::Stored,
            false => Restored::Full,
        }
    }
}

/// Returns true if `packed` is an answer as `entry` says.
fn is_sound(entry: &Entry, packed: &[u8]) -> bool {
    let shape = entry.packed();
    if shape.len() != packed.len() || packed.len() > Scratch::PACKED_MAX {
        return false;
    }
    let (name, rest) = packed.split_at(shape.name_len.into());
    let (error, rest) = rest.split_at(shape.error_len.into());
    let (table, records) = rest.split_at(2 * usize::from(shape.ttls));
    let fits = |offset: &[u8; 2]| usize::from(u16::from_be_bytes(*offset)) + 4 <= records.len();
    let counted: u32 = shape.counts.iter().map(|count| u32::from(*count)).sum();
    entry.answer_class_known().is_some()
        && has_name(name)
        && error.len() <= EDE_LEN_MAX
        && counted == u32::from(shape.ttls)
        && table.as_chunks::<2>().0.iter().all(fits)
}

/// Returns true if a name in wire format is at the beginning.
fn has_name(bytes: &[u8]) -> bool {
    let mut place = 0;
    while let Some(len @ 1..64) = bytes.get(place) {
        place += 1 + usize::from(*len);
    }
    place < NAME_LEN_MAX && bytes.get(place) == Some(&0)
}

impl Store {
    /// Passes the entries in `slots` of a shard, numbered from its first, to `act`, if they have
    /// changed since their sequence numbers were as in `known`: halved, and of all slots of the
    /// class. An entry that is gone has no contents. Returns false if the shard has no slot in use
    /// behind `slots`.
    fn changes(
        &self,
        class: usize,
        shard: usize,
        slots: Range<u32>,
        known: &mut [u32],
        scratch: &mut Scratch,
        mut act: impl FnMut(u32, Option<(&Entry, Past, &[u8])>),
    ) -> bool {
        let room = &self.rooms[class];
        let base = (shard * room.slots_each()) as u32;
        let end = slots.end.min(room.slots_each() as u32);
        let stretch = base + slots.start.min(end)..base + end;
        let own = known.get_mut(stretch.start as usize..stretch.end as usize).unwrap_or_default();
        let half = |slot| {
            let words = room.words(&self.words, slot);
            words.map_or(0, |words| (read(&words[0]) >> 1) as u32)
        };
        if stretch.clone().zip(&*own).all(|(slot, known)| half(slot) == *known) {
            // Slots are used in their order: if one is unused, so is the last.
            return own.last().is_some_and(|last| *last > 0);
        }
        let shard = self.lock(class, shard);
        let begun = base + shard.begun;
        for (slot, known) in stretch.clone().zip(own).take_while(|(slot, _)| *slot < begun) {
            let now = half(slot);
            if std::mem::replace(known, now) == now {
                continue;
            }
            let number = slot_of(class, slot);
            let Some(seen) = self.copy(number, scratch, |_| true) else {
                act(number, None);
                continue;
            };
            let hits = room.words(&self.words, slot).map_or(0, |words| read(&words[USED]));
            let past = Past { hits, in_main: shard.eviction.is_in_main(slot - base) };
            act(number, Some((&seen.entry, past, &scratch.packed[..seen.entry.len()])));
        }
        stretch.end < begun
    }

    /// Returns true if another answer of this many blocks needs no eviction in its class.
    fn has_room(&self, class: usize, needed: usize) -> bool {
        let Room { slots_max, blocks, .. } = &self.rooms[class];
        let Counters { len, used, .. } = &*blocks.counters;
        len.get() < *slots_max && used.get() + needed <= blocks.max
    }
}
