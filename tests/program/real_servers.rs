//! Third-party programs: nsd as the upstream, dig and dnsperf as clients.
//!
//! They are independent implementations, so they check the wire format. Skipped, with a message,
//! where they are not installed (Debian: nsd, bind9-dnsutils, dnsperf).

use super::process::{Program, TIMEOUT, directory, free_port, onward, onward_in};
use crate::installed::is_installed;
use std::fmt::Write;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

const NAMES: usize = 10_000;

/// A zone of [`NAMES`] names, a long TXT and a chain of aliases.
fn zone() -> String {
    let mut zone = String::from(
        "$ORIGIN onward.test.\n$TTL 300\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\n\
         ns A 127.0.0.1\nalias CNAME n42\n",
    );
    for number in 0..NAMES {
        writeln!(zone, "n{number} A 10.7.{}.{}", number / 256, number % 256).unwrap();
    }
    for number in 0..20 {
        writeln!(zone, "long TXT \"{number:0>200}\"").unwrap();
    }
    zone
}

/// nsd with that zone, and its address.
fn nsd(directory: &Path) -> (Program, SocketAddr) {
    let port = free_port();
    let at = directory.display();
    fs::write(directory.join("zone"), zone()).unwrap();
    let configuration = format!(
        "server:\n  ip-address: 127.0.0.1@{port}\n  username: \"\"\n  chroot: \"\"\n  \
         zonesdir: \"{at}\"\n  pidfile: \"{at}/pid\"\n  zonelistfile: \"{at}/list\"\n  \
         xfrdfile: \"{at}/xfrd\"\n  database: \"\"\nremote-control:\n  control-enable: no\n\
         zone:\n  name: onward.test\n  zonefile: zone\n"
    );
    fs::write(directory.join("nsd.conf"), configuration).unwrap();
    let mut command = Command::new("nsd");
    let program =
        Program::start_silent(command.arg("-d").arg("-c").arg(directory.join("nsd.conf")));
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    wait_until_it_answers(address);
    (program, address)
}

/// Sends queries until one is answered.
fn wait_until_it_answers(server: SocketAddr) {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(server).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let (asking, asked) = mpsc::channel();
    std::thread::spawn(move || {
        let query = b"\0\x07\0\0\0\x01\0\0\0\0\0\0\x06onward\x04test\0\0\x06\0\x01";
        // A refused datagram or a timeout means that the server is not ready yet.
        while client.send(query).and_then(|_| client.recv(&mut [0; 512])).is_err() {}
        asking.send(()).unwrap();
    });
    asked.recv_timeout(TIMEOUT).expect("the server does not answer");
}

fn dig(server: SocketAddr, arguments: &str) -> String {
    let port = server.port().to_string();
    let output = Command::new("dig")
        .args(["@127.0.0.1", "-p", &port, "+tries=1", "+time=5"])
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "dig {arguments}: {text}");
    assert!(!text.contains("malformed"), "dig {arguments}: {text}");
    text
}

#[test]
fn dig_and_kdig_repeat_a_limited_query_with_the_cookie_of_the_reply() {
    if !is_installed("dig") || !is_installed("kdig") {
        return;
    }
    let directory = directory("badcookie");
    let limits = "ratelimit {\n qps 0.001\n burst 1\n slip 1\n }";
    let text = format!(".:0 {{\n bind 127.0.0.1\n {limits}\n whoami\n}}\n");
    fs::write(directory.join("Corefile"), text).unwrap();
    let (_onward, server) = onward_in(&directory, &["--workers", "1"]);
    let is_answered = |said: &str| said.contains("NOERROR") && !said.contains("BADCOOKIE");
    let said = dig(server, "a.test +cookie=0123456789abcdef");
    assert!(is_answered(&said), "within the limit: {said}");
    let said = dig(server, "a.test +cookie=0123456789abcdef +nobadcookie");
    assert!(said.contains("status: BADCOOKIE"), "{said}");
    let said = dig(server, "a.test +cookie=0123456789abcdef");
    assert!(said.contains("BADCOOKIE, retrying") && said.contains("status: NOERROR"), "{said}");
    let port = server.port().to_string();
    let words = ["@127.0.0.1", "-p", &port, "+cookie", "+badcookie", "+timeout=5", "a.test"];
    let output = Command::new("kdig").args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("BADCOOKIE") && said.contains("NOERROR"), "{said}");
}

