//! `ratelimit [ZONES...] { qps N; burst N; responses N; nodata N; nxdomain N; referrals N;
//! errors N; ipv4 LENGTH; ipv6 LENGTH; slip N; window DURATION; exempt CIDR...; table N; dry_run }`
//!
//! `ratelimit`: limits of queries and replies over UDP for each client prefix. [`super::rrl`] reads
//! the same settings in the words of the external plugin. Rates are decimal numbers per second; 0
//! is no limit. The rate of `responses` applies to all kinds of replies without a rate of their
//! own.

use super::super::context::Context;
use super::super::duration::{self, show_duration};
use super::super::error::DirectiveError;
use super::super::net::Net;
use super::super::word::{list, names};
use super::super::{Name, ServerBlock, keys, lints};
use super::once;
use crate::corefile::{Cursor, ParseError, Token, did_you_mean};
use std::fmt;
use std::time::Duration;

/// Maximum rate and burst: higher ones limit nothing that one host can answer.
const RATE_MAX: u32 = 1_000_000;
/// Maximum time of `window`.
const WINDOW_MAX: Duration = Duration::from_secs(3_600);
/// Maximum number of entries of a worker's table for one server block: 32 MiB.
pub(crate) const TABLE_MAX: u32 = 1 << 20;
/// Entries of the table without `table`: 1 MiB.
const TABLE_DEFAULT: u32 = 32_768;
/// Minimum number of queries and replies that a worker passes at once, if the whole rate is not
/// lower.
const BURST_MIN: u32 = 8;
/// Number of rates.
pub(crate) const LIMITS: usize = 6;
/// Names of the rates: that of queries, and those of replies by their kind.
const RATES: [&str; LIMITS] = ["qps", "responses", "nodata", "nxdomain", "referrals", "errors"];
/// Place of the rate that applies to kinds of replies without a rate.
const RESPONSES: usize = 1;
/// Other options.
const OPTIONS: [&str; 8] =
    ["burst", "ipv4", "ipv6", "slip", "window", "exempt", "table", "dry_run"];

/// Limits of the queries and replies of a server block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RateLimit {
    /// Names at or below these are limited. `None`: all that the server block serves.
    pub(crate) zones: Option<Vec<Name>>,
    /// Rates in thousandths per second, in the order of the options; 0: no limit. In the
    /// configuration of a worker, its share.
    pub(crate) rates: [u32; LIMITS],
    /// Number of queries that may exceed the rate at once, likewise. `None`: those of a second.
    pub(crate) burst: Option<u32>,
    /// Minimum of these numbers for each rate, because a worker's share of a second may be less
    /// than the queries that a client sends at a time: 0 in the configuration of the process.
    pub(crate) bursts_min: [u32; LIMITS],
    /// Length of the prefix of a client with an IPv4 address, and with an IPv6 address.
    pub(crate) prefixes: [u8; 2],
    /// Of the limited queries of a prefix, one in this number gets a truncated reply. 0: none.
    pub(crate) slip: u32,
    /// Queries and replies beyond a limit count against it, too, up to the allowance of this time.
    pub(crate) window: Duration,
    /// Clients without limits.
    pub(crate) exempt: Vec<Net>,
    /// Entries of a worker's table.
    pub(crate) entries: u32,
    /// Limits are only counted.
    pub(crate) is_dry_run: bool,
}

impl RateLimit {
    /// Settings without limits, for a window of this length.
    pub(super) fn new(window: Duration, entries: u32) -> Self {
        Self {
            zones: None,
            rates: [0; LIMITS],
            burst: None,
            bursts_min: [0; LIMITS],
            prefixes: [24, 56],
            slip: 2,
            window,
            exempt: Vec::new(),
            entries,
            is_dry_run: false,
        }
    }

    /// Returns the share of one of `workers`: at least one query or reply per second, unless the
    /// whole rate is lower.
    pub(crate) fn share(&mut self, workers: usize) {
        let workers = u32::try_from(workers).unwrap_or(u32::MAX).max(1);
        if workers > 1 {
            self.bursts_min = self.rates.map(|rate| (rate / 1_000).min(BURST_MIN));
        }
        for rate in &mut self.rates {
            *rate = rate.div_ceil(workers).max((*rate).min(1_000));
        }
        self.burst = self.burst.map(|burst| burst.div_ceil(workers));
    }
}

