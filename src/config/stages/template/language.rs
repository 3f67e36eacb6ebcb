//! The language of templates: text, and values between `{{` and `}}`.
//!
//! A restricted form of the reference's: fields of the query, groups of the pattern that matched,
//! and `parseInt`. No variables, comparisons, pipelines or loops, so that a template costs what it
//! writes. All else is an error when the Corefile is read, with the column of the text.

use std::fmt;

/// Bytes of a template's text.
pub(crate) const TEXT_MAX: usize = 8_192;
/// Values nested in each other.
const DEPTH_MAX: usize = 8;

/// A template that can be rendered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Text {
    /// As it was written.
    pub(crate) source: String,
    /// Parts of the text.
    pub(crate) parts: Vec<Part>,
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// Copied as it is.
    Text(String),
    /// Differs from query to query.
    Value(Value),
}

/// A value that a query gives a template.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    /// The name asked for, in lower case.
    Name,
    /// The mnemonic of the type asked for.
    Type,
    /// The mnemonic of the class asked for.
    Class,
    /// The zone of the template that the name belongs to.
    Zone,
    /// The client's address.
    Remote,
    /// A group of the pattern by its number; 0 is all that matched.
    Match(usize),
    /// A group by its name, or by its number in digits.
    Group(String),
    /// The text of a label of `metadata`; empty if it is not set.
    Meta(String),
    /// A text, which only `parseInt` takes.
    Literal(String),
    /// An unsigned number in another base, as a decimal number.
    ParseInt {
        digits: Box<Value>,
        /// 2 to 36, or 0: what the digits begin with says so.
        base: u32,
        /// Maximum number of bits.
        bits: u32,
    },
}

/// Reason why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TextError {
    /// The line of the text, counted from 0.
    pub(crate) line: usize,
    /// The character of that line, counted from 1.
    pub(crate) column: usize,
    /// Error message.
    pub(crate) what: String,
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Text {
    /// Reads a template.
    ///
    /// # Errors
    /// Text that is not part of the language, with its place.
    pub(crate) fn parse(source: &str) -> Result<Self, TextError> {
        let error = |place: usize, what: String| {
            let before = &source[..place];
            let line = before.matches('\n').count();
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            TextError { line, column, what }
        };
        if source.len() > TEXT_MAX {
            return Err(error(0, format!("the text has more than {TEXT_MAX} bytes")));
        }
        let mut parts = Vec::new();
        let (mut place, mut trims) = (0, false);
        loop {
            let open = source[place..].find("{{").map(|open| place + open);
            let mut text = &source[place..open.unwrap_or(source.len())];
            if trims {
                text = text.trim_start();
            }
            let Some(open) = open else {
                push_text(&mut parts, text);
                return Ok(Self { source: source.to_owned(), parts });
            };
            let mut reader = Reader { source, place: open + 2 };
            // A trim marker is a minus with space on its inner side.
            let rest = &source[open + 2..];
            if rest.strip_prefix('-').is_some_and(|rest| rest.starts_with(char::is_whitespace)) {
                text = text.trim_end();
                reader.place += 1;
            }
            push_text(&mut parts, text);
            let value = reader.value(0).map_err(|(place, what)| error(place, what))?;
            parts.push(Part::Value(value));
            let spaced = reader.skip_space();
            trims = spaced && reader.rest().starts_with("-}}");
            let close = if trims { "-}}" } else { "}}" };
            if !reader.rest().starts_with(close) {
                let (at, what) = reader.unexpected("'}}'");
                return Err(error(at, what));
            }
            place = reader.place + close.len();
        }
    }

    /// All values, those within others included.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Value> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value(value) => Some(value.innermost()),
            Part::Text(_) => None,
        })
    }
}

impl Value {
    /// The value that this one is made of.
    pub(crate) fn innermost(&self) -> &Self {
        let mut value = self;
        while let Self::ParseInt { digits, .. } = value {
            value = digits;
        }
        value
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
}

/// Place and error message.
type Mistake = (usize, String);

/// A place within an action.
struct Reader<'s> {
    source: &'s str,
    place: usize,
}

