//! The timer wheel: deadlines with payloads, returned in the order of their deadlines.
//!
//! It reads no clock, starts no thread and logs nothing. The keeper inserts, sleeps until
//! [`Wheel::next_deadline`] and calls [`Wheel::pop_expired`] until it returns `None`.
//!
//! The one idea: a slot is a digit. A deadline is a number of eleven base-64 digits (a tick is a
//! nanosecond, and all of `u64` fits). A timer lies on the level of the highest digit in which its
//! deadline differs from the current position of the wheel, in the slot that this digit names. So
//! the earliest timer is always in the first slot of the lowest level, which two bitmaps find
//! without a loop, and turning the wheel to that timer spreads its slot over lower levels.
//!
//! * Deadlines are exact: never early, never late, [`Moment::FOREVER`] included. Timers pop in the
//!   order of their deadlines, and equal deadlines in the order of insertion.
//! * A timer moves down at most ten times in its life, however far the time jumps; insert and
//!   cancel are O(1). The next deadline is found by a scan of one slot, and only after the earliest
//!   timer has popped or was cancelled.
//! * A deadline before the one that popped last is overdue: it waits in a sorted list ahead of all
//!   others, and its insertion passes over the overdue timers that are later than itself. An empty
//!   wheel forgets the last pop: the next deadline is never overdue.
//! * Memory grows only when more timers are pending than ever before: the owner bounds it.
//! * A key carries its node's generation: after its timer has popped or was cancelled it misses,
//!   until that one node has been reused 2³² times.

use crate::moment::Moment;
use std::cell::Cell;

const DIGIT_BITS: u32 = 6;
/// Slots of one level: one bit each in a `u64`.
const SLOTS: usize = 1 << DIGIT_BITS;
/// Digits of a deadline: 11 × 6 bits cover 64.
const LEVELS: usize = u64::BITS.div_ceil(DIGIT_BITS) as usize;
/// The list after those of the slots holds the overdue timers.
const OVERDUE: usize = LEVELS * SLOTS;
/// Maximum of pending timers for which debug builds check the whole wheel after each call: a check
/// walks them all.
#[cfg(debug_assertions)]
const CHECKED_MAX: usize = 200;
/// No node.
const NONE: u32 = u32::MAX;

/// Names one pending timer. A key becomes stale when its timer pops or is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerKey {
    index: u32,
    generation: u32,
}

/// Pending timers, each with a deadline and a payload.
#[derive(Debug)]
pub struct Wheel<T> {
    /// Position of the wheel: no timer in a slot is earlier, each overdue one is.
    turned_to: u64,
    /// The earliest deadline, as long as it is known.
    earliest: Cell<Option<Moment>>,
    /// One bit for each level with an occupied slot.
    levels: u32,
    /// One bit for each occupied slot, by level.
    slots: [u64; LEVELS],
    /// The first node of each slot's list, level by level, and of the overdue list.
    heads: [u32; OVERDUE + 1],
    /// The nodes of all lists, and the free ones.
    nodes: Vec<Node<T>>,
    /// The first free node; the others follow by `next`.
    free: u32,
    pending: usize,
}

/// A timer in a circular list, or a free node.
#[derive(Debug)]
struct Node<T> {
    deadline: u64,
    next: u32,
    prev: u32,
    /// Counts the timers that this node has held.
    generation: u32,
    /// `None`: the node is free.
    payload: Option<T>,
}

