//! A record's text, word by word (RFC 1035 §5.1).
//!
//! Words are separated by space; quotes hold space together, parentheses hold lines together, and
//! a semicolon begins a comment. Escapes stay as written until a field decodes them.

use super::RecordError;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Word<'t> {
    /// Without the quotes around it.
    pub(crate) text: &'t [u8],
    /// Column in the text, counted from 1.
    pub(crate) column: usize,
    /// The word was quoted.
    pub(crate) quoted: bool,
}

impl Word<'_> {
    /// The error `what` at this word.
    pub(crate) fn wrong(&self, what: &'static str) -> RecordError {
        RecordError { column: self.column, what }
    }
}

/// The words of a text.
#[derive(Clone, Copy)]
pub(crate) struct Words<'t> {
    text: &'t [u8],
    place: usize,
    /// Parentheses that are open.
    depth: usize,
    /// A word was read: the next line end outside of parentheses ends the record.
    begun: bool,
}

impl<'t> Words<'t> {
    /// Words of a text that begins with a record, maybe behind empty lines.
    pub(super) fn new(text: &'t [u8]) -> Self {
        Self { text, place: 0, depth: 0, begun: false }
    }

    /// Words of the first line of a text, and of the lines that parentheses join to it.
    pub(crate) fn of_line(text: &'t [u8]) -> Self {
        Self { begun: true, ..Self::new(text) }
    }

    /// Returns the length of the text that was read: up to the line's end where no word was left.
    pub(crate) fn place(&self) -> usize {
        self.place
    }

    /// Returns the text from `begin` up to where it was read.
    pub(crate) fn text(&self, begin: usize) -> &'t [u8] {
        &self.text[begin..self.place]
    }

    /// The next word of the record; `None` at its end.
    ///
    /// # Errors
    /// Parentheses do not match, or the text ends within quotes.
    pub(crate) fn next(&mut self) -> Result<Option<Word<'t>>, RecordError> {
        while let Some(&byte) = self.text.get(self.place) {
            match byte {
                b'\n' if self.depth == 0 && self.begun => return Ok(None),
                b' ' | b'\t' | b'\r' | b'\n' => {}
                b'(' => self.depth += 1,
                b')' => {
                    let depth = self.depth.checked_sub(1);
                    self.depth = depth.ok_or(self.error("')' without '('"))?;
                }
                b';' => {
                    let comment = &self.text[self.place..];
                    let len = comment.iter().position(|byte| *byte == b'\n');
                    self.place += len.unwrap_or(comment.len());
                    continue;
                }
                _ => return self.word().map(Some),
            }
            self.place += 1;
        }
        if self.depth > 0 {
            return Err(self.error("')' is missing"));
        }
        Ok(None)
    }

    /// The next word.
    ///
    /// # Errors
    /// `what`, if the record ends here.
    pub(crate) fn expect(&mut self, what: &'static str) -> Result<Word<'t>, RecordError> {
        self.next()?.ok_or(self.error(what))
    }

    /// Returns true if another record follows; to be called behind the last word of this one.
    pub(super) fn goes_on(&mut self) -> Result<bool, RecordError> {
        if let Some(word) = self.next()? {
            return Err(word.wrong("unexpected word after the end"));
        }
        self.begun = false;
        Ok(self.next()?.is_some())
    }

    fn error(&self, what: &'static str) -> RecordError {
        RecordError { column: self.place + 1, what }
    }

    /// The word that begins here.
    fn word(&mut self) -> Result<Word<'t>, RecordError> {
        self.begun = true;
        let start = self.place;
        let mut in_quotes = false;
        while let Some(&byte) = self.text.get(self.place) {
            match byte {
                b'\\' => self.place += 1,
                b'"' => in_quotes = !in_quotes,
                b' ' | b'\t' | b'\r' | b'\n' | b'(' | b')' | b';' if !in_quotes => break,
                _ => {}
            }
            self.place += 1;
            // A closing quote ends a word that began with one.
            if byte == b'"' && !in_quotes && self.text[start] == b'"' {
                break;
            }
        }
        let column = start + 1;
        let text = self.text.get(start..self.place);
        match text {
            Some(text) if !in_quotes => {
                let inner = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\""));
                Ok(Word { text: inner.unwrap_or(text), column, quoted: inner.is_some() })
            }
            Some(_) => Err(RecordError { column, what: "a quote is not closed" }),
            None => Err(RecordError { column, what: "the text ends in an escape" }),
        }
    }
}

/// The bytes of a word, escapes decoded; each with whether it was escaped.
pub(super) struct Decoded<'w> {
    word: Word<'w>,
    place: usize,
}

impl<'w> Decoded<'w> {
    pub(super) fn new(word: Word<'w>) -> Self {
        Self { word, place: 0 }
    }
}

impl Iterator for Decoded<'_> {
    type Item = Result<(u8, bool), RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.word.text.get(self.place..)?;
        let digit = |byte: u8| u16::from(byte - b'0');
        let (byte, len) = match text {
            [] => return None,
            [b'\\', a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] => {
                let number = digit(*a) * 100 + digit(*b) * 10 + digit(*c);
                let Ok(byte) = u8::try_from(number) else {
                    return Some(Err(self.word.wrong("an escape must not be above \\255")));
                };
                (byte, 4)
            }
            [b'\\', byte, ..] => (*byte, 2),
            [b'\\'] => return Some(Err(self.word.wrong("an escape is incomplete"))),
            [byte, ..] => {
                self.place += 1;
                return Some(Ok((*byte, false)));
            }
        };
        self.place += len;
        Some(Ok((byte, true)))
    }
}
