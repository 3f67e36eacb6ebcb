//! Order in which a query tries the upstreams of its stanza.
//!
//! A query carries its progress in a [`Tour`]: a bit for each upstream tried in this pass, and the
//! first one. A pass tries each once; the next begins with the same first one, so that two
//! upstreams are always tried in turn. Nothing is allocated and nothing is shuffled: a uniform
//! choice among the untried gives a uniform permutation.

use crate::config::Policy;

/// Progress of one query through its upstreams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tour {
    tried: u64,
    first: u8,
    begun: bool,
}

/// State of one stanza between queries.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rotation {
    turn: u32,
}

impl Tour {
    /// No upstream tried yet.
    pub(crate) const NEW: Self = Self { tried: 0, first: 0, begun: false };

    /// A tour that began with upstream number `first`.
    pub(crate) fn begun_with(first: usize) -> Self {
        Self { tried: 1 << first, first: first as u8, begun: true }
    }

    /// Returns the next upstream to try, of `count` (1 to 64). `random` gives a uniform number per
    /// call.
    pub(crate) fn next(
        &mut self,
        policy: Policy,
        count: usize,
        rotation: &mut Rotation,
        random: impl FnOnce() -> u32,
    ) -> usize {
        let all = u64::MAX >> (64 - count);
        if self.tried == all {
            self.tried = 0;
        }
        let untried = all & !self.tried;
        let pick = if self.tried != 0 {
            match policy {
                Policy::Random => nth_set(untried, below(untried.count_ones(), random())),
                Policy::RoundRobin | Policy::Sequential => untried.trailing_zeros(),
            }
        } else if self.begun {
            u32::from(self.first)
        } else {
            match policy {
                Policy::Random => below(untried.count_ones(), random()),
                Policy::Sequential => 0,
                Policy::RoundRobin => {
                    rotation.turn = rotation.turn.wrapping_add(1) % count as u32;
                    rotation.turn
                }
            }
        };
        if !self.begun {
            self.begun = true;
            self.first = pick as u8;
        }
        self.tried |= 1 << pick;
        pick as usize
    }
}

/// Returns a number below `bound` from a uniform one.
fn below(bound: u32, random: u32) -> u32 {
    ((u64::from(random) * u64::from(bound)) >> 32) as u32
}

/// Returns the position of the `n`-th set bit.
fn nth_set(mut bits: u64, n: u32) -> u32 {
    for _ in 0..n {
        bits &= bits - 1;
    }
    bits.trailing_zeros()
}

#[cfg(test)]
mod tests {
    use super::{Rotation, Tour};
    use crate::config::Policy;

    fn tour(policy: Policy, count: usize, rotation: &mut Rotation, steps: usize) -> Vec<usize> {
        let mut seed = 1u32;
        let mut tour = Tour::NEW;
        let mut random = || {
            seed = seed.wrapping_mul(0x9e37_79b1).rotate_left(7) ^ 0x5bd1_e995;
            seed
        };
        (0..steps).map(|_| tour.next(policy, count, rotation, &mut random)).collect()
    }

    #[test]
    fn sequential_repeats_the_order_of_the_list() {
        let order = tour(Policy::Sequential, 3, &mut Rotation::default(), 7);
        assert_eq!(order, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn round_robin_counts_first_and_goes_on_in_list_order() {
        let mut rotation = Rotation::default();
        let heads: Vec<_> =
            (0..6).map(|_| tour(Policy::RoundRobin, 3, &mut rotation, 1)[0]).collect();
        assert_eq!(heads, [1, 2, 0, 1, 2, 0]);
        assert_eq!(tour(Policy::RoundRobin, 3, &mut rotation, 5), [1, 0, 2, 1, 0]);
    }

    #[test]
    fn random_tries_each_once_a_pass_and_begins_each_pass_alike() {
        for count in [1, 2, 15, 64] {
            let order = tour(Policy::Random, count, &mut Rotation::default(), count * 2);
            for pass in order.chunks(count) {
                let mut sorted = pass.to_vec();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..count).collect::<Vec<_>>());
                assert_eq!(pass[0], order[0]);
            }
        }
    }

    #[test]
    fn random_spreads_first_choices_evenly() {
        let mut tallies = [0; 3];
        let mut rotation = Rotation::default();
        for step in 0..3_000u32 {
            let random = || step.wrapping_mul(0x9e37_79b1);
            let mut tour = Tour::NEW;
            tallies[tour.next(Policy::Random, 3, &mut rotation, random)] += 1;
        }
        assert!(tallies.iter().all(|tally| (900..1100).contains(tally)), "{tallies:?}");
    }
}
