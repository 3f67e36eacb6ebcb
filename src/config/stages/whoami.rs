//! `whoami`
//!
//! Clients of queries that are not forwarded get their own address. It has no argument. Of
//! several stanzas only the first counts, as in the reference.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::{switch, write_switch};
use crate::corefile::Cursor;
use std::fmt;

/// Reads the first `whoami` stanza of one server block.
pub(super) fn read(cursor: &mut Cursor<'_>, _: &mut Context<'_>) -> Result<bool, DirectiveError> {
    switch(cursor)
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write_switch(f, "whoami", *settings)
}
