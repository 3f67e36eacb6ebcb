//! Regular expressions of rules, and the memory for searches.
//!
//! A pattern is shared with the clients that wait under its rules; the memory that a search writes
//! to belongs to one worker and is allocated at the first search, so that later ones neither
//! allocate nor lock.

use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::{Input, PatternID, meta};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Maximum number of patterns whose memory a worker keeps; beyond it one other is dropped.
const KEPT_MAX: usize = 4_096;

/// A compiled regular expression.
pub(super) struct Pattern {
    regex: meta::Regex,
    /// Distinguishes the pattern from all others.
    identity: Arc<()>,
}

/// Memory for searches of one worker.
#[derive(Default)]
pub(crate) struct Matcher {
    /// Keyed by the address of the pattern's identity, which is held so that it stays unique.
    kept: BTreeMap<usize, (Arc<()>, meta::Cache)>,
    /// Begin and end of each group.
    slots: Vec<Option<NonMaxUsize>>,
}

impl Matcher {
    /// Returns the reserved memory in bytes.
    pub(super) fn reserved(&self) -> usize {
        let kept = self.kept.values().map(|(_, cache)| size_of_val(cache) + cache.memory_usage());
        kept.sum::<usize>() + self.slots.capacity() * size_of::<Option<NonMaxUsize>>()
    }

    fn of(&mut self, pattern: &Pattern) -> (&mut meta::Cache, &mut Vec<Option<NonMaxUsize>>) {
        let address = Arc::as_ptr(&pattern.identity).addr();
        if !self.kept.contains_key(&address) && self.kept.len() >= KEPT_MAX {
            // One, not all, because rules are tried in turn and those that stay need no new memory.
            self.kept.pop_last();
        }
        let (_, cache) = self
            .kept
            .entry(address)
            .or_insert_with(|| (Arc::clone(&pattern.identity), pattern.regex.create_cache()));
        (cache, &mut self.slots)
    }
}

impl Pattern {
    /// Compiles `text`. `None`: it is no regular expression.
    pub(super) fn new(text: &str) -> Option<Self> {
        let regex = meta::Regex::new(text).ok()?;
        Some(Self { regex, identity: Arc::default() })
    }

    /// Returns true if the pattern is found in `text`.
    pub(super) fn is_match(&self, text: &str, matcher: &mut Matcher) -> bool {
        let (cache, _) = matcher.of(self);
        self.regex.search_half_with(cache, &Input::new(text).earliest(true)).is_some()
    }

    /// Appends `to` to `out`, with `{N}` replaced by group N of the pattern in `text`, in lower
    /// case and with a closing dot. A reference to a missing group is copied unchanged. Returns
    /// false and appends nothing if the pattern is not found.
    pub(super) fn expand(
        &self,
        to: &str,
        text: &str,
        out: &mut String,
        matcher: &mut Matcher,
    ) -> bool {
        // Matching without groups is cheaper, and most names do not match.
        if !self.is_match(text, matcher) {
            return false;
        }
        let groups = self.regex.group_info().group_len(PatternID::ZERO);
        let (cache, slots) = matcher.of(self);
        slots.clear();
        slots.resize(2 * groups, None);
        if self.regex.search_slots_with(cache, &Input::new(text), slots).is_none() {
            return false;
        }
        let group = |number: usize| {
            let ends = [slots[2 * number], slots[2 * number + 1]];
            match ends {
                [Some(start), Some(end)] => &text[start.get()..end.get()],
                _ => "",
            }
        };
        replace_groups(to, groups, group, out);
        true
    }
}

/// Appends `to` to `out` with each `{N}` replaced by `group(N)`, in lower case and with a closing
/// dot.
fn replace_groups<'t>(to: &str, groups: usize, group: impl Fn(usize) -> &'t str, out: &mut String) {
    let mut rest = to;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        rest = &rest[open..];
        let number = rest[1..].split_once('}').and_then(|(number, _)| {
            let digits = number.bytes().all(|byte| byte.is_ascii_digit());
            number.parse::<usize>().ok().filter(|group| digits && *group < groups)
        });
        match number {
            Some(number) => {
                out.push_str(group(number));
                rest = &rest[rest.find('}').map_or(rest.len(), |close| close + 1)..];
            }
            None => {
                out.push('{');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out.make_ascii_lowercase();
    if !out.ends_with('.') {
        out.push('.');
    }
}

#[cfg(test)]
mod tests {
    use super::{Matcher, Pattern};

    #[test]
    fn groups_are_those_of_the_pattern_that_is_searched_for() {
        let one = Pattern::new("^(a+)[.](b)?").unwrap();
        let other = Pattern::new("(?:x|(y))[.]").unwrap();
        let mut matcher = Matcher::default();
        let mut expand = |pattern: &Pattern, to: &str, text: &str| {
            let mut out = String::new();
            pattern.expand(to, text, &mut out, &mut matcher).then_some(out)
        };
        for _ in 0..2 {
            assert_eq!(expand(&one, "{1}-{2}-{3}", "AA.b.").as_deref(), None);
            assert_eq!(expand(&one, "{1}-{2}-{3}.X", "aa.b.").as_deref(), Some("aa-b-{3}.x."));
            assert_eq!(expand(&one, "{0}{2}", "a.c").as_deref(), Some("a."));
            assert_eq!(expand(&other, "{1}{", "x.").as_deref(), Some("{."));
            assert_eq!(expand(&other, "{1}{}", "zy.").as_deref(), Some("y{}."));
        }
    }

    #[test]
    fn memory_is_made_once_for_each_pattern() {
        let mut matcher = Matcher::default();
        let one = Pattern::new("a").unwrap();
        assert!(one.is_match("xa", &mut matcher) && !one.is_match("x", &mut matcher));
        assert!(!Pattern::new("b").unwrap().is_match("a", &mut matcher));
        assert!(matcher.kept.len() == 2 && matcher.reserved() > 0);
    }
}
