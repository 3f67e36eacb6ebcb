//! Events of queries that are written to the journal.
//!
//! A query in a server block with `log` or `dnstap` is recorded when it ends, with its reply if
//! there is one. For `dnstap`, its arrival, upstream queries and validated upstream responses are
//! recorded as well. The shell takes pages with [`Forwarder::swap_page`]. In any other block the
//! cost is one test of a bool.

use super::Forwarder;
use super::course::Written;
use super::parked::Parked;
use crate::config::Protocol;
use crate::engine::exchange::{Client, Dismissed, Waiter};
use crate::engine::journal::kinds::{self, ResponseType, outcome_of};
use crate::engine::journal::{Event, Journal, Labels, LoggedQuery, Page, Record, Span, replied};
use crate::engine::key::Transport;
use crate::engine::message::name::WireQuestion;
use crate::engine::message::query::Asked;
use crate::engine::message::{Question, reply, u16_at};
use crate::engine::stats::Stats;
use crate::moment::Moment;
use std::net::SocketAddr;

/// Subject of a record.
struct Subject<'a> {
    block: usize,
    asking: LoggedQuery,
    name: &'a [u8],
}

impl Forwarder {
    /// Returns the time at which the journal's page should be taken; a past time means now.
    pub fn page_due(&self) -> Option<Moment> {
        self.journal.due()
    }

    /// Swaps the journal's page with an empty one, or puts it back.
    pub fn swap_page(&mut self, page: &mut Page) {
        self.journal.swap(page);
    }

    /// Drops the records on the journal's page, because no reader is left.
    pub(crate) fn lose_page(&mut self) {
        let mut page = Page::default();
        self.journal.swap(&mut page);
        let lines = page.records.iter().filter(|record| matches!(record.event, Event::Ended(_)));
        let lines = lines.count();
        self.counters.stats.log_lost += lines as u64;
        self.counters.stats.tap_lost += (page.records.len() - lines) as u64;
        page.clear();
        self.journal.swap(&mut page);
    }

    /// Records a client's packet, if this server block wants arrivals.
    #[inline(always)]
    pub(super) fn journal_arrival(
        &mut self,
        now: Moment,
        block: usize,
        client: &Client,
        packet: &[u8],
        what: (&Asked, &Question),
    ) {
        if self.journal.wants(block) {
            self.record_arrival(now, block, client, packet, what);
        }
    }

    #[inline(never)]
    fn record_arrival(
        &mut self,
        now: Moment,
        block: usize,
        client: &Client,
        packet: &[u8],
        (asked, question): (&Asked, &Question),
    ) {
        let Some(full) = self.journal.taps(block) else { return };
        let asking = self.asking(now, client, packet, (asked, question));
        let subject = Subject { block, asking, name: question.name(packet) };
        let record = subject.record(Event::ClientQuery, now);
        let message = if full { packet } else { &[] };
        push(&mut self.journal, &mut self.counters.stats, record, subject.name, message);
    }

    /// Records a query that ends in the turn of its arrival, with its reply, if any.
    #[inline]
    pub(super) fn journal_end(
        &mut self,
        now: Moment,
        block: Option<usize>,
        client: &Client,
        packet: &[u8],
        what: (&Asked, &Question),
        reply: Option<&[u8]>,
    ) {
        if let Some(block) = block.filter(|block| self.journal.wants(*block)) {
            let asking = self.asking(now, client, packet, what);
            let subject = Subject { block, asking, name: what.1.name(packet) };
            let unix = self.unix;
            let reply = reply.map(|bytes| Written { bytes, rcode: reply::extended_rcode(bytes) });
            end(&mut self.journal, &mut self.counters.stats, now, unix, &subject, reply, None);
        }
    }

