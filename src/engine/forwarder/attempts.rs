//! Attempts of a query at its upstreams, and their ends without an answer.
//!
//! An attempt fails by timeout or by the failure of its connection; the next upstream is then tried
//! until the maximum number of attempts or the deadline of the query is reached. An exception are
//! connections that end after they have carried an answer, because servers close connections at any
//! time: their queries are sent again at once and the upstream is not penalised (RFC 7766 §6.2.4).
//! The number of these free retries is limited, because the query itself may be the reason why each
//! connection ends. Queries that are stuck behind others are in [`super::moves`].

use super::calls::is_refusal;
use super::failures::Failed;
use super::{Forwarder, Outgoing};
use crate::config::Policy;
use crate::engine::errors::{Fault, Operation, Reason};
use crate::engine::exchange::Overdue;
use crate::engine::key::{ConnectionId, PoolId, Way};
use crate::engine::pool::TakeError;
use crate::moment::Moment;
use rand_chacha::rand_core::Rng;

/// Maximum number of free retries of a query: attempts that ended with a connection that had worked
/// before. After a restart of the upstream all its connections are dead; the first one that is
/// found dead closes the idle ones, but the query may meet this many of those in use, or of those
/// dialled before the upstream was known to close each connection after a few answers.
const EXCUSES_MAX: u32 = 16;

impl Forwarder {
    /// Returns the number of queries that wait for a response on `connection`.
    pub(crate) fn outstanding_on(&self, connection: ConnectionId) -> usize {
        self.pools.outstanding(connection)
    }

    /// Handles a connection whose socket failed, was closed by the upstream, or could not be
    /// opened: its queries are retried at once. If the connection had worked before, they are sent
    /// to the same upstream again and no failure is counted.
    pub fn on_connection_failed(&mut self, now: Moment, connection: ConnectionId) {
        self.on_connection_error(now, connection, Operation::Read, Fault::Unknown);
    }

    /// Handles the failure of a connection with a known `operation` and `fault`.
    pub fn on_connection_error(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        operation: Operation,
        fault: Fault,
    ) {
        if !self.pools.is_open(connection) {
            return;
        }
        let dialling = self.pools.is_dialling(connection);
        let fault = match self.upstream_at(connection).filter(|_| dialling) {
            Some(upstream) => self.upstreams.fail_handshake(upstream, fault),
            None => fault,
        };
        if matches!(fault, Fault::Tls(fault) if fault.is_of_identity()) {
            self.pools.pause_dials(connection, now);
        }
        let operation = if dialling { Operation::Dial } else { operation };
        let excused = self.pools.ended(connection, now);
        self.pools.break_off(connection);
        while let Some(slot) = self.exchanges.first_on(connection) {
            let exchange = self.exchanges.get(slot);
            let is_free = excused || is_refusal(fault);
            let free = is_free && exchange.excused < EXCUSES_MAX;
            exchange.excused += u32::from(free);
            let reason = Reason::Attempt(operation, fault);
            match self.fail_attempt(now, connection, slot, free, reason) {
                Some(_) if is_refusal(fault) => self.attempt(now, slot, reason),
                Some(upstream) => self.attempt_at(now, slot, upstream),
                None => {}
            }
        }
    }

    /// Ends the attempt of the query in `slot`, which has failed on `connection`. If that is
    /// `free`, returns the upstream, and the caller sends the query again. Otherwise it is retried.
    pub(super) fn fail_attempt(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        slot: u32,
        free: bool,
        reason: Reason,
    ) -> Option<usize> {
        let upstream = self.upstream_of(slot);
        self.exchanges.end_attempt(slot);
        if free {
            self.pools.count_asked_again(connection);
        }
        self.pools.release(connection, now, false);
        if !free {
            self.upstreams.stats(upstream).failed += 1;
            self.upstreams.report_failure(upstream);
            self.retry(now, slot, reason);
        }
        free.then_some(upstream)
    }

