//! Assertions about the table of outstanding queries, in debug builds.
//!
//! Each call that changes the table ends with `Exchanges::check`: the slot it touched must be on
//! exactly the queues that its state says, and the indexes must find it. A small table is checked
//! as a whole as well: counters must equal the lengths of the queues. Release builds do not have
//! this file.

use super::{Exchange, Exchanges, RESERVE_FIRST};
use crate::engine::list::{Link, List, NONE};
use crate::engine::message::query::UPSTREAM_LEN_MAX;
use crate::engine::message::{HEADER_LEN, u16_at};
use crate::moment::Moment;
use std::time::Duration;

/// Maximum number of slots and of connections of a table that is checked as a whole: enough for the
/// cases that tests script, and cheap for simulations of thousands of queries.
const CHECKED_MAX: usize = 8;

impl Exchanges {
    /// Checks the exchange that is or was just in `slot`, and the whole table if it is small.
    pub(super) fn check_touched(&self, slot: u32) {
        self.check_slot(slot);
        if self.slots.len().max(self.on_connection.len()) <= CHECKED_MAX {
            self.check_invariants();
        }
    }

    /// Checks all slots and the whole table.
    pub(super) fn check_all(&self) {
        (0..self.slots.len() as u32).for_each(|slot| self.check_slot(slot));
        self.check_invariants();
    }

    /// Panics if the state of a slot disagrees with its places in queues and indexes.
    fn check_slot(&self, slot: u32) {
        let exchange = &self.slots[slot as usize];
        let Exchange { open, joinable, attempt, first_waiter, last_waiter, .. } = *exchange;
        assert_eq!(joinable, exchange.by_age.is_on_list(), "deadline of a query: {exchange:?}");
        assert_eq!(attempt.is_some(), exchange.by_attempt.is_on_list(), "time-out: {exchange:?}");
        assert_eq!(attempt.is_some(), exchange.on_connection.is_on_list(), "{exchange:?}");
        assert!(open || !joinable, "the slot is vacant: {exchange:?}");
        assert!(joinable || attempt.is_none(), "settled, but asking: {exchange:?}");
        assert_eq!(first_waiter == NONE, last_waiter == NONE, "chain of waiters: {exchange:?}");
        if last_waiter != NONE {
            assert!(open, "a vacant slot has waiters: {exchange:?}");
            assert_eq!(self.waiters[last_waiter as usize].1, NONE, "more behind the last waiter");
        }
        let (query, written) = (usize::from(exchange.query_len), usize::from(exchange.sent_len));
        assert!(query.max(written) <= UPSTREAM_LEN_MAX, "{exchange:?}");
        assert!(query > HEADER_LEN + usize::from(exchange.name_len), "{exchange:?}");
        if joinable {
            let found = self.by_text.find(exchange.hash, |other| other == slot);
            assert_eq!(found, Some(slot), "no other client can find {exchange:?}");
        }
        if let Some((connection, id)) = attempt {
            assert_eq!(self.find(connection, id), Some(slot), "no response can find {exchange:?}");
            assert_eq!(u16_at(&self.queries[slot as usize], 0), Some(id), "another id was sent");
        }
    }

    /// Panics if counters and lengths disagree, or a queue is out of order.
    pub(super) fn check_invariants(&self) {
        let count = |is: fn(&Exchange) -> bool| self.slots.iter().filter(|slot| is(slot)).count();
        assert_eq!(self.slots.len(), self.queries.len(), "a buffer for each slot");
        assert_eq!(self.outstanding(), count(|exchange| exchange.open), "outstanding exchanges");
        let is_vacant = |slot: &u32| !self.slots[*slot as usize].open;
        assert!(self.free.iter().all(is_vacant), "a slot in use is free");
        assert!(self.free_reserved.iter().all(is_vacant), "a slot in use is free");
        let is_of_reserve = |slot: &u32| *slot as usize >= RESERVE_FIRST;
        assert!(self.free_reserved.iter().all(is_of_reserve), "a slot outside of the reserve");
        assert!(!self.free.iter().any(is_of_reserve), "a slot of the reserve");
        let until = |exchange: &Exchange| exchange.until;
        let queued = self.queued(&self.by_age, until, |exchange| &exchange.by_age);
        assert_eq!(queued, count(|exchange| exchange.joinable), "exchanges with a deadline");
        let asking = count(|exchange| exchange.attempt.is_some());
        let until = |exchange: &Exchange| exchange.attempt_until;
        let queued = self.queued(&self.timeouts, until, |exchange| &exchange.by_attempt);
        assert_eq!(queued, asking, "attempts with a time-out");
        let on_connections: usize = self.on_connection.iter().map(List::len).sum();
        assert_eq!(on_connections, asking, "attempts on connections");
        let until = |exchange: &Exchange| exchange.response_timer_until;
        let queued = self.queued(&self.response_timer, until, |exchange| &exchange.by_patience);
        assert_eq!(queued, count(|exchange| exchange.by_patience.is_on_list()), "response timers");
        let slots = 0..self.slots.len() as u32;
        let waiting: usize = slots.map(|slot| self.waiters(slot).count()).sum();
        assert_eq!(self.waiters.len() - self.waiters_free.len(), waiting, "waiters");
    }

    /// Returns the number of exchanges on these queues, whose deadlines must be in order.
    fn queued(
        &self,
        queues: &[(Duration, List)],
        deadline: fn(&Exchange) -> Moment,
        link: fn(&Exchange) -> &Link,
    ) -> usize {
        let mut total = 0;
        for (_, queue) in queues {
            let mut last = Moment::ZERO;
            for slot in queue.iter(&self.slots, link) {
                let exchange = &self.slots[slot as usize];
                assert!(link(exchange).is_on_list(), "{exchange:?}");
                assert!(deadline(exchange) >= last, "a queue is out of order: {exchange:?}");
                (last, total) = (deadline(exchange), total + 1);
            }
        }
        assert_eq!(total, queues.iter().map(|(_, queue)| queue.len()).sum::<usize>());
        total
    }
}

#[cfg(test)]
mod tests {
    use super::Exchanges;
    use crate::engine::exchange::Opening;
    use crate::engine::key::Transport;
    use crate::moment::Moment;
    use std::time::Duration;

    #[test]
    #[should_panic(expected = "no other client can find")]
    fn an_exchange_that_is_not_indexed_is_noticed() {
        let mut exchanges = Exchanges::new(&[Duration::from_secs(1)], 1);
        let opening = Opening {
            query: &[0; 28],
            name_len: 1,
            hash: 7,
            stanza: 0,
            transport: Transport::Udp,
            timeout_class: 0,
            budget: Duration::from_secs(5),
            cacheable: false,
            randomizes: false,
        };
        let slot = exchanges.open(&opening, Moment::ZERO).unwrap();
        exchanges.by_text.remove(7, slot);
        exchanges.check(slot);
    }
}
