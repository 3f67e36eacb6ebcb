//! `tcp { max_connections N; max_per_client N }`
//!
//! `tcp`: limits of clients' connections to `dns://` and `tls://` listeners, which the reference
//! does not have. Both are numbers for the process; 0 is no limit but the table of all connections.
//! At `max_connections` the connection that has been quiet for longest gives way to a new one; a
//! client with `max_per_client` connections gets no other. One address may have many clients behind
//! it, so without the option it may have half of all.

use super::super::ListenerLimits;
use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::numbers;
use super::once;
use crate::corefile::{Cursor, ParseError, Token, did_you_mean};
use std::fmt;

/// Names of the options, which other directives share.
const LIMITS: [&str; 2] = ["max_connections", "max_per_client"];

/// Limits of listeners whose connections carry requests: streams of HTTP/2 and QUIC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequestLimits {
    /// Maximum number of requests at a time on a connection. `None`: that of all connections.
    pub(crate) requests_max: Option<u32>,
    /// Limits of connections.
    pub(crate) limits: ListenerLimits,
}

/// Reads the `tcp` stanza of a server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<ListenerLimits>, DirectiveError> {
    let Some(stanza) = context.stanza("tcp", cursor) else { return Ok(None) };
    let mut limits = ListenerLimits::default();
    if !read_block(cursor, &mut limits, &[], |_, _| Ok(()))? {
        let message = "expected at least one of max_connections and max_per_client";
        return Err(DirectiveError::value(stanza, message));
    }
    once(cursor)?;
    Ok(Some(limits))
}

/// Reads the block of a stanza, which has no arguments: the limits, and `others`, whose values
/// `read` takes. Returns false if it has no options.
pub(super) fn read_block<'a>(
    cursor: &mut Cursor<'a>,
    limits: &mut ListenerLimits,
    others: &[&str],
    mut read: impl FnMut(&Token, &mut Cursor<'a>) -> Result<(), DirectiveError>,
) -> Result<bool, DirectiveError> {
    if !cursor.rest().is_empty() {
        return Err(cursor.argument_error().into());
    }
    let mut has_options = false;
    while let Some(property) = cursor.block() {
        has_options = true;
        match &*property.text {
            name if LIMITS.contains(&name) => read_limit(property, cursor, limits)?,
            name if others.contains(&name) => read(property, cursor)?,
            other => {
                let known = LIMITS.into_iter().chain(others.iter().copied());
                let suggestion = did_you_mean(other, known);
                let message = format!("unknown property '{other}'{suggestion}");
                return Err(ParseError::at(property, message).into());
            }
        }
    }
    Ok(has_options)
}

/// Reads the value of `property`, one of [`LIMITS`]; 0 is no limit.
fn read_limit(
    property: &Token,
    cursor: &mut Cursor<'_>,
    limits: &mut ListenerLimits,
) -> Result<(), DirectiveError> {
    let limit = number(property, cursor)?;
    match &*property.text {
        "max_connections" => limits.connections = limit,
        _ => limits.per_client = limit,
    }
    Ok(())
}

/// Reads the value of `property`, a number; `None`: 0, which is no limit.
pub(super) fn number(
    property: &Token,
    cursor: &mut Cursor<'_>,
) -> Result<Option<u32>, DirectiveError> {
    let written = cursor.expect_arg()?;
    if !cursor.rest().is_empty() {
        return Err(cursor.argument_error().into());
    }
    let invalid = |reason: String| {
        let message = format!("invalid {} value '{}': {reason}", property.text, written.text);
        DirectiveError::value(written, message)
    };
    let number = numbers::signed(&written.text).map_err(invalid)?;
    let number = u32::try_from(number)
        .map_err(|_| invalid(format!("expected a number from 0 to {}", u32::MAX)))?;
    Ok(Some(number).filter(|number| *number > 0))
}

/// Reads the stanza of a directive with these limits, whose `max_streams` may be 0.
pub(super) fn read_requests(cursor: &mut Cursor<'_>) -> Result<RequestLimits, DirectiveError> {
    let mut requests = RequestLimits::default();
    let RequestLimits { requests_max, limits } = &mut requests;
    read_block(cursor, limits, &["max_streams"], |property, cursor| {
        *requests_max = number(property, cursor)?;
        Ok(())
    })?;
    once(cursor)?;
    Ok(requests)
}

/// Writes the stanza of the directive `name` with these limits.
pub(super) fn write_requests(
    name: &str,
    requests: &RequestLimits,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    writeln!(f, "    {name} {{")?;
    writeln!(f, "        max_streams {}", requests.requests_max.unwrap_or(0))?;
    write_limits(&requests.limits, f)?;
    writeln!(f, "    }}")
}

/// Writes the options that are limits.
pub(super) fn write_limits(limits: &ListenerLimits, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (name, limit) in LIMITS.into_iter().zip([limits.connections, limits.per_client]) {
        writeln!(f, "        {name} {}", limit.unwrap_or(0))?;
    }
    Ok(())
}

/// Writes the stanza of the directive.
pub(super) fn write(settings: &Option<ListenerLimits>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(limits) = settings else { return Ok(()) };
    writeln!(f, "    tcp {{")?;
    write_limits(limits, f)?;
    writeln!(f, "    }}")
}
