//! Metrics compared with the counts of clients and upstreams.
//!
//! Counters must agree to the last query with a client's; a scrape must not wait for a busy worker;
//! names from clients must leave memory bounded and pages well-formed; and the exposition must pass
//! promtool and have the names of the dashboard and of the reference.

use crate::http::get;
use crate::kit::{A, ask, client, query, query_for};
use crate::metrics::METRICS;
use crate::{SEED, TIMEOUT, config, responder, stanza, start, start_in_habit, start_text};
use onward::clock::Clock;
use onward::config::Endpoint;
use onward::server::Server;
use onward::status::Status;
use onward::sys::socket::can_segment;
use onward::traffic::answer::Behaviour;
use onward::traffic::client::link::Transport;
use onward::traffic::client::{self, Load, Options};
use onward::worker::IoOptions;
use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Queries of the counted run.
const QUERIES: u64 = 1_000_000;
/// Time limit of a scrape.
const SCRAPE_MAX: Duration = Duration::from_millis(50);

fn page(server: &Server, page: Endpoint) -> SocketAddr {
    let mut pages = server.pages();
    pages.find(|(_, pages)| pages.contains(&page)).expect("it is served").0
}

fn metrics(server: &Server) -> String {
    let (code, text) = get(page(server, Endpoint::Metrics), "/metrics");
    assert_eq!(code, 200);
    text
}

fn status(server: &Server) -> Status {
    let (_, text) = get(page(server, Endpoint::Status), "/status.json");
    serde_json::from_str(&text).expect("a status")
}

