//! Ends of connections to upstreams over QUIC, and handshakes that fail.
//!
//! A server may close a connection, forget it, be restarted, or not be there. No query is lost by
//! that, and none goes to a server that does not prove to be the upstream.

use crate::certs::{Authority, Dates, Identity, load};
use crate::doh_upstream::{SERVFAIL, ask_right, one};
use crate::doq_peer::{Query, Relay, Running, doq, doq_with, transport};
use crate::doq_upstream::{forwarding, good};
use crate::kit::{A, ask, client, outcome, query, receive, refusing};
use crate::until::until;
use crate::{any_port, start_with};
use onward::engine::errors::TlsFault;
use onward::traffic::answer::{Behaviour, is_right};
use quinn_proto::ServerConfig;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const NO_ERROR: u32 = 0;

fn answering(identity: &Identity) -> Running {
    let tls = identity.server_of(&rustls::version::TLS13);
    doq_with(
        tls,
        any_port(),
        |_| {},
        |peer, query| {
            query.iter().for_each(|query| peer.answer(query));
        },
    )
}

/// Restarts a server of our own on its port.
#[test]
fn a_server_of_our_own_that_is_restarted_loses_no_query() {
    let authority = Authority::new("good");
    let identity = authority.issue(&["dns.test"]);
    let backend = crate::responder(&[Behaviour::Answer]);
    let start = |port: u16| {
        let text = format!(
            "quic://.:{port} {{\n bind 127.0.0.1\n tls cert.pem key.pem\n forward . {}\n}}\n",
            backend.addresses()[0]
        );
        let files = [("cert.pem", &*identity.certificate), ("key.pem", &*identity.key)];
        start_with(load(&text, &files), 2)
    };
    let mut far = start(0);
    let address = far.addresses()[0];
    let near = forwarding(&authority, &[address], "max_connect_attempts 1");
    for round in 0..4 {
        (0..5).for_each(|number| ask_right(&near, 10 * round + number));
        far.stop();
        far = start(address.port());
    }
    ask_right(&near, 99);
    let stats = one(&near);
    assert_eq!((stats.answered, stats.failed, stats.timed_out), (21, 0, 0), "{stats:?}");
    near.stop();
    far.stop();
}

/// A process that was killed sends stateless resets when it is back.
#[test]
fn a_connection_that_the_server_does_not_know_any_more_costs_no_answer() {
    let authority = Authority::new("good");
    let peer = doq(&authority, |peer, query| {
        let Some(query) = query else { return };
        peer.answer(&query);
        if peer.answered.is_multiple_of(3) {
            peer.transmit();
            peer.forget_all();
        }
    });
    let server = forwarding(&authority, &[peer.address], "max_connect_attempts 1");
    (0..12).for_each(|number| ask_right(&server, number));
    let stats = one(&server);
    assert_eq!((stats.answered, stats.failed, stats.timed_out), (12, 0, 0), "{stats:?}");
    assert!(stats.tcp.opened >= 3, "{stats:?}");
    server.stop();
}

#[test]
fn a_connection_that_the_server_closes_costs_no_answer() {
    let authority = Authority::new("good");
    let peer = doq(&authority, |peer, query| {
        let Some(query) = query else { return };
        match peer.answered % 3 {
            // Once in three, the query is lost with its connection.
            2 => {
                peer.answered += 1;
                peer.close(query.connection, NO_ERROR);
            }
            _ => peer.answer(&query),
        }
    });
    let server = forwarding(&authority, &[peer.address], "max_connect_attempts 1");
    (0..12).for_each(|number| ask_right(&server, number));
    let stats = one(&server);
    assert_eq!((stats.answered, stats.failed, stats.timed_out), (12, 0, 0), "{stats:?}");
    assert!(stats.tcp.opened >= 5, "{stats:?}");
    server.stop();
}

#[test]
fn a_burst_at_a_server_that_closes_after_each_reply_is_answered() {
    let authority = Authority::new("good");
    let tls = authority.issue(&["dns.test"]).server_of(&rustls::version::TLS13);
    let one_stream = |config: &mut ServerConfig| {
        config.transport_config(transport(1, None));
    };
    let mut answered: HashSet<usize> = HashSet::new();
    let peer = doq_with(tls, any_port(), one_stream, move |peer, query| {
        if let Some(query) = query {
            peer.answer(&query);
            answered.insert(query.connection);
        } else {
            peer.transmit();
            answered.drain().for_each(|connection| peer.close(connection, NO_ERROR));
        }
    });
    let server = forwarding(&authority, &[peer.address], "");
    let clients: Vec<_> = (0..32).map(|_| client(server.addresses()[0])).collect();
    for (number, client) in clients.iter().enumerate() {
        client.send(&query(number as u16, A)).unwrap();
    }
    for (number, client) in clients.iter().enumerate() {
        assert!(is_right(&query(number as u16, A), &receive(client)), "{number}");
    }
    let stats = one(&server);
    assert_eq!((stats.answered, stats.failed), (32, 0), "{stats:?}");
    server.stop();
}

