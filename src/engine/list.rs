//! Intrusive lists: queues with removal from any place in constant time.
//!
//! A query's deadline, a pool's idle connections, a connection's outstanding queries: all are
//! first-in first-out, and all lose members in the middle when an answer comes. The links are in
//! the members, so nothing is allocated and a member is found by its slot. A list has no reference
//! to its slab: each call lends it, with a function that selects the link in a member, because one
//! member is on several lists.

/// No slot.
pub(crate) const NONE: u32 = u32::MAX;

/// A member's place in one list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    before: u32,
    behind: u32,
    on_list: bool,
}

impl Link {
    /// On no list.
    pub(crate) const OFF: Self = Self { before: NONE, behind: NONE, on_list: false };

    /// Returns true if the member is on the list that this link is for.
    pub(crate) fn is_on_list(&self) -> bool {
        self.on_list
    }
}

/// A first-in first-out list of slots.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    front: u32,
    back: u32,
    len: u32,
}

impl Default for List {
    fn default() -> Self {
        Self { front: NONE, back: NONE, len: 0 }
    }
}

impl List {
    /// Returns the number of members.
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// Returns true if there is no member.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the slot that was added first.
    pub(crate) fn front(&self) -> Option<u32> {
        (self.front != NONE).then_some(self.front)
    }

    /// Returns the slot that was added next after `slot`, which is on the list.
    pub(crate) fn after<T>(
        &self,
        slab: &[T],
        slot: u32,
        link: impl Fn(&T) -> &Link,
    ) -> Option<u32> {
        let behind = link(&slab[slot as usize]).behind;
        (behind != NONE).then_some(behind)
    }

    /// The slots in the order of the list.
    pub(crate) fn iter<'a, T>(
        &self,
        slab: &'a [T],
        link: impl Fn(&T) -> &Link + 'a,
    ) -> impl Iterator<Item = u32> {
        std::iter::successors(self.front(), move |slot| {
            let behind = link(&slab[*slot as usize]).behind;
            (behind != NONE).then_some(behind)
        })
    }

    /// Adds `slot` at the end. It must not be on this list.
    pub(crate) fn push_back<T>(
        &mut self,
        slab: &mut [T],
        slot: u32,
        link: impl Fn(&mut T) -> &mut Link,
    ) {
        let back = std::mem::replace(&mut self.back, slot);
        let place = link(&mut slab[slot as usize]);
        debug_assert!(!place.on_list, "slot {slot} is on the list already");
        *place = Link { before: back, behind: NONE, on_list: true };
        match back {
            NONE => self.front = slot,
            back => link(&mut slab[back as usize]).behind = slot,
        }
        self.len += 1;
    }

    /// Adds `slot` at the front. It must not be on this list.
    pub(crate) fn push_front<T>(
        &mut self,
        slab: &mut [T],
        slot: u32,
        link: impl Fn(&mut T) -> &mut Link,
    ) {
        let front = std::mem::replace(&mut self.front, slot);
        let place = link(&mut slab[slot as usize]);
        debug_assert!(!place.on_list, "slot {slot} is on the list already");
        *place = Link { before: NONE, behind: front, on_list: true };
        match front {
            NONE => self.back = slot,
            front => link(&mut slab[front as usize]).before = slot,
        }
        self.len += 1;
    }

    /// Removes `slot`; does nothing if it is not on the list.
    pub(crate) fn remove<T>(
        &mut self,
        slab: &mut [T],
        slot: u32,
        link: impl Fn(&mut T) -> &mut Link,
    ) {
        let place = std::mem::replace(link(&mut slab[slot as usize]), Link::OFF);
        if !place.on_list {
            return;
        }
        match place.before {
            NONE => self.front = place.behind,
            before => link(&mut slab[before as usize]).behind = place.behind,
        }
        match place.behind {
            NONE => self.back = place.before,
            behind => link(&mut slab[behind as usize]).before = place.before,
        }
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::{Link, List};
    use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};
    use std::collections::VecDeque;

    fn drain(list: &mut List, slab: &mut [Link]) -> Vec<u32> {
        let mut order = Vec::new();
        while let Some(slot) = list.front() {
            list.remove(slab, slot, |link| link);
            order.push(slot);
        }
        order
    }

    #[test]
    fn members_leave_from_anywhere_and_the_rest_keep_their_order() {
        let mut slab = [Link::OFF; 5];
        let mut list = List::default();
        for slot in [3, 0, 4, 1] {
            list.push_back(&mut slab, slot, |link| link);
        }
        list.remove(&mut slab, 0, |link| link);
        list.remove(&mut slab, 2, |link| link);
        assert_eq!(list.len(), 3);
        list.push_back(&mut slab, 0, |link| link);
        assert_eq!(drain(&mut list, &mut slab), [3, 4, 1, 0]);
        assert!(list.is_empty() && slab.iter().all(|link| !link.is_on_list()));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u32),
        PushFront(u32),
        Remove(u32),
        Pop,
    }

    fn step() -> impl Strategy<Value = Step> {
        let slot = any::<u32>().prop_map(|slot| slot % 16);
        prop_oneof![
            slot.clone().prop_map(Step::Push),
            slot.clone().prop_map(Step::PushFront),
            slot.prop_map(Step::Remove),
            Just(Step::Pop)
        ]
    }

    proptest! {
        #[test]
        fn behaves_as_a_deque_does(steps in proptest::collection::vec(step(), 0..200)) {
            let mut slab = [Link::OFF; 16];
            let (mut list, mut model) = (List::default(), VecDeque::new());
            for step in steps {
                match step {
                    Step::Push(slot) if !model.contains(&slot) => {
                        list.push_back(&mut slab, slot, |link| link);
                        model.push_back(slot);
                    }
                    Step::PushFront(slot) if !model.contains(&slot) => {
                        list.push_front(&mut slab, slot, |link| link);
                        model.push_front(slot);
                    }
                    Step::Push(slot) | Step::PushFront(slot) | Step::Remove(slot) => {
                        list.remove(&mut slab, slot, |link| link);
                        model.retain(|other| *other != slot);
                    }
                    Step::Pop => {
                        prop_assert_eq!(list.front(), model.pop_front());
                        if let Some(slot) = list.front() {
                            list.remove(&mut slab, slot, |link| link);
                        }
                    }
                }
                prop_assert_eq!(list.len(), model.len());
            }
            prop_assert_eq!(drain(&mut list, &mut slab), Vec::from(model));
        }
    }
}
