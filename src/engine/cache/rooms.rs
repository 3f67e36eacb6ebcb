//! Entries of one class, answers or denials, with separate room, in shards.
//!
//! Each class has its own slots, its share of the blocks and its order of eviction, so that a flood
//! of denials displaces no answer. A class is divided into shards by the hash of the key, each with
//! a lock, so that workers that store answers at the same time seldom meet. The number of answers
//! and of blocks is bounded for the class as a whole: a shard has some more slots than its share,
//! so that a class holds as many answers as configured however their hashes are spread.
//!
//! The words of slots are shared ([`super::sequence`]); a shard has what only its writers need. A
//! shard whose writer has panicked is emptied.

use super::blocks::{Blocks, Chains, Counters};
use super::entry::{ENTRY_WORDS, Entry, USED};
use super::eviction::{Eviction, Order, Tenants};
use super::refresh::REFRESH_WORDS;
use super::sequence::{close, open, read, write};
use crate::config::CacheClass;
use crate::engine::memory::{prefetch, reserved};
use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard};

/// Minimum number of slots of a shard: with fewer, shards are filled unevenly.
const SHARD_SLOTS: usize = 4_096;
/// Maximum number of shards: more than workers that store at the same time.
const SHARDS_MAX: usize = 64;
/// Divisor of a class's blocks: maximum size of an entry, because a few long answers would displace
/// thousands of short ones.
const ENTRY_SHARE: usize = 64;
/// Minimum of that maximum, for small classes.
const ENTRY_BLOCKS: usize = 8;

/// Bytes of the words of a slot.
pub(super) const SLOT_BYTES: usize = (ENTRY_WORDS + REFRESH_WORDS) * size_of::<u64>();

/// The entries of a class.
pub(super) struct Room {
    /// Place of the first entry's words, and of its state of refresh.
    entries: usize,
    refreshes: usize,
    /// Number of slots of a shard.
    slots_each: usize,
    /// Number of bits of a hash that are below those of the shard.
    shift: u32,
    pub(super) slots_max: usize,
    pub(super) blocks: Blocks,
    shards: Box<[Mutex<Shard>]>,
}

/// State of a shard that only its writers use.
#[repr(align(128))]
pub(super) struct Shard {
    /// Slots are numbered from the first of the shard.
    pub(super) eviction: Eviction,
    free: Vec<u32>,
    /// Number of slots that were ever in use.
    pub(super) begun: u32,
    /// First slot of the shard.
    pub(super) base: u32,
    chains: Chains,
    /// Reserved slots and blocks.
    len: usize,
    blocks_used: usize,
}

impl Room {
    /// Returns the number of shards of a class with these settings.
    pub(super) fn shards(settings: &CacheClass, order: Order) -> usize {
        let count = (settings.capacity / SHARD_SLOTS).clamp(1, SHARDS_MAX);
        match order {
            Order::Scanned => 1 << count.ilog2(),
            // The order holds for all entries.
            Order::Exact => 1,
        }
    }

    /// An empty class, whose words are laid out from `place` on. Returns it and the place behind.
    pub(super) fn new(settings: &CacheClass, order: Order, place: usize) -> (Self, usize) {
        let count = Self::shards(settings, order);
        let slots_max = settings.capacity.max(1);
        let share = slots_max.div_ceil(count);
        // Six standard deviations of the number of keys with hashes of a shard.
        let spare = if count > 1 { 6 * share.isqrt() } else { 0 };
        let slots_each = share + spare;
        let slots = count * slots_each;
        let entries = place.next_multiple_of(ENTRY_WORDS);
        let refreshes = entries + slots * ENTRY_WORDS;
        let blocks_max = Blocks::needed(settings.capacity_bytes).max(ENTRY_BLOCKS);
        let (blocks, end) = Blocks::new(blocks_max, count, refreshes + slots * REFRESH_WORDS);
        let shard = |number: usize| {
            Mutex::new(Shard {
                eviction: Eviction::new(slots_each, order),
                free: Vec::new(),
                begun: 0,
                base: (number * slots_each) as u32,
                chains: Chains::NONE,
                len: 0,
                blocks_used: 0,
            })
        };
        let room = Self {
            entries,
            refreshes,
            slots_each,
            shift: 32 - count.trailing_zeros(),
            slots_max,
            blocks,
            shards: (0..count).map(shard).collect(),
        };
        (room, end)
    }

