//! nsd and named as secondaries of onward, with a key, NOTIFY, AXFR and IXFR.
//!
//! Skipped aloud where they are not installed (Debian: bind9, bind9-dnsutils, nsd).

use super::dot::Site;
use super::process::{Program, free_port};
use super::transfer::{BODY, NAMES, SECRET, dig, site, tsig, write_zone};
use super::until::until;
use crate::installed::is_installed;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::Command;

/// Names that a version changes, whose differences take several messages, and the SOA records of
/// the difference.
const CHANGED: usize = 3_001;

/// Starts `command`, whose messages go to this file of `site`.
fn logging(site: &Site, command: &mut Command, log: &str) -> Program {
    let file = File::create(site.path(log)).unwrap();
    Program::of(command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap())
}

/// Waits until a line of the log has all `words`.
fn wait_for_line(site: &Site, log: &str, words: &[&str]) {
    until(&format!("a line with {words:?}"), || {
        let text = fs::read_to_string(site.path(log)).unwrap();
        let has_all = |line: &str| words.iter().all(|word| line.contains(word));
        text.lines().any(has_all).then_some(())
    });
}

/// nsd as a secondary of `server` on `port`, which demands and offers the key. `request`: options
/// of its requests.
fn nsd(site: &Site, server: SocketAddr, port: u16, request: &str) -> Program {
    let at = site.path("nsd");
    fs::create_dir(&at).unwrap();
    let text = format!(
        "server:\n  ip-address: 127.0.0.1@{port}\n  username: \"\"\n  chroot: \"\"\n  \
         zonesdir: \"{at}\"\n  pidfile: \"{at}/pid\"\n  zonelistfile: \"{at}/list\"\n  \
         xfrdfile: \"{at}/xfrd\"\n  xfrdir: \"{at}\"\n  database: \"\"\n  verbosity: 2\n\
         remote-control:\n  control-enable: no\nkey:\n  name: k.test\n  \
         algorithm: hmac-sha256\n  secret: \"{SECRET}\"\nzone:\n  name: z.test\n  \
         zonefile: z.zone\n  allow-notify: 127.0.0.1 k.test\n  \
         request-xfr: {request} 127.0.0.1@{} k.test\n  provide-xfr: 127.0.0.1 NOKEY\n",
        server.port()
    );
    fs::write(site.path("nsd.conf"), text).unwrap();
    logging(site, Command::new("nsd").arg("-d").arg("-c").arg(site.path("nsd.conf")), "nsd.log")
}

/// named as a secondary of `server` on `port`, which demands and offers the key.
fn named(site: &Site, server: SocketAddr, port: u16) -> Program {
    let at = site.path("");
    let text = format!(
        "key k.test {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n\
         options {{ directory \"{at}\"; listen-on port {port} {{ 127.0.0.1; }}; \
         listen-on-v6 {{ none; }}; pid-file \"{at}/named.pid\"; recursion no; \
         session-keyfile none; dnssec-validation no; empty-zones-enable no; notify no; }};\n\
         controls {{ }};\n\
         zone z.test {{ type secondary; file \"named.zone\"; masterfile-format text; \
         primaries {{ 127.0.0.1 port {} key k.test; }}; allow-notify {{ key k.test; }}; \
         allow-transfer {{ any; }}; }};\n",
        server.port()
    );
    fs::write(site.path("named.conf"), text).unwrap();
    let mut command = Command::new("named");
    logging(site, command.args(["-g", "-n", "1", "-c"]).arg(site.path("named.conf")), "named.log")
}

/// A forwarder whose zone the secondary on `port` may have, with the key.
fn primary(site: &Site, port: u16) -> (Program, SocketAddr) {
    let body = format!(
        "{}\n {BODY}\n transfer {{\n to 127.0.0.1:{port} key k.test\n source 127.0.0.1\n }}",
        tsig()
    );
    site.onward("", &body)
}

/// Waits until the server has this serial.
fn wait_for(server: SocketAddr, serial: u32) {
    until("the server has the serial", || {
        let text = dig(server, "z.test SOA +short");
        text.contains(&format!(" {serial} 3600 600 ")).then_some(())
    });
}

/// The records of a zone, sorted.
fn records(server: SocketAddr, arguments: &str) -> Vec<String> {
    let text = dig(server, &format!("{arguments} z.test AXFR +noall +answer"));
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_record = |line: &&str| line.contains("IN") && !line.contains("TSIG");
    let mut lines: Vec<_> = text.lines().filter(is_record).map(words).collect();
    lines.sort_unstable();
    lines.dedup();
    lines
}

