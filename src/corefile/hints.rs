//! Causes of errors that lie before the place where they are found.
//!
//! An error at a word is often the consequence of an earlier mistake: an unset variable leaves an
//! argument empty, and an unclosed quote turns the rest of the file into one word. Such mistakes
//! are collected here, and an error at the same place names them.

use super::{ParseError, Place, Problem};

/// Maximum number of causes of each kind.
const HINTS_MAX: usize = 100;
/// Maximum number of characters of an open quote that an error shows.
const SHOWN_MAX: usize = 40;

/// Possible causes of errors in a Corefile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    /// Unset environment variables, and the places of their use.
    unset: Vec<(Place, String)>,
    /// Unclosed quotes, and the first line of the text after them.
    open_quotes: Vec<(Place, String)>,
}

impl Hints {
    pub(super) fn note_unset(&mut self, place: &Place, name: &str) {
        if self.unset.len() < HINTS_MAX {
            self.unset.push((place.clone(), name.to_owned()));
        }
    }

    pub(super) fn note_open_quote(&mut self, place: Place, text: &str) {
        if self.open_quotes.len() < HINTS_MAX {
            let line = text.lines().next().unwrap_or_default().trim_end();
            self.open_quotes.push((place, line.chars().take(SHOWN_MAX).collect()));
        }
    }

    /// Returns the message of an error at `place` with its cause; `None`: no cause is known.
    pub(crate) fn explained(&self, place: &Place, message: &str) -> Option<String> {
        if let Some((_, start)) = self.open_quotes.iter().find(|(quote, _)| quote == place) {
            return Some(format!(
                "the quote that opens here is not closed: the rest of the file is one word, which \
                 begins with '{start}'"
            ));
        }
        let names = self.unset.iter().filter(|(used, _)| used == place);
        let mut names: Vec<&str> = names.map(|(_, name)| &**name).collect();
        names.dedup();
        let (variable, are) =
            if names.len() > 1 { ("variables", "are") } else { ("variable", "is") };
        (!names.is_empty()).then(|| {
            let names = names.join("', '");
            format!("{message} (environment {variable} '{names}' {are} not set)")
        })
    }

    pub(super) fn explain(&self, mut error: ParseError) -> ParseError {
        let message = match &error.problem {
            Problem::Syntax { found, expected } => {
                format!("Unexpected token '{found}', expecting '{expected}'")
            }
            Problem::Unreadable(message) | Problem::Parsing(message) => message.clone(),
        };
        if let Some(message) = self.explained(&error.place, &message) {
            error.problem = match error.problem {
                Problem::Unreadable(_) => Problem::Unreadable(message),
                Problem::Syntax { .. } | Problem::Parsing(_) => Problem::Parsing(message),
            };
        }
        error
    }
}
