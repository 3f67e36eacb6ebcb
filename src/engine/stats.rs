//! Counters of a worker: plain fields, incremented by the code that they count.
//!
//! No atomics: a worker owns its own and hands out copies when asked. Every packet that comes in
//! ends in exactly one of `replies` by response code or `drops` by reason (or is still
//! outstanding), so that the books can be checked.

use super::errors::{TLS_FAULTS, TlsFault};
use super::histogram::{Latency, add_each};
use super::message::rcode::RCODES;
use super::stages::Step;
use super::stages::template::TemplateStats;
use crate::config::order;
use std::time::Duration;

/// Reason why a packet was dropped without a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum DropReason {
    /// A client's packet was shorter than a header.
    QueryTooShort,
    /// A client's packet was a response.
    QueryIsResponse,
    /// A client's packet came from port 0, where no reply can go.
    QueryFromPortZero,
    /// A stage, such as an access list, says that a client gets no reply.
    QueryDenied,
    /// The reply could not be sent: socket buffer full or peer unreachable.
    ReplyNotSent,
    /// An upstream's packet is no response to a QUERY with one question, or a record in it cannot
    /// be read to its end.
    ResponseMalformed,
    /// No query with its id is outstanding on its connection: late, repeated or forged.
    ResponseUnmatched,
    /// A response to a query that was sent again on another connection and answered there.
    ResponseRepeated,
    /// The id is right but the question is another: forged.
    ResponseWrongQuestion,
    /// A query could not be sent upstream now (socket buffer full); its time-out covers it.
    QueryNotSent,
}

/// Number of reasons.
const DROP_REASONS: usize = DropReason::QueryNotSent as usize + 1;
/// Names of the reasons in metrics.
pub const DROP_REASON_NAMES: [&str; DROP_REASONS] = [
    "query_too_short",
    "query_is_response",
    "query_from_port_zero",
    "query_denied",
    "reply_not_sent",
    "response_malformed",
    "response_unmatched",
    "response_repeated",
    "response_wrong_question",
    "query_not_sent",
];

/// Number of results of verifications.
const TSIG_RESULTS: usize = TSIG_RESULT_NAMES.len();
/// Names of the results of signed queries in metrics.
pub const TSIG_RESULT_NAMES: [&str; 6] =
    ["ok", "badsig", "badkey", "badtime", "badtrunc", "formerr"];

/// One worker's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Packets from clients.
    pub queries: u64,
    /// Replies by response code, in the order of [`RCODES`].
    pub replies: [u64; RCODES],
    /// Packets dropped, by [`DropReason`].
    pub drops: [u64; DROP_REASONS],
    /// Queries that joined one already on its way.
    pub coalesced: u64,
    /// Queries refused with SERVFAIL because every slot was taken.
    pub overloaded: u64,
    /// Queries refused because their stanza's `max_concurrent` was reached.
    pub concurrent_rejects: u64,
    /// Times that a query found all upstreams of its stanza down.
    pub all_down: u64,
    /// Connections that clients opened.
    pub connections: u64,
    /// Connections of clients that were closed at once: all places, or all of their address, taken.
    pub connections_refused: u64,
    /// Handshakes with clients, over TLS.
    pub handshakes: Handshakes,
    /// Errors of queries that were to be logged and found no room on their way.
    pub errors_lost: u64,
    /// Lines of the query log that found no room on their way.
    pub log_lost: u64,
    /// Messages for `dnstap` that found none.
    pub tap_lost: u64,
    /// Counters of the stages of server blocks.
    pub stages: StageStats,
    /// Signed queries of clients where `tsig` is for them, in the order of
    /// [`TSIG_RESULT_NAMES`].
    pub tsig: [u64; TSIG_RESULTS],
    /// Queries that needed the answers to others.
    pub parked: ParkedStats,
    /// From queries to their replies, of all that were understood.
    pub latency: Latency,
    /// Times that the worker panicked and was started afresh.
    pub panics: u64,
    /// By upstream, in the order of the configuration.
    pub upstreams: Vec<UpstreamStats>,
    /// By cache, in the order of the server blocks that have one.
    pub caches: Vec<CacheStats>,
    /// By template, in the order of the configuration.
    pub templates: Vec<TemplateStats>,
}