impl<'s> Reader<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.place..]
    }

    /// Returns true if there was any.
    fn skip_space(&mut self) -> bool {
        let bare = self.rest().trim_start();
        let len = self.rest().len() - bare.len();
        self.place += len;
        len > 0
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        self.place += if found { text.len() } else { 0 };
        found
    }

    /// The letters, digits and underscores that come next.
    fn word(&mut self) -> &'s str {
        let rest = self.rest();
        let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
        let word = &rest[..rest.find(|letter| !is_part(letter)).unwrap_or(rest.len())];
        self.place += word.len();
        word
    }

    fn unexpected(&self, expected: &str) -> Mistake {
        let rest = self.rest();
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let found = rest[..end].chars().take(20).collect::<String>();
        let what = match &*found {
            "" => format!("the action is not closed: expected {expected}"),
            found => format!("unexpected '{found}': expected {expected}"),
        };
        (self.place, what)
    }

    /// A value as an action holds it: a field, `index` or `parseInt`.
    fn value(&mut self, depth: usize) -> Result<Value, Mistake> {
        self.skip_space();
        let start = self.place;
        if self.rest().starts_with('.') {
            return self.field();
        }
        match self.word() {
            "index" => self.index(),
            "parseInt" => self.parse_int(depth),
            "" => {
                self.place = start;
                Err(self.unexpected("a field, index or parseInt"))
            }
            word => {
                let what =
                    format!("'{word}' is not supported: expected a field, index or parseInt");
                Err((start, what))
            }
        }
    }

    /// `.Name` and its like.
    fn field(&mut self) -> Result<Value, Mistake> {
        let start = self.place;
        self.place += 1;
        let value = match self.word() {
            "Name" => Value::Name,
            "Type" => Value::Type,
            "Class" => Value::Class,
            "Zone" => Value::Zone,
            "Remote" => Value::Remote,
            "Meta" => {
                self.skip_space();
                return Ok(Value::Meta(self.string()?));
            }
            "Match" if self.take(".") => Value::Match(self.number("the number of a group")?),
            "Group" if self.take(".") => {
                let place = self.place;
                match self.word() {
                    name if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) => {
                        let what = "expected the name of a group (by number: index .Group \"1\")";
                        return Err((place, what.into()));
                    }
                    name => Value::Group(name.to_owned()),
                }
            }
            group @ ("Match" | "Group") => {
                let what =
                    format!("'.{group}' cannot be used as text: expected index .{group} GROUP");
                return Err((start, what));
            }
            other => {
                let known = ".Name, .Type, .Class, .Zone, .Remote, .Match, .Group or .Meta";
                return Err((start, format!("unknown field '.{other}': expected {known}")));
            }
        };
        if self.rest().starts_with('.') {
            return Err(self.unexpected("the end of the field"));
        }
        Ok(value)
    }

    /// `index .Match N` or `index .Group "NAME"`, behind its first word.
    fn index(&mut self) -> Result<Value, Mistake> {
        self.skip_space();
        if self.take(".Match") && self.skip_space() {
            return Ok(Value::Match(self.number("the number of a group")?));
        }
        if self.take(".Group") && self.skip_space() {
            return Ok(Value::Group(self.string()?));
        }
        Err(self.unexpected(".Match N or .Group \"NAME\""))
    }

    /// `parseInt STR BASE [BITS]`, behind its first word.
    fn parse_int(&mut self, depth: usize) -> Result<Value, Mistake> {
        self.skip_space();
        if depth >= DEPTH_MAX {
            return Err((self.place, "values are nested too deeply".into()));
        }
        let digits = match self.rest().chars().next() {
            Some('"' | '`') => Value::Literal(self.string()?),
            Some('(') => {
                self.place += 1;
                let value = self.value(depth + 1)?;
                self.skip_space();
                if !self.take(")") {
                    return Err(self.unexpected("')'"));
                }
                value
            }
            Some('.') => self.field()?,
            _ => return Err(self.unexpected("a field, a string or a value in parentheses")),
        };
        self.skip_space();
        let place = self.place;
        let base = self.number("a base: 0 or 2 to 36")?;
        if base == 1 || base > 36 {
            return Err((place, format!("invalid base {base}: expected 0 or 2 to 36")));
        }
        let spaced = self.skip_space();
        let place = self.place;
        let has_bits = spaced && self.rest().starts_with(|first: char| first.is_ascii_digit());
        let bits = if has_bits { self.number("a number of bits")? } else { 0 };
        if bits > 64 {
            return Err((place, format!("invalid number of bits {bits}: expected 0 to 64")));
        }
        let bits = if bits == 0 { 64 } else { bits as u32 };
        Ok(Value::ParseInt { digits: Box::new(digits), base: base as u32, bits })
    }

    fn number(&mut self, expected: &str) -> Result<usize, Mistake> {
        let start = self.place;
        let word = self.word();
        // Groups are fewer than the characters of a pattern.
        let number = word.parse().ok().filter(|number: &usize| *number <= 10_000);
        number.ok_or_else(|| {
            self.place = start;
            self.unexpected(expected)
        })
    }

    /// A string in double quotes or backquotes.
    fn string(&mut self) -> Result<String, Mistake> {
        let start = self.place;
        if self.take("`") {
            let text = self.rest().split_once('`').map(|(text, _)| text);
            let text = text.ok_or((start, "the string is not closed".to_owned()))?;
            self.place += text.len() + 1;
            return Ok(text.to_owned());
        }
        if !self.take("\"") {
            return Err(self.unexpected("a string in quotes"));
        }
        let mut text = String::new();
        let mut letters = self.rest().char_indices();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '"' => {
                    self.place += at + 1;
                    return Ok(text);
                }
                '\\' => match letters.next() {
                    Some((_, escaped @ ('"' | '\\'))) => text.push(escaped),
                    _ => {
                        let what = "only \\\" and \\\\ are escapes in a string";
                        return Err((self.place + at, what.to_owned()));
                    }
                },
                other => text.push(other),
            }
        }
        Err((start, "the string is not closed".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Part, Text, Value};

    fn parts(source: &str) -> Vec<Part> {
        Text::parse(source).unwrap_or_else(|error| panic!("{source}: {error:?}")).parts
    }

    fn error(source: &str) -> (usize, usize, String) {
        let error = Text::parse(source).expect_err(source);
        (error.line, error.column, error.what)
    }

    #[test]
    fn text_and_values_alternate() {
        let text = |text: &str| Part::Text(text.into());
        let group = |name: &str| Part::Value(Value::Group(name.into()));
        for (source, expected) in [
            ("", vec![]),
            ("a } b {", vec![text("a } b {")]),
            ("{{ .Name }} 60", vec![Part::Value(Value::Name), text(" 60")]),
            ("{{.Class}}{{.Zone}}", vec![Part::Value(Value::Class), Part::Value(Value::Zone)]),
            ("x.{{ .Match.2 }}", vec![text("x."), Part::Value(Value::Match(2))]),
            ("{{index .Match 0}}", vec![Part::Value(Value::Match(0))]),
            ("{{ .Group.a_1 }}", vec![group("a_1")]),
            ("{{ index .Group \"2\" }}", vec![group("2")]),
            ("{{ index .Group `a b` }}", vec![group("a b")]),
            ("{{ .Meta `view/name` }}", vec![Part::Value(Value::Meta("view/name".into()))]),
            ("a \n{{- .Type -}} \t b", vec![text("a"), Part::Value(Value::Type), text("b")]),
        ] {
            assert_eq!(parts(source), expected, "{source}");
        }
    }

    #[test]
    fn numbers_are_read_in_any_base() {
        let number = |digits, base, bits| {
            vec![Part::Value(Value::ParseInt { digits: Box::new(digits), base, bits })]
        };
        let group = Value::Group("x".into());
        assert_eq!(parts("{{ parseInt .Group.x 16 8 }}"), number(group.clone(), 16, 8));
        assert_eq!(parts("{{ parseInt (index .Match 1) 2 }}"), number(Value::Match(1), 2, 64));
        let literal = Value::Literal("ff".into());
        assert_eq!(parts("{{parseInt \"ff\" 16 0}}"), number(literal.clone(), 16, 64));
        let inner = Value::ParseInt { digits: Box::new(literal), base: 16, bits: 64 };
        assert_eq!(parts("{{ parseInt (parseInt `ff` 16) 10 }}"), number(inner, 10, 64));
    }

    #[test]
    fn what_is_beyond_the_language_is_refused_with_its_column() {
        for (source, column, what) in [
            ("{{ .Nope }}", 4, "unknown field '.Nope'"),
            ("a {{ .Name", 11, "the action is not closed: expected '}}'"),
            ("{{", 3, "the action is not closed"),
            ("{{ nofunc }}", 4, "'nofunc' is not supported"),
            ("{{ if .Name }}x{{ end }}", 4, "'if' is not supported"),
            ("{{ .Name | printf }}", 10, "unexpected '|': expected '}}'"),
            ("{{ .Group.0 }}", 11, "expected the name of a group"),
            ("{{ .Group }}", 4, "'.Group' cannot be used as text"),
            ("{{ .Name.x }}", 9, "unexpected '.x'"),
            ("{{ index .Match x }}", 17, "unexpected 'x': expected the number of a group"),
            ("{{ index .Group x }}", 17, "expected a string in quotes"),
            ("{{ .Meta x }}", 10, "expected a string in quotes"),
            ("{{ index .Name 1 }}", 10, "expected .Match N or .Group \"NAME\""),
            ("{{ parseInt .Name 37 }}", 19, "invalid base 37"),
            ("{{ parseInt .Name 10 65 }}", 22, "invalid number of bits 65"),
            ("{{ \"x\" }}", 4, "unexpected '\"x\"'"),
            ("{{ .Question.Name }}", 4, "unknown field '.Question'"),
        ] {
            let (line, found, text) = error(source);
            assert!(
                (line, found) == (0, column) && text.contains(what),
                "{source}: {found} {text}"
            );
        }
        assert_eq!(error("a\n\u{e9} {{ x }}").0, 1);
        assert_eq!(error("a\n\u{e9} {{ x }}").1, 6);
        let deep = format!("{{{{ {}.Name{} }}}}", "parseInt (".repeat(9), ") 10".repeat(9));
        assert!(error(&deep).2.contains("nested"));
    }
}
