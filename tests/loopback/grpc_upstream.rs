//! Upstreams over gRPC: servers of our own, with and without TLS.
//!
//! The tests of the whole program have a third-party gRPC library as the server.

use crate::certs::{Authority, load};
use crate::doh_server::doh;
use crate::http::get;
use crate::kit::{A, ask, outcome, query, query_for};
use crate::until::until;
use crate::{responder, start_text, start_with, sum};
use onward::config::Endpoint;
use onward::server::Server;
use onward::traffic::answer::{Behaviour, is_right};
use std::net::SocketAddr;

const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;

/// A server of gRPC without TLS, with this body.
fn far(body: &str) -> Server {
    start_text(&format!("grpc://.:0 {{\n bind 127.0.0.1\n {body}\n}}\n"), 1)
}

fn near(upstreams: &[SocketAddr], options: &str) -> Server {
    let upstreams: String = upstreams.iter().map(|address| format!(" {address}")).collect();
    start_text(
        &format!(
            ".:0 {{\n bind 127.0.0.1\n errors\n prometheus 127.0.0.1:0\n grpc .{upstreams} {{\n \
             policy sequential\n {options}\n }}\n}}\n"
        ),
        1,
    )
}

fn ask_right(server: &Server, number: u16) {
    let query = query(number, A);
    let reply = ask(server.addresses()[0], &query);
    assert!(is_right(&query, &reply), "{number}: {reply:x?}");
}

#[test]
fn queries_share_a_connection_without_tls_and_have_the_metrics_of_the_reference() {
    let backend = responder(&[Behaviour::Answer]);
    let far = far(&format!("forward . {}", backend.addresses()[0]));
    let address = far.addresses()[0];
    let server = near(&[address], "");
    (0..20).for_each(|number| ask_right(&server, number));
    let stats = sum(&server.stats()).upstreams[0];
    assert_eq!((stats.answered, stats.failed, stats.tcp.opened), (20, 0, 1), "{stats:?}");
    let mut pages = server.pages();
    let page = pages.find(|(_, pages)| pages.contains(&Endpoint::Metrics)).unwrap().0;
    let (_, text) = get(page, "/metrics");
    for line in [
        format!("coredns_grpc_requests_total{{to=\"{address}\"}} 20"),
        format!("coredns_grpc_responses_total{{to=\"{address}\",rcode=\"NOERROR\"}} 20"),
        format!("coredns_grpc_request_duration_seconds_count{{to=\"{address}\"}} 20"),
        format!("onward_connections_opened_total{{to=\"{address}\",transport=\"grpc\"}} 1"),
    ] {
        assert!(text.lines().any(|known| known == line), "{line}: {text}");
    }
    assert!(!text.contains("coredns_proxy_"), "{text}");
    drop(pages);
    server.stop();
    far.stop();
}

#[test]
fn queries_go_over_tls_if_an_option_says_so() {
    let authority = Authority::new("good");
    let identity = authority.issue(&["dns.test"]);
    let backend = responder(&[Behaviour::Answer]);
    let text = format!(
        "grpc://.:0 {{\n bind 127.0.0.1\n tls cert.pem key.pem\n forward . {}\n}}\n",
        backend.addresses()[0]
    );
    let files = [("cert.pem", &*identity.certificate), ("key.pem", &*identity.key)];
    let far = start_with(load(&text, &files), 1);
    for (name, is_known) in [("dns.test", true), ("other.test", false)] {
        let text = format!(
            ".:0 {{\n bind 127.0.0.1\n grpc . {} {{\n tls ca.pem\n tls_servername {name}\n \
             }}\n}}\n",
            far.addresses()[0]
        );
        let server = start_with(load(&text, &[("ca.pem", &authority.pem())]), 1);
        if is_known {
            (0..5).for_each(|number| ask_right(&server, number));
            assert_eq!(sum(&server.stats()).upstreams[0].handshakes.full, 1);
        } else {
            assert_eq!(outcome(&ask(server.addresses()[0], &query(1, A))).0, SERVFAIL);
        }
        server.stop();
    }
    far.stop();
}

