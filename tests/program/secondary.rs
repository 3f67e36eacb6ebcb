//! Zones from primaries: nsd, named, onward itself, and servers that break every rule.
//!
//! Skipped aloud where a program is not installed (Debian: nsd, bind9, bind9-dnsutils).

use super::dot::Site;
use super::process::{Program, TIMEOUT, free_port, onward};
use super::transfer::dig;
use super::until::until;
use crate::installed::is_installed;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn tsig() -> String {
    format!("tsig {{\n secret k.test {SECRET}\n }}")
}

fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// Writes the zone z.test with this serial and this address of a.z.test.
fn write_zone(site: &Site, file: &str, serial: u32) {
    let text = format!(
        "$TTL 60\n@ SOA ns h {serial} 3600 600 86400 5\n@ NS ns\n@ MX 5 mail\nns A 192.0.2.1\n\
         mail A 192.0.2.2\na A 192.0.2.{}\nlong TXT \"{}\"\n",
        100 + serial,
        "x".repeat(200)
    );
    let new = site.path("zone.new");
    fs::write(&new, text).unwrap();
    fs::rename(new, site.path(file)).unwrap();
}

/// Waits until `server` answers a.z.test with the address of this serial.
fn wait_for(server: SocketAddr, serial: u32) {
    let address = format!("192.0.2.{}\n", 100 + serial);
    until(&format!("serial {serial}"), || {
        (dig(server, "a.z.test A +short") == address).then_some(())
    });
}

/// The forwarder on this port as a secondary of `primary`, with further lines of its stanza and its
/// block.
fn secondary(site: &Site, name: &str, port: u16, lines: &str, block: &str) -> Program {
    let text = format!(
        ".:{port} {{\n bind 127.0.0.1\n root {}\n prometheus 127.0.0.1:0\n {block}\n \
         secondary z.test {{\n {lines}\n }}\n}}\n",
        site.path("")
    );
    let corefile = site.path(name);
    fs::write(&corefile, text).unwrap();
    onward(&["--conf", &corefile, "--workers", "1"]).0
}

/// nsd on `port` as a primary of z.test, which notifies `to`.
fn nsd(site: &Site, port: u16, to: u16) -> Program {
    let at = site.path("nsd");
    let _ = fs::create_dir(&at);
    let text = format!(
        "server:\n  ip-address: 127.0.0.1@{port}\n  username: \"\"\n  chroot: \"\"\n  \
         zonesdir: \"{at}\"\n  pidfile: \"{at}/pid\"\n  zonelistfile: \"{at}/list\"\n  \
         xfrdfile: \"{at}/xfrd\"\n  xfrdir: \"{at}\"\n  database: \"\"\nremote-control:\n  \
         control-enable: no\nkey:\n  name: k.test\n  algorithm: hmac-sha256\n  \
         secret: \"{SECRET}\"\nzone:\n  name: z.test\n  zonefile: {}\n  \
         notify: 127.0.0.1@{to} k.test\n  provide-xfr: 127.0.0.1 k.test\n",
        site.path("zone")
    );
    fs::write(site.path("nsd.conf"), text).unwrap();
    Program::start_silent(Command::new("nsd").arg("-d").arg("-c").arg(site.path("nsd.conf")))
}

/// named on `port` as a primary of z.test that notifies `to` and offers differences.
fn named(site: &Site, port: u16, to: u16) -> Program {
    let at = site.path("");
    let text = format!(
        "key k.test {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n\
         options {{ directory \"{at}\"; listen-on port {port} {{ 127.0.0.1; }}; \
         listen-on-v6 {{ none; }}; pid-file \"{at}/named.pid\"; recursion no; \
         session-keyfile none; dnssec-validation no; empty-zones-enable no; notify-delay 0; \
         ixfr-from-differences yes; max-ixfr-ratio unlimited; notify explicit; }};\n\
         controls {{ }};\n\
         zone z.test {{ type primary; file \"zone\"; masterfile-format text; \
         also-notify {{ 127.0.0.1 port {to} key k.test; }}; \
         allow-transfer {{ key k.test; }}; }};\n"
    );
    fs::write(site.path("named.conf"), text).unwrap();
    let mut command = Command::new("named");
    Program::start_silent(command.args(["-g", "-n", "1", "-c"]).arg(site.path("named.conf")))
}

