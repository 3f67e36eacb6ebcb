//! Use of the server blocks' caches for queries and responses.
//!
//! A cacheable query is looked up before it is forwarded. Its outcome is then stored, be it an
//! answer or a failure. Clients that would get an error, or wait for too long, get an expired entry
//! if the cache may serve it. A refresh is an exchange without clients: its query has RD set and
//! does not depend on the client that triggered it.

use super::Forwarder;
use super::drafts::Route;
use super::recipient::{limit, to_waiter};
use crate::config::Config;
use crate::engine::cache::admission::{AnswerClass, Received, bound_ttls};
use crate::engine::cache::{Cache, EntryKey, Found, Key, KeyRoom, SharedCaches};
use crate::engine::errors::Reason;
use crate::engine::exchange::{Client, Dismissed};
use crate::engine::key::Transport;
use crate::engine::message::query::Query;
use crate::engine::message::reply::{ExtendedError, ReplyTo, minimal};
use crate::engine::message::response::Response;
use crate::engine::message::{flags, u16_at};
use crate::engine::stats::CacheStats;
use crate::engine::tally::NOWHERE;
use crate::engine::zones::LowercaseName;
use crate::moment::Moment;
use ahash::RandomState;
use rand_chacha::rand_core::Rng;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// A worker's access to the caches of all server blocks.
pub(super) struct Caches {
    /// Cache of each server block, if it has one.
    blocks: Vec<Option<Box<Cache>>>,
    /// The entries, which all workers share.
    shared: SharedCaches,
    /// Wake-ups to request: the block of the cache, and the time.
    wakes: Vec<(usize, Moment)>,
}

/// Access to the caches of a new configuration, built beforehand.
pub(super) struct NewCaches {
    blocks: Vec<Option<Box<Cache>>>,
    shared: SharedCaches,
    /// Number of the block of each cache, by the address of its entries.
    by_store: HashMap<usize, usize, RandomState>,
}

impl NewCaches {
    pub(super) fn new(config: &Config, shared: &SharedCaches) -> Self {
        let hasher = shared.hasher();
        let mut by_store = HashMap::with_hasher(hasher.clone());
        let blocks = config.blocks.iter().enumerate().map(|(number, block)| {
            let settings = block.stages.cache.as_ref()?;
            let store = shared.store(number)?;
            by_store.insert(Arc::as_ptr(store).addr(), number);
            Some(Box::new(Cache::sharing(settings, hasher, Arc::clone(store))))
        });
        Self { blocks: blocks.collect(), shared: shared.clone(), by_store }
    }
}

impl Caches {
    pub(super) fn new(caches: NewCaches) -> Self {
        let NewCaches { blocks, shared, .. } = caches;
        let mut caches = Self { blocks, shared, wakes: Vec::new() };
        for block in 0..caches.blocks.len() {
            // A worker that has panicked may have left a sweep unfinished.
            if let Some(cache) = caches.get(block).filter(|cache| cache.len() != [0, 0]) {
                cache.sweep_again();
                caches.ask_for_sweep(block);
            }
        }
        caches
    }

    /// Returns the entries, which all workers share.
    pub(super) fn shared(&self) -> &SharedCaches {
        &self.shared
    }

    /// Takes over the caches of `new`, except for those whose entries stay, which keep their
    /// counters; leaves the discarded caches in `new`. The keeper has dropped all wake-ups before.
    pub(super) fn reload(&mut self, new: &mut NewCaches) {
        self.wakes.clear();
        for slot in &mut self.blocks {
            let Some(store) = slot.as_ref().map(|cache| Arc::as_ptr(cache.store())) else {
                continue;
            };
            if let Some(number) = new.by_store.remove(&store.addr()) {
                std::mem::swap(slot, &mut new.blocks[number]);
            }
        }
        std::mem::swap(&mut self.blocks, &mut new.blocks);
        std::mem::swap(&mut self.shared, &mut new.shared);
        for block in 0..self.blocks.len() {
            if let Some(cache) = self.get(block) {
                cache.sweep_not_asked();
                self.ask_for_sweep(block);
            }
        }
    }

    /// Returns the next wake-up to request: the block of the cache, and the time.
    pub(super) fn next_wake(&mut self) -> Option<(usize, Moment)> {
        self.wakes.pop()
    }

    /// Marks the wake-up of that block's cache as not requested.
    pub(super) fn disarm(&mut self, block: usize) {
        if let Some(cache) = self.get(block) {
            cache.sweep_not_asked();
            self.ask_for_sweep(block);
        }
    }

    pub(super) fn sweep(&mut self, now: Moment, block: usize) {
        if let Some(cache) = self.get(block) {
            cache.sweep(now);
            self.ask_for_sweep(block);
        }
    }

    /// Returns the counters of all caches.
    pub(super) fn stats(&self) -> impl Iterator<Item = CacheStats> {
        self.blocks.iter().flatten().map(|cache| cache.counters())
    }

