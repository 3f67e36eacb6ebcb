//! `pprof [ADDR] { block [RATE] }`
//!
//! Profiles of the Go runtime in the reference. There is none here, so the directive is accepted
//! and nothing listens.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::{http, numbers};
use super::once;
use crate::corefile::{Cursor, ParseError, did_you_mean};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

/// The port, on the loopback interface, where none is written.
const PORT: u16 = 6053;

/// Reads the `pprof` stanza of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<SocketAddr>, DirectiveError> {
    let Some(stanza) = context.stanza("pprof", cursor) else { return Ok(None) };
    let address = http::read_address(cursor, context, (Ipv4Addr::LOCALHOST, PORT).into())?;
    while let Some(property) = cursor.block() {
        if &*property.text != "block" {
            let suggestion = did_you_mean(&property.text, ["block"]);
            let message = format!("unknown property '{}'{suggestion}", property.text);
            return Err(ParseError::at(property, message).into());
        }
        if let Some(rate) = cursor.arg()
            && numbers::signed(&rate.text).is_err()
        {
            let message = format!("property 'block' invalid integer value '{}'", rate.text);
            return Err(ParseError::at(rate, message).into());
        }
        cursor.expect_no_arg()?;
    }
    let message = format!(
        "plugin/pprof: no effect: there is no Go runtime to profile, and nothing listens on {}; \
         use 'perf record -g -p PID' to profile onward, and 'status' for the load of each worker",
        http::show(address)
    );
    context.warn(&stanza.place, message);
    once(cursor)?;
    Ok(Some(address))
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &Option<SocketAddr>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    settings.iter().try_for_each(|address| writeln!(f, "    pprof {}", http::show(*address)))
}
