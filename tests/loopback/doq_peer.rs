//! A scripted server of DNS over QUIC: a test says what becomes of each query. And a lossy relay.
//!
//! The library's server on a socket. Server and relay are threads that end with their handles.

use crate::certs::Authority;
use crate::doq::framed;
use crate::kit::answer_to;
use crate::quic::Received;
use crate::{TIMEOUT, any_port};
use bytes::{Bytes, BytesMut};
use onward::clock::Clock;
use onward::moment::Moment;
use quinn_proto::crypto::rustls::QuicServerConfig;
use quinn_proto::{
    Connection, ConnectionError, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig,
    Event, ServerConfig, StreamEvent, StreamId, TransportConfig, VarInt, WriteError,
};
use std::collections::{BTreeSet, HashMap};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A query on a stream.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    /// Number of the connection, from 0.
    pub(crate) connection: usize,
    pub(crate) stream: StreamId,
    pub(crate) message: Vec<u8>,
}

/// Counts of a peer.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Ports of the clients' connections.
    pub(crate) ports: Vec<u16>,
    /// Connections that have ended.
    pub(crate) ends: Vec<ConnectionError>,
    /// Numbers of the connections in `ends`.
    pub(crate) ended: Vec<usize>,
    /// Codes of streams that a client has reset or stopped.
    pub(crate) cancelled: Vec<u64>,
    pub(crate) queries: usize,
    /// Clients that had to prove their addresses.
    pub(crate) retried: usize,
}

impl Seen {
    /// Returns the application's code of the first connection that a client has closed, if one has
    /// ended; `Some(None)`: it has ended in another way.
    pub(crate) fn code(&self) -> Option<Option<u64>> {
        Some(match self.ends.first()? {
            ConnectionError::ApplicationClosed(close) => Some(close.error_code.into_inner()),
            _ => None,
        })
    }
}

/// The server's side, for the script.
pub(crate) struct Peer {
    /// Number of queries that were answered.
    pub(crate) answered: usize,
    /// New clients have to prove their addresses.
    pub(crate) retries: bool,
    endpoint: Endpoint,
    socket: UdpSocket,
    connections: HashMap<ConnectionHandle, (usize, Connection, HashMap<StreamId, Received>)>,
    count: usize,
    /// Bytes for streams that the clients do not grant yet.
    outbox: Vec<(Query, Vec<u8>, bool)>,
    seen: Arc<Mutex<Seen>>,
}

/// A running server.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Seen>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        let _ = self.thread.take().expect("it runs").join();
    }
}

#[expect(clippy::disallowed_methods, reason = "the library needs the time")]
fn now() -> Instant {
    Instant::now()
}

/// Starts a server for `dns.test`, whose certificate is of `authority`.
pub(crate) fn doq(
    authority: &Authority,
    script: impl FnMut(&mut Peer, Option<Query>) + Send + 'static,
) -> Running {
    let tls = authority.issue(&["dns.test"]).server_of(&rustls::version::TLS13);
    doq_with(tls, any_port(), |_| {}, script)
}

/// Starts a server at `address` with other parameters. The script gets each query, and `None` once
/// in a while.
pub(crate) fn doq_with(
    mut tls: rustls::ServerConfig,
    address: SocketAddr,
    change: impl FnOnce(&mut ServerConfig),
    mut script: impl FnMut(&mut Peer, Option<Query>) + Send + 'static,
) -> Running {
    if tls.alpn_protocols.is_empty() {
        tls.alpn_protocols = vec![b"doq".to_vec()];
    }
    let crypto = Arc::new(QuicServerConfig::try_from(tls).unwrap());
    let mut config = ServerConfig::with_crypto(crypto);
    change(&mut config);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[5; 32]);
    let endpoint = EndpointConfig::new(Arc::new(key));
    let endpoint = Endpoint::new(Arc::new(endpoint), Some(Arc::new(config)), true, None);
    let socket = UdpSocket::bind(address).unwrap();
    let address = socket.local_addr().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
    let seen = Arc::<Mutex<Seen>>::default();
    let ends = Arc::new(AtomicBool::new(false));
    let connections = HashMap::new();
    let mut peer = Peer {
        answered: 0,
        retries: false,
        endpoint,
        socket,
        connections,
        count: 0,
        outbox: Vec::new(),
        seen: Arc::clone(&seen),
    };
    let over = Arc::clone(&ends);
    let thread = std::thread::spawn(move || {
        let clock = Clock::start();
        while !over.load(Ordering::SeqCst) && clock.now().since(Moment::ZERO) < 4 * TIMEOUT {
            script(&mut peer, None);
            peer.write();
            peer.transmit();
            for query in peer.turn() {
                script(&mut peer, Some(query));
            }
        }
    });
    Running { address, seen, ends, thread: Some(thread) }
}

