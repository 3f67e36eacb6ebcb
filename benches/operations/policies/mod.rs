//! Comparison of eviction policies: hit ratios over synthetic traffic.
//!
//! Names are drawn by Zipf's law, mixed with names that occur once only (a flood of random
//! subdomains, a crawler, a mail server's lookups). Half of the latter are spread uniformly, half
//! come in bursts as large as the cache. Each name has a TTL of 30 seconds to an hour at 2,000
//! queries a second; an expired answer is a miss and is replaced in its slot. The ratio does not
//! cover the names that occur once only.

mod candidates;
pub(crate) mod shared;

use candidates::{Arbitrary, Clock, Lru, Policy, Sieve};
use onward::engine::cache::eviction::{Eviction, Order, Tenants};
use std::collections::HashMap;

/// Names that occur repeatedly.
const NAMES: usize = 1_000_000;
/// Queries of a run; the first quarter fills the cache and does not count.
const QUERIES: u64 = 2_000_000;
/// Queries a second.
const RATE: u64 = 2_000;
/// TTLs of answers, in seconds.
const LIFETIMES: [u64; 4] = [30, 60, 300, 3_600];
/// The first of the names that occur once only.
const ONCE: u32 = 1 << 31;

/// Prints the table.
pub(crate) fn print_hit_ratios() {
    println!("| capacity | Zipf | scanned | arbitrary | LRU | CLOCK | SIEVE | the cache's |");
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|");
    for capacity in [1_000, 10_000, 100_000] {
        for exponent in [0.8, 1.0] {
            for scanned in [0.0, 0.2, 0.6] {
                let trace = trace(exponent, scanned, capacity);
                let candidates: [Box<dyn Policy>; 5] = [
                    Box::new(Arbitrary::new(capacity)),
                    Box::new(Lru::new(capacity)),
                    Box::new(Clock::new(capacity)),
                    Box::new(Sieve::new(capacity)),
                    Box::new(Own::new(capacity)),
                ];
                print!("| {capacity} | {exponent:.1} | {:.0} % |", 100.0 * scanned);
                for mut policy in candidates {
                    print!(" {:.1} |", ratio(&trace, capacity, &mut *policy));
                }
                println!();
            }
        }
    }
}

/// The cache's own policy, with the words of the entries.
struct Own {
    eviction: Eviction,
    used: Vec<u64>,
}

impl Own {
    fn new(capacity: usize) -> Self {
        Self { eviction: Eviction::new(capacity, Order::Scanned), used: vec![0; capacity] }
    }
}

/// The words, and which entries are dead.
struct Entries<'a>(&'a mut [u64], &'a dyn Fn(u32) -> bool);

impl Tenants for Entries<'_> {
    fn used(&self, slot: u32) -> u64 {
        self.0[slot as usize]
    }

    fn set_used(&mut self, slot: u32, word: u64) {
        self.0[slot as usize] = word;
    }

    fn is_dead(&self, slot: u32) -> bool {
        self.1(slot)
    }
}

impl Policy for Own {
    fn hit(&mut self, slot: u32) {
        let word = &mut self.used[slot as usize];
        *word = Order::Scanned.used(*word, 0).unwrap_or(*word);
    }

    fn insert(&mut self, slot: u32, hash: u32) {
        self.used[slot as usize] = 0;
        self.eviction.insert(slot, hash, 0, false);
    }

    fn victim(&mut self, dead: &dyn Fn(u32) -> bool) -> u32 {
        let victim = self.eviction.victim(&mut Entries(&mut self.used, dead));
        victim.expect("every slot is taken")
    }
}

/// The names of a run in their order.
fn trace(exponent: f64, scanned: f64, capacity: usize) -> Vec<u32> {
    let mut sum = 0.0;
    let weight = |rank: usize| {
        sum += (rank as f64).powf(-exponent);
        sum
    };
    let sums: Vec<f64> = (1..=NAMES).map(weight).collect();
    let mut dice = Dice(7);
    let (mut once, mut burst) = (ONCE, 0);
    let query = |_| {
        if burst == 0 && dice.fraction() < scanned / 2.0 / capacity as f64 {
            burst = capacity;
        }
        if burst > 0 || dice.fraction() < scanned / 2.0 {
            burst = burst.saturating_sub(1);
            once += 1;
            return once;
        }
        let place = dice.fraction() * sum;
        sums.partition_point(|sum| *sum < place) as u32
    };
    (0..QUERIES).map(query).collect()
}

/// The hit ratio in per cent.
fn ratio(trace: &[u32], capacity: usize, policy: &mut dyn Policy) -> f64 {
    let mut slots: HashMap<u32, u32> = HashMap::new();
    let mut entries: Vec<(u32, u64)> = Vec::new();
    let (mut hits, mut asked) = (0_u64, 0_u64);
    for (&name, number) in trace.iter().zip(0_u64..) {
        let now = number / RATE;
        let counted = name < ONCE && number >= QUERIES / 4;
        asked += u64::from(counted);
        let lifetime = LIFETIMES[(mix(name.into()) % 4) as usize];
        if let Some(&slot) = slots.get(&name) {
            let until = &mut entries[slot as usize].1;
            hits += u64::from(counted && *until > now);
            if *until <= now {
                *until = now + lifetime;
            }
            policy.hit(slot);
            continue;
        }
        let slot = if entries.len() < capacity {
            entries.push((0, 0));
            entries.len() as u32 - 1
        } else {
            let slot = policy.victim(&|slot| entries[slot as usize].1 <= now);
            slots.remove(&entries[slot as usize].0);
            slot
        };
        entries[slot as usize] = (name, now + lifetime);
        slots.insert(name, slot);
        policy.insert(slot, mix(name.into()) as u32);
    }
    100.0 * hits as f64 / asked as f64
}

/// A seeded random number generator.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn mix(mut word: u64) -> u64 {
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}
