//! Rendering of records' texts from a query, in memory of a fixed size.
//!
//! Groups are used by number; the numbers were looked up for each pattern when the stage was built.
//! A text fails if it exceeds its memory or has a missing group or an invalid number.

use super::NAME_TEXT_MAX;
use crate::config::{Part, Pattern, RecordType, TEXT_MAX, Text, Value, class_mnemonic};
use crate::engine::message::rtype;
use regex::bytes::CaptureLocations;
use std::io::Write as _;
use std::net::IpAddr;

/// Part of a text, with resolved groups.
pub(super) enum Piece {
    Text(Box<[u8]>),
    Name,
    Type,
    Class,
    Zone,
    Remote,
    View,
    /// Number of a group, for each pattern.
    Group(Box<[Option<usize>]>),
    ParseInt {
        digits: Box<Piece>,
        base: u32,
        bits: u32,
    },
}

/// Facts about a query.
pub(super) struct Query<'a> {
    /// QNAME as text.
    pub(super) name: &'a [u8],
    pub(super) zone: &'a str,
    pub(super) class: u16,
    pub(super) rtype: u16,
    pub(super) peer: IpAddr,
    /// Name of the view, if the label is set.
    pub(super) view: &'a [u8],
    /// Number of the pattern that matched.
    pub(super) pattern: usize,
    /// Positions of the groups in the name. `None`: the template has no pattern and matches all
    /// names.
    pub(super) groups: Option<&'a CaptureLocations>,
}

/// Result of rendering a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rendered {
    Whole,
    /// The text is too long, a group is missing, or a number is invalid.
    Failed,
}

/// Returns true if a value is a group of a pattern.
pub(super) fn is_group(value: &Value) -> bool {
    matches!(value, Value::Match(_) | Value::Group(_))
}

/// Compiles a text for these patterns.
pub(super) fn pieces(text: &Text, patterns: &[Pattern]) -> Box<[Piece]> {
    let piece = |part: &Part| match part {
        Part::Text(text) => Piece::Text(text.as_bytes().into()),
        Part::Value(value) => piece_of(value, patterns),
    };
    text.parts.iter().map(piece).collect()
}

fn piece_of(value: &Value, patterns: &[Pattern]) -> Piece {
    let numbers = |number: &dyn Fn(&Pattern) -> Option<usize>| {
        let numbers: Box<[_]> = patterns.iter().map(number).collect();
        // Without a pattern the group is the whole name.
        Piece::Group(if patterns.is_empty() { Box::new([Some(0)]) } else { numbers })
    };
    match value {
        Value::Name => Piece::Name,
        Value::Type => Piece::Type,
        Value::Class => Piece::Class,
        Value::Zone => Piece::Zone,
        Value::Remote => Piece::Remote,
        Value::Meta(label) if label == "view/name" => Piece::View,
        // No other label is set before a query is answered.
        Value::Meta(_) => Piece::Text(Box::default()),
        Value::Literal(text) => Piece::Text(text.as_bytes().into()),
        Value::Match(number) => numbers(&|pattern| {
            Some(*number).filter(|number| *number < pattern.regex.captures_len())
        }),
        Value::Group(name) => numbers(&|pattern| pattern.group(name)),
        Value::ParseInt { digits, base, bits } => Piece::ParseInt {
            digits: Box::new(piece_of(digits, patterns)),
            base: *base,
            bits: *bits,
        },
    }
}

/// Replaces `out`, which has room for [`TEXT_MAX`] bytes, by a text.
pub(super) fn write(pieces: &[Piece], query: &Query<'_>, out: &mut Vec<u8>) -> Rendered {
    out.clear();
    let whole = pieces.iter().all(|piece| write_piece(piece, query, out).is_some());
    if whole { Rendered::Whole } else { Rendered::Failed }
}

