//! `root PATH`
//!
//! `root`: the base of relative paths of other directives (not of `import`, nor of files that
//! `forward` names). Of several stanzas the last applies. A missing directory leads to a
//! warning.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::word::Word;
use crate::corefile::Cursor;
use std::fmt;
use std::io::ErrorKind;

/// Reads all `root` stanzas of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<String>, DirectiveError> {
    let mut root = None;
    while let Some(stanza) = context.stanza("root", cursor) {
        context.warn_of_earlier("root", root.is_some(), &stanza.place);
        let path = cursor.expect_arg()?;
        let sources = &context.host.sources;
        let found = (sources.read)(&sources.working_directory.join(&*path.text));
        if found.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            let message = format!("plugin/root: Root path does not exist: {}", path.text);
            context.warn(&path.place, message);
        }
        root = Some(path.text.to_string());
    }
    Ok(root)
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &Option<String>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    settings.iter().try_for_each(|root| writeln!(f, "    root {}", Word(root)))
}
