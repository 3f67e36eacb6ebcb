//! The entries of a cache, which all workers share.
//!
//! One array of words holds the index, the entries of both classes and their blocks. Words refer to
//! one another by number, never by address. A reader copies an answer out between two looks at the
//! sequence number of its entry, takes no lock and writes nothing but the entry's count of hits, if
//! that changes. A writer holds the lock of its key, so that a key never has two answers, then that
//! of the shard that it changes, then, for a moment, that of a segment of the index: always in this
//! order, and one of each kind at a time.

use super::blocks::Blocks;
use super::entry::{ENTRY_WORDS, Entry, Key, Scratch, USED};
use super::eviction::Order;
use super::places::Places;
use super::refresh::Refresh;
use super::rooms::{Room, SLOT_BYTES, Shard};
use super::sequence::{begun, close, is_unchanged, open, read, write};
use super::sweep::Rounds;
use crate::config;
use crate::sys::words::Words;
use std::fmt;
use std::io;
use std::ops::DerefMut;
use std::sync::atomic::AtomicU64;

/// Attempts to copy an answer before the reader locks its shard, where a miss would be an error.
const COPIES_MAX: usize = 3;

/// The entries of the cache of one server block, in use by all workers.
pub struct Store {
    pub(super) words: Words,
    places: Places,
    pub(super) rooms: [Room; 2],
    order: Order,
    pub(super) rounds: Rounds,
}

/// An entry as it was at one moment.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    /// Number of its slot: see [`slot_of`].
    pub(super) number: u32,
    pub(super) sequence: u64,
    pub(super) entry: Entry,
}

/// Use of an entry in another cache, before it came into this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Past {
    /// Counted hits.
    pub(super) hits: u64,
    /// It was in the main queue.
    pub(super) in_main: bool,
}

