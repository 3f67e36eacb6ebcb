//! The shape of an expression: which operator takes what, by precedence.
//!
//! The language that the reference has expressions in, but for methods and types that no value has
//! here. Names are resolved here, functions and types in `typing`.

use super::functions::is_closure;
use super::nodes::{DEPTH_MAX, Node, What, depth_around};
use super::words::{self, Mistake, Placed, Word};

/// Operators between two operands: as written, as called here, and how tightly they bind.
const BINARY: [(&str, &str, u8); 24] = [
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
    ("??", "??", 200),
];
/// Operators that may follow `not`.
const NEGATABLE: [&str; 5] = ["in", "matches", "contains", "startsWith", "endsWith"];
const NOT: u8 = 50;
const MINUS: u8 = 90;
/// The one operator whose right operand is taken first.
const POWER: u8 = 100;
/// Words that are no names.
const RESERVED: [&str; 13] = [
    "nil",
    "true",
    "false",
    "let",
    "if",
    "else",
    "not",
    "and",
    "or",
    "in",
    "matches",
    "contains",
    "startsWith",
];

/// Reads an expression.
///
/// # Errors
/// The first part that is not in the language, with its place.
pub(super) fn parse(expression: &str) -> Result<Node, Mistake> {
    let words = words::of(expression)?;
    let mut parser = Parser { words, next: 0, depth: 0, names: Vec::new() };
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
    /// Names that are valid here.
    names: Vec<String>,
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
            Word::Symbol("=") => {
                let message = "unexpected character '=': to compare, write '=='";
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
        let mut left = match self.peek() {
            Word::Name(name) if least == 0 && name == "let" => self.definition()?,
            Word::Name(name) if least == 0 && name == "if" => self.condition()?,
            _ => self.operand()?,
        };
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

    /// Reads `let NAME = VALUE; EXPRESSION`.
    fn definition(&mut self) -> Result<Node, Mistake> {
        let column = self.column();
        self.next += 1;
        let name = match self.peek().clone() {
            Word::Name(name) if !RESERVED.contains(&&name[..]) => name,
            _ => return self.unexpected("a name"),
        };
        if super::functions::is_known(&name) {
            let message = format!("'{name}' is a function: give the value another name");
            return Mistake::at(self.column(), message);
        }
        if self.names.contains(&name) {
            return Mistake::at(self.column(), format!("'{name}' is defined already"));
        }
        self.next += 1;
        self.expect("=")?;
        let value = self.expression(0)?;
        self.expect(";")?;
        self.names.push(name.clone());
        let body = self.expression(0)?;
        self.names.pop();
        Node::of(What::Let(name, Box::new(value), Box::new(body)), column)
    }

    /// Reads `if TEST { EXPRESSION } else { EXPRESSION }`.
    fn condition(&mut self) -> Result<Node, Mistake> {
        let column = self.column();
        self.next += 1;
        let test = self.expression(0)?;
        let one = self.braced()?;
        if !matches!(self.peek(), Word::Name(name) if name == "else") {
            return self.unexpected("'else'");
        }
        self.next += 1;
        let is_more = matches!(self.peek(), Word::Name(name) if name == "if");
        let other = if is_more { self.expression(0)? } else { self.braced()? };
        Node::of(What::If(Box::new(test), Box::new(one), Box::new(other)), column)
    }

    fn braced(&mut self) -> Result<Node, Mistake> {
        self.expect("{")?;
        let node = self.expression(0)?;
        self.expect("}")?;
        Ok(node)
    }

    /// Reads the function behind a pipe, whose first argument is `first`.
    fn piped(&mut self, first: Node) -> Result<Node, Mistake> {
        let column = self.column();
        let Word::Name(name) = self.peek().clone() else {
            return self.unexpected("a function, as in name() | lower()");
        };
        self.take();
        self.expect("(")?;
        let arguments = self.arguments(&name, vec![first])?;
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

    /// Reads the indices, slices and keys behind a value.
    fn indexed(&mut self, mut node: Node) -> Result<Node, Mistake> {
        let mut may_be_nil = false;
        loop {
            let column = self.column();
            if self.eat("[") {
                node = self.index(node, may_be_nil, column)?;
            } else if self.eat("?.") {
                may_be_nil = true;
                node = if self.eat("[") {
                    self.index(node, true, column)?
                } else {
                    self.key(node, true)?
                };
            } else if self.eat(".") {
                node = self.key(node, may_be_nil)?;
            } else {
                return Ok(node);
            }
        }
    }

    /// Reads what stands in brackets behind `node`, and the closing one.
    fn index(&mut self, node: Node, may_be_nil: bool, column: usize) -> Result<Node, Mistake> {
        let node = Box::new(node);
        let from = match self.peek() {
            Word::Symbol(":") => None,
            _ => Some(Box::new(self.expression(0)?)),
        };
        let what = if self.eat(":") {
            let to = match self.peek() {
                Word::Symbol("]") => None,
                _ => Some(Box::new(self.expression(0)?)),
            };
            What::Slice(node, from, to)
        } else {
            match from {
                Some(index) => What::Index(node, index, may_be_nil),
                None => return self.unexpected("a number"),
            }
        };
        self.expect("]")?;
        Node::of(what, column)
    }

    /// Reads the key behind a point.
    fn key(&mut self, node: Node, may_be_nil: bool) -> Result<Node, Mistake> {
        let column = self.column();
        let Word::Name(key) = self.peek().clone() else { return self.unexpected("a key") };
        self.next += 1;
        let key = Node::of(What::Text(key), column)?;
        Node::of(What::Index(Box::new(node), Box::new(key), may_be_nil), column)
    }

    fn primary(&mut self) -> Result<Node, Mistake> {
        let column = self.column();
        let what = match self.peek().clone() {
            Word::Number(number) => What::Number(number),
            Word::Fraction(number) => What::Fraction(number),
            Word::Text(text) => What::Text(text),
            Word::Name(name) => return self.name(name, column),
            Word::Symbol("#") => {
                self.next += 1;
                let is_close = self.column() == column + 1;
                let what = match self.peek() {
                    Word::Name(name) if is_close && name == "index" => What::Position,
                    Word::Name(name) if is_close && name == "acc" => What::Sum,
                    _ => return Node::of(What::Item, column),
                };
                self.next += 1;
                return Node::of(what, column);
            }
            // A key of the element that a closure looks at.
            Word::Symbol(".") => {
                self.next += 1;
                let item = Node::of(What::Item, column)?;
                return self.key(item, false);
            }
            Word::Symbol("{") => {
                self.next += 1;
                return Node::of(What::Map(self.pairs()?), column);
            }
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
                let expected = "a value: a text in quotes, a number, true, false, nil, a list in \
                                brackets, a map in braces, a function or an expression in \
                                parentheses";
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
            "nil" => What::Nil,
            _ if self.names.contains(&name) => What::Variable(name),
            _ if self.eat("(") => {
                let arguments = self.arguments(&name, Vec::new())?;
                What::Call(name, arguments)
            }
            _ => {
                let message = super::functions::unknown(&name, false);
                return Mistake::at(column, message);
            }
        };
        Node::of(what, column)
    }

    /// Arguments of a function behind `list`, up to the closing parenthesis. What a closure does
    /// with an element may stand in braces.
    fn arguments(&mut self, name: &str, mut list: Vec<Node>) -> Result<Vec<Node>, Mistake> {
        let piped = list.len();
        while !self.eat(")") {
            if list.len() > piped {
                self.expect(",")?;
                if self.eat(")") {
                    break;
                }
            }
            let is_braced = *self.peek() == Word::Symbol("{") && !list.is_empty();
            let is_body = is_braced && is_closure(name);
            list.push(if is_body { self.braced()? } else { self.expression(0)? });
        }
        Ok(list)
    }

    /// Keys and values of a map, up to the closing brace.
    fn pairs(&mut self) -> Result<Vec<(Node, Node)>, Mistake> {
        let mut pairs = Vec::new();
        while !self.eat("}") {
            if !pairs.is_empty() {
                self.expect(",")?;
                if self.eat("}") {
                    break;
                }
            }
            let column = self.column();
            let key = match self.peek().clone() {
                Word::Name(key) => {
                    self.next += 1;
                    Node::of(What::Text(key), column)?
                }
                _ => self.operand()?,
            };
            self.expect(":")?;
            pairs.push((key, self.expression(0)?));
        }
        Ok(pairs)
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
