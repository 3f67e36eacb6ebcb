//! `failover RCODE…`, `next RCODE…`: response codes by their mnemonics.
//!
//! Each occurrence adds to the codes that are written before. Names of codes are in
//! [`crate::config::Rcodes`].

use super::super::Rcodes;
use super::super::error::DirectiveError;
use crate::corefile::Cursor;

/// Adds response codes to `set`; `success`: whether NOERROR makes sense among them.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    set: &mut Rcodes,
    success: bool,
) -> Result<(), DirectiveError> {
    for mnemonic in cursor.expect_rest()? {
        let Some(rcode) = Rcodes::parse(&mnemonic.text) else {
            let message = format!("{} is not a valid rcode", mnemonic.text);
            return Err(DirectiveError::value(mnemonic, message));
        };
        if rcode == 0 && !success {
            return Err(DirectiveError::value(mnemonic, "NoError cannot be used in failover"));
        }
        set.extend([rcode]);
    }
    Ok(())
}
