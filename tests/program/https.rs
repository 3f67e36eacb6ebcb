//! DNS over HTTPS and gRPC with third-party programs, and what only the whole process shows.
//!
//! curl, kdig, dig, nghttp, h2load, dnsdist and the gRPC library of Python are clients. Skipped,
//! with a message, where they are not installed (Debian: curl, knot-dnsutils, bind9-dnsutils,
//! nghttp2-client, dnsdist, python3-grpcio). Of Debian 12, unbound has no client of DNS over HTTPS.

use super::certs::Authority;
use super::dot::{Site, kdig, responder, run, until_answered};
use super::http2::{GOAWAY, base64, body2, get2, preface, read_frame};
use super::process::{Program, Stranger, TIMEOUT};
use crate::installed::is_installed;
use crossbeam_channel::{Receiver, Sender};
use onward::traffic::answer::{Behaviour, is_right};
use onward::traffic::upstream::Upstream;
use rustls::{ClientConnection, StreamOwned};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

const TLS: &str = "tls cert.pem key.pem";
/// Maximum memory of an idle client: buffers, the TLS session, and the session of the library of
/// HTTP/2, whose frame buffer of 16 KB is mostly untouched.
const IDLE_BYTES_MAX: u64 = 24 << 10;

/// Returns a query for an address of `name`.
pub(super) fn query(name: &str) -> Vec<u8> {
    let mut query = b"\0\0\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend(b"\0\0\x01\0\x01");
    query
}

/// onward with this scheme in front of an upstream, with TLS.
fn serve(site: &Site, scheme: &str, upstream: &Upstream) -> (Program, SocketAddr) {
    site.onward(scheme, &format!("{TLS}\n forward . {}", upstream.addresses()[0]))
}

#[test]
fn curl_gets_posts_and_asks_for_heads_over_both_versions() {
    if !is_installed("curl") {
        return;
    }
    let (site, upstream) = (Site::new("curl"), responder());
    let (_onward, server) = serve(&site, "https://", &upstream);
    let (ca, question, reply) = (site.path("ca.pem"), site.path("question"), site.path("reply"));
    let message = query("a.test");
    fs::write(&question, &message).unwrap();
    let connect = format!("dns.test:443:127.0.0.1:{}", server.port());
    let url = format!("https://dns.test/dns-query?dns={}", base64(&message));
    let content_type = "content-type: application/dns-message";
    let body = format!("@{question}");
    let cases: [(&str, &[&str]); 3] = [
        ("GET", &[&url]),
        ("POST", &["-H", content_type, "--data-binary", &body, "https://dns.test/dns-query"]),
        ("HEAD", &["-I", &url]),
    ];
    for version in ["--http1.1", "--http2"] {
        for (method, arguments) in cases {
            let _ = fs::remove_file(&reply);
            let fixed = ["-sS", "--cacert", &ca, "--connect-to", &connect, version, "-o", &reply];
            let shown = ["-w", "%{http_code} %{http_version} %{content_type}"];
            let said = run("curl", &[&fixed[..], &shown, arguments].concat());
            let number = if version == "--http2" { "2" } else { "1.1" };
            assert_eq!(said, format!("200 {number} application/dns-message"), "{method}");
            if method != "HEAD" {
                assert!(is_right(&message, &fs::read(&reply).unwrap()), "{method} {version}");
            }
        }
        // Its body is larger than a query, and is sent before the refusal is read.
        let large = site.path("large");
        fs::write(&large, [0; 20_000]).unwrap();
        let fixed = ["-sS", "--cacert", &ca, "--connect-to", &connect, version, "-H", content_type];
        let body = format!("@{large}");
        let rest = ["--data-binary", &body, "-w", "%{http_code}", "https://dns.test/dns-query"];
        let said = run("curl", &[&fixed[..], &rest].concat());
        assert!(said.ends_with("\n413"), "{said}");
    }
}

#[test]
fn kdig_and_dig_ask_by_get_and_post() {
    if !is_installed("kdig") || !is_installed("dig") {
        return;
    }
    let (site, upstream) = (Site::new("kdig_https"), responder());
    let (_onward, server) = serve(&site, "https://", &upstream);
    let (port, file) = (server.port().to_string(), site.path("ca.pem"));
    let ca = format!("+tls-ca={file}");
    for method in ["+https", "+https-get"] {
        let arguments =
            [&*ca, "+https=/dns-query", method, "+tls-hostname=dns.test", "a.test", "A"];
        let said = kdig(server, &arguments);
        assert!(said.contains("status: NOERROR") && said.contains("HTTP/2"), "{said}");
        let fixed = ["@127.0.0.1", "-p", &port, "+tries=1", "+tls-hostname=dns.test", &ca];
        let said = run("dig", &[&fixed[..], &[method, "a.test", "A"]].concat());
        assert!(said.contains("status: NOERROR") && said.contains("(HTTPS"), "{said}");
    }
    let plain = Site::new("dig_plain");
    let (_plain, server) =
        plain.onward("https://", &format!("forward . {}", upstream.addresses()[0]));
    let port = server.port().to_string();
    for method in ["+http-plain", "+http-plain-get"] {
        let said = run("dig", &["@127.0.0.1", "-p", &port, "+tries=1", method, "a.test", "A"]);
        assert!(said.contains("status: NOERROR") && said.contains("(HTTP"), "{said}");
    }
}

