//! A loader: one blocking thread for each data source, from its first load to its end.
//!
//! It reads its source, checks it for changes at the configured interval, and builds a snapshot,
//! which it sends to all workers. Waiting, retrying and detecting changes happen on this thread
//! only: a load that hangs or fails delays no query, because workers go on with the last snapshot.
//! The loader keeps an old snapshot until the last worker has released it, so that the memory is
//! freed here too. `file` opens files and detects changes, `hosts` reads hosts files, `zones` the
//! zone files of a server block, `secondary` transfers zones from primaries. `notify` tells
//! secondaries of changed zones. `sign` has a thread of its own, which writes signed zone files.
//! The thread that starts loaders numbers the sources.

mod file;
mod hosts;
mod notify;
mod secondary;
mod sign;
mod temporary;
mod zones;

pub(crate) use file::Failure;
pub use file::hasher;
pub use hosts::read;
pub(crate) use hosts::{Loaded, skipped_text};
pub(crate) use secondary::Handover;
pub(crate) use sign::{Readers, Signer};
pub use zones::read_zone;
pub(crate) use zones::{LoadedZone, directory_refusal, read_unsigned};
pub(crate) use zones::{Walk, walk};

use crate::clock::Clock;
use crate::config::{HostsSource, ZonesSource};
use crate::control::{Load, Mailbox, ToWorker, ZoneCounters, ZoneLoads};
use crate::engine::data::Contents;
use crate::engine::forwarder::Notified;
use crate::log::Log;
use crate::moment::Moment;
use crossbeam_channel::{Receiver, Sender, never, select};
use hosts::HostsReader;
use notify::Notifier;
use secondary::Checked;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use zones::ZonesReader;

/// Minimum interval between two checks of a file.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// Maximum of old snapshots that workers may still hold. Nothing is loaded while it is reached,
/// which happens only when a worker hangs for longer than a turn.
const RETIRED_MAX: usize = 4;
/// Interval of checks whether workers have released an old snapshot.
const RETIRE_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum wait for an order.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Order to a loader when a configuration with its source has taken effect. The first one makes the
/// loader begin; a later one makes it check the source at once.
#[derive(Debug)]
pub(crate) struct Serve {
    /// Workers that receive later snapshots.
    pub(crate) workers: Vec<Mailbox>,
    /// The first load missed its deadline, so the workers still need the first snapshot.
    pub(crate) is_late: bool,
}

/// Result of the first load; an error refuses the configuration.
pub(crate) type First = Result<Contents, String>;

/// A loader before it begins.
pub(crate) struct Loader {
    number: u64,
    clock: Clock,
    reader: Reader,
    workers: Vec<Mailbox>,
    /// Snapshot that the workers use.
    current: Contents,
    /// Old snapshots that some worker may still hold.
    retired: Vec<Contents>,
    /// Tells secondaries of changed zones.
    notifier: Option<Notifier>,
    /// Notifications of primaries.
    notified: Receiver<Notified>,
    /// Results of checks at primaries.
    checked: Receiver<Checked>,
    /// Zone files that this server has written.
    written: Receiver<PathBuf>,
}

/// Messages for a loader of zones.
pub(crate) struct Hearing {
    /// Notifications of primaries.
    pub(crate) notified: Receiver<Notified>,
    /// Zone files that this server has written.
    pub(crate) written: Receiver<PathBuf>,
}

/// End of a wait.
enum Event {
    Order,
    /// No configuration has the source any more.
    Gone,
    Time,
}

/// The reader of a source.
enum Reader {
    Hosts(Box<HostsReader>),
    Zones(Box<ZonesReader>),
}

impl Reader {
    /// Performs the first load. `None`: the snapshot made from the configuration alone stays.
    fn look_first(&mut self) -> Result<Option<Contents>, String> {
        match self {
            Self::Hosts(reader) => Ok(reader.look(true).map(Contents::Hosts)),
            Self::Zones(reader) => reader.look_first().map(|table| Some(Contents::Zones(table))),
        }
    }

    /// Loads a changed source. `None`: the last snapshot stays.
    fn look(&mut self, now: Moment) -> Option<Contents> {
        match self {
            Self::Hosts(reader) => reader.look(false).map(Contents::Hosts),
            Self::Zones(reader) => reader.look(now).map(Contents::Zones),
        }
    }

    /// Makes the next check of the source compare it at once.
    fn hasten(&mut self, now: Moment) {
        match self {
            Self::Hosts(_) => {}
            Self::Zones(reader) => reader.hasten(now),
        }
    }

    /// Continues after a first load that missed the starter's deadline. Uses the data that was
    /// loaded even if an error in it would have refused the configuration.
    fn go_on_late(&mut self) -> Contents {
        match self {
            Self::Hosts(reader) => Contents::Hosts(reader.table()),
            Self::Zones(reader) => {
                reader.tell_refusals();
                Contents::Zones(reader.table())
            }
        }
    }

    /// Returns the time of the next check of a source that other servers may have hastened.
    fn sooner(&self, planned: Option<Moment>) -> Option<Moment> {
        match self {
            Self::Hosts(_) => planned,
            Self::Zones(reader) => reader.next_look(),
        }
    }

    /// Returns the time of the next check, after a check at `now`. `None`: never.
    fn next_look(&self, now: Moment) -> Option<Moment> {
        match self {
            Self::Hosts(reader) => reader.interval().map(|interval| now.plus(interval)),
            Self::Zones(reader) => reader.next_look(),
        }
    }
}

