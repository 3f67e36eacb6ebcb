//! `dnssec [ZONES...] { cache_capacity N; key file KEY... }`
//!
//! Signing is not supported. Without a key the directive is accepted and has no effect, because
//! there is nothing to sign with. The reference then turns denials into answers that resolvers
//! reject.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::numbers;
use super::{once, write_switch};
use crate::corefile::{Cursor, ParseError, did_you_mean};
use std::fmt;

const OPTIONS: [&str; 2] = ["key", "cache_capacity"];

/// Reads the `dnssec` stanza of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<bool, DirectiveError> {
    let Some(stanza) = context.stanza("dnssec", cursor) else { return Ok(false) };
    cursor.rest();
    let mut has_key = false;
    while let Some(property) = cursor.block() {
        match &*property.text {
            "key" => {
                cursor.expect_rest()?;
                context.lacks(property, "'key' of dnssec");
                has_key = true;
            }
            "cache_capacity" => {
                let word = cursor.expect_arg()?;
                numbers::signed(&word.text)
                    .map_err(|message| DirectiveError::value(word, message))?;
                cursor.expect_no_arg()?;
            }
            other => {
                let suggestion = did_you_mean(other, OPTIONS);
                let message = format!("unknown property '{other}'{suggestion}");
                return Err(ParseError::at(property, message).into());
            }
        }
    }
    if !has_key {
        let message = "plugin/dnssec: no effect: without 'key' nothing can be signed; leave it \
                       out, signatures of upstreams are passed on";
        context.warn(&stanza.place, message);
    }
    once(cursor)?;
    Ok(true)
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write_switch(f, "dnssec", *settings)
}
