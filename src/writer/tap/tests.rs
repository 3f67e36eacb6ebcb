//! The writer tested by a receiver that speaks the protocol: its own reader, and of the writer's
//! structs only the envelope's.
//!
//! Third-party receivers are tested with the whole program.

use super::super::interfaces::Interfaces;
use super::message::{Dnstap, of_record};
use super::{Outlet, Sink};
use crate::clock::Clock;
use crate::config::{Protocol, Stages, Tap, TapTarget};
use crate::engine::journal::{Event, LoggedQuery, Page, Record, Span};
use crate::engine::key::{Transport, Way};
use crate::engine::message::query::Asked;
use crate::log::Log;
use crate::moment::Moment;
use prost::Message;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(20);
const ACCEPT: &[u8] = b"\0\0\0\0\0\0\0\x22\0\0\0\x01\0\0\0\x01\0\0\0\x16protobuf:dnstap.Dnstap";
const FINISH: &[u8] = b"\0\0\0\0\0\0\0\x04\0\0\0\x05";

/// Deadline of all waits.
fn soon() -> Option<std::time::Instant> {
    let clock = Clock::start();
    clock.instant(clock.now().plus(TIMEOUT))
}

fn tap(target: TapTarget, full: bool) -> Tap {
    Tap {
        target,
        full,
        write_buffer_mib: 1,
        queue_x10000: 1,
        identity: "me".into(),
        version: "V".into(),
        extra: Some("{type} {rcode} {x}".into()),
    }
}

fn record(event: Event, upstream: Option<SocketAddr>) -> Record {
    let asking = LoggedQuery {
        peer: Some("[2001:db8::1]:4711".parse().unwrap()),
        local: [127, 0, 0, 1].into(),
        transport: Transport::Udp,
        protocol: Protocol::Dns,
        since: Moment::from_nanos(1_000),
        size: 17,
        asked: Asked { id: 7, flags: 0x0100, edns: None },
        rtype: 28,
        class: 1,
    };
    let upstream = upstream.map(|address| (address, Way::Tcp, Moment::from_nanos(2_000)));
    let (name, message) = (Span::default(), Span::default());
    let at = Moment::from_nanos(3_000_000_007);
    Record { event, block: 0, at, asking, upstream, reply: None, labels: None, name, message }
}

/// Reads one frame: the bytes of a data frame, or those of a control frame as an error.
fn frame(stream: &mut TcpStream) -> Result<Vec<u8>, Vec<u8>> {
    let mut read = |len: usize| {
        let mut bytes = vec![0; len];
        stream.read_exact(&mut bytes).unwrap();
        bytes
    };
    let mut length = || u32::from_be_bytes(read(4).try_into().unwrap()) as usize;
    match length() {
        0 => {
            let len = length();
            Err(read(len))
        }
        len => Ok(read(len)),
    }
}

#[test]
fn a_receiver_gets_each_message_with_its_addresses_and_times_and_then_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = TapTarget::Tcp(listener.local_addr().unwrap().to_string());
    let log = Log::text(|line| panic!("{line}"));
    let sink = Sink::start(Clock::start(), target.clone(), 1, log).unwrap();
    let sink = Arc::new(sink);
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    assert_eq!(frame(&mut stream).unwrap_err()[..4], [0, 0, 0, 4], "READY");
    stream.write_all(ACCEPT).unwrap();
    assert_eq!(frame(&mut stream).unwrap_err()[..4], [0, 0, 0, 2], "START");

    let mut page = Page::new();
    let upstream: SocketAddr = "192.0.2.1:53".parse().unwrap();
    page.push(record(Event::ClientQuery, None), b"\x01a\0", b"asked");
    page.push(record(Event::ForwarderResponse, Some(upstream)), b"\x01a\0", b"answered");
    page.push(record(Event::Ended(0), None), b"\x01a\0", b"");
    let origin = Duration::from_secs(1_000);
    for full in [true, false] {
        let mut outlet =
            Outlet::new(&tap(target.clone(), full), &Stages::default(), Arc::clone(&sink));
        let names = &mut Interfaces::default();
        page.records.iter().for_each(|record| outlet.push(record, &page, origin, names));
        outlet.flush();
        let got: Vec<_> =
            (0..2).map(|_| Dnstap::decode(&frame(&mut stream).unwrap()[..]).unwrap()).collect();
        for envelope in &got {
            assert_eq!(envelope.identity.as_deref(), Some(&b"me"[..]));
            assert_eq!(envelope.version.as_deref(), Some(&b"V"[..]));
            assert_eq!(envelope.extra.as_deref(), Some(&b"AAAA - {x}"[..]));
            assert_eq!(envelope.rtype, 1);
        }
        let [query, response] = [0, 1].map(|which: usize| got[which].message.clone().unwrap());
        assert_eq!(
            (query.rtype, query.socket_family, query.socket_protocol),
            (5, Some(2), Some(1))
        );
        assert_eq!(query.query_address.as_ref().map(Vec::len), Some(16));
        assert_eq!((query.query_port, query.response_port), (Some(4_711), None));
        assert_eq!((query.query_time_sec, query.query_time_nsec), (Some(1_000), Some(1_000)));
        assert_eq!((query.response_time_sec, query.response_message), (None, None));
        assert_eq!(query.query_message.as_deref(), full.then_some(&b"asked"[..]));
        assert_eq!(response.rtype, 8);
        assert_eq!((response.socket_family, response.socket_protocol), (Some(1), Some(2)));
        assert_eq!(response.response_address, Some(vec![192, 0, 2, 1]));
        assert_eq!((response.query_port, response.response_port), (Some(4_711), Some(53)));
        assert_eq!(response.query_time_nsec, Some(2_000));
        let answered = (response.response_time_sec, response.response_time_nsec);
        assert_eq!(answered, (Some(1_003), Some(7)));
        assert_eq!(response.response_message.as_deref(), full.then_some(&b"answered"[..]));
    }

    assert_eq!(sink.take_dropped(), 0);
    let closed = Arc::into_inner(sink).unwrap().close();
    assert_eq!(frame(&mut stream).unwrap_err(), [0, 0, 0, 3], "STOP");
    stream.write_all(FINISH).unwrap();
    assert_eq!(closed.wait(soon()), 0);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn remaining_messages_are_sent_at_the_end_or_counted_as_dropped() {
    let directory = std::env::temp_dir().join(format!("dnstap-{}", std::process::id()));
    let target = TapTarget::Unix(directory.join("nobody"));
    let sink = Sink::start(Clock::start(), target, 1, Log::text(|_| {})).unwrap();
    (0..100).for_each(|_| sink.send(vec![0; 10], 3));
    let before = sink.take_dropped();
    assert_eq!(before + sink.close().wait(soon()), 300);
}

