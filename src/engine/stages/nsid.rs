//! `nsid`: a client who wants to know which server answers is told its name (RFC 5001).
//!
//! The name is written where all replies of a block are finished; it is at most as long as there
//! is room for in the smallest of them.

use super::{Settings, Stage};
use crate::config::ServerBlock;
use ahash::RandomState;

/// Nothing of it meets a query: all is in the settings.
pub enum Nsid {}

impl Stage for Nsid {
    fn new(block: &ServerBlock, _: &RandomState, settings: &mut Settings) -> Option<Self> {
        settings.nsid = block.stages.nsid.as_ref().map(|name| name.as_bytes().into());
        None
    }
}
