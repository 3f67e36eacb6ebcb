//! A worker's orders to the thread that writes zone transfers.
//!
//! The engine decides who gets a zone; the connection of the client stays with the worker, and the
//! messages come back through the worker's mailbox. An order that no thread can take is refused to
//! its client at once.

use super::clients::ClientConnections;
use crate::control::{Mailbox, PartEnd, TransferMailbox, TransferOrder, TransferPart};
use crate::engine::Forwarder;
use crate::moment::Moment;

/// A worker's end of the channel for orders.
pub(super) struct TransferLink {
    orders: TransferMailbox,
    /// The mailbox of the worker, which receives the messages.
    mailbox: Mailbox,
    /// Number of the last order, also of earlier event loops of the worker.
    number: u64,
}

impl TransferLink {
    /// Creates the link of the worker with this mailbox.
    pub(super) fn new(orders: TransferMailbox, mailbox: Mailbox) -> Self {
        Self { orders, mailbox, number: 0 }
    }

    /// Orders the engine's next transfer, unless its connection is closed. Returns false if the
    /// channel is full. `unix_seconds` is the calendar time.
    pub(super) fn order_next(
        &mut self,
        now: Moment,
        unix_seconds: u64,
        engine: &mut Forwarder,
        connections: &mut ClientConnections,
    ) -> bool {
        if self.orders.is_full() {
            return false;
        }
        let Some(transfer) = engine.next_transfer() else { return true };
        let (more, reading) = crossbeam_channel::bounded(1);
        self.number += 1;
        let number = self.number;
        if !connections.begin_transfer(transfer.connection, number, more) {
            return true;
        }
        let worker = self.mailbox.clone();
        let order = TransferOrder { transfer, number, worker, more: reading };
        // Another worker may have taken the last place meanwhile.
        if let Err(transfer) = self.orders.send(order) {
            let messages = vec![transfer.refusal(unix_seconds)];
            let connection = transfer.connection;
            let part = TransferPart { connection, number, messages, end: PartEnd::Last };
            connections.take_part(part, engine);
            // Notices come after the flush of the turn.
            connections.flush(now, engine);
        }
        true
    }
}
