//! Evaluation of closures over the elements of a list. PURE.
//!
//! The element is a variable while its result is computed. Memory used by a test is released after
//! each element, so that a long list needs no more than a short one.

use super::items::Item;
use super::run::Run;
use crate::config::view::{Closure, Loop, Term};
use std::cmp::Ordering;

impl Run<'_> {
    pub(super) fn closure(&mut self, closure: &Closure) -> Option<Item> {
        let Closure { what, variable, list, body, first } = closure;
        let (start, end) = self.list(list)?;
        match what {
            Loop::Reduce => return self.reduce((start, end), *variable, body, first.as_ref()),
            Loop::GroupBy => return self.group((start, end), *variable, body),
            Loop::SortBy { descending } => {
                return self.sort_by((start, end), *variable, body, *descending);
            }
            Loop::Map => {
                let place = self.results((start, end), *variable, body)?;
                return Some(Item::List(place, place + end - start));
            }
            Loop::Sum => {
                let place = self.results((start, end), *variable, body)?;
                return self.sum(place, place + end - start);
            }
            _ => {}
        }
        let kept =
            if *what == Loop::Filter { self.scratch.items.reserve(end - start)? } else { 0 };
        let from_end = matches!(what, Loop::Find { last: true } | Loop::FindIndex { last: true });
        let mut count = 0;
        for number in 0..end - start {
            let number = if from_end { end - start - 1 - number } else { number };
            let element = self.scratch.items.items[start + number];
            let holds = self.holds(*variable, start + number, number, body)?;
            match what {
                Loop::All if !holds => return Some(Item::Truth(false)),
                Loop::Any if holds => return Some(Item::Truth(true)),
                Loop::None if holds => return Some(Item::Truth(false)),
                Loop::Find { .. } if holds => return Some(element),
                Loop::FindIndex { .. } if holds => return Some(Item::Whole(number as i64)),
                Loop::Filter if holds => self.scratch.items.items[kept + count] = element,
                _ => {}
            }
            count += usize::from(holds);
        }
        Some(match what {
            Loop::All | Loop::None => Item::Truth(true),
            Loop::One => Item::Truth(count == 1),
            Loop::Count => Item::Whole(count as i64),
            Loop::Filter => Item::List(kept, kept + count),
            Loop::Find { .. } => Item::Nil,
            Loop::FindIndex { .. } => Item::Whole(-1),
            _ => Item::Truth(false),
        })
    }

    /// Returns the value of `body` for an element.
    fn result(
        &mut self,
        variable: usize,
        place: usize,
        number: usize,
        body: &Term,
    ) -> Option<Item> {
        let items = &mut self.scratch.items;
        items.spend(1)?;
        let element = items.items[place];
        items.set(variable, element);
        items.set(variable + 1, Item::Whole(number as i64));
        self.item(body)
    }

    /// Returns true if `body` is true for an element. Memory used meanwhile is released.
    fn holds(&mut self, variable: usize, place: usize, number: usize, body: &Term) -> Option<bool> {
        let mark = self.scratch.mark();
        let result = self.result(variable, place, number, body)?;
        self.scratch.release(mark);
        match result {
            Item::Truth(holds) => Some(holds),
            _ => None,
        }
    }

    /// Writes the results for all elements; returns the place of the first.
    fn results(
        &mut self,
        (start, end): (usize, usize),
        variable: usize,
        body: &Term,
    ) -> Option<usize> {
        let results = self.scratch.items.reserve(end - start)?;
        for number in 0..end - start {
            let result = self.result(variable, start + number, number, body)?;
            self.scratch.items.items[results + number] = result;
        }
        Some(results)
    }

    fn reduce(
        &mut self,
        (mut start, end): (usize, usize),
        variable: usize,
        body: &Term,
        first: Option<&Term>,
    ) -> Option<Item> {
        let begin = start;
        let mut sum = match first {
            Some(first) => self.item(first)?,
            None if start < end => {
                start += 1;
                self.scratch.items.items[start - 1]
            }
            None => return None,
        };
        for place in start..end {
            self.scratch.items.set(variable + 2, sum);
            sum = self.result(variable, place, place - begin, body)?;
        }
        Some(sum)
    }

    fn group(
        &mut self,
        (start, end): (usize, usize),
        variable: usize,
        body: &Term,
    ) -> Option<Item> {
        let len = end - start;
        let keys = self.results((start, end), variable, body)?;
        let pairs = self.scratch.items.reserve(2 * len)?;
        let mut count = 0;
        for number in 0..len {
            let key = self.scratch.items.items[keys + number];
            if self.place_of(key, pairs, pairs + count, 2)?.is_some() {
                continue;
            }
            let group = self.scratch.items.reserve(len - number)?;
            let mut members = 0;
            for other in number..len {
                let items = &self.scratch.items.items;
                let (other_key, element) = (items[keys + other], items[start + other]);
                if self.are_alike(key, other_key)? {
                    self.scratch.items.items[group + members] = element;
                    members += 1;
                }
            }
            self.scratch.items.items.truncate(group + members);
            self.scratch.items.items[pairs + count] = key;
            self.scratch.items.items[pairs + count + 1] = Item::List(group, group + members);
            count += 2;
        }
        Some(Item::Map(pairs, pairs + count))
    }

    fn sort_by(
        &mut self,
        (start, end): (usize, usize),
        variable: usize,
        body: &Term,
        descending: bool,
    ) -> Option<Item> {
        let len = end - start;
        let keys = self.results((start, end), variable, body)?;
        let pairs = self.scratch.items.reserve(2 * len)?;
        let items = &mut self.scratch.items.items;
        for number in 0..len {
            items[pairs + 2 * number] = items[keys + number];
            items[pairs + 2 * number + 1] = items[start + number];
        }
        self.sort_pairs(pairs, len, descending)?;
        let items = &mut self.scratch.items.items;
        for number in 0..len {
            items[keys + number] = items[pairs + 2 * number + 1];
        }
        Some(Item::List(keys, keys + len))
    }

    /// Sorts pairs by their first halves.
    fn sort_pairs(&mut self, start: usize, len: usize, descending: bool) -> Option<()> {
        let (items, bytes) = self.scratch.items_and_bytes();
        let pairs = items.get_mut(start..start + 2 * len)?.as_chunks_mut::<2>().0;
        let mut are_comparable = true;
        pairs.sort_unstable_by(|[one, _], [other, _]| {
            let order = compared(bytes, *one, *other).unwrap_or_else(|| {
                are_comparable = false;
                Ordering::Equal
            });
            if descending { order.reverse() } else { order }
        });
        are_comparable.then_some(())
    }

    /// Returns a sorted copy of a list.
    pub(super) fn sorted(&mut self, start: usize, end: usize, descending: bool) -> Option<Item> {
        let len = end - start;
        let pairs = self.scratch.items.reserve(2 * len)?;
        let items = &mut self.scratch.items.items;
        for number in 0..len {
            let item = items[start + number];
            items[pairs + 2 * number..][..2].fill(item);
        }
        self.sort_pairs(pairs, len, descending)?;
        let items = &mut self.scratch.items.items;
        for number in 0..len {
            items[pairs + number] = items[pairs + 2 * number];
        }
        Some(Item::List(pairs, pairs + len))
    }

    /// Sum of numbers.
    pub(super) fn sum(&self, start: usize, end: usize) -> Option<Item> {
        let mut sum = Item::Whole(0);
        for item in &self.scratch.items.items[start..end] {
            sum = match (sum, *item) {
                (Item::Whole(sum), Item::Whole(number)) => Item::Whole(sum.wrapping_add(number)),
                (sum, number) => Item::Fraction(sum.real()? + number.real()?),
            };
        }
        Some(sum)
    }
}

/// Compares two numbers or texts; `None`: they have no order.
pub(super) fn compared(bytes: &[u8], one: Item, other: Item) -> Option<Ordering> {
    match (one, other) {
        (Item::Whole(one), Item::Whole(other)) => Some(one.cmp(&other)),
        (Item::Text(one, end), Item::Text(other, other_end)) => {
            Some(bytes[one..end].cmp(&bytes[other..other_end]))
        }
        (one, other) => Some(one.real()?.total_cmp(&other.real()?)),
    }
}
