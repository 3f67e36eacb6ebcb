//! Client and upstream over real sockets: every fault is counted as its kind.
//!
//! Nothing is asserted about the speed of this host, except that a scripted stall is visible in the
//! latencies. Counts are exact if the script has no randomness; timeouts are long, because a query
//! that this host delays beyond its timeout would change the counts.

mod kit;

use kit::{directory, installed::is_installed, options, over, run, scripted, upstream};
use loadgen::dot;

use onward::config::Protocol;
use onward::moment::Moment;
use onward::traffic::client::link::Transport;
use onward::traffic::client::{self, Load, Tls};
use onward::traffic::schedule::{Arrivals, Plan, Shape};
use onward::traffic::tally::Counts;
use onward::traffic::upstream::script::Script;
use onward::traffic::verify::Verify;
use onward::traffic::workload::{Recorded, Source};
use std::net::{IpAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const CONNECTIONS: Transport = Transport::Connections { queries: None, pipeline: 64 };

/// Checks that every sent query is accounted for.
fn check_conservation(counts: &Counts) {
    assert_eq!(counts.sent, counts.answered + counts.failed(), "{counts:?}");
}

#[test]
fn every_query_of_every_schedule_is_sent_and_answered() {
    let (upstream, server) = upstream("", "");
    let shapes = [
        Shape::Constant(2_000.0),
        Shape::Ramp { from: 100.0, to: 3_900.0 },
        Shape::Steps(vec![
            (1_000.0, Duration::from_millis(150)),
            (5_000.0, Duration::from_millis(50)),
        ]),
    ];
    let mut expected = 0;
    for shape in shapes {
        for arrivals in [Arrivals::Even, Arrivals::Poisson] {
            let duration = Some(Duration::from_millis(200));
            let plan = Plan { shape: shape.clone(), arrivals, duration };
            let mut options = options(server, 1.0, 1);
            options.timeout = Duration::from_secs(20);
            options.threads = 2;
            options.load = Load::Open(plan.clone());
            let counts = run(&options).counts;
            assert_eq!(counts.answered + counts.unsent, plan.total().unwrap(), "{counts:?}");
            check_conservation(&counts);
            assert_eq!(counts.failed() + counts.mismatched + counts.stray, 0, "{counts:?}");
            expected += counts.sent;
        }
    }
    let seen = upstream.stop().unwrap();
    assert_eq!(seen[0].counts.queries, expected);
    // The kernel draws each run's ports anew, so a port may be drawn twice.
    let ports = seen[0].sources.entropy().ports;
    assert!((80..=6 * 16).contains(&ports), "{ports} ports of six times sixteen sockets");
}

#[test]
fn each_fault_of_a_server_is_counted_as_its_kind() {
    type Pick = fn(&Counts) -> (u64, u64);
    let cases: [(&str, Pick); 10] = [
        ("silent", |c| (c.timed_out, c.mismatched)),
        ("delay=700ms", |c| (c.timed_out, c.mismatched)),
        ("wrong-id", |c| (c.timed_out, c.answered + c.wrong)),
        ("wrong-question", |c| (c.timed_out, c.answered + c.wrong)),
        ("wrong-question", |c| (c.mismatched, c.stray)),
        ("garbage", |c| (c.timed_out, c.answered)),
        ("lie", |c| (c.wrong, c.answered)),
        ("servfail", |c| (c.wrong, c.answered)),
        ("truncate", |c| (c.wrong, c.answered)),
        ("delay=exp:1ms", |c| (c.answered, c.wrong + c.timed_out)),
    ];
    for (words, pick) in cases {
        let (_upstream, server) = upstream(words, "");
        let counts = run(&options(server, 1_000.0, 100)).counts;
        check_conservation(&counts);
        assert_eq!(pick(&counts), (counts.sent, 0), "{words}: {counts:?}");
        assert_eq!(counts.sent + counts.unsent, 100, "{words}: {counts:?}");
    }
}

#[test]
fn without_verification_response_codes_are_counted_and_wrong_records_are_accepted() {
    for (words, code) in [("servfail", 2), ("nxdomain", 3), ("lie", 0)] {
        let (_upstream, server) = upstream(words, "");
        let mut options = options(server, 1_000.0, 100);
        options.verify = Verify::No;
        let counts = run(&options).counts;
        assert_eq!((counts.answered, counts.rcodes[code]), (counts.sent, counts.sent), "{words}");
    }
}

#[test]
fn spoofed_answers_neither_end_a_query_nor_hide_its_answer() {
    let (upstream, server) = upstream("spoof=5", "");
    let counts = run(&options(server, 1_000.0, 200)).counts;
    // A forged response that guesses the ID counts as wrong, which happens once in thousands.
    assert!(counts.answered >= counts.sent - 2, "{counts:?}");
    assert_eq!(upstream.stop().unwrap()[0].counts.spoofed, 5 * counts.sent);
    let odd = counts.stray + counts.mismatched + counts.late + counts.duplicate + counts.wrong;
    assert!(odd >= 5 * counts.sent, "{counts:?}");
}

#[test]
fn the_first_rule_that_matches_a_name_applies() {
    let script = loadgen::script::script("good.test\n*.bad.test servfail\n* silent").unwrap();
    let (_upstream, server) = scripted(script);
    let text = b"good.test A\na.bad.test A\nb.bad.test A\nother.test A\n";
    let file = loadgen::workload::lines::read(text, &Default::default(), 1).unwrap();
    let mut options = options(server, 1_000.0, 1_000);
    (options.source, options.limit) = (Source::File(Arc::new(file)), Some(40));
    options.verify = Verify::No;
    let counts = run(&options).counts;
    assert_eq!((counts.rcodes[0], counts.rcodes[2], counts.timed_out), (10, 20, 10), "{counts:?}");
}

#[test]
fn late_answers_and_strays_are_distinguished() {
    let (_upstream, server) = upstream("delay=150ms", "");
    let mut options = options(server, 200.0, 1_000);
    options.timeout = Duration::from_millis(50);
    let counts = run(&options).counts;
    assert_eq!((counts.timed_out, counts.answered), (counts.sent, 0), "{counts:?}");
    // The late responses of the last queries come after the client has ended.
    assert!(counts.late > counts.sent / 2 && counts.stray == 0, "{counts:?}");
}

#[test]
fn connections_carry_pipelined_queries_or_one_query_each() {
    for (transport, connects) in
        [(CONNECTIONS, 8), (Transport::Connections { queries: Some(1), pipeline: 1 }, 400)]
    {
        let (upstream, server) = upstream("delay=1ms", "");
        let mut options = options(server, 2_000.0, 200);
        options.timeout = Duration::from_secs(20);
        (options.transport, options.sockets) = (transport, 8);
        // A closed loop, because eight slots may be too few for the schedule.
        options.load = Load::Closed { outstanding: 8, duration: None };
        options.limit = Some(400);
        let counts = run(&options).counts;
        assert_eq!((counts.answered, counts.connects), (400, connects), "{counts:?}");
        assert_eq!(counts.reconnects, connects - 8);
        assert_eq!((counts.failed(), counts.refused), (0, 0), "{counts:?}");
        let seen = &upstream.stop().unwrap()[0];
        assert_eq!((seen.counts.queries, seen.counts.connections), (400, connects));
    }
}

#[test]
fn connections_use_tls_and_an_unverified_server_gets_no_query() {
    let (server, authority) = dot::server(&["127.0.0.1".parse().unwrap()], Protocol::Tls).unwrap();
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("authority.pem");
    std::fs::write(&file, authority).unwrap();
    let each = Transport::Connections { queries: Some(1), pipeline: 1 };
    for (transport, forgetful, name, answers) in [
        (CONNECTIONS, false, None, true),
        (each, false, Some(dot::NAME), true),
        (each, true, Some(dot::NAME), true),
        (CONNECTIONS, false, Some("other.test"), false),
    ] {
        let (upstream, address) = over(Script::default(), Some(server.clone()));
        let mut options = options(address, 200.0, 300);
        options.timeout = Duration::from_secs(20);
        (options.transport, options.sockets) = (transport, 4);
        let settings = Arc::new(dot::client(name, Some(&file)).unwrap());
        options.tls = Some(Tls { settings, forgetful });
        let counts = run(&options).counts;
        let seen = &upstream.stop().unwrap()[0];
        if answers {
            assert_eq!((counts.answered, counts.failed()), (counts.sent, 0), "{counts:?}");
            assert_eq!(seen.counts.queries, counts.sent);
        } else {
            assert_eq!((counts.answered, seen.counts.queries), (0, 0), "{counts:?}");
        }
    }
}

#[test]
fn a_connection_that_breaks_loses_its_queries_and_is_reopened() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let closing = std::thread::spawn(move || {
        // The first three connections are closed as soon as they come; then the listener is closed.
        (0..3).for_each(|_| drop(listener.accept().unwrap()));
    });
    let mut options = options(server, 500.0, 300);
    (options.transport, options.sockets) = (CONNECTIONS, 1);
    let counts = run(&options).counts;
    closing.join().unwrap();
    check_conservation(&counts);
    assert_eq!((counts.answered, counts.timed_out), (0, 0), "{counts:?}");
    assert!(counts.lost > 0 && counts.reconnects >= 2 && counts.refused > 0, "{counts:?}");
}

