//! Single words of `cache`: numbers of answers, bytes and seconds, and classes.
//!
//! Each is read within its bounds; the error says what the word is and what it should be. The
//! bounds are the engine's, which tells slots and blocks by 32 bits, and those of DNS.

use super::super::super::error::DirectiveError;
use super::super::super::{duration, numbers};
use crate::corefile::{Token, did_you_mean};
use std::time::Duration;

pub(super) const CLASSES: [&str; 2] = ["success", "denial"];
/// A slot number has 32 bits, and all of them are reserved at the start.
const CAPACITY_MAX: i64 = 100_000_000;
/// Less than this would not hold a few long answers.
pub(super) const BYTES_MIN: usize = 64 << 10;
/// Blocks of bytes are numbered with 32 bits, too.
const BYTES_MAX: usize = 128 << 30;
/// The highest TTL there is (RFC 2181 §8).
const TTL_MAX: i64 = i32::MAX as i64;

pub(super) fn read_class_name(word: &Token) -> Result<usize, DirectiveError> {
    CLASSES.into_iter().position(|class| class == &*word.text).ok_or_else(|| {
        let suggestion = did_you_mean(&word.text, CLASSES);
        let message =
            format!("unknown class '{}'; expect success or denial{suggestion}", word.text);
        DirectiveError::value(word, message)
    })
}

pub(super) fn read_number(word: &Token) -> Result<i64, DirectiveError> {
    numbers::signed(&word.text).map_err(|message| DirectiveError::value(word, message))
}

pub(super) fn read_capacity(word: &Token, least: i64) -> Result<i64, DirectiveError> {
    let number = read_number(word)?;
    if number < least {
        return Err(DirectiveError::value(word, format!("CAPACITY must be positive: {number}")));
    }
    if number > CAPACITY_MAX {
        let message = format!("CAPACITY must not be more than {CAPACITY_MAX}: {number}");
        return Err(DirectiveError::value(word, message));
    }
    Ok(number)
}

/// A TTL of `least` seconds or more.
pub(super) fn read_ttl(word: &Token, least: i64) -> Result<u32, DirectiveError> {
    let number = read_number(word)?;
    if number < least {
        let message = match least {
            1 => format!("TTL must be positive: {number}"),
            _ => format!("MINTTL must not be negative: {number}"),
        };
        return Err(DirectiveError::value(word, message));
    }
    Ok(u32::try_from(number.min(TTL_MAX)).unwrap_or(0))
}

/// A TTL of a second or more, with a unit or without.
pub(super) fn read_seconds(word: &Token) -> Result<u32, DirectiveError> {
    if numbers::signed(&word.text).is_ok() {
        return read_ttl(word, 1);
    }
    let nanos =
        duration::parse(&word.text).map_err(|message| DirectiveError::value(word, message))?;
    if nanos <= 0 {
        let message = format!("TTL must be positive: {}", duration::show(nanos));
        return Err(DirectiveError::value(word, message));
    }
    let seconds = whole_seconds(word, "TTL", nanos)?;
    Ok(u32::try_from(seconds.min(TTL_MAX)).unwrap_or(0))
}

/// The TTL of expired answers: a duration of whole seconds. The unit may be left out, which the
/// reference does not allow.
pub(super) fn read_response_ttl(word: &Token) -> Result<u32, DirectiveError> {
    const WHAT: &str = "serve_stale RESPONSE_TTL";
    let digits = word.text.bytes().all(|byte| byte.is_ascii_digit()) && !word.text.is_empty();
    let seconds = if digits {
        read_number(word)?
    } else {
        let nanos = duration::parse(&word.text);
        let nanos = nanos.map_err(|why| DirectiveError::value(word, format!("{WHAT}: {why}")))?;
        if nanos < 0 {
            let message = format!("{WHAT} must not be negative: {}", duration::show(nanos));
            return Err(DirectiveError::value(word, message));
        }
        whole_seconds(word, WHAT, nanos)?
    };
    u32::try_from(seconds).map_err(|_| {
        let message = format!("{WHAT} must not be more than {} seconds: {}", u32::MAX, word.text);
        DirectiveError::value(word, message)
    })
}

/// The seconds in `nanos`, which has to be a multiple of one.
fn whole_seconds(word: &Token, what: &str, nanos: i64) -> Result<i64, DirectiveError> {
    const SECOND: i64 = 1_000_000_000;
    if nanos % SECOND == 0 {
        return Ok(nanos / SECOND);
    }
    let message = format!("{what} must be whole seconds: {}", duration::show(nanos));
    Err(DirectiveError::value(word, message))
}

/// `NUMBER[K|M|G]`.
pub(super) fn read_bytes(word: &Token) -> Result<usize, DirectiveError> {
    let text = &*word.text;
    let units = [("K", 10), ("M", 20), ("G", 30)];
    let split = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
    let (digits, shift) = split.unwrap_or((text, 0));
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let message = format!("BYTES must be a number, optionally followed by K, M or G: {text}");
        return Err(DirectiveError::value(word, message));
    }
    let bytes = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes
        .filter(|bytes| (BYTES_MIN..=BYTES_MAX).contains(bytes))
        .ok_or_else(|| DirectiveError::value(word, format!("BYTES must be 64K to 128G: {text}")))
}

/// A duration that is not negative.
pub(super) fn read_duration(word: &Token, what: &str) -> Result<Duration, DirectiveError> {
    let nanos =
        duration::parse(&word.text).map_err(|message| DirectiveError::value(word, message))?;
    let Ok(nanos) = u64::try_from(nanos) else {
        let message = format!("{what} must not be negative: {}", duration::show(nanos));
        return Err(DirectiveError::value(word, message));
    };
    Ok(Duration::from_nanos(nanos))
}
