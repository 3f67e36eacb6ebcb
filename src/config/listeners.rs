//! Addresses that the server blocks listen on, and conflicts between them.
//!
//! Each key of a block meets each of the block's addresses; blocks that meet at one address and
//! port share it, each with its zones. A block without `bind` listens on all addresses, which are
//! two listeners, one for each family.
//!
//! A zone may be served once at an address. Unlike in the reference, two spellings of one address
//! are one address here: there, the later block would silently never be asked.

use super::context::Notes;
use super::draft::Draft;
use super::served::Key;
use super::stages::Https;
use super::{
    BindAddress, ConfigError, HttpSettings, Listener, ListenerLimits, Name, Nets, Protocol,
    ServerTls, Stages,
};
use crate::corefile::Place;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Zones of all listeners together: a block's zones times its addresses.
const LABEL_SETS_MAX: usize = 2_000_000;

/// Seconds for which clients remember an offer of HTTP/3: what RFC 7838 §3.1 has as the default.
const ALT_SVC_AGE: u32 = 86_400;

/// Maximum of listeners: their numbers have sixteen bits.
const LISTENERS_MAX: usize = 65_535;

/// The listeners of all blocks, in the order of the file.
pub(super) fn group(blocks: &[Draft]) -> Result<Vec<Listener>, ConfigError> {
    let mut listeners: Vec<Listener> = Vec::new();
    let mut found: HashMap<(SocketAddr, Protocol), usize> = HashMap::new();
    let mut label_sets = 0;
    for (block, draft) in blocks.iter().enumerate() {
        let hosts = hosts(draft.bind.as_deref());
        for key in &draft.keys {
            let port = port(key)?;
            label_sets += hosts.len();
            if label_sets > LABEL_SETS_MAX {
                let message = format!("more than {LABEL_SETS_MAX} zones on all addresses together");
                return Err(ConfigError::Listener { place: key.place.clone(), message });
            }
            for host in &hosts {
                let address = host.at(port);
                let protocol = key.protocol;
                let index = *found.entry((address, protocol)).or_insert_with(|| {
                    listeners.push(Listener {
                        address,
                        implied: true,
                        zones: Vec::new(),
                        protocol,
                        tls: None,
                        others: Vec::new(),
                        http: HttpSettings::default(),
                        limits: ListenerLimits::default(),
                        proxies: None,
                    });
                    listeners.len() - 1
                });
                if index >= LISTENERS_MAX {
                    let message = format!("more than {LISTENERS_MAX} addresses to listen on");
                    return Err(ConfigError::Listener { place: key.place.clone(), message });
                }
                // The kernel chooses another port for each.
                let overlap = |rival: &Protocol| {
                    port != 0 && *rival != protocol && rival.layers().overlap(protocol.layers())
                };
                let mut rivals = Protocol::ALL.into_iter().filter(overlap);
                if let Some(rival) = rivals.find(|rival| found.contains_key(&(address, *rival))) {
                    let message = format!(
                        "{address} is used for {}:// and {}://: give one of them another port",
                        rival.scheme(),
                        protocol.scheme()
                    );
                    return Err(ConfigError::Listener { place: key.place.clone(), message });
                }
                let listener = &mut listeners[index];
                listener.implied &= draft.bind.is_none();
                listener.zones.push((key.name.clone(), block));
                apply(&draft.stages, listener);
                // A client of QUIC chooses the worker of each connection by its ID, so it could
                // open one at a worker that has not seen its header, under the proxy's name.
                let sessions = listener.proxies.as_ref().and_then(|proxies| proxies.sessions);
                if protocol.is_quic() && sessions.is_some() {
                    let place = key.place.clone();
                    let what = format!("'udp_session_tracking' for {}://", protocol.scheme());
                    return Err(ConfigError::NotBuilt { place, what });
                }
            }
        }
    }
    refuse_overlap(blocks)?;
    refuse_same_views(blocks, &listeners)?;
    offer_http3(&mut listeners);
    Ok(listeners)
}

