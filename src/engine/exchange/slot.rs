//! A slot of the table of outstanding queries.
//!
//! Plain data: the progress of one query, and its places in the queues of [`super::Exchanges`],
//! which alone changes those. The forwarder reads and changes the public fields, which say how the
//! query goes on.

use crate::engine::key::{ConnectionId, Transport};
use crate::engine::list::{Link, NONE};
use crate::engine::policy::Tour;
use crate::moment::Moment;

/// Response over UDP that is not accepted, and after which the query is asked over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WrongResponse {
    /// A burst of responses that match no query.
    Mismatch,
    /// Another letter case than that of the query, or no question.
    Case,
}

/// One forwarded query.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange {
    pub(super) generation: u32,
    pub(super) open: bool,
    /// Hash of its text, under which other clients find it.
    pub(super) hash: u32,
    /// Length of the query as written, without options added on the way upstream.
    pub(super) query_len: u16,
    /// Length of the query as the current or last attempt sent it.
    pub(super) sent_len: u16,
    pub(super) name_len: u16,
    /// Number of the current stanza.
    pub(crate) stanza: u32,
    /// Number of the upstream of the current or last attempt.
    pub(crate) upstream: u32,
    /// Transport of the next attempt, unless the upstream supports only one; earlier attempts may
    /// have used another.
    pub(crate) transport: Transport,
    /// Transport of the current or last attempt.
    pub(super) asked_over: Transport,
    /// First stanza and transport, under which other clients find it.
    pub(super) began: (u32, Transport),
    /// Order in which the stanza's upstreams are tried.
    pub(crate) tour: Tour,
    /// Number of attempts that ended in an error.
    pub(crate) failures: u32,
    /// Number of responses that were held back for a better one.
    pub(crate) failovers: u32,
    /// Number of free retries: attempts that ended with a connection that had worked before.
    pub(crate) excused: u32,
    /// Response code for which the current or last attempt was made without EDNS; otherwise zero.
    pub(crate) refusal: u16,
    /// The first stanza randomises the case of letters, and the waiters keep the clients' spelling.
    pub(crate) randomizes: bool,
    /// The response to the current attempt must repeat the case of letters.
    pub(crate) is_spelt: bool,
    /// Wrong response over UDP that forced the current attempt over TCP.
    pub(crate) forced: Option<WrongResponse>,
    /// Number of moves to another connection because it was stuck behind other queries.
    pub(crate) moves: u32,
    /// Connection and id of the current attempt.
    pub(super) attempt: Option<(ConnectionId, u16)>,
    pub(super) attempt_until: Moment,
    pub(super) until: Moment,
    /// Index of the attempts' time-out in those given to [`super::Exchanges::new`].
    pub(crate) timeout_class: u32,
    /// Index of its queue in `by_age`.
    pub(super) age_class: u32,
    pub(super) joinable: bool,
    /// The result may be stored in the server block's cache.
    pub(super) cacheable: bool,
    /// End of the client response timer, when clients get the expired answer. [`Moment::FOREVER`]:
    /// there is none. In the past: it was sent.
    pub(super) response_timer_until: Moment,
    pub(super) response_timer_class: u32,
    pub(super) first_waiter: u32,
    pub(super) last_waiter: u32,
    pub(super) by_attempt: Link,
    pub(super) by_age: Link,
    pub(super) on_connection: Link,
    pub(super) by_patience: Link,
}

impl Exchange {
    pub(super) const VACANT: Self = Self {
        generation: 0,
        open: false,
        hash: 0,
        query_len: 0,
        sent_len: 0,
        name_len: 0,
        stanza: 0,
        upstream: 0,
        transport: Transport::Udp,
        asked_over: Transport::Udp,
        began: (0, Transport::Udp),
        tour: Tour::NEW,
        failures: 0,
        failovers: 0,
        excused: 0,
        refusal: 0,
        randomizes: false,
        is_spelt: false,
        forced: None,
        moves: 0,
        attempt: None,
        attempt_until: Moment::FOREVER,
        until: Moment::FOREVER,
        timeout_class: 0,
        age_class: 0,
        joinable: false,
        first_waiter: NONE,
        last_waiter: NONE,
        by_attempt: Link::OFF,
        by_age: Link::OFF,
        on_connection: Link::OFF,
        cacheable: false,
        response_timer_until: Moment::FOREVER,
        response_timer_class: 0,
        by_patience: Link::OFF,
    };
}
