//! Buffers for one message, shared by all connections of a worker.
//!
//! A query that comes in a request of HTTP is decoded into one of them; a reply that the engine
//! writes at once is written into the other, before it gets its frame.

use super::QUERY_LEN_MAX;
use crate::engine::forwarder::TCP_MESSAGE_MAX;

/// A buffer for a query, and one for a reply.
pub(super) struct Scratch {
    pub(super) query: Box<[u8]>,
    pub(super) reply: Box<[u8]>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self { query: vec![0; QUERY_LEN_MAX].into(), reply: vec![0; TCP_MESSAGE_MAX].into() }
    }

    /// Returns the reserved bytes.
    pub(super) fn reserved(&self) -> usize {
        self.query.len() + self.reply.len()
    }
}
