//! Clients' packets that are parsed and not yet served.
//!
//! Between two turns the kernel uses the CPU's caches, so the entries for the next queries are in
//! main memory. The shell therefore parses up to [`AHEAD_MAX`] packets of a batch first, lets the
//! CPU prefetch their entries, and then serves them one by one. Parsing has no side effects, so the
//! result is the same as without reading ahead.

use super::Forwarder;
use crate::config::Protocol;
use crate::engine::cache::{Cache, Key};
use crate::engine::exchange::Client;
use crate::engine::key::ConnectionId;
use crate::engine::message::query::{Asked, Edns, Query, Rejection};
use crate::engine::message::{self, Question, Rcode, flags, rtype};
use crate::engine::routes::ZoneMatch;
use crate::engine::views::Facts;
use crate::engine::zones::LowercaseName;

/// Maximum number of packets that are read before the first of them is served: enough to hide the
/// latency of memory, and few enough for the first-level cache.
pub const AHEAD_MAX: usize = 8;

/// Clients' packets that were read, in the order of arrival; at most [`AHEAD_MAX`].
#[derive(Default)]
pub struct Arrivals<'a> {
    places: [Option<Arrival<'a>>; AHEAD_MAX],
    len: usize,
}

/// A client's packet that was read.
pub struct Arrival<'a> {
    /// Sender of the packet.
    pub client: Client,
    pub(super) packet: &'a [u8],
    pub(super) query: Result<Query<'a>, Rejection>,
    /// The query's name.
    pub(super) name: LowercaseName,
    /// Server block that serves the packet.
    pub(super) zone_match: ZoneMatch,
}

impl<'a> Arrivals<'a> {
    /// Returns true if no more packets fit; these must be served first.
    pub fn is_full(&self) -> bool {
        self.len == AHEAD_MAX
    }

    /// Removes the packets that were read, in their order.
    pub fn drain(&mut self) -> impl Iterator<Item = &mut Arrival<'a>> {
        let len = std::mem::take(&mut self.len);
        self.places[..len].iter_mut().flatten()
    }
}

impl Arrival<'_> {
    pub(super) const NONE: Self = Self {
        client: Client::NOBODY,
        packet: &[],
        query: Err(Rejection::TooShort),
        name: LowercaseName::ROOT,
        zone_match: ZoneMatch::NOWHERE,
    };
}

