//! Records in a stream of bytes, read one after the other.
//!
//! The stream may end anywhere, and its bytes may have changed: a record is passed on if it is
//! whole.

use crate::engine::cache::carry::{Head, PREFACE};
use std::io::{self, BufReader, Read};

/// Length of the buffer in bytes.
const BUFFER_LEN: usize = 256 << 10;

/// A reader of records.
pub(super) struct Records<R> {
    from: BufReader<R>,
    body: Vec<u8>,
}

/// Content of a stream at its present place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    /// A record: its number and its body.
    Record(u32, &'a [u8]),
    /// The stream ends here, maybe within a record.
    End,
    /// The bytes are no record.
    Damaged,
}

impl<R: Read> Records<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from: BufReader::with_capacity(BUFFER_LEN, from), body: Vec::new() }
    }

    /// Returns the source of the bytes.
    pub(super) fn source(&self) -> &R {
        self.from.get_ref()
    }

    /// Reads the first bytes. Returns false if they are others than those of this version.
    ///
    /// # Errors
    /// They could not be read.
    pub(super) fn begin(&mut self) -> io::Result<bool> {
        let mut preface = [0; PREFACE.len()];
        self.from.read_exact(&mut preface)?;
        Ok(preface == PREFACE)
    }

    /// Reads the next record.
    ///
    /// # Errors
    /// It could not be read.
    pub(super) fn next(&mut self) -> io::Result<Next<'_>> {
        let mut bytes = [0; Head::LEN];
        if !is_whole(self.from.read_exact(&mut bytes))? {
            return Ok(Next::End);
        }
        let Some(head) = Head::parse(&bytes) else { return Ok(Next::Damaged) };
        self.body.resize(head.len, 0);
        if !is_whole(self.from.read_exact(&mut self.body))? {
            return Ok(Next::End);
        }
        if !head.matches(&self.body) {
            return Ok(Next::Damaged);
        }
        Ok(Next::Record(head.number, &self.body))
    }
}

/// Returns false for the error that the stream ends too early.
fn is_whole(read: io::Result<()>) -> io::Result<bool> {
    match read {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::{Next, Records};
    use crate::engine::cache::carry::{PREFACE, append};

    fn stream() -> Vec<u8> {
        let mut bytes = PREFACE.to_vec();
        append(&mut bytes, 7, &[b"one", b" and two"]);
        append(&mut bytes, 8, &[]);
        bytes
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let bytes = stream();
        let mut records = Records::new(&bytes[..]);
        assert!(records.begin().unwrap());
        assert_eq!(records.next().unwrap(), Next::Record(7, b"one and two"));
        assert_eq!(records.next().unwrap(), Next::Record(8, b""));
        assert_eq!(records.next().unwrap(), Next::End);
    }

    #[test]
    fn a_stream_may_end_anywhere() {
        let bytes = stream();
        for len in PREFACE.len()..bytes.len() {
            let mut records = Records::new(&bytes[..len]);
            records.begin().unwrap();
            let whole = (0..3).take_while(|_| records.next().unwrap() != Next::End).count();
            assert_eq!(whole, usize::from(len >= PREFACE.len() + 16 + 11), "{len}");
        }
    }

    #[test]
    fn a_changed_bit_is_noticed() {
        let bytes = stream();
        for bit in 8 * PREFACE.len()..8 * bytes.len() {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let mut records = Records::new(&changed[..]);
            records.begin().unwrap();
            let mut good = 0;
            while let Next::Record(number, body) = records.next().unwrap() {
                assert!((number, body) == (7, b"one and two") || (number, body) == (8, b""));
                good += 1;
            }
            assert!(good < 2, "{bit}");
        }
    }

    #[test]
    fn another_version_is_noticed() {
        let mut bytes = stream();
        bytes[12] ^= 3;
        assert!(!Records::new(&bytes[..]).begin().unwrap());
        assert!(Records::new(&bytes[..9]).begin().is_err());
    }
}
