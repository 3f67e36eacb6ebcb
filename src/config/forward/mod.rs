//! `forward FROM TO… [{ OPTION… }]`
//!
//! Reads the stanzas of one server block. The block of options is read before the targets, and
//! what an option means together with others is checked when its block is closed.

mod codes;
pub(super) mod grpc;
mod health;
pub(super) mod https;
mod letter_case;
mod names;
pub(super) mod private;
mod sizing;
mod switches;
mod targets;
pub(super) mod tls;

pub use letter_case::LetterCase;
pub(super) use names::may_be_host_name;
pub(super) use sizing::share;

use super::context::Context;
use super::duration::show_duration;
use super::error::DirectiveError;
use super::quote::quote;
use super::{
    Forward, Grpc, HealthCheck, Name, Policy, QUERY_TIMEOUT, Rcodes, UPSTREAMS_MAX, duration, keys,
    lints, numbers,
};
use crate::corefile::{Cursor, ParseError, Place, Token, did_you_mean};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use targets::Targets;

/// The directive.
pub(super) const NAME: &str = "forward";
/// Targets written in one stanza. A file counts as one.
const TARGETS_MAX: usize = 15;
/// A connection idle for longer is closed, if `expire` does not say otherwise.
const EXPIRE: Duration = Duration::from_secs(10);
/// The jitter of `max_age`, in hundredths of it, if none is written.
pub(super) const MAX_AGE_JITTER: u8 = 10;
/// Default of `read_timeout`.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// All options.
const OPTIONS: [&str; 32] = [
    "except",
    "expire",
    "max_age",
    "distrust",
    "rebalance",
    "gso",
    "max_idle_conns",
    "policy",
    "read_timeout",
    "max_connect_attempts",
    "spread",
    "stream_spread",
    "max_conns",
    "max_inflight",
    "max_fails",
    "health_check",
    "failfast_all_unhealthy_upstreams",
    "force_tcp",
    "prefer_udp",
    "failover",
    "next",
    "next_on_nodata",
    "max_concurrent",
    "source_address",
    "proxy_protocol",
    "case_randomize",
    "private_answers",
    "resolver",
    "tls",
    "tls_servername",
    "tls_pin",
    "doh_method",
];

/// A stanza whose sizes are not yet resolved.
pub(super) struct Stanza {
    /// Complete but for `sizing`.
    pub(super) forward: Forward,
    sizing: sizing::Written,
    pub(super) place: Place,
}

impl Stanza {
    /// The connections that each of its pools may have if `share` is left for each.
    pub(super) fn max_conns(&self, share: usize) -> usize {
        self.sizing.resolve(share).max_conns
    }

    /// The stanza with its sizes, `share` being what each pool may have.
    pub(super) fn finish(mut self, share: usize) -> Forward {
        self.forward.sizing = self.sizing.resolve(share);
        self.forward
    }
}

/// Reads all `forward` stanzas of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Vec<Stanza>, DirectiveError> {
    context.plugin = NAME;
    // An error of a stanza as a whole waits until all words of all stanzas are right.
    let mut too_many = None;
    let mut stanzas = Vec::new();
    while let Some(name) = context.stanza(NAME, cursor) {
        let from = read_from(cursor, context)?;
        let written = cursor.expect_rest()?;
        let mut options = Options::default();
        let mut seen = Vec::new();
        while let Some(property) = cursor.block() {
            options.read(property, cursor, context)?;
            warn_of_option(property, &mut seen, context);
        }
        options.check()?;
        options.warn(&from, name, context);
        let targets = options.read_targets(&written, context)?;
        if targets.written > TARGETS_MAX && too_many.is_none() {
            let message = format!("more than {TARGETS_MAX} TOs configured: {}", targets.written);
            too_many = Some(DirectiveError::value(name, message));
        }
        stanzas.push(options.stanza(name, from, targets, context)?);
    }
    too_many.map_or(Ok(stanzas), Err)
}

fn read_from(cursor: &mut Cursor<'_>, context: &mut Context<'_>) -> Result<Name, DirectiveError> {
    let written = cursor.expect_arg()?;
    let names = keys::parse(&written.text).map_or(Vec::new(), |zone| zone.names);
    let Some(from) = names.first().cloned() else {
        let message = format!("unable to normalize '{}'", written.text);
        return Err(DirectiveError::value(written, message));
    };
    if let Some(hint) = lints::of_from(&written.text) {
        context.warn_of_plugin(&written.place, format!("FROM '{}': {hint}", written.text));
    }
    if names.len() > 1 {
        let message = format!(
            "Unsupported CIDR notation: '{}' expands to multiple zones. \
             Using only '{from}'.",
            written.text
        );
        context.warn_of_plugin(&written.place, message);
    }
    Ok(from)
}

