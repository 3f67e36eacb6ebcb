//! Domain names as configuration means them.
//!
//! A [`Name`] is held in lower-cased wire format, because that is what a query is compared with:
//! two spellings of one name are equal here. Presentation format is read and written at the
//! edges only. Any byte may be part of a label; there is no host-name rule and no IDNA.
//!
//! All names are written by [`spell`]. Logs, messages and pages have what dig prints: `"`, `(`,
//! `)`, `.`, `;`, `@` and `\` behind a backslash, unprintable characters as `\DDD`, the rest as it
//! is. A name that is to be read again as a word of a Corefile ([`Name::in_corefile`]) has every
//! byte escaped that the language, a zone's key or a shell could take for something else.

use std::fmt;

/// Bytes of a name in wire format, the root's included (RFC 1035 §3.1).
const WIRE_BYTES_MAX: usize = 255;
/// Bytes of one label (RFC 1035 §3.1).
const LABEL_BYTES_MAX: u8 = 63;

/// Spelling of one byte of a label.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Spelling {
    /// As it is.
    Plain,
    /// Behind a backslash.
    Quoted,
    /// As `\DDD`.
    Number,
}

/// Spelling of each byte of a label.
pub(crate) struct Spellings([Spelling; 256]);

/// Spelling of presentation format, as dig prints it.
pub(crate) const PRESENTATION: Spellings = {
    let mut spellings = [Spelling::Number; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        spellings[byte as usize] = match byte {
            b'"' | b'(' | b')' | b'.' | b';' | b'@' | b'\\' => Spelling::Quoted,
            _ => Spelling::Plain,
        };
        byte += 1;
    }
    Spellings(spellings)
};

/// Spelling in zone files, where a name that begins with a dollar sign is no directive.
pub(crate) const MASTER_FILE: Spellings = {
    let mut spellings = PRESENTATION;
    spellings.0[b'$' as usize] = Spelling::Quoted;
    spellings
};

/// Spelling without special characters of a Corefile.
const COREFILE: Spellings = {
    let mut spellings = [Spelling::Number; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        spellings[byte as usize] = match byte {
            b'.' | b'\\' => Spelling::Quoted,
            b'-' | b'_' | b'*' | b'=' | b',' => Spelling::Plain,
            byte if byte.is_ascii_alphanumeric() => Spelling::Plain,
            _ => Spelling::Number,
        };
        byte += 1;
    }
    Spellings(spellings)
};

/// Bytes of a name in presentation format at most: each byte takes four.
pub(crate) const TEXT_LEN_MAX: usize = 4 * WIRE_BYTES_MAX;

/// Writes the name `wire`, in lower case, to `room`; returns its text.
pub(crate) fn spell<'a>(
    wire: &[u8],
    spellings: &Spellings,
    room: &'a mut [u8; TEXT_LEN_MAX],
) -> &'a str {
    spell_in::<true>(wire, spellings, room)
}

/// The same in the letter case of `wire`.
pub(crate) fn spell_as_asked<'a>(
    wire: &[u8],
    spellings: &Spellings,
    room: &'a mut [u8; TEXT_LEN_MAX],
) -> &'a str {
    spell_in::<false>(wire, spellings, room)
}

#[inline(always)]
fn spell_in<'a, const LOWER: bool>(
    wire: &[u8],
    spellings: &Spellings,
    room: &'a mut [u8; TEXT_LEN_MAX],
) -> &'a str {
    let (mut place, mut len) = (0, 0);
    while let Some(length) = wire.get(place).filter(|length| **length > 0) {
        let label = &wire[place + 1..place + 1 + usize::from(*length)];
        for byte in label {
            match spellings.0[usize::from(*byte)] {
                Spelling::Plain => {
                    room[len] = if LOWER { byte.to_ascii_lowercase() } else { *byte };
                    len += 1;
                }
                Spelling::Quoted => {
                    room[len..len + 2].copy_from_slice(&[b'\\', *byte]);
                    len += 2;
                }
                Spelling::Number => {
                    let digits = [byte / 100, byte / 10 % 10, byte % 10].map(|digit| b'0' + digit);
                    room[len] = b'\\';
                    room[len + 1..len + 4].copy_from_slice(&digits);
                    len += 4;
                }
            }
        }
        room[len] = b'.';
        len += 1;
        place += 1 + label.len();
    }
    if place == 0 {
        (room[0], len) = (b'.', 1);
    }
    std::str::from_utf8(&room[..len]).unwrap_or_default()
}

/// An absolute domain name, in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Labels with their length bytes, the root's zero last.
    wire: Box<[u8]>,
}

impl Name {
    /// The name of no label.
    pub fn root() -> Self {
        Self { wire: Box::new([0]) }
    }

