//! Compiled form of expressions: trees whose types are right, without names or text to parse.
//!
//! The engine runs them once for each query and view. Texts are compared as bytes. What fails
//! while it runs (an address that is none, a part that is not there) makes its whole expression
//! false. The compiler knows the types of most values; those of any type ([`Term`]) are looked at
//! by the engine. All of it is one grammar, because each type can occur within each other.

use super::super::super::Name;
use super::super::super::net::Nets;
use super::super::template::Pattern;

/// Elements of all lists and maps of one view, at a time.
pub(crate) const ELEMENTS_MAX: usize = 4_096;

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Test {
    /// The same for every query.
    Always(bool),
    /// The opposite.
    Not(Box<Test>),
    /// Each of them holds, looked at in this order.
    All(Vec<Test>),
    /// One of them holds.
    Any(Vec<Test>),
    /// The second or the third, as the first says.
    If(Box<[Test; 3]>),
    /// The client wants DNSSEC records.
    DnssecOk,
    /// The client's address is one of these.
    ClientIn(Nets),
    /// A text is an address and one of these.
    AddressIn(Text, Nets),
    /// A text is an address in the network that the other one is.
    AddressInText(Text, Text),
    /// The type asked for is one of these, which are sorted.
    TypeIn(Vec<u16>),
    /// Two truth values are equal.
    Same(Box<[Test; 2]>),
    /// Two numbers compare so.
    Numbers(Order, Number, Number),
    /// Two fractions compare so; one that is no number compares with none.
    Fractions(Order, Real, Real),
    /// Two texts compare so, byte by byte.
    Texts(Order, Text, Text),
    NumberIn(Number, Vec<i64>),
    /// A number is within these bounds.
    NumberWithin(Number, i64, i64),
    /// A text is one of these.
    TextIn(Text, Vec<Text>),
    /// A text is one of the parts of another, between separators.
    PartOf(Text, Text, String),
    /// The first text has the second in this place.
    Has(Place, Text, Text),
    Matches(Text, Pattern),
    /// Two values are equal.
    Alike(Box<[Term; 2]>),
    /// The first value is an element of the second, or a key of it.
    Member(Box<[Term; 2]>),
    /// A value is a truth value, and true.
    Of(Box<Term>),
}

/// Order of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Order {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// Place of a text within another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// Anywhere.
    Within,
    /// The beginning.
    AtStart,
    AtEnd,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Number {
    /// The same for every query.
    Fixed(i64),
    /// Bytes of the query.
    Size,
    /// The query's id.
    Id,
    /// Opcode of the query.
    Opcode,
    /// Bytes of a reply that its client takes.
    BufferSize,
    /// Bytes of a text.
    Len(Text),
    /// Parts of a text between separators.
    Parts(Text, String),
    /// First or last place of a text within another; -1: none.
    IndexOf(Text, Text, bool),
    /// Of two numbers; what does not fit 64 bits wraps around.
    Calculated(Arithmetic, Box<[Number; 2]>),
    /// The first or the second, as the condition says.
    If(Box<(Test, Number, Number)>),
    /// A value that is a whole number.
    Of(Box<Term>),
}

/// A number with a fraction, of 64 bits: its bits, so that it can be compared and hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fraction(u64);

impl Fraction {
    /// The number as it is compared.
    pub(crate) fn new(number: f64) -> Self {
        Self(number.to_bits())
    }

    pub(crate) fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// A number that may have a fraction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Real {
    /// The same for every query.
    Fixed(Fraction),
    Whole(Number),
    /// Of two numbers.
    Calculated(RealArithmetic, Box<[Real; 2]>),
    /// The first or the second, as the condition says.
    If(Box<(Test, Real, Real)>),
    /// A value that is a number.
    Of(Box<Term>),
}

/// Arithmetic operation whose result may have a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RealArithmetic {
    /// `+`
    Plus,
    /// `-`
    Minus,
    /// `*`
    Times,
    /// `/`
    Divided,
    /// `**` or `^`
    Power,
}

impl RealArithmetic {
    /// The operation with this operator, if it is one of these.
    pub(super) fn parse(operator: &str) -> Option<Self> {
        Some(match operator {
            "+" => Self::Plus,
            "-" => Self::Minus,
            "*" => Self::Times,
            "/" => Self::Divided,
            "**" => Self::Power,
            _ => return None,
        })
    }

    /// Returns the result, which is infinite or no number where there is none.
    pub(crate) fn of(self, one: f64, other: f64) -> f64 {
        match self {
            Self::Plus => one + other,
            Self::Minus => one - other,
            Self::Times => one * other,
            Self::Divided => one / other,
            Self::Power => one.powf(other),
        }
    }
}

