//! `TO…`: where a stanza forwards to.
//!
//! A target is an address with or without port, a file in the format of `resolv.conf`, which means
//! the nameservers in it, or else a host name, which means its addresses. Duplicates are dropped
//! with a warning.
//!
//! Unlike in the reference, an invalid port is refused, because every query would fail; a scheme
//! before a file applies to the nameservers in it, so that queries are not sent unencrypted; and
//! the interface of a link-local address is kept.

use super::super::bind::is_link_local;
use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::quote::quote;
use super::super::{Host, HostName, Name, Upstream, keys, tls};
use super::https;
use super::names::{Names, split_host_port};
use crate::corefile::{Place, Token};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// Scheme of upstreams that are written without one.
const DNS: &str = "dns";
/// Scheme of upstreams of the directive of that name.
const GRPC: &str = "grpc";
/// Schemes of upstreams that are known by a certificate.
const TLS: &str = "tls";
const HTTPS: &str = "https";
const QUIC: &str = "quic";
/// Nameservers of one file. A stanza can have far fewer, and says how many it has.
const NAMESERVERS_MAX: usize = 1024;

/// The targets of one stanza.
pub(super) struct Targets {
    /// Without duplicates, at least one.
    pub(super) found: Vec<Found>,
    /// Number of arguments. Files without a nameserver are not counted.
    pub(super) written: usize,
    /// Host names among the targets.
    pub(super) host_names: Vec<HostName>,
}

/// An address to forward to.
pub(super) struct Found {
    pub(super) address: SocketAddr,
    /// TLS settings of the upstream, if it uses TLS.
    pub(super) tls: Option<Known>,
    /// Path of queries, if the upstream uses HTTPS.
    pub(super) path: Option<String>,
    /// The upstream uses QUIC.
    pub(super) is_quic: bool,
}

/// By what an upstream is known that speaks TLS.
pub(super) enum Known {
    /// Nothing is said: by its address.
    Address,
    /// By the name behind `%`; the other two tell where that is written.
    Name { name: String, shown: String, place: Place },
    /// Host name.
    Host(String),
}

/// One target before its scheme and port are looked at.
struct Target {
    place: Place,
    /// File that lists the upstream.
    file: Option<String>,
    /// The name that it was looked up by.
    looked_up: Option<String>,
    scheme: &'static str,
    /// Without the zone that `%` separates.
    host: String,
    /// The text after the last `%`.
    zone: Option<String>,
    port: String,
    /// Path of queries over HTTPS.
    path: Option<String>,
}

impl Target {
    fn new(argument: &Token, scheme: &'static str, address: &str, port: &str) -> Self {
        let (host, zone) = strip_zone(address);
        let zone = zone.map(str::to_owned);
        let place = argument.place.clone();
        let (host, port) = (host.to_owned(), port.to_owned());
        Self { place, file: None, looked_up: None, scheme, host, zone, port, path: None }
    }
}

