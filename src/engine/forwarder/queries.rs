//! Handling of a client's packet.
//!
//! An invalid packet is refused. A valid query is passed to the stages of its server block; if none
//! of them answers it, it is forwarded: coalesced with the same outstanding query, or sent in an
//! exchange of its own. All other replies are written at once into the caller's buffer.

use super::Forwarder;
use super::arrivals::Arrival;
use super::caching::CacheLookup;
use super::course::{Course, Original, Scope, Written};
use super::drafts::Route;
use super::recipient::limit;
use crate::engine::chain::Side;
use crate::engine::errors::Reason;
use crate::engine::exchange::{Client, Shown, Spelling, Waiter};
use crate::engine::key::Via;
use crate::engine::message::compose::{Composer, write_error};
use crate::engine::message::query::{Query, Rejection};
use crate::engine::message::{Rcode, flags, reply, rtype};
use crate::engine::routes::ZoneMatch;
use crate::engine::stages::{Step, special};
use crate::engine::stats::DropReason;
use crate::engine::tally::CountedReply;
use crate::engine::zones::LowercaseName;
use crate::moment::Moment;
use std::time::Duration;

impl Forwarder {
    /// Handles a client's packet. `truncated`: the packet was longer than its buffer. Returns the
    /// length of the reply in `out`, whose size is as for [`Forwarder::next_reply`]; `None`: there
    /// is no reply, or not yet.
    pub fn on_query(
        &mut self,
        now: Moment,
        client: Client,
        packet: &[u8],
        truncated: bool,
        out: &mut [u8],
    ) -> Option<usize> {
        let mut arrival = Arrival::NONE;
        self.read_into(client, packet, truncated, &mut arrival);
        self.on_arrival(now, &mut arrival, out)
    }

    /// Handles a client's packet that [`Forwarder::read`] has parsed.
    pub fn on_arrival(
        &mut self,
        now: Moment,
        arrival: &mut Arrival<'_>,
        out: &mut [u8],
    ) -> Option<usize> {
        let Arrival { client, packet, query, name, zone_match } = arrival;
        self.counters.stats.queries += 1;
        // The reply to a proxy's client goes to the proxy, whatever the client's port.
        if client.peer.port() == 0 && client.via == Via::Datagram {
            self.counters.stats.drop(DropReason::QueryFromPortZero);
            return None;
        }
        if let Some(connection) = client.via.connection() {
            self.clients.asked(now, connection);
        }
        match query {
            Ok(query) => {
                let place = (&*name, *zone_match, None);
                return self.on_understood(now, client, query, packet, place, out);
            }
            Err(Rejection::TooShort) => self.counters.stats.drop(DropReason::QueryTooShort),
            Err(Rejection::IsResponse) => self.counters.stats.drop(DropReason::QueryIsResponse),
            Err(Rejection::Refusal { rcode, asked, question }) => {
                let refusal = (*rcode, *asked, *question);
                return self.on_refused(now, client, packet, refusal, out);
            }
        }
        None
    }

    /// Handles, counts and records a valid query. `original`: has the signer of the reply, if any.
    #[inline(always)]
    pub(super) fn on_understood(
        &mut self,
        now: Moment,
        client: &Client,
        query: &mut Query<'_>,
        packet: &[u8],
        (name, zone_match, original): (&LowercaseName, ZoneMatch, Option<&Original>),
        out: &mut [u8],
    ) -> Option<usize> {
        let (asked, question) = (query.asked, query.question);
        let what = (&asked, &question);
        self.counters.query(now, client, query, name, zone_match.label_set);
        if let Some(block) = zone_match.block() {
            self.journal_arrival(now, block, client, packet, what);
        }
        let course = self.serve(now, client, query, (name, zone_match), original, out);
        if matches!(course, Course::Waits) {
            client.via.connection().inspect(|connection| self.clients.waits(*connection));
            return None;
        }
        if let Course::Later(len, after) = course {
            let signer = original.and_then(|original| original.signer.as_deref());
            let due = now.plus(after);
            self.reply_later(now, (client, packet, what), (zone_match, signer, due), out, len);
            return None;
        }
        let Some((mut len, answered)) = self.write_course(query, course, out) else {
            if matches!(course, Course::Transfer) {
                let len = self.count_transfer(client, query, zone_match.label_set, out);
                self.journal_end(now, zone_match.block(), client, packet, what, Some(&out[..len]));
                return None;
            }
            self.counters
                .outcome(zone_match.label_set, &CountedReply::unanswered(client.transport()));
            self.journal_end(now, zone_match.block(), client, packet, what, None);
            return None;
        };
        let mut rcode = reply::rcode(out);
        if let Some(block) = zone_match.block().filter(|block| self.journal.wants(*block)) {
            if original.is_none_or(|original| original.signer.is_none()) {
                len = self.limit_own(now, (client, packet, what), (block, zone_match), out, len)?;
            }
            self.journal_end(now, Some(block), client, packet, what, Some(&out[..len]));
            // BADCOOKIE is among the replies of a block with limits only.
            rcode = reply::extended_rcode(&out[..len]);
        }
        let written = Written { bytes: &out[..len], rcode };
        self.counters.own_reply(now, client, zone_match.label_set, name, written, answered);
        Some(len)
    }

