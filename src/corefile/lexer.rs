//! Text to words.
//!
//! Owns the rules of quotes, comments and white space; braces, imports and variables are ordinary
//! words here. Lexing cannot fail: any bytes are a sequence of words. The parser is the only
//! caller.
//!
//! The surprising rules are deliberate, because existing files depend on them: a closing quote
//! always ends the word, a quote inside a word is literal, a carriage return vanishes, and a
//! comment that begins inside a word ends at the next white space of any kind.

use super::{Place, Token, Warning};
use std::str::Chars;
use std::sync::Arc;

/// Words that are valid but probably a mistake.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Odd {
    QuoteInside,
    QuoteGlued,
    QuoteOpen,
    CommentInside,
    LoneReturn,
    Continuation,
    Invisible(char),
}

impl Odd {
    fn message(self) -> String {
        match self {
            Self::QuoteInside => "a quote inside a word is an ordinary character: put the opening \
                                  quote at the start of the word"
                .into(),
            Self::QuoteGlued => "a closing quote ends the word: the text right after it is a new \
                                 word"
                .into(),
            Self::QuoteOpen => {
                "the quote that opens here is not closed: the rest of the file is one word".into()
            }
            Self::CommentInside => "'#' inside a word comments out only the rest of the word: put \
                                    a space before '#'"
                .into(),
            Self::LoneReturn => "a carriage return without a newline does not end a line".into(),
            Self::Continuation => {
                "a line cannot be continued with '\\': it is read as a word".into()
            }
            Self::Invisible(character) => {
                format!("a word contains the invisible character U+{:04X}", u32::from(character))
            }
        }
    }
}

/// Returns true for a character that is invisible on a screen, except white space.
fn is_invisible(character: char) -> bool {
    let formats = ['\u{AD}', '\u{2060}', '\u{FEFF}', '\u{FFFD}'];
    character.is_control()
        || ('\u{200B}'..='\u{200F}').contains(&character)
        || ('\u{202A}'..='\u{202E}').contains(&character)
        || formats.contains(&character)
}

/// Decodes `bytes` as UTF-8, with U+FFFD for each invalid byte, and without a byte order mark at
/// the front.
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
    /// The first occurrence of each kind, and its line.
    odd: Vec<(usize, Odd)>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, file: &Arc<str>) -> Self {
        Self { characters: text.chars(), file: Arc::clone(file), line: 1, odd: Vec::new() }
    }

    /// Returns the warnings about the text read so far, once for each kind.
    pub(super) fn warnings(self) -> Vec<Warning> {
        let Self { file, odd, .. } = self;
        let warning = |(line, odd): (usize, Odd)| Warning {
            place: Place { file: Arc::clone(&file), line },
            message: odd.message(),
        };
        odd.into_iter().map(warning).collect()
    }

    /// Returns true if a quote was still open at the end of the text.
    pub(super) fn ends_in_quote(&self) -> bool {
        self.odd.iter().any(|(_, odd)| *odd == Odd::QuoteOpen)
    }

    fn note(&mut self, line: usize, odd: Odd) {
        let kind = std::mem::discriminant(&odd);
        if !self.odd.iter().any(|(_, known)| std::mem::discriminant(known) == kind) {
            self.odd.push((line, odd));
        }
    }

    fn peek(&self) -> Option<char> {
        self.characters.clone().next()
    }

    /// Handles a comment that begins inside a word: odd if a word follows on its line. If none
    /// does, the line has no other comment, and if one does, the warning is certain: so no line is
    /// examined twice.
    fn note_comment_inside(&mut self) {
        if self.odd.iter().any(|(_, known)| *known == Odd::CommentInside) {
            return;
        }
        let line = self.characters.as_str().split('\n').next().unwrap_or_default();
        let after =
            line.split_once(char::is_whitespace).map_or("", |(_, after)| after.trim_start());
        if !after.is_empty() && !after.starts_with('#') {
            self.note(self.line, Odd::CommentInside);
        }
    }

    fn token(&self, text: &str, line: usize) -> Token {
        Token::new(text, Place { file: Arc::clone(&self.file), line })
    }

    /// Reads the rest of a quoted word, after its opening quote.
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
                '"' if !escaped => {
                    if self.peek().is_some_and(|next| !next.is_whitespace()) {
                        self.note(self.line, Odd::QuoteGlued);
                    }
                    return Some(self.token(&word, line));
                }
                '\n' => self.line += 1,
                _ => {}
            }
            if escaped && character != '"' {
                word.push('\\');
            }
            word.push(character);
            escaped = false;
        }
        self.note(line, Odd::QuoteOpen);
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
                '\r' => {
                    if self.peek() != Some('\n') {
                        self.note(self.line, Odd::LoneReturn);
                    }
                }
                space if space.is_whitespace() => {
                    if space == '\n' {
                        if word == "\\" {
                            self.note(self.line, Odd::Continuation);
                        }
                        self.line += 1;
                        in_comment = false;
                    }
                    if !word.is_empty() {
                        return Some(self.token(&word, line));
                    }
                }
                _ if in_comment => {}
                '#' => {
                    in_comment = true;
                    if !word.is_empty() {
                        self.note_comment_inside();
                    }
                }
                '"' if word.is_empty() => return self.quoted(),
                _ => {
                    if word.is_empty() {
                        line = self.line;
                    }
                    if character == '"' {
                        self.note(self.line, Odd::QuoteInside);
                    } else if is_invisible(character) {
                        self.note(self.line, Odd::Invisible(character));
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
