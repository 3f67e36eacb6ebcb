//! Dead upstreams under an overload of queries: descriptors and memory.
//!
//! The kernel's figures for the process are compared before and after. Early floods touch memory
//! that later ones reuse, and the number of floods needed depends on the host; so floods continue
//! until some in a row have added nothing, which would never happen with a leak.

use super::dead::{Death, dead};
use super::flood::Flood;
use super::process::{Program, directory, onward};
use super::until::until;

/// Queries of a flood, sent within half a second.
const QUERIES: u16 = 25_000;
/// Floods in a row that must add nothing.
const STEADY: usize = 3;
/// Maximum number of floods.
const FLOODS_MAX: usize = 20;
/// Tolerated growth in bytes per answered query of the last floods: less than any leak would cause.
const GROWTH_MAX: u64 = 16;

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
        // After each flood: the memory, and the number of queries answered so far.
        let mut levels = vec![(resident(&program), 0)];
        while !is_steady(&levels) {
            assert!(levels.len() <= FLOODS_MAX, "{death:?}: memory grows and grows: {levels:?}");
            let mut flood = Flood::offer(address, QUERIES);
            until(&format!("{death:?}: descriptors given back"), || {
                flood.read();
                (descriptors(&program) <= idle).then_some(())
            });
            assert!(flood.replies > 0, "{death:?}: nobody was told");
            let (_, before) = levels[levels.len() - 1];
            levels.push((resident(&program), before + flood.replies));
        }
        assert_eq!(program.end("TERM"), Some(0));
    }
}

/// Returns true if the last floods added nothing.
fn is_steady(levels: &[(u64, u64)]) -> bool {
    let Some(first) = levels.len().checked_sub(STEADY + 1) else { return false };
    let (size_before, answered_before) = levels[first];
    let (size, answered) = levels[levels.len() - 1];
    size <= size_before + GROWTH_MAX * (answered - answered_before)
}

/// Returns the number of open descriptors of `program`.
fn descriptors(program: &Program) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", program.id())).unwrap().count()
}

/// Returns the bytes of memory in use by `program`.
fn resident(program: &Program) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    1024 * size.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
}