    /// Writes the reply to a query that does not wait. Returns its length, and false if it is an
    /// error generated here. `None`: there is no reply.
    #[inline(always)]
    pub(super) fn write_course(
        &mut self,
        query: &Query<'_>,
        course: Course,
        out: &mut [u8],
    ) -> Option<(usize, bool)> {
        let (asked, question) = (&query.asked, query.question_bytes());
        Some(match course {
            Course::Waits | Course::Transfer | Course::Dropped => return None,
            // Replies to subqueries are not delayed.
            Course::Replied(len) | Course::Later(len, _) => (len, true),
            Course::Refused(rcode, why, block) => {
                let finish = self.finish_own(block);
                let len = write_error(out, asked, question, rcode, why, finish);
                // A refusal by a stage counts as an answer, a failure does not.
                (len, block.is_some() && rcode != Rcode::ServFail)
            }
            Course::Failed(rcode, reason, block) => {
                self.log_query(query, block, rcode, reason);
                let (why, finish) = (reason.extended(), self.chains[block].finish_own());
                (write_error(out, asked, question, rcode, why, finish), false)
            }
        })
    }

    /// Answers or forwards a query.
    #[inline(always)]
    fn serve(
        &mut self,
        now: Moment,
        client: &Client,
        query: &mut Query<'_>,
        (name, zone_match): (&LowercaseName, ZoneMatch),
        original: Option<&Original>,
        out: &mut [u8],
    ) -> Course {
        let Some(block) = zone_match.block() else {
            return Course::Refused(Rcode::Refused, None, None);
        };
        let scope = Scope { client, block, zone_match, original, is_inside: false };
        self.serve_in(now, query, name, scope, out)
    }

    /// Answers or forwards a query in its server block.
    #[inline(always)]
    pub(super) fn serve_in(
        &mut self,
        now: Moment,
        query: &mut Query<'_>,
        name: &LowercaseName,
        scope: Scope<'_>,
        out: &mut [u8],
    ) -> Course {
        let step = self.pass_stages(now, query, name, scope, Side::AsAsked, out);
        match step {
            Step::Continue => self.serve_behind(now, query, name, scope, out),
            Step::Park => self.serve_synthesized(now, query, name, scope, out),
            step => self.course_of(now, query, scope, step, out),
        }
    }

    /// Answers or forwards a query that has passed the stages before `rewrite`.
    #[inline(always)]
    pub(super) fn serve_behind(
        &mut self,
        now: Moment,
        query: &mut Query<'_>,
        name: &LowercaseName,
        scope: Scope<'_>,
        out: &mut [u8],
    ) -> Course {
        match self.chains[scope.block].rules.clone() {
            // Of a zone there is no other version under other names.
            Some(_) if matches!(query.question.rtype, rtype::AXFR | rtype::IXFR) => {
                self.serve_on(now, query, name, scope, out)
            }
            Some(rules) => self.serve_rewritten(now, query, name, (scope, &rules), out),
            None => self.serve_on(now, query, name, scope, out),
        }
    }

    /// Passes a query to the stages at one point of the chain.
    #[inline(always)]
    pub(super) fn pass_stages(
        &mut self,
        now: Moment,
        query: &mut Query<'_>,
        name: &LowercaseName,
        scope: Scope<'_>,
        side: Side,
        out: &mut [u8],
    ) -> Step {
        if !self.chains[scope.block].looks(side) {
            return Step::Continue;
        }
        self.ask_stages(now, query, name, scope, side, out)
    }

