//! Zones that are signed: their records, the schedule of renewals, and the thread with real files.
//!
//! Every signature is verified. What other validators say is tested in `tests/program/sign.rs`.

use super::content::Content;
use super::keys::ZoneKey;
use super::signing::{Before, Findings, Made, Validity, examine, newer, write};
use super::{Readers, Signer};
use crate::config::record::{write_data, write_name};
use crate::config::{Config, Host, RecordType, SignedSource};
use crate::corefile::Sources;
use crate::dnssec::{Draft, Owner, PublicKey, RRSIG_HEAD, verify};
use crate::engine::authority::{Builder, Node, Zone};
use crate::log::Log;
use crate::zonefile::{Consumer, Record, read};
use ahash::RandomState;
use crossbeam_channel::{Receiver, Sender};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub(super) const KSK: &str = "Kexample.org.+013+54570";
const ZSK: &str = "Kexample.org.+013+51642";
const ED25519: &str = "Kexample.org.+015+64733";
const RSA: &str = "Kexample.org.+008+55784";
const TIMEOUT: Duration = Duration::from_secs(20);
const HOUR: u32 = 3_600;
pub(super) const DAY: u32 = 24 * HOUR;
/// A time near the end of 32 bits, so that later ones are beyond it.
const NOW: u32 = u32::MAX - 10 * DAY;

/// A zone with all kinds of names.
pub(super) const ZONE: &str = "\
$TTL 600
@ 3600 SOA ns1 hostmaster 7 7200 3600 1209600 300
@ NS ns1
@ NS ns2.other.test.
ns1 A 192.0.2.1
a.b.ent A 192.0.2.9
*.wild TXT \"w\"
WWW CNAME Web.Example.org.
web 60 A 192.0.2.82
web 60 A 192.0.2.81
deleg NS ns.deleg
deleg A 192.0.2.50
ns.deleg A 192.0.2.51
x.y.deleg TXT occluded
sec NS ns.other.test.
sec DS 7 13 2 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
dn DNAME web
x.dn A 192.0.2.3
out.other.test. A 192.0.2.4
@ 60 DNSKEY 257 3 13 AAECAw==
@ CDS 0 0 0 00
@ RRSIG A 13 2 300 20260101000000 20250101000000 7 example.org. AAAA
old NSEC @ A
";

/// The sources of these stanzas in a block for example.org, with the keys of the tests.
pub(super) fn sources(stanzas: &str) -> Vec<SignedSource> {
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/keys");
    let entries = fs::read_dir(keys).unwrap().map(|entry| entry.unwrap().path());
    let file = |path: PathBuf| {
        let name = Path::new("/dir").join(path.file_name().unwrap());
        (name, fs::read(path).unwrap())
    };
    let files: BTreeMap<_, _> = entries.map(file).collect();
    let host = Host { sources: Sources::fixed(files, BTreeMap::new()), ..Host::plain() };
    let text = format!("example.org {{\n bind 127.0.0.1\n {stanzas}\n}}\n");
    Config::load(text.as_bytes(), "Corefile", &host).unwrap().0.signed_zones()
}

fn keys(names: &[&str]) -> Vec<ZoneKey> {
    let sources = sources(&format!("sign db {{\n key file {}\n}}", names.join(" ")));
    ZoneKey::all(&sources[0].keys).unwrap()
}

struct Whole(Builder);

impl Consumer for Whole {
    fn record(&mut self, record: &Record<'_>) -> Result<(), String> {
        let Record { owner, rtype, ttl, data, .. } = *record;
        self.0.add(owner, rtype, ttl, data, (0, 0))
    }

    fn include(&mut self, _: &Path) -> Result<Vec<u8>, String> {
        Err("none".into())
    }
}

pub(super) fn zone(text: &str) -> Zone {
    let origin = b"\x07example\x03org\0";
    let hasher = RandomState::with_seeds(1, 2, 3, 4);
    let mut whole = Whole(Builder::new(origin, text.len(), hasher));
    read(Path::new("db"), text.as_bytes(), origin, &mut whole)
        .unwrap_or_else(|error| panic!("{error}"));
    whole.0.finish().unwrap_or_else(|refused| panic!("{}", refused.what)).zone
}

/// Signs a zone at `now`, and reads the result.
fn sign(
    own: &Zone,
    keys: &[ZoneKey],
    before: Option<&Zone>,
    now: u32,
    serial: u32,
) -> (Zone, Made) {
    let content = Content::new(own, keys, serial).unwrap();
    let before = before.map(|before| Before::new(before, keys));
    let mut text = Vec::new();
    let validity = Validity::new(now, 0);
    let made = write(&content, keys, before.as_ref(), (now, validity), &mut text, &mut || true);
    let signed = zone(std::str::from_utf8(&text).unwrap());
    (signed, made.unwrap())
}

