//! The data of each record type, field by field.
//!
//! A type is a list of fields; each field reads one word, or all that are left, and appends what it
//! means to the output. Data of any type can be written as `\# LENGTH HEX` (RFC 3597 §5).

use super::words::{Decoded, Word, Words};
use super::{Data, RecordError, rare, svcb};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Bytes of a label (RFC 1035 §3.1).
const LABEL_MAX: u8 = 63;
/// Bytes of a name in wire format.
const NAME_MAX: usize = 255;

/// One field of a record's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Field {
    U8,
    U16,
    U32,
    /// Seconds, with or without units.
    Period,
    Name,
    V4,
    V6,
    /// A character string.
    Text,
    /// One or several of them, to the end.
    Texts,
    /// The bytes of one word, without their length.
    Bytes,
    /// Hexadecimal digits, to the end.
    Hex,
    /// Base64, to the end.
    Base64,
    /// Service parameters, to the end.
    Params,
    /// A record type.
    RecordType,
    /// Record types, to the end, as a bitmap (RFC 4034 §4.1.2).
    Kinds,
    /// Seconds since 1970, or a date and time.
    Time,
    /// Bytes as hexadecimal digits with hyphens between them (RFC 7043).
    Eui(usize),
    /// 64 bits as four groups of hexadecimal digits (RFC 6742).
    Locator,
    /// A type of certificate (RFC 4398 §2.1).
    CertKind,
    /// All of a LOC record (RFC 1876).
    Location,
    /// Address prefixes, to the end (RFC 3123).
    Prefixes,
    /// A gateway behind its type, with an algorithm before it (RFC 4025), then base64.
    Gateway,
    /// A relay behind its type, with the discovery bit before it (RFC 8777).
    Relay,
    /// All of a HIP record (RFC 8005).
    Identity,
}

/// The fields of a type's data; `None`: they are not known here.
fn fields(rtype: u16) -> Option<&'static [Field]> {
    use Field::{
        Base64, Bytes, CertKind, Eui, Gateway, Hex, Identity, Kinds, Location, Locator, Name,
        Params, Period, Prefixes, RecordType, Relay, Text, Texts, Time, U8, U16, U32, V4, V6,
    };
    Some(match rtype {
        1 => &[V4],
        28 => &[V6],
        // NS, MD, MF, CNAME, MB, MG, MR, PTR, NSAP-PTR, DNAME.
        2..=5 | 7..=9 | 12 | 23 | 39 => &[Name],
        6 => &[Name, Name, U32, Period, Period, Period, Period],
        13 => &[Text, Text],
        // MINFO, RP, TALINK.
        14 | 17 | 58 => &[Name, Name],
        // MX, AFSDB, RT, KX, LP.
        15 | 18 | 21 | 36 | 107 => &[U16, Name],
        // TXT, ISDN, NINFO, SPF, AVC, RESINFO, WALLET.
        16 | 20 | 56 | 99 | 258 | 261 | 262 => &[Texts],
        // X25, UINFO.
        19 | 100 => &[Text],
        // SIG, RRSIG.
        24 | 46 => &[RecordType, U8, U8, U32, Time, Time, U16, Name, Base64],
        26 => &[U16, Name, Name],
        27 => &[Text, Text, Text],
        29 => &[Location],
        // EID, NIMLOC.
        31 | 32 => &[Hex],
        33 => &[U16, U16, U16, Name],
        35 => &[U16, U16, Text, Text, Text, Name],
        37 => &[CertKind, U16, U8, Base64],
        42 => &[Prefixes],
        // DS, CDS, TA, DLV.
        43 | 59 | 32_768 | 32_769 => &[U16, U8, U8, Hex],
        44 => &[U8, U8, Hex],
        45 => &[U8, Gateway],
        47 => &[Name, Kinds],
        // KEY, DNSKEY, RKEY, CDNSKEY.
        25 | 48 | 57 | 60 => &[U16, U8, U8, Base64],
        49 => &[Base64],
        // TLSA, SMIMEA.
        52 | 53 => &[U8, U8, U8, Hex],
        55 => &[Identity],
        61 => &[Base64],
        62 => &[U32, U16, Kinds],
        63 => &[U32, U8, U8, Hex],
        // SVCB, HTTPS.
        64 | 65 => &[U16, Name, Params],
        // UID, GID.
        101 | 102 => &[U32],
        // NID, L64.
        104 | 106 => &[U16, Locator],
        105 => &[U16, V4],
        108 => &[Eui(6)],
        109 => &[Eui(8)],
        256 => &[U16, U16, Bytes],
        257 => &[U8, Text, Bytes],
        260 => &[U8, Relay],
        _ => return None,
    })
}