/// Notes an option that is written again, unless its arguments add up.
fn warn_of_option<'a>(property: &'a Token, seen: &mut Vec<&'a str>, context: &mut Context<'_>) {
    const LISTS: [&str; 3] = ["except", "failover", "next"];
    let name = &*property.text;
    if !seen.contains(&name) {
        seen.push(name);
    } else if !LISTS.contains(&name) {
        let message = format!("{name} is written twice: the last one applies");
        context.warn_of_plugin(&property.place, message);
    }
}

/// The options of one stanza, as far as they are written.
#[derive(Default)]
struct Options {
    except: Vec<Name>,
    policy: Policy,
    expire: Option<Duration>,
    max_age: Option<(Duration, Place)>,
    max_age_jitter: Option<u8>,
    distrust: Option<bool>,
    rebalance: bool,
    gso_off: bool,
    proxy_protocol: bool,
    letter_case: LetterCase,
    private_answers: Option<Vec<Name>>,
    max_idle_conns: Option<usize>,
    read_timeout: Option<Duration>,
    max_connect_attempts: Option<u32>,
    health: HealthCheck,
    failfast: bool,
    force_tcp: bool,
    prefer_udp: bool,
    failover: Rcodes,
    next: Rcodes,
    next_on_nodata: bool,
    max_concurrent: Option<u32>,
    source_address: Option<(IpAddr, Place)>,
    resolvers: Vec<SocketAddr>,
    sizing: sizing::Written,
    spread_place: Option<Place>,
    tls: tls::Written,
    doh_method: https::Method,
    /// Settings of the directive `grpc`, if it is that.
    grpc: Option<Grpc>,
}

impl Options {
    /// Reads one option with its arguments.
    fn read(
        &mut self,
        property: &Token,
        cursor: &mut Cursor<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), DirectiveError> {
        match &*property.text {
            "except" => self.read_except(cursor, context)?,
            "policy" => self.policy = read_policy(cursor)?,
            "expire" => self.expire = Some(read_duration(property, cursor)?),
            "max_age" => {
                self.max_age = Some((read_duration(property, cursor)?, property.place.clone()));
                self.max_age_jitter = sizing::read_jitter(cursor)?;
            }
            "distrust" => self.distrust = Some(switches::read(property, cursor, ["off", "on"])?),
            "rebalance" => self.rebalance = switches::read(property, cursor, ["off", "auto"])?,
            "case_randomize" => self.letter_case = LetterCase::read(cursor)?,
            "private_answers" => self.private_answers = private::read(cursor, context)?,
            "gso" => self.gso_off = switches::read(property, cursor, ["auto", "off"])?,
            "max_idle_conns" => {
                // 0 is no limit.
                let number = read_count(property, cursor)?;
                self.max_idle_conns = usize::try_from(number).ok().filter(|number| *number > 0);
            }
            "read_timeout" => {
                let (text, nanos) = duration_arg(cursor)?;
                if nanos <= 0 {
                    let shown = duration::show(nanos);
                    let message = format!("read_timeout must be positive: {shown}");
                    return Err(DirectiveError::value(text, message));
                }
                self.read_timeout = Some(Duration::from_nanos(nanos.unsigned_abs()));
            }
            "max_connect_attempts" => self.max_connect_attempts = Some(read_unsigned(cursor)?),
            "max_fails" => self.health.max_fails = read_unsigned(cursor)?,
            "health_check" => health::read(cursor, context, &mut self.health)?,
            "failfast_all_unhealthy_upstreams" => self.failfast = read_switch(cursor)?,
            "force_tcp" => self.force_tcp = read_switch(cursor)?,
            "prefer_udp" => self.prefer_udp = read_switch(cursor)?,
            "failover" => codes::read(cursor, &mut self.failover, false)?,
            "next" => codes::read(cursor, &mut self.next, true)?,
            "next_on_nodata" => self.next_on_nodata = read_switch(cursor)?,
            "max_concurrent" => {
                // 0 is no limit.
                let number = read_count(property, cursor)?;
                self.max_concurrent = u32::try_from(number).ok().filter(|number| *number > 0);
            }
            "source_address" => {
                self.source_address = Some((read_ip(cursor)?, property.place.clone()));
            }
            "proxy_protocol" => self.proxy_protocol = read_proxy_protocol(cursor)?,
            "resolver" => self.resolvers = names::read_resolvers(cursor)?,
            "spread" => {
                self.sizing.spread = Some(sizing::read(property, cursor)?);
                self.spread_place = Some(property.place.clone());
            }
            "tls" | "tls_servername" | "tls_pin" => {
                self.tls.read(property, cursor, context)?;
            }
            "stream_spread" => {
                self.sizing.stream_spread = Some(sizing::read(property, cursor)?);
                self.spread_place.get_or_insert_with(|| property.place.clone());
            }
            "max_conns" => self.sizing.max_conns = Some(sizing::read(property, cursor)?),
            "max_inflight" => self.sizing.max_inflight = Some(sizing::read_pair(property, cursor)?),
            "doh_method" => self.doh_method = https::Method::read(property, cursor)?,
            other => {
                let message = format!("unknown property '{other}'{}", did_you_mean(other, OPTIONS));
                return Err(ParseError::at(property, message).into());
            }
        }
        Ok(())
    }

