//! The writer: the thread that formats and writes messages about queries.
//!
//! Workers send it errors and whole pages of their journals over one bounded channel and never wait
//! for it: records that find it full are dropped and counted, and the count is logged as soon as
//! the channel is empty again. Pending records are written together. The thread sleeps until a
//! record comes, and has a deadline only while a sum is pending (`consolidation`). It ends with the
//! last sender, after it has written everything pending.
//!
//! Records name server blocks by number, so each has the generation of its configuration. The
//! writer loads a generation when its first record comes, and keeps the one before, because its
//! last records may still be in the channel and its sums end at their own times.

mod consolidation;
mod errors;
mod fields;
mod interfaces;
mod lines;
mod tap;

use crate::clock::Clock;
use crate::config::Config;
use crate::control::{ToWriter, WriterMailbox};
use crate::engine::errors::QueryError;
use crate::engine::journal::{self, Page};
use crate::log::{Event, Format, Level, Log, Value};
use crate::moment::Moment;
use crate::tls::Setup;
use consolidation::Consolidations;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use errors::Line;
use interfaces::Interfaces;
use lines::Pattern;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tap::{Outlet, Sink};

/// Capacity of the channel. At 300 bytes each, more would be megabytes for a log that is written
/// too slowly anyway.
const RECORDS_MAX: usize = 4_096;
/// Maximum number of records whose lines are written at once.
const BATCH_MAX: usize = 64;
/// Maximum length of lines that are written at once, exceeded by at most a page.
const LINES_LEN_MAX: usize = 256 * 1024;
/// Minimum interval between two lines about dropped messages of `dnstap`.
const DROPS_EVERY: Duration = Duration::from_secs(10);
/// Maximum time for receivers of `dnstap` to take the remaining messages, all together.
const LEAVE: Duration = Duration::from_millis(700);
/// Source of log lines about errors.
const ERRORS: &str = "plugin/errors";
/// Maximum number of generations in memory: the current one and the one before.
const GENERATIONS_MAX: usize = 2;

/// A generation of the configuration, and its TLS.
#[derive(Clone, Debug)]
struct Generation {
    number: u32,
    config: Arc<Config>,
    tls: Arc<Setup>,
}

/// The configurations that records may refer to. The first thread adds them, the writer reads.
#[derive(Debug, Default)]
pub struct Generations(Mutex<VecDeque<Generation>>);

impl Generations {
    /// Adds a generation, before any worker uses it.
    pub fn publish(&self, number: u32, config: Arc<Config>, tls: Arc<Setup>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.push_back(Generation { number, config, tls });
        let surplus = known.len().saturating_sub(GENERATIONS_MAX);
        known.drain(..surplus);
    }

    fn get(&self, number: u32) -> Option<Generation> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|known| known.number == number).cloned()
    }
}

/// Log rules of the server blocks of one generation.
struct Ledger {
    generation: u32,
    config: Arc<Config>,
    tls: Arc<Setup>,
    /// Lines at level debug are written.
    debug: bool,
    /// Consolidation rules of each server block.
    blocks: Vec<Consolidations>,
    /// Formats of query lines, for each rule of each server block.
    patterns: Vec<Vec<Pattern>>,
    /// Receivers of dnstap of each server block.
    outlets: Vec<Vec<Outlet>>,
}

impl Ledger {
    fn new(generation: Generation, outlets: Vec<Vec<Outlet>>) -> Self {
        let Generation { number: generation, config, tls } = generation;
        let stages = || config.blocks.iter().map(|block| &block.stages);
        let rules = stages().map(|stages| stages.errors.as_ref());
        let blocks = rules.map(|errors| errors.map_or(&[][..], |errors| &errors.consolidate));
        let blocks = blocks.map(Consolidations::new).collect();
        let debug = stages().any(|stages| stages.debug);
        let patterns = stages().map(|stages| {
            stages.log.iter().map(|rule| Pattern::new(&rule.format, stages)).collect()
        });
        let patterns = patterns.collect();
        Self { generation, config, tls, debug, blocks, patterns, outlets }
    }
}

/// Counts of lost records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lost {
    errors: u64,
    queries: u64,
    taps: u64,
}

/// The writer's state.
pub struct Writer {
    clock: Clock,
    mail: Receiver<ToWriter>,
    generations: Arc<Generations>,
    log: Log,
    /// Ledgers, the oldest first.
    ledgers: VecDeque<Ledger>,
    /// Lines that are not written yet.
    lines: String,
    /// Lost records that are not yet logged.
    lost: Lost,
    /// Offset from a moment to the wall-clock time.
    origin: Duration,
    /// The receivers of `dnstap`.
    sinks: Vec<Arc<Sink>>,
    interfaces: Interfaces,
    /// Time of the next check for dropped messages.
    drops_due: Option<Moment>,
}

