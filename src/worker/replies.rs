//! Replies to clients, over UDP and TCP.
//!
//! The engine writes one reply after the other, directly into the buffer from which it is sent: for
//! UDP a batch that is sent with one call per listener, for TCP and TLS the outbox of the
//! connection.

use super::Listening;
use super::clients::ClientConnections;
use crate::clock::Clock;
use crate::engine::stats::DropReason;
use crate::engine::{Answered, Client, Forwarder, Reply};
use crate::moment::Moment;
use crate::sys::mmsg::ReplyBatch;
use crate::sys::pktinfo::Local;
use crate::sys::socket;
use std::os::fd::AsFd;

/// Replies to be sent.
pub(super) struct Replies {
    batch: ReplyBatch,
    /// Number of replies sent as part of a GSO batch, and of batches that the kernel refused.
    counts: (u64, u64),
    pub(super) connections: ClientConnections,
}

impl Replies {
    /// Creates a batch for `capacity` datagrams of `length` bytes. `gso`: datagrams of equal length
    /// to one client may be sent with one call.
    pub(super) fn new(capacity: usize, length: usize, gso: bool, clock: Clock) -> Self {
        let segmented = gso && socket::can_segment();
        Self {
            batch: ReplyBatch::new(capacity, length, segmented),
            counts: (0, 0),
            connections: ClientConnections::new(clock),
        }
    }

    /// Returns the reserved bytes.
    pub(super) fn reserved(&self) -> usize {
        self.batch.reserved() + self.connections.reserved()
    }

    /// Returns the buffer for the next reply over UDP.
    pub(super) fn buffer(&mut self) -> &mut [u8] {
        self.batch.buffer()
    }

    /// Queues the reply in [`Replies::buffer`].
    pub(super) fn commit(
        &mut self,
        reply: &Reply,
        listeners: &[Option<Listening>],
        engine: &mut Forwarder,
    ) {
        let Client { listener, peer, local, .. } = &reply.client;
        let local = local.map(|(ip, interface)| Local { ip, interface });
        self.batch.commit(reply.len, *listener, peer, local);
        if self.batch.is_full() {
            self.flush_batch(listeners, engine);
        }
    }

    /// Writes every waiting client's copy of the response `packet`.
    pub(super) fn answer(
        &mut self,
        answered: &Answered,
        packet: &[u8],
        listeners: &[Option<Listening>],
        engine: &mut Forwarder,
    ) {
        while let Some(client) = engine.next_client(answered) {
            let Some(connection) = client.connection else {
                let reply = engine.next_reply(answered, packet, self.batch.buffer());
                reply.inspect(|reply| self.commit(reply, listeners, engine));
                continue;
            };
            let room = engine.room_over_tcp(answered, packet);
            let delivered = self.connections.answer(connection, engine, room, |engine, out| {
                engine.next_reply(answered, packet, out).map_or(0, |reply| reply.len)
            });
            if !delivered {
                engine.forget_reply(answered);
            }
        }
    }

    /// Queues a reply that the engine has written elsewhere.
    pub(super) fn deliver(
        &mut self,
        client: &Client,
        written: &[u8],
        listeners: &[Option<Listening>],
        engine: &mut Forwarder,
    ) {
        let len = written.len();
        let Some(connection) = client.connection else {
            self.batch.buffer()[..len].copy_from_slice(written);
            return self.commit(&Reply { client: *client, len }, listeners, engine);
        };
        let delivered = self.connections.answer(connection, engine, len, |_, out| {
            out[..len].copy_from_slice(written);
            len
        });
        if !delivered {
            engine.stats_mut().drop(DropReason::ReplyNotSent);
        }
    }

    /// Sends all queued replies.
    pub(super) fn flush(
        &mut self,
        now: Moment,
        listeners: &[Option<Listening>],
        engine: &mut Forwarder,
    ) {
        if !self.batch.is_empty() {
            self.flush_batch(listeners, engine);
        }
        self.connections.flush(now, engine);
    }

    /// Takes the number of replies that were sent as part of a GSO batch, and of batches that the
    /// kernel refused.
    pub(super) fn take_counts(&mut self) -> (u64, u64) {
        std::mem::take(&mut self.counts)
    }

    fn flush_batch(&mut self, listeners: &[Option<Listening>], engine: &mut Forwarder) {
        let sent = self.batch.flush(|number| {
            let listening = listeners[usize::from(number)].as_ref();
            let datagrams = listening.and_then(|listening| listening.datagrams.as_ref());
            datagrams.expect("a query came in on it").as_fd()
        });
        engine.stats_mut().drops[DropReason::ReplyNotSent as usize] += sent.dropped as u64;
        self.counts.0 += sent.joined as u64;
        self.counts.1 += u64::from(sent.refused);
    }
}
