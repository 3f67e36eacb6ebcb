//! `dns64 [PREFIX] { prefix PREFIX; allow_ipv4; translate_all }`
//!
//! IPv6 addresses made of IPv4 addresses, for clients behind a NAT64. Of several stanzas the last
//! applies, as in the reference; a block behind PREFIX is read, which the reference ignores.

use super::super::context::Context;
use super::super::error::DirectiveError;
use crate::corefile::{Cursor, ParseError, Token, did_you_mean};
use std::fmt;
use std::net::Ipv6Addr;

/// The prefix for every NAT64 (RFC 6052 §2.1).
const WELL_KNOWN: Nat64Prefix =
    Nat64Prefix { address: Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), length: 96 };
/// Prefixes of one stanza at most: each address of an answer becomes as many.
const PREFIXES_MAX: usize = 8;
const PROPERTIES: [&str; 3] = ["prefix", "allow_ipv4", "translate_all"];

/// The prefix of IPv6 addresses that stand for IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Nat64Prefix {
    /// First address.
    pub(crate) address: Ipv6Addr,
    /// Length in bits: 32 to 96, a multiple of 8.
    pub(crate) length: u8,
}

impl Nat64Prefix {
    /// Returns true for the prefix that stands for every NAT64.
    pub(crate) fn is_well_known(&self) -> bool {
        *self == WELL_KNOWN
    }

    fn read(word: &Token) -> Result<Self, DirectiveError> {
        let text = &*word.text;
        let (address, length) = text.split_once('/').ok_or_else(|| {
            let message =
                format!("invalid CIDR address: {text}: expected a prefix such as {WELL_KNOWN}");
            DirectiveError::value(word, message)
        })?;
        let address: Ipv6Addr = address.parse().map_err(|_| {
            let message =
                format!("invalid IPv6 prefix \"{text}\": expected one such as {WELL_KNOWN}");
            DirectiveError::value(word, message)
        })?;
        let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
        let length = length
            .parse::<u8>()
            .ok()
            .filter(|length| digits && (32..=96).contains(length) && length.is_multiple_of(8));
        let length = length.ok_or_else(|| {
            let message =
                format!("invalid prefix length \"{text}\": expected 32 to 96 in steps of 8");
            DirectiveError::value(word, message)
        })?;
        let host = 128 - u32::from(length);
        let address = Ipv6Addr::from(u128::from(address) >> host << host);
        Ok(Self { address, length })
    }
}

impl fmt::Display for Nat64Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// Prefixes and switches of one stanza.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dns64 {
    /// The prefixes, each of which every address gets.
    pub(crate) prefixes: Vec<Nat64Prefix>,
    /// Clients that ask over IPv4 get such addresses as well.
    pub(crate) allow_ipv4: bool,
    /// Names that have IPv6 addresses get others.
    pub(crate) translate_all: bool,
}

/// Reads all `dns64` stanzas of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<Dns64>, DirectiveError> {
    let mut last = None;
    while let Some(stanza) = context.stanza("dns64", cursor) {
        let mut dns64 = Dns64 { prefixes: Vec::new(), allow_ipv4: false, translate_all: false };
        match cursor.rest().as_slice() {
            [] => {}
            [word] => dns64.prefixes.push(Nat64Prefix::read(word)?),
            _ => return Err(cursor.argument_error().into()),
        }
        while let Some(property) = cursor.block() {
            match &*property.text {
                "prefix" => {
                    let word = cursor.expect_arg()?;
                    let prefix = Nat64Prefix::read(word)?;
                    if !dns64.prefixes.contains(&prefix) {
                        dns64.prefixes.push(prefix);
                    }
                    if dns64.prefixes.len() > PREFIXES_MAX {
                        let message = format!("too many prefixes: at most {PREFIXES_MAX}");
                        return Err(DirectiveError::value(word, message));
                    }
                }
                "allow_ipv4" => dns64.allow_ipv4 = true,
                "translate_all" => dns64.translate_all = true,
                other => {
                    let suggestion = did_you_mean(other, PROPERTIES);
                    let message = format!("unknown property '{other}'{suggestion}");
                    return Err(ParseError::at(property, message).into());
                }
            }
            cursor.expect_no_arg()?;
        }
        if dns64.prefixes.is_empty() {
            dns64.prefixes.push(WELL_KNOWN);
        }
        if last.is_some() {
            let message = "plugin/dns64: the 'dns64' before this one has no effect: the last one \
                           applies";
            context.warn(&stanza.place, message);
        }
        last = Some(dns64);
    }
    Ok(last)
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &Option<Dns64>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    settings.iter().try_for_each(|settings| write!(f, "{settings}"))
}

impl fmt::Display for Dns64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "    dns64 {{")?;
        for prefix in &self.prefixes {
            writeln!(f, "        prefix {prefix}")?;
        }
        let switches = [("allow_ipv4", self.allow_ipv4), ("translate_all", self.translate_all)];
        for (name, _) in switches.iter().filter(|(_, on)| *on) {
            writeln!(f, "        {name}")?;
        }
        writeln!(f, "    }}")
    }
}
