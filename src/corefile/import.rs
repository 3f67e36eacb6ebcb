//! Expansion of `import`: snippets and files.
//!
//! Owns the definitions of snippets, the files read so far, and the limits that end every import: a
//! count of expansions of each kind, and a budget of words and bytes for the whole configuration.
//! The parser recognises an `import` and inserts the tokens in its place.
//!
//! A file is read once per parse, however often it is imported, so all its expansions are equal.

use super::environment::substitute;
use super::glob::{self, BadPattern};
use super::lexer::{Lexer, decode};
use super::{Hints, ParseError, Sources, TEXT_BYTES_MAX, Token, WARNINGS_MAX, WORDS_MAX, Warning};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Maximum number of expansions of snippets in one configuration.
const SNIPPETS_MAX: usize = 10_000;
/// Maximum number of expansions of file imports in one configuration; a pattern counts once.
const FILES_MAX: usize = 100_000;

/// Snippets and files, and the counts of their expansions.
pub(super) struct Imports<'a> {
    sources: &'a Sources,
    snippets: HashMap<String, Vec<Token>>,
    files: HashMap<PathBuf, Vec<Token>>,
    snippets_expanded: usize,
    files_expanded: usize,
    words: usize,
    text_bytes: usize,
    /// Variables that were found unset.
    unset: HashSet<String>,
    /// Warnings with their places.
    pub(super) warnings: Vec<Warning>,
    /// Causes of errors.
    pub(super) hints: Hints,
}

impl<'a> Imports<'a> {
    pub(super) fn new(sources: &'a Sources) -> Self {
        Self {
            sources,
            snippets: HashMap::new(),
            files: HashMap::new(),
            snippets_expanded: 0,
            files_expanded: 0,
            words: 0,
            text_bytes: 0,
            unset: HashSet::new(),
            warnings: Vec::new(),
            hints: Hints::default(),
        }
    }

    /// Returns the words of the main input.
    pub(super) fn main_input(&mut self, text: &[u8], name: &str) -> Result<Vec<Token>, ParseError> {
        let tokens = self.lex(text, name);
        if let Some(last) = tokens.last() {
            self.charge(&tokens, last)?;
        }
        Ok(tokens)
    }

    /// Returns the token with environment references replaced in its text.
    pub(super) fn substituted(&mut self, token: &Token) -> Result<Token, ParseError> {
        let (value, unset) = (&*self.sources.variable, RefCell::new(Vec::new()));
        let variable = |name: &str| {
            let value = value(name);
            if value.is_none() {
                unset.borrow_mut().push(name.to_owned());
            }
            value
        };
        let replaced = substitute(&token.text, &variable);
        match replaced.map_err(|message| ParseError::at(token, message))? {
            None => Ok(token.clone()),
            Some(text) => {
                self.warn_of_references(token, &text, unset.into_inner());
                self.charge_bytes(text.len(), token)?;
                Ok(Token::new(&text, token.place.clone()))
            }
        }
    }

    pub(super) fn is_snippet(&self, name: &str) -> bool {
        self.snippets.contains_key(name)
    }

    pub(super) fn define(&mut self, name: String, body: Vec<Token>) {
        self.snippets.insert(name, body);
    }

    /// Returns the tokens that replace `import ARGUMENT`; `argument` is the substituted token.
    pub(super) fn resolve(&mut self, argument: &Token) -> Result<Vec<Token>, ParseError> {
        if let Some(body) = self.snippets.get(&*argument.text) {
            if self.snippets_expanded == SNIPPETS_MAX {
                return Err(snippet_depth_exceeded(argument));
            }
            self.snippets_expanded += 1;
            let body = body.clone();
            self.charge(&body, argument)?;
            return Ok(body);
        }
        if self.files_expanded == FILES_MAX {
            // The reference's text, though its limit is ten times as high.
            let message = "maximum file import depth (10000) exceeded";
            return Err(ParseError::at(argument, message));
        }
        self.files_expanded += 1;
        let mut tokens = Vec::new();
        for path in self.paths(argument)? {
            tokens.extend_from_slice(self.file(&path, argument)?);
            let start = tokens.len() - self.files[&path].len();
            self.charge(&tokens[start..], argument)?;
        }
        Ok(tokens)
    }