    fn read_except(
        &mut self,
        cursor: &mut Cursor<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), DirectiveError> {
        for word in cursor.expect_rest()? {
            match keys::parse(&word.text) {
                Ok(zone) => {
                    let is_option = OPTIONS.contains(&&*word.text);
                    let hint = lints::of_exception(&word.text, &zone, is_option);
                    if let Some(hint) = hint {
                        let message = format!("except '{}': {hint}", word.text);
                        context.warn_of_plugin(&word.place, message);
                    }
                    context
                        .count_zones(zone.names.len())
                        .map_err(|message| DirectiveError::value(word, message))?;
                    self.except.extend(zone.names);
                }
                Err(reason) => {
                    let message = format!("except is ignored: {reason}");
                    context.warn_of_plugin(&word.place, message);
                }
            }
        }
        Ok(())
    }

    /// Warns of combinations that are valid but probably a mistake.
    fn warn(&self, from: &Name, name: &Token, context: &mut Context<'_>) {
        let outside = self.except.iter().find(|zone| !zone.is_within(from));
        if let Some(zone) = outside {
            let message = format!("except {zone} has no effect: it is not below {from}");
            context.warn_of_plugin(&name.place, message);
        }
        if self.except.contains(from) {
            let message = format!(
                "except {from} excludes the names below {from}, but not {from} \
                 itself"
            );
            context.warn_of_plugin(&name.place, message);
        }
        if self.force_tcp && self.prefer_udp {
            let message = "prefer_udp has no effect with force_tcp";
            context.warn_of_plugin(&name.place, message);
        }
        if self.force_tcp && self.letter_case != LetterCase::Off {
            let message = "case_randomize has no effect with force_tcp";
            context.warn_of_plugin(&name.place, message);
        }
        let timeout = self.read_timeout.unwrap_or(READ_TIMEOUT);
        if timeout >= QUERY_TIMEOUT {
            let (timeout, whole) = (show_duration(timeout), show_duration(QUERY_TIMEOUT));
            let message = format!(
                "with read_timeout {timeout} no other upstream is tried: a query \
                 ends after {whole}"
            );
            context.warn_of_plugin(&name.place, message);
        }
    }

    /// Returns the settings that follow from all options together.
    fn check(&self) -> Result<(), DirectiveError> {
        if let (Some(message), Some(place)) = (self.sizing.contradiction(), &self.spread_place) {
            return Err(DirectiveError::Value { place: place.clone(), message });
        }
        let expire = self.expire.unwrap_or(EXPIRE);
        match &self.max_age {
            Some((max_age, place)) if !max_age.is_zero() && *max_age < expire => {
                let (age, expire) = (show_duration(*max_age), show_duration(expire));
                let message = format!(
                    "max_age ({age}) must not be less than expire ({expire}): \
                     set max_age to at least {expire}, or expire to at most {age}"
                );
                Err(DirectiveError::Value { place: place.clone(), message })
            }
            _ => Ok(()),
        }
    }

    fn read_targets(
        &self,
        written: &[&Token],
        context: &mut Context<'_>,
    ) -> Result<Targets, DirectiveError> {
        let source = self.source_address.as_ref().map(|(source, _)| *source);
        let host = context.host;
        let names = names::Names { lookup: &host.lookup, resolvers: &self.resolvers, source };
        targets::read(written, &names, context)
    }

