//! Closures: functions that look at each element of a list.
//!
//! A closure over a list that is written in the expression is taken apart, so that its tests can be
//! folded; the engine runs all others.

use super::folding::{all, any, not};
use super::nodes::Node;
use super::program::{Closure, Loop, Number, Term, Test};
use super::typing::{Compiler, Item};
use super::values::{Kind, Value};
use super::words::Mistake;

/// Variables of a closure: an element, its place and the result up to here.
const CLOSURE_VARIABLES: usize = 3;
/// Parts of an expression that the engine evaluates in one step of work.
const STEP_PARTS: usize = 4;

impl Compiler<'_> {
    /// A function that looks at each element of a list.
    pub(super) fn closure(
        &mut self,
        name: &str,
        what: Loop,
        given: &[Node],
    ) -> Result<Value, Mistake> {
        let before = self.parts;
        let value = self.value(&given[0])?;
        let parts = self.parts - before;
        let body = &given[1];
        let is_folded = matches!(what, Loop::Any | Loop::All | Loop::None);
        if let Some(items) = items_of(&value).filter(|_| is_folded) {
            return Ok(Value::Test(self.each(name, items, parts, body)?));
        }
        let (list, element) = list_in(value, given[0].column, name)?;
        let first = match (what, given.get(2)) {
            (Loop::Reduce, Some(first)) => Some(self.value(first)?.into_term()),
            _ => None,
        };
        let result = first.as_ref().map_or(element.clone(), |(_, kind)| kind.clone());
        let variable = self.variables;
        self.variables += CLOSURE_VARIABLES;
        let item = Item {
            value: Value::of(Term::Variable(variable), element.clone()),
            position: Number::Of(Box::new(Term::Variable(variable + 1))),
            sum: matches!(what, Loop::Reduce)
                .then(|| Value::of(Term::Variable(variable + 2), result.clone())),
            parts: 0,
        };
        let outer = self.item.replace(item);
        let before = self.parts;
        let is_test = !matches!(
            what,
            Loop::Map | Loop::Sum | Loop::GroupBy | Loop::SortBy { .. } | Loop::Reduce
        );
        let computed = if is_test {
            self.test(body, name).map(|test| (Term::Test(test), Kind::Bool))
        } else {
            self.value(body).map(Value::into_term)
        };
        (self.item, self.variables) = (outer, variable);
        let (body_term, kind) = computed?;
        let steps = 1 + (self.parts - before) / STEP_PARTS;
        let returns = returned(what, [element, kind], &result)
            .or_else(|takes| Mistake::at(body.column, format!("{name}() takes {takes} here")))?;
        let what = match (what, given.get(2)) {
            (Loop::SortBy { .. }, Some(order)) => {
                Loop::SortBy { descending: self.is_descending(order)? }
            }
            _ => what,
        };
        let first = first.map(|(first, _)| first);
        let closure = Closure { what, variable, list, body: body_term, steps, first };
        Ok(Value::of(Term::Closure(Box::new(closure)), returns))
    }

    /// Returns true if a list is sorted from its greatest element on.
    pub(super) fn is_descending(&mut self, order: &Node) -> Result<bool, Mistake> {
        match &*self.fixed(order, "the order")? {
            "asc" => Ok(false),
            "desc" => Ok(true),
            _ => Mistake::at(order.column, "the order is 'asc' or 'desc'"),
        }
    }

    /// The test of each element of a list that is written in the expression, put together.
    fn each(
        &mut self,
        name: &str,
        items: Vec<Value>,
        parts: usize,
        test: &Node,
    ) -> Result<Test, Mistake> {
        let mut tests = Vec::new();
        for (number, value) in items.into_iter().enumerate() {
            let position = Number::Fixed(number as i64);
            let outer = self.item.replace(Item { value, position, sum: None, parts });
            let test = self.test(test, name);
            self.item = outer;
            tests.push(test?);
        }
        Ok(match name {
            "any" => any(tests),
            "all" => all(tests),
            _ => not(any(tests)),
        })
    }
}

/// Returns the elements of a list that is written in the expression.
fn items_of(list: &Value) -> Option<Vec<Value>> {
    match list {
        Value::Texts(texts) => Some(texts.iter().cloned().map(Value::Text).collect()),
        Value::Numbers(numbers) => {
            let numbers = numbers.iter().map(|item| Number::Fixed(*item));
            Some(numbers.map(Value::Number).collect())
        }
        _ => None,
    }
}

/// Returns the type that a function has whose list has such elements and whose body has this type.
/// `result`: the type of the first value of `reduce`.
///
/// # Errors
/// The body has another type than the function takes.
fn returned(what: Loop, [element, body]: [Kind; 2], result: &Kind) -> Result<Kind, &'static str> {
    let is_number = matches!(body, Kind::Int | Kind::Float);
    let is_scalar = is_number || matches!(body, Kind::Bool | Kind::Text);
    Ok(match what {
        Loop::All | Loop::Any | Loop::None | Loop::One => Kind::Bool,
        Loop::Count | Loop::FindIndex { .. } => Kind::Int,
        Loop::Filter => Kind::list(element),
        Loop::Find { .. } => Kind::maybe(element),
        Loop::Map => Kind::list(body),
        Loop::Sum if is_number => body,
        Loop::Sum => return Err("a number"),
        Loop::GroupBy if is_scalar => Kind::Map(Box::new([body, Kind::list(element)])),
        Loop::GroupBy => return Err("a text, a number or a truth value"),
        Loop::SortBy { .. } if is_scalar && body != Kind::Bool => Kind::list(element),
        Loop::SortBy { .. } => return Err("a text or a number"),
        Loop::Reduce if body == *result && !body.is_open() => body,
        Loop::Reduce => return Err("a value of the type that the result has from the start"),
    })
}

/// A list as a function takes it, with the type of its elements.
pub(super) fn list_in(value: Value, column: usize, name: &str) -> Result<(Term, Kind), Mistake> {
    let found = value.kind();
    let (term, kind) = value.into_term();
    match kind.certain() {
        Kind::List(of) => Ok((term, *of)),
        Kind::Any => Ok((term, Kind::Any)),
        _ => Mistake::at(column, format!("{name}() takes a list here, found type {found}")),
    }
}

/// Returns the function with a closure that has this name and number of arguments.
pub(super) fn loop_of(name: &str, given: usize) -> Option<Loop> {
    Some(match name {
        "all" => Loop::All,
        "any" => Loop::Any,
        "none" => Loop::None,
        "one" => Loop::One,
        "filter" => Loop::Filter,
        "map" => Loop::Map,
        "find" => Loop::Find { last: false },
        "findLast" => Loop::Find { last: true },
        "findIndex" => Loop::FindIndex { last: false },
        "findLastIndex" => Loop::FindIndex { last: true },
        "groupBy" => Loop::GroupBy,
        "sortBy" => Loop::SortBy { descending: false },
        "reduce" => Loop::Reduce,
        "count" if given > 1 => Loop::Count,
        "sum" if given > 1 => Loop::Sum,
        _ => return None,
    })
}
