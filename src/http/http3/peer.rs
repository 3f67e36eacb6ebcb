//! The unidirectional streams of a client (RFC 9114 §6.2): control, encoder, decoder, others.
//!
//! Of the control stream the settings are checked and nothing is used, because this side sends no
//! pushes and no request. The streams of QPACK may say only what holds for an empty table. Streams
//! of other types are refused, as the protocol wants it of those that are not known.

use super::frames::{Frames, Part, kind, take_number};
use super::{Violation, code, qpack};

/// Types of streams.
const CONTROL: u64 = 0;
const PUSH: u64 = 1;
const ENCODER: u64 = 2;
const DECODER: u64 = 3;

/// Maximum length of the settings.
const SETTINGS_LEN_MAX: u64 = 1_024;
/// Maximum length of a frame with one number.
const NUMBER_LEN_MAX: u64 = 8;
/// Bytes of unknown frames that cost a point beside that of each frame.
const SKIPPED_EACH: usize = 1_024;
/// Maximum length of an instruction of QPACK: one byte, and a number of 32 bits.
const INSTRUCTION_LEN_MAX: usize = 6;
/// Settings that must not be sent: those of HTTP/2 (RFC 9114 §7.2.4.1).
const RESERVED_SETTINGS: [u64; 5] = [0x0, 0x2, 0x3, 0x4, 0x5];

/// Result of bytes on a stream that break no rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Points for bytes without use.
    pub points: u32,
    /// The stream is not wanted.
    pub is_refused: bool,
}

/// The unidirectional streams of a client.
#[derive(Debug, Default)]
pub struct PeerStreams {
    /// Streams that have begun: number, and state.
    streams: Vec<(u64, Stream)>,
    has_control: bool,
    has_encoder: bool,
    has_decoder: bool,
}

#[derive(Debug)]
enum Stream {
    /// The type is not complete.
    Beginning(Vec<u8>),
    Control(Box<Control>),
    /// A beginning of an instruction.
    Encoder(Vec<u8>),
    Decoder(Vec<u8>),
}

impl Heard {
    /// Result of a stream that was reset.
    pub(crate) const RESET: Self = Self { points: 1, is_refused: false };
}

impl PeerStreams {
    /// Takes what has arrived on the stream with this number. `is_ended`: nothing follows.
    ///
    /// # Errors
    /// The client breaks a rule; the connection must be closed.
    pub fn receive(
        &mut self,
        number: u64,
        bytes: &[u8],
        is_ended: bool,
    ) -> Result<Heard, Violation> {
        let mut bytes = bytes;
        let mut heard = Heard::default();
        let place = match self.streams.iter().position(|(known, _)| *known == number) {
            Some(place) => place,
            None => {
                self.streams.push((number, Stream::Beginning(Vec::new())));
                self.streams.len() - 1
            }
        };
        let Self { streams, has_control, has_encoder, has_decoder } = self;
        let Some((_, stream)) = streams.get_mut(place) else { return Ok(heard) };
        if let Stream::Beginning(begun) = stream {
            let Some(kind) = take_type(begun, &mut bytes) else {
                if is_ended {
                    // It may end before its type (RFC 9114 §6.2).
                    streams.remove(place);
                    heard.points = 1;
                }
                return Ok(heard);
            };
            let (has_one, opened) = match kind {
                CONTROL => (has_control, Stream::Control(Box::default())),
                ENCODER => (has_encoder, Stream::Encoder(Vec::new())),
                DECODER => (has_decoder, Stream::Decoder(Vec::new())),
                PUSH => return Err(Violation::Connection(code::STREAM_CREATION_ERROR)),
                _ => {
                    streams.remove(place);
                    return Ok(Heard { points: 1, is_refused: !is_ended });
                }
            };
            if std::mem::replace(has_one, true) {
                return Err(Violation::Connection(code::STREAM_CREATION_ERROR));
            }
            *stream = opened;
        }
        heard.points = match stream {
            Stream::Beginning(_) => 0,
            Stream::Control(control) => control.receive(bytes)?,
            Stream::Encoder(begun) => instructions(begun, bytes, encoder_instruction)?,
            Stream::Decoder(begun) => instructions(begun, bytes, decoder_instruction)?,
        };
        if is_ended {
            return Err(Violation::Connection(code::CLOSED_CRITICAL_STREAM));
        }
        Ok(heard)
    }

