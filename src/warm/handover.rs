//! The caches of an upgrade: from the process that serves to the one that takes over.
//!
//! The old process sends all entries while it goes on serving, and once it has served its last
//! query, those that have changed since. The new process stores the first ones before its workers
//! start, so that it has them when it reads its first query, and the others while it serves. An old
//! process that sends nothing is of another version; a new one that reads nothing, too. Neither
//! waits for the other without limit.

use super::records::{Next, Records};
use crate::clock::Clock;
use crate::engine::cache::carry::{
    CACHE, COMPLETE, Copier, Fingerprint, PREFACE, Restored, append,
};
use crate::engine::cache::{Cache, SharedCaches};
use crate::log::{Event, Level, Log};
use crate::moment::Moment;
use std::collections::HashMap;
use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Number of bytes that are written at once.
const PIECE_LEN: usize = 128 << 10;
/// Interval of checks whether the other process still reads.
const SLICE: Duration = Duration::from_millis(100);
/// Maximum time for which the new process waits for more bytes before it serves.
const PATIENCE: Duration = Duration::from_secs(2);
/// Maximum time for all of the first round, a part of what the old process waits for the new one.
const FIRST_ROUND: Duration = Duration::from_secs(20);
/// The same while it serves: the old process finishes its queries first.
const PATIENCE_SERVING: Duration = Duration::from_secs(30);
/// Maximum time for the entries that have changed since the first round.
const LAST_ROUND: Duration = Duration::from_secs(2);
/// Source of log lines.
const CACHE_LOG: &str = "plugin/cache";

/// The caches of a process, for the one that takes over.
pub(crate) struct Sender {
    clock: Clock,
    caches: Vec<(Fingerprint, Copier)>,
}

impl Sender {
    pub(crate) fn new(clock: Clock, caches: &SharedCaches) -> Self {
        Self { clock, caches: caches.copiers().collect() }
    }

    /// Announces entries to a process that is not started yet.
    ///
    /// # Errors
    /// See [`Write::write`].
    pub(crate) fn announce(to: &mut UnixStream) -> io::Result<()> {
        to.write_all(&PREFACE)
    }

    /// Sends all entries, while `is_awaited` returns true.
    ///
    /// # Errors
    /// The other process does not read them.
    pub(crate) fn send(
        &mut self,
        to: &mut UnixStream,
        is_awaited: impl Fn() -> bool,
    ) -> io::Result<()> {
        to.set_write_timeout(Some(SLICE))?;
        self.round(to, &is_awaited)
    }

    /// Sends the entries that have changed since.
    ///
    /// # Errors
    /// The other process does not read them.
    pub(crate) fn send_changes(&mut self, to: &mut UnixStream) -> io::Result<()> {
        let clock = self.clock;
        let until = clock.now().plus(LAST_ROUND);
        self.round(to, &|| clock.now() < until)
    }

    fn round(&mut self, to: &mut UnixStream, is_awaited: &impl Fn() -> bool) -> io::Result<()> {
        let origin = self.clock.origin_by_calendar();
        let mut bytes = Vec::with_capacity(2 * PIECE_LEN);
        for (fingerprint, copier) in &mut self.caches {
            append(&mut bytes, CACHE, &[&fingerprint.0]);
            while copier.copy(origin, &mut bytes, PIECE_LEN) {
                write(to, &bytes, is_awaited)?;
                bytes.clear();
            }
        }
        append(&mut bytes, COMPLETE, &[]);
        write(to, &bytes, is_awaited)
    }
}

