//! Earlier attempts of moved queries, which may still be answered.
//!
//! A query that is stuck behind another on its connection is asked again elsewhere, and the first
//! answer counts. The earlier attempt is kept here by connection and id, so that its answer is
//! recognised, and so that the id is not given to another query on that connection before the
//! answer has come or the connection is closed. At the maximum the oldest is forgotten: its answer
//! would be dropped as unexpected.

use super::{Exchanges, id_hash};
use crate::engine::index::Index;
use crate::engine::key::{ConnectionId, ExchangeKey};
use crate::engine::memory::reserved;

/// Maximum number of earlier attempts kept by one worker.
pub(crate) const EARLIER_MAX: usize = 1_024;

/// One earlier attempt.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    connection: ConnectionId,
    id: u16,
    exchange: ExchangeKey,
}

/// All earlier attempts, in a ring.
pub(super) struct Earlier {
    places: Vec<Option<Attempt>>,
    by_id: Index,
    next: usize,
    len: usize,
}

/// Attempt that was left behind, and the connection whose oldest one was forgotten for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeftBehind {
    /// Connection on which a late answer may arrive.
    pub(crate) connection: ConnectionId,
    /// Connection whose late answer is no longer recognised.
    pub(crate) forgotten: Option<ConnectionId>,
}

impl Earlier {
    pub(super) fn new() -> Self {
        let (places, by_id) = (vec![None; EARLIER_MAX], Index::new(EARLIER_MAX));
        Self { places, by_id, next: 0, len: 0 }
    }

    /// Returns the reserved memory in bytes.
    pub(super) fn reserved(&self) -> usize {
        reserved(&self.places) + self.by_id.reserved()
    }

    /// Returns true if `id` may not be given to another query on `connection`.
    pub(super) fn has(&self, connection: ConnectionId, id: u16) -> bool {
        self.len > 0 && self.place(connection, id).is_some()
    }

    fn place(&self, connection: ConnectionId, id: u16) -> Option<u32> {
        let is_it = |place: u32| {
            let attempt = self.places[place as usize];
            attempt.is_some_and(|attempt| (attempt.connection, attempt.id) == (connection, id))
        };
        self.by_id.find(id_hash(connection, id), is_it)
    }

    fn remember(&mut self, attempt: Attempt) -> Option<ConnectionId> {
        let place = self.next as u32;
        self.next = (self.next + 1) % EARLIER_MAX;
        let forgotten = self.remove(place).map(|attempt| attempt.connection);
        self.places[place as usize] = Some(attempt);
        self.by_id.insert(id_hash(attempt.connection, attempt.id), place);
        self.len += 1;
        self.check();
        forgotten
    }

    fn remove(&mut self, place: u32) -> Option<Attempt> {
        let attempt = self.places[place as usize].take()?;
        self.by_id.remove(id_hash(attempt.connection, attempt.id), place);
        self.len -= 1;
        self.check();
        Some(attempt)
    }

    /// Panics in debug builds if the count is not that of the places in use.
    fn check(&self) {
        debug_assert_eq!(self.len, self.places.iter().flatten().count());
    }
}

impl Exchanges {
    /// Ends the current attempt but keeps it as an earlier one, whose answer is accepted if it
    /// comes first. `None`: there is no attempt.
    pub(crate) fn leave_attempt(&mut self, slot: u32) -> Option<LeftBehind> {
        let (connection, id) = self.slots[slot as usize].attempt?;
        let exchange = self.key(slot);
        self.end_attempt(slot);
        let forgotten = self.earlier.remember(Attempt { connection, id, exchange });
        Some(LeftBehind { connection, forgotten })
    }

    /// Returns the exchange whose earlier attempt waits on `connection` for a response with `id`,
    /// or an error if that exchange has ended or waits no more. `None`: no such attempt is known.
    pub(crate) fn find_earlier(
        &self,
        connection: ConnectionId,
        id: u16,
    ) -> Option<Result<u32, ()>> {
        if self.earlier.len == 0 {
            return None;
        }
        let place = self.earlier.place(connection, id)?;
        let exchange = self.earlier.places[place as usize]?.exchange;
        let waiting = |slot: &u32| self.slots[*slot as usize].attempt.is_some();
        Some(self.slot(exchange).filter(waiting).ok_or(()))
    }

    /// Removes the earlier attempt, because its answer has come, or none will. Returns false if
    /// there is none.
    pub(crate) fn end_earlier(&mut self, connection: ConnectionId, id: u16) -> bool {
        let place = self.earlier.place(connection, id);
        place.map(|place| self.earlier.remove(place)).is_some()
    }

    /// Removes all earlier attempts on `connection`.
    pub(crate) fn end_all_earlier(&mut self, connection: ConnectionId) {
        if self.earlier.len == 0 {
            return;
        }
        for place in 0..EARLIER_MAX {
            let attempt = self.earlier.places[place];
            if attempt.is_some_and(|attempt| attempt.connection == connection) {
                self.earlier.remove(place as u32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Attempt, EARLIER_MAX, Earlier};
    use crate::engine::key::{ConnectionId, ExchangeKey, Key};

    fn attempt(number: u32) -> Attempt {
        let key = |index| Key { index, generation: 0 };
        let connection = ConnectionId(key(number % 7));
        Attempt { connection, id: number as u16, exchange: ExchangeKey(key(number)) }
    }

    #[test]
    fn the_oldest_is_forgotten_when_there_are_too_many() {
        let mut earlier = Earlier::new();
        let count = EARLIER_MAX as u32 + 10;
        for number in 0..count {
            let forgotten = earlier.remember(attempt(number));
            let oldest = number.checked_sub(EARLIER_MAX as u32);
            assert_eq!(forgotten, oldest.map(|number| attempt(number).connection));
        }
        assert_eq!(earlier.len, EARLIER_MAX);
        for number in 0..count {
            let Attempt { connection, id, .. } = attempt(number);
            assert_eq!(earlier.has(connection, id), number >= 10, "{number}");
        }
    }

    #[test]
    fn an_id_is_free_again_when_its_answer_has_come() {
        let mut earlier = Earlier::new();
        let Attempt { connection, id, .. } = attempt(3);
        earlier.remember(attempt(3));
        let place = earlier.place(connection, id).unwrap();
        assert!(earlier.remove(place).is_some() && !earlier.has(connection, id));
        assert_eq!(earlier.len, 0);
    }
}
