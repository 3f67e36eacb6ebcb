//! Calls of functions with their types.
//!
//! The compiler checks the types of arguments here, as far as they are known, and returns the type
//! of the result.

use super::super::super::net::{Net, Nets};
use super::closures::{list_in, loop_of};
use super::functions::{self, Fact};
use super::nodes::Node;
use super::program::{Function, Number, Place, Term, Test, Text};
use super::typing::Compiler;
use super::values::{Kind, Value, mismatch, real_of};
use super::words::Mistake;

/// Labels that are known, but set only after a block was chosen.
const LATER: [&str; 3] = ["forward/upstream", "log/class", "log/type"];

/// A function of one list, and the type that it returns for a list with such elements.
type Listed = (Function, fn(Kind) -> Kind);

impl Compiler<'_> {
    pub(super) fn call(
        &mut self,
        name: &str,
        given: &[Node],
        column: usize,
    ) -> Result<Value, Mistake> {
        if let Some(message) = functions::refused(name, given.len()) {
            return Mistake::at(column, message);
        }
        if let Some(fact) = functions::fact(name) {
            return Ok(match fact {
                Fact::Text(text) => Value::Text(text),
                Fact::Number(number) => Value::Number(number),
                Fact::DnssecOk => Value::Test(Test::DnssecOk),
            });
        }
        if let Some(what) = loop_of(name, given.len()) {
            return self.closure(name, what, given);
        }
        Ok(match (name, given) {
            ("incidr", [address, network]) => Value::Test(self.within(address, network)?),
            ("metadata", [label]) => Value::Text(self.label(label)?),
            ("len", [value]) => self.len(value)?,
            ("lower" | "upper", [text]) => {
                let text = Box::new(self.text(text, name)?);
                Value::Text(Text::Cased(text, name == "upper"))
            }
            ("trim", [text]) => Value::Text(Text::Trimmed(Box::new(self.text(text, name)?))),
            ("split", [text, separator]) => self.split(text, separator)?,
            (
                "hasPrefix" | "hasSuffix" | "trimPrefix" | "trimSuffix" | "indexOf" | "lastIndexOf",
                [one, other],
            ) => {
                let (one, other) = (self.text(one, name)?, self.text(other, name)?);
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
            ("get", [value, key]) => self.get(value, key, column)?,
            _ => self.function(name, given, column)?,
        })
    }

    fn len(&mut self, value: &Node) -> Result<Value, Mistake> {
        Ok(Value::Number(match self.value(value)?.settled(&Kind::Any) {
            Value::Text(text) => Number::Len(text),
            Value::Texts(texts) => Number::Fixed(texts.len() as i64),
            Value::Numbers(numbers) => Number::Fixed(numbers.len() as i64),
            Value::Parts(text, separator) => Number::Parts(text, separator),
            other @ (Value::Within(..)
            | Value::Term(_, Kind::List(_) | Kind::Map(_) | Kind::Any)) => {
                Number::Of(Box::new(Term::Call(Function::Len, vec![other.into_term().0])))
            }
            other => return mismatch(value.column, "len", &[&other]),
        }))
    }

    fn split(&mut self, text: &Node, separator: &Node) -> Result<Value, Mistake> {
        let text = self.text(text, "split")?;
        let column = separator.column;
        match self.text(separator, "split")? {
            Text::Fixed(separator) if separator.is_empty() => {
                Mistake::at(column, "the separator of split() is empty")
            }
            Text::Fixed(separator) => Ok(Value::Parts(text, separator)),
            separator => {
                let arguments = vec![Term::Text(text), Term::Text(separator)];
                let term = Term::Call(Function::Split, arguments);
                Ok(Value::Term(term, Kind::list(Kind::Text)))
            }
        }
    }

    fn get(&mut self, value: &Node, key: &Node, column: usize) -> Result<Value, Mistake> {
        let (value, key) = (self.value(value)?, self.value(key)?);
        let names = [&value, &key].map(Value::kind).join(" and ");
        let ((value, kind), (key, key_kind)) = (value.into_term(), key.into_term());
        let kind = match kind.certain() {
            Kind::List(of) if Kind::Int.may_equal(&key_kind) => *of,
            Kind::Map(of) if of[0].may_equal(&key_kind) => of[1].clone(),
            Kind::Any | Kind::Nil => Kind::Any,
            _ => {
                let message = format!("invalid operation: get (mismatched types {names})");
                return Mistake::at(column, message);
            }
        };
        let term = Term::Element(Box::new([value, key]), true);
        Ok(Value::of(term, Kind::maybe(kind)))
    }

    /// A list as a function takes it, with the type of its elements.
    fn list_of(&mut self, node: &Node, name: &str) -> Result<(Term, Kind), Mistake> {
        let value = self.value(node)?;
        list_in(value, node.column, name)
    }

    fn map_of(&mut self, node: &Node, name: &str) -> Result<(Term, [Kind; 2]), Mistake> {
        let value = self.value(node)?;
        let found = value.kind();
        let (term, kind) = value.into_term();
        match kind.certain() {
            Kind::Map(of) => Ok((term, *of)),
            Kind::Any => Ok((term, [Kind::Any, Kind::Any])),
            _ => {
                let message = format!("{name}() takes a map here, found type {found}");
                Mistake::at(node.column, message)
            }
        }
    }

    /// A function of one list.
    fn of_list(
        &mut self,
        name: &str,
        (what, returns): Listed,
        given: &[Node],
    ) -> Result<Value, Mistake> {
        let (list, of) = self.list_of(&given[0], name)?;
        let is_right = match what {
            Function::Join => of.may_equal(&Kind::Text),
            Function::Sum => of.may_equal(&Kind::Int),
            Function::Count => of.may_equal(&Kind::Bool),
            Function::Sort { .. } => of.may_equal(&Kind::Int) || of.may_equal(&Kind::Text),
            Function::FromPairs => of.may_equal(&Kind::list(Kind::Any)),
            _ => true,
        };
        if !is_right {
            let message = format!("{name}() does not take a list of these");
            return Mistake::at(given[0].column, message);
        }
        let mut arguments = vec![list];
        let what = match (what, given.get(1)) {
            (Function::Sort { .. }, Some(order)) => {
                Function::Sort { descending: self.is_descending(order)? }
            }
            (Function::Take, Some(count)) => {
                arguments.push(Term::Number(self.number(count, "take()")?));
                what
            }
            (Function::Join, Some(separator)) => {
                arguments.push(Term::Text(self.text(separator, name)?));
                what
            }
            _ => what,
        };
        Ok(Value::of(Term::Call(what, arguments), returns(of)))
    }

    /// All other functions: of lists, maps, texts and numbers.
    fn function(&mut self, name: &str, given: &[Node], column: usize) -> Result<Value, Mistake> {
        if let Some(listed) = of_list(name) {
            return self.of_list(name, listed, given);
        }
        let (what, arguments, kind) = match name {
            "keys" | "values" | "toPairs" => {
                let (map, [key, value]) = self.map_of(&given[0], name)?;
                let (what, kind) = match name {
                    "keys" => (Function::Keys, key),
                    "values" => (Function::Values, value),
                    _ => (Function::ToPairs, Kind::list(key.or(value))),
                };
                (what, vec![map], Kind::list(kind))
            }
            "concat" => {
                let lists = given.iter().map(|list| self.list_of(list, name));
                let lists: Vec<_> = lists.collect::<Result<_, _>>()?;
                let (terms, kinds): (Vec<_>, Vec<_>) = lists.into_iter().unzip();
                (Function::Concat, terms, Kind::list(Kind::of_all(kinds)))
            }
            "splitAfter" | "split" => {
                let mut arguments = self.texts(&given[..2], name)?;
                if let Some(most) = given.get(2) {
                    arguments.push(Term::Number(self.number(most, name)?));
                }
                let is_after = name == "splitAfter";
                let what = if is_after { Function::SplitAfter } else { Function::Split };
                (what, arguments, Kind::list(Kind::Text))
            }
            "trim" => (Function::Trim, self.texts(given, name)?, Kind::Text),
            "replace" => (Function::Replace, self.texts(given, name)?, Kind::Text),
            "repeat" => {
                let mut arguments = self.texts(&given[..1], name)?;
                arguments.push(Term::Number(self.number(&given[1], "repeat()")?));
                (Function::Repeat, arguments, Kind::Text)
            }
            "int" | "float" | "string" => {
                let value = self.value(&given[0])?;
                let found = value.kind();
                let (term, kind) = value.into_term();
                let kind = kind.certain();
                if matches!(kind, Kind::List(_) | Kind::Map(_) | Kind::Nil)
                    || kind == Kind::Bool && name != "string"
                {
                    let message = format!("{name}() takes a text or a number, found type {found}");
                    return Mistake::at(column, message);
                }
                let (what, kind) = match name {
                    "int" => (Function::Int, Kind::Int),
                    "float" => (Function::Float, Kind::Float),
                    _ => (Function::String, Kind::Text),
                };
                (what, vec![term], kind)
            }
            _ => match of_bits(name) {
                Some(what) => {
                    let numbers = given.iter().map(|number| self.number(number, name));
                    let numbers = numbers.map(|number| number.map(Term::Number));
                    (what, numbers.collect::<Result<_, _>>()?, Kind::Int)
                }
                None => return self.of_numbers(name, given),
            },
        };
        Ok(Value::of(Term::Call(what, arguments), kind))
    }

    fn texts(&mut self, given: &[Node], name: &str) -> Result<Vec<Term>, Mistake> {
        given.iter().map(|text| self.text(text, name).map(Term::Text)).collect()
    }

    /// Functions of numbers, or of lists of them.
    fn of_numbers(&mut self, name: &str, given: &[Node]) -> Result<Value, Mistake> {
        let (what, returns) = match name {
            "min" => (Function::Min, None),
            "max" => (Function::Max, None),
            "abs" => (Function::Abs, None),
            "mean" => (Function::Mean, Some(Kind::Float)),
            "median" => (Function::Median, Some(Kind::Float)),
            "ceil" => (Function::Ceil, Some(Kind::Float)),
            "floor" => (Function::Floor, Some(Kind::Float)),
            _ => (Function::Round, Some(Kind::Float)),
        };
        let takes_lists = matches!(name, "min" | "max" | "mean" | "median");
        let (mut terms, mut kinds) = (Vec::new(), Vec::new());
        for node in given {
            let value = self.value(node)?.settled(&Kind::Any);
            let found = value.kind();
            let is_number = real_of(&value).is_some();
            let (term, kind) = value.into_term();
            match kind {
                Kind::List(of) if takes_lists && matches!(*of, Kind::Int | Kind::Float) => {
                    kinds.push(*of);
                }
                kind if is_number || kind == Kind::Any => kinds.push(kind),
                _ => {
                    let message = format!("{name}() takes numbers, found type {found}");
                    return Mistake::at(node.column, message);
                }
            }
            terms.push(term);
        }
        let is_whole = kinds.iter().all(|kind| *kind == Kind::Int);
        let mixed = if is_whole { Kind::Int } else { Kind::Float };
        Ok(Value::of(Term::Call(what, terms), returns.unwrap_or(mixed)))
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
}

/// The function of a list of this name, and what it returns of a type of elements.
fn of_list(name: &str) -> Option<Listed> {
    let same: fn(Kind) -> Kind = Kind::list;
    Some(match name {
        "first" => (Function::First, Kind::maybe),
        "last" => (Function::Last, Kind::maybe),
        "take" => (Function::Take, same),
        "reverse" => (Function::Reverse, same),
        "uniq" => (Function::Unique, same),
        "sort" => (Function::Sort { descending: false }, same),
        "flatten" => (Function::Flatten, |of| Kind::list(innermost(of))),
        "fromPairs" => (Function::FromPairs, |of| match of {
            Kind::List(of) => Kind::Map(Box::new([*of.clone(), *of])),
            _ => Kind::Map(Box::new([Kind::Any, Kind::Any])),
        }),
        "join" => (Function::Join, |_| Kind::Text),
        "sum" => (Function::Sum, |of| of),
        "count" => (Function::Count, |_| Kind::Int),
        _ => return None,
    })
}

fn innermost(kind: Kind) -> Kind {
    match kind {
        Kind::List(of) => innermost(*of),
        kind => kind,
    }
}

fn of_bits(name: &str) -> Option<Function> {
    Some(match name {
        "bitand" => Function::And,
        "bitor" => Function::Or,
        "bitxor" => Function::Xor,
        "bitnand" => Function::AndNot,
        "bitnot" => Function::Not,
        "bitshl" => Function::Left,
        "bitshr" => Function::Right,
        "bitushr" => Function::UnsignedRight,
        _ => return None,
    })
}
