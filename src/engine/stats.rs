//! Counters of a worker: plain fields, incremented by the code that they count.
//!
//! No atomics: a worker owns its counters and hands out copies. Every received packet ends in
//! exactly one of `replies` by response code or `drops` by reason (or is still outstanding), so
//! that the sums can be checked.

mod ages;

use super::dnssec::kept::DnssecStats;
use super::errors::{TLS_FAULTS, TlsFault};
use super::histogram::{Latency, add_each};
use super::message::rcode::RCODES;
use super::proxy::HeaderStats;
use super::ratelimit::LimitStats;
use super::stages::Step;
use super::stages::template::TemplateStats;
use crate::config::order;
pub use ages::Ages;
pub(crate) use ages::{AGES, REASON_NAMES, REASONS, Reason};
use std::time::Duration;

/// Reason why a packet was dropped without a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum DropReason {
    /// A client's packet was shorter than a header.
    QueryTooShort,
    /// A client's packet was a response.
    QueryIsResponse,
    /// A client's packet came from port 0, to which no reply can be sent.
    QueryFromPortZero,
    /// A stage, such as an access list, drops the query.
    QueryDenied,
    /// A query or its reply exceeds a limit of its client.
    RateLimited,
    /// The reply is older than `late` allows, or too many late ones are held back.
    ReplyTooLate,
    /// The reply could not be sent: socket buffer full or peer unreachable.
    ReplyNotSent,
    /// An upstream's packet is no response to a QUERY with one question, or has a malformed record.
    ResponseMalformed,
    /// No query with its id is outstanding on its connection: late, repeated or forged.
    ResponseUnmatched,
    /// A response to a query that was sent again on another connection and answered there.
    ResponseRepeated,
    /// The id is right but the question is another: forged.
    ResponseWrongQuestion,
    /// The question is in another letter case than the query, which had a random one: forged, or
    /// from an upstream that does not keep the case.
    ResponseWrongCase,
    /// A query could not be sent upstream now (socket buffer full); its time-out covers it.
    QueryNotSent,
}

const DROP_REASONS: usize = DropReason::QueryNotSent as usize + 1;
/// Names of the reasons in metrics.
pub(crate) const DROP_REASON_NAMES: [&str; DROP_REASONS] = [
    "query_too_short",
    "query_is_response",
    "query_from_port_zero",
    "query_denied",
    "rate_limited",
    "reply_too_late",
    "reply_not_sent",
    "response_malformed",
    "response_unmatched",
    "response_repeated",
    "response_wrong_question",
    "response_wrong_case",
    "query_not_sent",
];

/// Number of results of verifications.
const TSIG_RESULTS: usize = TSIG_RESULT_NAMES.len();
/// Names of the results of signed queries in metrics.
pub(crate) const TSIG_RESULT_NAMES: [&str; 6] =
    ["ok", "badsig", "badkey", "badtime", "badtrunc", "formerr"];

/// Names in metrics of the server cookies in queries with a cookie.
pub(crate) const COOKIE_RESULT_NAMES: [&str; 3] = ["none", "valid", "invalid"];

