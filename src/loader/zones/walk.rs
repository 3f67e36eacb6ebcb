//! Finds the zone files of an `auto` directory.
//!
//! Files and directories are visited in the order of their names, a directory's files in its place;
//! of two files with the same zone the first counts. Links to files are followed, links to
//! directories are not, so that a walk ends; its depth and the number of its entries are bounded.

use crate::config::{DirectorySource, FileSource, Name};
use crate::log::without_controls;
use std::collections::{HashMap, HashSet};
use std::fs::{DirEntry, FileType};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Maximum depth of nested directories.
const DEPTH_MAX: usize = 32;
/// Maximum number of entries in all directories.
const ENTRIES_MAX: usize = 1_000_000;
/// Maximum number of warnings of one walk.
const WARNINGS_MAX: usize = 100;

/// Result of a walk.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// Zones and their files, in the order of the walk.
    pub(crate) found: Vec<FileSource>,
    /// Files and directories that were skipped.
    pub(crate) warnings: Vec<String>,
    /// Subdirectories that cannot be read: their files are unknown.
    pub(super) unread: Vec<PathBuf>,
    /// Device and inode of the directory itself.
    pub(super) identity: Option<(u64, u64)>,
    /// The directory has no entries.
    pub(super) is_empty: bool,
}

struct Walking<'a> {
    source: &'a DirectorySource,
    /// Zones that other directives of the block serve.
    taken: &'a HashSet<Name>,
    /// The zones of `walk.found`, and their indexes in it.
    known: HashMap<Name, usize>,
    walk: Walk,
    entries: usize,
}

/// Finds zone files in the directory of `source`. `taken`: zones that are read from elsewhere.
///
/// # Errors
/// The directory itself cannot be read, or has too many entries.
pub(crate) fn walk(source: &DirectorySource, taken: &HashSet<Name>) -> io::Result<Walk> {
    let place = &source.directory.place;
    // Before the entries: if the directory is replaced in between, the next walk finds another one.
    let identity = identity(place);
    let walk = Walk { identity, ..Walk::default() };
    let mut walking = Walking { source, taken, known: HashMap::new(), walk, entries: 0 };
    walking.directory(place, 0)?;
    walking.walk.is_empty = walking.entries == 0;
    Ok(walking.walk)
}

impl Walking<'_> {
    fn directory(&mut self, place: &Path, depth: usize) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(place)? {
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                let text = format!("more than {ENTRIES_MAX} files and directories");
                return Err(io::Error::other(text));
            }
            entries.push(entry?);
        }
        entries.sort_by_cached_key(DirEntry::file_name);
        for entry in entries {
            // An entry that was removed meanwhile is skipped.
            let Ok(file_type) = entry.file_type() else { continue };
            if file_type.is_dir() {
                self.below(entry.path(), depth + 1)?;
            } else {
                self.file(&entry, file_type);
            }
        }
        Ok(())
    }

    fn below(&mut self, place: PathBuf, depth: usize) -> io::Result<()> {
        let result = if depth > DEPTH_MAX {
            Err(io::Error::other(format!("more than {DEPTH_MAX} directories below each other")))
        } else {
            self.directory(&place, depth)
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) if self.entries <= ENTRIES_MAX => {
                let label = self.label(&place);
                self.warn(|| format!("{label}: {error}: its zones stay as they are"));
                self.walk.unread.push(place);
                Ok(())
            }
            other => other,
        }
    }

    fn file(&mut self, entry: &DirEntry, file_type: FileType) {
        let base = entry.file_name();
        let naming = &self.source.directory.naming;
        let Some(zone) = naming.zone_of(base.as_bytes()) else {
            if naming.is_only_in_reference(base.as_bytes()) {
                let label = self.label(&entry.path());
                let what = "is no zone file: its name does not begin with 'db.'";
                self.warn(|| format!("{label}: {what}"));
            }
            return;
        };
        let place = entry.path();
        // A broken link counts as a file, which then cannot be opened.
        let leads_elsewhere = || std::fs::metadata(&place).is_ok_and(|found| !found.is_file());
        if !file_type.is_file() && (!file_type.is_symlink() || leads_elsewhere()) {
            return;
        }
        let label = self.label(&place);
        let zone = match zone {
            Ok(zone) => zone,
            Err(what) => return self.warn(|| format!("{label}: {what}")),
        };
        if !self.source.serves(&zone) {
            let what = "is outside the zones of the stanza and not loaded";
            return self.warn(|| format!("{label}: zone {zone} {what}"));
        }
        if self.taken.contains(&zone) {
            let what = "is read from the file of another stanza";
            return self.warn(|| format!("{label}: zone {zone} {what}"));
        }
        if let Some(first) = self.known.get(&zone) {
            let first = &self.walk.found[*first];
            if !is_same_file(&first.place, &place) {
                let text = format!("{label}: zone {zone} is read from {}", first.label);
                self.warn(|| text);
            }
            return;
        }
        self.known.insert(zone.clone(), self.walk.found.len());
        self.walk.found.push(self.source.file(zone, label, place));
    }

    /// Returns the file's name for messages.
    fn label(&self, place: &Path) -> String {
        let directory = &self.source.directory;
        let below = place.strip_prefix(&directory.place).unwrap_or(place);
        let label = Path::new(&directory.label).join(below);
        without_controls(&label.to_string_lossy())
    }

    fn warn(&mut self, text: impl FnOnce() -> String) {
        if self.walk.warnings.len() < WARNINGS_MAX {
            self.walk.warnings.push(text());
        }
    }
}

/// Returns true if both paths lead to the same file.
fn is_same_file(one: &Path, other: &Path) -> bool {
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

/// Returns device and inode of a file or directory.
fn identity(place: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(place).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
