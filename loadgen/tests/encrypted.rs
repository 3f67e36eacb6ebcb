//! Client and upstream over HTTPS and QUIC: every query is answered, in both versions of HTTP.
//!
//! Certificates are new in each test. Counts are exact, because timeouts are long; nothing is
//! asserted about the speed of this host. Other programs ask the upstream where they are installed.

mod kit;

use kit::{directory, installed::is_installed, options, over, over_http, run};
use loadgen::dot;
use onward::config::{Alpn, Protocol};
use onward::traffic::client::link::Transport;
use onward::traffic::client::{Load, Options, Tls};
use onward::traffic::schedule::Plan;
use onward::traffic::upstream::script::Script;
use onward::traffic::workload::Source;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Deadline of a run on a busy host.
const DEADLINE: Duration = Duration::from_secs(30);
/// A query for the addresses of `a.test`.
const QUERY: &[u8] = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01";
/// The same as a parameter.
const TARGET: &str = "/dns-query?dns=AAABAAABAAAAAAAAAWEEdGVzdAAAAQAB";

/// Returns a TLS server for `protocol`, and the file of its authority.
fn secure(name: &str, protocol: Protocol) -> (onward::tls::Server, PathBuf) {
    let addresses = ["127.0.0.1".parse().unwrap()];
    let (server, authority) = dot::server(&addresses, protocol).unwrap();
    let file = directory(name).join("authority.pem");
    std::fs::write(&file, authority).unwrap();
    (server, file)
}

/// Options for `count` queries over HTTP on four connections, 64 outstanding.
fn asking(server: SocketAddr, count: u64) -> Options {
    let mut options = options(server, 1.0, 1);
    (options.timeout, options.sockets, options.doh) = (DEADLINE, 4, true);
    options.transport = Transport::Connections { queries: None, pipeline: 1024 };
    options.load = Load::Closed { outstanding: 64, duration: None };
    options.limit = Some(count);
    options
}

#[test]
fn queries_over_https_and_over_plain_http_are_answered() {
    let (server, file) = secure("https", Protocol::Https);
    let script = || {
        let default = loadgen::script::conduct("delay=0ms..2ms").unwrap();
        Script { default, ..Script::default() }
    };
    let cases = [(false, None), (true, None), (true, Some(1)), (false, Some(3))];
    for (is_secure, queries) in cases {
        let (upstream, address) = over_http(script(), is_secure.then(|| server.clone()));
        let mut options = asking(address, 400);
        options.transport = Transport::Connections { queries, pipeline: 1024 };
        if is_secure {
            let mut settings = dot::client(None, Some(&file)).unwrap();
            settings.alpn = Alpn::Http;
            options.tls = Some(Tls { settings: Arc::new(settings), forgetful: false });
        }
        let counts = run(&options).counts;
        assert_eq!((counts.answered, counts.failed()), (400, 0), "{counts:?}");
        let seen = &upstream.stop().unwrap()[0];
        assert_eq!((seen.counts.queries, seen.counts.responses), (400, 400));
        assert_eq!(seen.counts.connections, counts.connects);
    }
}

#[test]
fn replies_beyond_all_windows_wait_and_arrive() {
    let strings = format!("\"{}\" ", "x".repeat(250)).repeat(14);
    let zone = format!("$ORIGIN big.test.\n@ 60 SOA ns h 1 2 3 4 5\n* 60 TXT {strings}\n");
    let zones = loadgen::zone::parse(zone.as_bytes()).unwrap();
    let (upstream, address) =
        over_http(Script { zones: Some(zones.clone()), ..Script::default() }, None);
    let lines: String = (0..500).map(|number| format!("n{number}.big.test TXT\n")).collect();
    let file = loadgen::workload::lines::read(lines.as_bytes(), &Default::default(), 1).unwrap();
    let mut options = asking(address, 1_000);
    options.source = Source::File(Arc::new(file));
    options.load = Load::Closed { outstanding: 512, duration: None };
    options.verify = onward::traffic::verify::Verify::Zones(Arc::new(zones));
    let tally = run(&options);
    assert_eq!(tally.counts.answered, 1_000, "{:?}", tally.counts);
    assert!(tally.counts.bytes_received > 1_000 * 3_500, "{:?}", tally.counts);
    assert_eq!(upstream.stop().unwrap()[0].counts.responses, 1_000);
}

