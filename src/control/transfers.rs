//! Orders for zone transfers, their messages, and counters of their results.
//!
//! The worker keeps the client's connection. It sends an order to the thread that writes transfers,
//! receives a few messages at a time, and reports when the client has read them. So neither waits
//! for the other, and a few messages of a zone of any size are in memory.

use super::Mailbox;
use crate::engine::forwarder::Transfer;
use crate::engine::key::ConnectionKey;
use crossbeam_channel::{Receiver, Sender};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Transfers that wait for the thread at most; workers keep further ones for a moment.
const ORDERS_MAX: usize = 64;

/// A transfer to be written.
pub(crate) struct TransferOrder {
    /// The zone and its client.
    pub(crate) transfer: Transfer,
    /// Number of the transfer, unique for the life of the worker, panics included.
    pub(crate) number: u64,
    /// The worker that has the client's connection.
    pub(crate) worker: Mailbox,
    /// Says that the client has read what was sent; its end, that the client is gone.
    pub(crate) more: Receiver<()>,
}

/// Messages of a transfer.
#[derive(Debug)]
pub(crate) struct TransferPart {
    /// The client's connection.
    pub(crate) connection: ConnectionKey,
    /// Number of the transfer. The worker discards a part with another number than that of the
    /// connection's transfer: connections after a panic may have the keys of earlier ones.
    pub(crate) number: u64,
    /// The messages, in their order.
    pub(crate) messages: Vec<Vec<u8>>,
    pub(crate) end: PartEnd,
}

/// End of a part: the messages that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartEnd {
    /// Further messages.
    Open,
    /// Nothing: the transfer is complete.
    Last,
    /// Nothing: the transfer is incomplete, and the worker closes the connection.
    Cut,
}

/// The way to the thread that writes transfers.
#[derive(Clone)]
pub(crate) struct TransferMailbox(Sender<TransferOrder>);

impl TransferMailbox {
    /// A mailbox, and its other end.
    pub(crate) fn new() -> (Self, Receiver<TransferOrder>) {
        let (sender, receiver) = crossbeam_channel::bounded(ORDERS_MAX);
        (Self(sender), receiver)
    }

    /// Returns true if there is no room now.
    pub(crate) fn is_full(&self) -> bool {
        self.0.is_full()
    }

    /// Hands an order on. Never waits.
    ///
    /// # Errors
    /// There is no room, or the thread has ended: the transfer of the order.
    pub(crate) fn send(&self, order: TransferOrder) -> Result<(), Box<Transfer>> {
        self.0.try_send(order).map_err(|error| Box::new(error.into_inner().transfer))
    }
}

impl fmt::Debug for TransferMailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransferMailbox({} orders)", self.0.len())
    }
}

/// Counts by zone and result.
#[derive(Clone, Debug, Default)]
pub(crate) struct Results(Arc<Mutex<Counts>>);

type Counts = BTreeMap<(String, &'static str), u64>;

impl Results {
    pub(crate) fn count(&self, zone: String, result: &'static str) {
        *self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry((zone, result))
            .or_default() += 1;
    }

    /// Returns all counts, in the order of zones and results.
    pub(crate) fn all(&self) -> Vec<((String, &'static str), u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(key, count)| (key.clone(), *count)).collect()
    }
}
