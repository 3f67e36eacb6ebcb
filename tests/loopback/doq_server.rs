//! DNS over QUIC (RFC 9250) on real sockets: replies, steering, limits, reload and the end.
//!
//! The client is the library's, on a socket. What an endpoint does with the packets of any client
//! is tested beside the room `quic`, in memory.

use crate::certs::{Authority, Identity, load};
use crate::doq::{Doq, framed};
use crate::kit::{answer_to, query_for};
use crate::quic::Quic;
use crate::until::until;
use crate::{TIMEOUT, any_port, responder, start_with, sum};
use onward::config::Config;
use onward::engine::errors::TlsFault;
use onward::engine::stats::DropReason;
use onward::server::Server;
use onward::traffic::answer::{Behaviour, is_right};
use onward::traffic::upstream::Upstream;
use quinn_proto::{ConnectionError, VarInt};
use rustls::ClientConfig;
use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream, UdpSocket};

const A: u16 = 1;

pub(super) struct Site {
    authority: Authority,
    identity: Identity,
    pub(super) upstreams: Upstream,
}

impl Site {
    pub(super) fn new() -> Self {
        let authority = Authority::new("good");
        let identity = authority.issue(&["dns.test"]);
        Self { authority, identity, upstreams: responder(&[Behaviour::Answer]) }
    }

    /// A server block of `quic://` on `address`, with `body` beside `tls` and `forward`.
    fn config(&self, address: SocketAddr, body: &str) -> Config {
        let (port, ip) = (address.port(), address.ip());
        let upstream = self.upstreams.addresses()[0];
        self.load(&format!(
            "quic://.:{port} {{\n bind {ip}\n tls cert.pem key.pem\n forward . {upstream}\n \
             {body}\n}}\n"
        ))
    }

    pub(super) fn load(&self, text: &str) -> Config {
        let files = [("cert.pem", &*self.identity.certificate), ("key.pem", &*self.identity.key)];
        load(text, &files)
    }

    fn start(&self, body: &str, workers: usize) -> Server {
        start_with(self.config(any_port(), body), workers)
    }

    pub(super) fn client(&self) -> ClientConfig {
        self.authority.client()
    }

    fn dial(&self, server: &Server) -> Doq {
        Doq::dial(server.addresses()[0], self.client())
    }
}

/// Returns an address whose UDP port is free.
pub(super) fn free_port() -> SocketAddr {
    UdpSocket::bind(any_port()).unwrap().local_addr().unwrap()
}

fn ask(client: &mut Doq, name: &str) {
    let query = query_for(0, name, A);
    let reply = client.ask(&query);
    assert!(is_right(&query, &reply), "{name}: {reply:x?}");
    assert_eq!(reply.len() % 468, 0, "padded");
}

#[test]
fn a_connection_carries_many_queries_at_once() {
    let site = Site::new();
    let server = site.start("", 2);
    let mut client = site.dial(&server);
    let queries: Vec<_> =
        (0..300).map(|number| query_for(0, &format!("n{number}.test"), A)).collect();
    let streams: Vec<_> = queries.iter().map(|query| client.0.send(&framed(query), true)).collect();
    for (query, stream) in queries.iter().zip(streams) {
        let received = client.0.finished(stream);
        assert!(received.is_finished && is_right(query, &received.bytes[2..]), "{received:x?}");
    }
    let stats = sum(&server.stats());
    assert_eq!((stats.handshakes.full, stats.connections), (1, 1));
    client.0.close();
    until("the connection is forgotten", || {
        (server.snapshots().iter().map(|own| own.connections).sum::<usize>() == 0).then_some(())
    });
    server.stop();
}

#[test]
fn clients_whose_ports_change_stay_with_their_workers() {
    let site = Site::new();
    let server = site.start("", 4);
    for number in 0..12 {
        let mut client = site.dial(&server);
        for round in 0..3 {
            client.0.rebind();
            ask(&mut client, &format!("n{number}-{round}.test"));
        }
    }
    assert_eq!(sum(&server.stats()).handshakes.full, 12);
    let used = server.stats().iter().filter(|own| own.connections > 0).count();
    assert!(used > 1, "connections of {used} worker");
    server.stop();
}

#[test]
fn a_wildcard_replies_from_the_address_that_was_asked() {
    let site = Site::new();
    let upstream = site.upstreams.addresses()[0];
    let text = format!("quic://.:0 {{\n tls cert.pem key.pem\n forward . {upstream}\n}}\n");
    let server = start_with(site.load(&text), 2);
    let port = server.addresses()[0].port();
    let mut client = Doq::dial(SocketAddr::from(([127, 8, 7, 6], port)), site.client());
    ask(&mut client, "a.test");
    server.stop();
}

