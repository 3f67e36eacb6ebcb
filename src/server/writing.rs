//! The writer's thread as the server holds it: start, new generations, stop.
//!
//! Workers send it their records; the server publishes each generation of the configuration before
//! any worker uses it, and stops the writer last of all.

use super::REPORT_TIMEOUT;
use super::confinement::Sandbox;
use crate::clock::Clock;
use crate::config::Config;
use crate::control::WriterMailbox;
use crate::log::Log;
use crate::sys::confine::Bounds;
use crate::tls::Setup;
use crate::writer::{Generations, Writer};
use crossbeam_channel::{Receiver, Sender};
use std::io;
use std::sync::Arc;

/// Senders to the writer.
pub(super) struct Writing {
    pub(super) mailbox: WriterMailbox,
    /// Disconnected when the writer ends.
    ended: Receiver<()>,
    pub(super) generations: Arc<Generations>,
    /// Generation of the current configuration.
    pub(super) generation: u32,
}

impl Writing {
    /// Starts a writer with the sink of `log`.
    pub(super) fn start(
        clock: Clock,
        (config, tls): (&Config, Arc<Setup>),
        log: Log,
        sandbox: Sandbox,
    ) -> io::Result<Self> {
        let generations = Arc::<Generations>::default();
        generations.publish(0, Arc::new(config.clone()), tls);
        let (writer, mailbox) = Writer::new(clock, Arc::clone(&generations), log);
        let (ending, ended) = crossbeam_channel::bounded(0);
        let writing = move || {
            let _ending: Sender<()> = ending;
            writer.run();
        };
        sandbox.spawn("writer", Bounds::NoPrograms, writing)?;
        Ok(Self { mailbox, ended, generations, generation: 0 })
    }

    /// Stops the writer, which may take a moment: no other thread sends to it any more. If its
    /// output is blocked because the reader has stopped reading, the thread is abandoned.
    pub(super) fn stop(self) {
        drop(self.mailbox);
        let _ = self.ended.recv_timeout(REPORT_TIMEOUT);
    }
}
