//! A loader of zones with real files: the snapshots that workers get when files change or break.
//!
//! A worker here is the end of a mailbox; each wait has a deadline.

mod auto;

use crate::clock::Clock;
use crate::config::{Config, Host, ZonesSource};
use crate::control::{Loads, Mailbox, ToWorker, ZoneLoads, ZoneState};
use crate::engine::authority::table::ZoneTable;
use crate::engine::data::Contents;
use crate::loader::{First, Hearing, Loader, Serve};
use crate::log::Log;
use crossbeam_channel::{Receiver, Sender};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(20);

/// Lines of the log of all tests here.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn log(line: &str) {
    LINES.lock().unwrap().push(line.to_owned());
}

/// A directory that is removed with its test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("onward-zones-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Replaces the file by a new one.
    fn write(&self, file: &str, text: &str) {
        let new = self.0.join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.0.join(file)).unwrap();
    }

    /// Returns the source of a block for the zone `z` with this text, where `DIR` is the directory.
    fn source(&self, stanza: &str) -> Arc<ZonesSource> {
        let stanza = stanza.replace("DIR", &self.0.to_string_lossy());
        let text = format!("z {{\n bind 127.0.0.1\n {stanza}\n}}\n");
        let config = Config::load(text.as_bytes(), "Corefile", &Host::plain()).unwrap().0;
        Arc::clone(config.zone_sources()[0])
    }

    /// Returns the lines of the log about its files.
    fn lines(&self) -> Vec<String> {
        let own = self.0.to_string_lossy();
        LINES.lock().unwrap().iter().filter(|line| line.contains(&*own)).cloned().collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running loader, and a worker that gets its snapshots.
struct Bed {
    loads: Loads,
    mail: Receiver<ToWorker>,
    first: Arc<ZoneTable>,
    orders: Sender<Serve>,
    /// Passes files that this server has written.
    written: Sender<PathBuf>,
    thread: JoinHandle<()>,
    _poll: mio::Poll,
}

/// Starts a loader and returns its first snapshot.
fn start(
    source: Arc<ZonesSource>,
    loads: Arc<ZoneLoads>,
    written: Receiver<PathBuf>,
) -> (First, Sender<Serve>, JoinHandle<()>) {
    let loader = Loader::zones(
        7,
        source,
        loads,
        Default::default(),
        Hearing { notified: crossbeam_channel::never(), written },
        Log::text(log),
    )
    .unwrap();
    let (orders, mail) = crossbeam_channel::bounded(1);
    let (told, first) = crossbeam_channel::bounded(1);
    let thread = std::thread::spawn(move || loader.run(&told, &mail));
    (first.recv_timeout(TIMEOUT).unwrap(), orders, thread)
}

fn table(contents: Contents) -> Arc<ZoneTable> {
    match contents {
        Contents::Zones(table) => table,
        Contents::Hosts(_) => panic!("a hosts file of zones"),
    }
}

/// The mailbox of a worker.
fn mailbox() -> (Mailbox, Receiver<ToWorker>, mio::Poll) {
    let poll = mio::Poll::new().unwrap();
    let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
    let (mailbox, mail) = Mailbox::new(4, waker);
    (mailbox, mail, poll)
}

impl Bed {
    fn start(source: Arc<ZonesSource>) -> Self {
        let (own, loads) = (Arc::new(ZoneLoads::default()), Loads::default());
        loads.reload(Vec::new(), vec![Arc::clone(&own)]);
        let (written, files) = crossbeam_channel::unbounded();
        let (first, orders, thread) = start(source, own, files);
        let (mailbox, mail, poll) = mailbox();
        orders.send(Serve { workers: vec![mailbox], is_late: false }).unwrap();
        let first = table(first.unwrap());
        Self { loads, mail, first, orders, written, thread, _poll: poll }
    }

    /// A loader whose first load missed its deadline, with the first table that its worker gets.
    fn start_late(source: Arc<ZonesSource>) -> Self {
        let (own, loads) = (Arc::new(ZoneLoads::default()), Loads::default());
        loads.reload(Vec::new(), vec![Arc::clone(&own)]);
        let (written, files) = crossbeam_channel::unbounded();
        let (_, orders, thread) = start(source, own, files);
        let (mailbox, mail, poll) = mailbox();
        orders.send(Serve { workers: vec![mailbox], is_late: true }).unwrap();
        let Ok(ToWorker::Data { contents, .. }) = mail.recv_timeout(TIMEOUT) else {
            panic!("the worker gets nothing")
        };
        let first = table(contents);
        Self { loads, mail, first, orders, written, thread, _poll: poll }
    }

    /// Returns the next table that the worker gets.
    #[track_caller]
    fn next(&self) -> Arc<ZoneTable> {
        match self.mail.recv_timeout(TIMEOUT) {
            Ok(ToWorker::Data { source: 7, contents }) => table(contents),
            other => panic!("{other:?}"),
        }
    }

    fn state(&self) -> ZoneState {
        self.loads.zones().remove(0)
    }

    /// Waits until the state of the first zone fulfils `is_right`.
    #[track_caller]
    fn until(&self, is_right: impl Fn(&ZoneState) -> bool) {
        let nothing = crossbeam_channel::never::<()>();
        for _ in 0..10_000 {
            if is_right(&self.state()) {
                return;
            }
            let _ = nothing.recv_timeout(Duration::from_millis(2));
        }
        panic!("it never came to that: {:?}", self.state());
    }

    fn end(self) {
        drop(self.orders);
        self.thread.join().unwrap();
    }
}

/// The text of the zone `z` with this serial and this last line.
fn text(serial: u32, line: &str) -> String {
    format!("$TTL 60\n@ SOA n h {serial} 2 3 4 5\n@ NS n.far.\n{line}\n")
}

/// Serial and number of records of a table's first zone.
fn zone(table: &ZoneTable) -> Option<(u32, usize)> {
    table.entries()[0].zone.as_ref().map(|zone| (zone.serial(), zone.records()))
}

const WATCHED: &str = "file DIR/db {\n reload 10ms\n}";

#[test]
fn a_changed_zone_is_loaded_again_with_any_serial() {
    let directory = Directory::new();
    directory.write("db", &text(5, "a A 192.0.2.1"));
    let bed = Bed::start(directory.source(WATCHED));
    assert_eq!(zone(&bed.first), Some((5, 3)));
    directory.write("db", &text(5, "a A 192.0.2.1\nb A 192.0.2.2"));
    assert_eq!(zone(&bed.next()), Some((5, 4)), "row 95: without a new serial");
    directory.write("db", &text(3, "a A 192.0.2.1"));
    assert_eq!(zone(&bed.next()), Some((3, 3)), "row 96: a lower serial");
    directory.write("db", &text(4, "a A 192.0.2.1"));
    assert_eq!(zone(&bed.next()), Some((4, 3)));
    assert_eq!(bed.state().serial, Some(4));
    let lines = directory.lines();
    let count = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    assert_eq!(count("its serial has not risen (5, now 5)"), 1, "{lines:?}");
    assert_eq!(count("its serial has not risen (5, now 3)"), 1);
    assert_eq!(count("Successfully reloaded zone \"z.\""), 3);
    bed.end();
}

#[test]
fn a_file_that_this_server_has_written_is_read_at_once() {
    let directory = Directory::new();
    directory.write("db", &text(5, "a A 192.0.2.1"));
    // The next check is a minute away, or never comes.
    for stanza in ["file DIR/db", "file DIR/db {\n reload 0\n}"] {
        let bed = Bed::start(directory.source(stanza));
        let serial = bed.state().serial.unwrap() + 1;
        directory.write("db", &text(serial, "a A 192.0.2.1"));
        bed.written.send(directory.0.join("other")).unwrap();
        bed.written.send(directory.0.join("./db")).unwrap();
        assert_eq!(zone(&bed.next()), Some((serial, 3)), "{stanza}");
        bed.end();
    }
}

#[test]
fn a_broken_or_removed_file_changes_nothing_and_is_logged_once() {
    let directory = Directory::new();
    directory.write("db", &text(5, "a A 192.0.2.1"));
    let bed = Bed::start(directory.source(WATCHED));
    let place = directory.0.join("db");
    for (number, broken) in [text(6, "a A junk"), String::new()].iter().enumerate() {
        directory.write("db", broken);
        bed.until(|state| state.failed > number as u64);
    }
    fs::remove_file(&place).unwrap();
    bed.until(|state| state.failed >= 3);
    let done = bed.state().done;
    directory.write("db", &text(5, "a A 192.0.2.1"));
    bed.until(|state| state.done > done);
    assert!(bed.mail.is_empty(), "row 97: the same zone again is no news");
    directory.write("db", &text(7, "a A 192.0.2.1"));
    assert_eq!(zone(&bed.next()), Some((7, 3)));
    let lines = directory.lines();
    let shown = place.display().to_string();
    for (what, most) in [
        (
            format!(
                "Parsing zone \"z.\": {shown}:4:5: zone z.: expected an IPv4 address near \"junk\""
            ),
            1,
        ),
        (format!("Parsing zone \"z.\": {shown}: zone z.: no SOA record for origin z."), 1),
        (format!("Failed to open zone \"z.\" in \"{shown}\": open {shown}: no such file"), 2),
    ] {
        let found = lines.iter().filter(|line| line.contains(&what)).count();
        assert!((1..=most).contains(&found), "{what}: {lines:#?}");
    }
    bed.end();
}

#[test]
fn a_zone_without_a_file_is_loaded_when_the_file_appears() {
    let directory = Directory::new();
    let bed = Bed::start(directory.source(WATCHED));
    assert_eq!((zone(&bed.first), bed.state().serial), (None, None));
    directory.write("db", &text(5, "a A 192.0.2.1"));
    assert_eq!(zone(&bed.next()), Some((5, 3)));
    let lines = directory.lines();
    assert!(lines[0].contains("no such file or directory\": trying again in 10ms"), "{lines:?}");
    bed.end();
}

#[test]
fn a_change_of_an_included_file_is_noticed() {
    let directory = Directory::new();
    directory.write("inc", "a A 192.0.2.1\n");
    directory.write("db", &text(5, "$INCLUDE inc"));
    let bed = Bed::start(directory.source(WATCHED));
    assert_eq!(zone(&bed.first), Some((5, 3)));
    directory.write("inc", "a A 192.0.2.1\na A 192.0.2.2\n");
    assert_eq!(zone(&bed.next()), Some((5, 4)));
    fs::remove_file(directory.0.join("inc")).unwrap();
    bed.until(|state| state.failed > 0);
    directory.write("inc", "a A 192.0.2.9\n");
    assert_eq!(zone(&bed.next()), Some((5, 3)));
    bed.end();
}

#[test]
fn a_growing_file_is_read_when_it_is_complete() {
    let directory = Directory::new();
    directory.write("db", &text(5, ""));
    let bed = Bed::start(directory.source(WATCHED));
    let whole = text(6, &(0..2_000).map(|n| format!("a{n} A 192.0.2.1\n")).collect::<String>());
    let (half, rest) = whole.split_at(whole.len() / 2);
    fs::write(directory.0.join("db"), half).unwrap();
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new().append(true).open(directory.0.join("db")).unwrap();
    file.write_all(rest.as_bytes()).unwrap();
    loop {
        let found = zone(&bed.next());
        if found == Some((6, 2_002)) {
            break;
        }
        assert_eq!(found.map(|found| found.0), Some(6), "row 98: half of it is not for ever");
    }
    bed.end();
}

#[test]
fn a_first_load_that_cannot_succeed_refuses_the_configuration() {
    let directory = Directory::new();
    let refused = |stanza: &str| {
        let (first, orders, thread) =
            start(directory.source(stanza), Arc::default(), crossbeam_channel::never());
        drop(orders);
        thread.join().unwrap();
        first.err().unwrap()
    };
    let shown = directory.0.display();
    let error = refused("file DIR/no {\n reload 0\n}");
    assert_eq!(
        error,
        format!("plugin/file: Corefile:3 - open {shown}/no: no such file or directory")
    );
    let error = refused("file DIR");
    assert_eq!(
        error,
        format!("plugin/file: Corefile:3 - {shown}: zone z.: expected a file, found a directory")
    );
    directory
        .write("db", "@ 5 SOA n h 1 2 3 4 5\na.y. 5 A 192.0.2.1\nb 5 CNAME c\nb 5 A 192.0.2.1\n");
    let error = refused("file DIR/db");
    assert_eq!(
        error,
        format!(
            "plugin/file: Corefile:3 - {shown}/db:4: zone z.: b.z. has a CNAME and other records"
        )
    );
}

#[test]
fn a_first_load_that_is_late_and_fails_costs_only_the_zone_that_is_broken() {
    let directory = Directory::new();
    directory.write("bad", &text(5, "a A junk"));
    directory.write("good", &text(6, "a A 192.0.2.1"));
    let stanzas = "file DIR/bad bad {\n reload 10ms\n}\nfile DIR/good {\n reload 10ms\n}";
    let bed = Bed::start_late(directory.source(stanzas));
    let serials = |table: &ZoneTable| {
        let zones =
            table.entries().iter().map(|entry| entry.zone.as_ref().map(|zone| zone.serial()));
        zones.collect::<Vec<_>>()
    };
    assert_eq!(serials(&bed.first), [None, Some(6)]);
    let lines = directory.lines();
    let error = |line: &&String| line.contains("Parsing zone \"bad.\": ");
    assert_eq!(lines.iter().filter(error).count(), 1, "{lines:?}");
    directory.write("bad", &text(7, "a A 192.0.2.1"));
    assert_eq!(serials(&bed.next()), [Some(7), Some(6)], "it is looked at again");
    bed.end();
}

#[test]
fn a_zone_that_a_worker_holds_is_freed_by_the_loader() {
    let directory = Directory::new();
    directory.write("db", &text(5, ""));
    let bed = Bed::start(directory.source(WATCHED));
    let weak = Arc::downgrade(&bed.first);
    let Bed { first, mail, orders, thread, .. } = bed;
    directory.write("db", &text(6, ""));
    let table = mail.recv_timeout(TIMEOUT).unwrap();
    assert!(weak.strong_count() >= 2, "the loader keeps it as long as somebody has it");
    drop(first);
    let nothing = crossbeam_channel::never::<()>();
    for _ in 0..10_000 {
        if weak.strong_count() == 0 {
            break;
        }
        let _ = nothing.recv_timeout(Duration::from_millis(2));
    }
    assert_eq!(weak.strong_count(), 0);
    drop((table, orders));
    thread.join().unwrap();
}

#[test]
fn expired_or_expiring_signatures_are_warned_of() {
    let directory = Directory::new();
    let source = directory.source(WATCHED);
    let hasher = crate::loader::hasher().unwrap();
    let now = Clock::calendar().as_secs();
    for (ends, expected) in [
        (vec![now - 9], "the signature of its SOA record expired at "),
        (vec![now + 6 * 86_400], "the signature of its SOA record expires at "),
        (vec![now + 8 * 86_400], ""),
        (vec![now - 9, now + 8 * 86_400], ""),
        (vec![], ""),
    ] {
        let line = |end| {
            format!("@ RRSIG SOA 13 1 60 {end} 1 1 z. AAAA\n@ RRSIG NS 13 1 60 1 1 1 z. AAAA\n")
        };
        directory.write("db", &text(1, &ends.iter().map(line).collect::<String>()));
        let read = crate::loader::read_zone(&source.files[0], &hasher).ok().unwrap();
        let warning = read.warnings.first().map_or("", |warning| warning);
        assert!(
            warning.starts_with(expected) && warning.is_empty() == expected.is_empty(),
            "{warning}"
        );
    }
}
