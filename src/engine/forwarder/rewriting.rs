//! Queries that rules of `rewrite` change, and their replies.
//!
//! The rules of a server block change a client's question into another one, which is looked up in
//! the cache and forwarded. The reply is written twice: first as the reply to the forwarded
//! question, into a separate buffer, then with the client's names, TTLs and response code restored.
//! So the cache and coalesced clients share one upstream answer, regardless of the names that they
//! asked for. The question and rules of a waiting client are stored here; rules that a reload has
//! replaced live until the last such client has its reply.

use super::Forwarder;
use super::course::{Asker, Course, Original, Scope};
use super::recipient::{TCP_MESSAGE_MAX, limit};
use crate::engine::errors::Reason;
use crate::engine::exchange::{AskedKey, Client, Dismissed, Shown, WAITERS_MAX, Waiter};
use crate::engine::message::compose::write_error;
use crate::engine::message::join::spell;
use crate::engine::message::name::{WireName, WireQuestion};
use crate::engine::message::query::Query;
use crate::engine::message::rename::{self, Renaming};
use crate::engine::message::reply::{Finish, ReplyTo, rcode_for, write_answer};
use crate::engine::message::response::Response;
use crate::engine::message::{HEADER_LEN, NAME_LEN_MAX, Question, Rcode, flags, put_u16, u16_at};
use crate::engine::rewrite::{Invalid, Matcher, Options, Rules, Sender, Texts, Way};
use crate::engine::zones::LowercaseName;
use crate::moment::Moment;
use std::sync::Arc;

/// Questions of waiting clients, and buffers for rewriting.
#[derive(Default)]
pub(super) struct Rewriting {
    /// Waiting clients whose queries were rewritten; at most [`WAITERS_MAX`].
    waiting: Vec<Option<Original>>,
    free: Vec<u32>,
    way: Way,
    /// Another, for targets of aliases.
    spare: Way,
    texts: Texts,
    /// Buffers for replies before their names are restored, and for replies that are assembled.
    /// Allocated on demand; as many as are in use at a time, which is a few.
    buffers: Vec<Box<[u8]>>,
}

impl Rewriting {
    /// Returns the bytes that are reserved.
    pub(super) fn reserved(&self) -> usize {
        self.waiting.capacity() * size_of::<Option<Original>>()
            + self.free.capacity() * size_of::<u32>()
            + self.way.reserved()
            + self.spare.reserved()
            + self.texts.reserved()
            + self.buffers.iter().map(|buffer| buffer.len()).sum::<usize>()
    }

    /// Swaps the search buffers with `new`, so that another thread frees those of removed patterns.
    /// Buffers for a pattern are created at its first search.
    pub(super) fn reload(&mut self, new: &mut [Matcher; 3]) {
        let own = [self.way.matcher(), self.spare.matcher(), self.texts.matcher()];
        own.into_iter().zip(new).for_each(|(own, new)| std::mem::swap(own, new));
    }

    /// Stores the question of a client that waits.
    pub(super) fn keep(&mut self, original: &Original) -> AskedKey {
        let original = Some(original.clone());
        match self.free.pop() {
            Some(place) => {
                self.waiting[place as usize] = original;
                AskedKey(place)
            }
            None => {
                debug_assert!(self.waiting.len() < WAITERS_MAX, "each belongs to a waiter");
                self.waiting.push(original);
                AskedKey(self.waiting.len() as u32 - 1)
            }
        }
    }

    /// Returns true if the question of a client, or of a parked query, is stored.
    #[inline]
    pub(super) fn has_waiting(&self) -> bool {
        self.waiting.len() != self.free.len()
    }

    /// Removes the question of a client that no longer waits.
    pub(super) fn forget(&mut self, shown: Shown) {
        if let Shown::Other(AskedKey(place)) = shown
            && self.waiting[place as usize].take().is_some()
        {
            self.free.push(place);
        }
    }

    /// Returns the question and rules of a client whose query was rewritten.
    fn original(&self, shown: Shown) -> Option<&Original> {
        match shown {
            Shown::Other(AskedKey(place)) => self.waiting[place as usize].as_ref(),
            Shown::Same | Shown::Case(_) => None,
        }
    }

    /// Returns the question of a client whose query was rewritten.
    pub(super) fn asking(&self, shown: Shown) -> Option<&WireQuestion> {
        self.original(shown).map(|original| &original.asking)
    }

    /// Returns the parked query that gets the reply in place of a client.
    pub(super) fn asker(&self, shown: Shown) -> Option<Asker> {
        self.original(shown)?.asker
    }

    /// Returns true if the reply to a client is signed.
    pub(super) fn is_signed(&self, shown: Shown) -> bool {
        self.original(shown).is_some_and(|original| original.signer.is_some())
    }

