//! `private_answers refuse|allow [except ZONES…]`
//!
//! Answers of upstreams with addresses of private networks are refused, because a public name with
//! such an address lets a page of its owner reach hosts of the client's network (DNS rebinding).
//! The reference has no such option.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::{Name, keys, word};
use crate::corefile::Cursor;
use std::fmt;

/// Reads the arguments of the option. Returns the zones whose names may have private addresses;
/// `None`: all names may.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<Vec<Name>>, DirectiveError> {
    let words = cursor.expect_rest()?;
    let refuses = match &*words[0].text {
        "refuse" => true,
        "allow" => false,
        other => {
            let message = format!("private_answers must be 'refuse' or 'allow': '{other}'");
            return Err(DirectiveError::value(words[0], message));
        }
    };
    let mut except = Vec::new();
    if let Some(word) = words.get(1) {
        if &*word.text != "except" || !refuses || words.len() == 2 {
            let message = "private_answers: expected 'refuse', 'refuse except ZONES...' or 'allow'";
            return Err(DirectiveError::value(word, message));
        }
        for word in &words[2..] {
            let zone = keys::parse(&word.text).map_err(|reason| {
                DirectiveError::value(word, format!("private_answers except: {reason}"))
            })?;
            context
                .count_zones(zone.names.len())
                .map_err(|message| DirectiveError::value(word, message))?;
            except.extend(zone.names);
        }
    }
    Ok(refuses.then_some(except))
}

/// Writes the option, if answers are refused.
pub(in super::super) fn write(except: Option<&[Name]>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(except) = except else { return Ok(()) };
    write!(f, "        private_answers refuse")?;
    if !except.is_empty() {
        write!(f, " except")?;
        word::names(f, except)?;
    }
    writeln!(f)
}
