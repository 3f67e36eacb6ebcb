//! Errands: the purposes for which queries are parked, and their use of the answers.
//!
//! An errand handles at most two answers: the reply to its own query, unless the stage has already
//! written that, and the answer to one subquery. [`super`] keeps the waiting queries, their
//! deadlines and their limits.

use super::Errand;
use super::table::NoRoom;
use crate::engine::chain::Side;
use crate::engine::errors::Reason;
use crate::engine::forwarder::Forwarder;
use crate::engine::forwarder::course::{Course, Original, ParkedKey, Scope};
use crate::engine::forwarder::recipient::limit;
use crate::engine::message::compose::write_error;
use crate::engine::message::join;
use crate::engine::message::name::{WireName, WireQuestion};
use crate::engine::message::query::Query;
use crate::engine::message::reply::{ReplyTo, write_answer};
use crate::engine::message::response::Response;
use crate::engine::message::{NAME_LEN_MAX, Question, Rcode, flags, rtype};
use crate::engine::stages::Step;
use crate::engine::stages::dns64::{Judgement, Synthesis};
use crate::engine::zones::LowercaseName;
use crate::moment::Moment;

/// The next step of a parked query.
#[expect(
    clippy::large_enum_variant,
    reason = "it is looked at and gone, and a box would be allocated"
)]
pub(super) enum Next {
    /// The query's own reply, of this length, is in the buffer and is final.
    Own(usize),
    /// A reply of this length is written.
    Reply(usize),
    /// An answer to this question is needed.
    Ask(WireQuestion),
}

/// State of a parked query after a step.
pub(super) enum Stand {
    /// An answer is outstanding.
    Waits,
    /// The query's own reply, or the error in its place, is final.
    Own(usize),
    /// A reply of this length is written.
    Replied(usize),
}

impl Forwarder {
    /// Completes a stage's reply of `len` bytes in `out`, which may end with an alias.
    pub(in crate::engine::forwarder) fn follow(
        &mut self,
        now: Moment,
        query: &Query<'_>,
        scope: Scope<'_>,
        len: usize,
        out: &mut [u8],
    ) -> Course {
        let Some(target) = join::open_alias(&out[..len]) else { return Course::Replied(len) };
        let Some(key) = self.park(now, query, scope, Errand::Alias) else {
            return Course::Failed(Rcode::ServFail, Reason::Overloaded, scope.block);
        };
        if self.parked.keep_head(key, &out[..len]).is_err() {
            self.counters.stats.parked.too_large += 1;
            self.parked.close(key);
            return Course::Failed(Rcode::ServFail, Reason::Overloaded, scope.block);
        }
        let Question { rtype, class, .. } = query.question;
        let course = self.ask(now, key, &WireQuestion { name: target, rtype, class }, out);
        let stand = match course {
            Course::Replied(len) => self.go_on(now, key, len, out),
            _ => Stand::Waits,
        };
        match stand {
            Stand::Waits => Course::Waits,
            Stand::Own(len) | Stand::Replied(len) => {
                self.parked.close(key);
                Course::Replied(len)
            }
        }
    }

    /// Serves a query that rules of `rewrite` have changed, and applies them to the aliases in its
    /// reply.
    pub(in crate::engine::forwarder) fn serve_retargeted(
        &mut self,
        now: Moment,
        query: &mut Query<'_>,
        name: &LowercaseName,
        scope: Scope<'_>,
        out: &mut [u8],
    ) -> Course {
        let Some(key) = self.park(now, query, scope, Errand::Retarget) else {
            return Course::Failed(Rcode::ServFail, Reason::Overloaded, scope.block);
        };
        let own = Original::of_own(query, scope.block, key);
        let inside = Scope { original: Some(&own), is_inside: false, ..scope };
        let course = self.serve_on(now, query, name, inside, out);
        self.settle_own(now, key, query, course, out)
    }

    /// Serves an AAAA query behind `dns64`, which synthesises records if there are none.
    pub(in crate::engine::forwarder) fn serve_synthesized(
        &mut self,
        now: Moment,
        query: &mut Query<'_>,
        name: &LowercaseName,
        scope: Scope<'_>,
        out: &mut [u8],
    ) -> Course {
        let Some(synthesis) = self.chains[scope.block].settings.dns64.clone() else {
            return self.serve_behind(now, query, name, scope, out);
        };
        let Some(key) = self.park(now, query, scope, Errand::Synthesis(synthesis)) else {
            return Course::Failed(Rcode::ServFail, Reason::Overloaded, scope.block);
        };
        let own = Original::of_own(query, scope.block, key);
        let inside = Scope { original: Some(&own), is_inside: false, ..scope };
        let course = match self.pass_stages(now, query, name, inside, Side::BehindDns64, out) {
            Step::Continue => self.serve_behind(now, query, name, inside, out),
            step => self.course_of(now, query, inside, step, out),
        };
        self.settle_own(now, key, query, course, out)
    }

