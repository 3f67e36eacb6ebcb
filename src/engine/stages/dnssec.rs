//! `dnssec`: replies that are signed when they are sent.
//!
//! The signature covers what the later stages, the cache or an upstream answered, so the forwarder
//! parks a covered query before it asks the cache, and signs the finished reply
//! ([`crate::engine::dnssec`]). This stage only prepares the keys: no query passes it.

use super::{Settings, Stage};
use crate::config::ServerBlock;
use crate::engine::dnssec::OnlineSigner;
use ahash::RandomState;
use std::sync::Arc;

/// The keys of a server block.
pub(crate) struct Signing;

impl Stage for Signing {
    fn new(block: &ServerBlock, hasher: &RandomState, settings: &mut Settings) -> Option<Self> {
        settings.dnssec = OnlineSigner::new(block, hasher).map(Arc::new);
        None
    }
}