/// Applies the settings of one of its blocks to `listener`.
fn apply(stages: &Stages, listener: &mut Listener) {
    if let Some(proxies) = &stages.proxyproto {
        listener.proxies = Some(Arc::new(proxies.clone()));
    }
    let limits = match listener.protocol {
        Protocol::Dns | Protocol::Tls => stages.tcp,
        Protocol::Https => stages.https.as_ref().map(|https| {
            apply_https(https, &mut listener.http);
            https.limits
        }),
        Protocol::Https3 => {
            stages.https.iter().for_each(|https| apply_https(https, &mut listener.http));
            stages.https3.as_ref().map(|https3| {
                listener.http.requests_max = https3.requests_max.or(listener.http.requests_max);
                https3.limits
            })
        }
        Protocol::Grpc => stages.grpc_server.as_ref().map(|grpc| {
            listener.http.requests_max = grpc.requests_max.or(listener.http.requests_max);
            grpc.limits
        }),
        Protocol::Quic => stages.quic.as_ref().map(|quic| {
            listener.http.requests_max = quic.requests_max.or(listener.http.requests_max);
            quic.limits
        }),
    };
    let Some(ListenerLimits { connections, per_client }) = limits else { return };
    listener.limits.connections = connections.or(listener.limits.connections);
    listener.limits.per_client = per_client.or(listener.limits.per_client);
}

/// Applies what is the same for all versions of HTTP.
fn apply_https(https: &Https, settings: &mut HttpSettings) {
    if !https.paths.is_empty() {
        settings.paths = https.paths.clone().into();
    }
    if !https.forwarded.is_empty() {
        settings.proxies = Arc::new(Nets::new(https.forwarded.iter()));
    }
}

/// Lets listeners for HTTP over TLS name those for HTTP/3 that serve the same zones of the same
/// server blocks on the same address, with the same paths and trusted proxies. A port that the
/// kernel will choose is not known here, nor is one of a proxy in front.
fn offer_http3(listeners: &mut [Listener]) {
    let zones = |listener: &Listener| listener.zones.iter().cloned().collect::<HashSet<_>>();
    let is_named = |listener: &&Listener| {
        listener.protocol == Protocol::Https3 && listener.address.port() != 0
    };
    let offers = listeners.iter().filter(is_named);
    let offers: Vec<_> =
        offers.map(|listener| (listener.address, listener.http.clone(), zones(listener))).collect();
    if offers.is_empty() {
        return;
    }
    let is_direct = |listener: &&mut Listener| {
        listener.protocol == Protocol::Https && listener.proxies.is_none()
    };
    for listener in listeners.iter_mut().filter(is_direct) {
        let own = zones(listener);
        let same = offers.iter().find(|(address, http, all)| {
            address.ip() == listener.address.ip()
                && http.paths == listener.http.paths
                && http.proxies == listener.http.proxies
                && own.is_subset(all)
        });
        listener.http.alt_svc = same
            .map(|(address, ..)| format!("h3=\":{}\"; ma={ALT_SVC_AGE}", address.port()).into());
    }
}

/// Finds the certificate of each listener whose protocol has one.
///
/// # Errors
/// A listener for QUIC has none.
pub(super) fn show_certificates(
    listeners: &mut [Listener],
    blocks: &[Draft],
    notes: &mut Notes,
) -> Result<(), ConfigError> {
    let mut unencrypted = Vec::new();
    for listener in listeners.iter_mut().filter(|listener| listener.protocol.has_certificate()) {
        let port = i64::from(listener.address.port());
        let is_its = |key: &&Key| key.port == port && key.protocol == listener.protocol;
        let first = listener.zones.first();
        let key = first.and_then(|(name, block)| {
            blocks[*block].keys.iter().filter(is_its).find(|key| key.name == *name)
        });
        if let Some(key) = key {
            show_certificate(listener, key, blocks, notes);
        }
        if listener.tls.is_none() {
            if let Some(key) = key.filter(|_| listener.protocol.is_quic()) {
                let name = if key.protocol == Protocol::Quic { "DoQ" } else { "DoH3" };
                let message = format!(
                    "{name} requires TLS, no TLS config found: add 'tls CERT KEY' to the server \
                     block"
                );
                let place = key.place.clone();
                return Err(ConfigError::Listener { place, message });
            }
            let blocks = listener.zones.iter().map(|(_, block)| *block);
            unencrypted.extend(blocks.map(|block| (block, listener.protocol)));
        }
    }
    unencrypted.sort_unstable();
    unencrypted.dedup();
    for (block, protocol) in unencrypted {
        let mut keys = blocks[block].keys.iter();
        if let Some(key) = keys.find(|key| key.protocol == protocol) {
            let (scheme, carrier) = match protocol {
                Protocol::Https => ("an https", "HTTP"),
                Protocol::Grpc => ("a grpc", "HTTP/2"),
                Protocol::Dns | Protocol::Tls | Protocol::Https3 | Protocol::Quic => {
                    ("a tls", "TCP")
                }
            };
            let message = format!(
                "{scheme}:// zone without the directive 'tls' is served over {carrier} without \
                 encryption: add 'tls CERT KEY' to its server block"
            );
            notes.warn(&key.place, message);
        }
    }
    for draft in blocks.iter().filter(|draft| draft.stages.tls.is_some()) {
        let is_shown = draft.keys.iter().any(|key| key.protocol.has_certificate());
        if let Some(key) = draft.keys.first().filter(|_| !is_shown) {
            let message = "plugin/tls: no zone of this server block has tls://, https://, \
                           https3://, grpc:// or quic://: the certificate is not used";
            notes.warn(&key.place, message);
        }
    }
    Ok(())
}