#[test]
fn pipelined_requests_of_http_1_have_their_replies_in_order() {
    // Replies to the first come last, and more requests than are taken at once follow.
    let script = loadgen::script::script("slow.test delay=50ms").unwrap();
    let (_upstream, address) = over_http(script, None);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let names = (0..300).map(|number| if number == 0 { "slow".into() } else { name(number) });
    let mut sent = Vec::new();
    for name in names.clone() {
        let message = message(&name);
        let head = "POST /dns-query HTTP/1.1\r\nHost: localhost\r\ncontent-type: \
                    application/dns-message\r\ncontent-length: ";
        sent.extend_from_slice(format!("{head}{}\r\n\r\n", message.len()).as_bytes());
        sent.extend_from_slice(&message);
    }
    stream.write_all(&sent).unwrap();
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    let replied = |received: &[u8]| received.windows(9).filter(|it| it == b"HTTP/1.1 ").count();
    while replied(&received) < 300 || !received.ends_with(&answer_end()) {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the connection has ended after {} replies", replied(&received));
        received.extend_from_slice(&buffer[..count]);
    }
    let mut rest = &received[..];
    for name in names {
        let question = &message(&name)[12..];
        let place = rest.windows(question.len()).position(|it| it == question);
        rest = &rest[place.unwrap_or_else(|| panic!("{name} is missing or out of order"))..];
    }
}

/// A name of fixed length.
fn name(number: usize) -> String {
    format!("n{number:03}")
}

/// A query for the addresses of `label.test`.
fn message(label: &str) -> Vec<u8> {
    let name = [&[label.len() as u8], label.as_bytes(), b"\x04test\0"].concat();
    [&QUERY[..12], &name, b"\0\x01\0\x01"].concat()
}

/// The last bytes of the last reply.
fn answer_end() -> Vec<u8> {
    use onward::traffic::answer::{Behaviour, respond};
    let mut response = [0; 512];
    let length = respond(&message(&name(299)), Behaviour::Answer, &mut response).unwrap();
    response[length - 4..length].to_vec()
}

#[test]
fn curl_gets_answers_and_refusals_in_each_version() {
    if !is_installed("curl") {
        return;
    }
    let (server, file) = secure("curl", Protocol::Https);
    for (is_secure, flag) in [
        (true, "--http2"),
        (true, "--http1.1"),
        (false, "--http2-prior-knowledge"),
        (false, "--http1.1"),
    ] {
        let (_upstream, address) = over_http(Script::default(), is_secure.then(|| server.clone()));
        let scheme = if is_secure { "https" } else { "http" };
        let curl = |target: &str, arguments: &[&str]| {
            let url = format!("{scheme}://{address}{target}");
            let output = Command::new("curl")
                .args(["--silent", "--show-error", "--max-time", "20", flag, "--cacert"])
                .arg(&file)
                .args(["--output", "-", "--write-out", "|%{http_code} %{http_version}"])
                .args(arguments)
                .arg(url)
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            output.stdout
        };
        let ends = |out: &[u8], expected: &str| {
            let version = if flag == "--http1.1" { "1.1" } else { "2" };
            let text = String::from_utf8_lossy(out).into_owned();
            assert!(text.ends_with(&format!("|{expected} {version}")), "{flag}: {text}");
        };
        let got = curl(TARGET, &[]);
        assert_eq!(&got[12..24], &QUERY[12..]);
        ends(&got, "200");
        ends(&curl("/dns-query", &[]), "400");
        ends(&curl("/other", &[]), "404");
        // A response is no query.
        ends(&curl(&TARGET.replace("AAAB", "AACA"), &[]), "400");
        let media = "content-type: application/dns-message";
        ends(&curl("/dns-query", &["--data-binary", "x", "--header", media]), "400");
    }
}

/// Options for `count` queries over QUIC on four connections, of at most `queries` each.
fn over_quic(server: SocketAddr, authority: &Path, queries: Option<u64>, count: u64) -> Options {
    let mut options = asking(server, count);
    options.doh = false;
    options.transport = Transport::Quic { queries, pipeline: 1024 };
    let mut settings = dot::client(None, Some(authority)).unwrap();
    settings.alpn = Alpn::Doq;
    options.tls = Some(Tls { settings: Arc::new(settings), forgetful: false });
    options
}

