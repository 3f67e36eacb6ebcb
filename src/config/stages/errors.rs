//! `errors [stdout] { stacktrace; consolidate DURATION REGEXP [LEVEL] [show_first] }`
//!
//! `errors`: how errors of queries are logged. Patterns are checked here and compiled again by
//! the writer that matches with them, because a configuration is plain data.

use super::super::context::Context;
use super::super::duration;
use super::super::duration::show_duration;
use super::super::error::DirectiveError;
use super::super::quote::quote;
use super::super::word::Word;
use super::once;
use crate::corefile::{Cursor, ParseError, Token, did_you_mean};
use regex::Regex;
use std::fmt;
use std::time::Duration;

const LEVELS: [&str; 4] = ["warning", "error", "info", "debug"];
/// Characters of a pattern.
const PATTERN_MAX: usize = 10_000;

/// Settings of `errors`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Errors {
    /// With a trace of the stack when something panicked. Without effect.
    pub(crate) stacktrace: bool,
    /// Errors that are summed up instead of being logged singly, in the order written.
    pub(crate) consolidate: Vec<Consolidation>,
}

/// Errors that are summed up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Consolidation {
    /// From the first of them to the line that sums them up.
    pub(crate) period: Duration,
    /// A regular expression that matches their texts.
    pub(crate) pattern: String,
    /// At which level: one of `warning`, `error`, `info` and `debug`.
    pub(crate) level: &'static str,
    /// The first of them is logged at once.
    pub(crate) show_first: bool,
}

impl Consolidation {
    /// Returns the period as a Corefile writes it.
    pub(crate) fn period_text(&self) -> String {
        show_duration(self.period)
    }
}

/// Reads the `errors` stanza of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<Errors>, DirectiveError> {
    cursor.stanza();
    match &cursor.rest()[..] {
        [] => {}
        [target] if &*target.text == "stdout" => {}
        [target] => {
            let message = format!("invalid log file: {}", target.text);
            return Err(DirectiveError::value(target, message));
        }
        [..] => return Err(cursor.argument_error().into()),
    }
    let mut errors = Errors::default();
    while let Some(property) = cursor.block() {
        match &*property.text {
            "stacktrace" => {
                let message = "plugin/errors: stacktrace has no effect: set RUST_BACKTRACE=1 in \
                               the environment to get a trace on standard error";
                context.warn(&property.place, message);
                cursor.expect_no_arg()?;
                errors.stacktrace = true;
            }
            "consolidate" => errors.consolidate.push(consolidation(cursor)?),
            other => {
                let suggestion = did_you_mean(other, ["stacktrace", "consolidate"]);
                let message = format!("unknown property '{other}'{suggestion}");
                return Err(ParseError::at(property, message).into());
            }
        }
    }
    once(cursor)?;
    Ok(Some(errors))
}

fn consolidation(cursor: &mut Cursor<'_>) -> Result<Consolidation, DirectiveError> {
    let arguments = cursor.expect_rest()?;
    let [period, pattern, options @ ..] = &arguments[..] else {
        return Err(cursor.argument_error().into());
    };
    let nanos =
        duration::parse(&period.text).map_err(|message| DirectiveError::value(period, message))?;
    if nanos < 0 {
        return Err(DirectiveError::value(period, "negative duration"));
    }
    if pattern.text.chars().count() > PATTERN_MAX {
        let message = format!("regular expression exceeds {PATTERN_MAX} characters");
        return Err(DirectiveError::value(pattern, message));
    }
    if let Err(error) = Regex::new(&pattern.text) {
        // The last line has the error, those before it show the place.
        let text = error.to_string();
        let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        let message = format!("invalid regular expression {}: {why}", quote(&pattern.text));
        return Err(DirectiveError::value(pattern, message));
    }
    let level = |word: &Token| LEVELS.into_iter().find(|level| *level == &*word.text);
    let (level, show_first) = match options {
        [] => (Some("error"), false),
        [word] if &*word.text == "show_first" => (Some("error"), true),
        [word] => (level(word), false),
        [word, first] if &*first.text == "show_first" => (level(word), true),
        [_, other, ..] => {
            let message = format!("unexpected {}; expect show_first", quote(&other.text));
            return Err(DirectiveError::value(other, message));
        }
    };
    let Some(level) = level else {
        let word = options[0];
        let expected = LEVELS.join(", ");
        let message = format!("unknown log level {}; expect {expected}", quote(&word.text));
        return Err(DirectiveError::value(word, message));
    };
    let (period, pattern) = (Duration::from_nanos(nanos.unsigned_abs()), pattern.text.to_string());
    Ok(Consolidation { period, pattern, level, show_first })
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &Option<Errors>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    settings.iter().try_for_each(|errors| write!(f, "{errors}"))
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return writeln!(f, "    errors");
        }
        writeln!(f, "    errors {{")?;
        if self.stacktrace {
            writeln!(f, "        stacktrace")?;
        }
        for Consolidation { period, pattern, level, show_first } in &self.consolidate {
            let first = if *show_first { " show_first" } else { "" };
            let (period, pattern) = (show_duration(*period), Word(pattern));
            writeln!(f, "        consolidate {period} {pattern} {level}{first}")?;
        }
        writeln!(f, "    }}")
    }
}