impl ServerBlock {
    /// Returns the limits of its clients; `ratelimit` takes precedence over `rrl`.
    pub(crate) fn rate_limit(&self) -> Option<&RateLimit> {
        self.stages.ratelimit.as_ref().or(self.stages.rrl.as_ref())
    }

    /// Reduces the limits to the share of one of `workers`.
    pub(in super::super) fn share_limits(&mut self, workers: usize) {
        let limits = self.stages.ratelimit.iter_mut().chain(&mut self.stages.rrl);
        limits.for_each(|limit| limit.share(workers));
    }
}

/// Reads the `ratelimit` stanza of a server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<RateLimit>, DirectiveError> {
    let Some(stanza) = context.stanza("ratelimit", cursor) else { return Ok(None) };
    let mut limit = RateLimit::new(Duration::ZERO, TABLE_DEFAULT);
    limit.zones = zones(cursor, context)?;
    let mut rates = [None; LIMITS];
    while let Some(property) = cursor.block() {
        let name = &*property.text;
        if let Some(place) = RATES.iter().position(|known| *known == name) {
            rates[place] = Some(rate(property, cursor)?);
            continue;
        }
        match name {
            "burst" => limit.burst = Some(number(property, cursor, 1, RATE_MAX)?),
            "ipv4" => limit.prefixes[0] = number(property, cursor, 1, 32)? as u8,
            "ipv6" => limit.prefixes[1] = number(property, cursor, 1, 128)? as u8,
            "slip" => limit.slip = number(property, cursor, 0, RATE_MAX)?,
            "window" => limit.window = window(cursor)?,
            "table" => limit.entries = number(property, cursor, 1, TABLE_MAX)?,
            "exempt" => {
                for word in cursor.expect_rest()? {
                    limit.exempt.push(network(word, context)?);
                }
            }
            "dry_run" => {
                cursor.expect_no_arg()?;
                limit.is_dry_run = true;
            }
            other => {
                let suggestion = did_you_mean(other, RATES.into_iter().chain(OPTIONS));
                let message = format!("unknown option '{other}'{suggestion}");
                return Err(ParseError::at(property, message).into());
            }
        }
    }
    limit.rates = with_default(rates);
    if limit.rates == [0; LIMITS] {
        let message = "no limit: expected at least one of qps, responses, nodata, nxdomain, \
                       referrals and errors above 0";
        return Err(DirectiveError::value(stanza, message));
    }
    if limit.burst.is_some() && limit.rates[0] == 0 {
        let message = "plugin/ratelimit: 'burst' has no effect without 'qps'";
        context.warn(&stanza.place, message);
    }
    once(cursor)?;
    Ok(Some(limit))
}

/// Returns the rates, where those of replies without one have that of `responses`.
pub(super) fn with_default(rates: [Option<u32>; LIMITS]) -> [u32; LIMITS] {
    let responses = rates[RESPONSES].unwrap_or(0);
    let mut all = rates.map(|rate| rate.unwrap_or(responses));
    all[0] = rates[0].unwrap_or(0);
    all
}

/// Reads the zones behind the directive.
pub(super) fn zones(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<Vec<Name>>, DirectiveError> {
    let words = cursor.rest();
    let mut zones = Vec::new();
    for word in &words {
        let zone = keys::parse(&word.text).map_err(|reason| DirectiveError::value(word, reason))?;
        context
            .count_zones(zone.names.len())
            .map_err(|message| DirectiveError::value(word, message))?;
        zones.extend(zone.names);
    }
    Ok((!words.is_empty()).then_some(zones))
}

/// Returns the only value of an option.
pub(super) fn only<'a>(cursor: &mut Cursor<'a>) -> Result<&'a Token, DirectiveError> {
    let written = cursor.expect_arg()?;
    if cursor.rest().is_empty() { Ok(written) } else { Err(cursor.argument_error().into()) }
}

