//! Pools of TCP connections: differences from UDP.
//!
//! [`super::sharing`] decides which TCP connection a query takes; this module opens and closes
//! them. Connecting takes a round trip, or for ever, so each dial has a deadline that follows the
//! duration of recent dials to this upstream. A query should not pay for the handshake, so a TCP
//! connection that grows too old is replaced first and retires when its successor is connected. An
//! upstream may close a TCP connection at any time: the queries on it are repeated at no cost if it
//! had answered.

use super::{PoolSettings, Pools};
use crate::engine::key::ConnectionId;
use crate::engine::list::List;
use crate::engine::stats::Reason;
use crate::moment::Moment;
use std::time::Duration;

/// Average dial time before any dial has succeeded.
const DIAL_FIRST: Duration = Duration::from_secs(15);
/// Bounds of the deadline of a dial.
const DIAL_MIN: Duration = Duration::from_secs(1);
const DIAL_MAX: Duration = Duration::from_secs(30);
/// A TCP connection whose successor is being dialled is kept for this part of `max_age` at most.
pub(super) const GRACE_DIVISOR: u32 = 20;

/// Maximum number of a pool's dials at once beside the traffic.
const DIALS_AHEAD_MAX: usize = 8;

/// Shortest announced time for which an idle connection is kept: a unit of edns-tcp-keepalive, and
/// about three probe time-outs of QUIC, which no server undercuts (RFC 9000 §10.1). Otherwise each
/// query could cost a handshake.
const ANNOUNCED_MIN: Duration = Duration::from_millis(100);

/// Pause of dials after a handshake that rejected the upstream's identity, because each handshake
/// costs a worker much more than a query and would fail again.
const HANDSHAKE_PAUSE: Duration = Duration::from_millis(100);

/// The dials of one pool.
#[derive(Debug)]
pub(super) struct Dials {
    pending: List,
    /// Moving average of the duration of successful dials. Failures do not count: an upstream that
    /// was unreachable for a while is not slow when it is back.
    average: Duration,
    /// No pending dial has a later deadline.
    latest: Moment,
    listed: bool,
    /// No dial begins before this time.
    paused_until: Moment,
}

impl Default for Dials {
    fn default() -> Self {
        Self {
            pending: List::default(),
            average: DIAL_FIRST,
            latest: Moment::ZERO,
            listed: false,
            paused_until: Moment::ZERO,
        }
    }
}

impl Dials {
    fn timeout(&self) -> Duration {
        match self.average {
            average if average < DIAL_MIN => DIAL_MIN,
            average => (2 * average).min(DIAL_MAX),
        }
    }

    /// Returns the number of dials.
    pub(super) fn count(&self) -> usize {
        self.pending.len()
    }

    /// Returns true if no dial may begin now.
    pub(super) fn are_paused(&self, now: Moment) -> bool {
        now < self.paused_until
    }

    fn took(&mut self, elapsed: Duration) {
        self.average = self.average * 3 / 4 + elapsed / 4;
    }
}

impl Pools {
    /// Dials one more connection beside the traffic if the pool has fewer than its spread. The pool
    /// grows only as far as rotation is fast enough to keep its TCP connections from expiring.
    pub(super) fn dial_ahead(&mut self, pool: usize, now: Moment, random: u32) {
        let state = &self.pools[pool];
        let PoolSettings { spread, max_conns, expire, .. } = state.settings;
        let slow = |slot: u32| self.connections[slot as usize].idle_since.plus(expire / 4) <= now;
        if state.usable() >= spread
            || state.len() >= max_conns
            || state.dials.count() >= DIALS_AHEAD_MAX
            || state.dials.are_paused(now)
            || state.idle.front().is_some_and(slow)
        {
            return;
        }
        let new = self.dial(pool, now, random);
        self.lay_aside(new, now);
    }

    /// Moves the TCP connection in `slot`, which is being dialled, to the idle ones until it is
    /// connected.
    fn lay_aside(&mut self, slot: u32, idle_since: Moment) {
        let member = &mut self.connections[slot as usize];
        let state = &mut self.pools[member.pool as usize];
        state.busy.remove(&mut self.connections, slot, |member| &mut member.link);
        let member = &mut self.connections[slot as usize];
        (member.idle, member.idle_since) = (true, idle_since);
        state.idle.push_back(&mut self.connections, slot, |member| &mut member.link);
        self.to_dial.push(self.id(slot));
    }

