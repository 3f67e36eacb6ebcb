//! Whether an answer section answers: its aliases lead from the name that was asked for to a
//! record of the type that was asked for.
//!
//! Servers write a chain in its order, so one pass decides nearly always. Only where a name has
//! come up out of turn are the records looked at in any order; then two aliases of one name, a
//! loop, or a longer chain than anybody follows mean that the answer answers nothing. A DNAME
//! needs no thought: the alias that follows from it stands beside it (RFC 6672 §3.1).

use crate::engine::message::response::Response;
use crate::engine::message::{NAME_LEN_MAX, Question, Record, expand_name, kind};

/// Aliases of one answer at most.
const ALIASES_MAX: usize = 16;
/// What the owner of nearly every first record is: a pointer to the question's name.
const POINTER_TO_QUESTION: [u8; 2] = [0xc0, 12];

/// Whether the answer section of `response`, found in `packet`, reaches the type of `question`.
pub(super) fn reach(packet: &[u8], response: &Response, question: &Question) -> bool {
    let mut name = Name::of_question(packet, question);
    match in_order(packet, response, question, &mut name) {
        Some(reached) => reached,
        None => in_any_order(packet, response, question),
    }
}

/// One pass. `None`: there is an alias out of turn, so the order means nothing.
fn in_order(
    packet: &[u8],
    response: &Response,
    question: &Question,
    name: &mut Name,
) -> Option<bool> {
    let mut reached = false;
    for record in answers(packet, response).filter(|record| record.class == question.class) {
        let wanted = [record.kind, kind::ANY].contains(&question.kind);
        if wanted && !reached {
            reached = name.owns(packet, &record);
        }
        if record.kind == kind::CNAME && question.kind != kind::CNAME && !wanted {
            if reached || !name.owns(packet, &record) {
                return None;
            }
            *name = Name::at(packet, record.data)?;
        }
    }
    Some(reached)
}

/// Alias by alias from the question's name.
fn in_any_order(packet: &[u8], response: &Response, question: &Question) -> bool {
    let mut name = Name::of_question(packet, question);
    for _ in 0..=ALIASES_MAX {
        let (mut aliases, mut target) = (0, 0);
        for record in answers(packet, response).filter(|record| record.class == question.class) {
            if record.kind == question.kind && name.owns(packet, &record) {
                return true;
            }
            if record.kind == kind::CNAME && name.owns(packet, &record) {
                (aliases, target) = (aliases + 1, record.data);
            }
        }
        match (aliases, Name::at(packet, target)) {
            (1, Some(next)) => name = next,
            _ => return false,
        }
    }
    false
}

/// The records of the answer section.
fn answers(packet: &[u8], response: &Response) -> impl Iterator<Item = Record> {
    let mut place = response.start;
    (0..response.counts[0]).map_while(move |_| {
        let record = Record::parse(packet, place)?;
        place = record.end;
        Some(record)
    })
}

/// A name, whole and in lower case.
struct Name {
    bytes: [u8; NAME_LEN_MAX],
    len: usize,
    is_question: bool,
}

impl Name {
    fn of_question(packet: &[u8], question: &Question) -> Self {
        let mut bytes = [0; NAME_LEN_MAX];
        let name = question.name(packet);
        bytes[..name.len()].copy_from_slice(name);
        bytes.make_ascii_lowercase();
        Self { bytes, len: name.len(), is_question: true }
    }

    fn at(packet: &[u8], place: usize) -> Option<Self> {
        let mut bytes = [0; NAME_LEN_MAX];
        let len = expand_name(packet, place, &mut bytes)?;
        Some(Self { bytes, len, is_question: false })
    }

    /// Whether it is the owner's.
    fn owns(&self, packet: &[u8], record: &Record) -> bool {
        if self.is_question && packet[record.start..].starts_with(&POINTER_TO_QUESTION) {
            return true;
        }
        let owner = Self::at(packet, record.start);
        owner.is_some_and(|owner| owner.bytes[..owner.len] == self.bytes[..self.len])
    }
}
