//! Queries of the server itself, over real sockets: `dns64` and the aliases of a `template`.
//!
//! Clients over UDP and TCP wait for two upstream answers in sequence and get one reply each; the
//! metrics count them under the reference's names.

use crate::http::get;
use crate::kit::{A, ask, query_for};
use crate::tcp::ask_over_tcp;
use crate::{responder, start, sum};
use onward::config::Endpoint;
use onward::traffic::answer::{Behaviour, address};
use std::net::IpAddr;

const AAAA: u16 = 28;

/// The name of a query in wire format.
fn name_of(query: &[u8]) -> &[u8] {
    &query[12..query.len() - 11 - 4]
}

/// The response code, the number of answers, and the end of the last record before the OPT.
fn tail<const LEN: usize>(reply: &[u8]) -> (u8, u16, [u8; LEN]) {
    let end = reply.len() - 11;
    let count = u16::from_be_bytes([reply[6], reply[7]]);
    (reply[3] & 15, count, *reply[..end].last_chunk().unwrap())
}

#[test]
fn addresses_are_made_over_udp_and_tcp() {
    let upstream = responder(&[Behaviour::Answer]);
    let to = upstream.addresses()[0];
    let directive = "dns64 2001:db8:64::/96 {\n allow_ipv4\n translate_all\n }";
    let body = format!("{directive}\n prometheus 127.0.0.1:0\n forward . {to}");
    let server = start("127.0.0.1:0", &body, 2);
    for number in 0..100 {
        let query = query_for(number, &format!("n{number}.test"), AAAA);
        let target = server.addresses()[0];
        let reply = match number % 2 {
            0 => ask(target, &query),
            _ => ask_over_tcp(target, &query),
        };
        let Some(IpAddr::V4(ipv4)) = address(name_of(&query), A) else { panic!("an address") };
        let mut made = [0; 16];
        made[..6].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8, 0, 0x64]);
        made[12..].copy_from_slice(&ipv4.octets());
        assert_eq!(tail(&reply), (0, 1, made), "query {number}");
        assert_eq!(reply[..2], query[..2]);
    }
    let total = sum(&server.stats());
    assert_eq!((total.queries, total.replied()), (100, 100));
    assert_eq!((total.parked.queries, total.parked.asked), (100, 100));
    let metrics = server.pages().find(|(_, pages)| pages.contains(&Endpoint::Metrics)).unwrap().0;
    let text = get(metrics, "/metrics").1;
    let label = format!("{{server=\"dns://{}\"}}", server.addresses()[0]);
    for line in [
        format!("coredns_dns64_requests_translated_total{label} 100"),
        "onward_parked_queries_total 100".to_owned(),
        "onward_own_queries_total 100".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
    server.stop();
}

#[test]
fn aliases_are_followed_over_udp_and_tcp() {
    let upstream = responder(&[Behaviour::Answer]);
    let to = upstream.addresses()[0];
    let answer = "answer \"{{ .Name }} 60 IN CNAME target.example.\"";
    let body = format!("template IN A alias.test {{\n {answer}\n }}\n forward . {to}");
    let server = start("127.0.0.1:0", &body, 2);
    let query = query_for(7, "x.alias.test", A);
    let Some(IpAddr::V4(found)) = address(b"\x06target\x07example\x00", A) else {
        panic!("an address")
    };
    let target = server.addresses()[0];
    for reply in [ask(target, &query), ask_over_tcp(target, &query)] {
        assert_eq!(tail(&reply), (0, 2, found.octets()));
    }
    server.stop();
}
