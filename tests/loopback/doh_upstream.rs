//! Upstreams over HTTPS (RFC 8484): HTTP/2 and HTTP/1.1, and servers that misbehave.
//!
//! Upstreams are scripted servers ([`crate::doh_server`]); one is a server of our own.

use crate::certs::{Authority, load};
use crate::doh_server::{
    DNS, END_STREAM, Http2, INTERNAL_ERROR, REFUSED_STREAM, doh, response, secure,
};
use crate::http2::{DATA, GOAWAY, frame, read_frame};
use crate::kit::{A, answer_to, ask, client, outcome, query, receive};
use crate::until::until;
use crate::{start_with, sum};
use onward::engine::stats::UpstreamStats;
use onward::server::Server;
use onward::traffic::answer::is_right;
use std::io::Result;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(super) const SERVFAIL: u8 = 2;
/// An upstream that answers every query over HTTP/2.
fn good(authority: &Authority) -> SocketAddr {
    doh(authority, |_, connection| {
        loop {
            let (stream, query) = connection.request()?;
            connection.answer(stream, &query)?;
        }
    })
}

pub(super) fn forwarding(authority: &Authority, upstreams: &[SocketAddr], options: &str) -> Server {
    forwarding_by("https", authority, upstreams, options)
}

/// Starts a server that forwards to `upstreams`, in their order, by this scheme.
pub(super) fn forwarding_by(
    scheme: &str,
    authority: &Authority,
    upstreams: &[SocketAddr],
    options: &str,
) -> Server {
    let target = |address| format!(" {scheme}://{address}");
    let upstreams: String = upstreams.iter().map(target).collect();
    let text = format!(
        ".:0 {{\n bind 127.0.0.1\n errors\n forward .{upstreams} {{\n policy sequential\n tls \
         ca.pem\n tls_servername dns.test\n {options}\n }}\n}}\n"
    );
    start_with(load(&text, &[("ca.pem", &authority.pem())]), 1)
}

pub(super) fn one(server: &Server) -> UpstreamStats {
    sum(&server.stats()).upstreams[0]
}

pub(super) fn ask_right(server: &Server, number: u16) {
    let query = query(number, A);
    let reply = ask(server.addresses()[0], &query);
    assert!(is_right(&query, &reply), "{number}: {reply:x?}");
}

#[test]
fn a_server_of_our_own_is_asked_by_both_methods_on_one_connection() {
    let authority = Authority::new("good");
    let identity = authority.issue(&["dns.test"]);
    let backend = crate::responder(&[onward::traffic::answer::Behaviour::Answer]);
    let text = format!(
        "https://.:0 {{\n bind 127.0.0.1\n tls cert.pem key.pem\n https {{\n path /q\n }}\n \
         forward . {}\n}}\n",
        backend.addresses()[0]
    );
    let files = [("cert.pem", &*identity.certificate), ("key.pem", &*identity.key)];
    let far = start_with(load(&text, &files), 1);
    let address = far.addresses()[0];
    for method in ["GET", "POST"] {
        let (ip, port) = (address.ip(), address.port());
        let text = format!(
            ".:0 {{\n bind 127.0.0.1\n forward . https://{ip}%dns.test:{port}/q {{\n tls ca.pem\n \
             doh_method {method}\n }}\n}}\n"
        );
        let near = start_with(load(&text, &[("ca.pem", &authority.pem())]), 1);
        (0..50).for_each(|number| ask_right(&near, number));
        let stats = one(&near);
        assert_eq!((stats.answered, stats.failed, stats.tcp.opened), (50, 0, 1), "{stats:?}");
        assert_eq!((stats.handshakes.full, stats.handshakes.resumed), (1, 0));
        near.stop();
    }
    far.stop();
}