    /// Handles the reset of the stream with this number.
    ///
    /// # Errors
    /// The connection needs the stream, and must be closed.
    pub(crate) fn reset(&mut self, number: u64) -> Result<(), Violation> {
        let Some(place) = self.streams.iter().position(|(known, _)| *known == number) else {
            return Ok(());
        };
        match self.streams.swap_remove(place).1 {
            Stream::Beginning(_) => Ok(()),
            _ => Err(Violation::Connection(code::CLOSED_CRITICAL_STREAM)),
        }
    }

    /// Number of streams that have begun and are not refused.
    pub fn count(&self) -> usize {
        self.streams.len()
    }
}

/// Takes the type of a stream, part of which may have `begun`. `None`: it is not complete.
fn take_type(begun: &mut Vec<u8>, bytes: &mut &[u8]) -> Option<u64> {
    while let Some((first, rest)) = bytes.split_first() {
        begun.push(*first);
        *bytes = rest;
        if let Some(kind) = take_number(&mut &begun[..]) {
            return Some(kind);
        }
    }
    None
}

/// The control stream.
#[derive(Debug, Default)]
struct Control {
    frames: Frames,
    /// Type of the frame, if its payload is collected.
    kind: Option<u64>,
    payload: Vec<u8>,
    has_settings: bool,
    /// Bytes of unknown frames that were not charged yet.
    skipped: usize,
    /// Number in the last GOAWAY, which only falls.
    last_accepted: Option<u64>,
    /// Number in the last MAX_PUSH_ID, which only grows.
    push_max: u64,
}

impl Control {
    /// Takes bytes. Returns points for those without use.
    fn receive(&mut self, mut bytes: &[u8]) -> Result<u32, Violation> {
        let mut points = 0;
        while let Some(part) = self.frames.next(&mut bytes) {
            match part {
                Part::Begins(kind, len) => points += self.begin(kind, len)?,
                Part::Payload(payload) if self.kind.is_some() => {
                    self.payload.extend_from_slice(payload);
                }
                Part::Payload(payload) => {
                    self.skipped += payload.len();
                    points += (self.skipped / SKIPPED_EACH) as u32;
                    self.skipped %= SKIPPED_EACH;
                }
                Part::Ends => self.end()?,
            }
        }
        Ok(points)
    }

    /// Handles the type and the length of a frame.
    fn begin(&mut self, kind: u64, len: u64) -> Result<u32, Violation> {
        let error = |code| Err(Violation::Connection(code));
        self.payload.clear();
        self.kind = None;
        match kind {
            kind::SETTINGS if self.has_settings => return error(code::FRAME_UNEXPECTED),
            kind::SETTINGS if len > SETTINGS_LEN_MAX => return error(code::EXCESSIVE_LOAD),
            kind::SETTINGS => {
                self.has_settings = true;
                self.kind = Some(kind);
                return Ok(0);
            }
            _ if !self.has_settings => return error(code::MISSING_SETTINGS),
            kind::DATA | kind::HEADERS | kind::PUSH_PROMISE => {
                return error(code::FRAME_UNEXPECTED);
            }
            kind if kind::OF_HTTP2.contains(&kind) => return error(code::FRAME_UNEXPECTED),
            kind::CANCEL_PUSH | kind::GOAWAY | kind::MAX_PUSH_ID => {
                if !(1..=NUMBER_LEN_MAX).contains(&len) {
                    return error(code::FRAME_ERROR);
                }
                self.kind = Some(kind);
            }
            _ => {}
        }
        Ok(1)
    }

    /// Handles a frame that is complete.
    fn end(&mut self) -> Result<(), Violation> {
        let error = |code| Err(Violation::Connection(code));
        let Some(kind) = self.kind.take() else { return Ok(()) };
        let payload = std::mem::take(&mut self.payload);
        let mut rest = &payload[..];
        if kind == kind::SETTINGS {
            return check_settings(rest);
        }
        let number = take_number(&mut rest).filter(|_| rest.is_empty());
        let Some(number) = number else { return error(code::FRAME_ERROR) };
        match kind {
            kind::GOAWAY if self.last_accepted.is_some_and(|last| number > last) => {
                error(code::ID_ERROR)
            }
            kind::GOAWAY => {
                self.last_accepted = Some(number);
                Ok(())
            }
            kind::MAX_PUSH_ID if number < self.push_max => error(code::ID_ERROR),
            kind::MAX_PUSH_ID => {
                self.push_max = number;
                Ok(())
            }
            // No push was promised.
            _ => error(code::ID_ERROR),
        }
    }
}

