//! `$GENERATE`: records made from a range of numbers.
//!
//! `$` in the template stands for the number, `$$` and `\$` for a dollar sign, and
//! `${OFFSET[,WIDTH[,BASE]]}` for the number with an offset added, padded with zeros, in a base:
//! `d`, `o`, `x`, `X`, or `n` and `N`, hexadecimal digits in reverse order with dots between them.

use std::iter::StepBy;
use std::ops::RangeInclusive;

/// TTL of generated records if neither the line nor the zone sets one.
pub(super) const TTL: u32 = 3_600;
/// Maximum number of steps of a range.
const STEPS_MAX: i64 = 65_536;
/// The largest number.
const NUMBER_MAX: i64 = i32::MAX as i64;
/// Maximum characters of a number: no label has more.
const WIDTH_MAX: usize = 255;

/// Reads `START-STOP[/STEP]`.
pub(super) fn range(text: &[u8]) -> Result<StepBy<RangeInclusive<i64>>, &'static str> {
    const WRONG: &str = "expected a range such as 1-254 or 0-100/2";
    let text = str::from_utf8(text).map_err(|_| WRONG)?;
    let (range, step) = text.split_once('/').unwrap_or((text, "1"));
    let (start, stop) = range.split_once('-').ok_or(WRONG)?;
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number| is_number && *number <= NUMBER_MAX).ok_or(WRONG)
    };
    let (start, stop, step) = (number(start)?, number(stop)?, number(step)?);
    if step == 0 || start > stop {
        return Err(WRONG);
    }
    if (stop - start) / step >= STEPS_MAX {
        return Err("a range has at most 65536 steps");
    }
    Ok((start..=stop).step_by(step as usize))
}

/// Writes the line for `number` into `out`, which is cleared first.
pub(super) fn line(template: &[u8], number: i64, out: &mut Vec<u8>) -> Result<(), &'static str> {
    out.clear();
    let mut rest = template;
    loop {
        rest = match rest {
            [] => return Ok(()),
            [b'\\', b'$', behind @ ..] | [b'$', b'$', behind @ ..] => {
                // An escape, so that no word is taken for a directive.
                out.extend(b"\\$");
                behind
            }
            [b'\\', byte, behind @ ..] => {
                out.extend([b'\\', *byte]);
                behind
            }
            [b'$', b'{', behind @ ..] => {
                let end = behind.iter().position(|byte| *byte == b'}');
                let end = end.ok_or("'}' is missing after '${'")?;
                modified(&behind[..end], number, out)?;
                &behind[end + 1..]
            }
            [b'$', behind @ ..] => {
                out.extend(number.to_string().bytes());
                behind
            }
            [byte, behind @ ..] => {
                out.push(*byte);
                behind
            }
        };
    }
}

/// Writes `number` in the format `OFFSET[,WIDTH[,BASE]]`.
fn modified(text: &[u8], number: i64, out: &mut Vec<u8>) -> Result<(), &'static str> {
    const WRONG: &str = "expected ${OFFSET,WIDTH,BASE}, such as ${0,3,d}";
    let text = str::from_utf8(text).map_err(|_| WRONG)?;
    let mut parts = text.split(',');
    let offset: i64 = parts.next().and_then(|part| part.parse().ok()).ok_or(WRONG)?;
    let width = parts.next().map_or(Ok(0), str::parse).ok();
    let width: usize = width.filter(|width| *width <= WIDTH_MAX).ok_or(WRONG)?;
    let base = parts.next().unwrap_or("d");
    if parts.next().is_some() || offset.unsigned_abs() > NUMBER_MAX as u64 {
        return Err(WRONG);
    }
    let value = number + offset;
    if value < 0 {
        return Err("a generated number is negative");
    }
    let text = match base {
        "d" => format!("{value:0width$}"),
        "o" => format!("{value:0width$o}"),
        "x" => format!("{value:0width$x}"),
        "X" => format!("{value:0width$X}"),
        "n" => nibbles(value, width),
        "N" => nibbles(value, width).to_ascii_uppercase(),
        _ => return Err("expected one of the bases d, o, x, X, n, N"),
    };
    out.extend(text.bytes());
    Ok(())
}

/// Returns hexadecimal digits, the last one first, with dots, which count in the width.
fn nibbles(value: i64, width: usize) -> String {
    let mut text = String::new();
    let mut rest = value;
    loop {
        text.extend(char::from_digit((rest & 15) as u32, 16));
        rest >>= 4;
        if rest == 0 && text.len() >= width {
            return text;
        }
        text.push('.');
        if rest == 0 && text.len() >= width {
            return text;
        }
    }
}
