//! Values of any type while an expression runs, and the buffer of lists and maps. PURE.
//!
//! Lists and maps are appended to a buffer that the next query reuses; texts have a buffer of their
//! own. The number of elements, and of elements that closures visit, is limited for each
//! expression, which fails beyond the limit.

/// Maximum number of elements of all lists and maps of one expression.
const ITEMS_MAX: usize = 4_096;
/// Maximum number of elements that one expression visits.
const STEPS_MAX: usize = 65_536;

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
    steps: usize,
}

impl Items {
    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.steps = 0;
    }

    /// Counts visited elements; `None` beyond the limit.
    pub(super) fn spend(&mut self, steps: usize) -> Option<()> {
        self.steps = self.steps.saturating_add(steps);
        (self.steps <= STEPS_MAX).then_some(())
    }

    /// Makes room for `count` values and returns the place of the first.
    pub(super) fn reserve(&mut self, count: usize) -> Option<usize> {
        let start = self.items.len();
        let end = start.checked_add(count).filter(|end| *end <= ITEMS_MAX)?;
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

    pub(super) fn set(&mut self, variable: usize, item: Item) {
        if self.variables.len() <= variable {
            self.variables.resize(variable + 1, Item::Nil);
        }
        self.variables[variable] = item;
    }
}
