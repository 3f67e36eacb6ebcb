//! `local { localhost_prefix on|off; special_names on|off }`
//!
//! Names that mean this host, and names that no upstream is asked for. Of several stanzas the last
//! applies.

use super::super::context::Context;
use super::super::error::DirectiveError;
use crate::corefile::{Cursor, ParseError, did_you_mean};
use std::fmt;

/// Names of this host, besides localhost and names below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Local {
    /// Names that begin with the label localhost are answered, too.
    pub(crate) localhost_prefix: bool,
    /// Special-use names are not forwarded by a stanza for all names.
    pub(crate) special_names: bool,
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
        let mut local = Local { localhost_prefix: true, special_names: false };
        while let Some(property) = cursor.block() {
            let option = match &*property.text {
                "localhost_prefix" => &mut local.localhost_prefix,
                "special_names" => &mut local.special_names,
                other => {
                    let suggestion = did_you_mean(other, ["localhost_prefix", "special_names"]);
                    let message = format!("unknown property '{other}'{suggestion}");
                    return Err(ParseError::at(property, message).into());
                }
            };
            let written = cursor.expect_arg()?;
            *option = match &*written.text {
                "on" => true,
                "off" => false,
                other => {
                    let message = format!("{} must be on or off: {other}", property.text);
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
        let [prefix, names] = [self.localhost_prefix, self.special_names]
            .map(|is_on| if is_on { "on" } else { "off" });
        writeln!(f, "    local {{\n        localhost_prefix {prefix}")?;
        writeln!(f, "        special_names {names}\n    }}")
    }
}