fn assert_equal(server: SocketAddr, secondary: SocketAddr) {
    let own = records(server, &format!("-y hmac-sha256:k.test:{SECRET}"));
    assert_eq!(own.len(), NAMES + 3, "SOA, NS, ns and the names");
    let others = records(secondary, "");
    let differs = own.iter().zip(&others).find(|(own, other)| own != other);
    assert!(own == others, "{differs:?}");
}

#[test]
fn nsd_is_a_secondary_that_hears_of_changes() {
    if !is_installed("nsd") || !is_installed("dig") {
        return;
    }
    for (request, test) in [("AXFR", "nsd-axfr"), ("", "nsd-ixfr")] {
        let site = site(test);
        let port = free_port();
        let (mut onward, server) = primary(&site, port);
        let secondary = SocketAddr::from(([127, 0, 0, 1], port));
        let _nsd = nsd(&site, server, port, request);
        wait_for(secondary, 1);
        assert_equal(server, secondary);
        // Its refresh would be due in an hour.
        for (serial, changed, records) in [(2, 1, 6), (3, CHANGED, CHANGED * 2 + 2)] {
            write_zone(&site, serial, changed);
            wait_for(secondary, serial);
            assert_equal(server, secondary);
            let serial = format!("serial {serial}");
            wait_for_line(&site, "nsd.log", &[&serial, "TSIG verified with key k.test"]);
            let (kind, records) =
                if request.is_empty() { ("incremental ", records) } else { ("", NAMES + 4) };
            onward.wait_for(&format!("Outgoing {kind}transfer of {records} records"));
        }
    }
}

#[test]
fn named_is_a_secondary_that_hears_of_changes() {
    if !is_installed("named") || !is_installed("dig") {
        return;
    }
    let site = site("named-transfer");
    let port = free_port();
    let (mut onward, server) = primary(&site, port);
    let secondary = SocketAddr::from(([127, 0, 0, 1], port));
    let _named = named(&site, server, port);
    wait_for(secondary, 1);
    assert_equal(server, secondary);
    // Its refresh would be due in an hour.
    for (serial, changed, records) in [(2, 1, 6), (3, CHANGED, CHANGED * 2 + 2)] {
        write_zone(&site, serial, changed);
        let told = format!("serial {serial}");
        wait_for_line(&site, "named.log", &["notify from 127.0.0.1", &told]);
        wait_for(secondary, serial);
        assert_equal(server, secondary);
        let transferred = format!("transferred serial {serial}");
        wait_for_line(&site, "named.log", &[&transferred, "TSIG 'k.test'"]);
        let records = format!("{records} records");
        wait_for_line(&site, "named.log", &["Transfer completed", &records]);
        onward.wait_for(&format!("Outgoing incremental transfer of {records}"));
    }
    wait_for_line(&site, "named.log", &["received notify", "TSIG 'k.test'"]);
}

#[test]
fn dig_gets_the_differences_of_several_versions_signed_and_not() {
    if !is_installed("dig") {
        return;
    }
    let site = site("dig-differences");
    let body = format!("{}\n {BODY}\n transfer {{\n to *\n }}", tsig());
    let (_onward, server) = site.onward("", &body);
    for (serial, changed) in [(2, 1), (3, CHANGED)] {
        write_zone(&site, serial, changed);
        wait_for(server, serial);
    }
    // Each difference has the removed records, the added ones, and a SOA record before both.
    let [first, second] = [4, CHANGED * 2];
    for key in [String::new(), format!("-y hmac-sha256:k.test:{SECRET}")] {
        for (serial, count) in [(1, first + second + 2), (2, second + 2), (3, 1), (4, 1)] {
            let arguments = format!("{key} z.test IXFR={serial} +noall +answer");
            let text = dig(server, &arguments);
            let is_record = |line: &&str| line.contains("\tIN\t");
            assert_eq!(text.lines().filter(is_record).count(), count, "{arguments}");
            let is_good = !text.contains("Couldn't verify") && !text.contains("BADSIG");
            assert!(is_good, "{arguments}");
        }
        // The history does not reach so far.
        let text = dig(server, &format!("{key} z.test IXFR=0 +noall +answer"));
        assert_eq!(text.lines().filter(|line| line.contains("\tA\t")).count(), NAMES + 1);
    }
}
