//! Response cache: one per worker and server block.
//!
//! A key (name, type, class, DO, CD) has at most one entry: the latest answer, unless a better one
//! is stored. An entry is the answer in wire format, so that a hit copies it, sets the client's id,
//! flags and spelling, and ages the TTLs; nothing is parsed, and the key is hashed once.
//! [`admission`] decides what may be stored, [`eviction`] which entry makes room, [`refresh`] when
//! an answer is fetched again, and [`blocks`] stores the bytes. The cache sends no query: it tells
//! its caller what to do ([`Found`]).
//!
//! Answers and denials have separate slots and bytes. An empty cache takes almost no memory; its
//! tables grow with their contents up to the configured bounds, and then allocate no more.

pub mod admission;
mod aliases;
pub(crate) mod blocks;
mod class;
mod entry;
pub mod eviction;
pub(crate) mod refresh;
mod sweep;
#[cfg(test)]
pub(crate) mod tests;

pub use entry::Key;
pub(crate) use entry::KeyRoom;

use super::index::Index;
use super::key::Key as SlotKey;
use super::list::NONE;
use super::memory::prefetch;
use super::message::query::Asked;
use super::message::reply::{ExtendedError, ReplyTo};
use super::message::{self, Question, Rcode, flags, rtype};
use super::stats::CacheStats;
use super::zones::{LowercaseName, Zones};
use crate::config;
use crate::moment::Moment;
use admission::{Admission, AnswerClass, Limits, Received, Refusal, judge};
use ahash::RandomState;
use blocks::Blocks;
use class::{Class, zones_of};
use entry::{Age, Entry, Packed, Scratch, Ttls, pack, pack_failure};
use eviction::Order;
use refresh::{Course, Refresh};
use std::time::Duration;
use sweep::Sweeps;

/// Time for which the first failure of our own is cached.
const FAILURE: Duration = Duration::from_secs(1);

/// Key of a cache entry. Invalid once the answer was replaced or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryKey(SlotKey);

/// Slot of the possible answer to a question that will be looked up soon.
#[derive(Clone, Copy)]
pub(crate) struct Ahead(u32);

/// Result of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The upstream has to be asked.
    Miss,
    /// The client gets this by [`Cache::write`]. If `refresh`, the upstream has to be asked as
    /// well, for the cache alone: its response goes to [`Cache::put`], or its absence to
    /// [`Cache::put_failure`].
    Reply {
        /// The answer.
        entry: EntryKey,
        /// True if the answer is to be refreshed.
        refresh: bool,
    },
    /// The upstream has to be asked. If no usable answer comes `within` this time, or before the
    /// query ends, the client gets the expired one.
    Verify {
        /// The expired answer.
        entry: EntryKey,
        /// Time that the client waits; `None`: until the query ends.
        within: Option<Duration>,
    },
}

/// A worker's cache for one server block.
pub struct Cache {
    settings: config::Cache,
    zones: Zones<()>,
    classes: [Class; 2],
    /// Index over the slots of both classes: see [`slot_of`].
    index: Index,
    blocks: Blocks,
    scratch: Scratch,
    sweeps: Sweeps,
    /// Counters.
    pub stats: CacheStats,
}

impl Cache {
    /// An empty cache. All its keys are hashed by `hasher`.
    pub fn new(settings: &config::Cache, hasher: &RandomState) -> Self {
        let order = if settings.simple { Order::Exact } else { Order::Scanned };
        let classes = [&settings.success, &settings.denial];
        let classes = classes.map(|class| Class::new(class, order, hasher));
        let sum = |count: fn(&Class) -> usize| classes.iter().map(count).sum();
        Self {
            zones: zones_of(&settings.zones, hasher),
            index: Index::growing(sum(Class::slots_max)),
            blocks: Blocks::new(sum(Class::blocks_max)),
            classes,
            scratch: Scratch::default(),
            sweeps: Sweeps::NONE,
            stats: CacheStats::default(),
            settings: settings.clone(),
        }
    }

