//! Limits of queries and replies for each client prefix.
//!
//! A query is charged before the stages see it, a reply when it is written and before it is
//! counted. Only datagrams are limited: a client with a connection has shown that its address is
//! its own, and so has a client with a valid server cookie or a signed query; `rrl`, which knows no
//! cookies, limits the queries of clients with one all the same. A limited client with
//! a cookie of its own gets BADCOOKIE (RFC 7873 §5.2.3), any other a truncated reply, so that both
//! can show the same. In a server block without limits the cost is none: queries are charged where
//! the block's first stages are called, replies where those for the journal are looked at.

use super::Forwarder;
use super::course::{Scope, Written};
use super::notices::Report;
use crate::config::{Config, ServerBlock};
use crate::engine::exchange::{Client, Dismissed, Waiter};
use crate::engine::message::compose::write_error;
use crate::engine::message::cookie::CookieState;
use crate::engine::message::query::{Asked, Query};
use crate::engine::message::reply::Finish;
use crate::engine::message::{
    HEADER_LEN, NAME_LEN_MAX, Question, Rcode, Record, expand_name, flags, put_u16, reply, rtype,
    u16_at,
};
use crate::engine::ratelimit::{LIMIT_NAMES, Limit, LimitStats, Limiter, Verdict};
use crate::engine::routes::ZoneMatch;
use crate::engine::stages::Step;
use crate::engine::stats::DropReason;
use crate::engine::tally::CountedReply;
use crate::engine::zones::{LowercaseName, Zones};
use crate::moment::Moment;
use ahash::RandomState;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Result of a reply for the limits of its client.
pub(super) enum Limited {
    /// Sent as it is.
    Passed,
    /// Another of this length is sent instead.
    Replaced(usize),
    /// None is sent, which is counted.
    Dropped,
}

/// Limits of a server block, and a fingerprint of its zones and settings.
struct BlockLimits {
    fingerprint: u64,
    /// Names at or below these are limited; `None`: all.
    zones: Option<Zones<()>>,
    /// There is a limit of replies.
    has_replies: bool,
    /// The queries of clients with a valid server cookie are not limited.
    spares_proven: bool,
    limiter: Limiter,
}

/// The limits of all server blocks.
pub(super) struct Limiters {
    blocks: Vec<Option<Box<BlockLimits>>>,
    /// Number of the block with each fingerprint.
    places: HashMap<u64, usize, RandomState>,
}

impl Limiters {
    pub(super) fn new(config: &Config, hasher: &RandomState) -> Self {
        let mut places = HashMap::with_hasher(hasher.clone());
        let limits = |(number, block): (usize, &ServerBlock)| {
            let settings = block.rate_limit()?;
            let mut fingerprint = DefaultHasher::new();
            // Blocks of equal zones differ in ports, addresses or views.
            block.keys.hash(&mut fingerprint);
            block.stages.view.hash(&mut fingerprint);
            settings.hash(&mut fingerprint);
            let fingerprint = fingerprint.finish();
            places.insert(fingerprint, number);
            let names = settings.zones.as_ref().map(|zones| zones.iter().map(|zone| (zone, ())));
            let zones = names.map(|names| Zones::new(hasher.clone(), names));
            let limiter = Limiter::new(settings, hasher);
            let has_replies =
                settings.rates[Limit::Query as usize + 1..].iter().any(|rate| *rate > 0);
            let spares_proven = block.stages.ratelimit.is_some();
            Some(Box::new(BlockLimits { fingerprint, zones, has_replies, spares_proven, limiter }))
        };
        Self { blocks: config.blocks.iter().enumerate().map(limits).collect(), places }
    }

    /// Takes over the limits of `new`, except for unchanged blocks, which keep their accounts;
    /// leaves the discarded limits in `new`.
    pub(super) fn reload(&mut self, new: &mut Self) {
        for slot in &mut self.blocks {
            let Some(fingerprint) = slot.as_ref().map(|slot| slot.fingerprint) else { continue };
            // Of blocks that are equal in all of these, one keeps its accounts.
            if let Some(number) = new.places.remove(&fingerprint) {
                std::mem::swap(slot, &mut new.blocks[number]);
            }
        }
        std::mem::swap(self, new);
    }

    /// Returns the limits of a server block, if they apply to `name`.
    fn of(&mut self, block: usize, name: &LowercaseName) -> Option<&mut Limiter> {
        let slot = self.blocks.get_mut(block)?.as_mut()?;
        let applies = slot.zones.as_ref().is_none_or(|zones| zones.longest(name).is_some());
        applies.then_some(&mut slot.limiter)
    }

    fn limits_replies(&self, block: usize) -> bool {
        self.of_block(block).is_some_and(|slot| slot.has_replies)
    }