    /// Records that the TCP connection is connected.
    pub(crate) fn connected(&mut self, connection: ConnectionId, now: Moment) {
        let Some(slot) = self.slot(connection) else { return };
        let member = &self.connections[slot as usize];
        let (pool, elapsed) = (member.pool as usize, now.since(member.dialled_at));
        let replaces = member.replaces;
        if member.dial_until.is_some() {
            // The server may have another limit by now, or none.
            let state = &mut self.pools[pool];
            state.settings.expire = state.expire_configured;
            state.dials.took(elapsed);
            self.pools[pool].pace.connected(elapsed);
            self.end_dial(slot);
            let member = &mut self.connections[slot as usize];
            (member.connected_at, member.progress) = (now, now);
        }
        // The handshake is the only evidence about the backend before the connection is used.
        if !std::mem::replace(&mut self.connections[slot as usize].tried, true) {
            self.pools[pool].trust.answered(now, true);
        }
        if let Some((old, reason)) = replaces
            && let Some(old) = self.slot(old)
        {
            self.put_out(old, reason);
        }
    }

    /// Pauses the dials of a pool for a moment, because the peer of `connection` cannot be trusted.
    pub(crate) fn pause_dials(&mut self, connection: ConnectionId, now: Moment) {
        if let Some(pool) = self.pool_of(connection) {
            self.pools[pool].dials.paused_until = now.plus(HANDSHAKE_PAUSE);
        }
    }

    /// Returns the time since the connection was dialled.
    pub(crate) fn age(&self, connection: ConnectionId, now: Moment) -> Duration {
        let slot = self.slot(connection);
        slot.map_or(Duration::ZERO, |slot| now.since(self.connections[slot as usize].dialled_at))
    }

    /// Returns true if it is a TCP connection that is not connected yet.
    pub(crate) fn is_dialling(&self, connection: ConnectionId) -> bool {
        let slot = self.slot(connection);
        slot.is_some_and(|slot| self.connections[slot as usize].dial_until.is_some())
    }

    /// Records that the upstream or the network closed the TCP connection, which is about to be
    /// broken off. Returns true if it had carried an answer: its queries are then repeated at no
    /// cost (RFC 7766 §6.2.4). If it has not answered since it was idle, older idle TCP connections
    /// are assumed dead as well and closed.
    pub(crate) fn ended(&mut self, connection: ConnectionId, now: Moment) -> bool {
        let Some(slot) = self.slot(connection) else { return false };
        let member = &self.connections[slot as usize];
        let (pool, answers, dialled_at) = (member.pool as usize, member.answers, member.dialled_at);
        let cut_off = member.outstanding > 0;
        if answers > 0 && member.served {
            self.pools[pool].pace.ended(now, answers, cut_off);
        } else if answers > 0 && cut_off {
            while let Some(idle) = self.pools[pool].idle.front()
                && self.connections[idle as usize].dialled_at <= dialled_at
            {
                self.close(idle, Reason::Failed);
            }
        }
        answers > 0
    }

    /// Handles the upstream's announcement that it takes no more queries on the connection.
    pub(crate) fn closes(&mut self, connection: ConnectionId, now: Moment) {
        let Some(slot) = self.slot(connection) else { return };
        let member = &self.connections[slot as usize];
        if member.answers > 0 && member.served {
            let pace = &mut self.pools[member.pool as usize].pace;
            pace.ended(now, member.answers, member.outstanding > 0);
        }
        self.put_out(slot, Reason::Expired);
    }

    /// Returns true if the connection has carried an answer.
    pub(crate) fn has_answered(&self, connection: ConnectionId) -> bool {
        self.slot(connection).is_some_and(|slot| self.connections[slot as usize].answers > 0)
    }

    /// Applies the idle `limit` that the upstream announced (RFC 7828 §3.4), so that we close
    /// first. It holds until another is announced, or another connection is connected.
    pub(crate) fn announce(&mut self, connection: ConnectionId, limit: Duration) {
        let Some(pool) = self.pool_of(connection) else { return };
        let state = &mut self.pools[pool];
        state.settings.expire = state.expire_configured.min(limit.max(ANNOUNCED_MIN));
        self.arm(pool);
    }

