//! DNS over HTTPS (RFC 8484) on real connections: statuses, order, limits and the end.
//!
//! Requests are written by hand, for HTTP/2 with literal fields, so that no library of HTTP is the
//! oracle. How bytes become requests is tested beside the room `http`.

use crate::certs::{Authority, load};
use crate::http2::{GOAWAY, base64, body2, frame, get2, preface, read_frame};
use crate::kit::query_for;
use crate::tcp::{framed, listen, read_message, upstream};
use crate::until::until;
use crate::zones::ZoneFile;
use crate::{SEED, TIMEOUT, assert_all_answered, responder, start_text, start_with, sum};
use onward::config::{Alpn, ClientTls, Pem};
use onward::server::Server;
use onward::traffic::answer::{Behaviour, is_right};
use onward::traffic::client::link::Transport;
use onward::traffic::client::{self, Options, Tls};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

pub(super) const A: u16 = 1;
pub(super) const TXT: u16 = 16;
const AXFR: u16 = 252;

/// A block of `https://` without TLS; `body` holds its directives.
pub(super) fn start(body: &str) -> Server {
    start_text(&format!("https://.:0 {{\n bind 127.0.0.1\n {body}\n}}\n"), 1)
}

/// An upstream over TCP that answers names below `first` only after a query below `release`.
fn holding() -> SocketAddr {
    let held: Mutex<Vec<(TcpStream, Vec<u8>)>> = Mutex::default();
    let (address, _) = upstream(listen(), move |mut stream| {
        loop {
            let query = read_message(&mut stream)?;
            let answer = crate::kit::answer_to(&query);
            let name = query.to_ascii_lowercase();
            let has = |label: &[u8]| name.windows(label.len()).any(|window| window == label);
            let mut held = held.lock().unwrap();
            if has(b"\x05first") {
                held.push((stream.try_clone()?, answer));
                continue;
            }
            if has(b"\x07release") {
                for (mut stream, answer) in held.drain(..) {
                    stream.write_all(&framed(&answer))?;
                }
            }
            stream.write_all(&framed(&answer))?;
        }
    });
    address
}

pub(super) fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.addresses()[0]).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

pub(super) fn get(message: &[u8]) -> Vec<u8> {
    let text = base64(message);
    format!("GET /dns-query?dns={text} HTTP/1.1\r\nHost: dns.test\r\n\r\n").into_bytes()
}

/// A POST with `fields`, each with its end of line.
fn post(fields: &str, message: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /dns-query HTTP/1.1\r\nHost: dns.test\r\n{fields}Content-Length: {}\r\n\r\n",
        message.len()
    );
    [head.as_bytes(), message].concat()
}

const TYPE: &str = "Content-Type: application/dns-message\r\n";

pub(super) struct Response {
    pub(super) status: u16,
    head: String,
    body: Vec<u8>,
}

/// Reads a response. `None`: the connection is closed.
pub(super) fn try_response(stream: &mut impl Read, has_body: bool) -> Option<Response> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let len =
        head.split("content-length: ").nth(1).map_or("0", |rest| rest.lines().next().unwrap());
    let mut body = vec![0; if has_body { len.parse().unwrap() } else { 0 }];
    stream.read_exact(&mut body).ok()?;
    Some(Response { status: head[9..12].parse().unwrap(), head, body })
}

pub(super) fn response(stream: &mut impl Read) -> Response {
    try_response(stream, true).expect("a response")
}

fn ask(stream: &mut (impl Read + Write), name: &str) {
    let query = query_for(0, name, A);
    stream.write_all(&get(&query)).unwrap();
    let response = response(stream);
    assert_eq!(response.status, 200, "{}", response.head);
    assert!(is_right(&query, &response.body), "{name}: {:x?}", response.body);
}

