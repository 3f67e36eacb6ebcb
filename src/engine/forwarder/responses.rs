//! Upstream responses: validation (connection, ID, question), then delivery, failover or retry over
//! TCP.
//!
//! Validation checks connection, ID, QR, question and records. An invalid response is dropped and
//! counted, and its clients continue to wait, so that a forgery does not end a query. A response
//! without a question is valid only if it is a bare error (FORMERR, SERVFAIL, NOTIMP, REFUSED),
//! because some servers reply so to clients or queries that they reject. Over UDP an attacker then
//! does not need the name, but still has to guess port, address and an outstanding ID; the forgery
//! causes an error for the clients of one query, which is never cached. A valid response is
//! delivered, unless another attempt may give a better one: the same upstream over TCP after
//! truncation (`prefer_udp`), without EDNS if that was refused, another upstream (`failover`), or
//! another stanza (`next`). A response that was rejected by `failover` is held back, and delivered
//! if no better one arrives.

use super::{Answered, Forwarder};
use crate::engine::errors::Reason;
use crate::engine::exchange::WrongResponse;
use crate::engine::key::{ConnectionId, Transport, Way};
use crate::engine::message::private::has_private_address;
use crate::engine::message::response::{Response, answers, is_bare_error, is_response};
use crate::engine::message::{HEADER_LEN, Rcode, flags, id};
use crate::engine::policy::Tour;
use crate::engine::routes::NextStanza;
use crate::engine::stats::DropReason;
use crate::engine::zones::LowercaseName;
use crate::moment::Moment;
use std::time::Duration;

/// Next action for a validated response.
enum NextStep {
    Deliver,
    SameOverTcp,
    AnotherUpstream,
    AnotherStanza(usize),
    /// `next` applies, but no later stanza matches the name.
    Nowhere,
}

impl Forwarder {
    /// Handles an upstream's packet on `connection`. `truncated`: the packet was longer than its
    /// buffer. `None`: the packet ends no exchange; if it is invalid, it is counted as dropped.
    pub fn on_response(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        packet: &[u8],
        truncated: bool,
    ) -> Option<Answered> {
        let (slot, response, is_earlier) = match self.believe(connection, packet, truncated) {
            Ok(believed) => believed,
            Err(reason) => {
                self.on_invalid(now, connection, packet, reason);
                return None;
            }
        };
        let upstream = self.upstream_of(slot);
        if is_earlier && self.refuses_edns(slot, &response) {
            // The newer attempt gets the same response, and is then sent again.
            self.end_earlier(now, connection, packet);
            return None;
        }
        self.note_oddities(now, slot, upstream, &response);
        let began = self.exchanges.attempt_began(slot);
        let took = now.since(began);
        let counts = &mut self.upstreams.stats(upstream);
        counts.answered += 1;
        counts.latency.add(took);
        self.counters.response(upstream, response.rcode(), took);
        self.journal_response(now, slot, packet);
        if is_earlier {
            self.end_elsewhere(now, slot, connection, packet);
        } else {
            if self.pools.is_tcp(connection) {
                let ahead = |most| self.exchanges.ahead_of(slot, connection, most);
                self.pools.answered(connection, now, began, ahead);
                self.note_keepalive(connection, upstream, &response);
                // An error without a question shows no case.
                if self.exchanges.get(slot).forced.is_some() && response.start != HEADER_LEN {
                    self.compare_case(now, slot, upstream, packet);
                }
            }
            self.exchanges.end_attempt(slot);
            if self.asks_without_edns(now, slot, connection, &response) {
                return None;
            }
            self.pools.release(connection, now, false);
        }
        match self.step_after(slot, &response) {
            NextStep::Deliver => {
                let response = self.without_private(slot, upstream, response, packet);
                let remembered = self.remember(now, slot, &response, packet);
                self.exchanges.settle(slot);
                self.failures.drop_held(slot);
                // A waiter may belong to a parked query that has ended.
                if self.rewriting.has_waiting() {
                    self.wake_waiters(now, slot, (packet, &response), remembered);
                }
                if self.exchanges.first_waiter(slot).is_none() {
                    // A refresh or probe has no clients: this ends its exchange.
                    let _ = self.exchanges.next_waiter(slot);
                    return None;
                }
                let exchange = self.exchanges.key(slot);
                return Some(Answered { at: now, exchange, response, remembered });
            }
            NextStep::SameOverTcp => {
                self.exchanges.get(slot).transport = Transport::Tcp;
                self.attempt_at(now, slot, upstream);
            }
            NextStep::AnotherUpstream => {
                self.exchanges.get(slot).failovers += 1;
                self.end_force(slot);
                self.hold_back(slot, upstream, response, packet);
                self.attempt(now, slot, Reason::NoConnection);
            }
            NextStep::AnotherStanza(stanza) => self.pass_on(now, slot, stanza),
            NextStep::Nowhere => {
                self.failures.drop_held(slot);
                self.fail(now, slot, Reason::NobodyForwards);
            }
        }
        None
    }

