//! Service parameters of HTTPS and SVCB records (RFC 9460 §2.1).
//!
//! `KEY` or `KEY=VALUE`, in any order; on the wire they ascend by key, so each is written at the
//! end and then turned into its place.

use super::values::{Base64Decoder, address, number, push};
use super::words::{Decoded, Word};
use super::{Data, RecordError};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The keys that have names, in the order of their numbers (RFC 9460 §14.3.2, RFC 9461, RFC 9540).
const KEYS: [&str; 9] = [
    "mandatory",
    "alpn",
    "no-default-alpn",
    "port",
    "ipv4hint",
    "ech",
    "ipv6hint",
    "dohpath",
    "ohttp",
];

/// Reads one parameter; those before it begin at `start` of `out`.
pub(super) fn parameter(
    word: &Word<'_>,
    start: usize,
    out: &mut Data<'_>,
) -> Result<(), RecordError> {
    let split = word.text.iter().position(|byte| *byte == b'=');
    let (key, value) = match split {
        Some(split) => (&word.text[..split], Some(&word.text[split + 1..])),
        None => (word.text, None),
    };
    let key = key_of(key).ok_or(word.wrong("unknown service parameter"))?;
    let own = out.len();
    push(word, out, &key.to_be_bytes())?;
    push(word, out, &[0; 2])?;
    if let Some(value) = value {
        let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        let text = bare.unwrap_or(value);
        value_of(key, &Word { text, ..*word }, out)?;
    } else if !matches!(key, 2 | 8) && key < KEYS.len() as u16 {
        return Err(word.wrong("the service parameter has no value"));
    }
    let len = (out.len() - own - 4) as u16;
    out[own + 2..own + 4].copy_from_slice(&len.to_be_bytes());
    let mut place = start;
    while place < own {
        let (other, len) = (word_at(out, place), word_at(out, place + 2));
        if other == key {
            return Err(word.wrong("the service parameter is given twice"));
        }
        if other > key {
            let len = out.len() - own;
            out[place..].rotate_right(len);
            break;
        }
        place += 4 + usize::from(len);
    }
    Ok(())
}

fn word_at(bytes: &[u8], place: usize) -> u16 {
    u16::from_be_bytes([bytes[place], bytes[place + 1]])
}

fn key_of(text: &[u8]) -> Option<u16> {
    let text = str::from_utf8(text).ok()?;
    let known = KEYS.iter().position(|key| *key == text);
    let number = || text.strip_prefix("key").filter(|digits| !digits.starts_with('+'));
    known.map(|place| place as u16).or_else(|| number()?.parse().ok())
}

/// Appends the value of the parameter `key`, which is the text of `word`.
fn value_of(key: u16, word: &Word<'_>, out: &mut Data<'_>) -> Result<(), RecordError> {
    match key {
        0 => {
            let start = out.len();
            for item in word.text.split(|byte| *byte == b',') {
                let key = key_of(item).ok_or(word.wrong("unknown service parameter"))?;
                push(word, out, &key.to_be_bytes())?;
            }
            out[start..].as_chunks_mut::<2>().0.sort_unstable();
            Ok(())
        }
        1 => protocols(word, out),
        2 | 8 => Err(word.wrong("the service parameter takes no value")),
        3 => push(word, out, &(number(word, u16::MAX.into())? as u16).to_be_bytes()),
        4 => word.text.split(|byte| *byte == b',').try_for_each(|text| {
            let item = Word { text, ..*word };
            push(word, out, &address::<Ipv4Addr>(&item, "expected an IPv4 address")?.octets())
        }),
        5 => {
            let mut decoder = Base64Decoder::default();
            decoder.take(word, word.text, out)?;
            decoder.end(word)
        }
        6 => word.text.split(|byte| *byte == b',').try_for_each(|text| {
            let item = Word { text, ..*word };
            push(word, out, &address::<Ipv6Addr>(&item, "expected an IPv6 address")?.octets())
        }),
        _ => Decoded::new(*word).try_for_each(|byte| push(word, out, &[byte?.0])),
    }
}

/// A list of protocol identifiers, each behind its length (RFC 9460 §7.1.1). In the decoded word a
/// backslash makes the next byte one of an identifier (appendix A.1).
fn protocols(word: &Word<'_>, out: &mut Data<'_>) -> Result<(), RecordError> {
    let wrong = || word.wrong("a protocol must have 1 to 255 bytes");
    let mut own = out.len();
    push(word, out, &[0])?;
    let mut is_escaped = false;
    for decoded in Decoded::new(*word) {
        let (byte, _) = decoded?;
        match byte {
            b'\\' if !is_escaped => is_escaped = true,
            b',' if !is_escaped => {
                if out[own] == 0 {
                    return Err(wrong());
                }
                own = out.len();
                push(word, out, &[0])?;
            }
            _ => {
                is_escaped = false;
                out[own] = out[own].checked_add(1).ok_or_else(wrong)?;
                push(word, out, &[byte])?;
            }
        }
    }
    if out[own] == 0 { Err(wrong()) } else { Ok(()) }
}
