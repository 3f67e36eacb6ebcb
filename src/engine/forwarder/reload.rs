//! Reload of the configuration while queries are outstanding.
//!
//! No query is lost or answered twice. Upstreams that stay keep their connections and counters; a
//! query outstanding at one of them continues, and only its next steps (a retry, `failover`,
//! `next`) follow the new configuration. A query outstanding at a removed upstream starts again, in
//! the stanza that the new configuration has for its question; it fails if there is none.

use super::Forwarder;
use super::drafts::hash_of;
use super::parts::Parts;
use crate::config::Config;
use crate::engine::errors::Reason;
use crate::engine::exchange::Waiter;
use crate::engine::health::HealthStates;
use crate::engine::key::PoolId;
use crate::engine::policy::Tour;
use crate::engine::views::Facts;
use crate::engine::zones::LowercaseName;
use crate::moment::Moment;
use rand_chacha::rand_core::Rng;
use std::mem::swap;
use std::sync::Arc;

impl Forwarder {
    /// Continues with `config`. `listeners`: for each listener of the shell, its number in
    /// `config`, or `None` if it is gone. `health_states`: states of the upstreams of `config`.
    /// Builds and frees all parts on this thread; workers use [`Forwarder::adopt`] instead.
    ///
    /// # Panics
    /// If the memory of new caches cannot be reserved.
    pub fn reload(
        &mut self,
        now: Moment,
        config: &Config,
        listeners: &[Option<usize>],
        health_states: Arc<HealthStates>,
    ) {
        let caches = self.caches.shared().renewed(config);
        let caches = caches.expect("the address space has room for caches");
        let mut parts = Parts::new(config, listeners, health_states, &caches);
        self.adopt(now, &mut parts);
    }

    /// Continues with `parts`, between two turns, when all queues are drained. State that stays
    /// (connections, counters, caches, outstanding queries) moves into the new parts, and the old
    /// parts are left in `parts`. Nothing of the size of a configuration is built, compared
    /// pairwise or freed.
    pub fn adopt(&mut self, now: Moment, parts: &mut Parts) {
        debug_assert!(self.sends.is_empty() && self.failures.is_empty(), "in mid-turn");
        let stays = self.upstreams.match_new(&mut parts.upstreams);
        let homeless = self.leave_upstreams(&stays);
        let before = |index: usize| {
            let pool = PoolId::from_index(index);
            stays[pool.upstream()].map(|before| PoolId::new(before, pool.transport()).index())
        };
        self.pools.reload(now, &mut parts.pools, before, || self.random.next_u32());
        self.upstreams.reload(&mut parts.upstreams, &stays);
        let secret = self.upstreams.health().agree_on_secret(self.cookies.root());
        self.cookies.reload(secret, parts.cookies);
        self.late.reload(parts.late);
        self.forget_late();
        swap(&mut self.routes, &mut parts.routes);
        swap(&mut self.chains, &mut parts.chains);
        swap(&mut self.data, &mut parts.data);
        self.clients.reload(&mut parts.connections);
        self.counters.reload(parts, &stays);
        self.caches.reload(&mut parts.caches);
        self.limiters.reload(&mut parts.limiters);
        self.online.signatures.reload(&mut parts.signatures, &self.hasher);
        self.errors.reload(&mut parts.errors);
        self.journal.reload(&mut parts.journal);
        self.rewriting.reload(&mut parts.matchers);
        self.exchanges.reload(self.routes.timeouts(), self.pools.capacity());
        self.forget_loops();
        self.reroute();
        self.rehome_parked();
        self.rehouse_delayed();
        for slot in homeless {
            self.end_force(slot);
            self.attempt(now, slot, Reason::NoConnection);
        }
    }

    /// Closes all connections to removed upstreams; returns the queries that were on them.
    fn leave_upstreams(&mut self, stays: &[Option<usize>]) -> Vec<u32> {
        let mut stay = vec![false; self.upstreams.count()];
        stays.iter().flatten().for_each(|upstream| stay[*upstream] = true);
        let left: Vec<_> = self
            .pools
            .members()
            .filter(|(_, pool)| !stay[PoolId::from_index(*pool).upstream()])
            .map(|(id, _)| id)
            .collect();
        let mut homeless = Vec::new();
        for connection in left {
            self.pools.break_off(connection);
            while let Some(slot) = self.exchanges.first_on(connection) {
                self.exchanges.end_attempt(slot);
                self.pools.release(connection, Moment::ZERO, false);
                homeless.push(slot);
            }
        }
        homeless
    }

    /// Finds the new stanza of every outstanding query, and counts the waiters of each stanza.
    fn reroute(&mut self) {
        for slot in self.exchanges.open_slots().collect::<Vec<_>>() {
            let name = LowercaseName::new(self.exchanges.name(slot));
            let (rtype, class) = self.exchanges.rtype_and_class(slot);
            let routes = &self.routes;
            let zone_match = |waiter: &Waiter| {
                let Waiter { client, asked, size, .. } = waiter;
                let facts = || Facts { client, asked, name: &name, rtype, class, size: *size };
                routes.zone_match(client.listener, &name, rtype, class, facts)
            };
            // A probe has no waiters and belongs to the old configuration.
            let block =
                self.exchanges.first_waiter(slot).and_then(|first| zone_match(first).block());
            self.exchanges.count_waiters_at(slot, |waiter| zone_match(waiter).label_set);
            let stanza = block.and_then(|block| self.routes.stanza_in(block, &name));
            let stanza = stanza.unwrap_or(self.routes.nowhere());
            let hash = hash_of(&self.hasher, &name, self.exchanges.text(slot), stanza);
            self.exchanges.move_to(slot, stanza as u32, hash);
            let waiting = self.exchanges.waiters(slot).count() as u32;
            self.routes.stanza(stanza).under_way += waiting;
            let mut tour = Tour::NEW;
            if let Some(connection) = self.exchanges.connection(slot) {
                let upstream = self.upstream_at(connection).expect("it is open");
                self.exchanges.get(slot).upstream = upstream as u32;
                // The upstream that is being tried must not be the next one to try.
                let own = self.routes.stanza(stanza).upstreams.clone();
                if own.contains(&upstream) {
                    tour = Tour::begun_with(upstream - own.start);
                }
            }
            self.exchanges.get(slot).tour = tour;
        }
    }
}
