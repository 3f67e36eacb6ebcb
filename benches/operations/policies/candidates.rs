//! Eviction policies that were compared with the cache's own.
//!
//! Each works on slots 0 to its capacity, as the cache's own does: it learns of hits and
//! insertions, and selects the slot to evict. They use vectors and queues of the standard library,
//! because only their hit ratios matter.

use std::collections::VecDeque;

/// Selection of the entry to evict from a full cache.
pub(crate) trait Policy {
    /// Records a hit.
    fn hit(&mut self, slot: u32);
    /// Records that an entry whose key has this hash was put into an empty slot.
    fn insert(&mut self, slot: u32, hash: u32);
    /// Returns the slot to evict when all are in use. `dead` entries have expired.
    fn victim(&mut self, dead: &dyn Fn(u32) -> bool) -> u32;
}

/// Any entry, in a map's order, as in the reference.
pub(crate) struct Arbitrary {
    capacity: u32,
    random: u64,
}

impl Arbitrary {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity: capacity as u32, random: 1 }
    }
}

impl Policy for Arbitrary {
    fn hit(&mut self, _: u32) {}

    fn insert(&mut self, _: u32, _: u32) {}

    fn victim(&mut self, _: &dyn Fn(u32) -> bool) -> u32 {
        self.random = self.random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        ((self.random >> 33) % u64::from(self.capacity)) as u32
    }
}

/// The least recently used entry.
pub(crate) struct Lru {
    /// Previous and next of each slot, and the ends of the list in the last element.
    links: Vec<[u32; 2]>,
}

impl Lru {
    pub(crate) fn new(capacity: usize) -> Self {
        let end = capacity as u32;
        Self { links: vec![[end; 2]; capacity + 1] }
    }

    fn unlink(&mut self, slot: u32) {
        let [before, behind] = self.links[slot as usize];
        self.links[before as usize][1] = behind;
        self.links[behind as usize][0] = before;
    }

    fn link(&mut self, slot: u32) {
        let end = self.links.len() as u32 - 1;
        let last = self.links[end as usize][0];
        self.links[slot as usize] = [last, end];
        self.links[last as usize][1] = slot;
        self.links[end as usize][0] = slot;
    }
}

impl Policy for Lru {
    fn hit(&mut self, slot: u32) {
        self.unlink(slot);
        self.link(slot);
    }

    fn insert(&mut self, slot: u32, _: u32) {
        self.link(slot);
    }

    fn victim(&mut self, _: &dyn Fn(u32) -> bool) -> u32 {
        let first = self.links[self.links.len() - 1][1];
        self.unlink(first);
        first
    }
}

/// First in, first out, except that an entry with a hit is queued again.
pub(crate) struct Clock {
    queue: VecDeque<u32>,
    seen: Vec<bool>,
}

impl Clock {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { queue: VecDeque::new(), seen: vec![false; capacity] }
    }
}

impl Policy for Clock {
    fn hit(&mut self, slot: u32) {
        self.seen[slot as usize] = true;
    }

    fn insert(&mut self, slot: u32, _: u32) {
        self.seen[slot as usize] = false;
        self.queue.push_back(slot);
    }

    fn victim(&mut self, _: &dyn Fn(u32) -> bool) -> u32 {
        loop {
            let first = self.queue.pop_front().expect("every slot is taken");
            if !std::mem::take(&mut self.seen[first as usize]) {
                return first;
            }
            self.queue.push_back(first);
        }
    }
}

/// A hand that moves from old to new and evicts the first entry without a hit since its last pass;
/// spared entries keep their place, so that new ones are examined soon.
pub(crate) struct Sieve {
    lru: Lru,
    seen: Vec<bool>,
    hand: u32,
}

impl Sieve {
    pub(crate) fn new(capacity: usize) -> Self {
        let end = capacity as u32;
        Self { lru: Lru::new(capacity), seen: vec![false; capacity], hand: end }
    }
}

impl Policy for Sieve {
    fn hit(&mut self, slot: u32) {
        self.seen[slot as usize] = true;
    }

    fn insert(&mut self, slot: u32, _: u32) {
        self.seen[slot as usize] = false;
        self.lru.link(slot);
    }

    fn victim(&mut self, _: &dyn Fn(u32) -> bool) -> u32 {
        let end = self.seen.len() as u32;
        loop {
            if self.hand == end {
                self.hand = self.lru.links[end as usize][1];
            }
            let slot = self.hand;
            self.hand = self.lru.links[slot as usize][1];
            if !std::mem::take(&mut self.seen[slot as usize]) {
                self.lru.unlink(slot);
                return slot;
            }
        }
    }
}