#[test]
fn each_request_that_carries_no_query_gets_its_status() {
    let upstreams = responder(&[Behaviour::Answer]);
    let acl = "acl {\n drop type TXT\n }";
    let server =
        start(&format!("{acl}\n forward . {} {{\n prefer_udp\n }}", upstreams.addresses()[0]));
    let good = query_for(0, "a.test", A);
    let path = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: m\r\n\r\n").into_bytes();
    let dns = base64(&good);
    let method = [b"PUT".to_vec(), get(&good)[3..].to_vec()].concat();
    let version = String::from_utf8(get(&good)).unwrap().replace("1.1", "3.1").into_bytes();
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("GET", get(&good), 200),
        ("other parameters", path(&format!("/dns-query?x=1&dns={dns}&y")), 200),
        ("POST", post(TYPE, &good), 200),
        (
            "a parameter of the type",
            post("Content-Type: application/dns-message; x=y\r\n", &good),
            200,
        ),
        ("the root", path("/"), 404),
        ("another path", path(&format!("/resolve?dns={dns}")), 404),
        ("PUT", method, 405),
        ("no parameter", path("/dns-query"), 400),
        ("two parameters", path(&format!("/dns-query?dns={dns}&dns={dns}")), 400),
        ("padding of base64", path(&format!("/dns-query?dns={dns}=")), 400),
        ("a short message", get(&good[..11]), 400),
        ("no DNS", get(&[0xff; 40]), 400),
        ("half a question", get(&good[..20]), 400),
        ("a long body", post(TYPE, &[0; 4_097]), 413),
        ("a long parameter", path(&format!("/dns-query?dns={}", "A".repeat(5_463))), 414),
        ("another type", post("Content-Type: application/json\r\n", &good), 415),
        ("no type", post("", &good), 415),
        ("a long head", post(&format!("X: {}\r\n", "a".repeat(9_000)), &good), 431),
        ("dropped by acl", get(&query_for(0, "a.test", TXT)), 500),
        ("another version", version, 505),
    ];
    for (what, request, status) in &cases {
        let mut stream = connect(&server);
        stream.write_all(request).unwrap();
        let response = response(&mut stream);
        assert_eq!(response.status, *status, "{what}: {}", response.head);
        assert_eq!(response.head.contains("allow: GET, HEAD, POST\r\n"), *status == 405, "{what}");
        let kind = if *status == 200 { "application/dns-message" } else { "text/plain" };
        assert!(response.head.contains(&format!("content-type: {kind}")), "{}", response.head);
        assert!(!response.body.is_empty(), "{what}");
        if *status == 200 {
            assert!(is_right(&good, &response.body), "{what}");
        }
    }
    server.stop();
}

/// A server with a zone, whose name `big` has 160 strings of 250 bytes.
fn authority(test: &str) -> (Server, ZoneFile) {
    authority_with(test, "")
}

/// The same with more directives.
pub(super) fn authority_with(test: &str, more: &str) -> (Server, ZoneFile) {
    let strings = (0..160).map(|number| format!("big TXT \"{number:0>250}\"\n"));
    let names = "alias 300 CNAME www\nwww 45 A 192.0.2.2\n";
    let zone = ZoneFile::new(test, &[names.to_owned(), strings.collect()].concat());
    let body = zone.body("").replace("}", "}\n transfer z {\n to *\n }");
    (start(&format!("{body}\n{more}")), zone)
}

#[test]
fn the_age_of_a_response_is_the_shortest_ttl_or_that_of_the_denial() {
    let (server, _zone) = authority("https-age");
    let mut stream = connect(&server);
    let cases = [("alias.z", A, 45, 0), ("none.z", A, 5, 3), ("www.z", TXT, 5, 0)];
    for (name, rtype, age, rcode) in cases {
        let query = query_for(0, name, rtype);
        stream.write_all(&get(&query)).unwrap();
        let answer = response(&mut stream);
        assert!(
            answer.head.contains(&format!("cache-control: max-age={age}\r\n")),
            "{}",
            answer.head
        );
        assert_eq!((&answer.body[..2], answer.body[3] & 15), (&[0, 0][..], rcode), "{name}");
        let head = [b"HEAD".to_vec(), get(&query)[3..].to_vec()].concat();
        stream.write_all(&head).unwrap();
        let empty = try_response(&mut stream, false).unwrap();
        assert_eq!(empty.head, answer.head, "HEAD");
    }
    let query = query_for(7, "z", AXFR);
    stream.write_all(&get(&query)).unwrap();
    let refused = response(&mut stream);
    assert_eq!((refused.status, refused.body[3] & 15), (200, 5), "a transfer");
    server.stop();
}

