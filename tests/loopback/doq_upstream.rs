//! Upstreams over QUIC (RFC 9250): many queries on a connection, and servers that misbehave.
//!
//! Upstreams are scripted servers ([`crate::doq_peer`]), or servers of our own.

use crate::any_port;
use crate::certs::{Authority, load};
use crate::doh_upstream::{SERVFAIL, ask_right, forwarding_by, one};
use crate::doq::framed;
use crate::doq_peer::{Peer, Query, Running, doq, doq_with, transport};
use crate::kit::{A, answer_to, ask, client, outcome, query, query_for, receive};
use crate::tcp::ask_over_tcp;
use crate::until::until;
use crate::{start_with, sum};
use onward::server::Server;
use onward::traffic::answer::{Behaviour, is_right};
use quinn_proto::ServerConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const NO_ERROR: u64 = 0;
const INTERNAL_ERROR: u32 = 1;
const PROTOCOL_ERROR: u64 = 2;
const REQUEST_CANCELLED: u64 = 3;
const EXCESSIVE_LOAD: u32 = 4;

pub(super) fn forwarding(authority: &Authority, upstreams: &[SocketAddr], options: &str) -> Server {
    forwarding_by("quic", authority, upstreams, options)
}

#[test]
fn a_server_of_our_own_is_asked_on_one_connection() {
    let authority = Authority::new("good");
    let identity = authority.issue(&["dns.test"]);
    let backend = crate::responder(&[Behaviour::Answer]);
    let text = format!(
        "quic://.:0 {{\n bind 127.0.0.1\n tls cert.pem key.pem\n forward . {}\n}}\n",
        backend.addresses()[0]
    );
    let files = [("cert.pem", &*identity.certificate), ("key.pem", &*identity.key)];
    let far = start_with(load(&text, &files), 1);
    let address = far.addresses()[0];
    let (ip, port) = (address.ip(), address.port());
    let text = format!(
        ".:0 {{\n bind 127.0.0.1\n forward . quic://{ip}%dns.test:{port} {{\n tls ca.pem\n }}\n}}\n"
    );
    let near = start_with(load(&text, &[("ca.pem", &authority.pem())]), 1);
    (0..50).for_each(|number| ask_right(&near, number));
    let stats = one(&near);
    assert_eq!((stats.answered, stats.failed, stats.tcp.opened), (50, 0, 1), "{stats:?}");
    assert_eq!((stats.handshakes.full, stats.handshakes.resumed), (1, 0));
    near.stop();
    assert_eq!(sum(&far.stats()).handshakes.full, 1);
    far.stop();
}

#[test]
fn queries_have_id_0_are_padded_and_share_a_connection_in_any_order() {
    let authority = Authority::new("good");
    let mut held = Vec::new();
    let peer = doq(&authority, move |peer, query| {
        let Some(query) = query else { return };
        assert_eq!(query.message[..2], [0, 0], "the id");
        assert_eq!(query.message.len(), 128, "padded");
        held.push(query);
        if held.len() == 4 {
            held.drain(..).rev().for_each(|query| peer.answer(&query));
        }
    });
    let server = forwarding(&authority, &[peer.address], "");
    let clients: Vec<_> = (0..8).map(|_| client(server.addresses()[0])).collect();
    for first in [0, 4] {
        for (number, client) in clients.iter().enumerate().skip(first).take(4) {
            client.send(&query(number as u16, A)).unwrap();
        }
        for (number, client) in clients.iter().enumerate().skip(first).take(4) {
            assert!(is_right(&query(number as u16, A), &receive(client)), "{number}");
        }
    }
    let stats = one(&server);
    assert_eq!((stats.answered, stats.failed, stats.tcp.opened), (8, 0, 1), "{stats:?}");
    server.stop();
}

/// An upstream that answers every query.
pub(super) fn good(authority: &Authority) -> Running {
    doq(authority, |peer, query| query.iter().for_each(|query| peer.answer(query)))
}

