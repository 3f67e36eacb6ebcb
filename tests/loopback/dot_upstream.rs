//! Upstreams over TLS (RFC 7858): authentication, and no queries to any other server.
//!
//! Upstreams are blocking sockets with rustls in threads; certificates are made in the test.
//! Upstreams count the decrypted queries: an upstream that cannot be verified must receive none.

use crate::certs::{Authority, Dates, Identity, load};
use crate::kit::{A, ask, outcome, query};
use crate::tcp::{answer_to, framed, listen, read_message, upstream};
use crate::until::until;
use crate::{start_with, sum};
use onward::clock::Clock;
use onward::engine::errors::TlsFault;
use onward::engine::stats::UpstreamStats;
use onward::server::Server;
use onward::tls::{Failure, Received};
use onward::traffic::answer::is_right;
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::{ServerConnection, StreamOwned};
use socket2::SockRef;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SERVFAIL: u8 = 2;

/// Lengths of the queries that an upstream has decrypted.
type Seen = Arc<Mutex<Vec<usize>>>;

/// An upstream over TLS that answers `limit` queries on each connection and then closes it.
fn dot(config: ServerConfig, limit: usize) -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let (config, count) = (Arc::new(config), Arc::clone(&seen));
    let (address, _) = upstream(listen(), move |stream| {
        let session = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = StreamOwned::new(session, stream);
        for _ in 0..limit {
            let query = read_message(&mut stream)?;
            count.lock().unwrap().push(query.len());
            stream.write_all(&framed(&answer_to(&query)))?;
        }
        stream.conn.send_close_notify();
        stream.flush()
    });
    (address, seen)
}

fn forwarding(upstreams: &str, options: &str, files: &[(&str, &str)]) -> Server {
    let text = format!(
        ".:0 {{\n bind 127.0.0.1\n errors\n forward . {upstreams} {{\n policy sequential\n \
         {options}\n }}\n}}\n"
    );
    start_with(load(&text, files), 1)
}

fn one(server: &Server) -> UpstreamStats {
    sum(&server.stats()).upstreams[0]
}

#[test]
fn queries_go_over_tls_padded_on_one_connection_and_come_back() {
    let authority = Authority::new("good");
    let mut config = authority.issue(&["dns.test"]).server();
    config.alpn_protocols = vec![b"dot".to_vec()];
    let (address, seen) = dot(config, usize::MAX);
    let server = forwarding(
        &format!("tls://{}%dns.test:{}", address.ip(), address.port()),
        "tls ca.pem",
        &[("ca.pem", &authority.pem())],
    );
    for number in 0..50 {
        let query = query(number, A);
        assert!(is_right(&query, &ask(server.addresses()[0], &query)), "query {number}");
    }
    let stats = one(&server);
    assert_eq!((stats.answered, stats.failed, stats.tcp.opened), (50, 0, 1), "{stats:?}");
    assert_eq!((stats.handshakes.full, stats.handshakes.resumed), (1, 0));
    let lengths = seen.lock().unwrap();
    assert!(lengths.len() == 50 && lengths.iter().all(|len| *len == 128), "{lengths:?}");
    server.stop();
}

#[test]
fn an_upstream_is_verified_by_its_address_without_a_server_name() {
    let authority = Authority::new("good");
    let (address, _) = dot(authority.issue(&["127.0.0.1"]).server(), usize::MAX);
    let server =
        forwarding(&format!("tls://{address}"), "tls ca.pem", &[("ca.pem", &authority.pem())]);
    let query = query(1, A);
    assert!(is_right(&query, &ask(server.addresses()[0], &query)));
    server.stop();
}