/// Returns parameters with this number of streams at once, and this idle time-out.
pub(crate) fn transport(streams: u32, idle: Option<Duration>) -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.max_concurrent_bidi_streams(streams.into()).mtu_discovery_config(None);
    transport.max_idle_timeout(idle.map(|idle| idle.try_into().unwrap()));
    Arc::new(transport)
}

impl Peer {
    /// Receives what has arrived or waits a moment. Returns the queries that are whole.
    fn turn(&mut self) -> Vec<Query> {
        self.receive();
        let mut queries = Vec::new();
        for (handle, (number, connection, streams)) in &mut self.connections {
            connection.handle_timeout(now());
            while let Some(event) = connection.poll_endpoint_events() {
                if let Some(event) = self.endpoint.handle_event(*handle, event) {
                    connection.handle_event(event);
                }
            }
            while let Some(event) = connection.poll() {
                match event {
                    Event::ConnectionLost { reason } => {
                        let mut seen = self.seen.lock().unwrap();
                        seen.ends.push(reason);
                        seen.ended.push(*number);
                    }
                    Event::Stream(StreamEvent::Opened { dir: Dir::Bi }) => {
                        while let Some(id) = connection.streams().accept(Dir::Bi) {
                            let own = streams.entry(id).or_default();
                            own.read(connection, id);
                            queries.extend(query(*number, id, own));
                        }
                    }
                    Event::Stream(StreamEvent::Readable { id }) => {
                        let own = streams.entry(id).or_default();
                        let was_finished = own.is_finished;
                        own.read(connection, id);
                        if let Some(code) = own.reset {
                            self.seen.lock().unwrap().cancelled.push(code);
                        }
                        if !was_finished {
                            queries.extend(query(*number, id, own));
                        }
                    }
                    Event::Stream(StreamEvent::Stopped { error_code, .. }) => {
                        self.seen.lock().unwrap().cancelled.push(error_code.into_inner());
                    }
                    _ => {}
                }
            }
        }
        self.connections.retain(|_, (_, connection, _)| !connection.is_drained());
        self.transmit();
        self.seen.lock().unwrap().queries += queries.len();
        queries
    }
    /// Passes what has arrived to the connections, or waits a moment.
    fn receive(&mut self) {
        let mut buffer = [0; 2_048];
        let mut out = Vec::new();
        if let Ok((len, from)) = self.socket.recv_from(&mut buffer) {
            let bytes = BytesMut::from(&buffer[..len]);
            match self.endpoint.handle(now(), from, None, None, bytes, &mut out) {
                Some(DatagramEvent::NewConnection(incoming))
                    if self.retries && incoming.may_retry() =>
                {
                    self.seen.lock().unwrap().retried += 1;
                    let transmit = self.endpoint.retry(incoming, &mut out).unwrap();
                    let _ = self.socket.send_to(&out[..transmit.size], transmit.destination);
                }
                Some(DatagramEvent::NewConnection(incoming)) => {
                    match self.endpoint.accept(incoming, now(), &mut out, None) {
                        Ok((handle, connection)) => {
                            self.seen.lock().unwrap().ports.push(from.port());
                            let own = (self.count, connection, HashMap::new());
                            self.connections.insert(handle, own);
                            self.count += 1;
                        }
                        Err(error) => {
                            let response = error.response.expect("a refusal has a packet");
                            let bytes = &out[..response.size];
                            let _ = self.socket.send_to(bytes, response.destination);
                        }
                    }
                }
                Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                    if let Some((_, connection, _)) = self.connections.get_mut(&handle) {
                        connection.handle_event(event);
                    }
                }
                Some(DatagramEvent::Response(transmit)) => {
                    let _ = self.socket.send_to(&out[..transmit.size], transmit.destination);
                }
                None => {}
            }
        }
    }

    /// Sends the datagrams that are due.
    pub(crate) fn transmit(&mut self) {
        let mut buffer = Vec::new();
        for (_, connection, _) in self.connections.values_mut() {
            while let Some(transmit) = connection.poll_transmit(now(), 1, &mut buffer) {
                let _ = self.socket.send_to(&buffer[..transmit.size], transmit.destination);
                buffer.clear();
            }
        }
    }

    fn at(&mut self, connection: usize) -> Option<&mut Connection> {
        let mut all = self.connections.values_mut();
        all.find(|(number, ..)| *number == connection).map(|(_, connection, _)| connection)
    }

    /// Sends the right answer to `query`.
    pub(crate) fn answer(&mut self, query: &Query) {
        self.answered += 1;
        self.send(query, &framed(&answer_to(&query.message)), true);
    }

    /// Sends these bytes on the stream of `query`.
    pub(crate) fn send(&mut self, query: &Query, bytes: &[u8], is_last: bool) {
        self.outbox.push((query.clone(), bytes.to_vec(), is_last));
        self.write();
    }

    /// Writes what the clients grant. They may have ended a stream.
    fn write(&mut self) {
        let mut outbox = std::mem::take(&mut self.outbox);
        outbox.retain_mut(|(query, bytes, is_last)| {
            let Some(connection) = self.at(query.connection) else { return false };
            let mut stream = connection.send_stream(query.stream);
            match stream.write(bytes) {
                Ok(count) => _ = bytes.drain(..count),
                Err(WriteError::Blocked) => return !bytes.is_empty(),
                Err(_) => return false,
            }
            if bytes.is_empty() && *is_last {
                let _ = stream.finish();
            }
            !bytes.is_empty()
        });
        self.outbox = outbox;
    }

    /// Resets the stream of `query`.
    pub(crate) fn reset(&mut self, query: &Query, code: u32) {
        let Some(connection) = self.at(query.connection) else { return };
        connection.send_stream(query.stream).reset(VarInt::from_u32(code)).unwrap();
    }

    /// Closes a connection.
    pub(crate) fn close(&mut self, connection: usize, code: u32) {
        if let Some(connection) = self.at(connection) {
            connection.close(now(), VarInt::from_u32(code), Bytes::new());
        }
    }

    /// Forgets all connections without a word, as a process that is killed.
    pub(crate) fn forget_all(&mut self) {
        for (handle, ..) in self.connections.drain() {
            self.endpoint.handle_event(handle, quinn_proto::EndpointEvent::drained());
        }
    }
}

