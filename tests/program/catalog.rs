//! Zones that a catalog adds and removes (RFC 9432): named is the primary of the catalog and of its
//! members.
//!
//! Skipped aloud where a program is not installed (Debian: bind9, bind9-dnsutils).

use super::dot::Site;
use super::process::{Program, free_port, onward};
use super::transfer::dig;
use super::until::until;
use crate::installed::is_installed;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// Writes the catalog with these members, each with its id.
fn write_catalog(site: &Site, serial: u32, version: u32, members: &[(&str, &str)]) {
    let mut text = format!(
        "$TTL 60\n@ SOA invalid. h {serial} 3600 600 86400 5\n@ NS invalid.\n\
         version TXT \"{version}\"\n"
    );
    for (id, zone) in members {
        text += &format!("{id}.zones PTR {zone}.\n");
    }
    let new = site.path("catalog.new");
    fs::write(&new, text).unwrap();
    fs::rename(new, site.path("catalog")).unwrap();
}

/// named on `port` as a primary of the catalog and of two zones, which notifies `to`.
fn named(site: &Site, port: u16, to: u16) -> Program {
    let at = site.path("");
    let mut text = format!(
        "options {{ directory \"{at}\"; listen-on port {port} {{ 127.0.0.1; }}; \
         listen-on-v6 {{ none; }}; pid-file \"{at}/named.pid\"; recursion no; \
         session-keyfile none; dnssec-validation no; empty-zones-enable no; notify-delay 0; \
         notify explicit; allow-transfer {{ any; }}; also-notify {{ 127.0.0.1 port {to}; }}; \
         }};\ncontrols {{ }};\n"
    );
    for (zone, file) in [("catalog.test", "catalog"), ("one.test", "one"), ("two.test", "two")] {
        text += &format!("zone {zone} {{ type primary; file \"{file}\"; }};\n");
    }
    fs::write(site.path("named.conf"), text).unwrap();
    let mut command = Command::new("named");
    Program::start_silent(command.args(["-g", "-n", "1", "-c"]).arg(site.path("named.conf")))
}

#[test]
fn zones_follow_their_catalog() {
    if !is_installed("named") || !is_installed("dig") {
        return;
    }
    let site = Site::new("catalog");
    let (primary, port) = (free_port(), free_port());
    for (zone, address) in [("one", "192.0.2.1"), ("two", "192.0.2.2")] {
        let text = format!("$TTL 60\n@ SOA ns h 1 3600 600 86400 5\n@ NS ns\nns A {address}\n");
        fs::write(site.path(zone), text).unwrap();
    }
    write_catalog(&site, 1, 2, &[("a", "one.test"), ("b", "far.example")]);
    let text = format!(
        "test:{port} {{\n bind 127.0.0.1\n root {}\n secondary catalog.test {{\n \
         transfer from 127.0.0.1:{primary}\n directory state\n catalog\n }}\n}}\n",
        site.path("")
    );
    fs::write(site.path("Corefile"), text).unwrap();
    let start = || onward(&["--conf", &site.path("Corefile"), "--workers", "1"]).0;
    let named = named(&site, primary, port);
    let mut running = start();
    let server = SocketAddr::from(([127, 0, 0, 1], port));
    let answers = |zone: &str, expected: &str| {
        until(&format!("{zone}: {expected}"), || {
            dig(server, &format!("ns.{zone} A")).contains(expected).then_some(())
        });
    };
    running.wait_for("Member \"far.example.\" of catalog \"catalog.test.\" is ignored");
    answers("one.test", "192.0.2.1");
    assert!(dig(server, "ns.two.test A").contains("REFUSED"));
    write_catalog(&site, 2, 2, &[("c", "two.test")]);
    named.signal("HUP");
    answers("two.test", "192.0.2.2");
    answers("one.test", "REFUSED");
    let is_kept = |zone: &str| Path::new(&site.path(&format!("state/{zone}.test.zone"))).exists();
    assert!(!is_kept("one") && is_kept("two"));
    // A catalog of an unknown version changes nothing.
    write_catalog(&site, 3, 3, &[]);
    named.signal("HUP");
    running.wait_for("Catalog \"catalog.test.\" is not applied: its property 'version' is not 2");
    answers("two.test", "192.0.2.2");
    write_catalog(&site, 4, 2, &[("c", "two.test")]);
    named.signal("HUP");
    running.wait_for("Transferred zone \"catalog.test.\"");
    drop(named);
    assert_eq!(running.end("KILL"), None);
    let _second = start();
    answers("two.test", "192.0.2.2");
}
