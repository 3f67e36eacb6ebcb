//! Patterns of names, in the syntax of RE2.
//!
//! The syntax of the `regex` crate is RE2's but for details, which are translated: a name may stand
//! for several groups, of which the last counts, `\Q...\E` quotes, and within brackets `[`, `&` and
//! `~` are letters. Matching takes time linear in the name and in the size of the pattern, and that
//! size is bounded. A pattern is compiled once, when the Corefile is read, and cloned for each
//! worker, so that none waits for another's memory.

use regex::bytes::{Regex, RegexBuilder};
use std::fmt;
use std::hash::{Hash, Hasher};

/// Characters of a pattern.
const PATTERN_MAX: usize = 10_000;
/// Bytes of a compiled pattern.
const COMPILED_MAX: usize = 1 << 20;
/// Bytes that matching a pattern may keep in one worker.
const KEPT_MAX: usize = 1 << 18;

/// A pattern of names.
#[derive(Clone)]
pub(crate) struct Pattern {
    /// As it was written.
    pub(crate) source: String,
    /// The compiled form, all groups without names.
    pub(crate) regex: Regex,
    /// The groups that have a name, and their numbers.
    pub(crate) groups: Vec<(String, usize)>,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What to tell the operator.
    pub(in super::super) fn parse(source: &str) -> Result<Self, String> {
        let len = source.chars().count();
        if len > PATTERN_MAX {
            return Err(format!("regex pattern too long: {len} > {PATTERN_MAX}"));
        }
        let (text, groups) = translate(source);
        let build = |unicode| {
            RegexBuilder::new(&text)
                .unicode(unicode)
                .size_limit(COMPILED_MAX)
                .dfa_size_limit(KEPT_MAX)
                .build()
        };
        // Names are ASCII; only classes of Unicode need its tables.
        let regex = build(false).or_else(|_| build(true)).map_err(|error| {
            // The last line has the cause, those before it show the place.
            let text = error.to_string();
            let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("could not parse regex: {source}, {why}")
        })?;
        Ok(Self { source: source.to_owned(), regex, groups })
    }

    /// The number of the group with this name, or with this number in digits.
    pub(crate) fn group(&self, name: &str) -> Option<usize> {
        let named = self.groups.iter().rfind(|(known, _)| known == name);
        let number = || name.parse().ok().filter(|number| *number < self.regex.captures_len());
        named.map(|(_, number)| *number).or_else(number)
    }

    /// Returns true if it holds a capital letter as such: names are compared in lower case.
    pub(super) fn has_capitals(&self) -> bool {
        let mut before = ' ';
        let mut letters = self.source.replace("?P<", "");
        self.groups.iter().for_each(|(name, _)| letters = letters.replace(name, ""));
        let mut found =
            letters.chars().map(|letter| (std::mem::replace(&mut before, letter), letter));
        let found = found.any(|(before, letter)| letter.is_ascii_uppercase() && before != '\\');
        found && !self.source.contains("(?i") && !self.source.contains('[')
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.source.hash(state);
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.source)
    }
}

