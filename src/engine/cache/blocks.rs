//! Storage of packed answers: chains of blocks of one size.
//!
//! Answers have 40 to many thousands of bytes, and the usual sizes change with the traffic. Blocks
//! of one size fit any mixture: there is no fragmentation, no share reserved for a size, and no
//! entry is ever moved, as a ring would require for entries that stay. The price is half a block
//! per answer and a copy in pieces. 128 bytes are two cache lines and hold most answers for an
//! address whole.
//!
//! The blocks of a class are words that all workers share ([`Blocks`]). A shard takes them in
//! bunches from the front, so that the memory in use has no holes, and reuses its own freed ones
//! first ([`Chains`], which the shard's lock protects). Readers follow a chain without a lock:
//! numbers of blocks are compared with the bounds before use, and what was read counts only if the
//! sequence number of the entry has not changed.

use super::sequence::{read, write};
use crate::engine::list::NONE;
use crate::engine::memory::{prefetch, reserved};
use std::ops::Range;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize, fence};

/// The size of a block.
pub(crate) const BLOCK_LEN: usize = 128;
/// The size of a block in words.
const BLOCK_WORDS: usize = BLOCK_LEN / 8;
/// Number of bytes that a reader copies at a time.
pub(super) const COPY_LEN: usize = 32;
/// Number of blocks that a shard takes at a time. Even, because two blocks share a word of links.
pub(super) const BUNCH: usize = 64;

/// A counter that writers change.
#[derive(Default)]
pub(super) struct Counter(AtomicUsize);

/// The counters of a class, in lines of their own.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Counters {
    /// Answers.
    pub(super) len: Counter,
    /// Blocks in use.
    pub(super) used: Counter,
    /// Blocks that shards have taken.
    begun: Counter,
}

impl Counter {
    /// Returns the present value.
    pub(super) fn get(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// Adds `count`, unless the sum exceeds `max`. Returns true if it was added.
    pub(super) fn add_within(&self, count: usize, max: usize) -> bool {
        let fits = self.0.fetch_add(count, Relaxed).saturating_add(count) <= max;
        if !fits {
            self.subtract(count);
        }
        fits
    }

    pub(super) fn subtract(&self, count: usize) {
        self.0.fetch_sub(count, Relaxed);
    }
}

/// The blocks of a class.
pub(super) struct Blocks {
    /// Place of the first block among the words, and of the links.
    first: usize,
    links: usize,
    /// Number of blocks.
    len: usize,
    /// Maximum number of blocks in use, which is less: freed blocks stay with their shard.
    pub(super) max: usize,
    pub(super) counters: Box<Counters>,
}

impl Blocks {
    /// Storage for up to `max` blocks of `shards` shards, whose words are laid out from `place` on.
    /// Returns it and the place behind.
    pub(super) fn new(max: usize, shards: usize, place: usize) -> (Self, usize) {
        let spare = if shards > 1 { max / 16 + shards * BUNCH } else { 0 };
        // A number of a block has 32 bits, and one of them is no block.
        let len = (max + spare).min(NONE as usize - 1);
        let first = place.next_multiple_of(BLOCK_WORDS);
        let links = first + len * BLOCK_WORDS;
        let blocks = Self { first, links, len, max: max.min(len), counters: Box::default() };
        (blocks, links + len.div_ceil(2))
    }

    /// Returns the words of the blocks.
    pub(super) fn words(&self) -> Range<usize> {
        self.first..self.links
    }

    /// Returns the number of blocks that these bytes take; at least one.
    pub(super) fn needed(len: usize) -> usize {
        len.div_ceil(BLOCK_LEN).max(1)
    }

    /// Returns the bytes of the blocks that were ever in use, with their links.
    pub(super) fn reserved(&self) -> usize {
        self.counters.begun.get().min(self.len) * (BLOCK_LEN + size_of::<u32>())
    }

    /// Returns the maximum of [`Blocks::reserved`].
    pub(super) fn reserved_max(&self) -> usize {
        self.len * (BLOCK_LEN + size_of::<u32>())
    }

    /// Prefetches the first block of a chain.
    pub(super) fn prefetch(&self, words: &[AtomicU64], first: u32) {
        if let Some(block) = self.block(words, first) {
            prefetch(block);
        }
    }

    /// Copies the first `len` bytes of a chain to the beginning of `out`, and what stands behind
    /// them up to a multiple of [`COPY_LEN`]. Returns false if there is no such chain, because the
    /// copy is torn.
    #[inline]
    pub(super) fn copy(&self, words: &[AtomicU64], first: u32, len: usize, out: &mut [u8]) -> bool {
        let Some(out) = out.get_mut(..len.next_multiple_of(COPY_LEN)) else { return false };
        let mut number = first;
        for piece in out.chunks_mut(BLOCK_LEN) {
            let Some(block) = self.block(words, number) else { return false };
            let stretches = block.as_chunks::<{ COPY_LEN / 8 }>().0;
            for (to, from) in piece.as_chunks_mut::<COPY_LEN>().0.iter_mut().zip(stretches) {
                let words: [u64; COPY_LEN / 8] = std::array::from_fn(|place| read(&from[place]));
                let bytes = words.map(u64::to_ne_bytes);
                to.copy_from_slice(bytes.as_flattened());
            }
            if piece.len() == BLOCK_LEN {
                number = self.link(words, number);
            }
        }
        true
    }