/// Returns the query on a stream, if it is whole.
fn query(connection: usize, stream: StreamId, received: &Received) -> Option<Query> {
    let (prefix, message) = received.bytes.split_first_chunk::<2>()?;
    let is_whole =
        received.is_finished && usize::from(u16::from_be_bytes(*prefix)) == message.len();
    is_whole.then(|| Query { connection, stream, message: message.to_vec() })
}

/// A relay between clients and a server that loses and reorders datagrams.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    /// Number of lost datagrams.
    pub(crate) lost: Arc<AtomicUsize>,
    /// Headers of the PROXY protocol, of different contents.
    pub(crate) headers: Arc<Mutex<BTreeSet<Vec<u8>>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        let _ = self.thread.take().expect("it runs").join();
    }
}

impl Relay {
    /// Starts a relay to `server` that loses one datagram in `part`, and lets the next one overtake
    /// one in `part`. Headers of the PROXY protocol are removed.
    pub(crate) fn start(server: SocketAddr, part: u64) -> Self {
        let front = UdpSocket::bind(any_port()).unwrap();
        front.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let address = front.local_addr().unwrap();
        let (lost, ends) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let headers = Arc::<Mutex<BTreeSet<_>>>::default();
        let (losses, over, found) = (Arc::clone(&lost), Arc::clone(&ends), Arc::clone(&headers));
        let thread = std::thread::spawn(move || {
            let mut backs: HashMap<SocketAddr, UdpSocket> = HashMap::new();
            let mut held: Vec<(SocketAddr, bool, Vec<u8>)> = Vec::new();
            let (mut dice, mut buffer) = (17_u64, [0; 2_048]);
            while !over.load(Ordering::SeqCst) {
                let mut passed = Vec::new();
                if let Ok((len, from)) = front.recv_from(&mut buffer) {
                    backs.entry(from).or_insert_with(|| {
                        let back = UdpSocket::bind(any_port()).unwrap();
                        back.connect(server).unwrap();
                        back.set_nonblocking(true).unwrap();
                        back
                    });
                    let mut bytes = buffer[..len].to_vec();
                    if bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n") {
                        let len = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
                        found.lock().unwrap().insert(bytes.drain(..16 + len).collect());
                    }
                    passed.push((from, true, bytes));
                }
                for (client, back) in &backs {
                    while let Ok(len) = back.recv(&mut buffer) {
                        passed.push((*client, false, buffer[..len].to_vec()));
                    }
                }
                let mut late = std::mem::take(&mut held);
                for datagram in passed {
                    dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    match (dice >> 33) % part {
                        0 => _ = losses.fetch_add(1, Ordering::SeqCst),
                        1 => held.push(datagram),
                        _ => late.insert(0, datagram),
                    }
                }
                for (client, is_to_server, bytes) in late {
                    let _ = match is_to_server {
                        true => backs[&client].send(&bytes),
                        false => front.send_to(&bytes, client),
                    };
                }
            }
        });
        Self { address, lost, headers, ends, thread: Some(thread) }
    }
}