#[test]
fn queries_are_sent_from_the_given_source_addresses() {
    let (upstream, server) = upstream("", "");
    let mut options = options(server, 1_000.0, 100);
    options.sources = (2..=9).map(|last| IpAddr::from([127, 0, 0, last])).collect();
    options.sockets = 64;
    let counts = run(&options).counts;
    assert_eq!(counts.answered, counts.sent, "{counts:?}");
    drop(upstream);
    options.sources = vec!["203.0.113.77".parse().unwrap()];
    assert!(client::run(&options).is_err(), "an address that the host lacks");
}

#[test]
fn without_a_listener_queries_time_out_and_refusals_are_counted() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = socket.local_addr().unwrap();
    drop(socket);
    let mut options = options(server, 1_000.0, 100);
    options.timeout = Duration::from_millis(50);
    let counts = run(&options).counts;
    assert_eq!((counts.answered, counts.timed_out), (0, counts.sent), "{counts:?}");
    assert!(counts.refused > 0, "{counts:?}");
}

#[test]
fn a_run_can_be_stopped_early_and_twice() {
    let (_upstream, server) = upstream("silent", "");
    let mut options = options(server, 1_000.0, 600_000);
    options.timeout = Duration::from_secs(600);
    let run = client::run(&options).unwrap();
    let clock = onward::clock::Clock::start();
    while run.counts().sent < 50 {
        assert!(clock.now().as_nanos() < 20_000_000_000, "nothing leaves");
        std::thread::yield_now();
    }
    run.stop();
    run.stop();
    let tally = run.join().unwrap();
    assert_eq!(tally.counts.unfinished, tally.counts.sent);
    check_conservation(&tally.counts);
}

