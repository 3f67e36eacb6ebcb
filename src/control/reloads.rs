//! Counters of reloads, by result.
//!
//! The counters begin with the process; the first thread increments them and the metrics read
//! them. A reload that changes nothing because of an error (in the text, or an address
//! that cannot be bound) has failed. An unfinished text found by the periodic check is not a
//! reload.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Reloads of this process.
#[derive(Debug, Default)]
pub(crate) struct Reloads {
    done: AtomicU64,
    failed: AtomicU64,
    given_up: AtomicU64,
}

impl Reloads {
    /// Returns the number of successful reloads.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Returns the number of failed reloads.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Returns the number of attempts to read the configuration or its files that were given up,
    /// because a file or a resolver did not answer in time.
    pub(crate) fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Counts an attempt that was given up.
    pub(crate) fn count_given_up(&self) {
        self.given_up.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a reload by its outcome.
    pub(crate) fn count<T, E>(&self, outcome: &Result<T, E>) {
        let counter = if outcome.is_ok() { &self.done } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Display for Reloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reloads since start: {} succeeded, {} failed", self.done(), self.failed())
    }
}
