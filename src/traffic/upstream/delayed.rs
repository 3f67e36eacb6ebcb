//! Delayed responses.
//!
//! A heap of send times and a slab of reused buffers, so that nothing is allocated once the maximum
//! number of responses has waited. Responses with the same time are sent in the order of arrival.
//! Pure.

use crate::engine::key::ConnectionKey;
use crate::moment::Moment;
use crate::sys::pktinfo::Local;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

/// Maximum number of waiting responses; more are dropped and counted. Enough for a million queries
/// per second with a quarter of a second's delay.
const WAITING_MAX: usize = 262_144;

/// Recipient of a response.
#[derive(Clone, Copy, Debug)]
pub(super) enum Recipient {
    /// The sender of a datagram.
    Peer {
        /// Number of the endpoint that received the datagram.
        endpoint: u16,
        /// Address of the sender.
        peer: SocketAddr,
        /// Local address that received the datagram.
        local: Option<Local>,
    },
    /// The connection in this slot, if its serial number is still the same, and its request.
    Connection { slot: usize, serial: u64, request: u32 },
    /// The stream of a connection over QUIC, if that still exists.
    Stream {
        /// Number of the endpoint that has the connection.
        endpoint: u16,
        key: ConnectionKey,
        stream: u32,
    },
}

struct Entry {
    bytes: Vec<u8>,
    recipient: Recipient,
}

/// Waiting responses.
#[derive(Default)]
pub(super) struct Delayed {
    heap: BinaryHeap<Reverse<(Moment, u64, u32)>>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    pushed: u64,
}

impl Delayed {
    /// Returns the send time of the first response.
    pub(super) fn next(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse((due, ..))| *due)
    }

    /// Adds a response to be sent at `due`; `false` if too many wait already.
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

    /// Returns the endpoint of the next response that is due `now`, if it is a datagram.
    pub(super) fn peek(&self, now: Moment) -> Option<u16> {
        let Reverse((due, _, slot)) = self.heap.peek()?;
        match self.entries[*slot as usize].recipient {
            Recipient::Peer { endpoint, .. } if *due <= now => Some(endpoint),
            _ => None,
        }
    }

    /// Returns the next response that is due `now`, and its recipient.
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

    const CONNECTION: Recipient = Recipient::Connection { slot: 0, serial: 0, request: 0 };

    fn at(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    #[test]
    fn responses_are_sent_in_the_order_of_their_times() {
        let mut delayed = Delayed::default();
        for (due, byte) in [(30, b'c'), (10, b'a'), (30, b'd'), (20, b'b')] {
            assert!(delayed.push(at(due), &[byte], CONNECTION));
        }
        assert_eq!((delayed.next(), delayed.pop(at(9)).is_none()), (Some(at(10)), true));
        let mut left = Vec::new();
        while let Some((bytes, _)) = delayed.pop(at(30)) {
            left.push(bytes[0]);
        }
        assert_eq!((left, delayed.next()), (b"abcd".to_vec(), None));
        assert!(delayed.push(at(1), b"e", CONNECTION));
        assert_eq!(delayed.entries.len(), 4, "buffers are used again");
    }

    #[test]
    fn waiting_responses_are_bounded() {
        let mut delayed = Delayed::default();
        let taken = (0..=WAITING_MAX).filter(|_| delayed.push(at(1), b"", CONNECTION)).count();
        assert_eq!(taken, WAITING_MAX);
    }
}
