//! Protocols that clients speak, and the sockets that each needs.
//!
//! The scheme of a server block's key names the protocol. Two listeners may share an address and
//! port where the kernel tells their packets apart: one over UDP, the other over TCP.

use std::fmt;

/// Default port of DNS over TLS (RFC 7858 §3.1) and of DNS over QUIC (RFC 9250 §4.1.1).
pub(super) const TLS_PORT: u16 = 853;
/// Default port of DNS over HTTPS (RFC 8484), in each version of HTTP, and of gRPC.
pub(super) const HTTPS_PORT: u16 = 443;

/// Protocol of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// DNS over UDP and TCP (RFC 1035).
    Dns,
    /// DNS over TLS (RFC 7858).
    Tls,
    /// DNS over HTTP/1.1 and HTTP/2 (RFC 8484).
    Https,
    /// DNS over HTTP/3 (RFC 8484, RFC 9114).
    Https3,
    /// DNS over gRPC, as in CoreDNS.
    Grpc,
    /// DNS over QUIC (RFC 9250).
    Quic,
}

/// Transport layers of a listener's sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layers {
    /// A UDP socket.
    pub(crate) udp: bool,
    /// A TCP socket.
    pub(crate) tcp: bool,
}

impl Layers {
    /// Returns true if both have a socket of the same layer, so that they cannot share a port.
    pub(crate) fn overlap(self, other: Self) -> bool {
        self.udp && other.udp || self.tcp && other.tcp
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme())
    }
}

impl Protocol {
    /// All that are served.
    pub(crate) const ALL: [Self; 6] =
        [Self::Dns, Self::Tls, Self::Https, Self::Https3, Self::Grpc, Self::Quic];

    /// Returns the scheme of its keys in a Corefile.
    pub(crate) fn scheme(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Https => "https",
            Self::Https3 => "https3",
            Self::Grpc => "grpc",
            Self::Quic => "quic",
        }
    }

    /// Returns the port of keys that name none. `dns`: the host's setting for plain DNS.
    pub(crate) fn default_port(self, dns: u16) -> u16 {
        match self {
            Self::Dns => dns,
            Self::Tls | Self::Quic => TLS_PORT,
            Self::Https | Self::Https3 | Self::Grpc => HTTPS_PORT,
        }
    }

    /// Returns the layers that its listeners need.
    pub(crate) fn layers(self) -> Layers {
        match self {
            Self::Dns => Layers { udp: true, tcp: true },
            Self::Tls | Self::Https | Self::Grpc => Layers { udp: false, tcp: true },
            Self::Https3 | Self::Quic => Layers { udp: true, tcp: false },
        }
    }

    /// Returns true if its clients use QUIC, which has no form without encryption.
    pub(crate) fn is_quic(self) -> bool {
        matches!(self, Self::Https3 | Self::Quic)
    }

    /// Returns true if its listeners show a certificate, where the server block has one.
    pub(crate) fn has_certificate(self) -> bool {
        self != Self::Dns
    }
}
