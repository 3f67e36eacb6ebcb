//! Zones that are transferred from primaries.
//!
//! The loader of a server block's zones owns their state: when each is checked next ([`schedule`]),
//! and whether it may be served. A check runs on a thread of its own ([`fetch`]), of which there
//! are [`CHECKS_MAX`] in the process, and sends its result back. A zone that a failed check leaves
//! as it is stays until it expires; it comes back with the next good answer. At the start, and for
//! each new configuration, a zone is taken from the loader that served it before, or from disk.

mod catalog;
mod disk;
mod fetch;
mod handover;
mod incoming;
mod membership;
mod schedule;
mod wire;

use crate::clock::Clock;
use crate::config::{Name, TransferredSource, ZonesSource, show_duration};
use crate::control::{ZoneCounters, ZoneState};
use crate::engine::authority::Zone;
use crate::engine::authority::table::ZoneEntry;
use crate::engine::forwarder::Notified;
use crate::log::{Event, Level, Log};
use crate::moment::Moment;
use crate::tls;
use ahash::RandomState;
use catalog::{Members, Owner};
use crossbeam_channel::{Receiver, Sender};
use fetch::{Done, Fresh, Job, Outcome};
pub(crate) use handover::Handover;
use handover::{Held, Taken};
pub(super) use incoming::is_newer;
use schedule::{Schedule, Timers};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;
use std::time::Duration;

/// Checks and transfers at a time, in the whole process: each takes a thread, and a transfer memory
/// for its zone.
const CHECKS_MAX: usize = 4;
/// Time after which a check that found no place is tried again.
const NO_PLACE: Duration = Duration::from_millis(100);
/// Source of log lines.
const PLUGIN: &str = "plugin/secondary";

/// Running checks.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Result of the check of a zone.
pub(super) struct Checked {
    number: u64,
    done: Option<Done>,
}

/// One zone.
struct Transferred {
    /// Number of the zone, which no other one had.
    number: u64,
    /// The catalog that it is a member of. `None`: the configuration names it.
    owner: Option<Owner>,
    /// Members of a catalog as they are applied.
    members: Option<Members>,
    source: TransferredSource,
    clients: Arc<[Option<tls::Client>]>,
    zone: Option<Arc<Zone>>,
    /// The zone is in the table: it has not expired.
    is_served: bool,
    is_kept: bool,
    schedule: Schedule,
    /// Failures that were logged last: of checks, and of the state on disk.
    told: Option<String>,
    told_of_disk: Option<String>,
    state: ZoneState,
    checks: u64,
}

/// The transferred zones of a server block.
pub(super) struct Secondaries {
    zones: Vec<Transferred>,
    counters: ZoneCounters,
    handover: Handover,
    hasher: RandomState,
    clock: Clock,
    log: Log,
    results: (Sender<Checked>, Receiver<Checked>),
    /// A zone has changed since the last table.
    is_changed: bool,
    /// The zone whose check comes first in the next turn.
    first: usize,
    /// Zones of files, which no catalog can have.
    taken: Vec<Name>,
    /// Number of the next zone.
    next: u64,
}

impl Secondaries {
    /// Creates the state of the zones of `source`, without records. `None`: there are none.
    ///
    /// # Errors
    /// Settings of TLS are wrong.
    pub(super) fn new(
        source: &ZonesSource,
        (counters, handover): (ZoneCounters, Handover),
        hasher: RandomState,
        log: Log,
    ) -> io::Result<Option<Self>> {
        let clock = Clock::start();
        let mut zones = Vec::new();
        for source in &source.transferred {
            let clients = source.primaries.iter().map(|primary| {
                let client = |tls| tls::Client::to(primary.address, tls);
                primary.tls.as_ref().map(client).transpose()
            });
            let clients: Result<Vec<_>, _> = clients.collect();
            let clients = clients.map_err(|error| io::Error::other(error.to_string()))?;
            let number = zones.len() as u64;
            zones.push(Transferred::new(number, source.clone(), clients.into(), clock.now()));
        }
        let own = Self {
            next: zones.len() as u64,
            zones,
            counters,
            handover,
            hasher,
            clock,
            log,
            results: crossbeam_channel::unbounded(),
            is_changed: false,
            first: 0,
            taken: source.files.iter().map(|file| file.zone.clone()).collect(),
        };
        Ok((!own.zones.is_empty()).then_some(own))
    }

