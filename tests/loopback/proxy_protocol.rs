//! `forward { proxy_protocol v2 }`: headers of the PROXY protocol to upstreams.
//!
//! The upstream is this server again, with `proxyproto` and `whoami`, or a socket whose bytes are
//! compared; its headers are read by hand, so that the server's own reader is not the oracle.

use crate::certs::{Authority, load};
use crate::kit::{A, TXT, answer_to, client, query_for, receive};
use crate::tcp::{framed, listen, read_message, upstream};
use crate::{TIMEOUT, any_port, config, responder, start, start_text, start_with, sum};
use onward::engine::proxy::Outcome;
use onward::server::Server;
use onward::traffic::answer::{Behaviour, is_right};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};

/// Returns a socket on another loopback address than that of proxies.
fn client_at(address: &str, target: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket.connect(target).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket
}

/// Splits a datagram into the source in its header, the transport there, and the query.
fn split(datagram: &[u8]) -> (Option<SocketAddr>, u8, &[u8]) {
    assert!(datagram.starts_with(b"\r\n\r\n\0\r\nQUIT\n"), "{datagram:x?}");
    let len = 16 + usize::from(u16::from_be_bytes([datagram[14], datagram[15]]));
    let source = (datagram[12] == 0x21).then(|| {
        assert_eq!(datagram[13] >> 4, 1, "IPv4");
        let ip: [u8; 4] = datagram[16..20].try_into().unwrap();
        SocketAddr::from((ip, u16::from_be_bytes([datagram[24], datagram[25]])))
    });
    (source, datagram[13] & 15, &datagram[len..])
}

/// A server that forwards to `target` and tells it the client.
fn proxy(target: &str, options: &str) -> Server {
    let body = format!("forward . {target} {{\n proxy_protocol v2\n {options}\n }}");
    start("127.0.0.1:0", &body, 1)
}

#[test]
fn each_datagram_has_the_address_of_its_client() {
    let upstream = UdpSocket::bind(any_port()).unwrap();
    upstream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let server = proxy(&upstream.local_addr().unwrap().to_string(), "max_fails 0");
    let target = server.addresses()[0];
    let clients = ["127.0.0.2", "127.0.0.3"].map(|address| client_at(address, target));
    // Equal queries of different clients are not coalesced, those of one client are.
    let query = query_for(7, "same.test", A);
    for client in clients.iter().chain(&clients) {
        client.send(&query).unwrap();
    }
    for _ in &clients {
        let mut datagram = [0; 512];
        let (len, from) = upstream.recv_from(&mut datagram).unwrap();
        let (source, transport, query) = split(&datagram[..len]);
        let own = clients.iter().position(|client| client.local_addr().ok() == source);
        assert!(own.is_some() && transport == 2, "{source:?}");
        upstream.send_to(&answer_to(query), from).unwrap();
        for _ in 0..2 {
            assert!(is_right(&query_for(7, "same.test", A), &receive(&clients[own.unwrap()])));
        }
    }
    assert_eq!(sum(&server.stats()).coalesced, 2);
    server.stop();
}

#[test]
fn a_connection_is_for_one_client_and_begins_with_its_header() {
    let headers: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let seen = Arc::clone(&headers);
    let (address, _) = upstream(listen(), move |mut stream| {
        let mut header = vec![0; 28];
        stream.read_exact(&mut header)?;
        seen.lock().unwrap().push(header);
        loop {
            let query = read_message(&mut stream)?;
            stream.write_all(&framed(&answer_to(&query)))?;
        }
    });
    let server = proxy(&address.to_string(), "force_tcp\n max_fails 0");
    let target = server.addresses()[0];
    let clients = ["127.0.0.2", "127.0.0.3", "127.0.0.2"].map(|at| client_at(at, target));
    for round in 0..5 {
        for (number, client) in clients.iter().enumerate() {
            let query = query_for(round, &format!("n{round}.c{number}.test"), A);
            client.send(&query).unwrap();
            assert!(is_right(&query, &receive(client)), "{round} of {number}");
        }
    }
    let headers = headers.lock().unwrap();
    let mut sources: Vec<_> =
        headers.iter().map(|header| split(header).0.unwrap().ip().to_string()).collect();
    sources.sort();
    assert_eq!(sources, ["127.0.0.2", "127.0.0.3"]);
    server.stop();
}