    fn spares_proven(&self, block: usize) -> bool {
        self.of_block(block).is_none_or(|slot| slot.spares_proven)
    }

    fn of_block(&self, block: usize) -> Option<&BlockLimits> {
        self.blocks.get(block)?.as_deref()
    }

    /// Returns the counters of all blocks with limits.
    pub(super) fn stats(&self) -> impl Iterator<Item = LimitStats> {
        self.blocks.iter().flatten().map(|slot| slot.limiter.stats)
    }

    /// Returns the bytes that are reserved for accounts.
    pub(super) fn reserved(&self) -> usize {
        let each = |slot: &BlockLimits| {
            let zones = slot.zones.as_ref().map_or(0, Zones::reserved);
            size_of::<BlockLimits>() + zones + slot.limiter.reserved()
        };
        self.blocks.iter().flatten().map(|slot| each(slot)).sum()
    }
}

/// Returns the limit that a reply falls under, and the length in `owner` of the name with an
/// account of its own.
fn limit_of(packet: &[u8], question: &Question, owner: &mut [u8; NAME_LEN_MAX]) -> (Limit, usize) {
    let count = |place| u16_at(packet, place).unwrap_or(0);
    let (answers, authorities) = (count(6), count(8));
    let rcode = reply::rcode(packet);
    let mut place = question.end();
    let mut denied = None;
    let mut has_servers = false;
    for number in 0..u32::from(answers) + u32::from(authorities) {
        let Some(record) = Record::parse(packet, place) else { break };
        place = record.end;
        if number >= answers.into() {
            denied = denied.or((record.rtype == rtype::SOA).then_some(record.start));
            has_servers |= record.rtype == rtype::NS;
        }
    }
    let name_len = expand_name(packet, HEADER_LEN, owner).unwrap_or(0);
    if rcode == Rcode::NxDomain as u16 {
        // Denials of all names of a zone have one account, because a flood of random names never
        // asks for the same one twice.
        let zone_len = denied.and_then(|start| expand_name(packet, start, owner));
        return (Limit::NxDomain, zone_len.unwrap_or(0));
    }
    match () {
        () if rcode != Rcode::NoError as u16 => (Limit::Error, 0),
        () if answers > 0 => (Limit::Answer, name_len),
        () if has_servers && denied.is_none() => (Limit::Referral, name_len),
        () => (Limit::NoData, name_len),
    }
}

/// Returns true if the client receives what is sent to its address: it has a connection or a valid
/// server cookie.
fn is_proven(client: &Client, asked: &Asked) -> bool {
    client.via.connection().is_some() || asked.cookie_state() == Some(CookieState::Good)
}

impl Forwarder {
    /// Charges a query of a client, and returns the step that follows.
    pub(super) fn limit_query(
        &mut self,
        now: Moment,
        query: &Query<'_>,
        name: &LowercaseName,
        scope: Scope<'_>,
        out: &mut [u8],
    ) -> Step {
        let Scope { client, block, original, .. } = scope;
        let is_own = original.is_some_and(|original| original.asker.is_some());
        let is_signed = original.is_some_and(|original| original.signer.is_some());
        let is_proven = is_proven(client, &query.asked)
            && (client.via.connection().is_some() || self.limiters.spares_proven(block));
        if is_own || is_signed || is_proven {
            return Step::Continue;
        }
        let step = match self.charge(now, block, client, name, (Limit::Query, &[], 0)) {
            Verdict::Passed | Verdict::Reported => Step::Continue,
            Verdict::Dropped => Step::Limited,
            Verdict::Truncated => {
                let question = query.question_bytes();
                Step::Replied(self.write_retry(block, &query.asked, question, out))
            }
        };
        self.counters.stats.stages.ratelimit.count(step)
    }

    /// Charges what `limit` and the name and type of an account say, if there is such a limit.
    fn charge(
        &mut self,
        now: Moment,
        block: usize,
        client: &Client,
        name: &LowercaseName,
        (limit, owner, rtype): (Limit, &[u8], u16),
    ) -> Verdict {
        let Some(limiter) = self.limiters.of(block, name) else { return Verdict::Passed };
        let address = client.peer.ip();
        if !limiter.covers(limit, address) {
            return Verdict::Passed;
        }
        let verdict = limiter.charge(now, limit, address, (owner, rtype));
        if verdict != Verdict::Passed && self.upstreams.health().note_limit(block, now) {
            let prefix = limiter.prefix(address).parts();
            let limit = LIMIT_NAMES[limit as usize];
            self.reports.push(Report::Limited { block, prefix, limit });
        }
        verdict
    }