/// Reads the targets; `names` looks up those that are host names.
pub(super) fn read(
    written: &[&Token],
    names: &Names<'_>,
    context: &mut Context<'_>,
) -> Result<Targets, DirectiveError> {
    let (mut targets, mut host_names) = (Vec::new(), Vec::new());
    let mut count = 0;
    for argument in written {
        let before = targets.len();
        host_names.extend(read_one(argument, names, context, &mut targets)?);
        count += usize::from(targets.len() > before);
    }
    // Files may list any number, so what was seen is looked up and not searched.
    let (mut found, mut seen) = (Vec::new(), HashMap::new());
    let mut why = None;
    for target in &targets {
        let (address, tls) = match usable(target, names.source, context)? {
            Ok(usable) => usable,
            Err(unusable) => {
                context.warn_of_plugin(&target.place, format!("{unusable} and is ignored"));
                why.get_or_insert(unusable);
                continue;
            }
        };
        match seen.entry(address) {
            Entry::Vacant(new) => {
                new.insert((false, (target.scheme, target.path.clone())));
                let (path, is_quic) = (target.path.clone(), target.scheme == QUIC);
                found.push(Found { address, tls, path, is_quic });
            }
            Entry::Occupied(mut known) => {
                let (is_reported, (scheme, path)) = known.get_mut();
                let message = if (*scheme, &*path) == (target.scheme, &target.path) {
                    format!(
                        "upstream {address} is listed more than once: this does \
                         not increase its share of queries"
                    )
                } else {
                    format!(
                        "upstream {address} is listed with another scheme or path, \
                         and this one is ignored: a stanza asks an address in one way"
                    )
                };
                if !std::mem::replace(is_reported, true) {
                    context.warn_of_plugin(&target.place, message);
                }
            }
        }
    }
    if found.is_empty() {
        // Addresses and names have been refused one by one, so all of it was files.
        let why = why.map_or_else(String::new, |why: String| format!(": {why}"));
        return Err(DirectiveError::host(
            written[0],
            format!("no valid upstream addresses found{why}"),
        ));
    }
    Ok(Targets { found, written: count, host_names })
}

/// Adds the targets that one argument means. Returns the host name, if it is one.
fn read_one(
    argument: &Token,
    names: &Names<'_>,
    context: &mut Context<'_>,
    targets: &mut Vec<Target>,
) -> Result<Option<HostName>, DirectiveError> {
    let text = &*argument.text;
    let (scheme, rest) = keys::split_scheme(text);
    if rest.is_empty() {
        return Err(DirectiveError::value(argument, format!("invalid address: {}", quote(text))));
    }
    let (rest, path) = if scheme == HTTPS { https::split_path(rest) } else { (rest, None) };
    let path = (scheme == HTTPS).then(|| https::path(argument, path)).transpose()?;
    let target = |address: &str, port: &str| Target {
        path: path.clone(),
        ..Target::new(argument, scheme, address, port)
    };
    let is_address = |host| strip_zone(host).0.parse::<IpAddr>().is_ok();
    let bare = rest.trim_matches(['[', ']']);
    let default_port = default_port(scheme);
    match split_host_port(rest) {
        _ if scheme == "unix" => targets.push(target(rest, "")),
        Some((host, port)) if is_address(host) => {
            targets.push(target(host, port));
        }
        None if is_address(bare) => {
            targets.push(target(bare, default_port));
        }
        split => match nameservers(argument, rest, context.host)? {
            Ok(servers) => {
                if servers.is_empty() {
                    let message =
                        format!("the file {} lists no nameserver and is ignored", quote(rest));
                    context.warn_of_plugin(&argument.place, message);
                }
                let targets_of_file = servers
                    .iter()
                    .map(|server| target(server, default_port))
                    .map(|target| Target { file: Some(rest.to_owned()), ..target });
                targets.extend(targets_of_file);
            }
            Err(unreadable) => {
                let (name, port) = split.unwrap_or((rest, default_port));
                let (name, zone) = strip_zone(name);
                check_name(argument, scheme, name, unreadable.as_deref(), context)?;
                let (found, host_name) = names.find(argument, name, unreadable.as_deref())?;
                targets.extend(found.iter().map(|ip| Target {
                    looked_up: Some(name.to_owned()),
                    zone: zone.filter(|_| has_certificate(scheme)).map(str::to_owned),
                    ..target(&ip.to_string(), port)
                }));
                return Ok(Some(host_name));
            }
        },
    }
    Ok(None)
}

/// Refuses what cannot be the host name of an upstream. `unreadable` is why it is no file.
fn check_name(
    argument: &Token,
    scheme: &str,
    name: &str,
    unreadable: Option<&str>,
    context: &Context<'_>,
) -> Result<(), DirectiveError> {
    let is_known = is_taken(scheme, context);
    if !is_known || Name::parse(name).is_err() {
        let quoted = quote(&argument.text);
        let why = unreadable.map_or_else(String::new, |why| format!(" ({why})"));
        let message = format!("not an IP address, file, or valid domain: {quoted}{why}");
        let is_path = is_known && (unreadable.is_some() || name.contains('/'));
        let error = if is_path { DirectiveError::host } else { DirectiveError::value };
        return Err(error(argument, message));
    }
    Ok(())
}

