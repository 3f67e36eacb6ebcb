//! Addresses of HTTP endpoints, as directives read and write them.
//!
//! `:PORT` means all addresses of both families, and so does `[::]:PORT`.

use super::context::Context;
use super::duration;
use super::error::DirectiveError;
use super::forward::may_be_host_name;
use super::quote::quote;
use crate::corefile::{Cursor, Token};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

/// All addresses of both families, with this port.
pub(super) fn any(port: u16) -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, port).into()
}

/// Reads the address behind a directive's name, if there is one, and nothing else on its line.
pub(super) fn read_address(
    cursor: &mut Cursor<'_>,
    context: &Context<'_>,
    default: SocketAddr,
) -> Result<SocketAddr, DirectiveError> {
    match &cursor.rest()[..] {
        [] => Ok(default),
        [written] => parse(written, context),
        [..] => Err(cursor.argument_error().into()),
    }
}

/// Reads a duration that is not negative; `what` it is for.
pub(super) fn read_duration(written: &Token, what: &str) -> Result<Duration, DirectiveError> {
    let nanos = duration::parse(&written.text).map_err(|why| {
        let message = format!("unable to parse {what} duration value: '{}' : {why}", written.text);
        DirectiveError::value(written, message)
    })?;
    let negative = || DirectiveError::value(written, format!("{what} must not be negative"));
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| negative())
}

/// Returns the address as a Corefile writes it.
pub(super) fn show(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V6(ip) if ip.is_unspecified() => format!(":{}", address.port()),
        _ => address.to_string(),
    }
}

/// The address that `HOST:PORT` means, HOST being an address, a name that has one, or nothing.
fn parse(written: &Token, context: &Context<'_>) -> Result<SocketAddr, DirectiveError> {
    let text = &*written.text;
    let message = |why: &str| format!("address {}: {why}", quote(text));
    let wrong = |why: &str| DirectiveError::value(written, message(why));
    let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("missing port in address"))?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if bare.is_none() && host.contains([':', '[', ']']) {
        return Err(wrong("an IPv6 address must be in brackets: [ADDRESS]:PORT"));
    }
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| is_number);
    let port: u16 = port.ok_or_else(|| wrong("invalid port"))?;
    let host = match bare {
        Some(host) => {
            let (ip, zone) =
                host.split_once('%').map_or((host, None), |(ip, zone)| (ip, Some(zone)));
            let ip = ip.parse::<Ipv6Addr>().map_err(|_| wrong("no IPv6 address"))?;
            let scope_id = zone.map_or(Some(0), |zone| context.host.scope_id(zone));
            let missing =
                || DirectiveError::host(written, message("this host has no such interface"));
            return Ok(bracketed(ip, port, scope_id.ok_or_else(missing)?));
        }
        None => host,
    };
    if host.is_empty() {
        return Ok(any(port));
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Ok((ip, port).into());
    }
    let unresolved = |why: &str| {
        let error =
            if may_be_host_name(host) { DirectiveError::host } else { DirectiveError::value };
        error(written, message(why))
    };
    let found = (context.host.lookup)(host, &[]).map_err(|why| {
        unresolved(&format!("neither an IP address nor a name that resolves: {why}"))
    })?;
    let first = found.addresses.first().ok_or_else(|| unresolved("the name has no address"))?;
    Ok((first.to_canonical(), port).into())
}

/// An address of IPv6 that was written in brackets, on the interface with this number.
fn bracketed(ip: Ipv6Addr, port: u16, scope_id: u32) -> SocketAddr {
    match ip.to_ipv4_mapped() {
        Some(ip) => (ip, port).into(),
        None => SocketAddrV6::new(ip, port, 0, scope_id).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::show;
    use crate::config::{Config, Host, Resolved};

    fn address(text: &str) -> Result<String, String> {
        let lookup = |name: &str, _: &[_]| match name {
            "m.test" => Ok(Resolved {
                addresses: vec!["192.0.2.7".parse().unwrap()],
                ttl: None,
                incomplete: None,
            }),
            _ => Err("no such name".to_owned()),
        };
        let host = Host { lookup: Box::new(lookup), ..Host::plain() };
        let text = format!(". {{\n status {text}\n}}\n");
        let loaded = Config::load(text.as_bytes(), "f", &host).map_err(|error| error.to_string());
        loaded.map(|(config, _)| show(config.http()[0].address))
    }

    #[test]
    fn an_address_is_read_as_it_is_written() {
        for (text, shown) in [
            ("", "127.0.0.1:8053"),
            (":9153", ":9153"),
            ("[::]:9153", ":9153"),
            ("0.0.0.0:9153", "0.0.0.0:9153"),
            ("localhost:1", "127.0.0.1:1"),
            ("LocalHost:1", "127.0.0.1:1"),
            ("m.test:80", "192.0.2.7:80"),
            ("[::1]:0", "[::1]:0"),
            ("[::ffff:192.0.2.1]:5", "192.0.2.1:5"),
            ("[fe80::1%lo]:80", "[fe80::1%1]:80"),
            ("[fe80::1%7]:80", "[fe80::1%7]:80"),
        ] {
            assert_eq!(address(text), Ok(shown.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_where_it_stands() {
        for (text, why) in [
            ("8080", "missing port in address"),
            ("127.0.0.1", "missing port in address"),
            ("::1", "must be in brackets"),
            ("::1:80", "must be in brackets"),
            ("[::1]", "must be in brackets"),
            ("[127.0.0.1]:80", "no IPv6 address"),
            ("[fe80::1%gone]:80", "this host has no such interface"),
            ("127.0.0.1:", "invalid port"),
            ("127.0.0.1:http", "invalid port"),
            ("127.0.0.1:65536", "invalid port"),
            ("127.0.0.1:+80", "invalid port"),
            ("n.test:80", "neither an IP address nor a name that resolves: no such name"),
            ("127.0.0.1:80 x", "Wrong argument count"),
        ] {
            let error = address(text).unwrap_err();
            assert!(error.contains(why) && error.contains("f:2 - "), "{text}: {error}");
        }
    }
}
