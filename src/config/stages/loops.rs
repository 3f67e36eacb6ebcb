//! `loop`
//!
//! A forwarding loop is to be found. It says all by being there, and can be there only once in a
//! server block.

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

/// Writes it.
pub(super) fn write(told: &bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write_switch(f, "loop", *told)
}
