//! Host names of upstreams, looked up again when their TTL has passed.
//!
//! This neither reads the Corefile again nor counts as a reload: the configuration stays. Only if a
//! name has other addresses is the configuration rebuilt with them, from the same Corefile. Workers
//! then connect to the new addresses and close the connections to the old ones at once. A name
//! whose lookup fails, or fails for one family, keeps the addresses it had. Lookups may block, so
//! they run on a thread of their own.

use super::loading::Ready;
use crate::blocking::Steps;
use crate::config::{Config, Host, HostName, Resolved};
use crate::corefile::Corefile;
use crate::host;
use crate::server::{Before, Prepared};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Input of a lookup.
pub(super) struct Request {
    pub(super) names: Vec<HostName>,
    /// Corefile of the current configuration.
    pub(super) corefile: Arc<Corefile>,
    pub(super) before: Option<Before>,
    pub(super) workers: usize,
    pub(super) dns_port: u16,
}

/// Result of a lookup.
pub(super) struct Found {
    /// Time until the next lookup. `None`: a lookup failed.
    pub(super) ttl: Option<Duration>,
    /// Names whose lookup failed, each with the reason.
    pub(super) failed: Vec<(String, String)>,
    /// Names that have other addresses now.
    pub(super) changed: Vec<HostName>,
    /// Configuration with the new addresses, if there are any; or the reason why it cannot be
    /// served.
    pub(super) ready: Option<Result<Ready, String>>,
}

/// Looks up all names of `request` once, and rebuilds the configuration if an address changed.
///
/// # Errors
/// The facts about this host cannot be read from the kernel.
pub(super) fn look_up(request: Request, steps: &Steps) -> Result<Found, String> {
    let host = host::describe(request.workers, request.dns_port, steps);
    let host = host.map_err(|error| error.to_string())?;
    Ok(look_up_as(request, host, steps))
}

fn look_up_as(request: Request, host: Host, steps: &Steps) -> Found {
    let mut found = Found { ttl: None, failed: Vec::new(), changed: Vec::new(), ready: None };
    let mut known = request.names;
    for name in &mut known {
        match (host.lookup)(&name.name, &name.resolvers) {
            Ok(Resolved { incomplete: Some(why), .. }) => {
                found.failed.push((name.name.clone(), why));
            }
            Ok(resolved) => {
                let new = HostName::new(&name.name, &name.resolvers, name.source, resolved);
                if new.addresses.is_empty() {
                    let why = "it has no address of the family of source_address".into();
                    found.failed.push((new.name, why));
                } else if new.has_addresses_of(name) {
                    name.ttl = new.ttl;
                } else {
                    found.changed.push(new.clone());
                    *name = new;
                }
            }
            Err(why) => found.failed.push((name.name.clone(), why)),
        }
    }
    if found.failed.is_empty() {
        found.ttl = known.iter().map(|name| name.ttl).min();
    }
    if !found.changed.is_empty() {
        let host = Host { lookup: Box::new(move |name, of| addresses(&known, name, of)), ..host };
        let corefile = Arc::unwrap_or_clone(request.corefile);
        found.ready = Some(prepare(corefile, &host, request.before.as_ref(), steps));
    }
    found
}

/// Returns the addresses of `name` among those of `known`.
fn addresses(known: &[HostName], name: &str, of: &[SocketAddr]) -> Result<Resolved, String> {
    let same = |known: &&HostName| known.name == name && known.resolvers == of;
    let known = known.iter().find(same).ok_or("not looked up")?;
    let (addresses, ttl) = (known.addresses.clone(), Some(known.ttl));
    Ok(Resolved { addresses, ttl, incomplete: None })
}

fn prepare(
    corefile: Corefile,
    host: &Host,
    before: Option<&Before>,
    steps: &Steps,
) -> Result<Ready, String> {
    let config = Config::of(corefile, "Corefile", host);
    let (config, warnings) = config.map_err(|error| error.to_string())?;
    let prepared = Prepared::new(config, before, steps).map_err(|error| error.to_string())?;
    Ok(Ready { prepared, warnings })
}

