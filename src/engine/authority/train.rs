//! A zone, or its last differences, as the train of messages of a transfer (RFC 5936, RFC 1995).
//!
//! The SOA, all other records in canonical order of their names, the SOA again; or between the two
//! the differences, each with the removed records before the added ones. Names are compressed
//! within each message, which has [`MESSAGE_LEN`] bytes at most unless one record is longer. Each
//! message has the question, the first an OPT if the client sent one. A thread beside the workers
//! draws one message after the other, so that a zone of any size takes a buffer.

use super::Zone;
use super::difference::{Chain, Packed};
use crate::engine::message::compose::{Composer, NewSet, Section};
use crate::engine::message::query::Asked;
use crate::engine::message::reply::Finish;
use crate::engine::message::{NAME_LEN_MAX, Rcode, class, flags, rtype, u32_at};
use std::sync::Arc;

/// Bytes of a message at most, if its records allow it.
pub(crate) const MESSAGE_LEN: usize = 16_384;
/// Bytes of the longest message, which one record can take.
const MESSAGE_LEN_MAX: usize = u16::MAX as usize;

/// Records of a zone that are still to be sent.
pub struct Train {
    zone: Arc<Zone>,
    /// Differences that are sent instead of the zone.
    chain: Option<Chain>,
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
    /// A record of the difference with this number, at a place among the removed or added ones.
    Changed { number: usize, is_added: bool, place: usize },
    /// None.
    Done,
    /// None: the next one fits nowhere.
    Failed,
}

impl Train {
    /// All records of `zone`, or of the `chain` of its differences, for a client that asked
    /// `question`.
    pub(crate) fn new(
        zone: Arc<Zone>,
        chain: Option<Chain>,
        asked: Asked,
        question: &[u8],
    ) -> Self {
        Self { zone, chain, asked, question: question.into(), next: Next::Start, records: 0 }
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
        let asked = asked.without_keepalive().in_the_clear();
        let question = self.question.clone();
        let mut composer = Composer::new(out, limit, &asked, &question, Finish::PLAIN, None);
        let mut names = composer.names();
        let mut count = 0;
        while let Some((record, behind)) = step(&zone, self.chain.as_ref(), self.next) {
            let Packed { name, rtype, ttl, data } = record;
            let mut room = [0; NAME_LEN_MAX];
            let owner = super::walk::full_name(&zone, name, &mut room);
            let new = NewSet { owner, rtype, class: class::IN, ttl };
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

/// Returns the record that `next` says, and what is behind it. `None` at the end.
fn step<'z>(zone: &'z Zone, chain: Option<&'z Chain>, next: Next) -> Option<(Packed<'z>, Next)> {
    let (record, behind) = match next {
        Next::Start => {
            let behind = match chain {
                None => Next::At { place: 0, set: 0, data: 0 },
                Some(_) => Next::Changed { number: 0, is_added: false, place: 0 },
            };
            Some((soa(zone)?, behind))
        }
        Next::At { place, set, data } => of_zone(zone, (place, set, data)),
        Next::Changed { number, is_added, place } => of_chain(chain?, number, is_added, place),
        Next::Done | Next::Failed => return None,
    }
    .or_else(|| Some((soa(zone)?, Next::Done)))?;
    // Signatures have the TTLs of their RRsets (RFC 4034 §3); all those of a name are kept with the
    // lowest of them.
    let own = u32_at(record.data, 4).filter(|_| record.rtype == rtype::RRSIG);
    Some((Packed { ttl: own.unwrap_or(record.ttl), ..record }, behind))
}

fn soa(zone: &Zone) -> Option<Packed<'_>> {
    let (ttl, data) = zone.soa()?;
    Some(Packed { name: b"", rtype: rtype::SOA, ttl, data })
}

/// Returns the next record of the zone, except its SOA. `None`: there is none.
fn of_zone(
    zone: &Zone,
    (mut place, mut set, mut data): (usize, usize, usize),
) -> Option<(Packed<'_>, Next)> {
    while place < zone.arena.len() {
        let node = zone.node_at(place);
        if let Some(found) = node.sets().nth(set) {
            let is_soa = place == 0 && found.rtype == rtype::SOA;
            match found.data().nth(data).filter(|_| !is_soa) {
                Some(bytes) => {
                    let behind = Next::At { place, set, data: data + 1 };
                    let (name, rtype, ttl) = (node.name(), found.rtype, found.ttl);
                    return Some((Packed { name, rtype, ttl, data: bytes }, behind));
                }
                None => (set, data) = (set + 1, 0),
            }
        } else {
            (place, set, data) = (place + node.len(), 0, 0);
        }
    }
    None
}

/// Returns the next record of the differences. `None`: there is none.
fn of_chain(
    chain: &Chain,
    mut number: usize,
    mut is_added: bool,
    mut place: usize,
) -> Option<(Packed<'_>, Next)> {
    loop {
        if let Some((record, place)) = chain.difference(number)?.record(is_added, place) {
            return Some((record, Next::Changed { number, is_added, place }));
        }
        (number, is_added, place) = (number + usize::from(is_added), !is_added, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Chain, Next, step};
    use crate::engine::authority::difference::Difference;
    use crate::engine::authority::{Builder, Zone};
    use crate::engine::message::rtype;
    use ahash::RandomState;
    use std::sync::Arc;

    /// A zone with an address of this TTL, a text, and their signatures.
    fn zone(serial: u32, ttl: u32) -> Zone {
        let apex = b"\x01z\0";
        let mut builder = Builder::new(apex, 0, RandomState::with_seeds(1, 2, 3, 4));
        let soa = [&[0, 0][..], &serial.to_be_bytes(), &[0; 16]].concat();
        let signature = |covered: u8, ttl: u32| {
            [&[0, covered, 13, 1][..], &ttl.to_be_bytes(), &[0; 10], apex, &[7; 64]].concat()
        };
        for (rtype, ttl, data) in [
            (rtype::SOA, 900, soa),
            (rtype::A, ttl, vec![192, 0, 2, 1]),
            (rtype::RRSIG, ttl, signature(1, ttl)),
            (16, 600, vec![1, b'x']),
            (rtype::RRSIG, 600, signature(16, 600)),
            // A zone that is larger than the difference.
            (99, 600, vec![0; 900]),
        ] {
            builder.add(apex, rtype, ttl, &data, (0, 0)).unwrap();
        }
        builder.finish().unwrap_or_else(|refused| panic!("{}", refused.what)).zone
    }

    /// Type covered and TTL of the signatures of a transfer, and the number of all its records.
    fn signatures(zone: &Zone, chain: Option<&Chain>) -> (Vec<(u8, u32)>, usize) {
        let (mut all, mut count, mut next) = (Vec::new(), 0, Next::Start);
        while let Some((record, behind)) = step(zone, chain, next) {
            if record.rtype == rtype::RRSIG {
                all.push((record.data[1], record.ttl));
            }
            (count, next) = (count + 1, behind);
        }
        (all, count)
    }

    #[test]
    fn signatures_are_sent_with_the_ttl_of_their_rrset() {
        let (old, new) = (zone(1, 60), zone(2, 30));
        assert_eq!(signatures(&old, None), (vec![(1, 60), (16, 600)], 7));
        let difference = Difference::between(&old, &new, usize::MAX).unwrap();
        let all = [Arc::new(difference)].into();
        let chain = Chain::from(&all, 1, &new).unwrap();
        // The SOA records, the two addresses with their signatures; the text and its one stay.
        assert_eq!(signatures(&new, Some(&chain)), (vec![(1, 60), (1, 30)], 8));
    }
}
