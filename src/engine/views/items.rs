//! Values of any type while an expression runs, and the buffer of lists and maps. PURE.
//!
//! Lists and maps are appended to a buffer that the next query reuses; texts have a buffer of their
//! own. The number of elements is limited for each view, and the work for each query: an expression
//! fails beyond a limit.

use crate::config::view::ELEMENTS_MAX;

/// Steps of work for one query, in all views that it is compared with: elements that are visited,
/// texts that are read or written. A step takes some ten nanoseconds.
pub(super) const STEPS_MAX: usize = 262_144;
/// Bytes of text that one step reads or writes.
const STEP_BYTES: usize = 64;

/// A value with its type.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item {
    Nil,
    Truth(bool),
    Whole(i64),
    Fraction(f64),
    /// Text: range in the buffer of texts.
    Text(usize, usize),
    /// List: range in the buffer of elements.
    List(usize, usize),
    /// Map: range in the buffer of elements, with alternating keys and values.
    Map(usize, usize),
}

impl Item {
    /// Returns the value as a number.
    pub(super) fn real(self) -> Option<f64> {
        match self {
            Self::Whole(number) => Some(number as f64),
            Self::Fraction(number) => Some(number),
            _ => None,
        }
    }
}

/// Buffer for values.
#[derive(Default)]
pub(super) struct Items {
    pub(super) items: Vec<Item>,
    pub(super) variables: Vec<Item>,
    /// Steps that the query has left.
    pub(super) steps: usize,
}

impl Items {
    /// Releases the values; `steps`: steps that the query has left.
    pub(super) fn clear(&mut self, steps: usize) {
        self.items.clear();
        self.steps = steps;
    }

    /// Takes steps before their work is done; `None` if too few are left.
    pub(super) fn spend(&mut self, steps: usize) -> Option<()> {
        self.steps = self.steps.checked_sub(steps)?;
        Some(())
    }

    /// Takes the steps of work on `bytes` bytes of text.
    pub(super) fn charge(&mut self, bytes: usize) -> Option<()> {
        self.spend(bytes / STEP_BYTES)
    }

    /// Takes the steps of sorting `count` values, texts of `bytes` bytes.
    pub(super) fn charge_sort(&mut self, count: usize, bytes: usize) -> Option<()> {
        let depth = count.checked_ilog2().map_or(0, |log| log as usize + 1);
        self.spend((count + bytes / STEP_BYTES).saturating_mul(depth))
    }

    /// Makes room for `count` values and returns the place of the first.
    pub(super) fn reserve(&mut self, count: usize) -> Option<usize> {
        let start = self.items.len();
        let end = start.checked_add(count).filter(|end| *end <= ELEMENTS_MAX)?;
        self.spend(count)?;
        self.items.resize(end, Item::Nil);
        Some(start)
    }

    /// Appends copies of these values.
    pub(super) fn copy(&mut self, start: usize, end: usize) -> Option<(usize, usize)> {
        let place = self.reserve(end - start)?;
        self.items.copy_within(start..end, place);
        Some((place, place + end - start))
    }

    /// Appends the elements of a list, and of the lists in it.
    pub(super) fn flatten(&mut self, start: usize, end: usize) -> Option<()> {
        for place in start..end {
            self.spend(1)?;
            match self.items[place] {
                Item::List(start, end) => self.flatten(start, end)?,
                item => {
                    let place = self.reserve(1)?;
                    self.items[place] = item;
                }
            }
        }
        Some(())
    }

    pub(super) fn set(&mut self, variable: usize, item: Item) {
        if self.variables.len() <= variable {
            self.variables.resize(variable + 1, Item::Nil);
        }
        self.variables[variable] = item;
    }
}