/// Numbers of removed entries.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Removed {
    /// Usable ones that were evicted.
    pub(super) evicted: u64,
    /// Those that were useless.
    pub(super) useless: u64,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Store {
    /// No entries, with room as `settings` say.
    ///
    /// # Errors
    /// The memory cannot be reserved: see [`Words::new`].
    pub fn new(settings: &config::Cache) -> io::Result<Self> {
        let order = if settings.simple { Order::Exact } else { Order::Scanned };
        let classes = [&settings.success, &settings.denial];
        let segments = classes.map(|class| Room::shards(class, order)).into_iter().max();
        let segments = segments.unwrap_or(1);
        let (success, end) = Room::new(classes[0], order, 0);
        let (denial, end) = Room::new(classes[1], order, end);
        let rooms = [success, denial];
        // In a segment are all slots of a shard, if there are as many of them.
        let in_segment = |room: &Room| {
            let share = room.slots().div_ceil(segments);
            if room.shard_count() == segments { share } else { share + 6 * share.isqrt() }
        };
        let slots = rooms.iter().map(in_segment).sum();
        let (places, end) = Places::new(segments, slots, end);
        let words = Words::new(end)?;
        for room in &rooms {
            words.prefer_huge_pages(room.blocks.words());
        }
        Ok(Self { words, places, rooms, order, rounds: Rounds::default() })
    }

    /// Returns the bytes in use by the words and the tables.
    pub(crate) fn reserved(&self) -> usize {
        let of_class = |class: usize| {
            let room = &self.rooms[class];
            let shards = (0..room.shard_count()).map(|shard| self.lock(class, shard).reserved());
            shards.sum::<usize>() + room.reserved()
        };
        of_class(0) + of_class(1) + self.places.reserved()
    }

    /// Returns the maximum of [`Store::reserved`].
    pub(crate) fn reserved_max(&self) -> usize {
        let of_class = |class: usize| self.rooms[class].reserved_max(&self.lock(class, 0));
        of_class(0) + of_class(1) + self.places.reserved_max()
    }

    /// Returns the bytes of the words in use.
    pub(super) fn mapped(&self) -> usize {
        let of_class = |class: usize| {
            let room = &self.rooms[class];
            let slots = (0..room.shard_count()).map(|shard| self.lock(class, shard).begun as usize);
            slots.sum::<usize>() * SLOT_BYTES + room.blocks.reserved()
        };
        of_class(0) + of_class(1) + self.places.mapped()
    }

    /// Number of stored answers by class, expired ones included.
    pub(super) fn len(&self) -> [usize; 2] {
        self.rooms.each_ref().map(|room| room.blocks.counters.len.get())
    }

    /// Number of blocks in use by packed answers.
    pub(super) fn blocks_used(&self) -> usize {
        self.rooms.iter().map(|room| room.blocks.counters.used.get()).sum()
    }

    pub(super) fn room(&self, class: usize) -> &Room {
        &self.rooms[class]
    }

    /// Prefetches the index entry of a key with this hash.
    pub(super) fn prefetch_place(&self, hash: u32) {
        self.places.prefetch(&self.words, hash);
    }

    /// Prefetches the entry, if there is one; returns the number of its slot.
    pub(super) fn prefetch_entry(&self, hash: u32) -> Option<u32> {
        let number = self.places.find(&self.words, hash, Some)?;
        let (class, slot) = place_of(number);
        self.rooms[class].prefetch_entry(&self.words, slot);
        Some(number)
    }

    /// Prefetches the bytes of the entry.
    pub(super) fn prefetch_bytes(&self, number: u32) {
        let (class, slot) = place_of(number);
        self.rooms[class].prefetch(&self.words, slot);
    }

    /// Looks `key` up and copies its answer into `scratch`, without a lock. A torn copy is a miss.
    #[inline]
    pub(super) fn look_up(&self, key: &Key<'_>, scratch: &mut Scratch) -> Option<Seen> {
        self.places.find(&self.words, key.hash, |number| self.copy_of(key, number, scratch))
    }

    /// Copies an answer, if it is that to `key` and the copy is not torn.
    #[inline(always)]
    fn copy_of(&self, key: &Key<'_>, number: u32, scratch: &mut Scratch) -> Option<Seen> {
        let seen = self.copy(number, scratch, |entry| entry.may_be(key))?;
        (scratch.packed[..key.name.len()] == *key.name).then_some(seen)
    }

    /// Copies an answer, if its entry is wanted and the copy is not torn.
    #[inline(always)]
    pub(super) fn copy(
        &self,
        number: u32,
        scratch: &mut Scratch,
        is_wanted: impl FnOnce(&Entry) -> bool,
    ) -> Option<Seen> {
        let (class, slot) = place_of(number);
        let room = &self.rooms[class];
        let own = room.words(&self.words, slot)?;
        let sequence = begun(&own[0])?;
        let entry = Entry::read(own).filter(is_wanted)?;
        scratch.reserve();
        let (first, len) = (entry.first(), entry.len());
        let copied = room.blocks.copy(&self.words, first, len, &mut scratch.packed);
        let whole = is_unchanged(&own[0], sequence) && copied;
        whole.then_some(Seen { number, sequence, entry })
    }

    /// Copies the answer of the entry that had this sequence number, if it still has.
    #[cold]
    pub(super) fn copy_again(
        &self,
        number: u32,
        has: impl Fn(u64) -> bool,
        scratch: &mut Scratch,
    ) -> Option<Seen> {
        let copied = (0..COPIES_MAX).find_map(|_| self.copy(number, scratch, |_| true));
        let copied = copied.or_else(|| {
            let (class, slot) = place_of(number);
            let room = &self.rooms[class];
            let _shard = self.lock(class, slot as usize / room.slots_each());
            self.copy(number, scratch, |_| true)
        });
        copied.filter(|seen| has(seen.sequence))
    }

    /// Returns true if the slot has this sequence number.
    #[inline]
    pub(super) fn is_unchanged(&self, number: u32, sequence: u64) -> bool {
        let (class, slot) = place_of(number);
        let own = self.rooms[class].words(&self.words, slot);
        own.is_some_and(|own| is_unchanged(&own[0], sequence))
    }

    /// Counts a hit.
    #[inline(always)]
    pub(super) fn hit(&self, number: u32, time: u64) {
        let (class, slot) = place_of(number);
        let Some(own) = self.rooms[class].words(&self.words, slot) else { return };
        if let Some(word) = self.order.used(read(&own[USED]), time) {
            write(&own[USED], word);
        }
    }

    /// Has `act` change the state of refresh of an entry, and returns what `act` returns; `None`:
    /// `act` has begun a refresh, but so has another worker, or the entry is gone.
    pub(super) fn refresh<T>(&self, seen: &Seen, act: impl FnOnce(&mut Refresh) -> T) -> Option<T> {
        let (class, slot) = place_of(seen.number);
        let words = self.rooms[class].refresh(&self.words, slot)?;
        let before = Refresh::read(words);
        let mut state = before;
        let outcome = act(&mut state);
        if !state.update(&before, words) {
            return None;
        }
        if state.leases(&before) && !self.is_unchanged(seen.number, seen.sequence) {
            state.give_back(&before, words);
            return None;
        }
        Some(outcome)
    }

    /// Locks the keys with this hash against other writers, for [`Store::find`],
    /// [`Store::replace`] and [`Store::remove`].
    pub(super) fn lock_keys(&self, hash: u32) -> impl Sized + use<'_> {
        self.places.lock_keys(hash)
    }

    /// Returns the entry of `key`, whose lock the caller holds: so it can be gone the next moment,
    /// for want of room, but not replaced. `scratch` is overwritten.
    pub(super) fn find(&self, key: &Key<'_>, scratch: &mut Scratch) -> Option<Seen> {
        self.places.find_locked(&self.words, key.hash, |number| self.copy_of(key, number, scratch))
    }

    /// Stores `entry`, packed as `bytes`, under `hash` in place of `before`, if that is of the same
    /// class. `past`: its use in another cache. Returns false if there is no room, and what was
    /// removed to make some.
    #[expect(clippy::too_many_arguments, reason = "it is one step of a writer")]
    pub(super) fn replace(
        &self,
        before: Option<&Seen>,
        hash: u32,
        entry: &mut Entry,
        bytes: &[u8],
        time: u64,
        past: Past,
        is_usable: impl Fn(&Entry) -> bool,
        is_dead: impl Fn(&Entry) -> bool,
    ) -> (bool, Removed) {
        let class = usize::from(entry.answer_class().is_denial());
        let (words, room) = (&*self.words, &self.rooms[class]);
        let refresh = before.and_then(|seen| {
            let (class, slot) = place_of(seen.number);
            let words = self.rooms[class].refresh(words, slot)?;
            Some(Refresh::read(words).of_successor())
        });
        let mut removed = Removed::default();
        let mut shard = self.lock(class, room.shard_of(hash));
        // The entry keeps its slot, and its place in the order of eviction.
        let mut own = before.filter(|seen| place_of(seen.number).0 == class).and_then(|seen| {
            let slot = place_of(seen.number).1;
            let own = room.words(words, slot)?;
            is_unchanged(&own[0], seen.sequence).then_some((slot, own))
        });
        if let (Some((_, own)), Some(seen)) = (own, before) {
            open(&own[0]);
            shard.release(room, words, &seen.entry);
        }
        let needed = Blocks::needed(bytes.len());
        let mut queued = own.is_some();
        while !shard.reserve(room, words, needed, usize::from(own.is_none())) {
            let Some(victim) = shard.victim(room, words, &is_dead) else {
                if let Some((slot, words)) = own.take() {
                    self.places.remove(&self.words, hash, slot_of(class, slot));
                    shard.vacate(room, slot, words);
                }
                return (false, removed);
            };
            if own.is_some_and(|(slot, _)| slot == victim) {
                queued = false;
            } else {
                self.evict(&mut shard, class, victim, &is_usable, &mut removed);
            }
        }
        entry.set_first(shard.store(room, words, bytes));
        let is_new = own.is_none();
        let (slot, own) = own.unwrap_or_else(|| {
            let slot = shard.take_slot(room);
            let own = room.words(words, slot).expect("a slot of the shard has words");
            open(&own[0]);
            (slot, own)
        });
        entry.write_to(own);
        if let Some(words) = room.refresh(words, slot) {
            refresh.unwrap_or_default().write_to(words);
        }
        let used = if queued { read(&own[USED]) } else { 0 };
        let counted = queued || self.order == Order::Exact;
        let used = self.order.used(used, time).filter(|_| counted).unwrap_or(used);
        let used = if self.order == Order::Scanned { used.max(past.hits) } else { used };
        write(&own[USED], used);
        if !queued {
            let local = slot - shard.base;
            shard.eviction.insert(local, hash, used, past.in_main);
        }
        close(&own[0]);
        let number = slot_of(class, slot);
        if is_new && !self.places.insert(words, hash, number) {
            let local = slot - shard.base;
            shard.eviction.remove(local);
            open(&own[0]);
            shard.release(room, words, entry);
            shard.vacate(room, slot, own);
            return (false, removed);
        }
        (true, removed)
    }

    /// Empties the slot of an evicted entry, which has left the order of eviction.
    fn evict(
        &self,
        shard: &mut Shard,
        class: usize,
        slot: u32,
        is_usable: impl Fn(&Entry) -> bool,
        removed: &mut Removed,
    ) {
        let room = &self.rooms[class];
        let Some(own) = room.words(&self.words, slot) else { return };
        let entry = Entry::read(own);
        let usable = entry.as_ref().is_some_and(is_usable);
        removed.evicted += u64::from(usable);
        removed.useless += u64::from(!usable);
        self.clear(shard, class, slot, own, entry);
    }

    /// Empties a slot that has left the order of eviction.
    fn clear(
        &self,
        shard: &mut Shard,
        class: usize,
        slot: u32,
        own: &[AtomicU64; ENTRY_WORDS],
        entry: Option<Entry>,
    ) {
        let room = &self.rooms[class];
        open(&own[0]);
        let hash = shard.eviction.hash(slot - shard.base);
        self.places.remove(&self.words, hash, slot_of(class, slot));
        if let Some(entry) = entry {
            shard.release(room, &self.words, &entry);
        }
        shard.vacate(room, slot, own);
    }

    /// Removes an entry, unless it has changed since. Returns true if it was removed.
    pub(super) fn remove(&self, seen: &Seen) -> bool {
        let (class, slot) = place_of(seen.number);
        let room = &self.rooms[class];
        let Some(own) = room.words(&self.words, slot) else { return false };
        let mut shard = self.lock(class, slot as usize / room.slots_each());
        let stays = is_unchanged(&own[0], seen.sequence);
        if stays {
            let local = slot - shard.base;
            shard.eviction.remove(local);
            self.clear(&mut shard, class, slot, own, Some(seen.entry));
        }
        stays
    }

    /// Passes the entries in `slots` of a shard, numbered from its first, to `is_useless`, and
    /// removes those for which it returns true. Returns their number; `None`: the shard has no slot
    /// in use from the first of `slots` on.
    pub(super) fn sweep(
        &self,
        class: usize,
        shard: usize,
        slots: std::ops::Range<u32>,
        mut is_useless: impl FnMut(&Entry) -> bool,
    ) -> Option<u64> {
        let room = &self.rooms[class];
        let mut shard = self.lock(class, shard);
        if slots.start >= shard.begun {
            return None;
        }
        let mut removed = 0;
        for local in slots.start..slots.end.min(shard.begun) {
            let slot = shard.base + local;
            let Some(own) = room.words(&self.words, slot) else { continue };
            let Some(entry) = Entry::read(own) else { continue };
            if is_useless(&entry) {
                shard.eviction.remove(local);
                self.clear(&mut shard, class, slot, own, Some(entry));
                removed += 1;
            }
        }
        Some(removed)
    }

    /// Locks a shard. If a writer has panicked in it, it is empty now, and so is its part of the
    /// index.
    pub(super) fn lock(
        &self,
        class: usize,
        shard: usize,
    ) -> impl DerefMut<Target = Shard> + use<'_> {
        let room = &self.rooms[class];
        room.lock(&self.words, shard, |gone| {
            self.places.retain(&self.words, |number| {
                let (own, slot) = place_of(number);
                own != class || !gone.contains(&slot)
            });
        })
    }
}

