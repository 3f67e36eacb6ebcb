//! Log texts: `tuning/LOG.md` lists each one that the source can print, and no other.
//!
//! A text is the last argument of `Event::new` and `say`, or the line of `lines(&format!(..))`: a
//! literal, or a variable that a `let` above binds to literals. Texts that another function builds
//! are named in [`BUILT`]. `{..}` in the source and `<..>` in the page stand for a value. A row is
//! compared by level and text; meaning and advice are the writer's.

use super::source::production;

/// Functions that supply an event's text: the event's file and variable, and the function's file
/// and name. A function without a name stands for any text.
const BUILT: [(&str, &str, (&str, &str)); 7] = [
    ("src/keeper/mod.rs", "message", ("src/worker/mod.rs", "loop_text")),
    ("src/loader/hosts.rs", "text", ("src/loader/hosts.rs", "skipped_text")),
    ("src/service/mod.rs", "reloads", ("src/control/reloads.rs", "fmt")),
    ("src/service/mod.rs", "warning", ("", "")),
    ("src/service/warnings.rs", "trouble", ("src/tls/inventory.rs", "trouble")),
    ("src/writer/mod.rs", "line", ("src/writer/errors.rs", "fmt")),
    ("src/writer/mod.rs", "sum", ("src/writer/consolidation.rs", "fmt")),
];
/// Functions that build a message for standard error when the program does not start.
const EXITS: [(&str, &str); 3] = [
    ("src/server/error.rs", "fmt"),
    ("src/server/error.rs", "fmt_bind"),
    ("src/server/error.rs", "fmt_caches"),
];
/// Files that format events, or are not part of the service.
const OTHERS: [&str; 2] = ["src/log.rs", "src/demo/forwarder.rs"];

/// A level, or `start` and `exit` for lines without one, and a text with `*` for values.
pub(crate) type Row = (String, String);

/// The rows of the page: `| level | source | `text` | ...`.
pub(crate) fn listed(page: &str) -> Vec<Row> {
    let row = |line: &str| {
        let (level, rest) = line.strip_prefix("| ")?.split_once(" | ")?;
        let (_, rest) = rest.split_once(" | `")?;
        let (text, _) = rest.split_once("` |")?;
        Some((level.to_owned(), values_replaced(text, '<', '>')))
    };
    page.lines().filter_map(row).collect()
}

/// The rows that the file at `path` can print; `read` gives other files' text.
pub(crate) fn printed(path: &str, text: &str, read: &dyn Fn(&str) -> String) -> Vec<Row> {
    if !path.starts_with("src/") || OTHERS.contains(&path) {
        return Vec::new();
    }
    let calls = ["Event::new(", ".say(", " say("];
    let exits: Vec<_> = EXITS.iter().filter(|(file, _)| *file == path).collect();
    if exits.is_empty() && !calls.iter().chain(&[".lines("]).any(|call| text.contains(call)) {
        return Vec::new();
    }
    let source = Source::new(text);
    let mut rows = Vec::new();
    for call in calls {
        for arguments in source.calls(call) {
            let [first, .., last] = &arguments[..] else { continue };
            let texts = source.texts(path, first.start, last.clone(), read);
            let level = source.level(first);
            rows.extend(texts.into_iter().map(|text| (level.clone(), text)));
        }
    }
    for arguments in source.calls(".lines(") {
        let literals = arguments.iter().flat_map(|argument| source.literals(argument.clone()));
        rows.extend(literals.map(|text| ("start".to_owned(), text)));
    }
    for (_, name) in exits {
        rows.extend(source.function(name).into_iter().map(|text| ("exit".to_owned(), text)));
    }
    rows
}

type Part = std::ops::Range<usize>;

/// A file as characters, and the same with comments, strings and tests blanked.
struct Source {
    text: Vec<char>,
    code: Vec<char>,
}

impl Source {
    fn new(text: &str) -> Self {
        Self { text: text.chars().collect(), code: production(text).chars().collect() }
    }

    /// The arguments of each call written as `call`.
    fn calls(&self, call: &str) -> Vec<Vec<Part>> {
        let starts = self.occurrences(call).into_iter();
        starts.map(|start| self.arguments(start + call.chars().count())).collect()
    }

    /// The arguments starting at `from`.
    fn arguments(&self, from: usize) -> Vec<Part> {
        let (mut found, mut depth, mut start) = (Vec::new(), 0, from);
        for at in from..self.code.len() {
            match self.code[at] {
                '(' | '[' | '{' => depth += 1,
                ',' if depth == 0 => {
                    found.push(start..at);
                    start = at + 1;
                }
                ')' | ']' | '}' if depth == 0 => {
                    found.push(start..at);
                    break;
                }
                ')' | ']' | '}' => depth -= 1,
                _ => {}
            }
        }
        found.retain(|part| !self.words(part).is_empty());
        found
    }

    /// The texts of an event whose first argument is at `event` and whose text is `argument`.
    fn texts(
        &self,
        path: &str,
        event: usize,
        argument: Part,
        read: &dyn Fn(&str) -> String,
    ) -> Vec<String> {
        let literals = self.literals(argument.clone());
        if !literals.is_empty() {
            return literals;
        }
        let words = self.words(&argument);
        let variable = words.trim_start_matches('&');
        let built = BUILT.iter().find(|(file, name, _)| (*file, *name) == (path, variable));
        if built.is_none() && !words.starts_with('&') {
            // The parameter of a function that passes its text on.
            return Vec::new();
        }
        let bound = self.bound(variable, event);
        match built {
            _ if !bound.is_empty() => bound,
            Some((.., (_, ""))) => vec!["*".to_owned()],
            Some((.., (file, name))) => Source::new(&read(file)).function(name),
            None => vec![format!("the text `{variable}` of {path} is not found")],
        }
    }

