//! `any`: a query for every type gets one small answer (RFC 8482 §4.2).
//!
//! Such answers are large and nobody needs them: they serve to amplify, and resolvers take from
//! them what they should ask for. So they are not forwarded; what comes back instead says why.

use crate::engine::message::compose::{Composer, NewRecord, QNAME, Section};
use crate::engine::message::{Question, Rcode, kind};

/// Seconds for which the answer holds: a hint at the document.
const TTL: u32 = 8482;

/// Whether this is for the stage to answer.
pub fn wants(question: &Question) -> bool {
    question.kind == kind::ANY
}

/// Writes the answer and returns its length.
pub fn answer(mut reply: Composer<'_>, question: &Question) -> usize {
    let data: &[&[u8]] = &[b"\x0dANY obsoleted", b"\x0cSee RFC 8482"];
    let class = question.class;
    let record = NewRecord { owner: &QNAME, kind: kind::HINFO, class, ttl: TTL, data };
    reply.record(Section::Answer, &record);
    // It is neither the zone's own word nor the outcome of a recursion.
    reply.end(0, Rcode::NoError)
}
