//! `minimal`: positive answers without authority and additional sections.
//!
//! The sections are removed where an upstream's answer is written, and before it is cached, so
//! cached answers need no change.

use super::{Settings, Stage};
use crate::config::ServerBlock;
use ahash::RandomState;

/// A stage without queries: only its settings are used.
pub(crate) enum Minimal {}

impl Stage for Minimal {
    fn new(block: &ServerBlock, _: &RandomState, settings: &mut Settings) -> Option<Self> {
        settings.minimal = block.stages.minimal;
        None
    }
}
