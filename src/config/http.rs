//! Addresses of HTTP endpoints.
//!
//! Four directives name an address each. Addresses that are the same are one listener, whichever
//! directives and blocks name it, and all pages of one kind are the same page: they tell of the
//! whole process. `:PORT` is all addresses of both families, and so is `[::]:PORT`.

use super::error::DirectiveError;
use super::forward::may_be_host_name;
use super::load::Context;
use super::quote::quote;
use super::{Config, Stages, duration};
use crate::corefile::{Cursor, Token};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

/// Connections that are open at once; who comes then takes the place of one that is idle. Readers
/// of such pages come seldom, stay short, and are few.
pub const HTTP_CONNECTIONS_MAX: usize = 64;

/// Something that is served over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// Liveness of the process.
    Health,
    /// Readiness for clients.
    Ready,
    /// Counters, for Prometheus.
    Metrics,
    /// Status, for people and for `onward top`.
    Status,
}

impl Endpoint {
    /// Paths, the first for people.
    pub fn paths(self) -> &'static [&'static str] {
        match self {
            Self::Health => &["/health"],
            Self::Ready => &["/ready"],
            Self::Metrics => &["/metrics"],
            Self::Status => &["/", "/status.json"],
        }
    }

    /// The directive that asks for it.
    pub fn directive(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Ready => "ready",
            Self::Metrics => "prometheus",
            Self::Status => "status",
        }
    }
}

/// One address that pages are served on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpListener {
    /// Address. The unspecified address of IPv6 stands for both families.
    pub address: SocketAddr,
    /// Endpoints, in the order of [`Endpoint`].
    pub pages: Vec<Endpoint>,
}

impl Config {
    /// The addresses that pages are served on, in the order of the file.
    pub fn http(&self) -> Vec<HttpListener> {
        of_blocks(self.blocks.iter().map(|block| &block.stages))
    }

    /// Returns the time for which it goes on serving after a stop: the longest that any block asks
    /// for.
    pub fn lameduck(&self) -> Duration {
        let healths = self.blocks.iter().filter_map(|block| block.stages.health.as_ref());
        healths.map(|health| health.lameduck).max().unwrap_or_default()
    }
}

/// The addresses that these blocks name.
pub(super) fn of_blocks<'a>(blocks: impl Iterator<Item = &'a Stages>) -> Vec<HttpListener> {
    let mut found: Vec<HttpListener> = Vec::new();
    for stages in blocks {
        let named = [
            (Endpoint::Ready, stages.ready.as_ref().map(|ready| ready.address)),
            (Endpoint::Health, stages.health.as_ref().map(|health| health.address)),
            (Endpoint::Metrics, stages.prometheus.as_ref().map(|metrics| metrics.address)),
            (Endpoint::Status, stages.status),
        ];
        for (page, address) in named {
            let Some(address) = address else { continue };
            let known = found.iter().position(|listener| listener.address == address);
            let place = known.unwrap_or_else(|| {
                found.push(HttpListener { address, pages: Vec::new() });
                found.len() - 1
            });
            let pages = &mut found[place].pages;
            pages.push(page);
            pages.sort_unstable();
            pages.dedup();
        }
    }
    found
}

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

/// The address as the language writes it.
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
    use super::{Endpoint, show};
    use crate::config::{Config, Host, Resolved};
    use std::time::Duration;

    fn load(text: &str) -> Config {
        Config::load(text.as_bytes(), "f", &Host::plain()).unwrap().0
    }

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

    #[test]
    fn equal_addresses_are_one_and_the_longest_lameduck_holds() {
        let config = load(
            "a {\n prometheus :9153\n health :9153 {\n lameduck 2s\n}\n}\n\
             b {\n prometheus [::]:9153\n health {\n lameduck 5s\n}\n status\n}\nc {\n health\n}\n",
        );
        let found: Vec<_> = config
            .http()
            .into_iter()
            .map(|listener| (show(listener.address), listener.pages))
            .collect();
        assert_eq!(
            found,
            [
                (":9153".to_owned(), vec![Endpoint::Health, Endpoint::Metrics]),
                (":8080".to_owned(), vec![Endpoint::Health]),
                ("127.0.0.1:8053".to_owned(), vec![Endpoint::Status]),
            ]
        );
        assert_eq!(config.lameduck(), Duration::from_secs(5));
        assert_eq!(load(". {\n status\n}").lameduck(), Duration::ZERO);
    }
}