#[test]
fn a_certificate_that_cannot_be_verified_never_carries_a_query() {
    let (authority, stranger) = (Authority::new("good"), Authority::new("stranger"));
    let other = authority.issue(&["dns.test"]).pin();
    let cases: [(TlsFault, Identity, &str); 6] = [
        (TlsFault::WrongName, authority.issue(&["other.test", "127.0.0.2"]), "dns.test"),
        (TlsFault::WrongName, authority.issue(&["dns.test"]), ""),
        (TlsFault::UnknownIssuer, stranger.issue(&["dns.test"]), "dns.test"),
        (TlsFault::Expired, authority.issue_for(&["dns.test"], Dates::Over), "dns.test"),
        (TlsFault::NotYetValid, authority.issue_for(&["dns.test"], Dates::ToCome), "dns.test"),
        (TlsFault::WrongKey, authority.issue(&["dns.test"]), "dns.test"),
    ];
    for (fault, identity, name) in cases {
        let (address, seen) = dot(identity.server(), usize::MAX);
        let mut options = "tls ca.pem".to_owned();
        if !name.is_empty() {
            options += &format!("\n tls_servername {name}");
        }
        if fault == TlsFault::WrongKey {
            options += &format!("\n tls_pin {other}");
        }
        let files = [("ca.pem", &*authority.pem())];
        let server = forwarding(&format!("tls://{address}"), &options, &files);
        let (rcode, _) = outcome(&ask(server.addresses()[0], &query(7, A)));
        assert_eq!(rcode, SERVFAIL, "{fault:?}");
        let stats = one(&server);
        assert!(stats.handshakes.failed[fault as usize] > 0, "{fault:?}: {stats:?}");
        assert!(stats.failed > 0 && stats.handshakes.full == 0, "{fault:?}: {stats:?}");
        assert!(seen.lock().unwrap().is_empty(), "{fault:?}: it has seen a query");
        let clock = Clock::start();
        let begun = clock.now();
        for number in 0..100 {
            ask(server.addresses()[0], &query(number, A));
        }
        // At most one attempt per 100 ms besides those of the first query; probes have their own.
        let tried = one(&server).handshakes.failed[fault as usize];
        let allowed = 2 + clock.now().since(begun).as_millis() as u64 / 100;
        assert!(tried <= allowed, "{fault:?}: {tried} handshakes, {allowed} are allowed");
        until("its probes fail as well", || {
            let snapshot = server.snapshots().remove(0);
            snapshot.health_states.is_down(0).then_some(())
        });
        assert!(seen.lock().unwrap().is_empty(), "{fault:?}: it has seen a probe");
        server.stop();
    }
}

#[test]
fn a_self_signed_certificate_is_accepted_where_the_ca_file_has_it() {
    let (valid, over) = (Dates::Now, Dates::Over);
    let own = Authority::of_itself(&["dns.test", "127.0.0.1"], valid);
    let old = Authority::of_itself(&["127.0.0.1"], over);
    let other = Authority::of_itself(&["127.0.0.1"], valid);
    let cases: [(&Identity, &Identity, &str, Option<TlsFault>); 5] = [
        (&own, &own, "", None),
        (&own, &own, "tls_servername dns.test", None),
        (&own, &own, "tls_servername other.test", Some(TlsFault::WrongName)),
        (&old, &old, "", Some(TlsFault::Expired)),
        (&own, &other, "", Some(TlsFault::UnknownIssuer)),
    ];
    for (shown, trusted, options, fault) in cases {
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            let (address, seen) = dot(shown.server_of(version), usize::MAX);
            let options = format!("tls ca.pem\n {options}\n max_fails 0");
            let files = [("ca.pem", &*trusted.certificate)];
            let server = forwarding(&format!("tls://{address}"), &options, &files);
            let asked = query(7, A);
            let answer = ask(server.addresses()[0], &asked);
            let handshakes = one(&server).handshakes;
            match fault {
                None => assert!(is_right(&asked, &answer), "{options}: {handshakes:?}"),
                Some(fault) => {
                    assert_eq!(outcome(&answer).0, SERVFAIL, "{fault:?}");
                    assert!(handshakes.failed[fault as usize] > 0, "{fault:?}: {handshakes:?}");
                    assert!(seen.lock().unwrap().is_empty(), "{fault:?}: it has seen a query");
                }
            }
            server.stop();
        }
    }
}