/// Act of a server at each query.
type Act = fn(&mut Peer, &Query);

#[test]
fn a_violation_closes_the_connection_with_its_code() {
    let cases: [(&str, Act); 7] = [
        ("a message ID", |peer, query| {
            let mut answer = answer_to(&query.message);
            answer[1] = 1;
            peer.send(query, &framed(&answer), true);
        }),
        ("bytes behind the message", |peer, query| {
            let mut bytes = framed(&answer_to(&query.message));
            bytes.push(0);
            peer.send(query, &bytes, true);
        }),
        ("bytes behind a message that goes on", |peer, query| {
            let mut bytes = framed(&answer_to(&query.message));
            bytes.push(0);
            peer.send(query, &bytes, false);
        }),
        ("half a message", |peer, query| {
            peer.send(query, &framed(&answer_to(&query.message))[..30], true);
        }),
        ("half a length", |peer, query| peer.send(query, &[0], true)),
        ("nothing", |peer, query| peer.send(query, b"", true)),
        ("the option edns-tcp-keepalive", |peer, query| {
            let mut answer = answer_to(&query.message);
            answer.truncate(answer.len() - 11);
            answer.extend(b"\0\0\x29\x04\xd0\0\0\0\0\0\x06\0\x0b\0\x02\0\x64");
            peer.send(query, &framed(&answer), true);
        }),
    ];
    let authority = Authority::new("good");
    for (what, act) in cases {
        let bad = doq(&authority, move |peer, query| {
            query.iter().for_each(|query| act(peer, query));
        });
        let good = good(&authority);
        let server = forwarding(&authority, &[bad.address, good.address], "max_fails 0");
        ask_right(&server, 1);
        let stats = one(&server);
        assert_eq!((stats.answered, stats.failed, stats.timed_out), (0, 1, 0), "{what}: {stats:?}");
        let code = until("the connection is closed", || bad.seen.lock().unwrap().code());
        assert_eq!(code, Some(PROTOCOL_ERROR), "{what}");
        server.stop();
    }
}

#[test]
fn a_query_that_fails_is_a_failed_attempt_and_the_connection_goes_on() {
    let cases: [(&str, Act); 2] = [
        ("a reset", |peer, query| peer.reset(query, INTERNAL_ERROR)),
        ("the answer to another question", |peer, query| {
            let mut other = answer_to(&query_for(0, "other.test", A));
            other[..2].fill(0);
            peer.send(query, &framed(&other), true);
        }),
    ];
    let authority = Authority::new("good");
    for (what, act) in cases {
        let bad = doq(&authority, move |peer, query| {
            query.iter().for_each(|query| act(peer, query));
        });
        let good = good(&authority);
        let server = forwarding(&authority, &[bad.address, good.address], "max_fails 0");
        ask_right(&server, 1);
        let stats = one(&server);
        assert_eq!((stats.answered, stats.failed, stats.timed_out), (0, 1, 0), "{what}: {stats:?}");
        assert_eq!(stats.handshakes.full, 1, "{what}");
        server.stop();
    }
}

#[test]
fn queries_that_were_refused_go_elsewhere_and_are_no_failures() {
    let cases: [(&str, Act); 2] = [
        ("a stream", |peer, query| peer.reset(query, EXCESSIVE_LOAD)),
        ("a connection", |peer, query| match peer.answered {
            0 => peer.answer(query),
            _ => peer.close(query.connection, EXCESSIVE_LOAD),
        }),
    ];
    let authority = Authority::new("good");
    for (what, act) in cases {
        let busy = doq(&authority, move |peer, query| {
            query.iter().for_each(|query| act(peer, query));
        });
        let good = good(&authority);
        let server = forwarding(&authority, &[busy.address, good.address], "max_fails 0");
        ask_right(&server, 1);
        ask_right(&server, 2);
        let stats = one(&server);
        let at_good = sum(&server.stats()).upstreams[1];
        assert_eq!((stats.failed, stats.timed_out), (0, 0), "{what}: {stats:?}");
        assert!(at_good.answered >= 1, "{what}: {at_good:?}");
        assert_eq!(stats.answered + at_good.answered, 2, "{what}");
        server.stop();
    }
}

