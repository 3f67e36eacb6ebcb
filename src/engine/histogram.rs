//! Histograms of durations and sizes: counts in fixed buckets. PURE.
//!
//! [`Latency`] has four buckets for each doubling, fine enough for percentiles, and every fourth
//! edge is one of the reference's (0.25 ms times a power of two), so that both views come from the
//! same counts. [`Sizes`] has the reference's buckets. An edge belongs to the bucket below it, as
//! with `le`. Adding is an index and an increment, without allocation.

use crate::moment::nanos;
use std::time::Duration;

/// Width of the smallest bucket: a sixteenth of a quarter of a millisecond.
const UNIT_NANOS: u64 = 15_625;
/// Number of buckets for each doubling.
const STEPS: usize = 4;
/// The first bucket whose edge is one of the reference's, 0.25 ms.
const FIRST_EDGE: usize = 11;
/// Number of the reference's edges: 0.25 ms times 2^0 to 2^15.
pub(crate) const EDGES: usize = 16;
/// Number of buckets; the last has no upper edge.
const BUCKETS: usize = FIRST_EDGE + STEPS * (EDGES - 1) + 2;

/// Durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    counts: [u64; BUCKETS],
    /// Sum of all durations, in nanoseconds; wraps after 584 years.
    sum_nanos: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], sum_nanos: 0 }
    }
}

impl Latency {
    /// Counts one duration.
    #[inline]
    pub(crate) fn add(&mut self, took: Duration) {
        let took = nanos(took);
        self.counts[bucket(took)] += 1;
        self.sum_nanos = self.sum_nanos.wrapping_add(took);
    }

    /// Adds the counts of `other`.
    pub(crate) fn merge(&mut self, other: &Self) {
        add_each(&mut self.counts, &other.counts);
        self.sum_nanos = self.sum_nanos.wrapping_add(other.sum_nanos);
    }

    /// Returns the difference from `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let mut rest = *self;
        for (own, earlier) in rest.counts.iter_mut().zip(&earlier.counts) {
            *own = own.saturating_sub(*earlier);
        }
        rest.sum_nanos = self.sum_nanos.wrapping_sub(earlier.sum_nanos);
        rest
    }

    /// Returns the number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Sum in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_nanos as f64 / 1e9
    }

    /// Returns the number of values up to each of the reference's edges.
    pub(crate) fn cumulative(&self) -> [u64; EDGES] {
        let mut sums = [0; EDGES];
        let mut sum = 0;
        for (place, count) in self.counts[..BUCKETS - 1].iter().enumerate() {
            sum += count;
            if place >= FIRST_EDGE && (place - FIRST_EDGE).is_multiple_of(STEPS) {
                sums[(place - FIRST_EDGE) / STEPS] = sum;
            }
        }
        sums
    }

    /// Returns the quantile `part`, 0 to 1, as the middle of its bucket: accurate to a fifth. Zero
    /// if there are no values.
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        let total = self.count();
        let wanted = (total as f64 * part).ceil().max(1.0) as u64;
        let mut sum = 0;
        for (place, count) in self.counts.iter().enumerate() {
            sum += count;
            if sum >= wanted {
                return Duration::from_nanos(u64::midpoint(lower(place), lower(place + 1)));
            }
        }
        Duration::ZERO
    }
}

/// Index of a duration's bucket.
fn bucket(nanos: u64) -> usize {
    let above = nanos.saturating_sub(1) / UNIT_NANOS;
    if above < STEPS as u64 {
        return above as usize;
    }
    let doublings = above.ilog2() as usize;
    let step = (above >> (doublings - 2)) as usize % STEPS;
    ((doublings - 1) * STEPS + step).min(BUCKETS - 1)
}

/// Returns the lower bound of a bucket, in nanoseconds.
fn lower(place: usize) -> u64 {
    let units = match place.checked_sub(STEPS) {
        None => place as u64,
        Some(above) => (STEPS + above % STEPS) as u64 * (1 << (above / STEPS)),
    };
    units * UNIT_NANOS
}

/// One of the reference's edges, in seconds.
pub(crate) fn edge_seconds(place: usize) -> f64 {
    0.00025 * (1u32 << place) as f64
}

/// Durations in the reference's buckets only, to save memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coarse {
    counts: [u64; EDGES],
    beyond: u64,
    sum_nanos: u64,
}

impl Coarse {
    /// Counts one duration.
    #[inline]
    pub(crate) fn add(&mut self, took: Duration) {
        let took = nanos(took);
        let place = bucket(took).saturating_sub(FIRST_EDGE - STEPS + 1) / STEPS;
        *self.counts.get_mut(place).unwrap_or(&mut self.beyond) += 1;
        self.sum_nanos = self.sum_nanos.wrapping_add(took);
    }

