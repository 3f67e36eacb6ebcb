//! Stop of pools.
//!
//! No connection can be taken; idle ones are closed at once, busy ones when they come back.

use super::{
    PoolSettings, Pools, TakeError, at, closed, give, pools, requests, set, settings, take,
};
use std::collections::BTreeSet;

#[test]
fn after_stop_taking_fails_and_returning_closes() {
    let mut pools = pools(PoolSettings { max_inflight: 9, ..settings() });
    let [busy, idle] = [(); 2].map(|()| take(&mut pools, at(0.0)));
    give(&mut pools, idle, at(0.0));
    pools.take(0, at(0.0), || 0, |_, _| false).unwrap();
    pools.stop();
    pools.check_invariants();
    assert_eq!(
        pools.take(0, at(0.0), || 0, |_, _| false),
        Err(TakeError::Stopped),
        "not even within a batch"
    );
    assert_eq!(closed(&mut pools), BTreeSet::new(), "both are busy");
    give(&mut pools, idle, at(1.0));
    give(&mut pools, busy, at(1.0));
    assert_eq!(closed(&mut pools), set(&[busy, idle]));
    assert_eq!(pools.take(0, at(2.0), || 0, |_, _| false), Err(TakeError::Stopped));
    assert_eq!((pools.len(0), requests(&mut pools)), (0, vec![]));
}

#[test]
fn stop_closes_what_is_idle() {
    let mut pools = Pools::new([settings(); 2]);
    let taken = [0, 1].map(|pool| pools.take(pool, at(0.0), || 0, |_, _| false).unwrap());
    pools.end_batches();
    taken.iter().for_each(|connection| give(&mut pools, *connection, at(0.0)));
    pools.stop();
    assert_eq!(closed(&mut pools), set(&taken));
}
