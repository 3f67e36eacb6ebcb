//! Eviction: the choice of the entry that makes room for another.
//!
//! Three queues (S3-FIFO, Yang et al., SOSP 2023). New entries wait in a small one, a tenth of all.
//! Entries that are hit there move to the main queue; the others leave, and only their hashes are
//! kept for a while, so that they enter the main queue at once if they come back. In the main queue
//! an entry goes round once more for each hit, up to three. So names that are asked for once,
//! floods of random subdomains above all, pass through a tenth of the cache; and a hit writes one
//! word at most, where an exact LRU order would write three links. Hit ratios of both and others,
//! over Zipf traffic with scans, are in `benches/RESULTS.md`.
//!
//! The exact order is available as [`Order::Exact`]: a hit notes its time, and the entry with the
//! earliest one leaves.
//!
//! The queues belong to a shard, whose lock protects them. Hits are noted without the lock, in a
//! word of the entry ([`Order::used`]) that is written only if it changes: never again after three
//! hits until the queue has gone round.

use crate::engine::heap::{Aging, Heap};
use crate::engine::list::{Link, List};
use crate::engine::memory::{grow, reserved};
use crate::moment::Moment;

/// Divisor of all entries: share of the small queue.
const SMALL_SHARE: usize = 10;
/// Maximum number of counted hits.
const HITS_MAX: u64 = 3;
/// Maximum number of entries examined for one victim; the last one is evicted despite its hits.
const STEPS_MAX: usize = 64;
/// The same for the exact order, in which an entry is moved back once for all its hits: a worker
/// holds a lock meanwhile, for some 100 µs at most.
const EXACT_STEPS_MAX: usize = 1_024;

/// Order in which entries are evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Entries that were hit again stay.
    Scanned,
    /// The least recently used entry is evicted first.
    Exact,
}

impl Order {
    /// Returns the word of an entry after a hit; `None`: it does not change. `time`: a number that
    /// grows with each hit.
    #[inline(always)]
    pub fn used(self, word: u64, time: u64) -> Option<u64> {
        match self {
            Self::Scanned => (word < HITS_MAX).then_some(word + 1),
            Self::Exact => Some(time),
        }
    }
}

/// Access to the entries of the slots.
pub trait Tenants {
    /// Returns the word that [`Order::used`] has changed.
    fn used(&self, slot: u32) -> u64;
    /// Replaces that word.
    fn set_used(&mut self, slot: u32, word: u64);
    /// Returns true if the entry is useless, so that it is not spared for its hits.
    fn is_dead(&self, slot: u32) -> bool;
}

/// Eviction order of the entries of a shard.
pub struct Eviction {
    order: Order,
    slots_max: usize,
    marks: Vec<Mark>,
    small: List,
    main: List,
    /// The exact order, and for each slot the time by which it is in it.
    exact: Heap,
    ages: Vec<Age>,
    /// A single unused ghost until the first new entry leaves; then the maximum number.
    ghosts: Box<[Ghost]>,
    /// Number of entries that have left the small queue, modulo 2^32.
    left: u32,
    len: usize,
}

/// State of a slot's entry.
#[derive(Clone, Copy)]
struct Mark {
    link: Link,
    hash: u32,
    in_main: bool,
}

/// Place of a slot in the exact order.
#[derive(Clone, Copy)]
struct Age {
    used: Moment,
    place: Option<u32>,
}

impl Aging for Age {
    fn due(&self) -> Moment {
        self.used
    }

    fn place(&mut self) -> &mut Option<u32> {
        &mut self.place
    }
}

/// Hash of an entry that left the small queue, and its number; initially zero.
type Ghost = (u32, u32);

impl Eviction {
    /// For slots 0 to `slots_max`, all vacant.
    pub fn new(slots_max: usize, order: Order) -> Self {
        Self {
            order,
            slots_max,
            marks: Vec::new(),
            small: List::default(),
            main: List::default(),
            exact: Heap::default(),
            ages: Vec::new(),
            ghosts: Box::new([(0, 0)]),
            // Makes the initial zeros count as too old.
            left: slots_max as u32,
            len: 0,
        }
    }

    /// Number of entries.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the reserved memory in bytes.
    pub(crate) fn reserved(&self) -> usize {
        let tables = reserved(&self.marks) + reserved(&self.ages) + self.exact.reserved();
        tables + size_of_val(&*self.ghosts)
    }