    /// Returns the outcome of a parked query in the turn in which it was parked. `course`: its
    /// outcome behind the stage that parked it.
    pub(super) fn settle_own(
        &mut self,
        now: Moment,
        key: ParkedKey,
        query: &Query<'_>,
        course: Course,
        out: &mut [u8],
    ) -> Course {
        let (asked, question) = (&query.asked, query.question_bytes());
        let len = match course {
            Course::Waits | Course::Transfer => return course,
            // Under overload, no subquery is asked.
            Course::Failed(_, Reason::Overloaded | Reason::TooManyConcurrent(_), _)
            | Course::Dropped => {
                self.parked.close(key);
                return course;
            }
            Course::Replied(len) | Course::Later(len, _) => len,
            Course::Refused(rcode, why, block) => {
                write_error(out, asked, question, rcode, why, self.finish_own(block))
            }
            Course::Failed(rcode, reason, block) => {
                let finish = self.finish_own(Some(block));
                write_error(out, asked, question, rcode, reason.extended(), finish)
            }
        };
        let stand = self.go_on(now, key, len, out);
        if !matches!(stand, Stand::Waits) {
            self.parked.close(key);
        }
        match (stand, course) {
            (Stand::Waits, _) => Course::Waits,
            (Stand::Own(_), Course::Refused(..) | Course::Failed(..)) => course,
            (Stand::Own(len) | Stand::Replied(len), _) => Course::Replied(len),
        }
    }

    /// Resumes a parked query whose answer, of `len` bytes, is in `out`. The query waits again, or
    /// a reply is written.
    pub(super) fn go_on(
        &mut self,
        now: Moment,
        key: ParkedKey,
        len: usize,
        out: &mut [u8],
    ) -> Stand {
        let mut len = len;
        loop {
            match self.next_step(now, key, len, out) {
                Next::Own(len) => return Stand::Own(len),
                Next::Reply(len) => return Stand::Replied(len),
                Next::Ask(asking) => match self.ask(now, key, &asking, out) {
                    Course::Replied(answer) => len = answer,
                    _ => return Stand::Waits,
                },
            }
        }
    }

    /// Returns the next step of a parked query after the answer of `len` bytes in `out`.
    fn next_step(&mut self, now: Moment, key: ParkedKey, len: usize, out: &mut [u8]) -> Next {
        let Some(parked) = self.parked.get(key) else { return Next::Own(len) };
        let is_second = parked.is_second;
        match &parked.errand {
            Errand::Synthesis(synthesis) => self.synthesize(key, &synthesis.clone(), len, out),
            Errand::Signing(signer) => self.sign_parked(now, key, &signer.clone(), len, out),
            Errand::Alias => Next::Reply(self.write_joined(key, len, out)),
            Errand::Retarget if is_second => Next::Reply(self.write_joined(key, len, out)),
            Errand::Retarget => match self.turn_elsewhere(key, &out[..len]) {
                Ok(Some(asking)) => Next::Ask(asking),
                Ok(None) => Next::Own(len),
                Err(NoRoom) => self.fail_for_room(key, out),
            },
        }
    }

    /// Returns the next step of a parked AAAA query: first after its own reply, then after the
    /// answer to the A query.
    fn synthesize(
        &mut self,
        key: ParkedKey,
        synthesis: &Synthesis,
        len: usize,
        out: &mut [u8],
    ) -> Next {
        let Some(parked) = self.parked.get(key) else { return Next::Own(len) };
        let (is_second, label_set) = (parked.is_second, parked.zone_match.label_set);
        let WireQuestion { name, class, .. } = parked.asking;
        let judgement = if is_second { Judgement::Lacks } else { synthesis.judge(&out[..len]) };
        if judgement == Judgement::Passes {
            return Next::Own(len);
        }
        if judgement == Judgement::Lacks && !is_second {
            if self.parked.keep_head(key, &out[..len]).is_err() {
                return self.fail_for_room(key, out);
            }
            return Next::Ask(WireQuestion { name, rtype: rtype::A, class });
        }
        let mut room = [0; NAME_LEN_MAX + 4];
        let question = parked.asking.write(&mut room);
        let mut made = self.rewriting.borrow_buffer();
        let written = match judgement {
            Judgement::Thinned => synthesis.thin(&out[..len], question, &mut made),
            _ => synthesis.make(self.parked.head(key), &out[..len], question, &mut made),
        };
        let next = match written {
            Some(len) => {
                self.counters.translated(label_set, is_second);
                Next::Reply(self.write_reply(key, question, Some(&made[..len]), out))
            }
            None if is_second => {
                let head = self.parked.head(key);
                out[..head.len()].copy_from_slice(head);
                Next::Own(head.len())
            }
            None => Next::Own(len),
        };
        self.rewriting.give_back(made);
        next
    }

