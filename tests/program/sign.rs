//! Zones signed by `sign`, judged by other programs: ldns-verify-zone, dnssec-verify,
//! named-checkzone, and delv at the server that serves them.
//!
//! The zones are generated, and so are the keys. Skipped, with a message, where the programs are
//! not installed (Debian: ldnsutils, bind9-utils, bind9-dnsutils).

use super::dot::Site;
use super::process::{Program, onward_output};
use super::until::until;
use crate::installed::is_installed;
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;

/// The directives' options of each set of keys: algorithm, and flags of `dnssec-keygen`.
const KEYS: [&[(&str, &[&str])]; 6] = [
    &[("ECDSAP256SHA256", &["-f", "KSK"])],
    &[("ECDSAP256SHA256", &["-f", "KSK"]), ("ECDSAP256SHA256", &[])],
    &[("ED25519", &["-f", "KSK"])],
    &[("RSASHA256", &["-b", "2048", "-f", "KSK"]), ("RSASHA256", &["-b", "2048"])],
    &[("ECDSAP384SHA384", &["-f", "KSK"])],
    &[("ED25519", &["-f", "KSK"]), ("ECDSAP256SHA256", &["-f", "KSK"]), ("ECDSAP256SHA256", &[])],
];

/// Records of every kind of name and of many types.
const FIXED: &str = "\
$TTL 3600
@ SOA NS1 HostMaster 7 7200 3600 1209600 300
@ NS Ns1
@ NS ns2.other.test.
@ MX 10 Mail.Signed.Test.
@ TXT \"quoted \\\" and \\\\ and \\007\" \"\" \"two\"
@ CAA 0 issue \"ca.example; account=1\"
ns1 A 192.0.2.1
ns1 AAAA 2001:db8::1
MAIL A 192.0.2.2
a.b.c.ent A 192.0.2.3
*.wild A 192.0.2.4
*.wild MX 10 mail
exists.wild TXT x
*.deep.ent2 CNAME WWW
www CNAME Ns1
deleg NS ns.deleg
deleg NS ns.elsewhere.test.
deleg A 192.0.2.50
ns.deleg A 192.0.2.51
ns.deleg AAAA 2001:db8::51
x.y.deleg TXT occluded
secure NS ns.secure
secure DS 7 13 2 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
ns.secure A 192.0.2.52
dn DNAME target.other.test.
_sip._tcp SRV 1 2 5060 ns1
naptr NAPTR 100 10 \"U\" \"E2U+sip\" \"!^.*$!sip:a@b!\" NS1
_sips._tcp SRV 1 2 5061 NS1
responsible RP Hostmaster Naptr
case MX 10 Mail
case MX 10 MAIL
svc HTTPS 1 . alpn=h2,h3 ipv4hint=192.0.2.9
ssh SSHFP 4 2 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
_443._tcp TLSA 3 1 1 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
loc LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m
odd\\.dot\\@at A 192.0.2.6
\\$ORIGIN A 192.0.2.7
byte\\200\\000 A 192.0.2.8
unknown TYPE65280 \\# 3 010203
out.other.test. A 192.0.2.9
@ DNSKEY 257 3 13 oGAFAvkuITlemmxITETf7cayG1SvasUTpapzNlmn4NmICwUaHhpchhglvGMaxdjR9HR7 (
  z874T4bEuv4t7vtfxw== )
@ RRSIG A 13 2 300 20260101000000 20250101000000 7 signed.test. AAAA
old NSEC @ A
";

/// A zone with the fixed records, a large RRset, and `count` further names.
fn zone(count: u32) -> String {
    let mut text = FIXED.to_owned();
    for number in 0..200 {
        writeln!(text, "large A 198.51.100.{number}").unwrap();
    }
    let mut state = 7_u32;
    for number in 0..count {
        // A linear congruential generator.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (kind, label) = (state >> 28, state >> 8 & 0xffff);
        match kind {
            0 => writeln!(text, "n{number}.E{label} AAAA 2001:db8::{number}"),
            1 => writeln!(text, "cut{number} NS ns.cut{number}\nns.cut{number} A 192.0.2.1"),
            2 => writeln!(text, "*.w{label} TXT \"{number}\""),
            3 => writeln!(text, "c{number} CNAME N{label}"),
            _ => writeln!(text, "N{number} 60 A 203.0.113.{}", number % 256),
        }
        .unwrap();
    }
    text
}

