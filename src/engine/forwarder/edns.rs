//! Upstreams that do not implement EDNS, and other unusual responses.
//!
//! A server without EDNS replies FORMERR or NOTIMP to each query with an OPT, and has no OPT in its
//! response (RFC 6891 §7). The query is sent again without an OPT at once, on the same connection;
//! this does not count as an attempt. If the second response is an answer or a denial, the upstream
//! is asked without EDNS for a while, probes included ([`HealthStates`]). If it is the same error,
//! the error was about the query itself and is delivered. A query with the DO bit is always sent
//! with EDNS first, and its result is not stored: a server that implements EDNS may refuse a part
//! of it (RFC 6891 §6.2.2), and validators need DNSSEC records.
//!
//! A remark to the keeper reports this, and errors without a question, to the operator, once in
//! a while for each upstream.
//!
//! [`HealthStates`]: crate::engine::health::HealthStates

use super::Forwarder;
use crate::engine::key::ConnectionId;
use crate::engine::message::response::Response;
use crate::engine::message::{HEADER_LEN, Rcode, flags};
use crate::moment::Moment;

impl Forwarder {
    /// Returns true if an attempt at `upstream` has an OPT.
    #[inline]
    pub(super) fn speaks_edns(&self, now: Moment, slot: u32, upstream: usize) -> bool {
        !self.upstreams.health().is_asked_plainly(upstream, now)
            || self.exchanges.wants_dnssec(slot)
    }

    /// Sends the query in `slot` again without an OPT if `response` refused the OPT; its attempt on
    /// `connection` has ended. Returns false otherwise.
    pub(super) fn asks_without_edns(
        &mut self,
        now: Moment,
        slot: u32,
        connection: ConnectionId,
        response: &Response,
    ) -> bool {
        if !self.refuses_edns(slot, response) {
            return false;
        }
        let upstream = self.upstream_of(slot);
        self.upstreams.stats(upstream).edns_refused += 1;
        let (_, transport) = self.exchanges.last_asked(slot);
        let way = self.upstreams.way_to(upstream, transport);
        self.send_on(now, slot, upstream, (connection, way), false);
        self.exchanges.get(slot).refusal = response.rcode();
        true
    }

    /// Returns true if `response` refuses the OPT that the query in `slot` was sent with.
    pub(super) fn refuses_edns(&self, slot: u32, response: &Response) -> bool {
        // Without an OPT, the response code is in the header alone.
        let rcode = response.flags & flags::RCODE;
        let refuses = rcode == Rcode::FormErr as u16 || rcode == Rcode::NotImp as u16;
        refuses && response.opt.is_none() && self.exchanges.has_sent_edns(slot)
    }

    /// Stores, counts and reports unusual properties of a validated response.
    #[inline]
    pub(super) fn note_oddities(
        &mut self,
        now: Moment,
        slot: u32,
        upstream: usize,
        response: &Response,
    ) {
        let refusal = self.exchanges.get(slot).refusal;
        if refusal != 0 {
            self.note_refusal(now, slot, upstream, response, refusal);
        }
        // No question: it would take at least five bytes.
        if response.start == HEADER_LEN {
            self.upstreams.note_bare_error(upstream, now, response.rcode());
        }
    }

    /// Notes that the query in `slot` was refused with EDNS and answered without it.
    #[cold]
    fn note_refusal(
        &mut self,
        now: Moment,
        slot: u32,
        upstream: usize,
        response: &Response,
        refusal: u16,
    ) {
        let rcode = response.rcode();
        let helped = rcode == Rcode::NoError as u16 || rcode == Rcode::NxDomain as u16;
        if helped
            && response.opt.is_none()
            && !self.exchanges.wants_dnssec(slot)
            // The upstream may have refused an option of the client or of `rewrite`.
            && !self.exchanges.has_options(slot)
        {
            self.upstreams.note_no_edns(upstream, now, refusal);
        }
    }
}
