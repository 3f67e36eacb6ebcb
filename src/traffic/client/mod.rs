//! The client: sends queries as planned, checks every answer, and counts the outcome of each query.
//!
//! [`run`] starts one thread for each core, each with its own sockets, its own part of the schedule
//! and of the workload, and its own counts, which are added up at the end: threads share only a
//! stop flag and copies of the counts, ten times a second. `driver` is the loop of one thread,
//! [`link`] a socket, `pace` the wait for the next send time.

mod driver;
pub mod link;
mod pace;

use crate::clock::Clock;
use crate::config::ClientTls;
use crate::moment::Moment;
use crate::sys::cpu;
use crate::tls::Client;
use crate::traffic::ledger::SLOTS_MAX;
use crate::traffic::schedule::{Plan, Schedule};
use crate::traffic::tally::{Counts, Tally};
use crate::traffic::verify::Verify;
use crate::traffic::workload::{Source, Workload};
use driver::Driver;
use link::Transport;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Time before the run begins, so that all threads have been started by then.
const HEAD_START: Duration = Duration::from_millis(20);
/// Number of intervals that a run is divided into: a dot for each few pixels of the report's plots.
const STRETCHES: u32 = 200;
/// Minimum length of an interval, because percentiles of fewer answers are meaningless.
const STRETCH_MIN: Duration = Duration::from_millis(50);
/// Length of an interval when the duration of the run is unknown.
const STRETCH_DEFAULT: Duration = Duration::from_secs(1);

/// Times of the queries.
#[derive(Clone, Debug)]
pub enum Load {
    /// On a schedule, independent of responses.
    Open(Plan),
    /// At the times in the capture, accelerated by this factor.
    Replay(f64),
    /// As soon as fewer than this number are outstanding.
    Closed {
        /// Outstanding queries on all sockets of all threads together.
        outstanding: usize,
        /// Duration of the run.
        duration: Option<Duration>,
    },
}

/// TLS to servers.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Verification of their certificates.
    pub settings: Arc<ClientTls>,
    /// Earlier sessions are not resumed.
    pub forgetful: bool,
}

/// TLS client of each server: all sockets of a thread to one server share it.
#[derive(Default)]
struct Known(Vec<(SocketAddr, Client)>);

impl Known {
    fn of(&mut self, tls: &Tls, target: SocketAddr) -> io::Result<Client> {
        if let Some((_, client)) = self.0.iter().find(|(known, _)| *known == target) {
            return Ok(client.clone());
        }
        let client = Client::to(target, &tls.settings).map_err(io::Error::other)?;
        let client = if tls.forgetful { client.forgetful() } else { client };
        self.0.push((target, client.clone()));
        Ok(client)
    }
}

/// Options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Server addresses. Sockets use them in turn.
    pub targets: Vec<SocketAddr>,
    /// Number of sockets of all threads together, at least one for each.
    pub sockets: usize,
    /// Source addresses, used by the sockets in turn. Empty: the kernel chooses.
    pub sources: Vec<IpAddr>,
    /// Datagrams or connections.
    pub transport: Transport,
    /// Connections go through TLS.
    pub tls: Option<Tls>,
    /// Connections carry DNS over HTTPS: over TLS, or HTTP/2 by prior knowledge without it.
    pub doh: bool,
    /// Times of the queries.
    pub load: Load,
    /// Source of queries.
    pub source: Source,
    /// Number of queries after which the run is over.
    pub limit: Option<u64>,
    /// Each query has random letter case.
    pub random_case: bool,
    /// Time after which a query is given up.
    pub timeout: Duration,
    /// Verification of answers.
    pub verify: Verify,
    /// Seed of names, types, send times and IDs.
    pub seed: u64,
    /// One thread for each of these cores; empty: `threads` of them on any core.
    pub cores: Vec<usize>,
    /// Number of threads, if no cores are given.
    pub threads: usize,
    /// Time of busy-waiting before a send time, instead of sleeping.
    pub spin: Duration,
    /// Length of the intervals of the report; `None`: chosen to fit a page.
    pub stretch: Option<Duration>,
    /// Maximum length of a UDP response.
    pub(crate) response_length_max: usize,
}

