//! The loaders of all data sources, from one configuration to the next.
//!
//! A source that stays keeps its loader and its snapshot, and is checked at once. A new source is
//! loaded before any worker gets the configuration, with a limited wait: [`Loaders::plan`] starts
//! the missing loaders and changes nothing else, on a thread that may block; only
//! [`Sources::adopt`] does. The loader of a removed source ends by itself. Each source has a unique
//! number.

use super::StartError;
use super::confinement::Sandbox;
use crate::clock::Clock;
use crate::config::{Config, HostsSource, SignedSource, ZonesSource};
use crate::control::{Load, Loads, Mailbox, Supply, ZoneCounters, ZoneLoads};
use crate::engine::data::Contents;
use crate::engine::forwarder::Notified;
use crate::loader::{First, Handover, Hearing, Loader, Readers, Serve, Signer};
use crate::log::{Event, Level, Log};
use crate::sys::confine::Bounds;
use crossbeam_channel::{Receiver, Sender};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Maximum wait for the first loads of new sources, all together.
const FIRST_LOAD_MAX: Duration = Duration::from_secs(10);
/// Maximum wait if zones are among them, because their names fail until they are loaded. Less than
/// the time after which a reload is given up.
const FIRST_ZONES_MAX: Duration = Duration::from_secs(25);

/// Notifications of primaries that wait for a loader at most; workers keep further ones.
const NOTIFICATIONS_MAX: usize = 64;
/// New signed files that wait for a loader at most; the signer keeps further ones.
const WRITTEN_MAX: usize = 256;

/// A source with its loader.
#[derive(Clone)]
struct Source {
    number: u64,
    what: What,
    orders: Sender<Serve>,
    /// Notifications of primaries for the loader.
    notified: Sender<Notified>,
    /// Files that the signer has written, for the loader.
    written: Sender<PathBuf>,
}

/// The signer of the zones of a configuration.
#[derive(Clone)]
struct Signing {
    sources: Arc<[SignedSource]>,
    orders: Sender<Readers>,
}

/// Kind of a source, and the state of its loads.
#[derive(Clone)]
enum What {
    Hosts(Arc<HostsSource>, Arc<Load>),
    Zones(Arc<ZonesSource>, Arc<ZoneLoads>),
}

impl What {
    /// Returns all sources of `config`, in the order of their slots, with nothing loaded.
    fn all(config: &Config) -> Vec<Self> {
        let hosts = config
            .hosts_sources()
            .into_iter()
            .map(|source| Self::Hosts(Arc::clone(source), Arc::new(Load::new(&source.label))));
        let zones = config.zone_sources().into_iter();
        let zones = zones.map(|source| Self::Zones(Arc::clone(source), Arc::default()));
        hosts.chain(zones).collect()
    }

    /// Returns true if a loader of this source also serves for `other`: zones that are not checked
    /// for changes are read with each configuration.
    fn stays(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Hosts(one, _), Self::Hosts(other, _)) => one == other,
            (Self::Zones(one, _), Self::Zones(other, _)) => one == other && one.is_watched(),
            _ => false,
        }
    }

    fn is_zones(&self) -> bool {
        matches!(self, Self::Zones(..))
    }
}

/// All sources of the current configuration.
pub(super) struct Sources {
    loaders: Loaders,
    loads: Arc<Loads>,
}

/// The running loaders, for a thread that prepares the next configuration.
#[derive(Clone)]
pub(super) struct Loaders {
    clock: Clock,
    log: Log,
    sandbox: Sandbox,
    sources: Vec<Source>,
    /// `None`: no zone is signed.
    signing: Option<Signing>,
    /// Number of the next source.
    next: Arc<AtomicU64>,
    counters: ZoneCounters,
    /// Transferred zones, for the loaders of the next configuration.
    handover: Handover,
}

/// The sources of a configuration, in the order of their slots.
pub(super) struct Plan {
    sources: Vec<Planned>,
    signing: Option<Signing>,
}

struct Planned {
    source: Source,
    origin: Origin,
}

/// State of a planned source.
enum Origin {
    /// The loader exists.
    Kept,
    /// The loader is new and has loaded this.
    Fresh(Contents),
    /// The loader is new and has not loaded anything in time.
    Late,
}

impl Plan {
    /// Returns the data for workers, by slot.
    pub(super) fn supplies(&self) -> Vec<Supply> {
        let supply = |planned: &Planned| {
            let contents = match &planned.origin {
                Origin::Fresh(contents) => Some(contents.clone()),
                Origin::Kept | Origin::Late => None,
            };
            let Source { number, notified, .. } = &planned.source;
            Supply { source: *number, contents, notified: notified.clone() }
        };
        self.sources.iter().map(supply).collect()
    }
}

impl Sources {
    /// Creates an empty set.
    pub(super) fn new(clock: Clock, log: Log, sandbox: Sandbox) -> Self {
        let (sources, next) = (Vec::new(), Arc::default());
        let loads = Arc::<Loads>::default();
        let (counters, handover) = (loads.zone_counters().clone(), Handover::default());
        let signing = None;
        let loaders = Loaders { clock, log, sandbox, sources, signing, next, counters, handover };
        Self { loaders, loads }
    }

    /// Returns the loaders at work.
    pub(super) fn loaders(&self) -> &Loaders {
        &self.loaders
    }

    /// Returns the state of all sources.
    pub(super) fn loads(&self) -> &Arc<Loads> {
        &self.loads
    }

