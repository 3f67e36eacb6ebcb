//! The facts, read from files of the kernel under some root.
//!
//! The formats are those of `proc(5)` and of the kernel's `Documentation/ABI`. A file that is
//! missing or malformed makes its fact unknown. Kernel features are probed with sockets that are
//! closed at once. Cards and nodes are read by [`Topology`]. This module only reads; `judge`
//! compares.

mod sockets;

use super::facts::{Counters, Facts, Loss};
use crate::sys::{socket, steer};
use crate::topology::{Topology, entries};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::str::FromStr;

/// Settings to read, below `proc/sys`.
const SETTINGS: [&str; 8] = [
    "net/core/netdev_max_backlog",
    "net/core/optmem_max",
    "net/core/rmem_max",
    "net/core/somaxconn",
    "net/core/wmem_default",
    "net/core/wmem_max",
    "net/netfilter/nf_conntrack_count",
    "net/netfilter/nf_conntrack_max",
];
/// Columns of `proc/net/stat/nf_conntrack` that count dropped packets.
const TRACKING_DROPS: [&str; 2] = ["drop", "early_drop"];
/// Counters of packets dropped by a card without a free buffer.
const CARD_DROPS: [&str; 2] = ["rx_missed_errors", "rx_fifo_errors"];

/// Reads all facts, as of now.
pub(super) fn facts(root: &Path) -> Facts {
    let text = |path: &str| fs::read_to_string(root.join(path)).ok();
    let setting = |path: &'static str| Some((path, number(&text(&format!("proc/sys/{path}"))?)?));
    let limits = text("proc/self/limits").unwrap_or_default();
    Facts {
        settings: SETTINGS.into_iter().filter_map(setting).collect(),
        ports: text("proc/sys/net/ipv4/ip_local_port_range").and_then(|text| pair(&text)),
        topology: Topology::read(root),
        governors: governors(root),
        clock_source: text("sys/devices/system/clocksource/clocksource0/current_clocksource")
            .map(|text| text.trim().to_owned()),
        open_files: hard_limit(&limits, "Max open files"),
        locked_bytes: hard_limit(&limits, "Max locked memory"),
        kernel: text("proc/sys/kernel/osrelease").and_then(|text| version(&text)),
        refused: refused(),
        holders: sockets::holders(root),
        counters: counters(root),
        watched: Counters::default(),
        seconds: 0,
    }
}

/// Returns the features that the running kernel refuses, whatever its version is.
fn refused() -> Vec<&'static str> {
    let asked = [
        (steer::can_attach(), "SO_REUSEPORT with BPF (--steer)"),
        (socket::can_segment(), "UDP GSO (batches of queries and replies: gso)"),
        (socket::can_coalesce(), "UDP GRO (batches of received datagrams)"),
    ];
    asked.into_iter().filter(|(can, _)| !can).map(|(_, what)| what).collect()
}

/// Returns the counters that only grow.
pub(super) fn counters(root: &Path) -> Counters {
    let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let mut lost = BTreeMap::new();
    let mut add = |loss, count: Option<u64>| {
        if let Some(count) = count {
            *lost.entry(loss).or_insert(0) += count;
        }
    };
    let (snmp, snmp6) = (text("proc/net/snmp"), text("proc/net/snmp6"));
    for (loss, name) in [(Loss::ReceiveBuffer, "RcvbufErrors"), (Loss::SendBuffer, "SndbufErrors")]
    {
        add(loss.clone(), paired(&snmp, "Udp:", name));
        add(loss, named(&snmp6, &format!("Udp6{name}")));
    }
    add(Loss::Accept, paired(&text("proc/net/netstat"), "TcpExt:", "ListenOverflows"));
    add(Loss::Backlog, backlog(&text("proc/net/softnet_stat")));
    let tracking = text("proc/net/stat/nf_conntrack");
    for column in TRACKING_DROPS {
        add(Loss::Tracking, tracked(&tracking, column));
    }
    for card in entries(&root.join("sys/class/net")) {
        if !root.join("sys/class/net").join(&card).join("device").exists() {
            continue;
        }
        for name in CARD_DROPS {
            let count = text(&format!("sys/class/net/{card}/statistics/{name}"));
            add(Loss::Card(card.clone()), number(&count));
        }
    }
    Counters { lost, steal: steal(&text("proc/stat")).unwrap_or_default() }
}

fn governors(root: &Path) -> BTreeMap<usize, String> {
    let all = root.join("sys/devices/system/cpu");
    let core = |name: String| {
        let number = name.strip_prefix("cpu")?.parse().ok()?;
        let text = fs::read_to_string(all.join(name).join("cpufreq/scaling_governor")).ok()?;
        Some((number, text.trim().to_owned()))
    };
    entries(&all).into_iter().filter_map(core).collect()
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.trim().parse().ok()
}

fn pair(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Parses a kernel version: `6.1.0-18-amd64` → 6, 1.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(['.', '-', '\n']).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// Returns the hard limit in `proc/self/limits`.
fn hard_limit(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// Returns a counter in a file of line pairs: names, then values, both after `title`.
fn paired(text: &str, title: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(title));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|word| word == name)?;
    values.split_whitespace().nth(place)?.parse().ok()
}

/// Returns a counter in a file with a name and a value on each line.
fn named(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next()? == name).then(|| words.next()?.parse().ok())?)
}

/// Returns the sum over all cores of the second column, in hexadecimal.
fn backlog(text: &str) -> Option<u64> {
    let counts =
        text.lines().map(|line| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok());
    counts.sum()
}

/// Returns the sum over all cores of a column, in hexadecimal.
fn tracked(text: &str, column: &str) -> Option<u64> {
    let mut lines = text.lines();
    let place = lines.next()?.split_whitespace().position(|word| word == column)?;
    lines.map(|line| u64::from_str_radix(line.split_whitespace().nth(place)?, 16).ok()).sum()
}

/// Returns stolen and total ticks: the eighth number of the first line, and the sum of the first
/// eight.
fn steal(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|w| w.parse().ok()).collect();
    Some((*ticks.get(7)?, ticks.iter().sum()))
}

#[cfg(test)]
mod tests {
    use super::{backlog, hard_limit, named, paired, steal, tracked};

    #[test]
    fn limits_have_numbers_or_none() {
        let text = "Limit  Soft Limit  Hard Limit  Units\n\
                    Max locked memory  8388608  unlimited  bytes\n\
                    Max open files  1024  524288  files\n";
        assert_eq!(hard_limit(text, "Max open files"), Some(524_288));
        assert_eq!(hard_limit(text, "Max locked memory"), Some(u64::MAX));
        assert_eq!(hard_limit(text, "Max file locks"), None);
    }

    #[test]
    fn counters_are_found_by_their_names() {
        let snmp = "Tcp: A B\nTcp: 1 2\nUdp: InErrors RcvbufErrors\nUdp: 3 4\n";
        assert_eq!(paired(snmp, "Udp:", "RcvbufErrors"), Some(4));
        assert_eq!(paired(snmp, "Udp:", "SndbufErrors"), None);
        assert_eq!(named("Ip6InReceives 7\nUdp6RcvbufErrors\t9\n", "Udp6RcvbufErrors"), Some(9));
        assert_eq!(backlog("00000001 0000000a 0\n00000002 00000001 0\n"), Some(11));
        assert_eq!(tracked("entries drop\n0 10\n0 2\n", "drop"), Some(18));
        assert_eq!(tracked("", "drop"), None);
        assert_eq!(steal("cpu  1 2 3 4 5 6 7 8 9 9\ncpu0 1\n"), Some((8, 36)));
    }
}
