//! `log [NAMES…] [FORMAT] { class CLASS… }`
//!
//! `log`: which queries are logged, and in which format. Several stanzas add rules in their order;
//! the first rule that has the name applies. Of two arguments or more the last is a format if it
//! has a `{`; a single argument is always a name, as in the reference.

use super::super::Name;
use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::word::{Word, names};
use super::super::{keys, lints};
use super::metadata;
use crate::corefile::{Cursor, ParseError, Token, did_you_mean};
use std::fmt;

const CLASSES: [&str; 4] = ["success", "denial", "error", "all"];
const FORMAT: &str = "{common}";
/// Words that operators write as the destination of lines, which is always standard output.
const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// One rule: queries to log, and their format.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogRule {
    /// Zones of the names that are logged.
    pub names: Vec<Name>,
    /// Format of a line, with placeholders in braces.
    pub format: String,
    /// Classes of replies that are logged: `success`, `denial`, `error` or `all`.
    pub classes: Vec<&'static str>,
}

/// Reads all `log` stanzas of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Vec<LogRule>, DirectiveError> {
    let mut rules = Vec::new();
    while context.stanza("log", cursor).is_some() {
        let mut arguments = cursor.rest();
        let mut format = FORMAT.to_owned();
        if let [_, .., last] = &arguments[..]
            && last.text.contains('{')
        {
            format = last.text.to_string();
            metadata::look_at(&format, &last.place, context);
            arguments.pop();
        }
        let names = read_names(&arguments, context)?;
        let mut classes = Vec::new();
        while let Some(property) = cursor.block() {
            if &*property.text != "class" {
                let suggestion = did_you_mean(&property.text, ["class"]);
                let message = format!("unknown property '{}'{suggestion}", property.text);
                return Err(ParseError::at(property, message).into());
            }
            for class in cursor.expect_rest()? {
                let known = CLASSES.into_iter().find(|known| *known == &*class.text);
                classes.push(known.ok_or_else(|| {
                    let suggestion = did_you_mean(&class.text, CLASSES);
                    let message = format!("unknown class '{}'{suggestion}", class.text);
                    ParseError::at(class, message)
                })?);
            }
        }
        if classes.is_empty() {
            classes.push("all");
        }
        rules.push(LogRule { names, format, classes });
    }
    Ok(rules)
}

/// The names that a rule is for, with warnings about them.
fn read_names(written: &[&Token], context: &mut Context<'_>) -> Result<Vec<Name>, DirectiveError> {
    if written.is_empty() {
        return Ok(vec![Name::root()]);
    }
    let mut names = Vec::new();
    for word in written {
        if let Some(message) = misreading(word) {
            context.warn(&word.place, message);
        }
        match keys::parse(&word.text) {
            Ok(zone) => {
                context
                    .count_zones(zone.names.len())
                    .map_err(|message| DirectiveError::value(word, message))?;
                if let Some(hint) = lints::of_exception(&word.text, &zone, false)
                    && !word.text.contains('{')
                {
                    let message = format!("plugin/log: zone '{}': {hint}", word.text);
                    context.warn(&word.place, message);
                }
                names.extend(zone.names);
            }
            Err(reason) => {
                context.warn(&word.place, format!("plugin/log: zone is ignored: {reason}"));
            }
        }
    }
    Ok(names)
}

/// Returns a warning about a word that is read as a name and probably is not one: the rule then
/// logs almost nothing.
fn misreading(word: &Token) -> Option<String> {
    let text = &*word.text;
    if text.contains('{') {
        let hint = format!("because no name is before it: write log . \"{text}\"");
        return Some(format!("plugin/log: '{text}' is read as a name, {hint}"));
    }
    let hint = if STREAMS.contains(&text) {
        "the log goes to standard output: write log alone to log all names"
    } else if CLASSES.contains(&text) {
        "a class must be between braces: log { class ... } on lines of their own"
    } else {
        return None;
    };
    Some(format!("plugin/log: '{text}' is read as a name: only queries for it are logged; {hint}"))
}

/// Writes the stanzas of the directive.
pub(super) fn write(settings: &[LogRule], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    settings.iter().try_for_each(|rule| write!(f, "{rule}"))
}

impl fmt::Display for LogRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "    log")?;
        if self.names.is_empty() {
            // No name: the language has no shorter way to say that.
            write!(f, " ..")?;
        }
        names(f, &self.names)?;
        writeln!(f, " {} {{", Word(&self.format))?;
        writeln!(f, "        class {}", self.classes.join(" "))?;
        writeln!(f, "    }}")
    }
}
