//! Forwarding loops within one process: stanzas whose queries come back to the block that asks.
//!
//! An upstream may be one of the process' own listeners on purpose: a block for each provider of
//! DNS over TLS, say, behind one that chooses. Only where the block that is asked can lead back to
//! the one that asks, through any number of others, is it a loop. Names decide: of a listener's
//! blocks only those are asked whose zones share names with what the stanza forwards.

use crate::config::context::Notes;
use crate::config::draft::Draft;
use crate::config::{Interface, Listener, Name};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Zones and blocks that are looked at in all; beyond that no more loops are looked for.
const STEPS_MAX: usize = 1_000_000;
/// Address of Docker's resolver in containers: the kernel redirects packets to it.
const DOCKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// Warns of each stanza that closes a loop.
pub(super) fn warn(
    drafts: &[Draft],
    listeners: &[Listener],
    interfaces: &[Interface],
    notes: &mut Notes,
) {
    let listening: HashMap<SocketAddr, usize> = listeners
        .iter()
        .enumerate()
        .map(|(number, listener)| ((listener.address.ip(), listener.address.port()).into(), number))
        .collect();
    let mut map = Map { listeners, served: HashMap::new(), steps: 0 };
    // Of each block: the stanza, the upstream, and the blocks that are asked there.
    let mut ways: Vec<Vec<(usize, SocketAddr, Vec<usize>)>> = Vec::new();
    for draft in drafts {
        let mut own = Vec::new();
        for (number, stanza) in draft.forwards.iter().enumerate() {
            for upstream in &stanza.forward.upstreams {
                let address = upstream.address;
                if let Some(listener) = own_listener(address, &listening, interfaces) {
                    let asked = map.asked(draft, &stanza.forward.from, listener);
                    own.push((number, address, asked));
                }
            }
        }
        ways.push(own);
    }
    for (block, own) in ways.iter().enumerate() {
        let mut told = HashSet::new();
        for (stanza, address, asked) in own {
            if map.leads_to(asked, block, &ways) && told.insert(*stanza) {
                let message = format!(
                    "plugin/forward: upstream {address} is one of this server's own listeners: \
                     its queries come back to this server block (forwarding loop)"
                );
                notes.warn(&drafts[block].forwards[*stanza].place, message);
            }
        }
    }
}

/// The listener that a query to `address` comes back to.
fn own_listener(
    address: SocketAddr,
    listening: &HashMap<SocketAddr, usize>,
    interfaces: &[Interface],
) -> Option<usize> {
    let (ip, port) = (address.ip(), address.port());
    let any: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let is_here =
        || ip.is_loopback() || interfaces.iter().any(|found| found.addresses.contains(&ip));
    let bound = listening.get(&(ip, port).into());
    let implied = || listening.get(&(any, port).into()).filter(|_| ip != DOCKER && is_here());
    bound.or_else(implied).copied()
}

/// The zones of one listener.
struct Served<'a> {
    /// By their labels from the root on, so that those below one follow it.
    below: Vec<(Vec<u8>, usize)>,
    /// By their names; where there are views, several share one.
    blocks: HashMap<&'a [u8], Vec<usize>>,
}

/// Map from listeners to server blocks.
struct Map<'a> {
    listeners: &'a [Listener],
    /// Listeners that are upstreams.
    served: HashMap<usize, Served<'a>>,
    steps: usize,
}

impl Map<'_> {
    /// The blocks at `listener` that get queries of `draft` for names below `from`.
    fn asked(&mut self, draft: &Draft, from: &Name, listener: usize) -> Vec<usize> {
        let zones = &self.listeners[listener].zones;
        let served = self.served.entry(listener).or_insert_with(|| {
            let mut below: Vec<_> = zones.iter().map(|(zone, block)| (key(zone), *block)).collect();
            below.sort_unstable();
            let mut blocks: HashMap<&[u8], Vec<usize>> = HashMap::new();
            for (zone, block) in zones {
                blocks.entry(zone.as_wire()).or_default().push(*block);
            }
            Served { below, blocks }
        });
        let mut asked = HashSet::new();
        for zone in draft.keys.iter().map(|written| &written.name) {
            let region = if zone.is_within(from) { zone } else { from };
            if !region.is_within(zone) {
                continue;
            }
            self.steps += 1;
            let above = region.ancestors().find_map(|name| served.blocks.get(name));
            asked.extend(above.into_iter().flatten());
            let key = key(region);
            let start = served.below.partition_point(|(other, _)| *other < key);
            let below =
                served.below[start..].iter().take_while(|(other, _)| other.starts_with(&key));
            for (_, block) in below.take(STEPS_MAX.saturating_sub(self.steps)) {
                self.steps += 1;
                asked.insert(*block);
            }
        }
        asked.into_iter().collect()
    }

    /// Returns true if one of the blocks `from` is `to`, or asks one that leads there.
    fn leads_to(
        &mut self,
        from: &[usize],
        to: usize,
        ways: &[Vec<(usize, SocketAddr, Vec<usize>)>],
    ) -> bool {
        let mut seen: HashSet<usize> = from.iter().copied().collect();
        let mut ahead = from.to_vec();
        while let Some(block) = ahead.pop() {
            if block == to {
                return true;
            }
            for next in ways[block].iter().flat_map(|(_, _, asked)| asked) {
                self.steps += 1;
                if self.steps > STEPS_MAX {
                    return false;
                }
                if seen.insert(*next) {
                    ahead.push(*next);
                }
            }
        }
        false
    }
}

/// A name's labels, each behind its length, the rightmost first.
fn key(name: &Name) -> Vec<u8> {
    let labels: Vec<&[u8]> = name.labels().collect();
    let mut key = Vec::with_capacity(name.as_wire().len());
    for label in labels.into_iter().rev() {
        key.push(label.len() as u8);
        key.extend_from_slice(label);
    }
    key
}