    /// Returns the bytes that the caches have reserved, without the shared entries.
    pub(super) fn reserved(&self) -> usize {
        let caches = self.blocks.iter().flatten();
        caches.map(|cache| size_of::<Cache>() + cache.own_reserved()).sum()
    }

    /// Returns the maximum bytes that the caches can reserve, without the shared entries.
    pub(super) fn reserved_max(&self) -> usize {
        let caches = self.blocks.iter().flatten();
        caches.map(|cache| size_of::<Cache>() + cache.own_reserved_max()).sum()
    }

    pub(super) fn of(&self, block: usize) -> Option<&Cache> {
        self.blocks.get(block)?.as_deref()
    }

    fn get(&mut self, block: usize) -> Option<&mut Cache> {
        self.blocks.get_mut(block)?.as_deref_mut()
    }

    fn ask_for_sweep(&mut self, block: usize) {
        if let Some(at) = self.get(block).and_then(Cache::next_sweep) {
            self.wakes.push((block, at));
        }
    }
}

/// Result of a cache lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CacheLookup {
    /// The query is not cacheable.
    NotForIt,
    /// The upstream is asked.
    Miss,
    /// A reply of `len` bytes is written; `refresh`: the entry must be refreshed.
    Replied { len: usize, refresh: bool },
    /// The upstream is asked; the client can get the expired entry, at the latest `within` this
    /// time.
    Expired { entry: EntryKey, within: Option<Duration> },
}

/// Outcome of a response, or of its absence, for the waiting clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CacheOutcome {
    at: Moment,
    block: usize,
    /// Class of the response; `None`: it was not cached.
    answer_class: Option<AnswerClass>,
    /// Entry that clients get instead.
    instead: Option<EntryKey>,
}

impl CacheOutcome {
    /// Returns true if the waiting clients get a cache entry in place of a response.
    pub(super) fn is_instead(&self) -> bool {
        self.instead.is_some()
    }
}

impl Forwarder {
    /// Returns the result of a lookup in `block`'s cache for a query, whose name is `name`.
    pub(super) fn look_up(
        &mut self,
        now: Moment,
        client: &Client,
        query: &Query<'_>,
        name: &LowercaseName,
        block: usize,
        out: &mut [u8],
    ) -> CacheLookup {
        let Some(cache) = self.caches.get(block) else { return CacheLookup::NotForIt };
        let has_options = query.has_options();
        if (has_options && !query.is_keyed()) || !cache.serves(name, &query.question, &query.asked)
        {
            return CacheLookup::NotForIt;
        }
        let mut key = Key::new(&self.hasher, name, &query.question, &query.asked);
        let mut room;
        if has_options {
            room = [0; size_of::<KeyRoom>()];
            key = key.with_options(&self.hasher, query.options(), &mut room);
        }
        match cache.get(now, &key) {
            Found::Miss => CacheLookup::Miss,
            Found::Verify { entry, within } => CacheLookup::Expired { entry, within },
            Found::Reply { entry, refresh } => {
                match self.write_cached(now, block, entry, client, query, out) {
                    Some(len) => CacheLookup::Replied { len, refresh },
                    None => CacheLookup::Miss,
                }
            }
        }
    }

    /// Writes the cached answer as the reply to a query.
    pub(super) fn write_cached(
        &mut self,
        now: Moment,
        block: usize,
        entry: EntryKey,
        client: &Client,
        query: &Query<'_>,
        out: &mut [u8],
    ) -> Option<usize> {
        let chain = &self.chains[block];
        let (asked, question) = (&query.asked, query.question_bytes());
        let limit = limit(client, asked);
        let to = ReplyTo { asked, question, limit, finish: chain.finish_cached() };
        let len = self.caches.get(block)?.write(now, entry, &to, out)?;
        chain.rearrange(&mut out[..len], || self.random.next_u32());
        Some(len)
    }

    /// Refreshes the cache entry of a query.
    pub(super) fn refresh(
        &mut self,
        now: Moment,
        block: usize,
        query: &Query<'_>,
        name: &LowercaseName,
    ) {
        if self.begin_refresh(now, block, query, name) {
            return;
        }
        let mut room = [0; size_of::<KeyRoom>()];
        let mut key = Key::new(&self.hasher, name, &query.question, &query.asked);
        if query.has_options() {
            key = key.with_options(&self.hasher, query.options(), &mut room);
        }
        if let Some(cache) = self.caches.get(block) {
            cache.put_failure(now, name, &key, ExtendedError::NetworkError);
        }
    }

    /// Begins the exchange of a refresh; returns false if no upstream can be asked now.
    fn begin_refresh(
        &mut self,
        now: Moment,
        block: usize,
        query: &Query<'_>,
        name: &LowercaseName,
    ) -> bool {
        let Some(stanza) = self.routes.stanza_in(block, name) else { return false };
        let own = self.routes.stanza(stanza);
        let has_room = own.has_room() || own.has_room_by_client();
        if self.upstreams.health().is_looping(block) || !has_room {
            return false;
        }
        let (label_set, transport) = (NOWHERE, Transport::Udp);
        let route = Route { block, label_set, stanza, transport, cacheable: true };
        let (set, routes, chains) = (flags::AD | flags::RD, &mut self.routes, &self.chains);
        let opening = self.drafts.write(query, name, &route, set, routes, chains);
        if self.exchanges.find_same(&opening).is_some() {
            return true;
        }
        let refused = &mut self.counters.stats.flood_refusals;
        let parts = (&mut self.exchanges, &mut self.random, refused);
        let opened = self.floods.open(now, (name, &opening), parts, self.upstreams.health());
        let Some(slot) = opened else { return false };
        self.attempt(now, slot, Reason::NoConnection);
        true
    }

