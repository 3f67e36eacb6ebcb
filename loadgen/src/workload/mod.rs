//! Queries from files and captures.
//!
//! [`lines`], [`frames`] and [`capture`] each convert one format into DNS packets before the run,
//! which only copies them. Errors have their place in the file. Pure.

pub mod capture;
pub mod frames;
pub mod lines;

use std::fmt;

/// Error of an input file, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadInput {
    /// The line, or the record of a binary file, counted from one.
    pub line: usize,
    /// The column, or the byte within the record, counted from one.
    pub column: usize,
    /// The message: what was found and what was expected.
    pub text: String,
}

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.text)
    }
}
