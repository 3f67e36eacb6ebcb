//! `ready [ADDR] { monitor until-ready|continuously }`
//!
//! `ready`: the HTTP address that tells whether the block can serve clients. The language allows
//! one in a block; each block's upstreams are watched as its own `monitor` says.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::http;
use super::once;
use crate::corefile::{Cursor, ParseError, did_you_mean};
use std::fmt;
use std::net::SocketAddr;

/// The port, on all addresses, where none is written.
const PORT: u16 = 8181;
const MONITORS: [&str; 2] = ["until-ready", "continuously"];

/// Settings of `ready`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ready {
    /// At `/ready` there.
    pub(crate) address: SocketAddr,
    /// A stanza that was ready can become unready.
    pub(crate) continuously: bool,
}

/// Reads the `ready` stanza of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<Ready>, DirectiveError> {
    cursor.stanza();
    let address = http::read_address(cursor, context, http::any(PORT))?;
    let mut continuously = false;
    while let Some(property) = cursor.block() {
        if &*property.text != "monitor" {
            let suggestion = did_you_mean(&property.text, ["monitor"]);
            let message = format!("unknown property '{}'{suggestion}", property.text);
            return Err(ParseError::at(property, message).into());
        }
        let monitor = cursor.expect_arg()?;
        let known = MONITORS.iter().position(|known| *known == &*monitor.text);
        continuously = known == Some(1);
        if known.is_none() {
            let suggestion = did_you_mean(&monitor.text, MONITORS);
            let expected = MONITORS.join(" or ");
            let message =
                format!("unknown monitor '{}'; expect {expected}{suggestion}", monitor.text);
            return Err(DirectiveError::value(monitor, message));
        }
        cursor.expect_no_arg()?;
    }
    once(cursor)?;
    Ok(Some(Ready { address, continuously }))
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &Option<Ready>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(Ready { address, continuously }) = settings else { return Ok(()) };
    let (address, monitor) = (http::show(*address), MONITORS[usize::from(*continuously)]);
    writeln!(f, "    ready {address} {{\n        monitor {monitor}\n    }}")
}
