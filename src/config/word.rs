//! Free text as a word of a Corefile: what an effective configuration writes down.
//!
//! A word stands bare where the lexer would read it so, and in double quotes otherwise. What came
//! out of an environment variable may have no spelling at all: a reference within it, or a
//! backslash before a quote or at the end of a text with spaces. It is written as nearly as can be.

use super::Name;
use std::fmt;

/// A text that is written as one word.
pub(super) struct Word<'a>(pub(super) &'a str);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = |character: char| character.is_whitespace() || character == '#';
        if self.0.is_empty() || self.0.starts_with('"') || self.0.contains(parts) {
            write!(f, "\"{}\"", self.0.replace('"', "\\\""))
        } else {
            f.write_str(self.0)
        }
    }
}

/// Writes each of `items` behind a space.
pub(super) fn list(f: &mut fmt::Formatter<'_>, items: &[impl fmt::Display]) -> fmt::Result {
    items.iter().try_for_each(|item| write!(f, " {item}"))
}

/// Writes each of `names` behind a space.
pub(super) fn names(f: &mut fmt::Formatter<'_>, names: &[Name]) -> fmt::Result {
    names.iter().try_for_each(|name| write!(f, " {}", name.in_corefile()))
}

#[cfg(test)]
mod tests {
    use super::Word;
    use crate::corefile::{Sources, parse};
    use std::collections::BTreeMap;

    #[test]
    fn a_word_reads_as_it_was() {
        let sources = Sources::fixed(BTreeMap::new(), BTreeMap::new());
        for text in ["a", "", "a b", "a\"b", "\"", "\"a b\"", "a#b", "\\", "a\\b c", "a\tb\u{a0}"] {
            let corefile = format!(". {{\n root {} z\n}}\n", Word(text));
            let parsed = parse(corefile.as_bytes(), "f", &sources).unwrap();
            let words: Vec<_> = parsed.blocks[0].directives[0].tokens.iter().collect();
            assert_eq!((words.len(), &*words[1].text), (3, text), "{corefile}");
        }
    }
}
