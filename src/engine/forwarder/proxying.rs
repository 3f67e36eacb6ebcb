//! Queries of which upstreams learn the client, by headers of the PROXY protocol.
//!
//! In a server block with such an upstream, a query is only coalesced with those of the same client
//! address, because the upstream may answer by address; its exchange remembers the client. An
//! exchange without a client (a refresh, a probe for loops) gets a header that names none. Each
//! connection over TCP is for one client address. Other server blocks never come here: their
//! stanzas have room for any client.

use super::course::Course;
use super::drafts::Route;
use super::{Forwarder, Outgoing};
use crate::engine::errors::Reason;
use crate::engine::exchange::Client;
use crate::engine::key::{ConnectionId, ExchangeKey, Transport};
use crate::engine::message::Rcode;
use crate::engine::message::query::Query;
use crate::engine::proxy::{self, Path};
use crate::engine::zones::LowercaseName;
use crate::moment::Moment;
use rand_chacha::rand_core::Rng;
use std::net::{IpAddr, Ipv4Addr};

/// The clients of exchanges, by slot.
#[derive(Default)]
pub(super) struct Proxying {
    /// Empty without an upstream that gets headers. An entry of an earlier exchange in its slot
    /// does not match.
    paths: Vec<Option<(ExchangeKey, Path)>>,
}

impl Proxying {
    /// Remembers the client of an exchange.
    fn set(&mut self, exchange: ExchangeKey, path: Option<Path>) {
        let slot = exchange.0.index as usize;
        if self.paths.len() <= slot {
            self.paths.resize(slot + 1, None);
        }
        self.paths[slot] = path.map(|path| (exchange, path));
    }

    /// Returns the client of an exchange; `None`: it has none.
    fn get(&self, exchange: ExchangeKey) -> Option<&Path> {
        let entry = self.paths.get(exchange.0.index as usize)?.as_ref();
        entry.filter(|(key, _)| *key == exchange).map(|(_, path)| path)
    }
}

impl Forwarder {
    /// Finds or opens the exchange for a query of a server block whose upstreams learn the client:
    /// its slot, and the slot again if it was open.
    ///
    /// # Errors
    /// The query is refused: the stanza's maximum is reached, or all is full.
    #[cold]
    #[inline(never)]
    pub(super) fn forward_by_client(
        &mut self,
        now: Moment,
        client: &Client,
        query: &Query<'_>,
        name: &LowercaseName,
        (route, set): (&Route, u16),
    ) -> Result<(u32, Option<u32>), Course> {
        let (block, stanza) = (route.block, route.stanza);
        if !self.routes.stanza(stanza).has_room_by_client() {
            self.counters.stats.concurrent_rejects += 1;
            let reason = Reason::TooManyConcurrent(stanza as u32);
            return Err(Course::Failed(Rcode::Refused, reason, block));
        }
        let full = Course::Failed(Rcode::ServFail, Reason::Overloaded, block);
        if self.exchanges.waiters_are_full() {
            self.counters.stats.overloaded += 1;
            return Err(full);
        }
        let path = self.path_of(client);
        let address = path.as_ref().map(|path| path.source.ip());
        let mut opening =
            self.drafts.write(query, name, route, set, &mut self.routes, &self.chains);
        opening.hash ^= self.hasher.hash_one(address) as u32;
        // Equal hashes are no proof of equal addresses.
        let same = self.exchanges.find_same(&opening).filter(|slot| {
            let of = self.proxying.get(self.exchanges.key(*slot));
            of.map(|path| path.source.ip()) == address
        });
        let opened = same.or_else(|| {
            let refused = &mut self.counters.stats.flood_refusals;
            let parts = (&mut self.exchanges, &mut self.random, refused);
            self.floods.open(now, (name, &opening), parts, self.upstreams.health())
        });
        let Some(slot) = opened else {
            self.counters.stats.overloaded += 1;
            return Err(full);
        };
        if same.is_none() {
            self.proxying.set(self.exchanges.key(slot), path);
        }
        Ok((slot, same))
    }

    /// Returns the addresses of a client's query. `None`: the query is not a client's.
    fn path_of(&self, client: &Client) -> Option<Path> {
        let Client { listener, peer, local, .. } = client;
        let mut destination = self.routes.local(*listener);
        if let Some((ip, _)) = local {
            destination.set_ip(*ip);
        }
        let is_stream = client.transport() == Transport::Tcp;
        let path = Path { source: *peer, destination, is_stream };
        (!peer.ip().is_unspecified()).then_some(path)
    }

    /// Takes a connection over TCP that is for the client of the exchange in `slot` alone.
    #[cold]
    pub(super) fn take_owned(
        &mut self,
        now: Moment,
        slot: u32,
        pool: usize,
    ) -> Option<ConnectionId> {
        let path = self.proxying.get(self.exchanges.key(slot));
        let owner = path.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |path| path.source.ip());
        let (random, exchanges) = (self.random.next_u32(), &self.exchanges);
        let waits = |connection, head_wait| exchanges.waits(connection, now, head_wait);
        self.pools.take_owned(pool, owner.to_canonical(), now, random, waits).ok()
    }

    /// Writes the header of the PROXY protocol that goes before a query, or begins a connection
    /// whose first query it is. `None`: a connection without a query. Returns its length, at most
    /// [`proxy::WRITTEN_LEN_MAX`], the size of `out`.
    pub(crate) fn proxy_header(&self, send: Option<&Outgoing>, out: &mut [u8]) -> usize {
        proxy::write(send.and_then(|send| self.proxying.get(send.exchange)), out)
    }
}
