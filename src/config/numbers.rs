//! Whole numbers in arguments.
//!
//! Decimal only, leading zeros allowed, no separators, no surrounding space. Two forms are in use:
//! one with an optional sign, one without. The caller checks the range.
//! The messages are the reference's.

use super::quote::quote;

/// A signed 64-bit number; a sign of either kind may precede it.
///
/// # Errors
/// The message for the operator.
pub(super) fn signed(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let problem = |reason| format!("strconv.Atoi: parsing {}: {reason}", quote(text));
    let magnitude = decimal(digits, 1 << 63).map_err(problem)?;
    let number = i128::from(magnitude) * if text.starts_with('-') { -1 } else { 1 };
    i64::try_from(number).map_err(|_| problem(OUT_OF_RANGE))
}

/// An unsigned 32-bit number without sign.
///
/// # Errors
/// The message for the operator.
pub(super) fn unsigned(text: &str) -> Result<u32, String> {
    let problem = |reason| format!("strconv.ParseUint: parsing {}: {reason}", quote(text));
    let number = decimal(text, u32::MAX.into()).map_err(problem)?;
    u32::try_from(number).map_err(|_| problem(OUT_OF_RANGE))
}

const INVALID: &str = "invalid syntax";
const OUT_OF_RANGE: &str = "value out of range";

fn decimal(digits: &str, max: u64) -> Result<u64, &'static str> {
    if digits.is_empty() {
        return Err(INVALID);
    }
    let mut number = 0_u64;
    for byte in digits.bytes() {
        if !byte.is_ascii_digit() {
            return Err(INVALID);
        }
        number = number
            .checked_mul(10)
            .and_then(|tens| tens.checked_add(u64::from(byte - b'0')))
            .filter(|number| *number <= max)
            .ok_or(OUT_OF_RANGE)?;
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::{signed, unsigned};

    #[test]
    fn signed_numbers_may_have_a_sign_and_leading_zeros() {
        assert_eq!(signed("+007"), Ok(7));
        assert_eq!(signed("-0"), Ok(0));
        assert_eq!(signed("-9223372036854775808"), Ok(i64::MIN));
        let error = r#"strconv.Atoi: parsing "9223372036854775808": value out of range"#;
        assert_eq!(signed("9223372036854775808"), Err(error.into()));
        for text in ["", "-", "1_0", "0x1", "1 ", "+-1", "\u{ff19}"] {
            assert!(signed(text).unwrap_err().ends_with("invalid syntax"), "{text}");
        }
    }

    #[test]
    fn unsigned_numbers_have_no_sign() {
        assert_eq!(unsigned("0002"), Ok(2));
        assert_eq!(unsigned("4294967295"), Ok(u32::MAX));
        let error = r#"strconv.ParseUint: parsing "4294967296": value out of range"#;
        assert_eq!(unsigned("4294967296"), Err(error.into()));
        let error = r#"strconv.ParseUint: parsing "+2": invalid syntax"#;
        assert_eq!(unsigned("+2"), Err(error.into()));
        assert!(unsigned("}").unwrap_err().ends_with(r#""}": invalid syntax"#));
    }
}