impl Options {
    /// Sends to `targets` at an even rate on 16 sockets from one thread.
    pub fn new(targets: Vec<SocketAddr>, source: Source, load: Load, seed: u64) -> Self {
        Self {
            targets,
            sockets: 16,
            sources: Vec::new(),
            transport: Transport::Datagrams,
            tls: None,
            doh: false,
            load,
            source,
            limit: None,
            random_case: false,
            timeout: Duration::from_secs(5),
            verify: Verify::No,
            seed,
            cores: Vec::new(),
            threads: 1,
            spin: Duration::from_micros(100),
            stretch: None,
            response_length_max: 4096,
        }
    }

    /// Queries `targets` for names that were never queried before, with `outstanding` queries at
    /// once for `duration`, and verifies each answer as derived from its name.
    pub fn closed(
        targets: Vec<SocketAddr>,
        outstanding: usize,
        duration: Duration,
        seed: u64,
    ) -> Self {
        let load = Load::Closed { outstanding, duration: Some(duration) };
        let mut options = Self::new(targets, Source::unique(), load, seed);
        options.sockets = options.sockets.min(outstanding);
        options.random_case = true;
        options.verify = Verify::Derived;
        options
    }

    /// Returns the number of threads.
    fn parts(&self) -> usize {
        if self.cores.is_empty() { self.threads.max(1) } else { self.cores.len() }
    }

    /// Returns the time during which queries are sent, if it is known beforehand.
    pub(crate) fn length(&self) -> Option<Duration> {
        let by_count =
            |rate: f64| self.limit.map(|limit| Duration::from_secs_f64(limit as f64 / rate));
        match (&self.load, &self.source) {
            (Load::Open(plan), _) => {
                let ends = [plan.end(), by_count(plan.rate_max()).filter(|_| plan.is_constant())];
                ends.into_iter().flatten().min()
            }
            (Load::Closed { duration, .. }, _) => *duration,
            (Load::Replay(speed), Source::File(recorded)) => {
                let last = recorded.len().saturating_sub(1);
                Some(recorded.origin(last).1.div_f64(*speed))
            }
            (Load::Replay(_), Source::Made { .. }) => None,
        }
    }

    /// Refuses impossible options, before anything is started.
    fn check(&self) -> io::Result<()> {
        let invalid = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        if self.targets.is_empty() || self.sockets < self.parts() {
            return invalid("at least one server and one socket per thread are needed".into());
        }
        if let Load::Closed { outstanding, .. } = self.load {
            if outstanding < self.parts() {
                return invalid("at least one outstanding query per thread is needed".into());
            }
            if outstanding.div_ceil(self.sockets) > SLOTS_MAX {
                let text = "outstanding queries per socket; use more sockets";
                return invalid(format!("at most {SLOTS_MAX} {text}"));
            }
        }
        if let Load::Open(plan) = &self.load
            && let Some(fault) = plan.fault()
        {
            return invalid(fault.into());
        }
        let known = cpu::cores();
        match self.cores.iter().find(|core| !known.contains(core)) {
            Some(core) => invalid(format!("this process may not run on core {core}")),
            None => Ok(()),
        }
    }
}

/// Send times of a thread's queries, from the start of the run.
enum Instants {
    Planned(Box<Schedule>),
    /// Send times of the capture, for the queries with the workload's numbers.
    Recorded {
        speed: f64,
    },
    /// As soon as possible.
    AtOnce,
}

/// Signal to end a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Halt {
    /// Not yet.
    No = 0,
    /// Send no more, wait for outstanding queries.
    Sending = 1,
    /// At once.
    Waiting = 2,
}

/// State that threads and their owner share.
#[derive(Default)]
struct Shared {
    halt: AtomicU8,
    live: Mutex<Vec<Counts>>,
}

impl Shared {
    fn halt(&self) -> Halt {
        match self.halt.load(Ordering::Acquire) {
            0 => Halt::No,
            1 => Halt::Sending,
            _ => Halt::Waiting,
        }
    }