#[test]
fn a_broken_connection_is_reopened_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = TapTarget::Tcp(listener.local_addr().unwrap().to_string());
    let sink = Sink::start(Clock::start(), target, 1, Log::text(|_| ())).unwrap();
    for _ in 0..3 {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        assert!(frame(&mut stream).is_err());
        stream.write_all(ACCEPT).unwrap();
        assert!(frame(&mut stream).is_err());
        sink.send(b"\0\0\0\x01x".to_vec(), 1);
        assert_eq!(frame(&mut stream).unwrap(), b"x");
        drop(stream);
        // Messages beyond the queue are dropped: the first may still fit into the kernel's buffer.
        let mut dropped = 0;
        while dropped == 0 {
            sink.send(b"\0\0\0\x01x".to_vec(), 1);
            dropped = sink.take_dropped();
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_receiver_that_does_not_read_fills_its_queue_and_delays_no_other() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = TapTarget::Tcp(listener.local_addr().unwrap().to_string());
    // This receiver never accepts, so the thread waits for its reply.
    let sink = Sink::start(Clock::start(), target, 1, Log::text(|_| ())).unwrap();
    for _ in 0..10 {
        sink.send(vec![0; 1 << 20], 5);
    }
    let dropped = sink.take_dropped();
    assert!((25..=30).contains(&dropped), "{dropped} messages of 50 were dropped");
}

#[test]
fn the_protocol_is_that_of_the_clients_listener_or_of_the_way_to_the_upstream() {
    let (page, origin) = (Page::new(), Duration::ZERO);
    let of = |record: &Record| of_record(record, &page, origin, false).unwrap().socket_protocol;
    let mut asked = record(Event::ClientQuery, None);
    let cases = [
        (Protocol::Dns, Transport::Udp, 1),
        (Protocol::Dns, Transport::Tcp, 2),
        (Protocol::Tls, Transport::Tcp, 3),
        (Protocol::Https, Transport::Tcp, 4),
        (Protocol::Grpc, Transport::Tcp, 2),
        (Protocol::Quic, Transport::Tcp, 7),
    ];
    for (protocol, transport, number) in cases {
        (asked.asking.protocol, asked.asking.transport) = (protocol, transport);
        assert_eq!(of(&asked), Some(number), "{protocol:?}");
    }
    // The client's protocol does not matter here.
    let mut sent = record(Event::ForwarderQuery, Some("192.0.2.1:53".parse().unwrap()));
    sent.asking.protocol = Protocol::Https;
    let ways =
        [(Way::Datagram, 1), (Way::Tcp, 2), (Way::Secure, 3), (Way::Https, 4), (Way::Quic, 7)];
    for (way, number) in ways {
        sent.upstream = sent.upstream.map(|(address, _, began)| (address, way, began));
        assert_eq!(of(&sent), Some(number), "{way:?}");
    }
}
