//! Host names of upstreams, looked up again when their TTL has passed.
//!
//! Neither is the Corefile read again for that nor is it a reload: the configuration that holds
//! stays, and only if a name has other addresses is it built anew with those, from the Corefile as
//! it was. Workers then dial the new addresses and close the connections to the old ones at once. A
//! name that cannot be looked up keeps the addresses it had. All of this may block, so it runs on a
//! thread of its own.

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
    /// Corefile of the configuration that holds.
    pub(super) corefile: Arc<Corefile>,
    pub(super) before: Option<Before>,
    pub(super) workers: usize,
    pub(super) dns_port: u16,
}

/// Result of a lookup.
pub(super) struct Found {
    /// Time until the next lookup. `None`: a name could not be looked up.
    pub(super) ttl: Option<Duration>,
    /// Names that could not be looked up, each with the reason.
    pub(super) failed: Vec<(String, String)>,
    /// Names that have other addresses now.
    pub(super) changed: Vec<HostName>,
    /// Configuration with the new addresses, if there are any; or the reason why it cannot be
    /// served.
    pub(super) ready: Option<Result<Ready, String>>,
}

/// Looks up all names of `request` once, and builds the configuration anew if that is due.
pub(super) fn look_up(request: Request, steps: &Steps) -> Found {
    match host::describe(request.workers, request.dns_port, steps) {
        Ok(host) => look_up_as(request, host, steps),
        Err(error) => {
            let failed = vec![("this host".into(), error.to_string())];
            Found { ttl: None, failed, changed: Vec::new(), ready: None }
        }
    }
}

fn look_up_as(request: Request, host: Host, steps: &Steps) -> Found {
    let mut found = Found { ttl: None, failed: Vec::new(), changed: Vec::new(), ready: None };
    let mut known = request.names;
    for name in &mut known {
        match (host.lookup)(&name.name, &name.resolvers) {
            Ok(resolved) => {
                let new = HostName::new(&name.name, &name.resolvers, resolved);
                if new.addresses != name.addresses {
                    found.changed.push(new.clone());
                }
                *name = new;
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
    Ok(Resolved { addresses: known.addresses.clone(), ttl: Some(known.ttl) })
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
    use super::{Request, look_up_as};
    use crate::blocking::{STEP_MAX, Steps};
    use crate::clock::Clock;
    use crate::config::{Config, Host, HostName, Resolved};
    use crate::corefile;
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::Duration;

    const TEXT: &str = ". {\n bind 127.0.0.1\n forward . a.test b.test\n}\n";

    /// A host where names have these addresses; those that are missing cannot be looked up.
    fn host(names: &'static [(&str, &str)]) -> Host {
        let lookup = move |name: &str, _: &[SocketAddr]| {
            let found = names.iter().filter(|(known, _)| *known == name);
            let addresses: Vec<_> = found.map(|(_, ip)| ip.parse().unwrap()).collect();
            let ttl = Some(Duration::from_secs(20));
            if addresses.is_empty() {
                Err("no answer".into())
            } else {
                Ok(Resolved { addresses, ttl })
            }
        };
        Host { lookup: Box::new(lookup), ..Host::plain() }
    }

    /// What a lookup finds where names had the addresses of `before` and have those of `now`:
    /// changed names, failed names and the upstreams of the new configuration.
    fn found(
        before: &'static [(&str, &str)],
        now: &'static [(&str, &str)],
    ) -> (Vec<String>, Vec<String>, Option<Vec<String>>, Option<Duration>) {
        let (config, _) = Config::load(TEXT.as_bytes(), "f", &host(before)).unwrap();
        let corefile = corefile::parse(TEXT.as_bytes(), "f", &Host::plain().sources).unwrap();
        let names: Vec<HostName> = config.blocks[0].forwards[0].host_names.clone();
        let request =
            Request { names, corefile: Arc::new(corefile), before: None, workers: 1, dns_port: 53 };
        let found = look_up_as(request, host(now), &Steps::new(Clock::start(), STEP_MAX));
        let upstreams = found.ready.map(|ready| {
            let config = ready.unwrap().prepared.config;
            let upstreams = &config.blocks[0].forwards[0].upstreams;
            upstreams.iter().map(|upstream| upstream.address.ip().to_string()).collect()
        });
        let changed = found.changed.into_iter().map(|name| name.name).collect();
        let failed = found.failed.into_iter().map(|(name, _)| name).collect();
        (changed, failed, upstreams, found.ttl)
    }

    const A: (&str, &str) = ("a.test", "127.0.0.1");
    const A2: (&str, &str) = ("a.test", "127.0.0.2");
    const B: (&str, &str) = ("b.test", "127.0.0.3");
    const B2: (&str, &str) = ("b.test", "127.0.0.4");

    #[test]
    fn the_same_addresses_in_another_order_change_nothing() {
        let found = found(&[A, A2, B], &[A2, A, B]);
        assert_eq!(found, (vec![], vec![], None, Some(Duration::from_secs(20))));
    }

    #[test]
    fn a_new_address_makes_a_new_configuration() {
        let (changed, failed, upstreams, _) = found(&[A, B], &[A2, B]);
        assert_eq!((changed, failed), (vec!["a.test".to_owned()], vec![]));
        assert_eq!(upstreams.unwrap(), ["127.0.0.2", "127.0.0.3"]);
    }

    #[test]
    fn a_name_that_cannot_be_looked_up_keeps_its_addresses() {
        let (changed, failed, upstreams, ttl) = found(&[A, B], &[A]);
        assert_eq!((changed, failed), (vec![], vec!["b.test".to_owned()]));
        assert_eq!((upstreams, ttl), (None, None));
        let (_, failed, upstreams, ttl) = found(&[A, B2], &[A2]);
        assert_eq!((failed, ttl), (vec!["b.test".to_owned()], None));
        assert_eq!(upstreams.unwrap(), ["127.0.0.2", "127.0.0.4"]);
    }
}
