//! Reads the zone files of a server block.
//!
//! A file is read again when it, or a file that it includes, has changed: when two looks at least
//! [`SETTLE`] apart find the same new modification time, size and inode, so that a file that is
//! being written is left alone; and what was read counts only if nothing changed meanwhile. A zone
//! takes effect if its records differ. A file that is broken or gone leaves the zone as it is, and
//! the log is told once for each change. The first load is different: a broken file refuses the
//! configuration, and a missing one leaves its zone without records until it appears.

use super::LOOK_INTERVAL_MIN;
use super::file::{Failure, Signature, hasher, open};
use crate::clock::Clock;
use crate::config::{FileSource, ZonesSource};
use crate::control::{ZoneLoads, ZoneState};
use crate::engine::authority::table::{ZoneEntry, ZoneTable};
use crate::engine::authority::{Builder, Built, Refused, Zone};
use crate::log::{Event, Level, Log};
use crate::moment::Moment;
use crate::zonefile::{self, Consumer, Record, ZoneError};
use ahash::RandomState;
use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Source of log lines about zone files.
const FILE: &str = "plugin/file";
/// Time between two looks that find the same, before a changed file is read.
const SETTLE: Duration = Duration::from_millis(100);
/// Bytes of a zone file. While it is read, there are two copies of its records besides its text.
const BYTES_MAX: u64 = 1 << 30;

/// The files that a zone was read from, each as it was then; `None`: it was not there.
type Files = Vec<(PathBuf, Option<Signature>)>;

/// A zone that was read.
pub struct LoadedZone {
    /// The zone.
    pub zone: Zone,
    /// Facts that are odd about it.
    pub warnings: Vec<String>,
}

/// Reason why a zone was not read.
#[derive(Debug)]
pub enum Trouble {
    /// The zone's own file cannot be opened.
    Unopened(String),
    /// Its text is no zone.
    Broken(String),
}

/// One zone and what is known of its file.
struct Watched {
    file: FileSource,
    zone: Option<Arc<Zone>>,
    /// The files as they were when they were read last, with or without success.
    seen: Files,
    /// The files as the last look found them, if that is something new.
    candidate: Option<Files>,
    look_at: Option<Moment>,
    /// The trouble that the log has been told of.
    told: Option<String>,
    /// The trouble for which the first load refuses the configuration.
    refusal: Option<Trouble>,
    state: ZoneState,
}

/// The zones of a server block.
pub(super) struct ZonesReader {
    loads: Arc<ZoneLoads>,
    log: Log,
    hasher: RandomState,
    clock: Clock,
    zones: Vec<Watched>,
    current: Arc<ZoneTable>,
}

impl Trouble {
    /// Returns the error that refuses the configuration; `None`: the file may still come.
    pub fn refusal(&self, file: &FileSource) -> Option<String> {
        match self {
            Self::Unopened(_) if file.reload.is_some() => None,
            Self::Unopened(text) | Self::Broken(text) => {
                Some(format!("plugin/file: {} - {text}", file.written.0))
            }
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unopened(text) | Self::Broken(text) => f.write_str(text),
        }
    }
}

/// Reads a zone from its file. `hasher` is keyed.
///
/// # Errors
/// [`Trouble`] with the file.
pub fn read_zone(file: &FileSource, hasher: &RandomState) -> Result<LoadedZone, Trouble> {
    let (read, _) = read(file, hasher);
    read.map(|Built { zone, warnings }| LoadedZone { zone, warnings })
}

impl ZonesReader {
    /// Of zones that were not read yet.
    ///
    /// # Errors
    /// The kernel has no randomness.
    pub(super) fn new(
        source: Arc<ZonesSource>,
        loads: Arc<ZoneLoads>,
        log: Log,
    ) -> io::Result<Self> {
        let hasher = hasher()?;
        let zones = source.files.iter().map(|file| Watched {
            file: file.clone(),
            zone: None,
            seen: Vec::new(),
            candidate: None,
            look_at: None,
            told: None,
            refusal: None,
            state: ZoneState { zone: file.zone.to_string(), ..ZoneState::default() },
        });
        let zones: Vec<_> = zones.collect();
        let current = Arc::new(table_of(&zones, &hasher));
        Ok(Self { loads, log, hasher, clock: Clock::start(), zones, current })
    }