    #[inline]
    fn block<'a>(&self, words: &'a [AtomicU64], number: u32) -> Option<&'a [AtomicU64]> {
        let number = number as usize;
        let place = self.first + number * BLOCK_WORDS;
        if number < self.len { words.get(place..place + BLOCK_WORDS) } else { None }
    }

    /// Returns the block behind the block `number`, which exists.
    #[inline]
    fn link(&self, words: &[AtomicU64], number: u32) -> u32 {
        (read(&words[self.links + number as usize / 2]) >> (number % 2 * 32)) as u32
    }

    fn set_link(&self, words: &[AtomicU64], number: u32, behind: u32) {
        let word = &words[self.links + number as usize / 2];
        let shift = number % 2 * 32;
        let others = read(word) & !(u64::from(u32::MAX) << shift);
        write(word, others | u64::from(behind) << shift);
    }
}

/// The blocks of a shard.
pub(super) struct Chains {
    /// First block of the list of freed ones, and their number.
    free: u32,
    free_len: usize,
    /// Blocks that were never in use.
    spare: Range<u32>,
    /// All blocks that the shard has taken.
    bunches: Vec<Range<u32>>,
}

impl Chains {
    /// No blocks.
    pub(super) const NONE: Self =
        Self { free: NONE, free_len: 0, spare: 0..0, bunches: Vec::new() };

    /// Returns the reserved memory in bytes, without that of the blocks.
    pub(super) fn reserved(&self) -> usize {
        reserved(&self.bunches)
    }

    /// Frees all blocks, whatever chains they belong to.
    #[cold]
    pub(super) fn clear(&mut self, blocks: &Blocks, words: &[AtomicU64]) {
        (self.free, self.free_len, self.spare) = (NONE, 0, 0..0);
        for number in 0..self.bunches.len() {
            for block in self.bunches[number].clone() {
                self.give(blocks, words, block);
            }
        }
    }

    /// Returns true if this number of blocks is available; takes more of `blocks` if need be.
    pub(super) fn have(&mut self, blocks: &Blocks, words: &[AtomicU64], needed: usize) -> bool {
        while self.free_len + self.spare.len() < needed {
            let start = blocks.counters.begun.get();
            let count = BUNCH.min(blocks.len.saturating_sub(start));
            if count == 0 {
                return false;
            }
            let taken =
                blocks.counters.begun.0.compare_exchange(start, start + count, Relaxed, Relaxed);
            if taken.is_ok() {
                while let Some(block) = self.spare.next() {
                    self.give(blocks, words, block);
                }
                self.spare = start as u32..(start + count) as u32;
                match self.bunches.last_mut() {
                    Some(last) if last.end == self.spare.start => last.end = self.spare.end,
                    _ => self.bunches.push(self.spare.clone()),
                }
            }
        }
        true
    }

    /// Stores `bytes` in a new chain and returns its first block.
    ///
    /// # Panics
    /// If there is no room: the caller makes room first.
    pub(super) fn store(&mut self, blocks: &Blocks, words: &[AtomicU64], bytes: &[u8]) -> u32 {
        // A reader that finds these bytes in a block that was another answer's must also find that
        // the entry of that answer has changed, which another thread may have done.
        fence(Release);
        let mut chunks = bytes.chunks(BLOCK_LEN);
        let first = self.take(blocks, words, chunks.next().unwrap_or_default());
        let mut last = first;
        for chunk in chunks {
            let block = self.take(blocks, words, chunk);
            blocks.set_link(words, last, block);
            last = block;
        }
        first
    }

    /// Frees the chain of `count` blocks from `first` on.
    pub(super) fn release(
        &mut self,
        blocks: &Blocks,
        words: &[AtomicU64],
        first: u32,
        count: usize,
    ) {
        let mut block = first;
        for left in (0..count).rev() {
            let behind = if left > 0 { blocks.link(words, block) } else { NONE };
            self.give(blocks, words, block);
            block = behind;
        }
    }

    fn give(&mut self, blocks: &Blocks, words: &[AtomicU64], block: u32) {
        blocks.set_link(words, block, std::mem::replace(&mut self.free, block));
        self.free_len += 1;
    }