#[test]
fn a_server_that_always_refuses_does_not_get_the_query_for_ever() {
    let authority = Authority::new("good");
    let busy = doq(&authority, |peer, query| {
        query.iter().for_each(|query| peer.reset(query, EXCESSIVE_LOAD));
    });
    let server = forwarding(&authority, &[busy.address], "max_fails 0");
    assert_eq!(outcome(&ask(server.addresses()[0], &query(1, A))).0, SERVFAIL);
    let stats = one(&server);
    assert_eq!((stats.failed, stats.sent), (2, 6), "{stats:?}");
    server.stop();
}

#[test]
fn answers_come_in_single_bytes() {
    let authority = Authority::new("good");
    let mut pending: Vec<(Query, Vec<u8>)> = Vec::new();
    let peer = doq(&authority, move |peer, query| {
        if let Some(query) = query {
            let bytes = framed(&answer_to(&query.message));
            pending.push((query, bytes));
        }
        for (query, bytes) in &mut pending {
            let byte = bytes.remove(0);
            peer.send(query, &[byte], bytes.is_empty());
        }
        pending.retain(|(_, bytes)| !bytes.is_empty());
    });
    let server = forwarding(&authority, &[peer.address], "");
    (0..3).for_each(|number| ask_right(&server, number));
    assert_eq!(one(&server).tcp.opened, 1);
    server.stop();
}

#[test]
fn answers_of_maximum_length_arrive() {
    let authority = Authority::new("good");
    let peer = doq(&authority, |peer, query| {
        let Some(query) = query else { return };
        // As many records as fit in front of the client's OPT.
        let end = query.message.len().min(12 + 10 + 4);
        let mut answer = query.message[..end].to_vec();
        let name_end = answer[12..].iter().position(|byte| *byte == 0).unwrap() + 12 + 5;
        answer.truncate(name_end);
        let records = (65_535 - 11 - answer.len()) / 16;
        answer[2] |= 0x80;
        answer[6..8].copy_from_slice(&(records as u16).to_be_bytes());
        answer[10..12].fill(0);
        for _ in 0..records {
            answer.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01");
        }
        peer.send(&query, &framed(&answer), true);
    });
    let server = forwarding(&authority, &[peer.address], "");
    for number in 0..3 {
        let reply = ask_over_tcp(server.addresses()[0], &query(number, A));
        assert!(reply.len() > 65_000, "{}", reply.len());
    }
    let stats = one(&server);
    assert_eq!((stats.answered, stats.failed, stats.tcp.opened), (3, 0, 1), "{stats:?}");
    server.stop();
}

#[test]
fn a_server_that_stalls_times_out_and_the_connection_is_not_used_again() {
    let authority = Authority::new("good");
    let peer = doq(&authority, |peer, query| {
        query.iter().filter(|query| query.connection > 0).for_each(|query| peer.answer(query));
    });
    let server = forwarding(&authority, &[peer.address], "read_timeout 200ms\n max_fails 0");
    ask_right(&server, 1);
    ask_right(&server, 2);
    let stats = one(&server);
    assert_eq!((stats.timed_out, stats.answered, stats.tcp.opened), (1, 2, 2), "{stats:?}");
    let code = until("the silent connection is closed", || peer.seen.lock().unwrap().code());
    assert_eq!(code, Some(NO_ERROR));
    server.stop();
}

