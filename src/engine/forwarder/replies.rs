//! Replies to clients: copies of a validated response, or an error.
//!
//! Replies to waiting clients are written one at a time into the caller's buffer, so that one
//! answer for a thousand clients takes no more memory than for one client.

use super::caching::CacheOutcome;
use super::course::Written;
use super::failures::Failed;
use super::late::{HeldReply, Lateness};
use super::recipient::{TCP_MESSAGE_MAX, TCP_REPLY_SPARE, to_waiter};
use super::{Answered, Forwarder, Reply};
use crate::engine::errors::Reason;
use crate::engine::exchange::{Client, Dismissed, Shown, Waiter};
use crate::engine::message::compose::write_error;
use crate::engine::message::reply::{Finish, ReplyTo, rcode_for, write_answer};
use crate::engine::message::response::Response;
use crate::engine::message::{Rcode, reply};
use crate::engine::stats::DropReason;
use crate::engine::tally::CountedReply;
use crate::moment::Moment;
use rand_chacha::rand_core::Rng;

impl Forwarder {
    /// Returns the client of the next reply of [`Forwarder::next_reply`].
    pub fn next_client(&self, answered: &Answered) -> Option<&Client> {
        let slot = self.exchanges.slot(answered.exchange)?;
        self.exchanges.first_waiter(slot).map(|waiter| &waiter.client)
    }

    /// Returns the maximum length of the next reply of [`Forwarder::next_reply`] on a connection,
    /// which only a copy of the response can reach.
    pub fn room_over_tcp(&self, answered: &Answered, packet: &[u8]) -> usize {
        let slot = self.exchanges.slot(answered.exchange);
        let waiter = slot.and_then(|slot| self.exchanges.first_waiter(slot));
        let is_rewritten = waiter.is_some_and(|waiter| matches!(waiter.shown, Shown::Other(_)));
        let is_instead = answered.remembered.is_some_and(|remembered| remembered.is_instead());
        match is_rewritten || is_instead {
            true => TCP_MESSAGE_MAX,
            false => (packet.len() + TCP_REPLY_SPARE).min(TCP_MESSAGE_MAX),
        }
    }

    /// Writes the next client's copy of a validated response, whose packet is `packet`. The caller
    /// repeats this while there is a [`Forwarder::next_client`]. `None`: this client gets no
    /// reply because of a limit, or there is no client left. `out` holds at least
    /// [`super::super::message::UDP_PAYLOAD_MAX`] bytes, or [`TCP_MESSAGE_MAX`] for a client on a
    /// connection.
    pub fn next_reply(
        &mut self,
        answered: &Answered,
        packet: &[u8],
        out: &mut [u8],
    ) -> Option<Reply> {
        let slot = self.exchanges.slot(answered.exchange)?;
        let waiter = self.exchanges.next_waiter(slot)?;
        let Answered { at, response, remembered, .. } = answered;
        let lateness = self.lateness(*at, waiter);
        if lateness == Lateness::Discarded {
            self.discard(*at, slot, waiter);
            return None;
        }
        let reply = self.write_response(slot, waiter, packet, response, *remembered, out);
        let (len, rcode) = self.observe_reply(*at, slot, waiter, out, reply)?;
        let written = Written { bytes: &out[..len], rcode };
        self.reply_to(*at, slot, waiter, written, (true, lateness))
    }

    /// Writes a waiter's copy of a response, or the cache entry instead of it, with the waiter's
    /// own question. Returns the length and the response code, of 12 bits.
    #[inline(always)]
    pub(super) fn write_response(
        &mut self,
        slot: u32,
        waiter: Dismissed,
        packet: &[u8],
        response: &Response,
        remembered: Option<CacheOutcome>,
        out: &mut [u8],
    ) -> (usize, u16) {
        self.write_as_asked(slot, waiter, out, |engine, out| {
            engine.write_copy(slot, waiter, packet, response, remembered, out)
        })
    }

    /// Writes a waiter's reply with the question that was sent to the upstream.
    fn write_copy(
        &mut self,
        slot: u32,
        waiter: Dismissed,
        packet: &[u8],
        response: &Response,
        remembered: Option<CacheOutcome>,
        out: &mut [u8],
    ) -> (usize, u16) {
        if let Some(len) = self.write_instead(slot, waiter, remembered, out) {
            return (len, reply::rcode(out));
        }
        let to = to_waiter(&self.exchanges, slot, waiter, self.finish(slot));
        let rcode = rcode_for(response, to.asked);
        let len = write_answer(out, packet, response, &to);
        self.exchanges.spell(slot, waiter, out);
        self.bound_ttls(remembered, &mut out[..len]);
        self.rearrange(slot, &mut out[..len]);
        (len, rcode)
    }

    /// Skips the next reply because its client is gone.
    pub fn forget_reply(&mut self, answered: &Answered) {
        let Some(slot) = self.exchanges.slot(answered.exchange) else { return };
        if let Some(waiter) = self.exchanges.next_waiter(slot) {
            self.journal_waiter(answered.at, slot, waiter, None);
            let &Waiter { client, shown, .. } = self.exchanges.dismissed(waiter);
            self.rewriting.forget(shown);
            let stanza = self.exchanges.first_stanza(slot);
            self.routes.stanza(stanza).under_way -= 1;
            // The connection may go on: a stream alone may have been cancelled.
            if let Some(connection) = client.via.connection() {
                self.clients.answered(connection);
            }
            self.counters.stats.drop(DropReason::ReplyNotSent);
        }
    }

    /// Returns true if [`Forwarder::next_failure`] may return a reply.
    pub(in crate::engine) fn has_failures(&self) -> bool {
        let is_due = self.delays.has_due() || self.late.held.has_due();
        !self.failures.is_empty() || self.parked.has_woken() || is_due
    }