    /// Reads presentation format; the trailing dot may be missing.
    ///
    /// # Errors
    /// The text is no domain name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let mut wire = [0; WIRE_BYTES_MAX];
        let len = wire_of(text, &mut wire)?;
        Ok(Self { wire: wire[..len].into() })
    }

    /// The name that `wire` spells, which is one: as a packet has it whose question was read.
    pub fn of_wire(wire: &[u8]) -> Self {
        Self { wire: wire.to_ascii_lowercase().into() }
    }

    /// The name in wire format: labels with their length bytes, the root's zero last, lower-cased.
    /// 1 to 255 bytes.
    pub fn as_wire(&self) -> &[u8] {
        &self.wire
    }

    /// Returns the spelling in a Corefile, where the name is one word for all bytes.
    pub(crate) fn in_corefile(&self) -> InCorefile<'_> {
        InCorefile(self)
    }

    /// True when this is `ancestor` or a name below it.
    pub(crate) fn is_within(&self, ancestor: &Self) -> bool {
        self.ancestors().any(|above| above == &*ancestor.wire)
    }

    /// The name itself and those above it, the root last, each in wire format.
    pub(super) fn ancestors(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::successors(Some(&*self.wire), |rest| {
            let label = usize::from(rest[0]);
            (label > 0).then(|| &rest[1 + label..])
        })
    }

    /// The labels, the leftmost first, without the root's.
    pub(super) fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.wire;
        std::iter::from_fn(move || {
            let (&length, after) = rest.split_first().filter(|(length, _)| **length > 0)?;
            let (label, after) = after.split_at(length.into());
            rest = after;
            Some(label)
        })
    }
}

/// Reads presentation format, of which the trailing dot may be missing, into `wire`: the name in
/// wire format, lower-cased. Returns its length.
///
/// # Errors
/// The text is no domain name.
pub(crate) fn wire_of(text: &str, wire: &mut [u8; WIRE_BYTES_MAX]) -> Result<usize, NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text == "." {
        wire[0] = 0;
        return Ok(1);
    }
    // Where the length byte of the label that is being read lies, and the next byte of it.
    let (mut head, mut place) = (0, 1);
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let byte = match first {
            b'.' => {
                end_label(wire, head, place)?;
                (head, place) = (place, place + 1);
                continue;
            }
            b'\\' => unescape(&mut rest)?,
            byte => *byte,
        };
        if place - head > usize::from(LABEL_BYTES_MAX) {
            return Err(NameError::LabelTooLong);
        }
        *wire.get_mut(place).ok_or(NameError::TooLong)? = byte.to_ascii_lowercase();
        place += 1;
    }
    // Only an escaped dot, or none, can leave a label open at the end.
    if place > head + 1 {
        end_label(wire, head, place)?;
        head = place;
    }
    *wire.get_mut(head).ok_or(NameError::TooLong)? = 0;
    Ok(head + 1)
}

/// Ends the label whose length byte lies at `head` before `end`, at most 63 bytes behind it.
fn end_label(wire: &mut [u8; WIRE_BYTES_MAX], head: usize, end: usize) -> Result<(), NameError> {
    let len = end - head - 1;
    if len == 0 {
        return Err(NameError::LabelEmpty);
    }
    wire[head] = len as u8;
    // One more byte for the root.
    if end < WIRE_BYTES_MAX { Ok(()) } else { Err(NameError::TooLong) }
}

/// The byte that an escape stands for; `rest` begins after the backslash.
fn unescape(rest: &mut &[u8]) -> Result<u8, NameError> {
    let digit = |byte: u8| u16::from(byte - b'0');
    match *rest {
        [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] => {
            *rest = &rest[3..];
            // Numbers above 255 wrap around, as they do in the reference.
            let [_, low] = (digit(*a) * 100 + digit(*b) * 10 + digit(*c)).to_be_bytes();
            Ok(low)
        }
        [byte, ..] => {
            *rest = &rest[1..];
            Ok(*byte)
        }
        [] => Err(NameError::EscapeUnfinished),
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(spell(&self.wire, &PRESENTATION, &mut [0; TEXT_LEN_MAX]))
    }
}

/// A name as a word of a Corefile.
pub(crate) struct InCorefile<'a>(&'a Name);

impl fmt::Display for InCorefile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(spell(&self.0.wire, &COREFILE, &mut [0; TEXT_LEN_MAX]))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

/// Reason why a text is not a domain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameError {
    /// There is no text.
    Empty,
    /// A dot at the front, or two in a row.
    LabelEmpty,
    /// A label of more than 63 bytes.
    LabelTooLong,
    /// More than 255 bytes in wire format.
    TooLong,
    /// A backslash at the end.
    EscapeUnfinished,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it is empty",
            Self::LabelEmpty => "it has an empty label",
            Self::LabelTooLong => "it has a label of more than 63 bytes",
            Self::TooLong => "it has more than 255 bytes",
            Self::EscapeUnfinished => "it ends in an unfinished escape",
        })
    }
}