/// The second query is stuck behind the first, and is asked on another connection.
#[test]
fn a_query_that_is_answered_elsewhere_is_cancelled_while_others_go_on() {
    let authority = Authority::new("good");
    let peer = doq(&authority, |peer, query| {
        query.iter().filter(|query| query.connection > 0).for_each(|query| peer.answer(query));
    });
    let server = forwarding(&authority, &[peer.address], "read_timeout 3s\n max_fails 0");
    let clients: Vec<_> = (0..2).map(|_| client(server.addresses()[0])).collect();
    for (number, client) in clients.iter().enumerate() {
        client.send(&query(number as u16, A)).unwrap();
    }
    assert!(is_right(&query(1, A), &receive(&clients[1])));
    until("its first stream is cancelled", || {
        let seen = peer.seen.lock().unwrap();
        (seen.cancelled == [REQUEST_CANCELLED] && seen.ends.is_empty()).then_some(())
    });
    assert!(is_right(&query(0, A), &receive(&clients[0])));
    let stats = one(&server);
    assert_eq!((stats.timed_out, stats.tcp.moved, stats.tcp.opened), (1, 1, 2), "{stats:?}");
    server.stop();
}

#[test]
fn no_more_queries_are_outstanding_than_the_server_grants_streams() {
    let authority = Authority::new("good");
    let tls = authority.issue(&["dns.test"]).server_of(&rustls::version::TLS13);
    let highest = Arc::new(AtomicUsize::new(0));
    let (seen, mut held) = (Arc::clone(&highest), Vec::new());
    let mut quiet = 0;
    let one_stream = |config: &mut ServerConfig| {
        config.transport_config(transport(1, None));
    };
    let peer = doq_with(tls, any_port(), one_stream, move |peer, query| match query {
        Some(query) => {
            quiet = 0;
            held.push(query);
            seen.fetch_max(held.len(), Ordering::SeqCst);
        }
        // Each query waits for a while, so that another would arrive if it were sent.
        None => {
            quiet += 1;
            if quiet > 5 {
                held.drain(..).for_each(|query| peer.answer(&query));
            }
        }
    });
    let server = forwarding(&authority, &[peer.address], "max_conns 1\n spread 1");
    ask_right(&server, 99);
    let clients: Vec<_> = (0..8).map(|_| client(server.addresses()[0])).collect();
    for (number, client) in clients.iter().enumerate() {
        client.send(&query(number as u16, A)).unwrap();
    }
    for (number, client) in clients.iter().enumerate() {
        assert!(is_right(&query(number as u16, A), &receive(client)), "{number}");
    }
    assert_eq!(highest.load(Ordering::SeqCst), 1);
    let stats = one(&server);
    assert_eq!((stats.answered, stats.failed, stats.tcp.opened), (9, 0, 1), "{stats:?}");
    server.stop();
}

/// The engine dials instead of queueing behind the server's limit.
#[test]
fn more_connections_are_dialled_where_a_server_grants_few_streams() {
    let authority = Authority::new("good");
    let tls = authority.issue(&["dns.test"]).server_of(&rustls::version::TLS13);
    let mut held = Vec::new();
    let two_streams = |config: &mut ServerConfig| {
        config.transport_config(transport(2, None));
    };
    let peer = doq_with(tls, any_port(), two_streams, move |peer, query| {
        held.extend(query);
        if held.len() == 8 || peer.answered == 0 {
            held.drain(..).for_each(|query| peer.answer(&query));
        }
    });
    let server = forwarding(&authority, &[peer.address], "");
    ask_right(&server, 99);
    let clients: Vec<_> = (0..8).map(|_| client(server.addresses()[0])).collect();
    for (number, client) in clients.iter().enumerate() {
        client.send(&query(number as u16, A)).unwrap();
    }
    for (number, client) in clients.iter().enumerate() {
        assert!(is_right(&query(number as u16, A), &receive(client)), "{number}");
    }
    let stats = one(&server);
    assert_eq!((stats.answered, stats.failed, stats.tcp.opened), (9, 0, 4), "{stats:?}");
    server.stop();
}

