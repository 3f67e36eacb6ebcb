//! Options of `forward` as clients see them: response code and extended error.
//!
//! Extended error 22 (no reachable authority): upstreams did not respond or are down; 23 (network
//! error): they could not be reached. Responses of an upstream carry none of ours. Edge cases of
//! the options are tested in virtual time.

use crate::kit::{A, TXT, ask, client, outcome, query, receive, refusing};
use crate::until::until;
use crate::{any_port, responder, start, sum};
use onward::engine::stats::Stats;
use onward::server::Server;
use onward::traffic::answer::{Behaviour, is_right};
use onward::traffic::upstream::{Seen, Upstream};
use std::net::{SocketAddr, UdpSocket};

const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
const REFUSED: u8 = 5;

/// Starts one worker with these upstreams in order and `options`.
fn start_with(upstreams: &[SocketAddr], options: &str) -> Server {
    start("127.0.0.1:0", &stanza_with(upstreams, options), 1)
}

fn stanza_with(upstreams: &[SocketAddr], options: &str) -> String {
    let upstreams: Vec<_> = upstreams.iter().map(SocketAddr::to_string).collect();
    format!("forward . {} {{\n policy sequential\n {options}\n}}\n", upstreams.join(" "))
}

fn asked(upstreams: Upstream) -> Vec<u64> {
    let counts: Vec<Seen> = upstreams.stop().unwrap();
    counts.iter().map(|seen| seen.counts.queries).collect()
}

fn totals(server: &Server) -> Stats {
    sum(&server.stats())
}

#[test]
fn failover_asks_the_next_upstream_and_delivers_the_last_code_when_all_fail() {
    let refuse = Behaviour::Refuse;
    for (third, expected) in [(Behaviour::Answer, 0), (refuse(SERVFAIL), SERVFAIL)] {
        let upstreams = responder(&[refuse(SERVFAIL), refuse(REFUSED), third]);
        let server = start_with(upstreams.addresses(), "failover SERVFAIL REFUSED");
        let reply = ask(server.addresses()[0], &query(1, A));
        assert_eq!(outcome(&reply), (expected, None), "the upstream's own, so no word of ours");
        assert_eq!(is_right(&query(1, A), &reply), expected == 0);
        server.stop();
        assert_eq!(asked(upstreams), [1, 1, 1]);
    }
}

#[test]
fn without_failover_the_first_code_is_delivered() {
    let upstreams = responder(&[Behaviour::Refuse(SERVFAIL), Behaviour::Answer]);
    let server = start_with(upstreams.addresses(), "");
    assert_eq!(outcome(&ask(server.addresses()[0], &query(1, A))), (SERVFAIL, None));
    server.stop();
    assert_eq!(asked(upstreams), [1, 0]);
}

#[test]
fn next_hands_a_listed_code_to_the_next_stanza_and_no_other() {
    for (code, expected) in [(NXDOMAIN, 0), (REFUSED, REFUSED)] {
        let upstreams = responder(&[Behaviour::Refuse(code), Behaviour::Answer]);
        let [first, second] = upstreams.addresses()[..] else { panic!("two") };
        let body = [stanza_with(&[first], "next NXDOMAIN"), stanza_with(&[second], "")].concat();
        let server = start("127.0.0.1:0", &body, 1);
        let reply = ask(server.addresses()[0], &query(1, A));
        assert_eq!(outcome(&reply), (expected, None));
        server.stop();
        assert_eq!(asked(upstreams), [1, u64::from(expected == 0)]);
    }
}

#[test]
fn next_on_nodata_hands_an_empty_answer_to_the_next_stanza_and_no_other() {
    for (rtype, expected) in [(TXT, REFUSED), (A, 0)] {
        let upstreams = responder(&[Behaviour::Answer, Behaviour::Refuse(REFUSED)]);
        let [first, second] = upstreams.addresses()[..] else { panic!("two") };
        let body = [stanza_with(&[first], "next_on_nodata"), stanza_with(&[second], "")].concat();
        let server = start("127.0.0.1:0", &body, 1);
        assert_eq!(outcome(&ask(server.addresses()[0], &query(1, rtype))), (expected, None));
        server.stop();
        assert_eq!(asked(upstreams), [1, u64::from(expected == REFUSED)]);
    }
}

