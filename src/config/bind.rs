//! `bind ADDRESS|INTERFACE… [{ except ADDRESS|INTERFACE… }]`
//!
//! `bind`: the addresses of a server block. An interface means all of its addresses. Several
//! stanzas add up. Whether an address is on this host is known only when it is bound.
//!
//! Beyond the reference, an IPv6 address may carry the interface it is local to
//! (`fe80::1%eth0`), because that is how an effective configuration writes it down.

use super::Host;
use super::context::Context;
use super::error::DirectiveError;
use super::quote::quote;
use crate::corefile::{Cursor, Token};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// The directive.
pub(super) const NAME: &str = "bind";
/// Bytes of an interface's name, without the zero at its end (`IFNAMSIZ` in linux/if.h).
const INTERFACE_LEN_MAX: usize = 15;

/// One address to listen on, without port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BindAddress {
    /// The address itself.
    pub(crate) ip: IpAddr,
    /// The interface that a link-local address belongs to; 0 for any other.
    pub(crate) scope_id: u32,
}

impl BindAddress {
    /// The address with a port.
    pub(crate) fn at(self, port: u16) -> SocketAddr {
        match self.ip {
            IpAddr::V4(ip) => (ip, port).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, self.scope_id).into(),
        }
    }
}

/// Reads all `bind` stanzas of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Vec<BindAddress>, DirectiveError> {
    let mut all = Vec::new();
    while let Some(stanza) = context.stanza("bind", cursor) {
        let named = cursor.rest();
        if named.is_empty() {
            let message = "at least one address or interface name is expected";
            return Err(DirectiveError::value(stanza, message));
        }
        let mut except: Vec<&Token> = Vec::new();
        while let Some(property) = cursor.block() {
            if &*property.text != "except" {
                let message = format!("invalid option {}", quote(&property.text));
                return Err(DirectiveError::value(property, message));
            }
            if let Some(dropped) = except.first() {
                let message =
                    "plugin/bind: 'except' is written more than once: only the last one applies";
                context.warn(&dropped.place, message);
            }
            except = cursor.rest();
            if except.is_empty() {
                let message =
                    "at least one address or interface must be given to except subdirective";
                return Err(DirectiveError::value(property, message));
            }
        }
        let named = addresses(&named, context.host)?;
        let except = except_from(&named, &except, context)?;
        all.extend(named.into_iter().filter(|address| !except.contains(address)));
        if all.is_empty() {
            let message =
                "plugin/bind: 'except' removes all addresses: the server block does not listen";
            context.warn(&stanza.place, message);
        }
    }
    Ok(all)
}

/// Returns the addresses of `except`. One that removes nothing from `named` leads to a warning.
fn except_from(
    named: &[BindAddress],
    except: &[&Token],
    context: &mut Context<'_>,
) -> Result<Vec<BindAddress>, DirectiveError> {
    let mut all = Vec::new();
    for word in except {
        let addresses = addresses(&[word], context.host)?;
        if !addresses.iter().any(|address| named.contains(address)) {
            let message =
                format!("plugin/bind: except {} has no effect: no address matches", word.text);
            context.warn(&word.place, message);
        }
        all.extend(addresses);
    }
    Ok(all)
}

fn addresses(words: &[&Token], host: &Host) -> Result<Vec<BindAddress>, DirectiveError> {
    let mut addresses = Vec::new();
    for word in words {
        let interface = host.interfaces.iter().find(|interface| *interface.name == *word.text);
        if let Some(interface) = interface {
            addresses.extend(interface.addresses.iter().map(|&ip| BindAddress {
                ip: ip.to_canonical(),
                scope_id: if is_link_local(ip) { interface.index } else { 0 },
            }));
        } else {
            let address = literal(&word.text, host).ok_or_else(|| {
                if let Some(interface) = interface_of(&word.text) {
                    let message =
                        format!("{}: this host has no interface {}", word.text, quote(interface));
                    return DirectiveError::host(word, message);
                }
                let message =
                    format!("not a valid IP address or interface name: {}", quote(&word.text));
                let is_missing = may_be_interface(&word.text);
                let error = if is_missing { DirectiveError::host } else { DirectiveError::value };
                error(word, message)
            })?;
            if is_link_local(address.ip) && address.scope_id == 0 {
                // The kernel would only say that something is invalid.
                let message = format!(
                    "{0} is a link-local address without an interface: write {0}%eth0",
                    word.text
                );
                return Err(DirectiveError::value(word, message));
            }
            addresses.push(address);
        }
    }
    Ok(addresses)
}

fn literal(text: &str, host: &Host) -> Option<BindAddress> {
    if let Some((address, zone)) = text.split_once('%') {
        let ip = address.parse::<Ipv6Addr>().ok()?.into();
        return Some(BindAddress { ip, scope_id: host.scope_id(zone)? });
    }
    let ip = text.parse::<IpAddr>().ok()?.to_canonical();
    Some(BindAddress { ip, scope_id: 0 })
}

/// The name of an interface behind an address.
fn interface_of(text: &str) -> Option<&str> {
    let (address, interface) = text.split_once('%')?;
    address.parse::<Ipv6Addr>().ok().filter(|_| may_be_interface(interface)).map(|_| interface)
}

/// True for what an interface may be called that is not there yet, false for misspelt addresses.
fn may_be_interface(text: &str) -> bool {
    let is_known =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@');
    text.len() <= INTERFACE_LEN_MAX
        && text.bytes().all(is_known)
        && text.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// True for an address that means nothing without an interface.
pub(super) fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}
