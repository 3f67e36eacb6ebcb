//! Messages on a connection, each with its length in two bytes (RFC 1035 §4.2.2).
//!
//! [`Inbox`] takes received bytes, in any pieces, and returns whole messages; [`Outbox`] takes
//! messages and returns the bytes to send. Both are bounded, start small and grow only with their
//! contents, so thousands of idle connections cost little and a hostile one costs its bound.
//! Neither uses sockets: the caller does `read` and `write`.

/// Length of the prefix.
const PREFIX_LEN: usize = 2;
/// Initial size of a buffer: a few ordinary queries or answers.
const ROOM_FIRST: usize = 1024;

/// Received bytes, including incomplete messages.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Number of bytes to skip of a message whose beginning was taken.
    passing: usize,
}

/// A message is longer than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Inbox {
    /// Maximum memory of an inbox of messages of at most `len_max` bytes.
    pub(crate) fn bytes_max(len_max: usize) -> usize {
        let mut room = ROOM_FIRST;
        while room < PREFIX_LEN + len_max {
            room *= 2;
        }
        room
    }

    /// Returns the buffer to read into, never empty.
    pub fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.bytes.len() {
            self.bytes.resize((2 * self.end).max(ROOM_FIRST), 0);
        }
        &mut self.bytes[self.end..]
    }

    /// Records that the first `count` bytes of the buffer were filled.
    pub fn filled(&mut self, count: usize) {
        self.end += count;
        debug_assert!(self.end <= self.bytes.len(), "filled more than there was room for");
    }

    /// Returns the next whole message, if there is one.
    ///
    /// # Errors
    /// The next message is longer than `len_max`, so the connection is useless.
    pub fn next(&mut self, len_max: usize) -> Result<Option<&[u8]>, TooLong> {
        let waiting = self.waiting();
        let Some(prefix) = waiting.first_chunk::<PREFIX_LEN>() else { return Ok(None) };
        let len = usize::from(u16::from_be_bytes(*prefix));
        if len > len_max {
            return Err(TooLong);
        }
        if waiting.len() < PREFIX_LEN + len {
            return Ok(None);
        }
        let message = self.start + PREFIX_LEN;
        self.start = message + len;
        Ok(Some(&self.bytes[message..message + len]))
    }

    /// Returns the next message, if there is one, and true if it was cut: of a message longer than
    /// `len_max` the first `len_max` bytes are returned, and the rest is skipped as it arrives.
    pub(crate) fn next_or_beginning(&mut self, len_max: usize) -> Option<(&[u8], bool)> {
        let passed = self.passing.min(self.end - self.start);
        self.start += passed;
        self.passing -= passed;
        let waiting = &self.bytes[self.start..self.end];
        let prefix = waiting.first_chunk::<PREFIX_LEN>().filter(|_| self.passing == 0)?;
        let whole = usize::from(u16::from_be_bytes(*prefix));
        let len = whole.min(len_max);
        if waiting.len() < PREFIX_LEN + len {
            return None;
        }
        let message = self.start + PREFIX_LEN;
        self.start = message + len;
        self.passing = whole - len;
        Some((&self.bytes[message..message + len], len < whole))
    }

    /// Returns the received bytes that were not taken.
    pub(crate) fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Removes the first `count` bytes, because they were taken.
    pub(crate) fn taken(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end, "took more than was received");
    }

    /// Returns true if the rest of a message is missing.
    pub fn is_within_message(&self) -> bool {
        self.start < self.end || self.passing > 0
    }
}

/// Bytes of whole messages to send.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    start: usize,
}

