//! Costs of routing a question, by the size of the routing table.
//!
//! The cost should depend on the labels of QNAME and of the deepest zone, not on the number of
//! zones: the same names are looked up among ten zones and among ten thousand. One zone has as many
//! labels as the longest name, so that no lookup ends early.

use harness::{Bench, Operations, repeat, run};
use onward::config::{Config, Host, Name};
use onward::engine::routes::Routes;
use onward::engine::tally::LabelSets;
use onward::engine::zones::LowercaseName;
use std::fmt::Write as _;
use std::hint::black_box;
use std::process::ExitCode;

/// A zone of ten labels.
const DEEP: &str = "a.b.c.d.e.f.g.h.deep.example";
/// Different names, asked in turn.
const NAMES: usize = 64;
/// Type A.
const A: u16 = 1;
/// Class IN.
const IN: u16 = 1;

fn main() -> ExitCode {
    run(&[
        Bench { name: "routes_10_zones_2_labels", set_up: || blocks(10, 2) },
        Bench { name: "routes_10000_zones_2_labels", set_up: || blocks(10_000, 2) },
        Bench { name: "routes_10_zones_10_labels", set_up: || blocks(10, 10) },
        Bench { name: "routes_10000_zones_10_labels", set_up: || blocks(10_000, 10) },
        Bench { name: "routes_10_exceptions_10_labels", set_up: || exceptions(10, 10) },
        Bench { name: "routes_10000_exceptions_10_labels", set_up: || exceptions(10_000, 10) },
    ])
}

/// Routes names of `labels` labels that match the root zone only, among `zones` server blocks.
fn blocks(zones: usize, labels: usize) -> Operations {
    let mut text = String::from(".:53 {\n bind 127.0.0.1\n forward . 192.0.2.1\n}\n");
    for zone in zones_of(zones) {
        let _ = write!(text, "{zone} {{\n bind 127.0.0.1\n forward . 192.0.2.1\n}}\n");
    }
    look_up(&text, labels)
}

/// Routes names of `labels` labels in one server block past `zones` exceptions, none of which
/// match.
fn exceptions(zones: usize, labels: usize) -> Operations {
    let zones: Vec<String> = zones_of(zones).collect();
    let options = format!("except {}\n max_conns 1\n", zones.join(" "));
    let text = format!(". {{\n bind 127.0.0.1\n forward . 192.0.2.1 {{\n {options} }}\n}}\n");
    look_up(&text, labels)
}

fn zones_of(count: usize) -> impl Iterator<Item = String> {
    let shallow = (1..count).map(|number| format!("zone{number}.example"));
    shallow.chain([DEEP.to_owned()])
}

fn look_up(text: &str, labels: usize) -> Operations {
    let host = Host { open_files: 1 << 30, ..Host::plain() };
    let (config, _) = Config::load(text.as_bytes(), "bench", &host).expect("it is valid");
    let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
    let routes = Routes::new(&config, &[Some(0)], &LabelSets::of(&config), &hasher);
    let name = |number: usize| {
        let prefix = ["x"; 8][..labels - 2].join(".");
        let dot = if prefix.is_empty() { "" } else { "." };
        let name = Name::parse(&format!("{prefix}{dot}host{number}.test")).expect("a name");
        name.as_wire().to_vec()
    };
    let names: Vec<Vec<u8>> = (0..NAMES).map(name).collect();
    let mut next = 0;
    repeat(move || {
        let name = LowercaseName::new(black_box(&names[next]));
        let block = routes
            .zone_match(0, &name, A, IN, || unreachable!("there are no views"))
            .block()
            .expect("the root is served");
        black_box(routes.stanza_in(block, &name)).expect("it forwards everything");
        next = (next + 1) % NAMES;
    })
}
