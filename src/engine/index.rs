//! A hash index over the slots of a slab.
//!
//! It stores no keys: the slab's members hold them, and the caller compares. Open addressing with
//! linear probing at a load of at most one half, and removal by moving back what a hole would
//! hide, so that there are no tombstones. Only the front of its memory is in use, as much as there
//! are slots for: a few lines that stay in the cache, where the whole would cost a look into memory
//! each time. When that part doubles all entries move, at most a few ten thousand; an index of more
//! is in use as a whole. The memory is there from the start ([`Index::new`]), or it grows with that
//! part ([`Index::growing`]). Hashes come from outside and are keyed there; those of strangers'
//! names must be.

use super::memory::{GROWN_MIN, place_of, prefetch};
use crate::sys::memory::prefer_huge_pages;

/// A hash and the slot behind it plus one; zero: vacant. So a new index is nothing but zeros, which
/// the kernel has at hand without anybody touching them.
type Entry = (u32, u32);

/// No smaller part of an elastic index is in use.
const SIZE_MIN: usize = 512;
/// The part in use becomes a quarter of itself when so small a part of it is taken.
const SPARSE: usize = 16;

/// An index of more entries is in use as a whole: to move so many would be a pause.
const SIZE_ELASTIC_MAX: usize = 65_536;
/// A growing index that will be larger than that gets its full size when it is larger than this:
/// each entry that moves may meet a page that the kernel is still to give.
const SIZE_MOVED_MAX: usize = 8_192;

/// Slots by hash.
pub struct Index {
    entries: Box<[Entry]>,
    /// The number of entries in use, a power of two, less one.
    mask: usize,
    /// The part in use does not become smaller than this.
    least: usize,
    /// Entries that there can be at most.
    size_max: usize,
    len: usize,
    slots_max: usize,
    /// Where entries are while the part in use is made larger or smaller.
    moving: Vec<Entry>,
}

impl Index {
    /// Room for `slots_max` slots.
    pub fn new(slots_max: usize) -> Self {
        let size = (slots_max.max(1) * 2).next_power_of_two();
        let (least, moving_max) =
            if size > SIZE_ELASTIC_MAX { (size, 0) } else { (size.min(SIZE_MIN), slots_max) };
        let (entries, moving) = (vec![(0, 0); size].into(), Vec::with_capacity(moving_max));
        Self { entries, mask: least - 1, least, size_max: size, len: 0, slots_max, moving }
    }

    /// The same, with hardly any memory before there are slots in it.
    pub fn growing(slots_max: usize) -> Self {
        let size_max = (slots_max.max(1) * 2).next_power_of_two();
        let least = if size_max > SIZE_ELASTIC_MAX { size_max } else { size_max.min(SIZE_MIN) };
        let size = GROWN_MIN.min(size_max);
        let entries = vec![(0, 0); size].into();
        Self { entries, mask: size - 1, least, size_max, len: 0, slots_max, moving: Vec::new() }
    }

    /// The bytes that it has reserved.
    pub fn reserved(&self) -> usize {
        size_of_val(&*self.entries) + self.moving.capacity() * size_of::<Entry>()
    }

    /// The bytes that it can come to reserve.
    pub fn reserved_max(&self) -> usize {
        let moving = if self.size_max > SIZE_ELASTIC_MAX { 0 } else { self.slots_max };
        (self.size_max + moving) * size_of::<Entry>()
    }

    /// The slot with this hash that `is_it` recognises.
    pub fn find(&self, hash: u32, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.probe(hash, is_it).ok()
    }