impl std::error::Error for NameError {}

#[cfg(test)]
mod tests {
    use super::{Name, NameError};
    use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};

    fn wire(text: &str) -> Vec<u8> {
        Name::parse(text).unwrap().as_wire().to_vec()
    }

    #[test]
    fn a_name_is_absolute_and_lower_case() {
        assert_eq!(wire("Example.ORG"), b"\x07example\x03org\0");
        assert_eq!(Name::parse("example.org."), Name::parse("EXAMPLE.org"));
        assert_eq!(wire("."), b"\0");
        assert_eq!(Name::root().as_wire(), b"\0");
    }

    #[test]
    fn a_name_is_within_itself_and_what_it_is_below() {
        let within =
            |name, ancestor| Name::parse(name).unwrap().is_within(&Name::parse(ancestor).unwrap());
        assert!(within("a.b.c", "B.c") && within("c", "c") && within("c", ".") && within(".", "."));
        assert!(!within("c", "b.c") && !within("ab.c", "b.c") && !within(".", "c"));
    }

    #[test]
    fn escapes_are_bytes() {
        assert_eq!(wire("a\\.b.org"), b"\x03a.b\x03org\0");
        assert_eq!(wire("c\\046d"), b"\x03c.d\0");
        assert_eq!(wire("\\065"), b"\x01a\0");
        assert_eq!(wire("m\\."), b"\x02m.\0");
        assert_eq!(wire("m\\\\"), b"\x02m\\\0");
        assert_eq!(wire("\\12x"), b"\x0312x\0"[..].to_vec());
        assert_eq!(wire("\\300"), [1, 44, 0]);
    }

    #[test]
    fn any_byte_may_be_part_of_a_label() {
        assert_eq!(wire("_m.*.a b\u{e9}/:"), b"\x02_m\x01*\x07a b\xc3\xa9/:\0");
    }

    #[test]
    fn what_is_no_name_is_refused_with_its_reason() {
        assert_eq!(Name::parse(""), Err(NameError::Empty));
        assert_eq!(Name::parse(".m"), Err(NameError::LabelEmpty));
        assert_eq!(Name::parse("m..n"), Err(NameError::LabelEmpty));
        assert_eq!(Name::parse(".."), Err(NameError::LabelEmpty));
        assert_eq!(Name::parse("m\\"), Err(NameError::EscapeUnfinished));
        assert!(Name::parse(&"x".repeat(63)).is_ok());
        assert_eq!(Name::parse(&"x".repeat(64)), Err(NameError::LabelTooLong));
        assert_eq!(Name::parse(&"x".repeat(1000)), Err(NameError::LabelTooLong));
        assert_eq!(wire(&"x.".repeat(127)).len(), 255);
        assert_eq!(Name::parse(&"x.".repeat(128)), Err(NameError::TooLong));
    }

    #[test]
    fn what_is_written_is_safe_in_a_corefile() {
        let name = Name::parse("a\\.b c{$x}\"#.d:e/f").unwrap();
        let text = name.in_corefile().to_string();
        assert_eq!(text, "a\\.b\\032c\\123\\036x\\125\\034\\035.d\\058e\\047f.");
        assert_eq!(Name::root().in_corefile().to_string(), ".");
    }

    #[test]
    fn a_name_is_printed_as_dig_prints_it() {
        let label: Vec<u8> = (0x1f..=0x7f).collect();
        let (first, rest) = label.split_at(40);
        let (second, third) = rest.split_at(40);
        let labels = [first, second, third].map(|label| [&[label.len() as u8], label].concat());
        let name = Name::of_wire(&[&labels.concat()[..], &[0]].concat());
        let expected = "\\031\\032!\\\"#$%&'\\(\\)*+,-\\./0123456789:\\;<=>?\\@abcdef.\
                        ghijklmnopqrstuvwxyz[\\\\]^_`abcdefghijklmn.opqrstuvwxyz{|}~\\127.";
        assert_eq!(name.to_string(), expected);
        assert_eq!(Name::root().to_string(), ".");
        let longest: Vec<u8> = (0..3).flat_map(|_| [&[63][..], &[0xff; 63]].concat()).collect();
        let longest = [&longest[..], &[61], &[b'.'; 61], &[0]].concat();
        assert_eq!((longest.len(), Name::of_wire(&longest).to_string().len()), (255, 882));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn what_is_written_is_read_as_the_same_name(text in any::<String>()) {
            if let Ok(name) = Name::parse(&text) {
                prop_assert_eq!(Name::parse(&name.to_string()), Ok(name.clone()));
                prop_assert_eq!(Name::parse(&name.in_corefile().to_string()), Ok(name));
            }
        }
    }
}
