//! One test per promise of the pool's header; then, in `model`, the pool against a naive twin.
//!
//! Each test sets the time. Most take batches of one query, to show the order of connections. The
//! invariants are checked after each step.

use super::{PoolSettings, Pools, TakeError, TrustSettings};
use crate::engine::key::ConnectionId;
use crate::moment::Moment;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

mod distrust;
mod model;
mod stop;

const SECOND: Duration = Duration::from_secs(1);
const EXPIRE: Duration = Duration::from_secs(10);

fn settings() -> PoolSettings {
    PoolSettings {
        expire: EXPIRE,
        max_age: None,
        jitter: 10,
        max_idle: None,
        spread: 1,
        max_conns: 1_000,
        max_inflight: 1,
        tcp: false,
        owned: false,
        trust: TrustSettings::default(),
    }
}

fn pools(settings: PoolSettings) -> Pools {
    Pools::new([settings])
}

fn at(seconds: f64) -> Moment {
    Moment::ZERO.plus(Duration::from_secs_f64(seconds))
}

/// Takes a connection as the only query of its batch. No jitter.
fn take(pools: &mut Pools, now: Moment) -> ConnectionId {
    let taken = pools.take(0, now, || 0, |_, _| false).unwrap();
    pools.end_batches();
    pools.check_invariants();
    taken
}

fn give(pools: &mut Pools, connection: ConnectionId, now: Moment) {
    pools.release(connection, now, false);
    pools.check_invariants();
}

fn sweep(pools: &mut Pools, now: Moment) {
    pools.sweep(0, now, 0);
    pools.check_invariants();
}

/// Takes `count` connections at once and gives them back in the same order.
fn burst(pools: &mut Pools, count: usize, now: Moment) -> Vec<ConnectionId> {
    let taken: Vec<_> = (0..count).map(|_| take(pools, now)).collect();
    taken.iter().for_each(|connection| give(pools, *connection, now));
    taken
}

fn closed(pools: &mut Pools) -> BTreeSet<ConnectionId> {
    std::iter::from_fn(|| pools.next_closed()).collect()
}

fn requests(pools: &mut Pools) -> Vec<(usize, Moment)> {
    std::iter::from_fn(|| pools.next_request()).collect()
}

fn set(connections: &[ConnectionId]) -> BTreeSet<ConnectionId> {
    connections.iter().copied().collect()
}

/// Numbers that look random enough for jitter.
fn scattered(step: u32) -> u32 {
    step.wrapping_mul(0x9e37_79b1)
}

#[test]
fn an_upstream_that_failed_validation_is_not_dialled_again_at_once() {
    let mut pools = pools(PoolSettings { tcp: true, max_inflight: 2, ..settings() });
    let first = take(&mut pools, at(0.0));
    pools.pause_dials(first, at(0.0));
    pools.break_off(first);
    give(&mut pools, first, at(0.0));
    assert_eq!(pools.take(0, at(0.099), || 0, |_, _| false), Err(TakeError::Paused));
    let second = take(&mut pools, at(0.1));
    pools.connected(second, at(0.1));
    // A connected one serves on, whatever happened to another.
    pools.pause_dials(second, at(0.2));
    assert_eq!(take(&mut pools, at(0.2)), second);
    assert_eq!(pools.take(0, at(0.2), || 0, |_, _| false), Err(TakeError::Paused));
}

#[test]
fn the_connection_longest_unused_is_taken_first() {
    let mut pools = pools(settings());
    let [a, b, c] = [(); 3].map(|()| take(&mut pools, at(0.0)));
    for (connection, seconds) in [(b, 1.0), (c, 2.0), (a, 3.0)] {
        give(&mut pools, connection, at(seconds));
    }
    assert_eq!(take(&mut pools, at(4.0)), b);
    give(&mut pools, b, at(4.0));
    let order = [(); 3].map(|()| take(&mut pools, at(5.0)));
    assert_eq!(order, [c, a, b]);
    assert_eq!((pools.stats(0).opened, pools.stats(0).reused), (3, 4));
}

#[test]
fn a_batch_takes_a_connection_whole_and_it_comes_back_when_all_have_ended() {
    let mut pools = pools(PoolSettings { max_inflight: 64, ..settings() });
    let batch: BTreeSet<_> =
        (0..5).map(|_| pools.take(0, at(0.0), || 0, |_, _| false).unwrap()).collect();
    pools.end_batches();
    assert_eq!(batch.len(), 1);
    let first = *batch.first().unwrap();
    for _ in 0..4 {
        give(&mut pools, first, at(1.0));
        let other = take(&mut pools, at(1.0));
        assert_ne!(other, first, "it was taken while queries were on it");
        give(&mut pools, other, at(1.0));
    }
    let other = take(&mut pools, at(1.0));
    give(&mut pools, first, at(1.0));
    assert_eq!(take(&mut pools, at(1.0)), first);
    assert_ne!(other, first);
}

