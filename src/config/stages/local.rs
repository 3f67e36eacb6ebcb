//! `local { localhost_prefix on|off }`
//!
//! Names that mean this host. Of several stanzas the last applies.

use super::super::context::Context;
use super::super::error::DirectiveError;
use crate::corefile::{Cursor, ParseError, did_you_mean};
use std::fmt;

/// Names of this host, besides localhost and names below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Local {
    /// Names that begin with the label localhost are answered, too.
    pub(crate) localhost_prefix: bool,
}

/// Reads all `local` stanzas of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<Local>, DirectiveError> {
    let mut last = None;
    while context.stanza("local", cursor).is_some() {
        if !cursor.rest().is_empty() {
            return Err(cursor.argument_error().into());
        }
        let mut local = Local { localhost_prefix: true };
        while let Some(property) = cursor.block() {
            if &*property.text != "localhost_prefix" {
                let suggestion = did_you_mean(&property.text, ["localhost_prefix"]);
                let message = format!("unknown property '{}'{suggestion}", property.text);
                return Err(ParseError::at(property, message).into());
            }
            let written = cursor.expect_arg()?;
            local.localhost_prefix = match &*written.text {
                "on" => true,
                "off" => false,
                other => {
                    let message = format!("localhost_prefix must be on or off: {other}");
                    return Err(DirectiveError::value(written, message));
                }
            };
        }
        last = Some(local);
    }
    Ok(last)
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &Option<Local>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    settings.iter().try_for_each(|local| write!(f, "{local}"))
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let switch = if self.localhost_prefix { "on" } else { "off" };
        writeln!(f, "    local {{\n        localhost_prefix {switch}\n    }}")
    }
}
