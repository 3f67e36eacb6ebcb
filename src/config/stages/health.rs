//! `health [ADDR] { lameduck DURATION }`
//!
//! `health`: the HTTP address that answers as long as the process lives, and the time for which it
//! continues to serve after a stop signal. Of several stanzas the last applies.

use super::super::context::Context;
use super::super::duration::show_duration;
use super::super::error::DirectiveError;
use super::super::http;
use crate::corefile::{Cursor, ParseError, did_you_mean};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// The port, on all addresses, where none is written.
const PORT: u16 = 8080;

/// Settings of `health`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Health {
    /// At `/health` there.
    pub(crate) address: SocketAddr,
    /// Time for which queries are served after a stop signal.
    pub(crate) lameduck: Duration,
}

/// Reads all `health` stanzas of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<Health>, DirectiveError> {
    let mut health = None;
    while let Some(stanza) = context.stanza("health", cursor) {
        context.warn_of_earlier("health", health.is_some(), &stanza.place);
        let address = http::read_address(cursor, context, http::any(PORT))?;
        let mut lameduck = Duration::ZERO;
        while let Some(property) = cursor.block() {
            if &*property.text != "lameduck" {
                let suggestion = did_you_mean(&property.text, ["lameduck"]);
                let message = format!("unknown property '{}'{suggestion}", property.text);
                return Err(ParseError::at(property, message).into());
            }
            lameduck = http::read_duration(cursor.expect_arg()?, "lameduck")?;
            cursor.expect_no_arg()?;
        }
        health = Some(Health { address, lameduck });
    }
    Ok(health)
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &Option<Health>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(Health { address, lameduck }) = settings else { return Ok(()) };
    let (address, lameduck) = (http::show(*address), show_duration(*lameduck));
    writeln!(f, "    health {address} {{\n        lameduck {lameduck}\n    }}")
}
