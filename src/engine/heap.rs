//! Intrusive priority queue: the earliest member first, removal from any place.
//!
//! Connections retire at their age limit, which jitter puts out of dialling order, and most are
//! closed earlier for other reasons. A binary heap over slots whose members know their own place
//! does both in logarithmic time, without stale entries that would accumulate. As with
//! [`super::list`], each call lends the slab.

use crate::moment::Moment;

/// Operations of a member of a heap.
pub(crate) trait Aging {
    /// Returns the due time, which must not change while the member is in the heap.
    fn due(&self) -> Moment;
    /// Place in the heap; `None` if it is in none.
    fn place(&mut self) -> &mut Option<u32>;
}

/// Slots, the earliest due first.
#[derive(Debug, Default)]
pub(crate) struct Heap {
    slots: Vec<u32>,
}

impl Heap {
    /// An empty heap with room for `capacity` slots, so that pushing never allocates.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { slots: Vec::with_capacity(capacity) }
    }

    /// Makes room for `capacity` slots.
    pub(crate) fn make_room(&mut self, capacity: usize) {
        self.slots.reserve_exact(capacity.saturating_sub(self.slots.len()));
    }

    /// Returns the reserved memory in bytes.
    pub(crate) fn reserved(&self) -> usize {
        self.slots.capacity() * size_of::<u32>()
    }

    /// Returns the slot that is due first.
    pub(crate) fn first(&self) -> Option<u32> {
        self.slots.first().copied()
    }

    /// Adds `slot`, which must be in no heap.
    pub(crate) fn push<T: Aging>(&mut self, slab: &mut [T], slot: u32) {
        self.slots.push(slot);
        self.rise(slab, self.slots.len() - 1);
    }

    /// Removes `slot`; does nothing if it is not in the heap.
    pub(crate) fn remove<T: Aging>(&mut self, slab: &mut [T], slot: u32) {
        let Some(place) = slab[slot as usize].place().take() else { return };
        let place = place as usize;
        let last = self.slots.pop();
        if let Some(last) = last.filter(|last| *last != slot) {
            self.slots[place] = last;
            let place = self.rise(slab, place);
            self.sink(slab, place);
        }
    }

    /// Moves the slot at `place` up to its place in the order; returns that place.
    fn rise<T: Aging>(&mut self, slab: &mut [T], mut place: usize) -> usize {
        let slot = self.slots[place];
        let due = slab[slot as usize].due();
        while place > 0 {
            let parent = (place - 1) / 2;
            if slab[self.slots[parent] as usize].due() <= due {
                break;
            }
            self.put(slab, place, self.slots[parent]);
            place = parent;
        }
        self.put(slab, place, slot);
        place
    }

    /// Moves the slot at `place` down to its place in the order.
    fn sink<T: Aging>(&mut self, slab: &mut [T], mut place: usize) {
        let slot = self.slots[place];
        let due = slab[slot as usize].due();
        loop {
            let children = 2 * place + 1..(2 * place + 3).min(self.slots.len());
            let due_of = |child: usize| slab[self.slots[child] as usize].due();
            let Some(child) = children.min_by_key(|child| due_of(*child)) else { break };
            if due_of(child) >= due {
                break;
            }
            self.put(slab, place, self.slots[child]);
            place = child;
        }
        self.put(slab, place, slot);
    }

    fn put<T: Aging>(&mut self, slab: &mut [T], place: usize, slot: u32) {
        self.slots[place] = slot;
        *slab[slot as usize].place() = Some(place as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::{Aging, Heap};
    use crate::moment::Moment;
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use std::collections::BTreeSet;

    struct Member(u64, Option<u32>);

    impl Aging for Member {
        fn due(&self) -> Moment {
            Moment::from_nanos(self.0)
        }
        fn place(&mut self) -> &mut Option<u32> {
            &mut self.1
        }
    }

    proptest! {
        #[test]
        fn behaves_as_a_sorted_set_does(
            dues in proptest::collection::vec(0u64..20, 32),
            steps in proptest::collection::vec(any::<(bool, u8)>(), 0..200),
        ) {
            let mut slab: Vec<_> = dues.iter().map(|due| Member(*due, None)).collect();
            let (mut heap, mut model) = (Heap::default(), BTreeSet::new());
            for (push, slot) in steps {
                let slot = u32::from(slot % 32);
                let entry = (dues[slot as usize], slot);
                if push && model.insert(entry) {
                    heap.push(&mut slab, slot);
                } else if !push {
                    model.remove(&entry);
                    heap.remove(&mut slab, slot);
                }
                let first = heap.first().map(|slot| dues[slot as usize]);
                prop_assert_eq!(first, model.first().map(|entry| entry.0));
            }
            while let Some(slot) = heap.first() {
                prop_assert_eq!(Some(dues[slot as usize]), model.first().map(|entry| entry.0));
                model.remove(&(dues[slot as usize], slot));
                heap.remove(&mut slab, slot);
            }
            prop_assert_eq!(model.len(), 0);
        }
    }
}