#[test]
fn queries_that_must_not_be_sent_close_the_connection() {
    let site = Site::new();
    let server = site.start("acl {\n drop type TXT\n filter type MX\n}\n", 1);
    let good = query_for(0, "a.test", A);
    let mut keepalive = good.clone();
    let end = keepalive.len();
    keepalive[end - 1] = 4;
    keepalive.extend(b"\0\x0b\0\0");
    let mut response = good.clone();
    response[2] |= 0x80;
    for (what, query) in
        [("keepalive", &keepalive[..]), ("a response", &response), ("too short", &good[..9])]
    {
        let mut client = site.dial(&server);
        assert_eq!(client.try_ask(query), None, "{what}");
        assert_eq!(client.0.code(), Some(2), "{what}");
    }
    // Other queries without an answer end alone.
    let mut client = site.dial(&server);
    let stream = client.0.send(&framed(&query_for(0, "a.test", 16)), true);
    assert_eq!(client.0.finished(stream).reset, Some(5));
    let reply = client.ask(&good[..good.len() - 3]);
    assert_eq!(reply[3] & 15, 1, "FORMERR");
    ask(&mut client, "a.test");
    server.stop();
}

#[test]
fn cancelled_queries_do_not_count_as_outstanding() {
    let site = Site::new();
    let upstream = UdpSocket::bind(any_port()).unwrap();
    upstream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let text = format!(
        "quic://.:0 {{\n bind 127.0.0.1\n tls cert.pem key.pem\n acl {{\n filter type MX\n }}\n \
         forward . {} {{\n prefer_udp\n }}\n}}\n",
        upstream.local_addr().unwrap()
    );
    let server = start_with(site.load(&text), 1);
    let mut client = site.dial(&server);
    let is_asked = |packet: &[u8]| packet.windows(5).any(|window| window == b"\x04test");
    let receive = || {
        let mut buffer = [0; 512];
        let (len, from) = upstream.recv_from(&mut buffer).unwrap();
        (buffer[..len].to_vec(), from)
    };
    // More in all than may be outstanding at a time.
    for round in 0..8 {
        let ask = |number| {
            let query = query_for(0, &format!("n{round}-{number}.test"), A);
            client.0.send(&framed(&query), true)
        };
        let streams: Vec<_> = (0..20).map(ask).collect();
        let mut received = HashMap::new();
        while received.len() < streams.len() {
            // Others are probes of the upstream's health.
            let (packet, from) = receive();
            let name = packet[12..].split(|byte| *byte == 0).next().unwrap().to_ascii_lowercase();
            if is_asked(&packet) {
                received.insert(name, (packet, from));
            }
        }
        for stream in streams {
            client.0.connection.recv_stream(stream).stop(VarInt::from_u32(3)).unwrap();
        }
        // A later query is answered, so the server knows of the ends.
        client.ask(&query_for(0, "a.test", 15));
        for (packet, from) in received.values() {
            upstream.send_to(&answer_to(packet), *from).unwrap();
        }
        let unsent = (round + 1) * 20;
        until("the replies are dropped", || {
            let dropped = sum(&server.stats()).dropped(DropReason::ReplyNotSent);
            (dropped == unsent).then_some(())
        });
    }
    let query = query_for(0, "last.test", A);
    let stream = client.0.send(&framed(&query), true);
    let (packet, from) = std::iter::repeat_with(receive)
        .find(|(packet, _)| packet.windows(4).any(|window| window == b"last"))
        .unwrap();
    upstream.send_to(&answer_to(&packet), from).unwrap();
    let reply = client.0.finished(stream);
    assert!(is_right(&query, &reply.bytes[2..]), "{reply:x?}");
    server.stop();
}

#[test]
fn connections_have_the_limits_of_all_client_connections() {
    let site = Site::new();
    let server = site.start("quic {\n max_connections 2\n max_streams 3\n}\n", 1);
    let mut first = site.dial(&server);
    ask(&mut first, "a.test");
    let mut second = site.dial(&server);
    ask(&mut second, "b.test");
    ask(&mut first, "c.test");
    // The one that has been quiet for longest gives way.
    let mut third = site.dial(&server);
    ask(&mut third, "d.test");
    assert_eq!(second.0.code(), Some(0));
    ask(&mut first, "e.test");
    assert_eq!(first.0.connection.streams().open(quinn_proto::Dir::Uni), None);
    for _ in 0..3 {
        third.0.send(&[0], false);
    }
    assert_eq!(third.0.connection.streams().open(quinn_proto::Dir::Bi), None);
    server.stop();

    let server = site.start("quic {\n max_per_client 1\n}\n", 1);
    let mut first = site.dial(&server);
    ask(&mut first, "a.test");
    let mut refused = site.dial(&server);
    assert_eq!(refused.0.code(), Some(4));
    ask(&mut first, "b.test");
    let stats = sum(&server.stats());
    assert_eq!((stats.connections, stats.connections_refused), (1, 1));
    server.stop();
}

