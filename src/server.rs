//! onward as a whole: sockets bound, threads started, counters read, everything stopped.
//!
//! [`Server::start`] either returns with every worker in its event loop or with a one-line error
//! for the operator, after everything was closed again. The order is: check that no other process
//! has the addresses, bind a listener per worker and address, start the pinned workers, start the
//! keeper. Used by the program, the demonstration and the tests alike.

mod confinement;
mod error;
mod listeners;
mod pages;
mod prepared;
mod sources;
mod steering;
mod writing;

pub use confinement::Confinement;
pub use error::StartError;
pub(crate) use prepared::Before;
pub use prepared::Prepared;
pub use steering::Steer;

use crate::blocking::{STEP_MAX, Steps};
use crate::clock::Clock;
use crate::config::{Config, Endpoint};
use crate::control::snapshot::Snapshot;
use crate::control::{
    Assignment, KeeperMailbox, Mailbox, Reload, Reloads, Remains, Sockets, ToKeeper, ToWorker,
    TransferMailbox,
};
use crate::engine::cache::SharedCaches;
use crate::engine::forwarder::Parts;
use crate::engine::health::HealthStates;
use crate::engine::stats::Stats;
use crate::keeper::Keeper;
use crate::log::Log;
use crate::quic::Keys;
use crate::sys::confine::Bounds;
use crate::sys::inherit::{Inherited, Passed, SECRET_LEN};
use crate::sys::{limits, random};
use crate::tls::{Entry, Setup};
use crate::transfers;
use crate::warm::handover::{Heir, Sender};
use crate::worker::{IoOptions, WorkerSlot};
use confinement::Sandbox;
use crossbeam_channel::Receiver;
use listeners::{Listeners, Plan};
use pages::Pages;
use sources::Sources;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use steering::Steering;
use writing::Writing;

/// Maximum time for a worker's report, which it sends in its next turn.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// A running forwarder.
pub struct Server {
    clock: Clock,
    listeners: Listeners,
    workers: Vec<Mailbox>,
    keeper: KeeperMailbox,
    threads: Vec<JoinHandle<()>>,
    reloads: Arc<Reloads>,
    /// Data that workers return after a reload.
    remains: Receiver<Remains>,
    writing: Writing,
    pages: Pages,
    sources: Sources,
    /// Certificates and keys of the current configuration.
    tls: Arc<Setup>,
    /// Caches of the current configuration.
    caches: SharedCaches,
    /// Secret of the process, for the process that takes over.
    secret: [u8; SECRET_LEN],
    /// Keys for clients over QUIC, made of the secret.
    quic: Arc<Keys>,
    sandbox: Sandbox,
    log: Log,
}

impl Server {
    /// Starts forwarding as `config` says, with a worker for each of `cores`, pinned if a core is
    /// given. `log` receives messages for the operator.
    ///
    /// # Errors
    /// [`StartError`]; all that was started is stopped again.
    pub fn start(config: Config, cores: &[Option<usize>], log: Log) -> Result<Self, StartError> {
        let (inherited, confinement) = (Inherited::default(), Confinement::default());
        let (steer, io_options) = (Steer::Flow, IoOptions::default());
        let prepared = Prepared::new(config, None, &Steps::new(Clock::start(), STEP_MAX))?;
        Self::start_on(prepared, cores, steer, io_options, inherited, &confinement, log)
    }

