//! Evaluation of terms whose type is not known before: lists, maps, closures. PURE.
//!
//! The values are [`Item`]s, which have their type at run time; an operation on values of
//! unsuitable types makes the expression fail (`None`).

use super::items::Item;
use super::run::Run;
use crate::config::view::Term;

impl Run<'_> {
    /// Returns the value of `term`.
    pub(super) fn item(&mut self, term: &Term) -> Option<Item> {
        Some(match term {
            Term::Nil => Item::Nil,
            Term::Test(test) => Item::Truth(self.test(test)?),
            Term::Number(number) => Item::Whole(self.number(number)?),
            Term::Real(number) => Item::Fraction(self.real(number)?),
            Term::Text(text) => self.written(text)?,
            Term::Variable(number) => self.scratch.items.variables[*number],
            Term::Let(number, terms) => {
                let value = self.item(&terms[0])?;
                self.scratch.items.set(*number, value);
                self.item(&terms[1])?
            }
            Term::List(terms) => {
                let start = self.scratch.items.reserve(terms.len())?;
                for (place, term) in terms.iter().enumerate() {
                    self.scratch.items.items[start + place] = self.item(term)?;
                }
                Item::List(start, start + terms.len())
            }
            Term::Map(pairs) => {
                let start = self.scratch.items.reserve(2 * pairs.len())?;
                for (place, term) in pairs.iter().flatten().enumerate() {
                    self.scratch.items.items[start + place] = self.item(term)?;
                }
                Item::Map(start, start + 2 * pairs.len())
            }
            Term::If(parts) => {
                let (test, one, other) = &**parts;
                let which = if self.test(test)? { one } else { other };
                self.item(which)?
            }
            Term::Otherwise(terms) => match self.item(&terms[0])? {
                Item::Nil => self.item(&terms[1])?,
                item => item,
            },
            Term::Element(terms, lenient) => {
                let (value, key) = (self.item(&terms[0])?, self.item(&terms[1])?);
                self.element(value, key, *lenient)?
            }
            Term::Slice(terms) => self.slice(&terms[0], &terms[1], &terms[2])?,
            Term::Closure(closure) => self.closure(closure)?,
            Term::Call(function, arguments) => self.call(*function, arguments)?,
        })
    }

    /// Returns true if two values are equal.
    pub(super) fn are_alike(&mut self, one: Item, other: Item) -> Option<bool> {
        self.scratch.items.spend(1)?;
        Some(match (one, other) {
            (Item::Nil, Item::Nil) => true,
            (Item::Truth(one), Item::Truth(other)) => one == other,
            (Item::Whole(one), Item::Whole(other)) => one == other,
            (Item::Whole(whole), Item::Fraction(fraction))
            | (Item::Fraction(fraction), Item::Whole(whole)) => whole as f64 == fraction,
            (Item::Fraction(one), Item::Fraction(other)) => one == other,
            (Item::Text(start, end), Item::Text(place, place_end)) => {
                self.charge((end - start).min(place_end - place))?;
                self.text_of(one)? == self.text_of(other)?
            }
            (Item::List(one, end), Item::List(other, other_end)) => {
                if end - one != other_end - other {
                    return Some(false);
                }
                for place in 0..end - one {
                    let items = &self.scratch.items.items;
                    let (one, other) = (items[one + place], items[other + place]);
                    if !self.are_alike(one, other)? {
                        return Some(false);
                    }
                }
                true
            }
            (Item::Map(one, end), Item::Map(other, other_end)) => {
                if end - one != other_end - other {
                    return Some(false);
                }
                for place in (one..end).step_by(2) {
                    let items = &self.scratch.items.items;
                    let (key, value) = (items[place], items[place + 1]);
                    let found = self.value_of(other, other_end, key)?;
                    let Some(found) = found else { return Some(false) };
                    if !self.are_alike(value, found)? {
                        return Some(false);
                    }
                }
                true
            }
            _ => false,
        })
    }

    /// Returns true if `item` is an element of the list `of`, or a key of the map.
    pub(super) fn is_member(&mut self, item: Item, of: Item) -> Option<bool> {
        let (start, end, step) = match of {
            Item::List(start, end) => (start, end, 1),
            Item::Map(start, end) => (start, end, 2),
            Item::Nil => return Some(false),
            _ => return None,
        };
        Some(self.place_of(item, start, end, step)?.is_some())
    }

    /// Returns the first place from `start` on, in steps of `step`, whose value equals `item`.
    pub(super) fn place_of(
        &mut self,
        item: Item,
        start: usize,
        end: usize,
        step: usize,
    ) -> Option<Option<usize>> {
        for place in (start..end).step_by(step) {
            let found = self.scratch.items.items[place];
            if self.are_alike(item, found)? {
                return Some(Some(place));
            }
        }
        Some(None)
    }

    /// Returns the value of `key` in a map.
    fn value_of(&mut self, start: usize, end: usize, key: Item) -> Option<Option<Item>> {
        // Of several equal keys, the last one applies.
        let mut found = None;
        for place in (start..end).step_by(2) {
            let [known, value] = [0, 1].map(|offset| self.scratch.items.items[place + offset]);
            if self.are_alike(key, known)? {
                found = Some(value);
            }
        }
        Some(found)
    }

    fn element(&mut self, value: Item, key: Item, lenient: bool) -> Option<Item> {
        let found = match (value, key) {
            (Item::List(start, end), Item::Whole(number)) => {
                let place = match usize::try_from(number) {
                    Ok(place) => start.checked_add(place),
                    Err(_) => end.checked_sub(usize::try_from(number.unsigned_abs()).ok()?),
                };
                let place = place.filter(|place| (start..end).contains(place));
                place.map(|place| self.scratch.items.items[place])
            }
            (Item::Map(start, end), key) => {
                return Some(self.value_of(start, end, key)?.unwrap_or(Item::Nil));
            }
            (Item::Nil, _) => None,
            _ => return None,
        };
        found.or(lenient.then_some(Item::Nil))
    }

    fn slice(&mut self, value: &Term, from: &Term, to: &Term) -> Option<Item> {
        let value = self.item(value)?;
        let (start, end) = match value {
            Item::Text(start, end) | Item::List(start, end) => (start, end),
            _ => return None,
        };
        let len = (end - start) as i64;
        let mut place = |term: &Term, otherwise: i64| {
            let place = match self.item(term)? {
                Item::Nil => otherwise,
                Item::Whole(place) if place < 0 => len.saturating_add(place),
                Item::Whole(place) => place,
                _ => return None,
            };
            Some(place.clamp(0, len) as usize)
        };
        let (from, to) = (place(from, 0)?, place(to, len)?);
        let (from, to) = (start + from.min(to), start + to);
        Some(match value {
            Item::Text(..) => Item::Text(from, to),
            _ => Item::List(from, to),
        })
    }

    pub(super) fn list(&mut self, term: &Term) -> Option<(usize, usize)> {
        match self.item(term)? {
            Item::List(start, end) => Some((start, end)),
            _ => None,
        }
    }
}