    /// Drops and counts a packet that is not valid for `reason`, and continues the queries for
    /// which it matters.
    #[cold]
    fn on_invalid(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        packet: &[u8],
        reason: DropReason,
    ) {
        self.counters.stats.drop(reason);
        match reason {
            DropReason::ResponseRepeated => self.end_earlier(now, connection, packet),
            DropReason::ResponseWrongCase => self.on_wrong_case(now, connection, packet),
            // An upstream may send malformed records.
            DropReason::ResponseMalformed if self.is_asked(connection, packet) => {}
            _ => self.on_mismatch(now, connection),
        }
    }

    /// Returns true if a query with the ID of `packet` is outstanding on `connection`.
    #[cold]
    fn is_asked(&self, connection: ConnectionId, packet: &[u8]) -> bool {
        id(packet).is_some_and(|id| self.exchanges.find(connection, id).is_some())
    }

    /// Validates a packet. Returns its exchange, its layout, and true if it answers an earlier
    /// attempt.
    pub(super) fn believe(
        &self,
        connection: ConnectionId,
        packet: &[u8],
        truncated: bool,
    ) -> Result<(u32, Response, bool), DropReason> {
        let is_bare = !is_response(packet);
        let believable = !is_bare || is_bare_error(packet);
        let id = id(packet).filter(|_| believable).ok_or(DropReason::ResponseMalformed)?;
        let (slot, is_earlier) = match self.exchanges.find(connection, id) {
            Some(slot) => (slot, false),
            None => (self.find_earlier(connection, id)?, true),
        };
        self.exchanges.prefetch_end(slot);
        let name_len = self.exchanges.name_len(slot);
        if !is_bare && !answers(packet, self.exchanges.query(slot), name_len) {
            return Err(DropReason::ResponseWrongQuestion);
        }
        if self.exchanges.is_spelt(slot) {
            self.check_case(slot, packet)?;
        }
        let response = if truncated {
            Response::of_truncated(packet)
        } else {
            // Its name has the labels of ours, so the question has the same length.
            let question_len = if is_bare { 0 } else { name_len + 4 };
            Response::behind(packet, HEADER_LEN + question_len)
        };
        Ok((slot, response.ok_or(DropReason::ResponseMalformed)?, is_earlier))
    }

    /// Returns the next action for a validated response, as configured.
    fn step_after(&mut self, slot: u32, response: &Response) -> NextStep {
        let is_refresh =
            self.exchanges.is_cacheable(slot) && self.exchanges.first_waiter(slot).is_none();
        let (_, transport) = self.exchanges.last_asked(slot);
        let exchange = self.exchanges.get(slot);
        let number = exchange.stanza as usize;
        let stanza = self.routes.stanza(number);
        let truncated = response.flags & flags::TC != 0;
        // A refresh has no client that would repeat the query over TCP.
        let whole = stanza.prefer_udp || is_refresh;
        if truncated && transport == Transport::Udp && whole {
            return NextStep::SameOverTcp;
        }
        let rcode = response.rcode();
        let more = exchange.failovers as usize + 1 < stanza.upstreams.len();
        if stanza.failover.contains(rcode) && more {
            return NextStep::AnotherUpstream;
        }
        let nodata = rcode == Rcode::NoError as u16 && response.counts[0] == 0;
        if stanza.next.contains(rcode) || (nodata && stanza.next_on_nodata) {
            return match self.routes.after(number, &LowercaseName::new(self.exchanges.name(slot))) {
                NextStanza::End => NextStep::Deliver,
                NextStanza::Stanza(next) => NextStep::AnotherStanza(next),
                NextStanza::Nowhere => NextStep::Nowhere,
            };
        }
        NextStep::Deliver
    }

