//! TCP clients and upstreams (RFC 7766).
//!
//! Clients and the upstream are plain blocking sockets: the upstream passes each connection to a
//! function of the test, which describes its misbehaviour in a few lines.

use crate::{TIMEOUT, any_port, config, responder, stanza, start, sum};
use onward::log::Log;
use onward::server::{Server, StartError};
use onward::traffic::answer::{Behaviour, is_right, respond};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A query for a name that contains `number`; `opt` holds the records behind the question.
pub(crate) fn query(number: u16, opt: &[u8]) -> Vec<u8> {
    let mut query = number.to_be_bytes().to_vec();
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!opt.is_empty())]);
    let label = format!("N{number}");
    query.push(label.len() as u8);
    query.extend(label.as_bytes());
    query.extend(b"\x04teSt\0\0\x01\0\x01");
    query.extend(opt);
    query
}

pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

pub(crate) fn read_message(stream: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

pub(crate) fn answer_to(query: &[u8]) -> Vec<u8> {
    let mut response = vec![0; 512];
    let len = respond(query, Behaviour::Answer, &mut response).unwrap();
    response.truncate(len);
    response
}

/// A TCP upstream on `listener` that runs `serve` for each connection in a thread of its own and
/// counts the connections.
pub(crate) fn upstream(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&accepted);
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            counter.fetch_add(1, Ordering::SeqCst);
            // Otherwise a second small answer would wait for the acknowledgement of the first, 40
            // ms or more.
            stream.set_nodelay(true).unwrap();
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream));
        }
    });
    (address, accepted)
}

pub(crate) fn listen() -> TcpListener {
    TcpListener::bind(any_port()).unwrap()
}

/// Answers each query as it arrives.
fn serve_plainly(mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let query = read_message(&mut stream)?;
        stream.write_all(&framed(&answer_to(&query)))?;
    }
}

