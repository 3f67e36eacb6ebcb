//! The writer's thread as the server holds it: started, told of generations, stopped.
//!
//! Workers send it the records to write; the server publishes each generation of the configuration
//! before any worker goes by it, and waits for the writer's end last of all.

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
    /// Ends with the writer.
    ended: Receiver<()>,
    pub(super) generations: Arc<Generations>,
    /// Of the configuration that holds.
    pub(super) generation: u32,
}

impl Writing {
    /// Starts a writer of what `log` takes.
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

    /// Has the writer end, which may take a moment: no other thread sends to it any more. If the
    /// thread that reads what it writes has stopped reading, it is left where it is.
    pub(super) fn stop(self) {
        drop(self.mailbox);
        let _ = self.ended.recv_timeout(REPORT_TIMEOUT);
    }
}