#[test]
fn large_answers_are_whole() {
    let (server, _zone) = authority("https-large");
    let query = query_for(0, "big.z", TXT);
    let mut stream = connect(&server);
    stream.write_all(&get(&query)).unwrap();
    let answer = response(&mut stream).body;
    assert!(answer.len() > 40_000 && answer[2] & 2 == 0, "{} bytes", answer.len());
    let mut stream = connect(&server);
    stream.write_all(&[preface(), get2(1, &query)].concat()).unwrap();
    let (number, same) = body2(&mut stream);
    assert_eq!((number, same.len()), (1, answer.len()));
    server.stop();
}

#[test]
fn many_large_answers_reach_a_client_that_has_ended_its_side() {
    let (server, _zone) = authority("https-many");
    let query = query_for(0, "big.z", TXT);
    for count in [1, 20, 100] {
        let mut stream = connect(&server);
        stream.write_all(&get(&query).repeat(count)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        for number in 0..count {
            let answer = try_response(&mut stream, true);
            assert!(answer.is_some_and(|answer| answer.body.len() > 40_000), "{number} of {count}");
        }
        assert!(try_response(&mut stream, true).is_none());
    }
    server.stop();
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    // More than a connection may have outstanding, so that requests wait behind the first response.
    for count in [1, 127, 128, 129, 300, 1_000] {
        let server = start(&format!("forward . {}", holding()));
        let names = (0..count).map(|number| format!("n{number}.test"));
        let names: Vec<_> = std::iter::once("a.first.test".to_owned()).chain(names).collect();
        let queries: Vec<_> = names.iter().map(|name| query_for(0, name, A)).collect();
        let mut stream = connect(&server);
        let mut writer = stream.try_clone().unwrap();
        let all: Vec<_> = queries.iter().flat_map(|query| get(query)).collect();
        let writing = std::thread::spawn(move || writer.write_all(&all).unwrap());
        let waiting = count.min(127);
        until("all others are answered", || {
            (sum(&server.stats()).replied() == waiting as u64).then_some(())
        });
        ask(&mut connect(&server), "release.test");
        for query in &queries {
            assert!(is_right(query, &response(&mut stream).body), "{count}: {query:x?}");
        }
        writing.join().unwrap();
        server.stop();
    }
}

#[test]
fn a_slow_writer_that_awaits_100_and_ends_its_side_is_answered() {
    let upstreams = responder(&[Behaviour::Answer]);
    let server = start(&format!("forward . {} {{\n prefer_udp\n }}", upstreams.addresses()[0]));
    let query = query_for(9, "a.test", A);
    let mut stream = connect(&server);
    stream.set_nodelay(true).unwrap();
    let fields = format!("{TYPE}Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n");
    let head = format!("POST /dns-query HTTP/1.1\r\nHost: m\r\n{fields}\r\n");
    let bytewise = |bytes: &[u8], stream: &mut TcpStream| {
        bytes.iter().for_each(|byte| stream.write_all(&[*byte]).unwrap());
    };
    bytewise(head.as_bytes(), &mut stream);
    assert_eq!(response(&mut stream).status, 100);
    let (start, end) = query.split_at(5);
    let len = format!("{:x}", end.len());
    let chunks = [b"5\r\n", start, b"\r\n", len.as_bytes(), b"\r\n", end];
    bytewise(&[&chunks.concat()[..], b"\r\n0\r\n\r\n"].concat(), &mut stream);
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(is_right(&query, &response(&mut stream).body));
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "closed");
    server.stop();
}