#[test]
fn max_concurrent_refuses_excess_queries_at_once_and_answers_the_rest() {
    let upstream = UdpSocket::bind(any_port()).unwrap();
    let server = start_with(&[upstream.local_addr().unwrap()], "max_concurrent 4");
    let client = client(server.addresses()[0]);
    (0..6).for_each(|number| _ = client.send(&query(number, A)).unwrap());
    for _ in 0..2 {
        let reply = receive(&client);
        assert_eq!(outcome(&reply), (REFUSED, None));
        let asked = query(u16::from(reply[1]), A);
        assert_eq!(reply[12..], [&asked[12..]].concat(), "its question and an OPT");
    }
    assert_eq!(totals(&server).concurrent_rejects, 2);
    let mut packet = [0; 512];
    for _ in 0..4 {
        let (len, from) = upstream.recv_from(&mut packet).unwrap();
        upstream.send_to(&crate::kit::answer_to(&packet[..len]), from).unwrap();
    }
    for _ in 0..4 {
        let reply = receive(&client);
        assert!(is_right(&query(u16::from(reply[1]), A), &reply), "{reply:x?}");
    }
    assert_eq!(totals(&server).replies[usize::from(REFUSED)], 2);
    server.stop();
}

/// Waits until the upstreams are found down.
fn bring_down(server: &Server) {
    let mut number = 1_000;
    until("the upstreams are known to be down", || {
        number += 1;
        assert_eq!(outcome(&ask(server.addresses()[0], &query(number, A))).0, SERVFAIL);
        (totals(server).all_down > 0).then_some(())
    });
}

#[test]
fn failfast_all_unhealthy_upstreams_sends_no_query_and_reports_22() {
    for (options, asked, error) in [
        ("health_check 20ms\n failfast_all_unhealthy_upstreams", 0, 22),
        ("health_check 20ms", 2, 23),
    ] {
        let (address, _held) = refusing();
        let server = start_with(&[address], options);
        bring_down(&server);
        let before = totals(&server).upstreams[0].sent;
        let reply = ask(server.addresses()[0], &query(1, A));
        assert_eq!(outcome(&reply), (SERVFAIL, Some(error)), "{options}");
        assert_eq!(totals(&server).upstreams[0].sent - before, asked, "{options}");
        server.stop();
    }
}

#[test]
fn force_tcp_never_asks_in_a_datagram() {
    // The upstream answers datagrams, but its TCP port has no listener.
    let upstream = UdpSocket::bind(any_port()).unwrap();
    let server = start_with(&[upstream.local_addr().unwrap()], "force_tcp");
    let reply = ask(server.addresses()[0], &query(1, A));
    assert_eq!(outcome(&reply), (SERVFAIL, Some(23)));
    let total = totals(&server).upstreams[0];
    assert_eq!((total.pool.opened, total.tcp.opened), (0, 2));
    server.stop();
}

#[test]
fn prefer_udp_asks_in_a_datagram_even_for_a_client_over_tcp() {
    // The upstream answers datagrams, and its TCP port has no listener.
    let upstream = UdpSocket::bind(any_port()).unwrap();
    let address = upstream.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((len, from)) = upstream.recv_from(&mut packet) {
            let _ = upstream.send_to(&crate::kit::answer_to(&packet[..len]), from);
        }
    });
    for (options, expected) in [("prefer_udp", (0, None)), ("", (SERVFAIL, Some(23)))] {
        let server = start_with(&[address], options);
        let reply = crate::tcp::ask_over_tcp(server.addresses()[0], &query(1, A));
        assert_eq!(outcome(&reply), expected, "{options:?}");
        server.stop();
    }
}

#[test]
fn max_connect_attempts_counts_errors_over_all_upstreams_of_a_query() {
    let (first, _held) = refusing();
    let (second, _held) = refusing();
    for (attempts, expected) in
        [(1, (SERVFAIL, Some(23))), (2, (SERVFAIL, Some(23))), (3, (0, None))]
    {
        let upstreams = responder(&[Behaviour::Answer]);
        let all = [first, second, upstreams.addresses()[0]];
        let server = start_with(&all, &format!("max_connect_attempts {attempts}"));
        let reply = ask(server.addresses()[0], &query(1, A));
        assert_eq!(outcome(&reply), expected, "{attempts}");
        let failed: u64 = totals(&server).upstreams.iter().map(|upstream| upstream.failed).sum();
        assert_eq!(failed, attempts.min(2));
        server.stop();
        assert_eq!(asked(upstreams), [u64::from(expected.0 == 0)]);
    }
}
