//! Data that changes between reloads: numbered slots, each with a snapshot.
//!
//! A snapshot is immutable and shared by all workers; a slot is replaced as a whole, between two
//! turns. Stages keep a slot's number and read it with each query. A loader builds new snapshots
//! and keeps the old one until the last worker has released it, so that no worker frees a million
//! records. Before the first one, a table holds the lines of the configuration, and zones are names
//! without records.

use super::authority::table::{ZoneEntry, ZoneTable};
use super::hosts::{Builder, Table};
use crate::config::Config;
use ahash::RandomState;
use std::sync::Arc;

/// Contents of a slot.
#[derive(Clone, Debug)]
pub enum Contents {
    /// Names and addresses of a hosts file.
    Hosts(Arc<Table>),
    /// Zones of a server block.
    Zones(Arc<ZoneTable>),
}

impl Contents {
    /// Returns true if there are other references to it.
    pub(crate) fn is_shared(&self) -> bool {
        match self {
            Self::Hosts(table) => Arc::strong_count(table) > 1,
            Self::Zones(table) => Arc::strong_count(table) > 1,
        }
    }
}

/// Snapshots of one worker.
pub struct Data {
    /// One for each of the configuration's sources of `hosts`.
    hosts: Vec<Arc<Table>>,
    /// One for each of its sources of zones.
    zones: Vec<Arc<ZoneTable>>,
}

impl Data {
    /// Initial contents: only the lines of `config`. `hasher` is keyed.
    pub(crate) fn new(config: &Config, hasher: &RandomState) -> Self {
        let own = config.hosts_sources().into_iter().map(|source| {
            let mut builder = Builder::new(hasher.clone(), source.reverse, 0);
            source.inline.iter().for_each(|line| builder.add(line));
            Arc::new(builder.finish())
        });
        let zones = config.zone_sources().into_iter().map(|source| {
            let transferred = source.transferred.iter().map(|transferred| ZoneEntry {
                name: transferred.zone.clone(),
                stanza: transferred.stanza,
                zone: None,
                primaries: Arc::clone(&transferred.primaries),
                differences: Arc::default(),
            });
            let files = source
                .files
                .iter()
                .map(|file| ZoneEntry::of_file(file.zone.clone(), file.stanza, None));
            let entries = transferred.chain(files).collect();
            Arc::new(ZoneTable::new(entries, hasher.clone()))
        });
        Self { hosts: own.collect(), zones: zones.collect() }
    }

    /// Replaces the contents of a slot; ignores a slot that the configuration does not have. Slots
    /// of hosts come first.
    pub fn set(&mut self, slot: usize, contents: Contents) {
        match contents {
            Contents::Hosts(table) => {
                if let Some(own) = self.hosts.get_mut(slot) {
                    *own = table;
                }
            }
            Contents::Zones(table) => {
                let slot = slot.checked_sub(self.hosts.len());
                if let Some(own) = slot.and_then(|slot| self.zones.get_mut(slot)) {
                    *own = table;
                }
            }
        }
    }

    /// Returns true if the configuration has a hosts table.
    pub(crate) fn has_hosts(&self) -> bool {
        !self.hosts.is_empty()
    }

    /// Returns the snapshot in a slot of the configuration.
    pub(crate) fn hosts(&self, slot: usize) -> &Table {
        &self.hosts[slot]
    }

    /// Returns the zones in a slot, numbered among the slots of zones.
    pub(crate) fn zones(&self, slot: usize) -> &ZoneTable {
        &self.zones[slot]
    }
}
