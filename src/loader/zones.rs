//! Reads the zone files of a server block.
//!
//! A file is read again when it, or a file that it includes, has changed ([`files`]). A zone takes
//! effect if its records differ. A file that is broken or removed leaves its zone as it is, which
//! is logged once for each change. The first load is different: a broken file refuses the
//! configuration, and a missing one leaves its zone without records until it appears. Zones from
//! the files of a directory ([`directory`], [`walk`]) are added and removed, and a broken file
//! makes no zone.

mod directory;
mod files;
mod history;
mod reading;
mod walk;

pub(crate) use directory::directory_refusal;
pub(crate) use walk::{Walk, walk};

use super::LOOK_INTERVAL_MIN;
use super::file::hasher;
use super::secondary::{Checked, Handover, Secondaries};
use crate::clock::Clock;
use crate::config::{FileSource, ZonesSource};
use crate::control::{DirectoryState, ZoneCounters, ZoneLoads, ZoneState};
use crate::engine::authority::table::{ZoneEntry, ZoneTable};
use crate::engine::authority::{Built, Zone};
use crate::engine::forwarder::Notified;
use crate::log::{Event, Level, Log};
use crate::moment::Moment;
use ahash::RandomState;
use crossbeam_channel::Receiver;
use directory::{AUTO, Directory};
pub(super) use files::{SETTLE, Watch};
use history::Histories;
use reading::read;
pub(super) use reading::{BYTES_MAX, read_records};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Source of log lines about zone files.
const FILE: &str = "plugin/file";
/// Time after which a check of all zones is interrupted, so that zones that were read take effect
/// before all others have been read.
const BATCH: Duration = Duration::from_secs(1);

/// A zone that was read.
pub struct LoadedZone {
    /// The zone.
    pub zone: Zone,
    /// Oddities of the zone.
    pub(crate) warnings: Vec<String>,
}

/// Reason why a zone was not read.
#[derive(Debug)]
pub enum Trouble {
    /// The zone's own file cannot be opened.
    Unopened(String),
    /// The text is not a valid zone.
    Broken(String),
}

/// One zone and the state of its file.
struct Watched {
    file: FileSource,
    /// The file was found in a directory: the zone exists only after a successful read.
    is_found: bool,
    zone: Option<Arc<Zone>>,
    watch: Watch,
    /// The file was replaced by this server: a change needs no second check.
    is_whole: bool,
    look_at: Option<Moment>,
    /// Trouble that was logged last.
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
    directory: Option<Directory>,
    /// Zones that are transferred.
    secondaries: Option<Secondaries>,
    /// Differences of the zones' last versions.
    histories: Histories,
    current: Arc<ZoneTable>,
    /// Maximum time of a check, apart from the last zone in it.
    batch: Duration,
    /// Index of the zone at which the next check begins.
    next: usize,
}

