//! State of the data sources that are loaded while a configuration is in effect.
//!
//! Each loader writes its own [`Load`]; the metrics read the list of all,
//! which the first thread keeps. Numbers are those of the last load that succeeded, and counts
//! are since the source was first named.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// One source.
#[derive(Debug, Default)]
pub struct Load {
    /// The file, as metrics call it.
    pub label: String,
    entries: AtomicU64,
    bytes: AtomicU64,
    skipped: AtomicU64,
    modified_ms: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
}

/// State of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadState {
    /// The file, as metrics call it.
    pub label: String,
    /// Entries of the table.
    pub entries: u64,
    /// Bytes that the table takes.
    pub bytes: u64,
    /// Lines and names that were skipped.
    pub skipped: u64,
    /// Modification time of the loaded file, since 1970; zero: none.
    pub modified: Duration,
    /// Loads that succeeded.
    pub done: u64,
    /// Looks and loads that failed.
    pub failed: u64,
}

impl Load {
    /// Of a source that was not loaded yet.
    pub fn new(label: &str) -> Self {
        Self { label: label.to_owned(), ..Self::default() }
    }

    /// Number of entries, without any file.
    pub fn entries(&self, entries: usize) {
        self.entries.store(entries as u64, Ordering::Relaxed);
    }

    /// Counts a load and tells of it.
    pub fn loaded(&self, entries: usize, bytes: usize, skipped: u64, modified: Duration) {
        let modified = u64::try_from(modified.as_millis()).unwrap_or(u64::MAX);
        self.entries.store(entries as u64, Ordering::Relaxed);
        self.bytes.store(bytes as u64, Ordering::Relaxed);
        self.skipped.store(skipped, Ordering::Relaxed);
        self.modified_ms.store(modified, Ordering::Relaxed);
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a failure; what was loaded before stays.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    fn state(&self) -> LoadState {
        let [entries, bytes, skipped, modified_ms, done, failed] = [
            &self.entries,
            &self.bytes,
            &self.skipped,
            &self.modified_ms,
            &self.done,
            &self.failed,
        ]
        .map(|number| number.load(Ordering::Relaxed));
        let (label, modified) = (self.label.clone(), Duration::from_millis(modified_ms));
        LoadState { label, entries, bytes, skipped, modified, done, failed }
    }
}

/// All sources of the configuration.
#[derive(Debug, Default)]
pub struct Loads(Mutex<Vec<Arc<Load>>>);

impl Loads {
    /// From now on these are the sources.
    pub fn reload(&self, loads: Vec<Arc<Load>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = loads;
    }

    /// Returns the state of each source.
    pub fn states(&self) -> Vec<LoadState> {
        let loads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loads.iter().map(|load| load.state()).collect()
    }
}
