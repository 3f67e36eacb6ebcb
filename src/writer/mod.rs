//! The writer: the thread that formats and writes what is said of queries.
//!
//! Workers hand it records over one bounded channel and never wait for it: what finds no room is
//! lost there and counted, and told in a line as soon as the channel is empty again. It sleeps
//! until a record comes, and by the clock only while a sum is pending (`consolidation`). It ends
//! with the last who could send it anything, and what is pending then is written before.
//!
//! Records name server blocks by number, so each says of which edition of the configuration. The
//! writer learns of an edition when the first of its records comes, and keeps the one before, whose
//! last records may still be on their way and whose sums end in their own time.

mod consolidation;
mod errors;

use crate::clock::Clock;
use crate::config::Config;
use crate::control::{ToWriter, WriterMailbox};
use crate::engine::errors::QueryError;
use crate::moment::Moment;
use consolidation::Consolidations;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use errors::Line;
use std::collections::VecDeque;
use std::fmt::{Display, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Records that wait at most. At 300 bytes each, more would be megabytes for a log that is written
/// too slowly anyway.
const RECORDS_MAX: usize = 4_096;
/// Records whose lines are written at once.
const BATCH_MAX: usize = 64;
/// Editions of the configuration that are known: the present one and the one before.
const EDITIONS_MAX: usize = 2;

/// The configurations that records may be of. The first thread puts them in, the writer looks.
#[derive(Debug, Default)]
pub struct Editions(Mutex<VecDeque<(u32, Arc<Config>)>>);

impl Editions {
    /// From now on there is this one, too. Before any worker goes by it.
    pub fn publish(&self, edition: u32, config: Arc<Config>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.push_back((edition, config));
        let surplus = known.len().saturating_sub(EDITIONS_MAX);
        known.drain(..surplus);
    }

    fn get(&self, edition: u32) -> Option<Arc<Config>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|known| known.0 == edition).map(|known| Arc::clone(&known.1))
    }
}

/// What is said of the server blocks of one edition.
struct Ledger {
    edition: u32,
    config: Arc<Config>,
    /// Lines at the lowest level are written.
    debug: bool,
    /// Of each server block.
    blocks: Vec<Consolidations>,
}

impl Ledger {
    fn new(edition: u32, config: Arc<Config>) -> Self {
        let stages = || config.blocks.iter().map(|block| &block.stages);
        let rules = stages().map(|stages| stages.errors.as_ref());
        let blocks = rules.map(|errors| errors.map_or(&[][..], |errors| &errors.consolidate));
        let blocks = blocks.map(Consolidations::new).collect();
        let debug = stages().any(|stages| stages.debug);
        Self { edition, config, debug, blocks }
    }
}

/// The writer's state.
pub struct Writer {
    clock: Clock,
    mail: Receiver<ToWriter>,
    editions: Arc<Editions>,
    log: fn(&str),
    /// The oldest first.
    ledgers: VecDeque<Ledger>,
    /// Lines that are not written yet.
    lines: String,
    /// Records that were lost and not told about.
    lost: u64,
}

impl Writer {
    /// A writer of what `log` takes, one line or several at a time, and where to put its messages.
    pub fn new(clock: Clock, editions: Arc<Editions>, log: fn(&str)) -> (Self, WriterMailbox) {
        let (mailbox, mail) = WriterMailbox::new(RECORDS_MAX);
        let (ledgers, lines) = (VecDeque::new(), String::new());
        (Self { clock, mail, editions, log, ledgers, lines, lost: 0 }, mailbox)
    }

    /// Writes until nobody is left who could send anything.
    pub fn run(mut self) {
        while self.turn() {}
        self.sum_up(Moment::FOREVER);
        self.tell_losses();
        self.flush();
    }

    /// Waits for something to do, and does it; false when nobody is left.
    fn turn(&mut self) -> bool {
        let first = self.wait();
        let now = self.clock.now();
        if let Ok(first) = &first {
            self.take(now, first);
            for _ in 1..BATCH_MAX {
                let Ok(message) = self.mail.try_recv() else { break };
                self.take(now, &message);
            }
        }
        self.sum_up(now);
        if self.mail.is_empty() {
            self.tell_losses();
        }
        self.flush();
        !matches!(first, Err(RecvTimeoutError::Disconnected))
    }

    /// The next message, or that a sum is due.
    fn wait(&self) -> Result<ToWriter, RecvTimeoutError> {
        let blocks = self.ledgers.iter().flat_map(|ledger| &ledger.blocks);
        let due = blocks.filter_map(Consolidations::next_deadline).min();
        match due.and_then(|due| self.clock.instant(due)) {
            Some(until) => self.mail.recv_deadline(until),
            None => self.mail.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn take(&mut self, now: Moment, message: &ToWriter) {
        match message {
            ToWriter::Lost(count) => self.lost += count,
            ToWriter::Failed { edition, error } => match self.ledger(*edition) {
                Some(place) => self.take_error(now, place, error),
                // Only a worker that missed a whole edition is so late.
                None => self.lost += 1,
            },
        }
    }

    /// Where the ledger of `edition` is, begun if there is none.
    fn ledger(&mut self, edition: u32) -> Option<usize> {
        let known = self.ledgers.iter().position(|ledger| ledger.edition == edition);
        if known.is_some() {
            return known;
        }
        let config = self.editions.get(edition)?;
        if self.ledgers.len() == EDITIONS_MAX {
            self.close_oldest();
        }
        let place = self.ledgers.iter().position(|ledger| ledger.edition > edition);
        let place = place.unwrap_or(self.ledgers.len());
        self.ledgers.insert(place, Ledger::new(edition, config));
        Some(place)
    }

    /// Nothing more is expected of the oldest edition: what it has pending is written.
    fn close_oldest(&mut self) {
        let rest = self.ledgers.split_off(1);
        self.sum_up(Moment::FOREVER);
        self.ledgers = rest;
    }

    fn take_error(&mut self, now: Moment, place: usize, error: &QueryError) {
        let ledger = &mut self.ledgers[place];
        let text = errors::text(error, &ledger.config);
        let Some(rules) = ledger.blocks.get_mut(error.block as usize) else { return };
        if let Some(level) = rules.take(now, &text) {
            add_line(&mut self.lines, ledger.debug, level, &Line { error, text: &text });
        }
    }

    /// Writes the sums that are due by `now`.
    fn sum_up(&mut self, now: Moment) {
        for ledger in &mut self.ledgers {
            for rules in &mut ledger.blocks {
                while let Some(sum) = rules.pop(now) {
                    add_line(&mut self.lines, ledger.debug, sum.level(), &sum);
                }
            }
        }
    }

    fn tell_losses(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            let text = format_args!("errors not told: {lost} (the log is written too slowly)");
            add_line(&mut self.lines, false, "warning", &text);
        }
    }

    /// Hands all lines out.
    fn flush(&mut self) {
        if !self.lines.is_empty() {
            (self.log)(self.lines.trim_end_matches('\n'));
            self.lines.clear();
        }
    }
}

/// Adds a line at `level`, which at the lowest is for who asked for it.
fn add_line(lines: &mut String, debug: bool, level: &str, text: &dyn Display) {
    if level != "debug" || debug {
        let level = level.to_ascii_uppercase();
        let _ = writeln!(lines, "[{level}] plugin/errors: {text}");
    }
}

#[cfg(test)]
mod tests;
