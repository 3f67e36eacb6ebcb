//! When to look at the configuration again, and whether it has changed.
//!
//! `reload INTERVAL JITTER` has the file read every so often; what counts is what its text says
//! after imports and variables, line by line, so a comment at the end of it is no change. A text
//! that was tried, with whatever outcome, is not tried again until it changes. Host names that
//! stand for upstreams are looked up again when their records run out, which is a reload too.

use crate::config::{Config, Reload};
use crate::corefile::{self, Corefile, Sources};
use crate::moment::Moment;
use crate::sys::random;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::io;
use std::time::Duration;

/// What is looked at, and when.
pub(super) struct Watch {
    /// What was tried last.
    tried: Option<Corefile>,
    period: Option<Duration>,
    file_due: Option<Moment>,
    names_due: Option<Moment>,
    random: ChaCha12Rng,
}

impl Watch {
    /// Of what `text`, which the operator calls `name`, made `config`.
    ///
    /// # Errors
    /// No randomness.
    pub(super) fn new(now: Moment, config: &Config, text: &[u8], name: &str) -> io::Result<Self> {
        let random = ChaCha12Rng::from_seed(random::seed()?);
        let (period, file_due, names_due) = (None, None, None);
        let mut watch = Self { tried: tree(text, name), period, file_due, names_due, random };
        watch.set(now, config);
        Ok(watch)
    }

    /// The configuration that is tried now.
    pub(super) fn tried(&mut self, now: Moment, text: &[u8], name: &str) {
        self.tried = tree(text, name);
        // Should it fail, this is when it is looked at again.
        self.file_due = self.period.map(|period| now.plus(period));
        self.names_due = self.names_due.map(|_| now.plus(RETRY));
    }

    /// The configuration that is served from now on.
    pub(super) fn set(&mut self, now: Moment, config: &Config) {
        self.period = config.reload.map(|reload| period(reload, self.random.next_u32()));
        self.file_due = self.period.map(|period| now.plus(period));
        let forwards = config.blocks.iter().flat_map(|block| &block.forwards);
        let names = forwards.filter_map(|forward| forward.names_ttl).min();
        self.names_due = names.map(|ttl| now.plus(ttl));
    }

    /// When one of the two is due.
    pub(super) fn due(&self) -> Option<Moment> {
        [self.file_due, self.names_due].into_iter().flatten().min()
    }

    /// Whether the records of a host name have run out.
    pub(super) fn names_are_due(&self, now: Moment) -> bool {
        self.names_due.is_some_and(|due| due <= now)
    }

    /// Whether the file is to be read; says so once for each time.
    pub(super) fn file_is_due(&mut self, now: Moment) -> bool {
        let due = self.file_due.is_some_and(|due| due <= now);
        if due {
            self.file_due = self.period.map(|period| now.plus(period));
        }
        due
    }

    /// Whether `text` says something else than what was tried last. One that cannot be parsed is
    /// no change: somebody may be writing it. It is told of, each time.
    pub(super) fn has_changed(&self, text: &[u8], name: &str) -> bool {
        let tree = tree(text, name);
        if tree.is_none() {
            println!("[WARNING] plugin/reload: Corefile parse failed");
        }
        tree.is_some() && tree != self.tried
    }
}

/// After a lookup that failed: how soon it is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// What `text` says, `None` if it cannot be parsed.
fn tree(text: &[u8], name: &str) -> Option<Corefile> {
    corefile::parse(text, name, &Sources::of_this_process().ok()?).ok()
}

/// The interval, and up to half the jitter more or less.
fn period(reload: Reload, random: u32) -> Duration {
    let span = reload.jitter.min(reload.interval / 2);
    let part = (span.as_nanos() * u128::from(random)) >> u32::BITS;
    reload.interval - span / 2 + Duration::from_nanos(part as u64)
}
