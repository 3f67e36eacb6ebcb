//! onward as a whole: sockets bound, threads started, counters read, everything stopped.
//!
//! [`Server::start`] either returns with every worker in its loop or with the one line that an
//! operator needs, and nothing left behind. The order is: learn that nobody else has the
//! addresses, bind a listener per worker and address, start the workers pinned, start the keeper.
//! Used by the program, the demonstration and the tests alike.

mod confinement;
mod listeners;
mod pages;
mod sources;
mod steering;

pub use confinement::Confinement;
pub use steering::Steer;

use crate::clock::Clock;
use crate::config::{Blame, Config, Page};
use crate::control::snapshot::Snapshot;
use crate::control::{
    Assignment, KeeperMailbox, Mailbox, Reloads, Remains, Renewal, Sockets, ToKeeper, ToWorker,
    WriterMailbox,
};
use crate::engine::forwarder::Prepared;
use crate::engine::health::Verdicts;
use crate::engine::stats::Stats;
use crate::keeper::Keeper;
use crate::log::Log;
use crate::sys::confine::Bounds;
use crate::sys::inherit::{Inherited, Passed};
use crate::sys::{limits, random, socket};
use crate::tls::{Entry, Setup, SetupError};
use crate::worker::{Habits, Seat};
use crate::writer::{Editions, Writer};
use confinement::Sandbox;
use crossbeam_channel::{Receiver, Sender};
use listeners::{Listeners, Plan};
use pages::Pages;
use sources::Sources;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use steering::Steering;

/// How long a worker may take to answer a question; it answers at its next turn.
const REPORT_PATIENCE: Duration = Duration::from_secs(1);

/// Why onward could not start.
#[derive(Debug)]
pub enum StartError {
    /// A listener's address could not be bound.
    Bind(SocketAddr, io::Error),
    /// It cannot be told which worker gets what arrives at a listener's address.
    Steer(SocketAddr, io::Error),
    /// The configuration names no address to listen on.
    NoListener,
    /// The host has neither of the families of the addresses that no `bind` narrows.
    NoFamily,
    /// A listener's address is served in the other way, over TLS or in the clear, by the sockets
    /// that are there.
    Scheme(SocketAddr),
    /// Certificates or keys cannot be put to work.
    Tls(SetupError),
    /// Upstreams are to be asked from an address that cannot be used.
    Source(IpAddr, io::Error),
    /// No descriptor is left for the listeners.
    Descriptors(io::Error),
    /// The process could not become the account of this name.
    Account(String, io::Error),
    /// A worker could not be pinned or started.
    Worker(usize, io::Error),
    /// The keeper could not be started.
    Keeper(io::Error),
    /// A loader could not be started.
    Loader(io::Error),
    /// The writer could not be started.
    Writer(io::Error),
    /// The admin could not be started.
    Admin(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(address, error) => write_bind(f, *address, error),
            Self::Steer(address, error) if error.kind() == io::ErrorKind::OutOfMemory => write!(
                f,
                "cannot steer what arrives at {address}: net.core.optmem_max is too small (20480 \
                 is enough); raise it or choose --steer flow"
            ),
            Self::Steer(address, error) => write!(
                f,
                "cannot steer what arrives at {address}: {error} (a socket of a service manager \
                 needs ReusePort=yes); choose --steer flow"
            ),
            Self::Scheme(address) => write!(
                f,
                "cannot change between TLS and none on {address} while it is served: restart, or \
                 use another port"
            ),
            Self::Tls(error) => error.fmt(f),
            Self::NoListener => {
                write!(f, "there is no address to listen on: give a zone or a `bind` one")
            }
            Self::NoFamily => {
                write!(f, "there is no address to listen on: this host has neither IPv4 nor IPv6")
            }
            Self::Source(source, error) => match error.kind() {
                io::ErrorKind::AddrNotAvailable => write!(
                    f,
                    "cannot ask upstreams from source_address {source}: this host has no such \
                     address (`ip address` lists those it has); correct it or remove the option"
                ),
                _ => write!(f, "cannot ask upstreams from source_address {source}: {error}"),
            },
            Self::Worker(number, error) => write!(
                f,
                "cannot start worker {number}: {error} (is its core online and allowed, are \
                 descriptors left?)"
            ),
            Self::Account(name, error) if error.kind() == io::ErrorKind::PermissionDenied => {
                write!(f, "--user {name}: only root can become another: {error}")
            }
            Self::Account(name, error) => write!(f, "--user {name}: {error}"),
            Self::Descriptors(error) => {
                write!(f, "cannot listen: {error} (raise the limit of open files)")
            }
            Self::Keeper(error) => {
                write!(f, "cannot start the keeper: {error} (are descriptors left?)")
            }
            Self::Loader(error) => write!(f, "cannot start a loader of data: {error}"),
            Self::Writer(error) => write!(f, "cannot start the writer: {error}"),
            Self::Admin(error) => {
                write!(f, "cannot start the admin: {error} (are descriptors left?)")
            }
        }
    }
}

