//! What a worker has to say to the writer, and why connections to upstreams failed.
//!
//! The engine's records go into the writer's channel at the end of each turn. What finds no room is
//! lost; how much that was is told as soon as there is room again.

use super::turn::Turner;
use crate::control::ToWriter;
use crate::engine::errors::Fault;
use std::io;

/// What an error of the kernel's means to the engine.
pub(super) fn fault_of(error: &io::Error) -> Fault {
    error.raw_os_error().map_or(Fault::Unknown, Fault::System)
}

impl Turner<'_> {
    /// Hands the engine's records of errors to the writer.
    pub(super) fn report_errors(&mut self) {
        let edition = self.seat.assignment.edition;
        while let Some(error) = self.engine.next_error() {
            if !self.seat.writer.try_send(ToWriter::Failed { edition, error }) {
                self.engine.stats_mut().errors_lost += 1;
            }
        }
        let lost = self.engine.stats_mut().errors_lost;
        let untold = lost - self.errors_told;
        self.writer_busy = untold > 0 && !self.seat.writer.try_send(ToWriter::Lost(untold));
        if !self.writer_busy {
            self.errors_told = lost;
        }
    }
}
