//! The client side of a worker: queries in, replies out, over UDP and TCP.
//!
//! Owns the batches of datagrams and the client connections. The engine writes one reply after the
//! other, directly into the buffer from which it is sent: for UDP a batch that is sent with one
//! call per listener, for TCP and TLS the outbox of the connection. Queries are read in batches,
//! too, so that the engine can prefetch the entries of several before it serves the first.

use super::clients::{ClientConnections, Delivery};
use super::listeners::Listeners;
use super::proxy_alarm::ProxyAlarm;
use crate::clock::Clock;
use crate::control::snapshot::LoopStats;
use crate::engine::forwarder::Arrivals;
use crate::engine::proxy::Outcome;
use crate::engine::proxy::datagrams::{Datagrams, Opened};
use crate::engine::shell::DATAGRAM_LEN_MAX;
use crate::engine::stats::DropReason;
use crate::engine::{Answered, Client, Forwarder, Reply, Via};
use crate::moment::Moment;
use crate::quic::Packet;
use crate::sys::mmsg::{Datagram, RecvBatch, ReplyBatch};
use crate::sys::pktinfo::Local;
use crate::sys::socket;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

/// Batches and connections of clients.
pub(super) struct ClientSide {
    queries: RecvBatch,
    replies: Replies,
    pub(super) connections: ClientConnections,
    /// Packets of QUIC in the current batch behind headers of the PROXY protocol.
    packets: Vec<Behind>,
}

/// A packet behind a header of the PROXY protocol, or without one.
struct Behind {
    /// Place of its datagram in the batch.
    place: usize,
    /// Length of the header.
    start: usize,
    /// The client, if a proxy has named it.
    client: Option<SocketAddr>,
}

impl ClientSide {
    /// Creates batches of `batch_max` datagrams. `gso`: replies of equal length to one client may
    /// be sent with one call.
    pub(super) fn new(batch_max: usize, gso: bool, clock: Clock, alarm: ProxyAlarm) -> Self {
        let segmented = gso && socket::can_segment();
        let batch = ReplyBatch::new(batch_max, DATAGRAM_LEN_MAX, segmented);
        Self {
            queries: RecvBatch::new(batch_max, DATAGRAM_LEN_MAX, true),
            replies: Replies { batch, joined: 0, refused: 0 },
            connections: ClientConnections::new(clock, alarm),
            packets: Vec::new(),
        }
    }

    /// Returns the reserved bytes.
    pub(super) fn reserved(&self) -> usize {
        self.queries.reserved() + self.replies.batch.reserved() + self.connections.reserved()
    }

    /// Reads and serves one batch of queries from listener number `number`, which is queued again
    /// if it may have more.
    pub(super) fn receive(
        &mut self,
        now: Moment,
        number: usize,
        listeners: &mut Listeners,
        engine: &mut Forwarder,
        loops: &mut LoopStats,
    ) {
        let Some(datagrams) = listeners.datagrams(number) else {
            return self.receive_proxied(now, number, listeners, engine, loops);
        };
        let (received, again) = self.read_batch(datagrams, loops);
        let mut arrivals = Arrivals::default();
        for index in 0..received {
            let datagram = self.queries.datagram(index);
            if let Some(client) = client_of(number, &datagram) {
                engine.read(client, datagram.bytes, datagram.truncated, &mut arrivals);
            }
            if !arrivals.is_full() && index + 1 < received {
                continue;
            }
            engine.prefetch_answers(&arrivals);
            for arrival in arrivals.drain() {
                let out = self.replies.batch.buffer();
                if let Some(len) = engine.on_arrival(now, arrival, out) {
                    let reply = Reply { client: arrival.client, len };
                    self.replies.commit(&reply, listeners, engine);
                }
            }
        }
        if again {
            listeners.queue(number);
        }
    }

    /// Reads one batch of datagrams. Returns their number, and whether there may be more.
    #[inline(always)]
    fn read_batch(&mut self, socket: BorrowedFd<'_>, loops: &mut LoopStats) -> (usize, bool) {
        // Errors other than WouldBlock are ICMP errors for earlier replies and concern no query.
        let received = self.queries.recv(socket);
        let again = match &received {
            Ok(count) => *count == self.queries.capacity(),
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        };
        let received = received.unwrap_or(0);
        loops.queries.add(received);
        (received, again)
    }

