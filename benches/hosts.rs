//! Costs of a table of a million names: load, memory and lookups.
//!
//! `cargo bench -p benches --bench hosts` measures lookups of present and absent names, in
//! unpredictable order. `cargo bench -p benches --bench hosts -- --load` loads a block list of a
//! million lines from a file, twice, and prints the time, the table's size, and the growth of the
//! process: after the first load, and at the peak while both tables exist.

use ahash::RandomState;
use harness::tables::{load_twice, run_or_load, scattered, wire};
use harness::{Bench, Operations, repeat, whole};
use onward::config::HostsSource;
use onward::engine::forwarder::AHEAD_MAX;
use onward::engine::hosts::{Builder, Table};
use onward::loader;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;

/// Lines of the list.
const LINES: usize = 1_000_000;
/// Lines of the list for counting instructions.
const FEW: usize = 4_096;

fn main() -> ExitCode {
    let benches = [
        Bench { name: "hosts_found", set_up: || look_up(FEW, "") },
        Bench { name: "hosts_unknown", set_up: || look_up(FEW, "x") },
        Bench { name: "hosts_found_1000000", set_up: || look_up(LINES, "") },
        Bench { name: "hosts_unknown_1000000", set_up: || look_up(LINES, "x") },
        Bench { name: "hosts_found_1000000_batch", set_up: || look_up_together(LINES, "") },
        Bench { name: "hosts_unknown_1000000_batch", set_up: || look_up_together(LINES, "x") },
    ];
    run_or_load(&benches, load)
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

fn table(lines: usize) -> Table {
    let text = list(lines);
    let mut builder = Builder::new(RandomState::with_seeds(1, 2, 3, 4), true, text.len());
    builder.read(text.as_bytes()).expect("it is not too large");
    builder.end();
    builder.finish()
}

/// The table's names with the prefix `before`, in unpredictable order.
fn names(lines: usize, before: &str) -> Vec<Box<[u8]>> {
    let names = scattered(lines).map(|number| wire(&format!("{before}{}", name(number))));
    names.map(Vec::into_boxed_slice).collect()
}

/// Lookups of [`names`], one after the other.
fn look_up(lines: usize, before: &str) -> Operations {
    let (table, names) = (table(lines), names(lines, before));
    let mut next = 0;
    repeat(move || {
        let name = &names[next];
        next = (next + 1) % names.len();
        black_box(table.find(name));
    })
}

/// Lookups of [`names`] as a worker does them: the records of a batch are prefetched together.
/// One operation is one lookup.
fn look_up_together(lines: usize, before: &str) -> Operations {
    let (table, names) = (table(lines), names(lines, before));
    let batches = names.len() / AHEAD_MAX;
    let mut next = 0;
    whole(move |count| {
        for _ in 0..count.div_ceil(AHEAD_MAX as u64) {
            let batch = &names[next * AHEAD_MAX..][..AHEAD_MAX];
            next = (next + 1) % batches;
            let places = std::array::from_fn::<_, AHEAD_MAX, _>(|n| table.prefetch(&batch[n]));
            places.into_iter().for_each(|ahead| table.prefetch_record(ahead));
            batch.iter().for_each(|name| {
                black_box(table.find(name));
            });
        }
    })
}

/// Loads the list twice from a file.
fn load(place: &Path) {
    std::fs::write(place, list(LINES)).expect("there is room");
    let (label, inline, reload) = (String::new(), Vec::new(), None);
    let source = HostsSource { label, place: place.into(), inline, reverse: true, reload };
    let hasher = loader::hasher().expect("there is randomness");
    load_twice(|| {
        let Ok(loaded) = loader::read(&source, &hasher) else { panic!("it cannot be read") };
        let (entries, bytes) = (loaded.table.entries(), loaded.table.reserved() >> 20);
        (loaded.table, format!("{entries} entries of {bytes} MiB"))
    });
}
