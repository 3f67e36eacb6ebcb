//! Rules of `rewrite`: changes of a question, and their reversal in the reply. PURE.
//!
//! A client's question goes through the rules of its server block in text order ([`Rules::apply`]);
//! each rule that matches adds a step. The query is routed, looked up in the cache, and forwarded
//! under its new name, so that two names that are rewritten to one share one answer. The reply goes
//! through the same steps in reverse order ([`Reversal`]) and shows the client's question. The
//! steps are computed again when the reply comes, so that a waiting client needs no more memory
//! than its question and the number of rules that were applied. Rules for EDNS options add no step,
//! because they change nothing in a reply.
//!
//! Names are compared in lower-cased presentation format, as in the reference. `suffix` is the
//! exception: it compares labels, because a suffix that begins within a label is no domain.

mod names;
mod options;
mod pattern;
mod reversal;

pub(crate) use names::presentation;
pub(crate) use options::{Options, Sender};
pub(crate) use reversal::{Reversal, Texts};

use super::message::name::{WireName, WireQuestion};
use super::message::query::Query;
use crate::config::{
    AnswerPart, AnswerRule, MatchType, NameMatch, NameRule, Rewrite, RewriteRule, ServerBlock,
    wire_of,
};
use names::{replace_all, replace_suffix, suffix_start};
use options::Editing;
pub(crate) use pattern::Matcher;
use pattern::Pattern;
use std::sync::Arc;

/// The rules of a server block, compiled.
pub(crate) struct Rules {
    rules: Vec<Rule>,
    /// Codes of the EDNS options used by the rules.
    codes: Vec<u16>,
}

struct Rule {
    stop: bool,
    change: Change,
}

enum Change {
    Name(Naming),
    Type { from: u16, to: u16 },
    Class { from: u16, to: u16 },
    Ttl { names: Names, min: u32, max: u32 },
    Rcode { names: Names, from: u16, to: u16 },
    Cname(Find),
    Edns(Editing),
}

/// A set of names, in the form given in the Corefile.
enum Names {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Substring(String),
    Regex(Pattern),
}

/// A rule for QNAMEs.
struct Naming {
    from: Find,
    auto: bool,
    answers: Vec<Answer>,
}

/// Part of a QNAME that is replaced, and the replacement.
enum Find {
    Exact { from: String, to: String },
    Prefix { from: String, to: String },
    Suffix { from: Suffix, to: Suffix },
    Substring { from: String, to: String },
    Regex { from: Pattern, to: String },
}

/// The end of a name.
struct Suffix {
    /// `None`: the text is no name, so it matches nothing.
    wire: Option<Box<[u8]>>,
    /// Only names with more labels match, because the text begins with a dot.
    below: bool,
}

/// An explicit rule for names in replies.
struct Answer {
    part: AnswerPart,
    pattern: Pattern,
    to: String,
}

/// A rule that matched.
struct Step {
    rule: usize,
    /// QNAME before and after it.
    before: WireName,
    after: WireName,
}

/// State of a question on its way through the rules. Reused for the next query.
pub(crate) struct Way {
    steps: Vec<Step>,
    /// The client's question.
    asked: WireQuestion,
    /// The question after the rules.
    pub(crate) now: WireQuestion,
    /// Number of rules that were applied: all, or those up to one that stopped.
    pub(crate) met: u32,
    /// QNAME in presentation format.
    text: String,
    spare: String,
    matcher: Matcher,
}

/// Reason why the rules' result cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    /// A rule made an invalid name.
    Name,
    /// The options do not fit in a query.
    Options,
}

impl Default for Way {
    fn default() -> Self {
        let root = WireQuestion { name: WireName::ROOT, rtype: 0, class: 0 };
        Self {
            steps: Vec::new(),
            asked: root,
            now: root,
            met: 0,
            text: String::new(),
            spare: String::new(),
            matcher: Matcher::default(),
        }
    }
}

impl Way {
    /// Returns the reserved memory in bytes.
    pub(crate) fn reserved(&self) -> usize {
        self.steps.capacity() * size_of::<Step>()
            + self.text.capacity()
            + self.spare.capacity()
            + self.matcher.reserved()
    }

    /// Memory for searches.
    pub(crate) fn matcher(&mut self) -> &mut Matcher {
        &mut self.matcher
    }

    fn take_name(&mut self) -> Result<(), Invalid> {
        let mut wire = [0; 255];
        let len = wire_of(&self.text, &mut wire).map_err(|_| Invalid::Name)?;
        self.now.name.set(&wire[..len]);
        Ok(())
    }
}

