//! Host names as TO, and `resolver IP[:PORT]…`, which names the resolver for their addresses.
//!
//! The host's [`Lookup`] asks; this file decides which words may be host names, which of their
//! addresses are used and how long these are valid. A word that cannot be a host name (a path, a
//! misspelt address) is not looked up, because some resolvers read `127.1` or `010.0.0.1` as
//! addresses.
//!
//! Unlike in the reference, with a `source_address` addresses of the other family are left out,
//! because no operator can remove them from a name.

use super::super::error::DirectiveError;
use super::super::host::{HostName, Lookup, Resolved};
use super::super::quote::quote;
use crate::corefile::{Cursor, Token};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The port of a resolver that is written without one.
const RESOLVER_PORT: u16 = 53;
/// TTL of addresses whose source has none: the system resolver hides TTLs.
const TTL_UNKNOWN: Duration = Duration::from_secs(60);
/// Looking names up more often than this brings nothing.
const TTL_MIN: Duration = Duration::from_secs(5);
/// Maximum: an upstream that moves is found after this time, even if its TTL is longer.
const TTL_MAX: Duration = Duration::from_secs(3_600);

/// Name lookup of one stanza.
pub(super) struct Names<'a> {
    pub(super) lookup: &'a Lookup,
    /// In their order; none: the system is asked.
    pub(super) resolvers: &'a [SocketAddr],
    /// Source address of queries to the stanza's upstreams.
    pub(super) source: Option<IpAddr>,
}

impl Names<'_> {
    /// Addresses of `host` to ask, at least one, and all that is known of it. `unreadable` is why
    /// it is no file.
    pub(super) fn find(
        &self,
        argument: &Token,
        host: &str,
        unreadable: Option<&str>,
    ) -> Result<(Vec<IpAddr>, HostName), DirectiveError> {
        let message = |reason: &str| {
            let file = unreadable.map_or_else(String::new, |why| format!(" ({why})"));
            format!(
                "failed to resolve {}: neither an IP address, a readable file{file} nor a host \
                 name that resolves{reason}",
                quote(&argument.text)
            )
        };
        let missing = |reason: &str| DirectiveError::host(argument, message(reason));
        if !may_be_host_name(host) {
            // A path is of a file that may be there later; a misspelt address is of the text.
            let is_file = unreadable.is_some() || host.contains('/');
            let error = if is_file { DirectiveError::host } else { DirectiveError::value };
            return Err(error(argument, message("")));
        }
        let found =
            (self.lookup)(host, self.resolvers).map_err(|why| missing(&format!(": {why}")))?;
        let known = HostName::new(host, self.resolvers, self.source, found);
        if known.addresses.is_empty() {
            return Err(missing(": it has no address of the family of source_address"));
        }
        Ok((known.addresses.clone(), known))
    }
}

impl HostName {
    /// `name` as `resolvers` know it now, to be asked from `source`.
    pub(crate) fn new(
        name: &str,
        resolvers: &[SocketAddr],
        source: Option<IpAddr>,
        found: Resolved,
    ) -> Self {
        let Resolved { mut addresses, ttl, .. } = found;
        if let Some(source) = source {
            addresses.retain(|address| address.to_canonical().is_ipv4() == source.is_ipv4());
        }
        let ttl = ttl.unwrap_or(TTL_UNKNOWN).clamp(TTL_MIN, TTL_MAX);
        let (name, resolvers) = (name.to_owned(), resolvers.to_vec());
        Self { name, resolvers, source, addresses, ttl }
    }

    /// Returns true if `other` has the same addresses, in whatever order: resolvers rotate them.
    pub(crate) fn has_addresses_of(&self, other: &Self) -> bool {
        let all_in =
            |one: &Self, two: &Self| one.addresses.iter().all(|ip| two.addresses.contains(ip));
        all_in(self, other) && all_in(other, self)
    }
}

/// Reads the arguments of `resolver`.
pub(super) fn read_resolvers(cursor: &mut Cursor<'_>) -> Result<Vec<SocketAddr>, DirectiveError> {
    cursor.expect_rest()?.into_iter().map(resolver).collect()
}

fn resolver(written: &Token) -> Result<SocketAddr, DirectiveError> {
    let (host, port) = match split_host_port(&written.text) {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)),
        None => (&*written.text, Some(RESOLVER_PORT)),
    };
    let quoted = quote(&written.text);
    let Ok(ip) = host.parse::<IpAddr>() else {
        let message = format!("resolver must be an IP address or IP:port: {quoted}");
        return Err(DirectiveError::value(written, message));
    };
    let Some(port) = port else {
        let message = format!("the port of resolver {quoted} must be 1 to 65535");
        return Err(DirectiveError::value(written, message));
    };
    Ok((ip.to_canonical(), port).into())
}

/// Host and port around the last colon. Brackets around the host are removed; without them it may
/// not contain a colon. The port may be empty.
pub(super) fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    (!host.contains(['[', ']']) && !port.contains(['[', ']'])).then_some((host, port))
}

/// False for paths, for what has a colon, such as an address with two ports, and for numbers. No
/// top-level domain is a number.
pub(in super::super) fn may_be_host_name(host: &str) -> bool {
    let labels = host.strip_suffix('.').unwrap_or(host);
    let last = labels.rsplit('.').next().unwrap_or(labels);
    let is_hexadecimal = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || last.strip_prefix("0x").or(last.strip_prefix("0X")).is_some_and(is_hexadecimal);
    !is_number && !host.contains(['/', ':'])
}

#[cfg(test)]
mod tests {
    use super::{may_be_host_name, split_host_port};

    #[test]
    fn host_and_port_are_split_at_the_last_colon() {
        assert_eq!(split_host_port("127.0.0.1:53"), Some(("127.0.0.1", "53")));
        assert_eq!(split_host_port("[::1]:5353"), Some(("::1", "5353")));
        assert_eq!(split_host_port("m:"), Some(("m", "")));
        assert_eq!(split_host_port(":8080"), Some(("", "8080")));
        for text in ["8080", "::1", "[::1]", "[::1:1", "[::1]x:1", "a]:1", "a[:1", "[a]:1]"] {
            assert_eq!(split_host_port(text), None, "{text}");
        }
    }

    #[test]
    fn paths_and_numbers_are_no_host_names() {
        for name in ["m", "a.m.", "1.m", "1e", "0xm", "a-1", "3.2.1.in-addr.arpa"] {
            assert!(may_be_host_name(name), "{name}");
        }
        let others = [
            "m:1:2",
            "8.8.8.8:53:53",
            "/m",
            "m/n",
            "./m",
            "300.1.1.1",
            "127.1",
            "1",
            "10.0.0.010",
            "0x7f.0X1f",
        ];
        for other in others.into_iter().chain([".", "1.", "m.0x"]) {
            assert!(!may_be_host_name(other), "{other}");
        }
    }
}
