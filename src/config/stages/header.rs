//! `header { query|response set|clear FLAG… }`
//!
//! Changes of header flags, in queries to upstreams or in their answers. The rules of all stanzas
//! apply, in their order; the reference silently ignores all but the first
//! stanza.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::quote::quote;
use crate::corefile::{Cursor, ParseError, did_you_mean};
use std::fmt;

/// A flag of a message's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HeaderFlag {
    /// Authoritative answer.
    Aa,
    /// Recursion available.
    Ra,
    /// Recursion desired.
    Rd,
}

/// One flag that is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeaderRule {
    /// In answers; otherwise in queries.
    pub(crate) response: bool,
    /// Value of the flag.
    pub(crate) set: bool,
    pub(crate) flag: HeaderFlag,
}

const FLAGS: [(&str, HeaderFlag); 3] =
    [("aa", HeaderFlag::Aa), ("ra", HeaderFlag::Ra), ("rd", HeaderFlag::Rd)];

/// Reads all `header` stanzas of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Vec<HeaderRule>, DirectiveError> {
    let mut rules = Vec::new();
    while let Some(stanza) = context.stanza("header", cursor) {
        if !cursor.rest().is_empty() {
            return Err(cursor.argument_error().into());
        }
        let before = rules.len();
        while let Some(property) = cursor.block() {
            let response = match property.text.to_ascii_lowercase().as_str() {
                "query" => false,
                "response" => true,
                _ => {
                    let other = &*property.text;
                    let suggestion = did_you_mean(other, ["query", "response"]);
                    let other = quote(other);
                    let message =
                        format!("unexpected {other}; expect query or response{suggestion}");
                    return Err(ParseError::at(property, message).into());
                }
            };
            let action = cursor.expect_arg()?;
            let set = match &*action.text {
                "set" => true,
                "clear" => false,
                other => {
                    let suggestion = did_you_mean(other, ["set", "clear"]);
                    let other = quote(other);
                    let message = format!("unexpected {other}; expect set or clear{suggestion}");
                    return Err(ParseError::at(action, message).into());
                }
            };
            for written in cursor.expect_rest()? {
                let known = FLAGS.iter().find(|(name, _)| written.text.eq_ignore_ascii_case(name));
                let Some((_, flag)) = known else {
                    let message =
                        format!("unknown flag {}; expect aa, ra or rd", quote(&written.text));
                    return Err(ParseError::at(written, message).into());
                };
                rules.push(HeaderRule { response, set, flag: *flag });
            }
        }
        if rules.len() == before {
            return Err(DirectiveError::value(stanza, "at least one rule is expected"));
        }
    }
    Ok(rules)
}

/// Writes the rules as one stanza.
pub(super) fn write(rules: &[HeaderRule], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if rules.is_empty() {
        return Ok(());
    }
    writeln!(f, "    header {{")?;
    for rule in rules {
        let message = if rule.response { "response" } else { "query" };
        let action = if rule.set { "set" } else { "clear" };
        let name = FLAGS.iter().find(|(_, flag)| *flag == rule.flag).map_or("", |(name, _)| name);
        writeln!(f, "        {message} {action} {name}")?;
    }
    writeln!(f, "    }}")
}
