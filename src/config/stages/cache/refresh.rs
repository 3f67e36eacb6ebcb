//! Options of `cache` about asking the upstream again: `prefetch`, `serve_stale`, `servfail`.
//!
//! `prefetch` refreshes answers before they expire, `serve_stale` serves them afterwards, and
//! `servfail` is the time for which a failure is cached. The reader checks that they agree with
//! each other.

use super::super::super::context::Context;
use super::super::super::duration::show_duration;
use super::super::super::error::DirectiveError;
use super::super::super::{QUERY_TIMEOUT, numbers};
use super::values::{read_duration, read_number, read_response_ttl};
use super::{Prefetch, ServeStale, StaleMode};
use crate::corefile::{Cursor, Token, did_you_mean};
use std::time::Duration;

const MODES: [&str; 2] = ["immediate", "verify"];
const STALE_WINDOW: Duration = Duration::from_secs(3_600);
/// A longer window is not what RFC 8767 §5 suggests.
const STALE_WINDOW_USEFUL: Duration = Duration::from_secs(3 * 86_400);
/// Neither a failure nor a failed attempt counts for longer than this (RFC 2308 §7.1).
const FAILURE_MAX: Duration = Duration::from_secs(300);
/// Nor should it be forgotten sooner (RFC 9520 §3.2).
const FAILURE_MIN: Duration = Duration::from_secs(1);
const PREFETCH_DURATION: Duration = Duration::from_secs(60);
const PREFETCH_PERCENTAGE: u8 = 10;

