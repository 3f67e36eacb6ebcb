//! A worker's orders to the thread that writes zone transfers.
//!
//! The engine decides who gets a zone; the connection of the client stays with the worker, and the
//! messages come back through the worker's mailbox. An order that no thread can take is refused to
//! its client at once.

use super::clients::ClientConnections;
use crate::control::{Mailbox, PartEnd, TransferMailbox, TransferOrder, TransferPart};
use crate::engine::Forwarder;
use crate::engine::forwarder::Transfer;
use crate::engine::message::reply::ERROR_LEN_MAX;

/// A worker's end of the channel for orders.
pub(super) struct TransferLink {
    orders: TransferMailbox,
    /// The mailbox of the worker, which receives the messages.
    mailbox: Mailbox,
}

impl TransferLink {
    /// Creates the link of the worker with this mailbox.
    pub(super) fn new(orders: TransferMailbox, mailbox: Mailbox) -> Self {
        Self { orders, mailbox }
    }

    /// Orders the engine's next transfer. Returns false if the channel is full.
    pub(super) fn order_next(
        &self,
        engine: &mut Forwarder,
        connections: &mut ClientConnections,
    ) -> bool {
        if self.orders.is_full() {
            return false;
        }
        let Some(transfer) = engine.next_transfer() else { return true };
        let (more, reading) = crossbeam_channel::bounded(1);
        if !connections.begin_transfer(transfer.connection, more) {
            connections.refuse_transfer(refusal(&transfer), engine);
            return true;
        }
        let worker = self.mailbox.clone();
        let order = TransferOrder { transfer, worker, more: reading };
        // Another worker may have taken the last place meanwhile.
        if let Err(transfer) = self.orders.send(order) {
            connections.take_part(refusal(&transfer), engine);
        }
        true
    }
}

/// Returns the reply to a transfer that is not written.
fn refusal(transfer: &Transfer) -> TransferPart {
    let mut out = vec![0; ERROR_LEN_MAX];
    let len = transfer.refuse(&mut out);
    out.truncate(len);
    TransferPart { connection: transfer.connection, messages: vec![out], end: PartEnd::Last }
}