    /// As [`Server::start`], with datagrams distributed to the workers as `steer` says, on
    /// inherited sockets where the configuration has listeners on their addresses, and confined by
    /// `confinement` from the first packet on.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_on(
        prepared: Prepared,
        cores: &[Option<usize>],
        steer: Steer,
        io_options: IoOptions,
        mut inherited: Inherited,
        confinement: &Confinement,
        log: Log,
    ) -> Result<Self, StartError> {
        // If the limit cannot be raised, onward still serves: pools then fail to connect, visibly.
        let _ = limits::raise_open_files();
        let Prepared { mut config, tls, .. } = prepared;
        let clock = Clock::start();
        let heritage = inherited.heritage.take();
        let secret = inherited.secret.map_or_else(random::seed, Ok);
        let secret = secret.map_err(|error| StartError::Worker(0, error))?;
        let pages = Pages::new(log);
        let page_plan = pages.plan(&config, &mut inherited.acceptors)?;
        let caches = random::seed().and_then(|seed| SharedCaches::seeded(&config, seed));
        let caches = caches.map_err(StartError::Caches)?;
        // Before there are sockets for which the kernel queues queries until workers read them.
        let heir = heritage.and_then(|from| Heir::receive(from, clock, &caches, log));
        let steering = Steering::new(steer, cores);
        let mut listeners = Listeners::new(cores.len(), steering, inherited);
        let mut plan = listeners.plan(clock.now(), &mut config.listeners)?;
        plan.warn_of_unused(log);
        let rows = listeners.adopt(clock.now(), &mut plan, &config.listeners);
        let rows = rows.map_err(StartError::Descriptors)?;
        // All privileged sockets are bound, and no other thread has been started.
        confinement.become_account()?;
        let sandbox = confinement.sandbox(log);
        let sources = Sources::new(clock, log, sandbox);
        let data = sources.loaders().plan(&config)?;
        let health_states = Arc::new(HealthStates::new(&config));
        health_states.agree_on_secret(secret);
        let (keeper, mailbox) = Keeper::new(clock, &config, Arc::clone(&health_states), &tls)
            .map_err(StartError::Keeper)?;
        let writing = Writing::start(clock, (&config, Arc::clone(&tls)), log, sandbox);
        let writing = writing.map_err(StartError::Writer)?;
        let mut server = Self {
            clock,
            listeners,
            workers: Vec::new(),
            keeper: mailbox,
            threads: Vec::new(),
            reloads: Arc::default(),
            remains: crossbeam_channel::never(),
            writing,
            pages,
            sources,
            tls,
            caches,
            secret,
            quic: Arc::new(Keys::new(&secret, cores.len())),
            sandbox,
            log,
        };
        let started =
            server.start_workers(&config, &health_states, (&plan, &data), cores, io_options, rows);
        server.sources.adopt(data, &server.workers);
        let started = started.and_then(|()| server.start_admin(&page_plan));
        server.pages.adopt(page_plan, &Arc::new(config), &health_states);
        let workers = server.workers.clone();
        let keeping = move || keeper.run(workers, log);
        let keeper = sandbox.spawn("keeper", Bounds::Packets, keeping);
        server.threads.push(keeper.map_err(StartError::Keeper)?);
        if let Some(heir) = heir {
            // It ends soon after the previous process, and the stop need not wait for it.
            let _ = sandbox.spawn("heir", Bounds::NoPrograms, || heir.wait_for_changes());
        }
        match started {
            Ok(()) => Ok(server),
            Err(error) => {
                server.stop();
                Err(error)
            }
        }
    }

    /// The certificates in the files of the current configuration.
    pub(crate) fn certificates(&self) -> &[Entry] {
        self.tls.certificates()
    }

    /// Prepares `config` and switches to it ([`Server::apply`]).
    ///
    /// # Errors
    /// [`StartError`]; nothing has changed then.
    pub fn reload(&mut self, config: Config) -> Result<(), StartError> {
        let steps = Steps::new(self.clock, STEP_MAX);
        self.apply(Prepared::new(config, Some(&self.before()), &steps)?)
    }

    /// Switches to `prepared`, from each worker's next turn on. Listeners of unchanged addresses
    /// and connections to unchanged upstreams stay, and no query is lost.
    ///
    /// # Errors
    /// [`StartError`] for an address that cannot be bound; nothing has changed then.
    pub(crate) fn apply(&mut self, prepared: Prepared) -> Result<(), StartError> {
        let Prepared { mut config, tls, data } = prepared;
        let caches = self.caches.renewed(&config).map_err(StartError::Caches)?;
        let now = self.clock.now();
        let pages = self.pages.plan(&config, &mut Vec::new())?;
        let mut plan = self.listeners.plan(now, &mut config.listeners)?;
        let data = data.map_or_else(|| self.sources.loaders().plan(&config), Ok)?;
        self.start_admin(&pages)?;
        let rows = self.listeners.adopt(now, &mut plan, &config.listeners);
        let rows = rows.map_err(StartError::Descriptors)?;
        let health_states = Arc::new(HealthStates::new(&config));
        health_states.agree_on_secret(self.secret);
        let config = Arc::new(config);
        let (done, when_done) = crossbeam_channel::bounded(1);
        let reload = ToKeeper::Reload {
            config: Arc::clone(&config),
            health_states: Arc::clone(&health_states),
            tls: Arc::clone(&tls),
            done,
        };
        // The state of the upstreams is carried over before it is read.
        if self.keeper.send(reload).is_ok() {
            let _ = when_done.recv_timeout(REPORT_TIMEOUT);
        }
        let generation = self.writing.generation + 1;
        self.writing.generations.publish(generation, Arc::clone(&config), Arc::clone(&tls));
        self.writing.generation = generation;
        let (done, remains) = crossbeam_channel::bounded(self.workers.len());
        // All are built before the first worker gets one, so that they switch at the same time.
        let reloads = rows.into_iter().enumerate().map(|(number, sockets)| {
            let assignment = Assignment {
                generation,
                config: Arc::new(config.of_worker(number, self.workers.len())),
                health_states: Arc::clone(&health_states),
                caches: caches.clone(),
                tls: Arc::clone(&tls),
                listeners: plan.listeners.clone(),
                data: data.supplies(),
                quic: Arc::clone(&self.quic),
            };
            let Assignment { config, health_states, listeners, .. } = &assignment;
            let parts = Parts::new(config, listeners, Arc::clone(health_states), &caches);
            Reload { assignment, parts: Box::new(parts), sockets, done: done.clone() }
        });
        let reloads: Vec<_> = reloads.collect();
        for (worker, reload) in self.workers.iter().zip(reloads) {
            worker.deliver(ToWorker::Reload(Box::new(reload)));
        }
        for _ in &self.workers {
            // Replaced data are freed here and not by the worker.
            let _ = remains.recv_timeout(REPORT_TIMEOUT);
        }
        self.sources.adopt(data, &self.workers);
        self.remains = remains;
        self.pages.adopt(pages, &config, &health_states);
        (self.tls, self.caches) = (tls, caches);
        Ok(())
    }

    /// Returns the parts that the next configuration is prepared from.
    pub(crate) fn before(&self) -> Before {
        Before { tls: Arc::clone(&self.tls), loaders: self.sources.loaders().clone() }
    }

    /// Returns the counters of reloads, which the caller of reloads increments.
    pub(crate) fn reloads(&self) -> &Arc<Reloads> {
        &self.reloads
    }

    /// Returns the time until the next call of [`Server::on_time`].
    pub(crate) fn due(&self) -> Option<Duration> {
        self.listeners.due().map(|due| due.since(self.clock.now()))
    }

    /// Closes sockets of removed listeners whose last replies have been sent.
    pub(crate) fn on_time(&mut self) {
        self.listeners.close_gone(self.clock.now());
    }

    /// Returns the addresses that it listens on, with the ports that the kernel chose.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.addresses().collect()
    }

    /// Returns the addresses of the HTTP listeners with their endpoints.
    pub fn pages(&self) -> impl Iterator<Item = (SocketAddr, &[Endpoint])> {
        self.pages.list()
    }

    /// Announces the stop while queries are still served: `/ready` answers 503 from now on.
    pub fn announce_stop(&self) {
        self.pages.announce_stop();
    }

    /// Returns true if every worker answers within a second.
    pub(crate) fn is_alive(&self) -> bool {
        self.stats().len() == self.workers.len()
    }

    /// Returns each worker's counters, as of now. A worker that does not answer in time is left
    /// out.
    pub fn stats(&self) -> Vec<Stats> {
        self.snapshots().into_iter().map(|snapshot| snapshot.stats).collect()
    }

    /// Returns the report of each worker. A worker that does not answer in time is left out.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let asked = self.workers.iter().map(|worker| {
            let (answer, answers) = crossbeam_channel::bounded(1);
            let _ = worker.send(ToWorker::Report { to: answer, forget: false });
            answers
        });
        let asked: Vec<_> = asked.collect();
        // One deadline for all workers, because the service manager waits for the answer.
        let until = self.clock.now().plus(REPORT_TIMEOUT);
        let answer =
            |answers: &Receiver<Box<Snapshot>>| answers.recv_timeout(until.since(self.clock.now()));
        asked.iter().filter_map(|answers| answer(answers).ok()).map(|boxed| *boxed).collect()
    }

    /// Duplicates all listening sockets for a process that takes over.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(crate) fn pass_sockets(&self) -> io::Result<Passed> {
        let mut passed = Passed::default();
        self.listeners.pass(&mut passed)?;
        self.pages.pass(&mut passed)?;
        Ok(passed)
    }

    /// Returns the caches, for the process that takes over.
    pub(crate) fn sender(&self) -> Sender {
        Sender::new(self.clock, &self.caches)
    }

    /// Returns the secret of the process, for the process that takes over.
    pub(crate) fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// Attaches the steering programs again, in case a process that inherited the sockets has
    /// changed them.
    pub(crate) fn steer(&self) {
        self.listeners.steer();
    }

    /// Reads no more queries, finishes outstanding queries for up to five seconds, writes the
    /// pending log records, and ends.
    pub fn stop(self) {
        // From now on only another process that has these sockets answers.
        self.pages.stop();
        // The keeper ends only after it has read this, so the channel is still open.
        let _ = self.keeper.send(ToKeeper::Stop);
        for thread in self.threads {
            // The panic of a thread has been reported where it happened.
            let _ = thread.join();
        }
        self.writing.stop();
    }

    fn start_admin(&mut self, plan: &pages::Plan) -> Result<(), StartError> {
        let (workers, known) = (&self.workers, (&self.reloads, self.sources.loads()));
        let thread = self.pages.start_admin(plan, self.clock, self.sandbox, workers, known);
        self.threads.extend(thread.map_err(StartError::Admin)?);
        Ok(())
    }

    fn start_workers(
        &mut self,
        config: &Config,
        health_states: &Arc<HealthStates>,
        (plan, data): (&Plan, &sources::Plan),
        cores: &[Option<usize>],
        io_options: IoOptions,
        rows: Vec<Vec<Sockets>>,
    ) -> Result<(), StartError> {
        let (transfers, orders) = TransferMailbox::new();
        let (clock, log, loads) = (self.clock, self.log, Arc::clone(self.sources.loads()));
        let transferring = move || transfers::run(&orders, clock, log, &loads);
        let thread = self.sandbox.spawn("transfers", Bounds::NoPrograms, transferring);
        self.threads.push(thread.map_err(StartError::Transfers)?);
        for (number, (sockets, core)) in rows.into_iter().zip(cores.iter().copied()).enumerate() {
            let failed = |error| StartError::Worker(number, error);
            let keeper = self.keeper.clone();
            let assignment = Assignment {
                generation: self.writing.generation,
                config: Arc::new(config.of_worker(number, cores.len())),
                health_states: Arc::clone(health_states),
                caches: self.caches.clone(),
                tls: Arc::clone(&self.tls),
                listeners: plan.listeners.clone(),
                data: data.supplies(),
                quic: Arc::clone(&self.quic),
            };
            let writing = (self.writing.mailbox.clone(), transfers.clone());
            let (slot, mailbox) =
                WorkerSlot::new(number, assignment, sockets, self.clock, keeper, writing)
                    .map_err(failed)?;
            let (ready, begun) = crossbeam_channel::bounded(1);
            let working = move || slot.work(core, io_options, &ready);
            let name = format!("worker-{number}");
            let thread = self.sandbox.spawn(&name, Bounds::Packets, working).map_err(failed)?;
            let lost = || io::Error::other("the thread ended at start");
            begun.recv().unwrap_or_else(|_| Err(lost())).map_err(failed)?;
            self.threads.push(thread);
            self.workers.push(mailbox);
        }
        Ok(())
    }
}