#[test]
fn both_sides_together_pass_the_client_on_over_each_transport() {
    let authority = Authority::new("good");
    let identity = authority.issue(&["dns.test"]);
    let ca = authority.pem();
    let files =
        [("cert.pem", &*identity.certificate), ("key.pem", &*identity.key), ("ca.pem", &*ca)];
    for (scheme, tls, options) in [
        ("", "", "max_fails 1"),
        ("", "", "force_tcp\n max_fails 1"),
        ("tls://", "tls cert.pem key.pem", "tls ca.pem\n tls_servername dns.test\n max_fails 1"),
        ("https://", "tls cert.pem key.pem", "tls ca.pem\n tls_servername dns.test\n max_fails 1"),
    ] {
        let text = format!(
            "{scheme}.:0 {{\n bind 127.0.0.1\n {tls}\n proxyproto\n acl {{\n \
             block net 127.0.0.3\n }}\n whoami\n}}\n"
        );
        let end = start_with(load(&text, &files), 1);
        let text = format!(
            ".:0 {{\n bind 127.0.0.1\n forward . {scheme}{} {{\n proxy_protocol v2\n {options}\n \
             }}\n}}\n",
            end.addresses()[0]
        );
        let front = start_with(load(&text, &files), 1);
        for (address, rcode) in [("127.0.0.2", 0), ("127.0.0.3", 5), ("127.0.0.2", 0)] {
            let client = client_at(address, front.addresses()[0]);
            client.send(&query_for(7, "who.test", A)).unwrap();
            let reply = receive(&client);
            assert_eq!(reply[3] & 15, rcode, "{scheme} {options} {address}");
            assert!(rcode != 0 || reply.windows(4).any(|ip| ip == [127, 0, 0, 2]));
        }
        assert!(sum(&end.stats()).proxy_headers.of(Outcome::Used) >= 2);
        assert_eq!(sum(&end.stats()).proxy_headers.of(Outcome::Invalid), 0);
        front.stop();
        end.stop();
    }
}

#[test]
fn queries_of_the_server_itself_name_no_client() {
    let upstream = UdpSocket::bind(any_port()).unwrap();
    upstream.set_read_timeout(Some(TIMEOUT)).unwrap();
    // No answer comes, so the upstream is probed.
    let server = proxy(
        &upstream.local_addr().unwrap().to_string(),
        "max_fails 1\n read_timeout 50ms\n max_connect_attempts 1",
    );
    let client = client_at("127.0.0.2", server.addresses()[0]);
    client.send(&query_for(7, "a.test", TXT)).unwrap();
    let mut datagram = [0; 512];
    let mut next = || {
        let len = upstream.recv(&mut datagram).unwrap();
        let (source, _, query) = split(&datagram[..len]);
        assert!(query.len() > 12);
        source
    };
    assert_eq!(next(), client.local_addr().ok());
    assert_eq!(next(), None);
    server.stop();
}

#[test]
fn a_reload_that_turns_headers_on_uses_new_connections() {
    let plain = responder(&[Behaviour::Answer]);
    let target = plain.addresses()[0];
    let mut server = start("127.0.0.1:0", &format!("forward . {target}"), 1);
    let address = server.addresses()[0].to_string();
    let query = query_for(7, "a.test", A);
    assert!(is_right(&query, &crate::kit::ask(server.addresses()[0], &query)));
    let end = start_text(".:0 {\n bind 127.0.0.1\n proxyproto\n whoami\n}\n", 1);
    let body = |options: &str| format!("forward . {} {{\n {options}\n }}", end.addresses()[0]);
    for (options, who) in [("max_fails 2", [127, 0, 0, 1]), ("proxy_protocol v2", [127, 0, 0, 2])] {
        server.reload(config(&address, &body(options))).unwrap();
        let client = client_at("127.0.0.2", server.addresses()[0]);
        client.send(&query).unwrap();
        assert!(receive(&client).windows(4).any(|ip| ip == who), "{options}");
    }
    server.stop();
    end.stop();
}

#[test]
fn a_second_client_waits_for_no_connection_of_the_first() {
    // The upstream never answers on the first connection.
    let (address, _) = upstream(listen(), move |mut stream| {
        let mut header = vec![0; 28];
        stream.read_exact(&mut header)?;
        let is_silent = split(&header).0.unwrap().ip().to_string() == "127.0.0.2";
        loop {
            let query = read_message(&mut stream)?;
            if !is_silent {
                stream.write_all(&framed(&answer_to(&query)))?;
            }
        }
    });
    let server = proxy(&address.to_string(), "force_tcp\n max_fails 0\n max_conns 2");
    let ask = |at: &str, number: u16| {
        let client = client_at(at, server.addresses()[0]);
        let query = query_for(number, &format!("n{number}.test"), A);
        client.send(&query).unwrap();
        (client, query)
    };
    let (_silent, _) = ask("127.0.0.2", 1);
    for number in 2..20 {
        let (client, query) = ask("127.0.0.3", number);
        assert!(is_right(&query, &receive(&client)), "{number}");
    }
    server.stop();
}

#[test]
fn replies_go_to_clients_over_tcp() {
    let end = start_text(".:0 {\n bind 127.0.0.1\n proxyproto\n whoami\n}\n", 1);
    let server = proxy(&end.addresses()[0].to_string(), "");
    let mut stream = TcpStream::connect(server.addresses()[0]).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(&framed(&query_for(7, "who.test", A))).unwrap();
    let port = stream.local_addr().unwrap().port().to_be_bytes();
    let reply = read_message(&mut stream).unwrap();
    assert!(reply.windows(2).any(|bytes| bytes == port), "whoami has the client's port");
    drop(client(server.addresses()[0]));
    server.stop();
    end.stop();
}