fn client(target: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(target).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// Sends a query and checks its answer.
fn ask(stream: &mut TcpStream, number: u16) {
    let query = query(number, &[]);
    stream.write_all(&framed(&query)).unwrap();
    let answer = read_message(stream).unwrap();
    assert!(is_right(&query, &answer), "{number}: {answer:x?}");
}

/// Returns the answer to `query`, sent on a connection of its own.
pub(crate) fn ask_over_tcp(target: SocketAddr, query: &[u8]) -> Vec<u8> {
    let mut stream = client(target);
    stream.write_all(&framed(query)).unwrap();
    read_message(&mut stream).unwrap()
}

#[test]
fn a_hundred_queries_on_one_client_connection_are_answered_in_any_order() {
    let (address, accepted) = upstream(listen(), |mut stream| {
        // Everything received so far is answered, the last query first.
        stream.set_read_timeout(Some(Duration::from_millis(5)))?;
        let mut waiting = Vec::new();
        loop {
            match read_message(&mut stream) {
                Ok(query) => waiting.push(query),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    for query in waiting.drain(..).rev() {
                        stream.write_all(&framed(&answer_to(&query)))?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    });
    let server = start("127.0.0.1:0", &stanza(&[address]), 1);
    let mut stream = client(server.addresses()[0]);
    let queries: Vec<_> = (0..100).map(|number| query(number, &[])).collect();
    stream.write_all(&queries.iter().flat_map(|query| framed(query)).collect::<Vec<_>>()).unwrap();
    let mut order = Vec::new();
    for _ in &queries {
        let answer = read_message(&mut stream).unwrap();
        let number = u16::from_be_bytes([answer[0], answer[1]]);
        assert!(is_right(&queries[usize::from(number)], &answer));
        order.push(number);
    }
    assert!(!order.is_sorted(), "in order: {order:?}");
    order.sort_unstable();
    assert_eq!(order, (0..100).collect::<Vec<_>>());
    let accepted = accepted.load(Ordering::SeqCst);
    assert!(accepted < 50, "{accepted} streams for 100 queries");
    server.stop();
}

#[test]
fn an_upstream_that_closes_after_every_answer_costs_no_query() {
    let closings: [fn(&TcpStream) -> std::io::Result<()>; 2] = [
        |stream| stream.shutdown(Shutdown::Both),
        // A reset instead of an orderly close.
        |stream| SockRef::from(stream).set_linger(Some(Duration::ZERO)),
    ];
    for close in closings {
        let (address, accepted) = upstream(listen(), move |mut stream| {
            let query = read_message(&mut stream)?;
            stream.write_all(&framed(&answer_to(&query)))?;
            // The answer must be read before a reset discards it.
            stream.set_read_timeout(Some(Duration::from_millis(20)))?;
            let _ = stream.peek(&mut [0]);
            close(&stream)
        });
        let server = start("127.0.0.1:0", &stanza(&[address]), 1);
        let mut stream = client(server.addresses()[0]);
        (0..20).for_each(|number| ask(&mut stream, number));
        let upstream = sum(&server.stats()).upstreams[0];
        assert_eq!((upstream.failed, upstream.timed_out), (0, 0), "{upstream:?}");
        assert_eq!(accepted.load(Ordering::SeqCst), 20);
        server.stop();
    }
}

#[test]
fn an_upstream_that_refuses_is_failed_over_at_once() {
    // Bound, but not listening.
    let refusing = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    refusing.bind(&any_port().into()).unwrap();
    let refused = refusing.local_addr().unwrap().as_socket().unwrap();
    let (address, _) = upstream(listen(), serve_plainly);
    let server = start("127.0.0.1:0", &stanza(&[refused, address]), 1);
    let mut stream = client(server.addresses()[0]);
    (0..20).for_each(|number| ask(&mut stream, number));
    let upstreams = sum(&server.stats()).upstreams;
    assert!(upstreams[0].failed > 0 && upstreams[0].timed_out == 0, "{upstreams:?}");
    server.stop();
}

#[test]
fn queries_in_single_bytes_and_before_a_half_close_are_answered() {
    let (address, _) = upstream(listen(), serve_plainly);
    let server = start("127.0.0.1:0", &stanza(&[address]), 1);
    let mut stream = client(server.addresses()[0]);
    stream.set_nodelay(true).unwrap();
    let queries = [query(1, &[]), query(2, &[])];
    for byte in queries.iter().flat_map(|query| framed(query)) {
        stream.write_all(&[byte]).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answers = [read_message(&mut stream).unwrap(), read_message(&mut stream).unwrap()];
    answers.sort();
    assert!(queries.iter().zip(&answers).all(|(query, answer)| is_right(query, answer)));
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "and then the stream ends");
    server.stop();
}

/// A query of this length, with an OPT whose only option fills it.
pub(crate) fn long_query(number: u16, len: usize) -> Vec<u8> {
    let plain = query(number, &[1]);
    let padding = (len - plain.len() - 14) as u16;
    let mut opt = vec![0, 0, 41, 4, 208, 0, 0, 0, 0];
    opt.extend((padding + 4).to_be_bytes());
    opt.extend([0, 12]);
    opt.extend(padding.to_be_bytes());
    opt.resize(opt.len() + usize::from(padding), 0);
    let long = query(number, &opt);
    assert_eq!(long.len(), len);
    long
}

#[test]
fn a_query_that_is_too_long_gets_formerr_and_the_next_its_answer() {
    let (address, _) = upstream(listen(), serve_plainly);
    let server = start("127.0.0.1:0", &stanza(&[address]), 1);
    let mut stream = client(server.addresses()[0]);
    for len in [4_097, 10_000, 65_535] {
        let long = long_query(1, len);
        let both = [framed(&long), framed(&query(2, &[]))].concat();
        stream.write_all(&both).unwrap();
        let refusal = read_message(&mut stream).unwrap();
        assert_eq!(refusal[..6], [0, 1, 0x81, 0x81, 0, 1], "{len}: {refusal:x?}");
        let answer = read_message(&mut stream).unwrap();
        assert!(is_right(&query(2, &[]), &answer), "{len}: {answer:x?}");
    }
    server.stop();
}

#[test]
fn a_client_with_tcp_keepalive_gets_the_idle_timeout() {
    let (address, _) = upstream(listen(), serve_plainly);
    let server = start("127.0.0.1:0", &stanza(&[address]), 1);
    let mut stream = client(server.addresses()[0]);
    let keepalive = query(1, b"\0\0\x29\x04\xd0\0\0\0\0\0\x04\0\x0b\0\0");
    stream.write_all(&framed(&keepalive)).unwrap();
    let answer = read_message(&mut stream).unwrap();
    assert!(answer.ends_with(b"\0\x06\0\x0b\0\x02\0\x64"), "{answer:x?}");
    server.stop();
}

/// An upstream that truncates over UDP and answers over TCP, on one port.
fn truncating() -> SocketAddr {
    let (datagrams, listener) = loop {
        let datagrams = UdpSocket::bind(any_port()).unwrap();
        if let Ok(listener) = TcpListener::bind(datagrams.local_addr().unwrap()) {
            break (datagrams, listener);
        }
    };
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((len, from)) = datagrams.recv_from(&mut packet) {
            let mut response = packet[..len].to_vec();
            response[2] |= 0x82;
            let _ = datagrams.send_to(&response, from);
        }
    });
    upstream(listener, serve_plainly).0
}

fn ask_by_datagram(target: SocketAddr, number: u16) -> Vec<u8> {
    let socket = UdpSocket::bind(any_port()).unwrap();
    socket.connect(target).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket.send(&query(number, &[])).unwrap();
    let mut answer = vec![0; 2048];
    let len = socket.recv(&mut answer).unwrap();
    answer.truncate(len);
    answer
}

#[test]
fn a_truncated_answer_is_passed_on_unless_udp_is_merely_preferred() {
    let address = truncating();
    let server = start("127.0.0.1:0", &stanza(&[address]), 1);
    let answer = ask_by_datagram(server.addresses()[0], 1);
    assert_eq!(answer[2] & 0x02, 0x02, "TC: {answer:x?}");
    server.stop();
    for option in ["prefer_udp", "force_tcp"] {
        let body = format!("forward . {address} {{\n {option}\n}}");
        let server = start("127.0.0.1:0", &body, 1);
        let answer = ask_by_datagram(server.addresses()[0], 1);
        assert!(is_right(&query(1, &[]), &answer), "{option}: {answer:x?}");
        let upstream = sum(&server.stats()).upstreams[0];
        let by_datagram = u64::from(option == "prefer_udp");
        assert_eq!((upstream.pool.opened, upstream.tcp.opened), (by_datagram, 1), "{option}");
        server.stop();
    }
}

#[test]
fn a_response_kept_by_failover_is_delivered_whole() {
    // NXDOMAIN with an answer of 4,000 bytes, which is unusual but legal.
    let (holding, _) = upstream(listen(), |mut stream| {
        loop {
            let query = read_message(&mut stream)?;
            let question_end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
            let header = [&query[..2], &[0x81, 0x83, 0, 1, 0, 1, 0, 0, 0, 0]].concat();
            let record = [0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0x0f, 0xa0];
            let question = &query[12..question_end];
            let response = [&header[..], question, &record, &[0; 4_000]].concat();
            stream.write_all(&framed(&response))?;
        }
    });
    let (closing, _) = upstream(listen(), |_| Ok(()));
    let options = "policy sequential\n failover NXDOMAIN\n max_connect_attempts 1";
    let body = format!("forward . {holding} {closing} {{\n {options}\n}}\n");
    let server = start("127.0.0.1:0", &body, 1);
    let mut stream = client(server.addresses()[0]);
    stream.write_all(&framed(&query(1, &[]))).unwrap();
    let answer = read_message(&mut stream).unwrap();
    assert_eq!((answer[2] & 2, answer[3] & 15), (0, 3), "neither cut nor lost");
    assert!(answer.len() > 4_000, "{}", answer.len());
    server.stop();
}

/// Make before break: no query waits for a handshake, and none is lost.
#[test]
fn a_connection_is_replaced_before_max_age_retires_it() {
    let (address, accepted) = upstream(listen(), serve_plainly);
    let body = format!("forward . {address} {{\n expire 100ms\n max_age 200ms\n}}");
    let server = start("127.0.0.1:0", &body, 1);
    let mut stream = client(server.addresses()[0]);
    let mut number = 0;
    while accepted.load(Ordering::SeqCst) < 5 {
        ask(&mut stream, number);
        number = number.wrapping_add(1);
    }
    let upstream = sum(&server.stats()).upstreams[0];
    assert_eq!((upstream.failed, upstream.timed_out, upstream.tcp.broken), (0, 0, 0));
    assert!(upstream.tcp.aged >= 3, "{upstream:?}");
    server.stop();
}

#[test]
fn a_stop_answers_the_outstanding_queries_of_connections() {
    let (sender, asked) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let (address, _) = upstream(listen(), move |mut stream| {
        let query = read_message(&mut stream)?;
        sender.send(()).unwrap();
        let _ = released.lock().unwrap().recv_timeout(TIMEOUT);
        stream.write_all(&framed(&answer_to(&query)))
    });
    let server = start("127.0.0.1:0", &stanza(&[address]), 1);
    let mut stream = client(server.addresses()[0]);
    let query = query(7, &[]);
    stream.write_all(&framed(&query)).unwrap();
    asked.recv_timeout(TIMEOUT).unwrap();
    let stopping = std::thread::spawn(move || server.stop());
    release.send(()).unwrap();
    assert!(is_right(&query, &read_message(&mut stream).unwrap()));
    stopping.join().unwrap();
}

#[test]
fn both_transports_listen_on_the_same_port() {
    let upstreams = responder(&[Behaviour::Answer]);
    let server = start("127.0.0.1:0", &stanza(upstreams.addresses()), 2);
    let taken = config(&server.addresses()[0].to_string(), "");
    assert!(onward::server::Server::start(taken, &[None], Log::text(|_| ())).is_err());
    client(server.addresses()[0]);
    server.stop();
}

#[test]
fn upstreams_are_asked_from_the_source_address_over_both_transports() {
    let source: IpAddr = "127.0.0.5".parse().unwrap();
    let listener = listen();
    let address = listener.local_addr().unwrap();
    let datagrams = UdpSocket::bind(address).unwrap();
    datagrams.set_read_timeout(Some(TIMEOUT)).unwrap();
    let (sender, peers) = std::sync::mpsc::channel();
    upstream(listener, move |stream| {
        sender.send(stream.peer_addr()?.ip()).unwrap();
        serve_plainly(stream)
    });
    let asked = std::thread::spawn(move || {
        let mut packet = [0; 512];
        let (len, from) = datagrams.recv_from(&mut packet).unwrap();
        datagrams.send_to(&answer_to(&packet[..len]), from).unwrap();
        from.ip()
    });
    let body = format!("forward . {address} {{\n source_address {source}\n}}\n");
    let server = start("127.0.0.1:0", &body, 1);
    ask(&mut client(server.addresses()[0]), 1);
    assert_eq!(peers.recv_timeout(TIMEOUT), Ok(source));
    ask_by_datagram(server.addresses()[0], 2);
    assert_eq!(asked.join().unwrap(), source);
    server.stop();
}

#[test]
fn a_source_address_that_the_host_lacks_is_refused_at_the_start() {
    let body = "forward . 192.0.2.1 {\n source_address 203.0.113.77\n}\n";
    let config = config("127.0.0.1:0", body);
    let error = Server::start(config, &[None], Log::text(|_| ())).err().unwrap();
    assert!(matches!(error, StartError::Source(..)), "{error}");
    let line = error.to_string();
    assert!(line.contains("source_address 203.0.113.77: this host has no such"), "{line}");
}

#[test]
fn a_connection_with_an_unfinished_query_is_closed_though_idle_ones_stay() {
    let server = start("127.0.0.1:0", "any\n timeouts {\n read 1s\n idle 24h\n}", 1);
    let connect = || {
        let stream = TcpStream::connect(server.addresses()[0]).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream
    };
    let (mut idle, mut silent, mut slow) = (connect(), connect(), connect());
    let mut any = query(7, &[]);
    let rtype = any.len() - 3;
    any[rtype] = 255;
    for stream in [&mut idle, &mut slow] {
        stream.write_all(&framed(&any)).unwrap();
        assert_eq!(read_message(stream).unwrap()[..2], [0, 7]);
    }
    slow.write_all(&framed(&any)[..9]).unwrap();
    assert_eq!((silent.read(&mut [0]).unwrap(), slow.read(&mut [0]).unwrap()), (0, 0));
    idle.write_all(&framed(&any)).unwrap();
    assert_eq!(read_message(&mut idle).unwrap()[..2], [0, 7]);
    server.stop();
}