impl Loader {
    /// Creates the loader of a hosts file. `number` is unique for the life of the process; the
    /// state of the loads is recorded in `load`.
    ///
    /// # Errors
    /// The kernel has no randomness.
    pub(crate) fn hosts(
        number: u64,
        source: Arc<HostsSource>,
        load: Arc<Load>,
        log: Log,
    ) -> io::Result<Self> {
        let reader = HostsReader::new(source, load, log)?;
        let current = Contents::Hosts(reader.table());
        Ok(Self::new(number, Reader::Hosts(Box::new(reader)), current))
    }

    /// Creates the loader of the zones of a server block.
    ///
    /// # Errors
    /// The kernel has no randomness.
    pub(crate) fn zones(
        number: u64,
        source: Arc<ZonesSource>,
        loads: Arc<ZoneLoads>,
        shared: (ZoneCounters, Handover),
        hearing: Hearing,
        log: Log,
    ) -> io::Result<Self> {
        let notifier = Notifier::new(&source, shared.0.notifies.clone(), log);
        let reader = ZonesReader::new(source, loads, shared, log)?;
        let checked = reader.results().unwrap_or_else(never);
        let current = Contents::Zones(reader.table());
        let own = Self::new(number, Reader::Zones(Box::new(reader)), current);
        let Hearing { notified, written } = hearing;
        Ok(Self { notifier, notified, checked, written, ..own })
    }

    fn new(number: u64, reader: Reader, current: Contents) -> Self {
        let (workers, retired) = (Vec::new(), Vec::new());
        let (clock, notifier) = (Clock::start(), None);
        let (notified, checked, written) = (never(), never(), never());
        Self {
            number,
            clock,
            reader,
            workers,
            current,
            retired,
            notifier,
            notified,
            checked,
            written,
        }
    }

    /// Loads the source, sends the snapshot to `first`, and continues with the workers named by
    /// `orders` until all senders have gone.
    pub(crate) fn run(mut self, first: &Sender<First>, orders: &Receiver<Serve>) {
        let loaded = self.reader.look_first().map(|loaded| {
            loaded.into_iter().for_each(|contents| self.current = contents);
            self.current.clone()
        });
        // The starter may have stopped waiting; then the order below has `is_late` set.
        let _ = first.try_send(loaded);
        let Ok(Serve { workers, is_late }) = orders.recv() else { return };
        self.workers = workers;
        if is_late {
            self.current = self.reader.go_on_late();
            self.hand_out();
        }
        let mut look_at = self.reader.next_look(self.clock.now());
        self.note_changes();
        loop {
            let retire_at = self.clock.now().plus(RETIRE_INTERVAL);
            let retire_at = (!self.retired.is_empty()).then_some(retire_at);
            let notify_at = self.notify();
            let until = [look_at, retire_at, notify_at].into_iter().flatten().min();
            let event = self.wait(orders, until);
            self.retired.retain(Contents::is_shared);
            let now = self.clock.now();
            match event {
                Event::Gone => return,
                Event::Order => {
                    self.reader.hasten(now);
                    look_at = Some(now);
                }
                Event::Time => look_at = self.reader.sooner(look_at),
            }
            if look_at.is_none_or(|at| at > now) || self.retired.len() >= RETIRED_MAX {
                continue;
            }
            if let Some(contents) = self.reader.look(now) {
                self.retired.push(std::mem::replace(&mut self.current, contents));
                self.hand_out();
                self.note_changes();
            }
            look_at = self.reader.next_look(self.clock.now());
        }
    }

    /// Waits for an order until `until`, and takes what other servers have said meanwhile.
    fn wait(&mut self, orders: &Receiver<Serve>, until: Option<Moment>) -> Event {
        let wait = until.map_or(WAIT_MAX, |until| until.since(self.clock.now()).min(WAIT_MAX));
        select! {
            recv(orders) -> order => order.map_or(Event::Gone, |_| Event::Order),
            recv(self.checked) -> checked => {
                if let (Ok(checked), Reader::Zones(reader)) = (checked, &mut self.reader) {
                    reader.take_checked(checked);
                }
                Event::Time
            }
            recv(self.notified) -> notified => {
                match (notified, &mut self.reader) {
                    (Ok(notified), Reader::Zones(reader)) => reader.take_notified(&notified),
                    // Workers have other sources now; the order to end follows.
                    _ => self.notified = never(),
                }
                Event::Time
            }
            recv(self.written) -> written => {
                match (written, &mut self.reader) {
                    (Ok(path), Reader::Zones(reader)) => {
                        reader.take_written(&path, self.clock.now());
                    }
                    // No configuration has the source any more; the order to end follows.
                    _ => self.written = never(),
                }
                Event::Time
            }
            default(wait) => Event::Time,
        }
    }

    /// Notes the changed zones, of which secondaries get a NOTIFY.
    fn note_changes(&mut self) {
        if let (Some(notifier), Contents::Zones(table)) = (&mut self.notifier, &self.current) {
            notifier.note(table, self.clock.now());
        }
    }

    /// Sends notifications that are due. Returns when to do that again.
    fn notify(&mut self) -> Option<Moment> {
        let notifier = self.notifier.as_mut()?;
        let now = self.clock.now();
        notifier.turn(now);
        notifier.next_turn(now)
    }

    fn hand_out(&self) {
        for worker in &self.workers {
            let contents = self.current.clone();
            worker.deliver(ToWorker::Data { source: self.number, contents });
        }
    }
}

#[cfg(test)]
mod tests;
