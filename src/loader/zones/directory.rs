//! Keeps the zones of an `auto` directory in step with its files.
//!
//! A new file becomes a zone after its first successful read. A zone is removed when its file has
//! been missing in all scans of one `reload` interval, and of [`ABSENCE_MIN`], so that a file that
//! is being replaced keeps its zone. A directory that cannot be read changes nothing, and neither
//! does an empty one in the place of another, as after an unmount. Each fact is logged once.

use super::Watched;
use super::walk::{Walk, walk};
use crate::config::{DirectorySource, Name};
use crate::control::DirectoryState;
use crate::loader::LOOK_INTERVAL_MIN;
use crate::log::{Event, Level, Log};
use crate::moment::Moment;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::time::Duration;

/// Minimum time that a file is missing before its zone is removed.
const ABSENCE_MIN: Duration = Duration::from_secs(5);
/// Source of log lines about directories and their files.
pub(super) const AUTO: &str = "plugin/auto";

/// A directory and the state of its scans.
pub(super) struct Directory {
    source: DirectorySource,
    log: Log,
    /// Zones that other directives of the block serve.
    taken: HashSet<Name>,
    /// Time of the next scan.
    pub(super) look_at: Option<Moment>,
    /// Zones whose files the last scan has not found, and the first of the scans without them.
    missed: HashMap<Name, Moment>,
    /// Device and inode of the directory at the last successful scan.
    identity: Option<(u64, u64)>,
    /// Warnings of the last scan.
    warned: HashSet<String>,
    /// Error that was logged last.
    told: Option<String>,
    /// The error for which the first load refuses the configuration.
    refusal: Option<String>,
    state: DirectoryState,
}

/// Returns the error of a directory that refuses the configuration; `None`: it may still appear.
pub(crate) fn directory_refusal(source: &DirectorySource, error: &io::Error) -> Option<String> {
    if error.kind() == io::ErrorKind::NotFound && source.reload.is_some() {
        return None;
    }
    let (written, label) = (&source.written.0, &source.directory.label);
    Some(format!("plugin/auto: {written} - Unable to access root path '{label}': {error}"))
}

impl Directory {
    /// Creates the state of a directory that was not scanned yet, beside these zones.
    pub(super) fn new(source: &DirectorySource, zones: &[Watched], log: Log) -> Self {
        let label = source.directory.label.clone();
        Self {
            source: source.clone(),
            log,
            taken: zones.iter().map(|watched| watched.file.zone.clone()).collect(),
            look_at: None,
            missed: HashMap::new(),
            identity: None,
            warned: HashSet::new(),
            told: None,
            refusal: None,
            state: DirectoryState { label, ..DirectoryState::default() },
        }
    }

    /// Returns the state for the metrics.
    pub(super) fn state(&self) -> DirectoryState {
        self.state.clone()
    }

    /// Finds its zones for the first time.
    pub(super) fn look_first(&mut self, zones: &mut Vec<Watched>) {
        match walk(&self.source, &self.taken) {
            Ok(walk) => {
                self.take_warnings(&walk);
                self.identity = walk.identity;
                zones.extend(walk.found.into_iter().map(Watched::of_directory));
                self.state.done += 1;
            }
            Err(error) => {
                self.state.failed += 1;
                self.refusal = directory_refusal(&self.source, &error);
                if self.refusal.is_none() && self.is_news(&error) {
                    let text = format_args!("Directory does not exist: {}", self.state.label);
                    self.log.event(&Event::new(Level::Warning, AUTO, &text));
                }
            }
        }
    }

    /// Returns the error that refuses the configuration.
    pub(super) fn refusal(&self) -> Option<&String> {
        self.refusal.as_ref()
    }

    /// Logs the error that would have refused the configuration if the first load had been in time.
    pub(super) fn tell_refusal(&mut self) {
        if let Some(text) = self.refusal.take() {
            let text = format_args!("no zone of the directory is served: {text}");
            self.log.event(&Event::new(Level::Error, AUTO, &text));
        }
    }

