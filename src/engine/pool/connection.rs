//! State of one connection in its pool: a slot of the slab with age and load.
//!
//! A connection is idle (on the idle list), busy (on the busy list), or retiring (on neither, until
//! the last query on it ends); otherwise its slot is vacant. Only the pool changes these states.

use super::mismatches::Mismatches;
use crate::engine::heap::Aging;
use crate::engine::key::ConnectionId;
use crate::engine::list::Link;
use crate::engine::stats::Reason;
use crate::moment::{Moment, nanos};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) generation: u32,
    pub(super) pool: u32,
    pub(super) open: bool,
    /// Queries on it that have not ended.
    pub(super) outstanding: u32,
    /// Takes no new query and is closed when `outstanding` is zero: on neither list.
    pub(super) retiring: Option<Reason>,
    pub(super) retire_at: Moment,
    pub(super) idle_since: Moment,
    pub(super) age_place: Option<u32>,
    pub(super) idle: bool,
    /// Deadline of the dial of a TCP connection that is not connected yet.
    pub(super) dial_until: Option<Moment>,
    pub(super) dial_link: Link,
    pub(super) dialled_at: Moment,
    /// Number of answers received; if the peer closes the connection after one, no query is at
    /// fault.
    pub(super) answers: u32,
    /// Number of queries sent, outstanding ones included.
    pub(super) carried: u32,
    /// Responses on the UDP connection that matched no query.
    pub(super) mismatches: Mismatches,
    /// Number of queries asked elsewhere whose answers may still arrive here.
    pub(super) left: u32,
    /// Maximum number of older queries that an answer on this TCP connection has overtaken: the
    /// upstream works on that many at the same time besides another.
    pub(super) depth: u32,
    /// Time when the TCP connection was connected, and time of its last progress (an answer or the
    /// connect).
    pub(super) connected_at: Moment,
    pub(super) progress: Moment,
    /// Time when the connection was last found not to be blocked; valid while it equals now.
    pub(super) free_at: Moment,
    /// An answer has arrived since the connection was last idle.
    pub(super) served: bool,
    /// The connection is sorted after the busy ones that have room.
    pub(super) set_back: bool,
    /// All queries of the connection have been answered once, or its handshake has succeeded.
    pub(super) tried: bool,
    /// The connection that this one replaces, with the reason; `replaced`: a successor was dialled.
    pub(super) replaces: Option<(ConnectionId, Reason)>,
    pub(super) replaced: bool,
    /// Link in the pool's idle or busy list, as `idle` says, unless it is retiring.
    pub(super) link: Link,
}

impl Connection {
    /// A slot that serves no connection.
    pub(super) const fn vacant() -> Self {
        Self {
            generation: 0,
            pool: 0,
            open: false,
            outstanding: 0,
            retiring: None,
            retire_at: Moment::FOREVER,
            idle_since: Moment::ZERO,
            age_place: None,
            idle: false,
            dial_until: None,
            dial_link: Link::OFF,
            dialled_at: Moment::ZERO,
            answers: 0,
            carried: 0,
            mismatches: Mismatches::NONE,
            left: 0,
            depth: 0,
            connected_at: Moment::ZERO,
            progress: Moment::ZERO,
            free_at: Moment::ZERO,
            served: false,
            set_back: false,
            tried: false,
            replaces: None,
            replaced: false,
            link: Link::OFF,
        }
    }
}

impl Connection {
    /// Resets what the closed connection has shown about itself.
    pub(super) fn forget_trials(&mut self) {
        self.tried = false;
        self.replaced = false;
        self.mismatches = Mismatches::NONE;
    }
}

impl Aging for Connection {
    fn due(&self) -> Moment {
        self.retire_at
    }
    fn place(&mut self) -> &mut Option<u32> {
        &mut self.age_place
    }
}

/// Returns `max_age` less a random part of up to `jitter` percent.
pub(super) fn jittered(max_age: Duration, jitter: u8, random: u32) -> Duration {
    let whole = nanos(max_age);
    let span = u128::from(whole) * u128::from(jitter.min(100)) / 100;
    let early = (span * u128::from(random)) >> u32::BITS;
    Duration::from_nanos(whole - early as u64)
}

#[cfg(test)]
mod tests {
    use super::jittered;
    use std::time::Duration;

    #[test]
    fn jitter_is_a_percentage_of_max_age_and_zero_means_none() {
        let max_age = Duration::from_secs(200);
        let at = |jitter, random| jittered(max_age, jitter, random).as_secs_f64().round();
        assert_eq!([at(10, 0), at(10, 1 << 31), at(10, u32::MAX)], [200.0, 190.0, 180.0]);
        assert_eq!([at(0, 0), at(0, u32::MAX), at(50, u32::MAX)], [200.0, 200.0, 100.0]);
    }
}
