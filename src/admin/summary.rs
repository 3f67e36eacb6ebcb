//! The status of all workers: [`Status`], assembled.
//!
//! Counters come from the workers' latest reports, rates and percentiles from the [`History`].
//! Lists and texts that clients or a configuration could make long are cut to a fixed length here.

use super::history::{Between, History};
use super::metrics::{Facts, rcode_name};
use crate::config::Name;
use crate::control::LoadState;
use crate::control::snapshot::{Ports, Seen, Snapshot};
use crate::engine::PoolId;
use crate::engine::exchange::EXCHANGES_MAX;
use crate::engine::histogram::Latency as Histogram;
use crate::engine::key::Transport;
use crate::engine::pool::PoolState;
use crate::engine::sketch::Counted;
use crate::engine::stats::{CacheStats, DROP_REASON_NAMES, PoolStats, Stats, UpstreamStats};
use crate::status::{
    Cache, Count, Health, HostsFile, Latency, Pool, Status, Top, Traffic, Upstream, Worker,
};
use crate::sys::thread;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Maximum number of listed upstreams.
const UPSTREAMS_MAX: usize = 64;
/// Maximum number of listed caches.
const CACHES_MAX: usize = 64;
/// Maximum number of listed names and clients.
const TOP_MAX: usize = 20;
/// Maximum number of characters of a block's zones.
const ZONES_LEN_MAX: usize = 200;

/// Assembles the whole status, except the host's name and the wall-clock time.
pub(super) fn status(
    snapshots: &[&Snapshot],
    history: &History,
    seen: &[(&Seen, Duration)],
    facts: &Facts,
) -> Status {
    let mut stats = Stats::default();
    snapshots.iter().for_each(|snapshot| stats.add(&snapshot.stats));
    let lately = history.lately();
    let addresses = addresses(snapshots);
    let (caches, caches_more) = caches(snapshots, &stats, lately);
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        reloads: facts.reloads,
        traffic: traffic(snapshots, &stats, history),
        upstreams_more: addresses.len().saturating_sub(UPSTREAMS_MAX),
        upstreams: addresses
            .into_iter()
            .take(UPSTREAMS_MAX)
            .map(|address| upstream(snapshots, address, history))
            .collect(),
        workers: snapshots
            .iter()
            .enumerate()
            .map(|(place, snapshot)| worker(place, snapshot, history))
            .collect(),
        caches,
        caches_more,
        top: top(seen),
        ..Status::default()
    }
}

fn latency(histogram: &Histogram) -> Latency {
    let part = |part| histogram.quantile(part).as_secs_f64() * 1e3;
    Latency { p50_ms: part(0.5), p90_ms: part(0.9), p99_ms: part(0.99) }
}

fn traffic(snapshots: &[&Snapshot], stats: &Stats, history: &History) -> Traffic {
    let lately = history.lately();
    let mut ports = Ports::default();
    snapshots.iter().for_each(|snapshot| ports.merge(&snapshot.ports));
    let drops = DROP_REASON_NAMES.iter().zip(stats.drops).enumerate();
    let drops = drops.filter(|(_, (_, count))| *count > 0).map(|(place, (name, count))| Count {
        what: (*name).to_owned(),
        count,
        rate: lately.map_or(0.0, |lately| {
            lately.rate(|sample| sample.drops.get(place).copied().unwrap_or(0))
        }),
    });
    let rcodes = stats.replies.iter().enumerate().filter(|(_, count)| **count > 0);
    let rcodes = rcodes.map(|(rcode, count)| Count {
        what: rcode_name(rcode),
        count: *count,
        rate: lately.map_or(0.0, |lately| lately.rate(|sample| sample.rcodes[rcode])),
    });
    Traffic {
        queries: stats.queries,
        rate: lately.map_or(0.0, |lately| lately.rate(|sample| sample.queries)),
        history: history.rates(),
        replies: stats.replied(),
        drops: drops.collect(),
        rcodes: rcodes.collect(),
        latency: lately.map_or_else(Latency::default, |lately| latency(&lately.latency())),
        coalesced: stats.coalesced,
        connections: snapshots.iter().map(|snapshot| snapshot.connections as u64).sum(),
        source_ports: ports.count(),
        records_lost: stats.errors_lost + stats.log_lost + stats.tap_lost,
    }
}