/// Reads a rate per second, in thousandths.
pub(super) fn rate(property: &Token, cursor: &mut Cursor<'_>) -> Result<u32, DirectiveError> {
    let written = only(cursor)?;
    let number: Option<f64> = written.text.parse().ok();
    let rate = number.map(|number| (number * 1_000.0).round());
    match (number, rate) {
        (Some(0.0), _) => Ok(0),
        (_, Some(rate)) if (1.0..=f64::from(RATE_MAX) * 1_000.0).contains(&rate) => Ok(rate as u32),
        _ => {
            let message = format!(
                "{} '{}': expected a number per second from 0.001 to {RATE_MAX}, or 0 for no limit",
                property.text, written.text
            );
            Err(DirectiveError::value(written, message))
        }
    }
}

/// Reads a whole number from `least` to `most`.
pub(super) fn number(
    property: &Token,
    cursor: &mut Cursor<'_>,
    least: u32,
    most: u32,
) -> Result<u32, DirectiveError> {
    let written = only(cursor)?;
    let number = written.text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| {
        let Token { text, .. } = written;
        let message =
            format!("{} '{text}': expected a number from {least} to {most}", property.text);
        DirectiveError::value(written, message)
    })
}

fn window(cursor: &mut Cursor<'_>) -> Result<Duration, DirectiveError> {
    let written = only(cursor)?;
    let nanos = duration::parse(&written.text)
        .map_err(|message| DirectiveError::value(written, format!("window: {message}")))?;
    in_window(written, u64::try_from(nanos).ok().map(Duration::from_nanos))
}

/// Returns a valid time of the window, or the error at the word that it was read from.
pub(super) fn in_window(
    written: &Token,
    window: Option<Duration>,
) -> Result<Duration, DirectiveError> {
    window.filter(|window| *window <= WINDOW_MAX).ok_or_else(|| {
        let message = format!(
            "window '{}': expected a time from 0 to {}",
            written.text,
            show_duration(WINDOW_MAX)
        );
        DirectiveError::value(written, message)
    })
}

fn network(word: &Token, context: &mut Context<'_>) -> Result<Net, DirectiveError> {
    let parts = word.text.split_once('/');
    if let Some(hint) = parts.and_then(|parts| lints::host_bits(parts.0, parts.1)) {
        context.warn(&word.place, format!("plugin/ratelimit: {}: {hint}", word.text));
    }
    Net::parse(&word.text).ok_or_else(|| {
        let message = format!(
            "exempt '{}': expected an address or ADDRESS/LENGTH, such as 192.0.2.0/24",
            word.text
        );
        DirectiveError::value(word, message)
    })
}

/// A rate in thousandths, as it is written.
pub(super) struct Shown(pub(super) u32);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1_000.0)
    }
}

/// Writes the zones behind the name of the directive.
pub(super) fn write_zones(zones: Option<&Vec<Name>>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    zones.map_or(Ok(()), |zones| names(f, zones))
}

/// Writes the stanza of the directive.
pub(super) fn write(settings: &Option<RateLimit>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(limit) = settings else { return Ok(()) };
    write!(f, "    ratelimit")?;
    write_zones(limit.zones.as_ref(), f)?;
    writeln!(f, " {{")?;
    for (name, rate) in RATES.iter().zip(limit.rates) {
        writeln!(f, "        {name} {}", Shown(rate))?;
    }
    if let Some(burst) = limit.burst {
        writeln!(f, "        burst {burst}")?;
    }
    writeln!(f, "        ipv4 {}\n        ipv6 {}", limit.prefixes[0], limit.prefixes[1])?;
    writeln!(f, "        slip {}", limit.slip)?;
    writeln!(f, "        window {}", show_duration(limit.window))?;
    if !limit.exempt.is_empty() {
        write!(f, "        exempt")?;
        list(f, &limit.exempt)?;
        writeln!(f)?;
    }
    writeln!(f, "        table {}", limit.entries)?;
    if limit.is_dry_run {
        writeln!(f, "        dry_run")?;
    }
    writeln!(f, "    }}")
}
