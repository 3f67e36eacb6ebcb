//! Values of expressions while they are compiled, by their types.
//!
//! A value is a part of the program that is made of an expression. Which operators take which types
//! is decided in `typing`; here are those that take any, and the error about all others.

use super::program::{Fraction, Number, Place, Real, Test, Text};
use super::words::Mistake;

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
        (one, other) => return mismatch(column, "?:", &[&one, &other]),
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