/// Returns the upstreams' addresses in the order of the latest configuration, each once.
fn addresses(snapshots: &[&Snapshot]) -> Vec<SocketAddr> {
    let latest = Snapshot::latest(snapshots);
    let mut addresses: Vec<SocketAddr> = Vec::new();
    let mut known = std::collections::HashSet::new();
    for (_, upstream) in latest.into_iter().flat_map(|latest| latest.config.upstreams()) {
        if known.insert(upstream.address) {
            addresses.push(upstream.address);
        }
    }
    addresses
}

fn upstream(snapshots: &[&Snapshot], address: SocketAddr, history: &History) -> Upstream {
    let mut total = UpstreamStats::default();
    let mut health = Health::Up;
    let mut pools: BTreeMap<(Transport, &str), (PoolStats, PoolState)> = BTreeMap::new();
    for snapshot in snapshots {
        let own =
            snapshot.config.upstreams().enumerate().filter(|(_, (_, own))| own.address == address);
        for (number, (_, own)) in own {
            health = worse(health, snapshot, number);
            let Some(stats) = snapshot.stats.upstreams.get(number) else { continue };
            total.add(stats);
            let counts = [stats.pool, stats.tcp];
            for (pool, stats) in PoolId::of_upstream(number).into_iter().zip(counts) {
                let state = snapshot.pools.get(pool.index()).copied().unwrap_or_default();
                let name = match pool.transport() {
                    Transport::Udp => "udp",
                    Transport::Tcp => own.connection_name(),
                };
                let (sum, states) = pools.entry((pool.transport(), name)).or_default();
                sum.add(&stats);
                states.merge(&state);
            }
        }
    }
    let lately = history.lately();
    let answered =
        |sample: &super::history::Sample| sample.upstreams.get(&address).map_or(0, |known| known.0);
    let used = pools.into_iter().filter(|(_, (stats, _))| stats.opened > 0);
    Upstream {
        address: address.to_string(),
        health,
        answered: total.answered,
        rate: lately.map_or(0.0, |lately| lately.rate(answered)),
        share: history.shares(address),
        timed_out: total.timed_out,
        failed: total.failed,
        latency: lately
            .map_or_else(Latency::default, |lately| latency(&lately.latency_of(address))),
        pools: used.map(|((_, name), (stats, state))| pool(name, &stats, &state)).collect(),
    }
}

/// Returns the worse of the known state of an upstream and its state in `snapshot`.
fn worse(known: Health, snapshot: &Snapshot, number: usize) -> Health {
    if snapshot.health_states.is_down(number) {
        Health::Down
    } else if snapshot.health_states.is_probing(number) && known == Health::Up {
        Health::Probing
    } else {
        known
    }
}

fn pool(transport: &str, stats: &PoolStats, state: &PoolState) -> Pool {
    Pool {
        transport: transport.to_owned(),
        idle: state.idle,
        in_use: state.in_use,
        retiring: state.retiring,
        limit: state.limit,
        max_age_s: state.max_age.map(|max_age| max_age.as_secs_f64()),
        oldest_s: state.oldest.as_secs_f64(),
        ages: state.ages.to_vec(),
        age_step_s: state.step.as_secs_f64(),
        opened: stats.opened,
        aged: stats.aged,
    }
}

fn worker(place: usize, snapshot: &Snapshot, history: &History) -> Worker {
    let lately = history.lately();
    let (rate, batch) = lately.map_or((0.0, 0.0), |lately| {
        let did = lately.worker(place);
        (did.queries as f64 / lately.seconds(), did.datagrams as f64 / did.calls.max(1) as f64)
    });
    Worker {
        number: snapshot.worker,
        core: snapshot.core,
        rate,
        load: lately.map_or(0.0, |lately| lately.load(place)),
        history: history.loads(place),
        batch,
        exchanges: snapshot.outstanding as u64,
        exchanges_limit: EXCHANGES_MAX as u64,
        kernel_drops: snapshot.kernel_drops.iter().sum(),
        migrations: thread::migrations(snapshot.thread).unwrap_or(0),
        panics: snapshot.stats.panics,
    }
}