impl Rules {
    /// Compiles the rules of `block`, which the Corefile reader has validated. `None`: there are
    /// none.
    pub(crate) fn new(block: &ServerBlock) -> Option<Arc<Self>> {
        let rules: Vec<Rule> = block
            .stages
            .rewrite
            .iter()
            .filter_map(|Rewrite { stop, rule }| {
                let change = Change::new(rule, block)?;
                Some(Rule { stop: *stop, change })
            })
            .collect();
        let codes = rules.iter().filter_map(|rule| match &rule.change {
            Change::Edns(editing) => Some(editing.code()),
            _ => None,
        });
        let codes = codes.collect();
        (!rules.is_empty()).then(|| Arc::new(Self { rules, codes }))
    }

    /// Returns true if there are rules for EDNS options.
    pub(crate) fn edit_options(&self) -> bool {
        !self.codes.is_empty()
    }

    /// Returns the options of `query` that pass if no rule changes them.
    pub(crate) fn options_of(&self, query: &Query<'_>) -> Options {
        Options::of(query, &self.codes)
    }

    /// Applies the rules to the question `asked`, and to the options of its query if there are
    /// rules for them. Returns false if the question has not changed.
    ///
    /// # Errors
    /// The rules' result cannot be sent.
    pub(crate) fn apply(
        &self,
        asked: WireQuestion,
        way: &mut Way,
        options: Option<(&Sender, &mut Options)>,
    ) -> Result<bool, Invalid> {
        self.put_through(asked, way, self.rules.len(), options)
    }

    /// Applies the first `met` rules to a question again.
    ///
    /// # Errors
    /// A rule made an invalid name.
    pub(crate) fn retrace(
        &self,
        asked: WireQuestion,
        way: &mut Way,
        met: u32,
    ) -> Result<bool, Invalid> {
        self.put_through(asked, way, met as usize, None)
    }

    fn put_through(
        &self,
        asked: WireQuestion,
        way: &mut Way,
        count: usize,
        mut options: Option<(&Sender, &mut Options)>,
    ) -> Result<bool, Invalid> {
        way.steps.clear();
        (way.asked, way.now, way.met) = (asked, asked, count as u32);
        presentation(asked.name.as_bytes(), &mut way.text);
        for (number, rule) in self.rules[..count].iter().enumerate() {
            let before = way.now.name;
            let matched = match (&rule.change, &mut options) {
                (Change::Edns(editing), Some((sender, list))) => editing.apply(way, sender, list),
                (Change::Edns(_), None) => false,
                (change, _) => {
                    let matched = change.apply(way)?;
                    if matched {
                        way.steps.push(Step { rule: number, before, after: way.now.name });
                    }
                    matched
                }
            };
            if matched && rule.stop {
                way.met = number as u32 + 1;
                break;
            }
        }
        match options {
            Some((_, list)) if list.is_full => Err(Invalid::Options),
            _ => Ok(!way.steps.is_empty()),
        }
    }

    /// Returns true if a rule changes targets of aliases.
    pub(crate) fn may_change_targets(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule.change, Change::Cname(_)))
    }

    /// Returns true if a rule that matched changes targets of aliases in the reply.
    pub(crate) fn change_targets(&self, way: &Way) -> bool {
        way.steps.iter().any(|step| matches!(self.rules[step.rule].change, Change::Cname(_)))
    }

    /// Returns the new target of an alias in the reply to a question on `way`; of several rules the
    /// last decides. `None`: `target` stays. `spare` is overwritten.
    pub(crate) fn new_target(
        &self,
        way: &Way,
        target: &WireName,
        spare: &mut Way,
    ) -> Option<WireName> {
        way.steps.iter().rev().find_map(|step| {
            let Change::Cname(find) = &self.rules[step.rule].change else { return None };
            presentation(target.as_bytes(), &mut spare.text);
            spare.now.name = *target;
            // A rule that makes an invalid name leaves the target unchanged.
            let changed = find.apply(spare).ok()?;
            let same = spare.now.name.as_bytes().eq_ignore_ascii_case(target.as_bytes());
            (changed && !same).then_some(spare.now.name)
        })
    }
}

impl Change {
    fn new(rule: &RewriteRule, block: &ServerBlock) -> Option<Self> {
        Some(match rule {
            RewriteRule::Edns(rule) => Self::Edns(Editing::new(rule, block)),
            RewriteRule::Name(rule) => Self::Name(Naming::new(rule)?),
            RewriteRule::Type { from, to } => Self::Type { from: from.0, to: to.0 },
            RewriteRule::Class { from, to } => Self::Class { from: *from, to: *to },
            RewriteRule::Ttl { names, min, max } => {
                Self::Ttl { names: Names::new(names)?, min: *min, max: *max }
            }
            RewriteRule::Rcode { names, from, to } => {
                Self::Rcode { names: Names::new(names)?, from: *from, to: *to }
            }
            RewriteRule::Cname { from, to } => Self::Cname(Find::new(from, to)?),
        })
    }

