//! Expressions with their types: from the shape of an expression to what the engine runs.
//!
//! Mistakes are found here and not per query: types that do not go together, networks that are
//! none, patterns that do not compile. What is the same for every query is computed here, and what
//! can be asked of a query directly (its type, its client's address) is not compared as text.

use super::super::super::Name;
use super::super::template::Pattern;
use super::folding::{
    address_of, all, any, asked_directly, calculated, calculated_real, kind_of, not,
};
use super::nodes::{Node, What};
use super::program::{
    Arithmetic, Fraction, Function, Number, Order, Place, Real, RealArithmetic, Term, Test, Text,
};
use super::syntax;
use super::values::{Kind, Value, either, has, mismatch, real_of};
use super::words::Mistake;

/// Parts that one expression is compiled to, lists of `any` taken apart.
const PARTS_MAX: usize = 4_096;

/// Values of labels while a block is chosen.
pub(super) struct Labels<'a> {
    /// The name of the view.
    pub(super) view: &'a str,
    /// Zones of `metadata`. `None`: the server block has no `metadata`.
    pub(super) zones: Option<Option<&'a [Name]>>,
}

/// A compiled expression.
pub(super) struct Compiled {
    pub(super) test: Test,
    /// Warnings about an expression that is valid but probably a mistake.
    pub(super) lints: Vec<String>,
    /// Set if it reads a label that may be set.
    pub(super) reads_labels: bool,
}

/// Compiles an expression.
///
/// # Errors
/// The first error, with its place.
pub(super) fn compile(expression: &str, labels: &Labels<'_>) -> Result<Compiled, Mistake> {
    let node = syntax::parse(expression)?;
    let (lints, reads_labels) = (Vec::new(), false);
    let (item, names) = (None, Vec::new());
    let mut compiler =
        Compiler { labels, item, names, variables: 0, parts: 0, lints, reads_labels };
    let test = match compiler.value(&node)?.settled(&Kind::Bool) {
        Value::Test(test) => test,
        other => {
            let kind = other.kind();
            compiler.lints.push(format!(
                "the expression is of type {kind} and not a condition: it is never true"
            ));
            Test::Always(false)
        }
    };
    let Compiler { lints, reads_labels, .. } = compiler;
    Ok(Compiled { test, lints, reads_labels })
}

pub(super) struct Compiler<'a> {
    pub(super) labels: &'a Labels<'a>,
    pub(super) item: Option<Item>,
    /// Names with their values, and the parts that these are of.
    names: Vec<(String, Value, usize)>,
    /// Variables of the engine that are used here.
    pub(super) variables: usize,
    pub(super) parts: usize,
    pub(super) lints: Vec<String>,
    pub(super) reads_labels: bool,
}

/// Element that a closure is compiled for.
pub(super) struct Item {
    /// The element.
    pub(super) value: Value,
    /// Its place in the list.
    pub(super) position: Number,
    /// The result of `reduce` up to here.
    pub(super) sum: Option<Value>,
    /// Parts of the list that it is of: no fewer than its own.
    pub(super) parts: usize,
}