    /// Records the end of a client's wait for the exchange that is or was just in `slot`, with its
    /// reply, if any.
    #[inline]
    pub(super) fn journal_waiter(
        &mut self,
        now: Moment,
        slot: u32,
        waiter: Dismissed,
        reply: Option<Written<'_>>,
    ) {
        let Some(block) = self.block_that_wants(slot) else { return };
        let waiter = *self.exchanges.dismissed(waiter);
        let asking = self.asking_waiter(slot, &waiter);
        let unix = self.unix;
        let asked = self.rewriting.asking(waiter.shown).map(|asked| asked.name.as_bytes());
        let name = asked.unwrap_or_else(|| self.exchanges.name(slot));
        let subject = Subject { block, asking, name };
        let (asked, _) = self.exchanges.last_asked(slot);
        let upstream = self.upstreams.find_dial(asked).map(|dial| dial.upstream);
        end(&mut self.journal, &mut self.counters.stats, now, unix, &subject, reply, upstream);
    }

    /// Records the end of a parked query, with its reply, if any.
    pub(super) fn journal_parked(&mut self, now: Moment, done: &Parked, reply: Option<&[u8]>) {
        let block = done.zone_match.block().filter(|block| self.journal.wants(*block));
        let Some(block) = block else { return };
        let Parked { client, asked, size, since, .. } = *done;
        let &WireQuestion { name, rtype, class } = done.first_asking();
        let local = client.local.map_or_else(|| self.journal.local(client.listener), |own| own.0);
        let (peer, transport) = (Some(client.peer), client.transport());
        let protocol = self.journal.protocol(client.listener);
        let asking =
            LoggedQuery { peer, local, transport, protocol, since, size, asked, rtype, class };
        let subject = Subject { block, asking, name: name.as_bytes() };
        let unix = self.unix;
        let reply = reply.map(|bytes| Written { bytes, rcode: reply::extended_rcode(bytes) });
        end(&mut self.journal, &mut self.counters.stats, now, unix, &subject, reply, None);
    }

    /// Records a delayed reply to a client of this server block.
    pub(super) fn journal_delayed(
        &mut self,
        now: Moment,
        block: Option<usize>,
        asking: &LoggedQuery,
        reply: &[u8],
    ) {
        let Some(block) = block.filter(|block| self.journal.wants(*block)) else { return };
        let Some(question) = Question::parse(reply) else { return };
        let subject = Subject { block, asking: *asking, name: question.name(reply) };
        let unix = self.unix;
        let reply = Written { bytes: reply, rcode: reply::extended_rcode(reply) };
        end(&mut self.journal, &mut self.counters.stats, now, unix, &subject, Some(reply), None);
    }

    /// Records an attempt of the exchange in `slot`.
    #[inline]
    pub(super) fn journal_attempt(&mut self, now: Moment, slot: u32) {
        if let Some(block) = self.block_that_wants(slot) {
            self.journal_upstream(now, slot, block, Event::ForwarderQuery, None);
        }
    }

    /// Records a response to the exchange in `slot`, whose attempt has not been ended yet.
    #[inline]
    pub(super) fn journal_response(&mut self, now: Moment, slot: u32, packet: &[u8]) {
        if let Some(block) = self.block_that_wants(slot) {
            self.journal_upstream(now, slot, block, Event::ForwarderResponse, Some(packet));
        }
    }

    fn journal_upstream(
        &mut self,
        now: Moment,
        slot: u32,
        block: usize,
        event: Event,
        packet: Option<&[u8]>,
    ) {
        let Some(full) = self.journal.taps(block) else { return };
        let query = self.exchanges.query(slot);
        let asking = match self.exchanges.first_waiter(slot) {
            Some(waiter) => self.asking_waiter(slot, waiter),
            // A query of our own.
            None => {
                let word = |place| u16_at(query, place).unwrap_or(0);
                let (rtype, class) = self.exchanges.rtype_and_class(slot);
                let asked = Asked { id: word(0), flags: word(2), edns: None };
                let (transport, local) = (Transport::Udp, self.journal.local(0));
                let (size, since, peer) = (query.len() as u16, now, None);
                let protocol = Protocol::Dns;
                LoggedQuery { peer, local, transport, protocol, since, size, asked, rtype, class }
            }
        };
        let subject = Subject { block, asking, name: self.exchanges.name(slot) };
        let (number, transport) = self.exchanges.last_asked(slot);
        let began = self.exchanges.attempt_began(slot);
        let mut record = subject.record(event, now);
        record.upstream = self.upstreams.find_dial(number).map(|dial| {
            let way = self.upstreams.way_to(number, transport);
            (dial.upstream, way, began)
        });
        let message = if full { packet.unwrap_or(query) } else { &[] };
        push(&mut self.journal, &mut self.counters.stats, record, subject.name, message);
    }

