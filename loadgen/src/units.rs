//! Parsing of durations, shares and rates, and of a line into words.
//!
//! Each parser returns the mistake as a sentence; the caller, which knows the line, adds the place.
//! [`Words`] cuts a line into words and knows the column of each. Pure.

use crate::workload::BadInput;
use std::time::Duration;

/// The units of time, the longest names first.
const UNITS: [(&str, f64); 5] = [("ms", 1e-3), ("us", 1e-6), ("µs", 1e-6), ("m", 60.0), ("s", 1.0)];

/// Parses a duration with its unit: `100us`, `5ms`, `1.5s`, `2m`.
///
/// # Errors
/// The text is malformed.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("invalid duration `{text}`: expected 100us, 5ms, 1.5s or 2m");
    let unit = UNITS.iter().find(|(name, _)| text.ends_with(name)).ok_or_else(bad)?;
    let number: f64 = text[..text.len() - unit.0.len()].parse().map_err(|_| bad())?;
    Duration::try_from_secs_f64(number * unit.1).map_err(|_| bad())
}

/// Parses a share: `10%` or `0.1`.
///
/// # Errors
/// The text is not a share, or not between zero and one.
pub fn share(text: &str) -> Result<f64, String> {
    let (number, whole) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let share = number.parse::<f64>().ok().map(|number| number / whole);
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| format!("invalid share `{text}`: expected 10% or 0.1"))
}

/// Parses a rate in queries per second: `50000`, `50k`, `1.5M`.
///
/// # Errors
/// The text is malformed.
pub fn rate(text: &str) -> Result<f64, String> {
    let without = |suffix: char| text.strip_suffix(suffix);
    let (number, factor) = match (without('k'), without('M')) {
        (Some(number), _) => (number, 1e3),
        (_, Some(number)) => (number, 1e6),
        _ => (text, 1.0),
    };
    let rate = number.parse::<f64>().ok().map(|number| number * factor);
    rate.filter(|rate| rate.is_finite() && *rate > 0.0).ok_or_else(|| {
        format!(
            "invalid rate `{text}`: expected queries per second such as 50000, \
                                50k or 1.5M"
        )
    })
}

/// Iterator over the words of a line of a file.
pub struct Words<'a> {
    line: &'a str,
    rest: &'a str,
    number: usize,
}

impl<'a> Words<'a> {
    /// Splits `line`, whose line number is `number`.
    pub fn new(line: &'a str, number: usize) -> Self {
        Self { line, rest: line, number }
    }

    /// Returns an error at the column of `word`, which must be a slice of the line.
    pub fn bad(&self, word: &str, text: String) -> BadInput {
        let column = word.as_ptr() as usize - self.line.as_ptr() as usize + 1;
        BadInput { line: self.number, column, text }
    }

    /// Returns an error about a missing word at the end of the line.
    pub fn missing(&self, text: String) -> BadInput {
        BadInput { line: self.number, column: self.line.trim_end().len() + 1, text }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest.trim_ascii_start();
        let end = rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len());
        let word;
        (word, self.rest) = rest.split_at(end);
        (!word.is_empty()).then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::{Words, duration, rate, share};
    use std::time::Duration;

    #[test]
    fn durations_shares_and_rates_are_read_or_refused() {
        for (text, micros) in
            [("100us", 100), ("7µs", 7), ("5ms", 5_000), ("1.5s", 1_500_000), ("2m", 120_000_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_micros(micros)));
        }
        for text in ["", "5", "ms", "-1s", "1e30s", "5 ms"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!((share("10%"), share("0.5"), share("100%")), (Ok(0.1), Ok(0.5), Ok(1.0)));
        assert!(["", "%", "-1%", "101%", "1.1", "NaN"].iter().all(|text| share(text).is_err()));
        assert_eq!((rate("50k"), rate("1.5M"), rate("7")), (Ok(50_000.0), Ok(1.5e6), Ok(7.0)));
        assert!(["", "k", "0", "-1", "inf"].iter().all(|text| rate(text).is_err()));
    }

    #[test]
    fn words_have_columns() {
        let mut words = Words::new("  ab\t cd ", 3);
        let (first, second) = (words.next().unwrap(), words.next().unwrap());
        assert_eq!((first, second, words.next()), ("ab", "cd", None));
        let at = |word| words.bad(word, String::new()).to_string();
        assert_eq!((at(first), at(second)), ("3:3: ".into(), "3:7: ".into()));
        assert_eq!(words.missing(String::new()).column, 9);
    }
}