/// Writes why `address` could not be bound.
fn write_bind(f: &mut fmt::Formatter<'_>, address: SocketAddr, error: &io::Error) -> fmt::Result {
    match error.kind() {
        io::ErrorKind::AddrInUse => write!(
            f,
            "cannot listen on {address}: another program has it \
             (`ss -tulnp 'sport = {}'` shows which); stop it or choose another port",
            address.port()
        ),
        io::ErrorKind::PermissionDenied => write!(
            f,
            "cannot listen on {address}: no permission for ports below 1024; run as root, \
             grant CAP_NET_BIND_SERVICE, or choose another port"
        ),
        io::ErrorKind::AddrNotAvailable => write!(
            f,
            "cannot listen on {address}: this host has no such address (`ip address` lists those \
             it has)"
        ),
        _ => write!(f, "cannot listen on {address}: {error}"),
    }
}

impl std::error::Error for StartError {}

impl StartError {
    /// What has to change: the host, unless the text leaves no address to listen on.
    pub fn blame(&self) -> Blame {
        match self {
            Self::NoListener => Blame::Text,
            _ => Blame::Host,
        }
    }
}

/// A running forwarder.
pub struct Server {
    clock: Clock,
    listeners: Listeners,
    workers: Vec<Mailbox>,
    keeper: KeeperMailbox,
    threads: Vec<JoinHandle<()>>,
    reloads: Arc<Reloads>,
    /// What workers still hand back after the last reload.
    remains: Receiver<Remains>,
    writing: Writing,
    pages: Pages,
    sources: Sources,
    /// Certificates and keys of the configuration that holds.
    tls: Arc<Setup>,
    sandbox: Sandbox,
}

/// What the writer is told, and by whom.
struct Writing {
    mailbox: WriterMailbox,
    /// Ends with the writer.
    ended: Receiver<()>,
    editions: Arc<Editions>,
    /// Of the configuration that holds.
    edition: u32,
}

impl Writing {
    /// Starts a writer of what `log` takes.
    fn start(
        clock: Clock,
        (config, tls): (&Config, Arc<Setup>),
        log: Log,
        sandbox: Sandbox,
    ) -> io::Result<Self> {
        let editions = Arc::<Editions>::default();
        editions.publish(0, Arc::new(config.clone()), tls);
        let (writer, mailbox) = Writer::new(clock, Arc::clone(&editions), log);
        let (ending, ended) = crossbeam_channel::bounded(0);
        let writing = move || {
            let _ending: Sender<()> = ending;
            writer.run();
        };
        sandbox.spawn("writer", Bounds::NoPrograms, writing)?;
        Ok(Self { mailbox, ended, editions, edition: 0 })
    }

    /// Has the writer end, which may take a moment: nobody else speaks to it any more. If whoever
    /// reads what it writes has stopped reading, it is left where it is.
    fn stop(self) {
        drop(self.mailbox);
        let _ = self.ended.recv_timeout(REPORT_PATIENCE);
    }
}

impl Server {
    /// Starts forwarding as `config` says, with a worker for each of `cores`, pinned to it where
    /// it names one. `log` gets whatever an operator should know.
    ///
    /// # Errors
    /// [`StartError`]; all that was started is stopped again.
    pub fn start(config: Config, cores: &[Option<usize>], log: Log) -> Result<Self, StartError> {
        let (inherited, confinement) = (Inherited::default(), Confinement::default());
        let (steer, habits) = (Steer::Flow, Habits::default());
        Self::start_on(config, cores, steer, habits, inherited, &confinement, log)
    }