#[test]
fn an_idle_connection_expires_and_the_next_query_resumes_the_session() {
    let authority = Authority::new("good");
    let peer = good(&authority);
    let server = forwarding(&authority, &[peer.address], "expire 50ms");
    ask_right(&server, 1);
    let code = until("the connection has expired", || peer.seen.lock().unwrap().code());
    assert_eq!(code, Some(NO_ERROR));
    ask_right(&server, 2);
    let stats = one(&server);
    assert_eq!((stats.failed, stats.tcp.opened, stats.tcp.expired), (0, 2, 1), "{stats:?}");
    assert_eq!((stats.handshakes.full, stats.handshakes.resumed), (1, 1), "{stats:?}");
    let ports = peer.seen.lock().unwrap().ports.clone();
    assert!(ports.len() == 2 && ports[0] != ports[1], "{ports:?}");
    server.stop();
}

#[test]
fn old_connections_are_replaced_before_they_retire() {
    let authority = Authority::new("good");
    let peer = good(&authority);
    let options = "expire 300ms\n max_age 300ms jitter 0";
    let server = forwarding(&authority, &[peer.address], options);
    let mut number = 0;
    until("two connections have aged", || {
        number += 1;
        ask_right(&server, number);
        (one(&server).tcp.aged >= 2).then_some(())
    });
    let stats = one(&server);
    assert_eq!((stats.failed, stats.timed_out), (0, 0), "{stats:?}");
    server.stop();
}

#[test]
fn probes_are_queries_over_quic_and_find_an_upstream_down_and_up_again() {
    let authority = Authority::new("good");
    let is_up = Arc::new(AtomicBool::new(false));
    let probes = Arc::new(AtomicUsize::new(0));
    let (up, seen) = (Arc::clone(&is_up), Arc::clone(&probes));
    let peer = doq(&authority, move |peer, query| {
        let Some(query) = query else { return };
        // The health check asks for the root.
        seen.fetch_add(usize::from(query.message[12] == 0), Ordering::SeqCst);
        match up.load(Ordering::SeqCst) {
            true => peer.answer(&query),
            false => peer.reset(&query, INTERNAL_ERROR),
        }
    });
    let server = forwarding(&authority, &[peer.address], "health_check 20ms\n max_fails 1");
    assert_eq!(outcome(&ask(server.addresses()[0], &query(1, A))).0, SERVFAIL);
    let is_down = || server.snapshots().remove(0).health_states.is_down(0);
    until("the upstream is down", || is_down().then_some(()));
    is_up.store(true, Ordering::SeqCst);
    until("the upstream is up", || (!is_down()).then_some(()));
    ask_right(&server, 2);
    assert!(probes.load(Ordering::SeqCst) >= 2);
    server.stop();
}

#[test]
fn a_reload_waits_for_the_answers_of_a_connection_and_keeps_it() {
    let authority = Authority::new("good");
    let released = Arc::new(AtomicBool::new(false));
    let (may_go, mut held) = (Arc::clone(&released), Vec::new());
    let peer = doq(&authority, move |peer, query| {
        held.extend(query);
        if may_go.load(Ordering::SeqCst) {
            held.drain(..).for_each(|query| peer.answer(&query));
        }
    });
    let address = peer.address;
    let text = |port: u16, expire: &str| {
        format!(
            ".:{port} {{\n bind 127.0.0.1\n forward . quic://{address} {{\n tls ca.pem\n \
             tls_servername dns.test\n expire {expire}\n }}\n}}\n"
        )
    };
    let files = [("ca.pem", &*authority.pem())];
    let mut server = start_with(load(&text(0, "10s"), &files), 1);
    let socket = client(server.addresses()[0]);
    socket.send(&query(1, A)).unwrap();
    until("the upstream is asked", || (peer.seen.lock().unwrap().queries == 1).then_some(()));
    let port = server.addresses()[0].port();
    server.reload(load(&text(port, "20s"), &files)).unwrap();
    released.store(true, Ordering::SeqCst);
    assert!(is_right(&query(1, A), &receive(&socket)));
    ask_right(&server, 2);
    let stats = one(&server);
    assert_eq!((stats.failed, stats.answered, stats.tcp.opened), (0, 2, 1), "{stats:?}");
    server.stop();
}
