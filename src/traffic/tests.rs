//! The two ends of the traffic against each other, with nothing in between.
//!
//! Real sockets on ports of the kernel's choice. Each run ends after a number of queries, or on a
//! fault at the deadline.

use super::answer::{Behaviour, respond};
use super::client::link::Transport;
use super::client::{self, Load, Options};
use super::tally::Tally;
use super::upstream::{Seen, Service, Upstream};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Deadline of every run and of every wait on a busy host.
const DEADLINE: Duration = Duration::from_secs(60);

fn run(
    behaviours: &[Behaviour],
    outstanding: usize,
    adjust: impl FnOnce(&mut Options),
) -> (Tally, Vec<Seen>) {
    let address = "127.0.0.1:0".parse().unwrap();
    let services = behaviours.iter().map(|&behaviour| Service::new(address, behaviour));
    let upstream = Upstream::of(services.collect()).unwrap();
    let targets = upstream.addresses().to_vec();
    let mut options = Options::closed(targets, outstanding, DEADLINE, 1);
    options.timeout = DEADLINE;
    options.limit = Some(5_000);
    adjust(&mut options);
    let tally = client::run(&options).unwrap().join().unwrap();
    (tally, upstream.stop().unwrap())
}

fn connections(pipeline: usize) -> Transport {
    Transport::Connections { queries: None, pipeline }
}

#[test]
fn with_nothing_in_between_every_answer_is_right() {
    let (summary, services) = run(&[Behaviour::Answer; 3], 64, |options| options.sockets = 6);
    let counts = summary.counts;
    assert_eq!((counts.sent, counts.answered), (5_000, 5_000));
    assert_eq!((counts.failed(), counts.mismatched, counts.late, counts.refused), (0, 0, 0, 0));
    assert_eq!((counts.duplicate, counts.stray), (0, 0));
    assert_eq!(summary.latency.len(), 5_000);
    assert!(summary.rate_answered() > 0.0);
    let queries: u64 = services.iter().map(|service| service.counts.queries).sum();
    assert_eq!(queries, 5_000);
    for service in services {
        let counts = service.counts;
        assert_eq!((service.sources.port_count(), counts.responses), (2, counts.queries));
    }
}

#[test]
fn over_tcp_every_answer_is_right() {
    let (summary, services) = run(&[Behaviour::Answer; 3], 500, |options| {
        (options.sockets, options.transport) = (6, connections(500));
    });
    let counts = summary.counts;
    assert_eq!((counts.sent, counts.answered), (5_000, 5_000));
    assert_eq!((counts.failed(), counts.mismatched, counts.late, counts.refused), (0, 0, 0, 0));
    assert_eq!((counts.duplicate, counts.stray), (0, 0));
    let queries: u64 = services.iter().map(|service| service.counts.queries).sum();
    assert_eq!(queries, 5_000);
    for service in services {
        assert_eq!((service.sources.port_count(), service.counts.connections), (0, 2));
        assert_eq!(service.counts.responses, service.counts.queries);
    }
}

/// Reads the next message of a connection, after its length prefix.
fn read(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

#[test]
fn a_closed_connection_is_reopened_and_its_queries_are_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut first, _) = listener.accept()?;
        read(&mut first)?;
        drop(first);
        let (mut second, _) = listener.accept()?;
        loop {
            let query = read(&mut second)?;
            let mut response = [0; 512];
            let length = respond(&query, Behaviour::Answer, &mut response).unwrap();
            let framed = [&(length as u16).to_be_bytes(), &response[..length]].concat();
            // In pieces: a message need not arrive whole.
            framed.chunks(7).try_for_each(|piece| second.write_all(piece))?;
        }
    });
    let mut options = Options::closed(vec![target], 1, DEADLINE, 1);
    options.timeout = Duration::from_millis(500);
    (options.limit, options.transport) = (Some(10), connections(1));
    let counts = client::run(&options).unwrap().join().unwrap().counts;
    assert_eq!((counts.sent, counts.answered, counts.lost), (10, 9, 1), "{counts:?}");
    assert_eq!((counts.wrong, counts.mismatched, counts.refused), (0, 0, 1), "{counts:?}");
    assert!(server.join().unwrap().is_err(), "the client has left");
}

#[test]
fn a_wrong_address_and_a_refusal_are_wrong_answers() {
    for behaviour in [Behaviour::Lie, Behaviour::Refuse(5)] {
        let (summary, _) = run(&[behaviour], 64, |options| options.limit = Some(200));
        let counts = summary.counts;
        assert_eq!((counts.sent, counts.wrong, counts.answered), (200, 200, 0));
        assert_eq!((summary.latency.len(), summary.rate_answered()), (0, 0.0));
    }
}

#[test]
fn few_outstanding_queries_take_few_sockets() {
    let (summary, services) = run(&[Behaviour::Answer], 3, |options| options.limit = Some(200));
    assert_eq!((summary.counts.answered, services[0].sources.port_count()), (200, 3));
}

#[test]
fn silence_is_lost_and_frees_its_slots() {
    let (summary, services) = run(&[Behaviour::Silent], 50, |options| {
        options.limit = Some(100);
        options.timeout = Duration::from_millis(1);
    });
    assert_eq!((summary.counts.sent, summary.counts.timed_out), (100, 100));
    assert_eq!((services[0].counts.queries, services[0].counts.responses), (100, 0));
}

#[test]
fn a_stopped_client_waits_for_outstanding_queries_and_sends_no_more() {
    let address = "127.0.0.1:0".parse().unwrap();
    let upstream = Upstream::of(vec![Service::new(address, Behaviour::Answer)]).unwrap();
    let mut options = Options::closed(upstream.addresses().to_vec(), 64, DEADLINE, 2);
    options.timeout = DEADLINE;
    let client = client::run(&options).unwrap();
    while upstream.counts().unwrap()[0].queries == 0 {}
    let first = client.counts();
    client.stop();
    let counts = client.join().unwrap().counts;
    assert!(counts.sent >= first.sent);
    assert_eq!(counts.answered, counts.sent);
    let so_far = upstream.counts().unwrap()[0];
    assert_eq!((so_far.queries, so_far.responses), (counts.sent, counts.sent));
    assert_eq!(so_far.ports, 16);
    assert_eq!(upstream.stop().unwrap()[0].counts.queries, counts.sent);
}

#[test]
fn each_service_behaves_in_its_own_way() {
    let behaviours = [Behaviour::Answer, Behaviour::Refuse(5)];
    let (tally, services) = run(&behaviours, 64, |options| options.limit = Some(1_000));
    assert_eq!(tally.counts.answered, services[0].counts.queries);
    assert_eq!(tally.counts.wrong, services[1].counts.queries);
    assert!(tally.counts.answered > 0 && tally.counts.wrong > 0);
}

#[test]
fn a_client_that_cannot_work_is_refused() {
    let target = vec!["127.0.0.1:9".parse().unwrap()];
    let bad: [fn(&mut Options); 5] = [
        |options| options.targets.clear(),
        |options| options.sockets = 0,
        |options| options.load = Load::Closed { outstanding: 0, duration: None },
        |options| options.load = Load::Closed { outstanding: 1_000_000, duration: None },
        |options| options.cores = vec![100_000],
    ];
    for adjust in bad {
        let mut options = Options::closed(target.clone(), 64, DEADLINE, 1);
        adjust(&mut options);
        let error = client::run(&options).err().unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
}
