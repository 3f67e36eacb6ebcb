//! What the keeper and the workers say to each other.
//!
//! Plain messages over bounded channels that nobody ever waits on to send. A worker asleep in its
//! poll is woken by a [`mio::Waker`], so a message and its wake-up travel together in a
//! [`Mailbox`]. Nothing here knows what the messages mean to either side.

use crate::engine::stats::Stats;
use crate::moment::Moment;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use std::sync::Arc;

/// To a worker.
#[derive(Debug)]
pub enum ToWorker {
    /// The pool with this number has connections to close.
    Sweep(usize),
    /// Send a copy of the counters here.
    Report(Sender<Stats>),
    /// Read no more queries, finish what is outstanding, and leave.
    Drain,
}

/// To the keeper.
#[derive(Debug)]
pub enum ToKeeper {
    /// Send `Sweep(pool)` to this worker at that moment, and not at the one asked for before.
    Wake {
        /// Who asks.
        worker: usize,
        /// Which of its pools.
        pool: usize,
        /// When.
        at: Moment,
    },
    /// This worker panicked and was started afresh.
    Panicked {
        /// Who.
        worker: usize,
        /// What the panic said.
        message: String,
    },
    /// This worker has left.
    Left {
        /// Who.
        worker: usize,
    },
    /// Tell all workers to drain, and end when the last has left.
    Stop,
}

/// Where messages to one worker are put.
#[derive(Clone, Debug)]
pub struct Mailbox {
    sender: Sender<ToWorker>,
    waker: Arc<mio::Waker>,
}

impl Mailbox {
    /// A mailbox for `capacity` messages whose arrival `waker` announces, and its other end.
    pub fn new(capacity: usize, waker: mio::Waker) -> (Self, Receiver<ToWorker>) {
        let (sender, receiver) = crossbeam_channel::bounded(capacity);
        (Self { sender, waker: Arc::new(waker) }, receiver)
    }

    /// Puts `message` in and wakes the worker; gives it back when there is no room. A worker that
    /// has left loses it.
    ///
    /// # Errors
    /// The mailbox is full.
    pub fn send(&self, message: ToWorker) -> Result<(), ToWorker> {
        match self.sender.try_send(message) {
            Ok(()) => {
                // Fails only when the kernel is out of memory; the worker then finds the message
                // at its next turn.
                let _ = self.waker.wake();
                Ok(())
            }
            Err(TrySendError::Full(message)) => Err(message),
            Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }
}