/// Checks settings: pairs of a number and a value.
fn check_settings(mut rest: &[u8]) -> Result<(), Violation> {
    let mut known = Vec::new();
    while !rest.is_empty() {
        let (Some(setting), Some(_)) = (take_number(&mut rest), take_number(&mut rest)) else {
            return Err(Violation::Connection(code::FRAME_ERROR));
        };
        if RESERVED_SETTINGS.contains(&setting) || known.contains(&setting) {
            return Err(Violation::Connection(code::SETTINGS_ERROR));
        }
        known.push(setting);
    }
    Ok(())
}

/// Takes instructions of QPACK, the first of which may have `begun`. Returns their number.
fn instructions(
    begun: &mut Vec<u8>,
    bytes: &[u8],
    take: impl Fn(&mut &[u8]) -> Result<bool, Violation>,
) -> Result<u32, Violation> {
    let mut count = 0;
    for byte in bytes {
        begun.push(*byte);
        if take(&mut &begun[..])? {
            begun.clear();
            count += 1;
        }
        debug_assert!(begun.len() <= INSTRUCTION_LEN_MAX);
    }
    Ok(count)
}

/// Takes an instruction of an encoder (RFC 9204 §4.3). Returns false if it is not complete.
fn encoder_instruction(bytes: &mut &[u8]) -> Result<bool, Violation> {
    /// Set Dynamic Table Capacity: the only one that an empty table allows, if it is 0.
    const CAPACITY_OF_NONE: u8 = 0b0010_0000;
    match bytes.first() {
        None => Ok(false),
        Some(&CAPACITY_OF_NONE) => Ok(true),
        Some(_) => Err(Violation::Connection(code::QPACK_ENCODER_STREAM_ERROR)),
    }
}

