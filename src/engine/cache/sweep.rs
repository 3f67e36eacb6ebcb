//! Sweeps that remove useless entries, whether or not they are looked up.
//!
//! A round over all slots begins when the first answer has become useless, and proceeds in slices,
//! so that no turn takes long however large the cache is; in between, the shared wheel wakes a
//! worker. A slice holds the lock of a shard for a few slots at a time. There is a pause between
//! rounds: entries that expire meanwhile leave with the next one. An empty cache has nothing due,
//! so an idle host sleeps.
//!
//! All workers share the state of the rounds: whichever stores the entry that expires first asks to
//! be woken. A wake-up that is long overdue is taken for lost, together with the worker that would
//! have got it.

use super::Cache;
use super::admission::AnswerClass;
use super::entry::Entry;
use crate::moment::{Moment, nanos};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Mutex, TryLockError};
use std::time::Duration;

/// Minimum time from the end of a round to the next.
const PAUSE: Duration = Duration::from_secs(10);
/// Number of slots per slice.
const SLICE: u32 = 2_048;
/// Number of slots for which a shard is locked at a time.
const STRETCH: u32 = 32;
/// Time after which a wake-up that did not come is asked for again.
const OVERDUE: Duration = Duration::from_secs(5);

/// Progress of the rounds. Times are in nanoseconds. The words are in one order for all workers,
/// because one that notes an entry and one that ends a round each write a word and read another.
pub(super) struct Rounds {
    /// Time when the next slice is due.
    due: AtomicU64,
    /// Time for which a wake-up is armed.
    asked: AtomicU64,
    /// Earliest time when an entry that the round has passed becomes useless.
    earliest: AtomicU64,
    /// Time before which no round begins.
    not_before: AtomicU64,
    /// Place where the next slice begins. Held during a slice.
    place: Mutex<Place>,
}

/// Place in a round: class, shard, and slot of the shard.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    class: usize,
    shard: usize,
    slot: u32,
}

const FOREVER: u64 = Moment::FOREVER.as_nanos();

impl Default for Rounds {
    fn default() -> Self {
        Self {
            due: FOREVER.into(),
            asked: FOREVER.into(),
            earliest: FOREVER.into(),
            not_before: 0.into(),
            place: Mutex::default(),
        }
    }
}

impl Rounds {
    /// Records an entry that was stored and becomes useless at `end`.
    pub(super) fn note(&self, end: Moment) {
        let end = end.as_nanos();
        // The words are read far more often than written.
        if end < self.earliest.load(SeqCst) {
            self.earliest.fetch_min(end, SeqCst);
        }
        let due = end.max(self.not_before.load(SeqCst));
        if due < self.due.load(SeqCst) {
            self.due.fetch_min(due, SeqCst);
        }
    }

    /// Returns the time of a wake-up to ask for; `None` if it is armed already.
    pub(super) fn next(&self) -> Option<Moment> {
        let due = self.due.load(SeqCst);
        (due < self.asked.load(SeqCst) && due < self.asked.fetch_min(due, SeqCst))
            .then_some(Moment::from_nanos(due))
    }

    /// Marks the wake-up as not armed.
    pub(super) fn disarm(&self) {
        self.asked.store(FOREVER, SeqCst);
    }

    /// Marks a wake-up that is long overdue as not armed.
    pub(super) fn give_up(&self, now: Moment) {
        let asked = self.asked.load(SeqCst);
        if asked < now.minus(OVERDUE).as_nanos() {
            let _ = self.asked.compare_exchange(asked, FOREVER, SeqCst, SeqCst);
        }
    }

    /// Marks the wake-up that has come as not armed.
    fn woken(&self, now: Moment) {
        let asked = self.asked.load(SeqCst);
        if asked <= now.as_nanos() {
            let _ = self.asked.compare_exchange(asked, FOREVER, SeqCst, SeqCst);
        }
    }

    /// Makes the next slice due.
    fn begin(&self) {
        self.asked.store(FOREVER, SeqCst);
        self.due.store(0, SeqCst);
    }
}

impl Cache {
    /// Returns the time to wake the worker for [`Cache::sweep`]; `None` if a wake-up is armed
    /// already.
    pub(crate) fn next_sweep(&mut self) -> Option<Moment> {
        self.store.rounds.next()
    }

    /// Repeats the request for a wake-up, because it was not delivered or was lost.
    pub(crate) fn sweep_not_asked(&mut self) {
        self.store.rounds.disarm();
    }

    /// Has a sweep begin at once, because entries may be there that no worker has noted.
    pub(crate) fn sweep_again(&mut self) {
        self.store.rounds.begin();
    }

    /// Removes the useless entries of the next slice.
    pub fn sweep(&mut self, now: Moment) {
        let Self { store, stats, settings, copied, .. } = self;
        *copied = None;
        let rounds = &store.rounds;
        rounds.woken(now);
        if now.as_nanos() < rounds.due.load(SeqCst) {
            return;
        }
        let mut place = match rounds.place.try_lock() {
            Ok(place) => place,
            Err(TryLockError::Poisoned(poison)) => {
                rounds.place.clear_poison();
                poison.into_inner()
            }
            // Another worker is at it, and asks for the next slice.
            Err(TryLockError::WouldBlock) => return,
        };
        if *place == Place::default() {
            rounds.earliest.store(FOREVER, SeqCst);
        }
        let mut left = SLICE;
        while left > 0 && place.class < 2 {
            let slots = place.slot..place.slot + STRETCH.min(left);
            let swept = store.sweep(place.class, place.shard, slots.clone(), |entry| {
                let end = useless_at(settings, entry);
                if now < end {
                    rounds.earliest.fetch_min(end.as_nanos(), SeqCst);
                }
                end <= now
            });
            match swept {
                Some(removed) => {
                    stats.expired += removed;
                    left -= slots.len() as u32;
                    place.slot = slots.end;
                }
                None if place.shard + 1 < store.room(place.class).shard_count() => {
                    *place = Place { shard: place.shard + 1, slot: 0, ..*place };
                }
                None => *place = Place { class: place.class + 1, ..Place::default() },
            }
        }
        if place.class < 2 {
            rounds.due.store(now.as_nanos(), SeqCst);
            return;
        }
        *place = Place::default();
        let not_before = now.plus(PAUSE).as_nanos();
        rounds.not_before.store(not_before, SeqCst);
        rounds.due.store(FOREVER, SeqCst);
        // An entry that is stored meanwhile has been noted in one of the two.
        let earliest = rounds.earliest.load(SeqCst);
        if earliest != FOREVER {
            rounds.due.fetch_min(earliest.max(not_before), SeqCst);
        }
    }
}

/// Returns the time when an entry becomes useless: expired, and not to be served stale. A failure
/// stays longer because its count is used by the next one.
pub(super) fn useless_at(settings: &crate::config::Cache, entry: &Entry) -> Moment {
    let longer = match entry.answer_class() {
        AnswerClass::Failure => settings.servfail,
        _ => super::stale_window(settings, entry),
    };
    let end = entry.stored().saturating_add_unsigned(entry.lifetime());
    let end = end.saturating_add_unsigned(nanos(longer));
    Moment::from_nanos(end.max(0) as u64)
}