    /// Publishes the counts of part `part`.
    fn show(&self, part: usize, counts: &Counts) {
        let mut live = self.live.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        live[part] = *counts;
    }
}

/// A run in progress. If it is dropped, it continues to its end unobserved.
pub struct Run {
    clock: Clock,
    start: Moment,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<io::Result<Tally>>>,
}

/// Opens the sockets and starts to send.
///
/// # Errors
/// `InvalidInput`: an option is impossible. Otherwise there is no route to a server, or no
/// descriptor, port or thread is left.
pub fn run(options: &Options) -> io::Result<Run> {
    options.check()?;
    let parts = options.parts();
    let shared = Arc::new(Shared {
        halt: AtomicU8::new(0),
        live: Mutex::new(vec![Counts::default(); parts]),
    });
    let clock = Clock::start();
    let start = clock.now().plus(HEAD_START);
    let mut threads = Vec::with_capacity(parts);
    for part in 0..parts {
        let options = options.clone();
        let shared = Arc::clone(&shared);
        // Sockets are opened here, so that their errors are reported before anything is sent.
        let driver = Driver::new(&options, part, clock, start)?;
        let core = options.cores.get(part).copied();
        let thread = thread::Builder::new().name(format!("client {part}")).spawn(move || {
            core.map_or(Ok(()), cpu::pin)?;
            driver.run(|counts| shared.show(part, counts), || shared.halt())
        })?;
        threads.push(thread);
    }
    Ok(Run { clock, start, shared, threads })
}

impl Run {
    /// Returns the time since the scheduled start.
    pub fn elapsed(&self) -> Duration {
        self.clock.now().since(self.start)
    }

    /// Returns the counters so far.
    pub fn counts(&self) -> Counts {
        let live = self.shared.live.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut sum = Counts::default();
        live.iter().for_each(|counts| sum += counts);
        sum
    }

    /// Returns true if all threads have ended.
    pub fn is_over(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Stops sending; outstanding queries are still waited for. A second call ends that wait, too.
    pub fn stop(&self) {
        let more = |halt: u8| Some((halt + 1).min(Halt::Waiting as u8));
        let _ = self.shared.halt.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// A thread could not be pinned to its core, or polling failed.
    pub fn join(self) -> io::Result<Tally> {
        let mut sum: Option<Tally> = None;
        for thread in self.threads {
            let panicked = |_| Err(io::Error::other("a client thread panicked"));
            let tally = thread.join().unwrap_or_else(panicked)?;
            match &mut sum {
                Some(sum) => sum.absorb(&tally),
                None => sum = Some(tally),
            }
        }
        sum.ok_or_else(|| io::Error::other("there was no thread"))
    }
}

impl Options {
    fn workload(&self, part: usize) -> Workload {
        let (source, seed) = (self.source.clone(), self.seed);
        let passes = match (&self.load, &self.source) {
            // A capture is replayed once.
            (Load::Replay(_), Source::File(recorded)) => Some(recorded.len() as u64),
            _ => None,
        };
        let limit = [self.limit, passes].into_iter().flatten().min();
        Workload::new(source, seed, part, self.parts(), limit, self.random_case)
    }

    /// Creates the send times of one part.
    fn instants(&self, part: usize) -> Instants {
        match &self.load {
            Load::Open(plan) => {
                let mut plan = plan.clone();
                // This makes a Poisson schedule exactly as long as the workload.
                plan.duration = self.length();
                Instants::Planned(Box::new(Schedule::new(plan, self.seed, part, self.parts())))
            }
            Load::Replay(speed) => Instants::Recorded { speed: *speed },
            Load::Closed { .. } => Instants::AtOnce,
        }
    }

    /// Creates empty counters.
    fn tally(&self) -> Tally {
        let length = self.length();
        let width = self.stretch.unwrap_or_else(|| {
            length.map_or(STRETCH_DEFAULT, |length| (length / STRETCHES).max(STRETCH_MIN))
        });
        Tally::new(width, length.unwrap_or_default())
    }
}