    /// Handles the upstream's wish that this connection is closed (RFC 7828 §3.4).
    pub(crate) fn leave(&mut self, connection: ConnectionId) {
        if let Some(slot) = self.slot(connection) {
            self.put_out(slot, Reason::Expired);
        }
    }

    /// Returns the next TCP connection to dial although no query waits for it.
    pub(crate) fn next_dial(&mut self) -> Option<ConnectionId> {
        self.to_dial.pop()
    }

    /// Returns a TCP connection whose dial has taken too long.
    pub(crate) fn overdue_dial(&self, now: Moment) -> Option<ConnectionId> {
        let late = |(slot, until): (u32, Moment)| (until <= now).then(|| self.id(slot));
        self.first_dials().find_map(late)
    }

    /// Returns the time at which [`Pools::overdue_dial`] returns the next connection.
    pub(crate) fn next_dial_deadline(&self) -> Option<Moment> {
        self.first_dials().map(|(_, until)| until).min()
    }

    /// Returns the oldest dial of each pool that dials, with its deadline.
    fn first_dials(&self) -> impl Iterator<Item = (u32, Moment)> {
        self.dialling.iter().filter_map(|pool| {
            let slot = self.pools[*pool as usize].dials.pending.front()?;
            Some((slot, self.connections[slot as usize].dial_until?))
        })
    }

    /// Number of TCP connections that are dialled to replace others.
    pub(super) fn successors(&self, pool: usize) -> usize {
        let dials = &self.pools[pool].dials.pending;
        let dials = dials.iter(&self.connections, |member| &member.dial_link);
        dials.filter(|slot| self.connections[*slot as usize].replaces.is_some()).count()
    }

    /// Sets the state of a TCP connection that is about to be dialled, with the deadline of its
    /// dial.
    pub(super) fn begin_tcp(&mut self, slot: u32, now: Moment) {
        let member = &mut self.connections[slot as usize];
        (member.answers, member.carried, member.left, member.depth) = (0, 0, 0, 0);
        (member.served, member.set_back) = (false, false);
        let pool = member.pool;
        let state = &mut self.pools[pool as usize];
        state.stats.limited += u64::from(state.pace.is_limited());
        let dials = &mut self.pools[pool as usize].dials;
        let until = now.plus(dials.timeout());
        member.dial_until = Some(until);
        // An earlier dial is given up no later, so that deadlines lie in the order of the list.
        if until < dials.latest {
            let mut next = dials.pending.front();
            while let Some(slot) = next {
                let earlier = &mut self.connections[slot as usize];
                earlier.dial_until = earlier.dial_until.min(Some(until));
                next = dials.pending.after(&self.connections, slot, |member| &member.dial_link);
            }
        }
        dials.latest = until;
        dials.pending.push_back(&mut self.connections, slot, |member| &mut member.dial_link);
        if !std::mem::replace(&mut dials.listed, true) {
            self.dialling.push(pool);
        }
    }

    /// Ends the dial of `slot`, successful or not; does nothing if there is none.
    pub(super) fn end_dial(&mut self, slot: u32) {
        let member = &mut self.connections[slot as usize];
        if member.dial_until.take().is_none() {
            return;
        }
        let pool = member.pool;
        let dials = &mut self.pools[pool as usize].dials;
        dials.pending.remove(&mut self.connections, slot, |member| &mut member.dial_link);
        if dials.pending.is_empty() {
            dials.listed = false;
            self.dialling.retain(|other| *other != pool);
        }
    }

    /// Handles the age limit of the TCP connection in `slot`. Returns true if it stays a little
    /// longer while its successor is dialled.
    pub(super) fn replace(&mut self, slot: u32, now: Moment, random: u32) -> bool {
        let member = &self.connections[slot as usize];
        let pool = member.pool as usize;
        let PoolSettings { tcp, owned, max_age, max_conns, .. } = self.pools[pool].settings;
        let full = self.pools[pool].len() >= max_conns;
        // An unused successor gets no successor: otherwise an idle pool would dial for ever.
        let wanted = tcp && !owned && member.answers > 0 && !member.replaced && !full;
        let Some(max_age) = max_age.filter(|_| wanted) else {
            return false;
        };
        self.pools[pool].ages.remove(&mut self.connections, slot);
        let member = &mut self.connections[slot as usize];
        member.retire_at = member.retire_at.plus(max_age / GRACE_DIVISOR);
        self.pools[pool].ages.push(&mut self.connections, slot);
        self.dial_successor(slot, Reason::Aged, now, random);
        true
    }

