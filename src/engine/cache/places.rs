//! Index over the slots of all classes, which readers search without a lock.
//!
//! A word holds a hash and a slot; no keys, which the caller compares. Open addressing with linear
//! probing at a load of at most two thirds; a removal moves words back into the hole, so that there
//! are no tombstones. The index consists of segments, chosen by the highest bits of a hash. A
//! segment has a lock for its writers, and begins small and doubles, so that the index of a small
//! cache takes few pages.
//!
//! While a writer moves words, a reader may not find a slot that is present, and may find one that
//! was just removed: the first is a miss, and the second is noticed by the caller, who compares the
//! key and the sequence number. A search with the lock is exact.

use super::sequence::{read, write};
use crate::engine::memory::prefetch;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Minimum size of a segment.
const SIZE_MIN: usize = 64;

/// Slots by hash.
pub(super) struct Places {
    /// Place of the first word.
    first: usize,
    /// Maximum size of a segment, a power of two.
    size_max: usize,
    /// Number of bits of a hash that are below those of the segment.
    shift: u32,
    segments: Box<[Segment]>,
    /// Size of each segment less one; apart from the locks because every lookup reads it.
    masks: Box<[AtomicUsize]>,
}

/// State of a segment that only its writers use.
#[repr(align(64))]
struct Segment {
    /// Excludes other writers of the keys whose hashes are in the segment.
    keys: Mutex<()>,
    /// Number of slots. Excludes other writers of the words.
    len: Mutex<usize>,
}

impl Places {
    /// An index in `segments` segments, a power of two, each for up to `slots` slots, whose words
    /// are laid out from `place` on. Returns it and the place behind.
    pub(super) fn new(segments: usize, slots: usize, place: usize) -> (Self, usize) {
        let size_max = (slots + slots / 2 + 1).next_power_of_two();
        let mask = size_max.min(SIZE_MIN) - 1;
        let segment = |_| Segment { keys: Mutex::default(), len: Mutex::default() };
        let places = Self {
            first: place,
            size_max,
            shift: 32 - segments.trailing_zeros(),
            segments: (0..segments).map(segment).collect(),
            masks: (0..segments).map(|_| AtomicUsize::new(mask)).collect(),
        };
        (places, place + segments * size_max)
    }

    /// Returns the bytes of the words in use.
    pub(super) fn mapped(&self) -> usize {
        let sizes = self.masks.iter().map(|mask| mask.load(Relaxed) + 1);
        sizes.sum::<usize>() * size_of::<u64>()
    }

    /// Returns the bytes of the words in use, and of the tables.
    pub(super) fn reserved(&self) -> usize {
        self.mapped() + self.tables()
    }

    /// Returns the maximum of [`Places::reserved`].
    pub(super) fn reserved_max(&self) -> usize {
        self.masks.len() * self.size_max * size_of::<u64>() + self.tables()
    }

    fn tables(&self) -> usize {
        size_of_val(&*self.segments) + size_of_val(&*self.masks)
    }

    /// Returns the lock of the keys with this hash. Who stores or removes an answer to a key holds
    /// it, so that a key never has two.
    pub(super) fn lock_keys(&self, hash: u32) -> MutexGuard<'_, ()> {
        // It protects no data that a panic could leave half-written.
        self.segments[self.segment(hash)].keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prefetches the word of `hash`.
    pub(super) fn prefetch(&self, words: &[AtomicU64], hash: u32) {
        let (start, mask) = self.range(self.segment(hash));
        if let Some(word) = words.get(start + (hash as usize & mask)) {
            prefetch(word);
        }
    }

    /// Passes the slots with this hash to `look`, without a lock, until it returns something, and
    /// returns that.
    #[inline]
    pub(super) fn find<T>(
        &self,
        words: &[AtomicU64],
        hash: u32,
        mut look: impl FnMut(u32) -> Option<T>,
    ) -> Option<T> {
        let (start, mask) = self.range(self.segment(hash));
        let segment = words.get(start..=start + mask)?;
        let mut place = hash as usize & mask;
        // Bounded, because words that writers move could lead a reader on.
        for _ in 0..=mask {
            let word = read(segment.get(place)?);
            let slot = (word as u32).checked_sub(1)?;
            if (word >> 32) as u32 == hash
                && let Some(found) = look(slot)
            {
                return Some(found);
            }
            place = (place + 1) & mask;
        }
        None
    }

