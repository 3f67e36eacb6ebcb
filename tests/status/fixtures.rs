//! Statuses to draw: an ordinary one, a hostile one, an overfull one, and an empty one.
//!
//! All are computed, so that each run draws the same. The ordinary one has one defect to find: an
//! upstream that is being probed and gets less than its share.

use onward::status::{
    Cache, Count, Health, HostsFile, Latency, Pool, Status, Top, Traffic, Upstream, Worker,
};

/// Plausible numbers, from 0 to 1.
fn noise(seed: usize, at: usize) -> f64 {
    let mixed = (seed as u64 * 1_000_003 + at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f64 / (1 << 24) as f64
}

fn count(what: &str, count: u64, rate: f64) -> Count {
    Count { what: what.into(), count, rate }
}

fn latency(p50: f64) -> Latency {
    Latency { p50_ms: p50, p90_ms: p50 * 3.1, p99_ms: p50 * 11.7 }
}

/// An ordinary resolver host.
pub(super) fn ordinary() -> Status {
    let addresses =
        ["198.51.100.53:53", "203.0.113.53:53", "[2001:db8:0:53::1]:53", "192.0.2.153:5353"];
    let history: Vec<f64> = (0..60)
        .map(|at| 41_000.0 + 9_000.0 * (at as f64 / 11.0).sin() + 4e3 * noise(1, at))
        .collect();
    Status {
        version: "0.1.0".into(),
        host: "resolver-3.example.net".into(),
        now_ms: 1_790_000_000_000,
        uptime_s: 1_203_456.0,
        reloads: [12, 1],
        traffic: Traffic {
            queries: 48_712_345_678,
            rate: 44_312.4,
            history,
            replies: 48_712_301_222,
            drops: vec![
                count("malformed", 40_212, 0.7),
                count("acl", 1_877, 0.1),
                count("response", 12, 0.0),
            ],
            rcodes: vec![
                count("NOERROR", 39_712_345_678, 36_400.0),
                count("NXDOMAIN", 8_712_345_678, 7_700.0),
                count("SERVFAIL", 212_345_678, 180.2),
                count("REFUSED", 345_678, 0.3),
            ],
            latency: latency(0.094),
            coalesced: 91_234_567,
            connections: 312,
            source_ports: 2_048,
            records_lost: 0,
        },
        upstreams: addresses.iter().enumerate().map(|(at, to)| upstream(at, to)).collect(),
        upstreams_more: 0,
        workers: (0..4).map(worker).collect(),
        caches: vec![
            Cache {
                zones: ".".into(),
                entries: 812_345,
                bytes: 161_234_567,
                rate: 43_900.0,
                hit_ratio: Some(0.873),
                hits: 41_000_000_000,
                requests: 48_000_000_000,
                evicted: 1_234_567,
            },
            Cache {
                zones: "10.in-addr.arpa corp.example".into(),
                entries: 1_204,
                bytes: 212_345,
                ..Cache::default()
            },
        ],
        caches_more: 0,
        hosts: Vec::new(),
        top: ordinary_top(),
    }
}

fn upstream(at: usize, address: &str) -> Upstream {
    let weak = at == 2;
    let health = if weak { Health::Probing } else { Health::Up };
    let part = |minute: usize| {
        let weight = |at: usize| match (at, minute) {
            (2, 38..) => 0.25,
            _ => 1.0 + 0.12 * (noise(at + 7, minute) - 0.5),
        };
        weight(at) / (0..4).map(weight).sum::<f64>()
    };
    let mut pools = vec![Pool {
        transport: "udp".into(),
        idle: 118,
        in_use: 10,
        retiring: 2,
        limit: 1_024,
        max_age_s: Some(60.0),
        oldest_s: 58.1,
        ages: (0..12).map(|step| [12, 14, 11, 13, 15, 12, 13, 14, 11, 9, 0, 0][step]).collect(),
        age_step_s: 6.0,
        opened: 2_345_678,
        aged: 2_100_345,
    }];
    if at < 2 {
        let ages = vec![1, 0, 2, 0, 0, 1, 0, 0, 0, 1, 0, u64::from(at == 1)];
        let (opened, aged) = (4_321, 4_100);
        let (idle, in_use, retiring) = (3, 2, u64::from(at == 1));
        let oldest_s = if at == 1 { 71.0 } else { 57.0 };
        let transport = "tcp".into();
        let (limit, age_step_s) = (64, 6.0);
        let max_age_s = Some(60.0);
        pools.push(Pool {
            transport,
            idle,
            in_use,
            retiring,
            limit,
            max_age_s,
            oldest_s,
            ages,
            age_step_s,
            opened,
            aged,
        });
    }
    Upstream {
        address: address.into(),
        health,
        answered: 1_812_345_678,
        rate: if weak { 430.0 } else { 1_712.0 + 60.0 * at as f64 },
        share: (0..60).map(|minute| Some(part(minute)).filter(|_| minute != 12)).collect(),
        timed_out: if weak { 8_123 } else { 0 },
        failed: if weak { 17 } else { 0 },
        latency: latency(if weak { 31.0 } else { 2.3 + at as f64 }),
        pools,
    }
}

fn worker(number: usize) -> Worker {
    Worker {
        number,
        core: Some(number * 2),
        rate: 11_000.0 + 512.0 * number as f64,
        load: (0.31 + 0.17 * number as f64).min(0.97),
        history: (0..60).map(|at| 0.3 + 0.12 * number as f64 + 0.2 * noise(number, at)).collect(),
        batch: 3.4,
        exchanges: 212 + 11 * number as u64,
        exchanges_limit: 16_384,
        kernel_drops: if number == 3 { 1_204 } else { 0 },
        migrations: 0,
        panics: 0,
    }
}

fn ordinary_top() -> Top {
    let names = [
        "www.example.com.",
        "api.shop.example.",
        "cdn-17.eu-central.assets.example.net.",
        "_ldap._tcp.dc._msdcs.corp.example.",
        "4.3.2.1.in-addr.arpa.",
        "telemetry.vendor.example.",
        "a-name-so-long-that-it-can-not-be-shown.with-labels-one-after-the-other.example.org.",
    ];
    let lines = |names: &[&str], scale: u64| {
        let line = |(at, name): (usize, &&str)| {
            let seen = scale / (at as u64 + 1);
            count(name, seen, seen as f64 / 300.0)
        };
        names.iter().enumerate().map(line).collect()
    };
    Top {
        names: lines(&names, 912_345),
        clients: lines(&["10.1.2.3", "10.1.7.19", "2001:db8:77::1f", "10.9.0.1"], 412_000),
        failing: lines(&["broken.example.", "lame.delegation.example."], 23_000),
    }
}

/// Returns a status distorted by hostile clients and a broken clock: `text` in every string, and
/// invalid numbers.
pub(super) fn hostile(text: &str) -> Status {
    let mut status = ordinary();
    let evil = || text.to_owned();
    (status.host, status.version) = (evil(), evil());
    let top = &mut status.top;
    let traffic = &mut status.traffic;
    let lists = [
        &mut traffic.drops,
        &mut traffic.rcodes,
        &mut top.names,
        &mut top.clients,
        &mut top.failing,
    ];
    for line in lists.into_iter().flatten() {
        (line.what, line.count, line.rate) = (evil(), u64::MAX, f64::NAN);
    }
    for upstream in &mut status.upstreams {
        upstream.address = evil();
        upstream.share = vec![Some(f64::INFINITY), Some(-3.0), None, Some(1e300)];
        upstream.latency.p99_ms = f64::MAX;
        for pool in &mut upstream.pools {
            pool.transport = evil();
            pool.ages = vec![u64::MAX; 40];
            (pool.oldest_s, pool.age_step_s) = (f64::MAX, f64::NAN);
        }
    }
    for worker in &mut status.workers {
        (worker.load, worker.batch) = (f64::NEG_INFINITY, f64::MAX);
        worker.history = vec![f64::NAN, 7e9];
        worker.exchanges = u64::MAX;
    }
    for cache in &mut status.caches {
        (cache.zones, cache.hit_ratio, cache.rate) = (evil(), Some(f64::NAN), f64::INFINITY);
        (cache.bytes, cache.requests) = (u64::MAX, u64::MAX);
    }
    (status.uptime_s, traffic.rate) = (f64::MAX, f64::INFINITY);
    traffic.history = vec![f64::NAN; 90];
    status
}

/// Hostile strings for names, which a page or screen must survive.
pub(super) const EVIL: [&str; 6] = [
    "\"><script>alert(1)</script>",
    "' onmouseover='alert(1)",
    "</style></title><img src=x onerror=alert(1)>",
    "\u{202e}moc.elpmaxe\u{2066}\u{1b}[2J\u{1b}]0;owned\u{7}\r\n",
    "<!--&lt;&#x3c;`]]>",
    "\u{0}\u{9b}31m\u{85}\u{ad}\u{200d}e\u{301}\u{301}\u{301}",
];

/// More of everything than can be shown.
pub(super) fn crowd() -> Status {
    let mut status = ordinary();
    status.upstreams = (0..80)
        .map(|at| {
            let mut upstream = upstream(at % 4, &format!("198.51.100.{at}:53"));
            upstream.share.iter_mut().flatten().for_each(|share| *share /= 20.0);
            upstream
        })
        .collect();
    (status.upstreams_more, status.caches_more) = (5, 7);
    status.workers = (0..300).map(worker).collect();
    status.caches = (0..120)
        .map(|at| Cache { zones: format!("zone-{at}.example"), ..status.caches[at % 2].clone() })
        .collect();
    status.hosts = (0..60)
        .map(|at| HostsFile { file: format!("/etc/<hosts>&{at}"), ..hosts_file() })
        .collect();
    status.top.names = (0..50).map(|at| count(&format!("n{at}.example."), 50 - at, 1.0)).collect();
    status
}

fn hosts_file() -> HostsFile {
    HostsFile {
        file: "/etc/hosts".into(),
        entries: 1_008_800,
        bytes: 40_123_456,
        skipped: 12,
        modified_ms: 1_700_000_000_000,
        loads: [7, 2],
    }
}

/// Just started: configured, and without any query.
pub(super) fn fresh() -> Status {
    let upstream = Upstream { address: "198.51.100.53:53".into(), ..Upstream::default() };
    Status {
        version: "0.1.0".into(),
        uptime_s: 1.2,
        upstreams: vec![upstream],
        workers: vec![Worker { exchanges_limit: 1_024, ..Worker::default() }],
        ..Status::default()
    }
}