/// Writes all of `bytes`, while `is_awaited` returns true.
fn write(to: &mut UnixStream, bytes: &[u8], is_awaited: &impl Fn() -> bool) -> io::Result<()> {
    let mut left = bytes;
    while !left.is_empty() {
        if !is_awaited() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match to.write(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => left = &left[len..],
            Err(error) if is_timeout(&error) || error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Records from the process before this one.
pub(crate) struct Heir {
    records: Records<UnixStream>,
    clock: Clock,
    caches: SharedCaches,
    log: Log,
    /// Time when the round is given up.
    until: Moment,
    /// Cache of the next records, if this process has it too.
    cache: Option<Cache>,
    /// Number of caches with the same fingerprint so far in this round.
    seen: HashMap<Fingerprint, usize>,
    taken: u64,
    /// Caches that this process does not have.
    others: u64,
}

impl Heir {
    /// Stores all entries of the process at the other end of `from` in `caches`. Returns the rest
    /// of the records, which come later; `None`: no more will come.
    pub(crate) fn receive(
        from: UnixStream,
        clock: Clock,
        caches: &SharedCaches,
        log: Log,
    ) -> Option<Self> {
        let (records, caches) = (Records::new(from), caches.clone());
        let until = clock.now().plus(FIRST_ROUND);
        let (cache, seen) = (None, HashMap::new());
        let mut heir =
            Self { records, clock, caches, log, until, cache, seen, taken: 0, others: 0 };
        let outcome = heir.begin().and_then(|has_begun| match has_begun {
            true if heir.round()? => Ok(true),
            true => Err(io::ErrorKind::UnexpectedEof.into()),
            false => Ok(false),
        });
        let more = outcome.unwrap_or_else(|error| {
            let taken = heir.taken;
            let text = format_args!(
                "caches of the previous process: {taken} answers are taken over, the others are \
                 lost: {error}"
            );
            heir.say(Level::Warning, &text);
            false
        });
        if more && heir.taken > 0 {
            let taken = heir.taken;
            let text =
                format_args!("caches of the previous process: {taken} answers are taken over");
            heir.say(Level::Info, &text);
        }
        if heir.others > 0 {
            let others = heir.others;
            let text = format_args!(
                "caches of the previous process: those of {others} server blocks are not taken \
                 over, because their configuration has changed"
            );
            heir.say(Level::Info, &text);
        }
        more.then_some(heir)
    }

    /// Stores the entries that the previous process sends before it ends.
    pub(crate) fn wait_for_changes(mut self) {
        self.until = Moment::FOREVER;
        let patience = self.records.source().set_read_timeout(Some(PATIENCE_SERVING));
        // They are few. Without them their names are misses.
        let _ = patience.and_then(|()| self.round());
    }

    /// Reads the beginning. Returns false if the previous process sends nothing that this one can
    /// read.
    fn begin(&mut self) -> io::Result<bool> {
        // What it sends at first, it has sent before it started this process.
        self.records.source().set_nonblocking(true)?;
        let begun = self.records.begin();
        self.records.source().set_nonblocking(false)?;
        self.records.source().set_read_timeout(Some(PATIENCE))?;
        match begun {
            Ok(true) => Ok(true),
            Ok(false) => {
                let text = "caches of the previous process are not taken over: it has another \
                            version of their format";
                self.say(Level::Info, &text);
                Ok(false)
            }
            Err(error) if is_timeout(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Stores the entries of a round. Returns false if the previous process has ended.
    fn round(&mut self) -> io::Result<bool> {
        self.seen.clear();
        let origin = self.clock.origin_by_calendar();
        loop {
            match self.records.next()? {
                Next::Record(COMPLETE, _) => return Ok(true),
                Next::Record(CACHE, body) => {
                    let fingerprint = body.try_into().map(Fingerprint).map_err(|_| damaged())?;
                    let number = self.seen.entry(fingerprint).or_default();
                    self.cache = self.caches.of_fingerprint(fingerprint).nth(*number);
                    *number += 1;
                    self.others += u64::from(self.cache.is_none());
                }
                // What has left the other cache may stay in this one.
                Next::Record(_, []) => {}
                Next::Record(_, body) => {
                    let now = self.clock.now();
                    if now > self.until {
                        return Err(io::Error::new(
                            io::ErrorKind::TimedOut,
                            format!("not all have come within {FIRST_ROUND:?}"),
                        ));
                    }
                    let Some(cache) = &mut self.cache else { continue };
                    let restored = cache.restore(now, origin, self.caches.hasher(), body);
                    self.taken += u64::from(restored == Restored::Stored);
                }
                Next::End => return Ok(false),
                Next::Damaged => return Err(damaged()),
            }
        }
    }

    fn say(&self, level: Level, text: &dyn Display) {
        self.log.event(&Event::new(level, CACHE_LOG, text));
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a record is damaged")
}
