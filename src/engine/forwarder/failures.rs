//! Exchanges that end without a response, and responses that were held back.
//!
//! A query that failed is queued with its reason until its replies are written
//! ([`super::replies`]). A response that `failover` rejected is kept until a better one arrives or
//! the query fails: then it is delivered in place of an error.

use super::caching::CacheOutcome;
use crate::engine::errors::Reason;
use crate::engine::exchange::EXCHANGES_MAX;
use crate::engine::key::ExchangeKey;
use crate::engine::memory::reserved;
use crate::engine::message::response::Response;
use crate::moment::Moment;
use std::collections::HashMap;

/// A query without a response, whose replies have not been written yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed {
    pub(super) at: Moment,
    pub(super) exchange: ExchangeKey,
    pub(super) reason: Reason,
    pub(super) remembered: Option<CacheOutcome>,
    /// The clients have been answered, but the exchange continues.
    pub(super) goes_on: bool,
}

/// Queries that failed, and responses that were held back.
pub(super) struct Failures {
    queue: Vec<Failed>,
    /// Responses by the slot of their exchange. Used by `failover` only; the one table here that
    /// allocates.
    held: HashMap<u32, (Response, Box<[u8]>)>,
}

impl Default for Failures {
    fn default() -> Self {
        Self { queue: Vec::with_capacity(EXCHANGES_MAX), held: HashMap::new() }
    }
}

impl Failures {
    /// Returns the bytes reserved by the queue.
    pub(super) fn reserved(&self) -> usize {
        reserved(&self.queue)
    }

    /// Queues a query that failed.
    pub(super) fn push(&mut self, failed: Failed) {
        self.queue.push(failed);
    }

    /// Returns true if no query is queued.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns the failed query whose replies come next.
    pub(super) fn next(&self) -> Option<Failed> {
        self.queue.last().copied()
    }

    /// Removes the query of [`Failures::next`], whose replies have all been written.
    pub(super) fn end_next(&mut self) {
        self.queue.pop();
    }

    /// Holds back a response to the exchange in `slot`; replaces an earlier one.
    pub(super) fn hold(&mut self, slot: u32, response: Response, packet: Box<[u8]>) {
        self.held.insert(slot, (response, packet));
    }

    /// Removes the response that was held back for the exchange in `slot`.
    pub(super) fn take_held(&mut self, slot: u32) -> Option<(Response, Box<[u8]>)> {
        self.held.remove(&slot)
    }

    /// Drops the response that was held back for the exchange in `slot`, if there is one.
    #[inline]
    pub(super) fn drop_held(&mut self, slot: u32) {
        if !self.held.is_empty() {
            self.held.remove(&slot);
        }
    }
}
