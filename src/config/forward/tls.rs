//! `tls [CERT KEY] [CA]`, `tls_servername NAME`, `tls_pin sha256/BASE64…`
//!
//! TLS settings of a stanza's `tls://`, `https://` and `quic://` upstreams. All of them share the
//! files and the pins; the name is the stanza's or each upstream's own, never both. An upstream
//! that is written as a host name is known by that name if none is said, where the reference would
//! want its address in the certificate.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::tls::{self, Alpn, ClientTls, Pin};
use super::super::word::Word;
use super::super::{Forward, HttpCarrier, HttpTarget, Upstream};
use super::https;
use super::targets::{Found, Known};
use crate::corefile::{Cursor, ParseError, Place, Token};
use std::fmt;
use std::sync::Arc;

/// Pins of a stanza: of the keys that its upstreams have, and of the next ones.
const PINS_MAX: usize = 64;

/// TLS options as written.
#[derive(Default)]
pub(in super::super) struct Written {
    files: ClientTls,
    name: Option<(String, Place)>,
    /// Place of the first option.
    place: Option<Place>,
}

impl Written {
    /// Reads one of the options.
    pub(in super::super) fn read(
        &mut self,
        property: &Token,
        cursor: &mut Cursor<'_>,
        context: &Context<'_>,
    ) -> Result<(), DirectiveError> {
        self.place.get_or_insert_with(|| property.place.clone());
        match &*property.text {
            "tls" => {
                let paths = cursor.rest();
                let file = |path| tls::read_file(path, context.root, context);
                let (identity, authorities) = match paths[..] {
                    [] => (None, None),
                    [authorities] => (None, Some(authorities)),
                    [certificate, key] => (Some((certificate, key)), None),
                    [certificate, key, authorities] => {
                        (Some((certificate, key)), Some(authorities))
                    }
                    _ => return Err(cursor.argument_error().into()),
                };
                let both =
                    |(certificate, key)| Ok::<_, DirectiveError>((file(certificate)?, file(key)?));
                self.files.identity = identity.map(both).transpose()?;
                self.files.authorities = authorities.map(file).transpose()?;
            }
            "tls_servername" => {
                let name = cursor.expect_arg()?;
                self.name = Some((server_name(name, &name.text)?, name.place.clone()));
            }
            _ => {
                let written = cursor.expect_rest()?;
                for word in written {
                    let pin = tls::parse_pin(&word.text).ok_or_else(|| {
                        let message = format!(
                            "'{}' is not a valid pin: expected sha256/ and 44 base64 characters \
                             (SHA-256)",
                            word.text
                        );
                        ParseError::at(word, message)
                    })?;
                    if self.files.pins.len() >= PINS_MAX {
                        let message = format!("more than {PINS_MAX} pins");
                        return Err(DirectiveError::value(word, message));
                    }
                    self.files.pins.push(pin);
                }
            }
        }
        Ok(())
    }

    /// Returns the place of the first option, if there is any.
    pub(in super::super) fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// Returns the settings that servers without names of their own share.
    pub(in super::super) fn settings(&self) -> ClientTls {
        ClientTls { name: self.name.as_ref().map(|(name, _)| name.clone()), ..self.files.clone() }
    }

    /// Returns the settings as upstreams.
    pub(super) fn apply(
        &self,
        found: Vec<Found>,
        method: &https::Method,
        context: &mut Context<'_>,
    ) -> Result<Vec<Upstream>, DirectiveError> {
        if let Some(place) =
            self.place.as_ref().filter(|_| found.iter().all(|one| one.tls.is_none()))
        {
            let message = "no upstream has tls://, https:// or quic://: the TLS options \
                           have no effect";
            context.warn_of_plugin(place, message);
        }
        let place = method.place.as_ref();
        if let Some(place) = place.filter(|_| found.iter().all(|one| one.path.is_none())) {
            let message = "no upstream has https://: doh_method has no effect";
            context.warn_of_plugin(place, message);
        }
        let upstream = |Found { address, tls, path, is_quic }| {
            let alpn = match &path {
                Some(_) => Alpn::Http,
                None if is_quic => Alpn::Doq,
                None => Alpn::Dot,
            };
            let tls = tls.map(|known| self.known_by(known)).transpose()?;
            let tls = tls.map(|tls| ClientTls { alpn, ..tls });
            let target = |(path, tls): (String, &ClientTls)| method.target(&path, address, tls);
            let http = path.zip(tls.as_ref()).map(target);
            Ok(Upstream { address, tls: tls.map(Arc::new), http: http.map(Arc::new) })
        };
        found.into_iter().map(upstream).collect()
    }

