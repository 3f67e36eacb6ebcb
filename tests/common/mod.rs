//! Shared helpers of the engine's tests: configurations, messages and random numbers.
//!
//! Configurations are built by hand only here, so that a new field has one place to go.
//! Messages are written byte by byte, independent of the tested code, and may be wrong on purpose.

#![allow(dead_code, reason = "each test binary uses its part of this")]

pub(crate) mod wire;

use onward::config::{
    CLIENT_CONNECTIONS_MAX, Config, Forward, HealthCheck, Host, HttpSettings, LetterCase, Listener,
    ListenerLimits, Name, Policy, Protocol, Rcodes, Served, ServerBlock, Sizing, Stages, Upstream,
};
use onward::moment::Moment;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::net::SocketAddr;
use std::time::Duration;

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

/// Returns the address of the upstream with this number.
pub(crate) fn upstream_address(number: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1 + number as u8], 53))
}

/// A stanza for all names with `upstreams` upstreams, tried in order, and no unneeded connections.
pub(crate) fn stanza(upstreams: usize) -> Forward {
    let upstream = |number| Upstream { address: upstream_address(number), tls: None, http: None };
    Forward {
        from: Name::root(),
        except: Vec::new(),
        upstreams: (0..upstreams).map(upstream).collect(),
        host_names: Vec::new(),
        grpc: None,
        policy: Policy::Sequential,
        expire: Duration::from_secs(10),
        max_age: None,
        max_age_jitter: 10,
        distrust: true,
        rebalance: false,
        gso: true,
        proxy_protocol: false,
        letter_case: LetterCase::Off,
        private_answers: None,
        max_idle_conns: None,
        read_timeout: Duration::from_secs(2),
        max_connect_attempts: None,
        health: HealthCheck::default(),
        failfast: false,
        force_tcp: false,
        prefer_udp: false,
        failover: Rcodes::default(),
        next: Rcodes::default(),
        next_on_nodata: false,
        max_concurrent: None,
        source_address: None,
        sizing: Sizing {
            spread: 1,
            stream_spread: 1,
            max_conns: 1_024,
            max_inflight: 64,
            tcp_inflight: 32,
        },
    }
}

/// One listener with one server block for each of `blocks`, which has a zone and its stanzas.
pub(crate) fn config(blocks: Vec<(&str, Vec<Forward>)>) -> Config {
    let zones = blocks.iter().enumerate().map(|(block, (zone, _))| (name(zone), block));
    let address = SocketAddr::from(([127, 0, 0, 1], 53));
    let (implied, protocol, tls, proxies) = (false, Protocol::Dns, None, None);
    let (http, limits) = (HttpSettings::default(), ListenerLimits::default());
    let zones = zones.collect();
    let others = Vec::new();
    let listener =
        Listener { address, implied, zones, protocol, tls, others, http, limits, proxies };
    let block = |(zone, forwards): (&str, _)| ServerBlock {
        own_zones: None,
        keys: vec![Served { zone: name(zone), port: 53, protocol: Protocol::Dns }],
        bind: None,
        stages: Stages::default(),
        forwards,
    };
    Config {
        listeners: vec![listener],
        blocks: blocks.into_iter().map(block).collect(),
        client_connections_max: CLIENT_CONNECTIONS_MAX,
        reload: None,
        // The tests' clients share few addresses.
        late: unpaced().late,
    }
}

/// A configuration in which late replies are sent at once.
fn unpaced() -> Config {
    let text = b".:53 {\n late {\n rate 0\n }\n whoami\n}\n";
    Config::load(text, "Corefile", &Host::plain()).expect("a configuration").0
}

/// The moment `seconds` after the start.
pub(crate) fn at(seconds: f64) -> Moment {
    Moment::ZERO.plus(Duration::from_secs_f64(seconds))
}

/// Runs `case` for each seed and prints the seed that failed.
pub(crate) fn for_seeds(
    seeds: std::ops::Range<u64>,
    case: impl Fn(&mut Dice) + std::panic::RefUnwindSafe,
) {
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| case(&mut Dice::new(seed)));
        outcome.unwrap_or_else(|_| panic!("with seed {seed}"));
    }
}

/// Seeded random numbers.
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.0.next_u64() % bound as u64) as usize
    }

    /// True once in `count` times on average.
    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// True `count` times in a thousand on average.
    pub(crate) fn per_mille(&mut self, count: usize) -> bool {
        self.below(1_000) < count
    }

    /// A time from `least` to `most`, to the microsecond.
    pub(crate) fn time(&mut self, least: Duration, most: Duration) -> Duration {
        let span = (most - least).as_micros() as usize;
        least + Duration::from_micros(self.below(span + 1) as u64)
    }

    pub(crate) fn word(&mut self) -> u16 {
        self.0.next_u32() as u16
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}
