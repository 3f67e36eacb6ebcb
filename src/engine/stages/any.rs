//! `any`: a query for every type gets one small answer (RFC 8482 §4.2).
//!
//! Such answers are large and nobody needs them: they serve to amplify, and resolvers take from
//! them what they should ask for. So they are not forwarded; what comes back instead says why.

use super::{QueryContext, Settings, Stage, Step};
use crate::config::ServerBlock;
use crate::engine::message::QNAME;
use crate::engine::message::compose::{NewRecord, Section};
use crate::engine::message::{Rcode, rtype};
use ahash::RandomState;

/// Seconds for which the answer holds: a hint at the document.
const TTL: u32 = 8482;

/// The stage `any`, which has no state.
pub struct Any;

impl Stage for Any {
    fn new(block: &ServerBlock, _: &RandomState, _: &mut Settings) -> Option<Self> {
        block.stages.any.then_some(Self)
    }

    fn on_query(&self, context: &mut QueryContext<'_, '_>) -> Option<Step> {
        let question = context.query.question;
        if question.rtype != rtype::ANY {
            return None;
        }
        let data: &[&[u8]] = &[b"\x0dANY obsoleted", b"\x0cSee RFC 8482"];
        let class = question.class;
        let record = NewRecord { owner: &QNAME, rtype: rtype::HINFO, class, ttl: TTL, data };
        let mut reply = context.reply();
        reply.record(Section::Answer, &record);
        // It is neither the zone's own word nor the outcome of a recursion.
        Some(Step::Replied(reply.end(0, Rcode::NoError)))
    }
}
