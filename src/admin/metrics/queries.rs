//! The series about queries by server block, and about caches.
//!
//! `zone` is the block's zone that a name belongs to, `dropped` if no zone matches, and `more`
//! beyond the number of zones that are counted separately. `plugin` is, as in the reference, the
//! first directive after `prometheus` in the chain, even if another one answered; it is empty if
//! the reply is a locally made error.

use super::{Buckets, Exposition, Label, Snapshot, edges, rcode_name, server_at, server_of};
use crate::config::{Config, Listener, Plugin, Protocol, RecordType, ServerBlock};
use crate::engine::histogram::{SIZES, Sizes};
use crate::engine::stats::{CacheStats, StageCounts};
use crate::engine::tally::{LabelSet, RTYPES, STATUSES, Tally};

/// Maximum number of `coredns_plugin_enabled` series: a million zones times their plugins are no
/// metric.
const PLUGINS_MAX: usize = 4_096;
/// Returns the label of a block's view; it exists without a view, too, because dashboards query it.
pub(super) fn view_of(block: Option<&ServerBlock>) -> (&'static str, &str) {
    let view = block.and_then(|block| block.stages.view.as_ref());
    ("view", view.map_or("", |view| &view.name))
}

const TRANSPORTS: [&str; 2] = ["udp", "tcp"];
const FAMILIES: [&str; 2] = ["1", "2"];
const CLASSES: [&str; 2] = ["success", "denial"];

/// Adds the plugins of each server block.
pub(super) fn of_configuration(all: &mut Exposition, config: &Config) {
    let listeners = config.listeners.iter();
    let zones = listeners.flat_map(|listener| {
        listener.zones.iter().map(move |(zone, block)| (listener, zone, &config.blocks[*block]))
    });
    let plugins = zones.flat_map(|(listener, zone, block)| {
        block.plugins().map(move |plugin| (listener, zone, block, plugin.name()))
    });
    for (listener, zone, block, plugin) in plugins.take(PLUGINS_MAX) {
        let (server, zone) = (server_at(listener), zone.to_string());
        let labels =
            [("server", &*server), ("zone", &zone), view_of(Some(block)), ("name", plugin)];
        all.largest(
            "coredns_plugin_enabled",
            "Plugins that the server block uses; the value is always 1.",
            &labels,
            1.0,
        );
    }
}

/// Adds the counters of queries and replies of each label set.
pub(super) fn of_sites(all: &mut Exposition, snapshot: &Snapshot) {
    for (label_set, tally) in snapshot.tallies.label_sets.iter().zip(&snapshot.tallies.counts) {
        let (server, zone) = labels_of(label_set);
        let block = label_set.block.and_then(|block| snapshot.config.blocks.get(block));
        let place = [("server", &*server), ("zone", &zone), view_of(block)];
        let protocol = label_set.server.map_or(Protocol::Dns, |(_, protocol)| protocol);
        of_requests(all, place, protocol, tally);
        of_statuses(all, &server, protocol, tally);
        of_responses(all, place, block.map_or("", plugin_of), tally);
    }
}

/// Adds the counters of responses by status of HTTP or code of QUIC.
fn of_statuses(all: &mut Exposition, server: &str, protocol: Protocol, tally: &Tally) {
    for (place, count) in tally.http.iter().enumerate() {
        let (name, help) = match protocol {
            Protocol::Quic => {
                ("coredns_dns_quic_responses_total", "Responses of QUIC, by error code.")
            }
            Protocol::Https3 => {
                ("coredns_dns_https3_responses_total", "Responses of HTTP/3, by status.")
            }
            _ => ("coredns_dns_https_responses_total", "Responses of HTTP, by status."),
        };
        let status = match STATUSES.get(place) {
            Some(code) if protocol == Protocol::Quic => format!("{code:#x}"),
            Some(status) => status.to_string(),
            None => "other".to_owned(),
        };
        let labels = [("server", server), ("status", &*status)];
        all.counter_if_any(name, help, &labels, *count);
    }
}

fn labels_of(label_set: &LabelSet) -> (String, String) {
    let server = label_set.server.map_or_else(String::new, server_of);
    let zone = match (&label_set.zone, label_set.server) {
        (Some(zone), _) => zone.to_string(),
        (None, Some(_)) => "dropped".to_owned(),
        (None, None) => "more".to_owned(),
    };
    (server, zone)
}

/// Returns the first plugin after `prometheus` in the block's chain.
fn plugin_of(block: &ServerBlock) -> &'static str {
    block.plugins_after(Plugin::prometheus).next().map_or("", Plugin::name)
}

