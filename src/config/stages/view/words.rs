//! The words of an expression: numbers, texts, names and operators, each with its column.
//!
//! The syntax says what words mean together; here only a text without an end, an
//! escape that there is not and a number that is too large are mistakes.

use super::program::Fraction;

/// One word of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Number(i64),
    Fraction(Fraction),
    Text(String),
    Name(String),
    /// One of [`SYMBOLS`].
    Symbol(&'static str),
    End,
}

/// A word and the character of the expression that it begins with, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) word: Word,
    pub(super) column: usize,
}

/// Error in an expression, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    /// The character, counted from 1.
    pub(super) column: usize,
    pub(super) what: String,
}

impl Mistake {
    pub(super) fn at<T>(column: usize, what: impl Into<String>) -> Result<T, Self> {
        Err(Self { column, what: what.into() })
    }
}

/// The operators and brackets, longer ones before those that they begin with. Some of them are
/// read only to be named in an error.
const SYMBOLS: &[&str] = &[
    "...", "==", "!=", "<=", ">=", "&&", "||", "??", "?.", "**", "..", "<", ">", "!", "?", ":",
    "(", ")", "[", "]", "{", "}", ",", ".", "+", "-", "*", "/", "%", "#", "|", "^", "=", ";",
];

/// Takes an expression apart; the last word is [`Word::End`].
///
/// # Errors
/// A text that does not end, a number that is too large, or a character that begins no word.
pub(super) fn of(expression: &str) -> Result<Vec<Placed>, Mistake> {
    let mut words = Vec::new();
    let mut rest = expression;
    loop {
        rest = rest.trim_start();
        let column = expression[..expression.len() - rest.len()].chars().count() + 1;
        let Some(first) = rest.chars().next() else {
            words.push(Placed { word: Word::End, column });
            return Ok(words);
        };
        let (word, len) = match first {
            '\'' | '"' => text(rest, first, column)?,
            '`' => raw(rest, column)?,
            '0'..='9' => number(rest, column)?,
            'a'..='z' | 'A'..='Z' | '_' | '$' => {
                let is_part =
                    |letter: char| letter.is_ascii_alphanumeric() || "_$".contains(letter);
                let len = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
                (Word::Name(rest[..len].to_owned()), len)
            }
            _ => match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
                Some(symbol) => (Word::Symbol(symbol), symbol.len()),
                None => {
                    return Mistake::at(column, format!("unexpected character '{first}'"));
                }
            },
        };
        words.push(Placed { word, column });
        rest = &rest[len..];
    }
}

/// A text in quotes, in which a backslash begins an escape.
fn text(rest: &str, quote: char, column: usize) -> Result<(Word, usize), Mistake> {
    let mut text = String::new();
    let mut letters = rest.char_indices().skip(1);
    while let Some((place, letter)) = letters.next() {
        match letter {
            _ if letter == quote => return Ok((Word::Text(text), place + 1)),
            '\\' => match letters.next().map(|(_, escaped)| escaped) {
                Some('n') => text.push('\n'),
                Some('r') => text.push('\r'),
                Some('t') => text.push('\t'),
                Some(same @ ('\\' | '\'' | '"' | '`')) => text.push(same),
                Some(other) => {
                    let at = column + rest[..place].chars().count();
                    let message = format!(
                        "unknown escape '\\{other}': write '\\\\' for a backslash, or put the \
                         text into back quotes"
                    );
                    return Mistake::at(at, message);
                }
                None => break,
            },
            other => text.push(other),
        }
    }
    Mistake::at(column, "the text that begins here has no closing quote")
}

/// A text in back quotes, which has no escapes.
fn raw(rest: &str, column: usize) -> Result<(Word, usize), Mistake> {
    match rest[1..].split_once('`') {
        Some((text, _)) => Ok((Word::Text(text.to_owned()), text.len() + 2)),
        None => Mistake::at(column, "the text that begins here has no closing quote"),
    }
}

/// A whole number, or a decimal fraction with a point, an exponent or both.
fn number(rest: &str, column: usize) -> Result<(Word, usize), Mistake> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut len = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
    let is_decimal = rest[..len].bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    let after = &rest[len..];
    let is_digit = |letter: char| letter.is_ascii_digit();
    if is_decimal && after.starts_with('.') && after[1..].starts_with(is_digit) {
        let behind = after[1..].find(|letter| !is_part(letter));
        len += 1 + behind.unwrap_or(after.len() - 1);
    }
    if rest[..len].ends_with(['e', 'E']) && !rest.starts_with("0x") {
        let exponent = &rest[len..];
        if exponent.starts_with(['+', '-']) && exponent[1..].starts_with(is_digit) {
            let behind = exponent[1..].find(|letter: char| !letter.is_ascii_digit());
            len += 1 + behind.unwrap_or(exponent.len() - 1);
        }
    }
    let digits = rest[..len].replace('_', "");
    let based = [("0x", 16), ("0o", 8), ("0b", 2)].into_iter().find_map(|(prefix, base)| {
        digits.strip_prefix(prefix).map(|digits| i64::from_str_radix(digits, base).ok())
    });
    let word = match based {
        Some(number) => number.map(Word::Number),
        None if digits.contains(['.', 'e', 'E']) => {
            let fraction = digits.parse().ok().filter(|number: &f64| number.is_finite());
            fraction.map(|number| Word::Fraction(Fraction::new(number)))
        }
        None => digits.parse().ok().map(Word::Number),
    };
    match word {
        Some(word) => Ok((word, len)),
        None => {
            let message = format!(
                "'{}' is neither a whole number of 64 bits nor a decimal fraction",
                &rest[..len]
            );
            Mistake::at(column, message)
        }
    }
}