#[test]
fn queries_have_id_0_are_padded_and_share_a_connection_in_any_order() {
    let authority = Authority::new("good");
    let address = doh(&authority, |_, connection| {
        let mut held = Vec::new();
        loop {
            let (stream, query) = connection.request()?;
            assert_eq!(query[..2], [0, 0], "the id");
            assert_eq!(query.len(), 128, "padded");
            held.push((stream, query));
            if held.len() == 4 {
                for (stream, query) in held.drain(..).rev() {
                    connection.answer(stream, &query)?;
                }
            }
        }
    });
    let server = forwarding(&authority, &[address], "");
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

/// Fault of a server at its first request; the others are answered.
type Act = fn(&mut Http2, u32, &[u8]) -> Result<()>;

#[test]
fn a_reply_that_is_no_answer_is_a_failed_attempt() {
    let cases: [(&str, Act); 8] = [
        ("status 500 with a message", |connection, stream, query| {
            connection.respond(stream, 500, &[("content-type", DNS)], &answer_to(query))
        }),
        ("a redirect", |connection, stream, _| {
            connection.respond(stream, 307, &[("location", "https://192.0.2.1/dns-query")], b"")
        }),
        ("another type", |connection, stream, query| {
            connection.respond(stream, 200, &[("content-type", "text/html")], &answer_to(query))
        }),
        ("no message", |connection, stream, _| {
            connection.respond(stream, 200, &[("content-type", DNS)], b"short")
        }),
        ("a long body", |connection, stream, _| {
            let body = vec![0; 70_000];
            connection.respond(stream, 200, &[("content-type", DNS)], &body)
        }),
        ("the answer to another question", |connection, stream, _| {
            let other = answer_to(&query(999, A));
            connection.respond(stream, 200, &[("content-type", DNS)], &other)
        }),
        ("a reset", |connection, stream, _| connection.reset(stream, INTERNAL_ERROR)),
        ("a frame of no stream", |connection, _, _| {
            connection.write(&frame(DATA, END_STREAM, 0, b"x"))
        }),
    ];
    let authority = Authority::new("good");
    for (what, act) in cases {
        let bad = doh(&authority, move |_, connection| {
            loop {
                let (stream, query) = connection.request()?;
                act(connection, stream, &query)?;
            }
        });
        let server = forwarding(&authority, &[bad, good(&authority)], "max_fails 0");
        ask_right(&server, 1);
        let stats = one(&server);
        assert_eq!((stats.answered, stats.failed, stats.timed_out), (0, 1, 0), "{what}: {stats:?}");
        server.stop();
    }
}

#[test]
fn requests_that_were_not_processed_are_sent_again_and_nobody_is_to_blame() {
    let cases: [(&str, Act); 2] = [
        ("GOAWAY", |connection, _, _| connection.leave(0)),
        ("REFUSED_STREAM", |connection, stream, _| connection.reset(stream, REFUSED_STREAM)),
    ];
    let authority = Authority::new("good");
    for (what, act) in cases {
        let is_first = Mutex::new(true);
        let address = doh(&authority, move |_, connection| {
            loop {
                let (stream, query) = connection.request()?;
                match std::mem::replace(&mut *is_first.lock().unwrap(), false) {
                    true => act(connection, stream, &query)?,
                    false => connection.answer(stream, &query)?,
                }
            }
        });
        let server = forwarding(&authority, &[address], "max_connect_attempts 1");
        ask_right(&server, 1);
        let stats = one(&server);
        assert_eq!((stats.sent, stats.answered, stats.failed), (2, 1, 0), "{what}: {stats:?}");
        server.stop();
    }
}

#[test]
fn a_server_that_always_refuses_does_not_get_the_query_for_ever() {
    let authority = Authority::new("good");
    let address = doh(&authority, |_, connection| {
        loop {
            let (stream, _) = connection.request()?;
            connection.reset(stream, REFUSED_STREAM)?;
        }
    });
    let server = forwarding(&authority, &[address], "max_fails 0");
    assert_eq!(outcome(&ask(server.addresses()[0], &query(1, A))).0, SERVFAIL);
    let stats = one(&server);
    assert_eq!((stats.failed, stats.sent), (2, 6), "{stats:?}");
    server.stop();
}

#[test]
fn requests_below_the_last_of_a_goaway_are_still_answered() {
    let authority = Authority::new("good");
    let address = doh(&authority, |number, connection| {
        if number > 0 {
            loop {
                let (stream, query) = connection.request()?;
                connection.answer(stream, &query)?;
            }
        }
        let first = connection.request()?;
        connection.leave(first.0)?;
        // The second comes by another connection, which is dialled meanwhile.
        connection.answer(first.0, &first.1)?;
        connection.request().map(drop)
    });
    let server = forwarding(&authority, &[address], "max_connect_attempts 1");
    ask_right(&server, 1);
    ask_right(&server, 2);
    let stats = one(&server);
    assert_eq!((stats.answered, stats.failed, stats.tcp.opened), (2, 0, 2), "{stats:?}");
    server.stop();
}

#[test]
fn a_connection_that_ends_in_mid_answer_or_while_idle_costs_no_answer() {
    let authority = Authority::new("good");
    let address = doh(&authority, |number, connection| {
        for _ in 0..2 {
            let (stream, query) = connection.request()?;
            connection.answer(stream, &query)?;
        }
        let (stream, query) = connection.request()?;
        if number == 0 {
            let whole = response(stream, 200, &[("content-type", DNS)], &answer_to(&query));
            return connection.write(&whole[..whole.len() - 20]);
        }
        connection.answer(stream, &query)
    });
    let server = forwarding(&authority, &[address], "max_connect_attempts 1");
    for number in 0..9 {
        ask_right(&server, number);
    }
    let stats = one(&server);
    assert_eq!((stats.answered, stats.failed), (9, 0), "{stats:?}");
    assert!(stats.tcp.opened >= 3, "{stats:?}");
    server.stop();
}

#[test]
fn answers_come_in_single_bytes() {
    let authority = Authority::new("good");
    let address = doh(&authority, |_, connection| {
        loop {
            let (stream, query) = connection.request()?;
            for byte in response(stream, 200, &[("content-type", DNS)], &answer_to(&query)) {
                connection.write(&[byte])?;
            }
        }
    });
    let server = forwarding(&authority, &[address], "");
    (0..3).for_each(|number| ask_right(&server, number));
    assert_eq!(one(&server).tcp.opened, 1);
    server.stop();
}

#[test]
fn a_server_that_stalls_times_out_and_the_connection_is_not_used_again() {
    let authority = Authority::new("good");
    let address = doh(&authority, |number, connection| {
        loop {
            let (stream, query) = connection.request()?;
            if number > 0 {
                connection.answer(stream, &query)?;
            }
        }
    });
    let server = forwarding(&authority, &[address], "read_timeout 200ms\n max_fails 0");
    ask_right(&server, 1);
    ask_right(&server, 2);
    let stats = one(&server);
    assert_eq!((stats.timed_out, stats.answered, stats.tcp.opened), (1, 2, 2), "{stats:?}");
    server.stop();
}

#[test]
fn the_age_of_a_reply_is_taken_from_its_ttls() {
    let authority = Authority::new("good");
    let address = doh(&authority, |_, connection| {
        for age in ["17", "4000", "x"] {
            let (stream, query) = connection.request()?;
            let fields = [("content-type", DNS), ("age", age)];
            connection.respond(stream, 200, &fields, &answer_to(&query))?;
        }
        connection.request().map(drop)
    });
    let server = forwarding(&authority, &[address], "");
    for (number, ttl) in [(1, 43_u32), (2, 0), (3, 60)] {
        let query = query(number, A);
        let reply = ask(server.addresses()[0], &query);
        // The answer's owner is a pointer to the question, which ends before the query's OPT.
        let fixed = query.len() - 11 + 2;
        assert_eq!(reply[fixed + 4..fixed + 8], ttl.to_be_bytes(), "{number}: {reply:x?}");
    }
    server.stop();
}

#[test]
fn no_more_requests_are_outstanding_than_the_server_allows() {
    let authority = Authority::new("good");
    let highest = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&highest);
    let address = secure(b"h2", &authority, move |_, stream| {
        // SETTINGS_MAX_CONCURRENT_STREAMS is 2.
        let mut connection = Http2::begin(stream, &[0, 3, 0, 0, 0, 2])?;
        let (stream, query) = connection.request()?;
        connection.answer(stream, &query)?;
        loop {
            let one = connection.request()?;
            let two = connection.request()?;
            connection.stream.sock.set_read_timeout(Some(Duration::from_millis(20)))?;
            let third = connection.stream.conn.read_tls(&mut connection.stream.sock);
            let more = if third.is_ok_and(|count| count > 0) { 3 } else { 2 };
            seen.fetch_max(more, Ordering::SeqCst);
            connection.stream.sock.set_read_timeout(None)?;
            for (stream, query) in [two, one] {
                connection.answer(stream, &query)?;
            }
        }
    });
    let server = forwarding(&authority, &[address], "max_conns 1\n spread 1");
    ask_right(&server, 99);
    let clients: Vec<_> = (0..8).map(|_| client(server.addresses()[0])).collect();
    for (number, client) in clients.iter().enumerate() {
        client.send(&query(number as u16, A)).unwrap();
    }
    for (number, client) in clients.iter().enumerate() {
        assert!(is_right(&query(number as u16, A), &receive(client)), "{number}");
    }
    assert_eq!(highest.load(Ordering::SeqCst), 2);
    let stats = one(&server);
    assert_eq!((stats.answered, stats.failed, stats.tcp.opened), (9, 0, 1), "{stats:?}");
    server.stop();
}