    /// Returns true if such a question is looked up; `name` is its name.
    #[inline(always)]
    pub(crate) fn serves(&self, name: &LowercaseName, question: &Question, asked: &Asked) -> bool {
        let simple = || {
            let plain =
                asked.flags & flags::CD == 0 && !asked.edns.is_some_and(|edns| edns.dnssec_ok);
            (question.rtype, question.class) == (rtype::A, message::class::IN) && plain
        };
        (self.settings.zones.is_empty() || self.has_zone_of(name))
            && (!self.settings.simple || simple())
    }

    /// Returns true if `name` is in one of the zones that the cache is for.
    #[inline(never)]
    fn has_zone_of(&self, name: &LowercaseName) -> bool {
        self.zones.longest(name).is_some()
    }

    /// Returns the reserved memory in bytes.
    pub fn reserved(&self) -> usize {
        let classes: usize = self.classes.iter().map(Class::reserved).sum();
        let tables = self.index.reserved() + self.blocks.reserved() + self.zones.reserved();
        classes + tables + self.scratch.reserved()
    }

    /// Returns the memory in bytes of a full cache.
    pub fn reserved_max(&self) -> usize {
        let classes: usize = self.classes.iter().map(Class::reserved_max).sum();
        let tables = self.index.reserved_max() + self.blocks.reserved_max() + self.zones.reserved();
        classes + tables + Scratch::RESERVED_MAX
    }

    /// Number of stored answers by class, expired ones included.
    pub fn len(&self) -> [usize; 2] {
        self.classes.each_ref().map(|class| class.eviction.len())
    }

    /// Bytes in use by packed answers.
    pub fn bytes(&self) -> usize {
        self.blocks.used() * blocks::BLOCK_LEN
    }

    /// Returns true if only addresses are cached.
    pub(crate) fn is_simple(&self) -> bool {
        self.settings.simple
    }

    /// Returns the counters, and the present contents.
    pub(crate) fn counters(&self) -> CacheStats {
        let entries = self.len().map(|len| len as u64);
        CacheStats { entries, bytes: self.bytes() as u64, ..self.stats }
    }