/// Returns `addresses` as text, separated by commas.
pub(super) fn list(addresses: &[IpAddr]) -> String {
    let texts: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::{Found, Request, look_up_as};
    use crate::blocking::{STEP_MAX, Steps};
    use crate::clock::Clock;
    use crate::config::{Config, Host, HostName, Resolved};
    use crate::corefile;
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::Duration;

    type Names = &'static [(&'static str, &'static str)];

    /// A host where names have these addresses; `+` after one means that others may be missing.
    /// Lookups of other names fail.
    fn host(names: Names) -> Host {
        let lookup = move |name: &str, _: &[SocketAddr]| {
            let found = || names.iter().filter(|(known, _)| *known == name).map(|(_, ip)| *ip);
            let addresses: Vec<_> =
                found().map(|ip| ip.trim_end_matches('+').parse().unwrap()).collect();
            if addresses.is_empty() {
                return Err("no answer".into());
            }
            let incomplete = found().any(|ip| ip.ends_with('+')).then(|| "AAAA: no answer".into());
            Ok(Resolved { addresses, ttl: Some(Duration::from_secs(20)), incomplete })
        };
        Host { lookup: Box::new(lookup), ..Host::plain() }
    }

    /// Result of a lookup when names had the addresses of `before` and now have those of `now`.
    fn found(option: &str, before: Names, now: Names) -> Found {
        let text =
            format!(". {{\n bind 127.0.0.1\n forward . a.test b.test {{\n{option}\n }}\n}}\n");
        let (config, _) = Config::load(text.as_bytes(), "f", &host(before)).unwrap();
        let corefile = corefile::parse(text.as_bytes(), "f", &Host::plain().sources).unwrap();
        let names: Vec<HostName> = config.blocks[0].forwards[0].host_names.clone();
        let corefile = Arc::new(corefile);
        let request = Request { names, corefile, before: None, workers: 1, dns_port: 53 };
        look_up_as(request, host(now), &Steps::new(Clock::start(), STEP_MAX))
    }

    fn changed(found: &Found) -> Vec<&str> {
        found.changed.iter().map(|name| &*name.name).collect()
    }

    fn failed(found: &Found) -> Vec<&str> {
        found.failed.iter().map(|(name, _)| &**name).collect()
    }

    /// Upstreams of the new configuration, in their order.
    fn upstreams(found: Found) -> Vec<String> {
        let config = found.ready.unwrap().unwrap().prepared.config;
        let upstreams = &config.blocks[0].forwards[0].upstreams;
        upstreams.iter().map(|upstream| upstream.address.ip().to_string()).collect()
    }

    const A: (&str, &str) = ("a.test", "127.0.0.1");
    const A2: (&str, &str) = ("a.test", "127.0.0.2");
    const A_IPV6: (&str, &str) = ("a.test", "::1");
    const B: (&str, &str) = ("b.test", "127.0.0.3");
    const B2: (&str, &str) = ("b.test", "127.0.0.4");

    #[test]
    fn the_same_addresses_in_another_order_change_nothing() {
        let found = found("", &[A, A2, B], &[A2, A, B]);
        assert!(found.ready.is_none() && found.failed.is_empty());
        assert_eq!(found.ttl, Some(Duration::from_secs(20)));
    }

    #[test]
    fn a_new_address_makes_a_new_configuration_and_others_keep_their_order() {
        let found = found("", &[A, B2, B], &[A2, B, B2]);
        assert_eq!((changed(&found), failed(&found).len()), (vec!["a.test"], 0));
        assert_eq!(upstreams(found), ["127.0.0.2", "127.0.0.4", "127.0.0.3"]);
    }

    #[test]
    fn a_name_that_cannot_be_looked_up_keeps_its_addresses() {
        let same = found("", &[A, B], &[A]);
        assert_eq!((failed(&same), same.ttl), (vec!["b.test"], None));
        assert!(same.ready.is_none());
        let other = found("", &[A, B2], &[A2]);
        assert_eq!((failed(&other), other.ttl), (vec!["b.test"], None));
        assert_eq!(upstreams(other), ["127.0.0.2", "127.0.0.4"]);
    }

    #[test]
    fn a_name_of_which_one_family_is_unknown_keeps_its_addresses() {
        let found = found("", &[A, A_IPV6, B], &[("a.test", "127.0.0.1+"), B2]);
        assert_eq!((changed(&found), failed(&found)), (vec!["b.test"], vec!["a.test"]));
        assert_eq!(upstreams(found), ["127.0.0.1", "::1", "127.0.0.4"]);
    }

    #[test]
    fn addresses_of_the_other_family_than_the_source_address_do_not_count() {
        let option = "source_address 127.0.0.1";
        assert!(found(option, &[A, B], &[A, A_IPV6, B]).ready.is_none());
        let gone = found(option, &[A, B], &[A_IPV6, B2]);
        assert_eq!((changed(&gone), failed(&gone)), (vec!["b.test"], vec!["a.test"]));
        assert_eq!(upstreams(gone), ["127.0.0.1", "127.0.0.4"]);
    }
}