/// The sum of all series of this name with all of these labels.
fn sum(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    let series = metrics.lines().filter_map(|line| line.strip_prefix(name));
    let series = series.filter(|rest| rest.starts_with(['{', ' ']));
    let series = series.filter(|rest| labels.iter().all(|label| rest.contains(label)));
    series.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Sends `queries` queries with this number outstanding; returns the answered ones.
fn run(server: &Server, queries: u64, outstanding: usize, tcp: bool) -> u64 {
    let mut options = Options::closed(server.addresses(), outstanding, TIMEOUT, SEED);
    options.load = Load::Closed { outstanding, duration: None };
    options.limit = Some(queries);
    if tcp {
        options.transport = Transport::Connections { queries: None, pipeline: outstanding };
    }
    options.timeout = TIMEOUT;
    let summary = client::run(&options).unwrap().join().unwrap();
    assert_eq!(summary.counts.answered, summary.counts.sent, "{:?}", summary.counts);
    summary.counts.sent
}

#[test]
fn datagrams_of_equal_length_are_sent_with_gso_unless_disabled() {
    let upstreams = responder(&[Behaviour::Answer]);
    let all = "127.0.0.1:0";
    for (stanza_says, gso) in [("auto", true), ("off", true), ("auto", false)] {
        let body = stanza(upstreams.addresses()).replace('}', &format!(" gso {stanza_says}\n}}"));
        let config = config(all, &format!("prometheus {all}\n{body}"));
        let server = start_in_habit(config, IoOptions { gso, ..IoOptions::default() });
        run(&server, 20_000, 128, false);
        let text = metrics(&server);
        let gso = gso && can_segment();
        let wanted = [gso && stanza_says == "auto", gso];
        let names = ["onward_gso_queries_total", "onward_gso_replies_total"];
        let joined = names.map(|name| sum(&text, name, &[]));
        assert_eq!(joined.map(|count| count > 0.0), wanted, "{stanza_says}, {gso}: {joined:?}");
        assert_eq!(sum(&text, "onward_gso_refused_total", &[]), 0.0);
        server.stop();
    }
}

#[test]
fn counters_agree_with_a_client_to_the_last_of_a_million_queries() {
    let upstreams = responder(&[Behaviour::Answer, Behaviour::Answer]);
    let all = "127.0.0.1:0";
    let body =
        format!("prometheus {all}\n status {all}\n errors\n{}", stanza(upstreams.addresses()));
    let server = start(all, &body, 2);
    let over_udp = run(&server, QUERIES - 10_000, 128, false);
    let over_tcp = run(&server, 10_000, 64, true);
    assert_eq!(over_udp + over_tcp, QUERIES);
    let (text, counted) = (metrics(&server), QUERIES as f64);
    let requests = "coredns_dns_requests_total";
    assert_eq!(sum(&text, requests, &["proto=\"udp\"", "family=\"1\""]), over_udp as f64);
    assert_eq!(sum(&text, requests, &["proto=\"tcp\""]), over_tcp as f64);
    assert_eq!(sum(&text, "coredns_dns_responses_total", &["rcode=\"NOERROR\""]), counted);
    assert_eq!(sum(&text, "coredns_dns_responses_total", &[]), counted);
    for histogram in ["request_duration_seconds", "request_size_bytes", "response_size_bytes"] {
        let name = format!("coredns_dns_{histogram}_count");
        assert_eq!(sum(&text, &name, &[]), counted, "{name}");
    }
    let answers = upstreams.counts().unwrap();
    for (address, counts) in upstreams.addresses().iter().zip(&answers) {
        let to = format!("to=\"{address}\"");
        let name = "coredns_proxy_request_duration_seconds_count";
        assert_eq!(sum(&text, name, &[&to, "rcode=\"NOERROR\""]), counts.responses as f64);
        assert_eq!(sum(&text, "onward_upstream_queries_total", &[&to]), counts.responses as f64);
    }
    let shown = status(&server);
    assert_eq!((shown.traffic.queries, shown.traffic.replies), (QUERIES, QUERIES));
    assert_eq!(shown.traffic.rcodes[0].count, QUERIES);
    let shown: Vec<_> = shown.upstreams.iter().map(|upstream| upstream.answered).collect();
    assert_eq!(shown, answers.iter().map(|counts| counts.responses).collect::<Vec<_>>());
    server.stop();
}

#[test]
fn a_scrape_does_not_wait_for_overloaded_workers() {
    let upstreams = responder(&[Behaviour::Answer]);
    let all = "127.0.0.1:0";
    let body = format!("prometheus {all}\n status {all}\n{}", stanza(upstreams.addresses()));
    let server = start(all, &body, 1);
    let options = Options::closed(server.addresses(), 4_096, Duration::from_secs(60), SEED);
    let load = client::run(&options).unwrap();
    let clock = Clock::start();
    let until = |count: f64| {
        while sum(&metrics(&server), "coredns_dns_requests_total", &[]) < count {
            assert!(clock.now().as_nanos() < TIMEOUT.as_nanos() as u64, "no load");
        }
    };
    until(20_000.0);
    let mut took: Vec<_> = (0..20)
        .map(|_| {
            let before = clock.now();
            assert!(metrics(&server).contains("coredns_dns_requests_total{"));
            clock.now().since(before)
        })
        .collect();
    load.stop();
    load.join().unwrap();
    server.stop();
    took.sort();
    // The host may be busy now and then, so the median counts.
    assert!(took[took.len() / 2] < SCRAPE_MAX, "{took:?}");
}

#[test]
fn metrics_stay_bounded_and_well_formed_for_any_names_and_zones() {
    let zones: Vec<_> = (0..10_000).map(|number| format!("z{number}.test:0")).collect();
    let (zones, all) = (zones.join(" "), "127.0.0.1:0");
    let directives = format!("bind 127.0.0.1\n prometheus {all}\n status {all}\n whoami");
    let server = start_text(&format!("{zones} .:0 {{\n {directives}\n}}\n"), 1);
    let listener = server.addresses()[0];
    let socket = client(listener);
    let mut reply = [0; 1_232];
    for byte in 0..=255u8 {
        let mut packet = query(u16::from(byte), A);
        // The first label consists of unprintable bytes.
        let len = usize::from(packet[12]);
        packet[13..13 + len].fill(byte);
        socket.send(&packet).unwrap();
        assert!(socket.recv(&mut reply).unwrap() > 12);
    }
    for number in 0..10_000u16 {
        let name = format!("n{number}.z{number}.test");
        socket.send(&query_for(number, &name, A)).unwrap();
        assert!(socket.recv(&mut reply).unwrap() > 12);
    }
    let strangers = (1..=250u8).flat_map(|high| (1..=40u8).map(move |low| [127, 1, high, low]));
    for ip in strangers {
        let stranger = UdpSocket::bind(SocketAddr::from((ip, 0))).unwrap();
        stranger.set_read_timeout(Some(TIMEOUT)).unwrap();
        stranger.send_to(&query_for(1, "same.test", A), listener).unwrap();
        assert!(stranger.recv(&mut reply).unwrap() > 12);
    }
    let text = metrics(&server);
    let count = sum(&text, "coredns_dns_requests_total", &[]);
    assert_eq!(count, 256.0 + 10_000.0 + 10_000.0);
    assert!(text.len() < 16 << 20, "{} bytes", text.len());
    assert!(text.lines().all(|line| !line.is_empty() && line.is_ascii()));
    assert!(text.contains("zone=\"more\""), "zones beyond the number are counted together");
    let shown = status(&server);
    assert!(shown.top.names.len() <= 20 && shown.top.clients.len() <= 20);
    assert_eq!(shown.top.names[0].what, "same.test.", "{:?}", shown.top.names);
    let (_, html) = get(page(&server, Endpoint::Status), "/");
    assert!(html.len() < 1 << 20 && html.contains("same.test."), "{} bytes", html.len());
    server.stop();
}

#[test]
fn the_exposition_has_the_dashboards_metrics_and_passes_promtool() {
    let upstreams = responder(&[Behaviour::Answer]);
    let all = "127.0.0.1:0";
    let body = format!(
        "prometheus {all}\n errors\n log\n cache\n acl {{\n allow\n }}\n any\n{}",
        stanza(upstreams.addresses()).replace("spread", "max_age 1h\n spread")
    );
    let server = start(all, &body, 2);
    run(&server, 1_000, 16, false);
    ask(server.addresses()[0], &query(1, A));
    let text = metrics(&server);
    let (mut names, mut described) = (Vec::new(), 0);
    for line in text.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(rest) => names.push(rest.split(' ').next().unwrap()),
            None => described += usize::from(line.starts_with("# HELP ")),
        }
    }
    assert_eq!(names.len(), described);
    for (name, labels) in METRICS.iter().filter(|(name, _)| name.contains('_')) {
        let bucket = format!("{name}_bucket");
        let name = if labels.contains(&"le") { &*bucket } else { name };
        let series = text.lines().find_map(|line| line.strip_prefix(name));
        // This run closes nothing by age and uses neither TLS nor TCP upstreams, and not every
        // kernel reports rebalanced connections.
        let Some(series) = series else {
            assert!(
                [
                    "onward_connection_age",
                    "onward_tls_",
                    "_migrations_",
                    "_queries_limit",
                    "_limited_",
                    "onward_queries_"
                ]
                .iter()
                .any(|rare| name.contains(rare))
            );
            continue;
        };
        let told = series.split_once(' ').unwrap().0.trim_matches(['{', '}']);
        let told: BTreeSet<_> =
            told.split(',').filter_map(|label| label.split('=').next()).collect();
        let told: BTreeSet<_> = told.into_iter().filter(|label| !label.is_empty()).collect();
        assert_eq!(told, labels.iter().copied().collect(), "{name}");
    }
    server.stop();
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        eprintln!("skipped: promtool is not installed (Debian: prometheus)");
        return;
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
