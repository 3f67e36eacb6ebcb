//! `rewrite [continue|stop] FIELD …`, on one line or with its words in a block.
//!
//! Rules that change a query before it is routed inside its server block, and that put the reply
//! back as the client asked. Patterns are checked here and compiled by the engine: a configuration
//! is plain data.

mod edns;
mod matching;
mod name;
mod records;

pub(crate) use edns::{EDNS_OPTIONS_MAX, EdnsAction, EdnsData, EdnsOption, EdnsRule};
pub(crate) use matching::{MatchType, NameMatch};
pub(crate) use name::{AnswerPart, AnswerRule, NameRule};

use super::super::RecordType;
use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::rcodes::rcode_mnemonic;
use super::super::word::Word;
use super::template::class_mnemonic;
use crate::corefile::{Cursor, Token, did_you_mean};
use std::fmt;

/// One rule, in the order written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rewrite {
    /// No later rule is tried once this one has matched.
    pub(crate) stop: bool,
    /// Part that the rule changes.
    pub(crate) rule: RewriteRule,
}

/// Change of one rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RewriteRule {
    /// The QNAME, and the names in the reply.
    Name(NameRule),
    /// The QTYPE.
    Type {
        /// The type that the rule matches.
        from: RecordType,
        /// The type that is asked for instead.
        to: RecordType,
    },
    /// The QCLASS.
    Class {
        /// The class that the rule matches.
        from: u16,
        /// The class that is asked for instead.
        to: u16,
    },
    /// The TTLs of all records in the reply.
    Ttl {
        /// The QNAMEs whose replies are changed.
        names: NameMatch,
        /// No TTL is lower, in seconds.
        min: u32,
        /// No TTL is higher, in seconds; at most 2^31 - 1 (RFC 2181 §8).
        max: u32,
    },
    /// The reply's response code.
    Rcode {
        /// The QNAMEs whose replies are changed.
        names: NameMatch,
        /// The response code that the rule matches.
        from: u16,
        /// The response code that the client gets.
        to: u16,
    },
    /// The target of a CNAME in the reply, which is looked up anew.
    Cname {
        /// The targets that the rule matches.
        from: NameMatch,
        /// Replacement of the match; `{1}` stands for the first group of a regular expression.
        to: String,
    },
    /// Options of the query that goes to the upstream.
    Edns(EdnsRule),
}

const FIELDS: [&str; 7] = ["name", "type", "class", "ttl", "rcode", "cname", "edns0"];

/// Reads all `rewrite` stanzas of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Vec<Rewrite>, DirectiveError> {
    let mut rules = Vec::new();
    while let Some(stanza) = context.stanza("rewrite", cursor) {
        let mut words = cursor.rest();
        // Fewer than two words: the rest stands in a block, whose lines count as one.
        if words.len() < 2 {
            while let Some(word) = cursor.block() {
                words.push(word);
                words.extend(cursor.rest());
            }
        }
        rules.push(rewrite(stanza, &words, context)?);
    }
    Ok(rules)
}

fn rewrite(
    stanza: &Token,
    words: &[&Token],
    context: &mut Context<'_>,
) -> Result<Rewrite, DirectiveError> {
    let Some((first, behind)) = words.split_first() else {
        return Err(DirectiveError::value(stanza, "no rule type specified for rewrite"));
    };
    let (stop, field, values) = match &*first.text {
        mode @ ("continue" | "stop") => match behind.split_first() {
            Some((field, values)) => (mode == "stop", *field, values),
            None => {
                let message = format!("{mode} rule must begin with a rule type");
                return Err(DirectiveError::value(first, message));
            }
        },
        _ => (true, *first, behind),
    };
    let rule = match &*field.text {
        "name" => RewriteRule::Name(name::read(field, values)?),
        "type" => records::types(field, values)?,
        "class" => records::classes(field, values)?,
        "ttl" => records::ttl(field, values, context)?,
        "rcode" => records::rcode(field, values)?,
        "answer" => {
            let message = "response rewrites must begin with a name rule";
            return Err(DirectiveError::value(field, message));
        }
        "cname" => records::cname(field, values)?,
        "edns0" => RewriteRule::Edns(edns::read(field, values, context)?),
        other => {
            let suggestion = did_you_mean(other, FIELDS);
            return Err(DirectiveError::value(
                field,
                format!("invalid rule type \"{other}\"{suggestion}"),
            ));
        }
    };
    Ok(Rewrite { stop, rule })
}

/// Writes each rule on a line of its own.
pub(super) fn write(rules: &[Rewrite], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for Rewrite { stop, rule } in rules {
        let mode = if *stop { "stop" } else { "continue" };
        writeln!(f, "    rewrite {mode} {rule}")?;
    }
    Ok(())
}

impl fmt::Display for RewriteRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(rule) => write!(f, "name {rule}"),
            Self::Type { from, to } => write!(f, "type {from} {to}"),
            Self::Class { from, to } => {
                let mnemonic = |class: &u16| class_mnemonic(*class).unwrap_or_default();
                write!(f, "class {} {}", mnemonic(from), mnemonic(to))
            }
            Self::Ttl { names, min, max } if min == max => write!(f, "ttl {names} {min}"),
            Self::Ttl { names, min, max } => write!(f, "ttl {names} {min}-{max}"),
            Self::Rcode { names, from, to } => {
                write!(f, "rcode {names} {} {}", rcode_text(*from), rcode_text(*to))
            }
            Self::Cname { from, to } => write!(f, "cname {from} {}", Word(to)),
            Self::Edns(rule) => write!(f, "edns0 {rule}"),
        }
    }
}

fn rcode_text(rcode: u16) -> String {
    rcode_mnemonic(rcode).map_or_else(|| rcode.to_string(), Into::into)
}
