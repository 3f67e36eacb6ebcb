//! Fields of record data that zone files have and hardly anything else, and the check of data that
//! are written as bytes.
//!
//! What [`super::fields`] reads word by word has its rarer shapes here: bitmaps of types, times of
//! signatures, hardware addresses, locations, address prefixes, gateways.

use super::values::{address, base64, hex, name, number, push};
use super::words::{Word, Words};
use super::{Data, RecordError, rtype_of};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Bytes of a window's bitmap at most (RFC 4034 §4.1.2).
pub(super) const WINDOW_MAX: usize = 32;
/// Types of certificates by name (RFC 4398 §2.1).
const CERT_KINDS: [(&[u8], u16); 10] = [
    (b"PKIX", 1),
    (b"SPKI", 2),
    (b"PGP", 3),
    (b"IPKIX", 4),
    (b"ISPKI", 5),
    (b"IPGP", 6),
    (b"ACPKIX", 7),
    (b"IACPKIX", 8),
    (b"URI", 253),
    (b"OID", 254),
];
/// A LOC record's size and precisions where they are left out: 1 m, 10,000 m, 10 m.
const LOC_DEFAULTS: [u8; 3] = [0x12, 0x16, 0x13];
/// The equator and the prime meridian, in thousandths of a second of arc.
const LOC_CENTRE: u32 = 1 << 31;
/// Altitude zero, in centimetres.
const LOC_SEA: i64 = 10_000_000;

/// A record type, by mnemonic or number.
pub(super) fn rtype(word: &Word<'_>, out: &mut Data<'_>) -> Result<(), RecordError> {
    let rtype = rtype_of(word).ok_or(word.wrong("expected a record type"))?;
    push(word, out, &rtype.to_be_bytes())
}

/// Record types to the end, as a bitmap.
pub(super) fn kinds(words: &mut Words<'_>, out: &mut Data<'_>) -> Result<(), RecordError> {
    let mut kinds = Vec::new();
    let mut last = None;
    while let Some(word) = words.next()? {
        kinds.push(rtype_of(&word).ok_or(word.wrong("expected a record type"))?);
        last = Some(word);
    }
    let Some(last) = last else { return Ok(()) };
    kinds.sort_unstable();
    for window in kinds.chunk_by(|one, other| one >> 8 == other >> 8) {
        let mut bits = [0_u8; WINDOW_MAX];
        for rtype in window {
            bits[usize::from(rtype & 0xff) / 8] |= 0x80 >> (rtype & 7);
        }
        let len = usize::from(window[window.len() - 1] & 0xff) / 8 + 1;
        push(&last, out, &[(window[0] >> 8) as u8, len as u8])?;
        push(&last, out, &bits[..len])?;
    }
    Ok(())
}

/// Seconds since 1970, or `YYYYMMDDHHmmSS` (RFC 4034 §3.2).
pub(super) fn time(word: &Word<'_>, out: &mut Data<'_>) -> Result<(), RecordError> {
    let wrong = || word.wrong("expected a time such as 20260131235959, or seconds since 1970");
    if word.text.len() != 14 {
        return push(word, out, &number(word, u32::MAX)?.to_be_bytes());
    }
    let digits = str::from_utf8(word.text).ok().ok_or_else(wrong)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let part = |from: usize, to: usize| digits[from..to].parse::<i64>().unwrap_or(0);
    let (year, month, day) = (part(0, 4), part(4, 6), part(6, 8));
    let (hour, minute, second) = (part(8, 10), part(10, 12), part(12, 14));
    let is_date = (1..=12).contains(&month) && (1..=31).contains(&day) && year >= 1970;
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return Err(wrong());
    }
    // Days since 1970 of a date of the Gregorian calendar, whose year begins in March here.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    // Times go around (RFC 4034 §3.1.5).
    push(word, out, &(seconds as u32).to_be_bytes())
}