#[test]
fn zones_come_signed_from_nsd_with_notify_and_from_disk_after_a_kill() {
    if !is_installed("nsd") || !is_installed("dig") {
        return;
    }
    let site = Site::new("secondary-nsd");
    let (primary, port) = (free_port(), free_port());
    write_zone(&site, "zone", 1);
    let lines = format!("transfer from 127.0.0.1:{primary} key k.test\n directory state");
    let start = || secondary(&site, "Corefile", port, &lines, &tsig());
    let server = local(port);
    let running = start();
    assert!(dig(server, "a.z.test A").contains("SERVFAIL"), "no primary, no zone");
    let mut first = nsd(&site, primary, port);
    wait_for(server, 1);
    assert!(dig(server, "z.test MX").contains("flags: qr aa rd"));
    write_zone(&site, "zone", 2);
    first.signal("HUP");
    wait_for(server, 2);
    // A forged notification changes nothing: the primary has a key.
    assert!(dig(server, "z.test SOA +opcode=NOTIFY").contains("REFUSED"));
    first.signal("TERM");
    first.wait();
    assert_eq!(running.end("KILL"), None);
    let second = start();
    wait_for(server, 2);
    drop(second);
    // A state that is damaged is not used, and said to be.
    let state = site.path("state/z.test.zone");
    let bytes = fs::read(&state).unwrap();
    fs::write(&state, &bytes[..bytes.len() / 2]).unwrap();
    let _third = start();
    assert!(dig(server, "a.z.test A").contains("SERVFAIL"));
    let _again = nsd(&site, primary, port);
    wait_for(server, 2);
}

#[test]
fn differences_come_from_named_and_go_on_to_a_further_secondary() {
    if !is_installed("named") || !is_installed("dig") {
        return;
    }
    let site = Site::new("secondary-named");
    let (primary, middle, last) = (free_port(), free_port(), free_port());
    write_zone(&site, "zone", 1);
    let named = named(&site, primary, middle);
    let lines = format!("transfer from 127.0.0.1:{primary} key k.test\n directory middle");
    let block = format!("{}\n transfer {{\n to 127.0.0.1:{last}\n }}", tsig());
    let mut first = secondary(&site, "Middle", middle, &lines, &block);
    let lines = format!("transfer from 127.0.0.1:{middle}\n directory last");
    let _second = secondary(&site, "Last", last, &lines, "");
    wait_for(local(middle), 1);
    wait_for(local(last), 1);
    // Their refresh would be due in an hour.
    write_zone(&site, "zone", 2);
    named.signal("HUP");
    first.wait_for("by IXFR: 7 records, 2 SOA serial");
    wait_for(local(last), 2);
    let zone = |port: u16| {
        let key =
            if port == primary { format!("-y hmac-sha256:k.test:{SECRET}") } else { "".into() };
        let text = dig(local(port), &format!("{key} z.test AXFR +noall +answer"));
        let mut lines: Vec<_> = text.lines().filter(|line| !line.contains("TSIG")).collect();
        lines.sort_unstable();
        lines.join("\n")
    };
    assert_eq!(zone(middle).to_lowercase(), zone(primary).to_lowercase());
    // A reload with other zones keeps the zone while its primary is gone.
    drop(named);
    let text = fs::read_to_string(site.path("Middle")).unwrap();
    fs::write(site.path("Middle"), text.replace("secondary z.test", "secondary z.test y.test"))
        .unwrap();
    first.signal("USR1");
    first.wait_for("eload");
    until("the other zone is known", || {
        dig(local(middle), "y.test SOA").contains("SERVFAIL").then_some(())
    });
    wait_for(local(middle), 2);
}

#[test]
fn zones_come_over_tls_from_the_named_certificate_only() {
    if !is_installed("dig") {
        return;
    }
    let site = Site::new("secondary-tls");
    write_zone(&site, "zone", 3);
    let body = "tls cert.pem key.pem\n file zone z.test\n transfer {\n to *\n }";
    let (_primary, server) = site.onward("tls://", body);
    let port = free_port();
    for (name, is_good) in [("dns.test", true), ("other.test", false)] {
        let lines = format!(
            "transfer from tls://{server}\n tls ca.pem\n tls_servername {name}\n directory {name}"
        );
        let mut running = secondary(&site, name, port, &lines, "");
        if is_good {
            wait_for(local(port), 3);
        } else {
            let line = running.wait_for("Refresh of zone \"z.test.\" failed");
            assert!(line.contains("certificate"), "{line}");
        }
    }
}

/// Behaviour of a broken primary when it gets a query for the zone.
#[derive(Clone, Copy)]
enum Habit {
    Refuses,
    Closes,
    SendsRubbish,
    EndsEarly,
    EndsInAnotherSerial,
    HasNoSoa,
    SendsLengthsAlone,
    Good,
}

/// A primary of scripted answers: its serial and its habit may change.
struct Scripted {
    address: SocketAddr,
    serial: Arc<AtomicU32>,
    habit: Arc<Mutex<Habit>>,
    transfers: Arc<AtomicUsize>,
    checks: Arc<AtomicUsize>,
}

