//! `erratic`: test answers, some of which are late, truncated or missing.
//!
//! A query that no stanza forwards is answered with an address that is the same for every name, or
//! with a zone of two servers for a transfer; any other type fails. Queries are counted, and every
//! Nth is dropped, has TC set, or is answered later. Each worker has its own count.

use super::{QueryContext, Settings, Stage, Step};
use crate::config;
use crate::config::ServerBlock;
use crate::engine::message::QNAME;
use crate::engine::message::compose::{Composer, NewRecord, Section};
use crate::engine::message::{NAME_LEN_MAX, Rcode, class, flags, rtype};
use ahash::RandomState;
use std::cell::Cell;

/// Documentation addresses (RFC 5737, RFC 3849).
const V4: [u8; 4] = [192, 0, 2, 53];
const V6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53];
/// Number of records of a large answer.
const COPIES: usize = 30;
/// The names `a` and `b` below the QNAME.
const SERVERS: [&[u8]; 2] = [b"\x01a\xc0\x0c", b"\x01b\xc0\x0c"];
/// Serial number, refresh, retry, expire and minimum of the zone.
const TIMES: [u8; 20] =
    [0, 0, 0, 1, 0, 0, 0x1c, 0x20, 0, 0, 0x0e, 0x10, 0, 0x12, 0x75, 0, 0, 0, 0x0e, 0x10];

/// Settings, and the number of queries seen.
pub(crate) struct Erratic {
    told: config::Erratic,
    seen: Cell<u64>,
}

impl Stage for Erratic {
    fn new(block: &ServerBlock, _: &RandomState, settings: &mut Settings) -> Option<Self> {
        let told = block.stages.erratic?;
        settings.transfers = true;
        Some(Self { told, seen: Cell::new(0) })
    }

    fn at_end(&self, context: &mut QueryContext<'_, '_>) -> Option<Step> {
        let number = self.seen.get();
        self.seen.set(number.wrapping_add(1));
        let hits = |amount: u32| amount > 0 && number.is_multiple_of(amount.into());
        let config::Erratic { drop, truncate, delay, pause, large } = self.told;
        if hits(drop) {
            return Some(Step::Dropped);
        }
        let len = answer(context, large, hits(truncate));
        Some(match u32::try_from(pause.as_micros()) {
            Ok(micros @ 1..) if hits(delay) => Step::Later(len as u16, micros),
            _ => Step::Replied(len),
        })
    }
}

/// Writes the answer and returns its length.
fn answer(context: &mut QueryContext<'_, '_>, large: bool, cut: bool) -> usize {
    let question = context.query.question;
    let address: &[u8] = match question.rtype {
        rtype::A => &V4,
        rtype::AAAA => &V6,
        rtype::AXFR => {
            let mut reply = context.answer();
            write_zone(&mut reply, question.name_len, !cut);
            return reply.end(flags::AA, Rcode::NoError);
        }
        _ => return context.reply().end(flags::RA, Rcode::ServFail),
    };
    let mut reply = context.answer();
    for _ in 0..if large { COPIES } else { 1 } {
        write(&mut reply, &QNAME, question.rtype, &[address]);
    }
    reply.end(flags::AA | if cut { flags::TC } else { 0 }, Rcode::NoError)
}

/// Writes a zone of two servers, with the SOA at its end only if `whole`.
fn write_zone(reply: &mut Composer<'_>, name_len: usize, whole: bool) {
    // A name of 255 bytes has no room for a label before it: its zone has no servers.
    let has_room = name_len + 2 <= NAME_LEN_MAX;
    let server: &[u8] = if has_room { SERVERS[0] } else { &QNAME };
    let soa: [&[u8]; 3] = [server, server, &TIMES];
    write(reply, &QNAME, rtype::SOA, &soa);
    if has_room {
        SERVERS.iter().for_each(|server| write(reply, &QNAME, rtype::NS, &[server]));
        SERVERS.iter().for_each(|server| write(reply, server, rtype::AAAA, &[&V6]));
    }
    if whole {
        write(reply, &QNAME, rtype::SOA, &soa);
    }
}

fn write(reply: &mut Composer<'_>, owner: &[u8], rtype: u16, data: &[&[u8]]) {
    let record = NewRecord { owner, rtype, class: class::IN, ttl: 0, data };
    reply.record(Section::Answer, &record);
}
