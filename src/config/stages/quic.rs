//! `quic { max_streams N; worker_pool_size N; max_connections N; max_per_client N }`
//!
//! `quic`: limits of `quic://` listeners (RFC 9250). `max_streams` is the maximum number of queries
//! at a time on a connection, up to that of all connections. `worker_pool_size` is accepted without
//! effect: no query waits for a worker here. The others are those of `tcp`, of which the reference
//! has only `max_connections`; 0 is no limit of its own.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::once;
use super::tcp::{RequestLimits, number, read_block, write_limits};
use crate::corefile::{Cursor, ParseError, Token};
use std::fmt;

/// Reads the `quic` stanza of a server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<RequestLimits>, DirectiveError> {
    let Some(_) = context.stanza("quic", cursor) else { return Ok(None) };
    let mut quic = RequestLimits::default();
    let mut pool: Option<Token> = None;
    let mut pool_size = None;
    let RequestLimits { limits, requests_max } = &mut quic;
    read_block(cursor, limits, &["max_streams", "worker_pool_size"], |property, cursor| {
        let place = match &*property.text {
            "max_streams" => &mut *requests_max,
            _ => {
                pool.get_or_insert(property.clone());
                &mut pool_size
            }
        };
        if place.is_some() {
            let message = format!("{} already defined for this server block", property.text);
            return Err(ParseError::at(property, message).into());
        }
        *place = Some(positive(property, cursor)?);
        Ok(())
    })?;
    if let Some(pool) = pool {
        let message = "plugin/quic: worker_pool_size has no effect: no query waits for a worker; \
                       max_streams limits the queries of a connection";
        context.warn(&pool.place, message);
    }
    once(cursor)?;
    Ok(Some(quic))
}

/// Reads the value of `property`, a number above 0.
fn positive(property: &Token, cursor: &mut Cursor<'_>) -> Result<u32, DirectiveError> {
    number(property, cursor)?.ok_or_else(|| {
        let message = format!("{} must be a positive integer: 0", property.text);
        DirectiveError::value(property, message)
    })
}

/// Writes the stanza of the directive.
pub(super) fn write(settings: &Option<RequestLimits>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(RequestLimits { requests_max, limits }) = settings else { return Ok(()) };
    writeln!(f, "    quic {{")?;
    if let Some(requests_max) = requests_max {
        writeln!(f, "        max_streams {requests_max}")?;
    }
    write_limits(limits, f)?;
    writeln!(f, "    }}")
}