/// Arithmetic operation on two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Arithmetic {
    /// `+`
    Plus,
    /// `-`
    Minus,
    /// `*`
    Times,
    /// `%`; fails if the second is zero.
    Modulo,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Text {
    /// The same for every query.
    Fixed(String),
    /// The name asked for, in lower case, with its last dot.
    Name,
    /// The mnemonic of the type asked for.
    Type,
    /// The mnemonic of the class asked for.
    Class,
    /// `udp` or `tcp`.
    Protocol,
    /// The client's address, of IPv6 without brackets.
    ClientAddress,
    /// The client's port.
    ClientPort,
    /// The address that was asked.
    ServerAddress,
    /// The port that was asked.
    ServerPort,
    /// A text for names at or below these, an empty one for all others.
    Label(Vec<Name>, String),
    /// In lower or in capital letters, those beyond ASCII left alone.
    Cased(Box<Text>, bool),
    /// Without space at its ends.
    Trimmed(Box<Text>),
    /// Without the second at its start or at its end, if it is there.
    Without(Place, Box<[Text; 2]>),
    /// One behind the other.
    Joined(Box<[Text; 2]>),
    /// The part with this number between separators; negative numbers count from the end. Fails
    /// if there is none.
    Part(Box<Text>, String, i64),
    /// The first or the second, as the condition says.
    If(Box<(Test, Text, Text)>),
    /// A value that is a text.
    Of(Box<Term>),
}

/// A value of any type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Term {
    /// No value.
    Nil,
    /// A truth value.
    Test(Test),
    /// A whole number.
    Number(Number),
    /// A number that may have a fraction.
    Real(Real),
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
    /// Result of a closure over a list.
    Closure(Box<Closure>),
    /// Result of a function.
    Call(Function, Vec<Term>),
}

/// A function that looks at each element of a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Closure {
    /// The function.
    pub(crate) what: Loop,
    /// Number of the variable that is the element; the next one is its place in the list, and the
    /// one behind that the result of [`Loop::Reduce`] up to here.
    pub(crate) variable: usize,
    pub(crate) list: Term,
    /// Expression that is evaluated for each element.
    pub(crate) body: Term,
    /// Steps of work that each element costs, by the size of `body`.
    pub(crate) steps: usize,
    /// The first result of [`Loop::Reduce`], if it is not the first element.
    pub(crate) first: Option<Term>,
}

/// Result of a closure, computed from its results for the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Loop {
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
pub(crate) enum Function {
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
    Sum,
    /// Number of elements that are true.
    Count,
    /// The least number.
    Min,
    /// The greatest number.
    Max,
    Mean,
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

impl Order {
    /// Returns true if it holds for two values that compare so.
    pub(crate) fn holds(self, found: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => found.is_eq(),
            Self::Unequal => found.is_ne(),
            Self::Less => found.is_lt(),
            Self::AtMost => found.is_le(),
            Self::Greater => found.is_gt(),
            Self::AtLeast => found.is_ge(),
        }
    }
}

impl Order {
    /// The order with this operator, if it is one of these.
    pub(super) fn parse(operator: &str) -> Option<Self> {
        Some(match operator {
            "==" => Self::Equal,
            "!=" => Self::Unequal,
            "<" => Self::Less,
            "<=" => Self::AtMost,
            ">" => Self::Greater,
            ">=" => Self::AtLeast,
            _ => return None,
        })
    }

    /// Returns true if it holds for two fractions; one that is no number differs from all.
    pub(crate) fn holds_of(self, one: f64, other: f64) -> bool {
        match one.partial_cmp(&other) {
            Some(found) => self.holds(found),
            None => self == Self::Unequal,
        }
    }
}

impl Place {
    /// The place that this operator looks at, if it is one of these.
    pub(super) fn parse(operator: &str) -> Option<Self> {
        Some(match operator {
            "contains" => Self::Within,
            "startsWith" => Self::AtStart,
            "endsWith" => Self::AtEnd,
            _ => return None,
        })
    }
}

impl Arithmetic {
    /// The operation with this operator, if it is one of these.
    pub(super) fn parse(operator: &str) -> Option<Self> {
        Some(match operator {
            "+" => Self::Plus,
            "-" => Self::Minus,
            "*" => Self::Times,
            "%" => Self::Modulo,
            _ => return None,
        })
    }

    /// Returns the result; `None`: there is none.
    pub(crate) fn of(self, one: i64, other: i64) -> Option<i64> {
        match self {
            Self::Plus => Some(one.wrapping_add(other)),
            Self::Minus => Some(one.wrapping_sub(other)),
            Self::Times => Some(one.wrapping_mul(other)),
            Self::Modulo => (other != 0).then(|| one.wrapping_rem(other)),
        }
    }
}
