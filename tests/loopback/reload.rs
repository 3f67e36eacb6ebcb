//! Reloads under load.
//!
//! No query is lost, and a configuration that cannot take effect changes nothing.

use crate::load;
use crate::tcp::{answer_to, framed, query, read_message};
use crate::{
    SEED, TIMEOUT, any_port, assert_all_answered, config, drive, responder, stanza, start, sum,
};
use onward::clock::Clock;
use onward::config::{Config, Host};
use onward::engine::stats::DropReason;
use onward::moment::Moment;
use onward::server::{Server, StartError};
use onward::traffic::answer::Behaviour;
use onward::traffic::client::Options;
use onward::traffic::tally::Tally;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};

const RELOADS: u64 = 50;
/// Queries between two reloads, on any machine: those of one second at 20,000 a second with
/// [`RELOADS`] reloads.
const QUERIES_EACH: u64 = 20_000 / RELOADS;

/// Keeps a hundred queries to `targets` outstanding while `during` runs.
#[track_caller]
fn ask_during(targets: Vec<SocketAddr>, during: impl FnOnce()) -> Tally {
    load::ask_during(Options::closed(targets, 100, TIMEOUT, SEED), during)
}

/// Waits until `server` has received this number of queries.
#[track_caller]
fn wait_until_asked(server: &Server, queries: u64) {
    let clock = Clock::start();
    while sum(&server.stats()).queries < queries {
        assert!(clock.now().since(Moment::ZERO) < TIMEOUT, "{queries} queries never came");
    }
}

fn load(text: &str) -> Config {
    Config::load(text.as_bytes(), "Corefile", &Host::plain()).unwrap().0
}

fn assert_nothing_lost(summary: &Tally) {
    let counts = summary.counts;
    let lost = (counts.failed(), counts.mismatched, counts.refused, counts.unsent);
    assert_eq!(lost, (0, 0, 0, 0), "{counts:?}");
    assert_eq!(counts.answered, counts.sent, "{counts:?}");
}

#[test]
fn fifty_reloads_in_a_row_under_load_lose_nothing() {
    let upstreams = responder(&[Behaviour::Answer; 4]);
    let addresses = upstreams.addresses();
    let mut server = start("127.0.0.1:0", &stanza(&addresses[..2]), 2);
    let address = server.addresses()[0];
    let text = address.to_string();
    let summary = ask_during(vec![address], || {
        for number in 0..RELOADS as usize {
            // Two of four upstreams, another two each time; limits change, and a zone is added.
            let two = [addresses[number % 4], addresses[(number + 1) % 4]];
            let zone = if number % 2 == 0 { "" } else { "forward other.test 127.0.0.1:9\n" };
            let limits = if number % 3 == 0 { "max_age 20s\n" } else { "expire 5s\n" };
            let body = stanza(&two).replace("spread 16", &format!("spread 16\n{limits}"));
            server.reload(config(&text, &format!("{zone}{body}"))).unwrap();
            wait_until_asked(&server, (number as u64 + 1) * QUERIES_EACH);
        }
    });
    println!("{:.0} queries/s", summary.rate_answered());
    assert_nothing_lost(&summary);
    assert!(summary.counts.sent >= RELOADS * QUERIES_EACH);
    let total = sum(&server.stats());
    assert_eq!(total.queries, summary.counts.sent, "no query was taken twice");
    assert_eq!((total.replied(), total.panics), (summary.counts.sent, 0));
    server.stop();
}

#[test]
fn connections_to_upstreams_that_stay_survive() {
    let upstreams = responder(&[Behaviour::Answer; 2]);
    let body = |upstream: usize| {
        format!(
            "forward . {} {{\n spread 1\n}}\nforward other.test {}\n",
            upstreams.addresses()[0],
            upstreams.addresses()[upstream]
        )
    };
    let mut server = start("127.0.0.1:0", &body(0), 1);
    let address = server.addresses()[0];
    for round in 0..10 {
        assert_all_answered(&drive(address, 1, 20), 20);
        server.reload(config(&address.to_string(), &body(round % 2))).unwrap();
    }
    let pool = sum(&server.stats()).upstreams[0].pool;
    assert_eq!((pool.opened, pool.reused), (1, 199));
    server.stop();
}