fn of_requests(all: &mut Exposition, place: [Label<'_>; 3], protocol: Protocol, tally: &Tally) {
    let [server, zone, view] = place;
    for (by_family, transport) in tally.requests.iter().zip(TRANSPORTS) {
        let proto = if protocol.is_quic() { protocol.scheme() } else { transport };
        for (by_rtype, family) in by_family.iter().zip(FAMILIES) {
            for (place, count) in by_rtype.iter().enumerate() {
                let rtype = RTYPES.get(place).and_then(|rtype| RecordType(*rtype).mnemonic());
                let rtype = rtype.unwrap_or("other");
                let labels =
                    [server, zone, view, ("proto", proto), ("family", family), ("type", rtype)];
                let help =
                    "Queries received, by transport, address family (1 IPv4, 2 IPv6) and type.";
                all.counter_if_any("coredns_dns_requests_total", help, &labels, *count);
            }
        }
    }
    let labels = place;
    let StageCounts { passed, answered, refused, dropped } = tally.acl;
    let help = "Queries refused by acl (block).";
    all.counter_if_any("coredns_acl_blocked_requests_total", help, &labels, refused);
    let help = "Queries answered with NOERROR and no records by acl (filter).";
    all.counter_if_any("coredns_acl_filtered_requests_total", help, &labels, answered);
    let help = "Queries dropped by acl (drop).";
    all.counter_if_any("coredns_acl_dropped_requests_total", help, &labels, dropped);
    let help = "Queries allowed by acl.";
    let labels = [server, view];
    all.counter_if_any("coredns_acl_allowed_requests_total", help, &labels, passed);
    let help = "Replies with IPv6 addresses that dns64 synthesised.";
    let name = "coredns_dns64_requests_translated_total";
    all.counter_if_any(name, help, &[server], tally.translated);
    let labels = place;
    let help = "Queries with the DO bit set (DNSSEC).";
    all.counter_if_any("coredns_dns_do_requests_total", help, &labels, tally.dnssec_ok);
    let help = "Size of queries, in bytes.";
    let name = "coredns_dns_request_size_bytes";
    of_sizes(all, name, help, place, &tally.request_sizes);
}

fn of_responses(all: &mut Exposition, place: [Label<'_>; 3], plugin: &str, tally: &Tally) {
    let [server, zone, view] = place;
    for (by_code, plugin) in [(&tally.answered, plugin), (&tally.failed, "")] {
        for (code, count) in by_code.iter().enumerate().filter(|(_, count)| **count > 0) {
            let rcode = rcode_name(code);
            let labels = [server, zone, view, ("rcode", &*rcode), ("plugin", plugin)];
            let help = "Replies sent, by response code.";
            all.counter("coredns_dns_responses_total", help, &labels, *count as f64);
        }
    }
    let durations = &tally.durations;
    let (count, sum) = (durations.count(), durations.sum_seconds());
    let buckets = Buckets::new(edges(), &durations.cumulative(), count, sum);
    let labels = place;
    let help = "Time from a query to its reply, in seconds.";
    all.histogram("coredns_dns_request_duration_seconds", help, &labels, buckets);
    let help = "Size of replies, in bytes.";
    let name = "coredns_dns_response_size_bytes";
    of_sizes(all, name, help, place, &tally.response_sizes);
}

fn of_sizes(
    all: &mut Exposition,
    name: &'static str,
    help: &'static str,
    [server, zone, view]: [Label<'_>; 3],
    sizes: &[Sizes; 2],
) {
    for (sizes, proto) in sizes.iter().zip(TRANSPORTS) {
        let edges = SIZES.map(f64::from);
        let buckets = Buckets::new(edges, &sizes.cumulative(), sizes.count(), sizes.sum() as f64);
        let labels = [server, zone, view, ("proto", proto)];
        all.histogram(name, help, &labels, buckets);
    }
}

/// Adds the counters of caches, once for all listeners of a block: the first gives the label.
pub(super) fn of_caches(all: &mut Exposition, snapshot: &Snapshot) {
    let blocks = snapshot.config.blocks.iter().enumerate();
    let caching = blocks.filter(|(_, block)| block.stages.cache.is_some());
    for ((number, block), stats) in caching.zip(&snapshot.stats.caches) {
        let server = first_listener(&snapshot.config, number).map_or_else(String::new, server_at);
        of_cache(all, &server, &zones_of(block), view_of(Some(block)), stats);
    }
}

/// Returns the zones of a block in the format of the reference's label.
fn zones_of(block: &ServerBlock) -> String {
    let zones: Vec<_> = block.zones().take(16).map(ToString::to_string).collect();
    zones.join(",")
}

pub(super) fn first_listener(config: &Config, block: usize) -> Option<&Listener> {
    let mut listeners = config.listeners.iter();
    let serving = |zones: &[(crate::config::Name, usize)]| zones.iter().any(|zone| zone.1 == block);
    listeners.find(|listener| serving(&listener.zones))
}

fn of_cache(all: &mut Exposition, server: &str, zones: &str, view: Label<'_>, stats: &CacheStats) {
    for (place, class) in CLASSES.into_iter().enumerate() {
        let labels = [("server", server), ("type", class), ("zones", zones), view];
        let (entries, hits) = (stats.entries[place] as f64, stats.hits[place] as f64);
        let help = "Cache entries, expired ones included.";
        all.gauge("coredns_cache_entries", help, &labels, entries);
        all.counter(
            "coredns_cache_hits_total",
            "Cache lookups that found an entry, by type of the entry.",
            &labels,
            hits,
        );
        let help = "Unexpired cache entries evicted because the cache was full.";
        let evicted = stats.evicted[place] as f64;
        all.counter("coredns_cache_evictions_total", help, &labels, evicted);
    }
    let labels = [("server", server), ("zones", zones), view];
    let hits: u64 = stats.hits.iter().sum();
    let misses = stats.requests.saturating_sub(hits) as f64;
    let help = "Cache lookups that found no usable entry.";
    all.counter("coredns_cache_misses_total", help, &labels, misses);
    let requests = stats.requests as f64;
    all.counter("coredns_cache_requests_total", "Cache lookups.", &labels, requests);
    let help = "Cache entries refreshed in the background after a client was served.";
    all.counter("coredns_cache_prefetch_total", help, &labels, stats.refreshes as f64);
    let help = "Always 0: responses to another question are dropped before the cache.";
    all.counter("coredns_cache_drops_total", help, &labels, 0.0);
    let help = "Replies from expired cache entries (serve_stale).";
    all.counter("coredns_cache_served_stale_total", help, &labels, stats.stale as f64);
    let help = "Memory of cache entries, in bytes.";
    all.gauge("onward_cache_bytes", help, &[("zones", zones)], stats.bytes as f64);
}
