//! Values of expressions while they are compiled, by their types.
//!
//! A value is a part of the program that is made of an expression. Which operators take which types
//! is decided in `typing`; here are those that take any, and the error about all others.

use super::program::{ELEMENTS_MAX, Fraction, Function, Number, Place, Real, Term, Test, Text};
use super::words::Mistake;

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Nil,
    Bool,
    Int,
    Float,
    Text,
    List(Box<Kind>),
    /// Of keys and of values.
    Map(Box<[Kind; 2]>),
    /// This or nil.
    Maybe(Box<Kind>),
    /// Only the engine knows.
    Any,
}

impl Kind {
    pub(super) fn list(of: Self) -> Self {
        Self::List(Box::new(of))
    }

    pub(super) fn maybe(of: Self) -> Self {
        match of {
            Self::Nil | Self::Any | Self::Maybe(_) => of,
            of => Self::Maybe(Box::new(of)),
        }
    }

    /// The type of values that are of one type or the other.
    pub(super) fn or(self, other: Self) -> Self {
        match (self, other) {
            (one, other) if one == other => one,
            (Self::Nil, kind) | (kind, Self::Nil) => Self::maybe(kind),
            (Self::Maybe(one), other) | (other, Self::Maybe(one)) => {
                let other = match other {
                    Self::Maybe(other) => *other,
                    other => other,
                };
                Self::maybe(one.or(other))
            }
            _ => Self::Any,
        }
    }

    /// The type of all of these.
    pub(super) fn of_all(kinds: impl IntoIterator<Item = Self>) -> Self {
        kinds.into_iter().reduce(Self::or).unwrap_or(Self::Any)
    }

    /// Returns the type without nil.
    pub(super) fn certain(self) -> Self {
        match self {
            Self::Maybe(kind) => *kind,
            kind => kind,
        }
    }

    /// Returns false if no value of one type equals one of the other.
    pub(super) fn may_equal(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any | Self::Nil, _) | (_, Self::Any | Self::Nil) => true,
            (Self::Maybe(one), other) | (other, Self::Maybe(one)) => one.may_equal(other),
            (Self::Int | Self::Float, Self::Int | Self::Float) => true,
            (Self::List(one), Self::List(other)) => one.may_equal(other),
            (Self::Map(one), Self::Map(other)) => {
                one[0].may_equal(&other[0]) && one[1].may_equal(&other[1])
            }
            (one, other) => one == other,
        }
    }

    /// Returns true if only the engine knows the type, in whole or in part.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Any => true,
            Self::List(of) | Self::Maybe(of) => of.is_open(),
            Self::Map(of) => of[0].is_open() || of[1].is_open(),
            _ => false,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float64",
            Self::Text => "string",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Maybe(of) => of.name(),
            Self::Any => "any",
        }
    }
}

/// A part of an expression, by its type.
#[derive(Clone)]
pub(super) enum Value {
    Test(Test),
    Number(Number),
    Real(Real),
    Text(Text),
    Texts(Vec<Text>),
    Numbers(Vec<i64>),
    /// The parts of a text between separators.
    Parts(Text, String),
    Within(i64, i64),
    /// Any other, with its type.
    Term(Term, Kind),
}

