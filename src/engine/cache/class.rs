//! The entries of one class, answers or denials, with room of their own.
//!
//! Each class has its slots, its share of the blocks and its order of eviction, so that a flood
//! of denials takes no answer's place. Tables are empty at first and grow with what is stored, up
//! to the bounds of the configuration.

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

/// An entry takes no more than this part of its class's blocks: a few long answers would push out
/// thousands of short ones.
const ENTRY_SHARE: usize = 64;
/// Unless the class is so small that this is more.
const ENTRY_BLOCKS: usize = 8;

/// One class.
pub(super) struct Class {
    pub(super) entries: Vec<Entry>,
    /// Of each entry: when it is fetched anew. Beside them, for hits seldom need it.
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

    /// The bytes that it has reserved.
    pub(super) fn reserved(&self) -> usize {
        let lists = reserved(&self.entries) + reserved(&self.refreshes) + reserved(&self.free);
        lists + self.eviction.reserved() + self.disabled.reserved()
    }

    /// The bytes that it can come to reserve.
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

    /// Returns true if an entry may take so many blocks.
    pub(super) fn takes(&self, blocks: usize) -> bool {
        blocks <= (self.blocks_max / ENTRY_SHARE).max(ENTRY_BLOCKS)
    }

    /// Returns true if nothing is stored for `name`.
    pub(super) fn is_disabled(&self, name: &LowercaseName) -> bool {
        self.disabled.longest(name).is_some()
    }

    /// Returns true if so many blocks more, and a slot if one is needed, are to be had.
    pub(super) fn has_room(&self, blocks: usize, slots: usize) -> bool {
        self.eviction.len() + slots <= self.slots_max
            && self.blocks_used + blocks <= self.blocks_max
    }

    /// The entry to go next, already out of the order of eviction.
    pub(super) fn victim(&mut self, now: Moment) -> Option<u32> {
        let entries = &self.entries;
        let dead = |slot: u32| matches!(entries[slot as usize].age(now), Age::Expired(_));
        self.eviction.victim(dead)
    }

    /// A vacant slot, which there is.
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

    /// Makes room for more slots. The list of vacant ones, which is empty now, may come to hold all
    /// of them.
    #[cold]
    fn grow(&mut self) {
        grow(&mut self.entries, self.slots_max);
        let slots = self.entries.capacity();
        self.refreshes.reserve_exact(slots - self.refreshes.len());
        self.free.reserve_exact(slots);
    }

    /// Makes `slot` vacant; its key finds nobody any more.
    pub(super) fn give_back(&mut self, slot: u32) {
        let entry = &mut self.entries[slot as usize];
        entry.first = NONE;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(slot);
    }

    /// Slots that are vacant now but were not always.
    #[cfg(test)]
    pub(super) fn free_len(&self) -> usize {
        self.free.len()
    }
}

/// A set of names with all that lies below them.
pub(super) fn zones_of(names: &[Name], hasher: &RandomState) -> Zones<()> {
    Zones::new(hasher.clone(), names.iter().map(|name| (name, ())))
}
