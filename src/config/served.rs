//! Zones that a server block serves: their names, and where and how clients ask for them.
//!
//! A key of a server block in the Corefile is a zone with an optional scheme and port; here both
//! are known.

use super::Name;

/// Protocol of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// DNS over UDP and TCP (RFC 1035).
    Dns,
    /// DNS over TLS (RFC 7858).
    Tls,
}

impl Protocol {
    /// The scheme of its keys in a Corefile.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tls => "tls",
        }
    }
}

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