    fn stanza(
        self,
        name: &Token,
        from: Name,
        targets: Targets,
        context: &mut Context<'_>,
    ) -> Result<Stanza, DirectiveError> {
        let upstreams = match &self.grpc {
            Some(_) => self.tls.apply_to_grpc(targets.found),
            None => self.tls.apply(targets.found, &self.doh_method, context)?,
        };
        if upstreams.len() > UPSTREAMS_MAX {
            let count = upstreams.len();
            let message = format!(
                "{count} upstreams, but one forward stanza can have at most {UPSTREAMS_MAX}: \
                 split it by zone or list fewer nameservers"
            );
            return Err(DirectiveError::value(name, message));
        }
        if let Some((source, place)) = &self.source_address {
            targets::check_source(*source, place, &upstreams)?;
        }
        // Twice around the list, as in the reference.
        let twice = u32::try_from(upstreams.len() * 2).unwrap_or(u32::MAX);
        let attempts = self.max_connect_attempts.unwrap_or(twice);
        let forward = Forward {
            from,
            except: self.except,
            upstreams,
            host_names: targets.host_names,
            grpc: self.grpc,
            policy: self.policy,
            expire: self.expire.unwrap_or(EXPIRE),
            max_age: self.max_age.map(|(max_age, _)| max_age).filter(|max_age| !max_age.is_zero()),
            max_age_jitter: self.max_age_jitter.unwrap_or(MAX_AGE_JITTER),
            distrust: self.distrust.unwrap_or(true),
            rebalance: self.rebalance,
            gso: !self.gso_off,
            proxy_protocol: self.proxy_protocol,
            letter_case: self.letter_case,
            private_answers: self.private_answers,
            max_idle_conns: self.max_idle_conns,
            read_timeout: self.read_timeout.unwrap_or(READ_TIMEOUT),
            max_connect_attempts: (attempts > 0).then_some(attempts),
            health: self.health,
            failfast: self.failfast,
            force_tcp: self.force_tcp,
            prefer_udp: self.prefer_udp,
            failover: self.failover,
            next: self.next,
            next_on_nodata: self.next_on_nodata,
            max_concurrent: self.max_concurrent,
            source_address: self.source_address.map(|(source, _)| source),
            sizing: sizing::Written::default().resolve(0),
        };
        Ok(Stanza { forward, sizing: self.sizing, place: name.place.clone() })
    }
}

fn read_policy(cursor: &mut Cursor<'_>) -> Result<Policy, DirectiveError> {
    let policy = cursor.expect_arg()?;
    match &*policy.text {
        "random" => Ok(Policy::Random),
        "round_robin" => Ok(Policy::RoundRobin),
        "sequential" => Ok(Policy::Sequential),
        other => {
            let suggestion = did_you_mean(other, ["random", "round_robin", "sequential"]);
            Err(ParseError::at(policy, format!("unknown policy '{other}'{suggestion}")).into())
        }
    }
}

/// A duration of either sign, and the word it was written as.
fn duration_arg<'a>(cursor: &mut Cursor<'a>) -> Result<(&'a Token, i64), DirectiveError> {
    let argument = cursor.expect_arg()?;
    let nanos = duration::parse(&argument.text)
        .map_err(|message| DirectiveError::value(argument, message))?;
    Ok((argument, nanos))
}

/// A duration that may be zero.
fn read_duration(property: &Token, cursor: &mut Cursor<'_>) -> Result<Duration, DirectiveError> {
    let (argument, nanos) = duration_arg(cursor)?;
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| {
        let message = format!("{} can't be negative: {}", property.text, duration::show(nanos));
        DirectiveError::value(argument, message)
    })
}

/// A number that may be zero.
fn read_count(property: &Token, cursor: &mut Cursor<'_>) -> Result<u64, DirectiveError> {
    let argument = cursor.expect_arg()?;
    let number = numbers::signed(&argument.text)
        .map_err(|message| DirectiveError::value(argument, message))?;
    u64::try_from(number).map_err(|_| {
        let message = format!("{} can't be negative: {number}", property.text);
        DirectiveError::value(argument, message)
    })
}

/// An address without port; one of IPv4 written as IPv6 is one of IPv4.
fn read_ip(cursor: &mut Cursor<'_>) -> Result<IpAddr, DirectiveError> {
    let address = cursor.expect_arg()?;
    let ip = address.text.parse::<IpAddr>().map(|ip| ip.to_canonical());
    ip.map_err(|_| ParseError::at(address, format!("invalid IP address: {}", address.text)).into())
}

/// An option that is on when it is written.
fn read_switch(cursor: &mut Cursor<'_>) -> Result<bool, DirectiveError> {
    cursor.expect_no_arg()?;
    Ok(true)
}

/// Reads the version of headers of the PROXY protocol.
fn read_proxy_protocol(cursor: &mut Cursor<'_>) -> Result<bool, DirectiveError> {
    let version = cursor.expect_arg()?;
    cursor.expect_no_arg()?;
    if &*version.text == "v2" {
        return Ok(true);
    }
    let message = format!(
        "proxy_protocol {}: expected v2, the only version that has a form for datagrams",
        quote(&version.text)
    );
    Err(DirectiveError::value(version, message))
}

fn read_unsigned(cursor: &mut Cursor<'_>) -> Result<u32, DirectiveError> {
    let argument = cursor.expect_arg()?;
    numbers::unsigned(&argument.text).map_err(|message| DirectiveError::value(argument, message))
}

#[cfg(test)]
mod tests;
