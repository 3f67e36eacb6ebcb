//! DNS over HTTP/3 (RFC 8484, RFC 9114) on real sockets: statuses, limits, reload and the end.
//!
//! The client's QUIC is the library's, its HTTP/3 is written by hand. What an endpoint does with
//! the streams of any client is tested beside the rooms `quic` and `http`, in memory.

use crate::doh3::{Doh3, get};
use crate::doq::Doq;
use crate::doq_server::{Site, free_port};
use crate::http2::base64;
use crate::http3::{
    DNS_MESSAGE, GET, GOAWAY, HEAD, POST, PUT, field, frame, frames, post, request, response,
};
use crate::kit::{answer_to, query_for};
use crate::until::until;
use crate::zones::ZoneFile;
use crate::{TIMEOUT, any_port, start_with, sum};
use onward::config::Endpoint;
use onward::engine::stats::DropReason;
use onward::server::Server;
use onward::traffic::answer::is_right;
use quinn_proto::{Dir, Side, StreamId, VarInt};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

const A: u16 = 1;
const TXT: u16 = 16;
const NO_ERROR: u64 = 0x100;
const FRAME_UNEXPECTED: u64 = 0x105;
const EXCESSIVE_LOAD: u64 = 0x107;
const MESSAGE_ERROR: u64 = 0x10e;

/// Returns a port that is free for UDP and for TCP.
fn free_ports() -> u16 {
    let both = || {
        let address = TcpListener::bind(any_port()).unwrap().local_addr().unwrap();
        UdpSocket::bind(address).is_ok().then(|| address.port())
    };
    std::iter::repeat_with(both).flatten().next().expect("an infinite iterator")
}

/// A server with a block of these zones; `body` is beside `bind` and `tls`.
fn serve(site: &Site, keys: &str, body: &str) -> Server {
    let text = format!("{keys} {{\n bind 127.0.0.1\n tls cert.pem key.pem\n {body}\n}}\n");
    start_with(site.load(&text), 1)
}

/// The same with `https3://.`, and a `forward` to the site's upstream.
fn start(site: &Site, body: &str) -> Server {
    let upstream = site.upstreams.addresses()[0];
    serve(site, "https3://.:0", &format!("forward . {upstream} {{\n prefer_udp\n }}\n {body}"))
}

fn dial(site: &Site, server: &Server) -> Doh3 {
    Doh3::dial(server.addresses()[0], site.client())
}

#[track_caller]
fn ask(client: &mut Doh3, name: &str) {
    let query = query_for(0, name, A);
    let reply = client.ask(&query);
    assert!(is_right(&query, &reply), "{name}: {reply:x?}");
}

#[test]
fn each_request_gets_its_status() {
    let site = Site::new();
    let server = start(&site, "acl {\n drop type TXT\n }");
    let good = query_for(0, "a.test", A);
    let dns = base64(&good);
    let path = |method, path: &str| request(method, path, &[]);
    let typed = |kind: &str, body: &[u8]| {
        let head = request(POST, "/dns-query", &[&field("content-type", kind)]);
        [head, frame(0, body)].concat()
    };
    let long = field("x", &"a".repeat(7_990));
    let mut client = dial(&site, &server);
    for (what, bytes, status) in [
        ("GET", get(&good), 200),
        ("other parameters", path(GET, &format!("/dns-query?x=1&dns={dns}&y")), 200),
        ("POST", post("/dns-query", &good), 200),
        ("a parameter of the type", typed("application/dns-message; x=y", &good), 200),
        ("the root", path(GET, "/"), 404),
        ("another path", path(GET, &format!("/resolve?dns={dns}")), 404),
        ("PUT", path(PUT, "/dns-query"), 405),
        ("no parameter", path(GET, "/dns-query"), 400),
        ("two parameters", path(GET, &format!("/dns-query?dns={dns}&dns={dns}")), 400),
        ("padding of base64", path(GET, &format!("/dns-query?dns={dns}=")), 400),
        ("a short message", get(&good[..11]), 400),
        ("no DNS", get(&[0xff; 40]), 400),
        ("half a question", get(&good[..20]), 400),
        ("a long body", post("/dns-query", &[0; 4_097]), 413),
        ("a long parameter", path(GET, &format!("/dns-query?dns={}", "A".repeat(5_463))), 414),
        ("another type", typed("application/json", &good), 415),
        ("no type", [path(POST, "/dns-query"), frame(0, &good)].concat(), 415),
        ("a long head", request(POST, "/dns-query", &[&[DNS_MESSAGE], &long]), 431),
        ("dropped by acl", get(&query_for(0, "a.test", TXT)), 500),
    ] {
        let (found, body) = client.request(&bytes);
        assert_eq!(found, status, "{what}: {}", String::from_utf8_lossy(&body));
        assert!(!body.is_empty(), "{what}");
        if status == 200 {
            assert!(is_right(&good, &body), "{what}");
        }
    }
    let head = request(HEAD, &format!("/dns-query?dns={dns}"), &[]);
    assert_eq!(client.request(&head), (200, Vec::new()));
    server.stop();
}

