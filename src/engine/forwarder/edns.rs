//! Upstreams that do not take EDNS, and others that answer oddly.
//!
//! A server that implements no EDNS says FORMERR, or NOTIMP, to whatever has an OPT, and puts none
//! into its response (RFC 6891 §7). The query goes out again without an OPT at once, on the same
//! connection, and that counts as no attempt. Where the second response has an answer or a denial,
//! the upstream is asked without EDNS for a while, probes included ([`HealthStates`]); where it is
//! the same error, the upstream meant the query itself, and the error is delivered. A query that
//! wants DNSSEC records always goes with EDNS first, and what it finds out is not remembered: a
//! server that knows EDNS may refuse a part of it (RFC 6891 §6.2.2), and a validator is better off
//! with records.
//!
//! This, and errors without a question, are told to the operator once for each upstream and while:
//! the keeper gets a [`Remark`].
//!
//! [`HealthStates`]: crate::engine::health::HealthStates

use super::Forwarder;
use crate::engine::health::{Quirk, Remark};
use crate::engine::key::ConnectionId;
use crate::engine::message::response::Response;
use crate::engine::message::{HEADER_LEN, Rcode, flags};
use crate::moment::Moment;

/// Remarks that wait to be drawn at most; one that finds no room is lost.
pub(super) const REMARKS_MAX: usize = 64;

impl Forwarder {
    /// Returns true if an attempt at `upstream` has an OPT.
    #[inline]
    pub(super) fn speaks_edns(&self, now: Moment, slot: u32, upstream: usize) -> bool {
        !self.health_states.is_asked_plainly(upstream, now) || self.exchanges.wants_dnssec(slot)
    }

    /// Sends the query in `slot` again without an OPT if that is what `response` refused; its
    /// attempt on `connection` has ended. False: it did not.
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
        self.upstream_stats[upstream].edns_refused += 1;
        let (_, transport) = self.exchanges.last_asked(slot);
        let way = self.way_to(upstream, transport);
        self.send_on(now, slot, upstream, (connection, way), false);
        self.exchanges.get(slot).refusal = response.rcode();
        true
    }

    /// Returns true if `response` refuses the OPT that the query in `slot` was sent with.
    pub(super) fn refuses_edns(&self, slot: u32, response: &Response) -> bool {
        // Without an OPT the code is that of the header.
        let rcode = response.flags & flags::RCODE;
        let refuses = rcode == Rcode::FormErr as u16 || rcode == Rcode::NotImp as u16;
        refuses && response.opt.is_none() && self.exchanges.has_sent_edns(slot)
    }

    /// Remembers, counts and tells what is odd about a believed response.
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
        // The question takes five bytes at least.
        if response.start == HEADER_LEN {
            self.upstream_stats[upstream].bare_errors += 1;
            if self.health_states.note_bare_error(upstream, now) {
                let rcode = response.rcode();
                self.remark(Remark { upstream, quirk: Quirk::BareError, rcode });
            }
        }
    }

    /// The query in `slot` was answered without EDNS, after it was refused with it.
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
            && self.health_states.note_no_edns(upstream, now)
        {
            self.remark(Remark { upstream, quirk: Quirk::NoEdns, rcode: refusal });
        }
    }

    pub(super) fn remark(&mut self, remark: Remark) {
        if self.remarks.len() < REMARKS_MAX {
            self.remarks.push(remark);
        }
    }
}