#[test]
fn a_capture_is_replayed_at_its_own_pace_from_a_socket_for_each_client() {
    let (upstream, server) = upstream("", "");
    let mut recorded = Recorded::default();
    let query = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01";
    for number in 0..60u32 {
        recorded.push(query, number % 20, Duration::from_millis(u64::from(number) * 5));
    }
    let mut options = options(server, 1.0, 1);
    options.load = Load::Replay(2.0);
    (options.source, options.sockets) = (Source::File(Arc::new(recorded)), 20);
    let tally = run(&options);
    assert_eq!(tally.counts.answered + tally.counts.unsent, 60, "{:?}", tally.counts);
    let seen = &upstream.stop().unwrap()[0];
    assert_eq!(seen.sources.entropy().ports, 20);
    let (_, last) = tally.sending.unwrap();
    let whole = tally.counts.unsent == 0;
    assert!(!whole || last >= Moment::from_nanos(147_500_000), "the last was asked after 295 ms");
}

#[test]
fn an_open_loop_shows_the_whole_stall_and_dnsperf_does_not() {
    // Half of the queries are scheduled during the stall of 1 s, evenly spread, and wait for its
    // end; so one query in four waits for more than half of it.
    let (_upstream, server) = upstream("", "300ms+1s");
    let mut options = options(server, 500.0, 2_000);
    options.timeout = Duration::from_secs(20);
    let tally = run(&options);
    assert_eq!(tally.counts.failed(), 0, "{:?}", tally.counts);
    let at = |quantile| Duration::from_nanos(tally.latency.value_at_quantile(quantile));
    assert!(at(1.0) >= Duration::from_millis(990), "{:?}", at(1.0));
    assert!(at(0.75) >= Duration::from_millis(450), "{:?}", at(0.75));
    let waited = tally.latency.mean() / 1e9;
    assert!(waited > 0.22, "a stall of 1 s in 2 s is 0.25 s for each query, not {waited}");
    if !is_installed("dnsperf") {
        return;
    }
    let (_stalled, server) = upstream("", "300ms+1s");
    let file = directory("stall").join("queries");
    let names: String = (0..1_000).map(|number| format!("n{number}.test A\n")).collect();
    std::fs::write(&file, names).unwrap();
    let port = server.port().to_string();
    let output = Command::new("dnsperf")
        .args(["-s", "127.0.0.1", "-p", &port, "-Q", "500", "-q", "20", "-l", "2", "-d"])
        .arg(&file)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let average = text.split("Average Latency (s):").nth(1).unwrap();
    let average: f64 = average.split_whitespace().next().unwrap().parse().unwrap();
    // Only dnsperf's twenty outstanding queries wait; those that it sends later count no delay.
    assert!(average < waited / 3.0, "dnsperf shows {average} s of {waited} s: {text}");
}

