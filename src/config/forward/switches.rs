//! Options that are one of two words: `distrust on|off`, `rebalance auto|off` and the like.
//!
//! Options that are on when they are written have no word and are not read here. The error about
//! another word lists the allowed ones.

use super::super::error::DirectiveError;
use crate::corefile::{Cursor, Token};

/// Returns true if the argument of an option is the second of two words.
pub(super) fn read(
    property: &Token,
    cursor: &mut Cursor<'_>,
    words: [&str; 2],
) -> Result<bool, DirectiveError> {
    let argument = cursor.expect_arg()?;
    cursor.expect_no_arg()?;
    let place = words.iter().position(|word| *word == &*argument.text);
    place.map(|place| place == 1).ok_or_else(|| {
        let [off, on] = words;
        let message = format!("{} must be '{on}' or '{off}': '{}'", property.text, argument.text);
        DirectiveError::value(argument, message)
    })
}