/// Returns the hosts files, whose number the configuration limits.
pub(super) fn hosts(loads: &[LoadState]) -> Vec<HostsFile> {
    let file = |load: &LoadState| HostsFile {
        file: load.label.clone(),
        entries: load.entries,
        bytes: load.bytes,
        skipped: load.skipped,
        modified_ms: u64::try_from(load.modified.as_millis()).unwrap_or(u64::MAX),
        loads: [load.done, load.failed],
    };
    loads.iter().map(file).collect()
}

/// Returns the listed caches, and the number of the others.
fn caches(
    snapshots: &[&Snapshot],
    stats: &Stats,
    lately: Option<Between<'_>>,
) -> (Vec<Cache>, usize) {
    let Some(latest) = Snapshot::latest(snapshots) else {
        return (Vec::new(), 0);
    };
    let blocks = latest.config.blocks.iter().filter(|block| block.stages.cache.is_some());
    let shown = blocks.zip(&stats.caches).enumerate().take(CACHES_MAX);
    let shown = shown.map(|(place, (block, stats))| {
        let CacheStats { requests, hits, evicted, entries, bytes, .. } = stats;
        let sum = |classes: &[u64; 2]| classes.iter().sum::<u64>();
        let zones: Vec<_> = block.zones().take(8).map(ToString::to_string).collect();
        let more = if block.keys.len() > zones.len() { " …" } else { "" };
        let requests_of =
            |sample: &super::history::Sample| sample.caches.get(place).map_or(0, |cache| cache.0);
        Cache {
            zones: (zones.join(" ") + more).chars().take(ZONES_LEN_MAX).collect(),
            entries: sum(entries),
            bytes: *bytes,
            rate: lately.map_or(0.0, |lately| lately.rate(requests_of)),
            hit_ratio: lately.and_then(|lately| lately.hit_ratio(place)),
            hits: sum(hits),
            requests: *requests,
            evicted: sum(evicted),
        }
    });
    (shown.collect(), stats.caches.len().saturating_sub(CACHES_MAX))
}

/// Returns the most frequent keys of all of `seen`, each with its period.
fn top(seen: &[(&Seen, Duration)]) -> Top {
    let elapsed = seen.iter().map(|(_, elapsed)| elapsed.as_secs_f64()).fold(0.0, f64::max);
    let most = |of: fn(&Seen) -> &[Counted], text: fn(&[u8]) -> String| {
        let mut sums: HashMap<&[u8], u64> = HashMap::new();
        for counted in seen.iter().flat_map(|(seen, _)| of(seen)) {
            // The certain part: the error may belong to another key.
            *sums.entry(counted.key()).or_default() += counted.count - counted.error;
        }
        let mut sums: Vec<_> = sums.into_iter().filter(|(_, count)| *count > 0).collect();
        sums.sort_unstable_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(other.0)));
        if sums.len() > TOP_MAX {
            // Among many keys, one that was seen once is not frequent.
            sums.retain(|(_, count)| *count > 1);
        }
        sums.truncate(TOP_MAX);
        let counts = sums.into_iter().map(|(key, count)| Count {
            what: text(key),
            count,
            rate: count as f64 / elapsed.max(1.0),
        });
        counts.collect()
    };
    let name = |wire: &[u8]| Name::of_wire(wire).to_string();
    Top {
        names: most(|seen| &seen.names, name),
        clients: most(|seen| &seen.clients, address),
        failing: most(|seen| &seen.failing, name),
    }
}

/// Formats an address of four or sixteen bytes.
fn address(bytes: &[u8]) -> String {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4.or(v6).map_or_else(|_| "?".to_owned(), |ip| ip.to_string())
}
