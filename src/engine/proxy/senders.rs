//! A table of values by the address of a sender, at most a fixed number of them.
//!
//! When the table is full, the least recently used entry gives way. A key remains valid as long as
//! its entry stays, so that a value can be found again without a search.

use crate::engine::key::Key;
use crate::engine::list::{Link, List};
use std::collections::HashMap;
use std::net::SocketAddr;

struct Slot<T> {
    generation: u32,
    sender: SocketAddr,
    value: T,
    link: Link,
}

/// Values by sender.
pub(crate) struct Senders<T> {
    by_sender: HashMap<SocketAddr, u32, ahash::RandomState>,
    slots: Vec<Slot<T>>,
    /// Slots without a sender.
    free: Vec<u32>,
    /// Slots from the least recently used to the last used.
    by_use: List,
    count_max: usize,
}

impl<T> Senders<T> {
    /// Creates a table for up to `count_max` senders, at least 1. `hasher` is keyed, because
    /// strangers choose their addresses.
    pub(crate) fn new(count_max: usize, hasher: ahash::RandomState) -> Self {
        Self {
            by_sender: HashMap::with_hasher(hasher),
            slots: Vec::new(),
            free: Vec::new(),
            by_use: List::default(),
            count_max: count_max.max(1),
        }
    }

    /// Returns the maximum number of bytes of a table for `count_max` senders.
    pub(crate) fn bytes_max(count_max: usize) -> usize {
        // The map and the slots double when they are full.
        let entry = size_of::<(SocketAddr, u32)>() + 1;
        let slot = size_of::<Slot<T>>() + size_of::<u32>();
        2 * count_max.next_power_of_two() * entry + 2 * count_max * slot
    }

    /// Returns the value of `sender`, which counts as a use.
    pub(crate) fn get(&mut self, sender: SocketAddr) -> Option<&mut T> {
        let slot = *self.by_sender.get(&sender)?;
        self.touch(slot);
        Some(&mut self.slots[slot as usize].value)
    }

    /// Sets the value of `sender`, and returns its key.
    pub(crate) fn set(&mut self, sender: SocketAddr, value: T) -> Key {
        let slot = match self.by_sender.get(&sender) {
            Some(slot) => {
                let slot = *slot;
                self.touch(slot);
                self.slots[slot as usize].value = value;
                slot
            }
            None => self.insert(sender, value),
        };
        debug_assert_eq!(self.by_sender.len(), self.by_use.len(), "an entry is on no list");
        Key { index: slot, generation: self.slots[slot as usize].generation }
    }

    /// Removes `sender`.
    pub(crate) fn forget(&mut self, sender: SocketAddr) {
        if let Some(slot) = self.by_sender.remove(&sender) {
            self.by_use.remove(&mut self.slots, slot, |slot| &mut slot.link);
            self.free.push(slot);
        }
    }

    /// Returns the sender with this key; `None`: it has given way to another.
    pub(crate) fn sender(&self, key: Key) -> Option<SocketAddr> {
        let slot = self.slots.get(key.index as usize)?;
        (slot.generation == key.generation).then_some(slot.sender)
    }

    fn insert(&mut self, sender: SocketAddr, value: T) -> u32 {
        if self.free.is_empty() && self.slots.len() == self.count_max {
            let oldest = self.by_use.front().map(|slot| self.slots[slot as usize].sender);
            oldest.inspect(|oldest| self.forget(*oldest));
        }
        let slot = match self.free.pop() {
            Some(slot) => {
                let old = &mut self.slots[slot as usize];
                old.generation = old.generation.wrapping_add(1);
                (old.sender, old.value) = (sender, value);
                slot
            }
            None => {
                self.slots.push(Slot { generation: 0, sender, value, link: Link::OFF });
                self.slots.len() as u32 - 1
            }
        };
        self.by_sender.insert(sender, slot);
        self.by_use.push_back(&mut self.slots, slot, |slot| &mut slot.link);
        slot
    }

    /// Makes `slot` the last used.
    fn touch(&mut self, slot: u32) {
        self.by_use.remove(&mut self.slots, slot, |slot| &mut slot.link);
        self.by_use.push_back(&mut self.slots, slot, |slot| &mut slot.link);
    }
}

#[cfg(test)]
mod tests {
    use super::Senders;
    use std::net::SocketAddr;

    fn sender(number: u16) -> SocketAddr {
        ([192, 0, 2, 1], number).into()
    }

    #[test]
    fn the_least_recently_used_sender_gives_way_and_its_key_misses() {
        let mut senders = Senders::new(2, ahash::RandomState::with_seeds(1, 2, 3, 4));
        let first = senders.set(sender(1), 'a');
        let second = senders.set(sender(2), 'b');
        assert_eq!(senders.get(sender(1)), Some(&mut 'a'));
        let third = senders.set(sender(3), 'c');
        assert_eq!(senders.get(sender(2)), None);
        assert_eq!(
            [first, second, third].map(|key| senders.sender(key)),
            [Some(sender(1)), None, Some(sender(3))]
        );
        // A known sender keeps its key.
        assert_eq!(senders.set(sender(1), 'd'), first);
        assert_eq!(senders.get(sender(1)), Some(&mut 'd'));
        assert_eq!((senders.by_sender.len(), senders.slots.len()), (2, 2));
        // One that was forgotten and came back is not mistaken for its former entry.
        senders.forget(sender(1));
        assert_eq!(senders.get(sender(1)), None);
        let again = senders.set(sender(1), 'e');
        assert_ne!(again, first);
        senders.set(sender(4), 'f');
        assert_eq!(senders.get(sender(1)), Some(&mut 'e'));
        assert_eq!(senders.get(sender(3)), None);
        assert_eq!((senders.by_sender.len(), senders.slots.len()), (2, 2));
    }
}
