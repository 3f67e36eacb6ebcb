//! Generated names.
//!
//! A name is `q<number>.<label>.<zone>`, the number in base32 and the label drawn from the seed:
//! runs with different seeds share no name. Numbers are new every time, or drawn from a population
//! of a fixed size, uniformly or by Zipf's law; or a mix of both with a given share of repeats. In
//! a mix the first numbers become the population and a repeat takes one of those queried already,
//! so the share holds from the first query on without a warm-up. Pure.

use super::zipf::Zipf;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// RFC 4648 §6 in lower case: five bits a digit, and no digit needs escaping in a name.
const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Digits of the largest `u64`.
const DIGITS_MAX: usize = 13;
/// Length of the label: two runs have the same one once in 2⁴⁰.
const LABEL_LEN: usize = 8;
/// Maximum length of a name without its zone.
pub(crate) const ROOM: usize = 1 + 1 + DIGITS_MAX + 1 + LABEL_LEN;
/// Maximum length of the zone: the name as a whole must not exceed 255 bytes.
pub const ZONE_LEN_MAX: usize = 255 - ROOM;

/// Distribution of names' numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Names {
    /// A new number each time.
    Unique,
    /// One of this number, all equally likely.
    Uniform(u64),
    /// One of a population by Zipf's law, some far likelier than others.
    Zipf(Zipf),
}

impl Names {
    /// Returns the size of the population, if it is bounded.
    fn count(&self) -> Option<u64> {
        match self {
            Self::Unique => None,
            Self::Uniform(count) => Some(*count),
            Self::Zipf(zipf) => Some(zipf.count()),
        }
    }
}

/// Generates one part's names.
pub(crate) struct NameMaker {
    names: Names,
    /// The share of repeats as a threshold for 64-bit draws.
    repeats_below: Option<u64>,
    /// `q`, digits, label and zone; the digits are rewritten for each name.
    name: Vec<u8>,
    /// The label and the zone, to be appended to the digits.
    tail: Vec<u8>,
    /// New numbers made by this part.
    made: u64,
    part: u64,
    parts: u64,
}

impl NameMaker {
    /// Creates the names of part `part` of `parts`, which share a seed.
    pub(crate) fn new(
        names: Names,
        hit_ratio: Option<f64>,
        zone: &[u8],
        seed: u64,
        part: u64,
        parts: u64,
    ) -> Self {
        let mut label = [0; LABEL_LEN];
        base32(ChaCha8Rng::seed_from_u64(seed).next_u64(), &mut label);
        let tail = [&[LABEL_LEN as u8][..], &label, zone].concat();
        let name = Vec::with_capacity(ROOM + zone.len());
        let repeats_below = hit_ratio.map(|ratio| (ratio * u64::MAX as f64) as u64);
        Self { names, repeats_below, name, tail, made: 0, part, parts }
    }

    /// Returns the next name, in wire form.
    pub(crate) fn next(&mut self, random: &mut ChaCha8Rng) -> &[u8] {
        let number = match self.repeats_below {
            Some(threshold) if self.made > 0 && random.next_u64() < threshold => {
                self.repeated(random)
            }
            Some(_) => self.fresh(),
            None => match self.names {
                Names::Unique => self.fresh(),
                Names::Uniform(count) => below(count, random),
                Names::Zipf(zipf) => zipf.draw(random),
            },
        };
        let mut digits = [0; DIGITS_MAX];
        let used = base32(number, &mut digits);
        self.name.clear();
        self.name.extend_from_slice(&[1 + used as u8, b'q']);
        self.name.extend_from_slice(&digits[DIGITS_MAX - used..]);
        self.name.extend_from_slice(&self.tail);
        &self.name
    }

    fn fresh(&mut self) -> u64 {
        let number = self.made * self.parts + self.part;
        self.made += 1;
        number
    }

