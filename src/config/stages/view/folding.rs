//! Construction of conditions: parts that are the same for all queries are computed in advance, and
//! networks tested against the same address are joined into one table.
//!
//! As in the reference, `x || true` is true without `x` being looked at, whatever `x` is.

use super::super::super::RecordType;
use super::super::super::net::{Net, Nets};
use super::program::{Arithmetic, Fraction, Number, Real, RealArithmetic, Test, Text};
use std::net::IpAddr;

pub(super) fn not(test: Test) -> Test {
    match test {
        Test::Always(truth) => Test::Always(!truth),
        Test::Not(test) => *test,
        test => Test::Not(Box::new(test)),
    }
}

pub(super) fn all(tests: Vec<Test>) -> Test {
    let mut flat = Vec::new();
    for test in tests {
        match test {
            Test::Always(true) => {}
            Test::Always(false) => return Test::Always(false),
            Test::All(tests) => flat.extend(tests),
            test => flat.push(test),
        }
    }
    one_of(flat, true, Test::All)
}

pub(super) fn any(tests: Vec<Test>) -> Test {
    let mut flat: Vec<Test> = Vec::new();
    for test in tests {
        match test {
            Test::Always(false) => {}
            Test::Always(true) => return Test::Always(true),
            Test::Any(tests) => flat.extend(tests),
            test => flat.push(test),
        }
    }
    // Networks of one address are one table, however many there are.
    let joined = flat.chunk_by(asks_for_one_address).map(|tests| match tests {
        [Test::ClientIn(_), _, ..] => {
            Test::ClientIn(Nets::joined(tests.iter().filter_map(nets_of)))
        }
        [Test::AddressIn(text, _), _, ..] => {
            Test::AddressIn(text.clone(), Nets::joined(tests.iter().filter_map(nets_of)))
        }
        tests => tests[0].clone(),
    });
    one_of(joined.collect(), false, Test::Any)
}

fn asks_for_one_address(one: &Test, other: &Test) -> bool {
    match (one, other) {
        (Test::ClientIn(_), Test::ClientIn(_)) => true,
        (Test::AddressIn(one, _), Test::AddressIn(other, _)) => one == other,
        _ => false,
    }
}

fn nets_of(test: &Test) -> Option<&Nets> {
    match test {
        Test::ClientIn(nets) | Test::AddressIn(_, nets) => Some(nets),
        _ => None,
    }
}

/// The only one of `tests`, or all of them together; `empty` if there is none.
fn one_of(mut tests: Vec<Test>, empty: bool, together: fn(Vec<Test>) -> Test) -> Test {
    match tests.pop() {
        None => Test::Always(empty),
        Some(test) if tests.is_empty() => test,
        Some(test) => {
            tests.push(test);
            together(tests)
        }
    }
}

pub(super) fn calculated(what: Arithmetic, one: Number, other: Number) -> Number {
    if let (Number::Fixed(one), Number::Fixed(other)) = (&one, &other)
        && let Some(number) = what.of(*one, *other)
    {
        return Number::Fixed(number);
    }
    Number::Calculated(what, Box::new([one, other]))
}

/// The same of numbers that may have a fraction.
pub(super) fn calculated_real(what: RealArithmetic, one: Real, other: Real) -> Real {
    match (&one, &other) {
        (Real::Fixed(one), Real::Fixed(other)) => {
            Real::Fixed(Fraction::new(what.of(one.get(), other.get())))
        }
        _ => Real::Calculated(what, Box::new([one, other])),
    }
}

/// Test that a type or an address is one of these; texts that are neither are left out.
pub(super) fn asked_directly(text: &Text, fixed: &[String]) -> Option<Test> {
    let fixed = fixed.iter().map(String::as_str);
    Some(match text {
        Text::Type => {
            let mut kinds: Vec<u16> = fixed.filter_map(kind_of).collect();
            kinds.sort_unstable();
            if kinds.is_empty() { Test::Always(false) } else { Test::TypeIn(kinds) }
        }
        Text::ClientAddress => {
            let nets: Vec<Net> = fixed.filter_map(address_of).collect();
            if nets.is_empty() {
                Test::Always(false)
            } else {
                Test::ClientIn(Nets::new(nets.iter()))
            }
        }
        _ => return None,
    })
}

/// The type that is written exactly so.
pub(super) fn kind_of(text: &str) -> Option<u16> {
    let kind = RecordType::parse(text)?;
    (kind.to_string() == text).then_some(kind.0)
}

/// The address that is written exactly so.
pub(super) fn address_of(text: &str) -> Option<Net> {
    let address: IpAddr = text.parse().ok()?;
    (address.to_string() == text).then(|| Net::parse(text))?
}
