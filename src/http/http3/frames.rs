//! Frames (RFC 9114 §7.1): a type and a length, both of variable length, and a payload.
//!
//! A frame may arrive in any pieces, and its payload is never collected here.

/// Types of frames (RFC 9114 §7.2).
pub(super) mod kind {
    pub(crate) const DATA: u64 = 0x0;
    pub(crate) const HEADERS: u64 = 0x1;
    pub(crate) const CANCEL_PUSH: u64 = 0x3;
    pub(crate) const SETTINGS: u64 = 0x4;
    pub(crate) const PUSH_PROMISE: u64 = 0x5;
    pub(crate) const GOAWAY: u64 = 0x7;
    pub(crate) const MAX_PUSH_ID: u64 = 0xd;
    /// Types of HTTP/2 that HTTP/3 has not (RFC 9114 §7.2.8).
    pub(crate) const OF_HTTP2: [u64; 4] = [0x2, 0x6, 0x8, 0x9];
}

/// Length of the longest head of a frame: two numbers.
const HEAD_LEN_MAX: usize = 16;

/// Part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// Type and length of the next frame.
    Begins(u64, u64),
    /// Bytes of its payload.
    Payload(&'a [u8]),
    /// Its payload is complete.
    Ends,
}

/// The frames of a stream.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The head of a frame, as far as it has come.
    head: [u8; HEAD_LEN_MAX],
    filled: usize,
    /// Bytes of the payload that are to come. `None`: between two frames, or in a head.
    left: Option<u64>,
}

impl Frames {
    /// Takes the next part of `bytes`. `None`: nothing is left that is complete.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Part<'a>> {
        match self.left {
            None => self.head(bytes),
            Some(0) => {
                self.left = None;
                Some(Part::Ends)
            }
            Some(left) => {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let (payload, rest) = bytes.split_at(count);
                *bytes = rest;
                self.left = Some(left - count as u64);
                (count > 0).then_some(Part::Payload(payload))
            }
        }
    }

    /// Takes bytes of the head of a frame, until it is complete.
    fn head<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Part<'a>> {
        while let Some((first, rest)) = bytes.split_first() {
            *bytes = rest;
            if let Some(place) = self.head.get_mut(self.filled) {
                *place = *first;
                self.filled += 1;
            }
            let mut head = self.head.get(..self.filled).unwrap_or_default();
            if let (Some(kind), Some(len)) = (take_number(&mut head), take_number(&mut head)) {
                self.filled = 0;
                self.left = Some(len);
                return Some(Part::Begins(kind, len));
            }
        }
        None
    }

    /// Returns true if no frame has begun and is not complete.
    pub(super) fn is_between(&self) -> bool {
        self.left.is_none() && self.filled == 0
    }
}

/// Takes a number of variable length (RFC 9000 §16). `None`: it is not complete.
pub(super) fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let len = 1 << (bytes.first()? >> 6);
    let (number, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    let value = number.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    // The first two bits say the length.
    Some(value & !(0b11 << (8 * len - 2)))
}

/// Appends a number of variable length, of at most 62 bits.
pub(super) fn put_number(out: &mut Vec<u8>, value: u64) {
    match value {
        0..0x40 => out.push(value as u8),
        0x40..0x4000 => out.extend_from_slice(&(value as u16 | 0x4000).to_be_bytes()),
        0x4000..0x4000_0000 => out.extend_from_slice(&(value as u32 | 0x8000_0000).to_be_bytes()),
        _ => out.extend_from_slice(&(value | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Frames, Part, put_number, take_number};
    use proptest::prelude::{any, prop_assert_eq, proptest};

    #[test]
    fn numbers_have_their_shortest_form() {
        // RFC 9000 Appendix A.1, and the limits of each length.
        for (value, bytes) in [
            (151_288_809_941_952_652, &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..]),
            (494_878_333, &[0x9d, 0x7f, 0x3e, 0x7d]),
            (15_293, &[0x7b, 0xbd]),
            (37, &[0x25]),
            (63, &[63]),
            (64, &[0x40, 64]),
            (16_383, &[0x7f, 0xff]),
            (16_384, &[0x80, 0, 0x40, 0]),
            ((1 << 62) - 1, &[0xff; 8]),
        ] {
            let mut out = Vec::new();
            put_number(&mut out, value);
            assert_eq!(out, bytes);
            let mut rest = bytes;
            assert_eq!((take_number(&mut rest), rest), (Some(value), &[][..]));
            let mut cut = &bytes[..bytes.len() - 1];
            assert_eq!(take_number(&mut cut), None);
        }
        assert_eq!(take_number(&mut &[0x40, 0x25][..]), Some(37), "a longer form is read too");
    }

    /// A frame: type, length, payload so far, and whether that is complete.
    type Frame = (u64, u64, Vec<u8>, bool);

    /// The frames in `bytes`, which arrive in pieces of this size; and whether a frame is cut.
    fn read(bytes: &[u8], piece: usize) -> (Vec<Frame>, bool) {
        let (mut frames, mut all) = (Frames::default(), Vec::new());
        for mut piece in bytes.chunks(piece) {
            while let Some(part) = frames.next(&mut piece) {
                match part {
                    Part::Begins(kind, len) => all.push((kind, len, Vec::new(), false)),
                    Part::Payload(bytes) => all.last_mut().unwrap().2.extend_from_slice(bytes),
                    Part::Ends => all.last_mut().unwrap().3 = true,
                }
            }
        }
        (all, !frames.is_between())
    }

    #[test]
    fn frames_are_read_at_each_split_point() {
        let bytes = [0, 3, 7, 8, 9, 0x40, 33, 0, 1, 0x40, 2, 5, 6, 0];
        let whole =
            vec![(0, 3, vec![7, 8, 9], true), (33, 0, vec![], true), (1, 2, vec![5, 6], true)];
        for piece in 1..=bytes.len() {
            assert_eq!(read(&bytes, piece), (whole.clone(), true), "{piece}");
            assert_eq!(read(&bytes[..13], piece), (whole.clone(), false), "{piece}");
        }
        assert_eq!(read(&bytes[..12], 99).0[2], (1, 2, vec![5], false));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_alike_in_pieces(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
            piece in 1..9_usize,
        ) {
            prop_assert_eq!(read(&bytes, piece), read(&bytes, usize::MAX));
        }
    }
}
