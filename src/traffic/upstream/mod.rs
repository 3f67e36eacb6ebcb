//! The scripted upstream: a fast server with scripted faults.
//!
//! The upstream answers over UDP and TCP, plain or with TLS and HTTPS on connections, on any number
//! of addresses, with the answers that [`crate::traffic::answer`] derives from the name, so that
//! the client can check them; and it delays, loses, truncates, refuses and forges by a [`script`].
//! It counts the sources of queries ([`sources`]): their ports and the distribution of their IDs,
//! which make a resolver hard to spoof. `serve` is the event loop of a thread, `peers` its
//! connections, `delayed` the delayed responses, `forge` the wrong ones.

mod delayed;
mod desk;
mod endpoint;
mod forge;
pub mod live;
mod peers;
mod quic;
pub mod script;
mod serve;
pub mod sources;

use crate::clock::Clock;
use crate::sys::{cpu, socket};
use crate::tls;
use crate::traffic::answer::Behaviour;
use crossbeam_channel::Sender;
use endpoint::Binding;
use script::Script;
use serve::Server;
use sources::Sources;
use std::io;
use std::net::SocketAddr;
use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// Maximum of attempts to choose a port that is free for both UDP and TCP.
const PORT_TRIES_MAX: usize = 32;
/// Capacity for requests for counters; a further request waits.
const REQUESTS_MAX: usize = 4;

/// One address to serve.
#[derive(Clone, Debug)]
pub struct Service {
    /// Address to listen on; port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// Behaviour.
    pub script: Arc<Script>,
}

impl Service {
    /// Creates a service with the same behaviour for all queries.
    pub fn new(address: SocketAddr, behaviour: Behaviour) -> Self {
        Self { address, script: Arc::new(behaviour.into()) }
    }
}

/// Options of an upstream.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Addresses to serve.
    pub services: Vec<Service>,
    /// One thread for each of these cores; empty: one on any core.
    pub cores: Vec<usize>,
    /// Seed of faults and delays.
    pub seed: u64,
    /// Connections go through TLS or, with a server for QUIC, datagrams carry that.
    pub tls: Option<tls::Server>,
    /// Connections carry DNS over HTTPS: over TLS, or without encryption.
    pub doh: bool,
}

/// Counters of one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Datagrams received, and messages on connections.
    pub queries: u64,
    /// Messages that could not be answered: responses, malformed, or not queries.
    pub unanswerable: u64,
    /// Responses handed to the kernel, forged ones included.
    pub responses: u64,
    /// Responses that the kernel did not take, or beyond the maximum of waiting ones.
    pub dropped: u64,
    /// Queries that the script left unanswered.
    pub silenced: u64,
    /// Responses that the script spoiled.
    pub spoiled: u64,
    /// Forged responses sent ahead of right ones.
    pub spoofed: u64,
    /// Connections accepted.
    pub connections: u64,
}

impl AddAssign<&Self> for Counts {
    fn add_assign(&mut self, other: &Self) {
        self.queries += other.queries;
        self.unanswerable += other.unanswerable;
        self.responses += other.responses;
        self.dropped += other.dropped;
        self.silenced += other.silenced;
        self.spoiled += other.spoiled;
        self.spoofed += other.spoofed;
        self.connections += other.connections;
    }
}

/// Counters of one address, and the sources of its queries.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Address.
    pub address: SocketAddr,
    /// Counters.
    pub counts: Counts,
    /// Sources of queries.
    pub sources: Sources,
}

/// A running upstream. Dropping it stops it.
pub struct Upstream {
    addresses: Vec<SocketAddr>,
    stopping: Arc<AtomicBool>,
    wakers: Vec<mio::Waker>,
    requests: Vec<Sender<Sender<()>>>,
    live: Vec<Arc<[live::Live]>>,
    threads: Vec<JoinHandle<io::Result<Vec<Seen>>>>,
}

impl Upstream {
    /// Serves `services` from one thread.
    ///
    /// # Errors
    /// As [`Upstream::start`].
    pub fn of(services: Vec<Service>) -> io::Result<Self> {
        Self::start(&Options { services, ..Options::default() })
    }