    /// Draws a number that this part has used before, from its share of the population.
    fn repeated(&self, random: &mut ChaCha8Rng) -> u64 {
        let share = self.names.count().map_or(self.made, |count| count.div_ceil(self.parts));
        let asked = share.min(self.made).max(1);
        let rank = match self.names {
            // A rank that was not used yet is mapped to one that was.
            Names::Zipf(zipf) => zipf.draw(random) / self.parts % asked,
            _ => below(asked, random),
        };
        rank * self.parts + self.part
    }
}

/// Draws a number below `count`, all but equally likely: the bias is `count` in 2⁶⁴.
fn below(count: u64, random: &mut ChaCha8Rng) -> u64 {
    ((u128::from(random.next_u64()) * u128::from(count)) >> 64) as u64
}

/// Fills `digits` with the lowest digits of `value`; returns the number of significant ones, at
/// least one.
fn base32(value: u64, digits: &mut [u8]) -> usize {
    let mut rest = value;
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(rest & 31) as usize];
        rest >>= 5;
    }
    let bits = u64::BITS - value.leading_zeros();
    (bits.div_ceil(5) as usize).clamp(1, digits.len())
}

#[cfg(test)]
mod tests {
    use super::{NameMaker, Names, ROOM};
    use crate::traffic::workload::zipf::Zipf;
    use domain::base::Name;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;
    use std::collections::HashSet;

    const ZONE: &[u8] = b"\x04test\0";

    fn names(names: Names, hit_ratio: Option<f64>, count: usize) -> Vec<Vec<u8>> {
        let mut maker = NameMaker::new(names, hit_ratio, ZONE, 1, 0, 1);
        let mut random = ChaCha8Rng::seed_from_u64(2);
        (0..count).map(|_| maker.next(&mut random).to_vec()).collect()
    }

    fn distinct(names: &[Vec<u8>]) -> usize {
        names.iter().collect::<HashSet<_>>().len()
    }

    #[test]
    fn names_are_well_formed_and_short_enough() {
        let mut maker = NameMaker::new(Names::Unique, None, ZONE, 1, 0, 1);
        maker.made = u64::MAX - 1;
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let name = maker.next(&mut random);
        assert_eq!(name.len(), ROOM + ZONE.len());
        let text = Name::from_octets(name).unwrap().to_string();
        assert!(text.ends_with(".test") && text.starts_with('q'), "{text}");
    }

    #[test]
    fn populations_are_as_large_as_asked_for() {
        assert_eq!(distinct(&names(Names::Unique, None, 5_000)), 5_000);
        assert_eq!(distinct(&names(Names::Uniform(100), None, 5_000)), 100);
        let zipf = names(Names::Zipf(Zipf::new(100, 1.0)), None, 5_000);
        assert!(distinct(&zipf) > 90 && distinct(&zipf) <= 100);
    }

    #[test]
    fn the_share_of_repeats_holds_from_the_start() {
        for population in [Names::Unique, Names::Uniform(50), Names::Zipf(Zipf::new(50, 1.0))] {
            for (count, tolerance) in [(500, 50), (20_000, 300)] {
                let names = names(population, Some(0.8), count);
                let fresh = distinct(&names);
                assert!(fresh.abs_diff(count / 5) < tolerance, "{population:?}: {fresh}");
            }
        }
    }

    #[test]
    fn repeats_come_from_the_population() {
        let names = names(Names::Uniform(10), Some(0.9), 10_000);
        let mut seen = HashSet::new();
        let repeated: HashSet<_> = names.iter().filter(|name| !seen.insert(*name)).collect();
        assert_eq!(repeated.len(), 10);
    }

    #[test]
    fn a_seed_fixes_the_names_and_another_changes_them_all() {
        let first = names(Names::Unique, None, 10);
        assert_eq!(first, names(Names::Unique, None, 10));
        let mut other = NameMaker::new(Names::Unique, None, ZONE, 2, 0, 1);
        assert_ne!(first[0], other.next(&mut ChaCha8Rng::seed_from_u64(2)));
    }
}
