//! Hostile Corefiles: huge, deeply nested, endless, or made of random bytes.
//!
//! Each ends with a configuration or with one clear message, in time and memory that grow no faster
//! than the text. Growth is measured by reading a text once and a text shorter by [`FACTOR`] that
//! many times: linear work takes the same time in both cases, quadratic work many times longer with
//! the longer text. Both runs read equally many bytes, so a busy machine slows them alike, and no
//! absolute time has to hold.

use onward::clock::Clock;
use onward::config::{Config, Host};
use onward::corefile::{Sources, WARNINGS_MAX, Warning};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Ratio of the two texts' lengths, and cost factor of quadratic growth.
const FACTOR: usize = 32;
/// Tolerance above the effect of the longer text on the processor's caches.
const GROWTH_MAX: u32 = 10;
/// Maximum number of measurements, of which the best counts; the first without growth ends them.
const ROUNDS: usize = 10;

fn host(file: &str) -> Host {
    let files = [("/dir/file".into(), file.as_bytes().to_vec())].into();
    Host { sources: Sources::fixed(files, BTreeMap::new()), open_files: 1 << 30, ..Host::plain() }
}

fn load(text: &str, file: &str) -> Result<(Config, Vec<Warning>), String> {
    let loaded = Config::load(text.as_bytes(), "Corefile", &host(file));
    loaded.map_err(|error| error.to_string())
}

#[track_caller]
fn refused(text: &str, file: &str) -> String {
    load(text, file).expect_err("it makes no sense")
}

/// Returns the time of reading `text` this many times.
fn time(times: usize, text: &str, host: &Host) -> Duration {
    let clock = Clock::start();
    let start = clock.now();
    for _ in 0..times {
        let _ = Config::load(text.as_bytes(), "Corefile", host);
    }
    clock.now().since(start)
}

/// Checks that reading `text` of `count` takes time in proportion; its second value is a file.
#[track_caller]
fn grows_no_faster_than_the_text(count: usize, text: impl Fn(usize) -> (String, String)) {
    let ((less, less_file), (more, more_file)) = (text(count / FACTOR), text(count));
    let (less_host, more_host) = (host(&less_file), host(&more_file));
    let (mut small, mut large) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        small = small.min(time(FACTOR, &less, &less_host));
        large = large.min(time(1, &more, &more_host));
        if large < small * GROWTH_MAX {
            return;
        }
    }
    panic!("{FACTOR} small ones take {small:?}, the large one takes {large:?}");
}

fn numbered(count: usize, one: impl Fn(usize) -> String) -> String {
    (0..count).fold(String::new(), |mut all, number| {
        let _ = write!(all, "{}", one(number));
        all
    })
}

