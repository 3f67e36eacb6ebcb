//! An idle forwarder sleeps: no thread wakes up while nothing is due.
//!
//! The measure is the kernel's count of voluntary context switches, because each wake-up ends with
//! one. It is read over whole seconds without queries, so that a tick of any shorter period shows.

use super::process::{Program, TIMEOUT, directory, onward};
use onward::traffic::answer::Behaviour;
use onward::traffic::client::{self, Options};
use onward::traffic::upstream::{Service, Upstream};
use std::net::SocketAddr;
use std::time::Duration;

/// Length of a period without queries.
const STILL: Duration = Duration::from_secs(2);
/// Maximum number of periods until one is free of wake-ups: pools close their connections first.
const PERIODS: usize = 4;

#[test]
fn an_idle_server_causes_no_wake_ups() {
    let address = "127.0.0.1:0".parse().unwrap();
    let service = Service::new(address, Behaviour::default());
    let upstream = Upstream::of(vec![service]).unwrap();
    let directory = directory("idle");
    let upstream_address = upstream.addresses()[0];
    let text = format!(
        ".:0 {{\n bind 127.0.0.1\n errors\n forward . {upstream_address} {{\n expire 1s\n \
         max_age 1s\n }}\n}}\n"
    );
    let path = directory.join("Corefile");
    std::fs::write(&path, text).unwrap();
    let (forwarder, address) = onward(&["--conf", path.to_str().unwrap(), "--workers", "2"]);

    ask(address, 200);
    let busy = wake_ups(&forwarder);
    assert!(busy > 0, "asked two hundred times, and no thread ever woke up");
    let still = (0..PERIODS).any(|_| wake_ups_while_still(&forwarder) == 0);
    assert!(still, "something ticks: no {STILL:?} without a wake-up");
    ask(address, 1);
    assert!(wake_ups(&forwarder) > busy, "it answered without waking up");
}

fn ask(address: SocketAddr, queries: u64) {
    let mut options = Options::closed(vec![address], 64, TIMEOUT, 1);
    options.limit = Some(queries);
    options.timeout = TIMEOUT;
    let summary = client::run(&options).unwrap().join().unwrap();
    assert_eq!(summary.counts.answered, queries);
}

/// Returns the number of wake-ups of `program` while nothing happens.
fn wake_ups_while_still(program: &Program) -> u64 {
    let before = wake_ups(program);
    let (_nobody, nothing) = crossbeam_channel::bounded::<()>(0);
    let _ = nothing.recv_timeout(STILL);
    wake_ups(program) - before
}

/// Returns the number of voluntary context switches of the threads of `program`.
fn wake_ups(program: &Program) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", program.id())).unwrap();
    let count = |task: std::io::Result<std::fs::DirEntry>| {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.unwrap().trim().parse::<u64>().unwrap()
    };
    tasks.map(count).sum()
}