    /// The same, datagrams given to the workers as `steer` says, and on sockets that were open
    /// before this process began, where the configuration has listeners on their addresses; what
    /// `confinement` forbids is forbidden from the first packet on.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_on(
        mut config: Config,
        cores: &[Option<usize>],
        steer: Steer,
        habits: Habits,
        mut inherited: Inherited,
        confinement: &Confinement,
        log: Log,
    ) -> Result<Self, StartError> {
        // Failing to raise it is no reason not to serve: pools then fail to dial, visibly.
        let _ = limits::raise_open_files();
        check_sources(&config)?;
        let tls = Arc::new(Setup::new(&config, None).map_err(StartError::Tls)?);
        let clock = Clock::start();
        let pages = Pages::new(log);
        let page_plan = pages.plan(&config, &mut inherited.acceptors)?;
        let steering = Steering::new(steer, cores);
        let mut listeners = Listeners::new(cores.len(), steering, inherited);
        let mut plan = listeners.plan(clock.now(), &mut config.listeners)?;
        let rows = listeners.adopt(clock.now(), &mut plan).map_err(StartError::Descriptors)?;
        // All that needs root is bound, and no other thread is there yet.
        confinement.become_account()?;
        let sandbox = confinement.sandbox(log);
        let sources = Sources::new(clock, log);
        let data = sources.plan(&config, sandbox)?;
        let verdicts = Arc::new(Verdicts::new(&config));
        let (keeper, mailbox) =
            Keeper::new(clock, &config, Arc::clone(&verdicts), &tls).map_err(StartError::Keeper)?;
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
            sandbox,
        };
        let started = server.start_workers(&config, &verdicts, (&plan, &data), cores, habits, rows);
        server.sources.adopt(data, &server.workers);
        let started = started.and_then(|()| server.start_admin(&page_plan));
        server.pages.adopt(page_plan, &Arc::new(config), &verdicts);
        let workers = server.workers.clone();
        let keeping = move || keeper.run(workers, log);
        let keeper = sandbox.spawn("keeper", Bounds::Packets, keeping);
        server.threads.push(keeper.map_err(StartError::Keeper)?);
        match started {
            Ok(()) => Ok(server),
            Err(error) => {
                server.stop();
                Err(error)
            }
        }
    }

    /// The certificates in the files of the configuration that holds.
    pub fn certificates(&self) -> &[Entry] {
        self.tls.certificates()
    }

    /// Goes on as `config` says, from each worker's next turn on. Listeners of unchanged addresses
    /// and connections to unchanged upstreams stay, and no query is lost.
    ///
    /// # Errors
    /// [`StartError`], of an address that cannot be bound or a source that cannot be used; nothing
    /// has changed then.
    pub fn reload(&mut self, mut config: Config) -> Result<(), StartError> {
        check_sources(&config)?;
        let seed = random::seed().map_err(|error| StartError::Worker(0, error))?;
        let tls = Arc::new(Setup::new(&config, Some(&self.tls)).map_err(StartError::Tls)?);
        let now = self.clock.now();
        let pages = self.pages.plan(&config, &mut Vec::new())?;
        let mut plan = self.listeners.plan(now, &mut config.listeners)?;
        let data = self.sources.plan(&config, self.sandbox)?;
        self.start_admin(&pages)?;
        let rows = self.listeners.adopt(now, &mut plan).map_err(StartError::Descriptors)?;
        let verdicts = Arc::new(Verdicts::new(&config));
        let config = Arc::new(config);
        let (done, when_done) = crossbeam_channel::bounded(1);
        let renewal = ToKeeper::Renew {
            config: Arc::clone(&config),
            verdicts: Arc::clone(&verdicts),
            tls: Arc::clone(&tls),
            done,
        };
        // What is known of the upstreams is carried over before anybody asks for it.
        if self.keeper.send(renewal).is_ok() {
            let _ = when_done.recv_timeout(REPORT_PATIENCE);
        }
        let edition = self.writing.edition + 1;
        self.writing.editions.publish(edition, Arc::clone(&config), Arc::clone(&tls));
        self.writing.edition = edition;
        let (done, remains) = crossbeam_channel::bounded(self.workers.len());
        // All are built before the first worker is told, so that they change over together.
        let renewals = rows.into_iter().enumerate().map(|(number, sockets)| {
            let assignment = Assignment {
                edition,
                config: Arc::new(config.of_worker(number, self.workers.len())),
                verdicts: Arc::clone(&verdicts),
                tls: Arc::clone(&tls),
                listeners: plan.listeners.clone(),
                data: data.supplies(),
            };
            let Assignment { config, verdicts, listeners, .. } = &assignment;
            let prepared = Prepared::new(config, listeners, Arc::clone(verdicts), seed);
            Renewal { assignment, prepared: Box::new(prepared), sockets, done: done.clone() }
        });
        let renewals: Vec<_> = renewals.collect();
        for (worker, renewal) in self.workers.iter().zip(renewals) {
            worker.deliver(ToWorker::Renew(Box::new(renewal)));
        }
        for _ in &self.workers {
            // What holds no longer is freed here and not by the worker.
            let _ = remains.recv_timeout(REPORT_PATIENCE);
        }
        self.sources.adopt(data, &self.workers);
        self.remains = remains;
        self.pages.adopt(pages, &config, &verdicts);
        self.tls = tls;
        Ok(())
    }

    /// How often it was told to go on with another configuration; who tells it counts.
    pub fn reloads(&self) -> &Arc<Reloads> {
        &self.reloads
    }

    /// How soon [`Server::on_time`] has something to do.
    pub fn due(&self) -> Option<Duration> {
        self.listeners.due().map(|due| due.since(self.clock.now()))
    }

    /// Closes what a configuration has left behind and nobody needs any more.
    pub fn on_time(&mut self) {
        self.listeners.close_gone(self.clock.now());
    }

    /// The addresses it listens on, with the ports that the kernel chose where none was given.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.addresses().collect()
    }

    /// The addresses that pages are served on over HTTP, and which.
    pub fn pages(&self) -> impl Iterator<Item = (SocketAddr, &[Page])> {
        self.pages.list()
    }

    /// It is going to be stopped, though everything is served for a while yet: who asks whether it
    /// is ready is told no.
    pub fn announce_stop(&self) {
        self.pages.announce_stop();
    }

    /// Whether every worker still turns: each answers within a second.
    pub fn is_alive(&self) -> bool {
        self.stats().len() == self.workers.len()
    }

    /// Each worker's counters, as of now. A worker that does not answer in time is left out.
    pub fn stats(&self) -> Vec<Stats> {
        self.snapshots().into_iter().map(|snapshot| snapshot.stats).collect()
    }

    /// The same, with all else that a worker tells of itself.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let asked = self.workers.iter().map(|worker| {
            let (answer, answers) = crossbeam_channel::bounded(1);
            let _ = worker.send(ToWorker::Report { to: answer, forget: false });
            answers
        });
        let asked: Vec<_> = asked.collect();
        let answer = |answers: &Receiver<Box<Snapshot>>| answers.recv_timeout(REPORT_PATIENCE);
        asked.iter().filter_map(|answers| answer(answers).ok()).map(|boxed| *boxed).collect()
    }

    /// Copies of all sockets that it listens on, for a process that takes over.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn pass_sockets(&self) -> io::Result<Passed> {
        let mut passed = Passed::default();
        self.listeners.pass(&mut passed)?;
        self.pages.pass(&mut passed)?;
        Ok(passed)
    }

    /// Has datagrams given to the workers as at the start, whatever a process that got our sockets
    /// has changed.
    pub fn steer(&self) {
        self.listeners.steer();
    }

    /// Reads no more queries, finishes what is outstanding for up to five seconds, writes what is
    /// still to be logged, and ends.
    pub fn stop(self) {
        // From now on another process that has these sockets answers alone.
        self.pages.stop();
        // The keeper ends only when this has been read, so the channel is there.
        let _ = self.keeper.send(ToKeeper::Stop);
        for thread in self.threads {
            // A thread that panicked has been reported where it happened.
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
        verdicts: &Arc<Verdicts>,
        (plan, data): (&Plan, &sources::Plan),
        cores: &[Option<usize>],
        habits: Habits,
        rows: Vec<Vec<Sockets>>,
    ) -> Result<(), StartError> {
        for (number, (sockets, core)) in rows.into_iter().zip(cores.iter().copied()).enumerate() {
            let failed = |error| StartError::Worker(number, error);
            let keeper = self.keeper.clone();
            let assignment = Assignment {
                edition: self.writing.edition,
                config: Arc::new(config.of_worker(number, cores.len())),
                verdicts: Arc::clone(verdicts),
                tls: Arc::clone(&self.tls),
                listeners: plan.listeners.clone(),
                data: data.supplies(),
            };
            let writer = self.writing.mailbox.clone();
            let (seat, mailbox) =
                Seat::new(number, assignment, sockets, self.clock, keeper, writer)
                    .map_err(failed)?;
            let (ready, begun) = crossbeam_channel::bounded(1);
            let working = move || seat.work(core, habits, &ready);
            let name = format!("worker-{number}");
            let thread = self.sandbox.spawn(&name, Bounds::Packets, working).map_err(failed)?;
            let lost = || io::Error::other("it ended before it began");
            begun.recv().unwrap_or_else(|_| Err(lost())).map_err(failed)?;
            self.threads.push(thread);
            self.workers.push(mailbox);
        }
        Ok(())
    }
}

/// Refuses addresses to ask upstreams from that this host lacks. The reference would start and then
/// fail every query.
///
/// # Errors
/// [`StartError::Source`].
pub fn check_sources(config: &Config) -> Result<(), StartError> {
    for forward in config.forwards() {
        let Some(source) = forward.source_address else { continue };
        for upstream in &forward.upstreams {
            socket::check_source(upstream.address, source)
                .map_err(|error| StartError::Source(source, error))?;
        }
    }
    Ok(())
}
