//! Execution of trust's decisions by the pool.
//!
//! The decisions are tested beside `Trust`; here that connections make room in their turn, at a
//! bounded rate, and are counted.

use super::{PoolSettings, SECOND, TrustSettings, at, burst, pools, settings, take};
use crate::engine::stats::Reason;

#[test]
fn after_a_burst_of_failures_the_other_connections_make_room_in_turn() {
    let trust = TrustSettings { distrust: Some(2 * SECOND), rebalance: false };
    let mut pools = pools(PoolSettings { trust, spread: 24, ..settings() });
    let old = burst(&mut pools, 24, at(0.0));
    for turn in 1..100 {
        assert_eq!(burst(&mut pools, 24, at(f64::from(turn) / 10.0)), old, "they rotate");
    }
    let dead: Vec<_> = (0..8).map(|_| take(&mut pools, at(10.0))).collect();
    dead.iter().for_each(|connection| pools.release(*connection, at(12.0), true));
    let mut left = 16;
    for turn in 0..12 {
        let taken = burst(&mut pools, 24, at(12.0 + f64::from(turn) / 10.0));
        let before = left;
        left = taken.iter().filter(|connection| old.contains(connection)).count();
        assert!(before - left <= 3, "no more than an eighth at once");
    }
    assert_eq!(left, 0);
    let (stats, reason) = (pools.stats(0), Reason::Distrusted as usize);
    let told: u64 = stats.ages[reason].counts.iter().sum();
    assert!(told >= 16 && told == stats.renewed, "{stats:?}");
}
