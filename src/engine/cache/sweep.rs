//! Sweeps that remove useless entries, whether or not they are looked up.
//!
//! A round over all slots begins when the first answer has become useless, and proceeds in slices,
//! so that no turn takes long however large the cache is; in between, the shared wheel wakes the
//! worker. There is a pause between rounds: entries that expire meanwhile leave with the next one.
//! An empty cache has nothing due, so an idle host sleeps.

use super::Cache;
use super::admission::AnswerClass;
use super::entry::Entry;
use crate::engine::list::NONE;
use crate::moment::Moment;
use std::time::Duration;

/// Minimum time from the end of a round to the next.
const PAUSE: Duration = Duration::from_secs(10);
/// Number of slots of each class per slice.
const SLICE: u32 = 2_048;

/// Progress of the rounds.
pub(super) struct Sweeps {
    /// Time when the next slice is due.
    due: Moment,
    /// Time for which a wake-up is armed.
    asked: Moment,
    /// Place where the next slice begins; zero: a new round.
    place: u32,
    /// Earliest time when an entry that the round has passed becomes useless.
    earliest: Moment,
    /// Time before which no round begins.
    not_before: Moment,
}

impl Sweeps {
    pub(super) const NONE: Self = Self {
        due: Moment::FOREVER,
        asked: Moment::FOREVER,
        place: 0,
        earliest: Moment::FOREVER,
        not_before: Moment::ZERO,
    };

    /// Records an entry that becomes useless at `end`.
    pub(super) fn note(&mut self, end: Moment) {
        self.earliest = self.earliest.min(end);
        self.due = self.due.min(end.max(self.not_before));
    }
}

impl Cache {
    /// Returns the time to wake the worker for [`Cache::sweep`]; `None` if that is armed already.
    pub(crate) fn next_sweep(&mut self) -> Option<Moment> {
        let Sweeps { due, asked, .. } = &mut self.sweeps;
        (*due < *asked).then(|| {
            *asked = *due;
            *due
        })
    }

    /// Repeats the request for a wake-up, because it was not delivered or was lost.
    pub(crate) fn sweep_not_asked(&mut self) {
        self.sweeps.asked = Moment::FOREVER;
    }

    /// Removes the useless entries of the next slice.
    pub fn sweep(&mut self, now: Moment) {
        self.sweeps.asked = Moment::FOREVER;
        if now < self.sweeps.due {
            return;
        }
        if self.sweeps.place == 0 {
            self.sweeps.earliest = Moment::FOREVER;
        }
        let begin = self.sweeps.place;
        let slots = self.classes.each_ref().map(|class| class.entries.len() as u32);
        for (class, count) in slots.into_iter().enumerate() {
            for slot in begin..(begin + SLICE).min(count) {
                let entry = self.classes[class].entries[slot as usize];
                if entry.first == NONE {
                    continue;
                }
                let end = self.useless_at(&entry);
                if now < end {
                    self.sweeps.earliest = self.sweeps.earliest.min(end);
                } else {
                    self.classes[class].eviction.remove(slot);
                    self.vacate(now, class, slot);
                }
            }
        }
        let goes_on = slots.iter().any(|count| begin + SLICE < *count);
        let sweeps = &mut self.sweeps;
        if goes_on {
            (sweeps.place, sweeps.due) = (begin + SLICE, now);
        } else {
            (sweeps.place, sweeps.not_before) = (0, now.plus(PAUSE));
            sweeps.due = sweeps.earliest.max(sweeps.not_before);
        }
    }

    /// Returns the time when an entry becomes useless: expired, and not to be served stale. A
    /// failure stays longer because its count is used by the next one.
    pub(super) fn useless_at(&self, entry: &Entry) -> Moment {
        let longer = match entry.answer_class {
            AnswerClass::Failure => self.settings.servfail,
            _ => self.stale_window(entry),
        };
        entry.stored.plus(Duration::from_nanos(entry.lifetime)).plus(longer)
    }
}