#[test]
fn queries_over_quic_are_answered() {
    let (server, file) = secure("quic", Protocol::Quic);
    // More outstanding queries than the server grants streams, and connections of few queries.
    let cases = [(None, 1_000, 800, 4), (Some(3), 30, 400, 0), (Some(1), 4, 40, 40)];
    for (queries, outstanding, count, connects) in cases {
        let default = loadgen::script::conduct("delay=0ms..2ms").unwrap();
        let script = Script { default, ..Script::default() };
        let (upstream, address) = over(script, Some(server.clone()));
        let mut options = over_quic(address, &file, queries, count);
        options.load = Load::Closed { outstanding, duration: None };
        let counts = run(&options).counts;
        assert_eq!((counts.answered, counts.failed()), (count, 0), "{counts:?}");
        assert!(connects == 0 || counts.connects == connects, "{counts:?}");
        let seen = &upstream.stop().unwrap()[0];
        assert_eq!((seen.counts.queries, seen.counts.responses), (count, count));
        assert_eq!(seen.counts.connections, counts.connects);
    }
}

#[test]
fn an_open_loop_over_quic_keeps_its_schedule() {
    let (server, file) = secure("schedule", Protocol::Quic);
    let (_upstream, address) = over(Script::default(), Some(server));
    let mut options = over_quic(address, &file, None, 200);
    options.load = Load::Open(Plan::constant(1_000.0, Duration::from_millis(200)));
    let counts = run(&options).counts;
    assert_eq!((counts.answered + counts.unsent, counts.failed()), (200, 0), "{counts:?}");
}

#[test]
fn queries_that_time_out_free_their_streams() {
    let (server, file) = secure("streams", Protocol::Quic);
    let script = loadgen::script::script("*.gone.test silent").unwrap();
    let (upstream, address) = over(script, Some(server));
    let line = |number| match number % 2 {
        0 => format!("n{number}.gone.test A\n"),
        _ => format!("n{number}.test A\n"),
    };
    let lines: String = (0..600).map(line).collect();
    let file_of = loadgen::workload::lines::read(lines.as_bytes(), &Default::default(), 1);
    // Twice as many queries without a reply as a connection has streams.
    let mut options = over_quic(address, &file, None, 600);
    options.sockets = 1;
    options.timeout = Duration::from_millis(400);
    options.source = Source::File(Arc::new(file_of.unwrap()));
    let counts = run(&options).counts;
    // This host may be too slow for some answers, but not for those of a whole connection.
    assert_eq!(counts.answered + counts.timed_out, 600, "{counts:?}");
    assert!(counts.answered > 250 && counts.connects == 1, "{counts:?}");
    assert_eq!(upstream.stop().unwrap()[0].counts.silenced, 300);
}

#[test]
fn a_server_with_another_name_gets_no_query_over_quic() {
    let (server, file) = secure("name", Protocol::Quic);
    let (upstream, address) = over(Script::default(), Some(server));
    let mut options = over_quic(address, &file, None, 20);
    let mut settings = dot::client(Some("other.test"), Some(&file)).unwrap();
    settings.alpn = Alpn::Doq;
    options.tls = Some(Tls { settings: Arc::new(settings), forgetful: false });
    options.load = Load::Closed { outstanding: 4, duration: None };
    let counts = run(&options).counts;
    assert_eq!((counts.answered, counts.lost), (0, 20), "{counts:?}");
    assert_eq!(upstream.stop().unwrap()[0].counts.queries, 0);
}

#[test]
fn kdig_gets_answers_over_quic() {
    if !is_installed("kdig") {
        return;
    }
    let (server, _) = secure("kdig", Protocol::Quic);
    let (_upstream, address) = over(Script::default(), Some(server));
    let port = address.port().to_string();
    let output = Command::new("kdig")
        .args(["@127.0.0.1", "-p", &port, "+quic", "+timeout=20", "a.test", "A"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("status: NOERROR") && text.contains("ANSWER: 1"), "{output:?}");
}