/// Sets the certificates of `listener`: that of the first block with one is for all clients but
/// those that ask for a name of another block's.
fn show_certificate(listener: &mut Listener, key: &Key, blocks: &[Draft], notes: &mut Notes) {
    let of_block = |(_, block): &(Name, usize)| blocks[*block].stages.tls.as_ref();
    let mut written = listener.zones.iter().filter_map(of_block);
    let Some(first) = written.next() else { return };
    let mut others: Vec<Arc<ServerTls>> = Vec::new();
    let mut is_warned = false;
    for other in written.filter(|other| *other != first) {
        if other.asks_as(first) {
            if !others.contains(other) {
                others.push(Arc::clone(other));
            }
        } else if !std::mem::replace(&mut is_warned, true) {
            let message = format!(
                "plugin/tls: server blocks on {} ask for client certificates in different ways: \
                 the certificate {} and its policy are used for all of them",
                listener.address, first.certificate.path
            );
            notes.warn(&key.place, message);
        }
    }
    (listener.tls, listener.others) = (Some(Arc::clone(first)), others);
}

/// The key's port, now that it must be one. 0 lets the kernel choose.
pub(super) fn port(key: &Key) -> Result<u16, ConfigError> {
    u16::try_from(key.port).map_err(|_| {
        let message = format!("address {}: invalid port", key.port);
        ConfigError::Listener { place: key.place.clone(), message }
    })
}

fn hosts(bind: Option<&[BindAddress]>) -> Vec<BindAddress> {
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    bind.map_or_else(|| any.map(|ip| BindAddress { ip, scope_id: 0 }).into(), <[_]>::to_vec)
}

/// Refuses a zone that is served twice at one address.
fn refuse_overlap(blocks: &[Draft]) -> Result<(), ConfigError> {
    type Zone<'z> = (&'z Name, i64, Protocol);
    let mut served: HashSet<(Zone<'_>, Option<BindAddress>)> = HashSet::new();
    // The address at which a zone was last seen; `None` is the unbound default.
    let mut last: HashMap<Zone<'_>, Option<BindAddress>> = HashMap::new();
    for draft in blocks {
        let hosts: Vec<Option<BindAddress>> = match &draft.bind {
            None => vec![None],
            Some(bind) => bind.iter().copied().map(Some).collect(),
        };
        for key in &draft.keys {
            for &host in &hosts {
                let zone = (&key.name, key.port, key.protocol);
                let is_view = draft.stages.view.is_some();
                let again = served.contains(&(zone, host));
                let unbound = served.contains(&(zone, None));
                let rival = match (last.get(&zone), host) {
                    (Some(rival), None) => Some(*rival),
                    (Some(_), Some(_)) if unbound => Some(None),
                    _ => None,
                };
                let reason = match rival {
                    // Blocks with a view share a zone with others, but at the same addresses.
                    _ if is_view && again => continue,
                    _ if again => "it is already defined".to_owned(),
                    Some(rival) => {
                        format!("zone overlap listener capacity with {}", label_set(key, rival))
                    }
                    None if is_view => continue,
                    None => {
                        served.insert((zone, host));
                        last.insert(zone, host);
                        continue;
                    }
                };
                let message = format!("cannot serve {} - {reason}", label_set(key, host));
                return Err(ConfigError::Listener { place: key.place.clone(), message });
            }
        }
    }
    Ok(())
}

/// Refuses two views of one name for one zone at one address: metrics and logs could not tell them
/// apart.
fn refuse_same_views(blocks: &[Draft], listeners: &[Listener]) -> Result<(), ConfigError> {
    for listener in listeners {
        let mut known: HashMap<(&Name, &str), &Place> = HashMap::new();
        for (zone, block) in &listener.zones {
            let draft = &blocks[*block];
            let (Some(view), Some(place)) = (&draft.stages.view, &draft.places.view) else {
                continue;
            };
            if let Some(earlier) = known.insert((zone, &view.name), place) {
                let (name, place) = (&view.name, place.clone());
                let message = format!(
                    "plugin/view: '{name}' is the name of the view at {earlier} already, for the \
                     same zone and address: give one of them another name"
                );
                return Err(ConfigError::Listener { place, message });
            }
        }
    }
    Ok(())
}