    /// Returns the settings as upstreams of gRPC, which use TLS if one of the options is written.
    pub(super) fn apply_to_grpc(&self, found: Vec<Found>) -> Vec<Upstream> {
        let tls = self.place.as_ref().map(|_| ClientTls { alpn: Alpn::Http2, ..self.settings() });
        let (tls, name) = (tls.map(Arc::new), self.name.as_ref().map(|(name, _)| &**name));
        let upstream = |Found { address, .. }| Upstream {
            address,
            tls: tls.clone(),
            http: Some(Arc::new(HttpTarget {
                authority: name
                    .map_or(address.to_string(), |name| format!("{name}:{}", address.port())),
                carrier: HttpCarrier::Grpc,
            })),
        };
        found.into_iter().map(upstream).collect()
    }

    fn known_by(&self, known: Known) -> Result<ClientTls, DirectiveError> {
        let name = match (&self.name, known) {
            (Some((name, _)), Known::Name { name: own, shown, place }) => {
                let message = format!(
                    "both forward ('{name}') and proxy level ('{own}') TLS servernames are set \
                     for upstream proxy '{shown}'"
                );
                return Err(DirectiveError::Value { place, message });
            }
            (Some((name, _)), _) => Some(name.clone()),
            (None, Known::Name { name, .. } | Known::Host(name)) => Some(name),
            (None, Known::Address) => None,
        };
        Ok(ClientTls { name, ..self.files.clone() })
    }
}

/// The name that a certificate must be for, as `word` says it with `text`.
fn server_name(word: &Token, text: &str) -> Result<String, DirectiveError> {
    tls::server_name(text).ok_or_else(|| {
        DirectiveError::value(word, format!("'{text}' is not a valid name for a certificate"))
    })
}

/// Writes what all upstreams of the stanza share; their names are written with them.
pub(in super::super) fn write(forward: &Forward, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(tls) = forward.upstreams.iter().find_map(|upstream| upstream.tls.as_ref()) else {
        return Ok(());
    };
    if tls.identity.is_some() || tls.authorities.is_some() {
        write!(f, "        tls")?;
        tls.files().try_for_each(|file| write!(f, " {}", Word(&file.path)))?;
        writeln!(f)?;
    }
    tls.pins.iter().try_for_each(|pin| writeln!(f, "        tls_pin {}", Pin(pin)))
}

/// Writes what all upstreams of a stanza of gRPC share, their name included.
pub(super) fn write_all(forward: &Forward, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(tls) = forward.upstreams.iter().find_map(|upstream| upstream.tls.as_ref()) else {
        return Ok(());
    };
    write!(f, "        tls")?;
    tls.files().try_for_each(|file| write!(f, " {}", Word(&file.path)))?;
    writeln!(f)?;
    tls.name.iter().try_for_each(|name| writeln!(f, "        tls_servername {name}"))
}

/// Writes where an upstream is, as a stanza names it.
pub(in super::super) fn write_upstream(
    upstream: &Upstream,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let address = upstream.address;
    if let Some(target) = &upstream.http {
        let name = upstream.tls.as_ref().and_then(|tls| tls.name.as_deref());
        return https::write_upstream((address, name), target, f);
    }
    // A scope is written as a number, and read as such.
    let Some(tls) = &upstream.tls else { return write!(f, " {address}") };
    let scheme = if tls.alpn == Alpn::Doq { "quic" } else { "tls" };
    match &tls.name {
        None => write!(f, " {scheme}://{address}"),
        Some(name) if address.is_ipv4() => {
            write!(f, " {scheme}://{}%{name}:{}", address.ip(), address.port())
        }
        Some(name) => write!(f, " {scheme}://[{}%{name}]:{}", address.ip(), address.port()),
    }
}