    /// Passes a query to the stages that look at it.
    fn ask_stages(
        &mut self,
        now: Moment,
        query: &mut Query<'_>,
        name: &LowercaseName,
        scope: Scope<'_>,
        side: Side,
        out: &mut [u8],
    ) -> Step {
        if side == Side::AsAsked && self.chains[scope.block].limits_queries() {
            let step = self.limit_query(now, query, name, scope, out);
            if step != Step::Continue {
                return step;
            }
        }
        let chain = &self.chains[scope.block];
        let (random, stages) = (&mut self.random, &mut self.counters.stats.stages);
        let acl = stages.acl;
        let client = scope.client;
        let step = chain.on_query(side, client, query, (name, &self.data), (random, stages), out);
        self.counters.acl(scope.zone_match.label_set, &acl);
        step
    }

    /// Returns the next action for the step that a stage returned.
    pub(super) fn course_of(
        &mut self,
        now: Moment,
        query: &Query<'_>,
        scope: Scope<'_>,
        step: Step,
        out: &mut [u8],
    ) -> Course {
        match step {
            Step::Replied(len) => Course::Replied(len),
            Step::Later(len, micros) => {
                Course::Later(usize::from(len), Duration::from_micros(micros.into()))
            }
            Step::Open(len) => self.follow(now, query, scope, len, out),
            Step::Transfer => self.note_transfer(query, scope),
            Step::Refused(rcode, why) => Course::Refused(rcode, why, Some(scope.block)),
            Step::Limited => {
                self.counters.stats.drop(DropReason::RateLimited);
                Course::Dropped
            }
            Step::Continue | Step::Park | Step::Dropped => {
                let asker = scope.original.and_then(|original| original.asker);
                if asker.is_none_or(|asker| asker.is_own) {
                    self.counters.stats.drop(DropReason::QueryDenied);
                }
                Course::Dropped
            }
        }
    }

    /// Answers or forwards a query after the server block's rules of `rewrite`.
    pub(super) fn serve_on(
        &mut self,
        now: Moment,
        query: &mut Query<'_>,
        name: &LowercaseName,
        scope: Scope<'_>,
        out: &mut [u8],
    ) -> Course {
        let Scope { client, block, zone_match, original, is_inside } = scope;
        if !is_inside {
            match self.pass_stages(now, query, name, scope, Side::BeforeCache, out) {
                Step::Continue => {}
                Step::Park => return self.serve_with_keys(now, query, name, scope, out),
                step => return self.course_of(now, query, scope, step, out),
            }
        }
        let looked_up = self.look_up(now, client, query, name, block, out);
        if let CacheLookup::Replied { len, refresh } = looked_up {
            if refresh && self.is_in_zone(block, name, query.question.rtype) {
                // A cached upstream answer may now belong to a zone of this server: then no
                // upstream is asked.
                let mut cached = self.rewriting.borrow_buffer();
                cached[..len].copy_from_slice(&out[..len]);
                let step = self.pass_stages(now, query, name, scope, Side::AfterCache, out);
                if step == Step::Continue {
                    out[..len].copy_from_slice(&cached[..len]);
                }
                self.rewriting.give_back(cached);
                if step != Step::Continue {
                    return self.course_of(now, query, scope, step, out);
                }
            }
            if refresh {
                self.refresh(now, block, query, name);
            }
            return Course::Replied(len);
        }
        let step = self.pass_stages(now, query, name, scope, Side::AfterCache, out);
        if step != Step::Continue {
            return self.course_of(now, query, scope, step, out);
        }
        match self.routes.stanza_in(block, name) {
            None => {
                let (random, stages) = (&mut self.random, &mut self.counters.stats.stages);
                let chain = &self.chains[block];
                let step = chain.at_end(client, query, (name, &self.data), random, stages, out);
                if let Step::Refused(rcode, why) = step {
                    if rcode == Rcode::ServFail {
                        self.log_query(query, block, rcode, Reason::NobodyForwards);
                    }
                    return Course::Refused(rcode, why, Some(block));
                }
                self.course_of(now, query, scope, step, out)
            }
            Some(stanza) if self.keeps(block, stanza, query, name) => {
                self.answer_special(client, block, query, name, out)
            }
            Some(_) if self.is_looping(now, block, query, name, client.peer) => {
                self.counters.stats.stages.loops.count(Step::Refused(Rcode::ServFail, None));
                Course::Failed(Rcode::ServFail, Reason::Looping, block)
            }
            Some(stanza) => {
                let cacheable = looked_up != CacheLookup::NotForIt;
                let transport = client.transport();
                let route =
                    Route { block, label_set: zone_match.label_set, stanza, transport, cacheable };
                let forwarded =
                    self.forward(now, client, query, name, &route, (looked_up, original));
                let CacheLookup::Expired { entry, .. } = looked_up else { return forwarded };
                if matches!(forwarded, Course::Waits) {
                    return forwarded;
                }
                // An expired entry is better than an error.
                let cached = self.write_cached(now, block, entry, client, query, out);
                cached.map_or(forwarded, Course::Replied)
            }
        }
    }