#[test]
fn a_batch_puts_no_more_than_max_inflight_on_a_connection() {
    let mut pools = pools(PoolSettings { max_inflight: 4, ..settings() });
    let mut loads = BTreeMap::new();
    for _ in 0..10 {
        *loads.entry(pools.take(0, at(0.0), || 0, |_, _| false).unwrap()).or_insert(0) += 1;
    }
    let mut loads: Vec<_> = loads.into_values().collect();
    loads.sort_unstable();
    assert_eq!(loads, [2, 4, 4]);
}

#[test]
fn the_end_of_a_turn_ends_the_batches_of_all_pools() {
    let mut pools = Pools::new([PoolSettings { max_inflight: 64, ..settings() }; 2]);
    let mut take = |pool| pools.take(pool, at(0.0), || 0, |_, _| false).unwrap();
    let before = [take(0), take(1), take(0), take(1)];
    assert_eq!((before[0], before[1]), (before[2], before[3]));
    assert_ne!(before[0], before[1]);
    pools.end_batches();
    for (pool, taken) in [(0, before[0]), (1, before[1])] {
        assert_eq!(pools.pool_of(taken), Some(pool));
        assert_ne!(pools.take(pool, at(0.0), || 0, |_, _| false).unwrap(), taken);
    }
}

#[test]
fn a_connection_whose_queries_end_within_the_batch_comes_back_all_the_same() {
    for expire in [EXPIRE, Duration::ZERO] {
        let mut pools = pools(PoolSettings { expire, max_inflight: 64, ..settings() });
        for _ in 0..3 {
            let taken = pools.take(0, at(0.0), || 0, |_, _| false).unwrap();
            assert!(pools.is_open(taken), "a connection was handed out that is closed");
            give(&mut pools, taken, at(0.0));
        }
        assert_eq!(pools.stats(0).opened, if expire.is_zero() { 3 } else { 1 });
    }
}

#[test]
fn a_pool_dials_until_it_has_its_spread_and_then_rotates_evenly() {
    let mut pools = pools(PoolSettings { spread: 16, max_inflight: 64, ..settings() });
    let mut tallies = BTreeMap::new();
    for step in 0..10_000 {
        let now = at(f64::from(step) / 1_000.0);
        let taken = take(&mut pools, now);
        *tallies.entry(taken).or_insert(0) += 1;
        give(&mut pools, taken, now);
    }
    assert_eq!((tallies.len(), pools.stats(0).opened), (16, 16));
    assert!(tallies.values().all(|tally| (624..=626).contains(tally)), "{tallies:?}");
}

#[test]
fn a_spread_that_cannot_be_held_is_as_large_as_can_be_held() {
    for limits in [
        PoolSettings { spread: 16, max_idle: Some(2), ..settings() },
        PoolSettings { spread: 16, max_conns: 2, ..settings() },
    ] {
        let mut pools = pools(limits);
        for _ in 0..100 {
            burst(&mut pools, 1, at(1.0));
        }
        assert_eq!(pools.stats(0).opened, 2, "every query dials: {limits:?}");
    }
}

#[test]
fn at_max_conns_the_least_loaded_connection_is_shared() {
    let mut pools = pools(PoolSettings { max_conns: 3, ..settings() });
    let dialled = [(); 3].map(|()| take(&mut pools, at(0.0)));
    assert_eq!(set(&dialled).len(), 3);
    assert_eq!(pools.capacity(), 3);
    let shared = [(); 3].map(|()| take(&mut pools, at(0.0)));
    assert_eq!(shared, dialled, "each is shared once, the longest taken first");
    give(&mut pools, dialled[1], at(0.0));
    assert_eq!(take(&mut pools, at(0.0)), dialled[1], "it has one query, the others have two");
    assert_eq!((pools.stats(0).opened, pools.stats(0).shared), (3, 4));
}

