//! State of the current or last attempt of an exchange.
//!
//! Exchanges begin and end attempts where the queues are; this file only reads them, for logs and
//! for queries that wait behind others on a connection.

use super::Exchanges;
use crate::engine::key::{ConnectionId, Transport};
use crate::engine::message::HEADER_LEN;
use crate::engine::message::opt::OPT_LEN;
use crate::moment::Moment;
use std::time::Duration;

impl Exchanges {
    /// Returns the upstream and transport of the last attempt of the exchange that is or was just
    /// in `slot`.
    pub(crate) fn last_asked(&self, slot: u32) -> (usize, Transport) {
        let exchange = &self.slots[slot as usize];
        (exchange.upstream as usize, exchange.asked_over)
    }

    /// Returns the query as written, without options added on the way upstream.
    pub(crate) fn written(&self, slot: u32) -> &[u8] {
        let length = usize::from(self.slots[slot as usize].query_len);
        &self.queries[slot as usize][..length]
    }

    /// Returns true if the current or last attempt of the exchange in `slot` had an OPT.
    pub(crate) fn has_sent_edns(&self, slot: u32) -> bool {
        usize::from(self.slots[slot as usize].sent_len) > HEADER_LEN + self.name_len(slot) + 4
    }

    /// Returns true if the query of the exchange in `slot` wants DNSSEC records.
    pub(crate) fn wants_dnssec(&self, slot: u32) -> bool {
        // The flags of EDNS lie in the second half of the OPT's TTL.
        self.queries[slot as usize][HEADER_LEN + self.name_len(slot) + 4 + 7] & 0x80 != 0
    }

    /// Returns true if the query of the exchange in `slot` has options of the client or of rules.
    pub(crate) fn has_options(&self, slot: u32) -> bool {
        let opt = HEADER_LEN + self.name_len(slot) + 4;
        usize::from(self.slots[slot as usize].query_len) > opt + OPT_LEN
    }

    /// Returns the start of the current attempt of the exchange in `slot`.
    pub(crate) fn attempt_began(&self, slot: u32) -> Moment {
        let exchange = &self.slots[slot as usize];
        let timeout = self.timeouts[exchange.timeout_class as usize].0;
        exchange.attempt_until.minus(timeout)
    }

    /// Returns the time-out of the current attempt of the exchange in `slot`.
    pub(crate) fn attempt_timeout(&self, slot: u32) -> Duration {
        self.timeouts[self.slots[slot as usize].timeout_class as usize].0
    }

    /// Returns true if the oldest query on `connection` has waited for longer than `head_wait`, or
    /// for more than half of its time-out.
    pub(crate) fn waits(&self, connection: ConnectionId, now: Moment, head_wait: Duration) -> bool {
        self.first_on(connection).is_some_and(|slot| {
            let exchange = &self.slots[slot as usize];
            let timeout = self.timeouts[exchange.timeout_class as usize].0;
            exchange.attempt_until < now.plus(timeout - head_wait.min(timeout / 2))
        })
    }

    /// Returns the number of older queries on the connection of the one in `slot`; at most `most`
    /// are counted.
    pub(crate) fn ahead_of(&self, slot: u32, connection: ConnectionId, most: usize) -> usize {
        self.all_on(connection).take(most).take_while(|other| *other != slot).count()
    }

    /// Returns the query on `connection` that was sent behind `count` others.
    pub(crate) fn behind(&self, connection: ConnectionId, count: usize) -> Option<u32> {
        self.all_on(connection).nth(count)
    }

    /// Returns the query that was sent next after the one in `slot` on its connection.
    pub(crate) fn next_on(&self, connection: ConnectionId, slot: u32) -> Option<u32> {
        let list = &self.on_connection[connection.index()];
        list.after(&self.slots, slot, |exchange| &exchange.on_connection)
    }

    fn all_on(&self, connection: ConnectionId) -> impl Iterator<Item = u32> {
        let list = self.first_on(connection).map(|_| &self.on_connection[connection.index()]);
        let slots = list.map(|list| list.iter(&self.slots, |exchange| &exchange.on_connection));
        slots.into_iter().flatten()
    }
}
