//! `timeouts { read D; write D; idle D; maxtcpqueries N }`
//!
//! `timeouts`: limits for clients' connections. Durations may be written as whole seconds without a
//! unit, here alone in the language. Options not written stay as they are; of those written twice
//! the last holds. Without `read` and `write`, `idle` stands for them: a connection on which no
//! whole query comes in and no byte of a reply goes out for so long is closed, whatever it is in
//! the middle of.

use super::super::context::Context;
use super::super::duration::show_duration;
use super::super::error::DirectiveError;
use super::super::{duration, numbers};
use crate::corefile::{Cursor, ParseError, Token, did_you_mean};
use std::fmt;
use std::time::Duration;

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Time-outs of clients' connections, as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// Until the first query of a connection, and each query that has begun, has come in.
    pub(crate) read: Option<Duration>,
    /// For which no byte of a reply goes out that waits.
    pub(crate) write: Option<Duration>,
    /// Between queries.
    pub(crate) idle: Option<Duration>,
    /// Queries that a connection may ask before it is closed.
    pub(crate) queries_max: Option<u32>,
}

/// Reads all `timeouts` stanzas of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Timeouts, DirectiveError> {
    let mut timeouts = Timeouts::default();
    while let Some(stanza) = context.stanza("timeouts", cursor) {
        cursor_has_block(cursor)?;
        let mut empty = true;
        while let Some(property) = cursor.block() {
            empty = false;
            match &*property.text {
                "read" => timeouts.read = Some(limit(cursor)?),
                "write" => timeouts.write = Some(limit(cursor)?),
                "idle" => timeouts.idle = Some(limit(cursor)?),
                "maxtcpqueries" => timeouts.queries_max = count(cursor)?,
                other => {
                    let known = ["read", "write", "idle", "maxtcpqueries"];
                    let suggestion = did_you_mean(other, known);
                    let message = format!("unknown option: '{other}'{suggestion}");
                    return Err(ParseError::at(property, message).into());
                }
            }
        }
        if empty {
            let message = "at least one of read, write, idle and maxtcpqueries is expected";
            return Err(DirectiveError::value(stanza, message));
        }
    }
    Ok(timeouts)
}

/// No argument stands before the block.
fn cursor_has_block(cursor: &mut Cursor<'_>) -> Result<(), DirectiveError> {
    if cursor.rest().is_empty() { Ok(()) } else { Err(cursor.argument_error().into()) }
}

/// A duration within bounds.
fn limit(cursor: &mut Cursor<'_>) -> Result<Duration, DirectiveError> {
    let written = cursor.expect_arg()?;
    let seconds = numbers::signed(&written.text).is_ok();
    let text = format!("{}{}", written.text, if seconds { "s" } else { "" });
    let Ok(nanos) = duration::parse(&text) else {
        return Err(ParseError::at(written, format!("failed to parse duration '{text}'")).into());
    };
    let limit = u64::try_from(nanos).map(Duration::from_nanos).ok();
    limit.filter(|limit| (SHORTEST..=LONGEST).contains(limit)).ok_or_else(|| {
        let message =
            format!("timeout provided '{text}' needs to be between 1 second and 24 hours");
        ParseError::at(written, message).into()
    })
}

/// Returns the number of queries; -1 is no limit.
fn count(cursor: &mut Cursor<'_>) -> Result<Option<u32>, DirectiveError> {
    let written: &Token = cursor.expect_arg()?;
    let number = numbers::signed(&written.text)
        .map_err(|message| DirectiveError::value(written, message))?;
    match (number, u32::try_from(number)) {
        (-1, _) => Ok(None),
        (1.., Ok(number)) => Ok(Some(number)),
        _ => {
            let message = format!("maxtcpqueries must be positive, or -1 for no limit: {number}");
            Err(DirectiveError::value(written, message))
        }
    }
}

/// Writes the stanzas of the directive.
pub(super) fn write(settings: &Timeouts, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{settings}")
}

impl fmt::Display for Timeouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return Ok(());
        }
        writeln!(f, "    timeouts {{")?;
        for (name, limit) in [("read", self.read), ("write", self.write), ("idle", self.idle)] {
            if let Some(limit) = limit {
                writeln!(f, "        {name} {}", show_duration(limit))?;
            }
        }
        if let Some(count) = self.queries_max {
            writeln!(f, "        maxtcpqueries {count}")?;
        }
        writeln!(f, "    }}")
    }
}
