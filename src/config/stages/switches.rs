//! `any`, `debug`, `loop`, `minimal`, `whoami`: directives that say all by being there.
//!
//! None takes an argument. Of several stanzas in one block only the first is looked at, as in the
//! reference; `loop` can be there only once.

use super::super::error::Complaint;
use super::super::load::{Context, Draft};
use super::once;
use crate::corefile::Cursor;

/// Reads the first stanza, which has nothing but its name.
fn switch(cursor: &mut Cursor<'_>) -> Result<bool, Complaint> {
    cursor.stanza();
    cursor.expect_no_arg()?;
    Ok(true)
}

/// Reads `debug`.
pub(in super::super) fn debug(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
    draft: &mut Draft,
) -> Result<(), Complaint> {
    let place = cursor.clone().stanza().map(|stanza| &stanza.place);
    draft.stages.debug = switch(cursor)?;
    if let Some(place) = place {
        context.warn(place, "plugin/debug: no effect but on lines of errors at level debug");
    }
    Ok(())
}

macro_rules! switches {
    ($($reader:ident $field:ident,)*) => {$(
        #[doc = concat!("Reads `", stringify!($reader), "`.")]
        pub(in super::super) fn $reader(
            cursor: &mut Cursor<'_>,
            _: &mut Context<'_>,
            draft: &mut Draft,
        ) -> Result<(), Complaint> {
            draft.stages.$field = switch(cursor)?;
            Ok(())
        }
    )*};
}

switches! {
    any any,
    minimal minimal,
    whoami whoami,
}

/// Reads `loop`.
pub(in super::super) fn find_loops(
    cursor: &mut Cursor<'_>,
    _: &mut Context<'_>,
    draft: &mut Draft,
) -> Result<(), Complaint> {
    draft.stages.find_loops = switch(cursor)?;
    once(cursor)
}
