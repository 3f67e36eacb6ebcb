//! Counters of queries and replies: in total, by label set, and the most frequent names.
//!
//! A query is counted once when it is understood and once when it ends; this part knows which of
//! the three sets of counters each of the two belongs to. The counters in [`Counters::stats`] that
//! have no counterpart by label set are plain fields, which the code beside them increments. The
//! counters of upstreams are in [`super::upstreams`], those of pools and caches in these
//! themselves.

use super::course::Written;
use super::parts::Parts;
use super::watch::Watch;
use crate::engine::exchange::Client;
use crate::engine::message::query::Query;
use crate::engine::message::rcode::place_of_rcode;
use crate::engine::message::{Rcode, reply};
use crate::engine::stats::{StageCounts, Stats};
use crate::engine::tally::{CountedQuery, CountedReply, Tallies};
use crate::engine::zones::LowercaseName;
use crate::moment::Moment;
use std::time::Duration;

/// Counters of queries and replies.
pub(super) struct Counters {
    pub(super) stats: Stats,
    tallies: Tallies,
    watch: Watch,
}

impl Counters {
    /// Creates counters that are zero.
    pub(super) fn new(tallies: Tallies, watch: Watch) -> Self {
        Self { stats: Stats::default(), tallies, watch }
    }

    /// Continues with the label sets of `parts`. `stays` is as for
    /// [`Upstreams::reload`](super::upstreams::Upstreams::reload).
    pub(super) fn reload(&mut self, parts: &mut Parts, stays: &[Option<usize>]) {
        self.tallies.reload(&mut parts.tallies, &parts.label_places, stays);
        self.watch.reload(&mut parts.watch);
    }

    /// Returns the reserved bytes.
    pub(super) fn reserved(&self) -> usize {
        self.tallies.reserved() + self.watch.reserved()
    }

    /// Returns the counters by label set.
    pub(super) fn tallies(&self) -> &Tallies {
        &self.tallies
    }

    /// Returns the most frequent names and clients.
    pub(super) fn watch(&mut self) -> &mut Watch {
        &mut self.watch
    }

    /// Counts a valid query of a client.
    #[inline(always)]
    pub(super) fn query(
        &mut self,
        now: Moment,
        client: &Client,
        query: &Query<'_>,
        name: &LowercaseName,
        label_set: u32,
    ) {
        self.query_at(client, query, label_set);
        self.watch.asked(now, client.peer.ip(), name.as_bytes());
    }

    /// Counts a query, or a subquery, under the label set that serves it.
    #[inline]
    pub(super) fn query_at(&mut self, client: &Client, query: &Query<'_>, label_set: u32) {
        let len = usize::from(query.size());
        let (transport, is_ipv6) = (client.transport(), client.peer.is_ipv6());
        let dnssec_ok = query.asked.edns.is_some_and(|edns| edns.dnssec_ok);
        let asking =
            CountedQuery { transport, is_ipv6, rtype: query.question.rtype, dnssec_ok, len };
        self.tallies.ask(label_set, &asking);
    }

    /// Counts a response of HTTP under the label set of its listener.
    pub(super) fn http_response(&mut self, label_set: u32, status: u16) {
        self.tallies.http_response(label_set, status);
    }

    /// Counts the reply in the turn of its query. `answered`: false for errors generated here.
    pub(super) fn own_reply(
        &mut self,
        now: Moment,
        client: &Client,
        label_set: u32,
        name: &LowercaseName,
        reply: Written<'_>,
        answered: bool,
    ) {
        let Written { bytes, rcode } = reply;
        let (transport, took, len) = (client.transport(), Duration::ZERO, bytes.len());
        let outcome = CountedReply { transport, took, rcode, len, answered };
        self.reply(now, label_set, name.as_bytes(), &outcome);
    }

    /// Counts the reply to a valid query for `name`.
    #[inline(always)]
    pub(super) fn reply(
        &mut self,
        now: Moment,
        label_set: u32,
        name: &[u8],
        outcome: &CountedReply,
    ) {
        self.rcode(outcome.rcode);
        self.outcome(label_set, outcome);
        if outcome.rcode == Rcode::ServFail as u16 {
            self.watch.failed(now, name);
        }
    }

    /// Counts a reply by its response code, of 12 bits.
    #[inline(always)]
    pub(super) fn rcode(&mut self, rcode: u16) {
        self.stats.replies[place_of_rcode(rcode)] += 1;
    }

    /// Counts the outcome of a valid query.
    #[inline(always)]
    pub(super) fn outcome(&mut self, label_set: u32, outcome: &CountedReply) {
        self.stats.latency.add(outcome.took);
        self.tallies.end(label_set, outcome);
    }

    /// Counts the answer to a subquery, under the label set that served it.
    pub(super) fn sub_reply(
        &mut self,
        now: Moment,
        label_set: u32,
        client: &Client,
        reply: &[u8],
        since: Moment,
    ) {
        let rcode = reply::rcode(reply);
        let (transport, took) = (client.transport(), now.since(since));
        let (len, answered) = (reply.len(), rcode != Rcode::ServFail as u16);
        self.tallies.end(label_set, &CountedReply { transport, took, rcode, len, answered });
    }

    /// Counts under the label set what the stage `acl` has counted since `before`.
    #[inline]
    pub(super) fn acl(&mut self, label_set: u32, before: &StageCounts) {
        self.tallies.acl(label_set, before, &self.stats.stages.acl);
    }

    /// Counts a query that `dns64` was asked to translate.
    pub(super) fn translated(&mut self, label_set: u32, synthesised: bool) {
        self.tallies.translated(label_set, synthesised);
    }

    /// Counts the response of an upstream.
    #[inline(always)]
    pub(super) fn response(&mut self, upstream: usize, rcode: u16, took: Duration) {
        self.tallies.upstream(upstream, rcode, took);
    }
}
