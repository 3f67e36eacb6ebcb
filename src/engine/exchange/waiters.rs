//! Clients that wait for an exchange, and their time limits.
//!
//! The clients of one exchange form a chain in the order of their arrival, in a slab that all
//! exchanges share. Where clients can have an expired answer their response timer may end before
//! the exchange does: then they are answered, and the exchange continues without waiters.

use super::{Client, Exchanges, RESERVE_FIRST, WAITERS_MAX, class_of};
use crate::engine::list::NONE;
use crate::engine::message::HEADER_LEN;
use crate::engine::message::query::Asked;
use crate::moment::Moment;
use std::time::Duration;

/// A client that waits for an exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    pub(crate) client: Client,
    /// Time of the query.
    pub(crate) since: Moment,
    /// Number under which the query is counted.
    pub(crate) label_set: u32,
    /// Facts about the query that the reply needs.
    pub(crate) asked: Asked,
    /// Length of the query.
    pub(crate) size: u16,
    /// Question section of its reply.
    pub(crate) shown: Shown,
}

/// Question section of a client's reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// The question of the query that was sent.
    Same,
    /// The question of the query that was sent, in other letter case.
    Case(Spelling),
    /// Another question, which the server block's `rewrite` rules turned into that of the query.
    Other(AskedKey),
}

/// Key of the stored question of a client whose query was rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AskedKey(pub(crate) u32);

/// Place of a waiter that was removed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dismissed(u32);

/// Capital letters of a name: one bit for each of at most 255 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spelling([u64; 4]);

impl Spelling {
    /// Returns the capital letters of `name`.
    pub(crate) fn of(name: &[u8]) -> Self {
        let mut bits = [0; 4];
        for (place, byte) in name.iter().enumerate() {
            bits[place / 64] |= u64::from(byte.is_ascii_uppercase()) << (place % 64);
        }
        Self(bits)
    }

    /// Spells `name` this way.
    pub(crate) fn apply(&self, name: &mut [u8]) {
        for (place, byte) in name.iter_mut().enumerate() {
            let capital = self.0[place / 64] >> (place % 64) & 1 == 1;
            *byte = if capital { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
        }
    }
}

impl Exchanges {
    /// Returns true if no other client can wait.
    pub(crate) fn waiters_are_full(&self) -> bool {
        self.waiters_free.is_empty() && self.waiters.len() == WAITERS_MAX
    }

    /// Adds a client that waits for the exchange in `slot`.
    ///
    /// # Panics
    /// If [`Exchanges::waiters_are_full`].
    pub(crate) fn join(&mut self, slot: u32, waiter: Waiter) {
        assert!(!self.waiters_are_full(), "the caller asks first");
        let place = match self.waiters_free.pop() {
            Some(place) => {
                self.waiters[place as usize] = (waiter, NONE);
                place
            }
            None => {
                self.waiters.push((waiter, NONE));
                self.waiters.len() as u32 - 1
            }
        };
        let exchange = &mut self.slots[slot as usize];
        match std::mem::replace(&mut exchange.last_waiter, place) {
            NONE => exchange.first_waiter = place,
            last => self.waiters[last as usize].1 = place,
        }
        self.check(slot);
    }

    /// Limits the wait of the clients of the exchange in `slot` to `within`, unless a limit is set
    /// already. Returns the end of the wait.
    pub(crate) fn limit_timeout(&mut self, slot: u32, now: Moment, within: Duration) -> Moment {
        let exchange = &mut self.slots[slot as usize];
        if exchange.response_timer_until == Moment::FOREVER {
            exchange.response_timer_until = now.plus(within);
            let class = class_of(&mut self.response_timer, within);
            exchange.response_timer_class = class;
            let queue = &mut self.response_timer[class as usize].1;
            queue.push_back(&mut self.slots, slot, |exchange| &mut exchange.by_patience);
        }
        self.check(slot);
        self.slots[slot as usize].response_timer_until
    }

