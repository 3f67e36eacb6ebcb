//! Fuzz tests of messages, HTTP, PROXY headers and Corefiles: no panic and no unbounded work.
//!
//! No extra tool or compiler is needed: each target first replays the committed corpus
//! (`tests/fuzz/TARGET/*`), then runs a number of mutations of it, each made from its own seed, so
//! that a failure can be reproduced. A panic is caught and printed with that seed.
//!
//! * `FUZZ_ROUNDS=1000000 cargo test --release --test fuzz` for longer than a moment;
//! * `FUZZ_SEED=7` for mutations other than the default ones;
//! * `FUZZ_SEED=7 FUZZ_ONLY=12345 cargo test --test fuzz corefile` for one mutation alone, whose
//!   bytes are printed.
//!
//! An input that found a bug is added to the corpus under a descriptive name.

mod corefile;
mod http;
mod http3;
mod message;
mod mutate;
mod proxy;

use mutate::Mutator;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

const ROUNDS: u64 = 20_000;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// The corpus of a target, in the order of its names.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(target);
    let entries = std::fs::read_dir(&directory).expect("the corpus is there");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Runs `try_one` on the corpus, then on mutations of it. Returns how often it returned true.
fn fuzz(target: &str, mutator: &Mutator, try_one: impl Fn(&[u8]) -> bool) -> u64 {
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "there is no corpus");
    let caught = |input: &[u8], what: &dyn Fn() -> String| {
        let outcome = catch_unwind(AssertUnwindSafe(|| try_one(input)));
        outcome.unwrap_or_else(|_| panic!("{}: {:?}", what(), String::from_utf8_lossy(input)))
    };
    let mut accepted = 0;
    for (path, input) in &corpus {
        accepted += u64::from(caught(input, &|| path.display().to_string()));
    }
    let seed = number("FUZZ_SEED").unwrap_or(1);
    let inputs: Vec<&[u8]> = corpus.iter().map(|(_, input)| input.as_slice()).collect();
    let only = number("FUZZ_ONLY");
    let rounds = only.map_or(0..number("FUZZ_ROUNDS").unwrap_or(ROUNDS), |only| only..only + 1);
    for round in rounds {
        let mut random = ChaCha12Rng::seed_from_u64(seed << 40 ^ round);
        let input = mutator.mutated(&inputs, &mut random);
        if only.is_some() {
            println!("{:?}\n{}", input, String::from_utf8_lossy(&input));
        }
        accepted += u64::from(caught(&input, &|| format!("FUZZ_SEED={seed} FUZZ_ONLY={round}")));
    }
    accepted
}
