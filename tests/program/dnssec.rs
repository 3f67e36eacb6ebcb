//! Signed answers, validated by delv and unbound with the zone's key as their trust anchor.
//!
//! Skipped, with a message, where they are not installed (Debian: bind9-dnsutils, unbound).

use super::dot::Site;
use super::http::get;
use super::process::{Program, free_port, onward_output};
use super::until::until;
use crate::installed::is_installed;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

const ZONE: &str = "\
$TTL 300
@ SOA ns1 hostmaster 1 7200 3600 1209600 60
@ NS ns1
ns1 A 127.0.0.1
www CNAME web
web A 192.0.2.82
web A 192.0.2.81
*.wild A 192.0.2.10
*.walias CNAME web
gone CNAME nothing
a.ent A 192.0.2.9
deleg NS ns.deleg
ns.deleg A 192.0.2.50
dn DNAME sub
x.sub A 192.0.2.11
";

/// Questions, and what is expected of their answers: the response code of unbound, and whether
/// there is an address.
const QUESTIONS: [(&str, &str, bool); 16] = [
    ("web.example.org A", "NOERROR", true),
    ("example.org SOA", "NOERROR", false),
    ("example.org DNSKEY", "NOERROR", false),
    ("www.example.org A", "NOERROR", true),
    ("www.example.org AAAA", "NOERROR", false),
    ("x.wild.example.org A", "NOERROR", true),
    ("x.wild.example.org TXT", "NOERROR", false),
    ("x.walias.example.org A", "NOERROR", true),
    ("web.example.org TXT", "NOERROR", false),
    ("ent.example.org A", "NOERROR", false),
    ("nope.example.org A", "NOERROR", false),
    ("a.b.nope.example.org A", "NOERROR", false),
    ("gone.example.org A", "NOERROR", false),
    ("deleg.example.org DS", "NOERROR", false),
    ("x.dn.example.org A", "NOERROR", true),
    ("hosts.example.org A", "NOERROR", true),
];

/// Keys of each algorithm: the first is the anchor.
const KEYS: [&[&str]; 5] = [
    &["Kexample.org.+013+54570", "Kexample.org.+013+51642"],
    &["Kexample.org.+015+64733"],
    &["Kexample.org.+014+55143"],
    &["Kexample.org.+008+55784"],
    &["Kexample.org.+010+25872"],
];

fn keys() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/keys"))
}

/// The server with the zone, signed with these keys, and hosts that are signed, too.
fn start(site: &Site, used: &[&str]) -> (Program, SocketAddr) {
    fs::write(site.path("zone"), ZONE).unwrap();
    let paths = used.iter().map(|key| format!(" {}", keys().join(key).display()));
    let paths: String = paths.collect();
    site.onward(
        "",
        &format!(
            "dnssec example.org {{\n key file{paths}\n }}\n hosts {{\n \
             192.0.2.77 hosts.example.org\n fallthrough\n }}\n \
             file zone example.org\n prometheus 127.0.0.1:0"
        ),
    )
}

/// The public key in the file of the first key.
fn anchor(used: &[&str]) -> String {
    let text = fs::read_to_string(keys().join(format!("{}.key", used[0]))).unwrap();
    let record = text.lines().find(|line| !line.starts_with(';')).expect("a record");
    record.split_once("DNSKEY ").expect("a key").1.to_owned()
}

