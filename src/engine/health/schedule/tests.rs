//! Schedule of one upstream in virtual time.
//!
//! First each rule of the schedule, then random outages: they must cause no more probes than the
//! schedule says, and no recovery may be missed.

use super::{Change, Failed, Schedule, delay_max};
use crate::config::{HealthCheck, PROBE_INTERVAL_MIN};
use crate::moment::Moment;
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::time::Duration;

/// Random number that leaves a delay unchanged.
const NO_JITTER: u32 = 1 << 31;

fn schedule(max_fails: u32, interval: Duration) -> Schedule {
    Schedule::new(&HealthCheck { max_fails, interval, ..HealthCheck::default() })
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn at(count: u64) -> Moment {
    Moment::ZERO.plus(millis(count))
}

/// The delays after each of `count` failed probes, in milliseconds.
fn delays(schedule: &mut Schedule, count: usize, random: u32) -> Vec<u128> {
    assert!(schedule.on_failed_exchange());
    let mut now = Moment::ZERO;
    let delays = (0..count).map(|_| {
        let Failed { next, .. } = schedule.on_unanswered(now, random);
        let delay = next.since(now);
        now = next;
        assert!(schedule.on_due());
        delay.as_millis()
    });
    delays.collect()
}

#[test]
fn the_first_failed_exchange_begins_the_probing_and_the_others_do_nothing() {
    let mut schedule = schedule(2, millis(500));
    assert!(!schedule.is_probing() && !schedule.on_due());
    assert!(schedule.on_failed_exchange());
    assert!(schedule.is_probing() && !schedule.on_failed_exchange() && !schedule.on_due());
    assert_eq!(schedule.on_unanswered(at(10), 0).next, at(510));
    assert!(schedule.is_probing() && !schedule.on_failed_exchange());
}

#[test]
fn an_answer_ends_the_probing_without_a_change_if_the_upstream_was_up() {
    let mut schedule = schedule(2, millis(500));
    assert!(schedule.on_failed_exchange());
    assert_eq!(schedule.on_unanswered(at(0), 0).change, None);
    assert!(schedule.on_due());
    assert_eq!(schedule.on_answered(at(500)), None);
    assert!(!schedule.is_probing() && !schedule.on_due());
    // Failures are counted in a row: the next one is the first again.
    assert!(schedule.on_failed_exchange());
    assert_eq!(schedule.on_unanswered(at(600), 0).change, None);
}

#[test]
fn max_fails_failures_in_a_row_are_down_and_not_one_more() {
    for max_fails in 1..5 {
        let mut schedule = schedule(max_fails, millis(500));
        assert!(schedule.on_failed_exchange());
        for fails in 1..max_fails {
            assert_eq!(schedule.on_unanswered(at(0), 0).change, None);
            assert!(!schedule.is_down() && schedule.on_due(), "{fails} of {max_fails}");
        }
        let change = schedule.on_unanswered(at(0), 0).change;
        assert_eq!(change, Some(Change::Down { fails: max_fails }));
        assert!(schedule.is_down() && schedule.on_due());
        assert_eq!(schedule.on_unanswered(at(0), 0).change, None, "told once");
    }
}

#[test]
fn the_first_answer_sets_the_upstream_up_again() {
    let mut schedule = schedule(1, millis(500));
    assert!(schedule.on_failed_exchange());
    let next = schedule.on_unanswered(at(1_000), NO_JITTER).next;
    assert!(schedule.on_due());
    let after = next.plus(millis(3)).since(at(1_000));
    assert_eq!(schedule.on_answered(next.plus(millis(3))), Some(Change::Up { after }));
    assert!(!schedule.is_down() && !schedule.is_probing());
}

#[test]
fn without_max_fails_nothing_begins() {
    let mut schedule = schedule(0, millis(500));
    assert!(!schedule.on_failed_exchange() && !schedule.is_probing() && !schedule.is_down());
}

#[test]
fn the_interval_doubles_only_while_it_is_down_and_only_up_to_its_bound() {
    let delays = |interval, count| delays(&mut schedule(2, interval), count, NO_JITTER);
    assert_eq!(delays(millis(500), 7), [500, 500, 1_000, 2_000, 4_000, 8_000, 8_000]);
    assert_eq!(delays(millis(1_000), 7), [1_000, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
    assert_eq!(delays(millis(60_000), 4), [60_000; 4], "never below the interval");
    assert_eq!(delays(Duration::ZERO, 7), [10, 10, 20, 40, 80, 160, 160], "no storm");
}

#[test]
fn the_jitter_is_a_tenth_either_way_and_only_while_it_is_down() {
    let delays = |random| delays(&mut schedule(2, millis(1_000)), 3, random);
    assert_eq!(delays(0), [1_000, 900, 1_800]);
    assert_eq!(delays(u32::MAX), [1_000, 1_099, 2_199]);
}

#[test]
fn extremes_neither_wrap_nor_panic() {
    let mut schedule = schedule(1, Duration::MAX);
    assert!(schedule.on_failed_exchange());
    assert_eq!(schedule.on_unanswered(Moment::FOREVER, u32::MAX).next, Moment::FOREVER);
    schedule.fails = u32::MAX;
    assert!(schedule.on_due());
    assert_eq!(schedule.on_unanswered(at(1), u32::MAX).next, Moment::FOREVER);
}

/// An upstream with random outages.
struct Upstream {
    /// Times when it stops or begins to answer, in milliseconds; it answers at first and at last.
    turns: Vec<u64>,
    /// Time until a probe fails.
    patience: Duration,
}

impl Upstream {
    fn answers(&self, now: Moment) -> bool {
        self.turns.iter().filter(|turn| at(**turn) <= now).count() % 2 == 0
    }

    fn last_turn(&self) -> Moment {
        at(self.turns.last().copied().unwrap_or(0))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn probes_are_few_and_no_recovery_is_missed(
        max_fails in 1..6u32,
        interval in 0..20_000u64,
        lengths in proptest::collection::vec(1..60_000u64, 0..8),
        patience in 0..2_000u64,
        query_gap in 1..3_000u64,
        seed in any::<u64>(),
    ) {
        let interval = millis(interval).max(PROBE_INTERVAL_MIN);
        let mut turns: Vec<u64> = lengths.iter().scan(0, |end, length| {
            *end += length;
            Some(*end)
        }).collect();
        turns.truncate(turns.len() / 2 * 2);
        let upstream = Upstream { turns, patience: millis(patience) };
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut schedule = schedule(max_fails, interval);
        let (mut now, mut next, mut fails_in_a_row) = (Moment::ZERO, None, 0);
        let bound = delay_max(interval) + delay_max(interval) / 10;
        let horizon = upstream.last_turn().plus(millis(4_000));
        while now <= horizon || schedule.is_probing() {
            // A probe is due or a query is outstanding, whichever comes first.
            let query = now.plus(millis(query_gap));
            now = next.map_or(query, |next: Moment| next.min(query));
            let begins = if next == Some(now) {
                next = None;
                schedule.on_due()
            } else {
                !upstream.answers(now) && schedule.on_failed_exchange()
            };
            // Between probes the schedule has a time; otherwise it is idle.
            prop_assert_eq!(schedule.is_probing(), begins || next.is_some());
            if !begins {
                continue;
            }
            prop_assert!(!schedule.on_due() && !schedule.on_failed_exchange(), "two at once");
            if upstream.answers(now) {
                let was_down = schedule.is_down();
                let change = schedule.on_answered(now);
                prop_assert_eq!(change.is_some(), was_down);
                fails_in_a_row = 0;
            } else {
                now = now.plus(upstream.patience);
                fails_in_a_row += 1;
                let failed = schedule.on_unanswered(now, random.next_u32());
                let gap = failed.next.since(now);
                prop_assert!(gap >= interval * 9 / 10 && gap <= bound, "{gap:?}");
                prop_assert!(schedule.is_down() || gap == interval, "{gap:?}");
                next = Some(failed.next);
            }
            prop_assert_eq!(schedule.is_down(), fails_in_a_row >= max_fails);
            // A recovery is noticed at the latest with the probe that was scheduled before it.
            let latest = upstream.last_turn().plus(upstream.patience + bound);
            prop_assert!(now <= latest || !schedule.is_down());
        }
        prop_assert!(!schedule.is_down() && !schedule.is_probing());
    }
}
