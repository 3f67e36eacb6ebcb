//! Hit ratios of one cache that several workers share, beside those of the reference's.
//!
//! The cache itself, with answers, not its eviction policy alone. Queries are dealt to the workers
//! at random. The reference has 256 shards of 39 answers and evicts an arbitrary one.

use super::{Dice, ONCE, mix};
use crate::cache::Asking;
use ahash::RandomState;
use onward::config;
use onward::engine::cache::{Cache, Found, Key, Store};
use onward::moment::Moment;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Queries of a run; the first half fills the cache and does not count.
const QUERIES: usize = 1_000_000;
/// Number of shards of the reference, and of answers in each.
const SHARDS: usize = 256;
const SHARD_LEN: usize = 39;
/// Numbers of workers.
const WORKERS: [usize; 3] = [1, 8, 32];

/// Prints the table.
pub(crate) fn print() {
    println!("| names | Zipf | scanned | reference | 1 worker | 8 workers | 32 workers |");
    println!("|---:|---:|---:|---:|---:|---:|---:|");
    for names in [100_000, 1_000_000] {
        for exponent in [0.8, 0.9, 1.0] {
            for scanned in [0.0, 0.2] {
                let trace = trace(names, exponent, scanned);
                print!("| {names} | {exponent:.1} | {:.0} % |", 100.0 * scanned);
                print!(" {:.1} |", of_reference(&trace));
                for workers in WORKERS {
                    print!(" {:.1} |", of_workers(&trace, workers));
                }
                println!();
            }
        }
    }
}

/// The names of a run in their order; this part of them occurs once only.
fn trace(names: usize, exponent: f64, scanned: f64) -> Vec<u32> {
    let mut sum = 0.0;
    let weight = |rank: usize| {
        sum += (rank as f64).powf(-exponent);
        sum
    };
    let sums: Vec<f64> = (1..=names).map(weight).collect();
    let (mut dice, mut once) = (Dice(7), ONCE);
    let query = |_| {
        if dice.fraction() < scanned {
            once += 1;
            return once;
        }
        let place = dice.fraction() * sum;
        sums.partition_point(|sum| *sum < place) as u32
    };
    (0..QUERIES).map(query).collect()
}

/// The hit ratio in per cent, of names that occur repeatedly.
fn ratio(trace: &[u32], mut is_hit: impl FnMut(u32) -> bool) -> f64 {
    let (mut hits, mut asked) = (0, 0);
    for (place, &name) in trace.iter().enumerate() {
        let hit = is_hit(name);
        let counts = name < ONCE && place >= QUERIES / 2;
        asked += u64::from(counts);
        hits += u64::from(counts && hit);
    }
    100.0 * hits as f64 / asked as f64
}

fn of_reference(trace: &[u32]) -> f64 {
    let mut shards = vec![Vec::new(); SHARDS];
    let mut stored = HashSet::new();
    let mut dice = Dice(11);
    ratio(trace, |name| {
        if !stored.insert(name) {
            return true;
        }
        let shard: &mut Vec<u32> = &mut shards[(mix(name.into()) % SHARDS as u64) as usize];
        if shard.len() == SHARD_LEN {
            let victim = (dice.next() % SHARD_LEN as u64) as usize;
            stored.remove(&shard.swap_remove(victim));
        }
        shard.push(name);
        false
    })
}

fn of_workers(trace: &[u32], workers: usize) -> f64 {
    let settings = config::Cache::default();
    let store = Store::new(&settings).expect("there is memory");
    let store = Arc::new(store);
    let hasher = RandomState::with_seeds(1, 2, 3, 4);
    let sharing = |_| Cache::sharing(&settings, &hasher, Arc::clone(&store));
    let mut caches: Vec<_> = (0..workers).map(sharing).collect();
    let (mut dice, mut now) = (Dice(13), Moment::ZERO);
    ratio(trace, |name| {
        now = now.plus(Duration::from_micros(1));
        let cache = &mut caches[(dice.next() % workers as u64) as usize];
        let asking = Asking::new(name as usize);
        let key = Key::new(&hasher, &asking.name, &asking.question, &asking.asked);
        if cache.get(now, &key) != Found::Miss {
            return true;
        }
        cache.put(now, &asking.name, &key, &asking.received()).expect("an answer");
        false
    })
}