    /// Handles a connection that was established, including the TLS handshake.
    pub fn on_connected(&mut self, now: Moment, connection: ConnectionId) {
        self.pools.connected(connection, now);
    }

    /// Handles the end of a TLS handshake. `resumed`: it resumed an earlier session.
    pub(crate) fn on_secured(&mut self, now: Moment, connection: ConnectionId, resumed: bool) {
        let took = self.pools.age(connection, now);
        if let Some(upstream) = self.upstream_at(connection) {
            self.upstreams.stats(upstream).handshakes.count(resumed, took);
        }
        self.on_connected(now, connection);
    }

    /// Handles expired timers: an attempt that timed out is retried, an overdue query fails.
    pub fn on_time(&mut self, now: Moment) {
        self.delays.on_time(now);
        self.late.held.on_time(now);
        if self.loops.due {
            self.probe_for_loops(now);
        }
        while let Some(connection) = self.pools.overdue_dial(now) {
            self.on_connection_error(now, connection, Operation::Dial, Fault::TimedOut);
        }
        while let Some(stall) = self.pools.overdue_stall(now) {
            self.relieve(now, &stall);
        }
        while let Some((slot, overdue)) = self.exchanges.overdue(now) {
            if overdue == Overdue::Patience {
                self.lose_patience(now, slot);
                continue;
            }
            let upstream = self.upstream_of(slot);
            if let Some(connection) = self.exchanges.end_attempt(slot) {
                self.upstreams.stats(upstream).timed_out += 1;
                self.upstreams.report_failure(upstream);
                let dialling = self.pools.is_dialling(connection);
                self.pools.release(connection, now, true);
                // An upstream that stops responding during a handshake has not finished it.
                let given_up = dialling && !self.pools.is_dialling(connection);
                if given_up {
                    self.upstreams.fail_handshake(upstream, Fault::TimedOut);
                }
            }
            let reason = Reason::Attempt(Operation::Read, Fault::TimedOut);
            match overdue {
                Overdue::Attempt => self.retry(now, slot, reason),
                _ => self.fail(now, slot, reason),
            }
        }
        self.parked.wake_overdue(now);
    }

    /// Sends the query in `slot` to its next upstream that is up and has a connection for it, or
    /// fails it.
    pub(super) fn attempt(&mut self, now: Moment, slot: u32, reason: Reason) {
        let number = self.exchanges.get(slot).stanza as usize;
        let stanza = self.routes.stanza(number);
        let (upstreams, mut policy) = (stanza.upstreams.clone(), stanza.policy);
        let all_down = !upstreams.is_empty()
            && upstreams.clone().all(|upstream| self.upstreams.health().is_down(upstream));
        if all_down {
            self.counters.stats.all_down += 1;
            if stanza.failfast {
                return self.fail(now, slot, Reason::NoHealthyUpstream);
            }
            // No upstream is known to be better than the others.
            policy = Policy::Random;
        }
        // Two passes, because the first may continue one that an earlier attempt began.
        for _ in 0..2 * upstreams.len() {
            let (exchange, stanza) = (self.exchanges.get(slot), self.routes.stanza(number));
            if exchange.failures >= stanza.failures_max {
                break;
            }
            let (count, rotation) = (upstreams.len(), &mut stanza.rotation);
            let next = exchange.tour.next(policy, count, rotation, || self.random.next_u32());
            let upstream = upstreams.start + next;
            if self.upstreams.health().is_down(upstream) && !all_down {
                continue;
            }
            exchange.upstream = upstream as u32;
            if self.begin_attempt(now, slot, upstream) {
                return;
            }
            self.exchanges.get(slot).failures += 1;
            self.upstreams.stats(upstream).failed += 1;
        }
        self.fail(now, slot, reason);
    }

    /// Sends the query in `slot` to `upstream`, or to the next one if it has no connection left.
    pub(super) fn attempt_at(&mut self, now: Moment, slot: u32, upstream: usize) {
        if !self.begin_attempt(now, slot, upstream) {
            self.retry(now, slot, Reason::NoConnection);
        }
    }