/// `AMOUNT [DURATION [PERCENT%]]`.
pub(super) fn read_prefetch(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<Prefetch>, DirectiveError> {
    let words = cursor.expect_rest()?;
    if words.len() > 3 {
        return Err(cursor.argument_error().into());
    }
    let amount = read_number(words[0])?;
    let Ok(amount) = u64::try_from(amount) else {
        let message = format!("prefetch AMOUNT must not be negative: {amount}");
        return Err(DirectiveError::value(words[0], message));
    };
    let mut duration = PREFETCH_DURATION;
    if let Some(word) = words.get(1) {
        if word.text.ends_with('%') {
            let message = format!("prefetch needs a DURATION before PERCENT: {}", word.text);
            return Err(DirectiveError::value(word, message));
        }
        duration = read_duration(word, "prefetch DURATION")?;
        if duration.is_zero() && amount > 1 {
            let message = "plugin/cache: prefetch: no two hits are that close together: nothing \
                           is prefetched";
            context.warn(&word.place, message);
        }
    }
    let percentage = words.get(2).map(|word| read_percentage(word, context)).transpose()?;
    let percentage = percentage.unwrap_or(PREFETCH_PERCENTAGE);
    let amount = u32::try_from(amount).unwrap_or(u32::MAX);
    Ok((amount > 0).then_some(Prefetch { amount, duration, percentage }))
}

fn read_percentage(word: &Token, context: &mut Context<'_>) -> Result<u8, DirectiveError> {
    let Some(digits) = word.text.strip_suffix('%') else {
        let message = format!("prefetch PERCENT must end in '%': {}", word.text);
        return Err(DirectiveError::value(word, message));
    };
    let number = numbers::signed(digits).map_err(|message| DirectiveError::value(word, message))?;
    let fitting = u8::try_from(number).ok().filter(|number| (10..=90).contains(number));
    let Some(percentage) = fitting else {
        let message = format!("prefetch PERCENT must be 10% to 90%: {}", word.text);
        return Err(DirectiveError::value(word, message));
    };
    if percentage > 50 {
        let message = format!(
            "plugin/cache: prefetch: with {percentage}% left, popular names are fetched up to {} \
             times as often as they expire",
            100 / (100 - u32::from(percentage))
        );
        context.warn(&word.place, message);
    }
    Ok(percentage)
}

/// `[DURATION [immediate [RESPONSE_TTL [RECHECK]] | verify [TIMEOUT [RESPONSE_TTL [RECHECK]]]]]`.
pub(super) fn read_stale(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<ServeStale, DirectiveError> {
    let words = cursor.rest();
    let mut stale = ServeStale {
        window: STALE_WINDOW,
        mode: StaleMode::Immediate,
        ttl: 0,
        recheck: Duration::ZERO,
        prefer_positive: false,
    };
    if let Some(word) = words.first() {
        stale.window = read_duration(word, "serve_stale DURATION")?;
        if stale.window > STALE_WINDOW_USEFUL {
            let (window, useful) =
                (show_duration(stale.window), show_duration(STALE_WINDOW_USEFUL));
            let message = format!(
                "plugin/cache: answers that expired {window} ago are often wrong: RFC 8767 \
                 suggests at most {useful}"
            );
            context.warn(&word.place, message);
        }
    }
    let mut rest = words.get(2..).unwrap_or_default();
    if let Some(mode) = words.get(1) {
        stale.mode = match mode.text.to_ascii_lowercase().as_str() {
            "immediate" => StaleMode::Immediate,
            "verify" => StaleMode::Verify(None),
            other => {
                let suggestion = did_you_mean(other, MODES);
                let expected = MODES.join(" or ");
                let message =
                    format!("unknown mode '{}'; expect {expected}{suggestion}", mode.text);
                return Err(DirectiveError::value(mode, message));
            }
        };
    }
    if let (StaleMode::Verify(_), Some((word, behind))) = (stale.mode, rest.split_first()) {
        stale.mode = StaleMode::Verify(read_verify_timeout(word, context)?);
        rest = behind;
    }
    if rest.len() > 2 {
        return Err(cursor.argument_error().into());
    }
    if let Some(word) = rest.first() {
        stale.ttl = read_response_ttl(word)?;
    }
    if let Some(word) = rest.get(1) {
        stale.recheck = read_duration(word, "serve_stale RECHECK")?;
        if stale.recheck > FAILURE_MAX {
            let message = format!("serve_stale RECHECK must not be above 5m: {}", word.text);
            return Err(DirectiveError::value(word, message));
        }
    }
    Ok(stale)
}

/// Returns the time that a client waits; zero is as long as the query may take.
fn read_verify_timeout(
    word: &Token,
    context: &mut Context<'_>,
) -> Result<Option<Duration>, DirectiveError> {
    let timeout = read_duration(word, "serve_stale TIMEOUT")?;
    if timeout >= QUERY_TIMEOUT {
        let (timeout, whole) = (show_duration(timeout), show_duration(QUERY_TIMEOUT));
        let message = format!(
            "plugin/cache: serve_stale: a TIMEOUT of {timeout} has no effect: a query ends after \
             {whole}"
        );
        context.warn(&word.place, message);
    }
    Ok((!timeout.is_zero()).then_some(timeout))
}

pub(super) fn read_policy(cursor: &mut Cursor<'_>) -> Result<(), DirectiveError> {
    const POLICY: &str = "prefer_positive";
    let word = cursor.expect_arg()?;
    if !word.text.eq_ignore_ascii_case(POLICY) {
        let suggestion = did_you_mean(&word.text, [POLICY]);
        let message = format!("unknown policy '{}'; expect {POLICY}{suggestion}", word.text);
        return Err(DirectiveError::value(word, message));
    }
    Ok(cursor.expect_no_arg()?)
}

pub(super) fn read_servfail(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Duration, DirectiveError> {
    let word = cursor.expect_arg()?;
    cursor.expect_no_arg()?;
    let servfail = read_duration(word, "servfail DURATION")?;
    if servfail > FAILURE_MAX {
        let message = "caching SERVFAIL responses over 5 minutes is not permitted";
        return Err(DirectiveError::value(word, message));
    }
    if servfail < FAILURE_MIN {
        let message = format!(
            "plugin/cache: servfail {}: RFC 9520 requires caching failures for at least one second",
            word.text
        );
        context.warn(&word.place, message);
    }
    Ok(servfail)
}
