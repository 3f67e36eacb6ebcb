//! `cancel [TIMEOUT]`
//!
//! `cancel`: the time limit of a query. Of several stanzas the last applies.

use super::super::context::Context;
use super::super::duration::show_duration;
use super::super::error::DirectiveError;
use super::super::{QUERY_TIMEOUT, duration};
use crate::corefile::Cursor;
use std::fmt;
use std::time::Duration;

/// The reference's, which is a little more than any query gets here anyway.
const TIMEOUT: Duration = Duration::from_millis(5001);

/// Reads all `cancel` stanzas of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<Duration>, DirectiveError> {
    let mut cancel = None;
    while let Some(stanza) = context.stanza("cancel", cursor) {
        context.warn_of_earlier("cancel", cancel.is_some(), &stanza.place);
        let mut timeout = TIMEOUT;
        if let Some(written) = cursor.arg() {
            let nanos = duration::parse(&written.text)
                .map_err(|message| DirectiveError::value(written, message))?;
            if nanos <= 0 {
                let shown = duration::show(nanos);
                let message = format!("timeout must be greater than 0: {shown}");
                return Err(DirectiveError::value(written, message));
            }
            timeout = Duration::from_nanos(nanos.unsigned_abs());
            if timeout > QUERY_TIMEOUT {
                let message = "plugin/cancel: no effect: every query ends after at most 5s";
                context.warn(&written.place, message);
            }
        }
        cursor.expect_no_arg()?;
        cancel = Some(timeout);
    }
    Ok(cancel)
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &Option<Duration>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    settings.iter().try_for_each(|timeout| writeln!(f, "    cancel {}", show_duration(*timeout)))
}