    /// Adds the counts of `other`.
    pub(crate) fn merge(&mut self, other: &Self) {
        add_each(&mut self.counts, &other.counts);
        self.beyond += other.beyond;
        self.sum_nanos = self.sum_nanos.wrapping_add(other.sum_nanos);
    }

    /// Returns the number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.beyond
    }

    /// Sum in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_nanos as f64 / 1e9
    }

    /// Returns the number of values up to each of the reference's edges.
    pub(crate) fn cumulative(&self) -> [u64; EDGES] {
        running_sums(self.counts)
    }
}

/// The reference's edges of sizes, in bytes.
pub(crate) const SIZES: [u16; 14] =
    [0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16_000, 32_000, 48_000, 64_000];

/// Sizes of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    counts: [u64; SIZES.len()],
    beyond: u64,
    sum: u64,
}

impl Sizes {
    /// Counts a message of `bytes` bytes.
    #[inline]
    pub(crate) fn add(&mut self, bytes: usize) {
        let place = SIZES.partition_point(|edge| usize::from(*edge) < bytes);
        *self.counts.get_mut(place).unwrap_or(&mut self.beyond) += 1;
        self.sum += bytes as u64;
    }

    /// Adds the counts of `other`.
    pub(crate) fn merge(&mut self, other: &Self) {
        add_each(&mut self.counts, &other.counts);
        self.beyond += other.beyond;
        self.sum += other.sum;
    }

    /// Returns the number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.beyond
    }

    /// Sum in bytes.
    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }

    /// Returns the number of values up to each of [`SIZES`].
    pub fn cumulative(&self) -> [u64; SIZES.len()] {
        running_sums(self.counts)
    }
}

fn running_sums<const N: usize>(mut counts: [u64; N]) -> [u64; N] {
    for place in 1..N {
        counts[place] += counts[place - 1];
    }
    counts
}

/// Adds each element of `other` to the same element of `own`.
pub(crate) fn add_each(own: &mut [u64], other: &[u64]) {
    for (own, other) in own.iter_mut().zip(other) {
        *own += other;
    }
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Coarse, EDGES, Latency, SIZES, Sizes, bucket, edge_seconds, lower};
    use std::time::Duration;

    #[test]
    fn buckets_follow_one_another_without_a_gap() {
        for place in 1..BUCKETS {
            assert_eq!(bucket(lower(place)), place - 1, "an edge belongs to the bucket below");
            assert_eq!(bucket(lower(place) + 1), place);
        }
        assert_eq!((bucket(0), bucket(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn every_fourth_edge_is_one_of_the_reference() {
        for place in 0..EDGES {
            let edge = Duration::from_secs_f64(edge_seconds(place));
            for (nanos, inside) in [(0, true), (1, false)] {
                let took = edge + Duration::from_nanos(nanos);
                let (mut fine, mut coarse) = (Latency::default(), Coarse::default());
                fine.add(took);
                coarse.add(took);
                assert_eq!(fine.cumulative(), coarse.cumulative());
                let within = fine.cumulative().iter().filter(|count| **count == 1).count();
                assert_eq!(within, EDGES - place - usize::from(!inside), "{took:?}");
                assert_eq!((fine.count(), coarse.count()), (1, 1));
                assert_eq!(fine.sum_seconds(), took.as_secs_f64());
            }
        }
    }

    #[test]
    fn quantiles_are_right_to_a_fifth() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile(0.5), Duration::ZERO);
        (1..=1000).for_each(|count| latency.add(Duration::from_micros(100 * count)));
        for (part, expected) in [(0.5, 50.0), (0.9, 90.0), (0.99, 99.0), (1.0, 100.0)] {
            let found = latency.quantile(part).as_secs_f64() * 1e3;
            assert!((found / expected - 1.0).abs() < 0.2, "{part}: {found} ms");
        }
    }

    #[test]
    fn differences_and_sums_of_histograms() {
        let mut early = Latency::default();
        early.add(Duration::from_millis(1));
        let mut late = early;
        late.add(Duration::from_secs(9));
        let since = late.since(&early);
        assert_eq!((since.count(), since.sum_seconds()), (1, 9.0));
        early.merge(&since);
        assert_eq!(early, late);
    }

    #[test]
    fn sizes_fall_into_the_buckets_of_the_reference() {
        let mut sizes = Sizes::default();
        [0, 1, 100, 512, 64_000, 64_001].iter().for_each(|bytes| sizes.add(*bytes));
        assert_eq!(sizes.cumulative(), [1, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 5]);
        assert_eq!((sizes.count(), sizes.sum(), SIZES.len()), (6, 128_614, 14));
        let mut twice = sizes;
        twice.merge(&sizes);
        assert_eq!((twice.count(), twice.sum()), (12, 257_228));
    }
}