/// Returns four hundred queries as text, for names that the script treats in five ways.
fn queries() -> String {
    let query = |number: usize| {
        let zone = ["good", "bad", "no", "gone", "not"][number % 97 % 5];
        let rtype = ["A", "AAAA", "TXT", "TYPE65", "MX"][number % 5];
        let gap = if number.is_multiple_of(3) { "\t" } else { "  " };
        let note = if number.is_multiple_of(50) { "; a comment\n\n" } else { "" };
        format!("{note}n{number}.{zone}.test{gap}{rtype}\n")
    };
    (0..400).map(query).collect()
}

#[test]
fn counts_agree_with_dnsperf_on_the_same_file() {
    if !is_installed("dnsperf") {
        return;
    }
    let script = "*.bad.test servfail\n*.no.test nxdomain\n*.gone.test silent\n*.not.test refuse";
    let queries = loadgen::workload::lines::read(queries().as_bytes(), &Default::default(), 1);
    let queries = queries.unwrap();
    let framed = |number| {
        let packet: &[u8] = queries.packet(number);
        [&(packet.len() as u16).to_be_bytes(), packet].concat()
    };
    let binary: Vec<u8> = (0..queries.len()).flat_map(framed).collect();
    assert_eq!(loadgen::workload::frames::read(&binary).unwrap(), queries);
    let file = directory("agreement").join("queries");
    for (flags, bytes) in [(&["-d"][..], self::queries().into_bytes()), (&["-B", "-d"], binary)] {
        std::fs::write(&file, &bytes).unwrap();
        let (theirs, server) = scripted(loadgen::script::script(script).unwrap());
        let port = server.port().to_string();
        let output = Command::new("dnsperf")
            .args(["-s", "127.0.0.1", "-p", &port, "-n", "2", "-t", "1", "-q", "1000"])
            .args(flags)
            .arg(&file)
            .output()
            .unwrap();
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = |name: &str| -> u64 {
            let rest = report.split(name).nth(1).unwrap_or_else(|| panic!("{name}: {report}"));
            rest.split_whitespace().next().unwrap().parse().unwrap()
        };
        let asked = theirs.stop().unwrap()[0].counts.queries;
        let (ours, server) = scripted(loadgen::script::script(script).unwrap());
        let mut options = options(server, 2_000.0, 1_000);
        options.load = Load::Closed { outstanding: 1_000, duration: None };
        let source = Source::File(Arc::new(queries.clone()));
        (options.source, options.limit) = (source, Some(2 * 400));
        options.timeout = Duration::from_secs(1);
        options.verify = Verify::No;
        let counts = run(&options).counts;
        assert_eq!(ours.stop().unwrap()[0].counts.queries, asked);
        assert_eq!(counts.sent, told("Queries sent:"));
        assert_eq!(counts.answered, told("Queries completed:"));
        assert_eq!(counts.timed_out, told("Queries lost:"));
        for (code, name) in [(0, "NOERROR"), (2, "SERVFAIL"), (3, "NXDOMAIN"), (5, "REFUSED")] {
            assert_eq!(counts.rcodes[code], told(&format!("{name} ")), "{name}: {report}");
        }
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let (_upstream, server) = upstream("", "");
    let good = options(server, 100.0, 100);
    let mut none = good.clone();
    none.targets.clear();
    let mut threads = good.clone();
    threads.threads = 99;
    let mut core = good.clone();
    core.cores = vec![100_000];
    let mut rate = good.clone();
    rate.load = Load::Open(Plan::constant(0.0, Duration::from_secs(1)));
    let mut idle = good.clone();
    idle.load = Load::Closed { outstanding: 0, duration: None };
    for options in [none, threads, core, rate, idle] {
        let error = client::run(&options).err().unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
}

#[test]
fn answers_are_verified_against_a_zone_file() {
    let zone =
        b"$ORIGIN z.test.\n@ 60 SOA ns h 1 2 3 4 5\nwww 60 A 192.0.2.2\nwww 60 A 192.0.2.3\n";
    let zones = loadgen::zone::parse(zone).unwrap();
    let (_upstream, server) = scripted(Script { zones: Some(zones), ..Script::default() });
    let text = b"www.z.test A\nwww.z.test MX\nno.z.test A\nother.test AAAA\n";
    let file = loadgen::workload::lines::read(text, &Default::default(), 1).unwrap();
    let mut options = options(server, 1_000.0, 1_000);
    (options.source, options.limit) = (Source::File(Arc::new(file)), Some(40));
    options.load = Load::Closed { outstanding: 4, duration: None };
    let other = b"$ORIGIN z.test.\n@ 60 SOA ns h 1 2 3 4 5\nwww 60 A 192.0.2.2\n";
    for (zone, wrong) in [(&zone[..], 0), (other, 10)] {
        options.verify = Verify::Zones(Arc::new(loadgen::zone::parse(zone).unwrap()));
        let counts = run(&options).counts;
        assert_eq!((counts.answered, counts.wrong), (40 - wrong, wrong), "{counts:?}");
    }
}

#[test]
fn a_closed_loop_sends_as_soon_as_a_query_is_answered() {
    let (_upstream, server) = upstream("", "");
    let mut options = options(server, 1_000.0, 200);
    options.limit = Some(200);
    options.load = Load::Closed { outstanding: 1, duration: None };
    let tally = run(&options);
    assert_eq!(tally.counts.answered, 200);
    // A loop that sleeps for ten milliseconds between an answer and the next query would have no
    // query this fast.
    let latency = tally.latency.value_at_quantile(0.25);
    assert!(latency < 9_000_000, "{latency} ns");
}

#[test]
fn a_query_is_sent_within_twenty_microseconds_of_its_time() {
    let (_upstream, server) = upstream("", "");
    let tally = run(&options(server, 1_000.0, 500));
    // At least a quarter of them: other work on this host takes a thread's core now and then, while
    // a thread that slept until the send time would always be late.
    let lag = tally.lag.value_at_quantile(0.25);
    assert!(lag <= 20_000, "{lag} ns");
}
