//! `auto` with a real directory.
//!
//! Files are added, changed, broken, moved and deleted while queries are answered, the directory is
//! removed and restored, and the Corefile is never reloaded. `onward check` names the zones.

use super::process::{Program, directory, onward_in, onward_output};
use super::until::until;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

const COREFILE: &str =
    "test.:0 {\n bind 127.0.0.1\n auto {\n  directory zones\n  reload 20ms\n }\n}\n";

/// The response code, AA, and the last byte of the reply, which belongs to an address.
type Reply = (u8, bool, u8);

/// A server and its zone files.
struct Bed {
    directory: PathBuf,
    program: Program,
    client: UdpSocket,
}

impl Bed {
    fn start(test: &str, files: &[(&str, u8)]) -> Self {
        let directory = directory(test);
        fs::write(directory.join("Corefile"), COREFILE).unwrap();
        fs::create_dir(directory.join("zones")).unwrap();
        files.iter().for_each(|(file, number)| write(&directory.join("zones"), file, *number));
        let (program, address): (_, SocketAddr) = onward_in(&directory, &["--conf", "Corefile"]);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Self { directory, program, client }
    }

    fn zones(&self) -> PathBuf {
        self.directory.join("zones")
    }

    /// Queries the address of `x` in a zone right below `test`.
    fn ask(&self, zone: &str) -> Reply {
        let mut query = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01x".to_vec();
        query.push(zone.len() as u8);
        query.extend(zone.bytes());
        query.extend(b"\x04test\0\0\x01\0\x01");
        let mut reply = [0; 512];
        self.client.send(&query).unwrap();
        let len = self.client.recv(&mut reply).unwrap();
        (reply[3] & 15, reply[2] & 4 != 0, reply[..len][len - 1])
    }

    /// Waits until the zone gets this reply.
    #[track_caller]
    fn until(&self, zone: &str, expected: impl Fn(Reply) -> bool) {
        until("the answer", || expected(self.ask(zone)).then_some(()));
    }
}

/// Writes or replaces a zone whose `x` has an address with this last byte.
fn write(zones: &Path, file: &str, number: u8) {
    let text = format!("$TTL 60\n@ SOA n h {number} 2 3 4 5\n@ NS n.far.\nx A 192.0.2.{number}\n");
    replace(zones, file, &text);
}

fn replace(zones: &Path, file: &str, text: &str) {
    let new = zones.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, zones.join(file)).unwrap();
}

const REFUSED: u8 = 5;

/// Only the code counts, because a refusal carries no address.
fn is_refused((code, ..): Reply) -> bool {
    code == REFUSED
}

fn is_answered((code, is_authoritative, _): Reply) -> bool {
    code == 0 && is_authoritative
}

#[test]
fn zones_follow_the_files_of_their_directory() {
    let mut bed = Bed::start("auto", &[("db.a.test", 1), ("db.b.test", 2)]);
    assert!(is_answered(bed.ask("a")) && is_answered(bed.ask("b")), "loaded before it serves");
    assert!(is_refused(bed.ask("c")));
    let zones = bed.zones();
    write(&zones, "db.c.test", 3);
    bed.until("c", is_answered);
    bed.program.wait_for("plugin/auto: Inserting zone \"c.test.\" from: zones/db.c.test");
    write(&zones, "db.c.test", 4);
    let line = bed.program.wait_for("Successfully reloaded zone \"c.test.\"");
    assert!(line.contains("with 4 SOA serial"), "{line}");
    replace(&zones, "db.a.test", "junk");
    bed.program.wait_for("plugin/auto: Parsing zone \"a.test.\": zones/db.a.test:1:");
    assert!(is_answered(bed.ask("a")), "what was good stays");
    fs::rename(zones.join("db.c.test"), zones.join("db.d.test")).unwrap();
    fs::remove_file(zones.join("db.b.test")).unwrap();
    bed.until("d", is_answered);
    bed.until("c", is_refused);
    bed.until("b", is_refused);
    assert!(is_answered(bed.ask("a")) && is_answered(bed.ask("d")));
    let away = bed.directory.join("away");
    fs::rename(&zones, &away).unwrap();
    bed.program.wait_for("plugin/auto: cannot read directory zones: ");
    assert!(is_answered(bed.ask("a")) && is_answered(bed.ask("d")), "nothing changes");
    write(&away, "db.b.test", 9);
    fs::rename(&away, &zones).unwrap();
    bed.until("b", is_answered);
    assert!(is_answered(bed.ask("d")));
    assert_eq!(bed.program.end("TERM"), Some(0));
}

#[test]
fn a_check_names_the_zones_that_are_found() {
    let directory = directory("auto_check");
    let zones = directory.join("zones");
    fs::write(directory.join("Corefile"), COREFILE).unwrap();
    let check = || {
        let output = onward_output(&["check", "--conf", "Corefile"], &directory);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, text) = check();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("[WARNING] plugin/auto: directory does not exist: zones"), "{text}");
    fs::create_dir(&zones).unwrap();
    assert!(check().1.contains("[WARNING] plugin/auto: zones: no zone file found"));
    write(&zones, "db.a.test", 1);
    replace(&zones, "db.b.test", "junk");
    write(&zones, "xdb.c.test", 1);
    let (code, text) = check();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.lines().any(|line| line.starts_with("#   a.test. ")), "{text}");
    for warning in [
        "plugin/auto: zones/db.b.test:1:5: zone b.test.: the record ends before its type",
        "plugin/auto: zones/xdb.c.test: is no zone file: its name does not begin with 'db.'",
    ] {
        assert!(text.contains(&format!("[WARNING] {warning}")), "{warning}: {text}");
    }
}
