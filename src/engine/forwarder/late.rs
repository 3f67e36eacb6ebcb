//! Late replies: to clients that have waited for longer than usual.
//!
//! Only datagrams are concerned, whose address can be forged, and not clients with a valid server
//! cookie. Late replies to one address leave at a pace ([`Pulses`]), so that answers that were held
//! up do not reach it all at once; until then at most [`HELD_MAX`] wait here, and are counted when
//! they leave. Where the configuration says so, replies of a certain age are not sent.

use super::delays::Delays;
use super::{Forwarder, Reply};
use crate::config::{LATE, Late, QUERY_TIMEOUT};
use crate::engine::exchange::{Client, Dismissed, Waiter};
use crate::engine::key::Via;
use crate::engine::message::Question;
use crate::engine::message::cookie::CookieState;
use crate::engine::message::query::Asked;
use crate::engine::pulses::Pulses;
use crate::engine::routes::ZoneMatch;
use crate::engine::stats::DropReason;
use crate::engine::tally::CountedReply;
use crate::engine::zones::LowercaseName;
use crate::moment::Moment;
use ahash::RandomState;
use std::time::Duration;

/// Maximum number of replies of a worker that wait for their time.
pub(super) const HELD_MAX: usize = 16_384;
/// Maximum time that a reply waits here: as long as a query may take.
const HELD_FOR: Duration = QUERY_TIMEOUT;

/// Sending of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lateness {
    /// Sent at once.
    None,
    /// Sent at this time.
    Held(Moment),
    /// Not sent at all.
    Discarded,
}

/// Reply that is held back, as far as it is counted later.
#[derive(Clone, Copy)]
pub(super) struct HeldReply {
    pub(super) client: Client,
    /// Time of the query.
    pub(super) since: Moment,
    pub(super) label_set: u32,
    /// The response code, of 12 bits.
    pub(super) rcode: u16,
    /// False for errors generated here.
    pub(super) answered: bool,
}

/// Settings and pace of late replies, and those that are held back.
pub(super) struct LateReplies {
    settings: Late,
    pulses: Pulses,
    pub(super) held: Delays<HeldReply>,
}

impl LateReplies {
    /// `hasher` is keyed.
    pub(super) fn new(settings: Late, hasher: &RandomState) -> Self {
        let pulses = Pulses::new(&settings, hasher);
        Self { settings, pulses, held: Delays::new(HELD_MAX) }
    }

    /// Continues with other settings.
    pub(super) fn reload(&mut self, settings: Late) {
        self.settings = settings;
        self.pulses.set(&settings);
    }

    /// Returns the reserved memory in bytes.
    pub(super) fn reserved(&self) -> usize {
        self.pulses.reserved() + self.held.reserved()
    }
}

impl Forwarder {
    /// Returns the sending of a waiter's reply. For replies that are not late it costs one
    /// comparison.
    #[inline(always)]
    pub(super) fn lateness(&mut self, now: Moment, waiter: Dismissed) -> Lateness {
        let since = self.exchanges.dismissed(waiter).since;
        if now.since(since) < LATE {
            return Lateness::None;
        }
        let &Waiter { client, asked, .. } = self.exchanges.dismissed(waiter);
        self.lateness_of(now, &client, &asked, since)
    }

    /// Returns the sending of a reply to a query of `since`, and counts it for its client.
    #[cold]
    pub(super) fn lateness_of(
        &mut self,
        now: Moment,
        client: &Client,
        asked: &Asked,
        since: Moment,
    ) -> Lateness {
        let waited = now.since(since);
        let is_proven = asked.cookie_state() == Some(CookieState::Good);
        if waited < LATE || client.via != Via::Datagram || is_proven {
            return Lateness::None;
        }
        if self.late.settings.discard.is_some_and(|discard| waited > discard) {
            return Lateness::Discarded;
        }
        let address = client.peer.ip();
        let due = self.late.pulses.due(now, address);
        if due > now.plus(HELD_FOR) || due > now && self.late.held.len() == HELD_MAX {
            return Lateness::Discarded;
        }
        self.late.pulses.count(now, address);
        if due > now { Lateness::Held(due) } else { Lateness::None }
    }

    /// Ends the query of a waiter that gets no reply because it is late.
    #[cold]
    pub(super) fn discard(&mut self, now: Moment, slot: u32, waiter: Dismissed) {
        self.journal_waiter(now, slot, waiter, None);
        let &Waiter { client, label_set, shown, .. } = self.exchanges.dismissed(waiter);
        self.counters.stats.drop(DropReason::ReplyTooLate);
        self.counters.outcome(label_set, &CountedReply::unanswered(client.transport()));
        let stanza = self.exchanges.first_stanza(slot);
        self.routes.stanza(stanza).under_way -= 1;
        self.rewriting.forget(shown);
    }

    /// Holds a reply back until it is due.
    #[cold]
    pub(super) fn hold_late(&mut self, due: Moment, reply: HeldReply, bytes: &[u8]) {
        let is_held = self.late.held.hold(due, reply, bytes);
        debug_assert!(is_held, "there was room");
        self.counters.stats.late_held += 1;
    }

    /// Returns the next late reply that is due. `out` is as for [`Forwarder::next_reply`].
    pub(super) fn next_late(&mut self, out: &mut [u8]) -> Option<Reply> {
        let (held, len, now) = self.late.held.next(out)?;
        let question = Question::parse(&out[..len]);
        let name = question
            .map_or(LowercaseName::ROOT, |question| LowercaseName::new(question.name(&out[..len])));
        let HeldReply { client, since, label_set, rcode, answered } = held;
        let (transport, took) = (client.transport(), now.since(since));
        let outcome = CountedReply { transport, took, rcode, len, answered };
        self.counters.reply(now, label_set, name.as_bytes(), &outcome);
        Some(Reply { client, len })
    }

    /// Counts held replies under no label set from now on: those of the old configuration are gone.
    pub(super) fn forget_late(&mut self) {
        self.late.held.all_mut().for_each(|held| held.label_set = ZoneMatch::NOWHERE.label_set);
    }
}