/// One worker's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Packets from clients.
    pub queries: u64,
    /// Replies by response code, in the order of [`RCODES`].
    pub replies: [u64; RCODES],
    /// Packets dropped, by [`DropReason`].
    pub drops: [u64; DROP_REASONS],
    /// Replies among these that were late and left at the pace of their client.
    pub late_held: u64,
    /// Queries that joined an outstanding one.
    pub coalesced: u64,
    /// Queries refused with SERVFAIL because the maximum was outstanding.
    pub overloaded: u64,
    /// Queries among these for names of a zone whose queries filled the table.
    pub flood_refusals: u64,
    /// Queries refused because their stanza's `max_concurrent` was reached.
    pub concurrent_rejects: u64,
    /// Number of queries that found all upstreams of their stanza down.
    pub all_down: u64,
    /// Connections opened by clients.
    pub connections: u64,
    /// Client connections closed at once, because the maximum in total or per address was reached.
    pub connections_refused: u64,
    /// Client connections over QUIC that were closed because of an error of the client.
    pub(crate) connections_aborted: u64,
    /// Streams of clients over QUIC that were refused alone.
    pub(crate) streams_refused: u64,
    /// TLS handshakes with clients.
    pub handshakes: Handshakes,
    /// Headers of the PROXY protocol.
    pub proxy_headers: HeaderStats,
    /// Records of query errors that were lost before they were logged.
    pub errors_lost: u64,
    /// Lines of the query log that were lost.
    pub log_lost: u64,
    /// Messages for `dnstap` that were lost.
    pub tap_lost: u64,
    /// Counters of the stages of server blocks.
    pub stages: StageStats,
    /// Signed queries of clients in blocks with `tsig`, in the order of [`TSIG_RESULT_NAMES`].
    pub tsig: [u64; TSIG_RESULTS],
    /// Queries with a cookie of their client, in the order of [`COOKIE_RESULT_NAMES`].
    pub cookies: [u64; COOKIE_RESULT_NAMES.len()],
    /// Queries that waited for the answers to other queries.
    pub parked: ParkedStats,
    /// Time from queries to their replies, of all well-formed queries.
    pub latency: Latency,
    /// Number of panics after which the worker was restarted.
    pub panics: u64,
    /// Counters by upstream, in the order of the configuration.
    pub upstreams: Vec<UpstreamStats>,
    /// Counters by cache, in the order of the server blocks that have one.
    pub caches: Vec<CacheStats>,
    /// Counters by template, in the order of the configuration.
    pub templates: Vec<TemplateStats>,
    /// Counters of signatures, in the order of the server blocks that sign replies.
    pub dnssec: Vec<DnssecStats>,
    /// Counters of limits, in the order of the server blocks that have them.
    pub limits: Vec<LimitStats>,
}

/// Queries that waited for the answers to queries of this server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParkedStats {
    /// Queries that were parked.
    pub queries: u64,
    /// Queries that this server asked for them.
    pub asked: u64,
    /// Queries not asked because the nesting was too deep.
    pub too_deep: u64,
    /// Queries not asked because too many were asked for one client's query.
    pub(crate) too_many: u64,
    /// Queries not parked because the maximum was reached.
    pub(crate) full: u64,
    /// Replies not kept because their total length would exceed the maximum.
    pub(crate) too_large: u64,
}

impl ParkedStats {
    fn add(&mut self, other: &Self) {
        self.queries += other.queries;
        self.asked += other.asked;
        self.too_deep += other.too_deep;
        self.too_many += other.too_many;
        self.full += other.full;
        self.too_large += other.too_large;
    }
}

/// Counters of one stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageCounts {
    /// Queries let through.
    pub passed: u64,
    /// Queries answered.
    pub answered: u64,
    /// Queries refused or failed.
    pub refused: u64,
    /// Queries dropped without a reply.
    pub dropped: u64,
}

macro_rules! stage_stats {
    ($(
        $(#[$doc:meta])*
        $name:literal $field:ident: $told:ty $(, $answers:ident)?
        $(=> $module:ident::$Stage:ident)?;
    )*) => {
        /// Counters of the small stages, all server blocks together.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct StageStats {
            $($(
                #[doc = concat!("Counters of `", $name, "`.")]
                pub $module: StageCounts,
            )?)*
        }

        impl StageStats {
            /// Counters of each stage with its name.
            pub(crate) fn named(&self) -> Vec<(&'static str, StageCounts)> {
                vec![$($(($name, self.$module),)?)*]
            }

            fn add(&mut self, other: &Self) {
                $($(self.$module.add(&other.$module);)?)*
            }
        }
    };
}
order!(stage_stats);

/// One worker's counters of one upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpstreamStats {
    /// Queries sent, retries included.
    pub sent: u64,
    /// Responses that ended an exchange.
    pub answered: u64,
    /// Attempts that timed out.
    pub timed_out: u64,
    /// Attempts whose connection failed (refused, unreachable, could not be opened).
    pub failed: u64,
    /// Responses that refused EDNS, after which the query was repeated without it.
    pub edns_refused: u64,
    /// Errors without a question.
    pub bare_errors: u64,
    /// Responses refused for addresses of private networks.
    pub private_answers: u64,
    /// Bursts of responses on a UDP connection that match no query.
    pub mismatch_bursts: u64,
    /// Time from attempts to their accepted responses.
    pub latency: Latency,
    /// Connections of the UDP pool.
    pub pool: PoolStats,
    /// Connections of the TCP or TLS pool.
    pub tcp: PoolStats,
    /// TLS handshakes with it.
    pub handshakes: Handshakes,
}