fn look(own: &Zone, keys: &[ZoneKey], before: &Zone, now: u32) -> Findings {
    let content = Content::new(own, keys, before.serial()).unwrap();
    examine(&content, keys, &Before::new(before, keys), now)
}

fn full(signed: &Zone, node: &Node<'_>) -> Vec<u8> {
    [node.name(), signed.apex()].concat()
}

/// Verifies every signature of a zone. Returns `OWNER TYPE TAG` of each.
pub(super) fn verified(signed: &Zone) -> Vec<String> {
    let apex = signed.node_of(b"").unwrap();
    let publics: Vec<PublicKey> = apex
        .set(48)
        .unwrap()
        .data()
        .map(|data| PublicKey {
            flags: u16::from_be_bytes([data[0], data[1]]),
            algorithm: crate::dnssec::Algorithm::of(data[3]).unwrap(),
            key: data[4..].into(),
        })
        .collect();
    let mut all = Vec::new();
    for node in signed.nodes() {
        let owner = full(signed, &node);
        for set in node.sets().filter(|set| set.rtype != 46) {
            for data in node.signatures(set.rtype) {
                let tag = u16::from_be_bytes([data[16], data[17]]);
                let public = publics.iter().find(|key| key.tag() == tag).unwrap();
                let word = |place: usize| u32::from_be_bytes(*data[place..].first_chunk().unwrap());
                let mut draft = Draft::default();
                set.data().for_each(|data| draft.add(set.rtype, data));
                let whose = Owner { name: &owner, rtype: set.rtype, class: 1 };
                draft.compose(&whose, word(4), (data[2], tag), signed.apex());
                draft.set_times(word(12), word(8));
                assert_eq!(draft.head(), &data[..draft.head().len()]);
                assert_eq!(word(4), set.ttl);
                let signature = &data[RRSIG_HEAD + signed.apex().len()..];
                let mut name = String::new();
                write_name(&owner, &mut name);
                let what = format!("{name} {} {tag}", RecordType(set.rtype));
                assert!(verify(public, draft.bytes(), signature), "{what}");
                all.push(what);
            }
        }
    }
    all
}

/// `OWNER TTL DATA` of each NSEC record.
fn chain(signed: &Zone) -> Vec<String> {
    let mut all = Vec::new();
    for node in signed.nodes() {
        for data in node.set(47).into_iter().flat_map(|set| set.data()) {
            let mut line = String::new();
            write_name(&full(signed, &node), &mut line);
            line.push(' ');
            write_data(47, data, &mut line);
            assert_eq!(node.set(47).unwrap().ttl, 300, "RFC 9077");
            all.push(line);
        }
    }
    all
}