/// Queries that needed the answers to others, which the server asked itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParkedStats {
    /// Queries that were parked.
    pub queries: u64,
    /// Queries that were asked for them.
    pub asked: u64,
    /// Queries that were not, because too many led to one another.
    pub too_deep: u64,
    /// Queries that were not, because one of a client's had too many asked for it.
    pub too_many: u64,
    /// Queries that were not parked, because as many were as may be.
    pub full: u64,
    /// Replies that were not kept, because all of them would have had too many bytes.
    pub too_large: u64,
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
    /// Looked at, and let through.
    pub passed: u64,
    /// Answered.
    pub answered: u64,
    /// Refused, or failed.
    pub refused: u64,
    /// Dropped without a reply.
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
                #[doc = concat!("What `", $name, "` did.")]
                pub $module: StageCounts,
            )?)*
        }

        impl StageStats {
            /// Each with its name.
            pub fn named(&self) -> Vec<(&'static str, StageCounts)> {
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
    /// Attempts that nobody answered in time.
    pub timed_out: u64,
    /// Attempts whose connection failed (refused, unreachable, could not be opened).
    pub failed: u64,
    /// Responses that refused EDNS, after which the query went out again without it.
    pub edns_refused: u64,
    /// Errors without a question.
    pub bare_errors: u64,
    /// From attempts to the responses that were believed.
    pub latency: Latency,
    /// Connections of the UDP pool.
    pub pool: PoolStats,
    /// Connections of the TCP or TLS pool.
    pub tcp: PoolStats,
    /// Handshakes with it, over TLS.
    pub handshakes: Handshakes,
}

/// TLS handshakes of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// Finished, from the first to the last of it.
    pub full: u64,
    /// Finished by resuming an earlier session.
    pub resumed: u64,
    /// Ended otherwise, by [`TlsFault`].
    pub failed: [u64; TLS_FAULTS],
    /// Times that one had to wait because others had taken the time there is for them.
    pub deferred: u64,
    /// Durations of finished handshakes, the connection's own included.
    pub took: Latency,
}

impl Handshakes {
    /// Counts one that is finished.
    pub fn count(&mut self, resumed: bool, took: Duration) {
        *(if resumed { &mut self.resumed } else { &mut self.full }) += 1;
        self.took.add(took);
    }

    /// Counts one that is not.
    pub fn fail(&mut self, fault: TlsFault) {
        self.failed[fault as usize] += 1;
    }

    /// Adds another's counters.
    pub fn add(&mut self, other: &Self) {
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
    /// Dialled.
    pub opened: u64,
    /// Taken from the pool again.
    pub reused: u64,
    /// Batches that shared a busy connection because the pool was at its limit.
    pub shared: u64,
    /// Closed for having been idle for `expire`.
    pub expired: u64,
    /// Closed for having reached `max_age`.
    pub aged: u64,
    /// Closed because the pool was larger than it needed to be, or `max_idle_conns` was reached.
    pub surplus: u64,
    /// Closed because a query on it timed out or its socket failed.
    pub broken: u64,
    /// Closed though usable, so that others take their place: distrusted, or for balance.
    pub renewed: u64,
    /// Queries that were stuck behind others on a connection and were asked again on another.
    pub moved: u64,
    /// Times that a query was stuck and could not be: no other connection, or enough was asked
    /// again.
    pub unmoved: u64,
    /// Queries that were asked again at no cost because their connection ended behind an answer.
    pub asked_again: u64,
    /// Connections dialled while the upstream was known to close them after a few answers.
    pub limited: u64,
    /// Ages of connections when they were closed, by [`Reason`].
    pub ages: [Ages; REASONS],
}

/// Reason why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Reason {
    /// Idle for `expire`.
    Expired,
    /// As old as `max_age` allows.
    Aged,
    /// Idle beyond `max_idle_conns`.
    Spare,
    /// The pool was larger than it needed to be.
    Surplus,
    /// A query on it timed out.
    Silent,
    /// The socket failed, or the upstream closed the connection.
    Failed,
    /// Nothing is to be sent any more.
    Stopped,
    /// Others like it failed, so it may lead to where too many do.
    Distrusted,
    /// `rebalance`: it was old.
    Rebalanced,
}

/// Number of reasons.
pub const REASONS: usize = Reason::Rebalanced as usize + 1;
/// Names of the reasons in metrics.
pub const REASON_NAMES: [&str; REASONS] = [
    "expire",
    "max_age",
    "max_idle_conns",
    "surplus",
    "timeout",
    "error",
    "stop",
    "distrust",
    "rebalance",
];
/// Up to how many seconds old connections were that are counted together.
pub const AGES: [u32; 11] = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600];

/// Ages of connections when they were closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ages {
    /// By [`AGES`], and those that were older.
    pub counts: [u64; AGES.len() + 1],
    /// All together, in milliseconds.
    pub sum_ms: u64,
}

