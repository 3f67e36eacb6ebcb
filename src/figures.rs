//! Human-readable numbers and names for the status page and `onward top`.
//!
//! Pure text: three significant digits with a unit, and never more than a line. Names come from
//! untrusted clients, so [`visible`] passes nothing but printable ASCII: control characters,
//! direction marks and invisible characters are spelt out, and a text that is too long loses its
//! middle. Escaping for HTML is left to the page; this module knows neither HTML nor terminals.

use std::fmt::Write;

/// Sign for a missing measurement.
pub(crate) const NOTHING: &str = "–";

pub(crate) fn rate(per_second: f64) -> String {
    format!("{}/s", scaled(per_second))
}

/// A count: exact while it is short.
pub(crate) fn count(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..100_000 => format!("{},{:03}", count / 1_000, count % 1_000),
        _ => scaled(count as f64).trim_end().to_owned(),
    }
}

/// A part of a whole, 0 to 1.
pub(crate) fn percent(part: f64) -> String {
    let percent = sane(part) * 100.0;
    match percent {
        _ if percent <= 0.0 => "0 %".to_owned(),
        _ if percent < 0.1 => "<0.1 %".to_owned(),
        _ if percent < 9.95 => format!("{percent:.1} %"),
        // A part that is not the whole must not be shown as 100 %.
        _ if percent < 100.0 => format!("{:.0} %", percent.min(99.0)),
        _ => format!("{} %", digits(percent)),
    }
}

/// A latency; nothing where it is zero.
pub(crate) fn milliseconds(milliseconds: f64) -> String {
    match sane(milliseconds) {
        ms if ms <= 0.0 => NOTHING.to_owned(),
        ms if ms < 0.9995 => format!("{:.0} µs", (ms * 1e3).max(1.0)),
        ms if ms < 999.5 => format!("{} ms", digits(ms)),
        ms => format!("{} s", digits(ms / 1e3)),
    }
}

/// An age or a limit, in its two largest units.
pub(crate) fn seconds(seconds: f64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let exact = sane(seconds).min(1e11);
    if exact < 9.95 && exact.fract() > 0.0 {
        return format!("{exact:.1} s");
    }
    let whole = exact.round() as u64;
    let at = UNITS.iter().position(|(unit, _)| whole >= *unit).unwrap_or(UNITS.len() - 1);
    let (unit, name) = UNITS[at];
    match UNITS.get(at + 1) {
        Some((smaller, next)) if whole % unit / smaller > 0 => {
            format!("{} {name} {} {next}", whole / unit, whole % unit / smaller)
        }
        _ => format!("{} {name}", whole / unit),
    }
}

/// Memory.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1 << 10 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", digits(value), UNITS[unit])
}

/// Returns `text` in printable ASCII, at most `length` characters long. Other characters are spelt
/// `\u{202e}`; a long name loses its middle, because its ends identify it best.
pub(crate) fn visible(text: &str, length: usize) -> String {
    const GAP: char = '…';
    let spell = |c: char| match c {
        ' '..='~' => c.to_string(),
        _ => c.escape_unicode().to_string(),
    };
    // Only the first `length + 1` characters matter: a longer text is cut anyway.
    let head: Vec<String> = text.chars().take(length + 1).map(spell).collect();
    let spelt: usize = head.iter().map(String::len).sum();
    if spelt <= length && head.len() <= length {
        return head.concat();
    }
    let Some(room) = length.checked_sub(1) else { return String::new() };
    let fits = |pieces: &mut dyn Iterator<Item = String>, room: usize| {
        let mut taken = Vec::new();
        let mut used = 0;
        for piece in pieces {
            used += piece.len();
            if used > room {
                break;
            }
            taken.push(piece);
        }
        taken
    };
    let mut shown = fits(&mut head.into_iter(), room / 2).concat();
    shown.push(GAP);
    let mut tail = fits(&mut text.chars().rev().map(spell), room - room / 2);
    tail.reverse();
    let _ = shown.write_str(&tail.concat());
    shown
}

