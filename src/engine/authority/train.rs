//! A zone as the train of messages of a transfer (RFC 5936).
//!
//! The SOA, all other records in canonical order of their names, the SOA again; names are
//! compressed within each message, which has [`MESSAGE_LEN`] bytes at most unless one record is
//! longer. Each message has the question, the first an OPT if the client sent one. A thread beside
//! the workers draws one message after the other, so that a zone of any size takes a buffer.

use super::{Node, Set, Zone};
use crate::engine::message::compose::{Composer, NewSet, Section};
use crate::engine::message::query::Asked;
use crate::engine::message::reply::Finish;
use crate::engine::message::{NAME_LEN_MAX, Rcode, class, flags, rtype};
use std::sync::Arc;

/// Bytes of a message at most, if its records allow it.
pub const MESSAGE_LEN: usize = 16_384;
/// Bytes of the longest message, which one record can take.
const MESSAGE_LEN_MAX: usize = u16::MAX as usize;

/// Records of a zone that are still to be sent.
pub struct Train {
    zone: Arc<Zone>,
    asked: Asked,
    question: Box<[u8]>,
    next: Next,
    records: u64,
}

/// The record that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The first SOA.
    Start,
    /// A record of the node at this place: the number of its RRset and of its data.
    At { place: usize, set: usize, data: usize },
    /// The last SOA.
    End,
    /// None.
    Done,
    /// None: the next one fits nowhere.
    Failed,
}

impl Train {
    /// All records of `zone`, for a client that asked `question`.
    pub fn new(zone: Arc<Zone>, asked: Asked, question: &[u8]) -> Self {
        Self { zone, asked, question: question.into(), next: Next::Start, records: 0 }
    }

    /// Returns true if the last message was drawn.
    pub fn is_done(&self) -> bool {
        self.next == Next::Done
    }

    /// Records in the messages that were drawn.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Writes the next message into `out`, which holds the longest one and leaves `spare` bytes of
    /// it free; returns its length. `None`: there is no further one.
    pub fn next(&mut self, out: &mut [u8], spare: usize) -> Option<usize> {
        if matches!(self.next, Next::Done | Next::Failed) {
            return None;
        }
        let limit = MESSAGE_LEN - spare;
        self.write(out, limit).or_else(|| self.write(out, MESSAGE_LEN_MAX - spare)).or_else(|| {
            // A record that fits nowhere, because of the signature beside it.
            self.next = Next::Failed;
            None
        })
    }

    /// Writes as many records as `limit` bytes hold; `None` if that is none.
    fn write(&mut self, out: &mut [u8], limit: usize) -> Option<usize> {
        let zone = Arc::clone(&self.zone);
        let is_first = self.next == Next::Start;
        let asked = Asked { edns: self.asked.edns.filter(|_| is_first), ..self.asked };
        let asked = asked.in_a_datagram().in_the_clear();
        let question = self.question.clone();
        let mut composer = Composer::new(out, limit, &asked, &question, Finish::PLAIN, None);
        let mut names = composer.names();
        let mut count = 0;
        while let Some((node, set, data, behind)) = step(&zone, self.next) {
            let mut room = [0; NAME_LEN_MAX];
            let owner = super::walk::full_name(&zone, &node, &mut room);
            let (rtype, ttl, class) = (set.rtype, set.ttl, class::IN);
            let new = NewSet { owner, rtype, class, ttl };
            if !composer.set(Section::Answer, &new, std::iter::once(data), &mut names) {
                break;
            }
            self.next = behind;
            count += 1;
        }
        if count == 0 && self.next != Next::Done {
            return None;
        }
        self.records += count;
        Some(composer.end(flags::AA, Rcode::NoError))
    }
}

/// The record that `next` says, and what is behind it. `None` at the end.
fn step(zone: &Zone, next: Next) -> Option<(Node<'_>, Set<'_>, &[u8], Next)> {
    let (mut place, mut set, mut data) = match next {
        Next::Start | Next::End => {
            let top = zone.top();
            let soa = top.set(rtype::SOA)?;
            let behind = match next {
                Next::Start => Next::At { place: 0, set: 0, data: 0 },
                _ => Next::Done,
            };
            return Some((top, soa, soa.data().next()?, behind));
        }
        Next::At { place, set, data } => (place, set, data),
        Next::Done | Next::Failed => return None,
    };
    while place < zone.arena.len() {
        let node = zone.node_at(place);
        if let Some(found) = node.sets().nth(set) {
            let is_soa = place == 0 && found.rtype == rtype::SOA;
            match found.data().nth(data).filter(|_| !is_soa) {
                Some(bytes) => {
                    let behind = Next::At { place, set, data: data + 1 };
                    return Some((node, found, bytes, behind));
                }
                None => (set, data) = (set + 1, 0),
            }
        } else {
            (place, set, data) = (place + node.len(), 0, 0);
        }
    }
    step(zone, Next::End)
}
