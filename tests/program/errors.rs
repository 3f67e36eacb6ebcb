//! Error log lines of failed queries.
//!
//! One line for each error or for many, as configured, also after a reload. Pending summaries are
//! written when the program stops.

use super::dead::{Death, dead};
use super::process::{TIMEOUT, directory, onward_in};
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

fn write_corefile(directory: &Path, port: u16, upstream: SocketAddr, errors: &str) {
    let text = format!(
        ".:{port} {{\n bind 127.0.0.1\n {errors}\n forward . {upstream} {{\n \
         max_connect_attempts 1\n }}\n}}\n"
    );
    fs::write(directory.join("Corefile"), text).unwrap();
}

/// Queries the single-label `name` and returns the response code.
fn ask(client: &UdpSocket, name: &str) -> u8 {
    let mut query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    query.push(name.len() as u8);
    query.extend(name.bytes());
    query.extend(b"\x00\x00\x1c\x00\x01");
    client.send(&query).unwrap();
    let mut reply = [0; 512];
    let len = client.recv(&mut reply).unwrap();
    assert!(len >= query.len() && reply[..2] == query[..2]);
    reply[3] & 15
}

#[test]
fn failed_queries_are_lines_and_sums_of_them_are_written_at_the_end() {
    let (upstream, _dead) = dead(Death::Refusing);
    let directory = directory("errors");
    write_corefile(&directory, 0, upstream, "errors");
    let (mut forwarder, address) = onward_in(&directory, &["--workers", "2"]);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(address).unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    assert_eq!(ask(&client, "One"), 2);
    let line = forwarder.wait_for("plugin/errors");
    let head = format!("[ERROR] plugin/errors: 2 one. AAAA: read udp {upstream}: ");
    assert_eq!(line, head + "read: connection refused");

    let sums = "errors {\n consolidate 1h refused$ warning show_first\n }";
    write_corefile(&directory, address.port(), upstream, sums);
    forwarder.signal("USR1");
    forwarder.wait_for("Reloading complete");
    for name in ["two", "three", "four"] {
        assert_eq!(ask(&client, name), 2);
    }
    let line = forwarder.wait_for("plugin/errors");
    assert!(line.starts_with("[WARNING] plugin/errors: 2 two. AAAA: "), "{line}");
    forwarder.signal("TERM");
    let line = forwarder.wait_for("plugin/errors");
    let sum = "3 errors like 'refused$' occurred in last 1h0m0s";
    assert_eq!(line, format!("[WARNING] plugin/errors: {sum}"));
    assert_eq!(forwarder.wait(), Some(0));
}
