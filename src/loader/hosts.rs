//! Reads hosts files.
//!
//! The file goes to the table piece by piece, so that the text is never in memory as a whole. After
//! failed reads the interval of checks grows.

use super::LOOK_INTERVAL_MIN;
use super::file::{Digest, Failure, Signature, fill, hasher, open};
use crate::clock::Clock;
use crate::config::HostsSource;
use crate::control::Load;
use crate::engine::hosts::{Builder, Skipped, Table};
use crate::log::{Event, Level, Log, Value};
use ahash::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Source of log lines about hosts files.
const HOSTS: &str = "plugin/hosts";
/// Bytes that are read at once.
const PIECE: usize = 256 << 10;
/// Maximum interval of checks after failed reads.
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// Result of a load.
pub struct Loaded {
    /// The entries of the file, and of the configuration.
    pub table: Table,
    /// Lines and names that were skipped.
    pub(crate) skipped: Skipped,
    /// Digest of the file.
    pub(super) digest: Digest,
}

/// A hosts file and the state of its loads.
pub(super) struct HostsReader {
    source: Arc<HostsSource>,
    load: Arc<Load>,
    log: Log,
    hasher: RandomState,
    /// Signature of the file that was read last.
    seen: Option<Signature>,
    digest: Option<Digest>,
    /// Failure that was logged last.
    told: Option<String>,
    /// Failed reads in a row.
    failed: u32,
    /// The table that was loaded last.
    current: Arc<Table>,
}

impl HostsReader {
    /// Creates the reader of a file that was not read yet.
    ///
    /// # Errors
    /// The kernel has no randomness.
    pub(super) fn new(source: Arc<HostsSource>, load: Arc<Load>, log: Log) -> io::Result<Self> {
        let hasher = hasher()?;
        let current = Arc::new(without_file(&source, &hasher));
        load.entries(current.entries());
        let (seen, digest, told) = (None, None, None);
        Ok(Self { source, load, log, hasher, seen, digest, told, failed: 0, current })
    }

    /// Returns the table that was loaded last.
    pub(super) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.current)
    }

    /// Returns the interval of checks. `None`: off.
    pub(super) fn interval(&self) -> Option<Duration> {
        let interval = self.source.reload?.max(LOOK_INTERVAL_MIN);
        let longest = BACK_OFF_MAX.max(interval);
        Some(interval.saturating_mul(1 << self.failed.min(16)).min(longest))
    }

    /// Checks the file and reads it if it has changed. `None`: the last table stays.
    pub(super) fn look(&mut self, is_first: bool) -> Option<Arc<Table>> {
        let now = Clock::calendar();
        let signature = match Signature::of(&self.source.place) {
            Ok(signature) if self.seen.is_some_and(|seen| seen.stands_for(&signature)) => {
                self.told = None;
                return None;
            }
            Ok(signature) => signature,
            Err(failure) => {
                // The configuration has already warned of a missing file.
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
                self.current = Arc::new(table);
                Some(self.table())
            }
            Err(failure) => {
                self.failed += 1;
                self.fail(&failure, true);
                None
            }
        }
    }

    /// Counts a failure and logs it, unless the last one was the same.
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

    /// Logs the load, unless it is the first, and the skipped lines.
    fn tell(&self, table: &Table, skipped: &Skipped, is_first: bool) {
        let label = &self.source.label;
        if !is_first {
            let fields = [("entries", Value::Number(table.entries() as u64))];
            let text = format_args!("{label}: reloaded");
            self.log.event(&Event::new(Level::Info, HOSTS, &text).with(&fields));
        }
        if skipped.count > 0 {
            let text = skipped_text(label, skipped);
            self.log.event(&Event::new(Level::Warning, HOSTS, &text));
        }
    }
}

/// Loads the hosts file of `source`. `hasher` is keyed.
///
/// # Errors
/// [`Failure`] of the file.
pub fn read(source: &HostsSource, hasher: &RandomState) -> Result<Loaded, Failure> {
    let mut file = open(&source.place)?;
    let len = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut builder = Builder::new(hasher.clone(), source.reverse, len);
    let mut digest = hasher.build_hasher();
    let mut read = 0;
    let mut piece = vec![0; PIECE];
    loop {
        match fill(&mut file, &mut piece)? {
            0 => break,
            len => {
                digest.write(&piece[..len]);
                builder.read(&piece[..len]).map_err(Failure::TooLarge)?;
                read += len as u64;
            }
        }
    }
    let skipped = builder.end();
    source.inline.iter().for_each(|line| builder.add(line));
    Ok(Loaded { table: builder.finish(), skipped, digest: Digest::new(read, digest.finish()) })
}

/// Builds the table of `source` without its file.
fn without_file(source: &HostsSource, hasher: &RandomState) -> Table {
    let mut builder = Builder::new(hasher.clone(), source.reverse, 0);
    source.inline.iter().for_each(|line| builder.add(line));
    builder.finish()
}

/// Returns the log text about skipped lines.
pub(crate) fn skipped_text(label: &str, skipped: &Skipped) -> String {
    let Skipped { count, line, reason } = skipped;
    format!("{label}: invalid lines or names skipped: {count}, the first in line {line}: {reason}")
}