    /// Keeps a response that failover skips, in case no better one arrives.
    fn hold_back(&mut self, slot: u32, upstream: usize, response: Response, packet: &[u8]) {
        let response = self.without_private(slot, upstream, response, packet);
        self.failures.hold(slot, response, packet.into());
    }

    /// Returns the response, or REFUSED instead of an answer with addresses of private networks if
    /// the stanza refuses them for the name.
    #[inline(always)]
    fn without_private(
        &mut self,
        slot: u32,
        upstream: usize,
        response: Response,
        packet: &[u8],
    ) -> Response {
        let stanza = self.exchanges.get(slot).stanza as usize;
        match self.routes.stanza(stanza).private_answers {
            None => response,
            Some(_) => self.refuse_private(slot, upstream, response, packet),
        }
    }

    #[inline(never)]
    fn refuse_private(
        &mut self,
        slot: u32,
        upstream: usize,
        response: Response,
        packet: &[u8],
    ) -> Response {
        let stanza = self.exchanges.get(slot).stanza as usize;
        let except = self.routes.stanza(stanza).private_answers.as_ref();
        let name = LowercaseName::new(self.exchanges.name(slot));
        let is_excepted = except.is_some_and(|except| except.longest(&name).is_some());
        if is_excepted || !has_private_address(packet, &response) {
            return response;
        }
        self.upstreams.stats(upstream).private_answers += 1;
        response.without_records(Rcode::Refused)
    }

    /// Sets the transport of the next attempt of the query in `slot`, by stanza and first client.
    pub(super) fn choose_transport(&mut self, slot: u32) {
        let client = self.exchanges.first_waiter(slot).map(|waiter| waiter.client.transport());
        let exchange = self.exchanges.get(slot);
        let stanza = self.routes.stanza(exchange.stanza as usize);
        exchange.transport = stanza.transport(client.unwrap_or_default());
        exchange.forced = None;
    }

    /// Lets the query in `slot` that was forced over TCP go on by its stanza's transport.
    pub(super) fn end_force(&mut self, slot: u32) {
        if self.exchanges.get(slot).forced.is_some() {
            self.choose_transport(slot);
        }
    }

    /// Moves the query to another stanza, where it starts again with its remaining time.
    fn pass_on(&mut self, now: Moment, slot: u32, number: usize) {
        self.failures.drop_held(slot);
        self.exchanges.get(slot).stanza = number as u32;
        self.choose_transport(slot);
        let stanza = self.routes.stanza(number);
        let exchange = self.exchanges.get(slot);
        exchange.timeout_class = stanza.timeout_class;
        (exchange.tour, exchange.failures, exchange.failovers) = (Tour::NEW, 0, 0);
        self.attempt(now, slot, Reason::NoConnection);
    }

    /// Handles a response on `connection` that matches no query. After a burst of them, the queries
    /// on the connection are sent to the same upstream over TCP (RFC 5452 §9.3).
    #[cold]
    fn on_mismatch(&mut self, now: Moment, connection: ConnectionId) {
        let upstream = self.upstream_at(connection);
        if !self.pools.count_mismatch(connection, now) {
            return;
        }
        let Some(upstream) = upstream else { return };
        self.upstreams.note_mismatches(upstream, now);
        while let Some(slot) = self.exchanges.first_on(connection) {
            self.force_tcp(now, connection, slot, WrongResponse::Mismatch);
        }
    }

    /// Applies the keepalive option of a response to its connection.
    fn note_keepalive(&mut self, connection: ConnectionId, upstream: usize, response: &Response) {
        // In an HTTP response it is of the connection between the HTTP server and a DNS server.
        if let Some(units) = response.opt.and_then(|opt| opt.keepalive)
            && matches!(self.upstreams.way_to(upstream, Transport::Tcp), Way::Tcp | Way::Secure)
        {
            match units {
                0 => self.pools.leave(connection),
                _ => self.pools.announce(connection, Duration::from_millis(100 * u64::from(units))),
            }
        }
    }
}