/// Makes keys in the site's directory. Returns the words behind `key file`.
fn make_keys(site: &Site, keys: &[(&str, &[&str])]) -> Vec<String> {
    let make = |(algorithm, flags): &(&str, &[&str])| {
        let output = Command::new("dnssec-keygen")
            .args(["-q", "-K", &site.path(""), "-a", algorithm])
            .args(*flags)
            .arg("signed.test")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    keys.iter().map(make).collect()
}

/// The server that signs the file `zone` and serves what comes of it.
fn start(site: &Site, keys: &[String]) -> (Program, SocketAddr) {
    let keys = keys.join(" ");
    site.onward(
        "",
        &format!(
            "sign zone signed.test {{\n key file {keys}\n directory signed\n reload 20ms\n }}\n \
             file signed/db.signed.test.signed signed.test"
        ),
    )
}

/// Runs a program on a signed file, which has to accept it.
fn accepts(program: &str, arguments: &[&str], file: &str) {
    if !is_installed(program) {
        return;
    }
    let output = Command::new(program).args(arguments).arg(file).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
}

fn accepted(file: &str, is_split: bool) {
    accepts("ldns-verify-zone", &["-V", "1"], file);
    let flags: &[&str] = if is_split { &["-o"] } else { &["-z", "-o"] };
    accepts("dnssec-verify", &[flags, &["signed.test"]].concat(), file);
    accepts("named-checkzone", &["-i", "none", "-k", "ignore", "signed.test"], file);
}

#[test]
fn other_programs_accept_what_is_signed() {
    if !is_installed("dnssec-keygen") {
        return;
    }
    for (number, keys) in KEYS.iter().enumerate() {
        let site = Site::new("sign-verify");
        let count = if number == 3 { 40 } else { 400 };
        fs::write(site.path("zone"), zone(count)).unwrap();
        let keys = make_keys(&site, keys);
        let (mut onward, _) = start(&site, &keys);
        let line = onward.wait_for("Successfully signed zone \"signed.test.\"");
        assert!(line.contains("new signatures, 0 kept"), "{line}");
        let file = site.path("signed/db.signed.test.signed");
        accepted(&file, number == 1 || number == 3);
        // A change of one record costs the signatures of two RRsets, by each algorithm.
        fs::write(site.path("new"), zone(count).replace("192.0.2.3\n", "192.0.2.33\n")).unwrap();
        fs::rename(site.path("new"), site.path("zone")).unwrap();
        let line = onward.wait_for("Successfully signed zone \"signed.test.\"");
        let few = if number == 5 { 4 } else { 2 };
        assert!(line.contains(&format!(", {few} new signatures, ")), "{line}");
        accepted(&file, number == 1 || number == 3);
    }
}

/// Names and types, and whether the answer has an address.
const QUESTIONS: [(&str, bool); 14] = [
    ("signed.test SOA", false),
    ("signed.test DNSKEY", false),
    ("signed.test CDS", false),
    ("ns1.signed.test A", true),
    ("WWW.signed.test A", true),
    ("x.wild.signed.test A", true),
    ("x.wild.signed.test TXT", false),
    ("c.ent.signed.test A", false),
    ("nope.signed.test A", false),
    ("a.nope.signed.test A", false),
    ("deleg.signed.test DS", false),
    ("secure.signed.test DS", false),
    ("svc.signed.test HTTPS", false),
    ("unknown.signed.test TYPE65280", false),
];

#[test]
fn the_signed_zone_is_served_at_once_and_validates() {
    if !is_installed("dnssec-keygen") || !is_installed("delv") || !is_installed("dig") {
        return;
    }
    let site = Site::new("sign-delv");
    fs::write(site.path("zone"), zone(50)).unwrap();
    let keys = make_keys(&site, KEYS[1]);
    let (mut onward, server) = start(&site, &keys);
    // The file did not exist at start, and is checked once in a minute.
    onward.wait_for("Successfully reloaded zone \"signed.test.\"");
    let record = fs::read_to_string(site.path(&format!("{}.key", keys[0]))).unwrap();
    let record = record.lines().find(|line| !line.starts_with(';')).unwrap();
    let mut words = record.split_once("DNSKEY ").unwrap().1.split_whitespace();
    let numbers: Vec<_> = words.by_ref().take(3).collect();
    let key: String = words.collect();
    let anchors =
        format!("trust-anchors {{ signed.test. static-key {} \"{key}\"; }};\n", numbers.join(" "));
    fs::write(site.path("anchors"), anchors).unwrap();
    for (question, has_address) in QUESTIONS {
        let (name, rtype) = question.split_once(' ').unwrap();
        let output = Command::new("delv")
            .args(["@127.0.0.1", "-p", &server.port().to_string(), "-a", &site.path("anchors")])
            .args(["+root=signed.test", name, rtype])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        let is_valid = text.contains("; fully validated")
            || text.contains("; negative response, fully validated");
        assert!(is_valid, "{question}: {text}");
        assert_eq!(text.contains("\tA\t192.0.2."), has_address, "{question}: {text}");
    }
    fs::write(site.path("new"), zone(50).replace("ns1 A 192.0.2.1\n", "ns1 A 192.0.2.99\n"))
        .unwrap();
    fs::rename(site.path("new"), site.path("zone")).unwrap();
    onward.wait_for("Successfully reloaded zone \"signed.test.\"");
    let text = super::transfer::dig(server, "ns1.signed.test A");
    assert!(text.contains("192.0.2.99"), "{text}");
    // Row 106: the next start signs nothing.
    let file = site.path("signed/db.signed.test.signed");
    let before = fs::read(&file).unwrap();
    drop(onward);
    let (mut onward, server) = start(&site, &keys);
    onward.wait_for("Skipping signing zone \"signed.test.\"");
    assert_eq!(fs::read(&file).unwrap(), before);
    assert!(super::transfer::dig(server, "ns1.signed.test A").contains("192.0.2.99"));
}

#[test]
fn a_kill_in_the_middle_keeps_the_old_file() {
    if !is_installed("dnssec-keygen") {
        return;
    }
    let site = Site::new("sign-kill");
    fs::write(site.path("zone"), zone(6_000)).unwrap();
    let keys = make_keys(&site, KEYS[1]);
    let (directory, file) = (site.path("signed"), site.path("signed/db.signed.test.signed"));
    let temporary = || {
        let entries = fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok);
        let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.find(|name| name.starts_with("signed-"))
    };
    for has_file in [false, true] {
        let before = fs::read(&file).ok();
        assert_eq!(before.is_some(), has_file);
        let (onward, _) = start(&site, &keys);
        until("a temporary file", temporary);
        // Killed at once when it is dropped.
        drop(onward);
        assert!(temporary().is_some(), "the signer was faster");
        assert_eq!(fs::read(&file).ok(), before, "the old file, or none");
        let (mut onward, _) = start(&site, &keys);
        onward.wait_for("Successfully signed zone \"signed.test.\"");
        assert_eq!(temporary(), None, "the temporary file of the dead is removed");
        accepts("ldns-verify-zone", &["-V", "1"], &file);
        drop(onward);
        // The next run has many signatures to make.
        fs::write(site.path("zone"), zone(6_000).replace("203.0.113", "203.0.114")).unwrap();
    }
}

