//! The zones that a server block answers itself, as one source of data.
//!
//! All stanzas of a block together are one source, so that one look-up finds the longest zone. One
//! loader reads it.

use super::{Name, Stages, Written, ZoneDirectory};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The zones of a server block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnZones {
    /// The source that they are loaded from.
    pub source: Arc<ZonesSource>,
    /// The number of that source among all of the configuration.
    pub slot: usize,
}

/// A source of zones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ZonesSource {
    /// One entry for each zone and file, in the order of the stanzas.
    pub files: Vec<FileSource>,
    /// The directory whose files are zones, too.
    pub directory: Option<DirectorySource>,
}

/// A zone and its file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileSource {
    /// The zone.
    pub zone: Name,
    /// The number of its stanza in the server block.
    pub stanza: u32,
    /// The file as errors name it.
    pub label: String,
    /// Path of the file.
    pub place: PathBuf,
    /// Interval of checks for a changed file. `None`: off.
    pub reload: Option<Duration>,
    /// Place of the stanza.
    pub written: Written,
}

/// A directory with zone files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DirectorySource {
    /// The directory, and how its files are called.
    pub directory: ZoneDirectory,
    /// Names that may be answered from it.
    pub zones: Vec<Name>,
    /// The number of its stanza in the server block.
    pub stanza: u32,
    /// Interval of checks for changed files. `None`: off.
    pub reload: Option<Duration>,
    /// Place of the stanza.
    pub written: Written,
}

impl DirectorySource {
    /// The file at `place` as a source of this zone.
    pub fn file(&self, zone: Name, label: String, place: PathBuf) -> FileSource {
        let (stanza, reload, written) = (self.stanza, self.reload, self.written.clone());
        FileSource { zone, stanza, label, place, reload, written }
    }

    /// Returns true if queries for this zone are answered from the directory.
    pub fn serves(&self, zone: &Name) -> bool {
        self.zones.iter().any(|served| zone.is_within(served))
    }
}

impl ZonesSource {
    /// Returns true if all files are read again when they change.
    pub fn is_watched(&self) -> bool {
        self.files.iter().all(|file| file.reload.is_some())
            && self.directory.as_ref().is_none_or(|directory| directory.reload.is_some())
    }

    /// Returns true if there is nothing to be loaded.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.directory.is_none()
    }

    /// The source of these stanzas, in a block that serves `served`.
    pub(super) fn new(stages: &Stages, served: &[Name]) -> Self {
        let entries = stages.file.iter().zip(0..).flat_map(|(file, stanza)| {
            let zones = file.zones.as_deref().unwrap_or(served);
            zones.iter().map(move |zone| FileSource {
                zone: zone.clone(),
                stanza,
                label: file.label.clone(),
                place: file.place.clone(),
                reload: file.reload,
                written: file.written.clone(),
            })
        });
        let directory = stages.auto.zones().map(|auto| DirectorySource {
            directory: auto.directory.clone(),
            zones: auto.zones.as_deref().unwrap_or(served).to_vec(),
            stanza: stages.file.len() as u32,
            reload: auto.reload,
            written: auto.written.clone(),
        });
        Self { files: entries.collect(), directory }
    }
}
