//! `https://ADDRESS[:PORT][/PATH]`, `doh_method GET|POST`
//!
//! Upstreams that speak DNS over HTTPS (RFC 8484). The path is `/dns-query` if none is written. The
//! reference refuses paths; public servers have them for the settings of an account.

use super::super::error::DirectiveError;
use super::super::{ClientTls, Forward, HttpCarrier, HttpTarget, quote::quote};
use crate::corefile::{Cursor, Place, Token};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Path of queries, if none is written.
const PATH: &str = "/dns-query";
/// Maximum length of a path.
const PATH_LEN_MAX: usize = 1_024;
/// End of a template (RFC 6570) as providers publish it; the parameter is added for GET anyway.
const TEMPLATE: &str = "{?dns}";
/// Port that the authority of a request leaves out.
const PORT: u16 = 443;

/// The method of a stanza's queries.
#[derive(Default)]
pub(super) struct Method {
    is_get: bool,
    /// Place of the option.
    pub(super) place: Option<Place>,
}

impl Method {
    /// Reads the option.
    pub(super) fn read(property: &Token, cursor: &mut Cursor<'_>) -> Result<Self, DirectiveError> {
        let method = cursor.expect_arg()?;
        let is_get = match &*method.text {
            "GET" => true,
            "POST" => false,
            _ => {
                let message = "doh_method must be either POST or GET";
                return Err(DirectiveError::value(method, message));
            }
        };
        Ok(Self { is_get, place: Some(property.place.clone()) })
    }

    /// Returns the target of requests to the upstream at `address`.
    pub(super) fn target(&self, path: &str, address: SocketAddr, tls: &ClientTls) -> HttpTarget {
        let (host, port) = match &tls.name {
            Some(name) => (name.clone(), address.port()),
            None => (address.ip().to_string(), address.port()),
        };
        // Only an address of IPv6 has colons.
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let authority = if port == PORT { host } else { format!("{host}:{port}") };
        let carrier = HttpCarrier::Doh { path: path.to_owned(), is_get: self.is_get };
        HttpTarget { authority, carrier }
    }
}

/// Splits the path from an address or name of an upstream. A text that begins with `/` names a
/// file.
pub(super) fn split_path(rest: &str) -> (&str, Option<&str>) {
    match rest.find('/') {
        None | Some(0) => (rest, None),
        Some(at) => {
            let (address, path) = rest.split_at(at);
            (address, Some(path))
        }
    }
}

/// Returns the path of queries to the upstream that `argument` names; `written`: as split from it.
pub(super) fn path(argument: &Token, written: Option<&str>) -> Result<String, DirectiveError> {
    let Some(written) = written else { return Ok(PATH.to_owned()) };
    let path = written.strip_suffix(TEMPLATE).unwrap_or(written);
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&byte);
    if let Some(bad) = path.chars().find(|bad| !u8::try_from(*bad).is_ok_and(is_allowed)) {
        let message = format!(
            "the path of upstream {} has a character that no path can have: {bad:?}",
            quote(&argument.text)
        );
        return Err(DirectiveError::value(argument, message));
    }
    if path.len() > PATH_LEN_MAX {
        let message = format!("the path of an upstream has more than {PATH_LEN_MAX} characters");
        return Err(DirectiveError::value(argument, message));
    }
    Ok(path.to_owned())
}

/// Writes the upstream at `address`, which has this `target`.
pub(super) fn write_upstream(
    (address, name): (SocketAddr, Option<&str>),
    target: &HttpTarget,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let (ip, port) = (address.ip(), address.port());
    let name = name.map_or_else(String::new, |name| format!("%{name}"));
    match ip {
        IpAddr::V4(ip) => write!(f, " https://{ip}{name}:{port}")?,
        IpAddr::V6(ip) => write!(f, " https://[{ip}{name}]:{port}")?,
    }
    match &target.carrier {
        HttpCarrier::Doh { path, .. } if path != PATH => f.write_str(path),
        _ => Ok(()),
    }
}

/// Writes the option, if an upstream of the stanza needs it.
pub(in super::super) fn write(forward: &Forward, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut targets = forward.upstreams.iter().filter_map(|upstream| upstream.http.as_ref());
    let is_get =
        |target: &HttpTarget| matches!(target.carrier, HttpCarrier::Doh { is_get: true, .. });
    match targets.any(|target| is_get(target)) {
        true => writeln!(f, "        doh_method GET"),
        false => Ok(()),
    }
}
