//! The forwarder as the demonstration sees it: started from a Corefile, asked, stopped.
//!
//! The one place that knows how the server is started.

use crate::engine::stats::Stats;
use std::net::SocketAddr;

/// A running forwarder.
pub(super) enum Forwarder {}

impl Forwarder {
    /// Starts `workers` workers, not pinned, on what `corefile` says.
    pub(super) fn start(corefile: &str, workers: usize) -> Result<Self, String> {
        let _ = (corefile, workers);
        Err("this build has no server yet".into())
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        match *self {}
    }

    /// What each worker has counted up to now.
    pub(super) fn stats(&self) -> Vec<Stats> {
        match *self {}
    }

    /// Stops it and waits for its threads.
    pub(super) fn stop(self) {
        match self {}
    }
}
