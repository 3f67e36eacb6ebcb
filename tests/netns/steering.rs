//! The worker of a datagram when the kernel spreads packets over cores (RPS).
//!
//! A NIC with several queues receives packets on several cores; a link between namespaces has one
//! queue, and RPS passes its packets to the configured cores. With `--steer cpu` the worker pinned
//! to such a core receives its datagrams, and no other worker does.

use super::http;
use super::lab::{Lab, inside, succeed};
use super::process::{directory, onward_in};
use std::fs;
use std::path::Path;

/// RPS mask: the cores that process packets from the link to the client.
const RPS: &str = "/sys/class/net/to-far/queues/rx-0/rps_cpus";
const METRICS: &str = "127.0.0.1:9153";
/// Queries of a round, each from its own source port.
const QUERIES: usize = 48;

/// Sends the round's queries, each from its own port; all must be answered.
fn ask(lab: &Lab, names: &Path) {
    let mut dig = lab.on("far", "dig");
    dig.args(["@10.77.0.1", "+tries=1", "+time=10", "+noall", "+comments", "-f"]).arg(names);
    let told = succeed(&mut dig);
    assert_eq!(told.matches("status: NOERROR").count(), QUERIES, "{told}");
}

/// Returns the number of queries received by each of two workers.
fn taken() -> [u64; 2] {
    let (code, text) = http::get(METRICS.parse().unwrap(), "/metrics");
    assert_eq!(code, 200);
    ["0", "1"].map(|worker| {
        let start = format!("onward_worker_queries_total{{worker=\"{worker}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.expect("each worker has a counter").parse().unwrap()
    })
}

#[test]
fn with_steer_cpu_a_datagram_stays_on_the_core_that_took_it_in() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 || !crate::installed::is_installed("dig") {
        return eprintln!("SKIPPED: this needs two cores, of which there are {cores}, and dig");
    }
    inside("steering::with_steer_cpu_a_datagram_stays_on_the_core_that_took_it_in", |lab| {
        lab.host("far", "10.77.0.1/24", &["10.77.0.2/24"]);
        if let Err(error) = fs::write(RPS, "1") {
            return eprintln!("SKIPPED: {RPS}: {error}");
        }
        let directory = directory("netns_steering");
        let names: String = (0..QUERIES).map(|number| format!("n{number}.example A\n")).collect();
        let file = directory.join("names");
        fs::write(&file, names).unwrap();
        let text = format!(". {{\n bind 10.77.0.1\n prometheus {METRICS}\n whoami\n}}\n");
        fs::write(directory.join("Corefile"), text).unwrap();
        let (_onward, _) = onward_in(&directory, &["--cores", "0,1", "--steer", "cpu"]);
        let mut before = taken();
        for (mask, expected) in [("1", [QUERIES, 0]), ("2", [0, QUERIES]), ("1", [QUERIES, 0])] {
            fs::write(RPS, mask).unwrap();
            ask(lab, &file);
            let after = taken();
            let each = [0, 1].map(|worker| after[worker] - before[worker]);
            assert_eq!(each, expected.map(|count| count as u64), "cores of mask {mask}");
            before = after;
        }
        // Both cores, by flow, as NICs with several queues do it.
        fs::write(RPS, "3").unwrap();
        ask(lab, &file);
        let after = taken();
        assert!(after[0] > before[0] && after[1] > before[1], "{before:?} {after:?}");
    });
}