/// Bytes in hexadecimal, with hyphens.
pub(super) fn eui(word: &Word<'_>, len: usize, out: &mut Data<'_>) -> Result<(), RecordError> {
    let mut found = 0;
    for pair in word.text.split(|byte| *byte == b'-') {
        let digits = str::from_utf8(pair).ok().filter(|pair| is_hex(pair, 2));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        push(word, out, &[byte.ok_or(word.wrong("expected bytes such as 00-5e-90-01"))?])?;
        found += 1;
    }
    if found == len { Ok(()) } else { Err(word.wrong("wrong number of bytes for this type")) }
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Four groups of up to four hexadecimal digits.
pub(super) fn locator(word: &Word<'_>, out: &mut Data<'_>) -> Result<(), RecordError> {
    let wrong = || word.wrong("expected 64 bits such as 2001:db8:1:2");
    let mut groups = 0;
    for group in word.text.split(|byte| *byte == b':') {
        let digits = str::from_utf8(group).ok().filter(|text| is_hex(text, text.len()));
        let bits = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        push(word, out, &bits.ok_or_else(wrong)?.to_be_bytes())?;
        groups += 1;
    }
    if groups == 4 { Ok(()) } else { Err(wrong()) }
}

/// A type of certificate, by name or number.
pub(super) fn cert_kind(word: &Word<'_>, out: &mut Data<'_>) -> Result<(), RecordError> {
    let named = CERT_KINDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word.text));
    let rtype = match named {
        Some((_, rtype)) => *rtype,
        None => number(word, u16::MAX.into())? as u16,
    };
    push(word, out, &rtype.to_be_bytes())
}

/// `D [M [S]] N|S D [M [S]] E|W ALT[m] [SIZE[m] [HP[m] [VP[m]]]]`
pub(super) fn location(words: &mut Words<'_>, out: &mut Data<'_>) -> Result<(), RecordError> {
    let (latitude, _) = angle(words, 90, *b"NS")?;
    let (longitude, last) = angle(words, 180, *b"EW")?;
    let word = words.next()?.ok_or(last.wrong("the altitude is missing after this word"))?;
    let altitude = LOC_SEA + centimetres(&word)?;
    let altitude = u32::try_from(altitude).map_err(|_| word.wrong("altitude out of range"))?;
    let mut precisions = LOC_DEFAULTS;
    for precision in &mut precisions {
        let Some(word) = words.next()? else { break };
        *precision =
            mantissa(centimetres(&word)?).ok_or(word.wrong("expected metres, at most 90000000"))?;
    }
    push(&word, out, &[0])?;
    push(&word, out, &precisions)?;
    for number in [latitude, longitude, altitude] {
        push(&word, out, &number.to_be_bytes())?;
    }
    Ok(())
}

/// Degrees, minutes and seconds, up to one of the letters `ends`.
fn angle<'t>(
    words: &mut Words<'t>,
    max: u32,
    ends: [u8; 2],
) -> Result<(u32, Word<'t>), RecordError> {
    let (mut total, mut place) = (0, 0);
    loop {
        let word = words.expect("the record ends within a location")?;
        let letter = word.text.to_ascii_uppercase();
        if place > 0 && letter.len() == 1 && ends.contains(&letter[0]) {
            if total > max * 3_600_000 {
                return Err(word.wrong("the angle is too large"));
            }
            let is_positive = letter[0] == ends[0] && ends[0] == b'N' || letter[0] == b'E';
            let angle = if is_positive { LOC_CENTRE + total } else { LOC_CENTRE - total };
            return Ok((angle, word));
        }
        let limit = if place == 0 { max } else { 59 };
        let (whole, part) = match word.text.iter().position(|byte| *byte == b'.') {
            Some(dot) if place == 2 => (&word.text[..dot], &word.text[dot + 1..]),
            _ => (word.text, &[][..]),
        };
        if place == 3 || part.len() > 3 {
            return Err(word.wrong("expected N, S, E or W after degrees, minutes and seconds"));
        }
        let whole = number(&Word { text: whole, ..word }, limit)?;
        let mut thousandths = 0;
        if !part.is_empty() {
            let digits = number(&Word { text: part, ..word }, 999)?;
            thousandths = digits * 10_u32.pow(3 - part.len() as u32);
        }
        total += whole * [3_600_000, 60_000, 1_000][place] + thousandths;
        place += 1;
    }
}

/// Metres with up to two decimals and maybe an `m`, in centimetres.
fn centimetres(word: &Word<'_>) -> Result<i64, RecordError> {
    let wrong = || word.wrong("expected metres such as 10.5m");
    let text = str::from_utf8(word.text).ok().ok_or_else(wrong)?;
    let text = text.strip_suffix(['m', 'M']).unwrap_or(text);
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |text| (-1, text));
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty()
        || whole.len() > 9
        || part.len() > 2
        || !is_number(whole)
        || !is_number(part)
    {
        return Err(wrong());
    }
    let whole: i64 = whole.parse().map_err(|_| wrong())?;
    let part: i64 = format!("{part:0<2}").parse().map_err(|_| wrong())?;
    Ok(sign * (100 * whole + part))
}