    /// Dials a TCP connection which, once connected, retires the one in `slot` for `reason`.
    pub(super) fn dial_successor(
        &mut self,
        slot: u32,
        reason: Reason,
        now: Moment,
        random: u32,
    ) -> u32 {
        let old = self.id(slot);
        let member = &mut self.connections[slot as usize];
        let pool = member.pool as usize;
        member.replaced = true;
        // Being replaced does not count as use: an unused TCP connection expires with its
        // successor.
        let idle_since = if member.idle { member.idle_since } else { now };
        let new = self.dial(pool, now, random);
        self.connections[new as usize].replaces = Some((old, reason));
        self.lay_aside(new, idle_since);
        new
    }

    /// Ends the succession of the closed TCP connection in `slot`. If it was to replace one that is
    /// merely doubted and is still there, another may try.
    pub(super) fn end_succession(&mut self, slot: u32) {
        let Some((old, reason)) = self.connections[slot as usize].replaces.take() else { return };
        if let Some(old) = self.slot(old).filter(|_| reason != Reason::Aged) {
            self.connections[old as usize].replaced = false;
        }
    }

    /// Retires the connection in `slot`, or closes it at once if no query is on it.
    pub(super) fn put_out(&mut self, slot: u32, reason: Reason) {
        if self.connections[slot as usize].outstanding == 0 {
            self.close(slot, reason);
        } else {
            self.retire(slot, reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{TakeError, TrustSettings};
    use super::{DIAL_FIRST, DIAL_MIN, PoolSettings, Pools};
    use crate::engine::key::ConnectionId;
    use crate::moment::Moment;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn settings(max_age: Option<Duration>) -> PoolSettings {
        PoolSettings {
            expire: 10 * SECOND,
            max_age,
            jitter: 10,
            max_idle: None,
            spread: 1,
            max_conns: 100,
            max_inflight: 1,
            tcp: true,
            owned: false,
            trust: TrustSettings::default(),
        }
    }

    fn pools(max_age: Option<Duration>) -> Pools {
        Pools::new([settings(max_age)])
    }

    fn at(seconds: f64) -> Moment {
        Moment::ZERO.plus(Duration::from_secs_f64(seconds))
    }

    fn take(pools: &mut Pools, now: Moment) -> ConnectionId {
        pools.take(0, now, || 0, |_, _| false).unwrap()
    }

    fn answered(pools: &mut Pools, connection: ConnectionId) {
        let now = pools.now;
        pools.answered(connection, now, now, |_| 0);
    }

    #[test]
    fn a_connection_that_was_used_is_replaced_and_its_unused_successor_is_not() {
        let mut pools = pools(Some(10 * SECOND));
        let old = take(&mut pools, at(0.0));
        pools.connected(old, at(0.1));
        answered(&mut pools, old);
        pools.release(old, at(0.2), false);
        pools.sweep(0, at(9.5), 0);
        let new = pools.next_dial().expect("make before break");
        pools.connected(new, at(9.6));
        assert_eq!((pools.next_closed(), pools.len(0)), (Some(old), 1));
        pools.sweep(0, at(19.0), 0);
        assert_eq!((pools.next_dial(), pools.next_closed()), (None, Some(new)));
        pools.next_request();
        assert_eq!((pools.len(0), pools.next_request()), (0, None), "it goes on for ever");
    }

    #[test]
    fn connections_with_room_are_filled_however_many_others_are_full() {
        let mut pools = Pools::new([PoolSettings { max_inflight: 2, ..settings(None) }]);
        let full: Vec<_> = (0..200).map(|_| take(&mut pools, at(0.0))).collect();
        assert_eq!(pools.len(0), 100, "two on each");
        let none = pools.take(0, at(0.0), || 0, |_, _| false);
        assert_eq!(none, Err(TakeError::Exhausted));
        // A query ends on the connection dialled last and on one in the middle.
        for connection in [full[199], full[101]] {
            pools.release(connection, at(1.0), false);
            assert_eq!(take(&mut pools, at(1.0)), connection);
        }
        assert_eq!((pools.len(0), pools.stats(0).shared), (100, 102));
    }

    /// A pool that spreads over eight TCP connections, all of them connected: each query, one every
    /// `pause`, was answered 10 ms later.
    fn spread_over(spread: usize, pause: Duration, queries: u32) -> (Pools, Vec<ConnectionId>) {
        let trust = TrustSettings { distrust: Some(2 * SECOND), rebalance: false };
        let wide = PoolSettings { spread, max_inflight: 32, trust, ..settings(None) };
        let (mut pools, mut taken) = (Pools::new([wide]), Vec::new());
        let mut now = Moment::ZERO;
        for _ in 0..queries {
            let connection = take(&mut pools, now);
            connect_all(&mut pools, now);
            pools.connected(connection, now);
            pools.end_batches();
            answered(&mut pools, connection);
            pools.release(connection, now.plus(SECOND / 100), false);
            taken.push(connection);
            now = now.plus(pause);
        }
        (pools, taken)
    }

    fn connect_all(pools: &mut Pools, now: Moment) {
        while let Some(dialled) = pools.next_dial() {
            pools.connected(dialled, now);
        }
    }

    #[test]
    fn a_spread_is_dialled_beside_the_traffic_and_taken_in_turn() {
        let (mut pools, taken) = spread_over(8, SECOND / 20, 40);
        assert_eq!(pools.len(0), 8);
        let round: std::collections::HashSet<_> = taken[taken.len() - 8..].iter().collect();
        assert_eq!(round.len(), 8, "each once in a round");
        // The queries of one turn stay together.
        let turn = [(); 4].map(|()| take(&mut pools, at(3.0)));
        assert!(turn.iter().all(|connection| *connection == turn[0]), "{turn:?}");
        pools.end_batches();
        assert_ne!(take(&mut pools, at(3.0)), turn[0]);
    }

    #[test]
    fn a_spread_grows_no_further_than_the_traffic_keeps_alive() {
        let (pools, _) = spread_over(64, SECOND, 60);
        // The connections are taken in turn in less than `expire`, so none is closed.
        assert!((3..=7).contains(&pools.len(0)), "{}", pools.len(0));
        assert!(pools.stats(0).opened <= 7, "{:?}", pools.stats(0));
    }

    #[test]
    fn no_query_waits_for_a_connection_that_is_dialled_beside_the_traffic() {
        let (mut pools, _) = spread_over(8, SECOND / 20, 2);
        let known = pools.len(0);
        let mut taken = Vec::new();
        // As many as the connected ones carry before another is taken.
        for _ in 0..4 * known {
            taken.push(take(&mut pools, at(0.2)));
            pools.end_batches();
        }
        assert!(pools.len(0) > known, "more are being dialled");
        assert!(taken.iter().all(|connection| !pools.is_dialling(*connection)), "{taken:?}");
    }

    #[test]
    fn connections_dialled_before_a_trouble_are_replaced_one_by_one() {
        let (mut pools, _) = spread_over(24, SECOND / 100, 3_000);
        assert_eq!(pools.len(0), 24);
        let (old, begun) = (pools.members().map(|(id, _)| id).collect::<Vec<_>>(), at(31.0));
        // A third of them timed out.
        for _ in 0..8 {
            let silent = take(&mut pools, begun);
            pools.end_batches();
            pools.release(silent, begun, true);
        }
        let mut now = begun;
        for _ in 0..300 {
            now = now.plus(SECOND / 100);
            let connection = take(&mut pools, now);
            assert!(!pools.is_dialling(connection), "after {:?}", now.since(begun));
            connect_all(&mut pools, now);
            pools.end_batches();
            pools.release(connection, now.plus(SECOND / 1_000), false);
        }
        assert!(
            old.iter().all(|connection| !pools.is_open(*connection)),
            "one is as old as the trouble"
        );
        assert_eq!(pools.len(0), 24);
        // Besides, one scout replaces a connection every tenth of a second.
        assert!(pools.stats(0).renewed <= 24 + 30, "{:?}", pools.stats(0));
    }

    #[test]
    fn a_successor_that_cannot_be_dialled_leaves_the_old_connection_to_others() {
        let (mut pools, _) = spread_over(4, SECOND / 100, 2_000);
        let old: Vec<_> = pools.members().map(|(id, _)| id).collect();
        let slots: Vec<_> = old.iter().map(|id| pools.slot(*id).unwrap()).collect();
        let begun = at(21.0);
        for connection in &slots[1..3] {
            pools.take_idle(*connection);
            pools.connections[*connection as usize].outstanding += 1;
            pools.release(old[*connection as usize], begun, true);
        }
        for attempt in 0..2 {
            let now = begun.plus(SECOND * 2 * attempt);
            while pools.next_dial().is_some() {}
            let connection = take(&mut pools, now);
            pools.end_batches();
            let refused = pools.next_dial().expect("its successor");
            pools.break_off(refused);
            pools.release(connection, now, false);
            assert!(pools.is_open(connection), "attempt {attempt}");
        }
    }

    #[test]
    fn a_successor_may_be_one_more_idle_connection_than_there_may_be() {
        let one = PoolSettings { max_idle: Some(1), ..settings(Some(10 * SECOND)) };
        let mut pools = Pools::new([one]);
        let [old, other] = [(); 2].map(|()| take(&mut pools, at(0.0)));
        [old, other].iter().for_each(|connection| pools.connected(*connection, at(0.1)));
        answered(&mut pools, old);
        pools.release(old, at(9.0), false);
        pools.sweep(0, at(9.5), 0);
        pools.next_dial().expect("make before break");
        pools.release(other, at(9.6), false);
        assert!(!pools.is_open(other), "it is one too many");
    }

    #[test]
    fn an_announced_limit_holds_for_connections_that_are_idle_already() {
        let mut pools = pools(None);
        let [idle, busy] = [(); 2].map(|()| take(&mut pools, at(0.0)));
        pools.release(idle, at(1.0), false);
        assert_eq!(pools.next_request(), Some((0, at(10.0))), "it is one more than needed");
        pools.announce(busy, 2 * SECOND);
        pools.release(busy, at(1.5), false);
        assert_eq!(pools.next_request(), Some((0, at(2.0))));
    }

    #[test]
    fn an_announced_limit_has_a_floor_and_holds_until_the_next_connection() {
        let mut pools = pools(None);
        let first = take(&mut pools, at(0.0));
        pools.connected(first, at(0.0));
        pools.announce(first, Duration::ZERO);
        assert!(pools.is_open(first));
        pools.release(first, at(1.0), false);
        assert_eq!(pools.next_request(), Some((0, at(1.1))));
        pools.sweep(0, at(1.1), 0);
        assert!(!pools.is_open(first), "it is idle for too long");
        let second = take(&mut pools, at(2.0));
        pools.connected(second, at(2.0));
        pools.release(second, at(3.0), false);
        assert_eq!(pools.next_request(), Some((0, at(13.0))));
        // A limit that is longer than that of the configuration changes nothing.
        pools.announce(second, 99 * SECOND);
        assert_eq!(pools.pools[0].settings.expire, 10 * SECOND);
        pools.announce(second, 2 * SECOND);
        pools.announce(second, 4 * SECOND);
        assert_eq!(pools.pools[0].settings.expire, 4 * SECOND);
    }

    #[test]
    fn a_connection_that_the_upstream_wants_closed_is_closed_when_no_query_is_on_it() {
        let mut pools = pools(None);
        let [idle, busy] = [(); 2].map(|()| take(&mut pools, at(0.0)));
        pools.release(idle, at(1.0), false);
        [idle, busy].iter().for_each(|connection| pools.leave(*connection));
        assert_eq!((pools.is_open(idle), pools.is_open(busy)), (false, true));
        pools.release(busy, at(1.5), false);
        assert!(!pools.is_open(busy));
    }

    #[test]
    fn an_earlier_dial_does_not_extend_the_deadline_of_a_later_one() {
        let mut pools = pools(None);
        let first = take(&mut pools, at(0.0));
        assert_eq!(pools.next_dial_deadline(), Some(at(0.0).plus(2 * DIAL_FIRST)));
        // Many succeed at once, so the average, and with it the deadline, falls.
        for _ in 0..40 {
            let quick = take(&mut pools, at(1.0));
            pools.connected(quick, at(1.0));
        }
        let second = take(&mut pools, at(1.5));
        for (dial, begun) in [(first, 1.0), (second, 1.5)] {
            let until = at(begun).plus(DIAL_MIN);
            assert_eq!(pools.next_dial_deadline(), Some(until));
            assert_eq!(pools.overdue_dial(until), Some(dial));
            pools.break_off(dial);
            pools.release(dial, until, false);
        }
        assert_eq!(pools.next_dial_deadline(), None);
    }
}
