//! Log: events as lines of text or JSON.
//!
//! An [`Event`] is rendered in one of two formats: as text, in the words and with the prefix that
//! operators know from the reference, or as one JSON object per line. A [`Log`] holds the format
//! and the sink; it is a word or two, and every thread has a copy. Lines about queries are
//! formatted by the writer, which knows both formats, and arrive here as whole lines.

use crate::clock::Clock;
use crate::moment::date;
use std::fmt::{self, Display, Write};
use std::time::Duration;

/// Format of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// For debugging.
    Debug,
    /// Information.
    Info,
    /// Something may be wrong.
    Warning,
    /// Something is wrong.
    Error,
}

impl Level {
    /// Returns the name of the level in text lines.
    pub(crate) fn upper(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
        }
    }

    /// Returns the name of the level in JSON lines.
    pub(crate) fn lower(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Value of a field.
#[derive(Clone, Copy)]
pub(crate) enum Value<'a> {
    /// In words.
    Text(&'a dyn Display),
    /// As a number.
    Number(u64),
}

impl Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => text.fmt(f),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// A loggable event.
#[derive(Clone, Copy)]
pub(crate) struct Event<'a> {
    /// Severity.
    pub(crate) level: Level,
    /// Source, such as `plugin/forward`.
    pub(crate) source: &'a str,
    pub(crate) text: &'a dyn Display,
    /// Further values.
    pub(crate) fields: &'a [(&'a str, Value<'a>)],
    /// The text contains the source and all fields, so a text line is the text alone.
    pub(crate) alone: bool,
}

impl<'a> Event<'a> {
    /// Creates an event without fields.
    pub(crate) fn new(level: Level, source: &'a str, text: &'a dyn Display) -> Self {
        Self { level, source, text, fields: &[], alone: false }
    }

    /// Adds fields, which follow the text in a text line.
    pub(crate) fn with(self, fields: &'a [(&'a str, Value<'a>)]) -> Self {
        Self { fields, ..self }
    }

    /// Marks the text as complete: a text line then has neither source nor fields.
    pub(crate) fn alone(self) -> Self {
        Self { alone: true, ..self }
    }
}

/// The log.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    format: Format,
    sink: fn(&str),
}

impl Log {
    /// Creates a log that passes lines in this format to `sink`, one or several at a time, without
    /// the end of the last line.
    pub fn new(format: Format, sink: fn(&str)) -> Self {
        Self { format, sink }
    }

    /// Creates a log with lines of text.
    pub fn text(sink: fn(&str)) -> Self {
        Self::new(Format::Text, sink)
    }

    /// Returns the format of lines.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Logs an event.
    pub(crate) fn event(&self, event: &Event<'_>) {
        let mut line = String::new();
        self.render(&mut line, Clock::calendar(), event);
        self.lines(&line);
    }

    /// Appends the line of an event, with its end. `time`: since 1970.
    pub(crate) fn render(&self, lines: &mut String, time: Duration, event: &Event<'_>) {
        // Writing to a string never fails.
        let _ = match self.format {
            Format::Text => render_text(lines, event),
            Format::Json => render_json(lines, time, event),
        };
    }

    /// Logs lines that have been rendered.
    pub(crate) fn lines(&self, lines: &str) {
        (self.sink)(lines.trim_end_matches('\n'));
    }
}

fn render_text(lines: &mut String, event: &Event<'_>) -> fmt::Result {
    let Event { level, source, text, fields, alone } = event;
    write!(lines, "[{}] ", level.upper())?;
    if *alone {
        return writeln!(lines, "{text}");
    }
    write!(lines, "{source}: {text}")?;
    fields.iter().try_for_each(|(name, value)| write!(lines, " {name}={value}"))?;
    lines.write_char('\n')
}

fn render_json(lines: &mut String, time: Duration, event: &Event<'_>) -> fmt::Result {
    let Event { level, source, text, fields, .. } = event;
    begin_json(lines, time, *level, source, &text.to_string());
    for (name, value) in *fields {
        match value {
            Value::Number(number) => write!(lines, ",\"{name}\":{number}")?,
            Value::Text(text) => {
                write!(lines, ",\"{name}\":")?;
                quote(lines, &text.to_string());
            }
        }
    }
    lines.write_str("}\n")
}

/// Returns the text with its control characters escaped, so that the name of a file cannot begin a
/// line of its own or control a terminal.
pub(crate) fn without_controls(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// Appends the beginning of a JSON object: the members that every line has.
pub(crate) fn begin_json(
    lines: &mut String,
    time: Duration,
    level: Level,
    source: &str,
    text: &str,
) {
    lines.push_str("{\"time\":\"");
    push_time(lines, time);
    for part in ["\",\"level\":\"", level.lower(), "\",\"source\":\"", source, "\",\"message\":"] {
        lines.push_str(part);
    }
    quote(lines, text);
}

/// Appends a text as a JSON string, quoted and escaped.
pub(crate) fn quote(lines: &mut String, text: &str) {
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && !matches!(byte, b'"' | b'\\');
    if text.bytes().all(is_plain) {
        lines.push('"');
        lines.push_str(text);
        lines.push('"');
    } else {
        // Serialising a string cannot fail.
        lines.push_str(&serde_json::to_string(text).unwrap_or_default());
    }
}

/// Appends a time since 1970 in the format of RFC 3339, in UTC and with milliseconds.
pub(crate) fn push_time(lines: &mut String, time: Duration) {
    let (days, second) = (time.as_secs() / 86_400, time.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let parts = [
        (year, 0..4),
        (month, 5..7),
        (day, 8..10),
        (hour, 11..13),
        (minute, 14..16),
        (second, 17..19),
        (u64::from(time.subsec_millis()), 20..23),
    ];
    for (mut number, places) in parts {
        for digit in text[places].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
    lines.push_str(std::str::from_utf8(&text).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::{Event, Format, Level, Log, Value, push_time};
    use std::time::Duration;

    fn rendered(format: Format, event: &Event<'_>) -> String {
        let mut lines = String::new();
        Log::new(format, |_| ()).render(&mut lines, Duration::from_millis(1_500), event);
        lines
    }

    #[test]
    fn an_event_is_a_line_of_text_or_an_object() {
        let address = "192.0.2.1:53";
        let fields = [("upstream", Value::Text(&address)), ("probes", Value::Number(2))];
        let text = "it said \"no\"\n\u{1b}[0m";
        let event = Event::new(Level::Error, "plugin/forward", &text).with(&fields);
        let line = rendered(Format::Json, &event);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line.lines().count(), 1);
        assert_eq!(value["time"], "1970-01-01T00:00:01.500Z");
        assert_eq!(
            (&value["level"], &value["source"]),
            (&"error".into(), &"plugin/forward".into())
        );
        assert_eq!(value["message"], text);
        assert_eq!((&value["upstream"], &value["probes"]), (&address.into(), &2.into()));
        let event = Event { text: &"gone", ..event };
        let text = rendered(Format::Text, &event);
        assert_eq!(text, "[ERROR] plugin/forward: gone upstream=192.0.2.1:53 probes=2\n");
        assert_eq!(rendered(Format::Text, &event.alone()), "[ERROR] gone\n");
    }

    #[test]
    fn times_have_milliseconds() {
        let mut text = String::new();
        push_time(&mut text, Duration::new(1_767_225_599, 7_999_999));
        assert_eq!(text, "2025-12-31T23:59:59.007Z");
    }
}
