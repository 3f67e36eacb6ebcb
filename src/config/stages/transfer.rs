//! `transfer [ZONES...] { to ADDRESS[:PORT]|CIDR|*... [key NAME]; source IP }`
//!
//! Clients that may have zones of the server block whole, and secondaries that are notified of
//! changes: each ADDRESS is both, CIDR and `*` are only clients. The longest of ZONES decides. A
//! `key` is one of the block's `tsig`: queries have to be signed with it, and NOTIFY is.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::word;
use super::super::{Name, Net};
use super::file;
use crate::corefile::{Cursor, ParseError, Token, did_you_mean};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Port of secondaries without one.
const PORT: u16 = 53;
const OPTIONS: [&str; 2] = ["to", "source"];

/// Clients of transfers of some zones.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Transfer {
    /// Zones at or below these are meant. `None`: all that the server block serves.
    pub(crate) zones: Option<Vec<Name>>,
    /// The clients; at least one.
    pub(crate) to: Vec<TransferTarget>,
    /// Source address of NOTIFY. `None`: the kernel chooses.
    pub(crate) source: Option<IpAddr>,
}

impl Transfer {
    /// Names of the keys that its clients have to sign with.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Name> {
        self.to.iter().filter_map(|target| target.key.as_ref())
    }
}

/// One client, or many.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TransferTarget {
    /// Addresses of the clients.
    pub(crate) clients: TransferClients,
    /// Name of the key that queries have to be signed with, one of the block's `tsig`.
    pub(crate) key: Option<Name>,
}

/// Addresses of clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TransferClients {
    Any,
    /// Addresses of a network.
    Net(Net),
    /// A secondary, which is notified at this port.
    Secondary(SocketAddr),
}

impl TransferClients {
    /// Returns true if `address` is one of them.
    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match self {
            Self::Any => true,
            Self::Net(net) => net.contains(address),
            Self::Secondary(secondary) => secondary.ip().to_canonical() == address,
        }
    }
}

/// Reads all `transfer` stanzas of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Vec<Transfer>, DirectiveError> {
    let mut transfers = Vec::new();
    while let Some(stanza) = context.stanza("transfer", cursor) {
        let words = cursor.rest();
        let zones = file::zones("transfer", &words, context)?;
        let zones = (!words.is_empty()).then_some(zones);
        let mut transfer = Transfer { zones, to: Vec::new(), source: None };
        while let Some(property) = cursor.block() {
            match &*property.text {
                "to" => targets(&cursor.expect_rest()?, &mut transfer.to)?,
                "source" => {
                    let word = cursor.expect_arg()?;
                    cursor.expect_no_arg()?;
                    if transfer.source.is_some() {
                        return Err(ParseError::at(property, "source already specified").into());
                    }
                    let source = word.text.parse().map_err(|_| {
                        let message = format!("invalid source address '{}'", word.text);
                        ParseError::at(word, message)
                    });
                    transfer.source = Some(source?);
                }
                other => {
                    let suggestion = did_you_mean(other, OPTIONS);
                    let message = format!("unknown property '{other}'{suggestion}");
                    return Err(ParseError::at(property, message).into());
                }
            }
        }
        if transfer.to.is_empty() {
            return Err(ParseError::at(stanza, "'to' is required").into());
        }
        transfers.push(transfer);
    }
    Ok(transfers)
}

/// Reads the words behind `to`.
fn targets(words: &[&Token], out: &mut Vec<TransferTarget>) -> Result<(), DirectiveError> {
    let (addresses, key) = match words {
        [addresses @ .., key, name] if &*key.text == "key" => (addresses, Some(key_name(name)?)),
        _ => (words, None),
    };
    if addresses.is_empty() {
        return Err(DirectiveError::value(words[0], "expected an address before 'key'"));
    }
    for word in addresses {
        let clients = clients(&word.text).ok_or_else(|| {
            let message = format!("must specify an IP address: '{}'", word.text);
            DirectiveError::value(word, message)
        })?;
        out.push(TransferTarget { clients, key: key.clone() });
    }
    Ok(())
}

fn clients(text: &str) -> Option<TransferClients> {
    if text == "*" {
        return Some(TransferClients::Any);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(TransferClients::Secondary((address, PORT).into()));
    }
    match text.parse::<SocketAddr>() {
        Ok(secondary) if secondary.port() > 0 => Some(TransferClients::Secondary(secondary)),
        Ok(_) => None,
        Err(_) => Net::parse(text).map(TransferClients::Net),
    }
}

/// Reads the name of a key.
fn key_name(name: &Token) -> Result<Name, DirectiveError> {
    Name::parse(&name.text).map_err(|error| {
        DirectiveError::value(name, format!("invalid name of a key '{}': {error}", name.text))
    })
}

/// Writes all stanzas of a server block.
pub(super) fn write(stanzas: &[Transfer], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    stanzas.iter().try_for_each(|transfer| write!(f, "{transfer}"))
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "    transfer")?;
        self.zones.iter().try_for_each(|zones| word::names(f, zones))?;
        writeln!(f, " {{")?;
        for TransferTarget { clients, key } in &self.to {
            write!(f, "        to {clients}")?;
            match key {
                Some(key) => writeln!(f, " key {}", key.in_corefile())?,
                None => writeln!(f)?,
            }
        }
        self.source.iter().try_for_each(|source| writeln!(f, "        source {source}"))?;
        writeln!(f, "    }}")
    }
}

impl fmt::Display for TransferClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Net(net) => net.fmt(f),
            Self::Secondary(secondary) if secondary.port() == PORT => secondary.ip().fmt(f),
            Self::Secondary(secondary) => secondary.fmt(f),
        }
    }
}