/// The address of a target, and by what it is known over TLS; or why it cannot be asked, if it
/// stands in a file: others of the file can.
fn usable(
    target: &Target,
    source: Option<IpAddr>,
    context: &mut Context<'_>,
) -> Result<Result<(SocketAddr, Option<Known>), String>, DirectiveError> {
    check_scheme(target, context)?;
    let resolved = resolve(target, context);
    let Some(file) = &target.file else { return resolved.map(Ok) };
    let why = match resolved {
        Ok((address, tls)) => match source {
            Some(source) if source.is_ipv4() != address.is_ipv4() => {
                format!("source_address {source} is of the other address family")
            }
            _ => return Ok(Ok((address, tls))),
        },
        Err(DirectiveError::Value { message, .. } | DirectiveError::Host { message, .. }) => {
            message
        }
        Err(other) => return Err(other),
    };
    let (server, file) = (quote(&target.host), quote(file));
    Ok(Err(format!("{server} of the file {file} cannot be used ({why})")))
}

impl Target {
    /// Host and port, as they are shown.
    fn shown(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// Refuses what the directive cannot speak to an upstream.
fn check_scheme(target: &Target, context: &Context<'_>) -> Result<(), DirectiveError> {
    let Target { place, scheme, host, .. } = target;
    if is_taken(scheme, context) {
        return Ok(());
    }
    let plugin = context.plugin;
    let shown = if *scheme == "unix" { host.clone() } else { target.shown() };
    let message = format!(
        "'{scheme}' is not supported as a destination protocol in {plugin}: {scheme}://{shown}"
    );
    Err(DirectiveError::Value { place: place.clone(), message })
}

/// Returns true if upstreams with this scheme are asked by the directive that is read.
fn is_taken(scheme: &str, context: &Context<'_>) -> bool {
    match context.plugin {
        GRPC => [DNS, GRPC].contains(&scheme),
        _ => [DNS, TLS, HTTPS, QUIC].contains(&scheme),
    }
}

/// The address of a target, and by what it is known over TLS.
fn resolve(
    target: &Target,
    context: &mut Context<'_>,
) -> Result<(SocketAddr, Option<Known>), DirectiveError> {
    let Target { place, looked_up, scheme, host, zone, port, .. } = target;
    let refuse = |message| DirectiveError::Value { place: place.clone(), message };
    let shown = target.shown();
    let ip = host.parse::<IpAddr>();
    let ip = ip.map_err(|_| refuse(format!("nameserver {} is not an IP address", quote(host))))?;
    let number = port.parse::<u16>().ok().filter(|port| *port > 0);
    let port = number.ok_or_else(|| {
        refuse(format!("the port of upstream {} must be 1 to 65535", quote(&shown)))
    })?;
    if has_certificate(scheme) {
        let known = match (zone, looked_up) {
            (Some(name), _) => {
                let named = tls::server_name(name).ok_or_else(|| {
                    refuse(format!("{} is not a valid name for a certificate", quote(name)))
                })?;
                let shown = format!("{scheme}://{shown}");
                Known::Name { name: named, shown, place: place.clone() }
            }
            (None, Some(host)) => tls::server_name(host).map_or(Known::Address, Known::Host),
            (None, None) => Known::Address,
        };
        return Ok((SocketAddr::new(ip.to_canonical(), port), Some(known)));
    }
    match (ip.to_canonical(), zone) {
        (IpAddr::V6(ip), Some(zone)) if is_link_local(ip.into()) => {
            let scope_id = context.host.scope_id(zone).ok_or_else(|| {
                let message =
                    format!("upstream {host}: this host has no interface {}", quote(zone));
                DirectiveError::Host { place: place.clone(), message }
            })?;
            Ok((SocketAddrV6::new(ip, port, 0, scope_id).into(), None))
        }
        (ip, zone) => {
            if is_link_local(ip) {
                let message = format!(
                    "upstream {ip} is a link-local address without an interface: \
                     write {ip}%eth0"
                );
                context.warn_of_plugin(place, message);
            } else if let Some(zone) = zone {
                let message = format!("'%{zone}' is ignored: {ip} is not a link-local address");
                context.warn_of_plugin(place, message);
            }
            Ok((SocketAddr::new(ip, port), None))
        }
    }
}

/// Refuses upstreams of one family that would be asked from an address of the other.
pub(super) fn check_source(
    source: IpAddr,
    place: &Place,
    upstreams: &[Upstream],
) -> Result<(), DirectiveError> {
    let mut addresses = upstreams.iter().map(|upstream| upstream.address);
    let Some(other) = addresses.find(|address| address.is_ipv4() != source.is_ipv4()) else {
        return Ok(());
    };
    let message = format!(
        "upstream {other} cannot be reached from source_address {source}, which is of the other \
         address family: remove the upstream or the option"
    );
    Err(DirectiveError::Value { place: place.clone(), message })
}

/// The nameservers in a file, each twice at most. `Err`: there is no such file, or (then with
/// words) it cannot be read.
///
/// # Errors
/// The list is longer than allowed.
fn nameservers(
    argument: &Token,
    path: &str,
    host: &Host,
) -> Result<Result<Vec<String>, Option<String>>, DirectiveError> {
    let sources = &host.sources;
    let content = match (sources.read)(&sources.working_directory.join(path)) {
        Ok(content) => content,
        Err(error) => {
            return Ok(match error.kind() {
                ErrorKind::IsADirectory => Ok(Vec::new()),
                ErrorKind::NotFound => Err(None),
                _ => Err(Some(error.to_string())),
            });
        }
    };
    let text = String::from_utf8_lossy(&content);
    let (mut servers, mut seen) = (Vec::new(), HashMap::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some("nameserver"), Some(server)) = (words.next(), words.next()) else { continue };
        match seen.insert(server, servers.len()) {
            None if seen.len() > NAMESERVERS_MAX => {
                let file = quote(path);
                let message =
                    format!("the file {file} lists more than {NAMESERVERS_MAX} nameservers");
                return Err(DirectiveError::host(argument, message));
            }
            None => servers.push(server.to_owned()),
            // The second tells that it is there more than once, the others tell nothing.
            Some(first) if first < servers.len() => {
                seen.insert(server, usize::MAX);
                servers.push(server.to_owned());
            }
            Some(_) => {
                seen.insert(server, usize::MAX);
            }
        }
    }
    Ok(Ok(servers))
}

/// Returns true if upstreams with this scheme show a certificate.
fn has_certificate(scheme: &str) -> bool {
    [TLS, HTTPS, QUIC].contains(&scheme)
}

fn default_port(scheme: &str) -> &'static str {
    match scheme {
        TLS | QUIC => "853",
        "grpc" | "https" | "https3" => "443",
        _ => "53",
    }
}

/// The text before the last `%`, and the text after it.
fn strip_zone(host: &str) -> (&str, Option<&str>) {
    host.rsplit_once('%').map_or((host, None), |(host, zone)| (host, Some(zone)))
}

#[cfg(test)]
mod tests {
    use super::strip_zone;

    #[test]
    fn a_zone_is_the_text_after_the_last_percent_sign() {
        assert_eq!(strip_zone("fe80::1%eth0"), ("fe80::1", Some("eth0")));
        assert_eq!(strip_zone("a%b%c"), ("a%b", Some("c")));
        assert_eq!(strip_zone("::1"), ("::1", None));
    }
}
