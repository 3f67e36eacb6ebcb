//! The small directives of a server block: what each was told, as plain data.
//!
//! One file per directive: its type, its reader and how it is written. [`Stages`] holds them in
//! the order of the chain, which is the language's and not the file's; [`super::load`] says which
//! reader sees which directive. What they do to a query is the business of `engine::stages`.

pub(super) mod any;

use std::fmt;

/// The small directives of one server block, in the order in which a query meets them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// ANY is answered here.
    pub any: bool,
}

impl Stages {
    /// Whether one of them makes its block answer: without any the block refuses every query.
    pub fn can_answer(&self) -> bool {
        self.any
    }
}

impl fmt::Display for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let switches = [("any", self.any)];
        switches.iter().filter(|(_, on)| *on).try_for_each(|(name, _)| writeln!(f, "    {name}"))
    }
}
