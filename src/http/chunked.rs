//! Bodies in chunks (RFC 9112 §7.1), decoded as they arrive.
//!
//! Lines must end with CRLF, and sizes be plain: an ambiguous body lets one request smuggle
//! another. Extensions and trailers are skipped. All bytes but the body's are bounded, so that a
//! body of one-byte chunks does not go on for ever.

/// Maximum number of bytes that are not the body's.
const OVERHEAD_MAX: usize = 32 << 10;
/// Maximum number of digits of a size.
const DIGITS_MAX: u8 = 8;

/// The body is not made of chunks, or has too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the digits of a size; the number of digits that were read.
    Size(u8),
    /// In the rest of the line of a size.
    Extension,
    /// Before the LF of that line.
    SizeEnd,
    Data,
    /// Behind a chunk's data.
    DataEnd,
    DataLineEnd,
    /// At the beginning of a line of the trailer.
    Trailer,
    TrailerLine,
    TrailerLineEnd,
    /// Before the LF of the last line.
    LastEnd,
}

/// Decoder of a body.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    left: u64,
    overhead: usize,
}

impl Chunked {
    /// Creates a decoder at the beginning of a body.
    pub(super) fn new() -> Self {
        Self { state: State::Size(0), left: 0, overhead: 0 }
    }

    /// Decodes `input`, and passes the bytes of the body to `take`. Returns the number of bytes
    /// decoded, which is all unless the body ends, and true if it ends there.
    pub(super) fn decode(
        &mut self,
        input: &[u8],
        mut take: impl FnMut(&[u8]),
    ) -> Result<(usize, bool), Malformed> {
        let mut at = 0;
        while let Some(byte) = input.get(at) {
            if self.state == State::Data {
                let rest = input.get(at..).unwrap_or_default();
                let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
                take(rest.get(..count).unwrap_or_default());
                self.left -= count as u64;
                at += count;
                if self.left == 0 {
                    self.state = State::DataEnd;
                }
                continue;
            }
            at += 1;
            self.overhead += 1;
            if self.overhead > OVERHEAD_MAX {
                return Err(Malformed);
            }
            if self.state == State::LastEnd && *byte == b'\n' {
                return Ok((at, true));
            }
            self.state = self.next(*byte)?;
        }
        Ok((at, false))
    }

    /// Returns the state behind a byte that is not the body's.
    fn next(&mut self, byte: u8) -> Result<State, Malformed> {
        match (self.state, byte) {
            (State::Size(digits), _) if byte.is_ascii_hexdigit() && digits < DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                self.left = self.left << 4 | u64::from(digit);
                Ok(State::Size(digits + 1))
            }
            (State::Size(1..) | State::Extension, b'\r') => Ok(State::SizeEnd),
            (State::Size(1..), b';' | b' ' | b'\t') => Ok(State::Extension),
            (State::Extension, _) if byte != b'\n' => Ok(State::Extension),
            (State::SizeEnd, b'\n') if self.left == 0 => Ok(State::Trailer),
            (State::SizeEnd, b'\n') => Ok(State::Data),
            (State::DataEnd, b'\r') => Ok(State::DataLineEnd),
            (State::DataLineEnd, b'\n') => Ok(State::Size(0)),
            (State::Trailer, b'\r') => Ok(State::LastEnd),
            (State::TrailerLine, b'\r') => Ok(State::TrailerLineEnd),
            (State::Trailer | State::TrailerLine, _) if byte != b'\n' => Ok(State::TrailerLine),
            (State::TrailerLineEnd, b'\n') => Ok(State::Trailer),
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Chunked, Malformed, OVERHEAD_MAX};

    /// Decodes `input` in pieces of `piece` bytes. Returns the body, and the bytes behind it.
    fn decoded(input: &[u8], piece: usize) -> Result<Option<(Vec<u8>, usize)>, Malformed> {
        let (mut chunked, mut body, mut at) = (Chunked::new(), Vec::new(), 0);
        while at < input.len() {
            let end = (at + piece).min(input.len());
            let (count, is_done) =
                chunked.decode(&input[at..end], |data| body.extend_from_slice(data))?;
            at += count;
            if is_done {
                return Ok(Some((body, input.len() - at)));
            }
        }
        Ok(None)
    }

    #[test]
    fn chunks_are_joined_wherever_they_are_cut() {
        let input =
            b"3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n001 \r\n!\r\n0\r\nt: u\r\nv: w\r\n\r\nGET";
        for piece in 1..=input.len() {
            let expected = Ok(Some((b"abc0123456789!".to_vec(), 3)));
            assert_eq!(decoded(input, piece), expected, "{piece}");
        }
        for cut in 0..input.len() - 3 {
            assert_eq!(decoded(&input[..cut], 7), Ok(None), "{cut}");
        }
    }

    #[test]
    fn ambiguous_chunks_are_refused() {
        for input in [
            "\r\n",
            "3\nabc",
            "-3\r\n",
            "+3\r\n",
            "0x3\r\n",
            " 3\r\n",
            "g\r\n",
            "3\r\nabcd\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "3\rX",
            "0\r\n\n",
            "0\r\nt: u\nv: w\r\n\r\n",
            "123456789\r\n",
            "3;a\nb\r\nabc",
            "0\r\nt: u\rX",
        ] {
            for piece in [1, 100] {
                assert_eq!(decoded(input.as_bytes(), piece), Err(Malformed), "{input:?}");
            }
        }
        let tiny = b"1\r\nx\r\n".repeat(OVERHEAD_MAX);
        assert_eq!(decoded(&tiny, 1_000), Err(Malformed));
        let extension = [&b"1;"[..], &[b'x'; OVERHEAD_MAX + 1]].concat();
        assert_eq!(decoded(&extension, 1_000), Err(Malformed));
    }
}