impl Value {
    /// Returns the type, as the reference calls it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Test(_) => "bool",
            Self::Number(_) => "int",
            Self::Real(_) => "float64",
            Self::Text(_) => "string",
            Self::Texts(_) | Self::Numbers(_) | Self::Parts(..) | Self::Within(..) => "list",
            Self::Term(_, kind) => kind.name(),
        }
    }

    /// A value of this type.
    pub(super) fn of(term: Term, kind: Kind) -> Self {
        match (term, kind) {
            (Term::Test(test), Kind::Bool) => Self::Test(test),
            (Term::Number(number), Kind::Int) => Self::Number(number),
            (Term::Real(number), Kind::Float) => Self::Real(number),
            (Term::Text(text), Kind::Text) => Self::Text(text),
            (term, Kind::Bool) => Self::Test(Test::Of(Box::new(term))),
            (term, Kind::Int) => Self::Number(Number::Of(Box::new(term))),
            (term, Kind::Float) => Self::Real(Real::Of(Box::new(term))),
            (term, Kind::Text) => Self::Text(Text::Of(Box::new(term))),
            (term, kind) => Self::Term(term, kind),
        }
    }

    /// Returns the value and its type.
    pub(super) fn into_term(self) -> (Term, Kind) {
        match self {
            Self::Test(Test::Of(term)) => (*term, Kind::Bool),
            Self::Number(Number::Of(term)) => (*term, Kind::Int),
            Self::Real(Real::Of(term)) => (*term, Kind::Float),
            Self::Text(Text::Of(term)) => (*term, Kind::Text),
            Self::Test(test) => (Term::Test(test), Kind::Bool),
            Self::Number(number) => (Term::Number(number), Kind::Int),
            Self::Real(number) => (Term::Real(number), Kind::Float),
            Self::Text(text) => (Term::Text(text), Kind::Text),
            Self::Texts(texts) => {
                let texts = texts.into_iter().map(|text| Self::Text(text).into_term().0);
                (Term::List(texts.collect()), Kind::list(Kind::Text))
            }
            Self::Numbers(numbers) => {
                let number = |number| Term::Number(Number::Fixed(number));
                (Term::List(numbers.into_iter().map(number).collect()), Kind::list(Kind::Int))
            }
            Self::Parts(text, separator) => {
                let arguments = vec![Term::Text(text), Term::Text(Text::Fixed(separator))];
                (Term::Call(Function::Split, arguments), Kind::list(Kind::Text))
            }
            Self::Within(first, last) => {
                let bounds = [first, last].map(|bound| Term::Number(Number::Fixed(bound)));
                (Term::Call(Function::Range, bounds.into()), Kind::list(Kind::Int))
            }
            Self::Term(term, kind) => (term, kind),
        }
    }

    /// Checks that the engine has room for it, if it is a list of numbers from one to another.
    pub(super) fn check_size(&self, column: usize) -> Result<(), Mistake> {
        let Self::Within(first, last) = self else { return Ok(()) };
        let count = i128::from(*last) - i128::from(*first) + 1;
        if count <= ELEMENTS_MAX as i128 {
            return Ok(());
        }
        let limit = format!("at most {ELEMENTS_MAX} are supported, except after 'in'");
        Mistake::at(column, format!("the range has {count} elements: {limit}"))
    }

    /// Returns true if it can be computed at each place where it is used: it costs next to nothing
    /// and does not fail.
    pub(super) fn is_plain(&self) -> bool {
        match self {
            Self::Test(test) => matches!(test, Test::Always(_) | Test::DnssecOk),
            Self::Number(number) => matches!(
                number,
                Number::Fixed(_) | Number::Size | Number::Id | Number::Opcode | Number::BufferSize
            ),
            Self::Real(number) => matches!(number, Real::Fixed(_)),
            Self::Text(text) => matches!(
                text,
                Text::Fixed(_)
                    | Text::Name
                    | Text::Type
                    | Text::Class
                    | Text::Protocol
                    | Text::ClientAddress
                    | Text::ClientPort
                    | Text::ServerAddress
                    | Text::ServerPort
            ),
            Self::Texts(texts) => texts.iter().all(|text| matches!(text, Text::Fixed(_))),
            Self::Numbers(_) | Self::Within(..) => true,
            Self::Parts(..) | Self::Term(..) => false,
        }
    }

    /// Returns the value as one of a type that is certain, if it may be nil or any: like `other`
    /// if nothing else is known.
    pub(super) fn settled(self, other: &Kind) -> Self {
        match self {
            Self::Term(term, Kind::Maybe(kind)) => Self::of(term, *kind),
            Self::Term(term, Kind::Any) => Self::of(term, other.clone().certain()),
            value => value,
        }
    }
}

/// An operator that is not for these types.
pub(super) fn mismatch<T>(column: usize, operator: &str, values: &[&Value]) -> Result<T, Mistake> {
    let kinds: Vec<_> = values.iter().map(|value| value.kind()).collect();
    let plural = if kinds.len() > 1 { "s" } else { "" };
    let kinds = kinds.join(" and ");
    Mistake::at(column, format!("invalid operation: {operator} (mismatched type{plural} {kinds})"))
}

pub(super) fn either(
    test: Test,
    one: Value,
    other: Value,
    column: usize,
) -> Result<Value, Mistake> {
    Ok(match (one, other) {
        (one, other) if matches!(test, Test::Always(_)) && one.kind() == other.kind() => {
            if test == Test::Always(true) { one } else { other }
        }
        (Value::Test(Test::Always(true)), Value::Test(Test::Always(false))) => Value::Test(test),
        (Value::Test(one), Value::Test(other)) => {
            Value::Test(Test::If(Box::new([test, one, other])))
        }
        (Value::Number(one), Value::Number(other)) => {
            Value::Number(Number::If(Box::new((test, one, other))))
        }
        (
            one @ (Value::Number(_) | Value::Real(_)),
            other @ (Value::Number(_) | Value::Real(_)),
        ) => match (real_of(&one), real_of(&other)) {
            (Some(one), Some(other)) => Value::Real(Real::If(Box::new((test, one, other)))),
            _ => return mismatch(column, "?:", &[&one, &other]),
        },
        (Value::Text(one), Value::Text(other)) => {
            Value::Text(Text::If(Box::new((test, one, other))))
        }
        (one, other) => {
            let is_open = [&one, &other].iter().any(|value| matches!(value, Value::Term(..)));
            if !is_open && one.kind() != other.kind() {
                return mismatch(column, "?:", &[&one, &other]);
            }
            let ((one, kind), (other, other_kind)) = (one.into_term(), other.into_term());
            Value::of(Term::If(Box::new((test, one, other))), kind.or(other_kind))
        }
    })
}

/// A number of either type, as one that may have a fraction.
pub(super) fn real_of(value: &Value) -> Option<Real> {
    Some(match value {
        Value::Number(Number::Fixed(number)) => Real::Fixed(Fraction::new(*number as f64)),
        Value::Number(number) => Real::Whole(number.clone()),
        Value::Real(number) => number.clone(),
        _ => return None,
    })
}

pub(super) fn has(place: Place, one: &Value, other: &Value) -> Option<Test> {
    let (Value::Text(one), Value::Text(other)) = (one, other) else { return None };
    Some(Test::Has(place, one.clone(), other.clone()))
}