impl Scripted {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serial = Arc::new(AtomicU32::new(1));
        let habit = Arc::new(Mutex::new(Habit::Good));
        let (transfers, checks) = (Arc::default(), Arc::default());
        let own = Self { address, serial, habit, transfers, checks };
        let (serial, habit) = (Arc::clone(&own.serial), Arc::clone(&own.habit));
        let counts = [&own.transfers, &own.checks].map(Arc::clone);
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let serial = serial.load(Ordering::SeqCst);
                let habit = *habit.lock().unwrap();
                // A client that has gone is no failure of the test.
                let _ = serve(&mut client, serial, habit, &counts);
            }
        });
        own
    }

    fn set(&self, serial: u32, habit: Habit) {
        *self.habit.lock().unwrap() = habit;
        self.serial.store(serial, Ordering::SeqCst);
    }
}

fn soa(serial: u32) -> Vec<u8> {
    // Refresh and retry each second, expiry after 4.
    let numbers = [serial, 1, 1, 4, 5].map(u32::to_be_bytes).concat();
    [&[0xc0, 12, 0, 6, 0, 1, 0, 0, 0, 60, 0, 22, 0, 0][..], &numbers].concat()
}

fn serve(
    client: &mut TcpStream,
    serial: u32,
    habit: Habit,
    [transfers, checks]: &[Arc<AtomicUsize>; 2],
) -> std::io::Result<()> {
    client.set_read_timeout(Some(TIMEOUT))?;
    let mut len = [0; 2];
    client.read_exact(&mut len)?;
    let mut query = vec![0; u16::from_be_bytes(len).into()];
    client.read_exact(&mut query)?;
    let question = &query[12..12 + 8 + 4];
    let is_transfer = question[9] == 252;
    let mut send = |rcode: u8, records: &[Vec<u8>]| {
        let mut message = vec![query[0], query[1], 0x84, rcode, 0, 1];
        message.extend((records.len() as u16).to_be_bytes());
        message.extend([0; 4]);
        message.extend_from_slice(question);
        message.extend(records.concat());
        client.write_all(&[&(message.len() as u16).to_be_bytes()[..], &message].concat())
    };
    if question[9] == 6 {
        checks.fetch_add(1, Ordering::SeqCst);
        return send(0, &[soa(serial)]);
    }
    transfers.fetch_add(1, Ordering::SeqCst);
    if !is_transfer {
        return send(4, &[]);
    }
    let address = |last: u32| {
        let name = [1, b'a', 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2];
        [&name[..], &[(100 + last) as u8]].concat()
    };
    match habit {
        Habit::Refuses => send(5, &[]),
        Habit::Closes => Ok(()),
        Habit::SendsRubbish => client.write_all(&[&[0, 32][..], &[0xff; 3_000]].concat()),
        Habit::EndsEarly => send(0, &[soa(serial), address(serial)]),
        Habit::EndsInAnotherSerial => send(0, &[soa(serial), address(serial), soa(serial + 1)]),
        Habit::HasNoSoa => send(0, &[address(serial), address(serial)]),
        Habit::SendsLengthsAlone => client.write_all(&[0, 200]),
        Habit::Good => send(0, &[soa(serial), address(serial), soa(serial)]),
    }
}

#[test]
fn a_broken_primary_never_harms_a_zone_that_expires_and_comes_back() {
    if !is_installed("dig") {
        return;
    }
    let site = Site::new("secondary-broken");
    let (primary, port) = (Scripted::new(), free_port());
    let lines = format!("transfer from {}\n directory state", primary.address);
    let mut running = secondary(&site, "Corefile", port, &lines, "");
    let server = local(port);
    wait_for(server, 1);
    let habits = [
        (Habit::Refuses, "REFUSED"),
        (Habit::Closes, "ended early"),
        (Habit::SendsRubbish, "another query"),
        (Habit::EndsEarly, "ended early"),
        (Habit::EndsInAnotherSerial, "differs from the first"),
        (Habit::HasNoSoa, "first record is not SOA"),
        (Habit::SendsLengthsAlone, "ended early"),
    ];
    for (number, (habit, what)) in (0..).zip(habits) {
        primary.set(10 + number, habit);
        let before = primary.transfers.load(Ordering::SeqCst);
        until("a transfer is tried", || {
            (primary.transfers.load(Ordering::SeqCst) > before + 1).then_some(())
        });
        let line = running.wait_for("Refresh of zone");
        assert!(line.contains(what), "{what}: {line}");
        assert_eq!(dig(server, "a.z.test A +short"), "192.0.2.101\n", "{what}");
        // The next good answer: the zone is current.
        primary.set(1, Habit::Good);
        let before = primary.checks.load(Ordering::SeqCst);
        until("it is confirmed", || {
            (primary.checks.load(Ordering::SeqCst) > before + 1).then_some(())
        });
    }
    // No serial is newer or equal, so nothing confirms the zone: it expires after 4 seconds.
    primary.set(0, Habit::Good);
    running.wait_for("has expired");
    assert!(dig(server, "a.z.test A").contains("SERVFAIL"));
    primary.set(1, Habit::Good);
    running.wait_for("is served again");
    wait_for(server, 1);
    primary.set(5, Habit::Good);
    wait_for(server, 5);
}