    /// Writes the reply that makes a client repeat its query, and returns its length: with the
    /// server cookie in the reply if the client has a cookie of its own, otherwise over TCP. Only
    /// the cookie can make it larger than the query.
    fn write_retry(&self, block: usize, asked: &Asked, question: &[u8], out: &mut [u8]) -> usize {
        let finish = Finish { nsid: None, ..self.chains[block].finish_own() };
        // To a client with a valid one, BADCOOKIE would say nothing new.
        if asked.cookie_state().is_some_and(|state| state != CookieState::Good) {
            return write_error(out, asked, question, Rcode::BadCookie, None, finish);
        }
        let len = write_error(out, asked, question, Rcode::NoError, None, finish);
        let word = u16_at(out, 2).unwrap_or(0) | flags::TC;
        put_u16(out, 2, word);
        len
    }

    /// Charges the reply of `len` bytes in `out` to its client.
    pub(super) fn limit_reply(
        &mut self,
        now: Moment,
        block: usize,
        client: &Client,
        asked: &Asked,
        out: &mut [u8],
        len: usize,
    ) -> Limited {
        if !self.limiters.limits_replies(block) || is_proven(client, asked) {
            return Limited::Passed;
        }
        let packet = &out[..len];
        let Some(question) = Question::parse(packet) else { return Limited::Passed };
        // Replies that make the client repeat its query are no larger than the query.
        let is_empty = u16_at(packet, 6) == Some(0) && u16_at(packet, 8) == Some(0);
        let is_truncated = u16_at(packet, 2).unwrap_or(0) & flags::TC != 0;
        let is_bad_cookie = reply::extended_rcode(packet) == Rcode::BadCookie as u16;
        if is_empty && (is_truncated || is_bad_cookie) {
            return Limited::Passed;
        }
        let mut owner = [0; NAME_LEN_MAX];
        let (limit, owner_len) = limit_of(packet, &question, &mut owner);
        let name = LowercaseName::new(question.name(packet));
        let rtype =
            if matches!(limit, Limit::NxDomain | Limit::Error) { 0 } else { question.rtype };
        let account = (limit, &owner[..owner_len], rtype);
        match self.charge(now, block, client, &name, account) {
            Verdict::Passed | Verdict::Reported => Limited::Passed,
            Verdict::Dropped => {
                self.counters.stats.drop(DropReason::RateLimited);
                Limited::Dropped
            }
            Verdict::Truncated => {
                let mut asking = [0; NAME_LEN_MAX + 4];
                let bytes = &mut asking[..question.end() - HEADER_LEN];
                bytes.copy_from_slice(&out[HEADER_LEN..question.end()]);
                Limited::Replaced(self.write_retry(block, asked, bytes, out))
            }
        }
    }

    /// Limits the reply of `len` bytes in `out` that is written in the turn of its query; returns
    /// its length. `None`: it is not sent, and the query has ended.
    #[inline(never)]
    pub(super) fn limit_own(
        &mut self,
        now: Moment,
        (client, packet, what): (&Client, &[u8], (&Asked, &Question)),
        (block, zone_match): (usize, ZoneMatch),
        out: &mut [u8],
        len: usize,
    ) -> Option<usize> {
        match self.limit_reply(now, block, client, what.0, out, len) {
            Limited::Passed => Some(len),
            Limited::Replaced(len) => Some(len),
            Limited::Dropped => {
                self.journal_end(now, Some(block), client, packet, what, None);
                let unanswered = CountedReply::unanswered(client.transport());
                self.counters.outcome(zone_match.label_set, &unanswered);
                None
            }
        }
    }

    /// Limits and records the reply to a waiter in a server block that wants replies; returns its
    /// length and response code. `None`: it is not sent, and the waiter's query has ended.
    #[inline(never)]
    pub(super) fn observe_waiter(
        &mut self,
        now: Moment,
        (slot, waiter): (u32, Dismissed),
        block: usize,
        out: &mut [u8],
        (len, rcode): (usize, u16),
    ) -> Option<(usize, u16)> {
        let &Waiter { client, asked, label_set, shown, .. } = self.exchanges.dismissed(waiter);
        let limited = match self.rewriting.is_signed(shown) {
            true => Limited::Passed,
            false => self.limit_reply(now, block, &client, &asked, out, len),
        };
        let kept = match limited {
            Limited::Passed => Some((len, rcode)),
            Limited::Replaced(len) => Some((len, reply::extended_rcode(&out[..len]))),
            Limited::Dropped => None,
        };
        let written = kept.map(|(len, rcode)| Written { bytes: &out[..len], rcode });
        self.journal_waiter(now, slot, waiter, written);
        if kept.is_none() {
            self.counters.outcome(label_set, &CountedReply::unanswered(client.transport()));
            let stanza = self.exchanges.first_stanza(slot);
            self.routes.stanza(stanza).under_way -= 1;
            self.rewriting.forget(shown);
        }
        kept
    }
}