    /// Takes the zones of the loader before, or from disk.
    pub(super) fn load(&mut self) {
        let (now, calendar) = (self.clock.now(), Clock::calendar());
        let directories: BTreeSet<_> =
            self.zones.iter().filter_map(|own| own.source.directory.as_deref()).collect();
        directories.into_iter().for_each(disk::remove_leftovers);
        for own in &mut self.zones {
            own.load(&self.handover, &self.hasher, self.log, (now, calendar));
        }
        for place in 0..self.zones.len() {
            self.read_catalog(place);
        }
        self.apply_catalogs();
    }

    /// Returns the channel with results of checks.
    pub(super) fn results(&self) -> Receiver<Checked> {
        self.results.1.clone()
    }

    /// Returns the entries of the table.
    pub(super) fn entries(&self) -> impl Iterator<Item = ZoneEntry> {
        self.zones.iter().map(|own| ZoneEntry {
            name: own.source.zone.clone(),
            stanza: own.source.stanza,
            zone: own.zone.clone().filter(|_| own.is_served),
            primaries: Arc::clone(&own.source.primaries),
            differences: Arc::default(),
        })
    }

    pub(super) fn states(&self) -> impl Iterator<Item = ZoneState> {
        self.zones.iter().map(|own| {
            let is_expired = own.zone.is_some() && !own.is_served;
            ZoneState { is_expired, ..own.state.clone() }
        })
    }

    /// Returns true once after zones have changed.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// Returns the time of the next call of [`Secondaries::turn`].
    pub(super) fn next_turn(&self) -> Option<Moment> {
        let turns = self.zones.iter().filter_map(|own| own.schedule.next_turn(own.is_served));
        turns.chain(self.is_changed.then_some(Moment::ZERO)).min()
    }

    /// Begins the checks that are due, and withdraws zones that have expired.
    pub(super) fn turn(&mut self, now: Moment) {
        let (count, first, mut refused) = (self.zones.len(), self.first, None);
        for number in (0..count).map(|offset| (first + offset) % count) {
            let own = &mut self.zones[number];
            if own.is_served && own.schedule.is_expired(now) {
                own.is_served = false;
                own.schedule.expire(now);
                self.is_changed = true;
                let name = &own.source.zone;
                let text = format_args!("Zone \"{name}\" has expired: no primary has confirmed it");
                self.log.event(&Event::new(Level::Error, PLUGIN, &text));
            }
            if own.schedule.is_due(now) && !self.begin(number, now) {
                refused = refused.or(Some(number));
            }
        }
        // The zone that has waited first is the first next time.
        self.first = refused.unwrap_or(0);
    }

    /// Begins the check of a zone; returns false if there is no place for it.
    fn begin(&mut self, number: usize, now: Moment) -> bool {
        let own = &mut self.zones[number];
        let Some(place) = Place::take() else {
            own.schedule.postpone(now.plus(NO_PLACE));
            return false;
        };
        own.schedule.begin();
        own.checks += 1;
        let job = Job {
            source: own.source.clone(),
            clients: Arc::clone(&own.clients),
            current: own.zone.clone(),
            is_served: own.is_served,
            is_kept: own.is_kept,
            hasher: self.hasher.clone(),
            clock: self.clock,
        };
        let number = own.number;
        let report = Report { number, done: None, to: self.results.0.clone(), _place: place };
        let checking = move || {
            let mut report = report;
            report.done = Some(job.run());
        };
        // If no thread can be started, the report says so as it is dropped.
        let _ = Builder::new().name(format!("secondary-{number}")).spawn(checking);
        true
    }

    /// Takes a notification of a primary.
    pub(super) fn notify(&mut self, notified: &Notified) {
        let now = self.clock.now();
        let own = self.zones.iter_mut().rfind(|own| own.source.zone == notified.zone);
        let Some(own) = own else { return };
        let serial = own.zone.as_ref().filter(|_| own.is_served).map(|zone| zone.serial());
        let is_old = match (serial, notified.serial) {
            (Some(own), Some(told)) => !incoming::is_newer(told, own),
            _ => false,
        };
        if !is_old {
            own.schedule.notify(now);
        }
        let result = if is_old { "old" } else { "done" };
        self.counters.notifies_in.count(own.source.zone.to_string(), result);
    }