    /// Returns the maximum of reserved memory in bytes.
    pub(crate) fn reserved_max(&self) -> usize {
        let marks = self.slots_max * size_of::<Mark>();
        match self.order {
            Order::Scanned => marks + self.ghosts_max() * size_of::<Ghost>(),
            Order::Exact => {
                marks + self.slots_max * (size_of::<Age>() + size_of::<u32>()) + size_of::<Ghost>()
            }
        }
    }

    fn ghosts_max(&self) -> usize {
        self.slots_max.next_power_of_two()
    }

    /// Removes all entries.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.slots_max, self.order);
    }

    /// Returns the number of slots for which there is room at present.
    pub(super) fn capacity(&self) -> usize {
        self.marks.capacity()
    }

    /// Returns the hash of the entry in `slot`.
    pub(super) fn hash(&self, slot: u32) -> u32 {
        self.marks[slot as usize].hash
    }

    /// Returns true if the entry in `slot` is in the main queue.
    pub(super) fn is_in_main(&self, slot: u32) -> bool {
        self.marks[slot as usize].in_main
    }

    /// Adds an entry in `slot`, which was vacant; vacant slots are used in ascending order the
    /// first time. `used`: its word. `in_main`: it was in the main queue of another cache.
    pub fn insert(&mut self, slot: u32, hash: u32, used: u64, in_main: bool) {
        let (ghost, left) = self.ghosts[hash as usize & (self.ghosts.len() - 1)];
        let age = self.left.wrapping_sub(left) as usize;
        let in_main = in_main || ghost == hash && age < self.slots_max;
        let mark = Mark { link: Link::OFF, hash, in_main };
        match self.marks.get_mut(slot as usize) {
            Some(vacant) => *vacant = mark,
            None => {
                if self.marks.len() == self.marks.capacity() {
                    self.grow();
                }
                self.marks.push(mark);
            }
        }
        self.len += 1;
        if self.order == Order::Exact {
            let age = Age { used: Moment::from_nanos(used), place: None };
            match self.ages.get_mut(slot as usize) {
                Some(vacant) => *vacant = age,
                None => self.ages.push(age),
            }
            self.exact.push(&mut self.ages, slot);
            return;
        }
        let queue = if in_main { &mut self.main } else { &mut self.small };
        queue.push_back(&mut self.marks, slot, |mark| &mut mark.link);
    }

    /// Makes room for more slots.
    #[cold]
    fn grow(&mut self) {
        grow(&mut self.marks, self.slots_max);
        if self.order == Order::Exact {
            let slots = self.marks.capacity();
            self.ages.reserve_exact(slots - self.ages.len());
            self.exact.make_room(slots);
        }
    }

    /// Removes the entry in `slot` without eviction.
    pub(crate) fn remove(&mut self, slot: u32) {
        self.len -= 1;
        if self.order == Order::Exact {
            self.exact.remove(&mut self.ages, slot);
            return;
        }
        let queue =
            if self.marks[slot as usize].in_main { &mut self.main } else { &mut self.small };
        queue.remove(&mut self.marks, slot, |mark| &mut mark.link);
    }

    /// Removes the entry to evict and returns it; `None` if there is none.
    pub fn victim(&mut self, tenants: &mut impl Tenants) -> Option<u32> {
        let slot = match self.order {
            Order::Scanned => self.scan(tenants),
            Order::Exact => self.least_recent(tenants),
        };
        self.len -= usize::from(slot.is_some());
        slot
    }

    fn scan(&mut self, tenants: &mut impl Tenants) -> Option<u32> {
        for step in 1.. {
            let newcomers = self.small.len() * SMALL_SHARE >= self.len || self.main.is_empty();
            let queue = if newcomers { &mut self.small } else { &mut self.main };
            let slot = queue.front()?;
            queue.remove(&mut self.marks, slot, |mark| &mut mark.link);
            let mark = &mut self.marks[slot as usize];
            let hits = tenants.used(slot);
            if hits > 0 && step < STEPS_MAX && !tenants.is_dead(slot) {
                tenants.set_used(slot, if newcomers { 0 } else { hits - 1 });
                mark.in_main = true;
                self.main.push_back(&mut self.marks, slot, |mark| &mut mark.link);
                continue;
            }
            if newcomers {
                self.left = self.left.wrapping_add(1);
                let hash = mark.hash;
                if self.ghosts.len() < self.ghosts_max() {
                    // Zeroed pages, which the kernel provides on first access.
                    self.ghosts = vec![(0, 0); self.ghosts_max()].into();
                }
                let place = hash as usize & (self.ghosts.len() - 1);
                self.ghosts[place] = (hash, self.left);
            }
            return Some(slot);
        }
        None
    }

    /// Entries that were used since they were put into the order move back; each is there once.
    /// After [`EXACT_STEPS_MAX`] of them, the one that is first in the order by then is evicted.
    fn least_recent(&mut self, tenants: &impl Tenants) -> Option<u32> {
        for step in 1.. {
            let slot = self.exact.first()?;
            let used = Moment::from_nanos(tenants.used(slot));
            let moved = self.ages[slot as usize].used < used;
            self.exact.remove(&mut self.ages, slot);
            if !moved || step > EXACT_STEPS_MAX {
                return Some(slot);
            }
            self.ages[slot as usize].used = used;
            self.exact.push(&mut self.ages, slot);
        }
        None
    }

    /// Returns true if `slot` is in the small queue; `None` if it is vacant.
    #[cfg(test)]
    fn is_new(&self, slot: u32) -> Option<bool> {
        let mark = self.marks.get(slot as usize)?;
        mark.link.is_on_list().then_some(!mark.in_main)
    }
}