    /// Returns true if a query is for a special-use name that the stanza must not forward.
    #[inline]
    fn keeps(&self, block: usize, stanza: usize, query: &Query<'_>, name: &LowercaseName) -> bool {
        let names = &self.chains[block].settings.special_names;
        names.as_ref().is_some_and(|names| {
            self.routes.is_for_all(stanza) && names.find(name, &query.question).is_some()
        })
    }

    /// Answers a query for a special-use name.
    #[cold]
    fn answer_special(
        &self,
        client: &Client,
        block: usize,
        query: &Query<'_>,
        name: &LowercaseName,
        out: &mut [u8],
    ) -> Course {
        let (asked, question) = (&query.asked, &query.question);
        let names = self.chains[block].settings.special_names.as_ref();
        let Some(found) = names.and_then(|names| names.find(name, question)) else {
            return Course::Dropped;
        };
        let (limit, finish) = (limit(client, asked).min(out.len()), self.finish_own(Some(block)));
        let reply = Composer::new(out, limit, asked, query.question_bytes(), finish, None);
        Course::Replied(special::answer(found, name, question, reply))
    }

    /// Returns true if a query for this name and type belongs to a zone of the server block.
    fn is_in_zone(&self, block: usize, name: &LowercaseName, rtype: u16) -> bool {
        let slot = self.chains[block].settings.own_zones;
        slot.is_some_and(|slot| self.data.zones(slot).zone_match(name, rtype).is_some())
    }

    /// Forwards a query, or lets the client wait for the same query if that is outstanding.
    fn forward(
        &mut self,
        now: Moment,
        client: &Client,
        query: &Query<'_>,
        name: &LowercaseName,
        route: &Route,
        (looked_up, original): (CacheLookup, Option<&Original>),
    ) -> Course {
        let (block, stanza) = (route.block, route.stanza);
        // Cached answers must also serve clients that set AD, so the upstream query has AD set.
        let set = if route.cacheable { flags::AD } else { 0 };
        let (routes, chains) = (&mut self.routes, &self.chains);
        let opening = self.drafts.write(query, name, route, set, routes, chains);
        let full = Course::Failed(Rcode::ServFail, Reason::Overloaded, block);
        let (slot, same) = if self.routes.stanza(stanza).has_room() {
            if self.exchanges.waiters_are_full() {
                self.counters.stats.overloaded += 1;
                return full;
            }
            let same = self.exchanges.find_same(&opening);
            let opened = same.or_else(|| {
                let refused = &mut self.counters.stats.flood_refusals;
                let parts = (&mut self.exchanges, &mut self.random, refused);
                self.floods.open(now, (name, &opening), parts, self.upstreams.health())
            });
            let Some(slot) = opened else {
                self.counters.stats.overloaded += 1;
                return full;
            };
            (slot, same)
        } else {
            match self.forward_by_client(now, client, query, name, (route, set)) {
                Ok(found) => found,
                Err(course) => return course,
            }
        };
        if let CacheLookup::Expired { within: Some(within), .. } = looked_up
            && self.exchanges.limit_timeout(slot, now, within) <= now
            && same.is_some()
        {
            // The clients of this exchange have waited this long and got the expired entry.
            return full;
        }
        let shown = match (original, same) {
            (Some(original), _) => Shown::Other(self.rewriting.keep(original)),
            (None, None) if !self.exchanges.get(slot).randomizes => Shown::Same,
            (None, _) => Shown::Case(Spelling::of(query.name())),
        };
        let (client, since, label_set) = (*client, now, route.label_set);
        let (asked, size) = (query.asked, query.size());
        self.exchanges.join(slot, Waiter { client, since, label_set, asked, size, shown });
        self.routes.stanza(stanza).under_way += 1;
        match same {
            Some(_) => self.counters.stats.coalesced += 1,
            None => self.attempt(now, slot, Reason::NoConnection),
        }
        Course::Waits
    }
}
