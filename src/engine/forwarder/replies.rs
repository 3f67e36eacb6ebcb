//! What goes to the clients: copies of a believed response, or the news that there is none.
//!
//! Each waiting client is drawn in turn, so that one answer for a thousand takes no more memory
//! than one for one, and the caller decides where each reply is written.

use super::{Answered, Forwarder, Reply};
use crate::engine::exchange::{Client, Waiter};
use crate::engine::key::Transport;
use crate::engine::message::compose::write_error;
use crate::engine::message::query::Asked;
use crate::engine::message::reply::{Finish, ReplyTo, write_answer};
use crate::engine::message::{HEADER_LEN, NAME_LEN_MAX, Rcode, flags, reply};
use crate::engine::stats::DropReason;
use rand_chacha::rand_core::Rng;

/// The longest message that a stream carries.
pub const STREAM_MESSAGE_MAX: usize = u16::MAX as usize;

impl Forwarder {
    /// Whom the next reply of [`Forwarder::next_reply`] is for.
    pub fn next_client(&self, answered: &Answered) -> Option<Client> {
        let slot = self.exchanges.slot(answered.exchange)?;
        self.exchanges.first_waiter(slot).map(|waiter| waiter.client)
    }

    /// The next client's copy of a believed response, whose packet is lent once more. To be drawn
    /// until `None`. `out` holds at least [`super::super::message::UDP_PAYLOAD_MAX`] bytes, or
    /// [`STREAM_MESSAGE_MAX`] for a client on a stream.
    pub fn next_reply(
        &mut self,
        answered: &Answered,
        packet: &[u8],
        out: &mut [u8],
    ) -> Option<Reply> {
        let slot = self.exchanges.slot(answered.exchange)?;
        let waiter = self.exchanges.next_waiter(slot)?;
        let mut scratch = [0; NAME_LEN_MAX + 4];
        let question = self.question_for(slot, &waiter, &mut scratch);
        let to = self.to(slot, &waiter, question);
        let len = write_answer(out, packet, &answered.response, &to);
        self.rearrange(slot, &mut out[..len]);
        Some(self.reply_to(slot, &waiter.client, &out[..len]))
    }

    /// The client of the next reply is gone: it gets none.
    pub fn forget_reply(&mut self, answered: &Answered) {
        let Some(slot) = self.exchanges.slot(answered.exchange) else { return };
        if self.exchanges.next_waiter(slot).is_some() {
            let stanza = self.exchanges.first_stanza(slot);
            self.routes.stanza(stanza).under_way -= 1;
            self.stats.drop(DropReason::ReplyNotSent);
        }
    }

    /// The next reply to a query that found no answer. To be drawn until `None` after every other
    /// call. `out` is as for [`Forwarder::next_reply`].
    pub fn next_failure(&mut self, out: &mut [u8]) -> Option<Reply> {
        loop {
            let (key, why) = *self.failures.last()?;
            let waiter = self.exchanges.slot(key).and_then(|slot| self.exchanges.next_waiter(slot));
            let Some(waiter) = waiter else {
                self.failures.pop();
                self.held.remove(&key.0.index);
                continue;
            };
            let slot = key.0.index;
            let mut scratch = [0; NAME_LEN_MAX + 4];
            let question = self.question_for(slot, &waiter, &mut scratch);
            let to = self.to(slot, &waiter, question);
            let len = match self.held.get(&slot) {
                Some((response, packet)) => {
                    let len = write_answer(out, packet, response, &to);
                    self.rearrange(slot, &mut out[..len]);
                    len
                }
                None => {
                    let ReplyTo { asked, question, finish, .. } = to;
                    write_error(out, asked, question, Rcode::ServFail, Some(why), finish)
                }
            };
            return Some(self.reply_to(slot, &waiter.client, &out[..len]));
        }
    }

    /// Who the waiter is to a writer of replies.
    fn to<'a>(&'a self, slot: u32, waiter: &'a Waiter, question: &'a [u8]) -> ReplyTo<'a> {
        let limit = limit(&waiter.client, &waiter.asked);
        ReplyTo { asked: &waiter.asked, question, limit, finish: self.finish(slot) }
    }

    /// How the block finishes its replies whose exchange is or was just in `slot`.
    fn finish(&self, slot: u32) -> Finish<'_> {
        let block = self.routes.block_of(self.exchanges.first_stanza(slot));
        block.map_or(Finish::PLAIN, |block| self.chains[block].finish())
    }

    /// Lets addresses change places in a reply whose exchange is or was just in `slot`.
    fn rearrange(&mut self, slot: u32, reply: &mut [u8]) {
        if let Some(block) = self.routes.block_of(self.exchanges.first_stanza(slot)) {
            self.chains[block].rearrange(reply, || self.random.next_u32());
        }
    }

    /// The question of the exchange that is or was just in `slot`, as the waiter spelt it.
    fn question_for<'a>(
        &'a self,
        slot: u32,
        waiter: &Waiter,
        scratch: &'a mut [u8; NAME_LEN_MAX + 4],
    ) -> &'a [u8] {
        let name_len = self.exchanges.name_len(slot);
        let question = &self.exchanges.query(slot)[HEADER_LEN..HEADER_LEN + name_len + 4];
        let Some(spelling) = &waiter.spelling else { return question };
        let spelt = &mut scratch[..question.len()];
        spelt.copy_from_slice(question);
        spelling.apply(&mut spelt[..name_len]);
        spelt
    }

    /// The books of a waiting client's reply.
    fn reply_to(&mut self, slot: u32, client: &Client, written: &[u8]) -> Reply {
        self.count_reply(written);
        let stanza = self.exchanges.first_stanza(slot);
        self.routes.stanza(stanza).under_way -= 1;
        if let Some(stream) = client.stream {
            self.clients.answered(stream);
        }
        Reply { client: *client, len: written.len() }
    }

    pub(super) fn count_reply(&mut self, reply: &[u8]) {
        self.stats.replies[usize::from(reply::rcode(reply) & flags::RCODE)] += 1;
    }
}

/// Bytes of a client's reply at most.
pub(super) fn limit(client: &Client, asked: &Asked) -> usize {
    match client.transport() {
        Transport::Udp => asked.udp_limit(),
        Transport::Tcp => STREAM_MESSAGE_MAX,
    }
}
