//! The caches of all server blocks of a process, for its workers to share.
//!
//! Built by the thread that builds configurations, before the first worker gets its part. A block
//! whose configuration is unchanged keeps its entries after a reload; a worker that has panicked
//! finds them again. All workers hash keys alike, which is why the hasher belongs here.

use super::Cache;
use super::carry::{Copier, Fingerprint};
use super::store::Store;
use crate::config::{self, Config, Forward, ServerBlock, Sizing};
use ahash::RandomState;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::Ipv4Addr;
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
    settings: config::Cache,
    /// Fingerprint for other processes.
    fingerprint: Fingerprint,
    store: Arc<Store>,
}

/// Fingerprint of a server block, without the addresses of upstreams given by name, which may
/// change. 128 bits make collisions between an operator's blocks practically impossible.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct BlockPrint(u64, u64);

impl BlockPrint {
    /// `block`: as [`nameless`] returns it.
    fn of(block: &ServerBlock) -> Self {
        let half = |number: u8| {
            let mut hasher = DefaultHasher::new();
            (number, block).hash(&mut hasher);
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
        for BlockEntries { block, store, .. } in self.blocks.iter().flatten() {
            before.entry(*block).or_default().push_back(store);
        }
        let blocks = config.blocks.iter().map(|block| {
            let Some(settings) = &block.stages.cache else { return Ok(None) };
            let block = nameless(block);
            let fingerprint = fingerprint_of(&block);
            let block = BlockPrint::of(&block);
            let store = match before.get_mut(&block).and_then(VecDeque::pop_front) {
                Some(store) => Arc::clone(store),
                None => Arc::new(Store::new(settings)?),
            };
            Ok(Some(BlockEntries { block, settings: settings.clone(), fingerprint, store }))
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

    /// Returns a copier of each cache, with the fingerprint by which another process knows it.
    pub(crate) fn copiers(&self) -> impl Iterator<Item = (Fingerprint, Copier)> {
        self.blocks
            .iter()
            .flatten()
            .map(|own| (own.fingerprint, Copier::new(Arc::clone(&own.store))))
    }

    /// Returns access to the caches with this fingerprint, in the order of server blocks.
    pub(crate) fn of_fingerprint(&self, fingerprint: Fingerprint) -> impl Iterator<Item = Cache> {
        let own = self.blocks.iter().flatten().filter(move |own| own.fingerprint == fingerprint);
        own.map(|own| Cache::sharing(&own.settings, &self.hasher, Arc::clone(&own.store)))
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

/// Returns the fingerprint of a server block for other processes: of its effective configuration
/// as a text, which other versions of the program write alike. Where clients find the block does
/// not matter to the answers. `block`: as [`nameless`] returns it.
fn fingerprint_of(block: &ServerBlock) -> Fingerprint {
    let mut block = block.clone();
    block.bind = None;
    for key in &mut block.keys {
        (key.port, key.protocol) = (0, config::Protocol::Dns);
    }
    let mut text = block.text();
    for (stanza, forward) in block.forwards.iter().enumerate() {
        for name in &forward.host_names {
            text.push_str(&format!("{stanza} {}\n", name.name));
        }
    }
    Fingerprint::of(&text)
}

/// Returns the parts of a server block that determine the contents of its cache: all but the
/// addresses of upstreams given by name, the zones that are signed into files, the limits of
/// clients, which an operator changes during a flood, and numbers of connections and attempts,
/// which depend on the upstreams of all blocks.
fn nameless(block: &ServerBlock) -> ServerBlock {
    let mut block = block.clone();
    block.stages.sign.clear();
    block.stages.ratelimit = None;
    block.stages.rrl = None;
    for forward in &mut block.forwards {
        forward.sizing =
            Sizing { spread: 1, stream_spread: 1, max_conns: 1, max_inflight: 1, tcp_inflight: 1 };
        forward.max_connect_attempts = None;
        forward.max_idle_conns = None;
        forward.max_concurrent = None;
        let Forward { upstreams, host_names, .. } = forward;
        for upstream in &mut *upstreams {
            let ip = upstream.address.ip();
            if host_names.iter().any(|name| name.addresses.contains(&ip)) {
                upstream.address.set_ip(Ipv4Addr::UNSPECIFIED.into());
            }
        }
        if !host_names.is_empty() {
            upstreams.dedup();
        }
        for name in host_names {
            name.addresses.clear();
            name.ttl = Duration::ZERO;
        }
    }
    block
}

#[cfg(test)]
mod tests {
    use super::{fingerprint_of, nameless};
    use crate::config::{Config, Host};

    #[test]
    fn a_fingerprint_has_what_answers_depend_on_and_nothing_else() {
        let print = |body: &str, others: &str| {
            let text = format!(".:5300 {{\n cache\n {body}\n}}\n{others}");
            let (config, _) = Config::load(text.as_bytes(), "f", &Host::plain()).unwrap();
            fingerprint_of(&nameless(&config.blocks[0]))
        };
        let own = "forward . 192.0.2.1";
        let same = print(own, "");
        for (body, others) in [
            (own, "test:5301 {\n forward . 192.0.2.7 192.0.2.8 192.0.2.9\n}\n"),
            ("forward . 192.0.2.1 {\n max_concurrent 7\n max_connect_attempts 9\n }", ""),
            ("forward . 192.0.2.1\n ratelimit {\n qps 7\n }", ""),
        ] {
            assert_eq!(print(body, others), same, "{body} {others}");
        }
        for body in [
            "forward . 192.0.2.2",
            "forward . 192.0.2.1:5301",
            "forward . tls://192.0.2.1",
            "forward . 192.0.2.1 {\n next NXDOMAIN\n }",
            "forward test 192.0.2.1",
            "any\n forward . 192.0.2.1",
        ] {
            assert_ne!(print(body, ""), same, "{body}");
        }
    }
}
