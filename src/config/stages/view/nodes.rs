//! Parts of an expression, as they stand within each other.
//!
//! The depth of nesting is bounded here, because the compiler and the engine recurse as deep.

use super::program::Fraction;
use super::words::Mistake;

/// Expressions nested in each other.
pub(super) const DEPTH_MAX: usize = 64;

/// A part of an expression, and the character that it is named by in errors.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) what: What,
    pub(super) column: usize,
    /// Nodes from here to the deepest one within it.
    pub(super) depth: usize,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Bool(bool),
    Number(i64),
    Fraction(Fraction),
    Text(String),
    List(Vec<Node>),
    Call(String, Vec<Node>),
    Nil,
    /// Keys and values.
    Map(Vec<(Node, Node)>),
    /// The element that a closure looks at.
    Item,
    /// Its number in the list.
    Position,
    /// The result of `reduce` up to here.
    Sum,
    /// A name, and the expression that it is valid in.
    Let(String, Box<Node>, Box<Node>),
    Variable(String),
    Not(Box<Node>),
    Minus(Box<Node>),
    /// Conditions with `&&` or `||` between them, however many: a long chain is not a deep tree.
    Chain(&'static str, Vec<Node>),
    Binary(&'static str, Box<Node>, Box<Node>),
    If(Box<Node>, Box<Node>, Box<Node>),
    /// An element or the value of a key. If the flag is set (`?.`), the result for `nil` is `nil`.
    Index(Box<Node>, Box<Node>, bool),
    Slice(Box<Node>, Option<Box<Node>>, Option<Box<Node>>),
}

impl Node {
    /// # Errors
    /// There are more nodes within each other than the compiler and the engine go down.
    pub(super) fn of(what: What, column: usize) -> Result<Self, Mistake> {
        let deepest = match &what {
            What::Bool(_) | What::Number(_) | What::Fraction(_) | What::Text(_) | What::Nil => 0,
            What::Item | What::Position | What::Sum | What::Variable(_) => 0,
            What::List(nodes) | What::Call(_, nodes) | What::Chain(_, nodes) => {
                nodes.iter().map(|node| node.depth).max().unwrap_or(0)
            }
            What::Map(pairs) => {
                let depths = pairs.iter().map(|(key, value)| key.depth.max(value.depth));
                depths.max().unwrap_or(0)
            }
            What::Not(node) | What::Minus(node) => node.depth,
            What::Binary(_, one, other) | What::Index(one, other, _) | What::Let(_, one, other) => {
                one.depth.max(other.depth)
            }
            What::If(test, one, other) => test.depth.max(one.depth).max(other.depth),
            What::Slice(node, from, to) => {
                let bounds = [from, to].into_iter().flatten().map(|bound| bound.depth);
                bounds.fold(node.depth, usize::max)
            }
        };
        let depth = depth_around(deepest, column)?;
        Ok(Self { what, column, depth })
    }
}

/// The depth of a node around nodes of depth `deepest`.
///
/// # Errors
/// As of [`Node::of`].
pub(super) fn depth_around(deepest: usize, column: usize) -> Result<usize, Mistake> {
    if deepest >= DEPTH_MAX {
        let message = format!("more than {DEPTH_MAX} expressions nested in each other");
        return Mistake::at(column, message);
    }
    Ok(deepest + 1)
}
