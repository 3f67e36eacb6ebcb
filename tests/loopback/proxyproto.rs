//! Headers of the PROXY protocol from clients, over each transport that carries them.
//!
//! `whoami` tells the address that the server takes for the client's. Headers are written by hand,
//! so that the server's own writer is not the oracle.

use crate::certs::{Authority, load};
use crate::doh3::Doh3;
use crate::doq::Doq;
use crate::doq_server::Site;
use crate::http2::{DATA, base64, get2, grpc2, preface, read_frame};
use crate::kit::{A, client, query_for, receive};
use crate::quic::Quic;
use crate::tcp::{framed, read_message};
use crate::until::until;
use crate::{TIMEOUT, config, responder, start, start_text, start_with, sum};
use onward::engine::proxy::Outcome;
use onward::server::Server;
use onward::traffic::answer::{Behaviour, is_right};
use rustls::{ClientConnection, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// Addresses of clients in headers: one for `whoami`, and one that the access list blocks.
const CLIENT: [u8; 4] = [192, 0, 2, 1];
const BLOCKED: [u8; 4] = [192, 0, 2, 66];
const REFUSED: u8 = 5;

/// A header of version 2 for a client over IPv4, with a TLV.
fn binary(client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x10".to_vec();
    header.extend(client);
    header.extend([198, 51, 100, 1, 0x13, 0x88, 0, 53]);
    header.extend([0xe0, 0, 1, 7]);
    header
}

/// A header of version 1.
fn line(client: [u8; 4]) -> Vec<u8> {
    let [a, b, c, d] = client;
    format!("PROXY TCP4 {a}.{b}.{c}.{d} 198.51.100.1 5000 53\r\n").into_bytes()
}

/// A block that says who the client is, and refuses one client.
fn whoami(options: &str, more: &str) -> Server {
    let body = format!(
        "proxyproto {{\n {options}\n }}\n acl {{\n block net 192.0.2.66\n }}\n whoami\n {more}"
    );
    start("127.0.0.1:0", &body, 1)
}

fn query() -> Vec<u8> {
    query_for(7, "who.test", A)
}

/// Returns the address in a reply of `whoami`: that of its A record, behind the type and TTL.
fn who(reply: &[u8]) -> Option<[u8; 4]> {
    let start = reply
        .windows(10)
        .position(|window| window.starts_with(&[0, 1, 0, 1]) && window.ends_with(&[0, 4]))?;
    reply[start + 10..].first_chunk().copied()
}

fn headers(server: &Server, outcome: Outcome) -> u64 {
    sum(&server.stats()).proxy_headers.of(outcome)
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.addresses()[0]).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Returns the reply on a new connection that begins with `header`.
fn ask_over_tcp(server: &Server, header: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = connect(server);
    stream.write_all(&[header, &framed(&query())].concat())?;
    read_message(&mut stream)
}

#[test]
fn a_datagrams_header_names_the_client_and_the_reply_returns_to_the_proxy() {
    let server = whoami("", "");
    let proxy = client(server.addresses()[0]);
    let ask = |header: &[u8]| {
        proxy.send(&[header, &query()].concat()).unwrap();
        receive(&proxy)
    };
    assert_eq!(who(&ask(&binary(CLIENT))), Some(CLIENT));
    assert_eq!(who(&ask(&[])), Some([127, 0, 0, 1]));
    assert_eq!(ask(&binary(BLOCKED))[3] & 15, REFUSED);
    // The proxy speaks for itself.
    assert_eq!(who(&ask(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")), Some([127, 0, 0, 1]));
    let counts = [Outcome::Used, Outcome::Ignored].map(|outcome| headers(&server, outcome));
    assert_eq!(counts, [2, 1]);
    server.stop();
}

#[test]
fn a_forwarded_reply_returns_to_the_proxy_and_clients_are_told_apart_by_it_alone() {
    let upstream = responder(&[Behaviour::Answer]);
    let body = format!("proxyproto\n forward . {}", upstream.addresses()[0]);
    let server = start("127.0.0.1:0", &body, 1);
    let proxies = [client(server.addresses()[0]), client(server.addresses()[0])];
    for round in 0..20_u16 {
        for (number, proxy) in proxies.iter().enumerate() {
            let query = query_for(round, &format!("n{round}.p{number}.test"), A);
            proxy.send(&[binary(CLIENT), query].concat()).unwrap();
        }
    }
    for (number, proxy) in proxies.iter().enumerate() {
        for _ in 0..20 {
            let reply = receive(proxy);
            let round = u16::from_be_bytes([reply[0], reply[1]]);
            let query = query_for(round, &format!("n{round}.p{number}.test"), A);
            assert!(is_right(&query, &reply), "{round} of {number}");
        }
    }
    server.stop();
}

#[test]
fn an_invalid_datagram_is_dropped_and_counted() {
    let server = whoami("", "");
    let proxy = client(server.addresses()[0]);
    let cut = &binary(CLIENT)[..20];
    for bad in [cut, &line(CLIENT), b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0"] {
        proxy.send(bad).unwrap();
    }
    // Datagrams are served in their order, so the first reply is that to the last query.
    proxy.send(&query_for(9, "last.test", A)).unwrap();
    assert_eq!(receive(&proxy)[..2], [0, 9]);
    assert_eq!(headers(&server, Outcome::Invalid), 3);
    assert_eq!(sum(&server.stats()).queries, 1);
    server.stop();
}

#[test]
fn the_policy_depends_on_the_peer() {
    let own = Some([127, 0, 0, 1]);
    for (options, from_header, plain) in [
        ("allow 127.0.0.0/8", Some(CLIENT), own),
        ("allow 192.0.2.0/24", own, own),
        ("allow 192.0.2.0/24\n default reject", None, own),
        ("default ignore", own, own),
    ] {
        let server = whoami(options, "");
        for header in [&binary(CLIENT)[..], &line(CLIENT)] {
            let reply = ask_over_tcp(&server, header).ok();
            assert_eq!(reply.and_then(|reply| who(&reply)), from_header, "{options}");
        }
        assert_eq!(who(&ask_over_tcp(&server, &[]).unwrap()), plain, "{options}");
        let proxy = client(server.addresses()[0]);
        proxy.send(&[binary(CLIENT), query()].concat()).unwrap();
        if from_header.is_some() {
            assert_eq!(who(&receive(&proxy)), from_header, "{options}");
        } else {
            proxy.send(&query()).unwrap();
            assert_eq!(who(&receive(&proxy)), plain, "{options}");
            assert_eq!(headers(&server, Outcome::Rejected), 3);
        }
        server.stop();
    }
    // The header is taken for the length of a message, whose rest never comes.
    let server = whoami("default skip", "timeouts {\n read 1s\n }");
    assert_eq!(who(&ask_over_tcp(&server, &[]).unwrap()), own);
    assert!(ask_over_tcp(&server, &binary(CLIENT)).is_err());
    assert_eq!(headers(&server, Outcome::Used), 0);
    server.stop();
}

#[test]
fn a_header_in_single_bytes_is_read_over_tcp() {
    let server = whoami("", "");
    for header in [binary(CLIENT), line(CLIENT), b"PROXY UNKNOWN\r\n".to_vec(), Vec::new()] {
        let mut stream = connect(&server);
        for byte in [&header[..], &framed(&query())].concat() {
            stream.write_all(&[byte]).unwrap();
        }
        let expected = if header.len() > 20 { CLIENT } else { [127, 0, 0, 1] };
        assert_eq!(who(&read_message(&mut stream).unwrap()), Some(expected));
        // Further queries have no header.
        stream.write_all(&framed(&query())).unwrap();
        assert_eq!(who(&read_message(&mut stream).unwrap()), Some(expected));
    }
    assert_eq!(ask_over_tcp(&server, &binary(BLOCKED)).unwrap()[3] & 15, REFUSED);
    server.stop();
}

#[test]
fn a_connection_with_an_invalid_or_unfinished_header_is_closed() {
    let server = whoami("", "timeouts {\n read 1s\n idle 24h\n }");
    // An error because of time means that it is open.
    let is_closed = |stream: &mut TcpStream| match stream.read(&mut [0; 64]) {
        Ok(len) => len == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    };
    let endless = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat();
    let huge = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec();
    for bad in [b"PROXY TCP9\r\n".to_vec(), endless, huge] {
        let mut stream = connect(&server);
        stream.write_all(&bad).unwrap();
        assert!(is_closed(&mut stream));
    }
    let mut half = connect(&server);
    half.write_all(&binary(CLIENT)[..20]).unwrap();
    half.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(is_closed(&mut half));
    assert_eq!(headers(&server, Outcome::Invalid), 4);
    // `read` ends the wait, and single bytes do not prolong it.
    let mut slow = connect(&server);
    slow.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let tlvs = [&b"\r\n\r\n\0\r\nQUIT\n\x20\0\x04\0"[..], &[0; 1_024]].concat();
    let mut sent = 0;
    for byte in &tlvs {
        if slow.write_all(&[*byte]).is_err() || is_closed(&mut slow) {
            break;
        }
        sent += 1;
    }
    assert!((1..tlvs.len()).contains(&sent), "{sent} bytes");
    let mut late = connect(&server);
    late.write_all(&binary(CLIENT)).unwrap();
    assert!(is_closed(&mut late));
    server.stop();
}

#[test]
fn limits_count_the_client_that_the_header_names() {
    let server = whoami("", "tcp {\n max_per_client 2\n }");
    let open = |client: [u8; 4]| {
        let mut stream = connect(&server);
        stream.write_all(&[binary(client), framed(&query())].concat()).unwrap();
        let reply = read_message(&mut stream).ok();
        (stream, reply.and_then(|reply| who(&reply)))
    };
    let clients = [[192, 0, 2, 1], [192, 0, 2, 1], [192, 0, 2, 2], [192, 0, 2, 3]];
    let held: Vec<_> = clients.map(open).into();
    assert_eq!(held.iter().map(|(_, who)| who.unwrap()).collect::<Vec<_>>(), clients);
    assert_eq!(open([192, 0, 2, 1]).1, None);
    assert_eq!(open([192, 0, 2, 2]).1, Some([192, 0, 2, 2]));
    assert_eq!(sum(&server.stats()).connections_refused, 1);
    server.stop();
}

#[test]
fn a_proxy_opens_more_connections_at_once_than_a_client_may() {
    let server = whoami("", "tcp {\n max_per_client 2\n }");
    let mut held = Vec::from_iter((1..=20).map(|number| (number, connect(&server))));
    for (number, stream) in &mut held {
        stream.write_all(&[binary([192, 0, 2, *number]), framed(&query())].concat()).unwrap();
        assert_eq!(who(&read_message(stream).unwrap()), Some([192, 0, 2, *number]));
    }
    // Those that no header names count for the peer.
    let served = [(); 3].map(|()| {
        let mut stream = connect(&server);
        let sent = stream.write_all(&framed(&query()));
        let is_served = sent.and_then(|()| read_message(&mut stream)).is_ok();
        (stream, is_served)
    });
    assert_eq!(served.each_ref().map(|(_, is_served)| *is_served), [true, true, false]);
    server.stop();
}

#[test]
fn a_session_has_the_client_of_its_first_datagram() {
    let server = whoami("udp_session_tracking 1h", "");
    let [proxy, other] = [client(server.addresses()[0]), client(server.addresses()[0])];
    proxy.send(&binary(CLIENT)).unwrap();
    for (socket, expected) in [(&proxy, CLIENT), (&other, [127, 0, 0, 1]), (&proxy, CLIENT)] {
        socket.send(&query()).unwrap();
        assert_eq!(who(&receive(socket)), Some(expected));
    }
    server.stop();
}

#[test]
fn a_header_stands_in_front_of_tls() {
    let (authority, upstream) = (Authority::new("good"), responder(&[Behaviour::Answer]));
    let identity = authority.issue(&["dns.test"]);
    let text = format!(
        "tls://.:0 {{\n bind 127.0.0.1\n tls cert.pem key.pem\n proxyproto\n acl {{\n \
         block net 192.0.2.66\n }}\n forward . {}\n}}\n",
        upstream.addresses()[0]
    );
    let files = [("cert.pem", &*identity.certificate), ("key.pem", &*identity.key)];
    let server = start_with(load(&text, &files), 1);
    let config = Arc::new(authority.client());
    for (header, rcode) in
        [(binary(CLIENT), 0), (line(CLIENT), 0), (line(BLOCKED), REFUSED), (Vec::new(), 0)]
    {
        let mut stream = connect(&server);
        for byte in header {
            stream.write_all(&[byte]).unwrap();
        }
        let name = "dns.test".try_into().unwrap();
        let session = ClientConnection::new(Arc::clone(&config), name).unwrap();
        let mut stream = StreamOwned::new(session, stream);
        stream.write_all(&framed(&query())).unwrap();
        assert_eq!(read_message(&mut stream).unwrap()[3] & 15, rcode);
    }
    let handshakes = sum(&server.stats()).handshakes;
    assert_eq!((handshakes.full + handshakes.resumed, handshakes.failed.iter().sum()), (4, 0_u64));
    server.stop();
}

#[test]
fn a_header_stands_in_front_of_http() {
    let server = start_text("https://.:0 {\n bind 127.0.0.1\n proxyproto\n whoami\n}\n", 1);
    for header in [binary(CLIENT), line(CLIENT)] {
        let mut stream = connect(&server);
        let request = format!(
            "GET /dns-query?dns={} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n",
            base64(&query())
        );
        for byte in [header, request.into_bytes()].concat() {
            stream.write_all(&[byte]).unwrap();
        }
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        assert!(said.starts_with(b"HTTP/1.1 200"), "{}", said.escape_ascii());
        assert_eq!(who(&said), Some(CLIENT));
    }
    server.stop();
    for (scheme, request) in [("https", get2(1, &query())), ("grpc", grpc2(1, &query()))] {
        let text = format!("{scheme}://.:0 {{\n bind 127.0.0.1\n proxyproto\n whoami\n}}\n");
        let server = start_text(&text, 1);
        let mut stream = connect(&server);
        stream.write_all(&[line(CLIENT), preface(), request].concat()).unwrap();
        let mut frames = std::iter::from_fn(|| read_frame(&mut stream));
        let (.., body) = frames.find(|(kind, ..)| *kind == DATA).unwrap();
        assert_eq!(who(&body), Some(CLIENT), "{scheme}");
        server.stop();
    }
}

#[test]
fn a_reload_changes_the_treatment_of_headers() {
    let mut server = whoami("", "");
    let address = server.addresses()[0].to_string();
    let proxy = client(server.addresses()[0]);
    let ask = |header: &[u8]| {
        proxy.send(&[header, &query()].concat()).unwrap();
        receive(&proxy)
    };
    assert_eq!(who(&ask(&binary(CLIENT))), Some(CLIENT));
    server.reload(config(&address, "whoami")).unwrap();
    // The signature is a header of DNS with an opcode that is not implemented.
    assert_eq!(ask(&binary(CLIENT))[..2], *b"\r\n");
    assert_eq!(who(&ask(&[])), Some([127, 0, 0, 1]));
    server.reload(config(&address, "proxyproto\n whoami")).unwrap();
    assert_eq!(who(&ask(&binary(CLIENT))), Some(CLIENT));
    server.stop();
}

#[test]
fn a_removed_listener_answers_a_query_that_waits_behind_a_header() {
    let mut server = whoami("", "");
    let mut waits = connect(&server);
    until("it is accepted", || (sum(&server.stats()).connections == 1).then_some(()));
    waits.write_all(&[binary(CLIENT), framed(&query())].concat()).unwrap();
    server.reload(config("127.0.0.1:0", "whoami")).unwrap();
    assert_eq!(who(&read_message(&mut waits).unwrap()), Some(CLIENT));
    server.stop();
}

/// Both kinds of clients have a port that the kernel chooses.
#[test]
fn a_header_before_each_packet_of_quic_names_the_client() {
    let site = Site::new();
    let body = "proxyproto {\n allow 127.0.0.1/32\n }\n acl {\n block net 192.0.2.66\n }\n whoami";
    let keys = "quic://.:0 https3://.:0";
    let text = format!("{keys} {{\n bind 127.0.0.1\n tls cert.pem key.pem\n {body}\n}}\n");
    let server = start_with(site.load(&text), 1);
    let [doq, doh3] = server.addresses()[..] else { panic!("two listeners") };
    assert_ne!(doq.port(), doh3.port());
    let query = query_for(0, "who.test", A);
    for (header, client) in [(binary(CLIENT), CLIENT), (Vec::new(), [127, 0, 0, 1])] {
        let mut over_quic = Doq(Quic::dial_behind(&header, doq, site.client(), b"doq"));
        assert_eq!(who(&over_quic.ask(&query)), Some(client));
        // The proxy changes its port, and the client stays the same.
        over_quic.0.rebind();
        assert_eq!(who(&over_quic.ask(&query)), Some(client));
        let quic = Quic::dial_behind(&header, doh3, site.client(), b"h3");
        assert_eq!(who(&Doh3::over(quic).ask(&query)), Some(client));
    }
    let quic = Quic::dial_behind(&binary(BLOCKED), doq, site.client(), b"doq");
    assert_eq!(Doq(quic).ask(&query)[3] & 15, REFUSED);
    assert!(headers(&server, Outcome::Used) > 0);
    assert_eq!(headers(&server, Outcome::Invalid), 0);
    server.stop();
}
