//! `cancel`: maximum time of a query.
//!
//! The forwarder has the time-outs of attempts; this shortens the total time and cannot extend it.

use super::{Settings, Stage};
use crate::config::ServerBlock;
use ahash::RandomState;

/// A stage without queries: only its settings are used.
pub(crate) enum Cancel {}

impl Stage for Cancel {
    fn new(block: &ServerBlock, _: &RandomState, settings: &mut Settings) -> Option<Self> {
        settings.budget =
            block.stages.cancel.map_or(settings.budget, |told| told.min(settings.budget));
        None
    }
}
