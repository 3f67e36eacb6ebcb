//! A loader: one blocking thread for each source of data, from its first load to its end.
//!
//! It reads its source, looks at it again as often as the configuration says, and builds a
//! snapshot, which it hands to all workers. Waiting, retrying and noticing changes are its own
//! affair: one that hangs or fails harms no query, as workers go on with what was loaded last.
//! It keeps an old snapshot until the last worker has let go of it, so that freeing one is its
//! own affair too. The file `file` reads hosts files; sources are numbered by the thread that
//! starts loaders.

mod file;

pub use file::{Failure, Loaded, hasher, read, skipped_text};

use crate::clock::Clock;
use crate::config::HostsSource;
use crate::control::{Load, Mailbox, ToWorker};
use crate::engine::hosts::{Skipped, Table};
use crate::log::{Event, Level, Log, Value};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use file::{Digest, Signature};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Source of log lines about hosts files.
const HOSTS: &str = "plugin/hosts";
/// A file is not looked at more often than this.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// After failed reads the next look waits longer each time, up to this.
const BACK_OFF_MAX: Duration = Duration::from_secs(60);
/// Old snapshots that workers may still have; while there are as many, nothing is loaded. Only
/// workers that hang have any for longer than a turn.
const RETIRED_MAX: usize = 4;
/// Interval of checks whether workers have released an old snapshot.
const RETIRE_INTERVAL: Duration = Duration::from_millis(20);

/// Order to a loader after its first snapshot is in use.
#[derive(Debug)]
pub struct Serve {
    /// Workers that get later snapshots.
    pub workers: Vec<Mailbox>,
    /// The first snapshot came too late for them: they are to get it, too.
    pub is_late: bool,
}

/// A loader before it begins.
pub struct Loader {
    number: u64,
    source: Arc<HostsSource>,
    load: Arc<Load>,
    log: Log,
    clock: Clock,
    hasher: ahash::RandomState,
    workers: Vec<Mailbox>,
    /// Signature of the file that was read last.
    seen: Option<Signature>,
    digest: Option<Digest>,
    /// The failure that the log has been told of.
    told: Option<String>,
    /// Failed reads in a row.
    failed: u32,
    /// The snapshot that workers have.
    current: Arc<Table>,
    /// Snapshots that some worker may still have.
    retired: Vec<Arc<Table>>,
}

impl Loader {
    /// A loader of `source`, which has this number for as long as the process lives. `load` is
    /// where it tells how it fares.
    ///
    /// # Errors
    /// The kernel has no randomness.
    pub fn new(
        number: u64,
        source: Arc<HostsSource>,
        load: Arc<Load>,
        log: Log,
    ) -> io::Result<Self> {
        let hasher = hasher()?;
        let current = Arc::new(file::without_file(&source, &hasher));
        load.entries(current.entries());
        Ok(Self {
            number,
            source,
            load,
            log,
            clock: Clock::start(),
            hasher,
            workers: Vec::new(),
            seen: None,
            digest: None,
            told: None,
            failed: 0,
            current,
            retired: Vec::new(),
        })
    }

    /// Loads, passes the snapshot to `first`, and goes on when `orders` say with whom, until
    /// all senders have gone.
    pub fn run(mut self, first: &Sender<Arc<Table>>, orders: &Receiver<Serve>) {
        if let Some(table) = self.look(true) {
            self.current = table;
        }
        // The starter may have stopped waiting, and says so below.
        let _ = first.try_send(Arc::clone(&self.current));
        let Ok(Serve { workers, is_late }) = orders.recv() else { return };
        self.workers = workers;
        if is_late {
            self.hand_out();
        }
        let mut look_at = self.interval().map(|interval| self.clock.now().plus(interval));
        loop {
            let retire_at = self.clock.now().plus(RETIRE_INTERVAL);
            let retire_at = (!self.retired.is_empty()).then_some(retire_at);
            let waited = match [look_at, retire_at].into_iter().flatten().min() {
                Some(until) => orders.recv_timeout(until.since(self.clock.now())),
                None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            if matches!(waited, Err(RecvTimeoutError::Disconnected)) {
                return;
            }
            self.retired.retain(|table| Arc::strong_count(table) > 1);
            let is_due = look_at.is_some_and(|at| at <= self.clock.now());
            if !is_due || self.retired.len() >= RETIRED_MAX {
                continue;
            }
            if let Some(table) = self.look(false) {
                self.retired.push(std::mem::replace(&mut self.current, table));
                self.hand_out();
            }
            look_at = self.interval().map(|interval| self.clock.now().plus(interval));
        }
    }

    /// Returns the interval of checks. `None`: off.
    fn interval(&self) -> Option<Duration> {
        let interval = self.source.reload?.max(LOOK_INTERVAL_MIN);
        let longest = BACK_OFF_MAX.max(interval);
        Some(interval.saturating_mul(1 << self.failed.min(16)).min(longest))
    }

    fn hand_out(&self) {
        for worker in &self.workers {
            let table = Arc::clone(&self.current);
            worker.deliver(ToWorker::Data { source: self.number, table });
        }
    }

    /// Looks at the file and reads it if it has changed. `None`: what was loaded before stays.
    fn look(&mut self, is_first: bool) -> Option<Arc<Table>> {
        let now = Clock::calendar();
        let signature = match Signature::of(&self.source.place) {
            Ok(signature) if self.seen.is_some_and(|seen| seen.stands_for(&signature)) => {
                self.told = None;
                return None;
            }
            Ok(signature) => signature,
            Err(failure) => {
                // What the configuration says of a file that is not there it has said already.
                self.fail(&failure, !is_first);
                return None;
            }
        };
        match read(&self.source, &self.hasher) {
            Ok(Loaded { table, skipped, digest }) => {
                self.failed = 0;
                self.seen = Some(signature.seen_at(now));
                self.load.loaded(
                    table.entries(),
                    table.reserved(),
                    skipped.count,
                    signature.modified,
                );
                let is_same = self.digest.replace(digest) == Some(digest);
                if is_same && self.told.take().is_none() {
                    return None;
                }
                self.tell(&table, &skipped, is_first);
                Some(Arc::new(table))
            }
            Err(failure) => {
                self.failed += 1;
                self.fail(&failure, true);
                None
            }
        }
    }

    /// Counts a failure and tells of it, unless the last one was the same.
    fn fail(&mut self, failure: &Failure, aloud: bool) {
        self.load.failed();
        let text = failure.to_string();
        if self.told.as_ref() == Some(&text) {
            return;
        }
        if aloud {
            let label = &self.source.label;
            let entries = self.current.entries();
            let line = format_args!(
                "{label}: not loaded: {text}; the {entries} entries loaded before stay in effect \
                 and the file is checked again after the 'reload' interval"
            );
            self.log.event(&Event::new(Level::Warning, HOSTS, &line));
        }
        self.told = Some(text);
    }

    /// Tells what was loaded, if it is not the first time, and what of it was skipped.
    fn tell(&self, table: &Table, skipped: &Skipped, is_first: bool) {
        let label = &self.source.label;
        if !is_first {
            let fields = [("entries", Value::Number(table.entries() as u64))];
            let text = format_args!("{label}: reloaded");
            self.log.event(&Event::new(Level::Info, HOSTS, &text).with(&fields));
        }
        if skipped.count > 0 {
            let text = file::skipped_text(label, skipped);
            self.log.event(&Event::new(Level::Warning, HOSTS, &text));
        }
    }
}

#[cfg(test)]
mod tests;
