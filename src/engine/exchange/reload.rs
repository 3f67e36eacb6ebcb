//! Reload: the outstanding exchanges under a new configuration.
//!
//! A reload ends no exchange. Time-outs and tables change, and each exchange moves to the stanza
//! that would handle its question now, so that another client with the same question still joins.

use super::{Exchanges, Waiter};
use crate::engine::list::{Link, List, NONE};
use std::time::Duration;

impl Exchanges {
    /// Returns the query as written, under which other clients find it.
    pub(crate) fn text(&self, slot: u32) -> &[u8] {
        let length = usize::from(self.slots[slot as usize].query_len);
        &self.queries[slot as usize][..length]
    }

    /// All outstanding exchanges.
    pub(crate) fn open_slots(&self) -> impl Iterator<Item = u32> {
        (0..self.slots.len() as u32).filter(|slot| self.slots[*slot as usize].open)
    }

    /// All waiters of the exchange in `slot`.
    pub(crate) fn waiters(&self, slot: u32) -> impl Iterator<Item = &Waiter> {
        let place = |place: u32| (place != NONE).then_some(place);
        let first = place(self.slots[slot as usize].first_waiter);
        let places = std::iter::successors(first, move |at| place(self.waiters[*at as usize].1));
        places.map(|place| &self.waiters[place as usize].0)
    }

    /// Sets the metrics labels of all waiters of the exchange in `slot` to those that `label_set`
    /// returns.
    pub(crate) fn count_waiters_at(&mut self, slot: u32, label_set: impl Fn(&Waiter) -> u32) {
        let mut place = self.slots[slot as usize].first_waiter;
        while place != NONE {
            let (waiter, next) = &mut self.waiters[place as usize];
            waiter.label_set = label_set(waiter);
            place = *next;
        }
    }

    /// Adopts other time-outs and a larger maximum of `connections`. Outstanding attempts keep
    /// their deadlines.
    pub(crate) fn reload(&mut self, timeouts: &[Duration], connections: usize) {
        if connections > self.on_connection.len() {
            self.on_connection.resize(connections, List::default());
        }
        let mut slots: Vec<_> = self.open_slots().collect();
        slots.sort_by_key(|slot| self.slots[*slot as usize].attempt_until);
        let old = std::mem::take(&mut self.timeouts);
        self.timeouts = timeouts.iter().map(|timeout| (*timeout, List::default())).collect();
        for slot in slots {
            let exchange = &mut self.slots[slot as usize];
            let timeout = old[exchange.timeout_class as usize].0;
            let known = self.timeouts.iter().position(|(known, _)| *known == timeout);
            let class = known.unwrap_or_else(|| {
                self.timeouts.push((timeout, List::default()));
                self.timeouts.len() - 1
            });
            exchange.timeout_class = class as u32;
            exchange.by_attempt = Link::OFF;
            if exchange.attempt.is_some() {
                let queue = &mut self.timeouts[class].1;
                queue.push_back(&mut self.slots, slot, |exchange| &mut exchange.by_attempt);
            }
        }
        #[cfg(debug_assertions)]
        self.check_all();
    }

    /// Moves the exchange in `slot` to `stanza`, as if it had begun there, so that clients with the
    /// same query and this `hash` join it.
    pub(crate) fn move_to(&mut self, slot: u32, stanza: u32, hash: u32) {
        let exchange = &mut self.slots[slot as usize];
        let before = std::mem::replace(&mut exchange.hash, hash);
        (exchange.stanza, exchange.began.0) = (stanza, stanza);
        if exchange.joinable {
            self.by_text.remove(before, slot);
            self.by_text.insert(hash, slot);
        }
        self.check(slot);
    }
}