#[test]
fn handshake_errors_name_hosts_dates_and_alerts() {
    let authority = Authority::new("good");
    let identity = |names: &[&str], dates| authority.issue_for(names, dates);
    let stranger = Authority::new("stranger");
    let right = identity(&["127.0.0.1"], Dates::Now);
    let cases: [(ServerConfig, &str, &[&str]); 7] = [
        (
            identity(&["other.test", "192.0.2.1"], Dates::Now).server(),
            "",
            &[
                "the certificate is valid for other.test, 192.0.2.1, not for 127.0.0.1",
                "tls_servername",
            ],
        ),
        (
            identity(&["127.0.0.1"], Dates::Over).server(),
            "",
            &["the certificate expired at 2021-01-01T00:00:00Z, ", " days ago"],
        ),
        (
            identity(&["127.0.0.1"], Dates::ToCome).server(),
            "",
            &["the certificate is not valid before 2089-01-01T00:00:00Z"],
        ),
        (
            stranger.issue(&["127.0.0.1"]).server(),
            "",
            &["signed by unknown authority 'CN=stranger', which ca.pem does not have", "tls_pin"],
        ),
        (
            Authority::of_itself(&["127.0.0.1"], Dates::Now).server(),
            "",
            &[
                "signed by unknown authority: the certificate is self-signed",
                "CA file of 'tls'",
                "'tls_pin'",
            ],
        ),
        (right.server(), &format!("tls_pin {}", stranger.issue(&["a"]).pin()), &[&right.pin()]),
        (
            authority.strict_server(&right),
            "",
            &["the peer refused the handshake: alert certificate_required (116)", "'tls CERT KEY'"],
        ),
    ];
    for (config, options, expected) in cases {
        let (address, _) = dot(config, usize::MAX);
        let body = format!("forward . tls://{address} {{\n tls ca.pem\n {options}\n }}");
        let text = format!(".:0 {{\n bind 127.0.0.1\n errors\n {body}\n}}\n");
        let files = [("ca.pem", &*authority.pem())];
        let setup = onward::tls::Setup::new(&load(&text, &files), None).unwrap();
        let fault = fail_handshake(setup.client(0).unwrap(), address);
        let said = setup.evidence(address, fault).unwrap();
        for part in expected {
            assert!(said.contains(part), "{fault:?}: {said}");
        }
        assert!(said.starts_with("tls: ") && !said.contains('\n'), "{said}");
    }
}

/// Returns the fault with which a handshake with `address` fails.
fn fail_handshake(client: &onward::tls::Client, address: SocketAddr) -> TlsFault {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(crate::TIMEOUT)).unwrap();
    let mut session = client.session();
    let mut room = [0; 4096];
    loop {
        while session.wants_write() {
            session.write(&mut stream).unwrap();
        }
        match session.receive(&mut stream, &mut room) {
            Ok(Received::Bytes { .. }) => {}
            Ok(Received::End) => panic!("the other end has closed the session"),
            Err(Failure::Tls(fault)) => return fault,
            Err(Failure::Socket(error)) => panic!("{error}"),
        }
    }
}

#[test]
fn a_pin_alone_identifies_an_upstream_and_rejects_other_keys() {
    let stranger = Authority::new("nobody knows");
    let identity = stranger.issue_for(&["some.test"], Dates::Over);
    let (address, _) = dot(identity.server(), usize::MAX);
    let pins = format!("tls_pin {} {}", stranger.issue(&["next.test"]).pin(), identity.pin());
    let server = forwarding(&format!("tls://{address}"), &pins, &[]);
    let asked = query(1, A);
    assert!(is_right(&asked, &ask(server.addresses()[0], &asked)));
    server.stop();

    let pin = format!("tls_pin {}", stranger.issue(&["some.test"]).pin());
    let server = forwarding(&format!("tls://{address}"), &pin, &[]);
    assert_eq!(outcome(&ask(server.addresses()[0], &asked)).0, SERVFAIL);
    assert!(one(&server).handshakes.failed[TlsFault::WrongKey as usize] > 0);
    server.stop();
}

