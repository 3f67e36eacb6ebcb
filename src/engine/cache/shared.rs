//! The caches of all server blocks of a process, for its workers to share.
//!
//! Built by the thread that builds configurations, before the first worker gets its part. A block
//! whose configuration is unchanged keeps its entries after a reload; a worker that has panicked
//! finds them again. All workers hash keys alike, which is why the hasher belongs here.

use super::store::Store;
use crate::config::{Config, ServerBlock};
use ahash::RandomState;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The entries of all server blocks, and the hasher of their keys.
#[derive(Clone)]
pub struct SharedCaches {
    hasher: RandomState,
    blocks: Arc<[Option<BlockEntries>]>,
}

/// Entries, and the server block for which they were stored.
#[derive(Clone)]
struct BlockEntries {
    block: BlockPrint,
    store: Arc<Store>,
}

/// Fingerprint of a server block, without the addresses of upstreams given by name, which may
/// change. 128 bits make collisions between an operator's blocks practically impossible.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct BlockPrint(u64, u64);

impl BlockPrint {
    fn of(block: &ServerBlock) -> Self {
        let block = nameless(block);
        let half = |number: u8| {
            let mut hasher = DefaultHasher::new();
            (number, &block).hash(&mut hasher);
            hasher.finish()
        };
        Self(half(0), half(1))
    }
}

impl fmt::Debug for SharedCaches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedCaches").field("blocks", &self.blocks.len()).finish_non_exhaustive()
    }
}

impl SharedCaches {
    /// Empty caches for `config`. `hasher`: keyed with unpredictable numbers.
    ///
    /// # Errors
    /// The kernel does not promise the memory of full caches.
    pub fn new(config: &Config, hasher: RandomState) -> io::Result<Self> {
        Self { hasher, blocks: Arc::new([]) }.renewed(config)
    }

    /// The same, with a hasher keyed by `seed`.
    ///
    /// # Errors
    /// As [`SharedCaches::new`].
    pub(crate) fn seeded(config: &Config, seed: [u8; 32]) -> io::Result<Self> {
        let (keys, _) = seed.as_chunks::<8>();
        let key = |place: usize| u64::from_le_bytes(keys[place]);
        Self::new(config, RandomState::with_seeds(key(0), key(1), key(2), key(3)))
    }

    /// Caches for `config`: of each unchanged server block those of `self`, otherwise empty ones.
    ///
    /// # Errors
    /// As [`SharedCaches::new`].
    pub(crate) fn renewed(&self, config: &Config) -> io::Result<Self> {
        let mut before = HashMap::<_, VecDeque<_>>::new();
        for BlockEntries { block, store } in self.blocks.iter().flatten() {
            before.entry(*block).or_default().push_back(store);
        }
        let blocks = config.blocks.iter().map(|block| {
            let Some(settings) = &block.stages.cache else { return Ok(None) };
            let block = BlockPrint::of(block);
            let store = match before.get_mut(&block).and_then(VecDeque::pop_front) {
                Some(store) => Arc::clone(store),
                None => Arc::new(Store::new(settings)?),
            };
            Ok(Some(BlockEntries { block, store }))
        });
        Ok(Self { hasher: self.hasher.clone(), blocks: blocks.collect::<io::Result<_>>()? })
    }

    /// Returns the hasher of the keys.
    pub(crate) fn hasher(&self) -> &RandomState {
        &self.hasher
    }

    /// Returns the entries of a server block, if it has a cache.
    pub(crate) fn store(&self, block: usize) -> Option<&Arc<Store>> {
        Some(&self.blocks.get(block)?.as_ref()?.store)
    }

    /// Returns the reserved memory in bytes.
    pub(crate) fn reserved(&self) -> usize {
        self.blocks.iter().flatten().map(|block| block.store.reserved()).sum()
    }

    /// Returns the memory in bytes when all are full.
    pub(crate) fn reserved_max(&self) -> usize {
        self.blocks.iter().flatten().map(|block| block.store.reserved_max()).sum()
    }
}

/// Returns the parts of a server block that determine the contents of its cache: all but the
/// addresses of upstreams given by name, the zones that are signed into files, and the limits of
/// clients, which an operator changes during a flood.
fn nameless(block: &ServerBlock) -> ServerBlock {
    let mut block = block.clone();
    block.stages.sign.clear();
    block.stages.ratelimit = None;
    block.stages.rrl = None;
    for forward in &mut block.forwards {
        if forward.host_names.is_empty() {
            continue;
        }
        forward.upstreams.clear();
        for name in &mut forward.host_names {
            name.addresses.clear();
            name.ttl = Duration::ZERO;
        }
    }
    block
}