    /// Stores a validated response to the exchange in `slot`, which will be delivered, if it is
    /// cacheable.
    pub(super) fn remember(
        &mut self,
        now: Moment,
        slot: u32,
        response: &Response,
        packet: &[u8],
    ) -> Option<CacheOutcome> {
        let block = self.cache_of(slot)?;
        let chain = &self.chains[block];
        let (query, unix) = (self.exchanges.written(slot), self.unix);
        let cache = self.caches.get(block)?;
        let wants_less = chain.finish().minimal || cache.is_simple();
        let slim = if wants_less { minimal(response) } else { None };
        // A client with RD set would have caused the same upstream query.
        let usual = chain.query_flags().apply(flags::RD) & flags::RD;
        let recursion = u16_at(query, 2).unwrap_or(0) & flags::RD == usual;
        let response = slim.as_ref().unwrap_or(response);
        let received = Received { packet, response, recursion, unix };
        let name = LowercaseName::new(self.exchanges.name(slot));
        let put = |key: &Key<'_>| match cache.put(now, &name, key, &received) {
            Ok(admission) => (Some(admission.answer_class), None),
            Err(refusal) if refusal.is_no_answer() => (None, cache.fallback(now, key)),
            Err(_) => (None, None),
        };
        let (answer_class, instead) = with_sent_key(&self.hasher, &name, query, put);
        self.caches.ask_for_sweep(block);
        Some(CacheOutcome { at: now, block, answer_class, instead })
    }

    /// Looks for an expired entry for the clients of the exchange in `slot`, which get no response
    /// in time. The failure is stored if its reason `why` is known.
    pub(super) fn do_without(
        &mut self,
        now: Moment,
        slot: u32,
        why: Option<ExtendedError>,
    ) -> Option<CacheOutcome> {
        let block = self.cache_of(slot)?;
        let name = LowercaseName::new(self.exchanges.name(slot));
        let query = self.exchanges.written(slot);
        let cache = self.caches.get(block)?;
        let instead = with_sent_key(&self.hasher, &name, query, |key| {
            let instead = cache.fallback(now, key);
            why.inspect(|why| cache.put_failure(now, &name, key, *why));
            instead
        });
        if why.is_some() {
            self.caches.ask_for_sweep(block);
        }
        Some(CacheOutcome { at: now, block, answer_class: None, instead })
    }

    /// Writes the cache entry that a waiter of the exchange that is or was just in `slot` gets in
    /// place of a response, if there is one.
    pub(super) fn write_instead(
        &mut self,
        slot: u32,
        waiter: Dismissed,
        remembered: Option<CacheOutcome>,
        out: &mut [u8],
    ) -> Option<usize> {
        let CacheOutcome { at, block, instead, .. } = remembered?;
        let finish = self.chains[block].finish_cached();
        let to = to_waiter(&self.exchanges, slot, waiter, finish);
        let len = self.caches.get(block)?.write(at, instead?, &to, out)?;
        self.exchanges.spell(slot, waiter, out);
        self.chains[block].rearrange(&mut out[..len], || self.random.next_u32());
        Some(len)
    }

    /// Limits the TTLs of a reply from an upstream that is cached now.
    pub(super) fn bound_ttls(&mut self, remembered: Option<CacheOutcome>, reply: &mut [u8]) {
        let Some(CacheOutcome { block, answer_class, .. }) = remembered else { return };
        if let Some(cache) = self.caches.get(block) {
            bound_ttls(reply, &cache.limits(), answer_class);
        }
    }

    /// Returns the server block whose cache stores the exchange in `slot`.
    fn cache_of(&self, slot: u32) -> Option<usize> {
        if !self.exchanges.is_cacheable(slot) {
            return None;
        }
        self.routes.block_of(self.exchanges.first_stanza(slot))
    }
}

/// Calls `then` with the key of the answer to `query`, as it was sent upstream. The key of a query
/// with options needs room, which other queries do not pay for.
#[inline(always)]
fn with_sent_key<T>(
    hasher: &RandomState,
    name: &LowercaseName,
    query: &[u8],
    then: impl FnOnce(&Key<'_>) -> T,
) -> T {
    let mut key = Key::of_sent(hasher, name, query);
    let options = Key::options_of_sent(name, query);
    let mut room;
    if !options.is_empty() {
        room = [0; size_of::<KeyRoom>()];
        key = key.with_options(hasher, options, &mut room);
    }
    then(&key)
}