#[test]
fn a_status_of_grpc_is_a_failed_attempt_and_fails_probes() {
    let backend = responder(&[Behaviour::Answer]);
    let refusing = far("acl {\n drop\n }");
    let good = far(&format!("forward . {}", backend.addresses()[0]));
    let server = near(&[refusing.addresses()[0], good.addresses()[0]], "");
    ask_right(&server, 1);
    let stats = sum(&server.stats()).upstreams[0];
    assert_eq!((stats.answered, stats.failed), (0, 1), "{stats:?}");
    let is_down = |number| server.snapshots().remove(0).health_states.is_down(number);
    until("the upstream is down", || is_down(0).then_some(()));
    ask_right(&server, 2);
    assert!(!is_down(1));
    assert_eq!(sum(&server.stats()).upstreams[0].sent, 1, "none while it is down");
    for server in [server, refusing, good] {
        server.stop();
    }
}

#[test]
fn the_status_of_a_name_that_does_not_exist_is_nxdomain() {
    let authority = Authority::new("good");
    let upstream = doh(&authority, |_, connection| {
        loop {
            let (stream, _) = connection.request()?;
            let fields = [("content-type", "application/grpc"), ("grpc-status", "5")];
            connection.respond(stream, 200, &fields, b"")?;
        }
    });
    let text = format!(
        ".:0 {{\n bind 127.0.0.1\n grpc . {upstream} {{\n tls ca.pem\n tls_servername dns.test\n \
         }}\n}}\n"
    );
    let server = start_with(load(&text, &[("ca.pem", &authority.pem())]), 1);
    for number in 0..3 {
        let asked = query_for(number, "gone.test", A);
        let reply = ask(server.addresses()[0], &asked);
        assert_eq!(outcome(&reply), (NXDOMAIN, None), "{reply:x?}");
        assert_eq!((&reply[..2], &reply[12..27]), (&asked[..2], &asked[12..27]));
    }
    let stats = sum(&server.stats()).upstreams[0];
    assert_eq!((stats.answered, stats.failed, stats.tcp.opened), (3, 0, 1), "{stats:?}");
    server.stop();
}

#[test]
fn each_upstream_is_tried_once() {
    let refusing = far("acl {\n drop\n }");
    let server = near(&[refusing.addresses()[0]], "");
    assert_eq!(outcome(&ask(server.addresses()[0], &query(1, A))).0, SERVFAIL);
    assert_eq!(sum(&server.stats()).upstreams[0].sent, 1);
    server.stop();
    refusing.stop();
}

#[test]
fn only_nxdomain_falls_through_and_only_where_the_zones_say() {
    let far = far(
        "template IN A {\n match gone\n rcode NXDOMAIN\n fallthrough\n }\n template IN A {\n rcode \
                   REFUSED\n }",
    );
    let server = near(&[far.addresses()[0]], "fallthrough a.test");
    let code = |name: &str| outcome(&ask(server.addresses()[0], &query_for(7, name, A))).0;
    assert_eq!(code("gone.b.test"), NXDOMAIN);
    assert_eq!(code("gone.a.test"), SERVFAIL, "no plugin follows");
    assert_eq!(code("x.a.test"), 5);
    server.stop();
    far.stop();
}

#[test]
fn forward_comes_first_and_next_does_not_lead_to_grpc() {
    let backend = responder(&[Behaviour::Answer]);
    let refusing = responder(&[Behaviour::Refuse(5)]);
    let far = far(&format!("forward . {}", backend.addresses()[0]));
    let text = format!(
        ".:0 {{\n bind 127.0.0.1\n grpc . {}\n forward m {} {{\n next REFUSED\n }}\n}}\n",
        far.addresses()[0],
        refusing.addresses()[0]
    );
    let server = start_text(&text, 1);
    ask_right(&server, 1);
    assert_eq!(outcome(&ask(server.addresses()[0], &query_for(7, "a.m", A))).0, 5);
    let upstreams = sum(&server.stats()).upstreams;
    assert_eq!((upstreams[0].answered, upstreams[1].answered), (1, 1));
    server.stop();
    far.stop();
}
