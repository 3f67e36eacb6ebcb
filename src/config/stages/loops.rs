//! `loop`
//!
//! Detects forwarding loops. It has no argument, and a server block can have it only once.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::{once, switch, write_switch};
use crate::corefile::Cursor;
use std::fmt;

/// Reads the `loop` stanza of one server block.
pub(super) fn read(cursor: &mut Cursor<'_>, _: &mut Context<'_>) -> Result<bool, DirectiveError> {
    let loops = switch(cursor)?;
    once(cursor)?;
    Ok(loops)
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write_switch(f, "loop", *settings)
}
