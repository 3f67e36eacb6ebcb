//! Costs of a zone of a million names: load, memory and answers.
//!
//! `cargo bench -p benches --bench zones` measures answers for present and absent names, in
//! unpredictable order. `cargo bench -p benches --bench zones -- --load` loads a zone of a million
//! names from a file, twice, and prints the time, the zone's size, and the growth of the process:
//! after the first load, and at the peak while both zones exist.

use ahash::RandomState;
use harness::tables::{load_twice, run_or_load, scattered, wire};
use harness::{Bench, Operations, repeat};
use onward::config::{FileSource, Name, Written};
use onward::engine::authority::Builder;
use onward::engine::authority::answer::{Ask, answer};
use onward::engine::authority::table::{ZoneEntry, ZoneTable};
use onward::engine::message::compose::Composer;
use onward::engine::message::query::Asked;
use onward::engine::message::reply::Finish;
use onward::engine::zones::LowercaseName;
use onward::loader;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// Names of the zone.
const NAMES: usize = 1_000_000;
/// Names of the zone for counting instructions.
const FEW: usize = 4_096;
/// SOA RDATA: two names and five numbers.
const SOA: &[u8] = b"\x01n\0\x01h\0\0\0\0\x07\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04";

fn main() -> ExitCode {
    let benches = [
        Bench { name: "zones_found", set_up: || look_up(FEW, "") },
        Bench { name: "zones_denied", set_up: || look_up(FEW, "x") },
        Bench { name: "zones_found_1000000", set_up: || look_up(NAMES, "") },
        Bench { name: "zones_denied_1000000", set_up: || look_up(NAMES, "x") },
    ];
    run_or_load(&benches, load)
}

fn label(number: usize) -> String {
    format!("host{number}")
}

fn table(names: usize) -> ZoneTable {
    let apex = wire("zone.example");
    let hasher = RandomState::with_seeds(1, 2, 3, 4);
    let mut builder = Builder::new(&apex, 24 * names, hasher.clone());
    let mut add = |owner: &[u8], rtype: u16, data: &[u8]| {
        builder.add(owner, rtype, 300, data, (0, 1)).expect("it is part of the zone");
    };
    add(&apex, 6, SOA);
    add(&apex, 2, &wire("ns.zone.example"));
    for number in 0..names {
        add(&wire(&format!("{}.zone.example", label(number))), 1, &[192, 0, 2, 1]);
    }
    let zone = builder.finish().unwrap_or_else(|refused| panic!("{}", refused.what)).zone;
    let name = Name::parse("zone.example").expect("a name");
    ZoneTable::new(vec![ZoneEntry::of_file(name, 0, Some(Arc::new(zone)))], hasher)
}

/// Answers for names with the prefix `before`, in unpredictable order.
fn look_up(names: usize, before: &str) -> Operations {
    let table = table(names);
    let asked = Asked { id: 7, flags: 0, edns: None };
    let questions: Vec<_> = scattered(names)
        .map(|number| wire(&format!("{before}{}.zone.example", label(number))))
        .map(|name| (LowercaseName::new(&name), [&name[..], &[0, 1, 0, 1]].concat()))
        .collect();
    let (mut next, mut out) = (0, [0; 1_232]);
    repeat(move || {
        let (name, question) = &questions[next];
        next = (next + 1) % questions.len();
        let ask = Ask { name, rtype: 1, dnssec_ok: false, minimal: false };
        let reply = Composer::new(&mut out, 512, &asked, question, Finish::PLAIN, None);
        let entry = table.zone_match(name, 1).expect("it is within the zone");
        black_box(answer(&table, entry, &ask, reply, |_, _| false));
    })
}

/// Loads the zone twice from a file.
fn load(place: &Path) {
    let mut text = String::from("$TTL 300\n@ SOA ns h 7 7200 3600 1209600 300\n@ NS ns\n");
    for number in 0..NAMES {
        let [_, b, c, d] = (number as u32).to_be_bytes();
        let _ = writeln!(text, "{} A 10.{b}.{c}.{d}", label(number));
    }
    std::fs::write(place, text).expect("there is room");
    let source = FileSource {
        zone: Name::parse("zone.example").expect("a name"),
        stanza: 0,
        label: "zone".into(),
        place: place.into(),
        reload: None,
        written: Written::default(),
    };
    let hasher = loader::hasher().expect("there is randomness");
    load_twice(|| {
        let loaded = loader::read_zone(&source, &hasher).unwrap_or_else(|error| panic!("{error}"));
        let (records, bytes) = (loaded.zone.records(), loaded.zone.reserved() >> 20);
        (loaded.zone, format!("{records} records of {bytes} MiB"))
    });
}
