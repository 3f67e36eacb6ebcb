//! Mutation of inputs.
//!
//! A few changes at a time, most of them structural: tokens are spliced between inputs, separators
//! and the target's own words are inserted or removed, runs are repeated; occasionally bytes are
//! corrupted. Independent of the targets, which define separators and words.

use rand_chacha::rand_core::Rng;

/// Maximum number of changes to one input.
const CHANGES_MAX: usize = 6;
/// Maximum length of an input, so that failing inputs stay readable.
const LEN_MAX: usize = 8 * 1024;

/// The structure of a target's inputs.
pub(super) struct Mutator {
    /// Tokens end before and after these bytes.
    pub(super) separators: &'static [u8],
    /// Words to insert.
    pub(super) words: &'static [&'static [u8]],
}

impl Mutator {
    /// A mutation of inputs from `corpus`.
    pub(super) fn mutated(&self, corpus: &[&[u8]], random: &mut impl Rng) -> Vec<u8> {
        let mut input = corpus[below(random, corpus.len())].to_vec();
        for _ in 0..=below(random, CHANGES_MAX) {
            let donor = corpus[below(random, corpus.len())];
            self.change(&mut input, donor, random);
            input.truncate(LEN_MAX);
        }
        input
    }

    fn change(&self, input: &mut Vec<u8>, donor: &[u8], random: &mut impl Rng) {
        let (start, end) = self.run(input, random);
        match below(random, 9) {
            // Replace some tokens with tokens of another input.
            0 => {
                let (from, to) = self.run(donor, random);
                input.splice(start..end, donor[from..to].iter().copied());
            }
            1 => {
                let (from, to) = self.run(donor, random);
                input.splice(start..start, donor[from..to].iter().copied());
            }
            2 => drop(input.drain(start..end)),
            3 => {
                let run = input[start..end].repeat(1 + below(random, 20));
                input.splice(end..end, run);
            }
            4 | 5 => {
                let word = self.words[below(random, self.words.len())];
                input.splice(start..start, word.iter().copied());
            }
            // Remove or replace a separator.
            6 => {
                if let Some(byte) = input.get_mut(end) {
                    *byte = self.separators[below(random, self.separators.len())];
                }
            }
            7 => {
                if let Some(byte) = input.get_mut(start) {
                    *byte ^= 1 << below(random, 8);
                }
            }
            _ => input.truncate(start),
        }
    }

    /// Returns the bounds of a few tokens of `input`.
    fn run(&self, input: &[u8], random: &mut impl Rng) -> (usize, usize) {
        let is_separator = |byte: &u8| self.separators.contains(byte);
        let start = below(random, input.len() + 1);
        let start = input[..start].iter().rposition(is_separator).map_or(0, |place| place + 1);
        let mut end = start;
        for _ in 0..=below(random, 4) {
            let token = input[end..].iter().skip(1).position(is_separator);
            end = token.map_or(input.len(), |place| end + place + 1);
        }
        (start, end)
    }
}

/// A random number below `bound`, which is not 0.
pub(super) fn below(random: &mut impl Rng, bound: usize) -> usize {
    (random.next_u64() % bound as u64) as usize
}