/// Reads the data of a record of type `rtype`.
///
/// # Errors
/// The words are no such data, or there are too many of them.
pub fn data(rtype: u16, words: &mut Words<'_>, out: &mut Data<'_>) -> Result<(), RecordError> {
    let mut ahead = *words;
    let first = ahead.expect("the record ends before its data")?;
    if first.text == b"\\#" && !first.quoted {
        *words = ahead;
        let start = out.len();
        generic(words, out)?;
        let fits = fields(rtype).is_none_or(|known| rare::is_made_of(known, &out[start..]));
        return if fits {
            Ok(())
        } else {
            Err(first.wrong("these bytes are no data of this type"))
        };
    }
    let known = fields(rtype);
    let known = known.ok_or(first.wrong("data of this type are written as \\# LENGTH HEX"))?;
    known.iter().try_for_each(|field| read(*field, words, out))
}

/// Reads one field.
fn read(field: Field, words: &mut Words<'_>, out: &mut Data<'_>) -> Result<(), RecordError> {
    match field {
        Field::Params => {
            let start = out.len();
            while let Some(word) = words.next()? {
                svcb::parameter(&word, start, out)?;
            }
            return Ok(());
        }
        Field::Hex => return hex(words, out),
        Field::Base64 => return base64(words, out),
        Field::Kinds => return rare::kinds(words, out),
        Field::Location => return rare::location(words, out),
        Field::Prefixes => return rare::prefixes(words, out),
        Field::Gateway => return rare::gateway(words, out),
        Field::Relay => return rare::relay(words, out),
        Field::Identity => return rare::identity(words, out),
        _ => {}
    }
    let word = words.expect("the record ends before its data do")?;
    match field {
        Field::U8 => push(&word, out, &[number(&word, u8::MAX.into())? as u8]),
        Field::U16 => push(&word, out, &(number(&word, u16::MAX.into())? as u16).to_be_bytes()),
        Field::U32 => push(&word, out, &number(&word, u32::MAX)?.to_be_bytes()),
        Field::Period => push(&word, out, &period(&word)?.to_be_bytes()),
        Field::Name => name(&word, out),
        Field::V4 => {
            push(&word, out, &address::<Ipv4Addr>(&word, "expected an IPv4 address")?.octets())
        }
        Field::V6 => {
            push(&word, out, &address::<Ipv6Addr>(&word, "expected an IPv6 address")?.octets())
        }
        Field::Text => text(&word, out),
        Field::Bytes => bytes(&word, out),
        Field::RecordType => rare::rtype(&word, out),
        Field::Time => rare::time(&word, out),
        Field::Eui(len) => rare::eui(&word, len, out),
        Field::Locator => rare::locator(&word, out),
        Field::CertKind => rare::cert_kind(&word, out),
        _ => {
            text(&word, out)?;
            while let Some(word) = words.next()? {
                text(&word, out)?;
            }
            Ok(())
        }
    }
}

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
pub fn period(word: &Word<'_>) -> Result<u32, RecordError> {
    let wrong = || word.wrong("expected seconds, as 300 or 1h30m");
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
pub fn name(word: &Word<'_>, out: &mut Data<'_>) -> Result<(), RecordError> {
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
                return Err(word.wrong("base64 goes on behind its padding"));
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
        if whole { Ok(()) } else { Err(word.wrong("base64 is cut off")) }
    }
}

/// `LENGTH HEX`, behind `\#`.
fn generic(words: &mut Words<'_>, out: &mut Data<'_>) -> Result<(), RecordError> {
    let word = words.expect("expected the number of bytes")?;
    let len = number(&word, u16::MAX.into())? as usize;
    let start = out.len();
    if len > 0 {
        hex(words, out)?;
    }
    let right = out.len() - start == len;
    if right { Ok(()) } else { Err(word.wrong("not as many bytes as announced")) }
}
