//! `tsig`: refusal of unsigned queries.
//!
//! The forwarder verifies signatures before the chain and signs replies behind it; this stage
//! refuses queries without a signature whose type or opcode requires one. A block without such
//! requirements has no stage.

use super::{QueryContext, Settings, Stage, Step};
use crate::config::{Opcode, RecordType, Required, ServerBlock};
use crate::engine::message::Rcode;
use crate::engine::message::query::SignedBy;
use crate::engine::tsig::Keys;
use ahash::RandomState;
use std::sync::Arc;

const QUERY: Opcode = Opcode(0);

/// Queries of a server block that have to be signed.
pub(crate) struct Signed {
    keys: Arc<Keys>,
    required: Required<RecordType>,
}

impl Stage for Signed {
    fn new(block: &ServerBlock, hasher: &RandomState, settings: &mut Settings) -> Option<Self> {
        let tsig = block.stages.tsig.as_ref()?;
        let keys = Arc::new(Keys::new(block, hasher)?);
        settings.tsig = Some(Arc::clone(&keys));
        let required = match tsig.require_opcode.contains(&QUERY) {
            true => Required::All,
            false => tsig.require.clone(),
        };
        let is_needed = required != Required::None;
        is_needed.then_some(Self { keys, required })
    }

    fn on_query(&self, context: &mut QueryContext<'_, '_>) -> Option<Step> {
        let query = &context.query;
        let refused = query.signed_by == SignedBy::Nobody
            && self.required.contains(&RecordType(query.question.rtype))
            && self.keys.covers(context.name);
        refused.then_some(Step::Refused(Rcode::Refused, None))
    }
}
