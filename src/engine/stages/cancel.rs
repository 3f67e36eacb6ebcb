//! `cancel`: what a query may take in all.
//!
//! The time-outs of attempts are the forwarder's; this shortens the whole, and cannot make it
//! longer than it is without.

use super::{Settings, Stage};
use crate::config::ServerBlock;
use ahash::RandomState;

/// Nothing of it meets a query: all is in the settings.
pub enum Cancel {}

impl Stage for Cancel {
    fn new(block: &ServerBlock, _: &RandomState, settings: &mut Settings) -> Option<Self> {
        settings.budget =
            block.stages.cancel.map_or(settings.budget, |told| told.min(settings.budget));
        None
    }
}
