//! Costs of a table of a million names: load, memory and lookups.
//!
//! `cargo bench --bench hosts` measures lookups of present and absent names, in unpredictable
//! order. `cargo bench --bench hosts -- --load` loads a block list of a million lines from a file,
//! twice, and prints the time, the table's size, and the growth of the process: after the first
//! load, and at the peak while both tables exist.

mod harness;

use ahash::RandomState;
use harness::{Bench, Operations, repeat, run};
use onward::clock::Clock;
use onward::config::HostsSource;
use onward::engine::hosts::{Builder, Table};
use onward::loader;
use std::fmt::Write as _;
use std::hint::black_box;
use std::process::ExitCode;

/// Lines of the list.
const LINES: usize = 1_000_000;
/// Lines of the list for counting instructions.
const FEW: usize = 4_096;

fn main() -> ExitCode {
    if std::env::args().any(|word| word == "--load") {
        load();
        return ExitCode::SUCCESS;
    }
    run(&[
        Bench { name: "hosts_found", set_up: || look_up(FEW, "") },
        Bench { name: "hosts_unknown", set_up: || look_up(FEW, "x") },
        Bench { name: "hosts_found_1000000", set_up: || look_up(LINES, "") },
        Bench { name: "hosts_unknown_1000000", set_up: || look_up(LINES, "x") },
    ])
}

/// A block list with realistic line lengths.
fn list(lines: usize) -> String {
    let mut text = String::new();
    for number in 0..lines {
        let _ = writeln!(text, "0.0.0.0 {}", name(number));
    }
    text
}

fn name(number: usize) -> String {
    format!("ads{number}.tracker{}.example", number % 977)
}

fn wire(name: &str) -> Box<[u8]> {
    let mut wire = Vec::new();
    for label in name.split('.') {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire.into()
}

fn table(lines: usize) -> Table {
    let text = list(lines);
    let mut builder = Builder::new(RandomState::with_seeds(1, 2, 3, 4), true, text.len());
    builder.read(text.as_bytes()).expect("it is not too large");
    builder.end();
    builder.finish()
}

/// Lookups of the table's names with the prefix `before`, in unpredictable order.
fn look_up(lines: usize, before: &str) -> Operations {
    let table = table(lines);
    // A step without a common divisor with the number visits each once.
    let order = (0..lines).map(|number| number * 611_953 % lines);
    let names: Vec<_> = order.map(|number| wire(&format!("{before}{}", name(number)))).collect();
    let mut next = 0;
    repeat(move || {
        let name = &names[next];
        next = (next + 1) % names.len();
        black_box(table.find(name));
    })
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

/// Loads the list twice from a file.
fn load() {
    let place = std::env::temp_dir().join(format!("onward-bench-{}", std::process::id()));
    std::fs::write(&place, list(LINES)).expect("there is room");
    let (label, inline, reload) = (String::new(), Vec::new(), None);
    let source = HostsSource { label, place: place.clone(), inline, reverse: true, reload };
    let hasher = loader::hasher().expect("there is randomness");
    // Resets the peak, which would otherwise be that of building the text.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let [before, _] = resident();
    let clock = Clock::start();
    let mut tables = Vec::new();
    for _ in 0..2 {
        let begin = clock.now();
        let Ok(loaded) = loader::read(&source, &hasher) else { panic!("it cannot be read") };
        let took = clock.now().since(begin);
        let [now, most] = resident().map(|all| (all - before) / 1_024.0);
        let (entries, bytes) = (loaded.table.entries(), loaded.table.reserved() >> 20);
        println!(
            "{entries} entries in {took:.2?}; the table has {bytes} MiB; the process grew by \
             {now:.1} MiB, {most:.1} at most"
        );
        tables.push(loaded.table);
    }
    let _ = std::fs::remove_file(place);
}