    /// Ends the wait of the clients of the exchange in `slot`.
    pub(crate) fn end_timeout(&mut self, slot: u32) {
        let exchange = &self.slots[slot as usize];
        if exchange.by_patience.is_on_list() {
            let queue = &mut self.response_timer[exchange.response_timer_class as usize].1;
            queue.remove(&mut self.slots, slot, |exchange| &mut exchange.by_patience);
        }
        self.check(slot);
    }

    /// Returns the next waiter of a settled exchange without removing it.
    pub(crate) fn first_waiter(&self, slot: u32) -> Option<&Waiter> {
        let place = self.slots[slot as usize].first_waiter;
        (place != NONE).then(|| &self.waiters[place as usize].0)
    }

    /// Removes the next waiter of an exchange that continues; [`Exchanges::dismissed`] returns it.
    pub(crate) fn dismiss_waiter(&mut self, slot: u32) -> Option<Dismissed> {
        let exchange = &mut self.slots[slot as usize];
        let place = exchange.first_waiter;
        if place == NONE {
            return None;
        }
        let behind = self.waiters[place as usize].1;
        self.waiters_free.push(place);
        exchange.first_waiter = behind;
        if behind == NONE {
            exchange.last_waiter = NONE;
        }
        self.check(slot);
        Some(Dismissed(place))
    }

    /// Removes the clients of the exchange in `slot` that are `wanted`, in their order.
    pub(crate) fn take_waiters(
        &mut self,
        slot: u32,
        mut wanted: impl FnMut(&Waiter) -> bool,
    ) -> Vec<Dismissed> {
        let mut taken = Vec::new();
        let exchange = &mut self.slots[slot as usize];
        let (mut place, mut before) = (exchange.first_waiter, NONE);
        while place != NONE {
            let (waiter, behind) = self.waiters[place as usize];
            if wanted(&waiter) {
                match before {
                    NONE => exchange.first_waiter = behind,
                    before => self.waiters[before as usize].1 = behind,
                }
                if behind == NONE {
                    exchange.last_waiter = before;
                }
                self.waiters_free.push(place);
                taken.push(Dismissed(place));
            } else {
                before = place;
            }
            place = behind;
        }
        self.check(slot);
        taken
    }

    /// Returns the removed waiter; valid until the next one joins.
    pub(crate) fn dismissed(&self, waiter: Dismissed) -> &Waiter {
        &self.waiters[waiter.0 as usize].0
    }

    /// Restores this waiter's spelling of the name in the question of `reply`, the answer to the
    /// exchange that is or was just in `slot`.
    pub(crate) fn spell(&self, slot: u32, waiter: Dismissed, reply: &mut [u8]) {
        if let Shown::Case(spelling) = &self.dismissed(waiter).shown {
            spelling.apply(&mut reply[HEADER_LEN..HEADER_LEN + self.name_len(slot)]);
        }
    }

    #[inline(always)]
    fn vacate(&mut self, slot: u32) {
        let is_reserved = slot as usize >= RESERVE_FIRST;
        let free = if is_reserved { &mut self.free_reserved } else { &mut self.free };
        free.push(slot);
    }

    /// Removes the next waiter of a settled exchange; with the last one the exchange ends and its
    /// slot is vacant, though [`Exchanges::query`] stays valid until the next one opens.
    #[inline(always)]
    pub(crate) fn next_waiter(&mut self, slot: u32) -> Option<Dismissed> {
        debug_assert!(!self.slots[slot as usize].joinable, "not settled");
        let waiter = self.dismiss_waiter(slot);
        let exchange = &mut self.slots[slot as usize];
        debug_assert!(exchange.open, "it has ended");
        if exchange.first_waiter == NONE {
            exchange.open = false;
            exchange.generation = exchange.generation.wrapping_add(1);
            self.vacate(slot);
        }
        self.check(slot);
        waiter
    }
}
