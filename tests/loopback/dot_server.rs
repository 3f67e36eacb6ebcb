//! Clients over TLS (RFC 7858): certificates, padding, tickets, and clients that misbehave.
//!
//! Clients are blocking sockets with rustls, or scripted byte by byte. The upstream is the usual
//! UDP upstream.

use crate::certs::{Authority, Dates, Identity, load};
use crate::tcp::{framed, long_query, query, read_message};
use crate::until::until;
use crate::{TIMEOUT, responder, start_with, sum};
use onward::config::Config;
use onward::engine::errors::TlsFault;
use onward::server::{Server, StartError};
use onward::traffic::answer::{Behaviour, is_right};
use onward::traffic::upstream::Upstream;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};
use socket2::SockRef;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

type Dot = StreamOwned<ClientConnection, TcpStream>;

/// An OPT, and one with a padding option.
const OPT: &[u8] = b"\0\0\x29\x04\xd0\0\0\0\0\0\0";
const PADDING: &[u8] = b"\0\0\x29\x04\xd0\0\0\0\0\0\x06\0\x0c\0\x02\0\0";

struct Site {
    authority: Authority,
    identity: Identity,
    upstreams: Upstream,
}

impl Site {
    fn new() -> Self {
        let authority = Authority::new("good");
        let identity = authority.issue(&["dns.test"]);
        Self { authority, identity, upstreams: responder(&[Behaviour::Answer]) }
    }

    /// A server block on `address`; `tls` holds more options of the `tls` directive.
    fn config(&self, address: SocketAddr, identity: &Identity, tls: &str) -> Config {
        let upstream = self.upstreams.addresses()[0];
        let (port, ip) = (address.port(), address.ip());
        let text = format!(
            "tls://.:{port} {{\n bind {ip}\n tls cert.pem key.pem {tls}\n \
             forward . {upstream}\n}}\n"
        );
        let files = [
            ("cert.pem", &*identity.certificate),
            ("key.pem", &*identity.key),
            ("ca.pem", &*self.authority.pem()),
        ];
        load(&text, &files)
    }

    fn start(&self, tls: &str, workers: usize) -> Server {
        start_with(self.config(crate::any_port(), &self.identity, tls), workers)
    }

    fn client(&self) -> Arc<ClientConfig> {
        Arc::new(self.authority.client())
    }
}

fn connect(server: &Server, config: &Arc<ClientConfig>) -> Dot {
    let name = "dns.test".try_into().unwrap();
    let session = ClientConnection::new(Arc::clone(config), name).unwrap();
    let stream = TcpStream::connect(server.addresses()[0]).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    StreamOwned::new(session, stream)
}

fn try_ask(stream: &mut Dot, query: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(&framed(query))?;
    read_message(stream)
}

fn ask(stream: &mut Dot, number: u16) {
    let query = query(number, OPT);
    let answer = try_ask(stream, &query).unwrap();
    assert!(is_right(&query, &answer), "{number}: {answer:x?}");
}

#[test]
fn a_query_of_any_length_is_answered() {
    let site = Site::new();
    let server = site.start("", 1);
    let mut stream = connect(&server, &site.client());
    for (number, len) in [4_096, 4_097, 16_385, 65_535].into_iter().enumerate() {
        let number = number as u16;
        let long = long_query(number, len);
        let answer = try_ask(&mut stream, &long).unwrap();
        if len <= 4_096 {
            assert!(is_right(&long, &answer), "{len}: {answer:x?}");
        } else {
            assert_eq!(answer[..6], [0, number as u8, 0x81, 0x81, 0, 1], "{len}: {answer:x?}");
        }
        ask(&mut stream, number + 100);
    }
    server.stop();
}

#[test]
fn a_connection_carries_many_queries_at_once_and_ends_as_its_client_ends_it() {
    let site = Site::new();
    let server = site.start("", 1);
    let mut config = site.authority.client();
    config.alpn_protocols = vec![b"dot".to_vec()];
    let mut stream = connect(&server, &Arc::new(config));
    let queries: Vec<_> = (0..300).map(|number| query(number, OPT)).collect();
    let all: Vec<_> = queries.iter().flat_map(|query| framed(query)).collect();
    stream.write_all(&all).unwrap();
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"dot"[..]));
    let mut seen = vec![false; queries.len()];
    for _ in &queries {
        let answer = read_message(&mut stream).unwrap();
        let number = usize::from(u16::from_be_bytes([answer[0], answer[1]]));
        assert!(is_right(&queries[number], &answer));
        assert!(!std::mem::replace(&mut seen[number], true), "{number} twice");
    }
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "it says goodbye, too");
    let stats = sum(&server.stats());
    assert_eq!((stats.handshakes.full, stats.connections), (1, 1));
    server.stop();
}