/// TLS handshakes of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// Full handshakes.
    pub full: u64,
    /// Handshakes that resumed an earlier session.
    pub resumed: u64,
    /// Failed handshakes, by [`TlsFault`].
    pub failed: [u64; TLS_FAULTS],
    /// Number of handshakes that waited because the handshake budget was used up.
    pub(crate) deferred: u64,
    /// Durations of finished handshakes, including the connect.
    pub(crate) took: Latency,
}

impl Handshakes {
    /// Counts a finished handshake.
    pub(crate) fn count(&mut self, resumed: bool, took: Duration) {
        *(if resumed { &mut self.resumed } else { &mut self.full }) += 1;
        self.took.add(took);
    }

    /// Counts a failed handshake.
    pub(crate) fn fail(&mut self, fault: TlsFault) {
        self.failed[fault as usize] += 1;
    }

    /// Adds another's counters.
    pub(crate) fn add(&mut self, other: &Self) {
        self.full += other.full;
        self.resumed += other.resumed;
        self.deferred += other.deferred;
        self.took.merge(&other.took);
        add_each(&mut self.failed, &other.failed);
    }
}

/// Counters of a pool's connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Connections dialled.
    pub opened: u64,
    /// Connections taken from the pool again.
    pub reused: u64,
    /// Batches that shared a busy connection because the pool was at its limit.
    pub shared: u64,
    /// Closed after being idle for `expire`.
    pub expired: u64,
    /// Closed at the age of `max_age`.
    pub aged: u64,
    /// Closed because the pool was larger than needed, or `max_idle_conns` was reached.
    pub surplus: u64,
    /// Closed because a query on it timed out, its socket failed, or a burst of responses on it
    /// matched no query.
    pub broken: u64,
    /// Closed although usable, to be replaced: distrusted, or for balance.
    pub renewed: u64,
    /// Queries that were stuck behind others on a connection and were moved to another.
    pub moved: u64,
    /// Number of stuck queries that were not moved: no other connection, or too many repeated
    /// already.
    pub unmoved: u64,
    /// Queries repeated at no cost because their connection was closed behind an answer, or for a
    /// burst of mismatches.
    pub asked_again: u64,
    /// Connections dialled while the upstream was known to close them after a few answers.
    pub limited: u64,
    /// Ages of connections when they were closed, by [`Reason`].
    pub ages: [Ages; REASONS],
}

/// Counters of one cache. Its lookups are hits and misses together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Questions looked up.
    pub requests: u64,
    /// Replies from the cache, by class: answers and denials. Stale ones count.
    pub hits: [u64; 2],
    /// Stale replies from the cache.
    pub stale: u64,
    /// Refreshes begun while the client was served, before or after the answer expired.
    pub refreshes: u64,
    /// Responses stored, by class.
    pub stored: [u64; 2],
    /// Usable answers evicted for lack of room, by class.
    pub evicted: [u64; 2],
    /// Answers that had expired when they were removed.
    pub(crate) expired: u64,
    /// Stored answers, by class; expired ones count. All workers share them.
    pub entries: [u64; 2],
    /// Length of the stored answers in bytes. All workers share them.
    pub bytes: u64,
}

impl CacheStats {
    /// Counts the removal of the stored data.
    pub(crate) fn empty(&mut self) {
        (self.entries, self.bytes) = ([0; 2], 0);
    }

    /// Adds the counters of another worker, which shares the stored answers.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.stale += other.stale;
        self.refreshes += other.refreshes;
        self.expired += other.expired;
        self.bytes = self.bytes.max(other.bytes);
        let entries = self.entries.iter_mut().zip(&other.entries);
        entries.for_each(|(own, other)| *own = (*own).max(*other));
        add_each(&mut self.hits, &other.hits);
        add_each(&mut self.stored, &other.stored);
        add_each(&mut self.evicted, &other.evicted);
    }
}

impl Stats {
    /// Counts a packet that gets no reply.
    pub fn drop(&mut self, reason: DropReason) {
        self.drops[reason as usize] += 1;
    }

