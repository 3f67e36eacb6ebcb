//! `grpc_server { max_streams N; max_connections N; max_per_client N }`
//!
//! `grpc_server`: limits of `grpc://` listeners. `max_streams` is the maximum number of requests at
//! a time on a connection, up to that of all connections; the others are those of `tcp`, of which
//! the reference has only `max_connections`. 0 is no limit of its own.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::once;
use super::tcp::{RequestLimits, number, read_block, write_limits};
use crate::corefile::Cursor;
use std::fmt;

/// Reads the `grpc_server` stanza of a server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<RequestLimits>, DirectiveError> {
    let Some(_) = context.stanza("grpc_server", cursor) else { return Ok(None) };
    let mut grpc = RequestLimits::default();
    let RequestLimits { requests_max, limits } = &mut grpc;
    read_block(cursor, limits, &["max_streams"], |property, cursor| {
        *requests_max = number(property, cursor)?;
        Ok(())
    })?;
    once(cursor)?;
    Ok(Some(grpc))
}

/// Writes the stanza of the directive.
pub(super) fn write(settings: &Option<RequestLimits>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(RequestLimits { requests_max, limits }) = settings else { return Ok(()) };
    writeln!(f, "    grpc_server {{")?;
    writeln!(f, "        max_streams {}", requests_max.unwrap_or(0))?;
    write_limits(limits, f)?;
    writeln!(f, "    }}")
}