impl Trouble {
    /// Returns the error that refuses the configuration; `None`: the file may still appear.
    pub(crate) fn refusal(&self, file: &FileSource) -> Option<String> {
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

/// Reads a zone that will be signed, so that signatures in its file do not matter. `hasher` is
/// keyed.
///
/// # Errors
/// [`Trouble`] with the file.
pub(crate) fn read_unsigned(
    file: &FileSource,
    hasher: &RandomState,
) -> Result<LoadedZone, Trouble> {
    let (read, _) = read_records(file, hasher);
    read.map(|Built { zone, warnings }| LoadedZone { zone, warnings })
}

impl ZonesReader {
    /// Creates the reader of zones that were not read yet.
    ///
    /// # Errors
    /// The kernel has no randomness.
    pub(super) fn new(
        source: Arc<ZonesSource>,
        loads: Arc<ZoneLoads>,
        shared: (ZoneCounters, Handover),
        log: Log,
    ) -> io::Result<Self> {
        let hasher = hasher()?;
        let secondaries = Secondaries::new(&source, shared, hasher.clone(), log)?;
        let zones: Vec<_> = source.files.iter().cloned().map(Watched::new).collect();
        let directory = source.directory.as_ref();
        let directory = directory.map(|directory| Directory::new(directory, &zones, log));
        let mut histories = Histories::new(&source.offered);
        let current = Arc::new(table_of(&zones, secondaries.as_ref(), &mut histories, &hasher));
        Ok(Self {
            loads,
            log,
            hasher,
            clock: Clock::start(),
            zones,
            directory,
            secondaries,
            histories,
            current,
            batch: BATCH,
            next: 0,
        })
    }

    /// Returns the table that was built last.
    pub(super) fn table(&self) -> Arc<ZoneTable> {
        Arc::clone(&self.current)
    }

    /// Returns the time of the next check. `None`: never.
    pub(super) fn next_look(&self) -> Option<Moment> {
        let zones = self.zones.iter().map(|zone| zone.look_at);
        let looks = zones.chain(self.directory.iter().map(|directory| directory.look_at));
        looks.chain(self.secondaries.iter().map(Secondaries::next_turn)).flatten().min()
    }

    /// Makes the next check of all checked zones due now.
    pub(super) fn hasten(&mut self, now: Moment) {
        let zones = self.zones.iter_mut().map(|zone| &mut zone.look_at);
        let directory = self.directory.iter_mut().map(|directory| &mut directory.look_at);
        for at in zones.chain(directory).flatten() {
            *at = now.min(*at);
        }
    }

    /// Loads all zones for the first time.
    ///
    /// # Errors
    /// A file is not a valid zone, or is missing and would never be checked again.
    pub(super) fn look_first(&mut self) -> Result<Arc<ZoneTable>, String> {
        if let Some(directory) = &mut self.directory {
            directory.look_first(&mut self.zones);
        }
        for watched in &mut self.zones {
            watched.read(&self.hasher, self.log, true);
        }
        self.secondaries.iter_mut().for_each(Secondaries::load);
        let now = self.clock.now();
        self.zones.iter_mut().for_each(|watched| watched.plan(now));
        self.directory.iter_mut().for_each(|directory| directory.plan(now));
        let table = self.reload();
        let refusals = |zone: &Watched| zone.refusal.as_ref()?.refusal(&zone.file);
        let refusal = self.zones.iter().find_map(refusals);
        let directory = self.directory.as_ref().and_then(Directory::refusal);
        refusal.or_else(|| directory.cloned()).map_or(Ok(table), Err)
    }

    /// Logs the errors that would have refused the configuration if the first load had been in
    /// time.
    pub(super) fn tell_refusals(&mut self) {
        for watched in &mut self.zones {
            if let Some(trouble) = watched.refusal.take() {
                watched.tell(&trouble, self.log);
            }
        }
        self.directory.iter_mut().for_each(Directory::tell_refusal);
    }

    /// Checks the files that are due at `now`, until the time of a batch is over; the others stay
    /// due. `None`: all zones are unchanged.
    pub(super) fn look(&mut self, now: Moment) -> Option<Arc<ZoneTable>> {
        let mut is_changed = false;
        if let Some(secondaries) = &mut self.secondaries {
            secondaries.turn(now);
            is_changed = secondaries.take_changed();
        }
        let is_due = |at: Option<Moment>| at.is_some_and(|at| at <= now);
        if let Some(directory) = self.directory.as_mut().filter(|found| is_due(found.look_at)) {
            is_changed |= directory.look(&mut self.zones, now);
            directory.plan(self.clock.now());
        }
        let begin = self.clock.now();
        let mut looked = Vec::new();
        let first = std::mem::take(&mut self.next).min(self.zones.len());
        for number in (first..self.zones.len()).chain(0..first) {
            let watched = &mut self.zones[number];
            if !is_due(watched.look_at) {
                continue;
            }
            if !looked.is_empty() && self.clock.now().since(begin) >= self.batch {
                self.next = number;
                break;
            }
            is_changed |= watched.look(&self.hasher, self.log);
            looked.push(number);
        }
        // Planned from one time, so that zones with equal intervals are checked together.
        let now = self.clock.now();
        looked.into_iter().for_each(|number| self.zones[number].plan(now));
        if is_changed {
            return Some(self.reload());
        }
        self.tell();
        None
    }

    /// Returns the channel with results of checks at primaries.
    pub(super) fn results(&self) -> Option<Receiver<Checked>> {
        self.secondaries.as_ref().map(Secondaries::results)
    }

    /// Takes the result of a check at primaries.
    pub(super) fn take_checked(&mut self, checked: Checked) {
        if let Some(own) = &mut self.secondaries {
            own.take(checked);
        }
    }

    /// Takes a notification of a primary.
    pub(super) fn take_notified(&mut self, notified: &Notified) {
        self.secondaries.iter_mut().for_each(|own| own.notify(notified));
    }

    /// Takes a file that this server has written: its zone is read at once.
    pub(super) fn take_written(&mut self, path: &Path, now: Moment) {
        let mut is_known = false;
        for watched in self.zones.iter_mut().filter(|watched| watched.file.place == path) {
            (watched.is_whole, watched.look_at) = (true, Some(now));
            is_known = true;
        }
        if !is_known && let Some(directory) = &mut self.directory {
            directory.expect(path, now);
        }
    }

    fn reload(&mut self) -> Arc<ZoneTable> {
        let secondaries = self.secondaries.as_ref();
        let histories = &mut self.histories;
        self.current = Arc::new(table_of(&self.zones, secondaries, histories, &self.hasher));
        self.tell();
        self.table()
    }

    fn tell(&self) {
        let zones = self.zones.iter().map(|watched| watched.state.clone());
        let directory = self.directory.as_ref().map(|directory| DirectoryState {
            zones: self.zones.iter().filter(|zone| zone.is_found && zone.zone.is_some()).count(),
            ..directory.state()
        });
        let transferred = self.secondaries.iter().flat_map(Secondaries::states);
        let mut states: Vec<_> = zones.chain(transferred).collect();
        self.histories.tell(&mut states);
        self.loads.set(states, directory);
    }
}

/// Returns the table of all zones; a file comes before a primary.
fn table_of(
    zones: &[Watched],
    secondaries: Option<&Secondaries>,
    histories: &mut Histories,
    hasher: &RandomState,
) -> ZoneTable {
    let is_there = |zone: &&Watched| zone.zone.is_some() || !zone.is_found;
    let files = zones.iter().filter(is_there).map(|watched| {
        let (name, stanza) = (watched.file.zone.clone(), watched.file.stanza);
        ZoneEntry::of_file(name, stanza, watched.zone.clone())
    });
    let transferred = secondaries.into_iter().flat_map(Secondaries::entries);
    let mut entries: Vec<_> = transferred.chain(files).collect();
    histories.note(&mut entries);
    ZoneTable::new(entries, hasher.clone())
}

impl Watched {
    fn new(file: FileSource) -> Self {
        Self {
            state: ZoneState { zone: file.zone.to_string(), ..ZoneState::default() },
            file,
            is_found: false,
            zone: None,
            watch: Watch::default(),
            is_whole: false,
            look_at: None,
            told: None,
            refusal: None,
        }
    }

    /// Creates a zone whose file was found in a directory.
    fn of_directory(file: FileSource) -> Self {
        Self { is_found: true, ..Self::new(file) }
    }

    /// Makes the file be read as soon as two checks agree.
    fn expect(&mut self, now: Moment) {
        self.watch.expect(&self.file.place);
        self.look_at = Some(now);
    }

    /// Sets the file that a directory has for the zone.
    fn find_at(&mut self, file: FileSource, now: Moment) {
        if self.file.place != file.place {
            self.file = file;
            self.expect(now);
        }
        if !self.watch.is_waiting() {
            self.look_at = Some(now);
        }
    }

    /// Sets the time of the next check.
    fn plan(&mut self, now: Moment) {
        let interval = self.file.reload.map(|reload| reload.max(LOOK_INTERVAL_MIN));
        let soon = self.watch.is_waiting().then_some(SETTLE);
        // The next scan of the directory triggers the check, if the file still exists.
        let interval = if self.is_found { soon.and(interval) } else { interval };
        self.look_at = interval.map(|interval| now.plus(soon.unwrap_or(interval)));
    }

    /// Returns the directive that its log lines name as their source.
    fn plugin(&self) -> &'static str {
        if self.is_found { AUTO } else { FILE }
    }

    /// Checks the files, and reads them if they have changed. Returns true if the zone has.
    fn look(&mut self, hasher: &RandomState, log: Log) -> bool {
        let is_whole = std::mem::take(&mut self.is_whole);
        let is_changed = if is_whole { self.watch.differs() } else { self.watch.has_changed() };
        if !is_changed {
            return false;
        }
        self.read(hasher, log, false)
    }

    /// Reads the files. Returns true if the zone has changed.
    fn read(&mut self, hasher: &RandomState, log: Log, is_first: bool) -> bool {
        let now = Clock::calendar();
        let (read, files) = read(&self.file, hasher);
        if !self.watch.adopt(files, now, is_first) {
            // The file is being written: the text may be incomplete.
            return false;
        }
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

    /// Adopts a zone that was read, if it differs. Returns true if it does.
    fn take(&mut self, built: Built, log: Log, is_first: bool, now: Duration) -> bool {
        let Built { zone, warnings } = built;
        let plugin = self.plugin();
        self.told = None;
        self.state.done += 1;
        if self.zone.as_ref().is_some_and(|old| old.is_same(&zone)) {
            return false;
        }
        let FileSource { label, zone: name, .. } = &self.file;
        for warning in warnings {
            let text = format_args!("{label}: zone {name}: {warning}");
            log.event(&Event::new(Level::Warning, plugin, &text));
        }
        let serial = zone.serial();
        if let Some(old) = &self.zone {
            let before = old.serial();
            if serial.wrapping_sub(before) as i32 <= 0 {
                let text = format_args!(
                    "{label}: zone {name} has changed but its serial has not risen ({before}, now \
                     {serial}): secondaries will not fetch the change"
                );
                log.event(&Event::new(Level::Warning, plugin, &text));
            }
        }
        if self.is_found && self.zone.is_none() {
            let text = format_args!("Inserting zone \"{name}\" from: {label}");
            log.event(&Event::new(Level::Info, plugin, &text));
        } else if !is_first {
            let text = format_args!(
                "Successfully reloaded zone \"{name}\" in \"{label}\" with {serial} SOA serial"
            );
            log.event(&Event::new(Level::Info, plugin, &text));
        }
        self.state.serial = serial.into();
        self.state.records = zone.records() as u64;
        self.state.bytes = zone.reserved() as u64;
        self.state.loaded = now;
        self.zone = Some(Arc::new(zone));
        true
    }

    /// Continues without a zone whose file may still appear; any other trouble refuses the
    /// configuration.
    fn fail_first(&mut self, trouble: Trouble, log: Log) {
        self.state.failed += 1;
        if self.is_found {
            return self.tell(&trouble, log);
        }
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

    /// Logs trouble, unless it was logged before.
    fn tell(&mut self, trouble: &Trouble, log: Log) {
        let text = trouble.to_string();
        if self.told.as_ref() == Some(&text) {
            return;
        }
        let (FileSource { label, zone, .. }, plugin) = (&self.file, self.plugin());
        match trouble {
            _ if self.is_found && self.zone.is_none() => {
                let line = format_args!("Parse zone \"{zone}\": {text}");
                log.event(&Event::new(Level::Warning, plugin, &line));
            }
            Trouble::Unopened(_) => {
                let line = format_args!("Failed to open zone \"{zone}\" in \"{label}\": {text}");
                log.event(&Event::new(Level::Error, plugin, &line));
            }
            Trouble::Broken(_) => {
                let line = format_args!("Parsing zone \"{zone}\": {text}");
                log.event(&Event::new(Level::Error, plugin, &line));
            }
        }
        self.told = Some(text);
    }
}

#[cfg(test)]
mod tests;