impl Ages {
    /// Counts one.
    pub fn add(&mut self, age: Duration) {
        let place = AGES.partition_point(|edge| Duration::from_secs((*edge).into()) < age);
        self.counts[place] += 1;
        self.sum_ms += age.as_millis() as u64;
    }

    fn merge(&mut self, other: &Self) {
        add_each(&mut self.counts, &other.counts);
        self.sum_ms += other.sum_ms;
    }
}

/// One cache's counters. What it was asked for is hits and misses together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Questions looked up.
    pub requests: u64,
    /// Replies from it, by class: answers and denials. Stale ones count.
    pub hits: [u64; 2],
    /// Replies from it after they had expired.
    pub stale: u64,
    /// Refreshes begun before or after an answer expired while the client was served.
    pub refreshes: u64,
    /// Responses stored, by class.
    pub stored: [u64; 2],
    /// Usable answers that had to go because there was no room, by class.
    pub evicted: [u64; 2],
    /// Answers that had expired when they went.
    pub expired: u64,
    /// Answers that are stored now, by class; those that have expired are among them.
    pub entries: [u64; 2],
    /// Bytes that they take.
    pub bytes: u64,
}

impl CacheStats {
    /// Counts the removal of the stored data.
    pub fn empty(&mut self) {
        (self.entries, self.bytes) = ([0; 2], 0);
    }

    /// Adds another's counters.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.stale += other.stale;
        self.refreshes += other.refreshes;
        self.expired += other.expired;
        self.bytes += other.bytes;
        add_each(&mut self.entries, &other.entries);
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

    /// Adds another's counters, those of an earlier engine with the same upstreams or of another
    /// worker.
    pub fn add(&mut self, other: &Self) {
        self.queries += other.queries;
        self.coalesced += other.coalesced;
        self.overloaded += other.overloaded;
        self.panics += other.panics;
        self.concurrent_rejects += other.concurrent_rejects;
        self.all_down += other.all_down;
        self.connections += other.connections;
        self.connections_refused += other.connections_refused;
        self.handshakes.add(&other.handshakes);
        self.errors_lost += other.errors_lost;
        self.latency.merge(&other.latency);
        self.log_lost += other.log_lost;
        self.tap_lost += other.tap_lost;
        self.stages.add(&other.stages);
        self.parked.add(&other.parked);
        add_each(&mut self.replies, &other.replies);
        add_each(&mut self.drops, &other.drops);
        add_each(&mut self.tsig, &other.tsig);
        self.upstreams.resize(other.upstreams.len().max(self.upstreams.len()), Default::default());
        for (own, other) in self.upstreams.iter_mut().zip(&other.upstreams) {
            own.add(other);
        }
        self.caches.resize(other.caches.len().max(self.caches.len()), Default::default());
        for (own, other) in self.caches.iter_mut().zip(&other.caches) {
            own.add(other);
        }
        if self.templates.is_empty() {
            self.templates.clone_from(&other.templates);
        } else {
            let others = self.templates.iter_mut().zip(&other.templates);
            others.for_each(|(own, other)| own.add(other));
        }
    }

    /// Packets dropped for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// Replies of every kind.
    pub fn replied(&self) -> u64 {
        self.replies.iter().sum()
    }
}

impl StageCounts {
    /// Counts what was made of a query, and returns it.
    pub fn count(&mut self, step: Step) -> Step {
        *match step {
            Step::Continue | Step::Park => &mut self.passed,
            Step::Replied(_) | Step::Open(_) | Step::Later(..) => &mut self.answered,
            Step::Refused(..) => &mut self.refused,
            Step::Dropped => &mut self.dropped,
        } += 1;
        step
    }

    /// Returns the difference from `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            passed: self.passed - earlier.passed,
            answered: self.answered - earlier.answered,
            refused: self.refused - earlier.refused,
            dropped: self.dropped - earlier.dropped,
        }
    }

    /// Adds another's counters.
    pub fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.answered += other.answered;
        self.refused += other.refused;
        self.dropped += other.dropped;
    }
}

impl UpstreamStats {
    /// Adds another's counters.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.timed_out += other.timed_out;
        self.failed += other.failed;
        self.edns_refused += other.edns_refused;
        self.bare_errors += other.bare_errors;
        self.latency.merge(&other.latency);
        self.pool.add(&other.pool);
        self.tcp.add(&other.tcp);
        self.handshakes.add(&other.handshakes);
    }
}

impl PoolStats {
    /// Adds another's counters.
    pub fn add(&mut self, other: &Self) {
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
