//! The loaders of all sources of data, from one configuration to the next.
//!
//! A source that stays keeps its loader and what that has loaded. A new one is loaded before any
//! worker is told of it, and waited for, though not for ever: [`Loaders::plan`] starts what is
//! missing and changes nothing else, on a thread that may block; only [`Sources::adopt`] does. A
//! loader whose source is gone ends by itself. Each source has a number that no other ever had.

use super::StartError;
use super::confinement::Sandbox;
use crate::clock::Clock;
use crate::config::{Config, HostsSource};
use crate::control::{Load, Loads, Mailbox, Supply};
use crate::engine::hosts::Table;
use crate::loader::{Loader, Serve};
use crate::log::{Event, Level, Log};
use crate::sys::confine::Bounds;
use crossbeam_channel::{Receiver, Sender};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Maximum wait for the first loads of new sources, all together.
const FIRST_LOAD_MAX: Duration = Duration::from_secs(10);

/// A source with its loader.
#[derive(Clone)]
struct Source {
    number: u64,
    hosts: Arc<HostsSource>,
    load: Arc<Load>,
    orders: Sender<Serve>,
}

/// All sources of the configuration that holds.
pub(super) struct Sources {
    loaders: Loaders,
    loads: Arc<Loads>,
}

/// The loaders at work, for a thread that prepares the next configuration.
#[derive(Clone)]
pub(super) struct Loaders {
    clock: Clock,
    log: Log,
    sandbox: Sandbox,
    sources: Vec<Source>,
    /// Number of the next source.
    next: Arc<AtomicU64>,
}

/// The sources of a configuration, in the order of their slots.
pub(super) struct Plan {
    sources: Vec<Planned>,
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
    Fresh(Arc<Table>),
    /// The loader is new and has not loaded anything in time.
    Late,
}

impl Plan {
    /// Returns the data for workers, by slot.
    pub(super) fn supplies(&self) -> Vec<Supply> {
        let supply = |planned: &Planned| {
            let table = match &planned.origin {
                Origin::Fresh(table) => Some(Arc::clone(table)),
                Origin::Kept | Origin::Late => None,
            };
            Supply { source: planned.source.number, table }
        };
        self.sources.iter().map(supply).collect()
    }
}

impl Sources {
    /// None yet.
    pub(super) fn new(clock: Clock, log: Log, sandbox: Sandbox) -> Self {
        let (sources, next) = (Vec::new(), Arc::default());
        let loaders = Loaders { clock, log, sandbox, sources, next };
        Self { loaders, loads: Arc::default() }
    }

    /// Returns the loaders at work.
    pub(super) fn loaders(&self) -> &Loaders {
        &self.loaders
    }

    /// Returns the state of all sources.
    pub(super) fn loads(&self) -> &Arc<Loads> {
        &self.loads
    }

    /// Goes on with the sources of `plan`, for workers who have been told of them.
    pub(super) fn adopt(&mut self, plan: Plan, workers: &[Mailbox]) {
        let sources = &mut self.loaders.sources;
        sources.clear();
        for Planned { source, origin } in plan.sources {
            let is_late = matches!(origin, Origin::Late);
            if !matches!(origin, Origin::Kept) {
                // Its first and only order: there is room.
                let _ = source.orders.try_send(Serve { workers: workers.to_vec(), is_late });
            }
            sources.push(source);
        }
        let loads = sources.iter().map(|source| Arc::clone(&source.load));
        self.loads.reload(loads.collect());
    }
}

impl Loaders {
    /// Finds the loaders of the sources that `config` names, or starts them and waits for what
    /// they load first.
    ///
    /// # Errors
    /// No thread is left.
    pub(super) fn plan(&self, config: &Config) -> Result<Plan, StartError> {
        let mut plan = Plan { sources: Vec::new() };
        let mut waiting = Vec::new();
        for hosts in config.hosts_sources() {
            let known = self.sources.iter().find(|source| source.hosts == *hosts);
            let source = match known {
                Some(source) => source.clone(),
                None => {
                    let (source, first) = self.start(hosts)?;
                    waiting.push((plan.sources.len(), first));
                    source
                }
            };
            plan.sources.push(Planned { source, origin: Origin::Kept });
        }
        let until = self.clock.instant(self.clock.now().plus(FIRST_LOAD_MAX));
        for (slot, first) in waiting {
            let table = until.and_then(|until| first.recv_deadline(until).ok());
            let planned = &mut plan.sources[slot];
            if table.is_none() {
                let text = format_args!(
                    "{}: not loaded within {} s: queries are answered without it until it is \
                     loaded",
                    planned.source.load.label,
                    FIRST_LOAD_MAX.as_secs()
                );
                self.log.event(&Event::new(Level::Warning, "plugin/hosts", &text));
            }
            planned.origin = table.map_or(Origin::Late, Origin::Fresh);
        }
        Ok(plan)
    }

    fn start(
        &self,
        hosts: &Arc<HostsSource>,
    ) -> Result<(Source, Receiver<Arc<Table>>), StartError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let load = Arc::new(Load::new(&hosts.label));
        let loader = Loader::new(number, Arc::clone(hosts), Arc::clone(&load), self.log);
        let loader = loader.map_err(StartError::Loader)?;
        let (orders, mail) = crossbeam_channel::bounded(1);
        let (told, first) = crossbeam_channel::bounded(1);
        let loading = move || loader.run(&told, &mail);
        let name = format!("loader-{number}");
        self.sandbox.spawn(&name, Bounds::NoPrograms, loading).map_err(StartError::Loader)?;
        Ok((Source { number, hosts: Arc::clone(hosts), load, orders }, first))
    }
}
