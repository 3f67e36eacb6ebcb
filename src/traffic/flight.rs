//! The queries that one client socket has outstanding.
//!
//! A [`Flight`] is a fixed number of slots, each with one query as it was sent and the moment it
//! was. The low bits of a query's id are its slot's number, the others are random: an answer finds
//! its slot without a table, and one that comes after its slot was given up or filled anew finds
//! nobody. Every query ends in one of three ways: answered, mismatched or lost. Pure.

use super::answer;
use super::query::{QUERY_LEN_MAX, QueryMaker};
use super::wire::u16_at;
use crate::moment::Moment;
use std::time::Duration;

/// Slots of one flight: so many leave four bits of an id to chance.
pub(super) const SLOTS_MAX: usize = 4096;

/// Outcome of an incoming message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landing {
    /// The right answer, this long after its query.
    Answered(Duration),
    /// For an outstanding query, but not its answer. The query is done with.
    Mismatched,
    /// For no outstanding query: late, a duplicate, or nothing of ours.
    Unknown,
}

/// One query.
#[derive(Clone)]
struct Slot {
    packet: [u8; QUERY_LEN_MAX],
    length: usize,
    sent: Option<Moment>,
}

/// The outstanding queries of a socket.
pub(super) struct Flight {
    slots: Vec<Slot>,
    free: Vec<u16>,
    mask: u16,
}

impl Flight {
    /// Room for `capacity` outstanding queries, at most [`SLOTS_MAX`].
    pub(super) fn new(capacity: usize) -> Self {
        assert!(capacity <= SLOTS_MAX, "the caller keeps to SLOTS_MAX");
        let empty = Slot { packet: [0; QUERY_LEN_MAX], length: 0, sent: None };
        Self {
            slots: vec![empty; capacity],
            free: (0..capacity as u16).rev().collect(),
            mask: capacity.next_power_of_two() as u16 - 1,
        }
    }

    /// Returns the number of queries that still fit.
    pub(super) fn vacancies(&self) -> usize {
        self.free.len()
    }

    /// No query is outstanding.
    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Makes a query, sent `now`, and returns its slot; `None` if all are taken.
    pub(super) fn launch(&mut self, maker: &mut QueryMaker, now: Moment) -> Option<u16> {
        let number = self.free.pop()?;
        let slot = &mut self.slots[usize::from(number)];
        slot.length = maker.write(number, self.mask, &mut slot.packet);
        slot.sent = Some(now);
        Some(number)
    }

    /// The query in `slot`, as sent.
    pub(super) fn packet(&self, slot: u16) -> &[u8] {
        let slot = &self.slots[usize::from(slot)];
        &slot.packet[..slot.length]
    }

    /// Frees the slot of a query that was never sent.
    pub(super) fn recall(&mut self, slot: u16) {
        self.slots[usize::from(slot)].sent = None;
        self.free.push(slot);
    }

    /// Takes in a message that arrived `now`.
    pub(super) fn land(&mut self, message: &[u8], now: Moment) -> Landing {
        let Some(id) = u16_at(message, 0) else { return Landing::Unknown };
        let number = id & self.mask;
        let Some(slot) = self.slots.get_mut(usize::from(number)) else { return Landing::Unknown };
        let query = &slot.packet[..slot.length];
        let Some(sent) = slot.sent.filter(|_| query[..2] == message[..2]) else {
            return Landing::Unknown;
        };
        let right = answer::is_right(query, message);
        slot.sent = None;
        self.free.push(number);
        if right { Landing::Answered(now.since(sent)) } else { Landing::Mismatched }
    }

    /// Gives up the queries that have waited for `patience`; returns how many.
    pub(super) fn give_up(&mut self, now: Moment, patience: Duration) -> u64 {
        let mut lost = 0;
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if slot.sent.is_some_and(|sent| now.since(sent) >= patience) {
                slot.sent = None;
                self.free.push(number as u16);
                lost += 1;
            }
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::{Flight, Landing};
    use crate::moment::Moment;
    use crate::traffic::answer::{Behaviour, RESPONSE_LEN_MAX, respond};
    use crate::traffic::query::QueryMaker;
    use std::time::Duration;

    const SENT: Moment = Moment::ZERO;
    const LATER: Moment = Moment::from_nanos(1_500);

    fn response(flight: &Flight, slot: u16, behaviour: Behaviour) -> Vec<u8> {
        let mut buffer = [0; RESPONSE_LEN_MAX];
        let length = respond(flight.packet(slot), behaviour, &mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    #[test]
    fn a_right_answer_lands_once() {
        let (mut flight, mut maker) = (Flight::new(3), QueryMaker::new(1));
        let slot = flight.launch(&mut maker, SENT).unwrap();
        let answer = response(&flight, slot, Behaviour::Answer);
        assert_eq!(flight.land(&answer, LATER), Landing::Answered(Duration::from_nanos(1_500)));
        assert_eq!(flight.land(&answer, LATER), Landing::Unknown);
        assert!(flight.is_empty());
    }

    #[test]
    fn a_wrong_answer_ends_its_query() {
        let (mut flight, mut maker) = (Flight::new(3), QueryMaker::new(1));
        let slot = flight.launch(&mut maker, SENT).unwrap();
        let lie = response(&flight, slot, Behaviour::Lie);
        assert_eq!(flight.land(&lie, LATER), Landing::Mismatched);
        assert!(flight.is_empty());
    }

    #[test]
    fn an_answer_to_a_former_query_of_the_slot_finds_nobody() {
        let (mut flight, mut maker) = (Flight::new(1), QueryMaker::new(1));
        let slot = flight.launch(&mut maker, SENT).unwrap();
        let late = response(&flight, slot, Behaviour::Answer);
        assert_eq!(flight.give_up(LATER, Duration::from_nanos(1_501)), 0);
        assert_eq!(flight.give_up(LATER, Duration::from_nanos(1_500)), 1);
        flight.launch(&mut maker, LATER).unwrap();
        assert_eq!(flight.land(&late, LATER), Landing::Unknown);
        assert!(!flight.is_empty());
    }

    #[test]
    fn a_message_that_is_short_or_names_no_slot_finds_nobody() {
        let (mut flight, mut maker) = (Flight::new(3), QueryMaker::new(1));
        flight.launch(&mut maker, SENT).unwrap();
        for message in [&b""[..], b"\x00", b"\x00\x03", b"\x00\x01"] {
            assert_eq!(flight.land(message, LATER), Landing::Unknown);
        }
    }

    #[test]
    fn slots_are_bounded_and_a_recalled_one_is_free() {
        let (mut flight, mut maker) = (Flight::new(2), QueryMaker::new(1));
        let slots = [flight.launch(&mut maker, SENT), flight.launch(&mut maker, SENT)];
        assert_eq!((slots, flight.launch(&mut maker, SENT)), ([Some(0), Some(1)], None));
        flight.recall(1);
        assert_eq!((flight.vacancies(), flight.launch(&mut maker, SENT)), (1, Some(1)));
    }
}
