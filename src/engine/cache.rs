//! Response cache: one per server block, shared by all workers.
//!
//! A key (name, type, class, DO, CD) has at most one entry: the latest answer, unless a better one
//! is stored. An entry is the answer in wire format, so that a hit copies it, sets the client's id,
//! flags and spelling, and ages the TTLs; nothing is parsed, and the key is hashed once.
//! [`admission`] decides what may be stored, [`eviction`] which entry makes room, [`refresh`] when
//! an answer is fetched again, and [`store`] has the entries. The cache sends no query: it tells
//! its caller what to do ([`Found`]).
//!
//! Each worker has a [`Cache`], a handle with its own counters and buffers, and all those of a
//! block have one [`Store`]. A lookup takes no lock and never waits; storing takes locks for less
//! than a microsecond. Answers and denials have separate slots and bytes. An empty cache takes
//! almost no memory; it grows with its contents up to the configured bounds.

pub mod admission;
mod aliases;
pub(crate) mod blocks;
pub(crate) mod carry;
mod entry;
pub mod eviction;
mod places;
pub(crate) mod refresh;
mod rooms;
mod sequence;
mod shared;
mod store;
mod sweep;
#[cfg(test)]
pub(crate) mod tests;

pub use entry::Key;
pub(crate) use entry::KeyRoom;
pub use shared::SharedCaches;
pub use store::Store;

use super::key::Key as SlotKey;
use super::message::query::Asked;
use super::message::reply::{ExtendedError, ReplyTo};
use super::message::{self, Question, Rcode, flags, rtype};
use super::stats::CacheStats;
use super::zones::{LowercaseName, Zones};
use crate::config::{self, Name};
use crate::moment::Moment;
use admission::{Admission, AnswerClass, Limits, Received, Refusal, judge};
use ahash::RandomState;
use blocks::Blocks;
use entry::{Age, Entry, Scratch, Ttls, pack, pack_failure};
use refresh::{Course, Refresh};
use std::sync::Arc;
use std::time::Duration;
use store::{Past, Seen, place_of};
use sweep::useless_at;

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

/// A worker's access to the cache of one server block.
pub struct Cache {
    settings: config::Cache,
    zones: Zones<()>,
    /// Names for which a class is not stored.
    disabled: [Zones<()>; 2],
    store: Arc<Store>,
    scratch: Scratch,
    /// Entry whose answer is in the scratch buffer, if this worker has not changed it since.
    copied: Option<Seen>,
    /// Time of the last hit, for an exact order: it grows with each hit.
    last_hit: u64,
    /// Counters of this worker.
    pub stats: CacheStats,
}

impl Cache {
    /// An empty cache for one worker. All its keys are hashed by `hasher`.
    ///
    /// # Panics
    /// If its memory cannot be reserved.
    pub fn new(settings: &config::Cache, hasher: &RandomState) -> Self {
        let store = Store::new(settings).expect("the address space has room for a cache");
        Self::sharing(settings, hasher, Arc::new(store))
    }

    /// A cache with the entries in `store`, which has these settings. All workers that share it
    /// hash their keys alike.
    pub fn sharing(settings: &config::Cache, hasher: &RandomState, store: Arc<Store>) -> Self {
        let classes = [&settings.success, &settings.denial];
        Self {
            zones: zones_of(&settings.zones, hasher),
            disabled: classes.map(|class| zones_of(&class.disabled, hasher)),
            store,
            scratch: Scratch::default(),
            copied: None,
            last_hit: 0,
            stats: CacheStats::default(),
            settings: settings.clone(),
        }
    }

    /// Returns the entries, which other workers may share.
    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
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

    /// Returns the reserved memory in bytes, without the shared part.
    pub(crate) fn own_reserved(&self) -> usize {
        let disabled: usize = self.disabled.iter().map(Zones::reserved).sum();
        self.zones.reserved() + disabled + self.scratch.reserved()
    }

    /// Returns the maximum of [`Cache::own_reserved`].
    pub(crate) fn own_reserved_max(&self) -> usize {
        self.own_reserved() - self.scratch.reserved() + Scratch::RESERVED_MAX
    }

