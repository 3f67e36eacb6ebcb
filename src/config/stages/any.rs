//! `any`
//!
//! No arguments. Of several stanzas only the first is looked at, as in the reference.

use super::super::error::Complaint;
use super::super::load::{Context, Draft};
use crate::corefile::Cursor;

/// Reads all `any` stanzas of one server block.
pub(in super::super) fn read(
    cursor: &mut Cursor<'_>,
    _: &mut Context<'_>,
    draft: &mut Draft,
) -> Result<(), Complaint> {
    cursor.stanza();
    cursor.expect_no_arg()?;
    draft.stages.any = true;
    Ok(())
}