    /// The same, or else the vacant place where its entry would stand.
    #[inline]
    fn probe(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Result<u32, usize> {
        let mut place = hash as usize & self.mask;
        loop {
            let (other, behind) = self.entries[place];
            let slot = behind.checked_sub(1).ok_or(place)?;
            if other == hash && is_it(slot) {
                return Ok(slot);
            }
            place = (place + 1) & self.mask;
        }
    }

    /// Has the processor fetch where `hash` would be.
    pub fn prefetch(&self, hash: u32) {
        prefetch(&self.entries[hash as usize & self.mask]);
    }

    /// Adds `slot` under `hash`.
    ///
    /// # Panics
    /// Beyond the capacity it was made with: the slab is bounded by the same number.
    pub fn insert(&mut self, hash: u32, slot: u32) {
        self.insert_new(hash, slot, |_| false);
    }

    /// The same, unless `is_it` recognises a slot that is there under this hash. Whether it was
    /// added.
    ///
    /// # Panics
    /// As [`Index::insert`].
    pub fn insert_new(&mut self, hash: u32, slot: u32, is_it: impl FnMut(u32) -> bool) -> bool {
        assert!(self.len < self.slots_max, "the index is as large as its slab");
        let size = self.mask + 1;
        if 2 * (self.len + 1) > size && size < self.size_max {
            self.enlarge();
        }
        let Err(vacant) = self.probe(hash, is_it) else { return false };
        self.entries[vacant] = (hash, slot + 1);
        self.len += 1;
        true
    }

    /// Has twice as many entries in use, or all that there can be.
    #[cold]
    fn enlarge(&mut self) {
        let doubled = 2 * (self.mask + 1);
        if doubled <= self.entries.len() {
            return self.resize(doubled);
        }
        let large = self.size_max > SIZE_ELASTIC_MAX;
        let size = if large && doubled > SIZE_MOVED_MAX { self.size_max } else { doubled };
        let old = std::mem::replace(&mut self.entries, vec![(0, 0); size].into());
        let (address, len) = place_of(&self.entries);
        prefer_huge_pages(address, len);
        self.mask = size - 1;
        for entry in old.into_iter().filter(|entry| entry.1 != 0) {
            if let Err(vacant) = self.probe(entry.0, |_| false) {
                self.entries[vacant] = entry;
            }
        }
        if size > self.least {
            // It may become smaller again.
            self.moving = Vec::with_capacity(self.slots_max.min(size / 2));
        }
    }

    /// Has `size` entries in use from now on, of those that there are.
    #[cold]
    fn resize(&mut self, size: usize) {
        let mut moving = std::mem::take(&mut self.moving);
        let taken = self.entries[..=self.mask].iter_mut().filter(|entry| entry.1 != 0);
        moving.extend(taken.map(std::mem::take));
        self.mask = size - 1;
        for entry in moving.drain(..) {
            if let Err(vacant) = self.probe(entry.0, |_| false) {
                self.entries[vacant] = entry;
            }
        }
        self.moving = moving;
    }

    /// Removes `slot`, which was added under `hash`; does nothing if it is not here.
    pub fn remove(&mut self, hash: u32, slot: u32) {
        let mut hole = hash as usize & self.mask;
        while self.entries[hole].1 != slot + 1 {
            if self.entries[hole].1 == 0 {
                return;
            }
            hole = (hole + 1) & self.mask;
        }
        // Whoever would no longer be reached from its own place across the hole moves into it.
        let mut place = hole;
        loop {
            place = (place + 1) & self.mask;
            let entry = self.entries[place];
            if entry.1 == 0 {
                break;
            }
            let home = entry.0 as usize & self.mask;
            let from_home = place.wrapping_sub(home) & self.mask;
            let from_hole = place.wrapping_sub(hole) & self.mask;
            if from_home >= from_hole {
                self.entries[hole] = entry;
                hole = place;
            }
        }
        self.entries[hole].1 = 0;
        self.len -= 1;
        let size = self.mask + 1;
        if size > self.least && SPARSE * self.len < size {
            self.resize((size / 4).max(self.least));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Index;
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use std::collections::BTreeMap;

    #[test]
    fn equal_hashes_are_told_apart_by_the_caller() {
        let mut index = Index::new(4);
        for slot in 0..4 {
            index.insert(9, slot);
        }
        index.remove(9, 1);
        assert_eq!(index.find(9, |slot| slot == 1), None);
        assert_eq!(index.find(9, |slot| slot == 3), Some(3));
        assert_eq!(index.len, 3);
        assert!(!index.insert_new(9, 1, |slot| slot == 2), "it is there already");
        assert_eq!((index.len, index.find(9, |slot| slot == 1)), (3, None));
        assert!(index.insert_new(9, 1, |slot| slot == 1));
        assert_eq!(index.find(9, |slot| slot == 1), Some(1));
    }

    #[test]
    fn it_grows_and_shrinks_with_what_is_in_it() {
        let hash = |slot: u32| slot.wrapping_mul(0x9e37_79b1);
        let mut index = Index::new(20_000);
        let reserved = index.reserved();
        for round in 0..3 {
            let mut sizes = vec![index.mask + 1];
            for slot in 0..20_000 {
                index.insert(hash(slot), slot);
                sizes.push(index.mask + 1);
            }
            assert!((0..20_000).all(|slot| index.find(hash(slot), |at| at == slot).is_some()));
            for slot in 0..20_000 {
                index.remove(hash(slot), slot);
                assert_eq!(index.find(hash(slot), |at| at == slot), None);
                sizes.push(index.mask + 1);
                let rest = 20_000 - 1 - slot;
                assert!(rest == 0 || index.find(hash(19_999), |at| at == 19_999).is_some());
            }
            sizes.dedup();
            let up = [512, 1_024, 2_048, 4_096, 8_192, 16_384, 32_768, 65_536];
            assert_eq!(sizes[..8], up, "round {round}");
            assert_eq!(sizes[8..], [16_384, 4_096, 1_024, 512], "round {round}");
            assert_eq!(index.reserved(), reserved);
        }
    }

    #[test]
    fn a_growing_one_begins_small_and_never_moves_many() {
        let hash = |slot: u32| slot.wrapping_mul(0x9e37_79b1);
        for (slots, largest_move) in [(1, 0), (500, 512), (20_000, 32_768), (300_000, 8_192)] {
            let mut index = Index::growing(slots as usize);
            assert!(index.reserved() <= 128, "{} bytes", index.reserved());
            let mut moved = 0;
            for slot in 0..slots {
                let before = index.mask;
                index.insert(hash(slot), slot);
                if index.mask != before {
                    moved = before + 1;
                }
            }
            assert_eq!(moved, largest_move, "of {slots}");
            assert!((0..slots).all(|slot| index.find(hash(slot), |at| at == slot).is_some()));
            assert!(index.reserved() <= index.reserved_max());
            for slot in 1..slots {
                index.remove(hash(slot), slot);
            }
            assert_eq!((index.len, index.find(hash(0), |at| at == 0)), (1, Some(0)));
            let whole = Index::new(slots as usize);
            assert_eq!(whole.reserved(), index.reserved_max(), "the bound is what is reserved");
        }
    }

    proptest! {
        /// Few distinct hashes at the table's end, so that runs collide and wrap around.
        #[test]
        fn behaves_as_a_map_does(
            steps in proptest::collection::vec(any::<(bool, u8, u8)>(), 0..300),
        ) {
            let mut index = Index::growing(32);
            let mut model = BTreeMap::new();
            for (insert, slot, hash) in steps {
                let (slot, hash) = (u32::from(slot % 32), 58 + u32::from(hash % 10));
                match model.get(&slot).copied() {
                    None if insert => {
                        index.insert(hash, slot);
                        model.insert(slot, hash);
                    }
                    Some(hash) if !insert => {
                        index.remove(hash, slot);
                        model.remove(&slot);
                    }
                    _ => index.remove(hash, 99),
                }
                prop_assert_eq!(index.len, model.len());
                for slot in 0..32 {
                    let hash = model.get(&slot).copied();
                    let found = index.find(hash.unwrap_or(58), |other| other == slot);
                    prop_assert_eq!(found, hash.map(|_| slot));
                }
            }
        }
    }
}