    /// Reads and serves one batch of queries, as [`ClientSide::receive`], from a listener whose
    /// datagrams may begin with headers of the PROXY protocol.
    #[inline(never)]
    fn receive_proxied(
        &mut self,
        now: Moment,
        number: usize,
        listeners: &mut Listeners,
        engine: &mut Forwarder,
        loops: &mut LoopStats,
    ) {
        let Some((socket, _)) = listeners.proxied(number) else {
            return self.receive_packets(now, number, listeners, engine);
        };
        let (received, again) = self.read_batch(socket, loops);
        let mut arrivals = Arrivals::default();
        let mut next = 0;
        while next < received {
            let Some((_, headers)) = listeners.proxied(number) else { return };
            while next < received && !arrivals.is_full() {
                let datagram = self.queries.datagram(next);
                next += 1;
                let Some(client) = client_of(number, &datagram) else { continue };
                let alarm = &mut self.connections.alarm;
                if let Some((client, packet)) =
                    open(now, client, datagram.bytes, headers, alarm, engine)
                {
                    engine.read(client, packet, datagram.truncated, &mut arrivals);
                }
            }
            engine.prefetch_answers(&arrivals);
            for arrival in arrivals.drain() {
                let out = self.replies.batch.buffer();
                if let Some(len) = engine.on_arrival(now, arrival, out) {
                    self.replies.relay(&Reply { client: arrival.client, len }, listeners, engine);
                }
            }
        }
        if again {
            listeners.queue(number);
        }
    }

    /// Reads and serves one batch from listener number `number`, whose datagrams are packets of
    /// connections.
    #[inline(never)]
    fn receive_packets(
        &mut self,
        now: Moment,
        number: usize,
        listeners: &mut Listeners,
        engine: &mut Forwarder,
    ) {
        let Some(socket) = listeners.packets(number) else { return };
        let received = self.queries.recv(socket);
        let again = match &received {
            Ok(count) => *count == self.queries.capacity(),
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        };
        let received = received.unwrap_or(0);
        let is_proxied = self.open_packets(now, number, received, listeners, engine);
        let Self { queries, connections, packets, .. } = self;
        let count = if is_proxied { packets.len() } else { received };
        let packets = (0..count).filter_map(|index| {
            let behind = packets.get(index).filter(|_| is_proxied);
            let datagram = queries.datagram(behind.map_or(index, |behind| behind.place));
            Some(Packet {
                peer: datagram.peer.filter(|_| !datagram.truncated)?,
                client: behind.and_then(|behind| behind.client),
                local: datagram.local.map(|local| local.ip),
                bytes: datagram.bytes.get(behind.map_or(0, |behind| behind.start)..)?,
            })
        });
        connections.receive(now, number, packets, listeners, engine);
        if again {
            listeners.queue(number);
        }
    }

    /// Finds the packets behind headers of the PROXY protocol in the batch of `count` datagrams.
    /// Returns false if the datagrams of the listener have none.
    fn open_packets(
        &mut self,
        now: Moment,
        number: usize,
        count: usize,
        listeners: &mut Listeners,
        engine: &mut Forwarder,
    ) -> bool {
        let Some(headers) = listeners.headers(number) else { return false };
        self.packets.clear();
        for place in 0..count {
            let datagram = self.queries.datagram(place);
            let Some(client) = client_of(number, &datagram) else { continue };
            let alarm = &mut self.connections.alarm;
            let opened = open(now, client, datagram.bytes, headers, alarm, engine);
            if let Some((client, packet)) = opened {
                let start = datagram.bytes.len() - packet.len();
                let is_named = matches!(client.via, Via::Relayed(_));
                let client = is_named.then_some(client.peer);
                self.packets.push(Behind { place, start, client });
            }
        }
        true
    }

    /// Writes every waiting client's copy of the response `packet`.
    pub(super) fn answer(
        &mut self,
        answered: &Answered,
        packet: &[u8],
        listeners: &Listeners,
        engine: &mut Forwarder,
    ) {
        while let Some(client) = engine.next_client(answered) {
            if client.via == Via::Datagram {
                let reply = engine.next_reply(answered, packet, self.replies.batch.buffer());
                reply.inspect(|reply| self.replies.commit(reply, listeners, engine));
                continue;
            }
            let via = client.via;
            let room = engine.room_over_tcp(answered, packet);
            let delivered = self.connections.answer(via, engine, room, |engine, out| {
                engine.next_reply(answered, packet, out).map_or(0, |reply| reply.len)
            });
            match delivered {
                Delivery::Queued => {}
                Delivery::Unwritten if matches!(via, Via::Relayed(_)) => {
                    let reply = engine.next_reply(answered, packet, self.replies.batch.buffer());
                    reply.inspect(|reply| self.replies.relay(reply, listeners, engine));
                }
                Delivery::Unwritten => engine.forget_reply(answered),
                Delivery::Lost => engine.stats_mut().drop(DropReason::ReplyNotSent),
            }
        }
    }

