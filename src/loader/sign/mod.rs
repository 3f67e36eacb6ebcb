//! Signs the zones of `sign`: one thread for all of them, from zone files to signed zone files.
//!
//! The thread begins when the configuration has taken effect, so it delays no start. Of the zones
//! that are due, the one with the least work comes first. A new signed file is passed to the
//! loaders of zones, which read it at once. When the configuration names other zones or keys,
//! another thread takes over, and this one ends without writing what it has begun. [`zone`] decides
//! on one zone, [`content`] lists the records to be signed, [`signing`] makes signatures, [`disk`]
//! has the file.

mod content;
mod disk;
mod keys;
mod signing;
mod zone;

use super::file::hasher;
use crate::clock::Clock;
use crate::config::SignedSource;
use crate::log::Log;
use crate::moment::Moment;
use crate::sys::random;
use ahash::RandomState;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zone::{SignedZone, Tools};

/// Maximum wait for an order.
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// Interval of attempts to send to a reader whose channel is full.
const RESEND_INTERVAL: Duration = Duration::from_secs(1);

/// Loaders of zones, which receive the paths of new signed files.
pub(crate) type Readers = Vec<Sender<PathBuf>>;

/// The signer of all zones of a configuration.
pub(crate) struct Signer {
    clock: Clock,
    log: Log,
    hasher: RandomState,
    random: ChaCha12Rng,
    zones: Vec<SignedZone>,
    unsent: Unsent,
}

/// New signed files for readers whose channels are full: one of each path.
#[derive(Default)]
struct Unsent(Vec<(Sender<PathBuf>, PathBuf)>);

impl Unsent {
    /// Sends a path, or keeps it.
    fn send(&mut self, reader: &Sender<PathBuf>, path: &Path) {
        let is_known = self.0.iter().any(|(to, own)| own == path && to.same_channel(reader));
        if is_known {
            return;
        }
        if let Err(TrySendError::Full(path)) = reader.try_send(path.to_owned()) {
            self.0.push((reader.clone(), path));
        }
    }

    /// Sends those that were kept; a reader that has gone needs none.
    fn send_again(&mut self) {
        self.0.retain(|(reader, path)| {
            matches!(reader.try_send(path.clone()), Err(TrySendError::Full(_)))
        });
    }

    /// Time until the next attempt.
    fn wait(&self) -> Duration {
        if self.0.is_empty() { WAIT_MAX } else { RESEND_INTERVAL }
    }
}

/// Orders of the thread that starts signers: the loaders that receive new files.
struct Orders<'a> {
    orders: &'a Receiver<Readers>,
    readers: Readers,
    /// An order has arrived that was not acted on.
    is_new: bool,
    /// The configuration has other zones now, or none.
    is_gone: bool,
}

impl Orders<'_> {
    /// Takes orders that have arrived. Returns true if the work is still wanted.
    fn is_wanted(&mut self) -> bool {
        loop {
            match self.orders.try_recv() {
                Ok(readers) => (self.readers, self.is_new) = (readers, true),
                Err(TryRecvError::Empty) => return !self.is_gone,
                Err(TryRecvError::Disconnected) => {
                    self.is_gone = true;
                    return false;
                }
            }
        }
    }

    /// Waits for an order for this time.
    fn wait(&mut self, wait: Duration) {
        match self.orders.recv_timeout(wait) {
            Ok(readers) => (self.readers, self.is_new) = (readers, true),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.is_gone = true,
        }
    }
}

impl Signer {
    /// Creates the signer of these zones.
    ///
    /// # Errors
    /// The kernel has no randomness.
    pub(crate) fn new(sources: &[SignedSource], log: Log) -> io::Result<Self> {
        let zones = sources.iter().cloned().map(SignedZone::new);
        let zones = zones.collect::<Result<_, _>>().map_err(io::Error::other)?;
        let random = ChaCha12Rng::from_seed(random::seed()?);
        let (clock, unsent) = (Clock::start(), Unsent::default());
        Ok(Self { clock, log, hasher: hasher()?, random, zones, unsent })
    }

    /// Signs what is due, from the first order until all senders of `orders` have gone.
    pub(crate) fn run(mut self, orders: &Receiver<Readers>) {
        let Ok(readers) = orders.recv() else { return };
        let mut orders = Orders { orders, readers, is_new: false, is_gone: false };
        let outputs = self.zones.iter().map(SignedZone::output);
        let directories: BTreeSet<_> = outputs.filter_map(Path::parent).collect();
        directories.into_iter().for_each(disk::remove_stale);
        loop {
            let now = self.clock.now();
            self.unsent.send_again();
            if std::mem::take(&mut orders.is_new) {
                self.zones.iter_mut().for_each(|zone| zone.look_at = now);
            }
            self.turn(now, &mut orders);
            let next = self.zones.iter().map(|zone| zone.look_at).min();
            let wait = next.map_or(WAIT_MAX, |next| next.since(self.clock.now()));
            let wait = wait.min(self.unsent.wait());
            if !orders.is_new && !orders.is_gone {
                orders.wait(wait);
            }
            if orders.is_gone {
                return;
            }
        }
    }

    /// Checks the zones that are due at `now`.
    fn turn(&mut self, now: Moment, orders: &mut Orders<'_>) {
        let mut due: Vec<_> = self.zones.iter_mut().filter(|zone| zone.look_at <= now).collect();
        if due.len() > 1 {
            due.sort_by_cached_key(|zone| zone.weight());
        }
        for zone in due {
            if !orders.is_wanted() {
                return;
            }
            let mut tools = Tools {
                clock: self.clock,
                calendar: Clock::calendar(),
                log: self.log,
                hasher: &self.hasher,
                random: self.random.next_u64(),
                is_wanted: &mut || orders.is_wanted(),
            };
            if zone.look(&mut tools) {
                let readers = orders.readers.iter();
                readers.for_each(|reader| self.unsent.send(reader, zone.output()));
            }
        }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod unsent_tests {
    use super::{RESEND_INTERVAL, Unsent, WAIT_MAX};
    use std::path::Path;

    #[test]
    fn new_files_wait_for_readers_whose_channels_are_full() {
        let (slow, of_slow) = crossbeam_channel::bounded(1);
        let (quick, of_quick) = crossbeam_channel::bounded(9);
        let (gone, _) = crossbeam_channel::bounded(9);
        let mut unsent = Unsent::default();
        for path in ["a", "b", "c", "b"].map(Path::new) {
            [&slow, &quick, &gone].into_iter().for_each(|reader| unsent.send(reader, path));
        }
        assert_eq!(of_quick.try_iter().count(), 4);
        assert_eq!((unsent.0.len(), unsent.wait()), (2, RESEND_INTERVAL), "b and c, once");
        let mut got = Vec::new();
        for _ in 0..4 {
            got.extend(of_slow.try_iter());
            unsent.send_again();
        }
        assert_eq!(got, ["a", "b", "c"].map(Path::new));
        assert_eq!((of_quick.try_iter().count(), unsent.wait()), (0, WAIT_MAX));
        unsent.send(&slow, Path::new("d"));
        unsent.send(&slow, Path::new("e"));
        drop(of_slow);
        unsent.send_again();
        assert!(unsent.0.is_empty(), "nobody reads them");
    }
}