/// Centimetres as a digit and a power of ten (RFC 1876 §2).
fn mantissa(centimetres: i64) -> Option<u8> {
    let mut rest = u64::try_from(centimetres).ok()?;
    let mut power = 0;
    while rest > 9 {
        (rest, power) = (rest / 10, power + 1);
    }
    (power <= 9).then_some((rest as u8) << 4 | power)
}

/// `[!]FAMILY:ADDRESS/LENGTH`, any number of them.
pub(super) fn prefixes(words: &mut Words<'_>, out: &mut Data<'_>) -> Result<(), RecordError> {
    while let Some(word) = words.next()? {
        let wrong = || word.wrong("expected a prefix such as 1:192.0.2.0/24 or !2:2001:db8::/32");
        let text = str::from_utf8(word.text).ok().ok_or_else(wrong)?;
        let (negated, text) = text.strip_prefix('!').map_or((0, text), |text| (0x80, text));
        let (family, text) = text.split_once(':').ok_or_else(wrong)?;
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        let (octets, bits, family) = match family {
            "1" => (address.parse::<Ipv4Addr>().map_err(|_| wrong())?.octets().to_vec(), 32, 1),
            "2" => (address.parse::<Ipv6Addr>().map_err(|_| wrong())?.octets().to_vec(), 128, 2),
            _ => return Err(wrong()),
        };
        let length: u8 = length.parse().map_err(|_| wrong())?;
        if length > bits {
            return Err(wrong());
        }
        let used = octets.iter().rposition(|octet| *octet != 0).map_or(0, |place| place + 1);
        push(&word, out, &[0, family, length, negated | used as u8])?;
        push(&word, out, &octets[..used])?;
    }
    Ok(())
}

/// `TYPE ALGORITHM GATEWAY KEY`.
pub(super) fn gateway(words: &mut Words<'_>, out: &mut Data<'_>) -> Result<(), RecordError> {
    let word = words.expect("expected the type of a gateway")?;
    let rtype = number(&word, 3)? as u8;
    let word = words.expect("expected an algorithm")?;
    let algorithm = number(&word, u8::MAX.into())? as u8;
    push(&word, out, &[rtype, algorithm])?;
    destination(words, rtype, out)?;
    // A record without an algorithm has no key.
    let mut ahead = *words;
    if ahead.next()?.is_none() { Ok(()) } else { base64(words, out) }
}

/// `D TYPE RELAY`.
pub(super) fn relay(words: &mut Words<'_>, out: &mut Data<'_>) -> Result<(), RecordError> {
    let word = words.expect("expected the discovery bit")?;
    let bit = number(&word, 1)? as u8;
    let word = words.expect("expected the type of a relay")?;
    let rtype = number(&word, 3)? as u8;
    push(&word, out, &[bit << 7 | rtype])?;
    destination(words, rtype, out)
}

/// A gateway or relay of this type: none, an address, a name.
fn destination(words: &mut Words<'_>, rtype: u8, out: &mut Data<'_>) -> Result<(), RecordError> {
    let word = words.expect("expected a gateway or relay")?;
    match rtype {
        0 if word.text == b"." => Ok(()),
        0 => Err(word.wrong("expected '.', because the type is 0")),
        1 => push(&word, out, &address::<Ipv4Addr>(&word, "expected an IPv4 address")?.octets()),
        2 => push(&word, out, &address::<Ipv6Addr>(&word, "expected an IPv6 address")?.octets()),
        _ => name(&word, out),
    }
}

/// `ALGORITHM HIT KEY [NAME...]`.
pub(super) fn identity(words: &mut Words<'_>, out: &mut Data<'_>) -> Result<(), RecordError> {
    let word = words.expect("expected an algorithm")?;
    let algorithm = number(&word, u8::MAX.into())? as u8;
    let head = out.len();
    push(&word, out, &[0, algorithm, 0, 0])?;
    let hit = words.expect("expected a host identity tag")?;
    hex(&mut Words::of_line(hit.text), out)
        .map_err(|_| hit.wrong("expected hexadecimal digits"))?;
    let hit_len = out.len() - head - 4;
    let key = words.expect("expected base64")?;
    base64(&mut Words::of_line(key.text), out).map_err(|_| key.wrong("expected base64"))?;
    let key_len = out.len() - head - 4 - hit_len;
    out[head] = u8::try_from(hit_len).map_err(|_| hit.wrong("more than 255 bytes"))?;
    let key_len = u16::try_from(key_len).map_err(|_| key.wrong("more than 65535 bytes"))?;
    out[head + 2..head + 4].copy_from_slice(&key_len.to_be_bytes());
    while let Some(word) = words.next()? {
        name(&word, out)?;
    }
    Ok(())
}
