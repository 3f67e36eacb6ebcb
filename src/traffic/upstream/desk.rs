//! Decisions on queries, by the script of their endpoint.
//!
//! A script without randomness costs no more than the answer. Nothing is allocated per query.

use super::Counts;
use super::forge;
use super::script::{Act, Script};
use crate::moment::Moment;
use crate::traffic::answer::{Behaviour, respond};
use crate::traffic::wire::Question;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::sync::Arc;

/// Size of the response buffer.
pub(super) const RESPONSE_ROOM: usize = 4096;

/// Outcome of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// No response.
    Nothing,
    /// No response, because the message cannot be answered.
    Unanswerable,
    /// A response of this length in the buffer, now.
    Send(usize),
    /// A response at this time.
    Later(usize, Moment),
}

/// Decides on the responses to queries.
pub(super) struct Desk {
    /// The script of each endpoint, and whether it is plain.
    scripts: Vec<(Arc<Script>, bool)>,
    random: ChaCha8Rng,
    /// Time of the first query.
    first: Option<Moment>,
}

impl Desk {
    pub(super) fn new(scripts: &[Arc<Script>], seed: u64) -> Self {
        let scripts = scripts.iter().map(|script| (Arc::clone(script), script.is_plain()));
        let random = ChaCha8Rng::seed_from_u64(seed);
        Self { scripts: scripts.collect(), random, first: None }
    }

    /// Writes the response of endpoint number `endpoint` to `query` into `response`.
    pub(super) fn answer(
        &mut self,
        endpoint: usize,
        query: &[u8],
        response: &mut [u8],
        now: Moment,
        counts: &mut Counts,
    ) -> Fate {
        let (script, is_plain) = &self.scripts[endpoint];
        if *is_plain {
            let length = respond(query, Behaviour::Answer, response);
            counts.unanswerable += u64::from(length.is_none());
            return length.map_or(Fate::Unanswerable, Fate::Send);
        }
        let first = *self.first.get_or_insert(now);
        let Some(question) = Question::parse(query) else {
            counts.unanswerable += 1;
            return Fate::Unanswerable;
        };
        let conduct = script.conduct(question.name());
        let act = conduct.decide(&mut self.random);
        let behaviour = match act {
            Act::Silence => {
                counts.silenced += 1;
                return Fate::Nothing;
            }
            Act::Refuse(rcode) => Behaviour::Refuse(rcode),
            Act::Lie => Behaviour::Lie,
            _ => Behaviour::Answer,
        };
        let zones = script.zones.as_ref().filter(|_| behaviour == Behaviour::Answer);
        let told = zones.and_then(|zones| zones.respond(query, response));
        let Some(mut length) = told.or_else(|| respond(query, behaviour, response)) else {
            counts.unanswerable += 1;
            return Fate::Unanswerable;
        };
        counts.spoiled += u64::from(act != Act::Answer);
        match act {
            Act::Truncate => length = forge::truncate(&mut response[..length]),
            Act::WrongId => forge::change_id(response, &mut self.random),
            Act::WrongQuestion => forge::change_question(response),
            Act::Garbage => length = forge::garble(response, &mut self.random),
            _ => {}
        }
        let ready = now.plus(conduct.delay.draw(&mut self.random));
        let due = script.release(ready, first);
        if due > now { Fate::Later(length, due) } else { Fate::Send(length) }
    }

    /// Returns the number of forged responses sent ahead of the answer to `query`.
    pub(super) fn spoofs(&self, endpoint: usize, query: &[u8]) -> u16 {
        let (script, is_plain) = &self.scripts[endpoint];
        if *is_plain {
            return 0;
        }
        Question::parse(query).map_or(0, |question| script.conduct(question.name()).spoofs)
    }

    /// Writes the response of an attacker who guesses the ID of `query`.
    pub(super) fn spoof(&mut self, query: &[u8], response: &mut [u8]) -> Option<usize> {
        let length = respond(query, Behaviour::Lie, response)?;
        response[..2].copy_from_slice(&(self.random.next_u32() as u16).to_be_bytes());
        Some(length)
    }
}
