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
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// How long a worker may take to answer a question; it answers at its next turn.
const REPORT_PATIENCE: Duration = Duration::from_secs(1);

/// Why onward could not start.
#[derive(Debug)]
pub enum StartError {
    /// A listener's address could not be bound.
    Bind(SocketAddr, io::Error),
    /// No address is left to listen on.
    NoListener,
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
        config: &Arc<Config>,
        verdicts: &Arc<Verdicts>,
        clock: Clock,
        cores: &[Option<usize>],
        rows: Vec<Vec<Option<Listening>>>,
    ) -> Result<(), StartError> {
        for (number, (listeners, core)) in rows.into_iter().zip(cores.iter().copied()).enumerate() {
            let failed = |error| StartError::Worker(number, error);
            let keeper = self.keeper.clone();
            let (config, verdicts) = (Arc::clone(config), Arc::clone(verdicts));
            let (seat, mailbox) =
                Seat::new(number, config, verdicts, clock, listeners, keeper).map_err(failed)?;
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

/// Binds `listener` once for each worker, a socket to each of `rows`, and notes the port that the
/// kernel chose. SO_REUSEPORT would let us share the address with a program that has it already,
/// and each get half of the queries: so it is first bound alone.
fn bind(listener: &mut Listener, rows: &mut [Vec<Option<Listening>>]) -> Result<(), StartError> {
    let address = listener.address;
    let alone = match socket::udp_listener(address, false) {
        Ok(alone) => alone,
        Err(error) if listener.implied && socket::is_missing_family(&error) => {
            rows.iter_mut().for_each(|row| row.push(None));
            return Ok(());
        }
        Err(error) => return Err(StartError::Bind(address, error)),
    };
    let failed = |error| StartError::Bind(address, error);
    let address = alone.local_addr().map_err(failed)?;
    drop(socket::tcp_listener(address, false).map_err(failed)?);
    drop(alone);
    listener.address = address;
    for row in rows {
        let datagrams = socket::udp_listener(address, true).map_err(failed)?;
        let acceptor = socket::tcp_listener(address, true).map_err(failed)?;
        row.push(Some(Listening::new(datagrams, acceptor)));
    }
    Ok(())
}