impl Writer {
    /// Creates a writer that passes its lines to `log`, one or several at a time, and its mailbox.
    pub fn new(clock: Clock, generations: Arc<Generations>, log: Log) -> (Self, WriterMailbox) {
        let (mailbox, mail) = WriterMailbox::new(RECORDS_MAX);
        let (ledgers, lines) = (VecDeque::new(), String::new());
        let (lost, origin) = (Lost::default(), Duration::ZERO);
        let writer = Self {
            clock,
            mail,
            generations,
            log,
            ledgers,
            lines,
            lost,
            origin,
            sinks: Vec::new(),
            interfaces: Interfaces::default(),
            drops_due: None,
        };
        (writer, mailbox)
    }

    /// Runs until no sender is left.
    pub fn run(mut self) {
        // Connects the receivers of `dnstap` before the first record.
        self.ledger(0);
        while self.turn() {}
        self.sum_up(Moment::FOREVER);
        self.tell_losses();
        self.flush();
        self.ledgers.clear();
        let sinks = std::mem::take(&mut self.sinks);
        let closed = sinks.into_iter().filter_map(Arc::into_inner).map(Sink::close);
        let closed: Vec<_> = closed.collect();
        let until = self.clock.instant(self.clock.now().plus(LEAVE));
        // The number of drops is final only after all remaining messages have been tried.
        self.lost.taps += closed.into_iter().map(|sink| sink.wait(until)).sum::<u64>();
        self.tell_drops();
        self.flush();
    }

    /// Waits for an event and handles it; returns false when no sender is left.
    fn turn(&mut self) -> bool {
        let first = self.wait();
        let now = self.clock.now();
        self.origin = self.clock.origin_by_calendar();
        self.interfaces.on_time(now);
        let ended = matches!(first, Err(RecvTimeoutError::Disconnected));
        if let Ok(first) = first {
            self.take(now, first);
            for _ in 1..BATCH_MAX {
                let Ok(message) = self.mail.try_recv() else { break };
                self.take(now, message);
                if self.lines.len() > LINES_LEN_MAX {
                    self.flush();
                }
            }
        }
        self.sum_up(now);
        if self.mail.is_empty() {
            self.tell_losses();
        }
        if self.drops_due.take_if(|due| *due <= now).is_some() {
            self.tell_drops();
        }
        self.flush();
        !ended
    }

