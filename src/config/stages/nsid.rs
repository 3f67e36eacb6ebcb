//! `nsid [DATA…]`
//!
//! `nsid`: the identifier of this server for clients that ask for it (RFC 5001): the words joined
//! by spaces, or the host name.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::word::Word;
use super::once;
use crate::corefile::Cursor;
use std::fmt;

/// Bytes of the name at most: with it the longest error still fits into 512 bytes.
const LEN_MAX: usize = 64;

/// Reads the `nsid` stanza of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<String>, DirectiveError> {
    let Some(stanza) = cursor.stanza() else { return Ok(None) };
    let words: Vec<&str> = cursor.rest().iter().map(|word| &*word.text).collect();
    let data = if words.is_empty() { context.host.name.clone() } else { words.join(" ") };
    if data.len() > LEN_MAX {
        let message = format!("{} bytes of data, expected at most {LEN_MAX}", data.len());
        return Err(DirectiveError::value(stanza, message));
    }
    once(cursor)?;
    Ok(Some(data))
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &Option<String>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    settings.iter().try_for_each(|nsid| writeln!(f, "    nsid {}", Word(nsid)))
}
