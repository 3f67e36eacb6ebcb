//! Dead upstreams under more queries than anybody answers: descriptors and memory.
//!
//! What the kernel says of the process, before and after. The first floods touch the memory that
//! every later one uses again, so it is the later ones that must not add to it.

use super::dead::{Death, dead};
use super::flood::Flood;
use super::process::{PATIENCE, Program, directory, onward};
use onward::clock::Clock;
use onward::moment::Moment;
use std::time::Duration;

/// Within half a second.
const QUERIES: u16 = 25_000;
/// Floods that may touch memory for the first time.
const FIRST: usize = 2;
/// Floods in all.
const FLOODS: usize = 4;
/// What the process may grow by in the others, in KiB: twenty bytes for each of their queries.
const GROWTH_MAX: u64 = 1_000;

#[test]
fn under_a_flood_a_dead_upstream_leaks_no_descriptor_and_no_memory() {
    for death in Death::ALL {
        let (upstream, _dead) = dead(death);
        let path = directory(&format!("outages-{death:?}")).join("Corefile");
        let transport = death.transport();
        let text = format!(
            ".:0 {{\n bind 127.0.0.1\n forward . {upstream} {{\n {transport}\n \
             read_timeout 200ms\n expire 100ms\n }}\n}}\n"
        );
        std::fs::write(&path, text).unwrap();
        let (program, address) = onward(&["--conf", path.to_str().unwrap(), "--workers", "1"]);
        let idle = descriptors(&program);
        let mut sizes = Vec::new();
        for _ in 0..FLOODS {
            let mut flood = Flood::offer(address, QUERIES);
            let held = descriptors(&program);
            assert!(held > idle, "{death:?}: no upstream was asked");
            wait_until(&format!("{death:?}: {held} descriptors are not given back"), || {
                flood.read();
                descriptors(&program) <= idle
            });
            assert!(flood.replies > 0, "{death:?}: nobody was told");
            sizes.push(resident_kib(&program));
        }
        assert!(sizes[FLOODS - 1] <= sizes[FIRST - 1] + GROWTH_MAX, "{death:?}: {sizes:?} KiB");
        assert_eq!(program.end("TERM"), Some(0));
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let (clock, (_nobody, nothing)) = (Clock::start(), crossbeam_channel::bounded::<()>(0));
    while !is_so() {
        assert!(clock.now().since(Moment::ZERO) < PATIENCE, "{what}");
        let _ = nothing.recv_timeout(Duration::from_millis(5));
    }
}

/// How many descriptors `program` has open.
fn descriptors(program: &Program) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", program.id())).unwrap().count()
}

/// How much memory `program` has in use.
fn resident_kib(program: &Program) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    size.trim().trim_end_matches(" kB").parse().unwrap()
}
