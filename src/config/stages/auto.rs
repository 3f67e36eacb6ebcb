//! `auto [ZONES...] { reload DURATION; upstream ...; directory DIR [REGEXP ORIGIN] }`
//!
//! Without `directory` it serves no zone, in the reference either: it is read, and has no effect.
//! Zones from a directory are not built.

use super::super::duration;
use super::super::error::DirectiveError;
use super::super::load::{Context, Draft};
use super::write_switch;
use crate::corefile::{Cursor, ParseError, did_you_mean};
use std::fmt;

const OPTIONS: [&str; 3] = ["directory", "reload", "upstream"];

/// Reads all `auto` stanzas of one server block.
pub(in super::super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
    draft: &mut Draft,
) -> Result<(), DirectiveError> {
    while let Some(stanza) = context.stanza("auto", cursor) {
        cursor.rest();
        let mut has_directory = false;
        while let Some(property) = cursor.block() {
            match &*property.text {
                "directory" => {
                    cursor.expect_rest()?;
                    context.lacks(property, "'directory' of auto");
                    has_directory = true;
                }
                "reload" => {
                    let Some(&word) = cursor.rest().first() else {
                        let message = "reload duration value is expected";
                        return Err(DirectiveError::value(property, message));
                    };
                    let nanos = duration::parse(&word.text)
                        .map_err(|message| DirectiveError::value(word, message))?;
                    if nanos < 0 {
                        return Err(DirectiveError::value(word, "invalid duration"));
                    }
                }
                "upstream" => drop(cursor.rest()),
                other => {
                    let suggestion = did_you_mean(other, OPTIONS);
                    let message = format!("unknown property '{other}'{suggestion}");
                    return Err(ParseError::at(property, message).into());
                }
            }
        }
        if !has_directory {
            let message = "plugin/auto: no effect: without 'directory' there is no zone to serve; \
                           leave it out";
            context.warn(&stanza.place, message);
        }
        draft.stages.auto = true;
    }
    Ok(())
}

/// Writes it.
pub(super) fn write(told: &bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write_switch(f, "auto", *told)
}
