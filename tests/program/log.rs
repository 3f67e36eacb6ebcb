//! The query log of the whole program, and its log in JSON.
//!
//! As text and as JSON, with names of arbitrary bytes, and with an unread standard output.

use super::process::{Program, TIMEOUT, directory, onward_in};
use onward::clock::Clock;
use onward::config::Name;
use onward::moment::Moment;
use onward::traffic::answer::Behaviour;
use onward::traffic::upstream::{Service, Upstream};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Number of names with arbitrary bytes.
const NAMES: usize = 10_000;
/// Outstanding queries: fewer than a socket's buffer holds.
const TOGETHER: usize = 100;

fn write_corefile(directory: &Path, port: u16, body: &str) {
    let text = format!(".:{port} {{\n bind 127.0.0.1\n {body}\n}}\n");
    fs::write(directory.join("Corefile"), text).unwrap();
}

fn serving(test: &str, body: &str) -> PathBuf {
    let directory = directory(test);
    write_corefile(&directory, 0, body);
    directory
}

fn client(server: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(server).unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    client
}

fn query(id: u16, name: &[u8], kind: u8) -> Vec<u8> {
    let header = [&id.to_be_bytes()[..], b"\x01\0\0\x01\0\0\0\0\0\0"].concat();
    [&header[..], name, &[0, kind, 0, 1]].concat()
}

/// Sends a query and returns the reply's length.
fn ask(client: &UdpSocket, query: &[u8]) -> usize {
    client.send(query).unwrap();
    let mut reply = [0; 1_500];
    let len = client.recv(&mut reply).unwrap();
    assert_eq!(reply[..2], query[..2]);
    len
}

