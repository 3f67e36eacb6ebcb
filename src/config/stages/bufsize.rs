//! `bufsize [SIZE]`
//!
//! Maximum UDP payload, towards clients and upstreams. Of several stanzas only the first counts, as
//! in the reference.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::numbers;
use crate::corefile::Cursor;
use std::fmt;

/// Also the most that is ever asked for or sent.
const SIZE: u16 = 1232;
const SIZE_MIN: u16 = 512;
const SIZE_MAX: u16 = 4096;

/// Reads all `bufsize` stanzas of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<u16>, DirectiveError> {
    cursor.stanza();
    let mut size = SIZE;
    if let Some(written) = cursor.arg() {
        let number = numbers::signed(&written.text)
            .map_err(|message| DirectiveError::value(written, message))?;
        let fitting = u16::try_from(number).ok();
        let fitting = fitting.filter(|size| (SIZE_MIN..=SIZE_MAX).contains(size));
        size = fitting.ok_or_else(|| {
            let message = format!("size must be {SIZE_MIN} to {SIZE_MAX}: {number}");
            DirectiveError::value(written, message)
        })?;
        if size > SIZE {
            let message =
                format!("plugin/bufsize: no effect: onward never advertises more than {SIZE}");
            context.warn(&written.place, message);
        }
    }
    cursor.expect_no_arg()?;
    Ok(Some(size))
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &Option<u16>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    settings.iter().try_for_each(|size| writeln!(f, "    bufsize {size}"))
}
