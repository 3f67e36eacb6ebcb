//! dnstap to third-party receivers.
//!
//! `fstrm_capture` must accept the stream and `dnstap-ldns` must decode it. Skipped, with a
//! message, where they are not installed (Debian: fstrm-bin, dnstap-ldns).

use super::process::{Program, TIMEOUT, directory, onward_in};
use super::until::until;
use crate::installed::is_installed;
use onward::traffic::answer::Behaviour;
use onward::traffic::upstream::{Service, Upstream};
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;

fn upstream() -> Upstream {
    let address = "127.0.0.1:0".parse().unwrap();
    Upstream::of(vec![Service::new(address, Behaviour::default())]).unwrap()
}

#[test]
fn third_party_receivers_get_queries_and_responses() {
    if !is_installed("fstrm_capture") || !is_installed("dnstap-ldns") {
        return;
    }
    let directory = directory("dnstap");
    let (socket, file) = (directory.join("tap.sock"), directory.join("tap.fstrm"));
    let mut command = Command::new("fstrm_capture");
    command.args(["-t", "protobuf:dnstap.Dnstap", "-u"]).arg(&socket).arg("-w").arg(&file);
    let mut receiver = Program::start_silent(&mut command);
    until("the receiver", || socket.exists().then_some(()));
    let upstream = upstream();
    let corefile = format!(
        ".:0 {{\n bind 127.0.0.1\n dnstap {} full {{\n identity me\n }}\n forward . {}\n}}\n",
        socket.display(),
        upstream.addresses()[0]
    );
    fs::write(directory.join("Corefile"), corefile).unwrap();
    let (forwarder, address) = onward_in(&directory, &["--workers", "1"]);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(address).unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01";
    client.send(query).unwrap();
    let mut reply = [0; 512];
    let len = client.recv(&mut reply).unwrap();
    assert!(len > query.len() && reply[..2] == query[..2]);
    assert_eq!(forwarder.end("TERM"), Some(0));
    receiver.signal("TERM");
    receiver.wait();

    let output = Command::new("dnstap-ldns").arg("-y").arg("-r").arg(&file).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let types: Vec<_> =
        text.lines().filter_map(|line| line.trim().strip_prefix("type: ")).collect();
    let types: Vec<_> = types.into_iter().filter(|kind| *kind != "MESSAGE").collect();
    let expected = ["CLIENT_QUERY", "FORWARDER_QUERY", "FORWARDER_RESPONSE", "CLIENT_RESPONSE"];
    assert_eq!(types, expected, "{text}");
    assert!(text.contains(&format!("query_port: {}", client.local_addr().unwrap().port())));
    let port = upstream.addresses()[0].port();
    assert_eq!(text.matches(&format!("response_port: {port}")).count(), 2, "{text}");
    assert_eq!(text.matches("identity: \"me\"").count(), 4, "{text}");
}

#[test]
fn without_a_receiver_queries_are_answered_and_a_warning_is_logged() {
    let directory = directory("dnstap-nobody");
    let socket = directory.join("nobody.sock");
    let corefile = format!(".:0 {{\n bind 127.0.0.1\n dnstap {}\n any\n}}\n", socket.display());
    fs::write(directory.join("Corefile"), corefile).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_onward"));
    command.args(["--workers", "1"]).current_dir(&directory);
    // The two lines come in either order.
    let (mut told, mut address) = (false, None);
    let (mut forwarder, address) = Program::start(&mut command, |line| {
        told |= line.starts_with("[ERROR] plugin/dnstap: cannot connect to the receiver: ");
        let own = line.strip_prefix("onward listens on ").and_then(|rest| rest.split(',').next());
        address = own.map_or(address, |own| Some(own.parse::<SocketAddr>().unwrap()));
        address.filter(|_| told)
    });
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(address).unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    for _ in 0..2 {
        client.send(b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\xff\0\x01").unwrap();
        client.recv(&mut [0; 512]).unwrap();
    }
    forwarder.signal("TERM");
    let line = forwarder.wait_for("plugin/dnstap");
    assert_eq!(line, "[WARNING] plugin/dnstap: Dropped dnstap messages: 4");
    assert_eq!(forwarder.wait(), Some(0));
}
