//! The next deadline of each connection, and the first of all.
//!
//! A connection's deadline moves with nearly every packet, mostly further away. Only an earlier one
//! is entered; at an entered time that has become too early, the connection is entered again.

use crate::moment::Moment;
use std::collections::BTreeSet;

/// Deadlines of the connections of an endpoint. Each connection remembers its entry.
#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Moment, u32)>);

impl Timers {
    /// Enters the deadline `due` of connection `index`, unless its `entry` is earlier.
    pub(crate) fn set(&mut self, index: u32, entry: &mut Option<Moment>, due: Option<Moment>) {
        let Some(due) = due else { return };
        if entry.is_none_or(|entry| due < entry) {
            self.remove(index, entry);
            self.0.insert((due, index));
            *entry = Some(due);
        }
    }

    /// Removes the entry of connection `index`.
    pub(crate) fn remove(&mut self, index: u32, entry: &mut Option<Moment>) {
        if let Some(old) = entry.take() {
            self.0.remove(&(old, index));
        }
    }

    /// Removes the first entry that is not after `now`, and returns its connection.
    pub(crate) fn next(&mut self, now: Moment) -> Option<u32> {
        let (due, index) = *self.0.first()?;
        (due <= now).then(|| {
            self.0.pop_first();
            index
        })
    }

    /// Returns the first deadline.
    pub(crate) fn first(&self) -> Option<Moment> {
        self.0.first().map(|(due, _)| *due)
    }

    /// Returns the number of entries.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Timers;
    use crate::moment::Moment;
    use std::time::Duration;

    #[test]
    fn only_earlier_deadlines_move_an_entry() {
        let at = |seconds| Moment::ZERO.plus(Duration::from_secs(seconds));
        let (mut timers, mut first, mut second) = (Timers::default(), None, None);
        timers.set(1, &mut first, Some(at(5)));
        timers.set(1, &mut first, Some(at(7)));
        timers.set(2, &mut second, Some(at(6)));
        timers.set(2, &mut second, None);
        assert_eq!((timers.first(), timers.len()), (Some(at(5)), 2));
        timers.set(2, &mut second, Some(at(3)));
        assert_eq!((timers.next(at(2)), timers.next(at(3))), (None, Some(2)));
        timers.remove(1, &mut first);
        assert_eq!((timers.first(), timers.next(at(9)), first), (None, None, None));
    }
}
