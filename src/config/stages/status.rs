//! `status [ADDR]`
//!
//! `status`: the HTTP address of the status page, for browsers and `onward top`. The language has
//! no such directive; of several stanzas the last applies.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::http;
use crate::corefile::Cursor;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

/// The port, on loopback, where none is written: names of clients and questions are shown.
const PORT: u16 = 8053;

/// Reads all `status` stanzas of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<SocketAddr>, DirectiveError> {
    let mut status = None;
    while let Some(stanza) = context.stanza("status", cursor) {
        context.warn_of_earlier("status", status.is_some(), &stanza.place);
        let address = http::read_address(cursor, context, (Ipv4Addr::LOCALHOST, PORT).into())?;
        status = Some(address);
    }
    Ok(status)
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &Option<SocketAddr>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    settings.iter().try_for_each(|address| writeln!(f, "    status {}", http::show(*address)))
}