#[test]
fn exhausted_means_that_all_are_about_to_be_closed() {
    let mut pools = pools(PoolSettings { max_conns: 100, ..settings() });
    let taken: Vec<_> = (0..100).map(|_| take(&mut pools, at(0.0))).collect();
    for connection in &taken[..99] {
        pools.break_off(*connection);
        pools.check_invariants();
    }
    assert_eq!(take(&mut pools, at(1.0)), taken[99], "the last one that can be shared");
    pools.break_off(taken[99]);
    assert_eq!(pools.take(0, at(1.0), || 0, |_, _| false), Err(TakeError::Exhausted));
    pools.check_invariants();
}

#[test]
fn an_idle_connection_is_closed_at_the_very_instant_that_it_expires() {
    for by_sweep in [true, false] {
        let mut pools = pools(settings());
        let connection = burst(&mut pools, 1, at(5.0))[0];
        let early = Moment::from_nanos(at(15.0).as_nanos() - 1);
        if by_sweep {
            sweep(&mut pools, early);
            assert!(pools.is_open(connection));
            sweep(&mut pools, at(15.0));
        } else {
            assert_ne!(take(&mut pools, at(15.0)), connection);
        }
        assert_eq!(closed(&mut pools), set(&[connection]));
        assert!(!pools.is_open(connection) && pools.pool_of(connection).is_none());
        assert_eq!(pools.stats(0).expired, 1);
    }
}

#[test]
fn use_makes_an_idle_connection_young_again() {
    let mut pools = pools(settings());
    for seconds in 0..100 {
        burst(&mut pools, 1, at(f64::from(seconds) * 9.9));
    }
    assert_eq!(pools.stats(0).opened, 1);
}

#[test]
fn with_an_expiry_of_zero_nothing_is_reused_and_the_keeper_is_left_alone() {
    let mut pools = pools(PoolSettings { expire: Duration::ZERO, ..settings() });
    let taken = burst(&mut pools, 5, at(1.0));
    assert_eq!(closed(&mut pools), set(&taken));
    assert_eq!((pools.len(0), pools.stats(0).expired), (0, 5));
    // More busy connections than the spread: nothing can shrink, so no wake-up is requested.
    (0..3).for_each(|_| assert!(pools.take(0, at(2.0), || 0, |_, _| false).is_ok()));
    assert_eq!(requests(&mut pools), []);
}

#[test]
fn a_connection_too_old_takes_no_new_query_and_is_closed_when_its_last_ends() {
    let mut pools = pools(PoolSettings { max_age: Some(60 * SECOND), max_conns: 2, ..settings() });
    let connection = take(&mut pools, at(0.0));
    let early = Moment::from_nanos(at(60.0).as_nanos() - 1);
    let other = take(&mut pools, early);
    assert_eq!(take(&mut pools, early), connection, "it is still young enough to be shared");
    assert_eq!(take(&mut pools, at(60.0)), other, "it is too old for a new query");
    give(&mut pools, connection, at(61.0));
    assert!(pools.is_open(connection), "a query is still on it");
    give(&mut pools, connection, at(62.0));
    assert_eq!(closed(&mut pools), set(&[connection]));
    assert_eq!(pools.stats(0).aged, 1);
}

#[test]
fn rotation_for_ever_does_not_outlast_max_age() {
    let mut pools = pools(PoolSettings { max_age: Some(60 * SECOND), ..settings() });
    let rotated = burst(&mut pools, 3, at(0.0));
    let mut now = at(0.0);
    while now < at(59.9) {
        burst(&mut pools, 1, now);
        now = now.plus(Duration::from_millis(100));
    }
    assert_eq!(closed(&mut pools), BTreeSet::new(), "none idles for as long as `expire`");
    sweep(&mut pools, at(60.0));
    assert_eq!(closed(&mut pools), set(&rotated));
    assert_eq!((pools.stats(0).aged, pools.stats(0).expired), (3, 0));
}

#[test]
fn a_connection_that_is_never_idle_does_not_outlast_max_age() {
    let mut pools = pools(PoolSettings { max_age: Some(60 * SECOND), max_conns: 1, ..settings() });
    let connection = take(&mut pools, at(0.0));
    assert_eq!(requests(&mut pools), [(0, at(60.0))]);
    for step in 1..600 {
        let now = at(f64::from(step) / 10.0);
        assert_eq!(take(&mut pools, now), connection);
        give(&mut pools, connection, now);
    }
    sweep(&mut pools, at(60.0));
    assert_eq!(requests(&mut pools), [], "nothing can be done before its query ends");
    assert_eq!(pools.take(0, at(60.0), || 0, |_, _| false), Err(TakeError::Exhausted));
    give(&mut pools, connection, at(60.5));
    assert_eq!(closed(&mut pools), set(&[connection]));
    assert_ne!(take(&mut pools, at(60.5)), connection);
}

