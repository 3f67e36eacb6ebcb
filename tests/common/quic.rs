//! A client over QUIC: blocking, on a socket, with the library's state of the connection.
//!
//! Packets are exchanged while a test waits for something. Streams are read as soon as they can be,
//! so that nothing of them is lost if the connection ends.

#![allow(dead_code, reason = "each test binary uses its part of this")]

#[path = "received.rs"]
mod received;

use super::until::{TIMEOUT, until};
use bytes::BytesMut;
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, DatagramEvent, Dir, Endpoint,
    EndpointConfig, Event, StreamEvent, StreamId, VarInt,
};
pub(crate) use received::Received;
use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A connection to a server.
pub(crate) struct Quic {
    endpoint: Endpoint,
    handle: ConnectionHandle,
    pub(crate) connection: Connection,
    socket: UdpSocket,
    server: SocketAddr,
    /// Bytes in front of each datagram.
    header: Vec<u8>,
    pub(crate) received: HashMap<StreamId, Received>,
    /// Reason for the end.
    pub(crate) end: Option<ConnectionError>,
}

#[expect(clippy::disallowed_methods, reason = "the library needs the time")]
fn now() -> Instant {
    Instant::now()
}

impl Quic {
    /// Connects to `server` with this protocol, and waits until the handshake ends.
    pub(crate) fn dial(server: SocketAddr, tls: rustls::ClientConfig, protocol: &[u8]) -> Self {
        Self::dial_behind(&[], server, tls, protocol)
    }

    /// Connects as [`Quic::dial`], with `header` in front of each datagram.
    pub(crate) fn dial_behind(
        header: &[u8],
        server: SocketAddr,
        mut tls: rustls::ClientConfig,
        protocol: &[u8],
    ) -> Self {
        tls.alpn_protocols = vec![protocol.to_vec()];
        let crypto = QuicClientConfig::try_from(tls).unwrap();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[3; 32]);
        let config = EndpointConfig::new(Arc::new(key));
        let mut endpoint = Endpoint::new(Arc::new(config), None, true, None);
        let client = ClientConfig::new(Arc::new(crypto));
        let (handle, connection) = endpoint.connect(now(), client, server, "dns.test").unwrap();
        let (socket, received) = (socket_to(server), HashMap::new());
        let header = header.to_vec();
        let mut quic =
            Self { endpoint, handle, connection, socket, server, header, received, end: None };
        quic.wait("the handshake ends", |quic| {
            (quic.end.is_some() || !quic.connection.is_handshaking()).then_some(())
        });
        quic
    }

    /// Goes on from another port.
    pub(crate) fn rebind(&mut self) {
        self.socket = socket_to(self.server);
    }

    /// Loses the packets that have arrived.
    pub(crate) fn discard(&mut self) {
        while self.socket.recv(&mut [0; 2_048]).is_ok() {}
    }

    /// Sends `bytes` on a new stream.
    pub(crate) fn send(&mut self, bytes: &[u8], is_last: bool) -> StreamId {
        self.send_on(Dir::Bi, bytes, is_last)
    }

    /// Sends `bytes` on a new stream of this kind.
    pub(crate) fn send_on(&mut self, dir: Dir, bytes: &[u8], is_last: bool) -> StreamId {
        let id = self.wait("a stream is granted", |quic| quic.connection.streams().open(dir));
        assert_eq!(self.connection.send_stream(id).write(bytes), Ok(bytes.len()));
        if is_last {
            self.connection.send_stream(id).finish().unwrap();
        }
        self.transmit();
        id
    }

    /// Waits until a stream or the connection ends. Returns what was received on the stream.
    pub(crate) fn finished(&mut self, id: StreamId) -> Received {
        self.wait("a stream ends", |quic| {
            let received = quic.received.get(&id).cloned().unwrap_or_default();
            let is_over = received.is_finished || received.reset.is_some() || quic.end.is_some();
            is_over.then_some(received)
        })
    }

    /// Waits until the server has closed the connection. Returns the application's code.
    pub(crate) fn code(&mut self) -> Option<u64> {
        self.wait("the connection ends", |quic| quic.end.clone());
        match &self.end {
            Some(ConnectionError::ApplicationClosed(close)) => Some(close.error_code.into_inner()),
            _ => None,
        }
    }

    /// Closes the connection.
    pub(crate) fn close(mut self) {
        self.connection.close(now(), VarInt::from_u32(0), bytes::Bytes::new());
        self.transmit();
    }

    /// Exchanges packets until `find` finds something.
    pub(crate) fn wait<T>(
        &mut self,
        what: &str,
        mut find: impl FnMut(&mut Self) -> Option<T>,
    ) -> T {
        until(what, || {
            self.turn();
            find(self)
        })
    }

    /// Sends the packets that are due, and receives one packet or waits a moment.
    pub(crate) fn turn(&mut self) {
        self.transmit();
        let mut buffer = [0; 2_048];
        let mut out = Vec::new();
        if let Ok(len) = self.socket.recv(&mut buffer) {
            let bytes = BytesMut::from(&buffer[..len]);
            let event = self.endpoint.handle(now(), self.server, None, None, bytes, &mut out);
            if let Some(DatagramEvent::ConnectionEvent(_, event)) = event {
                self.connection.handle_event(event);
            }
        }
        self.connection.handle_timeout(now());
        while let Some(event) = self.connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.connection.handle_event(event);
            }
        }
        while let Some(event) = self.connection.poll() {
            match event {
                Event::ConnectionLost { reason } => _ = self.end.get_or_insert(reason),
                Event::Stream(StreamEvent::Readable { id }) => self.read(id),
                Event::Stream(StreamEvent::Opened { dir: Dir::Uni }) => {
                    while let Some(id) = self.connection.streams().accept(Dir::Uni) {
                        self.read(id);
                    }
                }
                Event::Stream(StreamEvent::Stopped { id, error_code }) => {
                    let received = self.received.entry(id).or_default();
                    received.stopped = Some(error_code.into_inner());
                    let _ = self.connection.send_stream(id).reset(error_code);
                }
                _ => {}
            }
        }
        self.transmit();
    }

    fn read(&mut self, id: StreamId) {
        let received = self.received.entry(id).or_default();
        received.read(&mut self.connection, id);
    }

    fn transmit(&mut self) {
        let mut buffer = Vec::new();
        while let Some(transmit) = self.connection.poll_transmit(now(), 1, &mut buffer) {
            // A packet is lost while no server listens.
            let _ = self.socket.send(&[&self.header, &buffer[..transmit.size]].concat());
            buffer.clear();
        }
    }
}

/// Returns a socket on a new port, connected to `server`.
fn socket_to(server: SocketAddr) -> UdpSocket {
    let any = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(server).unwrap();
    // Short, so that the library's deadlines are kept.
    socket.set_read_timeout(Some(Duration::from_millis(5).min(TIMEOUT))).unwrap();
    socket
}
