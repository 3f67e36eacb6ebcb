//! Values that occur in the data of many record types: numbers, names, strings, hexadecimal digits
//! and base64.
//!
//! Each function reads one word, or all that are left, and appends the value in wire format.

use super::words::{Decoded, Word, Words};
use super::{Data, RecordError};

/// Bytes of a label (RFC 1035 §3.1).
const LABEL_MAX: u8 = 63;
/// Bytes of a name in wire format.
const NAME_MAX: usize = 255;

/// Appends bytes that `word` stands for.
pub(super) fn push(word: &Word<'_>, out: &mut Data<'_>, bytes: &[u8]) -> Result<(), RecordError> {
    if out.len() + bytes.len() > out.max {
        return Err(word.wrong("the record is too long"));
    }
    out.extend_from_slice(bytes);
    Ok(())
}

/// A decimal number up to `max`.
pub(super) fn number(word: &Word<'_>, max: u32) -> Result<u32, RecordError> {
    let digits = str::from_utf8(word.text).ok().filter(|text| !text.starts_with('+'));
    let number: Option<u32> = digits.and_then(|digits| digits.parse().ok());
    number.filter(|number| *number <= max).ok_or(word.wrong("expected a number in range"))
}

/// Seconds: a number, or numbers with the units s, m, h, d and w. A unit without a number is zero.
///
/// # Errors
/// The word is anything else.
pub(crate) fn period(word: &Word<'_>) -> Result<u32, RecordError> {
    let wrong = || word.wrong("expected a time such as 300 or 1h30m");
    let (mut sum, mut digits) = (0_u64, 0_u64);
    for byte in word.text {
        let unit = match byte.to_ascii_lowercase() {
            b'0'..=b'9' => {
                digits = (digits * 10 + u64::from(byte - b'0')).min(u64::from(u32::MAX) + 1);
                continue;
            }
            b's' => 1,
            b'm' => 60,
            b'h' => 3_600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return Err(wrong()),
        };
        (sum, digits) = (sum.saturating_add(digits * unit), 0);
    }
    if word.text.is_empty() || word.quoted {
        return Err(wrong());
    }
    u32::try_from(sum.saturating_add(digits)).map_err(|_| wrong())
}

pub(super) fn address<T: std::str::FromStr>(
    word: &Word<'_>,
    what: &'static str,
) -> Result<T, RecordError> {
    let text = str::from_utf8(word.text).ok();
    text.and_then(|text| text.parse().ok()).ok_or(word.wrong(what))
}

/// A domain name; without a trailing dot it is relative to the origin.
///
/// # Errors
/// The word is no name, or one that is too long.
pub(crate) fn name(word: &Word<'_>, out: &mut Data<'_>) -> Result<(), RecordError> {
    let start = out.len();
    let origin = out.origin;
    if word.text == b"." {
        return push(word, out, &[0]);
    }
    if word.text == b"@" && !word.quoted {
        return push(word, out, origin);
    }
    let mut label = start;
    push(word, out, &[0])?;
    for decoded in Decoded::new(*word) {
        let (byte, escaped) = decoded?;
        if byte == b'.' && !escaped {
            if out[label] == 0 {
                return Err(word.wrong("the name has an empty label"));
            }
            label = out.len();
            push(word, out, &[0])?;
        } else {
            out[label] += 1;
            push(word, out, &[byte])?;
            if out[label] > LABEL_MAX {
                return Err(word.wrong("the name has a label of more than 63 bytes"));
            }
        }
    }
    if out.len() == start + 1 {
        return Err(word.wrong("the name is empty"));
    }
    if out[label] > 0 {
        push(word, out, origin)?;
    }
    let fits = out.len() - start <= NAME_MAX;
    if fits { Ok(()) } else { Err(word.wrong("the name has more than 255 bytes")) }
}

/// A character string.
pub(super) fn text(word: &Word<'_>, out: &mut Data<'_>) -> Result<(), RecordError> {
    let start = out.len();
    push(word, out, &[0])?;
    bytes(word, out)?;
    let len = out.len() - start - 1;
    out[start] = u8::try_from(len).map_err(|_| word.wrong("a string of more than 255 bytes"))?;
    Ok(())
}

pub(super) fn bytes(word: &Word<'_>, out: &mut Data<'_>) -> Result<(), RecordError> {
    for decoded in Decoded::new(*word) {
        push(word, out, &[decoded?.0])?;
    }
    Ok(())
}

/// Hexadecimal digits in one or several words.
pub(super) fn hex(words: &mut Words<'_>, out: &mut Data<'_>) -> Result<(), RecordError> {
    let mut word = words.expect("expected hexadecimal digits")?;
    let mut high = None;
    loop {
        for byte in word.text {
            let digit = char::from(*byte).to_digit(16);
            let digit = digit.ok_or(word.wrong("expected hexadecimal digits"))? as u8;
            match high.take() {
                None => high = Some(digit),
                Some(high) => push(&word, out, &[high << 4 | digit])?,
            }
        }
        match words.next()? {
            Some(next) => word = next,
            None if high.is_some() => return Err(word.wrong("an odd number of digits")),
            None => return Ok(()),
        }
    }
}

/// Base64 in one or several words (RFC 4648 §4).
pub(super) fn base64(words: &mut Words<'_>, out: &mut Data<'_>) -> Result<(), RecordError> {
    let mut word = words.expect("expected base64")?;
    let mut decoder = Base64Decoder::default();
    loop {
        decoder.take(&word, word.text, out)?;
        match words.next()? {
            Some(next) => word = next,
            None => return decoder.end(&word),
        }
    }
}

/// Bits of base64 that make up no byte yet.
#[derive(Default)]
pub(super) struct Base64Decoder {
    bits: u32,
    digits: usize,
    padding: usize,
}

impl Base64Decoder {
    pub(super) fn take(
        &mut self,
        word: &Word<'_>,
        text: &[u8],
        out: &mut Data<'_>,
    ) -> Result<(), RecordError> {
        for byte in text {
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' if self.padding < 2 => {
                    self.padding += 1;
                    continue;
                }
                _ => return Err(word.wrong("expected base64")),
            };
            if self.padding > 0 {
                return Err(word.wrong("base64 continues after its padding"));
            }
            self.bits = self.bits << 6 | u32::from(digit);
            self.digits += 1;
            // Each digit but the first of four completes a byte.
            let left = 6 - 2 * ((self.digits - 1) % 4);
            if left < 6 {
                push(word, out, &[(self.bits >> left) as u8])?;
            }
        }
        Ok(())
    }

    pub(super) fn end(&self, word: &Word<'_>) -> Result<(), RecordError> {
        let whole = (self.digits + self.padding).is_multiple_of(4);
        if whole { Ok(()) } else { Err(word.wrong("base64 is incomplete")) }
    }
}
