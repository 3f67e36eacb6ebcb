//! The simulator: whole runs of a forwarder in virtual time, each from one seed.
//!
//! Clients, links, upstreams, an attacker, the keeper and the workers are nodes of a [`World`];
//! engines, pools, health states, health schedules, framing and the timer wheel are the program's
//! own. A seed determines everything, to the nanosecond: the configuration ([`plan`]), the
//! network's behaviour and all events. After every turn of every worker the [`laws`] are checked;
//! at the end of the load all must become idle, then everything must work again, and finally
//! nothing may be left.
//!
//! * `cargo test --test sim`: 256 seeds.
//! * `ONWARD_SIM_SEEDS=10000 cargo test --release --test sim`: that many seeds.
//! * `ONWARD_SIM_SEED=17 cargo test --test sim -- --nocapture every_seed`: that seed, with its plan
//!   and all events. A failing seed is printed with this command.

mod accepted;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod connections;
mod keeper;
mod laws;
mod link;
mod net;
mod plan;
mod proof;
mod reload;
mod upstream;
mod virtual_address;
mod worker;
mod world;

use onward::moment::Moment;
use plan::Plan;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use world::{Tally, World};

/// Seeds of a default run.
const SEEDS: u64 = 256;
/// Events printed after a failure.
const EVENTS_PRINTED: usize = 150;

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number: {text}")))
}

#[test]
fn every_seed_keeps_the_laws() {
    if let Some(seed) = variable("ONWARD_SIM_SEED") {
        let plan = Plan::new(seed);
        println!("{plan:#?}\n{}", plan.corefile);
        println!("{:?}", World::new(&plan, usize::MAX).run());
        return;
    }
    let seeds = variable("ONWARD_SIM_SEEDS").unwrap_or(SEEDS);
    let clock = onward::clock::Clock::start();
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = || {
        let mut tally = Tally::default();
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                break;
            }
            let run = |lines| World::new(&Plan::new(seed), lines).run();
            match catch_unwind(|| run(0)) {
                Ok(one) => tally.add(&one),
                Err(_) => {
                    failed.store(true, Ordering::Relaxed);
                    // The same run again, with events recorded as text.
                    let _ = catch_unwind(AssertUnwindSafe(|| run(EVENTS_PRINTED)));
                    eprintln!("seed {seed} failed. To see it again, and all of it:");
                    eprintln!("ONWARD_SIM_SEED={seed} cargo test --test sim -- --nocapture every");
                }
            }
        }
        tally
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let total = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut total = Tally::default();
        threads.into_iter().for_each(|thread| total.add(&thread.join().expect("it catches all")));
        total
    });
    assert!(!failed.into_inner(), "a seed failed: see above");
    let elapsed = clock.now().since(Moment::ZERO);
    // Directly to stderr, because the test harness captures prints.
    let _ = writeln!(std::io::stderr(), "{seeds} seeds in {elapsed:.1?}: {total:?}");
    if seeds >= SEEDS {
        total.check(seeds);
    }
}