#[test]
fn nghttp_and_h2load_see_only_responses() {
    if !is_installed("nghttp") || !is_installed("h2load") {
        return;
    }
    let (site, upstream) = (Site::new("h2load"), responder());
    let (_onward, server) = serve(&site, "https://", &upstream);
    let url = format!("https://{server}/dns-query?dns={}", base64(&query("a.test")));
    let said = run("nghttp", &["-nv", "--no-verify-peer", &url]);
    assert!(said.contains(":status: 200") && said.contains("cache-control: max-age="), "{said}");
    assert!(!said.contains("RST_STREAM") && !said.contains("INVALID"), "{said}");
    for version in ["h2", "http/1.1"] {
        let protocol = format!("--npn-list={version}");
        let load = ["-n", "5000", "-c", "10", "-m", "50", &protocol, &url];
        let said = run("h2load", &load);
        assert!(said.contains("5000 succeeded, 0 failed, 0 errored"), "{version}: {said}");
        assert!(said.contains("status codes: 5000 2xx"), "{version}: {said}");
    }
}

#[test]
fn dnsdist_asks_us_over_https() {
    if !is_installed("dnsdist") || !is_installed("kdig") {
        return;
    }
    let (site, upstream) = (Site::new("dnsdist_client"), responder());
    let (_onward, server) = serve(&site, "https://", &upstream);
    let configuration = format!(
        "newServer({{address=\"{server}\", tls=\"openssl\", subjectName=\"dns.test\", \
         caStore=\"{}\", validateCertificates=true, dohPath=\"/dns-query\", \
         checkInterval=3600}})",
        site.path("ca.pem"),
    );
    let (_dnsdist, dnsdist) = site.dnsdist(&configuration);
    until_answered(dnsdist);
    for number in 0..50 {
        let said = kdig(dnsdist, &["+time=5", &format!("n{number}.test"), "A"]);
        assert!(said.contains("status: NOERROR") && said.contains("ANSWER: 1"), "{said}");
    }
}

/// A client that sends the messages in hexadecimal of its command line; prints replies and codes.
const GRPC_CLIENT: &str = "
import grpc, sys
target, authority, method = sys.argv[1:4]
credentials = grpc.ssl_channel_credentials(open(authority, 'rb').read())
name = (('grpc.ssl_target_name_override', 'dns.test'),)
channel = grpc.secure_channel(target, credentials, name)
call = channel.unary_unary(method)
for text in sys.argv[4:]:
    try:
        print(call(bytes.fromhex(text), timeout=10).hex())
    except grpc.RpcError as error:
        print(error.code().name)
";

#[test]
fn the_library_of_grpc_asks_us() {
    let python = "/usr/bin/python3";
    if !run(python, &["-c", "import grpc; print('here')"]).contains("here") {
        eprintln!("SKIPPED: python3-grpcio is not installed");
        return;
    }
    let (site, upstream) = (Site::new("grpc"), responder());
    let (_onward, server) = serve(&site, "grpc://", &upstream);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let message = query("a.test");
    let packet = hex(&[&[0x0a, message.len() as u8], &message[..]].concat());
    let (target, ca) = (server.to_string(), site.path("ca.pem"));
    let ask = |method: &str, packets: &[&str]| {
        let fixed = ["-c", GRPC_CLIENT, &target, &ca, method];
        run(python, &[&fixed[..], packets].concat())
    };
    let said = ask("/coredns.dns.DnsService/Query", &[&packet, "0a03414243", &packet]);
    let lines: Vec<_> = said.lines().collect();
    let [first, malformed, last] = lines[..] else { panic!("{said}") };
    assert_eq!((malformed, first), ("INVALID_ARGUMENT", last), "{said}");
    let byte = |at: usize| u8::from_str_radix(&first[at..at + 2], 16).unwrap();
    let reply: Vec<_> = (0..first.len()).step_by(2).map(byte).collect();
    assert_eq!((reply[0], usize::from(reply[1])), (0x0a, reply.len() - 2));
    assert!(is_right(&message, &reply[2..]));
    assert_eq!(ask("/coredns.dns.DnsService/Watch", &[&packet]).trim(), "UNIMPLEMENTED");
}

