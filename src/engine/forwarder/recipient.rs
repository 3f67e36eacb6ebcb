//! Recipients of replies: maximum length of a reply, and its question.
//!
//! Shared by all writers of replies: a reply can be a copy of a response, a cached answer, an
//! error, or the completed reply of a parked query.

use crate::engine::exchange::{Client, Dismissed, Exchanges};
use crate::engine::key::Transport;
use crate::engine::message::HEADER_LEN;
use crate::engine::message::query::Asked;
use crate::engine::message::reply::{Finish, ReplyTo};

/// Maximum length of a message over TCP or TLS.
pub const TCP_MESSAGE_MAX: usize = u16::MAX as usize;
/// Maximum number of bytes by which a reply over TCP or TLS exceeds its response: our OPT record
/// with its options, including padding.
pub const TCP_REPLY_SPARE: usize = 1_024;

/// Returns the reply parameters of a waiter of the exchange that is or was just in `slot`.
/// [`Exchanges::spell`] restores the waiter's spelling of the name afterwards.
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

/// Returns the maximum length of a client's reply.
pub(super) fn limit(client: &Client, asked: &Asked) -> usize {
    match client.transport() {
        Transport::Udp => asked.udp_limit(),
        Transport::Tcp => TCP_MESSAGE_MAX,
    }
}