    /// Sends the query in `slot` to `upstream`; returns false if it has no connection left.
    fn begin_attempt(&mut self, now: Moment, slot: u32, upstream: usize) -> bool {
        let transport = self.exchanges.get(slot).transport;
        let way = self.upstreams.way_to(upstream, transport);
        let pool = PoolId::new(upstream, way.transport()).index();
        let (random, exchanges) = (|| self.random.next_u32(), &self.exchanges);
        let waits = |connection, head_wait| exchanges.waits(connection, now, head_wait);
        let connection = match self.pools.take(pool, now, random, waits) {
            Ok(connection) => connection,
            Err(TakeError::Owned) => match self.take_owned(now, slot, pool) {
                Some(connection) => connection,
                None => return false,
            },
            Err(_) => return false,
        };
        let edns = self.speaks_edns(now, slot, upstream);
        self.send_on(now, slot, upstream, (connection, way), edns);
        true
    }

    /// Sends the query in `slot` to `upstream` on a connection taken from its pool. `edns`: with an
    /// OPT record.
    #[inline]
    pub(super) fn send_on(
        &mut self,
        now: Moment,
        slot: u32,
        upstream: usize,
        (connection, way): (ConnectionId, Way),
        edns: bool,
    ) {
        let id = || self.random.next_u32() as u16;
        self.exchanges.begin_attempt(slot, (connection, way), edns, now, id);
        if self.exchanges.get(slot).randomizes {
            self.spell(now, slot, upstream, way);
        }
        self.upstreams.stats(upstream).sent += 1;
        let exchange = self.exchanges.key(slot);
        let rank = match (way, self.upstreams.dial(upstream).gso) {
            (Way::Datagram, true) => u16::MAX - self.exchanges.query(slot).len() as u16,
            (Way::Datagram, false) => 0,
            // Beyond this number of queries in one turn, the order may be lost.
            _ => self.sends.len().min(u16::MAX.into()) as u16,
        };
        self.sends.push(Outgoing { connection, rank, exchange });
        self.journal_attempt(now, slot);
    }

    /// Counts a failed attempt of the query in `slot` and starts the next.
    fn retry(&mut self, now: Moment, slot: u32, reason: Reason) {
        let upstream = self.upstream_of(slot);
        let exchange = self.exchanges.get(slot);
        match exchange.forced {
            Some(why) if exchange.excused < EXCUSES_MAX => {
                exchange.excused += 1;
                self.give_up_tcp(now, slot, upstream, why);
                return self.attempt_at(now, slot, upstream);
            }
            Some(why) => self.give_up_tcp(now, slot, upstream, why),
            None => {}
        }
        self.exchanges.get(slot).failures += 1;
        self.attempt(now, slot, reason);
    }

    /// Ends the exchange in `slot` without an answer: its clients get the response that was held
    /// back, an expired cache entry, or an error.
    pub(super) fn fail(&mut self, now: Moment, slot: u32, reason: Reason) {
        let remembered = match self.failures.take_held(slot) {
            Some((response, packet)) => {
                let remembered = self.remember(now, slot, &response, &packet);
                self.failures.hold(slot, response, packet);
                remembered
            }
            None => self.do_without(now, slot, reason.extended()),
        };
        self.exchanges.settle(slot);
        let exchange = self.exchanges.key(slot);
        self.failures.push(Failed { at: now, exchange, reason, remembered, goes_on: false });
    }

    /// Answers the waiting clients of the exchange in `slot` with the expired entry; the exchange
    /// continues to fill the cache. Without an expired entry, they continue to wait.
    fn lose_patience(&mut self, now: Moment, slot: u32) {
        self.exchanges.end_timeout(slot);
        let remembered = self.do_without(now, slot, None);
        if remembered.is_some_and(|remembered| remembered.is_instead()) {
            let reason = Reason::Attempt(Operation::Read, Fault::TimedOut);
            let exchange = self.exchanges.key(slot);
            self.failures.push(Failed { at: now, exchange, reason, remembered, goes_on: true });
        }
    }
}
