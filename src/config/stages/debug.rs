//! `debug`
//!
//! Enables the lines of `errors` at level debug. It has no argument. Of several stanzas only the
//! first counts, as in the reference.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::{switch, write_switch};
use crate::corefile::Cursor;
use std::fmt;

/// Reads the first `debug` stanza of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<bool, DirectiveError> {
    let place = cursor.clone().stanza().map(|stanza| &stanza.place);
    let debug = switch(cursor)?;
    if let Some(place) = place {
        context
            .warn(place, "plugin/debug: the only effect is that errors at level debug are logged");
    }
    Ok(debug)
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write_switch(f, "debug", *settings)
}
