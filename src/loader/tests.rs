//! A loader with real files: the snapshots that workers get when files change or become unreadable.
//!
//! A worker here is the end of a mailbox; each wait has a deadline.

use super::file::Signature;
use super::{Failure, Loader, Serve, hasher, read};
use crate::config::HostsSource;
use crate::control::{Load, LoadState, Loads, Mailbox, ToWorker};
use crate::engine::data::Contents;
use crate::engine::hosts::Table;
use crate::log::Log;
use crossbeam_channel::{Receiver, Sender};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(20);
const NAME: &[u8] = b"\x01a\x01t\0";

/// Lines of the log of all tests here.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn log(line: &str) {
    LINES.lock().unwrap().push(line.to_owned());
}

/// Lines about the file at `place`.
fn lines(place: &Path) -> Vec<String> {
    let place = place.to_string_lossy();
    LINES.lock().unwrap().iter().filter(|line| line.contains(&*place)).cloned().collect()
}

/// A directory that is removed with its test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("onward-loader-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("hosts")
    }

    /// Replaces the file by a new one.
    fn write(&self, text: &str) {
        let new = self.0.join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.file()).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn source(place: PathBuf) -> HostsSource {
    let label = place.to_string_lossy().into_owned();
    let reload = Some(Duration::from_millis(10));
    HostsSource { label, place, inline: Vec::new(), reverse: true, reload }
}

/// A running loader, and a worker that gets its snapshots.
struct Bed {
    loads: Loads,
    mail: Receiver<ToWorker>,
    first: Arc<Table>,
    orders: Sender<Serve>,
    thread: JoinHandle<()>,
    _poll: mio::Poll,
}

impl Bed {
    fn start(source: HostsSource) -> Self {
        let load = Arc::new(Load::new(&source.label));
        let loads = Loads::default();
        loads.reload(vec![Arc::clone(&load)], Vec::new());
        let loader = Loader::hosts(7, Arc::new(source), load, Log::text(log)).unwrap();
        let (orders, mail_of_orders) = crossbeam_channel::bounded(1);
        let (told, first) = crossbeam_channel::bounded(1);
        let thread = std::thread::spawn(move || loader.run(&told, &mail_of_orders));
        let first = table(first.recv_timeout(TIMEOUT).unwrap().unwrap());
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        let (mailbox, mail) = Mailbox::new(4, waker);
        orders.send(Serve { workers: vec![mailbox], is_late: false }).unwrap();
        Self { loads, mail, first, orders, thread, _poll: poll }
    }

    /// Returns the next table that the worker gets.
    #[track_caller]
    fn next(&self) -> Arc<Table> {
        match self.mail.recv_timeout(TIMEOUT) {
            Ok(ToWorker::Data { source: 7, contents }) => table(contents),
            other => panic!("{other:?}"),
        }
    }

    fn state(&self) -> LoadState {
        self.loads.states().remove(0)
    }

    /// Waits until the loader has failed more often than this.
    #[track_caller]
    fn until_failed(&self, before: u64) {
        let nothing = crossbeam_channel::never::<()>();
        for _ in 0..10_000 {
            if self.state().failed > before {
                return;
            }
            let _ = nothing.recv_timeout(Duration::from_millis(2));
        }
        panic!("it never failed: {:?}", self.state());
    }

    fn end(self) {
        drop(self.orders);
        self.thread.join().unwrap();
    }
}

fn table(contents: Contents) -> Arc<Table> {
    match contents {
        Contents::Hosts(table) => table,
        Contents::Zones(_) => panic!("zones of a hosts file"),
    }
}

fn address(table: &Table) -> Option<[u8; 4]> {
    table.find(NAME).map(|found| found.v4[0])
}

