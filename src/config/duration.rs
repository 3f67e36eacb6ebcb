//! Durations as operators write and read them: `1m30s`, `500ms`, `2.5h`.
//!
//! Reads and writes the reference's format to the nanosecond, including where it rounds: a part's
//! fraction is evaluated in double precision and cut. The messages are the reference's too.
//! Negative durations are well-formed; the caller decides.

use std::time::Duration;

/// Nanoseconds of each unit. The micro sign and the Greek letter mu are both in use.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];
/// The magnitude that only a negative number of nanoseconds can have.
const LIMIT: u64 = 1 << 63;

/// Reads a duration, in nanoseconds.
///
/// # Errors
/// The message for the operator.
pub(super) fn parse(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (number, after) = split_digits(rest);
        let (fraction, after) = after.strip_prefix('.').map_or(("", after), split_digits);
        if number.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit_end = after.find(|c: char| c == '.' || c.is_ascii_digit());
        let (unit, after) = after.split_at(unit_end.unwrap_or(after.len()));
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quote(text)));
        }
        let Some(&(_, nanos)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            let (unit, text) = (quote(unit), quote(text));
            return Err(format!("time: unknown unit {unit} in duration {text}"));
        };
        total = whole(number, nanos)
            .and_then(|whole| whole.checked_add(part(fraction, nanos)))
            .and_then(|sum| sum.checked_add(total))
            .filter(|sum| *sum <= LIMIT)
            .ok_or_else(invalid)?;
        rest = after;
    }
    let signed = i128::from(total) * if negative { -1 } else { 1 };
    i64::try_from(signed).map_err(|_| invalid())
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// `digits` units of `nanos`; `None` when that is too long.
fn whole(digits: &str, nanos: u64) -> Option<u64> {
    if digits.is_empty() {
        return Some(0);
    }
    digits.parse::<u64>().ok()?.checked_mul(nanos).filter(|product| *product <= LIMIT)
}

/// The fraction `0.digits` of a unit of `nanos`.
fn part(digits: &str, nanos: u64) -> u64 {
    let mut numerator = 0_u64;
    let mut scale = 1_f64;
    for digit in digits.bytes() {
        // Digits beyond what 63 bits hold are ignored.
        if numerator > (LIMIT - 1) / 10 {
            break;
        }
        let longer = numerator * 10 + u64::from(digit - b'0');
        if longer > LIMIT {
            break;
        }
        numerator = longer;
        scale *= 10.0;
    }
    #[expect(clippy::cast_possible_truncation, reason = "cut, not rounded, as documented")]
    let cut = (numerator as f64 * (nanos as f64 / scale)) as u64;
    cut
}

/// Returns a duration as operators write it. The longest are cut to about 292 years.
pub(crate) fn show_duration(duration: Duration) -> String {
    show(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}

/// Writes a duration of `nanos` nanoseconds so that [`parse`] reads the same.
pub(super) fn show(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let magnitude = nanos.unsigned_abs();
    let text = match magnitude {
        0 => return "0s".into(),
        1..1_000 => format!("{magnitude}ns"),
        1_000..1_000_000 => decimal(magnitude, 1_000) + "\u{b5}s",
        1_000_000..1_000_000_000 => decimal(magnitude, 1_000_000) + "ms",
        _ => {
            let second = 1_000_000_000;
            let (hours, minutes) = (magnitude / (3600 * second), magnitude / (60 * second) % 60);
            let mut text = String::new();
            if hours > 0 {
                text += &format!("{hours}h");
            }
            if hours > 0 || minutes > 0 {
                text += &format!("{minutes}m");
            }
            text + &decimal(magnitude % (60 * second), second) + "s"
        }
    };
    format!("{sign}{text}")
}

/// `number / unit`, without trailing zeros; `unit` is a power of ten.
fn decimal(number: u64, unit: u64) -> String {
    let (whole, fraction) = (number / unit, number % unit);
    let digits = unit.ilog10() as usize;
    let text = format!("{whole}.{fraction:0digits$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The text as the reference shows it here, where it escapes more than elsewhere.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b' '..=0x7F => quoted.push(char::from(byte)),
            _ => quoted += &format!("\\x{byte:02x}"),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::{parse, show};
    use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn durations_that_are_accepted() {
        for (text, nanos) in [
            ("0", 0),
            ("-0", 0),
            ("+0", 0),
            ("2h45m", 9900 * SECOND),
            ("45m2h", 9900 * SECOND),
            ("1s1s", 2 * SECOND),
            (".25m", 15 * SECOND),
            ("3.s", 3 * SECOND),
            ("+4s", 4 * SECOND),
            ("-2s", -2 * SECOND),
            ("7us", 7_000),
            ("7\u{b5}s", 7_000),
            ("7\u{3bc}s", 7_000),
            ("2.9ns", 2),
            ("1.5ns", 1),
            ("0.9999999999999999999s", SECOND),
            ("0001m", 60 * SECOND),
            ("2562047h", 2_562_047 * 3600 * SECOND),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
        ] {
            assert_eq!(parse(text), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn durations_that_are_refused() {
        for (text, message) in [
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            ("20", "time: missing unit in duration \"20\""),
            ("00", "time: missing unit in duration \"00\""),
            ("2m30", "time: missing unit in duration \"2m30\""),
            ("1.2.3s", "time: missing unit in duration \"1.2.3s\""),
            ("2d", "time: unknown unit \"d\" in duration \"2d\""),
            ("2M", "time: unknown unit \"M\" in duration \"2M\""),
            ("2sec", "time: unknown unit \"sec\" in duration \"2sec\""),
            ("1m-2s", "time: unknown unit \"m-\" in duration \"1m-2s\""),
            ("2e1s", "time: unknown unit \"e\" in duration \"2e1s\""),
            (".m", "time: invalid duration \".m\""),
            ("ms", "time: invalid duration \"ms\""),
            ("+-2s", "time: invalid duration \"+-2s\""),
            ("2562048h", "time: invalid duration \"2562048h\""),
            ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
            ("99999999999999999999s", "time: invalid duration \"99999999999999999999s\""),
            ("\u{ff19}s", "time: invalid duration \"\\xef\\xbc\\x99s\""),
            ("\"\\", "time: invalid duration \"\\\"\\\\\""),
        ] {
            assert_eq!(parse(text), Err(message.into()), "{text}");
        }
    }

    #[test]
    fn durations_are_written_in_the_largest_units() {
        for (nanos, text) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5\u{b5}s"),
            (500_000_000, "500ms"),
            (9_999_000_000, "9.999s"),
            (90 * SECOND, "1m30s"),
            (60 * SECOND, "1m0s"),
            (9900 * SECOND, "2h45m0s"),
            (-2 * SECOND, "-2s"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(show(nanos), text);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn what_is_written_is_read_back(nanos in any::<i32>()) {
            // Fractions of more than 53 bits are not exact in double precision.
            let nanos = i64::from(nanos) * 1_000;
            prop_assert_eq!(parse(&show(nanos)), Ok(nanos));
        }
        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