    /// Takes the result of a check.
    pub(super) fn take(&mut self, checked: Checked) {
        let (now, calendar) = (self.clock.now(), Clock::calendar());
        // A zone that was removed meanwhile is not there.
        let place = self.zones.iter().position(|own| own.number == checked.number);
        let Some(place) = place else { return };
        let own = &mut self.zones[place];
        let jitter = self.hasher.hash_one((checked.number, own.checks)) as u8;
        let done = checked.done.unwrap_or_else(|| Done {
            outcome: Outcome::Failed(
                "the check has ended by an error of this server".into(),
                "failed",
            ),
            kept: None,
        });
        own.note_kept(done.kept, self.log);
        let name = own.source.zone.to_string();
        let is_fresh = matches!(done.outcome, Outcome::Fresh(_));
        match done.outcome {
            Outcome::Fresh(fresh) => {
                let kind = if fresh.is_incremental { "ixfr" } else { "axfr" };
                self.counters.transfers_in.count(name, kind);
                own.adopt(fresh, self.log);
                own.confirm(now, calendar, jitter);
                self.is_changed = true;
            }
            Outcome::Current => {
                self.counters.transfers_in.count(name, "current");
                if !own.is_served {
                    let text = format_args!(
                        "Zone \"{name}\" is served again: it is confirmed",
                        name = own.source.zone
                    );
                    self.log.event(&Event::new(Level::Info, PLUGIN, &text));
                    self.is_changed = true;
                }
                own.confirm(now, calendar, jitter);
            }
            Outcome::Stuck(text) => {
                self.counters.transfers_in.count(name, "failed");
                own.state.failed += 1;
                self.is_changed |= !own.is_served;
                let wait = own.stick(now, calendar, jitter);
                own.tell_failure(text, wait, self.log);
            }
            Outcome::Failed(text, kind) => {
                self.counters.transfers_in.count(name, kind);
                own.state.failed += 1;
                let wait = own.schedule.fail(now, jitter);
                own.tell_failure(text, wait, self.log);
            }
        }
        own.hold(&self.handover);
        if is_fresh && self.read_catalog(place) {
            self.apply_catalogs();
        }
    }
}

impl Transferred {
    fn new(
        number: u64,
        source: TransferredSource,
        clients: Arc<[Option<tls::Client>]>,
        now: Moment,
    ) -> Self {
        Self {
            number,
            owner: None,
            members: None,
            state: ZoneState { zone: source.zone.to_string(), ..ZoneState::default() },
            source,
            clients,
            zone: None,
            is_served: false,
            is_kept: false,
            schedule: Schedule::new(now),
            told: None,
            told_of_disk: None,
            checks: 0,
        }
    }

    /// Takes the zone of the loader before, or from disk.
    fn load(
        &mut self,
        handover: &Handover,
        hasher: &RandomState,
        log: Log,
        (now, calendar): (Moment, Duration),
    ) {
        let taken = handover.take(&self.source).or_else(|| self.read(hasher, log));
        let Some((zone, confirmed, is_kept)) = taken else { return };
        let Some(timers) = timers_of(&zone) else { return };
        // A time in the future is one before the clock was set back.
        let age = calendar.saturating_sub(confirmed);
        self.schedule.adopt(now, timers, age);
        self.is_served = !self.schedule.is_expired(now);
        self.is_kept = is_kept;
        self.note_zone(&zone, confirmed.min(calendar), timers);
        self.zone = Some(zone);
        self.hold(handover);
    }

    /// Reads the zone from disk.
    fn read(&mut self, hasher: &RandomState, log: Log) -> Option<Taken> {
        let directory = self.source.directory.as_deref()?;
        match disk::read(directory, &self.source.zone, hasher) {
            Ok(kept) => {
                let disk::Kept { built, confirmed } = kept?;
                Some((Arc::new(built.zone), Duration::from_secs(confirmed), true))
            }
            Err(error) => {
                let name = &self.source.zone;
                let text = format_args!("State of zone \"{name}\" is not used: {error}");
                log.event(&Event::new(Level::Warning, PLUGIN, &text));
                None
            }
        }
    }

