//! Queries that are HTTP requests or streams of QUIC, each with its own end.
//!
//! A connection that fails ends all its queries ([`super::attempts`]); a request may fail alone.
//! One that the server has not processed (RFC 9113 §8.7, RFC 9250 §4.3) is sent again at once and
//! costs nothing: to the same upstream if the connection is about to end, otherwise to the next,
//! because this one refuses work. Any other failure is that of an attempt.

use super::{Forwarder, Outgoing};
use crate::engine::errors::{Fault, HttpFault, Operation, QuicFault, Reason};
use crate::engine::key::ConnectionId;
use crate::engine::message::{HEADER_LEN, Rcode, flags, put_u16, u16_at};
use crate::moment::Moment;
use std::time::Duration;

/// Maximum number of free retries of a query that was not processed, because each may cost a
/// handshake.
const UNPROCESSED_MAX: u32 = 4;
/// Part of the time after which a server forgets an idle connection that the connection may be used
/// in.
const SILENCE_SHARE: f32 = 0.75;

impl Forwarder {
    /// Returns true if `packet` answers a query on `connection`.
    pub(crate) fn is_answer(&self, connection: ConnectionId, packet: &[u8]) -> bool {
        self.believe(connection, packet, false).is_ok()
    }

    /// Returns true if `packet`, which answers a query on `connection`, has the option
    /// edns-tcp-keepalive. `None`: it answers no query there.
    pub(crate) fn has_keepalive(&self, connection: ConnectionId, packet: &[u8]) -> Option<bool> {
        let (_, response, _) = self.believe(connection, packet, false).ok()?;
        Some(response.opt.is_some_and(|opt| opt.keepalive.is_some()))
    }

    /// Handles the end without an answer of the query with this ID on `connection`.
    pub fn on_call_failed(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        id: u16,
        fault: impl Into<Fault>,
    ) {
        self.end_call(now, connection, id, fault.into());
    }

    fn end_call(&mut self, now: Moment, connection: ConnectionId, id: u16, fault: Fault) {
        let Some(slot) = self.exchanges.find(connection, id) else {
            return self.forget_moved(connection, id);
        };
        let is_unsent =
            matches!(fault, Fault::Http(HttpFault::Unsent) | Fault::Quic(QuicFault::Unsent));
        let is_unprocessed = is_unsent || is_refusal(fault);
        if !is_unprocessed && is_of_server(fault) {
            // Behind one address, another connection may lead to a better server.
            self.pools.break_off(connection);
        }
        // As long as connections answer, each round makes progress.
        let is_costless = is_unsent && self.pools.has_answered(connection);
        let excused = &mut self.exchanges.get(slot).excused;
        let is_free = is_unprocessed && (is_costless || *excused < UNPROCESSED_MAX);
        *excused += u32::from(is_free && !is_costless);
        let is_ending = self.pools.is_retiring(connection);
        let reason = Reason::Attempt(Operation::Read, fault);
        match self.fail_attempt(now, connection, slot, is_free, reason) {
            Some(upstream) if is_ending => self.attempt_at(now, slot, upstream),
            Some(_) => self.attempt(now, slot, reason),
            None => {}
        }
    }

    /// Forgets the query with this ID that was moved away from `connection` and is not answered
    /// there.
    pub fn forget_moved(&mut self, connection: ConnectionId, id: u16) {
        if self.exchanges.end_earlier(connection, id) {
            self.pools.count_left(connection, false);
        }
    }

    /// Writes the response of an upstream that says by a status of gRPC, and not by a message, that
    /// the name of `query` does not exist. Returns false if it is not awaited on this connection.
    pub(crate) fn deny(&self, query: &Outgoing, out: &mut Vec<u8>) -> bool {
        let slot = self.exchanges.slot(query.exchange);
        let (Some(packet), Some(slot)) = (self.query(query), slot) else { return false };
        let question_end = HEADER_LEN + self.exchanges.name_len(slot) + 4;
        out.clear();
        out.extend_from_slice(packet.get(..question_end).unwrap_or(packet));
        let asked = u16_at(packet, 2).unwrap_or_default() & (flags::RD | flags::CD);
        put_u16(out, 2, asked | flags::QR | flags::RA | Rcode::NxDomain as u16);
        // The question is its only record.
        (6..HEADER_LEN).step_by(2).for_each(|count| put_u16(out, count, 0));
        true
    }

    /// Handles the server's announcement that it processes no further request on `connection`.
    /// Requests that the server has begun stay outstanding.
    pub fn on_closing(&mut self, now: Moment, connection: ConnectionId) {
        self.pools.closes(connection, now);
    }

    /// Handles the server's limit of requests at once on a connection.
    pub fn on_calls_max(&mut self, connection: ConnectionId, calls_max: usize) {
        self.pools.limit_in_flight(connection, calls_max);
    }

    /// Handles the time after which the server forgets an idle connection. Its silence is not
    /// announced when it comes, so the pool is done with the connection well before.
    pub(crate) fn on_silence_max(&mut self, connection: ConnectionId, silence: Duration) {
        self.pools.announce(connection, silence.mul_f32(SILENCE_SHARE));
    }
}

/// Returns true if the server has refused to process the query.
pub(super) fn is_refusal(fault: Fault) -> bool {
    matches!(fault, Fault::Http(HttpFault::Unprocessed) | Fault::Quic(QuicFault::Refused))
}

/// Returns true if the server is to blame, rather than the query.
fn is_of_server(fault: Fault) -> bool {
    match fault {
        Fault::Http(HttpFault::Status(status)) => status >= 500,
        // UNKNOWN, INTERNAL, UNAVAILABLE and DATA_LOSS.
        Fault::Http(HttpFault::GrpcStatus(status)) => matches!(status, 2 | 13..=15),
        Fault::Http(HttpFault::Mismatch) | Fault::Quic(QuicFault::Mismatch) => false,
        _ => true,
    }
}