/// Takes an instruction of a decoder (RFC 9204 §4.4). Returns false if it is not complete.
fn decoder_instruction(bytes: &mut &[u8]) -> Result<bool, Violation> {
    let error = Violation::Connection(code::QPACK_DECODER_STREAM_ERROR);
    let len = bytes.len();
    match bytes.first() {
        None => Ok(false),
        // Stream Cancellation.
        Some(0x40..0x80) => match qpack::take_number(bytes, 6) {
            Some(_) => Ok(true),
            None if len < INSTRUCTION_LEN_MAX => Ok(false),
            None => Err(error),
        },
        // Acknowledgements of what was never inserted.
        Some(_) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::{Heard, PeerStreams};
    use crate::http::http3::{Violation, code};

    const SETTINGS: &[u8] = &[0, 4, 0];

    /// Results of reading bytes from the first stream, in pieces of this size.
    fn heard(bytes: &[u8], piece: usize) -> Result<u32, u32> {
        let mut streams = PeerStreams::default();
        let mut points = 0;
        for piece in bytes.chunks(piece) {
            match streams.receive(0, piece, false) {
                Ok(heard) => points += heard.points,
                Err(Violation::Connection(code) | Violation::Stream(code)) => return Err(code),
            }
        }
        Ok(points)
    }

    fn control(frames: &[u8]) -> Vec<u8> {
        [SETTINGS, frames].concat()
    }

    #[test]
    fn each_kind_of_stream_is_read_at_each_split_point() {
        let grease = [&[0x40, 0x21, 0x44, 0x00][..], &[0; 1_024]].concat();
        for (what, bytes, expected) in [
            ("settings", vec![0, 4, 4, 1, 0, 0x21, 7], Ok(0)),
            ("settings and a frame that is not known", control(&[0x21, 1, 0]), Ok(1)),
            ("much that is not known", control(&grease), Ok(2)),
            ("the end is near", control(&[7, 1, 8, 7, 1, 4]), Ok(2)),
            ("pushes allowed", control(&[13, 1, 8, 13, 1, 9]), Ok(2)),
            ("a priority", control(&[0x80, 0x0f, 0x07, 0x00, 2, 0, 0x75]), Ok(1)),
            ("no settings", vec![0, 7, 1, 8], Err(code::MISSING_SETTINGS)),
            ("grease before settings", vec![0, 0x21, 0], Err(code::MISSING_SETTINGS)),
            ("settings twice", control(&[4, 0]), Err(code::FRAME_UNEXPECTED)),
            ("a setting twice", vec![0, 4, 4, 6, 0, 6, 0], Err(code::SETTINGS_ERROR)),
            ("half a setting", vec![0, 4, 1, 6], Err(code::FRAME_ERROR)),
            ("large settings", vec![0, 4, 0x44, 1], Err(code::EXCESSIVE_LOAD)),
            ("DATA", control(&[0, 0]), Err(code::FRAME_UNEXPECTED)),
            ("HEADERS", control(&[1, 0]), Err(code::FRAME_UNEXPECTED)),
            ("PUSH_PROMISE", control(&[5, 0]), Err(code::FRAME_UNEXPECTED)),
            ("CANCEL_PUSH", control(&[3, 1, 0]), Err(code::ID_ERROR)),
            ("GOAWAY without a number", control(&[7, 0]), Err(code::FRAME_ERROR)),
            ("GOAWAY that is too long", control(&[7, 2, 0, 0]), Err(code::FRAME_ERROR)),
            ("GOAWAY that is much too long", control(&[7, 9]), Err(code::FRAME_ERROR)),
            ("GOAWAY that grows", control(&[7, 1, 4, 7, 1, 8]), Err(code::ID_ERROR)),
            ("MAX_PUSH_ID that falls", control(&[13, 1, 9, 13, 1, 8]), Err(code::ID_ERROR)),
            ("a push", vec![1, 0], Err(code::STREAM_CREATION_ERROR)),
            ("an encoder", vec![2, 0x20, 0x20], Ok(2)),
            ("a capacity", vec![2, 0x21], Err(code::QPACK_ENCODER_STREAM_ERROR)),
            ("an insertion", vec![2, 0xc0], Err(code::QPACK_ENCODER_STREAM_ERROR)),
            ("a duplicate", vec![2, 0], Err(code::QPACK_ENCODER_STREAM_ERROR)),
            ("a decoder", vec![3, 0x44, 0x7f, 0x80, 1], Ok(2)),
            ("a number without end", [&[3, 0x7f][..], &[0xff; 9]].concat(), Err(0x202)),
            ("an acknowledgement", vec![3, 0x84], Err(code::QPACK_DECODER_STREAM_ERROR)),
            ("an increment", vec![3, 1], Err(code::QPACK_DECODER_STREAM_ERROR)),
            ("a type of two bytes", vec![0x40, 0], Ok(0)),
        ] {
            for piece in [1, 2, 3, 99_999] {
                assert_eq!(heard(&bytes, piece), expected, "{what}, {piece}");
            }
        }
        for setting in [0, 2, 3, 4, 5] {
            assert_eq!(heard(&[0, 4, 2, setting, 0], 9), Err(code::SETTINGS_ERROR), "{setting}");
        }
        for kind in [2, 6, 8, 9] {
            let bytes = control(&[kind, 0]);
            assert_eq!(heard(&bytes, 9), Err(code::FRAME_UNEXPECTED), "{kind}");
        }
    }

    #[test]
    fn streams_that_the_connection_needs_are_single_and_do_not_end() {
        let once = |kind: u8| {
            let mut streams = PeerStreams::default();
            assert_eq!(streams.receive(4, &[kind], false), Ok(Heard::default()));
            streams
        };
        let closed = Err(Violation::Connection(code::CLOSED_CRITICAL_STREAM));
        for kind in [0, 2, 3] {
            let again = once(kind).receive(8, &[kind], false);
            assert_eq!(again, Err(Violation::Connection(code::STREAM_CREATION_ERROR)), "{kind}");
            assert_eq!(once(kind).receive(4, &[], true).map(|_| ()), closed, "{kind}");
            assert_eq!(once(kind).reset(4), closed, "{kind}");
        }
    }

    #[test]
    fn other_streams_are_refused_and_may_end_at_any_time() {
        let mut streams = PeerStreams::default();
        let refused = Heard { points: 1, is_refused: true };
        assert_eq!(streams.receive(0, &[0x21, 1, 2, 3], false), Ok(refused));
        assert_eq!(streams.receive(4, &[0x21], true), Ok(Heard { is_refused: false, ..refused }));
        assert_eq!(streams.receive(8, &[0x40], false), Ok(Heard::default()));
        assert_eq!(streams.count(), 1);
        assert_eq!(streams.reset(8), Ok(()));
        assert_eq!(streams.receive(12, &[], true), Ok(Heard { points: 1, is_refused: false }));
        assert_eq!((streams.reset(99), streams.count()), (Ok(()), 0));
    }
}