#[test]
fn an_upstream_without_tls_gets_no_plain_text_query() {
    type Speak = fn(TcpStream, &Mutex<Vec<u8>>) -> std::io::Result<()>;
    let speak: [(TlsFault, Speak); 3] = [
        // Plain DNS over TCP: the server waits for a length prefix and a query.
        (TlsFault::Unfinished, |mut stream, raw| {
            let message = read_message(&mut stream)?;
            raw.lock().unwrap().extend(&message);
            stream.write_all(&framed(&[0; 12]))
        }),
        (TlsFault::NotTls, |mut stream, raw| {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")?;
            stream.read_to_end(&mut raw.lock().unwrap()).map(drop)
        }),
        (TlsFault::Unfinished, |_, _| Ok(())),
    ];
    for (fault, serve) in speak {
        let raw = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&raw);
        let (address, _) = upstream(listen(), move |stream| serve(stream, &seen));
        let authority = Authority::new("good");
        let files = [("ca.pem", &*authority.pem())];
        let server = forwarding(&format!("tls://{address}"), "tls ca.pem", &files);
        assert_eq!(outcome(&ask(server.addresses()[0], &query(7, A))).0, SERVFAIL, "{fault:?}");
        let stats = one(&server);
        let failed = stats.handshakes.failed.iter().sum::<u64>();
        assert!(failed > 0 && stats.handshakes.full == 0, "{fault:?}: {stats:?}");
        server.stop();
        let raw = raw.lock().unwrap();
        assert!(!raw.windows(3).any(|bytes| bytes == b"N7\x04"), "{fault:?}: a query in the clear");
    }
}

#[test]
fn an_upstream_silent_in_the_handshake_is_failed_over() {
    let authority = Authority::new("good");
    let (silent, _) = upstream(listen(), |mut stream| {
        let mut hello = [0; 4096];
        while stream.read(&mut hello)? > 0 {}
        Ok(())
    });
    let (address, _) = dot(authority.issue(&["127.0.0.1"]).server(), usize::MAX);
    let server = forwarding(
        &format!("tls://{silent} tls://{address}"),
        "read_timeout 300ms\n tls ca.pem",
        &[("ca.pem", &authority.pem())],
    );
    for number in 0..3 {
        let query = query(number, A);
        assert!(is_right(&query, &ask(server.addresses()[0], &query)), "query {number}");
    }
    assert!(one(&server).timed_out > 0);
    server.stop();
}

#[test]
fn sessions_are_resumed_when_connections_are_dialled_again_and_after_a_reload() {
    let authority = Authority::new("good");
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let identity = authority.issue(&["127.0.0.1"]);
        let mut config = identity.server_of(version);
        config.ticketer = rustls::crypto::ring::Ticketer::new().unwrap();
        let (address, _) = dot(config, 1);
        let files = [("ca.pem", &*authority.pem())];
        let text = |options: &str| {
            format!(
                ".:0 {{\n bind 127.0.0.1\n forward . tls://{address} {{\n tls ca.pem\n \
                 {options}\n }}\n}}\n"
            )
        };
        let mut server = start_with(load(&text(""), &files), 1);
        for number in 0..10 {
            if number == 5 {
                server.reload(load(&text("max_fails 5"), &files)).unwrap();
            }
            let query = query(number, A);
            assert!(is_right(&query, &ask(server.addresses()[0], &query)), "query {number}");
        }
        let stats = one(&server);
        assert_eq!((stats.failed, stats.timed_out), (0, 0), "{version:?}: {stats:?}");
        assert!(stats.handshakes.resumed >= 8, "{version:?}: {stats:?}");
        server.stop();
    }
}

#[test]
fn a_client_certificate_is_sent_to_an_upstream_that_requests_it() {
    let authority = Authority::new("good");
    let own = authority.issue(&["client.test"]);
    let (address, _) = dot(authority.strict_server(&authority.issue(&["127.0.0.1"])), usize::MAX);
    let files =
        [("own.pem", &*own.certificate), ("key.pem", &*own.key), ("ca.pem", &*authority.pem())];
    let server = forwarding(&format!("tls://{address}"), "tls own.pem key.pem ca.pem", &files);
    let asked = query(1, A);
    assert!(is_right(&asked, &ask(server.addresses()[0], &asked)));
    server.stop();
    let server = forwarding(&format!("tls://{address}"), "tls ca.pem", &files);
    assert_eq!(outcome(&ask(server.addresses()[0], &asked)).0, SERVFAIL);
    server.stop();
}

