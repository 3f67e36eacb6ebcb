//! `bufsize`: maximum UDP payload size.
//!
//! The size is advertised to upstreams and clients, and a client's larger size is reduced to it.

use super::{QueryContext, Settings, Stage, Step};
use crate::config::ServerBlock;
use ahash::RandomState;

/// The size is in the settings, because upstream queries advertise it as well.
pub(crate) struct Bufsize;

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
