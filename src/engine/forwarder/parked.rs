//! Queries that need the answer to another query before they can be answered.
//!
//! A stage that cannot answer by itself parks its query: the engine makes another query (a
//! subquery) in the name of the client, which passes the chain, the cache and the upstreams like a
//! client's query. A stage with an incomplete reply asks for the rest ([`Errand::Alias`]). A stage
//! that needs the reply to the parked query itself lets it continue after the stage, and may then
//! make more subqueries.
//!
//! If all answers are available at once, the reply is sent in the turn of its query. Otherwise the
//! query stays in the [`Table`], and continues at the end of the turn in which its answer arrives.
//! A subquery may be parked as well, up to a depth of [`DEPTH_MAX`], and a client's query has at
//! most [`ASKS_MAX`] subqueries; it fails beyond these limits, which ends loops of aliases. All of
//! them end at the deadline of the client's query, or when its connection is closed; a later answer
//! only fills the cache.

mod errands;
mod signatures;
mod table;

use self::errands::Stand;
pub(super) use self::table::{Parked, Table};
use super::Reply;
use super::course::{Asker, Course, Original, ParkedKey, Scope, Written};
use super::late::{HeldReply, Lateness};
use super::limiting::Limited;
use super::recipient::limit;
use super::rewriting::put_back;
use super::{Forwarder, caching::CacheOutcome};
use crate::engine::dnssec::OnlineSigner;
use crate::engine::errors::{Fault, Operation, Reason};
use crate::engine::exchange::{Dismissed, Waiter};
use crate::engine::message::compose::write_error;
use crate::engine::message::name::{WireName, WireQuestion};
use crate::engine::message::query::{Asked, Edns, Query, SUBNET_LEN_MAX};
use crate::engine::message::reply::{ExtendedError, Finish, ReplyTo};
use crate::engine::message::response::Response;
use crate::engine::message::{
    HEADER_LEN, NAME_LEN_MAX, Question, Rcode, UDP_PAYLOAD_MAX, flags, reply,
};
use crate::engine::stages::dns64::Synthesis;
use crate::engine::stats::DropReason;
use crate::engine::tally::CountedReply;
use crate::engine::views::Facts;
use crate::engine::zones::LowercaseName;
use crate::moment::Moment;
use std::sync::Arc;

/// Maximum depth of subqueries of subqueries.
pub(super) const DEPTH_MAX: u32 = 8;
/// Maximum number of subqueries of a client's query.
pub(super) const ASKS_MAX: u32 = 32;

/// The purpose for which a query is parked.
#[derive(Clone)]
pub(super) enum Errand {
    /// Completes a reply that ends with an alias.
    Alias,
    /// Replaces the target of an alias in the reply by rules of `rewrite`.
    Retarget,
    /// Synthesises addresses for a reply without any.
    Synthesis(Arc<Synthesis>),
    /// Signs the reply.
    Signing(Arc<OnlineSigner>),
}

impl Forwarder {
    /// Parks a query. `None`: the table is full.
    pub(super) fn park(
        &mut self,
        now: Moment,
        query: &Query<'_>,
        scope: Scope<'_>,
        errand: Errand,
    ) -> Option<ParkedKey> {
        let Scope { client, block, zone_match, original, .. } = scope;
        let Question { rtype, class, .. } = query.question;
        let mut subnet = [0; SUBNET_LEN_MAX];
        subnet[..query.subnet().len()].copy_from_slice(query.subnet());
        let asker = original.and_then(|original| original.asker);
        let before = asker.and_then(|asker| Some((asker, self.parked.get(asker.key)?)));
        let (depth, until) = match before {
            None => (0, now.plus(self.chains[block].settings.budget)),
            Some((asker, before)) => (before.depth + u32::from(!asker.is_own), before.until),
        };
        let parked = Parked {
            client: *client,
            asked: query.asked,
            subnet: (subnet, query.subnet().len()),
            asking: WireQuestion { name: WireName::new(query.name()), rtype, class },
            size: query.size(),
            signed_by: query.signed_by,
            since: now,
            until,
            zone_match,
            original: original.cloned(),
            errand,
            depth,
            asks: 0,
            is_second: false,
        };
        let key = self.parked.open(parked);
        self.counters.stats.parked.full += u64::from(key.is_none());
        key
    }