    /// The same, exactly.
    pub(super) fn find_locked<T>(
        &self,
        words: &[AtomicU64],
        hash: u32,
        look: impl FnMut(u32) -> Option<T>,
    ) -> Option<T> {
        let _len = self.lock(words, self.segment(hash));
        self.find(words, hash, look)
    }

    /// Adds `slot` under `hash`. Returns false if the segment is full.
    pub(super) fn insert(&self, words: &[AtomicU64], hash: u32, slot: u32) -> bool {
        let segment = self.segment(hash);
        let mut len = self.lock(words, segment);
        let size = self.masks[segment].load(Relaxed) + 1;
        if 3 * (*len + 1) > 2 * size {
            if size == self.size_max {
                // Hashes are spread unevenly, but not that much.
                if 8 * (*len + 1) > 7 * size {
                    return false;
                }
            } else {
                self.resize(words, segment, 2 * size);
            }
        }
        let (start, mask) = self.range(segment);
        self.add(words, start, mask, word_of(hash, slot));
        *len += 1;
        true
    }

    /// Removes `slot`, which was added under `hash`; does nothing if it is absent.
    pub(super) fn remove(&self, words: &[AtomicU64], hash: u32, slot: u32) {
        let segment = self.segment(hash);
        let mut len = self.lock(words, segment);
        let (start, mask) = self.range(segment);
        let segment = &words[start..=start + mask];
        let mut hole = hash as usize & mask;
        while read(&segment[hole]) != word_of(hash, slot) {
            if read(&segment[hole]) == 0 {
                return;
            }
            hole = (hole + 1) & mask;
        }
        // A word that would be unreachable from its home place across the hole moves into it.
        let mut place = hole;
        loop {
            place = (place + 1) & mask;
            let word = read(&segment[place]);
            if word == 0 {
                break;
            }
            let home = (word >> 32) as usize & mask;
            let from_home = place.wrapping_sub(home) & mask;
            let from_hole = place.wrapping_sub(hole) & mask;
            if from_home >= from_hole {
                write(&segment[hole], word);
                hole = place;
            }
        }
        write(&segment[hole], 0);
        *len -= 1;
    }

    /// Removes all slots but those for which `stays` returns true.
    #[cold]
    pub(super) fn retain(&self, words: &[AtomicU64], stays: impl Fn(u32) -> bool) {
        for segment in 0..self.segments.len() {
            let mut len = self.lock(words, segment);
            *len = self.rebuild(words, segment, self.masks[segment].load(Relaxed) + 1, &stays);
        }
    }

    #[inline]
    fn segment(&self, hash: u32) -> usize {
        (u64::from(hash) >> self.shift) as usize
    }

    /// Place of a segment's first word, and its mask.
    #[inline]
    fn range(&self, segment: usize) -> (usize, usize) {
        (self.first + segment * self.size_max, self.masks[segment].load(Relaxed))
    }

    /// Locks a segment. One whose writer has panicked is rebuilt, because words may be missing or
    /// twice in it.
    fn lock(&self, words: &[AtomicU64], segment: usize) -> MutexGuard<'_, usize> {
        let lock = &self.segments[segment].len;
        lock.lock().unwrap_or_else(|poison| {
            let mut len = poison.into_inner();
            *len = self.rebuild(words, segment, self.masks[segment].load(Relaxed) + 1, |_| true);
            lock.clear_poison();
            len
        })
    }

    #[cold]
    fn resize(&self, words: &[AtomicU64], segment: usize, size: usize) {
        self.rebuild(words, segment, size, |_| true);
    }

    /// Gives a segment another size, at most `size_max`, and drops the slots that do not stay.
    /// Returns the number of its slots. Readers find nothing for a moment.
    #[cold]
    fn rebuild(
        &self,
        words: &[AtomicU64],
        segment: usize,
        size: usize,
        stays: impl Fn(u32) -> bool,
    ) -> usize {
        let (start, mask) = self.range(segment);
        let mut kept = Vec::new();
        for word in &words[start..=start + mask] {
            let value = read(word);
            if value != 0 && stays(value as u32 - 1) {
                kept.push(value);
            }
            write(word, 0);
        }
        kept.sort_unstable();
        kept.dedup();
        self.masks[segment].store(size - 1, Relaxed);
        kept.iter().for_each(|word| self.add(words, start, size - 1, *word));
        kept.len()
    }

    /// Writes `word` to the first vacant place from its home place on.
    fn add(&self, words: &[AtomicU64], start: usize, mask: usize, word: u64) {
        let mut place = (word >> 32) as usize & mask;
        while read(&words[start + place]) != 0 {
            place = (place + 1) & mask;
        }
        write(&words[start + place], word);
    }
}

