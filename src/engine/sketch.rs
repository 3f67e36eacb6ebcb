//! Most frequent keys in fixed memory: a space-saving sketch. PURE.
//!
//! It counts [`KEYS_MAX`] keys. A known key increments its count; a new one replaces the rarest and
//! adds to its count, so a count is never too small, and too large by at most [`Counted::error`]
//! (Metwally, Agrawal, El Abbadi 2005, §3). A key with more than one in [`KEYS_MAX`] occurrences is
//! always among them. Keys are bytes from strangers, of limited length.
//!
//! [`Sampler`] selects the queries to count: under load one of many, with a weight to compensate,
//! so the cost is bounded per second and does not grow with the number of queries.

use super::index::Index;
use crate::moment::Moment;
use ahash::RandomState;
use std::time::Duration;

/// Number of counted keys.
pub(crate) const KEYS_MAX: usize = 128;
/// Maximum length of a key: a name in wire format.
const KEY_LEN_MAX: usize = 255;
/// Number of samples per second.
const SAMPLES: u64 = 1_000;
/// Time over which the rate for the next samples is measured.
const WINDOW: Duration = Duration::from_millis(200);
/// Maximum distance of two samples, in queries.
const STRIDE_MAX: u64 = 1 << 16;

/// A key with its count.
#[derive(Clone, Copy)]
pub struct Counted {
    key: [u8; KEY_LEN_MAX],
    len: u8,
    hash: u32,
    /// Lower bound of the count.
    pub count: u64,
    /// Maximum excess of `count`.
    pub(crate) error: u64,
}

impl Counted {
    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.key[..usize::from(self.len)]
    }
}

/// The sketch.
pub struct Sketch {
    hasher: RandomState,
    keys: Vec<Counted>,
    places: Index,
}

impl Sketch {
    /// An empty sketch. `hasher` is keyed.
    pub(crate) fn new(hasher: RandomState) -> Self {
        Self { hasher, keys: Vec::with_capacity(KEYS_MAX), places: Index::new(KEYS_MAX) }
    }

    /// Counts `key` with `weight`. A key that is too long is ignored.
    pub(crate) fn add(&mut self, key: &[u8], weight: u64) {
        if key.len() > KEY_LEN_MAX {
            return;
        }
        let hash = self.hasher.hash_one(key) as u32;
        let known = self.places.find(hash, |place| self.keys[place as usize].key() == key);
        if let Some(place) = known {
            self.keys[place as usize].count += weight;
            return;
        }
        let mut newcomer =
            Counted { key: [0; KEY_LEN_MAX], len: key.len() as u8, hash, count: weight, error: 0 };
        newcomer.key[..key.len()].copy_from_slice(key);
        if self.keys.len() < KEYS_MAX {
            self.places.insert(hash, self.keys.len() as u32);
            return self.keys.push(newcomer);
        }
        let rarest = (0..KEYS_MAX).min_by_key(|place| self.keys[*place].count);
        let rarest = rarest.expect("it is full");
        let old = &self.keys[rarest];
        (newcomer.count, newcomer.error) = (old.count + weight, old.count);
        self.places.remove(old.hash, rarest as u32);
        self.places.insert(hash, rarest as u32);
        self.keys[rarest] = newcomer;
    }

    /// Returns the counted keys, unordered.
    pub fn keys(&self) -> &[Counted] {
        &self.keys
    }

    /// Removes all keys.
    pub(crate) fn clear(&mut self) {
        for (place, known) in self.keys.drain(..).enumerate() {
            self.places.remove(known.hash, place as u32);
        }
    }

    /// Returns the reserved memory in bytes.
    pub(crate) fn reserved(&self) -> usize {
        self.keys.capacity() * size_of::<Counted>() + self.places.reserved()
    }
}

/// Sampler of queries: all of them at low rates, one of many under load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sampler {
    /// Number of queries until the next sample.
    left: u64,
    stride: u64,
    /// Number of queries since `since`, up to the last sample.
    seen: u64,
    since: Moment,
}

impl Default for Sampler {
    fn default() -> Self {
        Self { left: 1, stride: 1, seen: 0, since: Moment::ZERO }
    }
}

impl Sampler {
    /// Returns the weight of the query if it is a sample.
    #[inline]
    pub(crate) fn next(&mut self, now: Moment) -> Option<u64> {
        self.left -= 1;
        if self.left > 0 {
            return None;
        }
        Some(self.sample(now))
    }

    fn sample(&mut self, now: Moment) -> u64 {
        let weight = self.stride;
        self.seen += weight;
        let elapsed = now.since(self.since);
        if elapsed >= WINDOW {
            let rate = (self.seen as f64 / elapsed.as_secs_f64()) as u64;
            self.stride = (rate / SAMPLES).clamp(1, STRIDE_MAX).next_power_of_two();
            (self.seen, self.since) = (0, now);
        } else if self.seen > SAMPLES * self.stride {
            // Reacts to a flood before the window ends.
            self.stride = (2 * self.stride).min(STRIDE_MAX);
        }
        self.left = self.stride;
        weight
    }
}

#[cfg(test)]
mod tests {
    use super::{KEY_LEN_MAX, KEYS_MAX, SAMPLES, Sampler, Sketch};
    use crate::moment::Moment;
    use ahash::RandomState;
    use std::time::Duration;

    fn sketch() -> Sketch {
        Sketch::new(RandomState::with_seeds(1, 2, 3, 4))
    }

    #[test]
    fn frequent_keys_are_kept_however_many_others_there_are() {
        let mut sketch = sketch();
        let mut true_count = 0;
        for number in 0u32..100_000 {
            sketch.add(&number.to_be_bytes(), 1);
            if number % 50 == 0 {
                sketch.add(b"often", 1);
                true_count += 1;
            }
        }
        assert_eq!(sketch.keys().len(), KEYS_MAX);
        let often = sketch.keys().iter().find(|known| known.key() == b"often").unwrap();
        assert!(often.count >= true_count && often.count - often.error <= true_count);
        let total: u64 = sketch.keys().iter().map(|known| known.count).sum();
        assert_eq!(total, 100_000 + true_count, "each counts once");
    }

    #[test]
    fn few_keys_are_counted_exactly_and_forgotten_at_once() {
        let mut sketch = sketch();
        for _ in 0..2 {
            sketch.add(b"", 2);
            sketch.add(&[255; KEY_LEN_MAX], 3);
            sketch.add(&[0; KEY_LEN_MAX + 1], 1);
            sketch.add(b"", 5);
            let counts: Vec<_> = sketch.keys().iter().map(|key| (key.count, key.error)).collect();
            assert_eq!(counts, [(7, 0), (3, 0)]);
            sketch.clear();
            assert!(sketch.keys().is_empty());
        }
    }

    #[test]
    fn samples_stand_for_all_and_are_few_under_load() {
        for (rate, samples_max) in [(100, 200), (1_000_000, 20 * SAMPLES)] {
            let mut sampler = Sampler::default();
            let (mut weight, mut samples) = (0, 0);
            for number in 0..2 * rate {
                let now = Moment::ZERO.plus(Duration::from_nanos(1_000_000_000 / rate * number));
                if let Some(stands_for) = sampler.next(now) {
                    (weight, samples) = (weight + stands_for, samples + 1);
                }
            }
            assert!(samples <= samples_max, "{samples} of {}", 2 * rate);
            assert!(weight.abs_diff(2 * rate) <= 4_096, "{weight} of {}", 2 * rate);
        }
    }
}