#[test]
fn idle_connections_close_without_error_and_spent_ones_after_their_replies() {
    let site = Site::new();
    let server = site.start("timeouts {\n idle 1s\n}\n", 1);
    let mut client = site.dial(&server);
    ask(&mut client, "a.test");
    assert_eq!(client.0.code(), Some(0));
    server.stop();

    let server = site.start("timeouts {\n maxtcpqueries 3\n}\n", 1);
    let mut client = site.dial(&server);
    for number in 0..3 {
        ask(&mut client, &format!("n{number}.test"));
    }
    assert_eq!(client.0.code(), Some(0));
    server.stop();
}

#[test]
fn one_port_serves_quic_and_tls() {
    let site = Site::new();
    let upstream = site.upstreams.addresses()[0];
    let block = |port: u16| {
        format!(
            "quic://.:{port} tls://.:{port} {{\n bind 127.0.0.1\n tls cert.pem key.pem\n \
             forward . {upstream}\n}}\n"
        )
    };
    let port = free_port().port();
    let server = start_with(site.load(&block(port)), 1);
    ask(&mut site.dial(&server), "a.test");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    server.stop();
}

#[test]
fn a_handshake_without_our_protocol_or_trust_is_counted() {
    let site = Site::new();
    let server = site.start("", 1);
    let other = Quic::dial(server.addresses()[0], site.client(), b"h3");
    assert!(matches!(other.end, Some(ConnectionError::ConnectionClosed(_))), "{:?}", other.end);
    let stranger = Authority::new("other").client();
    let mut refused = Quic::dial(server.addresses()[0], stranger, b"doq");
    assert!(matches!(refused.end, Some(ConnectionError::TransportError(_))), "{:?}", refused.end);
    until("both are counted", || {
        refused.turn();
        let failed = sum(&server.stats()).handshakes.failed;
        let count = |fault: TlsFault| failed[fault as usize];
        (count(TlsFault::Incompatible) == 1 && count(TlsFault::Refused) == 1).then_some(())
    });
    server.stop();
}

#[test]
fn a_reload_changes_the_certificate_and_removes_listeners_without_losing_a_query() {
    let mut site = Site::new();
    let mut server = site.start("", 2);
    let mut before = site.dial(&server);
    ask(&mut before, "a.test");
    site.authority = Authority::new("next");
    site.identity = site.authority.issue(&["dns.test"]);
    let address = server.addresses()[0];
    server.reload(site.config(address, "")).unwrap();
    // The old connection goes on, a new one sees the new certificate.
    ask(&mut before, "b.test");
    let mut after = site.dial(&server);
    ask(&mut after, "c.test");
    // The block moves to another port: connections get their replies and an end without error.
    server.reload(site.config(free_port(), "")).unwrap();
    assert_ne!(server.addresses()[0], address);
    for client in [&mut before, &mut after] {
        assert_eq!(client.0.code(), Some(0));
    }
    ask(&mut site.dial(&server), "d.test");
    // And back, while the old sockets may still be open.
    server.reload(site.config(address, "")).unwrap();
    ask(&mut site.dial(&server), "e.test");
    server.stop();
}

#[test]
fn a_stop_answers_outstanding_queries_first() {
    let site = Site::new();
    let upstream = UdpSocket::bind(any_port()).unwrap();
    upstream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let text = format!(
        "quic://.:0 {{\n bind 127.0.0.1\n tls cert.pem key.pem\n \
         forward . {} {{\n prefer_udp\n }}\n}}\n",
        upstream.local_addr().unwrap()
    );
    let server = start_with(site.load(&text), 1);
    let (mut busy, mut idle) = (site.dial(&server), site.dial(&server));
    let query = query_for(0, "a.test", A);
    let stream = busy.0.send(&framed(&query), true);
    let mut buffer = [0; 512];
    let (mut len, mut from) = upstream.recv_from(&mut buffer).unwrap();
    while !buffer.windows(5).any(|window| window == b"\x04test") {
        // A probe of the upstream's health.
        (len, from) = upstream.recv_from(&mut buffer).unwrap();
    }
    let stopping = std::thread::spawn(move || server.stop());
    assert_eq!(idle.0.code(), Some(0));
    assert!(busy.0.end.is_none());
    upstream.send_to(&answer_to(&buffer[..len]), from).unwrap();
    let received = busy.0.finished(stream);
    assert!(is_right(&query, &received.bytes[2..]), "{received:x?}");
    assert_eq!(busy.0.code(), Some(0));
    stopping.join().unwrap();
}