#[test]
fn a_cancelled_stream_leaves_nothing_behind() {
    let server = start(&format!("forward . {}", holding()));
    let mut stream = connect(&server);
    stream.write_all(&preface()).unwrap();
    // Twice as many as may be outstanding, over the time; each is cancelled before its answer.
    for round in 0..4 {
        for number in 0..64_u32 {
            let id = 1 + 2 * (round * 65 + number);
            let query = query_for(0, &format!("n{id}.first.test"), A);
            stream.write_all(&get2(id, &query)).unwrap();
        }
        let asked = u64::from((round + 1) * 64 + round);
        until("all are outstanding", || (sum(&server.stats()).queries >= asked).then_some(()));
        for number in 0..64_u32 {
            let id = 1 + 2 * (round * 65 + number);
            stream.write_all(&frame(3, 0, id, &8_u32.to_be_bytes())).unwrap();
        }
        let id = 1 + 2 * (round * 65 + 64);
        let query = query_for(0, &format!("n{round}.release.test"), A);
        stream.write_all(&get2(id, &query)).unwrap();
        let (number, answer) = body2(&mut stream);
        assert_eq!(number, id, "only this one is answered");
        assert!(is_right(&query, &answer));
    }
    until("nothing is outstanding", || {
        let stats = sum(&server.stats());
        (stats.queries == stats.replied()).then_some(())
    });
    server.stop();
}

#[test]
fn the_address_that_a_proxy_names_counts_only_from_a_trusted_proxy() {
    let acl = "acl {\n block net 192.0.2.0/24\n }\n whoami";
    for (forwarded, rcode) in [("127.0.0.0/8", 5), ("198.51.100.0/24", 0)] {
        let server = start(&format!("https {{\n forwarded {forwarded}\n }}\n {acl}"));
        let mut stream = connect(&server);
        let request =
            post(&format!("{TYPE}X-Forwarded-For: 192.0.2.9\r\n"), &query_for(0, "a.test", A));
        stream.write_all(&request).unwrap();
        let answer = response(&mut stream);
        assert_eq!((answer.status, answer.body[3] & 15), (200, rcode), "{forwarded}");
        server.stop();
    }
}

#[test]
fn a_reload_changes_paths_and_trusted_proxies_of_open_connections() {
    let config = |port: u16, https: &str| {
        let acl = "acl {\n block net 192.0.2.0/24\n }\n whoami";
        let text =
            format!("https://.:{port} {{\n bind 127.0.0.1\n https {{\n {https}\n }}\n {acl}\n}}\n");
        load(&text, &[])
    };
    let mut server = start_with(config(0, "forwarded 127.0.0.0/8\n path /dns-query"), 1);
    let mut stream = connect(&server);
    let request =
        post(&format!("{TYPE}X-Forwarded-For: 192.0.2.9\r\n"), &query_for(0, "a.test", A));
    let mut ask = || {
        stream.write_all(&request).unwrap();
        let answer = response(&mut stream);
        (answer.status, answer.body.get(3).map(|flags| flags & 15))
    };
    assert_eq!(ask(), (200, Some(5)), "from the address that the proxy names");
    let port = server.addresses()[0].port();
    server.reload(config(port, "forwarded 198.51.100.0/24\n path /dns-query")).unwrap();
    assert_eq!(ask(), (200, Some(0)), "the proxy is trusted no more");
    server.reload(config(port, "path /other")).unwrap();
    assert_eq!(ask().0, 404);
    server.stop();
}

/// A client over TLS that offers these protocols.
fn secure(
    server: &Server,
    authority: &Authority,
    protocol: &[u8],
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut config: ClientConfig = authority.client();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = "dns.test".try_into().unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(session, connect(server))
}