    /// The literals of the last `let` of `variable` before `end`.
    fn bound(&self, variable: &str, end: usize) -> Vec<String> {
        let starts = self.occurrences(&format!("let {variable} =")).into_iter();
        let Some(start) = starts.take_while(|start| *start < end).last() else {
            return Vec::new();
        };
        let mut depth = 0;
        let end = (start..self.code.len()).find(|&at| {
            depth += i32::from("([{".contains(self.code[at]));
            depth -= i32::from(")]}".contains(self.code[at]));
            depth == 0 && self.code[at] == ';'
        });
        self.literals(start..end.unwrap_or(self.code.len()))
    }

    /// The literals with a space in all functions of this name; those without are names and units.
    fn function(&self, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        for start in self.occurrences(&format!("fn {name}(")) {
            let open = (start..self.code.len()).find(|&at| self.code[at] == '{');
            let Some(open) = open else { continue };
            let body = self.arguments(open + 1);
            let end = body.last().map_or(open, |last| last.end);
            found.extend(self.literals(open..end));
        }
        found.retain(|text| text.trim().contains(' '));
        found
    }

    fn level(&self, argument: &Part) -> String {
        let words = self.words(argument);
        words.strip_prefix("Level::").map_or_else(|| "set".to_owned(), str::to_lowercase)
    }

    fn words(&self, part: &Part) -> String {
        self.code[part.clone()].iter().filter(|char| !char.is_whitespace()).collect()
    }

    /// The string literals of a part, with continued lines joined and values as `*`.
    fn literals(&self, part: Part) -> Vec<String> {
        let mut found = Vec::new();
        let mut at = part.start;
        while at < part.end {
            // A quote is blank in code, except in a comment.
            if self.text[at] == '/' && self.text.get(at + 1) == Some(&'/') && self.code[at] == ' ' {
                at += self.text[at..].iter().take_while(|char| **char != '\n').count();
            } else if self.text[at] == '"' && self.code[at] == ' ' {
                let (literal, end) = self.literal(at + 1);
                found.push(values_replaced(&literal, '{', '}'));
                at = end;
            }
            at += 1;
        }
        found
    }

    /// The literal starting at `at`, and the position of its closing quote.
    fn literal(&self, mut at: usize) -> (String, usize) {
        let mut literal = String::new();
        while self.text[at] != '"' {
            match (self.text[at], self.text[at + 1]) {
                ('\\', '\n') => {
                    at += 1;
                    at += self.text[at..].iter().take_while(|char| char.is_whitespace()).count();
                }
                ('\\', escaped) => {
                    literal.push(escaped);
                    at += 2;
                }
                (char, _) => {
                    literal.push(char);
                    at += 1;
                }
            }
        }
        (literal, at)
    }

    fn occurrences(&self, wanted: &str) -> Vec<usize> {
        let wanted: Vec<char> = wanted.chars().collect();
        let windows = self.code.windows(wanted.len()).enumerate();
        windows.filter_map(|(at, window)| (window == wanted).then_some(at)).collect()
    }
}

/// A text with `*` for each value between `open` and `close`.
fn values_replaced(text: &str, open: char, close: char) -> String {
    let mut replaced = String::new();
    let mut inside = false;
    for char in text.chars() {
        match char {
            _ if char == open => inside = true,
            _ if char == close && inside => {
                inside = false;
                replaced.push('*');
            }
            _ if !inside => replaced.push(char),
            _ => {}
        }
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::{listed, printed};

    fn rows(path: &str, text: &str) -> Vec<String> {
        let read = |_: &str| "fn fmt() { write!(f, \"a {} of b\", \"x\") }".to_owned();
        let rows = printed(path, text, &read).into_iter();
        rows.map(|(level, text)| format!("{level} {text}")).collect()
    }

    #[test]
    fn texts_are_found_where_they_are_written() {
        let text = "fn a() { l.event(&Event::new(Level::Info, B, &\"is up\")); }";
        assert_eq!(rows("src/a.rs", text), ["info is up"]);
        let text = "let text = format_args!(\"{a} is \\\n      down: {}\", c(\"d\"));\n\
                    // \"e\"\n let fields = [(\"f\", g)];\n\
                    log.event(&Event::new(Level::Error, B, &text).with(&fields));";
        assert_eq!(rows("src/a.rs", text)[0], "error * is down: *");
        let text = "fn a(&self) { self.say(Level::Warning, B, &format_args!(\"c {d:?}\")) }";
        assert_eq!(rows("src/a.rs", text), ["warning c *"]);
        assert_eq!(rows("src/a.rs", "log.lines(&format!(\"a on {b}\"));"), ["start a on *"]);
    }

    #[test]
    fn texts_of_other_functions_are_distinguished() {
        let text = "log.event(&Event::new(Level::Info, R, &reloads));";
        assert_eq!(rows("src/service/mod.rs", text), ["info a * of b"]);
        assert_eq!(rows("src/a.rs", text), ["info the text `reloads` of src/a.rs is not found"]);
        let text = "#[cfg(test)]\nmod tests { fn a() { Event::new(Level::Info, B, &\"c\"); } }";
        assert!(rows("src/a.rs", text).is_empty());
        assert!(rows("tests/a.rs", "Event::new(Level::Info, B, &\"c\");").is_empty());
    }

    #[test]
    fn rows_of_the_page_have_a_text_in_backquotes() {
        let page =
            "| level | source | text |\n|---|---|---|\n| info | onward | `a <b> c` | d | e |\n";
        assert_eq!(listed(page), [("info".to_owned(), "a * c".to_owned())]);
    }
}
