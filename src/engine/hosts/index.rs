//! Index from hashes to places: a sorted array of both, with a directory.
//!
//! A slot is a hash in its upper half and a place in its lower. As hashes are spread evenly, the
//! directory of their first bits, a word for about four slots, leaves a few neighbours to compare.
//! Slots of equal hashes keep the order in which they were given.

/// Approximate number of slots per word of the directory.
const SLOTS_PER_BUCKET: usize = 4;

/// Places by their hashes.
pub(super) struct Index {
    slots: Box<[u64]>,
    /// First slot of each bucket, and finally the number of slots.
    starts: Box<[u32]>,
    /// Number of bits of a hash below those of its bucket.
    shift: u32,
}

impl Index {
    /// Builds the index of fewer than 2^32 slots, sorted by their hashes.
    pub(super) fn new(slots: Vec<u64>) -> Self {
        debug_assert!(slots.is_sorted_by_key(|slot| hash_of(*slot)));
        let buckets = (slots.len() / SLOTS_PER_BUCKET).next_power_of_two();
        let shift = u32::BITS - buckets.ilog2();
        let mut starts = vec![0_u32; buckets + 1];
        let mut bucket = 0;
        for (number, slot) in slots.iter().enumerate() {
            let own = bucket_of(hash_of(*slot), shift);
            while bucket < own {
                bucket += 1;
                starts[bucket] = number as u32;
            }
        }
        starts[bucket + 1..].fill(slots.len() as u32);
        Self { slots: slots.into(), starts: starts.into(), shift }
    }

    /// Returns the places of records with this hash, in their order.
    #[inline]
    pub(super) fn at(&self, hash: u32) -> impl Iterator<Item = usize> {
        let bucket = bucket_of(hash, self.shift);
        let bounds = self.starts[bucket] as usize..self.starts[bucket + 1] as usize;
        let slots = self.slots[bounds].iter();
        slots.filter(move |slot| hash_of(**slot) == hash).map(|slot| place_of(*slot))
    }

    /// Returns the memory in bytes.
    pub(super) fn reserved(&self) -> usize {
        size_of_val(&*self.slots) + size_of_val(&*self.starts)
    }
}

/// The slot of a record at `place`.
pub(super) fn slot(hash: u32, place: usize) -> u64 {
    u64::from(hash) << 32 | place as u64
}

/// The hash in a slot.
pub(super) fn hash_of(slot: u64) -> u32 {
    (slot >> 32) as u32
}

/// The place in a slot.
pub(super) fn place_of(slot: u64) -> usize {
    slot as u32 as usize
}

/// Returns the first bits of `hash`, all but `shift` of them.
fn bucket_of(hash: u32, shift: u32) -> usize {
    (u64::from(hash) >> shift) as usize
}

#[cfg(test)]
mod tests {
    use super::{Index, slot};

    #[test]
    fn every_slot_is_found_by_its_hash_and_no_other() {
        for count in [0_u32, 1, 3, 4, 5, 100, 1_000] {
            // Spread over all hashes, the ends included, with two places each.
            let hash = |number: u32| {
                (u64::from(number) * u64::from(u32::MAX) / u64::from(count.max(2) - 1)) as u32
            };
            let slots = (0..count).flat_map(|number| {
                let place = 2 * number as usize;
                [slot(hash(number), place), slot(hash(number), place + 1)]
            });
            let index = Index::new(slots.collect());
            for number in 0..count {
                let places: Vec<_> = index.at(hash(number)).collect();
                assert_eq!(places, [2 * number as usize, 2 * number as usize + 1], "{count}");
                assert_eq!(index.at(hash(number) ^ 1).count(), 0);
            }
            assert_eq!(index.at(7).count(), 0);
        }
    }
}