#[test]
fn a_changed_file_is_loaded_again_and_a_bad_one_changes_nothing() {
    let directory = Directory::new();
    directory.write("192.0.2.1 a.t\n");
    let bed = Bed::start(source(directory.file()));
    assert_eq!(address(&bed.first), Some([192, 0, 2, 1]));
    directory.write("192.0.2.2 a.t\nx\n");
    assert_eq!(address(&bed.next()), Some([192, 0, 2, 2]));
    // Removed, then a directory, then a pipe: the last table stays.
    fs::remove_file(directory.file()).unwrap();
    bed.until_failed(bed.state().failed);
    fs::create_dir(directory.file()).unwrap();
    bed.until_failed(bed.state().failed + 1);
    fs::remove_dir(directory.file()).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(directory.file()).status().unwrap();
    assert!(pipe.success());
    bed.until_failed(bed.state().failed + 1);
    assert_eq!(bed.state().entries, 2);
    assert!(bed.mail.is_empty(), "nobody is told of a failure");
    fs::remove_file(directory.file()).unwrap();
    directory.write("192.0.2.3 a.t\n");
    assert_eq!(address(&bed.next()), Some([192, 0, 2, 3]));
    // In place: a read during the write may return anything, and is repeated.
    fs::write(directory.file(), "192.0.2.4 a.t\n").unwrap();
    while address(&bed.next()) != Some([192, 0, 2, 4]) {}
    directory.write("");
    assert_eq!(address(&bed.next()), None, "an empty file has no entries");
    let lines = lines(&directory.file());
    for (what, count) in [
        ("skipped: 1, the first in line 2: 'x' is not an IP address", 1),
        ("not loaded: file does not exist; the 2 entries loaded before stay in effect", 1),
        ("expected a file, found a directory", 1),
        ("not a regular file", 1),
    ] {
        let found = lines.iter().filter(|line| line.contains(what)).count();
        assert!(found >= count, "{what}: {lines:?}");
    }
    bed.end();
}

#[test]
fn a_file_that_is_not_watched_is_loaded_again_when_that_is_ordered() {
    let directory = Directory::new();
    directory.write("192.0.2.1 a.t\n");
    let bed = Bed::start(HostsSource { reload: None, ..source(directory.file()) });
    assert_eq!(address(&bed.first), Some([192, 0, 2, 1]));
    directory.write("192.0.2.2 a.t\nand more\n");
    bed.orders.send(Serve { workers: Vec::new(), is_late: false }).unwrap();
    assert_eq!(address(&bed.next()), Some([192, 0, 2, 2]));
    bed.end();
}

#[test]
fn a_file_missing_at_first_is_loaded_when_it_appears() {
    let directory = Directory::new();
    let bed = Bed::start(source(directory.file()));
    assert_eq!((bed.first.entries(), bed.state().done), (0, 0));
    bed.until_failed(2);
    assert!(lines(&directory.file()).is_empty(), "the configuration's warning has said it");
    directory.write("192.0.2.9 a.t\n");
    assert_eq!(address(&bed.next()), Some([192, 0, 2, 9]));
    bed.end();
}

#[test]
fn an_unchanged_file_is_not_read_again() {
    let directory = Directory::new();
    directory.write("192.0.2.1 a.t\n");
    let before = Signature::of(&directory.file()).unwrap();
    let soon = before.modified + Duration::from_millis(1);
    let later = before.modified + Duration::from_secs(3);
    let again = Signature::of(&directory.file()).unwrap();
    assert!(before.seen_at(later).stands_for(&again));
    assert!(!before.seen_at(soon).stands_for(&again), "it may change within the same tick");
    fs::write(directory.file(), "192.0.2.1 a.t \n").unwrap();
    let changed = Signature::of(&directory.file()).unwrap();
    assert!(!before.seen_at(later).stands_for(&changed));
}

#[test]
fn an_equal_table_is_not_sent_to_workers() {
    let directory = Directory::new();
    directory.write("192.0.2.1 a.t\n");
    let bed = Bed::start(source(directory.file()));
    let done = bed.state().done;
    directory.write("192.0.2.1 a.t\n");
    let nothing = crossbeam_channel::never::<()>();
    for _ in 0..10_000 {
        if bed.state().done > done {
            break;
        }
        let _ = nothing.recv_timeout(Duration::from_millis(2));
    }
    assert!(bed.state().done > done, "it was not read");
    directory.write("192.0.2.2 a.t\n");
    assert_eq!(address(&bed.next()), Some([192, 0, 2, 2]), "the first that anybody hears of");
    bed.end();
}

#[test]
fn a_table_that_a_worker_holds_is_freed_by_the_loader() {
    let directory = Directory::new();
    directory.write("192.0.2.1 a.t\n");
    let bed = Bed::start(source(directory.file()));
    let weak = Arc::downgrade(&bed.first);
    let Bed { first, mail, orders, thread, .. } = bed;
    directory.write("192.0.2.2 a.t\n");
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
fn a_pipe_is_refused_without_blocking() {
    let directory = Directory::new();
    let hasher = hasher().unwrap();
    let failure = |place: &Path| read(&source(place.to_owned()), &hasher).err().unwrap();
    assert!(matches!(failure(&directory.file()), Failure::Missing));
    assert!(matches!(failure(&directory.0), Failure::Directory));
    assert!(matches!(failure(Path::new("/dev/zero")), Failure::NoFile));
    directory.write("192.0.2.1 a.t");
    assert!(matches!(failure(&directory.file().join("x")), Failure::Unreadable(_)));
    assert_eq!(read(&source(directory.file()), &hasher).unwrap().table.entries(), 2);
}