#[test]
fn the_chain_has_the_names_that_the_zone_is_authoritative_for() {
    let keys = keys(&[KSK]);
    let (signed, made) = sign(&zone(ZONE), &keys, None, NOW, 8);
    assert_eq!(
        chain(&signed),
        [
            "example.org. deleg.example.org. NS SOA RRSIG NSEC DNSKEY CDS CDNSKEY",
            "deleg.example.org. dn.example.org. NS RRSIG NSEC",
            "dn.example.org. a.b.ent.example.org. DNAME RRSIG NSEC",
            "a.b.ent.example.org. ns1.example.org. A RRSIG NSEC",
            "ns1.example.org. sec.example.org. A RRSIG NSEC",
            "sec.example.org. web.example.org. NS DS RRSIG NSEC",
            "web.example.org. *.wild.example.org. A RRSIG NSEC",
            "*.wild.example.org. www.example.org. TXT RRSIG NSEC",
            "www.example.org. example.org. CNAME RRSIG NSEC",
        ]
    );
    let signatures = verified(&signed);
    assert_eq!((made.made, made.kept), (signatures.len(), 0));
    let sets_of = |owner: &str| {
        let own = signatures.iter().filter(|line| line.split(' ').next() == Some(owner));
        own.map(|line| line.split(' ').nth(1).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(sets_of("example.org."), ["NS", "SOA", "NSEC", "DNSKEY", "CDS", "CDNSKEY"]);
    assert_eq!(sets_of("deleg.example.org."), ["NSEC"]);
    assert_eq!(sets_of("sec.example.org."), ["DS", "NSEC"]);
    for unsigned in ["ns.deleg", "x.y.deleg", "x.dn"] {
        assert_eq!(sets_of(&format!("{unsigned}.example.org.")), [""; 0], "{unsigned}");
    }
    // Glue and occluded records are kept; what the zone file had of DNSSEC is not.
    for (name, rtype) in
        [(&b"\x02ns\x05deleg"[..], 1), (b"\x01x\x01y\x05deleg", 16), (b"\x01x\x02dn", 1)]
    {
        assert!(signed.node_of(name).unwrap().set(rtype).is_some());
    }
    assert!(signed.node_of(b"\x03old").is_none());
    let apex = signed.node_of(b"").unwrap();
    assert_eq!(apex.set(48).unwrap().data().collect::<Vec<_>>(), [&keys[0].data]);
    assert_eq!(apex.set(59).unwrap().data().collect::<Vec<_>>(), [&keys[0].ds]);
    assert_eq!(apex.set(60).unwrap().data().collect::<Vec<_>>(), [&keys[0].data]);
    assert_eq!((apex.set(48).unwrap().ttl, signed.serial()), (3_600, 8));
}

#[test]
fn keys_of_both_kinds_of_an_algorithm_divide_the_work() {
    let own = zone(ZONE);
    let (signed, _) = sign(&own, &keys(&[KSK, ZSK, ED25519, RSA]), None, NOW, 8);
    for line in verified(&signed) {
        let (_, tag) = line.rsplit_once(' ').unwrap();
        let is_alone = tag == "64733" || tag == "55784";
        let is_of_keys = [" DNSKEY ", " CDS ", " CDNSKEY "].iter().any(|kind| line.contains(kind));
        assert!(is_alone || is_of_keys == (tag == "54570"), "{line}");
    }
    let apex = signed.node_of(b"").unwrap();
    for rtype in [48, 59, 60, 6, 2] {
        assert_eq!(apex.signatures(rtype).count(), 3, "type {rtype}: either the KSK or the ZSK");
    }
    assert_eq!([48, 59, 60].map(|rtype| apex.set(rtype).unwrap().data().count()), [4, 3, 3]);
}

#[test]
fn nothing_is_due_until_a_quarter_of_the_validity_is_left() {
    let (own, keys) = (zone(ZONE), keys(&[KSK, ZSK]));
    let (signed, made) = sign(&own, &keys, None, NOW, 8);
    let validity = Validity::new(NOW, 0);
    assert_eq!((NOW - validity.from, validity.until.wrapping_sub(NOW)), (3 * HOUR, 32 * DAY));
    let quarter = (32 * DAY + 3 * HOUR) / 4;
    let left = 32 * DAY - quarter;
    assert_eq!(made.left, left);
    let nothing = |left| Findings { left, ..Findings::default() };
    assert_eq!(look(&own, &keys, &signed, NOW), nothing(left));
    let last = NOW.wrapping_add(left - 1);
    assert_eq!(look(&own, &keys, &signed, last), nothing(1));
    let all = verified(&signed).len();
    let due = Findings { due: all, ..Findings::default() };
    assert_eq!(look(&own, &keys, &signed, last + 1), due);
    assert_eq!(look(&own, &keys, &signed, NOW.wrapping_add(90 * DAY)), due, "expired");
    assert_eq!(look(&own, &keys, &signed, NOW - DAY), due, "signed in the future");
    let (renewed, made) = sign(&own, &keys, Some(&signed), last + 1, 9);
    assert_eq!((made.made, made.kept), (all, 0));
    assert_eq!(verified(&renewed).len(), all);
}

#[test]
fn signatures_of_unchanged_records_are_kept() {
    let (own, keys) = (zone(ZONE), keys(&[KSK, ZSK]));
    let (first, _) = sign(&own, &keys, None, NOW, 8);
    let all = verified(&first).len();
    let changed = zone(&ZONE.replace("192.0.2.82", "192.0.2.83"));
    let later = NOW + 5 * DAY;
    let findings = look(&changed, &keys, &first, later);
    assert!(findings.has_other_records && !findings.has_other_keys && findings.due == 0);
    let (second, made) = sign(&changed, &keys, Some(&first), later, 9);
    assert_eq!((made.made, made.kept), (2, all - 2), "the SOA and the changed set");
    assert_eq!(verified(&second).len(), all);
    assert_eq!(
        made.left,
        Validity::new(NOW, 0).until.wrapping_sub(later) - (32 * DAY + 3 * HOUR) / 4
    );
    // A new name has three signatures with those of the SOA and of the name before it.
    let grown = zone(&format!("{ZONE}new A 192.0.2.7\n"));
    let (third, made) = sign(&grown, &keys, Some(&first), later, 9);
    assert_eq!((made.made, made.kept), (4, all - 2));
    verified(&third);
    // One that is gone, another TTL, another order.
    let shrunk = zone(&ZONE.replace("ns1 A 192.0.2.1\n", ""));
    assert!(look(&shrunk, &keys, &first, later).has_other_records);
    let glue = zone(&ZONE.replace("ns.deleg A 192.0.2.51\n", ""));
    assert!(look(&glue, &keys, &first, later).has_other_records, "unsigned records count");
    let slower = zone(&ZONE.replace("web 60 A", "web 61 A"));
    assert!(look(&slower, &keys, &first, later).has_other_records);
    let turned = ZONE.replace("82\nweb", "x\nweb").replace("81\n", "82\n").replace(".x\n", ".81\n");
    let turned = look(&zone(&turned), &keys, &first, later);
    assert!(!turned.has_other_records && turned.due == 0);
    // The first signatures are due before those of the second run.
    let due = look(&changed, &keys, &second, NOW.wrapping_add(25 * DAY)).due;
    assert_eq!(due, all - 2);
}

#[test]
fn other_keys_sign_anew_what_they_sign() {
    let own = zone(ZONE);
    let (old, both) = (keys(&[KSK]), keys(&[KSK, ED25519]));
    let (first, _) = sign(&own, &old, None, NOW, 8);
    let all = verified(&first).len();
    let findings = look(&own, &both, &first, NOW);
    assert!(findings.has_other_keys && !findings.has_other_records);
    let (second, made) = sign(&own, &both, Some(&first), NOW, 9);
    // The sets of keys and the SOA have changed: the first key signs those anew.
    assert_eq!((made.made, made.kept), (all + 4, all - 4));
    assert_eq!(verified(&second).len(), 2 * all);
    let (third, made) = sign(&own, &keys(&[ED25519]), Some(&second), NOW, 10);
    assert_eq!((made.made, made.kept), (4, all - 4));
    assert_eq!(verified(&third).len(), all);
}

#[test]
fn the_newest_of_the_serial_numbers_counts() {
    for (one, other, newest) in
        [(1, 2, 2), (2, 1, 2), (u32::MAX, 0, 0), (2_024_010_101, 1_795_961_854, 2_024_010_101)]
    {
        assert_eq!(newer(one, other), newest);
    }
}

#[test]
fn work_that_is_not_wanted_stops() {
    let (own, keys) = (zone(ZONE), keys(&[KSK]));
    let content = Content::new(&own, &keys, 8).unwrap();
    let times = (NOW, Validity::new(NOW, u64::MAX));
    let stopped = write(&content, &keys, None, times, &mut Vec::new(), &mut || false);
    assert!(matches!(stopped, Err(super::signing::Stop::Unwanted)));
}

/// Lines of the log of all tests here.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn log(line: &str) {
    LINES.lock().unwrap().push(line.to_owned());
}

/// A running signer with its directory.
struct Bed {
    directory: PathBuf,
    orders: Sender<Readers>,
    files: Receiver<PathBuf>,
    thread: JoinHandle<()>,
}

impl Bed {
    /// A signer of the file `db`, with this key and options.
    fn start(directory: &Path, key: &str) -> Self {
        let (own, place) = (directory.display(), directory.to_owned());
        let stanza =
            format!("sign {own}/db {{\n key file {key}\n directory {own}/out\n reload 10ms\n}}");
        let signer = Signer::new(&sources(&stanza), Log::text(log)).unwrap();
        let (orders, mail) = crossbeam_channel::unbounded();
        let (reader, files) = crossbeam_channel::unbounded();
        let thread = std::thread::spawn(move || signer.run(&mail));
        orders.send(vec![reader]).unwrap();
        Self { directory: place, orders, files, thread }
    }

    /// Waits for the next signed file.
    #[track_caller]
    fn next(&self) -> Zone {
        let path = self.files.recv_timeout(TIMEOUT).unwrap();
        assert_eq!(path, self.directory.join("out/db.example.org.signed"));
        let signed = zone(&fs::read_to_string(path).unwrap());
        verified(&signed);
        signed
    }

    /// Waits for a line of the log.
    #[track_caller]
    fn line(&self, what: &str) -> String {
        let nothing = crossbeam_channel::never::<()>();
        for _ in 0..10_000 {
            if let Some(line) = self.lines(what).pop() {
                return line;
            }
            let _ = nothing.recv_timeout(Duration::from_millis(2));
        }
        panic!("no line '{what}'");
    }

    fn lines(&self, what: &str) -> Vec<String> {
        let own = self.directory.display().to_string();
        let lines = LINES.lock().unwrap();
        lines.iter().filter(|line| line.contains(&own) && line.contains(what)).cloned().collect()
    }

    fn write(&self, text: &str) {
        put(&self.directory, text);
    }

    fn end(self) {
        drop(self.orders);
        self.thread.join().unwrap();
    }
}

/// Replaces the zone file of a directory.
pub(super) fn put(directory: &Path, text: &str) {
    fs::write(directory.join("new"), text).unwrap();
    fs::rename(directory.join("new"), directory.join("db")).unwrap();
}

/// A new directory with a zone file.
pub(super) fn directory() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("onward-sign-{}-{number}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    put(&path, ZONE);
    path
}

#[test]
fn a_zone_is_signed_when_it_changes_and_not_otherwise() {
    let directory = directory();
    let bed = Bed::start(&directory, KSK);
    let first = bed.next();
    assert!(first.serial() > 1_700_000_000, "Unix time is newer than 7");
    bed.write(&ZONE.replace("192.0.2.82", "192.0.2.83"));
    let second = bed.next();
    assert!(second.serial() > first.serial());
    // The serial number alone.
    bed.write(
        &ZONE.replace("192.0.2.82", "192.0.2.83").replace("hostmaster 7", "hostmaster 2030000000"),
    );
    let third = bed.next();
    assert_eq!(third.serial(), 2_030_000_000, "it is newer than the Unix time");
    let output = directory.join("out/db.example.org.signed");
    let text = fs::read(&output).unwrap();
    bed.end();
    // Row 106: a second start signs nothing.
    let bed = Bed::start(&directory, KSK);
    bed.line("Skipping signing zone \"example.org.\"");
    assert_eq!(fs::read(&output).unwrap(), text);
    assert!(bed.files.is_empty());
    // A file that is gone, and one that was edited.
    fs::remove_file(&output).unwrap();
    let fourth = bed.next();
    assert_eq!(fourth.serial(), third.serial() + 1, "the serial of the file that is gone counts");
    let edited = fs::read_to_string(&output).unwrap().replace("192.0.2.81", "192.0.2.99");
    fs::write(directory.join("edited"), edited).unwrap();
    fs::rename(directory.join("edited"), &output).unwrap();
    let fifth = bed.next();
    assert_eq!(fifth.serial(), fourth.serial() + 1);
    // Without the file the serial of before is still known.
    fs::remove_file(&output).unwrap();
    assert_eq!(bed.next().serial(), fifth.serial() + 1);
    bed.end();
    // Another key.
    let bed = Bed::start(&directory, ED25519);
    bed.next();
    bed.end();
    let lines: Vec<_> = LINES.lock().unwrap().clone();
    let reasons =
        lines.iter().filter_map(|line| line.split_once("Signing \"example.org.\" because "));
    let reasons: Vec<_> = reasons.map(|(_, why)| why.trim_end().to_owned()).collect();
    for why in [
        "there is no signed file",
        "the zone has changed",
        "the signed file was changed or written by another program",
        "the keys have changed",
    ] {
        assert!(reasons.iter().any(|reason| reason == why), "{why}: {reasons:?}");
    }
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn trouble_keeps_the_signed_file_and_is_logged_once() {
    let directory = directory();
    let bed = Bed::start(&directory, KSK);
    let first = bed.next();
    let output = directory.join("out/db.example.org.signed");
    let text = fs::read(&output).unwrap();
    bed.write("@ SOA junk\n");
    bed.line("Error signing zone \"example.org.\"");
    // Each check tries again, which is not logged.
    fs::rename(directory.join("out"), directory.join("away")).unwrap();
    fs::write(directory.join("out"), "no directory").unwrap();
    bed.write(&ZONE.replace("192.0.2.82", "192.0.2.83"));
    bed.line("File exists");
    bed.write(&ZONE.replace("192.0.2.82", "rubbish"));
    bed.line("near \"rubbish\"");
    fs::remove_file(directory.join("out")).unwrap();
    fs::rename(directory.join("away"), directory.join("out")).unwrap();
    assert_eq!(fs::read(&output).unwrap(), text);
    bed.write(&ZONE.replace("192.0.2.82", "192.0.2.83"));
    assert!(bed.next().serial() > first.serial());
    let errors = bed.lines("Error signing zone");
    assert_eq!(errors.len(), 3, "{errors:#?}");
    bed.end();
    fs::remove_dir_all(directory).unwrap();
}
