//! Zones for dig and kdig, over TCP and TLS, signed and not, and a stop during a transfer.
//!
//! Skipped aloud where they are not installed (Debian: bind9-dnsutils, knot-dnsutils).

use super::dot::{Site, kdig};
use super::process::{Program, TIMEOUT};
use super::until::until;
use crate::installed::is_installed;
use std::fmt::Write;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

pub(super) const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
pub(super) const NAMES: usize = 20_000;

/// A zone of several hundred kilobytes with this serial, in which this number of names have other
/// addresses than in the first one.
pub(super) fn write_zone(site: &Site, serial: u32, changed: usize) {
    let mut zone =
        format!("$TTL 60\n@ SOA ns h {serial} 3600 600 86400 5\n@ NS ns\nns A 192.0.2.1\n");
    for number in 0..NAMES {
        let second = if number < changed { 8 } else { 7 };
        writeln!(zone, "n{number} A 10.{second}.{}.{}", number / 256, number % 256).unwrap();
    }
    let new = site.path("zone.new");
    fs::write(&new, zone).unwrap();
    fs::rename(new, site.path("zone")).unwrap();
}

pub(super) fn site(test: &str) -> Site {
    let site = Site::new(test);
    write_zone(&site, 1, 0);
    site
}

/// Returns the output of dig, its errors behind it.
pub(super) fn dig(server: SocketAddr, arguments: &str) -> String {
    let port = server.port().to_string();
    let output = Command::new("dig")
        .args(["@127.0.0.1", "-p", &port, "+tries=1", "+time=20"])
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    String::from_utf8_lossy(&output.stdout).into_owned() + &errors
}

/// The number of lines that are address records.
fn addresses(text: &str) -> usize {
    text.lines().filter(|line| line.contains("\tA\t")).count()
}

pub(super) const BODY: &str = "file zone z.test {\n reload 50ms\n }";

pub(super) fn tsig() -> String {
    format!("tsig {{\n secret k.test {SECRET}\n }}")
}

#[test]
fn dig_gets_a_whole_zone_signed_and_not() {
    if !is_installed("dig") {
        return;
    }
    let site = site("dig-transfer");
    let body = format!(
        "{}\n {BODY}\n file zone signed.test\n transfer z.test {{\n to 127.0.0.0/8\n }}\n \
         transfer signed.test {{\n to * key k.test\n }}",
        tsig()
    );
    let (_onward, server) = site.onward("", &body);
    let key = format!("-y hmac-sha256:k.test:{SECRET}");
    for (arguments, count) in [
        ("z.test AXFR".to_owned(), NAMES + 1),
        (format!("{key} z.test AXFR"), NAMES + 1),
        (format!("{key} signed.test AXFR"), NAMES + 1),
        ("z.test IXFR=0".to_owned(), NAMES + 1),
        ("z.test IXFR=1".to_owned(), 0),
        ("signed.test AXFR".to_owned(), 0),
        ("n1.z.test AXFR".to_owned(), 0),
    ] {
        let text = dig(server, &arguments);
        assert_eq!(addresses(&text), count, "{arguments}: {}", &text[..text.len().min(2_000)]);
        let is_good = !text.contains("Couldn't verify") && !text.contains("BADSIG");
        assert!(is_good, "{arguments}");
        let is_failed = text.contains("Transfer failed");
        assert_eq!(is_failed, count == 0 && !arguments.contains("IXFR"), "{arguments}");
    }
    // A query on the connection of another client is answered meanwhile.
    assert!(dig(server, "n7.z.test A +tcp +short").contains("10.7.0.7"));
}

#[test]
fn kdig_gets_a_whole_zone_over_tls() {
    if !is_installed("kdig") {
        return;
    }
    let site = site("kdig-transfer");
    let body = format!("tls cert.pem key.pem\n {}\n {BODY}\n transfer {{\n to *\n }}", tsig());
    let (_onward, server) = site.onward("tls://", &body);
    let ca = format!("+tls-ca={}", site.path("ca.pem"));
    let key = format!("hmac-sha256:k.test:{SECRET}");
    let text = kdig(server, &[&ca, "+tls-hostname=dns.test", "-y", &key, "z.test", "AXFR"]);
    assert_eq!(addresses(&text), NAMES + 1, "{}", &text[..text.len().min(2_000)]);
    assert!(!text.contains("WARNING") && !text.contains("; ERROR"));
}

/// Records of [`large`]: the first SOA, the last one and the NS record beside the texts.
const LARGE: usize = 60_003;

/// A server with a zone that is larger than the buffers of a connection.
fn large(test: &str) -> (Site, Program, SocketAddr) {
    let site = Site::new(test);
    let text = "x".repeat(250);
    let mut zone = String::from("$TTL 60\n@ SOA ns h 1 3600 600 86400 5\n@ NS ns\n");
    for number in 0..LARGE - 3 {
        writeln!(zone, "n{number} TXT {text}").unwrap();
    }
    fs::write(site.path("zone"), zone).unwrap();
    let (onward, server) = site.onward("", &format!("{BODY}\n transfer {{\n to *\n }}"));
    (site, onward, server)
}

/// Asks for the zone.
fn begin(server: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(server).unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut ask = vec![0, 24, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    ask.extend(b"\x01z\x04test\0\0\xfc\0\x01");
    ask[1] = (ask.len() - 2) as u8;
    client.write_all(&ask).unwrap();
    client
}

/// Reads a message; returns the number of its records.
fn next(client: &mut TcpStream) -> usize {
    let mut len = [0; 2];
    client.read_exact(&mut len).unwrap();
    let mut message = vec![0; u16::from_be_bytes(len).into()];
    client.read_exact(&mut message).unwrap();
    usize::from(u16::from_be_bytes([message[6], message[7]]))
}

#[test]
fn a_stop_waits_for_a_transfer_that_its_client_reads() {
    let (site, mut onward, server) = large("transfer-drain");
    let mut client = begin(server);
    let mut records = next(&mut client);
    // A configuration in which the zone is not.
    fs::write(site.path("Corefile"), format!(".:{} {{\n bind 127.0.0.1\n}}\n", server.port()))
        .unwrap();
    onward.signal("HUP");
    until("the zone is gone", || dig(server, "z.test SOA").contains("REFUSED").then_some(()));
    records += next(&mut client);
    onward.signal("TERM");
    while records < LARGE {
        records += next(&mut client);
    }
    assert_eq!((records, onward.wait()), (LARGE, Some(0)));
}

#[test]
fn a_stop_cuts_a_transfer_whose_client_reads_nothing() {
    let (_site, mut onward, server) = large("transfer-stall");
    let mut client = begin(server);
    let mut records = next(&mut client);
    onward.signal("TERM");
    assert_eq!(onward.wait(), Some(0));
    // The end of what the kernel has is no end of a zone.
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest);
    while let Some((len, behind)) = rest.split_first_chunk::<2>() {
        let Some(message) = behind.get(..usize::from(u16::from_be_bytes(*len))) else { break };
        records += usize::from(u16::from_be_bytes([message[6], message[7]]));
        rest = behind[message.len()..].to_vec();
    }
    assert!(records < LARGE, "{records}");
}
