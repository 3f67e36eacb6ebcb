//! Zones that a server block serves: their names, and where and how clients ask for them.
//!
//! A key of a server block in the Corefile is a zone with an optional scheme and port; here both
//! are known.

use super::context::Context;
use super::keys;
use super::protocol::Protocol;
use super::quote::quote;
use super::{ConfigError, Name, lints};
use crate::corefile::{Block, Place};

/// A zone that a server block serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Served {
    /// The zone.
    pub zone: Name,
    /// The port.
    pub port: u16,
    /// Protocol of clients.
    pub protocol: Protocol,
}

/// A zone that a server block serves, as its key is written.
pub(super) struct Key {
    pub(super) place: Place,
    pub(super) name: Name,
    /// Any number until `listeners::port` has seen it.
    pub(super) port: i64,
    /// Protocol of clients.
    pub(super) protocol: Protocol,
}

/// Reads the keys of a server block. An address block becomes the zones that it stands for.
pub(super) fn read(block: &Block, context: &mut Context<'_>) -> Result<Vec<Key>, ConfigError> {
    let mut keys = Vec::new();
    for written in &block.keys {
        let place = &written.place;
        let zone = keys::parse(&written.text)
            .map_err(|message| ConfigError::Key { place: place.clone(), message })?;
        let mut served = Protocol::ALL.into_iter();
        let protocol = served.find(|protocol| protocol.scheme() == zone.scheme);
        let Some(protocol) = protocol else {
            context.lacks(written, format!("serving '{}://'", zone.scheme));
            continue;
        };
        let default_port = protocol.default_port(context.host.default_port);
        let port = zone.port.unwrap_or(default_port.into());
        context
            .count_zones(zone.names.len())
            .map_err(|message| ConfigError::Key { place: place.clone(), message })?;
        let mut hint = lints::of_zone(&written.text, &zone);
        for name in zone.names {
            if !has_preferred_syntax(&name) {
                let domain = quote(&name.to_string());
                let hint = hint.take().map_or_else(String::new, |hint| format!(": {hint}"));
                let message =
                    format!("Domain {domain} does not follow RFC1035 preferred syntax{hint}");
                context.warn(place, message);
            }
            keys.push(Key { place: place.clone(), name, port, protocol });
        }
        if let Some(hint) = hint {
            context.warn(place, format!("zone '{}': {hint}", written.text));
        }
    }
    Ok(keys)
}

/// True for the names that RFC 1035 §2.3.1 prefers, and for those of reverse zones.
fn has_preferred_syntax(name: &Name) -> bool {
    let wire = name.as_wire();
    if wire.ends_with(b"\x07in-addr\x04arpa\0") || wire.ends_with(b"\x03ip6\x04arpa\0") {
        return true;
    }
    name.labels().all(|label| {
        label.first().is_some_and(u8::is_ascii_alphabetic)
            && label.last().is_some_and(u8::is_ascii_alphanumeric)
            && label.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    })
}

#[cfg(test)]
mod tests {
    use super::{Name, has_preferred_syntax};

    #[test]
    fn preferred_syntax_is_letters_digits_and_inner_hyphens() {
        let preferred = |text| has_preferred_syntax(&Name::parse(text).unwrap());
        assert!([".", "a-1.org", "7.10.in-addr.arpa"].into_iter().all(preferred));
        assert!(!["_m.org", "1a.org", "a-.org", "*"].into_iter().any(preferred));
    }
}
