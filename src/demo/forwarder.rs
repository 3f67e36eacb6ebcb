//! The forwarder of the demonstration: started from a Corefile, queried, stopped.
//!
//! The only part of the demonstration that knows [`Server`].

use crate::blocking::{STEP_MAX, Steps};
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::stats::Stats;
use crate::host;
use crate::log::Log;
use crate::server::Server;
use std::net::SocketAddr;

/// A running forwarder.
pub(super) struct Forwarder(Server);

impl Forwarder {
    /// Starts `workers` unpinned workers with `corefile`.
    pub(super) fn start(corefile: &str, workers: usize) -> Result<Self, String> {
        let steps = Steps::new(Clock::start(), STEP_MAX);
        let host = host::describe(workers, 0, &steps).map_err(|error| error.to_string())?;
        let (config, _) = Config::load(corefile.as_bytes(), "the demonstration", &host)
            .map_err(|error| error.to_string())?;
        let log = Log::text(|line| eprintln!("{line}"));
        let server = Server::start(config, &vec![None; workers], log);
        server.map(Self).map_err(|error| error.to_string())
    }

    /// Returns the address of the listener.
    pub(super) fn address(&self) -> SocketAddr {
        self.0.addresses()[0]
    }

    /// Returns the counters of each worker.
    pub(super) fn stats(&self) -> Vec<Stats> {
        self.0.stats()
    }

    /// Stops it and waits for its threads.
    pub(super) fn stop(self) {
        self.0.stop();
    }
}