#[test]
fn dig_gets_the_servers_answers() {
    if !is_installed("nsd") || !is_installed("dig") {
        return;
    }
    let (_nsd, upstream) = nsd(&directory("dig"));
    let (_onward, server) =
        onward(&["--listen", "127.0.0.1:0", "--forward", &upstream.to_string()]);
    assert_eq!(dig(server, "n42.onward.test +short"), "10.7.0.42\n");
    for arguments in ["n42.onward.test +cookie", "n42.onward.test +cookie +tcp"] {
        let said = dig(server, arguments);
        let cookie = said.lines().find(|line| line.starts_with("; COOKIE: "));
        let is_good = |line: &str| line.ends_with(" (good)") && line.len() == 10 + 48 + 7;
        assert!(cookie.is_some_and(is_good), "dig {arguments}: {said}");
    }
    let said = dig(server, "+cookie +header-only");
    assert!(said.contains("(good)") && said.contains("status: NOERROR"), "{said}");
    assert_eq!(dig(server, "n42.onward.test +short +noedns"), "10.7.0.42\n");

    let spelt = dig(server, "N42.onWARD.Test A");
    assert!(spelt.contains(";N42.onWARD.Test."), "{spelt}");
    assert!(spelt.contains("status: NOERROR") && spelt.contains("udp: 1232"), "{spelt}");

    let plain = dig(server, "n42.onward.test A +noedns");
    assert!(!plain.contains("EDNS"), "{plain}");
    let cookie = dig(server, "n42.onward.test A +cookie=0123456789abcdef");
    assert!(cookie.contains("COOKIE: 0123456789abcdef01000000"), "one of this hop: {cookie}");

    let alias = dig(server, "alias.onward.test A");
    assert!(alias.contains("CNAME") && alias.contains("10.7.0.42"), "{alias}");
    let missing = dig(server, "nowhere.onward.test A");
    assert!(missing.contains("status: NXDOMAIN") && missing.contains("SOA"), "{missing}");
    let refused = dig(server, "example.com A");
    assert!(refused.contains("status: REFUSED"), "the server's own rcode: {refused}");

    let long = dig(server, "long.onward.test TXT +ignore");
    assert!(long.contains("flags: qr aa tc rd"), "{long}");
    let version = dig(server, "n42.onward.test A +edns=1 +noednsnegotiation");
    assert!(version.contains("status: BADVERS"), "{version}");
    let rtype = dig(server, "+opcode=status n42.onward.test A");
    assert!(rtype.contains("status: NOTIMP"), "{rtype}");
}

#[test]
fn dnsperf_loses_nothing() {
    if !is_installed("nsd") || !is_installed("dnsperf") {
        return;
    }
    let directory = directory("dnsperf");
    let (_nsd, upstream) = nsd(&directory);
    let (_onward, server) =
        onward(&["--listen", "127.0.0.1:0", "--forward", &upstream.to_string()]);
    let names: String = (0..NAMES).map(|number| format!("n{number}.onward.test A\n")).collect();
    fs::write(directory.join("queries"), names).unwrap();
    let port = server.port().to_string();
    let output = Command::new("dnsperf")
        .args(["-s", "127.0.0.1", "-p", &port, "-n", "3", "-c", "8", "-q", "100", "-d"])
        .arg(directory.join("queries"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("Queries completed:    30000 (100.00%)"), "{text}");
    assert!(text.contains("NOERROR 30000 (100.00%)"), "{text}");
}