    /// Makes a subquery for a parked query. Writes the answer into `out` if it is available at
    /// once.
    fn ask(
        &mut self,
        now: Moment,
        key: ParkedKey,
        asking: &WireQuestion,
        out: &mut [u8],
    ) -> Course {
        let asked_more = self.may_ask(now, key);
        let Some(parked) = self.parked.get_mut(key) else { return Course::Dropped };
        self.counters.stats.parked.queries += u64::from(!parked.is_second);
        parked.is_second = true;
        let carried = flags::RD | flags::AD | flags::CD;
        let dnssec_ok = parked.asked.edns.is_some_and(|edns| edns.dnssec_ok);
        let edns = Edns {
            udp_size: UDP_PAYLOAD_MAX as u16,
            dnssec_ok,
            compact_ok: false,
            keepalive: false,
            nsid: false,
            padding: false,
            cookie: None,
        };
        let asked = Asked { id: 0, flags: parked.asked.flags & carried, edns: Some(edns) };
        let (client, (subnet, subnet_len)) = (parked.client, parked.subnet);
        let (signed_by, signed_for) = (parked.signed_by, parked.zone_match.block());
        let mut head = [0; HEADER_LEN + NAME_LEN_MAX + 4];
        let mut query = Query::of(asking, asked, &subnet[..subnet_len], &mut head);
        let question = query.question_bytes();
        if !asked_more {
            let finish = Finish::PLAIN;
            let len = write_error(out, &asked, question, Rcode::ServFail, None, finish);
            return Course::Replied(len);
        }
        let name = LowercaseName::new(query.name());
        let facts = || Facts::of(&client, &query, &name);
        let zone_match =
            self.routes.zone_match(client.listener, &name, asking.rtype, asking.class, facts);
        self.counters.query_at(&client, &query, zone_match.label_set);
        let Some(block) = zone_match.block() else {
            let finish = Finish::PLAIN;
            let len = write_error(out, &asked, question, Rcode::Refused, None, finish);
            self.counters.sub_reply(now, zone_match.label_set, &client, &out[..len], now);
            return Course::Replied(len);
        };
        // Another server block has keys of its own, with which nothing was verified.
        if signed_for == Some(block) {
            query.signed_by = signed_by;
        }
        let asked_for = query.question;
        let what = (&asked, &asked_for);
        let packet = query.packet();
        self.journal_arrival(now, block, &client, packet, what);
        let asker = Some(Asker { key, is_own: false });
        let original =
            Original { block, asking: *asking, rules: None, met: 0, asker, signer: None };
        let original = Some(&original);
        let scope = Scope { client: &client, block, zone_match, original, is_inside: false };
        let course = self.serve_in(now, &mut query, &name, scope, out);
        if matches!(course, Course::Waits) {
            return course;
        }
        // A dropped subquery, or one that no stage answers, gets REFUSED. A zone that is not loaded
        // yet counts as an answer.
        let is_nowhere = matches!(
            course,
            Course::Refused(Rcode::ServFail, why, _) if why != Some(ExtendedError::NotReady)
        );
        let len = match self.write_course(&query, course, out) {
            Some((len, _)) if !is_nowhere => len,
            _ => {
                let (question, finish) = (query.question_bytes(), Finish::PLAIN);
                write_error(out, &asked, question, Rcode::Refused, None, finish)
            }
        };
        self.counters.sub_reply(now, zone_match.label_set, &client, &out[..len], now);
        self.journal_end(now, Some(block), &client, packet, what, Some(&out[..len]));
        Course::Replied(len)
    }

    /// Counts a subquery of a parked query; returns false if a limit is reached.
    fn may_ask(&mut self, now: Moment, key: ParkedKey) -> bool {
        let depth = self.parked.get(key).map_or(0, |parked| parked.depth);
        let root = self.parked.root(key);
        let Some(root) = root.and_then(|root| self.parked.get_mut(root)) else { return false };
        if root.until <= now {
            return false;
        }
        if depth >= DEPTH_MAX {
            self.counters.stats.parked.too_deep += 1;
            return false;
        }
        if root.asks >= ASKS_MAX {
            self.counters.stats.parked.too_many += 1;
            return false;
        }
        root.asks += 1;
        self.counters.stats.parked.asked += 1;
        true
    }