#[test]
fn refused_requests_and_closed_connections_are_counted() {
    let site = Site::new();
    let server = start(&site, "prometheus 127.0.0.1:0");
    let mut client = dial(&site, &server);
    // A path without a slash, and a query with a body.
    let malformed = [request(GET, "x", &[]), [request(GET, "/", &[]), frame(0, b"x")].concat()];
    for bytes in &malformed {
        let stream = client.quic.send(bytes, true);
        assert_eq!(client.quic.finished(stream).reset, Some(MESSAGE_ERROR));
    }
    ask(&mut client, "a.test");
    let mut other = dial(&site, &server);
    // SETTINGS on the stream of a request.
    other.quic.send(&frame(4, b""), true);
    assert_eq!(other.quic.code(), Some(FRAME_UNEXPECTED));
    let (pages, _) = server.pages().next().expect("metrics are served");
    let count = |name: &str| {
        let (_, text) = crate::http::get(pages, "/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|count| count.parse::<f64>().unwrap())
    };
    until("all are counted", || {
        let streams = count("onward_quic_streams_refused_total")?;
        let connections = count("onward_quic_connections_aborted_total")?;
        (streams == 2.0 && connections == 1.0).then_some(())
    });
    server.stop();
}

#[test]
fn a_connection_carries_many_requests_at_once() {
    let site = Site::new();
    let server = start(&site, "");
    let mut client = dial(&site, &server);
    let queries: Vec<_> =
        (0..300).map(|number| query_for(0, &format!("n{number}.test"), A)).collect();
    let streams: Vec<_> = queries.iter().map(|query| client.quic.send(&get(query), true)).collect();
    for (query, stream) in queries.iter().zip(streams) {
        let received = client.quic.finished(stream);
        let (status, reply) = response(&received.bytes);
        assert!(status == 200 && is_right(query, &reply), "{reply:x?}");
    }
    let stats = sum(&server.stats());
    assert_eq!((stats.handshakes.full, stats.connections), (1, 1));
    client.quic.close();
    until("the connection is forgotten", || {
        (server.snapshots().iter().map(|own| own.connections).sum::<usize>() == 0).then_some(())
    });
    server.stop();
}

#[test]
fn large_answers_are_whole() {
    let site = Site::new();
    let strings = (0..160).map(|number| format!("big TXT \"{number:0>250}\"\n"));
    let zone = ZoneFile::new("doh3-large", &strings.collect::<String>());
    let server = serve(&site, "https3://.:0", &zone.body(""));
    let mut client = dial(&site, &server);
    let answer = client.ask(&query_for(0, "big.z", TXT));
    assert!(answer.len() > 40_000 && answer[2] & 2 == 0, "{} bytes", answer.len());
    server.stop();
}

#[test]
fn paths_and_proxies_are_those_of_https() {
    let site = Site::new();
    let body = "https {\n path /q\n forwarded 127.0.0.0/8\n }\n \
                acl {\n block net 192.0.2.0/24\n }\n whoami";
    let server = serve(&site, "https3://.:0", body);
    let mut client = dial(&site, &server);
    let query = query_for(0, "a.test", A);
    assert_eq!(client.request(&get(&query)).0, 404);
    for (address, rcode) in [("192.0.2.9", 5), ("198.51.100.9", 0)] {
        let dns = base64(&query);
        let lines: [&[u8]; 1] = [&field("x-forwarded-for", address)];
        let (status, reply) = client.request(&request(GET, &format!("/q?dns={dns}"), &lines));
        assert_eq!((status, reply[3] & 15), (200, rcode), "{address}");
    }
    server.stop();
}

#[test]
fn answers_over_tcp_offer_http_3_where_the_same_zones_are_served() {
    let site = Site::new();
    let upstream = site.upstreams.addresses()[0];
    let port = free_ports();
    let body = |keys: &str| {
        format!(
            "{keys} {{\n bind 127.0.0.1\n tls cert.pem key.pem\n forward . {upstream} {{\n \
             prefer_udp\n }}\n}}\n"
        )
    };
    let both = body(&format!("https://.:{port} https3://.:{port}"));
    // The client is a proxy, whose own clients reach another address.
    let proxied = both.replace("bind", "https {\n forwarded 127.0.0.1\n }\n bind");
    let apart = [body(&format!("https://z.:{port} https://.:{port}")), String::new()].concat();
    let partly = body(&format!("https://z.:{port}")) + &body(&format!("https3://.:{port}"));
    let cases = [(both, true), (proxied, false), (apart, false), (partly, false)];
    for (text, is_offered) in cases {
        let server = start_with(site.load(&text), 1);
        let query = query_for(0, "a.z", A);
        let request = format!(
            "GET /dns-query?dns={} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n",
            base64(&query)
        );
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        let tls = std::sync::Arc::new(site.client());
        let session = rustls::ClientConnection::new(tls, "dns.test".try_into().unwrap()).unwrap();
        let mut stream = rustls::StreamOwned::new(session, socket);
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).unwrap();
        let head = String::from_utf8_lossy(&response);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let offer = format!("\r\nalt-svc: h3=\":{port}\"; ma=86400\r\n");
        assert_eq!(head.contains(&offer), is_offered, "{text}: {head}");
        if is_offered {
            ask(&mut Doh3::dial(SocketAddr::from(([127, 0, 0, 1], port)), site.client()), "b.z");
        }
        server.stop();
    }
}