    /// Applies the change to the question if the rule matches. Returns true if it does.
    fn apply(&self, way: &mut Way) -> Result<bool, Invalid> {
        Ok(match self {
            Self::Name(naming) => return naming.from.apply(way),
            Self::Type { from, to } if way.now.rtype == *from => {
                way.now.rtype = *to;
                true
            }
            Self::Class { from, to } if way.now.class == *from => {
                way.now.class = *to;
                true
            }
            Self::Ttl { names, .. } | Self::Rcode { names, .. } => {
                names.contain(&way.text, &mut way.matcher)
            }
            Self::Type { .. } | Self::Class { .. } => false,
            // The aliases are only known from the reply.
            Self::Cname(_) => true,
            Self::Edns(_) => false,
        })
    }
}

impl Names {
    fn new(names: &NameMatch) -> Option<Self> {
        let text = names.text.clone();
        Some(match names.match_type {
            MatchType::Exact => Self::Exact(text),
            MatchType::Prefix => Self::Prefix(text),
            MatchType::Suffix => Self::Suffix(text),
            MatchType::Substring => Self::Substring(text),
            MatchType::Regex => Self::Regex(Pattern::new(&text)?),
        })
    }

    fn contain(&self, name: &str, matcher: &mut Matcher) -> bool {
        match self {
            Self::Exact(text) => name == text,
            Self::Prefix(text) => name.starts_with(text),
            Self::Suffix(text) => name.ends_with(text),
            Self::Substring(text) => name.contains(text),
            Self::Regex(pattern) => pattern.is_match(name, matcher),
        }
    }
}

impl Naming {
    fn new(rule: &NameRule) -> Option<Self> {
        let from = Find::new(&rule.from, &rule.to)?;
        let answers = rule.answers.iter().map(Answer::new).collect::<Option<_>>()?;
        Some(Self { from, auto: rule.auto, answers })
    }
}

impl Suffix {
    fn new(text: &str) -> Self {
        let bare = text.strip_prefix('.').filter(|rest| !rest.is_empty());
        let mut wire = [0; 255];
        let len = wire_of(bare.unwrap_or(text), &mut wire);
        Self { wire: len.ok().map(|len| wire[..len].into()), below: bare.is_some() }
    }
}

impl Answer {
    fn new(rule: &AnswerRule) -> Option<Self> {
        let pattern = Pattern::new(&rule.pattern)?;
        Some(Self { part: rule.part, pattern, to: rule.to.clone() })
    }
}

impl Find {
    fn new(names: &NameMatch, to: &str) -> Option<Self> {
        let (from, to) = (names.text.clone(), to.to_owned());
        Some(match names.match_type {
            MatchType::Exact => Self::Exact { from, to },
            MatchType::Prefix => Self::Prefix { from, to },
            MatchType::Suffix => Self::Suffix { from: Suffix::new(&from), to: Suffix::new(&to) },
            MatchType::Substring => Self::Substring { from, to },
            MatchType::Regex => Self::Regex { from: Pattern::new(&from)?, to },
        })
    }

    /// Replaces the matching part of the QNAME. Returns false if nothing matches.
    fn apply(&self, way: &mut Way) -> Result<bool, Invalid> {
        way.spare.clear();
        match self {
            Self::Exact { from, to } if way.text == *from => way.spare.push_str(to),
            Self::Prefix { from, to } if way.text.starts_with(from) => {
                way.spare.push_str(to);
                way.spare.push_str(&way.text[from.len()..]);
            }
            Self::Substring { from, to } if way.text.contains(from) => {
                replace_all(&way.text, from, to, &mut way.spare);
            }
            Self::Regex { from, to } => {
                if !from.expand(to, &way.text, &mut way.spare, &mut way.matcher) {
                    return Ok(false);
                }
            }
            Self::Suffix { from, to } => return Self::apply_suffix(from, to, way),
            Self::Exact { .. } | Self::Prefix { .. } | Self::Substring { .. } => return Ok(false),
        }
        std::mem::swap(&mut way.text, &mut way.spare);
        way.take_name()?;
        Ok(true)
    }

    fn apply_suffix(from: &Suffix, to: &Suffix, way: &mut Way) -> Result<bool, Invalid> {
        let Some(wire) = &from.wire else { return Ok(false) };
        let start = suffix_start(way.now.name.as_bytes(), wire);
        let Some(start) = start.filter(|start| *start > 0 || !from.below) else {
            return Ok(false);
        };
        let Some(to) = &to.wire else { return Err(Invalid::Name) };
        if !replace_suffix(&mut way.now.name, start, to) {
            return Err(Invalid::Name);
        }
        presentation(way.now.name.as_bytes(), &mut way.text);
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
