//! Rules of `rewrite` that are not about QNAMEs: `type` and `class`, `ttl`, `rcode` and `cname`.
//!
//! `type FROM TO`, `class FROM TO`, `ttl [MATCH] NAME TTL` and `rcode [MATCH] NAME FROM TO`, where
//! MATCH is one of the match types and NAME is compared with the QNAME; `cname [MATCH] FROM TO`,
//! where FROM is compared with the targets of aliases.

use super::super::super::RecordType;
use super::super::super::context::Context;
use super::super::super::error::DirectiveError;
use super::super::super::rcodes::{Rcodes, rcode_mnemonic};
use super::super::template::CLASSES;
use super::RewriteRule;
use super::matching::{MatchType, NameMatch, absolute, checked_pattern};
use crate::corefile::{Token, did_you_mean};

/// A TTL above this counts as zero for some receivers (RFC 2181 §8).
const TTL_MAX: u32 = 0x7fff_ffff;

pub(super) fn types(field: &Token, words: &[&Token]) -> Result<RewriteRule, DirectiveError> {
    let [from, to] = words else {
        return Err(DirectiveError::value(field, "type rules must have exactly two arguments"));
    };
    let rtype = |word: &Token| {
        let text = word.text.to_ascii_uppercase();
        RecordType::parse(&text).ok_or_else(|| {
            let suggestion = did_you_mean(&text, RecordType::mnemonics());
            DirectiveError::value(word, format!("invalid type \"{}\"{suggestion}", word.text))
        })
    };
    Ok(RewriteRule::Type { from: rtype(from)?, to: rtype(to)? })
}

pub(super) fn classes(field: &Token, words: &[&Token]) -> Result<RewriteRule, DirectiveError> {
    let [from, to] = words else {
        return Err(DirectiveError::value(field, "class rules must have exactly two arguments"));
    };
    let class = |word: &Token| {
        let known = CLASSES.iter().find(|(_, name)| name.eq_ignore_ascii_case(&word.text));
        known.map(|(class, _)| *class).ok_or_else(|| {
            let message =
                format!("invalid class \"{}\": expected IN, CS, CH, HS, NONE or ANY", word.text);
            DirectiveError::value(word, message)
        })
    };
    Ok(RewriteRule::Class { from: class(from)?, to: class(to)? })
}

pub(super) fn ttl(
    field: &Token,
    words: &[&Token],
    context: &mut Context<'_>,
) -> Result<RewriteRule, DirectiveError> {
    let (names, values) = names(field, words, 1, "ttl")?;
    let [value] = values else {
        let message = "too many arguments for a ttl rule: expected [MATCH] NAME TTL";
        return Err(DirectiveError::value(field, message));
    };
    let invalid = || {
        let message = format!(
            "invalid TTL '{}' for a ttl rule: expected N, MIN-, -MAX or MIN-MAX in seconds",
            value.text
        );
        DirectiveError::value(value, message)
    };
    let number = |text: &str, absent: u32| match text {
        "" => Ok(absent),
        text if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse::<u32>().map_err(|_| invalid())
        }
        _ => Err(invalid()),
    };
    let (min, max) = match value.text.split_once('-') {
        None if value.text.is_empty() => return Err(invalid()),
        None => {
            let ttl = number(&value.text, 0)?;
            (ttl, ttl)
        }
        Some(("", "")) => return Err(invalid()),
        Some((min, max)) => (number(min, 0)?, number(max, TTL_MAX)?),
    };
    if min > max {
        return Err(invalid());
    }
    if max > TTL_MAX {
        let message = format!("plugin/rewrite: a TTL is at most {TTL_MAX} s (RFC 2181 section 8)");
        context.warn(&value.place, message);
    }
    Ok(RewriteRule::Ttl { names, min: min.min(TTL_MAX), max: max.min(TTL_MAX) })
}

pub(super) fn rcode(field: &Token, words: &[&Token]) -> Result<RewriteRule, DirectiveError> {
    let (names, values) = names(field, words, 2, "rcode")?;
    let [from, to] = values else {
        let message = "too many arguments for a rcode rule: expected [MATCH] NAME FROM TO";
        return Err(DirectiveError::value(field, message));
    };
    let code = |word: &Token, which: &str| {
        let number = || word.text.parse().ok().filter(|code| rcode_mnemonic(*code).is_some());
        let code: Option<u16> = Rcodes::parse(&word.text).or_else(number);
        code.ok_or_else(|| {
            let message = format!("invalid {which} RCODE '{}' for a rcode rule", word.text);
            DirectiveError::value(word, message)
        })
    };
    Ok(RewriteRule::Rcode { names, from: code(from, "matching")?, to: code(to, "replacement")? })
}

pub(super) fn cname(field: &Token, words: &[&Token]) -> Result<RewriteRule, DirectiveError> {
    let (match_type, from, to) = match *words {
        [] | [_] => {
            let message = format!("too few ({}) arguments for a cname rule", words.len());
            return Err(DirectiveError::value(field, message));
        }
        [from, to] => (MatchType::Exact, from, to),
        [match_type, from, to] => {
            let known = MatchType::parse(&match_type.text).ok_or_else(|| {
                let message = format!(
                    "unknown cname rewrite type: {}: expected exact, prefix, suffix, substring or \
                     regex",
                    match_type.text
                );
                DirectiveError::value(match_type, message)
            })?;
            (known, from, to)
        }
        [_, _, _, extra, ..] => {
            let message = format!(
                "too many ({}) arguments for a cname rule: expected [MATCH] FROM TO",
                words.len()
            );
            return Err(DirectiveError::value(extra, message));
        }
    };
    let text = match match_type {
        MatchType::Regex => {
            checked_pattern(from, "invalid cname rewrite regex pattern")?;
            from.text.to_string()
        }
        _ => absolute(&from.text),
    };
    let to = match match_type {
        MatchType::Regex => to.text.to_string(),
        _ => absolute(&to.text),
    };
    match NameMatch::new(match_type, &text) {
        Some(from) => Ok(RewriteRule::Cname { from, to }),
        None => Err(DirectiveError::value(from, "invalid name")),
    }
}

/// The names at the head of `words`, and the `count` words that are to follow or more.
fn names<'a, 'w>(
    field: &Token,
    words: &'w [&'a Token],
    count: usize,
    rule: &str,
) -> Result<(NameMatch, &'w [&'a Token]), DirectiveError> {
    if words.len() <= count {
        let message = format!("too few ({}) arguments for a {rule} rule", words.len());
        return Err(DirectiveError::value(field, message));
    }
    if words.len() == count + 1 {
        let exact = NameMatch::new(MatchType::Exact, &words[0].text);
        return match exact {
            Some(names) => Ok((names, &words[1..])),
            None => Err(DirectiveError::value(words[0], "invalid name")),
        };
    }
    let Some(match_type) = MatchType::parse(&words[0].text) else {
        let message = format!(
            "{rule} rule supports only exact, prefix, suffix, substring, and regex name matching"
        );
        return Err(DirectiveError::value(words[0], message));
    };
    if match_type == MatchType::Regex {
        checked_pattern(words[1], &format!("invalid regex pattern in a {rule} rule"))?;
    }
    match NameMatch::new(match_type, &words[1].text) {
        Some(names) => Ok((names, &words[2..])),
        None => Err(DirectiveError::value(words[1], "invalid name")),
    }
}