/// The server forgets a connection without a word, and its clients know when.
#[test]
fn no_query_goes_on_a_connection_whose_idle_timeout_is_over() {
    let authority = Authority::new("good");
    let tls = authority.issue(&["dns.test"]).server_of(&rustls::version::TLS13);
    let idle = |config: &mut ServerConfig| {
        config.transport_config(transport(100, Some(Duration::from_millis(400))));
    };
    let peer = doq_with(tls, any_port(), idle, |peer, query| {
        query.iter().for_each(|query| peer.answer(query));
    });
    let server = forwarding(&authority, &[peer.address], "max_connect_attempts 1");
    ask_right(&server, 1);
    // The client is the first to close it.
    let code = until("the connection has ended", || peer.seen.lock().unwrap().code());
    assert_eq!(code, Some(0));
    ask_right(&server, 2);
    let stats = one(&server);
    assert_eq!((stats.answered, stats.failed, stats.tcp.expired), (2, 0, 1), "{stats:?}");
    server.stop();
}

#[test]
fn an_upstream_that_is_not_there_is_failed_over_at_once() {
    let authority = Authority::new("good");
    let (dead, _port) = refusing();
    let good = good(&authority);
    let server = forwarding(&authority, &[dead, good.address], "max_fails 0\n read_timeout 4s");
    (0..3).for_each(|number| ask_right(&server, number));
    let stats = one(&server);
    // The kernel has said so.
    assert_eq!((stats.failed, stats.timed_out), (3, 0), "{stats:?}");
    assert_eq!(stats.handshakes.failed[TlsFault::Unfinished as usize], 3, "{stats:?}");
    server.stop();
}

#[test]
fn an_upstream_silent_in_the_handshake_is_failed_over() {
    let authority = Authority::new("good");
    let silent = std::net::UdpSocket::bind(any_port()).unwrap();
    let good = good(&authority);
    let upstreams = [silent.local_addr().unwrap(), good.address];
    let server = forwarding(&authority, &upstreams, "max_fails 0\n read_timeout 300ms");
    ask_right(&server, 1);
    let stats = one(&server);
    assert_eq!(stats.timed_out, 1, "{stats:?}");
    assert_eq!(stats.handshakes.failed[TlsFault::Unfinished as usize], 1, "{stats:?}");
    server.stop();
}

#[test]
fn a_certificate_that_cannot_be_verified_never_carries_a_query() {
    let (authority, stranger) = (Authority::new("good"), Authority::new("stranger"));
    let other = authority.issue(&["dns.test"]).pin();
    let cases: [(TlsFault, Identity, &str); 5] = [
        (TlsFault::WrongName, authority.issue(&["other.test", "127.0.0.1"]), ""),
        (TlsFault::UnknownIssuer, stranger.issue(&["dns.test"]), ""),
        (TlsFault::Expired, authority.issue_for(&["dns.test"], Dates::Over), ""),
        (TlsFault::NotYetValid, authority.issue_for(&["dns.test"], Dates::ToCome), ""),
        (TlsFault::WrongKey, authority.issue(&["dns.test"]), &other),
    ];
    for (fault, identity, pin) in cases {
        let peer = answering(&identity);
        let options = if pin.is_empty() { String::new() } else { format!("tls_pin {pin}") };
        let server = forwarding(&authority, &[peer.address], &options);
        let (rcode, _) = outcome(&ask(server.addresses()[0], &query(7, A)));
        assert_eq!(rcode, SERVFAIL, "{fault:?}");
        let stats = one(&server);
        assert!(stats.handshakes.failed[fault as usize] > 0, "{fault:?}: {stats:?}");
        assert!(stats.failed > 0 && stats.handshakes.full == 0, "{fault:?}: {stats:?}");
        until("its probes fail as well", || {
            let snapshot = server.snapshots().remove(0);
            snapshot.health_states.is_down(0).then_some(())
        });
        assert_eq!(peer.seen.lock().unwrap().queries, 0, "{fault:?}: it has seen a query");
        server.stop();
    }
}