#[cfg(test)]
mod tests {
    use super::{Eviction, Order, STEPS_MAX, Tenants};
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use std::collections::VecDeque;

    /// Entries with their words.
    struct Bed {
        eviction: Eviction,
        used: Vec<u64>,
        time: u64,
    }

    /// The words, and which entries are dead.
    struct Entries<'a>(&'a mut [u64], fn(u32) -> bool);

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

    impl Bed {
        fn new(slots: usize, order: Order) -> Self {
            Self { eviction: Eviction::new(slots, order), used: vec![0; slots], time: 0 }
        }

        fn hit(&mut self, slot: u32) {
            self.time += 1;
            let word = &mut self.used[slot as usize];
            *word = self.eviction.order.used(*word, self.time).unwrap_or(*word);
        }

        fn insert(&mut self, slot: u32, hash: u32) {
            self.time += 1;
            let used = if self.eviction.order == Order::Exact { self.time } else { 0 };
            self.used[slot as usize] = used;
            self.eviction.insert(slot, hash, used, false);
        }

        fn remove(&mut self, slot: u32) {
            self.eviction.remove(slot);
        }

        fn victim(&mut self, dead: fn(u32) -> bool) -> Option<u32> {
            self.eviction.victim(&mut Entries(&mut self.used, dead))
        }

        fn is_new(&self, slot: u32) -> Option<bool> {
            self.eviction.is_new(slot)
        }

        fn len(&self) -> usize {
            self.eviction.len()
        }
    }

    fn filled(slots: u32) -> Bed {
        let mut eviction = Bed::new(slots as usize, Order::Scanned);
        (0..slots).for_each(|slot| eviction.insert(slot, slot + 1));
        eviction
    }

    const ALIVE: fn(u32) -> bool = |_| false;

    #[test]
    fn a_hit_changes_nothing_once_three_are_counted() {
        let used = |word| Order::Scanned.used(word, 99);
        assert_eq!([0, 1, 2, 3, 4].map(used), [Some(1), Some(2), Some(3), None, None]);
    }

    #[test]
    fn newcomers_leave_in_their_order_unless_they_were_asked_for() {
        let mut eviction = filled(20);
        eviction.hit(0);
        assert_eq!([0; 3].map(|_| eviction.victim(ALIVE)), [1, 2, 3].map(Some));
        assert_eq!(eviction.is_new(0), Some(false));
        assert_eq!(eviction.is_new(4), Some(true));
        assert_eq!(eviction.len(), 17);
    }

    #[test]
    fn in_the_exact_order_the_least_recently_used_leaves() {
        let mut eviction = Bed::new(4, Order::Exact);
        (0..4).for_each(|slot| eviction.insert(slot, slot + 1));
        eviction.hit(0);
        eviction.hit(2);
        assert_eq!(
            [0; 5].map(|_| eviction.victim(ALIVE)),
            [Some(1), Some(3), Some(0), Some(2), None]
        );
        eviction.insert(3, 9);
        eviction.insert(1, 4);
        eviction.remove(3);
        assert_eq!((eviction.victim(ALIVE), eviction.len()), (Some(1), 0));
    }

    #[test]
    fn an_entry_that_comes_back_soon_enters_the_main_queue() {
        let mut eviction = filled(20);
        assert_eq!(eviction.victim(ALIVE), Some(0));
        eviction.insert(0, 1);
        assert_eq!(eviction.is_new(0), Some(false));
        assert_eq!(eviction.victim(ALIVE), Some(1));
        eviction.insert(1, 99);
        assert_eq!(eviction.is_new(1), Some(true));
    }

    #[test]
    fn an_entry_that_comes_back_late_enters_the_small_queue() {
        let mut eviction = filled(4);
        assert_eq!(eviction.victim(ALIVE), Some(0));
        for hash in [10, 11, 12, 14, 15] {
            let vacant = (0..4).find(|slot| eviction.is_new(*slot).is_none()).unwrap();
            eviction.insert(vacant, hash);
            assert!(eviction.victim(ALIVE).is_some());
        }
        let vacant = (0..4).find(|slot| eviction.is_new(*slot).is_none()).unwrap();
        eviction.insert(vacant, 1);
        assert_eq!(eviction.is_new(vacant), Some(true));
    }

    #[test]
    fn names_asked_for_once_do_not_push_out_the_others() {
        let mut eviction = filled(100);
        for _ in 0..2 {
            (0..50).for_each(|slot| eviction.hit(slot));
        }
        for hash in 1_000..1_200 {
            let victim = eviction.victim(ALIVE).unwrap();
            assert!(victim >= 50, "{victim} was asked for");
            eviction.insert(victim, hash);
        }
    }

    #[test]
    fn dead_entries_are_not_spared() {
        let mut eviction = filled(10);
        (0..10).for_each(|slot| eviction.hit(slot));
        assert_eq!(eviction.victim(|slot| slot == 3), Some(3));
    }

    #[test]
    fn one_victim_costs_a_bounded_number_of_steps() {
        let mut eviction = filled(1_000);
        (0..1_000).for_each(|slot| eviction.hit(slot));
        assert_eq!(eviction.victim(ALIVE), Some(STEPS_MAX as u32 - 1));
    }

    #[test]
    fn an_empty_class_has_no_victim() {
        assert_eq!(Bed::new(4, Order::Scanned).victim(ALIVE), None);
        let mut eviction = filled(2);
        eviction.remove(0);
        assert_eq!(eviction.victim(ALIVE), Some(1));
        assert_eq!(eviction.victim(ALIVE), None);
        assert_eq!(eviction.len(), 0);
    }

    proptest! {
        /// Against queues in plain vectors. Sixteen slots: the step limit is never reached.
        #[test]
        fn behaves_as_its_twin_does(steps in proptest::collection::vec(any::<(u8, u8)>(), 0..400)) {
            let mut eviction = Bed::new(16, Order::Scanned);
            let mut queues = [VecDeque::new(), VecDeque::new()];
            let mut tenants = [None; 16];
            let (mut ghosts, mut left) = ([(0, 0); 16], 16_usize);
            for (action, choice) in steps {
                let slot = u32::from(choice) % 16;
                let here = slot as usize;
                match (action % 4, tenants[here]) {
                    (0 | 1, None) if eviction.eviction.marks.len() >= here => {
                        let hash = u32::from(choice / 8) + 1;
                        let (ghost, when) = ghosts[hash as usize % 16];
                        let queue = usize::from(ghost == hash && left - when < 16);
                        queues[queue].push_back(slot);
                        tenants[here] = Some((hash, 0));
                        eviction.insert(slot, hash);
                    }
                    (0 | 1, Some((hash, hits))) => {
                        tenants[here] = Some((hash, (hits + 1).min(3)));
                        eviction.hit(slot);
                    }
                    (2, Some(_)) => {
                        tenants[here] = None;
                        queues.iter_mut().for_each(|queue| queue.retain(|other| *other != slot));
                        eviction.remove(slot);
                    }
                    (3, _) => {
                        let expected = loop {
                            let [small, main] = queues.each_ref().map(VecDeque::len);
                            let queue = usize::from(small * 10 < small + main && main > 0);
                            let Some(slot) = queues[queue].pop_front() else { break None };
                            let (hash, hits) = tenants[slot as usize].unwrap();
                            if hits > 0 && slot != 5 {
                                let hits = if queue == 0 { 0 } else { hits - 1 };
                                tenants[slot as usize] = Some((hash, hits));
                                queues[1].push_back(slot);
                                continue;
                            }
                            tenants[slot as usize] = None;
                            if queue == 0 {
                                left += 1;
                                ghosts[hash as usize % 16] = (hash, left);
                            }
                            break Some(slot);
                        };
                        prop_assert_eq!(eviction.victim(|slot| slot == 5), expected);
                    }
                    _ => {}
                }
                prop_assert_eq!(eviction.len(), queues[0].len() + queues[1].len());
                for slot in 0..16 {
                    let queue = (0..2).find(|queue| queues[*queue].contains(&slot));
                    prop_assert_eq!(eviction.is_new(slot), queue.map(|queue| queue == 0));
                }
            }
        }
    }
}