/// A hash and its slot plus one; zero: vacant.
fn word_of(hash: u32, slot: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(slot + 1)
}

#[cfg(test)]
impl Places {
    /// Number of slots.
    pub(super) fn len(&self, words: &[AtomicU64]) -> usize {
        (0..self.segments.len()).map(|segment| *self.lock(words, segment)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::Places;
    use crate::sys::words::Words;
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use std::collections::BTreeMap;

    fn index(segments: usize, slots: usize) -> (Places, Words) {
        let (places, end) = Places::new(segments, slots, 5);
        (places, Words::new(end).unwrap())
    }

    /// A look that finds this slot alone.
    fn only(slot: u32) -> impl Fn(u32) -> Option<u32> {
        move |found| (found == slot).then_some(found)
    }

    #[test]
    fn a_segment_grows_with_its_contents_and_is_full_in_the_end() {
        let (places, words) = index(1, 1_000);
        let empty = places.reserved();
        let hash = |slot: u32| slot.wrapping_mul(0x9e37_79b9);
        for slot in 0..1_000 {
            assert!(places.insert(&words, hash(slot), slot));
            assert!((0..=slot).all(|own| places.find(&words, hash(own), only(own)) == Some(own)));
        }
        assert!(empty < places.reserved() && places.reserved() == places.reserved_max());
        let full = (1_000..3_000).find(|slot| !places.insert(&words, hash(*slot), *slot));
        assert_eq!(full, Some(2_048 * 7 / 8));
    }

    #[test]
    fn a_segment_whose_writer_panicked_is_rebuilt() {
        let (places, words) = index(1, 100);
        (0..50).for_each(|slot| assert!(places.insert(&words, 7, slot)));
        let panicked = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let _len = places.segments[0].len.lock();
                // Half of a move: a word is twice there.
                words[5 + 60]
                    .store(u64::from(7_u32) << 32 | 1, std::sync::atomic::Ordering::Relaxed);
                panic!("in mid-write");
            });
            thread.join().is_err()
        });
        assert!(panicked);
        places.remove(&words, 7, 0);
        assert_eq!(places.find(&words, 7, only(0)), None);
        assert_eq!(*places.segments[0].len.lock().unwrap(), 49);
        places.retain(&words, |slot| slot == 40);
        assert_eq!(places.find(&words, 7, Some), Some(40));
    }

    proptest! {
        /// Against an ordered map; hashes collide.
        #[test]
        fn behaves_as_its_twin_does(
            steps in proptest::collection::vec(any::<(bool, u8, u8)>(), 0..400),
            segments in 0_u32..3,
        ) {
            let (places, words) = index(1 << segments, 32);
            let mut twin = BTreeMap::new();
            for (insert, slot, hash) in steps {
                let slot = u32::from(slot % 32);
                let hash = u32::from(hash) << 25 | u32::from(hash % 3);
                if insert && !twin.contains_key(&slot) {
                    prop_assert_eq!(places.insert(&words, hash, slot), true);
                    twin.insert(slot, hash);
                } else if let Some(hash) = twin.remove(&slot) {
                    places.remove(&words, hash, slot);
                }
                places.remove(&words, hash, 1_000);
                for slot in 0..32 {
                    let expected = twin.get(&slot).map(|_| slot);
                    let hash = twin.get(&slot).copied().unwrap_or(hash);
                    prop_assert_eq!(places.find(&words, hash, only(slot)), expected);
                    prop_assert_eq!(places.find_locked(&words, hash, only(slot)), expected);
                }
            }
        }
    }
}