    /// Writes the next reply to a query that failed, was parked, delayed or late. The caller
    /// repeats this until `None` after every other call. `out` is as for [`Forwarder::next_reply`].
    pub(in crate::engine) fn next_failure(&mut self, out: &mut [u8]) -> Option<Reply> {
        loop {
            let Some(failed) = self.failures.next() else {
                let woken = self.next_woken(out).or_else(|| self.next_delayed(out));
                return woken.or_else(|| self.next_late(out));
            };
            let Failed { at, exchange, reason, remembered, goes_on } = failed;
            let waiter = self.exchanges.slot(exchange).and_then(|slot| match goes_on {
                true => self.exchanges.dismiss_waiter(slot),
                false => self.exchanges.next_waiter(slot),
            });
            let slot = exchange.0.index;
            let Some(waiter) = waiter else {
                self.failures.end_next();
                if !goes_on {
                    self.failures.drop_held(slot);
                }
                continue;
            };
            let held = self.failures.take_held(slot).filter(|_| !goes_on);
            let ((len, rcode), answered) = match held {
                Some((response, packet)) => {
                    let written =
                        self.write_response(slot, waiter, &packet, &response, remembered, out);
                    self.failures.hold(slot, response, packet);
                    (written, true)
                }
                None => {
                    let mut answered = true;
                    let written =
                        self.write_as_asked(slot, waiter, out, |engine, out| {
                            match engine.write_instead(slot, waiter, remembered, out) {
                                Some(len) => (len, reply::rcode(out)),
                                None => {
                                    answered = false;
                                    engine.write_failure(slot, waiter, reason, out)
                                }
                            }
                        });
                    (written, answered)
                }
            };
            if self.wake(at, slot, waiter, Written { bytes: &out[..len], rcode }) {
                continue;
            }
            let lateness = self.lateness(at, waiter);
            if lateness == Lateness::Discarded {
                self.discard(at, slot, waiter);
                continue;
            }
            if let Some((len, rcode)) = self.observe_reply(at, slot, waiter, out, (len, rcode)) {
                let written = Written { bytes: &out[..len], rcode };
                let reply = self.reply_to(at, slot, waiter, written, (answered, lateness));
                if reply.is_some() {
                    return reply;
                }
            }
        }
    }

    /// Writes the error reply to a waiter; returns its length and response code.
    fn write_failure(
        &mut self,
        slot: u32,
        waiter: Dismissed,
        reason: Reason,
        out: &mut [u8],
    ) -> (usize, u16) {
        let to = to_waiter(&self.exchanges, slot, waiter, self.finish(slot));
        let ReplyTo { asked, question, finish, .. } = to;
        let rcode = Rcode::ServFail;
        let len = write_error(out, asked, question, rcode, reason.extended(), finish);
        self.exchanges.spell(slot, waiter, out);
        let shown = self.exchanges.dismissed(waiter).shown;
        self.log_exchange(slot, shown, rcode, reason);
        (len, rcode as u16)
    }

    /// Returns the reply settings of the block whose exchange is or was just in `slot`.
    fn finish(&self, slot: u32) -> Finish<'_> {
        let block = self.routes.block_of(self.exchanges.first_stanza(slot));
        block.map_or(Finish::PLAIN, |block| self.chains[block].finish())
    }

    /// Returns the reply settings of `block` for replies that do not come from an upstream.
    #[inline]
    pub(super) fn finish_own(&self, block: Option<usize>) -> Finish<'_> {
        block.map_or(Finish::PLAIN, |block| self.chains[block].finish_own())
    }

    /// Reorders the addresses in a reply whose exchange is or was just in `slot`.
    fn rearrange(&mut self, slot: u32, reply: &mut [u8]) {
        if let Some(block) = self.routes.block_of(self.exchanges.first_stanza(slot)) {
            self.chains[block].rearrange(reply, || self.random.next_u32());
        }
    }

    /// Limits and records a waiter's reply, if its server block wants that; returns its length and
    /// response code. `None`: it is not sent.
    #[inline(always)]
    fn observe_reply(
        &mut self,
        at: Moment,
        slot: u32,
        waiter: Dismissed,
        out: &mut [u8],
        reply: (usize, u16),
    ) -> Option<(usize, u16)> {
        match self.block_that_wants(slot) {
            None => Some(reply),
            Some(block) => self.observe_waiter(at, (slot, waiter), block, out, reply),
        }
    }

    /// Counts a waiting client's reply, and returns it unless it is held back. `answered`: false
    /// for errors generated here.
    fn reply_to(
        &mut self,
        at: Moment,
        slot: u32,
        waiter: Dismissed,
        written: Written<'_>,
        (answered, lateness): (bool, Lateness),
    ) -> Option<Reply> {
        let &Waiter { client, since, label_set, shown, .. } = self.exchanges.dismissed(waiter);
        let Written { bytes, rcode } = written;
        match lateness {
            Lateness::Held(due) => {
                let held = HeldReply { client, since, label_set, rcode, answered };
                self.hold_late(due, held, bytes);
            }
            _ => {
                let (transport, took) = (client.transport(), at.since(since));
                let outcome = CountedReply { transport, took, rcode, len: bytes.len(), answered };
                self.counters.reply(at, label_set, self.exchanges.name(slot), &outcome);
            }
        }
        let stanza = self.exchanges.first_stanza(slot);
        self.routes.stanza(stanza).under_way -= 1;
        if let Some(connection) = client.via.connection() {
            self.clients.answered(connection);
        }
        self.rewriting.forget(shown);
        let is_sent = !matches!(lateness, Lateness::Held(_));
        is_sent.then_some(Reply { client, len: bytes.len() })
    }
}