    /// Returns the number of slots.
    pub(super) fn slots(&self) -> usize {
        self.shards.len() * self.slots_each
    }

    /// Returns the number of slots of a shard.
    pub(super) fn slots_each(&self) -> usize {
        self.slots_each
    }

    pub(super) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// Returns the bytes of the blocks that were ever in use, and of the class's own tables.
    pub(super) fn reserved(&self) -> usize {
        size_of_val(&*self.shards) + size_of::<Counters>() + self.blocks.reserved()
    }

    /// Returns the maximum bytes of all shards, blocks and tables.
    pub(super) fn reserved_max(&self, shard: &Shard) -> usize {
        let each = SLOT_BYTES + size_of::<u32>();
        let of_shard = self.slots_each * each + shard.eviction.reserved_max();
        let tables = size_of_val(&*self.shards) + size_of::<Counters>();
        let tables = tables + self.blocks.reserved_max();
        self.shards.len() * of_shard + tables
    }

    /// Returns true if an entry may take this number of blocks.
    pub(super) fn takes(&self, blocks: usize) -> bool {
        blocks <= (self.blocks.max / ENTRY_SHARE).max(ENTRY_BLOCKS)
    }

    /// Returns the number of the shard of a key with this hash.
    pub(super) fn shard_of(&self, hash: u32) -> usize {
        (u64::from(hash) >> self.shift) as usize
    }

    /// Locks a shard. One whose writer has panicked is emptied, and its slots, which are no longer
    /// in use, are passed to `forget`.
    pub(super) fn lock(
        &self,
        words: &[AtomicU64],
        number: usize,
        forget: impl FnOnce(Range<u32>),
    ) -> MutexGuard<'_, Shard> {
        let lock = &self.shards[number];
        lock.lock().unwrap_or_else(|poison| {
            let mut shard = poison.into_inner();
            let slots = shard.base..shard.base + shard.begun;
            self.empty(words, &mut shard);
            forget(slots);
            lock.clear_poison();
            shard
        })
    }

    /// Removes all entries of a shard, whose tables may disagree.
    #[cold]
    fn empty(&self, words: &[AtomicU64], shard: &mut Shard) {
        for slot in shard.base..shard.base + shard.begun {
            let Some(own) = self.words(words, slot) else { continue };
            open(&own[0]);
            Entry::vacate(own);
            close(&own[0]);
        }
        self.blocks.counters.len.subtract(shard.len);
        self.blocks.counters.used.subtract(shard.blocks_used);
        shard.eviction.clear();
        shard.free.clear();
        shard.chains.clear(&self.blocks, words);
        (shard.begun, shard.len, shard.blocks_used) = (0, 0, 0);
    }

    /// Returns the words of a slot's entry; `None`: there is no such slot.
    #[inline(always)]
    pub(super) fn words<'a>(
        &self,
        words: &'a [AtomicU64],
        slot: u32,
    ) -> Option<&'a [AtomicU64; ENTRY_WORDS]> {
        if slot as usize >= self.slots_each * self.shards.len() {
            return None;
        }
        words.get(self.entries + slot as usize * ENTRY_WORDS..)?.first_chunk()
    }

    /// Returns the words of a slot's state of refresh.
    #[inline(always)]
    pub(super) fn refresh<'a>(
        &self,
        words: &'a [AtomicU64],
        slot: u32,
    ) -> Option<&'a [AtomicU64; REFRESH_WORDS]> {
        words.get(self.refreshes + slot as usize * REFRESH_WORDS..)?.first_chunk()
    }

    /// Prefetches the answer of a slot.
    pub(super) fn prefetch(&self, words: &[AtomicU64], slot: u32) {
        if let Some(own) = self.words(words, slot) {
            self.blocks.prefetch(words, (read(&own[4]) as u32).wrapping_sub(1));
        }
    }

    /// Prefetches the entry of a slot.
    pub(super) fn prefetch_entry(&self, words: &[AtomicU64], slot: u32) {
        if let Some(own) = self.words(words, slot) {
            prefetch(own);
        }
    }
}

