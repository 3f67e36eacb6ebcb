//! Zones of a server block, found by the longest name at or above the QNAME.
//!
//! A table is a snapshot like its zones: a loader builds a new one when a zone changes, which
//! shares the other zones with the old one.

use super::Zone;
use super::difference::{Chain, Differences};
use crate::config::{Name, Primary};
use crate::engine::message::rtype;
use crate::engine::zones::{LowercaseName, Zones};
use ahash::RandomState;
use std::sync::Arc;

/// The zones of a server block.
pub struct ZoneTable {
    apexes: Zones<u32>,
    entries: Box<[ZoneEntry]>,
    pub(super) hasher: RandomState,
}

/// A zone in the table.
#[derive(Clone, Debug)]
pub struct ZoneEntry {
    /// The zone's name.
    pub name: Name,
    /// Number of the stanza that names it.
    pub stanza: u32,
    /// The zone. `None`: it has not been loaded yet, or has expired.
    pub zone: Option<Arc<Zone>>,
    /// Servers that the zone is transferred from, which may notify of changes. Empty: it is read
    /// from a file.
    pub primaries: Arc<[Primary]>,
    /// Differences of its last versions.
    pub differences: Differences,
}

impl ZoneEntry {
    /// A zone that is read from a file.
    pub fn of_file(name: Name, stanza: u32, zone: Option<Arc<Zone>>) -> Self {
        Self { name, stanza, zone, primaries: Arc::default(), differences: Arc::default() }
    }

    /// Returns the differences from the version with this serial. `None`: the whole zone has to be
    /// sent.
    pub fn chain_from(&self, serial: u32) -> Option<Chain> {
        Chain::from(&self.differences, serial, self.zone.as_ref()?)
    }
}

impl ZoneTable {
    /// Builds the table of `entries`; the last of equal names counts. `hasher` is keyed.
    pub fn new(entries: Vec<ZoneEntry>, hasher: RandomState) -> Self {
        let numbered = entries.iter().enumerate().rev();
        let apexes = numbered.map(|(number, entry)| (&entry.name, number as u32));
        let apexes = Zones::new(hasher.clone(), apexes);
        Self { apexes, entries: entries.into(), hasher }
    }

    pub(crate) fn entries(&self) -> &[ZoneEntry] {
        &self.entries
    }

    /// Returns the longest zone at or above `name`.
    pub(crate) fn longest(&self, name: &LowercaseName) -> Option<&ZoneEntry> {
        self.apexes.longest(name).map(|number| &self.entries[number as usize])
    }

    /// Returns the zone for a query of this name and type: DS records at an apex are in the parent
    /// zone (RFC 4035 §3.1.4.1).
    pub fn zone_match(&self, name: &LowercaseName, rtype: u16) -> Option<&ZoneEntry> {
        let mut matches =
            self.apexes.matches(name).map(|(_, number)| &self.entries[number as usize]);
        let longest = matches.next()?;
        let is_apex = rtype == rtype::DS && longest.name.as_wire() == name.as_bytes();
        Some(if is_apex { matches.next().unwrap_or(longest) } else { longest })
    }
}

impl std::fmt::Debug for ZoneTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ZoneTable({} zones)", self.entries.len())
    }
}