    /// Returns the files that the argument of an `import` names.
    fn paths(&mut self, argument: &Token) -> Result<Vec<PathBuf>, ParseError> {
        let text = &*argument.text;
        let importer = self.sources.working_directory.join(&*argument.place.file);
        let directory = importer.parent().unwrap_or(Path::new("/"));
        let pattern = if Path::new(text).is_absolute() {
            PathBuf::from(text)
        } else {
            glob::clean(&directory.join(text))
        };
        let shown = pattern.display().to_string();
        if shown.matches('*').count() > 1
            || shown.matches('?').count() > 1
            || (shown.contains('[') && shown.contains(']'))
        {
            let message =
                format!("Glob pattern may only contain one wildcard (*), but has others: {shown}");
            return Err(ParseError::at(argument, message));
        }
        if !glob::is_pattern(&shown) {
            return Ok(vec![pattern]);
        }
        let paths = glob::expand(&shown, &*self.sources.list).map_err(|BadPattern| {
            let message = format!("Failed to use import pattern {text}: syntax error in pattern");
            ParseError::at(argument, message)
        })?;
        if paths.is_empty() && !glob::may_match_nothing(&shown) {
            let message = format!("File to import not found: {text}");
            return Err(ParseError::unreadable(argument, message));
        }
        if paths.is_empty() {
            let message = format!("No files matching import glob pattern: {text}");
            self.warn(argument, message);
        }
        Ok(paths)
    }

    /// Returns the words of one file.
    fn file(&mut self, path: &Path, argument: &Token) -> Result<&[Token], ParseError> {
        if !self.files.contains_key(path) {
            let content = (self.sources.read)(path).map_err(|error| {
                let path = path.display();
                let message = match error.kind() {
                    ErrorKind::NotFound => {
                        let text = &argument.text;
                        let bare = !text.contains(['/', '.']);
                        let or = if bare { " (and no snippet has this name)" } else { "" };
                        format!("File to import not found: {text}{or}")
                    }
                    ErrorKind::IsADirectory => format!("Could not import {path}: is a directory"),
                    _ => format!("Could not import {path}: {error}"),
                };
                ParseError::unreadable(argument, message)
            })?;
            let tokens = self.lex(&content, &path.display().to_string());
            self.files.insert(path.to_owned(), tokens);
        }
        Ok(&self.files[path])
    }

    /// Returns the words of one text; one more than [`WORDS_MAX`] if there are too many.
    fn lex(&mut self, text: &[u8], name: &str) -> Vec<Token> {
        let (name, text): (Arc<str>, String) = (name.into(), decode(text));
        let mut lexer = Lexer::new(&text, &name);
        let tokens: Vec<Token> = lexer.by_ref().take(WORDS_MAX + 1).collect();
        if let (true, Some(last)) = (lexer.ends_in_quote(), tokens.last()) {
            self.hints.note_open_quote(last.place.clone(), &last.text);
        }
        self.warnings.extend(lexer.warnings());
        tokens
    }

    /// Adds a warning about `token`.
    pub(super) fn warn(&mut self, token: &Token, message: impl Into<String>) {
        if self.warnings.len() <= WARNINGS_MAX {
            self.warnings.push(Warning { place: token.place.clone(), message: message.into() });
        }
    }

    /// Warns of a word whose references have been replaced.
    fn warn_of_references(&mut self, written: &Token, text: &str, unset: Vec<String>) {
        for name in unset {
            self.hints.note_unset(&written.place, &name);
            if !self.unset.insert(name.clone()) {
                continue;
            }
            let hint = match name.split_once(':') {
                Some((before, _)) => {
                    format!(
                        ": default values are not supported, use {{${before}}} without the colon"
                    )
                }
                None => " and is replaced by an empty text".to_owned(),
            };
            self.warn(written, format!("the environment variable '{name}' is not set{hint}"));
        }
        if !written.text.contains('\n') && text.contains('\n') {
            self.warn(
                written,
                "the value of a variable has a newline: the words after it are read as a new line",
            );
        }
    }

    fn charge(&mut self, tokens: &[Token], cause: &Token) -> Result<(), ParseError> {
        self.words += tokens.len();
        if self.words > WORDS_MAX {
            let message = format!("more than {WORDS_MAX} words, imports included");
            return Err(ParseError::at(cause, message));
        }
        self.charge_bytes(tokens.iter().map(|token| token.text.len()).sum(), cause)
    }

    fn charge_bytes(&mut self, bytes: usize, cause: &Token) -> Result<(), ParseError> {
        self.text_bytes += bytes;
        if self.text_bytes > TEXT_BYTES_MAX {
            let message = format!("more than {TEXT_BYTES_MAX} bytes, imports included");
            return Err(ParseError::at(cause, message));
        }
        Ok(())
    }
}

/// Returns the error of a snippet that imports itself, or that is imported without end.
pub(super) fn snippet_depth_exceeded(token: &Token) -> ParseError {
    ParseError::at(token, "maximum snippet import depth (10000) exceeded")
}