    /// Waits for the next message, or until a sum is due.
    fn wait(&self) -> Result<ToWriter, RecvTimeoutError> {
        let blocks = self.ledgers.iter().flat_map(|ledger| &ledger.blocks);
        let due = blocks.filter_map(Consolidations::next_deadline).min();
        let due = due.into_iter().chain(self.drops_due).min();
        match due.and_then(|due| self.clock.instant(due)) {
            Some(until) => self.mail.recv_deadline(until),
            None => self.mail.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn take(&mut self, now: Moment, message: ToWriter) {
        match message {
            ToWriter::Lost(count) => self.lost.errors += count,
            ToWriter::Failed { generation, error } => match self.ledger(generation) {
                Some(place) => self.take_error(now, place, &error),
                // This happens only if a worker has missed a whole generation.
                None => self.lost.errors += 1,
            },
            ToWriter::Page { generation, mut page, home } => {
                self.lost.queries += page.log_lost;
                self.lost.taps += page.tap_lost;
                match self.ledger(generation) {
                    Some(place) => self.take_page(now, place, &page),
                    None => self.lost.queries += page.records.len() as u64,
                }
                page.clear();
                // The page's worker may have left.
                let _ = home.try_send(page);
            }
        }
    }

    /// Returns the index of the ledger of `generation`, which is created if it is missing.
    fn ledger(&mut self, generation: u32) -> Option<usize> {
        let known = self.ledgers.iter().position(|ledger| ledger.generation == generation);
        if known.is_some() {
            return known;
        }
        let known = self.generations.get(generation)?;
        if self.ledgers.len() == GENERATIONS_MAX {
            self.close_oldest();
        }
        let place = self.ledgers.iter().position(|ledger| ledger.generation > generation);
        let place = place.unwrap_or(self.ledgers.len());
        let outlets = tap::outlets(&known.config, &mut self.sinks, self.clock, self.log);
        self.ledgers.insert(place, Ledger::new(known, outlets));
        Some(place)
    }

    /// Closes the oldest generation and logs its pending sums, because no more records of it come.
    fn close_oldest(&mut self) {
        let rest = self.ledgers.split_off(1);
        self.sum_up(Moment::FOREVER);
        self.ledgers = rest;
        // Receivers that no generation uses any more are closed.
        self.tell_drops();
        self.sinks.retain(|sink| Arc::strong_count(sink) > 1);
    }

    fn take_error(&mut self, now: Moment, place: usize, error: &QueryError) {
        let ledger = &mut self.ledgers[place];
        let text = errors::text(error, &ledger.config, &ledger.tls, &mut self.interfaces);
        let Some(rules) = ledger.blocks.get_mut(error.block as usize) else { return };
        if let Some(level) = rules.take(now, &text) {
            let line = Line { error, text: &text };
            let event = Event::new(level_of(level), ERRORS, &line);
            let time = self.origin + now.since(Moment::ZERO);
            if self.log.format() == Format::Text {
                add_event(&mut self.lines, self.log, time, ledger.debug, &event);
            } else {
                let (name, rtype) = (line.name(), line.rtype());
                let rcode = Value::Number(error.rcode as u64);
                let fields =
                    [("rcode", rcode), ("name", Value::Text(&name)), ("type", Value::Text(&rtype))];
                let event = Event { text: &text, ..event }.with(&fields);
                add_event(&mut self.lines, self.log, time, ledger.debug, &event);
            }
        }
    }

    /// Adds the records of a page of the ledger at `place`.
    fn take_page(&mut self, now: Moment, place: usize, page: &Page) {
        let Self { lines, interfaces, .. } = self;
        let ledger = &mut self.ledgers[place];
        for record in &page.records {
            let (block, name) = (record.block as usize, page.bytes(record.name));
            let journal::Event::Ended(rule) = record.event else {
                let outlets = ledger.outlets.get_mut(block).into_iter().flatten();
                outlets.for_each(|outlet| outlet.push(record, page, self.origin, interfaces));
                self.drops_due.get_or_insert(now.plus(DROPS_EVERY));
                continue;
            };
            let patterns = ledger.patterns.get(block);
            let Some(pattern) = patterns.and_then(|of_block| of_block.get(usize::from(rule)))
            else {
                continue;
            };
            match self.log.format() {
                Format::Text => {
                    lines::push_text(lines, pattern, record, name, interfaces);
                }
                Format::Json => {
                    let time = self.origin + record.at.since(Moment::ZERO);
                    lines::push_json(lines, time, record, name, interfaces);
                }
            }
        }
        ledger.outlets.iter_mut().flatten().for_each(Outlet::flush);
    }

    /// Logs the sums that are due by `now`.
    fn sum_up(&mut self, now: Moment) {
        for ledger in &mut self.ledgers {
            for rules in &mut ledger.blocks {
                while let Some(sum) = rules.pop(now) {
                    let time = Clock::calendar();
                    let event = Event::new(level_of(sum.level()), ERRORS, &sum);
                    add_event(&mut self.lines, self.log, time, ledger.debug, &event);
                }
            }
        }
    }

    fn tell_losses(&mut self) {
        let Lost { errors, queries, .. } = self.lost;
        (self.lost.errors, self.lost.queries) = (0, 0);
        let lost = [(ERRORS, "errors", errors), ("plugin/log", "queries", queries)];
        for (source, what, count) in lost.into_iter().filter(|(.., count)| *count > 0) {
            let text = format_args!("{what} not logged: {count} (the log writer is too slow)");
            let event = Event::new(Level::Warning, source, &text);
            let fields = [("lost", Value::Number(count))];
            let event = match self.log.format() {
                Format::Text => event,
                Format::Json => event.with(&fields),
            };
            self.log.render(&mut self.lines, Clock::calendar(), &event);
        }
    }

    /// Logs the number of dropped messages of `dnstap`.
    fn tell_drops(&mut self) {
        let dropped: u64 = self.sinks.iter().map(|sink| sink.take_dropped()).sum();
        let count = dropped + std::mem::take(&mut self.lost.taps);
        if count > 0 {
            let text = format_args!("Dropped dnstap messages: {count}");
            let fields = [("lost", Value::Number(count))];
            let event = Event::new(Level::Warning, "plugin/dnstap", &text);
            let event = match self.log.format() {
                Format::Text => event,
                Format::Json => event.with(&fields),
            };
            self.log.render(&mut self.lines, Clock::calendar(), &event);
        }
    }

    /// Passes all lines to the log.
    fn flush(&mut self) {
        if !self.lines.is_empty() {
            self.log.lines(&self.lines);
            self.lines.clear();
        }
    }
}

/// Adds the line of an event; one at level debug only if `debug` is set.
fn add_event(lines: &mut String, log: Log, time: Duration, debug: bool, event: &Event<'_>) {
    if event.level != Level::Debug || debug {
        log.render(lines, time, event);
    }
}

/// Converts the level's name in the configuration.
fn level_of(name: &str) -> Level {
    match name {
        "debug" => Level::Debug,
        "info" => Level::Info,
        "warning" => Level::Warning,
        _ => Level::Error,
    }
}

#[cfg(test)]
mod tests;
