//! Common parts of the benches of large tables: names, the switch `--load`, and resident memory.
//!
//! With `--load`, such a bench loads its table twice from a file instead of measuring lookups: the
//! second load shows the memory that a reload needs while the old table is in use.

#![allow(dead_code, reason = "only the benches of tables use this")]

use super::{Bench, run};
use onward::clock::Clock;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A name in wire format.
pub fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let bytes = labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
    bytes.chain([0]).collect()
}

/// The numbers below `count` in unpredictable order, each once.
pub fn scattered(count: usize) -> impl Iterator<Item = usize> {
    // A step without a common divisor with the number visits each once.
    (0..count).map(move |number| number * 611_953 % count)
}

/// Runs `load` with a place for a file if the word `--load` was given, and `benches` otherwise.
pub fn run_or_load(benches: &[Bench], load: fn(&Path)) -> ExitCode {
    if !std::env::args().any(|word| word == "--load") {
        return run(benches);
    }
    let place: PathBuf = std::env::temp_dir().join(format!("onward-bench-{}", std::process::id()));
    load(&place);
    let _ = std::fs::remove_file(place);
    ExitCode::SUCCESS
}

/// Loads a table twice. Prints its description from `load`, the duration, and the growth of the
/// process: current and peak.
pub fn load_twice<T>(load: impl Fn() -> (T, String)) {
    // Resets the peak, which would otherwise be that of building the text.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let [before, _] = resident();
    let clock = Clock::start();
    let mut tables = Vec::new();
    for _ in 0..2 {
        let begin = clock.now();
        let (table, what) = load();
        let took = clock.now().since(begin);
        let [now, most] = resident().map(|all| (all - before) / 1_024.0);
        println!("{what} in {took:.2?}; the process grew by {now:.1} MiB, {most:.1} at most");
        tables.push(table);
    }
}

/// Current and peak resident memory, in KiB.
fn resident() -> [f64; 2] {
    let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    ["VmRSS:", "VmHWM:"].map(|field| {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|number| number.parse().ok()).expect("a number")
    })
}
