//! onward as a whole: sockets bound, threads started, counters read, everything stopped.
//!
//! [`Server::start`] either returns with every worker in its loop or with the one line that an
//! operator needs, and nothing left behind. The order is: learn that nobody else has the
//! addresses, bind a listener per worker and address, start the workers pinned, start the keeper.
//! Used by the program, the demonstration and the tests alike.

use crate::clock::Clock;
use crate::config::{Config, Listener};
use crate::control::{KeeperMailbox, Mailbox, ToKeeper, ToWorker};
use crate::engine::health::Verdicts;
use crate::engine::stats::Stats;
use crate::keeper::Keeper;
use crate::sys::{limits, socket};
use crate::worker::{Listening, Seat};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Ports that are tried where the configuration leaves the choice to the kernel.
const PORT_TRIES_MAX: u32 = 100;
/// How long a worker may take to answer a question; it answers at its next turn.
const REPORT_PATIENCE: Duration = Duration::from_secs(1);

/// Why onward could not start.
#[derive(Debug)]
pub enum StartError {
    /// A listener's address could not be bound.
    Bind(SocketAddr, io::Error),
    /// No address is left to listen on.
    NoListener,
    /// Upstreams are to be asked from an address that cannot be used.
    Source(IpAddr, io::Error),
    /// A worker could not be pinned or started.
    Worker(usize, io::Error),
    /// The keeper could not be started.
    Keeper(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(address, error) => match error.kind() {
                io::ErrorKind::AddrInUse => write!(
                    f,
                    "cannot listen on {address}: another program has it \
                     (`ss -ulnp 'sport = {}'` shows which); stop it or choose another port",
                    address.port()
                ),
                io::ErrorKind::PermissionDenied => write!(
                    f,
                    "cannot listen on {address}: no permission for ports below 1024; run as root, \
                     grant CAP_NET_BIND_SERVICE, or choose another port"
                ),
                io::ErrorKind::AddrNotAvailable => write!(
                    f,
                    "cannot listen on {address}: this host has no such address (`ip address` \
                     lists those it has)"
                ),
                _ => write!(f, "cannot listen on {address}: {error}"),
            },
            Self::NoListener => {
                write!(f, "there is no address to listen on: give a zone or a `bind` one")
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
            Self::Keeper(error) => {
                write!(f, "cannot start the keeper: {error} (are descriptors left?)")
            }
        }
    }
}

impl std::error::Error for StartError {}

/// A running forwarder.
pub struct Server {
    addresses: Vec<SocketAddr>,
    workers: Vec<Mailbox>,
    keeper: KeeperMailbox,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts forwarding as `config` says, with a worker for each of `cores`, pinned to it where
    /// it names one. `log` gets a line for whatever an operator should know.
    ///
    /// # Errors
    /// [`StartError`]; all that was started is stopped again.
    pub fn start(
        mut config: Config,
        cores: &[Option<usize>],
        log: fn(&str),
    ) -> Result<Self, StartError> {
        // Failing to raise it is no reason not to serve: pools then fail to dial, visibly.
        let _ = limits::raise_open_files();
        check_sources(&config)?;
        let count = cores.len();
        let mut rows: Vec<Vec<Option<Listening>>> = (0..count).map(|_| Vec::new()).collect();
        for listener in &mut config.listeners {
            bind(listener, &mut rows)?;
        }
        let addresses: Vec<_> = config
            .listeners
            .iter()
            .zip(rows.first().into_iter().flatten())
            .filter_map(|(listener, socket)| socket.as_ref().map(|_| listener.address))
            .collect();
        if addresses.is_empty() {
            return Err(StartError::NoListener);
        }
        let clock = Clock::start();
        let config = Arc::new(config);
        let verdicts = Arc::new(Verdicts::new(&config));
        let (keeper, mailbox) =
            Keeper::new(clock, &config, Arc::clone(&verdicts)).map_err(StartError::Keeper)?;
        let mut server =
            Self { addresses, workers: Vec::new(), keeper: mailbox, threads: Vec::new() };
        let started = server.start_workers(&config, &verdicts, clock, cores, rows);
        let workers = server.workers.clone();
        let keeping = move || keeper.run(workers, log);
        server.threads.push(spawn("keeper", keeping).map_err(StartError::Keeper)?);
        match started {
            Ok(()) => Ok(server),
            Err(error) => {
                server.stop();
                Err(error)
            }
        }
    }

