//! `multisocket [N]`
//!
//! Number of sockets of each address in the reference. Here each worker has its own, so the
//! directive is accepted and has no effect.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::numbers;
use crate::corefile::Cursor;
use std::fmt;

const SOCKETS_MAX: i64 = 1024;

/// Reads the `multisocket` stanza of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<u16>, DirectiveError> {
    let Some(stanza) = context.stanza("multisocket", cursor) else { return Ok(None) };
    let words = cursor.rest();
    if words.len() > 1 || cursor.stanza().is_some() {
        return Err(cursor.argument_error().into());
    }
    let workers = context.host.workers;
    let mut sockets = u16::try_from(workers).unwrap_or(SOCKETS_MAX as u16);
    if let Some(&word) = words.first() {
        let number = numbers::signed(&word.text).map_err(|message| {
            DirectiveError::value(word, format!("invalid num sockets: {message}"))
        })?;
        if number < 1 {
            let message = format!("num sockets can not be zero or negative: {number}");
            return Err(DirectiveError::value(word, message));
        }
        if number > SOCKETS_MAX {
            let message = format!("num sockets exceeds maximum ({SOCKETS_MAX}): {number}");
            return Err(DirectiveError::value(word, message));
        }
        sockets = number as u16;
    }
    let message = format!(
        "plugin/multisocket: no effect: each worker has a socket of its own for each address \
         (workers here: {workers}); leave it out, and use --workers or --cores"
    );
    context.warn(&stanza.place, message);
    Ok(Some(sockets))
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &Option<u16>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    settings.iter().try_for_each(|sockets| writeln!(f, "    multisocket {sockets}"))
}
