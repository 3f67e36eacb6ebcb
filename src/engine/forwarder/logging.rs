//! Log records of queries with an error reply that onward generated.
//!
//! For server blocks with `errors`, a record is queued for each client, with the last upstream if
//! it was involved. The shell gets the records as [`Notice::Error`](super::Notice).

use super::Forwarder;
use crate::engine::errors::{QueryError, Reason};
use crate::engine::exchange::Shown;
use crate::engine::message::Rcode;
use crate::engine::message::name::WireQuestion;
use crate::engine::message::query::Query;

impl Forwarder {
    /// Logs a query that ends before it was sent to an upstream.
    pub(super) fn log_query(
        &mut self,
        query: &Query<'_>,
        block: usize,
        rcode: Rcode,
        reason: Reason,
    ) {
        if self.errors.wants(block) {
            let rtype = query.question.rtype;
            self.log(QueryError::new(block, query.name(), rtype, (rcode, reason), None));
        }
    }

    /// Logs a parked query of a client that ends.
    pub(super) fn log_asking(
        &mut self,
        asking: &WireQuestion,
        block: usize,
        rcode: Rcode,
        reason: Reason,
    ) {
        if self.errors.wants(block) {
            let name = asking.name.as_bytes();
            self.log(QueryError::new(block, name, asking.rtype, (rcode, reason), None));
        }
    }

    /// Logs a client's query that ends, whose exchange is or was just in `slot`.
    pub(super) fn log_exchange(&mut self, slot: u32, shown: Shown, rcode: Rcode, reason: Reason) {
        let block = self.routes.block_of(self.exchanges.first_stanza(slot));
        let Some(block) = block.filter(|block| self.errors.wants(*block)) else { return };
        let asked = matches!(reason, Reason::Attempt(..) | Reason::NoConnection);
        let (number, transport) = self.exchanges.last_asked(slot);
        // An upstream of an earlier configuration may be gone.
        let dial = self.upstreams.find_dial(number).filter(|_| asked);
        let upstream = dial.map(|dial| (dial.upstream, transport));
        let (name, rtype) = match self.rewriting.asking(shown) {
            Some(asked) => (asked.name.as_bytes(), asked.rtype),
            None => (self.exchanges.name(slot), self.exchanges.rtype_and_class(slot).0),
        };
        let error = QueryError::new(block, name, rtype, (rcode, reason), upstream);
        self.log(error);
    }

    fn log(&mut self, error: QueryError) {
        self.counters.stats.errors_lost += u64::from(!self.errors.push(error));
    }
}
