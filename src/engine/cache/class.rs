//! The entries of one class, answers or denials, with room of their own.
//!
//! Each class has its slots, its share of the blocks and its order of eviction, so that a flood
//! of denials takes no answer's place. Slots and blocks are reserved at the start and touched when
//! they are first needed.

use super::blocks::Blocks;
use super::entry::{Age, Entry};
use super::eviction::{Eviction, Order};
use super::refresh::Refresh;
use crate::config::{CacheClass, Name};
use crate::engine::list::NONE;
use crate::engine::memory::{Place, place_of_vec, reserved};
use crate::engine::zones::{Folded, Zones};
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
            entries: Vec::with_capacity(slots_max),
            refreshes: Vec::with_capacity(slots_max),
            eviction: Eviction::new(slots_max, order),
            free: Vec::with_capacity(slots_max),
            slots_max,
            blocks_used: 0,
            blocks_max,
            disabled: zones_of(&settings.disabled, hasher),
        }
    }

    /// Where its tables lie.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        let entries = [place_of_vec(&self.entries), place_of_vec(&self.refreshes)];
        entries.into_iter().chain(self.eviction.places())
    }

    /// The bytes that it has reserved.
    pub(super) fn reserved(&self) -> usize {
        let lists = reserved(&self.entries) + reserved(&self.refreshes) + reserved(&self.free);
        lists + self.eviction.reserved() + self.disabled.reserved()
    }

    pub(super) fn slots_max(&self) -> usize {
        self.slots_max
    }

    pub(super) fn blocks_max(&self) -> usize {
        self.blocks_max
    }

    /// Whether an entry may take so many blocks.
    pub(super) fn takes(&self, blocks: usize) -> bool {
        blocks <= (self.blocks_max / ENTRY_SHARE).max(ENTRY_BLOCKS)
    }

    /// Whether nothing is stored for `name`.
    pub(super) fn is_disabled(&self, name: &Folded) -> bool {
        self.disabled.longest(name).is_some()
    }

    /// Whether so many blocks more, and a slot if one is needed, are to be had.
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
            self.entries.push(Entry::vacant());
            self.refreshes.push(Refresh::default());
            self.entries.len() as u32 - 1
        })
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