#[test]
fn a_reload_keeps_connections_unless_their_tls_settings_change() {
    let authority = Authority::new("good");
    let (address, _) = dot(authority.issue(&["127.0.0.1", "dns.test"]).server(), usize::MAX);
    let text = |options: &str| {
        format!(
            ".:0 {{\n bind 127.0.0.1\n forward . tls://{address} {{\n tls ca.pem\n {options}\n \
             }}\n}}\n"
        )
    };
    let files = [("ca.pem", &*authority.pem())];
    let mut server = start_with(load(&text(""), &files), 1);
    let mut number = 0;
    let mut ask_one = |server: &Server| {
        number += 1;
        let query = query(number, A);
        assert!(is_right(&query, &ask(server.addresses()[0], &query)), "query {number}");
        sum(&server.stats()).upstreams[0].tcp.opened
    };
    assert_eq!(ask_one(&server), 1);
    server.reload(load(&text("max_fails 5"), &files)).unwrap();
    assert_eq!(ask_one(&server), 1, "nothing about TLS has changed");
    server.reload(load(&text("tls_servername dns.test"), &files)).unwrap();
    // For the counters this is another upstream.
    assert_eq!(ask_one(&server), 1);
    let handshakes = sum(&server.stats()).upstreams[0].handshakes;
    assert_eq!((handshakes.full, handshakes.resumed), (1, 0), "it is verified anew");
    let bad = [("ca.pem", "nothing of use")];
    let refused = server.reload(load(&text("tls_servername other.test"), &bad)).unwrap_err();
    assert!(refused.to_string().contains("ca.pem: no certificate in the file"), "{refused}");
    ask_one(&server);
    assert_eq!(sum(&server.stats()).upstreams[0].handshakes.full, 1, "nothing has changed");
    server.stop();
}

/// A stream that passes `left` bytes of its server and then ends in one of three ways.
struct Cut {
    stream: TcpStream,
    left: usize,
    how: usize,
    sent: Arc<AtomicUsize>,
}

impl Read for Cut {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(room)
    }
}

impl Write for Cut {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = bytes.len().min(self.left);
        self.stream.write_all(&bytes[..count])?;
        self.left -= count;
        self.sent.fetch_add(count, Ordering::SeqCst);
        if self.left > 0 {
            return Ok(count);
        }
        match self.how {
            0 => self.stream.shutdown(Shutdown::Both)?,
            // A reset instead of an orderly close.
            1 => SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?,
            _ => self.stream.write_all(&[0xff; 64])?,
        }
        Err(ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

#[test]
fn an_upstream_that_ends_at_any_byte_leaves_nothing_behind() {
    let authority = Authority::new("good");
    let mut config = authority.issue(&["127.0.0.1"]).server();
    // So that each handshake is as long as the first.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    let config = Arc::new(config);
    let (limit, sent) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(AtomicUsize::new(0)));
    let (cut, count) = (Arc::clone(&limit), Arc::clone(&sent));
    let (address, _) = upstream(listen(), move |stream| {
        let left = cut.load(Ordering::SeqCst);
        let session = ServerConnection::new(Arc::clone(&config)).unwrap();
        let socket = Cut { stream, left, how: left % 3, sent: Arc::clone(&count) };
        let mut stream = StreamOwned::new(session, socket);
        let query = read_message(&mut stream)?;
        stream.write_all(&framed(&answer_to(&query)))?;
        stream.flush()
    });
    let server = forwarding(
        &format!("tls://{address}"),
        "tls ca.pem\n max_fails 0\n max_connect_attempts 1\n read_timeout 1s",
        &[("ca.pem", &authority.pem())],
    );
    let socket = crate::kit::client(server.addresses()[0]);
    let ask_one = |number: u16| {
        let query = query(number, A);
        socket.send(&query).unwrap();
        let reply = crate::kit::receive(&socket);
        assert_eq!(reply[..2], query[..2], "the id");
        is_right(&query, &reply)
    };
    assert!(ask_one(0), "nothing is cut");
    let whole = sent.load(Ordering::SeqCst);
    let mut answered = 0;
    for bytes in 1..whole {
        limit.store(bytes, Ordering::SeqCst);
        answered += usize::from(ask_one(bytes as u16));
    }
    assert!(answered < whole / 2, "{answered} of {whole} were answered");
    limit.store(usize::MAX, Ordering::SeqCst);
    assert!(ask_one(9), "it is as before");
    until("nothing is left behind", || {
        let snapshot = server.snapshots().remove(0);
        (snapshot.outstanding == 0 && snapshot.pools[1].in_use == 0).then_some(())
    });
    let stats = sum(&server.stats());
    assert_eq!((stats.panics, stats.queries), (0, whole as u64 + 1));
    assert_eq!(stats.replied(), stats.queries, "each query has its reply");
    server.stop();
}