/// As in the reference: something in front of the server may have ended TLS.
#[test]
fn without_a_certificate_queries_come_over_tcp_alone() {
    let upstreams = responder(&[Behaviour::Answer]);
    let text =
        format!("tls://.:0 {{\n bind 127.0.0.1\n forward . {}\n}}\n", upstreams.addresses()[0]);
    let server = start_with(load(&text, &[]), 1);
    let address = server.addresses()[0];
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let query = query(1, OPT);
    stream.write_all(&framed(&query)).unwrap();
    assert!(is_right(&query, &read_message(&mut stream).unwrap()));
    UdpSocket::bind(address).expect("no socket for datagrams has the port");
    server.stop();
}

#[test]
fn replies_are_padded_only_for_padded_queries() {
    let site = Site::new();
    let server = site.start("", 1);
    let mut stream = connect(&server, &site.client());
    let plain = try_ask(&mut stream, &query(1, OPT)).unwrap();
    assert!(plain.len() < 128, "{}", plain.len());
    let padded = try_ask(&mut stream, &query(1, PADDING)).unwrap();
    assert_eq!(padded.len(), 468);
    assert!(padded[plain.len() + 4..].iter().all(|byte| *byte == 0), "{padded:x?}");
    server.stop();
}

#[test]
fn tickets_are_valid_at_any_worker_and_after_a_reload() {
    let site = Site::new();
    let mut server = site.start("", 4);
    let client = site.client();
    let mut resumed = 0;
    for number in 0..20 {
        if number == 10 {
            let address = server.addresses()[0];
            server.reload(site.config(address, &site.identity, "")).unwrap();
        }
        let mut stream = connect(&server, &client);
        ask(&mut stream, number);
        let rtype = stream.conn.handshake_kind();
        resumed += u64::from(rtype == Some(HandshakeKind::Resumed));
    }
    let handshakes = sum(&server.stats()).handshakes;
    assert_eq!((handshakes.full, handshakes.resumed), (1, 19));
    assert_eq!(resumed, 19);
    server.stop();
}

#[test]
fn a_new_certificate_is_for_new_connections_and_a_bad_one_for_none() {
    let site = Site::new();
    let mut server = site.start("", 1);
    let address = server.addresses()[0];
    let mut old = connect(&server, &site.client());
    ask(&mut old, 1);
    let renewed = site.authority.issue(&["dns.test"]);
    server.reload(site.config(address, &renewed, "")).unwrap();
    ask(&mut old, 2);
    let mut new = connect(&server, &site.client());
    ask(&mut new, 3);
    let shown = |stream: &Dot| stream.conn.peer_certificates().unwrap()[0].to_vec();
    assert_ne!(shown(&old), shown(&new));

    let mixed = Identity { key: site.identity.key.clone(), ..renewed.clone() };
    let refused = server.reload(site.config(address, &mixed, "")).unwrap_err();
    assert!(matches!(refused, StartError::Tls(_)), "{refused}");
    assert!(refused.to_string().contains("key.pem belongs to another"), "{refused}");
    ask(&mut old, 4);
    ask(&mut connect(&server, &site.client()), 5);
    assert_eq!(sum(&server.stats()).connections, 3);
    server.stop();
}

#[test]
fn a_client_without_the_required_certificate_sends_no_query() {
    let site = Site::new();
    let server = site.start("ca.pem {\n client_auth require_and_verify\n}", 1);
    let own = site.authority.issue(&["client.test"]);
    let known = Arc::new(site.authority.client_with(&own));
    ask(&mut connect(&server, &known), 1);
    try_ask(&mut connect(&server, &site.client()), &query(2, OPT)).unwrap_err();
    let stranger = Authority::new("stranger").issue(&["client.test"]);
    let unknown = Arc::new(site.authority.client_with(&stranger));
    try_ask(&mut connect(&server, &unknown), &query(3, OPT)).unwrap_err();
    let stats = sum(&server.stats());
    let failed = stats.handshakes.failed;
    assert_eq!(failed[TlsFault::Certificate as usize], 1, "{failed:?}");
    assert_eq!(failed[TlsFault::UnknownIssuer as usize], 1, "{failed:?}");
    assert_eq!(stats.queries, 1);
    server.stop();
}