    /// The table that was built last.
    pub(super) fn table(&self) -> Arc<ZoneTable> {
        Arc::clone(&self.current)
    }

    /// Returns when to look at a file next. `None`: never.
    pub(super) fn next_look(&self) -> Option<Moment> {
        self.zones.iter().filter_map(|zone| zone.look_at).min()
    }

    /// Has all zones that are looked at again be due now.
    pub(super) fn hasten(&mut self, now: Moment) {
        for zone in &mut self.zones {
            zone.look_at = zone.look_at.map(|at| at.min(now));
        }
    }

    /// Loads all zones for the first time.
    ///
    /// # Errors
    /// A file is no zone, or is missing and would never be looked at again.
    pub(super) fn look_first(&mut self) -> Result<Arc<ZoneTable>, String> {
        for watched in &mut self.zones {
            watched.read(&self.hasher, self.log, true);
        }
        let now = self.clock.now();
        self.zones.iter_mut().for_each(|watched| watched.plan(now));
        let table = self.reload();
        let refusals = |zone: &Watched| zone.refusal.as_ref()?.refusal(&zone.file);
        self.zones.iter().find_map(refusals).map_or(Ok(table), Err)
    }

    /// Tells of the zones that would have refused the configuration, as nobody has waited for them.
    pub(super) fn tell_refusals(&mut self) {
        for watched in &mut self.zones {
            if let Some(trouble) = watched.refusal.take() {
                watched.tell(&trouble, self.log);
            }
        }
    }

    /// Looks at the files that are due at `now`. `None`: all zones are as they were.
    pub(super) fn look(&mut self, now: Moment) -> Option<Arc<ZoneTable>> {
        let mut is_changed = false;
        for watched in &mut self.zones {
            if watched.look_at.is_some_and(|at| at <= now) {
                is_changed |= watched.look(&self.hasher, self.log);
                watched.plan(self.clock.now());
            }
        }
        if is_changed {
            return Some(self.reload());
        }
        self.tell();
        None
    }

    fn reload(&mut self) -> Arc<ZoneTable> {
        self.current = Arc::new(table_of(&self.zones, &self.hasher));
        self.tell();
        self.table()
    }

    fn tell(&self) {
        self.loads.set(self.zones.iter().map(|watched| watched.state.clone()).collect());
    }
}

fn table_of(zones: &[Watched], hasher: &RandomState) -> ZoneTable {
    let entries = zones.iter().map(|watched| ZoneEntry {
        name: watched.file.zone.clone(),
        stanza: watched.file.stanza,
        zone: watched.zone.clone(),
    });
    ZoneTable::new(entries.collect(), hasher.clone())
}

impl Watched {
    /// Sets the time of the next look.
    fn plan(&mut self, now: Moment) {
        let interval = self.file.reload.map(|reload| reload.max(LOOK_INTERVAL_MIN));
        let soon = self.candidate.as_ref().map(|_| SETTLE);
        self.look_at = interval.map(|interval| now.plus(soon.unwrap_or(interval)));
    }

    /// Looks at the files, and reads them if they have changed. Returns true if the zone has.
    fn look(&mut self, hasher: &RandomState, log: Log) -> bool {
        let found: Files =
            self.seen.iter().map(|(path, _)| (path.clone(), Signature::of(path).ok())).collect();
        let is_same = |(seen, found): (&(_, Option<Signature>), &(_, Option<Signature>))| match (
            &seen.1, &found.1,
        ) {
            (Some(seen), Some(found)) => seen.stands_for(found),
            (None, None) => true,
            _ => false,
        };
        if self.seen.iter().zip(&found).all(is_same) {
            self.candidate = None;
            return false;
        }
        if self.candidate.as_ref() != Some(&found) {
            self.candidate = Some(found);
            return false;
        }
        self.candidate = None;
        self.read(hasher, log, false)
    }