#[test]
fn connections_dialled_together_do_not_retire_together() {
    let max_age = 100 * SECOND;
    let expire = 1_000 * SECOND;
    let mut pools = pools(PoolSettings { max_age: Some(max_age), expire, ..settings() });
    for step in 0..1_000 {
        pools.take(0, at(0.0), || scattered(step), |_, _| false).unwrap();
        pools.end_batches();
    }
    let taken: Vec<_> = (0..1_000).map(|place| pools.id(place)).collect();
    taken.iter().for_each(|connection| give(&mut pools, *connection, at(0.0)));
    let mut ages = Vec::new();
    while let Some((pool, due)) = pools.next_request() {
        pools.sweep(pool, due, 0);
        ages.extend(closed(&mut pools).iter().map(|_| due.since(Moment::ZERO)));
    }
    assert_eq!((ages.len(), pools.stats(0).aged), (1_000, 1_000));
    assert!(ages.iter().all(|age| *age > 90 * SECOND && *age <= max_age));
    let widest = ages.last().unwrap().saturating_sub(ages[0]);
    assert!(widest > 9 * SECOND, "the jitter takes the whole tenth, not {widest:?}");
    // Windows of a hundredth of the age limit.
    for (first, age) in ages.iter().enumerate() {
        let together = ages[first..].iter().take_while(|other| **other < *age + SECOND).count();
        assert!(together <= 200, "{together} of 1,000 retire within 1 % of the age limit");
    }
}

#[test]
fn no_more_than_max_idle_are_kept() {
    let mut pools = pools(PoolSettings { max_idle: Some(2), ..settings() });
    let taken = burst(&mut pools, 5, at(0.0));
    assert_eq!(closed(&mut pools), set(&taken[2..]));
    assert_eq!((pools.len(0), pools.stats(0).surplus), (2, 3));
}

#[test]
fn a_pool_shrinks_to_what_it_needed_in_a_whole_expiry_period() {
    let mut pools = pools(PoolSettings { spread: 4, ..settings() });
    burst(&mut pools, 50, at(0.0));
    // Rotation keeps all fifty connections from expiring; six at once are needed.
    let mut rotate = |from: u32, to: u32| {
        for step in from * 100..to * 100 {
            let now = at(f64::from(step) / 100.0);
            if step % 6 == 0 {
                burst(&mut pools, 6, now);
            }
            while pools.next_request().is_some_and(|(_, due)| due <= now) {
                pools.sweep(0, now, 0);
            }
            if let Some(due) = pools.pools[0].armed.filter(|due| *due <= now) {
                assert_eq!(due, now, "the keeper was to wake us in time");
                pools.sweep(0, now, 0);
            }
        }
        (pools.len(0), pools.stats(0).expired)
    };
    assert_eq!(rotate(0, 9), (50, 0), "a burst that may come again");
    assert_eq!(rotate(9, 30), (6, 0));
    assert_eq!(rotate(30, 100), (6, 0));
    sweep(&mut pools, at(200.0));
    assert_eq!(pools.len(0), 0, "all expire in the end");
}

#[test]
fn a_connection_that_kept_silent_is_closed_and_not_reused() {
    let mut pools = pools(PoolSettings { max_inflight: 3, ..settings() });
    let silent = [(); 3].map(|()| pools.take(0, at(0.0), || 0, |_, _| false).unwrap())[0];
    pools.end_batches();
    give(&mut pools, silent, at(1.0));
    pools.release(silent, at(2.0), true);
    pools.check_invariants();
    assert!(pools.is_open(silent), "one may still be answered");
    give(&mut pools, silent, at(2.0));
    assert_eq!(closed(&mut pools), set(&[silent]));
    assert_eq!(pools.stats(0).broken, 1);
    assert_ne!(take(&mut pools, at(2.0)), silent);
}

#[test]
fn a_connection_that_fails_takes_no_new_query_and_is_closed_when_empty() {
    let mut pools = pools(PoolSettings { max_inflight: 9, ..settings() });
    let idle = burst(&mut pools, 1, at(0.0))[0];
    pools.break_off(idle);
    assert_eq!(closed(&mut pools), set(&[idle]), "nothing was on it");
    let busy = pools.take(0, at(0.0), || 0, |_, _| false).unwrap();
    pools.break_off(busy);
    pools.check_invariants();
    let within_batch = pools.take(0, at(0.0), || 0, |_, _| false).unwrap();
    assert_ne!(within_batch, busy, "not even for the rest of its batch");
    assert!(pools.is_open(busy));
    give(&mut pools, busy, at(0.0));
    assert_eq!(closed(&mut pools), set(&[busy]));
    pools.break_off(busy);
    pools.release(busy, at(0.0), false);
    pools.check_invariants();
    assert!(pools.is_open(within_batch), "a stale id reached another connection");
    assert_eq!(pools.stats(0).broken, 2);
}