#[test]
fn a_self_signed_client_certificate_is_accepted_by_its_ca_file() {
    let site = Site::new();
    let own = Authority::of_itself(&["client.test"], Dates::Now);
    let other = Authority::of_itself(&["client.test"], Dates::Now);
    let text = format!(
        "tls://.:0 {{\n bind 127.0.0.1\n tls cert.pem key.pem clients.pem {{\n client_auth \
         require_and_verify\n }}\n forward . {}\n}}\n",
        site.upstreams.addresses()[0]
    );
    let files = [
        ("cert.pem", &*site.identity.certificate),
        ("key.pem", &*site.identity.key),
        ("clients.pem", &*own.certificate),
    ];
    let server = start_with(load(&text, &files), 1);
    ask(&mut connect(&server, &Arc::new(site.authority.client_with(&own))), 1);
    let unknown = Arc::new(site.authority.client_with(&other));
    try_ask(&mut connect(&server, &unknown), &query(2, OPT)).unwrap_err();
    assert_eq!(sum(&server.stats()).queries, 1);
    server.stop();
}

#[test]
fn plain_text_and_datagrams_get_no_reply() {
    let site = Site::new();
    let server = site.start("", 1);
    let address = server.addresses()[0];
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(&framed(&query(1, &[]))).unwrap();
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    // At most an alert.
    assert!(said.len() <= 7 && said.first().is_none_or(|rtype| *rtype == 21), "{said:x?}");
    // The UDP port of the same number is free.
    drop(std::net::UdpSocket::bind(address).unwrap());
    let stats = sum(&server.stats());
    assert_eq!((stats.queries, stats.handshakes.failed[TlsFault::NotTls as usize]), (0, 1));
    server.stop();
}

/// Returns the bytes of a client from its ClientHello to the end of its query, and the length of
/// its handshake.
fn conversation(site: &Site, server: &Server) -> Vec<u8> {
    struct Tap(TcpStream, Vec<u8>);
    impl Read for Tap {
        fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(room)
        }
    }
    impl Write for Tap {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let count = self.0.write(bytes)?;
            self.1.extend(&bytes[..count]);
            Ok(count)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            self.0.flush()
        }
    }
    let name = "dns.test".try_into().unwrap();
    let session = ClientConnection::new(site.client(), name).unwrap();
    let stream = TcpStream::connect(server.addresses()[0]).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut stream = StreamOwned::new(session, Tap(stream, Vec::new()));
    stream.write_all(&framed(&query(1, OPT))).unwrap();
    read_message(&mut stream).unwrap();
    stream.sock.1
}

#[test]
fn a_client_that_stops_at_any_byte_leaves_nothing_behind() {
    let site = Site::new();
    let server = site.start("", 1);
    let said = conversation(&site, &server);
    let before = sum(&server.stats());
    let mut streams = 0;
    let all_gone = |streams: u64| {
        let snapshot = server.snapshots().remove(0);
        let all = snapshot.stats.connections == before.connections + streams;
        (all && snapshot.connections == 0).then_some(())
    };
    for stop in 0..said.len() {
        for how in 0..3 {
            let mut stream = TcpStream::connect(server.addresses()[0]).unwrap();
            // The server may have closed the connection already.
            let _ = stream.write_all(&said[..stop]);
            match how {
                0 => drop(stream.shutdown(Shutdown::Write)),
                // A reset instead of an orderly close.
                1 => SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
                _ => drop(stream.write_all(&[0xff; 64])),
            }
            streams += 1;
        }
        // The number of connections per address is limited to a few hundred.
        if stop % 50 == 49 {
            until("streams are gone", || all_gone(streams));
        }
    }
    until("all streams are gone", || all_gone(streams));
    let stats = sum(&server.stats());
    assert_eq!(stats.panics, 0);
    let failed: u64 = stats.handshakes.failed.iter().sum();
    assert_eq!(failed, streams, "each is counted, once: {stats:?}");
    ask(&mut connect(&server, &site.client()), 9);
    server.stop();
}
