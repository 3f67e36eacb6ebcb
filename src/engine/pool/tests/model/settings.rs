//! Settings of the model's pools.
//!
//! Small pools and large ones, with and without each limit, so that every limit is met often.

use crate::engine::pool::{PoolSettings, TrustSettings};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use std::time::Duration;

/// Number of connections that a pool holds before it rotates.
pub(super) fn held(settings: &PoolSettings) -> usize {
    let PoolSettings { spread, max_conns, max_idle, .. } = *settings;
    spread.min(max_conns).min(max_idle.unwrap_or(usize::MAX))
}

pub(super) fn random_settings(random: &mut ChaCha8Rng) -> PoolSettings {
    let mut below = |bound: u32| random.next_u32() % bound;
    let max_conns = if below(4) == 0 { 65 + below(30) } else { 1 + below(20) } as usize;
    let expire = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(10)];
    let expire = expire[below(8).clamp(0, 2) as usize];
    PoolSettings {
        expire,
        max_age: (below(3) > 0).then(|| expire * (1 + below(4)) + Duration::from_millis(1)),
        jitter: [10, 0][below(2) as usize],
        max_idle: (below(3) == 0).then(|| 1 + below(10) as usize),
        spread: 1 + below(10) as usize,
        max_conns,
        max_inflight: [1, 2, 7, 64][below(4) as usize],
        tcp: false,
        owned: false,
        trust: TrustSettings {
            distrust: (below(3) > 0).then(|| Duration::from_millis(u64::from(below(2_000)))),
            rebalance: below(3) == 0,
        },
    }
}
