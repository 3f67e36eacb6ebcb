//! `grpc FROM TO… { except NAME…; policy NAME; tls [CERT KEY] [CA]; tls_servername NAME;
//! fallthrough [ZONES…]; max_conns N }`
//!
//! A stanza whose upstreams speak gRPC as CoreDNS does, with TLS if one of its options is written
//! and without encryption otherwise. It comes behind all `forward` stanzas of its server block. The
//! reference has no `max_conns`, because it has one connection to each upstream.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::{Forward, Grpc, Name, Policy, keys, word};
use super::{Options, Stanza, TARGETS_MAX, read_from, read_policy, sizing, warn_of_option};
use crate::corefile::{Cursor, ParseError, Token, did_you_mean};
use std::fmt;

/// The directive.
pub(in super::super) const NAME: &str = "grpc";
/// Response code that may fall through.
const NXDOMAIN: u16 = 3;
/// Its options.
const OPTIONS: [&str; 6] =
    ["except", "policy", "tls", "tls_servername", "fallthrough", "max_conns"];

/// Reads the stanza of a server block.
pub(in super::super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<Stanza>, DirectiveError> {
    context.plugin = NAME;
    let Some(name) = context.stanza(NAME, cursor) else { return Ok(None) };
    let from = read_from(cursor, context)?;
    let written = cursor.expect_rest()?;
    let mut grpc = Grpc::default();
    let mut options = Options::default();
    let mut seen = Vec::new();
    while let Some(property) = cursor.block() {
        match &*property.text {
            "except" => options.read_except(cursor, context)?,
            "policy" => options.policy = read_policy(cursor)?,
            "tls" | "tls_servername" => options.tls.read(property, cursor, context)?,
            "fallthrough" => {
                grpc.fallthrough = Some(read_zones(&cursor.rest(), context)?);
            }
            "max_conns" => options.sizing.max_conns = Some(sizing::read(property, cursor)?),
            other => {
                let message = format!("unknown property '{other}'{}", did_you_mean(other, OPTIONS));
                return Err(ParseError::at(property, message).into());
            }
        }
        warn_of_option(property, &mut seen, context);
    }
    if let Some(second) = cursor.stanza() {
        let message = "this plugin can only be used once per Server Block";
        return Err(DirectiveError::value(second, message));
    }
    options.warn(&from, name, context);
    let targets = options.read_targets(&written, context)?;
    if targets.written > TARGETS_MAX {
        let message = format!("more than {TARGETS_MAX} TOs configured: {}", targets.written);
        return Err(DirectiveError::value(name, message));
    }
    if grpc.fallthrough.is_some() {
        options.next.extend([NXDOMAIN]);
    }
    options.grpc = Some(grpc);
    // There are no datagrams, whose sockets would be many.
    options.sizing.spread = Some(1);
    // Once around the list, as in the reference.
    options.max_connect_attempts = u32::try_from(targets.found.len()).ok();
    options.stanza(name, from, targets, context).map(Some)
}

/// Returns the zones that `words` name, or all if there are none.
fn read_zones(words: &[&Token], context: &mut Context<'_>) -> Result<Vec<Name>, DirectiveError> {
    let mut zones = Vec::new();
    for word in words {
        let zone = keys::parse(&word.text).map_err(|why| DirectiveError::value(word, why))?;
        context
            .count_zones(zone.names.len())
            .map_err(|message| DirectiveError::value(word, message))?;
        zones.extend(zone.names);
    }
    Ok(if words.is_empty() { vec![Name::root()] } else { zones })
}

/// Writes the stanza.
pub(in super::super) fn write(
    forward: &Forward,
    grpc: &Grpc,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    write!(f, "    grpc {}", forward.from.in_corefile())?;
    forward.upstreams.iter().try_for_each(|upstream| write!(f, " {}", upstream.address))?;
    writeln!(f, " {{")?;
    if !forward.except.is_empty() {
        write!(f, "        except")?;
        word::names(f, &forward.except)?;
        writeln!(f)?;
    }
    let policy = match forward.policy {
        Policy::Random => "random",
        Policy::RoundRobin => "round_robin",
        Policy::Sequential => "sequential",
    };
    writeln!(f, "        policy {policy}")?;
    super::tls::write_all(forward, f)?;
    if let Some(zones) = &grpc.fallthrough {
        write!(f, "        fallthrough")?;
        word::names(f, zones)?;
        writeln!(f)?;
    }
    writeln!(f, "        max_conns {}", forward.sizing.max_conns)?;
    writeln!(f, "    }}")
}
