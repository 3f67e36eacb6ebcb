//! `loadbalance [round_robin] { prefer CIDR… }`
//!
//! Shuffles the addresses in answers. Of several stanzas the last applies. The policy `weighted` is
//! not built.

use super::super::Net;
use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::quote::quote;
use super::super::word::list;
use crate::corefile::{Cursor, ParseError, did_you_mean};
use std::fmt;

/// Settings of `loadbalance`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LoadBalance {
    /// Addresses in the first of these come first, and so on.
    pub(crate) prefer: Vec<Net>,
}

/// Reads all `loadbalance` stanzas of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<LoadBalance>, DirectiveError> {
    let mut last = None;
    while context.stanza("loadbalance", cursor).is_some() {
        match &cursor.rest()[..] {
            [] => {}
            [policy, ..] if &*policy.text == "weighted" => {
                return Err(DirectiveError::not_built(policy, "loadbalance policy 'weighted'"));
            }
            [policy] if &*policy.text == "round_robin" => {}
            [policy] => {
                let suggestion = did_you_mean(&policy.text, ["round_robin", "weighted"]);
                let message = format!("unknown policy: {}{suggestion}", policy.text);
                return Err(DirectiveError::value(policy, message));
            }
            [..] => return Err(cursor.argument_error().into()),
        }
        let mut prefer = Vec::new();
        while let Some(property) = cursor.block() {
            match &*property.text {
                "prefer" => {
                    let networks = cursor.rest();
                    if networks.is_empty() {
                        let message = "plugin/loadbalance: prefer has no effect without a network";
                        context.warn(&property.place, message);
                    }
                    for written in networks {
                        let net = Net::parse(&written.text).filter(|_| written.text.contains('/'));
                        prefer.push(net.ok_or_else(|| {
                            let message = format!("invalid CIDR: {}", quote(&written.text));
                            DirectiveError::value(written, message)
                        })?);
                    }
                }
                "reload" => {
                    let message = "reload is for the policy weighted only";
                    return Err(DirectiveError::value(property, message));
                }
                other => {
                    let suggestion = did_you_mean(other, ["prefer"]);
                    let message = format!("unknown property '{other}'{suggestion}");
                    return Err(ParseError::at(property, message).into());
                }
            }
        }
        last = Some(LoadBalance { prefer });
    }
    Ok(last)
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &Option<LoadBalance>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    settings.iter().try_for_each(|loadbalance| write!(f, "{loadbalance}"))
}

impl fmt::Display for LoadBalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "    loadbalance round_robin")?;
        if !self.prefer.is_empty() {
            write!(f, " {{\n        prefer")?;
            list(f, &self.prefer)?;
            write!(f, "\n    }}")?;
        }
        writeln!(f)
    }
}
