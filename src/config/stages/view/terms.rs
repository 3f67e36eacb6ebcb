//! Compiled form of values of any type: lists, maps, values that may be missing, and functions of
//! them.
//!
//! The compiler knows the types of most of them; where it does not, the engine looks at what it
//! finds, and what does not go together makes the whole expression false.

use super::program::{Number, Real, Test, Text};

/// A value of any type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Term {
    /// No value.
    Nil,
    /// A truth value.
    Test(Test),
    /// A whole number.
    Number(Number),
    /// A number that may have a fraction.
    Real(Real),
    /// A text.
    Text(Text),
    /// A value that was computed before, by its number.
    Variable(usize),
    /// The first gets this number while the second is computed.
    Let(usize, Box<[Term; 2]>),
    /// Values in this order.
    List(Vec<Term>),
    /// Keys with their values.
    Map(Vec<[Term; 2]>),
    /// The first or the second, as the condition says.
    If(Box<(Test, Term, Term)>),
    /// The first, or the second if the first is no value.
    Otherwise(Box<[Term; 2]>),
    /// Element of the first with the number or key that the second is. Fails if a list has none of
    /// this number, or is no value; it is no value instead if the flag is set.
    Element(Box<[Term; 2]>, bool),
    /// Part of a text or list from one place to another; without them, from its start or to its
    /// end. Negative places count from the end.
    Slice(Box<[Term; 3]>),
    /// What a closure makes of a list.
    Closure(Box<Closure>),
    /// Result of a function.
    Call(Function, Vec<Term>),
}

/// A function that looks at each element of a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Closure {
    /// The function.
    pub what: Loop,
    /// Number of the variable that is the element; the next one is its place in the list, and the
    /// one behind that the result of [`Loop::Reduce`] up to here.
    pub variable: usize,
    /// The list.
    pub list: Term,
    /// What is computed of each element.
    pub body: Term,
    /// The first result of [`Loop::Reduce`], if it is not the first element.
    pub first: Option<Term>,
}

/// What a closure does with its results for elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loop {
    /// Each is true.
    All,
    /// One is true.
    Any,
    /// None is true.
    None,
    /// Exactly one is true.
    One,
    /// Number of those that are true.
    Count,
    /// Elements for which it is true.
    Filter,
    /// The results.
    Map,
    /// First or last element for which it is true; no value if there is none.
    Find {
        /// The last.
        last: bool,
    },
    /// Place of the first or last element for which it is true; -1 if there is none.
    FindIndex {
        /// The last.
        last: bool,
    },
    /// Sum of the results.
    Sum,
    /// Map from each result to the elements that have it.
    GroupBy,
    /// The elements, in the order of the results.
    SortBy {
        /// The greatest result comes first.
        descending: bool,
    },
    /// The last result; each sees the one before.
    Reduce,
}

/// A function of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// Number of elements, keys or bytes.
    Len,
    /// First element, or no value.
    First,
    /// Last element, or no value.
    Last,
    /// Keys of a map.
    Keys,
    /// Values of a map.
    Values,
    /// Pairs of keys and values.
    ToPairs,
    /// A map of pairs.
    FromPairs,
    /// Elements from the last to the first.
    Reverse,
    /// Elements of all lists.
    Concat,
    /// Elements, each once.
    Unique,
    /// Elements in order.
    Sort {
        /// The greatest comes first.
        descending: bool,
    },
    /// The first elements.
    Take,
    /// Elements of lists within lists.
    Flatten,
    /// Whole numbers from one to another, both included.
    Range,
    /// Sum of numbers.
    Sum,
    /// Number of elements that are true.
    Count,
    /// The least number.
    Min,
    /// The greatest number.
    Max,
    /// Mean of numbers.
    Mean,
    /// Median of numbers.
    Median,
    /// Parts of a text between separators, at most as many as the third says.
    Split,
    /// The same, each with its separator.
    SplitAfter,
    /// Texts with a separator between them.
    Join,
    /// A text without these characters at its ends.
    Trim,
    /// A text with each part like the second replaced by the third.
    Replace,
    /// A text several times.
    Repeat,
    /// A number without its sign.
    Abs,
    /// The next whole number above.
    Ceil,
    /// The next whole number below.
    Floor,
    /// The nearest whole number.
    Round,
    /// The whole number that a text or another number is.
    Int,
    /// The number that a text or another number is.
    Float,
    /// A value as text.
    String,
    /// Bits of both.
    And,
    /// Bits of either.
    Or,
    /// Bits of one of the two.
    Xor,
    /// Bits of the first that the second has not.
    AndNot,
    /// All other bits.
    Not,
    /// Bits shifted to the left.
    Left,
    /// Bits shifted to the right, with the sign.
    Right,
    /// Bits shifted to the right.
    UnsignedRight,
}
