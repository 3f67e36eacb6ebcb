//! Responses that wait for their time.
//!
//! A heap of instants and a slab of buffers that are used again, so that nothing is allocated once
//! as many have waited as ever will. Those with the same instant leave in the order they came.
//! Pure.

use crate::moment::Moment;
use crate::sys::pktinfo::Local;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

/// Responses that wait at once; more are dropped, and counted: a million queries a second with a
/// quarter of a second's delay.
const WAITING_MAX: usize = 262_144;

/// Recipient of a response.
#[derive(Clone, Copy, Debug)]
pub(super) enum Recipient {
    /// Sender of a datagram to the endpoint with this number.
    Peer {
        /// The endpoint.
        endpoint: u16,
        /// Address of the sender.
        peer: SocketAddr,
        /// Local address that received the datagram.
        local: Option<Local>,
    },
    /// The connection in this slot, if it is still the one that had this serial number.
    Stream {
        /// The slot.
        slot: usize,
        /// The number.
        serial: u64,
    },
}

struct Entry {
    bytes: Vec<u8>,
    recipient: Recipient,
}

/// Responses that wait.
#[derive(Default)]
pub(super) struct Delayed {
    heap: BinaryHeap<Reverse<(Moment, u64, u32)>>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    pushed: u64,
}

impl Delayed {
    /// Returns the instant at which the first is due.
    pub(super) fn next(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse((due, ..))| *due)
    }

    /// Has a response wait until `due`; `false` if too many wait already.
    pub(super) fn push(&mut self, due: Moment, response: &[u8], recipient: Recipient) -> bool {
        if self.heap.len() == WAITING_MAX {
            return false;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { bytes: Vec::new(), recipient });
            (self.entries.len() - 1) as u32
        });
        let entry = &mut self.entries[slot as usize];
        entry.bytes.clear();
        entry.bytes.extend_from_slice(response);
        entry.recipient = recipient;
        self.heap.push(Reverse((due, self.pushed, slot)));
        self.pushed += 1;
        true
    }

    /// The endpoint whose datagram is the next response that is due `now`.
    pub(super) fn peek(&self, now: Moment) -> Option<u16> {
        let Reverse((due, _, slot)) = self.heap.peek()?;
        match self.entries[*slot as usize].recipient {
            Recipient::Peer { endpoint, .. } if *due <= now => Some(endpoint),
            _ => None,
        }
    }

    /// The next response that is due `now`, and who gets it.
    pub(super) fn pop(&mut self, now: Moment) -> Option<(&[u8], Recipient)> {
        self.next().filter(|&due| due <= now)?;
        let Reverse((_, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        let Entry { bytes, recipient } = &self.entries[slot as usize];
        Some((bytes, *recipient))
    }
}

#[cfg(test)]
mod tests {
    use super::{Delayed, Recipient, WAITING_MAX};
    use crate::moment::Moment;

    const STREAM: Recipient = Recipient::Stream { slot: 0, serial: 0 };

    fn at(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    #[test]
    fn they_leave_in_the_order_of_their_instants() {
        let mut delayed = Delayed::default();
        for (due, byte) in [(30, b'c'), (10, b'a'), (30, b'd'), (20, b'b')] {
            assert!(delayed.push(at(due), &[byte], STREAM));
        }
        assert_eq!((delayed.next(), delayed.pop(at(9)).is_none()), (Some(at(10)), true));
        let mut left = Vec::new();
        while let Some((bytes, _)) = delayed.pop(at(30)) {
            left.push(bytes[0]);
        }
        assert_eq!((left, delayed.next()), (b"abcd".to_vec(), None));
        assert!(delayed.push(at(1), b"e", STREAM));
        assert_eq!(delayed.entries.len(), 4, "buffers are used again");
    }

    #[test]
    fn they_are_bounded() {
        let mut delayed = Delayed::default();
        let taken = (0..=WAITING_MAX).filter(|_| delayed.push(at(1), b"", STREAM)).count();
        assert_eq!(taken, WAITING_MAX);
    }
}