#[test]
fn a_pin_alone_identifies_an_upstream() {
    let identity = Authority::new("any").issue(&["any.test"]);
    let peer = answering(&identity);
    let text = format!(
        ".:0 {{\n bind 127.0.0.1\n forward . quic://{} {{\n tls_pin {}\n }}\n}}\n",
        peer.address,
        identity.pin()
    );
    let server = start_with(load(&text, &[]), 1);
    ask_right(&server, 1);
    server.stop();
}

#[test]
fn a_server_without_our_protocol_is_incompatible() {
    let authority = Authority::new("good");
    let mut tls = authority.issue(&["dns.test"]).server_of(&rustls::version::TLS13);
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let peer = doq_with(tls, any_port(), |_| {}, |_, query| assert!(query.is_none()));
    let server = forwarding(&authority, &[peer.address], "max_fails 0");
    assert_eq!(outcome(&ask(server.addresses()[0], &query(1, A))).0, SERVFAIL);
    let stats = one(&server);
    let failed = stats.handshakes.failed;
    let known = failed[TlsFault::Incompatible as usize] + failed[TlsFault::Refused as usize];
    assert!(known > 0, "{stats:?}");
    server.stop();
}

#[test]
fn a_client_certificate_is_sent_to_an_upstream_that_requests_it() {
    let authority = Authority::new("good");
    let own = authority.issue(&["client.test"]);
    let tls = || authority.strict_server(&authority.issue(&["dns.test"]));
    for (options, is_answered) in [("tls own.pem own.key ca.pem", true), ("tls ca.pem", false)] {
        let peer = doq_with(
            tls(),
            any_port(),
            |_| {},
            |peer, query| {
                query.iter().for_each(|query| peer.answer(query));
            },
        );
        let text = format!(
            ".:0 {{\n bind 127.0.0.1\n forward . quic://{} {{\n {options}\n tls_servername \
             dns.test\n max_fails 0\n }}\n}}\n",
            peer.address
        );
        let files =
            [("ca.pem", &*authority.pem()), ("own.pem", &*own.certificate), ("own.key", &*own.key)];
        let server = start_with(load(&text, &files), 1);
        let asked = query(1, A);
        let reply = ask(server.addresses()[0], &asked);
        assert_eq!(is_right(&asked, &reply), is_answered, "{options}");
        let refused = one(&server).handshakes.failed[TlsFault::Refused as usize];
        assert_eq!(peer.seen.lock().unwrap().queries > 0, is_answered, "{refused}");
        server.stop();
    }
}

/// Every client must prove its address first (RFC 9000 §8.1.2).
#[test]
fn a_retry_is_followed() {
    let authority = Authority::new("good");
    let peer = doq(&authority, |peer, query| {
        peer.retries = true;
        query.iter().for_each(|query| peer.answer(query));
    });
    let server = forwarding(&authority, &[peer.address], "max_connect_attempts 1\n expire 30ms");
    ask_right(&server, 1);
    until("the connection has expired", || peer.seen.lock().unwrap().code());
    ask_right(&server, 2);
    assert!(peer.seen.lock().unwrap().retried >= 2);
    assert_eq!(one(&server).failed, 0);
    server.stop();
}

/// A server of another version of QUIC names its versions, and the client gives up.
#[test]
fn a_server_of_another_version_is_incompatible() {
    let authority = Authority::new("good");
    let socket = std::net::UdpSocket::bind(any_port()).unwrap();
    let address = socket.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let mut buffer = [0; 2_048];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            if len < 1_200 {
                break;
            }
            // RFC 9000 §17.2.1: the connection IDs are swapped.
            let (own_len, rest) = (buffer[5], &buffer[6..]);
            let (own, rest) = rest.split_at(own_len.into());
            let other = &rest[1..][..rest[0].into()];
            let ids = [&[rest[0]], other, &[own_len], own].concat();
            let packet = [&[0x80, 0, 0, 0, 0][..], &ids, &[0x6b, 0x33, 0x43, 0xcf]].concat();
            socket.send_to(&packet, from).unwrap();
        }
    });
    let server = forwarding(&authority, &[address], "max_fails 0\n read_timeout 4s");
    assert_eq!(outcome(&ask(server.addresses()[0], &query(1, A))).0, SERVFAIL);
    let stats = one(&server);
    assert_eq!(stats.timed_out, 0, "{stats:?}");
    assert!(stats.handshakes.failed[TlsFault::Incompatible as usize] > 0, "{stats:?}");
    server.stop();
    client(address).send(b"the end").unwrap();
    thread.join().unwrap();
}

