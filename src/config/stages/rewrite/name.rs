//! Rules of `rewrite` that change names.
//!
//! `name [exact|prefix|suffix|substring|regex] FROM TO [answer auto|name RE TO|value RE TO]…`: the
//! match type may be left out before two words, and then the whole name is meant.

use super::super::super::error::DirectiveError;
use super::super::super::word::Word;
use super::matching::{MatchType, NameMatch, absolute, checked_pattern};
use crate::corefile::Token;
use std::fmt;

/// A rule that changes the QNAME, and how names in the reply are put back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NameRule {
    /// The QNAMEs that the rule matches.
    pub(crate) from: NameMatch,
    /// Replacement of the match; `{1}` stands for the first group of a regular expression.
    pub(crate) to: String,
    /// True if names in the reply are mapped back by the rule's own inverse.
    pub(crate) auto: bool,
    /// Explicit rules for names in the reply, tried before the inverse.
    pub(crate) answers: Vec<AnswerRule>,
}

/// Names of a reply that an [`AnswerRule`] changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AnswerPart {
    /// Owner names.
    Name,
    /// Names in RDATA.
    Value,
}

/// A rule that replaces names in a reply.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AnswerRule {
    /// The names that are looked at.
    pub(crate) part: AnswerPart,
    /// A regular expression that is found in the name.
    pub(crate) pattern: String,
    /// Replacement of the whole name; `{1}` stands for the expression's first group.
    pub(crate) to: String,
}

/// Reads the words behind `name`.
pub(super) fn read(field: &Token, words: &[&Token]) -> Result<NameRule, DirectiveError> {
    let (match_type, [from, to], rest) = match *words {
        [] | [_] => return Err(DirectiveError::value(field, "too few arguments for a name rule")),
        [first, _] if MatchType::parse(&first.text).is_some() => {
            let message = format!(
                "too few arguments for a name rule: '{}' needs FROM and TO after it",
                first.text
            );
            return Err(DirectiveError::value(first, message));
        }
        [from, to] => (MatchType::Exact, [from, to], &[][..]),
        [first, from, to, ref rest @ ..] => {
            check_answers(first, to, rest)?;
            let Some(match_type) = MatchType::parse(&first.text) else {
                let message = format!(
                    "name rule supports only exact, prefix, suffix, substring, and regex name \
                     matching, received: {}",
                    first.text
                );
                return Err(DirectiveError::value(first, message));
            };
            (match_type, [from, to], rest)
        }
    };
    let from = name_match(match_type, from, to)?;
    let to = match match_type {
        MatchType::Regex => to.text.to_string(),
        _ => absolute(&to.text),
    };
    // Only a rule that says nothing about its answers has them put back by itself.
    let mut rule = NameRule { from, to, auto: rest.is_empty(), answers: Vec::new() };
    read_answers(match_type, rest, &mut rule)?;
    rule.auto |= match_type == MatchType::Exact;
    Ok(rule)
}

/// Refuses words after FROM and TO that cannot be rules for answers.
fn check_answers(first: &Token, to: &Token, rest: &[&Token]) -> Result<(), DirectiveError> {
    match rest {
        [] => Ok(()),
        [extra] => {
            let hint = match &*to.text {
                "answer" => ": write 'exact' before FROM if 'answer' follows",
                _ => "",
            };
            let message = format!("invalid arguments for {} rule{hint}", first.text);
            Err(DirectiveError::value(extra, message))
        }
        [answer, ..] if &*answer.text != "answer" => {
            let message = format!(
                "exceeded the number of arguments for a non-answer rule argument for {} rule",
                first.text
            );
            Err(DirectiveError::value(answer, message))
        }
        _ => Ok(()),
    }
}

/// The names of FROM, checked against the groups that TO refers to.
fn name_match(
    match_type: MatchType,
    from: &Token,
    to: &Token,
) -> Result<NameMatch, DirectiveError> {
    match match_type {
        MatchType::Regex => {
            let regex = checked_pattern(from, "invalid regex matching pattern")?;
            let groups = groups(&to.text);
            if groups > regex.captures_len() - 1 {
                let message = format!(
                    "the rewrite regex pattern ({}) uses more subexpressions than its \
                     corresponding matching regex pattern ({})",
                    to.text, from.text
                );
                return Err(DirectiveError::value(to, message));
            }
        }
        MatchType::Exact if groups(&from.text) > 0 => {
            let message = format!(
                "'{}' refers to a group, but an exact match has none: use 'regex'",
                from.text
            );
            return Err(DirectiveError::value(from, message));
        }
        _ => {}
    }
    let text = match match_type {
        MatchType::Substring => absolute(&from.text),
        _ => from.text.to_string(),
    };
    let names = NameMatch::new(match_type, &text);
    names.ok_or_else(|| DirectiveError::value(from, "invalid regex matching pattern"))
}

/// The number of different groups that `text` refers to as `{N}`.
fn groups(text: &str) -> usize {
    let mut numbers: Vec<&str> = text
        .split('{')
        .skip(1)
        .filter_map(|part| part.split_once('}').map(|(number, _)| number))
        .filter(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.len()
}

/// Reads `answer …` as often as it stands there.
fn read_answers(
    match_type: MatchType,
    words: &[&Token],
    rule: &mut NameRule,
) -> Result<(), DirectiveError> {
    let of = format!("answer rule for {match_type} rule");
    let mut explicit_name = None;
    let mut rest = words;
    while let Some((answer, behind)) = rest.split_first() {
        if &*answer.text != "answer" {
            let message = format!("unexpected '{}': expected 'answer' in a {of}", answer.text);
            return Err(DirectiveError::value(answer, message));
        }
        let Some((part, behind)) = behind.split_first() else {
            let message = format!("invalid arguments for {match_type} rule");
            return Err(DirectiveError::value(answer, message));
        };
        let (part_of, name) = match &*part.text {
            "auto" => {
                rule.auto = true;
                rest = behind;
                continue;
            }
            "name" => (AnswerPart::Name, "name"),
            "value" => (AnswerPart::Value, "value"),
            other => {
                let message = format!("invalid type \"{other}\" for {of}");
                return Err(DirectiveError::value(part, message));
            }
        };
        let [pattern, to, behind @ ..] = behind else {
            let message = format!("{name} {of}: 2 arguments required");
            return Err(DirectiveError::value(part, message));
        };
        checked_pattern(pattern, &format!("{name} {of}: invalid regex matching pattern"))?;
        if part_of == AnswerPart::Name {
            explicit_name = Some(*part);
        }
        let (pattern, to) = (pattern.text.to_string(), to.text.to_string());
        rule.answers.push(AnswerRule { part: part_of, pattern, to });
        rest = behind;
    }
    match explicit_name {
        Some(part) if rule.auto => {
            let message =
                "auto name answer rules cannot be combined with explicit name answer rules";
            Err(DirectiveError::value(part, message))
        }
        _ => Ok(()),
    }
}

impl fmt::Display for NameRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.from, Word(&self.to))?;
        for AnswerRule { part, pattern, to } in &self.answers {
            let part = match part {
                AnswerPart::Name => "name",
                AnswerPart::Value => "value",
            };
            write!(f, " answer {part} {} {}", Word(pattern), Word(to))?;
        }
        // Beside explicit rules the inverse of an exact rule is understood.
        let understood = self.answers.is_empty() || self.from.match_type == MatchType::Exact;
        if self.auto && !understood { write!(f, " answer auto") } else { Ok(()) }
    }
}