#[test]
fn addresses_come_and_go_and_come_back() {
    let upstreams = responder(&[Behaviour::Answer]);
    let body = stanza(upstreams.addresses());
    let mut server = start("127.0.0.1:0", &body, 2);
    let first = server.addresses()[0];
    let second = SocketAddr::new([127, 0, 0, 2].into(), first.port());
    let block = |address: SocketAddr| {
        format!(".:{} {{\n bind {}\n {body}\n}}\n", address.port(), address.ip())
    };
    let both = format!(".:{} {{\n bind 127.0.0.1 127.0.0.2\n {body}\n}}\n", first.port());
    let summary = ask_during(vec![first], || {
        for _ in 0..5 {
            server.reload(load(&both)).unwrap();
            assert_eq!(server.addresses(), [first, second]);
            assert_all_answered(&drive(second, 8, 100), 100);
            server.reload(load(&block(first))).unwrap();
            assert_eq!(server.addresses(), [first]);
        }
    });
    assert_nothing_lost(&summary);
    // The first listener is replaced by another: its outstanding queries are still answered.
    server.reload(load(&block(second))).unwrap();
    assert_all_answered(&drive(second, 8, 100), 100);
    assert_eq!(sum(&server.stats()).dropped(DropReason::ReplyNotSent), 0);
    server.stop();
}

#[test]
fn an_address_in_use_changes_nothing() {
    let upstreams = responder(&[Behaviour::Answer]);
    let taken = UdpSocket::bind(any_port()).unwrap();
    let mut server = start("127.0.0.1:0", &stanza(upstreams.addresses()), 1);
    let address = server.addresses()[0];
    let port = taken.local_addr().unwrap().port();
    let text = format!(".:{port} {{\n bind 127.0.0.1\n}}\n");
    let refused = server.reload(load(&text)).unwrap_err();
    assert!(matches!(refused, StartError::Bind(..)), "{refused}");
    assert_eq!(server.addresses(), [address]);
    assert_all_answered(&drive(address, 8, 100), 100);
    server.stop();
}

/// A configuration for an address other than that of `server`.
fn elsewhere(server: &Server, body: &str) -> Config {
    config(&format!("127.0.0.2:{}", server.addresses()[0].port()), body)
}

#[test]
fn a_query_outlives_its_listener() {
    let upstream = UdpSocket::bind(any_port()).unwrap();
    upstream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let body = stanza(&[upstream.local_addr().unwrap()]);
    let mut server = start("127.0.0.1:0", &body, 1);
    let client = UdpSocket::bind(any_port()).unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    client.connect(server.addresses()[0]).unwrap();
    client.send(&query(7, &[])).unwrap();
    let mut packet = [0; 512];
    let (len, from) = upstream.recv_from(&mut packet).unwrap();
    server.reload(elsewhere(&server, &body)).unwrap();
    upstream.send_to(&answer_to(&packet[..len]), from).unwrap();
    let len = client.recv(&mut packet).unwrap();
    assert_eq!((packet[..2].to_vec(), packet[3] & 15), (vec![0, 7], 0), "{:?}", &packet[..len]);
    server.stop();
}

#[test]
fn a_connection_outlives_its_listener_until_its_last_answer() {
    let upstream = UdpSocket::bind(any_port()).unwrap();
    upstream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let body = format!("forward . {} {{\n prefer_udp\n}}", upstream.local_addr().unwrap());
    let mut server = start("127.0.0.1:0", &body, 1);
    let client = || {
        let stream = TcpStream::connect(server.addresses()[0]).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream
    };
    let (mut client, mut quiet) = (client(), client());
    client.write_all(&framed(&query(7, &[]))).unwrap();
    let mut packet = [0; 512];
    let (len, from) = upstream.recv_from(&mut packet).unwrap();
    server.reload(elsewhere(&server, &body)).unwrap();
    // Later queries would reach a listener that the client did not choose.
    assert_eq!(quiet.read(&mut [0]).unwrap(), 0);
    upstream.send_to(&answer_to(&packet[..len]), from).unwrap();
    let answer = read_message(&mut client).unwrap();
    assert_eq!((&answer[..2], answer[3] & 15), (&[0, 7][..], 0), "{answer:?}");
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    server.stop();
}

#[test]
fn an_address_gives_way_to_its_wildcard_and_comes_back() {
    let upstreams = responder(&[Behaviour::Answer]);
    let body = stanza(upstreams.addresses());
    let mut server = start("127.0.0.1:0", &body, 2);
    let address = server.addresses()[0];
    let summary = ask_during(vec![address], || {
        for ip in ["0.0.0.0", "127.0.0.1", "0.0.0.0"] {
            let on = format!("{ip}:{}", address.port());
            server.reload(config(&on, &body)).unwrap();
            assert_all_answered(&drive(address, 8, 100), 100);
        }
        let other = SocketAddr::new([127, 0, 0, 2].into(), address.port());
        assert_all_answered(&drive(other, 8, 100), 100);
    });
    assert_nothing_lost(&summary);
    server.stop();
}