    /// Returns the limits for [`admission::bound_ttls`].
    pub fn limits(&self) -> Limits<'_> {
        limits_of(&self.settings)
    }

    /// Prefetches the index entry of a key with this hash.
    pub(crate) fn prefetch_place(&self, hash: u32) {
        self.index.prefetch(hash);
    }

    /// Prefetches the entry, if there is one; returns its slot.
    pub(crate) fn prefetch_entry(&self, hash: u32) -> Option<Ahead> {
        let place = self.index.find(hash, |_| true)?;
        let (class, slot) = place_of(place);
        prefetch(self.classes[class].entries.get(slot as usize)?);
        Some(Ahead(place))
    }

    /// Prefetches the bytes of the entry.
    pub(crate) fn prefetch_bytes(&self, ahead: Ahead) {
        let (class, slot) = place_of(ahead.0);
        if let Some(entry) = self.classes[class].entries.get(slot as usize) {
            self.blocks.prefetch(entry.first);
            self.classes[class].eviction.prefetch(slot);
        }
    }

    /// Looks a question up.
    pub fn get(&mut self, now: Moment, key: &Key<'_>) -> Found {
        self.stats.requests += 1;
        let Some(place) = self.find(key) else { return Found::Miss };
        let (class, slot) = place_of(place);
        let Class { entries, refreshes, eviction, .. } = &mut self.classes[class];
        let found = &entries[slot as usize];
        let entry = key_of(place, found);
        let course = match found.age(now) {
            Age::Fresh(age) => match self.settings.prefetch {
                Some(prefetch) if found.answer_class != AnswerClass::Failure => {
                    let lifetime = found.lifetime / 1_000_000_000;
                    let refresh = &mut refreshes[slot as usize];
                    match refresh.hit(now, &prefetch, lifetime, age.into()) {
                        true => Course::ReplyAndRefresh,
                        false => Course::Reply,
                    }
                }
                _ => Course::Reply,
            },
            Age::Expired(since) => match self.settings.serve_stale {
                Some(stale)
                    if found.answer_class != AnswerClass::Failure && since < stale.window =>
                {
                    refreshes[slot as usize].stale(now, &stale)
                }
                _ => {
                    if self.settings.simple {
                        eviction.remove(slot);
                        self.vacate(now, class, slot);
                    }
                    return Found::Miss;
                }
            },
        };
        eviction.hit(slot);
        match course {
            Course::Verify(within) => Found::Verify { entry, within },
            Course::Reply => Found::Reply { entry, refresh: false },
            Course::ReplyAndRefresh => {
                self.stats.refreshes += 1;
                Found::Reply { entry, refresh: true }
            }
        }
    }

    /// Returns the answer to give if the upstream could not be asked, took too long or had none:
    /// maybe stale, but no failure. It is not counted as a lookup.
    pub(crate) fn fallback(&self, now: Moment, key: &Key<'_>) -> Option<EntryKey> {
        let place = self.find(key)?;
        let (class, slot) = place_of(place);
        let stored = &self.classes[class].entries[slot as usize];
        let good = stored.answer_class != AnswerClass::Failure && self.is_usable(stored, now);
        good.then(|| key_of(place, stored))
    }

    /// Writes the client's reply into `out`, whose size is the client's limit, and returns its
    /// length. `None`: the answer is gone, replaced, or expired for too long.
    pub fn write(
        &mut self,
        now: Moment,
        entry: EntryKey,
        to: &ReplyTo<'_>,
        out: &mut [u8],
    ) -> Option<usize> {
        let (class, slot) = place_of(entry.0.index);
        let found = self.classes[class].entries.get(slot as usize)?;
        if found.first == NONE || found.generation != entry.0.generation {
            return None;
        }
        let ttls = match found.age(now) {
            Age::Fresh(_) if self.settings.keep_ttl => Ttls::Aged(0),
            Age::Fresh(age) => Ttls::Aged(age),
            Age::Expired(_) if !self.is_usable(found, now) => return None,
            Age::Expired(_) => {
                self.stats.stale += 1;
                Ttls::Stale(self.settings.serve_stale?.ttl)
            }
        };
        self.stats.hits[class] += 1;
        let (blocks, scratch) = (&self.blocks, &mut self.scratch);
        Some(found.write(blocks, scratch, ttls, to, out))
    }

    /// Stores a response to `key`, whose name is `name`, if that is allowed. The caller answers the
    /// waiting clients with it, unless it is [`Refusal::Outranked`]: then with the better stored
    /// answer, [`Cache::fallback`].
    ///
    /// # Errors
    /// The reason why it is not stored.
    pub fn put(
        &mut self,
        now: Moment,
        name: &LowercaseName,
        key: &Key<'_>,
        received: &Received<'_>,
    ) -> Result<Admission, Refusal> {
        let limits = limits_of(&self.settings);
        let before = self.find(key);
        let admission = match judge(received, &limits) {
            Ok(admission) => admission,
            Err(refusal) => return Err(self.refuse(now, before, refusal)),
        };
        if self.outranks(now, before, admission.answer_class) {
            return Err(self.refuse(now, before, Refusal::Outranked));
        }
        let class = &self.classes[usize::from(admission.answer_class.is_denial())];
        if class.is_disabled(name) {
            return Err(self.refuse(now, before, Refusal::Disabled));
        }
        self.scratch.reserve();
        let packed = pack(&mut self.scratch.packed, key, received, &limits, admission.answer_class);
        if !class.takes(Blocks::needed(packed.len())) {
            return Err(self.refuse(now, before, Refusal::TooLarge));
        }
        let entry = Entry::new(key, &admission, packed, received.response.flags, now);
        self.store(now, before, entry, packed);
        Ok(admission)
    }

    /// Caches the failure of all upstreams to answer `key`: for a second, then twice as long each
    /// time up to the configured maximum (RFC 9520 §3.2). Where a usable answer is stored, its
    /// refresh counts as failed.
    pub fn put_failure(
        &mut self,
        now: Moment,
        name: &LowercaseName,
        key: &Key<'_>,
        why: ExtendedError,
    ) {
        let before = self.find(key);
        if self.outranks(now, before, AnswerClass::Failure) {
            self.refuse(now, before, Refusal::Outranked);
            return;
        }
        let failures = self.failures_before(now, before).saturating_add(1);
        let lifetime = FAILURE * (1 << (failures.min(10) - 1));
        let lifetime = lifetime.min(self.settings.servfail);
        let admission = Admission { answer_class: AnswerClass::Failure, lifetime };
        if admission.lifetime.is_zero() || self.classes[1].is_disabled(name) {
            return;
        }
        self.scratch.reserve();
        let packed = pack_failure(&mut self.scratch.packed, key, why);
        let header = flags::RA | Rcode::ServFail as u16;
        let mut entry = Entry::new(key, &admission, packed, header, now);
        entry.failures = failures;
        self.store(now, before, entry, packed);
    }

    /// Returns the number of failures in a row up to the entry at `place`, if that is recent.
    fn failures_before(&self, now: Moment, place: Option<u32>) -> u8 {
        let Some((class, slot)) = place.map(place_of) else { return 0 };
        let stored = &self.classes[class].entries[slot as usize];
        let recent = match stored.age(now) {
            Age::Fresh(_) => true,
            Age::Expired(since) => since <= self.settings.servfail,
        };
        if recent { stored.failures } else { 0 }
    }

    /// Returns the slot of `key`'s entry.
    fn find(&self, key: &Key<'_>) -> Option<u32> {
        self.index.find(key.hash, |place| {
            let (class, slot) = place_of(place);
            self.classes[class].entries[slot as usize].is(key, &self.blocks)
        })
    }

    /// Returns true if a client can still get the entry.
    fn is_usable(&self, entry: &Entry, now: Moment) -> bool {
        match entry.age(now) {
            Age::Fresh(_) => true,
            Age::Expired(since) => since < self.stale_window(entry),
        }
    }

    /// Time for which clients can get an entry after it has expired.
    fn stale_window(&self, entry: &Entry) -> Duration {
        let stale =
            self.settings.serve_stale.filter(|_| entry.answer_class != AnswerClass::Failure);
        stale.map_or(Duration::ZERO, |stale| stale.window)
    }

    /// Returns true if the entry at `place` is kept rather than replaced by a response of this
    /// class.
    fn outranks(&self, now: Moment, place: Option<u32>, answer_class: AnswerClass) -> bool {
        let Some((class, slot)) = place.map(place_of) else { return false };
        let stored = &self.classes[class].entries[slot as usize];
        let prefers_positive = self.settings.serve_stale.is_some_and(|stale| stale.prefer_positive);
        let better = match answer_class {
            AnswerClass::Positive => false,
            AnswerClass::Failure => stored.answer_class != AnswerClass::Failure,
            _ => prefers_positive && stored.answer_class == AnswerClass::Positive,
        };
        better && self.is_usable(stored, now)
    }

    /// Applies a refused response to the entry at `place`: its refresh has failed, unless the
    /// response shows that the answer has changed, or shows nothing. Returns `refusal`.
    fn refuse(&mut self, now: Moment, place: Option<u32>, refusal: Refusal) -> Refusal {
        let Some((class, slot)) = place.map(place_of) else { return refusal };
        let stale = self.settings.serve_stale;
        match refusal {
            Refusal::NoRecursion => {}
            Refusal::NoLifetime | Refusal::Disabled | Refusal::TooLarge
                if stale.is_none_or(|stale| !stale.prefer_positive) =>
            {
                self.classes[class].eviction.remove(slot);
                self.vacate(now, class, slot);
            }
            _ => {
                let wait = stale.map_or(Duration::ZERO, |stale| stale.recheck);
                let refresh = &mut self.classes[class].refreshes[slot as usize];
                refresh.failed(now, wait.max(self.settings.servfail));
            }
        }
        refusal
    }

    /// Stores `entry`, packed in the scratch buffer, in place of the entry at `before`.
    fn store(&mut self, now: Moment, before: Option<u32>, mut entry: Entry, packed: Packed) {
        let class = usize::from(entry.answer_class.is_denial());
        let (mut own, mut refresh) = (None, Refresh::default());
        if let Some((old_class, slot)) = before.map(place_of) {
            refresh = self.classes[old_class].refreshes[slot as usize].of_successor();
            if old_class == class {
                // The entry keeps its place in the order of eviction.
                own = Some(slot);
                self.free_blocks(class, slot);
            } else {
                self.classes[old_class].eviction.remove(slot);
                self.vacate(now, old_class, slot);
            }
        }
        let needed = Blocks::needed(packed.len());
        let mut queued = own.is_some();
        while !self.classes[class].has_room(needed, usize::from(!queued)) {
            let victim = self.classes[class].victim(now).expect("an entry fits into its class");
            if own == Some(victim) {
                queued = false;
            } else {
                self.evict(now, class, victim);
            }
        }
        entry.first = self.blocks.store(&self.scratch.packed);
        let target = &mut self.classes[class];
        target.blocks_used += needed;
        let slot = own.unwrap_or_else(|| target.take_slot());
        entry.generation = target.entries[slot as usize].generation.wrapping_add(1);
        target.entries[slot as usize] = entry;
        target.refreshes[slot as usize] = refresh;
        if queued {
            target.eviction.hit(slot);
        } else {
            target.eviction.insert(slot, entry.hash);
        }
        if own.is_none() {
            self.index.insert(entry.hash, slot_of(class, slot));
        }
        self.stats.stored[class] += 1;
        self.sweeps.note(self.useless_at(&entry));
    }

    /// Empties the slot of an evicted entry, which has left the order of eviction.
    fn evict(&mut self, now: Moment, class: usize, slot: u32) {
        let usable = self.is_usable(&self.classes[class].entries[slot as usize], now);
        self.stats.evicted[class] += u64::from(usable);
        self.vacate(now, class, slot);
    }

    /// Empties a slot that has left the order of eviction.
    fn vacate(&mut self, now: Moment, class: usize, slot: u32) {
        let entry = self.classes[class].entries[slot as usize];
        self.stats.expired += u64::from(!self.is_usable(&entry, now));
        self.index.remove(entry.hash, slot_of(class, slot));
        if entry.first != NONE {
            self.free_blocks(class, slot);
        }
        self.classes[class].give_back(slot);
    }

    fn free_blocks(&mut self, class: usize, slot: u32) {
        let class = &mut self.classes[class];
        let entry = &mut class.entries[slot as usize];
        class.blocks_used -= Blocks::needed(entry.packed.len());
        self.blocks.release(std::mem::replace(&mut entry.first, NONE));
    }
}

fn limits_of(settings: &config::Cache) -> Limits<'_> {
    let config::Cache { success, denial, servfail, .. } = settings;
    Limits { success, denial, servfail: *servfail, simple: settings.simple }
}

/// Number of a class's slot in the index.
fn slot_of(class: usize, slot: u32) -> u32 {
    slot << 1 | class as u32
}

/// Class and slot of a number from the index.
fn place_of(number: u32) -> (usize, u32) {
    ((number & 1) as usize, number >> 1)
}

fn key_of(number: u32, entry: &Entry) -> EntryKey {
    EntryKey(SlotKey { index: number, generation: entry.generation })
}