#[test]
fn one_process_serves_http_3_and_doq_on_different_ports() {
    let site = Site::new();
    let upstream = site.upstreams.addresses()[0];
    let keys = format!("https3://.:{} quic://.:0", free_port().port());
    let server = serve(&site, &keys, &format!("forward . {upstream}"));
    let [http3, quic] = server.addresses()[..] else { panic!("two listeners") };
    ask(&mut Doh3::dial(http3, site.client()), "a.test");
    let mut doq = Doq::dial(quic, site.client());
    let query = query_for(0, "b.test", A);
    assert!(is_right(&query, &doq.ask(&query)));
    server.stop();
}

#[test]
fn cancelled_requests_do_not_count_as_outstanding() {
    let site = Site::new();
    let upstream = UdpSocket::bind(any_port()).unwrap();
    upstream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let body = format!(
        "acl {{\n filter type MX\n }}\n forward . {} {{\n prefer_udp\n }}",
        upstream.local_addr().unwrap()
    );
    let server = serve(&site, "https3://.:0", &body);
    let mut client = dial(&site, &server);
    let receive = || {
        let mut buffer = [0; 512];
        let (len, from) = upstream.recv_from(&mut buffer).unwrap();
        (buffer[..len].to_vec(), from)
    };
    // More in all than may be outstanding at a time.
    for round in 0..8_u64 {
        let names: Vec<_> = (0..20).map(|number| format!("n{round}-{number}.test")).collect();
        let send = |name: &String| client.quic.send(&get(&query_for(0, name, A)), true);
        let streams: Vec<_> = names.iter().map(send).collect();
        let mut received = std::collections::HashMap::new();
        while received.len() < streams.len() {
            let (packet, from) = receive();
            // Others are probes of the upstream's health.
            if packet.windows(5).any(|window| window.eq_ignore_ascii_case(b"\x04test")) {
                received.insert(packet[12..].to_ascii_lowercase(), (packet, from));
            }
        }
        for stream in streams {
            client.quic.connection.recv_stream(stream).stop(VarInt::from_u32(0x10c)).unwrap();
        }
        // A later query is answered, so the server knows of the ends.
        client.ask(&query_for(0, "a.test", 15));
        for (packet, from) in received.values() {
            upstream.send_to(&answer_to(packet), *from).unwrap();
        }
        until("the replies are dropped", || {
            let dropped = sum(&server.stats()).dropped(DropReason::ReplyNotSent);
            (dropped == (round + 1) * 20).then_some(())
        });
    }
    assert!(client.quic.end.is_none());
    server.stop();
}

#[test]
fn connections_have_the_limits_of_all_client_connections() {
    let site = Site::new();
    let server = start(&site, "https3 {\n max_connections 2\n max_streams 3\n}");
    let mut first = dial(&site, &server);
    ask(&mut first, "a.test");
    let mut second = dial(&site, &server);
    ask(&mut second, "b.test");
    ask(&mut first, "c.test");
    // The one that has been quiet for longest gives way.
    let mut third = dial(&site, &server);
    ask(&mut third, "d.test");
    assert_eq!(second.quic.code(), Some(NO_ERROR));
    for _ in 0..3 {
        third.quic.send(&[1], false);
    }
    assert_eq!(third.quic.connection.streams().open(Dir::Bi), None);
    server.stop();

    let server = start(&site, "https3 {\n max_per_client 1\n}");
    let mut first = dial(&site, &server);
    ask(&mut first, "a.test");
    assert_eq!(dial(&site, &server).quic.code(), Some(EXCESSIVE_LOAD));
    ask(&mut first, "b.test");
    let stats = sum(&server.stats());
    assert_eq!((stats.connections, stats.connections_refused), (1, 1));
    server.stop();
}

