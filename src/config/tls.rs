//! TLS settings of both sides, as plain data.
//!
//! The files are read here, when the configuration is, so that two configurations are equal only if
//! their certificates are; what the bytes mean (certificates, keys, authorities) is found out by
//! the room `tls`, which also reports their errors. Keys are never shown.

use super::context::Context;
use super::error::DirectiveError;
use crate::corefile::Token;
use crate::dnssec::SecretBytes;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// A file of certificates or a key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pem {
    /// Path as written.
    pub path: String,
    /// Path after resolution.
    pub place: PathBuf,
    /// Contents when the configuration was read.
    pub bytes: SecretBytes,
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.path, self.bytes.len())
    }
}

/// TLS settings of an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientTls {
    /// The name that its certificate must be for. `None`: its address.
    pub name: Option<String>,
    /// Authorities of its certificate. `None`: those of the system.
    pub authorities: Option<Pem>,
    /// Certificate and key of this client, for upstreams that require one.
    pub identity: Option<(Pem, Pem)>,
    /// Accepted keys: SHA-256 of the SubjectPublicKeyInfo. Empty: any.
    pub pins: Vec<[u8; 32]>,
    /// Protocols to agree on in the handshake.
    pub alpn: Alpn,
}

/// Protocols that are offered to an upstream in the handshake (ALPN, RFC 7301).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// DNS over TLS.
    #[default]
    Dot,
    /// HTTP/2, else HTTP/1.1.
    Http,
    /// HTTP/2.
    Http2,
    /// DNS over QUIC, which has TLS in it.
    Doq,
}

impl ClientTls {
    /// The files that it was read from.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Pem> {
        let own = self.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
        own.chain(&self.authorities)
    }

    /// Returns true if only the pins identify the upstream: neither a name nor an authority is
    /// given.
    pub(crate) fn is_known_by_pins_alone(&self) -> bool {
        !self.pins.is_empty() && self.name.is_none() && self.authorities.is_none()
    }
}

/// TLS settings of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerTls {
    /// The certificate, and those between it and its authority.
    pub certificate: Pem,
    /// Private key.
    pub key: Pem,
    /// Authorities of clients' certificates. `None`: those of the system.
    pub authorities: Option<Pem>,
    /// Policy for certificates of clients.
    pub client_auth: ClientAuth,
}

impl ServerTls {
    /// The files that it was read from.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Pem> {
        [&self.certificate, &self.key].into_iter().chain(&self.authorities)
    }

    /// Returns true if both ask the same of clients.
    pub(super) fn asks_as(&self, other: &Self) -> bool {
        (self.client_auth, &self.authorities) == (other.client_auth, &other.authorities)
    }
}

/// Policy for certificates of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClientAuth {
    /// Not requested.
    #[default]
    NoCert,
    /// Requested; any is accepted, and none.
    Request,
    /// Any will do.
    Require,
    /// One that is shown must be of an authority.
    VerifyIfGiven,
    /// One of an authority.
    RequireAndVerify,
}

impl ClientAuth {
    /// All, as they are written.
    pub(super) const NAMES: [(&'static str, Self); 5] = [
        ("nocert", Self::NoCert),
        ("request", Self::Request),
        ("require", Self::Require),
        ("verify_if_given", Self::VerifyIfGiven),
        ("require_and_verify", Self::RequireAndVerify),
    ];

    /// As it is written.
    pub(super) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, known)| *known == self).map_or("nocert", |(name, _)| name)
    }
}

/// Reads the file that `path` names, relative to `root`.
pub(super) fn read_file(
    path: &Token,
    root: Option<&str>,
    context: &Context<'_>,
) -> Result<Pem, DirectiveError> {
    let sources = &context.host.sources;
    let place = sources.working_directory.join(root.unwrap_or_default()).join(&*path.text);
    let bytes = (sources.read)(&place).map_err(|error| {
        DirectiveError::host(path, format!("error reading {}: {error}", path.text))
    })?;
    Ok(Pem { path: path.text.to_string(), place, bytes: bytes.into() })
}

/// The name as certificates have it, if it can be in one: of a host, or an address.
pub(super) fn server_name(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(known)
    };
    let is_name = text.len() <= 253 && text.split('.').all(is_label);
    (is_name || text.parse::<IpAddr>().is_ok()).then(|| text.to_ascii_lowercase())
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const PIN_PREFIX: &str = "sha256/";

/// The hash that `sha256/BASE64` says.
pub(super) fn parse_pin(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix(PIN_PREFIX)?.strip_suffix('=')?;
    // Of the last of 43 digits only four bits count.
    let (mut bits, mut count, mut pin, mut len) = (0_u32, 0, [0; 32], 0);
    for digit in digits.bytes() {
        let value = BASE64.iter().position(|known| *known == digit)?;
        (bits, count) = (bits << 6 | value as u32, count + 6);
        if count >= 8 {
            count -= 8;
            *pin.get_mut(len)? = (bits >> count) as u8;
            len += 1;
        }
    }
    (digits.len() == 43 && bits & 3 == 0).then_some(pin)
}

/// A pin as it is written.
pub(crate) struct Pin<'a>(pub(crate) &'a [u8; 32]);

impl fmt::Display for Pin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |number: usize| {
            let bit = |place: usize| {
                let byte = self.0.get(place / 8).copied().unwrap_or(0);
                usize::from(byte >> (7 - place % 8) & 1)
            };
            let value =
                (6 * number..6 * number + 6).fold(0, |value, place| value << 1 | bit(place));
            char::from(BASE64[value])
        };
        write!(f, "{PIN_PREFIX}{}=", (0..43).map(digit).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::{Pin, parse_pin, server_name};

    #[test]
    fn a_pin_reads_as_it_is_written() {
        let quad9 = "sha256/i2kObfz0qIKCGNWt7MjBUeSrh0Dyjb0/zWINImZES+I=";
        let pin = parse_pin(quad9).unwrap();
        assert_eq!((pin[0], pin[31]), (0x8b, 0xe2));
        assert_eq!(Pin(&pin).to_string(), quad9);
        let short = &quad9[..quad9.len() - 2];
        let odd = quad9.replace("I=", "J=");
        for text in ["", "sha256/", short, &odd, &quad9[7..], &quad9.replace('f', "!")] {
            assert_eq!(parse_pin(text), None, "{text}");
        }
    }

    #[test]
    fn a_server_name_is_what_a_certificate_can_have() {
        for (text, name) in [("Dns.Quad9.net.", "dns.quad9.net"), ("::1", "::1"), ("a_b", "a_b")] {
            assert_eq!(server_name(text).as_deref(), Some(name));
        }
        for text in ["", ".", "a..b", "a b", "a%b", &"a".repeat(64)] {
            assert_eq!(server_name(text), None, "{text}");
        }
    }
}
