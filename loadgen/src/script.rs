//! Parsing of scripts: a pattern and the behaviour for its names, a line each.
//!
//! ```text
//! # comment
//! slow.example      delay=100ms
//! *.lossy.example   loss=10% delay=exp:2ms
//! *                 servfail=1%
//! ```
//!
//! Errors have line and column. Pure.

use crate::units::{self, Words};
use crate::workload::BadInput;
use domain::base::Name;
use onward::traffic::upstream::script::{Act, Conduct, Delay, Pattern, Script};
use std::str::FromStr;
use std::time::Duration;

/// The keywords of faults.
const FAULTS: [(&str, Act); 10] = [
    ("loss", Act::Silence),
    ("truncate", Act::Truncate),
    ("wrong-id", Act::WrongId),
    ("wrong-question", Act::WrongQuestion),
    ("garbage", Act::Garbage),
    ("formerr", Act::Refuse(1)),
    ("servfail", Act::Refuse(2)),
    ("nxdomain", Act::Refuse(3)),
    ("refuse", Act::Refuse(5)),
    ("lie", Act::Lie),
];

/// Parses a whole script; see `loadgen upstream --help` for the keywords.
///
/// # Errors
/// A line has an unknown word.
pub fn script(text: &str) -> Result<Script, BadInput> {
    let mut script = Script::default();
    for (line, number) in text.lines().zip(1..) {
        let mut words = Words::new(line, number);
        let Some(first) = words.next() else { continue };
        if first.starts_with('#') {
            continue;
        }
        let pattern = pattern(first).map_err(|text| words.bad(first, text))?;
        let conduct = conduct_of(&mut words)?;
        match pattern {
            Some(pattern) => script.rules.push((pattern, conduct)),
            None => script.default = conduct,
        }
    }
    Ok(script)
}

/// Parses one conduct.
///
/// # Errors
/// A word is unknown.
pub fn conduct(text: &str) -> Result<Conduct, BadInput> {
    conduct_of(&mut Words::new(text, 1))
}

/// Parses a stall: `3s+1s` is after three seconds, for one.
///
/// # Errors
/// The text has another form.
pub fn stall(text: &str) -> Result<(Duration, Duration), BadInput> {
    let bad = |text| BadInput { line: 1, column: 1, text };
    let (after, length) = text.split_once('+').ok_or_else(|| {
        bad(format!("invalid stall `{text}`: expected START+DURATION such as 3s+1s"))
    })?;
    Ok((units::duration(after).map_err(bad)?, units::duration(length).map_err(bad)?))
}

/// Parses a name, a wildcard for all names below one, or `*` for all names, which is `None`.
fn pattern(word: &str) -> Result<Option<Pattern>, String> {
    let (zone, below) = match word.strip_prefix("*.") {
        _ if word == "*" => return Ok(None),
        Some(zone) => (zone, true),
        None => (word, false),
    };
    let name = Name::<Vec<u8>>::from_str(zone).map_err(|error| {
        format!(
            "invalid name `{word}`: expected a name, or `*.` and a name: \
                                  {error}"
        )
    })?;
    let wire = name.as_slice().to_ascii_lowercase();
    Ok(Some(if below { Pattern::Below(wire) } else { Pattern::Exactly(wire) }))
}

fn conduct_of(words: &mut Words<'_>) -> Result<Conduct, BadInput> {
    let mut conduct = Conduct::default();
    while let Some(word) = words.next() {
        put(&mut conduct, word).map_err(|text| words.bad(word, text))?;
    }
    Ok(conduct)
}

/// Adds the setting of one word.
fn put(conduct: &mut Conduct, word: &str) -> Result<(), String> {
    match word.split_once('=').unwrap_or((word, "")) {
        ("silent", "") => conduct.faults.push((Act::Silence, 1.0)),
        ("delay", value) => conduct.delay = delay(value)?,
        ("spoof", value) => {
            let count = value.parse();
            conduct.spoofs = count.map_err(|_| {
                format!(
                    "invalid number `{value}`: expected at \
                                                        most 65535"
                )
            })?;
        }
        (key, value) => {
            let known = FAULTS.iter().find(|(name, _)| *name == key);
            let Some((_, act)) = known else {
                let names: Vec<&str> = FAULTS.iter().map(|(name, _)| *name).collect();
                let names = names.join(", ");
                return Err(format!(
                    "unknown behaviour `{word}`: expected silent, delay=TIME, spoof=N, or one of \
                     these with a share: {names}"
                ));
            };
            let share = if value.is_empty() { 1.0 } else { units::share(value)? };
            conduct.faults.push((*act, share));
        }
    }
    Ok(())
}

/// Parses a delay: `5ms`, `1ms..10ms` or `exp:5ms`.
fn delay(value: &str) -> Result<Delay, String> {
    if let Some(mean) = value.strip_prefix("exp:") {
        return Ok(Delay::Exponential(units::duration(mean)?));
    }
    match value.split_once("..") {
        Some((from, to)) => {
            let (from, to) = (units::duration(from)?, units::duration(to)?);
            if from > to {
                return Err(format!(
                    "invalid range `{value}`: the first time must not be longer \
                                    than the second"
                ));
            }
            Ok(Delay::Uniform(from, to))
        }
        None => Ok(Delay::Fixed(units::duration(value)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::{conduct, script, stall};
    use onward::traffic::upstream::script::{Act, Conduct, Delay, Pattern};
    use std::time::Duration;

    #[test]
    fn a_script_is_read() {
        let text = "# x\n\nslow.Example delay=100ms spoof=3\n*.b.example\tloss=10%  lie\n\
                    * delay=exp:2ms\n";
        let script = script(text).unwrap();
        assert_eq!(
            script.rules[0],
            (
                Pattern::Exactly(b"\x04slow\x07example\0".to_vec()),
                Conduct {
                    delay: Delay::Fixed(Duration::from_millis(100)),
                    spoofs: 3,
                    ..Conduct::default()
                }
            )
        );
        assert_eq!(script.rules[1].0, Pattern::Below(b"\x01b\x07example\0".to_vec()));
        assert_eq!(script.rules[1].1.faults, [(Act::Silence, 0.1), (Act::Lie, 1.0)]);
        assert_eq!(script.default.delay, Delay::Exponential(Duration::from_millis(2)));
    }

    #[test]
    fn errors_have_line_and_column() {
        let cases = [
            ("\na..b loss=1%", "2:1: invalid name `a..b`"),
            ("a.test  los=1%", "1:9: unknown behaviour `los=1%`"),
            ("a.test delay=5", "1:8: invalid duration `5`"),
            ("a.test delay=5ms..1ms", "1:8: invalid range `5ms..1ms`: the first"),
            ("a.test loss=101%", "1:8: invalid share `101%`"),
            ("a.test spoof=x", "1:8: invalid number `x`"),
        ];
        for (text, expected) in cases {
            let error = script(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_conduct_and_a_stall_are_read_by_themselves() {
        let read = conduct("delay=1ms..2ms servfail=50%").unwrap();
        assert_eq!(read.faults, [(Act::Refuse(2), 0.5)]);
        let second = Duration::from_secs(1);
        assert_eq!(stall("3s+1s").unwrap(), (3 * second, second));
        assert!(stall("3s").is_err() && stall("x+1s").is_err());
    }
}