#[test]
fn delv_validates_every_answer() {
    if !is_installed("delv") {
        return;
    }
    for used in KEYS {
        let site = Site::new("delv");
        let (mut onward, server) = start(&site, used);
        let key = anchor(used);
        let mut words = key.split_whitespace();
        let numbers: Vec<_> = words.by_ref().take(3).collect();
        let text: String = words.collect();
        let anchors = format!(
            "trust-anchors {{ example.org. static-key {} \"{text}\"; }};\n",
            numbers.join(" ")
        );
        fs::write(site.path("anchors"), anchors).unwrap();
        let transports = ["+notcp", "+tcp"];
        let asked = transports.iter().flat_map(|tcp| QUESTIONS.map(|question| (*tcp, question)));
        for (tcp, (question, _, has_address)) in asked {
            let (name, rtype) = question.split_once(' ').unwrap();
            let output = Command::new("delv")
                .args(["@127.0.0.1", "-p", &server.port().to_string(), "-a", &site.path("anchors")])
                .args([tcp, "+root=example.org", name, rtype])
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            let is_valid = text.contains("; fully validated")
                || text.contains("; negative response, fully validated");
            assert!(is_valid, "{used:?}: {question}: {text}");
            assert_eq!(text.contains("\t192.0.2."), has_address, "{question}: {text}");
        }
        let page = onward.wait_for("onward serves http://");
        let address = page.split("http://").nth(1).unwrap().split('/').next().unwrap();
        let (_, text) = get(address.parse().unwrap(), "/metrics");
        let count = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let number = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            number.unwrap_or_else(|| panic!("no {name} in {text}"))
        };
        let (hits, misses) = (
            count("coredns_dnssec_cache_hits_total{"),
            count("coredns_dnssec_cache_misses_total{"),
        );
        assert!(hits > misses && misses > 0.0, "{hits} {misses}");
        assert_eq!(count("coredns_dnssec_cache_entries{"), misses);
        assert_eq!(count("onward_dnssec_signatures_total{how=\"made\"}"), misses);
        assert_eq!(count("onward_dnssec_signatures_total{how=\"kept\"}"), hits);
    }
}

#[test]
fn unbound_finds_no_bogus_answer() {
    if !is_installed("unbound") || !is_installed("dig") {
        return;
    }
    for used in KEYS {
        let site = Site::new("unbound-dnssec");
        let (_onward, server) = start(&site, used);
        let port = free_port();
        let text = format!(
            "server:\n username: \"\"\n chroot: \"\"\n pidfile: \"\"\n use-syslog: no\n \
             do-not-query-localhost: no\n module-config: \"validator iterator\"\n \
             interface: 127.0.0.1@{port}\n trust-anchor: \"example.org. DNSKEY {}\"\n\
             stub-zone:\n name: example.org\n stub-addr: 127.0.0.1@{}\n\
             remote-control:\n control-enable: no\n",
            anchor(used),
            server.port()
        );
        fs::write(site.path("unbound.conf"), text).unwrap();
        let conf = site.path("unbound.conf");
        let _unbound = Program::start_silent(Command::new("unbound").args(["-d", "-c", &conf]));
        until("unbound listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        for (question, rcode, has_address) in QUESTIONS {
            let at = SocketAddr::from(([127, 0, 0, 1], port));
            let text = super::transfer::dig(at, &format!("+dnssec {question}"));
            assert!(text.contains(&format!("status: {rcode}")), "{used:?}: {question}: {text}");
            let flags = text.lines().find(|line| line.starts_with(";; flags:")).unwrap();
            assert!(flags.contains(" ad"), "{used:?}: {question} is not secure: {text}");
            assert_eq!(text.contains("\tA\t192.0.2."), has_address, "{question}: {text}");
        }
    }
}

#[test]
fn a_check_lists_keys_with_their_ds_records() {
    let site = Site::new("dnssec-check");
    let (key, root) = (KEYS[0][0], keys().display());
    let text = format!("example.org {{\n root {root}\n dnssec {{\n key file {key}\n }}\n}}\n");
    fs::write(site.path("Corefile"), text).unwrap();
    let output = onward_output(&["check", "--conf", &site.path("Corefile")], &keys().into());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = "#   example.org. ECDSAP256SHA256 KSK 54570: DS 54570 13 2 \
                cb77c8f4a64d6f435120dcbec985df64c5726c48472a7963be0a544e7aad1fe1";
    assert!(text.lines().any(|other| other == line), "{text}");
}
