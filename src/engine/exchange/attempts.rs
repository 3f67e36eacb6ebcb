//! What is known of the attempt that an exchange is in, or was in last.
//!
//! Attempts begin and end beside the queues they stand in; here is what follows from those, for
//! who tells about it. Nothing is changed here.

use super::Exchanges;
use crate::engine::key::Transport;
use crate::engine::message::HEADER_LEN;
use crate::moment::Moment;

impl Exchanges {
    /// Which upstream the last attempt of the exchange that is or was just in `slot` went to, and
    /// how.
    pub fn last_asked(&self, slot: u32) -> (usize, Transport) {
        let exchange = &self.slots[slot as usize];
        (exchange.upstream as usize, exchange.asked_over)
    }

    /// The query as it was written, whatever the current attempt sent of it.
    pub fn written(&self, slot: u32) -> &[u8] {
        let length = usize::from(self.slots[slot as usize].query_len);
        &self.queries[slot as usize][..length]
    }

    /// Whether the current or last attempt of the exchange in `slot` had an OPT.
    pub fn has_sent_edns(&self, slot: u32) -> bool {
        usize::from(self.slots[slot as usize].sent_len) > HEADER_LEN + self.name_len(slot) + 4
    }

    /// Whether the query of the exchange in `slot` wants DNSSEC records.
    pub fn wants_dnssec(&self, slot: u32) -> bool {
        // The flags of EDNS lie in the second half of the OPT's TTL.
        self.queries[slot as usize][HEADER_LEN + self.name_len(slot) + 4 + 7] & 0x80 != 0
    }

    /// When the current attempt of the exchange in `slot` began.
    pub fn attempt_began(&self, slot: u32) -> Moment {
        let exchange = &self.slots[slot as usize];
        let timeout = self.timeouts[exchange.timeout_class as usize].0;
        exchange.attempt_until.minus(timeout)
    }
}