#[test]
fn an_idle_connection_expires_with_goaway_and_the_next_query_dials() {
    let authority = Authority::new("good");
    let ends = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&ends);
    let address = secure(b"h2", &authority, move |_, stream| {
        let mut connection = Http2::begin(stream, b"")?;
        let (stream, query) = connection.request()?;
        connection.answer(stream, &query)?;
        while let Some((kind, ..)) = read_frame(&mut connection.stream) {
            seen.fetch_add(usize::from(kind == GOAWAY), Ordering::SeqCst);
        }
        Ok(())
    });
    let server = forwarding(&authority, &[address], "expire 50ms");
    ask_right(&server, 1);
    until("the connection has expired", || (ends.load(Ordering::SeqCst) == 1).then_some(()));
    ask_right(&server, 2);
    let stats = one(&server);
    assert_eq!((stats.failed, stats.tcp.opened, stats.tcp.expired), (0, 2, 1), "{stats:?}");
    server.stop();
}

#[test]
fn old_connections_are_replaced_before_they_retire() {
    let authority = Authority::new("good");
    let server =
        forwarding(&authority, &[good(&authority)], "expire 300ms\n max_age 300ms jitter 0");
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
fn probes_are_requests_and_find_an_upstream_down_and_up_again() {
    let authority = Authority::new("good");
    let is_up = Arc::new(Mutex::new(false));
    let (up, probes) = (Arc::clone(&is_up), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&probes);
    let address = doh(&authority, move |_, connection| {
        loop {
            let (stream, query) = connection.request()?;
            // The health check asks for the root.
            seen.fetch_add(usize::from(query[12] == 0), Ordering::SeqCst);
            match *up.lock().unwrap() {
                true => connection.answer(stream, &query)?,
                false => connection.respond(stream, 503, &[], b"")?,
            }
        }
    });
    let server = forwarding(&authority, &[address], "health_check 20ms\n max_fails 1");
    assert_eq!(outcome(&ask(server.addresses()[0], &query(1, A))).0, SERVFAIL);
    let is_down = || server.snapshots().remove(0).health_states.is_down(0);
    until("the upstream is down", || is_down().then_some(()));
    *is_up.lock().unwrap() = true;
    until("the upstream is up", || (!is_down()).then_some(()));
    ask_right(&server, 2);
    assert!(probes.load(Ordering::SeqCst) >= 2);
    server.stop();
}

#[test]
fn a_reload_waits_for_the_answers_of_a_connection_and_keeps_it() {
    let authority = Authority::new("good");
    let (asked, released) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(false)));
    let (count, may_go) = (Arc::clone(&asked), Arc::clone(&released));
    let address = doh(&authority, move |_, connection| {
        loop {
            let (stream, query) = connection.request()?;
            count.fetch_add(1, Ordering::SeqCst);
            until("the answer may go", || may_go.lock().unwrap().then_some(()));
            connection.answer(stream, &query)?;
        }
    });
    let text = |port: u16, expire: &str| {
        format!(
            ".:{port} {{\n bind 127.0.0.1\n forward . https://{address} {{\n tls ca.pem\n \
             tls_servername dns.test\n expire {expire}\n }}\n}}\n"
        )
    };
    let files = [("ca.pem", &*authority.pem())];
    let mut server = start_with(load(&text(0, "10s"), &files), 1);
    let socket = client(server.addresses()[0]);
    socket.send(&query(1, A)).unwrap();
    until("the upstream is asked", || (asked.load(Ordering::SeqCst) == 1).then_some(()));
    let port = server.addresses()[0].port();
    server.reload(load(&text(port, "20s"), &files)).unwrap();
    *released.lock().unwrap() = true;
    assert!(is_right(&query(1, A), &receive(&socket)));
    ask_right(&server, 2);
    let stats = one(&server);
    assert_eq!((stats.failed, stats.answered, stats.tcp.opened), (0, 2, 1), "{stats:?}");
    server.stop();
}
