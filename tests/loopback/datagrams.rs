//! UDP clients and upstreams: rotation of pools, refused upstreams, start and stop.
//!
//! The counters are compared with those of the clients and upstreams.

use crate::tcp::{answer_to, query};
use crate::{TIMEOUT, any_port, assert_all_answered, config, drive, responder, stanza, start, sum};
use onward::clock::Clock;
use onward::log::Log;
use onward::server::{Server, StartError};
use onward::traffic::answer::Behaviour;
use std::net::{SocketAddr, UdpSocket};

#[test]
fn every_query_is_answered_and_the_books_balance() {
    let upstreams = responder(&[Behaviour::Answer; 3]);
    let server = start("127.0.0.1:0", &stanza(upstreams.addresses()), 2);
    let summary = drive(server.addresses()[0], 64, 20_000);
    assert_all_answered(&summary, 20_000);
    let total = sum(&server.stats());
    assert_eq!((total.queries, total.replied(), total.replies[0]), (20_000, 20_000, 20_000));
    assert_eq!(total.drops.iter().sum::<u64>(), 0, "{total:?}");
    server.stop();
    let served: Vec<u64> =
        upstreams.stop().unwrap().iter().map(|seen| seen.counts.queries).collect();
    assert_eq!(served.iter().sum::<u64>() + total.coalesced, 20_000);
    let sent: Vec<u64> = total.upstreams.iter().map(|upstream| upstream.sent).collect();
    assert_eq!(sent, served);
}

/// Rotation uses at least `spread` source ports, each equally.
#[test]
fn one_query_at_a_time_rotates_through_all_ports_of_the_spread() {
    let upstream = UdpSocket::bind(any_port()).unwrap();
    upstream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let server = start("127.0.0.1:0", &stanza(&[upstream.local_addr().unwrap()]), 1);
    let echo = std::thread::spawn(move || {
        let mut ports = std::collections::BTreeMap::<u16, u32>::new();
        let mut packet = [0; 512];
        for _ in 0..10_000 {
            let (len, from) = upstream.recv_from(&mut packet).unwrap();
            *ports.entry(from.port()).or_default() += 1;
            let mut response = [0; 512];
            let len =
                onward::traffic::answer::respond(&packet[..len], Behaviour::Answer, &mut response);
            upstream.send_to(&response[..len.unwrap()], from).unwrap();
        }
        ports
    });
    assert_all_answered(&drive(server.addresses()[0], 1, 10_000), 10_000);
    let ports = echo.join().unwrap();
    assert_eq!(ports.len(), 16, "{ports:?}");
    assert!(ports.values().all(|uses| *uses == 625), "{ports:?}");
    let pool = sum(&server.stats()).upstreams[0].pool;
    assert_eq!((pool.opened, pool.reused), (16, 9_984));
    server.stop();
}

#[test]
fn a_refused_upstream_costs_no_time_out() {
    // A socket connected elsewhere holds its port and receives nothing from the forwarder.
    let refusing = UdpSocket::bind(any_port()).unwrap();
    refusing.connect(refusing.local_addr().unwrap()).unwrap();
    let upstream = responder(&[Behaviour::Answer]);
    let addresses = [refusing.local_addr().unwrap(), upstream.addresses()[0]];
    let server = start("127.0.0.1:0", &stanza(&addresses), 1);
    let summary = drive(server.addresses()[0], 8, 1_000);
    assert_all_answered(&summary, 1_000);
    let total = sum(&server.stats());
    assert!(summary.latency.max() < 1_000_000_000, "{}: {total:?}", summary.latency.max());
    assert!(total.upstreams[0].failed > 0 && total.upstreams[0].timed_out == 0, "{total:?}");
    server.stop();
}

#[test]
fn a_wildcard_answers_from_the_address_that_was_asked_in_both_families() {
    let upstream = responder(&[Behaviour::Answer]);
    for (wildcard, asked) in [("0.0.0.0:0", "127.0.0.7"), ("[::]:0", "::1")] {
        let server = start(wildcard, &stanza(upstream.addresses()), 2);
        let target = SocketAddr::new(asked.parse().unwrap(), server.addresses()[0].port());
        assert_all_answered(&drive(target, 16, 500), 500);
        server.stop();
    }
}

#[test]
fn an_address_in_use_is_refused_with_a_hint() {
    let upstream = responder(&[Behaviour::Answer]);
    let server = start("127.0.0.1:0", &stanza(upstream.addresses()), 2);
    let address = server.addresses()[0];
    let again = config(&address.to_string(), "");
    let error = Server::start(again, &[None], Log::text(|_| ())).err().unwrap();
    assert!(matches!(error, StartError::Bind(taken, _) if taken == address));
    let line = error.to_string();
    assert!(line.contains(&address.to_string()) && line.contains("another port"), "{line}");
    server.stop();
}

/// After a stop the server reads no more queries but finishes the outstanding ones.
#[test]
fn a_stop_waits_for_outstanding_queries() {
    let upstream = UdpSocket::bind(any_port()).unwrap();
    upstream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let server = start("127.0.0.1:0", &stanza(&[upstream.local_addr().unwrap()]), 1);
    let client = std::thread::spawn({
        let target = server.addresses()[0];
        move || drive(target, 1, 1)
    });
    let mut packet = [0; 512];
    let (len, from) = upstream.recv_from(&mut packet).unwrap();
    let stopping = std::thread::spawn(move || server.stop());
    let mut response = [0; 512];
    let len = onward::traffic::answer::respond(&packet[..len], Behaviour::Answer, &mut response);
    upstream.send_to(&response[..len.unwrap()], from).unwrap();
    assert_all_answered(&client.join().unwrap(), 1);
    stopping.join().unwrap();
}

/// The workers share one `max_concurrent`, each with its part of it.
#[test]
fn workers_together_have_as_many_queries_under_way_as_configured() {
    let upstream = UdpSocket::bind(any_port()).unwrap();
    upstream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let address = upstream.local_addr().unwrap();
    let body = format!("forward . {address} {{\n max_concurrent 4\n}}\n");
    let server = start("127.0.0.1:0", &body, 3);
    // Enough source ports for every worker to get more than its share.
    let clients: Vec<UdpSocket> = (0..200)
        .map(|_| {
            let client = UdpSocket::bind(any_port()).unwrap();
            client.set_read_timeout(Some(TIMEOUT)).unwrap();
            client.send_to(&query(1, &[]), server.addresses()[0]).unwrap();
            client
        })
        .collect();
    let clock = Clock::start();
    let until = clock.now().plus(TIMEOUT);
    let total = loop {
        let total = sum(&server.stats());
        if total.queries == 200 {
            break total;
        }
        assert!(clock.now() < until, "{total:?}");
    };
    assert_eq!((total.concurrent_rejects, total.coalesced), (196, 1));
    // Each worker has one upstream query: the fourth client waits for the same answer.
    for _ in 0..3 {
        let mut packet = [0; 512];
        let (len, from) = upstream.recv_from(&mut packet).unwrap();
        upstream.send_to(&answer_to(&packet[..len]), from).unwrap();
    }
    let rcode = |client: &UdpSocket| {
        let mut packet = [0; 512];
        client.recv(&mut packet).unwrap();
        packet[3] & 15
    };
    let rcodes: Vec<u8> = clients.iter().map(rcode).collect();
    assert_eq!(rcodes.iter().filter(|rcode| **rcode == 0).count(), 4);
    assert_eq!(rcodes.iter().filter(|rcode| **rcode == 5).count(), 196);
    server.stop();
}
