//! Options of `forward` that the language has and onward lacks.
//!
//! Arguments are read and checked, and then dropped, so that a typing error is reported as one and
//! the next option is read. Files are not opened. To add support for an option, move its arm to
//! the parent's `Options::read`.

use super::super::error::DirectiveError;
use crate::corefile::{Cursor, Token};

/// Reads the arguments of one option.
pub(super) fn check(property: &Token, cursor: &mut Cursor<'_>) -> Result<(), DirectiveError> {
    match &*property.text {
        "doh_method" => {
            let method = cursor.expect_arg()?;
            if !["POST", "GET"].contains(&&*method.text) {
                return Err(DirectiveError::value(method, "doh_method must be either POST or GET"));
            }
        }
        other => unreachable!("option '{other}' has no reader"),
    }
    Ok(())
}