/// The peer reads too slowly, so the queue has reached its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Outbox {
    /// Maximum memory of an outbox of messages of at most `len_max` bytes that are only added while
    /// no more than `waiting_max` bytes wait: a vector grows by doubling.
    pub(crate) fn bytes_max(len_max: usize, waiting_max: usize) -> usize {
        2 * (waiting_max + PREFIX_LEN + len_max)
    }

    /// Lets `write` fill a buffer with a message of at most `len_max` bytes, and queues as many as
    /// it returns.
    ///
    /// # Errors
    /// More than `waiting_max` bytes wait already; `write` was not called.
    pub fn push(
        &mut self,
        len_max: usize,
        waiting_max: usize,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), Full> {
        if self.waiting().len() > waiting_max {
            return Err(Full);
        }
        self.compact();
        let prefix = self.bytes.len();
        let message = prefix + PREFIX_LEN;
        self.bytes.resize(message + len_max.min(usize::from(u16::MAX)), 0);
        let len = write(&mut self.bytes[message..]);
        self.bytes[prefix..message].copy_from_slice(&(len as u16).to_be_bytes());
        self.bytes.truncate(message + len);
        Ok(())
    }

    /// Lends the buffer to `write`, which appends bytes of another framing.
    pub(crate) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.compact();
        write(&mut self.bytes);
    }

    /// Removes the bytes that were written.
    fn compact(&mut self) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }

    /// Returns the next bytes to write; empty if there are none.
    pub fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Removes the first `count` bytes, because they were written.
    pub fn written(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.bytes.len(), "wrote more than waited");
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Full, Inbox, Outbox, TooLong};

    const MESSAGES: [&[u8]; 4] = [b"one", b"", b"a longer one", b"x"];

    fn stream() -> Vec<u8> {
        let mut outbox = Outbox::default();
        for message in MESSAGES {
            let write = |room: &mut [u8]| {
                room[..message.len()].copy_from_slice(message);
                message.len()
            };
            outbox.push(100, 1_000, write).unwrap();
        }
        outbox.waiting().to_vec()
    }

    fn feed(inbox: &mut Inbox, mut bytes: &[u8], messages: &mut Vec<Vec<u8>>) {
        while !bytes.is_empty() {
            let room = inbox.room();
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            inbox.filled(count);
            bytes = &bytes[count..];
            while let Some(message) = inbox.next(100).unwrap() {
                messages.push(message.to_vec());
            }
        }
    }

    #[test]
    fn messages_come_whole_however_the_connection_is_split() {
        let stream = stream();
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let (mut inbox, mut messages) = (Inbox::default(), Vec::new());
                for piece in [&stream[..first], &stream[first..second], &stream[second..]] {
                    feed(&mut inbox, piece, &mut messages);
                }
                assert_eq!(messages, MESSAGES, "split at {first} and {second}");
                assert!(!inbox.is_within_message());
            }
        }
    }

    #[test]
    fn a_million_messages_need_no_more_room_than_one() {
        let mut inbox = Inbox::default();
        for _ in 0..100_000 {
            let mut messages = Vec::new();
            feed(&mut inbox, &[0, 5, 1, 2, 3], &mut messages);
            assert!(messages.is_empty() && inbox.is_within_message());
            feed(&mut inbox, &[4, 5], &mut messages);
            assert_eq!(messages, [[1, 2, 3, 4, 5]]);
        }
        assert!(inbox.bytes.len() <= 1024);
    }

    #[test]
    fn a_message_beyond_the_bound_ends_the_connection_before_it_costs_memory() {
        let mut inbox = Inbox::default();
        let room = inbox.room();
        room[..2].copy_from_slice(&[0xff, 0xff]);
        inbox.filled(2);
        assert_eq!(inbox.next(512), Err(TooLong));
        assert_eq!(inbox.next(65_535), Ok(None));
    }

    #[test]
    fn of_a_message_beyond_the_bound_only_the_beginning_is_returned() {
        let stream = [&[0, 9][..], b"too long!", &[0, 4], b"next", &[0, 5], b"again"].concat();
        for split in 0..=stream.len() {
            let (mut inbox, mut messages) = (Inbox::default(), Vec::new());
            for piece in [&stream[..split], &stream[split..]] {
                inbox.room()[..piece.len()].copy_from_slice(piece);
                inbox.filled(piece.len());
                while let Some((message, cut)) = inbox.next_or_beginning(4) {
                    messages.push((message.to_vec(), cut));
                }
            }
            let expected =
                [(b"too ".to_vec(), true), (b"next".to_vec(), false), (b"agai".to_vec(), true)];
            assert_eq!(messages, expected, "split at {split}");
            assert!(!inbox.is_within_message());
        }
    }

    #[test]
    fn the_longest_message_takes_no_more_room_than_the_bound() {
        let mut inbox = Inbox::default();
        let stream = [&[0xff, 0xff][..], &[7; 65_535]].concat().repeat(3);
        let mut cut = 0;
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let room = inbox.room();
            let count = room.len().min(rest.len());
            room[..count].copy_from_slice(&rest[..count]);
            inbox.filled(count);
            rest = &rest[count..];
            while let Some((message, true)) = inbox.next_or_beginning(2_000) {
                assert_eq!(message, [7; 2_000]);
                cut += 1;
            }
        }
        assert!(cut == 3 && inbox.bytes.len() <= Inbox::bytes_max(2_000));
    }

    #[test]
    fn writing_in_pieces_continues_where_it_stopped() {
        let stream = stream();
        for piece in 1..stream.len() {
            let mut outbox = Outbox { bytes: stream.clone(), start: 0 };
            let mut carried = Vec::new();
            while !outbox.waiting().is_empty() {
                let count = piece.min(outbox.waiting().len());
                carried.extend_from_slice(&outbox.waiting()[..count]);
                outbox.written(count);
            }
            assert_eq!(carried, stream);
        }
    }

    #[test]
    fn a_slow_reader_costs_its_bound_and_no_more() {
        let mut outbox = Outbox::default();
        let mut refused = 0;
        for _ in 0..100 {
            refused += i32::from(outbox.push(512, 4_096, |_| 512) == Err(Full));
        }
        assert!(outbox.waiting().len() <= 4_096 + 514 && refused > 80);
    }
}