    /// Adds another's counters: those of an earlier engine with the same upstreams or of another
    /// worker.
    pub fn add(&mut self, other: &Self) {
        self.queries += other.queries;
        self.coalesced += other.coalesced;
        self.late_held += other.late_held;
        self.overloaded += other.overloaded;
        self.flood_refusals += other.flood_refusals;
        self.panics += other.panics;
        self.concurrent_rejects += other.concurrent_rejects;
        self.all_down += other.all_down;
        self.connections += other.connections;
        self.connections_refused += other.connections_refused;
        self.connections_aborted += other.connections_aborted;
        self.streams_refused += other.streams_refused;
        self.handshakes.add(&other.handshakes);
        self.proxy_headers.add(&other.proxy_headers);
        self.errors_lost += other.errors_lost;
        self.latency.merge(&other.latency);
        self.log_lost += other.log_lost;
        self.tap_lost += other.tap_lost;
        self.stages.add(&other.stages);
        self.parked.add(&other.parked);
        add_each(&mut self.replies, &other.replies);
        add_each(&mut self.drops, &other.drops);
        add_each(&mut self.tsig, &other.tsig);
        add_each(&mut self.cookies, &other.cookies);
        self.upstreams.resize(other.upstreams.len().max(self.upstreams.len()), Default::default());
        for (own, other) in self.upstreams.iter_mut().zip(&other.upstreams) {
            own.add(other);
        }
        self.caches.resize(other.caches.len().max(self.caches.len()), Default::default());
        for (own, other) in self.caches.iter_mut().zip(&other.caches) {
            own.add(other);
        }
        self.dnssec.resize(other.dnssec.len().max(self.dnssec.len()), Default::default());
        for (own, other) in self.dnssec.iter_mut().zip(&other.dnssec) {
            own.add(other);
        }
        self.limits.resize(other.limits.len().max(self.limits.len()), Default::default());
        for (own, other) in self.limits.iter_mut().zip(&other.limits) {
            own.add(other);
        }
        if self.templates.is_empty() {
            self.templates.clone_from(&other.templates);
        } else {
            let others = self.templates.iter_mut().zip(&other.templates);
            others.for_each(|(own, other)| own.add(other));
        }
    }

    /// Returns the number of packets dropped for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// Returns the number of all replies.
    pub fn replied(&self) -> u64 {
        self.replies.iter().sum()
    }
}

impl StageCounts {
    /// Counts a stage's decision about a query, and returns it.
    pub(crate) fn count(&mut self, step: Step) -> Step {
        *match step {
            Step::Continue | Step::Park => &mut self.passed,
            Step::Replied(_) | Step::Open(_) | Step::Later(..) | Step::Transfer => {
                &mut self.answered
            }
            Step::Refused(..) => &mut self.refused,
            Step::Dropped | Step::Limited => &mut self.dropped,
        } += 1;
        step
    }

    /// Returns the difference from `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            passed: self.passed - earlier.passed,
            answered: self.answered - earlier.answered,
            refused: self.refused - earlier.refused,
            dropped: self.dropped - earlier.dropped,
        }
    }

    /// Adds another's counters.
    pub(crate) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.answered += other.answered;
        self.refused += other.refused;
        self.dropped += other.dropped;
    }
}

impl UpstreamStats {
    /// Adds another's counters.
    pub(crate) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.timed_out += other.timed_out;
        self.failed += other.failed;
        self.edns_refused += other.edns_refused;
        self.bare_errors += other.bare_errors;
        self.private_answers += other.private_answers;
        self.mismatch_bursts += other.mismatch_bursts;
        self.latency.merge(&other.latency);
        self.pool.add(&other.pool);
        self.tcp.add(&other.tcp);
        self.handshakes.add(&other.handshakes);
    }
}

impl PoolStats {
    /// Adds another's counters.
    pub(crate) fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        self.reused += other.reused;
        self.shared += other.shared;
        self.expired += other.expired;
        self.aged += other.aged;
        self.surplus += other.surplus;
        self.broken += other.broken;
        self.renewed += other.renewed;
        self.moved += other.moved;
        self.unmoved += other.unmoved;
        self.asked_again += other.asked_again;
        self.limited += other.limited;
        for (own, other) in self.ages.iter_mut().zip(&other.ages) {
            own.merge(other);
        }
    }
}
