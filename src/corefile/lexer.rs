//! Text to words.
//!
//! Owns the rules of quotes, comments and white space; knows nothing of braces, imports or
//! variables, which are ordinary words here. Lexing cannot fail: whatever the bytes, they are a
//! sequence of words. The parser is the only caller.
//!
//! The surprising rules are deliberate, because existing files depend on them: a closing quote
//! always ends the word, a quote inside a word is literal, a carriage return vanishes, and a
//! comment that begins inside a word ends at the next white space of any kind.

use super::{Place, Token};
use std::str::Chars;
use std::sync::Arc;

/// `bytes` as text, each byte that is no part of a character replaced by U+FFFD, without a byte
/// order mark at the front.
pub(super) fn decode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    if text.starts_with('\u{FEFF}') {
        text.remove(0);
    }
    text
}

/// The words of one file.
pub(super) struct Lexer<'a> {
    characters: Chars<'a>,
    file: Arc<str>,
    line: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, file: &Arc<str>) -> Self {
        Self { characters: text.chars(), file: Arc::clone(file), line: 1 }
    }

    fn token(&self, text: &str, line: usize) -> Token {
        Token::new(text, Place { file: Arc::clone(&self.file), line })
    }

    /// The rest of a quoted word, its opening quote being read.
    fn quoted(&mut self) -> Option<Token> {
        let line = self.line;
        let mut word = String::new();
        let mut escaped = false;
        while let Some(character) = self.characters.next() {
            match character {
                '\\' if !escaped => {
                    escaped = true;
                    continue;
                }
                '"' if !escaped => return Some(self.token(&word, line)),
                '\n' => self.line += 1,
                _ => {}
            }
            if escaped && character != '"' {
                word.push('\\');
            }
            word.push(character);
            escaped = false;
        }
        (!word.is_empty()).then(|| self.token(&word, line))
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let mut line = self.line;
        let mut word = String::new();
        let mut in_comment = false;
        while let Some(character) = self.characters.next() {
            match character {
                '\r' => {}
                space if space.is_whitespace() => {
                    if space == '\n' {
                        self.line += 1;
                        in_comment = false;
                    }
                    if !word.is_empty() {
                        return Some(self.token(&word, line));
                    }
                }
                _ if in_comment => {}
                '#' => in_comment = true,
                '"' if word.is_empty() => return self.quoted(),
                _ => {
                    if word.is_empty() {
                        line = self.line;
                    }
                    word.push(character);
                }
            }
        }
        (!word.is_empty()).then(|| self.token(&word, line))
    }
}

#[cfg(test)]
mod tests {
    use super::{Lexer, decode};

    fn words(text: &str) -> Vec<String> {
        lines(text).into_iter().map(|(word, _)| word).collect()
    }

    fn lines(text: &str) -> Vec<(String, usize)> {
        Lexer::new(&decode(text.as_bytes()), &"f".into())
            .map(|token| (token.text.to_string(), token.place.line))
            .collect()
    }

    #[test]
    fn each_stray_byte_becomes_one_replacement_character() {
        assert_eq!(decode(b"a\xff\xe2\x82z\xe2\x82\xac"), "a\u{FFFD}\u{FFFD}\u{FFFD}z\u{20AC}");
    }

    #[test]
    fn only_a_leading_byte_order_mark_is_dropped() {
        assert_eq!(decode("\u{FEFF}a\u{FEFF}".as_bytes()), "a\u{FEFF}");
        assert_eq!(words("\u{FEFF}\u{FEFF}a"), ["\u{FEFF}a"]);
    }

    #[test]
    fn a_closing_quote_ends_the_word() {
        assert_eq!(words(r#""a"b"#), ["a", "b"]);
        assert_eq!(words(r#""" x"#), ["", "x"]);
    }

    #[test]
    fn a_quote_inside_a_word_is_literal() {
        assert_eq!(words(r#"a"b c""#), ["a\"b", "c\""]);
    }

    #[test]
    fn quotes_unescape_nothing_but_the_quote() {
        assert_eq!(words(r#""a\"b\\c\n""#), [r#"a"b\\c\n"#]);
        assert_eq!(words("\"a\\\nb\""), ["a\\\nb"]);
        assert_eq!(words("\"a#\r b\""), ["a#\r b"]);
    }

    #[test]
    fn an_open_quote_ends_with_the_input() {
        assert_eq!(words("a \"b\\"), ["a", "b"]);
        assert_eq!(words("a \""), ["a"]);
        assert_eq!(words("a \"\\"), ["a"]);
    }

    #[test]
    fn a_carriage_return_vanishes_and_joins() {
        assert_eq!(words("a\rb\r\nc"), ["ab", "c"]);
    }

    #[test]
    fn white_space_is_the_unicode_set() {
        assert_eq!(
            words("a\u{A0}b\u{2003}c\u{0B}d\u{85}e\u{3000}f"),
            ["a", "b", "c", "d", "e", "f"]
        );
        assert_eq!(words("a\u{200B}b"), ["a\u{200B}b"]);
        assert_eq!(words("a\0b"), ["a\0b"]);
    }

    #[test]
    fn a_comment_in_a_word_ends_with_the_word() {
        assert_eq!(words("x#why not"), ["x", "not"]);
        assert_eq!(words("x # why not\ny"), ["x", "y"]);
        assert_eq!(words("x # \" {\ny"), ["x", "y"]);
    }

    #[test]
    fn a_word_has_the_line_of_its_first_character() {
        let expected = [("a", 1), ("b\nc", 2), ("d", 3), ("e", 5)];
        let found = lines("a\n\"b\nc\" d\n\ne");
        assert!(found.iter().map(|(word, line)| (word.as_str(), *line)).eq(expected));
    }

    #[test]
    fn there_is_no_continuation_and_single_quotes_mean_nothing() {
        assert_eq!(words("a \\\nb 'c d' {} ;"), ["a", "\\", "b", "'c", "d'", "{}", ";"]);
    }
}
