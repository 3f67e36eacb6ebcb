//! Entries of one class, answers or denials, with separate room.
//!
//! Each class has its own slots, its share of the blocks and its order of eviction, so that a flood
//! of denials displaces no answer. Tables are empty at first and grow with their contents, up to
//! the configured bounds.

use super::blocks::Blocks;
use super::entry::{Age, Entry};
use super::eviction::{Eviction, Order};
use super::refresh::Refresh;
use crate::config::{CacheClass, Name};
use crate::engine::list::NONE;
use crate::engine::memory::{grow, reserved};
use crate::engine::zones::{LowercaseName, Zones};
use crate::moment::Moment;
use ahash::RandomState;

/// Divisor of a class's blocks: maximum size of an entry, because a few long answers would displace
/// thousands of short ones.
const ENTRY_SHARE: usize = 64;
/// Minimum of that maximum, for small classes.
const ENTRY_BLOCKS: usize = 8;

pub(super) struct Class {
    pub(super) entries: Vec<Entry>,
    /// Refresh state of each entry; kept apart because hits seldom need it.
    pub(super) refreshes: Vec<Refresh>,
    pub(super) eviction: Eviction,
    free: Vec<u32>,
    slots_max: usize,
    pub(super) blocks_used: usize,
    blocks_max: usize,
    disabled: Zones<()>,
}

impl Class {
    pub(super) fn new(settings: &CacheClass, order: Order, hasher: &RandomState) -> Self {
        let slots_max = settings.capacity.max(1);
        let blocks_max = Blocks::needed(settings.capacity_bytes).max(ENTRY_BLOCKS);
        Self {
            entries: Vec::new(),
            refreshes: Vec::new(),
            eviction: Eviction::new(slots_max, order),
            free: Vec::new(),
            slots_max,
            blocks_used: 0,
            blocks_max,
            disabled: zones_of(&settings.disabled, hasher),
        }
    }

    /// Returns the reserved memory in bytes.
    pub(super) fn reserved(&self) -> usize {
        let lists = reserved(&self.entries) + reserved(&self.refreshes) + reserved(&self.free);
        lists + self.eviction.reserved() + self.disabled.reserved()
    }

    /// Returns the maximum of reserved memory in bytes.
    pub(super) fn reserved_max(&self) -> usize {
        let slot = size_of::<Entry>() + size_of::<Refresh>() + size_of::<u32>();
        self.slots_max * slot + self.eviction.reserved_max() + self.disabled.reserved()
    }

    pub(super) fn slots_max(&self) -> usize {
        self.slots_max
    }

    pub(super) fn blocks_max(&self) -> usize {
        self.blocks_max
    }

    /// Returns true if an entry may take this number of blocks.
    pub(super) fn takes(&self, blocks: usize) -> bool {
        blocks <= (self.blocks_max / ENTRY_SHARE).max(ENTRY_BLOCKS)
    }

    /// Returns true if storing is disabled for `name`.
    pub(super) fn is_disabled(&self, name: &LowercaseName) -> bool {
        self.disabled.longest(name).is_some()
    }

    /// Returns true if this number of blocks and of slots is available.
    pub(super) fn has_room(&self, blocks: usize, slots: usize) -> bool {
        self.eviction.len() + slots <= self.slots_max
            && self.blocks_used + blocks <= self.blocks_max
    }

    /// Removes the next entry from the order of eviction and returns it.
    pub(super) fn victim(&mut self, now: Moment) -> Option<u32> {
        let entries = &self.entries;
        let dead = |slot: u32| matches!(entries[slot as usize].age(now), Age::Expired(_));
        self.eviction.victim(dead)
    }

    /// Returns a vacant slot; the caller has made sure that there is one.
    pub(super) fn take_slot(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            if self.entries.len() == self.entries.capacity() {
                self.grow();
            }
            self.entries.push(Entry::vacant());
            self.refreshes.push(Refresh::default());
            self.entries.len() as u32 - 1
        })
    }

    /// Makes room for more slots. The list of vacant ones, empty now, gets room for all of them.
    #[cold]
    fn grow(&mut self) {
        grow(&mut self.entries, self.slots_max);
        let slots = self.entries.capacity();
        self.refreshes.reserve_exact(slots - self.refreshes.len());
        self.free.reserve_exact(slots);
    }

    /// Makes `slot` vacant; its key becomes invalid.
    pub(super) fn give_back(&mut self, slot: u32) {
        let entry = &mut self.entries[slot as usize];
        entry.first = NONE;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(slot);
    }

    /// Number of vacant slots that were in use before.
    #[cfg(test)]
    pub(super) fn free_len(&self) -> usize {
        self.free.len()
    }
}

/// A set of names that matches the names and all names below them.
pub(super) fn zones_of(names: &[Name], hasher: &RandomState) -> Zones<()> {
    Zones::new(hasher.clone(), names.iter().map(|name| (name, ())))
}
