//! `chaos [VERSION [AUTHORS…]]`
//!
//! Answers about the server itself. Of several stanzas only the first counts, as in the
//! reference.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::word::Word;
use crate::corefile::{Cursor, Token};
use std::fmt;

/// Bytes of a string in a record (RFC 1035 §3.3).
const TEXT_MAX: usize = 255;

/// Texts about the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chaos {
    /// For `version.bind` and `version.server`.
    pub(crate) version: String,
    /// For `authors.bind`. Without any, that is refused.
    pub(crate) authors: Vec<String>,
    /// For `hostname.bind` and `id.server`. Not written: it is the name of the host.
    pub(crate) host: String,
}

/// Reads all `chaos` stanzas of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<Chaos>, DirectiveError> {
    cursor.stanza();
    let words = cursor.rest();
    let too_long = |word: &&&Token| word.text.len() > TEXT_MAX;
    if let Some(word) = words.iter().find(too_long) {
        let message = format!("a text of {} bytes, expected at most {TEXT_MAX}", word.text.len());
        return Err(DirectiveError::value(word, message));
    }
    let mut words = words.iter().map(|word| word.text.to_string());
    let version = words.next();
    let version = version.unwrap_or_else(|| concat!("onward-", env!("CARGO_PKG_VERSION")).into());
    let host = context.host.name.chars().take(TEXT_MAX / 4).collect();
    Ok(Some(Chaos { version, authors: words.collect(), host }))
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &Option<Chaos>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    settings.iter().try_for_each(|chaos| write!(f, "{chaos}"))
}

impl fmt::Display for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "    chaos {}", Word(&self.version))?;
        self.authors.iter().try_for_each(|author| write!(f, " {}", Word(author)))?;
        writeln!(f)
    }
}
