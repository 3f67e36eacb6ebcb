//! Laws: invariants that hold in every run.
//!
//! Each worker has a model of its engine's counters, derived only from the shell's observations.
//! Every query that arrives waits here until its reply is sent; connections and their queries are
//! in [`super::connections`]. A violated law ends the run with its name. Replies are judged by one
//! convention: every response that no honest upstream would send has the AA bit, and the right
//! address follows from the name ([`onward::traffic::answer`]).

use super::common::wire::word_at;
use super::connections::Connections;
use super::plan::{Plan, ms};
use onward::engine::key::ConnectionKey;
use onward::engine::stats::{DropReason, Stats};
use onward::engine::{Client, Forwarder};
use onward::moment::Moment;
use onward::traffic::answer::is_right;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

/// Maximum time from a deadline to the end of the turn that handles it: the poll's millisecond and
/// its delay.
pub(crate) const TICK: Duration = ms(12);
/// Maximum time for which a query is outstanding.
const QUERY_MAX: Duration = Duration::from_secs(5);
/// The AA bit, mark of a forged response. Together with the reserved bit: malformed.
pub(crate) const FORGED: u16 = 0x0400;
pub(crate) const BROKEN: u16 = 0x0440;

/// Ends the run unless `holds`.
#[track_caller]
pub(crate) fn require(holds: bool, law: &str, how: impl FnOnce() -> String) {
    assert!(holds, "broken law: {law}: {}", how());
}

/// The question's bytes in `packet`; empty unless there is exactly one complete question.
pub(crate) fn question(packet: &[u8]) -> &[u8] {
    let one = packet.len() > 12 && word_at(packet, 4) == 1;
    let mut end = 12;
    while let Some(len @ 1..) = packet.get(end) {
        end += 1 + usize::from(*len);
    }
    if one { packet.get(12..end + 5).unwrap_or_default() } else { &[] }
}

/// A query without a reply yet.
struct Waiting {
    packet: Vec<u8>,
    number: u64,
}

/// The model's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Books {
    pub(crate) queries: u64,
    pub(crate) replies: u64,
    pub(crate) right: u64,
    /// Queries that were dropped silently, as required.
    pub(crate) silenced: u64,
    /// Queries whose client had left before the reply.
    pub(crate) forgotten: u64,
    /// Replies that were written but could not be sent; the next field counts queries to upstreams.
    pub(crate) unsent: u64,
    pub(crate) unsendable: u64,
    pub(crate) believed: u64,
    pub(crate) disbelieved: u64,
    pub(crate) reloads: u64,
}

/// The model of one worker's engine.
pub(crate) struct Laws {
    /// True if every query must get its right answer.
    pub(crate) calm: bool,
    pub(crate) books: Books,
    pub(crate) connections: Connections,
    /// Outstanding queries of each client, in order of arrival.
    waiting: HashMap<(SocketAddr, Option<ConnectionKey>), Vec<Waiting>>,
    since: BTreeMap<u64, Moment>,
}