    /// Wakes the parked queries among the waiters of a settled exchange.
    pub(super) fn wake_waiters(
        &mut self,
        now: Moment,
        slot: u32,
        (packet, response): (&[u8], &Response),
        remembered: Option<CacheOutcome>,
    ) {
        let rewriting = &self.rewriting;
        let taken =
            self.exchanges.take_waiters(slot, |waiter| rewriting.asker(waiter.shown).is_some());
        if taken.is_empty() {
            return;
        }
        let mut out = self.rewriting.borrow_buffer();
        for waiter in taken {
            let (len, rcode) =
                self.write_response(slot, waiter, packet, response, remembered, &mut out);
            let written = Written { bytes: &out[..len], rcode };
            self.wake(now, slot, waiter, written);
        }
        self.rewriting.give_back(out);
    }

    /// Wakes the parked query behind `waiter` with its answer; returns false if the waiter is not a
    /// parked query.
    pub(super) fn wake(
        &mut self,
        now: Moment,
        slot: u32,
        waiter: Dismissed,
        written: Written<'_>,
    ) -> bool {
        let &Waiter { client, since, label_set, shown, .. } = self.exchanges.dismissed(waiter);
        let Some(asker) = self.rewriting.asker(shown) else { return false };
        if !asker.is_own {
            self.journal_waiter(now, slot, waiter, Some(written));
            self.counters.sub_reply(now, label_set, &client, written.bytes, since);
        }
        let stanza = self.exchanges.first_stanza(slot);
        self.routes.stanza(stanza).under_way -= 1;
        self.rewriting.forget(shown);
        let kept = self.parked.arrive(now, asker.key, written.bytes);
        self.counters.stats.parked.too_large += u64::from(kept.is_err());
        true
    }

    /// Returns the next reply to a client whose query was parked. `out` is as for
    /// [`Forwarder::next_reply`], for a client on a connection.
    pub(super) fn next_woken(&mut self, out: &mut [u8]) -> Option<Reply> {
        while let Some((key, at)) = self.parked.next_woken() {
            if let Some(reply) = self.resume(at, key, out) {
                return Some(reply);
            }
        }
        None
    }

    /// Continues a parked query whose answer has arrived, or whose deadline is over.
    fn resume(&mut self, now: Moment, key: ParkedKey, out: &mut [u8]) -> Option<Reply> {
        let root = self.parked.root(key).and_then(|root| self.parked.get(root));
        let Some(Parked { client, .. }) = root else {
            // The client's query has ended, so all parked queries between it and this one end.
            self.parked.close_chain(key);
            return None;
        };
        if client.via.connection().is_some_and(|connection| !self.clients.is_open(connection)) {
            self.cancel(now, key);
            return None;
        }
        let mut key = key;
        let mut len = match self.parked.take_arrived(key, out) {
            Some(len) => len,
            None => return self.give_up(now, key, out),
        };
        loop {
            match self.go_on(now, key, len, out) {
                Stand::Waits => return None,
                Stand::Own(done) | Stand::Replied(done) => len = done,
            }
            let done = self.parked.close(key)?;
            len = self.put_back_parked(&done, len, out);
            let Some(asker) = done.asker() else {
                len = self.sign(done.signer(), &done.client, &done.asked, out, len);
                return self.reply_parked(now, &done, out, len);
            };
            if !asker.is_own {
                self.counters.sub_reply(
                    now,
                    done.zone_match.label_set,
                    &done.client,
                    &out[..len],
                    done.since,
                );
                self.journal_parked(now, &done, Some(&out[..len]));
            }
            key = asker.key;
        }
    }

    /// Restores in the reply of `len` bytes in `out` the question that rules of `rewrite` changed,
    /// if they did.
    fn put_back_parked(&mut self, done: &Parked, len: usize, out: &mut [u8]) -> usize {
        let Some(original) = done.original.as_ref().filter(|original| original.rules.is_some())
        else {
            return len;
        };
        let mut room = [0; NAME_LEN_MAX + 4];
        let question = original.asking.write(&mut room);
        let finish = match done.zone_match.block() {
            Some(block) => self.chains[block].finish_own(),
            None => Finish::PLAIN,
        };
        let limit = limit(&done.client, &done.asked);
        let to = ReplyTo { asked: &done.asked, question, limit, finish };
        let mut written = self.rewriting.borrow_buffer();
        written[..len].copy_from_slice(&out[..len]);
        let (len, _) = put_back(&mut self.rewriting, original, &written[..len], &to, out);
        self.rewriting.give_back(written);
        len
    }