impl Forwarder {
    /// Parses a client's packet, for [`Forwarder::on_arrival`]. `truncated`: the packet was longer
    /// than its buffer.
    ///
    /// # Panics
    /// When [`Arrivals::is_full`].
    // Inlined where the client is built, because its fields are stored one by one: loading them as
    // a whole right afterwards would stall.
    #[inline(always)]
    pub fn read<'a>(
        &self,
        client: Client,
        packet: &'a [u8],
        truncated: bool,
        arrivals: &mut Arrivals<'a>,
    ) {
        let arrival = arrivals.places[arrivals.len].insert(Arrival::NONE);
        arrivals.len += 1;
        self.read_into(client, packet, truncated, arrival);
    }

    /// Parses a client's packet that is served at once.
    #[inline(always)]
    pub(super) fn read_into<'a>(
        &self,
        client: Client,
        packet: &'a [u8],
        truncated: bool,
        arrival: &mut Arrival<'a>,
    ) {
        (arrival.client, arrival.packet) = (client, packet);
        arrival.query = Query::parse(packet, truncated);
        if let Ok(query) = &mut arrival.query {
            self.adapt(&client, &mut query.asked);
            let (name, question) = (&mut arrival.name, query.question);
            name.fold(query.name());
            let (name, Question { rtype, class, .. }) = (&arrival.name, question);
            let facts = || Facts::of(&client, query, name);
            arrival.zone_match = self.routes.zone_match(client.listener, name, rtype, class, facts);
        } else {
            self.read_transfer(truncated, arrival);
            self.refuse_for_zones(arrival);
        }
    }

    /// Replies REFUSED instead of NOTIMP to zone transfers and NOTIFY (RFC 1996) for zones of this
    /// server.
    #[cold]
    fn refuse_for_zones(&self, arrival: &mut Arrival<'_>) {
        let Err(Rejection::Refusal { rcode, asked, question }) = &mut arrival.query else { return };
        let is_notify = asked.flags & flags::OPCODE == flags::NOTIFY;
        let notified = is_notify.then(|| Question::parse(arrival.packet)).flatten();
        let Some(found) = question.or(notified).filter(|_| *rcode == Rcode::NotImp) else { return };
        arrival.name.fold(found.name(arrival.packet));
        let (client, name) = (&arrival.client, &arrival.name);
        let zone_match = self.place_of(client, arrival.packet, asked, &found, name);
        let slot = zone_match.block().and_then(|block| self.chains[block].settings.own_zones);
        if slot.is_some_and(|slot| self.data.zones(slot).longest(name).is_some()) {
            (*rcode, *question) = (Rcode::Refused, Some(found));
        }
    }

    /// Parses a zone transfer for a server block whose stages answer it; a transfer that would be
    /// forwarded stays refused.
    #[cold]
    fn read_transfer(&self, truncated: bool, arrival: &mut Arrival<'_>) {
        let Err(Rejection::Refusal { rcode: Rcode::NotImp, .. }) = arrival.query else { return };
        let Ok(mut query) = Query::parse_transfer(arrival.packet, truncated) else { return };
        let (client, question) = (arrival.client, query.question);
        arrival.name.fold(query.name());
        let (asked, name) = (&query.asked, &arrival.name);
        let zone_match = self.place_of(&client, arrival.packet, asked, &question, name);
        let takes = |block: usize| {
            let chain = &self.chains[block];
            let is_answered = chain.settings.transfers
                && chain.rules.is_none()
                && question.rtype == rtype::AXFR
                && self.routes.stanza_in(block, &arrival.name).is_none();
            let table = chain.settings.own_zones.filter(|_| chain.settings.zone_transfers);
            let table = table.map(|slot| self.data.zones(slot));
            is_answered || table.is_some_and(|zones| zones.longest(&arrival.name).is_some())
        };
        if zone_match.block().is_some_and(takes) {
            self.adapt(&client, &mut query.asked);
            (arrival.query, arrival.zone_match) = (Ok(query), zone_match);
        }
    }

    /// Returns the server block for a packet that is not a plain query: signed, a transfer, or to
    /// be refused. `name` is the name of its `question`.
    #[cold]
    pub(super) fn place_of(
        &self,
        client: &Client,
        packet: &[u8],
        asked: &Asked,
        question: &Question,
        name: &LowercaseName,
    ) -> ZoneMatch {
        let (Question { rtype, class, .. }, size) = (*question, packet.len() as u16);
        let facts = || Facts { client, asked, name, rtype, class, size };
        self.routes.zone_match(client.listener, name, rtype, class, facts)
    }

    /// Prefetches the cache entries and local names for `arrivals` into the CPU's caches.
    pub fn prefetch_answers(&self, arrivals: &Arrivals<'_>) {
        if self.data.has_hosts() {
            self.prefetch_hosts(arrivals);
        }
        let places = std::array::from_fn::<_, AHEAD_MAX, _>(|index| {
            let place = arrivals.places[..arrivals.len].get(index)?.as_ref();
            let Arrival { query, name, zone_match, .. } = place?;
            let (query, cache) = (query.as_ref().ok()?, self.caches.of(zone_match.block()?)?);
            let hash = Key::new(&self.hasher, name, &query.question, &query.asked).hash();
            cache.prefetch_place(hash);
            Some((cache, hash))
        });
        let entry = |(cache, hash)| Some((cache, Cache::prefetch_entry(cache, hash)?));
        let entries = places.map(|place| place.and_then(entry));
        for (cache, ahead) in entries.into_iter().flatten() {
            cache.prefetch_bytes(ahead);
        }
    }

    /// Prefetches the records of hosts tables for `arrivals`. In a large table each lookup waits
    /// twice for memory; together the lookups wait about as long as one.
    fn prefetch_hosts(&self, arrivals: &Arrivals<'_>) {
        let places = std::array::from_fn::<_, AHEAD_MAX, _>(|index| {
            let Arrival { name, zone_match, .. } =
                arrivals.places[..arrivals.len].get(index)?.as_ref()?;
            let slot = self.chains[zone_match.block()?].settings.hosts?;
            let table = self.data.hosts(slot);
            Some((table, table.prefetch(name.as_bytes())))
        });
        for (table, ahead) in places.into_iter().flatten() {
            table.prefetch_record(ahead);
        }
    }

    /// Prefetches the exchanges of the responses in `packets` on `connection`.
    pub(crate) fn prefetch_exchanges<'a>(
        &self,
        connection: ConnectionId,
        packets: impl Iterator<Item = &'a [u8]>,
    ) {
        for id in packets.filter_map(message::id) {
            self.exchanges.prefetch(connection, id);
        }
    }

    /// Keeps of `asked` only what applies to the client's transport, and makes its cookie that of
    /// the reply. Called once for each query, whose cookie it counts.
    #[inline]
    pub(super) fn adapt(&self, client: &Client, asked: &mut Asked) {
        let is_secure = self.clients.is_secure(client.listener);
        let wants_options = asked.edns.as_ref().is_some_and(Edns::wants_options);
        if wants_options || is_secure {
            self.adapt_options(client, asked, is_secure);
        }
    }

    #[inline(never)]
    fn adapt_options(&self, client: &Client, asked: &mut Asked, is_secure: bool) {
        *asked = client.asked(*asked);
        if !is_secure {
            *asked = asked.in_the_clear();
        } else if self.journal.protocol(client.listener) == Protocol::Quic {
            *asked = asked.padded();
        }
        if let Some(edns) = &mut asked.edns {
            let cookie = edns.cookie;
            edns.cookie =
                cookie.and_then(|cookie| self.cookies.answer(cookie, client.peer.ip(), self.unix));
        }
    }
}
