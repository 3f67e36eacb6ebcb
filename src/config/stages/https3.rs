//! `https3 { max_streams N; max_connections N; max_per_client N }`
//!
//! `https3`: limits of `https3://` listeners (RFC 9114). `max_streams` is the maximum number of
//! requests at a time on a connection, up to that of all connections; the others are those of
//! `tcp`. 0 is no limit of its own. Paths and trusted proxies are those of `https`, because a
//! client may change from one version of HTTP to another.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::tcp::{RequestLimits, read_requests, write_requests};
use crate::corefile::Cursor;
use std::fmt;

/// Reads the `https3` stanza of a server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<RequestLimits>, DirectiveError> {
    context.stanza("https3", cursor).map(|_| read_requests(cursor)).transpose()
}

/// Writes the stanza of the directive.
pub(super) fn write(settings: &Option<RequestLimits>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    settings.iter().try_for_each(|settings| write_requests("https3", settings, f))
}
