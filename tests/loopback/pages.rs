//! HTTP endpoints, with real clients on real sockets.
//!
//! Covers contents, addresses that survive successful and failed reloads, and slow or silent
//! clients that must not delay others.

use crate::http::{connect, get, is_healthy_on, try_get};
use crate::kit::{A, ask, outcome, query};
use crate::until::until;
use crate::{config, start};
use onward::clock::Clock;
use onward::config::Endpoint;
use onward::moment::Moment;
use onward::server::{Server, StartError};
use onward::status::Status;
use onward::traffic::answer::Behaviour;
use onward::traffic::upstream::{Service, Upstream};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// Maximum number of open connections.
const CONNECTIONS_MAX: usize = onward::config::HTTP_CONNECTIONS_MAX;

/// Returns the address of `page` at `server`.
fn address_of(server: &Server, page: Endpoint) -> Option<SocketAddr> {
    server.pages().find(|(_, pages)| pages.contains(&page)).map(|(address, _)| address)
}

/// Returns the response to `request`, read until the connection closes.
fn answer_to(address: SocketAddr, request: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn each_endpoint_is_at_its_configured_address() {
    let all = "127.0.0.1:0";
    let body = format!("health {all}\n ready {all}\n prometheus {all}\n status [::1]:0");
    let server = start("127.0.0.1:0", &body, 2);
    let address = address_of(&server, Endpoint::Health).unwrap();
    assert_eq!(server.pages().count(), 2);
    assert_eq!(get(address, "/health"), (200, "OK".into()));
    assert_eq!(get(address, "/ready?verbose"), (200, "OK".into()));
    let (code, metrics) = get(address, "/metrics");
    assert!(code == 200 && metrics.contains("\nprocess_start_time_seconds "), "{metrics}");
    for nowhere in ["/", "/status.json", "/health/", "/metricsx"] {
        assert_eq!(get(address, nowhere).0, 404, "{nowhere}");
    }
    let query = query(1, A);
    ask(server.addresses()[0], &query);
    let status = address_of(&server, Endpoint::Status).unwrap();
    assert!(get(status, "/").1.contains("<html"));
    let shown: Status = serde_json::from_str(&get(status, "/status.json").1).unwrap();
    assert_eq!((shown.traffic.queries, shown.workers.len()), (1, 2));
    server.stop();
    assert_eq!(try_get(address, "/health"), None);
}

#[test]
fn a_malformed_request_gets_an_error_and_the_next_is_served() {
    let server = start("127.0.0.1:0", "health 127.0.0.1:0\n status 127.0.0.1:0", 1);
    let address = address_of(&server, Endpoint::Health).unwrap();
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    for (request, code) in [
        ("POST /health HTTP/1.1\r\nHost: m\r\nContent-Length: 3\r\n\r\nabc", "405"),
        ("GET /health HTTP/1.1\r\n\r\n", "400"),
        ("\x16\x03\x01\r\n\r\n", "400"),
        (&long, "431"),
        ("GET / HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n", "421"),
        ("GET /health HTTP/1.0\r\n\r\n", "200"),
    ] {
        let answer = answer_to(address, request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{answer}");
        assert_eq!(get(address, "/health").0, 200);
    }
    let answer = answer_to(address, "HEAD /health HTTP/1.0\r\n\r\n");
    assert!(answer.contains("Content-Length: 2\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    server.stop();
}

#[test]
fn a_port_alone_is_on_both_families() {
    let server = start("127.0.0.1:0", "health :0", 1);
    let address = address_of(&server, Endpoint::Health).unwrap();
    let families: &[&str] = if address.is_ipv6() { &["127.0.0.1", "::1"] } else { &["127.0.0.1"] };
    for ip in families {
        let address = SocketAddr::new(ip.parse().unwrap(), address.port());
        assert_eq!(get(address, "/health").0, 200, "{address}");
    }
    server.stop();
}

#[test]
fn ready_follows_the_upstream() {
    // A separate address, so that no other program takes its port while it is closed.
    let socket = UdpSocket::bind("127.0.9.1:0").unwrap();
    let upstream = socket.local_addr().unwrap();
    socket.connect(upstream).unwrap();
    let body = format!(
        "ready 127.0.0.1:0 {{\n monitor continuously\n}}\n \
         forward . {upstream} {{\n max_fails 1\n health_check 20ms\n}}"
    );
    let server = start("127.0.0.1:0", &body, 2);
    let address = address_of(&server, Endpoint::Ready).unwrap();
    assert_eq!(get(address, "/ready"), (200, "OK".into()), "nobody has failed yet");
    assert_eq!(outcome(&ask(server.addresses()[0], &query(1, A))).0, 2);
    until("not ready", || (get(address, "/ready") == (503, "forward .".into())).then_some(()));
    drop(socket);
    let service = Service::new(upstream, Behaviour::Answer);
    let upstream = Upstream::of(vec![service]).unwrap();
    until("ready again", || (get(address, "/ready") == (200, "OK".into())).then_some(()));
    server.announce_stop();
    until("stopping", || (get(address, "/ready") == (503, "stopping".into())).then_some(()));
    server.stop();
    upstream.stop().unwrap();
}

#[test]
fn successful_and_failed_reloads_keep_an_address_and_its_connections() {
    let health = "health 127.0.0.1:0";
    let mut server = start("127.0.0.1:0", health, 1);
    let address = address_of(&server, Endpoint::Health).unwrap();
    let mut stream = connect(address);
    assert!(is_healthy_on(&mut stream));

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_at = taken.local_addr().unwrap();
    let refused = server.reload(config("127.0.0.1:0", &format!("health {taken_at}")));
    assert!(matches!(refused, Err(StartError::Bind(at, _)) if at == taken_at), "{refused:?}");
    let refused = server.reload(config("203.0.113.77:0", "status 127.0.0.1:0"));
    assert!(matches!(refused, Err(StartError::Bind(..))), "{refused:?}");
    assert!(is_healthy_on(&mut stream));
    assert_eq!(server.pages().collect::<Vec<_>>(), [(address, &[Endpoint::Health][..])]);

    // For other endpoints than health an address in use does not fail the reload.
    let both = format!("{health}\n ready 127.0.0.1:0\n prometheus {taken_at}");
    server.reload(config("127.0.0.1:0", &both)).unwrap();
    assert!(is_healthy_on(&mut stream));
    assert_eq!(get(address, "/ready").0, 200);
    assert_eq!(address_of(&server, Endpoint::Metrics), None);
    drop(taken);
    server.reload(config("127.0.0.1:0", &both)).unwrap();
    assert_eq!(get(taken_at, "/metrics").0, 200);
    assert!(is_healthy_on(&mut stream));

    server.reload(config("127.0.0.1:0", &format!("prometheus {taken_at}"))).unwrap();
    until("closed", || TcpStream::connect(address).is_err().then_some(()));
    assert_eq!(get(taken_at, "/metrics").0, 200);
    server.stop();
}

#[test]
fn an_address_may_become_part_of_another_and_back() {
    let mut server = start("127.0.0.1:0", "health 127.0.0.1:0", 1);
    let address = address_of(&server, Endpoint::Health).unwrap();
    for asked in [format!(":{}", address.port()), address.to_string()] {
        server.reload(config("127.0.0.1:0", &format!("health {asked}"))).unwrap();
        assert_eq!(server.pages().count(), 1);
        // A connection accepted by the old listener at the last moment may be dropped.
        until("served", || try_get(address, "/health").filter(|answer| answer.0 == 200));
    }
    server.stop();
}

#[test]
fn a_reload_may_ask_for_pages_where_there_were_none() {
    let mut server = start("127.0.0.1:0", "", 2);
    assert_eq!(server.pages().count(), 0);
    server.reload(config("127.0.0.1:0", "health 127.0.0.1:0")).unwrap();
    let address = address_of(&server, Endpoint::Health).unwrap();
    assert_eq!(get(address, "/health").0, 200);
    server.stop();
}

#[test]
fn slow_clients_do_not_delay_others() {
    let server = start("127.0.0.1:0", "health 127.0.0.1:0", 1);
    let address = address_of(&server, Endpoint::Health).unwrap();
    let mut slow = Vec::new();
    for _ in 0..3 * CONNECTIONS_MAX {
        let mut stream = connect(address);
        stream.write_all(b"GET /health HTTP/1.1\r\nHo").unwrap();
        slow.push(stream);
        assert_eq!(get(address, "/health").0, 200);
    }
    // The first connection was closed to make room.
    assert!(matches!(slow[0].read(&mut [0]), Ok(0) | Err(_)));
    // The stop does not wait for the connections' timeouts either.
    let clock = Clock::start();
    server.stop();
    assert!(clock.now() < Moment::ZERO.plus(Duration::from_secs(4)));
}

#[test]
fn a_new_connection_replaces_the_longest_idle_one() {
    let server = start("127.0.0.1:0", "health 127.0.0.1:0", 1);
    let address = address_of(&server, Endpoint::Health).unwrap();
    let mut idle: Vec<_> = (0..CONNECTIONS_MAX).map(|_| connect(address)).collect();
    assert!(idle.iter_mut().all(is_healthy_on));
    assert_eq!(get(address, "/health").0, 200);
    assert!(!is_healthy_on(&mut idle[0]));
    server.stop();
}