fn write_piece(piece: &Piece, query: &Query<'_>, out: &mut Vec<u8>) -> Option<()> {
    let bytes = match piece {
        Piece::Text(text) => text,
        Piece::Name => query.name,
        Piece::View => query.view,
        Piece::Zone => query.zone.as_bytes(),
        Piece::Type => RecordType(query.rtype).mnemonic().unwrap_or_default().as_bytes(),
        // No record has class ANY.
        Piece::Class if query.class == rtype::ANY => b"IN",
        Piece::Class => class_mnemonic(query.class).unwrap_or_default().as_bytes(),
        Piece::Group(numbers) => {
            let number = (*numbers.get(query.pattern)?)?;
            match query.groups {
                Some(groups) => groups
                    .get(number)
                    .map_or(&[][..], |(start, end)| query.name.get(start..end).unwrap_or_default()),
                None => query.name,
            }
        }
        Piece::Remote => {
            const ADDRESS_MAX: usize = 45;
            if out.len() + ADDRESS_MAX > TEXT_MAX {
                return None;
            }
            return write!(out, "{}", query.peer.to_canonical()).ok();
        }
        Piece::ParseInt { digits, base, bits } => {
            let start = out.len();
            write_piece(digits, query, out)?;
            let number = number(&out[start..], *base, *bits)?;
            out.truncate(start);
            let mut decimal = itoa::Buffer::new();
            return push(out, decimal.format(number).as_bytes());
        }
    };
    push(out, bytes)
}

fn push(out: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    let fits = out.len() + bytes.len() <= TEXT_MAX;
    fits.then(|| out.extend_from_slice(bytes))
}

/// Parses an unsigned number of at most `bits` bits; in base 0 a prefix 0x, 0o, 0b or 0 selects the
/// base, otherwise it is decimal.
fn number(digits: &[u8], base: u32, bits: u32) -> Option<u64> {
    let (digits, base) = match (base, digits) {
        (0, [b'0', b'x' | b'X', rest @ ..]) => (rest, 16),
        (0, [b'0', b'o' | b'O', rest @ ..]) => (rest, 8),
        (0, [b'0', b'b' | b'B', rest @ ..]) => (rest, 2),
        (0, [b'0', rest @ ..]) if !rest.is_empty() => (rest, 8),
        (0, digits) => (digits, 10),
        (base, digits) => (digits, base),
    };
    let text = str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
    let number = u64::from_str_radix(text, base).ok()?;
    (bits >= 64 || number >> bits == 0).then_some(number)
}

/// Replaces `out` by a name in wire format as text.
pub(super) fn write_name(name: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let (mut place, mut label_end) = (0, 0);
    while let Some(&byte) = name.get(place) {
        let is_length = place == label_end;
        if is_length {
            label_end = place + 1 + usize::from(byte);
            if byte == 0 {
                // The root is a single dot.
                if place == 0 {
                    out.push(b'.');
                }
                break;
            }
        } else {
            match byte {
                b'.' | b' ' | b'\'' | b'@' | b';' | b'(' | b')' | b'"' | b'\\' => {
                    out.extend_from_slice(&[b'\\', byte]);
                }
                b'!'..=b'~' => out.push(byte),
                _ => {
                    let digits = [byte / 100, byte / 10 % 10, byte % 10].map(|digit| b'0' + digit);
                    out.push(b'\\');
                    out.extend_from_slice(&digits);
                }
            }
            if place + 1 == label_end {
                out.push(b'.');
            }
        }
        place += 1;
    }
    debug_assert!(out.len() <= NAME_TEXT_MAX);
}

#[cfg(test)]
mod tests {
    use super::{number, write_name};

    #[test]
    fn numbers_have_a_base_and_a_maximum_of_bits() {
        for (digits, base, bits, expected) in [
            ("ff", 16, 8, Some(255)),
            ("100", 16, 8, None),
            ("0x1F", 0, 64, Some(31)),
            ("017", 0, 64, Some(15)),
            ("0b11", 0, 64, Some(3)),
            ("0", 0, 64, Some(0)),
            ("18446744073709551615", 10, 64, Some(u64::MAX)),
            ("18446744073709551616", 10, 64, None),
            ("", 10, 64, None),
            ("+1", 10, 64, None),
            ("-1", 10, 64, None),
            ("zz", 36, 64, Some(1_295)),
        ] {
            assert_eq!(number(digits.as_bytes(), base, bits), expected, "{digits} {base}");
        }
    }

    #[test]
    fn names_are_text_with_escapes() {
        for (wire, text) in [
            (&b"\0"[..], "."),
            (b"\x01a\x04test\0", "a.test."),
            (b"\x03a.b\x02\\\"\x01*\0", "a\\.b.\\\\\\\".*."),
            (b"\x02\0\xff\x01_\0", "\\000\\255._."),
        ] {
            let mut out = Vec::new();
            write_name(wire, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), text);
        }
    }
}