    /// Finds new, moved and removed files, and triggers the check of existing ones. Returns true if
    /// a zone was removed.
    pub(super) fn look(&mut self, zones: &mut Vec<Watched>, now: Moment) -> bool {
        match walk(&self.source, &self.taken).and_then(|walk| self.checked(walk, zones)) {
            Ok(walk) => self.take(walk, zones, now),
            Err(error) => {
                self.state.failed += 1;
                self.missed.clear();
                if self.is_news(&error) {
                    let label = &self.state.label;
                    let text =
                        format_args!("cannot read directory {label}: {error}: its zones stay");
                    self.log.event(&Event::new(Level::Error, AUTO, &text));
                }
                false
            }
        }
    }

    /// Returns the walk, unless its directory is probably the mount point of a file system that was
    /// unmounted.
    fn checked(&self, walk: Walk, zones: &[Watched]) -> io::Result<Walk> {
        let is_other = self.identity.is_some() && walk.identity != self.identity;
        if walk.is_empty && is_other && zones.iter().any(|watched| watched.is_found) {
            return Err(io::Error::other(
                "it is empty and not the directory of the last search; is it mounted?",
            ));
        }
        Ok(walk)
    }

    /// Adopts the result of a scan at `now`. Returns true if a zone was removed.
    pub(super) fn take(&mut self, walk: Walk, zones: &mut Vec<Watched>, now: Moment) -> bool {
        self.state.done += 1;
        self.told = None;
        self.identity = walk.identity;
        self.take_warnings(&walk);
        let known = zones.iter().enumerate().filter(|(_, watched)| watched.is_found);
        let known: HashMap<Name, usize> =
            known.map(|(number, watched)| (watched.file.zone.clone(), number)).collect();
        let mut present = HashSet::new();
        let is_unread = |watched: &Watched| {
            walk.unread.iter().any(|place| watched.file.place.starts_with(place))
        };
        for file in walk.found {
            present.insert(file.zone.clone());
            match known.get(&file.zone) {
                // Its own file may still exist, and comes first or is the only valid one.
                Some(number) if is_unread(&zones[*number]) && zones[*number].zone.is_some() => {}
                Some(number) => zones[*number].find_at(file, now),
                None => {
                    let mut watched = Watched::of_directory(file);
                    watched.expect(now);
                    zones.push(watched);
                }
            }
        }
        let absence = self.absence();
        let missed = std::mem::take(&mut self.missed);
        let mut is_changed = false;
        zones.retain(|watched| {
            let zone = &watched.file.zone;
            if !watched.is_found || present.contains(zone) || is_unread(watched) {
                return true;
            }
            let since = missed.get(zone).copied().unwrap_or(now);
            if now.since(since) < absence {
                self.missed.insert(zone.clone(), since);
                return true;
            }
            if watched.zone.is_some() {
                is_changed = true;
                let label = &watched.file.label;
                let line = format_args!("Deleting zone \"{zone}\": {label} is gone");
                self.log.event(&Event::new(Level::Info, AUTO, &line));
            }
            false
        });
        is_changed
    }

    /// Searches the directory at once if the file, which is new, is in it.
    pub(super) fn expect(&mut self, path: &Path, now: Moment) {
        if self.look_at.is_some() && path.starts_with(&self.source.directory.place) {
            self.look_at = Some(now);
        }
    }

    /// Returns the time that a file is missing before its zone is removed.
    fn absence(&self) -> Duration {
        self.source.reload.unwrap_or_default().max(ABSENCE_MIN)
    }

    /// Sets the time of the next scan.
    pub(super) fn plan(&mut self, now: Moment) {
        let interval = self.source.reload.map(|reload| reload.max(LOOK_INTERVAL_MIN));
        self.look_at = interval.map(|interval| now.plus(interval));
    }

    /// Logs the warnings that the previous scan did not have.
    fn take_warnings(&mut self, walk: &Walk) {
        let before = std::mem::replace(&mut self.warned, walk.warnings.iter().cloned().collect());
        for text in walk.warnings.iter().filter(|text| !before.contains(*text)) {
            self.log.event(&Event::new(Level::Warning, AUTO, &format_args!("{text}")));
        }
    }

    /// Records an error; returns true if it was not logged before.
    fn is_news(&mut self, error: &io::Error) -> bool {
        let error = Some(error.to_string());
        let is_news = self.told != error;
        self.told = error;
        is_news
    }
}
