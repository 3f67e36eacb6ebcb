//! Recipients of replies: how long a reply may be, and the question that it repeats.
//!
//! The writers of replies share it: a reply can be a copy of a response, a cached answer, an error,
//! or the completed reply of a parked query.

use crate::engine::exchange::{Client, Dismissed, Exchanges};
use crate::engine::key::Transport;
use crate::engine::message::HEADER_LEN;
use crate::engine::message::query::Asked;
use crate::engine::message::reply::{Finish, ReplyTo};

/// The longest message that a connection carries.
pub const TCP_MESSAGE_MAX: usize = u16::MAX as usize;
/// Bytes by which a reply over TCP or TLS may be longer than its response: our OPT with its
/// options, padding included.
pub const TCP_REPLY_SPARE: usize = 1_024;

/// Returns who a waiter of the exchange that is or was just in `slot` is to a writer of replies.
/// How it spells the name is for [`Exchanges::spell`] to say, once that is written.
pub(super) fn to_waiter<'a>(
    exchanges: &'a Exchanges,
    slot: u32,
    waiter: Dismissed,
    finish: Finish<'a>,
) -> ReplyTo<'a> {
    let waiter = exchanges.dismissed(waiter);
    let limit = limit(&waiter.client, &waiter.asked);
    let question = &exchanges.query(slot)[HEADER_LEN..HEADER_LEN + exchanges.name_len(slot) + 4];
    ReplyTo { asked: &waiter.asked, question, limit, finish }
}

/// Bytes of a client's reply at most.
pub(super) fn limit(client: &Client, asked: &Asked) -> usize {
    match client.transport() {
        Transport::Udp => asked.udp_limit(),
        Transport::Tcp => TCP_MESSAGE_MAX,
    }
}