    /// Returns the reserved memory in bytes, with the shared part.
    pub fn reserved(&self) -> usize {
        self.own_reserved() + self.store.reserved()
    }

    /// Returns the memory in bytes of a full cache, with the shared part.
    pub fn reserved_max(&self) -> usize {
        self.own_reserved_max() + self.store.reserved_max()
    }

    /// Returns the bytes of the shared part that no allocator counts: pages of its own.
    pub fn mapped(&self) -> usize {
        self.store.mapped()
    }

    /// Number of stored answers by class, expired ones included.
    pub fn len(&self) -> [usize; 2] {
        self.store.len()
    }

    /// Bytes in use by packed answers.
    pub fn bytes(&self) -> usize {
        self.store.blocks_used() * blocks::BLOCK_LEN
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
        self.store.prefetch_place(hash);
    }

    /// Prefetches the entry, if there is one; returns its slot.
    pub(crate) fn prefetch_entry(&self, hash: u32) -> Option<Ahead> {
        self.store.prefetch_entry(hash).map(Ahead)
    }

    /// Prefetches the bytes of the entry.
    pub(crate) fn prefetch_bytes(&self, ahead: Ahead) {
        self.store.prefetch_bytes(ahead.0);
    }

    /// Looks a question up.
    pub fn get(&mut self, now: Moment, key: &Key<'_>) -> Found {
        self.stats.requests += 1;
        self.copied = self.store.look_up(key, &mut self.scratch);
        let Some(seen) = &self.copied else { return Found::Miss };
        let found = &seen.entry;
        let entry = key_of(seen);
        let course = match found.age(now) {
            Age::Fresh(age) => match self.settings.prefetch {
                Some(prefetch) if found.answer_class() != AnswerClass::Failure => {
                    let lifetime = found.lifetime() / 1_000_000_000;
                    let hit = |state: &mut Refresh| state.hit(now, &prefetch, lifetime, age.into());
                    match self.store.refresh(seen, hit) {
                        Some(true) => Course::ReplyAndRefresh,
                        _ => Course::Reply,
                    }
                }
                _ => Course::Reply,
            },
            Age::Expired(since) => match self.settings.serve_stale {
                Some(stale)
                    if found.answer_class() != AnswerClass::Failure && since < stale.window =>
                {
                    let stale = |state: &mut Refresh| state.stale(now, &stale);
                    self.store.refresh(seen, stale).unwrap_or(Course::Reply)
                }
                _ => {
                    if self.settings.simple && self.store.remove(seen) {
                        self.stats.expired += 1;
                    }
                    return Found::Miss;
                }
            },
        };
        if self.settings.simple {
            self.last_hit = now.as_nanos().max(self.last_hit + 1);
        }
        self.store.hit(seen.number, self.last_hit);
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
    pub(crate) fn fallback(&mut self, now: Moment, key: &Key<'_>) -> Option<EntryKey> {
        let _lock = self.store.lock_keys(key.hash);
        self.copied = self.store.find(key, &mut self.scratch);
        let Seen { entry, .. } = self.copied.as_ref()?;
        let good =
            entry.answer_class() != AnswerClass::Failure && is_usable(&self.settings, entry, now);
        self.copied.as_ref().filter(|_| good).map(key_of)
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
        let number = entry.0.index;
        // The copy was whole when it was made, whatever other workers have done since.
        if !self.copied.as_ref().is_some_and(|seen| key_of(seen) == entry) {
            let has = |sequence| generation_of(sequence) == entry.0.generation;
            self.copied = self.store.copy_again(number, has, &mut self.scratch);
        }
        let found = &self.copied.as_ref()?.entry;
        let ttls = match found.age(now) {
            Age::Fresh(_) if self.settings.keep_ttl => Ttls::Aged(0),
            Age::Fresh(age) => Ttls::Aged(age),
            Age::Expired(_) if !is_usable(&self.settings, found, now) => return None,
            Age::Expired(_) => {
                self.stats.stale += 1;
                Ttls::Stale(self.settings.serve_stale?.ttl)
            }
        };
        self.stats.hits[place_of(number).0] += 1;
        Some(found.write(&mut self.scratch, ttls, to, out))
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
        let store = Arc::clone(&self.store);
        let limits = limits_of(&self.settings);
        let judged = judge(received, &limits);
        let _lock = store.lock_keys(key.hash);
        let before = self.find(key);
        let admission = match judged {
            Ok(admission) => admission,
            Err(refusal) => return Err(self.refuse(now, before.as_ref(), refusal)),
        };
        if self.outranks(now, before.as_ref(), admission.answer_class) {
            return Err(self.refuse(now, before.as_ref(), Refusal::Outranked));
        }
        let class = usize::from(admission.answer_class.is_denial());
        if self.disabled[class].longest(name).is_some() {
            return Err(self.refuse(now, before.as_ref(), Refusal::Disabled));
        }
        let packed = &mut self.scratch.packed;
        let limits = limits_of(&self.settings);
        let packed = pack(packed, key, received, &limits, admission.answer_class);
        if !store.room(class).takes(Blocks::needed(packed.len())) {
            return Err(self.refuse(now, before.as_ref(), Refusal::TooLarge));
        }
        let entry = Entry::new(key, &admission, 0, packed, received.response.flags, now);
        match self.replace(now, key, before.as_ref(), entry, Past::default()) {
            true => Ok(admission),
            false => Err(Refusal::TooLarge),
        }
    }

    /// Caches the failure of all upstreams to answer `key`: for a second, then twice as long each
    /// time up to the configured maximum (RFC 9520 §3.2). Where a usable answer is stored, its
    /// refresh counts as failed. Where a failure is stored that has not expired, it stays: another
    /// worker has seen the same outage.
    pub fn put_failure(
        &mut self,
        now: Moment,
        name: &LowercaseName,
        key: &Key<'_>,
        why: ExtendedError,
    ) {
        let store = Arc::clone(&self.store);
        let _lock = store.lock_keys(key.hash);
        let before = self.find(key);
        if self.outranks(now, before.as_ref(), AnswerClass::Failure) {
            self.refuse(now, before.as_ref(), Refusal::Outranked);
            return;
        }
        let is_known = |seen: &Seen| {
            seen.entry.answer_class() == AnswerClass::Failure
                && matches!(seen.entry.age(now), Age::Fresh(_))
        };
        if before.as_ref().is_some_and(is_known) {
            return;
        }
        let failures = self.failures_before(now, before.as_ref()).saturating_add(1);
        let lifetime = FAILURE * (1 << (failures.min(10) - 1));
        let lifetime = lifetime.min(self.settings.servfail);
        let admission = Admission { answer_class: AnswerClass::Failure, lifetime };
        if admission.lifetime.is_zero() || self.disabled[1].longest(name).is_some() {
            return;
        }
        let packed = pack_failure(&mut self.scratch.packed, key, why);
        let header = flags::RA | Rcode::ServFail as u16;
        let entry = Entry::new(key, &admission, failures, packed, header, now);
        self.replace(now, key, before.as_ref(), entry, Past::default());
    }

    /// Returns the entry of `key`, whose lock the caller holds. What was in the scratch buffer is
    /// gone.
    fn find(&mut self, key: &Key<'_>) -> Option<Seen> {
        self.copied = None;
        self.scratch.reserve();
        self.store.find(key, &mut self.scratch)
    }

    /// Returns the number of failures in a row up to the entry `before`, if that is recent.
    fn failures_before(&self, now: Moment, before: Option<&Seen>) -> u8 {
        let Some(Seen { entry, .. }) = before else { return 0 };
        let recent = match entry.age(now) {
            Age::Fresh(_) => true,
            Age::Expired(since) => since <= self.settings.servfail,
        };
        if recent { entry.failures() } else { 0 }
    }

    /// Returns true if the entry `before` is kept rather than replaced by a response of this class.
    fn outranks(&self, now: Moment, before: Option<&Seen>, answer_class: AnswerClass) -> bool {
        let Some(Seen { entry: stored, .. }) = before else { return false };
        let prefers_positive = self.settings.serve_stale.is_some_and(|stale| stale.prefer_positive);
        let better = match answer_class {
            AnswerClass::Positive => false,
            AnswerClass::Failure => stored.answer_class() != AnswerClass::Failure,
            _ => prefers_positive && stored.answer_class() == AnswerClass::Positive,
        };
        better && is_usable(&self.settings, stored, now)
    }

    /// Applies a refused response to the entry `before`: its refresh has failed, unless the
    /// response shows that the answer has changed, or shows nothing. Returns `refusal`.
    fn refuse(&mut self, now: Moment, before: Option<&Seen>, refusal: Refusal) -> Refusal {
        let Some(before) = before else { return refusal };
        let stale = self.settings.serve_stale;
        match refusal {
            Refusal::NoRecursion => {}
            Refusal::NoLifetime | Refusal::Disabled | Refusal::TooLarge
                if stale.is_none_or(|stale| !stale.prefer_positive) =>
            {
                self.remove(now, before);
            }
            _ => {
                let wait = stale.map_or(Duration::ZERO, |stale| stale.recheck);
                let wait = wait.max(self.settings.servfail);
                self.store.refresh(before, |state| state.failed(now, wait));
            }
        }
        refusal
    }

    fn remove(&mut self, now: Moment, seen: &Seen) {
        let useless = !is_usable(&self.settings, &seen.entry, now);
        self.stats.expired += u64::from(self.store.remove(seen) && useless);
    }

    /// Stores `entry`, packed in the scratch buffer, in place of the entry `before`; the caller
    /// holds the lock of the key. `past`: its use in another cache. Returns false if there is no
    /// room.
    fn replace(
        &mut self,
        now: Moment,
        key: &Key<'_>,
        before: Option<&Seen>,
        mut entry: Entry,
        past: Past,
    ) -> bool {
        let class = usize::from(entry.answer_class().is_denial());
        let settings = &self.settings;
        self.last_hit = now.as_nanos().max(self.last_hit + 1);
        let bytes = &self.scratch.packed[..entry.len()];
        let (stored, removed) = self.store.replace(
            before,
            key.hash,
            &mut entry,
            bytes,
            self.last_hit,
            past,
            |entry| is_usable(settings, entry, now),
            |entry| matches!(entry.age(now), Age::Expired(_)),
        );
        self.stats.evicted[class] += removed.evicted;
        self.stats.expired += removed.useless;
        // Until here readers have found the entry of the other class.
        if let Some(before) = before.filter(|seen| place_of(seen.number).0 != class) {
            self.remove(now, before);
        }
        self.stats.stored[class] += u64::from(stored);
        self.store.rounds.give_up(now);
        if stored {
            self.store.rounds.note(useless_at(&self.settings, &entry));
        }
        stored
    }
}

fn limits_of(settings: &config::Cache) -> Limits<'_> {
    let config::Cache { success, denial, servfail, .. } = settings;
    Limits { success, denial, servfail: *servfail, simple: settings.simple }
}

/// A set of names that matches the names and all names below them.
fn zones_of(names: &[Name], hasher: &RandomState) -> Zones<()> {
    Zones::new(hasher.clone(), names.iter().map(|name| (name, ())))
}

/// Returns true if a client can still get the entry.
fn is_usable(settings: &config::Cache, entry: &Entry, now: Moment) -> bool {
    match entry.age(now) {
        Age::Fresh(_) => true,
        Age::Expired(since) => since < stale_window(settings, entry),
    }
}

/// Time for which clients can get an entry after it has expired.
fn stale_window(settings: &config::Cache, entry: &Entry) -> Duration {
    let stale = settings.serve_stale.filter(|_| entry.answer_class() != AnswerClass::Failure);
    stale.map_or(Duration::ZERO, |stale| stale.window)
}

fn key_of(seen: &Seen) -> EntryKey {
    EntryKey(SlotKey { index: seen.number, generation: generation_of(seen.sequence) })
}

/// Returns the part of a sequence number that a key has: the number of writes.
fn generation_of(sequence: u64) -> u32 {
    (sequence >> 1) as u32
}
