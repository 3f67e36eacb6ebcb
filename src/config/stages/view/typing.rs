//! Expressions with their types: from the shape of an expression to what the engine runs.
//!
//! Mistakes are found here and not per query: types that do not go together, networks that are
//! none, patterns that do not compile. What is the same for every query is computed here, and what
//! can be asked of a query directly (its type, its client's address) is not compared as text.

use super::super::super::Name;
use super::super::super::net::{Net, Nets};
use super::super::template::Pattern;
use super::folding::{
    address_of, all, any, asked_directly, calculated, calculated_real, kind_of, not,
};
use super::functions::{self, Fact, OTHERS};
use super::program::{
    Arithmetic, Fraction, Number, Order, Place, Real, RealArithmetic, Test, Text,
};
use super::syntax::{self, Node, What};
use super::values::{Value, either, has, mismatch, real_of};
use super::words::Mistake;

/// Parts that one expression is compiled to, lists of `any` taken apart.
const PARTS_MAX: usize = 4_096;
/// Labels that are known, but set only after a block was chosen.
const LATER: [&str; 3] = ["forward/upstream", "log/class", "log/type"];

/// Values of labels while a block is chosen.
pub(super) struct Labels<'a> {
    /// The name of the view.
    pub(super) view: &'a str,
    /// The zones of `metadata`; `None`: there is none.
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
/// The first mistake, with its place.
pub(super) fn compile(expression: &str, labels: &Labels<'_>) -> Result<Compiled, Mistake> {
    let node = syntax::parse(expression)?;
    let (lints, reads_labels) = (Vec::new(), false);
    let mut compiler =
        Compiler { labels, item: None, item_parts: 0, parts: 0, lints, reads_labels };
    let test = match compiler.value(&node)? {
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

struct Compiler<'a> {
    labels: &'a Labels<'a>,
    /// The element that the test of `any` looks at.
    item: Option<Value>,
    /// Parts of the list that it is of: no fewer than its own.
    item_parts: usize,
    parts: usize,
    lints: Vec<String>,
    reads_labels: bool,
}

impl Compiler<'_> {
    fn value(&mut self, node: &Node) -> Result<Value, Mistake> {
        // An element is copied, whole, to each place where it is used.
        self.parts += if matches!(node.what, What::Item) { 1 + self.item_parts } else { 1 };
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
            What::Item => match &self.item {
                Some(item) => item.clone(),
                None => return Mistake::at(node.column, "'#' stands only in any, all and none"),
            },
            What::Not(operand) => Value::Test(not(self.test(operand, "not")?)),
            What::Minus(operand) => match self.value(operand)? {
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
            What::Index(list, index) => self.element(list, index, node.column)?,
        })
    }

    fn test(&mut self, node: &Node, operator: &str) -> Result<Test, Mistake> {
        match self.value(node)? {
            Value::Test(test) => Ok(test),
            other => mismatch(node.column, operator, &[&other]),
        }
    }

    fn text(&mut self, node: &Node, function: &str) -> Result<Text, Mistake> {
        match self.value(node)? {
            Value::Text(text) => Ok(text),
            other => {
                let kind = other.kind();
                let message = format!("{function}() takes a string here, found type {kind}");
                Mistake::at(node.column, message)
            }
        }
    }

    /// A text that is the same for every query.
    fn fixed(&mut self, node: &Node, what: &str) -> Result<String, Mistake> {
        match self.value(node)? {
            Value::Text(Text::Fixed(text)) => Ok(text),
            _ => Mistake::at(node.column, format!("{what} must be a text in quotes")),
        }
    }

    fn list(&mut self, nodes: &[Node]) -> Result<Value, Mistake> {
        let (mut texts, mut numbers) = (Vec::new(), Vec::new());
        for node in nodes {
            match self.value(node)? {
                Value::Text(text) if numbers.is_empty() => texts.push(text),
                Value::Number(Number::Fixed(number)) if texts.is_empty() => numbers.push(number),
                _ => {
                    let message = "a list holds texts, or whole numbers that are the same for \
                                   every query, and not both";
                    return Mistake::at(node.column, message);
                }
            }
        }
        Ok(if numbers.is_empty() { Value::Texts(texts) } else { Value::Numbers(numbers) })
    }

    fn binary(
        &mut self,
        operator: &'static str,
        left: &Node,
        right: &Node,
        column: usize,
    ) -> Result<Value, Mistake> {
        if operator == "matches" {
            let text = self.value(left)?;
            let pattern = self.fixed(right, "the pattern of 'matches'")?;
            let Value::Text(text) = text else { return mismatch(column, operator, &[&text]) };
            let pattern =
                Pattern::parse(&pattern).or_else(|message| Mistake::at(right.column, message))?;
            return Ok(Value::Test(Test::Matches(text, pattern)));
        }
        let (one, other) = (self.value(left)?, self.value(right)?);
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

    fn element(&mut self, list: &Node, index: &Node, column: usize) -> Result<Value, Mistake> {
        let list = self.value(list)?;
        let Value::Number(Number::Fixed(number)) = self.value(index)? else {
            return Mistake::at(index.column, "the number of an element must be written as one");
        };
        match list {
            Value::Parts(text, separator) => {
                Ok(Value::Text(Text::Part(Box::new(text), separator, number)))
            }
            Value::Texts(mut texts) => {
                let place = usize::try_from(number).ok().filter(|place| *place < texts.len());
                match place {
                    Some(place) => Ok(Value::Text(texts.swap_remove(place))),
                    None => Mistake::at(index.column, "the list has no element of this number"),
                }
            }
            other => mismatch(column, "[]", &[&other]),
        }
    }

    fn call(&mut self, name: &str, given: &[Node], column: usize) -> Result<Value, Mistake> {
        let fact = functions::fact(name);
        let takes = match OTHERS.iter().find(|(known, _)| *known == name) {
            Some((_, takes)) => takes,
            None if fact.is_some() => &[][..],
            None => return Mistake::at(column, functions::unknown(name, true)),
        };
        if takes.len() != given.len() {
            let (takes, found) = (takes.join(", "), given.len());
            let message = format!("expected {name}({takes}): {found} given");
            return Mistake::at(column, message);
        }
        if let Some(fact) = fact {
            return Ok(match fact {
                Fact::Text(text) => Value::Text(text),
                Fact::Number(number) => Value::Number(number),
                Fact::DnssecOk => Value::Test(Test::DnssecOk),
            });
        }
        Ok(match name {
            "incidr" => Value::Test(self.within(&given[0], &given[1])?),
            "metadata" => Value::Text(self.label(&given[0])?),
            "len" => match self.value(&given[0])? {
                Value::Text(text) => Value::Number(Number::Len(text)),
                Value::Texts(texts) => Value::Number(Number::Fixed(texts.len() as i64)),
                Value::Numbers(numbers) => Value::Number(Number::Fixed(numbers.len() as i64)),
                Value::Parts(text, separator) => Value::Number(Number::Parts(text, separator)),
                other => return mismatch(column, "len", &[&other]),
            },
            "lower" | "upper" => {
                let text = Box::new(self.text(&given[0], name)?);
                Value::Text(Text::Cased(text, name == "upper"))
            }
            "trim" => Value::Text(Text::Trimmed(Box::new(self.text(&given[0], name)?))),
            "split" => {
                let text = self.text(&given[0], name)?;
                let separator = self.fixed(&given[1], "the separator of split()")?;
                if separator.is_empty() {
                    return Mistake::at(given[1].column, "the separator of split() is empty");
                }
                Value::Parts(text, separator)
            }
            "any" | "all" | "none" => Value::Test(self.each(name, &given[0], &given[1])?),
            _ => {
                let (one, other) = (self.text(&given[0], name)?, self.text(&given[1], name)?);
                match name {
                    "hasPrefix" => Value::Test(Test::Has(Place::AtStart, one, other)),
                    "hasSuffix" => Value::Test(Test::Has(Place::AtEnd, one, other)),
                    "trimPrefix" => {
                        Value::Text(Text::Without(Place::AtStart, Box::new([one, other])))
                    }
                    "trimSuffix" => {
                        Value::Text(Text::Without(Place::AtEnd, Box::new([one, other])))
                    }
                    _ => Value::Number(Number::IndexOf(one, other, name == "lastIndexOf")),
                }
            }
        })
    }

    fn within(&mut self, address: &Node, network: &Node) -> Result<Test, Mistake> {
        let text = self.text(address, "incidr")?;
        let net = match self.text(network, "incidr")? {
            Text::Fixed(net) => net,
            net => return Ok(Test::AddressInText(text, net)),
        };
        let Some(parsed) =
            Some(&net).filter(|net| net.contains('/')).and_then(|net| Net::parse(net))
        else {
            let message = format!(
                "'{net}' is not a network: expected ADDRESS/LENGTH, such as 10.0.0.0/8 or \
                 2001:db8::/32"
            );
            return Mistake::at(network.column, message);
        };
        let nets = Nets::new([parsed].iter());
        Ok(match text {
            Text::ClientAddress => Test::ClientIn(nets),
            text => Test::AddressIn(text, nets),
        })
    }

    fn label(&mut self, label: &Node) -> Result<Text, Mistake> {
        let label = self.fixed(label, "the label of metadata()")?;
        if label == "view/name" {
            return Ok(match self.labels.zones {
                None => {
                    let oddity = "metadata('view/name') is empty without the directive 'metadata'";
                    self.lints.push(oddity.to_owned());
                    Text::Fixed(String::new())
                }
                Some(zones) => {
                    self.reads_labels = true;
                    let view = self.labels.view.to_owned();
                    zones.map_or(Text::Fixed(view.clone()), |zones| {
                        Text::Label(zones.to_vec(), view)
                    })
                }
            });
        }
        self.lints.push(if LATER.contains(&&*label) {
            format!("label '{label}' is set only after a server block was chosen: it is empty here")
        } else {
            format!("label '{label}' is set by no directive: it is always empty")
        });
        Ok(Text::Fixed(String::new()))
    }

    fn each(&mut self, name: &str, list: &Node, test: &Node) -> Result<Test, Mistake> {
        let before = self.parts;
        let items: Vec<Value> = match self.value(list)? {
            Value::Texts(texts) => texts.into_iter().map(Value::Text).collect(),
            Value::Numbers(numbers) => {
                numbers.into_iter().map(|item| Value::Number(Number::Fixed(item))).collect()
            }
            _ => {
                let message = format!("{name}() takes a list in brackets");
                return Mistake::at(list.column, message);
            }
        };
        let parts = self.parts - before;
        let mut tests = Vec::new();
        for item in items {
            let outer = (self.item.replace(item), std::mem::replace(&mut self.item_parts, parts));
            let test = self.test(test, name);
            (self.item, self.item_parts) = outer;
            tests.push(test?);
        }
        Ok(match name {
            "any" => any(tests),
            "all" => all(tests),
            _ => not(any(tests)),
        })
    }
}