/// The pattern as the crate reads it, without names, and the numbers of the groups that had one.
fn translate(source: &str) -> (String, Vec<(String, usize)>) {
    let (mut text, mut groups) = (String::with_capacity(source.len()), Vec::new());
    let (mut rest, mut group, mut class) = (source, 0, None::<usize>);
    while let Some(letter) = rest.chars().next() {
        let mut len = letter.len_utf8();
        match (letter, &mut class) {
            ('\\', _) => {
                if let Some(quoted) = rest.strip_prefix("\\Q") {
                    let quoted = quoted.split_once("\\E").map_or(quoted, |(quoted, _)| quoted);
                    text += &regex::escape(quoted);
                    rest = rest[2 + quoted.len()..].trim_start_matches("\\E");
                    class = class.map(|seen| seen + 1);
                    continue;
                }
                len += rest[len..].chars().next().map_or(0, char::len_utf8);
                class = class.map(|seen| seen + 1);
            }
            // The first bracket of a class is a letter of it.
            (']', Some(seen)) if *seen > 0 => class = None,
            ('[', Some(_)) if rest.starts_with("[:") => {
                let end = rest.find(":]").map_or(len, |end| end + 2);
                len = end;
                class = class.map(|seen| seen + 1);
            }
            ('[' | '&' | '~', Some(seen)) => {
                text.push('\\');
                *seen += 1;
            }
            ('^', Some(0)) if text.ends_with('[') => {}
            (_, Some(seen)) => *seen += 1,
            ('[', None) => class = Some(0),
            ('(', None) => {
                let named = ["(?P<", "(?<"].into_iter().find_map(|open| {
                    let (name, behind) = rest.strip_prefix(open)?.split_once('>')?;
                    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
                    (!name.is_empty() && name.bytes().all(is_part)).then_some((name, behind))
                });
                group += usize::from(named.is_some() || !rest.starts_with("(?"));
                if let Some((name, behind)) = named {
                    groups.push((name.to_owned(), group));
                    text.push('(');
                    rest = behind;
                    continue;
                }
            }
            _ => {}
        }
        text += &rest[..len];
        rest = &rest[len..];
    }
    (text, groups)
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    fn matches(pattern: &str, text: &str) -> bool {
        let pattern = Pattern::parse(pattern).unwrap_or_else(|error| panic!("{error}"));
        pattern.regex.is_match(text.as_bytes())
    }

    #[test]
    fn patterns_match_as_the_language_says() {
        for (pattern, yes, no) in [
            ("^a[.]", "a.t.", "ba.t."),
            ("^(?P<n>\\d+)[.]", "5.t.", "x.t."),
            ("(?i)^Y", "y.t.", "x"),
            ("^[*][.]", "*.t.", "x.t."),
            ("^\\Qa.b\\E$", "a.b", "axb"),
            ("^[[a]$", "[", "b"),
            ("^[]a]$", "]", "b"),
            ("^[^]a]$", "b", "]"),
            ("^[a&&b~~]$", "&", "c"),
            ("^[[:alpha:]_]+$", "a_", "1"),
            ("^(a|b){2}$", "ab", "abc"),
            ("\\pL", "x", "1"),
            ("", "anything", ""),
        ] {
            assert!(matches(pattern, yes), "{pattern} {yes}");
            assert!(no.is_empty() || !matches(pattern, no), "{pattern} {no}");
        }
    }

    #[test]
    fn groups_are_known_by_name_and_number_and_the_last_of_a_name_counts() {
        let pattern = Pattern::parse(r"(?:x)?(?P<x>[a-z(]+)-(?<y>\()?(?P<x>[a-z]+)[.]").unwrap();
        assert_eq!(pattern.groups.len(), 3);
        assert_eq!([pattern.group("x"), pattern.group("y")], [Some(3), Some(2)]);
        assert_eq!(
            [pattern.group("0"), pattern.group("1"), pattern.group("4")],
            [Some(0), Some(1), None]
        );
        assert_eq!(pattern.group("z"), None);
        let found = pattern.regex.captures(b"a-b.t.").unwrap();
        assert_eq!((&found[1], &found[3]), (&b"a"[..], &b"b"[..]));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for (pattern, why) in [
            ("[", "could not parse regex: [, unclosed"),
            ("(?!a)", "look-around"),
            ("(a)\\1", "backreferences"),
            ("(?P<a-b>x)", "could not parse regex"),
            ("a{1000}{1000}", "could not parse regex"),
        ] {
            let error = Pattern::parse(pattern).unwrap_err();
            assert!(error.contains(why), "{pattern}: {error}");
        }
        let long = "a".repeat(10_001);
        assert_eq!(Pattern::parse(&long).unwrap_err(), "regex pattern too long: 10001 > 10000");
    }

    #[test]
    fn capitals_that_no_name_has_are_noticed() {
        let has = |pattern| Pattern::parse(pattern).unwrap().has_capitals();
        assert!(has("^X") && has("(?P<Name>a)X"));
        assert!(!has("(?i)^X") && !has("\\Dx") && !has("(?P<Name>a)") && !has("[A-Za-z]"));
    }
}
