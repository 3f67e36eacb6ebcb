//! DNS over QUIC with a third-party program, and what only the whole process shows.
//!
//! kdig is a client, of Debian's knot-dnsutils with ngtcp2. Skipped, with a message, where it is
//! not installed. The other client is the library's, on a socket.

use super::certs::Authority;
use super::doq::Doq;
use super::dot::{Site, kdig, responder, run};
use super::https::{memory, query};
use super::process::{Stranger, directory};
use crate::installed::is_installed;
use onward::traffic::answer::is_right;
use quinn_proto::ConnectionError;
use std::fs;

/// Maximum memory of an idle client: the state of the transport, its keys, and the session of TLS.
const IDLE_BYTES_MAX: u64 = 40 << 10;

#[test]
fn kdig_asks_over_quic() {
    if !is_installed("kdig") || !run("kdig", &["-h"]).contains("+[no]quic") {
        eprintln!("SKIPPED: kdig does not speak QUIC");
        return;
    }
    let (site, upstream) = (Site::new("kdig_quic"), responder());
    let body = format!("tls cert.pem key.pem\n log\n forward . {}", upstream.addresses()[0]);
    let (mut onward, server) = site.onward("quic://", &body);
    let ca = format!("+tls-ca={}", site.path("ca.pem"));
    for name in ["a.test", "b.test"] {
        let said = kdig(server, &[&ca, "+tls-hostname=dns.test", "+quic", name, "A"]);
        assert!(said.contains("status: NOERROR") && said.contains("(QUICv1)"), "{said}");
        assert!(said.contains("Received 468 B"), "{said}");
        let line = onward.wait_for(name);
        assert!(line.contains(" quic "), "{line}");
    }
}

#[test]
fn after_an_upgrade_clients_are_back_within_a_round_trip() {
    let (directory, upstream) = (directory("doq_upgrade"), responder());
    let authority = Authority::new("onward's tests");
    let identity = authority.issue(&["dns.test"]);
    fs::write(directory.join("cert.pem"), &identity.certificate).unwrap();
    fs::write(directory.join("key.pem"), &identity.key).unwrap();
    let write = |port: u16| {
        let text = format!(
            "quic://.:{port} {{\n bind 127.0.0.1\n root {}\n tls cert.pem key.pem\n forward . {}\n\
             }}\n",
            directory.display(),
            upstream.addresses()[0]
        );
        fs::write(directory.join("Corefile"), text).unwrap();
    };
    write(0);
    let file = directory.join("Corefile").display().to_string();
    let (mut onward, server) = super::process::onward(&["--conf", &file, "--workers", "2"]);
    write(server.port());
    let query = query("a.test");
    let (mut told, mut deaf) =
        (Doq::dial(server, authority.client()), Doq::dial(server, authority.client()));
    for client in [&mut told, &mut deaf] {
        assert!(is_right(&query, &client.ask(&query)));
    }
    onward.signal("USR2");
    let line = onward.wait_for("upgrade complete");
    let number = line.split_whitespace().find_map(|word| word.parse().ok());
    let _next = Stranger::new(number.expect("the process is named"));
    assert_eq!(onward.wait(), Some(0));
    // The old process has said that connections end.
    assert_eq!(told.0.code(), Some(0));
    // To a client that has not heard it, the new process says so with the keys of the old one.
    deaf.0.discard();
    assert_eq!(deaf.try_ask(&query), None);
    assert_eq!(deaf.0.end, Some(ConnectionError::Reset));
    let mut again = Doq::dial(server, authority.client());
    assert!(is_right(&query, &again.ask(&query)));
}

#[test]
fn idle_clients_cost_little_memory() {
    let (site, upstream) = (Site::new("doq_idle"), responder());
    let body = format!(
        "tls cert.pem key.pem\n timeouts {{\n idle 1h\n }}\n forward . {}",
        upstream.addresses()[0]
    );
    let (onward, server) = site.onward("quic://", &body);
    let config = Authority::trusting(&fs::read_to_string(site.path("ca.pem")).unwrap());
    let message = query("a.test");
    let connect = || {
        let mut client = Doq::dial(server, config.clone());
        assert!(is_right(&message, &client.ask(&message)));
        client
    };
    let mut clients: Vec<_> = (0..50).map(|_| connect()).collect();
    let before = memory(&onward);
    let count = 300;
    clients.extend((0..count).map(|_| connect()));
    let each = memory(&onward).saturating_sub(before) / count;
    println!("{each} bytes for an idle client");
    assert!(each <= IDLE_BYTES_MAX, "{each} bytes each");
}
