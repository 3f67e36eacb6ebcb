//! Words to server blocks.
//!
//! Owns the grammar: keys, braces, directive lines, snippet definitions, and the recognition of an
//! `import`. Reads the words strictly in order, and replaces imports by their tokens as it meets
//! them. Structure is recognised on words as written: a brace in a variable's value does not count.
//!
//! The parser sees two tokens: the last one read and the next. Decisions about lines compare these
//! two, in the order in which expansion has placed them.

use super::external;
use super::import::{Imports, snippet_depth_exceeded};
use super::suggest::did_you_mean;
use super::{
    Block, Cause, Corefile, DIRECTIVES, Directive, ParseError, Sources, Token, WARNINGS_MAX,
};

pub(super) struct Parser<'a> {
    /// Unread words, the next one last.
    ahead: Vec<Token>,
    /// The last word read, with references replaced where its text was used.
    last: Option<Token>,
    imports: Imports<'a>,
    /// Unknown directives, and imports that cannot be read.
    missing: Vec<ParseError>,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &[u8], name: &str, sources: &'a Sources) -> Result<Self, ParseError> {
        let mut imports = Imports::new(sources);
        let mut ahead = imports.main_input(text, name)?;
        ahead.reverse();
        Ok(Self { ahead, last: None, imports, missing: Vec::new() })
    }

    pub(super) fn parse(mut self) -> Result<Corefile, ParseError> {
        let mut blocks = Vec::new();
        while !self.ahead.is_empty() {
            match self.block() {
                Ok(block) => blocks.extend(block),
                Err(error) => {
                    let error = self.imports.hints.explain(error);
                    let is_text = |error: &ParseError| error.cause() == Cause::Text;
                    match self.missing.iter().position(is_text) {
                        // It may be a consequence of how the words after an unknown directive were
                        // read.
                        Some(first) => return Err(self.missing.swap_remove(first)),
                        None if self.missing.is_empty() => return Err(error),
                        None => {
                            blocks.clear();
                            self.missing.push(error);
                            break;
                        }
                    }
                }
            }
        }
        let Imports { warnings, hints, .. } = self.imports;
        Ok(Corefile { blocks, warnings, missing: self.missing, hints })
    }

    /// Reads one server block; `None` for the definition of a snippet, or a block without a key.
    fn block(&mut self) -> Result<Option<Block>, ParseError> {
        let keys = self.keys()?;
        let mut block = Block { keys, directives: Vec::new() };
        if let Some(next) = self.next().cloned() {
            if let Some(name) = snippet_name(&block.keys) {
                let name = name.to_owned();
                self.snippet(name, &next)?;
                return Ok(None);
            }
            let braced = next.is("{");
            if braced {
                self.accept(next);
            }
            let closed = self.directives(&mut block)?;
            match (braced, closed) {
                (true, false) => self.warn_of_brace(
                    "the '}' of the server block is missing: the last '}' closes an inner block",
                ),
                (false, true) => self.warn_of_brace("this '}' ends a server block that has no '{'"),
                _ => {}
            }
            if let Some(last) = self.last.as_ref().filter(|last| braced && !last.is("}")) {
                return Err(ParseError::syntax(last, "}"));
            }
        }
        if let (true, Some(first)) = (block.keys.is_empty(), block.directives.first()) {
            let message = "a server block without a zone is ignored";
            self.imports.warn(&first.tokens[0], message);
        }
        Ok((!block.keys.is_empty()).then_some(block))
    }

    /// Adds a warning about the last brace read.
    fn warn_of_brace(&mut self, message: &str) {
        if let Some(last) = self.last.clone() {
            self.imports.warn(&last, message);
        }
    }

    /// Reads the keys of a block. Afterwards the next word, if there is one, begins the body.
    fn keys(&mut self) -> Result<Vec<Token>, ParseError> {
        let mut keys = Vec::new();
        let mut comma = false;
        while let Some(next) = self.next() {
            let starts_line = next.starts_new_line(self.last.as_ref());
            let written = next.clone();
            let mut key = self.imports.substituted(&written)?;
            if key.is("import") && starts_line {
                self.import()?;
                continue;
            }
            if key.is("{") {
                if comma {
                    let message = "Expected another address but had '{' - check for extra comma";
                    return Err(ParseError::at(&key, message));
                }
                return Ok(keys);
            }
            if !key.text.is_empty() {
                let bare = key.text.strip_suffix(',').map(Into::into);
                comma = bare.is_some();
                key.text = bare.unwrap_or(key.text);
                keys.push(key);
            }
            self.accept(written);
            let line_ends =
                self.next().is_some_and(|next| next.starts_new_line(self.last.as_ref()));
            if line_ends && !comma {
                return Ok(keys);
            }
        }
        match &self.last {
            Some(last) if comma => Err(ParseError::at(last, "Unexpected EOF")),
            _ => Ok(keys),
        }
    }

    /// Reads the body of a block, up to and with its `}` (then true), or to the end of the input.
    fn directives(&mut self, block: &mut Block) -> Result<bool, ParseError> {
        while let Some(next) = self.next().cloned() {
            if next.is("}") {
                self.accept(next);
                return Ok(true);
            }
            if next.is("import") {
                self.import()?;
            } else {
                self.directive(next, block)?;
            }
        }
        Ok(false)
    }

    /// Reads one directive with its arguments and sub-block.
    fn directive(&mut self, first: Token, block: &mut Block) -> Result<(), ParseError> {
        let written = self.imports.substituted(&first)?.text;
        let mut left_out = Vec::new();
        let tokens = match DIRECTIVES.into_iter().find(|name| *name == &*written) {
            Some(name) => {
                let index = block.directives.iter().position(|known| known.name == name);
                let index = index.unwrap_or_else(|| {
                    block.directives.push(Directive { name, tokens: Vec::new() });
                    block.directives.len() - 1
                });
                &mut block.directives[index].tokens
            }
            None => {
                if self.missing.len() < WARNINGS_MAX {
                    let advice = external::advice(&written);
                    let advice = advice.unwrap_or_else(|| did_you_mean(&written, DIRECTIVES));
                    let message = format!("Unknown directive '{written}'{advice}");
                    self.missing.push(ParseError::at(&first, message));
                }
                &mut left_out
            }
        };
        if let Some(last) = tokens.last()
            && last.continues_with(&first)
            && !last.is("}")
        {
            let message = format!(
                "'{written}' is imported twice on this line: the second is read as an argument of \
                 the first"
            );
            self.imports.warn(&first, message);
        }
        tokens.push(first.clone());
        self.accept(first);

        let mut depth = 0_usize;
        while let Some(next) = self.next().cloned() {
            let starts_line = next.starts_new_line(self.last.as_ref());
            if next.is("{") {
                depth += 1;
            } else if starts_line && depth == 0 {
                break;
            } else if next.is("}") {
                depth = depth.checked_sub(1).ok_or_else(|| {
                    let message = "Unexpected '}' because no matching opening brace";
                    ParseError::at(&next, message)
                })?;
            } else if next.is("import") && starts_line {
                self.import()?;
                continue;
            }
            let token = self.imports.substituted(&next)?;
            let stray =
                |last: &Token| !last.continues_with(&next) && last.place.line != next.place.line;
            let stray = self.last.as_ref().is_some_and(stray) && !next.is("}");
            if depth == 0 && stray {
                let message = format!(
                    "'{}' is read as an argument of '{written}', not as a directive: a snippet \
                     that is defined further down was imported before it",
                    next.text
                );
                self.imports.warn(&next, message);
            }
            warn_of_word(&mut self.imports, &token);
            tokens.push(token.clone());
            self.accept(token);
        }
        match &self.last {
            Some(last) if depth > 0 => Err(ParseError::at(last, "Unexpected EOF")),
            _ => Ok(()),
        }
    }

    /// Reads the definition of a snippet; `opener` is the next word and should be a brace.
    fn snippet(&mut self, name: String, opener: &Token) -> Result<(), ParseError> {
        if self.imports.is_snippet(&name) {
            let message = format!("redeclaration of previously declared snippet {name}");
            return Err(ParseError::at(opener, message));
        }
        if !opener.is("{") {
            return Err(ParseError::syntax(opener, "{"));
        }
        self.accept(opener.clone());
        let mut body: Vec<Token> = Vec::new();
        let mut depth = 1_usize;
        let mut imports_itself = false;
        while let Some(next) = self.ahead.pop() {
            if next.is("{") {
                depth += 1;
            } else if next.is("}") {
                depth -= 1;
            }
            if depth == 0 {
                if imports_itself {
                    return Err(snippet_depth_exceeded(&next));
                }
                self.last = Some(next);
                self.imports.define(name, body);
                return Ok(());
            }
            imports_itself = imports_itself
                || (next.is("import")
                    && (body.is_empty() || next.starts_new_line(self.last.as_ref()))
                    && self.next().is_some_and(|argument| argument.is(&name)));
            self.last = Some(next.clone());
            body.push(next);
        }
        let last = self.last.as_ref().unwrap_or(opener);
        Err(ParseError::syntax(last, "}"))
    }

    /// Replaces `import ARGUMENT`, whose first word is the next one, by its tokens. The last word
    /// read stays the one before.
    fn import(&mut self) -> Result<(), ParseError> {
        let Some(keyword) = self.ahead.pop() else { return Ok(()) };
        let argument = match self.ahead.pop() {
            Some(argument) if keyword.continues_with(&argument) => argument,
            _ => return Err(ParseError::argument(&keyword)),
        };
        let target = self.imports.substituted(&argument)?;
        if target.text.is_empty() {
            return Err(ParseError::at(&argument, "Import requires a non-empty filepath"));
        }
        if let Some(surplus) = self.next().filter(|next| argument.continues_with(next)) {
            let message = "Import takes only one argument (glob pattern or file)";
            return Err(ParseError::at(surplus, message));
        }
        match self.imports.resolve(&target) {
            Ok(tokens) => self.ahead.extend(tokens.into_iter().rev()),
            // The rest is read all the same, to report its mistakes, too.
            Err(error) if error.cause() == Cause::Host && self.missing.len() < WARNINGS_MAX => {
                let error = self.imports.hints.explain(error);
                self.missing.push(error);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn next(&self) -> Option<&Token> {
        self.ahead.last()
    }

    /// Consumes the next word, whose text is now `token`.
    fn accept(&mut self, token: Token) {
        self.ahead.pop();
        self.last = Some(token);
    }
}

/// Warns of a word that looks like a reference or an import and is none.
fn warn_of_word(imports: &mut Imports<'_>, token: &Token) {
    let text = &*token.text;
    if text.contains("{args") {
        let message = format!("'{text}' is taken literally: imports have no arguments");
        imports.warn(token, message);
    } else if text.contains("{$") || text.contains("{%") || text.split("${").skip(1).any(is_name) {
        let message = format!("'{text}' is taken literally: write a variable as {{$NAME}}");
        imports.warn(token, message);
    }
}

/// Returns true unless `text` begins with a number, like the number of a group of a pattern.
fn is_name(text: &str) -> bool {
    !text.starts_with(|first: char| first.is_ascii_digit())
}

/// Returns the name of the snippet that a block with these keys defines.
fn snippet_name(keys: &[Token]) -> Option<&str> {
    match keys {
        [only] => only.text.strip_prefix('(')?.strip_suffix(')'),
        _ => None,
    }
}