    /// Binds all sockets and starts to serve them.
    ///
    /// # Errors
    /// An address cannot be bound, a core does not exist, or no descriptor or thread is left.
    pub fn start(options: &Options) -> io::Result<Self> {
        let known = cpu::cores();
        if let Some(core) = options.cores.iter().find(|core| !known.contains(core)) {
            let text = format!("this process may not run on core {core}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let parts = options.cores.len().max(1);
        let clock = Clock::start();
        let asked = options.services.iter().map(|service| service.address);
        let mut addresses: Vec<SocketAddr> = asked.collect();
        let mut upstream = Self {
            addresses: Vec::new(),
            stopping: Arc::default(),
            wakers: Vec::new(),
            requests: Vec::new(),
            live: Vec::new(),
            threads: Vec::new(),
        };
        for part in 0..parts {
            let bindings = addresses.iter().map(|&address| bind(address, parts > 1));
            let bindings = bindings.collect::<io::Result<Vec<_>>>()?;
            // All threads use the ports that the kernel has chosen for the first one.
            addresses = bindings.iter().map(|binding| binding.address).collect();
            upstream.spawn(options, part, bindings, clock)?;
        }
        upstream.addresses = addresses;
        Ok(upstream)
    }

    fn spawn(
        &mut self,
        options: &Options,
        part: usize,
        bindings: Vec<Binding>,
        clock: Clock,
    ) -> io::Result<()> {
        let seed = options.seed.wrapping_add(part as u64);
        let (sender, requests) = crossbeam_channel::bounded(REQUESTS_MAX);
        let server = Server::new(bindings, options, seed, clock, requests)?;
        self.requests.push(sender);
        self.wakers.push(server.waker()?);
        self.live.push(server.live());
        let core = options.cores.get(part).copied();
        let stopping = Arc::clone(&self.stopping);
        let thread = thread::Builder::new().name(format!("upstream {part}")).spawn(move || {
            core.map_or(Ok(()), cpu::pin)?;
            server.run(|| stopping.load(Ordering::Acquire))
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// Returns the addresses of its listeners, in the order of the services.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns the current counters of each address, in the order of the services.
    pub fn so_far(&self) -> Vec<live::SoFar> {
        live::sum(&self.live)
    }

    /// Returns the counters of each address, in the order of the services, after all datagrams that
    /// have arrived are answered.
    ///
    /// # Errors
    /// A thread has ended: it could not be pinned to its core, or polling failed.
    pub fn counts(&self) -> io::Result<Vec<live::SoFar>> {
        let ended = || io::Error::other("an upstream thread has ended");
        for (request, waker) in self.requests.iter().zip(&self.wakers) {
            let (sender, done) = crossbeam_channel::bounded(1);
            request.send(sender).map_err(|_| ended())?;
            waker.wake()?;
            done.recv().map_err(|_| ended())?;
        }
        Ok(self.so_far())
    }

    /// Stops after all queries that have arrived are answered; returns the counters and sources of
    /// each address, in the order of the services.
    ///
    /// # Errors
    /// A thread could not be pinned to its core, or polling failed.
    pub fn stop(mut self) -> io::Result<Vec<Seen>> {
        self.finish()
    }

    fn finish(&mut self) -> io::Result<Vec<Seen>> {
        self.stopping.store(true, Ordering::Release);
        for waker in &self.wakers {
            waker.wake()?;
        }
        let mut sum: Option<Vec<Seen>> = None;
        for thread in self.threads.drain(..) {
            let panicked = |_| Err(io::Error::other("an upstream thread panicked"));
            let seen = thread.join().unwrap_or_else(panicked)?;
            let Some(sum) = &mut sum else {
                sum = Some(seen);
                continue;
            };
            for (mine, theirs) in sum.iter_mut().zip(seen) {
                mine.counts += &theirs.counts;
                mine.sources.absorb(&theirs.sources);
            }
        }
        Ok(sum.unwrap_or_default())
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // Callers that need the outcome call `stop`.
        let _ = self.finish();
    }
}

/// Binds sockets of both transports on `asked`, with one port.
fn bind(asked: SocketAddr, shared: bool) -> io::Result<Binding> {
    let mut tries = if asked.port() == 0 { PORT_TRIES_MAX } else { 1 };
    loop {
        tries -= 1;
        let datagrams = socket::udp_listener(asked, shared)?;
        let address = datagrams.local_addr()?;
        match socket::tcp_listener(address, shared) {
            Ok(acceptor) => {
                let acceptor = mio::net::TcpListener::from_std(acceptor);
                return Ok(Binding { address, datagrams, acceptor });
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
            Err(error) => return Err(error),
        }
    }
}