#[test]
fn a_reload_changes_the_certificate_and_a_removed_listener_answers_what_it_has_read() {
    let (authority, address) = (Authority::new("good"), holding());
    let text = |keys: &str| {
        let ip = if keys.starts_with("https") { "127.0.0.1" } else { "127.0.0.2" };
        format!("{keys} {{\n bind {ip}\n tls cert.pem key.pem\n forward . {address}\n}}\n")
    };
    let config = |keys: &str| {
        let own = authority.issue(&["dns.test"]);
        load(&text(keys), &[("cert.pem", &own.certificate), ("key.pem", &own.key)])
    };
    let mut server = start_with(config("https://.:0"), 1);
    let key = format!("https://.:{}", server.addresses()[0].port());
    let mut old = secure(&server, &authority, b"http/1.1");
    ask(&mut old, "a.test");
    server.reload(config(&key)).unwrap();
    ask(&mut old, "b.test");
    let mut new = secure(&server, &authority, b"h2");
    let query = query_for(0, "b.first.test", A);
    new.write_all(&[preface(), get2(1, &query)].concat()).unwrap();
    new.flush().unwrap();
    let shown = |stream: &StreamOwned<ClientConnection, TcpStream>| {
        stream.conn.peer_certificates().unwrap()[0].to_vec()
    };
    until("the query is read", || (sum(&server.stats()).queries == 3).then_some(()));
    assert_ne!(shown(&old), shown(&new));
    server.reload(config("tls://.:0")).unwrap();
    // The query was read, so it is answered behind a GOAWAY that names it.
    let before = std::iter::from_fn(|| read_frame(&mut new)).find(|(kind, ..)| *kind == GOAWAY);
    let (.., payload) = before.expect("a GOAWAY");
    assert_eq!(payload[..8], [0, 0, 0, 1, 0, 0, 0, 0]);
    let release = query_for(1, "release.test", A);
    let mut direct = TcpStream::connect(address).unwrap();
    direct.write_all(&framed(&release)).unwrap();
    assert!(is_right(&query, &body2(&mut new).1));
    assert!(read_frame(&mut new).is_none(), "closed");
    server.stop();
}

#[test]
fn the_client_of_loadgen_asks_with_and_without_tls() {
    let (authority, upstream) = (Authority::new("good"), responder(&[Behaviour::Answer]));
    let identity = authority.issue(&["dns.test"]);
    let files = [("cert.pem", &*identity.certificate), ("key.pem", &*identity.key)];
    let pem = Pem {
        path: "ca.pem".into(),
        place: std::path::PathBuf::new(),
        bytes: authority.pem().into_bytes().into(),
    };
    let name = Some("dns.test".to_owned());
    let settings = ClientTls { name, authorities: Some(pem), ..ClientTls::default() };
    for (tls, alpn, pipeline) in
        [(false, Alpn::Http, 500), (true, Alpn::Http, 500), (true, Alpn::Http2, 3)]
    {
        let own = if tls { "tls cert.pem key.pem" } else { "" };
        let text = format!(
            "https://.:0 {{\n bind 127.0.0.1\n {own}\n forward . {}\n}}\n",
            upstream.addresses()[0]
        );
        let server = start_with(load(&text, &files), 1);
        let mut options = Options::closed(vec![server.addresses()[0]], 600, TIMEOUT, SEED);
        (options.sockets, options.limit, options.timeout) = (2, Some(3_000), TIMEOUT);
        options.transport = Transport::Connections { queries: Some(700), pipeline };
        options.doh = true;
        let settings = Arc::new(ClientTls { alpn, ..settings.clone() });
        options.tls = tls.then_some(Tls { settings, forgetful: false });
        let tally = client::run(&options).unwrap().join().unwrap();
        assert_all_answered(&tally, 3_000);
        assert!(tally.counts.reconnects >= 2, "{:?}", tally.counts);
        assert_eq!(sum(&server.stats()).queries, 3_000);
        server.stop();
    }
}