#[test]
fn the_keeper_is_asked_for_exactly_the_earliest_instant() {
    let mut pools = pools(PoolSettings { max_age: Some(12 * SECOND), spread: 2, ..settings() });
    assert_eq!(requests(&mut pools), [], "nothing is due");
    let first = take(&mut pools, at(1.0));
    assert_eq!(requests(&mut pools), [(0, at(13.0))], "its age");
    let second = take(&mut pools, at(2.0));
    assert_eq!(requests(&mut pools), [], "that comes later than what was asked for");
    give(&mut pools, second, at(2.5));
    assert_eq!(requests(&mut pools), [(0, at(12.5))], "its expiry");
    give(&mut pools, first, at(2.75));
    assert_eq!(requests(&mut pools), [], "another idles longer");
    assert_eq!(take(&mut pools, at(2.75)), second);
    give(&mut pools, second, at(3.0));
    assert_eq!(requests(&mut pools), [], "a deadline that moved away is found out when it comes");
    sweep(&mut pools, at(12.5));
    assert_eq!(requests(&mut pools), [(0, at(12.75))]);
    sweep(&mut pools, at(12.75));
    assert_eq!(closed(&mut pools), set(&[first]));
    assert_eq!(requests(&mut pools), [(0, at(13.0))]);
    sweep(&mut pools, at(13.0));
    assert_eq!(closed(&mut pools), set(&[second]));
    assert_eq!(requests(&mut pools), [], "nothing is left");
}

#[test]
fn a_request_that_could_not_be_delivered_is_made_again() {
    let mut pools = Pools::new([settings(); 2]);
    let taken = [0, 1].map(|pool| pools.take(pool, at(0.0), || 0, |_, _| false).unwrap());
    pools.end_batches();
    taken.iter().for_each(|connection| give(&mut pools, *connection, at(0.0)));
    let (pool, due) = pools.next_request().unwrap();
    pools.disarm(pool);
    let mut again = requests(&mut pools);
    again.sort_unstable();
    assert_eq!(again, [(0, at(10.0)), (1, at(10.0))]);
    assert_eq!(due, at(10.0));
    assert_eq!(requests(&mut pools), []);
}

impl Pools {
    /// Panics if the pool's tables disagree.
    fn check_invariants(&self) {
        let mut listed = vec![0; self.connections.len()];
        for (number, pool) in self.pools.iter().enumerate() {
            let mut count_listed = |list: &super::List, idle: bool| {
                let mut last = Moment::ZERO;
                let slots = list.iter(&self.connections, |member| &member.link);
                for slot in slots.inspect(|slot| listed[*slot as usize] += 1) {
                    let member = &self.connections[slot as usize];
                    assert!(member.open && member.pool as usize == number, "{member:?}");
                    assert!(member.retiring.is_none(), "listed but retiring: {member:?}");
                    assert_eq!(member.outstanding == 0, idle, "on the wrong list: {member:?}");
                    assert!(!idle || member.idle_since >= last, "the idle ones are out of order");
                    last = member.idle_since;
                }
            };
            count_listed(&pool.idle, true);
            count_listed(&pool.busy, false);
            assert!(pool.len() <= pool.settings.max_conns, "more than max_conns: {pool:?}");
            if let Some((slot, 1..)) = pool.batch {
                let member = &self.connections[slot as usize];
                assert!(member.open && member.outstanding > 0, "a batch on {member:?}");
            }
        }
        for (member, listed) in self.connections.iter().zip(listed) {
            let usable = member.open && member.retiring.is_none();
            assert_eq!(listed, u32::from(usable), "{member:?}");
            let ages = usable && self.pools[member.pool as usize].settings.max_age.is_some();
            assert_eq!(member.age_place.is_some(), ages, "{member:?}");
            assert!(member.retiring.is_none() || !member.open || member.outstanding > 0);
        }
        let open = self.connections.iter().filter(|member| member.open).count();
        assert_eq!(open, self.pools.iter().map(|pool| pool.len()).sum::<usize>());
        assert_eq!(open + self.free.len(), self.connections.len());
    }
}