impl<T> Default for Wheel<T> {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl<T> Wheel<T> {
    /// A wheel that does not allocate until more than `capacity` timers are pending.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            turned_to: 0,
            earliest: Cell::new(None),
            levels: 0,
            slots: [0; LEVELS],
            heads: [NONE; OVERDUE + 1],
            nodes: Vec::with_capacity(capacity),
            free: NONE,
            pending: 0,
        }
    }

    /// Pending timers.
    pub fn len(&self) -> usize {
        self.pending
    }

    /// Returns true if no timer is pending.
    pub fn is_empty(&self) -> bool {
        self.pending == 0
    }

    /// Adds a timer that expires at `at`, which may be in the past.
    pub fn insert(&mut self, at: Moment, payload: T) -> TimerKey {
        let deadline = at.as_nanos();
        if self.pending == 0 {
            self.turned_to = self.turned_to.min(deadline);
            self.earliest.set(Some(at));
        } else if self.earliest.get().is_some_and(|earliest| at < earliest) {
            self.earliest.set(Some(at));
        }
        let index = self.take_node(deadline, payload);
        self.link(index);
        self.pending += 1;
        self.check();
        TimerKey { index, generation: self.node(index).generation }
    }

    /// Removes a timer before it expires. `None` when `key` is stale.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let node = self.nodes.get(key.index as usize)?;
        if node.generation != key.generation || node.payload.is_none() {
            return None;
        }
        let payload = self.remove(key.index);
        self.check();
        payload
    }

    /// Returns the deadline of the earliest timer; `None` if none is pending.
    pub fn next_deadline(&self) -> Option<Moment> {
        if self.pending == 0 {
            return None;
        }
        if self.earliest.get().is_none() {
            self.earliest.set(Some(Moment::from_nanos(self.find_earliest())));
        }
        self.earliest.get()
    }

    /// Removes the earliest timer if its deadline is not after `now`. Call it until it returns
    /// `None`: then [`Wheel::next_deadline`] is in the future.
    pub fn pop_expired(&mut self, now: Moment) -> Option<T> {
        let earliest = self.next_deadline().filter(|&earliest| earliest <= now)?.as_nanos();
        if earliest >= self.turned_to {
            self.turn_to(earliest);
        }
        let payload = self.remove(self.heads[self.list_of(earliest)]);
        self.check();
        payload
    }

    /// Turns the wheel to the earliest deadline: its slot, if above the lowest level, is spread
    /// over the levels below. Every other timer keeps its place: it differs from the earliest in
    /// the same highest digit as it did from the old position.
    fn turn_to(&mut self, earliest: u64) {
        let list = self.list_of(earliest);
        self.turned_to = earliest;
        if list < SLOTS {
            return;
        }
        let head = self.heads[list];
        self.clear(list);
        let mut index = head;
        loop {
            let next = self.node(index).next;
            self.link(index);
            index = next;
            if index == head {
                break;
            }
        }
    }

    /// Returns the earliest deadline by scanning its list. At least one timer must be pending.
    fn find_earliest(&self) -> u64 {
        let overdue = self.heads[OVERDUE];
        if overdue != NONE {
            return self.node(overdue).deadline;
        }
        let level = self.levels.trailing_zeros() as usize;
        let slot = self.slots[level].trailing_zeros() as usize;
        let head = self.heads[level * SLOTS + slot];
        let mut earliest = self.node(head).deadline;
        if level == 0 {
            return earliest;
        }
        let mut index = self.node(head).next;
        while index != head {
            let node = self.node(index);
            earliest = earliest.min(node.deadline);
            index = node.next;
        }
        earliest
    }

    /// Returns the list of a timer with this deadline.
    fn list_of(&self, deadline: u64) -> usize {
        if deadline < self.turned_to {
            return OVERDUE;
        }
        let differing = (deadline ^ self.turned_to) | 1;
        let level = differing.ilog2() / DIGIT_BITS;
        let digit = ((deadline >> (level * DIGIT_BITS)) & 63) as usize;
        level as usize * SLOTS + digit
    }

    /// Puts a node at the end of its list; in the overdue list, after the nodes that are not later.
    fn link(&mut self, index: u32) {
        let deadline = self.node(index).deadline;
        let list = self.list_of(deadline);
        let head = self.heads[list];
        if head == NONE {
            self.heads[list] = index;
            if list != OVERDUE {
                self.slots[list / SLOTS] |= 1 << (list % SLOTS);
                self.levels |= 1 << (list / SLOTS);
            }
            let node = self.node_mut(index);
            (node.next, node.prev) = (index, index);
            return;
        }
        let mut next = head;
        if list == OVERDUE {
            while self.node(self.node(next).prev).deadline > deadline {
                next = self.node(next).prev;
                if next == head {
                    self.heads[list] = index;
                    break;
                }
            }
        }
        let prev = self.node(next).prev;
        self.node_mut(prev).next = index;
        self.node_mut(next).prev = index;
        let node = self.node_mut(index);
        (node.next, node.prev) = (next, prev);
    }

    /// Unlinks a pending timer's node and frees it.
    fn remove(&mut self, index: u32) -> Option<T> {
        let &Node { deadline, next, prev, .. } = self.node(index);
        let list = self.list_of(deadline);
        if next == index {
            self.clear(list);
        } else {
            self.node_mut(prev).next = next;
            self.node_mut(next).prev = prev;
            if self.heads[list] == index {
                self.heads[list] = next;
            }
        }
        if self.earliest.get() == Some(Moment::from_nanos(deadline)) {
            self.earliest.set(None);
        }
        self.pending -= 1;
        let free = self.free;
        let node = self.node_mut(index);
        node.next = free;
        node.generation = node.generation.wrapping_add(1);
        let payload = node.payload.take();
        self.free = index;
        payload
    }

    /// Marks a list as empty.
    fn clear(&mut self, list: usize) {
        self.heads[list] = NONE;
        if list == OVERDUE {
            return;
        }
        let level = list / SLOTS;
        self.slots[level] &= !(1 << (list % SLOTS));
        if self.slots[level] == 0 {
            self.levels &= !(1 << level);
        }
    }

    /// A free node, filled but in no list yet.
    fn take_node(&mut self, deadline: u64, payload: T) -> u32 {
        let payload = Some(payload);
        let index = self.free;
        if index != NONE {
            let node = self.node_mut(index);
            (node.deadline, node.payload) = (deadline, payload);
            self.free = self.node(index).next;
            return index;
        }
        let index = u32::try_from(self.nodes.len()).expect("fewer than 2³² timers");
        assert!(index != NONE, "fewer than 2³² - 1 timers");
        self.nodes.push(Node { deadline, next: NONE, prev: NONE, generation: 0, payload });
        index
    }

    fn node(&self, index: u32) -> &Node<T> {
        &self.nodes[index as usize]
    }

    fn node_mut(&mut self, index: u32) -> &mut Node<T> {
        &mut self.nodes[index as usize]
    }

    /// Checks the whole wheel in debug builds if it is small, does nothing in others.
    fn check(&self) {
        #[cfg(debug_assertions)]
        if self.pending <= CHECKED_MAX {
            self.check_invariants();
        }
    }

    /// Panics if a timer is not where its deadline says, or if a summary disagrees with the lists.
    #[cfg(any(test, debug_assertions))]
    pub fn check_invariants(&self) {
        let mut linked = 0;
        let mut earliest = u64::MAX;
        let mut seen = [0u64; LEVELS];
        for (list, &head) in self.heads.iter().enumerate().filter(|&(_, &head)| head != NONE) {
            let mut index = head;
            loop {
                let node = self.node(index);
                assert!(node.payload.is_some(), "node {index} is linked but free");
                assert_eq!(self.list_of(node.deadline), list, "node {index} is in a wrong list");
                assert_eq!(self.node(node.next).prev, index, "node {index} is linked one way");
                let last = node.next == head;
                if list == OVERDUE && !last {
                    assert!(node.deadline <= self.node(node.next).deadline, "overdue, unsorted");
                }
                linked += 1;
                earliest = earliest.min(node.deadline);
                index = node.next;
                if last {
                    break;
                }
            }
            if list != OVERDUE {
                seen[list / SLOTS] |= 1 << (list % SLOTS);
            }
        }
        assert_eq!(self.slots, seen, "the slots' bitmap is wrong");
        let seen = (0..LEVELS).filter(|&level| seen[level] != 0);
        let levels: u32 = seen.map(|level| 1 << level).sum();
        assert_eq!(self.levels, levels, "the levels' bitmap is wrong");
        assert_eq!(self.pending, linked, "the count of pending timers is wrong");
        if let Some(known) = self.earliest.get() {
            assert!(linked > 0, "nothing is pending, but an earliest deadline is known");
            assert_eq!(known.as_nanos(), earliest, "the earliest deadline is wrong");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{NONE, OVERDUE, TimerKey, Wheel};
    use crate::moment::Moment;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};
    use std::collections::BTreeMap;

    const HOUR: u64 = 3_600_000_000_000;

    fn at(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    fn drain<T>(wheel: &mut Wheel<T>, now: Moment) -> Vec<T> {
        std::iter::from_fn(|| wheel.pop_expired(now)).collect()
    }

    #[test]
    fn an_empty_wheel_has_no_deadline() {
        let mut wheel = Wheel::<u8>::default();
        assert!(wheel.is_empty());
        assert_eq!(wheel.next_deadline(), None);
        assert_eq!(wheel.pop_expired(Moment::FOREVER), None);
    }

    #[test]
    fn deadlines_are_exact_to_the_nanosecond_at_every_distance() {
        for bit in 0..64 {
            for deadline in [1 << bit, (1 << bit) + 1, u64::MAX >> bit] {
                let mut wheel = Wheel::default();
                wheel.insert(at(deadline), ());
                assert_eq!(wheel.next_deadline(), Some(at(deadline)));
                assert_eq!(wheel.pop_expired(at(deadline - 1)), None);
                assert_eq!(wheel.pop_expired(at(deadline)), Some(()));
                assert_eq!(wheel.len(), 0);
            }
        }
    }

    #[test]
    fn timers_pop_in_the_order_of_their_deadlines_after_one_long_jump() {
        let mut wheel = Wheel::default();
        for deadline in [HOUR, 3, 1 << 20, 77 * HOUR, u64::MAX, 64, 63, 4 * HOUR + 1, 4 * HOUR] {
            wheel.insert(at(deadline), deadline);
        }
        let order = [3, 63, 64, 1 << 20, HOUR, 4 * HOUR, 4 * HOUR + 1, 77 * HOUR];
        assert_eq!(drain(&mut wheel, at(u64::MAX - 1)), order);
        assert_eq!(drain(&mut wheel, Moment::FOREVER), [u64::MAX]);
    }

    #[test]
    fn equal_deadlines_pop_in_the_order_of_insertion() {
        let mut wheel = Wheel::default();
        wheel.insert(at(HOUR), 1);
        wheel.insert(at(5), 0);
        wheel.insert(at(HOUR), 2);
        assert_eq!(drain(&mut wheel, at(5)), [0]);
        wheel.insert(at(HOUR), 3);
        wheel.insert(at(HOUR - 1), 4);
        assert_eq!(drain(&mut wheel, at(HOUR - 1)), [4]);
        wheel.insert(at(HOUR), 5);
        assert_eq!(drain(&mut wheel, at(HOUR)), [1, 2, 3, 5]);
    }

    #[test]
    fn a_timer_moves_down_at_most_ten_times() {
        // The worst case: before each pop the wheel stops one digit short of the last deadline.
        let last = u64::MAX;
        let mut wheel = Wheel::default();
        wheel.insert(at(last), usize::MAX);
        let mut lists = vec![wheel.list_of(last)];
        for digit in (0..11u32).rev() {
            let stop = last.checked_shl(digit * 6).unwrap_or(0);
            wheel.insert(at(stop), 0);
            assert_eq!(wheel.pop_expired(at(stop)), Some(if digit == 0 { usize::MAX } else { 0 }));
            if digit > 0 {
                lists.push(wheel.list_of(last));
            }
        }
        lists.dedup();
        assert!(lists.is_sorted_by(|a, b| a > b), "{lists:?}");
        assert_eq!(lists.len() - 1, 10);
    }

    #[test]
    fn the_next_deadline_stays_true_when_the_earliest_timer_is_cancelled() {
        let mut wheel = Wheel::default();
        let first = wheel.insert(at(HOUR + 1), 'a');
        wheel.insert(at(HOUR + 3), 'c');
        wheel.insert(at(HOUR + 2), 'b');
        assert_eq!(wheel.next_deadline(), Some(at(HOUR + 1)));
        assert_eq!(wheel.cancel(first), Some('a'));
        assert_eq!(wheel.next_deadline(), Some(at(HOUR + 2)));
        assert_eq!(drain(&mut wheel, Moment::FOREVER), ['b', 'c']);
    }

    #[test]
    fn overdue_timers_come_first_and_in_order() {
        let mut wheel = Wheel::default();
        wheel.insert(at(100), 100);
        wheel.insert(at(200), 200);
        assert_eq!(drain(&mut wheel, at(100)), [100]);
        let keys = [50, 99, 10, 70, 10, 0].map(|deadline| wheel.insert(at(deadline), deadline));
        assert_eq!(wheel.next_deadline(), Some(at(0)));
        assert_eq!(wheel.cancel(keys[3]), Some(70));
        assert_eq!(wheel.cancel(keys[5]), Some(0));
        assert_eq!(wheel.next_deadline(), Some(at(10)));
        assert_eq!(drain(&mut wheel, at(200)), [10, 10, 50, 99, 200]);
    }

    #[test]
    fn an_empty_wheel_forgets_what_popped() {
        let mut wheel = Wheel::default();
        wheel.insert(Moment::FOREVER, 0);
        assert_eq!(drain(&mut wheel, Moment::FOREVER), [0]);
        wheel.insert(at(7), 7);
        assert_ne!(wheel.list_of(7), OVERDUE);
        assert_eq!(wheel.list_of(6), OVERDUE);
        assert_eq!(drain(&mut wheel, at(7)), [7]);
    }

    #[test]
    fn memory_grows_only_when_more_timers_are_pending_than_ever_before() {
        let mut wheel = Wheel::with_capacity(64);
        let capacity = wheel.nodes.capacity();
        for round in 0..1000 {
            let keys: Vec<_> = (0..64).map(|step| wheel.insert(at(round + step), step)).collect();
            keys.iter().step_by(2).for_each(|&key| assert!(wheel.cancel(key).is_some()));
            assert_eq!(drain(&mut wheel, at(round + 64)).len(), 32);
        }
        assert_eq!((wheel.nodes.len(), wheel.nodes.capacity()), (64, capacity));
    }

    #[test]
    fn a_stale_key_misses_even_when_its_node_is_in_use_again() {
        let mut wheel = Wheel::default();
        let popped = wheel.insert(at(1), "popped");
        assert_eq!(wheel.cancel(TimerKey { index: NONE, ..popped }), None);
        assert_eq!(wheel.pop_expired(at(1)), Some("popped"));
        assert_eq!(wheel.cancel(popped), None);
        let cancelled = wheel.insert(at(2), "cancelled");
        assert_eq!(wheel.cancel(popped), None);
        assert_eq!(wheel.cancel(cancelled), Some("cancelled"));
        let pending = wheel.insert(at(3), "pending");
        assert_eq!((wheel.cancel(popped), wheel.cancel(cancelled)), (None, None));
        assert_eq!(popped.index, pending.index);
        assert_eq!(wheel.cancel(pending), Some("pending"));
    }

    #[test]
    #[should_panic(expected = "the earliest deadline is wrong")]
    fn the_invariants_are_checked_after_each_call() {
        let mut wheel = Wheel::default();
        wheel.insert(at(2), ());
        wheel.earliest.set(Some(at(1)));
        wheel.insert(at(3), ());
    }

    /// The naive twin: a sorted map whose keys contain the order of insertion.
    #[derive(Default)]
    struct Model {
        timers: BTreeMap<(Moment, u32), TimerKey>,
        keys: Vec<(TimerKey, Moment)>,
    }

    impl Model {
        fn insert(&mut self, wheel: &mut Wheel<u32>, deadline: Moment) {
            let id = u32::try_from(self.keys.len()).unwrap();
            let key = wheel.insert(deadline, id);
            self.timers.insert((deadline, id), key);
            self.keys.push((key, deadline));
        }

        /// Cancels one of the last few hundred timers, which often is stale.
        fn cancel(&mut self, wheel: &mut Wheel<u32>, random: u64) {
            let back = (random % 500) as usize;
            let Some(place) = self.keys.len().checked_sub(back + 1) else { return };
            let (key, deadline) = self.keys[place];
            let id = u32::try_from(place).unwrap();
            let expected = self.timers.remove(&(deadline, id)).map(|_| id);
            assert_eq!(wheel.cancel(key), expected);
        }

        fn pop(&mut self, wheel: &mut Wheel<u32>, now: Moment) -> bool {
            let first = self.timers.first_entry().filter(|entry| entry.key().0 <= now);
            let expected = first.map(|entry| entry.remove_entry().0.1);
            assert_eq!(wheel.pop_expired(now), expected);
            expected.is_some()
        }
    }

    #[test]
    fn the_wheel_agrees_with_a_sorted_map_over_a_million_operations() {
        let mut random = ChaCha8Rng::seed_from_u64(0x_5EED);
        let mut wheel = Wheel::default();
        let mut model = Model::default();
        let (mut now, mut popped, mut longest) = (0u64, 0, 0);
        for operation in 0..1_000_000 {
            let choice = random.next_u32() % 100;
            // A random number of random bits: all distances are equally likely.
            let distance = random.next_u64() >> (random.next_u32() % 64);
            match choice {
                0..40 => {
                    let spread = if choice < 5 { distance } else { distance % (10 * HOUR) };
                    model.insert(&mut wheel, at(now.saturating_add(spread)));
                }
                40..43 => model.insert(&mut wheel, at(now.saturating_sub(distance % HOUR))),
                43 => model.insert(&mut wheel, Moment::FOREVER),
                44..70 => model.cancel(&mut wheel, distance),
                70..85 => popped += u32::from(model.pop(&mut wheel, at(now))),
                85..99 => now = now.saturating_add(distance >> 24),
                _ => {
                    now = if now > u64::MAX / 2 { 0 } else { now.saturating_add(distance >> 8) };
                    while model.pop(&mut wheel, at(now)) {
                        popped += 1;
                    }
                }
            }
            let first = model.timers.first_key_value().map(|(&(deadline, _), _)| deadline);
            if choice.is_multiple_of(3) {
                assert_eq!(wheel.next_deadline(), first);
            }
            assert_eq!(wheel.len(), model.timers.len());
            longest = longest.max(wheel.len());
            if operation % 1000 == 0 {
                wheel.check_invariants();
            }
        }
        assert!(
            popped > 100_000 && longest > 1_000,
            "a lame run: {popped} popped, {longest} pending"
        );
        while model.pop(&mut wheel, Moment::FOREVER) {}
        assert!(wheel.is_empty());
    }
}
