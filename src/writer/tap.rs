//! dnstap: receivers of messages about clients and upstreams, and the kinds of messages they get.
//!
//! Records become messages ([`message`]) in frames ([`frames`]), a page's together, which go to the
//! thread of each receiver ([`sink`]). Nothing here blocks.

mod frames;
mod message;
mod sink;

pub(super) use sink::Sink;

use super::interfaces::Interfaces;
use super::lines::Pattern;
use crate::clock::Clock;
use crate::config::{Config, Stages, Tap};
use crate::engine::journal::{Page, Record};
use crate::log::{Event, Level, Log};
use std::sync::Arc;
use std::time::Duration;

/// Messages of one `dnstap` of a server block.
pub(super) struct Outlet {
    sink: Arc<Sink>,
    full: bool,
    identity: Vec<u8>,
    version: Vec<u8>,
    extra: Option<Pattern>,
    /// Frames of this page.
    chunk: Vec<u8>,
    messages: u64,
}

impl Outlet {
    fn new(tap: &Tap, stages: &Stages, sink: Arc<Sink>) -> Self {
        Self {
            sink,
            full: tap.full,
            identity: tap.identity.clone().into_bytes(),
            version: tap.version.clone().into_bytes(),
            extra: tap.extra.as_deref().map(|extra| Pattern::new(extra, stages)),
            chunk: Vec::new(),
            messages: 0,
        }
    }

    /// Adds the messages of a record on `page`. `origin`: offset from a moment to the wall-clock
    /// time.
    pub(super) fn push(
        &mut self,
        record: &Record,
        page: &Page,
        origin: Duration,
        interfaces: &mut Interfaces,
    ) {
        let Some(message) = message::of_record(record, page, origin, self.full) else { return };
        let extra = self.extra.as_ref().map(|pattern| {
            let mut text = String::new();
            pattern.push(&mut text, record, page.bytes(record.name), interfaces);
            text
        });
        message::push_frame(&mut self.chunk, &self.identity, &self.version, extra, message);
        self.messages += 1;
    }

    /// Sends the added messages.
    pub(super) fn flush(&mut self) {
        if self.messages > 0 {
            let messages = std::mem::take(&mut self.messages);
            self.sink.send(std::mem::take(&mut self.chunk), messages);
        }
    }
}

/// Returns the outlets of each server block of `config`. Outlets with the same target share a sink,
/// also with those in `known`.
pub(super) fn outlets(
    config: &Config,
    known: &mut Vec<Arc<Sink>>,
    clock: Clock,
    log: Log,
) -> Vec<Vec<Outlet>> {
    let mut outlet = |stages: &Stages, tap: &Tap| {
        let same = known.iter().find(|sink| *sink.target() == tap.target);
        let sink = match same {
            Some(sink) => Arc::clone(sink),
            None => match Sink::start(clock, tap.target.clone(), tap.queue_x10000, log) {
                Ok(sink) => Arc::new(sink),
                Err(error) => {
                    let text = format_args!(
                        "cannot start the thread for receiver {}: {error}",
                        tap.target
                    );
                    log.event(&Event::new(Level::Error, "plugin/dnstap", &text));
                    return None;
                }
            },
        };
        if same.is_none() {
            known.push(Arc::clone(&sink));
        }
        Some(Outlet::new(tap, stages, sink))
    };
    let blocks = config.blocks.iter().map(|block| &block.stages);
    blocks
        .map(|stages| stages.dnstap.iter().filter_map(|tap| outlet(stages, tap)).collect())
        .collect()
}

#[cfg(test)]
mod tests;
