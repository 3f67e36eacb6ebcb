//! Assertions about the table of client connections, in debug builds.
//!
//! Each call that changes the table ends with `Clients::check`: the connection it touched must be
//! in the queue that its state says. A small table is checked as a whole as well: counters must
//! equal the lengths of the queues. Release builds do not have this file.

use super::{ClientConnection, Clients};
use crate::moment::Moment;

/// Maximum number of slots of a table that is checked as a whole: enough for the cases that tests
/// script, and cheap for simulations of thousands of connections.
const CHECKED_MAX: usize = 8;

impl Clients {
    /// Checks the connection that is or was just in `slot`, and the whole table if it is small.
    pub(super) fn check_touched(&self, slot: u32) {
        let connection = &self.slots[slot as usize];
        let ClientConnection { open, limits, awaits, class, address, .. } = connection;
        assert_eq!(*open, connection.link.is_on_list(), "{connection:?}");
        assert_eq!(self.slots.len(), self.count() + self.free.len(), "slots are open or free");
        if *open {
            let idle = self.by_activity[*class as usize].0;
            assert_eq!(idle, limits.of(*awaits), "in a wrong queue: {connection:?}");
            let is_counted = address.is_none_or(|address| self.per_address.count(address) > 0);
            assert!(is_counted, "not counted: {connection:?}");
        } else {
            assert!(!connection.transfers, "a transfer without a client: {connection:?}");
        }
        if self.slots.len() <= CHECKED_MAX {
            self.check_invariants();
        }
    }

    /// Panics if counters and lengths disagree, or a queue is out of order.
    pub(super) fn check_invariants(&self) {
        let open = self.slots.iter().filter(|connection| connection.open);
        let transfers = open.clone().filter(|connection| connection.transfers).count();
        assert_eq!(self.transfers, transfers, "transfers");
        assert_eq!(self.count(), open.clone().count(), "connections in queues");
        let counted: u32 = self.per_address.0.values().sum();
        let named = open.clone().filter(|connection| connection.address.is_some()).count();
        assert_eq!(named, counted as usize, "connections of all addresses");
        for (address, count) in &self.per_address.0 {
            let own =
                open.clone().filter(|connection| connection.address == Some(*address)).count();
            assert_eq!(*count as usize, own, "connections of {address}");
        }
        for (listener, count) in self.per_listener.iter().enumerate() {
            let own = open.clone().filter(|one| usize::from(one.listener) == listener).count();
            assert_eq!(*count as usize, own, "connections of listener {listener}");
        }
        let is_vacant = |slot: &u32| !self.slots[*slot as usize].open;
        assert!(self.free.iter().all(is_vacant), "a slot in use is free");
        for (class, (_, queue)) in self.by_activity.iter().enumerate() {
            let mut last = Moment::ZERO;
            for slot in queue.iter(&self.slots, |connection| &connection.link) {
                let connection = &self.slots[slot as usize];
                assert_eq!(connection.class as usize, class, "in a wrong queue: {connection:?}");
                assert!(connection.active_at >= last, "a queue is out of order: {connection:?}");
                last = connection.active_at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Clients;
    use crate::engine::clients::ConnectionLimits;
    use crate::moment::Moment;

    #[test]
    #[should_panic(expected = "connections of all addresses")]
    fn a_connection_that_is_not_counted_is_noticed() {
        let mut clients = Clients::new(
            8,
            vec![ConnectionLimits::DEFAULT],
            ahash::RandomState::with_seeds(1, 2, 3, 4),
        );
        let address = [192, 0, 2, 1].into();
        clients.admit(Moment::ZERO, 0, address).unwrap();
        clients.per_address.add(address);
        clients.check_touched(0);
    }
}
