//! Hash index over the slots of a slab.
//!
//! It stores no keys: they are in the slab, and the caller compares. Open addressing with linear
//! probing at a load of at most one half; removal moves entries back into the hole, so that there
//! are no tombstones. Only the front of its memory is in use, in proportion to the slots: a few
//! lines that stay in the cache, whereas the whole would cost a memory access each time. When that
//! part doubles all entries move, at most a few ten thousand; a larger index is in use as a whole.
//! The memory is reserved at the start. The caller keys the hashes where strangers choose the
//! names.

use super::memory::prefetch;

/// A hash and its slot plus one; zero: vacant. So a new index consists of zeroed pages, which the
/// kernel provides on first access.
type Entry = (u32, u32);

/// Minimum size of the part in use of an elastic index.
const SIZE_MIN: usize = 512;
/// The part in use shrinks to a quarter if less than one in this many entries is occupied.
const SPARSE: usize = 16;

/// Maximum size of an elastic index; moving more entries would be a pause.
const SIZE_ELASTIC_MAX: usize = 65_536;

/// Slots by hash.
pub(crate) struct Index {
    entries: Box<[Entry]>,
    /// Number of entries in use, a power of two, less one.
    mask: usize,
    /// Minimum size of the part in use.
    least: usize,
    len: usize,
    slots_max: usize,
    /// Buffer for entries while the part in use is resized.
    moving: Vec<Entry>,
}

impl Index {
    /// An index with reserved memory for `slots_max` slots.
    pub(crate) fn new(slots_max: usize) -> Self {
        let size = (slots_max.max(1) * 2).next_power_of_two();
        let (least, moving_max) =
            if size > SIZE_ELASTIC_MAX { (size, 0) } else { (size.min(SIZE_MIN), slots_max) };
        let (entries, moving) = (vec![(0, 0); size].into(), Vec::with_capacity(moving_max));
        Self { entries, mask: least - 1, least, len: 0, slots_max, moving }
    }

    /// Returns the reserved memory in bytes.
    pub(crate) fn reserved(&self) -> usize {
        size_of_val(&*self.entries) + self.moving.capacity() * size_of::<Entry>()
    }

    /// Returns the slot with this hash for which `is_it` returns true.
    pub(crate) fn find(&self, hash: u32, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.probe(hash, is_it).ok()
    }

    /// Returns the same slot, or the vacant place for its entry.
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

    /// Prefetches the entry of `hash`.
    pub(crate) fn prefetch(&self, hash: u32) {
        prefetch(&self.entries[hash as usize & self.mask]);
    }

    /// Adds `slot` under `hash`.
    ///
    /// # Panics
    /// Beyond its capacity, which is that of the slab.
    pub(crate) fn insert(&mut self, hash: u32, slot: u32) {
        self.insert_new(hash, slot, |_| false);
    }

    /// The same, unless `is_it` returns true for a slot under this hash. Returns true if it was
    /// added.
    ///
    /// # Panics
    /// As [`Index::insert`].
    pub(crate) fn insert_new(
        &mut self,
        hash: u32,
        slot: u32,
        is_it: impl FnMut(u32) -> bool,
    ) -> bool {
        assert!(self.len < self.slots_max, "the index is as large as its slab");
        let size = self.mask + 1;
        if 2 * (self.len + 1) > size && size < self.entries.len() {
            self.resize(2 * size);
        }
        let Err(vacant) = self.probe(hash, is_it) else { return false };
        self.entries[vacant] = (hash, slot + 1);
        self.len += 1;
        true
    }

    /// Changes the part in use to `size` entries, within the existing memory.
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

    /// Removes `slot`, which was added under `hash`; does nothing if it is absent.
    pub(crate) fn remove(&mut self, hash: u32, slot: u32) {
        let mut hole = hash as usize & self.mask;
        while self.entries[hole].1 != slot + 1 {
            if self.entries[hole].1 == 0 {
                return;
            }
            hole = (hole + 1) & self.mask;
        }
        // An entry that would be unreachable from its home place across the hole moves into it.
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
    fn the_index_grows_and_shrinks_with_its_contents() {
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

    proptest! {
        /// Few distinct hashes at the table's end, so that runs collide and wrap around.
        #[test]
        fn behaves_as_a_map_does(
            steps in proptest::collection::vec(any::<(bool, u8, u8)>(), 0..300),
        ) {
            let mut index = Index::new(32);
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