fn label_set(key: &Key, host: Option<BindAddress>) -> String {
    let on = host.map_or(String::new(), |host| format!(" on {host}"));
    format!("{}://{}:{}{on}", key.protocol.scheme(), key.name, key.port)
}

#[cfg(test)]
mod tests {
    use super::group;
    use crate::config::draft::Draft;
    use crate::config::served::Key;
    use crate::config::{BindAddress, Name, Protocol};
    use crate::corefile::Place;

    fn draft(line: usize, zone: &str, port: i64, bind: Option<&[&str]>) -> Draft {
        let place = Place { file: "f".into(), line };
        let address = |text: &&str| BindAddress { ip: text.parse().unwrap(), scope_id: 0 };
        Draft {
            keys: vec![Key {
                place,
                name: Name::parse(zone).unwrap(),
                port,
                protocol: Protocol::Dns,
            }],
            bind: bind.map(|bind| bind.iter().map(address).collect()),
            ..Draft::default()
        }
    }

    fn shown(blocks: &[Draft]) -> String {
        let listeners = match group(blocks) {
            Ok(listeners) => listeners,
            Err(error) => return error.to_string(),
        };
        let lines = listeners.iter().map(|listener| {
            let zones = listener.zones.iter().map(|(name, block)| format!(" {name}={block}"));
            let implied = if listener.implied { "?" } else { "" };
            format!("{}{implied}{}", listener.address, zones.collect::<String>())
        });
        lines.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn without_bind_both_families_are_implied() {
        assert_eq!(shown(&[draft(1, "m", 53, None)]), "0.0.0.0:53? m.=0, [::]:53? m.=0");
        assert_eq!(
            shown(&[draft(1, "m", 53, None), draft(2, "n", 53, Some(&["0.0.0.0"]))]),
            "0.0.0.0:53 m.=0 n.=1, [::]:53? m.=0"
        );
    }

    #[test]
    fn there_are_as_many_addresses_as_can_be_numbered() {
        let drafts = |count: i64| {
            (0..count).map(|line| {
                draft(
                    1,
                    "a",
                    1 + line % 65_535,
                    Some(if line < 65_535 { &["192.0.2.1"] } else { &["192.0.2.2"] }),
                )
            })
        };
        assert_eq!(group(&drafts(65_535).collect::<Vec<_>>()).unwrap().len(), 65_535);
        let error = group(&drafts(65_536).collect::<Vec<_>>()).unwrap_err().to_string();
        assert!(error.contains("more than 65535 addresses"), "{error}");
    }

    #[test]
    fn blocks_share_an_address() {
        let blocks =
            [draft(1, "m", 53, Some(&["::1", "127.0.0.1"])), draft(2, "n", 53, Some(&["::1"]))];
        assert_eq!(shown(&blocks), "[::1]:53 m.=0 n.=1, 127.0.0.1:53 m.=0");
        assert_eq!(shown(&[draft(1, "m", 53, Some(&[]))]), "");
    }

    #[test]
    fn a_zone_is_served_once_at_an_address() {
        assert_eq!(
            shown(&[draft(1, "m", 53, None), draft(2, "M.", 53, None)]),
            "f:2 - cannot serve dns://m.:53 - it is already defined"
        );
        assert_eq!(
            shown(&[draft(1, "m", 53, Some(&["::1", "0:0::1"]))]),
            "f:1 - cannot serve dns://m.:53 on ::1 - it is already defined"
        );
    }

    #[test]
    fn an_unbound_zone_overlaps_a_bound_one() {
        let (bound, unbound) =
            (|line| draft(line, "m", 5, Some(&["::1", "::2"])), |line| draft(line, "m", 5, None));
        assert_eq!(
            shown(&[bound(1), unbound(2)]),
            "f:2 - cannot serve dns://m.:5 - zone overlap listener capacity with dns://m.:5 on ::2"
        );
        assert_eq!(
            shown(&[unbound(1), bound(2)]),
            "f:2 - cannot serve dns://m.:5 on ::1 - zone overlap listener capacity with dns://m.:5"
        );
        assert!(group(&[bound(1), draft(2, "m", 6, None)]).is_ok());
    }

    #[test]
    fn a_number_that_is_no_port_is_refused() {
        assert_eq!(shown(&[draft(7, "m", 65536, None)]), "f:7 - address 65536: invalid port");
        assert_eq!(shown(&[draft(7, "m", -5, None)]), "f:7 - address -5: invalid port");
    }
}
