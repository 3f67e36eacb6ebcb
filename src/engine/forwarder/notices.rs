//! Notices: messages of the engine to other threads.
//!
//! The receivers are the keeper (timers, probes, the operator's log) and the writer.
//! [`settle`](crate::engine::shell::settle) drains the notices at the end of a turn and passes each
//! to the shell. A notice that the shell cannot deliver is put back, and its kind is skipped until
//! all queues are drained, so that a full mailbox of one thread does not delay the notices to the
//! other.

use super::Forwarder;
use crate::config::Name;
use crate::engine::errors::QueryError;
use crate::engine::health::Remark;
use crate::engine::key::{PoolId, Sweep};
use crate::moment::Moment;
use std::net::{IpAddr, SocketAddr};

/// Message to another thread.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is lent, not moved, and a box would be allocated"
)]
pub enum Notice {
    /// Attempts at this upstream fail: the keeper probes it.
    Failing(usize),
    /// An upstream has unusual responses: the keeper logs it.
    Odd(Remark),
    /// A forwarding loop: queries of this server block come back.
    Looping {
        /// The server block.
        block: usize,
        /// Source of the query that revealed the loop.
        peer: SocketAddr,
    },
    /// Queries for names below this one fill the table of outstanding queries: the keeper logs it.
    Flood(Name),
    /// Clients exceed a limit: the keeper logs it.
    Limited {
        /// The server block.
        block: usize,
        /// Prefix of the client: its first address, and its length.
        prefix: (IpAddr, u8),
        /// Name of the limit.
        limit: &'static str,
    },
    /// The keeper wakes the worker at `at`, replacing an earlier request; the shell then calls
    /// [`Forwarder::on_sweep`].
    Wake {
        /// Pool or cache to clean up.
        sweep: Sweep,
        /// Time of the wake-up.
        at: Moment,
    },
    /// A query failed in a server block with `errors`: the writer logs it.
    Error(QueryError),
    /// A client may have a zone: the shell passes [`Forwarder::next_transfer`] to the thread of
    /// transfers.
    Transfer,
    /// A primary has notified of a changed zone: the shell passes [`Forwarder::next_notified`] to
    /// the loader of the zone.
    Notified,
    /// The journal's page is due: the shell passes it to the writer ([`Forwarder::swap_page`]).
    Page,
}

/// Event in a server block, for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// The probe of [`Notice::Looping`] came back.
    Looping { block: usize, peer: SocketAddr },
    /// A client exceeds a limit, as in [`Notice::Limited`].
    Limited { block: usize, prefix: (IpAddr, u8), limit: &'static str },
}

/// Kinds of notices that are skipped until the end of this round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Skipped {
    failing: bool,
    odd: bool,
    flood: bool,
    reports: bool,
    wakes: bool,
    page: bool,
    transfers: bool,
    notified: bool,
}

impl Forwarder {
    /// Returns the next notice. A kind that was put back is returned again after the next `None`.
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
            // At most once in a round, even if the page is not taken.
            self.skipped.page = true;
            return Some(Notice::Page);
        }
        if !self.skipped.failing
            && let Some(upstream) = self.upstreams.next_failing()
        {
            return Some(Notice::Failing(upstream));
        }
        if !self.skipped.odd
            && let Some(remark) = self.upstreams.next_remark()
        {
            return Some(Notice::Odd(remark));
        }
        if !self.skipped.flood
            && let Some(suffix) = self.floods.next_found()
        {
            return Some(Notice::Flood(suffix));
        }
        if !self.skipped.transfers && !self.transfers.is_empty() {
            return Some(Notice::Transfer);
        }
        if !self.skipped.notified && !self.notified.is_empty() {
            return Some(Notice::Notified);
        }
        if !self.skipped.reports
            && let Some(report) = self.reports.pop()
        {
            return Some(match report {
                Report::Looping { block, peer } => Notice::Looping { block, peer },
                Report::Limited { block, prefix, limit } => {
                    Notice::Limited { block, prefix, limit }
                }
            });
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

    /// Takes back a notice that could not be delivered. An error record is lost and counted; the
    /// other notices, or their causes, recur.
    pub(crate) fn put_back(&mut self, notice: Notice) {
        match notice {
            Notice::Error(_) => self.counters.stats.errors_lost += 1,
            // The page stays due.
            Notice::Page => self.skipped.page = true,
            Notice::Failing(upstream) => {
                self.skipped.failing = true;
                self.upstreams.put_back_failing(upstream);
            }
            Notice::Odd(remark) => {
                self.skipped.odd = true;
                self.upstreams.remark(remark);
            }
            Notice::Flood(suffix) => {
                self.skipped.flood = true;
                self.floods.put_back(suffix);
            }
            Notice::Transfer => self.skipped.transfers = true,
            // It was acknowledged, so it is not lost; further ones get SERVFAIL.
            Notice::Notified => self.skipped.notified = true,
            Notice::Looping { block, peer } => {
                self.skipped.reports = true;
                self.reports.push(Report::Looping { block, peer });
            }
            // The next one follows while clients exceed the limit.
            Notice::Limited { .. } => {}
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
