//! `nsid`: the server's identifier, for clients that ask for it (RFC 5001).
//!
//! All replies of a block are completed with it; its length is limited to the room in the smallest
//! of them.

use super::{Settings, Stage};
use crate::config::ServerBlock;
use ahash::RandomState;

/// A stage without queries: only its settings are used.
pub(crate) enum Nsid {}

impl Stage for Nsid {
    fn new(block: &ServerBlock, _: &RandomState, settings: &mut Settings) -> Option<Self> {
        settings.nsid = block.stages.nsid.as_ref().map(|name| name.as_bytes().into());
        None
    }
}