#[test]
fn a_check_lists_zones_that_are_signed() {
    if !is_installed("dnssec-keygen") {
        return;
    }
    let site = Site::new("sign-check");
    fs::write(site.path("zone"), zone(0)).unwrap();
    let keys = make_keys(&site, KEYS[0]);
    let text = format!(
        "signed.test {{\n root {}\n sign zone {{\n key file {}\n directory signed\n }}\n \
         file signed/db.signed.test.signed\n}}\n",
        site.path(""),
        keys[0]
    );
    fs::write(site.path("Corefile"), text).unwrap();
    let output = onward_output(&["check", "--conf", &site.path("Corefile")], &site.path("").into());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.starts_with("#   signed.test.  ")).unwrap();
    assert!(line.contains("/zone into ") && line.ends_with("/db.signed.test.signed"), "{line}");
    assert_eq!(text.matches("/zone into ").count(), 1, "{text}");
    assert!(text.contains("#   signed.test. ECDSAP256SHA256 KSK "), "{text}");
    assert!(text.contains("out.other.test. is not in the zone"), "{text}");
    assert!(!text.contains("SERVFAIL until the file appears"), "{text}");
    fs::write(site.path("zone"), "@ SOA junk\n").unwrap();
    let output = onward_output(&["check", "--conf", &site.path("Corefile")], &site.path("").into());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("is not signed until the file is correct"), "{text}");
}
