//! Upstreams that are killed under load, and that come back.
//!
//! With `max_connect_attempts 2` a second retry would become SERVFAIL, which the client counts as
//! mismatched; so all queries answered proves at most one retry each. Recovery is measured at the
//! upstream itself: the number of probes before its first query.

use crate::until::until;
use crate::{SEED, TIMEOUT, assert_all_answered, start, sum};
use onward::clock::Clock;
use onward::engine::health::schedule::delay_max;
use onward::engine::stats::Stats;
use onward::moment::Moment;
use onward::server::Server;
use onward::traffic::answer::{Behaviour, respond};
use onward::traffic::client::link::Transport;
use onward::traffic::client::{self, Options, Run};
use onward::traffic::upstream::{Service, Upstream};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// Interval of probes.
const INTERVAL: Duration = Duration::from_millis(50);

/// Queries outstanding at once.
const OUTSTANDING: usize = 64;

/// An upstream on an address of its own, so that no other program takes its port while it is down.
fn upstream(address: &str) -> Upstream {
    let service = Service::new(address.parse().unwrap(), Behaviour::Answer);
    Upstream::of(vec![service]).unwrap()
}

fn start_between(upstreams: [&Upstream; 2], options: &str) -> Server {
    let [a, b] = upstreams.map(|upstream| upstream.addresses()[0]);
    let probing = format!("health_check {}ms", INTERVAL.as_millis());
    let body = format!("forward . {a} {b} {{\n max_connect_attempts 2\n {probing}\n {options}\n}}");
    start("127.0.0.1:0", &body, 2)
}

/// Starts a client that sends queries until stopped.
fn load(server: &Server, tcp: bool) -> Run {
    let targets = vec![server.addresses()[0]];
    let mut options = Options::closed(targets, OUTSTANDING, 2 * TIMEOUT, SEED);
    options.timeout = TIMEOUT;
    if tcp {
        options.transport = Transport::Connections { queries: None, pipeline: OUTSTANDING };
    }
    client::run(&options).unwrap()
}

fn totals(server: &Server) -> Stats {
    sum(&server.stats())
}

/// Waits until `answers` more queries are answered.
fn go_on(server: &Server, answers: u64) -> Stats {
    let goal = totals(server).replies[0] + answers;
    until("clients get answers", || Some(totals(server)).filter(|total| total.replies[0] >= goal))
}

/// Ends the load and checks that every query was answered correctly.
fn end(load: Run, server: Server) -> Stats {
    load.stop();
    let summary = load.join().unwrap();
    assert_all_answered(&summary, summary.counts.sent);
    let total = totals(&server);
    assert_eq!(total.replies[0], total.replied(), "{total:?}");
    server.stop();
    total
}

fn killing_one_loses_nothing(addresses: [&str; 2], options: &str, tcp: bool) {
    let [doomed, other] = addresses.map(upstream);
    let server = start_between([&doomed, &other], options);
    let load = load(&server, tcp);
    go_on(&server, 5_000);
    let before = totals(&server);
    drop(doomed);
    go_on(&server, 5_000);
    let total = end(load, server);
    assert!(before.upstreams.iter().all(|upstream| upstream.failed + upstream.timed_out == 0));
    let [doomed, other] = total.upstreams[..] else { panic!("two") };
    assert!(doomed.failed > 0, "nothing was on its way to the doomed: {total:?}");
    assert_eq!(other.failed + other.timed_out, 0, "{total:?}");
    assert_eq!(doomed.tcp.opened > 0, options.contains("tcp") || tcp);
}

#[test]
fn killing_one_of_two_upstreams_under_load_loses_nothing() {
    let options = "policy round_robin\n read_timeout 500ms";
    killing_one_loses_nothing(["127.0.0.21:0", "127.0.0.22:0"], options, false);
}

#[test]
fn killing_one_of_two_upstreams_that_are_asked_over_tcp_loses_nothing() {
    let options = "policy round_robin\n read_timeout 500ms\n force_tcp";
    killing_one_loses_nothing(["127.0.0.25:0", "127.0.0.26:0"], options, false);
}

#[test]
fn killing_one_of_two_upstreams_while_clients_ask_on_connections_loses_nothing() {
    let options = "policy round_robin\n read_timeout 500ms";
    killing_one_loses_nothing(["127.0.0.27:0", "127.0.0.28:0"], options, true);
}

/// Reopens the killed upstream's port.
fn revive(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket
}

/// Answers until the first query that is not a probe; returns the number of probes and the time.
fn first_query_at(revived: &UdpSocket) -> (u64, Duration) {
    let (clock, mut probes) = (Clock::start(), 0);
    loop {
        let mut packet = [0; 512];
        let (len, from) = revived.recv_from(&mut packet).unwrap();
        let mut response = [0; 512];
        let len = respond(&packet[..len], Behaviour::Answer, &mut response).unwrap();
        revived.send_to(&response[..len], from).unwrap();
        // Probes query the root, clients never do.
        if packet[12] != 0 {
            return (probes, clock.now().since(Moment::ZERO));
        }
        probes += 1;
    }
}

#[test]
fn a_killed_upstream_costs_each_client_one_retry_at_most_and_is_back_within_two_probes() {
    let (first, other) = (upstream("127.0.0.23:0"), upstream("127.0.0.24:0"));
    let address = first.addresses()[0];
    let server = start_between([&first, &other], "policy sequential\n read_timeout 500ms");
    let load = load(&server, false);
    let before = go_on(&server, 2_000);
    assert!(before.upstreams[0].answered >= 2_000, "the first is the preferred one");
    drop(first);
    // While it is down, queries are answered and none is sent to it.
    until("the first is known to be down", || {
        let before = totals(&server).upstreams[0].sent;
        (go_on(&server, 500).upstreams[0].sent == before).then_some(())
    });
    let revived = revive(address);
    let (probes, waited) = first_query_at(&revived);
    assert!((1..=2).contains(&probes), "{probes} probes before it was in use");
    assert!(waited < 2 * delay_max(INTERVAL), "in use after {waited:?}");
    // The queries received meanwhile are answered, and so are later ones.
    std::thread::spawn(move || serve(&revived));
    let before = totals(&server).upstreams[0].answered;
    until("the revived is the preferred one again", || {
        (go_on(&server, 100).upstreams[0].answered > before + 1_000).then_some(())
    });
    end(load, server);
}

/// Answers every query.
fn serve(socket: &UdpSocket) -> std::io::Result<()> {
    let (mut packet, mut response) = ([0; 512], [0; 512]);
    loop {
        let (len, from) = socket.recv_from(&mut packet)?;
        let len = respond(&packet[..len], Behaviour::Answer, &mut response).unwrap();
        socket.send_to(&response[..len], from)?;
    }
}
