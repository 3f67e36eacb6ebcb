//! Notices: what the engine has decided that concerns neither a socket nor a client.
//!
//! They are for the threads beside the worker: the keeper (timers, probes, the operator's log) and
//! the writer. [`settle`](crate::engine::shell::settle) draws them at the end of a turn and hands
//! each to the shell. One that the shell cannot deliver is put back: its kind is skipped until all
//! queues have been drawn, so that a full mailbox of one thread never keeps the other thread's
//! notices waiting.

use super::Forwarder;
use crate::engine::errors::QueryError;
use crate::engine::health::Remark;
use crate::engine::key::{PoolId, Sweep};
use crate::moment::Moment;
use std::net::SocketAddr;

/// Something that another thread is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is lent, not moved, and a box would be allocated"
)]
pub enum Notice {
    /// Attempts at this upstream fail: the keeper probes it.
    Failing(usize),
    /// An upstream answers oddly, which the keeper logs.
    Odd(Remark),
    /// The queries of this server block come back: a forwarding loop.
    Looping {
        /// The server block.
        block: usize,
        /// Source of the query that revealed the loop.
        peer: SocketAddr,
    },
    /// The keeper wakes the worker at `at`, and not at the moment asked for before: the shell calls
    /// [`Forwarder::on_sweep`] then.
    Wake {
        /// The pool or cache that is to be swept.
        sweep: Sweep,
        /// Time when
        at: Moment,
    },
    /// A query got an error of our own in a server block that has `errors`: the writer logs it.
    Error(QueryError),
    /// The journal's page is due: the writer gets it by [`Forwarder::swap_page`].
    Page,
}

/// Kinds of notices that are not drawn again in this round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Skipped {
    failing: bool,
    odd: bool,
    looping: bool,
    wakes: bool,
    page: bool,
}

impl Forwarder {
    /// The next notice. A kind that was put back comes again after the next `None`.
    pub fn next_notice(&mut self, now: Moment) -> Option<Notice> {
        let notice = self.find_notice(now);
        if notice.is_none() {
            self.skipped = Skipped::default();
        }
        notice
    }

    #[inline]
    fn find_notice(&mut self, now: Moment) -> Option<Notice> {
        if let Some(error) = self.errors.pop() {
            return Some(Notice::Error(error));
        }
        if !self.skipped.page && self.page_due().is_some_and(|due| due <= now) {
            // Taken or not, it is due once in a round.
            self.skipped.page = true;
            return Some(Notice::Page);
        }
        if !self.skipped.failing
            && let Some(upstream) = self.failing.pop()
        {
            return Some(Notice::Failing(upstream));
        }
        if !self.skipped.odd && !self.remarks.is_empty() {
            // There are few, and what comes first is told first.
            return Some(Notice::Odd(self.remarks.remove(0)));
        }
        if !self.skipped.looping
            && let Some((block, peer)) = self.loops.next_found()
        {
            return Some(Notice::Looping { block, peer });
        }
        if self.skipped.wakes {
            return None;
        }
        if let Some((pool, at)) = self.pools.next_request() {
            return Some(Notice::Wake { sweep: Sweep::Pool(PoolId::from_index(pool)), at });
        }
        let (block, at) = self.caches.next_wake()?;
        Some(Notice::Wake { sweep: Sweep::Cache(block), at })
    }

    /// `notice` could not be delivered. An error is lost, and counted; of the others the notice or
    /// its cause comes again.
    pub fn put_back(&mut self, notice: Notice) {
        match notice {
            Notice::Error(_) => self.stats.errors_lost += 1,
            // It stays due.
            Notice::Page => self.skipped.page = true,
            Notice::Failing(upstream) => {
                self.skipped.failing = true;
                // The next failure reports it again.
                self.health_states.take_back(upstream);
            }
            Notice::Odd(remark) => {
                self.skipped.odd = true;
                self.remark(remark);
            }
            Notice::Looping { block, peer } => {
                self.skipped.looping = true;
                self.loops.put_back(block, peer);
            }
            Notice::Wake { sweep, .. } => {
                self.skipped.wakes = true;
                match sweep {
                    Sweep::Pool(pool) => self.pools.disarm(pool.index()),
                    Sweep::Cache(block) => self.caches.disarm(block),
                }
            }
        }
    }
}
