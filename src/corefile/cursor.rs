//! Cursor over the tokens of a directive.
//!
//! The tokens of all uses of one directive in one server block are one list. The line of a token
//! decides whether it is an argument; braces delimit the one block that a use may have. Tokens that
//! a reader leaves unread are taken as the beginning of the next use: its outer loop calls
//! [`Cursor::stanza`] until there is none.

use super::{ParseError, Token};

/// A position in a directive's tokens.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    tokens: &'a [Token],
    /// Number of tokens read.
    read: usize,
    in_block: bool,
}

impl<'a> Cursor<'a> {
    /// Creates a cursor before the first of `tokens`.
    pub(crate) fn new(tokens: &'a [Token]) -> Self {
        Self { tokens, read: 0, in_block: false }
    }

    /// Returns the next token, on any line: the name that a use of the directive begins with.
    pub(crate) fn stanza(&mut self) -> Option<&'a Token> {
        let token = self.tokens.get(self.read)?;
        self.read += 1;
        Some(token)
    }

    /// Returns the next token if it is on the line of the last one.
    pub(crate) fn arg(&mut self) -> Option<&'a Token> {
        let next = self.tokens.get(self.read)?;
        if !self.tokens[..self.read].last().is_none_or(|last| last.continues_with(next)) {
            return None;
        }
        self.read += 1;
        Some(next)
    }

    /// Returns the arguments up to the end of the line or a `{`. A `}` does not end them.
    pub(crate) fn rest(&mut self) -> Vec<&'a Token> {
        let mut arguments = Vec::new();
        while let Some(argument) = self.arg() {
            if argument.is("{") {
                self.read -= 1;
                break;
            }
            arguments.push(argument);
        }
        arguments
    }

    /// Returns the next property of the block; the first call opens the block, whose `{` must be on
    /// the line of the last token. `None` once it is closed, or when there is no block.
    pub(crate) fn block(&mut self) -> Option<&'a Token> {
        if !self.in_block {
            let opener = self.arg()?;
            if !opener.is("{") {
                self.read -= 1;
                return None;
            }
        }
        let property = self.stanza().filter(|token| !token.is("}"));
        self.in_block = property.is_some();
        property
    }

    /// Returns the next argument.
    ///
    /// # Errors
    /// There is none on this line.
    pub(crate) fn expect_arg(&mut self) -> Result<&'a Token, ParseError> {
        self.arg().ok_or_else(|| self.argument_error())
    }

    /// Returns the arguments up to the end of the line or a `{`, at least one.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn expect_rest(&mut self) -> Result<Vec<&'a Token>, ParseError> {
        let arguments = self.rest();
        if arguments.is_empty() { Err(self.argument_error()) } else { Ok(arguments) }
    }

    /// Checks that the line has no further argument.
    ///
    /// # Errors
    /// The line has a further argument.
    pub(crate) fn expect_no_arg(&mut self) -> Result<(), ParseError> {
        if self.arg().is_some() { Err(self.argument_error()) } else { Ok(()) }
    }

    /// Returns the error of too few arguments after the last token, or of one too many.
    ///
    /// # Panics
    /// No token was read yet.
    pub(crate) fn argument_error(&self) -> ParseError {
        ParseError::argument(&self.tokens[self.read - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::Cursor;
    use crate::corefile::lexer::Lexer;
    use crate::corefile::{ParseError, Token};

    fn tokens(text: &str) -> Vec<Token> {
        Lexer::new(text, &"f".into()).collect()
    }

    fn texts(tokens: &[&Token]) -> String {
        tokens.iter().map(|token| &*token.text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn arguments_end_with_the_line() {
        let tokens = tokens("a b \"c\nd\" e\nf");
        let mut cursor = Cursor::new(&tokens);
        assert!(cursor.stanza().is_some());
        assert_eq!(texts(&cursor.rest()), "b c\nd e");
        assert_eq!(cursor.arg(), None);
        assert_eq!(texts(&[cursor.stanza().unwrap()]), "f");
        assert_eq!(cursor.stanza(), None);
    }

    #[test]
    fn the_rest_stops_at_an_opening_brace_only() {
        let tokens = tokens("a b } c { d }");
        let mut cursor = Cursor::new(&tokens);
        cursor.stanza();
        assert_eq!(texts(&cursor.rest()), "b } c");
        assert_eq!(texts(&[cursor.block().unwrap()]), "d");
        assert_eq!(cursor.block(), None);
    }

    #[test]
    fn a_block_must_open_on_the_line_of_its_stanza() {
        let tokens = tokens("a\n{ b }");
        let mut cursor = Cursor::new(&tokens);
        cursor.stanza();
        assert_eq!(cursor.block(), None);
        assert_eq!(texts(&[cursor.stanza().unwrap()]), "{");
    }

    #[test]
    fn a_block_ends_at_its_brace_or_with_the_list() {
        let empty = tokens("a { } b");
        let mut cursor = Cursor::new(&empty);
        cursor.stanza();
        assert_eq!(cursor.block(), None);
        assert_eq!(texts(&[cursor.stanza().unwrap()]), "b");
        let open = tokens("a {\nb\nc");
        let mut cursor = Cursor::new(&open);
        cursor.stanza();
        let mut properties = Vec::new();
        while let Some(property) = cursor.block() {
            properties.push(property);
        }
        assert_eq!(texts(&properties), "b c");
    }

    #[test]
    fn the_argument_error_is_at_the_last_token_read() {
        let tokens = tokens("a\nb c");
        let mut cursor = Cursor::new(&tokens);
        cursor.stanza();
        assert_eq!(cursor.expect_arg(), Err(ParseError::argument(&tokens[0])));
        assert_eq!(cursor.expect_rest(), Err(ParseError::argument(&tokens[0])));
        assert_eq!(cursor.expect_no_arg(), Ok(()));
        cursor.stanza();
        assert_eq!(cursor.expect_no_arg(), Err(ParseError::argument(&tokens[2])));
    }
}