    /// Queues a reply that the engine has written elsewhere.
    pub(super) fn deliver(
        &mut self,
        client: &Client,
        written: &[u8],
        listeners: &Listeners,
        engine: &mut Forwarder,
    ) {
        let len = written.len();
        if matches!(client.via, Via::Datagram | Via::Relayed(_)) {
            self.replies.batch.buffer()[..len].copy_from_slice(written);
            return self.replies.relay(&Reply { client: *client, len }, listeners, engine);
        }
        let delivered = self.connections.answer(client.via, engine, len, |_, out| {
            out[..len].copy_from_slice(written);
            len
        });
        if delivered != Delivery::Queued {
            engine.stats_mut().drop(DropReason::ReplyNotSent);
        }
    }

    /// Sends all queued replies.
    pub(super) fn flush(
        &mut self,
        now: Moment,
        listeners: &Listeners,
        engine: &mut Forwarder,
        loops: &mut LoopStats,
    ) {
        if !self.replies.batch.is_empty() {
            self.replies.flush(listeners, engine);
        }
        self.connections.flush(now, engine);
        self.connections.send_packets(now, listeners, engine);
        loops.replies_joined += std::mem::take(&mut self.replies.joined);
        loops.segments_refused += std::mem::take(&mut self.replies.refused);
    }
}

/// Replies over UDP to be sent.
struct Replies {
    batch: ReplyBatch,
    /// Replies sent as part of a GSO batch since [`ClientSide::flush`].
    joined: u64,
    /// GSO batches that the kernel has refused since then.
    refused: u64,
}

impl Replies {
    /// Queues the reply in the batch's buffer.
    fn commit(&mut self, reply: &Reply, listeners: &Listeners, engine: &mut Forwarder) {
        let Client { listener, peer, local, .. } = &reply.client;
        let local = local.map(|(ip, interface)| Local { ip, interface });
        self.batch.commit(reply.len, *listener, peer, local);
        if self.batch.is_full() {
            self.flush(listeners, engine);
        }
    }

    /// Queues the reply in the batch's buffer. That to a proxy's client goes to the proxy.
    fn relay(&mut self, reply: &Reply, listeners: &Listeners, engine: &mut Forwarder) {
        let Via::Relayed(relay) = reply.client.via else {
            return self.commit(reply, listeners, engine);
        };
        match listeners.relay(reply.client.listener, relay) {
            Some(peer) => {
                let client = Client { peer, ..reply.client };
                self.commit(&Reply { client, ..*reply }, listeners, engine);
            }
            None => engine.stats_mut().drop(DropReason::ReplyNotSent),
        }
    }

    fn flush(&mut self, listeners: &Listeners, engine: &mut Forwarder) {
        let sent = self
            .batch
            .flush(|number| listeners.socket(usize::from(number)).expect("a query came in on it"));
        engine.stats_mut().drops[DropReason::ReplyNotSent as usize] += sent.dropped as u64;
        self.joined += sent.joined as u64;
        self.refused += u64::from(sent.refused);
    }
}

/// Removes the header of the PROXY protocol from a datagram of `client`. Returns the client that it
/// names, and the bytes behind the header; `None`: no query is left.
fn open<'a>(
    now: Moment,
    client: Client,
    bytes: &'a [u8],
    headers: &mut Datagrams,
    alarm: &mut ProxyAlarm,
    engine: &mut Forwarder,
) -> Option<(Client, &'a [u8])> {
    if client.peer.port() == 0 {
        engine.stats_mut().drop(DropReason::QueryFromPortZero);
        return None;
    }
    let counted = &mut engine.stats_mut().proxy_headers;
    match headers.open(now, client.peer, bytes) {
        Opened::Own { payload, has_header } => {
            if has_header {
                counted.count(Outcome::Ignored);
            }
            Some((client, payload))
        }
        Opened::Relayed { source, relay, has_header, payload } => {
            if has_header {
                counted.count(Outcome::Used);
            }
            Some((Client { peer: source, via: Via::Relayed(relay), ..client }, payload))
        }
        Opened::Session => {
            counted.count(Outcome::Used);
            None
        }
        Opened::Dropped(flaw) => {
            counted.count(flaw.outcome());
            alarm.report(now, client.peer, flaw, true);
            None
        }
    }
}

#[inline]
fn client_of(listener: usize, datagram: &Datagram<'_>) -> Option<Client> {
    let local = datagram.local.map(|local| (local.ip, local.interface));
    Some(Client { listener: listener as u16, peer: datagram.peer?, local, via: Via::Datagram })
}