    /// Reads the files. Returns true if the zone has changed.
    fn read(&mut self, hasher: &RandomState, log: Log, is_first: bool) -> bool {
        let now = Clock::calendar();
        let (read, mut files) = read(&self.file, hasher);
        let is_stable =
            files.iter().all(|(path, signature)| Signature::of(path).ok() == *signature);
        if !is_stable && !is_first {
            // It is being written: what was read may be half of it.
            self.candidate = Some(Vec::new());
            return false;
        }
        for (_, signature) in &mut files {
            *signature = signature.map(|signature| signature.seen_at(now));
        }
        self.seen = files;
        match read {
            Ok(built) => return self.take(built, log, is_first, now),
            Err(trouble) if is_first => self.fail_first(trouble, log),
            Err(trouble) => {
                self.state.failed += 1;
                self.tell(&trouble, log);
            }
        }
        false
    }

    /// Goes on with a zone that was read, if it is another one. Returns true if it is.
    fn take(&mut self, built: Built, log: Log, is_first: bool, now: Duration) -> bool {
        let Built { zone, warnings } = built;
        self.told = None;
        self.state.done += 1;
        if self.zone.as_ref().is_some_and(|old| old.is_same(&zone)) {
            return false;
        }
        let FileSource { label, zone: name, .. } = &self.file;
        for warning in warnings {
            let text = format_args!("{label}: zone {name}: {warning}");
            log.event(&Event::new(Level::Warning, FILE, &text));
        }
        let serial = zone.serial();
        if let Some(old) = &self.zone {
            let before = old.serial();
            if serial.wrapping_sub(before) as i32 <= 0 {
                let text = format_args!(
                    "{label}: zone {name} has changed but its serial has not risen ({before}, now \
                     {serial}): secondaries will not fetch the change"
                );
                log.event(&Event::new(Level::Warning, FILE, &text));
            }
        }
        if !is_first {
            let text = format_args!(
                "Successfully reloaded zone \"{name}\" in \"{label}\" with {serial} SOA serial"
            );
            log.event(&Event::new(Level::Info, FILE, &text));
        }
        self.state.serial = serial.into();
        self.state.records = zone.records() as u64;
        self.state.bytes = zone.reserved() as u64;
        self.state.loaded = now;
        self.zone = Some(Arc::new(zone));
        true
    }

    /// Goes on without a zone whose file may still come; any other trouble refuses the
    /// configuration.
    fn fail_first(&mut self, trouble: Trouble, log: Log) {
        self.state.failed += 1;
        if trouble.refusal(&self.file).is_some() {
            self.refusal = Some(trouble);
            return;
        }
        let text = trouble.to_string();
        let reload = crate::config::show_duration(self.file.reload.unwrap_or_default());
        let line = format_args!("Failed to open \"{text}\": trying again in {reload}");
        log.event(&Event::new(Level::Warning, FILE, &line));
        self.told = Some(text);
    }

    /// Tells of trouble, unless it was told of before.
    fn tell(&mut self, trouble: &Trouble, log: Log) {
        let text = trouble.to_string();
        if self.told.as_ref() == Some(&text) {
            return;
        }
        let FileSource { label, zone, .. } = &self.file;
        match trouble {
            Trouble::Unopened(_) => {
                let line = format_args!("Failed to open zone \"{zone}\" in \"{label}\": {text}");
                log.event(&Event::new(Level::Error, FILE, &line));
            }
            Trouble::Broken(_) => {
                let line = format_args!("Parsing zone \"{zone}\": {text}");
                log.event(&Event::new(Level::Error, FILE, &line));
            }
        }
        self.told = Some(text);
    }
}