/// The forwarder in `directory` with `--log-format json`, and its address.
fn onward_json(directory: &Path) -> (Program, SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onward"));
    command.args(["--log-format", "json", "--workers", "1"]).current_dir(directory);
    Program::start(&mut command, |line| {
        let event: Value = serde_json::from_str(line).expect("every line is JSON");
        assert_eq!(event["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!((&event["message"], &event["workers"]), (&"started".into(), &1.into()));
        event["addresses"].as_str()?.parse().ok()
    })
}

/// The next log line, parsed as JSON.
fn next(forwarder: &mut Program) -> Value {
    let line = forwarder.wait_for("");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn a_query_is_a_line_in_the_format_of_its_rule() {
    let rules = "log a.test \"{type} {name} {rcode} {nothing} {/x}\"\n log b.test {\n class \
                 success\n }\n log";
    let directory = serving("log-text", &format!("{rules}\n any"));
    let (mut forwarder, address) = onward_in(&directory, &["--workers", "2"]);
    let client = client(address);
    let own = client.local_addr().unwrap();
    ask(&client, &query(1, b"\x01x\x01A\x04tesT\0", 255));
    let line = forwarder.wait_for("ANY");
    assert_eq!(line, "[INFO] ANY x.a.test. NOERROR {nothing} -");
    // Without a forward it is an error, and no log rule matches: the next line is of another query.
    ask(&client, &query(2, b"\x01b\x04test\0", 1));
    let len = ask(&client, &query(29_970, b"\x01c\x04test\0", 1));
    let line = forwarder.wait_for("test.");
    let head =
        format!("[INFO] {own} - 29970 \"A IN c.test. udp 24 false 512\" SERVFAIL qr,rd,ra {len} ");
    let rest = line.strip_prefix(&head).unwrap_or_else(|| panic!("{line} is not {head}"));
    assert!(rest.strip_suffix('s').unwrap().parse::<f64>().is_ok(), "{line}");
    // A record that is pending at the stop is written.
    ask(&client, &query(3, b"\x01d\x04test\0", 1));
    forwarder.signal("TERM");
    forwarder.wait_for("A IN d.test.");
    forwarder.wait_for("[INFO] onward: stopped");
    assert_eq!(forwarder.wait(), Some(0));
}

#[test]
fn json_lines_are_objects_with_their_fields() {
    let directory = serving("log-json", "log\n errors\n reload");
    let (mut forwarder, address) = onward_json(&directory);
    let client = client(address);
    let len = ask(&client, &query(7, b"\x01\"\x04test\0", 28));
    let mut told = [next(&mut forwarder), next(&mut forwarder)];
    told.sort_by_key(|event| event["source"].to_string());
    let [error, line] = told;
    assert_eq!((&error["level"], &error["source"]), (&"error".into(), &"plugin/errors".into()));
    assert_eq!(error["message"], "plugin/log: no next plugin found");
    assert_eq!((&error["rcode"], &error["type"]), (&2.into(), &"AAAA".into()));
    assert_eq!(error["name"], "\\\".test.");
    assert_eq!((&line["source"], &line["name"]), (&"plugin/log".into(), &"\\\".test.".into()));
    assert_eq!((&line["rcode"], &line["rsize"]), (&"SERVFAIL".into(), &len.into()));
    assert_eq!(line["port"], client.local_addr().unwrap().port());
    let time = line["time"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z') && time.starts_with("20"), "{time}");

    let mut events = Vec::new();
    write_corefile(&directory, address.port(), "errors\n log m..n");
    forwarder.signal("HUP");
    for _ in 0..3 {
        events.push(next(&mut forwarder));
    }
    write_corefile(&directory, address.port(), "nonsense");
    forwarder.signal("HUP");
    for _ in 0..2 {
        events.push(next(&mut forwarder));
    }
    forwarder.signal("TERM");
    for _ in 0..2 {
        events.push(next(&mut forwarder));
    }
    let shown = events.iter().map(|event| {
        let text = event["message"].as_str().unwrap();
        format!("{}: {}", event["level"].as_str().unwrap(), &text[..text.len().min(13)])
    });
    let expected = [
        "info: Reloading",
        "warning: Corefile:4 - ",
        "info: Reloading com",
        "info: Reloading",
        "error: reload failed",
        "info: stopping",
        "info: stopped",
    ];
    assert_eq!(shown.collect::<Vec<_>>(), expected);
    assert_eq!((&events[4]["done"], &events[4]["failed"]), (&1.into(), &1.into()));
    assert_eq!(forwarder.wait(), Some(0));
}

#[test]
fn upstream_health_changes_are_json_events() {
    let upstream = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = upstream.local_addr().unwrap();
    drop(upstream);
    let forward = format!("forward . {at} {{\n max_fails 2\n health_check 20ms\n }}");
    let directory = serving("log-health", &forward);
    let (mut forwarder, address) = onward_json(&directory);
    ask(&client(address), &query(7, b"\x01a\x04test\0", 1));
    let down = next(&mut forwarder);
    assert_eq!((&down["level"], &down["source"]), (&"error".into(), &"plugin/forward".into()));
    assert_eq!((&down["upstream"], &down["probes"]), (&at.to_string().into(), &2.into()));
    assert_eq!(forwarder.end("TERM"), Some(0));
}

#[test]
fn connections_closed_by_max_age_are_logged() {
    let address = "127.0.0.1:0".parse().unwrap();
    let service = Service::new(address, Behaviour::default());
    let upstream = Upstream::of(vec![service]).unwrap();
    let at = upstream.addresses()[0];
    let forward = format!("forward . {at} {{\n spread 1\n expire 1s\n max_age 1s\n }}");
    let directory = serving("log-retired", &forward);
    let (mut forwarder, address) = onward_json(&directory);
    let (client, clock) = (client(address), Clock::start());
    // A connection in use does not expire.
    while clock.now().since(Moment::ZERO) < Duration::from_secs(2) {
        ask(&client, &query(7, b"\x01a\x04test\0", 1));
    }
    let event = next(&mut forwarder);
    assert_eq!(event["message"], "connections closed: max_age reached");
    assert_eq!(event["upstream"], at.to_string());
    assert!(event["connections"].as_u64().unwrap() >= 1);
    assert_eq!(forwarder.end("TERM"), Some(0));
}

/// A name of arbitrary bytes: all byte values occur among [`NAMES`].
fn odd_name(number: usize) -> Vec<u8> {
    let mut name = Vec::new();
    for label in 0..1 + number % 5 {
        let len = 1 + (number * 7 + label * 13) % 40;
        name.push(len as u8);
        name.extend((0..len).map(|place| (number * 31 + place * 97 + label) as u8));
    }
    name.push(0);
    name
}

#[test]
fn names_of_any_bytes_leave_well_formed_lines() {
    let directory = serving("log-odd", "log\n any");
    for json in [false, true] {
        let (mut forwarder, address) = match json {
            true => onward_json(&directory),
            false => onward_in(&directory, &["--workers", "1"]),
        };
        let client = client(address);
        let own = client.local_addr().unwrap();
        for first in (0..NAMES).step_by(TOGETHER) {
            let all = first..first + TOGETHER;
            for number in all.clone() {
                client.send(&query(number as u16, &odd_name(number), 255)).unwrap();
            }
            for _ in all.clone() {
                client.recv(&mut [0; 1_500]).unwrap();
            }
            for number in all {
                let name = Name::of_wire(&odd_name(number)).to_string();
                let line = forwarder.wait_for("ANY");
                if json {
                    let event: Value = serde_json::from_str(&line).unwrap();
                    assert_eq!((&event["name"], &event["id"]), (&name.into(), &number.into()));
                } else {
                    let size = query(0, &odd_name(number), 255).len();
                    let head = format!("[INFO] {own} - {number} \"ANY IN {name} udp {size} ");
                    assert!(line.starts_with(&head), "{line}\nis not\n{head}");
                }
            }
        }
        assert_eq!(forwarder.end("TERM"), Some(0));
    }
}

#[test]
fn an_unread_output_delays_no_reply() {
    let directory = serving("log-stuck", "log\n any");
    let mut command = Command::new(env!("CARGO_BIN_EXE_onward"));
    command.args(["--workers", "1"]).current_dir(&directory).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let address = line.strip_prefix("onward listens on ").unwrap().split(',').next().unwrap();
    let client = client(address.parse().unwrap());
    // Their lines exceed the capacity of a pipe and all pages.
    let name = [&[63][..], &[0xff; 63], &[63], &[0xff; 63], &[0]].concat();
    for number in 0..12_000 {
        ask(&client, &query(number, &name, 255));
    }
    super::process::send("TERM", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    drop(output);
}