    /// Switches to the sources of `plan`, for workers that have received the configuration.
    pub(super) fn adopt(&mut self, plan: Plan, workers: &[Mailbox]) {
        let zones = plan.sources.iter().filter(|planned| planned.source.what.is_zones());
        let readers = zones.map(|planned| planned.source.written.clone()).collect();
        if let Some(signing) = &plan.signing {
            let _ = signing.orders.send(readers);
        }
        self.loaders.signing = plan.signing;
        let sources = &mut self.loaders.sources;
        sources.clear();
        for Planned { source, origin } in plan.sources {
            let is_late = matches!(origin, Origin::Late);
            // If the channel is full, an earlier order to check at once is still pending.
            let _ = source.orders.try_send(Serve { workers: workers.to_vec(), is_late });
            sources.push(source);
        }
        let (mut hosts, mut zones) = (Vec::new(), Vec::new());
        for source in sources {
            match &source.what {
                What::Hosts(_, load) => hosts.push(Arc::clone(load)),
                What::Zones(_, loads) => zones.push(Arc::clone(loads)),
            }
        }
        self.loads.reload(hosts, zones);
    }
}

impl Loaders {
    /// Finds the loaders of the sources that `config` names, or starts them and waits for their
    /// first loads.
    ///
    /// # Errors
    /// No thread is left, or a zone file refuses the configuration.
    pub(super) fn plan(&self, config: &Config) -> Result<Plan, StartError> {
        let mut plan = Plan { sources: Vec::new(), signing: self.plan_signing(config)? };
        let mut waiting = Vec::new();
        let mut wait = FIRST_LOAD_MAX;
        for what in What::all(config) {
            let known = self.sources.iter().find(|source| source.what.stays(&what));
            let source = match known {
                Some(source) => source.clone(),
                None => {
                    wait = if what.is_zones() { FIRST_ZONES_MAX } else { wait };
                    let (source, first) = self.start(what)?;
                    waiting.push((plan.sources.len(), first));
                    source
                }
            };
            plan.sources.push(Planned { source, origin: Origin::Kept });
        }
        let until = self.clock.instant(self.clock.now().plus(wait));
        for (slot, first) in waiting {
            let loaded = until.and_then(|until| first.recv_deadline(until).ok());
            let planned = &mut plan.sources[slot];
            if loaded.is_none() {
                self.tell_late(&planned.source.what, wait);
            }
            planned.origin = match loaded {
                Some(loaded) => Origin::Fresh(loaded.map_err(StartError::Zone)?),
                None => Origin::Late,
            };
        }
        Ok(plan)
    }

    /// Logs that a source has not been loaded in time.
    fn tell_late(&self, what: &What, wait: Duration) {
        let seconds = wait.as_secs();
        match what {
            What::Hosts(source, _) => {
                let text = format_args!(
                    "{}: not loaded within {seconds} s: queries are answered without it until it \
                     is loaded",
                    source.label
                );
                self.log.event(&Event::new(Level::Warning, "plugin/hosts", &text));
            }
            What::Zones(source, _) => {
                let Some(first) = source.files.first().map(|file| &file.label) else {
                    let directory = source.directory.as_ref();
                    let label = directory.map_or("", |found| &found.directory.label);
                    let text = format_args!(
                        "{label}: the zones of this directory were not loaded within {seconds} s: \
                         queries for them go to the next directive until they are loaded"
                    );
                    self.log.event(&Event::new(Level::Warning, "plugin/auto", &text));
                    return;
                };
                let text = format_args!(
                    "{first}: this and the other zones of its server block were not loaded within \
                     {seconds} s: their names are answered with SERVFAIL until they are loaded"
                );
                self.log.event(&Event::new(Level::Warning, "plugin/file", &text));
            }
        }
    }

    fn start(&self, what: What) -> Result<(Source, Receiver<First>), StartError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (notified, notifications) = crossbeam_channel::bounded(NOTIFICATIONS_MAX);
        let (written, files) = crossbeam_channel::bounded(WRITTEN_MAX);
        let loader = match &what {
            What::Hosts(source, load) => {
                Loader::hosts(number, Arc::clone(source), Arc::clone(load), self.log)
            }
            What::Zones(source, loads) => {
                let shared = (self.counters.clone(), self.handover.clone());
                let hearing = Hearing { notified: notifications, written: files };
                let (source, loads) = (Arc::clone(source), Arc::clone(loads));
                Loader::zones(number, source, loads, shared, hearing, self.log)
            }
        };
        let loader = loader.map_err(StartError::Loader)?;
        let (orders, mail) = crossbeam_channel::bounded(1);
        let (told, first) = crossbeam_channel::bounded(1);
        let loading = move || loader.run(&told, &mail);
        let name = format!("loader-{number}");
        self.sandbox.spawn(&name, Bounds::NoPrograms, loading).map_err(StartError::Loader)?;
        Ok((Source { number, what, orders, notified, written }, first))
    }

    /// Finds the signer of the zones that `config` signs, or starts it; it begins when it gets an
    /// order.
    fn plan_signing(&self, config: &Config) -> Result<Option<Signing>, StartError> {
        let sources: Arc<[SignedSource]> = config.signed_zones().into();
        if sources.is_empty() {
            return Ok(None);
        }
        if let Some(signing) = self.signing.as_ref().filter(|known| known.sources == sources) {
            return Ok(Some(signing.clone()));
        }
        let signer = Signer::new(&sources, self.log).map_err(StartError::Loader)?;
        let (orders, mail) = crossbeam_channel::unbounded();
        let running = move || signer.run(&mail);
        self.sandbox.spawn("signer", Bounds::NoPrograms, running).map_err(StartError::Loader)?;
        Ok(Some(Signing { sources, orders }))
    }
}
