//! Errors of a Corefile that cannot be parsed.
//!
//! An error begins with file and line, in a form that editors can jump to, and then names the
//! problem. The wording is that of the language's reference implementation, so that run books and
//! searches keep working; additions of onward, such as the nearest name, are at the end.

use super::{Place, Token};
use std::fmt;

/// Party that has to change before a configuration can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The Corefile or the command line: a retry fails again.
    Text,
    /// The host: a file, a name, an address or an interface that may appear later.
    Host,
}

/// A mistake in a Corefile, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The word at which reading stopped.
    pub(crate) place: Place,
    pub(crate) problem: Problem,
}

/// The kinds of mistakes: two that the language distinguishes, and unreadable files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// A brace is missing.
    Syntax {
        /// The word found instead.
        found: String,
        /// The expected word.
        expected: &'static str,
    },
    /// An imported file cannot be read; worded as any other mistake.
    Unreadable(String),
    /// Anything else.
    Parsing(String),
}

impl ParseError {
    pub(crate) fn at(token: &Token, message: impl Into<String>) -> Self {
        Self { place: token.place.clone(), problem: Problem::Parsing(message.into()) }
    }

    /// Returns the error that the file imported by `token` cannot be read.
    pub(super) fn unreadable(token: &Token, message: impl Into<String>) -> Self {
        Self { place: token.place.clone(), problem: Problem::Unreadable(message.into()) }
    }

    /// Returns the party that has to change: the text, unless a file is missing.
    pub(crate) fn cause(&self) -> Cause {
        match self.problem {
            Problem::Unreadable(_) => Cause::Host,
            Problem::Syntax { .. } | Problem::Parsing(_) => Cause::Text,
        }
    }

    pub(super) fn syntax(token: &Token, expected: &'static str) -> Self {
        let problem = Problem::Syntax { found: token.text.to_string(), expected };
        Self { place: token.place.clone(), problem }
    }

    /// Returns the error that an argument is missing after `token`, or `token` is one too many.
    pub(super) fn argument(token: &Token) -> Self {
        if token.is("{") {
            return Self::at(token, "Unexpected token '{', expecting argument");
        }
        let text = &token.text;
        let message = format!("Wrong argument count or unexpected line ending after '{text}'");
        Self::at(token, message)
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = &self.place;
        match &self.problem {
            Problem::Unreadable(message) | Problem::Parsing(message) => {
                write!(f, "{place} - Error during parsing: {message}")
            }
            Problem::Syntax { found, expected } => {
                write!(
                    f,
                    "{place} - Syntax error: Unexpected token '{found}', expecting '{expected}'"
                )
            }
        }
    }
}

impl std::error::Error for ParseError {}

/// A valid setting that is probably a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The word concerned.
    pub(crate) place: Place,
    /// Text of the warning.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} - {}", self.place, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::ParseError;
    use crate::corefile::{Place, Token};

    #[test]
    fn an_error_begins_with_file_and_line() {
        let token = Token::new("x", Place { file: "Corefile".into(), line: 7 });
        assert_eq!(
            ParseError::at(&token, "Unexpected EOF").to_string(),
            "Corefile:7 - Error during parsing: Unexpected EOF"
        );
        assert_eq!(
            ParseError::syntax(&token, "}").to_string(),
            "Corefile:7 - Syntax error: Unexpected token 'x', expecting '}'"
        );
    }

    #[test]
    fn an_argument_error_names_the_word_or_the_brace() {
        let token = Token::new("x", Place { file: "f".into(), line: 1 });
        assert_eq!(
            ParseError::argument(&token).to_string(),
            "f:1 - Error during parsing: Wrong argument count or unexpected line ending after 'x'"
        );
        let brace = Token::new("{", Place { file: "f".into(), line: 1 });
        assert_eq!(
            ParseError::argument(&brace).to_string(),
            "f:1 - Error during parsing: Unexpected token '{', expecting argument"
        );
    }
}
