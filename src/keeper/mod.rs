//! The keeper: the thread that owns the shared timer wheel.
//!
//! A worker's pool tells it the earliest instant at which one of its connections can expire or
//! grow too old; the keeper sleeps until the next such instant, or until somebody speaks, and then
//! tells that worker to sweep that pool. So its cost follows the number of pools, and a host where
//! nothing is due wakes nobody. It also leads the stop: all workers drain, and it ends with the
//! last. It never waits on a worker: a full mailbox is tried again a little later.

use crate::clock::Clock;
use crate::control::{Mailbox, ToKeeper, ToWorker};
use crate::moment::Moment;
use crate::wheel::{TimerKey, Wheel};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::collections::HashMap;
use std::time::Duration;

/// When a worker's mailbox is full, or it panicked with a message unread: how soon to try again.
const RETRY: Duration = Duration::from_millis(10);

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Due {
    worker: usize,
    pool: usize,
}

/// The keeper's state.
pub struct Keeper {
    clock: Clock,
    mail: Receiver<ToKeeper>,
    workers: Vec<Mailbox>,
    wheel: Wheel<Due>,
    /// The one timer of each pool that has any.
    timers: HashMap<Due, TimerKey>,
    /// Workers who have not left.
    present: usize,
    /// Workers who have not been told to drain, once a stop has begun.
    to_drain: Vec<usize>,
}

impl Keeper {
    /// The keeper of `workers`, who write to `mail`.
    pub fn new(clock: Clock, mail: Receiver<ToKeeper>, workers: Vec<Mailbox>) -> Self {
        Self {
            clock,
            mail,
            present: workers.len(),
            workers,
            wheel: Wheel::with_capacity(64),
            timers: HashMap::new(),
            to_drain: Vec::new(),
        }
    }

    /// Keeps until a stop is asked for and the last worker has left. `log` gets a line for
    /// whatever an operator should know.
    pub fn run(mut self, log: impl Fn(&str)) {
        while self.present > 0 {
            match self.wait() {
                Ok(ToKeeper::Wake { worker, pool, at }) => self.arm(Due { worker, pool }, at),
                Ok(ToKeeper::Panicked { worker, message }) => {
                    log(&format!("worker {worker} panicked and was started afresh: {message}"));
                }
                Ok(ToKeeper::Left { .. }) => self.present -= 1,
                Ok(ToKeeper::Stop) => self.to_drain = (0..self.workers.len()).collect(),
                Err(RecvTimeoutError::Timeout) => {}
                // Nobody is left who could say anything.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let workers = &self.workers;
            self.to_drain.retain(|worker| workers[*worker].send(ToWorker::Drain).is_err());
            self.sweep(self.clock.now());
        }
    }

    /// Waits for a message until the next timer is due.
    fn wait(&self) -> Result<ToKeeper, RecvTimeoutError> {
        let retry = (!self.to_drain.is_empty()).then(|| self.clock.now().plus(RETRY));
        let until = [self.wheel.next_deadline(), retry].into_iter().flatten().min();
        match until.and_then(|until| self.clock.instant(until)) {
            Some(instant) => self.mail.recv_deadline(instant),
            None => self.mail.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    /// Sets the pool's timer, instead of the one it had.
    fn arm(&mut self, due: Due, at: Moment) {
        let timer = self.wheel.insert(at, due);
        if let Some(old) = self.timers.insert(due, timer) {
            self.wheel.cancel(old);
        }
    }

    /// Tells every worker with a pool that is due.
    fn sweep(&mut self, now: Moment) {
        while let Some(due) = self.wheel.pop_expired(now) {
            self.timers.remove(&due);
            if self.workers[due.worker].send(ToWorker::Sweep(due.pool)).is_err() {
                self.arm(due, now.plus(RETRY));
            }
        }
    }
}