    fn take(&mut self, blocks: &Blocks, words: &[AtomicU64], content: &[u8]) -> u32 {
        let number = match self.free {
            NONE => self.spare.next().expect("the caller makes room first"),
            block => {
                self.free = blocks.link(words, block);
                self.free_len -= 1;
                block
            }
        };
        let block = blocks.block(words, number).expect("it is one of them");
        let (whole, rest) = content.as_chunks::<8>();
        for (word, chunk) in block.iter().zip(whole) {
            write(word, u64::from_ne_bytes(*chunk));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            write(&block[whole.len()], u64::from_ne_bytes(last));
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_LEN, BUNCH, Blocks, COPY_LEN, Chains};
    use crate::sys::words::Words;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    /// Blocks, and the chains of each of `shards` shards.
    struct Bed {
        blocks: Blocks,
        words: Words,
        shards: Vec<Chains>,
    }

    impl Bed {
        fn new(max: usize, shards: usize) -> Self {
            let (blocks, end) = Blocks::new(max, shards, 3);
            let shards = (0..shards).map(|_| Chains::NONE).collect();
            Self { blocks, words: Words::new(end).unwrap(), shards }
        }

        fn store(&mut self, shard: usize, bytes: &[u8]) -> Option<u32> {
            let Self { blocks, words, shards } = self;
            let has_room = shards[shard].have(blocks, words, Blocks::needed(bytes.len()));
            has_room.then(|| shards[shard].store(blocks, words, bytes))
        }

        fn read(&self, first: u32, len: usize) -> Vec<u8> {
            let mut out = vec![0; len.next_multiple_of(COPY_LEN)];
            assert!(self.blocks.copy(&self.words, first, len, &mut out));
            out.truncate(len);
            out
        }
    }

    #[test]
    fn a_chain_is_read_as_it_was_stored() {
        let bytes: Vec<u8> = (0..=255).cycle().take(3 * BLOCK_LEN + 7).collect();
        let mut bed = Bed::new(4, 1);
        let first = bed.store(0, &bytes).unwrap();
        for len in [0, 1, 7, 8, 127, 128, 129, 256, bytes.len()] {
            assert_eq!(bed.read(first, len), &bytes[..len]);
        }
        assert_eq!(bed.store(0, &[]), None, "an empty chain has a block");
        assert_eq!((Blocks::needed(0), Blocks::needed(bytes.len())), (1, 4));
    }

    #[test]
    fn torn_numbers_and_lengths_are_no_chain() {
        let mut bed = Bed::new(4, 1);
        let first = bed.store(0, &[7; 2 * BLOCK_LEN]).unwrap();
        let mut out = [0; 1_024];
        let copy = |first, len, out: &mut [u8]| bed.blocks.copy(&bed.words, first, len, out);
        assert!(copy(first, 2 * BLOCK_LEN, &mut out));
        assert!(!copy(4, 1, &mut out), "there are four blocks");
        assert!(!copy(u32::MAX, 1, &mut out));
        assert!(!copy(first, 1_025, &mut out), "that is longer than the buffer");
    }

    #[test]
    #[should_panic(expected = "makes room")]
    fn no_more_blocks_than_reserved() {
        let Bed { blocks, words, mut shards } = Bed::new(1, 1);
        shards[0].have(&blocks, &words, 1);
        shards[0].store(&blocks, &words, &[0; BLOCK_LEN + 1]);
    }

    proptest! {
        #[test]
        fn chains_do_not_overlap(
            steps in proptest::collection::vec(any::<(bool, u16, u8)>(), 0..200),
            shards in 1_usize..4,
        ) {
            let max = 32 + BUNCH * (shards - 1);
            let mut bed = Bed::new(max, shards);
            let mut chains: Vec<(usize, u32, Vec<u8>)> = Vec::new();
            for (store, len, fill) in steps {
                let shard = usize::from(fill) % shards;
                let len = usize::from(len) % 700;
                if store {
                    let bytes = vec![fill; len];
                    if let Some(first) = bed.store(shard, &bytes) {
                        chains.push((shard, first, bytes));
                    }
                } else if !chains.is_empty() {
                    let (shard, first, bytes) = chains.swap_remove(len % chains.len());
                    let count = Blocks::needed(bytes.len());
                    bed.shards[shard].release(&bed.blocks, &bed.words, first, count);
                }
                let used = |(_, _, bytes): &(usize, u32, Vec<u8>)| Blocks::needed(bytes.len());
                let used: usize = chains.iter().map(used).sum();
                let free: usize =
                    bed.shards.iter().map(|own| own.free_len + own.spare.len()).sum();
                prop_assert_eq!(used + free, bed.blocks.counters.begun.get());
                prop_assert!(bed.blocks.counters.begun.get() <= bed.blocks.len);
                for (_, first, bytes) in &chains {
                    prop_assert_eq!(&bed.read(*first, bytes.len()), bytes);
                }
            }
        }
    }
}