#[test]
fn a_reload_keeps_connections_unless_their_tls_settings_change() {
    let authority = Authority::new("good");
    let peer = good(&authority);
    let address = peer.address;
    let text = |port: u16, options: &str| {
        format!(
            ".:{port} {{\n bind 127.0.0.1\n forward . quic://{address} {{\n tls ca.pem\n \
             tls_servername dns.test\n {options}\n }}\n}}\n"
        )
    };
    let files = [("ca.pem", &*authority.pem())];
    let mut server = start_with(load(&text(0, ""), &files), 1);
    let port = server.addresses()[0].port();
    ask_right(&server, 1);
    server.reload(load(&text(port, "max_idle_conns 9"), &files)).unwrap();
    ask_right(&server, 2);
    assert_eq!(peer.seen.lock().unwrap().ports.len(), 1);
    // No key has this pin.
    let pin = authority.issue(&["dns.test"]).pin();
    server.reload(load(&text(port, &format!("tls_pin {pin}")), &files)).unwrap();
    assert_eq!(outcome(&ask(server.addresses()[0], &query(3, A))).0, SERVFAIL);
    server.reload(load(&text(port, ""), &files)).unwrap();
    ask_right(&server, 4);
    server.stop();
}

#[test]
fn a_stop_waits_for_the_answers_and_closes_the_connections() {
    let authority = Authority::new("good");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let mut held: Vec<(Query, u32)> = Vec::new();
    let peer = doq(&authority, move |peer, query| {
        if let Some(query) = query {
            count.fetch_add(1, Ordering::SeqCst);
            held.push((query, 0));
        }
        held.retain_mut(|(query, turns)| {
            *turns += 1;
            if *turns == 50 {
                peer.answer(query);
            }
            *turns < 50
        });
    });
    let server = forwarding(&authority, &[peer.address], "");
    let socket = client(server.addresses()[0]);
    socket.send(&query(1, A)).unwrap();
    until("the upstream is asked", || (asked.load(Ordering::SeqCst) == 1).then_some(()));
    server.stop();
    assert!(is_right(&query(1, A), &receive(&socket)));
    let code = until("the connection is closed", || peer.seen.lock().unwrap().code());
    assert_eq!(code, Some(0));
}

/// One datagram in eight is lost, and one in eight is overtaken by the next.
#[test]
fn no_query_is_lost_by_a_lossy_path() {
    let authority = Authority::new("good");
    let peer = good(&authority);
    let relay = Relay::start(peer.address, 8);
    let options = "read_timeout 4s\n max_connect_attempts 1";
    let server = forwarding(&authority, &[relay.address], options);
    for round in 0..10 {
        let clients: Vec<_> = (0..10).map(|_| client(server.addresses()[0])).collect();
        for (number, client) in clients.iter().enumerate() {
            client.send(&query(10 * round + number as u16, A)).unwrap();
        }
        for (number, client) in clients.iter().enumerate() {
            let asked = query(10 * round + number as u16, A);
            assert!(is_right(&asked, &receive(client)), "{round}-{number}");
        }
    }
    let stats = one(&server);
    assert_eq!((stats.answered, stats.failed, stats.timed_out), (100, 0, 0), "{stats:?}");
    assert!(relay.lost.load(Ordering::SeqCst) > 0);
    server.stop();
}

/// A connection is for one client address, and so is the header in front of its datagrams.
#[test]
fn each_datagram_has_a_header_of_the_proxy_protocol() {
    let authority = Authority::new("good");
    let peer = good(&authority);
    let relay = Relay::start(peer.address, u64::MAX);
    let server = forwarding(&authority, &[relay.address], "proxy_protocol v2");
    let socket = client(server.addresses()[0]);
    for number in 0..3 {
        socket.send(&query(number, A)).unwrap();
        assert!(is_right(&query(number, A), &receive(&socket)), "{number}");
    }
    let [source, destination] = [socket.local_addr().unwrap(), server.addresses()[0]];
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c".to_vec();
    header.extend([127, 0, 0, 1, 127, 0, 0, 1]);
    header.extend([source.port().to_be_bytes(), destination.port().to_be_bytes()].concat());
    server.stop();
    let found: Vec<_> = relay.headers.lock().unwrap().iter().cloned().collect();
    assert_eq!(found, [header]);
    assert_eq!(peer.seen.lock().unwrap().ports.len(), 1);
}
