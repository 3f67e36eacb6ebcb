//! Errors of a Corefile that can be parsed but has an invalid meaning.
//!
//! Every message carries file and line, even where the reference's does not; the reference's text
//! follows unchanged. The variants are the phases in which configuration is read, and they
//! distinguish invalid text from features that onward lacks and from what the host lacks.

use crate::corefile::{Cause, Hints, ParseError, Place, Problem, Token};
use std::fmt;

/// Reason why a Corefile was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// Syntax error.
    Parse(ParseError),
    /// A server block's key is no zone.
    Key {
        /// The key.
        place: Place,
        /// Error message.
        message: String,
    },
    /// A directive cannot be understood at one word.
    Word {
        directive: &'static str,
        /// The word and its error.
        error: ParseError,
    },
    /// A directive asks for something impossible or harmful.
    Value {
        directive: &'static str,
        /// The word to change.
        place: Place,
        /// Error message.
        message: String,
    },
    /// A directive asks for something that this host does not have now.
    Host {
        directive: &'static str,
        /// The word that asks for it.
        place: Place,
        /// Error message.
        message: String,
    },
    /// Server blocks contradict one another.
    Listener {
        /// The key of the later one.
        place: Place,
        /// The contradiction.
        message: String,
    },
    /// Valid, but not supported by onward.
    NotBuilt {
        /// The word that asks for it.
        place: Place,
        /// Unsupported directive or option.
        what: String,
    },
    /// Several errors, in the order of the file; at least two.
    Several(Vec<ConfigError>),
}

impl ConfigError {
    /// One error of all these, sorted by where they are: `main` is the file that was read first.
    /// `None` without any.
    pub(super) fn of_all(mut all: Vec<Self>, main: &str) -> Option<Self> {
        all.sort_by(|a, b| {
            let order = |error: &Self| {
                let Place { file, line } = error.place();
                (&**file != main, std::sync::Arc::clone(file), *line)
            };
            order(a).cmp(&order(b))
        });
        // A snippet is read in each block that imports it.
        all.dedup();
        if all.len() > 1 { Some(Self::Several(all)) } else { all.pop() }
    }

    /// The same with the causes that `hints` know.
    pub(super) fn explained(mut self, hints: &Hints) -> Self {
        let (place, message) = match &mut self {
            Self::Several(all) => {
                for error in all {
                    let plain = std::mem::replace(error, Self::Several(Vec::new()));
                    *error = plain.explained(hints);
                }
                return self;
            }
            Self::NotBuilt { .. } => return self,
            // What could be known was said when the text was read.
            Self::Parse(_) => return self,
            Self::Word { error, .. } => match &mut error.problem {
                Problem::Unreadable(message) | Problem::Parsing(message) => (&error.place, message),
                Problem::Syntax { .. } => return self,
            },
            Self::Key { place, message }
            | Self::Value { place, message, .. }
            | Self::Host { place, message, .. }
            | Self::Listener { place, message } => (&*place, message),
        };
        if let Some(explained) = hints.explained(place, message) {
            *message = explained;
        }
        self
    }

    /// Each error.
    pub(crate) fn each(&self) -> &[Self] {
        match self {
            Self::Several(all) => all,
            one => std::slice::from_ref(one),
        }
    }

    /// Returns the place of the error.
    pub fn place(&self) -> &Place {
        match self {
            Self::Parse(error) | Self::Word { error, .. } => &error.place,
            Self::Key { place, .. }
            | Self::Value { place, .. }
            | Self::Host { place, .. }
            | Self::Listener { place, .. }
            | Self::NotBuilt { place, .. } => place,
            Self::Several(all) => all[0].place(),
        }
    }
}

impl ConfigError {
    /// Returns the party that has to change: the text or the host.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Parse(error) | Self::Word { error, .. } => error.cause(),
            Self::Host { .. } => Cause::Host,
            Self::Several(all) if all.iter().all(|error| error.cause() == Cause::Host) => {
                Cause::Host
            }
            Self::Key { .. }
            | Self::Value { .. }
            | Self::Listener { .. }
            | Self::NotBuilt { .. }
            | Self::Several(_) => Cause::Text,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parse(error) => error.fmt(f),
            Self::Key { place, message } => {
                write!(f, "{place} - error inspecting server blocks: {message}")
            }
            Self::Word { directive, error } => write!(f, "plugin/{directive}: {error}"),
            Self::Value { directive, place, message }
            | Self::Host { directive, place, message } => {
                write!(f, "{place} - plugin/{directive}: {message}")
            }
            Self::Listener { place, message } => write!(f, "{place} - {message}"),
            Self::NotBuilt { place, what } => {
                write!(f, "{place} - {what} is not supported by onward yet")
            }
            Self::Several(all) => {
                let (first, rest) = all.split_at(1);
                first.iter().try_for_each(|error| error.fmt(f))?;
                rest.iter().try_for_each(|error| write!(f, "\n{error}"))
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// Error of a directive's reader, without the directive's name.
#[derive(Debug)]
pub(super) enum DirectiveError {
    Word(ParseError),
    Value { place: Place, message: String },
    Host { place: Place, message: String },
    NotBuilt { place: Place, what: String },
}

impl DirectiveError {
    pub(super) fn value(token: &Token, message: impl Into<String>) -> Self {
        Self::Value { place: token.place.clone(), message: message.into() }
    }

    /// The host lacks what `token` asks for.
    pub(super) fn host(token: &Token, message: impl Into<String>) -> Self {
        Self::Host { place: token.place.clone(), message: message.into() }
    }

    pub(super) fn not_built(token: &Token, what: impl Into<String>) -> Self {
        Self::NotBuilt { place: token.place.clone(), what: what.into() }
    }

    pub(super) fn about(self, directive: &'static str) -> ConfigError {
        match self {
            Self::Word(error) => ConfigError::Word { directive, error },
            Self::Value { place, message } => ConfigError::Value { directive, place, message },
            Self::Host { place, message } => ConfigError::Host { directive, place, message },
            Self::NotBuilt { place, what } => ConfigError::NotBuilt { place, what },
        }
    }
}

impl From<ParseError> for DirectiveError {
    fn from(error: ParseError) -> Self {
        Self::Word(error)
    }
}