/// The entries of a shard, for the eviction order.
pub(super) struct Entries<'a, F> {
    pub(super) room: &'a Room,
    pub(super) words: &'a [AtomicU64],
    pub(super) base: u32,
    pub(super) is_dead: F,
}

impl<F: Fn(&Entry) -> bool> Tenants for Entries<'_, F> {
    fn used(&self, slot: u32) -> u64 {
        self.room.words(self.words, self.base + slot).map_or(0, |own| read(&own[USED]))
    }

    fn set_used(&mut self, slot: u32, word: u64) {
        if let Some(own) = self.room.words(self.words, self.base + slot) {
            write(&own[USED], word);
        }
    }

    fn is_dead(&self, slot: u32) -> bool {
        let own = self.room.words(self.words, self.base + slot);
        own.and_then(Entry::read).is_none_or(|entry| (self.is_dead)(&entry))
    }
}

impl Shard {
    /// Returns the bytes of the slots that were ever in use, and of the tables.
    pub(super) fn reserved(&self) -> usize {
        let tables = reserved(&self.free) + self.eviction.reserved() + self.chains.reserved();
        self.begun as usize * SLOT_BYTES + tables
    }

    /// Takes the next entry out of the order of eviction and returns its slot.
    pub(super) fn victim(
        &mut self,
        room: &Room,
        words: &[AtomicU64],
        is_dead: impl Fn(&Entry) -> bool,
    ) -> Option<u32> {
        let base = self.base;
        let victim = self.eviction.victim(&mut Entries { room, words, base, is_dead })?;
        Some(base + victim)
    }

    /// Reserves blocks and slots, if they are available in the class and in this shard.
    pub(super) fn reserve(
        &mut self,
        room: &Room,
        words: &[AtomicU64],
        blocks: usize,
        slots: usize,
    ) -> bool {
        let has_slot = slots == 0 || !self.free.is_empty() || self.has_vacant(room);
        if !has_slot || !self.chains.have(&room.blocks, words, blocks) {
            return false;
        }
        if !room.blocks.counters.len.add_within(slots, room.slots_max) {
            return false;
        }
        let reserved = room.blocks.counters.used.add_within(blocks, room.blocks.max);
        if reserved {
            self.len += slots;
            self.blocks_used += blocks;
        } else {
            room.blocks.counters.len.subtract(slots);
        }
        reserved
    }

    fn has_vacant(&self, room: &Room) -> bool {
        (self.begun as usize) < room.slots_each
    }

    /// Returns a vacant slot; the caller has reserved it.
    pub(super) fn take_slot(&mut self, room: &Room) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            assert!(self.has_vacant(room), "the caller has reserved a slot");
            self.begun += 1;
            self.base + self.begun - 1
        })
    }

    /// Stores the reserved blocks of an answer; returns the first.
    pub(super) fn store(&mut self, room: &Room, words: &[AtomicU64], bytes: &[u8]) -> u32 {
        self.chains.store(&room.blocks, words, bytes)
    }

    /// Frees the blocks of an entry that no reader finds any more, and their reservation.
    pub(super) fn release(&mut self, room: &Room, words: &[AtomicU64], entry: &Entry) {
        let count = Blocks::needed(entry.len());
        self.chains.release(&room.blocks, words, entry.first(), count);
        self.blocks_used -= count;
        room.blocks.counters.used.subtract(count);
    }

    /// Makes vacant a slot that has left the order of eviction, and whose sequence number is open.
    pub(super) fn vacate(&mut self, room: &Room, slot: u32, own: &[AtomicU64; ENTRY_WORDS]) {
        Entry::vacate(own);
        close(&own[0]);
        if self.free.len() == self.free.capacity() {
            // Room for as many slots as the other tables.
            self.free.reserve_exact(self.eviction.capacity().saturating_sub(self.free.len()));
        }
        self.free.push(slot);
        self.len -= 1;
        room.blocks.counters.len.subtract(1);
    }

    /// Number of vacant slots that were in use before.
    #[cfg(test)]
    pub(super) fn free_len(&self) -> usize {
        self.free.len()
    }

    #[cfg(test)]
    pub(super) fn blocks_used(&self) -> usize {
        self.blocks_used
    }
}
