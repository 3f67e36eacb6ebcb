//! Replies that are held back until they are due.
//!
//! A stage can delay its reply ([`Step::Later`](super::super::stages::Step)). The reply is copied
//! here and sent with the replies to failed queries once it is due; the worker's next deadline
//! includes it. At most [`DELAYED_MAX`] replies are held back; more are dropped and counted.

use super::Forwarder;
use super::Reply;
use crate::engine::exchange::Client;
use crate::engine::heap::{Aging, Heap};
use crate::engine::journal::LoggedQuery;
use crate::engine::memory::reserved;
use crate::engine::message::query::Asked;
use crate::engine::message::{Question, reply};
use crate::engine::routes::ZoneMatch;
use crate::engine::stats::DropReason;
use crate::engine::tally::CountedReply;
use crate::engine::tsig::Signer;
use crate::engine::views::Facts;
use crate::engine::zones::LowercaseName;
use crate::moment::Moment;

/// Maximum number of replies that a worker holds back; delays are for tests with few clients.
pub(super) const DELAYED_MAX: usize = 1_024;

/// Query whose reply is held back.
#[derive(Clone, Copy)]
pub(super) struct Held {
    pub(super) client: Client,
    pub(super) block: Option<usize>,
    pub(super) label_set: u32,
    pub(super) asking: LoggedQuery,
}

/// One reply that is held back, or a place for one.
struct Delayed<H> {
    due: Moment,
    place: Option<u32>,
    held: H,
    bytes: Box<[u8]>,
}

impl<H> Aging for Delayed<H> {
    fn due(&self) -> Moment {
        self.due
    }

    fn place(&mut self) -> &mut Option<u32> {
        &mut self.place
    }
}

/// Replies that are held back, each with the query or client that it is for.
pub(super) struct Delays<H> {
    slab: Vec<Delayed<H>>,
    free: Vec<u32>,
    heap: Heap,
    /// Replies up to here are due.
    until: Moment,
    most: usize,
}

impl<H: Copy> Delays<H> {
    /// Holds back at most `most` replies.
    pub(super) fn new(most: usize) -> Self {
        let (slab, free) = (Vec::new(), Vec::new());
        Self { slab, free, heap: Heap::default(), until: Moment::ZERO, most }
    }

    /// Holds back a reply until `due`; returns false if there is no room.
    pub(super) fn hold(&mut self, due: Moment, held: H, reply: &[u8]) -> bool {
        let delayed = Delayed { due, place: None, held, bytes: reply.into() };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slab[slot as usize] = delayed;
                slot
            }
            None if self.slab.len() == self.most => return false,
            None => {
                self.slab.push(delayed);
                self.slab.len() as u32 - 1
            }
        };
        self.heap.push(&mut self.slab, slot);
        true
    }

    /// Returns the time at which the next reply is due, unless it is due already: then it is sent
    /// at the end of the turn.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.next_due().filter(|due| *due > self.until)
    }

    fn next_due(&self) -> Option<Moment> {
        self.heap.first().map(|slot| self.slab[slot as usize].due)
    }

    /// Marks replies up to `now` as due.
    pub(super) fn on_time(&mut self, now: Moment) {
        self.until = now;
    }

    /// Returns true if a reply is due.
    pub(super) fn has_due(&self) -> bool {
        self.next_due().is_some_and(|due| due <= self.until)
    }

    /// Returns what each of these replies is for.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut H> {
        self.slab.iter_mut().map(|delayed| &mut delayed.held)
    }

    /// Returns the number of replies that are held back.
    pub(super) fn len(&self) -> usize {
        self.slab.len() - self.free.len()
    }

    /// Returns the bytes that are reserved.
    pub(super) fn reserved(&self) -> usize {
        let bytes: usize = self.slab.iter().map(|delayed| delayed.bytes.len()).sum();
        reserved(&self.slab) + reserved(&self.free) + self.heap.reserved() + bytes
    }

    /// Removes the next reply that is due and copies it into `out`; returns what it is for, its
    /// length and the time.
    pub(super) fn next(&mut self, out: &mut [u8]) -> Option<(H, usize, Moment)> {
        let slot = self.heap.first().filter(|_| self.has_due())?;
        self.heap.remove(&mut self.slab, slot);
        self.free.push(slot);
        let Delayed { held, bytes, .. } = &mut self.slab[slot as usize];
        let bytes = std::mem::take(bytes);
        out[..bytes.len()].copy_from_slice(&bytes);
        Some((*held, bytes.len(), self.until))
    }
}

impl Forwarder {
    /// Limits and signs the reply of `len` bytes in `out`, and holds it back until it is due.
    #[cold]
    pub(super) fn reply_later(
        &mut self,
        now: Moment,
        (client, packet, what): (&Client, &[u8], (&Asked, &Question)),
        (zone_match, signer, due): (ZoneMatch, Option<&Signer>, Moment),
        out: &mut [u8],
        mut len: usize,
    ) {
        let (block, label_set) = (zone_match.block(), zone_match.label_set);
        if let Some(block) = block.filter(|block| self.journal.wants(*block))
            && signer.is_none()
        {
            match self.limit_own(now, (client, packet, what), (block, zone_match), out, len) {
                Some(limited) => len = limited,
                None => return,
            }
        }
        let len = self.sign(signer, client, what.0, out, len);
        let asking = self.asking(now, client, packet, what);
        self.delay(due, Held { client: *client, block, label_set, asking }, &out[..len]);
    }

    /// Holds back a reply that was written in the turn of its query.
    fn delay(&mut self, due: Moment, held: Held, reply: &[u8]) {
        if !self.delays.hold(due, held, reply) {
            self.counters.stats.drop(DropReason::QueryDenied);
            self.counters
                .outcome(held.label_set, &CountedReply::unanswered(held.client.transport()));
            return;
        }
        held.client.via.connection().inspect(|connection| self.clients.waits(*connection));
    }

    /// Returns the next delayed reply that is due. `out` is as for [`Forwarder::next_reply`].
    pub(super) fn next_delayed(&mut self, out: &mut [u8]) -> Option<Reply> {
        let (held, len, at) = self.delays.next(out)?;
        let Held { client, block, label_set, asking } = held;
        let (reply, rcode) = (&out[..len], reply::extended_rcode(&out[..len]));
        self.counters.rcode(rcode);
        let (transport, took) = (client.transport(), at.since(asking.since));
        self.counters
            .outcome(label_set, &CountedReply { transport, took, rcode, len, answered: true });
        self.journal_delayed(at, block, &asking, reply);
        client.via.connection().inspect(|connection| self.clients.answered(*connection));
        Some(Reply { client, len })
    }

    /// Finds the server block and label set of each delayed reply in the new configuration.
    pub(super) fn rehouse_delayed(&mut self) {
        for delayed in &mut self.delays.slab {
            let Some(question) = Question::parse(&delayed.bytes) else { continue };
            let name = LowercaseName::new(question.name(&delayed.bytes));
            let Held { client, asking, .. } = &delayed.held;
            let Question { rtype, class, .. } = question;
            let (asked, size, name) = (&asking.asked, asking.size, &name);
            let facts = || Facts { client, asked, name, rtype, class, size };
            let zone_match = self.routes.zone_match(client.listener, name, rtype, class, facts);
            (delayed.held.block, delayed.held.label_set) =
                (zone_match.block(), zone_match.label_set);
        }
    }
}
