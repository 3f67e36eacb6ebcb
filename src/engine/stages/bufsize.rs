//! `bufsize`: no UDP payload larger than this is asked for or sent.
//!
//! It is what an upstream and a client are told, and a client who advertises more is taken to have
//! said as much.

use super::{QueryContext, Settings, Stage, Step};
use crate::config::ServerBlock;
use ahash::RandomState;

/// The size is in the settings, because it is also told upstream.
pub struct Bufsize;

impl Stage for Bufsize {
    fn new(block: &ServerBlock, _: &RandomState, settings: &mut Settings) -> Option<Self> {
        let size = block.stages.bufsize?;
        settings.udp_size = settings.udp_size.min(size);
        Some(Self)
    }

    fn on_query(&self, context: &mut QueryContext<'_, '_>) -> Option<Step> {
        if let Some(edns) = &mut context.query.asked.edns {
            edns.udp_size = edns.udp_size.min(context.settings.udp_size);
        }
        None
    }
}
