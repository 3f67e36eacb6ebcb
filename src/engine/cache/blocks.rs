//! Storage of packed answers: chains of blocks of one size.
//!
//! Answers have 40 to many thousands of bytes, and the usual sizes change with the traffic. Blocks
//! of one size fit any mixture: there is no fragmentation, no share reserved for a size, and no
//! entry is ever moved, as a ring would require for entries that stay. The price is half a block
//! per answer and a copy in pieces. 128 bytes are two cache lines and hold most answers for an
//! address whole.
//!
//! There is no memory until the first answer; then it grows as [`grow`] says, up to its bound.
//! Freed blocks are reused first.

use crate::engine::list::NONE;
use crate::engine::memory::{grow, prefetch, reserved};

/// The size of a block.
pub(crate) const BLOCK_LEN: usize = 128;

/// Aligned to two cache lines.
#[derive(Clone, Copy)]
#[repr(align(128))]
struct Block([u8; BLOCK_LEN]);

pub(crate) struct Blocks {
    bytes: Vec<Block>,
    /// For each block: the next one in its chain or on the free list.
    next: Vec<u32>,
    free: u32,
    used: usize,
    max: usize,
}

impl Blocks {
    /// Storage for up to `max` blocks.
    pub(crate) fn new(max: usize) -> Self {
        Self { bytes: Vec::new(), next: Vec::new(), free: NONE, used: 0, max }
    }

    /// Returns the number of blocks that these bytes take; at least one.
    pub(crate) fn needed(len: usize) -> usize {
        len.div_ceil(BLOCK_LEN).max(1)
    }

    /// Returns the reserved memory in bytes.
    pub(crate) fn reserved(&self) -> usize {
        reserved(&self.bytes) + reserved(&self.next)
    }

    /// Returns the maximum of reserved memory in bytes.
    pub(crate) fn reserved_max(&self) -> usize {
        self.max * (size_of::<Block>() + size_of::<u32>())
    }

    /// Number of blocks in use.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Stores `bytes` in a new chain and returns its first block.
    ///
    /// # Panics
    /// If there is no room: the caller makes room first.
    pub(crate) fn store(&mut self, bytes: &[u8]) -> u32 {
        let mut chunks = bytes.chunks(BLOCK_LEN);
        let first = self.take(chunks.next().unwrap_or_default());
        let mut last = first;
        for chunk in chunks {
            let block = self.take(chunk);
            self.next[last as usize] = block;
            last = block;
        }
        first
    }

    /// Frees a chain.
    pub(crate) fn release(&mut self, first: u32) {
        let mut last = first;
        self.used -= 1;
        while self.next[last as usize] != NONE {
            last = self.next[last as usize];
            self.used -= 1;
        }
        self.next[last as usize] = std::mem::replace(&mut self.free, first);
    }

    /// Prefetches the first block of a chain.
    pub(crate) fn prefetch(&self, first: u32) {
        if let Some(block) = self.bytes.get(first as usize) {
            prefetch(block);
        }
    }

    /// Returns the first `len` bytes of a chain; copied into `scratch` if they span several blocks.
    pub(crate) fn read<'a>(&'a self, first: u32, len: usize, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        if len <= BLOCK_LEN {
            return &self.bytes[first as usize].0[..len];
        }
        scratch.clear();
        self.pieces(first, len).for_each(|piece| scratch.extend_from_slice(piece));
        scratch
    }

    /// Returns true if a chain begins with `expected`.
    pub(crate) fn begins_with(&self, first: u32, expected: &[u8]) -> bool {
        let mut rest = expected;
        self.pieces(first, expected.len()).all(|piece| {
            let (head, behind) = rest.split_at(piece.len());
            rest = behind;
            head == piece
        })
    }

    /// The first `len` bytes of a chain, block by block.
    fn pieces(&self, first: u32, len: usize) -> impl Iterator<Item = &[u8]> {
        let (mut block, mut left) = (first, len);
        std::iter::from_fn(move || {
            let piece = &self.bytes.get(block as usize)?.0[..left.min(BLOCK_LEN)];
            block = self.next[block as usize];
            left -= piece.len();
            (!piece.is_empty()).then_some(piece)
        })
    }

    fn take(&mut self, content: &[u8]) -> u32 {
        self.used += 1;
        let block = match self.free {
            NONE => {
                assert!(self.bytes.len() < self.max, "the caller makes room first");
                if self.bytes.len() == self.bytes.capacity() {
                    grow(&mut self.bytes, self.max);
                }
                if self.next.len() == self.next.capacity() {
                    grow(&mut self.next, self.max);
                }
                self.bytes.push(Block([0; BLOCK_LEN]));
                self.next.push(NONE);
                self.bytes.len() as u32 - 1
            }
            block => {
                self.free = std::mem::replace(&mut self.next[block as usize], NONE);
                block
            }
        };
        self.bytes[block as usize].0[..content.len()].copy_from_slice(content);
        block
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_LEN, Blocks};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    #[test]
    fn a_chain_is_read_as_it_was_stored() {
        let bytes: Vec<u8> = (0..=255).cycle().take(3 * BLOCK_LEN + 7).collect();
        let mut blocks = Blocks::new(4);
        let first = blocks.store(&bytes);
        assert_eq!(blocks.used(), Blocks::needed(bytes.len()));
        for len in [0, 1, 127, 128, 129, 256, bytes.len()] {
            assert_eq!(blocks.read(first, len, &mut Vec::new()), &bytes[..len]);
            assert!(blocks.begins_with(first, &bytes[..len]));
        }
        let mut wrong = bytes.clone();
        wrong[200] ^= 1;
        assert!(!blocks.begins_with(first, &wrong));
    }

    #[test]
    fn an_empty_chain_has_a_block() {
        let mut blocks = Blocks::new(1);
        let first = blocks.store(&[]);
        assert_eq!((blocks.used(), Blocks::needed(0)), (1, 1));
        blocks.release(first);
        assert_eq!(blocks.used(), 0);
    }

    #[test]
    #[should_panic(expected = "makes room")]
    fn no_more_blocks_than_reserved() {
        Blocks::new(1).store(&[0; BLOCK_LEN + 1]);
    }

    proptest! {
        #[test]
        fn chains_do_not_overlap(
            steps in proptest::collection::vec(any::<(bool, u16, u8)>(), 0..200),
        ) {
            let mut blocks = Blocks::new(32);
            let mut chains: Vec<(u32, Vec<u8>)> = Vec::new();
            for (store, len, fill) in steps {
                let len = usize::from(len) % 700;
                if store && blocks.used() + Blocks::needed(len) <= 32 {
                    let bytes = vec![fill; len];
                    chains.push((blocks.store(&bytes), bytes));
                } else if !chains.is_empty() {
                    let (first, _) = chains.swap_remove(len % chains.len());
                    blocks.release(first);
                }
                let used: usize = chains.iter().map(|(_, bytes)| Blocks::needed(bytes.len())).sum();
                prop_assert_eq!(blocks.used(), used);
                for (first, bytes) in &chains {
                    prop_assert!(blocks.begins_with(*first, bytes));
                }
            }
        }
    }
}