/// An upstream over TCP that answers when the test says so.
struct Holding {
    address: SocketAddr,
    /// Queries, with their connections.
    asked: Receiver<(TcpStream, Vec<u8>)>,
}

impl Holding {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, asked) = crossbeam_channel::unbounded();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let sender = sender.clone();
                std::thread::spawn(move || pass_on(stream, &sender));
            }
        });
        Self { address, asked }
    }

    #[track_caller]
    fn asked(&self) -> (TcpStream, Vec<u8>) {
        self.asked.recv_timeout(TIMEOUT).expect("a query")
    }
}

/// Passes on the queries of a connection until it ends.
fn pass_on(mut stream: TcpStream, sender: &Sender<(TcpStream, Vec<u8>)>) -> std::io::Result<()> {
    loop {
        let mut len = [0; 2];
        stream.read_exact(&mut len)?;
        let mut query = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut query)?;
        if sender.send((stream.try_clone()?, query)).is_err() {
            return Ok(());
        }
    }
}

fn release((mut stream, query): (TcpStream, Vec<u8>)) {
    let mut response = vec![0; 512];
    let len = onward::traffic::answer::respond(&query, Behaviour::Answer, &mut response).unwrap();
    stream.write_all(&(len as u16).to_be_bytes()).unwrap();
    stream.write_all(&response[..len]).unwrap();
}

/// At the end of a process, and when a successor takes over, a query that was read is answered
/// behind a GOAWAY that names it.
#[test]
fn queries_that_were_read_are_answered_when_the_process_ends() {
    for signal in ["TERM", "USR2"] {
        let (site, upstream) = (Site::new(&format!("https_{signal}")), Holding::new());
        let body = format!("forward . {} {{\n health_check 1h\n }}", upstream.address);
        let (mut onward, server) = site.onward("https://", &body);
        // The successor reads the port that the kernel has chosen.
        let file = site.path("Corefile");
        let port = format!("https://.:{}", server.port());
        fs::write(&file, fs::read_to_string(&file).unwrap().replace("https://.:0", &port)).unwrap();
        let mut stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let message = query("a.test");
        stream.write_all(&[preface(), get2(1, &message)].concat()).unwrap();
        let asked = upstream.asked();
        onward.signal(signal);
        let mut frames = std::iter::from_fn(|| read_frame(&mut stream));
        let (.., payload) = frames.find(|(kind, ..)| *kind == GOAWAY).expect("a GOAWAY");
        assert_eq!(payload[..8], [0, 0, 0, 1, 0, 0, 0, 0], "{signal}");
        release(asked);
        let (number, answer) = body2(&mut stream);
        assert!(number == 1 && is_right(&message, &answer), "{signal}");
        assert!(read_frame(&mut stream).is_none(), "{signal}: closed");
        if signal == "USR2" {
            let line = onward.wait_for("upgrade complete");
            let next = line.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
            let _next = Stranger::new(next);
            let mut stream = TcpStream::connect(server).unwrap();
            stream.set_read_timeout(Some(TIMEOUT)).unwrap();
            stream.write_all(&[preface(), get2(1, &message)].concat()).unwrap();
            release(upstream.asked());
            assert!(is_right(&message, &body2(&mut stream).1), "the successor");
        }
        assert_eq!(onward.wait(), Some(0), "{signal}");
    }
}

/// Memory of a process that no file backs.
pub(super) fn memory(program: &Program) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn idle_clients_cost_little_memory() {
    let (site, upstream) = (Site::new("https_idle"), responder());
    let body =
        format!("{TLS}\n timeouts {{\n idle 1h\n }}\n forward . {}", upstream.addresses()[0]);
    let (onward, server) = site.onward("https://", &body);
    let mut config = Authority::trusting(&fs::read_to_string(site.path("ca.pem")).unwrap());
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    let message = query("a.test");
    let connect = || {
        let name = "dns.test".try_into().unwrap();
        let session = ClientConnection::new(Arc::clone(&config), name).unwrap();
        let stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut stream = StreamOwned::new(session, stream);
        stream.write_all(&[preface(), get2(1, &message)].concat()).unwrap();
        assert!(is_right(&message, &body2(&mut stream).1));
        stream
    };
    let mut clients: Vec<_> = (0..50).map(|_| connect()).collect();
    let before = memory(&onward);
    let count = 400;
    clients.extend((0..count).map(|_| connect()));
    let each = memory(&onward).saturating_sub(before) / count;
    println!("{each} bytes for an idle client");
    assert!(each <= IDLE_BYTES_MAX, "{each} bytes each");
}