/// The payloads of GOAWAY that the server has sent.
fn goaways(client: &Doh3) -> Vec<Vec<u8>> {
    let control = StreamId::new(Side::Server, Dir::Uni, 0);
    let bytes = &client.quic.received[&control].bytes[1..];
    let frames = frames(bytes).into_iter();
    frames.filter(|(kind, _)| *kind == GOAWAY).map(|(_, payload)| payload).collect()
}

#[test]
fn spent_connections_and_removed_listeners_say_goodbye() {
    let site = Site::new();
    let server = start(&site, "timeouts {\n maxtcpqueries 3\n}");
    let mut client = dial(&site, &server);
    for number in 0..3 {
        ask(&mut client, &format!("n{number}.test"));
    }
    assert_eq!(client.quic.code(), Some(NO_ERROR));
    assert_eq!(goaways(&client), [[12]]);
    server.stop();

    let text = |port: u16, path: &str| {
        let upstream = site.upstreams.addresses()[0];
        format!(
            "https3://.:{port} {{\n bind 127.0.0.1\n tls cert.pem key.pem\n https {{\n \
             path {path}\n }}\n forward . {upstream}\n}}\n"
        )
    };
    let mut server = start_with(site.load(&text(0, "/dns-query")), 2);
    let mut client = dial(&site, &server);
    ask(&mut client, "a.test");
    // The settings are those of the new configuration, on the same connection.
    let port = server.addresses()[0].port();
    server.reload(site.load(&text(port, "/q"))).unwrap();
    let query = query_for(0, "b.test", A);
    assert_eq!(client.request(&get(&query)).0, 404);
    assert_eq!(client.request(&post("/q", &query)).0, 200);
    server.reload(site.load(&text(free_port().port(), "/q"))).unwrap();
    assert_eq!(client.quic.code(), Some(NO_ERROR));
    assert_eq!(goaways(&client), [[12]]);
    server.stop();
}

#[test]
fn a_stop_answers_outstanding_requests_first() {
    let site = Site::new();
    let upstream = UdpSocket::bind(any_port()).unwrap();
    upstream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let address = upstream.local_addr().unwrap();
    let body = format!("forward . {address} {{\n prefer_udp\n }}");
    let server = serve(&site, "https3://.:0", &body);
    let (mut busy, mut idle) = (dial(&site, &server), dial(&site, &server));
    let query = query_for(0, "a.test", A);
    let stream = busy.quic.send(&get(&query), true);
    let mut buffer = [0; 512];
    let (mut len, mut from) = upstream.recv_from(&mut buffer).unwrap();
    while !buffer.windows(5).any(|window| window == b"\x04test") {
        // A probe of the upstream's health.
        (len, from) = upstream.recv_from(&mut buffer).unwrap();
    }
    let stopping = std::thread::spawn(move || server.stop());
    assert_eq!(idle.quic.code(), Some(NO_ERROR));
    assert_eq!(goaways(&idle), [[0]]);
    busy.quic.wait("the server says goodbye", |quic| {
        let control = StreamId::new(Side::Server, Dir::Uni, 0);
        let said = &quic.received.get(&control)?.bytes;
        (frames(&said[1..]).last()? == &(GOAWAY, vec![4])).then_some(())
    });
    assert!(busy.quic.end.is_none());
    upstream.send_to(&answer_to(&buffer[..len]), from).unwrap();
    let received = busy.quic.finished(stream);
    let (status, reply) = response(&received.bytes);
    assert!(status == 200 && is_right(&query, &reply), "{reply:x?}");
    assert_eq!(busy.quic.code(), Some(NO_ERROR));
    stopping.join().unwrap();
}

#[test]
fn requests_are_counted_as_those_of_http_3() {
    let site = Site::new();
    let body = format!(
        "prometheus 127.0.0.1:0\n forward . {} {{\n prefer_udp\n }}",
        site.upstreams.addresses()[0]
    );
    let server = serve(&site, "https3://.:0", &body);
    let mut client = dial(&site, &server);
    ask(&mut client, "a.test");
    assert_eq!(client.request(&request(GET, "/", &[])).0, 404);
    let at = format!("https3://{}", server.addresses()[0]);
    let metrics = server.pages().find(|(_, pages)| pages.contains(&Endpoint::Metrics)).unwrap().0;
    let page = crate::http::get(metrics, "/metrics").1;
    for line in [
        format!("coredns_dns_https3_responses_total{{server=\"{at}\",status=\"200\"}} 1"),
        format!("coredns_dns_https3_responses_total{{server=\"{at}\",status=\"404\"}} 1"),
    ] {
        assert!(page.contains(&line), "{line}: {page}");
    }
    let counted = page.lines().find(|line| line.starts_with("coredns_dns_requests_total"));
    assert!(counted.is_some_and(|line| line.contains("proto=\"https3\"")), "{page}");
    server.stop();
}