    /// Ends a client's query at its deadline, without the answer that it waits for.
    fn give_up(&mut self, now: Moment, key: ParkedKey, out: &mut [u8]) -> Option<Reply> {
        let (reason, rcode) = (Reason::Attempt(Operation::Read, Fault::TimedOut), Rcode::ServFail);
        let len = self.write_overdue(key, rcode, reason, out)?;
        let done = self.parked.close(key)?;
        let asking = done.first_asking();
        if let Some(block) = done.zone_match.block() {
            self.log_asking(asking, block, rcode, reason);
        }
        let len = self.put_back_parked(&done, len, out);
        let len = self.sign(done.signer(), &done.client, &done.asked, out, len);
        self.reply_parked(now, &done, out, len)
    }

    /// Writes the error reply to a parked query, with the aliases found so far.
    fn write_overdue(
        &mut self,
        key: ParkedKey,
        rcode: Rcode,
        reason: Reason,
        out: &mut [u8],
    ) -> Option<usize> {
        let parked = self.parked.get(key)?;
        let is_open = matches!(parked.errand, Errand::Alias);
        let mut room = [0; NAME_LEN_MAX + 4];
        let asking = if is_open { &parked.asking } else { parked.first_asking() };
        let question = asking.write(&mut room);
        let finish = self.finish_own(parked.zone_match.block());
        let len = write_error(out, &parked.asked, question, rcode, reason.extended(), finish);
        Some(if is_open { self.write_joined(key, len, out) } else { len })
    }

    /// Ends all parked queries between that of a client that is gone and `key`.
    fn cancel(&mut self, now: Moment, key: ParkedKey) {
        let last = self.parked.close_chain(key);
        if let Some(root) = last.filter(|last| last.asker().is_none()) {
            self.journal_parked(now, &root, None);
            self.counters.stats.drop(DropReason::ReplyNotSent);
        }
    }

    /// Limits, counts and records the reply of `len` bytes in `out` to a client whose query was
    /// parked. `None`: it is not sent.
    fn reply_parked(
        &mut self,
        now: Moment,
        done: &Parked,
        out: &mut [u8],
        len: usize,
    ) -> Option<Reply> {
        let Parked { client, asked, since, zone_match, .. } = done;
        let lateness = self.lateness_of(now, client, asked, *since);
        if lateness == Lateness::Discarded {
            self.journal_parked(now, done, None);
            self.counters.stats.drop(DropReason::ReplyTooLate);
            let unanswered = CountedReply::unanswered(client.transport());
            self.counters.outcome(zone_match.label_set, &unanswered);
            return None;
        }
        let block = zone_match.block().filter(|_| done.signer().is_none());
        let limited = match block {
            Some(block) => self.limit_reply(now, block, client, asked, out, len),
            None => Limited::Passed,
        };
        let bytes = match limited {
            Limited::Passed => Some(&out[..len]),
            Limited::Replaced(len) => Some(&out[..len]),
            Limited::Dropped => None,
        };
        self.journal_parked(now, done, bytes);
        let Some(bytes) = bytes else {
            let unanswered = CountedReply::unanswered(client.transport());
            self.counters.outcome(zone_match.label_set, &unanswered);
            return None;
        };
        let rcode = reply::extended_rcode(bytes);
        let (client, since, len) = (*client, *since, bytes.len());
        let (answered, label_set) = (rcode != Rcode::ServFail as u16, zone_match.label_set);
        if let Lateness::Held(due) = lateness {
            let held = HeldReply { client, since, label_set, rcode, answered };
            self.hold_late(due, held, bytes);
            return None;
        }
        let (transport, took) = (client.transport(), now.since(since));
        let outcome = CountedReply { transport, took, rcode, len, answered };
        let name = done.first_asking().name.as_bytes();
        self.counters.reply(now, label_set, name, &outcome);
        if let Some(connection) = client.via.connection() {
            self.clients.answered(connection);
        }
        Some(Reply { client, len })
    }

    /// Finds the server block of each parked query in the new configuration.
    pub(super) fn rehome_parked(&mut self) {
        let routes = &self.routes;
        for parked in self.parked.all_mut() {
            let WireQuestion { name, rtype, class } = *parked.first_asking();
            let name = LowercaseName::new(name.as_bytes());
            let Parked { client, asked, size, .. } = &*parked;
            let facts = || Facts { client, asked, name: &name, rtype, class, size: *size };
            parked.zone_match = routes.zone_match(client.listener, &name, rtype, class, facts);
        }
    }
}