/// Returns zero for a value that is negative or no number: a drawing must not break on it.
pub(crate) fn sane(value: f64) -> f64 {
    if value.is_finite() { value.max(0.0) } else { 0.0 }
}

/// `1.23 M`: up to three significant digits, and the space before a unit.
fn scaled(value: f64) -> String {
    const UNITS: [&str; 6] = ["", "k", "M", "G", "T", "P"];
    let mut value = sane(value);
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1e3;
        unit += 1;
    }
    let digits = if unit == 0 && value.fract() == 0.0 { value.to_string() } else { digits(value) };
    format!("{digits} {}", UNITS[unit])
}

/// Three significant digits of a number below a thousand. Larger ones, which do not occur in
/// practice, are kept short as well.
fn digits(value: f64) -> String {
    match value {
        _ if value < 9.995 => format!("{value:.2}"),
        _ if value < 99.95 => format!("{value:.1}"),
        _ if value < 1e5 => format!("{value:.0}"),
        _ => format!("{value:.0e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{bytes, count, milliseconds, percent, rate, sane, seconds, visible};

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        for (shown, expected) in [
            (rate(0.0), "0 /s"),
            (rate(0.4), "0.40 /s"),
            (rate(7.0), "7 /s"),
            (rate(12_345.6), "12.3 k/s"),
            (rate(999.7), "1.00 k/s"),
            (rate(1e30), "1e15 P/s"),
            (rate(f64::NAN), "0 /s"),
            (count(999), "999"),
            (count(12_034), "12,034"),
            (count(1_234_567), "1.23 M"),
            (count(u64::MAX), "18447 P"),
            (percent(0.0), "0 %"),
            (percent(0.0004), "<0.1 %"),
            (percent(0.0512), "5.1 %"),
            (percent(0.9999), "99 %"),
            (percent(1.0), "100 %"),
            (percent(f64::INFINITY), "0 %"),
            (milliseconds(0.0), "–"),
            (milliseconds(0.423), "423 µs"),
            (milliseconds(1e-9), "1 µs"),
            (milliseconds(f64::MAX), "2e305 s"),
            (milliseconds(12.34), "12.3 ms"),
            (milliseconds(1_500.0), "1.50 s"),
            (seconds(0.0), "0 s"),
            (seconds(0.44), "0.4 s"),
            (seconds(59.7), "1 min"),
            (seconds(200.0), "3 min 20 s"),
            (seconds(7_500.0), "2 h 5 min"),
            (seconds(90_000.0), "1 d 1 h"),
            (bytes(1023), "1023 B"),
            (bytes(1024), "1.00 KiB"),
            (bytes(123_456_789), "118 MiB"),
        ] {
            assert_eq!(shown, expected);
        }
    }

    #[test]
    fn a_value_that_is_no_number_is_zero() {
        for broken in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
            assert_eq!(sane(broken), 0.0);
        }
        assert_eq!(sane(0.5), 0.5);
    }

    #[test]
    fn only_printable_ascii_is_visible() {
        for c in (0..=0x11_0000).filter_map(char::from_u32) {
            let shown = visible(&c.to_string(), 20);
            assert!(shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{c:?}: {shown}");
            assert!(!shown.is_empty(), "{c:?} vanished");
        }
        assert_eq!(visible("a\u{202e}b\u{1b}[2J", 40), r"a\u{202e}b\u{1b}[2J");
    }

    #[test]
    fn a_long_text_loses_its_middle() {
        assert_eq!(visible("www.example.com", 15), "www.example.com");
        assert_eq!(visible("www.example.com", 9), "www.….com");
        assert_eq!(visible("www.example.com", 1), "…");
        assert_eq!(visible("www.example.com", 0), "");
        let hostile = "\u{7}".repeat(1 << 20);
        for length in 0..40 {
            let shown = visible(&hostile, length).chars().count();
            assert!(shown <= length, "{shown} of {length}");
        }
    }
}