    /// Writes the failure of a parked query whose first part of the reply has no room in the table.
    fn fail_for_room(&mut self, key: ParkedKey, out: &mut [u8]) -> Next {
        self.counters.stats.parked.too_large += 1;
        let Some(parked) = self.parked.get(key) else { return Next::Own(0) };
        let mut room = [0; NAME_LEN_MAX + 4];
        let question = parked.asking.write(&mut room);
        Next::Reply(self.write_reply(key, question, None, out))
    }

    /// Changes the target of the first alias in a parked query's `reply` that a rule of `rewrite`
    /// matches, and stores the reply up to it. Returns the question for the new target.
    fn turn_elsewhere(
        &mut self,
        key: ParkedKey,
        reply: &[u8],
    ) -> Result<Option<WireQuestion>, NoRoom> {
        let Some((place, target)) = self.new_alias(key, reply) else { return Ok(None) };
        let Some(parked) = self.parked.get(key) else { return Ok(None) };
        let WireQuestion { rtype, class, .. } = parked.asking;
        let mut room = [0; NAME_LEN_MAX + 4];
        let question = parked.asking.write(&mut room);
        let mut turned = self.rewriting.borrow_buffer();
        let len = join::retarget(reply, place, &target, question, &mut turned);
        let kept = len.map(|len| self.parked.keep_head(key, &turned[..len]));
        self.rewriting.give_back(turned);
        kept.transpose()?;
        Ok(len.map(|_| WireQuestion { name: target, rtype, class }))
    }

    /// Returns the place and the new target of the first alias in a parked query's `reply` that a
    /// rule of `rewrite` matches.
    fn new_alias(&mut self, key: ParkedKey, reply: &[u8]) -> Option<(usize, WireName)> {
        let response = Response::parse(reply)?;
        if response.flags & flags::TC != 0 {
            return None;
        }
        let aliases = join::aliases(reply, &response);
        let original = self.parked.get(key)?.original.as_ref()?;
        aliases.iter().find_map(|alias| {
            let target = self.rewriting.new_target(original, &alias.target)?;
            Some((alias.place, target))
        })
    }

    /// Joins the first part of a parked query's reply with the answer of `len` bytes in `out`, and
    /// writes the result into `out`.
    pub(super) fn write_joined(&mut self, key: ParkedKey, len: usize, out: &mut [u8]) -> usize {
        let Some(parked) = self.parked.get(key) else { return len };
        let mut room = [0; NAME_LEN_MAX + 4];
        let question = parked.asking.write(&mut room);
        let mut joined = self.rewriting.borrow_buffer();
        let written = join::join(self.parked.head(key), &out[..len], question, &mut joined);
        let len = self.write_reply(key, question, written.map(|len| &joined[..len]), out);
        self.rewriting.give_back(joined);
        len
    }

    /// Writes the message `joined` as the reply to a parked query into `out`; SERVFAIL if it is
    /// `None`.
    pub(super) fn write_reply(
        &self,
        key: ParkedKey,
        question: &[u8],
        joined: Option<&[u8]>,
        out: &mut [u8],
    ) -> usize {
        let Some(parked) = self.parked.get(key) else { return 0 };
        let finish = self.finish_own(parked.zone_match.block());
        let (asked, limit) = (&parked.asked, limit(&parked.client, &parked.asked));
        match joined.and_then(|joined| Some((joined, Response::parse(joined)?))) {
            Some((joined, response)) => {
                write_answer(out, joined, &response, &ReplyTo { asked, question, limit, finish })
            }
            None => write_error(out, asked, question, Rcode::ServFail, None, finish),
        }
    }
}
