//! Evaluation of functions of lists, maps, texts and numbers. PURE.
//!
//! The compiler checks those types of arguments that are known when the Corefile is read; at run
//! time an argument of a wrong type makes the expression fail (`None`).

use super::closures::order_of_numbers;
use super::items::Item;
use super::run::{Run, SPLIT, parts};
use crate::config::view::{Function, Term};
use memchr::memmem;

impl Run<'_> {
    pub(super) fn call(&mut self, function: Function, arguments: &[Term]) -> Option<Item> {
        match function {
            Function::Min | Function::Max | Function::Mean | Function::Median => {
                return self.of_numbers(function, arguments);
            }
            Function::Concat => return self.concat(arguments),
            _ => {}
        }
        let first = self.item(arguments.first()?)?;
        let mut rest = [Item::Nil; 2];
        for (item, term) in rest.iter_mut().zip(&arguments[1..]) {
            *item = self.item(term)?;
        }
        match (first, function) {
            (Item::List(start, end), function) => self.of_list(function, start, end, rest[0]),
            (Item::Map(start, end), function) => self.of_map(function, start, end),
            (Item::Text(..), Function::Int | Function::Float | Function::String) => {
                self.converted(function, first)
            }
            (Item::Text(start, end), function) => self.of_text(function, (start, end), rest),
            (Item::Whole(one), Function::Range) => match rest[0] {
                Item::Whole(other) => self.range(one, other),
                _ => None,
            },
            (Item::Whole(one), function) if matches!(rest[0], Item::Whole(_)) => match rest[0] {
                Item::Whole(other) => bits(function, one, other).map(Item::Whole),
                _ => None,
            },
            (first, Function::Int | Function::Float | Function::String) => {
                self.converted(function, first)
            }
            (first, function) => of_number(function, first),
        }
    }

    fn of_list(
        &mut self,
        function: Function,
        start: usize,
        end: usize,
        other: Item,
    ) -> Option<Item> {
        let items = &mut self.scratch.items;
        Some(match function {
            Function::Len => Item::Whole((end - start) as i64),
            Function::First if start == end => Item::Nil,
            Function::First => items.items[start],
            Function::Last if start == end => Item::Nil,
            Function::Last => items.items[end - 1],
            Function::Reverse => {
                let (start, end) = items.copy(start, end)?;
                items.items[start..end].reverse();
                Item::List(start, end)
            }
            Function::Take => match other {
                Item::Whole(count) => {
                    let count = usize::try_from(count).ok()?;
                    Item::List(start, start.saturating_add(count).min(end))
                }
                _ => return None,
            },
            Function::Count => {
                items.spend(end - start)?;
                let found = items.items[start..end].iter();
                let count = found.filter(|item| matches!(item, Item::Truth(true))).count();
                Item::Whole(count as i64)
            }
            Function::Sum => self.sum(start, end)?,
            Function::Sort { descending } => self.sorted(start, end, descending)?,
            Function::Unique => self.unique(start, end)?,
            Function::Flatten => {
                let place = items.items.len();
                items.flatten(start, end)?;
                Item::List(place, items.items.len())
            }
            Function::FromPairs => {
                let place = items.reserve(2 * (end - start))?;
                for number in 0..end - start {
                    match items.items[start + number] {
                        Item::List(pair, behind) if behind == pair + 2 => {
                            items.items.copy_within(pair..behind, place + 2 * number);
                        }
                        _ => return None,
                    }
                }
                Item::Map(place, place + 2 * (end - start))
            }
            Function::Join => self.join(start, end, other)?,
            _ => return None,
        })
    }

    fn of_map(&mut self, function: Function, start: usize, end: usize) -> Option<Item> {
        let items = &mut self.scratch.items;
        let len = (end - start) / 2;
        Some(match function {
            Function::Len => Item::Whole(len as i64),
            Function::Keys | Function::Values => {
                let place = items.reserve(len)?;
                let offset = usize::from(function == Function::Values);
                for number in 0..len {
                    items.items[place + number] = items.items[start + 2 * number + offset];
                }
                Item::List(place, place + len)
            }
            Function::ToPairs => {
                let place = items.reserve(len)?;
                for number in 0..len {
                    let pair = start + 2 * number;
                    items.items[place + number] = Item::List(pair, pair + 2);
                }
                Item::List(place, place + len)
            }
            _ => return None,
        })
    }

    fn unique(&mut self, start: usize, end: usize) -> Option<Item> {
        let kept = self.scratch.items.reserve(end - start)?;
        let mut count = 0;
        for place in start..end {
            let item = self.scratch.items.items[place];
            if self.place_of(item, kept, kept + count, 1)?.is_none() {
                self.scratch.items.items[kept + count] = item;
                count += 1;
            }
        }
        Some(Item::List(kept, kept + count))
    }

    /// Writes the values of terms, one behind the other; returns the place of the first.
    fn values(&mut self, terms: &[Term]) -> Option<usize> {
        let start = self.scratch.items.reserve(terms.len())?;
        for (place, term) in terms.iter().enumerate() {
            self.scratch.items.items[start + place] = self.item(term)?;
        }
        Some(start)
    }

    fn concat(&mut self, lists: &[Term]) -> Option<Item> {
        let start = self.values(lists)?;
        let items = &mut self.scratch.items;
        let place = items.items.len();
        for list in start..start + lists.len() {
            let Item::List(start, end) = items.items[list] else { return None };
            items.copy(start, end)?;
        }
        Some(Item::List(place, items.items.len()))
    }

    fn range(&mut self, first: i64, last: i64) -> Option<Item> {
        let count = match last.checked_sub(first)?.checked_add(1)? {
            count if count <= 0 => 0,
            count => usize::try_from(count).ok()?,
        };
        let place = self.scratch.items.reserve(count)?;
        for (item, number) in self.scratch.items.items[place..].iter_mut().zip(first..) {
            *item = Item::Whole(number);
        }
        Some(Item::List(place, place + count))
    }

    fn of_numbers(&mut self, function: Function, arguments: &[Term]) -> Option<Item> {
        let start = self.values(arguments)?;
        let items = &mut self.scratch.items;
        let place = items.items.len();
        items.flatten(start, start + arguments.len())?;
        if function == Function::Median {
            items.charge_sort(items.items.len() - place, 0)?;
        }
        let found = &mut items.items[place..];
        for item in found.iter() {
            item.real()?;
        }
        match function {
            Function::Min => found.iter().copied().min_by(order_of_numbers),
            Function::Max => found.iter().copied().max_by(order_of_numbers),
            Function::Mean => {
                let sum: f64 = found.iter().filter_map(|item| item.real()).sum();
                Some(Item::Fraction(if found.is_empty() { 0.0 } else { sum / found.len() as f64 }))
            }
            _ => {
                found.sort_unstable_by(order_of_numbers);
                let middle = found.len() / 2;
                let at = |place: usize| found.get(place).and_then(|item| item.real());
                Some(Item::Fraction(match at(middle) {
                    None => 0.0,
                    Some(upper) if found.len() % 2 == 1 => upper,
                    Some(upper) => f64::midpoint(at(middle - 1)?, upper),
                }))
            }
        }
    }

    fn of_text(
        &mut self,
        function: Function,
        (start, end): (usize, usize),
        others: [Item; 2],
    ) -> Option<Item> {
        Some(match function {
            Function::Len => Item::Whole((end - start) as i64),
            Function::Split | Function::SplitAfter => {
                self.split((start, end), others, function == Function::SplitAfter)?
            }
            Function::Trim => {
                let Item::Text(from, to) = others[0] else { return None };
                self.charge(end - start + to - from)?;
                let text = self.scratch.text(start, end);
                let mut set = [false; 256];
                for byte in self.scratch.text(from, to) {
                    set[usize::from(*byte)] = true;
                }
                let is_kept = |byte: &u8| !set[usize::from(*byte)];
                let first = text.iter().position(is_kept).unwrap_or(text.len());
                let behind = text.iter().rposition(is_kept).map_or(first, |last| last + 1);
                Item::Text(start + first, start + behind)
            }
            Function::Repeat => match others[0] {
                Item::Whole(count) => {
                    let count = usize::try_from(count).ok()?;
                    let len = count.checked_mul(end - start)?;
                    let place = self.scratch.room(len)?;
                    // Each copy is as long as the text up to here.
                    let mut written = 0;
                    while written < len {
                        let from = if written == 0 { start } else { place };
                        let more = written.max(end - start).min(len - written);
                        self.scratch.append(from, from + more);
                        written += more;
                    }
                    Item::Text(place, place + len)
                }
                _ => return None,
            },
            Function::Replace => self.replace((start, end), others)?,
            _ => return None,
        })
    }

    fn split(
        &mut self,
        (start, end): (usize, usize),
        others: [Item; 2],
        with_separator: bool,
    ) -> Option<Item> {
        let (from, to) = match others[0] {
            Item::Text(from, to) if from < to => (from, to),
            _ => return None,
        };
        let most = match others[1] {
            Item::Whole(most) => usize::try_from(most).unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        self.charge(SPLIT * (end - start) + to - from)?;
        let (text, separator) = (self.scratch.text(start, end), self.scratch.text(from, to));
        let count = parts(text, separator).count().min(most);
        let place = self.scratch.items.reserve(count)?;
        let mut next = start;
        for number in 0..count {
            let rest = self.scratch.text(next, end);
            let separator = self.scratch.text(from, to);
            let found = memmem::find(rest, separator).filter(|_| number + 1 < count);
            let part = match found {
                Some(len) if with_separator => Item::Text(next, next + len + to - from),
                Some(len) => Item::Text(next, next + len),
                None => Item::Text(next, end),
            };
            self.scratch.items.items[place + number] = part;
            next += found.map_or(0, |len| len + to - from);
        }
        Some(Item::List(place, place + count))
    }

    fn replace(&mut self, (start, end): (usize, usize), others: [Item; 2]) -> Option<Item> {
        let [Item::Text(from, to), Item::Text(by, by_end)] = others else { return None };
        if from == to {
            return None;
        }
        self.charge(SPLIT * (end - start) + to - from)?;
        let place = self.scratch.room(0)?;
        let mut next = start;
        while let Some(len) =
            memmem::find(self.scratch.text(next, end), self.scratch.text(from, to))
        {
            self.scratch.room(len + by_end - by)?;
            self.scratch.append(next, next + len);
            self.scratch.append(by, by_end);
            next += len + to - from;
        }
        self.scratch.room(end - next)?;
        self.scratch.append(next, end);
        Some(Item::Text(place, self.scratch.room(0)?))
    }

    fn join(&mut self, start: usize, end: usize, separator: Item) -> Option<Item> {
        let place = self.scratch.room(0)?;
        self.scratch.items.spend(end - start)?;
        for number in start..end {
            if let (Item::Text(from, to), true) = (separator, number > start) {
                self.scratch.room(to - from)?;
                self.scratch.append(from, to);
            }
            let Item::Text(from, to) = self.scratch.items.items[number] else { return None };
            self.scratch.room(to - from)?;
            self.scratch.append(from, to);
        }
        Some(Item::Text(place, self.scratch.room(0)?))
    }

    /// Converts a value to another type.
    fn converted(&mut self, function: Function, item: Item) -> Option<Item> {
        if let Item::Text(start, end) = item {
            self.charge(end - start)?;
        }
        Some(match (function, item) {
            (Function::String, Item::Text(..)) => item,
            (Function::String, Item::Whole(number)) => self.formatted(format_args!("{number}"))?,
            (Function::String, Item::Fraction(number)) => {
                self.formatted(format_args!("{number}"))?
            }
            (Function::String, Item::Truth(truth)) => self.formatted(format_args!("{truth}"))?,
            (Function::Int, Item::Whole(_)) => item,
            (Function::Int, Item::Fraction(number)) => Item::Whole(number as i64),
            (Function::Int, Item::Text(..)) => {
                Item::Whole(std::str::from_utf8(self.text_of(item)?).ok()?.parse().ok()?)
            }
            (Function::Float, Item::Whole(number)) => Item::Fraction(number as f64),
            (Function::Float, Item::Fraction(_)) => item,
            (Function::Float, Item::Text(..)) => {
                Item::Fraction(std::str::from_utf8(self.text_of(item)?).ok()?.parse().ok()?)
            }
            _ => return None,
        })
    }
}

fn of_number(function: Function, number: Item) -> Option<Item> {
    Some(match (function, number) {
        (Function::Abs, Item::Whole(number)) => Item::Whole(number.wrapping_abs()),
        (Function::Not, Item::Whole(number)) => Item::Whole(!number),
        (Function::Abs, Item::Fraction(number)) => Item::Fraction(number.abs()),
        (Function::Ceil, number) => Item::Fraction(number.real()?.ceil()),
        (Function::Floor, number) => Item::Fraction(number.real()?.floor()),
        (Function::Round, number) => Item::Fraction(number.real()?.round()),
        _ => return None,
    })
}

fn bits(function: Function, one: i64, other: i64) -> Option<i64> {
    let shift = u32::try_from(other).ok();
    Some(match function {
        Function::And => one & other,
        Function::Or => one | other,
        Function::Xor => one ^ other,
        Function::AndNot => one & !other,
        Function::Left => one.checked_shl(shift?).unwrap_or(0),
        Function::Right => one >> shift?.min(63),
        Function::UnsignedRight => (one as u64).checked_shr(shift?).unwrap_or(0) as i64,
        _ => return None,
    })
}
