//! The shape of an expression: which operator takes what, by precedence.
//!
//! A subset of the language that the reference has expressions in. What is left out (closures of
//! any other form than `any(LIST, TEST)`, maps, and what asks for values that may be missing) is
//! named in the error.

use super::program::Fraction;
use super::words::{self, Mistake, Placed, Word};

/// Expressions nested in each other.
const DEPTH_MAX: usize = 64;

/// A part of an expression, and the character that it is named by in errors.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) what: What,
    pub(super) column: usize,
    /// Nodes from here to the deepest one within it.
    depth: usize,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Bool(bool),
    Number(i64),
    Fraction(Fraction),
    Text(String),
    List(Vec<Node>),
    Call(String, Vec<Node>),
    /// The element that a test of `any` looks at.
    Item,
    Not(Box<Node>),
    Minus(Box<Node>),
    /// Conditions with `&&` or `||` between them, however many: a long chain is not a deep tree.
    Chain(&'static str, Vec<Node>),
    Binary(&'static str, Box<Node>, Box<Node>),
    If(Box<Node>, Box<Node>, Box<Node>),
    Index(Box<Node>, Box<Node>),
}

impl Node {
    /// # Errors
    /// There are more nodes within each other than the compiler and the engine go down.
    fn of(what: What, column: usize) -> Result<Self, Mistake> {
        let deepest = match &what {
            What::Bool(_) | What::Number(_) | What::Fraction(_) | What::Text(_) | What::Item => 0,
            What::List(nodes) | What::Call(_, nodes) | What::Chain(_, nodes) => {
                nodes.iter().map(|node| node.depth).max().unwrap_or(0)
            }
            What::Not(node) | What::Minus(node) => node.depth,
            What::Binary(_, one, other) | What::Index(one, other) => one.depth.max(other.depth),
            What::If(test, one, other) => test.depth.max(one.depth).max(other.depth),
        };
        let depth = depth_around(deepest, column)?;
        Ok(Self { what, column, depth })
    }
}

/// The depth of a node around nodes of depth `deepest`.
///
/// # Errors
/// As of [`Node::of`].
fn depth_around(deepest: usize, column: usize) -> Result<usize, Mistake> {
    if deepest >= DEPTH_MAX {
        let message = format!("more than {DEPTH_MAX} expressions nested in each other");
        return Mistake::at(column, message);
    }
    Ok(deepest + 1)
}

/// Operators between two operands: as written, as called here, and how tightly they bind.
const BINARY: [(&str, &str, u8); 23] = [
    ("||", "||", 10),
    ("or", "||", 10),
    ("&&", "&&", 15),
    ("and", "&&", 15),
    ("==", "==", 20),
    ("!=", "!=", 20),
    ("<", "<", 20),
    (">", ">", 20),
    ("<=", "<=", 20),
    (">=", ">=", 20),
    ("in", "in", 20),
    ("matches", "matches", 20),
    ("contains", "contains", 20),
    ("startsWith", "startsWith", 20),
    ("endsWith", "endsWith", 20),
    ("..", "..", 25),
    ("+", "+", 30),
    ("-", "-", 30),
    ("*", "*", 60),
    ("/", "/", 60),
    ("%", "%", 60),
    ("**", "**", POWER),
    ("^", "**", POWER),
];
/// Operators that may follow `not`.
const NEGATABLE: [&str; 5] = ["in", "matches", "contains", "startsWith", "endsWith"];
const NOT: u8 = 50;
const MINUS: u8 = 90;
/// The one operator whose right operand is taken first.
const POWER: u8 = 100;
/// Operators that the reference has and onward has not.
const MISSING: [&str; 2] = ["??", "?."];
/// Words that are no names.
const RESERVED: [&str; 3] = ["nil", "let", "if"];

/// Reads an expression.
///
/// # Errors
/// The first part that is not in the language, with its place.
pub(super) fn parse(expression: &str) -> Result<Node, Mistake> {
    let words = words::of(expression)?;
    let mut parser = Parser { words, next: 0, depth: 0 };
    let node = parser.expression(0)?;
    match parser.peek() {
        Word::End => Ok(node),
        _ => parser.unexpected("an operator or the end"),
    }
}

struct Parser {
    words: Vec<Placed>,
    next: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &Word {
        &self.words[self.next].word
    }

    fn column(&self) -> usize {
        self.words[self.next].column
    }

    fn take(&mut self) -> Word {
        let word = self.words[self.next].word.clone();
        if word != Word::End {
            self.next += 1;
        }
        word
    }

    fn unexpected<T>(&self, expected: &str) -> Result<T, Mistake> {
        let found = match self.peek() {
            Word::End => "end of the expression".to_owned(),
            Word::Number(number) => format!("'{number}'"),
            Word::Fraction(number) => format!("'{}'", number.get()),
            Word::Text(text) => format!("the text '{text}'"),
            Word::Name(name) => format!("'{name}'"),
            Word::Symbol(symbol) if MISSING.contains(symbol) => {
                let known = "|| && == != < > <= >= in matches contains startsWith endsWith .. + - \
                             * / % ** | ! ?:";
                let message =
                    format!("operator '{symbol}' is not supported: expected one of {known}");
                return Mistake::at(self.column(), message);
            }
            Word::Symbol(symbol) => format!("'{symbol}'"),
        };
        Mistake::at(self.column(), format!("unexpected {found}: expected {expected}"))
    }

    fn eat(&mut self, symbol: &'static str) -> bool {
        let is_next = *self.peek() == Word::Symbol(symbol);
        self.next += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, symbol: &'static str) -> Result<(), Mistake> {
        if self.eat(symbol) { Ok(()) } else { self.unexpected(&format!("'{symbol}'")) }
    }

    /// Reads an operand and all operators behind it that bind as tightly as `least`.
    fn expression(&mut self, least: u8) -> Result<Node, Mistake> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let message = format!("more than {DEPTH_MAX} expressions nested in each other");
            return Mistake::at(self.column(), message);
        }
        let mut left = self.operand()?;
        loop {
            let column = self.column();
            if least == 0 && self.eat("|") {
                left = self.piped(left)?;
                continue;
            }
            let negated = self.is_negated();
            let written = match &self.words[self.next + usize::from(negated)].word {
                Word::Name(name) => &name[..],
                Word::Symbol(symbol) => symbol,
                _ => break,
            };
            let known = BINARY.into_iter().find(|(name, ..)| *name == written);
            let Some((_, operator, binds)) = known.filter(|(.., binds)| *binds >= least) else {
                break;
            };
            self.next += 1 + usize::from(negated);
            let right = self.expression(binds + u8::from(binds != POWER))?;
            left = match left {
                Node { what: What::Chain(same, mut nodes), column, depth } if same == operator => {
                    let depth = depth.max(depth_around(right.depth, column)?);
                    nodes.push(right);
                    Node { what: What::Chain(same, nodes), column, depth }
                }
                left if ["&&", "||"].contains(&operator) => {
                    Node::of(What::Chain(operator, vec![left, right]), column)?
                }
                left => {
                    let what = What::Binary(operator, Box::new(left), Box::new(right));
                    Node::of(what, column)?
                }
            };
            if negated {
                left = Node::of(What::Not(Box::new(left)), column)?;
            }
        }
        let column = self.column();
        if least == 0 && self.eat("?") {
            let one = self.expression(0)?;
            self.expect(":")?;
            let other = self.expression(0)?;
            let what = What::If(Box::new(left), Box::new(one), Box::new(other));
            left = Node::of(what, column)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    /// Reads the function behind a pipe, whose first argument is `first`.
    fn piped(&mut self, first: Node) -> Result<Node, Mistake> {
        let column = self.column();
        let Word::Name(name) = self.peek().clone() else {
            return self.unexpected("a function, as in name() | lower()");
        };
        self.take();
        self.expect("(")?;
        let mut arguments = vec![first];
        arguments.extend(self.list(")")?);
        let call = Node::of(What::Call(name, arguments), column)?;
        self.indexed(call)
    }

    /// Returns true if `not` stands here before an operator.
    fn is_negated(&self) -> bool {
        let is_not = matches!(self.peek(), Word::Name(name) if name == "not");
        let next = self.words.get(self.next + 1).map(|placed| &placed.word);
        is_not && matches!(next, Some(Word::Name(name)) if NEGATABLE.contains(&&name[..]))
    }

    fn operand(&mut self) -> Result<Node, Mistake> {
        let column = self.column();
        let is_not = matches!(self.peek(), Word::Name(name) if name == "not");
        if is_not || *self.peek() == Word::Symbol("!") {
            self.next += 1;
            let operand = self.expression(NOT)?;
            return Node::of(What::Not(Box::new(operand)), column);
        }
        if self.eat("-") {
            let operand = self.expression(MINUS)?;
            return Node::of(What::Minus(Box::new(operand)), column);
        }
        let node = self.primary()?;
        self.indexed(node)
    }

    /// Reads the indices behind a value.
    fn indexed(&mut self, mut node: Node) -> Result<Node, Mistake> {
        while *self.peek() == Word::Symbol("[") {
            let column = self.column();
            self.next += 1;
            let index = self.expression(0)?;
            self.expect("]")?;
            node = Node::of(What::Index(Box::new(node), Box::new(index)), column)?;
        }
        Ok(node)
    }

    fn primary(&mut self) -> Result<Node, Mistake> {
        let column = self.column();
        let what = match self.peek().clone() {
            Word::Number(number) => What::Number(number),
            Word::Fraction(number) => What::Fraction(number),
            Word::Text(text) => What::Text(text),
            Word::Name(name) if RESERVED.contains(&&name[..]) => {
                return Mistake::at(column, format!("'{name}' is not supported"));
            }
            Word::Name(name) => return self.name(name, column),
            Word::Symbol("#") => What::Item,
            Word::Symbol("(") => {
                self.next += 1;
                let node = self.expression(0)?;
                self.expect(")")?;
                return Ok(node);
            }
            Word::Symbol("[") => {
                self.next += 1;
                return Node::of(What::List(self.list("]")?), column);
            }
            _ => {
                let expected = "a value: a text in quotes, a number, true, false, a list in \
                                brackets, a function or an expression in parentheses";
                return self.unexpected(expected);
            }
        };
        self.take();
        Node::of(what, column)
    }

    /// A name: a truth value or the call of a function.
    fn name(&mut self, name: String, column: usize) -> Result<Node, Mistake> {
        self.take();
        let what = match &name[..] {
            "true" => What::Bool(true),
            "false" => What::Bool(false),
            _ if self.eat("(") => What::Call(name, self.list(")")?),
            _ => {
                let message = super::functions::unknown(&name, false);
                return Mistake::at(column, message);
            }
        };
        Node::of(what, column)
    }

    /// Expressions with commas between them, up to `end`.
    fn list(&mut self, end: &'static str) -> Result<Vec<Node>, Mistake> {
        let mut list = Vec::new();
        while !self.eat(end) {
            if !list.is_empty() {
                self.expect(",")?;
                if self.eat(end) {
                    break;
                }
            }
            list.push(self.expression(0)?);
        }
        Ok(list)
    }
}