/// Number of a class's slot in the index.
pub(super) fn slot_of(class: usize, slot: u32) -> u32 {
    slot << 1 | class as u32
}

/// Class and slot of a number from the index.
#[inline(always)]
pub(super) fn place_of(number: u32) -> (usize, u32) {
    ((number & 1) as usize, number >> 1)
}

#[cfg(test)]
impl Store {
    /// Panics if the tables disagree.
    pub(super) fn check_invariants(&self) {
        for class in 0..self.rooms.len() {
            let room = &self.rooms[class];
            let (mut taken, mut blocks) = (0, 0);
            for number in 0..room.shard_count() {
                let shard = self.lock(class, number);
                let mut used = 0;
                let mut occupied = 0;
                for slot in shard.base..shard.base + shard.begun {
                    let own = room.words(&self.words, slot).unwrap();
                    assert!(begun(&own[0]).is_some(), "no write is under way");
                    let Some(entry) = Entry::read(own) else { continue };
                    occupied += 1;
                    used += Blocks::needed(entry.len());
                    assert_eq!(usize::from(entry.answer_class().is_denial()), class);
                    let hash = shard.eviction.hash(slot - shard.base);
                    assert_eq!(room.shard_of(hash), number);
                    let place = slot_of(class, slot);
                    let look = |other| (other == place).then_some(other);
                    assert_eq!(self.places.find(&self.words, hash, look), Some(place));
                }
                assert_eq!(occupied, shard.eviction.len());
                assert_eq!(occupied + shard.free_len(), shard.begun as usize);
                assert_eq!(used, shard.blocks_used());
                taken += occupied;
                blocks += used;
            }
            assert_eq!(taken, room.blocks.counters.len.get());
            assert!(taken <= room.slots_max);
            assert_eq!(blocks, room.blocks.counters.used.get());
            assert!(blocks <= room.blocks.max);
        }
        assert_eq!(self.places.len(&self.words), self.len().iter().sum::<usize>());
    }
}