    /// Adopts a zone that was transferred.
    fn adopt(&mut self, fresh: Fresh, log: Log) {
        let Fresh { zone, warnings, primary, is_incremental, fallback } = fresh;
        let name = &self.source.zone;
        if let Some(reason) = fallback {
            let text = format_args!(
                "Differences of zone \"{name}\" from {primary} were not used, but the whole zone: \
                 {reason}"
            );
            log.event(&Event::new(Level::Info, PLUGIN, &text));
        }
        for warning in warnings {
            let text = format_args!("zone \"{name}\" from {primary}: {warning}");
            log.event(&Event::new(Level::Warning, PLUGIN, &text));
        }
        let (kind, records, serial) =
            (if is_incremental { "IXFR" } else { "AXFR" }, zone.records(), zone.serial());
        let text = format_args!(
            "Transferred zone \"{name}\" from {primary} by {kind}: {records} records, {serial} SOA \
             serial"
        );
        log.event(&Event::new(Level::Info, PLUGIN, &text));
        self.zone = Some(Arc::new(zone));
        self.state.done += 1;
    }

    /// The zone was transferred, or is current.
    fn confirm(&mut self, now: Moment, calendar: Duration, jitter: u8) {
        let Some(zone) = self.zone.clone() else { return };
        let Some(timers) = timers_of(&zone) else { return };
        self.schedule.confirm(now, timers, jitter);
        (self.is_served, self.told) = (true, None);
        self.note_zone(&zone, calendar, timers);
    }

    /// The zone is confirmed, but its next version could not be taken. Returns the time until the
    /// next check.
    fn stick(&mut self, now: Moment, calendar: Duration, jitter: u8) -> Duration {
        let zone = self.zone.clone();
        let timers = zone.as_ref().and_then(|zone| timers_of(zone));
        let (Some(zone), Some(timers)) = (zone, timers) else {
            return self.schedule.fail(now, jitter);
        };
        self.is_served = true;
        self.note_zone(&zone, calendar, timers);
        self.schedule.stick(now, timers, jitter)
    }

    fn note_zone(&mut self, zone: &Zone, confirmed: Duration, timers: Timers) {
        if self.state.serial != Some(zone.serial()) {
            self.state.loaded = confirmed;
        }
        self.state.serial = Some(zone.serial());
        self.state.records = zone.records() as u64;
        self.state.bytes = zone.reserved() as u64;
        self.state.expires = Some(confirmed + timers.expire);
    }

    /// Logs a failed check, unless the last one failed alike.
    fn tell_failure(&mut self, text: String, wait: Duration, log: Log) {
        if self.told.as_ref() == Some(&text) {
            return;
        }
        let (name, wait) = (&self.source.zone, show_duration(wait));
        let line = format_args!("Refresh of zone \"{name}\" failed, retrying in {wait}: {text}");
        log.event(&Event::new(Level::Warning, PLUGIN, &line));
        self.told = Some(text);
    }

    /// Notes whether the zone is on disk, and logs an error unless it was logged before.
    fn note_kept(&mut self, kept: Option<Result<(), String>>, log: Log) {
        match kept {
            None => {}
            Some(Ok(())) => (self.is_kept, self.told_of_disk) = (true, None),
            Some(Err(error)) => {
                self.is_kept = false;
                if self.told_of_disk.as_ref() != Some(&error) {
                    let name = &self.source.zone;
                    let text = format_args!("State of zone \"{name}\" cannot be written: {error}");
                    log.event(&Event::new(Level::Warning, PLUGIN, &text));
                    self.told_of_disk = Some(error);
                }
            }
        }
    }

    /// Offers the zone to the loader of the next configuration.
    fn hold(&self, handover: &Handover) {
        let (Some(zone), Some(expires)) = (&self.zone, self.state.expires) else { return };
        let Some(timers) = timers_of(zone) else { return };
        handover.hold(Held {
            zone: Arc::downgrade(zone),
            name: self.source.zone.clone(),
            primaries: Arc::clone(&self.source.primaries),
            confirmed: expires.saturating_sub(timers.expire),
            is_kept: self.is_kept && self.source.directory.is_some(),
        });
    }
}

fn timers_of(zone: &Zone) -> Option<Timers> {
    zone.soa().and_then(|(_, data)| Timers::of(data))
}

/// A place among the running checks.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let taken = RUNNING.fetch_update(Ordering::AcqRel, Ordering::Acquire, |running| {
            (running < CHECKS_MAX).then_some(running + 1)
        });
        taken.ok().map(|_| Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The report of a check, which is sent however its thread ends.
struct Report {
    number: u64,
    done: Option<Done>,
    to: Sender<Checked>,
    _place: Place,
}

impl Drop for Report {
    fn drop(&mut self) {
        // The loader may have ended.
        let _ = self.to.send(Checked { number: self.number, done: self.done.take() });
    }
}
