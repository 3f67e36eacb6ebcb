//! `minimal`: positive answers are stripped of what was not asked for.
//!
//! That is done where an upstream's answer is written, and before it is stored; what is stored is
//! not stripped again.

use super::{Settings, Stage};
use crate::config::ServerBlock;
use ahash::RandomState;

/// Nothing of it meets a query: all is in the settings.
pub enum Minimal {}

impl Stage for Minimal {
    fn new(block: &ServerBlock, _: &RandomState, settings: &mut Settings) -> Option<Self> {
        settings.minimal = block.stages.minimal;
        None
    }
}
