//! Names that a rule of `rewrite` matches.
//!
//! The text is normalised here as the reference does it, so that the engine compares and never
//! parses: lower case, and a closing dot where a whole name, a prefix, or a suffix is meant.

use super::super::super::error::DirectiveError;
use super::super::super::word::Word;
use crate::corefile::Token;
use regex::Regex;
use std::fmt;

/// Characters of a regular expression.
const PATTERN_MAX: usize = 10_000;

/// Comparison of the text of a [`NameMatch`] with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum MatchType {
    /// The name is the text.
    Exact,
    /// The name begins with the text.
    Prefix,
    /// The name ends with the text.
    Suffix,
    /// The text stands anywhere in the name.
    Substring,
    /// The text is a regular expression that is found in the name.
    Regex,
}

const MATCH_TYPES: [(&str, MatchType); 5] = [
    ("exact", MatchType::Exact),
    ("prefix", MatchType::Prefix),
    ("suffix", MatchType::Suffix),
    ("substring", MatchType::Substring),
    ("regex", MatchType::Regex),
];

impl MatchType {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let known = MATCH_TYPES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        known.map(|(_, match_type)| *match_type)
    }
}

impl fmt::Display for MatchType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = MATCH_TYPES.iter().find(|(_, match_type)| match_type == self);
        f.write_str(known.map_or("", |(name, _)| name))
    }
}

/// A set of names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NameMatch {
    /// Comparison of the text.
    pub(crate) match_type: MatchType,
    /// Text to compare with: in presentation format, lower-cased, unless it is a regular
    /// expression.
    pub(crate) text: String,
}

impl NameMatch {
    /// The names that `text` stands for. `None`: a regular expression that cannot be compiled or
    /// is longer than [`PATTERN_MAX`].
    pub(super) fn new(match_type: MatchType, text: &str) -> Option<Self> {
        let text = match match_type {
            MatchType::Regex => {
                pattern(text)?;
                text.into()
            }
            MatchType::Substring => text.to_ascii_lowercase(),
            _ => absolute(text),
        };
        Some(Self { match_type, text })
    }
}

impl fmt::Display for NameMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.match_type, Word(&self.text))
    }
}

/// Compiles a regular expression of the Corefile.
pub(super) fn pattern(text: &str) -> Option<Regex> {
    if text.chars().count() > PATTERN_MAX { None } else { Regex::new(text).ok() }
}

/// Compiles the regular expression in `word`; `of` says in messages whose it is.
///
/// # Errors
/// It is too long, or none.
pub(super) fn checked_pattern(word: &Token, of: &str) -> Result<Regex, DirectiveError> {
    let length = word.text.chars().count();
    if length > PATTERN_MAX {
        let message = format!("regex pattern too long: {length} > {PATTERN_MAX}");
        return Err(DirectiveError::value(word, message));
    }
    pattern(&word.text).ok_or_else(|| DirectiveError::value(word, format!("{of}: {}", word.text)))
}

/// `text` in lower case and with a closing dot, as the reference normalises names.
pub(super) fn absolute(text: &str) -> String {
    let mut text = text.to_ascii_lowercase();
    if !text.ends_with('.') {
        text.push('.');
    }
    text
}
