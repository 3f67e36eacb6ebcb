//! A client and an endpoint in memory, with a link between them and a time that jumps.
//!
//! The client is the library's. The link may lose packets and deliver them late; the server answers
//! each query with itself, unless a test answers for it.

#[path = "../../../tests/common/received.rs"]
mod received;

use crate::engine::key::{ConnectionKey, Key};
use crate::http::Response;
use crate::moment::Moment;
use crate::quic::endpoint::some_instant;
use crate::quic::{
    Application, Endpoint, Event, Failure, Id, Keys, Packet, Query, Reason, Settings,
};
use bytes::BytesMut;
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, DatagramEvent, Dir,
    EndpointConfig, StreamEvent, StreamId, TransportConfig, VarInt,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
pub(super) use received::Received;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time of one way.
pub(super) const WAY: Duration = Duration::from_millis(10);
pub(super) const READ: Duration = Duration::from_secs(3);
pub(super) const SILENCE: Duration = Duration::from_secs(20);
pub(super) const LEN_MAX: usize = 4_096;

pub(super) fn settings() -> Settings {
    Settings {
        application: Application::Doq,
        requests_max: 8,
        read: READ,
        silence: SILENCE,
        query_len_max: LEN_MAX,
    }
}

/// TLS configurations of a server, and of a client that trusts it.
pub(super) fn tls(application: Application) -> (Arc<rustls::ServerConfig>, rustls::ClientConfig) {
    let made = rcgen::generate_simple_self_signed(["dns.test".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = [&rustls::version::TLS13];
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let protocol: &[u8] = if application == Application::Doq { b"doq" } else { b"h3" };
    server.alpn_protocols = vec![protocol.to_vec()];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![protocol.to_vec()];
    (Arc::new(server), client)
}

pub(super) struct World {
    pub(super) now: Moment,
    pub(super) application: Application,
    origin: Instant,
    pub(super) endpoint: Endpoint,
    tls: (Arc<rustls::ServerConfig>, rustls::ClientConfig),
    client: quinn_proto::Endpoint,
    pub(super) connections: HashMap<ConnectionHandle, Connection>,
    pub(super) lost: Vec<ConnectionError>,
    pub(super) streams: BTreeMap<(usize, StreamId), Received>,
    /// Streams that the clients leave unread.
    pub(super) unread: Vec<StreamId>,
    /// Packets under way, by arrival: to the server or not, and the client's address.
    link: BTreeMap<(Moment, u64), (bool, SocketAddr, Vec<u8>)>,
    sent: u64,
    dice: ChaCha8Rng,
    /// One packet in this number is lost, and one is late.
    pub(super) loss: Option<u32>,
    pub(super) peer: SocketAddr,
    /// Address of the client that a proxy names.
    pub(super) named: Option<SocketAddr>,
    /// The server has CPU time for handshakes.
    pub(super) may_shake: bool,
    /// Clients may ask.
    pub(super) may_ask: bool,
    /// Queries are answered at once, with themselves.
    pub(super) echoes: bool,
    /// Status of responses of HTTP.
    pub(super) status: u16,
    pub(super) admits: bool,
    pub(super) owners: HashMap<u32, Id>,
    pub(super) queries: Vec<(Id, u32, Vec<u8>)>,
    /// Addresses of their clients.
    pub(super) peers: Vec<SocketAddr>,
    pub(super) failures: Vec<Failure>,
    pub(super) closed: Vec<Option<u32>>,
    pub(super) taken: Vec<bool>,
    pub(super) to_client: usize,
    /// Packets that have cost the server time for handshakes.
    pub(super) shaken: usize,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self::with(seed, settings())
    }

    pub(super) fn with(seed: u64, settings: Settings) -> Self {
        let origin = some_instant();
        let tls = tls(settings.application);
        let keys = Keys::new(&[7; 32], 1);
        let own = (Arc::clone(&tls.0), settings);
        let endpoint = Endpoint::new(&keys, 0, own, [seed as u8; 32], origin).unwrap();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[3; 32]);
        let mut config = EndpointConfig::new(Arc::new(key));
        config.rng_seed(Some([9; 32]));
        let client = quinn_proto::Endpoint::new(Arc::new(config), None, true, None);
        Self {
            now: Moment::ZERO,
            application: settings.application,
            origin,
            endpoint,
            tls,
            client,
            connections: HashMap::new(),
            lost: Vec::new(),
            streams: BTreeMap::new(),
            unread: Vec::new(),
            link: BTreeMap::new(),
            sent: 0,
            dice: ChaCha8Rng::seed_from_u64(seed),
            loss: None,
            peer: "192.0.2.9:4000".parse().unwrap(),
            named: None,
            may_shake: true,
            may_ask: true,
            echoes: true,
            status: 200,
            admits: true,
            owners: HashMap::new(),
            queries: Vec::new(),
            peers: Vec::new(),
            failures: Vec::new(),
            closed: Vec::new(),
            taken: Vec::new(),
            to_client: 0,
            shaken: 0,
        }
    }

    /// Replaces the server, as by another process whose secret is `secret`.
    pub(super) fn restart(&mut self, secret: u8) {
        let keys = Keys::new(&[secret; 32], 1);
        let own = (Arc::clone(&self.tls.0), settings());
        self.endpoint = Endpoint::new(&keys, 0, own, [88; 32], self.origin).unwrap();
    }

    /// Changes the settings of the server.
    pub(super) fn reload(&mut self, settings: Settings) {
        let keys = Keys::new(&[7; 32], 1);
        self.endpoint.reload(&keys, (Arc::clone(&self.tls.0), settings));
    }

    fn instant(&self) -> Instant {
        self.origin + Duration::from_nanos(self.now.as_nanos())
    }

    /// Begins a connection of the client.
    pub(super) fn connect(&mut self) -> ConnectionHandle {
        self.connect_with(|_| {})
    }

    pub(super) fn connect_with(
        &mut self,
        change: impl FnOnce(&mut TransportConfig),
    ) -> ConnectionHandle {
        let crypto = QuicClientConfig::try_from(self.tls.1.clone()).unwrap();
        let mut config = ClientConfig::new(Arc::new(crypto));
        let mut transport = TransportConfig::default();
        transport.mtu_discovery_config(None);
        change(&mut transport);
        config.transport_config(Arc::new(transport));
        let server = "192.0.2.1:853".parse().unwrap();
        let (handle, connection) =
            self.client.connect(self.instant(), config, server, "dns.test").unwrap();
        self.connections.insert(handle, connection);
        handle
    }

    /// Begins a connection and completes its handshake.
    pub(super) fn connected(&mut self) -> ConnectionHandle {
        let handle = self.connect();
        self.run(WAY * 6);
        handle
    }

    pub(super) fn client(&mut self, handle: ConnectionHandle) -> &mut Connection {
        self.connections.get_mut(&handle).expect("it is connected")
    }

    /// Opens a stream and sends `bytes` on it; `None`: there is no credit.
    pub(super) fn open(
        &mut self,
        handle: ConnectionHandle,
        bytes: &[u8],
        is_last: bool,
    ) -> Option<StreamId> {
        let connection = self.client(handle);
        let id = connection.streams().open(quinn_proto::Dir::Bi)?;
        assert_eq!(connection.send_stream(id).write(bytes), Ok(bytes.len()));
        if is_last {
            connection.send_stream(id).finish().unwrap();
        }
        Some(id)
    }

    /// Opens a stream in one direction and sends `bytes` on it; `None`: there is no credit.
    pub(super) fn open_uni(
        &mut self,
        handle: ConnectionHandle,
        bytes: &[u8],
        is_last: bool,
    ) -> Option<StreamId> {
        let connection = self.client(handle);
        let id = connection.streams().open(quinn_proto::Dir::Uni)?;
        assert_eq!(connection.send_stream(id).write(bytes), Ok(bytes.len()));
        if is_last {
            connection.send_stream(id).finish().unwrap();
        }
        Some(id)
    }

    /// Asks on a stream whose reply the client leaves unread.
    pub(super) fn open_unread(&mut self, handle: ConnectionHandle, bytes: &[u8]) -> StreamId {
        let id = self.open(handle, bytes, true).expect("there is credit");
        self.unread.push(id);
        id
    }

    /// Lets time pass until `span` is over, with all packets and deadlines in it.
    pub(super) fn run(&mut self, span: Duration) {
        let until = self.now.plus(span);
        loop {
            self.pump();
            let mut next = self.link.keys().next().map(|(at, _)| *at);
            next = next.into_iter().chain(self.endpoint.next_deadline()).min();
            let origin = self.origin;
            let due = |connection: &mut Connection| {
                let due = connection.poll_timeout()?;
                Some(Moment::ZERO.plus(due.saturating_duration_since(origin)))
            };
            let own = self.connections.values_mut().filter_map(due).min();
            let Some(next) = next.into_iter().chain(own).min().filter(|next| *next <= until) else {
                break;
            };
            self.now = self.now.max(next);
            self.deliver();
            self.endpoint.on_time(self.now);
            let instant = self.instant();
            for connection in self.connections.values_mut() {
                connection.handle_timeout(instant);
            }
        }
        self.now = until;
    }

    /// Delivers the packets that have arrived.
    fn deliver(&mut self) {
        while let Some(entry) = self.link.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (is_to_server, peer, bytes) = entry.remove();
            if is_to_server {
                self.receive(peer, &bytes);
                continue;
            }
            self.to_client += 1;
            let (instant, mut out) = (self.instant(), Vec::new());
            let server = "192.0.2.1:853".parse().unwrap();
            let bytes = BytesMut::from(&bytes[..]);
            let event = self.client.handle(instant, server, None, None, bytes, &mut out);
            if let Some(DatagramEvent::ConnectionEvent(handle, event)) = event
                && let Some(connection) = self.connections.get_mut(&handle)
            {
                connection.handle_event(event);
            }
        }
    }

    /// Passes a packet to the server.
    pub(super) fn receive(&mut self, peer: SocketAddr, bytes: &[u8]) {
        let packet = Packet { peer, client: self.named, local: None, bytes };
        let out = self.endpoint.receive(self.now, packet, self.may_shake);
        let out = out.map(|out| (out.peer, out.bytes.to_vec()));
        self.shaken += usize::from(self.endpoint.has_shaken());
        self.put(out, false);
    }

    /// Puts a packet on the link.
    fn put(&mut self, packet: Option<(SocketAddr, Vec<u8>)>, is_to_server: bool) {
        let Some((peer, bytes)) = packet else { return };
        let mut way = WAY;
        if let Some(loss) = self.loss {
            if self.dice.next_u32().is_multiple_of(loss) {
                return;
            }
            if self.dice.next_u32().is_multiple_of(loss) {
                way *= 3;
            }
        }
        self.sent += 1;
        self.link.insert((self.now.plus(way), self.sent), (is_to_server, peer, bytes));
    }

    /// Handles all events and sends all packets.
    fn pump(&mut self) {
        self.serve();
        let mut out = Vec::new();
        let mut ended = Vec::new();
        self.endpoint.transmit(
            self.now,
            |outgoing| out.push((outgoing.peer, outgoing.bytes.to_vec())),
            |key| ended.push(key),
        );
        for key in ended {
            self.owners.remove(&key.0.index);
            self.closed.push(None);
        }
        out.into_iter().for_each(|packet| self.put(Some(packet), false));
        let (instant, peer) = (self.instant(), self.peer);
        let mut out = Vec::new();
        for (handle, connection) in &mut self.connections {
            while let Some(event) = connection.poll_endpoint_events() {
                if let Some(event) = self.client.handle_event(*handle, event) {
                    connection.handle_event(event);
                }
            }
            while let Some(event) = connection.poll() {
                match event {
                    quinn_proto::Event::ConnectionLost { reason } => self.lost.push(reason),
                    quinn_proto::Event::Stream(StreamEvent::Readable { id })
                        if !self.unread.contains(&id) =>
                    {
                        let received = self.streams.entry((handle.0, id)).or_default();
                        received.read(connection, id);
                    }
                    quinn_proto::Event::Stream(StreamEvent::Opened { dir: Dir::Uni }) => {
                        while let Some(id) = connection.streams().accept(Dir::Uni) {
                            if self.unread.contains(&id) {
                                continue;
                            }
                            let received = self.streams.entry((handle.0, id)).or_default();
                            received.read(connection, id);
                        }
                    }
                    quinn_proto::Event::Stream(StreamEvent::Stopped { id, error_code }) => {
                        let received = self.streams.entry((handle.0, id)).or_default();
                        received.stopped = Some(error_code.into_inner());
                        let _ = connection.send_stream(id).reset(error_code);
                    }
                    _ => {}
                }
            }
            let mut buffer = Vec::new();
            while let Some(transmit) = connection.poll_transmit(instant, 1, &mut buffer) {
                out.push((peer, buffer[..transmit.size].to_vec()));
                buffer.clear();
            }
        }
        self.connections.retain(|_, connection| !connection.is_drained());
        out.into_iter().for_each(|packet| self.put(Some(packet), true));
    }

    fn serve(&mut self) {
        while self.may_shake && self.endpoint.waiting() > 0 {
            let out = self.endpoint.shake(self.now);
            let out = out.map(|out| (out.peer, out.bytes.to_vec()));
            self.put(out, false);
        }
        self.endpoint.resume();
        let may_ask = self.may_ask;
        while let Some(event) = self.endpoint.next_event(self.now, |_| may_ask) {
            match event {
                Event::Connected { id, .. } if !self.admits => {
                    self.endpoint.close(self.now, id, Reason::Load);
                }
                Event::Connected { id, .. } => {
                    let index = self.owners.len() as u32;
                    self.endpoint.admit(id, ConnectionKey(Key { index, generation: 0 }));
                    self.owners.insert(index, id);
                }
                Event::Failed(failure) => self.failures.push(failure),
                Event::Query { key, stream, peer, query, .. } => {
                    let id = self.owners[&key.0.index];
                    assert!(self.endpoint.awaits(id, stream));
                    let asked = match query {
                        Query::Message(message) => message.to_vec(),
                        Query::Request(request) => {
                            let request = request.view(stream);
                            [request.target, request.body].concat()
                        }
                    };
                    if self.echoes {
                        self.echo(id, stream, &asked);
                    }
                    self.peers.push(peer);
                    self.queries.push((id, stream, asked));
                }
                Event::Taken { is_drained, .. } => self.taken.push(is_drained),
                Event::Closed { key, code } => {
                    self.owners.remove(&key.0.index);
                    self.closed.push(code);
                }
            }
        }
    }

    /// Answers a query with itself.
    pub(super) fn echo(&mut self, id: Id, stream: u32, asked: &[u8]) {
        let waits = match self.application {
            Application::Doq => self.endpoint.answer(id, stream, asked),
            Application::Http3 => {
                self.endpoint.respond(id, stream, &Response::new(self.status, &[], asked))
            }
        };
        assert_eq!(waits, Ok(false));
    }

    /// Returns what the client has received on a stream.
    pub(super) fn received(&self, handle: ConnectionHandle, id: StreamId) -> &Received {
        const NOTHING: &Received =
            &Received { bytes: Vec::new(), is_finished: false, reset: None, stopped: None };
        self.streams.get(&(handle.0, id)).unwrap_or(NOTHING)
    }

    /// Returns the application's code by which the server has closed the client's connection.
    pub(super) fn close_code(&self) -> Option<u64> {
        // Packets that crossed with the end get a stateless reset.
        match self.lost.first()? {
            ConnectionError::ApplicationClosed(close) => Some(close.error_code.into_inner()),
            _ => None,
        }
    }
}

/// Returns a query of `len` bytes behind its length.
pub(super) fn query(len: usize, fill: u8) -> Vec<u8> {
    let mut bytes = (len as u16).to_be_bytes().to_vec();
    bytes.extend_from_slice(&[0, 0]);
    bytes.resize(2 + len, fill);
    bytes
}

/// Returns a code as the client's library has it.
pub(super) fn code(code: u32) -> VarInt {
    VarInt::from_u32(code)
}