impl Compiler<'_> {
    /// Compiles a value. A list of numbers that the engine has no room for is an error.
    pub(super) fn value(&mut self, node: &Node) -> Result<Value, Mistake> {
        let value = self.any_value(node)?;
        value.check_size(node.column)?;
        Ok(value)
    }

    /// The same for values of which only the bounds are looked at.
    fn any_value(&mut self, node: &Node) -> Result<Value, Mistake> {
        // An element is copied, whole, to each place where it is used.
        self.parts += match (&node.what, &self.item) {
            (What::Item, Some(item)) => 1 + item.parts,
            (What::Variable(name), _) => 1 + self.known(name).map_or(0, |(_, _, parts)| *parts),
            _ => 1,
        };
        if self.parts > PARTS_MAX {
            let message = format!("the expression has more than {PARTS_MAX} parts");
            return Mistake::at(node.column, message);
        }
        Ok(match &node.what {
            What::Bool(truth) => Value::Test(Test::Always(*truth)),
            What::Number(number) => Value::Number(Number::Fixed(*number)),
            What::Fraction(number) => Value::Real(Real::Fixed(*number)),
            What::Text(text) => Value::Text(Text::Fixed(text.clone())),
            What::List(nodes) => self.list(nodes)?,
            What::Call(name, arguments) => self.call(name, arguments, node.column)?,
            What::Nil => Value::Term(Term::Nil, Kind::Nil),
            What::Map(pairs) => self.map(pairs)?,
            What::Item | What::Position | What::Sum => self.item(node)?,
            What::Variable(name) => match self.known(name) {
                Some((_, value, _)) => value.clone(),
                None => return Mistake::at(node.column, format!("unknown name '{name}'")),
            },
            What::Let(name, value, body) => self.named(name, value, body)?,
            What::Not(operand) => Value::Test(not(self.test(operand, "not")?)),
            What::Minus(operand) => match self.value(operand)?.settled(&Kind::Int) {
                Value::Number(number) => {
                    Value::Number(calculated(Arithmetic::Minus, Number::Fixed(0), number))
                }
                Value::Real(number) => {
                    // Not zero less the number: that would lose the sign of zero.
                    let minus = Real::Fixed(Fraction::new(-1.0));
                    Value::Real(calculated_real(RealArithmetic::Times, minus, number))
                }
                other => return mismatch(node.column, "-", &[&other]),
            },
            What::Chain(operator, nodes) => {
                let tests = nodes.iter().map(|node| self.test(node, operator));
                let tests = tests.collect::<Result<_, _>>()?;
                Value::Test(if *operator == "&&" { all(tests) } else { any(tests) })
            }
            What::Binary(operator, left, right) => {
                self.binary(operator, left, right, node.column)?
            }
            What::If(test, one, other) => {
                let test = self.test(test, "?:")?;
                either(test, self.value(one)?, self.value(other)?, node.column)?
            }
            What::Index(list, index, may_be_nil) => {
                self.element(list, index, *may_be_nil, node.column)?
            }
            What::Slice(value, from, to) => {
                let bounds = [from.as_deref(), to.as_deref()];
                self.slice(value, bounds, node.column)?
            }
        })
    }

    pub(super) fn test(&mut self, node: &Node, operator: &str) -> Result<Test, Mistake> {
        match self.value(node)?.settled(&Kind::Bool) {
            Value::Test(test) => Ok(test),
            other => mismatch(node.column, operator, &[&other]),
        }
    }

    pub(super) fn text(&mut self, node: &Node, function: &str) -> Result<Text, Mistake> {
        match self.value(node)?.settled(&Kind::Text) {
            Value::Text(text) => Ok(text),
            other => {
                let kind = other.kind();
                let message = format!("{function}() takes a string here, found type {kind}");
                Mistake::at(node.column, message)
            }
        }
    }

    /// A text that is the same for every query.
    pub(super) fn fixed(&mut self, node: &Node, what: &str) -> Result<String, Mistake> {
        match self.value(node)? {
            Value::Text(Text::Fixed(text)) => Ok(text),
            _ => Mistake::at(node.column, format!("{what} must be a text in quotes")),
        }
    }

    fn list(&mut self, nodes: &[Node]) -> Result<Value, Mistake> {
        let values = nodes.iter().map(|node| self.value(node));
        let values: Vec<Value> = values.collect::<Result<_, _>>()?;
        let text = |value: &Value| match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        };
        let number = |value: &Value| match value {
            Value::Number(Number::Fixed(number)) => Some(*number),
            _ => None,
        };
        if let Some(texts) = values.iter().map(text).collect() {
            return Ok(Value::Texts(texts));
        }
        if let Some(numbers) = values.iter().map(number).collect() {
            return Ok(Value::Numbers(numbers));
        }
        let (terms, kinds): (Vec<_>, Vec<_>) = values.into_iter().map(Value::into_term).unzip();
        Ok(Value::Term(Term::List(terms), Kind::list(Kind::of_all(kinds))))
    }

    fn map(&mut self, pairs: &[(Node, Node)]) -> Result<Value, Mistake> {
        let mut terms: Vec<[Term; 2]> = Vec::new();
        let mut kinds = (Vec::new(), Vec::new());
        for (key, value) in pairs {
            let ((key, kind), (value, value_kind)) =
                (self.value(key)?.into_term(), self.value(value)?.into_term());
            kinds.0.push(kind);
            kinds.1.push(value_kind);
            terms.push([key, value]);
        }
        let kinds = [Kind::of_all(kinds.0), Kind::of_all(kinds.1)];
        Ok(Value::Term(Term::Map(terms), Kind::Map(Box::new(kinds))))
    }

    /// Returns the value of `#`, `#index` or `#acc`.
    fn item(&mut self, node: &Node) -> Result<Value, Mistake> {
        let Some(item) = &self.item else {
            let message = "'#' can be used only in what is computed for each element of a list, \
                           such as the test of any(LIST, TEST)";
            return Mistake::at(node.column, message);
        };
        match (&node.what, &item.sum) {
            (What::Position, _) => Ok(Value::Number(item.position.clone())),
            (What::Sum, Some(sum)) => Ok(sum.clone()),
            (What::Sum, None) => Mistake::at(node.column, "'#acc' can be used only in reduce()"),
            _ => Ok(item.value.clone()),
        }
    }

    fn known(&self, name: &str) -> Option<&(String, Value, usize)> {
        self.names.iter().find(|(known, ..)| known == name)
    }

    /// The value of `body`, in which `name` is `value`.
    fn named(&mut self, name: &str, value: &Node, body: &Node) -> Result<Value, Mistake> {
        let before = self.parts;
        let value = self.any_value(value)?;
        if value.is_plain() {
            let parts = self.parts - before;
            self.names.push((name.to_owned(), value, parts));
            let body = self.value(body);
            self.names.pop();
            return body;
        }
        let (value, kind) = value.into_term();
        let variable = self.variables;
        self.variables += 1;
        self.names.push((name.to_owned(), Value::of(Term::Variable(variable), kind), 0));
        let body = self.value(body);
        self.names.pop();
        self.variables -= 1;
        let (body, kind) = body?.into_term();
        Ok(Value::of(Term::Let(variable, Box::new([value, body])), kind))
    }

    fn binary(
        &mut self,
        operator: &'static str,
        left: &Node,
        right: &Node,
        column: usize,
    ) -> Result<Value, Mistake> {
        if operator == "matches" {
            let text = self.value(left)?.settled(&Kind::Text);
            let pattern = self.fixed(right, "the pattern of 'matches'")?;
            let Value::Text(text) = text else { return mismatch(column, operator, &[&text]) };
            let pattern =
                Pattern::parse(&pattern).or_else(|message| Mistake::at(right.column, message))?;
            return Ok(Value::Test(Test::Matches(text, pattern)));
        }
        let (one, other) = (self.value(left)?, self.any_value(right)?);
        if operator != "in" || !matches!(one, Value::Number(_)) {
            other.check_size(right.column)?;
        }
        let is_term = |value: &Value| matches!(value, Value::Term(..));
        if operator == "??" || is_term(&one) || is_term(&other) {
            match of_terms(operator, &one, &other) {
                Some(Some(value)) => return Ok(value),
                Some(None) => return mismatch(column, operator, &[&one, &other]),
                None => {}
            }
        }
        let kinds = [&one, &other].map(|value| value.clone().into_term().1);
        let (one, other) = (one.settled(&kinds[1]), other.settled(&kinds[0]));
        let (arithmetic, real) = (Arithmetic::parse(operator), RealArithmetic::parse(operator));
        let (order, place) = (Order::parse(operator), Place::parse(operator));
        Ok(match (one, other) {
            (Value::Number(one), Value::Number(other)) if arithmetic.is_some() => {
                let what = arithmetic.unwrap_or(Arithmetic::Plus);
                Value::Number(calculated(what, one, other))
            }
            (
                one @ (Value::Number(_) | Value::Real(_)),
                other @ (Value::Number(_) | Value::Real(_)),
            ) if real.is_some() => {
                let what = real.unwrap_or(RealArithmetic::Plus);
                match (real_of(&one), real_of(&other)) {
                    (Some(one), Some(other)) => Value::Real(calculated_real(what, one, other)),
                    _ => return mismatch(column, operator, &[&one, &other]),
                }
            }
            (Value::Text(one), Value::Text(other)) if operator == "+" => {
                Value::Text(Text::Joined(Box::new([one, other])))
            }
            (Value::Number(Number::Fixed(one)), Value::Number(Number::Fixed(other)))
                if operator == ".." =>
            {
                Value::Within(one, other)
            }
            (Value::Number(one), Value::Number(other)) if operator == ".." => {
                let bounds = vec![Term::Number(one), Term::Number(other)];
                Value::Term(Term::Call(Function::Range, bounds), Kind::list(Kind::Int))
            }
            (one, other) => {
                let test = match (order, place) {
                    (Some(order), _) => self.compared(order, &one, &other),
                    (_, Some(place)) => has(place, &one, &other),
                    _ if operator == "in" => self.member(&one, &other),
                    _ => None,
                };
                match test {
                    Some(test) => Value::Test(test),
                    None => return mismatch(column, operator, &[&one, &other]),
                }
            }
        })
    }

    fn compared(&mut self, order: Order, one: &Value, other: &Value) -> Option<Test> {
        let is_equality = matches!(order, Order::Equal | Order::Unequal);
        Some(match (one, other) {
            (Value::Number(Number::Fixed(one)), Value::Number(Number::Fixed(other))) => {
                Test::Always(order.holds(one.cmp(other)))
            }
            (Value::Number(one), Value::Number(other)) => {
                Test::Numbers(order, one.clone(), other.clone())
            }
            (Value::Real(_), Value::Number(_) | Value::Real(_))
            | (Value::Number(_), Value::Real(_)) => {
                let (one, other) = (real_of(one)?, real_of(other)?);
                match (&one, &other) {
                    (Real::Fixed(one), Real::Fixed(other)) => {
                        Test::Always(order.holds_of(one.get(), other.get()))
                    }
                    _ => Test::Fractions(order, one, other),
                }
            }
            (Value::Text(Text::Fixed(one)), Value::Text(Text::Fixed(other))) => {
                Test::Always(order.holds(one.cmp(other)))
            }
            (Value::Text(text), Value::Text(Text::Fixed(fixed)))
            | (Value::Text(Text::Fixed(fixed)), Value::Text(text))
                if is_equality && self.is_asked_directly(text, std::slice::from_ref(fixed)) =>
            {
                let test = asked_directly(text, std::slice::from_ref(fixed))?;
                if order == Order::Equal { test } else { not(test) }
            }
            (Value::Text(one), Value::Text(other)) => {
                Test::Texts(order, one.clone(), other.clone())
            }
            (Value::Test(one), Value::Test(other)) if is_equality => {
                let same = Test::Same(Box::new([one.clone(), other.clone()]));
                if order == Order::Equal { same } else { not(same) }
            }
            _ => return None,
        })
    }

    fn member(&mut self, one: &Value, other: &Value) -> Option<Test> {
        Some(match (one, other) {
            (Value::Text(text), Value::Texts(texts)) => {
                let fixed = |text: &Text| match text {
                    Text::Fixed(fixed) => Some(fixed.clone()),
                    _ => None,
                };
                let fixed: Option<Vec<String>> = texts.iter().map(fixed).collect();
                match fixed.filter(|fixed| self.is_asked_directly(text, fixed)) {
                    Some(fixed) => asked_directly(text, &fixed)?,
                    None => Test::TextIn(text.clone(), texts.clone()),
                }
            }
            (Value::Number(_), Value::Texts(texts)) if texts.is_empty() => Test::Always(false),
            (Value::Text(text), Value::Parts(parts, separator)) => {
                Test::PartOf(text.clone(), parts.clone(), separator.clone())
            }
            (Value::Number(number), Value::Numbers(numbers)) => {
                Test::NumberIn(number.clone(), numbers.clone())
            }
            (Value::Number(number), Value::Within(first, last)) => {
                Test::NumberWithin(number.clone(), *first, *last)
            }
            _ => return None,
        })
    }

    /// Returns true if `text` is compared with these without being written. A text that it can
    /// never equal is noted.
    fn is_asked_directly(&mut self, text: &Text, fixed: &[String]) -> bool {
        let is_one: fn(&str) -> bool = match text {
            Text::Type => |text| kind_of(text).is_some(),
            Text::ClientAddress => |text| address_of(text).is_some(),
            _ => return false,
        };
        let what = if *text == Text::Type { "a type" } else { "an address in its shortest form" };
        for fixed in fixed.iter().filter(|fixed| !is_one(fixed)) {
            self.lints.push(format!("'{fixed}' is not {what}: the comparison is never true"));
        }
        true
    }

    fn element(
        &mut self,
        list: &Node,
        index: &Node,
        may_be_nil: bool,
        column: usize,
    ) -> Result<Value, Mistake> {
        let list = self.value(list)?;
        let index_value = self.value(index)?;
        match (list, &index_value) {
            (Value::Parts(text, separator), Value::Number(Number::Fixed(number))) => {
                Ok(Value::Text(Text::Part(Box::new(text), separator, *number)))
            }
            (Value::Texts(mut texts), Value::Number(Number::Fixed(number))) => {
                let place = match usize::try_from(*number) {
                    Ok(place) => Some(place),
                    Err(_) => texts.len().checked_sub(number.unsigned_abs() as usize),
                };
                match place.filter(|place| *place < texts.len()) {
                    Some(place) => Ok(Value::Text(texts.swap_remove(place))),
                    None => Mistake::at(index.column, "the list has no element with this index"),
                }
            }
            (list, _) => {
                let names = [&list, &index_value].map(Value::kind).join(" and ");
                let ((list, kind), (key, key_kind)) = (list.into_term(), index_value.into_term());
                let is_nil = matches!(kind, Kind::Maybe(_)) && may_be_nil;
                let kind = match kind.certain() {
                    Kind::List(of) if Kind::Int.may_equal(&key_kind) => *of,
                    Kind::Map(of) if of[0].may_equal(&key_kind) => Kind::maybe(of[1].clone()),
                    Kind::Any | Kind::Nil => Kind::Any,
                    _ => {
                        let message = format!("invalid operation: [] (mismatched types {names})");
                        return Mistake::at(column, message);
                    }
                };
                let kind = if is_nil { Kind::maybe(kind) } else { kind };
                Ok(Value::of(Term::Element(Box::new([list, key]), may_be_nil), kind))
            }
        }
    }

    fn slice(
        &mut self,
        value: &Node,
        bounds: [Option<&Node>; 2],
        column: usize,
    ) -> Result<Value, Mistake> {
        let value = self.value(value)?.settled(&Kind::Any);
        let name = value.kind();
        let (term, kind) = value.into_term();
        if !matches!(kind, Kind::Text | Kind::List(_) | Kind::Any) {
            let message = format!("invalid operation: [:] (mismatched type {name})");
            return Mistake::at(column, message);
        }
        let mut places = Vec::new();
        for bound in bounds {
            places.push(match bound {
                None => Term::Nil,
                Some(bound) => Term::Number(self.number(bound, "[:]")?),
            });
        }
        let to = places.pop().unwrap_or(Term::Nil);
        let from = places.pop().unwrap_or(Term::Nil);
        Ok(Value::of(Term::Slice(Box::new([term, from, to])), kind))
    }

    pub(super) fn number(&mut self, node: &Node, function: &str) -> Result<Number, Mistake> {
        match self.value(node)?.settled(&Kind::Int) {
            Value::Number(number) => Ok(number),
            other => {
                let kind = other.kind();
                let message = format!("{function} takes a whole number here, found type {kind}");
                Mistake::at(node.column, message)
            }
        }
    }
}

/// Result of an operator that takes lists, maps or what may be nil. `None` within: its types do
/// not go together; outside: it is another operator.
fn of_terms(operator: &str, one: &Value, other: &Value) -> Option<Option<Value>> {
    let [(one, kind), (other, other_kind)] = [one, other].map(|value| value.clone().into_term());
    Some(match operator {
        "==" | "!=" if kind.may_equal(&other_kind) => {
            let test = Test::Alike(Box::new([one, other]));
            Some(Value::Test(if operator == "==" { test } else { not(test) }))
        }
        "==" | "!=" => None,
        "??" => {
            let kind = kind.certain().or(other_kind);
            Some(Value::of(Term::Otherwise(Box::new([one, other])), kind))
        }
        "in" => {
            let may_hold = match other_kind.certain() {
                Kind::List(of) => of.may_equal(&kind),
                Kind::Map(of) => of[0].may_equal(&kind),
                Kind::Any | Kind::Nil => true,
                _ => false,
            };
            may_hold.then(|| Value::Test(Test::Member(Box::new([one, other]))))
        }
        _ => return None,
    })
}