    /// Returns the target that rules give an alias in the reply to `original`; `None`: no change.
    pub(super) fn new_target(
        &mut self,
        original: &Original,
        target: &WireName,
    ) -> Option<WireName> {
        let rules = original.rules.as_ref()?;
        rules.retrace(original.asking, &mut self.way, original.met).ok()?;
        rules.new_target(&self.way, target, &mut self.spare)
    }

    /// Returns a buffer for the longest message; [`Self::give_back`] takes it back.
    pub(super) fn borrow_buffer(&mut self) -> Box<[u8]> {
        self.buffers.pop().unwrap_or_else(|| vec![0; TCP_MESSAGE_MAX].into())
    }

    /// Takes a buffer back.
    pub(super) fn give_back(&mut self, buffer: Box<[u8]>) {
        self.buffers.push(buffer);
    }
}

impl Forwarder {
    /// Answers or forwards a query of a server block with rules.
    pub(super) fn serve_rewritten(
        &mut self,
        now: Moment,
        query: &mut Query<'_>,
        name: &LowercaseName,
        (scope, rules): (Scope<'_>, &Arc<Rules>),
        out: &mut [u8],
    ) -> Course {
        if !rules.edit_options() {
            return self.serve_renamed(now, query, name, (scope, rules), None, out);
        }
        let Client { listener, peer, local, .. } = *scope.client;
        let mut server = self.routes.local(listener);
        if let Some((asked, _)) = local {
            server.set_ip(asked);
        }
        let transport = scope.client.transport();
        let sender = Sender { peer, server, transport };
        let mut options = rules.options_of(query);
        let edited = Some((&sender, &mut options));
        self.serve_renamed(now, query, name, (scope, rules), edited, out)
    }

    /// Answers or forwards a rewritten query. `options`: its EDNS options, if rules change them.
    fn serve_renamed(
        &mut self,
        now: Moment,
        query: &mut Query<'_>,
        name: &LowercaseName,
        (scope, rules): (Scope<'_>, &Arc<Rules>),
        options: Option<(&Sender, &mut Options)>,
        out: &mut [u8],
    ) -> Course {
        let Question { rtype, class, .. } = query.question;
        let asking = WireQuestion { name: WireName::new(query.name()), rtype, class };
        let way = &mut self.rewriting.way;
        let (applied, options) = match options {
            None => (rules.apply(asking, way, None), None),
            Some((sender, options)) => {
                let applied = rules.apply(asking, way, Some((sender, &mut *options)));
                (applied, Some(&*options))
            }
        };
        let mut edited;
        match (applied, options) {
            (Ok(false), None) => return self.serve_on(now, query, name, scope, out),
            (Ok(false), Some(options)) => {
                edited = query.with_options(options.as_bytes(), options.is_keyed());
                let course = self.serve_on(now, &mut edited, name, scope, out);
                query.asked = edited.asked;
                return course;
            }
            (Ok(true), None) => edited = *query,
            (Ok(true), Some(options)) => {
                edited = query.with_options(options.as_bytes(), options.is_keyed());
            }
            (Err(invalid), _) => {
                let reason = match invalid {
                    Invalid::Name => Reason::NotRewritten,
                    Invalid::Options => Reason::OptionsTooLong,
                };
                return Course::Failed(Rcode::ServFail, reason, scope.block);
            }
        }
        let mut head = [0; HEADER_LEN + NAME_LEN_MAX + 4];
        let mut rewritten = edited.with_question(&self.rewriting.way.now, &mut head);
        let renamed = LowercaseName::new(rewritten.name());
        let changes_targets = rules.change_targets(&self.rewriting.way);
        let (block, rules) = (scope.block, Some(rules.clone()));
        let asker = scope.original.and_then(|original| original.asker);
        let met = self.rewriting.way.met;
        let signer = scope.original.and_then(|original| original.signer.clone());
        let original = Original { block, asking, rules, met, asker, signer };
        let mut written = self.rewriting.borrow_buffer();
        let scope = Scope { original: Some(&original), is_inside: false, ..scope };
        let course = if changes_targets {
            self.serve_retargeted(now, &mut rewritten, &renamed, scope, &mut written)
        } else {
            self.serve_on(now, &mut rewritten, &renamed, scope, &mut written)
        };
        let course = self.course_as_asked(query, scope.client, &original, course, &written, out);
        self.rewriting.give_back(written);
        course
    }

    /// Restores the client's question `query` in the outcome of a rewritten query.
    fn course_as_asked(
        &mut self,
        query: &Query<'_>,
        client: &Client,
        original: &Original,
        course: Course,
        written: &[u8],
        out: &mut [u8],
    ) -> Course {
        let (asked, question) = (&query.asked, query.question_bytes());
        let (rcode, why, block) = match course {
            Course::Replied(len) | Course::Later(len, _) => {
                let limit = limit(client, asked);
                let finish = self.chains[original.block].finish_own();
                let to = ReplyTo { asked, question, limit, finish };
                let written = &written[..len];
                let (len, _) = put_back(&mut self.rewriting, original, written, &to, out);
                return match course {
                    Course::Later(_, after) => Course::Later(len, after),
                    _ => Course::Replied(len),
                };
            }
            Course::Refused(rcode, why, block) => (rcode, why, block),
            Course::Failed(rcode, reason, block) => (rcode, reason.extended(), Some(block)),
            Course::Waits | Course::Transfer | Course::Dropped => return course,
        };
        let Rewriting { way, texts, .. } = &mut self.rewriting;
        let code = rcode as u16;
        let changed = original.reversal(way, texts, code).map_or(code, |back| back.rcode(code));
        if changed == code {
            return course;
        }
        if let (Course::Failed(_, reason, _), Some(block)) = (course, block) {
            self.log_query(query, block, rcode, reason);
        }
        let finish = self.chains[original.block].finish_own();
        let len = write_error(out, asked, question, rcode, why, finish);
        let word = u16_at(out, 2).unwrap_or(0) & !flags::RCODE | changed & flags::RCODE;
        put_u16(out, 2, word);
        Course::Replied(len)
    }

    /// Calls `write` to write a waiter's reply, and restores the waiter's question in it. Returns
    /// the length and the response code, of 12 bits.
    #[inline(always)]
    pub(super) fn write_as_asked(
        &mut self,
        slot: u32,
        waiter: Dismissed,
        out: &mut [u8],
        write: impl FnOnce(&mut Self, &mut [u8]) -> (usize, u16),
    ) -> (usize, u16) {
        match self.exchanges.dismissed(waiter).shown {
            Shown::Other(_) => self.write_put_back(slot, waiter, out, write),
            Shown::Same | Shown::Case(_) => write(self, out),
        }
    }

    /// Writes the reply to a waiter whose query was rewritten.
    #[cold]
    fn write_put_back(
        &mut self,
        slot: u32,
        waiter: Dismissed,
        out: &mut [u8],
        write: impl FnOnce(&mut Self, &mut [u8]) -> (usize, u16),
    ) -> (usize, u16) {
        let &Waiter { client, asked, shown, .. } = self.exchanges.dismissed(waiter);
        let Some(original) = self.rewriting.original(shown).cloned() else {
            return write(self, out);
        };
        if original.rules.is_none() {
            let (len, rcode) = write(self, out);
            spell(out, &original.asking.name);
            return (self.sign(original.signer.as_deref(), &client, &asked, out, len), rcode);
        }
        let mut written = self.rewriting.borrow_buffer();
        let (len, _) = write(self, &mut written);
        let mut room = [0; NAME_LEN_MAX + 4];
        let question = original.asking.write(&mut room);
        let finish = match self.routes.block_of(self.exchanges.first_stanza(slot)) {
            Some(block) => self.chains[block].finish_own(),
            None => Finish::PLAIN,
        };
        let to = ReplyTo { asked: &asked, question, limit: limit(&client, &asked), finish };
        let put = put_back(&mut self.rewriting, &original, &written[..len], &to, out);
        self.rewriting.give_back(written);
        let (len, rcode) = put;
        (self.sign(original.signer.as_deref(), &client, &asked, out, len), rcode)
    }
}

/// Converts `written`, the reply to the forwarded question, to a reply to the client's question.
/// Returns its length and its response code, of 12 bits.
pub(super) fn put_back(
    rewriting: &mut Rewriting,
    original: &Original,
    written: &[u8],
    to: &ReplyTo<'_>,
    out: &mut [u8],
) -> (usize, u16) {
    let mut renamed = rewriting.borrow_buffer();
    let Rewriting { way, texts, .. } = rewriting;
    let put = Response::parse(written).and_then(|response| {
        let mut reversal = original.reversal(way, texts, response.rcode())?;
        let len = rename::rewrite(written, &response, to.question, &mut reversal, &mut renamed)?;
        let response = Response::parse(&renamed[..len])?;
        let rcode = rcode_for(&response, to.asked);
        Some((write_answer(out, &renamed[..len], &response, to), rcode))
    });
    rewriting.give_back(renamed);
    // Reached only if a name in RDATA is malformed.
    put.unwrap_or_else(|| {
        let rcode = Rcode::ServFail;
        (write_error(out, to.asked, to.question, rcode, None, to.finish), rcode as u16)
    })
}
