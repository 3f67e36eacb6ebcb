//! Memory of thousands of server blocks.
//!
//! Empty caches are small, and the number of allocations and frees that a reload makes in a
//! worker's turn does not depend on the number of blocks.

use crate::{ALLOCATIONS, FREED, LIVE};
use ahash::RandomState;
use onward::config::{self, Config, Host};
use onward::engine::Forwarder;
use onward::engine::cache::{Cache, SharedCaches};
use onward::engine::forwarder::Parts;
use onward::engine::health::HealthStates;
use onward::moment::Moment;
use std::fmt::Write as _;
use std::sync::Arc;

#[test]
fn an_empty_cache_takes_four_kilobytes_at_most() {
    const CACHES: usize = 100;
    let hasher = RandomState::with_seeds(1, 2, 3, 4);
    let settings = config::Cache::default();
    let before = LIVE.get().0;
    let caches: Vec<_> = (0..CACHES).map(|_| Cache::new(&settings, &hasher)).collect();
    let each = (LIVE.get().0 - before).unsigned_abs() / CACHES;
    assert!(each <= 4_096, "{each} bytes each");
    let sizes = caches.iter().map(|cache| (cache.reserved(), cache.mapped()));
    for (reserved, mapped) in sizes {
        assert!(reserved - mapped < each, "no more than was allocated");
        assert!(each + mapped <= 8_192, "{mapped} bytes of its own pages");
    }
}

/// `count` blocks with every table that a block reserves; upstreams are numbered from `first` on.
fn blocks(count: usize, first: usize) -> Config {
    let mut text = String::new();
    for number in 0..count {
        let upstream = first + number;
        let _ = writeln!(
            text,
            "z{number}.example {{\n bind 127.0.0.1\n cache 30\n errors\n log z{number}.example \
             {{common}}\n prometheus\n acl {{\n block net 10.0.0.0/8\n}}\n forward . \
             127.1.{}.{} {{\n except a.z{number}.example\n}}\n}}",
            upstream / 250,
            upstream % 250 + 1
        );
    }
    let host = Host { open_files: 1_000_000, ..Host::plain() };
    Config::load(text.as_bytes(), "f", &host).unwrap().0
}

/// Allocations and frees in a worker that reloads as many blocks, half of them with another
/// upstream.
fn work_of_a_reload(count: usize) -> (u64, u64) {
    let (before, after) = (blocks(count, 0), blocks(count, count / 2));
    let health_states = |config: &Config| Arc::new(HealthStates::new(config));
    let mut engine = Forwarder::new(&before, [1; 32], health_states(&before));
    let caches = SharedCaches::new(&after, RandomState::with_seeds(1, 2, 3, 4)).unwrap();
    let mut parts = Parts::new(&after, &[Some(0)], health_states(&after), &caches);
    drop(caches);
    let (allocations, freed) = (ALLOCATIONS.get(), FREED.get());
    engine.adopt(Moment::ZERO, &mut parts);
    let work = (ALLOCATIONS.get() - allocations, FREED.get() - freed);
    // The parts of the old configuration are all present.
    let live = LIVE.get().0;
    drop(parts);
    assert!(live - LIVE.get().0 > 1_000 * count as isize, "what is old is handed back");
    work
}

#[test]
fn a_reload_allocates_and_frees_the_same_in_a_turn_however_many_blocks_there_are() {
    let (few, many) = (work_of_a_reload(20), work_of_a_reload(1_000));
    assert_eq!(few, many, "allocations and frees of 20 blocks and of 1,000");
    assert!(many.0 < 40 && many.1 < 40, "{many:?}");
}