    /// The addresses it listens on, with the ports that the kernel chose where none was given.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Each worker's counters, as of now. A worker that does not answer in time is left out.
    pub fn stats(&self) -> Vec<Stats> {
        let asked = self.workers.iter().map(|worker| {
            let (answer, answers) = crossbeam_channel::bounded(1);
            let _ = worker.send(ToWorker::Report(answer));
            answers
        });
        let asked: Vec<_> = asked.collect();
        asked.iter().filter_map(|answers| answers.recv_timeout(REPORT_PATIENCE).ok()).collect()
    }

    /// Reads no more queries, finishes what is outstanding for up to five seconds, and ends.
    pub fn stop(self) {
        // The keeper ends only when this has been read, so the channel is there.
        let _ = self.keeper.send(ToKeeper::Stop);
        for thread in self.threads {
            // A thread that panicked has been reported where it happened.
            let _ = thread.join();
        }
    }

    fn start_workers(
        &mut self,
        config: &Config,
        verdicts: &Arc<Verdicts>,
        clock: Clock,
        cores: &[Option<usize>],
        rows: Vec<Vec<Option<Listening>>>,
    ) -> Result<(), StartError> {
        for (number, (listeners, core)) in rows.into_iter().zip(cores.iter().copied()).enumerate() {
            let failed = |error| StartError::Worker(number, error);
            let keeper = self.keeper.clone();
            let (own, verdicts) = (config.of_worker(number, cores.len()), Arc::clone(verdicts));
            let (seat, mailbox) =
                Seat::new(number, Arc::new(own), verdicts, clock, listeners, keeper)
                    .map_err(failed)?;
            let (ready, begun) = crossbeam_channel::bounded(1);
            let working = move || seat.work(core, &ready);
            let thread = spawn(&format!("worker-{number}"), working).map_err(failed)?;
            let lost = || io::Error::other("it ended before it began");
            begun.recv().unwrap_or_else(|_| Err(lost())).map_err(failed)?;
            self.threads.push(thread);
            self.workers.push(mailbox);
        }
        Ok(())
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.to_owned()).spawn(body)
}

/// Refuses addresses to ask upstreams from that this host lacks. The reference would start and then
/// fail every query.
///
/// # Errors
/// [`StartError::Source`].
pub fn check_sources(config: &Config) -> Result<(), StartError> {
    for forward in config.blocks.iter().flat_map(|block| &block.forwards) {
        let Some(source) = forward.source_address else { continue };
        for upstream in &forward.upstreams {
            socket::check_source(upstream.address, source)
                .map_err(|error| StartError::Source(source, error))?;
        }
    }
    Ok(())
}

/// Binds `listener` once for each worker, sockets to each of `rows`, and notes the port that the
/// kernel chose if it names none.
fn bind(listener: &mut Listener, rows: &mut [Vec<Option<Listening>>]) -> Result<(), StartError> {
    let asked = listener.address;
    let mut tries = if asked.port() == 0 { PORT_TRIES_MAX } else { 1 };
    loop {
        tries -= 1;
        match bind_all(asked, rows.len()) {
            Ok((address, group)) => {
                listener.address = address;
                for (row, listening) in rows.iter_mut().zip(group) {
                    row.push(Some(listening));
                }
                return Ok(());
            }
            Err(error) if listener.implied && socket::is_missing_family(&error) => {
                rows.iter_mut().for_each(|row| row.push(None));
                return Ok(());
            }
            // The port that the kernel chose for UDP is in use for TCP: it may choose another.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
            Err(error) => return Err(StartError::Bind(asked, error)),
        }
    }
}

/// The sockets of `workers` workers on `asked`, and the address that they have.
fn bind_all(asked: SocketAddr, workers: usize) -> io::Result<(SocketAddr, Vec<Listening>)> {
    // SO_REUSEPORT would let us share the address with a program that has it already, and each get
    // half of the queries: so it is first bound alone.
    let alone = socket::udp_listener(asked, false)?;
    let address = alone.local_addr()?;
    drop(socket::tcp_listener(address, false)?);
    drop(alone);
    let both = |_| {
        let datagrams = socket::udp_listener(address, true)?;
        Ok(Listening::new(datagrams, socket::tcp_listener(address, true)?))
    };
    Ok((address, (0..workers).map(both).collect::<io::Result<_>>()?))
}
