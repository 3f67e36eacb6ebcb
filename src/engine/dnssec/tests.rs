//! The time for signatures, and the table of those that are kept.
//!
//! Signed replies are tested with an engine around them, in `tests/engine/stages/dnssec.rs`.

use super::Budget;
use super::kept::Table;
use crate::moment::Moment;
use std::time::Duration;

#[test]
fn a_budget_is_a_quarter_of_the_time_and_never_more_than_a_burst() {
    let mut budget = Budget::default();
    let mut now = Moment::ZERO;
    let spend = |budget: &mut Budget, now: Moment| {
        let mut count = 0;
        while budget.allows(now, false) {
            budget.spend(Duration::from_micros(100));
            count += 1;
        }
        count
    };
    assert_eq!(spend(&mut budget, now), 80);
    for (millis, count) in [(4, 10), (40, 80), (4_000_000, 80), (0, 0)] {
        now = now.plus(Duration::from_millis(millis));
        assert_eq!(spend(&mut budget, now), count, "{millis}");
    }
    // What was spent beyond the budget is made up for.
    now = now.plus(Duration::from_millis(1));
    assert!(budget.allows(now, false));
    budget.spend(Duration::from_millis(10));
    now = now.plus(Duration::from_millis(30));
    assert!(!budget.allows(now, false));
    assert!(budget.allows(now.plus(Duration::from_millis(12)), false));
}

#[test]
fn signatures_are_found_until_two_days_before_their_end() {
    const DAY: u32 = 86_400;
    let mut table = Table::new(4, 8);
    table.make_room(7, 4, (100, 100 + 8 * DAY)).unwrap().copy_from_slice(b"sign");
    assert_eq!(table.find(7, 200), Some((100, 100 + 8 * DAY)));
    assert_eq!(table.signature(7, 4), Some(&b"sign"[..]));
    assert_eq!(table.find(8, 200), None);
    assert_eq!(table.find(7, 99 + 6 * DAY), Some((100, 100 + 8 * DAY)));
    assert_eq!(table.find(7, 100 + 6 * DAY), None);
    assert_eq!(table.find(7, 99), None, "it is not valid yet");
    table.make_room(7, 4, (200, 200 + 8 * DAY)).unwrap().copy_from_slice(b"more");
    assert_eq!((table.signature(7, 4), table.stats.entries), (Some(&b"more"[..]), 1));
    table.forget(7);
    assert_eq!((table.find(7, 300), table.stats.entries), (None, 0));
}

#[test]
fn the_oldest_signature_gives_way() {
    let mut table = Table::new(4, 4);
    for hash in 1..=6_u32 {
        let room = table.make_room(hash.into(), 4, (hash, u32::MAX / 2)).unwrap();
        room.copy_from_slice(&[hash as u8; 4]);
    }
    for hash in 1..=6_u64 {
        let kept = (hash > 2).then_some([hash as u8; 4]);
        assert_eq!(table.signature(hash, 4), kept.as_ref().map(|kept| &kept[..]), "{hash}");
    }
    assert_eq!(table.stats.entries, 4);
}

#[test]
fn signatures_that_are_asked_for_again_stay_in_a_flood_of_others() {
    let mut table = Table::new(4, 1);
    table.make_room(1, 1, (100, u32::MAX / 2)).unwrap().copy_from_slice(b"a");
    for hash in 2..1_000 {
        assert!(table.find(1, 200).is_some(), "{hash}");
        table.make_room(hash, 1, (101, u32::MAX / 2)).unwrap();
    }
    // If all were asked for again, the oldest gives way.
    let mut table = Table::new(4, 1);
    for hash in 1..=4 {
        table.make_room(hash, 1, (hash as u32, u32::MAX / 2)).unwrap();
        assert!(table.find(hash, 200).is_some());
    }
    table.make_room(5, 1, (5, u32::MAX / 2)).unwrap();
    assert_eq!((table.find(1, 200), table.find(4, 200)), (None, Some((4, u32::MAX / 2))));
}

#[test]
fn a_signature_longer_than_those_of_the_table_has_no_place() {
    let mut table = Table::new(4, 4);
    assert!(table.make_room(1, 5, (100, u32::MAX / 2)).is_none());
    table.make_room(1, 4, (100, u32::MAX / 2)).unwrap();
    assert_eq!((table.signature(1, 5), table.stats.entries), (None, 1));
}

#[test]
fn names_that_do_not_exist_leave_half_of_the_burst_to_others() {
    let mut budget = Budget::default();
    let now = Moment::ZERO;
    let spend = |budget: &mut Budget, is_spare: bool| {
        let mut count = 0;
        while budget.allows(now, is_spare) {
            budget.spend(Duration::from_micros(100));
            count += 1;
        }
        count
    };
    assert_eq!((spend(&mut budget, true), spend(&mut budget, false)), (40, 40));
}