    /// Returns the server block of the exchange that is or was just in `slot`, if it wants records.
    #[inline]
    pub(super) fn block_that_wants(&self, slot: u32) -> Option<usize> {
        let block = self.routes.block_of(self.exchanges.first_stanza(slot))?;
        self.journal.wants(block).then_some(block)
    }

    pub(super) fn asking(
        &self,
        since: Moment,
        client: &Client,
        packet: &[u8],
        (asked, question): (&Asked, &Question),
    ) -> LoggedQuery {
        let Question { rtype, class, .. } = *question;
        let local = client.local.map_or_else(|| self.journal.local(client.listener), |own| own.0);
        let (peer, transport) = (Some(client.peer), client.transport());
        LoggedQuery {
            peer,
            local,
            transport,
            protocol: self.journal.protocol(client.listener),
            since,
            size: packet.len() as u16,
            asked: *asked,
            rtype,
            class,
        }
    }

    fn asking_waiter(&self, slot: u32, waiter: &Waiter) -> LoggedQuery {
        let Waiter { client, asked, since, size, shown, .. } = *waiter;
        let (rtype, class) = match self.rewriting.asking(shown) {
            Some(asked) => (asked.rtype, asked.class),
            None => self.exchanges.rtype_and_class(slot),
        };
        let local = client.local.map_or_else(|| self.journal.local(client.listener), |own| own.0);
        let (peer, transport) = (Some(client.peer), client.transport());
        let protocol = self.journal.protocol(client.listener);
        LoggedQuery { peer, local, transport, protocol, since, size, asked, rtype, class }
    }
}

impl Subject<'_> {
    fn record(&self, event: Event, at: Moment) -> Record {
        let (block, asking) = (self.block as u32, self.asking);
        let (name, message) = (Span::default(), Span::default());
        let (upstream, reply, labels) = (None, None, None);
        Record { event, block, at, asking, upstream, reply, labels, name, message }
    }
}

/// Records the end of a query, with its reply, if any. `unix`: wall-clock time in seconds.
/// `upstream`: the last upstream of the query.
fn end(
    journal: &mut Journal,
    stats: &mut Stats,
    now: Moment,
    unix: u32,
    subject: &Subject<'_>,
    reply: Option<Written<'_>>,
    upstream: Option<SocketAddr>,
) {
    let (asked, question_len) = (&subject.asking.asked, subject.name.len() + 4);
    let told = reply.map(|reply| replied(reply.bytes, reply.rcode));
    let reply = reply.map(|reply| reply.bytes);
    let outcome = || match (reply, told) {
        (Some(reply), Some(told)) => outcome_of(reply, question_len, asked, told.rcode, unix),
        _ => ResponseType::OtherError,
    };
    let reads_labels = journal.reads_labels(subject.block);
    let labels = reads_labels.then(|| Labels { upstream, outcome: outcome() });
    if let (Some(reply), Some(full)) = (reply, journal.taps(subject.block)) {
        let mut record = subject.record(Event::ClientResponse, now);
        (record.reply, record.labels) = (told, labels);
        push(journal, stats, record, subject.name, if full { reply } else { &[] });
    }
    let Some((rule, wanted)) = journal.rule(subject.block, subject.name) else { return };
    if wanted != kinds::ALL && outcome().rtype() & wanted == 0 {
        return;
    }
    let mut record = subject.record(Event::Ended(rule), now);
    (record.reply, record.labels) = (told, labels);
    push(journal, stats, record, subject.name, &[]);
}

/// Puts a record on the page; lost records are counted.
fn push(journal: &mut Journal, stats: &mut Stats, record: Record, name: &[u8], message: &[u8]) {
    if !journal.push(record, name, message) {
        match record.event {
            Event::Ended(_) => stats.log_lost += 1,
            _ => stats.tap_lost += 1,
        }
    }
}
