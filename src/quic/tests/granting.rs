//! Connections to a server that is the library's: it grants streams and reads them as a test says.
//!
//! The link loses nothing, and time does not pass.

use super::world::tls;
use crate::moment::Moment;
use crate::quic::client::GRANTED_MAX;
use crate::quic::endpoint::some_instant;
use crate::quic::{Application, Client, Dialer, Progress};
use bytes::BytesMut;
use quinn_proto::crypto::rustls::QuicServerConfig;
use quinn_proto::{
    Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig, ServerConfig, Side,
    StreamId, TransportConfig, VarInt,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// Our client, and the library's server.
struct Pair {
    origin: Instant,
    client: Client,
    endpoint: Endpoint,
    server: Option<(ConnectionHandle, Connection)>,
    progress: Vec<Progress>,
}

impl Pair {
    /// A pair whose handshake is complete. The server grants `streams` of `window` bytes each.
    fn connected(streams: u32, window: u32) -> Self {
        let (origin, (own, client)) = (some_instant(), tls(Application::Doq));
        let crypto = QuicServerConfig::try_from(own).unwrap();
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        let mut transport = TransportConfig::default();
        transport.max_concurrent_bidi_streams(streams.into()).mtu_discovery_config(None);
        transport.stream_receive_window(window.into());
        config.transport_config(Arc::new(transport));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[5; 32]);
        let endpoint = EndpointConfig::new(Arc::new(key));
        let endpoint = Endpoint::new(Arc::new(endpoint), Some(Arc::new(config)), true, None);
        let dialer = Dialer::new(&[4; 32], origin);
        let settings = (Arc::new(client), "dns.test");
        let client = dialer.dial(Moment::ZERO, address(1), settings, [8; 32]).unwrap();
        let mut pair = Self { origin, client, endpoint, server: None, progress: Vec::new() };
        pair.run();
        assert!(pair.client.is_open());
        pair
    }

    fn server(&mut self) -> &mut Connection {
        &mut self.server.as_mut().expect("it is connected").1
    }

    /// Exchanges packets until there are none.
    fn run(&mut self) {
        loop {
            while let Some(progress) = self.client.next(Moment::ZERO) {
                self.progress.push(progress);
            }
            let mut sent = Vec::new();
            let send = |bytes: &[u8]| sent.push(bytes.to_vec());
            self.client.transmit(Moment::ZERO, &mut Vec::new(), send);
            let is_over = sent.is_empty();
            sent.iter().for_each(|bytes| self.receive(bytes));
            let mut buffer = Vec::new();
            let origin = self.origin;
            let mut received = 0;
            while let Some((_, server)) = &mut self.server
                && let Some(transmit) = server.poll_transmit(origin, 1, &mut buffer)
            {
                self.client.receive(Moment::ZERO, &buffer[..transmit.size]);
                buffer.clear();
                received += 1;
            }
            if is_over && received == 0 {
                return;
            }
        }
    }

    /// Passes a packet to the server.
    fn receive(&mut self, bytes: &[u8]) {
        let (origin, mut out) = (self.origin, Vec::new());
        let bytes = BytesMut::from(bytes);
        match self.endpoint.handle(origin, address(9), None, None, bytes, &mut out) {
            Some(DatagramEvent::NewConnection(incoming)) => {
                let accepted = self.endpoint.accept(incoming, origin, &mut out, None);
                self.server = accepted.ok();
            }
            Some(DatagramEvent::ConnectionEvent(_, event)) => self.server().handle_event(event),
            _ => {}
        }
        let Some((handle, server)) = &mut self.server else { return };
        while let Some(event) = server.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                server.handle_event(event);
            }
        }
        while server.poll().is_some() {}
    }
}

fn address(number: u8) -> SocketAddr {
    ([192, 0, 2, number], 853).into()
}

#[test]
fn a_server_may_allow_more_calls_at_once_later() {
    let mut pair = Pair::connected(2, 1_000);
    assert_eq!(pair.client.calls_max(), 2);
    (0..2).for_each(|_| assert!(pair.client.call(&[7; 20]).is_some()));
    assert_eq!(pair.client.call(&[7; 20]), None);
    pair.run();
    assert_eq!(pair.client.calls_max(), 2);
    pair.server().set_max_concurrent_streams(Dir::Bi, VarInt::from_u32(6));
    pair.run();
    assert_eq!(pair.client.calls_max(), 6);
    let calls: Vec<_> = std::iter::from_fn(|| pair.client.call(&[7; 20])).collect();
    assert_eq!(calls, [2, 3, 4, 5]);
    pair.run();
    assert_eq!(pair.server().streams().remote_open_streams(Dir::Bi), 6);
    assert_eq!(pair.client.calls_max(), 6);
}

#[test]
fn no_more_streams_are_opened_ahead_than_are_of_use() {
    let mut pair = Pair::connected(2, 1_000);
    pair.server().set_max_concurrent_streams(Dir::Bi, VarInt::from_u32(1 << 20));
    pair.run();
    assert_eq!(pair.client.calls_max(), GRANTED_MAX);
    let calls = std::iter::from_fn(|| pair.client.call(&[7; 20])).take(1_000).count();
    assert_eq!(calls, 1_000);
}

#[test]
fn the_stream_of_a_query_whose_rest_is_not_wanted_ends() {
    let mut pair = Pair::connected(2, 64);
    let call = pair.client.call(&[7; 500]).unwrap();
    pair.run();
    assert_eq!(pair.server().stats().frame_rx.reset_stream, 0);
    let stream = StreamId::new(Side::Client, Dir::Bi, call.into());
    pair.server().recv_stream(stream).stop(VarInt::from_u32(0)).unwrap();
    pair.run();
    assert_eq!(pair.server().stats().frame_rx.reset_stream, 1);
    // Its reply may still come.
    let reply = [&[0, 12, 0, 0][..], &[9; 10]].concat();
    pair.server().streams().accept(Dir::Bi).unwrap();
    pair.server().send_stream(stream).write(&reply).unwrap();
    pair.server().send_stream(stream).finish().unwrap();
    pair.progress.clear();
    pair.run();
    assert_eq!(pair.progress, [Progress::Reply(call, reply[2..].to_vec().into())]);
}
