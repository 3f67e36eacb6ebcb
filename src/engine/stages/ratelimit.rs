//! `ratelimit`: limits of queries and replies over UDP for each client prefix.
//!
//! The accounts change with time and have memory of their own, so the forwarder has them. The stage
//! has no effect of its own: it marks the place in the table where queries are charged.

use super::{Settings, Stage};
use crate::config::ServerBlock;
use ahash::RandomState;

/// A limit of queries.
pub(crate) struct Limits;

impl Stage for Limits {
    fn new(block: &ServerBlock, _: &RandomState, _: &mut Settings) -> Option<Self> {
        block.rate_limit().is_some_and(|limit| limit.rates[0] > 0).then_some(Self)
    }
}
