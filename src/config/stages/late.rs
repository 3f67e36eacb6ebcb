//! `late { rate N; discard D|off }`
//!
//! Replies over UDP to clients that have waited: their rate to one address, and the age from which
//! they are not sent. The directive concerns the process, whichever block it stands in; the last of
//! several blocks wins.

use super::super::context::Context;
use super::super::duration::{self, show_duration};
use super::super::error::DirectiveError;
use super::once;
use super::ratelimit::number;
use crate::corefile::{Cursor, ParseError, Token, did_you_mean};
use std::fmt;
use std::time::Duration;

/// Age from which a reply is late: usual responses of upstreams are not.
pub(crate) const LATE: Duration = Duration::from_millis(200);
/// Late replies in a second to one address, by default: more than a resolver's clients behind one
/// address wait for, and few enough that what was held up for seconds does not arrive at once.
const RATE: u32 = 50_000;
/// Maximum of `rate`.
const RATE_MAX: u32 = 10_000_000;
/// Late replies that may be sent at once to one address.
const BURST: u32 = 128;
/// Minimum of these for each worker.
const BURST_MIN: u32 = 16;

/// Settings of late replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Late {
    /// Late replies in a second to one address; 0: no limit. In the configuration of a worker, its
    /// share.
    pub(crate) rate: u32,
    /// Late replies at once to one address, likewise.
    pub(crate) burst: u32,
    /// Older replies are not sent, at least [`LATE`]. `None`: all are sent.
    pub(crate) discard: Option<Duration>,
}

impl Default for Late {
    fn default() -> Self {
        Self { rate: RATE, burst: BURST, discard: None }
    }
}

impl Late {
    /// Reduces the rate to the share of one of `workers`.
    pub(in super::super) fn share(&mut self, workers: usize) {
        let workers = u32::try_from(workers).unwrap_or(u32::MAX).max(1);
        self.rate = self.rate.div_ceil(workers);
        self.burst = self.burst.div_ceil(workers).max(BURST_MIN);
    }
}

/// Reads the `late` stanza of a server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<Late>, DirectiveError> {
    if context.stanza("late", cursor).is_none() {
        return Ok(None);
    }
    if !cursor.rest().is_empty() {
        return Err(cursor.argument_error().into());
    }
    let mut late = Late::default();
    while let Some(property) = cursor.block() {
        match &*property.text {
            "rate" => late.rate = number(property, cursor, 0, RATE_MAX)?,
            "discard" => {
                let written = cursor.expect_arg()?;
                cursor.expect_no_arg()?;
                late.discard = discard(written)?;
            }
            other => {
                let suggestion = did_you_mean(other, ["rate", "discard"]);
                let message = format!("unknown property '{other}'{suggestion}");
                return Err(ParseError::at(property, message).into());
            }
        }
    }
    once(cursor)?;
    Ok(Some(late))
}

fn discard(written: &Token) -> Result<Option<Duration>, DirectiveError> {
    if &*written.text == "off" {
        return Ok(None);
    }
    let nanos = duration::parse(&written.text)
        .map_err(|message| DirectiveError::value(written, format!("discard: {message}")))?;
    let age = u64::try_from(nanos).ok().map(Duration::from_nanos);
    let age = age.filter(|age| *age >= LATE).ok_or_else(|| {
        let message = format!(
            "discard '{}': expected a time of at least {}, or off",
            written.text,
            show_duration(LATE)
        );
        DirectiveError::value(written, message)
    })?;
    Ok(Some(age))
}

/// Writes the stanza of the directive.
pub(super) fn write(settings: &Option<Late>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(late) = settings else { return Ok(()) };
    writeln!(f, "    late {{\n        rate {}", late.rate)?;
    let discard =
        late.discard.map_or_else(|| "off".to_owned(), |age| show_duration(age).to_string());
    writeln!(f, "        discard {discard}\n    }}")
}
