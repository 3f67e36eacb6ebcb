//! Times at which connections are checked for stuck queries.
//!
//! A TCP connection with more queries than its upstream is known to work on at a time has one time
//! set, however many queries come and go; at that time its queries are checked. The data path sets
//! at most one time per TCP connection and head wait.

use crate::engine::heap::{Aging, Heap};
use crate::engine::memory::reserved;
use crate::moment::Moment;

#[derive(Clone, Copy, Debug)]
struct Stall {
    at: Moment,
    place: Option<u32>,
}

impl Aging for Stall {
    fn due(&self) -> Moment {
        self.at
    }
    fn place(&mut self) -> &mut Option<u32> {
        &mut self.place
    }
}

/// At most one time for each slot of a pool's connections.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    stalls: Vec<Stall>,
    heap: Heap,
}

impl Stalls {
    /// Room for slots numbered below `capacity`.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { stalls: Vec::with_capacity(capacity), heap: Heap::with_capacity(capacity) }
    }

    /// Makes room for slots numbered below `capacity`.
    pub(super) fn make_room(&mut self, capacity: usize) {
        self.stalls.reserve_exact(capacity.saturating_sub(self.stalls.len()));
        self.heap.make_room(capacity);
    }

    /// Returns the reserved memory in bytes.
    pub(super) fn reserved(&self) -> usize {
        reserved(&self.stalls) + self.heap.reserved()
    }

    pub(super) fn add_slot(&mut self) {
        self.stalls.push(Stall { at: Moment::FOREVER, place: None });
    }

    /// Returns true if `slot` has a time set.
    #[inline]
    pub(super) fn is_set(&self, slot: u32) -> bool {
        self.stalls[slot as usize].place.is_some()
    }

    /// Sets the time to check `slot`, which has none set.
    pub(super) fn set(&mut self, slot: u32, at: Moment) {
        debug_assert!(!self.is_set(slot), "slot {slot} is looked at already");
        self.stalls[slot as usize].at = at;
        self.heap.push(&mut self.stalls, slot);
    }

    /// Removes the time of `slot`.
    pub(super) fn clear(&mut self, slot: u32) {
        self.heap.remove(&mut self.stalls, slot);
    }

    /// Returns the earliest time of all.
    pub(super) fn next(&self) -> Option<Moment> {
        self.heap.first().map(|slot| self.stalls[slot as usize].at)
    }

    /// Returns a slot to check now, and removes its time.
    pub(super) fn overdue(&mut self, now: Moment) -> Option<u32> {
        let slot = self.heap.first().filter(|slot| self.stalls[*slot as usize].at <= now)?;
        self.clear(slot);
        Some(slot)
    }
}
