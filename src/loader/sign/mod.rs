//! Signs the zones of `sign`: one thread for all of them, from zone files to signed zone files.
//!
//! It begins when the configuration has taken effect, so it delays no start. Of the zones that are
//! due, the one with the least work comes first. A new signed file is passed to the loaders of
//! zones, which read it at once. When the configuration names other zones or keys, another thread
//! takes over, and this one ends without writing what it has begun. [`zone`] decides on one zone,
//! [`content`] lists the records to be signed, [`signing`] makes signatures, [`disk`] has the file.

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
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use zone::{SignedZone, Tools};

/// Maximum wait for an order.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Loaders of zones, which receive the paths of new signed files.
pub(crate) type Readers = Vec<Sender<PathBuf>>;

/// The signer of all zones of a configuration.
pub(crate) struct Signer {
    clock: Clock,
    log: Log,
    hasher: RandomState,
    random: ChaCha12Rng,
    zones: Vec<SignedZone>,
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
        Ok(Self { clock: Clock::start(), log, hasher: hasher()?, random, zones })
    }

    /// Signs what is due, from the first order until all senders of `orders` have gone.
    pub(crate) fn run(mut self, orders: &Receiver<Readers>) {
        let Ok(readers) = orders.recv() else { return };
        let mut orders = Orders { orders, readers, is_new: false, is_gone: false };
        loop {
            let now = self.clock.now();
            if std::mem::take(&mut orders.is_new) {
                self.zones.iter_mut().for_each(|zone| zone.look_at = now);
            }
            self.turn(now, &mut orders);
            let next = self.zones.iter().map(|zone| zone.look_at).min();
            let wait = next.map_or(WAIT_MAX, |next| next.since(self.clock.now()).min(WAIT_MAX));
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
                let path = zone.output();
                // If the channel is full, the loader notices the file at its next check.
                let send = |reader: &Sender<PathBuf>| drop(reader.try_send(path.to_owned()));
                orders.readers.iter().for_each(send);
            }
        }
    }
}

#[cfg(test)]
mod tests;