impl Laws {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            calm: plan.calm,
            books: Books::default(),
            connections: Connections::new(plan),
            waiting: HashMap::new(),
            since: BTreeMap::new(),
        }
    }

    /// The engine receives a query.
    pub(crate) fn asked(&mut self, now: Moment, client: Client, packet: &[u8]) {
        self.books.queries += 1;
        if client.peer.port() == 0 || packet.len() < 12 || packet[2] & 0x80 != 0 {
            self.books.silenced += 1;
            return;
        }
        let number = self.books.queries;
        self.since.insert(number, now);
        let waiting = self.waiting.entry((client.peer, client.via.connection())).or_default();
        waiting.push(Waiting { packet: packet.to_vec(), number });
    }

    /// The engine has written a reply for `client`.
    pub(crate) fn replied(&mut self, client: Client, reply: &[u8]) {
        self.books.replies += 1;
        let (id, asked) = (word_at(reply, 0), question(reply));
        let query = self.take(client, |query| {
            let same = asked == question(query) || asked.is_empty() && !is_plain(query);
            query[..2] == reply[..2] && same
        });
        let law = "a reply goes to who asked, once, with the id and the letters of the query";
        require(query.is_some(), law, || format!("{client:?}, {id:#x}, {asked:?}"));
        let query = query.unwrap_or_default();
        let flags = word_at(reply, 2);
        let words = || format!("{flags:#06x} for {query:?}");
        require(flags & 0x8000 != 0, "a reply is a response", words);
        require(flags & FORGED == 0, "nothing forged is believed", words);
        let carried = flags & 0x0110 == word_at(&query, 2) & 0x0110;
        require(carried, "RD and CD are the client's", words);
        if !is_plain(&query) {
            let refused = matches!(flags & 15, 1 | 4);
            return require(refused, "what cannot be forwarded is refused", words);
        }
        let edns = word_at(&query, 10) == 1;
        if client.via.connection().is_none() {
            let size = if edns { word_at(&query, 12 + asked.len() + 3) } else { 512 };
            let limit = usize::from(size.clamp(512, 1232));
            require(reply.len() <= limit, "a reply fits", || format!("{}", reply.len()));
        }
        require(edns || word_at(reply, 10) == 0, "no OPT where none was sent", words);
        self.judge(client, &query, reply);
    }

    /// Checks a reply to a query that could be forwarded.
    fn judge(&mut self, client: Client, query: &[u8], reply: &[u8]) {
        let (flags, answers) = (word_at(reply, 2), word_at(reply, 6));
        let words = || format!("{flags:#06x} with {answers} answers to {query:?}");
        let (rcode, cut) = (flags & 15, flags & 0x0200 != 0);
        if rcode == 0 && answers > 0 {
            let mut whole = reply.to_vec();
            whole[2] &= !0x02;
            require(is_right(query, &whole), "a positive answer is the right one", words);
            self.books.right += 1;
        }
        require(matches!(rcode, 0 | 2 | 3 | 5), "no response code is made up", words);
        let answered = rcode == 0 && answers > 0;
        require(answered || !self.calm, "on a calm day every query is answered", words);
        let whole = !cut || !self.calm || client.via.connection().is_none();
        require(whole, "on a calm day nothing is cut on a connection", words);
    }

    /// The engine has written a reply for a client whose connection is closed.
    pub(crate) fn replied_to_nobody(&mut self, client: Client) {
        self.books.replies += 1;
        self.books.unsent += 1;
        let waited = self.take(client, |_| true).is_some();
        require(waited, "a reply is written only if somebody waits", || format!("{client:?}"));
    }

    /// The reply to `client` cannot be delivered, because its connection is closed.
    pub(crate) fn forgot(&mut self, client: Client) {
        self.books.forgotten += 1;
        let waited = self.take(client, |_| true).is_some();
        require(waited, "a reply is forgotten only if somebody waits", || format!("{client:?}"));
    }

    /// Number of outstanding queries.
    pub(crate) fn waiting(&self) -> usize {
        self.since.len()
    }

    /// Checks the laws at the end of a turn, when nothing is left to be written, sent or closed.
    pub(crate) fn check(&mut self, now: Moment, engine: &Forwarder) {
        if let Some((_, since)) = self.since.first_key_value() {
            let waited = now.since(*since);
            let law = "every query gets a reply within five seconds";
            require(waited <= QUERY_MAX + TICK, law, || format!("{waited:?}"));
        }
        let (own, twin) = (engine.outstanding(), self.waiting());
        let law = "an exchange is there because and only as long as somebody waits";
        let right = own <= twin && (own > 0) == (twin > 0);
        require(right, law, || format!("{own} exchanges, {twin} wait"));
        let stats = engine.stats();
        self.check_books(&stats);
        self.connections.check(now, engine, &stats);
    }

    fn check_books(&self, stats: &Stats) {
        let (books, waiting) = (&self.books, self.waiting() as u64);
        let equal = |what: &str, engine: u64, twin: u64| {
            require(engine == twin, "the books agree", || format!("{what}: {engine} for {twin}"));
        };
        let dropped = |reasons: &[DropReason]| reasons.iter().map(|why| stats.dropped(*why)).sum();
        let silenced = dropped(&[
            DropReason::QueryTooShort,
            DropReason::QueryIsResponse,
            DropReason::QueryFromPortZero,
            DropReason::QueryDenied,
        ]);
        let accounted = stats.replied() + silenced + books.forgotten + waiting;
        equal("queries = replies + drops + outstanding", stats.queries, accounted);
        equal("queries", stats.queries, books.queries);
        equal("replies", stats.replied(), books.replies);
        equal("dropped queries", silenced, books.silenced);
        let unsent: u64 = dropped(&[DropReason::ReplyNotSent]);
        equal("replies not sent", unsent, books.forgotten + books.unsent);
        let disbelieved = dropped(&[
            DropReason::ResponseMalformed,
            DropReason::ResponseUnmatched,
            DropReason::ResponseRepeated,
            DropReason::ResponseWrongQuestion,
        ]);
        equal("disbelieved", disbelieved, books.disbelieved);
        equal("queries not sent", dropped(&[DropReason::QueryNotSent]), books.unsendable);
        let answered = stats.upstreams.iter().map(|upstream| upstream.answered).sum();
        equal("answered", answered, books.believed);
        equal("overloaded", stats.overloaded, 0);
    }

    /// Removes the first query of `client` for which `is_it` is true.
    fn take(&mut self, client: Client, is_it: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let key = (client.peer, client.via.connection());
        let group = self.waiting.get_mut(&key)?;
        let place = group.iter().position(|waiting| is_it(&waiting.packet))?;
        let taken = group.remove(place);
        if group.is_empty() {
            self.waiting.remove(&key);
        }
        self.since.remove(&taken.number);
        Some(taken.packet)
    }
}

/// Returns true if a query can be forwarded: one complete question, and at most an OPT behind it.
fn is_plain(query: &[u8]) -> bool {
    !question(query).is_empty()
        && word_at(query, 2) & 0xf800 == 0
        && [4, 6, 8].map(|at| word_at(query, at)) == [1, 0, 0]
        && word_at(query, 10) <= 1
}
