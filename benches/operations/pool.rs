//! Costs of a pool per query, and of a sweep.
//!
//! One connection of 128 is taken exclusively by a batch of one, as under light load, or by batches
//! of 64, as under heavy load. The pool has an age limit, and time passes, so each take checks both
//! limits of a lifetime. A sweep closes the one connection that expires among any number of idle
//! ones; dialling its replacement is part of the figure.

use harness::{Bench, Operations, repeat, whole};
use onward::engine::ConnectionId;
use onward::engine::pool::{PoolSettings, Pools, TrustSettings};
use onward::moment::Moment;
use std::hint::black_box;
use std::time::Duration;

/// Connections of the pool: the largest default spread.
const POOLED: usize = 128;
/// Queries of one batch.
const BATCH: usize = 64;
/// Time between two batches: 100,000 a second.
const STEP: Duration = Duration::from_micros(10);

pub(crate) const BENCHES: [Bench; 5] = [
    Bench { name: "pool_take_release", set_up: take_release },
    Bench { name: "pool_take_release_batch_64", set_up: take_release_batch },
    Bench { name: "pool_share_at_the_limit", set_up: share },
    Bench { name: "pool_sweep_one_of_100", set_up: || sweep(100) },
    Bench { name: "pool_sweep_one_of_100000", set_up: || sweep(100_000) },
];

/// One connection is taken exclusively and released.
fn take_release() -> Operations {
    let (mut pools, mut now) = filled();
    repeat(move || {
        now = now.plus(STEP);
        let connection = take(&mut pools, now);
        pools.end_batches();
        pools.release(black_box(connection), now, false);
    })
}

/// Cost per query of a batch that takes a connection exclusively.
fn take_release_batch() -> Operations {
    let (mut pools, mut now) = filled();
    let mut taken = Vec::with_capacity(BATCH);
    let mut owed = 0;
    whole(move |count| {
        owed += count as usize;
        while owed >= BATCH {
            owed -= BATCH;
            now = now.plus(STEP);
            taken.extend((0..BATCH).map(|_| take(&mut pools, now)));
            pools.end_batches();
            taken.drain(..).for_each(|connection| pools.release(connection, now, false));
        }
    })
}

/// All connections are in use and no more may be dialled: each batch of one gets the least loaded.
fn share() -> Operations {
    let (mut pools, mut now) = filled();
    for _ in 0..POOLED {
        take(&mut pools, now);
        pools.end_batches();
    }
    repeat(move || {
        now = now.plus(STEP);
        let connection = take(&mut pools, now);
        pools.end_batches();
        pools.release(black_box(connection), now, false);
    })
}

/// One of `pooled` idle connections expires, a sweep closes it, and a new one is dialled and
/// released.
fn sweep(pooled: usize) -> Operations {
    let expire = STEP * pooled as u32;
    let mut pools = Pools::new([PoolSettings {
        expire,
        max_age: Some(expire * 1_000),
        jitter: 10,
        max_idle: None,
        spread: pooled + 1,
        max_conns: pooled + 1,
        max_inflight: 1,
        tcp: false,
        owned: false,
        trust: TrustSettings::default(),
    }]);
    let mut now = Moment::ZERO;
    let mut dial = move |pools: &mut Pools| {
        now = now.plus(STEP);
        let connection = take(pools, now);
        pools.end_batches();
        pools.release(connection, now, false);
        now
    };
    (0..pooled).for_each(|_| _ = dial(&mut pools));
    let mut random = 0_u32;
    repeat(move || {
        let now = dial(&mut pools);
        random = random.wrapping_add(0x9e37_79b9);
        pools.sweep(0, now, random);
        black_box(pools.next_closed()).expect("one has expired");
        assert!(pools.next_closed().is_none(), "the others have not");
        black_box(pools.next_request());
    })
}

fn take(pools: &mut Pools, now: Moment) -> ConnectionId {
    pools.take(0, now, || 0, |_, _| false).expect("there is room")
}

/// A pool at its limit of [`POOLED`] idle connections, and the time.
fn filled() -> (Pools, Moment) {
    let mut pools = Pools::new([PoolSettings {
        expire: Duration::from_secs(1_000),
        max_age: Some(Duration::from_secs(1_000_000)),
        jitter: 10,
        max_idle: None,
        spread: POOLED,
        max_conns: POOLED,
        max_inflight: BATCH,
        tcp: false,
        owned: false,
        trust: TrustSettings::default(),
    }]);
    let now = Moment::ZERO;
    let mut dial = |_| {
        pools.end_batches();
        take(&mut pools, now)
    };
    let taken: Vec<_> = (0..POOLED).map(&mut dial).collect();
    pools.end_batches();
    taken.into_iter().for_each(|connection| pools.release(connection, now, false));
    // As after every turn: one request to the keeper, not one per release.
    black_box(pools.next_request());
    (pools, now)
}
