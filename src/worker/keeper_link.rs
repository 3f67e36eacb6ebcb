//! A worker's messages to the keeper.
//!
//! Messages go into the keeper's mailbox without blocking: a notice that does not fit is put back
//! into the engine, and retired connections are counted with the next report. Owns the counts that
//! were reported and the limit of wake-ups per turn; the engine decides what is reported.

use crate::control::{KeeperMailbox, ToKeeper};
use crate::engine::{Forwarder, PoolId, Sweep};
use crate::moment::Moment;

/// Maximum number of wake-ups requested in one turn, because a reload requests one for each pool
/// and cache, and each wakes the keeper; the others follow in the next turns.
const WAKES_MAX: usize = 256;

/// A worker's end of the keeper's mailbox.
pub(super) struct KeeperLink {
    worker: usize,
    mailbox: KeeperMailbox,
    /// Number of wake-ups that may still be requested in this turn.
    wakes_left: usize,
    /// Number of retired connections of each pool that were reported.
    retired_reported: Vec<u64>,
}

impl KeeperLink {
    /// Creates the link of worker number `worker`.
    pub(super) fn new(worker: usize, mailbox: KeeperMailbox) -> Self {
        Self { worker, mailbox, wakes_left: WAKES_MAX, retired_reported: Vec::new() }
    }

    /// Returns the keeper's mailbox.
    pub(super) fn mailbox(&self) -> KeeperMailbox {
        self.mailbox.clone()
    }

    /// Begins with an engine whose pools are new.
    pub(super) fn begin(&mut self) {
        self.retired_reported.clear();
    }

    /// Allows the wake-ups of another turn.
    pub(super) fn begin_turn(&mut self) {
        self.wakes_left = WAKES_MAX;
    }

    /// Requests a wake-up at `at`. Returns false if that is not possible now.
    pub(super) fn wake(&mut self, sweep: Sweep, at: Moment) -> bool {
        let Some(left) = self.wakes_left.checked_sub(1) else { return false };
        self.wakes_left = left;
        self.report(ToKeeper::Wake { worker: self.worker, sweep, at })
    }

    /// Sends a message. Returns false if the mailbox is full.
    pub(super) fn report(&self, message: ToKeeper) -> bool {
        self.mailbox.try_send(message).is_ok()
    }

    /// Reports the number of connections that the pool has retired since the last report. If the
    /// mailbox is full, they are included in the next report.
    pub(super) fn report_retired(&mut self, pool: PoolId, engine: &Forwarder) {
        let Some(retired) = engine.retired(pool) else { return };
        if self.retired_reported.len() <= pool.index() {
            self.retired_reported.resize(pool.index() + 1, 0);
        }
        let reported = self.retired_reported[pool.index()];
        let count = retired.saturating_sub(reported);
        if count > 0 && self.report(ToKeeper::Retired { upstream: pool.upstream(), count }) {
            self.retired_reported[pool.index()] = retired;
        }
    }

    /// Marks all retired connections as reported, because the pools have new numbers.
    pub(super) fn renumber(&mut self, engine: &Forwarder) {
        let pools = (0..).map(PoolId::from_index);
        self.retired_reported = pools.map_while(|pool| engine.retired(pool)).collect();
    }

    /// Reports the panic of an event loop, unless the mailbox is full.
    pub(super) fn panicked(&self, message: String) {
        self.report(ToKeeper::Panicked { worker: self.worker, message });
    }

    /// Reports the end of the worker, and waits until there is room for that.
    pub(super) fn left(&self) {
        let _ = self.mailbox.send(ToKeeper::Left);
    }
}
