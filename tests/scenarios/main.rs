//! Scenarios: the whole engine in a scripted world, in words an operator can read.
//!
//! Each file in `cases` is a story: a Corefile, what clients ask, what upstreams do about it, how
//! much time passes, and what everybody gets. No socket and no sleep: time is a number that jumps
//! from deadline to deadline, so an hour costs nothing and every moment is exact. A story is told
//! three times with different random numbers, and must hold each time.
//!
//! A scenario fails when anything happens that it does not speak of: a query that reached an
//! upstream, a reply, a dropped packet, a client that waits, a connection or timer that is left
//! when all time has passed.

mod ask;
#[path = "../common/mod.rs"]
mod common;
mod keeper;
mod play;
mod proofs;
mod say;
mod script;
mod words;
mod world;

use script::{Failure, Script};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Each scenario is played with each of these.
const SEEDS: [u8; 3] = [1, 2, 3];

/// Plays the scenario `text`.
pub(crate) fn run(text: &str) -> Result<(), Failure> {
    let script = Script::parse(text)?;
    let line = Cell::new(1);
    for seed in SEEDS {
        let played = catch_unwind(AssertUnwindSafe(|| play::play(&script, seed, &line)));
        played.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            let complaint = format!("panic: {}", text.unwrap_or("without a word"));
            Err(Failure { line: line.get(), complaint })
        })?;
    }
    Ok(())
}

#[test]
fn every_scenario_goes_as_it_is_told() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/cases");
    let entries = std::fs::read_dir(directory).expect("the directory of cases");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a case").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "scenario"));
    paths.sort();
    let mut failures = Vec::new();
    for path in &paths {
        let text = std::fs::read_to_string(path).expect("a case is text");
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Err(Failure { line, complaint }) = run(&text) {
            failures.push(format!("{name}:{line}: {complaint}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
