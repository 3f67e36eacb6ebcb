//! State of the data sources that are loaded while a configuration is in effect.
//!
//! Each loader writes its own [`Load`]; the metrics read the list of all, which the first thread
//! keeps. Numbers are those of the last successful load, and counts are since the source first
//! appeared in a configuration.

use super::transfers::Results;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// One source.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// The file, as in the labels of metrics.
    pub(crate) label: String,
    entries: AtomicU64,
    bytes: AtomicU64,
    skipped: AtomicU64,
    modified_ms: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
}

/// State of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LoadState {
    /// The file, as in the labels of metrics.
    pub(crate) label: String,
    /// Entries of the table.
    pub(crate) entries: u64,
    /// Memory of the table in bytes.
    pub(crate) bytes: u64,
    /// Lines and names that were skipped.
    pub(crate) skipped: u64,
    /// Modification time of the loaded file, since 1970; zero: none.
    pub(crate) modified: Duration,
    /// Loads that succeeded.
    pub(crate) done: u64,
    /// Looks and loads that failed.
    pub(crate) failed: u64,
}

impl Load {
    /// Creates the state of a source that was not loaded yet.
    pub(crate) fn new(label: &str) -> Self {
        Self { label: label.to_owned(), ..Self::default() }
    }

    /// Sets the number of entries of a source without a file.
    pub(crate) fn entries(&self, entries: usize) {
        self.entries.store(entries as u64, Ordering::Relaxed);
    }

    /// Counts a successful load and records its numbers.
    pub(crate) fn loaded(&self, entries: usize, bytes: usize, skipped: u64, modified: Duration) {
        let modified = u64::try_from(modified.as_millis()).unwrap_or(u64::MAX);
        self.entries.store(entries as u64, Ordering::Relaxed);
        self.bytes.store(bytes as u64, Ordering::Relaxed);
        self.skipped.store(skipped, Ordering::Relaxed);
        self.modified_ms.store(modified, Ordering::Relaxed);
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a failure; the last snapshot stays.
    pub(crate) fn failed(&self) {
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

/// The zones of one source.
#[derive(Debug, Default)]
pub(crate) struct ZoneLoads(Mutex<(Vec<ZoneState>, Option<DirectoryState>)>);

/// State of a directory with zone files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DirectoryState {
    /// The directory, as in the labels of metrics.
    pub(crate) label: String,
    /// Zones that are answered from its files.
    pub(crate) zones: usize,
    /// Successful scans.
    pub(crate) done: u64,
    /// Failed scans.
    pub(crate) failed: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ZoneState {
    pub(crate) zone: String,
    /// The serial number. `None`: it was not loaded yet.
    pub(crate) serial: Option<u32>,
    /// Records of the zone.
    pub(crate) records: u64,
    /// Memory of the zone in bytes.
    pub(crate) bytes: u64,
    /// Memory in bytes of the differences of its last versions.
    pub(crate) differences: u64,
    /// Time of the load that is in effect, since 1970.
    pub(crate) loaded: Duration,
    /// Loads that succeeded.
    pub(crate) done: u64,
    /// Loads that failed.
    pub(crate) failed: u64,
    /// Time of expiry since 1970, of a zone that is transferred from primaries.
    pub(crate) expires: Option<Duration>,
    /// It has expired: no primary has confirmed it.
    pub(crate) is_expired: bool,
}

impl ZoneLoads {
    /// Replaces the state of all zones, and of the directory that some come from.
    pub(crate) fn set(&self, states: Vec<ZoneState>, directory: Option<DirectoryState>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (states, directory);
    }

    fn states(&self) -> Vec<ZoneState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    fn directory(&self) -> Option<DirectoryState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}

/// All sources of the configuration, and what becomes of their zones elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Loads {
    sources: Mutex<Sources>,
    transfers: Results,
    zones: ZoneCounters,
}

/// Counters of zones that loaders exchange with other servers, by zone and result.
#[derive(Clone, Debug, Default)]
pub(crate) struct ZoneCounters {
    /// Notifications of secondaries.
    pub(crate) notifies: Results,
    /// Notifications of primaries.
    pub(crate) notifies_in: Results,
    /// Checks at primaries, and transfers from them.
    pub(crate) transfers_in: Results,
}

#[derive(Debug, Default)]
struct Sources {
    hosts: Vec<Arc<Load>>,
    zones: Vec<Arc<ZoneLoads>>,
}

impl Loads {
    /// Returns the counters of transfers to clients.
    pub(crate) fn transfers(&self) -> &Results {
        &self.transfers
    }

    /// Returns the counters of zones that loaders exchange with other servers.
    pub(crate) fn zone_counters(&self) -> &ZoneCounters {
        &self.zones
    }

    /// Replaces the sources: hosts files, and zones of server blocks.
    pub(crate) fn reload(&self, hosts: Vec<Arc<Load>>, zones: Vec<Arc<ZoneLoads>>) {
        *self.sources.lock().unwrap_or_else(PoisonError::into_inner) = Sources { hosts, zones };
    }

    /// Returns the state of each hosts file.
    pub(crate) fn states(&self) -> Vec<LoadState> {
        let loads = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        loads.hosts.iter().map(|load| load.state()).collect()
    }

    /// Returns the state of each zone.
    pub(crate) fn zones(&self) -> Vec<ZoneState> {
        let loads = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        loads.zones.iter().flat_map(|zones| zones.states()).collect()
    }

    /// Returns the state of each directory with zone files.
    pub(crate) fn directories(&self) -> Vec<DirectoryState> {
        let loads = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        loads.zones.iter().filter_map(|zones| zones.directory()).collect()
    }

    /// Returns the states of the zones of a source, by its number among those of zones, and of its
    /// directory. Both are empty before the first load.
    pub(crate) fn of_zones(&self, slot: usize) -> (Vec<ZoneState>, Option<DirectoryState>) {
        let loads = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let zones = loads.zones.get(slot);
        zones.map_or_else(Default::default, |zones| (zones.states(), zones.directory()))
    }
}
