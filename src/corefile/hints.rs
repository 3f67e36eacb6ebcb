//! Causes of errors that lie in how a text was read.
//!
//! An error at a word is often the consequence of something before it: a variable that is not set
//! leaves an argument empty, and a quote that is not closed makes one word of the rest of the file.
//! Here is what was noticed of that; an error at the same place names it.

use super::{ParseError, Place, Problem};

/// Causes that are remembered of each kind.
const HINTS_MAX: usize = 100;
/// Characters of an open quote that an error shows.
const SHOWN_MAX: usize = 40;

/// What was noticed while a Corefile was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Environment variables that are not set, and where they are used.
    unset: Vec<(Place, String)>,
    /// Quotes that are not closed, and the first line of what follows.
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

    /// The message of an error at `place` with its cause; `None`: nothing is known of one.
    pub fn explained(&self, place: &Place, message: &str) -> Option<String> {
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
