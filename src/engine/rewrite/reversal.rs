//! Reversal of the rules for a reply.
//!
//! Rules are undone in reverse order, each on the result of the later ones. Explicit rules for
//! answers come first; without a match, a rule's own replacement is undone.

use super::names::{presentation, replace_suffix, suffix_start};
use super::pattern::Matcher;
use super::{Answer, Change, Find, Naming, Rules, Step, Way};
use crate::config::{AnswerPart, wire_of};
use crate::engine::message::name::WireName;
use crate::engine::message::rename::Renaming;
use crate::engine::message::{Rcode, rtype};

/// Reverses the changes by the rules in a reply.
pub(crate) struct Reversal<'a> {
    rules: &'a Rules,
    way: &'a Way,
    /// The client's response code, once it is known.
    rcode: u16,
    texts: &'a mut Texts,
}

/// Buffers for names in presentation format. Reused for the next reply.
#[derive(Default)]
pub(crate) struct Texts {
    name: String,
    replaced: String,
    matcher: Matcher,
}

impl Texts {
    /// Returns the reserved memory in bytes.
    pub(crate) fn reserved(&self) -> usize {
        self.name.capacity() + self.replaced.capacity() + self.matcher.reserved()
    }

    /// Memory for searches.
    pub(crate) fn matcher(&mut self) -> &mut Matcher {
        &mut self.matcher
    }
}

impl<'a> Reversal<'a> {
    /// Builds the reversal of a way through `rules`, for a reply whose response code is `rcode`.
    pub(crate) fn new(rules: &'a Rules, way: &'a Way, texts: &'a mut Texts, rcode: u16) -> Self {
        let mut reversal = Self { rules, way, rcode, texts };
        reversal.rcode = reversal.rcode(rcode);
        reversal
    }

    /// The steps with their rules, in reverse order.
    fn steps(&self) -> impl Iterator<Item = (&'a Step, &'a Change)> + use<'a> {
        let (steps, rules) = (&self.way.steps, self.rules);
        steps.iter().rev().map(|step| (step, &rules.rules[step.rule].change))
    }

    fn rename(&mut self, name: &mut WireName, part: AnswerPart) {
        for (step, change) in self.steps() {
            let Change::Name(naming) = change else { continue };
            if !self.by_answer_rule(name, part, &naming.answers) {
                naming.invert(name, step);
            }
        }
        // The QNAME gets the client's spelling.
        if name.as_bytes().eq_ignore_ascii_case(self.way.asked.name.as_bytes()) {
            *name = self.way.asked.name;
        }
    }

    /// Replaces the name by the first explicit rule whose pattern is found in it. Returns false if
    /// none is.
    fn by_answer_rule(&mut self, name: &mut WireName, part: AnswerPart, rules: &[Answer]) -> bool {
        let mut rules = rules.iter().filter(|rule| rule.part == part).peekable();
        if rules.peek().is_none() {
            return false;
        }
        let Texts { name: text, replaced, matcher } = &mut *self.texts;
        presentation(name.as_bytes(), text);
        for rule in rules {
            replaced.clear();
            if rule.pattern.expand(&rule.to, text, replaced, matcher) {
                let mut wire = [0; 255];
                // A rule that makes an invalid name leaves the name unchanged.
                if let Ok(len) = wire_of(replaced, &mut wire) {
                    name.set(&wire[..len]);
                }
                return true;
            }
        }
        false
    }
}

impl Naming {
    /// Undoes the rule's replacement in a name: in the QNAME always, in names that end with the
    /// rule's suffix if `auto` is set.
    fn invert(&self, name: &mut WireName, step: &Step) {
        if name.as_bytes().eq_ignore_ascii_case(step.after.as_bytes()) {
            *name = step.before;
            return;
        }
        let Find::Suffix { from, to } = &self.from else { return };
        let (Some(from), Some(to)) = (&from.wire, &to.wire) else { return };
        if self.auto
            && let Some(start) = suffix_start(name.as_bytes(), to)
        {
            // A name that would become too long stays unchanged.
            replace_suffix(name, start, from);
        }
    }
}

impl Renaming for Reversal<'_> {
    fn owner(&mut self, name: &mut WireName) {
        self.rename(name, AnswerPart::Name);
    }

    fn value(&mut self, name: &mut WireName) {
        self.rename(name, AnswerPart::Value);
    }

    fn ttl(&self, ttl: u32) -> u32 {
        self.steps().fold(ttl, |ttl, (_, change)| match change {
            Change::Ttl { min, max, .. } => ttl.clamp(*min, *max),
            _ => ttl,
        })
    }

    fn rcode(&self, rcode: u16) -> u16 {
        self.steps().fold(rcode, |rcode, (_, change)| match change {
            Change::Rcode { from, to, .. } if rcode == *from => *to,
            _ => rcode,
        })
    }

    fn keeps(&self, section: usize, rtype: u16, owner: &[u8]) -> bool {
        let (asked, sent) = (self.way.asked.rtype, self.way.now.rtype);
        match section {
            // Records of a type that was not asked for are no answer.
            0 if asked != sent && asked != rtype::ANY => {
                let foreign = rtype == sent
                    || sent == rtype::ANY
                        && !matches!(rtype, rtype::CNAME | rtype::DNAME | rtype::RRSIG);
                rtype == asked || !foreign
            }
            // An SOA denies a name only at or above it (RFC 2308 §3).
            1 if rtype == rtype::SOA && self.rcode == Rcode::NxDomain as u16 => {
                let named = self
                    .steps()
                    .any(|(_, change)| matches!(change, Change::Name(naming) if naming.auto));
                !named || suffix_start(self.way.asked.name.as_bytes(), owner).is_some()
            }
            _ => true,
        }
    }

    fn class(&self, class: u16) -> u16 {
        if class == self.way.now.class { self.way.asked.class } else { class }
    }
}
