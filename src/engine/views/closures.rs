//! Evaluation of closures over the elements of a list. PURE.
//!
//! The element is a variable while its result is computed. Memory used by a test is released after
//! each element, so that a long list needs no more than a short one.

use super::items::Item;
use super::run::Run;
use crate::config::view::{Closure, Loop};
use std::cmp::Ordering;

impl Run<'_> {
    pub(super) fn closure(&mut self, closure: &Closure) -> Option<Item> {
        let Closure { what, list, .. } = closure;
        let (start, end) = self.list(list)?;
        match what {
            Loop::Reduce => return self.reduce((start, end), closure),
            Loop::GroupBy => return self.group((start, end), closure),
            Loop::SortBy { descending } => {
                return self.sort_by((start, end), closure, *descending);
            }
            Loop::Map => {
                let place = self.results((start, end), closure)?;
                return Some(Item::List(place, place + end - start));
            }
            Loop::Sum => {
                let place = self.results((start, end), closure)?;
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
            let holds = self.holds(closure, start + number, number)?;
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

    /// Returns the value of the closure's body for an element.
    fn result(&mut self, closure: &Closure, place: usize, number: usize) -> Option<Item> {
        let Closure { variable, body, steps, .. } = closure;
        let items = &mut self.scratch.items;
        items.spend(*steps)?;
        let element = items.items[place];
        items.set(*variable, element);
        items.set(variable + 1, Item::Whole(number as i64));
        self.item(body)
    }

    /// Returns true if the body is true for an element. Memory used meanwhile is released.
    fn holds(&mut self, closure: &Closure, place: usize, number: usize) -> Option<bool> {
        let mark = self.scratch.mark();
        let result = self.result(closure, place, number)?;
        self.scratch.release(mark);
        match result {
            Item::Truth(holds) => Some(holds),
            _ => None,
        }
    }

    /// Writes the results for all elements; returns the place of the first.
    fn results(&mut self, (start, end): (usize, usize), closure: &Closure) -> Option<usize> {
        let results = self.scratch.items.reserve(end - start)?;
        for number in 0..end - start {
            let result = self.result(closure, start + number, number)?;
            self.scratch.items.items[results + number] = result;
        }
        Some(results)
    }

    fn reduce(&mut self, (mut start, end): (usize, usize), closure: &Closure) -> Option<Item> {
        let begin = start;
        let mut sum = match &closure.first {
            Some(first) => self.item(first)?,
            None if start < end => {
                start += 1;
                self.scratch.items.items[start - 1]
            }
            None => return None,
        };
        for place in start..end {
            self.scratch.items.set(closure.variable + 2, sum);
            sum = self.result(closure, place, place - begin)?;
        }
        Some(sum)
    }

    fn group(&mut self, (start, end): (usize, usize), closure: &Closure) -> Option<Item> {
        let len = end - start;
        let keys = self.results((start, end), closure)?;
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
        closure: &Closure,
        descending: bool,
    ) -> Option<Item> {
        let len = end - start;
        let keys = self.results((start, end), closure)?;
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

    /// Sorts pairs by their first halves: all numbers or all texts, as others have no order.
    fn sort_pairs(&mut self, start: usize, len: usize, descending: bool) -> Option<()> {
        let keys = self.scratch.items.items.get(start..start + 2 * len)?.iter().step_by(2);
        let (mut numbers, mut texts, mut bytes) = (0, 0, 0);
        for key in keys {
            match *key {
                Item::Whole(_) | Item::Fraction(_) => numbers += 1,
                Item::Text(from, to) => {
                    texts += 1;
                    bytes += to - from;
                }
                _ => return None,
            }
        }
        if numbers > 0 && texts > 0 {
            return None;
        }
        self.scratch.items.charge_sort(len, bytes)?;
        let (items, bytes) = self.scratch.items_and_bytes();
        let pairs = items.get_mut(start..start + 2 * len)?.as_chunks_mut::<2>().0;
        let text = |item: &Item| match *item {
            Item::Text(start, end) => &bytes[start..end],
            _ => &[],
        };
        pairs.sort_unstable_by(|[one, _], [other, _]| {
            let order = match texts {
                0 => order_of_numbers(one, other),
                _ => text(one).cmp(text(other)),
            };
            if descending { order.reverse() } else { order }
        });
        Some(())
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

    pub(super) fn sum(&mut self, start: usize, end: usize) -> Option<Item> {
        self.scratch.items.spend(end - start)?;
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

/// Total order of numbers by their exact values: a whole number is not rounded to a fraction.
pub(super) fn order_of_numbers(one: &Item, other: &Item) -> Ordering {
    match (*one, *other) {
        (Item::Whole(one), Item::Whole(other)) => one.cmp(&other),
        (Item::Whole(whole), Item::Fraction(fraction)) => order_of_whole(whole, fraction),
        (Item::Fraction(fraction), Item::Whole(whole)) => order_of_whole(whole, fraction).reverse(),
        (one, other) => {
            let real = |item: Item| item.real().unwrap_or(f64::NAN);
            real(one).total_cmp(&real(other))
        }
    }
}

/// Order of a whole number and a fraction, which may be no number or negative zero.
fn order_of_whole(whole: i64, fraction: f64) -> Ordering {
    /// The least fraction above all whole numbers.
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if fraction.is_nan() || fraction >= BEYOND {
        return 0.0_f64.total_cmp(&fraction);
    }
    // Rounded towards zero, which changes no fraction of 2^53 or more.
    whole.cmp(&(fraction as i64)).then_with(|| (whole as f64).total_cmp(&fraction))
}
