//! `rrl [ZONES...] { window SECONDS; ipv4-prefix-length LENGTH; ... }`
//!
//! `rrl`: the settings of [`super::ratelimit`] in the words of the external plugin of the
//! reference, with its defaults.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::once;
use super::ratelimit::{
    LIMITS, RateLimit, Shown, TABLE_MAX, in_window, number, only, rate, with_default, write_zones,
    zones,
};
use crate::corefile::{Cursor, ParseError, did_you_mean};
use std::fmt;
use std::time::Duration;

/// Names of the rates, in the order of those of `ratelimit`.
const RATES: [&str; LIMITS] = [
    "requests-per-second",
    "responses-per-second",
    "nodata-per-second",
    "nxdomains-per-second",
    "referrals-per-second",
    "errors-per-second",
];
/// Other options.
const OPTIONS: [&str; 6] = [
    "window",
    "ipv4-prefix-length",
    "ipv6-prefix-length",
    "slip-ratio",
    "max-table-size",
    "report-only",
];
/// Time without `window`, as in the reference.
const WINDOW_DEFAULT: Duration = Duration::from_secs(15);
/// Entries without `max-table-size`, as in the reference.
const TABLE_DEFAULT: u32 = 100_000;
/// Maximum of `slip-ratio`, as in the reference.
const SLIP_MAX: u32 = 10;

/// Reads the `rrl` stanza of a server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<RateLimit>, DirectiveError> {
    let Some(stanza) = context.stanza("rrl", cursor) else { return Ok(None) };
    let mut limit = RateLimit::new(WINDOW_DEFAULT, TABLE_DEFAULT);
    limit.zones = zones(cursor, context)?;
    let mut rates = [None; LIMITS];
    while let Some(property) = cursor.block() {
        let name = &*property.text;
        if let Some(place) = RATES.iter().position(|known| *known == name) {
            rates[place] = Some(rate(property, cursor)?);
            continue;
        }
        match name {
            "window" => {
                let written = only(cursor)?;
                let seconds: Option<f64> = written.text.parse().ok();
                let window = seconds.and_then(|time| Duration::try_from_secs_f64(time).ok());
                limit.window = in_window(written, window.filter(|window| !window.is_zero()))?;
            }
            "ipv4-prefix-length" => limit.prefixes[0] = number(property, cursor, 1, 32)? as u8,
            "ipv6-prefix-length" => limit.prefixes[1] = number(property, cursor, 1, 128)? as u8,
            "slip-ratio" => limit.slip = number(property, cursor, 0, SLIP_MAX)?,
            "max-table-size" => limit.entries = number(property, cursor, 1, TABLE_MAX)?,
            "report-only" => {
                cursor.expect_no_arg()?;
                limit.is_dry_run = true;
            }
            other => {
                let suggestion = did_you_mean(other, RATES.into_iter().chain(OPTIONS));
                let message = format!("unknown property '{other}'{suggestion}");
                return Err(ParseError::at(property, message).into());
            }
        }
    }
    limit.rates = with_default(rates);
    if limit.rates == [0; LIMITS] {
        let message = "plugin/rrl: no effect without a rate above 0, such as \
                       'responses-per-second 20'";
        context.warn(&stanza.place, message);
    }
    once(cursor)?;
    Ok(Some(limit))
}

/// Writes the stanza of the directive.
pub(super) fn write(settings: &Option<RateLimit>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(limit) = settings else { return Ok(()) };
    write!(f, "    rrl")?;
    write_zones(limit.zones.as_ref(), f)?;
    writeln!(f, " {{")?;
    for (name, rate) in RATES.iter().zip(limit.rates) {
        writeln!(f, "        {name} {}", Shown(rate))?;
    }
    writeln!(f, "        window {}", limit.window.as_secs_f64())?;
    writeln!(f, "        ipv4-prefix-length {}", limit.prefixes[0])?;
    writeln!(f, "        ipv6-prefix-length {}", limit.prefixes[1])?;
    writeln!(f, "        slip-ratio {}", limit.slip)?;
    writeln!(f, "        max-table-size {}", limit.entries)?;
    if limit.is_dry_run {
        writeln!(f, "        report-only")?;
    }
    writeln!(f, "    }}")
}
