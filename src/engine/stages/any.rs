//! `any`: a query for every type gets one small answer (RFC 8482 §4.2).
//!
//! Answers to ANY are large and hardly used except for amplification, because resolvers ask for the
//! types that they need. So such queries are not forwarded, and the reply refers to the RFC.

use super::{QueryContext, Settings, Stage, Step};
use crate::config::ServerBlock;
use crate::engine::message::QNAME;
use crate::engine::message::compose::{NewRecord, Section};
use crate::engine::message::{Rcode, rtype};
use ahash::RandomState;

/// TTL in seconds: the number of the RFC.
const TTL: u32 = 8482;

/// The stage `any`, which has no state.
pub(crate) struct Any;

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
        // Neither AA nor RA: the answer is not the zone's and not from recursion.
        Some(Step::Replied(reply.end(0, Rcode::NoError)))
    }
}
