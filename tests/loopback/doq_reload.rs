//! Reloads with upstreams over QUIC: sessions and probes.
//!
//! A reload that leaves an upstream as it is costs it no more than its probes in progress, which
//! are sent anew.

use crate::certs::{Authority, load};
use crate::doh_upstream::{ask_right, one};
use crate::doq_peer::doq;
use crate::doq_upstream::good;
use crate::kit::{A, ask, query};
use crate::start_with;
use crate::until::until;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const INTERNAL_ERROR: u32 = 1;

/// Text of a configuration that forwards to `upstream`.
fn text(upstream: &str, options: &str) -> String {
    format!(
        ".:0 {{\n bind 127.0.0.1\n forward . {upstream} {{\n tls ca.pem\n \
         tls_servername dns.test\n {options}\n }}\n}}\n"
    )
}

#[test]
fn sessions_over_quic_are_resumed_after_reloads() {
    let authority = Authority::new("good");
    let peer = good(&authority);
    let files = [("ca.pem", &*authority.pem())];
    let upstream = format!("quic://{}", peer.address);
    let mut server = start_with(load(&text(&upstream, "expire 20ms"), &files), 1);
    for round in 0..4 {
        ask_right(&server, round);
        let is_over = || peer.seen.lock().unwrap().ends.len() > usize::from(round);
        until("the connection has expired", || is_over().then_some(()));
        let options = format!("expire 20ms\n max_fails {}", 3 + round);
        server.reload(load(&text(&upstream, &options), &files)).unwrap();
    }
    let stats = one(&server);
    assert_eq!((stats.failed, stats.tcp.opened), (0, 4), "{stats:?}");
    assert_eq!((stats.handshakes.full, stats.handshakes.resumed), (1, 3), "{stats:?}");
    server.stop();
}

#[test]
fn a_session_is_not_resumed_under_other_authorities() {
    let (authority, other) = (Authority::new("good"), Authority::new("other"));
    let peer = good(&authority);
    let upstream = format!("quic://{}", peer.address);
    let text = text(&upstream, "expire 20ms");
    let mut server = start_with(load(&text, &[("ca.pem", &*authority.pem())]), 1);
    ask_right(&server, 1);
    until("the connection has expired", || peer.seen.lock().unwrap().code());
    server.reload(load(&text, &[("ca.pem", &*(authority.pem() + &other.pem()))])).unwrap();
    ask_right(&server, 2);
    let handshakes = one(&server).handshakes;
    assert_eq!(handshakes.resumed, 0, "{handshakes:?}");
    server.stop();
}

/// A probe in progress is sent anew after a reload, on another connection.
#[test]
fn the_connection_of_a_probe_is_closed_at_a_reload_and_at_the_end() {
    let authority = Authority::new("good");
    let probes = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&probes);
    let peer = doq(&authority, move |peer, query| {
        let Some(query) = query else { return };
        // The health check asks for the root, and gets no answer.
        match query.message[12] {
            0 => count.store(query.connection, Ordering::SeqCst),
            _ => peer.reset(&query, INTERNAL_ERROR),
        }
    });
    let files = [("ca.pem", &*authority.pem())];
    let upstream = format!("quic://{}", peer.address);
    let mut server = start_with(load(&text(&upstream, "max_connect_attempts 1"), &files), 1);
    ask(server.addresses()[0], &query(1, A));
    let probe_after = |before: usize| {
        until("a probe arrives", || {
            Some(probes.load(Ordering::SeqCst)).filter(|probe| *probe > before)
        })
    };
    let is_closed = |probe: usize| peer.seen.lock().unwrap().ended.contains(&probe);
    let first = probe_after(0);
    server.reload(load(&text(&upstream, "max_connect_attempts 2"), &files)).unwrap();
    until("its connection is closed", || is_closed(first).then_some(()));
    let second = probe_after(first);
    server.stop();
    until("its connection is closed", || is_closed(second).then_some(()));
}
