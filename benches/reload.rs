//! Costs of a reload in a worker's turn, for configurations of many server blocks.
//!
//! Another thread builds the new state in advance ([`Parts`]) and frees the old one; a worker only
//! exchanges them ([`Forwarder::adopt`]), and serves no query meanwhile. Each reload changes the
//! upstream of every zone.

use ahash::RandomState;
use harness::{Bench, Meter, Operations, repeat, run};
use onward::config::{Config, Host};
use onward::engine::Forwarder;
use onward::engine::cache::SharedCaches;
use onward::engine::forwarder::Parts;
use onward::engine::health::HealthStates;
use onward::moment::Moment;
use std::fmt::Write;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    run(&[
        Bench { name: "reload_5000_blocks_built_beforehand", set_up: build },
        Bench { name: "reload_1000_blocks", set_up: || reload(1_000, "") },
        Bench { name: "reload_5000_blocks", set_up: || reload(5_000, "") },
        Bench {
            name: "reload_5000_blocks_with_stages",
            set_up: || reload(5_000, "cache 30\n errors\n prometheus\n loop\n"),
        },
    ])
}

/// The work of the other thread for a reload of 5,000 server blocks: building and freeing.
fn build() -> Operations {
    let config = config(5_000, 0, "");
    let listeners: Vec<_> = (0..config.listeners.len()).map(Some).collect();
    let health_states = Arc::new(HealthStates::new(&config));
    repeat(move || {
        black_box(Parts::new(&config, &listeners, health_states.clone(), &caches(&config)));
    })
}

/// Reloads of `blocks` server blocks with the lines `stages` in each.
fn reload(blocks: usize, stages: &str) -> Operations {
    let configs = [0, 1, blocks / 2].map(|shift| config(blocks, shift, stages));
    let listeners: Vec<_> = (0..configs[0].listeners.len()).map(Some).collect();
    let health_states = |config: &Config| Arc::new(HealthStates::new(config));
    let mut engine = Forwarder::new(&configs[0], [1; 32], health_states(&configs[0]));
    let mut round = 0;
    Box::new(move |count, meter: &mut Meter| {
        for _ in 0..count {
            round = (round + 1) % configs.len();
            let config = &configs[round];
            let mut parts = Parts::new(config, &listeners, health_states(config), &caches(config));
            meter.count(|| engine.adopt(Moment::ZERO, &mut parts));
        }
    })
}

/// Empty caches.
fn caches(config: &Config) -> SharedCaches {
    SharedCaches::new(config, RandomState::with_seeds(1, 2, 3, 4)).expect("there is memory")
}

/// A configuration of `blocks` zones with upstreams numbered from `shift` on.
fn config(blocks: usize, shift: usize, stages: &str) -> Config {
    let host = Host { open_files: 1_000_000, workers: 1, ..Host::plain() };
    let mut text = String::new();
    for block in 0..blocks {
        let upstream = block + shift;
        let (high, low) = (upstream / 250, upstream % 250 + 1);
        writeln!(
            text,
            "z{block}.example {{\n bind 127.0.0.1\n {stages} forward . 127.1.{high}.{low}\n}}"
        )
        .unwrap();
    }
    Config::load(text.as_bytes(), "Corefile", &host).unwrap().0
}
