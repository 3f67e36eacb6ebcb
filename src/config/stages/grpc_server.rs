//! `grpc_server { max_streams N; max_connections N; max_per_client N }`
//!
//! `grpc_server`: limits of `grpc://` listeners. `max_streams` is the maximum number of requests at
//! a time on a connection, up to that of all connections; the others are those of `tcp`, of which
//! the reference has only `max_connections`. 0 is no limit of its own.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::tcp::{RequestLimits, read_requests, write_requests};
use crate::corefile::Cursor;
use std::fmt;

/// Reads the `grpc_server` stanza of a server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<RequestLimits>, DirectiveError> {
    context.stanza("grpc_server", cursor).map(|_| read_requests(cursor)).transpose()
}

/// Writes the stanza of the directive.
pub(super) fn write(settings: &Option<RequestLimits>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    settings.iter().try_for_each(|settings| write_requests("grpc_server", settings, f))
}