/// Reads a zone, and tells of which files.
fn read(file: &FileSource, hasher: &RandomState) -> (Result<Built, Trouble>, Files) {
    let own = Signature::of(&file.place).ok();
    let known = HashSet::from([file.place.clone()]);
    let files = vec![(file.place.clone(), own)];
    let mut collecting = Collecting { builder: None, files, known };
    let text = match read_text(&file.place) {
        Ok(text) => text,
        Err(Failure::Missing) => {
            let text = format!("open {}: no such file or directory", file.label);
            return (Err(Trouble::Unopened(text)), collecting.files);
        }
        Err(failure @ (Failure::Directory | Failure::NoFile)) => {
            let text = format!("{}: zone {}: {failure}", file.label, file.zone);
            return (Err(Trouble::Broken(text)), collecting.files);
        }
        Err(failure) => {
            let text = format!("open {}: {failure}", file.label);
            return (Err(Trouble::Unopened(text)), collecting.files);
        }
    };
    let origin = file.zone.as_wire();
    collecting.builder = Some(Builder::new(origin, text.len(), hasher.clone()));
    let parsed = zonefile::read(&file.place, &text, origin, &mut collecting);
    drop(text);
    let built = parsed.map_err(|error| broken(file, &error)).and_then(|paths| {
        let Some(builder) = collecting.builder.take() else {
            return Err(Trouble::Broken("no zone".into()));
        };
        builder.finish().map_err(|refused| {
            let Refused { place, what } = refused;
            let place = place.map(|(number, line)| (paths.get(usize::from(number)), line));
            let text = match place.unwrap_or_default() {
                (Some(path), line) => {
                    format!("{}:{line}: zone {}: {what}", label(file, path), file.zone)
                }
                _ => format!("{}: zone {}: {what}", file.label, file.zone),
            };
            Trouble::Broken(text)
        })
    });
    (built, collecting.files)
}

/// Returns a file's name for errors: that of the zone itself as it is written.
fn label(file: &FileSource, path: &Path) -> String {
    if path == file.place { file.label.clone() } else { path.display().to_string() }
}

fn broken(file: &FileSource, error: &ZoneError) -> Trouble {
    let ZoneError { file: path, line, column, what, near } = error;
    let label = label(file, path);
    let near = if near.is_empty() { String::new() } else { format!(" near \"{near}\"") };
    Trouble::Broken(format!("{label}:{line}:{column}: zone {}: {what}{near}", file.zone))
}

/// Reads a whole file.
fn read_text(path: &Path) -> Result<Vec<u8>, Failure> {
    let file: File = open(path)?;
    let len = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    let mut text = Vec::new();
    if text.try_reserve_exact(len.min(BYTES_MAX as usize) + 1).is_err() {
        return Err(Failure::Unreadable(io::ErrorKind::OutOfMemory.into()));
    }
    file.take(BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(Failure::Unreadable(io::Error::other("more than 1 GiB")));
    }
    Ok(text)
}

/// Records and files of a zone that is being read.
struct Collecting {
    builder: Option<Builder>,
    files: Files,
    /// The paths of `files`.
    known: HashSet<PathBuf>,
}

impl Consumer for Collecting {
    fn record(&mut self, record: &Record<'_>) -> Result<(), String> {
        let Record { owner, rtype, ttl, data, place } = *record;
        let Some(builder) = &mut self.builder else { return Ok(()) };
        builder.add(owner, rtype, ttl, data, (place.file, place.line))
    }

    fn include(&mut self, file: &Path) -> Result<Vec<u8>, String> {
        let signature = Signature::of(file).ok();
        if self.known.insert(file.to_owned()) {
            self.files.push((file.to_owned(), signature));
        }
        read_text(file).map_err(|failure| format!("{}: {failure}", file.display()))
    }
}

#[cfg(test)]
mod tests;