fn address(number: usize) -> String {
    format!("10.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255)
}

#[test]
fn ten_thousand_server_blocks_are_served() {
    let text = |count| {
        let block = |number| format!("z{number}.example {{\n forward . {}\n}}\n", address(number));
        (numbered(count, block), String::new())
    };
    let (config, warnings) = load(&text(10_000).0, "").unwrap();
    assert_eq!((config.blocks.len(), config.listeners.len(), warnings), (10_000, 2, Vec::new()));
    assert_eq!(config.listeners[0].zones.len(), 10_000);
    grows_no_faster_than_the_text(10_000, text);
}

#[test]
fn a_hundred_thousand_exceptions_hold() {
    let text = |count| {
        let zones = numbered(count, |number| format!(" z{number}.example"));
        (format!(". {{\n forward . 192.0.2.1 {{\n except{zones}\n }}\n}}\n"), String::new())
    };
    let (config, _) = load(&text(100_000).0, "").unwrap();
    assert_eq!(config.blocks[0].forwards[0].except.len(), 100_000);
    grows_no_faster_than_the_text(100_000, text);
}

#[test]
fn stanzas_and_zones_of_one_block_are_not_compared_with_one_another() {
    grows_no_faster_than_the_text(8_000, |count| {
        let keys = numbered(count, |number| format!("z{number}.example "));
        let stanzas = numbered(count, |number| format!(" forward z{number}.example 192.0.2.1\n"));
        (format!("{keys} {{\n bind 127.0.0.1\n{stanzas}}}\n"), String::new())
    });
}

#[test]
fn a_million_lines_of_nameservers_are_read_once() {
    let text = ". {\n forward . file\n}\n";
    let file = |count| numbered(count, |number| format!("nameserver {}\n", address(number % 60)));
    assert_eq!(load(text, &file(800_000)).unwrap().0.blocks[0].forwards[0].upstreams.len(), 60);
    grows_no_faster_than_the_text(400_000, |count| (text.to_owned(), file(count)));
    let many = numbered(100_000, |number| format!("nameserver {}\n", address(number)));
    assert_eq!(
        refused(text, &many),
        "Corefile:2 - plugin/forward: the file \"file\" lists more than 1024 nameservers"
    );
}

#[test]
fn braces_may_be_of_any_depth() {
    let deep = |count| format!(". {{\n bind 127.0.0.1 {}\n", "{\n".repeat(count));
    assert!(refused(&deep(100_000), "").ends_with("Error during parsing: Unexpected EOF"));
    let closed = |count| format!("{}{}}}\n", deep(count), "}\n".repeat(count));
    assert!(refused(&closed(100_000), "").contains("plugin/bind: invalid option \"{\""));
    grows_no_faster_than_the_text(100_000, |count| (closed(count), String::new()));
}

#[test]
fn words_and_lines_may_be_of_any_length() {
    let name = "x".repeat(10 << 20);
    assert!(refused(&name, "").contains("specified zone is too long: 10485760 > 255"));
    for unit in ["x", "a#b ", "x\"", "\\", "\"a\"b ", "{$A", "${A} ", "\r", "(a) "] {
        grows_no_faster_than_the_text(400_000, |count| (unit.repeat(count), String::new()));
    }
}

#[test]
fn unusual_bytes_are_accepted_or_reported() {
    let (config, warnings) = load("m\0n {\n bind 127.0.0.1\n}\n", "").unwrap();
    assert_eq!(config.blocks[0].keys[0].zone.to_string(), "m\\000n.");
    assert_eq!(
        warnings[0].to_string(),
        "Corefile:1 - a word contains the invisible character U+0000"
    );
    assert!(refused(&"\0".repeat(10 << 20), "").contains("specified zone is too long"));
    let broken = Config::load(b". {\n bind \xff\xfe\n}\n", "Corefile", &host(""));
    let error = broken.unwrap_err().to_string();
    assert!(error.starts_with("Corefile:2 - plugin/bind: not a valid IP address"), "{error}");
}

#[test]
fn networks_split_into_zones_are_limited() {
    let networks = numbered(10_000, |number| format!("{}/25 ", address(number << 8 & 0xFF_FFFF)));
    let error = refused(&format!("{networks} {{\n}}\n"), "");
    assert!(error.ends_with("more than 1000000 zones, counting the zones of networks"), "{error}");
    let error = refused(&format!(". {{\n forward . ::1 {{\n except {networks}\n }}\n}}\n"), "");
    assert!(error.starts_with("Corefile:3 - plugin/forward: more than 1000000 zones"), "{error}");
}

#[test]
fn zones_times_addresses_are_limited() {
    let keys = numbered(3_000, |number| format!("z{number} "));
    let addresses = numbered(1_000, |number| format!(" {}", address(number)));
    let error = refused(&format!("{keys} {{\n bind{addresses}\n}}\n"), "");
    assert!(error.ends_with("more than 2000000 zones on all addresses together"), "{error}");
}

#[test]
fn the_number_of_warnings_is_limited() {
    let keys = numbered(10_000, |number| format!("{number} "));
    let (_, warnings) = load(&format!("{keys} {{\n bind 127.0.0.1\n}}\n"), "").unwrap();
    assert_eq!(warnings.len(), WARNINGS_MAX + 1);
    assert!(warnings[WARNINGS_MAX].message.contains("more warnings"));
}

#[test]
fn a_variable_that_is_not_set_leaves_nothing_behind() {
    let (config, warnings) = load("m{$NONE} {$NONE} {\n bind 127.0.0.1\n}\n", "").unwrap();
    assert_eq!(config.blocks[0].keys.len(), 1);
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].message.contains("'NONE' is not set"));
}

#[test]
fn import_loops_end() {
    let error = refused("import file\n", "import file\n");
    assert!(error.contains("/dir/file:1") && error.contains("import depth"), "{error}");
    let error = refused("import file\n", "m {\n}\nimport file\nimport file\n");
    assert!(error.contains("/dir/file:"), "{error}");
}
