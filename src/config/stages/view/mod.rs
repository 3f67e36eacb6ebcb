//! `view NAME { expr EXPRESSION... }`
//!
//! Queries that a server block is for, within its zones. Several `expr` must all hold; without
//! any, all queries are. The words behind `expr` are one expression, with a space between them;
//! the Corefile has taken double quotes away by then. Expressions are compiled here (`program`)
//! and run by the engine when it looks for a query's server block.

mod calls;
mod closures;
mod folding;
mod functions;
mod nodes;
mod program;
mod syntax;
mod typing;
mod values;
mod words;

pub(crate) use program::{
    Closure, ELEMENTS_MAX, Function, Loop, Number, Order, Place, Real, Term, Test, Text,
};

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::word::Word;
use super::once;
use crate::corefile::{Cursor, ParseError, Token, did_you_mean};
use std::fmt;
use typing::Labels;
use words::Mistake;

/// Bytes of an expression.
const EXPRESSION_MAX: usize = 65_536;
/// Characters of an expression that an error shows.
const SHOWN_MAX: usize = 80;

/// Queries that a server block is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// Name in metrics and logs.
    pub(crate) name: String,
    /// All of them must hold.
    pub(crate) conditions: Vec<Condition>,
}

/// One expression.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Condition {
    /// As it was written.
    pub(crate) text: String,
    /// Compiled form.
    pub(crate) test: Test,
}

/// Reads the `view` stanza of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<View>, DirectiveError> {
    if context.stanza("view", cursor).is_none() {
        return Ok(None);
    }
    let name = cursor.expect_arg()?.text.to_string();
    let more = cursor.rest();
    if !more.is_empty() {
        return Err(cursor.argument_error().into());
    }
    let mut conditions = Vec::new();
    let labels = Labels { view: &name, zones: context.labelled };
    while let Some(property) = cursor.block() {
        if &*property.text != "expr" {
            let suggestion = did_you_mean(&property.text, ["expr"]);
            let message = format!("unknown property '{}'{suggestion}", property.text);
            return Err(ParseError::at(property, message).into());
        }
        let words = cursor.rest();
        let Some(first) = words.first() else {
            return Err(DirectiveError::value(property, "expected an expression after 'expr'"));
        };
        let text = words.iter().map(|word| &*word.text).collect::<Vec<_>>().join(" ");
        let compiled = compile(&text, first, &labels)?;
        for oddity in compiled.lints {
            context.warn(&first.place, format!("plugin/view: {oddity}: {}", shown(&text)));
        }
        if compiled.test == Test::Always(false) {
            let what = "the expression is never true, so the server block gets no query";
            let message = format!("plugin/view: {what}: {text}");
            context.warn(&first.place, message);
        }
        if compiled.reads_labels {
            context.read_label();
        }
        conditions.push(Condition { text, test: compiled.test });
    }
    once(cursor)?;
    Ok(Some(View { name, conditions }))
}

fn compile(
    text: &str,
    first: &Token,
    labels: &Labels<'_>,
) -> Result<typing::Compiled, DirectiveError> {
    if text.len() > EXPRESSION_MAX {
        let message = format!("the expression has more than {EXPRESSION_MAX} bytes");
        return Err(DirectiveError::value(first, message));
    }
    typing::compile(text, labels).map_err(|Mistake { column, what }| {
        let message = format!("{what} (column {column} of {})", shown(text));
        DirectiveError::value(first, message)
    })
}

/// An expression as messages show it.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &Option<View>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(View { name, conditions }) = settings else { return Ok(()) };
    if conditions.is_empty() {
        return writeln!(f, "    view {}", Word(name));
    }
    writeln!(f, "    view {} {{", Word(name))?;
    for Condition { text, .. } in conditions {
        writeln!(f, "        expr {}", Word(text))?;
    }
    writeln!(f, "    }}")
}
