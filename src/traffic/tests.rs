//! The two ends of the traffic against each other, with nothing in between.
//!
//! Real sockets on ports of the kernel's choice. A number of queries ends each run; the deadline
//! is there so that a fault ends it too.

use super::answer::{Behaviour, respond};
use super::client::{Client, ClientOptions, Summary};
use super::responder::{Responder, Service, ServiceCounts};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Ends every run that its number of queries does not end, and every wait on a busy host.
const DEADLINE: Duration = Duration::from_secs(60);

fn run(
    behaviours: &[Behaviour],
    adjust: impl FnOnce(&mut ClientOptions),
) -> (Summary, Vec<ServiceCounts>) {
    let address = "127.0.0.1:0".parse().unwrap();
    let services: Vec<Service> =
        behaviours.iter().map(|&behaviour| Service { address, behaviour }).collect();
    let responder = Responder::start(&services, None).unwrap();
    let mut options = ClientOptions::new(responder.addresses().to_vec(), 1);
    (options.duration, options.patience) = (DEADLINE, DEADLINE);
    options.queries = Some(5_000);
    adjust(&mut options);
    let summary = Client::start(options).unwrap().join().unwrap();
    (summary, responder.stop().unwrap())
}

#[test]
fn with_nothing_in_between_every_answer_is_right() {
    let (summary, services) = run(&[Behaviour::Answer; 3], |options| options.sockets = 6);
    let counts = summary.counts;
    assert_eq!((counts.sent, counts.answered), (5_000, 5_000));
    assert_eq!((counts.lost, counts.mismatched, counts.late, counts.refused), (0, 0, 0, 0));
    assert_eq!(summary.latency.len(), 5_000);
    assert!(summary.rate() > 0.0);
    let queries: u64 = services.iter().map(|service| service.queries).sum();
    assert_eq!(queries, 5_000);
    for service in services {
        assert_eq!((service.source_ports, service.responses), (2, service.queries));
    }
}

#[test]
fn over_streams_every_answer_is_right() {
    let (summary, services) = run(&[Behaviour::Answer; 3], |options| {
        (options.sockets, options.outstanding, options.tcp) = (6, 500, true);
    });
    let counts = summary.counts;
    assert_eq!((counts.sent, counts.answered), (5_000, 5_000));
    assert_eq!((counts.lost, counts.mismatched, counts.late, counts.refused), (0, 0, 0, 0));
    let queries: u64 = services.iter().map(|service| service.queries).sum();
    assert_eq!(queries, 5_000);
    for service in services {
        assert_eq!((service.source_ports, service.streams), (0, 2));
        assert_eq!(service.responses, service.queries);
    }
}

/// The next message on a stream, behind its length.
fn read(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

#[test]
fn a_stream_that_is_closed_is_opened_anew_and_what_was_on_it_is_lost() {
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
            // In pieces: a message need not come whole.
            framed.chunks(7).try_for_each(|piece| second.write_all(piece))?;
        }
    });
    let mut options = ClientOptions::new(vec![target], 1);
    (options.duration, options.patience) = (DEADLINE, Duration::from_millis(500));
    (options.outstanding, options.queries, options.tcp) = (1, Some(10), true);
    let counts = Client::start(options).unwrap().join().unwrap().counts;
    assert_eq!((counts.sent, counts.answered, counts.lost), (10, 9, 1), "{counts:?}");
    assert_eq!((counts.mismatched, counts.refused), (0, 1), "{counts:?}");
    assert!(server.join().unwrap().is_err(), "the client has left");
}

#[test]
fn a_lie_and_a_refusal_are_mismatches() {
    for behaviour in [Behaviour::Lie, Behaviour::Refuse(5)] {
        let (summary, _) = run(&[behaviour], |options| options.queries = Some(200));
        let counts = summary.counts;
        assert_eq!((counts.sent, counts.mismatched, counts.answered), (200, 200, 0));
        assert_eq!((summary.elapsed, summary.rate()), (Duration::ZERO, 0.0));
    }
}

#[test]
fn few_outstanding_queries_take_few_sockets() {
    let (summary, services) = run(&[Behaviour::Answer], |options| {
        options.queries = Some(200);
        options.outstanding = 3;
    });
    assert_eq!((summary.counts.answered, services[0].source_ports), (200, 3));
}

#[test]
fn silence_is_lost_and_frees_its_slots() {
    let (summary, services) = run(&[Behaviour::Silent], |options| {
        options.queries = Some(100);
        options.outstanding = 50;
        options.patience = Duration::from_millis(1);
    });
    assert_eq!((summary.counts.sent, summary.counts.lost), (100, 100));
    assert_eq!((services[0].queries, services[0].responses), (100, 0));
}

#[test]
fn a_stopped_client_waits_for_what_is_outstanding_and_asks_no_more() {
    let address = "127.0.0.1:0".parse().unwrap();
    let service = Service { address, behaviour: Behaviour::Answer };
    let responder = Responder::start(&[service], None).unwrap();
    let mut options = ClientOptions::new(responder.addresses().to_vec(), 2);
    (options.duration, options.patience) = (DEADLINE, DEADLINE);
    let client = Client::start(options).unwrap();
    let first = client.progress().recv_timeout(DEADLINE).unwrap();
    client.stop();
    let counts = client.join().unwrap().counts;
    assert!(counts.sent >= first.counts.sent);
    assert_eq!(counts.answered, counts.sent);
    assert_eq!(responder.stop().unwrap()[0].queries, counts.sent);
}

#[test]
fn a_client_that_cannot_work_is_refused() {
    let target = vec!["127.0.0.1:9".parse().unwrap()];
    let bad: [fn(&mut ClientOptions); 5] = [
        |options| options.targets.clear(),
        |options| options.sockets = 0,
        |options| options.outstanding = 0,
        |options| options.outstanding = 1_000_000,
        |options| options.core = Some(100_000),
    ];
    for adjust in bad {
        let mut options = ClientOptions::new(target.clone(), 1);
        adjust(&mut options);
        let error = Client::start(options).err().unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
}
